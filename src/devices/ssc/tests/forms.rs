// SPDX-License-Identifier: GPL-2.0-or-later
//! Records that are compressed or come with protection information.

use super::*;
use crate::wire::Crc32c;

/// Switches compression by page 0Fh.
fn compress(rig: &mut TapeRig, on: bool) {
    let mut list = rig.read(&[0x1a, 8, 0x0f, 0, 255, 0]).good();
    list[0] = 0;
    list[4] &= 0x7f;
    list[6] = list[6] & 0x7f | u8::from(on) << 7;
    rig.write(&[0x15, 0x10, 0, 0, list.len() as u8, 0], &list).good();
}

/// Page 0Ah/F0h: method, length, flags.
fn protect(rig: &mut TapeRig, values: [u8; 3]) -> TapeEnded {
    let mut list = vec![0, 0, 0x10, 0, 0x4a, 0xf0, 0, 28];
    list.extend(values);
    list.resize(36, 0);
    rig.write(&[0x15, 0x10, 0, 0, 36, 0], &list)
}

fn protected(record: &[u8]) -> Vec<u8> {
    let mut all = record.to_vec();
    all.extend(Crc32c::of(record).wire());
    all
}

/// Bytes that become few, and tell one record from another.
fn dull(number: u64, len: usize) -> Vec<u8> {
    (0..len).map(|at| (number as u8) ^ (at >> 12) as u8).collect()
}

/// Bytes that stay as many.
fn noise(number: u64, len: usize) -> Vec<u8> {
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 24) as u8
    };
    std::iter::repeat_with(next).take(len).collect()
}

fn used(rig: &TapeRig) -> u64 {
    rig.server.unit().report().used_bytes.unwrap()
}

const LENGTHS: [usize; 12] =
    [1, 2, 300, 4016, 4017, 4096, 65_535, 65_536, 65_537, 262_144, 1_000_000, 3_000_001];

#[test]
fn compressed_records_of_every_length_come_back_with_it_on_or_off() {
    let mut rig = TapeRig::with(cartridge(32 << 20, CartridgeUse::Data, false));
    let of = |number: usize, len| {
        if number % 3 == 2 { noise(number as u64, len) } else { dull(number as u64, len) }
    };
    let mut number = 0;
    for on in [true, false, true] {
        compress(&mut rig, on);
        for len in LENGTHS {
            rig.write_record(&of(number, len)).good();
            number += 1;
        }
    }
    rig.filemarks(1);
    let mut rig = rig.restarted();
    for number in 0..number {
        let len = LENGTHS[number % LENGTHS.len()];
        assert!(rig.read_record(len).good() == of(number, len), "{number}: {len}");
    }
    rig.locate(11).good();
    // A part of one, from either side, and what sense data says is of the record, not of its payload.
    let ended = rig.read_record(70_000);
    assert!(ended.data == of(11, 70_000));
    assert_eq!(ended.sense().information.unwrap().cast_signed(), 70_000 - 3_000_001);
    let ended = rig.read(&with_length([0x0f, 0, 0, 0, 0, 0], 4_000_000));
    assert!(ended.data == of(11, 3_000_001));
    assert_eq!(ended.sense().information, Some(999_999));
    rig.rewind();
    rig.none(&[0x13, 0x20, 0, 0, 0, 0]).good();
    assert_eq!(rig.position().1, number as u64 + 1, "VERIFY goes over all");
}

#[test]
fn compression_saves_capacity_and_the_pages_tell_how_much() {
    let write = |on: bool| {
        let mut rig = TapeRig::new();
        compress(&mut rig, on);
        for number in 0..4 {
            rig.write_record(&dull(number, 1_000_000)).good();
        }
        rig
    };
    let (mut plain, mut small) = (write(false), write(true));
    assert!(used(&plain) > 4_000_000 && used(&small) < 200_000, "{} {}", used(&plain), used(&small));
    for (rig, on) in [(&mut plain, false), (&mut small, true)] {
        let page = rig.read(&[0x4d, 0, 0x5b, 0, 0, 0, 0, 1, 0, 0]).good();
        // Parameter 1: the ratio of writes, in hundredths.
        let ratio = u16::from_be_bytes([page[4 + 6 + 4], page[4 + 6 + 5]]);
        assert!(if on { ratio > 2000 } else { ratio == 100 }, "{ratio}");
        let page_10 = rig.read(&[0x1a, 8, 0x10, 0, 255, 0]).good();
        assert_eq!(page_10[4 + 14], u8::from(on), "the second view of DCE");
    }
    // What does not fit as it is may fit.
    let mut rig = TapeRig::with(cartridge(1 << 20, CartridgeUse::Data, false));
    compress(&mut rig, true);
    for number in 0..8 {
        rig.write_record(&dull(number, 1_000_000)).good();
    }
    // What does not fit at all is told, and leaves nothing.
    for len in [1_100_000, 2_000_000] {
        let sense = rig.write_record(&noise(9, len)).sense();
        assert_eq!((sense.key, sense.information), (key::VOLUME_OVERFLOW, Some(len as u64)));
    }
    assert_eq!(rig.position().1, 8);
    rig.rewind();
    for number in 0..8 {
        assert!(rig.read_record(1_000_000).good() == dull(number, 1_000_000));
    }
}

#[test]
fn the_longest_record_takes_bounded_memory_however_small_it_becomes() {
    let mut rig = TapeRig::with(cartridge(40 << 20, CartridgeUse::Data, false));
    rig.arena = Arena::new(4 << 20, false).unwrap();
    compress(&mut rig, true);
    for longest in [vec![0; 0xff_ffff], noise(1, 0xff_ffff)] {
        rig.rewind();
        rig.write_record(&longest).good();
        rig.rewind();
        assert!(rig.read_record(0xff_ffff).good() == longest);
    }
}

#[test]
fn fixed_records_are_compressed_one_by_one() {
    for len in [512, 8192, 100_000] {
        let mut rig = TapeRig::with(cartridge(16 << 20, CartridgeUse::Data, false));
        compress(&mut rig, true);
        rig.set_block(len);
        let bytes = dull(3, 10 * len as usize);
        rig.write(&[0x0a, 1, 0, 0, 10, 0], &bytes).good();
        rig.rewind();
        assert!(rig.read(&[0x08, 1, 0, 0, 10, 0]).good() == bytes);
        assert_eq!(rig.position().1, 10);
    }
}

#[test]
fn a_compressed_record_that_is_aborted_or_damaged_is_none() {
    for steps in 0..30 {
        let mut rig = TapeRig::new();
        compress(&mut rig, true);
        rig.write_record(&dull(1, 600_000)).good();
        let cut = rig.abort_after(steps, &with_length([0x0a, 0, 0, 0, 0, 0], 600_000), &noise(2, 600_000));
        assert_eq!(rig.position().1, if cut { 1 } else { 2 });
        rig.write_record(&dull(3, 5000)).good();
        rig.rewind();
        assert!(rig.read_record(600_000).good() == dull(1, 600_000));
        if !cut {
            break;
        }
    }
    let mut rig = TapeRig::new();
    compress(&mut rig, true);
    for number in 0..3 {
        rig.write_record(&noise(number, 100_000)).good();
    }
    rig.none(&[0x1b, 0, 0, 0, 0, 0]).good();
    let pattern = &noise(1, 100_000)[20_000..20_200];
    let at = rig.bytes.windows(200).position(|bytes| bytes == pattern).unwrap();
    rig.bytes[at] ^= 1;
    let mut rig = rig.restarted();
    assert!(rig.read_record(100_000).good() == noise(0, 100_000));
    assert_eq!(rig.read_record(100_000).why(), (key::MEDIUM_ERROR, asc::UNRECOVERED_READ_ERROR));
    assert!(rig.read_record(100_000).good() == noise(2, 100_000));
}

#[test]
fn protection_information_is_checked_taken_off_and_put_on() {
    for on in [false, true] {
        let mut rig = TapeRig::new();
        compress(&mut rig, on);
        protect(&mut rig, [2, 4, 0xc0]).good();
        for (number, len) in [1, 300, 4016, 65_536, 262_140, 700_000].into_iter().enumerate() {
            let bytes = protected(&record(number as u64, len));
            rig.write_record(&bytes).good();
            let mut wrong = bytes.clone();
            wrong[len / 2] ^= 1;
            let sense = rig.write_record(&wrong).sense();
            assert_eq!((sense.key, sense.code), (key::HARDWARE_ERROR, asc::LOGICAL_BLOCK_GUARD_CHECK_FAILED));
            assert_eq!(rig.position().1, number as u64 + 1, "nothing is written of it");
        }
        rig.rewind();
        for (number, len) in [1, 300, 4016, 65_536, 262_140, 700_000].into_iter().enumerate() {
            let bytes = protected(&record(number as u64, len));
            assert!(rig.read_record(len + 4).good() == bytes, "{len}");
        }
        // Lengths count it.
        rig.locate(1).good();
        let ended = rig.read_record(300);
        assert_eq!(ended.sense().information.unwrap().cast_signed(), -4);
        assert!(ended.data == protected(&record(1, 300))[..300]);
        // Without it, the records are what they are.
        protect(&mut rig, [0, 0, 0]).good();
        rig.locate(1).good();
        assert!(rig.read_record(300).good() == record(1, 300));
    }
}

#[test]
fn fixed_records_carry_protection_information_each() {
    let mut rig = TapeRig::new();
    protect(&mut rig, [2, 4, 0xc0]).good();
    rig.set_block(1004);
    let mut all: Vec<u8> = (0..5).flat_map(|number| protected(&record(number, 1000))).collect();
    rig.write(&[0x0a, 1, 0, 0, 5, 0], &all).good();
    rig.rewind();
    assert!(rig.read(&[0x08, 1, 0, 0, 5, 0]).good() == all);
    // The third is wrong: two are written.
    all[2500] ^= 1;
    let sense = rig.write(&[0x0a, 1, 0, 0, 5, 0], &all).sense();
    assert_eq!((sense.code, sense.information), (asc::LOGICAL_BLOCK_GUARD_CHECK_FAILED, Some(3)));
    assert_eq!(rig.position().1, 7);
}

#[test]
fn what_makes_no_sense_of_protection_is_refused() {
    let mut rig = TapeRig::new();
    for (values, byte) in
        [([1, 4, 0], 8), ([2, 0, 0x80], 9), ([0, 4, 0], 9), ([0, 0, 0x80], 10), ([2, 4, 0x20], 10)]
    {
        let ended = protect(&mut rig, values);
        assert_eq!(ended.why(), (5, asc::INVALID_FIELD_IN_PARAMETER_LIST), "{values:?}");
        assert_eq!(ended.sense().specific, Some([0x80, 0, byte]), "{values:?}");
    }
    protect(&mut rig, [2, 4, 0x80]).good();
    // There is no record with nothing but protection information.
    assert_eq!(rig.write_record(&[0; 4]).why(), (5, asc::INVALID_FIELD_IN_CDB));
    rig.write_record(&protected(&[7])).good();
    rig.rewind();
    assert_eq!(rig.read_record(1).good(), [7], "READ has none");
    let methods = rig.read(&[0x12, 1, 0xb5, 0, 255, 0]).good();
    assert_eq!(methods[8..], [7, 0, 0, 0, 0, 0, 0, 0, 7, 2, 4, 0xc0, 0, 0, 0, 0]);
}

#[test]
fn no_algorithm_is_no_compression_and_another_is_refused() {
    let mut rig = TapeRig::new();
    let mut select = |algorithm: u8| {
        let list = [0, 0, 0x10, 0, 0x0f, 14, 0xc0, 0x80, 0, 0, 0, algorithm, 0, 0, 0, 1, 0, 0, 0, 0];
        let ended = rig.write(&[0x15, 0x10, 0, 0, 20, 0], &list);
        let compresses = rig.read(&[0x1a, 8, 0x10, 0, 255, 0]).good()[4 + 14] == 1;
        (ended.outcome.status == Status::Good, compresses)
    };
    assert_eq!(select(1), (true, true));
    assert_eq!(select(2), (false, true));
    assert_eq!(select(0), (true, false));
    assert_eq!(select(1), (true, true));
}
