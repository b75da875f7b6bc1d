// SPDX-License-Identifier: GPL-2.0-or-later
//! COMPARE AND WRITE, WRITE ATOMIC and ORWRITE, all on the store's compare-and-write, which nobody gets in between of,
//! on any core.

use crate::io::{Done, Landing, Op};
use crate::memory::Sg;
use crate::scsi::primary::{Fault, MediumAccess, Span, miscompare, unexpected};
use crate::scsi::{Context, Outcome, Resume, Sense, Step};
use crate::wire::scsi::{be16, be64};

use super::disk::Job;
use super::limits::Extent;

const FUA: u8 = 0x08;

/// COMPARE AND WRITE (SBC-3 5.3).
#[derive(Debug)]
pub struct CompareAndWrite {
    at: u64,
    /// Bytes compared, and as many written.
    len: u32,
    fua: bool,
}

impl CompareAndWrite {
    pub(super) fn begin(job: &Job<'_>, _: &mut Context<'_>) -> Result<Self, Fault> {
        let extent = Extent { lba: be64(&job.cdb, 2), blocks: job.cdb[13].into(), field: 13 };
        let extent = extent.checked(&job.shape, job.shape.compare_and_write_max().into())?;
        let span = extent.span(&job.shape);
        let len = span.left as u32;
        // What is offered must be what the CDB says, twice: half of a comparison is none, and 256 blocks do not fit the
        // field, whose eight bits then say zero.
        if u64::from(job.command.expected.data_out / (2 * job.shape.block())) != extent.blocks {
            return Err(Sense::invalid_field_in_cdb(13, None).into());
        }
        job.counts.command(MediumAccess::Write, span.left);
        let fua = job.unit.writes_through(job.cdb[1] & FUA != 0);
        Ok(Self { at: span.at, len, fua })
    }

    pub(super) fn advance(&mut self, answer: Option<Resume>, job: &Job<'_>) -> Result<Step, Fault> {
        let both = 2 * self.len;
        match answer {
            None if self.len != 0 => Ok(Step::Fetch { len: both }),
            Some(Resume::Fetched(mut data)) if data.len() == both as usize => {
                let compare = Some(Box::new(data.split_to(self.len as usize)));
                Ok(Step::Store(Op::CompareAndWrite { at: self.at, compare, data, fua: self.fua }))
            }
            Some(Resume::Stored(Done::Differs { offset })) => Err(miscompare(offset.into())),
            None | Some(Resume::Stored(Done::Finished)) => Ok(Step::Finish(Outcome::took(both.into()))),
            other => Err(unexpected(other, &job.shape)),
        }
    }
}

/// WRITE ATOMIC(16) (SBC-4 5.47): no other command, on whatever core, sees or changes the blocks half written. Whether
/// a loss of power can tear them is the store's affair, as with every write.
#[derive(Debug)]
pub struct WriteAtomic {
    at: u64,
    len: u32,
    fua: bool,
}

impl WriteAtomic {
    pub(super) fn begin(job: &Job<'_>, _: &mut Context<'_>) -> Result<Self, Fault> {
        if be16(&job.cdb, 10) != 0 {
            // ATOMIC BOUNDARY: there is no write of several atomic parts.
            return Err(Sense::invalid_field_in_cdb(10, None).into());
        }
        let extent = Extent { lba: be64(&job.cdb, 2), blocks: be16(&job.cdb, 12).into(), field: 12 };
        let extent = extent.checked(&job.shape, job.shape.atomic_write_max().into())?;
        let span = extent.span(&job.shape);
        if u64::from(job.command.expected.data_out) < span.left {
            return Err(Sense::invalid_field_in_cdb(12, None).into());
        }
        job.counts.command(MediumAccess::Write, span.left);
        let fua = job.unit.writes_through(job.cdb[1] & FUA != 0);
        Ok(Self { at: span.at, len: span.left as u32, fua })
    }

    pub(super) fn advance(&mut self, answer: Option<Resume>, job: &Job<'_>) -> Result<Step, Fault> {
        match answer {
            None if self.len != 0 => Ok(Step::Fetch { len: self.len }),
            Some(Resume::Fetched(data)) => {
                Ok(Step::Store(Op::CompareAndWrite { at: self.at, compare: None, data, fua: self.fua }))
            }
            None | Some(Resume::Stored(Done::Finished)) => Ok(Step::Finish(Outcome::took(self.len.into()))),
            other => Err(unexpected(other, &job.shape)),
        }
    }
}

/// ORWRITE(16) and (32) (SBC-3 5.5). Each chunk is read, combined, and put back if nobody has changed it meanwhile;
/// else it is done again, which means that somebody else has got on. A chunk is atomic against every other command. The
/// chunks of one command need not be atomic together: setting bits commutes, so no sequence of ORWRITEs can tell, and
/// any other write of several blocks is not atomic either.
#[derive(Debug)]
pub struct OrWrite {
    span: Span,
    wanted: u64,
    fua: bool,
    chunk: (u64, u32),
    /// The bits to be set in the chunk.
    bits: Sg,
}

impl OrWrite {
    pub(super) fn begin(job: &Job<'_>, _: &mut Context<'_>) -> Result<Self, Fault> {
        let extent = Extent::of(&job.cdb).checked(&job.shape, job.shape.transfer_max().into())?;
        let mut span = extent.span(&job.shape);
        let wanted = span.left;
        span.left = job.shape.offered(job.command.expected.data_out, wanted)?;
        job.counts.command(MediumAccess::Write, span.left);
        let fua = job.unit.writes_through(job.cdb[1] & FUA != 0);
        Ok(Self { span, wanted, fua, chunk: (0, 0), bits: Sg::new() })
    }

    pub(super) fn advance(
        &mut self,
        answer: Option<Resume>,
        job: &Job<'_>,
        cx: &mut Context<'_>,
    ) -> Result<Step, Fault> {
        match answer {
            None | Some(Resume::Stored(Done::Finished)) => {
                if self.span.left == 0 {
                    return Ok(Step::Finish(Outcome::took(self.wanted)));
                }
                self.chunk = self.span.take(job.shape.atomic_chunk());
                Ok(Step::Fetch { len: self.chunk.1 })
            }
            Some(Resume::Fetched(bits)) => {
                self.bits = bits;
                self.read(cx)
            }
            Some(Resume::Stored(Done::Differs { .. })) => self.read(cx),
            Some(Resume::Stored(Done::Data(old))) => {
                let data = self.combine(&old, cx)?;
                let compare = Some(Box::new(old));
                Ok(Step::Store(Op::CompareAndWrite { at: self.chunk.0, compare, data, fua: self.fua }))
            }
            other => Err(unexpected(other, &job.shape)),
        }
    }

    /// Reads the chunk into memory of our own: pages that the store lends would change together with the medium, and
    /// a comparison with them would always succeed.
    fn read(&self, cx: &Context<'_>) -> Result<Step, Fault> {
        let (at, len) = self.chunk;
        let into = Landing::Given(cx.arena.alloc(len as usize).ok_or(Fault::Busy)?);
        Ok(Step::Store(Op::Read { at, len, into }))
    }

    fn combine(&self, old: &Sg, cx: &Context<'_>) -> Result<Sg, Fault> {
        let mut block = cx.arena.alloc(old.len()).ok_or(Fault::Busy)?;
        let bytes = block.bytes_mut();
        old.copy_to(0, bytes);
        let mut piece = [0; 4096];
        for (i, out) in bytes.chunks_mut(piece.len()).enumerate() {
            self.bits.copy_to(i * piece.len(), &mut piece[..out.len()]);
            out.iter_mut().zip(&piece).for_each(|(o, p)| *o |= p);
        }
        Ok(block.freeze().into())
    }
}
