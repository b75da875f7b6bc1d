// SPDX-License-Identifier: GPL-2.0-or-later
//! The mailbox with threads and the kernel; `ci/tests/interleavings.rs` tries it in every order.

use std::time::Duration;

use super::{mailbox, ring};

#[test]
fn a_sleeper_misses_no_message() {
    let (sender, mut inbox) = mailbox().unwrap();
    let (back, mut echo) = mailbox().unwrap();
    let receiver = std::thread::spawn(move || {
        let mut scratch = Vec::new();
        loop {
            while let Some(n) = inbox.take() {
                back.send(n);
                if n == 9999 {
                    return;
                }
            }
            if inbox.announce_sleep() {
                crate::sys::wait_readable(&[inbox.wake_fd()], &mut scratch, Some(Duration::from_secs(10)));
            }
            inbox.awake();
        }
    });
    for n in 0..10_000 {
        sender.send(n);
        // Waiting for the answer makes every message meet a receiver that is about to sleep.
        while n % 7 == 0 && echo.take() != Some(n) {
            std::hint::spin_loop();
        }
    }
    receiver.join().unwrap();
}

#[test]
fn a_full_ring_keeps_the_order_and_a_sleeper_misses_nothing_in_it() {
    const LAST: u32 = 9999;
    let (sender, mut inbox) = mailbox::<()>().unwrap();
    let (mut to, mut from) = ring(4);
    let receiver = std::thread::spawn(move || {
        let mut scratch = Vec::new();
        let mut next = 0;
        while next <= LAST {
            while let Some(n) = from.take() {
                assert_eq!(n, next);
                next += 1;
            }
            if inbox.announce_sleep() && from.is_empty() && next <= LAST {
                let (begin, most) = (std::time::Instant::now(), Duration::from_secs(10));
                crate::sys::wait_readable(&[inbox.wake_fd()], &mut scratch, Some(most));
                assert!(begin.elapsed() < most, "nobody woke it");
            }
            inbox.awake();
        }
        assert!(from.is_abandoned() || from.is_empty());
    });
    let mut waited = 0;
    for n in 0..=LAST {
        to.send(n);
        // In bursts that are longer than the ring.
        if n % 11 == 0 || n == LAST {
            loop {
                waited += u32::from(to.is_waiting());
                if to.flush() {
                    sender.wake();
                }
                if !to.is_waiting() {
                    break;
                }
                std::hint::spin_loop();
            }
        }
    }
    receiver.join().unwrap();
    assert!(waited > 0, "it was full");
}
