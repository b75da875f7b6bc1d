// SPDX-License-Identifier: GPL-2.0-or-later
//! SPACE, LOCATE, REWIND and READ POSITION.

use super::*;

/// Three files of four records, and a filemark behind each.
fn three_files() -> TapeRig {
    let mut rig = TapeRig::new();
    for file in 0..3 {
        for number in 0..4 {
            rig.write_record(&record(10 * file + number, 100)).good();
        }
        rig.filemarks(1);
    }
    rig
}

fn told(ended: &TapeEnded) -> (u8, u16, Option<u64>) {
    let sense = ended.sense();
    (sense.key, sense.code, sense.information)
}

#[test]
fn space_over_records_stops_at_a_filemark_and_says_how_many_are_left() {
    let mut rig = three_files();
    rig.rewind();
    rig.space(0, 3).good();
    assert_eq!(rig.position(), (0, 3, 0));
    let ended = rig.space(0, 5);
    assert_eq!(told(&ended), (0, asc::FILEMARK_DETECTED, Some(4)));
    assert!(ended.sense().filemark);
    assert_eq!(rig.position(), (0, 5, 1), "behind it");
    let ended = rig.space(0, -2);
    assert_eq!(told(&ended), (0, asc::FILEMARK_DETECTED, Some(2)));
    assert_eq!(rig.position(), (0, 4, 0), "before it");
    let ended = rig.space(0, -9);
    assert_eq!(told(&ended), (0, asc::BEGINNING_OF_PARTITION_DETECTED, Some(5)));
    assert!(ended.sense().eom);
    assert_eq!(rig.position(), (0, 0, 0));
}

#[test]
fn space_over_filemarks_and_to_the_end() {
    let mut rig = three_files();
    rig.rewind();
    rig.space(1, 2).good();
    assert_eq!(rig.position(), (0, 10, 2));
    rig.space(1, -1).good();
    assert_eq!(rig.position(), (0, 9, 1));
    let ended = rig.space(1, 0x7f_ffff);
    assert_eq!(told(&ended), (8, asc::END_OF_DATA_DETECTED, Some(0x7f_ffff - 2)));
    assert_eq!(rig.position(), (0, 15, 3));
    let ended = rig.space(1, -4);
    assert_eq!(told(&ended), (0, asc::BEGINNING_OF_PARTITION_DETECTED, Some(1)));
    rig.space(3, 0).good();
    assert_eq!(rig.position(), (0, 15, 3));
    // Sequential filemarks and setmarks.
    for code in [2, 4, 5] {
        assert_eq!(rig.space(code, 1).why(), (5, asc::INVALID_FIELD_IN_CDB));
    }
    // The long form counts as far as anybody wants.
    let mut cdb = [0x91, 1, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe, 0, 0, 0, 0];
    rig.none(&cdb).good();
    assert_eq!(rig.position(), (0, 9, 1));
    cdb[4..12].copy_from_slice(&i64::MIN.to_be_bytes());
    assert_eq!(told(&rig.none(&cdb)), (0, asc::BEGINNING_OF_PARTITION_DETECTED, Some((1 << 63) - 1)));
}

#[test]
fn locate_goes_to_objects_files_and_the_end() {
    let mut rig = three_files();
    rig.locate(7).good();
    assert_eq!(rig.position(), (0, 7, 1));
    let ended = rig.locate(16);
    assert_eq!(told(&ended), (8, asc::END_OF_DATA_DETECTED, None));
    assert_eq!(rig.position(), (0, 15, 3));
    let locate_16 = |kind: u8, to: u64| {
        let mut cdb = [0x92, kind << 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        cdb[4..12].copy_from_slice(&to.to_be_bytes());
        cdb
    };
    rig.none(&locate_16(0, 12)).good();
    assert_eq!(rig.position(), (0, 12, 2));
    rig.none(&locate_16(1, 1)).good();
    assert_eq!(rig.position(), (0, 5, 1));
    assert_eq!(told(&rig.none(&locate_16(1, 4))), (8, asc::END_OF_DATA_DETECTED, None));
    rig.none(&locate_16(1, 0)).good();
    rig.none(&locate_16(3, 0)).good();
    assert_eq!(rig.position(), (0, 15, 3));
    assert_eq!(rig.none(&locate_16(2, 0)).why(), (5, asc::INVALID_FIELD_IN_CDB));
    // Without CP the partition does not count; with it, there is only the first.
    rig.none(&[0x2b, 0, 0, 0, 0, 0, 1, 0, 3, 0]).good();
    assert_eq!(rig.none(&[0x2b, 2, 0, 0, 0, 0, 1, 0, 3, 0]).why(), (5, asc::INVALID_FIELD_IN_CDB));
    assert_eq!(rig.position(), (0, 1, 0));
    // The sense data points at the partition, which each of the two forms has elsewhere.
    let place = |ended: TapeEnded| ended.sense().specific;
    assert_eq!(place(rig.none(&[0x2b, 2, 0, 0, 0, 0, 1, 0, 3, 0])), Some([0xc0, 0, 8]));
    assert_eq!(place(rig.none(&[0x92, 2, 0, 3, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0])), Some([0xc0, 0, 3]));
}

#[test]
fn motion_reads_a_few_blocks_however_many_objects_it_goes_over() {
    const FILES: u64 = 60;
    const RECORDS: u64 = 499;
    let mut rig = TapeRig::with(cartridge(32 << 20, CartridgeUse::Data, false));
    rig.set_block(1);
    for _ in 0..FILES {
        rig.write(&[0x0a, 1, 0, 1, 0xf3, 0], &record(1, RECORDS as usize)).good();
        rig.none(&[0x10, 1, 0, 0, 1, 0]).good();
    }
    rig.none(&[0x1b, 0, 0, 0, 0, 0]).good();
    let middle = FILES / 2 * (RECORDS + 1);
    let motions: [(Vec<u8>, u64); 5] = [
        ([&[0x2b, 0, 0][..], &(middle as u32).to_be_bytes(), &[0, 0, 0]].concat(), middle),
        ([&[0x92, 8, 0, 0][..], &(FILES / 2).to_be_bytes(), &[0; 4]].concat(), middle),
        ([&[0x91, 1, 0, 0][..], &(FILES / 2).to_be_bytes(), &[0; 4]].concat(), middle),
        ([&[0x91, 0, 0, 0][..], &(RECORDS / 2).to_be_bytes(), &[0; 4]].concat(), RECORDS / 2),
        ([0x11, 3, 0, 0, 0, 0].to_vec(), FILES * (RECORDS + 1)),
    ];
    let mut bytes = rig.bytes;
    for (motion, lba) in motions {
        // Cold: nothing is known but what a mount reads.
        let mut rig = TapeRig::with(bytes);
        rig.none(&[0; 6]).good();
        rig.ops.clear();
        rig.none(&motion).good();
        assert_eq!(rig.position(), (0, lba, lba / (RECORDS + 1)));
        let reads = rig.ops.iter().filter(|op| op.starts_with("read")).count();
        // A run of the index for what is looked for, and one for where the head is.
        assert!(reads <= 2 * 16, "{motion:x?}: {reads} blocks of hundreds");
        bytes = rig.bytes;
    }
}

#[test]
fn read_position_in_its_three_forms() {
    let mut rig = three_files();
    let short = |rig: &mut TapeRig, action| rig.read(&[0x34, action, 0, 0, 0, 0, 0, 0, 0, 0]).good();
    rig.locate(6).good();
    let expected = [0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(short(&mut rig, 0), expected);
    assert_eq!(short(&mut rig, 1), expected);
    let extended = rig.read(&[0x34, 8, 0, 0, 0, 0, 0, 0, 32, 0]).good();
    let mut expected = [0; 32];
    (expected[3], expected[15], expected[23]) = (28, 6, 6);
    assert_eq!(extended, expected);
    assert_eq!(rig.read(&[0x34, 8, 0, 0, 0, 0, 0, 0, 20, 0]).good().len(), 20);
    rig.rewind();
    assert_eq!(short(&mut rig, 0)[0], 0x80, "BOP");
    assert_eq!(rig.read(&[0x34, 2, 0, 0, 0, 0, 0, 0, 0, 0]).why(), (5, asc::INVALID_FIELD_IN_CDB));
}

#[test]
fn motion_makes_what_was_written_stable_first() {
    for motion in [&[0x01, 0, 0, 0, 0, 0][..], &[0x11, 3, 0, 0, 0, 0], &[0x2b, 0, 0, 0, 0, 0, 0, 0, 0, 0]] {
        let mut rig = TapeRig::new();
        rig.write_record(&record(5, 700)).good();
        rig.none(motion).good();
        assert_eq!(rig.ops.last().unwrap(), "flush");
        let mut rig = rig.restarted();
        assert_eq!(rig.read_record(700).good(), record(5, 700));
    }
}

#[test]
fn erase_ends_the_data_at_the_head() {
    for long in [0, 1] {
        let mut rig = three_files();
        rig.locate(6).good();
        rig.none(&[0x19, long, 0, 0, 0, 0]).good();
        assert_eq!(rig.position(), (0, 6, 1));
        let mut rig = rig.restarted();
        rig.space(3, 0).good();
        assert_eq!(rig.position(), (0, 6, 1));
    }
}
