// SPDX-License-Identifier: GPL-2.0-or-later
//! Tasks that wait for a record to be kept.

use super::{NexusKey, TaskManager, Transports};
use crate::io::{Error, ErrorKind, Record, Tag};
use crate::scsi::Resume;
use crate::time::Instant;

impl TaskManager {
    /// Takes the records that are kept, and carries their tasks on.
    pub(super) fn poll_keeper(
        &mut self,
        now: Instant,
        transports: &mut dyn Transports,
        touched: &mut dyn FnMut(NexusKey),
    ) -> usize {
        let mut kept = Vec::new();
        if let Some(keeper) = &mut self.keeper {
            keeper.poll(&mut kept);
        }
        self.keeping -= kept.len();
        for &(tag, result) in &kept {
            if !self.kept(tag, result) {
                self.carry_on(now, tag.0, Resume::Kept(result), transports, touched);
            }
        }
        kept.len()
    }

    /// Hands a record of a task over; an error if nothing can be kept.
    pub(super) fn keep(&mut self, task: u32, record: Record) -> Result<(), Error> {
        match (&mut self.keeper, self.units[self.tasks[task as usize].unit].shelf) {
            (Some(keeper), Some(shelf)) => {
                keeper.keep(Tag(task), shelf, record);
                self.keeping += 1;
                Ok(())
            }
            _ => Err(Error { kind: ErrorKind::Unsupported, at: 0 }),
        }
    }
}
