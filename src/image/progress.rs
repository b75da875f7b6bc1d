// SPDX-License-Identifier: GPL-2.0-or-later
//! A progress bar on the terminal.

use std::io::IsTerminal as _;

use crate::control::output;
use crate::sys;

/// Characters of the bar.
const WIDTH: u64 = 40;
/// It is drawn again after so many nanoseconds.
const PAUSE: u64 = 200_000_000;

/// See the module. Where stderr is no terminal nothing is shown.
#[derive(Debug)]
pub(super) struct ProgressBar {
    what: &'static str,
    total: u64,
    shown: bool,
    next: u64,
}

impl ProgressBar {
    pub(super) fn new(what: &'static str, total: u64) -> Self {
        Self { what, total, shown: std::io::stderr().is_terminal(), next: 0 }
    }

    /// So much of it is done.
    pub(super) fn show(&mut self, done: u64) {
        if !self.shown || sys::monotonic() < self.next {
            return;
        }
        self.next = sys::monotonic() + PAUSE;
        output::show_progress(&bar(self.what, done, self.total));
    }
}

impl Drop for ProgressBar {
    fn drop(&mut self) {
        if self.shown {
            output::clear_progress();
        }
    }
}

pub(super) fn bar(what: &str, done: u64, total: u64) -> String {
    let share = |of: u64| (u128::from(done.min(total)) * u128::from(of) / u128::from(total.max(1))) as usize;
    let full = share(WIDTH);
    format!("{what} [{:<width$}] {:3} %", "#".repeat(full), share(100), width = WIDTH as usize)
}
