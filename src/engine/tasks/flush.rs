// SPDX-License-Identifier: GPL-2.0-or-later
//! The end: everything that was written is brought to stable storage, and what could not be is told.

use super::TaskManager;
use super::last_flush::FLUSH;
use crate::io::{Error, ErrorKind, Op, Submitted};
use crate::scsi::UnitKey;

impl TaskManager {
    /// Brings everything that was written to stable storage; [`TaskManager::flushed`] tells when. Called when no task is
    /// left.
    pub fn flush(&mut self) {
        let stores = self.units.iter().enumerate().filter(|(_, unit)| unit.store.is_some());
        self.last_flush.waiting = stores.map(|(unit, _)| unit).collect();
    }

    /// Carries the flushes on, as many at a time as the stores take, and tells whether all have ended.
    pub fn flushed(&mut self) -> bool {
        let flush = &mut self.last_flush;
        while let Some(&unit) = flush.waiting.last() {
            let this = &mut self.units[unit];
            let Some(store) = &mut this.store else { unreachable!("units with a store wait") };
            match store.submit(FLUSH, Op::Flush) {
                Submitted::Queued => {
                    this.storing += 1;
                    flush.under_way += 1;
                }
                Submitted::Done(done) => flush.note(UnitKey(unit), &done),
                Submitted::Full(_) if flush.under_way > 0 => return false,
                // No task is left, and nothing comes back that would make room.
                Submitted::Full(_) => {
                    flush.failed.push((UnitKey(unit), Error { kind: ErrorKind::NoMemory, at: 0 }));
                }
            }
            flush.waiting.pop();
        }
        flush.under_way == 0
    }

    /// The logical units that could not be flushed, and why.
    pub fn unflushed(&self) -> &[(UnitKey, Error)] {
        &self.last_flush.failed
    }
}
