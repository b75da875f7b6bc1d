// SPDX-License-Identifier: GPL-2.0-or-later
//! One FCP exchange: a command or a task management function, what it has yet to send, and the data that it fetches.

use std::collections::VecDeque;

use super::sequence::data_frame;
use crate::memory::{Arena, Seg, SegMut, Sg};
use crate::scsi::{Residual, Status};
use crate::time::Instant;
use crate::wire::fc::{
    FCtl, FcHeader, FcId, FcType, FcpResidual, FcpRsp, FcpTransfer, FcpXferRdy, RCtl, RspCode,
};

/// Who sends a frame, to whom, and how much fits into it.
#[derive(Clone, Copy)]
pub(super) struct Direction {
    pub(super) own: FcId,
    pub(super) peer: FcId,
    pub(super) frame_size: usize,
}

/// How far an exchange has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ExchangePhase {
    /// The task manager has it.
    Task,
    /// The task manager has it, and nobody hears of it any more but by what answers this ABTS, if there is one.
    Aborting(Option<FcHeader>),
    /// The response is on its way.
    Answering,
    /// FCP_CONF is waited for until then.
    Confirming(Instant),
}

/// What an exchange has to send, in this order.
pub(super) enum Unsent {
    /// Data, of which so much has gone in the sequence that has begun.
    Data {
        data: Sg,
        begun: bool,
    },
    /// FCP_XFER_RDY for so many bytes.
    Ready(u32),
    Response(Box<FcpEnd>),
}

/// What an FCP_RSP says.
pub(super) struct FcpEnd {
    pub(super) status: Status,
    pub(super) sense: Vec<u8>,
    pub(super) residual: FcpResidual,
    pub(super) bidirectional: Option<FcpResidual>,
    pub(super) code: Option<RspCode>,
    pub(super) confirm: bool,
}

impl FcpEnd {
    pub(super) fn status(status: Status) -> Self {
        Self {
            status,
            sense: Vec::new(),
            residual: FcpResidual::None,
            bidirectional: None,
            code: None,
            confirm: false,
        }
    }

    pub(super) fn code(code: RspCode) -> Self {
        Self { code: Some(code), ..Self::status(Status::Good) }
    }

    /// Residuals as the directions of the command want them: that of the only one, or that of what is written with that
    /// of what is read.
    pub(super) fn with_residuals(self, transfer: FcpTransfer, read: Residual, write: Residual) -> Self {
        let of = |residual| match residual {
            Residual::None => FcpResidual::None,
            Residual::Underflow(less) => FcpResidual::Under(less),
            Residual::Overflow(more) => FcpResidual::Over(more),
        };
        // What a command would move in a direction that was not announced is told, too.
        let either = |first, other| if first == Residual::None { other } else { first };
        let (residual, bidirectional) = match transfer {
            FcpTransfer::Bidirectional { .. } => (write, Some(of(read))),
            FcpTransfer::Write(_) => (either(write, read), None),
            FcpTransfer::Read(_) | FcpTransfer::None => (either(read, write), None),
        };
        Self { residual: of(residual), bidirectional, ..self }
    }
}

/// Why data of a burst is no good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BurstFault {
    /// A frame is missing, or is not where it belongs.
    Gap,
    /// Nothing more came.
    Silence,
}

/// Data that was asked for by an FCP_XFER_RDY, and where it is put.
pub(super) struct WriteBurst {
    start: u32,
    len: u32,
    received: u32,
    /// SEQ_ID, and the SEQ_CNT of the next frame.
    sequence: Option<(u8, u16)>,
    damaged: bool,
    /// Those that are full first.
    blocks: VecDeque<SegMut>,
    full: Sg,
    filled: usize,
    pub(super) deadline: Instant,
}

/// What a frame of data has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BurstProgress {
    More,
    Complete,
    Failed,
    /// It is of another sequence than is waited for.
    Stray,
}

impl WriteBurst {
    /// `None` if there is no memory for it.
    fn new(arena: &Arena, start: u32, len: u32, deadline: Instant) -> Option<Self> {
        let (mut blocks, mut left) = (VecDeque::new(), len as usize);
        while left > 0 {
            let block = arena.alloc(left.min(Arena::block_max()))?;
            left -= block.len();
            blocks.push_back(block);
        }
        Some(Self {
            start,
            len,
            received: 0,
            sequence: None,
            damaged: false,
            blocks,
            full: Sg::new(),
            filled: 0,
            deadline,
        })
    }

    /// Takes a frame of data. Frames come in order on Ethernet; where one is missing the rest of the burst is of no
    /// use.
    fn take(&mut self, header: &FcHeader, data: &[u8]) -> BurstProgress {
        let (seq_id, seq_cnt) = *self.sequence.get_or_insert((header.seq_id, header.seq_cnt));
        if header.seq_id != seq_id {
            return BurstProgress::Stray;
        }
        let last = header.f_ctl.contains(FCtl::END_SEQUENCE);
        let place = self.start + self.received;
        let fits = data.len() <= (self.len - self.received) as usize;
        if header.seq_cnt == seq_cnt && header.relative_offset() == Some(place) && fits && !self.damaged {
            self.put(data);
            self.sequence = Some((seq_id, seq_cnt.wrapping_add(1)));
        } else {
            self.damaged = true;
        }
        match (last, !self.damaged && self.received == self.len) {
            (true, true) => BurstProgress::Complete,
            (true, false) => BurstProgress::Failed,
            (false, _) => BurstProgress::More,
        }
    }

    fn put(&mut self, mut data: &[u8]) {
        self.received += u32::try_from(data.len()).expect("it fits into a frame");
        while let Some(block) = self.blocks.front_mut().filter(|_| !data.is_empty()) {
            let (now, rest) = data.split_at(data.len().min(block.len() - self.filled));
            block.bytes_mut()[self.filled..self.filled + now.len()].copy_from_slice(now);
            self.filled += now.len();
            if self.filled == block.len() {
                self.full.push(self.blocks.pop_front().expect("it is there").freeze());
                self.filled = 0;
            }
            data = rest;
        }
    }
}

/// Data that the task manager has asked for.
struct Fetch {
    /// Where it ends.
    end: u32,
    data: Sg,
}

/// See the module.
pub(super) struct FcpExchange {
    pub(super) ox_id: u16,
    rx_id: u16,
    pub(super) transfer: FcpTransfer,
    /// It is a task management function.
    pub(super) is_function: bool,
    pub(super) phase: ExchangePhase,
    /// Why the initiator is told that it failed.
    pub(super) fault: Option<BurstFault>,
    pub(super) unsent: VecDeque<Unsent>,
    /// It stands in a line of those who have something to send.
    pub(super) in_line: bool,
    pub(super) burst: Option<WriteBurst>,
    fetch: Option<Fetch>,
    /// Bytes asked for, by the task manager.
    fetched: u32,
    /// Bytes sent.
    sent: u32,
    /// Bytes received.
    pub(super) received: u32,
    /// Of the last sequence that was sent; that of the command is 0.
    seq_id: u8,
    seq_cnt: u16,
}

impl FcpExchange {
    pub(super) fn new(ox_id: u16, rx_id: u16, transfer: FcpTransfer, is_function: bool) -> Self {
        Self {
            ox_id,
            rx_id,
            transfer,
            is_function,
            phase: ExchangePhase::Task,
            fault: None,
            unsent: VecDeque::new(),
            in_line: false,
            burst: None,
            fetch: None,
            fetched: 0,
            sent: 0,
            received: 0,
            seq_id: 0,
            seq_cnt: 0,
        }
    }

    /// What REC tells: bytes that were moved.
    pub(super) fn moved(&self) -> u32 {
        self.sent.max(self.received)
    }

    /// Whether the initiator is to send next.
    pub(super) fn awaits_initiator(&self) -> bool {
        self.burst.is_some() || matches!(self.phase, ExchangePhase::Confirming(_))
    }

    /// Fetches the next bytes of the command, in bursts of at most `burst_max`.
    pub(super) fn fetch(&mut self, len: u32, burst_max: u32) {
        let end = self.fetched.saturating_add(len);
        self.fetch = Some(Fetch { end, data: Sg::new() });
        self.unsent.push_back(Unsent::Ready(len.min(burst_max)));
    }

    /// Takes a frame of data; `None` if none is waited for.
    pub(super) fn take_data(&mut self, header: &FcHeader, data: &[u8]) -> Option<BurstProgress> {
        self.burst.as_mut().map(|burst| burst.take(header, data))
    }

    /// The burst is complete. Returns all data that was to be fetched, or has the next burst asked for.
    pub(super) fn end_burst(&mut self, burst_max: u32) -> Option<Sg> {
        let burst = self.burst.take()?;
        let fetch = self.fetch.as_mut()?;
        self.fetched += burst.len;
        self.received += burst.len;
        fetch.data.append(burst.full);
        if self.fetched < fetch.end {
            self.unsent.push_back(Unsent::Ready((fetch.end - self.fetched).min(burst_max)));
            return None;
        }
        self.fetch.take().map(|fetch| fetch.data)
    }

    /// Forgets what it was to fetch and to send.
    pub(super) fn forget(&mut self) {
        self.unsent.clear();
        self.burst = None;
        self.fetch = None;
    }

    /// How many bytes the initiator may send of what is asked for.
    pub(super) fn granted(&self) -> u32 {
        self.burst.as_ref().map_or(0, |burst| burst.len)
    }

    fn header(&self, direction: &Direction, r_ctl: RCtl, f_ctl: FCtl) -> FcHeader {
        let Direction { own, peer, .. } = *direction;
        let request = FcHeader::request(r_ctl, FcType::FCP, own, peer, self.ox_id);
        let f_ctl = f_ctl.with(FCtl::EXCHANGE_RESPONDER);
        FcHeader { f_ctl, seq_id: self.seq_id, seq_cnt: self.seq_cnt, rx_id: self.rx_id, ..request }
    }

    fn next_sequence(&mut self) {
        self.seq_id = self.seq_id.wrapping_add(1);
        self.seq_cnt = 0;
    }

    /// The next frame that it has to send, with what is at its end if that is all of it; `None` if there is no memory
    /// for it now, or nothing to send. `deadline` is when data has to be there that is asked for.
    pub(super) fn frame(
        &mut self,
        arena: &Arena,
        direction: &Direction,
        deadline: Instant,
    ) -> Option<(FcHeader, Seg, Option<Unsent>)> {
        let before = (self.seq_id, self.seq_cnt);
        let made = self.make(arena, direction, deadline);
        if made.is_none() {
            (self.seq_id, self.seq_cnt) = before;
        }
        made
    }

    fn make(
        &mut self,
        arena: &Arena,
        direction: &Direction,
        deadline: Instant,
    ) -> Option<(FcHeader, Seg, Option<Unsent>)> {
        let whole = FCtl::default().with(FCtl::END_SEQUENCE);
        let initiative = whole.with(FCtl::SEQUENCE_INITIATIVE);
        match *self.unsent.front()? {
            Unsent::Data { begun, .. } => {
                if !begun {
                    self.next_sequence();
                }
                let header = self.header(direction, RCtl::FCP_DATA, FCtl::RELATIVE_OFFSET);
                let Some(Unsent::Data { data, begun }) = self.unsent.front_mut() else { return None };
                let len = data.len().min(direction.frame_size);
                let last = len == data.len();
                let f_ctl = if last { header.f_ctl.with(whole) } else { header.f_ctl };
                let header = FcHeader { f_ctl, parameter: self.sent, ..header };
                let (header, frame) = data_frame(arena, header, data, len)?;
                data.skip(len);
                *begun = true;
                self.sent = self.sent.wrapping_add(u32::try_from(len).expect("it fits into a frame"));
                self.seq_cnt = self.seq_cnt.wrapping_add(1);
                Some((header, frame, if last { self.unsent.pop_front() } else { None }))
            }
            Unsent::Ready(len) => {
                let burst = WriteBurst::new(arena, self.fetched, len, deadline)?;
                self.next_sequence();
                let header = self.header(direction, RCtl::FCP_XFER_RDY, initiative);
                let ready = FcpXferRdy { relative_offset: self.fetched, burst_len: len };
                let frame = super::sequence::unit_frame(arena, header, &ready)?;
                self.burst = Some(burst);
                Some((header, frame, self.unsent.pop_front()))
            }
            Unsent::Response(_) => {
                self.next_sequence();
                let Some(Unsent::Response(end)) = self.unsent.front() else { return None };
                let f_ctl = if end.confirm { initiative } else { whole.with(FCtl::LAST_SEQUENCE) };
                let header = self.header(direction, RCtl::FCP_RSP, f_ctl);
                // What does not fit into a frame besides the rest.
                let room = direction.frame_size.saturating_sub(40);
                let response = FcpRsp {
                    residual: end.residual,
                    bidirectional: end.bidirectional,
                    confirm: end.confirm,
                    response: end.code,
                    sense: &end.sense[..end.sense.len().min(room)],
                    ..FcpRsp::status(end.status as u8)
                };
                let frame = super::sequence::unit_frame(arena, header, &response)?;
                Some((header, frame, self.unsent.pop_front()))
            }
        }
    }
}
