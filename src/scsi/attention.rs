// SPDX-License-Identifier: GPL-2.0-or-later
//! Unit attentions (SAM-5 5.14): what a command makes others know, and what one I_T nexus has yet to be told about one
//! logical unit.

use smallvec::SmallVec;

use super::{Nexus, PortName, Status, UnitKey, asc};

/// Some nexuses of a logical unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whom {
    /// All but the one whose command it is.
    Others,
    /// All, and that one too: it is another logical unit, or the rule says so.
    All,
    /// That one alone.
    Sender,
    /// Those of an initiator port, at one target port (by its relative identifier) or at all, but for that one.
    Port(PortName, Option<u16>),
}

impl Whom {
    /// Whether a nexus is meant, which is the sender of the command or is not.
    pub fn includes(&self, nexus: &Nexus, sender: bool) -> bool {
        match self {
            Self::Others => !sender,
            Self::All => true,
            Self::Sender => sender,
            Self::Port(initiator, port) => {
                !sender
                    && *initiator == nexus.initiator
                    && port.is_none_or(|port| port == nexus.port.relative)
            }
        }
    }
}

/// A unit attention that the end of a command establishes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attention {
    /// At which logical unit; `None` is the command's own. One that is gone is told nothing.
    pub unit: Option<UnitKey>,
    /// For which of its nexuses.
    pub whom: Whom,
    /// `ASC << 8 | ASCQ`.
    pub code: u16,
}

impl Attention {
    /// At the command's own logical unit for all nexuses but the sender, as most are.
    pub const fn others(code: u16) -> Self {
        Self { unit: None, whom: Whom::Others, code }
    }
}

/// Most conditions that wait at once; a reset replaces all before it, so that few are ever needed.
const ATTENTIONS_MAX: usize = 8;

/// What becomes of a unit attention that CHECK CONDITION has told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Interlock {
    /// It is cleared.
    #[default]
    Cleared,
    /// It stays until REQUEST SENSE tells it.
    Kept,
    /// The same, and BUSY, TASK SET FULL and RESERVATION CONFLICT establish one, too.
    KeptAndMade,
}

/// The unit attentions pending for one nexus at one logical unit, most severe first.
#[derive(Clone, Debug, Default)]
pub struct UnitAttentions(SmallVec<[u16; 2]>);

impl UnitAttentions {
    /// Establishes a condition (`ASC << 8 | ASCQ`). A condition that is pending already is not doubled; one of ASC 29h
    /// (reset) clears all others, which it implies.
    pub fn establish(&mut self, code: u16) {
        if code >> 8 == 0x29 {
            self.0.clear();
        } else if self.0.contains(&code) {
            return;
        }
        if self.0.len() < ATTENTIONS_MAX {
            self.0.push(code);
        }
    }

    /// Reports and clears the next condition.
    pub fn take(&mut self) -> Option<u16> {
        (!self.0.is_empty()).then(|| self.0.remove(0))
    }

    /// A command has ended with that status, which establishes a condition if UA_INTLCK_CTRL says so.
    pub fn after(&mut self, status: Status, interlock: Interlock) {
        let code = match status {
            Status::Busy => asc::PREVIOUS_BUSY_STATUS,
            Status::TaskSetFull => asc::PREVIOUS_TASK_SET_FULL_STATUS,
            Status::ReservationConflict => asc::PREVIOUS_RESERVATION_CONFLICT_STATUS,
            _ => return,
        };
        if interlock == Interlock::KeptAndMade {
            self.establish(code);
        }
    }

    /// The next condition, which stays.
    pub fn first(&self) -> Option<u16> {
        self.0.first().copied()
    }

    /// Whether none is pending.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reset_clears_what_it_implies() {
        let mut a = UnitAttentions::default();
        a.establish(0x2a01);
        a.establish(0x2a01);
        a.establish(0x2903);
        a.establish(0x2a09);
        assert_eq!([a.take(), a.take(), a.take()], [Some(0x2903), Some(0x2a09), None]);
    }
}
