// SPDX-License-Identifier: GPL-2.0-or-later
//! What makes a tape drive of a logical unit.

use serde_json::{Map, Value};
use smallvec::{SmallVec, smallvec};

use super::alerts::TapeAlerts;
use super::drive::{CartridgeState, Tape, TapeShape, UNLOADED};
use super::medium::CartridgeRemoval;
use super::mode::{self, ObservedDrive, TapeModes};
use super::personality::DriveMaker;
use super::store_work::scan;
use super::table::TABLE;
use super::task::{TapeCommand, TapeTask, task};
use super::{density, logs};
use crate::formats::tape::{CartridgeUse, TapeImage};
use crate::io::Geometry;
use crate::scsi::primary::{
    CommandSet, DeviceType, Handler, Identity, LogData, ModePage, ModeUnit, ModeValues, Peripheral,
    PrimaryUnit, ReadMedium, Span, Table, TaskWork, UnitFlags,
};
use crate::scsi::{Sense, asc, key};
use crate::time::Instant;
use crate::wire::scsi::DataIn;

/// SAM-5, SPC-4, SSC-4.
const VERSIONS: [u16; 3] = [0x00a0, 0x0460, 0x0520];

/// Vital product data pages: those of SSC, and what makers have beside.
const SEQUENTIAL_ACCESS_CAPABILITIES: u8 = 0xb0;
const MANUFACTURER_SERIAL: u8 = 0xb1;
const TAPE_ALERT_SUPPORTED: u8 = 0xb2;
const PROTECTION_SUPPORTED: u8 = 0xb5;
const COMPONENTS: u8 = 0xc0;
const SERIALS: u8 = 0xc1;
const HP_COMPONENTS: std::ops::RangeInclusive<u8> = 0xc0..=0xc5;

/// Makers give the components of a drive, and when they were made.
const COMPONENT: &str = "ptgt";
const COMPONENT_DATE: &str = "20260101";

/// Text of a width, with blanks behind it.
fn field(text: &str, width: usize, data: &mut DataIn) {
    data.bytes(format!("{text:<width$.width$}").as_bytes());
}

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

    /// Logical block protection.
    fn protects(&self) -> bool {
        true
    }

    fn management(&self) -> Option<&str> {
        self.0.primary.management()
    }

    fn versions(&self) -> &'static [u16] {
        &VERSIONS
    }

    fn vpd_pages(&self) -> &'static [u8] {
        match self.0.options().personality.maker {
            DriveMaker::Own | DriveMaker::Quantum => &[0xb0, 0xb1, 0xb2, 0xb5],
            DriveMaker::Ibm => &[0xb0, 0xb1, 0xb2, 0xb5, 0xc0, 0xc1],
            DriveMaker::Hp => &[0xb0, 0xb1, 0xb2, 0xb5, 0xc0, 0xc1, 0xc2, 0xc3, 0xc4, 0xc5],
        }
    }

    fn vpd_page(&self, page: u8, data: &mut DataIn) {
        const WORM: u8 = 0x01;
        let serial = String::from_utf8_lossy(self.identity().serial());
        match (page, self.0.options().personality.maker) {
            (SEQUENTIAL_ACCESS_CAPABILITIES, _) => _ = data.u8(WORM).u8(0),
            (MANUFACTURER_SERIAL, _) => _ = data.bytes(serial.as_bytes()),
            (TAPE_ALERT_SUPPORTED, _) => _ = data.u64(TapeAlerts::known().0),
            // No protection, and CRC32C of four bytes for WRITE and READ.
            (PROTECTION_SUPPORTED, _) => {
                data.u32(0).bytes(&[7, 0, 0, 0, 0, 0, 0, 0]).bytes(&[7, 2, 4, 0xc0, 0, 0, 0, 0]);
            }
            (COMPONENTS, DriveMaker::Ibm) => {
                field(COMPONENT, 12, data);
                field("000000", 7, data);
                field(COMPONENT_DATE, 8, data);
                field("x86", 12, data);
            }
            (SERIALS, DriveMaker::Ibm) => {
                field(&serial, 12, data);
                field(&serial, 12, data);
            }
            (page, DriveMaker::Hp) if HP_COMPONENTS.contains(&page) => {
                field(COMPONENT, 26, data);
                field(self.0.options().personality.inquiry[2], 19, data);
                field("2026/01/01 00:00", 24, data);
                field("", 23, data);
            }
            _ => {}
        }
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

    fn medium_type(&self) -> u8 {
        const WORM: u8 = 0x04;
        const HP_WORM: u8 = 0x01;
        let drive = self.0.drive();
        let Some(cartridge) = drive.mounted().map(TapeImage::cartridge) else { return 0 };
        let worm = cartridge.purpose == CartridgeUse::Worm;
        let kind = density::facts(cartridge.density).map_or(0, |facts| facts.medium_type);
        match self.0.options().personality.maker {
            DriveMaker::Own => 0,
            DriveMaker::Hp => HP_WORM * u8::from(worm),
            DriveMaker::Ibm | DriveMaker::Quantum => kind | if worm { WORM } else { 0 },
        }
    }

    fn observe(&self, page: &ModePage, values: &mut [u8]) {
        let drive = self.0.drive();
        let observed = ObservedDrive {
            image: drive.mounted(),
            usual_density: self.0.options().density,
            partition: drive.partition,
            compresses: drive.modes.compresses,
            plan: drive.plan,
        };
        mode::observe(page, &observed, values);
    }

    fn offers(&self, page: &ModePage) -> bool {
        mode::is_offered(page, self.0.options().personality.maker)
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
        let drive = &mut *self.drive();
        (drive.keeps_appending, drive.plan) = (false, None);
        drive.encryption.clear();
    }

    fn protected(&self, shape: &TapeShape) -> bool {
        shape.read_only || self.options().read_only || self.primary.flags().has(UnitFlags::WRITE_PROTECT)
    }

    fn unready(&self) -> Option<Sense> {
        let out = self.primary.flags().has(UNLOADED);
        out.then(|| Sense::new(key::NOT_READY, asc::MEDIUM_NOT_PRESENT))
    }

    fn log_pages(&self, _: &TapeShape) -> &'static [(u8, u8)] {
        logs::PAGES
    }

    fn log_page(&self, page: u8, default: bool, _: &TapeShape, now: Instant, data: &mut LogData) {
        logs::write(self, page, default, now, data);
    }

    fn self_test(&self, _: bool, _: &TapeShape) -> SmallVec<[Span; 2]> {
        smallvec![]
    }

    fn scan(&self, bytes: u64, read: &mut ReadMedium<'_>) {
        *self.scanned() = CartridgeState::Loaded;
        let found = scan(self, bytes, read);
        *self.scanned() = found;
    }

    fn medium_come(&self) {
        let scanned = std::mem::take(&mut *self.scanned());
        let drive = &mut *self.drive();
        drive.placed = !self.primary.flags().has(UnitFlags::MEDIUM_RETURNS);
        drive.take_in(scanned, self.options().personality);
    }

    fn medium_gone(&self) {
        self.drive().take_out();
        self.primary.change_flags(|flags| flags.set(UNLOADED, false));
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

    fn release(force: bool) -> TaskWork<Self> {
        TaskWork::Own(task(TapeCommand::Removal(CartridgeRemoval::new(force))))
    }

    fn table() -> &'static Table<Handler<Self>> {
        &TABLE
    }
}
