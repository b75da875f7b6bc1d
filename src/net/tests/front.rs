// SPDX-License-Identifier: GPL-2.0-or-later
//! What a host owes its neighbours, and what it does with frames that are not what they say.

use proptest::prelude::*;

use super::super::checksum::Sum;
use super::peer::{HOST_MAC, PEER_MAC, PORT, bytes};
use super::*;
use crate::memory::Arena;
use crate::ports::memory::{Dice, End, MemoryPort, wire};

pub(super) const OURS: [u8; 4] = [10, 0, 0, 1];
pub(super) const THEIRS: [u8; 4] = [10, 0, 0, 2];
pub(super) const OURS6: [u8; 16] = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
pub(super) const THEIRS6: [u8; 16] = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
pub(super) const ALL_NODES: [u8; 16] = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

struct Bench {
    host: TcpHost<MemoryPort>,
    peer: MemoryPort,
    now: Instant,
}

impl Bench {
    fn new() -> Self {
        let arena = || Arena::new(16 << 20, false).unwrap();
        let ours = arena();
        let ends = [End::new(1, 1500, ours.clone()), End::new(2, 1500, arena())];
        let (_, [port, peer]) = wire(1, ends);
        let addresses =
            vec![Address { ip: OURS.into(), prefix: 24 }, Address { ip: OURS6.into(), prefix: 64 }];
        let listen = vec![(OURS, PORT).into(), (OURS6, PORT).into()];
        let mut bench = Self {
            host: TcpHost::new(port, ours, &HostConfig::new(addresses, listen)),
            peer,
            now: Instant::ZERO,
        };
        // What it announces.
        assert_eq!(bench.turn().len(), 3);
        bench
    }

    fn turn(&mut self) -> Vec<Vec<u8>> {
        self.host.poll(self.now, &mut Vec::new());
        self.host.commit(self.now);
        let mut burst = Vec::new();
        while self.peer.receive(self.now, &mut burst) > 0 {}
        burst.iter().map(|frame| frame.data.private().unwrap().to_vec()).collect()
    }

    /// What the host answers to a frame.
    fn ask(&mut self, frame: &[u8]) -> Vec<Vec<u8>> {
        let header = SmallVec::from_slice(frame);
        let frame = TxFrame { header, payload: Sg::new(), offload: None };
        self.peer.transmit(self.now, &mut [frame].into());
        self.turn()
    }

    fn counter(&self, name: &str) -> u64 {
        self.host.counters().iter().find(|counter| counter.0.name == name).unwrap().1
    }
}

pub(super) fn ethernet(to: [u8; 6], ethertype: u16, body: &[u8]) -> Vec<u8> {
    [&to[..], &PEER_MAC, &ethertype.to_be_bytes(), body].concat()
}

/// An IPv4 packet of the peer's, with options.
pub(super) fn ipv4(protocol: u8, options: &[u8], fragment: u16, body: &[u8]) -> Vec<u8> {
    let header = 20 + options.len();
    let mut ip = vec![0; 20];
    ip[0] = 0x40 | u8::try_from(header / 4).unwrap();
    ip[2..4].copy_from_slice(&u16::try_from(header + body.len()).unwrap().to_be_bytes());
    ip[6..8].copy_from_slice(&fragment.to_be_bytes());
    (ip[8], ip[9]) = (64, protocol);
    ip[12..16].copy_from_slice(&THEIRS);
    ip[16..20].copy_from_slice(&OURS);
    ip.extend_from_slice(options);
    let sum = Sum::default().add(&ip).checksum();
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    ip.extend_from_slice(body);
    ethernet(HOST_MAC, 0x0800, &ip)
}

pub(super) fn ipv6(mac: [u8; 6], from: [u8; 16], to: [u8; 16], next: u8, hops: u8, body: &[u8]) -> Vec<u8> {
    let len = u16::try_from(body.len()).unwrap().to_be_bytes();
    ethernet(mac, 0x86dd, &[&[0x60, 0, 0, 0][..], &len, &[next, hops], &from, &to, body].concat())
}

/// With its checksum filled in at `at`.
pub(super) fn summed(from: IpAddr, to: IpAddr, protocol: u8, at: usize, mut body: Vec<u8>) -> Vec<u8> {
    let sum = match protocol {
        1 => Sum::default(),
        _ => Sum::pseudo_header(from, to, protocol, body.len()),
    };
    let sum = sum.add(&body).checksum();
    body[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    body
}

fn syn(from: IpAddr, to: IpAddr, source: u16) -> Vec<u8> {
    segment(from, to, source, 9, 2)
}

fn segment(from: IpAddr, to: IpAddr, source: u16, sequence: u8, flags: u8) -> Vec<u8> {
    let mut tcp = vec![0; 20];
    tcp[..2].copy_from_slice(&source.to_be_bytes());
    tcp[2..4].copy_from_slice(&PORT.to_be_bytes());
    (tcp[7], tcp[12], tcp[13], tcp[14]) = (sequence, 5 << 4, flags, 16);
    summed(from, to, 6, 16, tcp)
}

fn syn4(source: u16) -> Vec<u8> {
    syn(THEIRS.into(), OURS.into(), source)
}

fn echo4(body: &[u8]) -> Vec<u8> {
    summed(THEIRS.into(), OURS.into(), 1, 2, [&[8, 0, 0, 0, 0x12, 0x34, 0, 1][..], body].concat())
}

fn echo6(body: &[u8]) -> Vec<u8> {
    let body = [&[128, 0, 0, 0, 0x12, 0x34, 0, 1][..], body].concat();
    summed(THEIRS6.into(), OURS6.into(), 58, 2, body)
}

fn solicitation(from: [u8; 16], to: [u8; 16], wanted: [u8; 16]) -> Vec<u8> {
    let body = [&[135, 0, 0, 0, 0, 0, 0, 0][..], &wanted].concat();
    summed(from.into(), to.into(), 58, 2, body)
}

#[test]
fn arp_is_answered_for_our_address_and_no_other() {
    let mut bench = Bench::new();
    let request = |wanted: [u8; 4]| {
        let body = [&[0, 1, 8, 0, 6, 4, 0, 1][..], &PEER_MAC, &THEIRS, &[0; 6], &wanted].concat();
        ethernet([0xff; 6], 0x0806, &body)
    };
    let answer =
        [&PEER_MAC[..], &HOST_MAC, &[8, 6, 0, 1, 8, 0, 6, 4, 0, 2], &HOST_MAC, &OURS, &PEER_MAC, &THEIRS]
            .concat();
    assert_eq!(bench.ask(&request(OURS)), [answer]);
    assert!(bench.ask(&request([10, 0, 0, 3])).is_empty());
    // A reply is none of our business, another kind of address is malformed.
    let mut reply = request(OURS);
    reply[21] = 2;
    assert!(bench.ask(&reply).is_empty());
    let mut odd = request(OURS);
    odd[18] = 8;
    assert!(bench.ask(&odd).is_empty());
    assert!(bench.ask(&request(OURS)[..41]).is_empty());
    assert_eq!(bench.counter("dropped_malformed"), 2);
}

#[test]
fn neighbours_are_told_where_we_are() {
    let mut bench = Bench::new();
    let group = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0, 0, 1];
    let mac = [0x33, 0x33, 0xff, 0, 0, 1];
    let ask =
        |hops, from: [u8; 16], wanted| ipv6(mac, from, group, 58, hops, &solicitation(from, group, wanted));
    let advertised = |answers: Vec<Vec<u8>>| {
        let [answer] = &answers[..] else { panic!("{answers:?}") };
        let packet = &answer[14..];
        let (from, to): ([u8; 16], [u8; 16]) =
            (packet[8..24].try_into().unwrap(), packet[24..40].try_into().unwrap());
        let icmp = &packet[40..];
        assert_eq!(Sum::pseudo_header(from.into(), to.into(), 58, icmp.len()).add(icmp).checksum(), 0);
        assert_eq!(
            (packet[7], icmp[0], &icmp[8..24], &icmp[24..26], &icmp[26..32]),
            (255, 136, &OURS6[..], &[2, 1][..], &HOST_MAC[..])
        );
        (answer[..6].to_vec(), to, icmp[4])
    };
    assert_eq!(advertised(bench.ask(&ask(255, THEIRS6, OURS6))), (PEER_MAC.to_vec(), THEIRS6, 0x60));
    // Duplicate address detection has no address to answer to.
    let all = (vec![0x33, 0x33, 0, 0, 0, 1], ALL_NODES, 0x20);
    assert_eq!(advertised(bench.ask(&ask(255, [0; 16], OURS6))), all);
    // From beyond a router, for somebody else, cut short.
    assert!(bench.ask(&ask(254, THEIRS6, OURS6)).is_empty());
    assert!(bench.ask(&ask(255, THEIRS6, THEIRS6)).is_empty());
    let short = solicitation(THEIRS6, group, OURS6)[..20].to_vec();
    let short = summed(THEIRS6.into(), group.into(), 58, 2, [&[135, 0, 0, 0][..], &short[4..]].concat());
    assert!(bench.ask(&ipv6(mac, THEIRS6, group, 58, 255, &short)).is_empty());
}

#[test]
fn pings_come_back() {
    let mut bench = Bench::new();
    let body = bytes(5, 0, 1000);
    let answer = bench.ask(&ipv4(1, &[], 0, &echo4(&body))).concat();
    assert_eq!((&answer[..6], &answer[26..30], &answer[30..34]), (&PEER_MAC[..], &OURS[..], &THEIRS[..]));
    assert_eq!(Sum::default().add(&answer[14..34]).checksum(), 0);
    assert_eq!((answer[34], Sum::default().add(&answer[34..]).checksum(), &answer[42..]), (0, 0, &body[..]));
    let answer = bench.ask(&ipv6(HOST_MAC, THEIRS6, OURS6, 58, 64, &echo6(&body))).concat();
    let sum = Sum::pseudo_header(OURS6.into(), THEIRS6.into(), 58, answer.len() - 54);
    assert_eq!((answer[54], sum.add(&answer[54..]).checksum(), &answer[62..]), (129, 0, &body[..]));
    // With options, and with the padding of a short frame.
    assert_eq!(bench.ask(&ipv4(1, &[1, 1, 1, 0], 0, &echo4(b"x"))).len(), 1);
    assert_eq!(bench.ask(&[ipv4(1, &[], 0, &echo4(b"x")), vec![0; 17]].concat()).concat().len(), 14 + 20 + 9);
    // A wrong sum; no answer to a group, or to an answer.
    let mut wrong = ipv4(1, &[], 0, &echo4(&body));
    *wrong.last_mut().unwrap() ^= 1;
    assert!(bench.ask(&wrong).is_empty());
    assert_eq!(bench.counter("dropped_malformed"), 1);
    let group = summed(THEIRS6.into(), ALL_NODES.into(), 58, 2, vec![128, 0, 0, 0, 1, 1, 0, 1]);
    assert!(bench.ask(&ipv6([0x33, 0x33, 0, 0, 0, 1], THEIRS6, ALL_NODES, 58, 64, &group)).is_empty());
    let reply = summed(THEIRS.into(), OURS.into(), 1, 2, vec![0; 8]);
    assert!(bench.ask(&ipv4(1, &[], 0, &reply)).is_empty());
}

#[test]
fn tcp_is_found_behind_ip_options_and_not_in_fragments() {
    let mut bench = Bench::new();
    let answer = bench.ask(&ipv4(6, &[1, 1, 1, 0], 0, &syn4(1000))).concat();
    assert_eq!(answer[47] & 0x12, 0x12, "SYN and ACK");
    // Don't-fragment is no fragment; more-fragments and offsets are.
    assert_eq!(bench.ask(&ipv4(6, &[], 0x4000, &syn4(1001))).len(), 1);
    for fragment in [0x2000, 1, 0x1fff] {
        assert!(bench.ask(&ipv4(6, &[], fragment, &syn4(1002))).is_empty());
    }
    assert_eq!(bench.counter("dropped_fragments"), 3);
    let tcp = syn(THEIRS6.into(), OURS6.into(), 1000);
    assert_eq!(bench.ask(&ipv6(HOST_MAC, THEIRS6, OURS6, 6, 64, &tcp)).len(), 1);
    // Extension headers (hop-by-hop, routing, fragment, destination) are not walked.
    for extension in [0, 43, 44, 60] {
        let body = [&[6, 0, 1, 4, 0, 0, 0, 0][..], &tcp].concat();
        assert!(bench.ask(&ipv6(HOST_MAC, THEIRS6, OURS6, extension, 64, &body)).is_empty());
    }
    assert_eq!(bench.counter("dropped_unserved"), 4);
    assert_eq!(bench.counter("half_open"), 3);
}

/// RFC 7126 4.3: the answer goes to where the frame came from, whatever way the packet says it has come.
#[test]
fn a_source_route_is_not_followed() {
    let mut bench = Bench::new();
    // Loose and strict, with a hop that was passed and one that was not.
    for (source, kind, pointer) in [(1000, 131, 8), (1001, 137, 8), (1002, 131, 4), (1003, 137, 4)] {
        let route = [kind, 7, pointer, 10, 0, 0, 66, 0];
        let answer = bench.ask(&ipv4(6, &route, 0, &syn4(source))).concat();
        assert_eq!((&answer[..6], answer[14], &answer[30..34]), (&PEER_MAC[..], 0x45, &THEIRS[..]), "{kind}");
    }
}

#[test]
fn frames_from_groups_are_dropped() {
    let mut bench = Bench::new();
    let arp = [&[0, 1, 8, 0, 6, 4, 0, 1][..], &PEER_MAC, &THEIRS, &[0; 6], &OURS].concat();
    for frame in
        [ethernet([0xff; 6], 0x0806, &arp), ipv4(1, &[], 0, &echo4(b"x")), ipv4(6, &[], 0, &syn4(1000))]
    {
        assert_eq!(bench.ask(&frame).len(), 1);
        for group in [[0xff; 6], [1, 0, 0x5e, 0, 0, 1]] {
            let mut frame = frame.clone();
            frame[6..12].copy_from_slice(&group);
            assert!(bench.ask(&frame).is_empty());
        }
    }
    assert_eq!(bench.counter("dropped_malformed"), 6);
}

#[test]
fn lies_about_lengths_are_dropped() {
    let mut bench = Bench::new();
    let good = ipv4(6, &[], 0, &syn4(1000));
    let spoiled = |at: usize, value: u8| {
        let mut frame = good.clone();
        frame[at] = value;
        frame[24..26].fill(0);
        let header = (usize::from(frame[14] & 15) * 4).clamp(20, frame.len() - 14);
        let sum = Sum::default().add(&frame[14..14 + header]).checksum();
        frame[24..26].copy_from_slice(&sum.to_be_bytes());
        frame
    };
    // Version; header shorter than itself, longer than the packet; total length beyond the frame, inside the header.
    let lies = [spoiled(14, 0x65), spoiled(14, 0x44), spoiled(14, 0x4f), spoiled(17, 200), spoiled(17, 10)];
    for (number, frame) in lies.iter().enumerate() {
        assert!(bench.ask(frame).is_empty(), "{number}");
        assert_eq!(bench.counter("dropped_malformed"), number as u64 + 1, "{number}");
    }
    // A TCP header that is shorter than itself, or longer than the segment.
    for offset in [4, 6] {
        let mut tcp = syn4(1000);
        tcp[12] = offset << 4;
        tcp[16..18].fill(0);
        let tcp = summed(THEIRS.into(), OURS.into(), 6, 16, tcp);
        assert!(bench.ask(&ipv4(6, &[], 0, &tcp)).is_empty());
    }
    assert_eq!(bench.counter("dropped_malformed"), 7);
    assert_eq!(bench.counter("half_open"), 0);
    assert_eq!(bench.ask(&good).len(), 1, "the host lives");
}

#[test]
fn every_beginning_of_a_frame_is_survived() {
    let mut bench = Bench::new();
    let frames = [
        ipv4(6, &[1; 8], 0, &syn4(1000)),
        ipv4(1, &[], 0, &echo4(&[7; 30])),
        ipv6(HOST_MAC, THEIRS6, OURS6, 6, 64, &syn(THEIRS6.into(), OURS6.into(), 1000)),
        ipv6(HOST_MAC, THEIRS6, OURS6, 58, 255, &solicitation(THEIRS6, OURS6, OURS6)),
    ];
    for frame in &frames {
        for len in 1..frame.len() {
            assert!(bench.ask(&frame[..len]).is_empty(), "{len} bytes of {frame:02x?}");
        }
        assert_eq!(bench.ask(frame).len(), 1);
    }
}

#[test]
fn a_flood_of_syns_is_answered_and_takes_bounded_memory() {
    let mut bench = Bench::new();
    let mut answers = 0;
    for source in 1000..3000 {
        answers += bench.ask(&ipv4(6, &[], 0, &syn4(source))).len();
    }
    assert_eq!((answers, bench.counter("half_open")), (2000, HALF_OPEN_MAX as u64));
    assert_eq!(bench.counter("cookies_sent"), 2000 - HALF_OPEN_MAX as u64);
    assert_eq!((bench.counter("flows"), bench.counter("refused")), (HALF_OPEN_MAX as u64, 0));
    // Whoever does not answer for ten seconds makes room for others.
    for _ in 0..1200 {
        bench.now = bench.now + std::time::Duration::from_millis(10);
        bench.turn();
    }
    assert_eq!(bench.counter("half_open"), 0);
    assert_eq!(bench.counter("flows"), 0);
    assert_eq!(bench.ask(&ipv4(6, &[], 0, &syn4(1000))).len(), 1);
}

#[test]
fn resets_are_bounded_per_second() {
    let mut bench = Bench::new();
    let mut stray = syn4(1000);
    (stray[13], stray[11]) = (0x10, 77);
    stray[16..18].fill(0);
    let stray = ipv4(6, &[], 0, &summed(THEIRS.into(), OURS.into(), 6, 16, stray));
    let mut answers = || {
        bench.now = bench.now + std::time::Duration::from_secs(1);
        (0..1500).map(|_| bench.ask(&stray).len()).sum::<usize>()
    };
    // How many they are nobody knows before, so that nobody can tell by his own whether a segment of others got one.
    let seconds = [(); 4].map(|()| answers());
    assert!(seconds.iter().all(|answers| (500..=1000).contains(answers)), "{seconds:?}");
    assert!(seconds.iter().any(|&answers| answers != seconds[0]), "{seconds:?}");
    // A reset is never answered, and ours takes its number from what the stray acknowledges.
    bench.now = bench.now + std::time::Duration::from_secs(1);
    let reset = bench.ask(&stray).concat();
    assert_eq!((reset[47], &reset[38..42]), (4, &[0, 0, 0, 77][..]));
    let mut back = ipv4(6, &[], 0, &reset[34..]);
    let tcp = summed(THEIRS.into(), OURS.into(), 6, 16, {
        let mut tcp = back.split_off(34);
        tcp[16..18].fill(0);
        tcp
    });
    assert!(bench.ask(&[back, tcp].concat()).is_empty());
}

/// The flows of a burst are looked up before the first of its frames is served.
#[test]
fn a_burst_ends_flows_that_later_frames_of_it_are_for() {
    let mut bench = Bench::new();
    for source in 1000..1004 {
        assert_eq!(bench.ask(&ipv4(6, &[], 0, &syn4(source))).len(), 1);
    }
    bench.now = bench.now + std::time::Duration::from_millis(1);
    let says = |source, sequence, flags| {
        ipv4(6, &[], 0, &segment(THEIRS.into(), OURS.into(), source, sequence, flags))
    };
    let (rst, ack) = (4, 0x10);
    // One that begins anew from the same place, and one whose place another takes.
    let burst = [
        says(1000, 10, rst),
        says(1000, 9, 2),
        says(1001, 10, rst),
        says(1004, 9, 2),
        says(1001, 10, ack),
        says(1002, 10, rst),
    ];
    let burst = burst.map(|frame| TxFrame {
        header: SmallVec::from_slice(&frame),
        payload: Sg::new(),
        offload: None,
    });
    bench.peer.transmit(bench.now, &mut burst.into_iter().collect());
    let answers = bench.turn();
    let mut told: Vec<(u16, u8)> =
        answers.iter().map(|frame| (u16::from_be_bytes([frame[36], frame[37]]), frame[47])).collect();
    told.sort_unstable();
    assert_eq!(told, [(1000, 0x12), (1001, rst), (1004, 0x12)]);
    assert_eq!((bench.counter("flows"), bench.counter("resets_sent")), (3, 1));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Frames with any bytes changed, checksums right again or not: the host neither panics nor forgets its neighbours.
    #[test]
    fn no_frame_harms_the_host(seed: u64) {
        let mut bench = Bench::new();
        let mut dice = Dice::new(seed);
        for _ in 0..100 {
            let mut frame = match dice.below(4) {
                0 => ipv4(6, &[1; 4], 0, &syn4(u16::try_from(dice.below(4)).unwrap())),
                1 => ipv4(1, &[], 0, &echo4(&[7; 30])),
                2 => ipv6(HOST_MAC, THEIRS6, OURS6, 6, 64, &syn(THEIRS6.into(), OURS6.into(), 1000)),
                _ => ipv6(HOST_MAC, THEIRS6, OURS6, 58, 255, &solicitation(THEIRS6, OURS6, OURS6)),
            };
            for _ in 0..dice.below(4) {
                let at = usize::try_from(dice.below(frame.len() as u64)).unwrap();
                frame[at] = dice.roll().to_le_bytes()[0];
            }
            frame.truncate(frame.len() - usize::try_from(dice.below(3)).unwrap());
            // As from a device that vouches for it: whatever is in it reaches TCP.
            let arena = Arena::new(2 << 20, false).unwrap();
            let mut block = arena.alloc(frame.len()).unwrap();
            block.bytes_mut().copy_from_slice(&frame);
            let frame = RxFrame { data: block.freeze(), checksum: RxChecksum::Good };
            bench.host.receive_frames(&[frame], &mut Vec::new());
            bench.turn();
        }
        prop_assert_eq!(bench.ask(&ipv4(1, &[], 0, &echo4(b"alive"))).len(), 1);
    }
}

#[test]
fn listeners_come_and_go() {
    const SYN_ACK: u8 = 0x12;
    const RST_ACK: u8 = 0x14;
    let mut bench = Bench::new();
    let mut source = 4000;
    let mut answer = |bench: &mut Bench| {
        source += 1;
        let answers = bench.ask(&ipv4(6, &[], 0, &syn(THEIRS.into(), OURS.into(), source)));
        answers.iter().map(|frame| frame[14 + 20 + 13]).collect::<Vec<_>>()
    };
    assert_eq!(answer(&mut bench), [SYN_ACK]);
    bench.host.unlisten(0);
    assert_eq!(answer(&mut bench), [RST_ACK]);
    bench.host.listen(7, &Listener::At((OURS, PORT).into()));
    assert_eq!(answer(&mut bench), [SYN_ACK]);
    bench.host.unlisten(1);
    assert_eq!(answer(&mut bench), [SYN_ACK], "that was the other address");
}
