// SPDX-License-Identifier: GPL-2.0-or-later
use std::cell::RefCell;
use std::rc::Rc;

use super::super::{Arena, BufferSlots, Lease, Seg, Sg};
use super::*;

/// What a device was told, in order.
#[derive(Clone, Default)]
struct Told(Rc<RefCell<Vec<String>>>);

impl Told {
    fn say(&self, what: &str) {
        self.0.borrow_mut().push(what.into());
    }

    fn take(&self) -> Vec<String> {
        self.0.take()
    }
}

/// A registrar whose handles have nothing to do with addresses. It refuses what is not there yet.
struct TestDevice {
    told: Told,
    keys: u32,
    names: Vec<(RegionId, &'static str)>,
}

impl TestDevice {
    fn name(&self, region: &Region) -> &'static str {
        self.names.iter().find(|(id, _)| *id == region.id()).unwrap().1
    }
}

impl Registrar for TestDevice {
    type Handle = u32;

    fn register(&mut self, region: &Region) -> io::Result<u32> {
        assert!(region.is_registered(), "its pages stay from before on");
        self.told.say(&format!("+{}", self.name(region)));
        if !region.pages().present {
            return Err(io::Error::other("not all there"));
        }
        self.keys += 1;
        Ok(self.keys)
    }

    fn unregister(&mut self, region: &Region, key: u32) {
        self.told.say(&format!("-{}{key}", self.name(region)));
    }
}

/// Memory that tells when it is unmapped.
struct Watched(Mapping, std::sync::mpsc::Sender<()>);

// SAFETY: a mapping.
unsafe impl SharedMemory for Watched {
    fn base(&self) -> NonNull<u8> {
        self.0.base()
    }

    fn len(&self) -> usize {
        self.0.len()
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        // Not every test listens.
        _ = self.1.send(());
    }
}

const PRESENT: RegionPages = RegionPages { pages: Pages::Ordinary, writable: true, present: true };

fn watched(present: bool) -> (Region, std::sync::mpsc::Receiver<()>) {
    let (gone, heard) = std::sync::mpsc::channel();
    let memory = Watched(Mapping::anonymous(1 << 20, false).unwrap(), gone);
    (Region::new(memory, RegionPages { present, ..PRESENT }), heard)
}

#[test]
fn each_region_is_registered_once_and_taken_out_once() {
    let told = Told::default();
    let (arena, slots) = (Arena::new(2 << 20, false).unwrap(), BufferSlots::new(1, 64, false).unwrap());
    let (sparse, _heard) = watched(false);
    let names = vec![(arena.region().id(), "arena"), (slots.region().id(), "slots"), (sparse.id(), "sparse")];
    let mut table = RegionTable::new(TestDevice { told: told.clone(), keys: 0, names });
    for _ in 0..2 {
        table.add(slots.region()).unwrap();
        table.add(arena.region()).unwrap();
    }
    assert_eq!(table.add(&sparse).unwrap_err().to_string(), "not all there");
    assert!(table.add(&sparse).is_ok(), "a refusal is told once");
    assert_eq!(told.take(), ["+slots", "+arena", "+sparse"]);
    assert!(table.handle(sparse.id()).is_none() && !sparse.is_registered());
    let of = |seg: Option<(RegionId, usize)>| table.handle(seg.unwrap().0).copied();
    assert_eq!(
        (of(slots.take(1).unwrap().in_region()), of(arena.alloc(1).unwrap().in_region())),
        (Some(1), Some(2))
    );
    table.give_up();
    let mut gone = told.take();
    gone.sort();
    assert_eq!(gone, ["-arena2", "-slots1"]);
    assert!(!arena.region().is_registered() && !slots.region().is_registered());
    assert!(table.handle(arena.region().id()).is_none());
}

#[test]
fn a_segment_knows_where_it_lies_whoever_owns_it() {
    let arena = Arena::new(4 << 20, false).unwrap();
    let (lent, _heard) = watched(true);
    let (first, second) = (arena.alloc(256).unwrap(), arena.alloc(256).unwrap());
    assert_eq!(first.in_region(), Some((arena.region().id(), 0)));
    assert_eq!(second.freeze().slice(6, 1).in_region(), Some((arena.region().id(), 262)));
    let seg = Lease::new(lent.clone()).lend(4096, 100);
    assert_eq!(seg.in_region(), Some((lent.id(), 4096)));
    assert_ne!(lent.id(), arena.region().id());
    let constant = Seg::from_static(b"constant");
    assert_eq!(constant.in_region(), None);
    let other = Lease::new(Mapping::anonymous(4096, false).unwrap()).lend(0, 1);
    assert_eq!(other.in_region(), None, "memory that is lent and no region");
}

#[test]
fn a_region_goes_with_its_last_segment_and_its_last_registrar() {
    for registrar_first in [false, true] {
        let (region, gone) = watched(true);
        let id = region.id();
        let mut table =
            RegionTable::new(TestDevice { told: Told::default(), keys: 0, names: vec![(id, "it")] });
        table.add(&region).unwrap();
        let whole = Sg::from(Lease::new(region).lend(0, 1 << 20));
        let last = whole.segs()[0].slice(5, 5);
        drop(whole);
        let (other, _heard) = watched(true);
        assert_ne!(other.id(), id, "its number is taken");
        if registrar_first {
            table.give_up();
            assert!(gone.try_recv().is_err());
            drop(last);
        } else {
            drop(last);
            assert!(gone.try_recv().is_err(), "a device may touch it");
            table.give_up();
        }
        assert!(gone.try_recv().is_ok());
    }
}

#[test]
fn a_number_that_was_refused_is_asked_for_again_when_it_is_anothers() {
    let mut table = RegionTable::new(TestDevice { told: Told::default(), keys: 0, names: Vec::new() });
    // Others take and give back numbers meanwhile.
    for _ in 0..100 {
        let (sparse, _gone) = watched(false);
        let id = sparse.id();
        table.registrar.names = vec![(id, "sparse")];
        assert!(table.add(&sparse).is_err());
        drop(sparse);
        let (present, _gone) = watched(true);
        if present.id() == id {
            table.registrar.names = vec![(id, "present")];
            table.add(&present).unwrap();
            assert!(table.handle(id).is_some());
            return table.give_up();
        }
    }
    panic!("the lowest free number is taken");
}

#[test]
fn pages_move_until_a_registrar_knows_where_they_are() {
    let (region, _gone) = watched(true);
    let mut moved = 0;
    assert!(region.move_pages(|| moved += 1));
    let names = vec![(region.id(), "it")];
    let mut table = RegionTable::new(TestDevice { told: Told::default(), keys: 0, names });
    table.add(&region).unwrap();
    assert!(!region.move_pages(|| moved += 1));
    table.give_up();
    assert!(region.move_pages(|| moved += 1));
    assert_eq!(moved, 2);
}

#[test]
#[should_panic(expected = "goes before it is given up")]
#[cfg(debug_assertions)]
fn a_table_that_goes_before_its_device_has_stopped_is_told_of() {
    let (region, _gone) = watched(true);
    let names = vec![(region.id(), "it")];
    let mut table = RegionTable::new(TestDevice { told: Told::default(), keys: 0, names });
    table.add(&region).unwrap();
}
