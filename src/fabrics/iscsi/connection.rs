// SPDX-License-Identifier: GPL-2.0-or-later
//! One connection: sequence numbers, what comes in, what goes out, and when it ends.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use slab::Slab;
use smallvec::SmallVec;

use super::command::{Exchanges, Outgoing};
use super::framing::{Framer, Limits, Pdu, digest};
use super::login::{Login, Reply};
use super::requests::TextExchange;
use super::{CloseReason, Directory, Event, LoginStatus, Negotiated, Parameters};
use crate::memory::{Arena, Seg, Sg};
use crate::scsi::{NexusId, Request};
use crate::time::Instant;
use crate::wire::iscsi::{Bhs, Crc32c, FINAL, NO_TAG, Opcode, reject};

/// Most PDUs that answer something other than a command and wait to be sent. An initiator that asks without reading
/// answers is cut off.
const ANSWERS_MAX: usize = 64;

/// Most bytes of a login or text data segment before anything is negotiated (RFC 7143 13.12).
const LOGIN_SEGMENT_MAX: usize = 8192;

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

/// An answer that is ready but for its sequence numbers.
pub(super) struct Answer {
    pub(super) bhs: Bhs,
    pub(super) data: Sg,
    /// It consumes a StatSN.
    pub(super) numbered: bool,
}

pub(super) enum Out {
    Answer(Answer),
    Command(Outgoing),
}

/// A request that came before its turn.
struct Early {
    cmd_sn: u32,
    /// `None`: aborted before it came.
    pdu: Option<Pdu>,
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
    stat_sn: u32,
    pub(super) exp_cmd_sn: u32,
    max_cmd_sn: u32,
    early: Vec<Early>,
    pub(super) exchanges: Exchanges,
    pub(super) task_management: Slab<u32>,
    pub(super) text: TextExchange,
    pub(super) outbox: VecDeque<Out>,
    answers: usize,
    pub(super) requests: VecDeque<Request>,
    events: VecDeque<Event>,
    now: Instant,
    created: Instant,
    last_heard: Instant,
    pub(super) pinged: Option<Instant>,
    /// The arena had no room for a header.
    starved: bool,
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
            outbox: VecDeque::new(),
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
        self.framer.push(data);
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
        self.outbox.retain(|out| matches!(out, Out::Answer(_)));
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
                (self.isid, self.initiator) = (login.isid, login.initiator().unwrap_or_default().to_owned());
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
            return self.deliver(pdu, directory);
        }
        let cmd_sn = pdu.bhs.cmd_sn();
        let ahead = cmd_sn.wrapping_sub(self.exp_cmd_sn);
        let window = self.max_cmd_sn.wrapping_sub(self.exp_cmd_sn);
        // Serial number arithmetic (RFC 1982): a closed window is one behind, far ahead is behind.
        if window > 1 << 31 || ahead > window {
            self.counters.ignored += 1;
            return;
        }
        if ahead > 0 {
            if self.early.iter().all(|early| early.cmd_sn != cmd_sn) {
                self.early.push(Early { cmd_sn, pdu: Some(pdu) });
            }
            return;
        }
        self.exp_cmd_sn = self.exp_cmd_sn.wrapping_add(1);
        self.deliver(pdu, directory);
        while let Some(next) = self.early.iter().position(|early| early.cmd_sn == self.exp_cmd_sn) {
            self.exp_cmd_sn = self.exp_cmd_sn.wrapping_add(1);
            if let Some(pdu) = self.early.swap_remove(next).pdu {
                self.deliver(pdu, directory);
            }
        }
    }

    /// A command that never came is aborted: its place in the order is filled (RFC 7143 11.6.1). Returns whether it was
    /// still to come.
    pub(super) fn abort_before_arrival(&mut self, cmd_sn: u32) -> bool {
        let ahead = cmd_sn.wrapping_sub(self.exp_cmd_sn);
        if ahead > self.max_cmd_sn.wrapping_sub(self.exp_cmd_sn) || ahead > 1 << 31 {
            return false;
        }
        match self.early.iter_mut().find(|early| early.cmd_sn == cmd_sn) {
            Some(early) => early.pdu = None,
            None if ahead == 0 => self.exp_cmd_sn = self.exp_cmd_sn.wrapping_add(1),
            None => self.early.push(Early { cmd_sn, pdu: None }),
        }
        true
    }

    fn deliver(&mut self, pdu: Pdu, directory: &dyn Directory) {
        if self.is_closing() {
            return;
        }
        match pdu.bhs.opcode() {
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

    // Sending.

    /// Queues a PDU that answers something other than a command.
    pub(super) fn answer(&mut self, bhs: Bhs, data: Sg, numbered: bool) {
        if self.answers >= ANSWERS_MAX {
            return self.violation("asks without reading the answers");
        }
        self.answers += 1;
        self.outbox.push_back(Out::Answer(Answer { bhs, data, numbered }));
    }

    pub(super) fn reject(&mut self, bad: &Bhs, reason: u8) {
        self.counters.rejects += 1;
        let mut bhs = Bhs::new(Opcode::REJECT, FINAL);
        bhs.0[2] = reason;
        bhs.set_word(16, NO_TAG);
        let Some(data) = Sg::copied(&self.arena, &bad.0) else {
            return self.violation("no memory to reject a PDU");
        };
        self.answer(bhs, data, true);
    }

    /// Asks the initiator to log out within `seconds`, after which the connection may be dropped (RFC 7143 11.9: event 1).
    pub fn request_logout(&mut self, seconds: u16) {
        self.asynchronous(1, [0, 0, seconds]);
    }

    /// Announces that the connection is about to be dropped (event 2); it may be re-established after `seconds`.
    pub fn announce_drop(&mut self, seconds: u16) {
        let cid = self.cid;
        self.asynchronous(2, [cid, seconds, 0]);
    }

    fn asynchronous(&mut self, event: u8, parameters: [u16; 3]) {
        if !self.is_full_feature() {
            return;
        }
        let mut bhs = Bhs::new(Opcode::ASYNC_MESSAGE, FINAL);
        bhs.set_word(16, NO_TAG);
        bhs.0[36] = event;
        for (i, parameter) in parameters.into_iter().enumerate() {
            bhs.set_half(38 + 2 * i, parameter);
        }
        self.answer(bhs, Sg::new(), true);
    }

    /// The next PDU, whole: a header block before the payload's own segments. The owner asks while its stream has room.
    /// `None` when there is nothing to send, or no memory for a header at the moment.
    pub fn poll_transmit(&mut self) -> Option<Sg> {
        self.starved = false;
        let (mut bhs, data, numbered) = match self.outbox.front()? {
            Out::Answer(answer) => (answer.bhs, answer.data.clone(), answer.numbered),
            Out::Command(_) => self.next_of_command(),
        };
        bhs.set_data_len(data.len());
        bhs.set_word(24, self.stat_sn);
        self.stamp(&mut bhs);
        let Some(pdu) = self.assemble(&bhs, data) else {
            self.starved = true;
            return None;
        };
        if numbered {
            self.stat_sn = self.stat_sn.wrapping_add(1);
        }
        match self.outbox.front() {
            Some(Out::Answer(_)) => {
                self.answers -= 1;
                self.outbox.pop_front();
            }
            _ => self.command_pdu_sent(),
        }
        self.counters.pdus_out += 1;
        Some(pdu)
    }

    /// ExpCmdSN and MaxCmdSN: the window is as wide as there are free exchanges, and never shrinks.
    fn stamp(&mut self, bhs: &mut Bhs) {
        let room = self.exchanges.room();
        let max = self.exp_cmd_sn.wrapping_add(room).wrapping_sub(1);
        if max.wrapping_sub(self.max_cmd_sn) < 1 << 31 {
            self.max_cmd_sn = max;
        }
        bhs.set_word(28, self.exp_cmd_sn);
        bhs.set_word(32, self.max_cmd_sn);
    }

    fn assemble(&self, bhs: &Bhs, data: Sg) -> Option<Sg> {
        let full = self.is_full_feature() || self.is_closing();
        // A login response goes out before the digests are on.
        let digests = full && bhs.opcode() != Opcode::LOGIN_RESPONSE;
        let header_digest = digests && self.negotiated.header_digest;
        let data_digest = digests && self.negotiated.data_digest && !data.is_empty();
        let mut head = self.arena.alloc(Bhs::LEN + if header_digest { 4 } else { 0 })?;
        head.bytes_mut()[..Bhs::LEN].copy_from_slice(&bhs.0);
        if header_digest {
            head.bytes_mut()[Bhs::LEN..].copy_from_slice(&Crc32c::of(&bhs.0));
        }
        let mut pdu = Sg::from(head.freeze());
        let pad = data.len().next_multiple_of(4) - data.len();
        let mut data = if data_digest { self.bounced(data)? } else { data };
        data.push(Seg::from_static(&[0; 3][..pad]));
        if data_digest {
            let crc = digest(&data);
            data.append(Sg::copied(&self.arena, &crc)?);
        }
        pdu.append(data);
        Some(pdu)
    }

    /// Digested bytes must lie in memory that nobody else writes: lent pages are copied, the only copy of payload that
    /// this fabric makes.
    fn bounced(&self, data: Sg) -> Option<Sg> {
        if data.segs().iter().all(|seg| seg.private().is_some()) {
            return Some(data);
        }
        let mut copy = Sg::new();
        let mut at = 0;
        while at < data.len() {
            let len = (data.len() - at).min(Arena::block_max());
            let mut block = self.arena.alloc(len)?;
            data.copy_to(at, block.bytes_mut());
            copy.push(block.freeze());
            at += len;
        }
        Some(copy)
    }

    // Time.

    /// When [`Connection::timeout`] is to be called.
    pub fn next_deadline(&self) -> Option<Instant> {
        if self.starved {
            return Some(self.now + std::time::Duration::from_millis(1));
        }
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
        let due = self.next_deadline().is_some_and(|at| at <= now) && !self.starved;
        self.starved = false;
        if !due {
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
        let early: usize =
            self.early.iter().filter_map(|early| early.pdu.as_ref()).map(|pdu| pdu.data.len()).sum();
        self.framer.held() + self.exchanges.buffered() + early
    }
}

/// Sense data in a SCSI Response: a length, then the bytes (RFC 7143 11.4.7.1).
pub(super) fn sense_segment(sense: &[u8]) -> SmallVec<[u8; 80]> {
    let mut segment = SmallVec::new();
    if !sense.is_empty() {
        segment.extend_from_slice(&u16::try_from(sense.len()).unwrap_or(u16::MAX).to_be_bytes());
        segment.extend_from_slice(sense);
    }
    segment
}
