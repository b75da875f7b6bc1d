// SPDX-License-Identifier: GPL-2.0-or-later
//! Logical units and task sets that go: see [`super::retire`].

use crate::time::Instant;

/// A logical unit that goes.
pub(super) struct RetiringUnit {
    pub(super) row: usize,
    /// Its store is asked to flush; until then tasks are waited for.
    pub(super) flushing: bool,
}

/// What goes.
#[derive(Default)]
pub(super) struct Retirement {
    pub(super) units: Vec<RetiringUnit>,
    /// Nexuses with task sets that they do not see, and when their tasks are aborted.
    pub(super) nexuses: Vec<(usize, Instant)>,
    /// When it is looked after next.
    pub(super) due: Option<Instant>,
}

impl Retirement {
    #[inline]
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.due.is_some_and(|due| due <= now)
    }

    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Whether a unit goes.
    pub(super) fn is_retiring(&self, row: usize) -> bool {
        self.units.iter().any(|unit| unit.row == row)
    }

    /// Whether the store of a unit has been asked to flush, and has not answered.
    pub(super) fn is_flushing(&self, row: usize) -> bool {
        self.units.iter().any(|unit| unit.flushing && unit.row == row)
    }

    pub(super) fn any_flushing(&self) -> bool {
        self.units.iter().any(|unit| unit.flushing)
    }

    /// A store has answered. Returns whether a unit that goes has waited for that, which is done then.
    pub(super) fn flushed(&mut self, row: usize) -> bool {
        let before = self.units.len();
        self.units.retain(|unit| !(unit.flushing && unit.row == row));
        self.units.len() < before
    }

    pub(super) fn forget(&mut self, nexus: usize) {
        self.nexuses.retain(|(leaving, _)| *leaving != nexus);
    }
}
