// SPDX-License-Identifier: GPL-2.0-or-later
//! The shape of a logical unit, and ranges of its store.

use std::fmt::Debug;

use super::table::Features;

/// The shape of a logical unit at a moment, made of its configuration and its store.
pub trait Shape: Copy + Debug {
    /// The logical block at a byte of the store: what sense data and log pages say of a place.
    fn lba(&self, at: u64) -> u64;

    /// Most bytes of a store operation that moves data.
    fn chunk(&self) -> u32;

    /// Which commands it offers beside those that all of its device type do.
    fn features(&self) -> Features;
}

/// What is left to do of a range of the store, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Span {
    /// The first of them.
    pub at: u64,
    /// How many.
    pub left: u64,
}

impl Span {
    /// Cuts off the next piece of at most `most` bytes.
    pub fn take(&mut self, most: u32) -> (u64, u32) {
        let len = u32::try_from(self.left).map_or(most, |left| left.min(most));
        let at = self.at;
        self.at += u64::from(len);
        self.left -= u64::from(len);
        (at, len)
    }
}
