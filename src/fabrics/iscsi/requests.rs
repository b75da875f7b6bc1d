// SPDX-License-Identifier: GPL-2.0-or-later
//! Requests of the full feature phase that are no SCSI commands: ping, task management, logout. (Text is in
//! [`super::text`].)

use super::ConnectionKey;
use super::command_slots::CommandPhase;
use super::fence::Fence;
use super::framing::Pdu;
use super::functions::{PendingFunction, Scope};
use super::session::Session;
use super::shared::{ActiveConnection, Shared, Waiting};
use smallvec::SmallVec;

use crate::memory::Sg;
use crate::scsi::{Lun, Request, RequestTag, TaskManagementFunction, TaskManagementResponse};
use crate::time::Instant;
use crate::wire::iscsi::{
    Bhs, FunctionResponse, IscsiFunction, LogoutReason, LogoutRequestHeader, LogoutResponse,
    LogoutResponseHeader, NO_TAG, NopInHeader, NopOutHeader, PduHeader, RejectReason, ResponseNumbers,
    TaskManagementRequestHeader, TaskManagementResponseHeader,
};

/// Logouts for immediate delivery that wait for the end of tasks.
const LOGOUTS_MAX: usize = 16;

/// The tag of our own pings.
const PING_TAG: u32 = 1;

fn response_header(itt: u32, response: FunctionResponse) -> Bhs {
    TaskManagementResponseHeader { response, itt, numbers: ResponseNumbers::default() }.emit()
}

/// A ping of ours.
pub(super) fn ping_header() -> Bhs {
    NopInHeader { lun: 0, itt: NO_TAG, ttt: PING_TAG, numbers: ResponseNumbers::default() }.emit()
}

impl ActiveConnection<'_> {
    // Ping.

    pub(super) fn nop_out(&mut self, pdu: Pdu) {
        if pdu.bhs.itt() == NO_TAG {
            // The answer to our ping, or a sign of life: both were noted when the bytes came in.
            return;
        }
        if pdu.damaged {
            return self.reject_damaged(&pdu.bhs);
        }
        let mut data = pdu.data;
        data.truncate(self.connection.negotiated.max_xmit_data_segment_length as usize);
        let NopOutHeader { immediate, lun, itt, .. } = NopOutHeader::parse(&pdu.bhs);
        let pong = NopInHeader { lun, itt, ttt: NO_TAG, numbers: ResponseNumbers::default() };
        self.respond(!immediate, pong.emit(), data);
    }

    /// Asks whether the peer is alive.
    pub(super) fn ping(&mut self, now: Instant) {
        self.connection.pinged = Some(now);
        // It tells the next StatSN without consuming it (RFC 7143 11.19.2).
        self.answer(ping_header(), Sg::new(), false);
    }

    // Task management.

    pub(super) fn task_management_request(&mut self, pdu: &Pdu) {
        use TaskManagementFunction as F;
        let header = TaskManagementRequestHeader::parse(&pdu.bhs);
        let (itt, lun, referenced) = (header.itt, Lun(header.lun).normal(), header.referenced_task_tag);
        let (windowed, cmd_sn) = (!header.immediate, header.numbers.cmd_sn);
        let function = match header.function {
            IscsiFunction::ABORT_TASK => match self.abort_task(referenced, header.ref_cmd_sn, cmd_sn) {
                Ok(request_tag) => F::AbortTask(request_tag),
                Err(response) => return self.task_management_response(windowed, itt, response),
            },
            IscsiFunction::ABORT_TASK_SET => F::AbortTaskSet,
            IscsiFunction::CLEAR_ACA => F::ClearAca,
            IscsiFunction::CLEAR_TASK_SET => F::ClearTaskSet,
            IscsiFunction::LOGICAL_UNIT_RESET => F::LogicalUnitReset,
            IscsiFunction::TARGET_WARM_RESET => F::TargetReset,
            IscsiFunction::TARGET_COLD_RESET => F::TargetColdReset,
            IscsiFunction::TASK_REASSIGN => {
                return self.task_management_response(windowed, itt, FunctionResponse::NO_REASSIGN);
            }
            _ => return self.task_management_response(windowed, itt, FunctionResponse::NOT_SUPPORTED),
        };
        if !windowed && self.session.has_too_many_functions() {
            return self.task_management_response(windowed, itt, FunctionResponse::REJECTED);
        }
        let scope = match function {
            F::AbortTask(_) => Scope::Task(referenced),
            F::AbortTaskSet | F::ClearTaskSet | F::LogicalUnitReset => Scope::Unit(lun),
            F::TargetReset | F::TargetColdReset => Scope::Target,
            F::ClearAca => Scope::Nothing,
        };
        if let Scope::Target = scope {
            self.session.fill_gap(self.key, cmd_sn);
        }
        self.session.abort_early(scope, cmd_sn);
        self.session.commands.close_waiting(scope);
        self.session.commands.concern(scope);
        self.session.answering += u32::from(windowed);
        let pending = PendingFunction { connection: Some(self.key), itt, scope, windowed, answer: None };
        let request = self.session.task_management.insert(pending);
        let request = RequestTag(u32::try_from(request).expect("as few as the window admits"));
        let nexus = self.session.nexus;
        self.session.requests.push_back(Request::TaskManagement { request, nexus, function, lun });
    }

    /// The task of an ABORT TASK, or the response if the task manager has none of that tag.
    fn abort_task(
        &mut self,
        referenced: u32,
        ref_cmd_sn: u32,
        cmd_sn: u32,
    ) -> Result<RequestTag, FunctionResponse> {
        let named = (referenced != NO_TAG).then_some(referenced);
        match named.and_then(|tag| self.session.commands.find(tag)) {
            Some(index) => self.session.abort_exchange(index),
            // RefCmdSN tells whether the task is still to come or has come and gone.
            None if self.session.abort_before_arrival(self.key, ref_cmd_sn, cmd_sn) => {
                Err(FunctionResponse::COMPLETE)
            }
            None => Err(FunctionResponse::NO_SUCH_TASK),
        }
    }

    fn task_management_response(&mut self, windowed: bool, itt: u32, response: FunctionResponse) {
        if !self.connection.is_closing() {
            self.respond(windowed, response_header(itt, response), Sg::new());
        }
    }

    /// Puts a fence behind all that waits to be sent. Returns whether something does, or is to be acknowledged.
    fn fence(&mut self) -> bool {
        let busy = self.connection.is_behind();
        if busy {
            self.connection.outbox.push_fence();
        }
        busy
    }

    // Logout.

    pub(super) fn logout_request(&mut self, pdu: &Pdu) {
        let LogoutRequestHeader { immediate, reason, itt, cid, .. } = LogoutRequestHeader::parse(&pdu.bhs);
        if immediate
            && self.session.waiting.iter().filter(|(_, what)| !what.is_windowed()).count() >= LOGOUTS_MAX
        {
            return self.reject(&pdu.bhs, RejectReason::TOO_MANY_IMMEDIATE);
        }
        let mut own = true;
        let response = match reason {
            LogoutReason::CLOSE_SESSION => {
                let (session, own) = (&mut *self.session, self.key);
                // Those that are about to join it, too.
                let joining = session.waiting.iter().filter(|(_, what)| matches!(what, Waiting::Join));
                let all = session.cids.iter().map(|(_, key)| *key).chain(joining.map(|(key, _)| *key));
                session.ending.extend(all.filter(|key| *key != own));
                LogoutResponse::CLOSED
            }
            LogoutReason::CLOSE_CONNECTION => match self.session.cids.iter().find(|(own, _)| *own == cid) {
                Some((_, key)) if *key == self.key => LogoutResponse::CLOSED,
                Some((_, key)) => {
                    own = false;
                    self.session.ending.push(*key);
                    LogoutResponse::CLOSED
                }
                None => LogoutResponse::NO_SUCH_CONNECTION,
            },
            LogoutReason::RECOVERY => LogoutResponse::NO_RECOVERY,
            _ => return self.reject(&pdu.bhs, RejectReason::INVALID_PDU_FIELD),
        };
        let [time2wait, time2retain] = self.times();
        let numbers = ResponseNumbers::default();
        let bhs = LogoutResponseHeader { response, itt, numbers, time2wait, time2retain }.emit();
        let windowed = !immediate;
        // The answer says that all is cleaned up (RFC 7143 11.15): it comes when the tasks have ended.
        let waits = match response == LogoutResponse::CLOSED && own {
            true => {
                self.leave();
                Waiting::Leave(bhs, windowed)
            }
            false => Waiting::Answer(bhs, windowed),
        };
        self.session.answering += u32::from(windowed);
        self.session.waiting.push((self.key, waits));
    }
}

impl Shared {
    /// Whether the initiator knows of the end of a task on a connection: it has asked for that by name, or on the same
    /// connection (RFC 7143 4.2.3.4).
    pub(super) fn ends_by_itself(&self, connection: ConnectionKey, itt: u32, lun: u64) -> bool {
        self.task_management.iter().any(|(_, pending)| {
            let told = matches!(pending.scope, Scope::Task(_)) || pending.connection == Some(connection);
            told && pending.scope.covers(itt, lun)
        })
    }

    fn abort_exchange(&mut self, index: u32) -> Result<RequestTag, FunctionResponse> {
        match self.commands.slot(index).phase {
            CommandPhase::Task | CommandPhase::Orphaned => Ok(RequestTag(index)),
            // Its response goes out before that of this request.
            CommandPhase::Answered => Err(FunctionResponse::NO_SUCH_TASK),
            CommandPhase::Waiting | CommandPhase::Draining(_) => {
                self.commands.close(index);
                Err(FunctionResponse::COMPLETE)
            }
        }
    }
}

impl Session {
    /// Answers an ABORT TASK on its way to the task manager whose task has ended since it came. Returns whether it has.
    pub(super) fn answer_late_abort(&mut self, request: RequestTag, request_tag: RequestTag) -> bool {
        let shared = &mut self.shared;
        let Some(&PendingFunction { connection, itt, scope, windowed, .. }) =
            shared.task_management.get(request.0 as usize)
        else {
            return true;
        };
        let slot = shared.commands.slot(request_tag.0);
        let response = match scope.covers(slot.itt, slot.lun) {
            true => shared.abort_exchange(request_tag.0).err(),
            false => Some(FunctionResponse::NO_SUCH_TASK),
        };
        if let Some(response) = response {
            shared.task_management.remove(request.0 as usize);
            shared.answering -= u32::from(windowed);
            if let Some(mut at) = connection.and_then(|key| self.at(key)) {
                at.task_management_response(windowed, itt, response);
            }
        }
        response.is_some()
    }

    pub(super) fn task_management_done(&mut self, request: RequestTag, response: TaskManagementResponse) {
        let Some(pending) = self.shared.task_management.get_mut(request.0 as usize) else { return };
        // The initiator sends nothing more for tasks that it has aborted: none of them may wait for that.
        self.shared.commands.close_draining(pending.scope);
        pending.answer = Some(match response {
            TaskManagementResponse::Complete => FunctionResponse::COMPLETE,
            TaskManagementResponse::NoSuchTask => FunctionResponse::NO_SUCH_TASK,
            TaskManagementResponse::IncorrectLun => FunctionResponse::NO_SUCH_LUN,
            TaskManagementResponse::NotSupported => FunctionResponse::NOT_SUPPORTED,
            TaskManagementResponse::Rejected => FunctionResponse::REJECTED,
        });
        self.shared.unanswered += 1;
        self.answer_functions();
    }

    /// Answers what no fence stands before.
    pub(super) fn answer_functions(&mut self) {
        while self.shared.fence.is_none()
            && let Some((index, answer)) =
                self.shared.task_management.iter().find_map(|(index, pending)| Some((index, pending.answer?)))
        {
            let PendingFunction { connection, itt, scope, windowed, .. } =
                self.shared.task_management.remove(index);
            self.shared.unanswered -= 1;
            self.shared.answering -= u32::from(windowed);
            let Some(key) = connection else { continue };
            // What concerns one task is in order with that (RFC 7143 4.2.2.3.4).
            let fenced = answer == FunctionResponse::COMPLETE
                && !matches!(scope, Scope::Task(_))
                && self.raise_fence(key);
            if let Some(mut at) = self.at(key) {
                match fenced {
                    true => at.respond_fenced(windowed, response_header(itt, answer)),
                    false => at.task_management_response(windowed, itt, answer),
                }
            }
        }
    }

    /// If the session has more connections than that of the response.
    fn raise_fence(&mut self, response: ConnectionKey) -> bool {
        let others = self.shared.cids.iter().map(|(_, key)| *key).filter(|key| *key != response);
        let others: SmallVec<[ConnectionKey; 4]> = others.collect();
        if others.is_empty() || self.shared.cids.iter().all(|(_, key)| *key != response) {
            return false;
        }
        let mut fence = Fence::new(response);
        for key in others {
            if let Some(mut at) = self.at(key) {
                fence.add(key, at.fence());
            }
        }
        self.shared.fence = Some(Box::new(fence));
        true
    }
}
