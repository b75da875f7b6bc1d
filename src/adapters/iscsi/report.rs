// SPDX-License-Identifier: GPL-2.0-or-later
//! The sessions of a core as it tells the control plane of them, in parts.

use std::sync::mpsc::SyncSender;

use super::{Established, IscsiFabric, SessionEntry};
use crate::fabrics::iscsi::{ConnectionCounters, ConnectionOrigin, Negotiated};
use crate::wire::PeerText;

/// Most sessions that a core tells of in a turn.
pub const SESSIONS_PER_TURN: usize = 64;

/// A question for a part of a core's sessions. The answer comes back in the room that the asker has made.
pub struct SessionsRequest {
    /// Where the part begins: 0, or what the answer before has said.
    pub from: usize,
    /// Is appended to. It should have room for [`SESSIONS_PER_TURN`] more.
    pub sessions: Vec<SessionReport>,
    /// Where it goes.
    pub to: SyncSender<SessionsPart>,
}

/// The answer.
pub struct SessionsPart {
    /// What has come with the question, and what was appended.
    pub sessions: Vec<SessionReport>,
    /// Where the next part begins, if there is one.
    pub next: Option<usize>,
}

/// A session as the control plane sees it.
#[derive(Clone, Debug)]
pub struct SessionReport {
    /// iSCSI name of the initiator.
    pub initiator: PeerText,
    /// iSCSI name of the target; `None` for a discovery session.
    pub target: Option<String>,
    /// The CHAP account by which the initiator has authenticated itself.
    pub user: Option<String>,
    /// Initiator's part of the session identifier.
    pub isid: [u8; 6],
    /// Target session identifying handle.
    pub tsih: u16,
    /// Its connections.
    pub connections: Vec<ConnectionReport>,
}

/// A connection as the control plane sees it.
#[derive(Clone, Debug)]
pub struct ConnectionReport {
    /// The initiator's number for it.
    pub cid: u16,
    /// How it came in.
    pub origin: ConnectionOrigin,
    /// What was negotiated.
    pub negotiated: Negotiated,
    /// Commands under way.
    pub in_flight: usize,
    /// What was counted.
    pub counters: ConnectionCounters,
}

impl SessionEntry {
    /// `None` until it is established.
    fn report(&self) -> Option<SessionReport> {
        let Established { name, tsih, .. } = self.established.as_ref()?;
        let connections = self.iscsi.connections().filter(|(_, connection)| !connection.is_closing());
        let connections = connections.map(|(key, connection)| ConnectionReport {
            cid: connection.cid(),
            origin: connection.origin().clone(),
            negotiated: connection.negotiated().clone(),
            in_flight: self.iscsi.in_flight(key),
            counters: connection.counters(),
        });
        Some(SessionReport {
            initiator: name.initiator.clone(),
            target: name.target.clone(),
            user: self.iscsi.user().map(str::to_owned),
            isid: name.isid,
            tsih: *tsih,
            connections: connections.collect(),
        })
    }
}

impl IscsiFabric {
    pub(super) fn report_sessions(&self, request: SessionsRequest) {
        let SessionsRequest { from, mut sessions, to } = request;
        let end = from.saturating_add(SESSIONS_PER_TURN);
        sessions.extend((from..end).filter_map(|index| self.sessions.get(index)?.report()));
        _ = to.try_send(SessionsPart { sessions, next: (end < self.sessions.capacity()).then_some(end) });
    }
}
