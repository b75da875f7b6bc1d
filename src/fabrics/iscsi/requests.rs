// SPDX-License-Identifier: GPL-2.0-or-later
//! Requests of the full feature phase that are no SCSI commands: ping, text, task management, logout.

use super::Directory;
use super::connection::Connection;
use super::framing::Pdu;
use super::negotiate::number;
use crate::memory::Sg;
use crate::scsi::{Exchange, Lun, Request, TaskManagementFunction, TaskManagementResponse};
use crate::time::Instant;
use crate::wire::iscsi::{Bhs, FINAL, NO_TAG, Opcode, pairs, push_pair, reject};

/// Most bytes of text of one request, and of an answer to it.
const TEXT_MAX: usize = 1 << 20;

/// Task management requests under way.
const TASK_MANAGEMENT_MAX: usize = 16;

/// The tag of our own pings.
const PING_TAG: u32 = 1;

/// The C bit of Text PDUs.
const CONTINUE: u8 = 0x40;

/// Task management responses (RFC 7143 11.6.1).
const COMPLETE: u8 = 0;
const NO_SUCH_TASK: u8 = 1;
const NO_SUCH_LUN: u8 = 2;
const NO_REASSIGN: u8 = 4;
const NOT_SUPPORTED: u8 = 5;
const REJECTED: u8 = 255;

/// A text request and its answer, which may both take several PDUs.
#[derive(Default)]
pub(super) struct TextExchange {
    asked: Vec<u8>,
    /// What of the answer has not been sent.
    answer: Vec<u8>,
    tag: u32,
}

impl Connection {
    // Ping.

    pub(super) fn nop_out(&mut self, pdu: Pdu) {
        if pdu.bhs.itt() == NO_TAG {
            // The answer to our ping, or a sign of life: both were noted when the bytes came in.
            return;
        }
        let mut data = pdu.data;
        data.truncate(self.negotiated.max_xmit_data_segment_length as usize);
        if pdu.damaged {
            data = Sg::new();
        }
        let mut bhs = Bhs::new(Opcode::NOP_IN, FINAL);
        bhs.set_lun(pdu.bhs.lun());
        bhs.set_word(16, pdu.bhs.itt());
        bhs.set_word(20, NO_TAG);
        self.answer(bhs, data, true);
    }

    /// Asks whether the peer is alive.
    pub(super) fn ping(&mut self, now: Instant) {
        self.pinged = Some(now);
        let mut bhs = Bhs::new(Opcode::NOP_IN, FINAL);
        bhs.set_word(16, NO_TAG);
        bhs.set_word(20, PING_TAG);
        // It tells the next StatSN without consuming it (RFC 7143 11.19.2).
        self.answer(bhs, Sg::new(), false);
    }

    // Text.

    pub(super) fn text_request(&mut self, pdu: &Pdu, directory: &dyn Directory) {
        let flags = pdu.bhs.flags();
        let (itt, tag) = (pdu.bhs.itt(), pdu.bhs.word(20));
        if pdu.damaged {
            return self.reject(&pdu.bhs, reject::DATA_DIGEST_ERROR);
        }
        if tag != NO_TAG {
            // The initiator wants the rest of a long answer.
            if tag != self.text.tag || self.text.answer.is_empty() || !pdu.data.is_empty() {
                return self.reject(&pdu.bhs, reject::PROTOCOL_ERROR);
            }
            return self.text_response(itt);
        }
        self.text.answer.clear();
        if self.text.asked.len() + pdu.data.len() > TEXT_MAX {
            return self.violation("text request too long");
        }
        self.text.asked.extend(pdu.text());
        if flags & CONTINUE != 0 {
            if flags & FINAL != 0 {
                return self.reject(&pdu.bhs, reject::PROTOCOL_ERROR);
            }
            let mut bhs = Bhs::new(Opcode::TEXT_RESPONSE, 0);
            bhs.set_word(16, itt);
            bhs.set_word(20, self.next_text_tag());
            return self.answer(bhs, Sg::new(), true);
        }
        let asked = std::mem::take(&mut self.text.asked);
        let mut answer = Vec::new();
        for pair in pairs(&asked) {
            let Ok(pair) = pair else { return self.reject(&pdu.bhs, reject::PROTOCOL_ERROR) };
            match pair.key {
                "SendTargets" => self.send_targets(pair.value, directory, &mut answer),
                "MaxRecvDataSegmentLength" => match number(pair.value, 512, (1 << 24) - 1) {
                    Some(limit) => self.negotiated.max_xmit_data_segment_length = limit,
                    None => push_pair(&mut answer, pair.key, "Reject"),
                },
                "InitiatorAlias" => {}
                key if key.starts_with("X-") || key.starts_with("X#") => {
                    push_pair(&mut answer, key, "NotUnderstood")
                }
                // Everything else is settled at login (RFC 7143 13).
                key => push_pair(&mut answer, key, "Reject"),
            }
        }
        self.text.answer = answer;
        self.text_response(itt);
    }

    fn next_text_tag(&mut self) -> u32 {
        self.text.tag = self.text.tag.wrapping_add(1) & 0xffff;
        self.text.tag
    }

    fn text_response(&mut self, itt: u32) {
        let max = self.negotiated.max_xmit_data_segment_length as usize;
        let rest = self.text.answer.split_off(self.text.answer.len().min(max));
        let now = std::mem::replace(&mut self.text.answer, rest);
        let ends = self.text.answer.is_empty();
        let mut bhs = Bhs::new(Opcode::TEXT_RESPONSE, if ends { FINAL } else { CONTINUE });
        bhs.set_word(16, itt);
        bhs.set_word(20, if ends { NO_TAG } else { self.next_text_tag() });
        match Sg::copied(&self.arena, &now) {
            Some(data) => self.answer(bhs, data, true),
            None => self.violation("no memory for a text response"),
        }
    }

    /// SendTargets (RFC 7143 appendix C): `All` in discovery sessions only, a name, or nothing for the session's own target.
    fn send_targets(&self, value: &str, directory: &dyn Directory, answer: &mut Vec<u8>) {
        let wanted = match (value, self.discovery) {
            ("All", true) => None,
            ("All", false) => return push_pair(answer, "SendTargets", "Reject"),
            ("", true) => return push_pair(answer, "SendTargets", "Reject"),
            ("", false) => self.target.clone(),
            (name, _) => Some(name.to_lowercase()),
        };
        let mut last = String::new();
        directory.discover(&self.initiator, self.local, &mut |target, address, group| {
            if wanted.as_deref().is_some_and(|wanted| wanted != target) || answer.len() > TEXT_MAX {
                return;
            }
            if last != target {
                target.clone_into(&mut last);
                push_pair(answer, "TargetName", target);
            }
            push_pair(answer, "TargetAddress", &format!("{address},{group}"));
        });
    }

    // Task management.

    pub(super) fn task_management_request(&mut self, pdu: &Pdu) {
        use TaskManagementFunction as F;
        let bhs = &pdu.bhs;
        let (itt, lun, referenced) = (bhs.itt(), Lun(bhs.lun()), bhs.word(20));
        let function = match bhs.flags() & 0x7f {
            1 => match self.exchanges.find(referenced) {
                Some(index) => F::AbortTask(Exchange(index)),
                None => {
                    // RefCmdSN tells whether the task is still to come or has come and gone.
                    let response = match self.abort_before_arrival(bhs.word(32)) {
                        true => COMPLETE,
                        false => NO_SUCH_TASK,
                    };
                    return self.task_management_response(itt, response);
                }
            },
            2 => F::AbortTaskSet,
            3 => F::ClearAca,
            4 => F::ClearTaskSet,
            5 => F::LogicalUnitReset,
            6 => F::TargetReset,
            7 => F::TargetColdReset,
            8 => return self.task_management_response(itt, NO_REASSIGN),
            _ => return self.task_management_response(itt, NOT_SUPPORTED),
        };
        if self.task_management.len() >= TASK_MANAGEMENT_MAX {
            return self.task_management_response(itt, REJECTED);
        }
        let request = Exchange(u32::try_from(self.task_management.insert(itt)).expect("few requests"));
        let nexus = self.nexus;
        self.requests.push_back(Request::TaskManagement { request, nexus, function, lun });
    }

    pub(super) fn task_management_done(&mut self, request: Exchange, response: TaskManagementResponse) {
        if let Some(itt) = self.task_management.try_remove(request.0 as usize) {
            let response = match response {
                TaskManagementResponse::Complete => COMPLETE,
                TaskManagementResponse::NoSuchTask => NO_SUCH_TASK,
                TaskManagementResponse::IncorrectLun => NO_SUCH_LUN,
                TaskManagementResponse::NotSupported => NOT_SUPPORTED,
                TaskManagementResponse::Rejected => REJECTED,
            };
            self.task_management_response(itt, response);
        }
    }

    fn task_management_response(&mut self, itt: u32, response: u8) {
        let mut bhs = Bhs::new(Opcode::TASK_MANAGEMENT_RESPONSE, FINAL);
        bhs.0[2] = response;
        bhs.set_word(16, itt);
        self.answer(bhs, Sg::new(), true);
    }

    // Logout.

    pub(super) fn logout_request(&mut self, pdu: &Pdu) {
        /// Response codes (RFC 7143 11.15.1).
        const CLOSED: u8 = 0;
        const NO_SUCH_CONNECTION: u8 = 1;
        const NO_RECOVERY: u8 = 2;
        let response = match pdu.bhs.flags() & 0x7f {
            0 => CLOSED,
            1 if pdu.bhs.half(20) == self.cid => CLOSED,
            1 => NO_SUCH_CONNECTION,
            2 => NO_RECOVERY,
            _ => return self.reject(&pdu.bhs, reject::INVALID_PDU_FIELD),
        };
        let mut bhs = Bhs::new(Opcode::LOGOUT_RESPONSE, FINAL);
        bhs.0[2] = response;
        bhs.set_word(16, pdu.bhs.itt());
        bhs.set_half(40, u16::try_from(self.negotiated.time2wait).unwrap_or(u16::MAX));
        bhs.set_half(42, u16::try_from(self.negotiated.time2retain).unwrap_or(u16::MAX));
        self.answer(bhs, Sg::new(), true);
        if response == CLOSED {
            self.logged_out();
        }
    }
}
