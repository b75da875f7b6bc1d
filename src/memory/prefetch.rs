// SPDX-License-Identifier: GPL-2.0-or-later
//! Prefetching what is needed soon, while there is something else to do.

/// Bytes of a line of the cache.
const LINE: usize = 64;

/// Asks for all lines of a value, not for what it points to. Does nothing on processors for which nobody has written
/// it.
#[inline]
pub(crate) fn prefetch<T>(value: &T) {
    lines(std::ptr::from_ref(value).cast(), size_of::<T>());
}

/// Asks for the lines that `len` bytes are in.
#[inline]
pub(super) fn lines(first: *const u8, len: usize) {
    let before = first.addr() % LINE;
    for at in (0..before + len).step_by(LINE) {
        line(first.wrapping_sub(before).wrapping_add(at));
    }
}

#[cfg(target_arch = "x86_64")]
#[inline]
fn line(address: *const u8) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    // SAFETY: a hint, which reads nothing for the program and faults nowhere.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) };
}

#[cfg(not(target_arch = "x86_64"))]
#[inline]
fn line(_: *const u8) {}
