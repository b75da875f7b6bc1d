// SPDX-License-Identifier: GPL-2.0-or-later
//! What the target shows of a session, held against what its initiator knows.

use super::super::chap;
use super::super::scsi;
use super::{Env, Session};
use crate::adapters::iscsi::{ConnectionReport, SessionReport};

/// One connection, as both sides must know it: CID, port, commands under way, PDUs received, sent and rejected by the
/// target, digests, and MaxBurstLength and MaxConnections.
type Known = (u16, u16, usize, [u64; 3], [bool; 2], [usize; 2]);

fn shown(connection: &ConnectionReport) -> Known {
    let ConnectionReport { cid, origin, negotiated, in_flight, counters, .. } = connection;
    (
        *cid,
        origin.peer.port(),
        *in_flight,
        [counters.pdus_in, counters.pdus_out, counters.rejects],
        [negotiated.header_digest, negotiated.data_digest],
        [negotiated.max_burst_length as usize, negotiated.max_connections as usize],
    )
}

impl Session {
    /// Streams that the target should have.
    pub(in crate::sim) fn streams(&self) -> usize {
        self.links.iter().filter(|link| link.is_up()).count()
    }

    /// Whether it is one of the target's sessions.
    pub(in crate::sim) fn is_there(&self) -> bool {
        self.nexus > 0
    }

    /// Looks at the session among those of all cores, when nothing is under way.
    pub(in crate::sim) fn audit(&self, told: &[Vec<SessionReport>], env: &Env) -> Result<(), String> {
        if !self.is_there() {
            return Ok(());
        }
        let mut found = told.iter().flatten().filter(|session| session.tsih == self.tsih);
        let (Some(session), None) = (found.next(), found.next()) else {
            return Err(format!("no session, or two, with TSIH {}", self.tsih));
        };
        let who = (&*session.initiator, session.target.as_deref(), session.user.as_deref());
        let wanted = (self.name.as_str(), Some(scsi::TARGET), env.plan.chap.then_some(chap::NAME));
        if who != wanted || session.isid != self.isid() {
            return Err(format!("session {} is shown as {who:?} with ISID {:?}", self.tsih, session.isid));
        }
        let mut there: Vec<Known> = session.connections.iter().map(shown).collect();
        there.sort_unstable();
        let of_link = |link: &super::Link| {
            let digests = link.initiator.digests;
            let most = [self.agreed.max_burst, self.agreed.connections];
            let pdus = [link.sent, link.heard, link.rejects];
            (link.initiator.cid, link.port.unwrap_or_default(), 0, pdus, [digests.header, digests.data], most)
        };
        let known: Vec<Known> = self.links.iter().filter(|link| link.is_up()).map(of_link).collect();
        match there == known {
            true => Ok(()),
            false => {
                Err(format!("session {}: connections are shown as {there:?}, and were {known:?}", self.tsih))
            }
        }
    }
}
