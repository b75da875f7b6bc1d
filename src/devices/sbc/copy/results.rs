// SPDX-License-Identifier: GPL-2.0-or-later
//! What is known of copies, under way and over: RECEIVE COPY RESULTS (SPC-4 6.19 and 6.20), and what copies can do at all,
//! in the Third-party Copy page (7.8.17).

use std::collections::VecDeque;

use crate::scsi::primary::reply;
use crate::scsi::{Context, NexusId, Sense, asc};
use crate::wire::scsi::{DataIn, be32};

use super::super::fault::Fault;
use super::super::limits::Limits;
use super::super::server::{DiskTask, Job};
use super::super::state::Parameters;
use super::list;

/// Most copies of a logical unit at once that can be asked for by a list identifier; beyond it, BUSY.
const UNDER_WAY_MAX: usize = 16;
/// Most copies that are remembered: of those that are over, the oldest is forgotten.
const REMEMBERED_MAX: usize = 64;
/// Longest segment in bytes: more than a descriptor can say.
const SEGMENT_BYTES_MAX: u32 = 1 << 28;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    UnderWay,
    Good,
    /// It has ended early; with sense data unless the status was another one.
    Bad(Option<Sense>),
}

#[derive(Clone, Copy, Debug)]
struct CopyResult {
    nexus: NexusId,
    list: u8,
    state: State,
    segments: u16,
    bytes: u64,
}

/// The copies of a logical unit that have a list identifier, the oldest first.
#[derive(Debug, Default)]
pub(in super::super) struct Copies(VecDeque<CopyResult>);

impl Copies {
    fn find(&mut self, nexus: NexusId, list: u8) -> Option<&mut CopyResult> {
        self.0.iter_mut().find(|entry| (entry.nexus, entry.list) == (nexus, list))
    }

    /// A copy begins. What was known of an earlier one of that identifier is forgotten.
    pub(super) fn begin(&mut self, nexus: NexusId, list: u8) -> Result<(), Fault> {
        if self.find(nexus, list).is_some_and(|entry| entry.state == State::UnderWay) {
            return Err(Sense::illegal(asc::OPERATION_IN_PROGRESS).into());
        }
        if self.0.iter().filter(|entry| entry.state == State::UnderWay).count() >= UNDER_WAY_MAX {
            return Err(Fault::Busy);
        }
        self.forget(nexus, list);
        if self.0.len() >= REMEMBERED_MAX
            && let Some(oldest) = self.0.iter().position(|entry| entry.state != State::UnderWay)
        {
            self.0.remove(oldest);
        }
        self.0.push_back(CopyResult { nexus, list, state: State::UnderWay, segments: 0, bytes: 0 });
        Ok(())
    }

    /// So much of a copy is done.
    pub(super) fn progress(&mut self, nexus: NexusId, list: u8, segments: u16, bytes: u64) {
        if let Some(entry) = self.find(nexus, list) {
            (entry.segments, entry.bytes) = (segments, bytes);
        }
    }

    /// A copy is over.
    pub(super) fn end(&mut self, nexus: NexusId, list: u8, good: bool, sense: Option<Sense>) {
        if let Some(entry) = self.find(nexus, list) {
            entry.state = if good { State::Good } else { State::Bad(sense) };
        }
    }

    /// Nothing is known of it any more.
    pub(super) fn forget(&mut self, nexus: NexusId, list: u8) {
        self.0.retain(|entry| (entry.nexus, entry.list) != (nexus, list));
    }

    /// A nexus is gone, and its identifiers with it.
    pub(in super::super) fn forget_nexus(&mut self, nexus: NexusId) {
        self.0.retain(|entry| entry.nexus != nexus);
    }

    /// A reset.
    pub(in super::super) fn clear(&mut self) {
        self.0.clear();
    }
}

impl State {
    fn code(self) -> u8 {
        match self {
            Self::UnderWay => 0,
            Self::Good => 1,
            Self::Bad(_) => 2,
        }
    }
}

/// COPY STATUS (LID1).
pub(in super::super) fn status(job: &Job<'_>, cx: &mut Context<'_>) -> Result<DiskTask, Fault> {
    let found = job.disk.rare().copies.find(job.command.nexus, job.cdb[2]).copied();
    let entry = found.ok_or(Sense::invalid_field_in_cdb(2, Some(7)))?;
    // TRANSFER COUNT UNITS: bytes, KiB, MiB and so on, as few as are needed.
    let unit = (0..7).find(|unit| entry.bytes >> (10 * unit) <= u32::MAX.into()).unwrap_or(6);
    let mut data = DataIn::new();
    data.u32(0).u8(entry.state.code()).u16(entry.segments).u8(unit);
    data.u32((entry.bytes >> (10 * unit)) as u32).close(0, 4);
    Ok(DiskTask::Done(reply(&data, be32(&job.cdb, 10) as usize, cx)))
}

/// FAILED SEGMENT DETAILS (LID1): the sense data of a copy that has failed; no data if there is none.
pub(in super::super) fn failed_segment(job: &Job<'_>, cx: &mut Context<'_>) -> Result<DiskTask, Fault> {
    let found = job.disk.rare().copies.find(job.command.nexus, job.cdb[2]).copied();
    let mut data = DataIn::new();
    data.u32(0);
    if let Some(CopyResult { state: state @ State::Bad(Some(sense)), .. }) = found {
        let sense = sense.encode(job.disk.parameters().has(Parameters::DESCRIPTOR_SENSE));
        data.pad_to(56).u8(state.code()).u8(0).u16(sense.len() as u16).bytes(&sense).close(0, 4);
    }
    Ok(DiskTask::Done(reply(&data, be32(&job.cdb, 10) as usize, cx)))
}

/// OPERATING PARAMETERS.
pub(in super::super) fn parameters(job: &Job<'_>, cx: &mut Context<'_>) -> Result<DiskTask, Fault> {
    Ok(DiskTask::Done(reply(&operating_parameters(&job.limits), be32(&job.cdb, 10) as usize, cx)))
}

fn operating_parameters(limits: &Limits) -> DataIn {
    /// No list identifier is needed.
    const SNLID: u8 = 1;
    let mut data = DataIn::new();
    data.u32(0).u8(SNLID).pad_to(8);
    list::write_limits(&mut data);
    // No inline data, no held data, no streams.
    data.u32(SEGMENT_BYTES_MAX).u32(0).u32(0).u32(0).u16(0);
    data.u16(UNDER_WAY_MAX as u16).u8(UNDER_WAY_MAX as u8);
    data.u8(limits.block().ilog2() as u8).u8(0).u8(0).pad_to(43);
    data.u8(list::TYPES.len() as u8).bytes(&list::TYPES).close(0, 4);
    data
}

/// What follows the header of the Third-party Copy page.
pub(in super::super) fn third_party_copy(limits: &Limits, data: &mut DataIn) {
    const SUPPORTED_COMMANDS: u16 = 0x0001;
    const PARAMETER_DATA: u16 = 0x0004;
    const SUPPORTED_DESCRIPTORS: u16 = 0x0008;
    const SUPPORTED_IDS: u16 = 0x000c;
    const GENERAL_OPERATIONS: u16 = 0x8001;
    const HELD_DATA: u16 = 0xc001;
    // EXTENDED COPY and RECEIVE COPY RESULTS with their service actions.
    let commands: &[u8] = &[0x83, 1, 0x00, 0x84, 3, 0x00, 0x03, 0x04];
    descriptor(data, SUPPORTED_COMMANDS, |data| _ = data.u8(commands.len() as u8).bytes(commands));
    descriptor(data, PARAMETER_DATA, |data| {
        data.u32(0);
        list::write_limits(data);
        // No inline data.
        data.u32(0).u32(0).u32(0).u32(0);
    });
    descriptor(data, SUPPORTED_DESCRIPTORS, |data| _ = data.u8(list::TYPES.len() as u8).bytes(&list::TYPES));
    descriptor(data, SUPPORTED_IDS, |data| _ = data.u16(2).u16(list::ITSELF));
    descriptor(data, GENERAL_OPERATIONS, |data| {
        data.u32(UNDER_WAY_MAX as u32).u32(UNDER_WAY_MAX as u32).u32(SEGMENT_BYTES_MAX);
        let end = data.len() + 20;
        data.u8(limits.block().ilog2() as u8).pad_to(end);
    });
    descriptor(data, HELD_DATA, |data| {
        let end = data.len() + 28;
        data.pad_to(end);
    });
}

/// A third-party copy descriptor, padded to a multiple of four bytes.
fn descriptor(data: &mut DataIn, code: u16, write: impl FnOnce(&mut DataIn)) {
    let start = data.len();
    data.u16(code).u16(0);
    write(data);
    let end = start + (data.len() - start).next_multiple_of(4);
    data.pad_to(end).close(start + 2, 2);
}
