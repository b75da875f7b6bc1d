// SPDX-License-Identifier: GPL-2.0-or-later
//! Segments that no decent peer sends, in any order: cut anew with each repetition, twice, overlapping, beyond the
//! window, acknowledging what was never sent. What comes out is what the stream is made of, and what is acknowledged
//! comes out.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::ports::memory::Dice;

const PORT: u16 = 3260;
const FIN: u8 = 1;
const SYN: u8 = 2;
const PSH: u8 = 8;
const ACK: u8 = 16;

fn byte(at: u64) -> u8 {
    (at.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56).to_le_bytes()[0]
}

fn bytes(from: u64, to: u64) -> Vec<u8> {
    (from..to).map(byte).collect()
}

/// The other end of a connection, by hand.
pub(super) struct Sender {
    pub(super) host: TcpHost<Bench>,
    arena: Arena,
    pub(super) now: Instant,
    ipv6: bool,
    /// Where its frames come from, and where those of the last turn went.
    pub(super) mac: [u8; 6],
    pub(super) sent_to: Vec<[u8; 6]>,
    pub(super) stream: Option<StreamId>,
    /// Sequence numbers of the first byte of both ends.
    pub(super) first: u32,
    pub(super) theirs: u32,
    /// How far the host has acknowledged, how many bytes it would take from there on, and in which unit it says so.
    pub(super) acked: u64,
    pub(super) window: u64,
    scale: u32,
    /// Acknowledgments that came in the last turn, and bytes that they tell of beyond a hole.
    pub(super) answers: usize,
    selective: Vec<(u64, u64)>,
    pub(super) received: Vec<u8>,
    finished: bool,
    pub(super) closed: bool,
}

impl Sender {
    pub(super) fn new(first: u32, window: usize, ipv6: bool) -> Self {
        let arena = Arena::new(16 << 20, false).unwrap();
        let port = Bench::new(&arena);
        let address = |ip: &str, prefix| Address { ip: ip.parse().unwrap(), prefix };
        let addresses = vec![address("10.0.0.1", 24), address("fd00::1", 64)];
        let listen = addresses.iter().map(|address| SocketAddr::new(address.ip, PORT)).collect();
        let config =
            HostConfig { receive_window: window, secret: [1, 2], ..HostConfig::new(addresses, listen) };
        let host = TcpHost::new(port, arena.clone(), &config);
        let mut sender = Self {
            host,
            arena,
            now: Instant::ZERO,
            ipv6,
            mac: PEER,
            sent_to: Vec::new(),
            stream: None,
            first,
            theirs: 0,
            acked: 0,
            window: 0,
            scale: (usize::BITS - window.leading_zeros()).saturating_sub(16),
            answers: 0,
            selective: Vec::new(),
            received: Vec::new(),
            finished: false,
            closed: false,
        };
        // Maximum segment size, window scale, selective acknowledgments.
        sender.put(first.wrapping_sub(1), 0, SYN, &[2, 4, 5, 0xb4, 3, 3, 7, 1, 4, 2, 1, 1], &[]);
        sender.turn(true);
        sender.send(0, &[], ACK);
        sender.turn(true);
        assert!(sender.stream.is_some());
        sender
    }

    pub(super) fn put(
        &mut self,
        sequence: u32,
        acknowledged: u32,
        flags: u8,
        options: &[u8],
        payload: &[u8],
    ) {
        self.put_window((sequence, acknowledged), 1000, flags, options, payload);
    }

    /// The same with another window.
    pub(super) fn put_window(
        &mut self,
        (sequence, acknowledged): (u32, u32),
        window: u16,
        flags: u8,
        options: &[u8],
        payload: &[u8],
    ) {
        let mut tcp = [0; 20];
        tcp[..2].copy_from_slice(&40_000u16.to_be_bytes());
        tcp[2..4].copy_from_slice(&PORT.to_be_bytes());
        tcp[4..8].copy_from_slice(&sequence.to_be_bytes());
        tcp[8..12].copy_from_slice(&acknowledged.to_be_bytes());
        (tcp[12], tcp[13]) = (u8::try_from(5 + options.len() / 4).unwrap() << 4, flags);
        tcp[14..16].copy_from_slice(&window.to_be_bytes());
        let body = [&tcp[..], options, payload].concat();
        let len = u16::try_from(body.len()).unwrap();
        let (ethertype, ip): ([u8; 2], Vec<u8>) = if self.ipv6 {
            let ends: [std::net::Ipv6Addr; 2] = ["fd00::2".parse().unwrap(), "fd00::1".parse().unwrap()];
            let start = [&[0x60, 0, 0, 0][..], &len.to_be_bytes(), &[6, 64]].concat();
            ([0x86, 0xdd], [&start[..], &ends[0].octets(), &ends[1].octets()].concat())
        } else {
            let mut ip = [0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 2, 10, 0, 0, 1];
            ip[2..4].copy_from_slice(&(len + 20).to_be_bytes());
            let sum = checksum::Sum::default().add(&ip).checksum();
            ip[10..12].copy_from_slice(&sum.to_be_bytes());
            ([8, 0], ip.to_vec())
        };
        let frame = [&MAC[..], &self.mac, &ethertype, &ip, &body].concat();
        let mut port = self.host.port();
        let mut block = port.arena.alloc_reserved(frame.len()).expect("memory");
        block.bytes_mut().copy_from_slice(&frame);
        port.incoming.push(RxFrame { data: block.freeze(), checksum: RxChecksum::Good });
    }

    pub(super) fn send(&mut self, at: u64, payload: &[u8], flags: u8) {
        self.put(self.first.wrapping_add(at as u32), self.theirs, flags, &[], payload);
    }

    /// Bytes of the stream.
    pub(super) fn say(&mut self, from: u64, to: u64) {
        self.send(from, &bytes(from, to), ACK | PSH);
    }

    /// The offset of one of our sequence numbers, near what is acknowledged.
    fn offset(&self, sequence: u32) -> u64 {
        let ahead = sequence.wrapping_sub(self.first.wrapping_add(self.acked as u32)).cast_signed();
        self.acked.checked_add_signed(ahead.into()).expect("behind the beginning")
    }

    /// A turn of the host; its owner takes what there is, or does not.
    pub(super) fn turn(&mut self, reads: bool) {
        let mut events = Vec::new();
        self.host.poll(self.now, &mut events);
        for event in events {
            match event {
                StreamEvent::Accepted { stream, .. } => self.stream = Some(stream),
                StreamEvent::Finished(_) => assert!(!std::mem::replace(&mut self.finished, true)),
                StreamEvent::Closed(_) => self.closed = true,
                StreamEvent::Readable(_) | StreamEvent::Writable(_) => {}
            }
        }
        while let Some(stream) = self.stream.filter(|_| reads && !self.closed)
            && let Some(seg) = self.host.receive(stream)
        {
            let at = self.received.len();
            self.received.resize(at + seg.len(), 0);
            seg.copy_to(0, &mut self.received[at..]);
            let right = bytes(at as u64, self.received.len() as u64);
            assert!(self.received[at..] == right, "bytes from {at} on are not those that were sent");
        }
        self.host.commit(self.now);
        self.answers = 0;
        self.selective.clear();
        self.sent_to.clear();
        let sent = std::mem::take(&mut self.host.port().sent);
        for frame in sent {
            let (ethertype, protocol, ip) = if self.ipv6 { ([0x86, 0xdd], 20, 54) } else { ([8, 0], 23, 34) };
            if frame[12..14] != ethertype || frame[protocol] != 6 {
                continue;
            }
            let tcp = &frame[ip..];
            self.sent_to.push(frame[..6].try_into().unwrap());
            let word = |at: usize| u32::from_be_bytes(tcp[at..at + 4].try_into().unwrap());
            assert_eq!(tcp[13] & 4, 0, "reset");
            if tcp[13] & SYN != 0 {
                self.theirs = word(4).wrapping_add(1);
                continue;
            }
            self.answers += 1;
            let acked = self.offset(word(8));
            assert!(acked >= self.acked, "an acknowledgment is taken back");
            self.acked = acked;
            self.window = u64::from(u16::from_be_bytes([tcp[14], tcp[15]])) << self.scale;
            let header = &tcp[..usize::from(tcp[12] >> 4) * 4];
            for (from, to) in recovery::selective_acknowledgments(header) {
                self.selective.push((self.offset(from), self.offset(to)));
            }
        }
    }

    pub(super) fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        self.turn(true);
    }
}

#[test]
fn a_burst_of_segments_in_order_is_acknowledged_once_and_handed_on_where_it_lies() {
    for ipv6 in [false, true] {
        let mut sender = Sender::new(1000, 1 << 20, ipv6);
        for n in 0..10 {
            sender.say(n * 1400, (n + 1) * 1400);
        }
        let places: Vec<_> = sender.host.port().incoming.iter().map(|frame| frame.data.clone()).collect();
        let mut events = Vec::new();
        sender.host.poll(sender.now, &mut events);
        let stream = sender.stream.unwrap();
        assert_eq!(events, [StreamEvent::Readable(stream)], "one event for all");
        for (n, frame) in places.iter().enumerate() {
            let seg = sender.host.receive(stream).expect("a piece for each");
            assert_eq!(seg.private().unwrap(), bytes(n as u64 * 1400, (n as u64 + 1) * 1400));
            let (from, at) = (frame.as_ptr().addr(), seg.as_ptr().addr());
            assert!((from..from + frame.len()).contains(&at), "it was copied");
            sender.received.extend_from_slice(seg.private().unwrap());
        }
        assert!(sender.host.receive(stream).is_none());
        sender.turn(true);
        assert_eq!((sender.answers, sender.acked), (1, 14_000), "acknowledged at the end of the turn");
        // One alone may wait for something to go with.
        sender.say(14_000, 15_400);
        sender.turn(true);
        assert_eq!(sender.answers, 0);
        sender.pass(Duration::from_millis(10));
        assert_eq!((sender.answers, sender.acked), (1, 15_400));
    }
}

#[test]
fn what_a_burst_brings_is_told_of_once_however_it_is_cut() {
    let mut sender = Sender::new(1000, 1 << 20, false);
    for n in 0..10 {
        // Two of them are too large for one run.
        sender.say(n * 40_000, (n + 1) * 40_000);
    }
    let mut events = Vec::new();
    sender.host.poll(sender.now, &mut events);
    assert_eq!(events, [StreamEvent::Readable(sender.stream.unwrap())]);
    sender.turn(true);
    assert_eq!((sender.acked, sender.received.len()), (400_000, 400_000));
}

#[test]
fn each_segment_behind_a_hole_is_answered() {
    let mut sender = Sender::new(u32::MAX - 2000, 1 << 20, false);
    for n in 1..5 {
        sender.say(n * 1000, (n + 1) * 1000);
    }
    sender.turn(true);
    // The peer counts them, and repeats what is lost with the third.
    assert_eq!((sender.answers, sender.acked), (4, 0));
    assert_eq!(sender.selective.last(), Some(&(1000, 5000)));
    sender.say(0, 1000);
    sender.turn(true);
    assert_eq!((sender.acked, sender.received.len()), (5000, 5000));
}

#[test]
fn one_connection_at_a_time_makes_a_run() {
    // Segments of a stranger, pure acknowledgments and probes in between.
    let mut sender = Sender::new(7, 1 << 20, false);
    sender.say(0, 1000);
    sender.send(1000, &[], ACK);
    sender.say(1000, 2000);
    sender.put(77, 0, SYN, &[], &[1, 2, 3]);
    sender.say(2000, 3000);
    sender.send(2999, &[], ACK);
    sender.say(1500, 2500);
    sender.say(3000, 4000);
    sender.turn(true);
    assert_eq!((sender.acked, sender.received.len()), (4000, 4000));
}

#[test]
fn bytes_of_a_segment_that_acknowledges_nonsense_are_not_kept() {
    let mut sender = Sender::new(9, 1 << 20, false);
    for ahead in [1 << 20, u32::MAX - 5] {
        let (at, theirs) = (sender.first.wrapping_add(1000), sender.theirs.wrapping_add(ahead));
        sender.put(at, theirs, ACK, &[], &[0xee; 500]);
    }
    sender.say(500, 1000);
    sender.say(1500, 2000);
    sender.say(0, 500);
    sender.say(1000, 1500);
    sender.turn(true);
    assert_eq!((sender.acked, sender.received.len()), (2000, 2000));
}

/// Others have taken all the memory. A peer that holds little keeps what it sends in the reserve, as long as half of
/// that is left for all; one that holds much does not.
#[test]
fn a_peer_that_holds_little_is_served_while_others_hold_all_memory() {
    const SEGMENT: u64 = 2300;
    let mut sender = Sender::new(9, 1 << 20, false);
    let arena = sender.arena.clone();
    let session = arena.budget().child("10.0.0.2").child("").child("1");
    sender.host.bill(sender.stream.unwrap(), &session.stream());
    let _others: Vec<_> =
        [1 << 20, 256].map(|size| std::iter::from_fn(|| arena.alloc(size)).collect::<Vec<_>>()).into();
    let acknowledged = |sender: &mut Sender| {
        let at = sender.acked;
        sender.say(at, at + SEGMENT);
        sender.turn(true);
        sender.pass(Duration::from_millis(20));
        sender.acked > at
    };
    assert!(acknowledged(&mut sender));
    let reserve: Vec<_> = (0..(2 << 20) / 4096).map_while(|_| arena.alloc_reserved(4096)).collect();
    assert!(!acknowledged(&mut sender), "half of the reserve is taken");
    drop(reserve);
    assert!(acknowledged(&mut sender));
    let command = session.connection();
    assert!(command.take(arena.budget().limit() / 2));
    assert!(!acknowledged(&mut sender), "it holds much");
    command.give(arena.budget().limit() / 2);
    assert!(acknowledged(&mut sender));
}

/// A FIN behind bytes that the window has no room for, which smoltcp cuts off.
#[test]
fn a_stream_that_is_cut_does_not_end_well() {
    let mut sender = Sender::new(9, 4096, false);
    sender.send(0, &bytes(0, 5000), ACK | FIN);
    let mut events = Vec::new();
    sender.host.poll(sender.now, &mut events);
    sender.host.commit(sender.now);
    sender.host.poll(sender.now, &mut events);
    assert!(!events.iter().any(|event| matches!(event, StreamEvent::Finished(_))), "{events:?}");
    assert!(events.iter().any(|event| matches!(event, StreamEvent::Closed(_))), "{events:?}");
}

/// smoltcp would let it in, and stop when the hole before it is filled.
#[test]
fn bytes_beyond_the_window_are_not_let_in_before_anything_was_answered() {
    let mut sender = Sender::new(9, 65536, false);
    sender.say(65_000, 75_000);
    sender.say(100_000, 101_000);
    sender.turn(true);
    for at in 0..70 {
        sender.say(at * 1000, at * 1000 + 1000);
    }
    sender.turn(true);
    assert_eq!((sender.acked, sender.received.len()), (70_000, 70_000));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn a_stream_comes_out_as_it_is(
        seed: u64,
        ipv6: bool,
        first in prop_oneof![any::<u32>(), (0u32..60_000).prop_map(|n| u32::MAX - n)],
        window in prop_oneof![Just(4096usize), Just(65536), Just(1 << 20)],
        largest in prop_oneof![Just(20u64), Just(1400), Just(30_000)],
    ) {
        let mut dice = Dice::new(seed);
        let len = 60 * largest + dice.below(5000);
        let mut sender = Sender::new(first, window, ipv6);
        for _ in 0..60 {
            let mut at = sender.acked;
            for _ in 0..dice.below(20) {
                let size = 1 + dice.below(largest);
                // Mostly what goes on, sometimes anything from what is old to what is beyond the window.
                match dice.below(8) {
                    0 => at = (sender.acked + dice.below(window as u64 + 3000)).saturating_sub(1500),
                    1 => at = at.saturating_sub(size / 2),
                    2 => at += size,
                    _ => {}
                }
                let (from, to) = (at.min(len), (at + size).min(len));
                let fits = to - sender.acked.min(to) <= sender.window;
                let fin = if to == len && fits && dice.below(2) == 0 { FIN } else { 0 };
                match dice.below(20) {
                    0 => sender.send(from, &[], ACK),
                    // What is not acknowledged by anybody who was asked.
                    1 => {
                        let (at, theirs) = (sender.first.wrapping_add(from as u32), sender.theirs.wrapping_add(9999));
                        sender.put(at, theirs, ACK, &[], &vec![0xee; size as usize]);
                    }
                    _ if from < to || fin != 0 => sender.send(from, &bytes(from, to), ACK | fin),
                    _ => {}
                }
                at = to;
            }
            sender.turn(dice.below(3) > 0);
            sender.now = sender.now + Duration::from_micros(dice.below(20_000));
        }
        // In order, as it should have been; what is acknowledged is not said again.
        for _ in 0..2000 {
            if sender.finished {
                break;
            }
            let (from, to) = (sender.acked.min(len), (sender.acked + largest.min(sender.window.max(1))).min(len));
            let fin = if to == len && to - from <= sender.window { FIN } else { 0 };
            sender.send(from, &bytes(from, to), ACK | fin);
            sender.pass(Duration::from_millis(20));
        }
        prop_assert!(sender.finished, "{} of {len} are acknowledged, {} are here", sender.acked, sender.received.len());
        prop_assert_eq!(sender.received.len() as u64, len);
        drop(sender.host);
        prop_assert_eq!(sender.arena.in_use(), 0);
    }
}
