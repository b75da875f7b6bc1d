// SPDX-License-Identifier: GPL-2.0-or-later
//! Where the commands of a logical unit are carried out, and which of them wait for it: see [`super::serial`].

use std::collections::VecDeque;

use crate::time::Instant;

/// Which cores carry out the commands of a logical unit.
pub(super) enum CommandPlace {
    /// Each core those of its nexuses.
    Everywhere,
    /// This one those of all nexuses, one at a time.
    Here(WaitingLine),
    /// That core.
    At(usize),
}

/// The commands of a unit that runs one at a time.
#[derive(Default)]
pub(super) struct WaitingLine {
    /// The task that holds the unit, and what follows its end.
    pub(super) running: Option<(u32, usize)>,
    pub(super) waiting: VecDeque<u32>,
    /// When the device wants to begin a task.
    pub(super) due: Option<Instant>,
    /// That has come, and the task is in line.
    pub(super) called: bool,
}

/// The units of which this core is the owner.
#[derive(Default)]
pub(super) struct SerialUnits {
    pub(super) here: Vec<usize>,
    /// Those whose next command may have its turn.
    pub(super) ready: VecDeque<usize>,
    /// When a device wants to begin a task.
    pub(super) due: Option<Instant>,
    /// None does so any more.
    pub(super) stopping: bool,
}

impl SerialUnits {
    /// Whether [`TaskManager::poll_serial`] has something to do.
    #[inline]
    pub(super) fn stirs(&self, now: Instant) -> bool {
        !self.ready.is_empty() || self.due.is_some_and(|due| due <= now)
    }

    /// No device begins anything from now on: the daemon stops.
    pub(super) fn begin_nothing(&mut self) {
        (self.stopping, self.due) = (true, None);
    }
}
