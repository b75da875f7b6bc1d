// SPDX-License-Identifier: GPL-2.0-or-later
//! Frames of other protocols over the real ports: what one end sends is what the other end's claimant gets, tags
//! included. Sockets of the kernel that go from core to core.
//!
//! The kernel's devices are in a network namespace of the test's own, and DPDK starts once per process: so each test
//! runs again in a process of its own.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;
use socket2::SockRef;

use super::kernel::{KernelHost, listen};
use super::link::LinkOptions;
use super::packet::Packet;
use super::tap::{Tap, TapOptions};
use crate::memory::{Arena, MemoryCharge, Seg, Sg};
use crate::net::{
    FrameClaim, FramePort, HostConfig, LinkClient, Listener, StreamEvent, StreamHost, TcpHost, TxFrame,
};
use crate::time::Instant;

const FCOE: u16 = 0x8906;
const FIP: u16 = 0x8914;

/// Where all FCoE forwarders listen (FC-BB-5).
const ALL_FORWARDERS: [u8; 6] = [0x01, 0x10, 0x18, 0x01, 0x00, 0x02];

/// An address that a fabric has given (FC-BB-5: the fabric's prefix, and a port's identifier).
const FROM_FABRIC: [u8; 6] = [0x0e, 0xfc, 0x00, 0x01, 0x02, 0x03];

/// Set in the process in which a test really runs.
const INSIDE: &str = "PTGT_TEST_INSIDE";

/// Whether this is the process for the test; else starts it, in a network namespace of its own if it is to have one,
/// and fails if it fails.
pub(crate) fn inside(test: &str, namespace: bool) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let program = std::env::current_exe().unwrap();
    let mut command = Command::new(&program);
    if namespace {
        command = Command::new("unshare");
        command.arg("--net");
        if !command.arg("true").output().is_ok_and(|run| run.status.success()) {
            eprintln!("skipped: needs the right to make a network namespace");
            return false;
        }
        command = Command::new("unshare");
        command.arg("--net").arg(program);
    }
    let run = command.args(["--exact", test, "--nocapture"]).env(INSIDE, "1").output().unwrap();
    let said = String::from_utf8_lossy(&run.stdout) + String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success() && said.contains("1 passed"), "{said}");
    false
}

fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status().unwrap();
    assert!(status.success(), "ip {arguments}");
}

/// The kernel has nothing of its own to say on a device.
fn quiet(device: &str) {
    std::fs::write(format!("/proc/sys/net/ipv6/conf/{device}/disable_ipv6"), "1").unwrap();
}

/// Whether a device of the kernel's gives what is for others, too.
fn hears_everything(device: &str) -> bool {
    let run = Command::new("ip").args(["-d", "link", "show", "dev", device]).output().unwrap();
    !String::from_utf8(run.stdout).unwrap().contains("promiscuity 0 ")
}

/// va and vb, which are each other's peers.
pub(crate) fn veth() {
    ip("link add va type veth peer name vb");
    for end in ["va", "vb"] {
        quiet(end);
        ip(&format!("link set {end} up"));
    }
}

fn arena() -> Arena {
    Arena::new(16 << 20, false).unwrap()
}

/// A host on a port, and a protocol beside its TCP/IP.
struct Claimant {
    host: Box<dyn StreamHost>,
    client: LinkClient,
}

/// One that has claimed FCoE without a tag and on VLAN 100, and FIP.
fn claimant(port: io::Result<impl FramePort + 'static>, arena: Arena) -> Claimant {
    let config = HostConfig::new(Vec::new(), Vec::new());
    let host = Box::new(TcpHost::new(port.unwrap(), arena, &config));
    let client = host.link().unwrap().join().unwrap();
    client.claim(&claims(client.mac(), &[ALL_FORWARDERS, FROM_FABRIC])).unwrap();
    Claimant { host, client }
}

/// What such a one claims at an address of its own and some others.
fn claims(mac: [u8; 6], others: &[[u8; 6]]) -> Vec<FrameClaim> {
    let claim = |(ethertype, vlan)| FrameClaim { ethertype, vlan, addresses: [&[mac], others].concat() };
    [(FCOE, None), (FCOE, Some(100)), (FIP, None)].map(claim).to_vec()
}

/// The only queue of a port on a network device, in that memory.
pub(crate) fn packet_port(device: &str, arena: &Arena) -> impl FramePort + 'static {
    Packet::open(&LinkOptions::bare(device), 1, arena.clone()).unwrap()
}

fn packet(device: &str) -> Claimant {
    let arena = arena();
    claimant(Ok(packet_port(device, &arena)), arena)
}

/// A frame of a number: what follows the addresses, and bytes of `arena` behind.
fn send(from: &LinkClient, to: [u8; 6], kind: &[u8], body: &[u8], arena: &Arena) {
    let mut header = SmallVec::from_slice(&to);
    header.extend_from_slice(&from.mac());
    header.extend_from_slice(kind);
    let payload = Sg::copied(arena, body).unwrap();
    from.send(Instant::ZERO, &mut VecDeque::from([TxFrame { header, payload, offload: None }]));
}

/// Host `from` sends, and the claimant at host `to` gets what is its own, and nothing else. `types`: the receiver
/// learns of which type a tag was that it has been taken off.
fn exchange(hosts: &mut [Claimant], from: usize, to: usize, types: bool) {
    let arena = arena();
    let (mac, from) = (hosts[to].client.mac(), &hosts[from].client);
    let long: Vec<u8> = (0..=250).cycle().take(1400).collect();
    let send = |to, kind: &[u8], body: &[u8]| send(from, to, kind, body, &arena);
    send(mac, &[0x89, 0x06], &[1; 50]);
    send(mac, &[0x89, 0x06], &long);
    send(FROM_FABRIC, &[0x89, 0x06], &[2; 50]);
    send(ALL_FORWARDERS, &[0x89, 0x14], &[3; 50]);
    // VLAN 100 with priority 3; a tag with a priority alone.
    send(mac, &[0x81, 0x00, 0x60, 100, 0x89, 0x06], &[4; 50]);
    send(mac, &[0x81, 0x00, 0x60, 100, 0x89, 0x06], &long);
    send(mac, &[0x81, 0x00, 0x60, 0, 0x89, 0x06], &[5; 50]);
    // Another VLAN, a provider's tag of the same number, one around the other, two tags; another protocol, another
    // host.
    send(mac, &[0x81, 0x00, 0x00, 101, 0x89, 0x06], &[6; 50]);
    if types {
        send(mac, &[0x88, 0xa8, 0x00, 100, 0x89, 0x06], &[6; 50]);
        send(mac, &[0x88, 0xa8, 0x00, 0, 0x89, 0x06], &[6; 50]);
    }
    send(mac, &[0x88, 0xa8, 0x00, 100, 0x81, 0x00, 0x00, 100, 0x89, 0x06], &[6; 50]);
    send(mac, &[0x81, 0x00, 0x00, 100, 0x81, 0x00, 0x00, 100, 0x89, 0x06], &[6; 50]);
    send(mac, &[0x88, 0xa2], &[7; 50]);
    send([0x0e, 0xfc, 0, 1, 2, 4], &[0x89, 0x06], &[8; 50]);
    send(mac, &[0x89, 0x14], &[9; 50]);
    let expected = [
        (FCOE, None, vec![1; 50]),
        (FCOE, None, long.clone()),
        (FCOE, None, vec![2; 50]),
        (FIP, None, vec![3; 50]),
        (FCOE, Some(100), vec![4; 50]),
        (FCOE, Some(100), long.clone()),
        (FCOE, None, vec![5; 50]),
        (FIP, None, vec![9; 50]),
    ];
    let (mut got, end) = (Vec::new(), std::time::Instant::now() + Duration::from_secs(5));
    while got.len() < expected.len() && std::time::Instant::now() < end {
        for Claimant { host, .. } in hosts.iter_mut() {
            host.poll(Instant::ZERO, &mut Vec::new());
            host.commit(Instant::ZERO);
        }
        let frames = std::iter::from_fn(|| hosts[to].client.take_frame());
        got.extend(frames.map(|frame| (frame.ethertype, frame.vlan, frame.bytes()[frame.body..].to_vec())));
    }
    assert!(
        got == expected,
        "{:?}",
        got.iter().map(|(kind, vlan, body)| (kind, vlan, body[0])).collect::<Vec<_>>()
    );
}

fn both_ways(mut hosts: [Claimant; 2]) {
    exchange(&mut hosts, 0, 1, true);
    exchange(&mut hosts, 1, 0, true);
}

/// Only what is whole goes to another core; what its peer has reset is told to have ended where it is.
#[test]
fn sockets_go_from_core_to_core() {
    let listener = Arc::new(listen(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap());
    let mut hosts = [(); 2].map(|()| KernelHost::new(arena(), vec![listener.clone()]).unwrap());
    let mut accept = |reset: bool| {
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let mut events = Vec::new();
        hosts[0].poll(Instant::ZERO, &mut events);
        let [StreamEvent::Accepted { stream, origin }] = events[..] else { panic!("{events:?}") };
        if !reset {
            (&client).write_all(b"first").unwrap();
            let there = hosts[0].detach(stream, 1).unwrap();
            assert_eq!((there.origin, origin.peer), (origin, client.local_addr().unwrap()));
            let stream = hosts[1].attach(there).unwrap();
            hosts[1].poll(Instant::ZERO, &mut events);
            assert_eq!(events[1..], [StreamEvent::Readable(stream)], "what was there before is told");
            assert_eq!(hosts[1].receive(stream).unwrap().private(), Some(&b"first"[..]));
            return;
        }
        SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
        drop(client);
        assert!(hosts[0].detach(stream, 1).is_none());
        for _ in 0..2 {
            hosts[0].poll(Instant::ZERO, &mut events);
            assert!(hosts[0].receive(stream).is_none());
        }
        assert_eq!(events.last(), Some(&StreamEvent::Closed(stream)));
    };
    accept(false);
    accept(true);
}

/// A flood of connections leaves turns to those that are there.
#[test]
fn connections_are_accepted_some_at_a_time() {
    let listener = Arc::new(listen(([127, 0, 0, 1], 0).into()).unwrap());
    let address = listener.local_addr().unwrap();
    let mut host = KernelHost::new(arena(), vec![listener]).unwrap();
    let clients: Vec<_> = (0..200).map(|_| TcpStream::connect(address).unwrap()).collect();
    let turns: Vec<usize> = std::iter::from_fn(|| {
        let mut events = Vec::new();
        (host.poll(Instant::ZERO, &mut events) > 0).then_some(events.len())
    })
    .take(20)
    .collect();
    assert_eq!((turns.iter().sum::<usize>(), turns.iter().max()), (clients.len(), Some(&64)), "{turns:?}");
}

/// Otherwise an owner would make all that it has to say within one turn, to be thrown away.
#[test]
fn a_stream_that_was_reset_takes_nothing_more() {
    let listener = Arc::new(listen(([127, 0, 0, 1], 0).into()).unwrap());
    let address = listener.local_addr().unwrap();
    let arena = arena();
    let mut host = KernelHost::new(arena.clone(), vec![listener]).unwrap();
    let peer = TcpStream::connect(address).unwrap();
    let (mut events, mut now) = (Vec::new(), Instant::ZERO);
    let id = loop {
        host.poll(now, &mut events);
        let accepted = events.iter().find_map(|event| match event {
            StreamEvent::Accepted { stream, .. } => Some(*stream),
            _ => None,
        });
        if let Some(id) = accepted {
            break id;
        }
    };
    SockRef::from(&peer).set_linger(Some(Duration::ZERO)).unwrap();
    drop(peer);
    // The reset is noticed when something is sent, and told with the next poll.
    for _ in 0..100 {
        assert!(host.room(id) > 0);
        host.send(id, Sg::copied(&arena, &[0; 1000]).unwrap());
        now = now + Duration::from_millis(1);
        host.commit(now);
        if host.room(id) == 0 {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    panic!("there is room for what is thrown away");
}

/// A peer fills what memory there is with what it never ends. Others are heard, and can be answered.
#[test]
fn the_reserve_is_for_those_who_hold_next_to_nothing() {
    let listener = Arc::new(listen(([127, 0, 0, 1], 0).into()).unwrap());
    let address = listener.local_addr().unwrap();
    let arena = Arena::new(32 << 20, false).unwrap();
    let mut host = KernelHost::new(arena.clone(), vec![listener]).unwrap();
    let (mut events, mut now) = (Vec::new(), Instant::ZERO);
    let mut peers: Vec<_> = (0..20).map(|_| TcpStream::connect(address).unwrap()).collect();
    let mut ids = Vec::new();
    while ids.len() < peers.len() {
        host.poll(now, &mut events);
        ids.extend(events.drain(..).filter_map(|event| match event {
            StreamEvent::Accepted { stream, .. } => Some(stream),
            _ => None,
        }));
    }
    let sizes = [1 << 20, 256 << 10, 64 << 10, 16 << 10, 4096, 2048, 256];
    let taken = |size: &usize| std::iter::from_fn(|| arena.alloc(*size)).collect::<Vec<_>>();
    let all: Vec<_> = sizes.iter().map(taken).collect();
    for peer in &mut peers {
        peer.write_all(&[1; 100 << 10]).unwrap();
    }
    let mut held: Vec<_> = ids
        .iter()
        .map(|_| (Vec::new(), MemoryCharge::on(&arena.strangers().child("peers").connection())))
        .collect();
    for (&id, (_, charge)) in ids.iter().zip(&held) {
        host.bill(id, charge.account());
    }
    for _ in 0..50 {
        now = now + Duration::from_millis(2);
        host.poll(now, &mut events);
        for (&id, (held, charge)) in ids.iter().zip(&mut held) {
            let had = held.len();
            held.extend(std::iter::from_fn(|| host.receive(id)));
            assert!(held.len() <= had + 1, "more than one block of the reserve in a turn");
            charge.set(held.iter().map(Seg::len).sum::<usize>() as u64);
        }
    }
    for (held, charge) in &held {
        assert!(
            (8 << 10..=12 << 10).contains(&charge.account().used()),
            "{:?} {}",
            charge.account(),
            held.len()
        );
        assert!(held.iter().all(Seg::is_reserved));
    }
    assert!(arena.alloc(256).is_none() && arena.alloc_reserved(256).is_some());
    drop(all);
    now = now + Duration::from_millis(2);
    host.poll(now, &mut events);
    assert!(ids.iter().all(|&id| host.receive(id).is_some()), "they go on when there is memory");
}

/// Two listeners with one TCP port, which cores share: each connection is told to be its listener's, wherever it goes.
#[test]
fn sockets_are_those_of_their_listener() {
    let [one, all] = ["127.0.0.1:0", "[::]:0"].map(|address| address.parse::<SocketAddr>().unwrap());
    let one = listen(one).unwrap();
    let port = one.local_addr().unwrap().port();
    let all = listen(SocketAddr::new(all.ip(), port)).expect("IPv6 alone");
    let listeners = [one, all].map(Arc::new);
    let mut hosts = [(); 2].map(|()| KernelHost::new(arena(), listeners.to_vec()).unwrap());
    let mut clients = Vec::new();
    for (core, number, ip) in [(0, 0, "127.0.0.1"), (1, 1, "::1"), (0, 1, "::1"), (1, 0, "::ffff:127.0.0.1")]
    {
        clients.push(TcpStream::connect((ip, port)).unwrap());
        let mut events = Vec::new();
        hosts[core].poll(Instant::ZERO, &mut events);
        let [StreamEvent::Accepted { mut stream, origin }] = events[..] else { panic!("{events:?}") };
        assert_eq!(origin.listener, number, "{ip}");
        assert_eq!(origin.local.is_ipv4(), number == 0);
        for (from, to) in [(core, 1 - core), (1 - core, core)] {
            let moved = hosts[from].detach(stream, to).unwrap();
            assert_eq!(moved.origin, origin);
            stream = hosts[to].attach(moved).unwrap();
        }
    }
    // The address is taken until the last core has stopped to listen, though connections live on; then it is free.
    let (address, mut stopped) = (listeners[0].local_addr().unwrap(), Vec::new());
    drop(listeners);
    for mut host in hosts {
        let error = listen(address).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        host.stop_listening();
        stopped.push(host);
    }
    listen(address).unwrap();
}

#[test]
fn raw_frames_over_packet_sockets() {
    if inside("ports::tests::raw_frames_over_packet_sockets", true) {
        veth();
        both_ways([packet("va"), packet("vb")]);
    }
}

/// What a device hears for a claimant, and no longer.
#[test]
fn packet_sockets_listen_as_long_as_somebody_claims() {
    if !inside("ports::tests::packet_sockets_listen_as_long_as_somebody_claims", true) {
        return;
    }
    veth();
    let groups = || {
        let run = Command::new("ip").args(["maddr", "show", "dev", "va"]).output().unwrap();
        String::from_utf8(run.stdout).unwrap().matches("01:10:18:01:00:0").count()
    };
    let (Claimant { mut host, client }, peer, arena) = (packet("va"), packet("vb"), arena());
    let mac = client.mac();
    let another = [0x01, 0x10, 0x18, 0x01, 0x00, 0x01];
    let mut heard = |client: &LinkClient| {
        for to in [mac, FROM_FABRIC, ALL_FORWARDERS, another] {
            send(&peer.client, to, &[0x89, 0x14], &[to[5]; 50], &arena);
        }
        let mut got = Vec::new();
        // The port's own comes first, and the others with it, if they do.
        for _ in 0..1000 {
            host.poll(Instant::ZERO, &mut Vec::new());
            got.extend(std::iter::from_fn(|| client.take_frame()).map(|frame| frame.bytes()[frame.body]));
            std::thread::sleep(Duration::from_micros(if got.is_empty() { 1000 } else { 20 }));
        }
        got
    };
    assert_eq!((groups(), heard(&client)), (1, vec![mac[5], FROM_FABRIC[5], ALL_FORWARDERS[5]]));
    client.claim(&claims(mac, &[another, ALL_FORWARDERS])).unwrap();
    assert_eq!((groups(), heard(&client)), (2, vec![mac[5], ALL_FORWARDERS[5], another[5]]));
    client.claim(&claims(mac, &[another])).unwrap();
    assert_eq!((groups(), hears_everything("va")), (1, false));
    assert_eq!(heard(&client), [mac[5], another[5]]);
    drop(client);
    assert_eq!((groups(), hears_everything("va")), (0, false));
}

#[test]
fn raw_frames_over_tap() {
    if inside("ports::tests::raw_frames_over_tap", true) {
        let link = LinkOptions { mtu: Some(1500), ..LinkOptions::bare("ptgt0") };
        let options = TapOptions { link, host_addresses: Vec::new() };
        let arena = arena();
        let tap = claimant(Tap::open(&options, (0, 1), arena.clone()), arena);
        quiet("ptgt0");
        both_ways([tap, packet("ptgt0")]);
    }
}

#[cfg(feature = "dpdk")]
pub(super) mod with_dpdk {
    use super::*;
    use crate::ports::dpdk::{DeviceConfig, Dpdk, Eal, EalConfig, Found, buffer_memory};

    /// The only queue of a virtual device, in a DPDK that is started for it; and the port's memory.
    pub(in crate::ports) fn device(device: &str) -> (Dpdk, Arena) {
        let memory_mib = (buffer_memory(1500, 1) >> 20) + 64;
        let eal = Eal::start(&EalConfig { memory_mib, ..EalConfig::default() }).unwrap();
        let config = DeviceConfig {
            device: device.into(),
            mtu: 1500,
            mac: None,
            queues: 1,
            offload: true,
            promiscuous: false,
        };
        let mut queues = Found::probe(&eal, device).unwrap().start(&config).unwrap();
        let arena = arena();
        (Dpdk::new(queues.remove(0), arena.clone(), std::slice::from_ref(arena.region())).unwrap(), arena)
    }

    fn host(name: &str) -> Claimant {
        let (port, arena) = device(name);
        claimant(Ok(port), arena)
    }

    /// A device whose transmit ring is its receive ring.
    #[test]
    fn raw_frames_over_dpdk_in_memory() {
        if inside("ports::tests::with_dpdk::raw_frames_over_dpdk_in_memory", false) {
            exchange(&mut [host("net_ring0")], 0, 0, true);
        }
    }

    #[test]
    fn raw_frames_over_dpdk_on_a_packet_socket() {
        if inside("ports::tests::with_dpdk::raw_frames_over_dpdk_on_a_packet_socket", true) {
            veth();
            let mut hosts = [host("net_af_packet0,iface=va"), packet("vb")];
            exchange(&mut hosts, 0, 1, true);
            // DPDK's driver does not tell the type.
            exchange(&mut hosts, 1, 0, false);
        }
    }

    #[test]
    fn raw_frames_over_dpdk_on_tap() {
        if inside("ports::tests::with_dpdk::raw_frames_over_dpdk_on_tap", true) {
            let tap = host("net_tap0,iface=ptgt0");
            quiet("ptgt0");
            // It has no filters.
            assert!(hears_everything("ptgt0"));
            tap.client.claim(&claims(tap.client.mac(), &[])).unwrap();
            assert!(!hears_everything("ptgt0"), "there is nothing more to hear");
            tap.client.claim(&claims(tap.client.mac(), &[ALL_FORWARDERS, FROM_FABRIC])).unwrap();
            both_ways([tap, packet("ptgt0")]);
        }
    }
}

#[test]
fn listeners_come_and_go() {
    let mut host = KernelHost::new(arena(), Vec::new()).unwrap();
    let accepted = |host: &mut KernelHost| {
        let mut events = Vec::new();
        host.poll(Instant::ZERO, &mut events);
        let accepted = events.iter().map(|event| match event {
            StreamEvent::Accepted { origin, .. } => origin.listener,
            other => panic!("{other:?}"),
        });
        accepted.collect::<Vec<_>>()
    };
    let [first, second] = [(); 2].map(|()| listen("127.0.0.1:0".parse().unwrap()).unwrap());
    let [one, two] = [&first, &second].map(|listener| listener.local_addr().unwrap());
    host.listen(3, &Listener::Shared(Arc::new(first)));
    host.listen(1, &Listener::Shared(Arc::new(second)));
    let mut clients = Vec::from([one, two].map(|address| TcpStream::connect(address).unwrap()));
    let mut numbers = accepted(&mut host);
    numbers.sort_unstable();
    assert_eq!(numbers, [1, 3]);
    host.unlisten(3);
    host.unlisten(7);
    assert!(TcpStream::connect(one).is_err(), "it was the last that had the socket");
    clients.push(TcpStream::connect(two).unwrap());
    assert_eq!(accepted(&mut host), [1]);
    listen(one).expect("the address is free");
}
