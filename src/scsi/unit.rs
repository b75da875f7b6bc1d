// SPDX-License-Identifier: GPL-2.0-or-later
//! What all cores know of a logical unit alike: its reservations and the states of its target port groups. A snapshot
//! that never changes; a change makes the next one, and the task manager puts it in force on all cores at once.

use std::sync::Arc;

use super::alua::{self, Group, GroupState, Served};
use super::primary::Definition;
use super::reservations::{Access, ChangeError, Effects, Request, Reservations, Standing};
use super::{Nexus, NexusId, Sense, TargetPort, Whom};

/// What is asked of the state of a logical unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing: the state is read, at a moment when no change is under way.
    Look,
    /// A service action.
    Reservations(Request),
    /// It is reached through other target ports: the groups that it has from now on.
    Ports(Vec<Group>),
    /// Target port groups go into other states.
    Groups(Vec<(u16, GroupState)>),
    /// Nothing, but nexuses are told (`ASC << 8 | ASCQ`).
    Attentions(Vec<(Whom, u16)>),
    /// The nexus is gone.
    Lost,
    /// The logical unit was reset.
    Reset,
}

/// The snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnitState {
    /// Rises with each change.
    version: u64,
    reservations: Reservations,
    groups: Vec<Group>,
}

/// What a nexus may do, worked out once per snapshot: a command looks at `open` alone in most cases.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NexusAccess {
    /// Every command passes.
    pub open: bool,
    standing: Standing,
    group: GroupState,
}

/// Why a command does not pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotAdmitted {
    /// RESERVATION CONFLICT.
    Conflict,
    /// The target port is in a state in which the command is not served.
    NotReady(Sense),
}

impl UnitState {
    /// The state at the start of the daemon.
    pub fn new(reservations: Reservations, groups: Vec<Group>) -> Self {
        Self { version: 0, reservations, groups }
    }

    /// How many changes there were.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Its reservations.
    pub fn reservations(&self) -> &Reservations {
        &self.reservations
    }

    /// Its target port groups.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// All target ports through which it is reached.
    fn ports(&self) -> Vec<Arc<TargetPort>> {
        self.groups.iter().flat_map(|group| &group.ports).cloned().collect()
    }

    /// The next state, and what it means for others than the nexus that asks (none for the operator).
    pub fn change(
        &self,
        change: &Change,
        nexus: Option<(NexusId, &Nexus)>,
    ) -> Result<(Self, Effects), ChangeError> {
        let mut next = Self { version: self.version + 1, ..self.clone() };
        let mut effects = Effects::default();
        let table = &self.reservations;
        match (change, nexus) {
            (Change::Reservations(Request::Out(out)), Some((_, nexus))) => {
                (next.reservations, effects) = table.apply(nexus, out, &self.ports())?;
            }
            (Change::Reservations(Request::Reserve), Some((id, nexus))) => {
                next.reservations = table.reserve_unit(id, nexus)?;
            }
            (Change::Reservations(Request::Release), Some((id, nexus))) => {
                next.reservations = table.release_unit(id, nexus)?;
            }
            (Change::Groups(wanted), nexus) => {
                effects = alua::set(&mut next.groups, wanted, nexus.is_some())?;
            }
            (Change::Ports(groups), _) => next.groups.clone_from(groups),
            (Change::Attentions(told), _) => effects.attentions.clone_from(told),
            (Change::Lost, Some((id, _))) => next.reservations = table.without(id),
            (Change::Reset, _) => next.reservations = table.after_reset(),
            (Change::Look | Change::Reservations(_) | Change::Lost, _) => {}
        }
        let same = next.reservations == self.reservations && next.groups == self.groups;
        if same && effects.attentions.is_empty() {
            next.version = self.version;
        }
        Ok((next, effects))
    }

    /// Whether the record of the reservations has to be replaced when this state follows `before`.
    pub fn must_be_persisted(&self, before: &Self) -> bool {
        let (old, new) = (&before.reservations, &self.reservations);
        (old.persists() || new.persists()) && old.to_record() != new.to_record()
    }

    /// What a nexus may do.
    pub fn nexus_access(&self, id: NexusId, nexus: &Nexus) -> NexusAccess {
        let standing = self.reservations.standing(id, nexus);
        let group = self.groups.iter().find(|group| group.id == nexus.port.group);
        let group = group.map_or(GroupState::ActiveOptimized, |group| group.state);
        // Nothing is reserved against it, not even by itself: PERSISTENT RESERVE conflicts with its own RESERVE.
        let free = self.reservations.reserver().is_none()
            && !self.reservations.conflict(Access::Read, standing)
            && !self.reservations.conflict(Access::Write, standing);
        NexusAccess { open: free && group.is_active(), standing, group }
    }

    /// Whether a copy that is another logical unit's command may do this here.
    pub fn admits(&self, nexus_access: &NexusAccess, access: Access) -> bool {
        nexus_access.group.is_active() && !self.reservations.conflict(access, nexus_access.standing)
    }

    /// Whether a command, known by its definition if the device has it, passes with the access of its nexus. SAM-5
    /// 5.3.3 lets RESERVATION CONFLICT go before everything else.
    pub fn admit(
        &self,
        nexus_access: &NexusAccess,
        definition: Option<&Definition>,
        cdb: &[u8; 16],
    ) -> Result<(), NotAdmitted> {
        let access = definition.map_or(Access::Always, |definition| definition.access_of(cdb));
        let served = definition.map_or(Served::Active, |definition| definition.served);
        if self.reservations.conflict(access, nexus_access.standing) {
            return Err(NotAdmitted::Conflict);
        }
        nexus_access.group.not_ready(served).map_or(Ok(()), |sense| Err(NotAdmitted::NotReady(sense)))
    }
}
