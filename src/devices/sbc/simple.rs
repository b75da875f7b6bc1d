// SPDX-License-Identifier: GPL-2.0-or-later
//! Commands of a disk that end with their first step, or with a flush.

use crate::scsi::primary::handlers::answered;
use crate::scsi::primary::{Fault, TaskWork};
use crate::scsi::{Context, Outcome, Status};
use crate::wire::scsi::{DataIn, be16, be32};

use super::disk::{Disk, Job};
use super::erase::Erase;
use super::limits::Extent;
use super::pages;

type Begun = Result<TaskWork<Disk>, Fault>;

/// START with POWER CONDITION 0 is let pass whatever is reserved (SBC-3 table 13).
pub(super) fn only_starts(cdb: &[u8; 16]) -> bool {
    cdb[4] & 0xf1 == 1
}

pub(super) fn read_capacity_10(job: &Job<'_>, cx: &mut Context<'_>) -> Begun {
    answered((pages::capacity_10(&job.shape), u32::MAX), cx)
}

pub(super) fn read_capacity_16(job: &Job<'_>, cx: &mut Context<'_>) -> Begun {
    answered((pages::capacity_16(&job.shape), be32(&job.cdb, 10)), cx)
}

/// PRE-FETCH. What is near and what is not is the store's affair, and a read-ahead that nobody waits for is worth
/// little over a network: the blocks are said to be cached.
pub(super) fn pre_fetch(job: &Job<'_>, _: &mut Context<'_>) -> Begun {
    Extent::of(&job.cdb).checked(&job.shape, u64::MAX)?;
    Ok(TaskWork::Done(Outcome::status(Status::ConditionMet)))
}

/// SYNCHRONIZE CACHE. A store flushes as a whole. With IMMED the status could come earlier; it comes when the promise
/// has been kept.
pub(super) fn synchronize_cache(job: &Job<'_>, _: &mut Context<'_>) -> Begun {
    Extent::of(&job.cdb).checked(&job.shape, u64::MAX)?;
    Ok(TaskWork::Flush)
}

/// READ DEFECT DATA(10) and (12) (SBC-3 5.17, 5.18): both lists are empty, in any format.
pub(super) fn read_defect_data(job: &Job<'_>, cx: &mut Context<'_>) -> Begun {
    let mut data = DataIn::new();
    if job.cdb[0] >> 5 == 1 {
        data.u8(0).u8(job.cdb[2] & 0x1f).u16(0);
        return answered((data, be16(&job.cdb, 7).into()), cx);
    }
    data.u8(0).u8(job.cdb[1] & 0x1f).u16(0).u32(0);
    answered((data, be32(&job.cdb, 6)), cx)
}

pub(super) fn exit_failure_mode(job: &Job<'_>, _: &mut Context<'_>) -> Begun {
    Ok(TaskWork::Done(Erase::exit_failure_mode(job)?))
}
