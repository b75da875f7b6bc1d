// SPDX-License-Identifier: GPL-2.0-or-later
//! START STOP UNIT and PREVENT ALLOW MEDIUM REMOVAL (SBC-3 5.25 and 5.15).

use crate::io::{Done, Op};
use crate::scsi::{Context, NexusId, Outcome, Resume, Sense, Step, asc, key};

use super::Disk;
use super::fault::{Fault, unexpected_after_flush};
use super::server::{DiskTask, Job};
use super::state::Parameters;

const LOEJ: u8 = 0x02;
const START: u8 = 0x01;

/// START STOP UNIT. There is nothing to spin and no power condition to enter, so a disk with its medium stays ready; what
/// counts is that stopping it brings the cache to the medium. The medium of a removable disk goes and comes.
pub(super) fn start_stop_unit(job: &Job<'_>, _: &mut Context<'_>) -> Result<DiskTask, Fault> {
    const NO_FLUSH: u8 = 0x04;
    let flags = job.cdb[4];
    if flags >> 4 != 0 {
        // POWER CONDITION: the other bits mean nothing then.
        return Ok(DiskTask::Done(Outcome::good()));
    }
    let out = job.disk.parameters().has(Parameters::EJECTED);
    let prevented = !job.disk.rare().prevented.is_empty();
    let locked = Sense::new(key::ILLEGAL_REQUEST, asc::MEDIUM_REMOVAL_PREVENTED).into();
    Ok(match (flags & LOEJ != 0, flags & START != 0) {
        (true, false) if prevented => return Err(locked),
        (true, false) if out => DiskTask::Done(Outcome::good()),
        (true, false) => DiskTask::Eject,
        // The drive is locked: nothing goes in, either.
        (true, true) if out && prevented => return Err(locked),
        (true, true) => DiskTask::Done(Outcome { attention: load(job.disk), ..Outcome::good() }),
        (false, _) if out => return Err(Sense::new(key::NOT_READY, asc::MEDIUM_NOT_PRESENT).into()),
        (false, false) if flags & NO_FLUSH == 0 => DiskTask::Flush,
        (false, start) => {
            job.disk.rare().starts += u32::from(start);
            DiskTask::Done(Outcome::good())
        }
    })
}

/// Puts the medium in. Returns the attention for the other initiators, if it was out.
fn load(disk: &Disk) -> Option<u16> {
    let (old, _) = disk.change_parameters(|p| p.set(Parameters::EJECTED, false));
    disk.rare().starts += 1;
    old.has(Parameters::EJECTED).then_some(asc::NOT_READY_TO_READY_CHANGE_MEDIUM_MAY_HAVE_CHANGED)
}

/// Takes the medium out, when all that was written is on it.
pub(super) fn eject(answer: Option<Resume>, job: &Job<'_>) -> Result<Step, Fault> {
    match answer {
        None => Ok(Step::Store(Op::Flush)),
        Some(Resume::Stored(Done::Finished)) => {
            job.disk.change_parameters(|p| p.set(Parameters::EJECTED, true));
            Ok(Step::Finish(Outcome::good()))
        }
        other => Err(unexpected_after_flush(other, &job.limits)),
    }
}

/// PREVENT ALLOW MEDIUM REMOVAL: each nexus for itself, until it allows, is lost, or the unit is reset.
pub(super) fn prevent_allow(job: &Job<'_>, _: &mut Context<'_>) -> Result<DiskTask, Fault> {
    let nexus = job.command.nexus;
    let mut rare = job.disk.rare();
    rare.prevented.retain(|other| *other != nexus);
    if job.cdb[4] & 1 != 0 {
        rare.prevented.push(nexus);
    }
    Ok(DiskTask::Done(Outcome::good()))
}

/// A nexus that is gone prevents nothing.
pub(super) fn allow(disk: &Disk, nexus: NexusId) {
    disk.rare().prevented.retain(|other| *other != nexus);
}
