// SPDX-License-Identifier: GPL-2.0-or-later
//! LOAD UNLOAD (SSC-4 7.2), ERASE(6) (6.1) and FORMAT MEDIUM (7.1).

use super::drive::{CartridgeState, Drive, Job, UNLOADED};
use super::mode;
use super::store_work::{Pause, StoreWork};
use crate::formats::tape::CartridgeUse;
use crate::scsi::primary::Fault;
use crate::scsi::{Context, Outcome, Sense, asc, key};
use crate::wire::scsi::be16;

/// LOAD UNLOAD under way.
#[derive(Debug)]
pub(super) struct LoadUnload {
    load: bool,
    synchronized: bool,
}

impl LoadUnload {
    pub(super) fn begin(job: &Job<'_>) -> Result<Self, Fault> {
        const EOT: u8 = 0x04;
        const LOAD: u8 = 0x01;
        let load = job.cdb[4] & LOAD != 0;
        if load && job.cdb[4] & EOT != 0 {
            return Err(Sense::invalid_field_in_cdb(4, Some(2)).into());
        }
        if !load && !job.primary().state().prevented.is_empty() {
            return Err(Sense::illegal(asc::MEDIUM_REMOVAL_PREVENTED).into());
        }
        Ok(Self { load, synchronized: false })
    }

    /// A cartridge that is out is loaded before it is mounted.
    pub(super) fn is_load(job: &Job<'_>) -> bool {
        job.cdb[4] & 1 != 0
    }

    pub(super) fn advance(
        &mut self,
        store: &mut StoreWork,
        drive: &mut Drive,
        job: &Job<'_>,
        cx: &Context<'_>,
    ) -> Result<Outcome, Pause> {
        if !std::mem::replace(&mut self.synchronized, true) {
            drive.image().checkpoint();
        }
        store.settle(drive, cx)?;
        drive.rewind();
        if self.load {
            return Ok(Outcome::good());
        }
        // The next load finds what is on the store then.
        drive.medium = CartridgeState::Loaded;
        job.primary().change_flags(|flags| flags.set(UNLOADED, true));
        Ok(Outcome::good())
    }
}

/// The cartridge goes in. Returns the attention for the other initiators, if it was out.
pub(super) fn put_in(job: &Job<'_>) -> Option<u16> {
    let (old, _) = job.primary().change_flags(|flags| flags.set(UNLOADED, false));
    old.has(UNLOADED).then_some(asc::NOT_READY_TO_READY_CHANGE_MEDIUM_MAY_HAVE_CHANGED)
}

/// ERASE under way: what is behind the head is no more. A long one is as quick as a short one, since nothing can read
/// that.
#[derive(Debug)]
pub(super) struct TapeErase {
    cut: bool,
}

impl TapeErase {
    pub(super) fn begin(_: &Job<'_>) -> Result<Self, Fault> {
        Ok(Self { cut: false })
    }

    pub(super) fn advance(
        &mut self,
        store: &mut StoreWork,
        drive: &mut Drive,
        cx: &Context<'_>,
    ) -> Result<Outcome, Pause> {
        if !self.cut {
            if let Some(sense) = drive.refusal() {
                return Err(sense.into());
            }
            let (partition, lba) = (drive.partition, drive.lba);
            store.ask(drive, |image| image.begin(partition, lba))?;
            drive.image().sync();
            self.cut = true;
        }
        store.settle(drive, cx)?;
        Ok(Outcome::good())
    }
}

/// FORMAT MEDIUM under way.
#[derive(Debug)]
pub(super) struct FormatMedium {
    /// As mode page 11h says; else one partition.
    by_page: bool,
    formatted: bool,
}

impl FormatMedium {
    pub(super) fn begin(job: &Job<'_>) -> Result<Self, Fault> {
        let by_page = match job.cdb[2] & 0x0f {
            0 => false,
            1 | 2 => true,
            _ => return Err(Sense::invalid_field_in_cdb(2, Some(3)).into()),
        };
        if be16(&job.cdb, 3) != 0 {
            return Err(Sense::invalid_field_in_cdb(3, None).into());
        }
        Ok(Self { by_page, formatted: false })
    }

    pub(super) fn advance(
        &mut self,
        store: &mut StoreWork,
        drive: &mut Drive,
        job: &Job<'_>,
        cx: &Context<'_>,
    ) -> Result<Outcome, Pause> {
        if !self.formatted {
            if (drive.partition, drive.lba) != (0, 0) {
                return Err(Sense::illegal(asc::POSITION_PAST_BEGINNING_OF_MEDIUM).into());
            }
            let (capacity, written_once) = {
                let cartridge = drive.image().cartridge();
                (cartridge.capacity, cartridge.purpose == CartridgeUse::Worm)
            };
            let refusal = drive.refusal();
            if let Some(sense) = refusal {
                return Err(sense.into());
            }
            if written_once {
                return Err(Sense::new(key::DATA_PROTECT, asc::WORM_MEDIUM_OVERWRITE_ATTEMPTED).into());
            }
            let capacities = match self.by_page {
                true => mode::partitions(&job.primary().state().modes, capacity)?,
                false => vec![capacity],
            };
            if !drive.image().format(&capacities, job.shape.bytes) {
                return Err(Sense::new(key::MEDIUM_ERROR, asc::FORMAT_COMMAND_FAILED).into());
            }
            self.formatted = true;
        }
        store.settle(drive, cx)?;
        drive.rewind();
        Ok(Outcome::good())
    }
}
