// SPDX-License-Identifier: GPL-2.0-or-later
//! Memory for those who insist on having some and whose bytes nobody wants.

use std::cell::Cell;
use std::ptr::NonNull;

use crate::sys;

/// How much memory it is: little enough to stay in the cache nearest to the processor, with as much beside it.
const PERIOD: usize = 16 << 10;

thread_local! {
    /// What this thread has, and how long it is.
    static NOTHING: Cell<(NonNull<u8>, usize)> = const { Cell::new((NonNull::dangling(), 0)) };
}

/// `len` bytes to be written and read at will, which mean nothing: everybody on this thread gets the same ones, a few pages that
/// are mapped over and over. They stay if the thread ends or their holder moves to another.
///
/// They are for smoltcp's rings, between which and frames it copies bytes that are never looked at. It insists on exclusive
/// slices, which these are not: a safe function must not give that, and none but [`Socket`](smoltcp::socket::tcp::Socket)
/// should be given these.
pub(crate) fn nothing(len: usize) -> &'static mut [u8] {
    let (mut base, mut had) = NOTHING.get();
    if had < len {
        // So that there are few of them, whatever lengths are asked for.
        had = len.next_power_of_two().max(PERIOD);
        base = sys::map_repeatedly(PERIOD, had).unwrap_or_else(|_| {
            // Where the kernel has no room for so many mappings: as much memory as is touched.
            NonNull::from(Box::leak(vec![0; had].into_boxed_slice())).cast()
        });
        NOTHING.set((base, had));
    }
    // SAFETY: the mapping is at least that long, and stays. Several slices over the same bytes are held at once, and the holder
    // of one may be on another thread: what is allowed to rest on exclusive access is what the bytes are, and nobody looks at
    // that. They are plain bytes, of which any value is one, and are only ever copied here and from here.
    unsafe { std::slice::from_raw_parts_mut(base.as_ptr(), len) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_as_long_as_it_is_asked_to_be_and_the_same_over_and_over() {
        for n in 0..64 {
            let ring = nothing((1 << 20) + n);
            assert_eq!(ring.len(), (1 << 20) + n);
            ring.fill(n as u8);
        }
        assert_eq!(nothing(1)[0], 63, "the same for all");
        let ring = nothing(1 << 20);
        ring[5] = 200;
        assert!(ring[5..].iter().step_by(PERIOD).all(|&byte| byte == 200));
        let there = std::thread::spawn(|| nothing(1)[0]).join().unwrap();
        assert_eq!(there, 0, "another thread has its own");
    }
}
