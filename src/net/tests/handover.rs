// SPDX-License-Identifier: GPL-2.0-or-later
//! Flows that go from one core to another, as the connections of a session do that came in elsewhere: two hosts with
//! one address, each with a queue of the same device, and a peer that notices nothing.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::socket::tcp;
use smoltcp::wire::{HardwareAddress, IpCidr};

use super::forger::segment;
use super::peer::{Link, PORT, TO_HOST, TO_PEER, back, bytes, forth};
use super::*;
use crate::memory::Arena;
use crate::net::front::SYN;
use crate::ports::memory::{End, MemoryPort, Wire, wire};

/// Where the client comes from, and to the second of two listeners.
fn origin() -> StreamOrigin {
    StreamOrigin { listener: 1, local: ([10, 0, 0, 1], PORT).into(), peer: ([10, 0, 0, 2], 40_000).into() }
}

/// A queue of a device: frames go out at any, and come in at the one that the device has chosen.
struct Queue {
    device: Rc<RefCell<MemoryPort>>,
    chosen: Rc<Cell<usize>>,
    own: usize,
}

impl FramePort for Queue {
    fn caps(&self) -> FrameCaps {
        self.device.borrow().caps()
    }

    fn mac(&self) -> [u8; 6] {
        self.device.borrow().mac()
    }

    fn receive(&mut self, now: Instant, burst: &mut Vec<RxFrame>) -> usize {
        if self.chosen.get() == self.own { self.device.borrow_mut().receive(now, burst) } else { 0 }
    }

    fn transmit(&mut self, now: Instant, burst: &mut VecDeque<TxFrame>) {
        self.device.borrow_mut().transmit(now, burst);
    }

    fn next_deadline(&self) -> Option<Instant> {
        self.device.borrow().next_deadline()
    }
}

struct Cores {
    now: Instant,
    wire: Wire,
    hosts: [TcpHost<Queue>; 2],
    arenas: [Arena; 2],
    /// The queue at which frames come in.
    chosen: Rc<Cell<usize>>,
    link: Link,
    interface: Interface,
    sockets: SocketSet<'static>,
    client: SocketHandle,
    /// What the hosts accepted.
    accepted: Vec<(usize, StreamId)>,
    gone: Vec<(usize, StreamId)>,
    /// What has come at the host's side, and at the peer's.
    served: Vec<u8>,
    heard: Vec<u8>,
    said: usize,
    sent: u64,
}

impl Cores {
    fn new() -> Self {
        let arenas = [(); 2].map(|()| Arena::new(16 << 20, false).unwrap());
        let device = Arena::new(16 << 20, false).unwrap();
        let (wire, [port, peer]) = wire(1, [End::new(1, 1500, device.clone()), End::new(2, 1500, device)]);
        let (device, chosen) = (Rc::new(RefCell::new(port)), Rc::new(Cell::new(0)));
        let addresses = vec![Address { ip: [10, 0, 0, 1].into(), prefix: 24 }];
        let config =
            HostConfig::new(addresses, vec![([10, 0, 0, 1], PORT + 1).into(), ([10, 0, 0, 1], PORT).into()]);
        let hosts = [0, 1].map(|own| {
            let queue = Queue { device: device.clone(), chosen: chosen.clone(), own };
            TcpHost::new(queue, arenas[own].clone(), &config)
        });
        let mut link = Link::new(peer, 1500);
        let mut interface =
            Interface::new(Config::new(HardwareAddress::Ip), &mut link, smoltcp::time::Instant::ZERO);
        interface.update_ip_addrs(|list| {
            list.push(IpCidr::new(IpAddr::from([10, 0, 0, 2]).into(), 24)).expect("room")
        });
        let mut cores = Self {
            now: Instant::ZERO,
            wire,
            hosts,
            arenas,
            chosen,
            link,
            interface,
            sockets: SocketSet::new(Vec::new()),
            client: SocketHandle::default(),
            accepted: Vec::new(),
            gone: Vec::new(),
            served: Vec::new(),
            heard: Vec::new(),
            said: 0,
            sent: 0,
        };
        cores.connect();
        cores
    }

    /// Always from the same port.
    fn connect(&mut self) {
        let ring = || tcp::SocketBuffer::new(vec![0; 64 << 10]);
        let mut socket = tcp::Socket::new(ring(), ring());
        socket.set_nagle_enabled(false);
        let target = (IpAddr::from([10, 0, 0, 1]), PORT);
        socket.connect(self.interface.context(), target, 40_000).expect("a free port");
        self.client = self.sockets.add(socket);
        let count = self.accepted.len();
        self.until(|cores| cores.accepted.len() > count);
    }

    fn socket(&mut self) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(self.client)
    }

    fn counter(&self, core: usize, name: &str) -> u64 {
        self.hosts[core].counters().iter().find(|counter| counter.0.name == name).unwrap().1
    }

    /// The client says so many more bytes.
    fn say(&mut self, len: usize) {
        let data = bytes(TO_HOST, self.said as u64, len);
        self.said += len;
        assert_eq!(self.socket().send_slice(&data), Ok(len));
    }

    /// The owner of the stream says so many more bytes.
    fn answer(&mut self, core: usize, stream: StreamId, len: usize) {
        let data = Sg::copied(&self.arenas[core], &bytes(TO_PEER, self.sent, len)).unwrap();
        self.sent += len as u64;
        self.hosts[core].send(stream, data);
    }

    fn turn(&mut self) {
        for core in 0..2 {
            let mut events = Vec::new();
            self.hosts[core].poll(self.now, &mut events);
            for event in events {
                match event {
                    StreamEvent::Accepted { stream, origin: from } => {
                        assert_eq!(from, origin());
                        self.accepted.push((core, stream));
                    }
                    StreamEvent::Closed(stream) => self.gone.push((core, stream)),
                    StreamEvent::Finished(stream) => self.hosts[core].close(stream),
                    StreamEvent::Readable(stream) => {
                        while let Some(seg) = self.hosts[core].receive(stream) {
                            self.served.extend(Sg::from(seg).to_vec());
                        }
                    }
                    StreamEvent::Writable(_) => {}
                }
            }
            for (to, frame) in self.hosts[core].strays() {
                assert_ne!(to, core, "to another core");
                self.hosts[to].give(frame);
            }
            self.hosts[core].commit(self.now);
        }
        self.interface.poll(forth(self.now), &mut self.link, &mut self.sockets);
        let client = self.client;
        let heard = &mut self.heard;
        let socket = self.sockets.get_mut::<tcp::Socket<'_>>(client);
        while socket.can_recv() {
            let more = socket.recv(|data| (data.len(), data.to_vec()));
            heard.extend(more.expect("can receive"));
        }
        self.interface.poll(forth(self.now), &mut self.link, &mut self.sockets);
    }

    /// Runs until something is so.
    fn until(&mut self, what: impl Fn(&Self) -> bool) {
        let end = self.now + Duration::from_secs(60);
        while !what(self) {
            self.turn();
            let hosts = self.hosts.iter().filter_map(|host| host.next_deadline()).min();
            let peer = self.interface.poll_at(forth(self.now), &self.sockets).map(back);
            let next = [hosts, peer, self.wire.next_deadline()].into_iter().flatten().min();
            self.now = next.unwrap_or(end).max(self.now + Duration::from_micros(1));
            let told = (self.served.len(), self.said, self.heard.len(), self.sent);
            assert!(self.now < end || what(self), "stuck: {told:?}");
        }
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        self.until(|cores| cores.now >= end);
    }

    /// Whether both sides have got what the other has said.
    fn settled(&self) -> bool {
        self.served.len() == self.said && self.heard.len() as u64 == self.sent
    }

    fn assert_right(&self) {
        assert_eq!(self.served, bytes(TO_HOST, 0, self.said));
        assert_eq!(self.heard, bytes(TO_PEER, 0, self.heard.len()));
    }

    /// Core 0 gives the newest stream to core 1.
    fn hand_over(&mut self) -> StreamId {
        let (core, stream) = *self.accepted.last().unwrap();
        assert_eq!(core, 0);
        let detached = self.hosts[0].detach(stream, 1).expect("it can go");
        assert_eq!(detached.origin, origin());
        self.hosts[1].attach(detached).expect("there is room")
    }
}

#[test]
fn a_flow_goes_on_at_another_core() {
    let mut cores = Cores::new();
    cores.say(700);
    cores.until(Cores::settled);
    let stream = cores.hand_over();
    // The device still brings its frames to the first core.
    cores.say(20_000);
    cores.answer(1, stream, 30_000);
    cores.until(Cores::settled);
    let strays = cores.counter(0, "strays");
    assert!(strays >= 14, "{strays} frames came in at the old core, acknowledgements included");
    cores.chosen.set(1);
    cores.say(20_000);
    cores.answer(1, stream, 30_000);
    cores.until(Cores::settled);
    cores.assert_right();
    assert_eq!(cores.counter(0, "strays"), strays, "no more of them");
    let moved = |core| (cores.counter(core, "handed_over"), cores.counter(core, "taken_over"));
    assert_eq!((moved(0), moved(1)), ((1, 0), (0, 1)));
    assert_eq!((cores.counter(0, "flows"), cores.counter(1, "flows")), (0, 1));
    // The end of it, and of all memory.
    cores.socket().close();
    cores.until(|cores| cores.gone == [(1, stream)]);
    cores.until(|cores| cores.counter(1, "flows") == 0);
    assert_eq!(cores.arenas.each_ref().map(|arena| arena.in_use()), [0, 0]);
}

#[test]
fn a_flow_keeps_its_origin_wherever_it_goes() {
    let mut cores = Cores::new();
    let stream = cores.hand_over();
    let detached = cores.hosts[1].detach(stream, 0).expect("it goes back");
    assert_eq!(detached.origin, origin());
}

#[test]
fn a_new_connection_from_the_same_place_stays_where_it_comes_in() {
    let mut cores = Cores::new();
    let stream = cores.hand_over();
    cores.hosts[1].abort(stream);
    cores.until(|cores| cores.gone == [(1, stream)]);
    let old = cores.client;
    cores.sockets.remove(old);
    cores.connect();
    assert_eq!(cores.accepted.len(), 2);
    assert_eq!(cores.accepted[1].0, 0);
    cores.say(700);
    cores.until(Cores::settled);
    cores.assert_right();
}

#[test]
fn what_is_under_way_or_over_cannot_go() {
    let mut cores = Cores::new();
    let (_, stream) = cores.accepted[0];
    cores.answer(0, stream, 100);
    assert!(cores.hosts[0].detach(stream, 1).is_none(), "something is to be sent");
    cores.until(Cores::settled);
    cores.pass(Duration::from_secs(1));
    let other = StreamId(stream.0 ^ 1 << 40);
    assert!(cores.hosts[0].detach(other, 1).is_none(), "no such stream");
    let detached = cores.hosts[0].detach(stream, 1).expect("all is acknowledged");
    assert!(cores.hosts[0].detach(stream, 1).is_none(), "it has gone");
    cores.hosts[1].attach(detached).expect("there is room");
    let (_, stream) = {
        let old = cores.client;
        cores.socket().abort();
        cores.until(|cores| !cores.gone.is_empty());
        cores.sockets.remove(old);
        cores.connect();
        cores.accepted[1]
    };
    cores.hosts[0].close(stream);
    assert!(cores.hosts[0].detach(stream, 1).is_none(), "it is closed");
    // Not a stream of that kind of host.
    let origin = StreamOrigin { peer: ([10, 0, 0, 2], 40_001).into(), ..origin() };
    assert!(cores.hosts[1].attach(Detached { origin, state: Box::new(7) }).is_none());
}

#[test]
fn strays_without_memory_are_lost_and_sent_again() {
    let mut cores = Cores::new();
    let stream = cores.hand_over();
    let mut held = Vec::new();
    for size in [1 << 20, 64 << 10, 4096, 200] {
        held.extend(std::iter::from_fn(|| cores.arenas[1].alloc_reserved(size)));
    }
    cores.say(5000);
    for _ in 0..20 {
        cores.turn();
        cores.now = cores.now + Duration::from_millis(1);
    }
    assert!(cores.served.is_empty(), "nowhere to put it");
    drop(held);
    cores.until(Cores::settled);
    cores.answer(1, stream, 5000);
    cores.until(Cores::settled);
    cores.assert_right();
}

#[test]
fn bytes_beyond_a_hole_go_along() {
    let mut cores = Cores::new();
    // So that the peer sends several segments at once; of the next ones the first is lost.
    cores.say(40_000);
    cores.until(Cores::settled);
    let said = Rc::new(Cell::new(0));
    let count = said.clone();
    let filter = move |_: Instant, frame: &[u8]| {
        let payload = frame.len() - 54;
        count.set(count.get() + payload);
        payload == 0 || count.get() > payload
    };
    cores.wire.set_filter(1, Some(Box::new(filter)));
    cores.say(10_000);
    cores.until(|_| said.get() == 10_000);
    cores.turn();
    assert_eq!(cores.served.len(), 40_000, "nothing is in order");
    let stream = cores.hand_over();
    cores.until(Cores::settled);
    assert_eq!(said.get(), 10_000 + 1460, "the first segment alone was sent again");
    cores.answer(1, stream, 5000);
    cores.until(Cores::settled);
    cores.assert_right();
}

/// Somebody has begun a connection in the peer's name at either core, before the flow came and when it had gone.
#[test]
fn a_handshake_in_the_name_of_a_moved_flow_takes_nothing_of_it() {
    let mut cores = Cores::new();
    let forge = |cores: &mut Cores, core: usize| {
        let frame = segment(false, (40_000, PORT), (77, 0), SYN, &[], &[]);
        let mut block = cores.arenas[core].alloc(frame.len()).unwrap();
        block.bytes_mut().copy_from_slice(&frame);
        let frame = RxFrame { data: block.freeze(), checksum: RxChecksum::Good };
        cores.hosts[core].receive_frames(&[frame], &mut Vec::new());
        cores.turn();
        cores.counter(core, "half_open")
    };
    assert_eq!(forge(&mut cores, 1), 1);
    let stream = cores.hand_over();
    assert_eq!(cores.counter(1, "half_open"), 0);
    assert_eq!((forge(&mut cores, 0), forge(&mut cores, 1)), (1, 0));
    cores.say(20_000);
    cores.answer(1, stream, 30_000);
    cores.until(Cores::settled);
    cores.assert_right();
    assert_eq!((cores.accepted.len(), cores.counter(0, "resets_sent")), (1, 0));
}
