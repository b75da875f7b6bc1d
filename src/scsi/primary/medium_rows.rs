// SPDX-License-Identifier: GPL-2.0-or-later
//! The commands of SPC that every logical unit with a medium has, and the same handlers for them.

use super::table::{Definition, Row};
use super::work::{CommandSet, Handler};
use super::{command, handlers};
use crate::scsi::alua;
use crate::scsi::reservations::commands as reservation;

const fn row<D: CommandSet>(definition: Definition, run: Handler<D>) -> Row<Handler<D>> {
    Row { definition, run }
}

/// How many they are.
pub const MEDIUM_ROWS: usize = 37;

/// Them, in the order of a [`Table`](super::Table): to be [merged](super::merged) with those of a device type.
pub const fn medium_rows<D: CommandSet>() -> [Row<Handler<D>>; MEDIUM_ROWS] {
    [
        row(command::REQUEST_SENSE, handlers::request_sense),
        row(command::INQUIRY, handlers::inquiry),
        row(command::MODE_SELECT_6, handlers::mode_select),
        row(reservation::RESERVE_6, handlers::reservation),
        row(reservation::RELEASE_6, handlers::reservation),
        row(command::MODE_SENSE_6, handlers::mode_sense),
        row(command::RECEIVE_DIAGNOSTIC_RESULTS, handlers::receive_diagnostic),
        row(command::PREVENT_ALLOW_MEDIUM_REMOVAL, handlers::prevent_allow),
        row(command::WRITE_BUFFER, handlers::write_buffer),
        row(command::READ_BUFFER_10, handlers::read_buffer),
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
        row(command::REPORT_LUNS, handlers::report_luns),
        row(command::REPORT_IDENTIFYING_INFORMATION, handlers::report_information),
        row(alua::REPORT_TARGET_PORT_GROUPS, handlers::port_groups),
        row(command::REPORT_SUPPORTED_OPERATION_CODES, handlers::report_operation_codes),
        row(command::REPORT_SUPPORTED_TASK_MANAGEMENT_FUNCTIONS, handlers::report_task_management),
        row(command::REPORT_TIMESTAMP, handlers::report_timestamp),
        row(command::SET_IDENTIFYING_INFORMATION, handlers::set_information),
        row(alua::SET_TARGET_PORT_GROUPS, handlers::port_groups),
        row(command::SET_TIMESTAMP, handlers::set_timestamp),
    ]
}
