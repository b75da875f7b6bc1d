// SPDX-License-Identifier: GPL-2.0-or-later
//! What a fabric hands down.

use std::fmt;

use smallvec::SmallVec;

use super::NexusId;

/// A logical unit number in its eight-byte form (SAM-5 4.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Lun(pub u64);

impl Lun {
    /// LUN 0.
    pub const ZERO: Self = Self(0);
    /// The REPORT LUNS well known logical unit.
    pub const REPORT_LUNS: Self = Self(0xc101_0000_0000_0000);

    /// The single-level form of a small number: peripheral addressing up to 255, flat space addressing up to 16383.
    pub const fn from_index(index: u16) -> Self {
        if index < 256 { Self((index as u64) << 48) } else { Self((0x4000 | index as u64) << 48) }
    }

    /// The small number of a single-level LUN, in flat space addressing or in peripheral addressing; `None` for
    /// anything else. There is no bus but the first: what stands in place of another's number is the high part of the
    /// LUN, which some initiators put there.
    pub const fn index(self) -> Option<u16> {
        if self.0 & 0x0000_ffff_ffff_ffff != 0 {
            return None;
        }
        let top = (self.0 >> 48) as u16;
        if top >> 14 < 2 { Some(top & 0x3fff) } else { None }
    }

    /// The form that REPORT LUNS tells, of whichever form an initiator uses.
    pub const fn normal(self) -> Self {
        match self.index() {
            Some(index) => Self::from_index(index),
            None => self,
        }
    }
}

impl fmt::Display for Lun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.index() {
            Some(index) => write!(f, "{index}"),
            None => write!(f, "{:#018x}", self.0),
        }
    }
}

/// A command descriptor block of 1 to 260 bytes. Up to 32 bytes lie inline. The length is that which the fabric gave:
/// 16 for short commands on fabrics that pad.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cdb(SmallVec<[u8; 32]>);

impl Cdb {
    /// Longest block (SPC: variable length CDB).
    pub const LEN_MAX: usize = 260;

    /// Takes the bytes; `None` if there are none or more than [`Cdb::LEN_MAX`].
    pub fn new(bytes: &[u8]) -> Option<Self> {
        (1..=Self::LEN_MAX).contains(&bytes.len()).then(|| Self(SmallVec::from_slice(bytes)))
    }

    /// The operation code.
    pub fn opcode(&self) -> u8 {
        self.0[0]
    }

    /// All bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// NACA of the control byte (SAM-5 5.2): CHECK CONDITION is to establish an ACA condition. A CDB may be padded, so
    /// that its last byte says nothing.
    pub fn naca(&self) -> bool {
        let control = match self.0[0] >> 5 {
            0 => 5,
            1 | 2 => 9,
            3 => 1,
            4 => 15,
            5 => 11,
            _ => return false,
        };
        self.0.get(control).is_some_and(|control| control & 0x04 != 0)
    }
}

/// How a command wants to be ordered (SAM-5 8.6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TaskAttribute {
    /// In any order, unless ordered or head-of-queue tasks are about.
    #[default]
    Simple,
    /// After everything before it, before everything after it.
    Ordered,
    /// At once.
    HeadOfQueue,
    /// After the fault that established an ACA.
    Aca,
}

/// How many bytes the initiator has room for and offers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expected {
    /// Most bytes it takes.
    pub data_in: u32,
    /// Bytes it offers.
    pub data_out: u32,
}

/// Names a logical unit for those who run it: the same on every core, and no other's while the daemon lives. Its lower
/// half is the unit's row, which another unit may have had before; the upper half tells these apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UnitKey(pub u64);

impl UnitKey {
    /// Its row in a table of the units that there are, a small number.
    pub fn row(self) -> usize {
        self.0 as u32 as usize
    }
}

/// Gives out the keys of logical units.
#[derive(Clone, Debug, Default)]
pub struct UnitKeys {
    rows: u64,
    /// What comes next in the rows that are free.
    free: Vec<UnitKey>,
}

impl UnitKeys {
    /// A key that no logical unit has had.
    pub fn allocate(&mut self) -> UnitKey {
        self.free.pop().unwrap_or_else(|| {
            // Row 0 stands for logical units that are not there.
            self.rows += 1;
            UnitKey(self.rows)
        })
    }

    /// No core knows the unit of that key any more: its row is free.
    pub fn release(&mut self, key: UnitKey) {
        self.free.push(UnitKey(key.0 + (1 << 32)));
    }
}

/// A task's number on its core: small and dense, so that a device server may keep its own state of a task in a vector.
/// It is free again after the step that finished the task, or after the abort.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskId(pub u32);

/// A SCSI command as it came over any fabric.
#[derive(Clone, Debug)]
pub struct Command {
    /// Who sends it.
    pub nexus: NexusId,
    /// To which logical unit.
    pub lun: Lun,
    /// What.
    pub cdb: Cdb,
    /// In which order.
    pub attribute: TaskAttribute,
    /// How much data the initiator expects to move.
    pub expected: Expected,
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_row_has_another_unit_and_a_key_never_has() {
        let mut keys = UnitKeys::default();
        let (mut given, mut live) = (HashSet::new(), Vec::new());
        for round in 0..300 {
            let key = keys.allocate();
            assert!(given.insert(key), "{key:?} is another's");
            assert!((1..=7).contains(&key.row()), "{key:?}: six are there at most");
            assert!(live.iter().all(|other: &UnitKey| other.row() != key.row()), "{key:?}");
            live.push(key);
            while live.len() > 6 - round % 6 {
                keys.release(live.remove(round % live.len()));
            }
        }
    }
}
