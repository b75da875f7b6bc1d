// SPDX-License-Identifier: GPL-2.0-or-later
//! Tasks that a device begins itself, when its time has come: at the owner of a unit that runs one command at a time.
//! Such a task waits in the line of its unit and holds it like any other, and has no nexus.

use super::line::CommandPlace;
use super::nobody::Nobody;
use super::task::{State, Task};
use super::{NOBODY, TaskManager};
use crate::scsi::{Cdb, Command, Expected, Lun, NexusId, RequestTag, TaskAttribute};
use crate::time::Instant;

/// Stands for the command where there is none.
fn no_command() -> Command {
    Command {
        nexus: NexusId::default(),
        lun: Lun::ZERO,
        cdb: Cdb::new(&[0; 6]).expect("six bytes"),
        attribute: TaskAttribute::Simple,
        expected: Expected::default(),
    }
}

impl TaskManager {
    /// Whether this core is the owner of a unit.
    pub fn is_owner(&self) -> bool {
        !self.serial.here.is_empty()
    }

    /// Asks a device when it wants to begin something.
    pub(super) fn rearm(&mut self, unit: usize) {
        let this = &mut self.units[unit];
        let CommandPlace::Here(line) = &mut this.place else { return };
        let begins = !line.called && !self.retirement.is_retiring(unit);
        line.due = if begins { this.server.next_deadline() } else { None };
        self.find_due();
    }

    pub(super) fn find_due(&mut self) {
        let due = |unit: &usize| match &self.units[*unit].place {
            CommandPlace::Here(line) => line.due,
            CommandPlace::Everywhere | CommandPlace::At(_) => None,
        };
        self.serial.due =
            if self.serial.stopping { None } else { self.serial.here.iter().filter_map(due).min() };
    }

    /// Puts a task in line for each device whose time has come.
    pub(super) fn call_devices(&mut self, now: Instant) {
        if self.serial.due.is_none_or(|due| due > now) {
            return;
        }
        for unit in self.serial.here.clone() {
            let CommandPlace::Here(line) = &mut self.units[unit].place else { continue };
            if line.due.is_none_or(|due| due > now) {
                continue;
            }
            (line.due, line.called) = (None, true);
            self.stand_in_line(now, unit);
        }
        self.find_due();
    }

    /// Puts a task without a nexus at the end of the line of a unit that this core owns.
    pub(super) fn stand_in_line(&mut self, now: Instant, unit: usize) -> u32 {
        let task = Task::new((NOBODY, None, unit), RequestTag(0), no_command(), now);
        let task = self.tasks.insert(Task { state: State::InLine, ..task });
        let task = u32::try_from(task).expect("fewer than TASKS_MAX tasks");
        if let CommandPlace::Here(line) = &mut self.units[unit].place {
            line.waiting.push_back(task);
        }
        self.call_next(unit);
        task
    }

    /// A task that has no nexus has its turn: the device's own, or a change of its medium.
    pub(super) fn begin_own(&mut self, now: Instant, task: u32) {
        let this = &mut self.tasks[task as usize];
        this.goes_on(now);
        let unit = &mut self.units[this.unit];
        this.epoch = unit.epoch;
        if let Some(index) = self.media.iter().position(|changing| changing.task == task) {
            return self.begin_medium_change(now, index);
        }
        if let CommandPlace::Here(line) = &mut unit.place {
            line.called = false;
        }
        let step = self.call(now, task, &mut Nobody, |server, id, command, cx| server.wake(id, command, cx));
        match step {
            Some(step) => self.run(now, task, step, &mut Nobody),
            None => self.end(now, task, None),
        }
    }
}
