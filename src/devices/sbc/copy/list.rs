// SPDX-License-Identifier: GPL-2.0-or-later
//! The parameter list of EXTENDED COPY (LID1) (SPC-4 6.4): between which logical units, and what. Bad lists are refused
//! before anything is copied.

use smallvec::SmallVec;

use crate::scsi::primary::Designation;
use crate::scsi::{Sense, asc};
use crate::wire::scsi::{DataIn, be16, be24, be32, be64};

/// Most target (CSCD) descriptors.
pub(super) const TARGETS_MAX: usize = 8;
/// Most segment descriptors.
pub(super) const SEGMENTS_MAX: usize = 64;
/// Most bytes of all descriptors together.
pub(super) const DESCRIPTORS_MAX: usize = TARGETS_MAX * TARGET + SEGMENTS_MAX * BLOCK_TO_BLOCK;

/// DESCRIPTOR TYPE CODE: block device to block device, and a logical unit by its designator.
pub(super) const TYPES: [u8; 2] = [0x02, 0xe4];
/// The CSCD descriptor ID of the logical unit that carries out the command.
pub(super) const ITSELF: u16 = 0xffff;

const HEADER: usize = 16;
const TARGET: usize = 32;
const BLOCK_TO_BLOCK: usize = 28;

/// A target descriptor.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target {
    /// Its designator; `None` if that is the null device, or cannot be that of a logical unit.
    pub name: Option<Designation>,
    pub device_type: u8,
    /// DISK BLOCK LENGTH.
    pub block: u32,
}

/// A segment descriptor.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment {
    /// Indexes of target descriptors, or [`ITSELF`].
    pub source: u16,
    pub destination: u16,
    /// The blocks that are counted are the destination's (DC).
    pub by_destination: bool,
    pub blocks: u16,
    pub from: u64,
    pub to: u64,
}

/// The list.
#[derive(Debug, Default)]
pub(super) struct List {
    /// LIST IDENTIFIER, if its results can be asked for.
    pub id: Option<u8>,
    pub targets: SmallVec<[Target; 2]>,
    pub segments: SmallVec<[Segment; 2]>,
}

fn invalid(byte: usize, bit: Option<u8>) -> Sense {
    at(asc::INVALID_FIELD_IN_PARAMETER_LIST, byte).pointing_at(false, pointer(byte), bit)
}

fn at(code: u16, byte: usize) -> Sense {
    Sense::illegal(code).pointing_at(false, pointer(byte), None)
}

fn pointer(byte: usize) -> u16 {
    u16::try_from(byte).unwrap_or(u16::MAX)
}

/// How long the list is, if it may be as long.
pub(super) fn length(cdb: &[u8; 16]) -> Result<u32, Sense> {
    let len = be32(cdb, 10);
    if len as usize > HEADER + DESCRIPTORS_MAX || (1..HEADER as u32).contains(&len) {
        return Err(Sense::illegal(asc::PARAMETER_LIST_LENGTH_ERROR));
    }
    Ok(len)
}

impl List {
    /// Reads and checks a list.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, Sense> {
        const IDENTIFIED: u8 = 0;
        const MAY_BE_DISCARDED: u8 = 2;
        const ANONYMOUS: u8 = 3;
        let id = match bytes[1] >> 3 & 3 {
            IDENTIFIED | MAY_BE_DISCARDED => Some(bytes[0]),
            ANONYMOUS if bytes[0] != 0 => return Err(invalid(0, Some(7))),
            ANONYMOUS => None,
            _ => return Err(invalid(1, Some(4))),
        };
        if be32(bytes, 12) != 0 {
            return Err(at(asc::INLINE_DATA_LENGTH_EXCEEDED, 12));
        }
        let (targets, segments) = (usize::from(be16(bytes, 2)), be32(bytes, 8) as usize);
        let left = bytes.len() - HEADER;
        if targets > left || segments > left - targets {
            return Err(Sense::illegal(asc::PARAMETER_LIST_LENGTH_ERROR));
        }
        let (targets, segments) = (HEADER..HEADER + targets, HEADER + targets..HEADER + targets + segments);
        let mut list = Self { id, ..Self::default() };
        for start in targets.clone().step_by(TARGET) {
            list.targets.push(target(&bytes[..targets.end], start)?);
        }
        if list.targets.len() > TARGETS_MAX {
            return Err(at(asc::TOO_MANY_CSCD_DESCRIPTORS, 2));
        }
        let mut start = segments.start;
        while start < segments.end {
            list.segments.push(segment(&bytes[..segments.end], start)?);
            start += BLOCK_TO_BLOCK;
        }
        if list.segments.len() > SEGMENTS_MAX {
            return Err(at(asc::TOO_MANY_SEGMENT_DESCRIPTORS, 8));
        }
        Ok(list)
    }
}

fn target(bytes: &[u8], start: usize) -> Result<Target, Sense> {
    const BY_DESIGNATOR: u8 = 0xe4;
    const NULL: u8 = 0x20;
    let descriptor = &bytes[start..];
    if descriptor[0] != BY_DESIGNATOR {
        return Err(at(asc::UNSUPPORTED_CSCD_DESCRIPTOR_TYPE_CODE, start));
    }
    if descriptor.len() < TARGET {
        return Err(invalid(2, None));
    }
    // LU ID TYPE is ignored, as SPC-4 says.
    let len = usize::from(descriptor[7]);
    let name = descriptor[8..28].get(..len).ok_or_else(|| invalid(start + 7, None))?;
    let of_unit = descriptor[5] >> 4 & 3 == 0 && descriptor[1] & NULL == 0;
    Ok(Target {
        name: Designation::new(descriptor[4] & 0x0f, descriptor[5] & 0x0f, name).filter(|_| of_unit),
        device_type: descriptor[1] & 0x1f,
        block: be24(descriptor, 29),
    })
}

fn segment(bytes: &[u8], start: usize) -> Result<Segment, Sense> {
    const BLOCK_TO_BLOCK_CODE: u8 = 0x02;
    const DC: u8 = 0x02;
    let descriptor = &bytes[start..];
    if descriptor[0] != BLOCK_TO_BLOCK_CODE {
        return Err(at(asc::UNSUPPORTED_SEGMENT_DESCRIPTOR_TYPE_CODE, start));
    }
    if usize::from(be16(descriptor, 2)) != BLOCK_TO_BLOCK - 4 {
        return Err(invalid(start + 2, None));
    }
    if descriptor.len() < BLOCK_TO_BLOCK {
        return Err(invalid(8, None));
    }
    Ok(Segment {
        source: be16(descriptor, 4),
        destination: be16(descriptor, 6),
        by_destination: descriptor[1] & DC != 0,
        blocks: be16(descriptor, 10),
        from: be64(descriptor, 12),
        to: be64(descriptor, 20),
    })
}

/// What lists may hold, as the bytes of RECEIVE COPY RESULTS and of the Third-party Copy page say it.
pub(super) fn write_limits(data: &mut DataIn) {
    data.u16(TARGETS_MAX as u16).u16(SEGMENTS_MAX as u16).u32(DESCRIPTORS_MAX as u32);
}
