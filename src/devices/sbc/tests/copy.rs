// SPDX-License-Identifier: GPL-2.0-or-later
//! EXTENDED COPY and RECEIVE COPY RESULTS.

use super::*;
use crate::scsi::asc;
use crate::wire::scsi::{DataIn, be16, be32};

const INVALID_IN_LIST: (u8, u16) = (5, asc::INVALID_FIELD_IN_PARAMETER_LIST);
const COPY_ABORTED: u8 = 0xa;
/// The CSCD descriptor ID of the disk that gets the command.
const ITSELF: u16 = 0xffff;

fn target(kind: u8, name: &[u8], block: u32) -> Vec<u8> {
    let mut bytes = vec![0xe4, 0, 0, 0, 1, kind, 0, name.len() as u8];
    bytes.extend(name);
    bytes.resize(28, 0);
    bytes.extend(block.to_be_bytes());
    bytes
}

/// The disk by its UUID, and the other logical unit by its NAA.
fn own() -> Vec<u8> {
    let uuid = 0x42de23bf_1d3c_84bf_af3a_570e3865f43d_u128.to_be_bytes();
    target(0x0a, &[&[0x10, 0], &uuid[..]].concat(), 512)
}

fn other() -> Vec<u8> {
    target(3, b"\x30other", 4096)
}

/// A segment that counts source blocks.
fn segment(source: u16, destination: u16, blocks: u16, from: u64, to: u64) -> Vec<u8> {
    let mut data = DataIn::new();
    data.u8(2).u8(0).u16(24).u16(source).u16(destination).u16(0).u16(blocks).u64(from).u64(to);
    data.as_bytes().to_vec()
}

/// A list whose results are kept under identifier 7.
fn list(targets: &[Vec<u8>], segments: &[Vec<u8>]) -> Vec<u8> {
    let (targets, segments) = (targets.concat(), segments.concat());
    let mut data = DataIn::new();
    data.u8(7).u8(0).u16(targets.len() as u16).u32(0).u32(segments.len() as u32).u32(0);
    data.bytes(&targets).bytes(&segments);
    data.as_bytes().to_vec()
}

fn cdb(len: usize) -> [u8; 16] {
    let mut cdb = cdb16(0x83, 0, 0, len as u32);
    cdb[14] = 0;
    cdb
}

fn copy(rig: &mut Rig, list: &[u8]) -> Ended {
    rig.log.clear();
    rig.write(&cdb(list.len()), list)
}

fn results(action: u8, list: u8, room: u8) -> [u8; 16] {
    [0x84, action, list, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, room, 0, 0]
}

/// COPY STATUS: state, segments, bytes.
fn status(rig: &mut Rig) -> (u8, u16, u32) {
    let data = rig.read(&results(0, 7, 255)).good();
    assert_eq!((data.len(), be32(&data, 0), data[7]), (12, 8, 0));
    (data[4], be16(&data, 5), be32(&data, 8))
}

/// Blocks that all differ.
fn fill(bytes: &mut [u8], seed: u8) {
    for (i, block) in bytes.chunks_mut(512).enumerate() {
        block.fill((i as u8).wrapping_mul(31).wrapping_add(seed));
        block[..8].copy_from_slice(&(i as u64 + u64::from(seed) * 65536).to_be_bytes());
    }
}

#[test]
fn blocks_of_the_disk_go_elsewhere_on_it() {
    let mut rig = Rig::thin();
    fill(&mut rig.bytes, 1);
    let mut wanted = rig.bytes.clone();
    wanted.copy_within(0..200 * 512, 3000 * 512);
    wanted.copy_within(10 * 512..11 * 512, 4095 * 512);
    let segments =
        [segment(0, 0, 200, 0, 3000), segment(0, ITSELF, 0, 5, 5), segment(ITSELF, 0, 1, 10, 4095)];
    let ended = copy(&mut rig, &list(&[own()], &segments));
    assert_eq!(ended.outcome.data_out, 16 + 32 + 3 * 28);
    ended.good();
    assert_eq!(
        rig.log,
        ["read 0+128", "write 3000+128", "read 128+72", "write 3128+72", "read 10+1", "write 4095+1"]
    );
    assert!(rig.bytes == wanted);
    assert_eq!(status(&mut rig), (1, 3, 201 * 512));
    assert_eq!(rig.read(&results(4, 7, 255)).good(), [0; 4], "nothing has failed");
    // No list, and one without segments.
    rig.none(&cdb(0)).good();
    copy(&mut rig, &list(&[own()], &[])).good();
    // Without a write cache.
    rig.write(&[0x15, 0x10, 0, 0, 24, 0], &[&[0, 0, 0, 0, 8, 18][..], &[0; 18]].concat()).good();
    copy(&mut rig, &list(&[], &[segment(ITSELF, ITSELF, 1, 0, 9)])).good();
    assert_eq!(rig.log, ["read 0+1", "write! 9+1"]);
}

#[test]
fn a_segment_that_overlaps_itself_is_as_if_read_whole_first() {
    for (from, to) in [(0_usize, 1_usize), (1, 0), (0, 130), (130, 0), (7, 7), (0, 299), (0, 300)] {
        let mut rig = Rig::thin();
        fill(&mut rig.bytes, 2);
        let mut wanted = rig.bytes.clone();
        wanted.copy_within(from * 512..(from + 300) * 512, to * 512);
        copy(&mut rig, &list(&[own()], &[segment(0, 0, 300, from as u64, to as u64)])).good();
        assert!(rig.bytes == wanted, "{from} to {to}");
        let given = rig.log.iter().any(|op| op.starts_with("read into"));
        assert_eq!(given, from.abs_diff(to) < 300, "lent pages would change under the write");
    }
}

#[test]
fn blocks_go_from_one_logical_unit_to_another() {
    let mut rig = Rig::thin();
    fill(&mut rig.bytes, 3);
    fill(&mut rig.other, 4);
    let (mine, theirs) = (rig.bytes.clone(), rig.other.clone());
    // 16 blocks of 512 bytes are two of 4096; then three of theirs, counted at the destination and at the source.
    let mut counted = segment(1, 0, 24, 5, 1000);
    counted[1] = 2;
    let segments = [segment(0, 1, 16, 8, 300), counted, segment(1, 0, 3, 5, 2000)];
    copy(&mut rig, &list(&[own(), other()], &segments)).good();
    assert_eq!(rig.log[..4], ["read 8+16", "other:", "write! 2400+16", "other:"]);
    assert_eq!(rig.other[300 * 4096..302 * 4096], mine[8 * 512..24 * 512]);
    for lba in [1000, 2000] {
        assert_eq!(rig.bytes[lba * 512..(lba + 24) * 512], theirs[5 * 4096..8 * 4096]);
    }
    // Half a block of theirs.
    let ended = copy(&mut rig, &list(&[own(), other()], &[segment(0, 1, 4, 0, 0)]));
    assert_eq!(ended.sense(), (COPY_ABORTED, asc::UNEXPECTED_INEXACT_SEGMENT));
    rig.not_admitted = true;
    let ended = copy(&mut rig, &list(&[own(), other()], &[segment(0, 0, 1, 0, 1), segment(0, 1, 8, 0, 0)]));
    assert_eq!(ended.sense(), (COPY_ABORTED, asc::THIRD_PARTY_DEVICE_FAILURE));
    assert_eq!(ended.outcome.sense.unwrap().command_specific, Some(1), "the number of the segment");
    assert_eq!(status(&mut rig), (2, 1, 512));
}

/// Errors in a segment end the copy there (SPC-4 5.16.7.4).
#[test]
fn a_copy_that_fails_says_where() {
    let unreachable = (COPY_ABORTED, asc::COPY_TARGET_DEVICE_NOT_REACHABLE);
    let nowhere = (COPY_ABORTED, asc::NO_ADDITIONAL_SENSE);
    let wrong = (COPY_ABORTED, asc::INCORRECT_COPY_TARGET_DEVICE_TYPE);
    let with = |byte: usize, value: u8| {
        let mut bytes = own();
        bytes[byte] = value;
        bytes
    };
    for (target, segment, sense, pointer) in [
        (own(), segment(0, 1, 1, 0, 0), unreachable, 6),
        (own(), segment(7, 0, 1, 0, 0), unreachable, 4),
        (with(1, 0x20), segment(0, ITSELF, 1, 0, 0), unreachable, 4),
        (with(9, 9), segment(ITSELF, 0, 1, 0, 0), unreachable, 6),
        (with(5, 0x1a), segment(ITSELF, 0, 1, 0, 0), unreachable, 6),
        (with(1, 0x01), segment(0, ITSELF, 1, 0, 0), wrong, 4),
        (with(31, 8), segment(0, ITSELF, 1, 0, 0), wrong, 4),
        (own(), segment(0, 0, 2, 4095, 0), nowhere, 12),
        (own(), segment(0, 0, 2, 0, 4095), nowhere, 20),
        (own(), segment(0, 0, 1, 0, u64::MAX), nowhere, 20),
    ] {
        let mut rig = Rig::thin();
        let good = self::segment(ITSELF, ITSELF, 1, 0, 100);
        let ended = copy(&mut rig, &list(&[target], &[good, segment]));
        assert_eq!(ended.sense(), sense);
        let found = ended.outcome.sense.unwrap();
        assert_eq!((found.specific, found.command_specific), (Some([0xa0, 0, pointer]), Some(1)));
        assert_eq!(status(&mut rig), (2, 1, 512));
        let details = rig.read(&results(4, 7, 255)).good();
        assert_eq!((be32(&details, 0), details[56], be16(&details, 58)), (74, 2, 18));
        assert_eq!(details[60..78], found.encode(false)[..]);
    }
    // The medium, and what protects it.
    let mut rig = Rig::thin();
    let one = list(&[own()], &[segment(0, 0, 1, 0, 100)]);
    for lba in [0, 100] {
        rig.fault = Some((lba * 512, ErrorKind::ReadFailed));
        assert_eq!(copy(&mut rig, &one).sense(), (COPY_ABORTED, asc::THIRD_PARTY_DEVICE_FAILURE));
    }
    rig.fault = Some((0, ErrorKind::NoMemory));
    assert_eq!(copy(&mut rig, &one).outcome.status, Status::Busy);
    let mut rig = Rig::new(Config { read_only: true, ..config() });
    assert_eq!(copy(&mut rig, &one).sense(), (COPY_ABORTED, asc::THIRD_PARTY_DEVICE_FAILURE));
    assert_eq!(rig.log, ["read 0+1"]);
}

#[test]
fn lists_that_are_wrong_copy_nothing() {
    let good = list(&[own()], &[segment(0, 0, 1, 0, 100)]);
    let with = |byte: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[byte] = value;
        bytes
    };
    let many = |targets: usize, segments: usize| {
        list(&vec![own(); targets], &vec![segment(0, 0, 1, 0, 100); segments])
    };
    let mut rig = Rig::thin();
    for (list, sense) in [
        (good[..good.len() - 1].to_vec(), PARAMETER_LIST_LENGTH),
        (good[..47].to_vec(), PARAMETER_LIST_LENGTH),
        (good[..15].to_vec(), PARAMETER_LIST_LENGTH),
        (many(9, 65), PARAMETER_LIST_LENGTH),
        (many(9, 1), (5, asc::TOO_MANY_CSCD_DESCRIPTORS)),
        (many(1, 65), (5, asc::TOO_MANY_SEGMENT_DESCRIPTORS)),
        (with(1, 0x08), INVALID_IN_LIST),
        (with(1, 0x18), INVALID_IN_LIST),
        (with(15, 1), (5, asc::INLINE_DATA_LENGTH_EXCEEDED)),
        (with(3, 31), INVALID_IN_LIST),
        (with(16, 0xe0), (5, asc::UNSUPPORTED_CSCD_DESCRIPTOR_TYPE_CODE)),
        (with(23, 21), INVALID_IN_LIST),
        (with(48, 3), (5, asc::UNSUPPORTED_SEGMENT_DESCRIPTOR_TYPE_CODE)),
        (with(51, 23), INVALID_IN_LIST),
        (with(11, 27), INVALID_IN_LIST),
    ] {
        assert_eq!(copy(&mut rig, &list).sense(), sense);
        assert!(rig.log.is_empty());
    }
    assert_eq!(rig.write(&cdb(76), &good[..70]).sense(), PARAMETER_LIST_LENGTH, "less than the CDB says");
    assert_eq!(rig.read(&results(0, 7, 255)).sense(), INVALID_FIELD_IN_CDB, "none of them is known");
    copy(&mut rig, &many(8, 64)).good();
}

#[test]
fn list_identifiers() {
    let mut rig = Rig::thin();
    let mut one = list(&[], &[segment(ITSELF, ITSELF, 1, 0, 100)]);
    assert_eq!(rig.read(&results(0, 7, 255)).sense(), INVALID_FIELD_IN_CDB);
    copy(&mut rig, &one).good();
    assert_eq!(rig.read(&results(0, 8, 255)).sense(), INVALID_FIELD_IN_CDB);
    assert_eq!(status(&mut rig), (1, 1, 512));
    // An initiator that does not care.
    (one[0], one[1]) = (0, 0x18);
    copy(&mut rig, &one).good();
    assert_eq!(rig.read(&results(0, 0, 255)).sense(), INVALID_FIELD_IN_CDB);
    rig.server.nexus_lost(NexusId::of(2));
    assert_eq!(status(&mut rig).0, 1);
    rig.server.nexus_lost(NexusId::of(1));
    assert_eq!(rig.read(&results(0, 7, 255)).sense(), INVALID_FIELD_IN_CDB);
    (one[0], one[1]) = (7, 0x10);
    copy(&mut rig, &one).good();
    rig.server.reset();
    assert_eq!(rig.read(&results(0, 7, 255)).sense(), INVALID_FIELD_IN_CDB);
    // The oldest are forgotten.
    for id in 0..=255 {
        one[0] = id;
        copy(&mut rig, &one).good();
    }
    assert_eq!(rig.read(&results(0, 191, 255)).sense(), INVALID_FIELD_IN_CDB);
    rig.read(&results(0, 192, 255)).good();
}

/// Begins a copy of that identifier and stops where it waits for its store.
fn begin(rig: &mut Rig, task: TaskId, id: u8) -> Step {
    let mut list = list(&[], &[segment(ITSELF, ITSELF, 1, 0, 100)]);
    list[0] = id;
    let command = Rig::command(&cdb(list.len()), list.len() as u32, 0);
    assert!(matches!(rig.call_as(task, &command, None), Step::Fetch { .. }));
    let list = Sg::copied(&rig.arena, &list).unwrap();
    rig.call_as(task, &command, Some(Resume::Fetched(list)))
}

#[test]
fn copies_under_way_are_few_and_known_by_their_identifiers() {
    let mut rig = Rig::thin();
    for id in 0..16 {
        assert!(matches!(begin(&mut rig, TaskId(100 + id), id as u8), Step::Store(Op::Read { .. })));
    }
    assert_eq!(rig.read(&results(0, 3, 255)).good()[4], 0, "under way");
    let Step::Finish(outcome) = begin(&mut rig, TaskId(20), 16) else { panic!("one too many") };
    assert_eq!(outcome.status, Status::Busy);
    let Step::Finish(outcome) = begin(&mut rig, TaskId(20), 3) else { panic!("the same identifier") };
    assert_eq!(outcome.sense.unwrap().code, asc::OPERATION_IN_PROGRESS);
    rig.server.abort(TaskId(103));
    assert_eq!(rig.read(&results(0, 3, 255)).sense(), INVALID_FIELD_IN_CDB, "aborted");
    assert!(matches!(begin(&mut rig, TaskId(103), 3), Step::Store(_)));
}

#[test]
fn what_copies_can_do_is_told() {
    let mut rig = Rig::thin();
    let limits = [0, 8, 0, 64, 0, 0, 8, 0];
    let mut wanted = vec![0, 0, 0, 42, 1, 0, 0, 0];
    wanted.extend(limits);
    wanted.extend([
        0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 16, 16, 9, 0, 0, 0, 0, 0, 2, 2, 0xe4,
    ]);
    assert_eq!(rig.read(&results(3, 0, 255)).good(), wanted);
    let mut wanted = vec![0, 0x8f, 0, 0];
    wanted.extend([0, 1, 0, 12, 8, 0x83, 1, 0, 0x84, 3, 0, 3, 4, 0, 0, 0]);
    wanted.extend([0, 4, 0, 28, 0, 0, 0, 0]);
    wanted.extend(limits);
    wanted.extend([0; 16]);
    wanted.extend([0, 8, 0, 4, 2, 2, 0xe4, 0, 0, 0x0c, 0, 4, 0, 2, 0xff, 0xff]);
    wanted.extend([0x80, 1, 0, 32, 0, 0, 0, 16, 0, 0, 0, 16, 0x10, 0, 0, 0, 9]);
    wanted.extend([0; 19]);
    wanted.extend([0xc0, 1, 0, 28]);
    wanted.extend([0; 28]);
    wanted[3] = wanted.len() as u8 - 4;
    assert_eq!(rig.read(&[0x12, 1, 0x8f, 1, 0, 0]).good(), wanted);
}
