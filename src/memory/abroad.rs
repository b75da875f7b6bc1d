// SPDX-License-Identifier: GPL-2.0-or-later
//! Payload that another core copies. Segments belong to the core that made them, and go back there to be dropped.

use std::mem::ManuallyDrop;
use std::thread::{self, ThreadId};

use super::{Arena, Sg};

/// Bytes that any thread may copy, and that only the thread that has sent them away drops, together with what is kept
/// for as long: an account's charge. Dropped anywhere else they are lost, which is an error.
pub struct Abroad<K = ()> {
    data: ManuallyDrop<(Sg, K)>,
    home: ThreadId,
}

// SAFETY: away from home nothing is done with the list but to ask for its length and to read the bytes of its segments:
// - a segment is an address, a length and an owner, of which only the kind is looked at; no handle to the owner is
//   cloned or dropped, so no reference count is touched, and what is kept beside the list is not touched at all;
// - the bytes of a block, a loan or a constant are written by nobody while there is a segment over them, and those of
//   lent memory are read by raw copies, as other cores do anyway.
// `drop` looks at the thread before it touches more.
unsafe impl<K> Send for Abroad<K> {}

impl<K> Abroad<K> {
    /// Sends bytes away from this thread, with what is to live as long.
    pub fn new(data: Sg, kept: K) -> Self {
        Self { data: ManuallyDrop::new((data, kept)), home: thread::current().id() }
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.data.0.len()
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A copy in blocks of an arena of this thread's. `None` when that is exhausted.
    pub fn copied(&self, arena: &Arena) -> Option<Sg> {
        let mut copy = Sg::new();
        while copy.len() < self.len() {
            let at = copy.len();
            let mut block = arena.alloc((self.len() - at).min(Arena::block_max()))?;
            self.data.0.copy_to(at, block.bytes_mut());
            copy.push(block.freeze());
        }
        Some(copy)
    }
}

impl<K> Drop for Abroad<K> {
    fn drop(&mut self) {
        if thread::current().id() == self.home {
            // SAFETY: it is dropped here only, and not looked at afterwards.
            unsafe { ManuallyDrop::drop(&mut self.data) };
        } else if !thread::panicking() {
            log::error!("{} bytes of payload were dropped by a core that they do not belong to", self.len());
            debug_assert!(false, "dropped away from home");
        }
    }
}

impl<K> std::fmt::Debug for Abroad<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Abroad({} bytes)", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Lease, MemoryAccount, MemoryCharge, SharedMemory};
    use super::*;
    use std::ptr::NonNull;

    #[test]
    fn another_thread_copies_what_comes_home_to_be_dropped() {
        let arena = Arena::new(4 << 20, false).unwrap();
        let account = MemoryAccount::root(1 << 20);
        let mut data = Sg::copied(&arena, &[7; 5000]).unwrap();
        let here = data.clone();
        data.append(Sg::from(super::super::Seg::from_static(b"end")));
        let mut charge = MemoryCharge::on(&account);
        charge.set(5003);
        let away = Abroad::new(data, charge);
        let back = thread::spawn(move || {
            let arena = Arena::new(4 << 20, false).unwrap();
            let copy = away.copied(&arena).unwrap();
            assert_eq!((copy.len(), &copy.to_vec()[4999..]), (5003, &b"\x07end"[..]));
            away
        });
        // Meanwhile handles to the same block come and go here.
        let again = here.clone();
        drop(here);
        let away = back.join().unwrap();
        drop(again);
        assert_eq!((arena.in_use(), account.used()), (16 << 10, 5003));
        drop(away);
        assert_eq!((arena.in_use(), account.used()), (0, 0));
    }

    struct Page(Box<[u8; 4]>);

    // SAFETY: the box stays where it is while it lives, and nobody writes it.
    unsafe impl SharedMemory for Page {
        fn base(&self) -> NonNull<u8> {
            NonNull::from(&*self.0).cast()
        }

        fn len(&self) -> usize {
            self.0.len()
        }
    }

    #[test]
    fn lent_memory_is_copied_and_stays_out_until_it_is_back() {
        let lease = Lease::new(Page(Box::new(*b"page")));
        let away = Abroad::new(Sg::from(lease.clone().lend(1, 3)), ());
        let away = thread::spawn(move || {
            let arena = Arena::new(2 << 20, false).unwrap();
            assert_eq!(away.copied(&arena).unwrap().to_vec(), b"age");
            away
        });
        let away = away.join().unwrap();
        assert!(lease.is_out());
        drop(away);
        assert!(!lease.is_out());
    }

    #[test]
    fn an_exhausted_arena_copies_nothing_and_keeps_nothing() {
        let (arena, small) = (Arena::new(4 << 20, false).unwrap(), Arena::new(2 << 20, false).unwrap());
        let away = Abroad::new(Sg::copied(&arena, &vec![1; 3 << 20]).unwrap(), ());
        assert!(away.copied(&small).is_none());
        assert_eq!(small.in_use(), 0);
    }

    #[test]
    #[cfg_attr(miri, ignore = "what is lost on purpose is a leak to Miri")]
    fn what_is_dropped_away_from_home_is_noticed() {
        let arena = Arena::new(2 << 20, false).unwrap();
        let away = Abroad::new(Sg::copied(&arena, b"lost").unwrap(), ());
        let lost = thread::spawn(move || drop(away)).join();
        assert_eq!(lost.is_err(), cfg!(debug_assertions));
        // It is lost rather than counted by two cores at once.
        assert_eq!(arena.in_use(), 256);
    }
}
