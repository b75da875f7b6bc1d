// SPDX-License-Identifier: GPL-2.0-or-later
//! START STOP UNIT (SBC-3 5.25).

use crate::io::{Done, Op};
use crate::scsi::primary::{DeviceType, Fault, unexpected_after_flush};
use crate::scsi::{Context, Outcome, Resume, Sense, Step, asc, key};

use super::disk::{Disk, Job};
use super::flags::EJECTED;

const LOEJ: u8 = 0x02;
const START: u8 = 0x01;

/// START STOP UNIT under way. There is nothing to spin and no power condition to enter, so a disk with its medium stays
/// ready; what counts is that stopping it brings the cache to the medium. The medium of a removable disk goes and
/// comes.
#[derive(Debug)]
pub enum StartStop {
    /// Nothing is to be done; the attention is for the other initiators.
    Nothing(Option<u16>),
    /// What was written goes to the medium.
    Stop,
    /// The same, and the medium goes out.
    Eject,
}

impl StartStop {
    pub(super) fn begin(job: &Job<'_>, _: &mut Context<'_>) -> Result<Self, Fault> {
        const NO_FLUSH: u8 = 0x04;
        let flags = job.cdb[4];
        if flags >> 4 != 0 {
            // POWER CONDITION: the other bits mean nothing then.
            return Ok(Self::Nothing(None));
        }
        let out = job.primary().flags().has(EJECTED);
        let prevented = !job.primary().state().prevented.is_empty();
        let locked = Sense::new(key::ILLEGAL_REQUEST, asc::MEDIUM_REMOVAL_PREVENTED).into();
        Ok(match (flags & LOEJ != 0, flags & START != 0) {
            (true, false) if prevented => return Err(locked),
            (true, false) if out => Self::Nothing(None),
            (true, false) => Self::Eject,
            // The drive is locked: nothing goes in, either.
            (true, true) if out && prevented => return Err(locked),
            (true, true) => Self::Nothing(load(job.unit)),
            (false, _) if out => return Err(Sense::new(key::NOT_READY, asc::MEDIUM_NOT_PRESENT).into()),
            (false, false) if flags & NO_FLUSH == 0 => Self::Stop,
            (false, start) => {
                job.unit.rare().starts += u32::from(start);
                Self::Nothing(None)
            }
        })
    }

    pub(super) fn advance(&self, answer: Option<Resume>, job: &Job<'_>) -> Result<Step, Fault> {
        match (self, answer) {
            (Self::Nothing(attention), None) => Ok(Step::Finish(Outcome::good().telling_others(*attention))),
            (_, None) => Ok(Step::Store(Op::Flush)),
            (_, Some(Resume::Stored(Done::Finished))) => {
                if let Self::Eject = self {
                    job.primary().change_flags(|flags| flags.set(EJECTED, true));
                }
                Ok(Step::Finish(Outcome::good()))
            }
            (_, other) => Err(unexpected_after_flush(other, &job.shape)),
        }
    }
}

/// Puts the medium in. Returns the attention for the other initiators, if it was out.
fn load(disk: &Disk) -> Option<u16> {
    let (old, _) = disk.primary().change_flags(|flags| flags.set(EJECTED, false));
    disk.rare().starts += 1;
    old.has(EJECTED).then_some(asc::NOT_READY_TO_READY_CHANGE_MEDIUM_MAY_HAVE_CHANGED)
}
