// SPDX-License-Identifier: GPL-2.0-or-later
//! Buffers of one size in a region of their own, for whoever must have received bytes in memory that it has registered,
//! or in the order that a device wants.

use std::cell::RefCell;
use std::ptr::NonNull;
use std::rc::Rc;

use super::{Lender, Region, SegMut};

/// See the module. For one core.
pub struct BufferSlots {
    lender: Lender,
    free: Rc<RefCell<Vec<NonNull<u8>>>>,
    region: Region,
    size: u32,
}

impl BufferSlots {
    /// `count` buffers of `size` bytes in ordinary memory, or in huge pages if there are enough.
    pub fn new(count: usize, size: u32, huge: bool) -> std::io::Result<Self> {
        let len = count.checked_mul(size as usize).filter(|&len| len > 0);
        let len = len.ok_or(std::io::ErrorKind::InvalidInput)?.next_multiple_of(2 << 20);
        let region = Region::anonymous(len, huge)?;
        // SAFETY: (number + 1) * size <= length of the region.
        let slot = |number| unsafe { region.base().add(number * size as usize) };
        let free = Rc::new(RefCell::new((0..count).rev().map(slot).collect::<Vec<_>>()));
        let home = free.clone();
        let lender = Lender::of_region(region.clone(), move |buffer| home.borrow_mut().push(buffer));
        Ok(Self { lender, free, region, size })
    }

    /// The region that they are.
    pub fn region(&self) -> &Region {
        &self.region
    }

    /// A buffer with its length set to `len`. `None` if all are out, or that is more than one has.
    pub fn take(&self, len: usize) -> Option<SegMut> {
        if len > self.size as usize {
            return None;
        }
        let buffer = self.free.borrow_mut().pop()?;
        // SAFETY: a part of the region, which is mapped with zeros and stays as long as the lender's buffers are out.
        // It was free, and is so again when it is given back.
        let mut slot = unsafe { self.lender.lend_mut(buffer, self.size) };
        slot.set_len(len);
        Some(slot)
    }

    /// How many are out.
    pub fn out(&self) -> usize {
        self.lender.out()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_written_by_one_at_a_time_and_come_back_with_the_last_segment() {
        let slots = BufferSlots::new(2, 3000, false).unwrap();
        let mut first = slots.take(3000).unwrap();
        first.bytes_mut().fill(7);
        let second = slots.take(10).unwrap();
        assert!(slots.take(1).is_none() && slots.take(3001).is_none());
        assert_eq!((second.len(), second.capacity(), second.is_reserved()), (10, 3000, false));
        assert_eq!(second.in_region(), Some((slots.region().id(), 3000)));
        let tail = first.freeze().slice(1000, 5);
        assert_eq!(tail.in_region(), Some((slots.region().id(), 1000)));
        assert_eq!((tail.private(), tail.pinned()), (Some(&[7; 5][..]), 0), "nothing of the arena");
        drop(second);
        assert_eq!(slots.out(), 1);
        let mut again = slots.take(3000).unwrap();
        again.bytes_mut().fill(8);
        assert_eq!(tail.private(), Some(&[7; 5][..]), "another one");
        let region = slots.region().clone();
        // They outlive what lends them.
        drop(slots);
        assert_eq!(tail.private(), Some(&[7; 5][..]));
        drop((again, tail));
        drop(region);
    }
}
