// SPDX-License-Identifier: GPL-2.0-or-later
//! REPORT TARGET PORT GROUPS (SPC-5 6.38) and SET TARGET PORT GROUPS (6.45), for the tables of all device types.

use super::GroupState;
use crate::scsi::primary::{Definition, head, reply};
use crate::scsi::reservations::Access;
use crate::scsi::{Change, Command, Context, Outcome, Resume, Sense, Step, UnitState, asc, key};
use crate::wire::scsi::{DataIn, be16, be32};

/// REPORT TARGET PORT GROUPS, with either header.
pub const REPORT_TARGET_PORT_GROUPS: Definition =
    Definition::action("REPORT TARGET PORT GROUPS", &[0xa3, 0xea, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0])
        .with(Access::Always)
        .in_any_state();

/// SET TARGET PORT GROUPS.
pub const SET_TARGET_PORT_GROUPS: Definition =
    Definition::action("SET TARGET PORT GROUPS", &[0xa4, 0x0a, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0])
        .with(Access::Write)
        .in_any_state();

/// Longest parameter list of SET TARGET PORT GROUPS.
const LIST_MAX: u32 = 4 + 4 * 1024;

/// Carries out REPORT TARGET PORT GROUPS (SPC-5 6.38) and SET TARGET PORT GROUPS (6.45).
#[derive(Debug)]
pub enum PortGroupCommand {
    /// REPORT.
    Report,
    /// SET, with the length of its parameter list.
    Set(u32),
}

impl PortGroupCommand {
    /// Begins a command whose CDB has passed the checks of its definition.
    pub fn begin(command: &Command) -> Result<Self, Sense> {
        let cdb = head(&command.cdb);
        if cdb[0] == REPORT_TARGET_PORT_GROUPS.opcode {
            return Ok(Self::Report);
        }
        let len = be32(&cdb, 6);
        if len > LIST_MAX || len > command.expected.data_out || !len.is_multiple_of(4) {
            return Err(Sense::illegal(asc::PARAMETER_LIST_LENGTH_ERROR));
        }
        Ok(Self::Set(len))
    }

    /// Does what can be done now that the last step is answered; there is no answer before the first.
    pub fn advance(&mut self, answer: Option<Resume>, command: &Command, cx: &Context<'_>) -> Step {
        let cdb = head(&command.cdb);
        let good = Step::Finish(Outcome::good());
        match (&*self, answer) {
            (Self::Report, None) => Step::Change(Change::Look),
            (Self::Report, Some(Resume::Changed(Ok(state)))) => Step::Finish(report(&cdb, &state, cx)),
            (Self::Set(0), None) => good,
            (&Self::Set(len), None) => Step::Fetch { len },
            (Self::Set(_), Some(Resume::Fetched(list))) => match wanted(&list.to_vec()) {
                Ok(wanted) => Step::Change(Change::Groups(wanted)),
                Err(sense) => Step::Finish(Outcome::check(sense)),
            },
            (&Self::Set(len), Some(Resume::Changed(Ok(_)))) => Step::Finish(Outcome::took(len.into())),
            (_, Some(Resume::Changed(Err(refusal)))) => Step::Finish(refusal.into()),
            _ => Step::Finish(Outcome::check(Sense::new(key::HARDWARE_ERROR, asc::INTERNAL_TARGET_FAILURE))),
        }
    }
}

fn wanted(list: &[u8]) -> Result<Vec<(u16, GroupState)>, Sense> {
    let each = list.chunks_exact(4).enumerate().skip(1);
    each.map(|(index, descriptor)| {
        let byte = u16::try_from(4 * index).unwrap_or(u16::MAX);
        let invalid = Sense::illegal(asc::INVALID_FIELD_IN_PARAMETER_LIST).pointing_at(false, byte, Some(3));
        Ok((be16(descriptor, 2), GroupState::from_code(descriptor[0] & 0x0f).ok_or(invalid)?))
    })
    .collect()
}

fn report(cdb: &[u8; 16], state: &UnitState, cx: &Context<'_>) -> Outcome {
    const PREF: u8 = 0x80;
    /// Offline cannot be asked for, transitions are told: T_SUP, O_SUP, U_SUP, S_SUP, AN_SUP, AO_SUP.
    const SUPPORTED: u8 = 0xcf;
    const EXTENDED: u8 = 0x10;
    let mut data = DataIn::new();
    data.u32(0);
    match cdb[1] >> 5 {
        0 => {}
        // Extended header: no implicit transition takes time.
        1 => _ = data.u8(EXTENDED).u8(0).u16(0),
        _ => return Outcome::check(Sense::invalid_field_in_cdb(1, Some(7))),
    }
    for group in state.groups() {
        data.u8(group.state as u8 | if group.preferred { PREF } else { 0 }).u8(SUPPORTED).u16(group.id);
        data.u8(0).u8(group.status).u8(0).u8(u8::try_from(group.ports.len()).unwrap_or(u8::MAX));
        for port in group.ports.iter().take(u8::MAX.into()) {
            data.u16(0).u16(port.relative);
        }
    }
    data.close(0, 4);
    reply(&data, be32(cdb, 6) as usize, cx)
}
