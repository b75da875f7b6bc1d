// SPDX-License-Identifier: GPL-2.0-or-later
//! Payload that a device reads where it lies: held here until the device has let go of the last buffer that points at
//! it.
//!
//! The device lets go on whatever thread frees its buffers, in general the queue's own; segments belong to their core.
//! So the device's side only marks a guard as done, and the core drops the payload when it looks the next time.

use std::cell::UnsafeCell;
use std::ffi::c_void;
use std::sync::atomic::{AtomicU32, Ordering};

use dpdk_sys as dpdk;

use crate::memory::Sg;

/// The end of a list of guards.
const NONE: u32 = u32::MAX;

struct Guard {
    shared: UnsafeCell<dpdk::rte_mbuf_ext_shared_info>,
    /// The next in the list of those that are done.
    next: AtomicU32,
    number: u32,
    done: *const AtomicU32,
    payload: UnsafeCell<Option<Sg>>,
}

/// The guards of one queue.
pub(super) struct Guards {
    guards: Box<[Guard]>,
    free: Vec<u32>,
    /// The last of those that the device is done with. Boxed: guards point at it.
    done: Box<AtomicU32>,
}

/// Called by DPDK with the last reference to a guard.
unsafe extern "C" fn release(_: *mut c_void, guard: *mut c_void) {
    // SAFETY: the guard lives as long as the queue, which outlives what the device holds (see Guards::drop).
    let guard = unsafe { &*guard.cast::<Guard>() };
    // SAFETY: as above.
    let done = unsafe { &*guard.done };
    let mut last = done.load(Ordering::Relaxed);
    loop {
        guard.next.store(last, Ordering::Relaxed);
        match done.compare_exchange_weak(last, guard.number, Ordering::Release, Ordering::Relaxed) {
            Ok(_) => return,
            Err(now) => last = now,
        }
    }
}

impl Guards {
    pub(super) fn new(count: u32) -> Self {
        let done = Box::new(AtomicU32::new(NONE));
        let guard = |number| Guard {
            shared: UnsafeCell::default(),
            next: AtomicU32::new(NONE),
            number,
            done: &raw const *done,
            payload: UnsafeCell::new(None),
        };
        Self { guards: (0..count).map(guard).collect(), free: (0..count).rev().collect(), done }
    }

    /// A free guard.
    pub(super) fn vacant(&self) -> Option<u32> {
        self.free.last().copied()
    }

    /// What the buffers of a vacant guard share.
    pub(super) fn shared(&self, number: u32) -> *mut dpdk::rte_mbuf_ext_shared_info {
        let guard = &self.guards[number as usize];
        let shared = guard.shared.get();
        // SAFETY: nobody else looks at a vacant guard.
        unsafe {
            (*shared).free_cb = Some(release);
            (*shared).fcb_opaque = std::ptr::from_ref(guard).cast_mut().cast();
        }
        shared
    }

    /// Puts payload into a vacant guard whose buffers have been made.
    pub(super) fn hold(&mut self, number: u32, payload: Sg) {
        debug_assert_eq!(self.vacant(), Some(number), "the guard that was offered");
        self.free.pop();
        // SAFETY: the payload of a guard is touched by its queue's core only.
        unsafe { *self.guards[number as usize].payload.get() = Some(payload) };
    }

    /// Drops the payload of guards that the device is done with. Returns how many.
    pub(super) fn collect(&mut self) -> usize {
        if self.done.load(Ordering::Relaxed) == NONE {
            return 0;
        }
        let mut at = self.done.swap(NONE, Ordering::Acquire);
        let mut count = 0;
        while let Some(guard) = self.guards.get(at as usize) {
            // SAFETY: as in hold(); the device is done with it.
            unsafe { *guard.payload.get() = None };
            self.free.push(at);
            at = guard.next.load(Ordering::Relaxed);
            count += 1;
        }
        count
    }

    /// How many hold payload.
    pub(super) fn out(&self) -> usize {
        self.guards.len() - self.free.len()
    }
}

impl Drop for Guards {
    fn drop(&mut self) {
        self.collect();
        if self.out() > 0 {
            // The device has not let go: it may yet read the payload, and call back.
            log::warn!(target: "dpdk", "{} frames are still with the device: their memory is given up", self.out());
            std::mem::forget(std::mem::take(&mut self.guards));
            std::mem::forget(std::mem::replace(&mut self.done, Box::new(AtomicU32::new(NONE))));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::{Arena, Sg};

    #[test]
    fn payload_is_dropped_on_its_own_core_after_the_device_is_done() {
        let arena = Arena::new(2 << 20, false).unwrap();
        let mut guards = Guards::new(2);
        let hold = |guards: &mut Guards| {
            let number = guards.vacant().unwrap();
            let shared = guards.shared(number);
            guards.hold(number, Sg::copied(&arena, &[7; 5000]).unwrap());
            // SAFETY: the guard has just been set up.
            unsafe { ((*shared).free_cb.unwrap(), (*shared).fcb_opaque.expose_provenance()) }
        };
        let (first, second) = (hold(&mut guards), hold(&mut guards));
        assert!(guards.vacant().is_none());
        let device = std::thread::spawn(move || {
            for (call, opaque) in [second, first] {
                // SAFETY: as DPDK calls it.
                unsafe { call(std::ptr::null_mut(), std::ptr::with_exposed_provenance_mut(opaque)) };
            }
        });
        device.join().unwrap();
        assert!(arena.in_use() > 0, "the device's thread drops nothing");
        assert_eq!((guards.collect(), guards.out(), arena.in_use()), (2, 0, 0));
        assert_eq!(guards.collect(), 0);
    }
}
