// SPDX-License-Identifier: GPL-2.0-or-later
//! One connection of a session: how it comes to be, what is heard on it, and how it ends.

use std::collections::VecDeque;
use std::time::Duration;

use super::super::chap;
use super::super::peer::Port;
use super::super::plan::Violation;
use super::super::scsi;
use super::{Agreed, Closing, Env, News, Session};
use crate::fabrics::iscsi::initiator::{Digests, Initiator, Packet, StreamError};
use crate::time::Instant;
use crate::wire::iscsi::{
    AsyncEvent, AsyncHeader, DataInHeader, LoginResponseHeader, LogoutResponse, LogoutResponseHeader, NO_TAG,
    Opcode, PduHeader, pairs,
};

/// Status of a login that wants to join a session which is not there (RFC 7143 11.13.5).
const NO_SUCH_SESSION: u16 = 0x020a;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Down(Instant),
    Connecting,
    LoggingIn,
    /// The same, with so many answers to come before it is known who is who.
    Authenticating(u8),
    Up,
    /// Waits for the answer to its logout, or to that of its session.
    LoggingOut,
    /// Has broken the protocol, and hangs up then.
    Doomed(Instant),
    /// Waits for the target to close, too.
    Closing,
}

/// See the module.
pub(super) struct Link {
    pub(super) state: State,
    pub(super) port: Option<Port>,
    /// Of its digests and its StatSN. (CmdSN and task tags are those of the session.)
    pub(super) initiator: Initiator,
    pub(super) out: VecDeque<u8>,
    /// Why it may end.
    pub(super) excuse: Option<&'static str>,
    pub(super) deaf_until: Instant,
    pub(super) sabotage: Option<Violation>,
    /// A logout of it was sent on a connection that is lost, and may arrive yet, when it was made again.
    pub(super) threatened: bool,
    /// PDUs sent and heard, and how many of these rejected one.
    pub(super) sent: u64,
    pub(super) heard: u64,
    pub(super) rejects: u64,
}

/// The CID of a connection, whether it was made or not.
pub(super) fn cid(at: usize) -> u16 {
    3 + u16::try_from(at).expect("few")
}

impl Link {
    pub(super) fn new() -> Self {
        Self {
            state: State::Down(Instant::ZERO),
            port: None,
            initiator: Initiator::new(),
            out: VecDeque::new(),
            excuse: None,
            deaf_until: Instant::ZERO,
            sabotage: None,
            threatened: false,
            sent: 0,
            heard: 0,
            rejects: 0,
        }
    }

    pub(super) fn is_up(&self) -> bool {
        self.state == State::Up
    }

    /// Whether answers may come on it.
    pub(super) fn is_alive(&self) -> bool {
        matches!(self.state, State::Up | State::LoggingOut | State::Doomed(_))
    }

    pub(super) fn is_logging_in(&self) -> bool {
        matches!(self.state, State::LoggingIn | State::Authenticating(_))
    }

    pub(super) fn is_down(&self) -> bool {
        matches!(self.state, State::Down(_))
    }

    /// Nothing is sent on it any more.
    pub(super) fn silence(&mut self) {
        self.out.clear();
        self.sabotage = None;
    }

    pub(super) fn send(&mut self, packet: &Packet) {
        self.sent += 1;
        self.out.extend(packet.encode(self.initiator.digests));
    }
}

impl Session {
    /// One turn of a connection. Returns how much was done.
    pub(super) fn turn_of(&mut self, at: usize, env: &mut Env) -> Result<usize, String> {
        let mut work = 0;
        match self.links[at].state {
            State::Down(then) => {
                if then > env.now || !self.wants(at) {
                    return Ok(0);
                }
                self.links[at].port = Some(env.peers.connect(env.now, self.shape.window));
                self.links[at].state = State::Connecting;
                return Ok(1);
            }
            State::Doomed(then) if then <= env.now => {
                if let Some(port) = self.links[at].port {
                    env.peers.abort(port);
                }
                self.hang_up(at, env);
                return Ok(1);
            }
            _ => {}
        }
        let Some(port) = self.links[at].port else {
            return Err("no connection in a state that has one".into());
        };
        if self.links[at].state == State::Connecting && env.peers.is_open(port) {
            self.begin_login(at, env);
            if self.nexus == 0 {
                env.news.push(News::LoggingIn { session: self.index, name: self.shape.name });
            }
            work += 1;
        }
        if self.links[at].deaf_until <= env.now {
            self.links[at].deaf_until = Instant::ZERO;
            work += self.hear(at, port, env)?;
            if self.links[at].port.is_none() {
                return Ok(work + 1);
            }
        }
        if self.links[at].is_up() {
            work += self.work(env);
        }
        if !self.links[at].out.is_empty() && env.peers.send(port, &mut self.links[at].out) {
            work += 1;
        }
        let ended = env.peers.has_ended(port);
        if self.links[at].deaf_until == Instant::ZERO && ended && self.links[at].state != State::Connecting {
            work += self.hear(at, port, env)?;
            self.ended(at, port, env)?;
            work += 1;
        } else if self.links[at].state == State::Connecting && ended {
            if !env.draining {
                return Err("a connection is refused though the daemon runs".into());
            }
            env.peers.forget(port);
            self.hang_up(at, env);
        }
        Ok(work)
    }

    fn ended(&mut self, at: usize, port: Port, env: &mut Env) -> Result<(), String> {
        if self.links[at].port != Some(port) {
            return Ok(());
        }
        let late = self.links[at].threatened.then_some("logged out late");
        let excuse = self.links[at].excuse.or(self.excuse).or(late);
        if excuse.is_none() && !env.draining && !self.is_damaged(at, env) {
            return Err(format!("connection {at} ended without a reason; {}", self.describe()));
        }
        env.tally.count(&format!("connections ended: {}", excuse.unwrap_or("drained or damaged")));
        env.peers.close(port);
        self.hang_up(at, env);
        Ok(())
    }

    fn begin_login(&mut self, at: usize, env: &Env) {
        let (shape, isid) = (&self.shape, self.isid());
        let link = &mut self.links[at];
        link.initiator = Initiator::new();
        (link.sent, link.heard, link.rejects) = (0, 0, 0);
        if self.nexus == 0 {
            self.cmd_sn = shape.cmd_sn;
            self.itt = link.initiator.itt;
        } else {
            link.initiator.tsih = self.tsih;
        }
        link.initiator.cid = cid(at);
        link.initiator.exp_stat_sn = shape.cmd_sn ^ 0x8000_0001 ^ u32::from(cid(at) - cid(0)) << 8;
        link.initiator.isid = isid;
        (link.initiator.cmd_sn, link.initiator.itt) = (self.cmd_sn, self.itt);
        if !env.plan.chap {
            return self.negotiate(at);
        }
        let name = self.name.clone();
        let keys = [
            ("InitiatorName", name.as_str()),
            ("TargetName", scsi::TARGET),
            ("SessionType", "Normal"),
            ("AuthMethod", "CHAP,None"),
        ];
        let link = &mut self.links[at];
        let login = link.initiator.login(0, None, &keys);
        link.send(&login);
        link.state = State::Authenticating(3);
    }

    pub(super) fn isid(&self) -> [u8; 6] {
        [0x80, 0, 0, 0, 0, self.shape.name]
    }

    /// The next step of an authentication.
    fn authenticate(&mut self, at: usize, left: u8, answer: &[u8], env: &mut Env) -> Result<(), String> {
        let link = &mut self.links[at];
        let login = match left {
            3 => link.initiator.login(0, None, &[("CHAP_A", "7")]),
            2 => {
                let keys = chap::answer(answer)?;
                let keys: Vec<_> = keys.iter().map(|(key, value)| (*key, value.as_str())).collect();
                link.initiator.login(0, Some(1), &keys)
            }
            _ => {
                if !chap::is_proved(answer) {
                    return Err("the target does not prove who it is".into());
                }
                env.tally.count("authentications");
                self.negotiate(at);
                return Ok(());
            }
        };
        link.send(&login);
        link.state = State::Authenticating(left - 1);
        Ok(())
    }

    /// The operational stage of the login.
    fn negotiate(&mut self, at: usize) {
        let shape = &self.shape;
        let word = |on: bool| if on { "Yes" } else { "No" };
        let digest = |on: bool| if on { "CRC32C,None" } else { "None,CRC32C" };
        let name = self.name.clone();
        let numbers = [
            shape.first_burst,
            shape.max_burst,
            shape.segment_max,
            shape.outstanding_r2ts,
            u32::from(shape.connections),
        ]
        .map(|n| n.to_string());
        let link = &mut self.links[at];
        // Who we are is said once.
        let introduced = if link.is_logging_in() { 3 } else { 0 };
        let keys = [
            ("InitiatorName", name.as_str()),
            ("TargetName", scsi::TARGET),
            ("SessionType", "Normal"),
            ("HeaderDigest", digest(shape.header_digest)),
            ("DataDigest", digest(shape.data_digest)),
            ("InitialR2T", word(shape.initial_r2t)),
            ("ImmediateData", word(shape.immediate_data)),
            ("FirstBurstLength", &numbers[0]),
            ("MaxBurstLength", &numbers[1]),
            ("MaxRecvDataSegmentLength", &numbers[2]),
            ("MaxOutstandingR2T", &numbers[3]),
            ("MaxConnections", &numbers[4]),
        ];
        let end = if shape.connections > 1 { keys.len() } else { keys.len() - 1 };
        let login = link.initiator.login(1, Some(3), &keys[introduced..end]);
        link.send(&login);
        link.state = State::LoggingIn;
    }

    fn hear(&mut self, at: usize, port: Port, env: &mut Env) -> Result<usize, String> {
        let bytes = env.peers.receive(port);
        if bytes.is_empty() || self.links[at].state == State::Closing {
            return Ok(bytes.len());
        }
        self.links[at].initiator.push(&bytes);
        let mut count = bytes.len();
        loop {
            match self.links[at].initiator.next() {
                Ok(Some(packet)) => self.packet(at, packet, env)?,
                Ok(None) => return Ok(count),
                Err(StreamError::Digest) if env.plan.wires.damage > 0.0 => {
                    env.tally.count("digest errors found by the initiator");
                    env.peers.abort(port);
                    self.hang_up(at, env);
                    return Ok(count);
                }
                Err(e) => return Err(format!("{e} though the wire damages nothing")),
            }
            count += 1;
            if self.links[at].port != Some(port) || self.links[at].state == State::Closing {
                return Ok(count);
            }
        }
    }

    fn packet(&mut self, at: usize, packet: Packet, env: &mut Env) -> Result<(), String> {
        self.links[at].heard += 1;
        if packet.opcode() != Opcode::LOGIN_RESPONSE {
            self.take_window(&packet, env)?;
        }
        match packet.opcode() {
            Opcode::LOGIN_RESPONSE => self.login_response(at, &packet, env),
            Opcode::R2T => self.r2t(at, &packet, env),
            Opcode::DATA_IN => self.data_in(at, &packet, env),
            Opcode::SCSI_RESPONSE => self.response(at, &packet, env),
            Opcode::TASK_MANAGEMENT_RESPONSE => self.managed(at, &packet, env),
            Opcode::NOP_IN => self.nop_in(at, packet, env),
            Opcode::TEXT_RESPONSE => {
                let asked = self.texts.remove(&packet.bhs.itt());
                if asked != Some(at) {
                    return Err(format!("a text response on {at} to a request of {asked:?}"));
                }
                env.tally.count("texts");
                Ok(())
            }
            Opcode::LOGOUT_RESPONSE => self.logout_response(at, &packet, env),
            Opcode::ASYNC_MESSAGE => self.message(at, &packet, env),
            Opcode::REJECT => self.rejected(at, &packet, env),
            other => Err(format!("a target does not send {other:?}")),
        }
    }

    fn login_response(&mut self, at: usize, packet: &Packet, env: &mut Env) -> Result<(), String> {
        let link = &mut self.links[at];
        if !link.is_logging_in() {
            return Err(format!("login response in state {:?}", link.state));
        }
        let LoginResponseHeader { status, tsih, numbers, .. } = LoginResponseHeader::parse(&packet.bhs);
        let joins = self.nexus > 0;
        if status != 0 {
            // All others may have ended before the target, not yet before us.
            let ending = self.links.iter().all(|l| !l.is_alive() || l.excuse.is_some() || l.threatened);
            let gone = status == NO_SUCH_SESSION
                && joins
                && (ending || self.excuse.is_some() || self.is_damaged_session(env));
            if !env.draining && !gone {
                return Err(format!("login of connection {at} refused with {status:#06x}"));
            }
            env.tally.count(&format!("logins refused with {status:#06x}"));
            self.links[at].excuse = Some("login refused");
            return Ok(());
        }
        if joins {
            self.take_window(packet, env)?;
        }
        if let State::Authenticating(left) = self.links[at].state {
            return self.authenticate(at, left, &packet.data, env);
        }
        if !joins {
            self.agreed = Agreed::default();
            (self.exp_cmd_sn, self.max_cmd_sn) = (numbers.exp_cmd_sn, numbers.max_cmd_sn);
        }
        let link = &mut self.links[at];
        for pair in pairs(&packet.data) {
            let pair = pair.map_err(|e| format!("login response: {e}"))?;
            let number = || pair.value.parse::<usize>().map_err(|_| format!("login response: {pair:?}"));
            match pair.key {
                "HeaderDigest" => link.initiator.digests.header = pair.value == "CRC32C",
                "DataDigest" => link.initiator.digests.data = pair.value == "CRC32C",
                "MaxRecvDataSegmentLength" => self.agreed.segment = number()?,
                _ if joins => {}
                "InitialR2T" => self.agreed.initial_r2t = pair.value == "Yes",
                "ImmediateData" => self.agreed.immediate_data = pair.value == "Yes",
                "FirstBurstLength" => self.agreed.first_burst = number()?,
                "MaxBurstLength" => self.agreed.max_burst = number()?,
                "MaxConnections" => self.agreed.connections = number()?,
                _ => {}
            }
        }
        let wanted = Digests { header: self.shape.header_digest, data: self.shape.data_digest };
        if link.initiator.digests != wanted {
            return Err(format!("digests {:?} instead of {wanted:?}", link.initiator.digests));
        }
        if wanted.header
            && wanted.data
            && let Some(port) = link.port
        {
            env.peers.set_digested(port);
        }
        // Its session may be about to be logged out.
        let leaves = self.logouts.values().any(|(_, what)| *what == Closing::Session);
        link.state = if leaves { State::LoggingOut } else { State::Up };
        match joins {
            true if tsih != self.tsih => return Err(format!("joined {tsih} instead of {}", self.tsih)),
            true => {
                env.tally.count("connections added to a session");
                self.settle(at, env);
            }
            false => self.logged_in(tsih, env),
        }
        let up = self.links.iter().filter(|link| link.is_up()).count();
        if up > self.most {
            self.most = up;
            env.tally.count(&format!("sessions with {up} connections"));
        }
        Ok(())
    }

    fn logout_response(&mut self, at: usize, packet: &Packet, env: &mut Env) -> Result<(), String> {
        let LogoutResponseHeader { itt: tag, response, .. } = LogoutResponseHeader::parse(&packet.bhs);
        let asked = self.logouts.remove(&tag);
        let Some((_, what)) = asked.filter(|(on, _)| *on == at) else {
            return Err(format!("a logout response on {at} to {asked:?}"));
        };
        let closed = response == LogoutResponse::CLOSED;
        let gone = response == LogoutResponse::NO_SUCH_CONNECTION;
        match what {
            Closing::Session if closed => {
                // The target has cleaned up: nothing of the session has an effect any more.
                let tags: Vec<u32> = self.running.keys().copied().collect();
                for tag in tags {
                    self.give_up_command(tag, env);
                }
                self.close(at, env);
                self.over(env);
                Ok(())
            }
            Closing::Link(other) if closed || gone && other != at => {
                env.tally.count(if other == at {
                    "connections closed by logout"
                } else if closed {
                    "connections closed by logout over another"
                } else {
                    "connections gone before their logout over another"
                });
                if self.links[other].port.is_some() {
                    self.close(other, env);
                }
                self.settle(other, env);
                self.look_for_life(env);
                Ok(())
            }
            _ => Err(format!("logout response {response} to the logout of {what:?}")),
        }
    }

    /// FIN: nothing more is heard of what is under way on a connection.
    pub(super) fn close(&mut self, at: usize, env: &mut Env) {
        if let Some(port) = self.links[at].port {
            env.peers.close(port);
        }
        self.disown(at, env);
        if self.links[at].port.is_none() {
            // It was hung up with the others.
            return;
        }
        self.links[at].silence();
        self.links[at].state = State::Closing;
    }

    fn message(&mut self, at: usize, packet: &Packet, env: &mut Env) -> Result<(), String> {
        let event = AsyncHeader::parse(&packet.bhs).event;
        env.tally.count(&format!("asynchronous messages of event {}", event.raw()));
        let link = &mut self.links[at];
        match event {
            // The target wants a logout.
            AsyncEvent::LOGOUT_REQUESTED => {
                self.excuse.get_or_insert("asked to log out");
                self.log_out(at, env);
            }
            // It drops this connection, which must have done something.
            AsyncEvent::CONNECTION_DROPPED if link.excuse.is_some() || self.is_damaged(at, env) => {}
            AsyncEvent::SESSION_DROPPED if self.excuse.is_some() || env.draining => {}
            _ => return Err(format!("event {event} on connection {at}; {}", self.describe())),
        }
        Ok(())
    }

    /// A pause before a connection is made again.
    pub(super) fn pause(&self, env: &mut Env) -> Instant {
        let pause = 1 + env.dice.below(if self.shares_name(&env.plan) { 300 } else { 20 });
        env.now + Duration::from_millis(pause)
    }

    /// What comes late, of a task that was aborted from another connection: its data may have been on the way. So may
    /// its status, on a connection that the target has ended: the response to the function does not wait for that.
    pub(super) fn came_late(&self, at: usize, packet: &Packet, env: &mut Env) -> bool {
        let bhs = &packet.bhs;
        let status = match packet.header::<DataInHeader>() {
            Some(data) => data.has_status,
            None => bhs.opcode() == Opcode::SCSI_RESPONSE,
        };
        let leaves = !self.links[at].is_up() || self.is_damaged(at, env);
        let late = bhs.itt() != NO_TAG && self.overtaken.contains(&bhs.itt()) && (leaves || !status);
        if late {
            env.tally.count("data of tasks aborted from another connection");
        }
        late
    }
}
