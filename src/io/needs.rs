// SPDX-License-Identifier: GPL-2.0-or-later
//! What a device wants of the store behind it.

/// How a store is opened for a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreNeeds {
    /// Logical block size in bytes.
    pub block: u32,
    /// Nothing is written.
    pub read_only: bool,
    /// Space comes with the first write, and can be given back.
    pub thin: bool,
}
