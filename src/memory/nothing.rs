// SPDX-License-Identifier: GPL-2.0-or-later
//! Memory for code that insists on a buffer whose bytes nobody reads.

use std::cell::Cell;
use std::ptr::NonNull;

use smoltcp::socket::tcp::{Socket, SocketBuffer};

use crate::sys;

/// How much memory it is: little enough to stay in the cache nearest to the processor, with as much beside it.
const PERIOD: usize = 16 << 10;

thread_local! {
    /// What this thread has, and how long it is.
    static NOTHING: Cell<(NonNull<u8>, usize)> = const { Cell::new((NonNull::dangling(), 0)) };
}

/// A TCP socket of smoltcp whose rings, of so many bytes, hold nothing: between them and frames it copies bytes that
/// nobody looks at.
pub(crate) fn socket_over_nothing(receive: usize, send: usize) -> Socket<'static> {
    // SAFETY: none that the language would accept, see `nothing`. What keeps the compiler from making use of it is that
    // the socket only copies plain bytes to and from its rings, and that those who have the socket take their lengths
    // alone.
    let [receive, send] = [receive, send].map(|len| SocketBuffer::new(unsafe { nothing(len) }));
    Socket::new(receive, send)
}

/// `len` bytes to be written and read at will, which mean nothing: everybody on this thread gets the same ones, a few
/// pages that are mapped over and over. They stay if the thread ends or their holder moves to another.
///
/// # Safety
/// By the letter there is no sound use: the slices of all callers lie over the same bytes, and a holder that has moved
/// to another thread writes them at the same time. docs/soundness.md tells why it is so all the same, and what would
/// end it. No caller may let anything depend on what the bytes are, nor hand the slice to code that does.
unsafe fn nothing(len: usize) -> &'static mut [u8] {
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
    // SAFETY: the mapping is at least that long, and stays; any value of its bytes is one. That it is not exclusive is
    // the caller's to answer for.
    unsafe { std::slice::from_raw_parts_mut(base.as_ptr(), len) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_as_long_as_it_is_asked_to_be_and_the_same_over_and_over() {
        // SAFETY: of plain bytes any value is one, and one slice at a time is looked at.
        let nothing = |len| unsafe { nothing(len) };
        for n in 0..64 {
            let ring = nothing((1 << 20) + n);
            assert_eq!(ring.len(), (1 << 20) + n);
            ring.fill(n as u8);
        }
        assert_eq!(nothing(1)[0], 63, "the same for all");
        let ring = nothing(1 << 20);
        ring[5] = 200;
        assert!(ring[5..].iter().step_by(PERIOD).all(|&byte| byte == 200));
        let there = std::thread::spawn(move || nothing(1)[0]).join().unwrap();
        assert_eq!(there, 0, "another thread has its own");
    }
}
