// SPDX-License-Identifier: GPL-2.0-or-later
//! A machine for fuzz targets: two disks, perfect wires, and nobody who behaves. Each input has a machine of its own,
//! so that what it does depends on nothing before it; only memory goes from one machine to the next.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use socket2::SockRef;

use super::super::library::{self, KeptRecords, LibraryShape};
use super::super::network::{Network, network};
use super::super::peer::{Peers, Port};
use super::super::plan::Plan;
use super::super::scsi::TARGET;
use super::super::store::Medium;
use super::super::world::{Machine, boot, fresh_memory};
use crate::engine::shard::{Message, Shard};
use crate::fabrics::iscsi::initiator::{Initiator, Packet, Transfer};
use crate::memory::{Arena, SegMut};
use crate::net::StreamHost;
use crate::ports::kernel::{KernelHost, listen};
use crate::ports::memory::Dice;
use crate::reactor::Poller;
use crate::time::Instant;
use crate::wire::iscsi::{Opcode, PduHeader, R2tHeader};

/// Turns after which whatever is under way should be over.
const TURNS_MAX: usize = 20_000;

/// What a machine is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RigKind {
    /// Its initiators must authenticate.
    pub(super) chap: bool,
    pub(super) cores: usize,
    /// MiB of payload memory per core.
    pub(super) memory: usize,
    /// Reads lend the store's memory, and need none of the core's.
    pub(super) lends: bool,
    /// It is reached by sockets of the kernel rather than by frames.
    pub(super) kernel: bool,
    /// Behind the disks is a tape library, with a drive.
    pub(super) library: bool,
}

/// One core, and enough of everything.
pub(super) const PLAIN: RigKind =
    RigKind { chap: false, cores: 1, memory: 16, lends: true, kernel: false, library: false };

/// What the machine of one input leaves for that of the next, as making it takes longer than most inputs: memory that
/// is all home, and disks, which are blank again.
struct Reused {
    kind: RigKind,
    plan: Plan,
    clock: Rc<Cell<Instant>>,
    arenas: Vec<Arena>,
    client_arena: Arena,
    media: Vec<Rc<RefCell<Medium>>>,
}

thread_local! {
    /// Empty while a machine is there: an input that panics leaves nothing.
    static REUSED: Cell<Option<Reused>> = const { Cell::new(None) };
}

/// The next machine of this thread gets fresh memory: nothing of the inputs before can have to do with what it does.
pub(super) fn forget() {
    REUSED.take();
}

impl Reused {
    fn new(kind: RigKind) -> Self {
        let mut plan = Plan::new(0);
        (plan.chap, plan.cores, plan.memory) = (kind.chap, kind.cores, kind.memory);
        (plan.queue_depth, plan.segment_max, plan.max_connections) = (8, 8192, 4);
        let wires = &mut plan.wires;
        (wires.loss, wires.duplicate, wires.reorder, wires.corrupt, wires.damage) = (0.0, 0.0, 0.0, 0.0, 0.0);
        (wires.delay_micros, wires.mtu, wires.segmentation, wires.ipv6) = (0, 1500, false, false);
        plan.disks.truncate(1);
        let disk = &mut plan.disks[0];
        (disk.blocks, disk.block, disk.thin, disk.write_cache) = (256, 512, true, true);
        (disk.read_only, disk.serial) = (false, false);
        let store = &mut disk.store;
        (store.lends, store.depth, store.micros_max, store.transfer_max) = (kind.lends, 64, 0, 1 << 20);
        (store.slow, store.fails, store.at_once) = (0.0, 0.0, 1.0);
        let mut other = disk.clone();
        (other.blocks, other.block, other.thin, other.write_cache) = (32, 4096, false, false);
        plan.disks.push(other);
        let clock = Rc::new(Cell::new(Instant::ZERO));
        let media = plan.disks.iter().map(|shape| {
            let (bytes, store) = (shape.blocks * u64::from(shape.block), shape.store.clone());
            Rc::new(RefCell::new(Medium::new(clock.clone(), bytes, shape.block, store, 0, None)))
        });
        let mut media: Vec<_> = media.collect();
        if kind.library {
            let store = plan.disks[0].store.clone();
            let shape = LibraryShape { drives: 1, slots: 2, cartridges: 2, store };
            media.extend(library::blank_cartridges(&shape, &clock, &mut Dice::new(0), None));
            plan.library = Some(shape);
        }
        let client_arena = Arena::new(16 << 20, false).expect("memory");
        Self { kind, arenas: fresh_memory(&plan), clock, client_arena, media, plan }
    }
}

/// An initiator's end of a connection.
enum LineEnd {
    Flow(Port),
    Socket(TcpStream),
    /// A socket that was reset.
    Gone,
}

/// See the module.
pub(super) struct Rig {
    reused: Reused,
    pub(super) machine: Machine,
    pub(super) peers: Peers,
    records: Rc<RefCell<KeptRecords>>,
    address: SocketAddr,
    lines: Vec<LineEnd>,
    /// Memory of the first core that nobody else gets.
    pub(super) held: Vec<SegMut>,
}

impl Rig {
    /// Does something with the bytes, then stops the machine, which must give all memory back.
    pub(super) fn run(kind: RigKind, bytes: &[u8], what: fn(&mut Self, &[u8])) {
        let mut rig = Self::new(kind);
        what(&mut rig, bytes);
        REUSED.set(Some(rig.end()));
    }

    fn new(kind: RigKind) -> Self {
        let reused = REUSED.take().filter(|reused| reused.kind == kind);
        let reused = reused.unwrap_or_else(|| Reused::new(kind));
        let Reused { plan, clock, arenas, client_arena, media, .. } = &reused;
        clock.set(Instant::from_nanos(1_000_000));
        let mut peers = Peers::new(false, 1500, 0);
        peers.send_window = 8 << 10;
        let network = match kind.kernel {
            true => sockets(arenas),
            false => network(plan, &mut peers, arenas, client_arena, None, 0),
        };
        let address = network.address;
        let records = Rc::new(RefCell::new(KeptRecords::new(clock.clone(), 0, None)));
        let machine = boot(plan, (media, &records), arenas.clone(), network, None);
        let mut rig = Self { reused, machine, peers, records, address, lines: Vec::new(), held: Vec::new() };
        rig.settle();
        rig
    }

    pub(super) fn now(&self) -> Instant {
        self.reused.clock.get()
    }

    fn pass(&mut self, time: Duration) {
        self.reused.clock.set(self.now() + time);
    }

    /// Time passes, and whatever that brings about.
    pub(super) fn wait(&mut self, time: Duration) {
        self.pass(time);
        self.settle();
    }

    /// Memory of a core.
    pub(super) fn arena(&self, core: usize) -> &Arena {
        &self.reused.arenas[core]
    }

    /// Lets everybody work until nobody has anything to do.
    pub(super) fn settle(&mut self) {
        for _ in 0..TURNS_MAX {
            self.pass(Duration::from_micros(1));
            let now = self.now();
            let said = self.peers.turn(now);
            let work: usize = self.machine.shards.iter_mut().map(|shard| shard.turn(now)).sum();
            let library = self.reused.plan.library.as_ref().zip(self.machine.library.as_mut());
            let moved = library.and_then(|(shape, desk)| desk.turn(&self.machine.senders, shape));
            match self.records.borrow().next_deadline() {
                _ if said + work + usize::from(moved.is_some()) > 0 => {}
                Some(due) => self.reused.clock.set(due.max(now)),
                None => return,
            }
        }
        panic!("the machine does not come to rest");
    }

    // Connections.

    /// A connection; its number.
    pub(super) fn connect(&mut self) -> usize {
        self.lines.push(match self.reused.kind.kernel {
            true => {
                let socket = TcpStream::connect(self.address).expect("a listener of this machine");
                socket.set_nonblocking(true).expect("a socket");
                LineEnd::Socket(socket)
            }
            false => LineEnd::Flow(self.peers.connect(self.now(), 32 << 10)),
        });
        self.settle();
        self.lines.len() - 1
    }

    pub(super) fn send(&mut self, line: usize, bytes: &[u8]) {
        let mut bytes = VecDeque::from(bytes.to_vec());
        while !bytes.is_empty() {
            let sent = match &mut self.lines[line] {
                LineEnd::Flow(port) => self.peers.send(*port, &mut bytes),
                LineEnd::Socket(socket) => match socket.write(bytes.make_contiguous()) {
                    Ok(sent) => bytes.drain(..sent).len() > 0,
                    Err(_) => false,
                },
                LineEnd::Gone => false,
            };
            self.settle();
            if !sent {
                return;
            }
        }
    }

    pub(super) fn receive(&mut self, line: usize) -> Vec<u8> {
        match &mut self.lines[line] {
            LineEnd::Flow(port) => self.peers.receive(*port),
            LineEnd::Socket(socket) => {
                let mut bytes = vec![0; 64 << 10];
                let len = socket.read(&mut bytes).unwrap_or(0);
                bytes.truncate(len);
                bytes
            }
            LineEnd::Gone => Vec::new(),
        }
    }

    /// Nothing more will be sent.
    pub(super) fn finish(&mut self, line: usize) {
        match &self.lines[line] {
            LineEnd::Flow(port) => self.peers.close(*port),
            LineEnd::Socket(socket) => _ = socket.shutdown(Shutdown::Write),
            LineEnd::Gone => {}
        }
        self.settle();
    }

    /// Resets a connection.
    pub(super) fn reset(&mut self, line: usize) {
        match &self.lines[line] {
            LineEnd::Flow(port) => self.peers.abort(*port),
            LineEnd::Socket(socket) => {
                // With that it is reset when it is dropped, which is now.
                _ = SockRef::from(socket).set_linger(Some(Duration::ZERO));
                self.lines[line] = LineEnd::Gone;
            }
            LineEnd::Gone => {}
        }
        self.settle();
    }

    // Initiators.

    /// An initiator that is logged in over a connection, with the keys given beside those that it takes.
    pub(super) fn log_in(&mut self, line: usize, more: &[(&str, &str)]) -> Initiator {
        let mut initiator = Initiator::new();
        self.log_in_as(line, &mut initiator, more);
        initiator
    }

    /// The same, for an initiator that knows who it is.
    pub(super) fn log_in_as(&mut self, line: usize, initiator: &mut Initiator, more: &[(&str, &str)]) {
        let mut keys = vec![
            ("InitiatorName", "iqn.2026-11.test:fuzz"),
            ("TargetName", TARGET),
            ("SessionType", "Normal"),
            ("InitialR2T", "No"),
        ];
        keys.extend_from_slice(more);
        let login = initiator.login(1, Some(3), &keys);
        self.send(line, &login.encode(initiator.digests));
    }

    /// A command whose transfers the lower bits of `kind` tell: so many blocks in either direction.
    pub(super) fn command(&mut self, line: usize, initiator: &mut Initiator, lun: u64, kind: u8, cdb: &[u8]) {
        let len = u32::from(kind & 15) * 512;
        let transfer =
            Transfer { reads: (kind & 16 != 0).then_some(len), writes: (kind & 32 != 0).then_some(len) };
        let cdb = &cdb[..cdb.len().min(260)];
        let command = initiator.command(lun, cdb, transfer);
        self.send(line, &command.encode(initiator.digests));
        self.hear(line, initiator, Some((&command, cdb)));
    }

    /// Reads what the target says, and answers R2Ts of a command with its CDB, again and again. Returns what it has
    /// said.
    pub(super) fn hear(
        &mut self,
        line: usize,
        initiator: &mut Initiator,
        command: Option<(&Packet, &[u8])>,
    ) -> Vec<Packet> {
        let mut heard = Vec::new();
        loop {
            let bytes = self.receive(line);
            if bytes.is_empty() {
                return heard;
            }
            initiator.push(&bytes);
            while let Some(packet) = initiator.next().unwrap_or_else(|e| panic!("the target: {e}")) {
                if let Some((command, cdb)) = command
                    && packet.opcode() == Opcode::R2T
                    && packet.bhs.itt() == command.bhs.itt()
                {
                    let r2t = R2tHeader::parse(&packet.bhs);
                    let len = r2t.buffer_offset as usize + r2t.desired_len as usize;
                    let mut out = cdb.repeat(len.div_ceil(cdb.len().max(1)));
                    out.resize(len, 0);
                    for pdu in initiator.answer_r2t(command, &packet, &out, 4096) {
                        self.send(line, &pdu.encode(initiator.digests));
                    }
                }
                heard.push(packet);
            }
            self.settle();
        }
    }

    fn end(mut self) -> Reused {
        self.held.clear();
        for line in 0..self.lines.len() {
            self.reset(line);
        }
        self.lines.clear();
        self.settle();
        for sender in &self.machine.senders {
            sender.send(Message::Drain);
        }
        for _ in 0..TURNS_MAX {
            if self.machine.shards.iter().all(Shard::finished) {
                break;
            }
            self.settle();
            self.pass(Duration::from_millis(10));
        }
        assert!(self.machine.shards.iter().all(Shard::finished), "the machine does not stop");
        let Self { reused, machine: Machine { shards, arenas, .. }, .. } = self;
        drop(shards);
        for medium in &reused.media {
            medium.borrow_mut().lose_machine(false);
            medium.borrow_mut().blank(0);
        }
        library::write_heads(&reused.media[reused.plan.disks.len()..]);
        for arena in arenas {
            assert_eq!(arena.in_use(), 0, "memory that did not come home");
        }
        reused
    }
}

/// A host on sockets of the kernel for each core, at one address.
fn sockets(arenas: &[Arena]) -> Network {
    let listener = Arc::new(listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).expect("a free port"));
    let address = listener.local_addr().expect("it is bound");
    let host = |arena: &Arena| KernelHost::new(arena.clone(), vec![listener.clone()]).expect("a host");
    let hosts = arenas.iter().map(|arena| Box::new(host(arena)) as Box<dyn StreamHost>).collect();
    Network { hosts, address, wires: Vec::new() }
}
