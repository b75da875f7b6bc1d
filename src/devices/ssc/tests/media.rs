// SPDX-License-Identifier: GPL-2.0-or-later
//! Cartridges: loaded, taken out, protected, partitioned, empty, damaged; and what the drive says of itself.

use super::*;

#[test]
fn an_empty_store_becomes_a_cartridge_of_its_size() {
    let mut rig = TapeRig::with(vec![0; 32 << 20]);
    rig.none(&[0; 6]).good();
    rig.write_record(&record(1, 40_000)).good();
    rig.filemarks(1);
    let report = rig.server.unit().report();
    assert_eq!(report.medium, "ready");
    let capacity = report.capacity_bytes.unwrap();
    assert!(image_bytes(capacity).unwrap() <= 32 << 20 && capacity > 24 << 20, "{capacity}");
    let mut rig = rig.restarted();
    assert!(rig.read_record(40_000).good() == record(1, 40_000));
}

#[test]
fn what_is_no_cartridge_is_left_as_it_is() {
    let bytes: Vec<u8> = record(3, 16 << 20);
    let mut rig = TapeRig::with(bytes.clone());
    for cdb in [&[0; 6][..], &[0x0a, 0, 0, 0, 1, 0], &[0x19, 0, 0, 0, 0, 0], &[0x04, 0, 0, 0, 0, 0]] {
        let ended = rig.write(cdb, &[7][..usize::from(cdb[4] & 1)]);
        assert_eq!(ended.why(), (key::MEDIUM_ERROR, asc::UNKNOWN_FORMAT));
    }
    assert!(rig.bytes == bytes);
    // What is not about the cartridge is answered.
    rig.read(&[0x12, 0, 0, 0, 96, 0]).good();
}

#[test]
fn a_cartridge_goes_out_and_comes_in_at_its_beginning() {
    let mut rig = TapeRig::new();
    rig.write_record(&record(1, 50)).good();
    let allow = [0x1e, 0, 0, 0, 0, 0];
    rig.none(&[0x1e, 0, 0, 0, 1, 0]).good();
    assert_eq!(rig.none(&[0x1b, 0, 0, 0, 0, 0]).why(), (5, asc::MEDIUM_REMOVAL_PREVENTED));
    rig.none(&allow).good();
    rig.none(&[0x1b, 0, 0, 0, 0, 0]).good();
    for cdb in [&[0; 6][..], &[0x08, 0, 0, 0, 1, 0], &[0x34, 0, 0, 0, 0, 0, 0, 0, 0, 0]] {
        assert_eq!(rig.read(cdb).why(), (key::NOT_READY, asc::MEDIUM_NOT_PRESENT));
    }
    rig.none(&[0x1b, 0, 0, 0, 0, 0]).good();
    let ended = rig.none(&[0x1b, 0, 0, 0, 1, 0]);
    let codes: Vec<u16> = ended.outcome.attentions.iter().map(|attention| attention.code).collect();
    assert_eq!(codes, [asc::NOT_READY_TO_READY_CHANGE_MEDIUM_MAY_HAVE_CHANGED]);
    assert_eq!(rig.position(), (0, 0, 0));
    assert_eq!(rig.read_record(50).good(), record(1, 50));
    // A load of what is loaded rewinds, and tells nobody.
    let ended = rig.none(&[0x1b, 0, 0, 0, 1, 0]);
    assert!(ended.outcome.attentions.is_empty());
    assert_eq!(rig.position(), (0, 0, 0));
}

#[test]
fn nothing_is_written_where_nothing_may_be() {
    let protected = cartridge(1 << 20, CartridgeUse::Data, true);
    let mut read_only = TapeRig::set_up(
        TapeOptions { read_only: true, ..options() },
        cartridge(1 << 20, CartridgeUse::Data, false),
    );
    for rig in [&mut TapeRig::with(protected.clone()), &mut read_only] {
        rig.none(&[0; 6]).good();
        let before = rig.bytes.clone();
        for cdb in
            [&[0x0a, 0, 0, 0, 1, 0], &[0x10, 0, 0, 0, 1, 0], &[0x19, 0, 0, 0, 0, 0], &[0x04, 0, 0, 0, 0, 0]]
        {
            let ended = rig.write(cdb, &[9][..usize::from(cdb[0] == 0x0a)]);
            assert_eq!(ended.why(), (key::DATA_PROTECT, asc::WRITE_PROTECTED), "{:02x}", cdb[0]);
        }
        assert!(rig.bytes == before);
        assert_eq!(rig.read(&[0x1a, 0, 0x0f, 0, 64, 0]).good()[2], 0x90, "WP, buffered mode 1");
    }
}

#[test]
fn what_is_written_once_is_appended_to_only() {
    let mut rig = TapeRig::with(cartridge(1 << 20, CartridgeUse::Worm, false));
    rig.write_record(&record(1, 100)).good();
    rig.filemarks(1);
    rig.write_record(&record(2, 100)).good();
    rig.rewind();
    for cdb in
        [&[0x0a, 0, 0, 0, 1, 0], &[0x10, 0, 0, 0, 1, 0], &[0x19, 0, 0, 0, 0, 0], &[0x04, 0, 0, 0, 0, 0]]
    {
        let ended = rig.write(cdb, &[9][..usize::from(cdb[0] == 0x0a)]);
        assert_eq!(ended.why(), (key::DATA_PROTECT, asc::WORM_MEDIUM_OVERWRITE_ATTEMPTED), "{:02x}", cdb[0]);
    }
    rig.space(3, 0).good();
    rig.write_record(&record(3, 100)).good();
    rig.locate(3).good();
    assert_eq!(rig.read_record(100).good(), record(3, 100));
}

#[test]
fn partitions_are_made_by_page_and_format() {
    let mut rig = TapeRig::new();
    let page = |additional: u8, flags: u8, power: u8, sizes: [u16; 2]| {
        let mut list = vec![0, 0, 0x10, 0, 0x11, 14, 3, additional, flags, 3, power, 0];
        list.extend(sizes.iter().flat_map(|size| size.to_be_bytes()));
        list.resize(4 + 16, 0);
        list[5] = 14;
        list
    };
    // MiB: one of two, and the rest.
    rig.write(&[0x15, 0x10, 0, 0, 20, 0], &page(1, 0x20 | 0x10 | 4, 6, [0xffff, 2])).good();
    rig.write_record(&record(1, 10)).good();
    assert_eq!(rig.none(&[0x04, 0, 1, 0, 0, 0]).why(), (5, asc::POSITION_PAST_BEGINNING_OF_MEDIUM));
    rig.rewind();
    rig.none(&[0x04, 0, 1, 0, 0, 0]).good();
    assert_eq!(rig.read_record(10).why(), (8, asc::END_OF_DATA_DETECTED));
    rig.write_record(&record(2, 20_000)).good();
    rig.none(&[0x2b, 2, 0, 0, 0, 0, 0, 0, 1, 0]).good();
    assert_eq!(rig.position(), (1, 0, 0));
    rig.write_record(&record(3, 20_000)).good();
    rig.filemarks(1);
    let mut rig = rig.restarted();
    assert!(rig.read_record(20_000).good() == record(2, 20_000));
    assert_eq!(rig.read_record(9).why(), (8, asc::END_OF_DATA_DETECTED));
    rig.none(&[0x92, 2, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]).good();
    assert!(rig.read_record(20_000).good() == record(3, 20_000));
    assert_eq!(rig.server.unit().report().capacity_bytes, Some(2 << 20));
    // A rewind stays in the partition. Format 0 makes one of both.
    rig.rewind();
    assert_eq!(rig.position(), (1, 0, 0));
    let first = [0x2b, 2, 0, 0, 0, 0, 0, 0, 0, 0];
    rig.none(&first).good();
    rig.none(&[0x04, 0, 0, 0, 0, 0]).good();
    assert_eq!(rig.none(&[0x2b, 2, 0, 0, 0, 0, 0, 0, 1, 0]).why(), (5, asc::INVALID_FIELD_IN_CDB));
    // Linux' st gives two sizes and no more.
    let mut short = page(1, 0x20 | 0x10 | 4, 6, [0xffff, 3])[..16].to_vec();
    short[5] = 10;
    rig.write(&[0x15, 0x10, 0, 0, 16, 0], &short).good();
    rig.none(&[0x04, 0, 1, 0, 0, 0]).good();
    rig.none(&[0x2b, 2, 0, 0, 0, 0, 0, 0, 1, 0]).good();
    assert_eq!(rig.server.unit().report().capacity_bytes, Some(3 << 20));
    rig.none(&first).good();
    // More than there is, two that take the rest, none of the kinds, too many.
    for list in [
        page(1, 0x20 | 0x10 | 4, 6, [0xffff, 0xffff]),
        page(1, 0x10 | 4, 6, [0xffff, 1]),
        page(1, 0x60 | 0x10 | 4, 6, [0xffff, 1]),
        page(4, 0x20 | 0x10 | 4, 6, [0xffff, 1]),
    ] {
        let ended = rig.write(&[0x15, 0x10, 0, 0, 20, 0], &list);
        assert_eq!(ended.why(), (5, asc::INVALID_FIELD_IN_PARAMETER_LIST));
    }
    rig.write(&[0x15, 0x10, 0, 0, 20, 0], &page(1, 0x20 | 0x10 | 4, 6, [0xffff, 900])).good();
    assert_eq!(rig.none(&[0x04, 0, 1, 0, 0, 0]).why(), (5, asc::INVALID_FIELD_IN_PARAMETER_LIST));
}

#[test]
fn mode_parameters_have_a_block_descriptor_with_density_and_length() {
    let mut rig = TapeRig::new();
    let short = rig.read(&[0x1a, 0, 0x10, 0, 64, 0]).good();
    assert_eq!(short[..4], [27, 0, 0x10, 8]);
    assert_eq!(short[4..12], [0x5a, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(short[12..14], [0x90, 14]);
    rig.set_block(0x1_0000);
    let long = rig.read(&[0x5a, 0, 0x3f, 0xff, 0, 0, 0, 0, 255, 0]).good();
    assert_eq!(long[6..8], [0, 8]);
    assert_eq!(long[13..16], [1, 0, 0]);
    let mut pages = Vec::new();
    let mut rest = &long[16..];
    while let [code, len, high, low, ..] = rest {
        let (subpage, len) = match code & 0x40 {
            0 => (0, 2 + usize::from(*len)),
            _ => (*len, 4 + usize::from(u16::from_be_bytes([*high, *low]))),
        };
        pages.push((code & 0x3f, subpage));
        rest = &rest[len..];
    }
    let all = [
        (1, 0),
        (2, 0),
        (0xa, 0),
        (0xa, 0xf0),
        (0xf, 0),
        (0x10, 0),
        (0x10, 1),
        (0x11, 0),
        (0x1a, 0),
        (0x1c, 0),
    ];
    assert_eq!(pages, [&all[..], &[(0x1d, 0)]].concat());
    // Page 0 asks for what stands before the pages, as Linux' st does.
    assert_eq!(rig.read(&[0x1a, 0, 0, 0, 12, 0]).good(), [11, 0, 0x10, 8, 0x5a, 0, 0, 0, 0, 1, 0, 0]);
    // DBD leaves the descriptor out.
    assert_eq!(rig.read(&[0x1a, 8, 0x10, 0, 64, 0]).good()[3], 0);
}

#[test]
fn densities_are_in_ascending_order_and_the_usual_one_is_marked() {
    let mut rig = TapeRig::new();
    let all = rig.read(&[0x44, 0, 0, 0, 0, 0, 0, 4, 0, 0]).good();
    assert_eq!(usize::from(u16::from_be_bytes([all[0], all[1]])), all.len() - 2);
    let rows: Vec<&[u8]> = all[4..].chunks(52).collect();
    assert!(rows.is_sorted_by_key(|row| row[0]) && rows.len() == 10);
    let usual: Vec<u8> = rows.iter().filter(|row| row[2] & 0x20 != 0).map(|row| row[0]).collect();
    assert_eq!(usual, [0x5a]);
    assert_eq!(&rows[8][16..52], b"LTO-CVE U-832   Ultrium 8/32T       ");
    // Of the cartridge alone.
    rig.none(&[0; 6]).good();
    let mounted = rig.read(&[0x44, 1, 0, 0, 0, 0, 0, 4, 0, 0]).good();
    assert_eq!((mounted.len(), mounted[4]), (56, 0x5e));
    rig.none(&[0x1b, 0, 0, 0, 0, 0]).good();
    assert_eq!(rig.read(&[0x44, 1, 0, 0, 0, 0, 0, 4, 0, 0]).why(), (2, asc::MEDIUM_NOT_PRESENT));
}

#[test]
fn it_says_what_it_is() {
    let mut rig = TapeRig::new();
    let data = rig.read(&[0x12, 0, 0, 0, 96, 0]).good();
    assert_eq!((data[0], data[1]), (0x01, 0x80));
    assert_eq!(&data[8..36], b"PTGT    VIRTUAL-TAPE    0001");
    let pages = rig.read(&[0x12, 1, 0, 0, 96, 0]).good();
    assert!(pages[4..].contains(&0xb0), "{pages:x?}");
    assert_eq!(rig.read(&[0x12, 1, 0xb0, 0, 96, 0]).good(), [1, 0xb0, 0, 2, 1, 0]);
    assert_eq!(rig.read(&[0x12, 1, 0xb1, 0, 96, 0]).good(), *b"\x01\xb1\0\x03T-1");
    assert_eq!(rig.read(&[0x12, 1, 0xb2, 0, 96, 0]).good()[..4], [1, 0xb2, 0, 8]);
    let alerts = rig.read(&[0x4d, 0, 0x6e, 0, 0, 0, 0, 2, 0, 0]).good();
    assert_eq!(alerts.len(), 4 + 64 * 5);
    // Every command of the table is offered, and no timeout is zero.
    let all = rig.read(&[0xa3, 0x0c, 0x80, 0, 0, 0, 0, 0, 0x40, 0, 0, 0]).good();
    assert_eq!((all.len() - 4) % 20, 0);
    assert_eq!((all.len() - 4) / 20, commands().count());
    assert!(all[4..].chunks(20).all(|row| row[16..20] != [0; 4]));
}
