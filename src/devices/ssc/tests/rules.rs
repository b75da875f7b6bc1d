// SPDX-License-Identifier: GPL-2.0-or-later
//! What sense data says of lengths, filemarks and ends, as it goes over the wire in either format: each rule for every
//! command that it is about.

use super::*;

/// What an initiator reads in sense data.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    key: u8,
    code: u16,
    information: Option<i64>,
    filemark: bool,
    eom: bool,
    ili: bool,
}

impl Told {
    const NOTHING: Self =
        Self { key: 0, code: 0, information: None, filemark: false, eom: false, ili: false };

    fn bits(&mut self, bits: u8) {
        (self.filemark, self.eom, self.ili) = (bits & 0x80 != 0, bits & 0x40 != 0, bits & 0x20 != 0);
    }

    fn of_fixed(bytes: &[u8]) -> Self {
        assert_eq!(bytes[0] & 0x7f, 0x70);
        let code = u16::from_be_bytes([bytes[12], bytes[13]]);
        let mut told = Self { key: bytes[2] & 0xf, code, ..Self::NOTHING };
        let information = i32::from_be_bytes(bytes[3..7].try_into().unwrap());
        told.information = (bytes[0] & 0x80 != 0).then_some(information.into());
        told.bits(bytes[2]);
        told
    }

    fn of_descriptors(bytes: &[u8]) -> Self {
        assert_eq!(bytes[0], 0x72);
        let mut told =
            Self { key: bytes[1], code: u16::from_be_bytes([bytes[2], bytes[3]]), ..Self::NOTHING };
        let mut rest = &bytes[8..];
        while let [kind, len, value @ ..] = rest {
            match kind {
                0 => told.information = Some(i64::from_be_bytes(value[2..10].try_into().unwrap())),
                4 => told.bits(value[1]),
                _ => {}
            }
            rest = &value[usize::from(*len)..];
        }
        told
    }
}

/// The same in both formats.
#[track_caller]
fn told(ended: &TapeEnded) -> Told {
    let sense = ended.sense();
    let fixed = Told::of_fixed(&sense.encode(false));
    assert_eq!(fixed, Told::of_descriptors(&sense.encode(true)));
    fixed
}

/// Commands that read records, of that length or so many of them, in front of an object.
#[derive(Clone, Copy, Debug)]
enum Reading {
    Read6,
    Read16,
    Verify6,
    Verify16,
}

const READINGS: [Reading; 4] = [Reading::Read6, Reading::Read16, Reading::Verify6, Reading::Verify16];

impl Reading {
    fn sends(self) -> bool {
        matches!(self, Self::Read6 | Self::Read16)
    }

    /// Begins in front of that object.
    fn run(self, rig: &mut TapeRig, flags: u8, lba: u64, len: usize) -> TapeEnded {
        match self {
            Self::Read6 | Self::Verify6 => {
                rig.locate(lba as u32).good();
                let opcode = if self.sends() { 0x08 } else { 0x13 };
                rig.read(&with_length([opcode, flags, 0, 0, 0, 0], len))
            }
            Self::Read16 | Self::Verify16 => {
                let opcode = if self.sends() { 0x88 } else { 0x8f };
                rig.read(&placed(opcode, flags, (0, lba), len))
            }
        }
    }
}

/// Two records of 1000 bytes and one of 700, a filemark, a record of 1000.
fn mixed() -> TapeRig {
    let mut rig = TapeRig::new();
    for (number, len) in [1000, 1000, 700].into_iter().enumerate() {
        rig.write_record(&record(number as u64, len)).good();
    }
    rig.filemarks(1);
    rig.write_record(&record(4, 1000)).good();
    rig
}

#[test]
fn a_longer_record_gives_a_negative_difference_and_the_bytes_that_were_asked_for() {
    for reading in READINGS {
        let mut rig = mixed();
        let ended = reading.run(&mut rig, 0, 0, 400);
        assert_eq!(told(&ended), Told { information: Some(-600), ili: true, ..Told::NOTHING }, "{reading:?}");
        assert_eq!(ended.data.len(), if reading.sends() { 400 } else { 0 });
        assert_eq!(rig.position().1, 1, "behind it");
    }
}

#[test]
fn a_shorter_record_gives_a_positive_difference() {
    for reading in READINGS {
        let mut rig = mixed();
        let ended = reading.run(&mut rig, 0, 2, 1000);
        assert_eq!(told(&ended), Told { information: Some(300), ili: true, ..Told::NOTHING }, "{reading:?}");
        assert_eq!(ended.data.len(), if reading.sends() { 700 } else { 0 });
        assert_eq!(rig.position().1, 3);
    }
}

#[test]
fn fixed_records_count_what_was_not_read_at_a_record_of_another_length() {
    for reading in READINGS {
        for (block, lba, count, left) in [(1000, 0, 5, 3), (700, 2, 3, 2), (700, 0, 2, 2)] {
            let mut rig = mixed();
            rig.set_block(block);
            let ended = reading.run(&mut rig, 1, lba, count);
            let expected = match (block, lba) {
                // The record is as long as it should be: the filemark ends it.
                (700, 2) => Told {
                    code: asc::FILEMARK_DETECTED,
                    information: Some(left),
                    filemark: true,
                    ..Told::NOTHING
                },
                _ => Told { information: Some(left), ili: true, ..Told::NOTHING },
            };
            assert_eq!(told(&ended), expected, "{reading:?} {block}");
        }
    }
}

#[test]
fn a_filemark_gives_what_was_not_read_and_is_passed() {
    for reading in READINGS {
        let mut rig = mixed();
        let mark = |left| Told {
            code: asc::FILEMARK_DETECTED,
            information: Some(left),
            filemark: true,
            ..Told::NOTHING
        };
        assert_eq!(told(&reading.run(&mut rig, 0, 3, 1000)), mark(1000), "{reading:?}");
        assert_eq!(rig.position().1, 4);
        rig.set_block(1000);
        assert_eq!(told(&reading.run(&mut rig, 1, 3, 7)), mark(7), "{reading:?}");
    }
}

#[test]
fn the_end_of_data_gives_what_was_not_read_and_is_not_passed() {
    for reading in READINGS {
        let mut rig = mixed();
        let end = |left| Told {
            key: key::BLANK_CHECK,
            code: asc::END_OF_DATA_DETECTED,
            information: Some(left),
            ..Told::NOTHING
        };
        assert_eq!(told(&reading.run(&mut rig, 0, 5, 1000)), end(1000), "{reading:?}");
        assert_eq!(rig.position().1, 5);
        rig.set_block(1000);
        assert_eq!(told(&reading.run(&mut rig, 1, 4, 7)), end(6), "{reading:?}");
    }
}

#[test]
fn fixed_transfers_need_a_block_length() {
    for reading in READINGS {
        let ended = reading.run(&mut mixed(), 1, 0, 1);
        assert_eq!(ended.why(), (key::ILLEGAL_REQUEST, asc::INVALID_FIELD_IN_CDB), "{reading:?}");
    }
    let mut rig = mixed();
    for cdb in [&[0x0a, 1, 0, 0, 1, 0][..], &placed(0x8a, 1, (0, 5), 1)] {
        assert_eq!(rig.write(cdb, &[1; 9]).why(), (key::ILLEGAL_REQUEST, asc::INVALID_FIELD_IN_CDB));
    }
    assert_eq!(rig.position().1, 5, "nothing was written");
}

/// READ REVERSE from behind an object.
fn reverse(rig: &mut TapeRig, long: bool, flags: u8, lba: u64, len: usize) -> TapeEnded {
    if long {
        return rig.read(&placed(0x81, flags, (0, lba), len));
    }
    rig.locate(lba as u32).good();
    rig.read(&with_length([0x0f, flags, 0, 0, 0, 0], len))
}

#[test]
fn read_reverse_gives_records_as_they_were_written_and_stops_like_read() {
    for long in [false, true] {
        let mut rig = mixed();
        assert!(reverse(&mut rig, long, 0, 5, 1000).good() == record(4, 1000));
        assert_eq!(rig.position().1, 4);
        let ended = reverse(&mut rig, long, 0, 4, 1000);
        let (code, information) = (asc::FILEMARK_DETECTED, Some(1000));
        assert_eq!(told(&ended), Told { code, information, filemark: true, ..Told::NOTHING });
        assert_eq!(rig.position().1, 3, "in front of it");
        let ended = reverse(&mut rig, long, 0, 3, 1000);
        assert_eq!(told(&ended), Told { information: Some(300), ili: true, ..Told::NOTHING });
        let ended = reverse(&mut rig, long, 0, 2, 400);
        assert_eq!(told(&ended), Told { information: Some(-600), ili: true, ..Told::NOTHING });
        assert_eq!(rig.position().1, 1);
        // Several of one length, to the beginning.
        rig.set_block(1000);
        let ended = reverse(&mut rig, long, 1, 2, 5);
        assert!(ended.data == [record(1, 1000), record(0, 1000)].concat());
        let code = asc::BEGINNING_OF_PARTITION_DETECTED;
        assert_eq!(told(&ended), Told { code, information: Some(3), eom: true, ..Told::NOTHING });
        assert_eq!(rig.position().1, 0);
    }
    // Bytes within a record are never turned round.
    assert_eq!(reverse(&mut mixed(), false, 4, 5, 1000).why(), (5, asc::INVALID_FIELD_IN_CDB));
}

#[test]
fn verify_goes_over_filemarks_or_to_the_end_and_finds_damage() {
    for (opcode, long) in [(0x13, false), (0x8f, true)] {
        let verify = |rig: &mut TapeRig, flags: u8, len: usize| {
            rig.rewind();
            match long {
                true => rig.none(&placed(opcode, flags, (0, 0), len)),
                false => rig.none(&with_length([opcode, flags, 0, 0, 0, 0], len)),
            }
        };
        let mut rig = mixed();
        verify(&mut rig, 0x08, 1).good();
        assert_eq!(rig.position(), (0, 4, 1));
        let ended = verify(&mut rig, 0x08, 3);
        let (key, code) = (key::BLANK_CHECK, asc::END_OF_DATA_DETECTED);
        assert_eq!(told(&ended), Told { key, code, information: Some(2), ..Told::NOTHING });
        verify(&mut rig, 0x20, 0).good();
        assert_eq!(rig.position(), (0, 5, 1));
        // One way or the other, and nothing is compared with what the initiator has.
        assert_eq!(verify(&mut rig, 0x28, 1).why(), (5, asc::INVALID_FIELD_IN_CDB));
        assert_eq!(verify(&mut rig, 0x02, 1).why(), (5, asc::INVALID_FIELD_IN_CDB));
        for len in [1000, 50_000] {
            let mut rig = TapeRig::new();
            for number in 0..20 {
                rig.write_record(&record(number, len)).good();
            }
            rig.none(&[0x1b, 0, 0, 0, 0, 0]).good();
            let pattern = &record(1, len)[..200];
            let at = rig.bytes.windows(200).position(|bytes| bytes == pattern).unwrap();
            rig.bytes[at + 50] ^= 1;
            let mut rig = rig.restarted();
            assert_eq!(verify(&mut rig, 0x20, 0).why(), (key::MEDIUM_ERROR, asc::UNRECOVERED_READ_ERROR));
            if len > 4096 {
                // It is one record that is damaged, and not the block with its neighbours.
                verify(&mut rig, 0, len).good();
            }
        }
    }
}

#[test]
fn a_programmable_early_warning_is_told_once_where_it_begins() {
    let mut rig = TapeRig::with(cartridge(64 << 20, CartridgeUse::Data, false));
    let write = |rig: &mut TapeRig| {
        let ended = rig.write_record(&[7; 1 << 20]);
        (ended.outcome.status == Status::CheckCondition).then(|| told(&ended))
    };
    // 20 MB in front of the early warning.
    let mut list = vec![0, 0, 0x10, 0, 0x50, 1, 0, 28, 0, 2, 0, 20];
    list.resize(36, 0);
    rig.write(&[0x15, 0x10, 0, 0, 36, 0], &list).good();
    let warned: Vec<_> = (0..63).filter_map(|number| write(&mut rig).map(|told| (number, told))).collect();
    let expected = |code| Told { code, information: Some(0), eom: true, ..Told::NOTHING };
    assert_eq!(warned[0].1, expected(asc::PROGRAMMABLE_EARLY_WARNING_DETECTED));
    assert!((42..45).contains(&warned[0].0), "{}", warned[0].0);
    assert_eq!(warned[1].1, expected(asc::END_OF_PARTITION), "once, and then the other");
    assert!(warned[1].0 >= 61);
    let flags = |rig: &mut TapeRig| rig.read(&[0x34, 0, 0, 0, 0, 0, 0, 0, 0, 0]).good()[0];
    assert_eq!(flags(&mut rig), 0x41, "EOP, BPEW");
    rig.locate(50).good();
    assert_eq!(flags(&mut rig), 0x01, "of the position, not of the end of the data");
    rig.locate(10).good();
    assert_eq!(flags(&mut rig), 0);
}
