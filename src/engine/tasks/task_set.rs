// SPDX-License-Identifier: GPL-2.0-or-later
//! The task set of a nexus, and what its transport has yet to be told.

use std::collections::VecDeque;

use smallvec::SmallVec;

use crate::memory::Lease;
use crate::scsi::{
    Lun, NexusAccess, Outcome, RequestTag, Sense, Status, TaskAttribute, UnitAttentions, UnitKey, key,
};

/// An ACA condition.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Aca {
    /// The task with the ACA attribute; there is one at most.
    pub(super) task: Option<u32>,
}

/// What becomes of a command for a set with an ACA condition, or with the ACA attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// It goes the usual way.
    Usual,
    /// It ends with ACA ACTIVE.
    Active,
    /// It is the task with the ACA attribute.
    Aca,
    /// It has that attribute, and there is no condition.
    Misplaced,
}

/// The task set of one nexus in one logical unit (TST = 001b), with what else the nexus has there.
pub(super) struct TaskSet {
    pub(super) lun: Lun,
    pub(super) unit: UnitKey,
    pub(super) attentions: UnitAttentions,
    /// What the nexus may do by the state of the unit.
    pub(super) access: NexusAccess,
    /// Tasks that were started and have not ended.
    pub(super) active: usize,
    /// How many of those others wait for: ORDERED and HEAD OF QUEUE tasks. Fences that are up count as one.
    pub(super) ahead: usize,
    /// In whose name the store lends what this nexus is sent.
    pub(super) lease: Option<Lease>,
    /// Leases that have to be over before the next task starts: see [`super::fence`].
    pub(super) fences: SmallVec<[Lease; 1]>,
    /// The unit whose task set has to be gone before the next task starts: this one takes its place.
    pub(super) after: Option<UnitKey>,
    /// Tasks that wait for their turn.
    pub(super) blocked: VecDeque<u32>,
    /// They are being started.
    pub(super) unblocking: bool,
    pub(super) aca: Option<Aca>,
    /// Tasks that have ended but for their status, which waits for the end of an ACA condition.
    pub(super) halted: VecDeque<(u32, Outcome)>,
}

impl TaskSet {
    /// Establishes a unit attention; if no command is there to report it, the transport may tell.
    pub(super) fn establish(&mut self, code: u16) -> Option<Undelivered> {
        self.attentions.establish(code);
        self.is_idle().then(|| Undelivered::Event(self.lun, Sense::new(key::UNIT_ATTENTION, code)))
    }

    /// Tasks wait for a fence: see [`super::fence`].
    pub(super) fn is_fenced(&self) -> bool {
        self.after.is_some() || !self.fences.is_empty()
    }

    /// Nothing is under way.
    pub(super) fn is_idle(&self) -> bool {
        self.active == 0 && self.blocked.is_empty()
    }

    #[cold]
    pub(super) fn admission(&self, attribute: TaskAttribute) -> Admission {
        match (self.aca, attribute == TaskAttribute::Aca) {
            (None, false) => Admission::Usual,
            (None, true) => Admission::Misplaced,
            (Some(aca), true) if aca.task.is_none() => Admission::Aca,
            (Some(_), _) => Admission::Active,
        }
    }
}

/// The LUNs of all that a nexus sees. The well-known unit is served whatever else is there.
pub(super) fn luns(seen: &[(Lun, UnitKey)]) -> Vec<Lun> {
    seen.iter().map(|&(lun, _)| lun).chain([Lun::REPORT_LUNS]).collect()
}

/// What a nexus's transport has yet to be told.
pub(super) enum Undelivered {
    /// A task management request is done.
    Answer(RequestTag),
    /// After the answer to TARGET COLD RESET: the owner ends the sessions.
    ColdReset,
    /// A task of this set was aborted by another nexus, and the initiator gets this status.
    Terminate(RequestTag, Option<usize>, Option<Status>),
    /// A unit attention where nothing is under way.
    Event(Lun, Sense),
}
