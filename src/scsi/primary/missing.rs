// SPDX-License-Identifier: GPL-2.0-or-later
//! The answers to commands for a logical unit that is not there (SPC-5 4.6, SAM-5 5.11), and for the one that is always
//! there: REPORT LUNS (SPC-5 8.3).

use super::{command, head, reply, report_luns, request_sense, universal};
use crate::scsi::{Command, Context, DeviceServer, Lun, Outcome, Resume, Sense, Step, TaskId, asc, key};
use crate::wire::scsi::{DataIn, be16};

/// Stands for every logical unit that does not exist: initiators may ask what is there, and which others are. The
/// REPORT LUNS well-known unit does nothing but that, so it is served here, too.
#[derive(Clone, Copy, Debug, Default)]
pub struct MissingLun;

/// Peripheral qualifier 3, device type 1Fh: nothing there, and no hope of it.
const NOTHING: u8 = 0x7f;
/// Device type of well-known units.
const WELL_KNOWN: u8 = 0x1e;
const SUPPORTED_PAGES: u8 = 0x00;
const DEVICE_IDENTIFICATION: u8 = 0x83;
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
    Ok(reply(&inquiry_data(NOTHING, ""), be16(&cdb, 3).into(), cx))
}

/// Standard INQUIRY data of what has no vendor, no product and no revision but their fields, which are text.
fn inquiry_data(device: u8, product: &str) -> DataIn {
    const SPC_4: u8 = 6;
    const RESPONSE_DATA_FORMAT: u8 = 2;
    let mut data = DataIn::new();
    data.u8(device).u8(0).u8(SPC_4).u8(RESPONSE_DATA_FORMAT).pad_to(8);
    data.bytes(format!("{:8}{product:16}{:4}", "", "").as_bytes()).close(4, 1);
    data
}

/// The REPORT LUNS well-known unit.
fn well_known(command: &Command, cx: &mut Context<'_>) -> Result<Outcome, Sense> {
    let cdb = head(&command.cdb);
    let data = match (cdb[0], cdb[1], cdb[2]) {
        (opcode, ..) if opcode == command::REPORT_LUNS.opcode => return report_luns(&cdb, cx),
        (opcode, ..) if opcode == command::REQUEST_SENSE.opcode => {
            return Ok(request_sense(&cdb, Sense::new(key::NO_SENSE, asc::NO_ADDITIONAL_SENSE), cx));
        }
        (opcode, ..) if opcode == command::TEST_UNIT_READY.opcode => return Ok(Outcome::good()),
        (opcode, ..) if opcode != command::INQUIRY.opcode => {
            return Err(Sense::illegal(asc::INVALID_COMMAND_OPERATION_CODE));
        }
        (_, 0, 0) => inquiry_data(WELL_KNOWN, "REPORT LUNS"),
        (_, 1, page @ (SUPPORTED_PAGES | DEVICE_IDENTIFICATION)) => {
            let mut data = DataIn::new();
            data.u8(WELL_KNOWN).u8(page).u16(0);
            match (page, cx.nexus) {
                (SUPPORTED_PAGES, _) => _ = data.bytes(&[SUPPORTED_PAGES, DEVICE_IDENTIFICATION]),
                (_, Some(nexus)) => nexus.port.write_designators(&mut data),
                (_, None) => {}
            }
            data.close(2, 2);
            data
        }
        _ => return Err(Sense::invalid_field_in_cdb(2, Some(7))),
    };
    Ok(reply(&data, be16(&cdb, 3).into(), cx))
}

impl DeviceServer for MissingLun {
    fn start(&mut self, _: TaskId, command: &Command, cx: &mut Context<'_>) -> Step {
        let answer = if command.lun == Lun::REPORT_LUNS { well_known } else { answer };
        Step::Finish(answer(command, cx).unwrap_or_else(Outcome::check))
    }

    fn resume(&mut self, _: TaskId, _: &Command, _: Resume, _: &mut Context<'_>) -> Step {
        // Never asked for: every command ends with its first step.
        Step::Finish(Outcome::check(Sense::new(key::HARDWARE_ERROR, asc::INTERNAL_TARGET_FAILURE)))
    }

    fn abort(&mut self, _: TaskId) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::{Geometry, Landing};
    use crate::memory::Arena;
    use crate::scsi::{Cdb, Expected, NexusId, TaskAttribute, UnitAttentions, UnitState};
    use crate::time::Instant;

    /// The answer to a command: its data, or sense key and code.
    fn ask(cdb: &[u8], attentions: &mut UnitAttentions) -> Result<Vec<u8>, (u8, u16)> {
        ask_unit(Lun::from_index(9), cdb, attentions)
    }

    fn ask_unit(lun: Lun, cdb: &[u8], attentions: &mut UnitAttentions) -> Result<Vec<u8>, (u8, u16)> {
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
            nexus: NexusId::of(1),
            lun,
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
        assert_eq!((data.len(), &data[..8]), (36, &[0x7f, 0, 6, 2, 31, 0, 0, 0][..]));
        assert_eq!(data[8..], [b' '; 28], "vendor, product and revision are text");
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
    fn the_unit_that_reports_luns_is_always_there() {
        let ask = |cdb: &[u8]| ask_unit(Lun::REPORT_LUNS, cdb, &mut UnitAttentions::default());
        let data = ask(&[0x12, 0, 0, 0, 255, 0]).unwrap();
        assert_eq!((data.len(), &data[..5]), (36, &[0x1e, 0, 6, 2, 31][..]));
        assert_eq!(&data[8..], b"        REPORT LUNS         ");
        assert_eq!(ask(&[0x12, 1, 0, 0, 255, 0]).unwrap(), [0x1e, 0, 0, 2, 0, 0x83]);
        assert_eq!(ask(&[0x12, 1, 0x83, 0, 255, 0]).unwrap(), [0x1e, 0x83, 0, 0]);
        assert_eq!(ask(&[0x12, 1, 0x80, 0, 255, 0]), Err((5, 0x2400)));
        assert_eq!(ask(&[0; 6]), Ok(Vec::new()));
        assert_eq!(ask(&[0x03, 1, 0, 0, 255, 0]).unwrap(), [0x72, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(ask(&[0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 0, 0]).unwrap().len(), 16);
        for cdb in [[0x08, 0, 0, 0, 1, 0], [0x1a, 0, 0x3f, 0, 255, 0], [0xff; 6]] {
            assert_eq!(ask(&cdb), Err((5, 0x2000)));
        }
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
