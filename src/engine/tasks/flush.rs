// SPDX-License-Identifier: GPL-2.0-or-later
//! The end: everything that was written is brought to stable storage, and what could not be is told.

use super::TaskManager;
use super::last_flush::{FLUSH, outcome};
use crate::io::{Done, Error, ErrorKind, Op, Submitted};
use crate::scsi::UnitKey;

impl TaskManager {
    /// Brings everything that was written to stable storage; [`TaskManager::flushed`] tells when. Called when no task
    /// is left.
    pub fn flush(&mut self) {
        let done = |row| self.retirement.is_flushing(row) || self.units[row].retired;
        let stores = self.units.iter().enumerate();
        let stores = stores.filter(|&(row, unit)| unit.store.is_some() && !done(row));
        self.last_flush.waiting = stores.map(|(unit, _)| unit).collect();
    }

    /// Carries the flushes on, as many at a time as the stores take, and tells whether all have ended.
    pub fn flushed(&mut self) -> bool {
        let flush = &mut self.last_flush;
        while let Some(&unit) = flush.waiting.last() {
            let this = &mut self.units[unit];
            let Some(store) = this.store.as_mut().filter(|_| !this.retired) else {
                // It has gone meanwhile.
                flush.waiting.pop();
                continue;
            };
            match store.submit(FLUSH, Op::Flush) {
                Submitted::Queued => {
                    this.storing += 1;
                    flush.under_way += 1;
                }
                Submitted::Done(done) => flush.note(this.key, &done),
                Submitted::Full(_) if flush.under_way > 0 => return false,
                // No task is left, and nothing comes back that would make room.
                Submitted::Full(_) => {
                    flush.failed.push((this.key, Error { kind: ErrorKind::NoMemory, at: 0 }));
                }
            }
            flush.waiting.pop();
        }
        flush.under_way == 0 && !self.retirement.any_flushing()
    }

    /// A store has answered [`FLUSH`].
    pub(super) fn flush_ended(&mut self, row: usize, done: &Done) {
        match self.retirement.flushed(row) {
            true => self.tell_retired(row, outcome(done)),
            false => self.last_flush.ended(self.units[row].key, done),
        }
    }

    /// The logical units that could not be flushed, and why.
    pub fn unflushed(&self) -> &[(UnitKey, Error)] {
        &self.last_flush.failed
    }
}
