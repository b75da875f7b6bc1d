// SPDX-License-Identifier: GPL-2.0-or-later
//! UNMAP, WRITE SAME, GET LBA STATUS: what is allocated and what is not.

use crate::io::{Allocation, Done, Op};
use crate::memory::{Seg, Sg};
use crate::scsi::primary::reply;
use crate::scsi::primary::{Fault, Shape, Span, unexpected};
use crate::scsi::{Context, Outcome, Resume, Sense, Step, asc};
use crate::wire::scsi::{DataIn, be16, be32, be64};

use super::disk::Job;
use super::limits::{Extent, Limits, UNMAP_BLOCKS_MAX, UNMAP_DESCRIPTORS_MAX, WRITE_SAME_BLOCKS_MAX};

static ZEROS: [u8; 4096] = [0; 4096];

/// A block of zeros.
pub(super) fn zeros(limits: &Limits) -> Seg {
    Seg::from_static(&ZEROS).slice(0, limits.block() as usize)
}

const LIST_HEADER: usize = 8;
const DESCRIPTOR: usize = 16;

/// UNMAP (SBC-3 5.28).
#[derive(Debug)]
pub struct Unmap {
    wanted: u32,
    /// The parameter list: its descriptors are read as they come up.
    list: Sg,
    next: usize,
    count: usize,
    span: Span,
    anchor: bool,
}

impl Unmap {
    pub(super) fn begin(job: &Job<'_>, _: &mut Context<'_>) -> Result<Self, Fault> {
        let wanted = be16(&job.cdb, 7).into();
        let anchor = job.cdb[1] & 1 != 0;
        Ok(Self { wanted, list: Sg::new(), next: 0, count: 0, span: Span::default(), anchor })
    }

    pub(super) fn advance(&mut self, answer: Option<Resume>, job: &Job<'_>) -> Result<Step, Fault> {
        match answer {
            None if self.wanted == 0 => {}
            None => {
                let offered = self.wanted.min(job.command.expected.data_out);
                if offered < LIST_HEADER as u32 {
                    return Err(Sense::illegal(asc::PARAMETER_LIST_LENGTH_ERROR).into());
                }
                return Ok(Step::Fetch { len: offered });
            }
            Some(Resume::Fetched(list)) => {
                self.list = list;
                self.check(&job.shape)?;
            }
            Some(Resume::Stored(Done::Finished)) => {}
            other => return Err(unexpected(other, &job.shape)),
        }
        while self.span.left == 0 && self.next < self.count {
            self.span = self.descriptor(self.next).span(&job.shape);
            self.next += 1;
        }
        if self.span.left == 0 {
            return Ok(Step::Finish(Outcome::took(self.wanted.into())));
        }
        Ok(unmap_step(&mut self.span, &job.shape, self.anchor))
    }

    /// Checks the whole list before anything is deallocated.
    fn check(&mut self, limits: &Limits) -> Result<(), Sense> {
        let mut header = [0; LIST_HEADER];
        self.list.copy_to(0, &mut header);
        let len = usize::from(be16(&header, 2));
        if LIST_HEADER + len > self.list.len() {
            return Err(Sense::illegal(asc::PARAMETER_LIST_LENGTH_ERROR));
        }
        // A last descriptor that is not complete is none.
        self.count = len / DESCRIPTOR;
        let invalid =
            |byte| Sense::illegal(asc::INVALID_FIELD_IN_PARAMETER_LIST).pointing_at(false, byte, None);
        if self.count > UNMAP_DESCRIPTORS_MAX as usize {
            return Err(invalid(2));
        }
        let mut blocks = 0;
        for i in 0..self.count {
            let extent = self.descriptor(i);
            limits.check_range(extent.lba, extent.blocks)?;
            blocks += extent.blocks;
            if blocks > UNMAP_BLOCKS_MAX.into() {
                return Err(invalid(extent.field));
            }
        }
        Ok(())
    }

    fn descriptor(&self, i: usize) -> Extent {
        let mut bytes = [0; DESCRIPTOR];
        let at = LIST_HEADER + i * DESCRIPTOR;
        self.list.copy_to(at, &mut bytes);
        let field = u16::try_from(at + 8).unwrap_or(u16::MAX);
        Extent { lba: be64(&bytes, 0), blocks: be32(&bytes, 8).into(), field }
    }
}

/// The next part of a range is deallocated, or anchored.
pub(super) fn unmap_step(span: &mut Span, limits: &Limits, anchor: bool) -> Step {
    let len = span.left.min(limits.unmap_step());
    let at = span.at;
    span.at += len;
    span.left -= len;
    Step::Store(if anchor { Op::Anchor { at, len } } else { Op::Unmap { at, len } })
}

/// WRITE SAME(10), (16) and (32) (SBC-3 5.42).
#[derive(Debug)]
pub struct WriteSame {
    span: Span,
    /// Bytes of the Data-Out Buffer: a block, or none (NDOB).
    wanted: u32,
    /// The blocks may be deallocated if they then read as what was to be written.
    may_unmap: bool,
    /// ... but their room stays theirs.
    anchor: bool,
    fua: bool,
    /// The block to be written; `None` if deallocating does it.
    pattern: Option<Seg>,
}

impl WriteSame {
    pub(super) fn begin(job: &Job<'_>, _: &mut Context<'_>) -> Result<Self, Fault> {
        const ANCHOR: u8 = 0x10;
        const UNMAP: u8 = 0x08;
        const NDOB: u8 = 0x01;
        let anchor = job.cdb[1] & ANCHOR != 0;
        let may_unmap = job.cdb[1] & UNMAP != 0;
        if may_unmap && !job.shape.thin {
            return Err(Sense::invalid_field_in_cdb(1, Some(3)).into());
        }
        if anchor && !may_unmap {
            return Err(Sense::invalid_field_in_cdb(1, Some(4)).into());
        }
        let extent = Extent::of(&job.cdb).checked(&job.shape, WRITE_SAME_BLOCKS_MAX)?;
        if extent.blocks == 0 {
            // WSNZ: a field left at zero shall not mean the rest of the disk.
            return Err(Sense::invalid_field_in_cdb(extent.field, None).into());
        }
        let span = extent.span(&job.shape);
        let wanted = if job.cdb[1] & NDOB != 0 { 0 } else { job.shape.block() };
        if wanted != 0 && job.command.expected.data_out != wanted {
            return Err(Sense::illegal(asc::INVALID_FIELD_IN_CDB).into());
        }
        let pattern = Some(zeros(&job.shape));
        let fua = job.unit.writes_through(false);
        Ok(Self { span, wanted, may_unmap, anchor, fua, pattern })
    }

    pub(super) fn advance(
        &mut self,
        answer: Option<Resume>,
        job: &Job<'_>,
        cx: &mut Context<'_>,
    ) -> Result<Step, Fault> {
        match answer {
            None if self.wanted != 0 => return Ok(Step::Fetch { len: self.wanted }),
            None => self.choose(None),
            Some(Resume::Fetched(data)) => {
                let block = contiguous(&data, cx)?;
                self.choose(Some(block));
            }
            Some(Resume::Stored(Done::Finished)) => {}
            other => return Err(unexpected(other, &job.shape)),
        }
        if self.span.left == 0 {
            return Ok(Step::Finish(Outcome::took(self.wanted.into())));
        }
        let Some(pattern) = self.pattern.clone() else {
            return Ok(unmap_step(&mut self.span, &job.shape, self.anchor));
        };
        // Chunks, so that no store stays with one operation for long.
        let (at, len) = self.span.take(job.shape.chunk);
        Ok(Step::Store(Op::WriteSame { at, len: len.into(), pattern, fua: self.fua }))
    }

    /// Decides between writing and deallocating: the latter leaves zeros.
    fn choose(&mut self, block: Option<(Seg, bool)>) {
        let zero = block.as_ref().is_none_or(|(_, zero)| *zero);
        if self.may_unmap && zero {
            self.pattern = None;
        } else if let Some((seg, _)) = block {
            self.pattern = Some(seg);
        }
    }
}

/// The block in one piece, and whether it is all zeros.
fn contiguous(data: &Sg, cx: &Context<'_>) -> Result<(Seg, bool), Fault> {
    let mut block = cx.arena.alloc(data.len()).ok_or(Fault::Busy)?;
    data.copy_to(0, block.bytes_mut());
    let zero = block.bytes_mut().iter().all(|&b| b == 0);
    Ok((block.freeze(), zero))
}

/// GET LBA STATUS (SBC-3 5.6): the run of blocks that begins with the one asked for. One descriptor is what the
/// standard requires, and initiators ask again from where it ends.
#[derive(Debug)]
pub struct LbaStatus {
    lba: u64,
}

impl LbaStatus {
    pub(super) fn begin(job: &Job<'_>, _: &mut Context<'_>) -> Result<Self, Fault> {
        let lba = be64(&job.cdb, 2);
        job.shape.check_range(lba, 1)?;
        Ok(Self { lba })
    }

    pub(super) fn advance(
        &mut self,
        answer: Option<Resume>,
        job: &Job<'_>,
        cx: &mut Context<'_>,
    ) -> Result<Step, Fault> {
        let limits = &job.shape;
        let rest = limits.capacity.saturating_sub(self.lba);
        let (state, blocks) = match answer {
            None if limits.thin => return Ok(Step::Store(Op::Extent { at: limits.bytes(self.lba) })),
            None => (Allocation::Mapped, rest),
            Some(Resume::Stored(Done::Extent { state, len })) => {
                (state, limits.lba(len).clamp(1, rest.max(1)))
            }
            other => return Err(unexpected(other, limits)),
        };
        let state = match state {
            Allocation::Mapped => 0,
            Allocation::Deallocated => 1,
            Allocation::Anchored => 2,
        };
        let mut data = DataIn::new();
        data.u32(0).u32(0);
        data.u64(self.lba).u32(u32::try_from(blocks).unwrap_or(u32::MAX));
        data.u8(state).pad_to(LIST_HEADER + DESCRIPTOR).close(0, 4);
        Ok(Step::Finish(reply(&data, be32(&job.cdb, 10) as usize, cx)))
    }
}
