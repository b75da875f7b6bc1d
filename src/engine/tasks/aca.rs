// SPDX-License-Identifier: GPL-2.0-or-later
//! What becomes of a task set when one of its tasks ends with CHECK CONDITION: the ACA condition (SAM-5 5.9) and QErr
//! (SPC-5 7.5.8).
//!
//! With a task set per nexus (TST = 001b) every condition is the affair of one nexus, and so of one core. While an ACA
//! condition lasts, the tasks of the set do not end: they are carried on as far as their status, which is held. Those
//! that waited for their turn go on waiting.

use smallvec::SmallVec;

use super::task::State;
use super::task_set::Aca;
use super::{AfterAbort, NexusKey, TaskManager};
use crate::scsi::{Outcome, Status, Transport};
use crate::time::Instant;

impl TaskManager {
    /// Ends a task with CHECK CONDITION, or one of a set with an ACA condition.
    #[cold]
    pub(super) fn finish_in_set(
        &mut self,
        now: Instant,
        task: u32,
        task_set: usize,
        outcome: Outcome,
        transport: &mut dyn Transport,
    ) {
        let this = &mut self.tasks[task as usize];
        let nexus = this.nexus;
        let set = &mut self.nexuses[nexus].task_sets[task_set];
        if set.aca.is_some_and(|aca| aca.task != Some(task)) {
            this.state = State::Halted;
            set.halted.push_back((task, outcome));
            return self.give_up_turn(task);
        }
        let of_aca = set.aca.is_some();
        let check = outcome.status == Status::CheckCondition;
        let naca = this.command.cdb.naca();
        if check && !this.cleared && self.units[this.unit].server.control().abort_others {
            let others = self.nexuses[nexus].exchanges.iter().flatten().copied();
            let others = others
                .filter(|&other| other != task && self.tasks[other as usize].task_set == Some(task_set));
            let others: SmallVec<[u32; 16]> = others.collect();
            if !others.is_empty() {
                // Nothing of theirs is written any more once the status is out.
                let this = &mut self.tasks[task as usize];
                (this.state, this.cleared) = (State::Finishing, true);
                self.changes.finishing.push((task, outcome));
                let pending = self.expect(SmallVec::new(), AfterAbort::Status(task));
                self.abort_all(now, others, pending, Some((NexusKey(nexus), transport)));
                return self.one_less(pending);
            }
        }
        self.complete(task, outcome, transport);
        if check {
            // It begins a condition, or, as the task with the ACA attribute, at least ends the one there is.
            self.nexuses[nexus].task_sets[task_set].aca = naca.then(Aca::default);
        }
        self.end(now, task, Some(transport));
        if of_aca {
            self.go_on(now, nexus, task_set, transport);
        }
    }

    /// CLEAR ACA (SAM-5 7.4).
    pub(super) fn clear_aca(
        &mut self,
        now: Instant,
        nexus: NexusKey,
        task_set: usize,
        after: AfterAbort,
        transport: &mut dyn Transport,
    ) {
        let aca = self.nexuses[nexus.0].task_sets[task_set].aca.take().unwrap_or_default();
        let pending = self.expect(SmallVec::new(), after);
        self.abort_all(now, aca.task.into_iter().collect(), pending, Some((nexus, transport)));
        self.go_on(now, nexus.0, task_set, transport);
        self.unblock(now, nexus.0, task_set, transport);
        self.one_less(pending);
    }

    /// Those whose status was held get it, up to the next that establishes an ACA condition. Called when one has ended,
    /// and not by the end of those that it ends, so that a long queue makes no deep stack.
    fn go_on(&mut self, now: Instant, nexus: usize, task_set: usize, transport: &mut dyn Transport) {
        while let Some(entry) = self.nexuses.get_mut(nexus)
            && entry.task_sets[task_set].aca.is_none()
            && let Some((task, outcome)) = entry.task_sets[task_set].halted.pop_front()
        {
            self.finish(now, task, outcome, transport);
        }
        if let Some(entry) = self.nexuses.get(nexus) {
            self.call_next(entry.task_sets[task_set].unit.row());
        }
    }
}
