// SPDX-License-Identifier: GPL-2.0-or-later
//! Copies to and from memory that others read and write at the same time: the pages of disks in memory, mapped files.
//!
//! The language has no copy for that: a plain one is a data race, and one of atomic words costs several times as much.
//! So it is done by the C library's routines, which are written in assembler, at addresses that the compiler does not
//! know: it cannot take the call for its own plain copy and reason about it. What such a routine does is what a relaxed
//! atomic load and store of each byte, in some order, would do, and that is what a reader may rely on: each byte is an
//! old or a new one.

use std::hint::black_box;

use libc::{c_int, c_void};

/// Copies `len` bytes; the ranges may overlap.
///
/// # Safety
/// `from` must be readable and `to` writable for `len` bytes. Others may access both at the same time, if they do it
/// here or outside the language.
#[inline]
pub unsafe fn copy_racing(from: *const u8, to: *mut u8, len: usize) {
    if cfg!(miri) {
        // SAFETY: as the caller promises; Miri, which does not know the routine, runs one thread at this memory.
        return unsafe { std::ptr::copy(from, to, len) };
    }
    let copy: unsafe extern "C" fn(*mut c_void, *const c_void, usize) -> *mut c_void =
        black_box(libc::memmove);
    // SAFETY: as the caller promises; for who else accesses the memory see the module.
    unsafe { copy(to.cast(), from.cast(), len) };
}

/// Writes zeros over `len` bytes.
///
/// # Safety
/// `to` must be writable for `len` bytes; else as for [`copy_racing`].
#[inline]
pub unsafe fn zero_racing(to: *mut u8, len: usize) {
    if cfg!(miri) {
        // SAFETY: as in `copy_racing`.
        return unsafe { std::ptr::write_bytes(to, 0, len) };
    }
    let fill: unsafe extern "C" fn(*mut c_void, c_int, usize) -> *mut c_void = black_box(libc::memset);
    // SAFETY: as in `copy_racing`.
    unsafe { fill(to.cast(), 0, len) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_may_overlap_and_nothing_beside_them_is_touched() {
        let mut bytes: Vec<u8> = (0..100).collect();
        let base = bytes.as_mut_ptr();
        // SAFETY: all ranges are inside the vector.
        unsafe {
            copy_racing(base, base.add(10), 60);
            zero_racing(base.add(80), 5);
        }
        let moved = (0..10).chain(0..60).chain(70..80).chain([0; 5]).chain(85..100);
        assert_eq!(bytes, moved.collect::<Vec<u8>>());
    }
}
