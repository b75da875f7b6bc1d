// SPDX-License-Identifier: GPL-2.0-or-later
//! READ, WRITE, WRITE AND VERIFY, VERIFY: data between initiator and store, a chunk at a time.
//!
//! The initiator may expect to move less than the CDB says. A READ then reads what there is room for, a WRITE or
//! VERIFY takes the blocks that are offered if they are whole, and fails if not; either way the outcome tells what the
//! CDB wanted, from which residuals are made.

use crate::io::{Done, Error, ErrorKind, Landing, Op};
use crate::memory::Sg;
use crate::scsi::primary::{Fault, MediumAccess, Span, miscompare, unexpected};
use crate::scsi::{Context, Outcome, Resume, Sense, Step};

use super::disk::Job;
use super::limits::{Extent, Limits};

const FUA: u8 = 0x08;

/// The FUA bit, which the 6-byte commands do not have.
fn fua(cdb: &[u8; 16]) -> bool {
    cdb[0] >> 5 != 0 && cdb[1] & FUA != 0
}

/// The blocks of a command that is bound by MAXIMUM TRANSFER LENGTH.
fn extent(job: &Job<'_>) -> Result<Extent, Sense> {
    Extent::of(&job.cdb).checked(&job.shape, job.shape.transfer_max().into())
}

/// A read of the store whose bytes are only looked at.
fn read_back(at: u64, len: u32) -> Step {
    Step::Store(Op::Read { at, len, into: Landing::Own })
}

/// READ(6), (10), (12), (16), (32).
#[derive(Debug)]
pub struct Read {
    span: Span,
    wanted: u64,
    /// What the last chunk read, and all before it have been sent.
    reading: u32,
    sent: u64,
    /// The medium must be up to date before it is read (FUA).
    flush: bool,
}

impl Read {
    // Always, so that the task is made where it stays.
    #[inline(always)]
    pub(super) fn begin(job: &Job<'_>, _: &mut Context<'_>) -> Result<Self, Fault> {
        let mut span = extent(job)?.span(&job.shape);
        let wanted = span.left;
        let block = u64::from(job.shape.block());
        span.left = wanted.min(u64::from(job.command.expected.data_in).next_multiple_of(block));
        job.counts.command(MediumAccess::Read, span.left);
        Ok(Self { span, wanted, reading: 0, sent: 0, flush: fua(&job.cdb) })
    }

    pub(super) fn sent(&self) -> u64 {
        self.sent
    }

    // Always: each step of a READ comes by.
    #[inline(always)]
    pub(super) fn advance(
        &mut self,
        answer: Option<Resume>,
        job: &Job<'_>,
        cx: &mut Context<'_>,
    ) -> Result<Step, Fault> {
        match answer {
            None if self.flush && self.span.left != 0 => return Ok(Step::Store(Op::Flush)),
            None | Some(Resume::Sent | Resume::Stored(Done::Finished)) => {}
            Some(Resume::Stored(Done::Data(data))) if self.span.left == 0 => {
                return Ok(Step::Finish(Outcome { data_in: self.wanted, ..Outcome::data(data) }));
            }
            Some(Resume::Stored(Done::Data(data))) => {
                self.sent += u64::from(self.reading);
                return Ok(Step::Send(data));
            }
            other => return self.less(other, job, cx),
        }
        if self.span.left == 0 {
            return Ok(Step::Finish(Outcome { data_in: self.wanted, ..Outcome::good() }));
        }
        Ok(self.read(job.shape.chunk, job, cx))
    }

    /// Reads the next piece, of at most so many bytes.
    #[inline(always)]
    fn read(&mut self, most: u32, job: &Job<'_>, cx: &mut Context<'_>) -> Step {
        let (at, len) = self.span.take(most);
        self.reading = len;
        // A block of which the initiator wants but a part does not fit the fabric's memory.
        let fits = self.sent + u64::from(len) <= job.command.expected.data_in.into();
        Step::Store(Op::Read { at, len, into: cx.landing(len, fits) })
    }

    /// What could not be read. Memory that others have left in small pieces is enough for less at a time.
    #[cold]
    fn less(&mut self, answer: Option<Resume>, job: &Job<'_>, cx: &mut Context<'_>) -> Result<Step, Fault> {
        let (tried, block) = (self.reading, job.shape.block());
        match answer {
            Some(Resume::Stored(Done::Failed(Error { kind: ErrorKind::NoMemory, .. }))) if tried > block => {
                self.span.at -= u64::from(tried);
                self.span.left += u64::from(tried);
                Ok(self.read((tried / 4).next_multiple_of(block), job, cx))
            }
            other => Err(unexpected(other, &job.shape)),
        }
    }
}

/// What a write looks at afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Check {
    Nothing,
    /// Whether the medium can be read.
    Medium,
    /// Whether it holds what was written.
    Bytes,
}

/// WRITE(6), (10), (12), (16), (32) and WRITE AND VERIFY(10), (12), (16), (32).
#[derive(Debug)]
pub struct Write {
    span: Span,
    wanted: u64,
    fua: bool,
    check: Check,
    /// The chunk under way, and how many bytes came before it.
    chunk: (u64, u32),
    before: u64,
    /// Its bytes, if they are to be compared.
    held: Sg,
}

impl Write {
    // Always, as for [`Read::begin`].
    #[inline(always)]
    fn with(job: &Job<'_>, fua: bool, check: Check) -> Result<Self, Fault> {
        let mut span = extent(job)?.span(&job.shape);
        let wanted = span.left;
        span.left = job.shape.offered(job.command.expected.data_out, wanted)?;
        job.counts.command(MediumAccess::Write, span.left);
        let fua = job.unit.writes_through(fua);
        Ok(Self { span, wanted, fua, check, chunk: (0, 0), before: 0, held: Sg::new() })
    }

    // Always, as for [`Read::begin`].
    #[inline(always)]
    pub(super) fn begin(job: &Job<'_>, _: &mut Context<'_>) -> Result<Self, Fault> {
        Self::with(job, fua(&job.cdb), Check::Nothing)
    }

    pub(super) fn begin_verified(job: &Job<'_>, _: &mut Context<'_>) -> Result<Self, Fault> {
        let check = match byte_check(&job.cdb) {
            0 => Check::Medium,
            1 => Check::Bytes,
            _ => return Err(Sense::invalid_field_in_cdb(1, Some(2)).into()),
        };
        // The medium is what is verified, so the bytes have to be there.
        Self::with(job, true, check)
    }

    // Always: each step of a WRITE comes by.
    #[inline(always)]
    pub(super) fn advance(&mut self, answer: Option<Resume>, job: &Job<'_>) -> Result<Step, Fault> {
        let (at, len) = self.chunk;
        match answer {
            None => {}
            Some(Resume::Fetched(data)) => {
                if self.check == Check::Bytes {
                    self.held = data.clone();
                }
                return Ok(Step::Store(Op::Write { at, data, fua: self.fua }));
            }
            Some(Resume::Stored(Done::Finished)) if self.check != Check::Nothing => {
                return Ok(read_back(at, len));
            }
            Some(Resume::Stored(Done::Finished)) => {}
            Some(Resume::Stored(Done::Data(data))) => {
                let held = std::mem::take(&mut self.held);
                if self.check == Check::Bytes {
                    compare(&held, &data, self.before)?;
                }
            }
            other => return Err(unexpected(other, &job.shape)),
        }
        self.before += u64::from(len);
        if self.span.left == 0 {
            return Ok(Step::Finish(Outcome::took(self.wanted)));
        }
        self.chunk = self.span.take(job.shape.chunk);
        Ok(Step::Fetch { len: self.chunk.1 })
    }
}

/// What VERIFY compares the medium with.
#[derive(Debug)]
enum Against {
    /// With nothing: it has only to be readable.
    Nothing,
    /// With as many bytes of the initiator's.
    Bytes(Sg),
    /// Each block with the same one of the initiator's.
    Block(Sg),
}

/// VERIFY(10), (12), (16), (32).
#[derive(Debug)]
pub struct Verify {
    span: Span,
    wanted: u64,
    against: Against,
    chunk: (u64, u32),
    before: u64,
}

/// BYTCHK.
fn byte_check(cdb: &[u8; 16]) -> u8 {
    cdb[1] >> 1 & 3
}

impl Verify {
    pub(super) fn begin(job: &Job<'_>, _: &mut Context<'_>) -> Result<Self, Fault> {
        let extent = extent(job)?;
        let mut span = extent.span(&job.shape);
        let block = u64::from(job.shape.block());
        let (against, wanted) = match byte_check(&job.cdb) {
            0 => (Against::Nothing, 0),
            1 => (Against::Bytes(Sg::new()), span.left),
            3 => (Against::Block(Sg::new()), block.min(span.left)),
            _ => return Err(Sense::invalid_field_in_cdb(1, Some(2)).into()),
        };
        let offered = job.shape.offered(job.command.expected.data_out, wanted)?;
        match against {
            Against::Nothing => {}
            Against::Bytes(_) => span.left = offered,
            Against::Block(_) if offered < wanted => span.left = 0,
            Against::Block(_) => {}
        }
        job.counts.command(MediumAccess::Verify, span.left);
        Ok(Self { span, wanted, against, chunk: (0, 0), before: 0 })
    }

    pub(super) fn advance(&mut self, answer: Option<Resume>, job: &Job<'_>) -> Result<Step, Fault> {
        match answer {
            None if self.span.left == 0 => {}
            None if matches!(self.against, Against::Block(_)) => {
                return Ok(Step::Fetch { len: job.shape.block() });
            }
            None => {}
            Some(Resume::Fetched(data)) => match &mut self.against {
                Against::Bytes(held) => {
                    *held = data;
                    return Ok(read_back(self.chunk.0, self.chunk.1));
                }
                Against::Block(held) => *held = data,
                Against::Nothing => {}
            },
            Some(Resume::Stored(Done::Data(data))) => self.look_at(data, &job.shape)?,
            other => return Err(unexpected(other, &job.shape)),
        }
        self.before += u64::from(self.chunk.1);
        if self.span.left == 0 {
            return Ok(Step::Finish(Outcome::took(self.wanted)));
        }
        self.chunk = self.span.take(job.shape.chunk);
        let (at, len) = self.chunk;
        Ok(match self.against {
            Against::Bytes(_) => Step::Fetch { len },
            _ => read_back(at, len),
        })
    }

    fn look_at(&mut self, mut data: Sg, limits: &Limits) -> Result<(), Fault> {
        match &mut self.against {
            Against::Nothing => {}
            Against::Bytes(held) => compare(&std::mem::take(held), &data, self.before)?,
            Against::Block(block) => {
                while !data.is_empty() {
                    let next = data.split_to(data.len().min(limits.block() as usize));
                    compare(block, &next, 0)?;
                }
            }
        }
        Ok(())
    }
}

/// Compares the initiator's bytes with as many of the medium. Both are copied to be looked at: the store may have
/// lent pages that other cores can write.
fn compare(initiator: &Sg, medium: &Sg, before: u64) -> Result<(), Fault> {
    const PIECE: usize = 4096;
    let (mut a, mut b) = ([0; PIECE], [0; PIECE]);
    for at in (0..initiator.len()).step_by(PIECE) {
        let n = initiator.copy_to(at, &mut a);
        medium.copy_to(at, &mut b[..n]);
        if a[..n] != b[..n] {
            let i = a.iter().zip(&b).take_while(|(a, b)| a == b).count();
            return Err(miscompare(before + (at + i) as u64));
        }
    }
    Ok(())
}
