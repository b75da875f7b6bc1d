// SPDX-License-Identifier: GPL-2.0-or-later
//! What SPC says of every logical unit, whatever its device type: [`PrimaryUnit`] is its state, which all cores share,
//! [`PrimaryServer`] the device server of one core, [`Table`] its commands, and [`handlers`] what begins those of SPC.
//! A device type adds its own by [`DeviceType`] and [`CommandSet`]. [`MissingLun`] answers for a logical unit that is
//! not there. Parameter data is made here in full and cut to the allocation length in one place, [`reply`].

pub mod command;
mod common_pages;
mod counts;
mod fault;
mod flags;
pub mod handlers;
mod identity;
mod initiator_data;
mod inquiry;
mod library;
mod log;
mod logical_unit;
mod medium_rows;
mod missing;
mod mode;
mod presence;
mod select;
mod selftest;
mod selftest_results;
mod server;
mod shape;
mod table;
mod take_list;
mod unit;
mod work;

#[cfg(test)]
mod tests;

pub use command::universal;
pub use common_pages::{CONTROL_PAGE, EXCEPTIONS_PAGE, check_common_page, control_flags};
pub use counts::{LogCounts, MediumAccess};
pub use fault::{Fault, miscompare, unexpected, unexpected_after_flush};
pub use flags::UnitFlags;
pub use identity::{Designation, Identity, IdentityError};
pub use initiator_data::{INFORMATION_RECORD, InitiatorData};
pub use inquiry::Peripheral;
pub use library::{FurnishedLibrary, MediaLibrary};
pub use log::{Counter, LogData, page as log_page};
pub use logical_unit::LogicalUnit;
pub use medium_rows::{MEDIUM_ROWS, medium_rows};
pub use missing::MissingLun;
pub use mode::{MODE_RECORD, ModePage, ModeUnit, ModeValues};
pub use presence::{MediumPresence, MediumRelease};
pub use select::ModeSelect;
pub use selftest::SelfTest;
pub use selftest_results::SelfTestResults;
pub use server::PrimaryServer;
pub use shape::{Shape, Span};
pub use table::{Definition, Features, Needs, Row, Table, VARIABLE_LENGTH, head, merged, service_action};
pub use take_list::{Apply, TakeList};
pub use unit::{DeviceType, Job, PrimaryState, PrimaryUnit, ReadMedium};
pub use work::{CommandSet, DeviceTask, Handler, TaskWork};

use super::{Context, Lun, Outcome, Sense, Status};
use crate::memory::Sg;
use crate::wire::scsi::{DataIn, be32};

/// GOOD with parameter data, cut to the allocation length; BUSY if there is no memory for it.
pub fn reply(data: &DataIn, allocation: usize, cx: &Context<'_>) -> Outcome {
    let bytes = data.as_bytes();
    match Sg::copied(cx.arena, &bytes[..bytes.len().min(allocation)]) {
        Some(data) => Outcome::data(data),
        None => Outcome::status(Status::Busy),
    }
}

/// REPORT LUNS (SPC-5 6.33).
pub fn report_luns(cdb: &[u8; 16], cx: &Context<'_>) -> Result<Outcome, Sense> {
    let well_known = |lun: &Lun| lun.0 >> 56 == 0xc1;
    let select: fn(bool) -> bool = match cdb[2] {
        0 => |well_known| !well_known,
        1 => |well_known| well_known,
        2 => |_| true,
        _ => return Err(Sense::invalid_field_in_cdb(2, Some(7))),
    };
    let luns = cx.luns.iter().filter(|lun| select(well_known(lun)));
    let mut data = DataIn::new();
    data.u32(u32::try_from(8 * luns.clone().count()).unwrap_or(u32::MAX)).u32(0);
    for lun in luns {
        data.u64(lun.0);
    }
    Ok(reply(&data, be32(cdb, 6) as usize, cx))
}

/// REQUEST SENSE (SPC-5 6.39): the next unit attention, which is thereby told, or else `otherwise`.
pub fn request_sense(cdb: &[u8; 16], otherwise: Sense, cx: &mut Context<'_>) -> Outcome {
    let sense = cx.attentions.take().map_or(otherwise, |code| Sense::new(super::key::UNIT_ATTENTION, code));
    let mut data = DataIn::new();
    data.bytes(&sense.encode(cdb[1] & 1 != 0));
    reply(&data, cdb[4].into(), cx)
}

/// REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS (SPC-5 6.36). They are the task manager's, so the same for every
/// device.
pub fn report_task_management(cdb: &[u8; 16], cx: &Context<'_>) -> Outcome {
    const ABORT_TASK: u8 = 0x80;
    const ABORT_TASK_SET: u8 = 0x40;
    const CLEAR_ACA: u8 = 0x20;
    const CLEAR_TASK_SET: u8 = 0x10;
    const LOGICAL_UNIT_RESET: u8 = 0x08;
    const TARGET_RESET: u8 = 0x02;
    let extended = cdb[2] & 0x80 != 0;
    let mut data = DataIn::new();
    const TASKS: u8 = ABORT_TASK | ABORT_TASK_SET | CLEAR_ACA | CLEAR_TASK_SET;
    data.u8(TASKS | LOGICAL_UNIT_RESET | TARGET_RESET).pad_to(4);
    if extended {
        data.pad_to(16).close(3, 1);
    }
    reply(&data, be32(cdb, 6) as usize, cx)
}
