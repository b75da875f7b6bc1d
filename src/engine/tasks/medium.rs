// SPDX-License-Identifier: GPL-2.0-or-later
//! A logical unit that runs one command at a time gets another medium, or loses the one it has: the store behind it
//! changes, the unit stays.
//!
//! Such a change stands in the line of its unit. At its turn the device brings to the medium what was written and lets
//! it go ([`Step::ReleaseMedium`](crate::scsi::Step::ReleaseMedium)); then the unit is frozen until the store has given
//! back what it holds for others, copies of other units for one. That is the moment of the change: before, whatever
//! fails leaves everything as it was. Nexuses learn of a new medium by a unit attention.

use smallvec::SmallVec;

use super::change_queue::{Draining, FrozenFor};
use super::line::CommandPlace;
use super::medium_change::{ChangingMedium, MediumChange, MediumRefusal};
use super::nobody::Nobody;
use super::task::State;
use super::{NOBODY, Notice, TaskManager};
use crate::io::{Error, ErrorKind};
use crate::scsi::{UnitKey, Whom, asc};
use crate::time::Instant;

/// The name of the changes that nobody has asked for.
const AT_THE_END: u64 = u64::MAX;

impl TaskManager {
    /// Changes the medium of a logical unit that runs one command at a time, on this core. The owner is told with
    /// [`Notice::MediumChanged`].
    pub fn change_medium(&mut self, now: Instant, unit: UnitKey, change: MediumChange, what: u64) {
        let row = self.row(unit);
        let row = row.filter(|row| matches!(self.units[*row].place, CommandPlace::Here(_)));
        let Some(row) = row else {
            let outcome = Err("it is not there".to_owned().into());
            return self.notices.push_back(Notice::MediumChanged { what, outcome });
        };
        let task = self.stand_in_line(now, row);
        self.media.push(ChangingMedium { task, change, what });
    }

    /// At the end, when no task is left: all media of this core's units that run one command at a time are let go, with
    /// all that was written to them. Those that cannot be are among the [`Self::unflushed`].
    pub fn release_media(&mut self, now: Instant) {
        let rows = self.units.iter().enumerate();
        let here =
            rows.filter(|(_, unit)| unit.store.is_some() && matches!(unit.place, CommandPlace::Here(_)));
        for row in here.map(|(row, _)| row).collect::<SmallVec<[usize; 8]>>() {
            let task = self.stand_in_line(now, row);
            self.media.push(ChangingMedium { task, change: MediumChange::default(), what: AT_THE_END });
        }
    }

    /// Gives a change up that has not come to its moment yet.
    pub fn give_up_medium(&mut self, now: Instant, what: u64) {
        if let Some(ChangingMedium { task, .. }) = self.media.iter().find(|changing| changing.what == what) {
            self.abort(now, *task, None, None);
        }
    }

    /// A change has its turn in the line.
    pub(super) fn begin_medium_change(&mut self, now: Instant, index: usize) {
        let ChangingMedium { task, change: MediumChange { force, store }, .. } = &self.media[index];
        let (task, force, comes) = (*task, *force, store.is_some());
        let unit = &self.units[self.tasks[task as usize].unit];
        let (is_there, is_prevented) = (unit.store.is_some(), unit.server.prevents_removal());
        let why = match (is_there, comes) {
            (false, false) => "there is no medium in it",
            (true, _) if is_prevented && !force => "an initiator prevents the removal of its medium",
            (true, _) => {
                let step = self.call(now, task, &mut Nobody, |server, id, command, cx| {
                    server.release_medium(id, command, force, cx)
                });
                return self.run(now, task, step, &mut Nobody);
            }
            (false, true) => return self.release_medium(now, task, false),
        };
        let prevented = is_there && is_prevented;
        self.settle_medium(task, Err(MediumRefusal { prevented, why: why.to_owned() }));
        self.end(now, task, None);
    }

    /// The device lets its medium go, or does not.
    #[cold]
    pub(super) fn release_medium(&mut self, now: Instant, task: u32, stays: bool) {
        if stays {
            let why = "what was written last cannot be brought to its medium";
            self.settle_medium(task, Err(why.to_owned().into()));
            return self.end(now, task, None);
        }
        let row = self.tasks[task as usize].unit;
        self.tasks[task as usize].state = State::Changing;
        // What goes on without an initiator is about this medium.
        let detached = self.tasks.iter().filter(|(key, other)| {
            let is_other = other.nexus == NOBODY && *key != task as usize;
            is_other && other.unit == row && other.state != State::InLine
        });
        let detached: SmallVec<[u32; 4]> =
            detached.map(|(key, _)| u32::try_from(key).expect("fewer than TASKS_MAX tasks")).collect();
        for other in detached {
            self.abort(now, other, None, None);
        }
        self.units[row].freeze();
        match self.units[row].drained() {
            true => self.change_drained_medium(now, task),
            false => {
                self.changes.draining.push(Draining { unit: row, frozen_for: FrozenFor::Medium(task) });
            }
        }
    }

    /// The store holds nothing any more.
    pub(super) fn change_drained_medium(&mut self, now: Instant, task: u32) {
        let row = self.tasks[task as usize].unit;
        let index = self.media.iter().position(|changing| changing.task == task);
        if let Some(index) = index.filter(|_| !self.tasks[task as usize].aborted) {
            let store = self.media[index].change.store.take().map(|store| self.unlent(store));
            let comes = store.is_some();
            let unit = &mut self.units[row];
            if std::mem::replace(&mut unit.store, store).is_some() {
                unit.server.medium_gone();
            }
            if comes {
                unit.server.medium_come();
                let code = asc::NOT_READY_TO_READY_CHANGE_MEDIUM_MAY_HAVE_CHANGED;
                self.establish(row, &[(Whom::All, code)], None);
            }
            self.settle_medium(task, Ok(()));
        }
        self.unfreeze(row);
        self.end(now, task, None);
    }

    /// Tells the owner how a change has ended, unless it was told before.
    #[cold]
    pub(super) fn settle_medium(&mut self, task: u32, outcome: Result<(), MediumRefusal>) {
        if let Some(index) = self.media.iter().position(|changing| changing.task == task) {
            let ChangingMedium { what, .. } = self.media.swap_remove(index);
            if what == AT_THE_END {
                let unit = self.units[self.tasks[task as usize].unit].key;
                let error = outcome.err().map(|_| Error { kind: ErrorKind::WriteFailed, at: 0 });
                return self.last_flush.failed.extend(error.map(|error| (unit, error)));
            }
            self.notices.push_back(Notice::MediumChanged { what, outcome });
        }
    }
}
