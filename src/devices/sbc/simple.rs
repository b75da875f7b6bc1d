// SPDX-License-Identifier: GPL-2.0-or-later
//! Commands that end with their first step, with a flush, or with a short parameter list.

use smallvec::{SmallVec, smallvec};

use crate::io::Record;
use crate::scsi::primary::{self, InitiatorData, reply};
use crate::scsi::{Context, Outcome, Resume, Sense, Status, Step, alua, asc, reservations};
use crate::wire::scsi::{DataIn, be16, be32};

use super::fault::{Fault, unexpected};
use super::limits::Extent;
use super::logs::Logs;
use super::pages;
use super::server::{DiskTask, Job};
use super::table::TABLE;

type Begun = Result<DiskTask, Fault>;

fn answered((data, allocation): (DataIn, u32), cx: &Context<'_>) -> Begun {
    Ok(DiskTask::Done(reply(&data, allocation as usize, cx)))
}

pub(super) fn test_unit_ready(_: &Job<'_>, _: &mut Context<'_>) -> Begun {
    Ok(DiskTask::Done(Outcome::good()))
}

pub(super) fn request_sense(job: &Job<'_>, cx: &mut Context<'_>) -> Begun {
    Ok(DiskTask::Done(primary::request_sense(&job.cdb, job.disk.condition(), cx)))
}

pub(super) fn inquiry(job: &Job<'_>, cx: &mut Context<'_>) -> Begun {
    answered(primary::inquiry(&job.cdb, &job.view(), cx)?, cx)
}

pub(super) fn reservation(job: &Job<'_>, _: &mut Context<'_>) -> Begun {
    Ok(DiskTask::Reservation(reservations::ReservationCommand::begin(job.command)?))
}

pub(super) fn port_groups(job: &Job<'_>, _: &mut Context<'_>) -> Begun {
    Ok(DiskTask::PortGroups(alua::PortGroupCommand::begin(job.command)?))
}

/// START with POWER CONDITION 0 is let pass whatever is reserved (SBC-3 table 13).
pub(super) fn only_starts(cdb: &[u8; 16]) -> bool {
    cdb[4] & 0xf1 == 1
}

pub(super) fn mode_sense(job: &Job<'_>, cx: &mut Context<'_>) -> Begun {
    let data = job.disk.rare().modes.sense(&job.cdb, &job.view())?;
    answered(data, cx)
}

pub(super) fn report_luns(job: &Job<'_>, cx: &mut Context<'_>) -> Begun {
    Ok(DiskTask::Done(primary::report_luns(&job.cdb, cx)?))
}

pub(super) fn report_operation_codes(job: &Job<'_>, cx: &mut Context<'_>) -> Begun {
    answered(TABLE.report(&job.cdb, job.features())?, cx)
}

pub(super) fn report_task_management(job: &Job<'_>, cx: &mut Context<'_>) -> Begun {
    Ok(DiskTask::Done(primary::report_task_management(&job.cdb, cx)))
}

pub(super) fn read_capacity_10(job: &Job<'_>, cx: &mut Context<'_>) -> Begun {
    answered((pages::capacity_10(&job.limits), u32::MAX), cx)
}

pub(super) fn read_capacity_16(job: &Job<'_>, cx: &mut Context<'_>) -> Begun {
    answered((pages::capacity_16(&job.limits), be32(&job.cdb, 10)), cx)
}

/// PRE-FETCH. What is near and what is not is the store's affair, and a read-ahead that nobody waits for is worth
/// little over a network: the blocks are said to be cached.
pub(super) fn pre_fetch(job: &Job<'_>, _: &mut Context<'_>) -> Begun {
    Extent::of(&job.cdb).checked(&job.limits, u64::MAX)?;
    Ok(DiskTask::Done(Outcome::status(Status::ConditionMet)))
}

/// SYNCHRONIZE CACHE. A store flushes as a whole. With IMMED the status could come earlier; it comes when the promise
/// has been kept.
pub(super) fn synchronize_cache(job: &Job<'_>, _: &mut Context<'_>) -> Begun {
    Extent::of(&job.cdb).checked(&job.limits, u64::MAX)?;
    Ok(DiskTask::Flush)
}

pub(super) fn log_sense(job: &Job<'_>, cx: &mut Context<'_>) -> Begun {
    answered(primary::log_sense(&job.cdb, &Logs::of(job, cx.now))?, cx)
}

pub(super) fn receive_diagnostic(job: &Job<'_>, cx: &mut Context<'_>) -> Begun {
    answered(primary::receive_diagnostic(&job.cdb)?, cx)
}

/// SEND DIAGNOSTIC with parameters: one diagnostic page, of which there is the list of all; RECEIVE DIAGNOSTIC RESULTS gives it
/// in any case.
pub(super) fn send_diagnostic(job: &Job<'_>) -> Begun {
    const LIST_MAX: u32 = 512;
    const PF: u8 = 0x10;
    if job.cdb[1] & PF == 0 {
        return Err(Sense::invalid_field_in_cdb(1, Some(4)).into());
    }
    let len = u32::from(be16(&job.cdb, 3));
    if len > LIST_MAX {
        return Err(Sense::invalid_field_in_cdb(3, None).into());
    }
    Take::begin(len, |_, list, _| {
        primary::send_diagnostic(list)?;
        Ok((None, None))
    })
}

pub(super) fn report_timestamp(job: &Job<'_>, cx: &mut Context<'_>) -> Begun {
    let data = job.disk.rare().initiator_data.report_timestamp(&job.cdb, cx.now);
    answered(data, cx)
}

pub(super) fn report_information(job: &Job<'_>, cx: &mut Context<'_>) -> Begun {
    let data = job.disk.rare().initiator_data.report_information(&job.cdb)?;
    answered(data, cx)
}

pub(super) fn read_buffer(job: &Job<'_>, cx: &mut Context<'_>) -> Begun {
    let data = job.disk.rare().initiator_data.read_buffer(&job.cdb, job.command.nexus)?;
    answered(data, cx)
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

/// What is done with the parameter list of a command. Returns the attention that it makes, and what is to be kept before
/// the status.
type Apply = fn(&Job<'_>, &[u8], &Context<'_>) -> Result<(Option<u16>, Option<Record>), Fault>;

/// A command that is all about a short parameter list.
#[derive(Debug)]
pub(super) struct Take {
    wanted: u32,
    apply: Apply,
    attention: Option<u16>,
}

impl Take {
    fn begin(wanted: u32, apply: Apply) -> Begun {
        Ok(DiskTask::Take(Self { wanted, apply, attention: None }))
    }

    pub(super) fn advance(
        &mut self,
        answer: Option<Resume>,
        job: &Job<'_>,
        cx: &Context<'_>,
    ) -> Result<Step, Fault> {
        let mut bytes: SmallVec<[u8; 64]> = SmallVec::new();
        match answer {
            None if self.wanted == 0 => {}
            None if job.command.expected.data_out < self.wanted => {
                return Err(Sense::illegal(asc::PARAMETER_LIST_LENGTH_ERROR).into());
            }
            None => return Ok(Step::Fetch { len: self.wanted }),
            Some(Resume::Fetched(list)) => {
                bytes = smallvec![0; list.len()];
                list.copy_to(0, &mut bytes);
            }
            Some(Resume::Persisted(Ok(()))) => return Ok(self.end()),
            // It is in force, and not kept: what `unexpected` says of that is true.
            other => return Err(unexpected(other, &job.limits)),
        }
        let (attention, record) = (self.apply)(job, &bytes, cx)?;
        self.attention = attention;
        Ok(record.map_or_else(|| self.end(), Step::Persist))
    }

    fn end(&self) -> Step {
        Step::Finish(Outcome { attention: self.attention, ..Outcome::took(self.wanted.into()) })
    }
}

/// SET TIMESTAMP. A list of no length changes nothing.
pub(super) fn set_timestamp(job: &Job<'_>, _: &mut Context<'_>) -> Begun {
    const LIST_MAX: u32 = 12;
    Take::begin(be32(&job.cdb, 6).min(LIST_MAX), |job, list, cx| match list {
        [] => Ok((None, None)),
        list => Ok((Some(job.disk.rare().initiator_data.set_timestamp(list, cx.now)?), None)),
    })
}

pub(super) fn set_information(job: &Job<'_>, _: &mut Context<'_>) -> Begun {
    Take::begin(InitiatorData::information_length(&job.cdb)?, |job, list, _| {
        let initiator_data = &mut job.disk.rare().initiator_data;
        let attention = initiator_data.set_information(&job.cdb, list)?;
        Ok((Some(attention), Some(initiator_data.record())))
    })
}

pub(super) fn write_buffer(job: &Job<'_>, _: &mut Context<'_>) -> Begun {
    Take::begin(InitiatorData::buffer_length(&job.cdb)?, |job, bytes, _| {
        job.disk.rare().initiator_data.write_buffer(&job.cdb, job.command.nexus, bytes);
        Ok((None, None))
    })
}
