// SPDX-License-Identifier: GPL-2.0-or-later
//! Commands that move cartridges: MOVE MEDIUM, EXCHANGE MEDIUM, POSITION TO ELEMENT, INITIALIZE ELEMENT STATUS, and
//! OPEN/CLOSE IMPORT/EXPORT ELEMENT (SMC-3 6).

use super::changer::{Job, MOVING, MediaChanger};
use super::elements::{CartridgeMoves, ElementType, MoveRefusal};
use crate::scsi::primary::{DeviceTask, Fault, TaskWork, unexpected};
use crate::scsi::{Context, MoveFailure, Outcome, Resume, Sense, Step, asc, key};
use crate::wire::scsi::be16;

/// Cartridges under way.
#[derive(Debug)]
pub struct MoveTask {
    movement: CartridgeMoves,
    /// Drives have a part in it.
    at_drives: bool,
}

fn begun(movement: CartridgeMoves) -> TaskWork<MediaChanger> {
    TaskWork::Own(MoveTask { movement, at_drives: false })
}

/// The hand that a CDB names at that byte: the only one, or the default.
fn check_hand(job: &Job<'_>, at: u16) -> Result<(), Sense> {
    let hand = be16(&job.cdb, at.into());
    let inventory = job.unit.inventory();
    let known = hand == 0 || inventory.addresses().of(ElementType::Transport).contains(&hand);
    if known { Ok(()) } else { Err(MoveRefusal::NoElement.sense(at)) }
}

/// The element that a CDB names at that byte, whatever its type.
fn check_element(job: &Job<'_>, at: u16) -> Result<(), Sense> {
    let known = job.unit.inventory().addresses().kind(be16(&job.cdb, at.into())).is_some();
    if known { Ok(()) } else { Err(MoveRefusal::NoElement.sense(at)) }
}

/// Whether people are kept from what is in the import/export elements.
fn check_removal(job: &Job<'_>, addresses: &[u16]) -> Result<(), Sense> {
    let inventory = job.unit.inventory();
    let out = |address: &u16| inventory.addresses().kind(*address) == Some(ElementType::ImportExport);
    let prevented = !job.primary().state().prevented.is_empty();
    match prevented && addresses.iter().any(out) {
        true => Err(Sense::illegal(asc::MEDIUM_REMOVAL_PREVENTED)),
        false => Ok(()),
    }
}

/// MOVE MEDIUM.
pub(super) fn move_medium(job: &Job<'_>) -> Result<TaskWork<MediaChanger>, Fault> {
    const HAND: u16 = 2;
    const SOURCE: u16 = 4;
    const DESTINATION: u16 = 6;
    check_hand(job, HAND)?;
    let (from, to) = (be16(&job.cdb, SOURCE.into()), be16(&job.cdb, DESTINATION.into()));
    let movement = job.unit.inventory().check_move(from, to);
    let movement = movement.map_err(|(source, why)| why.sense(if source { SOURCE } else { DESTINATION }))?;
    check_removal(job, &[to])?;
    Ok(begun(movement))
}

/// EXCHANGE MEDIUM.
pub(super) fn exchange_medium(job: &Job<'_>) -> Result<TaskWork<MediaChanger>, Fault> {
    const HAND: u16 = 2;
    const PLACES: [u16; 3] = [4, 6, 8];
    check_hand(job, HAND)?;
    let [source, first, second] = PLACES.map(|at| be16(&job.cdb, at.into()));
    let movement = job.unit.inventory().check_exchange(source, first, second);
    let movement = movement.map_err(|(place, why)| why.sense(PLACES[place]))?;
    check_removal(job, &[first, second])?;
    Ok(begun(movement))
}

/// POSITION TO ELEMENT: the hand is everywhere.
pub(super) fn position_to_element(job: &Job<'_>) -> Result<TaskWork<MediaChanger>, Fault> {
    const HAND: u16 = 2;
    const DESTINATION: u16 = 4;
    check_hand(job, HAND)?;
    check_element(job, DESTINATION)?;
    Ok(TaskWork::Done(Outcome::good()))
}

/// INITIALIZE ELEMENT STATUS WITH RANGE: what is where is known, and the range has to be one.
pub(super) fn initialize_range(job: &Job<'_>) -> Result<TaskWork<MediaChanger>, Fault> {
    const RANGE: u8 = 0x01;
    const START: u16 = 2;
    if job.cdb[1] & RANGE != 0 {
        check_element(job, START)?;
    }
    Ok(TaskWork::Done(Outcome::good()))
}

/// OPEN/CLOSE IMPORT/EXPORT ELEMENT. Some send it as LOAD UNLOAD, for no element and with other actions: nothing
/// happens then.
pub(super) fn open_close(job: &Job<'_>) -> Result<TaskWork<MediaChanger>, Fault> {
    const ELEMENT: u16 = 2;
    const ACTION: u16 = 4;
    const OPEN: u8 = 0;
    const CLOSE: u8 = 1;
    let (address, action) = (be16(&job.cdb, ELEMENT.into()), job.cdb[usize::from(ACTION)]);
    let kind = job.unit.inventory().addresses().kind(address);
    let attention = match (kind, action) {
        (None, _) if address == 0 => None,
        (Some(ElementType::ImportExport), OPEN | CLOSE) => {
            let open = action == OPEN;
            if open {
                check_removal(job, &[address])?;
            }
            let mut inventory = job.unit.inventory();
            let was = inventory.get_mut(address).map(|element| std::mem::replace(&mut element.open, open));
            (was == Some(true) && !open).then_some(asc::IMPORT_OR_EXPORT_ELEMENT_ACCESSED)
        }
        (Some(ElementType::ImportExport), _) => return Err(Sense::invalid_field_in_cdb(ACTION, None).into()),
        _ => return Err(MoveRefusal::NoElement.sense(ELEMENT).into()),
    };
    Ok(TaskWork::Done(Outcome::good().telling_others(attention)))
}

impl DeviceTask<MediaChanger> for MoveTask {
    fn advance(&mut self, answer: Option<Resume>, job: &Job<'_>, _: &mut Context<'_>) -> Result<Step, Fault> {
        match answer {
            None => {
                job.primary().change_flags(|flags| flags.set(MOVING, true));
                let changes = job.unit.inventory().changes_of_drives(&self.movement);
                self.at_drives = !changes.is_empty();
                match self.at_drives {
                    true => Ok(Step::MoveMedia(changes)),
                    false => Ok(Step::Persist(job.unit.record_of(&self.movement))),
                }
            }
            Some(Resume::MediaMoved(Ok(()))) => Ok(Step::Persist(job.unit.record_of(&self.movement))),
            Some(Resume::MediaMoved(Err(MoveFailure::Prevented))) => {
                Err(Sense::illegal(asc::MEDIUM_REMOVAL_PREVENTED_BY_DATA_TRANSFER_ELEMENT).into())
            }
            Some(Resume::MediaMoved(Err(MoveFailure::Failed))) => {
                Err(Sense::new(key::HARDWARE_ERROR, asc::MEDIA_LOAD_OR_EJECT_FAILED).into())
            }
            Some(Resume::Persisted(Ok(()))) => {
                job.unit.moved(&self.movement);
                Ok(Step::Finish(Outcome::good()))
            }
            other => {
                // What is in drives is there, kept or not: after a restart it is where it was before.
                if self.at_drives {
                    job.unit.moved(&self.movement);
                }
                Err(unexpected(other, &job.shape))
            }
        }
    }

    /// What has begun to move arrives.
    fn goes_on(&self) -> bool {
        true
    }

    fn ended(&self, changer: &MediaChanger, _: &Outcome) {
        changer.primary.change_flags(|flags| flags.set(MOVING, false));
    }
}
