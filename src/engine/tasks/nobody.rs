// SPDX-License-Identifier: GPL-2.0-or-later
//! The transport of tasks that go on when their initiator has its answer.

use crate::memory::Sg;
use crate::scsi::{Request, RequestTag, Response, Status, TaskManagementResponse, Transport};

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
