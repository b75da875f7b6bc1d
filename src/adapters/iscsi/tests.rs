// SPDX-License-Identifier: GPL-2.0-or-later
//! Streams that a host lets any core serve: where they go, and that the count of each core's comes home.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::sync::Mutex;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use super::sessions::Limits;
use super::topology::{Portal, Target};
use super::*;
use crate::adapters::fabric::PortsChange;
use crate::engine::agreement::Ticket;
use crate::engine::links::PeerLinks;
use crate::engine::shard::{Message, Parts, Shard};
use crate::engine::tasks::TaskManager;
use crate::engine::topology::{MakeShare, TopologyMessage, TopologyShare};
use crate::fabrics::iscsi::initiator::{Initiator, Packet, Transfer};
use crate::fabrics::iscsi::{LoginStatus, Parameters};
use crate::memory::{Arena, MemoryCharge, Seg, Sg};
use crate::net::StreamOrigin;
use crate::reactor::{Poller, mailboxes};
use crate::scsi::primary::MissingLun;
use crate::wire::iscsi::{LoginResponseHeader, NO_TAG, NopOutHeader, Opcode, RequestNumbers};

const TARGET: &str = "iqn.2026-11.test:t";
const CORES: usize = 2;
const MEMORY: u64 = 1 << 20;
/// Bytes that a host gives at once, at most.
const PIECE: usize = 64 << 10;

/// What is under way on a connection, which the peer's port names.
#[derive(Default)]
struct Wire {
    to_target: Vec<u8>,
    to_peer: Vec<u8>,
}

/// What the hosts of all cores share.
#[derive(Default)]
struct Net {
    wires: RefCell<HashMap<u16, Wire>>,
    events: RefCell<[Vec<StreamEvent>; CORES]>,
    /// Core and name of each stream, by its peer's port.
    places: RefCell<BTreeMap<u16, (usize, StreamId)>>,
    /// Which listener accepts.
    listener: Cell<usize>,
    names: Cell<u64>,
    /// Streams have ended when they are to be taken out, or there is no room where they go.
    ended: Cell<bool>,
    full: Cell<bool>,
    /// The peer of this port takes nothing.
    blocked: Cell<Option<u16>>,
    /// What comes in is no more than what came with a poll.
    bounded: Cell<bool>,
    /// Bytes come in pieces of this length, each in a block for [`PIECE`].
    cut: Cell<Option<usize>>,
}

impl Net {
    fn open(&self, core: usize, port: u16) -> StreamId {
        self.names.set(self.names.get() + 1);
        let id = StreamId(self.names.get());
        self.places.borrow_mut().insert(port, (core, id));
        id
    }

    fn tell(&self, core: usize, event: StreamEvent) {
        self.events.borrow_mut()[core].push(event);
    }

    fn port(&self, core: usize, id: StreamId) -> Option<u16> {
        self.places.borrow().iter().find(|(_, place)| **place == (core, id)).map(|(&port, _)| port)
    }
}

fn peer(port: u16) -> std::net::SocketAddr {
    ([10, 0, 0, 1], port).into()
}

fn local() -> std::net::SocketAddr {
    ([10, 0, 0, 2], 3260).into()
}

/// All listeners have one address, so that it tells nothing.
fn origin(listener: usize, port: u16) -> StreamOrigin {
    StreamOrigin { listener, local: local(), peer: peer(port) }
}

struct Host {
    core: usize,
    arena: Arena,
    net: Rc<Net>,
    steerable: bool,
}

impl StreamHost for Host {
    fn poll(&mut self, _: Instant, events: &mut Vec<StreamEvent>) -> usize {
        let before = events.len();
        events.append(&mut self.net.events.borrow_mut()[self.core]);
        events.len() - before
    }

    fn receive(&mut self, id: StreamId) -> Option<Seg> {
        let port = self.net.port(self.core, id)?;
        let mut wires = self.net.wires.borrow_mut();
        let bytes = &mut wires.get_mut(&port)?.to_target;
        if let Some(cut) = self.net.cut.get().filter(|_| !bytes.is_empty()) {
            let mut block = self.arena.alloc(PIECE)?;
            block.set_len(bytes.len().min(cut));
            let piece: Vec<u8> = bytes.drain(..bytes.len().min(cut)).collect();
            block.bytes_mut().copy_from_slice(&piece);
            return Some(block.freeze());
        }
        let piece: Vec<u8> = bytes.drain(..bytes.len().min(PIECE)).collect();
        Sg::copied(&self.arena, &piece).and_then(|mut sg| sg.take().next())
    }

    fn room(&self, id: StreamId) -> usize {
        let blocked = self.net.blocked.get();
        if blocked.is_some() && blocked == self.net.port(self.core, id) { 0 } else { usize::MAX }
    }

    fn send(&mut self, id: StreamId, data: Sg) {
        if let Some(port) = self.net.port(self.core, id) {
            self.net.wires.borrow_mut().entry(port).or_default().to_peer.extend(data.to_vec());
        }
    }

    /// The peer closes, too.
    fn close(&mut self, id: StreamId) {
        if let Some(port) = self.net.port(self.core, id) {
            self.net.places.borrow_mut().remove(&port);
            self.net.tell(self.core, StreamEvent::Closed(id));
        }
    }

    fn abort(&mut self, id: StreamId) {
        self.close(id);
    }

    fn is_steerable(&self) -> bool {
        self.steerable
    }

    fn is_bounded(&self) -> bool {
        self.net.bounded.get()
    }

    fn detach(&mut self, id: StreamId, _: usize) -> Option<Detached> {
        let port = self.net.port(self.core, id)?;
        let listener = self.net.listener.get();
        if self.net.ended.get() {
            self.close(id);
            return None;
        }
        self.net.places.borrow_mut().remove(&port);
        Some(Detached { origin: origin(listener, port), state: Box::new(port) })
    }

    fn attach(&mut self, stream: Detached) -> Option<StreamId> {
        let port = *stream.state.downcast().ok()?;
        if self.net.full.get() {
            return None;
        }
        let id = self.net.open(self.core, port);
        self.net.tell(self.core, StreamEvent::Readable(id));
        Some(id)
    }
}

struct World {
    net: Rc<Net>,
    arenas: Vec<Arena>,
    shards: Vec<Shard>,
    senders: Vec<Sender<Message>>,
    /// Of the iSCSI of each core.
    peers: Vec<Sender<IscsiMessage>>,
    sessions: Arc<Sessions>,
    now: Instant,
    ports: u16,
}

impl World {
    fn new(steerable: bool) -> Self {
        let (net, sessions, left) = (Rc::<Net>::default(), Arc::default(), Arc::new(CORES.into()));
        let (senders, boxes) = mailboxes(CORES).unwrap();
        let (peers, inboxes) = mailboxes(CORES).unwrap();
        let portals = [("first", 1), ("second", 2)].map(|(name, group)| {
            let (port, address) = ("test".into(), local());
            Arc::new(Portal { name: name.into(), port, of_host: false, address, group })
        });
        let portals = Vec::from(portals);
        let topology = Arc::new(Topology {
            portals: portals.clone(),
            targets: vec![Target {
                name: TARGET.into(),
                alias: None,
                parameters: Arc::new(Parameters { max_connections: 2, ..Parameters::default() }),
                authentication: None,
                access: Vec::new(),
                redirects: Vec::new(),
                limits: Limits { initiator_memory: MEMORY, initiator_commands: 1 << 20, ..Limits::default() },
                portals,
                ports: Vec::new(),
                luns: Vec::new(),
            }],
            discovery: None,
        });
        let arenas: Vec<Arena> = (0..CORES).map(|_| Arena::new(4 << 20, false).unwrap()).collect();
        let shards = boxes.into_iter().zip(inboxes).enumerate().map(|(core, (mailbox, inbox))| {
            let arena = arenas[core].clone();
            let context = CoreContext::new(core, CORES, arena.clone());
            let host = Host { core, arena, net: net.clone(), steerable };
            let iscsi = IscsiFabric::new(IscsiParts {
                context: context.clone(),
                hosts: vec![("test".into(), Box::new(host))],
                topology: topology.clone(),
                sessions: Arc::clone(&sessions),
                mailbox: inbox,
                peers: peers.clone(),
            });
            Shard::new(Parts {
                tasks: TaskManager::new(&context, Box::new(MissingLun)),
                links: PeerLinks::new(&context, Vec::new()),
                context,
                fabrics: vec![Box::new(iscsi)],
                mailbox,
                peers: senders.clone(),
                left: Arc::clone(&left),
            })
        });
        let shards = shards.collect();
        Self { net, arenas, shards, senders, peers, sessions, now: Instant::ZERO, ports: 0 }
    }

    /// A few turns of all cores.
    fn turns(&mut self) {
        for _ in 0..8 {
            self.now = self.now + Duration::from_micros(10);
            for shard in &mut self.shards {
                shard.turn(self.now);
            }
        }
    }

    /// A connection that comes in at `core`.
    fn accept(&mut self, core: usize) -> u16 {
        self.ports += 1;
        let stream = self.net.open(core, self.ports);
        self.net.tell(
            core,
            StreamEvent::Accepted { stream, origin: origin(self.net.listener.get(), self.ports) },
        );
        self.ports
    }

    fn connect(&mut self, core: usize) -> u16 {
        let port = self.accept(core);
        self.turns();
        port
    }

    /// The core that serves a connection, if it has not ended.
    fn core(&self, port: u16) -> Option<usize> {
        self.net.places.borrow().get(&port).map(|&(core, _)| core)
    }

    fn counts(&self) -> [usize; CORES] {
        std::array::from_fn(|core| self.sessions.streams(core))
    }

    fn say(&mut self, port: u16, packet: &Packet) {
        let bytes = packet.encode(Default::default());
        self.net.wires.borrow_mut().entry(port).or_default().to_target.extend(bytes);
        let (core, id) = self.net.places.borrow()[&port];
        self.net.tell(core, StreamEvent::Readable(id));
        self.turns();
    }

    /// Logs in on a connection, and returns status and TSIH.
    fn login(&mut self, port: u16, isid: u16, tsih: u16, target: Option<&str>) -> (u16, u16) {
        let mut initiator = Initiator::new();
        initiator.isid[4..].copy_from_slice(&isid.to_be_bytes());
        (initiator.tsih, initiator.cid) = (tsih, port);
        let mut pairs = vec![("InitiatorName", "iqn.2026-11.test:i"), ("MaxConnections", "2")];
        match target {
            Some(target) => pairs.extend([("SessionType", "Normal"), ("TargetName", target)]),
            None => pairs.push(("SessionType", "Discovery")),
        }
        self.say(port, &initiator.login(1, Some(3), &pairs));
        let bytes = std::mem::take(&mut self.net.wires.borrow_mut().get_mut(&port).unwrap().to_peer);
        initiator.exp_stat_sn = u32::from_be_bytes(bytes[24..28].try_into().unwrap());
        let answer = initiator.take(&bytes).remove(0);
        let answer: LoginResponseHeader = answer.header().expect("a login response");
        (answer.status, answer.tsih)
    }

    /// Sends a command that expects as much data as there is memory, and returns what is said to that.
    fn read(&mut self, port: u16, cmd_sn: u32) -> Vec<u8> {
        let mut initiator = Initiator::new();
        initiator.cmd_sn = cmd_sn;
        let transfer = Transfer::read(u32::try_from(MEMORY).unwrap());
        let command = initiator.command(0, &[0; 6], transfer);
        self.say(port, &command);
        self.heard(port)
    }

    /// What has been said on a connection since.
    fn heard(&mut self, port: u16) -> Vec<u8> {
        self.turns();
        std::mem::take(&mut self.net.wires.borrow_mut().get_mut(&port).unwrap().to_peer)
    }

    fn session(&mut self, core: usize, isid: u16) -> u16 {
        let port = self.connect(core);
        assert_eq!(self.login(port, isid, 0, Some(TARGET)).0, 0);
        port
    }

    /// The peer closes a connection.
    fn close(&mut self, port: u16) {
        let (core, id) = self.net.places.borrow_mut().remove(&port).unwrap();
        self.net.tell(core, StreamEvent::Closed(id));
        self.turns();
    }
}

#[test]
fn sessions_are_spread_evenly_wherever_they_come_in() {
    let mut world = World::new(true);
    let ports: Vec<u16> = (0..8).map(|isid| world.session(1, isid)).collect();
    let on = |world: &World, core| ports.iter().filter(|&&port| world.core(port) == Some(core)).count();
    assert_eq!((on(&world, 0), on(&world, 1), world.counts()), (4, 4, [4, 4]));
    // Those of one core end: the next ones take their places.
    for &port in ports.iter().filter(|port| *port % 2 == 0) {
        world.close(port);
    }
    assert_eq!(world.counts(), [0, 4]);
    for isid in 8..12 {
        let port = world.session(1, isid);
        assert_eq!(world.core(port), Some(0));
    }
    assert_eq!(world.counts(), [4, 4]);
    // All at once, at both.
    let ports: Vec<u16> = (0..10).map(|number| world.accept(usize::from(number > 6))).collect();
    world.turns();
    assert_eq!(world.counts(), [9, 9]);
    assert_eq!(ports.iter().filter(|&&port| world.core(port) == Some(0)).count(), 5);
}

#[test]
fn streams_of_a_queue_stay_there_and_count() {
    let mut world = World::new(false);
    for isid in 0..3 {
        let port = world.session(1, isid);
        assert_eq!(world.core(port), Some(1));
    }
    assert_eq!(world.counts(), [0, 3]);
}

#[test]
fn what_ends_on_its_way_is_counted_no_more() {
    let mut world = World::new(true);
    world.connect(0);
    assert_eq!(world.counts(), [1, 0]);
    // It is gone when it is to be moved.
    world.net.ended.set(true);
    let port = world.connect(0);
    assert_eq!((world.core(port), world.counts()), (None, [1, 0]));
    world.net.ended.set(false);
    // There is no room where it goes, or it ends before it is there.
    world.net.full.set(true);
    let port = world.connect(0);
    assert_eq!((world.core(port), world.counts()), (None, [1, 0]));
    world.net.full.set(false);
    // The next one goes there again.
    let port = world.connect(0);
    assert_eq!((world.core(port), world.counts()), (Some(1), [1, 1]));
    // A peer that looks whether somebody listens.
    world.close(port);
    assert_eq!(world.counts(), [1, 0]);
    // Nobody takes it: it is counted where it was to go until the message is gone.
    world.accept(0);
    world.shards[0].turn(world.now);
    assert_eq!(world.counts(), [1, 1]);
    drop((world.shards, world.peers));
    assert_eq!([0, 1].map(|core| world.sessions.streams(core)), [0, 0]);
}

#[test]
fn connections_of_a_session_count_where_it_lives() {
    let mut world = World::new(true);
    let first = world.connect(0);
    let (0, tsih) = world.login(first, 1, 0, Some(TARGET)) else { panic!("a session") };
    let second = world.connect(0);
    assert_eq!((world.core(second), world.counts()), (Some(1), [1, 1]));
    assert_eq!(world.login(second, 1, tsih, Some(TARGET)).0, 0);
    assert_eq!((world.core(second), world.counts()), (Some(0), [2, 0]), "it went to its session");
    // The same initiator again, in the place of that session.
    let again = world.connect(0);
    assert_eq!(world.login(again, 1, 0, Some(TARGET)).0, 0);
    assert_eq!((world.core(first), world.core(second), world.core(again)), (None, None, Some(1)));
    assert_eq!(world.counts(), [0, 1]);
    // One that is not there to be joined.
    let lost = world.connect(0);
    assert_ne!(world.login(lost, 1, tsih, Some(TARGET)).0, 0);
    assert_eq!((world.core(lost), world.counts()), (None, [0, 1]));
}

/// A session is one of a portal group, which the listener tells, at whichever core its connections come in.
#[test]
fn sessions_and_what_joins_them_are_those_of_a_listener() {
    let mut world = World::new(true);
    let at = |world: &mut World, listener, core, tsih| {
        world.net.listener.set(listener);
        let port = world.connect(core);
        let (status, tsih) = world.login(port, 1, tsih, Some(TARGET));
        (port, status, tsih)
    };
    let (first, 0, tsih) = at(&mut world, 0, 0, 0) else { panic!("a session") };
    // This one is accepted at core 0 and goes to core 1; the same ISID at the other listener is another session.
    let (second, 0, other) = at(&mut world, 1, 0, 0) else { panic!("another session") };
    assert_eq!((world.core(first), world.core(second)), (Some(0), Some(1)));
    for core in [0, 1] {
        for (listener, tsih) in [(0, other), (1, tsih)] {
            let (port, status, _) = at(&mut world, listener, core, tsih);
            assert_eq!(status, LoginStatus::SessionDoesNotExist as u16, "it is not that listener's");
            assert_eq!(world.core(port), None);
        }
    }
    let (joined, 0, _) = at(&mut world, 1, 0, other) else { panic!("it is that listener's") };
    assert_eq!((world.core(first), world.core(second), world.core(joined)), (Some(0), Some(1), Some(1)));
    let (again, 0, _) = at(&mut world, 0, 1, 0) else { panic!("the same again") };
    assert_eq!((world.core(first), world.core(second), world.core(joined)), (None, Some(1), Some(1)));
    assert!(world.core(again).is_some());
}

#[test]
fn who_only_asks_or_is_refused_is_no_load() {
    let mut world = World::new(true);
    let asks = world.connect(0);
    assert_eq!(world.counts(), [1, 0]);
    assert_eq!(world.login(asks, 1, 0, None).0, 0);
    assert_eq!((world.core(asks), world.counts()), (Some(0), [0, 0]), "it may stay");
    let refused = world.connect(0);
    assert_ne!(world.login(refused, 1, 0, Some("iqn.2026-11.test:nobody")).0, 0);
    assert_eq!(world.counts(), [0, 0]);
    // Whoever does not log in is counted until its time is over.
    world.connect(0);
    assert_eq!(world.counts(), [1, 0]);
    world.now = world.now + Duration::from_secs(100);
    world.turns();
    assert_eq!(world.counts(), [0, 0]);
}

#[test]
fn a_core_that_stops_takes_no_streams() {
    let mut world = World::new(true);
    world.connect(0);
    world.senders[1].send(Message::Drain);
    let port = world.connect(0);
    assert_eq!((world.core(port), world.counts()), (None, [1, 0]));
    world.senders[0].send(Message::Drain);
    world.turns();
    assert_eq!(world.counts(), [0, 0]);
    assert!(world.shards.iter().all(Shard::finished), "nobody is waited for");
}

/// A port that comes while the daemon runs: what it was given.
#[derive(Clone, Default)]
struct NewHost(Arc<Mutex<Vec<String>>>);

impl StreamHost for NewHost {
    fn poll(&mut self, _: Instant, _: &mut Vec<StreamEvent>) -> usize {
        0
    }

    fn receive(&mut self, _: StreamId) -> Option<Seg> {
        None
    }

    fn room(&self, _: StreamId) -> usize {
        0
    }

    fn send(&mut self, _: StreamId, _: Sg) {}

    fn close(&mut self, _: StreamId) {}

    fn abort(&mut self, _: StreamId) {}

    fn attach(&mut self, stream: Detached) -> Option<StreamId> {
        self.0.lock().unwrap().push(stream.origin.peer.to_string());
        None
    }

    fn give(&mut self, stray: Vec<u8>) {
        self.0.lock().unwrap().push(format!("{stray:?}"));
    }
}

#[test]
fn what_comes_for_a_port_from_a_core_that_has_it_earlier_waits_for_it() {
    let mut world = World::new(true);
    let stream = Detached { origin: origin(0, 9), state: Box::new(()) };
    let (host, bytes, seat) = (1, Vec::new(), world.sessions.seat(1));
    world.peers[1].send(IscsiMessage::Adopt { host, stream, bytes, seat });
    world.peers[1].send(IscsiMessage::Stray { host, frame: vec![7] });
    world.turns();
    let new = NewHost::default();
    let (ticket, added) = (Ticket(1), new.clone());
    let (to, votes) = sync_channel(1);
    let make: MakeShare = Box::new(move |_| {
        let ports = PortsChange { hosts: vec![("new".into(), Box::new(added))], ..PortsChange::default() };
        let share = IscsiShare { topology: Arc::default(), ports };
        Ok(TopologyShare { units: Vec::new(), fabrics: vec![Box::new(share)], links: Vec::new() })
    });
    world.senders[1].send(Message::Topology(TopologyMessage::Prepare { ticket, make, to }));
    world.turns();
    votes.recv().unwrap().vote.unwrap();
    assert!(new.0.lock().unwrap().is_empty(), "it is not in force yet");
    let (to, _) = sync_channel(1);
    world.senders[1].send(Message::Topology(TopologyMessage::Commit { ticket, retires: Vec::new(), to }));
    world.turns();
    assert_eq!(*new.0.lock().unwrap(), ["10.0.0.1:9", "[7]"]);
    assert_eq!(world.counts(), [0, 0], "it has not become a session");
}

#[test]
fn a_stream_whose_place_another_has_is_gone_though_nobody_has_told() {
    let mut world = World::new(false);
    world.session(0, 1);
    let old = world.net.places.borrow_mut().remove(&1).unwrap().1;
    // As when one comes from another core before the host's events are looked at.
    let new = StreamId::new(100, old.place());
    world.net.places.borrow_mut().insert(2, (0, new));
    world.net.tell(0, StreamEvent::Accepted { stream: new, origin: origin(0, 2) });
    world.turns();
    assert_eq!((world.core(2), world.counts()), (Some(0), [1, 0]));
    world.net.tell(0, StreamEvent::Closed(old));
    world.turns();
    assert_eq!((world.core(2), world.counts()), (Some(0), [1, 0]));
    assert_eq!(world.login(2, 1, 0, Some(TARGET)).0, 0);
}

/// The status of a command that holds all the memory goes out on one core; a session of another core waits for that.
#[test]
fn who_waits_for_memory_is_told_wherever_it_lives() {
    for cores in [[0, 1], [1, 0], [0, 0]] {
        let mut world = World::new(false);
        let [holds, waits] = cores.map(|core| world.session(core, 1 + world.ports));
        world.net.blocked.set(Some(holds));
        assert!(world.read(holds, 100).is_empty() && world.read(waits, 100).is_empty());
        world.net.blocked.set(None);
        // What the host would tell.
        let (core, id) = world.net.places.borrow()[&holds];
        world.net.tell(core, StreamEvent::Writable(id));
        for port in [holds, waits] {
            assert_eq!(world.heard(port).first(), Some(&Opcode::SCSI_RESPONSE.raw()), "{cores:?}");
        }
        // Who ends lets others begin, too.
        world.net.blocked.set(Some(holds));
        assert!(world.read(holds, 101).is_empty() && world.read(waits, 101).is_empty());
        world.close(holds);
        assert_eq!(world.heard(waits).first(), Some(&Opcode::SCSI_RESPONSE.raw()), "{cores:?}");
    }
}

/// However many sessions there are, a turn tells of few of them, and totals tell of none.
#[test]
fn sessions_are_told_of_in_parts() {
    const SESSIONS: u16 = 1000;
    let mut world = World::new(false);
    for isid in 0..SESSIONS {
        world.session(0, isid);
    }
    let (to, report) = sync_channel(1);
    world.senders[0].send(Message::Report(to));
    world.shards[0].turn(world.now);
    assert_eq!(report.try_recv().unwrap().counters.sessions, u64::from(SESSIONS));
    let (mut sessions, mut next) = (Vec::new(), Some(0));
    while let Some(from) = next {
        let before = sessions.len();
        let (to, part) = sync_channel(1);
        world.peers[0].send(IscsiMessage::Sessions(SessionsRequest { from, sessions, to }));
        world.shards[0].turn(world.now);
        SessionsPart { sessions, next } = part.try_recv().unwrap();
        assert!(sessions.len() - before <= 64);
    }
    let each: std::collections::BTreeSet<_> = sessions.iter().map(|session| session.isid).collect();
    assert_eq!((sessions.len(), each.len()), (SESSIONS.into(), SESSIONS.into()));
}

/// Whoever sends much has no more of a turn than others, whether the host tells again of what it left or does not.
#[test]
fn what_a_connection_brings_is_read_over_several_turns() {
    read_over_several_turns(false);
    read_over_several_turns(true);
}

fn left(world: &World, port: u16) -> usize {
    world.net.wires.borrow()[&port].to_target.len()
}

/// Much that needs no answer, and a ping behind it.
fn send_much(world: &mut World, port: u16) -> (usize, StreamId) {
    let alive = |data| {
        let numbers = RequestNumbers::default();
        Packet::new(&NopOutHeader { immediate: true, lun: 0, itt: NO_TAG, ttt: NO_TAG, numbers }).data(data)
    };
    let much = alive(&[0; 8000]).encode(Default::default()).repeat(100);
    let ping = Initiator::new().nop_out(&[]).encode(Default::default());
    let (core, id) = world.net.places.borrow()[&port];
    world.net.wires.borrow_mut().get_mut(&port).unwrap().to_target = [much, ping].concat();
    world.net.tell(core, StreamEvent::Readable(id));
    (core, id)
}

/// A host that has taken in a burst keeps nothing of it for the next one.
#[test]
fn what_a_bounded_host_brings_is_read_in_its_turn() {
    let mut world = World::new(false);
    let port = world.session(0, 1);
    world.net.bounded.set(true);
    let (core, _) = send_much(&mut world, port);
    world.shards[core].turn(world.now);
    assert_eq!(left(&world, port), 0);
    assert!(!world.heard(port).is_empty(), "the ping is answered");
}

fn read_over_several_turns(tells_again: bool) {
    let mut world = World::new(false);
    let port = world.session(0, 1);
    let (core, id) = send_much(&mut world, port);
    let left = |world: &World| left(world, port);
    let (mut before, mut turns) = (left(&world), 0);
    while left(&world) > 0 {
        if tells_again {
            world.net.tell(core, StreamEvent::Readable(id));
        }
        world.now = world.now + Duration::from_micros(10);
        world.shards[core].turn(world.now);
        assert!(
            (1..=400 << 10).contains(&(before - left(&world))),
            "{} bytes in a turn",
            before - left(&world)
        );
        assert!(left(&world) == 0 || world.shards[core].next_deadline() == Some(world.now), "it would sleep");
        (before, turns) = (left(&world), turns + 1);
    }
    assert!(turns > 2, "{turns} turns");
    assert!(!world.heard(port).is_empty(), "the ping is answered");
}

/// Small requests are counted, not weighed: each connection has its share of a turn, which is that of a deep queue if
/// it is alone.
#[test]
fn whoever_asks_much_has_its_share_of_a_turn() {
    const ASKED: usize = 1000;
    for (bounded, connections) in [(false, 1), (true, 1), (false, 3), (true, 3), (false, 10), (true, 10)] {
        let mut world = World::new(false);
        let ports: Vec<u16> = (1..=connections).map(|isid| world.session(0, isid)).collect();
        world.net.bounded.set(bounded);
        let ping = Initiator::new().nop_out(&[]).immediate().encode(Default::default());
        for &port in &ports {
            world.net.wires.borrow_mut().get_mut(&port).unwrap().to_target = ping.repeat(ASKED);
            let (core, id) = world.net.places.borrow()[&port];
            world.net.tell(core, StreamEvent::Readable(id));
        }
        let answers = |world: &World| -> Vec<usize> {
            ports.iter().map(|port| world.net.wires.borrow()[port].to_peer.len() / ping.len()).collect()
        };
        // Beside that no more answers wait than these.
        let share = (PDUS_PER_TURN / ports.len()).clamp(PDUS_MIN, 64);
        // Whom there is to share with is known from the second turn on.
        world.shards[0].turn(world.now);
        let mut before = answers(&world);
        while before.iter().any(|&answers| answers < ASKED) {
            assert_eq!(world.shards[0].next_deadline(), Some(world.now), "it would sleep");
            world.now = world.now + Duration::from_micros(10);
            world.shards[0].turn(world.now);
            let now = answers(&world);
            for (before, now) in before.iter().zip(&now) {
                let most = share.min(ASKED - before);
                assert_eq!(now - before, most, "{bounded} {connections}: {before} before");
            }
            before = now;
        }
        assert!(before.iter().all(|&answers| answers == ASKED), "{before:?}");
    }
}

/// What comes behind the login of a connection is read though that has another place when it has joined its session.
#[test]
fn what_comes_behind_a_login_is_read_where_it_has_gone() {
    let mut world = World::new(false);
    let (first, second) = (world.connect(0), world.connect(0));
    let (status, tsih) = world.login(first, 1, 0, Some(TARGET));
    assert_eq!(status, 0);
    let mut initiator = Initiator::new();
    initiator.isid[4..].copy_from_slice(&1u16.to_be_bytes());
    (initiator.tsih, initiator.cid) = (tsih, second);
    let pairs = [("InitiatorName", "iqn.2026-11.test:i"), ("SessionType", "Normal"), ("TargetName", TARGET)];
    let login = initiator.login(1, Some(3), &pairs).encode(Default::default());
    let ping = initiator.nop_out(&[]).immediate().encode(Default::default());
    // Its pieces hold as much memory as may be read in a turn.
    world.net.cut.set(Some(login.len().div_ceil(5)));
    let (core, id) = world.net.places.borrow()[&second];
    world.net.wires.borrow_mut().entry(second).or_default().to_target = [login, ping].concat();
    world.net.tell(core, StreamEvent::Readable(id));
    let heard = world.heard(second);
    let opcodes: Vec<Opcode> = initiator.take(&heard).iter().map(Packet::opcode).collect();
    assert!(opcodes.contains(&Opcode::NOP_IN), "{opcodes:?}");
}

/// A session of core 0 that holds so many KiB.
fn holder(world: &mut World, isid: u16, kib: u64) -> (u16, MemoryCharge) {
    let port = world.connect(0);
    let (status, tsih) = world.login(port, isid, 0, Some(TARGET));
    assert_eq!(status, 0);
    let address = world.arenas[0].budget().child(&peer(port).ip().to_string());
    let session = address.child("iqn.2026-11.test:i").child(&tsih.to_string());
    let mut charge = MemoryCharge::on(&session.child("test"));
    charge.set(kib << 10);
    (port, charge)
}

/// Somebody waits for memory for so many milliseconds.
fn wait(world: &mut World, millis: u64, mut meanwhile: impl FnMut(&mut World)) {
    for _ in 0..millis / 25 {
        world.arenas[0].budget().waits(0);
        meanwhile(world);
        world.now = world.now + Duration::from_millis(25);
        world.turns();
    }
}

/// While somebody waits for memory, a session that holds much of it and makes no progress has its time, and no more.
#[test]
fn who_holds_memory_and_makes_no_progress_is_cut() {
    let mut world = World::new(false);
    world.now = world.now + Duration::from_secs(60);
    let held = [(1, 1200), (2, 800), (3, 50)].map(|(isid, kib)| holder(&mut world, isid, kib));
    let [busy, stuck, small] = held.each_ref().map(|(port, _)| *port);
    let numbers = RequestNumbers::default();
    let ping = NopOutHeader { immediate: true, lun: 0, itt: 1, ttt: NO_TAG, numbers };
    let ping = Packet::new(&ping).data(&[0; 8000]);
    let there = |world: &World| [busy, stuck, small].map(|port| world.core(port).is_some());
    wait(&mut world, 300, |world| world.say(busy, &ping));
    assert_eq!(there(&world), [true; 3], "it has its time");
    wait(&mut world, 50, |world| world.say(busy, &ping));
    assert_eq!(there(&world), [true, false, true]);
    wait(&mut world, 1000, |world| world.say(busy, &ping));
    assert_eq!(there(&world), [true, false, true], "the one goes on, and the other holds little");
    wait(&mut world, 400, |_| {});
    assert_eq!(there(&world), [false, false, true], "it goes on no more");
}

/// Of many, those that hold most are cut.
#[test]
fn the_largest_holders_are_cut() {
    let mut world = World::new(false);
    world.now = world.now + Duration::from_secs(60);
    // In another order than that of their sessions.
    let size = |number: u16| 120 + u64::from(number) * 7 % 20;
    let held: Vec<_> = (0..20).map(|number| holder(&mut world, number, size(number))).collect();
    wait(&mut world, 400, |_| {});
    let left = (0..20).filter(|&number| world.core(held[usize::from(number)].0).is_some());
    let mut left: Vec<u64> = left.map(size).collect();
    left.sort_unstable();
    assert_eq!(left, [120, 121, 122, 123]);
}
