// SPDX-License-Identifier: GPL-2.0-or-later
//! LOAD UNLOAD (SSC-4 7.2), ERASE(6) and (16) (6.1), FORMAT MEDIUM (7.1), SET CAPACITY and ALLOW OVERWRITE, and the
//! cartridge that is taken out.

use super::drive::{Drive, Job, Permitted, UNLOADED};
use super::memory;
use super::mode::{self, PartitionPlan};
use super::store_work::{Pause, StoreWork};
use crate::scsi::primary::{DeviceType, Fault};
use crate::scsi::{Context, Outcome, Sense, asc, key};
use crate::wire::scsi::{be16, be64};

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
        if let Some(sense) = job.primary().absence().filter(|_| load) {
            return Err(sense.into());
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
            if !self.load {
                keep_life(drive, job);
            }
            drive.image().checkpoint();
        }
        store.settle(drive, cx)?;
        drive.rewind();
        if self.load {
            return Ok(Outcome::good());
        }
        drive.take_out();
        job.primary().change_flags(|flags| flags.set(UNLOADED, true));
        Ok(Outcome::good())
    }
}

/// A cartridge that goes out remembers this drive, if it may be written.
fn keep_life(drive: &mut Drive, job: &Job<'_>) {
    if !job.unit.protected(&job.shape) && !drive.is_protected() {
        memory::keep_life(drive, job.primary().identity());
    }
}

/// The cartridge goes in. Returns the attention for the other initiators, if it was out.
pub(super) fn put_in(job: &Job<'_>) -> Option<u16> {
    let (old, _) = job.primary().change_flags(|flags| flags.set(UNLOADED, false));
    old.has(UNLOADED).then_some(asc::NOT_READY_TO_READY_CHANGE_MEDIUM_MAY_HAVE_CHANGED)
}

/// The cartridge is taken out by somebody else than an initiator.
#[derive(Debug)]
pub(super) struct CartridgeRemoval {
    /// Even if what was written cannot be brought to it.
    pub(super) force: bool,
    synchronized: bool,
}

impl CartridgeRemoval {
    pub(super) fn new(force: bool) -> Self {
        Self { force, synchronized: false }
    }

    pub(super) fn advance(
        &mut self,
        store: &mut StoreWork,
        drive: &mut Drive,
        job: &Job<'_>,
        cx: &Context<'_>,
    ) -> Result<Outcome, Pause> {
        // One that is not mounted is as it was.
        if drive.mounted().is_some() {
            store.settle(drive, cx)?;
            if !std::mem::replace(&mut self.synchronized, true) {
                keep_life(drive, job);
                drive.image().checkpoint();
            }
            store.settle(drive, cx)?;
        }
        Ok(Outcome::good())
    }
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

/// What a cartridge that is made anew is like.
#[derive(Debug)]
enum NewLayout {
    /// One partition with all of its capacity.
    Whole,
    /// As mode page 11h says, whose values these are.
    ByPage(PartitionPlan),
    /// One partition with so many 65535ths of it.
    Proportion(u16),
}

/// FORMAT MEDIUM or SET CAPACITY under way.
#[derive(Debug)]
pub(super) struct FormatMedium {
    layout: NewLayout,
    formatted: bool,
}

impl FormatMedium {
    pub(super) fn begin(job: &Job<'_>) -> Result<Self, Fault> {
        let layout = match job.cdb[2] & 0x0f {
            0 => NewLayout::Whole,
            1 | 2 => NewLayout::ByPage(job.unit.drive().modes.plan),
            _ => return Err(Sense::invalid_field_in_cdb(2, Some(3)).into()),
        };
        if be16(&job.cdb, 3) != 0 {
            return Err(Sense::invalid_field_in_cdb(3, None).into());
        }
        Ok(Self { layout, formatted: false })
    }

    /// SET CAPACITY.
    pub(super) fn set_capacity(job: &Job<'_>) -> Result<Self, Fault> {
        match be16(&job.cdb, 3) {
            0 => Err(Sense::invalid_field_in_cdb(3, None).into()),
            proportion => Ok(Self { layout: NewLayout::Proportion(proportion), formatted: false }),
        }
    }

    pub(super) fn advance(
        &mut self,
        store: &mut StoreWork,
        drive: &mut Drive,
        job: &Job<'_>,
        cx: &Context<'_>,
    ) -> Result<Outcome, Pause> {
        if !self.formatted {
            if let Some(sense) = drive.renewal_refusal() {
                return Err(sense.into());
            }
            let capacity = drive.image().cartridge().capacity;
            let capacities = match &self.layout {
                NewLayout::Whole => vec![capacity],
                NewLayout::ByPage(plan) => mode::partitions(plan, capacity)?,
                NewLayout::Proportion(part) => {
                    let part = u128::from(capacity) * u128::from(*part) / 0xffff;
                    vec![u64::try_from(part).unwrap_or(capacity)]
                }
            };
            if !drive.image().format(&capacities, job.shape.bytes) {
                return Err(Sense::new(key::MEDIUM_ERROR, asc::FORMAT_COMMAND_FAILED).into());
            }
            drive.plan = None;
            self.formatted = true;
        }
        store.settle(drive, cx)?;
        drive.rewind();
        Ok(Outcome::good())
    }
}

/// ALLOW OVERWRITE.
#[derive(Clone, Copy, Debug)]
pub(super) struct AllowOverwrite {
    /// At which object of which partition, or what else.
    permits: Option<Permitted>,
}

impl AllowOverwrite {
    pub(super) fn begin(job: &Job<'_>) -> Result<Self, Fault> {
        let permits = match job.cdb[2] & 0x0f {
            0 => None,
            1 => Some(Permitted::Overwrite(job.cdb[3].into(), be64(&job.cdb, 4))),
            2 => Some(Permitted::Format),
            _ => return Err(Sense::invalid_field_in_cdb(2, Some(3)).into()),
        };
        Ok(Self { permits })
    }

    pub(super) fn advance(self, drive: &mut Drive) -> Result<Outcome, Pause> {
        if !drive.modes.append_only {
            return Err(Sense::illegal(asc::ILLEGAL_COMMAND_WHEN_NOT_IN_APPEND_ONLY_MODE).into());
        }
        let here = Permitted::Overwrite(drive.partition, drive.lba);
        if matches!(self.permits, Some(Permitted::Overwrite(..))) && self.permits != Some(here) {
            return Err(Sense::illegal(asc::SEQUENTIAL_POSITIONING_ERROR).into());
        }
        drive.permitted = self.permits;
        Ok(Outcome::good())
    }
}
