// SPDX-License-Identifier: GPL-2.0-or-later
//! One core's payload memory: a mapping cut into chunks of 2 MiB, each given to one size class when that class runs
//! dry. Blocks keep their reference count with them, so the steady state allocates nothing. When all chunks are given
//! away, one of which no block is in use is cut anew for the class that needs it, so that a burst of small requests
//! never leaves large ones without memory for good.

use std::cell::{Cell, RefCell};
use std::ptr::NonNull;
use std::rc::Rc;

use super::seg::{ComesHome, SegMut};
use crate::sys;

/// Bytes of a chunk: one huge page.
const CHUNK: usize = 2 << 20;

/// Block sizes, ascending. 68 KiB holds a 64 KiB frame with its headers; blocks of 4 KiB and more are page-aligned.
const CLASSES: [usize; 7] = [256, 2048, 4096, 16 << 10, 68 << 10, 256 << 10, 1 << 20];

/// What kind of pages back an arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pages {
    /// 2 MiB pages from the kernel's pool.
    Huge,
    /// Ordinary pages (transparent huge pages are asked for).
    Ordinary,
}

/// How full an arena is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ArenaStats {
    /// Bytes mapped.
    pub bytes: usize,
    /// Bytes of blocks that somebody holds.
    pub in_use: usize,
    /// Most bytes that were ever held at once.
    pub in_use_max: usize,
    /// Requests that found no memory.
    pub refused: u64,
}

pub(super) struct Block {
    base: NonNull<u8>,
    class: u8,
    chunk: u32,
    home: Rc<Inner>,
}

impl Block {
    pub(super) fn base(&self) -> NonNull<u8> {
        self.base
    }

    pub(super) fn capacity(&self) -> usize {
        CLASSES[self.class as usize]
    }
}

impl ComesHome for Block {
    /// Returns it to its arena.
    fn come_home(last: Rc<Self>) {
        let home = last.home.clone();
        home.count_out(&last);
        if !home.closed.get() {
            home.free[last.class as usize].borrow_mut().push(last);
        }
    }
}

/// A chunk that was given to a class.
struct Chunk {
    class: usize,
    /// Blocks of it that somebody holds.
    in_use: u32,
}

struct Inner {
    map: sys::Mapping,
    handles: Cell<usize>,
    /// The last handle is gone: blocks that come home are dropped, and the last one drops the mapping.
    closed: Cell<bool>,
    /// By their order in the mapping; as many as have been given to a class.
    chunks: RefCell<Vec<Chunk>>,
    free: [RefCell<Vec<Rc<Block>>>; CLASSES.len()],
    in_use: Cell<usize>,
    in_use_max: Cell<usize>,
    refused: Cell<u64>,
}

impl Inner {
    fn count_in(&self, block: &Block) {
        self.chunks.borrow_mut()[block.chunk as usize].in_use += 1;
        self.in_use.set(self.in_use.get() + block.capacity());
        self.in_use_max.set(self.in_use_max.get().max(self.in_use.get()));
    }

    fn count_out(&self, block: &Block) {
        self.chunks.borrow_mut()[block.chunk as usize].in_use -= 1;
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
        let map = sys::Mapping::anonymous(bytes, huge)?;
        Ok(Self(Rc::new(Inner {
            map,
            handles: Cell::new(1),
            closed: Cell::new(false),
            chunks: RefCell::new(Vec::with_capacity(bytes / CHUNK)),
            free: Default::default(),
            in_use: Cell::new(0),
            in_use_max: Cell::new(0),
            refused: Cell::new(0),
        })))
    }

    /// The pages behind this arena.
    pub fn pages(&self) -> Pages {
        if self.0.map.is_huge() { Pages::Huge } else { Pages::Ordinary }
    }

    /// Where it lies: address, length, and whether in huge pages. It stays there as long as any of its segments.
    pub fn region(&self) -> (NonNull<u8>, usize, bool) {
        (self.0.map.base(), self.0.map.len(), self.0.map.is_huge())
    }

    /// The largest block there is.
    pub const fn block_max() -> usize {
        CLASSES[CLASSES.len() - 1]
    }

    /// A block of at least `len` bytes with its length set to `len`. Its bytes are what the last owner left. `None`
    /// when the arena is exhausted or `len` is beyond [`Arena::block_max`]: the caller answers BUSY or drops a frame.
    pub fn alloc(&self, len: usize) -> Option<SegMut> {
        let class = CLASSES.iter().position(|&size| size >= len)?;
        let mut block = self.0.free[class].borrow_mut().pop();
        if block.is_none() {
            block = self.refill(class);
        }
        let Some(block) = block else {
            self.0.refused.set(self.0.refused.get() + 1);
            return None;
        };
        self.0.count_in(&block);
        Some(SegMut::new(block, u32::try_from(len).ok()?))
    }

    /// A block of a class of which none is free: from a fresh chunk, from one that no other class uses, or a larger one.
    #[cold]
    fn refill(&self, class: usize) -> Option<Rc<Block>> {
        let fresh = self.0.chunks.borrow().len();
        if (fresh + 1) * CHUNK <= self.0.map.len() {
            self.0.chunks.borrow_mut().push(Chunk { class, in_use: 0 });
            return self.cut(fresh, class);
        }
        let idle = self.0.chunks.borrow().iter().position(|chunk| chunk.in_use == 0);
        if let Some(idle) = idle {
            let before = std::mem::replace(&mut self.0.chunks.borrow_mut()[idle].class, class);
            self.0.free[before].borrow_mut().retain(|block| block.chunk as usize != idle);
            return self.cut(idle, class);
        }
        self.0.free[class + 1..].iter().find_map(|free| free.borrow_mut().pop())
    }

    /// Cuts a chunk into blocks of `class` and returns one of them.
    fn cut(&self, chunk: usize, class: usize) -> Option<Rc<Block>> {
        let size = CLASSES[class];
        let mut free = self.0.free[class].borrow_mut();
        // Room for every block of the class up front, so that coming home never allocates.
        free.reserve(self.0.map.len() / size);
        // Pushed from the end, so that blocks are handed out in ascending order.
        for i in (0..CHUNK / size).rev() {
            // SAFETY: chunk * CHUNK + (i + 1) * size <= length of the mapping.
            let base = unsafe { self.0.map.base().add(chunk * CHUNK + i * size) };
            let class = u8::try_from(class).expect("few classes");
            let chunk = u32::try_from(chunk).expect("an arena has fewer than 2^32 chunks");
            free.push(Rc::new(Block { base, class, chunk, home: self.0.clone() }));
        }
        free.pop()
    }

    /// How full the arena is.
    pub fn stats(&self) -> ArenaStats {
        ArenaStats {
            bytes: self.0.map.len(),
            in_use: self.0.in_use.get(),
            in_use_max: self.0.in_use_max.get(),
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
        assert_eq!(arena.stats().in_use, 16 << 10);
        assert_eq!(tail.private().unwrap(), [7; 1000]);
        drop(tail);
        assert_eq!(arena.stats().in_use, 0);
    }

    #[test]
    fn exhaustion_is_counted_and_heals() {
        let arena = Arena::new(2 << 20, false).unwrap();
        let held: Vec<_> = std::iter::from_fn(|| arena.alloc(1 << 20)).collect();
        assert_eq!(held.len(), 2);
        assert!(arena.alloc(1).is_none());
        assert_eq!(arena.stats().refused, 2);
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
        assert_eq!(arena.stats().in_use, (1 << 20) + 256);
        // And a small request takes a large block rather than none.
        let small: Vec<_> = std::iter::from_fn(|| arena.alloc(256)).collect();
        assert_eq!(small.len(), (2 << 20) / 256 - 1 + 1);
        drop((large, small));
        assert_eq!(arena.stats().in_use, 256);
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
