// SPDX-License-Identifier: GPL-2.0-or-later
//! The allocator of the tests, which counts for each thread.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static COUNTS: Cell<Counts> = const { Cell::new(Counts { requests: 0, bytes: 0 }) };
}

/// What a thread has asked of the allocator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Blocks asked for, those that were to grow included.
    pub(crate) requests: u64,
    /// Bytes asked for, less those given back.
    pub(crate) bytes: i64,
}

/// Of this thread until now.
pub(crate) fn counts() -> Counts {
    COUNTS.get()
}

fn note(requests: u64, more: usize, less: usize) {
    let Counts { requests: before, bytes } = COUNTS.get();
    let bytes = bytes.wrapping_add_unsigned(more as u64).wrapping_sub_unsigned(less as u64);
    COUNTS.set(Counts { requests: before + requests, bytes });
}

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: the system's allocator does it all; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(1, layout.size(), 0);
        // SAFETY: as the caller has promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(1, layout.size(), 0);
        // SAFETY: as the caller has promised.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        note(0, 0, layout.size());
        // SAFETY: as the caller has promised.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(1, size, layout.size());
        // SAFETY: as the caller has promised.
        unsafe { System.realloc(block, layout, size) }
    }
}
