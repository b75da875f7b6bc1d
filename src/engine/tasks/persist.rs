// SPDX-License-Identifier: GPL-2.0-or-later
//! Tasks that wait for a record to be kept.

use super::{NexusKey, TaskManager, Transports};
use crate::io::{Error, ErrorKind, Record, Tag};
use crate::scsi::Resume;
use crate::time::Instant;

impl TaskManager {
    /// Takes the records that are kept, and carries their tasks on.
    pub(super) fn poll_records(
        &mut self,
        now: Instant,
        transports: &mut dyn Transports,
        touched: &mut dyn FnMut(NexusKey),
    ) -> usize {
        let mut kept = Vec::new();
        if let Some(record_store) = &mut self.record_store {
            record_store.poll(&mut kept);
        }
        self.persisting -= kept.len();
        for &(tag, result) in &kept {
            if !self.persisted(tag, result) {
                self.carry_on(now, tag.0, Resume::Persisted(result), transports, touched);
            }
        }
        kept.len()
    }

    /// Hands a record of a task over; an error if nothing can be kept.
    pub(super) fn persist(&mut self, task: u32, record: Record) -> Result<(), Error> {
        match (&mut self.record_store, self.units[self.tasks[task as usize].unit].slot) {
            (Some(record_store), Some(slot)) => {
                record_store.persist(Tag(task), slot, record);
                self.persisting += 1;
                Ok(())
            }
            _ => Err(Error { kind: ErrorKind::Unsupported, at: 0 }),
        }
    }
}
