// SPDX-License-Identifier: GPL-2.0-or-later
//! One core's share of the target: its streams, connections, tasks and handles to the logical units, run to completion
//! turn by turn.

use std::collections::HashMap;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::Duration;

use log::{debug, info, warn};
use slab::Slab;
use smallvec::SmallVec;

use super::sessions::{Claim, SessionName, Sessions, Waiter};
use super::tasks::{NexusKey, Notice, TaskManager, Then, Transports, UnitCounters, UnitKey};
use super::topology::Topology;
use crate::fabrics::iscsi::{self, Connection, Event, LoginRequest, LoginStatus, Negotiated};
use crate::memory::{Arena, ArenaStats, Pages};
use crate::net::{StreamEvent, StreamHost, StreamId};
use crate::reactor::{Load, Mailbox, Sender, Work};
use crate::scsi::{NexusId, Transport};
use crate::time::Instant;

/// Seconds that an initiator is given to log out when the daemon stops.
const LOGOUT_SECONDS: u16 = 3;

/// How often the stores are looked after.
const INSPECTION: Duration = Duration::from_secs(1);

/// When a stopping daemon cuts off whoever is still there.
const DRAIN_TIME: Duration = Duration::from_secs(6);

/// What cores and the control plane tell each other.
pub enum Message {
    /// End the session of this nexus: its initiator has logged in again.
    Reinstate(NexusId),
    /// The session that a login waited for has ended.
    SessionEnded(Waiter),
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
    /// Establish a unit attention (`ASC << 8 | ASCQ`) at a logical unit.
    Attention(UnitKey, u16),
    /// Tell what there is.
    Report(std::sync::mpsc::SyncSender<Report>),
    /// A new topology is in force.
    Topology(Arc<Topology>),
    /// Stop: let initiators log out, finish, flush.
    Drain,
}

/// What one core tells the control plane.
#[derive(Clone, Debug)]
pub struct Report {
    /// Which core.
    pub core: usize,
    /// How busy it is.
    pub load: Load,
    /// Its payload memory.
    pub memory: ArenaStats,
    /// The pages of that.
    pub pages: Pages,
    /// Its logical units, in the order of [`Parts::units`].
    pub units: Vec<UnitReport>,
    /// Its sessions.
    pub sessions: Vec<SessionReport>,
    /// Per host: name and counters.
    pub hosts: Vec<(String, Vec<(&'static str, u64)>)>,
}

/// A logical unit as one core sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnitReport {
    /// Size of its store, in bytes.
    pub bytes: u64,
    /// What this core has done with it.
    pub counters: UnitCounters,
}

/// A session as the control plane sees it.
#[derive(Clone, Debug)]
pub struct SessionReport {
    /// iSCSI name of the initiator.
    pub initiator: String,
    /// iSCSI name of the target; `None` for a discovery session.
    pub target: Option<String>,
    /// Initiator's part of the session identifier.
    pub isid: [u8; 6],
    /// Target session identifying handle.
    pub tsih: u16,
    /// Our address.
    pub local: std::net::SocketAddr,
    /// The initiator's address.
    pub peer: std::net::SocketAddr,
    /// What was negotiated.
    pub negotiated: Negotiated,
    /// Commands under way.
    pub in_flight: usize,
    /// What was counted.
    pub counters: iscsi::Counters,
}

struct Conn {
    /// Never reused, unlike the place in the slab.
    serial: u64,
    iscsi: Connection,
    host: usize,
    stream: StreamId,
    session: Option<Session>,
    wanted: Option<LoginRequest>,
    /// To be served this turn.
    touched: bool,
    /// Everything is over but the sending of what is queued.
    closing: bool,
    reset: bool,
    closed: bool,
}

struct Session {
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

/// How far a stop has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    No,
    Draining(Instant),
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
    /// The logical units, for reports.
    pub units: Vec<UnitKey>,
    /// What is exported.
    pub topology: Arc<Topology>,
    /// All sessions of the daemon.
    pub sessions: Arc<Sessions>,
    /// What comes in from other threads.
    pub mailbox: Mailbox<Message>,
    /// The mailboxes of all cores, this one's included.
    pub peers: Vec<Sender<Message>>,
    /// More descriptors that wake this core: those of its stores.
    pub wake_fds: Vec<RawFd>,
}

/// See the module.
pub struct Shard {
    parts: Parts,
    connections: Slab<Conn>,
    by_stream: HashMap<(usize, StreamId), usize>,
    /// Connection by nexus key, and by nexus.
    by_key: Vec<Option<usize>>,
    by_nexus: HashMap<NexusId, usize>,
    ending: Slab<Ending>,
    next_serial: u64,
    touched: Vec<usize>,
    events: Vec<StreamEvent>,
    timer: Option<Instant>,
    load: Load,
    stop: Stop,
    now: Instant,
    /// When the stores are looked after next; the first core does it for all.
    inspection: Option<Instant>,
}

struct Lookup<'a> {
    connections: &'a mut Slab<Conn>,
    by_key: &'a [Option<usize>],
}

impl Transports for Lookup<'_> {
    fn transport(&mut self, nexus: NexusKey) -> Option<&mut dyn Transport> {
        let index = self.by_key.get(nexus.0).copied().flatten()?;
        Some(&mut self.connections[index].iscsi)
    }
}

impl Shard {
    /// A shard that is ready for its first turn.
    pub fn new(parts: Parts) -> Self {
        let inspection = (parts.core == 0).then_some(Instant::ZERO);
        Self {
            inspection,
            parts,
            connections: Slab::new(),
            by_stream: HashMap::new(),
            by_key: Vec::new(),
            by_nexus: HashMap::new(),
            ending: Slab::new(),
            next_serial: 0,
            touched: Vec::new(),
            events: Vec::new(),
            timer: None,
            load: Load::default(),
            stop: Stop::No,
            now: Instant::ZERO,
        }
    }

    fn touch(&mut self, index: usize) {
        if !std::mem::replace(&mut self.connections[index].touched, true) {
            self.touched.push(index);
        }
    }

    // Streams.

    fn poll_host(&mut self, host: usize) -> usize {
        let mut events = std::mem::take(&mut self.events);
        let work = self.parts.hosts[host].1.poll(self.now, &mut events);
        for event in events.drain(..) {
            self.stream_event(host, event);
        }
        self.events = events;
        work
    }

    fn stream_event(&mut self, host: usize, event: StreamEvent) {
        let stream = match event {
            StreamEvent::Accepted { stream, local, peer } => {
                let parameters = Arc::new(iscsi::Parameters::default());
                let connection = Connection::new(parameters, self.parts.arena.clone(), local, peer, self.now);
                self.next_serial += 1;
                let index = self.connections.insert(Conn {
                    serial: self.next_serial,
                    iscsi: connection,
                    host,
                    stream,
                    session: None,
                    wanted: None,
                    touched: false,
                    closing: false,
                    reset: false,
                    closed: false,
                });
                self.by_stream.insert((host, stream), index);
                self.touch(index);
                return;
            }
            StreamEvent::Readable(stream)
            | StreamEvent::Writable(stream)
            | StreamEvent::Finished(stream)
            | StreamEvent::Closed(stream) => stream,
        };
        let Some(&index) = self.by_stream.get(&(host, stream)) else { return };
        self.touch(index);
        let conn = &mut self.connections[index];
        match event {
            StreamEvent::Readable(_) => self.receive(index),
            StreamEvent::Finished(_) => conn.iscsi.peer_finished(),
            StreamEvent::Closed(_) => {
                conn.iscsi.peer_finished();
                conn.closed = true;
            }
            _ => {}
        }
    }

    /// Takes what has arrived, unless so many answers wait to be sent that the initiator must wait, too.
    fn receive(&mut self, index: usize) {
        let conn = &mut self.connections[index];
        while let Some(data) = self.parts.hosts[conn.host].1.receive(conn.stream) {
            if !conn.iscsi.is_closing() {
                conn.iscsi.receive(self.now, data, &*self.parts.topology);
            }
        }
    }

    /// Carries a connection on until it has nothing more to do this turn.
    fn serve(&mut self, index: usize) {
        loop {
            let mut progress = false;
            while let Some(event) = self.connections[index].iscsi.poll_event() {
                progress = true;
                self.connection_event(index, event);
            }
            let conn = &mut self.connections[index];
            if let Some(key) = conn.session.as_ref().and_then(|session| session.key) {
                progress |= self.parts.tasks.serve(self.now, key, &mut conn.iscsi) > 0;
            }
            let host = &mut self.parts.hosts[conn.host].1;
            while !conn.closed && host.room(conn.stream) > 0 {
                let Some(pdu) = conn.iscsi.poll_transmit() else { break };
                host.send(conn.stream, pdu);
                progress = true;
            }
            if !progress {
                break;
            }
        }
        let conn = &mut self.connections[index];
        if let Some(deadline) = conn.iscsi.next_deadline() {
            self.timer = Some(self.timer.map_or(deadline, |timer| timer.min(deadline)));
        }
        if conn.closed {
            return self.forget(index);
        }
        if conn.closing {
            let host = &mut self.parts.hosts[conn.host].1;
            match conn.reset {
                true => host.abort(conn.stream),
                false => host.close(conn.stream),
            }
        }
    }

    fn connection_event(&mut self, index: usize, event: Event) {
        match event {
            Event::LoginWanted(wanted) => {
                self.connections[index].wanted = Some(wanted);
                self.admit(index);
            }
            Event::Closed { reason, reset } => {
                let conn = &mut self.connections[index];
                (conn.closing, conn.reset) = (true, reset);
                let quiet = conn.iscsi.target().is_none() && conn.session.is_some();
                let level = if quiet { log::Level::Debug } else { log::Level::Info };
                let (peer, initiator) = (conn.iscsi.peer(), conn.iscsi.initiator());
                log::log!(level, "{peer} {initiator}: connection ended: {reason}");
                self.end_session(index);
            }
        }
    }

    // Sessions.

    /// Lets a login in, or makes it wait for the end of an older session of the same name.
    fn admit(&mut self, index: usize) {
        let core = self.parts.core;
        let conn = &mut self.connections[index];
        let Some(wanted) = conn.wanted.take() else { return };
        if self.stop != Stop::No {
            return conn.iscsi.refuse_login(LoginStatus::ServiceUnavailable, "the daemon is stopping");
        }
        let name = SessionName {
            initiator: wanted.initiator.clone(),
            isid: wanted.isid,
            target: wanted.target.clone(),
            portal_group: wanted.portal_group,
        };
        let waiter = Waiter { core, connection: conn.serial };
        match self.parts.sessions.claim(&name, waiter) {
            Claim::Full => conn.iscsi.refuse_login(LoginStatus::OutOfResources, "too many sessions"),
            Claim::Held { core, nexus } => {
                conn.wanted = Some(wanted);
                self.parts.peers[core].send(Message::Reinstate(nexus));
            }
            Claim::Granted { nexus, tsih } => self.establish(index, name, nexus, tsih),
        }
    }

    fn establish(&mut self, index: usize, name: SessionName, nexus: NexusId, tsih: u16) {
        let conn = &mut self.connections[index];
        let target = name.target.as_deref().and_then(|name| self.parts.topology.target(name));
        let key = target.map(|target| self.parts.tasks.add_nexus(nexus, &target.luns));
        if let Some(key) = key {
            if self.by_key.len() <= key.0 {
                self.by_key.resize(key.0 + 1, None);
            }
            self.by_key[key.0] = Some(index);
            self.by_nexus.insert(nexus, index);
        }
        let (peer, initiator) = (conn.iscsi.peer(), &name.initiator);
        match &name.target {
            Some(target) => info!("{peer} {initiator}: logged in to {target} (TSIH {tsih})"),
            None => debug!("{peer} {initiator}: discovery session (TSIH {tsih})"),
        }
        conn.session = Some(Session { name, nexus, tsih, key });
        conn.iscsi.accept_login(nexus, tsih);
        conn.iscsi.resume(&*self.parts.topology);
        self.touch(index);
    }

    /// Aborts what a session has under way; its name is free when all of that has ended.
    fn end_session(&mut self, index: usize) {
        let Some(Session { name, nexus, tsih, key }) = self.connections[index].session.take() else { return };
        let ending = self.ending.insert(Ending { name, nexus, tsih });
        match key {
            Some(key) => {
                self.by_key[key.0] = None;
                self.by_nexus.remove(&nexus);
                self.parts.tasks.remove_nexus(self.now, key, Some(Then::Tell(ending as u64)));
            }
            None => self.session_ended(ending),
        }
    }

    fn session_ended(&mut self, ending: usize) {
        let Ending { name, nexus, tsih } = self.ending.remove(ending);
        for waiter in self.parts.sessions.release(&name, nexus, tsih) {
            self.parts.peers[waiter.core].send(Message::SessionEnded(waiter));
        }
    }

    fn forget(&mut self, index: usize) {
        self.end_session(index);
        let conn = self.connections.remove(index);
        self.by_stream.remove(&(conn.host, conn.stream));
    }

    // Messages.

    fn take_messages(&mut self) -> usize {
        let mut count = 0;
        while let Some(message) = self.parts.mailbox.take() {
            count += 1;
            match message {
                Message::Reinstate(nexus) => {
                    if let Some(&index) = self.by_nexus.get(&nexus) {
                        self.connections[index].iscsi.close("the initiator has logged in again");
                        self.touch(index);
                    }
                }
                Message::SessionEnded(waiter) => {
                    let found = self.connections.iter().find(|(_, conn)| conn.serial == waiter.connection);
                    if let Some((index, _)) = found {
                        self.admit(index);
                        self.touch(index);
                    }
                }
                Message::Reset { units, from, ticket } => {
                    // The ticket of a reset and its origin, in one number of our own.
                    let then = Then::Tell(RESET | (from as u64) << 32 | ticket as u64);
                    self.parts.tasks.reset(self.now, units, then);
                }
                Message::ResetDone(ticket) => self.parts.tasks.peer_done(ticket),
                Message::Attention(unit, code) => self.parts.tasks.attention(unit, code, None),
                Message::Report(to) => _ = to.try_send(self.report()),
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
                Notice::Attention(unit, code) => self.tell_peers(|| Message::Attention(unit, code)),
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

    fn tell_peers(&self, message: impl Fn() -> Message) {
        for (core, peer) in self.parts.peers.iter().enumerate() {
            if core != self.parts.core {
                peer.send(message());
            }
        }
    }

    fn report(&self) -> Report {
        let parts = &self.parts;
        let sessions = self.connections.iter().filter_map(|(_, conn)| {
            let session = conn.session.as_ref()?;
            Some(SessionReport {
                initiator: session.name.initiator.clone(),
                target: session.name.target.clone(),
                isid: session.name.isid,
                tsih: session.tsih,
                local: conn.iscsi.local(),
                peer: conn.iscsi.peer(),
                negotiated: conn.iscsi.negotiated().clone(),
                in_flight: conn.iscsi.in_flight(),
                counters: conn.iscsi.counters(),
            })
        });
        let units = parts.units.iter().map(|&unit| UnitReport {
            bytes: parts.tasks.geometry(unit).bytes,
            counters: parts.tasks.counters(unit),
        });
        Report {
            core: parts.core,
            load: self.load,
            memory: parts.arena.stats(),
            pages: parts.arena.pages(),
            units: units.collect(),
            sessions: sessions.collect(),
            hosts: parts.hosts.iter().map(|(name, host)| (name.clone(), host.counters())).collect(),
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
        let all: Vec<usize> = self.connections.iter().map(|(index, _)| index).collect();
        for index in all {
            let conn = &mut self.connections[index];
            match conn.session.as_ref().is_some_and(|session| session.key.is_some()) {
                true => conn.iscsi.request_logout(LOGOUT_SECONDS),
                false => conn.iscsi.close("the daemon is stopping"),
            }
            self.touch(index);
        }
    }

    fn advance_stop(&mut self) -> usize {
        match self.stop {
            Stop::No | Stop::Done => 0,
            Stop::Draining(deadline) => {
                if self.connections.is_empty() && self.parts.tasks.tasks() == 0 {
                    self.parts.tasks.flush();
                    self.stop = Stop::Flushing;
                    return 1;
                }
                if self.now >= deadline {
                    self.stop = Stop::Draining(self.now + DRAIN_TIME);
                    let all: Vec<usize> = self.connections.iter().map(|(index, _)| index).collect();
                    warn!("{} connections did not end in time and are cut", all.len());
                    for index in all {
                        let conn = &mut self.connections[index];
                        conn.iscsi.close("the daemon is stopping");
                        self.parts.hosts[conn.host].1.abort(conn.stream);
                        self.touch(index);
                    }
                }
                0
            }
            Stop::Flushing if self.parts.tasks.flushed() => {
                self.stop = Stop::Done;
                1
            }
            Stop::Flushing => 0,
        }
    }

    fn run_timers(&mut self) {
        if self.timer.is_none_or(|timer| timer > self.now) {
            return;
        }
        let mut next: Option<Instant> = None;
        let mut due: SmallVec<[usize; 16]> = SmallVec::new();
        for (index, conn) in &self.connections {
            match conn.iscsi.next_deadline() {
                Some(deadline) if deadline <= self.now => due.push(index),
                Some(deadline) => next = Some(next.map_or(deadline, |next| next.min(deadline))),
                None => {}
            }
        }
        self.timer = next;
        for index in due {
            self.connections[index].iscsi.timeout(self.now);
            self.touch(index);
        }
    }
}

/// Marks the number of a reset, as opposed to that of an ending session.
const RESET: u64 = 1 << 63;

impl Work for Shard {
    fn turn(&mut self, now: Instant) -> usize {
        self.now = now;
        let mut work = self.take_messages();
        for host in 0..self.parts.hosts.len() {
            work += self.poll_host(host);
        }
        self.run_timers();
        if self.inspection.is_some_and(|due| due <= now) {
            self.inspection = Some(now + INSPECTION);
            self.parts.tasks.inspect();
        }
        let mut lookup = Lookup { connections: &mut self.connections, by_key: &self.by_key };
        let mut woken: SmallVec<[NexusKey; 32]> = SmallVec::new();
        work += self.parts.tasks.poll_stores(now, &mut lookup, &mut |nexus| woken.push(nexus));
        for nexus in woken {
            if let Some(index) = self.by_key.get(nexus.0).copied().flatten() {
                self.touch(index);
            }
        }
        work += self.touched.len();
        let mut round = std::mem::take(&mut self.touched);
        for index in round.drain(..) {
            if let Some(conn) = self.connections.get_mut(index) {
                conn.touched = false;
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

    fn next_deadline(&self) -> Option<Instant> {
        if !self.touched.is_empty() || self.parts.tasks.must_poll() {
            return Some(self.now);
        }
        let stop = match self.stop {
            Stop::Draining(deadline) => Some(deadline),
            _ => None,
        };
        let hosts = self.parts.hosts.iter().filter_map(|(_, host)| host.next_deadline()).min();
        [self.timer, hosts, stop, self.inspection].into_iter().flatten().min()
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

    fn finished(&self) -> bool {
        self.stop == Stop::Done
    }

    fn account(&mut self, load: Load) {
        self.load = load;
    }
}
