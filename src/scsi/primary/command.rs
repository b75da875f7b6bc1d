// SPDX-License-Identifier: GPL-2.0-or-later
//! Definitions of the commands of SPC, for the tables of all device types.

use super::table::Definition;
use crate::scsi::Cdb;
use crate::scsi::reservations::Access;

/// TEST UNIT READY.
pub const TEST_UNIT_READY: Definition =
    Definition::new("TEST UNIT READY", &[0x00, 0, 0, 0, 0, 0]).with(Access::Harmless).medium();
/// REQUEST SENSE.
pub const REQUEST_SENSE: Definition = Definition::new("REQUEST SENSE", &[0x03, 0x01, 0, 0, 0xff, 0])
    .with(Access::Always)
    .in_any_state()
    .passing_attentions()
    .passing_the_line()
    .always();
/// INQUIRY.
pub const INQUIRY: Definition = Definition::new("INQUIRY", &[0x12, 0x01, 0xff, 0xff, 0xff, 0])
    .with(Access::Always)
    .in_any_state()
    .passing_attentions()
    .passing_the_line()
    .always();
/// MODE SELECT(6).
pub const MODE_SELECT_6: Definition =
    Definition::new("MODE SELECT(6)", &[0x15, 0x11, 0, 0, 0xff, 0]).with(Access::Write).in_standby();
/// MODE SENSE(6).
pub const MODE_SENSE_6: Definition =
    Definition::new("MODE SENSE(6)", &[0x1a, 0x08, 0xff, 0xff, 0xff, 0]).in_standby();
/// MODE SELECT(10).
pub const MODE_SELECT_10: Definition =
    Definition::new("MODE SELECT(10)", &[0x55, 0x11, 0, 0, 0, 0, 0, 0xff, 0xff, 0])
        .with(Access::Write)
        .in_standby();
/// MODE SENSE(10).
pub const MODE_SENSE_10: Definition =
    Definition::new("MODE SENSE(10)", &[0x5a, 0x18, 0xff, 0xff, 0, 0, 0, 0xff, 0xff, 0]).in_standby();
/// REPORT LUNS.
pub const REPORT_LUNS: Definition =
    Definition::new("REPORT LUNS", &[0xa0, 0, 0xff, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0])
        .with(Access::Always)
        .in_any_state()
        .passing_attentions()
        .passing_the_line()
        .always();
/// REPORT SUPPORTED OPERATION CODES.
pub const REPORT_SUPPORTED_OPERATION_CODES: Definition = Definition::action(
    "REPORT SUPPORTED OPERATION CODES",
    &[0xa3, 0x0c, 0x87, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0],
)
.in_standby()
.always();
/// REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS.
pub const REPORT_SUPPORTED_TASK_MANAGEMENT_FUNCTIONS: Definition = Definition::action(
    "REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS",
    &[0xa3, 0x0d, 0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0],
)
.in_standby()
.always();
/// RECEIVE DIAGNOSTIC RESULTS.
pub const RECEIVE_DIAGNOSTIC_RESULTS: Definition =
    Definition::new("RECEIVE DIAGNOSTIC RESULTS", &[0x1c, 0x01, 0xff, 0xff, 0xff, 0]);
/// SEND DIAGNOSTIC.
pub const SEND_DIAGNOSTIC: Definition =
    Definition::new("SEND DIAGNOSTIC", &[0x1d, 0xf7, 0, 0xff, 0xff, 0]).with(Access::Write);
/// PREVENT ALLOW MEDIUM REMOVAL.
pub const PREVENT_ALLOW_MEDIUM_REMOVAL: Definition =
    Definition::new("PREVENT ALLOW MEDIUM REMOVAL", &[0x1e, 0, 0, 0, 1, 0])
        .exclusive_but(|cdb| cdb[4] & 1 == 0);
/// WRITE BUFFER.
pub const WRITE_BUFFER: Definition =
    Definition::new("WRITE BUFFER", &[0x3b, 0x1f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0])
        .with(Access::Write);
/// READ BUFFER(10).
pub const READ_BUFFER_10: Definition =
    Definition::new("READ BUFFER(10)", &[0x3c, 0x1f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0]);
/// LOG SELECT.
pub const LOG_SELECT: Definition =
    Definition::new("LOG SELECT", &[0x4c, 0x03, 0xff, 0xff, 0, 0, 0, 0xff, 0xff, 0]).with(Access::Write);
/// LOG SENSE.
pub const LOG_SENSE: Definition =
    Definition::new("LOG SENSE", &[0x4d, 0x01, 0xff, 0xff, 0, 0xff, 0xff, 0xff, 0xff, 0])
        .with(Access::Always);
/// REPORT IDENTIFYING INFORMATION.
pub const REPORT_IDENTIFYING_INFORMATION: Definition = Definition::action(
    "REPORT IDENTIFYING INFORMATION",
    &[0xa3, 0x05, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xfe, 0],
)
.with(Access::Harmless);
/// REPORT TIMESTAMP.
pub const REPORT_TIMESTAMP: Definition =
    Definition::action("REPORT TIMESTAMP", &[0xa3, 0x0f, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0])
        .with(Access::Harmless);
/// SET IDENTIFYING INFORMATION.
pub const SET_IDENTIFYING_INFORMATION: Definition = Definition::action(
    "SET IDENTIFYING INFORMATION",
    &[0xa4, 0x06, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xfe, 0],
)
.with(Access::Write);
/// SET TIMESTAMP.
pub const SET_TIMESTAMP: Definition =
    Definition::action("SET TIMESTAMP", &[0xa4, 0x0f, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0])
        .with(Access::Write);

/// What there is to know of a command that every logical unit has, and one that is not there, too; `None` for all
/// others.
pub fn universal(cdb: &Cdb) -> Option<&'static Definition> {
    static COMMANDS: [Definition; 3] = [INQUIRY, REPORT_LUNS, REQUEST_SENSE];
    COMMANDS.iter().find(|definition| definition.opcode == cdb.opcode())
}
