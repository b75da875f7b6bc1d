// SPDX-License-Identifier: GPL-2.0-or-later
//! The flushes of the end, with stores that have room for few of them.

use super::*;
use crate::io::{Error, ErrorKind};

/// What the stores of a core share, as those of files share a ring: room for three operations.
#[derive(Default)]
struct Ring {
    under_way: Vec<(usize, Tag)>,
    flushed: Vec<usize>,
}

struct RingStore {
    number: usize,
    ring: Rc<RefCell<Ring>>,
}

impl Store for RingStore {
    fn geometry(&self) -> Geometry {
        Geometry { bytes: 4096, block: 512, transfer_max: 4096, thin: false, read_only: false }
    }

    fn submit(&mut self, tag: Tag, op: Op) -> Submitted {
        assert!(matches!(op, Op::Flush), "{op:?}");
        let mut ring = self.ring.borrow_mut();
        match self.number {
            // One that ends at once, and one that fails at once.
            4 => Submitted::Done(Done::Finished),
            5 => Submitted::Done(Done::Failed(Error { kind: ErrorKind::NoSpace, at: 0 })),
            _ if ring.under_way.len() == 3 => Submitted::Full(op),
            number => {
                ring.under_way.push((number, tag));
                Submitted::Queued
            }
        }
    }

    fn poll(&mut self, done: &mut Vec<(Tag, Done)>) -> usize {
        let mut ring = self.ring.borrow_mut();
        let Some(at) = ring.under_way.iter().position(|(number, _)| *number == self.number) else { return 0 };
        let (number, tag) = ring.under_way.remove(at);
        ring.flushed.push(number);
        let failed = Error { kind: ErrorKind::WriteFailed, at: 0 };
        done.push((tag, if number == 7 { Done::Failed(failed) } else { Done::Finished }));
        1
    }
}

struct NoTransports;

impl Transports for NoTransports {
    fn transport(&mut self, _: NexusKey) -> Option<&mut dyn Transport> {
        None
    }
}

#[test]
fn every_unit_is_flushed_or_told_however_little_room_there_is() {
    let ring: Rc<RefCell<Ring>> = Rc::default();
    let arena = Arena::new(4 << 20, false).unwrap();
    let mut tasks =
        TaskManager::new(&CoreContext::alone(arena), Box::new(Rc::new(RefCell::new(ToyDisk::default()))));
    let units: Vec<UnitKey> = (0..10)
        .map(|number| {
            let store = RingStore { number, ring: ring.clone() };
            let unit = UnitKey(number as u64 + 1);
            tasks.add_unit(unit, Box::new(Rc::new(RefCell::new(ToyDisk::default()))), Some(Box::new(store)));
            unit
        })
        .collect();
    tasks.flush();
    let mut turns = 0;
    while !tasks.flushed() {
        tasks.poll_stores(Instant::ZERO, &mut NoTransports, &mut |_| {});
        turns += 1;
        assert!(turns < 20, "it ends");
    }
    let mut flushed = ring.borrow().flushed.clone();
    flushed.sort_unstable();
    assert_eq!(flushed, [0, 1, 2, 3, 6, 7, 8, 9]);
    let mut failed: Vec<_> = tasks.unflushed().iter().map(|(unit, error)| (*unit, error.kind)).collect();
    failed.sort_by_key(|(unit, _)| *unit);
    assert_eq!(failed, [(units[5], ErrorKind::NoSpace), (units[7], ErrorKind::WriteFailed)]);
}

#[test]
fn a_store_that_never_has_room_is_told() {
    let ring: Rc<RefCell<Ring>> = Rc::default();
    ring.borrow_mut().under_way = vec![(99, Tag(0)); 3];
    let arena = Arena::new(4 << 20, false).unwrap();
    let mut tasks =
        TaskManager::new(&CoreContext::alone(arena), Box::new(Rc::new(RefCell::new(ToyDisk::default()))));
    let store = RingStore { number: 0, ring };
    let unit = UnitKey(1);
    tasks.add_unit(unit, Box::new(Rc::new(RefCell::new(ToyDisk::default()))), Some(Box::new(store)));
    tasks.flush();
    assert!(tasks.flushed(), "nothing is waited for that never comes");
    assert_eq!(tasks.unflushed(), [(unit, Error { kind: ErrorKind::NoMemory, at: 0 })]);
}
