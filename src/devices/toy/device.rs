// SPDX-License-Identifier: GPL-2.0-or-later
//! What makes a toy of a logical unit.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde_json::{Map, Value};
use smallvec::{SmallVec, smallvec};

use crate::io::Geometry;
use crate::scsi::primary::handlers::{self, answered};
use crate::scsi::primary::{
    CONTROL_PAGE, CommandSet, Definition, DeviceTask, DeviceType, EXCEPTIONS_PAGE, Fault, Features, Handler,
    Identity, Job, LogData, ModePage, ModeUnit, ModeValues, Peripheral, PrimaryUnit, Row, Shape, Span, Table,
    TaskWork, UnitFlags, check_common_page, command,
};
use crate::scsi::reservations::commands as reservation;
use crate::scsi::{Context, Outcome, Resume, Step};
use crate::time::Instant;
use crate::wire::scsi::{DataIn, be24};

static PAGES: [ModePage; 2] = [CONTROL_PAGE, EXCEPTIONS_PAGE];

#[derive(Debug)]
pub(super) struct Toy {
    primary: PrimaryUnit,
    greeting: String,
    greeted: AtomicU64,
    tape: Mutex<ToyTape>,
    /// A command moves data.
    busy: AtomicBool,
    /// Commands that began while another one was at work.
    overlaps: AtomicU64,
}

/// What it was sent.
#[derive(Debug, Default)]
struct ToyTape {
    records: Vec<Vec<u8>>,
    at: usize,
    /// When it files what is there, and how much is filed.
    due: Option<Instant>,
    filed: usize,
}

/// Bytes that it moves at a time.
const PIECE: u32 = 64;

/// How long after a record it files.
const FILING: Duration = Duration::from_millis(20);

impl Toy {
    pub(super) fn new(
        identity: Identity,
        management: Option<Arc<str>>,
        epoch: u64,
        greeting: String,
    ) -> Self {
        let primary = PrimaryUnit::new::<Self>(identity, management, epoch, ModeValues::new(&PAGES));
        let (greeted, tape, busy, overlaps) = Default::default();
        Self { primary, greeting, greeted, tape, busy, overlaps }
    }

    fn tape(&self) -> MutexGuard<'_, ToyTape> {
        self.tape.lock().expect("nobody panics with it")
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

    fn next_deadline(&self) -> Option<Instant> {
        self.tape().due
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
        let tape = self.tape();
        Map::from_iter([
            ("greeting".into(), self.greeting.clone().into()),
            ("greeted".into(), greeted.into()),
            ("records".into(), tape.records.len().into()),
            ("filed".into(), tape.filed.into()),
            ("overlaps".into(), self.overlaps.load(Ordering::Relaxed).into()),
        ])
    }
}

/// SEND: a record that comes piece by piece.
#[derive(Debug)]
pub(super) struct ToySending {
    record: Vec<u8>,
    /// Bytes that are still to come.
    left: u32,
}

impl DeviceTask<Toy> for ToySending {
    fn advance(
        &mut self,
        answer: Option<Resume>,
        job: &Job<'_, Toy>,
        cx: &mut Context<'_>,
    ) -> Result<Step, Fault> {
        match answer {
            None if job.unit.busy.swap(true, Ordering::Relaxed) => {
                job.unit.overlaps.fetch_add(1, Ordering::Relaxed);
            }
            Some(Resume::Fetched(data)) => {
                self.left -= u32::try_from(data.len()).expect("no more than asked for");
                self.record.extend(data.to_vec());
            }
            _ => {}
        }
        if self.left > 0 {
            return Ok(Step::Fetch { len: self.left.min(PIECE) });
        }
        let taken = self.record.len() as u64;
        let mut tape = job.unit.tape();
        tape.records.push(std::mem::take(&mut self.record));
        tape.due = Some(cx.now + FILING);
        Ok(Step::Finish(Outcome::took(taken)))
    }

    fn ended(&self, unit: &Toy, _: &Outcome) {
        unit.busy.store(false, Ordering::Relaxed);
    }

    fn aborted(&self, unit: &Toy) {
        unit.busy.store(false, Ordering::Relaxed);
    }
}

/// SEND (SPC-2 8.3): appends a record.
fn send(job: &Job<'_, Toy>, _: &mut Context<'_>) -> Result<TaskWork<Toy>, Fault> {
    let left = be24(&job.cdb, 2).min(job.command.expected.data_out);
    if left == 0 {
        return Ok(TaskWork::Done(Outcome::good()));
    }
    Ok(TaskWork::Own(ToySending { record: Vec::new(), left }))
}

/// As REWIND of a tape: the next RECEIVE has the first record.
fn rewind(job: &Job<'_, Toy>, _: &mut Context<'_>) -> Result<TaskWork<Toy>, Fault> {
    job.unit.tape().at = 0;
    Ok(TaskWork::Done(Outcome::good()))
}

/// RECEIVE (SPC-2 8.2): the next record, and behind the last one the greeting.
fn receive(job: &Job<'_, Toy>, cx: &mut Context<'_>) -> Result<TaskWork<Toy>, Fault> {
    let mut data = DataIn::new();
    let mut tape = job.unit.tape();
    let at = tape.at;
    if let Some(record) = tape.records.get(at) {
        data.bytes(record);
        tape.at += 1;
    } else {
        job.unit.greeted.fetch_add(1, Ordering::Relaxed);
        data.bytes(job.unit.greeting.as_bytes());
    }
    answered((data, be24(&job.cdb, 2)), cx)
}

const fn row(definition: Definition, run: Handler<Toy>) -> Row<Handler<Toy>> {
    Row { definition, run }
}

const ROWS: [Row<Handler<Toy>>; 11] = [
    row(command::TEST_UNIT_READY, handlers::test_unit_ready),
    row(Definition::new("REWIND", &[0x01, 0, 0, 0, 0, 0]), rewind),
    row(command::REQUEST_SENSE, handlers::request_sense),
    row(Definition::new("RECEIVE", &[0x08, 0, 0xff, 0xff, 0xff, 0]), receive),
    row(Definition::new("SEND", &[0x0a, 0, 0xff, 0xff, 0xff, 0]), send),
    row(command::INQUIRY, handlers::inquiry),
    row(command::MODE_SELECT_6, handlers::mode_select),
    row(command::MODE_SENSE_6, handlers::mode_sense),
    row(reservation::READ_KEYS, handlers::reservation),
    row(command::REPORT_LUNS, handlers::report_luns),
    row(command::REPORT_SUPPORTED_OPERATION_CODES, handlers::report_operation_codes),
];

static TABLE: Table<Handler<Toy>> = Table::new(&ROWS);

impl CommandSet for Toy {
    type Task = ToySending;

    fn wake(unit: &Self, _: &mut Context<'_>) -> Option<TaskWork<Self>> {
        let mut tape = unit.tape();
        (tape.due, tape.filed) = (None, tape.records.len());
        None
    }

    fn table() -> &'static Table<Handler<Self>> {
        &TABLE
    }
}

pub(crate) fn commands() -> impl Iterator<Item = &'static Definition> {
    TABLE.rows().iter().map(|row| &row.definition)
}
