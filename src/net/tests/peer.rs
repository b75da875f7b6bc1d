// SPDX-License-Identifier: GPL-2.0-or-later
//! The other end of the wire: clients on smoltcp that send and expect a stream of numbered bytes, the host under test
//! with an owner that does the same, and the clock of both.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp;
use smoltcp::wire::{HardwareAddress, IpCidr};

use super::super::*;
use crate::memory::Arena;
use crate::ports::memory::{End, Faults, MemoryPort, Wire, wire};

pub(super) const HOST_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
pub(super) const PEER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
const ETHERNET: usize = 14;
pub(super) const PORT: u16 = 3260;

/// The byte at an offset of a stream.
pub(super) fn byte(stream: u64, at: u64) -> u8 {
    ((at + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(stream * 0x51) >> 56).to_le_bytes()[0]
}

pub(super) fn bytes(stream: u64, at: u64, len: usize) -> Vec<u8> {
    (at..).take(len).map(|at| byte(stream, at)).collect()
}

fn check(stream: u64, at: u64, data: &[u8]) {
    let wrong = (at..).zip(data).find(|&(at, &have)| byte(stream, at) != have);
    assert_eq!(wrong, None, "a byte of stream {stream} is not the one that was sent");
}

/// What streams towards the peer, and from it, are numbered as.
pub(super) const TO_PEER: u64 = 1;
pub(super) const TO_HOST: u64 = 2;

pub(super) struct Link {
    port: MemoryPort,
    frames: Vec<RxFrame>,
    mtu: usize,
}

impl Link {
    pub(super) fn new(port: MemoryPort, mtu: u16) -> Self {
        Self { port, frames: Vec::new(), mtu: usize::from(mtu) }
    }
}

pub(super) struct Received(Vec<u8>);

impl RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

pub(super) struct Sending<'a>(&'a mut MemoryPort, smoltcp::time::Instant);

impl TxToken for Sending<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut packet = vec![0; len];
        let result = f(&mut packet);
        let ethertype: [u8; 2] = if packet[0] >> 4 == 6 { [0x86, 0xdd] } else { [8, 0] };
        let header = [&HOST_MAC[..], &PEER_MAC, &ethertype, &packet].concat().into();
        let frame = TxFrame { header, payload: Sg::new(), offload: None };
        self.0.transmit(back(self.1), &mut [frame].into());
        result
    }
}

pub(super) fn back(now: smoltcp::time::Instant) -> Instant {
    Instant::from_nanos(u64::try_from(now.total_micros()).expect("positive") * 1000)
}

pub(super) fn forth(now: Instant) -> smoltcp::time::Instant {
    smoltcp::time::Instant::from_micros(i64::try_from(now.as_nanos() / 1000).expect("near"))
}

impl Device for Link {
    type RxToken<'t>
        = Received
    where
        Self: 't;
    type TxToken<'t>
        = Sending<'t>
    where
        Self: 't;

    fn receive(&mut self, now: smoltcp::time::Instant) -> Option<(Received, Sending<'_>)> {
        if self.frames.is_empty() {
            self.port.receive(back(now), &mut self.frames);
        }
        while !self.frames.is_empty() {
            let frame = self.frames.remove(0);
            let data: &[u8] = frame.data.private().expect("private");
            if matches!(data[12..14], [8, 0] | [0x86, 0xdd]) {
                let packet = data[ETHERNET..].to_vec();
                return Some((Received(packet), Sending(&mut self.port, now)));
            }
        }
        None
    }

    fn transmit(&mut self, now: smoltcp::time::Instant) -> Option<Sending<'_>> {
        Some(Sending(&mut self.port, now))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut caps = DeviceCapabilities::default();
        caps.medium = Medium::Ip;
        caps.max_transmission_unit = self.mtu;
        caps
    }
}

/// What a client does with its connection, and how far it is.
#[derive(Clone, Debug)]
pub(super) struct Client {
    pub(super) handle: SocketHandle,
    /// How many bytes it sends, and has sent.
    pub(super) send: u64,
    pub(super) sent: u64,
    pub(super) received: u64,
    /// It reads what arrives.
    pub(super) reads: bool,
    /// It closes its side when all is sent.
    pub(super) closes: bool,
}

/// What the owner of the host's streams does with one, and how far it is.
#[derive(Clone, Debug, Default)]
pub(super) struct Served {
    pub(super) send: u64,
    pub(super) sent: u64,
    pub(super) received: u64,
    pub(super) finished: bool,
    pub(super) closed: bool,
    close_called: bool,
}

/// What the owner does with new streams.
#[derive(Clone, Copy, Debug)]
pub(super) struct Owner {
    /// How many bytes it sends on each.
    pub(super) send: u64,
    /// In pieces of so many bytes.
    pub(super) piece: usize,
    pub(super) reads: bool,
    /// It closes when all is sent.
    pub(super) closes: bool,
    /// It closes when the peer has finished.
    pub(super) answers_fin: bool,
}

/// What the world is made of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setup {
    pub(super) seed: u64,
    pub(super) ipv6: bool,
    pub(super) mtu: u16,
    /// Of the peer, where that is another; 0: the same.
    pub(super) peer_mtu: u16,
    /// The host's port cuts segments, and the peer takes large frames only if `whole`.
    pub(super) offload: bool,
    pub(super) whole: bool,
    pub(super) secret: [u64; 2],
    /// Rings of the client's socket.
    pub(super) window: usize,
    pub(super) owner: Owner,
}

impl Default for Setup {
    fn default() -> Self {
        let owner = Owner { send: 0, piece: 60_000, reads: true, closes: false, answers_fin: true };
        Self {
            seed: 1,
            ipv6: false,
            mtu: 1500,
            peer_mtu: 0,
            offload: false,
            whole: false,
            secret: [1, 2],
            window: 256 << 10,
            owner,
        }
    }
}

pub(super) struct World {
    pub(super) now: Instant,
    pub(super) wire: Wire,
    pub(super) host: TcpHost<MemoryPort>,
    /// The host's memory.
    pub(super) arena: Arena,
    pub(super) owner: Owner,
    pub(super) served: HashMap<StreamId, Served>,
    /// In the order in which they were accepted.
    pub(super) streams: Vec<StreamId>,
    link: Link,
    interface: Interface,
    pub(super) sockets: SocketSet<'static>,
    pub(super) clients: Vec<Client>,
    setup: Setup,
    pub(super) next_port: u16,
    /// The peer is not polled.
    pub(super) peer_is_gone: bool,
    /// How often both ends had a turn.
    pub(super) turns: u64,
}

impl World {
    pub(super) fn new(setup: Setup) -> Self {
        let arena = Arena::new(64 << 20, false).expect("memory");
        let peer_mtu = if setup.peer_mtu == 0 { setup.mtu } else { setup.peer_mtu };
        let mut host_end = End::new(1, setup.mtu, arena.clone());
        let mut peer_end = End::new(2, peer_mtu, Arena::new(64 << 20, false).expect("memory"));
        if setup.offload {
            host_end = host_end.with_segmentation();
        }
        if setup.whole {
            peer_end = peer_end.with_segmentation();
        }
        let (wire, [host_port, peer_port]) = wire(setup.seed, [host_end, peer_end]);
        let addresses = [("10.0.0.1", 24), ("fd00::1", 64)]
            .map(|(ip, prefix)| Address { ip: ip.parse().expect("an address"), prefix });
        let listen = addresses.map(|address| SocketAddr::new(address.ip, PORT)).to_vec();
        let mut config = HostConfig::new(addresses.to_vec(), listen);
        config.secret = setup.secret;
        let host = TcpHost::new(host_port, arena.clone(), &config);
        let mut link = Link::new(peer_port, peer_mtu);
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = setup.seed;
        let mut interface = Interface::new(config, &mut link, smoltcp::time::Instant::ZERO);
        interface.update_ip_addrs(|list| {
            for (ip, prefix) in [("10.0.0.2", 24), ("fd00::2", 64)] {
                let ip: IpAddr = ip.parse().expect("an address");
                list.push(IpCidr::new(ip.into(), prefix)).expect("room");
            }
        });
        Self {
            now: Instant::ZERO,
            wire,
            host,
            arena,
            owner: setup.owner,
            served: HashMap::new(),
            streams: Vec::new(),
            link,
            interface,
            sockets: SocketSet::new(Vec::new()),
            clients: Vec::new(),
            setup,
            next_port: 40_000,
            peer_is_gone: false,
            turns: 0,
        }
    }

    pub(super) fn host_address(&self) -> IpAddr {
        if self.setup.ipv6 { "fd00::1" } else { "10.0.0.1" }.parse().expect("an address")
    }

    /// A client that sends so many bytes.
    pub(super) fn connect(&mut self, send: u64) -> usize {
        self.next_port += 1;
        self.connect_from(self.next_port, PORT, send)
    }

    pub(super) fn connect_from(&mut self, from: u16, to: u16, send: u64) -> usize {
        let ring = || tcp::SocketBuffer::new(vec![0; self.setup.window]);
        let mut socket = tcp::Socket::new(ring(), ring());
        socket.set_nagle_enabled(false);
        let address = self.host_address();
        socket.connect(self.interface.context(), (address, to), from).expect("a free port");
        let handle = self.sockets.add(socket);
        self.clients.push(Client { handle, send, sent: 0, received: 0, reads: true, closes: false });
        self.clients.len() - 1
    }

    pub(super) fn socket(&mut self, client: usize) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(self.clients[client].handle)
    }

    fn own(&mut self, events: Vec<StreamEvent>) {
        for event in events {
            match event {
                StreamEvent::Accepted { stream, origin } => {
                    assert_eq!(
                        origin.listener,
                        usize::from(origin.local.is_ipv6()),
                        "they are in this order"
                    );
                    self.streams.push(stream);
                    self.served.insert(stream, Served { send: self.owner.send, ..Served::default() });
                }
                StreamEvent::Finished(stream) => {
                    let served = self.served.get_mut(&stream).expect("accepted before");
                    assert!(!std::mem::replace(&mut served.finished, true), "finished twice");
                }
                StreamEvent::Closed(stream) => {
                    let served = self.served.get_mut(&stream).expect("accepted before");
                    assert!(!std::mem::replace(&mut served.closed, true), "closed twice");
                }
                StreamEvent::Readable(_) | StreamEvent::Writable(_) => {}
            }
        }
        for &id in &self.streams {
            let served = self.served.get_mut(&id).expect("accepted");
            if served.closed {
                continue;
            }
            while self.owner.reads
                && let Some(seg) = self.host.receive(id)
            {
                assert!(!served.finished, "bytes after the end");
                let mut data = vec![0; seg.len()];
                seg.copy_to(0, &mut data);
                check(TO_HOST, served.received, &data);
                served.received += data.len() as u64;
            }
            while served.sent < served.send && self.host.room(id) > 0 {
                let len = u64::min(served.send - served.sent, self.owner.piece as u64);
                let len = usize::try_from(len).expect("small");
                let Some(data) = Sg::copied(&self.arena, &bytes(TO_PEER, served.sent, len)) else { break };
                self.host.send(id, data);
                served.sent += len as u64;
            }
            let ends = self.owner.closes || (self.owner.answers_fin && served.finished);
            if ends && served.sent == served.send && !std::mem::replace(&mut served.close_called, true) {
                self.host.close(id);
            }
        }
    }

    fn drive_clients(&mut self) {
        for client in &mut self.clients {
            let socket = self.sockets.get_mut::<tcp::Socket<'_>>(client.handle);
            while client.reads && socket.can_recv() {
                let received = client.received;
                let len = socket.recv(|data| {
                    check(TO_PEER, received, data);
                    (data.len(), data.len())
                });
                client.received += len.expect("can receive") as u64;
            }
            while client.sent < client.send && socket.can_send() {
                let len = usize::try_from(u64::min(client.send - client.sent, 50_000)).expect("small");
                let sent = socket.send_slice(&bytes(TO_HOST, client.sent, len)).expect("can send");
                client.sent += sent as u64;
                if sent < len {
                    break;
                }
            }
            if client.closes && client.sent == client.send && socket.may_send() {
                socket.close();
            }
        }
    }

    /// One turn of both ends, without letting time pass.
    pub(super) fn turn(&mut self) {
        self.turns += 1;
        let mut events = Vec::new();
        self.host.poll(self.now, &mut events);
        self.own(events);
        self.host.commit(self.now);
        if !self.peer_is_gone {
            self.interface.poll(forth(self.now), &mut self.link, &mut self.sockets);
            self.drive_clients();
            self.interface.poll(forth(self.now), &mut self.link, &mut self.sockets);
        }
    }

    fn next(&mut self) -> Option<Instant> {
        let host = self.host.next_deadline();
        if self.peer_is_gone {
            return host;
        }
        let peer = self.interface.poll_at(forth(self.now), &self.sockets).map(back);
        [host, peer, self.wire.next_deadline()].into_iter().flatten().min()
    }

    /// Runs until something is so, for so long at most; returns whether it is.
    pub(super) fn run(&mut self, limit: Duration, mut until: impl FnMut(&mut Self) -> bool) -> bool {
        let end = self.now + limit;
        loop {
            self.turn();
            if until(self) {
                return true;
            }
            // At least a microsecond, which is what smoltcp counts in.
            let step = self.now + Duration::from_micros(1);
            match self.next() {
                Some(next) if next <= end => self.now = next.max(step),
                _ if self.now >= end => return false,
                _ => self.now = end,
            }
        }
    }

    pub(super) fn pass(&mut self, time: Duration) {
        self.run(time, |_| false);
    }

    pub(super) fn faults(&self, faults: Faults) {
        self.wire.set_all_faults(faults);
    }

    pub(super) fn counter(&self, name: &str) -> u64 {
        let counters = self.host.counters();
        counters
            .iter()
            .find(|counter| counter.0.name == name)
            .unwrap_or_else(|| panic!("no counter {name}"))
            .1
    }

    /// What the owner has done with the newest stream.
    pub(super) fn last(&self) -> &Served {
        &self.served[self.streams.last().expect("a stream")]
    }

    /// Connects a client and runs until its stream is there.
    pub(super) fn established(&mut self, send: u64) -> (usize, StreamId) {
        let count = self.streams.len();
        let client = self.connect(send);
        assert!(self.run(Duration::from_secs(60), |world| world.streams.len() > count), "a connection");
        (client, self.streams[count])
    }

    /// Everything is over: no flow, and all memory is home.
    pub(super) fn assert_empty(&mut self) {
        assert!(self.run(Duration::from_secs(120), |world| world.counter("flows") == 0), "flows are left");
        self.pass(Duration::from_secs(1));
        assert_eq!(self.arena.in_use(), 0, "memory is not home");
        assert_eq!(self.counter("half_open"), 0);
    }
}
