// SPDX-License-Identifier: GPL-2.0-or-later
//! What every command looks at of a logical unit.

/// Independent bits, so that one atomic word is a consistent snapshot of them, which costs a command on any core no
/// more than a load. The lower half is said here, the upper half is the device type's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnitFlags(pub u32);

impl UnitFlags {
    /// D_SENSE of the control mode page.
    pub const DESCRIPTOR_SENSE: Self = Self(1);
    /// SWP of the control mode page.
    pub const WRITE_PROTECT: Self = Self(2);
    /// TAS of the control mode page.
    pub const ABORTED_STATUS: Self = Self(4);
    /// QERR is not zero.
    pub const ABORT_OTHERS: Self = Self(8);
    /// UA_INTLCK_CTRL is not zero ...
    pub const INTERLOCK: Self = Self(0x10);
    /// ... and is 11b.
    pub const INTERLOCK_MAKES: Self = Self(0x20);
    /// There is no medium ...
    pub const NO_MEDIUM: Self = Self(0x40);
    /// ... and one is being made ready.
    pub const MEDIUM_COMES: Self = Self(0x80);
    /// The medium that comes was there before the start.
    pub const MEDIUM_RETURNS: Self = Self(0x100);
    /// Whether there is a medium: neither MODE SELECT nor a reset changes that.
    pub const PRESENCE: Self = Self(Self::NO_MEDIUM.0 | Self::MEDIUM_COMES.0 | Self::MEDIUM_RETURNS.0);

    /// Whether one of the bits is set.
    pub fn has(self, bits: Self) -> bool {
        self.0 & bits.0 != 0
    }

    /// Sets or clears bits.
    pub fn set(&mut self, bits: Self, on: bool) {
        self.0 = if on { self.0 | bits.0 } else { self.0 & !bits.0 };
    }
}
