// SPDX-License-Identifier: GPL-2.0-or-later
//! The mailbox with threads and the kernel; `ci/tests/interleavings.rs` tries it in every order.

use std::time::Duration;

use super::mailbox;

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
