// SPDX-License-Identifier: GPL-2.0-or-later
//! Mode parameters.

use super::*;

const RECOVERY: [u8; 12] = [0x01, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
const CACHING: [u8; 20] = [0x08, 18, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
const CONTROL: [u8; 12] = [0x0a, 10, 0x22, 0x10, 0, 0, 0, 0, 0, 0, 0, 0];
const EXCEPTIONS: [u8; 12] = [0x1c, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
const DESCRIPTOR: [u8; 8] = [0, 0, 0x10, 0, 0, 0, 2, 0];

fn sense6(dbd: bool, page: u8, subpage: u8, len: u8) -> [u8; 6] {
    [0x1a, u8::from(dbd) << 3, page, subpage, len, 0]
}

fn select6(len: usize) -> [u8; 6] {
    [0x15, 0x10, 0, 0, len as u8, 0]
}

/// Selects one page, without a block descriptor.
fn select(rig: &mut Rig, page: &[u8]) -> Ended {
    let list = [&[0; 4], page].concat();
    rig.write(&select6(list.len()), &list)
}

/// A page with one byte set.
fn with<const N: usize>(mut page: [u8; N], at: usize, value: u8) -> [u8; N] {
    page[at] = value;
    page
}

#[test]
fn mode_sense_6() {
    let mut rig = Rig::thin();
    let all = [&RECOVERY[..], &CACHING, &CONTROL, &EXCEPTIONS].concat();
    for subpage in [0, 0xff] {
        let wanted = [&[67, 0, 0x10, 8], &DESCRIPTOR[..], &all].concat();
        assert_eq!(rig.read(&sense6(false, 0x3f, subpage, 255)).good(), wanted);
        assert_eq!(rig.read(&sense6(false, 0x3f, subpage, 4)).good(), wanted[..4]);
    }
    assert_eq!(rig.read(&sense6(true, 0x08, 0, 255)).good(), [&[23, 0, 0x10, 0], &CACHING[..]].concat());
    // Changeable, default, saved.
    let changeable = with(with([0x0a, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], 2, 4), 4, 8);
    assert_eq!(rig.read(&sense6(true, 0x4a, 0, 255)).good()[4..], changeable);
    assert_eq!(rig.read(&sense6(true, 0x8a, 0, 255)).good()[4..], CONTROL);
    assert_eq!(rig.read(&sense6(true, 0xca, 0, 255)).sense(), (5, 0x3900));
    // Pages and subpages that are not there.
    assert_eq!(rig.read(&sense6(true, 0x02, 0, 255)).sense(), INVALID_FIELD_IN_CDB);
    assert_eq!(rig.read(&sense6(true, 0x0a, 1, 255)).sense(), INVALID_FIELD_IN_CDB);
    assert_eq!(rig.read(&sense6(true, 0x00, 0, 255)).sense(), INVALID_FIELD_IN_CDB);
}

#[test]
fn mode_sense_10() {
    let mut rig = Rig::thin();
    let cdb = |flags, page| [0x5a, flags, page, 0, 0, 0, 0, 1, 0, 0];
    let short = [&[0, 26, 0, 0x10, 0, 0, 0, 8], &DESCRIPTOR[..], &CONTROL].concat();
    assert_eq!(rig.read(&cdb(0, 0x0a)).good(), short);
    let long =
        [&[0, 34, 0, 0x10, 1, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0, 0, 2, 0], &CONTROL[..]]
            .concat();
    assert_eq!(rig.read(&cdb(0x10, 0x0a)).good(), long);
    assert_eq!(rig.read(&cdb(0x08, 0x0a)).good(), [&[0, 18, 0, 0x10, 0, 0, 0, 0], &CONTROL[..]].concat());
    rig.geometry.bytes = 1 << 45;
    assert_eq!(rig.read(&cdb(0, 0x0a)).good()[8..12], [0xff; 4]);
}

#[test]
fn software_write_protection() {
    let mut rig = Rig::thin();
    let ended = select(&mut rig, &with(CONTROL, 4, 8));
    assert_eq!((ended.outcome.attention, ended.outcome.data_out), (Some(0x2a01), 16));
    ended.good();
    assert_eq!(
        rig.read(&sense6(true, 0x0a, 0, 255)).good(),
        [&[15, 0, 0x90, 0], &with(CONTROL, 4, 8)[..]].concat()
    );
    for cdb in [cdb10(0x2a, 0, 0, 1), cdb10(0x2e, 0, 0, 1), cdb10(0x41, 0, 0, 1), cdb10(0x41, 8, 0, 1)] {
        assert_eq!(rig.write(&cdb, &[0; 512]).sense(), WRITE_PROTECTED);
    }
    rig.read(&cdb10(0x28, 0, 0, 1)).good();
    // The same once more changes nothing, and nobody is told.
    assert_eq!(select(&mut rig, &with(CONTROL, 4, 8)).outcome.attention, None);
    assert_eq!(select(&mut rig, &CONTROL).outcome.attention, Some(0x2a01));
    rig.write(&cdb10(0x2a, 0, 0, 1), &[0; 512]).good();
}

#[test]
fn read_only_disks() {
    let mut stores = Rig::thin();
    stores.geometry.read_only = true;
    for mut rig in [Rig::new(Config { read_only: true, ..config() }), stores] {
        assert_eq!(rig.read(&sense6(true, 0x0a, 0, 4)).good()[2], 0x90);
        for opcode in [0x2a, 0x2e, 0x41] {
            assert_eq!(rig.write(&cdb10(opcode, 0, 0, 1), &[0; 512]).sense(), WRITE_PROTECTED);
        }
        for opcode in [0x89, 0x8a, 0x8b, 0x8e, 0x93] {
            assert_eq!(rig.none(&cdb16(opcode, 0, 0, 0)).sense(), WRITE_PROTECTED);
        }
        assert_eq!(rig.none(&cdb10(0x42, 0, 0, 0)).sense(), WRITE_PROTECTED);
        assert_eq!(rig.none(&cdb10(0x41, 8, 0, 1)).sense(), WRITE_PROTECTED);
        rig.none(&cdb10(0x2f, 0, 0, 1)).good();
        rig.none(&cdb10(0x35, 0, 0, 0)).good();
        assert_eq!(rig.log, ["read 0+1", "flush 0+0"]);
    }
}

#[test]
fn descriptor_sense_and_reset() {
    let mut rig = Rig::thin();
    assert!(!rig.server.descriptor_sense());
    select(&mut rig, &with(CONTROL, 2, 0x26)).good();
    assert!(rig.server.descriptor_sense());
    select(&mut rig, &with(CACHING, 2, 0)).good();
    rig.server.reset();
    assert!(!rig.server.descriptor_sense());
    assert_eq!(rig.read(&sense6(true, 0x08, 0, 255)).good()[4..], CACHING);
}

#[test]
fn another_core_sees_the_change() {
    let disk = Arc::new(Disk::new(config()));
    let (here, there) = (disk.server(), disk.server());
    let mut rig = Rig { server: here, ..Rig::thin() };
    select(&mut rig, &with(CONTROL, 2, 0x26)).good();
    assert!(there.descriptor_sense());
}

#[test]
fn switching_the_write_cache_off_flushes_it() {
    let mut rig = Rig::thin();
    select(&mut rig, &with(CACHING, 2, 0)).good();
    rig.write(&cdb10(0x2a, 0, 0, 1), &[0; 512]).good();
    select(&mut rig, &CACHING).good();
    rig.write(&cdb10(0x2a, 0, 0, 1), &[0; 512]).good();
    assert_eq!(rig.log, ["flush 0+0", "write! 0+1", "write 0+1"]);
    // The default stays what it was.
    let mut rig = Rig::new(Config { write_cache: false, ..config() });
    assert_eq!(rig.read(&sense6(true, 0x88, 0, 255)).good()[6], 0);
    assert_eq!(rig.read(&sense6(true, 0x08, 0, 255)).good()[6], 0);
}

#[test]
fn what_is_read_can_be_written_back() {
    let mut rig = Rig::thin();
    let mut list = rig.read(&sense6(false, 0x3f, 0, 255)).good();
    list[0] = 0;
    rig.write(&select6(list.len()), &list).good();
    let mut list = rig.read(&[0x5a, 0x10, 0x3f, 0, 0, 0, 0, 1, 0, 0]).good();
    list[..2].fill(0);
    rig.write(&[0x55, 0x10, 0, 0, 0, 0, 0, 0, list.len() as u8, 0], &list).good();
    rig.write(&select6(0), &[]).good();
}

#[test]
fn bad_lists_change_nothing() {
    let mut rig = Rig::thin();
    let swp = with(CONTROL, 4, 8);
    let header = [0; 4];
    let list = |parts: &[&[u8]]| [&[&header[..]], parts].concat().concat();
    let cases: [(Vec<u8>, (u8, u16)); 8] = [
        // A bit that may not be changed, behind a page that is right.
        (list(&[&swp, &with(RECOVERY, 2, 1)]), INVALID_FIELD_IN_PARAMETER_LIST),
        (list(&[&swp, &with(CACHING, 2, 5)]), INVALID_FIELD_IN_PARAMETER_LIST),
        // A page that is not there, PS set, a page of another length.
        (list(&[&swp, &[0x02, 0]]), INVALID_FIELD_IN_PARAMETER_LIST),
        (list(&[&with(swp, 0, 0x8a)]), INVALID_FIELD_IN_PARAMETER_LIST),
        (list(&[&with(swp, 1, 9)]), INVALID_FIELD_IN_PARAMETER_LIST),
        // Lists that end too early.
        (list(&[&swp, &[0x08]]), PARAMETER_LIST_LENGTH),
        (list(&[&swp, &CACHING[..10]]), PARAMETER_LIST_LENGTH),
        (vec![0, 0, 0], PARAMETER_LIST_LENGTH),
    ];
    for (list, sense) in cases {
        assert_eq!(rig.write(&select6(list.len()), &list).sense(), sense, "{list:02x?}");
        assert_eq!(rig.read(&sense6(true, 0x0a, 0, 255)).good()[4..], CONTROL);
    }
    // Block descriptors: another block length, half of one, a capacity that is not.
    for descriptor in [&[0, 0, 0x10, 0, 0, 0, 4, 0][..], &[0; 4], &[0, 0, 0, 1, 0, 0, 2, 0]] {
        let list = [&[0, 0, 0, descriptor.len() as u8], descriptor, &swp].concat();
        assert_eq!(rig.write(&select6(list.len()), &list).sense(), INVALID_FIELD_IN_PARAMETER_LIST);
    }
    // SP, no PF, fewer bytes than the CDB says, more than sense.
    assert_eq!(rig.write(&[0x15, 0x11, 0, 0, 16, 0], &list(&[&swp])).sense(), INVALID_FIELD_IN_CDB);
    assert_eq!(rig.write(&[0x15, 0, 0, 0, 16, 0], &list(&[&swp])).sense(), INVALID_FIELD_IN_CDB);
    assert_eq!(rig.write(&select6(16), &list(&[&swp])[..10]).sense(), PARAMETER_LIST_LENGTH);
    let long = [0x55, 0x10, 0, 0, 0, 0, 0, 2, 1, 0];
    assert_eq!(rig.write(&long, &[0; 513]).sense(), PARAMETER_LIST_LENGTH);
    assert_eq!(rig.read(&sense6(true, 0x0a, 0, 255)).good()[4..], CONTROL);
}
