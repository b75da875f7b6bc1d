// SPDX-License-Identifier: GPL-2.0-or-later
//! One connection: sequence numbers, what comes in, what goes out, and when it ends.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use slab::Slab;

use super::exchange::Exchanges;
use super::framing::{Framer, Limits, Pdu};
use super::login::{LOGIN_SEGMENT_MAX, Login, Reply};
use super::requests::{PendingFunction, Scope};
use super::text::TextExchange;
use super::transmit::Outbox;
use super::{CloseReason, Directory, Event, LoginStatus, Negotiated, Parameters};
use crate::memory::{Arena, Seg, Sg};
use crate::scsi::{NexusId, Request};
use crate::time::Instant;
use crate::wire::iscsi::{Bhs, Opcode, reject};

/// Most bytes that are kept of an initiator that goes on before its login is answered, which it must not.
const BEHIND_LOGIN_MAX: usize = 64 << 10;

/// How long a connection that found no memory for a header waits before it tries again.
const STARVED_RETRY: Duration = Duration::from_millis(1);

/// What a connection counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// PDUs received.
    pub pdus_in: u64,
    /// PDUs sent.
    pub pdus_out: u64,
    /// Data digests that did not match.
    pub digest_errors: u64,
    /// PDUs answered with Reject.
    pub rejects: u64,
    /// Requests outside the command window, and Data-Out for commands that are gone; both are ignored.
    pub ignored: u64,
}

pub(super) enum State {
    Login(Box<Login>),
    /// Waits for the owner's word, with the reply that will go out then.
    Admitting(Box<Login>, Reply),
    FullFeature,
    Closing,
}

/// A request that came before its turn.
pub(super) struct Early {
    cmd_sn: u32,
    /// `None`: aborted before it came.
    pub(super) pdu: Option<Pdu>,
    /// Its unsolicited Data-Out.
    pub(super) data: Vec<Pdu>,
}

/// See [`super`].
pub struct Connection {
    pub(super) parameters: Arc<Parameters>,
    pub(super) arena: Arena,
    pub(super) local: SocketAddr,
    peer: SocketAddr,
    pub(super) state: State,
    framer: Framer,
    pub(super) negotiated: Negotiated,
    pub(super) discovery: bool,
    pub(super) nexus: NexusId,
    pub(super) initiator: String,
    pub(super) target: Option<String>,
    isid: [u8; 6],
    tsih: u16,
    pub(super) cid: u16,
    login_tag: u32,
    pub(super) stat_sn: u32,
    pub(super) exp_cmd_sn: u32,
    pub(super) max_cmd_sn: u32,
    /// Within the window, so at most as many as that is wide.
    pub(super) early: Vec<Early>,
    pub(super) exchanges: Exchanges,
    pub(super) task_management: Slab<PendingFunction>,
    pub(super) text: TextExchange,
    pub(super) outbox: Outbox,
    pub(super) answers: usize,
    pub(super) requests: VecDeque<Request>,
    events: VecDeque<Event>,
    now: Instant,
    created: Instant,
    last_heard: Instant,
    pub(super) pinged: Option<Instant>,
    /// The arena had no room for a header.
    pub(super) starved: bool,
    pub(super) counters: Counters,
}

impl Connection {
    /// A new connection in the login phase. `parameters` hold until the target is known, and in discovery sessions.
    pub fn new(
        parameters: Arc<Parameters>,
        arena: Arena,
        local: SocketAddr,
        peer: SocketAddr,
        now: Instant,
    ) -> Self {
        Self {
            state: State::Login(Box::new(Login::new(parameters.clone()))),
            parameters,
            arena,
            local,
            peer,
            framer: Framer::default(),
            negotiated: Negotiated::default(),
            discovery: false,
            nexus: NexusId(0),
            initiator: String::new(),
            target: None,
            isid: [0; 6],
            tsih: 0,
            cid: 0,
            login_tag: 0,
            stat_sn: 0,
            exp_cmd_sn: 0,
            max_cmd_sn: 0,
            early: Vec::new(),
            exchanges: Exchanges::default(),
            task_management: Slab::new(),
            text: TextExchange::default(),
            outbox: Outbox::default(),
            answers: 0,
            requests: VecDeque::new(),
            events: VecDeque::new(),
            now,
            created: now,
            last_heard: now,
            pinged: None,
            starved: false,
            counters: Counters::default(),
        }
    }

    /// The address that the initiator connected to.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// The initiator's address.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// iSCSI name of the initiator, as far as it is known.
    pub fn initiator(&self) -> &str {
        match &self.state {
            State::Login(login) => login.initiator().unwrap_or_default(),
            _ => &self.initiator,
        }
    }

    /// iSCSI name of the target; `None` before the login and in discovery sessions.
    pub fn target(&self) -> Option<&str> {
        self.target.as_deref()
    }

    /// Initiator's part of the session identifier.
    pub fn isid(&self) -> [u8; 6] {
        self.isid
    }

    /// Target session identifying handle; 0 before the login is accepted.
    pub fn tsih(&self) -> u16 {
        self.tsih
    }

    /// What was agreed on.
    pub fn negotiated(&self) -> &Negotiated {
        &self.negotiated
    }

    /// What was counted.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Commands under way.
    pub fn in_flight(&self) -> usize {
        self.exchanges.live()
    }

    /// Whether commands can come.
    pub fn is_full_feature(&self) -> bool {
        matches!(self.state, State::FullFeature)
    }

    /// Whether [`Event::Closed`] was raised.
    pub fn is_closing(&self) -> bool {
        matches!(self.state, State::Closing)
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Takes received bytes, in any cut. Payload is sliced out of `data`, which stays referenced until the command is
    /// done with it.
    pub fn receive(&mut self, now: Instant, data: Seg, directory: &dyn Directory) {
        if self.is_closing() {
            return;
        }
        self.now = now;
        self.last_heard = now;
        self.pinged = None;
        self.framer.push(data, &self.arena);
        if matches!(self.state, State::Admitting(..)) && self.framer.held() > BEHIND_LOGIN_MAX {
            return self.violation("goes on before its login is answered");
        }
        self.drain(directory);
    }

    /// Takes the PDUs that are whole. Stops while a login waits for the owner.
    fn drain(&mut self, directory: &dyn Directory) {
        while matches!(self.state, State::Login(_) | State::FullFeature) {
            let limits = match self.state {
                State::FullFeature => Limits {
                    header_digest: self.negotiated.header_digest,
                    data_digest: self.negotiated.data_digest,
                    data_max: self.negotiated.max_recv_data_segment_length as usize,
                },
                _ => Limits { header_digest: false, data_digest: false, data_max: LOGIN_SEGMENT_MAX },
            };
            match self.framer.next(limits) {
                Ok(None) => return,
                Ok(Some(pdu)) => {
                    self.counters.pdus_in += 1;
                    match self.state {
                        State::FullFeature => self.full_feature(pdu, directory),
                        _ => self.login(&pdu, directory),
                    }
                }
                Err(what) => return self.violation(what),
            }
        }
    }

    /// The peer will send no more.
    pub fn peer_finished(&mut self) {
        self.end(CloseReason::PeerClosed, false);
    }

    /// The owner ends the connection.
    pub fn close(&mut self, why: &'static str) {
        self.end(CloseReason::Ended(why), true);
    }

    pub(super) fn violation(&mut self, what: &'static str) {
        self.end(CloseReason::Violation(what), false);
    }

    fn end(&mut self, reason: CloseReason, reset: bool) {
        if self.is_closing() {
            return;
        }
        self.state = State::Closing;
        self.framer.clear();
        self.early.clear();
        self.requests.clear();
        self.exchanges.clear();
        self.task_management.clear();
        self.text = TextExchange::default();
        self.outbox.forget_commands();
        self.events.push_back(Event::Closed { reason, reset });
    }

    // Login.

    fn login(&mut self, pdu: &Pdu, directory: &dyn Directory) {
        let State::Login(login) = &mut self.state else { return };
        if pdu.bhs.opcode() != Opcode::LOGIN_REQUEST {
            return self.violation("not a login request in the login phase");
        }
        if self.counters.pdus_in == 1 {
            // The first request sets the numbers from which both sides go on.
            self.exp_cmd_sn = pdu.bhs.cmd_sn();
            self.max_cmd_sn = self.exp_cmd_sn;
            self.stat_sn = pdu.bhs.word(28);
        }
        self.login_tag = pdu.bhs.itt();
        match login.handle(pdu, self.local, directory) {
            Err((status, why)) => {
                self.isid = login.isid;
                self.initiator = login.initiator().unwrap_or_default().to_owned();
                self.refuse(status, why);
            }
            Ok(mut reply) => match reply.wanted.take() {
                None => self.send_login_response(&reply, 0),
                Some(wanted) => {
                    let State::Login(login) = std::mem::replace(&mut self.state, State::Closing) else {
                        return;
                    };
                    (self.isid, self.cid) = (login.isid, login.cid);
                    self.initiator.clone_from(&wanted.initiator);
                    self.target.clone_from(&wanted.target);
                    self.state = State::Admitting(login, reply);
                    self.events.push_back(Event::LoginWanted(wanted));
                }
            },
        }
    }

    /// The owner accepts the login: the full feature phase begins. Call [`Connection::receive`]'s owner-side loop again:
    /// requests that came right behind the login are taken by [`Connection::resume`].
    pub fn accept_login(&mut self, nexus: NexusId, tsih: u16) {
        let State::Admitting(login, reply) = std::mem::replace(&mut self.state, State::FullFeature) else {
            self.state = State::Closing;
            return;
        };
        let (negotiated, parameters, discovery) = login.finish();
        (self.nexus, self.tsih, self.discovery) = (nexus, tsih, discovery);
        (self.negotiated, self.parameters) = (negotiated, parameters);
        self.exchanges.set_depth(self.parameters.queue_depth);
        self.send_login_response(&reply, 0);
        self.last_heard = self.now;
    }

    /// Takes what came behind an accepted login.
    pub fn resume(&mut self, directory: &dyn Directory) {
        self.drain(directory);
    }

    /// The owner refuses the login.
    pub fn refuse_login(&mut self, status: LoginStatus, why: &'static str) {
        self.refuse(status, why);
    }

    fn refuse(&mut self, status: LoginStatus, why: &'static str) {
        self.send_login_response(&Reply::default(), status as u16);
        self.end(CloseReason::LoginRefused(status, why), false);
    }

    fn send_login_response(&mut self, reply: &Reply, status: u16) {
        let mut bhs = Bhs::new(Opcode::LOGIN_RESPONSE, reply.flags);
        bhs.0[8..14].copy_from_slice(&self.isid);
        if let State::Login(login) = &self.state {
            bhs.0[8..14].copy_from_slice(&login.isid);
        }
        bhs.set_half(14, self.tsih);
        bhs.set_word(16, self.login_tag);
        bhs.set_half(36, status);
        let Some(data) = Sg::copied(&self.arena, &reply.text) else {
            return self.end(CloseReason::Ended("out of memory"), true);
        };
        self.answer(bhs, data, true);
    }

    // Full feature phase.

    fn full_feature(&mut self, pdu: Pdu, directory: &dyn Directory) {
        match pdu.bhs.opcode() {
            Opcode::DATA_OUT => return self.data_out(pdu),
            Opcode::SNACK_REQUEST => return self.reject(&pdu.bhs, reject::SNACK_REJECT),
            Opcode::SCSI_COMMAND
            | Opcode::NOP_OUT
            | Opcode::TASK_MANAGEMENT_REQUEST
            | Opcode::TEXT_REQUEST
            | Opcode::LOGOUT_REQUEST => {}
            Opcode::LOGIN_REQUEST => return self.violation("login request in the full feature phase"),
            _ => return self.reject(&pdu.bhs, reject::COMMAND_NOT_SUPPORTED),
        }
        if pdu.bhs.is_immediate() {
            self.deliver(pdu, directory);
        } else {
            let cmd_sn = pdu.bhs.cmd_sn();
            if !self.in_window(cmd_sn) || self.early.iter().any(|early| early.cmd_sn == cmd_sn) {
                self.counters.ignored += 1;
                return;
            }
            if cmd_sn != self.exp_cmd_sn {
                self.early.push(Early { cmd_sn, pdu: Some(pdu), data: Vec::new() });
                return;
            }
            self.exp_cmd_sn = self.exp_cmd_sn.wrapping_add(1);
            self.deliver(pdu, directory);
        }
        self.deliver_early(directory);
    }

    /// Whether a CmdSN may be used now. Serial number arithmetic (RFC 1982): of a closed window MaxCmdSN is one behind,
    /// and what is far ahead is behind.
    fn in_window(&self, cmd_sn: u32) -> bool {
        let ahead = cmd_sn.wrapping_sub(self.exp_cmd_sn);
        let width = self.max_cmd_sn.wrapping_sub(self.exp_cmd_sn);
        width < 1 << 31 && ahead <= width
    }

    /// Carries out requests whose turn has come.
    fn deliver_early(&mut self, directory: &dyn Directory) {
        while let Some(next) = self.early.iter().position(|early| early.cmd_sn == self.exp_cmd_sn) {
            self.exp_cmd_sn = self.exp_cmd_sn.wrapping_add(1);
            let Early { pdu, data, .. } = self.early.swap_remove(next);
            if let Some(pdu) = pdu {
                self.deliver(pdu, directory);
            }
            for pdu in data {
                if !self.is_closing() {
                    self.data_out(pdu);
                }
            }
        }
    }

    /// Aborts a command that has not had its turn (RFC 7143 11.6.1): its place in the order is filled. `before` is the
    /// CmdSN of the request that says so. Returns whether the command was still to come.
    pub(super) fn abort_before_arrival(&mut self, cmd_sn: u32, before: u32) -> bool {
        let distance = before.wrapping_sub(cmd_sn);
        if !self.in_window(cmd_sn) || distance == 0 || distance >= 1 << 31 {
            return false;
        }
        match self.early.iter_mut().find(|early| early.cmd_sn == cmd_sn) {
            Some(early) => (early.pdu, early.data) = (None, Vec::new()),
            None => self.early.push(Early { cmd_sn, pdu: None, data: Vec::new() }),
        }
        true
    }

    /// Aborts the commands in a scope that have not had their turn and precede `before`.
    pub(super) fn abort_early(&mut self, scope: Scope, before: u32) {
        for early in &mut self.early {
            let older = (1..1 << 31).contains(&before.wrapping_sub(early.cmd_sn));
            let concerned = early.pdu.as_ref().is_some_and(|pdu| {
                pdu.bhs.opcode() == Opcode::SCSI_COMMAND && scope.covers(pdu.bhs.itt(), pdu.bhs.lun())
            });
            if older && concerned {
                (early.pdu, early.data) = (None, Vec::new());
            }
        }
    }

    fn deliver(&mut self, pdu: Pdu, directory: &dyn Directory) {
        if self.is_closing() {
            return;
        }
        match pdu.bhs.opcode() {
            // A discovery session has no logical units (RFC 7143 4.3).
            Opcode::SCSI_COMMAND | Opcode::TASK_MANAGEMENT_REQUEST if self.discovery => {
                self.reject(&pdu.bhs, reject::PROTOCOL_ERROR)
            }
            Opcode::SCSI_COMMAND => self.scsi_command(pdu),
            Opcode::NOP_OUT => self.nop_out(pdu),
            Opcode::TASK_MANAGEMENT_REQUEST => self.task_management_request(&pdu),
            Opcode::TEXT_REQUEST => self.text_request(&pdu, directory),
            _ => self.logout_request(&pdu),
        }
    }

    pub(super) fn logged_out(&mut self) {
        self.end(CloseReason::Logout, false);
    }

    // Time.

    /// When [`Connection::timeout`] is to be called.
    pub fn next_deadline(&self) -> Option<Instant> {
        let retry = self.starved.then(|| self.now + STARVED_RETRY);
        [self.deadline(), retry].into_iter().flatten().min()
    }

    /// When the peer's patience ends, or ours.
    fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Login(_) | State::Admitting(..) => Some(self.created + self.parameters.login_timeout),
            State::FullFeature if self.parameters.nop_interval.is_zero() => None,
            State::FullFeature => Some(match self.pinged {
                Some(at) => at + self.parameters.nop_timeout,
                None => self.last_heard + self.parameters.nop_interval,
            }),
            State::Closing => None,
        }
    }

    /// A deadline may have passed.
    pub fn timeout(&mut self, now: Instant) {
        self.now = now;
        if self.deadline().is_none_or(|at| at > now) {
            return;
        }
        match (&self.state, self.pinged) {
            (State::FullFeature, None) => self.ping(now),
            (State::FullFeature, Some(_)) => self.end(CloseReason::Timeout("no answer to a ping"), true),
            _ => self.end(CloseReason::Timeout("login"), false),
        }
    }

    /// Bytes of received data that the connection holds: an unfinished PDU, and Data-Out that no task has taken.
    pub fn held(&self) -> usize {
        let early = self.early.iter().flat_map(|early| early.pdu.iter().chain(&early.data));
        let early: usize = early.map(|pdu| pdu.data.len()).sum();
        self.framer.held() + self.exchanges.buffered() + early
    }
}
