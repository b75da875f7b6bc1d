// SPDX-License-Identifier: GPL-2.0-or-later
//! What goes out: answers and what commands have to send, cut into whole PDUs when the stream has room. Sequence
//! numbers are given when a PDU leaves, so they are right whatever waited and was overtaken.

use super::Negotiated;
use super::connection::State;
use super::fence::Hold;
use super::framing::digest;
use super::outbox::{ANSWERS_MAX, Answer, Out};
use super::requests::ping_header;
use super::shared::{ActiveConnection, Shared};
use crate::memory::{Arena, Seg, Sg};
use crate::wire::Crc32c;
use crate::wire::iscsi::{
    AsyncEvent, AsyncHeader, Bhs, Opcode, PduHeader, RejectHeader, RejectReason, ResponseNumbers,
};

impl ActiveConnection<'_> {
    /// Queues a PDU that nothing in the command window waits for.
    pub(super) fn answer(&mut self, bhs: Bhs, data: Sg, numbered: bool) {
        self.queue(Answer { bhs, data, numbered, fenced: false, windowed: false });
    }

    /// Queues the response to a request, which came through the command window or was for immediate delivery.
    pub(super) fn respond(&mut self, windowed: bool, bhs: Bhs, data: Sg) {
        self.queue(Answer { bhs, data, numbered: true, fenced: false, windowed });
    }

    /// Queues a response that is before all others that follow in the session.
    pub(super) fn respond_fenced(&mut self, windowed: bool, bhs: Bhs) {
        self.queue(Answer { bhs, data: Sg::new(), numbered: true, fenced: true, windowed });
    }

    fn queue(&mut self, mut answer: Answer) {
        answer.windowed &= !self.connection.is_closing();
        match answer.windowed {
            true => self.session.answering += 1,
            false => self.connection.answers += 1,
        }
        self.connection.answer_bytes += answer.data.len();
        self.connection.outbox.push(Out::Answer(answer));
    }

    /// Forgets what commands have to send on a connection that is over.
    pub(super) fn forget_commands(&mut self) {
        let (windowed, left) = self.connection.outbox.forget_commands();
        self.session.answering -= windowed;
        self.connection.answers = left;
        self.connection.answer_bytes = self.connection.outbox.answer_bytes();
    }

    /// Whether the connection is not to be read, as its initiator does not read: what waits to be sent does so because
    /// the stream takes nothing. What a fence holds back does not count: the initiator lets it go by what it sends.
    pub(super) fn is_clogged(&self) -> bool {
        self.connection.answers >= ANSWERS_MAX
            && match &self.session.fence {
                Some(fence) if fence.hold(self.key) != Hold::Nothing => {
                    self.connection.outbox.urgent.len() >= ANSWERS_MAX
                }
                _ => true,
            }
    }

    pub(super) fn reject(&mut self, bad: &Bhs, reason: RejectReason) {
        self.connection.counters.rejects += 1;
        let Some(data) = Sg::copied_reserved(&self.session.arena, bad.bytes()) else {
            return self.violation("no memory to reject a PDU");
        };
        let header = RejectHeader { reason, numbers: ResponseNumbers::default(), data_sn: 0 };
        self.answer(header.emit(), data, true);
    }

    /// Rejects a PDU whose data digest is wrong (RFC 7143 7.8).
    pub(super) fn reject_damaged(&mut self, bad: &Bhs) {
        self.connection.counters.digest_errors += 1;
        self.reject(bad, RejectReason::DATA_DIGEST_ERROR);
    }

    /// Tells of a unit attention (RFC 7143 11.9: event 0), as in the data segment of a SCSI Response. Of an initiator
    /// that does not read, what can be had with the next command is not kept.
    pub(super) fn announce_event(&mut self, lun: u64, sense: &[u8]) {
        let Negotiated { unexpected_max, .. } = self.connection.negotiated;
        // One is kept for a ping.
        if self.connection.answers < ANSWERS_MAX / 2
            && self.connection.answers + 1 < unexpected_max as usize
            && let Some(data) = Sg::copied_reserved(&self.session.arena, sense)
        {
            self.asynchronous(AsyncEvent::SCSI_EVENT, lun, [0; 3], data);
        }
    }

    /// Asks the initiator to log out within `seconds`, after which the connection may be dropped (event 1).
    pub(super) fn request_logout(&mut self, seconds: u16) {
        self.asynchronous(AsyncEvent::LOGOUT_REQUESTED, 0, [0, 0, seconds], Sg::new());
    }

    /// Announces that this connection is about to be dropped (event 2).
    pub(super) fn announce_drop(&mut self) {
        let [wait, retain] = self.times();
        let cid = self.connection.cid;
        self.asynchronous(AsyncEvent::CONNECTION_DROPPED, 0, [cid, wait, retain], Sg::new());
    }

    /// Announces that all connections of the session are about to be dropped (event 3).
    pub(super) fn announce_end(&mut self) {
        let [wait, retain] = self.times();
        self.asynchronous(AsyncEvent::SESSION_DROPPED, 0, [0, wait, retain], Sg::new());
    }

    /// Tells that somebody else has put an end to the tasks of a logical unit (event 5), once for all of them.
    pub(super) fn announce_abort(&mut self, lun: u64) {
        let told = |out: &Out| match out {
            Out::Answer(Answer { bhs, .. }) if bhs.opcode() == Opcode::ASYNC_MESSAGE => {
                let message = AsyncHeader::parse(bhs);
                message.event == AsyncEvent::TASKS_TERMINATED && message.lun == lun
            }
            Out::Answer(_) | Out::Command(_) | Out::Fence => false,
        };
        if !self.connection.outbox.urgent.iter().any(told) {
            self.asynchronous(AsyncEvent::TASKS_TERMINATED, lun, [0; 3], Sg::new());
        }
    }

    /// Time2Wait and Time2Retain.
    pub(super) fn times(&self) -> [u16; 2] {
        let Negotiated { time2wait, time2retain, .. } = self.connection.negotiated;
        [time2wait, time2retain].map(|seconds| u16::try_from(seconds).unwrap_or(u16::MAX))
    }

    fn asynchronous(&mut self, event: AsyncEvent, lun: u64, parameters: [u16; 3], data: Sg) {
        if !matches!(self.connection.state, State::FullFeature) {
            return;
        }
        let [parameter1, parameter2, parameter3] = parameters;
        let numbers = ResponseNumbers::default();
        let header = AsyncHeader { lun, numbers, event, vendor_code: 0, parameter1, parameter2, parameter3 };
        self.answer(header.emit(), data, true);
    }

    /// What goes out next, unless a fence is before it.
    // Always: what goes out would be copied.
    #[inline(always)]
    pub(super) fn pop_out(&mut self) -> Option<Out> {
        self.connection.held_back = false;
        let Some(fence) = &self.session.fence else { return self.connection.outbox.pop(Hold::Nothing) };
        let hold = fence.hold(self.key);
        let out = self.connection.outbox.pop(hold);
        self.connection.held_back = hold != Hold::Nothing && out.is_none();
        out
    }

    pub(super) fn poll_transmit(&mut self) -> Option<Sg> {
        if self.connection.paused && !self.is_clogged() {
            self.go_on();
        }
        self.connection.starved = false;
        let mut out = self.pop_out()?;
        let pdu = match &mut out {
            Out::Answer(answer) => Some((answer.bhs, std::mem::take(&mut answer.data), answer.numbered)),
            Out::Command(outgoing) => self.command_pdu(outgoing),
            Out::Fence => Some((ping_header(), Sg::new(), false)),
        };
        let Some((mut bhs, data, numbered)) = pdu else {
            self.connection.outbox.put_back(out);
            self.connection.starved = true;
            return None;
        };
        let len = data.len();
        bhs.set_data_len(len);
        // With the status a command is over: its place in the window is free for the initiator that reads this.
        let freed = match &out {
            Out::Command(outgoing) if numbered => self.session.commands.window_share(outgoing.slot),
            Out::Answer(answer) => u32::from(answer.windowed),
            _ => 0,
        };
        let numbers = self.numbers(freed);
        bhs.set_response_numbers(numbers);
        let pdu = match self.assemble(&bhs, data) {
            Ok(pdu) => pdu,
            Err(data) => {
                match &mut out {
                    Out::Answer(answer) => answer.data = data,
                    Out::Command(outgoing) => outgoing.put_back(data),
                    Out::Fence => {}
                }
                self.connection.outbox.put_back(out);
                self.connection.starved = true;
                return None;
            }
        };
        self.session.max_cmd_sn = numbers.max_cmd_sn;
        if numbered {
            self.connection.stat_sn = self.connection.stat_sn.wrapping_add(1);
        }
        match out {
            Out::Answer(answer) => {
                match answer.windowed {
                    true => self.session.answering -= 1,
                    false => self.connection.answers -= 1,
                }
                if len > 0 {
                    self.connection.answer_bytes -= len;
                    self.connection.weigh();
                }
                if answer.fenced {
                    self.fenced_response_sent();
                }
            }
            Out::Command(outgoing) => self.command_pdu_sent(outgoing, len),
            Out::Fence => {
                self.connection.pinged = Some(self.session.now);
                let stat_sn = self.connection.stat_sn;
                if let Some(fence) = &mut self.session.fence {
                    fence.sent(self.key, stat_sn);
                }
            }
        }
        self.connection.counters.pdus_out += 1;
        Some(pdu)
    }

    /// The other connections wait until it is acknowledged.
    fn fenced_response_sent(&mut self) {
        let stat_sn = self.connection.stat_sn;
        if let Some(fence) = &mut self.session.fence {
            fence.responded(stat_sn);
            self.ping(self.session.now);
        }
    }

    /// Those of a PDU that goes out now: the window is as wide as there are free places in it, with those that this PDU
    /// frees, and never shrinks. MaxCmdSN holds from when the PDU has gone out.
    fn numbers(&self, freed: u32) -> ResponseNumbers {
        let Shared { commands, answering, exp_cmd_sn, max_cmd_sn, .. } = &*self.session;
        let max = exp_cmd_sn.wrapping_add(commands.room(*answering) + freed).wrapping_sub(1);
        let max = if max.wrapping_sub(*max_cmd_sn) < 1 << 31 { max } else { *max_cmd_sn };
        ResponseNumbers { stat_sn: self.connection.stat_sn, exp_cmd_sn: *exp_cmd_sn, max_cmd_sn: max }
    }

    /// Header, payload, padding and digests. Gives the payload back if the arena is exhausted.
    fn assemble(&self, bhs: &Bhs, data: Sg) -> Result<Sg, Sg> {
        let full = matches!(self.connection.state, State::FullFeature | State::Leaving | State::Closing);
        // A login response goes out before the digests are on.
        let digests = full && bhs.opcode() != Opcode::LOGIN_RESPONSE;
        let header_digest = digests && self.connection.negotiated.header_digest;
        let data_digest = digests && self.connection.negotiated.data_digest && !data.is_empty();
        let head = Bhs::LEN + if header_digest { 4 } else { 0 };
        let pad = if self.is_tagged() { 0 } else { data.len().wrapping_neg() & 3 };
        // The data digest lies behind the header in the same block, each in its own segment of it.
        let Some(mut block) = self.session.arena.alloc_reserved(head + if data_digest { 4 } else { 0 })
        else {
            return Err(data);
        };
        let bytes = block.bytes_mut();
        bytes[..Bhs::LEN].copy_from_slice(bhs.bytes());
        if header_digest {
            bytes[Bhs::LEN..head].copy_from_slice(&Crc32c::of(bhs.bytes()).wire());
        }
        let mut body = match data_digest.then(|| self.bounced(&data)) {
            None => data,
            Some(Some(private)) => private,
            Some(None) => return Err(data),
        };
        if pad > 0 {
            body.push(Seg::from_static(&[0; 3][..pad]));
        }
        if data_digest {
            block.bytes_mut()[head..].copy_from_slice(&digest(&body));
        }
        let mut front = block.freeze();
        let tail = data_digest.then(|| front.split_off(head));
        let mut pdu = Sg::from(front);
        if !body.is_empty() {
            pdu.append(body);
        }
        if let Some(tail) = tail {
            pdu.push(tail);
        }
        Ok(pdu)
    }

    /// Digested bytes must lie in memory that nobody else writes: lent pages are copied, the only copy of payload that
    /// this fabric makes.
    fn bounced(&self, data: &Sg) -> Option<Sg> {
        if data.segs().iter().all(|seg| seg.private().is_some()) {
            return Some(data.clone());
        }
        let mut copy = Sg::new();
        let mut at = 0;
        while at < data.len() {
            let len = (data.len() - at).min(Arena::block_max());
            let mut block = self.session.arena.alloc(len)?;
            data.copy_to(at, block.bytes_mut());
            copy.push(block.freeze());
            at += len;
        }
        Some(copy)
    }
}
