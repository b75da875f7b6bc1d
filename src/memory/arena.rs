// SPDX-License-Identifier: GPL-2.0-or-later
//! One core's payload memory: a mapping cut into chunks of 2 MiB, each given to one size class when that class runs
//! dry. Blocks keep their reference count with them, so the steady state allocates nothing. When all chunks are given
//! away, one of which no block is in use is cut anew for the class that needs it, so that a burst of small requests
//! never leaves large ones without memory for good.
//!
//! Some of the chunks are a reserve: payload never takes them, however little there is, so that something can still be
//! received and answered.

use std::cell::{Cell, RefCell};
use std::ptr::NonNull;
use std::rc::Rc;

use super::MemoryAccount;
use super::region::{Pages, Region};
use super::seg::{ComesHome, SegMut};
use crate::counters::counter_set;

/// Bytes of a chunk: one huge page.
const CHUNK: usize = 2 << 20;

/// Block sizes, ascending. 68 KiB holds a 64 KiB frame with its headers; blocks of 4 KiB and more are page-aligned.
const CLASSES: [usize; 7] = [256, 2048, 4096, 16 << 10, 68 << 10, 256 << 10, 1 << 20];

/// Free blocks are in a list for each class, first those that anybody may have, then those of the reserve.
const LISTS: usize = 2 * CLASSES.len();

/// Chunks of the reserve: one of so many, and so many at least. An arena that has fewer than [`RESERVE_SHARE`] has
/// none.
const RESERVE_SHARE: usize = 8;
const RESERVE_MIN: usize = 2;

/// The share of those who have not logged in.
const STRANGERS_SHARE: u64 = 8;

counter_set! {
    /// How full an arena is.
    pub struct ArenaCounters {
        /// Payload memory in total.
        bytes: Gauge of Bytes as "MEMORY",
        /// Payload memory in use.
        in_use_bytes: Gauge of Bytes as "IN USE",
        /// Most that was ever in use at once.
        in_use_max_bytes: Maximum of Bytes as "MOST",
        /// Requests that found no free memory.
        refused: Counter of Requests as "REFUSED",
    }
}

pub(super) struct Block {
    base: NonNull<u8>,
    /// Where it is when it is free.
    list: u8,
    chunk: u32,
    home: Rc<Inner>,
}

impl Block {
    pub(super) fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// The region that it is a part of.
    pub(super) fn region(&self) -> &Region {
        &self.home.region
    }

    pub(super) fn capacity(&self) -> usize {
        CLASSES[self.list as usize % CLASSES.len()]
    }

    /// Whether it is of the reserve.
    pub(super) fn is_reserved(&self) -> bool {
        self.list as usize >= CLASSES.len()
    }
}

impl ComesHome for Block {
    /// Returns it to its arena.
    fn come_home(last: Rc<Self>) {
        let home = last.home.clone();
        home.count_out(&last);
        if !home.closed.get() {
            home.free[last.list as usize].borrow_mut().push(last);
        }
    }
}

/// A chunk, once it was cut into blocks.
#[derive(Clone, Default)]
struct Chunk {
    /// Where these are when they are free.
    list: Cell<usize>,
    /// Blocks of it that somebody holds.
    in_use: Cell<u32>,
}

struct Inner {
    region: Region,
    handles: Cell<usize>,
    /// The last handle is gone: blocks that come home are dropped, and the last one drops the mapping.
    closed: Cell<bool>,
    /// By their order in the mapping; the last ones are the reserve.
    chunks: Box<[Chunk]>,
    /// How many of either have been cut, and where they begin.
    made: [Cell<usize>; 2],
    begin: [usize; 3],
    free: [RefCell<Vec<Rc<Block>>>; LISTS],
    budget: MemoryAccount,
    /// Nothing comes on that: see [`Arena::forget_budget`].
    #[cfg(any(test, feature = "sim"))]
    forgets: Cell<bool>,
    in_use: Cell<usize>,
    in_use_max: Cell<usize>,
    refused: Cell<u64>,
}

impl Inner {
    fn count_in(&self, block: &Block) {
        let in_chunk = &self.chunks[block.chunk as usize].in_use;
        in_chunk.set(in_chunk.get() + 1);
        let in_use = self.in_use.get() + block.capacity();
        self.in_use.set(in_use);
        self.in_use_max.set(self.in_use_max.get().max(in_use));
    }

    fn count_out(&self, block: &Block) {
        let in_chunk = &self.chunks[block.chunk as usize].in_use;
        in_chunk.set(in_chunk.get() - 1);
        self.in_use.set(self.in_use.get() - block.capacity());
    }
}

/// The payload memory of one core. Cloning makes another handle to the same memory.
pub struct Arena(Rc<Inner>);

impl Arena {
    /// Maps `bytes` (rounded up to 2 MiB) of memory, from the kernel's huge pages if `huge` and there are enough of
    /// them, else from ordinary pages; [`Arena::pages`] says which.
    pub fn new(bytes: usize, huge: bool) -> std::io::Result<Self> {
        let bytes = bytes.next_multiple_of(CHUNK);
        let region = Region::anonymous(bytes, huge)?;
        let chunks = bytes / CHUNK;
        let reserve = if chunks < RESERVE_SHARE { 0 } else { (chunks / RESERVE_SHARE).max(RESERVE_MIN) };
        // Blocks are larger than what is in them, and what is here already may be more than there is room for.
        let budget = MemoryAccount::root(((chunks - reserve) * CHUNK / 8 * 7) as u64);
        Ok(Self(Rc::new(Inner {
            region,
            handles: Cell::new(1),
            closed: Cell::new(false),
            chunks: vec![Chunk::default(); chunks].into(),
            made: Default::default(),
            begin: [0, chunks - reserve, chunks],
            free: Default::default(),
            budget,
            #[cfg(any(test, feature = "sim"))]
            forgets: Cell::new(false),
            in_use: Cell::new(0),
            in_use_max: Cell::new(0),
            refused: Cell::new(0),
        })))
    }

    /// The pages behind this arena.
    pub fn pages(&self) -> Pages {
        self.0.region.pages().pages
    }

    /// The region that it is. It stays as long as any of its segments.
    pub fn region(&self) -> &Region {
        &self.0.region
    }

    /// Most bytes of the reserve that may be held for a while.
    pub const RESERVED_MAX: usize = CLASSES[1];

    /// The largest block there is.
    pub const fn block_max() -> usize {
        CLASSES[CLASSES.len() - 1]
    }

    /// What peers may make this core hold: the root of their accounts.
    pub fn budget(&self) -> MemoryAccount {
        #[cfg(any(test, feature = "sim"))]
        if self.0.forgets.get() {
            return MemoryAccount::root(u64::MAX);
        }
        self.0.budget.clone()
    }

    /// From now on nothing that is held is on the accounts, for those who test whether that is noticed.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn forget_budget(&self) {
        self.0.forgets.set(true);
    }

    /// Bytes that are on the accounts.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn charged(&self) -> u64 {
        self.0.budget.used()
    }

    /// The account of whoever has not logged in: a small share of all.
    pub fn strangers(&self) -> MemoryAccount {
        let budget = self.budget();
        budget.limited("before login", budget.limit() / STRANGERS_SHARE)
    }

    /// A block of at least `len` bytes with its length set to `len`. Its bytes are what the last owner left. `None`
    /// when the arena is exhausted or `len` is beyond [`Arena::block_max`]: the caller answers BUSY or drops a frame.
    pub fn alloc(&self, len: usize) -> Option<SegMut> {
        self.alloc_from(0, len)
    }

    /// The same for what keeps the service alive, of the reserve if there is nothing else: a frame that is being
    /// received, a header, an answer. It must not be held for long.
    pub fn alloc_reserved(&self, len: usize) -> Option<SegMut> {
        self.alloc(len).or_else(|| self.alloc_from(CLASSES.len(), len))
    }

    /// Whether half of the reserve is left, so that a peer who holds little may keep what has come in there.
    pub fn spares_reserve(&self) -> bool {
        let reserve = &self.0.chunks[self.0.begin[1]..];
        let in_use = |chunk: &Chunk| chunk.in_use.get() as usize * CLASSES[chunk.list.get() % CLASSES.len()];
        reserve.iter().map(in_use).sum::<usize>() < reserve.len() * CHUNK / 2
    }

    #[inline]
    fn alloc_from(&self, lists: usize, len: usize) -> Option<SegMut> {
        let list = lists + CLASSES.iter().position(|&size| size >= len)?;
        let mut block = self.0.free[list].borrow_mut().pop();
        if block.is_none() {
            block = self.refill(list);
        }
        let Some(block) = block else {
            self.0.refused.set(self.0.refused.get() + 1);
            return None;
        };
        self.0.count_in(&block);
        Some(SegMut::new(block, u32::try_from(len).ok()?))
    }

    /// A block of a list that is empty: from a fresh chunk, from one that no other class uses, or a larger one.
    #[cold]
    fn refill(&self, list: usize) -> Option<Rc<Block>> {
        let part = list / CLASSES.len();
        let (begin, end) = (self.0.begin[part], self.0.begin[part + 1]);
        let made = &self.0.made[part];
        let fresh = begin + made.get();
        if fresh < end {
            made.set(made.get() + 1);
            self.0.chunks[fresh].list.set(list);
            return self.cut(fresh, list);
        }
        let idle = self.0.chunks[begin..end].iter().position(|chunk| chunk.in_use.get() == 0);
        if let Some(idle) = idle.map(|idle| begin + idle) {
            let before = self.0.chunks[idle].list.replace(list);
            self.0.free[before].borrow_mut().retain(|block| block.chunk as usize != idle);
            return self.cut(idle, list);
        }
        let larger = list + 1..(part + 1) * CLASSES.len();
        self.0.free[larger].iter().find_map(|free| free.borrow_mut().pop())
    }

    /// Cuts a chunk into blocks for a list and returns one of them.
    fn cut(&self, chunk: usize, list: usize) -> Option<Rc<Block>> {
        let size = CLASSES[list % CLASSES.len()];
        let mut free = self.0.free[list].borrow_mut();
        // Room for every block of the class up front, so that coming home never allocates.
        free.reserve(self.0.region.len() / size);
        // Pushed from the end, so that blocks are handed out in ascending order.
        for i in (0..CHUNK / size).rev() {
            // SAFETY: chunk * CHUNK + (i + 1) * size <= length of the mapping.
            let base = unsafe { self.0.region.base().add(chunk * CHUNK + i * size) };
            let list = u8::try_from(list).expect("few lists");
            let chunk = u32::try_from(chunk).expect("an arena has fewer than 2^32 chunks");
            free.push(Rc::new(Block { base, list, chunk, home: self.0.clone() }));
        }
        free.pop()
    }

    /// Bytes mapped.
    pub fn bytes(&self) -> usize {
        self.0.region.len()
    }

    /// Bytes of blocks that somebody holds.
    pub fn in_use(&self) -> usize {
        self.0.in_use.get()
    }

    /// How full the arena is.
    pub fn counters(&self) -> ArenaCounters {
        ArenaCounters {
            bytes: self.bytes() as u64,
            in_use_bytes: self.in_use() as u64,
            in_use_max_bytes: self.0.in_use_max.get() as u64,
            refused: self.0.refused.get(),
        }
    }
}

impl Clone for Arena {
    fn clone(&self) -> Self {
        self.0.handles.set(self.0.handles.get() + 1);
        Self(self.0.clone())
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        self.0.handles.set(self.0.handles.get() - 1);
        if self.0.handles.get() == 0 {
            self.0.closed.set(true);
            for free in &self.0.free {
                // Blocks point home: taken out first, so that the list is not borrowed while they are dropped.
                let blocks = std::mem::take(&mut *free.borrow_mut());
                drop(blocks);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_come_home_when_the_last_segment_is_dropped() {
        let arena = Arena::new(4 << 20, false).unwrap();
        let mut block = arena.alloc(5000).unwrap();
        block.bytes_mut().fill(7);
        let seg = block.freeze();
        let tail = seg.slice(4000, 1000);
        drop(seg);
        assert_eq!(arena.in_use(), 16 << 10);
        assert_eq!(tail.private().unwrap(), [7; 1000]);
        drop(tail);
        assert_eq!(arena.in_use(), 0);
    }

    #[test]
    fn exhaustion_is_counted_and_heals() {
        let arena = Arena::new(2 << 20, false).unwrap();
        let held: Vec<_> = std::iter::from_fn(|| arena.alloc(1 << 20)).collect();
        assert_eq!(held.len(), 2);
        assert!(arena.alloc(1).is_none());
        assert_eq!(arena.counters().refused, 2);
        drop(held);
        assert!(arena.alloc(1 << 20).is_some());
    }

    #[test]
    fn memory_of_one_size_serves_another() {
        let arena = Arena::new(4 << 20, false).unwrap();
        let mut small: Vec<_> = std::iter::from_fn(|| arena.alloc(256)).collect();
        assert_eq!(small.len(), (4 << 20) / 256);
        assert!(arena.alloc(1 << 20).is_none());
        // One block of each chunk stays: nothing can be cut anew.
        let held = [small.pop().unwrap(), small.swap_remove(0)];
        drop(small);
        assert!(arena.alloc(1 << 20).is_none());
        let [last, _first] = held;
        drop(last);
        let large = arena.alloc(1 << 20).unwrap();
        assert_eq!(arena.in_use(), (1 << 20) + 256);
        // And a small request takes a large block rather than none.
        let small: Vec<_> = std::iter::from_fn(|| arena.alloc(256)).collect();
        assert_eq!(small.len(), (2 << 20) / 256 - 1 + 1);
        drop((large, small));
        assert_eq!(arena.in_use(), 256);
    }

    #[test]
    fn payload_never_takes_the_reserve() {
        let arena = Arena::new(32 << 20, false).unwrap();
        for len in CLASSES {
            let held: Vec<_> = std::iter::from_fn(|| arena.alloc(len)).collect();
            assert!(arena.in_use() <= 28 << 20, "{len}");
            assert!(CLASSES.iter().all(|&len| arena.alloc(len).is_none()));
            // A frame is received, and an answer sent, and again.
            for _ in 0..1000 {
                let frames: Vec<_> =
                    (0..20).map(|_| arena.alloc_reserved(68 << 10).expect("a frame")).collect();
                let answers: Vec<_> = (0..20).map(|_| arena.alloc_reserved(48).expect("a header")).collect();
                assert!(frames.iter().chain(&answers).all(SegMut::is_reserved));
            }
            let all: Vec<_> = std::iter::from_fn(|| arena.alloc_reserved(2048)).collect();
            assert_eq!(all.len(), (4 << 20) / 2048);
            drop((held, all));
            assert!(
                arena.alloc_reserved(len).is_some_and(|block| !block.is_reserved()),
                "there is other memory"
            );
            assert_eq!(arena.in_use(), 0);
        }
    }

    #[test]
    fn segments_outlive_the_arena_handle() {
        let arena = Arena::new(2 << 20, false).unwrap();
        let mut block = arena.alloc(16).unwrap();
        block.bytes_mut().fill(9);
        let seg = block.freeze();
        drop(arena);
        assert_eq!(seg.private().unwrap(), [9; 16]);
    }
}
