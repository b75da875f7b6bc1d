// SPDX-License-Identifier: GPL-2.0-or-later
//! The answer to a command for a logical unit that is not there (SPC-5 4.6, SAM-5 5.11).

use super::{command, head, passes_attention, reply, report_luns, request_sense};
use crate::scsi::{Command, Context, DeviceServer, Outcome, Resume, Sense, Step, TaskId, asc};
use crate::wire::scsi::{DataIn, be16};

/// Stands for every logical unit that does not exist: initiators may ask what is there, and which others are.
#[derive(Clone, Copy, Debug, Default)]
pub struct MissingLun;

/// Peripheral qualifier 3, device type 1Fh: nothing there, and no hope of it.
const NOTHING: u8 = 0x7f;
const NOT_SUPPORTED: Sense = Sense::illegal(asc::LOGICAL_UNIT_NOT_SUPPORTED);

fn answer(command: &Command, cx: &mut Context<'_>) -> Result<Outcome, Sense> {
    let cdb = head(&command.cdb);
    if !passes_attention(&command.cdb) {
        return Err(NOT_SUPPORTED);
    }
    if cdb[0] == command::REPORT_LUNS.opcode {
        return report_luns(&cdb, cx);
    }
    if cdb[0] == command::REQUEST_SENSE.opcode {
        return Ok(request_sense(&cdb, NOT_SUPPORTED, cx));
    }
    if cdb[1] != 0 || cdb[2] != 0 {
        return Err(Sense::invalid_field_in_cdb(if cdb[1] != 0 { 1 } else { 2 }, None));
    }
    let mut data = DataIn::new();
    data.u8(NOTHING).u8(0).u8(6).u8(2).pad_to(36).close(4, 1);
    Ok(reply(&data, be16(&cdb, 3).into(), cx))
}

impl DeviceServer for MissingLun {
    fn start(&mut self, _: TaskId, command: &Command, cx: &mut Context<'_>) -> Step {
        Step::Finish(answer(command, cx).unwrap_or_else(Outcome::check))
    }

    fn resume(&mut self, _: TaskId, _: &Command, _: Resume, _: &mut Context<'_>) -> Step {
        // Never asked for: every command ends with its first step.
        Step::Finish(Outcome::check(Sense::new(
            crate::scsi::key::HARDWARE_ERROR,
            asc::INTERNAL_TARGET_FAILURE,
        )))
    }

    fn abort(&mut self, _: TaskId) {}
}
