// SPDX-License-Identifier: GPL-2.0-or-later
//! Log pages.

use std::collections::BTreeMap;

use super::*;

/// The parameters of a page.
fn page(rig: &mut TapeRig, page: u8) -> BTreeMap<u16, Vec<u8>> {
    let data = rig.read(&[0x4d, 0, 0x40 | page, 0, 0, 0, 0, 0x40, 0, 0]).good();
    assert_eq!((data[0], data[1]), (page, 0));
    assert_eq!(usize::from(u16::from_be_bytes([data[2], data[3]])), data.len() - 4);
    let (mut rest, mut found) = (&data[4..], BTreeMap::new());
    while let [high, low, _, len, tail @ ..] = rest {
        let (value, others) = tail.split_at(usize::from(*len));
        let code = u16::from_be_bytes([*high, *low]);
        assert!(found.last_key_value().is_none_or(|(last, _)| *last < code), "in ascending order");
        found.insert(code, value.to_vec());
        rest = others;
    }
    found
}

fn number(page: &BTreeMap<u16, Vec<u8>>, code: u16) -> u64 {
    page[&code].iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[test]
fn every_page_of_the_list_is_there_with_and_without_a_cartridge() {
    let mut rig = TapeRig::new();
    let pages = rig.read(&[0x4d, 0, 0x40, 0, 0, 0, 0, 1, 0, 0]).good();
    for wanted in [2, 3, 0x0c, 0x11, 0x12, 0x14, 0x16, 0x17, 0x1b, 0x2e, 0x30, 0x31, 0x32, 0x3e] {
        assert!(pages[4..].contains(&wanted), "{wanted:x}");
    }
    for state in 0..3 {
        match state {
            0 => {}
            1 => _ = rig.none(&[0; 6]).good(),
            _ => _ = rig.none(&[0x1b, 0, 0, 0, 0, 0]).good(),
        }
        for code in pages[5..].iter().copied() {
            page(&mut rig, code);
            // Default values, too.
            rig.read(&[0x4d, 0, 0xc0 | code, 0, 0, 0, 0, 0x40, 0, 0]).good();
        }
        assert_eq!(
            number(&page(&mut rig, 0x17), 0),
            u64::from(state == 1),
            "valid while there is a cartridge"
        );
    }
}

#[test]
fn bytes_and_records_are_counted() {
    let mut rig = TapeRig::new();
    for number in 0..3 {
        rig.write_record(&record(number, 1_000_000)).good();
    }
    rig.rewind();
    rig.read_record(1_000_000).good();
    rig.read(&[0x08, 2, 0, 4, 0, 0]).good();
    let sequential = page(&mut rig, 0x0c);
    assert_eq!(
        [0, 1, 2, 3].map(|code| number(&sequential, code)),
        [3_000_000, 3_000_000, 2_000_000, 1_001_024]
    );
    let volume = page(&mut rig, 0x17);
    assert_eq!([1, 2, 7, 0xe, 0xf].map(|code| number(&volume, code)), [1, 3, 2, 3, 1]);
    let compression = page(&mut rig, 0x1b);
    assert_eq!([0, 1, 6, 7, 8].map(|code| number(&compression, code)), [50, 100, 3, 0, 3]);
    assert_eq!(compression, page(&mut rig, 0x32));
    // The next load begins anew, and the drive's own counters go on.
    rig.none(&[0x1b, 0, 0, 0, 0, 0]).good();
    rig.none(&[0x1b, 0, 0, 0, 1, 0]).good();
    rig.none(&[0; 6]).good();
    let volume = page(&mut rig, 0x17);
    assert_eq!([1, 2, 0xe].map(|code| number(&volume, code)), [2, 0, 0]);
    assert_eq!(number(&page(&mut rig, 0x0c), 0), 3_000_000);
    assert_eq!(number(&page(&mut rig, 0x14), 0), 2);
}

#[test]
fn capacities_of_partitions_are_as_ltfs_reads_them() {
    let mut rig = TapeRig::with(cartridge(64 << 20, CartridgeUse::Data, false));
    let list = [0, 0, 0x10, 0, 0x11, 14, 3, 1, 0x34, 3, 6, 0, 0, 20, 0xff, 0xff, 0, 0, 0, 0];
    rig.write(&[0x15, 0x10, 0, 0, 20, 0], &list).good();
    rig.none(&[0x04, 0, 1, 0, 0, 0]).good();
    for number in 0..5 {
        rig.write_record(&record(number, 1 << 20)).good();
    }
    let volume = page(&mut rig, 0x17);
    let records = |code: u16| {
        let value = &volume[&code];
        assert_eq!(value.len(), 16, "exactly two");
        let record = |at: usize| {
            assert_eq!(value[at..at + 4], [7, 0, 0, (at / 8) as u8]);
            u32::from_be_bytes(value[at + 4..at + 8].try_into().unwrap())
        };
        [record(0), record(8)]
    };
    assert_eq!(records(0x202), [20, 46], "20 MiB and 44 MiB in units of 10^6");
    assert_eq!(records(0x203), [5, 0]);
    assert_eq!(records(0x204), [15, 44]);
    let vendor = page(&mut rig, 0x31);
    assert_eq!([1, 2, 3, 4].map(|code| number(&vendor, code)), [14, 44, 20, 44], "in MiB");
    assert!(vendor.values().all(|value| value.len() == 4));
}

#[test]
fn alerts_are_raised_by_errors_and_cleared_when_they_are_told() {
    let raised = |rig: &mut TapeRig| -> Vec<u16> {
        let all = page(rig, 0x2e);
        assert_eq!(all.len(), 64);
        all.into_iter().filter(|(_, value)| value == &[1]).map(|(flag, _)| flag).collect()
    };
    let mut rig = TapeRig::new();
    rig.write_record(&record(0, 30_000)).good();
    assert_eq!(raised(&mut rig), [0; 0]);
    rig.fault = Some(ErrorKind::WriteFailed);
    assert_eq!(rig.write_record(&record(1, 30_000)).why().0, key::MEDIUM_ERROR);
    rig.fault = None;
    assert_eq!(rig.server.unit().report().alerts, [3, 6]);
    assert_eq!(page(&mut rig, 0x12)[&0], [0x24, 0, 0, 0, 0, 0, 0, 0], "and not cleared by that");
    assert_eq!(raised(&mut rig), [3, 6]);
    assert_eq!(raised(&mut rig), [0; 0]);
    let mut worm = TapeRig::with(cartridge(1 << 20, CartridgeUse::Worm, false));
    worm.write_record(&[1]).good();
    worm.rewind();
    assert_eq!(worm.write_record(&[1]).why().0, key::DATA_PROTECT);
    assert_eq!(raised(&mut worm), [60]);
    // Another cartridge has none, and the memory of the last keeps its own.
    assert_eq!(worm.write_record(&[1]).why().0, key::DATA_PROTECT);
    worm.none(&[0x1b, 0, 0, 0, 0, 0]).good();
    worm.none(&[0x1b, 0, 0, 0, 1, 0]).good();
    worm.none(&[0; 6]).good();
    assert_eq!(raised(&mut worm), [0; 0]);
    let kept = worm.read(&[0x8c, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 17, 0, 0]).good();
    assert_eq!(kept[4..], [0, 2, 0x80, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0x10]);
    let mut other = TapeRig::with(record(3, 8 << 20));
    assert_eq!(other.none(&[0; 6]).why().0, key::MEDIUM_ERROR);
    assert_eq!(raised(&mut other), [12]);
}
