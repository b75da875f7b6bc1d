// SPDX-License-Identifier: GPL-2.0-or-later
//! Log pages, self-tests, and what initiators leave with the disk.

use std::time::Duration;

use super::*;
use crate::io::Health;
use crate::scsi::primary::LogicalUnit;
use crate::wire::scsi::{be16, be32, be64};

fn log(rig: &mut Rig, page: u8, subpage: u8) -> Ended {
    rig.read(&[0x4d, 0, 0x40 | page, subpage, 0, 0, 0, 0x10, 0, 0])
}

/// The value of a log parameter.
fn parameter(rig: &mut Rig, page: u8, code: u16) -> Vec<u8> {
    let data = log(rig, page, 0).good();
    assert_eq!((data[0], data[1], be16(&data, 2) as usize), (page, 0, data.len() - 4));
    let mut at = 4;
    while at < data.len() {
        let len = usize::from(data[at + 3]);
        if be16(&data, at) == code {
            return data[at + 4..at + 4 + len].to_vec();
        }
        at += 4 + len;
    }
    panic!("page {page:02x} has no parameter {code:04x}");
}

#[test]
fn log_pages_are_listed_and_are_there() {
    let pages = [0, 2, 3, 5, 6, 0x0c, 0x0d, 0x0e, 0x10, 0x15, 0x19, 0x2f];
    let mut rig = Rig::thin();
    assert_eq!(log(&mut rig, 0, 0).good(), [&[0, 0, 0, 12], &pages[..]].concat());
    let list = log(&mut rig, 0, 0xff).good();
    assert_eq!(list[..8], [0x40, 0xff, 0, 26, 0, 0, 0, 0xff]);
    assert!(!log(&mut Rig::thick(), 0, 0).good().contains(&0x0c));
    for page in 0..0x3f {
        let ended = log(&mut rig, page, 0);
        match pages.contains(&page) {
            true => assert_eq!(ended.good()[0], page),
            false => assert_eq!(ended.sense(), INVALID_FIELD_IN_CDB),
        }
        assert_eq!(log(&mut rig, page, 1).sense(), INVALID_FIELD_IN_CDB);
    }
    // The parameter pointer, thresholds, saving.
    let data = rig.read(&[0x4d, 0, 0x43, 0, 0, 0, 5, 1, 0, 0]).good();
    assert_eq!((data.len(), be16(&data, 4)), (4 + 2 * 12, 5));
    assert_eq!(rig.read(&[0x4d, 0, 0x43, 0, 0, 0, 7, 1, 0, 0]).sense(), INVALID_FIELD_IN_CDB);
    assert_eq!(rig.read(&[0x4d, 0, 0x03, 0, 0, 0, 0, 1, 0, 0]).sense(), INVALID_FIELD_IN_CDB);
    assert_eq!(rig.read(&[0x4d, 1, 0x43, 0, 0, 0, 0, 1, 0, 0]).sense(), INVALID_FIELD_IN_CDB);
    for len in 0..8 {
        assert_eq!(rig.read(&[0x4d, 0, 0x43, 0, 0, 0, 0, 0, len, 0]).good().len(), usize::from(len));
    }
}

#[test]
fn counters_count_and_are_reset() {
    let mut rig = Rig::thin();
    let second = rig.server.unit().server();
    rig.write(&cdb10(0x2a, 0, 0, 4), &[1; 2048]).good();
    rig.read(&cdb10(0x28, 0, 0, 3)).good();
    // Another core's commands count, too.
    let first = std::mem::replace(&mut rig.server, second);
    rig.read(&cdb10(0x28, 0, 0, 2)).good();
    rig.server = first;
    rig.fault = Some((512, ErrorKind::ReadFailed));
    assert_eq!(rig.read(&cdb10(0x28, 0, 0, 2)).sense(), (3, 0x1100));
    rig.fault = None;
    let statistics = parameter(&mut rig, 0x19, 1);
    let field = |i: usize| be64(&statistics, 8 * i);
    assert_eq!([field(0), field(1), field(2), field(3)], [3, 1, 4, 7]);
    assert_eq!(be64(&parameter(&mut rig, 3, 6), 0), 1);
    assert_eq!(be64(&parameter(&mut rig, 3, 5), 0), 7 * 512);
    assert_eq!(be64(&parameter(&mut rig, 2, 6), 0), 0);
    let reset = |page| [0x4c, 2, page, 0, 0, 0, 0, 0, 0, 0];
    let ended = rig.none(&reset(3));
    assert_eq!(ended.attention(), Some(0x2a02));
    ended.good();
    assert_eq!(be64(&parameter(&mut rig, 3, 6), 0), 0);
    rig.none(&reset(0)).good();
    assert_eq!(parameter(&mut rig, 0x19, 1), [0; 64]);
    assert_eq!(parameter(&mut rig, 0x19, 2), [0; 8]);
    assert_eq!(parameter(&mut rig, 0x19, 3), [0, 0, 0, 3, 0, 0, 0, 1]);
    assert_eq!(rig.none(&reset(0)).attention(), None, "nothing has changed");
    assert_eq!(rig.write(&[0x4c, 0, 0, 0, 0, 0, 0, 0, 4, 0], &[0; 4]).sense(), INVALID_FIELD_IN_CDB);
}

#[test]
fn the_store_is_looked_after() {
    let mut rig = Rig::new(Config { soft_threshold: 10 << 20, ..config() });
    let health = |bytes, available| Health { bytes, used: Some(5 << 20), available: Some(available) };
    let none: [u16; 0] = [];
    assert_eq!(rig.server.inspected(&health(1 << 21, 20 << 20)), none);
    assert_eq!(rig.server.inspected(&health(1 << 22, 20 << 20)), [0x2a09]);
    assert_eq!(rig.server.inspected(&health(1 << 22, 9 << 20)), [0x3807]);
    assert_eq!(rig.server.inspected(&health(1 << 22, 8 << 20)), none, "told once");
    assert_eq!(rig.server.inspected(&health(1 << 22, 10 << 20)), none);
    assert_eq!(rig.server.inspected(&health(1 << 22, 9 << 20)), [0x3807], "and again, after it was well");
    // In sets of 1 MiB.
    assert_eq!(parameter(&mut rig, 0x0c, 1)[..4], [0, 0, 0, 9]);
    assert_eq!(parameter(&mut rig, 0x0c, 2)[..5], [0, 0, 0, 5, 1]);
}

#[test]
fn no_background_scan_is_told_of_and_for_how_long() {
    let mut rig = Rig::thin();
    rig.now = Instant::ZERO + Duration::from_secs(61 * 60);
    assert_eq!(parameter(&mut rig, 0x15, 0), [0, 0, 0, 61, 0, 0, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn self_tests_read_the_disk_and_are_logged() {
    let mut rig = Rig::thin();
    let send = |code: u8, flag: u8| [0x1d, code << 5 | flag, 0, 0, 0, 0];
    rig.none(&send(0, 4)).good();
    assert_eq!(rig.log, ["read 0+128", "read 3968+128"]);
    rig.log.clear();
    rig.none(&send(6, 0)).good();
    assert_eq!(rig.log.len(), 32, "the extended test reads all");
    let ended = rig.none(&send(2, 0));
    assert!(ended.detached.is_some(), "in the background");
    rig.fault = Some((4000 * 512, ErrorKind::ReadFailed));
    assert_eq!(rig.none(&send(5, 0)).sense(), (4, 0x3e03));
    let results: Vec<_> = (1..=5).map(|code| parameter(&mut rig, 0x10, code)).collect();
    let heads: Vec<u8> = results.iter().map(|result| result[0]).collect();
    assert_eq!(heads, [5 << 5 | 7, 2 << 5, 6 << 5, 0, 0]);
    assert_eq!((be64(&results[0], 4), results[0][12], be16(&results[0], 13)), (4000, 3, 0x1100));
    assert_eq!(be64(&results[1], 4), u64::MAX);
    for bad in [send(3, 0), send(7, 0), send(1, 4), send(4, 0)] {
        assert_eq!(rig.none(&bad).sense(), INVALID_FIELD_IN_CDB);
    }
    rig.none(&send(0, 0)).good();
    // One at a time; it is told that one runs, and it can be stopped.
    rig.fault = None;
    let command = Rig::command(&send(2, 0), 0, 0);
    assert!(matches!(rig.call(&command, None), Step::Detach(_)));
    let Step::Store(op) = rig.call(&command, Some(Resume::Detached)) else { panic!("it reads") };
    assert_eq!(rig.run_as(TaskId(8), &send(5, 0)).sense.unwrap().code, 0x0409);
    assert_eq!(rig.run_as(TaskId(8), &[3, 1, 0, 0, 252, 0]).data.to_vec()[1..4], [0, 4, 9]);
    assert_eq!(rig.run_as(TaskId(8), &send(4, 0)).status, Status::Good);
    let done = rig.store(op);
    assert!(matches!(rig.call(&command, Some(Resume::Stored(done))), Step::Finish(_)));
    assert_eq!(parameter(&mut rig, 0x10, 1)[0], 2 << 5 | 1);
    assert_eq!(rig.read(&[0x1c, 1, 0, 0, 255, 0]).good(), [0, 0, 0, 1, 0]);
    // The list of pages can be asked for by SEND DIAGNOSTIC; there is no other page, and a self-test has none.
    let send = |flags, len| [0x1d, flags, 0, 0, len, 0];
    rig.write(&send(0x10, 4), &[0; 4]).good();
    assert_eq!(rig.read(&[0x1c, 0, 0, 0, 255, 0]).good(), [0, 0, 0, 1, 0]);
    for (list, at) in [(&[0x40, 0, 0, 0][..], 0), (&[0, 0, 0, 1, 0], 2)] {
        let ended = rig.write(&send(0x10, list.len() as u8), list);
        assert_eq!(ended.outcome.sense.as_ref().unwrap().specific, Some([0x80, 0, at]));
        assert_eq!(ended.sense(), INVALID_FIELD_IN_PARAMETER_LIST);
    }
    assert_eq!(rig.write(&send(0x10, 3), &[0; 3]).sense(), PARAMETER_LIST_LENGTH);
    for flags in [0, 0x14, 0x30] {
        assert_eq!(rig.write(&send(flags, 4), &[0; 4]).sense(), INVALID_FIELD_IN_CDB);
    }
    assert_eq!(rig.read(&[0x1c, 1, 1, 0, 255, 0]).sense(), INVALID_FIELD_IN_CDB);
}

#[test]
fn defect_lists_are_empty() {
    let mut rig = Rig::thin();
    assert_eq!(rig.read(&[0x37, 0, 0x1d, 0, 0, 0, 0, 0, 255, 0]).good(), [0, 0x1d, 0, 0]);
    assert_eq!(rig.read(&[0xb7, 0x18, 0, 0, 0, 0, 0, 0, 0, 255, 0, 0]).good(), [0, 0x18, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn the_time_is_told_and_set() {
    let mut rig = Rig::thin();
    let report = [0xa3, 0x0f, 0, 0, 0, 0, 0, 0, 0, 255, 0, 0];
    let set = |len: u8| [0xa4, 0x0f, 0, 0, 0, 0, 0, 0, 0, len, 0, 0];
    let answer = |origin: u8, time: u64| [&[0, 10, origin, 0], &time.to_be_bytes()[2..], &[0, 0]].concat();
    rig.now = Instant::from_nanos(5_000_000_000);
    assert_eq!(rig.read(&report).good(), answer(3, 1_005_000));
    rig.none(&set(0)).good();
    let ended = rig.write(&set(12), &[&[0; 4], &77_u64.to_be_bytes()[2..], &[0, 0]].concat());
    assert_eq!(ended.attention(), Some(0x2a10));
    ended.good();
    rig.now = Instant::from_nanos(6_000_000_000);
    assert_eq!(rig.read(&report).good(), answer(2, 1077));
    assert_eq!(rig.write(&set(11), &[0; 11]).sense(), PARAMETER_LIST_LENGTH);
}

#[test]
fn identifying_information_and_buffers_are_given_back() {
    let mut rig = Rig::thin();
    let report = |kind: u8| [0xa3, 0x05, 0, 0, 0, 0, 0, 0, 2, 8, kind << 1, 0];
    let set = |kind: u8, len: u8| [0xa4, 0x06, 0, 0, 0, 0, 0, 0, 0, len, kind << 1, 0];
    assert_eq!(rig.read(&report(0)).good(), [0; 4]);
    let ended = rig.write(&set(0, 5), b"rack3");
    assert_eq!(ended.attention(), Some(0x3f05));
    ended.good();
    rig.write(&set(2, 4), b"lab\0").good();
    assert_eq!(rig.read(&report(0)).good(), [&[0, 0, 0, 5], &b"rack3"[..]].concat());
    assert_eq!(rig.read(&report(2)).good(), [&[0, 0, 0, 4], &b"lab\0"[..]].concat());
    assert_eq!(rig.read(&report(0x7f)).good(), [0, 0, 0, 8, 0, 0, 2, 0, 4, 0, 1, 0]);
    assert_eq!(rig.read(&report(1)).sense(), INVALID_FIELD_IN_CDB);
    assert_eq!(rig.write(&set(2, 3), b"lab").sense(), INVALID_FIELD_IN_PARAMETER_LIST);
    let too_long = [0xa4, 0x06, 0, 0, 0, 0, 0, 0, 2, 1, 0, 0];
    assert_eq!(rig.write(&too_long, &[0; 513]).sense(), INVALID_FIELD_IN_CDB);

    let buffer = |opcode: u8, mode: u8, offset: u8, len: u8| [opcode, mode, 0, 0, 0, offset, 0, 0, len, 0];
    assert_eq!(be32(&rig.read(&buffer(0x3c, 3, 0, 4)).good(), 0), 4096);
    rig.write(&buffer(0x3b, 2, 4, 3), &[1, 2, 3]).good();
    assert_eq!(rig.read(&buffer(0x3c, 2, 3, 6)).good(), [0, 1, 2, 3, 0, 0]);
    assert_eq!(rig.read(&buffer(0x3c, 0, 0, 12)).good(), [0, 0, 0x10, 0, 0, 0, 0, 0, 1, 2, 3, 0]);
    assert_eq!(rig.read(&buffer(0x3c, 10, 0, 12)).sense(), (5, 0x2c00), "nothing to echo");
    rig.write(&buffer(0x3b, 10, 0, 3), &[7, 8, 9]).good();
    assert_eq!(rig.read(&buffer(0x3c, 10, 0, 12)).good(), [7, 8, 9]);
    assert_eq!(rig.write(&[0x3b, 2, 0, 0, 0x0f, 0xff, 0, 0, 2, 0], &[0; 2]).sense(), INVALID_FIELD_IN_CDB);
    for mode in [1, 4, 5, 7] {
        assert_eq!(rig.write(&buffer(0x3b, mode, 0, 1), &[0]).sense(), INVALID_FIELD_IN_CDB, "microcode");
    }
}

#[test]
fn identifying_information_outlives_a_restart() {
    let report = [0xa3, 0x05, 0, 0, 0, 0, 0, 0, 2, 8, 0, 0];
    let set = |kind: u8, len: u8| [0xa4, 0x06, 0, 0, 0, 0, 0, 0, 0, len, kind << 1, 0];
    let mut rig = Rig::thin();
    rig.write(&set(0, 5), b"rack3").good();
    rig.write(&set(2, 4), b"lab\0").good();
    let kept: Vec<_> = rig.kept.iter().map(|record| (record.name, record.generation)).collect();
    assert_eq!(kept, [("information", 1), ("information", 2)]);
    let record = rig.kept.pop().unwrap().bytes;
    let mut rig = Rig::thin();
    rig.server.unit().load_information(&record).unwrap();
    assert_eq!(rig.read(&report).good(), [&[0, 0, 0, 5], &b"rack3"[..]].concat());
    // Nothing of a record that is not whole.
    for bad in [&[][..], &[2], &record[..record.len() - 1], &[1, 0xff, 0xff]] {
        assert!(rig.server.unit().load_information(bad).is_err());
    }
    assert_eq!(rig.read(&report).good()[4..], b"rack3"[..]);
}
