// SPDX-License-Identifier: GPL-2.0-or-later
//! Buffers that are not the arena's and that segments point into, until the last segment is dropped: a device has
//! received into them, or they are lent to be written.

use std::cell::{Cell, RefCell};
use std::ptr::NonNull;
use std::rc::Rc;

use super::region::Region;
use super::seg::ComesHome;
use super::{Seg, SegMut};

type GiveBack = Box<dyn Fn(NonNull<u8>)>;

/// A buffer that is out. It keeps its place when it comes home, so that the steady state allocates nothing.
pub(super) struct Loan {
    home: Rc<Inner>,
    buffer: Cell<NonNull<u8>>,
    capacity: Cell<u32>,
}

impl Loan {
    /// The region that the buffer is a part of.
    pub(super) fn region(&self) -> Option<&Region> {
        self.home.region.as_ref()
    }

    /// Bytes that may be written, for a buffer that is lent for that.
    pub(super) fn capacity(&self) -> u32 {
        self.capacity.get()
    }
}

impl ComesHome for Loan {
    /// Gives the buffer back to its device.
    fn come_home(last: Rc<Self>) {
        let home = last.home.clone();
        home.out.set(home.out.get() - 1);
        (home.give_back)(last.buffer.get());
        if !home.closed.get() {
            home.free.borrow_mut().push(last);
        }
    }
}

struct Inner {
    give_back: GiveBack,
    region: Option<Region>,
    free: RefCell<Vec<Rc<Loan>>>,
    out: Cell<usize>,
    /// The lender is gone: places that come home are dropped.
    closed: Cell<bool>,
}

/// One core's way to lend buffers.
pub struct Lender(Rc<Inner>);

impl Lender {
    /// A lender that calls `give_back` with each buffer when nobody looks into it any more, even after the lender
    /// itself is gone: what the function needs it has to own.
    pub fn new(give_back: impl Fn(NonNull<u8>) + 'static) -> Self {
        Self::make(None, Box::new(give_back))
    }

    /// The same for buffers that are parts of a region.
    pub fn of_region(region: Region, give_back: impl Fn(NonNull<u8>) + 'static) -> Self {
        Self::make(Some(region), Box::new(give_back))
    }

    fn make(region: Option<Region>, give_back: GiveBack) -> Self {
        Self(Rc::new(Inner {
            give_back,
            region,
            free: RefCell::default(),
            out: Cell::new(0),
            closed: Cell::new(false),
        }))
    }

    /// Lends `len` bytes at `data`, in `buffer`.
    ///
    /// # Safety
    /// The bytes must stay readable, and nobody may write them, until `buffer` is given back. They are inside the
    /// region of the lender, if it has one.
    pub unsafe fn lend(&self, buffer: NonNull<u8>, data: NonNull<u8>, len: u32) -> Seg {
        Seg::loaned(data, len, self.loan(buffer, 0))
    }

    /// Lends a buffer of `capacity` bytes to be written.
    ///
    /// # Safety
    /// The bytes must be initialised, stay readable and writable, and be nobody else's until `buffer` is given back.
    /// They are inside the region of the lender, if it has one.
    pub unsafe fn lend_mut(&self, buffer: NonNull<u8>, capacity: u32) -> SegMut {
        SegMut::loaned(buffer, self.loan(buffer, capacity))
    }

    fn loan(&self, buffer: NonNull<u8>, capacity: u32) -> Rc<Loan> {
        let loan = self.0.free.borrow_mut().pop();
        let new = || Loan { home: self.0.clone(), buffer: Cell::new(buffer), capacity: Cell::new(capacity) };
        let loan = loan.unwrap_or_else(|| Rc::new(new()));
        loan.buffer.set(buffer);
        loan.capacity.set(capacity);
        self.0.out.set(self.0.out.get() + 1);
        loan
    }

    /// How many buffers are out.
    pub fn out(&self) -> usize {
        self.0.out.get()
    }
}

impl Drop for Lender {
    fn drop(&mut self) {
        self.0.closed.set(true);
        // Places point home: taken out first, so that the list is not borrowed while they are dropped.
        let places = std::mem::take(&mut *self.0.free.borrow_mut());
        drop(places);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_goes_back_with_its_last_segment_even_after_the_lender() {
        let returned = Rc::new(RefCell::new(Vec::new()));
        let list = returned.clone();
        let lender = Lender::new(move |buffer| list.borrow_mut().push(buffer.addr().get()));
        let bytes: &'static [u8] = b"0123456789";
        let lend = |at: usize| {
            let data = NonNull::from(&bytes[at]);
            // SAFETY: constant bytes are readable for ever.
            unsafe { lender.lend(data, data, 4) }
        };
        let (first, second) = (lend(0), lend(4));
        let tail = first.slice(2, 2);
        drop(first);
        assert_eq!((lender.out(), returned.borrow().len()), (2, 0));
        assert_eq!(tail.private().unwrap(), b"23");
        drop(tail);
        assert_eq!((lender.out(), &returned.borrow()[..]), (1, &[bytes.as_ptr().addr()][..]));
        // A place is used again, for another buffer.
        drop(lend(1));
        drop(lender);
        assert_eq!(second.private().unwrap(), b"4567");
        drop(second);
        let offsets: Vec<_> = returned.borrow().iter().map(|at| at - bytes.as_ptr().addr()).collect();
        assert_eq!(offsets, [0, 1, 4]);
        assert_eq!(Rc::strong_count(&returned), 1, "nothing holds what the function owned");
    }
}
