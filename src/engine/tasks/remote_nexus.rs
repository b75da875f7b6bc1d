// SPDX-License-Identifier: GPL-2.0-or-later
//! What a nexus has at other cores, and what is said of it between cores: see [`super::remote`].

use std::sync::Arc;

use smallvec::SmallVec;

use crate::memory::Sg;
use crate::scsi::{
    EncodedSense, Lun, Nexus, NexusId, Request, RequestTag, Response, Status, TaskManagementResponse,
    Transport, UnitKey,
};

/// What the core of a session and the owner of logical units say to each other of a nexus, with data as `D`.
#[derive(Debug)]
pub enum NexusMessage<D = Sg> {
    /// To the owner: mirror it.
    Join {
        /// The nexus.
        id: NexusId,
        /// Its name.
        name: Arc<Nexus>,
        /// All that it sees.
        units: Vec<(Lun, UnitKey)>,
    },
    /// To the owner: it sees these logical units now.
    See(Vec<(Lun, UnitKey)>),
    /// To the owner: what its transport has.
    Request(Request<D>),
    /// To the owner: it is gone.
    Leave,
    /// From the owner, to its transport.
    Call(TransportCall<D>),
    /// From the owner: its last task has ended. This is the last message.
    Left,
}

/// A call of a [`Transport`], with data as `D`.
#[derive(Debug)]
#[expect(missing_docs, reason = "the arguments are those of the trait's functions")]
pub enum TransportCall<D = Sg> {
    ReceiveDataOut(RequestTag, u32),
    SendDataIn(RequestTag, D),
    SendCommandComplete(RequestTag, Response<D>),
    TaskManagementExecuted(RequestTag, TaskManagementResponse),
    Terminate(RequestTag, Option<Status>),
    ReportEvent(Lun, EncodedSense),
}

impl<D> NexusMessage<D> {
    /// With the data as something else.
    pub fn map_data<E>(self, map: impl FnOnce(D) -> E) -> NexusMessage<E> {
        match self {
            Self::Join { id, name, units } => NexusMessage::Join { id, name, units },
            Self::Request(request) => NexusMessage::Request(request.map_data(map)),
            Self::See(units) => NexusMessage::See(units),
            Self::Leave => NexusMessage::Leave,
            Self::Call(call) => NexusMessage::Call(call.map_data(map)),
            Self::Left => NexusMessage::Left,
        }
    }
}

impl<D> TransportCall<D> {
    /// With the data as something else.
    pub fn map_data<E>(self, map: impl FnOnce(D) -> E) -> TransportCall<E> {
        use TransportCall as C;
        match self {
            Self::ReceiveDataOut(tag, len) => C::ReceiveDataOut(tag, len),
            Self::SendDataIn(tag, data) => C::SendDataIn(tag, map(data)),
            Self::SendCommandComplete(tag, response) => C::SendCommandComplete(tag, response.map_data(map)),
            Self::TaskManagementExecuted(tag, response) => C::TaskManagementExecuted(tag, response),
            Self::Terminate(tag, status) => C::Terminate(tag, status),
            Self::ReportEvent(lun, sense) => C::ReportEvent(lun, sense),
        }
    }

    /// The data, of calls that have some.
    pub fn data(&self) -> Option<&D> {
        match self {
            Self::SendDataIn(_, data) => Some(data),
            Self::SendCommandComplete(_, response) => Some(&response.data),
            _ => None,
        }
    }
}

impl TransportCall {
    pub(super) fn make(self, transport: &mut dyn Transport) {
        match self {
            Self::ReceiveDataOut(tag, len) => transport.receive_data_out(tag, len),
            Self::SendDataIn(tag, data) => transport.send_data_in(tag, data),
            Self::SendCommandComplete(tag, response) => transport.send_command_complete(tag, response),
            Self::TaskManagementExecuted(tag, response) => transport.task_management_executed(tag, response),
            Self::Terminate(tag, status) => transport.terminate(tag, status),
            Self::ReportEvent(lun, sense) => transport.report_event(lun, &sense),
        }
    }
}

/// A command that its owner has.
#[derive(Clone, Copy)]
pub(super) struct RemoteCommand {
    pub(super) owner: usize,
    /// The owner waits for the initiator.
    pub(super) moves_data: bool,
}

/// What a nexus has at other cores.
pub(super) struct RemoteNexus {
    /// What it sees there, and whose that is.
    pub(super) units: Vec<(Lun, UnitKey, usize)>,
    /// Where it has joined, and has not left yet.
    pub(super) owners: SmallVec<[usize; 2]>,
    /// By request tag.
    pub(super) commands: Vec<Option<RemoteCommand>>,
    /// Functions that concern units of several cores, once for each owner that has not answered; and what waits for
    /// that.
    pub(super) functions: Vec<(RequestTag, usize)>,
    /// What waits for its end.
    pub(super) leaving: Option<usize>,
}

impl RemoteNexus {
    /// The core that owns a logical unit, if that is another one.
    pub(super) fn owner(&self, lun: Lun) -> Option<usize> {
        self.units.iter().find(|(other, ..)| *other == lun).map(|(.., owner)| *owner)
    }

    /// A command that another core has.
    pub(super) fn command(&mut self, request_tag: RequestTag) -> Option<&mut RemoteCommand> {
        self.commands.get_mut(request_tag.0 as usize)?.as_mut()
    }
}
