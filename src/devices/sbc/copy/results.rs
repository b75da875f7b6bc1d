// SPDX-License-Identifier: GPL-2.0-or-later
//! What initiators are told of copies: RECEIVE COPY RESULTS (SPC-4 6.19 and 6.20), and what copies can do at all,
//! in the Third-party Copy page (7.8.17).

use crate::scsi::primary::handlers::answered;
use crate::scsi::primary::{Fault, TaskWork, UnitFlags};
use crate::scsi::{Context, Sense};
use crate::wire::scsi::{DataIn, be32};

use super::super::disk::{Disk, Job};
use super::super::limits::Limits;
use super::known::{CopyResult, State, UNDER_WAY_MAX};
use super::list;

/// Longest segment in bytes: more than a descriptor can say.
const SEGMENT_BYTES_MAX: u32 = 1 << 28;

/// COPY STATUS (LID1).
pub(in super::super) fn status(job: &Job<'_>, cx: &mut Context<'_>) -> Result<TaskWork<Disk>, Fault> {
    let found = job.unit.rare().copies.find(job.command.nexus, job.cdb[2]).cloned();
    let entry = found.ok_or(Sense::invalid_field_in_cdb(2, Some(7)))?;
    // TRANSFER COUNT UNITS: bytes, KiB, MiB and so on, as few as are needed.
    let unit = (0..7).find(|unit| entry.bytes >> (10 * unit) <= u32::MAX.into()).unwrap_or(6);
    let mut data = DataIn::new();
    data.u32(0).u8(entry.state.code()).u16(entry.segments).u8(unit);
    data.u32((entry.bytes >> (10 * unit)) as u32).close(0, 4);
    answered((data, be32(&job.cdb, 10)), cx)
}

/// FAILED SEGMENT DETAILS (LID1): the sense data of a copy that has failed; no data if there is none.
pub(in super::super) fn failed_segment(job: &Job<'_>, cx: &mut Context<'_>) -> Result<TaskWork<Disk>, Fault> {
    let found = job.unit.rare().copies.find(job.command.nexus, job.cdb[2]).cloned();
    let mut data = DataIn::new();
    data.u32(0);
    if let Some(CopyResult { state: state @ State::Bad(Some(sense)), .. }) = &found {
        let sense = sense.encode(job.primary().flags().has(UnitFlags::DESCRIPTOR_SENSE));
        data.pad_to(56).u8(state.code()).u8(0).u16(sense.len() as u16).bytes(&sense).close(0, 4);
    }
    answered((data, be32(&job.cdb, 10)), cx)
}

/// OPERATING PARAMETERS.
pub(in super::super) fn parameters(job: &Job<'_>, cx: &mut Context<'_>) -> Result<TaskWork<Disk>, Fault> {
    answered((operating_parameters(&job.shape), be32(&job.cdb, 10)), cx)
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
