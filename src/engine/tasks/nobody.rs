// SPDX-License-Identifier: GPL-2.0-or-later
//! Tasks that go on when their initiator has its answer.

use std::sync::Arc;

use super::{NOBODY, TaskManager};
use crate::memory::Sg;
use crate::scsi::{
    Nexus, Outcome, Request, RequestTag, Response, Status, TargetPort, TaskManagementResponse, Transport,
    TransportId,
};
use crate::time::Instant;

/// The name of no nexus.
pub(super) fn name() -> Nexus {
    Nexus { initiator: TransportId::iscsi("", [0; 6]), port: Arc::new(TargetPort::iscsi(0, "", 0)) }
}

/// The transport of a task without a nexus: nothing comes from it, and what goes to it is dropped.
pub(super) struct Nobody;

impl Transport for Nobody {
    fn poll_request(&mut self) -> Option<Request> {
        None
    }

    fn receive_data_out(&mut self, _: RequestTag, _: u32) {}

    fn send_data_in(&mut self, _: RequestTag, _: Sg) {}

    fn send_command_complete(&mut self, _: RequestTag, _: Response) {}

    fn task_management_executed(&mut self, _: RequestTag, _: TaskManagementResponse) {}

    fn terminate(&mut self, _: RequestTag, _: Option<Status>) {}
}

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
        let of_nexus = super::Task {
            command: this.command.clone(),
            waiters: std::mem::take(&mut this.waiters),
            ..*this
        };
        (this.nexus, this.task_set) = (NOBODY, None);
        self.leave(now, task, &of_nexus, transport);
        for pending in of_nexus.waiters {
            self.one_less(pending);
        }
    }
}
