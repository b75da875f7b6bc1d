// SPDX-License-Identifier: GPL-2.0-or-later
//! Commands of 16 bytes, which say where they begin; append-only mode; SET CAPACITY.

use super::*;

/// Two partitions.
fn parted() -> TapeRig {
    let mut rig = TapeRig::new();
    let list = [0, 0, 0x10, 0, 0x11, 14, 3, 1, 0x34, 3, 6, 0, 0, 2, 0xff, 0xff, 0, 0, 0, 0];
    rig.write(&[0x15, 0x10, 0, 0, 20, 0], &list).good();
    rig.none(&[0x04, 0, 1, 0, 0, 0]).good();
    rig
}

#[test]
fn commands_of_16_bytes_begin_where_they_say() {
    let mut rig = parted();
    for partition in 0..2_u8 {
        for number in 0..4 {
            let bytes = record(10 * u64::from(partition) + number, 3000);
            rig.write(&placed(0x8a, 0, (partition, number), 3000), &bytes).good();
        }
        rig.none(&placed(0x80, 0, (partition, 4), 2)).good();
        assert_eq!(rig.position(), (partition.into(), 6, 2));
    }
    for (partition, lba) in [(1, 3), (0, 0), (1, 0), (0, 2)] {
        let read = rig.read(&placed(0x88, 0, (partition, lba), 3000)).good();
        assert!(read == record(10 * u64::from(partition) + lba, 3000), "{partition} {lba}");
    }
    rig.none(&placed(0x93, 0, (0, 3), 0)).good();
    assert_eq!(rig.position(), (0, 3, 0));
    let mut rig = rig.restarted();
    rig.space(3, 0).good();
    assert_eq!(rig.position(), (0, 3, 0));
    rig.none(&[0x2b, 2, 0, 0, 0, 0, 6, 0, 1, 0]).good();
    assert_eq!(rig.position(), (1, 6, 2), "the other partition keeps what it has");
}

#[test]
fn no_command_begins_where_there_is_nothing() {
    let all = [(0x80, 1), (0x81, 100), (0x88, 100), (0x8a, 100), (0x8f, 100), (0x93, 0)];
    for (opcode, len) in all {
        let mut rig = parted();
        rig.write_record(&record(1, 100)).good();
        let out = &[1; 100][..if opcode == 0x8a { 100 } else { 0 }];
        let ended = rig.run(&placed(opcode, 0, (0, 2), len), out, ROOM);
        assert_eq!(ended.why(), (key::BLANK_CHECK, asc::END_OF_DATA_DETECTED), "{opcode:x}");
        let ended = rig.run(&placed(opcode, 0, (2, 0), len), out, ROOM);
        assert_eq!(ended.why(), (key::ILLEGAL_REQUEST, asc::INVALID_FIELD_IN_CDB), "{opcode:x}");
        assert_eq!(ended.sense().specific, Some([0xc0, 0, 3]), "{opcode:x}");
        rig.space(3, 0).good();
        assert_eq!(rig.position(), (0, 1, 0), "{opcode:x}");
    }
}

/// Write mode and short erase mode, for MODE SELECT(6).
fn write_mode(rig: &mut TapeRig, mode: u8) -> TapeEnded {
    let mut list = vec![0, 0, 0x10, 0, 0x50, 1, 0, 28, 0, mode << 4 | 2];
    list.resize(36, 0);
    rig.write(&[0x15, 0x10, 0, 0, 36, 0], &list)
}

fn allow(rig: &mut TapeRig, what: u8, lba: u64) -> TapeEnded {
    let mut cdb = placed(0x82, 0, (0, lba), 0);
    cdb[2] = what;
    rig.none(&cdb)
}

const REFUSED: (u8, u16) = (key::DATA_PROTECT, asc::WORM_MEDIUM_OVERWRITE_ATTEMPTED);

#[test]
fn append_only_mode_keeps_what_is_there_until_an_overwrite_is_allowed() {
    let mut rig = TapeRig::new();
    for number in 0..5 {
        rig.write_record(&record(number, 100)).good();
    }
    assert_eq!(allow(&mut rig, 1, 5).why(), (5, asc::ILLEGAL_COMMAND_WHEN_NOT_IN_APPEND_ONLY_MODE));
    assert_eq!(write_mode(&mut rig, 2).why(), (5, asc::INVALID_FIELD_IN_PARAMETER_LIST));
    write_mode(&mut rig, 1).good();
    rig.write_record(&record(5, 100)).good();
    rig.locate(2).good();
    let overwrites = [&[0x0a, 0, 0, 0, 1, 0], &[0x10, 0, 0, 0, 1, 0], &[0x19, 0, 0, 0, 0, 0]];
    for cdb in overwrites {
        assert_eq!(rig.write(cdb, &[9][..usize::from(cdb[0] == 0x0a)]).why(), REFUSED, "{:x}", cdb[0]);
        assert_eq!(rig.position(), (0, 2, 0));
    }
    // Elsewhere than where the head is, nothing is allowed; what is allowed ends when the head goes elsewhere.
    assert_eq!(allow(&mut rig, 1, 3).why(), (5, asc::SEQUENTIAL_POSITIONING_ERROR));
    assert_eq!(allow(&mut rig, 3, 2).why(), (5, asc::INVALID_FIELD_IN_CDB));
    allow(&mut rig, 1, 2).good();
    rig.locate(2).good();
    assert_eq!(rig.write_record(&[9]).why(), REFUSED);
    allow(&mut rig, 1, 2).good();
    allow(&mut rig, 0, 0).good();
    assert_eq!(rig.write_record(&[9]).why(), REFUSED);
    allow(&mut rig, 1, 2).good();
    rig.write_record(&record(20, 100)).good();
    rig.write_record(&record(21, 100)).good();
    rig.locate(2).good();
    assert_eq!(rig.write_record(&[9]).why(), REFUSED);
    assert!(rig.read_record(100).good() == record(20, 100));
}

#[test]
fn append_only_mode_stays_while_the_cartridge_is_in() {
    let mut rig = TapeRig::new();
    rig.write_record(&record(0, 100)).good();
    write_mode(&mut rig, 1).good();
    let ended = write_mode(&mut rig, 0);
    assert_eq!(ended.why(), (5, asc::INVALID_FIELD_IN_PARAMETER_LIST));
    assert_eq!(ended.sense().specific, Some([0x80, 0, 9]));
    rig.rewind();
    assert_eq!(rig.none(&[0x04, 0, 0, 0, 0, 0]).why(), REFUSED);
    allow(&mut rig, 2, 0).good();
    rig.none(&[0x04, 0, 0, 0, 0, 0]).good();
    rig.none(&[0x1b, 0, 0, 0, 0, 0]).good();
    write_mode(&mut rig, 0).good();
    rig.none(&[0x1b, 0, 0, 0, 1, 0]).good();
    rig.write_record(&record(0, 100)).good();
    rig.rewind();
    rig.write_record(&record(1, 100)).good();
}

#[test]
fn set_capacity_leaves_a_part_of_the_cartridge() {
    let mut rig = TapeRig::new();
    rig.write_record(&record(0, 100)).good();
    let half = [0x0b, 0, 0, 0x80, 0, 0];
    assert_eq!(rig.none(&half).why(), (5, asc::POSITION_PAST_BEGINNING_OF_MEDIUM));
    rig.rewind();
    assert_eq!(rig.none(&[0x0b, 0, 0, 0, 0, 0]).why(), (5, asc::INVALID_FIELD_IN_CDB));
    rig.none(&half).good();
    let capacity = rig.server.unit().report().capacity_bytes.unwrap();
    assert!((4 << 20..(4 << 20) + 128).contains(&capacity), "{capacity}");
    assert_eq!(rig.read_record(9).why(), (key::BLANK_CHECK, asc::END_OF_DATA_DETECTED));
    let mut rig = rig.restarted();
    rig.none(&[0x0b, 0, 0, 0xff, 0xff, 0]).good();
    assert_eq!(rig.server.unit().report().capacity_bytes, Some(8 << 20));
}

#[test]
fn the_cartridge_has_a_serial_number_of_its_own() {
    let mut rig = TapeRig::new();
    let serial = rig.read(&[0xab, 1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0]).good();
    assert_eq!(serial, *b"\0\0\0\x100000000000000007");
    rig.none(&[0x1b, 0, 0, 0, 0, 0]).good();
    assert_eq!(rig.read(&[0xab, 1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0]).why(), (2, asc::MEDIUM_NOT_PRESENT));
    let objects = rig.read(&[0x05, 1, 0, 0, 0, 0]).good();
    assert_eq!((objects.len(), &objects[12..]), (20, &(u64::MAX >> 1).to_be_bytes()[..]));
}

#[test]
fn nothing_is_written_over_after_a_restart_until_the_head_has_been_placed() {
    let restarted = || {
        let mut rig = TapeRig::new();
        rig.write_record(&record(1, 3000)).good();
        rig.write_record(&record(2, 3000)).good();
        rig.none(&[0x1b, 0, 0, 0, 1, 0]).good();
        rig.restarted()
    };
    let writes: [(&[u8], usize); 3] =
        [(&[0x0a, 0, 0, 0, 100, 0], 100), (&[0x10, 0, 0, 0, 1, 0], 0), (&[0x19, 1, 0, 0, 0, 0], 0)];
    for (cdb, len) in writes {
        let mut rig = restarted();
        for _ in 0..4 {
            assert_eq!(rig.write(cdb, &record(9, len)).why(), (5, 0x3b00), "{cdb:02x?}");
        }
        assert_eq!(rig.read_record(3000).good(), record(1, 3000), "{cdb:02x?}");
        rig.write(cdb, &record(9, len)).good();
    }
    let places: [&[u8]; 6] = [
        &[0x01, 0, 0, 0, 0, 0],
        &[0x11, 0, 0, 0, 0, 0],
        &[0x2b, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        &placed(0x92, 0, (0, 0), 0),
        &[0x1b, 0, 0, 0, 1, 0],
        &placed(0x80, 0, (0, 0), 0),
    ];
    for cdb in places {
        let mut rig = restarted();
        rig.none(cdb).good();
        rig.write_record(&record(9, 100)).good();
    }
    let mut blank = TapeRig::new().restarted();
    blank.write_record(&record(1, 100)).good();
}
