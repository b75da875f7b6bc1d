// SPDX-License-Identifier: GPL-2.0-or-later
//! Task management requests under way.

use super::ConnectionKey;
use crate::scsi::Lun;
use crate::wire::iscsi::{
    Bhs, FunctionResponse, IscsiFunction as F, Opcode, PduHeader, TaskManagementRequestHeader,
};

/// Task management requests for immediate delivery that a session may have under way, or as many as commands if that is
/// more: each of these may be aborted by its own.
pub(super) const FUNCTIONS_MAX: usize = 64;

/// Which tasks a task management request puts an end to.
#[derive(Clone, Copy)]
pub(super) enum Scope {
    Nothing,
    /// That of a task tag.
    Task(u32),
    /// Those of a logical unit, whose LUN is in its normal form.
    Unit(Lun),
    /// All.
    Target,
}

impl Scope {
    pub(super) fn covers(self, itt: u32, lun: u64) -> bool {
        match self {
            Self::Nothing => false,
            Self::Task(tag) => tag == itt,
            Self::Unit(unit) => unit == Lun(lun).normal(),
            Self::Target => true,
        }
    }
}

/// A task management request that the task manager has.
pub(super) struct PendingFunction {
    /// Where the answer goes; `None` when that has ended.
    pub(super) connection: Option<ConnectionKey>,
    pub(super) itt: u32,
    pub(super) scope: Scope,
    /// It has a place in the command window.
    pub(super) windowed: bool,
    /// What is to be answered; it waits for the fence of another.
    pub(super) answer: Option<FunctionResponse>,
}

impl PendingFunction {
    /// A connection has ended, and its key may become that of another.
    pub(super) fn forget_connection(&mut self, connection: ConnectionKey) {
        self.connection = self.connection.filter(|&key| key != connection);
    }
}

/// Whether a request concerns commands that may still be on their way: those of its logical unit. (A target reset
/// aborts them wherever they are; ABORT TASK tells the CmdSN of its task.)
pub(super) fn waits_for_others(bhs: &Bhs) -> bool {
    bhs.opcode() == Opcode::TASK_MANAGEMENT_REQUEST
        && matches!(
            TaskManagementRequestHeader::parse(bhs).function,
            F::ABORT_TASK_SET | F::CLEAR_ACA | F::CLEAR_TASK_SET | F::LOGICAL_UNIT_RESET
        )
}
