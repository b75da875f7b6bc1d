// SPDX-License-Identifier: GPL-2.0-or-later
//! The device server: from a command to its row of the table, and from step to step.

use std::sync::Arc;

use crate::io::{Done, Geometry, Health, Op};
use crate::scsi::primary::{Definition, Designation, Features, Needs, VARIABLE_LENGTH};
use crate::scsi::{
    Cdb, Command, Context, Control, CopyTraits, DeviceServer, Interlock, NexusId, Outcome, Resume, Sense,
    Step, TaskId, alua, asc, key, reservations,
};

use super::fault::{Fault, unexpected, unexpected_after_flush};
use super::limits::Limits;
use super::logs::{Access, Counts};
use super::long::{relocated, short_form};
use super::pages::CurrentDisk;
use super::simple::Take;
use super::state::Parameters;
use super::table::{ATOMIC, FIXED, REMOVABLE, TABLE, THIN};
use super::{Config, Disk, atomic, copy, erase, mode, provisioning, removable, selftest, transfer};

/// One call into the device: the command and what it works on.
pub(super) struct Job<'a> {
    pub disk: &'a Disk,
    pub command: &'a Command,
    /// The CDB, of 32-byte commands in its short form.
    pub cdb: [u8; 16],
    pub limits: Limits,
    pub counts: &'a Counts,
}

impl<'a> Job<'a> {
    fn new(disk: &'a Disk, counts: &'a Counts, command: &'a Command, geometry: &Geometry) -> Self {
        let cdb = short_form(&command.cdb);
        Self { disk, command, cdb, limits: Limits::new(disk, geometry), counts }
    }

    /// The disk as INQUIRY and MODE SENSE see it.
    pub(super) fn view(&self) -> CurrentDisk<'a> {
        CurrentDisk { disk: self.disk, limits: self.limits }
    }

    /// Whether what is written must be stable before the status: FUA, or no write cache.
    pub(super) fn write_through(&self, fua: bool) -> bool {
        fua || !self.disk.parameters().has(Parameters::WRITE_CACHE)
    }

    /// What of [`super::table`]'s features this disk has.
    pub(super) fn features(&self) -> Features {
        let Config { atomic_writes, removable, .. } = self.disk.config();
        let either = if *removable { REMOVABLE } else { FIXED };
        let atomic = if *atomic_writes { ATOMIC.0 } else { 0 };
        Features(either.0 | atomic | if self.limits.thin { THIN.0 } else { 0 })
    }

    /// A fault of a 32-byte command points into that, not into the short form that was carried out.
    #[cold]
    fn in_own_words(&self, fault: Fault) -> Fault {
        match fault {
            Fault::Check(sense) if self.command.cdb.opcode() == VARIABLE_LENGTH => {
                Fault::Check(relocated(sense))
            }
            fault => fault,
        }
    }

    /// Why the command cannot be carried out now, if the medium is not as usual.
    #[cold]
    fn refusal(&self, definition: &Definition) -> Option<Sense> {
        let erasing = self.disk.parameters().has(Parameters::ERASING);
        match definition.needs {
            Needs::Nothing => None,
            Needs::NotFormatting => erasing.then(|| self.disk.busy_erasing()),
            Needs::Medium => self.disk.unready(),
        }
    }
}

/// What a task still has to do.
#[derive(Debug, Default)]
pub(super) enum DiskTask {
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
    Reservation(reservations::ReservationCommand),
    PortGroups(alua::PortGroupCommand),
    Take(Take),
    Eject,
    WriteAtomic(atomic::WriteAtomic),
    Erase(Box<erase::Erase>),
    SelfTest(Box<selftest::SelfTest>),
    Copy(Box<copy::Copy>),
}

impl DiskTask {
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
                other => Err(unexpected_after_flush(other, &job.limits)),
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
            Self::Take(work) => work.advance(answer, job, cx),
            Self::Eject => removable::eject(answer, job),
            Self::WriteAtomic(work) => work.advance(answer, job),
            Self::Erase(work) => work.advance(answer, job, cx),
            Self::SelfTest(work) => work.advance(answer, job),
            Self::Copy(work) => work.advance(answer, job, cx),
        }
    }

    /// How many bytes went to the initiator before the last step.
    fn sent(&self) -> u64 {
        if let Self::Read(work) = self { work.sent() } else { 0 }
    }

    /// What kind of access its errors are counted with.
    fn access(&self) -> Option<Access> {
        match self {
            Self::Read(_) => Some(Access::Read),
            Self::Verify(_) => Some(Access::Verify),
            Self::Write(_)
            | Self::OrWrite(_)
            | Self::CompareAndWrite(_)
            | Self::WriteAtomic(_)
            | Self::WriteSame(_)
            | Self::Unmap(_)
            | Self::Erase(_) => Some(Access::Write),
            _ => None,
        }
    }
}

/// A disk's device server on one core.
#[derive(Debug)]
pub struct Server {
    disk: Arc<Disk>,
    counts: Arc<Counts>,
    /// By [`TaskId`], which is dense: grows to the most tasks there ever were at once.
    tasks: Vec<DiskTask>,
}

impl Server {
    pub(super) fn new(disk: Arc<Disk>, counts: Arc<Counts>) -> Self {
        Self { disk, counts, tasks: Vec::new() }
    }

    #[cfg(test)]
    pub(super) fn disk(&self) -> &Arc<Disk> {
        &self.disk
    }
}

fn slot(tasks: &mut Vec<DiskTask>, task: TaskId) -> &mut DiskTask {
    let index = task.0 as usize;
    if tasks.len() <= index {
        tasks.resize_with(index + 1, DiskTask::default);
    }
    &mut tasks[index]
}

/// Finds the command in the table and begins it.
fn begin(job: &Job<'_>, cx: &mut Context<'_>) -> Result<DiskTask, Fault> {
    let row = TABLE.find(&job.command.cdb, job.features())?;
    let parameters = job.disk.parameters();
    if parameters.has(Parameters::OF_MEDIUM)
        && let Some(sense) = job.refusal(&row.definition)
    {
        return Err(sense.into());
    }
    let protected = job.limits.read_only || parameters.has(Parameters::WRITE_PROTECT);
    if row.definition.writes && protected {
        return Err(Sense::new(key::DATA_PROTECT, asc::WRITE_PROTECTED).into());
    }
    (row.run)(job, cx).map_err(|fault| job.in_own_words(fault))
}

/// Ends a task with a fault.
#[cold]
fn finish(fault: Fault, work: &DiskTask, job: &Job<'_>) -> Step {
    if let Fault::Check(sense) = &fault {
        job.counts.error(work.access(), sense);
    }
    Step::Finish(Outcome { data_in: work.sent(), ..fault.into() })
}

impl DeviceServer for Server {
    fn start(&mut self, task: TaskId, command: &Command, cx: &mut Context<'_>) -> Step {
        let job = Job::new(&self.disk, &self.counts, command, &cx.geometry);
        let work = slot(&mut self.tasks, task);
        *work = match begin(&job, cx) {
            Ok(work) => work,
            Err(fault) => return finish(fault, &DiskTask::Idle, &job),
        };
        let step = work.advance(None, &job, cx).unwrap_or_else(|fault| finish(fault, work, &job));
        if let Step::Finish(_) = step {
            *work = DiskTask::Idle;
        }
        step
    }

    fn resume(&mut self, task: TaskId, command: &Command, answer: Resume, cx: &mut Context<'_>) -> Step {
        let job = Job::new(&self.disk, &self.counts, command, &cx.geometry);
        let work = slot(&mut self.tasks, task);
        // What began before the medium is formatted or sanitized does not go on, but for what is not about it.
        let overtaken = job.disk.parameters().has(Parameters::ERASING)
            && !matches!(work, DiskTask::Erase(_) | DiskTask::Select(_));
        let step = match overtaken {
            true => Err(job.disk.busy_erasing().into()),
            false => work.advance(Some(answer), &job, cx),
        };
        let step = step.unwrap_or_else(|fault| finish(fault, work, &job));
        if let Step::Finish(outcome) = &step {
            if let DiskTask::Copy(work) = work {
                work.ended(&self.disk, outcome);
            }
            *work = DiskTask::Idle;
        }
        step
    }

    fn abort(&mut self, task: TaskId) {
        match std::mem::take(slot(&mut self.tasks, task)) {
            DiskTask::Erase(work) => work.aborted(&self.disk),
            DiskTask::SelfTest(_) => selftest::SelfTest::aborted(&self.disk),
            DiskTask::Copy(work) => work.aborted(&self.disk),
            DiskTask::Select(work) => work.aborted(&self.disk),
            _ => {}
        }
    }

    fn goes_on(&self, task: TaskId) -> bool {
        matches!(self.tasks.get(task.0 as usize), Some(DiskTask::Erase(work)) if work.goes_on())
    }

    fn nexus_lost(&mut self, nexus: NexusId) {
        removable::allow(&self.disk, nexus);
        self.disk.rare().copies.forget_nexus(nexus);
    }

    fn inspected(&mut self, health: &Health) -> Vec<u16> {
        self.disk.inspected(health)
    }

    fn copies_as(&self, name: &Designation) -> Option<CopyTraits> {
        self.disk.copies_as(name)
    }

    fn admits(&self, op: &Op, geometry: &Geometry) -> bool {
        self.disk.admits(op, &Limits::new(&self.disk, geometry))
    }

    fn definition(&self, cdb: &Cdb) -> Option<&'static Definition> {
        TABLE.definition(cdb)
    }

    fn reset(&mut self) {
        self.disk.reset();
    }

    fn control(&self) -> Control {
        let parameters = self.disk.parameters();
        Control {
            descriptor_sense: parameters.has(Parameters::DESCRIPTOR_SENSE),
            abort_others: parameters.has(Parameters::ABORT_OTHERS),
            aborted_status: parameters.has(Parameters::ABORTED_STATUS),
            interlock: match parameters.has(Parameters::INTERLOCK) {
                false => Interlock::Cleared,
                true if parameters.has(Parameters::INTERLOCK_MAKES) => Interlock::KeptAndMade,
                true => Interlock::Kept,
            },
        }
    }
}
