// SPDX-License-Identifier: GPL-2.0-or-later
//! FORMAT UNIT and SANITIZE (SBC-3 5.3, 5.22 and 4.11): the whole medium gets new contents, and nothing else is carried
//! out meanwhile.
//!
//! Commands under way when it begins end like those that come while it lasts; their store operations are waited for, so
//! that no old write follows the new contents.

use crate::io::{self, Done, Op};
use crate::memory::{Seg, Sg};
use crate::scsi::primary::{DeviceType, Fault, Span, UnitFlags, unexpected};
use crate::scsi::{Context, Outcome, Resume, Sense, Step, asc, key};
use crate::wire::scsi::{be16, be32};

use super::disk::{Disk, Job};
use super::flags::{CORRUPT, EJECTED, ERASING, EXIT_ALLOWED, FORMATTING, SANITIZING, UNSANITIZED};
use super::provisioning::{unmap_step, zeros};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EraseKind {
    Format,
    Overwrite,
    BlockErase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EraseStage {
    /// Nothing has happened yet.
    Before,
    /// Writes that had begun are waited for.
    Settling,
    Erasing,
    Flushing,
}

/// FORMAT UNIT and SANITIZE.
#[derive(Debug)]
pub struct Erase {
    kind: EraseKind,
    /// Bytes of the parameter list.
    wanted: u32,
    /// The status comes before the work.
    immediate: bool,
    exit_allowed: bool,
    stage: EraseStage,
    /// What is written; `None`: the blocks are deallocated.
    pattern: Option<Seg>,
    passes: u32,
    pass: u32,
    invert: bool,
    span: Span,
    /// Bytes per pass.
    all: u64,
}

impl Erase {
    fn work(job: &Job<'_>, kind: EraseKind, wanted: u32, immediate: bool) -> Result<Self, Fault> {
        let parameters = job.primary().flags();
        if parameters.has(EJECTED) {
            return Err(Sense::new(key::NOT_READY, asc::MEDIUM_NOT_PRESENT).into());
        }
        let all = job.shape.bytes(job.shape.capacity);
        Ok(Self {
            kind,
            wanted,
            immediate,
            exit_allowed: job.cdb[1] & 0x20 != 0,
            stage: EraseStage::Before,
            pattern: (!job.shape.thin).then(|| zeros(&job.shape)),
            passes: 1,
            pass: 0,
            invert: false,
            span: Span { at: 0, left: all },
            all,
        })
    }

    /// FORMAT UNIT: the blocks read as zeros afterwards. There are no defects to list.
    pub(super) fn begin_format(job: &Job<'_>, _: &mut Context<'_>) -> Result<Self, Fault> {
        const FMTDATA: u8 = 0x10;
        const LONGLIST: u8 = 0x20;
        if job.cdb[1] >> 6 != 0 {
            // FMTPINFO: there is no protection information.
            return Err(Sense::invalid_field_in_cdb(1, Some(7)).into());
        }
        let wanted = match (job.cdb[1] & FMTDATA != 0, job.cdb[1] & LONGLIST != 0) {
            (false, _) => 0,
            (true, false) => 4,
            (true, true) => 8,
        };
        Self::work(job, EraseKind::Format, wanted, false)
    }

    /// SANITIZE, service action OVERWRITE.
    pub(super) fn begin_overwrite(job: &Job<'_>, _: &mut Context<'_>) -> Result<Self, Fault> {
        let wanted = be16(&job.cdb, 7).into();
        if wanted < 5 || wanted > 4 + job.shape.block() {
            return Err(Sense::invalid_field_in_cdb(7, None).into());
        }
        Self::work(job, EraseKind::Overwrite, wanted, job.cdb[1] & 0x80 != 0)
    }

    /// SANITIZE, service action BLOCK ERASE.
    pub(super) fn begin_block_erase(job: &Job<'_>, _: &mut Context<'_>) -> Result<Self, Fault> {
        if be16(&job.cdb, 7) != 0 {
            return Err(Sense::invalid_field_in_cdb(7, None).into());
        }
        Self::work(job, EraseKind::BlockErase, 0, job.cdb[1] & 0x80 != 0)
    }

    /// SANITIZE, service action EXIT FAILURE MODE.
    pub(super) fn exit_failure_mode(job: &Job<'_>) -> Result<Outcome, Fault> {
        let failed = UNSANITIZED;
        let (old, _) = job.primary().change_flags(|p| {
            if p.has(EXIT_ALLOWED) {
                p.set(UnitFlags(failed.0 | EXIT_ALLOWED.0), false);
            }
        });
        if old.has(failed) && !old.has(EXIT_ALLOWED) {
            return Err(Sense::invalid_field_in_cdb(1, Some(4)).into());
        }
        Ok(Outcome::good())
    }

    fn bit(&self) -> UnitFlags {
        if self.kind == EraseKind::Format { FORMATTING } else { SANITIZING }
    }

    pub(super) fn advance(
        &mut self,
        answer: Option<Resume>,
        job: &Job<'_>,
        cx: &mut Context<'_>,
    ) -> Result<Step, Fault> {
        match (self.stage, answer) {
            (EraseStage::Before, None) if self.wanted != 0 => {
                if job.command.expected.data_out < self.wanted {
                    return Err(Sense::illegal(asc::PARAMETER_LIST_LENGTH_ERROR).into());
                }
                Ok(Step::Fetch { len: self.wanted })
            }
            (EraseStage::Before, None) => self.enter(job),
            (EraseStage::Before, Some(Resume::Fetched(list))) => {
                self.read_list(&list, job, cx)?;
                self.enter(job)
            }
            (EraseStage::Settling, Some(Resume::Detached)) => Ok(settle()),
            // A store that cannot compare and write has nobody to wait for.
            (EraseStage::Settling, Some(Resume::Stored(Done::Finished | Done::Failed(UNSUPPORTED)))) => {
                self.stage = EraseStage::Erasing;
                self.next(job, cx)
            }
            (EraseStage::Erasing, Some(Resume::Stored(Done::Finished))) => {
                let done = u64::from(self.pass) * self.all + (self.all - self.span.left);
                job.primary().set_progress(done, u64::from(self.passes) * self.all);
                self.next(job, cx)
            }
            (EraseStage::Flushing, Some(Resume::Stored(Done::Finished))) => {
                let bits = self.bit();
                job.primary().change_flags(|p| p.set(UnitFlags(bits.0 | FAILURES.0), false));
                Ok(Step::Finish(Outcome::took(self.wanted.into())))
            }
            (EraseStage::Before, other) => Err(unexpected(other, &job.shape)),
            (_, other) => {
                self.failed(job.unit);
                Err(unexpected(other, &job.shape))
            }
        }
    }

    /// From here on nothing else is carried out.
    fn enter(&mut self, job: &Job<'_>) -> Result<Step, Fault> {
        let bit = self.bit();
        let (old, _) = job.primary().change_flags(|p| {
            if !p.has(ERASING) {
                p.set(bit, true);
            }
        });
        if old.has(ERASING) {
            return Err(job.unit.busy_erasing().into());
        }
        job.primary().set_progress(0, 1);
        self.stage = EraseStage::Settling;
        Ok(if self.immediate { Step::Detach(Outcome::took(self.wanted.into())) } else { settle() })
    }

    fn next(&mut self, job: &Job<'_>, cx: &Context<'_>) -> Result<Step, Fault> {
        if self.span.left == 0 {
            self.pass += 1;
            if self.pass == self.passes {
                self.stage = EraseStage::Flushing;
                return Ok(Step::Store(Op::Flush));
            }
            self.span = Span { at: 0, left: self.all };
            if self.invert
                && let Some(pattern) = &self.pattern
            {
                let Some(mut inverted) = cx.arena.alloc(pattern.len()) else {
                    self.failed(job.unit);
                    return Err(Fault::Busy);
                };
                pattern.copy_to(0, inverted.bytes_mut());
                inverted.bytes_mut().iter_mut().for_each(|byte| *byte = !*byte);
                self.pattern = Some(inverted.freeze());
            }
        }
        let Some(pattern) = self.pattern.clone() else {
            return Ok(unmap_step(&mut self.span, &job.shape, false));
        };
        let (at, len) = self.span.take(job.shape.chunk);
        Ok(Step::Store(Op::WriteSame { at, len: len.into(), pattern, fua: false }))
    }

    fn read_list(&mut self, list: &Sg, job: &Job<'_>, cx: &Context<'_>) -> Result<(), Fault> {
        let mut header = [0; 8];
        list.copy_to(0, &mut header);
        let invalid = |byte, bit| {
            Sense::illegal(asc::INVALID_FIELD_IN_PARAMETER_LIST).pointing_at(false, byte, Some(bit))
        };
        if self.kind == EraseKind::Format {
            const IMMED: u8 = 0x02;
            const INITIALIZATION_PATTERN: u8 = 0x08;
            let defects = if self.wanted == 4 { be16(&header, 2).into() } else { be32(&header, 4) };
            if header[1] & INITIALIZATION_PATTERN != 0 {
                return Err(invalid(1, 3).into());
            }
            if defects != 0 {
                return Err(invalid(if self.wanted == 4 { 2 } else { 4 }, 7).into());
            }
            self.immediate = header[1] & IMMED != 0;
            return Ok(());
        }
        // Overwrite: how often, with what, and whether every other time with its complement.
        let (count, len) = (header[0] & 0x1f, u32::from(be16(&header, 2)));
        if count == 0 {
            return Err(Sense::invalid_field_in_cdb(7, None).into());
        }
        if len == 0 || len + 4 > self.wanted || len > job.shape.block() {
            return Err(Sense::invalid_field_in_cdb(7, None).into());
        }
        let mut block = cx.arena.alloc(job.shape.block() as usize).ok_or(Fault::Busy)?;
        for piece in block.bytes_mut().chunks_mut(len as usize) {
            list.copy_to(4, piece);
        }
        self.pattern = Some(block.freeze());
        (self.passes, self.invert) = (count.into(), header[0] & 0x80 != 0);
        Ok(())
    }

    /// The medium is neither what it was nor what it should be.
    fn failed(&self, disk: &Disk) {
        let (bit, exit) = (self.bit(), self.exit_allowed);
        let failure = if self.kind == EraseKind::Format { CORRUPT } else { UNSANITIZED };
        disk.primary().change_flags(|p| {
            p.set(bit, false);
            p.set(failure, true);
            p.set(EXIT_ALLOWED, exit);
        });
    }

    /// Nothing but the end of the daemon stops a sanitize operation that has begun (SBC-3 4.11.2).
    pub(super) fn goes_on(&self) -> bool {
        self.kind != EraseKind::Format && self.stage != EraseStage::Before
    }

    /// The task is aborted.
    pub(super) fn aborted(&self, disk: &Disk) {
        if self.stage != EraseStage::Before {
            self.failed(disk);
        }
    }
}

const FAILURES: UnitFlags = UnitFlags(CORRUPT.0 | UNSANITIZED.0 | EXIT_ALLOWED.0);
const UNSUPPORTED: io::Error = io::Error { kind: io::ErrorKind::Unsupported, at: 0 };

/// A compare and write of nothing, which nobody gets in between of: all that was submitted before has ended then.
fn settle() -> Step {
    Step::Store(Op::CompareAndWrite { at: 0, compare: None, data: Sg::new(), fua: false })
}
