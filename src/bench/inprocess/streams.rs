// SPDX-License-Identifier: GPL-2.0-or-later
//! A shard and its initiators in one thread: bytes go over queues in memory, or over frames.

#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;

use super::{Cores, Depth, Frames, Outcome, Setup, Turns, World, frames};
use crate::adapters::iscsi::sessions::Limits;
use crate::adapters::iscsi::topology::{Portal, Target, Topology};
use crate::adapters::iscsi::{IscsiFabric, IscsiParts};
use crate::bench::load::{Load, Spec, Tally, Window};
use crate::bench::login::{self, Credentials};
use crate::bench::session::Session;
use crate::engine::fabric::Fabric;
use crate::engine::links::PeerLinks;
use crate::engine::shard::{Parts, Shard};
use crate::fabrics::iscsi::Parameters;
use crate::memory::{Arena, Seg, Sg};
use crate::net::{StreamEvent, StreamHost, StreamId, StreamOrigin};
use crate::reactor::Poller;
use crate::scsi::Lun;
use crate::time::Instant;

const TARGET: &str = "iqn.2026-11.com.example.ptgt:bench";
pub(super) const PORT: u16 = 3260;
pub(super) const LOCAL: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
pub(super) const PEER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

/// Turns without an answer after which something is wrong.
const PATIENCE: usize = 1_000_000;

/// A last look.
pub(super) type After = Box<dyn FnOnce() -> Result<(), String>>;

/// The initiators' ends of all streams.
pub(super) trait Ends {
    /// Opens stream `number`.
    fn open(&mut self, number: usize);
    /// Sends bytes to the target.
    fn send(&mut self, number: usize, bytes: &[u8]);
    /// The next bytes of the target's.
    fn receive(&mut self, number: usize) -> Option<Seg>;
    /// What is owed after a look at all streams.
    fn settle(&mut self) {}
    /// What a device has to do in a turn of the target's.
    fn exchange(&mut self) {}
    /// What has to be true when both ends and the target are gone.
    fn after(&self) -> After {
        Box::new(|| Ok(()))
    }
    /// The frames that it took, if it took any.
    fn frames(&self) -> Option<Frames> {
        None
    }
}

/// Copies bytes into payload memory, in blocks as a port would receive them.
pub(super) fn received(arena: &Arena, mut bytes: &[u8], mut add: impl FnMut(Seg)) {
    const BLOCK: usize = 64 << 10;
    while !bytes.is_empty() {
        let (now, rest) = bytes.split_at(bytes.len().min(BLOCK));
        let mut block = arena.alloc(now.len()).expect("memory for what is received");
        block.bytes_mut().copy_from_slice(now);
        add(block.freeze());
        bytes = rest;
    }
}

#[derive(Default)]
struct Queues {
    to_target: VecDeque<Seg>,
    to_peer: VecDeque<Seg>,
}

#[derive(Default)]
struct Memory {
    streams: Vec<Queues>,
    events: Vec<StreamEvent>,
}

/// Byte streams in memory: as the target sees them, and the ends of the initiators.
struct MemoryHost(Rc<RefCell<Memory>>);

struct MemoryEnds(Rc<RefCell<Memory>>, Arena);

fn stream_id(number: usize) -> StreamId {
    StreamId::new(0, number)
}

impl Ends for MemoryEnds {
    fn open(&mut self, number: usize) {
        let memory = &mut *self.0.borrow_mut();
        assert_eq!(memory.streams.len(), number, "streams are opened in order");
        memory.streams.push(Queues::default());
        let peer_port = u16::try_from(number).expect("fewer than 65536 streams");
        memory.events.push(StreamEvent::Accepted {
            stream: stream_id(number),
            origin: StreamOrigin { listener: 0, local: (LOCAL, PORT).into(), peer: (PEER, peer_port).into() },
        });
    }

    fn send(&mut self, number: usize, bytes: &[u8]) {
        let memory = &mut *self.0.borrow_mut();
        received(&self.1, bytes, |seg| memory.streams[number].to_target.push_back(seg));
        memory.events.push(StreamEvent::Readable(stream_id(number)));
    }

    fn receive(&mut self, number: usize) -> Option<Seg> {
        self.0.borrow_mut().streams[number].to_peer.pop_front()
    }
}

impl StreamHost for MemoryHost {
    fn poll(&mut self, _: Instant, events: &mut Vec<StreamEvent>) -> usize {
        let memory = &mut *self.0.borrow_mut();
        let work = memory.events.len();
        events.append(&mut memory.events);
        work
    }

    fn receive(&mut self, stream: StreamId) -> Option<Seg> {
        self.0.borrow_mut().streams[stream.place()].to_target.pop_front()
    }

    fn room(&self, _: StreamId) -> usize {
        usize::MAX
    }

    fn send(&mut self, stream: StreamId, data: Sg) {
        self.0.borrow_mut().streams[stream.place()].to_peer.extend(data.segs().iter().cloned());
    }

    fn close(&mut self, stream: StreamId) {
        self.0.borrow_mut().events.push(StreamEvent::Closed(stream));
    }

    fn abort(&mut self, stream: StreamId) {
        self.close(stream);
    }
}

/// A shard with one disk, and the ends of its streams.
fn shard(world: World, setup: &Setup) -> Result<(Shard, Box<dyn Ends>), String> {
    let World { context, tasks, unit, cores, mailbox, inbox } = world;
    let Cores { sessions, left, senders, peers } = cores;
    let (host, ends): (Box<dyn StreamHost>, Box<dyn Ends>) = match setup.depth {
        Depth::Tcp => {
            let (host, peer) = frames::in_memory(context.arena());
            (host, Box::new(peer))
        }
        #[cfg(feature = "dpdk")]
        Depth::Dpdk | Depth::DpdkPlain => {
            let offload = setup.depth == Depth::Dpdk;
            let (host, peer) = super::adapter::host(context.arena(), setup.mtu, offload)?;
            (host, Box::new(peer))
        }
        Depth::Iscsi | Depth::Scsi => {
            let memory = Rc::new(RefCell::new(Memory::default()));
            (Box::new(MemoryHost(memory.clone())), Box::new(MemoryEnds(memory, context.arena().clone())))
        }
    };
    let (name, port, address) = ("bench".into(), "bench".into(), SocketAddr::from((LOCAL, PORT)));
    let portal = Arc::new(Portal { name, port, of_host: false, address, group: 1 });
    let topology = Topology {
        portals: vec![portal.clone()],
        targets: vec![Target {
            name: TARGET.into(),
            alias: None,
            parameters: Arc::new(Parameters::default()),
            authentication: None,
            access: Vec::new(),
            redirects: Vec::new(),
            // All sessions are those of one initiator.
            limits: Limits {
                initiator_sessions: 1 << 14,
                initiator_connections: 1 << 14,
                initiator_commands: 1 << 20,
                ..Limits::default()
            },
            portals: vec![portal],
            ports: Vec::new(),
            luns: vec![(Lun::ZERO, unit)],
        }],
        discovery: None,
    };
    let iscsi = IscsiFabric::new(IscsiParts {
        context: context.clone(),
        hosts: vec![("bench".into(), host)],
        topology: Arc::new(topology),
        sessions,
        mailbox: inbox,
        peers,
    });
    let links = PeerLinks::new(&context, Vec::new());
    let fabrics = vec![Box::new(iscsi) as Box<dyn Fabric>];
    let shard = Shard::new(Parts { context, fabrics, tasks, links, left, mailbox, peers: senders });
    Ok((shard, ends))
}

/// One stream, with the target's turns while its answers are waited for.
struct Pumped<'a> {
    shard: &'a mut Shard,
    ends: &'a mut dyn Ends,
    number: usize,
    clock: &'a dyn Fn() -> Instant,
}

impl login::Stream for Pumped<'_> {
    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.ends.send(self.number, bytes);
        Ok(())
    }

    fn receive(&mut self, bytes: &mut Vec<u8>) -> io::Result<()> {
        for _ in 0..PATIENCE {
            self.shard.turn((self.clock)());
            self.ends.exchange();
            while let Some(seg) = self.ends.receive(self.number) {
                let at = bytes.len();
                bytes.resize(at + seg.len(), 0);
                seg.copy_to(0, &mut bytes[at..]);
            }
            self.ends.settle();
            if !bytes.is_empty() {
                return Ok(());
            }
        }
        Err(io::ErrorKind::TimedOut.into())
    }
}

/// One turn of the target under load: what instructions are counted in.
#[inline(never)]
fn turn(shard: &mut Shard, ends: &mut dyn Ends, now: Instant) {
    shard.turn(now);
    shard.turned(now);
    ends.exchange();
}

pub(super) fn run(
    world: World,
    setup: &Setup,
    spec: &Spec,
    window: impl FnOnce(Instant) -> Window,
    clock: &dyn Fn() -> Instant,
    progress: &mut dyn FnMut(&Tally),
) -> Result<Outcome, String> {
    // There are fewer cores than a byte has values.
    let [.., core] = world.context.core().to_be_bytes();
    let (mut shard, mut ends) = shard(world, setup)?;
    let mut terms = Vec::new();
    for number in 0..setup.sessions {
        ends.open(number);
        let mut stream = Pumped { shard: &mut shard, ends: &mut *ends, number, clock };
        let [.., high, low] = number.to_be_bytes();
        let who = Credentials {
            initiator: format!("{TARGET}-initiator"),
            target: TARGET.into(),
            lun: 0,
            isid: [0x80, 0, 0, core, high, low],
            account: None,
        };
        terms.push(login::login(&mut stream, &who)?);
    }
    let mut now = clock();
    let mut load = Load::new(spec.clone(), window(now));
    let mut sessions: Vec<Session> = terms
        .into_iter()
        .enumerate()
        .map(|(number, terms)| Session::new(number, terms, setup.queue, &load))
        .collect();
    let mut bytes = Vec::new();
    let mut idle = 0;
    let mut turns = Turns::begin();
    while load.goes_on(now) || sessions.iter().any(|session| session.in_flight() > 0) {
        let before = load.tally.total;
        for (number, session) in sessions.iter_mut().enumerate() {
            session.fill(&mut load, now);
            if session.has_output() {
                bytes.clear();
                session.output(|piece| {
                    bytes.extend_from_slice(piece);
                    true
                });
                session.sent(bytes.len());
                ends.send(number, &bytes);
            }
        }
        turns.time(|| turn(&mut shard, &mut *ends, now));
        now = clock();
        for (number, session) in sessions.iter_mut().enumerate() {
            while let Some(seg) = ends.receive(number) {
                take(session, &seg, &mut load, now)?;
            }
        }
        ends.settle();
        idle = if load.tally.total == before { idle + 1 } else { 0 };
        if idle > PATIENCE {
            return Err("the target has stopped answering".to_owned());
        }
        progress(&load.tally);
    }
    let (frames, after) = (ends.frames(), ends.after());
    // What a device has of the target's goes home before the target does.
    drop(ends);
    drop(shard);
    after()?;
    Ok(Outcome { tally: load.tally, turns, frames })
}

/// Gives received bytes to a session. Only what it wants to look at is copied out of the store's pages.
fn take(session: &mut Session, seg: &Seg, load: &mut Load, now: Instant) -> Result<(), String> {
    if let Some(bytes) = seg.private() {
        return session.receive(bytes, load, now);
    }
    let skipped = if load.verifies() { 0 } else { session.skip(seg.len(), load, now)? };
    if skipped < seg.len() {
        let mut bytes = vec![0; seg.len() - skipped];
        seg.copy_to(skipped, &mut bytes);
        session.receive(&bytes, load, now)?;
    }
    Ok(())
}
