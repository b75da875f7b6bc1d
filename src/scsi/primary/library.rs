// SPDX-License-Identifier: GPL-2.0-or-later
//! Logical units that are libraries.

use super::identity::Identity;
use crate::scsi::DriveChange;

/// A library, as whoever moves its media sees it.
pub trait MediaLibrary {
    /// The name of the record of what is where.
    fn record_name(&self) -> &'static str;

    /// At the start: takes what was kept in an earlier run, the cartridges that there are, by their barcodes, and the
    /// names of its drives. The error says what is wrong with the record.
    fn furnish(
        &self,
        record: Option<&[u8]>,
        barcodes: &[String],
        drives: Vec<Identity>,
    ) -> Result<FurnishedLibrary, &'static str>;

    /// A cartridge cannot be brought to the drive that it was in before the start: it is in its slot again, or in any
    /// that is free, or else still there.
    fn not_loaded(&self, drive: usize);
}

/// How a library is at the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FurnishedLibrary {
    /// What is to be in its drives.
    pub in_drives: Vec<DriveChange>,
    /// Cartridges that were there before and are there no more.
    pub missing: Vec<String>,
    /// Cartridges for which there is no slot.
    pub left_over: Vec<String>,
}
