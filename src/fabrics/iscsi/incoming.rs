// SPDX-License-Identifier: GPL-2.0-or-later
//! What comes in on a connection, from its bytes to its requests, and when it ends.

use super::connection::{RECEIVE_MAX, State};
use super::framing::{Limits, Pdu, memory};
use super::login::{LOGIN_SEGMENT_MAX, Reply};
use super::memory::Allowance;
use super::outbox::ANSWERS_MAX;
use super::shared::{ActiveConnection, CommandWindow};
use super::text_exchange::TextExchange;
use super::{CloseReason, Directory, Event, LoginStatus};
use crate::activity;
use crate::memory::{Seg, Sg};
use crate::scsi::NexusId;
use crate::time::Instant;
use crate::wire::iscsi::{
    LoginRequestHeader, LoginResponseHeader, Opcode, PduHeader, RejectReason, ResponseNumbers, push_pair,
};

/// Most bytes that are kept of an initiator that goes on before its login is answered, which it must not.
const BEHIND_LOGIN_MAX: usize = 64 << 10;

impl ActiveConnection<'_> {
    /// Takes received bytes until there may be a whole PDU, and no more than can be left out of account for a while.
    /// Returns how much memory they take, and whether that was all.
    #[inline]
    pub(super) fn receive(&mut self, now: Instant, mut next: impl FnMut() -> Option<Seg>) -> (usize, bool) {
        let Some(mut data) = next() else { return (0, true) };
        self.session.now = now;
        self.connection.last_heard = now;
        self.connection.pinged = None;
        let mut taken = 0;
        loop {
            taken += memory(&data);
            match self.connection.state {
                State::FullFeature | State::Login(_) => {
                    self.connection.framer.push(data, &self.session.arena)
                }
                State::Leaving | State::Closing => {}
                State::Joining(..) | State::Admitting(..) => self.keep_behind_login(data),
            }
            if self.connection.framer.is_ripe() || taken > RECEIVE_MAX {
                return (taken, false);
            }
            match next() {
                Some(more) => data = more,
                None => return (taken, true),
            }
        }
    }

    #[cold]
    fn keep_behind_login(&mut self, data: Seg) {
        self.connection.framer.push(data, &self.session.arena);
        if self.connection.framer.held() > BEHIND_LOGIN_MAX {
            self.violation("sends more before its login is answered");
        }
    }

    /// Takes the next PDU; `false` if none is whole, or none can be taken now.
    pub(super) fn take_pdu(&mut self, directory: &dyn Directory) -> bool {
        let Some(limits) = self.limits() else { return false };
        if matches!(self.connection.state, State::FullFeature) && self.is_clogged() {
            self.connection.paused = true;
            return false;
        }
        match self.connection.framer.next(limits) {
            Ok(None) => return false,
            Ok(Some(pdu)) => self.notify(pdu, directory),
            Err(what) => self.violation(what),
        }
        true
    }

    /// What a PDU may be like that is taken now; `None` if none is.
    #[inline(always)]
    pub(super) fn limits(&self) -> Option<Limits> {
        let negotiated = &self.connection.negotiated;
        match self.connection.state {
            State::FullFeature => Some(Limits {
                header_digest: negotiated.header_digest,
                data_digest: negotiated.data_digest,
                data_max: negotiated.max_recv_data_segment_length as usize,
            }),
            State::Login(_) => {
                Some(Limits { header_digest: false, data_digest: false, data_max: LOGIN_SEGMENT_MAX })
            }
            _ => None,
        }
    }

    /// Takes a PDU that has come.
    // Always: what a PDU consists of would be copied.
    #[inline(always)]
    pub(super) fn notify(&mut self, pdu: Pdu, directory: &dyn Directory) {
        let told = (pdu.bhs.opcode().raw(), pdu.bhs.itt());
        self.connection.last_pdu = Some(told);
        activity::hear(told);
        self.connection.counters.pdus_in += 1;
        match self.connection.state {
            State::FullFeature => {
                self.acknowledged(pdu.bhs.request_numbers().exp_stat_sn);
                self.full_feature(pdu, directory);
            }
            _ => self.login_request(pdu, directory),
        }
    }

    /// The initiator has told ExpStatSN, as it does in each request (RFC 7143 4.2.2.2).
    #[inline(always)]
    fn acknowledged(&mut self, exp_stat_sn: u32) {
        self.connection.acked = exp_stat_sn;
        if let Some(fence) = &mut self.session.fence
            && fence.acknowledged(self.key, exp_stat_sn)
        {
            self.session.fence = None;
        }
    }

    /// The initiator reads again, or nothing is heard any more.
    pub(super) fn go_on(&mut self) {
        self.connection.paused = false;
        self.connection.last_heard = self.session.now;
        self.connection.pinged = None;
        self.session.events.push_back(Event::Resumed(self.key));
    }

    /// The peer will send no more.
    pub(super) fn peer_finished(&mut self) {
        self.end(CloseReason::PeerClosed, false);
    }

    /// The owner ends the connection.
    pub(super) fn close(&mut self, why: &'static str) {
        self.end(CloseReason::Ended(why), true);
    }

    pub(super) fn violation(&mut self, what: &'static str) {
        self.announce_drop();
        self.end(CloseReason::Violation(what), false);
    }

    pub(super) fn end(&mut self, reason: CloseReason, reset: bool) {
        let connection = &mut *self.connection;
        if connection.is_closing() {
            return;
        }
        connection.state = State::Closing;
        connection.framer.clear();
        connection.text = TextExchange::default();
        self.forget_commands();
        if self.connection.paused {
            self.go_on();
        }
        self.session.live -= 1;
        match self.session.live {
            0 => self.session.clear(),
            _ => self.session.abandon(self.key),
        }
        self.session.events.push_back(Event::Closed { connection: self.key, reason, reset });
    }

    // Login.

    fn login_request(&mut self, pdu: Pdu, directory: &dyn Directory) {
        let (session, connection) = (&mut *self.session, &mut *self.connection);
        if pdu.bhs.opcode() != Opcode::LOGIN_REQUEST {
            return self.violation("not a login request in the login phase");
        }
        if connection.counters.pdus_in == 1 {
            // The first request sets the numbers from which both sides go on.
            let LoginRequestHeader { tsih, itt, numbers, .. } = LoginRequestHeader::parse(&pdu.bhs);
            session.exp_cmd_sn = numbers.cmd_sn;
            session.max_cmd_sn = session.exp_cmd_sn;
            connection.stat_sn = numbers.exp_stat_sn;
            connection.login_tag = itt;
            if tsih != 0 && connection.mover.is_some() {
                // What it has posted is bound to its core.
                return self
                    .refuse(LoginStatus::TooManyConnections, "a session over RDMA has one connection");
            }
            if tsih != 0
                && let State::Login(login) = std::mem::replace(&mut connection.state, State::Closing)
            {
                connection.state = State::Joining(login, pdu);
                return session.events.push_back(Event::JoinWanted(self.key, tsih));
            }
        }
        self.login(&pdu, directory);
    }

    /// Goes on with a login that wants to join a session. The answers tell the window of that, which the initiator uses
    /// on its other connections meanwhile.
    pub(super) fn proceed(&mut self, window: CommandWindow, directory: &dyn Directory) {
        let CommandWindow { exp_cmd_sn, max_cmd_sn } = window;
        (self.session.exp_cmd_sn, self.session.max_cmd_sn) = (exp_cmd_sn, max_cmd_sn);
        self.session.commands.admit_none();
        if let State::Joining(login, pdu) = std::mem::replace(&mut self.connection.state, State::Closing) {
            self.connection.state = State::Login(login);
            self.login(&pdu, directory);
        }
    }

    /// Gives up a connection that wants to join a session, and returns all that it has received.
    pub(super) fn hand_over(&mut self) -> Vec<u8> {
        let State::Joining(_, pdu) = std::mem::replace(&mut self.connection.state, State::Closing) else {
            return Vec::new();
        };
        self.session.live -= 1;
        let mut bytes = pdu.bhs.bytes().to_vec();
        bytes.extend_from_slice(&pdu.ahs);
        bytes.extend(pdu.data.to_vec());
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes.extend(self.connection.framer.take());
        bytes
    }

    pub(super) fn login(&mut self, pdu: &Pdu, directory: &dyn Directory) {
        let (session, connection) = (&mut *self.session, &mut *self.connection);
        let State::Login(login) = &mut connection.state else { return };
        connection.login_tag = pdu.bhs.itt();
        match login.handle(pdu, &connection.origin, directory) {
            Err((status, why)) => {
                session.isid = login.isid;
                session.initiator = login.initiator().cloned().unwrap_or_default();
                let mut reply = Reply::default();
                if let Some(address) = &login.moved {
                    push_pair(&mut reply.text, "TargetAddress", address);
                }
                self.send_login_response(&reply, status as u16);
                self.end(CloseReason::LoginRefused(status, why), false);
            }
            Ok(mut reply) => match reply.wanted.take() {
                None => self.send_login_response(&reply, 0),
                Some(wanted) => {
                    let State::Login(login) = std::mem::replace(&mut connection.state, State::Closing) else {
                        return;
                    };
                    (session.isid, connection.cid) = (login.isid, login.cid);
                    session.initiator.clone_from(&wanted.initiator);
                    session.target.clone_from(&wanted.target);
                    session.user.clone_from(&wanted.user);
                    connection.state = State::Admitting(login, reply);
                    session.events.push_back(Event::LoginWanted(self.key, wanted));
                }
            },
        }
    }

    pub(super) fn accept_login(&mut self, nexus: NexusId, tsih: u16, depth: u32, memory: Allowance) {
        let State::Admitting(login, reply) =
            std::mem::replace(&mut self.connection.state, State::FullFeature)
        else {
            self.connection.state = State::Closing;
            return;
        };
        let (negotiated, parameters, discovery) = login.finish();
        let session = &mut *self.session;
        let place = negotiated.unasked_max().max(parameters.max_recv_data_segment_length);
        (session.nexus, session.tsih, session.discovery) = (nexus, tsih, discovery);
        (session.negotiated, session.parameters) = (negotiated.clone(), parameters);
        self.connection.negotiated = negotiated;
        session.commands.grant(depth, place, memory);
        session.cids.push((self.connection.cid, self.key));
        self.send_login_response(&reply, 0);
        self.connection.last_heard = self.session.now;
    }

    /// The connection, whose login is done, has become one of this session's.
    pub(super) fn joined(&mut self) {
        let State::Admitting(login, reply) =
            std::mem::replace(&mut self.connection.state, State::FullFeature)
        else {
            return self.end(CloseReason::Ended("joined before its login was finished"), true);
        };
        let (negotiated, _, _) = login.finish();
        self.connection.negotiated = negotiated.joining(&self.session.negotiated);
        self.session.cids.push((self.connection.cid, self.key));
        self.send_login_response(&reply, 0);
        self.connection.last_heard = self.session.now;
        self.session.events.push_back(Event::Joined(self.key));
    }

    pub(super) fn refuse(&mut self, status: LoginStatus, why: &'static str) {
        self.send_login_response(&Reply::default(), status as u16);
        self.end(CloseReason::LoginRefused(status, why), false);
    }

    fn send_login_response(&mut self, reply: &Reply, status: u16) {
        let header = LoginResponseHeader {
            transit: reply.next_stage.is_some(),
            continues: false,
            stage: reply.stage,
            next_stage: reply.next_stage.unwrap_or_default(),
            version_max: 0,
            version_active: 0,
            isid: match &self.connection.state {
                State::Login(login) => login.isid,
                _ => self.session.isid,
            },
            tsih: self.session.tsih,
            itt: self.connection.login_tag,
            numbers: ResponseNumbers::default(),
            status,
        };
        let Some(data) = Sg::copied_reserved(&self.session.arena, &reply.text) else {
            return self.end(CloseReason::Ended("out of memory"), true);
        };
        self.answer(header.emit(), data, true);
    }

    // Full feature phase.

    // Always: as Self::notify.
    #[inline(always)]
    fn full_feature(&mut self, pdu: Pdu, directory: &dyn Directory) {
        match pdu.bhs.opcode() {
            Opcode::DATA_OUT => return self.data_out(pdu),
            Opcode::SNACK_REQUEST => return self.reject(&pdu.bhs, RejectReason::SNACK_REJECT),
            Opcode::SCSI_COMMAND
            | Opcode::NOP_OUT
            | Opcode::TASK_MANAGEMENT_REQUEST
            | Opcode::TEXT_REQUEST
            | Opcode::LOGOUT_REQUEST => {}
            Opcode::LOGIN_REQUEST => return self.violation("login request in the full feature phase"),
            _ => return self.reject(&pdu.bhs, RejectReason::COMMAND_NOT_SUPPORTED),
        }
        if pdu.bhs.is_immediate() {
            // Their answers are held back by a fence.
            let many = self.connection.answers >= ANSWERS_MAX;
            if many && !matches!(pdu.bhs.opcode(), Opcode::SCSI_COMMAND | Opcode::NOP_OUT) {
                return self.reject(&pdu.bhs, RejectReason::TOO_MANY_IMMEDIATE);
            }
            return match self.session.must_wait(&pdu.bhs) {
                true => self.session.keep_immediate(self.key, pdu),
                false => self.deliver(pdu, directory),
            };
        }
        if self.session.take_turn(pdu.bhs.request_numbers().cmd_sn) {
            return self.deliver(pdu, directory);
        }
        if !self.session.keep(self.key, pdu) {
            self.connection.counters.ignored += 1;
        }
    }

    pub(super) fn deliver(&mut self, pdu: Pdu, directory: &dyn Directory) {
        if self.connection.is_closing() {
            return;
        }
        match pdu.bhs.opcode() {
            // A discovery session has no logical units (RFC 7143 4.3).
            Opcode::SCSI_COMMAND | Opcode::TASK_MANAGEMENT_REQUEST if self.session.discovery => {
                self.reject(&pdu.bhs, RejectReason::PROTOCOL_ERROR)
            }
            Opcode::SCSI_COMMAND => self.scsi_command(pdu),
            Opcode::NOP_OUT => self.nop_out(pdu),
            Opcode::TASK_MANAGEMENT_REQUEST => self.task_management_request(&pdu),
            Opcode::TEXT_REQUEST => self.text_request(&pdu, directory),
            _ => self.logout_request(&pdu),
        }
    }

    /// Ends all that is under way on the connection, which then is to be logged out.
    pub(super) fn leave(&mut self) {
        self.connection.state = State::Leaving;
        self.connection.framer.clear();
        self.connection.text = TextExchange::default();
        self.forget_commands();
        self.session.abandon(self.key);
    }

    pub(super) fn logged_out(&mut self) {
        self.end(CloseReason::Logout, false);
    }

    // Time.

    pub(super) fn timeout(&mut self) {
        let now = self.session.now;
        if self.connection.deadline(&self.session.parameters).is_none_or(|at| at > now) {
            return;
        }
        if !matches!(self.connection.state, State::FullFeature) {
            return self.end(CloseReason::Timeout("login"), false);
        }
        let parameters = self.session.parameters.clone();
        if self.connection.stall(&parameters).is_some_and(|at| at <= now) {
            let sent = self.connection.counters.pdus_out;
            if self.connection.progress.1 == sent {
                return self.end(CloseReason::Timeout("accepts nothing of what is sent"), true);
            }
            self.connection.progress = (now, sent);
        }
        match self.connection.pinged {
            _ if self.connection.paused => {}
            Some(at) if at + parameters.nop_timeout <= now => {
                self.end(CloseReason::Timeout("no answer to a ping"), true);
            }
            None if self.connection.last_heard + parameters.nop_interval <= now => self.ping(now),
            _ => {}
        }
    }
}
