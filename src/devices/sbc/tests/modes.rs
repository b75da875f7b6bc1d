// SPDX-License-Identifier: GPL-2.0-or-later
//! Mode parameters.

use super::*;
use crate::io::Health;
use crate::scsi::primary::LogicalUnit;
use crate::scsi::{Control, Interlock, primary};

// As MODE SENSE gives them: every page can be saved (PS).
const RECOVERY: [u8; 12] = [0x81, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
const CACHING: [u8; 20] = [0x88, 18, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
const CONTROL: [u8; 12] = [0x8a, 10, 0x22, 0x10, 0, 0, 0, 0, 0, 0, 0, 0];
const EXCEPTIONS: [u8; 12] = [0x9c, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
const PROVISIONING: [u8; 24] = [0xdc, 2, 0, 20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0];
const DESCRIPTOR: [u8; 8] = [0, 0, 0x10, 0, 0, 0, 2, 0];

fn sense6(dbd: bool, page: u8, subpage: u8, len: u8) -> [u8; 6] {
    [0x1a, u8::from(dbd) << 3, page, subpage, len, 0]
}

fn select6(len: usize) -> [u8; 6] {
    [0x15, 0x10, 0, 0, len as u8, 0]
}

/// The same, and the parameters are saved.
fn save6(len: usize) -> [u8; 6] {
    [0x15, 0x11, 0, 0, len as u8, 0]
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
    for (subpage, more) in [(0, &[][..]), (0xff, &PROVISIONING)] {
        let len = 11 + all.len() + more.len();
        let wanted = [&[len as u8, 0, 0x10, 8], &DESCRIPTOR[..], &all, more].concat();
        assert_eq!(rig.read(&sense6(false, 0x3f, subpage, 255)).good(), wanted);
        assert_eq!(rig.read(&sense6(false, 0x3f, subpage, 4)).good(), wanted[..4]);
    }
    assert_eq!(rig.read(&sense6(true, 0x08, 0, 255)).good(), [&[23, 0, 0x10, 0], &CACHING[..]].concat());
    // Changeable, default, saved.
    let changeable = [0x8a, 10, 6, 6, 0x38, 0x40, 0, 0, 0, 0, 0, 0];
    assert_eq!(rig.read(&sense6(true, 0x4a, 0, 255)).good()[4..], changeable);
    assert_eq!(rig.read(&sense6(true, 0x8a, 0, 255)).good()[4..], CONTROL);
    assert_eq!(rig.read(&sense6(true, 0xca, 0, 255)).good()[4..], CONTROL);
    // One subpage, a page with its subpages, and a disk that has none.
    assert_eq!(rig.read(&sense6(true, 0x1c, 2, 255)).good()[4..], PROVISIONING);
    assert_eq!(
        rig.read(&sense6(true, 0x1c, 0xff, 255)).good()[4..],
        [&EXCEPTIONS[..], &PROVISIONING].concat()
    );
    assert_eq!(Rig::thick().read(&sense6(true, 0x1c, 2, 255)).sense(), INVALID_FIELD_IN_CDB);
    // Pages and subpages that are not there.
    assert_eq!(rig.read(&sense6(true, 0x02, 0, 255)).sense(), INVALID_FIELD_IN_CDB);
    assert_eq!(rig.read(&sense6(true, 0x0a, 1, 255)).sense(), INVALID_FIELD_IN_CDB);
    assert_eq!(rig.read(&sense6(true, 0x3f, 2, 255)).sense(), INVALID_FIELD_IN_CDB);
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
    assert_eq!((ended.attention(), ended.outcome.data_out), (Some(0x2a01), 16));
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
    assert_eq!(select(&mut rig, &with(CONTROL, 4, 8)).attention(), None);
    assert_eq!(select(&mut rig, &CONTROL).attention(), Some(0x2a01));
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
    assert!(!rig.server.control().descriptor_sense);
    select(&mut rig, &with(CONTROL, 2, 0x26)).good();
    assert!(rig.server.control().descriptor_sense);
    select(&mut rig, &with(CACHING, 2, 0)).good();
    rig.server.reset();
    assert!(!rig.server.control().descriptor_sense);
    assert_eq!(rig.read(&sense6(true, 0x08, 0, 255)).good()[4..], CACHING);
}

#[test]
fn another_core_sees_the_change() {
    let disk = Arc::new(Disk::new(config()));
    let (here, there) = (disk.server(), disk.server());
    let mut rig = Rig { server: here, ..Rig::thin() };
    select(&mut rig, &with(CONTROL, 2, 0x26)).good();
    assert!(there.control().descriptor_sense);
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
    let mut list = rig.read(&sense6(false, 0x3f, 0xff, 255)).good();
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
        // Pages that are not there, a page of another length.
        (list(&[&swp, &[0x02, 0]]), INVALID_FIELD_IN_PARAMETER_LIST),
        (list(&[&swp, &[0x4a, 1, 0, 0]]), INVALID_FIELD_IN_PARAMETER_LIST),
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
    // Block descriptors: another block length, half of one, a capacity that is not; and where that is.
    for (descriptor, at) in
        [(&[0, 0, 0x10, 0, 0, 0, 4, 0][..], 9), (&[0; 4], 3), (&[0, 0, 0, 1, 0, 0, 2, 0], 4)]
    {
        let list = [&[0, 0, 0, descriptor.len() as u8], descriptor, &swp].concat();
        let ended = rig.write(&select6(list.len()), &list);
        assert_eq!(ended.sense(), INVALID_FIELD_IN_PARAMETER_LIST);
        assert_eq!(ended.outcome.sense.unwrap().specific, Some([0x80, 0, at]));
    }
    // No PF, fewer bytes than the CDB says, more than sense.
    assert_eq!(rig.write(&[0x15, 0, 0, 0, 16, 0], &list(&[&swp])).sense(), INVALID_FIELD_IN_CDB);
    assert_eq!(rig.write(&select6(16), &list(&[&swp])[..10]).sense(), PARAMETER_LIST_LENGTH);
    let long = [0x55, 0x10, 0, 0, 0, 0, 0, 2, 1, 0];
    assert_eq!(rig.write(&long, &[0; 513]).sense(), PARAMETER_LIST_LENGTH);
    assert_eq!(rig.read(&sense6(true, 0x0a, 0, 255)).good()[4..], CONTROL);
}

/// The page as it is now, by page control: 0 current, 3 saved.
fn page(rig: &mut Rig, control: u8, code: u8, subpage: u8) -> Vec<u8> {
    rig.read(&sense6(true, control << 6 | code, subpage, 255)).good().split_off(4)
}

#[test]
fn saved_pages_survive_a_reset_and_a_restart() {
    let mut rig = Rig::thin();
    let off = with(CACHING, 2, 0);
    // Without SP nothing is saved, with it all pages are.
    select(&mut rig, &with(CONTROL, 2, 0x26)).good();
    assert_eq!((rig.kept.len(), page(&mut rig, 3, 0x0a, 0)), (0, CONTROL.to_vec()));
    let list = [&[0; 4], &off[..]].concat();
    let ended = rig.write(&save6(list.len()), &list);
    assert_eq!(ended.attention(), Some(0x2a01));
    ended.good();
    assert_eq!(rig.log, ["flush 0+0"], "there is no cache any more");
    assert_eq!(page(&mut rig, 3, 0x08, 0), off);
    assert_eq!(page(&mut rig, 3, 0x0a, 0), with(CONTROL, 2, 0x26));
    assert_eq!(page(&mut rig, 2, 0x08, 0), CACHING, "the default stays");
    // What is changed afterwards ends with a reset.
    select(&mut rig, &CACHING).good();
    rig.server.reset();
    assert_eq!(page(&mut rig, 0, 0x08, 0), off);
    rig.write(&cdb10(0x2a, 0, 0, 1), &[0; 512]).good();
    assert_eq!(rig.log.last().unwrap(), "write! 0+1");
    let record = rig.kept.pop().unwrap();
    assert_eq!((record.name, record.generation), (primary::MODE_RECORD, 1));
    // The next start, also with another configuration.
    for write_cache in [true, false] {
        let mut next = Rig::new(Config { write_cache, ..config() });
        next.server.unit().load_modes(&record.bytes).unwrap();
        assert!(next.server.control().descriptor_sense);
        for control in [0, 3] {
            assert_eq!(page(&mut next, control, 0x08, 0), off);
            assert_eq!(page(&mut next, control, 0x0a, 0), with(CONTROL, 2, 0x26));
        }
        // The generation counts from the start of the daemon.
        next.write(&save6(0), &[]).good();
        assert_eq!(next.kept, std::slice::from_ref(&record));
    }
}

#[test]
fn what_cannot_be_saved_is_told_and_changes_nothing() {
    let mut rig = Rig::thin();
    rig.keeps = false;
    for changed in [&with(CONTROL, 4, 8)[..], &with(CACHING, 2, 0)] {
        let list = [&[0; 4], changed].concat();
        let ended = rig.write(&save6(list.len()), &list);
        assert_eq!((ended.sense(), ended.attention()), ((4, 0x4400), None));
        for control in [0, 3] {
            assert_eq!(page(&mut rig, control, 0x0a, 0), CONTROL);
            assert_eq!(page(&mut rig, control, 0x08, 0), CACHING);
        }
    }
    rig.write(&cdb10(0x2a, 0, 0, 1), &[0; 512]).good();
    assert_eq!(rig.log, ["write 0+1"]);
    rig.keeps = true;
    let list = [&[0; 4], &with(CONTROL, 4, 8)[..]].concat();
    rig.write(&save6(list.len()), &list).good();
    for control in [0, 3] {
        assert_eq!(page(&mut rig, control, 0x0a, 0), with(CONTROL, 4, 8));
    }
}

#[test]
fn pages_are_saved_one_after_the_other() {
    let mut rig = Rig::thin();
    let disk = rig.server.unit().clone();
    let list = [&[0; 4], &with(CONTROL, 4, 8)[..]].concat();
    let cdb = primary::head(&Cdb::new(&save6(list.len())).unwrap());
    // Another core's is on its way.
    struct Unit;
    impl primary::ModeUnit for Unit {
        fn device_specific(&self) -> u8 {
            0
        }
        fn blocks(&self) -> Option<(u64, u32)> {
            None
        }
    }
    let (other, others) = (disk.primary.state().modes.record(&cdb, &list, &Unit).unwrap(), list);
    let list = [&[0; 4], &with(CACHING, 2, 0)[..]].concat();
    assert_eq!(rig.write(&save6(list.len()), &list).outcome.status, Status::Busy);
    assert_eq!(page(&mut rig, 0, 0x08, 0), CACHING);
    disk.primary.state().modes.kept(&other);
    disk.primary.state().modes.select(&cdb, &others, &Unit).unwrap();
    rig.write(&save6(list.len()), &list).good();
    assert_eq!(page(&mut rig, 3, 0x0a, 0), with(CONTROL, 4, 8), "what the other has saved stays");
    assert_eq!(page(&mut rig, 3, 0x08, 0), with(CACHING, 2, 0));
}

#[test]
fn records_of_other_times_and_damaged_ones() {
    let disk = Disk::new(config());
    // A page that is gone, one of another length, and bits that cannot be changed.
    let record =
        [&[1, 0x33, 0, 2, 9, 9, 0x08, 0, 1, 0][..], &[0x0a, 0, 10, 0xff, 0xff, 0xff], &[0xff; 7]].concat();
    disk.load_modes(&record).unwrap();
    let mut rig = Rig { server: Arc::new(disk).server(), ..Rig::thin() };
    assert_eq!(page(&mut rig, 0, 0x08, 0), CACHING);
    assert_eq!(page(&mut rig, 0, 0x0a, 0), [0x8a, 10, 0x26, 0x16, 0x38, 0x40, 0, 0, 0, 0, 0, 0]);
    let disk = Disk::new(config());
    assert_eq!(disk.load_modes(&[]), Err("mode pages of another version"));
    assert_eq!(disk.load_modes(&[2]), Err("mode pages of another version"));
    for len in [2, 3, 5, 9] {
        assert_eq!(disk.load_modes(&record[..len]), Err("too short"));
    }
    let mut rig = Rig { server: Arc::new(disk).server(), ..Rig::thin() };
    assert_eq!(page(&mut rig, 0, 0x08, 0), CACHING);
}

#[test]
fn thresholds_come_from_the_configuration_and_from_initiators() {
    let health = |available| Health { bytes: 1 << 21, used: None, available: Some(available) };
    let mut rig = Rig::new(Config { soft_threshold: (3 << 20) - 1, ..config() });
    let mut wanted = PROVISIONING;
    wanted[16] = 0x81;
    wanted[23] = 3;
    assert_eq!(page(&mut rig, 0, 0x1c, 2), wanted, "rounded up to sets of 1 MiB");
    assert_eq!(page(&mut rig, 0, 0x01, 0), with(RECOVERY, 7, 0x80));
    rig.server.inspected(&health(3 << 20));
    assert_eq!(rig.server.inspected(&health((3 << 20) - 1)), [0x3807]);
    // An initiator wants to know later, or not at all.
    wanted[23] = 1;
    select(&mut rig, &wanted).good();
    assert!(rig.server.inspected(&health(2 << 20)).is_empty());
    assert_eq!(rig.server.inspected(&health(1 << 19)), [0x3807]);
    select(&mut rig, &RECOVERY).good();
    assert!(rig.server.inspected(&health(2 << 20)).is_empty());
    assert!(rig.server.inspected(&health(1 << 19)).is_empty());
}

#[test]
fn a_test_of_informational_exceptions() {
    let mut rig = Rig::thin();
    let sense = |rig: &mut Rig| rig.read(&[3, 0, 0, 0, 18, 0]).good()[12..14].to_vec();
    assert_eq!(select(&mut rig, &with(EXCEPTIONS, 3, 3)).sense(), INVALID_FIELD_IN_PARAMETER_LIST);
    assert_eq!(select(&mut rig, &with(EXCEPTIONS, 2, 0x0c)).sense(), INVALID_FIELD_IN_PARAMETER_LIST);
    select(&mut rig, &with(EXCEPTIONS, 2, 4)).good();
    assert_eq!(sense(&mut rig), [0, 0], "nobody wants to be told");
    select(&mut rig, &with(with(EXCEPTIONS, 2, 4), 3, 6)).good();
    assert_eq!(sense(&mut rig), [0x5d, 0xff]);
    rig.none(&[0; 6]).good();
    select(&mut rig, &EXCEPTIONS).good();
    assert_eq!(sense(&mut rig), [0, 0]);
}

#[test]
fn the_control_page_says_how_tasks_are_managed() {
    let mut rig = Rig::thin();
    assert_eq!(rig.server.control(), Control::default());
    let cases = [
        (3, 0x12, Control { abort_others: true, ..Control::default() }),
        (3, 0x16, Control { abort_others: true, ..Control::default() }),
        (4, 0x20, Control { interlock: Interlock::Kept, ..Control::default() }),
        (4, 0x30, Control { interlock: Interlock::KeptAndMade, ..Control::default() }),
        (5, 0x40, Control { aborted_status: true, ..Control::default() }),
    ];
    for (at, value, control) in cases {
        select(&mut rig, &with(CONTROL, at, value)).good();
        assert_eq!(rig.server.control(), control);
    }
    // What is reserved, and a task set for all nexuses.
    for (at, value) in [(3, 0x14), (4, 0x10), (2, 0x02)] {
        let ended = select(&mut rig, &with(CONTROL, at, value));
        assert_eq!(ended.sense(), INVALID_FIELD_IN_PARAMETER_LIST);
        assert_eq!(ended.outcome.sense.unwrap().specific, Some([0x80, 0, 4 + at as u8]));
    }
}
