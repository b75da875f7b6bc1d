// SPDX-License-Identifier: GPL-2.0-or-later
//! What one core tells the control plane.

use super::{Established, Shard};
use crate::counters::Counted;
use crate::engine::tasks::{Latencies, UnitCounters};
use crate::fabrics::iscsi::{ConnectionCounters, ConnectionOrigin, Negotiated};
use crate::memory::{ArenaCounters, Pages};
use crate::reactor::Load;
use crate::wire::PeerText;

/// What one core tells the control plane.
#[derive(Clone, Debug)]
pub struct CoreReport {
    /// Which core.
    pub core: usize,
    /// How busy it is.
    pub load: Load,
    /// Its payload memory.
    pub memory: ArenaCounters,
    /// The pages of that.
    pub pages: Pages,
    /// Its logical units, in the order of [`super::Parts::units`].
    pub units: Vec<UnitReport>,
    /// Its sessions.
    pub sessions: Vec<SessionReport>,
    /// Per host: name and counters.
    pub hosts: Vec<(String, Vec<Counted>)>,
}

/// A logical unit as one core sees it.
#[derive(Clone, Debug)]
pub struct UnitReport {
    /// Size of its store, in bytes.
    pub bytes: u64,
    /// What this core has done with it.
    pub counters: UnitCounters,
    /// How long that took.
    pub latencies: Latencies,
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

impl Shard {
    pub(super) fn report(&self) -> CoreReport {
        let parts = &self.parts;
        let sessions = self.sessions.iter().filter_map(|(_, entry)| {
            let Established { name, tsih, .. } = entry.established.as_ref()?;
            let connections = entry.iscsi.connections().filter(|(_, connection)| !connection.is_closing());
            let connections = connections.map(|(key, connection)| ConnectionReport {
                cid: connection.cid(),
                origin: connection.origin(),
                negotiated: connection.negotiated().clone(),
                in_flight: entry.iscsi.in_flight(key),
                counters: connection.counters(),
            });
            Some(SessionReport {
                initiator: name.initiator.clone(),
                target: name.target.clone(),
                user: entry.iscsi.user().map(str::to_owned),
                isid: name.isid,
                tsih: *tsih,
                connections: connections.collect(),
            })
        });
        let units = parts.units.iter().map(|&unit| UnitReport {
            bytes: parts.tasks.geometry(unit).bytes,
            counters: parts.tasks.counters(unit),
            latencies: parts.tasks.latencies(unit).clone(),
        });
        CoreReport {
            core: parts.core,
            load: self.load,
            memory: parts.arena.counters(),
            pages: parts.arena.pages(),
            units: units.collect(),
            sessions: sessions.collect(),
            hosts: parts.hosts.iter().map(|(name, host)| (name.clone(), host.counters())).collect(),
        }
    }
}
