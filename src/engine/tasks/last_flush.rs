// SPDX-License-Identifier: GPL-2.0-or-later
//! How far the flushes at the end have come.

use crate::io::{Done, Error, Tag};
use crate::scsi::UnitKey;

/// Names a flush of the end: no task has this number.
pub(super) const FLUSH: Tag = Tag(u32::MAX);

/// How far the flushes of the end have come.
#[derive(Default)]
pub(super) struct LastFlush {
    /// Units whose stores have not been asked yet.
    pub(super) waiting: Vec<usize>,
    pub(super) under_way: usize,
    pub(super) failed: Vec<(UnitKey, Error)>,
}

impl LastFlush {
    pub(super) fn ended(&mut self, unit: UnitKey, done: &Done) {
        self.under_way -= 1;
        self.note(unit, done);
    }

    pub(super) fn note(&mut self, unit: UnitKey, done: &Done) {
        self.failed.extend(outcome(done).err().map(|error| (unit, error)));
    }
}

/// How a flush has ended.
pub(super) fn outcome(done: &Done) -> Result<(), Error> {
    match done {
        Done::Failed(error) => Err(*error),
        _ => Ok(()),
    }
}
