// SPDX-License-Identifier: GPL-2.0-or-later
//! A task, and what it waits for.

use smallvec::SmallVec;

use super::latency::{Stage, Times};
use crate::scsi::{Command, RequestTag, Status};
use crate::time::Instant;

/// Where a task stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Waits for its turn in the task set.
    Blocked,
    /// Waits for the unit, which runs one command at a time.
    InLine,
    /// The device server has the word.
    Running,
    /// A rule makes it slow.
    Delayed,
    /// Data-Out is on its way.
    Fetching,
    /// Data-In is on its way.
    Sending,
    /// The store has an operation.
    Storing,
    /// The store had no room for the operation.
    Refused,
    /// A record is being kept.
    Persisting,
    /// Media are on their way.
    Moving,
    /// The state of the unit is being changed, or it will soon be this task's turn.
    Changing,
    /// The device has ended it, and all cores are being told of a unit attention before its status.
    Finishing,
    /// As the former; its status does not end it.
    Detaching,
    /// It has ended but for its status, and there is an ACA condition.
    Halted,
    /// Waits for a change to end, and has not begun.
    HeldStart,
    /// Waits for a change to end with an operation for the store.
    HeldOp,
}

impl State {
    /// What a task waits for in this state, as far as that is told apart.
    #[inline]
    pub(super) fn stage(self) -> Option<Stage> {
        match self {
            Self::Blocked | Self::InLine | Self::HeldStart | Self::HeldOp => Some(Stage::Turn),
            Self::Fetching => Some(Stage::Fetch),
            Self::Storing | Self::Refused | Self::Persisting | Self::Moving => Some(Stage::Store),
            _ => None,
        }
    }
}

pub(super) struct Task {
    pub(super) nexus: usize,
    pub(super) request_tag: RequestTag,
    /// Index into the nexus's task sets; `None` for a logical unit that is not there.
    pub(super) task_set: Option<usize>,
    pub(super) unit: usize,
    /// The logical unit whose store has the operation: its own, but for copies.
    pub(super) storing_at: usize,
    pub(super) command: Command,
    pub(super) state: State,
    pub(super) times: Times,
    /// Of the unit, when the task was admitted last.
    pub(super) epoch: u32,
    pub(super) sent: u32,
    pub(super) fetched: u32,
    /// The others of its set have been aborted for its CHECK CONDITION.
    pub(super) cleared: bool,
    /// Aborted, and by these; ends when the store gives its buffers back.
    pub(super) aborted: bool,
    /// What the initiator gets to hear of that.
    pub(super) told: Option<Status>,
    pub(super) waiters: SmallVec<[usize; 1]>,
}

impl Task {
    /// A command, with the nexus, task set and unit that it came for.
    // Always: each command comes by.
    #[inline(always)]
    pub(super) fn new(
        (nexus, task_set, unit): (usize, Option<usize>, usize),
        request_tag: RequestTag,
        command: Command,
        now: Instant,
    ) -> Self {
        Self {
            nexus,
            request_tag,
            task_set,
            unit,
            storing_at: unit,
            command,
            state: State::Running,
            times: Times::new(now),
            epoch: 0,
            sent: 0,
            fetched: 0,
            cleared: false,
            aborted: false,
            told: None,
            waiters: SmallVec::new(),
        }
    }

    /// It has what it waited for.
    #[inline]
    pub(super) fn goes_on(&mut self, now: Instant) {
        self.times.went_on(now, self.state.stage());
        self.state = State::Running;
    }
}
