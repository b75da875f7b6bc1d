// SPDX-License-Identifier: GPL-2.0-or-later
//! Drives that one can buy: what the table makes of them, and the layouts that LTFS reads at fixed places.

use super::*;
use crate::formats::tape::MODELS;

fn drive(personality: &'static Personality, bytes: Vec<u8>) -> TapeRig {
    let identity = options().identity.renamed(personality.inquiry.map(Some)).unwrap();
    let density = personality.own_density();
    TapeRig::set_up(TapeOptions { identity, personality, density, ..options() }, bytes)
}

fn called(name: &str) -> &'static Personality {
    PERSONALITIES.iter().find(|known| known.name == name).expect("a name of the table")
}

/// A cartridge of that density.
fn of_density(density: u8, purpose: CartridgeUse) -> Vec<u8> {
    let capacity = 4 << 20;
    let cartridge =
        Cartridge { identity: 7, density, purpose, write_protected: false, capacity, barcode: String::new() };
    written(TapeImage::create(cartridge, &[capacity]).unwrap(), capacity)
}

#[test]
fn every_row_of_the_table_makes_a_whole_drive() {
    let mut names: Vec<_> = PERSONALITIES.iter().map(|known| known.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), PERSONALITIES.len());
    for personality in PERSONALITIES {
        let mut rig = drive(personality, vec![0; 16 << 20]);
        let inquiry = rig.read(&[0x12, 0, 0, 0, 96, 0]).good();
        let [vendor, product, revision] = personality.inquiry;
        let expected = format!("{vendor:<8}{product:<16}{revision:<4}");
        assert_eq!(String::from_utf8_lossy(&inquiry[8..36]), expected);
        assert_eq!(inquiry[5] & 0x01, 0x01, "PROTECT: there is logical block protection");
        // Every page that is listed is there, and no other is.
        let pages = rig.read(&[0x12, 1, 0, 0, 96, 0]).good();
        for page in 0..=u8::MAX {
            let ended = rig.read(&[0x12, 1, page, 0, 255, 0]);
            match pages[4..].contains(&page) {
                true => assert_eq!(ended.good()[1], page),
                false => assert_eq!(ended.why(), (5, asc::INVALID_FIELD_IN_CDB), "{page:x}"),
            }
        }
        let mode = rig.read(&[0x5a, 8, 0x3f, 0xff, 0, 0, 0, 4, 0, 0]).good();
        assert_eq!(mode.len(), 2 + usize::from(u16::from_be_bytes([mode[0], mode[1]])));
        assert!(mode[8..].len() > 100);
        // An empty store becomes a cartridge that it writes.
        rig.write_record(&[1]).good();
        let own = rig.read(&[0x44, 1, 0, 0, 0, 0, 0, 4, 0, 0]).good();
        assert_eq!((own[4], own[6] & 0xa0), (rig.server.unit().options().density, 0xa0));
    }
}

#[test]
fn drives_take_the_cartridges_of_their_generations() {
    // Of LTO-5 to 9: which generations are read, and which are written.
    let table: [(u8, &[&str], &[&str]); 5] = [
        (5, &["lto3"], &["lto4", "lto5"]),
        (6, &["lto4"], &["lto5", "lto6"]),
        (7, &["lto5"], &["lto6", "lto7"]),
        (8, &[], &["lto7", "lto7m", "lto8"]),
        (9, &[], &["lto8", "lto9"]),
    ];
    for (generation, reads, writes) in table {
        let of_it = |known: &&Personality| known.name.ends_with(&generation.to_string());
        for personality in PERSONALITIES.iter().filter(of_it) {
            for model in MODELS {
                let mut rig = drive(personality, of_density(model.density, CartridgeUse::Data));
                let ended = rig.none(&[0; 6]);
                if !reads.contains(&model.name) && !writes.contains(&model.name) {
                    let why = (key::MEDIUM_ERROR, asc::CANNOT_READ_MEDIUM_INCOMPATIBLE_FORMAT);
                    assert_eq!(ended.why(), why, "{} {}", personality.name, model.name);
                    assert_eq!(rig.server.unit().report().alerts, [12]);
                    continue;
                }
                ended.good();
                let ended = rig.write_record(&[1]);
                match writes.contains(&model.name) {
                    true => assert_eq!(ended.good(), [0; 0]),
                    false => assert_eq!(ended.why(), (key::DATA_PROTECT, asc::WRITE_PROTECTED)),
                }
            }
            let densities =
                drive(personality, vec![0; 8 << 20]).read(&[0x44, 0, 0, 0, 0, 0, 0, 4, 0, 0]).good();
            let rows: Vec<_> = densities[4..].chunks(52).map(|row| (row[0], row[2] & 0x80 != 0)).collect();
            let density = |name: &&str| MODELS.iter().find(|model| model.name == *name).unwrap().density;
            let expected = reads.iter().map(|name| (density(name), false));
            let expected: Vec<_> = expected.chain(writes.iter().map(|name| (density(name), true))).collect();
            assert_eq!(rows, expected);
        }
    }
}

#[test]
fn the_header_says_what_is_in_the_drive_as_its_maker_does() {
    for (name, purpose, medium) in [
        ("ptgt", CartridgeUse::Worm, 0),
        ("ibm-ult3580-td8", CartridgeUse::Data, 0x88),
        ("ibm-ult3580-td8", CartridgeUse::Worm, 0x8c),
        ("quantum-ultrium-hh8", CartridgeUse::Worm, 0x8c),
        ("hpe-ultrium-8", CartridgeUse::Data, 0),
        ("hpe-ultrium-8", CartridgeUse::Worm, 1),
    ] {
        let mut rig = drive(called(name), of_density(0x5e, purpose));
        rig.none(&[0; 6]).good();
        let long = rig.read(&[0x5a, 0, 0x1d, 0, 0, 0, 0, 0, 255, 0]).good();
        assert_eq!((long[2], long[8]), (medium, 0x5e), "{name}");
        assert_eq!((long[16], long[17], long[18] & 1), (0x9d, 30, u8::from(purpose == CartridgeUse::Worm)));
        assert_eq!(rig.read(&[0x1a, 0, 0x1d, 0, 255, 0]).good()[1], medium);
        // What is sensed may be selected.
        let mut list = long.clone();
        (list[0], list[1]) = (0, 0);
        rig.write(&[0x55, 0x10, 0, 0, 0, 0, 0, 0, list.len() as u8, 0], &list).good();
    }
}

#[test]
fn pages_of_a_maker_are_its_own() {
    for (name, has) in [("ibm-ult3580-td7", true), ("hp-ultrium-7", false), ("ptgt", false)] {
        for (page, subpage) in [(0x24, 0), (0x25, 0), (0x30, 0x20)] {
            let mut rig = drive(called(name), vec![0; 8 << 20]);
            let ended = rig.read(&[0x5a, 0, page, subpage, 0, 0, 0, 0, 255, 0]);
            match has {
                true => assert_eq!(ended.good()[16] & 0x3f, page),
                false => assert_eq!(ended.why(), (5, asc::INVALID_FIELD_IN_CDB)),
            }
        }
    }
}

#[test]
fn the_partition_page_tells_what_is_there_and_the_plan_until_it_is_carried_out() {
    let mut rig = drive(called("ibm-ult3580-td8"), of_density(0x5e, CartridgeUse::Data));
    let page = |rig: &mut TapeRig| rig.read(&[0x5a, 0, 0x11, 0, 0, 0, 0, 0, 255, 0]).good()[16..].to_vec();
    rig.none(&[0; 6]).good();
    let single = page(&mut rig);
    assert_eq!((single[2], single[3], single[4]), (3, 0, 0x3c));
    // As LTFS does it: what was sensed, with the plan in it.
    let mut list = rig.read(&[0x5a, 0, 0x11, 0, 0, 0, 0, 0, 255, 0]).good();
    (list[0], list[1]) = (0, 0);
    (list[19], list[22]) = (1, 6);
    list[24..28].copy_from_slice(&[0, 1, 0xff, 0xff]);
    rig.write(&[0x55, 0x10, 0, 0, 0, 0, 0, 0, list.len() as u8, 0], &list).good();
    assert_eq!(
        page(&mut rig),
        list[16..]
            .iter()
            .enumerate()
            .map(|(at, byte)| { if at == 0 { byte | 0x80 } else { *byte } })
            .collect::<Vec<_>>(),
        "the plan"
    );
    rig.none(&[0x04, 0, 1, 0, 0, 0]).good();
    let parted = page(&mut rig);
    let size = |page: &[u8], at: usize| u64::from(u16::from_be_bytes([page[at], page[at + 1]]));
    let unit = 10_u64.pow(parted[6].into());
    assert_eq!((parted[3], parted[4]), (1, 0x3c));
    assert_eq!(size(&parted, 8) * unit, 1_000_000);
    let rest = (4 << 20) - 1_000_000;
    assert!((rest..rest + unit).contains(&(size(&parted, 10) * unit)));
    // After a restart, the same.
    let mut rig = drive(called("ibm-ult3580-td8"), rig.bytes);
    rig.none(&[0; 6]).good();
    assert_eq!(page(&mut rig), parted);
    // The active partition is in page 10h.
    rig.none(&[0x2b, 2, 0, 0, 0, 0, 0, 0, 1, 0]).good();
    assert_eq!(rig.read(&[0x1a, 8, 0x10, 0, 255, 0]).good()[4 + 3], 1);
}
