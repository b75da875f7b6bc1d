// SPDX-License-Identifier: GPL-2.0-or-later
//! What a nexus sees changes while it has tasks, and logical units go.
//!
//! A task set that its nexus does not see any more gets no new commands: they end as for a logical unit that is not
//! there. What is under way goes on, and is aborted if it takes too long; the set goes when its last task has ended.
//!
//! A logical unit that is retired is seen by no nexus of this core any more. When nothing of the core's is under way
//! there, the store is flushed and the owner told ([`Notice::Retired`]). The unit stays until all cores have come so
//! far ([`TaskManager::remove_unit`]): others may still change its state, and this core has a part in that.

use std::time::Duration;

use smallvec::SmallVec;

use super::last_flush::{FLUSH, outcome};
use super::retirement::RetiringUnit;
use super::task_set::{TaskSet, Undelivered, luns};
use super::{NOBODY, NexusKey, NexusState, Notice, State, TaskManager, UnitKey};
use crate::io::{Error, Op, Submitted};
use crate::scsi::{Lun, Status, asc};
use crate::time::Instant;

/// How long tasks may go on that were under way.
const TASK_TIME: Duration = Duration::from_secs(4);

/// How often it is seen whether they have ended.
const LOOK: Duration = Duration::from_millis(1);

impl TaskManager {
    /// From now on a nexus sees these logical units, in ascending order of LUN. It is told with unit attentions what
    /// that changes for it.
    pub fn see(&mut self, now: Instant, nexus: NexusKey, units: &[(Lun, UnitKey)]) {
        self.see_at_owners(nexus, units);
        let all = luns(units);
        let units = &*self.units_here(self.nexuses[nexus.0].mirror, units);
        let entry = &mut self.nexuses[nexus.0];
        let of = |task_set: &TaskSet| (task_set.lun, task_set.unit);
        let other_luns = entry.luns != all;
        if !other_luns && entry.seen().iter().map(of).eq(units.iter().copied()) {
            return;
        }
        let before: Vec<_> = entry.seen().iter().map(of).collect();
        let Some((id, name)) = entry.who.clone() else { return };
        let mut old: Vec<_> = std::mem::take(&mut entry.task_sets).into_iter().map(Some).collect();
        let mut places = vec![None; old.len()];
        let mut task_sets: Vec<TaskSet> = units
            .iter()
            .enumerate()
            .map(|(place, unit)| match before.iter().position(|seen| seen == unit) {
                Some(index) => {
                    places[index] = Some(place);
                    old[index].take().expect("a LUN is seen once")
                }
                None => self.task_set((id, &name), *unit),
            })
            .collect();
        for (index, leaving) in old.iter_mut().enumerate() {
            if let Some(leaving) = leaving.take() {
                places[index] = Some(task_sets.len());
                task_sets.push(leaving);
            }
        }
        let entry = &mut self.nexuses[nexus.0];
        (entry.task_sets, entry.seen, entry.luns) = (task_sets, units.len(), all);
        self.moved(nexus.0, &places);
        let is_seen = |unit| units.iter().any(|(_, seen)| *seen == unit);
        for &(_, gone) in before.iter().filter(|(_, unit)| !is_seen(*unit)) {
            self.units[gone.row()].server.nexus_lost(id);
            self.end_reserve(gone, Some(nexus.0), None);
        }
        for (place, &(lun, unit)) in units.iter().enumerate() {
            let mut codes: SmallVec<[u16; 3]> = SmallVec::new();
            if let Some(&(_, was)) = before.iter().find(|(before, was)| *before == lun && *was != unit) {
                self.raise_fence_after(nexus.0, place, was);
                codes.push(asc::INQUIRY_DATA_HAS_CHANGED);
                let bytes = |unit: UnitKey| self.units[unit.row()].geometry().bytes;
                codes.extend((bytes(was) != bytes(unit)).then_some(asc::CAPACITY_DATA_HAS_CHANGED));
            }
            codes.extend(other_luns.then_some(asc::REPORTED_LUNS_DATA_HAS_CHANGED));
            let task_set = &mut self.nexuses[nexus.0].task_sets[place];
            let told = codes.into_iter().filter_map(|code| task_set.establish(code));
            self.undelivered.extend(told.map(|event| (nexus, event)));
        }
        self.retirement.nexuses.push((nexus.0, now + TASK_TIME));
        self.retirement.due = Some(now);
    }

    /// A logical unit goes: no nexus of this core sees it any more, and [`Notice::Retired`] follows.
    pub fn retire(&mut self, now: Instant, unit: UnitKey) {
        let Some(row) = self.row(unit) else { return self.notices.push_back(Notice::Retired(unit, Ok(()))) };
        // What a mirrored nexus sees, the core of its session says: it may see another unit in the place of this one.
        let sees = |nexus: &NexusState| !nexus.mirror && nexus.all_seen().any(|(_, seen)| seen == unit);
        let nexuses: Vec<_> =
            self.nexuses.iter().filter(|(_, nexus)| sees(nexus)).map(|(key, _)| key).collect();
        for nexus in nexuses {
            let mut others: Vec<_> =
                self.nexuses[nexus].all_seen().filter(|(_, seen)| *seen != unit).collect();
            others.sort_unstable();
            self.see(now, NexusKey(nexus), &others);
        }
        self.retirement.units.push(RetiringUnit { row, flushing: false });
        self.retirement.due = Some(now);
        self.rearm(row);
    }

    /// Task sets of a nexus have other places now, or none if they are gone.
    fn moved(&mut self, nexus: usize, places: &[Option<usize>]) {
        for &task in self.nexuses[nexus].exchanges.iter().flatten() {
            let task = &mut self.tasks[task as usize];
            task.task_set = task.task_set.and_then(|index| places[index]);
        }
        self.fenced.retain_mut(|(of, index)| {
            let place = if *of == nexus { places.get(*index).copied().flatten() } else { Some(*index) };
            *index = place.unwrap_or_default();
            place.is_some()
        });
        for (of, undelivered) in &mut self.undelivered {
            if let Undelivered::Terminate(_, task_set, _) = undelivered
                && of.0 == nexus
            {
                *task_set = task_set.and_then(|index| places[index]);
            }
        }
    }

    /// Lets go of what has ended, and ends what takes too long. Returns how much that was.
    #[cold]
    pub(super) fn look_after_retired(&mut self, now: Instant) -> usize {
        let before = self.retirement.nexuses.len() + self.retirement.units.len();
        let mut nexuses = std::mem::take(&mut self.retirement.nexuses);
        nexuses.retain_mut(|(nexus, until)| {
            self.drop_unseen(*nexus);
            if *until <= now {
                *until = now + TASK_TIME;
                self.abort_unseen(now, *nexus);
                self.drop_unseen(*nexus);
            }
            self.nexuses.get(*nexus).is_some_and(|entry| entry.seen < entry.task_sets.len())
        });
        nexuses.append(&mut self.retirement.nexuses);
        self.retirement.nexuses = nexuses;
        for index in (0..self.retirement.units.len()).rev() {
            if !self.retirement.units[index].flushing {
                self.advance_retiring(now, index);
            }
        }
        let left = self.retirement.nexuses.len() + self.retirement.units.len();
        self.retirement.due = (left > 0).then_some(now + LOOK);
        before - left.min(before)
    }

    /// Drops task sets that their nexus does not see, and in which nothing is under way.
    fn drop_unseen(&mut self, nexus: usize) {
        let Some(entry) = self.nexuses.get_mut(nexus) else { return };
        let (mut places, mut kept, mut index) = (Vec::new(), 0, 0);
        let seen = entry.seen;
        entry.task_sets.retain(|task_set| {
            let keeps = index < seen || !task_set.is_idle();
            places.push(keeps.then_some(kept));
            (index, kept) = (index + 1, kept + usize::from(keeps));
            keeps
        });
        if kept < places.len() {
            self.moved(nexus, &places);
        }
    }

    /// Aborts the tasks of sets that their nexus does not see.
    fn abort_unseen(&mut self, now: Instant, nexus: usize) {
        let Some(entry) = self.nexuses.get(nexus) else { return };
        let unseen =
            |task: &u32| self.tasks[*task as usize].task_set.is_some_and(|index| index >= entry.seen);
        let mut tasks: SmallVec<[u32; 16]> =
            entry.exchanges.iter().flatten().copied().filter(unseen).collect();
        // Those that wait for their turn go first, lest the end of another starts them.
        tasks.sort_by_key(|&task| self.tasks[task as usize].state != State::Blocked);
        for task in tasks {
            self.tasks[task as usize].told = Some(Status::TaskAborted);
            self.abort(now, task, None, None);
        }
    }

    /// A unit that goes is waited for, and flushed when nothing is under way.
    fn advance_retiring(&mut self, now: Instant, index: usize) {
        let row = self.retirement.units[index].row;
        let detached = self.tasks.iter().filter(|(_, task)| task.nexus == NOBODY && task.unit == row);
        let detached: SmallVec<[u32; 4]> =
            detached.map(|(key, _)| u32::try_from(key).expect("fewer than TASKS_MAX tasks")).collect();
        for task in detached {
            self.abort(now, task, None, None);
        }
        if self.is_busy(row) {
            return;
        }
        let unit = &mut self.units[row];
        let flushed = match &mut unit.store {
            None => Ok(()),
            Some(store) => match store.submit(FLUSH, Op::Flush) {
                Submitted::Queued => {
                    unit.storing += 1;
                    self.retirement.units[index].flushing = true;
                    return;
                }
                Submitted::Done(done) => outcome(&done),
                Submitted::Full(_) => return,
            },
        };
        self.retirement.units.swap_remove(index);
        self.tell_retired(row, flushed);
    }

    /// This core has nothing to do with a unit any more.
    pub(super) fn tell_retired(&mut self, row: usize, flushed: Result<(), Error>) {
        let unit = &mut self.units[row];
        unit.retired = true;
        self.notices.push_back(Notice::Retired(unit.key, flushed));
    }

    /// Whether anything of this core's is under way at a unit.
    fn is_busy(&self, row: usize) -> bool {
        let unit = &self.units[row];
        !unit.drained()
            || unit.frozen > 0
            || !unit.held.is_empty()
            || self.changes.all.iter().any(|(_, changing)| changing.unit == row)
            || self.tasks.iter().any(|(_, task)| task.unit == row)
            || self
                .nexuses
                .iter()
                .any(|(_, nexus)| nexus.task_sets.iter().any(|task_set| task_set.unit == unit.key))
    }
}
