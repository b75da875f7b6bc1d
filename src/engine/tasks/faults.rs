// SPDX-License-Identifier: GPL-2.0-or-later
//! What becomes of a task that a rule hits: see [`super::command_faults`].

use std::sync::Arc;

use super::command_faults::{CommandFaults, Delayed};
use super::task::State;
use super::{NexusKey, TaskManager, Transports, UnitKey};
use crate::scsi::Transport;
use crate::time::Instant;

impl TaskManager {
    /// Gives a logical unit rules by which its commands are slow or fail.
    pub fn make_faults(&mut self, unit: UnitKey, faults: Arc<CommandFaults>) {
        self.faults.rules.push((unit.row(), faults));
    }

    /// A task is about to begin. Returns whether a rule takes it over.
    #[cold]
    pub(super) fn meddle(&mut self, now: Instant, task: u32, transport: &mut dyn Transport) -> bool {
        let this = &mut self.tasks[task as usize];
        let Some((_, faults)) = self.faults.rules.iter().find(|(unit, _)| *unit == this.unit) else {
            return false;
        };
        let (answer, delay) = faults.fate(&this.command.cdb);
        if !delay.is_zero() {
            this.state = State::Delayed;
            self.faults.delayed.push(Delayed { due: now + delay, task, answer });
            return true;
        }
        let Some(outcome) = answer.outcome() else { return false };
        self.finish(now, task, outcome, transport);
        true
    }

    /// Carries on tasks whose delay is over. Returns how many. While the state of their logical unit changes they stay.
    pub(super) fn poll_delayed(
        &mut self,
        now: Instant,
        transports: &mut dyn Transports,
        touched: &mut dyn FnMut(NexusKey),
    ) -> usize {
        let mut work = 0;
        while let Some(Delayed { task, answer, .. }) = self.next_due(now) {
            work += 1;
            let nexus = NexusKey(self.tasks[task as usize].nexus);
            let Some(transport) = transports.transport(nexus) else { continue };
            match answer.outcome() {
                Some(outcome) => self.finish(now, task, outcome, transport),
                None => self.begin(now, task, transport),
            }
            touched(nexus);
        }
        work
    }

    /// Takes out the next whose delay is over: one at a time, since its end may be that of others.
    fn next_due(&mut self, now: Instant) -> Option<Delayed> {
        let goes_on = |delayed: &Delayed| {
            let unit = &self.units[self.tasks[delayed.task as usize].unit];
            delayed.due <= now && unit.frozen == 0 && unit.held.is_empty()
        };
        let due = self.faults.delayed.iter().enumerate().filter(|(_, delayed)| goes_on(delayed));
        let (index, _) = due.min_by_key(|(_, delayed)| delayed.due)?;
        Some(self.faults.delayed.remove(index))
    }
}
