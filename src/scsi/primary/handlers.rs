// SPDX-License-Identifier: GPL-2.0-or-later
//! What begins the commands of SPC, for the tables of all device types.

use super::common_pages::test_exception;
use super::fault::Fault;
use super::initiator_data::{
    InitiatorData, receive_diagnostic as diagnostic_pages, send_diagnostic as check_page,
};
use super::inquiry::inquiry as inquiry_data;
use super::log::{Counter, LogData, LogPages, log_sense as log_data, page};
use super::select::ModeSelect;
use super::selftest::{DiagnosticRequest, SelfTest, without_test};
use super::shape::Shape;
use super::take_list::TakeList;
use super::unit::{DeviceType, Job};
use super::work::{CommandSet, TaskWork};
use crate::scsi::alua::PortGroupCommand;
use crate::scsi::reservations::ReservationCommand;
use crate::scsi::{Context, Outcome, Sense, asc, key};
use crate::time::Instant;
use crate::wire::scsi::{DataIn, be16, be32};

type Begun<D> = Result<TaskWork<D>, Fault>;

/// GOOD with parameter data, cut to its allocation length.
pub fn answered<D: CommandSet>((data, allocation): (DataIn, u32), cx: &Context<'_>) -> Begun<D> {
    Ok(TaskWork::Done(super::reply(&data, allocation as usize, cx)))
}

/// TEST UNIT READY: what its definition needs has been looked at.
pub fn test_unit_ready<D: CommandSet>(_: &Job<'_, D>, _: &mut Context<'_>) -> Begun<D> {
    Ok(TaskWork::Done(Outcome::good()))
}

/// REQUEST SENSE.
pub fn request_sense<D: CommandSet>(job: &Job<'_, D>, cx: &mut Context<'_>) -> Begun<D> {
    Ok(TaskWork::Done(super::request_sense(&job.cdb, condition(job.unit), cx)))
}

/// What REQUEST SENSE tells when nothing is wrong with a command: what goes on, and for how long.
fn condition<D: DeviceType>(unit: &D) -> Sense {
    if let Some(sense) = unit.occupied() {
        return sense;
    }
    let state = unit.primary().state();
    if state.self_tests.running() {
        let code = asc::LOGICAL_UNIT_NOT_READY_SELF_TEST_IN_PROGRESS;
        return Sense::new(key::NO_SENSE, code).at_progress(unit.primary().progress());
    }
    let unready = unit.primary().absence().or_else(|| unit.unready());
    unready.or_else(|| test_exception(&state.modes)).unwrap_or_default()
}

/// INQUIRY.
pub fn inquiry<D: CommandSet>(job: &Job<'_, D>, cx: &mut Context<'_>) -> Begun<D> {
    answered(inquiry_data(&job.cdb, &job.view(), cx)?, cx)
}

/// The commands of reservations.
pub fn reservation<D: CommandSet>(job: &Job<'_, D>, _: &mut Context<'_>) -> Begun<D> {
    Ok(TaskWork::Reservation(ReservationCommand::begin(job.command)?))
}

/// REPORT and SET TARGET PORT GROUPS.
pub fn port_groups<D: CommandSet>(job: &Job<'_, D>, _: &mut Context<'_>) -> Begun<D> {
    Ok(TaskWork::PortGroups(PortGroupCommand::begin(job.command)?))
}

/// MODE SENSE(6) and (10).
pub fn mode_sense<D: CommandSet>(job: &Job<'_, D>, cx: &mut Context<'_>) -> Begun<D> {
    let data = job.primary().state().modes.sense(&job.cdb, &job.view())?;
    answered(data, cx)
}

/// MODE SELECT(6) and (10).
pub fn mode_select<D: CommandSet>(job: &Job<'_, D>, _: &mut Context<'_>) -> Begun<D> {
    Ok(TaskWork::Select(ModeSelect::begin(job)?))
}

/// REPORT LUNS.
pub fn report_luns<D: CommandSet>(job: &Job<'_, D>, cx: &mut Context<'_>) -> Begun<D> {
    Ok(TaskWork::Done(super::report_luns(&job.cdb, cx)?))
}

/// REPORT SUPPORTED OPERATION CODES.
pub fn report_operation_codes<D: CommandSet>(job: &Job<'_, D>, cx: &mut Context<'_>) -> Begun<D> {
    answered(D::table().report(&job.cdb, job.shape.features())?, cx)
}

/// REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS.
pub fn report_task_management<D: CommandSet>(job: &Job<'_, D>, cx: &mut Context<'_>) -> Begun<D> {
    Ok(TaskWork::Done(super::report_task_management(&job.cdb, cx)))
}

/// RECEIVE DIAGNOSTIC RESULTS.
pub fn receive_diagnostic<D: CommandSet>(job: &Job<'_, D>, cx: &mut Context<'_>) -> Begun<D> {
    answered(diagnostic_pages(&job.cdb)?, cx)
}

/// SEND DIAGNOSTIC: a self-test, or one diagnostic page, of which there is the list of all; RECEIVE DIAGNOSTIC RESULTS
/// gives it in any case.
pub fn send_diagnostic<D: CommandSet>(job: &Job<'_, D>, cx: &mut Context<'_>) -> Begun<D> {
    const LIST_MAX: u32 = 512;
    const PF: u8 = 0x10;
    let len = u32::from(be16(&job.cdb, 3));
    if len == 0 {
        return Ok(match SelfTest::begin(job, cx.now)? {
            DiagnosticRequest::Nothing => TaskWork::Done(Outcome::good()),
            DiagnosticRequest::Test(test) => TaskWork::SelfTest(Box::new(test)),
        });
    }
    // A self-test has no parameters.
    if !without_test(&job.cdb) {
        return Err(Sense::invalid_field_in_cdb(3, None).into());
    }
    if job.cdb[1] & PF == 0 {
        return Err(Sense::invalid_field_in_cdb(1, Some(4)).into());
    }
    if len > LIST_MAX {
        return Err(Sense::invalid_field_in_cdb(3, None).into());
    }
    Ok(TaskWork::Take(TakeList::new(len, |_, list, _| {
        check_page(list)?;
        Ok((None, None))
    })))
}

/// REPORT TIMESTAMP.
pub fn report_timestamp<D: CommandSet>(job: &Job<'_, D>, cx: &mut Context<'_>) -> Begun<D> {
    let data = job.primary().state().initiator_data.report_timestamp(&job.cdb, cx.now);
    answered(data, cx)
}

/// REPORT IDENTIFYING INFORMATION.
pub fn report_information<D: CommandSet>(job: &Job<'_, D>, cx: &mut Context<'_>) -> Begun<D> {
    let data = job.primary().state().initiator_data.report_information(&job.cdb)?;
    answered(data, cx)
}

/// READ BUFFER.
pub fn read_buffer<D: CommandSet>(job: &Job<'_, D>, cx: &mut Context<'_>) -> Begun<D> {
    let data = job.primary().state().initiator_data.read_buffer(&job.cdb, job.command.nexus)?;
    answered(data, cx)
}

/// SET TIMESTAMP. A list of no length changes nothing.
pub fn set_timestamp<D: CommandSet>(job: &Job<'_, D>, _: &mut Context<'_>) -> Begun<D> {
    const LIST_MAX: u32 = 12;
    Ok(TaskWork::Take(TakeList::new(be32(&job.cdb, 6).min(LIST_MAX), |job, list, cx| match list {
        [] => Ok((None, None)),
        list => Ok((Some(job.primary().state().initiator_data.set_timestamp(list, cx.now)?), None)),
    })))
}

/// SET IDENTIFYING INFORMATION.
pub fn set_information<D: CommandSet>(job: &Job<'_, D>, _: &mut Context<'_>) -> Begun<D> {
    Ok(TaskWork::Take(TakeList::new(InitiatorData::information_length(&job.cdb)?, |job, list, _| {
        let initiator_data = &mut job.primary().state().initiator_data;
        let attention = initiator_data.set_information(&job.cdb, list)?;
        Ok((Some(attention), Some(initiator_data.record())))
    })))
}

/// WRITE BUFFER.
pub fn write_buffer<D: CommandSet>(job: &Job<'_, D>, _: &mut Context<'_>) -> Begun<D> {
    Ok(TaskWork::Take(TakeList::new(InitiatorData::buffer_length(&job.cdb)?, |job, bytes, _| {
        job.primary().state().initiator_data.write_buffer(&job.cdb, job.command.nexus, bytes);
        Ok((None, None))
    })))
}

/// PREVENT ALLOW MEDIUM REMOVAL.
pub fn prevent_allow<D: CommandSet>(job: &Job<'_, D>, _: &mut Context<'_>) -> Begun<D> {
    job.primary().prevent(job.command.nexus, job.cdb[4] & 1 != 0);
    Ok(TaskWork::Done(Outcome::good()))
}

/// What the log pages of a logical unit are made of.
struct UnitLogs<'a, D: DeviceType> {
    job: &'a Job<'a, D>,
    now: Instant,
}

impl<D: DeviceType> LogPages for UnitLogs<'_, D> {
    fn pages(&self) -> &'static [(u8, u8)] {
        self.job.unit.log_pages(&self.job.shape)
    }

    fn page(&self, (code, _): (u8, u8), default: bool, data: &mut LogData) {
        const UNKNOWN: u8 = 0xff;
        let unit = self.job.primary();
        let totals = match default {
            true => Default::default(),
            false => unit.all_counted().since(&unit.state().before),
        };
        if totals.write(code, &self.job.shape, data) {
            return;
        }
        match code {
            page::TEMPERATURE => {
                data.parameter(0, Counter::List, &[0, UNKNOWN]).parameter(1, Counter::List, &[0, UNKNOWN]);
            }
            page::SELF_TESTS => unit.state().self_tests.write(data),
            page::EXCEPTIONS => _ = data.parameter(0, Counter::List, &[0, 0, UNKNOWN, 0]),
            other => self.job.unit.log_page(other, default, &self.job.shape, self.now, data),
        }
    }
}

/// LOG SENSE.
pub fn log_sense<D: CommandSet>(job: &Job<'_, D>, cx: &mut Context<'_>) -> Begun<D> {
    answered(log_data(&job.cdb, &UnitLogs { job, now: cx.now })?, cx)
}

/// LOG SELECT (SPC-5 6.7): counters can be set to zero (PCR), and to nothing else.
pub fn log_select<D: CommandSet>(job: &Job<'_, D>, _: &mut Context<'_>) -> Begun<D> {
    const SP: u8 = 1;
    const PCR: u8 = 2;
    let (page, subpage) = (job.cdb[2] & 0x3f, job.cdb[3]);
    if job.cdb[1] & SP != 0 {
        return Err(Sense::invalid_field_in_cdb(1, Some(0)).into());
    }
    if be16(&job.cdb, 7) != 0 {
        return Err(Sense::invalid_field_in_cdb(7, None).into());
    }
    if (page, subpage) != (0, 0) && !job.unit.log_pages(&job.shape).contains(&(page, subpage)) {
        return Err(Sense::invalid_field_in_cdb(2, Some(5)).into());
    }
    let all = job.primary().all_counted();
    let counted = &mut job.primary().state().before;
    let before = *counted;
    if job.cdb[1] & PCR != 0 {
        counted.reset(page, &all);
    }
    let attention = (*counted != before).then_some(asc::LOG_PARAMETERS_CHANGED);
    Ok(TaskWork::Done(Outcome::good().telling_others(attention)))
}
