// SPDX-License-Identifier: GPL-2.0-or-later
//! Reservations (SPC-5 5.14): persistent reservations, and RESERVE and RELEASE of SPC-2 beside them.
//!
//! [`Reservations`] is the table of one logical unit. It never changes: a service action makes a new one
//! ([`Reservations::apply`]), which the task manager puts in force on all cores at once. What a table says about a
//! command is decided in one place, [`Reservations::conflict`], from what the device's command table says about it
//! ([`Access`]).

mod apply;
pub mod commands;
mod record;
mod report;
mod request;

use std::fmt;
use std::sync::Arc;

use super::{Nexus, NexusId, PortName, TargetPort, Whom};

pub use apply::{ChangeError, Effects};
pub use commands::ReservationCommand;
pub use record::RECORD_NAME;
pub use request::{Action, Out, Request};

/// Most registrations of a logical unit; beyond it, INSUFFICIENT REGISTRATION RESOURCES.
pub const REGISTRATIONS_MAX: usize = 512;

/// Types of a persistent reservation (SPC-5 table 66).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[expect(missing_docs, reason = "the names are SPC's")]
pub enum ReservationType {
    WriteExclusive = 1,
    ExclusiveAccess = 3,
    WriteExclusiveRegistrantsOnly = 5,
    ExclusiveAccessRegistrantsOnly = 6,
    WriteExclusiveAllRegistrants = 7,
    ExclusiveAccessAllRegistrants = 8,
}

impl ReservationType {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::WriteExclusive,
        Self::ExclusiveAccess,
        Self::WriteExclusiveRegistrantsOnly,
        Self::ExclusiveAccessRegistrantsOnly,
        Self::WriteExclusiveAllRegistrants,
        Self::ExclusiveAccessAllRegistrants,
    ];

    /// From the TYPE field.
    pub fn new(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|&kind| kind as u8 == code)
    }

    /// Reading is reserved, too.
    fn exclusive_access(self) -> bool {
        matches!(
            self,
            Self::ExclusiveAccess
                | Self::ExclusiveAccessRegistrantsOnly
                | Self::ExclusiveAccessAllRegistrants
        )
    }

    /// All registrants may do what the holder may.
    fn for_registrants(self) -> bool {
        !matches!(self, Self::WriteExclusive | Self::ExclusiveAccess)
    }

    /// All registrants are holders.
    fn all_registrants(self) -> bool {
        matches!(self, Self::WriteExclusiveAllRegistrants | Self::ExclusiveAccessAllRegistrants)
    }
}

impl fmt::Display for ReservationType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.exclusive_access() { "exclusive access" } else { "write exclusive" })?;
        f.write_str(match self {
            _ if self.all_registrants() => ", all registrants",
            _ if self.for_registrants() => ", registrants only",
            _ => "",
        })
    }
}

/// What a command does to a logical unit that somebody else may have reserved: the rows of the tables "commands that
/// are allowed in the presence of various reservations" (SPC-5 table 67 and those of the command sets; SPC-2 5.5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Allowed whatever is reserved: INQUIRY, REPORT LUNS, REQUEST SENSE, READ CAPACITY, LOG SENSE and their like.
    Always,
    /// Allowed under every persistent reservation, but not when another nexus has reserved the unit by RESERVE: TEST
    /// UNIT READY, and what SPC-2 does not know.
    Harmless,
    /// Reads the medium or the state: allowed under Write Exclusive reservations.
    Read,
    /// Changes the medium or the state.
    Write,
    /// PERSISTENT RESERVE IN and OUT, which look after themselves; not allowed while the unit is reserved by RESERVE.
    Persistent,
    /// RESERVE and RELEASE, which look after themselves.
    Reserve,
}

/// A registered I_T nexus; with ALL_TG_PT, all of an initiator port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// The initiator port.
    pub initiator: PortName,
    /// The target port; `None` stands for all.
    pub port: Option<Arc<TargetPort>>,
    /// Its reservation key, not 0.
    pub key: u64,
    /// It holds the reservation, if there is one for a single holder.
    pub holder: bool,
}

impl Registration {
    fn covers(&self, nexus: &Nexus) -> bool {
        self.initiator == nexus.initiator
            && self.port.as_ref().is_none_or(|port| port.relative == nexus.port.relative)
    }

    /// Those whom it registers.
    fn whom(&self) -> Whom {
        Whom::Port(self.initiator.clone(), self.port.as_ref().map(|port| port.relative))
    }
}

/// The table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reservations {
    /// PRGENERATION.
    generation: u32,
    registrations: Vec<Registration>,
    /// The persistent reservation; of the logical unit, the only scope there is.
    kind: Option<ReservationType>,
    /// It survives the loss of power.
    aptpl: bool,
    /// Who has reserved the unit by RESERVE.
    reserved: Option<NexusId>,
}

/// What a nexus is to a table: worked out when either changes, so that no command needs to search.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    registered: bool,
    holder: bool,
    /// It is the one of RESERVE.
    reserver: bool,
}

impl Reservations {
    /// Nobody has reserved anything: no command can conflict.
    pub fn is_open(&self) -> bool {
        self.kind.is_none() && self.reserved.is_none()
    }

    /// Who has reserved the unit by RESERVE.
    pub fn reserver(&self) -> Option<NexusId> {
        self.reserved
    }

    /// The registrations, in the order in which they came.
    pub fn registrations(&self) -> &[Registration] {
        &self.registrations
    }

    /// The persistent reservation.
    pub fn kind(&self) -> Option<ReservationType> {
        self.kind
    }

    /// PRGENERATION.
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// Whether it survives the loss of power.
    pub fn persists(&self) -> bool {
        self.aptpl
    }

    /// Whether a registration holds the reservation.
    pub fn holds(&self, registration: &Registration) -> bool {
        self.kind.is_some_and(|kind| kind.all_registrants() || registration.holder)
    }

    /// The registration of a nexus.
    fn find(&self, nexus: &Nexus) -> Option<usize> {
        self.registrations.iter().position(|registration| registration.covers(nexus))
    }

    /// What a nexus is to this table.
    pub fn standing(&self, id: NexusId, nexus: &Nexus) -> Standing {
        let registration = self.find(nexus).map(|found| &self.registrations[found]);
        Standing {
            registered: registration.is_some(),
            holder: registration.is_some_and(|registration| self.holds(registration)),
            reserver: self.reserved == Some(id),
        }
    }

    /// Whether a command from a nexus of this standing meets a reservation conflict.
    pub fn conflict(&self, access: Access, standing: Standing) -> bool {
        if self.reserved.is_some() {
            return match access {
                Access::Always | Access::Reserve => false,
                Access::Persistent => true,
                Access::Harmless | Access::Read | Access::Write => !standing.reserver,
            };
        }
        let Some(kind) = self.kind else { return false };
        if standing.holder || kind.for_registrants() && standing.registered {
            return false;
        }
        match access {
            Access::Always | Access::Harmless | Access::Persistent | Access::Reserve => false,
            Access::Read => kind.exclusive_access(),
            Access::Write => true,
        }
    }
}

#[cfg(test)]
mod tests;
