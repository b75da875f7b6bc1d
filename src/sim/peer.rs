// SPDX-License-Identifier: GPL-2.0-or-later
//! The initiators' end of the wires: a TCP of its own for each connection (smoltcp with its ordinary rings, so that
//! nothing of the target's TCP is on this side), on one Ethernet port per core of the target. The receiving core is
//! chosen by the connection's port number, as a NIC chooses by a hash.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::wire::{HardwareAddress, IpCidr};

use super::canary::Segment;
use super::forger::{self, Forger};
use crate::memory::Sg;
use crate::net::{FramePort, RxFrame, TxFrame};
use crate::ports::memory::{Dice, MemoryPort};
use crate::time::Instant;

const ETHERNET: usize = 14;

/// The target's address in a network.
pub(super) fn target_address(ipv6: bool) -> SocketAddr {
    SocketAddr::new(address(ipv6, 1), 3260)
}

/// The initiators' address in a network.
pub(super) fn initiator_address(ipv6: bool) -> IpAddr {
    address(ipv6, 9)
}

fn address(ipv6: bool, host: u8) -> IpAddr {
    match ipv6 {
        false => Ipv4Addr::new(192, 0, 2, host).into(),
        true => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, host.into()).into(),
    }
}

/// Names a connection of the initiators: its port number.
pub(super) type Port = u16;

fn time(now: Instant) -> smoltcp::time::Instant {
    smoltcp::time::Instant::from_micros(i64::try_from(now.as_nanos() / 1000).expect("short runs"))
}

/// Packets in and out of one connection.
struct Queue {
    mtu: usize,
    rx: VecDeque<Vec<u8>>,
    tx: VecDeque<Vec<u8>>,
}

struct Packet(Vec<u8>);

/// How often an initiator with nothing to say asks whether the target is there.
const KEEP_ALIVE: smoltcp::time::Duration = smoltcp::time::Duration::from_secs(10);

impl RxToken for Packet {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

struct Slot<'a>(&'a mut VecDeque<Vec<u8>>);

impl TxToken for Slot<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut packet = vec![0; len];
        let result = f(&mut packet);
        self.0.push_back(packet);
        result
    }
}

impl Device for Queue {
    type RxToken<'t> = Packet;
    type TxToken<'t> = Slot<'t>;

    fn receive(&mut self, _: smoltcp::time::Instant) -> Option<(Packet, Slot<'_>)> {
        let packet = self.rx.pop_front()?;
        Some((Packet(packet), Slot(&mut self.tx)))
    }

    fn transmit(&mut self, _: smoltcp::time::Instant) -> Option<Slot<'_>> {
        Some(Slot(&mut self.tx))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut caps = DeviceCapabilities::default();
        caps.medium = Medium::Ip;
        caps.max_transmission_unit = self.mtu;
        caps
    }
}

struct Connection {
    queue: Queue,
    interface: Interface,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    /// Both digests are on: damage that TCP does not see will be noticed.
    digested: bool,
}

impl Connection {
    fn socket(&mut self) -> &mut Socket<'static> {
        self.sockets.get_mut(self.handle)
    }
}

/// See the module.
pub(super) struct Peers {
    ports: Vec<MemoryPort>,
    target_mac: Vec<[u8; 6]>,
    connections: BTreeMap<Port, Connection>,
    next_port: Port,
    ipv6: bool,
    mtu: usize,
    dice: Dice,
    /// Bytes of a connection that may wait to be sent.
    pub(super) send_window: usize,
    /// Share of segments that are damaged where digests are on.
    pub(super) damage: f64,
    pub(super) damaged: u64,
    /// Somebody who is not one of them.
    pub(super) forger: Forger,
    pub(super) forged: u64,
    /// A connection of which something went to him.
    pub(super) robbed: Option<Port>,
    frames: Vec<RxFrame>,
}

impl Peers {
    pub(super) fn new(ipv6: bool, mtu: u16, seed: u64) -> Self {
        Self {
            ports: Vec::new(),
            target_mac: Vec::new(),
            connections: BTreeMap::new(),
            next_port: 1024,
            ipv6,
            mtu: mtu.into(),
            dice: Dice::new(seed),
            send_window: 1 << 16,
            damage: 0.0,
            damaged: 0,
            forger: Forger::new(0.0, ipv6, seed),
            forged: 0,
            robbed: None,
            frames: Vec::new(),
        }
    }

    /// New wires to a new target: a port and the target's Ethernet address behind it, for each core.
    pub(super) fn plug(&mut self, ports: Vec<(MemoryPort, [u8; 6])>) {
        (self.ports, self.target_mac) = ports.into_iter().unzip();
    }

    /// The port that leads to a core, for those who send frames of their own.
    pub(super) fn wire_port(&mut self, core: usize) -> &mut MemoryPort {
        &mut self.ports[core]
    }

    /// For a failure's report.
    pub(super) fn describe(&self, port: Port) -> String {
        let connection = self.connections.get(&port);
        let socket = connection.map(|c| c.sockets.get::<Socket<'_>>(c.handle));
        socket.map_or_else(
            || "no socket".to_owned(),
            |s| format!("TCP {}, {} to send, {} to receive", s.state(), s.send_queue(), s.recv_queue()),
        )
    }

    /// Begins a connection.
    pub(super) fn connect(&mut self, now: Instant, window: usize) -> Port {
        let port = self.next_port;
        self.next_port = self.next_port.checked_add(1).unwrap_or(1024);
        let mut queue = Queue { mtu: self.mtu, rx: VecDeque::new(), tx: VecDeque::new() };
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = self.dice.roll();
        let mut interface = Interface::new(config, &mut queue, time(now));
        let own = initiator_address(self.ipv6);
        let prefix = if self.ipv6 { 64 } else { 24 };
        interface.update_ip_addrs(|list| _ = list.push(IpCidr::new(own.into(), prefix)));
        let buffer = |len| SocketBuffer::new(vec![0; len]);
        let mut socket = Socket::new(buffer(window), buffer(self.send_window));
        socket.set_nagle_enabled(false);
        // A reset is sent once and may be lost: who only waits has to ask whether the other side is still there.
        socket.set_keep_alive(Some(KEEP_ALIVE));
        let target = target_address(self.ipv6);
        let remote = (smoltcp::wire::IpAddress::from(target.ip()), target.port());
        socket.connect(interface.context(), remote, port).expect("a fresh socket connects");
        let mut sockets = SocketSet::new(Vec::new());
        let handle = sockets.add(socket);
        self.connections.insert(port, Connection { queue, interface, sockets, handle, digested: false });
        port
    }

    /// Connections begun since the beginning.
    pub(super) fn begun(&self) -> u64 {
        u64::from(self.next_port - 1024)
    }

    /// Digests are on from now on.
    pub(super) fn set_digested(&mut self, port: Port) {
        if let Some(connection) = self.connections.get_mut(&port) {
            connection.digested = true;
        }
    }

    /// Whether the handshake is done.
    pub(super) fn is_open(&mut self, port: Port) -> bool {
        self.connections.get_mut(&port).is_some_and(|c| c.socket().may_send())
    }

    /// Whether the target has closed or reset it, or it timed out, and there is nothing more to read.
    pub(super) fn has_ended(&mut self, port: Port) -> bool {
        let Some(connection) = self.connections.get_mut(&port) else { return true };
        let socket = connection.socket();
        !socket.may_recv() && !matches!(socket.state(), State::SynSent | State::SynReceived)
    }

    /// Sends as much of `bytes` as there is room for, and takes that from its front.
    pub(super) fn send(&mut self, port: Port, bytes: &mut VecDeque<u8>) -> bool {
        let Some(connection) = self.connections.get_mut(&port) else { return false };
        let sent = connection.socket().send_slice(bytes.make_contiguous()).unwrap_or(0);
        bytes.drain(..sent);
        sent > 0
    }

    /// What has arrived.
    pub(super) fn receive(&mut self, port: Port) -> Vec<u8> {
        let Some(connection) = self.connections.get_mut(&port) else { return Vec::new() };
        let mut bytes = vec![0; connection.socket().recv_queue()];
        let len = connection.socket().recv_slice(&mut bytes).unwrap_or(0);
        bytes.truncate(len);
        bytes
    }

    /// FIN.
    pub(super) fn close(&mut self, port: Port) {
        if let Some(connection) = self.connections.get_mut(&port) {
            connection.socket().close();
        }
    }

    /// RST.
    pub(super) fn abort(&mut self, port: Port) {
        if let Some(connection) = self.connections.get_mut(&port) {
            connection.socket().abort();
        }
    }

    /// Forgets a connection without a word; what still arrives for it finds nobody.
    pub(super) fn forget(&mut self, port: Port) {
        self.connections.remove(&port);
    }

    /// One turn of all connections. Returns how many frames came and went.
    pub(super) fn turn(&mut self, now: Instant) -> usize {
        let mut work = 0;
        let mut frames = std::mem::take(&mut self.frames);
        for core in 0..self.ports.len() {
            self.ports[core].receive(now, &mut frames);
            work += frames.len();
            for frame in frames.drain(..) {
                self.deliver(frame.data.private().expect("private").to_vec());
            }
        }
        self.frames = frames;
        let cores = self.ports.len();
        for core in 0..cores {
            // Whoever spreads frames over the cores goes by their addresses and ports, whoever sends them.
            let at_core = |port: &Port| usize::from(*port) % cores == core;
            let ports: Vec<Port> = self.connections.keys().copied().filter(at_core).collect();
            let next = (self.next_port..).find(at_core).unwrap_or(self.next_port);
            let forged = self.forger.frames(self.target_mac[core], &ports, next);
            self.forged += forged.len() as u64;
            let frame = |bytes: Vec<u8>| TxFrame { header: bytes.into(), payload: Sg::new(), offload: None };
            self.ports[core].transmit(now, &mut forged.into_iter().map(frame).collect());
        }
        let mut bursts: Vec<VecDeque<TxFrame>> = self.ports.iter().map(|_| VecDeque::new()).collect();
        for (&port, connection) in &mut self.connections {
            let Connection { queue, interface, sockets, digested, .. } = connection;
            interface.poll(time(now), queue, sockets);
            let core = usize::from(port) % cores;
            while let Some(packet) = queue.tx.pop_front() {
                work += 1;
                let mut frame = Vec::with_capacity(ETHERNET + packet.len());
                frame.extend(self.target_mac[core]);
                frame.extend(self.ports[core].mac());
                frame.extend(if self.ipv6 { [0x86, 0xdd] } else { [0x08, 0x00] });
                frame.extend(packet);
                if *digested && self.dice.chance(self.damage) {
                    self.damaged += u64::from(damage(&mut frame, &mut self.dice));
                }
                bursts[core].push_back(TxFrame { header: frame.into(), payload: Sg::new(), offload: None });
            }
        }
        for (port, mut burst) in self.ports.iter_mut().zip(bursts) {
            port.transmit(now, &mut burst);
        }
        work
    }

    fn deliver(&mut self, mut frame: Vec<u8>) {
        let Some(segment) = Segment::of(&frame) else { return };
        let Some(connection) = self.connections.get_mut(&segment.to_port) else { return };
        if frame[..6] == forger::MAC {
            // A SYN of his may be answered; nothing else is for him. What the wire has changed may look like more.
            if segment.len > 0 && segment.intact {
                self.robbed = Some(segment.to_port);
            }
            return;
        }
        if connection.digested && self.dice.chance(self.damage) {
            self.damaged += u64::from(damage(&mut frame, &mut self.dice));
        }
        connection.queue.rx.push_back(frame.split_off(ETHERNET));
    }

    /// When a turn is needed next.
    pub(super) fn next_deadline(&mut self, now: Instant) -> Option<Instant> {
        let timers = self.connections.values_mut().filter_map(|c| {
            let at = c.interface.poll_at(time(now), &c.sockets)?;
            let micros = u64::try_from(at.total_micros()).unwrap_or(0);
            Some(Instant::from_nanos(micros * 1000))
        });
        let frames = self.ports.iter().filter_map(FramePort::next_deadline);
        timers.chain(frames).min()
    }
}

/// Exchanges a bit between two words of a TCP segment's payload, which leaves the checksum as it is.
fn damage(frame: &mut [u8], dice: &mut Dice) -> bool {
    let Some(Segment { payload, len, .. }) = Segment::of(frame) else { return false };
    let words = (len / 2) as u64;
    if words < 2 {
        return false;
    }
    let byte = |word: u64| payload + usize::try_from(word).expect("short") * 2;
    let (one, bit) = (byte(dice.below(words)), 1 << dice.below(8));
    for _ in 0..64 {
        let other = byte(dice.below(words));
        if (frame[one] ^ frame[other]) & bit != 0 {
            frame[one] ^= bit;
            frame[other] ^= bit;
            return true;
        }
    }
    false
}
