// SPDX-License-Identifier: GPL-2.0-or-later
//! What is asked of the table: PERSISTENT RESERVE OUT with its parameters (SPC-5 6.17), RESERVE and RELEASE.

use super::ReservationType;
use crate::scsi::{PortName, Sense, asc};
use crate::wire::scsi::{be16, be32, be64};

/// Shortest parameter list, of all service actions.
pub(super) const LIST_MIN: usize = 24;

/// Service actions of PERSISTENT RESERVE OUT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are SPC's")]
pub enum Action {
    Register,
    Reserve,
    Release,
    Clear,
    Preempt,
    PreemptAndAbort,
    RegisterAndIgnore,
    RegisterAndMove,
}

/// A PERSISTENT RESERVE OUT with its parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Out {
    /// What it does.
    pub action: Action,
    /// SCOPE; 0 is the logical unit.
    pub scope: u8,
    /// TYPE, not checked: it counts for some actions only.
    pub kind_code: u8,
    /// RESERVATION KEY.
    pub key: u64,
    /// SERVICE ACTION RESERVATION KEY.
    pub action_key: u64,
    /// SPEC_I_PT: `ports` are to be registered, too.
    pub specifies_ports: bool,
    /// ALL_TG_PT.
    pub all_target_ports: bool,
    /// APTPL.
    pub aptpl: bool,
    /// UNREG of REGISTER AND MOVE.
    pub unregister: bool,
    /// RELATIVE TARGET PORT IDENTIFIER of REGISTER AND MOVE.
    pub move_port: u16,
    /// Initiator ports: those of SPEC_I_PT, or the one of REGISTER AND MOVE.
    pub ports: Vec<PortName>,
}

impl Out {
    /// With both keys and nothing else.
    pub fn new(action: Action, key: u64, action_key: u64) -> Self {
        Self {
            action,
            scope: 0,
            kind_code: 0,
            key,
            action_key,
            specifies_ports: false,
            all_target_ports: false,
            aptpl: false,
            unregister: false,
            move_port: 0,
            ports: Vec::new(),
        }
    }

    /// SCOPE and TYPE, where they count.
    pub(super) fn kind(&self) -> Result<ReservationType, Sense> {
        if self.scope != 0 {
            return Err(Sense::invalid_field_in_cdb(2, Some(7)));
        }
        ReservationType::new(self.kind_code).ok_or(Sense::invalid_field_in_cdb(2, Some(3)))
    }

    /// From the CDB and the parameter list, of at least 24 bytes (SPC-5 6.17.2 and 6.17.4).
    pub fn parse(cdb: &[u8; 16], list: &[u8]) -> Result<Self, Sense> {
        let action = match cdb[1] & 0x1f {
            0 => Action::Register,
            1 => Action::Reserve,
            2 => Action::Release,
            3 => Action::Clear,
            4 => Action::Preempt,
            5 => Action::PreemptAndAbort,
            6 => Action::RegisterAndIgnore,
            7 => Action::RegisterAndMove,
            _ => return Err(Sense::invalid_field_in_cdb(1, Some(4))),
        };
        let mut out = Self {
            scope: cdb[2] >> 4,
            kind_code: cdb[2] & 0x0f,
            ..Self::new(action, be64(list, 0), be64(list, 8))
        };
        if action == Action::RegisterAndMove {
            out.unregister = list[17] & 2 != 0;
            out.aptpl = list[17] & 1 != 0;
            out.move_port = be16(list, 18);
            out.ports = ports(list, 20)?;
            if out.ports.len() != 1 {
                return Err(invalid(20));
            }
            return Ok(out);
        }
        if matches!(action, Action::Register | Action::RegisterAndIgnore) {
            out.specifies_ports = list[20] & 8 != 0;
            out.all_target_ports = list[20] & 4 != 0;
            out.aptpl = list[20] & 1 != 0;
        }
        if out.specifies_ports && action == Action::Register {
            out.ports = ports(list, 24)?;
        } else if out.specifies_ports {
            return Err(invalid(20));
        } else if list.len() != LIST_MIN {
            return Err(Sense::illegal(asc::PARAMETER_LIST_LENGTH_ERROR));
        }
        Ok(out)
    }
}

fn invalid(byte: u16) -> Sense {
    Sense::illegal(asc::INVALID_FIELD_IN_PARAMETER_LIST).pointing_at(false, byte, None)
}

/// The TransportIDs after a length of four bytes at offset `at`; they fill the rest of the list.
fn ports(list: &[u8], at: usize) -> Result<Vec<PortName>, Sense> {
    let mut rest = list.get(at + 4..).unwrap_or_default();
    if list.len() < at + 4 || rest.len() != be32(list, at) as usize {
        return Err(Sense::illegal(asc::PARAMETER_LIST_LENGTH_ERROR));
    }
    let mut found = Vec::new();
    while !rest.is_empty() {
        let here = u16::try_from(list.len() - rest.len()).unwrap_or(u16::MAX);
        let (port, len) = PortName::from_transport_id(rest).ok_or_else(|| invalid(here))?;
        found.push(port);
        rest = &rest[len..];
    }
    Ok(found)
}

/// What is asked of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// PERSISTENT RESERVE OUT.
    Out(Out),
    /// RESERVE.
    Reserve,
    /// RELEASE.
    Release,
}
