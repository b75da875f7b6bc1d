// SPDX-License-Identifier: GPL-2.0-or-later
//! Media that come to a logical unit and go from it, which are not its initiators' affair: an operator's, or a
//! changer's.

use super::flags::UnitFlags;
use super::unit::PrimaryUnit;
use crate::io::{Done, Op};
use crate::scsi::{Resume, Sense, Step, asc, key};

/// Whether there is a medium.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MediumPresence {
    /// There is none.
    Absent,
    /// One is being made ready.
    Coming,
    /// The same, and it was there before the start, or before another unit took the place of the one that had it.
    Returning,
    /// There is one.
    Present,
}

impl PrimaryUnit {
    /// A medium has gone, or come.
    pub fn set_presence(&self, presence: MediumPresence) {
        self.change_flags(|flags| {
            flags.set(UnitFlags::NO_MEDIUM, presence != MediumPresence::Present);
            let (coming, returning) = (MediumPresence::Coming, MediumPresence::Returning);
            flags.set(UnitFlags::MEDIUM_COMES, presence == coming || presence == returning);
            if presence != coming {
                flags.set(UnitFlags::MEDIUM_RETURNS, presence == returning);
            }
        });
    }

    /// Why nothing is carried out that needs a medium, if there is none.
    pub fn absence(&self) -> Option<Sense> {
        let flags = self.flags();
        flags.has(UnitFlags::NO_MEDIUM).then(|| match flags.has(UnitFlags::MEDIUM_COMES) {
            true => Sense::new(key::NOT_READY, asc::LOGICAL_UNIT_IS_IN_PROCESS_OF_BECOMING_READY),
            false => Sense::new(key::NOT_READY, asc::MEDIUM_NOT_PRESENT),
        })
    }
}

/// A medium is let go, when what was written is on it.
#[derive(Clone, Copy, Debug)]
pub struct MediumRelease {
    /// Even if that cannot be brought there.
    pub(super) force: bool,
}

impl MediumRelease {
    pub(super) fn advance(self, answer: Option<Resume>) -> Step {
        match answer {
            None => Step::Store(Op::Flush),
            Some(answer) => {
                let flushed = matches!(answer, Resume::Stored(Done::Finished));
                Step::ReleaseMedium { stays: !flushed && !self.force }
            }
        }
    }
}
