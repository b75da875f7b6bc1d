// SPDX-License-Identifier: GPL-2.0-or-later
//! Somebody on the link who sees nothing of a connection and says whatever he likes in its peer's name.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use super::front::{OURS, OURS6, THEIRS, THEIRS6, ethernet, ipv4, ipv6, summed};
use super::peer::{HOST_MAC, PEER_MAC, PORT, Setup, World};
use super::segments::Sender;
use super::*;
use crate::net::front::{ACK, FIN, RST, SYN};
use crate::net::options::SEGMENT_MIN;
use crate::ports::memory::{Dice, Faults};

const SECOND: Duration = Duration::from_secs(1);
const FORGER: [u8; 6] = [2, 0x66, 0, 0, 0, 6];
/// Where a client of the world connects from first.
const CLIENT: u16 = 40_001;

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap())
}

/// A segment from an address of the peer's, in its frame.
pub(super) fn segment(
    v6: bool,
    ports: (u16, u16),
    numbers: (u32, u32),
    flags: u8,
    options: &[u8],
    payload: &[u8],
) -> Vec<u8> {
    let mut tcp = vec![0; 20];
    tcp[..2].copy_from_slice(&ports.0.to_be_bytes());
    tcp[2..4].copy_from_slice(&ports.1.to_be_bytes());
    tcp[4..8].copy_from_slice(&numbers.0.to_be_bytes());
    tcp[8..12].copy_from_slice(&numbers.1.to_be_bytes());
    (tcp[12], tcp[13], tcp[14]) = (u8::try_from(5 + options.len() / 4).unwrap() << 4, flags, 16);
    let body = [&tcp, options, payload].concat();
    match v6 {
        false => ipv4(6, &[], 0x4000, &summed(THEIRS.into(), OURS.into(), 6, 16, body)),
        true => ipv6(HOST_MAC, THEIRS6, OURS6, 6, 64, &summed(THEIRS6.into(), OURS6.into(), 6, 16, body)),
    }
}

/// The header of a TCP segment in a frame of the host's, and how much payload follows it.
fn tcp(frame: &[u8]) -> Option<(&[u8], usize)> {
    let (at, len) = match (&frame[12..14], frame.get(23), frame.get(20)) {
        ([8, 0], Some(6), _) => (34, usize::from(u16::from_be_bytes([frame[16], frame[17]])) + 14),
        ([0x86, 0xdd], _, Some(6)) => (54, usize::from(u16::from_be_bytes([frame[18], frame[19]])) + 54),
        _ => return None,
    };
    let header = usize::from(frame[at + 12] >> 4) * 4;
    Some((&frame[at..at + header], len - at - header))
}

/// Tells the host something, in the turn that comes.
fn forge(world: &mut World, frame: &[u8], vouched: bool) {
    let Some(mut block) = world.arena.alloc(frame.len()) else { return };
    block.bytes_mut().copy_from_slice(frame);
    let checksum = if vouched { RxChecksum::Good } else { RxChecksum::Unknown };
    let frame = RxFrame { data: block.freeze(), checksum };
    world.host.receive_frames(&[frame], &mut Vec::new());
}

/// Stands between host and peer, brings each frame where it is sent to, and knows what the host said when nobody
/// forged.
#[derive(Default)]
struct Switch {
    said: Vec<Vec<u8>>,
    /// What is to be said; without it everything is noted.
    expected: Option<Vec<Vec<u8>>>,
    /// What the host would send next, and what it has acknowledged.
    next: u32,
    acknowledged: u32,
    challenges: u64,
    wrong: Option<String>,
}

impl Switch {
    /// Whether a frame reaches the peer.
    fn carry(&mut self, frame: &[u8]) -> bool {
        let Some((header, payload)) = tcp(frame).filter(|(header, _)| header[2..4] == CLIENT.to_be_bytes())
        else {
            return false;
        };
        if frame[..6] != PEER_MAC {
            self.wrong = Some(format!("{payload} bytes of the peer's go to {:x?}", &frame[..6]));
            return false;
        }
        let known = self.expected.as_ref().and_then(|expected| expected.get(self.said.len()));
        if self.expected.is_some() && known.is_none_or(|known| known != frame) {
            match header[13] {
                ACK if payload == 0 => self.challenges += 1,
                flags => self.wrong = Some(format!("unexpected: flags {flags:#x}, {payload} bytes")),
            }
            return false;
        }
        let counted = payload as u32 + u32::from(header[13] & (SYN | FIN) != 0);
        self.next = word(header, 4).wrapping_add(counted);
        self.acknowledged = word(header, 8);
        self.said.push(frame.to_vec());
        true
    }
}

/// Both ends say something, wait, say more and close, while somebody forges in between. Returns what the host said and
/// how many challenges were among it.
fn talk(
    setup: Setup,
    expected: Option<Vec<Vec<u8>>>,
    mut forger: impl FnMut(&mut World, &Switch),
) -> (Vec<Vec<u8>>, u64) {
    const LEN: u64 = 200_000;
    let mut world = World::new(setup);
    world.faults(Faults { delay: Duration::from_micros(200), rate: Some(40_000_000), ..Faults::default() });
    let switch = Rc::new(RefCell::new(Switch { expected, ..Switch::default() }));
    let carried = switch.clone();
    world.wire.set_filter(0, Some(Box::new(move |_, frame| carried.borrow_mut().carry(frame))));
    world.owner.send = LEN;
    let (client, stream) = world.established(LEN);
    let mut lie = |world: &mut World| {
        forger(world, &switch.borrow());
        let wrong = switch.borrow().wrong.clone();
        assert_eq!(wrong, None, "{setup:?}");
    };
    for round in 1..=2 {
        assert!(world.run(20 * SECOND, |world| {
            lie(world);
            world.clients[client].received == round * LEN && world.served[&stream].received == round * LEN
        }));
        // It is idle for a while, and asks whether the peer is there.
        for _ in 0..60 {
            world.pass(SECOND);
            lie(&mut world);
        }
        world.served.get_mut(&stream).unwrap().send += LEN;
        world.clients[client].send += LEN;
    }
    world.clients[client].closes = true;
    assert!(world.run(20 * SECOND, |world| {
        lie(world);
        world.served[&stream].closed
    }));
    assert!(world.served[&stream].finished && world.served[&stream].received == 3 * LEN);
    let switch = std::mem::take(&mut *switch.borrow_mut());
    (switch.said, switch.challenges)
}

/// A frame of a kind that chance decides, from somebody who does not know what the next numbers are.
fn lie(dice: &mut Dice, v6: bool, switch: &Switch) -> (Vec<u8>, bool) {
    let bytes = |dice: &mut Dice, len: u64| (0..len).map(|_| dice.roll() as u8).collect::<Vec<u8>>();
    let mut frame = match dice.below(10) {
        0..6 => {
            // He may have guessed one of the numbers, but not both.
            let far = |dice: &mut Dice| (1 << 22) + dice.below((1 << 31) - (1 << 23)) as u32;
            let guessed = dice.below(3) > 0;
            let mut sequence = match guessed {
                true => switch.acknowledged.wrapping_add(dice.below(1 << 20) as u32),
                false => switch.acknowledged.wrapping_add(far(dice)),
            };
            let acknowledged = match guessed || dice.below(2) == 0 {
                true if dice.below(2) == 0 => switch.next.wrapping_add(1 + far(dice) % (1 << 30)),
                true => switch.next.wrapping_sub(far(dice)),
                false => switch.next,
            };
            let flags = [ACK, RST, SYN, FIN | ACK, RST | ACK, SYN | ACK, 0, dice.roll() as u8];
            let flags = flags[dice.below(8) as usize];
            if flags & RST != 0 && sequence.wrapping_sub(switch.acknowledged) < 1 << 16 {
                // Up to there the peer may have come.
                sequence = sequence.wrapping_add(1 << 18);
            }
            let lied = switch.next.wrapping_sub(dice.below(50_000) as u32).to_be_bytes();
            let options = match dice.below(4) {
                0 => [&[1, 1, 5, 10][..], &lied, &switch.next.to_be_bytes()].concat(),
                1 => {
                    let len = dice.below(11) * 4;
                    bytes(dice, len)
                }
                _ => Vec::new(),
            };
            let len = [0, 1, 700, 1400][dice.below(4) as usize];
            let payload = bytes(dice, len);
            segment(v6, (CLIENT, PORT), (sequence, acknowledged), flags, &options, &payload)
        }
        // A segment of nobody, and the beginning of a connection that never comes to be.
        6 => {
            let (port, numbers) = (50_000 + dice.below(20) as u16, (dice.roll() as u32, dice.roll() as u32));
            segment(v6, (port, PORT), numbers, [SYN, ACK, RST][dice.below(3) as usize], &[], &[])
        }
        // An error about a segment of the host's: unreachable, too big, time exceeded, redirect, whatever.
        7 => {
            let quoted = switch.said.last().map_or(&[][..], |frame| &frame[14..frame.len().min(80)]);
            let kind = [1, 2, 3, 4, 5, 9, 11, 12, 134, 137, dice.roll() as u8][dice.below(11) as usize];
            let code = dice.below(16) as u8;
            let body = [&[kind, code, 0, 0, 0, 0, 0, 68][..], quoted].concat();
            match v6 {
                false => ipv4(1, &[], 0, &summed(THEIRS.into(), OURS.into(), 1, 2, body)),
                true => {
                    let body = summed(THEIRS6.into(), OURS6.into(), 58, 2, body);
                    ipv6(HOST_MAC, THEIRS6, OURS6, 58, 255, &body)
                }
            }
        }
        // Here is the peer.
        8 if v6 => {
            let kind = [135, 136][dice.below(2) as usize];
            let flags = dice.roll() as u8;
            let option = dice.below(3) as u8;
            let body = [&[kind, 0, 0, 0, flags, 0, 0, 0][..], &THEIRS6, &[option, 1], &FORGER].concat();
            ipv6(HOST_MAC, THEIRS6, OURS6, 58, 255, &summed(THEIRS6.into(), OURS6.into(), 58, 2, body))
        }
        8 => {
            let (operation, about) = (1 + dice.below(2) as u8, [OURS, THEIRS][dice.below(2) as usize]);
            let body = [&[0, 1, 8, 0, 6, 4, 0, operation][..], &FORGER, &THEIRS, &[0; 6], &about];
            ethernet([[0xff; 6], HOST_MAC][dice.below(2) as usize], 0x0806, &body.concat())
        }
        // What comes next, but in a fragment, or with a wrong checksum.
        _ => {
            let numbers = (switch.acknowledged, switch.next);
            let mut frame =
                segment(v6, (CLIENT, PORT), numbers, [ACK, RST][dice.below(2) as usize], &[], b"forged");
            if dice.below(2) == 0 && !v6 {
                frame = ipv4(6, &[], [0x2000, 1, 0x2001][dice.below(3) as usize], &frame[34..]);
            } else {
                *frame.last_mut().unwrap() ^= 1;
            }
            return (frame, false);
        }
    };
    let mac = [FORGER, PEER_MAC, [0xff; 6], [1, 0, 0x5e, 0, 0, 1]][dice.below(4) as usize];
    frame[6..12].copy_from_slice(&mac);
    (frame, dice.below(2) == 0)
}

/// Whatever he says, the host says to its peer what it would have said without him, and sends it there. Now and then
/// there is an acknowledgment more.
#[test]
fn no_blind_forger_changes_anything_at_a_connection() {
    for seed in 0..24 {
        let (v6, offload) = (seed % 2 == 1, seed % 4 > 1);
        let setup = Setup { seed, ipv6: v6, offload, ..Setup::default() };
        let (said, _) = talk(setup, None, |_, _| {});
        let mut dice = Dice::new(seed);
        let (again, challenges) = talk(setup, Some(said.clone()), |world, switch| {
            for _ in 0..dice.below(4) {
                let (frame, vouched) = lie(&mut dice, v6, switch);
                forge(world, &frame, vouched);
            }
        });
        assert_eq!(again.len(), said.len());
        // Four in a second of the quarter of an hour, and one in a second of smoltcp's.
        assert!((1..140 * 5).contains(&challenges), "{challenges}");
    }
}

/// A session in which the peer has said something and the host has answered.
fn session() -> Sender {
    let mut sender = Sender::new(1000, 1 << 20, false);
    sender.say(0, 100);
    sender.turn(true);
    sender.pass(Duration::from_millis(20));
    assert_eq!((sender.acked, sender.answers), (100, 1));
    sender
}

fn counter(sender: &Sender, name: &str) -> u64 {
    sender.host.counters().iter().find(|counter| counter.0.name == name).unwrap().1
}

#[test]
fn a_peer_that_moves_is_followed_and_a_forger_is_not() {
    let mut sender = session();
    let (next, theirs) = (1100_u32, sender.theirs);
    let send = |sender: &mut Sender| {
        let stream = sender.stream.unwrap();
        sender.host.send(stream, Sg::from(Seg::from_static(b"secret")));
        sender.turn(true);
        std::mem::take(&mut sender.sent_to)
    };
    sender.mac = FORGER;
    // Numbers of nobody, one that is right, both but for a byte that was never sent.
    for (sequence, acknowledged) in
        [(77, 78), (next, 78), (next + (9 << 20), theirs), (next, theirs.wrapping_add(1))]
    {
        for flags in [ACK, ACK | FIN, RST | ACK, SYN] {
            if flags & RST == 0 || sequence != next {
                sender.put(sequence, acknowledged, flags, &[], &[]);
            }
        }
    }
    sender.turn(true);
    assert!(sender.sent_to.iter().all(|&mac| mac == PEER));
    assert_eq!(send(&mut sender), [PEER]);
    // The peer acknowledges what it has got, from elsewhere: also if that comes once more.
    let theirs = theirs.wrapping_add(6);
    sender.put(next, theirs, ACK, &[], &[]);
    sender.turn(true);
    assert_eq!(send(&mut sender), [FORGER]);
    sender.mac = PEER;
    sender.put(1000, theirs, ACK, &[], &[1; 100]);
    sender.turn(true);
    assert_eq!(sender.sent_to, [PEER], "what has come before is acknowledged to where it comes from now");
}

#[test]
fn a_reset_counts_if_it_says_what_comes_next() {
    let mut sender = session();
    let next = 1100;
    // Within the window and outside of it.
    for ahead in [1, 1000, 1 << 19, 1 << 20, 1 << 30, 1 << 31] {
        sender.put(next + ahead, 0, RST, &[], &[]);
        sender.put(next + ahead, 7, RST | ACK, &[], &[]);
    }
    sender.turn(true);
    assert!(!sender.closed);
    assert_eq!((sender.answers, counter(&sender, "challenges_sent")), (1, 1), "answered once");
    sender.pass(Duration::from_millis(100));
    sender.put(next + 1, 0, RST, &[], &[]);
    sender.turn(true);
    assert_eq!(sender.answers, 0, "not again so soon");
    sender.pass(Duration::from_millis(200));
    sender.put(next + 1, 0, RST, &[], &[]);
    sender.turn(true);
    assert_eq!(sender.answers, 1);
    // A peer that means it has got the answer.
    sender.put(next, 0, RST, &[], &[]);
    sender.turn(true);
    assert!(sender.closed);
    assert_eq!(counter(&sender, "flows"), 0);
}

/// What is acknowledged may be less than what has come.
#[test]
fn a_reset_that_answers_a_challenge_counts() {
    let mut sender = session();
    sender.say(100, 200);
    sender.put(1300, 0, RST, &[], &[]);
    sender.turn(true);
    assert_eq!((sender.answers, sender.acked), (1, 100));
    sender.put(1100, 0, RST, &[], &[]);
    sender.turn(true);
    assert!(sender.closed);
}

#[test]
fn a_peer_that_has_forgotten_its_connection_gets_a_new_one() {
    let mut sender = session();
    sender.put(5_000_000, 0, SYN, &[], &[]);
    sender.turn(true);
    assert_eq!((sender.answers, sender.closed), (1, false), "it is told what there is");
    // To which it says that there is nothing.
    sender.put(1100, 0, RST, &[], &[]);
    sender.turn(true);
    assert!(sender.closed);
    sender.put(5_000_000, 0, SYN, &[], &[]);
    sender.turn(true);
    assert_eq!((counter(&sender, "flows"), counter(&sender, "half_open")), (1, 1));
}

/// smoltcp takes an acknowledgment of bytes that it could send, but for the peer's window.
#[test]
fn bytes_that_were_not_sent_are_not_acknowledged() {
    let mut sender = session();
    let stream = sender.stream.unwrap();
    let theirs = sender.theirs;
    // It has no room.
    sender.put_window((1100, theirs), 0, ACK, &[], &[]);
    sender.turn(true);
    sender.host.send(stream, Sg::from(Seg::from_static(&[7; 5000])));
    sender.turn(true);
    sender.put(1100, theirs.wrapping_add(4000), ACK, &[], &[]);
    sender.turn(true);
    assert_eq!(counter(&sender, "challenges_sent"), 1);
    sender.pass(SECOND);
    assert!(!sender.closed);
}

/// Who wants to have his data byte by byte gets it in segments that everybody can take.
#[test]
fn segments_are_not_smaller_than_anybody_needs() {
    for (offload, option) in [(false, [2, 4, 0, 1]), (true, [2, 4, 0, 1]), (false, [2, 4, 0, 0])] {
        let mut world = World::new(Setup { offload, ..Setup::default() });
        let lengths = Rc::new(RefCell::new(Vec::new()));
        let seen = lengths.clone();
        let filter = move |_: Instant, frame: &[u8]| {
            seen.borrow_mut().extend(tcp(frame).map(|(_, payload)| payload).filter(|&payload| payload > 0));
            true
        };
        world.wire.set_filter(0, Some(Box::new(filter)));
        // The peer's SYN says so.
        let peer = Rc::new(RefCell::new(Vec::new()));
        let syn = peer.clone();
        world.wire.set_filter(
            1,
            Some(Box::new(move |_, frame: &[u8]| {
                let opens = tcp(frame).is_some_and(|(header, _)| header[13] == SYN);
                if opens && syn.borrow().is_empty() {
                    let (header, _) = tcp(frame).unwrap();
                    *syn.borrow_mut() =
                        segment(false, (CLIENT, PORT), (word(header, 4), 0), SYN, &option, &[]);
                }
                !opens
            })),
        );
        world.owner.send = 20_000;
        let client = world.connect(0);
        assert!(world.run(SECOND, |_| !peer.borrow().is_empty()));
        let syn = peer.borrow().clone();
        forge(&mut world, &syn, true);
        assert!(world.run(10 * SECOND, |world| world.clients[client].received == 20_000));
        let (longest, shortest) = (*lengths.borrow().iter().max().unwrap(), lengths.borrow()[0]);
        assert_eq!((longest, shortest), (usize::from(SEGMENT_MIN), usize::from(SEGMENT_MIN)), "{offload}");
    }
}

/// SYNs of everybody, who is not there when they are answered.
fn flood(world: &mut World, count: u16) {
    let to_peer =
        |_, frame: &[u8]| tcp(frame).is_some_and(|(header, _)| header[2..4] == CLIENT.to_be_bytes());
    world.wire.set_filter(0, Some(Box::new(to_peer)));
    for source in 0..count {
        let number = u32::from(source) * 77_777;
        let frame = segment(false, (10_000 + source, PORT), (number, 0), SYN, &[2, 4, 5, 0xb4], &[]);
        forge(world, &frame, true);
    }
}

#[test]
fn a_newcomer_gets_through_a_flood_with_all_that_it_offers() {
    for (v6, window) in [(false, 1 << 20), (true, 32 << 10)] {
        let mut world = World::new(Setup { ipv6: v6, window, ..Setup::default() });
        world.faults(Faults { delay: Duration::from_millis(5), ..Faults::default() });
        world.owner.send = 1 << 20;
        flood(&mut world, 1000);
        assert_eq!(world.counter("half_open"), HALF_OPEN_MAX as u64);
        let begin = world.now;
        let (client, _) = world.established(1 << 20);
        assert!(world.now - begin < Duration::from_millis(50), "{:?}", world.now - begin);
        assert_eq!((world.counter("accepted"), world.counter("half_open")), (1, HALF_OPEN_MAX as u64));
        flood(&mut world, 1000);
        // Shifted windows fill the path, and what is lost is told selectively.
        world.faults(Faults { delay: Duration::from_millis(5), loss: 0.01, ..Faults::default() });
        let done =
            |world: &mut World| world.clients[client].received == 1 << 20 && world.last().received == 1 << 20;
        assert!(world.run(20 * SECOND, done));
        assert!(world.counter("repaired_bytes") > 0);
        world.faults(Faults::default());
        world.clients[client].closes = true;
        world.assert_empty();
    }
}

#[test]
fn the_first_bytes_may_bring_the_cookie_and_nobody_is_reset_in_a_flood() {
    let mut world = World::new(Setup::default());
    flood(&mut world, 300);
    // The end of the handshake is lost, and what is said first.
    let lost = Rc::new(RefCell::new(0));
    let count = lost.clone();
    world.wire.set_filter(
        1,
        Some(Box::new(move |_, frame: &[u8]| {
            let plain = tcp(frame).is_some_and(|(header, _)| header[13] & (SYN | ACK) == ACK);
            *count.borrow_mut() += u32::from(plain);
            !plain || *count.borrow() > 2
        })),
    );
    let client = world.connect(10_000);
    assert!(world.run(5 * SECOND, |world| world.streams.len() == 1 && world.last().received == 10_000));
    assert_eq!(world.counter("resets_sent"), 0);
    world.clients[client].closes = true;
    world.assert_empty();
}

/// The network keeps a copy of the segment that brings a cookie, and delivers it when the connection has ended.
#[test]
fn a_cookie_opens_one_connection() {
    let mut world = World::new(Setup::default());
    flood(&mut world, 300);
    let kept = Rc::new(RefCell::new(None));
    let copy = kept.clone();
    let filter = move |_: Instant, frame: &[u8]| {
        if tcp(frame).is_some_and(|(header, _)| header[13] & (SYN | ACK) == ACK) {
            copy.borrow_mut().get_or_insert_with(|| frame.to_vec());
        }
        true
    };
    world.wire.set_filter(1, Some(Box::new(filter)));
    let client = world.connect(1000);
    assert!(world.run(5 * SECOND, |world| world.streams.len() == 1 && world.last().received == 1000));
    world.clients[client].closes = true;
    assert!(world.run(5 * SECOND, |world| world.counter("flows") == world.counter("half_open")));
    world.wire.set_filter(1, None);
    let frame = kept.borrow_mut().take().expect("there was a handshake");
    forge(&mut world, &frame, true);
    world.turn();
    assert_eq!((world.counter("accepted"), world.counter("half_open")), (1, HALF_OPEN_MAX as u64));
    world.assert_empty();
}

#[test]
fn a_number_that_was_not_given_opens_nothing() {
    let mut world = World::new(Setup::default());
    flood(&mut world, 300);
    let mut dice = Dice::new(5);
    for _ in 0..20_000 {
        let numbers = (dice.roll() as u32, dice.roll() as u32);
        let frame = segment(false, (30_000 + dice.below(100) as u16, PORT), numbers, ACK, &[], b"hello");
        forge(&mut world, &frame, true);
    }
    world.turn();
    assert_eq!((world.counter("accepted"), world.counter("half_open")), (0, HALF_OPEN_MAX as u64));
    assert_eq!(world.counter("flows"), HALF_OPEN_MAX as u64);
    world.assert_empty();
}

/// Whatever opens, with whatever else: a SYN makes a connection that may come to be, anything else does not.
#[test]
fn what_is_no_syn_opens_nothing() {
    for flags in 0..=255 {
        let mut world = World::new(Setup::default());
        world.turn();
        let answers = Rc::new(RefCell::new(Vec::new()));
        let seen = answers.clone();
        let filter = move |_: Instant, frame: &[u8]| {
            seen.borrow_mut().extend(tcp(frame).map(|(header, _)| header[13]));
            true
        };
        world.wire.set_filter(0, Some(Box::new(filter)));
        forge(&mut world, &segment(false, (50_000, PORT), (9, 9), flags, &[3, 0, 9, 9], &[]), true);
        world.turn();
        let opens = flags & (SYN | ACK | RST | FIN) == SYN;
        assert_eq!(world.counter("half_open"), u64::from(opens), "{flags:#x}");
        let wanted: &[u8] = match flags {
            _ if opens => &[SYN | ACK],
            _ if flags & RST != 0 => &[],
            _ if flags & ACK != 0 => &[RST],
            _ => &[RST | ACK],
        };
        assert_eq!(*answers.borrow(), wanted, "{flags:#x}");
    }
}

/// Somebody has begun a connection in the peer's name, be it the peer itself, long ago (RFC 9293 3.5): the answer goes
/// to him, and whose handshake is done first has the connection.
#[test]
fn a_handshake_in_its_name_does_not_keep_a_peer_out() {
    for (mac, late) in [(PEER_MAC, false), (FORGER, false), (FORGER, true)] {
        let mut world = World::new(Setup::default());
        world.faults(Faults { delay: Duration::from_millis(2), ..Faults::default() });
        world.wire.set_filter(0, Some(Box::new(|_, frame: &[u8]| frame[..6] == PEER_MAC)));
        let mut syn = segment(false, (CLIENT, PORT), (1_000_000, 0), SYN, &[], &[]);
        syn[6..12].copy_from_slice(&mac);
        let client = world.connect(1000);
        if late {
            assert!(world.run(SECOND, |world| world.counter("half_open") == 1));
        }
        forge(&mut world, &syn, true);
        world.turn();
        assert_eq!((world.counter("half_open"), world.counter("cookies_sent")), (1, u64::from(late)));
        let begin = world.now;
        assert!(world.run(SECOND, |world| world.streams.len() == 1 && world.last().received == 1000));
        assert!(world.now - begin < Duration::from_millis(30), "{:?}", world.now - begin);
        assert_eq!((world.counter("half_open"), world.counter("accepted")), (0, 1));
        world.clients[client].closes = true;
        world.assert_empty();
    }
}
