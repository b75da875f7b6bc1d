// SPDX-License-Identifier: GPL-2.0-or-later
//! Data in both directions: framing, sequences, digests, residuals, and what is wrong with Data-Out.

use std::ptr::NonNull;

use super::*;
use crate::fabrics::iscsi::initiator::Transfer;
use crate::memory::{Lease, SharedMemory};
use crate::wire::iscsi::{Bhs, NO_TAG, RejectReason};

const ALL: [(&str, &str); 4] = [
    ("InitialR2T", "No"),
    ("ImmediateData", "Yes"),
    ("MaxOutstandingR2T", "4"),
    ("MaxRecvDataSegmentLength", "8192"),
];

fn world(parameters: Parameters, keys: &[(&str, &str)]) -> World {
    World::logged_in(parameters, &[&ALL[..3], keys].concat())
}

fn read10(lba: u32, blocks: u16) -> [u8; 10] {
    let mut cdb = [0; 10];
    cdb[0] = 0x28;
    cdb[2..6].copy_from_slice(&lba.to_be_bytes());
    cdb[7..9].copy_from_slice(&blocks.to_be_bytes());
    cdb
}

fn write10(blocks: u16) -> [u8; 10] {
    let mut cdb = read10(0, blocks);
    cdb[0] = 0x2a;
    cdb
}

/// The data of Data-In PDUs, which must be numbered and placed one after the other.
fn data_in(packets: &[Packet]) -> Vec<u8> {
    let mut data = Vec::new();
    for (sn, packet) in packets.iter().filter(|p| p.opcode() == Opcode::DATA_IN).enumerate() {
        assert_eq!(packet.bhs.word(36) as usize, sn, "DataSN");
        assert_eq!(packet.bhs.word(40) as usize, data.len(), "BufferOffset");
        assert_eq!(packet.bhs.word(20), NO_TAG);
        data.extend(&packet.data);
    }
    data
}

#[test]
fn a_read_on_the_wire() {
    let mut world = world(Parameters::default(), &[]);
    let command = world.initiator.command(1 << 48, &read10(2, 1), Transfer::read(512));
    assert_eq!(
        command.encode(Default::default())[..48],
        [
            0x01, 0xc1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x11, 0, 0, 2, 0, //
            0, 0, 0, 100, 0, 0, 0, 8, 0x28, 0, 0, 0, 0, 2, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0,
        ]
    );
    let answers = world.exchange(&[command]);
    assert_eq!(answers.len(), 1);
    assert_eq!(
        *answers[0].bhs.bytes(),
        [
            // Data-In, F and S, status GOOD, 512 bytes; no LUN without A; the task; no transfer tag.
            0x25, 0x81, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x11, 0xff, 0xff, 0xff,
            0xff, //
            // StatSN, ExpCmdSN, MaxCmdSN; DataSN, BufferOffset, no residual. With the status the place of the command
            // in the window is free.
            0, 0, 0, 8, 0, 0, 0, 101, 0, 0, 0, 228, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        ]
    );
    assert_eq!(answers[0].data, pattern_of(1024, 512));
    let command = &world.toy.commands[0];
    assert_eq!((command.lun.index(), command.cdb.bytes().len()), (Some(1), 16));
    world.end();
}

#[test]
fn data_in_is_cut_to_segments_and_bursts() {
    let keys = [("MaxRecvDataSegmentLength", "8192"), ("MaxBurstLength", "20000")];
    let mut world = world(Parameters::default(), &keys);
    let command = world.initiator.command(0, &read10(0, 100), Transfer::read(51200));
    let answers = world.exchange(&[command]);
    assert_eq!(data_in(&answers), pattern_of(0, 51200));
    let cuts: Vec<_> = answers.iter().map(|p| (p.data.len(), p.bhs.flags() & FINAL != 0)).collect();
    let burst = [(8192, false), (8192, false), (3616, true)];
    assert_eq!(cuts, [&burst[..], &burst, &[(8192, false), (3008, true)]].concat());
    let status: Vec<_> = answers.iter().map(|p| p.bhs.flags() & flag::STATUS).collect();
    assert_eq!(status, [0, 0, 0, 0, 0, 0, 0, 1]);
    world.end();
}

#[test]
fn a_read_in_parts_ends_with_a_response() {
    let mut world = world(Parameters::default(), &[]);
    let command = world.initiator.command(0, &vendor(READ_IN_PARTS, 10_000, 3000), Transfer::read(10_000));
    let answers = world.exchange(&[command]);
    assert_eq!(data_in(&answers), pattern_of(0, 10_000));
    let last = answers.last().unwrap();
    assert_eq!((last.opcode(), last.bhs.bytes()[3], last.bhs.word(36)), (Opcode::SCSI_RESPONSE, 0, 4));
    assert!(
        answers.iter().all(|packet| packet.bhs.flags() & FINAL != 0),
        "each part is a sequence of its own"
    );
    world.end();
}

#[test]
fn one_part_at_a_time_is_in_memory() {
    let mut world = world(Parameters::default(), &[]);
    let command = world.initiator.command(0, &vendor(READ_IN_PARTS, 1 << 20, 4096), Transfer::read(1 << 20));
    world.receive(&command.encode(Default::default()));
    world.work();
    let mut most = 0;
    let mut total = 0;
    while let Some(pdu) = world.session.poll_transmit(world.key) {
        total += pdu.len();
        drop(pdu);
        world.work();
        most = most.max(world.arena.in_use());
    }
    assert!(total > 1 << 20 && most < 100 << 10, "{most} of {total}");
    world.end();
}

#[test]
fn sense_data_goes_out_with_its_length() {
    let mut world = world(Parameters::default(), &[]);
    let command = world.initiator.command(0, &[FAIL], Transfer::read(512));
    let answers = world.exchange(&[command]);
    assert_eq!(answers[0].bhs.bytes()[..4], [0x21, FINAL | flag::UNDERFLOW, 0, 2]);
    assert_eq!(answers[0].bhs.word(44), 512);
    assert_eq!(answers[0].data[..5], [0, 18, 0x70, 0, 3]);
    let command = world.initiator.command(0, &vendor(READ_AND_FAIL, 1000, 1000), Transfer::read(4096));
    let answers = world.exchange(&[command]);
    assert_eq!(opcodes(&answers), [Opcode::DATA_IN, Opcode::SCSI_RESPONSE]);
    assert_eq!(answers[0].bhs.flags(), FINAL, "no status with an error");
    assert_eq!((answers[1].bhs.word(36), answers[1].bhs.word(44)), (1, 3096));
    world.end();
}

/// The status of a command that has failed waits for memory; it does not go out alone.
#[test]
fn sense_data_waits_for_memory() {
    for keys in [&[][..], &CRC] {
        let mut world = world(Parameters::default(), keys);
        let command = world.initiator.command(0, &[FAIL], Transfer::NONE);
        world.receive(&command.encode(world.initiator.digests));
        let mut held = Vec::new();
        for size in [1 << 20, 64 << 10, 4096, 200] {
            held.extend(std::iter::from_fn(|| world.arena.alloc_reserved(size)));
        }
        world.work();
        assert!(world.session.poll_transmit(world.key).is_none());
        let retry = world.session.next_deadline().unwrap();
        world.now = retry;
        world.session.timeout(retry);
        // Room for the sense data alone.
        drop(held.pop());
        assert!(world.session.poll_transmit(world.key).is_none());
        drop(held);
        let retry = world.session.next_deadline().unwrap();
        world.now = retry;
        world.session.timeout(retry);
        let answers = world.run();
        assert_eq!(answers[0].bhs.bytes()[..4], [0x21, FINAL, 0, 2]);
        assert_eq!(answers[0].data[..5], [0, 18, 0x70, 0, 3]);
        world.end();
    }
}

#[test]
fn residuals() {
    let mut world = world(Parameters::default(), &[]);
    for (cdb, transfer, bits, count) in [
        (read10(0, 2), Transfer::read(512), flag::OVERFLOW, 512),
        (read10(0, 1), Transfer::read(2048), flag::UNDERFLOW, 1536),
        (read10(0, 1), Transfer::NONE, flag::OVERFLOW, 512),
        (write10(1), Transfer::NONE, flag::OVERFLOW, 512),
        (read10(0, 1), Transfer::write(0), flag::OVERFLOW, 512),
    ] {
        let command = world.initiator.command(0, &cdb, transfer);
        let answers = world.exchange(&[command]);
        let bhs = &answers.last().unwrap().bhs;
        assert_eq!((bhs.flags() & 0x1e, bhs.word(44)), (bits, count), "{transfer:?}");
    }
    world.end();
}

#[test]
fn extended_cdbs_and_both_directions() {
    let mut world = world(Parameters::default(), &[]);
    let mut cdb = vendor(ECHO, 0, 0).to_vec();
    cdb.extend(1..=50);
    let transfer = Transfer { reads: Some(1500), writes: Some(1000) };
    let command = world.initiator.command(0, &cdb, transfer);
    assert_eq!(command.ahs.len(), 56 + 8);
    let command = command.data(&pattern_of(0, 1000));
    let answers = world.exchange(&[command]);
    assert_eq!(world.toy.commands[0].cdb.bytes(), cdb);
    assert_eq!(opcodes(&answers), [Opcode::DATA_IN, Opcode::SCSI_RESPONSE]);
    assert_eq!(answers[0].data, pattern_of(0, 1000));
    let bhs = &answers[1].bhs;
    assert_eq!((bhs.flags(), bhs.word(40), bhs.word(44)), (FINAL | flag::BIDI_UNDERFLOW, 500, 0));
    world.end();
}

#[test]
fn cdbs_of_all_lengths() {
    let mut world = world(Parameters::default(), &[]);
    for len in [17, 18, 19, 20, 32, 33, 63, 64, 255, 256, 257, 258, 259, 260] {
        let cdb: Vec<u8> =
            (0..len).map(|i| if i == 0 { 0xff } else { u8::try_from(i % 251).unwrap() }).collect();
        let command = world.initiator.command(0, &cdb, Transfer::NONE);
        assert_eq!(opcodes(&world.exchange(&[command])), [Opcode::SCSI_RESPONSE], "{len}");
        assert_eq!(world.toy.commands.pop().unwrap().cdb.bytes(), cdb, "{len}");
    }
    let command = world.initiator.command(0, &[0; 261], Transfer::NONE);
    assert_eq!(opcodes(&world.exchange(&[command])), [Opcode::REJECT], "longer than a CDB can be");
    world.end();
}

#[test]
fn both_residuals_of_a_bidirectional_command() {
    let bits = [flag::UNDERFLOW, 0, flag::OVERFLOW];
    let read_bits = [flag::BIDI_UNDERFLOW, 0, flag::BIDI_OVERFLOW];
    let lengths: [u32; 3] = [300, 1000, 5000];
    for digests in ["None", "CRC32C"] {
        let mut world = world(Parameters::default(), &[("HeaderDigest", digests), ("DataDigest", digests)]);
        for (i, out) in lengths.into_iter().enumerate() {
            for (j, back) in lengths.into_iter().enumerate() {
                let transfer = Transfer { reads: Some(1000), writes: Some(1000) };
                // With a long CDB before the read length, behind it, and without.
                for (long, length_first) in [(false, false), (true, false), (true, true)] {
                    let mut cdb = vendor(BOTH, out, back).to_vec();
                    cdb.extend_from_slice(&[7; 244][..if long { 244 } else { 0 }]);
                    let mut command = world.initiator.command(0, &cdb, transfer);
                    if length_first {
                        let at = command.ahs.len() - 8;
                        command.ahs.rotate_left(at);
                    }
                    let command = command.data(&pattern_of(0, 100));
                    let mut answers = world.exchange(&[&command]);
                    let r2t = answers.remove(0);
                    assert_eq!((r2t.opcode(), r2t.bhs.word(44)), (Opcode::R2T, out.min(1000) - 100));
                    let data = world.initiator.answer_r2t(&command, &r2t, &pattern_of(0, 1000), 512);
                    let answers = world.exchange(&data);
                    assert_eq!(opcodes(&answers), [Opcode::DATA_IN, Opcode::SCSI_RESPONSE]);
                    assert_eq!(answers[0].data, pattern_of(0, back.min(1000) as usize));
                    let bhs = &answers[1].bhs;
                    assert_eq!(bhs.flags(), FINAL | bits[i] | read_bits[j], "{out} out, {back} back");
                    assert_eq!((bhs.word(44), bhs.word(40)), (out.abs_diff(1000), back.abs_diff(1000)));
                    assert_eq!(world.toy.written.pop().unwrap(), pattern_of(0, out.min(1000) as usize));
                    assert_eq!(world.toy.commands.pop().unwrap().cdb.bytes(), cdb);
                }
            }
        }
        // Without the additional header nothing is expected back.
        let transfer = Transfer { reads: Some(1000), writes: Some(1000) };
        let mut command = world.initiator.command(0, &vendor(BOTH, 1000, 1000), transfer);
        command.ahs.clear();
        let answers = world.exchange(&[command.data(&pattern_of(0, 1000))]);
        let bhs = &answers[0].bhs;
        assert_eq!((bhs.opcode(), bhs.flags()), (Opcode::SCSI_RESPONSE, FINAL | flag::BIDI_OVERFLOW));
        assert_eq!((bhs.word(44), bhs.word(40)), (0, 1000));
        world.end();
    }
}

#[test]
fn malformed_additional_headers_are_rejected() {
    let mut world = world(Parameters::default(), &[]);
    for (ahs, len) in [
        (vec![0, 0, 1, 0], 4),
        (vec![0, 9, 1, 0, 1, 2, 3, 4], 8),
        (vec![0, 4, 2, 0, 1, 2, 3, 0], 8),
        (vec![0, 5, 3, 0, 1, 2, 3, 4], 8),
        ([&[0, 249, 1, 0][..], &[7; 248]].concat(), 252),
    ] {
        assert_eq!(ahs.len(), len);
        let mut command = world.initiator.command(0, &[0], Transfer::NONE);
        command.ahs = ahs;
        let answers = world.exchange(&[command]);
        assert_eq!(opcodes(&answers), [Opcode::REJECT]);
        assert_eq!(answers[0].bhs.bytes()[2], RejectReason::INVALID_PDU_FIELD.raw());
    }
    let next = world.initiator.command(0, &[0], Transfer::NONE);
    assert_eq!(opcodes(&world.exchange(&[next])), [Opcode::SCSI_RESPONSE], "their CmdSN were used up");
    let mut command = world.initiator.command(0, &[0], Transfer::NONE);
    command.ahs = vec![0; 276];
    world.exchange(&[command]);
    assert_eq!(world.violation(), "additional header segments too long");
    world.end();
}

/// Writes `len` bytes with so much immediate and so much further unsolicited data, the rest as it is asked for.
fn write(world: &mut World, len: usize, immediate: usize, unsolicited: usize, cdb: &[u8]) -> Vec<Packet> {
    let buffer = pattern_of(7, len);
    let mut command = world.initiator.command(0, cdb, Transfer::write(u32::try_from(len).unwrap()));
    command = command.data(&buffer[..immediate]);
    let mut out = Vec::new();
    if unsolicited > 0 {
        command.bhs.bytes_mut()[1] &= !FINAL;
        let end = immediate + unsolicited;
        for (sn, at) in (immediate..end).step_by(1000).enumerate() {
            let upto = (at + 1000).min(end);
            let (sn, offset) = (u32::try_from(sn).unwrap(), u32::try_from(at).unwrap());
            out.push(world.initiator.data_out(&command, None, sn, offset, &buffer[at..upto], upto == end));
        }
    }
    out.insert(0, command.clone());
    let mut all = Vec::new();
    while !out.is_empty() {
        let answers = world.exchange(&out);
        out.clear();
        for r2t in answers.iter().filter(|p| p.opcode() == Opcode::R2T) {
            out.extend(world.initiator.answer_r2t(&command, r2t, &buffer, 3000));
        }
        all.extend(answers);
    }
    assert_eq!(world.toy.written.pop().unwrap_or_default(), buffer);
    all
}

#[test]
fn writes_of_all_kinds() {
    let all = Parameters { first_burst_length: 8192, max_burst_length: 16384, ..Parameters::default() };
    for digests in ["None", "CRC32C"] {
        let keys = [
            ("FirstBurstLength", "8192"),
            ("HeaderDigest", digests),
            ("DataDigest", digests),
            ("MaxBurstLength", "16384"),
        ];
        let mut world = world(all.clone(), &keys);
        let cdb = |len: usize, part: usize| {
            vendor(WRITE_IN_PARTS, u32::try_from(len).unwrap(), u32::try_from(part).unwrap())
        };
        for (len, immediate, unsolicited) in [
            (512, 512, 0),
            (4096, 512, 0),
            (4097, 0, 4097),
            (8192, 1001, 7191),
            (100_000, 0, 0),
            (99_999, 1001, 7191),
        ] {
            for part in [len, 1500, 20_000] {
                let answers = write(&mut world, len, immediate, unsolicited, &cdb(len, part));
                let last = answers.last().unwrap();
                assert_eq!((last.opcode(), last.bhs.bytes()[3]), (Opcode::SCSI_RESPONSE, 0));
                let asked: Vec<_> = answers.iter().filter(|p| p.opcode() == Opcode::R2T).collect();
                let asked_for: u32 = asked.iter().map(|p| p.bhs.word(44)).sum();
                assert_eq!(asked_for as usize, len - immediate - unsolicited);
                for (sn, r2t) in asked.iter().enumerate() {
                    assert_eq!(r2t.bhs.word(36) as usize, sn, "R2TSN");
                    assert!(r2t.bhs.word(44) <= 16384);
                }
            }
        }
        assert_eq!(world.session.held(), 0);
        world.end();
    }
}

#[test]
fn r2ts_are_outstanding_together() {
    let keys = [("MaxBurstLength", "1000"), ("FirstBurstLength", "512")];
    let mut world = world(Parameters::default(), &keys);
    let command = world.initiator.command(0, &vendor(WRITE_IN_PARTS, 5500, 5500), Transfer::write(5500));
    let buffer = pattern_of(0, 5500);
    let r2ts = world.exchange(&[&command]);
    let asked: Vec<_> = r2ts.iter().map(|p| (p.bhs.word(40), p.bhs.word(44))).collect();
    assert_eq!(asked, [(0, 1000), (1000, 1000), (2000, 1000), (3000, 1000)], "as many as agreed on");
    let first = world.initiator.answer_r2t(&command, &r2ts[0], &buffer, 700);
    let next = world.exchange(&first);
    assert_eq!((next[0].bhs.word(40), next[0].bhs.word(36)), (4000, 4));
    // The bursts are to come in order.
    let third = world.initiator.answer_r2t(&command, &r2ts[2], &buffer, 700);
    world.exchange(&third);
    assert_eq!(world.violation(), "Data-Out of a burst out of order");
    world.end();
}

#[test]
fn r2ts_and_pings_overtake_data() {
    let mut world = world(Parameters::default(), &[]);
    let read = world.initiator.command(0, &read10(0, 64), Transfer::read(32768));
    let write = world.initiator.command(0, &write10(1), Transfer::write(512));
    let ping = world.initiator.nop_out(b"");
    let reset = world.initiator.task_management(5, 9 << 48);
    world.receive(&read.encode(Default::default()));
    world.work();
    let first = world.session.poll_transmit(world.key).unwrap().to_vec();
    world.initiator.take(&first);
    let answers = world.exchange(&[write, ping, reset]);
    let data = Opcode::DATA_IN;
    assert_eq!(
        opcodes(&answers),
        [Opcode::NOP_IN, Opcode::R2T, data, data, data, Opcode::TASK_MANAGEMENT_RESPONSE]
    );
    world.end();
}

fn solicited() -> (World, Packet, Packet) {
    let mut world = world(Parameters::default(), &[]);
    let command =
        world.initiator.command(1 << 48, &vendor(WRITE_IN_PARTS, 4096, 4096), Transfer::write(4096));
    let r2t = world.exchange(&[&command]).remove(0);
    assert_eq!(
        r2t.bhs.bytes()[..48],
        [
            &[0x31, 0x80, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x11, 0, 1, 0, 0][..],
            &[0, 0, 0, 8, 0, 0, 0, 101, 0, 0, 0, 227, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0],
        ]
        .concat()[..]
    );
    (world, command, r2t)
}

#[test]
fn wrong_data_out_is_a_violation() {
    type Spoil = fn(Packet) -> Packet;
    let spoilers: [(Spoil, &str); 6] = [
        (|p| p.word(40, 512), "Data-Out with a wrong buffer offset"),
        (|p| p.word(40, u32::MAX), "Data-Out with a wrong buffer offset"),
        (|p| p.data(&[1; 4097]), "Data-Out beyond its burst"),
        (|p| p.data(&[1; 4095]), "Data-Out burst of a wrong length"),
        (|p| p.lun(2 << 48), "Data-Out with the LUN of another command"),
        (|p| p.word(20, NO_TAG), "unsolicited Data-Out that was not announced"),
    ];
    for (spoil, what) in spoilers {
        let (mut world, command, r2t) = solicited();
        let data = world.initiator.data_out(&command, Some(&r2t), 0, 0, &[1; 4096], true);
        assert_eq!(opcodes(&world.exchange(&[spoil(data)])), [Opcode::ASYNC_MESSAGE], "dropped");
        assert_eq!(world.violation(), what);
        assert!(world.toy.written.is_empty());
        // All later input is ignored.
        let ping = world.initiator.nop_out(b"");
        assert!(world.exchange(&[ping]).is_empty());
        assert_eq!(world.session.held(), 0);
        world.end();
    }
}

#[test]
fn data_out_for_nobody_is_ignored() {
    let (mut world, command, r2t) = solicited();
    let data = world.initiator.data_out(&command, Some(&r2t), 0, 0, &[1; 4096], true);
    for stray in [
        data.clone().word(16, 0x999),
        data.clone().word(16, NO_TAG),
        data.clone().word(20, 0x0007_0000),
        data.clone().word(20, 0x0001_ffff),
        data.clone().word(16, 0x999).word(20, NO_TAG),
    ] {
        assert!(world.exchange(&[stray]).is_empty());
    }
    assert_eq!(world.connection().counters().ignored, 5);
    assert_eq!(world.exchange(&[&data])[0].bhs.bytes()[3], 0);
    assert_eq!(world.toy.written, [[1; 4096]]);
    assert!(world.exchange(&[data]).is_empty(), "the burst is over");
    world.end();
}

/// A CHECK CONDITION, ABORTED COMMAND, protocol service CRC error.
fn is_crc_error(packet: &Packet) -> bool {
    packet.opcode() == Opcode::SCSI_RESPONSE
        && packet.bhs.bytes()[3] == 2
        && (packet.data[4] & 15, packet.data[14], packet.data[15]) == (0xb, 0x47, 5)
}

#[test]
fn a_wrong_data_sn_fails_the_task_when_its_burst_is_over() {
    for (numbers, before_last) in [([0, 0], 0), ([27, 28], 0), ([u32::MAX, 0], 0), ([1, 0], 0)] {
        let (mut world, command, r2t) = solicited();
        let half = |world: &World, i: usize| {
            let data = [1; 2048];
            let offset = u32::try_from(i * 2048).unwrap();
            world.initiator.data_out(&command, Some(&r2t), numbers[i], offset, &data, i == 1)
        };
        let (first, second) = (half(&world, 0), half(&world, 1));
        assert_eq!(
            world.exchange(&[first]).len(),
            before_last,
            "the response waits for the end of the burst"
        );
        let answers = world.exchange(&[second]);
        assert_eq!(answers.len(), 1);
        assert!(is_crc_error(&answers[0]));
        assert_eq!((world.toy.abandoned, world.toy.written.len()), (1, 0));
        // The session goes on.
        let next = world.initiator.command(0, &[0], Transfer::NONE);
        assert_eq!(world.exchange(&[next]).len(), 1);
        world.end();
    }
}

#[test]
fn a_response_waits_for_unsolicited_data() {
    let mut world = world(Parameters::default(), &[]);
    let mut command = world.initiator.command(0, &[FAIL], Transfer::write(4096));
    command.bhs.bytes_mut()[1] &= !FINAL;
    assert!(world.exchange(&[&command]).is_empty());
    assert_eq!(world.toy.running(), 0);
    let first = world.initiator.data_out(&command, None, 0, 0, &[1; 512], false);
    assert!(world.exchange(&[first]).is_empty());
    assert_eq!(world.session.held(), 0, "nobody wants it");
    let last = world.initiator.data_out(&command, None, 1, 512, &[1; 512], true);
    let answers = world.exchange(&[last]);
    assert_eq!((answers[0].opcode(), answers[0].bhs.bytes()[3]), (Opcode::SCSI_RESPONSE, 2));
    assert_eq!(world.session.in_flight(world.key), 0);
    // An initiator that thinks better of it aborts the task, and the place is free again.
    let mut command = world.initiator.command(0, &[FAIL], Transfer::write(4096));
    command.bhs.bytes_mut()[1] &= !FINAL;
    let abort = world.initiator.abort_task(&command);
    let answers = world.exchange(&[command, abort]);
    assert_eq!(opcodes(&answers), [Opcode::TASK_MANAGEMENT_RESPONSE]);
    assert_eq!((answers[0].bhs.bytes()[2], world.session.in_flight(world.key)), (0, 0));
    // So does one that resets the logical unit, and only that one.
    let mut waiting = |lun: u64| {
        let mut command = world.initiator.command(lun, &[FAIL], Transfer::write(4096));
        command.bhs.bytes_mut()[1] &= !FINAL;
        world.exchange(&[command]);
    };
    waiting(1 << 48);
    waiting(2 << 48);
    let reset = world.initiator.task_management(5, 1 << 48);
    assert_eq!(opcodes(&world.exchange(&[reset])), [Opcode::TASK_MANAGEMENT_RESPONSE]);
    assert_eq!(world.session.in_flight(world.key), 1);
    world.end();
}

fn busy() -> Response {
    Response {
        status: Status::Busy,
        sense: Default::default(),
        data: Sg::new(),
        residual_in: Residual::None,
        residual_out: Residual::None,
    }
}

/// The task manager answers it when the next command has ended, whose data has not.
#[test]
fn a_function_leaves_alone_what_came_after_it() {
    let mut world = world(Parameters::default(), &[]);
    let clear = world.initiator.task_management(4, 0);
    let mut command = world.initiator.command(0, &[FAIL], Transfer::write(4096));
    command.bhs.bytes_mut()[1] &= !FINAL;
    world.receive(&[&clear, &command].map(|packet| packet.encode(world.initiator.digests)).concat());
    let Some(Request::TaskManagement { request, .. }) = world.session.poll_request() else {
        panic!("a function")
    };
    let Some(Request::Command { request_tag, .. }) = world.session.poll_request() else {
        panic!("a command")
    };
    world.session.send_command_complete(request_tag, busy());
    world.session.task_management_executed(request, TaskManagementResponse::Complete);
    assert_eq!(opcodes(&world.run()), [Opcode::TASK_MANAGEMENT_RESPONSE]);
    let last = world.initiator.data_out(&command, None, 0, 0, &[1; 512], true);
    assert_eq!(opcodes(&world.exchange(&[last])), [Opcode::SCSI_RESPONSE]);
    world.end();
}

#[test]
fn a_task_that_ends_is_not_given_up_afterwards() {
    let mut world = world(Parameters::default(), &CRC);
    let command = world.initiator.command(0, &[FAIL], Transfer::write(512)).data(&[1; 512]);
    let mut bytes = command.encode(world.initiator.digests);
    bytes[60] ^= 1;
    world.receive(&bytes);
    let Some(Request::Command { request_tag, .. }) = world.session.poll_request() else {
        panic!("a command")
    };
    world.session.send_command_complete(request_tag, busy());
    assert!(world.session.poll_request().is_none(), "its name may be that of another command by then");
    assert_eq!(opcodes(&world.run()), [Opcode::REJECT, Opcode::SCSI_RESPONSE]);
    world.end();
}

#[test]
fn unsolicited_data_must_be_agreed_on() {
    let strict = Parameters { initial_r2t: true, immediate_data: false, ..Parameters::default() };
    let mut world1 = World::logged_in(strict.clone(), &ALL);
    let command = world1.initiator.command(0, &write10(1), Transfer::write(512)).data(&[1; 512]);
    world1.exchange(&[command]);
    assert_eq!(world1.violation(), "immediate data that was not negotiated");
    let mut world2 = World::logged_in(strict, &ALL);
    let mut command = world2.initiator.command(0, &write10(1), Transfer::write(512));
    command.bhs.bytes_mut()[1] &= !FINAL;
    world2.exchange(&[command]);
    assert_eq!(world2.violation(), "unsolicited data that was not negotiated");
    // Data beyond what the command announces.
    let mut world3 = world(Parameters::default(), &[]);
    let command = world3.initiator.command(0, &write10(1), Transfer::write(512)).data(&[1; 513]);
    world3.exchange(&[command]);
    assert_eq!(world3.violation(), "immediate data that was not negotiated");
    let mut world4 = world(Parameters::default(), &[]);
    let command = world4.initiator.command(0, &read10(0, 1), Transfer::read(512)).data(&[1; 8]);
    world4.exchange(&[command]);
    assert_eq!(world4.violation(), "immediate data that was not negotiated");
}

const CRC: [(&str, &str); 2] = [("HeaderDigest", "CRC32C"), ("DataDigest", "CRC32C")];

#[test]
fn a_damaged_header_ends_the_connection() {
    // In the CDB, and in the lengths of the data and of additional headers, for which nobody waits.
    for at in [33, 4, 6] {
        let mut world = world(Parameters::default(), &CRC);
        let command = world.initiator.command(0, &[0; 16], Transfer::NONE).ahs(1, &[0; 16]);
        let mut bytes = command.encode(world.initiator.digests);
        bytes[at] ^= 4;
        bytes.truncate(Bhs::LEN + 4 * usize::from(bytes[4]) + 4);
        world.receive(&bytes);
        assert_eq!(opcodes(&world.run()), [Opcode::ASYNC_MESSAGE], "dropped");
        assert_eq!(world.violation(), "header digest error");
        world.end();
    }
}

#[test]
fn damaged_data_is_never_used() {
    let mut world = world(Parameters::default(), &CRC);
    let digests = world.initiator.digests;
    let spoiled = |packet: &Packet| {
        let mut bytes = packet.encode(digests);
        bytes[60] ^= 1;
        bytes
    };
    // Immediate data.
    let command = world.initiator.command(0, &write10(1), Transfer::write(512)).data(&[1; 512]);
    world.receive(&spoiled(&command));
    let answers = world.run();
    assert_eq!(opcodes(&answers), [Opcode::REJECT, Opcode::SCSI_RESPONSE]);
    assert_eq!(answers[0].bhs.bytes()[2], RejectReason::DATA_DIGEST_ERROR.raw());
    assert_eq!(answers[0].data, command.encode(digests)[..48], "the header of the bad PDU");
    assert!(is_crc_error(&answers[1]));
    // Solicited data; what follows in the burst is of no use either.
    let command = world.initiator.command(0, &write10(2), Transfer::write(1024));
    let r2t = world.exchange(&[&command]).remove(0);
    let pdus = world.initiator.answer_r2t(&command, &r2t, &[2; 1024], 512);
    world.receive(&spoiled(&pdus[0]));
    assert_eq!(opcodes(&world.run()), [Opcode::REJECT]);
    assert!(is_crc_error(&world.exchange(&pdus[1..])[0]));
    // A ping.
    let ping = world.initiator.nop_out(b"twenty bytes of ping");
    world.receive(&spoiled(&ping));
    assert_eq!(opcodes(&world.run()), [Opcode::REJECT]);
    assert!(world.toy.written.is_empty());
    assert_eq!(world.connection().counters().digest_errors, 3);
    assert_eq!(world.closed(), None);
    world.end();
}

struct Pages(Box<[u8]>);

#[expect(unsafe_code, reason = "a test double of a store's memory")]
// SAFETY: the box is never moved out of or written.
unsafe impl SharedMemory for Pages {
    fn base(&self) -> NonNull<u8> {
        NonNull::from(&self.0[..]).cast()
    }
    fn len(&self) -> usize {
        self.0.len()
    }
}

#[test]
fn lent_memory_is_sent_from_where_it_lies_or_bounced_for_its_digest() {
    for (digest, bounced) in [("None", false), ("CRC32C", true)] {
        let mut world = world(
            Parameters::default(),
            &[("DataDigest", digest), ("MaxBurstLength", "1048576"), ("MaxRecvDataSegmentLength", "1048576")],
        );
        let pages = Pages(pattern_of(0, 1 << 20).into());
        let base = pages.base().as_ptr().cast_const();
        world.toy.lent = Some(Lease::new(pages));
        let command = world.initiator.command(0, &read10(1, 1024), Transfer::read(524_288));
        world.receive(&command.encode(world.initiator.digests));
        world.work();
        let pdu = world.session.poll_transmit(world.key).unwrap();
        assert_eq!(pdu.segs()[1].as_ptr() != base.wrapping_add(512), bounced);
        assert_eq!(data_in(&world.initiator.take(&pdu.to_vec())), pattern_of(512, 524_288));
        drop(pdu);
        world.end();
    }
}

#[test]
fn received_payload_stays_where_it_is() {
    let mut world = world(Parameters::default(), &[]);
    let command = world.initiator.command(0, &[HOLD], Transfer::write(4096)).data(&[9; 4096]);
    let bytes = Sg::copied(&world.arena, &command.encode(Default::default())).unwrap();
    let received = bytes.segs()[0].clone();
    let mut segs = Some(received.clone());
    world.session.receive(world.key, world.now, &world.targets, &mut 100, || segs.take());
    let Some(Request::Command { request_tag, .. }) = world.session.poll_request() else {
        panic!("a command")
    };
    world.session.receive_data_out(request_tag, 4096);
    let Some(Request::DataOut { data, .. }) = world.session.poll_request() else { panic!("its data") };
    assert_eq!(data.segs().len(), 1);
    assert_eq!(data.segs()[0].as_ptr(), received.as_ptr().wrapping_add(48));
}

#[test]
fn without_memory_a_pdu_waits() {
    for keys in [&[][..], &CRC] {
        let mut world = world(Parameters::default(), keys);
        let commands: Vec<_> =
            (0..3).map(|i| world.initiator.command(0, &read10(i, 8), Transfer::read(4096))).collect();
        for command in &commands {
            world.receive(&command.encode(world.initiator.digests));
        }
        world.work();
        // Blocks of all sizes, so that nothing is left.
        let mut held = Vec::new();
        for size in [1 << 20, 64 << 10, 4096, 200] {
            held.extend(std::iter::from_fn(|| world.arena.alloc_reserved(size)));
        }
        assert!(world.session.poll_transmit(world.key).is_none());
        let retry = world.session.next_deadline().unwrap();
        assert_eq!(retry, world.now + Duration::from_millis(1));
        drop(held);
        world.now = retry;
        world.session.timeout(retry);
        let answers = world.run();
        let data: Vec<_> = answers.iter().map(|p| p.data.clone()).collect();
        assert_eq!(data, [pattern_of(0, 4096), pattern_of(512, 4096), pattern_of(1024, 4096)]);
        world.end();
    }
}
