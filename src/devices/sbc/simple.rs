// SPDX-License-Identifier: GPL-2.0-or-later
//! Commands that end with their first step or with a flush.

use crate::scsi::primary::{self, reply};
use crate::scsi::{Context, Outcome, Sense, Status, alua, reservations};
use crate::wire::scsi::{DataIn, be32};

use super::fault::Fault;
use super::limits::Extent;
use super::pages;
use super::server::{Job, Work};
use super::table::TABLE;

type Begun = Result<Work, Fault>;

fn answered((data, allocation): (DataIn, u32), cx: &Context<'_>) -> Begun {
    Ok(Work::Done(reply(&data, allocation as usize, cx)))
}

pub(super) fn test_unit_ready(_: &Job<'_>, _: &mut Context<'_>) -> Begun {
    Ok(Work::Done(Outcome::good()))
}

pub(super) fn request_sense(job: &Job<'_>, cx: &mut Context<'_>) -> Begun {
    Ok(Work::Done(primary::request_sense(&job.cdb, Sense::new(0, 0), cx)))
}

pub(super) fn inquiry(job: &Job<'_>, cx: &mut Context<'_>) -> Begun {
    let port = cx.nexus.map(|nexus| &*nexus.port);
    answered(primary::inquiry(&job.cdb, &job.view(), port)?, cx)
}

pub(super) fn reservation(job: &Job<'_>, _: &mut Context<'_>) -> Begun {
    Ok(Work::Reservation(reservations::Work::begin(job.command)?))
}

pub(super) fn port_groups(job: &Job<'_>, _: &mut Context<'_>) -> Begun {
    Ok(Work::PortGroups(alua::Work::begin(job.command)?))
}

/// START with POWER CONDITION 0 is let pass whatever is reserved (SBC-3 table 13).
pub(super) fn only_starts(cdb: &[u8; 16]) -> bool {
    cdb[4] & 0xf1 == 1
}

pub(super) fn mode_sense(job: &Job<'_>, cx: &mut Context<'_>) -> Begun {
    answered(primary::mode_sense(&job.cdb, &job.view())?, cx)
}

pub(super) fn report_luns(job: &Job<'_>, cx: &mut Context<'_>) -> Begun {
    Ok(Work::Done(primary::report_luns(&job.cdb, cx)?))
}

pub(super) fn report_operation_codes(job: &Job<'_>, cx: &mut Context<'_>) -> Begun {
    answered(TABLE.report(&job.cdb, |d| job.offers(d))?, cx)
}

pub(super) fn report_task_management(job: &Job<'_>, cx: &mut Context<'_>) -> Begun {
    Ok(Work::Done(primary::report_task_management(&job.cdb, cx)))
}

pub(super) fn read_capacity_10(job: &Job<'_>, cx: &mut Context<'_>) -> Begun {
    answered((pages::capacity_10(&job.limits), u32::MAX), cx)
}

pub(super) fn read_capacity_16(job: &Job<'_>, cx: &mut Context<'_>) -> Begun {
    answered((pages::capacity_16(&job.limits), be32(&job.cdb, 10)), cx)
}

/// START STOP UNIT (SBC-3 5.25). There is nothing to spin and no power condition to enter, so the disk stays ready;
/// what counts is that stopping it brings the cache to the medium.
pub(super) fn start_stop_unit(job: &Job<'_>, _: &mut Context<'_>) -> Begun {
    let (power_condition, no_flush, start) = (job.cdb[4] >> 4, job.cdb[4] & 4 != 0, job.cdb[4] & 1 != 0);
    let stops = power_condition == 0 && !start;
    Ok(if stops && !no_flush { Work::Flush } else { Work::Done(Outcome::good()) })
}

/// PRE-FETCH. What is near and what is not is the store's affair, and a read-ahead that nobody waits for is worth
/// little over a network: the blocks are said to be cached.
pub(super) fn pre_fetch(job: &Job<'_>, _: &mut Context<'_>) -> Begun {
    Extent::of(&job.cdb).checked(&job.limits, u64::MAX)?;
    Ok(Work::Done(Outcome::status(Status::ConditionMet)))
}

/// SYNCHRONIZE CACHE. A store flushes as a whole. With IMMED the status could come earlier; it comes when the promise
/// has been kept.
pub(super) fn synchronize_cache(job: &Job<'_>, _: &mut Context<'_>) -> Begun {
    Extent::of(&job.cdb).checked(&job.limits, u64::MAX)?;
    Ok(Work::Flush)
}
