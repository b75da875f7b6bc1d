// SPDX-License-Identifier: GPL-2.0-or-later
//! Transfers both ways over wires that fail, and the moments in which a stack loses bytes.

use std::time::Duration;

use smoltcp::socket::tcp::State;

use super::peer::*;
use super::*;
use crate::ports::memory::Faults;

const SECOND: Duration = Duration::from_secs(1);

fn hostile() -> Faults {
    Faults {
        loss: 0.02,
        duplicate: 0.02,
        reorder: 0.05,
        reorder_time: Duration::from_millis(3),
        corrupt: 0.005,
        delay: Duration::from_micros(500),
        ..Faults::default()
    }
}

/// Both ends send so many bytes at once and close; every byte is checked as it arrives.
fn both_ways(setup: Setup, faults: Faults, len: u64) -> u64 {
    let mut world = World::new(setup);
    world.owner.send = len;
    world.faults(faults);
    let client = world.connect(len);
    world.clients[client].closes = true;
    let done = world.run(600 * SECOND, |world| {
        world.clients[client].received == len && world.served.values().all(|served| served.closed)
    });
    let last = world.streams.last().map(|_| world.last().clone());
    assert!(done, "stuck: {setup:?} {:?} {last:?}", world.clients[client]);
    assert_eq!(last.map(|served| served.received), Some(len));
    world.faults(Faults::default());
    world.assert_empty();
    world.counter("retransmitted_bytes")
}

#[test]
fn transfers_arrive_whole_over_a_good_wire() {
    for ipv6 in [false, true] {
        for (mtu, offload, whole) in [
            (1500, false, false),
            (1500, true, false),
            (1500, true, true),
            (65521, false, false),
            (65521, true, true),
        ] {
            let setup = Setup { ipv6, mtu, offload, whole, ..Setup::default() };
            let again = both_ways(setup, Faults::default(), 3 << 20);
            assert_eq!(again, 0, "nothing is lost, nothing is sent again: {setup:?}");
        }
    }
}

#[test]
fn transfers_arrive_whole_over_a_hostile_wire() {
    let mut again = 0;
    for seed in 0..6 {
        for ipv6 in [false, true] {
            for (mtu, offload, whole, len) in [
                (1500, false, false, 400_000),
                (1500, true, false, 400_000),
                (65521, false, false, 4 << 20),
                (65521, true, true, 4 << 20),
            ] {
                let setup = Setup { seed, ipv6, mtu, offload, whole, ..Setup::default() };
                again += both_ways(setup, hostile(), len);
            }
        }
    }
    assert!(again > 1 << 20, "{again} bytes were sent again");
}

#[test]
fn many_small_pieces_are_put_together() {
    for mtu in [1500, 65521] {
        let mut setup = Setup { mtu, ..Setup::default() };
        setup.owner.piece = 3;
        both_ways(setup, Faults::default(), 100_000);
        both_ways(setup, hostile(), 30_000);
    }
}

/// A secret with which the first connection's sequence numbers wrap after fewer than `within` bytes.
fn secret_near_the_wrap(within: u32) -> [u64; 2] {
    let near = |&number: &u64| {
        let mut world = World::new(Setup { secret: [number, 0], ..Setup::default() });
        let first = std::rc::Rc::new(std::cell::Cell::new(0));
        let seen = first.clone();
        world.wire.set_filter(
            0,
            Some(Box::new(move |_, frame| {
                if frame[12..14] == [8, 0] {
                    seen.set(u32::from_be_bytes(frame[38..42].try_into().expect("four bytes")));
                }
                true
            })),
        );
        world.connect(0);
        assert!(world.run(SECOND, |_| first.get() != 0));
        first.get() > u32::MAX - within
    };
    [(0..).find(near).expect("one of them"), 0]
}

#[test]
fn sequence_numbers_wrap() {
    // Few candidates are tried: each makes a world.
    let within = 64 << 20;
    let secret = secret_near_the_wrap(within);
    let setup = Setup { secret, mtu: 65521, offload: true, whole: true, ..Setup::default() };
    both_ways(setup, Faults::default(), u64::from(within) + (1 << 20));
    let faults = Faults { loss: 0.002, delay: Duration::from_micros(100), ..Faults::default() };
    both_ways(setup, faults, u64::from(within) + (1 << 20));
}

#[test]
fn sequence_numbers_differ_and_are_not_told_in_advance() {
    let first = |secret, seed| {
        let mut world = World::new(Setup { secret, seed, ..Setup::default() });
        let numbers = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
        let seen = numbers.clone();
        world.wire.set_filter(
            0,
            Some(Box::new(move |_, frame| {
                if frame[12..14] == [8, 0] && frame[47] & 2 != 0 {
                    seen.borrow_mut().push(u32::from_be_bytes(frame[38..42].try_into().expect("four bytes")));
                }
                true
            })),
        );
        for _ in 0..20 {
            world.established(0);
        }
        numbers.take()
    };
    let (one, same, other) = (first([1, 1], 1), first([1, 1], 1), first([1, 2], 1));
    assert_eq!(one, same, "one secret is one run");
    assert!(one.iter().all(|number| !other.contains(number)));
    let mut sorted = one.clone();
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!(sorted.len(), one.len(), "two connections have the same");
}

#[test]
fn a_closed_window_is_probed_until_it_opens() {
    for lose_the_update in [false, true] {
        let mut world = World::new(Setup { window: 32 << 10, ..Setup::default() });
        world.owner.send = 1 << 20;
        let (client, _) = world.established(0);
        world.clients[client].reads = false;
        world.pass(3 * SECOND);
        assert_eq!(world.socket(client).recv_queue(), 32 << 10, "the window is full");
        let probed = world.wire.counters(0).sent;
        world.pass(20 * SECOND);
        let probes = world.wire.counters(0).sent - probed;
        assert!((2..40).contains(&probes), "{probes} probes in twenty seconds");
        // The update that opens the window is lost: only the next probe's answer tells.
        world.clients[client].reads = true;
        if lose_the_update {
            world.wire.set_faults(1, Faults { loss: 1.0, ..Faults::default() });
            world.pass(Duration::from_millis(10));
            world.wire.set_faults(1, Faults::default());
        }
        assert!(world.run(60 * SECOND, |world| world.clients[client].received == 1 << 20));
        world.clients[client].closes = true;
        world.assert_empty();
    }
}

#[test]
fn what_the_owner_does_not_take_is_bounded_and_kept() {
    let mut world = World::new(Setup { mtu: 65521, whole: true, offload: true, ..Setup::default() });
    world.owner.reads = false;
    let (client, _) = world.established(16 << 20);
    world.pass(5 * SECOND);
    let (sent, held) = (world.clients[client].sent, world.arena.in_use());
    // A mebibyte of frames, one of the ring, and the client's own ring.
    assert!((2 << 20..4 << 20).contains(&sent), "{sent} bytes were taken");
    assert!(held < 3 << 20, "{held} bytes are held");
    world.owner.reads = true;
    // Memory that was short is asked for again, without another frame.
    assert!(world.run(60 * SECOND, |world| world.last().received == 16 << 20));
    world.clients[client].closes = true;
    world.assert_empty();
}

#[test]
fn an_idle_connection_asks_whether_the_peer_is_there() {
    let mut world = World::new(Setup::default());
    world.owner.send = 100_000;
    let (client, stream) = world.established(10_000);
    assert!(world.run(SECOND, |world| world.clients[client].received == 100_000));
    let before = world.wire.counters(0).sent;
    world.turns = 0;
    world.pass(600 * SECOND);
    assert!(world.turns < 1000, "{} turns with nothing to do", world.turns);
    let asked = world.wire.counters(0).sent - before;
    assert!((20..40).contains(&asked), "{asked} questions in ten minutes");
    assert!(!world.last().closed);
    // The question repeats a byte that is gone; what follows it is what was meant.
    world.served.get_mut(&stream).expect("there").send = 200_000;
    assert!(world.run(SECOND, |world| world.clients[client].received == 200_000));
    world.peer_is_gone = true;
    assert!(world.run(90 * SECOND, |world| world.last().closed), "a dead peer is noticed");
    world.wire.set_all_faults(Faults { loss: 1.0, ..Faults::default() });
    world.assert_empty();
}

#[test]
fn a_peer_that_vanishes_in_the_middle_is_noticed() {
    let mut world = World::new(Setup::default());
    world.owner.send = 50 << 20;
    let (client, _) = world.established(0);
    assert!(world.run(SECOND, |world| world.clients[client].received > 1 << 20));
    world.peer_is_gone = true;
    assert!(world.run(90 * SECOND, |world| world.last().closed));
    world.assert_empty();
}

#[test]
fn either_side_may_finish_first_while_the_other_sends() {
    for faults in [Faults::default(), hostile()] {
        // The peer's FIN comes while the host still sends: the host learns of it and goes on.
        let mut world = World::new(Setup::default());
        world.faults(faults);
        world.owner.send = 60_000;
        let (client, _) = world.established(1000);
        world.clients[client].closes = true;
        assert!(world.run(100 * SECOND, |world| world.last().finished), "the FIN is told");
        assert_eq!(world.last().received, 1000);
        assert!(world.run(100 * SECOND, |world| world.clients[client].received == 60_000));
        assert!(world.run(100 * SECOND, |world| world.last().closed));
        world.faults(Faults::default());
        world.assert_empty();

        // The host's FIN follows what it has queued, while the peer still sends.
        let mut world = World::new(Setup::default());
        world.faults(faults);
        (world.owner.send, world.owner.closes) = (60_000, true);
        let (client, _) = world.established(30_000);
        assert!(world.run(100 * SECOND, |world| world.clients[client].received == 60_000
            && !world.socket(client).may_recv()));
        world.clients[client].closes = true;
        assert!(world.run(100 * SECOND, |world| world.last().closed));
        world.faults(Faults::default());
        world.assert_empty();
    }
}

#[test]
fn windows_still_count_behind_the_fin_of_the_peer() {
    let mut world = World::new(Setup { window: 32 << 10, ..Setup::default() });
    world.owner.send = 500_000;
    let (client, _) = world.established(0);
    (world.clients[client].reads, world.clients[client].closes) = (false, true);
    assert!(world.run(SECOND, |world| world.last().finished && world.last().sent == 500_000));
    world.pass(3 * SECOND);
    world.clients[client].reads = true;
    let begin = world.now;
    assert!(world.run(100 * SECOND, |world| world.clients[client].received == 500_000));
    assert!(world.now - begin < 5 * SECOND, "{:?}", world.now - begin);
    world.assert_empty();
}

/// What goes out in one frame, and what the wire carries, by MTUs of both ends and with the port cutting.
#[test]
fn segments_are_as_large_as_both_ends_allow() {
    for ipv6 in [false, true] {
        for (mtu, peer_mtu, offload) in [
            (1500, 1500, true),
            (9000, 1500, true),
            (1500, 9000, true),
            (9000, 9000, false),
            (1500, 1500, false),
        ] {
            let mut world = World::new(Setup { ipv6, mtu, peer_mtu, offload, ..Setup::default() });
            let longest = std::rc::Rc::new(std::cell::Cell::new([0; 2]));
            for end in 0..2 {
                let seen = longest.clone();
                let filter = move |_: Instant, frame: &[u8]| {
                    let mut lengths = seen.get();
                    lengths[end] = frame.len().max(lengths[end]);
                    seen.set(lengths);
                    true
                };
                world.wire.set_filter(end, Some(Box::new(filter)));
            }
            world.owner.send = 300_000;
            let (client, _) = world.established(300_000);
            assert!(world.run(10 * SECOND, |world| world.clients[client].received == 300_000
                && world.last().received == 300_000));
            let wanted = usize::from(mtu.min(peer_mtu)) + 14;
            assert_eq!(longest.get(), [wanted; 2], "IPv6 {ipv6}, MTU {mtu} and {peer_mtu}");
            let frames = world.counter("frames_out");
            let bounds = if offload { 1..60 } else { 300_000 / (wanted as u64)..600 };
            assert!(
                bounds.contains(&frames),
                "{frames} frames: IPv6 {ipv6}, MTU {mtu} and {peer_mtu}, cut {offload}"
            );
            world.clients[client].closes = true;
            world.assert_empty();
        }
    }
}

#[test]
fn resets_end_a_stream_in_the_middle() {
    let mut world = World::new(Setup::default());
    world.owner.send = 50 << 20;
    let (client, _) = world.established(50 << 20);
    assert!(world.run(SECOND, |world| world.last().received > 1 << 20));
    world.socket(client).abort();
    assert!(world.run(SECOND, |world| world.last().closed));
    world.assert_empty();

    let mut world = World::new(Setup::default());
    world.owner.send = 50 << 20;
    let (client, stream) = world.established(50 << 20);
    assert!(world.run(SECOND, |world| world.last().received > 1 << 20));
    world.host.abort(stream);
    assert!(world.run(SECOND, |world| world.socket(client).state() == State::Closed));
    assert!(world.last().closed);
    world.assert_empty();
}

#[test]
fn a_reset_in_the_handshake_leaves_nothing() {
    let mut world = World::new(Setup::default());
    world.wire.set_faults(0, Faults { delay: Duration::from_millis(5), ..Faults::default() });
    let client = world.connect(0);
    world.pass(Duration::from_millis(1));
    assert_eq!(world.counter("half_open"), 1);
    world.socket(client).abort();
    world.assert_empty();
    assert!(world.streams.is_empty());
}

#[test]
fn a_port_is_used_again_while_the_old_connection_waits() {
    let mut world = World::new(Setup::default());
    world.owner.closes = true;
    let first = world.connect_from(50_000, PORT, 0);
    assert!(world.run(SECOND, |world| !world.streams.is_empty()));
    world.pass(SECOND);
    // The host has closed first: it is the one that waits once the peer closes.
    world.clients[first].closes = true;
    assert!(world.run(SECOND, |world| world.last().closed));
    assert_eq!(world.counter("flows"), 1, "in TIME-WAIT");
    let handle = world.clients.remove(first).handle;
    world.sockets.remove(handle);
    world.owner.closes = false;
    let second = world.connect_from(50_000, PORT, 1000);
    assert!(world.run(SECOND, |world| world.streams.len() == 2 && world.last().received == 1000));
    world.clients[second].closes = true;
    world.assert_empty();
}

#[test]
fn closed_ports_and_strangers_are_reset() {
    for ipv6 in [false, true] {
        let mut world = World::new(Setup { ipv6, ..Setup::default() });
        let client = world.connect_from(50_000, PORT + 1, 0);
        assert!(world.run(SECOND, |world| world.socket(client).state() == State::Closed), "refused at once");
        assert_eq!(world.counter("resets_sent"), 1);
        // A segment in the middle of a connection that nobody knows.
        let (client, stream) = world.established(0);
        world.host.abort(stream);
        world.wire.set_faults(0, Faults { loss: 1.0, ..Faults::default() });
        world.pass(Duration::from_millis(1));
        world.wire.set_faults(0, Faults::default());
        world.clients[client].send = 10;
        assert!(world.run(SECOND, |world| world.socket(client).state() == State::Closed));
        assert_eq!(world.counter("resets_sent"), 2);
        world.assert_empty();
    }
}

#[test]
fn a_host_that_stops_listening_keeps_what_it_has() {
    let mut world = World::new(Setup::default());
    let (old, _) = world.established(0);
    world.host.stop_listening();
    let new = world.connect(0);
    assert!(world.run(SECOND, |world| world.socket(new).state() == State::Closed));
    world.clients[old].send = 1000;
    assert!(world.run(SECOND, |world| world.last().received == 1000));
    world.clients[old].closes = true;
    world.assert_empty();
}
