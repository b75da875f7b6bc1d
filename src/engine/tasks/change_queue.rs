// SPDX-License-Identifier: GPL-2.0-or-later
//! The state that the cores share of a logical unit, and the changes of it that one core has under way: see
//! [`super::change`].

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::io::Op;
use crate::scsi::reservations::{ChangeError, Effects};
use crate::scsi::{Change, Nexus, NexusId, Outcome, UnitState};

/// A change that waits for its turn: the core, and its number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// Which core.
    pub core: usize,
    /// Its number there, which the messages of its turn bring back.
    pub ticket: usize,
}

/// The state of a logical unit, for all cores. The lock is taken by changes only.
#[derive(Debug, Default)]
pub struct SharedState(Mutex<ChangeQueue>);

#[derive(Debug, Default)]
pub(super) struct ChangeQueue {
    pub(super) current: Arc<UnitState>,
    /// A change is under way.
    busy: bool,
    queue: VecDeque<Turn>,
}

impl SharedState {
    /// With the state at the start.
    pub fn new(state: UnitState) -> Self {
        Self(Mutex::new(ChangeQueue { current: Arc::new(state), ..ChangeQueue::default() }))
    }

    pub(super) fn locked(&self) -> MutexGuard<'_, ChangeQueue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state in force.
    pub fn current(&self) -> Arc<UnitState> {
        self.locked().current.clone()
    }

    /// Whether it is this one's turn; if not, it is told later.
    pub(super) fn claim(&self, turn: Turn) -> bool {
        let mut locked = self.locked();
        if locked.busy {
            locked.queue.push_back(turn);
            return false;
        }
        locked.busy = true;
        true
    }

    /// Whose turn is next.
    pub(super) fn release(&self) -> Option<Turn> {
        let mut locked = self.locked();
        let next = locked.queue.pop_front();
        locked.busy = next.is_some();
        next
    }
}

/// The answer to a change: the state then in force.
pub(super) type ChangeAnswer = Result<Arc<UnitState>, ChangeError>;

/// Who asked for a change.
#[derive(Clone, Copy, Debug)]
pub(super) enum Requester {
    Task(u32),
    /// A task that has ended but for its status.
    Finish(u32),
    /// A reset, or the end of a nexus.
    Pending(Option<usize>),
    /// The owner, who is told.
    Owner(u64),
}

/// A change that has not ended.
pub(super) struct Changing {
    pub(super) unit: usize,
    pub(super) change: Change,
    pub(super) nexus: Option<(NexusId, Arc<Nexus>)>,
    pub(super) by: Requester,
    pub(super) next: Option<(Arc<UnitState>, Arc<Effects>)>,
    /// Cores that have not stopped yet.
    pub(super) left: usize,
}

/// A task that has to wait while a unit is frozen.
pub(super) struct FrozenTask {
    pub(super) task: u32,
    /// What it wants of the unit's store; nothing if it has not begun.
    pub(super) op: Option<Op>,
}

/// What a unit is frozen for.
pub(super) enum FrozenFor {
    /// A change of its state.
    Change(Turn),
    /// That its medium goes, which this task waits for.
    Medium(u32),
}

/// A core that was asked to stop, and its store has operations.
pub(super) struct Draining {
    pub(super) unit: usize,
    pub(super) frozen_for: FrozenFor,
}

/// The changes of one core.
#[derive(Default)]
pub(super) struct Changes {
    pub(super) all: slab::Slab<Changing>,
    pub(super) turns: VecDeque<usize>,
    pub(super) draining: Vec<Draining>,
    pub(super) ended: VecDeque<(u32, ChangeAnswer)>,
    /// Outcomes that wait until every nexus has its unit attention.
    pub(super) finishing: Vec<(u32, Outcome)>,
    /// Units that go on.
    pub(super) thawed: VecDeque<usize>,
}

impl Changes {
    /// Whether there is something to be carried on at once.
    pub(super) fn stirring(&self) -> bool {
        !(self.turns.is_empty() && self.ended.is_empty() && self.thawed.is_empty())
    }

    pub(super) fn idle(&self) -> bool {
        !self.stirring() && self.draining.is_empty()
    }
}
