// SPDX-License-Identifier: GPL-2.0-or-later
//! The order of tasks and memory that is lent. A READ has ended when the transport has its data, but where the store
//! lends its pages the bytes are read from them only as they go out, perhaps more than once: a write that the task set
//! puts behind the READ would be carried out too early.
//!
//! So before an ORDERED task starts, and after an ORDERED or a HEAD OF QUEUE task has ended, what the nexus was lent
//! until then has to come back: a fence is raised, which holds the lease of those segments, and later reads are lent
//! under another. No other nexus can keep it up, and a peer that acknowledges nothing is cut off by its own timeouts.

use super::{NexusKey, TaskManager, Transports};
use crate::time::Instant;

impl TaskManager {
    /// Raises a fence if anything that was lent to a nexus is out. Returns whether one is up.
    pub(super) fn raise_fence(&mut self, nexus: usize, task_set: usize) -> bool {
        let entry = &mut self.nexuses[nexus].task_sets[task_set];
        if let Some(lease) = entry.lease.take_if(|lease| lease.is_out()) {
            entry.lease = self.units[entry.unit.row()].store.as_ref().and_then(|store| store.lease());
            if entry.fences.is_empty() {
                entry.ahead += 1;
                self.fenced.push((nexus, task_set));
            }
            entry.fences.push(lease);
        }
        !entry.fences.is_empty()
    }

    /// Whether [`Self::poll_fences`] has something to do.
    pub(super) fn any_fence_open(&self) -> bool {
        self.fenced.iter().any(|&(nexus, task_set)| self.is_fence_open(nexus, task_set))
    }

    /// Whether nothing is out any more. The nexus may be another one by now, or none.
    fn is_fence_open(&self, nexus: usize, task_set: usize) -> bool {
        let task_set = self.nexuses.get(nexus).and_then(|nexus| nexus.task_sets.get(task_set));
        task_set.is_none_or(|task_set| !task_set.fences.iter().any(|lease| lease.is_out()))
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
            let Some(entry) = entry.filter(|entry| !entry.fences.is_empty()) else { continue };
            entry.fences.clear();
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
