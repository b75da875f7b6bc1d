// SPDX-License-Identifier: GPL-2.0-or-later
//! Segments: who may touch a run of payload bytes, and until when.

use std::fmt;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;
use std::rc::Rc;

use super::arena::Block;
use super::loan::Loan;
use super::prefetch;
use super::region::{RegionId, SharedMemory};
use crate::sys;

/// What goes home when nobody refers to it any more.
pub(super) trait ComesHome {
    /// Takes the last reference.
    fn come_home(last: Rc<Self>);
}

/// A reference to something that comes home. Small, because there is one in each segment and segments are in everything
/// that moves payload.
pub(super) struct HomeRef<T: ComesHome>(ManuallyDrop<Rc<T>>);

impl<T: ComesHome> HomeRef<T> {
    pub(super) fn new(it: Rc<T>) -> Self {
        Self(ManuallyDrop::new(it))
    }
}

impl<T: ComesHome> Clone for HomeRef<T> {
    #[inline]
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: ComesHome> Drop for HomeRef<T> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: it is taken here only, and not looked at afterwards.
        let it = unsafe { ManuallyDrop::take(&mut self.0) };
        if Rc::strong_count(&it) == 1 {
            T::come_home(it);
        }
    }
}

/// What one borrower has of a memory that is lent: it learns whether anything that was lent in its name is still out.
#[derive(Clone)]
pub struct Lease(Rc<Box<dyn SharedMemory>>);

impl Lease {
    /// A lease of which nothing is out.
    pub fn new(memory: impl SharedMemory) -> Self {
        Self(Rc::new(Box::new(memory)))
    }

    /// Lends `len` bytes from byte `at` in the name of this lease: the segment takes this handle with it.
    ///
    /// # Panics
    /// When the range is not inside the memory: the caller has checked the command's range before.
    pub fn lend(self, at: usize, len: u32) -> Seg {
        let end = at.checked_add(len as usize).expect("range does not wrap");
        assert!(end <= self.0.len(), "lent range is outside the memory");
        // SAFETY: at <= len of the memory, so the address is inside or one past its single allocation.
        let ptr = unsafe { self.0.base().add(at) };
        Seg { ptr, len, owner: Owner::Lent(self) }
    }

    /// Whether a segment or another handle to this lease is alive.
    pub fn is_out(&self) -> bool {
        Rc::strong_count(&self.0) > 1
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lease({} out)", Rc::strong_count(&self.0) - 1)
    }
}

#[derive(Clone)]
enum Owner {
    /// A block of this core's arena; goes back to it when the last segment is dropped.
    Block(HomeRef<Block>),
    /// Pages of a store that other cores can see.
    Lent(Lease),
    /// A buffer that this core has from elsewhere; goes back there when the last segment is dropped.
    Loan(HomeRef<Loan>),
    /// Constant bytes of the program.
    Static,
}

/// A shared, read-only run of bytes. Cloning and slicing move no byte.
#[derive(Clone)]
pub struct Seg {
    ptr: NonNull<u8>,
    len: u32,
    owner: Owner,
}

impl Seg {
    /// A segment over constant bytes.
    pub fn from_static(bytes: &'static [u8]) -> Self {
        let len = u32::try_from(bytes.len()).expect("a constant is shorter than 4 GiB");
        Self { ptr: NonNull::from(bytes).cast(), len, owner: Owner::Static }
    }

    /// A segment over bytes that stay readable and private while the loan is out.
    pub(super) fn loaned(ptr: NonNull<u8>, len: u32, loan: Rc<Loan>) -> Self {
        Self { ptr, len, owner: Owner::Loan(HomeRef::new(loan)) }
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether the segment has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Address of the first byte, for iovecs and for tests that check where bytes lie. Valid while `self` lives.
    pub fn as_ptr(&self) -> *const u8 {
        self.ptr.as_ptr()
    }

    /// The region that it lies in, and at which byte of that it begins: what a device, the kernel or a peer is told of
    /// it. `None` if it lies in memory that nobody registers.
    #[inline]
    pub fn in_region(&self) -> Option<(RegionId, usize)> {
        let region = match &self.owner {
            Owner::Block(block) => block.0.region(),
            Owner::Lent(lease) => lease.0.region()?,
            Owner::Loan(loan) => loan.0.region()?,
            Owner::Static => return None,
        };
        Some((region.id(), self.ptr.addr().get() - region.base().addr().get()))
    }

    /// Bytes of the arena that are not free while the segment lives: all of its block's. None if it lies elsewhere; a
    /// device bounds by itself what it lends.
    pub fn pinned(&self) -> usize {
        match &self.owner {
            Owner::Block(block) => block.0.capacity(),
            Owner::Lent(_) | Owner::Loan(_) | Owner::Static => 0,
        }
    }

    /// Whether it lies in the reserve of the arena, and so must not be held for long.
    pub fn is_reserved(&self) -> bool {
        matches!(&self.owner, Owner::Block(block) if block.0.is_reserved())
    }

    /// The bytes, if nobody else can write them; `None` for lent memory, which must be copied to be looked at.
    pub fn private(&self) -> Option<&[u8]> {
        match self.owner {
            Owner::Block(_) | Owner::Loan(_) | Owner::Static => {
                // SAFETY: the block lives as long as its Rc, and a SegMut (the right to write) is consumed by freeze();
                // of a loan its lender has promised the same.
                Some(unsafe { std::slice::from_raw_parts(self.ptr.as_ptr(), self.len()) })
            }
            Owner::Lent(_) => None,
        }
    }

    /// Asks for the first `len` bytes to come into the cache.
    #[inline]
    pub(crate) fn prefetch(&self, len: usize) {
        prefetch::lines(self.ptr.as_ptr(), len.min(self.len()));
    }

    /// Copies the bytes from offset `at` into `into`.
    ///
    /// # Panics
    /// When the range is not inside the segment.
    pub fn copy_to(&self, at: usize, into: &mut [u8]) {
        let end = at.checked_add(into.len()).expect("range does not wrap");
        assert!(end <= self.len(), "copy outside the segment");
        match self.private() {
            Some(bytes) => into.copy_from_slice(&bytes[at..end]),
            // SAFETY: the source range is inside the segment and its owner keeps it mapped; `into` is a unique borrow.
            // Lent bytes may change meanwhile: a torn block is what an overlapping WRITE may cause.
            None => unsafe { sys::copy_racing(self.ptr.as_ptr().add(at), into.as_mut_ptr(), into.len()) },
        }
    }

    /// The part of the segment from byte `from` with `len` bytes.
    ///
    /// # Panics
    /// When the range is not inside the segment.
    pub fn slice(&self, from: usize, len: usize) -> Self {
        let end = from.checked_add(len).expect("range does not wrap");
        assert!(end <= self.len(), "slice outside the segment");
        // SAFETY: from <= self.len, inside or one past the allocation.
        let ptr = unsafe { self.ptr.add(from) };
        let len = u32::try_from(len).expect("shorter than the segment");
        Self { ptr, len, owner: self.owner.clone() }
    }

    /// Cuts the first `n` bytes off and returns them; `self` keeps the rest.
    ///
    /// # Panics
    /// When `n` is more than the length.
    pub fn split_to(&mut self, n: usize) -> Self {
        let head = self.slice(0, n);
        self.skip(n);
        head
    }

    /// Keeps the first `n` bytes, and returns the rest.
    ///
    /// # Panics
    /// When `n` is more than the length.
    pub fn split_off(&mut self, n: usize) -> Self {
        let tail = self.slice(n, self.len() - n);
        self.len -= tail.len;
        tail
    }

    /// Cuts the first `n` bytes off.
    ///
    /// # Panics
    /// When `n` is more than the length.
    #[inline]
    pub fn skip(&mut self, n: usize) {
        assert!(n <= self.len(), "cut outside the segment");
        // SAFETY: n <= self.len.
        self.ptr = unsafe { self.ptr.add(n) };
        self.len -= n as u32;
    }
}

impl fmt::Debug for Seg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Seg({} bytes)", self.len)
    }
}

/// The unique right to write a run of bytes, by the CPU or by a device: of a block of the arena, or of a buffer that is
/// lent for that.
pub struct SegMut(Seg);

impl SegMut {
    pub(super) fn new(block: Rc<Block>, len: u32) -> Self {
        debug_assert_eq!(Rc::strong_count(&block), 1, "a block is written by one owner only");
        Self(Seg { ptr: block.base(), len, owner: Owner::Block(HomeRef::new(block)) })
    }

    /// A buffer that is readable, and nobody else's while the loan is out.
    pub(super) fn loaned(ptr: NonNull<u8>, loan: Rc<Loan>) -> Self {
        Self(Seg::loaned(ptr, loan.capacity(), loan))
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the segment has no bytes.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Bytes of the whole block or buffer, which `len` may be grown to.
    pub fn capacity(&self) -> usize {
        match &self.0.owner {
            Owner::Block(block) => block.0.capacity(),
            Owner::Loan(loan) => loan.0.capacity() as usize,
            Owner::Lent(_) | Owner::Static => unreachable!("made of a block or a loan"),
        }
    }

    /// Whether it is of the reserve of the arena.
    pub fn is_reserved(&self) -> bool {
        self.0.is_reserved()
    }

    /// The region that it lies in, and at which byte of that it begins.
    pub fn in_region(&self) -> Option<(RegionId, usize)> {
        self.0.in_region()
    }

    /// Sets the length; bytes beyond what was written before are what the block held last.
    ///
    /// # Panics
    /// When `len` is more than the capacity.
    pub fn set_len(&mut self, len: usize) {
        assert!(len <= self.capacity(), "length beyond the block");
        self.0.len = u32::try_from(len).expect("blocks are shorter than 4 GiB");
    }

    /// Address of the first byte, for iovecs. Valid while `self` lives.
    pub fn as_mut_ptr(&mut self) -> *mut u8 {
        self.0.ptr.as_ptr()
    }

    /// The bytes, to be written.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        let (ptr, len) = (self.as_mut_ptr(), self.len());
        // SAFETY: the block or buffer is owned by this SegMut alone until freeze(), its memory is initialised (mapped
        // zeroed, or as its lender has promised).
        unsafe { std::slice::from_raw_parts_mut(ptr, len) }
    }

    /// Gives the right to write up; the bytes become shared and read-only.
    pub fn freeze(self) -> Seg {
        self.0
    }
}

impl fmt::Debug for SegMut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SegMut({} bytes)", self.len())
    }
}
