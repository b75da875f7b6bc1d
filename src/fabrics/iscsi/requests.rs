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
use crate::wire::iscsi::{Bhs, FINAL, NO_TAG, Opcode, reject};

/// Logouts for immediate delivery that wait for the end of tasks.
const LOGOUTS_MAX: usize = 16;

/// The tag of our own pings.
const PING_TAG: u32 = 1;

/// Task management responses (RFC 7143 11.6.1).
const COMPLETE: u8 = 0;
const NO_SUCH_TASK: u8 = 1;
const NO_SUCH_LUN: u8 = 2;
const NO_REASSIGN: u8 = 4;
const NOT_SUPPORTED: u8 = 5;
const REJECTED: u8 = 255;

fn response_header(itt: u32, response: u8) -> Bhs {
    let mut bhs = Bhs::new(Opcode::TASK_MANAGEMENT_RESPONSE, FINAL);
    bhs.0[2] = response;
    bhs.set_word(16, itt);
    bhs
}

/// A ping of ours.
pub(super) fn ping_header() -> Bhs {
    let mut bhs = Bhs::new(Opcode::NOP_IN, FINAL);
    bhs.set_word(16, NO_TAG);
    bhs.set_word(20, PING_TAG);
    bhs
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
        let mut bhs = Bhs::new(Opcode::NOP_IN, FINAL);
        bhs.set_lun(pdu.bhs.lun());
        bhs.set_word(16, pdu.bhs.itt());
        bhs.set_word(20, NO_TAG);
        self.respond(!pdu.bhs.is_immediate(), bhs, data);
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
        let bhs = &pdu.bhs;
        let (itt, lun, referenced) = (bhs.itt(), Lun(bhs.lun()).normal(), bhs.word(20));
        let windowed = !bhs.is_immediate();
        let function = match bhs.flags() & 0x7f {
            1 => match self.abort_task(referenced, bhs.word(32), bhs.cmd_sn()) {
                Ok(request_tag) => F::AbortTask(request_tag),
                Err(response) => return self.task_management_response(windowed, itt, response),
            },
            2 => F::AbortTaskSet,
            3 => F::ClearAca,
            4 => F::ClearTaskSet,
            5 => F::LogicalUnitReset,
            6 => F::TargetReset,
            7 => F::TargetColdReset,
            8 => return self.task_management_response(windowed, itt, NO_REASSIGN),
            _ => return self.task_management_response(windowed, itt, NOT_SUPPORTED),
        };
        if !windowed && self.session.has_too_many_functions() {
            return self.task_management_response(windowed, itt, REJECTED);
        }
        let scope = match function {
            F::AbortTask(_) => Scope::Task(referenced),
            F::AbortTaskSet | F::ClearTaskSet | F::LogicalUnitReset => Scope::Unit(lun),
            F::TargetReset | F::TargetColdReset => Scope::Target,
            F::ClearAca => Scope::Nothing,
        };
        if let Scope::Target = scope {
            self.session.fill_gap(self.key, bhs.cmd_sn());
        }
        self.session.abort_early(scope, bhs.cmd_sn());
        self.session.commands.close_waiting(scope);
        self.session.answering += u32::from(windowed);
        let pending = PendingFunction { connection: Some(self.key), itt, scope, windowed, answer: None };
        let request = self.session.task_management.insert(pending);
        let request = RequestTag(u32::try_from(request).expect("as few as the window admits"));
        let nexus = self.session.nexus;
        self.session.requests.push_back(Request::TaskManagement { request, nexus, function, lun });
    }

    /// The task of an ABORT TASK, or the response if the task manager has none of that tag.
    fn abort_task(&mut self, referenced: u32, ref_cmd_sn: u32, cmd_sn: u32) -> Result<RequestTag, u8> {
        let named = (referenced != NO_TAG).then_some(referenced);
        match named.and_then(|tag| self.session.commands.find(tag)) {
            Some(index) => self.session.abort_exchange(index),
            // RefCmdSN tells whether the task is still to come or has come and gone.
            None if self.session.abort_before_arrival(self.key, ref_cmd_sn, cmd_sn) => Err(COMPLETE),
            None => Err(NO_SUCH_TASK),
        }
    }

    fn task_management_response(&mut self, windowed: bool, itt: u32, response: u8) {
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
        /// Response codes (RFC 7143 11.15.1).
        const CLOSED: u8 = 0;
        const NO_SUCH_CONNECTION: u8 = 1;
        const NO_RECOVERY: u8 = 2;
        if pdu.bhs.is_immediate()
            && self.session.waiting.iter().filter(|(_, what)| !what.is_windowed()).count() >= LOGOUTS_MAX
        {
            return self.reject(&pdu.bhs, reject::TOO_MANY_IMMEDIATE);
        }
        let mut own = true;
        let response = match pdu.bhs.flags() & 0x7f {
            0 => {
                let (session, own) = (&mut *self.session, self.key);
                // Those that are about to join it, too.
                let joining = session.waiting.iter().filter(|(_, what)| matches!(what, Waiting::Join));
                let all = session.cids.iter().map(|(_, key)| *key).chain(joining.map(|(key, _)| *key));
                session.ending.extend(all.filter(|key| *key != own));
                CLOSED
            }
            1 => match self.session.cids.iter().find(|(cid, _)| *cid == pdu.bhs.half(20)) {
                Some((_, key)) if *key == self.key => CLOSED,
                Some((_, key)) => {
                    own = false;
                    self.session.ending.push(*key);
                    CLOSED
                }
                None => NO_SUCH_CONNECTION,
            },
            2 => NO_RECOVERY,
            _ => return self.reject(&pdu.bhs, reject::INVALID_PDU_FIELD),
        };
        let mut bhs = Bhs::new(Opcode::LOGOUT_RESPONSE, FINAL);
        bhs.0[2] = response;
        bhs.set_word(16, pdu.bhs.itt());
        bhs.set_half(40, u16::try_from(self.connection.negotiated.time2wait).unwrap_or(u16::MAX));
        bhs.set_half(42, u16::try_from(self.connection.negotiated.time2retain).unwrap_or(u16::MAX));
        let windowed = !pdu.bhs.is_immediate();
        // The answer says that all is cleaned up (RFC 7143 11.15): it comes when the tasks have ended.
        let waits = match response == CLOSED && own {
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

    fn abort_exchange(&mut self, index: u32) -> Result<RequestTag, u8> {
        match self.commands.slot(index).phase {
            CommandPhase::Task | CommandPhase::Orphaned => Ok(RequestTag(index)),
            // Its response goes out before that of this request.
            CommandPhase::Answered => Err(NO_SUCH_TASK),
            CommandPhase::Waiting | CommandPhase::Draining(_) => {
                self.commands.close(index);
                Err(COMPLETE)
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
            false => Some(NO_SUCH_TASK),
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
            TaskManagementResponse::Complete => COMPLETE,
            TaskManagementResponse::NoSuchTask => NO_SUCH_TASK,
            TaskManagementResponse::IncorrectLun => NO_SUCH_LUN,
            TaskManagementResponse::NotSupported => NOT_SUPPORTED,
            TaskManagementResponse::Rejected => REJECTED,
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
            let fenced = answer == COMPLETE && !matches!(scope, Scope::Task(_)) && self.raise_fence(key);
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
