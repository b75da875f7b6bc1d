// SPDX-License-Identifier: GPL-2.0-or-later
//! The tasks of a tape drive's own commands.

use super::drive::{Drive, Job, Tape};
use super::medium::{AllowOverwrite, CartridgeRemoval, FormatMedium, LoadUnload, TapeErase};
use super::memory::{self, WriteAttribute};
use super::motion::Motion;
use super::position::{self, Position};
use super::read::TapeRead;
use super::security;
use super::store_work::{Pause, StoreWork};
use super::write::{Filemarks, TapeWrite};
use crate::scsi::primary::{DeviceTask, Fault, MediumAccess, TaskWork, unexpected};
use crate::scsi::{Context, Outcome, Resume, Sense, Step, asc, key};
use crate::wire::scsi::be64;

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
    Allow(AllowOverwrite),
    /// READ MEDIA SERIAL NUMBER.
    Serial,
    /// READ ATTRIBUTE.
    ReadAttribute,
    WriteAttribute(WriteAttribute),
    /// The cartridge is taken out, which is no command.
    Removal(CartridgeRemoval),
    /// SECURITY PROTOCOL IN for the next block.
    NextBlock,
}

/// Where a command of 16 bytes has the head begin: object and partition.
#[derive(Clone, Copy, Debug)]
struct ObjectPlace {
    partition: u8,
    lba: u64,
}

/// See the module.
#[derive(Debug)]
pub struct TapeTask {
    store: StoreWork,
    /// Where the head goes first.
    place: Option<ObjectPlace>,
    command: TapeCommand,
}

/// A task that begins.
pub(super) fn begun(command: TapeCommand) -> Result<TaskWork<Tape>, Fault> {
    Ok(TaskWork::Own(task(command)))
}

/// The same, without an initiator.
pub(super) fn task(command: TapeCommand) -> TapeTask {
    TapeTask { store: StoreWork::default(), place: None, command }
}

/// The same at the object that the CDB names.
pub(super) fn begun_at(job: &Job<'_>, command: TapeCommand) -> Result<TaskWork<Tape>, Fault> {
    let place = Some(ObjectPlace { partition: job.cdb[3], lba: be64(&job.cdb, 4) });
    Ok(TaskWork::Own(TapeTask { store: StoreWork::default(), place, command }))
}

/// Brings the head there.
fn go_to(drive: &mut Drive, place: ObjectPlace) -> Result<(), Sense> {
    const PARTITION_AT: u16 = 3;
    let ObjectPlace { partition, lba } = place;
    let partition = usize::from(partition);
    if partition >= drive.image().partitions().len() {
        return Err(Sense::invalid_field_in_cdb(PARTITION_AT, None));
    }
    drive.placed = true;
    if (drive.partition, drive.lba) != (partition, lba) {
        let end = drive.image().end(partition).lba;
        drive.go_to(partition, lba.min(end));
        if lba > end {
            let eom = drive.past_warning();
            return Err(Sense { eom, ..Sense::new(key::BLANK_CHECK, asc::END_OF_DATA_DETECTED) });
        }
    }
    Ok(())
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
        if let TapeCommand::Removal(removal) = &mut self.command {
            return removal.advance(&mut self.store, drive, job, cx);
        }
        self.store.mount(drive, job)?;
        if answer.is_none() {
            // What an earlier task left, or this one wants.
            self.store.settle(drive, cx)?;
        }
        if let Some(place) = self.place.take() {
            go_to(drive, place)?;
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
            TapeCommand::Allow(allow) => allow.advance(drive),
            TapeCommand::ReadAttribute => Ok(memory::read_attribute(drive, job, cx)?),
            TapeCommand::WriteAttribute(write) => write.advance(store, drive, answer, job, cx),
            TapeCommand::NextBlock => security::next_block(store, drive, answer, job, cx),
            TapeCommand::Serial => Ok(position::read_serial(drive, job, cx)),
            TapeCommand::Removal(_) => unreachable!("it mounts nothing"),
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
        let drive = &mut *job.unit.drive();
        let ended = self.run(drive, answer, job, cx);
        if let TapeCommand::Removal(removal) = &self.command
            && !matches!(ended, Err(Pause::Waits))
        {
            return Ok(Step::ReleaseMedium { stays: ended.is_err() && !removal.force });
        }
        let sense = match &ended {
            Ok(outcome) => outcome.sense.as_deref(),
            Err(Pause::Ended(outcome)) => outcome.sense.as_deref(),
            Err(Pause::Fault(Fault::Check(sense))) => Some(sense),
            Err(_) => None,
        };
        if let Some(sense) = sense {
            drive.failed(sense, self.access());
        }
        match ended {
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
        match &self.command {
            TapeCommand::Read(read) => Some(read.access()),
            TapeCommand::Write(_) | TapeCommand::Filemarks(_) => Some(MediumAccess::Write),
            _ => None,
        }
    }
}
