// SPDX-License-Identifier: GPL-2.0-or-later
//! The commands of a disk.

use crate::scsi::primary::{Definition, Row, Table, command};
use crate::scsi::reservations::{Access, commands as reservation};
use crate::scsi::{Context, alua};

use super::atomic::{CompareAndWrite, OrWrite};
use super::fault::Fault;
use super::mode::Select;
use super::provisioning::{LbaStatus, Unmap, WriteSame};
use super::server::{Job, Work};
use super::simple;
use super::transfer::{Read, Verify, Write};

/// Begins a command whose CDB has passed the checks of its definition.
pub(super) type Handler = fn(&Job<'_>, &mut Context<'_>) -> Result<Work, Fault>;

const fn row(definition: Definition, run: Handler) -> Row<Handler> {
    Row { definition, run }
}

const fn cdb(name: &'static str, usage: &'static [u8]) -> Definition {
    Definition::new(name, usage)
}

/// Every bit of a field counts.
const A: u8 = 0xff;
/// GROUP NUMBER.
const G: u8 = 0x1f;
/// DPO and FUA.
const DF: u8 = 0x18;
/// DPO and BYTCHK.
const DB: u8 = 0x16;

/// Protection information is not supported: RDPROTECT and its like are bits that do not count, which refuses them.
const ROWS: [Row<Handler>; 55] = [
    row(command::TEST_UNIT_READY, simple::test_unit_ready),
    row(command::REQUEST_SENSE, simple::request_sense),
    row(cdb("READ(6)", &[0x08, G, A, A, A, 0]), Read::begin),
    row(cdb("WRITE(6)", &[0x0a, G, A, A, A, 0]).writing(), Write::begin),
    row(command::INQUIRY, simple::inquiry),
    row(command::MODE_SELECT_6, Select::begin),
    row(reservation::RESERVE_6, simple::reservation),
    row(reservation::RELEASE_6, simple::reservation),
    row(command::MODE_SENSE_6, simple::mode_sense),
    row(
        cdb("START STOP UNIT", &[0x1b, 1, 0, 0x0f, 0xf5, 0]).exclusive_but(simple::only_starts).within(60),
        simple::start_stop_unit,
    ),
    row(
        cdb("READ CAPACITY(10)", &[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0]).with(Access::Harmless),
        simple::read_capacity_10,
    ),
    row(cdb("READ(10)", &[0x28, DF, A, A, A, A, G, A, A, 0]), Read::begin),
    row(cdb("WRITE(10)", &[0x2a, DF, A, A, A, A, G, A, A, 0]).writing(), Write::begin),
    row(cdb("WRITE AND VERIFY(10)", &[0x2e, DB, A, A, A, A, G, A, A, 0]).writing(), Write::begin_verified),
    row(cdb("VERIFY(10)", &[0x2f, DB, A, A, A, A, G, A, A, 0]), Verify::begin),
    row(cdb("PRE-FETCH(10)", &[0x34, 2, A, A, A, A, G, A, A, 0]), simple::pre_fetch),
    row(
        cdb("SYNCHRONIZE CACHE(10)", &[0x35, 2, A, A, A, A, G, A, A, 0]).with(Access::Write).within(60),
        simple::synchronize_cache,
    ),
    row(cdb("WRITE SAME(10)", &[0x41, 8, A, A, A, A, G, A, A, 0]).writing().within(60), WriteSame::begin),
    row(cdb("UNMAP", &[0x42, 0, 0, 0, 0, 0, G, A, A, 0]).writing().thin().within(60), Unmap::begin),
    row(command::MODE_SELECT_10, Select::begin),
    row(reservation::RESERVE_10, simple::reservation),
    row(reservation::RELEASE_10, simple::reservation),
    row(command::MODE_SENSE_10, simple::mode_sense),
    row(reservation::READ_KEYS, simple::reservation),
    row(reservation::READ_RESERVATION, simple::reservation),
    row(reservation::REPORT_CAPABILITIES, simple::reservation),
    row(reservation::READ_FULL_STATUS, simple::reservation),
    row(reservation::REGISTER, simple::reservation),
    row(reservation::RESERVE, simple::reservation),
    row(reservation::RELEASE, simple::reservation),
    row(reservation::CLEAR, simple::reservation),
    row(reservation::PREEMPT, simple::reservation),
    row(reservation::PREEMPT_AND_ABORT, simple::reservation),
    row(reservation::REGISTER_AND_IGNORE, simple::reservation),
    row(reservation::REGISTER_AND_MOVE, simple::reservation),
    row(cdb("READ(16)", &[0x88, DF, A, A, A, A, A, A, A, A, A, A, A, A, G, 0]), Read::begin),
    row(
        cdb("COMPARE AND WRITE", &[0x89, DF, A, A, A, A, A, A, A, A, 0, 0, 0, A, G, 0]).writing(),
        CompareAndWrite::begin,
    ),
    row(cdb("WRITE(16)", &[0x8a, DF, A, A, A, A, A, A, A, A, A, A, A, A, G, 0]).writing(), Write::begin),
    row(cdb("ORWRITE(16)", &[0x8b, DF, A, A, A, A, A, A, A, A, A, A, A, A, G, 0]).writing(), OrWrite::begin),
    row(
        cdb("WRITE AND VERIFY(16)", &[0x8e, DB, A, A, A, A, A, A, A, A, A, A, A, A, G, 0]).writing(),
        Write::begin_verified,
    ),
    row(cdb("VERIFY(16)", &[0x8f, DB, A, A, A, A, A, A, A, A, A, A, A, A, G, 0]), Verify::begin),
    row(cdb("PRE-FETCH(16)", &[0x90, 2, A, A, A, A, A, A, A, A, A, A, A, A, G, 0]), simple::pre_fetch),
    row(
        cdb("SYNCHRONIZE CACHE(16)", &[0x91, 2, A, A, A, A, A, A, A, A, A, A, A, A, G, 0])
            .with(Access::Write)
            .within(60),
        simple::synchronize_cache,
    ),
    row(
        cdb("WRITE SAME(16)", &[0x93, 9, A, A, A, A, A, A, A, A, A, A, A, A, G, 0]).writing().within(60),
        WriteSame::begin,
    ),
    row(
        Definition::action("READ CAPACITY(16)", &[0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, A, A, A, A, 0, 0])
            .with(Access::Harmless),
        simple::read_capacity_16,
    ),
    row(
        Definition::action("GET LBA STATUS", &[0x9e, 0x12, A, A, A, A, A, A, A, A, A, A, A, A, 0, 0]),
        LbaStatus::begin,
    ),
    row(command::REPORT_LUNS, simple::report_luns),
    row(alua::REPORT_TARGET_PORT_GROUPS, simple::port_groups),
    row(command::REPORT_SUPPORTED_OPERATION_CODES, simple::report_operation_codes),
    row(command::REPORT_SUPPORTED_TASK_MANAGEMENT_FUNCTIONS, simple::report_task_management),
    row(alua::SET_TARGET_PORT_GROUPS, simple::port_groups),
    row(cdb("READ(12)", &[0xa8, DF, A, A, A, A, A, A, A, A, G, 0]), Read::begin),
    row(cdb("WRITE(12)", &[0xaa, DF, A, A, A, A, A, A, A, A, G, 0]).writing(), Write::begin),
    row(
        cdb("WRITE AND VERIFY(12)", &[0xae, DB, A, A, A, A, A, A, A, A, G, 0]).writing(),
        Write::begin_verified,
    ),
    row(cdb("VERIFY(12)", &[0xaf, DB, A, A, A, A, A, A, A, A, G, 0]), Verify::begin),
];

pub(super) static TABLE: Table<Handler> = Table::new(&ROWS);
