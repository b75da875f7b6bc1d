// SPDX-License-Identifier: GPL-2.0-or-later
//! What makes a toy of a logical unit.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Map, Value};
use smallvec::{SmallVec, smallvec};

use crate::io::Geometry;
use crate::scsi::primary::handlers::{self, answered};
use crate::scsi::primary::{
    CONTROL_PAGE, CommandSet, Definition, DeviceTask, DeviceType, EXCEPTIONS_PAGE, Fault, Features, Handler,
    Identity, Job, LogData, ModePage, ModeUnit, ModeValues, Peripheral, PrimaryUnit, Row, Shape, Span, Table,
    UnitFlags, Work, check_common_page, command,
};
use crate::scsi::reservations::commands as reservation;
use crate::scsi::{Context, Resume, Step};
use crate::time::Instant;
use crate::wire::scsi::{DataIn, be24};

static PAGES: [ModePage; 2] = [CONTROL_PAGE, EXCEPTIONS_PAGE];

#[derive(Debug)]
pub(super) struct Toy {
    primary: PrimaryUnit,
    greeting: String,
    greeted: AtomicU64,
}

impl Toy {
    pub(super) fn new(
        identity: Identity,
        management: Option<Arc<str>>,
        epoch: u64,
        greeting: String,
    ) -> Self {
        let primary = PrimaryUnit::new::<Self>(identity, management, epoch, ModeValues::new(&PAGES));
        Self { primary, greeting, greeted: AtomicU64::new(0) }
    }
}

/// It has none.
#[derive(Clone, Copy, Debug)]
pub(super) struct NoShape;

impl Shape for NoShape {
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

pub(super) struct ToyView<'a>(&'a Toy);

impl Peripheral for ToyView<'_> {
    fn identity(&self) -> &Identity {
        self.0.primary.identity()
    }

    fn device_type(&self) -> u8 {
        0x03
    }

    fn versions(&self) -> &'static [u16] {
        &[0x00a0, 0x0460]
    }

    fn vpd_pages(&self) -> &'static [u8] {
        &[]
    }

    fn vpd_page(&self, _: u8, _: &mut DataIn) {}
}

impl ModeUnit for ToyView<'_> {
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

impl DeviceType for Toy {
    type Shape = NoShape;
    type View<'a> = ToyView<'a>;

    const MEDIUM: UnitFlags = UnitFlags(0);
    const WRITE_CACHE: UnitFlags = UnitFlags(0);

    fn primary(&self) -> &PrimaryUnit {
        &self.primary
    }

    fn shape(&self, _: &Geometry) -> NoShape {
        NoShape
    }

    fn view(&self, _: NoShape) -> ToyView<'_> {
        ToyView(self)
    }

    fn protected(&self, _: &NoShape) -> bool {
        false
    }

    fn log_pages(&self, _: &NoShape) -> &'static [(u8, u8)] {
        &[]
    }

    fn log_page(&self, _: u8, _: bool, _: &NoShape, _: Instant, _: &mut LogData) {}

    fn self_test(&self, _: bool, _: &NoShape) -> SmallVec<[Span; 2]> {
        smallvec![]
    }

    fn report(&self) -> Map<String, Value> {
        let greeted = self.greeted.load(Ordering::Relaxed);
        Map::from_iter([
            ("greeting".into(), self.greeting.clone().into()),
            ("greeted".into(), greeted.into()),
        ])
    }
}

/// All of its commands end with their first step.
#[derive(Debug)]
pub(super) enum NoTask {}

impl DeviceTask<Toy> for NoTask {
    fn advance(&mut self, _: Option<Resume>, _: &Job<'_, Toy>, _: &mut Context<'_>) -> Result<Step, Fault> {
        match *self {}
    }
}

/// RECEIVE (SPC-2 8.2).
fn receive(job: &Job<'_, Toy>, cx: &mut Context<'_>) -> Result<Work<Toy>, Fault> {
    job.unit.greeted.fetch_add(1, Ordering::Relaxed);
    let mut data = DataIn::new();
    data.bytes(job.unit.greeting.as_bytes());
    answered((data, be24(&job.cdb, 2)), cx)
}

const fn row(definition: Definition, run: Handler<Toy>) -> Row<Handler<Toy>> {
    Row { definition, run }
}

const ROWS: [Row<Handler<Toy>>; 9] = [
    row(command::TEST_UNIT_READY, handlers::test_unit_ready),
    row(command::REQUEST_SENSE, handlers::request_sense),
    row(Definition::new("RECEIVE", &[0x08, 0, 0xff, 0xff, 0xff, 0]), receive),
    row(command::INQUIRY, handlers::inquiry),
    row(command::MODE_SELECT_6, handlers::mode_select),
    row(command::MODE_SENSE_6, handlers::mode_sense),
    row(reservation::READ_KEYS, handlers::reservation),
    row(command::REPORT_LUNS, handlers::report_luns),
    row(command::REPORT_SUPPORTED_OPERATION_CODES, handlers::report_operation_codes),
];

static TABLE: Table<Handler<Toy>> = Table::new(&ROWS);

impl CommandSet for Toy {
    type Task = NoTask;

    fn table() -> &'static Table<Handler<Self>> {
        &TABLE
    }
}

pub(crate) fn commands() -> impl Iterator<Item = &'static Definition> {
    TABLE.rows().iter().map(|row| &row.definition)
}
