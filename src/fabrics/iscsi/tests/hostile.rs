// SPDX-License-Identifier: GPL-2.0-or-later
//! Streams as they may come: cut anywhere, damaged, made up.

use proptest::prelude::*;

use super::*;
use crate::fabrics::iscsi::initiator::Transfer;

/// A session's requests that do not depend on answers, as bytes: a login, a bit of everything, and when
/// that is answered a reset and a logout.
fn session(digest: &str) -> [Vec<u8>; 4] {
    let mut initiator = Initiator::new();
    let keys = [("InitialR2T", "No"), ("HeaderDigest", digest), ("DataDigest", digest)];
    let first = initiator.login(0, Some(1), &[&NAMES[..], &[("AuthMethod", "None")]].concat());
    let second = initiator.login(1, Some(3), &keys);
    let login = [first.encode(Digests::default()), second.encode(Digests::default())].concat();
    let on = digest == "CRC32C";
    let digests = Digests { header: on, data: on };
    let buffer = pattern_of(0, 3000);
    let mut write =
        initiator.command(0, &vendor(WRITE_IN_PARTS, 3000, 1000), Transfer::write(3000)).data(&buffer[..700]);
    write.bhs.bytes_mut()[1] &= !FINAL;
    let mut packets = vec![
        write.clone(),
        initiator.data_out(&write, None, 0, 700, &buffer[700..1500], false),
        initiator.command(0, &vendor(READ_IN_PARTS, 2000, 700), Transfer::read(2000)),
        initiator.data_out(&write, None, 1, 1500, &buffer[1500..], true),
        initiator.nop_out(b"abc"),
        initiator.text(b"SendTargets=\0X-a.b=1\0"),
        initiator.command(0, &[HOLD], Transfer::read(512)),
    ];
    packets.push(initiator.abort_task(&packets[6].clone()));
    let cdb: Vec<u8> = [&vendor(ECHO, 0, 0)[..], &[1; 40]].concat();
    let both = Transfer { reads: Some(100), writes: Some(100) };
    packets.push(initiator.command(0, &cdb, both).data(&buffer[..100]));
    packets.push(initiator.command(0, &[FAIL], Transfer::NONE));
    let (reset, logout) = (initiator.task_management(5, 0), initiator.logout(0));
    let encode = |packets: &[Packet]| packets.iter().flat_map(|packet| packet.encode(digests)).collect();
    [login, encode(&packets), encode(&[reset]), encode(&[logout])]
}

/// What the target answers to streams that come in these pieces, one after the other; how it ends; what it wrote.
/// Checks the bound of what it holds.
fn answers(streams: &[Vec<u8>; 4], pieces: &[usize]) -> (Vec<u8>, Option<CloseReason>, Vec<Vec<u8>>) {
    let mut world = World::new(Parameters { queue_depth: 32, ..Parameters::default() });
    let mut sent = Vec::new();
    let mut sizes = pieces.iter().copied().cycle();
    for bytes in streams {
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let (piece, more) = rest.split_at(sizes.next().unwrap_or(rest.len()).clamp(1, rest.len()));
            rest = more;
            world.receive(piece);
            sent.extend(drain(&mut world));
            // The window times the first burst, and an unfinished PDU.
            assert!(world.session.held() <= 33 * (256 << 10), "{} bytes held", world.session.held());
        }
    }
    let (closed, mut written) = (world.closed().cloned(), world.toy.written.clone());
    // Which write ends first depends on how much of each had come.
    written.sort_by_key(Vec::len);
    world.end();
    (sent, closed, written)
}

/// Lets the target work, and returns the bytes that it sends.
fn drain(world: &mut World) -> Vec<u8> {
    let mut sent = Vec::new();
    loop {
        let mut busy = world.work();
        while let Some(pdu) = world.session.poll_transmit(world.key) {
            busy = true;
            sent.extend(pdu.to_vec());
        }
        if !busy {
            return sent;
        }
    }
}

#[test]
fn the_whole_session() {
    for digest in ["None", "CRC32C"] {
        let (sent, closed, written) = answers(&session(digest), &[]);
        assert_eq!(closed, Some(CloseReason::Logout));
        assert_eq!(written, [pattern_of(0, 100), pattern_of(0, 3000)]);
        let mut initiator = Initiator::new();
        let on = digest == "CRC32C";
        initiator.digests = Digests { header: on, data: on };
        let packets = initiator.take(&sent);
        assert!(initiator.is_between_pdus());
        assert_eq!(packets.last().unwrap().opcode(), Opcode::LOGOUT_RESPONSE);
        assert!(packets.iter().all(|packet| packet.opcode() != Opcode::REJECT));
    }
}

/// Answers with the window's bounds taken out: how far it has opened when a PDU leaves depends on what had come by
/// then.
fn without_window(sent: &[u8], digests: bool) -> Vec<Packet> {
    let mut initiator = Initiator::new();
    initiator.digests = Digests { header: digests, data: digests };
    let mut packets = initiator.take(sent);
    for packet in &mut packets {
        packet.bhs.set_word(28, 0);
        packet.bhs.set_word(32, 0);
        // Neither do the tags of R2Ts depend on anything else than order, nor is the order of answers fixed.
        packet.bhs.set_word(24, 0);
    }
    packets.sort_by_key(|packet| {
        (packet.bhs.itt(), packet.opcode().raw(), packet.bhs.word(36), packet.data.clone())
    });
    packets
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn any_cut_of_the_stream_is_the_same(pieces in prop::collection::vec(1usize..700, 1..20), crc in any::<bool>()) {
        let bytes = session(if crc { "CRC32C" } else { "None" });
        let (whole, closed, written) = answers(&bytes, &[]);
        let (cut, closed_cut, written_cut) = answers(&bytes, &pieces);
        prop_assert_eq!(closed, closed_cut);
        prop_assert_eq!(written, written_cut);
        prop_assert_eq!(without_window(&whole, crc), without_window(&cut, crc));
    }

    #[test]
    fn a_byte_at_a_time_pins_little(len in 1usize..100_000) {
        let mut world = World::logged_in(Parameters::default(), &[]);
        let ping = world.initiator.nop_out(&vec![5; len]).encode(Digests::default());
        let before = world.arena.in_use();
        for byte in &ping[..ping.len() - 1] {
            world.receive(&[*byte]);
        }
        let pinned = world.arena.in_use() - before;
        prop_assert!(pinned <= 2 * len + (16 << 10), "{} for {}", pinned, len);
        world.receive(&ping[ping.len() - 1..]);
        prop_assert_eq!(world.run().remove(0).data.len(), len.min(8192));
        world.end();
    }

    #[test]
    fn mutated_sessions_do_no_harm(
        wounds in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        pieces in prop::collection::vec(1usize..900, 1..5),
        crc in any::<bool>(),
    ) {
        let mut bytes = session(if crc { "CRC32C" } else { "None" });
        for (at, value) in &wounds {
            let stream = &mut bytes[usize::from(*value & 7 > 0) + usize::from(*value & 31 > 27)];
            let at = at.index(stream.len());
            stream[at] = *value;
        }
        answers(&bytes, &pieces);
    }

    #[test]
    fn shuffled_pdus_do_no_harm(order in Just((0..200u16).collect::<Vec<_>>()).prop_shuffle(), seed in any::<u32>()) {
        // Whole headers with the fields that matter drawn from few values, so that they often fit each other.
        let mut world = World::logged_in(Parameters { queue_depth: 8, ..Parameters::default() }, &[("InitialR2T", "No")]);
        let opcodes = [0u8, 1, 1, 1, 2, 4, 5, 5, 5, 5, 0x10, 0x41, 0x40, 0x42];
        for (i, n) in order.iter().enumerate() {
            let mut r = u64::from(seed) ^ u64::from(*n) << 17 ^ (i as u64) << 40;
            let mut next = |below: u64| {
                r = r.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (r >> 33) % below
            };
            let mut packet = Packet::raw(Opcode::new(opcodes[next(opcodes.len() as u64) as usize]), [0x80, 0xa1, 0x21, 0xc1, 0x81, 0, 0x85][next(7) as usize]);
            let tags = [0xffff_ffff, 0x0001_0000, 0x0002_0001, 0x0003_0002, 512, 1024];
            packet = packet.word(16, 0x20 + next(4) as u32).word(20, tags[next(6) as usize]);
            packet = packet.word(24, world.initiator.exp_cmd_sn.wrapping_add(next(4) as u32).wrapping_sub(u32::from(next(5) == 0)));
            packet = packet.word(36, next(3) as u32).word(40, 256 * next(4) as u32);
            if packet.opcode() == Opcode::SCSI_COMMAND {
                packet.bhs.bytes_mut()[32..48].copy_from_slice(&vendor([HOLD, WRITE_IN_PARTS, ECHO, FAIL][next(4) as usize], 1024, 512));
                packet = packet.word(20, 1024);
            } else if packet.opcode() == Opcode::TASK_MANAGEMENT_REQUEST {
                packet.bhs.bytes_mut()[1] = 0x81 + next(6) as u8;
                let before = packet.bhs.cmd_sn().wrapping_sub(1);
                packet = packet.word(20, 0x20 + next(4) as u32).word(32, before);
            }
            let len = 256 * next(3) as usize;
            packet = packet.data(&vec![1; len]);
            let bytes = packet.encode(Digests::default());
            world.receive(&bytes);
            if next(3) > 0 {
                world.run();
            }
            prop_assert!(world.session.held() <= 8 * (256 << 10));
        }
        world.run();
        world.end();
    }

    #[test]
    fn noise_does_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..2000), after_login in any::<bool>()) {
        let mut world = World::new(Parameters::default());
        if after_login {
            world = World::logged_in(Parameters::default(), &[]);
        }
        for piece in bytes.chunks(97) {
            world.receive(piece);
            drain(&mut world);
        }
        prop_assert!(world.session.held() <= 272 * 1024);
        world.end();
    }
}
