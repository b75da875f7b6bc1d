// SPDX-License-Identifier: GPL-2.0-or-later
//! A tape library: a changer and its drives as logical units behind the disks, cartridges on media that fail like those
//! of disks, and whoever moves them ([`desk`]). A [`model`] says what each command does; [`history`] looks for an order
//! of all commands that explains every answer.

mod desk;
mod history;
mod model;
mod requests;

use serde::{Deserialize, Serialize};

use super::store::Behaviour;
use crate::ports::memory::Dice;

pub(super) use desk::{KeptRecords, LibraryDesk, blank_cartridges, look_at_the_end, write_heads};
pub(super) use history::LibraryHistory;
pub(super) use model::RequestId;
pub(super) use requests::{ATTENTION, LibraryEnding, judge, make};

/// A library, the same in every target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct LibraryShape {
    /// Drives, which have the first places.
    pub(super) drives: usize,
    /// Slots, which have the places behind them.
    pub(super) slots: usize,
    /// They are in the first slots at the beginning.
    pub(super) cartridges: usize,
    /// How their media behave.
    pub(super) store: Behaviour,
}

/// Commands of the units of a library. Places are those of [`LibraryShape`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum LibraryCommand {
    // Those of drives.
    Write {
        len: u32,
    },
    Read,
    Filemarks {
        count: u8,
        immediate: bool,
    },
    SpaceRecords(i8),
    SpaceFilemarks(i8),
    SpaceEnd,
    Locate(u8),
    Rewind,
    Erase,
    Load,
    Unload,
    /// READ POSITION, long form.
    Position,
    // Those of the changer.
    Move {
        from: usize,
        to: usize,
    },
    /// From the first place to the second, and what is there to the third.
    Exchange([usize; 3]),
    /// READ ELEMENT STATUS.
    Inventory,
}

impl LibraryCommand {
    /// For the tally.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Write { .. } => "WRITE to a tape",
            Self::Read => "READ from a tape",
            Self::Filemarks { .. } => "WRITE FILEMARKS",
            Self::SpaceRecords(_) | Self::SpaceFilemarks(_) | Self::SpaceEnd => "SPACE",
            Self::Locate(_) => "LOCATE",
            Self::Rewind => "REWIND",
            Self::Erase => "ERASE",
            Self::Load => "LOAD",
            Self::Unload => "UNLOAD",
            Self::Position => "READ POSITION",
            Self::Move { .. } => "MOVE MEDIUM",
            Self::Exchange(_) => "EXCHANGE MEDIUM",
            Self::Inventory => "READ ELEMENT STATUS",
        }
    }

    /// Whether cartridges change their places.
    fn moves(self) -> bool {
        matches!(self, Self::Move { .. } | Self::Exchange(_))
    }
}

impl LibraryShape {
    /// Of a seed.
    pub(super) fn new(dice: &mut Dice, store: Behaviour) -> Self {
        let drives = 1 + usize::try_from(dice.below(2)).expect("few");
        let slots = 2 + usize::try_from(dice.below(2)).expect("few");
        // Records lie in whole blocks of 4 KiB, and nothing of the store fails: what then becomes of a tape is tried
        // beside its format.
        let store = Behaviour { fails: 0.0, ..store };
        Self { drives, slots, cartridges: slots, store }
    }

    /// Its units: the changer, then the drives.
    pub(super) fn units(&self) -> usize {
        1 + self.drives
    }

    fn places(&self) -> usize {
        self.drives + self.slots
    }

    /// A command, and the unit of the library that it is for.
    pub(super) fn command(&self, dice: &mut Dice) -> (usize, LibraryCommand) {
        use LibraryCommand as C;
        let mut place = || usize::try_from(dice.below(self.places() as u64)).expect("few");
        let [a, b, c] = [place(), place(), place()];
        // Above all what brings a cartridge to a drive, and takes it out.
        let (drive, slot) = (a % self.drives, self.drives + b % self.slots);
        let count = i8::try_from(dice.below(9)).expect("small") - 4;
        let command = match dice.below(100) {
            0..12 => C::Move { from: slot, to: drive },
            12..16 => C::Move { from: drive, to: slot },
            16..18 => C::Move { from: a, to: b },
            18..21 if a != b => C::Exchange([a, b, if dice.chance(0.5) { a } else { c }]),
            18..24 => C::Inventory,
            24..50 => C::Write { len: 8 + u32::try_from(dice.below(12_000)).expect("small") },
            50..62 => C::Read,
            62..70 => {
                let count = u8::try_from(dice.below(3)).expect("small");
                C::Filemarks { count, immediate: dice.chance(0.3) }
            }
            70..74 => C::SpaceRecords(count),
            74..78 => C::SpaceFilemarks(count),
            78..81 => C::SpaceEnd,
            81..86 => C::Locate(u8::try_from(dice.below(16)).expect("small")),
            86..91 => C::Rewind,
            91..93 => C::Erase,
            93..95 => C::Load,
            95..96 => C::Unload,
            _ => C::Position,
        };
        let changer = matches!(command, C::Move { .. } | C::Exchange(_) | C::Inventory);
        (if changer { 0 } else { 1 + drive }, command)
    }
}
