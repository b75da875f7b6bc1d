// SPDX-License-Identifier: GPL-2.0-or-later
//! The device server: from a command to its row of the table, and from step to step.

use std::sync::Arc;

use crate::io::{Done, Geometry, Op};
use crate::scsi::primary::{Definition, head};
use crate::scsi::{
    Cdb, Command, Context, DeviceServer, Outcome, Resume, Sense, Step, TaskId, alua, asc, key, reservations,
};

use super::fault::{Fault, unexpected};
use super::limits::Limits;
use super::pages::View;
use super::table::TABLE;
use super::{Disk, Parameters, atomic, mode, provisioning, transfer};

/// One call into the device: the command and what it works on.
pub(super) struct Job<'a> {
    pub disk: &'a Disk,
    pub command: &'a Command,
    pub cdb: [u8; 16],
    pub limits: Limits,
}

impl<'a> Job<'a> {
    fn new(disk: &'a Disk, command: &'a Command, geometry: &Geometry) -> Self {
        Self { disk, command, cdb: head(&command.cdb), limits: Limits::new(disk, geometry) }
    }

    /// The disk as INQUIRY and MODE SENSE see it.
    pub(super) fn view(&self) -> View<'a> {
        View { disk: self.disk, limits: self.limits }
    }

    /// Whether what is written must be stable before the status: FUA, or no write cache.
    pub(super) fn write_through(&self, fua: bool) -> bool {
        fua || !self.disk.parameters().has(Parameters::WRITE_CACHE)
    }

    /// Whether this disk has the command: thin disks have more.
    pub(super) fn offers(&self, definition: &Definition) -> bool {
        self.limits.thin || !definition.thin
    }
}

/// What a task still has to do.
#[derive(Debug, Default)]
pub(super) enum Work {
    /// Nothing: the task is over, or there is none.
    #[default]
    Idle,
    /// To say how it ended.
    Done(Outcome),
    /// To make completed writes stable.
    Flush,
    Read(transfer::Read),
    Write(transfer::Write),
    Verify(transfer::Verify),
    OrWrite(atomic::OrWrite),
    CompareAndWrite(atomic::CompareAndWrite),
    Unmap(provisioning::Unmap),
    WriteSame(provisioning::WriteSame),
    LbaStatus(provisioning::LbaStatus),
    Select(mode::Select),
    Reservation(reservations::Work),
    PortGroups(alua::Work),
}

impl Work {
    /// Does what can be done now that the last step is answered; there is no answer before the first.
    fn advance(
        &mut self,
        answer: Option<Resume>,
        job: &Job<'_>,
        cx: &mut Context<'_>,
    ) -> Result<Step, Fault> {
        match self {
            Self::Done(_) => match std::mem::take(self) {
                Self::Done(outcome) => Ok(Step::Finish(outcome)),
                other => unreachable!("{other:?} was Done"),
            },
            Self::Idle => Err(unexpected(answer, &job.limits)),
            Self::Flush => match answer {
                None => Ok(Step::Store(Op::Flush)),
                Some(Resume::Stored(Done::Finished)) => Ok(Step::Finish(Outcome::good())),
                other => Err(unexpected(other, &job.limits)),
            },
            Self::Read(work) => work.advance(answer, job, cx),
            Self::Write(work) => work.advance(answer, job),
            Self::Verify(work) => work.advance(answer, job),
            Self::OrWrite(work) => work.advance(answer, job, cx),
            Self::CompareAndWrite(work) => work.advance(answer, job),
            Self::Unmap(work) => work.advance(answer, job),
            Self::WriteSame(work) => work.advance(answer, job, cx),
            Self::LbaStatus(work) => work.advance(answer, job, cx),
            Self::Select(work) => work.advance(answer, job),
            Self::Reservation(work) => Ok(work.advance(answer, job.command, cx)),
            Self::PortGroups(work) => Ok(work.advance(answer, job.command, cx)),
        }
    }

    /// How many bytes went to the initiator before the last step.
    fn sent(&self) -> u64 {
        if let Self::Read(work) = self { work.sent() } else { 0 }
    }
}

/// A disk's device server on one core.
#[derive(Debug)]
pub struct Server {
    disk: Arc<Disk>,
    /// By [`TaskId`], which is dense: grows to the most tasks there ever were at once.
    tasks: Vec<Work>,
}

impl Server {
    pub(super) fn new(disk: Arc<Disk>) -> Self {
        Self { disk, tasks: Vec::new() }
    }
}

fn slot(tasks: &mut Vec<Work>, task: TaskId) -> &mut Work {
    let index = task.0 as usize;
    if tasks.len() <= index {
        tasks.resize_with(index + 1, Work::default);
    }
    &mut tasks[index]
}

/// Finds the command in the table and begins it.
fn begin(job: &Job<'_>, cx: &mut Context<'_>) -> Result<Work, Fault> {
    let row = TABLE.find(&job.command.cdb, |d| job.offers(d))?;
    let protected = job.limits.read_only || job.disk.parameters().has(Parameters::WRITE_PROTECT);
    if row.definition.writes && protected {
        return Err(Sense::new(key::DATA_PROTECT, asc::WRITE_PROTECTED).into());
    }
    (row.run)(job, cx)
}

fn finish(fault: Fault, sent: u64) -> Step {
    Step::Finish(Outcome { data_in: sent, ..fault.into() })
}

impl DeviceServer for Server {
    fn start(&mut self, task: TaskId, command: &Command, cx: &mut Context<'_>) -> Step {
        let job = Job::new(&self.disk, command, &cx.geometry);
        let mut work = match begin(&job, cx) {
            Ok(work) => work,
            Err(fault) => return finish(fault, 0),
        };
        match work.advance(None, &job, cx) {
            Ok(Step::Finish(outcome)) => Step::Finish(outcome),
            Ok(step) => {
                *slot(&mut self.tasks, task) = work;
                step
            }
            Err(fault) => finish(fault, 0),
        }
    }

    fn resume(&mut self, task: TaskId, command: &Command, answer: Resume, cx: &mut Context<'_>) -> Step {
        let job = Job::new(&self.disk, command, &cx.geometry);
        let work = slot(&mut self.tasks, task);
        let step = match work.advance(Some(answer), &job, cx) {
            Ok(step) => step,
            Err(fault) => finish(fault, work.sent()),
        };
        if matches!(step, Step::Finish(_)) {
            *work = Work::Idle;
        }
        step
    }

    fn abort(&mut self, task: TaskId) {
        *slot(&mut self.tasks, task) = Work::Idle;
    }

    fn definition(&self, cdb: &Cdb) -> Option<&'static Definition> {
        TABLE.definition(cdb)
    }

    fn reset(&mut self) {
        self.disk.reset();
    }

    fn descriptor_sense(&self) -> bool {
        self.disk.parameters().has(Parameters::DESCRIPTOR_SENSE)
    }
}
