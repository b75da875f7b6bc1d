// SPDX-License-Identifier: GPL-2.0-or-later
//! Asymmetric logical unit access (SPC-5 5.17): target port groups and their states; REPORT and SET TARGET PORT GROUPS
//! in [`commands`].

pub mod commands;

use std::fmt;
use std::sync::Arc;

use super::reservations::{ChangeError, Effects};
use super::{Sense, TargetPort, Whom, asc, key};

pub use commands::{PortGroupCommand, REPORT_TARGET_PORT_GROUPS, SET_TARGET_PORT_GROUPS};

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
    pub(super) fn from_code(code: u8) -> Option<Self> {
        Self::NAMES.iter().map(|&(_, state)| state).find(|&state| state as u8 == code && code <= 3)
    }

    /// Every command is served.
    pub fn is_active(self) -> bool {
        matches!(self, Self::ActiveOptimized | Self::ActiveNonOptimized)
    }

    /// The sense data of a command that is not served in this state, by the states in which it is.
    pub fn not_ready(self, served: Served) -> Option<Sense> {
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
