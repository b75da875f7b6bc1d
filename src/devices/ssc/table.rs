// SPDX-License-Identifier: GPL-2.0-or-later
//! The commands of a tape drive.

use super::density;
use super::drive::Tape;
use super::medium::{self, FormatMedium, LoadUnload, TapeErase};
use super::motion::Motion;
use super::position::{self, Position};
use super::read::TapeRead;
use super::task::{TapeCommand, begun};
use super::write::{Filemarks, TapeWrite};
use crate::scsi::primary::{Definition, Handler, Row, Table, Work, command, handlers};
use crate::scsi::reservations::{Access, commands as reservation};
use crate::scsi::{Outcome, alua};

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

const ROWS: [Row<Handler<Tape>>; 53] = [
    row(command::TEST_UNIT_READY, |_, _| begun(TapeCommand::Ready)),
    row(on_medium("REWIND", &[0x01, 0x01, 0, 0, 0, 0]), task!(Motion, Motion::rewind)),
    row(command::REQUEST_SENSE, handlers::request_sense),
    row(writing("FORMAT MEDIUM", &[0x04, 0x03, 0x0f, A, A, 0]), task!(Format, FormatMedium::begin)),
    row(
        Definition::new("READ BLOCK LIMITS", &[0x05, 0, 0, 0, 0, 0]).with(Access::Always),
        position::block_limits,
    ),
    row(on_medium("READ(6)", &[0x08, 0x03, A, A, A, 0]), task!(Read, TapeRead::begin)),
    row(writing("WRITE(6)", &[0x0a, 0x01, A, A, A, 0]), task!(Write, TapeWrite::begin)),
    row(writing("WRITE FILEMARKS(6)", &[0x10, 0x03, A, A, A, 0]), task!(Filemarks, Filemarks::begin)),
    row(on_medium("SPACE(6)", &[0x11, 0x0f, A, A, A, 0]), task!(Motion, Motion::space_6)),
    row(command::INQUIRY, handlers::inquiry),
    row(command::MODE_SELECT_6, handlers::mode_select),
    row(reservation::RESERVE_6, handlers::reservation),
    row(reservation::RELEASE_6, handlers::reservation),
    row(writing("ERASE(6)", &[0x19, 0x03, 0, 0, 0, 0]), task!(Erase, TapeErase::begin)),
    row(command::MODE_SENSE_6, handlers::mode_sense),
    row(
        Definition::new("LOAD UNLOAD", &[0x1b, 0x01, 0, 0, 0x0f, 0]).with(Access::Write).within(MINUTES),
        |job, _| {
            let load = LoadUnload::begin(job)?;
            if LoadUnload::is_load(job) {
                let attention = medium::put_in(job);
                if attention.is_some() {
                    return Ok(Work::Done(Outcome::good().telling_others(attention)));
                }
            } else if crate::scsi::primary::DeviceType::unready(job.unit).is_some() {
                return Ok(Work::Done(Outcome::good()));
            }
            begun(TapeCommand::Load(load))
        },
    ),
    row(command::RECEIVE_DIAGNOSTIC_RESULTS, handlers::receive_diagnostic),
    row(command::SEND_DIAGNOSTIC, handlers::send_diagnostic),
    row(
        Definition::new("PREVENT ALLOW MEDIUM REMOVAL", &[0x1e, 0, 0, 0, 1, 0])
            .exclusive_but(|cdb| cdb[4] & 1 == 0),
        handlers::prevent_allow,
    ),
    row(on_medium("LOCATE(10)", &[0x2b, 0x07, 0, A, A, A, A, 0, A, 0]), task!(Motion, Motion::locate_10)),
    row(
        on_medium("READ POSITION", &[0x34, 0x1f, 0, 0, 0, 0, 0, A, A, 0]).with(Access::Always),
        task!(Position, Position::begin),
    ),
    row(command::WRITE_BUFFER, handlers::write_buffer),
    row(command::READ_BUFFER_10, handlers::read_buffer),
    row(
        Definition::new("REPORT DENSITY SUPPORT", &[0x44, 0x03, 0, 0, 0, 0, 0, A, A, 0]).with(Access::Always),
        density::report,
    ),
    row(command::LOG_SELECT, handlers::log_select),
    row(command::LOG_SENSE, handlers::log_sense),
    row(command::MODE_SELECT_10, handlers::mode_select),
    row(reservation::RESERVE_10, handlers::reservation),
    row(reservation::RELEASE_10, handlers::reservation),
    row(command::MODE_SENSE_10, handlers::mode_sense),
    row(reservation::READ_KEYS, handlers::reservation),
    row(reservation::READ_RESERVATION, handlers::reservation),
    row(reservation::REPORT_CAPABILITIES, handlers::reservation),
    row(reservation::READ_FULL_STATUS, handlers::reservation),
    row(reservation::REGISTER, handlers::reservation),
    row(reservation::RESERVE, handlers::reservation),
    row(reservation::RELEASE, handlers::reservation),
    row(reservation::CLEAR, handlers::reservation),
    row(reservation::PREEMPT, handlers::reservation),
    row(reservation::PREEMPT_AND_ABORT, handlers::reservation),
    row(reservation::REGISTER_AND_IGNORE, handlers::reservation),
    row(reservation::REGISTER_AND_MOVE, handlers::reservation),
    row(
        on_medium("SPACE(16)", &[0x91, 0x0f, 0, 0, A, A, A, A, A, A, A, A, 0, 0, 0, 0]),
        task!(Motion, Motion::space_16),
    ),
    row(
        on_medium("LOCATE(16)", &[0x92, 0x3b, 0, A, A, A, A, A, A, A, A, A, 0, 0, 0, 0]),
        task!(Motion, Motion::locate_16),
    ),
    row(command::REPORT_LUNS, handlers::report_luns),
    row(command::REPORT_IDENTIFYING_INFORMATION, handlers::report_information),
    row(alua::REPORT_TARGET_PORT_GROUPS, handlers::port_groups),
    row(command::REPORT_SUPPORTED_OPERATION_CODES, handlers::report_operation_codes),
    row(command::REPORT_SUPPORTED_TASK_MANAGEMENT_FUNCTIONS, handlers::report_task_management),
    row(command::REPORT_TIMESTAMP, handlers::report_timestamp),
    row(command::SET_IDENTIFYING_INFORMATION, handlers::set_information),
    row(alua::SET_TARGET_PORT_GROUPS, handlers::port_groups),
    row(command::SET_TIMESTAMP, handlers::set_timestamp),
];

/// All commands.
pub(super) static TABLE: Table<Handler<Tape>> = Table::new(&ROWS);

/// What there is to know of them.
pub fn commands() -> impl Iterator<Item = &'static Definition> {
    TABLE.rows().iter().map(|row| &row.definition)
}
