// SPDX-License-Identifier: GPL-2.0-or-later
//! One core's share of the target: its streams, connections, tasks and handles to the logical units, run to completion
//! turn by turn.

mod connections;
mod report;
mod shortage;
#[cfg(test)]
mod tests;
mod waiters;

use std::collections::{HashMap, VecDeque};
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Wake;
use std::time::Duration;

use log::warn;
use slab::Slab;
use smallvec::SmallVec;

use self::waiters::{Progress, Shortage};
use super::tasks::{AfterAbort, NexusKey, Notice, PeerMessage, TaskManager, Transports, UnitKey};
use crate::activity;
use crate::adapters::iscsi::sessions::{Seat, SessionName, Sessions, Waiter};
use crate::adapters::iscsi::topology::Topology;
use crate::fabrics::iscsi::{ConnectionKey, LoginRequest, Session};
use crate::io::Error;
use crate::memory::{Arena, MemoryAccount};
use crate::net::{Detached, StreamEvent, StreamHost, StreamId, StreamMap};
use crate::reactor::{Load, Mailbox, Poller, Sender};
use crate::scsi::{Change, NexusId, Transport};
use crate::time::{Instant, Wheel};

/// Seconds that an initiator is given to log out when the daemon stops.
const LOGOUT_SECONDS: u16 = 3;

/// How often the stores are looked after.
const INSPECTION: Duration = Duration::from_secs(1);

/// When a stopping daemon ends the sessions of those who have not logged out.
const DRAIN_TIME: Duration = Duration::from_secs(4);

/// How long after that it cuts off whoever is still there.
const DROP_TIME: Duration = Duration::from_secs(2);

/// Most connections of a core that have not logged in; the oldest is cut for the next.
const LOGINS_MAX: usize = 4096;

/// What cores and the control plane tell each other.
pub enum Message {
    /// End the session of this nexus: its initiator has logged in again.
    Reinstate(NexusId),
    /// A stream for this core's host of that number: one that wants to join a session that lives here, or a new one.
    Adopt {
        /// Index of the host.
        host: usize,
        /// The stream.
        stream: Detached,
        /// All that it has received.
        bytes: Vec<u8>,
        /// It is counted here already.
        seat: Seat,
    },
    /// What has come in at another core for a stream of this one.
    Stray {
        /// Index of the host.
        host: usize,
        /// As the host has given it.
        frame: Vec<u8>,
    },
    /// The session that a login waited for has ended.
    SessionEnded(Waiter),
    /// There is memory for which the session of this nexus waits.
    MemoryFree(NexusId),
    /// Reset logical units, then tell `from`.
    Reset {
        /// The logical units.
        units: SmallVec<[UnitKey; 4]>,
        /// The core that asks.
        from: usize,
        /// To be given back.
        ticket: usize,
    },
    /// A reset that was asked for is done.
    ResetDone(usize),
    /// What another core's task manager says to this core's.
    Tasks(PeerMessage),
    /// End all sessions with this target: TARGET COLD RESET (RFC 7143 11.5.1).
    ColdReset(String),
    /// Change the state of logical units, and tell whether that has been refused for any.
    Change(Vec<(UnitKey, Change)>, std::sync::mpsc::SyncSender<bool>),
    /// Tell what there is, but for sessions.
    Report(std::sync::mpsc::SyncSender<CoreReport>),
    /// Tell of some sessions.
    Sessions(SessionsRequest),
    /// A new topology is in force.
    Topology(Arc<Topology>),
    /// Stop: let initiators log out, finish, flush.
    Drain,
}

/// A session, or a stream that has not logged in yet.
struct SessionEntry {
    iscsi: Session,
    /// By connection key.
    streams: SmallVec<[Option<Stream>; 1]>,
    established: Option<Established>,
    /// To be served this turn.
    touched: bool,
    /// It is on the list of those with commands that wait for memory.
    waiting: bool,
    /// All that is held for it.
    account: MemoryAccount,
    progress: Progress,
}

/// The stream of a connection.
struct Stream {
    /// Never reused, unlike the place of the connection.
    serial: u64,
    host: usize,
    id: StreamId,
    /// Counted among the streams of this core while there is a connection on it that is a load.
    seat: Option<Seat>,
    wanted: Option<LoginRequest>,
    /// What has come in is left where it is, for want of memory.
    unread: bool,
    /// Everything is over but the sending of what is queued.
    closing: bool,
    reset: bool,
    closed: bool,
}

/// A session in the full feature phase.
struct Established {
    name: SessionName,
    nexus: NexusId,
    tsih: u16,
    /// `None` for discovery sessions, which have no commands.
    key: Option<NexusKey>,
}

/// Changes that the operator waits for.
struct PendingChange {
    left: usize,
    refused: bool,
    to: std::sync::mpsc::SyncSender<bool>,
}

/// A session whose tasks have yet to end.
struct Ending {
    name: SessionName,
    nexus: NexusId,
    tsih: u16,
}

/// Tells the core of a session that there is memory for which it waits.
struct MemoryFree {
    core: Sender<Message>,
    nexus: NexusId,
}

impl Wake for MemoryFree {
    fn wake(self: Arc<Self>) {
        self.core.send(Message::MemoryFree(self.nexus));
    }
}

/// How far a stop has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    No,
    Draining(Instant),
    /// Initiators that had not logged out by then have been told that they are dropped.
    Dropping(Instant),
    Flushing,
    Done,
}

/// What a shard is made of.
pub struct Parts {
    /// Its number, and its place among `peers`.
    pub core: usize,
    /// Its payload memory.
    pub arena: Arena,
    /// Where byte streams come from, with their names.
    pub hosts: Vec<(String, Box<dyn StreamHost>)>,
    /// The logical units are in it already.
    pub tasks: TaskManager,
    /// What is exported.
    pub topology: Arc<Topology>,
    /// All sessions of the daemon.
    pub sessions: Arc<Sessions>,
    /// What comes in from other threads.
    pub mailbox: Mailbox<Message>,
    /// The mailboxes of all cores, this one's included.
    pub peers: Vec<Sender<Message>>,
    /// How many cores have not flushed everything yet.
    pub left: Arc<AtomicUsize>,
    /// More descriptors that wake this core: those of its stores.
    pub wake_fds: Vec<RawFd>,
}

pub use report::{
    ConnectionReport, CoreCounters, CoreReport, SESSIONS_PER_TURN, SessionReport, SessionsPart,
    SessionsRequest, UnitReport,
};

/// See the module.
pub struct Shard {
    parts: Parts,
    sessions: Slab<SessionEntry>,
    /// Session and connection of each stream, by host.
    by_stream: Vec<StreamMap<(usize, ConnectionKey)>>,
    /// Session by nexus key, and by nexus.
    by_key: Vec<Option<usize>>,
    by_nexus: HashMap<NexusId, usize>,
    ending: Slab<Ending>,
    pending_changes: Slab<PendingChange>,
    /// How many of the sessions have not logged in, or have ended and wait for their streams to close.
    logins: usize,
    next_serial: u64,
    touched: Vec<usize>,
    /// Connections that have more to be read.
    unfinished: VecDeque<(usize, ConnectionKey)>,
    events: Vec<StreamEvent>,
    timers: Wheel,
    shortage: Shortage,
    load: Load,
    stop: Stop,
    now: Instant,
    /// When the stores are looked after next; the first core does it for all.
    inspection: Option<Instant>,
}

struct Lookup<'a> {
    sessions: &'a mut Slab<SessionEntry>,
    by_key: &'a [Option<usize>],
}

impl Transports for Lookup<'_> {
    fn transport(&mut self, nexus: NexusKey) -> Option<&mut dyn Transport> {
        let index = self.by_key.get(nexus.0).copied().flatten()?;
        let session = &mut self.sessions[index].iscsi;
        session.note_activity();
        Some(session)
    }
}

impl Shard {
    /// A shard that is ready for its first turn.
    pub fn new(parts: Parts) -> Self {
        let inspection = (parts.core == 0).then_some(Instant::ZERO);
        Self {
            inspection,
            by_stream: parts.hosts.iter().map(|_| StreamMap::default()).collect(),
            parts,
            sessions: Slab::new(),
            by_key: Vec::new(),
            by_nexus: HashMap::new(),
            ending: Slab::new(),
            pending_changes: Slab::new(),
            logins: 0,
            next_serial: 0,
            touched: Vec::new(),
            unfinished: VecDeque::new(),
            events: Vec::new(),
            timers: Wheel::new(),
            shortage: Shortage::default(),
            load: Load::default(),
            stop: Stop::No,
            now: Instant::ZERO,
        }
    }

    /// The logical units that could not be flushed at the end, and why.
    pub fn unflushed(&self) -> &[(UnitKey, Error)] {
        self.parts.tasks.unflushed()
    }

    fn touch(&mut self, index: usize) {
        if !std::mem::replace(&mut self.sessions[index].touched, true) {
            self.touched.push(index);
        }
    }

    // Messages.

    fn take_messages(&mut self) -> usize {
        let mut count = 0;
        while let Some(message) = self.parts.mailbox.take() {
            count += 1;
            match message {
                Message::Reinstate(nexus) => {
                    if let Some(&index) = self.by_nexus.get(&nexus) {
                        self.sessions[index].iscsi.close("the initiator has logged in again");
                        self.touch(index);
                    }
                }
                Message::Adopt { host, stream, bytes, seat } => self.adopt(host, stream, &bytes, seat),
                Message::Stray { host, frame } => self.parts.hosts[host].1.give(frame),
                Message::SessionEnded(waiter) => {
                    if let Some((index, key)) = self.find(waiter.connection) {
                        self.admit(index, key);
                        self.touch(index);
                    }
                }
                Message::MemoryFree(nexus) => {
                    if let Some(&index) = self.by_nexus.get(&nexus) {
                        self.touch(index);
                    }
                }
                Message::Reset { units, from, ticket } => {
                    // The ticket of a reset and its origin, in one number of our own.
                    let after = AfterAbort::Tell(RESET | (from as u64) << 32 | ticket as u64);
                    self.parts.tasks.reset(self.now, units, after);
                }
                Message::ResetDone(ticket) => self.parts.tasks.peer_done(ticket),
                Message::Tasks(message) => self.parts.tasks.hear(message),
                Message::ColdReset(target) => self.end_sessions_with(&target),
                Message::Change(changes, to) => {
                    let what = self.pending_changes.insert(PendingChange {
                        left: changes.len() + 1,
                        refused: false,
                        to,
                    });
                    for (unit, change) in changes {
                        self.parts.tasks.change(unit, change, what as u64);
                    }
                    self.changed(what, false);
                }
                Message::Report(to) => _ = to.try_send(self.report()),
                Message::Sessions(request) => self.report_sessions(request),
                Message::Topology(topology) => self.parts.topology = topology,
                Message::Drain => self.drain(),
            }
        }
        count
    }

    fn take_notices(&mut self) -> usize {
        let mut count = 0;
        while let Some(notice) = self.parts.tasks.poll_notice() {
            count += 1;
            match notice {
                Notice::ResetPeers { units, ticket } => {
                    let from = self.parts.core;
                    self.tell_peers(|| Message::Reset { units: units.clone(), from, ticket });
                }
                Notice::ToPeers(message) => self.tell_peers(|| Message::Tasks(message.clone())),
                Notice::ToPeer(core, message) => self.parts.peers[core].send(Message::Tasks(message)),
                Notice::ColdReset(nexus) => {
                    let session = self.by_key.get(nexus.0).copied().flatten();
                    let name = session.and_then(|index| self.sessions[index].established.as_ref());
                    if let Some(target) = name.and_then(|established| established.name.target.clone()) {
                        self.tell_peers(|| Message::ColdReset(target.clone()));
                        self.end_sessions_with(&target);
                    }
                }
                Notice::Changed { what, refused } => {
                    self.changed(usize::try_from(what).expect("a slab index"), refused);
                }
                Notice::Ended(what) if what & RESET != 0 => {
                    let (from, ticket) = ((what & !RESET) >> 32, what & 0xffff_ffff);
                    let from = usize::try_from(from).expect("a core's number");
                    let ticket = usize::try_from(ticket).expect("a slab index");
                    self.parts.peers[from].send(Message::ResetDone(ticket));
                }
                Notice::Ended(ending) => self.session_ended(usize::try_from(ending).expect("a slab index")),
            }
        }
        count
    }

    fn end_sessions_with(&mut self, target: &str) {
        let of_target = |entry: &SessionEntry| {
            entry.established.as_ref().is_some_and(|it| it.name.target.as_deref() == Some(target))
        };
        let all: SmallVec<[usize; 16]> =
            self.sessions.iter().filter(|(_, entry)| of_target(entry)).map(|(index, _)| index).collect();
        for index in all {
            self.sessions[index].iscsi.drop_all("TARGET COLD RESET");
            self.touch(index);
        }
    }

    /// One of the changes that the operator waits for has ended.
    fn changed(&mut self, what: usize, refused: bool) {
        let pending_change = &mut self.pending_changes[what];
        pending_change.left -= 1;
        pending_change.refused |= refused;
        if pending_change.left == 0 {
            let PendingChange { refused, to, .. } = self.pending_changes.remove(what);
            _ = to.try_send(refused);
        }
    }

    fn tell_peers(&self, message: impl Fn() -> Message) {
        for (core, peer) in self.parts.peers.iter().enumerate() {
            if core != self.parts.core {
                peer.send(message());
            }
        }
    }

    // Stopping.

    fn drain(&mut self) {
        if self.stop != Stop::No {
            return;
        }
        self.stop = Stop::Draining(self.now + DRAIN_TIME);
        self.parts.tasks.abort_detached(self.now);
        for (_, host) in &mut self.parts.hosts {
            host.stop_listening();
        }
        let all: Vec<usize> = self.sessions.iter().map(|(index, _)| index).collect();
        for index in all {
            let SessionEntry { iscsi, established, .. } = &mut self.sessions[index];
            match established.as_ref().is_some_and(|session| session.key.is_some()) {
                true => iscsi.request_logout(LOGOUT_SECONDS),
                false => iscsi.close("the daemon is stopping"),
            }
            self.touch(index);
        }
    }

    fn advance_stop(&mut self) -> usize {
        match self.stop {
            Stop::No | Stop::Done => 0,
            Stop::Draining(deadline) | Stop::Dropping(deadline) => {
                if self.sessions.is_empty() && self.parts.tasks.tasks() == 0 {
                    self.parts.tasks.flush();
                    self.stop = Stop::Flushing;
                    return 1;
                }
                if self.now >= deadline {
                    let cut = matches!(self.stop, Stop::Dropping(_));
                    self.stop = Stop::Dropping(self.now + DROP_TIME);
                    let all: Vec<usize> = self.sessions.iter().map(|(index, _)| index).collect();
                    warn!(
                        "{} sessions did not end in time and are {}",
                        all.len(),
                        if cut { "cut" } else { "dropped" }
                    );
                    for index in all {
                        let SessionEntry { iscsi, streams, .. } = &mut self.sessions[index];
                        iscsi.drop_all("the daemon is stopping");
                        for stream in streams.iter().flatten().filter(|_| cut) {
                            self.parts.hosts[stream.host].1.abort(stream.id);
                        }
                        self.touch(index);
                    }
                }
                0
            }
            Stop::Flushing if self.parts.tasks.flushed() => {
                self.stop = Stop::Done;
                if self.parts.left.fetch_sub(1, Ordering::SeqCst) == 1 {
                    self.tell_peers(|| Message::Drain);
                }
                1
            }
            Stop::Flushing => 0,
        }
    }

    fn run_timers(&mut self) {
        while let Some(index) = self.timers.expired(self.now) {
            let iscsi = &mut self.sessions[index].iscsi;
            match iscsi.next_deadline() {
                Some(deadline) if deadline <= self.now => {
                    iscsi.timeout(self.now);
                    self.touch(index);
                }
                Some(deadline) => self.timers.wake_at(index, deadline),
                None => {}
            }
        }
    }
}

/// Marks the number of a reset, as opposed to that of an ending session.
const RESET: u64 = 1 << 63;

impl Poller for Shard {
    fn turn(&mut self, now: Instant) -> usize {
        self.now = now;
        activity::rest();
        let mut work = self.take_messages() + self.receive_more();
        for host in 0..self.parts.hosts.len() {
            work += self.poll_host(host);
        }
        self.run_timers();
        self.run_short();
        if self.inspection.is_some_and(|due| due <= now) {
            self.inspection = Some(now + INSPECTION);
            self.parts.tasks.inspect();
        }
        let mut lookup = Lookup { sessions: &mut self.sessions, by_key: &self.by_key };
        let mut woken: SmallVec<[NexusKey; 32]> = SmallVec::new();
        work += self.parts.tasks.poll_stores(now, &mut lookup, &mut |nexus| woken.push(nexus));
        for nexus in woken {
            if let Some(index) = self.by_key.get(nexus.0).copied().flatten() {
                self.touch(index);
            }
        }
        work += self.touched.len();
        let mut round = std::mem::take(&mut self.touched);
        // One alone is what the thread has been about since it received something, if it has.
        let alone = round.len() == 1 && activity::serves();
        for index in round.drain(..) {
            if let Some(entry) = self.sessions.get_mut(index) {
                entry.touched = false;
                if !alone {
                    entry.iscsi.note_activity();
                }
                self.serve(index);
            }
        }
        // Serving may touch others (a login that was waited for); they come next turn.
        if self.touched.is_empty() {
            self.touched = round;
        }
        work += self.take_notices() + self.advance_stop();
        self.parts.tasks.commit();
        for (_, host) in &mut self.parts.hosts {
            host.commit(now);
        }
        work
    }

    fn turned(&mut self, now: Instant) {
        self.parts.tasks.turned(now);
    }

    fn next_deadline(&self) -> Option<Instant> {
        if !self.touched.is_empty() || !self.unfinished.is_empty() || self.parts.tasks.must_poll() {
            return Some(self.now);
        }
        let stop = match self.stop {
            Stop::Draining(deadline) | Stop::Dropping(deadline) => Some(deadline),
            _ => None,
        };
        let hosts = self.parts.hosts.iter().filter_map(|(_, host)| host.next_deadline()).min();
        let shortage = self.shortage_deadline();
        [self.timers.next(), hosts, stop, shortage, self.inspection, self.parts.tasks.next_deadline()]
            .into_iter()
            .flatten()
            .min()
    }

    fn wake_fds(&self, fds: &mut Vec<RawFd>) {
        fds.push(self.parts.mailbox.wake_fd());
        fds.extend(&self.parts.wake_fds);
        for (_, host) in &self.parts.hosts {
            host.wake_fds(fds);
        }
    }

    fn may_sleep(&mut self) -> bool {
        self.parts.mailbox.announce_sleep()
    }

    fn awake(&mut self) {
        self.parts.mailbox.awake();
    }

    /// A core stays until all are done: others may wait for its answers.
    fn finished(&self) -> bool {
        self.stop == Stop::Done && self.parts.left.load(Ordering::SeqCst) == 0
    }

    fn account(&mut self, load: Load) {
        self.load = load;
    }
}
