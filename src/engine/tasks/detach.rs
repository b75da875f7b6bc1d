// SPDX-License-Identifier: GPL-2.0-or-later
//! Tasks that go on when their initiator has its answer.

use super::task::Task;
use super::{NOBODY, TaskManager};
use crate::scsi::{Outcome, Transport};
use crate::time::Instant;

impl TaskManager {
    /// The status of a command goes out while its task goes on.
    pub(super) fn detach(
        &mut self,
        now: Instant,
        task: u32,
        outcome: Outcome,
        transport: &mut dyn Transport,
    ) {
        self.complete(task, outcome, transport);
        self.part(now, task, Some(transport));
    }

    /// A task that is aborted, and goes on without its nexus: for that it is over.
    pub(super) fn orphan(&mut self, now: Instant, task: u32, mut transport: Option<&mut dyn Transport>) {
        self.terminate(task, transport.as_deref_mut());
        self.part(now, task, transport);
    }

    /// Parts a task from its nexus.
    fn part(&mut self, now: Instant, task: u32, transport: Option<&mut dyn Transport>) {
        let this = &mut self.tasks[task as usize];
        let of_nexus =
            Task { command: this.command.clone(), waiters: std::mem::take(&mut this.waiters), ..*this };
        (this.nexus, this.task_set) = (NOBODY, None);
        self.leave(now, task, &of_nexus, transport);
        for pending in of_nexus.waiters {
            self.one_less(pending);
        }
    }
}
