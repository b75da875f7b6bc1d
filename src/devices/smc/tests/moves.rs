// SPDX-License-Identifier: GPL-2.0-or-later
//! Cartridges move, or stay where they are for a reason.

use super::*;

#[test]
fn a_cartridge_is_where_it_was_put_and_knows_its_slot() {
    let mut rig = ChangerRig::new();
    rig.good(&move_medium(SLOT, DRIVE), &[], 0);
    assert_eq!((rig.barcode(SLOT), rig.barcode(DRIVE)), (None, Some("A00001L8".into())));
    let source = |rig: &ChangerRig, at| rig.inventory().get(at).and_then(|it| it.volume.clone()?.source);
    assert_eq!(source(&rig, DRIVE), Some(SLOT));
    // From drive to drive it is still of that slot; from another slot, of that one.
    rig.good(&move_medium(DRIVE, DRIVE + 1), &[], 0);
    assert_eq!(source(&rig, DRIVE + 1), Some(SLOT));
    rig.good(&move_medium(DRIVE + 1, SLOT + 4), &[], 0);
    rig.good(&move_medium(SLOT + 4, MAIL), &[], 0);
    assert_eq!(source(&rig, MAIL), Some(SLOT + 4));
    // To where it is already.
    rig.good(&move_medium(MAIL, MAIL), &[], 0);
    assert_eq!(rig.barcode(MAIL), Some("A00001L8".into()));
}

#[test]
fn moves_that_cannot_be_leave_all_where_it_is() {
    let mut rig = ChangerRig::new();
    let before = rig.inventory();
    let none = (key::ILLEGAL_REQUEST, asc::INVALID_ELEMENT_ADDRESS);
    let empty = (key::ILLEGAL_REQUEST, asc::MEDIUM_SOURCE_ELEMENT_EMPTY);
    let full = (key::ILLEGAL_REQUEST, asc::MEDIUM_DESTINATION_ELEMENT_FULL);
    let field = (key::ILLEGAL_REQUEST, asc::INVALID_FIELD_IN_CDB);
    for (from, to, why) in [
        (SLOT - 1, DRIVE, none),
        (SLOT, SLOT + 5, none),
        (0xffff, 0xffff, none),
        (SLOT + 4, DRIVE, empty),
        (DRIVE, DRIVE, empty),
        (SLOT, SLOT + 1, full),
        (SLOT, HAND, field),
        (HAND, SLOT, field),
    ] {
        assert_eq!(rig.why(&move_medium(from, to), &[]), why, "{from:#x} {to:#x}");
    }
    let mut other_hand = move_medium(SLOT, DRIVE);
    other_hand[3] = 9;
    assert_eq!(rig.why(&other_hand, &[]), none);
    for (source, first, second, why) in [
        (SLOT, DRIVE, SLOT + 4, empty),
        (SLOT + 4, SLOT, SLOT + 3, empty),
        (SLOT, SLOT + 1, SLOT + 2, full),
        (SLOT, SLOT, SLOT + 4, field),
        (SLOT, SLOT + 1, 7, none),
    ] {
        assert_eq!(rig.why(&exchange(source, first, second), &[]), why, "{source:#x} {first:#x} {second:#x}");
    }
    assert_eq!((rig.inventory(), rig.kept), (before, None));
}

#[test]
fn two_cartridges_change_places_at_once() {
    let mut rig = ChangerRig::new();
    rig.good(&move_medium(SLOT, DRIVE), &[], 0);
    rig.good(&exchange(SLOT + 1, DRIVE, SLOT), &[], 0);
    assert_eq!(rig.barcode(DRIVE), Some("A00002L8".into()));
    assert_eq!((rig.barcode(SLOT), rig.barcode(SLOT + 1)), (Some("A00001L8".into()), None));
    // The second destination may be the source.
    rig.good(&exchange(SLOT, DRIVE, SLOT), &[], 0);
    assert_eq!((rig.barcode(DRIVE), rig.barcode(SLOT)), (Some("A00001L8".into()), Some("A00002L8".into())));
}

#[test]
fn what_a_drive_does_not_give_stays() {
    let mut rig = ChangerRig::new();
    rig.good(&move_medium(SLOT, DRIVE), &[], 0);
    let before = rig.inventory();
    for (failure, why) in [
        (
            MoveFailure::Prevented,
            (key::ILLEGAL_REQUEST, asc::MEDIUM_REMOVAL_PREVENTED_BY_DATA_TRANSFER_ELEMENT),
        ),
        (MoveFailure::Failed, (key::HARDWARE_ERROR, asc::MEDIA_LOAD_OR_EJECT_FAILED)),
    ] {
        rig.drives.failure = Some(failure);
        assert_eq!(rig.why(&move_medium(DRIVE, SLOT), &[]), why);
        assert_eq!(rig.why(&move_medium(SLOT + 1, DRIVE + 1), &[]), why);
        assert_eq!(rig.inventory(), before);
    }
    // Slots have nothing to do with it.
    rig.good(&move_medium(SLOT + 1, SLOT), &[], 0);
}

/// A movement whose task was aborted goes on, and the hand is not free before it has arrived.
#[test]
fn nothing_else_moves_while_a_movement_goes_on_without_its_task() {
    let mut rig = ChangerRig::new();
    let orphan = ChangerRig::command(&move_medium(SLOT, DRIVE), 0, 0);
    let Step::MoveMedia(changes) = rig.call_as(OTHER, &orphan, None) else { panic!("it begins") };
    assert!(rig.server.goes_on(OTHER), "an abort does not stop it");
    let busy = (key::NOT_READY, asc::LOGICAL_UNIT_NOT_READY_OPERATION_IN_PROGRESS);
    for cdb in
        [&move_medium(SLOT, SLOT + 3)[..], &exchange(SLOT, SLOT + 1, SLOT), &[0; 6], &[0x07, 0, 0, 0, 0, 0]]
    {
        assert_eq!(rig.why(cdb, &[]), busy, "{cdb:x?}");
    }
    // What is where can be asked for.
    rig.good(&[0xb8, 0, 0, 0, 0, 9, 0, 0, 1, 0, 0, 0], &[], 256);
    let answer = Resume::MediaMoved(rig.drives.take(changes));
    let Step::Persist(_) = rig.call_as(OTHER, &orphan, Some(answer)) else { panic!("it is kept") };
    let Step::Finish(_) = rig.call_as(OTHER, &orphan, Some(Resume::Persisted(Ok(())))) else {
        panic!("it ends")
    };
    assert_eq!((rig.barcode(SLOT), rig.barcode(DRIVE)), (None, Some("A00001L8".into())));
    rig.good(&move_medium(DRIVE, SLOT + 3), &[], 0);
}

/// A move counts when it is kept, and what was kept is what is there after a restart.
#[test]
fn what_was_kept_is_where_it_was_after_a_restart() {
    let mut rig = ChangerRig::new();
    let mut state = 1_u64;
    let mut roll = |sides: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % sides
    };
    let places = [SLOT, SLOT + 1, SLOT + 2, SLOT + 3, SLOT + 4, MAIL, MAIL + 1, DRIVE, DRIVE + 1];
    let mut last = 0;
    for _ in 0..2000 {
        let [a, b, c] = [(); 3].map(|()| places[roll(places.len())]);
        let before = rig.inventory();
        let cdb = if a.is_multiple_of(2) { exchange(a, b, c) } else { move_medium(a, b) };
        rig.full = roll(4) == 0;
        let (outcome, _) = rig.run(&cdb, &[], 0);
        let in_drives = [DRIVE, DRIVE + 1].map(|at| rig.barcode(at));
        assert_eq!(in_drives, rig.drives.there.each_ref().map(|it| it.as_ref().map(|it| it.to_string())));
        if outcome.status != Status::Good {
            let moved_at_drives = rig.full && rig.inventory() != before;
            assert!(moved_at_drives || rig.inventory() == before, "nothing has moved");
            continue;
        }
        let record = rig.kept.clone().expect("kept before the status");
        assert!(record.generation > last, "a newer state");
        last = record.generation;
        let (next, furnished) = furnished(Some(&record.bytes), &BARCODES);
        assert_eq!(*next.inventory(), rig.inventory());
        let there =
            |drive: usize| Some(DriveChange { drive, barcode: Some(rig.drives.there[drive].clone()?) });
        let in_drives: Vec<_> = (0..2).filter_map(there).collect();
        assert_eq!(furnished, Ok(FurnishedLibrary { in_drives, ..FurnishedLibrary::default() }));
        let full = rig.inventory().all().filter(|(_, element)| element.volume.is_some()).count();
        assert_eq!(full, 3, "no cartridge is lost or doubled");
    }
    assert!(last > 50, "{last}");
}

#[test]
fn a_record_that_is_damaged_changes_nothing() {
    let mut rig = ChangerRig::new();
    rig.good(&move_medium(SLOT, MAIL), &[], 0);
    let record = rig.kept.take().unwrap().bytes;
    let twice = [&record[..], &record[1..]].concat();
    let mut elsewhere = twice.clone();
    // The same barcode at an address where nothing is.
    elsewhere[record.len()..record.len() + 2].copy_from_slice(&(SLOT + 3).to_be_bytes());
    let cuts =
        (0..record.len()).filter(|&at| !at.is_multiple_of(14) || at == 0).map(|at| record[..at].to_vec());
    let version = [vec![9], record[1..].to_vec()].concat();
    for bad in cuts.chain([twice, elsewhere, version]) {
        if bad.len() % 14 == 1 && bad.len() < record.len() && bad[0] == 1 {
            continue; // whole entries alone are a record
        }
        let (fresh, furnished) = furnished(Some(&bad), &BARCODES);
        assert!(furnished.is_err(), "{bad:?}");
        assert!(fresh.inventory().all().all(|(_, element)| element.volume.is_none()));
    }
}

/// What has changed while no daemon ran: cartridges are gone, others have come, more than there are slots for.
#[test]
fn a_library_takes_what_is_there() {
    let mut rig = ChangerRig::new();
    rig.good(&move_medium(SLOT, DRIVE + 1), &[], 0);
    rig.good(&move_medium(SLOT + 2, SLOT), &[], 0);
    let record = rig.kept.take().unwrap().bytes;
    let now = ["A00001L8", "B00001L8", "B00002L8", "B00003L8", "B00004L8", "B00005L8", "CLN001L1"];
    let (changer, furnished) = furnished(Some(&record), &now);
    let furnished = furnished.unwrap();
    assert_eq!(furnished.missing, ["A00002L8"]);
    assert_eq!(furnished.left_over, ["B00005L8"]);
    let in_drive = DriveChange { drive: 1, barcode: Some("A00001L8".into()) };
    assert_eq!(furnished.in_drives, [in_drive]);
    let at = |barcode: &str| changer.inventory().find(barcode);
    assert_eq!(
        (at("CLN001L1"), at("B00001L8"), at("B00004L8")),
        (Some(SLOT), Some(SLOT + 1), Some(SLOT + 4))
    );
    // Its slot is taken, and there is no other one: no cartridge is lost.
    changer.not_loaded(1);
    assert_eq!(at("A00001L8"), Some(DRIVE + 1));
    let (changer, _) = super::furnished(Some(&record), &["A00001L8", "CLN001L1"]);
    changer.not_loaded(1);
    assert_eq!(changer.inventory().find("A00001L8"), Some(SLOT + 1), "another has its slot");
}

#[test]
fn people_reach_what_is_opened_and_the_changer_does_not() {
    let mut rig = ChangerRig::new();
    let [a, b] = MAIL.to_be_bytes();
    let open = |action: u8| [0x1b, 0, a, b, action, 0];
    rig.good(&move_medium(SLOT, MAIL), &[], 0);
    rig.good(&open(0), &[], 0);
    let shut = (key::NOT_READY, asc::MEDIUM_NOT_PRESENT_TRAY_OPEN);
    assert_eq!(rig.why(&move_medium(MAIL, SLOT), &[]), shut);
    assert_eq!(rig.why(&move_medium(SLOT + 1, MAIL), &[]), shut);
    let (outcome, _) = rig.run(&open(1), &[], 0);
    assert!(format!("{outcome:?}").contains("10241"), "others hear of it (28/01): {outcome:?}");
    rig.good(&move_medium(MAIL, SLOT), &[], 0);
    // Nothing goes out, and nothing is opened, while that is prevented.
    rig.good(&[0x1e, 0, 0, 0, 1, 0], &[], 0);
    let prevented = (key::ILLEGAL_REQUEST, asc::MEDIUM_REMOVAL_PREVENTED);
    assert_eq!(rig.why(&open(0), &[]), prevented);
    assert_eq!(rig.why(&move_medium(SLOT, MAIL), &[]), prevented);
    rig.good(&move_medium(SLOT, DRIVE), &[], 0);
    rig.good(&[0x1e, 0, 0, 0, 0, 0], &[], 0);
    rig.good(&move_medium(SLOT + 1, MAIL), &[], 0);
    // mtx sends LOAD UNLOAD for no element; a slot cannot be opened.
    for action in 0..4 {
        rig.good(&[0x1b, 0, 0, 0, action, 0], &[], 0);
    }
    let [c, d] = SLOT.to_be_bytes();
    assert_eq!(rig.why(&[0x1b, 0, c, d, 0, 0], &[]), (key::ILLEGAL_REQUEST, asc::INVALID_ELEMENT_ADDRESS));
}

#[test]
fn positioning_and_initializing_move_nothing() {
    let mut rig = ChangerRig::new();
    let before = rig.inventory();
    let [a, b] = DRIVE.to_be_bytes();
    rig.good(&[0x2b, 0, 0, 1, a, b, 0, 0, 0, 0], &[], 0);
    rig.good(&[0x07, 0, 0, 0, 0, 0], &[], 0);
    for opcode in [0x37, 0xe7] {
        rig.good(&[opcode, 1, a, b, 0, 0, 0, 2, 0, 0], &[], 0);
        let none = (key::ILLEGAL_REQUEST, asc::INVALID_ELEMENT_ADDRESS);
        assert_eq!(rig.why(&[opcode, 1, 0xff, 0, 0, 0, 0, 2, 0, 0], &[]), none);
    }
    assert_eq!(
        rig.why(&[0x2b, 0, 0, 1, 0xff, 0, 0, 0, 0, 0], &[]),
        (key::ILLEGAL_REQUEST, asc::INVALID_ELEMENT_ADDRESS)
    );
    assert_eq!(rig.inventory(), before);
}
