// SPDX-License-Identifier: GPL-2.0-or-later
//! What a task of a logical unit still has to do: a command of SPC, or one of its device type's own.

use std::fmt::Debug;

use super::counts::MediumAccess;
use super::fault::{Fault, unexpected, unexpected_after_flush};
use super::presence::MediumRelease;
use super::select::ModeSelect;
use super::selftest::SelfTest;
use super::table::Table;
use super::take_list::TakeList;
use super::unit::{DeviceType, Job};
use crate::io::{Done, Op};
use crate::scsi::alua::PortGroupCommand;
use crate::scsi::reservations::ReservationCommand;
use crate::scsi::{Cdb, Context, Outcome, Resume, Sense, Step};

/// Begins a command whose CDB has passed the checks of its definition.
pub type Handler<D> = fn(&Job<'_, D>, &mut Context<'_>) -> Result<TaskWork<D>, Fault>;

/// The commands of a device type.
pub trait CommandSet: DeviceType {
    /// A task of one of its own commands.
    type Task: DeviceTask<Self>;

    /// All commands, those of SPC included.
    fn table() -> &'static Table<Handler<Self>>;

    /// The CDB as handlers read it: 16 bytes at most.
    fn short_form(cdb: &Cdb) -> [u8; 16] {
        super::head(cdb)
    }

    /// Its deadline has passed: what it does by itself, if there is something to do.
    fn wake(_unit: &Self, _cx: &mut Context<'_>) -> Option<TaskWork<Self>> {
        None
    }

    /// The medium is to be let go, by `force` even if what was written cannot be brought to it. Ends with
    /// [`Step::ReleaseMedium`].
    fn release(force: bool) -> TaskWork<Self> {
        TaskWork::Release(MediumRelease { force })
    }

    /// A fault of a command whose short form is another one points into the CDB as the initiator sent it.
    fn in_own_words(_cdb: &Cdb, sense: Sense) -> Sense {
        sense
    }
}

/// What a task of a device type's own commands is to the server.
pub trait DeviceTask<D: DeviceType>: Debug {
    /// Does what can be done now that the last step is answered; there is no answer before the first.
    fn advance(
        &mut self,
        answer: Option<Resume>,
        job: &Job<'_, D>,
        cx: &mut Context<'_>,
    ) -> Result<Step, Fault>;

    /// How many bytes went to the initiator before the last step.
    fn sent(&self) -> u64 {
        0
    }

    /// What kind of access its errors are counted with.
    fn access(&self) -> Option<MediumAccess> {
        None
    }

    /// It is why the unit is [occupied](DeviceType::occupied), and goes on.
    fn occupies(&self) -> bool {
        false
    }

    /// It goes on without its nexus when it is aborted.
    fn goes_on(&self) -> bool {
        false
    }

    /// It has ended.
    fn ended(&self, _unit: &D, _outcome: &Outcome) {}

    /// It is aborted.
    fn aborted(&self, _unit: &D) {}
}

/// See the module.
#[derive(Debug, Default)]
pub enum TaskWork<D: CommandSet> {
    /// Nothing: the task is over, or there is none.
    #[default]
    Idle,
    /// To say how it ended.
    Done(Outcome),
    /// To make completed writes stable.
    Flush,
    /// MODE SELECT.
    Select(ModeSelect),
    /// A command of [`crate::scsi::reservations`].
    Reservation(ReservationCommand),
    /// A command of [`crate::scsi::alua`].
    PortGroups(PortGroupCommand),
    /// A command that is all about a short parameter list.
    Take(TakeList<D>),
    /// To let the medium go.
    Release(MediumRelease),
    /// A self-test.
    SelfTest(Box<SelfTest>),
    /// A command of the device type.
    Own(D::Task),
}

impl<D: CommandSet> TaskWork<D> {
    // Always: every command comes by twice or more.
    #[inline(always)]
    pub(super) fn advance(
        &mut self,
        answer: Option<Resume>,
        job: &Job<'_, D>,
        cx: &mut Context<'_>,
    ) -> Result<Step, Fault> {
        match self {
            Self::Own(task) => task.advance(answer, job, cx),
            Self::Done(_) => match std::mem::take(self) {
                Self::Done(outcome) => Ok(Step::Finish(outcome)),
                other => unreachable!("{other:?} was Done"),
            },
            Self::Idle => Err(unexpected(answer, &job.shape)),
            Self::Flush => match answer {
                None => Ok(Step::Store(Op::Flush)),
                Some(Resume::Stored(Done::Finished)) => Ok(Step::Finish(Outcome::good())),
                other => Err(unexpected_after_flush(other, &job.shape)),
            },
            Self::Select(work) => work.advance(answer, job),
            Self::Reservation(work) => Ok(work.advance(answer, job.command, cx)),
            Self::PortGroups(work) => Ok(work.advance(answer, job.command, cx)),
            Self::Take(work) => work.advance(answer, job, cx),
            Self::Release(work) => Ok(work.advance(answer)),
            Self::SelfTest(work) => work.advance(answer, job),
        }
    }

    pub(super) fn sent(&self) -> u64 {
        if let Self::Own(task) = self { task.sent() } else { 0 }
    }

    pub(super) fn access(&self) -> Option<MediumAccess> {
        if let Self::Own(task) = self { task.access() } else { None }
    }

    /// Whether it goes on while a long operation on the whole medium has the unit for itself.
    pub(super) fn stays(&self) -> bool {
        match self {
            Self::Own(task) => task.occupies(),
            Self::Select(_) => true,
            _ => false,
        }
    }

    pub(super) fn aborted(&self, unit: &D) {
        match self {
            Self::Own(task) => task.aborted(unit),
            Self::Select(work) => work.aborted(unit.primary()),
            Self::SelfTest(_) => SelfTest::aborted(unit.primary()),
            _ => {}
        }
    }
}
