// SPDX-License-Identifier: GPL-2.0-or-later
//! What every command looks at of a disk, beside what it looks at of every logical unit.

use crate::scsi::primary::UnitFlags;

/// What is written may stay in a cache.
pub(super) const WRITE_CACHE: UnitFlags = UnitFlags(0x1_0000);
/// FORMAT UNIT is under way.
pub(super) const FORMATTING: UnitFlags = UnitFlags(0x10_0000);
/// FORMAT UNIT has failed.
pub(super) const CORRUPT: UnitFlags = UnitFlags(0x20_0000);
/// SANITIZE is under way.
pub(super) const SANITIZING: UnitFlags = UnitFlags(0x40_0000);
/// SANITIZE has failed.
pub(super) const UNSANITIZED: UnitFlags = UnitFlags(0x80_0000);
/// ... and allows the exit from that state (AUSE).
pub(super) const EXIT_ALLOWED: UnitFlags = UnitFlags(0x100_0000);
/// The medium is out.
pub(super) const EJECTED: UnitFlags = UnitFlags(0x200_0000);
/// All that the medium has gone through, which no reset changes.
pub(super) const OF_MEDIUM: UnitFlags = UnitFlags(0xfff0_0000);
/// Format and sanitize operations: nothing else is carried out meanwhile.
pub(super) const ERASING: UnitFlags = UnitFlags(FORMATTING.0 | SANITIZING.0);
