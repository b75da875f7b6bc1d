// SPDX-License-Identifier: GPL-2.0-or-later
//! SCSI commands: Data-Out in (immediate, unsolicited, solicited by R2T), Data-In and responses out, and the side that
//! the task manager sees.

use std::collections::VecDeque;

use smallvec::SmallVec;

use super::connection::{Connection, Out, sense_segment};
use super::framing::Pdu;
use crate::memory::Sg;
use crate::scsi::{
    Cdb, Command, Exchange, Expected, Lun, Request, Residual, Response, Sense, Status, TaskAttribute,
    TaskManagementResponse, Transport, key,
};
use crate::wire::iscsi::{Bhs, FINAL, NO_TAG, Opcode, reject, scsi_flags as flag};

/// Immediate commands that are taken beyond the command window.
const IMMEDIATE_MAX: u32 = 8;

/// PROTOCOL SERVICE CRC ERROR: Data-Out was damaged on the way (RFC 7143 11.4.7.2).
const PROTOCOL_SERVICE_CRC_ERROR: u16 = 0x4705;

/// A burst that was asked for by an R2T.
#[derive(Clone, Copy)]
struct R2t {
    tag: u32,
    end: u32,
    data_sn: u32,
    /// The PDU has gone out.
    sent: bool,
    at: u32,
}

/// What one command has moved and still has to move. Offsets are those of the command's buffers.
#[derive(Default)]
struct Slot {
    live: bool,
    immediate: bool,
    itt: u32,
    lun: u64,
    flags: u8,
    expected: Expected,
    /// DataSN and R2TSN, which share one sequence.
    sn: u32,
    /// Data-Out: what has come and was not asked for yet, and what the task has taken before.
    buffered: Sg,
    taken: u32,
    /// Unsolicited PDUs are still to come; their next DataSN.
    unsolicited: Option<u32>,
    /// Up to where data was asked for by R2T.
    solicited: u32,
    r2ts: VecDeque<R2t>,
    /// How many bytes the task waits for.
    fetch: Option<u32>,
    /// Data-In: bytes sent, and sent since the last PDU with the F bit.
    sent: u32,
    burst: u32,
    /// Data-Out was damaged or incomplete: the task is being aborted, and the initiator is told then.
    damaged: bool,
}

/// The commands of a connection.
pub(super) struct Exchanges {
    slots: Vec<Slot>,
    free: Vec<u32>,
    depth: u32,
    /// Commands that came through the window, and those that passed it.
    queued: u32,
    immediate: u32,
    next_tag: u16,
}

impl Default for Exchanges {
    fn default() -> Self {
        Self { slots: Vec::new(), free: Vec::new(), depth: 1, queued: 0, immediate: 0, next_tag: 0 }
    }
}

impl Exchanges {
    pub(super) fn set_depth(&mut self, depth: u32) {
        self.depth = depth.clamp(1, 4096);
    }

    /// How many more commands the window may admit.
    pub(super) fn room(&self) -> u32 {
        self.depth - self.queued.min(self.depth)
    }

    pub(super) fn live(&self) -> usize {
        (self.queued + self.immediate) as usize
    }

    pub(super) fn buffered(&self) -> usize {
        self.slots.iter().map(|slot| slot.buffered.len()).sum()
    }

    fn open(&mut self, immediate: bool) -> Option<u32> {
        let (count, max) = match immediate {
            true => (&mut self.immediate, IMMEDIATE_MAX),
            false => (&mut self.queued, self.depth),
        };
        if *count >= max {
            return None;
        }
        *count += 1;
        Some(self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            u32::try_from(self.slots.len() - 1).expect("few slots")
        }))
    }

    fn close(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        if slot.immediate {
            self.immediate -= 1;
        } else {
            self.queued -= 1;
        }
        slot.live = false;
        slot.buffered = Sg::new();
        slot.r2ts.clear();
        slot.fetch = None;
        self.free.push(index);
    }

    /// The live command of a task tag. A scan over a few cache lines, off the path of solicited data.
    pub(super) fn find(&self, itt: u32) -> Option<u32> {
        let found = self.slots.iter().position(|slot| slot.live && slot.itt == itt)?;
        u32::try_from(found).ok()
    }

    /// The command and the burst of a target transfer tag: the low half is the slot.
    fn burst_of(&mut self, tag: u32, itt: u32) -> Option<u32> {
        let index = tag & 0xffff;
        let slot = self.slots.get(index as usize)?;
        (slot.live && slot.itt == itt && slot.r2ts.iter().any(|r2t| r2t.tag == tag)).then_some(index)
    }

    fn tag(&mut self, index: u32) -> u32 {
        self.next_tag = self.next_tag.wrapping_add(1) & 0x7fff;
        u32::from(self.next_tag) << 16 | index
    }
}

/// Something of a command that waits to be sent.
pub(super) struct Outgoing {
    slot: u32,
    what: What,
}

enum What {
    R2t {
        tag: u32,
    },
    /// Data, and with `last` the status in the final PDU.
    Data {
        data: Sg,
        last: Option<Residual>,
    },
    Response {
        status: Status,
        sense: Sg,
        residual_in: Residual,
        residual_out: Residual,
    },
}

impl Connection {
    // In.

    pub(super) fn scsi_command(&mut self, pdu: Pdu) {
        let bhs = &pdu.bhs;
        let flags = bhs.flags();
        let (reads, writes) = (flags & flag::READ != 0, flags & flag::WRITE != 0);
        let Some((cdb, bidi)) = cdb(&pdu) else {
            return self.reject(&pdu.bhs, reject::INVALID_PDU_FIELD);
        };
        let length = bhs.word(20);
        let expected = Expected {
            data_in: match (reads, writes) {
                (true, true) => bidi,
                (true, false) => length,
                _ => 0,
            },
            data_out: if writes { length } else { 0 },
        };
        let first_burst = self.negotiated.first_burst_length.min(expected.data_out);
        let immediate_data = u32::try_from(pdu.data.len()).unwrap_or(u32::MAX);
        if immediate_data > 0 && (!self.negotiated.immediate_data || immediate_data > first_burst) {
            return self.violation("immediate data that was not agreed on");
        }
        let more = !bhs.is_final();
        if more && (!writes || self.negotiated.initial_r2t) {
            return self.violation("unsolicited data that was not agreed on");
        }
        let itt = bhs.itt();
        if itt == NO_TAG {
            return self.reject(&pdu.bhs, reject::INVALID_PDU_FIELD);
        }
        let Some(index) = self.exchanges.open(bhs.is_immediate()) else {
            return self.reject(&pdu.bhs, reject::TOO_MANY_IMMEDIATE);
        };
        let slot = &mut self.exchanges.slots[index as usize];
        slot.live = true;
        slot.immediate = bhs.is_immediate();
        slot.itt = itt;
        slot.lun = bhs.lun();
        slot.flags = flags;
        slot.expected = expected;
        (slot.sn, slot.taken, slot.sent, slot.burst) = (0, 0, 0, 0);
        slot.damaged = false;
        slot.unsolicited = more.then_some(0);
        slot.solicited = immediate_data;
        slot.buffered = pdu.data;
        let command = Command {
            nexus: self.nexus,
            lun: Lun(slot.lun),
            cdb,
            attribute: match flags & 7 {
                2 => TaskAttribute::Ordered,
                3 => TaskAttribute::HeadOfQueue,
                4 => TaskAttribute::Aca,
                _ => TaskAttribute::Simple,
            },
            expected,
        };
        let exchange = Exchange(index);
        self.requests.push_back(Request::Command { exchange, command });
        if pdu.damaged {
            self.damage(index, &pdu.bhs);
        }
    }

    pub(super) fn data_out(&mut self, pdu: Pdu) {
        let bhs = &pdu.bhs;
        let (itt, tag, data_sn, offset) = (bhs.itt(), bhs.word(20), bhs.word(36), bhs.word(40));
        let solicited = tag != NO_TAG;
        let index = match solicited {
            true => self.exchanges.burst_of(tag, itt),
            false => self.exchanges.find(itt),
        };
        // Data for a command that has failed, was aborted or has ended may still be on its way.
        let index = index.filter(|&index| !self.exchanges.slots[index as usize].damaged);
        let Some(index) = index else {
            self.counters.ignored += 1;
            return;
        };
        let len = u32::try_from(pdu.data.len()).unwrap_or(u32::MAX);
        let slot = &mut self.exchanges.slots[index as usize];
        let arrived = slot.taken + u32::try_from(slot.buffered.len()).unwrap_or(u32::MAX);
        let first_burst = self.negotiated.first_burst_length.min(slot.expected.data_out);
        let (next_sn, end) = if solicited {
            // DataSequenceInOrder=Yes: bursts come in the order in which they were asked for.
            match slot.r2ts.front_mut() {
                Some(r2t) if r2t.tag == tag && r2t.sent => (&mut r2t.data_sn, r2t.end),
                _ => return self.violation("Data-Out of a burst out of order"),
            }
        } else {
            match &mut slot.unsolicited {
                Some(next) => (next, first_burst),
                None => return self.violation("unsolicited Data-Out that was not announced"),
            }
        };
        if data_sn != *next_sn {
            // A PDU is missing or doubled: the task fails, the connection goes on (RFC 7143 7.9).
            return self.spoil(index);
        }
        *next_sn += 1;
        if offset != arrived {
            return self.violation("Data-Out with a wrong buffer offset");
        }
        let Some(reached) = arrived.checked_add(len).filter(|&reached| reached <= end) else {
            return self.violation("Data-Out beyond its burst");
        };
        let last = bhs.is_final();
        if solicited && last != (reached == end) {
            return self.violation("Data-Out burst of a wrong length");
        }
        slot.buffered.append(pdu.data);
        if last {
            if solicited {
                slot.r2ts.pop_front();
            } else {
                slot.unsolicited = None;
                slot.solicited = reached;
            }
        }
        if pdu.damaged {
            return self.damage(index, &pdu.bhs);
        }
        self.advance(index);
    }

    /// Data-Out with a wrong digest: the data is not used, the task fails (RFC 7143 7.8 at error recovery level 0).
    fn damage(&mut self, index: u32, bhs: &Bhs) {
        self.counters.digest_errors += 1;
        self.reject(bhs, reject::DATA_DIGEST_ERROR);
        self.spoil(index);
    }

    /// The command's Data-Out is not what the initiator meant: abort the task, and say so when that is done.
    fn spoil(&mut self, index: u32) {
        let slot = &mut self.exchanges.slots[index as usize];
        if !std::mem::replace(&mut slot.damaged, true) {
            slot.buffered = Sg::new();
            self.requests.push_back(Request::Abandoned { exchange: Exchange(index) });
        }
    }

    /// Gives the task what it waits for, or asks the initiator for it.
    fn advance(&mut self, index: u32) {
        let slot = &mut self.exchanges.slots[index as usize];
        let Some(len) = slot.fetch.filter(|_| !slot.damaged) else { return };
        if slot.buffered.len() >= len as usize {
            slot.fetch = None;
            slot.taken += len;
            let data = slot.buffered.split_to(len as usize);
            self.requests.push_back(Request::DataOut { exchange: Exchange(index), data });
            return;
        }
        if slot.unsolicited.is_some() {
            return;
        }
        let end = slot.taken + len;
        loop {
            let slot = &self.exchanges.slots[index as usize];
            let outstanding = u32::try_from(slot.r2ts.len()).unwrap_or(u32::MAX);
            if slot.solicited >= end || outstanding >= self.negotiated.max_outstanding_r2t {
                return;
            }
            let tag = self.exchanges.tag(index);
            let slot = &mut self.exchanges.slots[index as usize];
            let at = slot.solicited;
            let burst = (end - at).min(self.negotiated.max_burst_length);
            slot.solicited += burst;
            slot.r2ts.push_back(R2t { tag, at, end: at + burst, data_sn: 0, sent: false });
            self.outbox.push_back(Out::Command(Outgoing { slot: index, what: What::R2t { tag } }));
        }
    }

    // Out.

    /// The next PDU of the command at the front of the outbox, without taking it.
    pub(super) fn next_of_command(&self) -> (Bhs, Sg, bool) {
        let Some(Out::Command(outgoing)) = self.outbox.front() else {
            unreachable!("asked for a command's PDU")
        };
        let slot = &self.exchanges.slots[outgoing.slot as usize];
        match &outgoing.what {
            What::R2t { tag } => {
                let mut bhs = Bhs::new(Opcode::R2T, FINAL);
                bhs.set_lun(slot.lun);
                bhs.set_word(16, slot.itt);
                bhs.set_word(20, *tag);
                bhs.set_word(36, slot.sn);
                if let Some(r2t) = slot.r2ts.iter().find(|r2t| r2t.tag == *tag) {
                    bhs.set_word(40, r2t.at);
                    bhs.set_word(44, r2t.end - r2t.at);
                }
                (bhs, Sg::new(), false)
            }
            What::Data { data, last } => {
                let len = self.piece(slot, data);
                let mut bhs = Bhs::new(Opcode::DATA_IN, 0);
                bhs.set_word(16, slot.itt);
                bhs.set_word(20, NO_TAG);
                bhs.set_word(36, slot.sn);
                bhs.set_word(40, slot.sent);
                let ends = len == data.len();
                if ends || slot.burst as usize + len == self.negotiated.max_burst_length as usize {
                    bhs.0[1] |= FINAL;
                }
                let status = last.filter(|_| ends);
                if let Some(residual) = status {
                    let (bit, count) = residual_bits(residual, flag::OVERFLOW, flag::UNDERFLOW);
                    bhs.0[1] |= flag::STATUS | bit;
                    bhs.0[3] = Status::Good as u8;
                    bhs.set_word(44, count);
                }
                let mut rest = data.clone();
                (bhs, rest.split_to(len), status.is_some())
            }
            What::Response { status, sense, residual_in, residual_out } => {
                let mut bhs = Bhs::new(Opcode::SCSI_RESPONSE, FINAL);
                bhs.0[3] = *status as u8;
                bhs.set_word(16, slot.itt);
                bhs.set_word(36, slot.sn);
                let bidi = slot.flags & (flag::READ | flag::WRITE) == flag::READ | flag::WRITE;
                let plain = match slot.flags & flag::WRITE {
                    // Data that a command wants to return where the initiator announced none is overflow too.
                    0 => *residual_in,
                    _ if !bidi && matches!(residual_in, Residual::Overflow(_)) => *residual_in,
                    _ => *residual_out,
                };
                let (bit, count) = residual_bits(plain, flag::OVERFLOW, flag::UNDERFLOW);
                bhs.0[1] |= bit;
                bhs.set_word(44, count);
                if bidi {
                    let (bit, count) = residual_bits(*residual_in, flag::BIDI_OVERFLOW, flag::BIDI_UNDERFLOW);
                    bhs.0[1] |= bit;
                    bhs.set_word(40, count);
                }
                (bhs, sense.clone(), true)
            }
        }
    }

    /// How much of `data` fits in the next Data-In PDU: the peer's limit, and the end of the burst.
    fn piece(&self, slot: &Slot, data: &Sg) -> usize {
        let burst = self.negotiated.max_burst_length - slot.burst;
        data.len().min(self.negotiated.max_xmit_data_segment_length.min(burst) as usize)
    }

    /// The PDU of [`Self::next_of_command`] has gone out.
    pub(super) fn command_pdu_sent(&mut self) {
        let Some(Out::Command(mut outgoing)) = self.outbox.pop_front() else {
            unreachable!("asked for a command's PDU")
        };
        let index = outgoing.slot;
        match &mut outgoing.what {
            What::R2t { tag } => {
                let slot = &mut self.exchanges.slots[index as usize];
                slot.sn += 1;
                if let Some(r2t) = slot.r2ts.iter_mut().find(|r2t| r2t.tag == *tag) {
                    r2t.sent = true;
                }
            }
            What::Data { data, last } => {
                let len = self.piece(&self.exchanges.slots[index as usize], data);
                data.split_to(len);
                let (ends, last) = (data.is_empty(), last.is_some());
                let slot = &mut self.exchanges.slots[index as usize];
                slot.sn += 1;
                let len = u32::try_from(len).unwrap_or(u32::MAX);
                slot.sent = slot.sent.wrapping_add(len);
                slot.burst += len;
                if ends || slot.burst == self.negotiated.max_burst_length {
                    slot.burst = 0;
                }
                match (ends, last) {
                    (false, _) => self.outbox.push_front(Out::Command(outgoing)),
                    (true, true) => self.exchanges.close(index),
                    // Its status follows, or the device wants to send more.
                    (true, false) => {
                        let next = self.outbox.front();
                        let followed = matches!(next, Some(Out::Command(o)) if o.slot == index);
                        if !followed {
                            self.requests.push_back(Request::DataInTaken { exchange: Exchange(index) });
                        }
                    }
                }
            }
            What::Response { .. } => self.exchanges.close(index),
        }
    }

    fn push(&mut self, slot: u32, what: What) {
        self.outbox.push_back(Out::Command(Outgoing { slot, what }));
    }
}

impl Transport for Connection {
    fn poll_request(&mut self) -> Option<Request> {
        self.requests.pop_front()
    }

    fn receive_data_out(&mut self, exchange: Exchange, len: u32) {
        self.exchanges.slots[exchange.0 as usize].fetch = Some(len);
        self.advance(exchange.0);
    }

    fn send_data_in(&mut self, exchange: Exchange, data: Sg) {
        self.push(exchange.0, What::Data { data, last: None });
    }

    fn send_command_complete(&mut self, exchange: Exchange, response: Response) {
        let slot = &self.exchanges.slots[exchange.0 as usize];
        let bidi = slot.flags & flag::WRITE != 0;
        let Response { status, sense, data, residual_in, residual_out } = response;
        if !data.is_empty() {
            // Phase collapse: GOOD travels in the last Data-In PDU (RFC 7143 11.7.3).
            let collapse = status == Status::Good && !bidi;
            let last = collapse.then_some(residual_in);
            self.push(exchange.0, What::Data { data, last });
            if collapse {
                return;
            }
        }
        // Without memory for the sense data the initiator gets the status alone, and may ask with REQUEST SENSE.
        let sense = Sg::copied(&self.arena, &sense_segment(&sense)).unwrap_or_default();
        self.push(exchange.0, What::Response { status, sense, residual_in, residual_out });
    }

    fn task_management_executed(&mut self, request: Exchange, response: TaskManagementResponse) {
        self.task_management_done(request, response);
    }

    fn terminate(&mut self, exchange: Exchange, status: Option<Status>) {
        let index = exchange.0;
        self.outbox.retain(|out| !matches!(out, Out::Command(outgoing) if outgoing.slot == index));
        let damaged = self.exchanges.slots[index as usize].damaged;
        let status = if damaged { Some(Status::CheckCondition) } else { status };
        let Some(status) = status else { return self.exchanges.close(index) };
        let mut sense = SmallVec::new();
        if damaged {
            sense = Sense::new(key::ABORTED_COMMAND, PROTOCOL_SERVICE_CRC_ERROR).encode(false);
        }
        let (residual_in, residual_out) = (Residual::None, Residual::None);
        let response = Response { status, sense, data: Sg::new(), residual_in, residual_out };
        self.send_command_complete(exchange, response);
    }
}

fn residual_bits(residual: Residual, over: u8, under: u8) -> (u8, u32) {
    match residual {
        Residual::None => (0, 0),
        Residual::Overflow(n) => (over, n),
        Residual::Underflow(n) => (under, n),
    }
}

/// The CDB with its extension, and the expected length of the read direction of a bidirectional command, from the
/// additional header segments (RFC 7143 11.2.2). `None` if they are malformed.
fn cdb(pdu: &Pdu) -> Option<(Cdb, u32)> {
    let mut bytes: SmallVec<[u8; 32]> = SmallVec::from_slice(&pdu.bhs.0[32..48]);
    let mut bidi = 0;
    let mut rest = &pdu.ahs[..];
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
