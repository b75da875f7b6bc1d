// SPDX-License-Identifier: GPL-2.0-or-later
//! What is known of the copies of a logical unit, under way and over.

use std::collections::VecDeque;

use crate::scsi::primary::Fault;
use crate::scsi::{NexusId, Sense, asc};

/// Most copies of a logical unit at once that can be asked for by a list identifier; beyond it, BUSY.
pub(super) const UNDER_WAY_MAX: usize = 16;
/// Most copies that are remembered: of those that are over, the oldest is forgotten.
const REMEMBERED_MAX: usize = 64;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    UnderWay,
    Good,
    /// It has ended early; with sense data unless the status was another one.
    Bad(Option<Box<Sense>>),
}

#[derive(Clone, Debug)]
pub(super) struct CopyResult {
    nexus: NexusId,
    list: u8,
    pub(super) state: State,
    pub(super) segments: u16,
    pub(super) bytes: u64,
}

/// The copies of a logical unit that have a list identifier, the oldest first.
#[derive(Debug, Default)]
pub(in super::super) struct Copies(VecDeque<CopyResult>);

impl Copies {
    pub(super) fn find(&mut self, nexus: NexusId, list: u8) -> Option<&mut CopyResult> {
        self.0.iter_mut().find(|entry| (entry.nexus, entry.list) == (nexus, list))
    }

    /// A copy begins. What was known of an earlier one of that identifier is forgotten.
    pub(super) fn begin(&mut self, nexus: NexusId, list: u8) -> Result<(), Fault> {
        if self.find(nexus, list).is_some_and(|entry| entry.state == State::UnderWay) {
            return Err(Sense::illegal(asc::OPERATION_IN_PROGRESS).into());
        }
        if self.0.iter().filter(|entry| entry.state == State::UnderWay).count() >= UNDER_WAY_MAX {
            return Err(Fault::Busy);
        }
        self.forget(nexus, list);
        if self.0.len() >= REMEMBERED_MAX
            && let Some(oldest) = self.0.iter().position(|entry| entry.state != State::UnderWay)
        {
            self.0.remove(oldest);
        }
        self.0.push_back(CopyResult { nexus, list, state: State::UnderWay, segments: 0, bytes: 0 });
        Ok(())
    }

    /// So much of a copy is done.
    pub(super) fn progress(&mut self, nexus: NexusId, list: u8, segments: u16, bytes: u64) {
        if let Some(entry) = self.find(nexus, list) {
            (entry.segments, entry.bytes) = (segments, bytes);
        }
    }

    /// A copy is over.
    pub(super) fn end(&mut self, nexus: NexusId, list: u8, good: bool, sense: Option<Box<Sense>>) {
        if let Some(entry) = self.find(nexus, list) {
            entry.state = if good { State::Good } else { State::Bad(sense) };
        }
    }

    /// Nothing is known of it any more.
    pub(super) fn forget(&mut self, nexus: NexusId, list: u8) {
        self.0.retain(|entry| (entry.nexus, entry.list) != (nexus, list));
    }

    /// A nexus is gone, and its identifiers with it.
    pub(in super::super) fn forget_nexus(&mut self, nexus: NexusId) {
        self.0.retain(|entry| entry.nexus != nexus);
    }

    /// A reset.
    pub(in super::super) fn clear(&mut self) {
        self.0.clear();
    }
}

impl State {
    pub(super) fn code(&self) -> u8 {
        match self {
            Self::UnderWay => 0,
            Self::Good => 1,
            Self::Bad(_) => 2,
        }
    }
}
