// SPDX-License-Identifier: GPL-2.0-or-later
//! Unit attentions (SAM-5 5.14): what one I_T nexus has yet to be told about one logical unit.

use smallvec::SmallVec;

use super::{Interlock, Status, asc};

/// Most conditions that wait at once; a reset replaces all before it, so that few are ever needed.
const ATTENTIONS_MAX: usize = 8;

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
