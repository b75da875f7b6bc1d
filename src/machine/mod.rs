// SPDX-License-Identifier: GPL-2.0-or-later
//! What a machine has, as the kernel tells it in /proc and /sys, and what was found when that was looked at. Looks, and
//! changes nothing.

mod files;
mod findings;
mod holders;
mod secrets;

pub use files::Machine;
pub use findings::{Check, Findings, PciDevice, Verdict};
pub use holders::{TUN, abstract_socket, listeners, tap_device, user_of_tap};
pub use secrets::{SecretRefusal, read_secret};

/// Whether memory comes from the kernel's pool of huge pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hugepages {
    /// If there are enough of them.
    Auto,
    /// It must.
    Require,
    /// It must not.
    Never,
}
