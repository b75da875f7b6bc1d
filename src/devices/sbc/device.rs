// SPDX-License-Identifier: GPL-2.0-or-later
//! What makes a disk of a logical unit.

use serde_json::{Map, Value};
use smallvec::{SmallVec, smallvec};

use crate::io::{Geometry, Health, Op};
use crate::scsi::primary::{
    CommandSet, DeviceType, Handler, LogData, ModeValues, PrimaryUnit, Span, Table, UnitFlags,
    VARIABLE_LENGTH,
};
use crate::scsi::{Cdb, CopyTraits, NexusId, Sense};
use crate::time::Instant;

use super::disk::Disk;
use super::flags::{ERASING, OF_MEDIUM, WRITE_CACHE};
use super::limits::Limits;
use super::long::{relocated, short_form};
use super::pages::CurrentDisk;
use super::table::TABLE;
use super::task::DiskTask;
use super::{logs, mode};

impl DeviceType for Disk {
    type Shape = Limits;
    type View<'a> = CurrentDisk<'a>;

    const MEDIUM: UnitFlags = OF_MEDIUM;
    const WRITE_CACHE: UnitFlags = WRITE_CACHE;

    fn primary(&self) -> &PrimaryUnit {
        &self.primary
    }

    fn shape(&self, geometry: &Geometry) -> Limits {
        Limits::new(self.config(), geometry)
    }

    fn view(&self, limits: Limits) -> CurrentDisk<'_> {
        CurrentDisk { disk: self, limits }
    }

    fn mode_flags(values: &ModeValues) -> UnitFlags {
        mode::flags(values)
    }

    fn protected(&self, limits: &Limits) -> bool {
        self.is_protected(limits)
    }

    fn occupied(&self) -> Option<Sense> {
        self.primary.flags().has(ERASING).then(|| self.busy_erasing())
    }

    fn unready(&self) -> Option<Sense> {
        self.not_ready()
    }

    fn log_pages(&self, limits: &Limits) -> &'static [(u8, u8)] {
        logs::pages(limits)
    }

    fn log_page(&self, page: u8, default: bool, limits: &Limits, now: Instant, data: &mut LogData) {
        logs::write(page, default, self, limits, now, data);
    }

    /// The short test reads both ends of the disk, the extended one all of it.
    fn self_test(&self, extended: bool, limits: &Limits) -> SmallVec<[Span; 2]> {
        let whole = Span { at: 0, left: limits.bytes(limits.capacity) };
        let chunk = u64::from(limits.chunk);
        match whole.left <= 2 * chunk || extended {
            true => smallvec![whole],
            false => smallvec![Span { at: whole.left - chunk, left: chunk }, Span { at: 0, left: chunk }],
        }
    }

    fn nexus_lost(&self, nexus: NexusId) {
        self.rare().copies.forget_nexus(nexus);
    }

    fn reset(&self) {
        self.rare().copies.clear();
    }

    fn inspected(&self, health: &Health) -> Vec<u16> {
        self.store_inspected(health)
    }

    fn report(&self) -> Map<String, Value> {
        match serde_json::to_value(self.report()) {
            Ok(Value::Object(report)) => report,
            _ => Map::new(),
        }
    }

    fn copy_traits(&self) -> Option<CopyTraits> {
        Some(self.traits())
    }

    fn admits(&self, op: &Op, limits: &Limits) -> bool {
        let reads = matches!(op, Op::Read { .. });
        self.not_ready().is_none() && (reads || !self.is_protected(limits))
    }
}

impl CommandSet for Disk {
    type Task = DiskTask;

    fn table() -> &'static Table<Handler<Self>> {
        &TABLE
    }

    fn short_form(cdb: &Cdb) -> [u8; 16] {
        short_form(cdb)
    }

    /// A fault of a 32-byte command points into that, not into the short form that was carried out.
    fn in_own_words(cdb: &Cdb, sense: Sense) -> Sense {
        if cdb.opcode() == VARIABLE_LENGTH { relocated(sense) } else { sense }
    }
}
