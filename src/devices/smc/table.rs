// SPDX-License-Identifier: GPL-2.0-or-later
//! The commands of a media changer.

use super::changer::MediaChanger;
use super::{motion, report};
use crate::scsi::Outcome;
use crate::scsi::primary::{
    Definition, Handler, MEDIUM_ROWS, Row, Table, TaskWork, command, handlers, medium_rows, merged,
};
use crate::scsi::reservations::Access;

const fn row(definition: Definition, run: Handler<MediaChanger>) -> Row<Handler<MediaChanger>> {
    Row { definition, run }
}

/// Every bit of a field counts.
const A: u8 = 0xff;

/// What initiators give real libraries: they have to reach everywhere.
const MINUTES: u32 = 600;

/// A command that moves something, for which the hand has to be free.
const fn moving(name: &'static str, usage: &'static [u8]) -> Definition {
    Definition::new(name, usage).medium().with(Access::Write).within(MINUTES)
}

/// One that only looks.
const fn looking(name: &'static str, usage: &'static [u8]) -> Definition {
    Definition::new(name, usage).with(Access::Always)
}

const OWN: [Row<Handler<MediaChanger>>; 12] = [
    row(command::TEST_UNIT_READY, handlers::test_unit_ready),
    row(moving("INITIALIZE ELEMENT STATUS", &[0x07, 0, 0, 0, 0, 0]), |_, _| {
        Ok(TaskWork::Done(Outcome::good()))
    }),
    row(moving("OPEN/CLOSE IMPORT/EXPORT ELEMENT", &[0x1b, 0, A, A, 0x1f, 0]), |job, _| {
        motion::open_close(job)
    }),
    row(command::SEND_DIAGNOSTIC, handlers::send_diagnostic),
    row(moving("POSITION TO ELEMENT", &[0x2b, 0, A, A, A, A, 0, 0, 0, 0]), |job, _| {
        motion::position_to_element(job)
    }),
    row(moving("INITIALIZE ELEMENT STATUS WITH RANGE", &[0x37, 0x03, A, A, 0, 0, A, A, 0, 0]), |job, _| {
        motion::initialize_range(job)
    }),
    row(moving("MOVE MEDIUM", &[0xa5, 0, A, A, A, A, A, A, 0, 0, 0, 0]), |job, _| motion::move_medium(job)),
    row(moving("EXCHANGE MEDIUM", &[0xa6, 0, A, A, A, A, A, A, A, A, 0, 0]), |job, _| {
        motion::exchange_medium(job)
    }),
    row(
        looking("REQUEST VOLUME ELEMENT ADDRESS", &[0xb5, 0x1f, A, A, A, A, 0, A, A, A, 0, 0]),
        report::request_address,
    ),
    row(
        Definition::new("SEND VOLUME TAG", &[0xb6, 0x0f, A, A, 0, 0x1f, 0, 0, A, A, 0, 0])
            .with(Access::Write),
        report::send_tag,
    ),
    row(looking("READ ELEMENT STATUS", &[0xb8, 0x1f, A, A, A, A, 0x03, A, A, A, 0, 0]), report::read_status),
    row(moving("INITIALIZE ELEMENT STATUS WITH RANGE", &[0xe7, 0x03, A, A, 0, 0, A, A, 0, 0]), |job, _| {
        motion::initialize_range(job)
    }),
];

const ROWS: [Row<Handler<MediaChanger>>; OWN.len() + MEDIUM_ROWS] = merged(&OWN, &medium_rows());

/// All commands.
pub(super) static TABLE: Table<Handler<MediaChanger>> = Table::new(&ROWS);

/// What there is to know of them.
pub fn commands() -> impl Iterator<Item = &'static Definition> {
    TABLE.rows().iter().map(|row| &row.definition)
}
