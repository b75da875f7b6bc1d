// SPDX-License-Identifier: GPL-2.0-or-later
//! Logical units that run one command at a time: tapes, changers. All of their commands come to one core, their owner.
//!
//! A task has its turn in its task set first, like any other, and then waits in the line of its unit, which is one for
//! all nexuses. It holds the unit until it ends or goes on without its initiator ([`Step::Detach`]): whether the device
//! takes commands while it is busy with that, the device says. Commands whose definition says so pass the line. While
//! there is an ACA condition, those of its task set stay in the line and others go before them.

use super::line::{CommandPlace, WaitingLine};
use super::own_memory::OwnMemory;
use super::task::State;
use super::{AfterAbort, NOBODY, NexusKey, Pending, TaskManager, Transports, UnitKey};
use crate::io::Store;
use crate::scsi::TaskAttribute;
use crate::time::Instant;

impl TaskManager {
    /// A logical unit runs one command at a time from now on, those of all nexuses here: this core is its owner, and on
    /// all others it is added with [`TaskManager::add_remote_unit`]. It has no tasks yet.
    pub fn make_serial(&mut self, unit: UnitKey) {
        let store = self.units[unit.row()].store.take().map(|store| self.unlent(store));
        let this = &mut self.units[unit.row()];
        (this.place, this.store) = (CommandPlace::Here(WaitingLine::default()), store);
        self.serial.here.push(unit.row());
        self.rearm(unit.row());
    }

    /// Nobody is the owner of a unit any more: it is gone.
    pub(super) fn disown(&mut self, unit: usize) {
        self.serial.here.retain(|here| *here != unit);
        self.serial.ready.retain(|ready| *ready != unit);
        self.find_due();
    }

    /// A store that lends nothing: what one command reads must not be changed by the next one on its way to the
    /// initiator.
    pub(super) fn unlent(&self, store: Box<dyn Store>) -> Box<dyn Store> {
        if store.lease().is_none() { store } else { Box::new(OwnMemory::new(store, self.arena.clone())) }
    }

    /// Whether a task whose turn it is in its task set has its turn at the unit, too. If not, it waits in line.
    #[cold]
    pub(super) fn takes_turn(&mut self, task: u32) -> bool {
        let this = &mut self.tasks[task as usize];
        let unit = &mut self.units[this.unit];
        let CommandPlace::Here(line) = &mut unit.place else { return true };
        if unit.server.definition(&this.command.cdb).is_some_and(|definition| definition.passes_line) {
            return true;
        }
        if line.running.is_none() && line.waiting.is_empty() {
            self.occupy(task);
            return true;
        }
        this.state = State::InLine;
        match this.command.attribute {
            TaskAttribute::HeadOfQueue | TaskAttribute::Aca => line.waiting.push_front(task),
            TaskAttribute::Simple | TaskAttribute::Ordered => line.waiting.push_back(task),
        }
        let unit = this.unit;
        self.call_next(unit);
        false
    }

    /// A task holds its unit from now on.
    fn occupy(&mut self, task: u32) {
        let this = &mut self.tasks[task as usize];
        let after = AfterAbort::Next(self.units[this.unit].key);
        let pending = self.pending.insert(Pending { left: 1, reset: Default::default(), cold: false, after });
        this.waiters.push(pending);
        if let CommandPlace::Here(line) = &mut self.units[this.unit].place {
            line.running = Some((task, pending));
        }
    }

    /// The task that has held a unit has ended.
    pub(super) fn vacate(&mut self, unit: usize) {
        if let CommandPlace::Here(line) = &mut self.units[unit].place {
            line.running = None;
            self.rearm(unit);
            self.call_next(unit);
        }
    }

    /// A task that is over but for its status holds its unit no longer.
    pub(super) fn give_up_turn(&mut self, task: u32) {
        let this = &mut self.tasks[task as usize];
        if let CommandPlace::Here(WaitingLine { running: Some((running, pending)), .. }) =
            self.units[this.unit].place
            && running == task
        {
            this.waiters.retain(|waiter| *waiter != pending);
            self.one_less(pending);
        }
    }

    /// An aborted task leaves the line.
    pub(super) fn leave_line(&mut self, task: u32) {
        if let CommandPlace::Here(line) = &mut self.units[self.tasks[task as usize].unit].place {
            line.waiting.retain(|waiting| *waiting != task);
        }
    }

    /// The next in line has its turn as soon as the transports are at hand, if the unit is free.
    pub(super) fn call_next(&mut self, unit: usize) {
        let CommandPlace::Here(WaitingLine { running: None, waiting, .. }) = &self.units[unit].place else {
            return;
        };
        if !waiting.is_empty() && !self.serial.ready.contains(&unit) {
            self.serial.ready.push_back(unit);
        }
    }

    /// Takes the next out that is not kept by an ACA condition.
    fn next_in_line(&mut self, unit: usize) -> Option<u32> {
        let CommandPlace::Here(line) = &mut self.units[unit].place else { return None };
        let (tasks, nexuses) = (&self.tasks, &self.nexuses);
        let is_free = |task: u32| {
            let this = &tasks[task as usize];
            let aca = this.task_set.and_then(|task_set| nexuses[this.nexus].task_sets[task_set].aca);
            aca.is_none_or(|aca| aca.task == Some(task))
        };
        let index = line.waiting.iter().position(|&task| line.running.is_none() && is_free(task))?;
        line.waiting.remove(index)
    }

    /// Lets those go on whose unit has become free. Returns how many.
    pub(super) fn poll_serial(
        &mut self,
        now: Instant,
        transports: &mut dyn Transports,
        touched: &mut dyn FnMut(NexusKey),
    ) -> usize {
        self.call_devices(now);
        let mut work = 0;
        while let Some(unit) = self.serial.ready.pop_front() {
            while let Some(task) = self.next_in_line(unit) {
                work += 1;
                self.occupy(task);
                let key = NexusKey(self.tasks[task as usize].nexus);
                if key.0 != NOBODY
                    && let Some(transport) = transports.transport(key)
                {
                    self.begin_or_hold(now, task, transport);
                    touched(key);
                } else if key.0 == NOBODY && !self.is_held(task) {
                    self.begin_own(now, task);
                }
            }
        }
        work
    }
}
