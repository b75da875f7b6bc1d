// SPDX-License-Identifier: GPL-2.0-or-later
//! Commands that are all about a short parameter list.

use std::fmt;

use smallvec::{SmallVec, smallvec};

use super::fault::{Fault, unexpected};
use super::unit::{DeviceType, Job};
use crate::io::Record;
use crate::scsi::{Context, Outcome, Resume, Sense, Step, asc};

/// What is done with the list. Returns the attention that it makes, and what is to be kept before the status.
pub type Apply<D> = fn(&Job<'_, D>, &[u8], &Context<'_>) -> Result<(Option<u16>, Option<Record>), Fault>;

/// Such a command under way.
pub struct TakeList<D: DeviceType> {
    wanted: u32,
    apply: Apply<D>,
    attention: Option<u16>,
}

impl<D: DeviceType> fmt::Debug for TakeList<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TakeList").field("wanted", &self.wanted).finish_non_exhaustive()
    }
}

impl<D: DeviceType> TakeList<D> {
    /// Of a list of `wanted` bytes, which may be none.
    pub fn new(wanted: u32, apply: Apply<D>) -> Self {
        Self { wanted, apply, attention: None }
    }

    pub(super) fn advance(
        &mut self,
        answer: Option<Resume>,
        job: &Job<'_, D>,
        cx: &Context<'_>,
    ) -> Result<Step, Fault> {
        let mut bytes: SmallVec<[u8; 64]> = SmallVec::new();
        match answer {
            None if self.wanted == 0 => {}
            None if job.command.expected.data_out < self.wanted => {
                return Err(Sense::illegal(asc::PARAMETER_LIST_LENGTH_ERROR).into());
            }
            None => return Ok(Step::Fetch { len: self.wanted }),
            Some(Resume::Fetched(list)) => {
                bytes = smallvec![0; list.len()];
                list.copy_to(0, &mut bytes);
            }
            Some(Resume::Persisted(Ok(()))) => return Ok(self.end()),
            // It is in force, and not kept: what `unexpected` says of that is true.
            other => return Err(unexpected(other, &job.shape)),
        }
        let (attention, record) = (self.apply)(job, &bytes, cx)?;
        self.attention = attention;
        Ok(record.map_or_else(|| self.end(), Step::Persist))
    }

    fn end(&self) -> Step {
        Step::Finish(Outcome::took(self.wanted.into()).telling_others(self.attention))
    }
}
