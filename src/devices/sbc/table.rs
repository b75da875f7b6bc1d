// SPDX-License-Identifier: GPL-2.0-or-later
//! The commands of a disk.

use crate::scsi::primary::{
    Definition, Handler, MEDIUM_ROWS, Row, Table, TaskWork, command, handlers, medium_rows, merged,
};
use crate::scsi::reservations::Access;

use super::atomic::{CompareAndWrite, OrWrite, WriteAtomic};
use super::copy::{self, Copy};
use super::disk::Disk;
use super::erase::Erase;
use super::limits::{ATOMIC, FIXED, REMOVABLE, THIN};
use super::provisioning::{LbaStatus, Unmap, WriteSame};
use super::removable::StartStop;
use super::simple;
use super::task::DiskTask;
use super::transfer::{Read, Verify, Write};

const fn row(definition: Definition, run: Handler<Disk>) -> Row<Handler<Disk>> {
    Row { definition, run }
}

const fn cdb(name: &'static str, usage: &'static [u8]) -> Definition {
    Definition::new(name, usage)
}

/// A command that reads the medium.
const fn on_medium(name: &'static str, usage: &'static [u8]) -> Definition {
    Definition::new(name, usage).medium()
}

/// A service action of RECEIVE COPY RESULTS.
const fn received(name: &'static str, usage: &'static [u8]) -> Definition {
    Definition::action(name, usage).with(Access::Harmless).always()
}

/// Operations on the whole medium take as long as that is large.
const HOURS: u32 = 12 * 3600;

/// Every bit of a field counts.
const A: u8 = 0xff;
/// GROUP NUMBER.
const G: u8 = 0x1f;
/// DPO and FUA.
const DF: u8 = 0x18;
/// SYNC_NV, which is obsolete, and IMMED.
const SI: u8 = 0x06;
/// DPO and BYTCHK.
const DB: u8 = 0x16;

/// Begins a command that is a task of its own.
macro_rules! task {
    ($variant:ident, $begin:expr) => {
        |job, cx| Ok(TaskWork::Own(DiskTask::$variant($begin(job, cx)?)))
    };
}

/// The same for tasks that are rare and large.
macro_rules! boxed {
    ($variant:ident, $begin:expr) => {
        |job, cx| Ok(TaskWork::Own(DiskTask::$variant(Box::new($begin(job, cx)?))))
    };
}

/// The usage data of a command of 32 bytes: its service action, and the flags that count.
macro_rules! form_32 {
    ($action:expr, $flags:expr) => {
        [
            0x7f, 0, 0, 0, 0, 0, G, 0x18, 0, $action, $flags, 0, A, A, A, A, A, A, A, A, 0, 0, 0, 0, 0, 0, 0,
            0, A, A, A, A,
        ]
    };
}

/// Protection information is not supported: RDPROTECT and its like are bits that do not count, which refuses them.
const OWN: [Row<Handler<Disk>>; 47] = [
    row(command::TEST_UNIT_READY, handlers::test_unit_ready),
    row(
        cdb("FORMAT UNIT", &[0x04, 0x3f, 0, 0, 0, 0]).renewing().within(HOURS),
        boxed!(Erase, Erase::begin_format),
    ),
    row(on_medium("READ(6)", &[0x08, G, A, A, A, 0]), task!(Read, Read::begin)),
    row(cdb("WRITE(6)", &[0x0a, G, A, A, A, 0]).writing(), task!(Write, Write::begin)),
    row(
        cdb("START STOP UNIT", &[0x1b, 1, 0, 0x0f, 0xf5, 0])
            .exclusive_but(simple::only_starts)
            .only_with(FIXED)
            .within(60),
        task!(StartStop, StartStop::begin),
    ),
    row(
        cdb("START STOP UNIT", &[0x1b, 1, 0, 0x0f, 0xf7, 0])
            .exclusive_but(simple::only_starts)
            .only_with(REMOVABLE)
            .within(60),
        task!(StartStop, StartStop::begin),
    ),
    row(command::SEND_DIAGNOSTIC.within(HOURS), handlers::send_diagnostic),
    row(
        on_medium("READ CAPACITY(10)", &[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0]).with(Access::Always),
        simple::read_capacity_10,
    ),
    row(on_medium("READ(10)", &[0x28, DF, A, A, A, A, G, A, A, 0]), task!(Read, Read::begin)),
    row(cdb("WRITE(10)", &[0x2a, DF, A, A, A, A, G, A, A, 0]).writing(), task!(Write, Write::begin)),
    row(
        cdb("WRITE AND VERIFY(10)", &[0x2e, DB, A, A, A, A, G, A, A, 0]).writing(),
        task!(Write, Write::begin_verified),
    ),
    row(on_medium("VERIFY(10)", &[0x2f, DB, A, A, A, A, G, A, A, 0]), task!(Verify, Verify::begin)),
    row(on_medium("PRE-FETCH(10)", &[0x34, 2, A, A, A, A, G, A, A, 0]), simple::pre_fetch),
    row(
        on_medium("SYNCHRONIZE CACHE(10)", &[0x35, SI, A, A, A, A, G, A, A, 0])
            .with(Access::Write)
            .within(60),
        simple::synchronize_cache,
    ),
    row(on_medium("READ DEFECT DATA(10)", &[0x37, 0, 0x1f, 0, 0, 0, 0, A, A, 0]), simple::read_defect_data),
    row(
        cdb("WRITE SAME(10)", &[0x41, 0x18, A, A, A, A, G, A, A, 0]).writing().within(60),
        task!(WriteSame, WriteSame::begin),
    ),
    row(
        cdb("UNMAP", &[0x42, 1, 0, 0, 0, 0, G, A, A, 0]).writing().only_with(THIN).within(60),
        task!(Unmap, Unmap::begin),
    ),
    row(
        Definition::action("SANITIZE: OVERWRITE", &[0x48, 0xa1, 0, 0, 0, 0, 0, A, A, 0])
            .renewing()
            .within(HOURS),
        boxed!(Erase, Erase::begin_overwrite),
    ),
    row(
        Definition::action("SANITIZE: BLOCK ERASE", &[0x48, 0xa2, 0, 0, 0, 0, 0, A, A, 0])
            .renewing()
            .within(HOURS),
        boxed!(Erase, Erase::begin_block_erase),
    ),
    row(
        Definition::action("SANITIZE: EXIT FAILURE MODE", &[0x48, 0x1f, 0, 0, 0, 0, 0, 0, 0, 0])
            .with(Access::Write),
        simple::exit_failure_mode,
    ),
    row(Definition::variable("READ(32)", &form_32!(0x09, DF)).medium(), task!(Read, Read::begin)),
    row(Definition::variable("VERIFY(32)", &form_32!(0x0a, DB)).medium(), task!(Verify, Verify::begin)),
    row(Definition::variable("WRITE(32)", &form_32!(0x0b, DF)).writing(), task!(Write, Write::begin)),
    row(
        Definition::variable("WRITE AND VERIFY(32)", &form_32!(0x0c, DB)).writing(),
        task!(Write, Write::begin_verified),
    ),
    row(
        Definition::variable("WRITE SAME(32)", &form_32!(0x0d, 0x19)).writing().within(60),
        task!(WriteSame, WriteSame::begin),
    ),
    row(Definition::variable("ORWRITE(32)", &form_32!(0x0e, DF)).writing(), task!(OrWrite, OrWrite::begin)),
    row(
        Definition::action("EXTENDED COPY(LID1)", &[0x83, 0, 0, 0, 0, 0, 0, 0, 0, 0, A, A, A, A, 0, 0])
            .with(Access::Write)
            .within(600),
        boxed!(Copy, Copy::begin),
    ),
    row(
        received(
            "RECEIVE COPY RESULTS: COPY STATUS(LID1)",
            &[0x84, 0x00, A, 0, 0, 0, 0, 0, 0, 0, A, A, A, A, 0, 0],
        ),
        copy::status,
    ),
    row(
        received(
            "RECEIVE COPY RESULTS: OPERATING PARAMETERS",
            &[0x84, 0x03, 0, 0, 0, 0, 0, 0, 0, 0, A, A, A, A, 0, 0],
        ),
        copy::parameters,
    ),
    row(
        received(
            "RECEIVE COPY RESULTS: FAILED SEGMENT DETAILS(LID1)",
            &[0x84, 0x04, A, 0, 0, 0, 0, 0, 0, 0, A, A, A, A, 0, 0],
        ),
        copy::failed_segment,
    ),
    row(
        on_medium("READ(16)", &[0x88, DF, A, A, A, A, A, A, A, A, A, A, A, A, G, 0]),
        task!(Read, Read::begin),
    ),
    row(
        cdb("COMPARE AND WRITE", &[0x89, DF, A, A, A, A, A, A, A, A, 0, 0, 0, A, G, 0]).writing(),
        task!(CompareAndWrite, CompareAndWrite::begin),
    ),
    row(
        cdb("WRITE(16)", &[0x8a, DF, A, A, A, A, A, A, A, A, A, A, A, A, G, 0]).writing(),
        task!(Write, Write::begin),
    ),
    row(
        cdb("ORWRITE(16)", &[0x8b, DF, A, A, A, A, A, A, A, A, A, A, A, A, G, 0]).writing(),
        task!(OrWrite, OrWrite::begin),
    ),
    row(
        cdb("WRITE AND VERIFY(16)", &[0x8e, DB, A, A, A, A, A, A, A, A, A, A, A, A, G, 0]).writing(),
        task!(Write, Write::begin_verified),
    ),
    row(
        on_medium("VERIFY(16)", &[0x8f, DB, A, A, A, A, A, A, A, A, A, A, A, A, G, 0]),
        task!(Verify, Verify::begin),
    ),
    row(on_medium("PRE-FETCH(16)", &[0x90, 2, A, A, A, A, A, A, A, A, A, A, A, A, G, 0]), simple::pre_fetch),
    row(
        on_medium("SYNCHRONIZE CACHE(16)", &[0x91, SI, A, A, A, A, A, A, A, A, A, A, A, A, G, 0])
            .with(Access::Write)
            .within(60),
        simple::synchronize_cache,
    ),
    row(
        cdb("WRITE SAME(16)", &[0x93, 0x19, A, A, A, A, A, A, A, A, A, A, A, A, G, 0]).writing().within(60),
        task!(WriteSame, WriteSame::begin),
    ),
    row(
        cdb("WRITE ATOMIC(16)", &[0x9c, DF, A, A, A, A, A, A, A, A, A, A, A, A, G, 0])
            .writing()
            .only_with(ATOMIC),
        task!(WriteAtomic, WriteAtomic::begin),
    ),
    row(
        Definition::action("READ CAPACITY(16)", &[0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, A, A, A, A, 0, 0])
            .with(Access::Always)
            .medium(),
        simple::read_capacity_16,
    ),
    row(
        Definition::action("GET LBA STATUS", &[0x9e, 0x12, A, A, A, A, A, A, A, A, A, A, A, A, 0, 0])
            .medium(),
        task!(LbaStatus, LbaStatus::begin),
    ),
    row(on_medium("READ(12)", &[0xa8, DF, A, A, A, A, A, A, A, A, G, 0]), task!(Read, Read::begin)),
    row(cdb("WRITE(12)", &[0xaa, DF, A, A, A, A, A, A, A, A, G, 0]).writing(), task!(Write, Write::begin)),
    row(
        cdb("WRITE AND VERIFY(12)", &[0xae, DB, A, A, A, A, A, A, A, A, G, 0]).writing(),
        task!(Write, Write::begin_verified),
    ),
    row(on_medium("VERIFY(12)", &[0xaf, DB, A, A, A, A, A, A, A, A, G, 0]), task!(Verify, Verify::begin)),
    row(
        on_medium("READ DEFECT DATA(12)", &[0xb7, 0x1f, A, A, A, A, A, A, A, A, 0, 0]),
        simple::read_defect_data,
    ),
];

const ROWS: [Row<Handler<Disk>>; OWN.len() + MEDIUM_ROWS] = merged(&OWN, &medium_rows());

pub(super) static TABLE: Table<Handler<Disk>> = Table::new(&ROWS);

/// The commands of disks, also those that not every disk has.
pub fn commands() -> impl Iterator<Item = &'static Definition> {
    TABLE.rows().iter().map(|row| &row.definition)
}
