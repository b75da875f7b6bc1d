// SPDX-License-Identifier: GPL-2.0-or-later
//! The upper waist, seen from below: what a fabric is to whoever runs its tasks. The calls are the transport protocol
//! services of SAM-5 clause 5.4 and 7; how bytes move (in a stream, in frames, by RDMA, in a ring slot) is the
//! fabric's own affair.

use super::{Command, EncodedSense, Lun, NexusId, Status};
use crate::io::Landing;
use crate::memory::Sg;

/// A fabric's name for a command it has handed down, until the response or the abort.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestTag(pub u32);

/// Task management functions (SAM-5 7.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are SAM's")]
pub enum TaskManagementFunction {
    AbortTask(RequestTag),
    AbortTaskSet,
    ClearAca,
    ClearTaskSet,
    LogicalUnitReset,
    /// All logical units of the target.
    TargetReset,
    /// As the former, and all connections end.
    TargetColdReset,
}

/// The answer to a task management request (SAM-5 7.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are SAM's")]
pub enum TaskManagementResponse {
    Complete,
    /// Complete, for SAM; iSCSI tells that the task to be aborted had ended before: its status is on its way.
    NoSuchTask,
    IncorrectLun,
    NotSupported,
    Rejected,
}

/// How much less or more was moved than the initiator expected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Residual {
    /// As expected.
    #[default]
    None,
    /// So many bytes less.
    Underflow(u32),
    /// So many bytes would have been left over.
    Overflow(u32),
}

/// What goes back to the initiator at the end of a command.
#[derive(Debug)]
pub struct Response<D = Sg> {
    /// Status.
    pub status: Status,
    /// Encoded sense data; empty without CHECK CONDITION.
    pub sense: EncodedSense,
    /// The last Data-In bytes, already cut to what the initiator expects.
    pub data: D,
    /// Residual of the Data-In direction.
    pub residual_in: Residual,
    /// Residual of the Data-Out direction.
    pub residual_out: Residual,
}

impl<D> Response<D> {
    /// With the data as something else.
    pub fn map_data<E>(self, map: impl FnOnce(D) -> E) -> Response<E> {
        let Self { status, sense, data, residual_in, residual_out } = self;
        Response { status, sense, data: map(data), residual_in, residual_out }
    }
}

/// What a fabric asks of the task manager.
#[derive(Debug)]
pub enum Request<D = Sg> {
    /// A new command (SCSI Command Received).
    Command {
        /// The fabric's name for it.
        request_tag: RequestTag,
        /// The command.
        command: Command,
    },
    /// The bytes asked for by [`Transport::receive_data_out`] are here (Data-Out Received).
    DataOut {
        /// Which command.
        request_tag: RequestTag,
        /// Exactly as many bytes as were asked for.
        data: D,
    },
    /// The data given to [`Transport::send_data_in`] is taken; there is room for more (Data-In Delivered).
    DataInTaken {
        /// Which command.
        request_tag: RequestTag,
    },
    /// A task management request, answered by [`Transport::task_management_executed`].
    TaskManagement {
        /// The fabric's name for the request, in a name space of its own.
        request: RequestTag,
        /// Which nexus asks.
        nexus: NexusId,
        /// What.
        function: TaskManagementFunction,
        /// At which logical unit.
        lun: Lun,
    },
    /// The fabric gives a command up (its connection is gone, or it was malformed half way): abort it, and call
    /// [`Transport::terminate`] when that is done. A command that has ended meanwhile is left alone.
    Abandoned {
        /// Which command.
        request_tag: RequestTag,
    },
}

impl<D> Request<D> {
    /// With the data as something else.
    pub fn map_data<E>(self, map: impl FnOnce(D) -> E) -> Request<E> {
        match self {
            Self::Command { request_tag, command } => Request::Command { request_tag, command },
            Self::DataOut { request_tag, data } => Request::DataOut { request_tag, data: map(data) },
            Self::DataInTaken { request_tag } => Request::DataInTaken { request_tag },
            Self::TaskManagement { request, nexus, function, lun } => {
                Request::TaskManagement { request, nexus, function, lun }
            }
            Self::Abandoned { request_tag } => Request::Abandoned { request_tag },
        }
    }
}

/// One I_T nexus of a fabric. Calls never wait; what cannot go out at once is queued within the bounds that the fabric
/// announced (its command window), so none of them can fail.
pub trait Transport {
    /// The next request, if there is one.
    fn poll_request(&mut self) -> Option<Request>;

    /// Fetch the next `len` bytes of the command's Data-Out buffer, after those fetched before (Receive Data-Out).
    /// Answered by [`Request::DataOut`]. One such call is outstanding per command at most.
    fn receive_data_out(&mut self, request_tag: RequestTag, len: u32);

    /// Send the next bytes of the command's Data-In buffer, after those sent before (Send Data-In). Answered by
    /// [`Request::DataInTaken`]; one such call is outstanding per command at most. The transport keeps the segments
    /// until the wire has released them, also beyond the end or the abort of the command.
    fn send_data_in(&mut self, request_tag: RequestTag, data: Sg);

    /// The last data and the status (Send Command Complete). The exchange is free afterwards.
    fn send_command_complete(&mut self, request_tag: RequestTag, response: Response);

    /// The answer to a task management request. All tasks it aborted have been terminated before.
    fn task_management_executed(&mut self, request: RequestTag, response: TaskManagementResponse);

    /// The command was aborted: forget what it had to fetch or send (Terminate Data Transfer). A PDU or frame that has
    /// begun is completed. With `status` the initiator is told (TAS: TASK ABORTED); without it never hears of the
    /// command again. The exchange is free afterwards.
    fn terminate(&mut self, request_tag: RequestTag, status: Option<Status>);

    /// A unit attention was established at a logical unit where the initiator has nothing under way: it may be told at
    /// once, if the fabric can. The condition stays, and is reported with the next command.
    fn report_event(&mut self, _lun: Lun, _sense: &[u8]) {}

    /// Memory of the fabric's in which the next `len` bytes of Data-In should land, if it has some for this command.
    fn landing(&mut self, _exchange: RequestTag, _len: u32) -> Landing {
        Landing::Own
    }
}
