// SPDX-License-Identifier: GPL-2.0-or-later
//! The commands of a tape drive.

use super::density;
use super::drive::Tape;
use super::medium::{self, AllowOverwrite, FormatMedium, LoadUnload, TapeErase};
use super::memory::WriteAttribute;
use super::motion::Motion;
use super::position::{self, Position};
use super::read::TapeRead;
use super::security;
use super::task::{TapeCommand, begun, begun_at};
use super::write::{Filemarks, TapeWrite};
use crate::scsi::Outcome;
use crate::scsi::primary::{
    Definition, DeviceType, Handler, MEDIUM_ROWS, Row, Table, TaskWork, command, handlers, medium_rows,
    merged,
};
use crate::scsi::reservations::Access;

const fn row(definition: Definition, run: Handler<Tape>) -> Row<Handler<Tape>> {
    Row { definition, run }
}

/// A command that needs the cartridge, and within what time it ends at the latest.
const fn on_medium(name: &'static str, usage: &'static [u8]) -> Definition {
    Definition::new(name, usage).medium().within(MINUTES)
}

/// ... and changes it.
const fn writing(name: &'static str, usage: &'static [u8]) -> Definition {
    Definition::new(name, usage).writing().within(MINUTES)
}

/// What initiators give real drives: they have to wind.
const MINUTES: u32 = 1500;

/// Every bit of a field counts.
const A: u8 = 0xff;

/// Begins a command that is a task of its own.
macro_rules! task {
    ($variant:ident, $begin:expr) => {
        |job, _| begun(TapeCommand::$variant($begin(job)?))
    };
}

/// The same with the partition and the object where it begins.
macro_rules! task_at {
    ($variant:ident, $begin:expr) => {
        |job, _| begun_at(job, TapeCommand::$variant($begin(job)?))
    };
}

const OWN: [Row<Handler<Tape>>; 31] = [
    row(command::TEST_UNIT_READY, |_, _| begun(TapeCommand::Ready)),
    row(on_medium("REWIND", &[0x01, 0x01, 0, 0, 0, 0]), task!(Motion, Motion::rewind)),
    row(writing("FORMAT MEDIUM", &[0x04, 0x03, 0x0f, A, A, 0]), task!(Format, FormatMedium::begin)),
    row(
        Definition::new("READ BLOCK LIMITS", &[0x05, 0x01, 0, 0, 0, 0]).with(Access::Always),
        position::block_limits,
    ),
    row(on_medium("READ(6)", &[0x08, 0x03, A, A, A, 0]), task!(Read, TapeRead::begin)),
    row(writing("WRITE(6)", &[0x0a, 0x01, A, A, A, 0]), task!(Write, TapeWrite::begin)),
    row(writing("SET CAPACITY", &[0x0b, 0x01, 0, A, A, 0]), task!(Format, FormatMedium::set_capacity)),
    row(on_medium("READ REVERSE(6)", &[0x0f, 0x03, A, A, A, 0]), task!(Read, TapeRead::begin_reverse)),
    row(writing("WRITE FILEMARKS(6)", &[0x10, 0x03, A, A, A, 0]), task!(Filemarks, Filemarks::begin)),
    row(on_medium("SPACE(6)", &[0x11, 0x0f, A, A, A, 0]), task!(Motion, Motion::space_6)),
    row(on_medium("VERIFY(6)", &[0x13, 0x2d, A, A, A, 0]), task!(Read, TapeRead::begin_verify)),
    row(writing("ERASE(6)", &[0x19, 0x03, 0, 0, 0, 0]), task!(Erase, TapeErase::begin)),
    row(
        Definition::new("LOAD UNLOAD", &[0x1b, 0x01, 0, 0, 0x0f, 0]).with(Access::Write).within(MINUTES),
        |job, _| {
            let load = LoadUnload::begin(job)?;
            if LoadUnload::is_load(job) {
                let attention = medium::put_in(job);
                if attention.is_some() {
                    return Ok(TaskWork::Done(Outcome::good().telling_others(attention)));
                }
            } else if job.primary().absence().or_else(|| job.unit.unready()).is_some() {
                return Ok(TaskWork::Done(Outcome::good()));
            }
            begun(TapeCommand::Load(load))
        },
    ),
    row(command::SEND_DIAGNOSTIC, handlers::send_diagnostic),
    row(on_medium("LOCATE(10)", &[0x2b, 0x07, 0, A, A, A, A, 0, A, 0]), task!(Motion, Motion::locate_10)),
    row(
        on_medium("READ POSITION", &[0x34, 0x1f, 0, 0, 0, 0, 0, A, A, 0]).with(Access::Always),
        task!(Position, Position::begin),
    ),
    row(
        Definition::new("REPORT DENSITY SUPPORT", &[0x44, 0x03, 0, 0, 0, 0, 0, A, A, 0]).with(Access::Always),
        density::report,
    ),
    row(
        writing("WRITE FILEMARKS(16)", &[0x80, 0x03, 0, A, A, A, A, A, A, A, A, A, A, A, A, 0]),
        task_at!(Filemarks, Filemarks::begin),
    ),
    row(
        on_medium("READ REVERSE(16)", &[0x81, 0x03, 0, A, A, A, A, A, A, A, A, A, A, A, A, 0]),
        task_at!(Read, TapeRead::begin_reverse),
    ),
    row(
        on_medium("ALLOW OVERWRITE", &[0x82, 0, 0x0f, A, A, A, A, A, A, A, A, A, 0, 0, 0, 0])
            .with(Access::Write),
        task!(Allow, AllowOverwrite::begin),
    ),
    row(
        on_medium("READ(16)", &[0x88, 0x03, 0, A, A, A, A, A, A, A, A, A, A, A, A, 0]),
        task_at!(Read, TapeRead::begin),
    ),
    row(
        writing("WRITE(16)", &[0x8a, 0x01, 0, A, A, A, A, A, A, A, A, A, A, A, A, 0]),
        task_at!(Write, TapeWrite::begin),
    ),
    row(
        Definition::new("READ ATTRIBUTE", &[0x8c, 0x1f, 0, 0, 0, 0, 0, A, A, A, A, A, A, A, 0x01, 0])
            .medium(),
        |_, _| begun(TapeCommand::ReadAttribute),
    ),
    row(
        Definition::new("WRITE ATTRIBUTE", &[0x8d, 0x01, 0, 0, 0, 0, 0, A, 0, 0, A, A, A, A, 0, 0]).writing(),
        task!(WriteAttribute, WriteAttribute::begin),
    ),
    row(
        on_medium("VERIFY(16)", &[0x8f, 0x2d, 0, A, A, A, A, A, A, A, A, A, A, A, A, 0]),
        task_at!(Read, TapeRead::begin_verify),
    ),
    row(
        on_medium("SPACE(16)", &[0x91, 0x0f, 0, 0, A, A, A, A, A, A, A, A, 0, 0, 0, 0]),
        task!(Motion, Motion::space_16),
    ),
    row(
        on_medium("LOCATE(16)", &[0x92, 0x3b, 0, A, A, A, A, A, A, A, A, A, 0, 0, 0, 0]),
        task!(Motion, Motion::locate_16),
    ),
    row(
        writing("ERASE(16)", &[0x93, 0x03, 0, A, A, A, A, A, A, A, A, A, 0, 0, 0, 0]),
        task_at!(Erase, TapeErase::begin),
    ),
    row(Definition::new("SECURITY PROTOCOL IN", &[0xa2, A, A, A, 0, 0, A, A, A, A, 0, 0]), |job, cx| {
        match security::protocol_in(job, cx)? {
            Some(work) => Ok(work),
            None => begun(TapeCommand::NextBlock),
        }
    }),
    row(
        Definition::action("READ MEDIA SERIAL NUMBER", &[0xab, 0x01, 0, 0, 0, 0, A, A, A, A, 0, 0]).medium(),
        |_, _| begun(TapeCommand::Serial),
    ),
    row(
        Definition::new("SECURITY PROTOCOL OUT", &[0xb5, A, A, A, 0, 0, A, A, A, A, 0, 0])
            .with(Access::Write),
        security::protocol_out,
    ),
];

const ROWS: [Row<Handler<Tape>>; OWN.len() + MEDIUM_ROWS] = merged(&OWN, &medium_rows());

/// All commands.
pub(super) static TABLE: Table<Handler<Tape>> = Table::new(&ROWS);

/// What there is to know of them.
pub fn commands() -> impl Iterator<Item = &'static Definition> {
    TABLE.rows().iter().map(|row| &row.definition)
}
