// SPDX-License-Identifier: GPL-2.0-or-later
//! A list of segments: the bytes of one transfer, wherever they lie.

use std::cell::RefCell;

use smallvec::SmallVec;

use super::{Arena, Seg};

type Segs = SmallVec<[Seg; 2]>;

/// Segments for which a list that is longer than usual makes room: as many as there are in a frame. Room for more is
/// not kept.
const ROOM: usize = 256;

/// Room of lists that are gone, kept for the next: at most so many.
const SPARE_MAX: usize = 64;

thread_local! {
    static SPARE: RefCell<Vec<Segs>> = const { RefCell::new(Vec::new()) };
}

/// Gives the room back that is kept on this thread, for those who count what is in use.
#[cfg(test)]
pub(crate) fn drop_spare() {
    SPARE.take();
}

/// Payload as a list of segments. Splitting and joining move no byte.
#[derive(Debug, Default)]
pub struct Sg {
    segs: Segs,
    len: usize,
}

impl Sg {
    /// Makes room beyond the segments that every list has room for. In the steady state this allocates nothing.
    #[cold]
    fn grow(&mut self) {
        if self.segs.spilled() {
            return self.segs.reserve(self.segs.len());
        }
        let spare = SPARE.try_with(|spare| spare.borrow_mut().pop()).ok().flatten();
        let mut longer = spare.unwrap_or_else(|| Segs::with_capacity(ROOM));
        longer.extend(self.segs.drain(..));
        self.segs = longer;
    }

    /// No bytes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The segments, none of them empty.
    pub fn segs(&self) -> &[Seg] {
        &self.segs
    }

    /// Appends a segment.
    #[inline]
    pub fn push(&mut self, seg: Seg) {
        if !seg.is_empty() {
            self.len += seg.len();
            if self.segs.len() == self.segs.capacity() {
                self.grow();
            }
            self.segs.push(seg);
        }
    }

    /// Appends all of `other`.
    pub fn append(&mut self, mut other: Self) {
        if self.segs.is_empty() {
            *self = other;
        } else if let [_] = other.segs[..]
            && let Some(seg) = other.segs.pop()
        {
            self.push(seg);
        } else {
            for seg in other.take() {
                self.push(seg);
            }
        }
    }

    /// Takes all segments out.
    pub fn take(&mut self) -> impl Iterator<Item = Seg> + '_ {
        self.len = 0;
        self.segs.drain(..)
    }

    /// Cuts the first `n` bytes off and returns them; `self` keeps the rest.
    ///
    /// # Panics
    /// When `n` is more than the length.
    pub fn split_to(&mut self, n: usize) -> Self {
        assert!(n <= self.len, "split beyond the list");
        if n == self.len {
            return std::mem::take(self);
        }
        let mut head = Self::new();
        let (whole, part) = self.place(n);
        if whole > 0 {
            for seg in self.segs.drain(..whole) {
                head.push(seg);
            }
        }
        if part > 0 {
            head.push(self.segs[0].split_to(part));
        }
        self.len -= n;
        head
    }

    /// Cuts the first `n` bytes off.
    ///
    /// # Panics
    /// When `n` is more than the length.
    pub fn skip(&mut self, n: usize) {
        assert!(n <= self.len, "cut beyond the list");
        let (whole, part) = self.place(n);
        if whole > 0 {
            self.segs.drain(..whole);
        }
        if part > 0 {
            self.segs[0].skip(part);
        }
        self.len -= n;
    }

    /// How many whole segments the first `n` bytes are, and how many bytes of the next one.
    #[inline]
    fn place(&self, mut n: usize) -> (usize, usize) {
        let mut whole = 0;
        while let Some(seg) = self.segs.get(whole).filter(|seg| seg.len() <= n) {
            n -= seg.len();
            whole += 1;
        }
        (whole, n)
    }

    /// Drops all bytes after the first `n`.
    pub fn truncate(&mut self, n: usize) {
        if n < self.len {
            *self = self.split_to(n);
        }
    }

    /// Copies the bytes from offset `at` into `into`, and returns how many there were to copy.
    pub fn copy_to(&self, mut at: usize, into: &mut [u8]) -> usize {
        let mut done = 0;
        for seg in &self.segs {
            if at >= seg.len() {
                at -= seg.len();
                continue;
            }
            let n = (seg.len() - at).min(into.len() - done);
            seg.copy_to(at, &mut into[done..done + n]);
            done += n;
            at = 0;
            if done == into.len() {
                break;
            }
        }
        done
    }

    /// All bytes in one vector: control plane and tests only.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.len];
        self.copy_to(0, &mut bytes);
        bytes
    }

    /// Copies `bytes` into blocks of `arena`. `None` when the arena is exhausted.
    pub fn copied(arena: &Arena, bytes: &[u8]) -> Option<Self> {
        let mut list = Self::new();
        for chunk in bytes.chunks(Arena::block_max()) {
            let mut block = arena.alloc(chunk.len())?;
            block.bytes_mut().copy_from_slice(chunk);
            list.push(block.freeze());
        }
        Some(list)
    }

    /// The same for what is not payload, and so may lie in the reserve if it is short.
    pub fn copied_reserved(arena: &Arena, bytes: &[u8]) -> Option<Self> {
        if bytes.is_empty() || bytes.len() > Arena::RESERVED_MAX {
            return Self::copied(arena, bytes);
        }
        let mut block = arena.alloc_reserved(bytes.len())?;
        block.bytes_mut().copy_from_slice(bytes);
        Some(block.freeze().into())
    }
}

impl Clone for Sg {
    #[inline]
    fn clone(&self) -> Self {
        let mut list = Self::new();
        for seg in &self.segs {
            list.push(seg.clone());
        }
        list
    }
}

impl Drop for Sg {
    #[inline]
    fn drop(&mut self) {
        if self.segs.spilled() {
            let mut room = std::mem::take(&mut self.segs);
            // Segments first: they may be the last to know of something that has lists of its own.
            room.clear();
            // At the end of the thread there is nobody to keep it for.
            _ = SPARE.try_with(|spare| {
                let mut spare = spare.borrow_mut();
                if spare.len() < SPARE_MAX && room.capacity() <= ROOM {
                    spare.push(room);
                }
            });
        }
    }
}

impl From<Seg> for Sg {
    fn from(seg: Seg) -> Self {
        let mut list = Self::new();
        list.push(seg);
        list
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn splitting_keeps_the_bytes(parts in prop::collection::vec(1usize..300, 1..8), cut in 0usize..2400) {
            let arena = Arena::new(4 << 20, false).unwrap();
            let bytes: Vec<u8> = (0..parts.iter().sum::<usize>()).map(|i| i.to_le_bytes()[0]).collect();
            let mut list = Sg::new();
            let mut at = 0;
            for n in parts {
                list.append(Sg::copied(&arena, &bytes[at..at + n]).unwrap());
                at += n;
            }
            let cut = cut.min(bytes.len());
            let head = list.split_to(cut);
            prop_assert_eq!(head.to_vec(), &bytes[..cut]);
            prop_assert_eq!(list.to_vec(), &bytes[cut..]);
            let mut rest = Sg::new();
            rest.append(head);
            rest.append(list);
            rest.skip(cut);
            prop_assert_eq!(rest.to_vec(), &bytes[cut..]);
            drop(rest);
            prop_assert_eq!(arena.in_use(), 0);
        }
    }
}
