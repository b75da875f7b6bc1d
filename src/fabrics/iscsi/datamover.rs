// SPDX-License-Identifier: GPL-2.0-or-later
//! The line that RFC 5047 draws through iSCSI. What lies below it moves control PDUs and data, the datamover: TCP, or
//! one that moves data between registered memory and buffers which the initiator advertises with its commands (iSER).
//!
//! | Service | TCP | By tags | Told back by |
//! |---|---|---|---|
//! | Send_Control | a PDU of the stream | [`Movement::SendControl`] | `command_pdu_sent` |
//! | Put_Data | Data-In PDUs, the last with the status | [`Movement::PutData`] | `Request::DataInTaken` |
//! | Get_Data | R2T and Data-Out PDUs | [`Movement::GetData`] | `Request::DataOut` |
//! | Control_Notify | what the framer cuts out of the stream | [`Session::control_notify`](super::Session::control_notify) | |
//! | Deallocate_Task_Resources | `forget_command`, `drop_data_out` | `forget_buffers`; moves that are under way end by themselves | |
//!
//! Which of both it is a connection knows from its beginning; each place where they differ asks that once.

use std::collections::HashMap;

use smallvec::SmallVec;

use super::command_slots::CommandSlots;
use crate::memory::Sg;
use crate::wire::iscsi::Bhs;

/// Requests for immediate delivery that a datamover by tags has room for, beside the command window
/// (MaxOutstandingUnexpectedPDUs): a message for which no memory is ready ends the connection.
pub(super) const UNEXPECTED_MAX: u32 = 16;

/// A buffer of an initiator's, or what is left of it from some byte on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaggedBuffer {
    /// What the initiator's adapter calls it.
    pub tag: u32,
    /// Where it begins.
    pub base: u64,
}

impl TaggedBuffer {
    pub(super) fn from(self, at: u32) -> Self {
        Self { base: self.base.wrapping_add(at.into()), ..self }
    }
}

/// A control PDU that has come as a message.
pub struct ControlMessage {
    /// Its header.
    pub bhs: Bhs,
    /// Additional header segments.
    pub ahs: SmallVec<[u8; 16]>,
    /// Its data segment.
    pub data: Sg,
    /// Where the data of a command that writes is, behind what has come with the command.
    pub write: Option<TaggedBuffer>,
    /// Where the data of a command that reads goes.
    pub read: Option<TaggedBuffer>,
}

/// Names data that is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MovementId(pub(super) u32);

/// What a datamover by tags is to do, in this order: a control PDU arrives after the data that was put before.
#[derive(Debug)]
pub enum Movement {
    /// Send a message: header and data segment, without padding.
    SendControl(Sg),
    /// Put data into a buffer, then say so with [`Session::data_put`](super::Session::data_put).
    PutData {
        /// Which movement it is.
        id: MovementId,
        /// From there on.
        to: TaggedBuffer,
        /// The bytes, held until they have gone.
        data: Sg,
    },
    /// Get data from a buffer, and give it to [`Session::data_got`](super::Session::data_got).
    GetData {
        /// Which movement it is.
        id: MovementId,
        /// From there on.
        from: TaggedBuffer,
        /// So many bytes.
        len: u32,
    },
}

/// What a command has advertised.
#[derive(Clone, Copy)]
pub(super) struct TaskBuffers {
    pub(super) write: Option<TaggedBuffer>,
    pub(super) read: Option<TaggedBuffer>,
    /// Bytes that came with it, before those of `write`.
    pub(super) immediate: u32,
}

/// A movement that has begun and not ended.
pub(super) struct UnderWay {
    pub(super) id: MovementId,
    pub(super) slot: u32,
    pub(super) itt: u32,
    pub(super) puts: bool,
}

impl UnderWay {
    /// Whether its command is there still.
    pub(super) fn is_wanted(&self, commands: &CommandSlots) -> bool {
        commands.find(self.itt) == Some(self.slot)
    }
}

/// What a connection has whose data is moved by tags.
#[derive(Default)]
pub(super) struct TaggedMover {
    /// By task tag.
    pub(super) buffers: HashMap<u32, TaskBuffers>,
    pub(super) under_way: Vec<UnderWay>,
}

impl TaggedMover {
    pub(super) fn end(&mut self, id: MovementId) -> Option<UnderWay> {
        let index = self.under_way.iter().position(|move_| move_.id == id)?;
        Some(self.under_way.swap_remove(index))
    }

    /// A command is over.
    pub(super) fn forget_buffers(&mut self, itt: u32) {
        self.buffers.remove(&itt);
    }
}
