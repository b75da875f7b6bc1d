// SPDX-License-Identifier: GPL-2.0-or-later
//! The state of one connection of a session. (What comes in is in [`super::incoming`], what goes out in
//! [`super::transmit`].)

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::datamover::TaggedMover;
use super::fence::acknowledges;
use super::framing::{Framer, Pdu};
use super::login::{Login, Reply};
use super::outbox::Outbox;
use super::text_exchange::TextExchange;
use super::{ConnectionOrigin, Negotiated, Parameters};
use crate::activity;
use crate::counters::counter_set;
use crate::memory::{MemoryAccount, MemoryCharge};
use crate::time::Instant;
use crate::wire::PeerText;

/// How much a connection may bring in a turn, before others have theirs. What is held is added up then.
pub(super) const RECEIVE_MAX: usize = 256 << 10;

/// How long a connection that found no memory for a header waits before it tries again.
const STARVED_RETRY: Duration = Duration::from_millis(1);

counter_set! {
    /// What a connection counted.
    pub struct ConnectionCounters {
        /// PDUs received.
        pdus_in: Counter of Pdus,
        /// PDUs sent.
        pdus_out: Counter of Pdus,
        /// Data digests that did not match.
        digest_errors: Counter of Pdus,
        /// PDUs answered with Reject.
        rejects: Counter of Pdus,
        /// Requests outside the command window, and Data-Out for commands that are gone; both are ignored.
        ignored: Counter of Pdus,
    }
}

pub(super) enum State {
    /// The first request wants to add the connection to a session, which may live elsewhere: the owner looks for it.
    Joining(Box<Login>, Pdu),
    Login(Box<Login>),
    /// Waits for the owner's word, with the reply that will go out then.
    Admitting(Box<Login>, Reply),
    FullFeature,
    /// Logs out, and waits for the end of what it had under way. Nothing more is taken.
    Leaving,
    Closing,
}

/// One TCP connection of a [`Session`](super::Session).
pub struct Connection {
    pub(super) origin: ConnectionOrigin,
    pub(super) state: State,
    pub(super) framer: Framer,
    /// Opcode and task tag of the PDU that was received last.
    pub(super) last_pdu: Option<(u8, u32)>,
    pub(super) negotiated: Negotiated,
    pub(super) cid: u16,
    pub(super) login_tag: u32,
    pub(super) stat_sn: u32,
    /// ExpStatSN as the initiator told it last.
    pub(super) acked: u32,
    pub(super) text: TextExchange,
    pub(super) outbox: Outbox,
    pub(super) answers: usize,
    /// Bytes of data of answers in the outbox.
    pub(super) answer_bytes: usize,
    /// Bytes of data that have come on it for commands of the session that have not begun.
    pub(super) unbegun: usize,
    /// For what is held beside the commands' payload.
    pub(super) charge: MemoryCharge,
    /// Something waits for a fence.
    pub(super) held_back: bool,
    /// What comes in is left where it is, as the initiator does not read.
    pub(super) paused: bool,
    created: Instant,
    pub(super) last_heard: Instant,
    pub(super) pinged: Option<Instant>,
    /// When it was seen that something goes out, and how many PDUs had gone out then.
    pub(super) progress: (Instant, u64),
    /// What moves its data by tags; `None`: it is in the stream.
    pub(super) mover: Option<Box<TaggedMover>>,
    /// The arena had no room for a header.
    pub(super) starved: bool,
    pub(super) counters: ConnectionCounters,
}

impl Connection {
    /// A connection in the login phase.
    pub(super) fn new(parameters: Arc<Parameters>, origin: ConnectionOrigin, now: Instant) -> Self {
        Self {
            origin,
            state: State::Login(Box::new(Login::new(parameters))),
            framer: Framer::default(),
            last_pdu: None,
            negotiated: Negotiated::default(),
            cid: 0,
            login_tag: 0,
            stat_sn: 0,
            acked: 0,
            text: TextExchange::default(),
            outbox: Outbox::default(),
            answers: 0,
            answer_bytes: 0,
            unbegun: 0,
            charge: MemoryCharge::default(),
            held_back: false,
            paused: false,
            created: now,
            last_heard: now,
            pinged: None,
            progress: (now, 0),
            mover: None,
            starved: false,
            counters: ConnectionCounters::default(),
        }
    }

    /// Its data is moved by tags.
    pub(super) fn tagged(mut self) -> Self {
        self.mover = Some(Box::default());
        if let State::Login(login) = &mut self.state {
            login.tagged();
        }
        self
    }

    /// How it came in.
    pub fn origin(&self) -> &ConnectionOrigin {
        &self.origin
    }

    /// The initiator's address.
    pub fn peer(&self) -> SocketAddr {
        self.origin.peer
    }

    /// The initiator's number for it.
    pub fn cid(&self) -> u16 {
        self.cid
    }

    /// What was agreed on.
    pub fn negotiated(&self) -> &Negotiated {
        &self.negotiated
    }

    /// What was counted.
    pub fn counters(&self) -> ConnectionCounters {
        self.counters
    }

    /// Says that the thread is about this connection and its last PDU: see [`activity`].
    pub(super) fn note_activity(&self) {
        activity::serve(self.origin.peer, self.last_pdu);
    }

    /// Whether [`Event::Closed`](super::Event::Closed) was raised.
    pub fn is_closing(&self) -> bool {
        matches!(self.state, State::Closing)
    }

    /// Who logs in, while that is under way.
    pub(super) fn logs_in(&self) -> Option<&PeerText> {
        match &self.state {
            State::Login(login) => login.initiator(),
            _ => None,
        }
    }

    /// Bytes held of a PDU that is not whole yet.
    pub(super) fn held(&self) -> usize {
        self.framer.held()
    }

    /// Notes how much is held beside the commands' payload.
    #[inline]
    pub(super) fn weigh(&mut self) {
        let login = match &self.state {
            State::Login(login) | State::Joining(login, _) | State::Admitting(login, _) => login.held(),
            State::FullFeature | State::Leaving | State::Closing => 0,
        };
        let held = self.framer.pinned() + self.answer_bytes + self.unbegun + self.text.held() + login;
        if self.charge.bytes() != held as u64 {
            self.charge.set(held as u64);
        }
    }

    /// Says on which account it is.
    pub(super) fn bill(&mut self, account: &MemoryAccount) {
        self.charge.bill(account);
    }

    pub(super) fn next_deadline(&self, parameters: &Parameters, now: Instant) -> Option<Instant> {
        let retry = self.starved.then(|| now + STARVED_RETRY);
        [self.deadline(parameters), retry].into_iter().flatten().min()
    }

    /// When a peer that takes nothing of what waits for it has had its time: it may be alive, and send for ever.
    pub(super) fn stall(&self, parameters: &Parameters) -> Option<Instant> {
        (!self.outbox.is_empty() && !self.held_back)
            .then(|| self.progress.0 + parameters.nop_interval + parameters.nop_timeout)
    }

    /// Whether something waits to be sent, or the initiator has not acknowledged all that was.
    pub(super) fn is_behind(&self) -> bool {
        !self.outbox.is_empty() || !acknowledges(self.acked, self.stat_sn)
    }

    /// When the peer's patience ends, or ours.
    pub(super) fn deadline(&self, parameters: &Parameters) -> Option<Instant> {
        match self.state {
            State::Login(_) | State::Joining(..) | State::Admitting(..) => {
                Some(self.created + parameters.login_timeout)
            }
            // Whose answer is not read cannot be asked.
            State::FullFeature if self.paused => self.stall(parameters),
            // A fence pings, too.
            State::FullFeature if parameters.nop_interval.is_zero() => {
                self.pinged.map(|at| at + parameters.nop_timeout)
            }
            State::FullFeature => {
                let ping = match self.pinged {
                    Some(at) => at + parameters.nop_timeout,
                    None => self.last_heard + parameters.nop_interval,
                };
                Some(self.stall(parameters).map_or(ping, |stall| stall.min(ping)))
            }
            State::Leaving | State::Closing => None,
        }
    }
}
