// SPDX-License-Identifier: GPL-2.0-or-later
//! READ, WRITE and WRITE FILEMARKS: what comes back, and what sense data says of lengths.

use super::*;

fn signed(sense: &Sense) -> i64 {
    sense.information.unwrap().cast_signed()
}

#[test]
fn records_of_every_length_come_back() {
    let lengths =
        [1, 2, 511, 512, 4016, 4017, 4095, 4096, 4097, 65536, 262_143, 262_144, 262_145, 1 << 20, 3_000_001];
    let mut rig = TapeRig::new();
    for (number, len) in lengths.into_iter().enumerate() {
        rig.write_record(&record(number as u64, len)).good();
    }
    rig.filemarks(1);
    let mut rig = rig.restarted();
    for (number, len) in lengths.into_iter().enumerate() {
        assert!(rig.read_record(len).good() == record(number as u64, len), "{len}");
    }
    assert_eq!(rig.read_record(10).why(), (key::NO_SENSE, asc::FILEMARK_DETECTED));
    assert_eq!(rig.read_record(10).why(), (key::BLANK_CHECK, asc::END_OF_DATA_DETECTED));
}

#[test]
fn the_longest_record_takes_bounded_memory() {
    let mut rig = TapeRig::with(cartridge(40 << 20, CartridgeUse::Data, false));
    rig.arena = Arena::new(4 << 20, false).unwrap();
    let longest = record(1, 0xff_ffff);
    rig.write_record(&longest).good();
    rig.rewind();
    assert!(rig.read_record(0xff_ffff).good() == longest);
    let limits = rig.read(&[0x05, 0, 0, 0, 0, 0]).good();
    assert_eq!(limits, [0, 0xff, 0xff, 0xff, 0, 1], "granularity 0, 1 byte to 16 MiB less one");
}

#[test]
fn payload_of_whole_blocks_goes_to_the_store_as_it_came() {
    let mut rig = TapeRig::new();
    rig.write_record(&record(0, 65536)).good();
    rig.ops.clear();
    rig.write_record(&record(1, 65536)).good();
    assert_eq!(rig.ops, ["write 65536"]);
}

#[test]
fn a_longer_record_is_cut_and_the_difference_is_negative() {
    let mut rig = TapeRig::new();
    for number in 0..3 {
        rig.write_record(&record(number, 9000)).good();
    }
    rig.rewind();
    let ended = rig.read_record(5000);
    assert!(ended.data == record(0, 9000)[..5000]);
    let sense = ended.sense();
    assert_eq!((sense.key, sense.code, sense.ili, signed(&sense)), (0, 0, true, -4000));
    assert_eq!(sense.encode(false)[..7], [0xf0, 0, 0x20, 0xff, 0xff, 0xf0, 0x60]);
    assert_eq!(sense.encode(true)[12..20], (-4000i64).to_be_bytes());
    assert_eq!(ended.outcome.data_in, 5000, "no overflow: the CDB asks for no more");
    // The head is behind it. Nothing is said with SILI where records have any length ...
    assert!(rig.read(&[0x08, 2, 0, 0x10, 0, 0]).good() == record(1, 9000)[..4096]);
    // ... and so it goes for the last.
    assert!(rig.read(&[0x08, 2, 0, 0xff, 0, 0]).good() == record(2, 9000));
}

#[test]
fn a_shorter_record_is_told_but_with_sili() {
    let mut rig = TapeRig::new();
    rig.write_record(&record(0, 100)).good();
    rig.write_record(&record(1, 100)).good();
    rig.rewind();
    let ended = rig.read_record(300);
    assert_eq!(ended.data, record(0, 100));
    let sense = ended.sense();
    assert_eq!((sense.key, sense.code, sense.ili, signed(&sense)), (0, 0, true, 200));
    let ended = rig.read(&[0x08, 2, 0, 1, 44, 0]);
    assert_eq!(ended.outcome.data_in, 100);
    assert_eq!(ended.good(), record(1, 100));
}

#[test]
fn nothing_is_read_or_written_for_a_length_of_zero() {
    let mut rig = TapeRig::new();
    assert_eq!(rig.write_record(&[]).good(), [0_u8; 0]);
    assert_eq!(rig.read_record(0).good(), [0_u8; 0]);
    assert_eq!(rig.position(), (0, 0, 0));
}

#[test]
fn fixed_records_count() {
    let mut rig = TapeRig::new();
    // Without a block length there are none.
    assert_eq!(rig.read(&[0x08, 1, 0, 0, 1, 0]).why(), (key::ILLEGAL_REQUEST, asc::INVALID_FIELD_IN_CDB));
    for len in [512, 8192] {
        rig.rewind();
        rig.set_block(len);
        let bytes = record(7, 10 * len as usize);
        rig.write(&[0x0a, 1, 0, 0, 10, 0], &bytes).good();
        rig.filemarks(1);
        assert_eq!(rig.position(), (0, 11, 1));
        rig.rewind();
        assert!(rig.read(&[0x08, 1, 0, 0, 4, 0]).good() == bytes[..4 * len as usize]);
        // A filemark ends it, and what was not read is told in records.
        let ended = rig.read(&[0x08, 1, 0, 0, 20, 0]);
        assert!(ended.data == bytes[4 * len as usize..]);
        let sense = ended.sense();
        assert_eq!((sense.code, sense.filemark, signed(&sense)), (asc::FILEMARK_DETECTED, true, 14));
        let sense = rig.read(&[0x08, 1, 0, 0, 3, 0]).sense();
        assert_eq!((sense.key, sense.code, signed(&sense)), (8, asc::END_OF_DATA_DETECTED, 3));
        // SILI makes no sense here.
        let sense = rig.read(&[0x08, 3, 0, 0, 3, 0]).sense();
        assert_eq!((sense.code, sense.specific), (asc::INVALID_FIELD_IN_CDB, Some([0xc9, 0, 1])));
    }
}

#[test]
fn a_record_of_another_length_ends_a_fixed_read_with_no_error() {
    let mut rig = TapeRig::new();
    for (number, len) in [(0, 1024), (1, 1024), (2, 700), (3, 1024)] {
        rig.write_record(&record(number, len)).good();
    }
    rig.rewind();
    rig.set_block(1024);
    let ended = rig.read(&[0x08, 1, 0, 0, 4, 0]);
    assert!(ended.data == [record(0, 1024), record(1, 1024)].concat());
    let sense = ended.sense();
    assert_eq!((sense.key, sense.code, sense.ili, signed(&sense)), (0, 0, true, 2));
    assert_eq!(rig.position().1, 3, "behind it");
}

#[test]
fn a_write_in_the_middle_ends_the_data_there() {
    let mut rig = TapeRig::new();
    for number in 0..10 {
        rig.write_record(&record(number, 20_000)).good();
    }
    rig.locate(3).good();
    rig.write_record(&record(100, 50)).good();
    assert_eq!(rig.read_record(9).why(), (key::BLANK_CHECK, asc::END_OF_DATA_DETECTED));
    rig.filemarks(0);
    let mut rig = rig.restarted();
    for (number, len) in [(0, 20_000), (1, 20_000), (2, 20_000), (100, 50)] {
        assert!(rig.read_record(len).good() == record(number, len));
    }
    assert_eq!(rig.read_record(9).why(), (key::BLANK_CHECK, asc::END_OF_DATA_DETECTED));
}

#[test]
fn filemarks_make_what_was_written_stable_and_immediate_ones_do_not() {
    let mut rig = TapeRig::new();
    rig.write_record(&record(0, 300)).good();
    rig.ops.clear();
    rig.none(&[0x10, 1, 0, 0, 2, 0]).good();
    assert_eq!(rig.ops, [""; 0]);
    rig.none(&[0x10, 0, 0, 0, 0, 0]).good();
    assert_eq!(rig.ops, ["write 4096", "flush"]);
    assert_eq!(rig.position(), (0, 3, 2));
    // BUFFERED MODE 0: each WRITE is stable before its status.
    rig.write(&[0x15, 0x10, 0, 0, 4, 0], &[0, 0, 0, 0]).good();
    rig.ops.clear();
    rig.write_record(&record(1, 300)).good();
    assert_eq!(rig.ops.last().unwrap(), "flush");
    // Setmarks there are none.
    assert_eq!(rig.none(&[0x10, 2, 0, 0, 1, 0]).why(), (5, asc::INVALID_FIELD_IN_CDB));
}

#[test]
fn early_warning_comes_with_the_data_written_and_the_end_without() {
    let mut rig = TapeRig::new();
    let (mut written, mut warned) = (0, 0);
    let last = loop {
        let ended = rig.write_record(&record(written, 100_000));
        if ended.outcome.status == Status::CheckCondition {
            let sense = ended.sense();
            assert!(sense.eom);
            if sense.key == key::VOLUME_OVERFLOW {
                break sense;
            }
            assert_eq!((sense.key, sense.code, signed(&sense)), (0, asc::END_OF_PARTITION, 0));
            warned += 1;
        } else {
            assert_eq!(warned, 0, "it does not end");
        }
        written += 1;
    };
    assert!(warned > 0);
    assert_eq!((last.code, signed(&last)), (asc::END_OF_PARTITION, 100_000));
    assert_eq!(rig.position().1, written);
    assert_eq!(rig.read(&[0x34, 0, 0, 0, 0, 0, 0, 0, 0, 0]).good()[0], 0x40, "EOP");
    // Filemarks find room behind it.
    let marks = rig.none(&[0x10, 0, 0, 0, 2, 0]).sense();
    assert_eq!((marks.key, marks.code, marks.eom), (0, asc::END_OF_PARTITION, true));
    let mut rig = rig.restarted();
    for number in 0..written {
        assert!(rig.read_record(100_000).good() == record(number, 100_000));
    }
    assert_eq!(rig.read_record(9).why(), (0, asc::FILEMARK_DETECTED));
    assert_eq!(rig.read_record(9).why(), (0, asc::FILEMARK_DETECTED));
    let end = rig.read_record(9).sense();
    assert_eq!((end.key, end.code, end.eom), (8, asc::END_OF_DATA_DETECTED, true));
}

#[test]
fn a_fixed_write_that_does_not_fit_says_how_many_records_do_not() {
    let mut rig = TapeRig::with(cartridge(1 << 20, CartridgeUse::Data, false));
    rig.set_block(100_000);
    let ended = rig.write(&[0x0a, 1, 0, 0, 12, 0], &record(0, 1_200_000));
    let sense = ended.sense();
    let there = rig.position().1;
    assert!((8..11).contains(&there), "{there}");
    assert_eq!((sense.key, signed(&sense)), (key::VOLUME_OVERFLOW, 12 - there.cast_signed()));
}

#[test]
fn a_damaged_record_is_told_and_the_next_is_read() {
    let damaged = |len: usize, count: u64| {
        let mut rig = TapeRig::new();
        for number in 0..count {
            rig.write_record(&record(number, len)).good();
        }
        // So that the next mount knows how far the data goes.
        rig.none(&[0x1b, 0, 0, 0, 0, 0]).good();
        let pattern = &record(1, len)[..200];
        let at = rig.bytes.windows(200).position(|bytes| bytes == pattern).unwrap();
        rig.bytes[at + 50] ^= 1;
        rig.restarted()
    };
    let unreadable = (key::MEDIUM_ERROR, asc::UNRECOVERED_READ_ERROR);
    let mut rig = damaged(100_000, 3);
    assert!(rig.read_record(100_000).good() == record(0, 100_000));
    assert_eq!(rig.read_record(100_000).why(), unreadable);
    assert!(rig.read_record(100_000).good() == record(2, 100_000));
    // Small ones lie in one block with others.
    assert_eq!(damaged(300, 40).read_record(300).why(), unreadable);
}

#[test]
fn what_the_store_loses_is_a_deferred_error_and_leaves_what_was_stable() {
    for (kind, key, code) in [
        (ErrorKind::WriteFailed, key::MEDIUM_ERROR, asc::WRITE_ERROR),
        (ErrorKind::NoSpace, key::VOLUME_OVERFLOW, asc::END_OF_PARTITION),
    ] {
        let mut rig = TapeRig::new();
        rig.write_record(&record(0, 300)).good();
        rig.filemarks(1);
        rig.write_record(&record(1, 300)).good();
        rig.fault = Some(kind);
        let sense = rig.none(&[0x10, 0, 0, 0, 1, 0]).sense();
        assert_eq!((sense.key, sense.code, sense.deferred), (key, code, true));
        rig.fault = None;
        // The head is where the data ends now, and goes on.
        assert_eq!(rig.position(), (0, 2, 1));
        rig.write_record(&record(2, 300)).good();
        rig.filemarks(1);
        let mut rig = rig.restarted();
        assert_eq!(rig.read_record(300).good(), record(0, 300));
        assert_eq!(rig.read_record(300).why(), (0, asc::FILEMARK_DETECTED));
        assert_eq!(rig.read_record(300).good(), record(2, 300));
    }
}

#[test]
fn a_payload_that_cannot_be_written_leaves_no_record() {
    let mut rig = TapeRig::new();
    rig.write_record(&record(0, 30_000)).good();
    rig.fault = Some(ErrorKind::WriteFailed);
    assert_eq!(rig.write_record(&record(1, 30_000)).why(), (key::MEDIUM_ERROR, asc::WRITE_ERROR));
    rig.fault = None;
    assert_eq!(rig.position().1, 1);
    rig.write_record(&record(2, 30_000)).good();
    rig.rewind();
    assert!(rig.read_record(30_000).good() == record(0, 30_000));
    assert!(rig.read_record(30_000).good() == record(2, 30_000));
}

#[test]
fn a_command_that_is_aborted_anywhere_leaves_a_whole_tape() {
    for steps in 0..40 {
        let mut rig = TapeRig::new();
        rig.write_record(&record(0, 600_000)).good();
        rig.write_record(&record(1, 100)).good();
        let cut = rig.abort_after(steps, &with_length([0x0a, 0, 0, 0, 0, 0], 600_000), &record(2, 600_000));
        let (_, there, _) = rig.position();
        assert!(there == if cut { 2 } else { 3 }, "{steps}");
        rig.write_record(&record(3, 5000)).good();
        rig.abort_after(steps % 5, &[0x10, 0, 0, 0, 1, 0], &[]);
        rig.rewind();
        rig.abort_after(steps, &with_length([0x08, 0, 0, 0, 0, 0], 600_000), &[]);
        rig.locate(there as u32).good();
        assert!(rig.read_record(5000).good() == record(3, 5000));
        if !cut {
            break;
        }
    }
}
