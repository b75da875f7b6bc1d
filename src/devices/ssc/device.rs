// SPDX-License-Identifier: GPL-2.0-or-later
//! What makes a tape drive of a logical unit.

use serde_json::{Map, Value};
use smallvec::{SmallVec, smallvec};

use super::drive::{Tape, TapeShape, UNLOADED};
use super::mode::{self, TapeModes};
use super::table::TABLE;
use super::task::TapeTask;
use crate::io::Geometry;
use crate::scsi::primary::log_page::{NON_MEDIUM_ERRORS, READ_ERRORS, WRITE_ERRORS};
use crate::scsi::primary::{
    CommandSet, Counter, DeviceType, Handler, Identity, LogData, ModePage, ModeUnit, ModeValues, Peripheral,
    PrimaryUnit, Span, Table, UnitFlags,
};
use crate::scsi::{Sense, asc, key};
use crate::time::Instant;
use crate::wire::scsi::DataIn;

const TAPE_ALERT: u8 = 0x2e;

/// SAM-5, SPC-4, SSC-4.
const VERSIONS: [u16; 3] = [0x00a0, 0x0460, 0x0520];

const SEQUENTIAL_ACCESS_CAPABILITIES: u8 = 0xb0;

/// A drive as INQUIRY and the mode pages see it.
pub struct TapeView<'a>(&'a Tape, TapeShape);

impl Peripheral for TapeView<'_> {
    fn identity(&self) -> &Identity {
        self.0.primary.identity()
    }

    fn device_type(&self) -> u8 {
        0x01
    }

    fn removable(&self) -> bool {
        true
    }

    fn asymmetric(&self) -> bool {
        true
    }

    fn management(&self) -> Option<&str> {
        self.0.primary.management()
    }

    fn versions(&self) -> &'static [u16] {
        &VERSIONS
    }

    fn vpd_pages(&self) -> &'static [u8] {
        &[SEQUENTIAL_ACCESS_CAPABILITIES]
    }

    fn vpd_page(&self, _: u8, data: &mut DataIn) {
        const WORM: u8 = 0x01;
        data.u8(WORM).u8(0);
    }
}

impl ModeUnit for TapeView<'_> {
    fn device_specific(&self) -> u8 {
        const WP: u8 = 0x80;
        let protected = self.0.protected(&self.1) || self.0.drive().is_protected();
        if protected { WP } else { 0 }
    }

    fn blocks(&self) -> Option<(u64, u32)> {
        Some((0, 0))
    }

    fn resolve_header(&self, now: &[u8], wanted: &mut [u8]) {
        mode::resolve_header(now, wanted);
    }

    fn shortest(&self, page: &ModePage) -> usize {
        mode::shortest(page)
    }

    fn check(&self, page: &ModePage, values: &[u8]) -> Result<(), usize> {
        const WRITE_MODE_AT: usize = 1;
        if self.0.drive().keeps_appending && mode::ends_append_only(page, values) {
            return Err(WRITE_MODE_AT);
        }
        mode::check(page, values)
    }
}

impl DeviceType for Tape {
    type Shape = TapeShape;
    type View<'a> = TapeView<'a>;

    const MEDIUM: UnitFlags = UNLOADED;
    const WRITE_CACHE: UnitFlags = UnitFlags(0);

    fn primary(&self) -> &PrimaryUnit {
        &self.primary
    }

    fn shape(&self, geometry: &Geometry) -> TapeShape {
        TapeShape::new(geometry)
    }

    fn view(&self, shape: TapeShape) -> TapeView<'_> {
        TapeView(self, shape)
    }

    fn modes_in_force(&self, values: &ModeValues) {
        self.drive().take_modes(TapeModes::of(values), self.primary.flags().has(UNLOADED));
    }

    fn reset(&self) {
        self.drive().keeps_appending = false;
    }

    fn protected(&self, shape: &TapeShape) -> bool {
        shape.read_only || self.options().read_only || self.primary.flags().has(UnitFlags::WRITE_PROTECT)
    }

    fn unready(&self) -> Option<Sense> {
        let out = self.primary.flags().has(UNLOADED);
        out.then(|| Sense::new(key::NOT_READY, asc::MEDIUM_NOT_PRESENT))
    }

    fn log_pages(&self, _: &TapeShape) -> &'static [(u8, u8)] {
        &[(WRITE_ERRORS, 0), (READ_ERRORS, 0), (NON_MEDIUM_ERRORS, 0), (TAPE_ALERT, 0)]
    }

    fn log_page(&self, _: u8, _: bool, _: &TapeShape, _: Instant, data: &mut LogData) {
        // TapeAlert: none of the 64 flags is set.
        for flag in 1..=64 {
            data.parameter(flag, Counter::List, &[0]);
        }
    }

    fn self_test(&self, _: bool, _: &TapeShape) -> SmallVec<[Span; 2]> {
        smallvec![]
    }

    fn report(&self) -> Map<String, Value> {
        match serde_json::to_value(Self::report(self)) {
            Ok(Value::Object(report)) => report,
            _ => Map::new(),
        }
    }
}

impl CommandSet for Tape {
    type Task = TapeTask;

    fn table() -> &'static Table<Handler<Self>> {
        &TABLE
    }
}
