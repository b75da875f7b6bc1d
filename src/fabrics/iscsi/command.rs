// SPDX-License-Identifier: GPL-2.0-or-later
//! SCSI commands: from the PDU to the task manager, and from there back as R2T, Data-In and SCSI Response PDUs.

use smallvec::SmallVec;

use super::ConnectionKey;
use super::command_slots::CommandPhase;
use super::framing::Pdu;
use super::outbox::{Out, Outgoing, What};
use super::session::Session;
use super::shared::ActiveConnection;
use crate::memory::Sg;
use crate::scsi::{
    Cdb, Command, Expected, Lun, Request, RequestTag, Residual, Response, Sense, Status, TaskAttribute,
    TaskManagementFunction::AbortTask, TaskManagementResponse, Transport, key,
};
use crate::wire::iscsi::{
    Bhs, DataInHeader, IscsiTaskAttribute, NO_TAG, PduHeader, R2tHeader, RejectReason, ResponseNumbers,
    ScsiCommandFlags as Flags, ScsiCommandHeader, ScsiResponseHeader, ServiceResponse,
};

/// PROTOCOL SERVICE CRC ERROR: Data-Out was damaged on the way (RFC 7143 11.4.7.2).
const PROTOCOL_SERVICE_CRC_ERROR: u16 = 0x4705;

impl ActiveConnection<'_> {
    // In.

    pub(super) fn scsi_command(&mut self, pdu: Pdu) {
        let header = ScsiCommandHeader::parse(&pdu.bhs);
        let ScsiCommandHeader { immediate, flags, itt, expected_len: length, .. } = header;
        let (reads, writes) = (flags.contains(Flags::READ), flags.contains(Flags::WRITE));
        let Some((cdb, bidi)) = cdb(&header.cdb, &pdu.ahs).filter(|_| itt != NO_TAG) else {
            return self.reject(&pdu.bhs, RejectReason::INVALID_PDU_FIELD);
        };
        let expected = Expected {
            data_in: match (reads, writes) {
                (true, true) => bidi,
                (true, false) => length,
                _ => 0,
            },
            data_out: if writes { length } else { 0 },
        };
        let first_burst = self.connection.negotiated.first_burst_length.min(expected.data_out);
        let immediate_data = u32::try_from(pdu.data.len()).unwrap_or(u32::MAX);
        if immediate_data > 0 && (!self.connection.negotiated.immediate_data || immediate_data > first_burst)
        {
            return self.violation("immediate data that was not negotiated");
        }
        let more = !flags.contains(Flags::FINAL);
        if more && (!writes || self.connection.negotiated.initial_r2t) {
            return self.violation("unsolicited data that was not negotiated");
        }
        if self.session.commands.find(itt).is_some() {
            return self.violation("initiator task tag of another command");
        }
        let Some(index) = self.session.commands.open(self.key, itt, immediate) else {
            return self.reject(&pdu.bhs, RejectReason::TOO_MANY_IMMEDIATE);
        };
        let slot = self.session.commands.slot_mut(index);
        slot.lun = header.lun;
        slot.flags = flags;
        slot.expected = expected;
        slot.unsolicited = more.then_some(0);
        slot.solicited = immediate_data;
        slot.buffered = pdu.data;
        let slot = self.session.commands.slot(index);
        let command = Command {
            nexus: self.session.nexus,
            lun: Lun(slot.lun).normal(),
            cdb,
            attribute: match flags.attribute() {
                IscsiTaskAttribute::ORDERED => TaskAttribute::Ordered,
                IscsiTaskAttribute::HEAD_OF_QUEUE => TaskAttribute::HeadOfQueue,
                IscsiTaskAttribute::ACA => TaskAttribute::Aca,
                _ => TaskAttribute::Simple,
            },
            expected,
        };
        let commands = &mut self.session.commands;
        // Others may hold what it would wait for until the ACA condition is over, which it is to end. There is one at a
        // time.
        let passes = command.attribute == TaskAttribute::Aca;
        if passes || (immediate || !commands.has_waiting()) && commands.charge(index) {
            let request_tag = RequestTag(index);
            self.session.requests.push_back(Request::Command { request_tag, command });
        } else if immediate {
            commands.close(index);
            return self.reject(&pdu.bhs, RejectReason::TOO_MANY_IMMEDIATE);
        } else {
            commands.wait(index, command);
        }
        if pdu.damaged {
            self.damage(index, &pdu.bhs);
        }
    }

    // Out.

    /// The next PDU of a command: header, payload (taken out of `outgoing`), and whether it consumes a StatSN. `None`
    /// if there is no memory for sense data.
    pub(super) fn command_pdu(&self, outgoing: &mut Outgoing) -> Option<(Bhs, Sg, bool)> {
        let slot = self.session.commands.slot(outgoing.slot);
        match &mut outgoing.what {
            What::R2t { tag } => {
                let r2t = slot.r2ts.iter().find(|r2t| r2t.tag == *tag);
                let header = R2tHeader {
                    lun: slot.lun,
                    itt: slot.itt,
                    ttt: *tag,
                    numbers: ResponseNumbers::default(),
                    r2t_sn: slot.sn,
                    buffer_offset: r2t.map_or(0, |r2t| r2t.at),
                    desired_len: r2t.map_or(0, |r2t| r2t.end - r2t.at),
                };
                Some((header.emit(), Sg::new(), false))
            }
            What::Data { data, last } => {
                // Up to the peer's limit, and to the end of the burst.
                let burst = self.connection.negotiated.max_burst_length - slot.burst;
                let limit = self.connection.negotiated.max_xmit_data_segment_length.min(burst) as usize;
                let piece = data.split_to(data.len().min(limit));
                let status = last.filter(|_| data.is_empty());
                let (overflow, underflow, residual_count) = parts(status.unwrap_or(Residual::None));
                let header = DataInHeader {
                    is_final: data.is_empty() || piece.len() == burst as usize,
                    acknowledge: false,
                    overflow,
                    underflow,
                    has_status: status.is_some(),
                    status: Status::Good as u8,
                    lun: 0,
                    itt: slot.itt,
                    ttt: NO_TAG,
                    numbers: ResponseNumbers::default(),
                    data_sn: slot.sn,
                    buffer_offset: slot.sent,
                    residual_count,
                };
                Some((header.emit(), piece, status.is_some()))
            }
            What::Response { status, sense, residual_in, residual_out } => {
                let bidi = slot.flags.contains(Flags::READ.with(Flags::WRITE));
                let plain = match (slot.flags.contains(Flags::WRITE), bidi) {
                    (_, true) => *residual_out,
                    // What a command wants to move in a direction that the initiator did not announce is overflow too.
                    (true, false) => either(*residual_out, *residual_in),
                    (false, _) => either(*residual_in, *residual_out),
                };
                let (overflow, underflow, residual_count) = parts(plain);
                let (bidi_overflow, bidi_underflow, bidi_residual_count) =
                    parts(if bidi { *residual_in } else { Residual::None });
                let header = ScsiResponseHeader {
                    bidi_overflow,
                    bidi_underflow,
                    overflow,
                    underflow,
                    response: ServiceResponse::COMPLETED_AT_TARGET,
                    status: *status as u8,
                    itt: slot.itt,
                    snack_tag: 0,
                    numbers: ResponseNumbers::default(),
                    exp_data_sn: slot.sn,
                    bidi_residual_count,
                    residual_count,
                };
                let data = match sense.is_empty() {
                    true => Sg::new(),
                    false => Sg::copied_reserved(&self.session.arena, sense)?,
                };
                Some((header.emit(), data, true))
            }
        }
    }

    /// The PDU of [`Self::command_pdu`], with `len` bytes of payload, has gone out.
    pub(super) fn command_pdu_sent(&mut self, outgoing: Outgoing, len: usize) {
        let index = outgoing.slot;
        let slot = self.session.commands.slot_mut(index);
        match &outgoing.what {
            What::R2t { tag } => {
                slot.sn = slot.sn.wrapping_add(1);
                if let Some(r2t) = slot.r2ts.iter_mut().find(|r2t| r2t.tag == *tag) {
                    r2t.sent = true;
                }
            }
            What::Data { data, last } => {
                slot.sn = slot.sn.wrapping_add(1);
                let len = u32::try_from(len).expect("a data segment has a 24-bit length");
                slot.sent = slot.sent.wrapping_add(len);
                slot.burst += len;
                if data.is_empty() || slot.burst == self.connection.negotiated.max_burst_length {
                    slot.burst = 0;
                }
                if !data.is_empty() {
                    self.connection.outbox.put_back(Out::Command(outgoing));
                } else if last.is_some() {
                    self.session.commands.close(index);
                } else if matches!(slot.phase, CommandPhase::Task) {
                    // The device may go on. (Otherwise the status follows in a PDU of its own.)
                    self.session.requests.push_back(Request::DataInTaken { request_tag: RequestTag(index) });
                }
            }
            What::Response { .. } => self.session.commands.close(index),
        }
    }

    fn push(&mut self, slot: u32, what: What) {
        self.connection.outbox.push(Out::Command(Outgoing { slot, what }));
    }

    /// Ends a command for the task manager: the response goes out as soon as the initiator has sent what it was allowed
    /// to send.
    fn complete(&mut self, index: u32, response: Response) {
        let slot = self.session.commands.slot_mut(index);
        if slot.damaged {
            self.forget_requests(index);
        }
        let slot = self.session.commands.slot_mut(index);
        let solicits = slot.r2ts.iter().any(|r2t| !r2t.sent);
        slot.drop_data_out();
        let waits = slot.awaits_data();
        if solicits {
            self.connection.outbox.forget_r2ts(index);
        }
        match waits {
            true => self.session.commands.slot_mut(index).phase = CommandPhase::Draining(Box::new(response)),
            false => self.push_response(index, response),
        }
    }

    /// Forgets what an aborted command had to fetch or send, and tells the initiator if `status` or its damaged data
    /// says so.
    fn terminate(&mut self, index: u32, status: Option<Status>) {
        self.connection.outbox.forget_command(index);
        self.forget_requests(index);
        let slot = self.session.commands.slot(index);
        let (damaged, itt, lun) = (slot.damaged, slot.itt, slot.lun);
        if status.is_none()
            && !damaged
            && self.connection.negotiated.fast_abort
            && !self.session.ends_by_itself(self.key, itt, lun)
        {
            self.announce_abort(lun);
        }
        let status = if damaged { Some(Status::CheckCondition) } else { status };
        let Some(status) = status else {
            if let Some(mover) = &mut self.connection.mover {
                mover.forget_buffers(itt);
            }
            return self.session.commands.close(index);
        };
        let mut sense = SmallVec::new();
        if damaged {
            sense = Sense::new(key::ABORTED_COMMAND, PROTOCOL_SERVICE_CRC_ERROR).encode(false);
        }
        let (residual_in, residual_out) = (Residual::None, Residual::None);
        self.complete(index, Response { status, sense, data: Sg::new(), residual_in, residual_out });
    }

    /// Takes back what the task manager was to hear of a command that it ends.
    fn forget_requests(&mut self, index: u32) {
        self.session.requests.retain(|request| match request {
            Request::DataOut { request_tag, .. }
            | Request::DataInTaken { request_tag }
            | Request::Abandoned { request_tag } => request_tag.0 != index,
            Request::Command { .. } | Request::TaskManagement { .. } => true,
        });
    }

    /// Queues the last data and the status.
    pub(super) fn push_response(&mut self, index: u32, response: Response) {
        let slot = self.session.commands.slot_mut(index);
        slot.phase = CommandPhase::Answered;
        let writes = slot.flags.contains(Flags::WRITE);
        let Response { status, sense, data, residual_in, residual_out } = response;
        if !data.is_empty() {
            // Phase collapse: GOOD travels in the last Data-In PDU (RFC 7143 11.7.3), where there are any.
            if status == Status::Good && !writes && !self.is_tagged() {
                return self.push(index, What::Data { data, last: Some(residual_in) });
            }
            self.push(index, What::Data { data, last: None });
        }
        let sense = if sense.is_empty() { Box::default() } else { sense_segment(&sense).into_boxed_slice() };
        self.push(index, What::Response { status, sense, residual_in, residual_out });
    }
}

impl Session {
    /// The task manager has done with a command whose connection has ended.
    fn close_orphan(&mut self, request_tag: RequestTag) {
        if self.shared.commands.close_orphan(request_tag.0) {
            self.orphans_ended();
        }
    }

    /// The connection to which a command is allegiant, while the task manager has the command.
    fn of(&mut self, request_tag: RequestTag) -> Option<ActiveConnection<'_>> {
        let commands = &self.shared.commands;
        if !commands.is_task(request_tag.0) {
            return None;
        }
        let key = ConnectionKey(commands.slot(request_tag.0).connection);
        self.at(key)
    }
}

impl Transport for Session {
    fn poll_request(&mut self) -> Option<Request> {
        loop {
            let passed_over = match self.shared.requests.front() {
                None => self.shared.commands.has_waiting() && self.shared.begin_waiting(),
                Some(&Request::TaskManagement { request, function: AbortTask(request_tag), .. }) => {
                    let late = self.answer_late_abort(request, request_tag);
                    late && self.shared.requests.pop_front().is_some()
                }
                Some(_) => false,
            };
            if !passed_over {
                return self.shared.requests.pop_front();
            }
        }
    }

    fn receive_data_out(&mut self, request_tag: RequestTag, len: u32) {
        if let Some(mut at) = self.of(request_tag) {
            // A task whose data was damaged waits in vain, until it takes notice of being given up.
            let slot = at.session.commands.slot_mut(request_tag.0);
            slot.fetch = (!slot.damaged).then_some(len);
            at.advance(request_tag.0);
        }
    }

    fn send_data_in(&mut self, request_tag: RequestTag, data: Sg) {
        if let Some(mut at) = self.of(request_tag) {
            at.push(request_tag.0, What::Data { data, last: None });
        }
    }

    fn send_command_complete(&mut self, request_tag: RequestTag, response: Response) {
        match self.of(request_tag) {
            Some(mut at) => at.complete(request_tag.0, response),
            None => self.close_orphan(request_tag),
        }
    }

    fn task_management_executed(&mut self, request: RequestTag, response: TaskManagementResponse) {
        self.task_management_done(request, response);
    }

    fn report_event(&mut self, lun: Lun, sense: &[u8]) {
        let first = self.shared.cids.first().map(|(_, key)| *key);
        if self.shared.parameters.scsi_events
            && let Some(mut at) = first.and_then(|key| self.at(key))
        {
            at.announce_event(lun.0, &sense_segment(sense));
        }
    }

    fn terminate(&mut self, request_tag: RequestTag, status: Option<Status>) {
        match self.of(request_tag) {
            Some(mut at) => at.terminate(request_tag.0, status),
            None => self.close_orphan(request_tag),
        }
    }
}

/// Sense data in a SCSI Response: a length, then the bytes (RFC 7143 11.4.7.1).
fn sense_segment(sense: &[u8]) -> SmallVec<[u8; 80]> {
    let mut segment = SmallVec::new();
    if !sense.is_empty() {
        segment.extend_from_slice(&u16::try_from(sense.len()).unwrap_or(u16::MAX).to_be_bytes());
        segment.extend_from_slice(sense);
    }
    segment
}

/// The residual of the command's own direction, else that of the other.
fn either(own: Residual, other: Residual) -> Residual {
    if own == Residual::None { other } else { own }
}

/// Whether it was too much, whether too little, and how much.
fn parts(residual: Residual) -> (bool, bool, u32) {
    match residual {
        Residual::None => (false, false, 0),
        Residual::Overflow(count) => (true, false, count),
        Residual::Underflow(count) => (false, true, count),
    }
}

/// The CDB with its extension, and the expected length of the read direction of a bidirectional command, from the
/// additional header segments (RFC 7143 11.2.2). `None` if they are malformed.
fn cdb(head: &[u8; 16], ahs: &[u8]) -> Option<(Cdb, u32)> {
    if ahs.is_empty() {
        return Some((Cdb::new(head)?, 0));
    }
    let mut bytes: SmallVec<[u8; 32]> = SmallVec::from_slice(head);
    let mut bidi = 0;
    let mut rest = ahs;
    while !rest.is_empty() {
        let [high, low, kind, _, ..] = *rest else { return None };
        // AHSLength counts what follows the type byte, padding apart: a reserved byte and the content.
        let len = usize::from(u16::from_be_bytes([high, low]));
        let content = rest.get(4..3 + len)?;
        match kind {
            1 => bytes.extend_from_slice(content),
            2 => bidi = u32::from_be_bytes(content.try_into().ok()?),
            _ => return None,
        }
        rest = rest.get((3 + len).next_multiple_of(4)..).unwrap_or_default();
    }
    Some((Cdb::new(&bytes)?, bidi))
}
