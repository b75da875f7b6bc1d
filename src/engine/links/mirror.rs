// SPDX-License-Identifier: GPL-2.0-or-later
//! A nexus of another core, as the owner of logical units that it sees has it: a transport whose calls go through the
//! ring.

use std::collections::VecDeque;

use super::message::{AwayPayload, LinkMessage, OutgoingRing, charge, payload};
use crate::engine::tasks::{NexusKey, NexusMessage, TransportCall};
use crate::memory::{MemoryAccount, MemoryCharge, Sg};
use crate::scsi::{Command, Lun, Request, RequestTag, Response, Status, TaskManagementResponse, Transport};

/// Most of a command that is held at once.
const HELD_MAX: u32 = 1 << 20;

pub(super) struct Mirror {
    /// The key of its nexus here.
    pub(super) key: NexusKey,
    /// The key of its nexus at the core of the session.
    nexus: NexusKey,
    /// The link to that.
    pub(super) link: usize,
    outgoing: OutgoingRing,
    pub(super) requests: VecDeque<Request>,
    /// Data-Out that has come, and there is no memory for it.
    pub(super) landing: Vec<(RequestTag, AwayPayload)>,
    account: MemoryAccount,
    /// What its commands hold, by request tag.
    charges: Vec<Option<MemoryCharge>>,
}

impl Mirror {
    pub(super) fn new(
        key: NexusKey,
        nexus: NexusKey,
        link: usize,
        outgoing: OutgoingRing,
        account: MemoryAccount,
    ) -> Self {
        let (requests, landing, charges) = Default::default();
        Self { key, nexus, link, outgoing, requests, landing, account, charges }
    }

    /// A command has come. The core of its session has let it in; here it is only counted in.
    pub(super) fn charge_command(&mut self, request_tag: RequestTag, command: &Command) {
        let expected = command.expected;
        let charge = charge(&self.account, expected.data_in.max(expected.data_out).min(HELD_MAX).into());
        let slot = request_tag.0 as usize;
        if self.charges.len() <= slot {
            self.charges.resize_with(slot + 1, || None);
        }
        self.charges[slot] = Some(charge);
    }

    fn settle(&mut self, request_tag: RequestTag) -> Option<MemoryCharge> {
        self.charges.get_mut(request_tag.0 as usize)?.take()
    }

    fn call(&self, call: TransportCall<AwayPayload>) {
        let message = LinkMessage::Nexus(self.nexus, NexusMessage::Call(call));
        self.outgoing.borrow_mut().send(message);
    }
}

impl Transport for Mirror {
    fn poll_request(&mut self) -> Option<Request> {
        self.requests.pop_front()
    }

    fn receive_data_out(&mut self, request_tag: RequestTag, len: u32) {
        self.call(TransportCall::ReceiveDataOut(request_tag, len));
    }

    fn send_data_in(&mut self, request_tag: RequestTag, data: Sg) {
        let charge = charge(&self.account, data.len() as u64);
        self.call(TransportCall::SendDataIn(request_tag, payload(data, Some(charge))));
    }

    fn send_command_complete(&mut self, request_tag: RequestTag, response: Response) {
        let charge = self.settle(request_tag);
        let response = response.map_data(|data| payload(data, charge));
        self.call(TransportCall::SendCommandComplete(request_tag, response));
    }

    fn task_management_executed(&mut self, request: RequestTag, response: TaskManagementResponse) {
        self.call(TransportCall::TaskManagementExecuted(request, response));
    }

    fn terminate(&mut self, request_tag: RequestTag, status: Option<Status>) {
        self.settle(request_tag);
        for (_, payload) in self.landing.extract_if(.., |(tag, _)| *tag == request_tag) {
            self.outgoing.borrow_mut().send(LinkMessage::Home(payload));
        }
        self.call(TransportCall::Terminate(request_tag, status));
    }

    fn report_event(&mut self, lun: Lun, sense: &[u8]) {
        self.call(TransportCall::ReportEvent(lun, sense.into()));
    }
}
