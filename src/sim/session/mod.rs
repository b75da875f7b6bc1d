// SPDX-License-Identifier: GPL-2.0-or-later
//! An initiator: it keeps to the protocol unless it is told not to, and takes nothing that the target says for granted.

mod answers;
mod requests;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::chap;
use super::ledger::Ledger;
use super::oracle::{Look, OpId, Oracle, Tick};
use super::peer::{Peers, Port};
use super::plan::{Action, Command, Function, Plan, SessionShape, Violation};
use super::scsi;
use super::tally::Tally;
use crate::fabrics::iscsi::initiator::{Digests, Initiator, Packet};
use crate::ports::memory::Dice;
use crate::time::Instant;
use crate::wire::iscsi::{Opcode, pairs};

/// Commands of one session at once.
const RUNNING_MAX: usize = 64;

/// How long an initiator that has broken the protocol waits for the target's anger.
const PATIENCE: Duration = Duration::from_millis(20);

/// A reset of a disk: it ends commands of other sessions, which are not told.
pub(in crate::sim) struct Reset {
    pub(in crate::sim) disk: usize,
    pub(in crate::sim) end: Option<Tick>,
    name: u8,
}

/// What sessions share.
pub(in crate::sim) struct Env {
    pub(in crate::sim) now: Instant,
    pub(in crate::sim) plan: Plan,
    pub(in crate::sim) peers: Peers,
    pub(in crate::sim) oracle: Oracle,
    pub(in crate::sim) tally: Tally,
    pub(in crate::sim) dice: Dice,
    /// Writes of connections that have ended, by name: they may still happen until somebody of that name is let in.
    pub(in crate::sim) limbo: BTreeMap<u8, Vec<OpId>>,
    pub(in crate::sim) resets: Vec<Reset>,
    /// By disk.
    pub(in crate::sim) ledgers: Vec<Ledger>,
    /// Per disk: an operation may fail, or could before.
    pub(in crate::sim) faulty: Vec<bool>,
    /// The daemon is being stopped.
    pub(in crate::sim) draining: bool,
    pub(in crate::sim) nexuses: u32,
    /// Somebody of that name was let in, or has reset a disk.
    pub(in crate::sim) news: Vec<News>,
}

/// What other sessions have to know.
#[derive(Clone, Copy)]
pub(in crate::sim) enum News {
    /// Begins a login, which ends other sessions of its name.
    LoggingIn {
        session: usize,
        name: u8,
    },
    LoggedIn {
        session: usize,
        name: u8,
        tsih: u16,
    },
}

struct Running {
    packet: Packet,
    disk: usize,
    lba: u64,
    command: Command,
    op: Option<OpId>,
    look: Look,
    out: Vec<u8>,
    wanted: usize,
    got: Vec<u8>,
    data_sn: u32,
    /// It was spoilt on purpose.
    spoilt: bool,
}

struct Managing {
    function: Function,
    disk: usize,
    /// Task tags that it concerns.
    tasks: Vec<u32>,
    sent: Tick,
    reset: Vec<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Down(Instant),
    Connecting,
    LoggingIn,
    /// The same, with so many answers to come before it is known who is who.
    Authenticating(u8),
    Up,
    /// Waits for the answer to its logout.
    LoggingOut,
    /// Has broken the protocol, and hangs up then.
    Doomed(Instant),
    /// Waits for the target to close, too.
    Closing,
}

/// What was agreed on.
#[derive(Clone, Copy)]
struct Agreed {
    initial_r2t: bool,
    immediate_data: bool,
    first_burst: usize,
    max_burst: usize,
    segment: usize,
}

/// See the module.
pub(in crate::sim) struct Session {
    index: usize,
    shape: SessionShape,
    state: State,
    port: Option<Port>,
    initiator: Initiator,
    agreed: Agreed,
    out: VecDeque<u8>,
    todo: VecDeque<Action>,
    running: BTreeMap<u32, Running>,
    managing: BTreeMap<u32, Managing>,
    pings: BTreeMap<u32, Vec<u8>>,
    texts: usize,
    /// Per disk: how many ORDERED commands there were, twice.
    ranks: Vec<u32>,
    nexus: u32,
    /// The target hands these out in ascending order.
    tsih: u16,
    /// Why the connection may end.
    excuse: Option<&'static str>,
    deaf_until: Instant,
    sabotage: Option<Violation>,
    refusals: u32,
}

impl Session {
    pub(in crate::sim) fn new(index: usize, plan: &Plan) -> Self {
        Self {
            index,
            shape: plan.sessions[index].clone(),
            state: State::Down(Instant::ZERO),
            port: None,
            initiator: Initiator::new(),
            agreed: Agreed {
                initial_r2t: true,
                immediate_data: true,
                first_burst: 0,
                max_burst: 0,
                segment: 0,
            },
            out: VecDeque::new(),
            todo: VecDeque::new(),
            running: BTreeMap::new(),
            managing: BTreeMap::new(),
            pings: BTreeMap::new(),
            texts: 0,
            ranks: vec![0; plan.disks.len()],
            nexus: 0,
            tsih: 0,
            excuse: None,
            deaf_until: Instant::ZERO,
            sabotage: None,
            refusals: 0,
        }
    }

    pub(in crate::sim) fn port(&self) -> Option<Port> {
        self.port
    }

    /// Nothing is under way and nothing is to be done.
    pub(in crate::sim) fn is_idle(&self) -> bool {
        self.todo.is_empty()
            && self.running.is_empty()
            && self.managing.is_empty()
            && self.pings.is_empty()
            && self.texts == 0
            && matches!(self.state, State::Down(_) | State::Up)
    }

    pub(in crate::sim) fn is_logging_in(&self) -> bool {
        matches!(self.state, State::LoggingIn | State::Authenticating(_))
    }

    pub(in crate::sim) fn next_deadline(&self) -> Option<Instant> {
        match self.state {
            State::Down(at) if !self.todo.is_empty() => Some(at),
            State::Doomed(at) => Some(at),
            _ if self.deaf_until > Instant::ZERO && self.port.is_some() => Some(self.deaf_until),
            _ => None,
        }
    }

    /// For a failure's report.
    pub(in crate::sim) fn describe(&self) -> String {
        let waits: Vec<String> = self
            .running
            .iter()
            .map(|(tag, r)| format!("{tag:#x} {:?} at {} of disk {}", r.command, r.lba, r.disk))
            .collect();
        format!(
            "session {}: {:?} on port {:?}, CmdSN {} of {}, {} bytes to send, {} to do, {} functions, {} pings, \
             {} texts, waits for {}",
            self.index,
            self.state,
            self.port,
            self.initiator.cmd_sn,
            self.initiator.max_cmd_sn,
            self.out.len(),
            self.todo.len(),
            self.managing.len(),
            self.pings.len(),
            self.texts,
            waits.join(", ")
        )
    }

    /// Something to be done, now or as soon as there is a session.
    pub(in crate::sim) fn act(&mut self, action: Action, env: &mut Env) {
        let Some(port) = self.port.filter(|_| self.state == State::Up) else {
            match action {
                Action::Command { .. } => self.todo.push_back(action),
                _ => env.tally.count("events that met no session"),
            }
            return;
        };
        match action {
            Action::Logout { .. } => self.log_out(env),
            Action::Finish { .. } => {
                env.tally.count("connections finished by the initiator");
                self.excuse = Some("finished");
                env.peers.close(port);
                self.give_up(env);
                self.state = State::Closing;
            }
            Action::Cut { .. } => {
                env.tally.count("connections reset by the initiator");
                env.peers.abort(port);
                self.hang_up(env);
            }
            Action::Vanish { .. } => {
                env.tally.count("initiators that vanished");
                env.peers.forget(port);
                self.port = None;
                self.hang_up(env);
            }
            Action::Deaf { micros, .. } => self.deaf_until = env.now + Duration::from_micros(micros),
            _ => self.todo.push_back(action),
        }
    }

    pub(in crate::sim) fn log_out(&mut self, env: &mut Env) {
        if self.state == State::Up {
            env.tally.count("logouts");
            let mut logout = self.initiator.logout(0);
            if self.initiator.max_cmd_sn.wrapping_sub(logout.bhs.cmd_sn()) >= 1 << 31 {
                // The command window is closed.
                logout = self.initiator.immediate(logout);
            }
            self.send(&logout);
            self.excuse = Some("logged out");
            self.state = State::LoggingOut;
        }
    }

    /// The machine at the other end is gone.
    pub(in crate::sim) fn machine_lost(&mut self, env: &mut Env) {
        if let Some(port) = self.port {
            // Some peers notice at once, and their reset meets a machine that knows of nothing.
            match env.dice.chance(0.5) {
                true => env.peers.abort(port),
                false => env.peers.forget(port),
            }
            self.hang_up(env);
        }
    }

    /// Somebody of the same name wants to be let in.
    pub(in crate::sim) fn may_be_thrown_out(&mut self) {
        if self.port.is_some() {
            self.excuse.get_or_insert("reinstated");
        }
    }

    /// Somebody of the same name was let in: this session is over, unless it is the later one, whose news came first.
    pub(in crate::sim) fn thrown_out(&mut self, tsih: u16, env: &mut Env) {
        if self.port.is_some() && self.nexus > 0 && self.tsih < tsih {
            for op in self.running.values().filter_map(|running| running.op) {
                env.oracle.bound(op);
            }
        }
    }

    /// A reset that this session sent then is over: what it sent before is over, too. (What other sessions sent may not have
    /// arrived when the reset was carried out.)
    fn was_reset(&self, disk: usize, sent: Tick, env: &mut Env) {
        for running in self.running.values().filter(|r| r.disk == disk && r.look.sent < sent) {
            if let Some(op) = running.op {
                env.oracle.bound(op);
            }
        }
    }

    /// Whether a reset may have ended a command without a word.
    fn may_be_gone(&self, running: &Running, env: &Env) -> bool {
        env.resets
            .iter()
            .any(|reset| reset.disk == running.disk && reset.end.is_none_or(|end| end > running.look.sent))
    }

    /// At the end of a run: forgets commands that a reset has ended.
    pub(in crate::sim) fn drop_reset_commands(&mut self, env: &mut Env) {
        let gone: Vec<u32> = self
            .running
            .iter()
            .filter(|(_, running)| self.may_be_gone(running, env))
            .map(|(&tag, _)| tag)
            .collect();
        for tag in gone {
            env.tally.count("commands that another's reset ended");
            self.give_up_command(tag, env);
        }
    }

    fn give_up_command(&mut self, tag: u32, env: &mut Env) {
        if let Some(Running { op: Some(op), .. }) = self.running.remove(&tag) {
            env.oracle.maybe(op);
        }
    }

    /// Nothing more is heard of what is under way.
    fn give_up(&mut self, env: &mut Env) {
        let ops = std::mem::take(&mut self.running).into_values().filter_map(|running| running.op);
        env.limbo.entry(self.shape.name).or_default().extend(ops);
        self.managing.clear();
        self.pings.clear();
        self.texts = 0;
        self.out.clear();
        self.sabotage = None;
    }

    fn hang_up(&mut self, env: &mut Env) {
        self.give_up(env);
        self.port = None;
        self.nexus = 0;
        self.excuse = None;
        let pause = 1 + env.dice.below(if self.shares_name(&env.plan) { 300 } else { 20 });
        self.state = State::Down(env.now + Duration::from_millis(pause));
    }

    fn shares_name(&self, plan: &Plan) -> bool {
        plan.sessions.iter().filter(|shape| shape.name == self.shape.name).count() > 1
    }

    fn send(&mut self, packet: &Packet) {
        self.out.extend(packet.encode(self.initiator.digests));
    }

    /// One turn. Returns how much was done.
    pub(in crate::sim) fn turn(&mut self, env: &mut Env) -> Result<usize, String> {
        let mut work = 0;
        match self.state {
            State::Down(at) => {
                if at > env.now || self.todo.is_empty() {
                    return Ok(0);
                }
                self.port = Some(env.peers.connect(env.now, self.shape.window));
                self.state = State::Connecting;
                return Ok(1);
            }
            State::Doomed(at) if at <= env.now => {
                if let Some(port) = self.port {
                    env.peers.abort(port);
                }
                self.hang_up(env);
                return Ok(1);
            }
            _ => {}
        }
        let Some(port) = self.port else { return Err("no connection in a state that has one".into()) };
        if self.state == State::Connecting && env.peers.is_open(port) {
            self.begin_login(env);
            env.news.push(News::LoggingIn { session: self.index, name: self.shape.name });
            work += 1;
        }
        if self.deaf_until <= env.now {
            self.deaf_until = Instant::ZERO;
            work += self.hear(port, env)?;
            if self.port.is_none() {
                return Ok(work + 1);
            }
        }
        if self.state == State::Up {
            work += self.work(env);
        }
        if !self.out.is_empty() && env.peers.send(port, &mut self.out) {
            work += 1;
        }
        if self.deaf_until == Instant::ZERO && env.peers.has_ended(port) && self.state != State::Connecting {
            work += self.hear(port, env)?;
            self.ended(port, env)?;
            work += 1;
        } else if self.state == State::Connecting && env.peers.has_ended(port) {
            if !env.draining {
                return Err("a connection is refused though the daemon runs".into());
            }
            env.peers.forget(port);
            self.hang_up(env);
        }
        Ok(work)
    }

    fn ended(&mut self, port: Port, env: &mut Env) -> Result<(), String> {
        if self.port != Some(port) {
            return Ok(());
        }
        let excused = self.excuse.is_some() || env.draining || self.is_damaged(env);
        if !excused {
            return Err(format!("the connection ended without a reason; {}", self.describe()));
        }
        env.tally.count(&format!("connections ended: {}", self.excuse.unwrap_or("drained or damaged")));
        env.peers.close(port);
        self.hang_up(env);
        Ok(())
    }

    fn begin_login(&mut self, env: &Env) {
        self.initiator = Initiator::new();
        let shape = &self.shape;
        self.initiator.cmd_sn = shape.cmd_sn;
        self.initiator.exp_stat_sn = shape.cmd_sn ^ 0x8000_0001;
        self.initiator.isid = [0x80, 0, 0, 0, 0, shape.name];
        if !env.plan.chap {
            return self.negotiate();
        }
        let name = self.name();
        let keys = [
            ("InitiatorName", name.as_str()),
            ("TargetName", scsi::TARGET),
            ("SessionType", "Normal"),
            ("AuthMethod", "CHAP,None"),
        ];
        let login = self.initiator.login(0, None, &keys);
        self.send(&login);
        self.state = State::Authenticating(3);
    }

    fn name(&self) -> String {
        format!("iqn.2026-11.test:initiator-{}", self.shape.name)
    }

    /// The next step of an authentication.
    fn authenticate(&mut self, left: u8, answer: &[u8], env: &mut Env) -> Result<(), String> {
        let login = match left {
            3 => self.initiator.login(0, None, &[("CHAP_A", "7")]),
            2 => {
                let keys = chap::answer(answer)?;
                let keys: Vec<_> = keys.iter().map(|(key, value)| (*key, value.as_str())).collect();
                self.initiator.login(0, Some(1), &keys)
            }
            _ => {
                if !chap::is_proved(answer) {
                    return Err("the target does not prove who it is".into());
                }
                env.tally.count("authentications");
                self.negotiate();
                return Ok(());
            }
        };
        self.send(&login);
        self.state = State::Authenticating(left - 1);
        Ok(())
    }

    /// The operational stage of the login.
    fn negotiate(&mut self) {
        let shape = &self.shape;
        let word = |on: bool| if on { "Yes" } else { "No" };
        let digest = |on: bool| if on { "CRC32C,None" } else { "None,CRC32C" };
        let name = self.name();
        let numbers = [shape.first_burst, shape.max_burst, shape.segment_max, shape.outstanding_r2ts]
            .map(|n| n.to_string());
        // Who we are is said once.
        let introduced = if self.is_logging_in() { 3 } else { 0 };
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
        ];
        let login = self.initiator.login(1, Some(3), &keys[introduced..]);
        self.send(&login);
        self.state = State::LoggingIn;
    }

    fn hear(&mut self, port: Port, env: &mut Env) -> Result<usize, String> {
        let bytes = env.peers.receive(port);
        if bytes.is_empty() || self.state == State::Closing {
            return Ok(bytes.len());
        }
        self.initiator.push(&bytes);
        let mut count = bytes.len();
        loop {
            match self.initiator.next() {
                Ok(Some(packet)) => self.packet(packet, env)?,
                Ok(None) => return Ok(count),
                Err(_) if env.plan.wires.damage > 0.0 => {
                    env.tally.count("digest errors found by the initiator");
                    env.peers.abort(port);
                    self.hang_up(env);
                    return Ok(count);
                }
                Err(_) => return Err("a digest is wrong though the wire damages nothing".into()),
            }
            count += 1;
            if self.port != Some(port) {
                return Ok(count);
            }
        }
    }

    fn packet(&mut self, packet: Packet, env: &mut Env) -> Result<(), String> {
        match packet.opcode() {
            Opcode::LOGIN_RESPONSE => self.login_response(&packet, env),
            Opcode::R2T => self.r2t(&packet, env),
            Opcode::DATA_IN => self.data_in(&packet, env),
            Opcode::SCSI_RESPONSE => self.response(&packet, env),
            Opcode::TASK_MANAGEMENT_RESPONSE => self.managed(&packet, env),
            Opcode::NOP_IN => self.nop_in(packet, env),
            Opcode::TEXT_RESPONSE => {
                self.texts = self.texts.checked_sub(1).ok_or("a text response that nobody asked for")?;
                env.tally.count("texts");
                Ok(())
            }
            Opcode::LOGOUT_RESPONSE => {
                if self.state != State::LoggingOut || packet.bhs.0[2] != 0 {
                    return Err(format!("logout response {} in state {:?}", packet.bhs.0[2], self.state));
                }
                let port = self.port.ok_or("no connection")?;
                env.peers.close(port);
                self.give_up(env);
                self.state = State::Closing;
                Ok(())
            }
            Opcode::ASYNC_MESSAGE => {
                env.tally.count("asynchronous messages");
                self.excuse.get_or_insert("asked to log out");
                self.log_out(env);
                Ok(())
            }
            Opcode::REJECT => self.rejected(&packet, env),
            other => Err(format!("a target does not send {other:?}")),
        }
    }

    fn login_response(&mut self, packet: &Packet, env: &mut Env) -> Result<(), String> {
        if !self.is_logging_in() {
            return Err(format!("login response in state {:?}", self.state));
        }
        let status = packet.bhs.half(36);
        if status != 0 {
            self.refusals += 1;
            if !env.draining {
                return Err(format!("login refused with {status:#06x}"));
            }
            self.excuse = Some("login refused");
            return Ok(());
        }
        if let State::Authenticating(left) = self.state {
            return self.authenticate(left, &packet.data, env);
        }
        let mut agreed = Agreed {
            initial_r2t: true,
            immediate_data: true,
            first_burst: 65_536,
            max_burst: 262_144,
            segment: 8192,
        };
        for pair in pairs(&packet.data) {
            let pair = pair.map_err(|e| format!("login response: {e}"))?;
            let number = || pair.value.parse::<usize>().map_err(|_| format!("login response: {pair:?}"));
            match pair.key {
                "HeaderDigest" => self.initiator.digests.header = pair.value == "CRC32C",
                "DataDigest" => self.initiator.digests.data = pair.value == "CRC32C",
                "InitialR2T" => agreed.initial_r2t = pair.value == "Yes",
                "ImmediateData" => agreed.immediate_data = pair.value == "Yes",
                "FirstBurstLength" => agreed.first_burst = number()?,
                "MaxBurstLength" => agreed.max_burst = number()?,
                "MaxRecvDataSegmentLength" => agreed.segment = number()?,
                _ => {}
            }
        }
        self.agreed = agreed;
        let wanted = Digests { header: self.shape.header_digest, data: self.shape.data_digest };
        if self.initiator.digests != wanted {
            return Err(format!("digests {:?} instead of {wanted:?}", self.initiator.digests));
        }
        if wanted.header
            && wanted.data
            && let Some(port) = self.port
        {
            env.peers.set_digested(port);
        }
        env.nexuses += 1;
        (self.nexus, self.tsih) = (env.nexuses, packet.bhs.half(14));
        self.ranks.fill(0);
        self.state = State::Up;
        env.tally.count("logins");
        let name = self.shape.name;
        let tick = env.oracle.tick();
        for op in env.limbo.remove(&name).unwrap_or_default() {
            env.oracle.maybe(op);
        }
        for reset in env.resets.iter_mut().filter(|reset| reset.name == name && reset.end.is_none()) {
            reset.end = Some(tick);
        }
        env.news.push(News::LoggedIn { session: self.index, name, tsih: self.tsih });
        Ok(())
    }
}
