// SPDX-License-Identifier: GPL-2.0-or-later
//! The tasks of a disk's own commands.

use crate::scsi::primary::{DeviceTask, Fault, MediumAccess};
use crate::scsi::{Context, Outcome, Resume, Step};

use super::disk::{Disk, Job};
use super::removable::StartStop;
use super::{atomic, copy, erase, provisioning, transfer};

/// What such a task still has to do.
#[derive(Debug)]
pub enum DiskTask {
    Read(transfer::Read),
    Write(transfer::Write),
    Verify(transfer::Verify),
    OrWrite(atomic::OrWrite),
    CompareAndWrite(atomic::CompareAndWrite),
    WriteAtomic(atomic::WriteAtomic),
    Unmap(provisioning::Unmap),
    WriteSame(provisioning::WriteSame),
    LbaStatus(provisioning::LbaStatus),
    StartStop(StartStop),
    Erase(Box<erase::Erase>),
    Copy(Box<copy::Copy>),
}

impl DeviceTask<Disk> for DiskTask {
    // Always: a READ or a WRITE comes here with each step.
    #[inline(always)]
    fn advance(
        &mut self,
        answer: Option<Resume>,
        job: &Job<'_>,
        cx: &mut Context<'_>,
    ) -> Result<Step, Fault> {
        match self {
            Self::Read(task) => task.advance(answer, job, cx),
            Self::Write(task) => task.advance(answer, job),
            Self::Verify(task) => task.advance(answer, job),
            Self::OrWrite(task) => task.advance(answer, job, cx),
            Self::CompareAndWrite(task) => task.advance(answer, job),
            Self::WriteAtomic(task) => task.advance(answer, job),
            Self::Unmap(task) => task.advance(answer, job),
            Self::WriteSame(task) => task.advance(answer, job, cx),
            Self::LbaStatus(task) => task.advance(answer, job, cx),
            Self::StartStop(task) => task.advance(answer, job),
            Self::Erase(task) => task.advance(answer, job, cx),
            Self::Copy(task) => task.advance(answer, job, cx),
        }
    }

    fn sent(&self) -> u64 {
        if let Self::Read(task) = self { task.sent() } else { 0 }
    }

    fn access(&self) -> Option<MediumAccess> {
        match self {
            Self::Read(_) => Some(MediumAccess::Read),
            Self::Verify(_) => Some(MediumAccess::Verify),
            Self::Write(_)
            | Self::OrWrite(_)
            | Self::CompareAndWrite(_)
            | Self::WriteAtomic(_)
            | Self::WriteSame(_)
            | Self::Unmap(_)
            | Self::Erase(_) => Some(MediumAccess::Write),
            Self::LbaStatus(_) | Self::StartStop(_) | Self::Copy(_) => None,
        }
    }

    fn occupies(&self) -> bool {
        matches!(self, Self::Erase(_))
    }

    fn goes_on(&self) -> bool {
        matches!(self, Self::Erase(task) if task.goes_on())
    }

    #[inline]
    fn ended(&self, disk: &Disk, outcome: &Outcome) {
        if let Self::Copy(task) = self {
            task.ended(disk, outcome);
        }
    }

    fn aborted(&self, disk: &Disk) {
        match self {
            Self::Erase(task) => task.aborted(disk),
            Self::Copy(task) => task.aborted(disk),
            _ => {}
        }
    }
}
