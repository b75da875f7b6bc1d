// SPDX-License-Identifier: GPL-2.0-or-later
//! Logical units come, go and are exchanged while there are commands for them.

use std::time::Duration;

use super::*;
use crate::scsi::UnitKeys;

const DISK_KEY: UnitKey = UnitKey(1);
const TAPE_KEY: UnitKey = UnitKey(2);
const OTHER: UnitKey = UnitKey(3);

/// When what is under way has taken too long.
const LATE: Instant = Instant::from_nanos(5_000_000_000);

/// A turn later.
const SOON: Instant = Instant::from_nanos(2_000_000);

impl World {
    /// Another disk, which nobody sees yet.
    fn add(&mut self, key: UnitKey) -> Rc<RefCell<StoreState>> {
        let bytes = vec![0x33; UNIT_BYTES];
        let shared = Rc::new(RefCell::new(StoreState { bytes, ..StoreState::default() }));
        let store = HoldingStore { arena: self.arena.clone(), shared: shared.clone() };
        self.manager.add_unit(key, Box::new(self.disk.clone()), Some(Box::new(store)));
        shared
    }

    fn see(&mut self, units: &[(Lun, UnitKey)]) {
        for nexus in 0..2 {
            self.manager.see(NOW, self.transports[nexus].0, units);
        }
    }

    fn retired(&mut self) -> Vec<UnitKey> {
        let mut retired = Vec::new();
        while let Some(notice) = self.manager.poll_notice() {
            match notice {
                Notice::Retired(unit, flushed) => {
                    assert_eq!(flushed, Ok(()));
                    retired.push(unit);
                }
                other => panic!("{other:?}"),
            }
        }
        retired
    }

    /// The codes of the unit attentions of a logical unit, each reported once.
    fn attentions(&mut self, nexus: usize, lun: Lun) -> Vec<u16> {
        let mut codes = Vec::new();
        loop {
            self.command(nexus, 500, lun, &[0; 10], 0, &[]);
            self.turn_at(SOON);
            if self.wire(nexus).responses.pop().unwrap().1 == Status::Good {
                return codes;
            }
            let sense = &self.wire(nexus).sense[&RequestTag(500)];
            codes.push(u16::from_be_bytes([sense[12], sense[13]]));
        }
    }

    fn status(&mut self, nexus: usize, x: u32) -> Option<Status> {
        let mut all = self.wire(nexus).responses.iter().filter(|(tag, ..)| *tag == RequestTag(x));
        let status = all.next().map(|(_, status, ..)| *status);
        assert!(all.next().is_none(), "{x} is answered once");
        status
    }
}

#[test]
fn what_is_under_way_ends_and_what_comes_then_finds_nothing() {
    let mut w = World::new(TransportKind::Stream, 0);
    w.stores[0].borrow_mut().hold = true;
    w.command(0, 1, DISK, &read(0, 1), BLOCK as u32, &[]);
    w.command(1, 1, TAPE, &read_record(3500), 3500, &[]);
    w.turn();
    w.see(&[(TAPE, TAPE_KEY)]);
    w.manager.retire(NOW, DISK_KEY);
    // The unit of absent LUNs is a disk of its own here, without a store.
    w.command(0, 2, DISK, &read(0, 1), BLOCK as u32, &[]);
    w.turn_at(SOON);
    assert_eq!((w.status(0, 1), w.status(0, 2)), (None, Some(Status::Good)));
    assert!(w.wire(0).seen[&RequestTag(2)].is_empty(), "nothing comes from the old store");
    assert!(w.manager.row(DISK_KEY).is_some() && w.retired().is_empty());
    w.stores[0].borrow_mut().hold = false;
    let held = std::mem::take(&mut w.stores[0].borrow_mut().held);
    w.stores[0].borrow_mut().released = held;
    for turn in 2..6 {
        w.turn_at(NOW + Duration::from_millis(2 * turn));
    }
    assert_eq!((w.status(0, 1), w.status(1, 1)), (Some(Status::Good), Some(Status::Good)));
    assert_eq!(w.wire(0).seen[&RequestTag(1)].len(), BLOCK);
    assert_eq!(w.retired(), [DISK_KEY]);
    assert_eq!(w.manager.next_deadline(), None, "nothing is left to be looked after");
    w.manager.remove_unit(DISK_KEY);
    assert_eq!(w.manager.unit_keys().collect::<Vec<_>>(), [TAPE_KEY]);
    w.check_quiet();
}

/// Whatever a task waits for when its logical unit goes: it ends once, and takes nothing with it.
#[test]
fn a_unit_goes_whatever_its_tasks_wait_for() {
    for kind in KINDS {
        for (state, late) in [
            "fetching",
            "sending",
            "storing",
            "refused",
            "persisting",
            "held",
            "blocked",
            "detached",
            "steady",
        ]
        .into_iter()
        .flat_map(|state| [(state, false), (state, true)])
        {
            let mut w = World::new(kind, 0);
            let data = [9; BLOCK];
            match state {
                "fetching" => {
                    w.wire(0).hold = true;
                    w.command(0, 1, DISK, &write(1, 1), 0, &data);
                }
                "sending" => {
                    w.wire(0).hold = true;
                    w.command(0, 1, TAPE, &read_record(3500), 3500, &[]);
                }
                "persisting" => {
                    w.kept.borrow_mut().hold = true;
                    w.command(0, 1, DISK, &persist(1), 0, &[]);
                }
                "refused" => {
                    w.stores[0].borrow_mut().full = true;
                    w.command(0, 1, DISK, &read(1, 1), BLOCK as u32, &[]);
                }
                "detached" | "steady" => {
                    w.stores[0].borrow_mut().hold = true;
                    let cdb = [if state == "steady" { 0x49 } else { 0x48 }, 0, 0, 0, 0, 0, 0, 0, 0, 0];
                    w.command(0, 1, DISK, &cdb, 0, &[]);
                }
                _ => {
                    w.stores[0].borrow_mut().hold = true;
                    w.command(0, 1, DISK, &read(1, 1), BLOCK as u32, &[]);
                }
            }
            w.turn();
            match state {
                // A change begins, which waits for the store; another command waits for its end.
                "held" => {
                    w.command(0, 2, DISK, &[0x16, 0, 0, 0, 0, 0, 0, 0, 0, 0], 0, &[]);
                    w.turn();
                    w.command(0, 3, DISK, &read(1, 1), BLOCK as u32, &[]);
                }
                "blocked" => {
                    w.ordered(0, 2, DISK, &read(1, 1), BLOCK as u32, &[], TaskAttribute::Ordered);
                    w.command(0, 3, DISK, &read(1, 1), BLOCK as u32, &[]);
                }
                _ => {}
            }
            w.turn();
            assert_eq!(w.manager.tasks(), if matches!(state, "held" | "blocked") { 3 } else { 1 }, "{state}");
            w.see(&[]);
            w.manager.retire(NOW, DISK_KEY);
            w.manager.retire(NOW, TAPE_KEY);
            w.turn_at(SOON);
            let mut retired = w.retired();
            let busy = if state == "sending" { TAPE_KEY } else { DISK_KEY };
            assert!(!retired.contains(&busy), "{kind:?} {state} {late}: something is under way");
            if late {
                w.turn_at(LATE);
                // What waits for its initiator alone has ended by now.
                let waits = matches!(state, "fetching" | "sending");
                assert!(!waits || w.status(0, 1).is_some(), "{kind:?} {state}");
            }
            w.release();
            for turn in 0..8 {
                w.turn_at(LATE + Duration::from_millis(2 * turn));
            }
            retired.extend(w.retired());
            retired.sort_unstable();
            assert_eq!(retired, [DISK_KEY, TAPE_KEY], "{kind:?} {state} {late}");
            for x in 1..=3 {
                let sent = w.wire(0).offered.contains_key(&RequestTag(x));
                assert_eq!(w.status(0, x).is_some(), sent, "{kind:?} {state} {late}: command {x}");
            }
            assert!(w.manager.nexuses.iter().all(|(_, nexus)| nexus.task_sets.is_empty()));
            w.manager.remove_unit(DISK_KEY);
            w.manager.remove_unit(TAPE_KEY);
            w.check_quiet();
        }
    }
}

#[test]
fn nexuses_are_told_what_has_changed() {
    let mut w = World::new(TransportKind::Stream, 0);
    let (third, far) = (Lun::from_index(2), Lun::from_index(7));
    w.add(OTHER);
    // A new one, and those that there were.
    w.see(&[(DISK, DISK_KEY), (TAPE, TAPE_KEY), (third, OTHER)]);
    w.turn_at(SOON);
    assert_eq!(w.wire(1).events.len(), 3, "where nothing is under way, it is told at once");
    const LUNS: u16 = asc::REPORTED_LUNS_DATA_HAS_CHANGED;
    const POWER_ON: u16 = asc::POWER_ON_RESET_OR_BUS_DEVICE_RESET_OCCURRED;
    assert_eq!(w.attentions(0, DISK), [LUNS]);
    assert_eq!(w.attentions(0, third), [POWER_ON, LUNS]);
    // The same again is no change.
    w.see(&[(DISK, DISK_KEY), (TAPE, TAPE_KEY), (third, OTHER)]);
    assert!(w.attentions(0, DISK).is_empty());
    // Another LUN for one, another unit of the same size for another.
    w.see(&[(DISK, OTHER), (far, DISK_KEY)]);
    assert_eq!(w.attentions(0, DISK), [POWER_ON, asc::INQUIRY_DATA_HAS_CHANGED, LUNS]);
    assert_eq!(w.attentions(0, far), [POWER_ON, LUNS]);
    // One of another size: there is no store behind it.
    w.manager.add_unit(UnitKey(4), Box::new(w.disk.clone()), None);
    w.see(&[(DISK, UnitKey(4)), (far, DISK_KEY)]);
    assert_eq!(
        w.attentions(0, DISK),
        [POWER_ON, asc::INQUIRY_DATA_HAS_CHANGED, asc::CAPACITY_DATA_HAS_CHANGED]
    );
    assert!(w.attentions(0, far).is_empty(), "the LUNs are the same");
}

/// Another unit takes the place of one where tasks are under way: those of the same nexus go first, also if that
/// happens again before they have ended.
#[test]
fn the_tasks_of_the_unit_before_go_first() {
    for late in [false, true] {
        let mut w = World::new(TransportKind::Stream, 0);
        w.stores[0].borrow_mut().hold = true;
        w.command(0, 1, DISK, &read(0, 1), BLOCK as u32, &[]);
        w.turn();
        w.add(OTHER);
        w.add(UnitKey(4));
        w.see(&[(DISK, OTHER), (TAPE, TAPE_KEY)]);
        w.see(&[(DISK, UnitKey(4)), (TAPE, TAPE_KEY)]);
        for x in 2..8 {
            w.command(0, x, DISK, &read(0, 1), BLOCK as u32, &[]);
        }
        // Nobody else waits for them.
        assert_eq!(w.attentions(1, DISK).len(), 2);
        w.turn_at(SOON);
        assert_eq!((2..8).filter_map(|x| w.status(0, x)).filter(|status| *status == Status::Good).count(), 0);
        if late {
            // What takes too long is aborted, and then it is another's turn.
            w.turn_at(LATE);
        }
        w.release();
        for turn in 0..8 {
            w.turn_at(LATE + Duration::from_millis(2 * turn));
        }
        let good = |status: &Status| *status == Status::Good;
        assert_eq!(w.status(0, 1), Some(if late { Status::TaskAborted } else { Status::Good }));
        assert!((2..8).filter_map(|x| w.status(0, x)).filter(good).count() >= 3, "late: {late}");
        assert!((2..8).all(|x| w.status(0, x).is_some()), "late: {late}");
        w.see(&[]);
        w.turn_at(LATE + Duration::from_secs(9));
        w.check_quiet();
    }
}

/// A message that comes late is for nobody, not for who has the row now.
#[test]
fn a_stale_key_names_nothing() {
    let mut keys = UnitKeys::default();
    let (first, _, third) = (keys.allocate(), keys.allocate(), keys.allocate());
    assert_eq!((first, third), (DISK_KEY, OTHER));
    let mut w = World::new(TransportKind::Stream, 1);
    w.add(OTHER);
    w.see(&[]);
    w.manager.retire(NOW, OTHER);
    w.turn_at(SOON);
    assert_eq!(w.retired(), [OTHER]);
    w.manager.remove_unit(OTHER);
    keys.release(OTHER);
    let new = keys.allocate();
    assert_eq!(new.row(), OTHER.row());
    w.add(new);
    w.see(&[(TAPE, new)]);
    assert_eq!(w.attentions(0, TAPE).len(), 2);
    w.manager.hear(PeerMessage::Attention(OTHER, 0x2a01));
    w.manager.reset(SOON, SmallVec::from_slice(&[OTHER]), AfterAbort::Tell(5));
    w.manager.change(OTHER, Change::Reset, 6);
    assert!(w.attentions(0, TAPE).is_empty());
    let mut notices = Vec::from_iter(std::iter::from_fn(|| w.manager.poll_notice()));
    notices.sort_by_key(|notice| matches!(notice, Notice::Ended(5)));
    assert_eq!(notices, [Notice::Changed { what: 6, refused: true }, Notice::Ended(5)]);
    w.manager.remove_unit(OTHER);
    assert_eq!(w.manager.unit_keys().collect::<Vec<_>>(), [DISK_KEY, TAPE_KEY, new]);
}

/// The daemon stops while a unit goes: its flush is waited for as are the others.
#[test]
fn a_stop_waits_for_units_that_go() {
    let mut w = World::new(TransportKind::Stream, 0);
    w.see(&[(TAPE, TAPE_KEY)]);
    w.stores[0].borrow_mut().hold = true;
    w.manager.retire(NOW, DISK_KEY);
    w.turn();
    assert_eq!(w.stores[0].borrow().held.len(), 1);
    w.manager.flush();
    assert!(!w.manager.flushed());
    assert_eq!(w.stores[0].borrow().held.len(), 1, "it is asked once");
    w.release();
    assert!(w.manager.flushed());
    assert_eq!(w.retired(), [DISK_KEY]);
}

/// The daemon stops when a unit has gone, and its store is closed before the flush of the end comes to it, or does not
/// answer any more.
#[test]
fn a_stop_does_not_wait_for_units_that_are_gone() {
    for (before, closed) in [(false, true), (true, true), (false, false), (true, false)] {
        let mut w = World::new(TransportKind::Stream, 0);
        let store = w.add(OTHER);
        w.see(&[]);
        if !before {
            w.manager.flush();
        }
        w.manager.retire(NOW, OTHER);
        w.turn_at(SOON);
        w.release();
        w.turn_at(SOON);
        assert_eq!(w.retired(), [OTHER], "before: {before}");
        store.borrow_mut().hold = true;
        if before {
            w.manager.flush();
        }
        if closed {
            w.manager.remove_unit(OTHER);
        }
        w.manager.flushed();
        w.release();
        assert!(w.manager.flushed(), "before: {before}, closed: {closed}");
    }
}

/// Units are seen and go by chance under commands of all kinds: each is answered once.
#[test]
fn whatever_is_seen_when_commands_end_once() {
    for seed in 1..60 {
        let mut w = World::new(KINDS[seed as usize % 3], 0);
        w.see(&[(DISK, DISK_KEY)]);
        let mut dice = cores::Dice(seed);
        let mut keys = vec![DISK_KEY];
        for row in 3..6 {
            w.add(UnitKey(row));
            keys.push(UnitKey(row));
        }
        let (mut x, mut sent) = (0, [Vec::new(), Vec::new()]);
        for step in 0..200 {
            let now = NOW + Duration::from_millis(step * 40);
            let nexus = dice.below(2);
            match dice.below(8) {
                0 => {
                    let luns = (0..5_u16).map(Lun::from_index);
                    let seen: Vec<_> =
                        luns.zip(keys.iter().copied()).filter(|_| dice.below(2) == 0).collect();
                    w.manager.see(now, w.transports[nexus].0, &seen);
                }
                1 => {
                    let turned = dice.below(keys.len());
                    keys[..].rotate_left(turned);
                }
                2 => w.stores[0].borrow_mut().hold = dice.below(2) == 0,
                3 => w.wire(nexus).hold = dice.below(2) == 0,
                4 => w.release(),
                _ => {
                    let lun = Lun::from_index(u16::try_from(dice.below(6)).unwrap());
                    let out = dice.below(2) * BLOCK;
                    let cdb = if out > 0 { write(1, 1) } else { read(2, 1) };
                    let attribute = match dice.below(3) {
                        0 => TaskAttribute::Ordered,
                        _ => TaskAttribute::Simple,
                    };
                    x += 1;
                    w.ordered(nexus, x, lun, &cdb, BLOCK as u32, &vec![1; out], attribute);
                    sent[nexus].push(x);
                }
            }
            w.turn_at(now);
        }
        w.release();
        w.see(&[]);
        for turn in 0..8 {
            w.turn_at(NOW + Duration::from_secs(20 + 5 * turn));
            w.release();
        }
        for (nexus, sent) in sent.iter().enumerate() {
            for &x in sent {
                assert!(w.status(nexus, x).is_some(), "seed {seed}: command {x} of {nexus}");
            }
        }
        assert!(w.manager.nexuses.iter().all(|(_, nexus)| nexus.task_sets.is_empty()), "seed {seed}");
        w.check_quiet();
    }
}
