// SPDX-License-Identifier: GPL-2.0-or-later
//! The full feature phase of one session, made for speed: headers from a template, payload neither assembled nor
//! copied, answers read where they were received. Logging in and out is left to
//! [`Initiator`](crate::fabrics::iscsi::initiator::Initiator).

use std::collections::VecDeque;

use super::load::{Load, Operation};
use super::login::LoggedIn;
use crate::scsi::Sense;
use crate::time::Instant;
use crate::wire::iscsi::{
    AsyncHeader, Bhs, DataInHeader, DataOutHeader, NO_TAG, NopInHeader, NopOutHeader, Opcode, PduHeader,
    R2tHeader, RejectHeader, RequestNumbers, ScsiCommandFlags, ScsiCommandHeader, ScsiResponseHeader,
};

const GOOD: u8 = 0;
const READ_16: u8 = 0x88;
const WRITE_16: u8 = 0x8a;

/// Most answers to pings that wait to be sent. Under a full load something always waits, and a target sends one every
/// few seconds.
const PINGS_MAX: u32 = 10_000;

/// Bytes to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    Header([u8; Bhs::LEN]),
    /// Of the payload of a slot.
    Payload {
        slot: u32,
        at: u32,
        len: u32,
    },
}

struct Slot {
    operation: Operation,
    /// Bytes that the target has asked for.
    asked: u32,
    begun: Instant,
    /// Stamped payload; empty if nothing is verified.
    payload: Vec<u8>,
    busy: bool,
}

/// What comes in next.
enum Incoming {
    /// The header, of which so many bytes are there.
    Header(usize),
    /// The data segment, with what is left of it.
    Data {
        left: usize,
        /// Of a read, and where in its block: to be compared.
        read: Option<(u32, u32)>,
    },
}

/// See the module.
pub(super) struct Session {
    number: usize,
    terms: LoggedIn,
    cmd_sn: u32,
    max_cmd_sn: u32,
    exp_stat_sn: u32,
    slots: Vec<Slot>,
    free: Vec<u32>,
    out: VecDeque<Piece>,
    /// Pings that were answered since nothing waited to be sent.
    pings: u32,
    /// Bytes of the first piece that have been sent.
    sent: usize,
    incoming: Incoming,
    head: [u8; Bhs::LEN],
    /// Data kept for the sake of its meaning: sense, and what an error says.
    tail: Vec<u8>,
    /// Payload of writes that are not verified, shared by all.
    payload: Vec<u8>,
}

impl Session {
    /// A session with `depth` operations at most.
    pub(super) fn new(number: usize, terms: LoggedIn, depth: u32, load: &Load) -> Self {
        let block = load.block() as usize;
        let slot = || Slot {
            operation: Operation::default(),
            asked: 0,
            begun: Instant::ZERO,
            payload: vec![0; if load.verifies() { block } else { 0 }],
            busy: false,
        };
        Self {
            number,
            cmd_sn: terms.cmd_sn,
            max_cmd_sn: terms.max_cmd_sn,
            exp_stat_sn: terms.exp_stat_sn,
            terms,
            slots: (0..depth).map(|_| slot()).collect(),
            free: (0..depth).rev().collect(),
            out: VecDeque::new(),
            pings: 0,
            sent: 0,
            incoming: Incoming::Header(0),
            head: [0; Bhs::LEN],
            tail: Vec::new(),
            payload: vec![0x5a; if load.verifies() { 0 } else { block }],
        }
    }

    /// What the login needs to go on with: the sequence numbers as they are now.
    pub(super) fn numbers(&self) -> (u32, u32) {
        (self.cmd_sn, self.exp_stat_sn)
    }

    /// Operations under way.
    pub(super) fn in_flight(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Begins as many operations as may be under way.
    pub(super) fn fill(&mut self, load: &mut Load, now: Instant) {
        while let Some(&slot) = self.free.last()
            && self.max_cmd_sn.wrapping_sub(self.cmd_sn) < 1 << 31
            && let Some(operation) = load.next(self.number, now)
        {
            self.free.pop();
            self.begin(slot, operation, load, now);
        }
    }

    fn begin(&mut self, index: u32, operation: Operation, load: &Load, now: Instant) {
        let slot = &mut self.slots[index as usize];
        (slot.operation, slot.asked, slot.begun, slot.busy) = (operation, 0, now, true);
        let block = load.block();
        if operation.write && load.verifies() {
            load.stamp(operation, &mut slot.payload);
        }
        let writes = operation.write;
        let blocks = block / self.terms.block;
        let mut cdb = [0; 16];
        cdb[0] = if writes { WRITE_16 } else { READ_16 };
        cdb[2..10].copy_from_slice(&(operation.index * u64::from(blocks)).to_be_bytes());
        cdb[10..14].copy_from_slice(&blocks.to_be_bytes());
        let first_burst = block.min(self.terms.first_burst);
        let sends = writes && self.terms.immediate_data;
        let immediate = if sends { first_burst.min(self.terms.segment) } else { 0 };
        let more = writes && !self.terms.initial_r2t && immediate < first_burst;
        let direction = if writes { ScsiCommandFlags::WRITE } else { ScsiCommandFlags::READ };
        let header = ScsiCommandHeader {
            immediate: false,
            flags: if more { direction } else { direction.with(ScsiCommandFlags::FINAL) },
            lun: self.terms.lun,
            itt: index,
            expected_len: block,
            numbers: RequestNumbers { cmd_sn: self.cmd_sn, exp_stat_sn: self.exp_stat_sn },
            cdb,
        };
        self.cmd_sn = self.cmd_sn.wrapping_add(1);
        self.push_header(&header, immediate);
        self.push_payload(index, 0, immediate);
        if more {
            self.data_out(index, NO_TAG, immediate, first_burst);
        }
    }

    fn push_header(&mut self, header: &impl PduHeader, data_len: u32) {
        let mut bhs = header.emit();
        bhs.set_data_len(data_len as usize);
        self.out.push_back(Piece::Header(*bhs.bytes()));
    }

    fn push_payload(&mut self, slot: u32, at: u32, len: u32) {
        if len > 0 {
            self.out.push_back(Piece::Payload { slot, at, len });
        }
    }

    /// A sequence of Data-Out PDUs.
    fn data_out(&mut self, index: u32, transfer: u32, from: u32, to: u32) {
        let mut at = from;
        let mut data_sn = 0;
        while at < to {
            let len = (to - at).min(self.terms.segment);
            let header = DataOutHeader {
                is_final: at + len == to,
                lun: self.terms.lun,
                itt: index,
                ttt: transfer,
                exp_stat_sn: self.exp_stat_sn,
                data_sn,
                buffer_offset: at,
            };
            self.push_header(&header, len);
            self.push_payload(index, at, len);
            (at, data_sn) = (at + len, data_sn + 1);
        }
    }

    // Sending.

    /// Whether something waits to be sent.
    pub(super) fn has_output(&self) -> bool {
        !self.out.is_empty()
    }

    /// Calls `add` with what is to be sent, piece by piece, while it returns `true`.
    pub(super) fn output<'a>(&'a self, mut add: impl FnMut(&'a [u8]) -> bool) {
        let mut skip = self.sent;
        for piece in &self.out {
            let bytes = match piece {
                Piece::Header(header) => &header[..],
                Piece::Payload { slot, at, len } => {
                    let own = &self.slots[*slot as usize].payload;
                    let from = if own.is_empty() { &self.payload } else { own };
                    &from[*at as usize..(*at + *len) as usize]
                }
            };
            if !add(&bytes[std::mem::take(&mut skip)..]) {
                return;
            }
        }
    }

    /// So many bytes have gone out.
    pub(super) fn sent(&mut self, mut count: usize) {
        count += std::mem::take(&mut self.sent);
        while let Some(piece) = self.out.front() {
            let len = match piece {
                Piece::Header(header) => header.len(),
                Piece::Payload { len, .. } => *len as usize,
            };
            if count < len {
                self.sent = count;
                return;
            }
            count -= len;
            self.out.pop_front();
        }
    }

    // Receiving.

    /// Takes bytes of the target's, in any cut. An error ends the run.
    pub(super) fn receive(&mut self, mut bytes: &[u8], load: &mut Load, now: Instant) -> Result<(), String> {
        while !bytes.is_empty() {
            match &mut self.incoming {
                Incoming::Header(have) => {
                    let take = (Bhs::LEN - *have).min(bytes.len());
                    self.head[*have..*have + take].copy_from_slice(&bytes[..take]);
                    *have += take;
                    bytes = &bytes[take..];
                    if *have == Bhs::LEN {
                        self.header(load, now)?;
                    }
                }
                Incoming::Data { left, read } => {
                    let take = (*left).min(bytes.len());
                    let (data, rest) = bytes.split_at(take);
                    match read {
                        Some((slot, at)) if load.verifies() => {
                            load.check(self.slots[*slot as usize].operation, *at, data);
                            *at += u32::try_from(take).expect("a data segment has a 24-bit length");
                        }
                        Some(_) => {}
                        None => self.tail.extend_from_slice(data),
                    }
                    *left -= take;
                    bytes = rest;
                    if *left == 0 {
                        self.whole(load, now)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Takes `len` bytes of data that are not looked at: those of a read whose content nobody wants to know. Returns
    /// how many bytes these were; the others are to be received.
    pub(super) fn skip(&mut self, len: usize, load: &mut Load, now: Instant) -> Result<usize, String> {
        let Incoming::Data { left, read: Some(_) } = &mut self.incoming else { return Ok(0) };
        let take = len.min(*left);
        *left -= take;
        if *left == 0 {
            self.whole(load, now)?;
        }
        Ok(take)
    }

    /// The header is there.
    fn header(&mut self, load: &mut Load, now: Instant) -> Result<(), String> {
        let bhs = Bhs::from(self.head);
        let left = (bhs.ahs_len() + bhs.data_len()).next_multiple_of(4);
        let read = match bhs.opcode() {
            Opcode::DATA_IN => {
                let at = DataInHeader::parse(&bhs).buffer_offset;
                if u64::from(at) + bhs.data_len() as u64 > load.block().into() {
                    return Err("the target sends more than it was asked for".to_owned());
                }
                Some((self.slot(bhs.itt())?, at))
            }
            _ => None,
        };
        self.tail.clear();
        self.incoming = Incoming::Data { left, read };
        if left == 0 { self.whole(load, now) } else { Ok(()) }
    }

    fn slot(&self, tag: u32) -> Result<u32, String> {
        match self.slots.get(tag as usize) {
            Some(slot) if slot.busy => Ok(tag),
            _ => Err(format!("the target answers a command that it was not sent (task tag {tag:#x})")),
        }
    }

    /// The PDU is whole.
    fn whole(&mut self, load: &mut Load, now: Instant) -> Result<(), String> {
        self.incoming = Incoming::Header(0);
        let bhs = Bhs::from(self.head);
        let numbers = bhs.response_numbers();
        let max = numbers.max_cmd_sn;
        if max.wrapping_sub(self.max_cmd_sn) < 1 << 31 {
            self.max_cmd_sn = max;
        }
        match bhs.opcode() {
            Opcode::DATA_IN | Opcode::SCSI_RESPONSE => {
                let status = match bhs.opcode() {
                    Opcode::DATA_IN => {
                        let DataInHeader { has_status, status, .. } = DataInHeader::parse(&bhs);
                        has_status.then_some(status)
                    }
                    _ => Some(ScsiResponseHeader::parse(&bhs).status),
                };
                if let Some(status) = status {
                    self.exp_stat_sn = numbers.stat_sn.wrapping_add(1);
                    let tag = self.slot(bhs.itt())?;
                    self.end(tag, status, load, now);
                }
            }
            Opcode::R2T => {
                let tag = self.slot(bhs.itt())?;
                let R2tHeader { ttt, buffer_offset: at, desired_len: len, .. } = R2tHeader::parse(&bhs);
                // Each byte is asked for once, so that no more waits to be sent than the commands have.
                let asked = &mut self.slots[tag as usize].asked;
                *asked = asked.saturating_add(len);
                if *asked > load.block() || at.checked_add(len).is_none_or(|end| end > load.block()) {
                    return Err("the target asks for more than the command has".to_owned());
                }
                self.data_out(tag, ttt, at, at + len);
            }
            Opcode::NOP_IN => {
                let NopInHeader { lun, ttt, .. } = NopInHeader::parse(&bhs);
                if ttt == NO_TAG {
                    return Ok(());
                }
                self.pings = if self.out.is_empty() { 1 } else { self.pings + 1 };
                if self.pings > PINGS_MAX {
                    return Err("the target asks whether we are there, and takes no answer".to_owned());
                }
                let numbers = RequestNumbers { cmd_sn: self.cmd_sn, exp_stat_sn: self.exp_stat_sn };
                let pong = NopOutHeader { immediate: true, lun, itt: NO_TAG, ttt, numbers };
                self.push_header(&pong, 0);
            }
            Opcode::ASYNC_MESSAGE => {
                let event = AsyncHeader::parse(&bhs).event.raw();
                return Err(format!("the target ends the session (event {event})"));
            }
            Opcode::REJECT => {
                let reason = RejectHeader::parse(&bhs).reason.raw();
                return Err(format!("the target rejects a PDU (reason {reason:#04x})"));
            }
            other => return Err(format!("the target sends a PDU that answers nothing ({other:?})")),
        }
        Ok(())
    }

    fn end(&mut self, tag: u32, status: u8, load: &mut Load, now: Instant) {
        let slot = &mut self.slots[tag as usize];
        slot.busy = false;
        self.free.push(tag);
        match status {
            GOOD => load.done(slot.operation, slot.begun, now),
            // Sense data behind its length; other statuses stand for themselves.
            _ => {
                let sense = self.tail.get(2..).and_then(Sense::key_and_code);
                load.failed(slot.operation, sense.unwrap_or_default());
            }
        }
    }
}
