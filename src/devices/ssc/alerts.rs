// SPDX-License-Identifier: GPL-2.0-or-later
//! TapeAlert (SSC-4 annex A): the flags that a drive raises.

use crate::scsi::primary::MediumAccess;
use crate::scsi::{Sense, asc, key};

/// Flags 1 to 64, the first in the highest bit. Raised until they are told or another cartridge comes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct TapeAlerts(pub(super) u64);

const HARD_ERROR: u8 = 3;
const READ_FAILURE: u8 = 5;
const WRITE_FAILURE: u8 = 6;
const WRITE_PROTECT: u8 = 9;
const UNSUPPORTED_FORMAT: u8 = 12;
const DIRECTORY_CORRUPTED: u8 = 18;
const WORM_OVERWRITE: u8 = 60;

/// All that may be raised.
const KNOWN: [u8; 7] = [
    HARD_ERROR,
    READ_FAILURE,
    WRITE_FAILURE,
    WRITE_PROTECT,
    UNSUPPORTED_FORMAT,
    DIRECTORY_CORRUPTED,
    WORM_OVERWRITE,
];

impl TapeAlerts {
    /// All that a drive may raise.
    pub(super) fn known() -> Self {
        let mut all = Self::default();
        KNOWN.into_iter().for_each(|flag| all.raise(flag));
        all
    }

    fn raise(&mut self, flag: u8) {
        self.0 |= 1 << (64 - flag);
    }

    pub(super) fn has(self, flag: u8) -> bool {
        self.0 >> (64 - flag) & 1 != 0
    }

    /// Those that are raised.
    pub(super) fn flags(self) -> impl Iterator<Item = u8> {
        (1..=64).filter(move |flag| self.has(*flag))
    }

    /// A command ended with this.
    pub(super) fn take(&mut self, sense: &Sense, access: Option<MediumAccess>) {
        match (sense.key, sense.code, access) {
            (key::MEDIUM_ERROR, asc::UNKNOWN_FORMAT | asc::CANNOT_READ_MEDIUM_INCOMPATIBLE_FORMAT, _) => {
                self.raise(UNSUPPORTED_FORMAT);
            }
            (key::MEDIUM_ERROR, asc::MEDIUM_FORMAT_CORRUPTED, _) => self.raise(DIRECTORY_CORRUPTED),
            (key::MEDIUM_ERROR, _, access) => {
                self.raise(HARD_ERROR);
                let write = sense.code == asc::WRITE_ERROR || access == Some(MediumAccess::Write);
                self.raise(if write { WRITE_FAILURE } else { READ_FAILURE });
            }
            (key::DATA_PROTECT, asc::WRITE_PROTECTED, _) => self.raise(WRITE_PROTECT),
            (key::DATA_PROTECT, asc::WORM_MEDIUM_OVERWRITE_ATTEMPTED, _) => self.raise(WORM_OVERWRITE),
            _ => {}
        }
    }
}
