// SPDX-License-Identifier: GPL-2.0-or-later
//! What makes a media changer of a logical unit.

use serde_json::{Map, Value};
use smallvec::{SmallVec, smallvec};

use super::changer::{MOVING, MediaChanger};
use super::elements::{ElementType, TYPES};
use super::motion::MoveTask;
use super::table::TABLE;
use crate::io::Geometry;
use crate::scsi::primary::log_page::NON_MEDIUM_ERRORS;
use crate::scsi::primary::{
    CommandSet, Counter, DeviceType, Features, Handler, Identity, LogData, MediaLibrary, ModePage, ModeUnit,
    Peripheral, PrimaryUnit, Shape, Span, Table, UnitFlags, check_common_page,
};
use crate::scsi::{Sense, asc, key};
use crate::time::Instant;
use crate::wire::scsi::DataIn;

const TAPE_ALERT: u8 = 0x2e;

/// SAM-5, SPC-4, SMC-3.
const VERSIONS: [u16; 3] = [0x00a0, 0x0460, 0x0480];

/// It has no store.
#[derive(Clone, Copy, Debug)]
pub struct ChangerShape;

impl Shape for ChangerShape {
    fn lba(&self, _: u64) -> u64 {
        0
    }

    fn chunk(&self) -> u32 {
        0
    }

    fn features(&self) -> Features {
        Features(0)
    }
}

/// A changer as INQUIRY and the mode pages see it.
pub struct ChangerView<'a>(&'a MediaChanger);

impl Peripheral for ChangerView<'_> {
    fn identity(&self) -> &Identity {
        self.0.primary().identity()
    }

    fn device_type(&self) -> u8 {
        0x08
    }

    fn removable(&self) -> bool {
        true
    }

    fn asymmetric(&self) -> bool {
        true
    }

    fn management(&self) -> Option<&str> {
        self.0.primary().management()
    }

    fn versions(&self) -> &'static [u16] {
        &VERSIONS
    }

    fn vpd_pages(&self) -> &'static [u8] {
        &[]
    }

    fn vpd_page(&self, _: u8, _: &mut DataIn) {}
}

impl ModeUnit for ChangerView<'_> {
    fn device_specific(&self) -> u8 {
        0
    }

    fn blocks(&self) -> Option<(u64, u32)> {
        None
    }

    fn check(&self, page: &ModePage, values: &[u8]) -> Result<(), usize> {
        check_common_page(page, values)
    }
}

impl DeviceType for MediaChanger {
    type Shape = ChangerShape;
    type View<'a> = ChangerView<'a>;

    const MEDIUM: UnitFlags = MOVING;
    const WRITE_CACHE: UnitFlags = UnitFlags(0);

    fn primary(&self) -> &PrimaryUnit {
        &self.primary
    }

    fn shape(&self, _: &Geometry) -> ChangerShape {
        ChangerShape
    }

    fn view(&self, _: ChangerShape) -> ChangerView<'_> {
        ChangerView(self)
    }

    fn unready(&self) -> Option<Sense> {
        let code = asc::LOGICAL_UNIT_NOT_READY_OPERATION_IN_PROGRESS;
        self.primary.flags().has(MOVING).then(|| Sense::new(key::NOT_READY, code))
    }

    fn reset(&self) {
        self.take_search();
    }

    fn protected(&self, _: &ChangerShape) -> bool {
        false
    }

    fn log_pages(&self, _: &ChangerShape) -> &'static [(u8, u8)] {
        &[(NON_MEDIUM_ERRORS, 0), (TAPE_ALERT, 0)]
    }

    fn log_page(&self, _: u8, _: bool, _: &ChangerShape, _: Instant, data: &mut LogData) {
        // TapeAlert: none of the 64 flags is set.
        for flag in 1..=64 {
            data.parameter(flag, Counter::List, &[0]);
        }
    }

    fn self_test(&self, _: bool, _: &ChangerShape) -> SmallVec<[Span; 2]> {
        smallvec![]
    }

    fn library(&self) -> Option<&dyn MediaLibrary> {
        Some(self)
    }

    fn report(&self) -> Map<String, Value> {
        let inventory = self.inventory();
        let count = |kind: ElementType| {
            let full = inventory.of(kind).filter(|(_, element)| element.volume.is_some()).count();
            Value::from(Map::from_iter([
                ("elements".into(), inventory.addresses().of(kind).len().into()),
                ("full".into(), full.into()),
            ]))
        };
        let names = ["transports", "slots", "import_export", "drives"];
        names.into_iter().zip(TYPES).skip(1).map(|(name, kind)| (name.into(), count(kind))).collect()
    }
}

impl CommandSet for MediaChanger {
    type Task = MoveTask;

    fn table() -> &'static Table<Handler<Self>> {
        &TABLE
    }
}
