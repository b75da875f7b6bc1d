// SPDX-License-Identifier: GPL-2.0-or-later
//! The order of responses over several connections (Response Fence, RFC 7143 4.2.2.3): the response to a task
//! management request that concerns more than one task comes after all responses before it, and before all that follow,
//! whichever connections those travel on.
//!
//! The response waits in its own connection's queue until the initiator has acknowledged (ExpStatSN) what was sent
//! before on the others, and those send nothing more until it has acknowledged the response. A ping asks each for that.
//! Sessions with one connection need nothing of this: its stream keeps the order.

use smallvec::SmallVec;

use super::ConnectionKey;

/// How far one of the other connections is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Passage {
    /// What was to be sent before is still queued.
    Queued,
    /// All of that has a StatSN below this one.
    Sent(u32),
    /// The initiator has it.
    Acknowledged,
}

/// What a connection may not send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hold {
    Nothing,
    /// The response that is fenced, and what follows it.
    Response,
    /// Data and statuses.
    Orderly,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Fence {
    /// The connection of the response and, when that has gone out, the ExpStatSN that acknowledges it.
    response: (ConnectionKey, Option<u32>),
    others: SmallVec<[(ConnectionKey, Passage); 3]>,
}

/// Whether an ExpStatSN acknowledges all below a StatSN (serial number arithmetic, RFC 1982).
pub(super) fn acknowledges(exp_stat_sn: u32, stat_sn: u32) -> bool {
    exp_stat_sn.wrapping_sub(stat_sn) < 1 << 31
}

impl Fence {
    pub(super) fn new(response: ConnectionKey) -> Self {
        Self { response: (response, None), others: SmallVec::new() }
    }

    /// Adds another connection, with something to be sent or acknowledged or without.
    pub(super) fn add(&mut self, connection: ConnectionKey, busy: bool) {
        self.others.push((connection, if busy { Passage::Queued } else { Passage::Acknowledged }));
    }

    pub(super) fn hold(&self, connection: ConnectionKey) -> Hold {
        if connection == self.response.0 {
            let passed = self.others.iter().all(|(_, passage)| *passage == Passage::Acknowledged);
            return if passed { Hold::Nothing } else { Hold::Response };
        }
        match self.others.iter().find(|(other, _)| *other == connection) {
            None | Some((_, Passage::Queued)) => Hold::Nothing,
            Some(_) => Hold::Orderly,
        }
    }

    /// The queue of another connection has been sent up to the fence.
    pub(super) fn sent(&mut self, connection: ConnectionKey, stat_sn: u32) {
        for (other, passage) in &mut self.others {
            if *other == connection {
                *passage = Passage::Sent(stat_sn);
            }
        }
    }

    /// The response has gone out; `stat_sn` is the next one.
    pub(super) fn responded(&mut self, stat_sn: u32) {
        self.response.1 = Some(stat_sn);
    }

    /// The initiator acknowledges. Returns whether the fence is done with.
    pub(super) fn acknowledged(&mut self, connection: ConnectionKey, exp_stat_sn: u32) -> bool {
        for (other, passage) in &mut self.others {
            if let Passage::Sent(stat_sn) = *passage
                && *other == connection
                && acknowledges(exp_stat_sn, stat_sn)
            {
                *passage = Passage::Acknowledged;
            }
        }
        let (response, stat_sn) = self.response;
        response == connection && stat_sn.is_some_and(|stat_sn| acknowledges(exp_stat_sn, stat_sn))
    }

    /// A connection has ended. Returns whether the fence is done with.
    pub(super) fn forget_connection(&mut self, connection: ConnectionKey) -> bool {
        self.others.retain(|(other, _)| *other != connection);
        self.response.0 == connection || self.others.is_empty()
    }
}
