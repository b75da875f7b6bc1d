// SPDX-License-Identifier: GPL-2.0-or-later
//! iSCSI on the cores: one core's streams, the connections on them and their sessions; all sessions of the daemon; and
//! what is exported where and to whom.

pub mod accounts;
mod arrange;
mod connections;
pub mod options;
mod portals;
mod report;
pub mod sessions;
mod share;
mod shared;
mod shortage;
pub mod status;
pub mod target_options;
#[cfg(test)]
mod tests;
pub mod topology;
mod unread;
mod vacant;

use std::any::Any;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::os::fd::RawFd;
use std::sync::Arc;
use std::task::Wake;

use slab::Slab;
use smallvec::SmallVec;

use crate::activity;
use crate::counters::Counted;
use crate::engine::audit::{MemoryAudit, MemoryHolder, MemoryProgress};
use crate::engine::fabric::{Census, Core, Fabric};
use crate::engine::tasks::{NexusKey, Transports};
use crate::fabrics::iscsi::{ConnectionKey, LoginRequest, Session};
use crate::memory::MemoryAccount;
use crate::net::{Detached, StreamEvent, StreamHost, StreamId, StreamMap};
use crate::reactor::{CoreContext, Mailbox, Sender};
use crate::scsi::{NexusId, Transport};
use crate::time::{Instant, Wheel};
use sessions::{Seat, SessionName, Sessions, Waiter};
use share::{Leaving, listeners_of};
use topology::Topology;
use unread::Unread;

/// Seconds that an initiator is given to log out when the daemon stops.
const LOGOUT_SECONDS: u16 = 3;

/// Most connections of a core that have not logged in; the oldest is cut for the next.
const LOGINS_MAX: usize = 4096;

/// How many PDUs all connections bring in a turn, and how many each may bring however many there are. One alone may
/// bring what a deep queue sends at once.
const PDUS_PER_TURN: usize = 128;
const PDUS_MIN: usize = 32;

/// What the iSCSI of a core is told by that of others, and by the control plane.
pub enum IscsiMessage {
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
    /// End all sessions with this target: TARGET COLD RESET (RFC 7143 11.5.1).
    ColdReset(String),
    /// Tell of some sessions.
    Sessions(SessionsRequest),
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
    progress: MemoryProgress,
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
    /// It is on the list of those that have more to be read.
    unfinished: bool,
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

/// A session whose tasks have yet to end.
struct Ending {
    name: SessionName,
    nexus: NexusId,
    tsih: u16,
}

/// Tells the core of a session that there is memory for which it waits.
struct MemoryFree {
    home: Sender<IscsiMessage>,
    nexus: NexusId,
}

impl Wake for MemoryFree {
    fn wake(self: Arc<Self>) {
        self.home.send(IscsiMessage::MemoryFree(self.nexus));
    }
}

/// What the iSCSI of a core is made of.
pub struct IscsiParts {
    /// What all parts of the core share. Its number is its place among `peers`.
    pub context: CoreContext,
    /// Where byte streams come from, with their names.
    pub hosts: Vec<(String, Box<dyn StreamHost>)>,
    /// What is exported.
    pub topology: Arc<Topology>,
    /// All sessions of the daemon.
    pub sessions: Arc<Sessions>,
    /// What comes in from other threads.
    pub mailbox: Mailbox<IscsiMessage>,
    /// The mailboxes of all cores, this one's included.
    pub peers: Vec<Sender<IscsiMessage>>,
}

pub use report::{ConnectionReport, SESSIONS_PER_TURN, SessionReport, SessionsPart, SessionsRequest};
pub use share::IscsiShare;

/// See the module.
pub struct IscsiFabric {
    parts: IscsiParts,
    sessions: Slab<SessionEntry>,
    /// Session and connection of each stream, by host.
    by_stream: Vec<StreamMap<(usize, ConnectionKey)>>,
    /// Session by nexus key, and by nexus.
    by_key: Vec<Option<usize>>,
    by_nexus: HashMap<NexusId, usize>,
    ending: Slab<Ending>,
    /// How many of the sessions have not logged in, or have ended and wait for their streams to close.
    logins: usize,
    next_serial: u64,
    touched: Vec<usize>,
    /// Connections that have more to be read.
    unfinished: VecDeque<(usize, ConnectionKey)>,
    /// How many connections were read in this turn, and how many PDUs each may bring.
    readers: usize,
    share: usize,
    events: Vec<StreamEvent>,
    timers: Wheel,
    unread: Unread,
    /// Sessions that were asked to leave, and ports of which no portal is left.
    leaving: Vec<Leaving>,
    leaving_ports: Vec<usize>,
    /// What has come for ports that are new, from cores where the change was in force before.
    early: Vec<IscsiMessage>,
    /// The portals of the listeners of each host.
    listeners: Vec<Vec<Arc<str>>>,
    /// Nobody is let in any more.
    stopping: bool,
    now: Instant,
}

impl IscsiFabric {
    /// Ready for its first turn.
    pub fn new(parts: IscsiParts) -> Self {
        Self {
            by_stream: parts.hosts.iter().map(|_| StreamMap::default()).collect(),
            listeners: parts.hosts.iter().map(|(port, _)| listeners_of(&parts.topology, port)).collect(),
            parts,
            sessions: Slab::new(),
            by_key: Vec::new(),
            by_nexus: HashMap::new(),
            ending: Slab::new(),
            logins: 0,
            next_serial: 0,
            touched: Vec::new(),
            unfinished: VecDeque::new(),
            readers: 0,
            share: PDUS_PER_TURN,
            events: Vec::new(),
            timers: Wheel::new(),
            unread: Unread::default(),
            leaving: Vec::new(),
            leaving_ports: Vec::new(),
            early: Vec::new(),
            stopping: false,
            now: Instant::ZERO,
        }
    }

    fn touch(&mut self, index: usize) {
        if !std::mem::replace(&mut self.sessions[index].touched, true) {
            self.touched.push(index);
        }
    }

    fn take_messages(&mut self, core: &mut Core) -> usize {
        let mut count = 0;
        while let Some(message) = self.parts.mailbox.take() {
            count += 1;
            self.take_message(core, message);
        }
        count
    }

    fn take_message(&mut self, core: &mut Core, message: IscsiMessage) {
        match message {
            IscsiMessage::Adopt { host, .. } | IscsiMessage::Stray { host, .. }
                if host >= self.parts.hosts.len() =>
            {
                self.early.push(message);
            }
            IscsiMessage::Reinstate(nexus) => {
                if let Some(&index) = self.by_nexus.get(&nexus) {
                    self.sessions[index].iscsi.close("the initiator has logged in again");
                    self.touch(index);
                }
            }
            IscsiMessage::Adopt { host, stream, bytes, seat } => self.adopt(host, stream, &bytes, seat),
            IscsiMessage::Stray { host, frame } => self.parts.hosts[host].1.give(frame),
            IscsiMessage::SessionEnded(waiter) => {
                if let Some((index, key)) = self.find(waiter.connection) {
                    self.admit(core, index, key);
                    self.touch(index);
                }
            }
            IscsiMessage::MemoryFree(nexus) => {
                if let Some(&index) = self.by_nexus.get(&nexus) {
                    self.touch(index);
                }
            }
            IscsiMessage::ColdReset(target) => self.end_sessions_with(&target),
            IscsiMessage::Sessions(request) => self.report_sessions(request),
        }
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

    /// The sessions that there are now.
    fn all(&self) -> Vec<usize> {
        self.sessions.iter().map(|(index, _)| index).collect()
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

impl Transports for IscsiFabric {
    fn transport(&mut self, nexus: NexusKey) -> Option<&mut dyn Transport> {
        let index = self.by_key.get(nexus.0).copied().flatten()?;
        let session = &mut self.sessions[index].iscsi;
        session.note_activity();
        Some(session)
    }
}

impl Fabric for IscsiFabric {
    fn poll(&mut self, core: &mut Core) -> usize {
        self.now = core.now;
        self.share = (PDUS_PER_TURN / std::mem::take(&mut self.readers).max(1)).max(PDUS_MIN);
        let mut work = self.take_messages(core) + self.receive_more();
        for host in 0..self.parts.hosts.len() {
            work += self.poll_host(core, host);
        }
        self.run_timers();
        if !(self.leaving.is_empty() && self.leaving_ports.is_empty()) {
            work += self.let_go();
        }
        self.read_again();
        work
    }

    fn serve(&mut self, core: &mut Core, woken: &[NexusKey]) -> usize {
        for nexus in woken {
            if let Some(index) = self.by_key.get(nexus.0).copied().flatten() {
                self.touch(index);
            }
        }
        let work = self.touched.len();
        let mut round = std::mem::take(&mut self.touched);
        // One alone is what the thread has been about since it received something, if it has.
        let alone = round.len() == 1 && activity::serves();
        for index in round.drain(..) {
            if let Some(entry) = self.sessions.get_mut(index) {
                entry.touched = false;
                if !alone {
                    entry.iscsi.note_activity();
                }
                self.carry_on(core, index);
            }
        }
        // Serving may touch others (a login that was waited for); they come next turn.
        if self.touched.is_empty() {
            self.touched = round;
        }
        work
    }

    fn nexus_ended(&mut self, ticket: u32) {
        self.session_ended(ticket as usize);
    }

    fn cold_reset(&mut self, nexus: NexusKey) {
        let session = self.by_key.get(nexus.0).copied().flatten();
        let name = session.and_then(|index| self.sessions[index].established.as_ref());
        let Some(target) = name.and_then(|established| established.name.target.clone()) else { return };
        for (core, peer) in self.parts.peers.iter().enumerate() {
            if core != self.parts.context.core() {
                peer.send(IscsiMessage::ColdReset(target.clone()));
            }
        }
        self.end_sessions_with(&target);
    }

    fn commit(&mut self, now: Instant) {
        for (_, host) in &mut self.parts.hosts {
            host.commit(now);
        }
    }

    fn next_deadline(&self, now: Instant) -> Option<Instant> {
        if !self.touched.is_empty() || !self.unfinished.is_empty() {
            return Some(now);
        }
        let hosts = self.parts.hosts.iter().filter_map(|(_, host)| host.next_deadline()).min();
        [self.timers.next(), hosts, self.unread.next_deadline(), self.next_leave()]
            .into_iter()
            .flatten()
            .min()
    }

    fn wake_fds(&self, fds: &mut Vec<RawFd>) {
        fds.push(self.parts.mailbox.wake_fd());
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

    fn arrange(&mut self, core: &mut Core, part: Box<dyn Any>) {
        self.arrange_share(core, *part.downcast().expect("the share of iSCSI"));
    }

    fn drain(&mut self) {
        self.stopping = true;
        for (_, host) in &mut self.parts.hosts {
            host.stop_listening();
        }
        for index in self.all() {
            let SessionEntry { iscsi, established, .. } = &mut self.sessions[index];
            match established.as_ref().is_some_and(|session| session.key.is_some()) {
                true => iscsi.request_logout(LOGOUT_SECONDS),
                false => iscsi.close("the daemon is stopping"),
            }
            self.touch(index);
        }
    }

    fn drop_all(&mut self, cut: bool) {
        for index in self.all() {
            let SessionEntry { iscsi, streams, .. } = &mut self.sessions[index];
            iscsi.drop_all("the daemon is stopping");
            for stream in streams.iter().flatten().filter(|_| cut) {
                self.parts.hosts[stream.host].1.abort(stream.id);
            }
            self.touch(index);
        }
    }

    fn census(&self) -> Census {
        Census { sessions: self.sessions.len() - self.logins, logins: self.logins }
    }

    fn count(&self, ports: &mut BTreeMap<String, Vec<Counted>>) {
        let there = self.parts.hosts.iter().filter(|(name, _)| !name.is_empty());
        ports.extend(there.map(|(name, host)| (name.clone(), host.counters())));
    }

    fn audit(&mut self, core: &Core, audit: &MemoryAudit, stuck: &mut dyn FnMut(u64, MemoryHolder)) {
        for (index, SessionEntry { iscsi, established, account, progress, .. }) in &mut self.sessions {
            iscsi.trim();
            let held = account.used();
            let key = established.as_ref().and_then(|session| session.key);
            let working = || key.is_some_and(|key| core.is_storing(key));
            if audit.finds_stuck(progress, held, iscsi.given()) && !iscsi.is_over() && !working() {
                stuck(held, MemoryHolder(index));
            }
        }
    }

    fn cut(&mut self, MemoryHolder(index): MemoryHolder, why: &'static str) {
        self.sessions[index].iscsi.close(why);
        self.touch(index);
    }

    fn describe(&self, MemoryHolder(index): MemoryHolder) -> String {
        let iscsi = &self.sessions[index].iscsi;
        let peer = iscsi.connections().next().map(|(_, connection)| connection.peer().to_string());
        format!("{} {}", peer.unwrap_or_default(), iscsi.initiator())
    }
}
