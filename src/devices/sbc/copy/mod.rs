// SPDX-License-Identifier: GPL-2.0-or-later
//! EXTENDED COPY (LID1) (SPC-4 6.4): blocks of logical units that the nexus sees are copied to others of theirs, or to
//! the same, without a way over the network.
//!
//! Segments are carried out in their order, a chunk at a time: read, then written. Where a segment overlaps itself it
//! is copied from the end that leaves every block as it was when the segment began. Another logical unit is looked at,
//! and asked whether it lets an operation pass, by the task manager; this one looks after itself.

mod known;
mod list;
mod results;

use smallvec::SmallVec;

use crate::io::{Done, Geometry, Landing, Op};
use crate::scsi::primary::{DeviceType, Fault, unexpected};
use crate::scsi::{
    Context, CopyTraits, NexusId, Outcome, Peer, Resume, Sense, Status, Step, UnitKey, asc, key,
};

use super::disk::{Disk, Job};
use list::{ITSELF, List, Segment};

pub(super) use known::Copies;
pub(super) use results::{failed_segment, parameters, status, third_party_copy};

/// Where a segment begins or ends.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// `None` is this logical unit.
    unit: Option<UnitKey>,
    geometry: Geometry,
    traits: CopyTraits,
}

/// The segment under way, in bytes.
#[derive(Clone, Copy, Debug)]
struct Run {
    source: Place,
    destination: Place,
    from: u64,
    to: u64,
    len: u64,
    /// How much of it is done.
    done: u64,
    /// Most bytes of one operation.
    chunk: u32,
    /// It overlaps itself, and what comes last has to be copied first.
    backwards: bool,
    overlaps: bool,
}

impl Run {
    /// Offset and length of the next chunk.
    fn next(&self) -> (u64, u32) {
        let left = self.len - self.done;
        let len = u32::try_from(left).map_or(self.chunk, |left| left.min(self.chunk));
        (if self.backwards { left - u64::from(len) } else { self.done }, len)
    }
}

/// See the module.
#[derive(Debug)]
pub struct Copy {
    /// Bytes of the parameter list.
    wanted: u32,
    nexus: NexusId,
    list: List,
    /// The targets of the list, as far as they have been looked for: where they are, or what is wrong with them.
    places: SmallVec<[Result<Place, u16>; 2]>,
    /// Segments begun.
    begun: usize,
    run: Option<Run>,
    /// Bytes copied.
    copied: u64,
}

impl Copy {
    pub(super) fn begin(job: &Job<'_>, _: &mut Context<'_>) -> Result<Self, Fault> {
        let wanted = list::length(&job.cdb)?;
        if job.command.expected.data_out < wanted {
            return Err(Sense::illegal(asc::PARAMETER_LIST_LENGTH_ERROR).into());
        }
        Ok(Self {
            wanted,
            nexus: job.command.nexus,
            list: List::default(),
            places: SmallVec::new(),
            begun: 0,
            run: None,
            copied: 0,
        })
    }

    pub(super) fn advance(
        &mut self,
        answer: Option<Resume>,
        job: &Job<'_>,
        cx: &mut Context<'_>,
    ) -> Result<Step, Fault> {
        match answer {
            None if self.wanted == 0 => Ok(Step::Finish(Outcome::good())),
            None => Ok(Step::Fetch { len: self.wanted }),
            Some(Resume::Fetched(bytes)) => {
                let list = List::read(&bytes.to_vec())?;
                if let Some(id) = list.id {
                    job.unit.rare().copies.begin(self.nexus, id)?;
                }
                self.list = list;
                self.look(job, cx)
            }
            Some(Resume::Seen(peer)) => {
                let missing = Err(asc::COPY_TARGET_DEVICE_NOT_REACHABLE);
                let seen = |Peer { unit, geometry, traits }| Place { unit: Some(unit), geometry, traits };
                self.places.push(peer.map_or(missing, |peer| Ok(seen(peer))));
                self.look(job, cx)
            }
            Some(Resume::Stored(Done::Data(data))) if self.run.is_some() => {
                let run = self.run.as_ref().ok_or(unexpected(None, &job.shape))?;
                let (offset, _) = run.next();
                let fua = run.destination.traits.write_through;
                let to = run.destination;
                self.submit(to, Op::Write { at: run.to + offset, data, fua }, job)
            }
            Some(Resume::Stored(Done::Finished)) => {
                if let Some(run) = &mut self.run {
                    let (_, len) = run.next();
                    run.done += u64::from(len);
                    self.copied += u64::from(len);
                }
                self.next(job, cx)
            }
            Some(Resume::NotAdmitted) => Err(self.failure(asc::THIRD_PARTY_DEVICE_FAILURE, None).into()),
            Some(Resume::Stored(Done::Failed(error))) if self.run.is_some() => {
                match unexpected(Some(Resume::Stored(Done::Failed(error))), &job.shape) {
                    Fault::Check(_) => Err(self.failure(asc::THIRD_PARTY_DEVICE_FAILURE, None).into()),
                    other => Err(other),
                }
            }
            other => Err(unexpected(other, &job.shape)),
        }
    }

    /// Looks for the next target of the list, or begins to copy.
    fn look(&mut self, job: &Job<'_>, cx: &mut Context<'_>) -> Result<Step, Fault> {
        while let Some(target) = self.list.targets.get(self.places.len()) {
            match target.name {
                Some(name) if job.primary().identity().goes_by(&name) => {
                    self.places.push(Ok(itself(job, cx)));
                }
                Some(name) => return Ok(Step::Look(name)),
                None => self.places.push(Err(asc::COPY_TARGET_DEVICE_NOT_REACHABLE)),
            }
        }
        for (place, target) in self.places.iter_mut().zip(&self.list.targets) {
            let same = |place: &Place| {
                place.traits.device_type == target.device_type && place.traits.block == target.block
            };
            if place.as_ref().is_ok_and(|place| !same(place)) {
                *place = Err(asc::INCORRECT_COPY_TARGET_DEVICE_TYPE);
            }
        }
        self.next(job, cx)
    }

    /// Copies the next chunk, of the next segment if need be.
    fn next(&mut self, job: &Job<'_>, cx: &mut Context<'_>) -> Result<Step, Fault> {
        if let Some(id) = self.list.id {
            let over = self.begun - usize::from(self.run.is_some_and(|run| run.done < run.len));
            let over = u16::try_from(over).unwrap_or(u16::MAX);
            job.unit.rare().copies.progress(self.nexus, id, over, self.copied);
        }
        loop {
            if let Some(run) = self.run.filter(|run| run.done < run.len) {
                let (offset, len) = run.next();
                // Lent pages would change under the write.
                let into = match run.overlaps {
                    true => Landing::Given(cx.arena.alloc(len as usize).ok_or(Fault::Busy)?),
                    false => Landing::Own,
                };
                return self.submit(run.source, Op::Read { at: run.from + offset, len, into }, job);
            }
            let Some(&segment) = self.list.segments.get(self.begun) else {
                return Ok(Step::Finish(Outcome::took(self.wanted.into())));
            };
            self.begun += 1;
            self.run = Some(self.run_of(&segment, job, cx)?);
        }
    }

    /// Works a segment out.
    fn run_of(&self, segment: &Segment, job: &Job<'_>, cx: &Context<'_>) -> Result<Run, Sense> {
        let source = self.place(segment.source, 4, job, cx)?;
        let destination = self.place(segment.destination, 6, job, cx)?;
        let (from, to) = (source.traits.block, destination.traits.block);
        let len = u64::from(segment.blocks) * u64::from(if segment.by_destination { to } else { from });
        if len % u64::from(from) != 0 || len % u64::from(to) != 0 {
            return Err(self.failure(asc::UNEXPECTED_INEXACT_SEGMENT, Some(10)));
        }
        let inside = |place: &Place, lba: u64| {
            let block = u64::from(place.traits.block);
            let capacity = place.geometry.bytes / block;
            lba <= capacity && len / block <= capacity - lba
        };
        for (place, lba, byte) in [(&source, segment.from, 12), (&destination, segment.to, 20)] {
            if !inside(place, lba) {
                return Err(self.failure(asc::NO_ADDITIONAL_SENSE, Some(byte)));
            }
        }
        let most = source.geometry.transfer_max.min(destination.geometry.transfer_max);
        let whole = from.max(to);
        let (from, to) = (segment.from * u64::from(from), segment.to * u64::from(to));
        let overlaps = source.unit == destination.unit && from < to + len && to < from + len;
        Ok(Run {
            source,
            destination,
            from,
            to,
            len,
            done: 0,
            chunk: (most / whole).max(1) * whole,
            backwards: overlaps && to > from,
            overlaps,
        })
    }

    /// The logical unit that a segment means with a CSCD descriptor ID, which is in that byte of its descriptor.
    fn place(&self, id: u16, byte: u16, job: &Job<'_>, cx: &Context<'_>) -> Result<Place, Sense> {
        if id == ITSELF {
            return Ok(itself(job, cx));
        }
        let missing = Err(asc::COPY_TARGET_DEVICE_NOT_REACHABLE);
        let place = self.places.get(usize::from(id)).copied().unwrap_or(missing);
        place.map_err(|code| self.failure(code, Some(byte)))
    }

    fn submit(&self, place: Place, op: Op, job: &Job<'_>) -> Result<Step, Fault> {
        match place.unit {
            Some(unit) => Ok(Step::StoreOf(unit, op)),
            None if job.unit.admits(&op, &job.shape) => Ok(Step::Store(op)),
            None => Err(self.failure(asc::THIRD_PARTY_DEVICE_FAILURE, None).into()),
        }
    }

    /// COPY ABORTED in the segment under way, which is told by its number and a pointer into its descriptor (SPC-4
    /// 5.16.7.4).
    fn failure(&self, code: u16, byte: Option<u16>) -> Sense {
        let number = self.begun.saturating_sub(1) as u64;
        let sense = Sense { command_specific: Some(number), ..Sense::new(key::COPY_ABORTED, code) };
        match byte {
            Some(byte) => sense.pointing_into_segment(byte),
            None => sense,
        }
    }

    /// The task is over.
    pub(super) fn ended(&self, disk: &Disk, outcome: &Outcome) {
        if let Some(id) = self.list.id {
            disk.rare().copies.end(self.nexus, id, outcome.status == Status::Good, outcome.sense.clone());
        }
    }

    /// The task is aborted.
    pub(super) fn aborted(&self, disk: &Disk) {
        if let Some(id) = self.list.id {
            disk.rare().copies.forget(self.nexus, id);
        }
    }
}

fn itself(job: &Job<'_>, cx: &Context<'_>) -> Place {
    Place { unit: None, geometry: cx.geometry, traits: job.unit.traits() }
}
