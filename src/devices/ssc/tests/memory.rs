// SPDX-License-Identifier: GPL-2.0-or-later
//! The memory of the cartridge.

use std::collections::BTreeMap;

use super::*;

fn ask(action: u8, partition: u8, first: u16, allocation: u32) -> [u8; 16] {
    let mut cdb = [0; 16];
    (cdb[0], cdb[1], cdb[7]) = (0x8c, action, partition);
    cdb[8..10].copy_from_slice(&first.to_be_bytes());
    cdb[10..14].copy_from_slice(&allocation.to_be_bytes());
    cdb
}

/// Identifier, second byte and value of each attribute of a partition.
fn values(rig: &mut TapeRig, partition: u8) -> BTreeMap<u16, (u8, Vec<u8>)> {
    let data = rig.read(&ask(0, partition, 0, 1 << 20)).good();
    assert_eq!(u32::from_be_bytes(data[..4].try_into().unwrap()) as usize, data.len() - 4, "available data");
    let (mut rest, mut found) = (&data[4..], BTreeMap::new());
    while let [high, low, format, length @ ..] = rest {
        let len = usize::from(u16::from_be_bytes([length[0], length[1]]));
        let (value, others) = length[2..].split_at(len);
        let identifier = u16::from_be_bytes([*high, *low]);
        assert!(found.last_key_value().is_none_or(|(last, _)| *last < identifier), "in ascending order");
        found.insert(identifier, (*format, value.to_vec()));
        rest = others;
    }
    found
}

fn number(rig: &mut TapeRig, partition: u8, identifier: u16) -> u64 {
    let (format, value) = values(rig, partition)[&identifier].clone();
    assert_eq!(format, 0x80, "a number that cannot be written");
    value.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn entry(identifier: u16, format: u8, value: &[u8]) -> Vec<u8> {
    let mut entry = identifier.to_be_bytes().to_vec();
    entry.push(format);
    entry.extend((value.len() as u16).to_be_bytes());
    entry.extend(value);
    entry
}

fn write(rig: &mut TapeRig, partition: u8, entries: &[Vec<u8>]) -> TapeEnded {
    let body = entries.concat();
    let mut list = (body.len() as u32).to_be_bytes().to_vec();
    list.extend(body);
    write_list(rig, partition, &list)
}

fn write_list(rig: &mut TapeRig, partition: u8, list: &[u8]) -> TapeEnded {
    let mut cdb = [0; 16];
    (cdb[0], cdb[1], cdb[7]) = (0x8d, 1, partition);
    cdb[10..14].copy_from_slice(&(list.len() as u32).to_be_bytes());
    rig.write(&cdb, list)
}

#[test]
fn a_cartridge_says_what_it_is() {
    let mut rig = TapeRig::new();
    let found = values(&mut rig, 0);
    let text = |identifier: u16| String::from_utf8(found[&identifier].1.clone()).unwrap();
    assert_eq!(text(0x0005), "LTO-CVE ");
    assert_eq!(text(0x0401).trim_end(), "0000000000000007");
    assert_eq!(text(0x0806), format!("{:<32}", "A00001L8"));
    assert_eq!(text(0x020a), format!("PTGT    {:<32}", "T-1"));
    assert_eq!(found[&0x0405], (0x80, vec![0x5e]));
    assert_eq!(found[&0x0402], (0x80, vec![0, 0, 3, 0xc0]), "960 m");
    assert_eq!(found[&0x0408], (0x80, vec![0]));
    assert_eq!((number(&mut rig, 0, 0), number(&mut rig, 0, 1)), (8, 8));
    let ids =
        |data: Vec<u8>| data[4..].chunks(2).map(|id| u16::from_be_bytes([id[0], id[1]])).collect::<Vec<_>>();
    let listed = ids(rig.read(&ask(1, 0, 0, 4096)).good());
    assert!(listed.iter().eq(found.keys()));
    let supported = ids(rig.read(&ask(5, 0, 0, 4096)).good());
    for identifier in listed.iter().copied().chain((0x0800..=0x080c).filter(|id| *id != 0x080d)) {
        assert!(supported.contains(&identifier), "{identifier:x}");
    }
    assert!(supported.is_sorted());
    assert_eq!(rig.read(&ask(2, 0, 0, 99)).good(), [0, 2, 0, 1]);
    assert_eq!(rig.read(&ask(3, 0, 0, 99)).good(), [0, 2, 0, 1]);
    let mut worm = TapeRig::with(cartridge(1 << 20, CartridgeUse::Worm, false));
    assert_eq!(values(&mut worm, 0)[&0x0408], (0x80, vec![0x80]));
}

#[test]
fn what_is_asked_for_and_not_there_is_told() {
    let mut rig = TapeRig::new();
    let invalid = (5, asc::INVALID_FIELD_IN_CDB);
    for (cdb, byte) in
        [(ask(0, 0, 0x080c, 99), 8), (ask(0, 0, 0x9999, 99), 8), (ask(0, 1, 0, 99), 7), (ask(4, 0, 0, 99), 1)]
    {
        let ended = rig.read(&cdb);
        assert_eq!(ended.why(), invalid);
        assert_eq!(ended.sense().specific.unwrap()[2], byte);
    }
    // From one of them on, and no more than there is room for.
    let data = rig.read(&ask(0, 0, 0x0401, 20)).good();
    assert_eq!((data.len(), &data[4..6]), (20, &[4, 1][..]));
    rig.none(&[0x1b, 0, 0, 0, 0, 0]).good();
    assert_eq!(rig.read(&ask(0, 0, 0, 99)).why(), (2, asc::MEDIUM_NOT_PRESENT));
}

#[test]
fn what_hosts_write_outlives_restart_and_unload() {
    let mut rig = TapeRig::new();
    let coherency: Vec<u8> = (0..70).collect();
    let entries = [
        entry(0x0800, 1, b"OPEN"),
        entry(0x0801, 1, b"LTFS"),
        entry(0x0803, 2, b"label"),
        entry(0x080c, 0, &coherency),
        entry(0x1623, 0, &[1]),
    ];
    rig.ops.clear();
    write(&mut rig, 0, &entries).good();
    assert!(rig.ops.iter().any(|op| op == "flush"), "stable before the status: {:?}", rig.ops);
    for unload in [false, true] {
        if unload {
            rig.none(&[0x1b, 0, 0, 0, 0, 0]).good();
        }
        rig = rig.restarted();
        let found = values(&mut rig, 0);
        assert_eq!(found[&0x0800], (1, b"OPEN    ".to_vec()));
        assert_eq!(found[&0x0801].1, format!("{:<32}", "LTFS").into_bytes());
        assert_eq!((found[&0x0803].1.len(), &found[&0x0803].1[..6]), (160, &b"label\0"[..]));
        assert_eq!(found[&0x080c], (0, coherency.clone()));
        assert_eq!(found[&0x1623], (0, vec![1]));
    }
    // Without a value it is no more. LTFS counts the length with the list.
    let mut list = vec![0, 0, 0, 9];
    list.extend(entry(0x1623, 0, b""));
    write_list(&mut rig, 0, &list).good();
    assert!(!values(&mut rig, 0).contains_key(&0x1623));
}

#[test]
fn attributes_are_changed_all_or_none() {
    let mut rig = TapeRig::new();
    write(&mut rig, 0, &[entry(0x0805, 0, &[3])]).good();
    let good = entry(0x0805, 0, &[4]);
    let wrong = (5, asc::INVALID_FIELD_IN_PARAMETER_LIST);
    for (bad, at) in [
        (entry(0x0001, 0, &[0; 8]), 0),
        (entry(0x0401, 1, b"mine"), 0),
        (entry(0x0900, 0, &[0]), 0),
        (entry(0x0800, 0, b"OPEN    "), 2),
        (entry(0x0800, 1, b"TOO LONG!"), 3),
        (entry(0x080a, 0, &[1, 2]), 3),
    ] {
        let ended = write(&mut rig, 0, &[good.clone(), bad]);
        assert_eq!(ended.why(), wrong);
        assert_eq!(ended.sense().specific, Some([0x80, 0, 10 + at]));
        assert_eq!(values(&mut rig, 0)[&0x0805].1, [3]);
    }
    let short = (5, asc::PARAMETER_LIST_LENGTH_ERROR);
    assert_eq!(write_list(&mut rig, 0, &[0, 0, 0, 5, 8, 5, 0, 0, 2, 1]).why(), short);
    assert_eq!(write_list(&mut rig, 0, &[0, 0, 0, 1, 8, 5, 0, 0, 1, 1]).why(), short);
    assert_eq!(write_list(&mut rig, 0, &[0, 0]).why(), short);
    // More than there is room for.
    let large: Vec<_> = (0x1400..0x1408).map(|id| entry(id, 0, &[5; 8000])).collect();
    write(&mut rig, 0, &large).good();
    let large: Vec<_> = (0x1500..0x1508).map(|id| entry(id, 0, &[5; 8000])).collect();
    write(&mut rig, 0, &large).good();
    let ended = write(&mut rig, 0, &[entry(0x1600, 0, &[5; 8000])]);
    assert_eq!(ended.why(), (5, asc::AUXILIARY_MEMORY_OUT_OF_SPACE));
}

#[test]
fn attributes_that_the_store_does_not_take_are_as_they_were() {
    let mut rig = TapeRig::new();
    write(&mut rig, 0, &[entry(0x0805, 0, &[3])]).good();
    rig.fault = Some(ErrorKind::WriteFailed);
    assert_eq!(write(&mut rig, 0, &[entry(0x0805, 0, &[4])]).why(), (key::MEDIUM_ERROR, asc::WRITE_ERROR));
    rig.fault = None;
    assert_eq!(values(&mut rig, 0)[&0x0805].1, [3]);
    write(&mut rig, 0, &[entry(0x0805, 0, &[5])]).good();
    assert_eq!(values(&mut rig.restarted(), 0)[&0x0805].1, [5]);
}

#[test]
fn a_protected_cartridge_keeps_its_memory() {
    let mut rig = TapeRig::with(cartridge(1 << 20, CartridgeUse::Data, true));
    let before = rig.bytes.clone();
    let refused = (key::DATA_PROTECT, asc::WRITE_PROTECTED);
    assert_eq!(write(&mut rig, 0, &[entry(0x0805, 0, &[4])]).why(), refused);
    rig.none(&[0x1b, 0, 0, 0, 0, 0]).good();
    assert!(rig.bytes == before);
}

#[test]
fn partitions_have_attributes_of_their_own() {
    let mut rig = TapeRig::new();
    let list = [0, 0, 0x10, 0, 0x11, 14, 3, 1, 0x34, 3, 6, 0, 0, 2, 0xff, 0xff, 0, 0, 0, 0];
    rig.write(&[0x15, 0x10, 0, 0, 20, 0], &list).good();
    rig.none(&[0x04, 0, 1, 0, 0, 0]).good();
    write(&mut rig, 0, &[entry(0x080c, 0, &[1]), entry(0x0808, 2, b"pool")]).good();
    write(&mut rig, 1, &[entry(0x080c, 0, &[2])]).good();
    let [first, second] = [0, 1].map(|partition| values(&mut rig, partition));
    assert_eq!((first[&0x080c].1[0], second[&0x080c].1[0]), (1, 2));
    assert_eq!(first[&0x0808], second[&0x0808]);
    assert_eq!((number(&mut rig, 0, 1), number(&mut rig, 1, 1)), (2, 6), "2 MiB of 8, and the rest");
    assert_eq!(rig.read(&ask(3, 0, 0, 99)).good(), [0, 2, 0, 2]);
}

#[test]
fn the_change_reference_changes_with_the_first_write_of_a_load_and_with_nothing_else() {
    let mut rig = TapeRig::new();
    let reference = |rig: &mut TapeRig| number(rig, 0, 9);
    assert_eq!(values(&mut rig, 0)[&9].1.len(), 4);
    rig.write_record(&record(0, 100)).good();
    let first = reference(&mut rig);
    assert_ne!(first, 0);
    rig.write_record(&record(1, 5000)).good();
    rig.filemarks(1);
    write(&mut rig, 0, &[entry(0x0805, 0, &[3])]).good();
    rig.rewind();
    rig.read_record(100).good();
    for reload in 0..3 {
        assert_eq!(reference(&mut rig), first, "{reload}");
        rig.none(&[0x1b, 0, 0, 0, 0, 0]).good();
        rig.none(&[0x1b, 0, 0, 0, 1, 0]).good();
    }
    rig = rig.restarted();
    assert_eq!(reference(&mut rig), first);
    rig.space(3, 0).good();
    rig.write_record(&record(2, 100)).good();
    let second = reference(&mut rig);
    assert!(second > first);
    rig.rewind();
    rig.none(&[0x04, 0, 0, 0, 0, 0]).good();
    assert!(reference(&mut rig) > second);
}

#[test]
fn the_life_of_a_cartridge_is_kept_when_it_goes_out() {
    let mut rig = TapeRig::new();
    for load in 1..4 {
        assert_eq!(number(&mut rig, 0, 3), load, "loads");
        rig.space(3, 0).good();
        rig.write_record(&record(load, 1 << 20)).good();
        rig.rewind();
        rig.read_record(1 << 20).good();
        let megabytes = [0x220, 0x221, 0x222, 0x223].map(|id| number(&mut rig, 0, id));
        assert_eq!(megabytes, [load, load, 1, 1]);
        rig.none(&[0x1b, 0, 0, 0, 0, 0]).good();
        rig = rig.restarted();
    }
    let found = values(&mut rig, 0);
    assert!(found[&0x020d].1.starts_with(b"PTGT    T-1"), "the fourth load");
    write(&mut rig, 0, &[entry(0x0805, 0, &[3])]).good();
    rig.none(&[0x1b, 0, 0, 0, 0, 0]).good();
    assert_eq!(values(&mut rig.restarted(), 0)[&0x0805].1, [3], "hosts' attributes stay");
}
