// SPDX-License-Identifier: GPL-2.0-or-later
//! The order of tasks and memory that is lent. A READ has ended when the transport has its data, but where the store
//! lends its pages the bytes are read from them only as they go out, perhaps more than once: a write that the task set
//! puts behind the READ would be carried out too early.
//!
//! So before an ORDERED task starts, and after an ORDERED or a HEAD OF QUEUE task has ended, what the nexus was lent
//! until then has to come back: a fence is raised, which holds the lease of those segments, and later reads are lent
//! under another. No other nexus can keep it up, and a peer that acknowledges nothing is cut off by its own timeouts.
//!
//! So it is, too, when a logical unit takes the place of another: what the nexus has under way there goes first.

use super::{NexusKey, TaskManager, Transports, UnitKey};
use crate::time::Instant;

impl TaskManager {
    /// Raises a fence if anything that was lent to a nexus is out. Returns whether one is up.
    pub(super) fn raise_fence(&mut self, nexus: usize, task_set: usize) -> bool {
        let entry = &mut self.nexuses[nexus].task_sets[task_set];
        if let Some(lease) = entry.lease.take_if(|lease| lease.is_out()) {
            entry.lease = self.units[entry.unit.row()].store.as_ref().and_then(|store| store.lease());
            if !entry.is_fenced() {
                entry.ahead += 1;
                self.fenced.push((nexus, task_set));
            }
            entry.fences.push(lease);
        }
        entry.is_fenced()
    }

    /// Raises a fence before a new task set until that of the same LUN in a unit is gone, whose place it takes, and
    /// what was lent there has come back.
    pub(super) fn raise_fence_after(&mut self, nexus: usize, task_set: usize, unit: UnitKey) {
        let entry = &mut self.nexuses[nexus];
        let (seen, unseen) = entry.task_sets.split_at_mut(entry.seen);
        let this = &mut seen[task_set];
        let before = unseen.iter_mut().find(|before| (before.lun, before.unit) == (this.lun, unit));
        let Some(before) = before else { return };
        this.after = if before.is_idle() { before.after } else { Some(unit) };
        this.fences.extend(before.lease.take_if(|lease| lease.is_out()));
        if before.is_idle() {
            this.fences.append(&mut before.fences);
        }
        if this.is_fenced() {
            this.ahead += 1;
            self.fenced.push((nexus, task_set));
        }
    }

    /// Whether [`Self::poll_fences`] has something to do.
    pub(super) fn any_fence_open(&self) -> bool {
        self.fenced.iter().any(|&(nexus, task_set)| self.is_fence_open(nexus, task_set))
    }

    /// Whether nothing is out any more. The nexus may be another one by now, or none.
    fn is_fence_open(&self, nexus: usize, task_set: usize) -> bool {
        let Some(nexus) = self.nexuses.get(nexus) else { return true };
        let goes = |unit| nexus.unseen().iter().any(|other| other.unit == unit);
        nexus.task_sets.get(task_set).is_none_or(|task_set| {
            !task_set.fences.iter().any(|lease| lease.is_out()) && !task_set.after.is_some_and(goes)
        })
    }

    /// Lets tasks start that have waited for what was lent. Returns for how many nexuses.
    pub(super) fn poll_fences(
        &mut self,
        now: Instant,
        transports: &mut dyn Transports,
        touched: &mut dyn FnMut(NexusKey),
    ) -> usize {
        let mut opened = 0;
        let mut index = 0;
        while let Some(&(nexus, task_set)) = self.fenced.get(index) {
            if !self.is_fence_open(nexus, task_set) {
                index += 1;
                continue;
            }
            self.fenced.swap_remove(index);
            let entry = self.nexuses.get_mut(nexus).and_then(|nexus| nexus.task_sets.get_mut(task_set));
            let Some(entry) = entry.filter(|entry| entry.is_fenced()) else { continue };
            entry.fences.clear();
            entry.after = None;
            entry.ahead -= 1;
            opened += 1;
            let key = NexusKey(nexus);
            if let Some(transport) = transports.transport(key) {
                self.unblock(now, nexus, task_set, transport);
                touched(key);
            }
        }
        opened
    }
}
