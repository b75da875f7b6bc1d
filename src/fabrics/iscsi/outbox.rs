// SPDX-License-Identifier: GPL-2.0-or-later
//! What waits to go out on a connection.

use std::collections::VecDeque;

use super::fence::Hold;
use crate::memory::Sg;
use crate::scsi::{Residual, Status};
use crate::wire::iscsi::{AsyncEvent, AsyncHeader, Bhs, Opcode, PduHeader};

/// With so many PDUs waiting to be sent that answer nothing which came through the command window, a connection is not
/// read: its initiator does not read either. It is cut off if that lasts ([`Connection::stall`](super::Connection)).
pub(super) const ANSWERS_MAX: usize = 64;

/// An answer that is ready but for its sequence numbers.
pub(super) struct Answer {
    pub(super) bhs: Bhs,
    pub(super) data: Sg,
    /// It consumes a StatSN.
    pub(super) numbered: bool,
    /// The session's fence is before it.
    pub(super) fenced: bool,
    /// Its request came through the command window, and keeps its place there until this goes out.
    pub(super) windowed: bool,
}

pub(super) enum Out {
    Answer(Answer),
    Command(Outgoing),
    /// What was queued before it is to be acknowledged: a ping, behind data and statuses.
    Fence,
}

impl Out {
    /// Whether it goes out before data and statuses that wait: an R2T, so that writes need not wait for the data of
    /// reads, and what tells about the connection itself. The answer to a task management request must not overtake the
    /// statuses of tasks that ended before it.
    fn is_urgent(&self) -> bool {
        match self {
            Self::Command(outgoing) => matches!(outgoing.what, What::R2t { .. }),
            Self::Answer(Answer { bhs, .. }) => match bhs.opcode() {
                Opcode::NOP_IN | Opcode::REJECT => true,
                // That the connection ends is the last that is said on it.
                Opcode::ASYNC_MESSAGE => !matches!(
                    AsyncHeader::parse(bhs).event,
                    AsyncEvent::CONNECTION_DROPPED | AsyncEvent::SESSION_DROPPED
                ),
                _ => false,
            },
            Self::Fence => false,
        }
    }
}

/// What waits to go out. Bounded: by the requests that the window admits, of which each has one piece of data, a status
/// or answer, and MaxOutstandingR2T R2Ts at most, and by [`ANSWERS_MAX`] beside that.
#[derive(Default)]
pub(super) struct Outbox {
    pub(super) urgent: VecDeque<Out>,
    orderly: VecDeque<Out>,
}

impl Outbox {
    fn queue(&mut self, out: &Out) -> &mut VecDeque<Out> {
        if out.is_urgent() { &mut self.urgent } else { &mut self.orderly }
    }

    pub(super) fn push(&mut self, out: Out) {
        self.queue(&out).push_back(out);
    }

    /// Puts back what [`Self::pop`] returned last.
    pub(super) fn put_back(&mut self, out: Out) {
        self.queue(&out).push_front(out);
    }

    #[inline]
    pub(super) fn pop(&mut self, hold: Hold) -> Option<Out> {
        if let Some(out) = self.urgent.pop_front() {
            return Some(out);
        }
        let held = match hold {
            Hold::Nothing => false,
            Hold::Response => matches!(self.orderly.front(), Some(Out::Answer(Answer { fenced: true, .. }))),
            Hold::Orderly => true,
        };
        if held { None } else { self.orderly.pop_front() }
    }

    pub(super) fn push_fence(&mut self) {
        self.orderly.push_back(Out::Fence);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.urgent.is_empty() && self.orderly.is_empty()
    }

    /// Takes out what a command has to send.
    pub(super) fn forget_command(&mut self, slot: u32) {
        let others = |out: &Out| !matches!(out, Out::Command(outgoing) if outgoing.slot == slot);
        self.urgent.retain(others);
        self.orderly.retain(others);
    }

    /// Takes out the R2Ts of a command.
    pub(super) fn forget_r2ts(&mut self, slot: u32) {
        self.urgent.retain(|out| !matches!(out, Out::Command(outgoing) if outgoing.slot == slot));
    }

    /// Takes out what all commands have to send, and an answer with a fence before it: nobody waits for that on a
    /// connection that is over, and without the fence it would overtake others. Those that are left have no place in
    /// the window any more: returns how many had one, and how many are left.
    pub(super) fn forget_commands(&mut self) -> (u32, usize) {
        let mut windowed = 0;
        let mut is_left = |out: &mut Out| match out {
            Out::Answer(answer) => {
                windowed += u32::from(std::mem::take(&mut answer.windowed));
                !answer.fenced
            }
            Out::Command(_) | Out::Fence => false,
        };
        self.urgent.retain_mut(&mut is_left);
        self.orderly.retain_mut(&mut is_left);
        (windowed, self.urgent.len() + self.orderly.len())
    }

    /// Bytes of data of answers.
    pub(super) fn answer_bytes(&self) -> usize {
        let all = self.urgent.iter().chain(&self.orderly);
        let data = |out: &Out| if let Out::Answer(answer) = out { answer.data.len() } else { 0 };
        all.map(data).sum()
    }
}

/// Something of a command that waits to be sent.
pub(super) struct Outgoing {
    pub(super) slot: u32,
    pub(super) what: What,
}

pub(super) enum What {
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
        /// The data segment: it gets memory of the arena when it goes out, so that it waits where there is none.
        sense: Box<[u8]>,
        residual_in: Residual,
        residual_out: Residual,
    },
}

impl Outgoing {
    /// Takes the payload of a PDU back that could not go out.
    pub(super) fn put_back(&mut self, mut payload: Sg) {
        match &mut self.what {
            What::R2t { .. } | What::Response { .. } => {}
            What::Data { data, .. } => {
                payload.append(std::mem::take(data));
                *data = payload;
            }
        }
    }
}
