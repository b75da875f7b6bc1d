// SPDX-License-Identifier: GPL-2.0-or-later
//! The logical units of a core: a table with a row for each, by the row of its key. Units come and go while there are
//! commands for others.

use std::collections::VecDeque;

use smallvec::SmallVec;

use super::line::CommandPlace;
use super::task_set::TaskSet;
use super::unit::{NewUnit, Unit};
use super::{ABSENT, TaskManager, UnitKey};
use crate::io::{RecordSlot, RecordStore, Store};
use crate::scsi::{DeviceServer, Lun, Nexus, NexusId, UnitAttentions, asc};

impl TaskManager {
    /// Adds a logical unit with all that belongs to it. Nobody sees it yet.
    pub fn bring(&mut self, unit: NewUnit) {
        let NewUnit { key, owner, server, store, state, slot, faults } = unit;
        match owner {
            Some(owner) if owner != self.core => self.add_remote_unit(key, owner),
            _ => self.add_unit(key, server, store),
        }
        self.share(key, state);
        self.freeze_with_twins(key.row());
        self.units[key.row()].slot = slot;
        if let Some(faults) = faults {
            self.make_faults(key, faults);
        }
        if owner == Some(self.core) {
            self.make_serial(key);
        }
    }

    /// Adds a logical unit: its key, this core's device server and its handle to the store. Nobody sees it yet.
    pub fn add_unit(&mut self, key: UnitKey, server: Box<dyn DeviceServer>, store: Option<Box<dyn Store>>) {
        let row = key.row();
        if self.units.len() <= row {
            self.units.resize_with(row + 1, Unit::vacant);
        }
        assert_eq!(self.units[row].key.row(), ABSENT, "each logical unit has a row of its own");
        self.units[row] = Unit::new(key, server, store);
    }

    /// Those of some logical units for which a nexus has task sets here: a mirror has some of those that this core
    /// owns.
    pub(super) fn units_here(&self, mirror: bool, units: &[(Lun, UnitKey)]) -> Vec<(Lun, UnitKey)> {
        let is_here = |unit: UnitKey| match self.row(unit).map(|row| &self.units[row].place) {
            Some(CommandPlace::Everywhere) => !mirror,
            Some(CommandPlace::Here(_)) => true,
            Some(CommandPlace::At(_)) | None => false,
        };
        units.iter().filter(|(_, unit)| is_here(*unit)).copied().collect()
    }

    /// Drops a logical unit that no nexus of any core sees. If one has seen it, every core has told of it with
    /// [`Notice::Retired`](super::Notice::Retired).
    pub fn remove_unit(&mut self, key: UnitKey) {
        let Some(row) = self.row(key) else { return };
        self.units[row] = Unit::vacant();
        self.faults.rules.retain(|(unit, _)| *unit != row);
        self.disown(row);
    }

    /// The row of a logical unit that is there.
    pub(super) fn row(&self, key: UnitKey) -> Option<usize> {
        self.units.get(key.row()).is_some_and(|unit| unit.key == key).then(|| key.row())
    }

    /// The keys of all logical units.
    pub fn unit_keys(&self) -> impl Iterator<Item = UnitKey> {
        self.units.iter().map(|unit| unit.key).filter(|key| key.row() != ABSENT)
    }

    /// Says where records of logical units are kept: this core's handle, and the slots of units that it has already.
    /// Without it nothing can be kept.
    pub fn persist_with(&mut self, record_store: Box<dyn RecordStore>, slots: &[(UnitKey, RecordSlot)]) {
        self.record_store = Some(record_store);
        for &(unit, slot) in slots {
            self.units[unit.row()].slot = Some(slot);
        }
    }

    /// The task set of a nexus in a logical unit, with a unit attention for the power-on.
    pub(super) fn task_set(&self, (id, name): (NexusId, &Nexus), (lun, unit): (Lun, UnitKey)) -> TaskSet {
        let this = &self.units[unit.row()];
        let mut attentions = UnitAttentions::default();
        attentions.establish(asc::POWER_ON_RESET_OR_BUS_DEVICE_RESET_OCCURRED);
        TaskSet {
            lun,
            unit,
            attentions,
            access: this.state.nexus_access(id, name),
            active: 0,
            ahead: 0,
            lease: this.store.as_ref().and_then(|store| store.lease()),
            fences: SmallVec::new(),
            after: None,
            blocked: VecDeque::new(),
            unblocking: false,
            aca: None,
            halted: VecDeque::new(),
        }
    }
}
