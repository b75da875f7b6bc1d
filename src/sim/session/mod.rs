// SPDX-License-Identifier: GPL-2.0-or-later
//! An initiator: it keeps to the protocol unless it is told not to, and takes nothing that the target says for granted.
//!
//! Its session has one connection or several ([`link`]). Each request travels on any of them, in the order of CmdSN for
//! all. When one ends while others go on, the initiator makes it again, or logs it out over another; from then on the
//! target has done with what it had taken on it, and what it had not taken is sent again elsewhere (RFC 7143 7.2.1).

mod answers;
mod audit;
mod link;
mod requests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::ledger::Ledger;
use super::library::{LibraryHistory, RequestId};
use super::media::Whereabouts;
use super::oracle::{Look, OpId, Oracle, Tick};
use super::peer::{Peers, Port};
use super::plan::{Action, Command, Function, Plan, SessionShape};
use super::tally::Tally;
use crate::fabrics::iscsi::initiator::{Initiator, Packet};
use crate::ports::memory::Dice;
use crate::time::Instant;
use crate::wire::iscsi::{LogoutRequestHeader, NO_TAG, NopOutHeader, RequestNumbers, ResponseNumbers};
use link::{Link, State};

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
    /// The same of commands for the library.
    pub(in crate::sim) library_limbo: BTreeMap<u8, Vec<RequestId>>,
    /// What the library was asked for.
    pub(in crate::sim) library: Option<LibraryHistory>,
    pub(in crate::sim) resets: Vec<Reset>,
    /// By disk.
    pub(in crate::sim) ledgers: Vec<Ledger>,
    /// Where the medium of each disk is.
    pub(in crate::sim) whereabouts: Vec<Whereabouts>,
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

impl Env {
    /// A command for the library is over, and nobody said how it ended.
    fn lose_request(&mut self, request: RequestId) {
        if let Some(library) = &mut self.library {
            library.lost(request);
        }
    }
}

struct Running {
    packet: Packet,
    /// Its connection.
    at: usize,
    disk: usize,
    lba: u64,
    command: Command,
    op: Option<OpId>,
    /// Its name if it is for the library.
    request: Option<RequestId>,
    look: Look,
    out: Vec<u8>,
    wanted: usize,
    got: Vec<u8>,
    data_sn: u32,
    /// It was spoilt on purpose.
    spoilt: bool,
    /// Its connection has ended, and it is not known whether the target has it.
    lost: bool,
    /// It may have ended without a word: it was sent twice, or a function whose answer is lost, or which was for
    /// commands before it on another connection, may have ended it.
    doubtful: bool,
}

struct Managing {
    function: Function,
    at: usize,
    disk: usize,
    /// Task tags that it concerns.
    tasks: Vec<u32>,
    immediate: bool,
    sent: Tick,
    reset: Vec<usize>,
}

/// A request that the target has not acknowledged by ExpCmdSN, with the Data-Out that followed it unasked.
struct Sent {
    at: usize,
    cmd_sn: u32,
    tag: u32,
    packets: Vec<Packet>,
    /// The resets that it asked for, if nobody waits for its answer any more.
    reset: Vec<usize>,
}

/// What a logout closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Closing {
    Session,
    Link(usize),
}

/// What was agreed on.
#[derive(Clone, Copy)]
struct Agreed {
    initial_r2t: bool,
    immediate_data: bool,
    first_burst: usize,
    max_burst: usize,
    segment: usize,
    connections: usize,
}

impl Default for Agreed {
    fn default() -> Self {
        Self {
            initial_r2t: true,
            immediate_data: true,
            first_burst: 65_536,
            max_burst: 262_144,
            segment: 8192,
            connections: 1,
        }
    }
}

/// See the module.
pub(in crate::sim) struct Session {
    index: usize,
    shape: SessionShape,
    /// Its initiator's name.
    name: String,
    /// Its connections, as many as it wishes for.
    links: Vec<Link>,
    agreed: Agreed,
    todo: VecDeque<Action>,
    running: BTreeMap<u32, Running>,
    managing: BTreeMap<u32, Managing>,
    /// By task tag: the connection, and what must come back.
    pings: BTreeMap<u32, (usize, Vec<u8>)>,
    texts: BTreeMap<u32, usize>,
    /// Where each was sent, and what for.
    logouts: BTreeMap<u32, (usize, Closing)>,
    /// Pings that fill a place in the order, which may not be answered.
    plugs: BTreeSet<u32>,
    sent: Vec<Sent>,
    /// Tasks aborted by a function that was answered on another connection.
    overtaken: BTreeSet<u32>,
    /// Streams that the target has to close, because their connections were made again.
    left: Vec<Port>,
    /// Per disk: how many ORDERED commands there were, twice.
    ranks: Vec<u32>,
    /// 0: there is no session.
    nexus: u32,
    /// The target hands these out in ascending order.
    tsih: u16,
    cmd_sn: u32,
    itt: u32,
    exp_cmd_sn: u32,
    max_cmd_sn: u32,
    /// Why the session may end.
    excuse: Option<&'static str>,
    /// Most connections so far.
    most: usize,
}

/// Whether a serial number is another one or behind it (RFC 1982).
fn reaches(number: u32, other: u32) -> bool {
    number.wrapping_sub(other) < 1 << 31
}

impl Session {
    pub(in crate::sim) fn new(index: usize, plan: &Plan) -> Self {
        let shape = plan.sessions[index].clone();
        let name = match plan.one_initiator {
            true => "iqn.2026-11.test:initiator".into(),
            false => format!("iqn.2026-11.test:initiator-{}", shape.name),
        };
        Self {
            index,
            name,
            links: (0..shape.connections.max(1)).map(|_| Link::new()).collect(),
            shape,
            agreed: Agreed::default(),
            todo: VecDeque::new(),
            running: BTreeMap::new(),
            managing: BTreeMap::new(),
            pings: BTreeMap::new(),
            texts: BTreeMap::new(),
            logouts: BTreeMap::new(),
            plugs: BTreeSet::new(),
            sent: Vec::new(),
            overtaken: BTreeSet::new(),
            left: Vec::new(),
            ranks: vec![0; plan.disks.len()],
            nexus: 0,
            tsih: 0,
            cmd_sn: 0,
            itt: 0,
            exp_cmd_sn: 0,
            max_cmd_sn: 0,
            excuse: None,
            most: 0,
        }
    }

    /// Nothing is under way and nothing is to be done.
    pub(in crate::sim) fn is_idle(&self) -> bool {
        let complete = match self.nexus {
            0 => self.links.iter().all(Link::is_down),
            _ => self.links.iter().take(self.agreed.connections).all(Link::is_up),
        };
        complete
            && self.todo.is_empty()
            && self.running.is_empty()
            && self.managing.is_empty()
            && self.pings.is_empty()
            && self.texts.is_empty()
            && self.logouts.is_empty()
            && self.left.is_empty()
    }

    /// Whether it logs in as a new session.
    pub(in crate::sim) fn is_logging_in(&self) -> bool {
        self.nexus == 0 && self.links.iter().any(Link::is_logging_in)
    }

    pub(in crate::sim) fn next_deadline(&self) -> Option<Instant> {
        let of = |(at, link): (usize, &Link)| match link.state {
            State::Down(then) if self.wants(at) => Some(then),
            State::Doomed(then) => Some(then),
            _ if link.deaf_until > Instant::ZERO && link.port.is_some() => Some(link.deaf_until),
            _ => None,
        };
        self.links.iter().enumerate().filter_map(of).min()
    }

    /// For a failure's report.
    pub(in crate::sim) fn describe(&self) -> String {
        let waits: Vec<String> = self
            .running
            .iter()
            .map(|(tag, r)| {
                let lost = if r.lost { " (lost)" } else { "" };
                format!("{tag:#x} {:?} at {} of disk {} on {}{lost}", r.command, r.lba, r.disk, r.at)
            })
            .collect();
        let links: Vec<String> = self
            .links
            .iter()
            .map(|link| format!("{:?} on port {:?} with {} to send", link.state, link.port, link.out.len()))
            .collect();
        format!(
            "session {}: TSIH {}, {}; CmdSN {} of {}, {} acknowledged, {} to do, {} functions, {} pings, {} texts, \
             logouts {:?}, streams left {:?}, waits for {}",
            self.index,
            self.tsih,
            links.join(", "),
            self.cmd_sn,
            self.max_cmd_sn,
            self.exp_cmd_sn,
            self.todo.len(),
            self.managing.len(),
            self.pings.len(),
            self.texts.len(),
            self.logouts,
            self.left,
            waits.join(", ")
        )
    }

    /// Its streams.
    pub(in crate::sim) fn ports(&self) -> impl Iterator<Item = Port> {
        self.links.iter().filter_map(|link| link.port)
    }

    /// Something to be done, now or as soon as there is a session.
    pub(in crate::sim) fn act(&mut self, action: Action, env: &mut Env) {
        let at = match action {
            Action::Logout { connection, .. }
            | Action::Finish { connection, .. }
            | Action::Cut { connection, .. }
            | Action::Vanish { connection, .. }
            | Action::Reinstate { connection, .. }
            | Action::Deaf { connection, .. } => Some(connection % self.links.len()),
            _ => None,
        };
        let up = match at {
            Some(at) => self.links[at].is_up(),
            None => self.links.iter().any(Link::is_up),
        };
        if !up {
            match action {
                Action::Command { .. } => self.todo.push_back(action),
                _ => env.tally.count("events that met no session"),
            }
            return;
        }
        let at = at.unwrap_or_default();
        let Some(port) = self.links[at].port.or_else(|| self.ports().next()) else { return };
        match action {
            Action::Logout { .. } => self.log_out(at, env),
            Action::Close { connection, over, .. } => {
                let len = self.links.len();
                self.log_out_link(connection % len, over % len, env);
            }
            Action::Finish { .. } => {
                env.tally.count("connections finished by the initiator");
                self.links[at].excuse = Some("finished");
                self.close(at, env);
                self.look_for_life(env);
            }
            Action::Cut { .. } => {
                env.tally.count("connections reset by the initiator");
                env.peers.abort(port);
                self.hang_up(at, env);
                self.clean_up(at, env);
            }
            Action::Vanish { .. } => {
                env.tally.count("initiators that vanished");
                env.peers.forget(port);
                self.hang_up(at, env);
                self.clean_up(at, env);
            }
            Action::Reinstate { .. } => {
                if self.links.iter().filter(|link| link.is_up()).count() < 2 {
                    return env.tally.count("events that met no session");
                }
                env.tally.count("connections made again beside their old streams");
                self.left.push(port);
                self.hang_up(at, env);
                self.links[at].state = State::Down(env.now);
            }
            Action::Deaf { micros, .. } => {
                self.links[at].deaf_until = env.now + Duration::from_micros(micros);
            }
            _ => self.todo.push_back(action),
        }
    }

    /// Whether the command window is open.
    fn has_room(&self) -> bool {
        reaches(self.max_cmd_sn, self.cmd_sn)
    }

    /// One of the connections that can take a request.
    fn pick(&self, env: &mut Env) -> Option<usize> {
        let takes = |link: &Link| link.is_up() && link.out.len() <= 1 << 18;
        let up: Vec<usize> = (0..self.links.len()).filter(|&at| takes(&self.links[at])).collect();
        match up.len() {
            0 => None,
            1 => Some(up[0]),
            len => Some(up[usize::try_from(env.dice.below(len as u64)).expect("few")]),
        }
    }

    /// Logs the session out.
    fn log_out(&mut self, at: usize, env: &mut Env) {
        if self.nexus > 0 && self.links[at].is_up() {
            env.tally.count("logouts");
            let logout = self.logout(at, 0, at);
            self.logouts.insert(logout.bhs.itt(), (at, Closing::Session));
            self.request(at, vec![logout]);
            self.excuse = Some("logged out");
            for at in 0..self.links.len() {
                self.unorder(at, env);
                if self.links[at].is_up() {
                    self.links[at].state = State::LoggingOut;
                }
            }
        }
    }

    /// A logout request for connection `of`, to be sent on `at`.
    fn logout(&mut self, at: usize, reason: u8, of: usize) -> Packet {
        let cid = link::cid(of);
        // It may not wait for what was lost with another connection.
        let closed = !self.has_room() || self.has_hole();
        self.make(at, |initiator| {
            let mut logout = initiator.logout(reason);
            logout.edit(|logout: &mut LogoutRequestHeader| logout.cid = cid);
            if closed { initiator.immediate(logout) } else { logout }
        })
    }

    /// Logs one connection out, over itself or another one.
    fn log_out_link(&mut self, of: usize, over: usize, env: &mut Env) {
        let asked = self.logouts.values().any(|(_, what)| *what == Closing::Link(of));
        let fit = self.links[over].is_up() && (self.links[of].is_up() || self.links[of].is_down());
        if !fit || asked || self.nexus == 0 || of >= self.agreed.connections {
            return env.tally.count("events that met no session");
        }
        let logout = self.logout(over, 1, of);
        self.logouts.insert(logout.bhs.itt(), (over, Closing::Link(of)));
        self.request(over, vec![logout]);
        self.unorder(of, env);
        if self.links[of].is_up() {
            self.links[of].excuse = Some("logged out");
            self.links[of].state = State::LoggingOut;
        }
    }

    /// After the loss of a connection: some initiators make sure over another one that the target has noticed.
    fn clean_up(&mut self, lost: usize, env: &mut Env) {
        if self.nexus > 0
            && let Some(over) = self.pick(env)
            && env.dice.chance(0.3)
        {
            self.log_out_link(lost, over, env);
        }
    }

    /// The machine at the other end is gone.
    pub(in crate::sim) fn machine_lost(&mut self, env: &mut Env) {
        for at in 0..self.links.len() {
            if let Some(port) = self.links[at].port {
                // Some peers notice at once, and their reset meets a machine that knows of nothing.
                match env.dice.chance(0.5) {
                    true => env.peers.abort(port),
                    false => env.peers.forget(port),
                }
                self.hang_up(at, env);
            }
        }
    }

    /// Somebody of the same name wants to be let in.
    pub(in crate::sim) fn may_be_thrown_out(&mut self) {
        if self.ports().next().is_some() {
            self.excuse.get_or_insert("reinstated");
        }
    }

    /// Somebody of the same name was let in: this session is over, unless it is the later one, whose news came first.
    pub(in crate::sim) fn thrown_out(&mut self, tsih: u16, env: &mut Env) {
        if self.nexus > 0 && self.tsih < tsih {
            for op in self.running.values().filter_map(|running| running.op) {
                env.oracle.bound(op);
            }
        }
    }

    /// A session begins.
    fn logged_in(&mut self, tsih: u16, env: &mut Env) {
        env.nexuses += 1;
        (self.nexus, self.tsih) = (env.nexuses, tsih);
        self.ranks.fill(0);
        env.tally.count("logins");
        let name = self.shape.name;
        let tick = env.oracle.tick();
        for op in env.limbo.remove(&name).unwrap_or_default() {
            env.oracle.maybe(op);
        }
        for request in env.library_limbo.remove(&name).unwrap_or_default() {
            env.lose_request(request);
        }
        for reset in env.resets.iter_mut().filter(|reset| reset.name == name && reset.end.is_none()) {
            reset.end = Some(tick);
        }
        env.news.push(News::LoggedIn { session: self.index, name, tsih });
    }

    /// A reset that this session sent then is over: what it sent before is over, too. (What other sessions sent may not
    /// have arrived when the reset was carried out.)
    fn was_reset(&self, disk: usize, sent: Tick, env: &mut Env) {
        for running in self.running.values().filter(|r| r.disk == disk && r.look.sent < sent) {
            if let Some(op) = running.op {
                env.oracle.bound(op);
            }
        }
    }

    /// Whether a command may have ended without a word, by a reset or with a connection.
    fn may_be_gone(&self, running: &Running, env: &Env) -> bool {
        let reset =
            |reset: &Reset| reset.disk == running.disk && reset.end.is_none_or(|end| end > running.look.sent);
        running.lost || running.doubtful || env.resets.iter().any(reset)
    }

    /// At the end of a run: forgets commands that have ended without a word.
    pub(in crate::sim) fn drop_reset_commands(&mut self, env: &mut Env) {
        let gone: Vec<(u32, bool)> = self
            .running
            .iter()
            .filter(|(_, running)| !running.lost && self.may_be_gone(running, env))
            .map(|(&tag, running)| (tag, running.doubtful))
            .collect();
        for (tag, doubtful) in gone {
            env.tally.count(match doubtful {
                true => "commands sent twice or aborted without an answer",
                false => "commands that another's reset ended",
            });
            self.give_up_command(tag, env);
        }
    }

    fn give_up_command(&mut self, tag: u32, env: &mut Env) {
        let Some(Running { op, request, .. }) = self.running.remove(&tag) else { return };
        op.into_iter().for_each(|op| env.oracle.maybe(op));
        request.into_iter().for_each(|request| env.lose_request(request));
    }

    /// The commands of a connection may be aborted with it: those that are ORDERED keep nothing in order any more.
    fn unorder(&self, at: usize, env: &mut Env) {
        for running in self.running.values().filter(|running| running.at == at) {
            env.oracle.abort(running.look.order);
        }
    }

    // The end of connections.

    /// A connection is over for us: nothing more is heard of what is under way on it.
    fn disown(&mut self, at: usize, env: &mut Env) {
        let others = self.links.iter().enumerate().any(|(other, link)| other != at && link.is_alive());
        let others = others && !env.draining && self.links[at].state != State::LoggingOut;
        if self.links[at].is_alive() && others {
            env.tally.count("connections lost while others went on");
        }
        for running in self.running.values_mut().filter(|running| running.at == at && !running.lost) {
            if others {
                env.tally.count("commands lost with their connection");
            }
            running.lost = true;
        }
        self.unorder(at, env);
        self.pings.retain(|_, (on, _)| *on != at);
        self.texts.retain(|_, on| *on != at);
        let functions: Vec<u32> =
            self.managing.iter().filter(|(_, managing)| managing.at == at).map(|(&tag, _)| tag).collect();
        for tag in functions {
            let Some(Managing { tasks, reset, .. }) = self.managing.remove(&tag) else { continue };
            for task in tasks {
                self.running.get_mut(&task).into_iter().for_each(|running| running.doubtful = true);
            }
            self.sent
                .iter_mut()
                .filter(|sent| sent.tag == tag)
                .for_each(|sent| sent.reset.clone_from(&reset));
        }
        let mut closing = Vec::new();
        self.logouts.retain(|_, (on, what)| {
            if *on == at {
                closing.push(*what);
            }
            *on != at
        });
        for what in closing {
            if let Closing::Link(of) = what {
                self.links[of].threatened = true;
            }
            let gone = |other: usize| match what {
                Closing::Session => true,
                Closing::Link(of) => of == other,
            };
            // Whether the target has done so is unknown: those connections are made again.
            for other in (0..self.links.len()).filter(|&other| other != at && gone(other)) {
                if self.links[other].state == State::LoggingOut {
                    self.links[other].port.into_iter().for_each(|port| env.peers.abort(port));
                    self.hang_up(other, env);
                }
            }
        }
    }

    /// The stream of a connection is no more.
    fn hang_up(&mut self, at: usize, env: &mut Env) {
        self.disown(at, env);
        let then = self.pause(env);
        let link = &mut self.links[at];
        link.silence();
        (link.port, link.excuse, link.state) = (None, None, State::Down(then));
        self.look_for_life(env);
        if self.links.iter().all(Link::is_down) {
            self.excuse = None;
        }
    }

    /// Whether the target may wait for a request that was lost with its connection.
    fn has_hole(&self) -> bool {
        self.sent.iter().any(|sent| !self.links[sent.at].is_alive())
    }

    /// A session without connections is none. One that is being closed while requests are missing is given up.
    fn look_for_life(&mut self, env: &mut Env) {
        if self.has_hole() && !self.links.iter().any(Link::is_up) {
            let stuck = (0..self.links.len()).find(|&at| self.links[at].state == State::LoggingOut);
            if let Some(at) = stuck {
                self.links[at].port.into_iter().for_each(|port| env.peers.abort(port));
                return self.hang_up(at, env);
            }
        }
        if !self.links.iter().any(Link::is_alive) {
            self.over(env);
        }
    }

    /// The session is over: nothing more is heard of what is under way.
    fn over(&mut self, env: &mut Env) {
        (self.nexus, self.most) = (0, 0);
        let running = std::mem::take(&mut self.running);
        let ops = running.values().filter_map(|running| running.op);
        env.limbo.entry(self.shape.name).or_default().extend(ops);
        let requests = running.values().filter_map(|running| running.request);
        env.library_limbo.entry(self.shape.name).or_default().extend(requests);
        self.managing.clear();
        self.pings.clear();
        self.texts.clear();
        self.logouts.clear();
        self.plugs.clear();
        self.sent.clear();
        self.overtaken.clear();
        for port in self.left.drain(..) {
            env.peers.abort(port);
        }
        for at in 0..self.links.len() {
            self.links[at].threatened = false;
            match self.links[at].state {
                State::Connecting | State::LoggingIn | State::Authenticating(_) => {
                    self.links[at].port.into_iter().for_each(|port| env.peers.abort(port));
                    self.hang_up(at, env);
                }
                State::LoggingOut => self.close(at, env),
                _ => {}
            }
        }
    }

    /// The target has ended a connection, and has said so: what it had taken by then has no effect any more. What it
    /// had not is sent again, lest the others wait for it.
    fn settle(&mut self, at: usize, env: &mut Env) {
        let (again, rest) = std::mem::take(&mut self.sent).into_iter().partition(|sent| sent.at == at);
        self.sent = rest;
        let again: Vec<Sent> = again;
        let tags: Vec<u32> =
            self.running.iter().filter(|(_, r)| r.at == at && r.lost).map(|(&tag, _)| tag).collect();
        for tag in tags {
            if !again.iter().any(|sent| sent.tag == tag) {
                env.tally.count("lost commands that the target had");
                self.give_up_command(tag, env);
            }
        }
        for sent in again {
            let Some(to) = self.pick(env) else { return };
            let end = env.oracle.tick();
            sent.reset.iter().for_each(|&reset| env.resets[reset].end = Some(end));
            let packets = match self.running.get_mut(&sent.tag) {
                Some(running) => {
                    env.tally.count("lost commands sent again on another connection");
                    (running.at, running.lost, running.doubtful) = (to, false, true);
                    (running.data_sn, running.got) = (0, Vec::new());
                    sent.packets
                }
                None => {
                    env.tally.count("lost requests replaced by a ping");
                    self.itt += 1;
                    self.plugs.insert(self.itt);
                    let (itt, ttt) = (self.itt, NO_TAG);
                    let numbers = RequestNumbers { cmd_sn: sent.cmd_sn, exp_stat_sn: 0 };
                    vec![Packet::new(&NopOutHeader { immediate: false, lun: 0, itt, ttt, numbers })]
                }
            };
            let stat_sn = self.links[to].initiator.exp_stat_sn;
            self.request(to, packets.into_iter().map(|packet| packet.exp_stat_sn(stat_sn)).collect());
        }
    }

    fn shares_name(&self, plan: &Plan) -> bool {
        plan.sessions.iter().filter(|shape| shape.name == self.shape.name).count() > 1
    }

    // What connections share.

    /// Makes requests for a connection, with the CmdSN and the task tags of the session.
    fn make<T>(&mut self, at: usize, what: impl FnOnce(&mut Initiator) -> T) -> T {
        let initiator = &mut self.links[at].initiator;
        (initiator.cmd_sn, initiator.itt) = (self.cmd_sn, self.itt);
        let made = what(initiator);
        (self.cmd_sn, self.itt) = (initiator.cmd_sn, initiator.itt);
        made
    }

    /// Sends a request, with what follows it unasked.
    fn request(&mut self, at: usize, packets: Vec<Packet>) {
        for packet in &packets {
            self.links[at].send(packet);
        }
        let first = &packets[0].bhs;
        if !first.is_immediate() {
            let (cmd_sn, tag) = (first.request_numbers().cmd_sn, first.itt());
            self.sent.push(Sent { at, cmd_sn, tag, packets, reset: Vec::new() });
        }
    }

    /// Takes over what a PDU says of the command window.
    fn take_window(&mut self, packet: &Packet, env: &Env) -> Result<(), String> {
        let ResponseNumbers { exp_cmd_sn: exp, max_cmd_sn: max, .. } = packet.bhs.response_numbers();
        if !reaches(self.cmd_sn, exp) {
            return Err(format!("ExpCmdSN {exp}, but {} is the next one", self.cmd_sn));
        }
        if max.wrapping_sub(exp).wrapping_add(1) > env.plan.queue_depth {
            return Err(format!("a window from {exp} to {max}"));
        }
        if reaches(exp, self.exp_cmd_sn) {
            self.exp_cmd_sn = exp;
            self.sent.retain(|sent| reaches(sent.cmd_sn, exp));
        }
        if reaches(max, self.max_cmd_sn) {
            self.max_cmd_sn = max;
        }
        Ok(())
    }

    /// Whether a connection is to be made.
    fn wants(&self, at: usize) -> bool {
        if self.nexus == 0 {
            return at == 0 && !self.todo.is_empty() && self.links.iter().all(Link::is_down);
        }
        let asked = |what: &Closing| matches!(what, Closing::Session) || *what == Closing::Link(at);
        at < self.agreed.connections
            && self.links.iter().any(Link::is_up)
            && !self.logouts.values().any(|(_, what)| asked(what))
    }

    /// One turn. Returns how much was done.
    pub(in crate::sim) fn turn(&mut self, env: &mut Env) -> Result<usize, String> {
        let mut work = 0;
        for at in 0..self.links.len() {
            work += self.turn_of(at, env)?;
        }
        let left = std::mem::take(&mut self.left);
        for port in left {
            work += env.peers.receive(port).len();
            match env.peers.has_ended(port) {
                true => env.peers.abort(port),
                false => self.left.push(port),
            }
        }
        Ok(work)
    }
}
