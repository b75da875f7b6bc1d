// SPDX-License-Identifier: GPL-2.0-or-later
//! The tasks of a tape drive's own commands.

use super::drive::{Drive, Job, Tape};
use super::medium::{FormatMedium, LoadUnload, TapeErase};
use super::motion::Motion;
use super::position::Position;
use super::read::TapeRead;
use super::store_work::{Pause, StoreWork};
use super::write::{Filemarks, TapeWrite};
use crate::scsi::primary::{DeviceTask, Fault, MediumAccess, TaskWork, unexpected};
use crate::scsi::{Context, Outcome, Resume, Step};

/// What such a task is about.
#[derive(Debug)]
pub(super) enum TapeCommand {
    /// TEST UNIT READY.
    Ready,
    Read(TapeRead),
    Write(TapeWrite),
    Filemarks(Filemarks),
    Motion(Motion),
    Position(Position),
    Load(LoadUnload),
    Erase(TapeErase),
    Format(FormatMedium),
}

/// See the module.
#[derive(Debug)]
pub struct TapeTask {
    store: StoreWork,
    command: TapeCommand,
}

/// A task that begins.
pub(super) fn begun(command: TapeCommand) -> Result<TaskWork<Tape>, Fault> {
    Ok(TaskWork::Own(TapeTask { store: StoreWork::default(), command }))
}

impl TapeTask {
    fn run(
        &mut self,
        drive: &mut Drive,
        answer: Option<Resume>,
        job: &Job<'_>,
        cx: &mut Context<'_>,
    ) -> Result<Outcome, Pause> {
        let answer = self.store.take(drive, answer, job)?;
        self.store.mount(drive, job)?;
        if answer.is_none() {
            // What an earlier task left, or this one wants.
            self.store.settle(drive, cx)?;
        }
        let store = &mut self.store;
        match &mut self.command {
            TapeCommand::Ready => Ok(Outcome::good()),
            TapeCommand::Read(read) => read.advance(store, drive, answer, job, cx),
            TapeCommand::Write(write) => write.advance(store, drive, answer, job, cx),
            TapeCommand::Filemarks(filemarks) => filemarks.advance(store, drive, cx),
            TapeCommand::Motion(motion) => motion.advance(store, drive, cx),
            TapeCommand::Position(position) => position.advance(store, drive, job, cx),
            TapeCommand::Load(load) => load.advance(store, drive, job, cx),
            TapeCommand::Erase(erase) => erase.advance(store, drive, cx),
            TapeCommand::Format(format) => format.advance(store, drive, job, cx),
        }
    }
}

impl DeviceTask<Tape> for TapeTask {
    fn advance(
        &mut self,
        answer: Option<Resume>,
        job: &Job<'_>,
        cx: &mut Context<'_>,
    ) -> Result<Step, Fault> {
        match self.run(&mut job.unit.drive(), answer, job, cx) {
            Ok(outcome) => Ok(Step::Finish(outcome)),
            Err(Pause::Ended(outcome)) => Ok(Step::Finish(*outcome)),
            Err(Pause::Waits) => self.store.take_step().ok_or_else(|| unexpected(None, &job.shape)),
            Err(Pause::Fault(fault)) => Err(fault),
        }
    }

    fn sent(&self) -> u64 {
        if let TapeCommand::Read(read) = &self.command { read.sent() } else { 0 }
    }

    fn access(&self) -> Option<MediumAccess> {
        match self.command {
            TapeCommand::Read(_) => Some(MediumAccess::Read),
            TapeCommand::Write(_) | TapeCommand::Filemarks(_) => Some(MediumAccess::Write),
            _ => None,
        }
    }
}
