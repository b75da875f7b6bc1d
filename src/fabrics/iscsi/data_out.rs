// SPDX-License-Identifier: GPL-2.0-or-later
//! Data-Out: immediate, unsolicited, and solicited by R2T (RFC 7143 11.7, 11.8).
//!
//! DataPDUInOrder and DataSequenceInOrder are always Yes, so a command's data arrives in the order of its buffer, and
//! every PDU is checked against the sequence it belongs to before its bytes are used.

use super::command_slots::{CommandPhase, R2t};
use super::framing::Pdu;
use super::outbox::{Out, Outgoing, What};
use super::shared::ActiveConnection;
use crate::scsi::{Lun, Request, RequestTag};
use crate::wire::iscsi::{Bhs, DataOutHeader, NO_TAG, PduHeader};

/// Most Data-Out PDUs that wait with a command for its turn in the command window, beside those that FirstBurstLength
/// makes up with the shortest segments that may be declared.
const OUT_OF_ORDER_DATA_MAX: usize = 512;
const SEGMENT_MIN: usize = 512;

impl ActiveConnection<'_> {
    pub(super) fn data_out(&mut self, pdu: Pdu) {
        if self.is_tagged() {
            return self.violation("a Data-Out PDU where data is moved by tags");
        }
        let header = DataOutHeader::parse(&pdu.bhs);
        let (itt, tag) = (header.itt, header.ttt);
        let index = match (tag, itt) {
            (_, NO_TAG) => None,
            (NO_TAG, _) => self.session.commands.find(itt),
            _ => self.session.commands.burst_of(tag, itt),
        };
        let Some(index) = index else { return self.data_out_without_task(pdu) };
        if self.session.commands.slot(index).connection != self.key.0 {
            return self.violation("data on another connection than its command's");
        }
        let slot = self.session.commands.slot(index);
        if slot.damaged || !matches!(slot.phase, CommandPhase::Task | CommandPhase::Waiting) {
            // The task has failed or ended: its data is of no use, but its end is waited for.
            self.connection.counters.ignored += 1;
            return self.note_final(index, &header);
        }
        let arrived = slot.taken + u32::try_from(slot.buffered.len()).unwrap_or(u32::MAX);
        match self.check_data_out(index, &header, arrived, pdu.data.len()) {
            Err(what) => return self.violation(what),
            Ok(false) => {
                // A PDU is missing or doubled: the task fails, the connection goes on (RFC 7143 7.9).
                self.spoil(index);
                return self.note_final(index, &header);
            }
            Ok(true) => {}
        }
        let slot = self.session.commands.slot_mut(index);
        slot.buffered.append(pdu.data);
        if pdu.damaged {
            self.damage(index, &pdu.bhs);
        }
        self.note_final(index, &header);
        self.advance(index);
    }

    /// Data-Out of a command that is not there: it came before the command's turn, or the command is gone.
    fn data_out_without_task(&mut self, pdu: Pdu) {
        let first_burst = self.connection.negotiated.first_burst_length as usize;
        let header = DataOutHeader::parse(&pdu.bhs);
        let out_of_order = self
            .session
            .out_of_order
            .iter_mut()
            .find(|out_of_order| out_of_order.is_command(header.itt) && header.ttt == NO_TAG);
        let Some(out_of_order) = out_of_order else {
            // Data for a command that was aborted may still be on its way.
            self.connection.counters.ignored += 1;
            return;
        };
        out_of_order.data.push(pdu);
        let bytes: usize = out_of_order.data.iter().chain(&out_of_order.pdu).map(|pdu| pdu.data.len()).sum();
        if bytes > first_burst || out_of_order.data.len() > OUT_OF_ORDER_DATA_MAX + first_burst / SEGMENT_MIN
        {
            self.violation("more unsolicited data than negotiated");
        }
    }

    /// Checks a PDU against the sequence it belongs to, and counts it. `Ok(false)`: its DataSN is not the next one.
    fn check_data_out(
        &mut self,
        index: u32,
        header: &DataOutHeader,
        arrived: u32,
        len: usize,
    ) -> Result<bool, &'static str> {
        let DataOutHeader { ttt: tag, data_sn, buffer_offset: offset, .. } = *header;
        let slot = self.session.commands.slot_mut(index);
        let lun = slot.lun;
        let (next_sn, end) = match (tag, &mut slot.unsolicited) {
            (NO_TAG, Some(next)) => {
                (next, self.connection.negotiated.first_burst_length.min(slot.expected.data_out))
            }
            (NO_TAG, None) => return Err("unsolicited Data-Out that was not announced"),
            // DataSequenceInOrder=Yes: bursts come in the order in which they were asked for.
            _ => match slot.r2ts.front_mut() {
                Some(r2t) if r2t.tag == tag && r2t.sent => (&mut r2t.data_sn, r2t.end),
                _ => return Err("Data-Out of a burst out of order"),
            },
        };
        // The tag tells whose burst it is: some initiators leave the LUN at 0, or give its other form.
        let stray = |given: u64| given != lun && given != 0 && Lun(given).normal() != Lun(lun).normal();
        if tag != NO_TAG && stray(header.lun) {
            return Err("Data-Out with the LUN of another command");
        }
        if data_sn != *next_sn {
            return Ok(false);
        }
        *next_sn = next_sn.wrapping_add(1);
        if offset != arrived {
            return Err("Data-Out with a wrong buffer offset");
        }
        let reached = u32::try_from(len).ok().and_then(|len| arrived.checked_add(len));
        let Some(reached) = reached.filter(|&reached| reached <= end) else {
            return Err("Data-Out beyond its burst");
        };
        // The last PDU may be empty (RFC 7143 11.7.6).
        if tag != NO_TAG && header.is_final && reached != end {
            return Err("Data-Out burst of a wrong length");
        }
        Ok(true)
    }

    /// Notes the F bit.
    fn note_final(&mut self, index: u32, header: &DataOutHeader) {
        if header.is_final {
            self.sequence_ended(index, header.ttt);
        }
    }

    /// A sequence is over. The response of a command that is done may have waited for it.
    pub(super) fn sequence_ended(&mut self, index: u32, tag: u32) {
        let slot = self.session.commands.slot_mut(index);
        match tag {
            NO_TAG => {
                slot.unsolicited = None;
                slot.solicited = slot.taken + u32::try_from(slot.buffered.len()).unwrap_or(u32::MAX);
            }
            tag => slot.r2ts.retain(|r2t| r2t.tag != tag),
        }
        if !slot.awaits_data()
            && let CommandPhase::Draining(_) = slot.phase
            && let CommandPhase::Draining(response) =
                std::mem::replace(&mut slot.phase, CommandPhase::Answered)
        {
            self.push_response(index, *response);
        }
    }

    /// Data-Out with a wrong digest: the data is not used, the task fails (RFC 7143 7.8 at error recovery level 0).
    pub(super) fn damage(&mut self, index: u32, bhs: &Bhs) {
        self.reject_damaged(bhs);
        self.spoil(index);
    }

    /// The command's Data-Out is not what the initiator meant: abort the task, and say so when that is done.
    fn spoil(&mut self, index: u32) {
        let slot = self.session.commands.slot_mut(index);
        slot.damaged = true;
        slot.drop_data_out();
        // Who has not begun is abandoned when it does.
        if matches!(slot.phase, CommandPhase::Task) {
            self.session.requests.push_back(Request::Abandoned { request_tag: RequestTag(index) });
        }
        self.connection.outbox.forget_r2ts(index);
    }

    /// Gives the task what it waits for, or asks the initiator for it.
    pub(super) fn advance(&mut self, index: u32) {
        let slot = self.session.commands.slot_mut(index);
        let Some(len) = slot.fetch else { return };
        if slot.buffered.len() >= len as usize {
            slot.fetch = None;
            slot.taken += len;
            let data = slot.buffered.split_to(len as usize);
            self.session.requests.push_back(Request::DataOut { request_tag: RequestTag(index), data });
            return;
        }
        if slot.unsolicited.is_some() {
            return;
        }
        let end = slot.taken + len;
        loop {
            let slot = self.session.commands.slot(index);
            let outstanding = u32::try_from(slot.r2ts.len()).unwrap_or(u32::MAX);
            if slot.solicited >= end || outstanding >= self.connection.negotiated.max_outstanding_r2t {
                return;
            }
            let tag = self.session.commands.transfer_tag(index);
            let at = self.session.commands.slot(index).solicited;
            // Bursts are of the stream.
            let burst_max =
                if self.is_tagged() { u32::MAX } else { self.connection.negotiated.max_burst_length };
            let burst = (end - at).min(burst_max);
            let slot = self.session.commands.slot_mut(index);
            slot.solicited += burst;
            slot.r2ts.push_back(R2t { tag, at, end: at + burst, data_sn: 0, sent: false });
            self.connection.outbox.push(Out::Command(Outgoing { slot: index, what: What::R2t { tag } }));
        }
    }
}
