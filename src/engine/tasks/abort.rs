// SPDX-License-Identifier: GPL-2.0-or-later
//! How tasks end before their time: aborts, resets, lost nexuses (SAM-5 7 and 5.6).
//!
//! A set of aborted tasks is counted in a `Pending`; when the last has ended, what was to happen then happens.

use smallvec::SmallVec;

use super::{
    AfterAbort, NOBODY, NexusKey, NexusMessage, Notice, Pending, State, TaskManager, Undelivered, UnitKey,
};
use crate::scsi::{
    Lun, RequestTag, Status, TaskId, TaskManagementFunction, TaskManagementResponse, Transport, asc,
};
use crate::time::Instant;

/// A reset of logical units, on this core and on so many others.
struct Reset {
    units: SmallVec<[UnitKey; 4]>,
    peers: usize,
    cold: bool,
    /// All that the nexus sees is reset, for this request of its.
    of_target: Option<(NexusKey, RequestTag)>,
}

impl TaskManager {
    /// The transport of a nexus is gone: aborts all its tasks. `then` follows when they have ended.
    pub fn remove_nexus(&mut self, now: Instant, nexus: NexusKey, after: Option<AfterAbort>) {
        let entry = &mut self.nexuses[nexus.0];
        entry.gone = true;
        if let Some((id, _)) = entry.who {
            for task_set in &entry.task_sets {
                self.units[task_set.unit.row()].server.nexus_lost(id);
            }
        }
        let tasks: SmallVec<[u32; 16]> = entry.exchanges.iter().flatten().copied().collect();
        let pending = after.map(|after| self.expect(SmallVec::new(), after));
        for index in 0..self.nexuses[nexus.0].task_sets.len() {
            self.end_reserve(self.nexuses[nexus.0].task_sets[index].unit, Some(nexus.0), pending);
        }
        for task in tasks {
            self.abort(now, task, pending, None);
        }
        self.leave_owners(nexus, pending);
        if let Some(pending) = pending {
            self.one_less(pending);
        }
        self.forget_nexus(nexus.0);
    }

    /// Aborts a task; it ends at once, or when the store gives its buffers back.
    pub(super) fn abort(
        &mut self,
        now: Instant,
        task: u32,
        pending: Option<usize>,
        transport: Option<&mut dyn Transport>,
    ) {
        let this = &mut self.tasks[task as usize];
        if let Some(pending) = pending {
            this.waiters.push(pending);
            self.pending[pending].left += 1;
        }
        if this.nexus != NOBODY && !this.aborted && self.units[this.unit].server.goes_on(TaskId(task)) {
            return self.orphan(now, task, transport);
        }
        if std::mem::replace(&mut this.aborted, true) {
            return;
        }
        self.units[this.unit].counters.aborts += 1;
        log::trace!("task aborted while {:?}", this.state);
        match this.state {
            State::Storing
            | State::Persisting
            | State::Moving
            | State::Changing
            | State::Finishing
            | State::Detaching => {}
            State::Running => unreachable!("the device server has the word only inside run()"),
            State::Refused => {
                self.units[this.storing_at].refused.retain(|(waiting, _)| *waiting != task);
                self.end_aborted(now, task, transport);
            }
            State::HeldStart | State::HeldOp => {
                self.units[this.storing_at].held.retain(|held| held.task != task);
                self.end_aborted(now, task, transport);
            }
            State::Delayed => {
                self.faults.forget(task);
                self.end_aborted(now, task, transport);
            }
            State::Halted => {
                if let Some(task_set) = this.task_set {
                    self.nexuses[this.nexus].task_sets[task_set]
                        .halted
                        .retain(|(waiting, _)| *waiting != task);
                }
                self.end_aborted(now, task, transport);
            }
            State::InLine => {
                self.leave_line(task);
                self.end_aborted(now, task, transport);
            }
            State::Blocked => {
                if let Some(task_set) = this.task_set {
                    self.nexuses[this.nexus].task_sets[task_set].blocked.retain(|waiting| *waiting != task);
                }
                self.end_aborted(now, task, transport);
            }
            State::Fetching | State::Sending => self.end_aborted(now, task, transport),
        }
    }

    pub(super) fn end_aborted(&mut self, now: Instant, task: u32, mut transport: Option<&mut dyn Transport>) {
        let this = &self.tasks[task as usize];
        use State::{Blocked, Delayed, Finishing, Halted, HeldStart, InLine};
        if !matches!(this.state, Blocked | InLine | HeldStart | Delayed | Finishing | Halted) {
            self.units[this.unit].server.abort(TaskId(task));
        }
        self.terminate(task, transport.as_deref_mut());
        self.end(now, task, transport);
    }

    /// Tells the transport of a task that there will be no answer, or one without data.
    pub(super) fn terminate(&mut self, task: u32, transport: Option<&mut (dyn Transport + '_)>) {
        let this = &self.tasks[task as usize];
        match transport {
            Some(transport) => transport.terminate(this.request_tag, this.told),
            None if this.nexus == NOBODY || self.nexuses[this.nexus].gone => {}
            None => {
                let undelivered = Undelivered::Terminate(this.request_tag, this.task_set, this.told);
                self.undelivered.push_back((NexusKey(this.nexus), undelivered));
            }
        }
    }

    /// A task is about to be aborted for another nexus: TAS says whether its own hears of it.
    pub(super) fn aborted_by_another(&mut self, task: u32) {
        let this = &mut self.tasks[task as usize];
        if self.units[this.unit].server.control().aborted_status {
            this.told = Some(Status::TaskAborted);
        }
    }

    /// A pending that holds itself open until [`Self::one_less`] has been called once by its maker.
    pub(super) fn expect(&mut self, reset: SmallVec<[UnitKey; 4]>, after: AfterAbort) -> usize {
        self.pending.insert(Pending { left: 1, reset, cold: false, after })
    }

    pub(super) fn one_less(&mut self, pending: usize) {
        self.pending[pending].left -= 1;
        if self.pending[pending].left > 0 {
            return;
        }
        let Pending { reset, cold, after, .. } = self.pending.remove(pending);
        for unit in reset {
            if let Some(row) = self.row(unit) {
                self.units[row].server.reset();
            }
        }
        match after {
            AfterAbort::Answer { nexus, request } => {
                self.undelivered.push_back((nexus, Undelivered::Answer(request)));
                if cold {
                    self.undelivered.push_back((nexus, Undelivered::ColdReset));
                }
            }
            AfterAbort::Tell(what) => self.notices.push_back(Notice::Ended(what)),
            AfterAbort::Status(task) => self.finish_soon(task),
            AfterAbort::Next(unit) => self.vacate(unit.row()),
            AfterAbort::Left { core, nexus } => {
                self.outgoing.push_back((core, nexus, NexusMessage::Left));
            }
        }
    }

    pub(super) fn task_management(
        &mut self,
        now: Instant,
        nexus: NexusKey,
        transport: &mut dyn Transport,
        request: RequestTag,
        function: TaskManagementFunction,
        lun: Lun,
    ) {
        use TaskManagementFunction as F;
        let entry = &self.nexuses[nexus.0];
        // What is under way at one that is not seen any more can be aborted, too.
        let leaving = || entry.task_sets.iter().position(|task_set| task_set.lun == lun);
        let task_set = entry.task_set(lun).or_else(leaving);
        let after = AfterAbort::Answer { nexus, request };
        // Another unit may have the LUN since the task began.
        let is_of_lun = |task: &u32| {
            let task_set = self.tasks[*task as usize].task_set.map(|index| &entry.task_sets[index]);
            task_set.is_some_and(|task_set| task_set.lun == lun)
        };
        match (function, task_set) {
            (F::TargetReset | F::TargetColdReset, _) => {
                let units = entry.seen().iter().map(|task_set| task_set.unit).collect();
                let units = self.with_twins(units);
                let (cold, of_target) = (function == F::TargetColdReset, Some((nexus, request)));
                let reset = Reset { units, peers: self.peers, cold, of_target };
                self.reset_from(now, reset, after, Some((nexus, transport)));
            }
            (_, None) => match entry.remote.as_ref().and_then(|remote| remote.owner(lun)) {
                Some(owner) => self.forward_function(owner, nexus, request, function, lun),
                None => transport.task_management_executed(request, TaskManagementResponse::IncorrectLun),
            },
            (F::ClearAca, Some(task_set)) => self.clear_aca(now, nexus, task_set, after, transport),
            (F::LogicalUnitReset, Some(task_set)) => {
                let units = self.with_twins(SmallVec::from_slice(&[entry.task_sets[task_set].unit]));
                let reset = Reset { units, peers: self.peers, cold: false, of_target: None };
                self.reset_from(now, reset, after, Some((nexus, transport)));
            }
            (F::AbortTask(request_tag), Some(_)) => {
                let Some(task) = self.task_of(nexus, request_tag).filter(is_of_lun) else {
                    let response = TaskManagementResponse::NoSuchTask;
                    return transport.task_management_executed(request, response);
                };
                let pending = self.expect(SmallVec::new(), after);
                self.abort_all(now, SmallVec::from_slice(&[task]), pending, Some((nexus, transport)));
                self.one_less(pending);
            }
            // With a task set per nexus these two are the same (SAM-5 7.5).
            (F::AbortTaskSet | F::ClearTaskSet, Some(_)) => {
                let tasks = entry.exchanges.iter().flatten().copied().filter(is_of_lun).collect();
                let pending = self.expect(SmallVec::new(), after);
                self.abort_all(now, tasks, pending, Some((nexus, transport)));
                self.one_less(pending);
            }
        }
    }

    /// Resets logical units on this core because another core asks for it; `then` follows when their tasks have ended.
    pub fn reset(&mut self, now: Instant, units: SmallVec<[UnitKey; 4]>, after: AfterAbort) {
        self.reset_from(now, Reset { units, peers: 0, cold: false, of_target: None }, after, None);
    }

    /// Another core has finished what [`Notice::ResetPeers`] asked for.
    pub fn peer_done(&mut self, ticket: usize) {
        self.one_less(ticket);
    }

    /// LOGICAL UNIT RESET (SAM-5 7.7): aborts the tasks of all nexuses, and leaves a unit attention for each.
    fn reset_from(
        &mut self,
        now: Instant,
        Reset { units, peers, cold, of_target }: Reset,
        after: AfterAbort,
        transport: Option<(NexusKey, &mut dyn Transport)>,
    ) {
        for &unit in &units {
            self.attention(unit, asc::BUS_DEVICE_RESET_FUNCTION_OCCURRED, None);
        }
        let concerned = self
            .tasks
            .iter()
            .filter(|(_, task)| task.nexus != NOBODY && units.contains(&self.units[task.unit].key));
        let tasks: SmallVec<[u32; 16]> =
            concerned.map(|(key, _)| u32::try_from(key).expect("fewer than TASKS_MAX tasks")).collect();
        for (_, nexus) in &mut self.nexuses {
            for task_set in nexus.task_sets.iter_mut().filter(|task_set| units.contains(&task_set.unit)) {
                task_set.aca = None;
            }
        }
        let by = transport.as_ref().map(|(nexus, _)| nexus.0);
        for &task in &tasks {
            if Some(self.tasks[task as usize].nexus) != by {
                self.aborted_by_another(task);
            }
        }
        let pending = self.expect(units.clone(), after);
        self.pending[pending].cold = cold;
        let here = transport.is_some();
        self.abort_all(now, tasks, pending, transport);
        for &unit in units.iter().filter(|_| here) {
            self.end_reserve(unit, None, Some(pending));
        }
        if let Some((nexus, request)) = of_target {
            self.reset_at_owners(nexus, request, pending);
        }
        if peers > 0 {
            self.pending[pending].left += peers;
            self.notices.push_back(Notice::ResetPeers { units, ticket: pending });
        }
        self.one_less(pending);
    }

    /// Ends the tasks that go on without a nexus, when the daemon stops.
    pub fn abort_detached(&mut self, now: Instant) {
        self.serial.begin_nothing();
        let detached = self.tasks.iter().filter(|(_, task)| task.nexus == NOBODY);
        let tasks: SmallVec<[u32; 4]> =
            detached.map(|(key, _)| u32::try_from(key).expect("fewer than TASKS_MAX tasks")).collect();
        for task in tasks {
            self.abort(now, task, None, None);
        }
    }

    /// Aborts tasks of this core; `transport` serves those of its own nexus.
    pub(super) fn abort_all(
        &mut self,
        now: Instant,
        mut tasks: SmallVec<[u32; 16]>,
        pending: usize,
        mut transport: Option<(NexusKey, &mut dyn Transport)>,
    ) {
        // Those that wait for their turn go first, lest the end of another starts them.
        tasks.sort_by_key(|&task| self.tasks[task as usize].state != State::Blocked);
        for task in tasks {
            let Some(this) = self.tasks.get(task as usize) else { continue };
            match &mut transport {
                Some((nexus, own)) if nexus.0 == this.nexus => {
                    self.abort(now, task, Some(pending), Some(&mut **own))
                }
                _ => self.abort(now, task, Some(pending), None),
            }
        }
    }
}
