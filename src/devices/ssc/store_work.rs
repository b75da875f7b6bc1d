// SPDX-License-Identifier: GPL-2.0-or-later
//! What a task asks of the store beside payload: to mount the cartridge, to look something up, to write what the image
//! wants written. A task calls these functions again from the beginning when the store has answered, until they let it
//! pass.

use std::sync::atomic::Ordering;

use super::drive::{CartridgeState, Drive, Job, Tape};
use crate::formats::tape::{
    Cartridge, CartridgeUse, MountError, StoreRange, TapeImage, TapeMount, TapeStep, Unanswered, image_bytes,
};
use crate::io::{self, Done, ErrorKind, Landing, Op};
use crate::memory::Sg;
use crate::scsi::primary::{Fault, ReadMedium, unexpected};
use crate::scsi::{Context, Outcome, Resume, Sense, Step, asc, key};

/// Why a task does not go on now.
#[derive(Debug)]
pub(super) enum Pause {
    /// It waits for what [`StoreWork::wait_for`] was given.
    Waits,
    /// It ends with this.
    Fault(Fault),
    /// It ends with this, too: with what it has done.
    Ended(Box<Outcome>),
}

impl From<Fault> for Pause {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<Sense> for Pause {
    fn from(sense: Sense) -> Self {
        Self::Fault(sense.into())
    }
}

/// What the store was asked for.
#[derive(Debug)]
enum Question {
    /// A part of what the mount wants; what came before it.
    Mount(StoreRange, Vec<u8>),
    /// A block of the index.
    Lookup(StoreRange),
    /// A step of the image.
    Step,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct StoreWork {
    asked: Option<Question>,
    /// What the task waits for.
    next: Option<Step>,
}

impl StoreWork {
    /// The task waits for a step.
    pub(super) fn wait_for(&mut self, step: Step) -> Pause {
        self.next = Some(step);
        Pause::Waits
    }

    /// The step that it waits for.
    pub(super) fn take_step(&mut self) -> Option<Step> {
        self.next.take()
    }

    /// The task waits for bytes that only it looks at.
    fn wait_for_read(&mut self, at: u64, len: u32) -> Pause {
        self.wait_for(Step::Store(Op::Read { at, len, into: Landing::Own }))
    }

    /// Takes the answer to a question of this one's; any other comes back.
    pub(super) fn take(
        &mut self,
        drive: &mut Drive,
        answer: Option<Resume>,
        job: &Job<'_>,
    ) -> Result<Option<Resume>, Pause> {
        let Some(asked) = self.asked.take() else { return Ok(answer) };
        match (asked, answer) {
            (Question::Mount(range, mut bytes), Some(Resume::Stored(Done::Data(data)))) => {
                bytes.extend(data.to_vec());
                match bytes.len() < range.len as usize {
                    true => self.read_on(range, bytes, job),
                    false => take_mounted(drive, &bytes, job).map(|()| None),
                }
            }
            (Question::Lookup(range), Some(Resume::Stored(Done::Data(data)))) => {
                drive.image().supply(range, &data.to_vec());
                Ok(None)
            }
            (Question::Step, Some(Resume::Stored(Done::Finished))) => {
                drive.image().step_done(true);
                Ok(None)
            }
            (Question::Step, Some(Resume::Stored(Done::Failed(error)))) => {
                drive.image().step_done(false);
                drive.stay_inside();
                Err(not_written(error).into())
            }
            (_, answer) => Err(unexpected(answer, &job.shape).into()),
        }
    }

    /// Reads the next part of what the mount wants.
    fn read_on<T>(&mut self, range: StoreRange, bytes: Vec<u8>, job: &Job<'_>) -> Result<T, Pause> {
        let done = bytes.len() as u32;
        self.asked = Some(Question::Mount(range, bytes));
        Err(self.wait_for_read(range.at + u64::from(done), (range.len - done).min(job.shape.chunk)))
    }

    /// Mounts the cartridge, if that is yet to be done.
    pub(super) fn mount(&mut self, drive: &mut Drive, job: &Job<'_>) -> Result<(), Pause> {
        loop {
            match &mut drive.medium {
                CartridgeState::Mounted(_) => return Ok(()),
                CartridgeState::Unusable(sense) => return Err(sense.clone().into()),
                CartridgeState::Loaded => drive.medium = CartridgeState::of_bytes(job.shape.bytes),
                CartridgeState::Mounting(mount) => {
                    if let Some(range) = mount.wanted() {
                        return self.read_on(range, Vec::new(), job);
                    }
                    let mounted = std::mem::take(&mut drive.medium).finish();
                    drive.take_in(mounted, job.unit.options().personality);
                }
            }
        }
    }

    /// Does what the image wants done.
    pub(super) fn settle(&mut self, drive: &mut Drive, cx: &Context<'_>) -> Result<(), Pause> {
        let op = match drive.image().next_step() {
            None => return Ok(()),
            Some(TapeStep::Flush) => Op::Flush,
            Some(TapeStep::Write { at, bytes }) => {
                let data = Sg::copied(cx.arena, bytes).ok_or_else(no_memory)?;
                Op::Write { at: *at, data, fua: false }
            }
        };
        self.asked = Some(Question::Step);
        Err(self.wait_for(Step::Store(op)))
    }

    /// Asks the image, or the store first.
    pub(super) fn ask<T>(
        &mut self,
        drive: &mut Drive,
        ask: impl FnOnce(&mut TapeImage) -> Result<T, Unanswered>,
    ) -> Result<T, Pause> {
        match ask(drive.image()) {
            Ok(answer) => Ok(answer),
            Err(Unanswered::Read(range)) => {
                self.asked = Some(Question::Lookup(range));
                Err(self.wait_for_read(range.at, range.len))
            }
            Err(Unanswered::Damaged { .. }) => {
                Err(Sense::new(key::MEDIUM_ERROR, asc::UNRECOVERED_READ_ERROR).into())
            }
        }
    }
}

/// There is no memory for something without which what was done so far is not whole: BUSY would say that nothing was
/// done.
pub(super) fn no_memory() -> Pause {
    Sense::new(key::ABORTED_COMMAND, asc::INSUFFICIENT_RESOURCES).into()
}

/// What the initiator wrote before and what had its status is lost (a deferred error, SPC-5 4.4.6). A store that is
/// full is the end of the partition.
fn not_written(error: io::Error) -> Sense {
    match error.kind {
        ErrorKind::NoSpace => {
            Sense { eom: true, deferred: true, ..Sense::new(key::VOLUME_OVERFLOW, asc::END_OF_PARTITION) }
        }
        _ => Sense { deferred: true, ..Sense::new(key::MEDIUM_ERROR, asc::WRITE_ERROR) },
    }
}

/// The mount has what it wanted.
fn take_mounted(drive: &mut Drive, bytes: &[u8], job: &Job<'_>) -> Result<(), Pause> {
    if let Some(end) = drive.medium.supply(bytes, || blank(job.unit, job.shape.bytes)) {
        drive.take_in(end, job.unit.options().personality);
    }
    match &drive.medium {
        CartridgeState::Unusable(sense) => Err(sense.clone().into()),
        _ => Ok(()),
    }
}

/// What is to be known of a cartridge that is about to come, as far as that can be read.
pub(super) fn scan(tape: &Tape, bytes: u64, read: &mut ReadMedium<'_>) -> CartridgeState {
    let mut state = CartridgeState::of_bytes(bytes);
    while let CartridgeState::Mounting(mount) = &state {
        let Some(range) = mount.wanted() else { return state.finish() };
        // A task tries again, and ends with what is wrong.
        let Some(found) = read(range.at, range.len) else { return CartridgeState::Loaded };
        if let Some(end) = state.supply(&found, || blank(tape, bytes)) {
            return end;
        }
    }
    state
}

impl CartridgeState {
    /// The mount of a store begins.
    fn of_bytes(bytes: u64) -> Self {
        Self::Mounting(Box::new(TapeMount::new(bytes)))
    }

    /// The mount gets what it wanted. Returns what the cartridge is, if that is known by now.
    fn supply(&mut self, bytes: &[u8], blank: impl FnOnce() -> Option<TapeImage>) -> Option<Self> {
        let Self::Mounting(mount) = self else { return None };
        let code = match mount.supply(bytes) {
            Ok(()) => return None,
            // An empty store becomes a cartridge with the first thing that is written.
            Err(MountError::NoTape) if bytes.iter().all(|byte| *byte == 0) => match blank() {
                Some(image) => return Some(Self::Mounted(Box::new(image))),
                None => asc::UNKNOWN_FORMAT,
            },
            Err(MountError::NoTape | MountError::Version(_)) => asc::UNKNOWN_FORMAT,
            Err(_) => asc::MEDIUM_FORMAT_CORRUPTED,
        };
        Some(Self::Unusable(Sense::new(key::MEDIUM_ERROR, code)))
    }

    /// The mount wants nothing any more.
    fn finish(self) -> Self {
        let Self::Mounting(mount) = self else { return self };
        match mount.finish() {
            Some((image, _)) => Self::Mounted(Box::new(image)),
            None => Self::Unusable(Sense::new(key::MEDIUM_ERROR, asc::UNKNOWN_FORMAT)),
        }
    }
}

/// A new cartridge of as much as the store has room for.
fn blank(tape: &Tape, bytes: u64) -> Option<TapeImage> {
    let (mut fits, mut too_large) = (0, bytes);
    while too_large - fits > 1 {
        let capacity = fits + (too_large - fits) / 2;
        match image_bytes(capacity).is_some_and(|needed| needed <= bytes) {
            true => fits = capacity,
            false => too_large = capacity,
        }
    }
    let options = tape.options();
    let number = tape.blanks.fetch_add(1, Ordering::Relaxed);
    // Another one each time, of those that lay there before.
    let uuid = u128::from_be_bytes(options.identity.uuid().bytes());
    let cartridge = Cartridge {
        identity: (uuid as u64)
            ^ (uuid >> 64) as u64
            ^ options.epoch.rotate_left(20)
            ^ number.rotate_left(52),
        density: options.density,
        purpose: CartridgeUse::Data,
        write_protected: false,
        capacity: fits,
        barcode: String::new(),
    };
    if fits == 0 { None } else { TapeImage::create(cartridge, &[fits]) }
}
