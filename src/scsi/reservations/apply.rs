// SPDX-License-Identifier: GPL-2.0-or-later
//! What the service actions do (SPC-5 5.14.5 to 5.14.11): from a table and a request to the next table, and to what
//! everybody is to be told.

use super::request::{Action, Out};
use super::{REGISTRATIONS_MAX, Registration, ReservationType, Reservations};
use crate::scsi::{Nexus, NexusId, PortName, Sense, TargetPort, Whom, asc};

/// What a change means for nexuses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// Unit attentions (`ASC << 8 | ASCQ`).
    pub attentions: Vec<(Whom, u16)>,
    /// Whose tasks are aborted.
    pub aborts: Vec<Whom>,
}

/// Why a request is not carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChangeError {
    /// RESERVATION CONFLICT.
    Conflict,
    /// CHECK CONDITION.
    Check(Sense),
}

impl From<Sense> for ChangeError {
    fn from(sense: Sense) -> Self {
        Self::Check(sense)
    }
}

fn invalid_parameter(byte: u16) -> ChangeError {
    Sense::illegal(asc::INVALID_FIELD_IN_PARAMETER_LIST).pointing_at(false, byte, None).into()
}

type Next = Result<(Reservations, Effects), ChangeError>;

impl Reservations {
    /// PERSISTENT RESERVE OUT from a nexus. `ports` are the target ports through which the unit is reached.
    pub fn apply(&self, nexus: &Nexus, out: &Out, ports: &[std::sync::Arc<TargetPort>]) -> Next {
        let mut next = self.clone();
        let mut effects = Effects::default();
        let own = self.find(nexus);
        if matches!(out.action, Action::Register | Action::RegisterAndIgnore) {
            next.register(nexus, own, out, &mut effects)?;
            return Ok((next, effects));
        }
        // All others come from a registered nexus that knows its key.
        let own = own.filter(|&own| self.registrations[own].key == out.key).ok_or(ChangeError::Conflict)?;
        match out.action {
            Action::Register | Action::RegisterAndIgnore => {}
            Action::Reserve => next.reserve(own, out.kind()?)?,
            Action::Release => next.release(own, out, &mut effects)?,
            Action::Clear => {
                next.tell_all(asc::RESERVATIONS_PREEMPTED, &mut effects);
                next.registrations.clear();
                next.kind = None;
                next.count();
            }
            Action::Preempt | Action::PreemptAndAbort => next.preempt(own, out, &mut effects)?,
            Action::RegisterAndMove => next.move_to(nexus, own, out, ports)?,
        }
        Ok((next, effects))
    }

    fn count(&mut self) {
        self.generation = self.generation.wrapping_add(1);
    }

    /// Queues a unit attention for all that are registered.
    fn tell_all(&self, code: u16, effects: &mut Effects) {
        effects.attentions.extend(self.registrations.iter().map(|registration| (registration.whom(), code)));
    }

    /// REGISTER, and REGISTER AND IGNORE EXISTING KEY (SPC-5 5.14.7, tables 68 and 69).
    fn register(
        &mut self,
        nexus: &Nexus,
        own: Option<usize>,
        out: &Out,
        effects: &mut Effects,
    ) -> Result<(), ChangeError> {
        let known = own.map_or(0, |own| self.registrations[own].key);
        if out.action == Action::Register && out.key != known {
            return Err(ChangeError::Conflict);
        }
        if own.is_some() && out.specifies_ports {
            return Err(invalid_parameter(20));
        }
        match (own, out.action_key) {
            // Nothing to unregister: the command has done what it was asked for.
            (None, 0) => return Ok(()),
            (Some(own), 0) => self.unregister(own, effects),
            (Some(own), key) => {
                self.registrations[own].key = key;
                if out.all_target_ports {
                    self.add(&nexus.initiator, None, key)?;
                }
            }
            (None, key) => {
                let port = (!out.all_target_ports).then(|| nexus.port.clone());
                for other in &out.ports {
                    // A port that is registered already makes the whole command fail, with nothing registered.
                    let there = |r: &Registration| {
                        r.initiator == *other
                            && (port.is_none() || r.port.as_ref().is_none_or(|p| Some(p) == port.as_ref()))
                    };
                    if self.registrations.iter().any(there) {
                        return Err(ChangeError::Conflict);
                    }
                }
                for initiator in std::iter::once(&nexus.initiator).chain(&out.ports) {
                    self.add(initiator, port.clone(), key)?;
                }
            }
        }
        self.aptpl = out.aptpl;
        self.count();
        Ok(())
    }

    /// Adds a registration; one for all target ports takes the place of those for some.
    fn add(
        &mut self,
        initiator: &PortName,
        port: Option<std::sync::Arc<TargetPort>>,
        key: u64,
    ) -> Result<(), ChangeError> {
        let replaced = |r: &Registration| r.initiator == *initiator && (port.is_none() || r.port == port);
        let holder = self.registrations.iter().any(|r| replaced(r) && r.holder);
        self.registrations.retain(|r| !replaced(r));
        if self.registrations.len() >= REGISTRATIONS_MAX {
            return Err(Sense::illegal(asc::INSUFFICIENT_REGISTRATION_RESOURCES).into());
        }
        self.registrations.push(Registration { initiator: initiator.clone(), port, key, holder });
        Ok(())
    }

    /// SPC-5 5.14.11.3: the reservation of its holder goes with it, as does the last registrant's.
    fn unregister(&mut self, own: usize, effects: &mut Effects) {
        let gone = self.registrations.remove(own);
        let Some(kind) = self.kind else { return };
        let last = self.registrations.is_empty();
        if (kind.all_registrants() && last) || (!kind.all_registrants() && gone.holder) {
            self.kind = None;
            if kind.for_registrants() {
                self.tell_all(asc::RESERVATIONS_RELEASED, effects);
            }
        }
    }

    /// SPC-5 5.14.9.
    fn reserve(&mut self, own: usize, kind: ReservationType) -> Result<(), ChangeError> {
        if let Some(held) = self.kind {
            // To the holder, the same again is no news.
            let same = held == kind && self.holds(&self.registrations[own]);
            return if same { Ok(()) } else { Err(ChangeError::Conflict) };
        }
        self.kind = Some(kind);
        self.registrations[own].holder = !kind.all_registrants();
        Ok(())
    }

    /// SPC-5 5.14.11.2.
    fn release(&mut self, own: usize, out: &Out, effects: &mut Effects) -> Result<(), ChangeError> {
        let Some(kind) = self.kind.filter(|_| self.holds(&self.registrations[own])) else { return Ok(()) };
        if out.scope != 0 || out.kind_code != kind as u8 {
            return Err(Sense::illegal(asc::INVALID_RELEASE_OF_PERSISTENT_RESERVATION).into());
        }
        self.drop_reservation();
        if kind.for_registrants() {
            self.tell_all(asc::RESERVATIONS_RELEASED, effects);
        }
        Ok(())
    }

    fn drop_reservation(&mut self) {
        self.kind = None;
        self.registrations.iter_mut().for_each(|registration| registration.holder = false);
    }

    /// PREEMPT, and PREEMPT AND ABORT (SPC-5 5.14.11.4 and 5.14.11.5).
    fn preempt(&mut self, own: usize, out: &Out, effects: &mut Effects) -> Result<(), ChangeError> {
        let victim = out.action_key;
        let everybody = victim == 0 && self.kind.is_some_and(ReservationType::all_registrants);
        if victim == 0 && !everybody {
            return Err(invalid_parameter(8));
        }
        if !everybody && !self.registrations.iter().any(|registration| registration.key == victim) {
            return Err(ChangeError::Conflict);
        }
        let holder = self.registrations.iter().any(|r| r.holder && r.key == victim);
        let takes_over = everybody || self.kind.is_some() && holder;
        let before = self.kind;
        // Checked before anything is changed: the type counts only if the reservation is taken over.
        let kind = if takes_over { Some(out.kind()?) } else { None };
        let own_registration = self.registrations[own].clone();
        let is_own =
            |r: &Registration| r.initiator == own_registration.initiator && r.port == own_registration.port;
        let hit = |r: &Registration| everybody || r.key == victim;
        for registration in self.registrations.iter().filter(|r| hit(r) && !is_own(r)) {
            effects.attentions.push((registration.whom(), asc::REGISTRATIONS_PREEMPTED));
            if out.action == Action::PreemptAndAbort {
                effects.aborts.push(registration.whom());
            }
        }
        self.registrations.retain(|r| !hit(r) || takes_over && is_own(r));
        if let Some(kind) = kind {
            self.drop_reservation();
            if before != Some(kind) {
                for registration in self.registrations.iter().filter(|r| !is_own(r)) {
                    effects.attentions.push((registration.whom(), asc::RESERVATIONS_RELEASED));
                }
            }
            self.kind = Some(kind);
            if let Some(own) = self.registrations.iter_mut().find(|r| is_own(r)) {
                own.holder = !kind.all_registrants();
            }
        } else if self.registrations.is_empty() {
            self.kind = None;
        }
        self.count();
        Ok(())
    }

    /// REGISTER AND MOVE (SPC-5 5.14.8).
    fn move_to(
        &mut self,
        nexus: &Nexus,
        own: usize,
        out: &Out,
        ports: &[std::sync::Arc<TargetPort>],
    ) -> Result<(), ChangeError> {
        let kind = self.kind.ok_or(ChangeError::Check(Sense::invalid_field_in_cdb(1, Some(4))))?;
        if kind.all_registrants() || !self.registrations[own].holder {
            return Err(ChangeError::Conflict);
        }
        if out.action_key == 0 {
            return Err(invalid_parameter(8));
        }
        let port = ports.iter().find(|port| port.relative == out.move_port);
        let port = port.ok_or_else(|| invalid_parameter(18))?.clone();
        let initiator = out.ports.first().ok_or_else(|| invalid_parameter(24))?;
        // Ports of two protocols are no nexus: nobody could use or give back what is moved there.
        if initiator.protocol() != port.name.protocol() {
            return Err(invalid_parameter(24));
        }
        let to = Nexus { initiator: initiator.clone(), port };
        if to == *nexus || self.registrations[own].covers(&to) {
            return Err(invalid_parameter(24));
        }
        let from = self.registrations[own].clone();
        match self.find(&to) {
            Some(known) => self.registrations[known].key = out.action_key,
            None => self.add(&to.initiator, Some(to.port.clone()), out.action_key)?,
        }
        for registration in &mut self.registrations {
            registration.holder = registration.covers(&to);
        }
        if out.unregister {
            self.registrations.retain(|r| !(r.initiator == from.initiator && r.port == from.port));
        }
        self.aptpl = out.aptpl;
        self.count();
        Ok(())
    }

    /// RESERVE of SPC-2, in the presence of registrants as with CRH (SPC-5 5.14.3).
    pub fn reserve_unit(&self, id: NexusId, nexus: &Nexus) -> Result<Self, ChangeError> {
        if self.compatible(id, nexus)? || self.reserved == Some(id) {
            return Ok(self.clone());
        }
        match self.reserved {
            Some(_) => Err(ChangeError::Conflict),
            None => Ok(Self { reserved: Some(id), ..self.clone() }),
        }
    }

    /// RELEASE of SPC-2: of somebody else's reservation it does nothing.
    pub fn release_unit(&self, id: NexusId, nexus: &Nexus) -> Result<Self, ChangeError> {
        self.compatible(id, nexus)?;
        Ok(self.without(id))
    }

    /// The reservation by RESERVE ends with its nexus, and with a reset.
    pub fn without(&self, id: NexusId) -> Self {
        Self { reserved: self.reserved.filter(|&reserved| reserved != id), ..self.clone() }
    }

    /// The state after a reset: a persistent reservation stays.
    pub fn after_reset(&self) -> Self {
        Self { reserved: None, ..self.clone() }
    }

    /// Whether a RESERVE or RELEASE changes nothing because its nexus has persistent rights already. Where there are
    /// registrants, it conflicts for everybody else.
    fn compatible(&self, id: NexusId, nexus: &Nexus) -> Result<bool, ChangeError> {
        if self.registrations.is_empty() {
            return Ok(false);
        }
        let standing = self.standing(id, nexus);
        let may =
            self.kind.is_some_and(|kind| standing.holder || kind.for_registrants() && standing.registered);
        if may { Ok(true) } else { Err(ChangeError::Conflict) }
    }
}
