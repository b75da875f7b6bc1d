// SPDX-License-Identifier: GPL-2.0-or-later
//! Asymmetric logical unit access (SPC-5 5.17): target port groups and their states, REPORT and SET TARGET PORT GROUPS.

use std::fmt;
use std::sync::Arc;

use super::primary::{Definition, head, reply};
use super::reservations::{Access, ChangeError, Effects};
use super::{Change, Command, Context, Outcome, Resume, Sense, Step, TargetPort, UnitState, Whom, asc, key};
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

/// Asymmetric access states (SPC-5 table 98).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
#[expect(missing_docs, reason = "the names are SPC's")]
pub enum GroupState {
    #[default]
    ActiveOptimized = 0x0,
    ActiveNonOptimized = 0x1,
    Standby = 0x2,
    Unavailable = 0x3,
    Offline = 0xe,
    Transitioning = 0xf,
}

impl GroupState {
    /// All, with the names that people use.
    pub const NAMES: [(&'static str, Self); 6] = [
        ("active/optimized", Self::ActiveOptimized),
        ("active/non-optimized", Self::ActiveNonOptimized),
        ("standby", Self::Standby),
        ("unavailable", Self::Unavailable),
        ("offline", Self::Offline),
        ("transitioning", Self::Transitioning),
    ];

    /// The state of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(known, _)| *known == name).map(|&(_, state)| state)
    }

    /// Those that SET TARGET PORT GROUPS can ask for.
    fn from_code(code: u8) -> Option<Self> {
        Self::NAMES.iter().map(|&(_, state)| state).find(|&state| state as u8 == code && code <= 3)
    }

    /// Every command is served.
    pub fn is_active(self) -> bool {
        matches!(self, Self::ActiveOptimized | Self::ActiveNonOptimized)
    }

    /// The sense data of a command that is not served in this state.
    pub fn not_ready(self, definition: Option<&Definition>) -> Option<Sense> {
        let served = definition.map_or(Served::Active, |definition| definition.served);
        let code = match self {
            Self::ActiveOptimized | Self::ActiveNonOptimized => return None,
            Self::Standby if served != Served::Active => return None,
            _ if served == Served::Always => return None,
            Self::Standby => asc::LOGICAL_UNIT_NOT_ACCESSIBLE_TARGET_PORT_IN_STANDBY_STATE,
            Self::Unavailable | Self::Offline => {
                asc::LOGICAL_UNIT_NOT_ACCESSIBLE_TARGET_PORT_IN_UNAVAILABLE_STATE
            }
            Self::Transitioning => asc::LOGICAL_UNIT_NOT_ACCESSIBLE_ASYMMETRIC_ACCESS_STATE_TRANSITION,
        };
        Some(Sense::new(key::NOT_READY, code))
    }
}

impl fmt::Display for GroupState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::NAMES.iter().find(|(_, state)| state == self).map_or("?", |(name, _)| name);
        f.write_str(name)
    }
}

/// In which states of its target port a command is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Served {
    /// In the active ones.
    Active,
    /// In those and in standby.
    Standby,
    /// In all of them.
    Always,
}

/// A target port group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its identifier.
    pub id: u16,
    /// Its state.
    pub state: GroupState,
    /// Initiators are to prefer it (PREF).
    pub preferred: bool,
    /// Its ports.
    pub ports: Vec<Arc<TargetPort>>,
    /// STATUS CODE: who has changed the state last (0 nobody, 1 an initiator, 2 the target itself).
    pub status: u8,
}

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

/// Puts groups into other states; `by_initiator` tells SET TARGET PORT GROUPS from the operator.
pub(super) fn set(
    groups: &mut [Group],
    wanted: &[(u16, GroupState)],
    by_initiator: bool,
) -> Result<Effects, ChangeError> {
    let mut effects = Effects::default();
    for (index, &(id, state)) in wanted.iter().enumerate() {
        let byte = u16::try_from(4 + 4 * index + 2).unwrap_or(u16::MAX);
        let unknown = Sense::illegal(asc::INVALID_FIELD_IN_PARAMETER_LIST).pointing_at(false, byte, None);
        let group = groups.iter_mut().find(|group| group.id == id).ok_or(ChangeError::Check(unknown))?;
        if group.state != state {
            group.state = state;
            group.status = if by_initiator { 1 } else { 2 };
            effects.attentions = vec![(Whom::Others, asc::ASYMMETRIC_ACCESS_STATE_CHANGED)];
        }
    }
    Ok(effects)
}
