// SPDX-License-Identifier: GPL-2.0-or-later
//! The answer to a command for a logical unit that is not there (SPC-5 4.6, SAM-5 5.11).

use super::{command, head, reply, report_luns, request_sense, universal};
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
    if universal(&command.cdb).is_none() {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::{Geometry, Landing};
    use crate::memory::Arena;
    use crate::scsi::{Cdb, Expected, Lun, NexusId, TaskAttribute, UnitAttentions, UnitState};
    use crate::time::Instant;

    /// The answer to a command: its data, or sense key and code.
    fn ask(cdb: &[u8], attentions: &mut UnitAttentions) -> Result<Vec<u8>, (u8, u16)> {
        let arena = Arena::new(2 << 20, false).unwrap();
        let mut cx = Context {
            arena: &arena,
            geometry: Geometry { bytes: 0, block: 0, transfer_max: 0, thin: false, read_only: false },
            state: &UnitState::default(),
            attentions,
            nexus: None,
            luns: &[Lun::ZERO],
            landing: &mut |_| Landing::Own,
            lease: None,
            now: Instant::ZERO,
        };
        let command = Command {
            nexus: NexusId(1),
            lun: Lun::from_index(9),
            cdb: Cdb::new(cdb).unwrap(),
            attribute: TaskAttribute::Simple,
            expected: Expected { data_in: 255, data_out: 0 },
        };
        match MissingLun.start(TaskId(0), &command, &mut cx) {
            Step::Finish(Outcome { sense: Some(sense), .. }) => Err((sense.key, sense.code)),
            Step::Finish(outcome) => Ok(outcome.data.to_vec()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn tells_that_it_is_not_there() {
        let none = &mut UnitAttentions::default();
        let data = ask(&[0x12, 0, 0, 0, 255, 0], none).unwrap();
        assert_eq!((data.len(), &data[..5]), (36, &[0x7f, 0, 6, 2, 31][..]));
        assert_eq!(ask(&[0x12, 0, 0, 0, 5, 0], none).unwrap().len(), 5);
        assert_eq!(ask(&[0x12, 1, 0x83, 0, 255, 0], none), Err((5, 0x2400)));
        for cdb in [[0; 6], [0x08, 0, 0, 0, 1, 0], [0x1a, 0, 0x3f, 0, 255, 0], [0xff; 6]] {
            assert_eq!(ask(&cdb, none), Err((5, 0x2500)));
        }
    }

    #[test]
    fn tells_which_others_are_there() {
        let none = &mut UnitAttentions::default();
        let luns = ask(&[0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 0, 0], none).unwrap();
        assert_eq!(luns, [0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn sense_on_request() {
        let mut attentions = UnitAttentions::default();
        attentions.establish(0x3f0e);
        let sense = [0x72, 6, 0x3f, 0x0e, 0, 0, 0, 0];
        assert_eq!(ask(&[0x03, 1, 0, 0, 255, 0], &mut attentions).unwrap(), sense);
        let sense = [0x72, 5, 0x25, 0, 0, 0, 0, 0];
        assert_eq!(ask(&[0x03, 1, 0, 0, 255, 0], &mut attentions).unwrap(), sense);
    }
}
