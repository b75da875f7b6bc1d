// SPDX-License-Identifier: GPL-2.0-or-later
//! The elements of a media changer, and which cartridge is where (SMC-3 4.2). Nothing moves here: a move is looked at,
//! and what it has led to is noted.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use crate::scsi::{DriveChange, Sense, asc, key};

/// Element type codes (SMC-3 table 10).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum ElementType {
    /// The hand that carries cartridges.
    Transport = 1,
    /// A slot.
    Storage = 2,
    /// A slot that people reach, too.
    ImportExport = 3,
    /// A drive.
    DataTransfer = 4,
}

/// All of them, by code.
pub(super) const TYPES: [ElementType; 4] =
    [ElementType::Transport, ElementType::Storage, ElementType::ImportExport, ElementType::DataTransfer];

impl ElementType {
    /// That of a code.
    pub(super) fn of(code: u8) -> Option<Self> {
        TYPES.into_iter().find(|kind| *kind as u8 == code)
    }

    /// Its place in a list of all.
    pub(super) fn place(self) -> usize {
        self as usize - 1
    }
}

/// Most characters of a barcode: the volume identification field of a volume tag.
pub(super) const BARCODE_MAX: usize = 32;

/// A cartridge, by what is printed on it, which no two in a library have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Volume {
    /// At most [`BARCODE_MAX`] characters that can be printed.
    pub(super) barcode: Arc<str>,
    /// The slot that it came from last.
    pub(super) source: Option<u16>,
}

/// A place for a cartridge.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Element {
    /// What is there.
    pub(super) volume: Option<Volume>,
    /// Somebody has put it there by hand.
    pub(super) by_hand: bool,
    /// An import/export element that people have access to at the moment, and the changer has not.
    pub(super) open: bool,
}

/// The addresses of the elements of each type, in the order of the codes of the types.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ElementAddresses([Range<u16>; 4]);

impl ElementAddresses {
    /// Where elements of each type begin, and how many there are. `None` if an address is taken twice, or there is none
    /// left.
    pub fn new(first: [u16; 4], count: [u16; 4]) -> Option<Self> {
        let mut ranges: [Range<u16>; 4] = Default::default();
        for (range, (first, count)) in ranges.iter_mut().zip(first.into_iter().zip(count)) {
            *range = first..first.checked_add(count)?;
        }
        let apart = |a: &Range<u16>, b: &Range<u16>| {
            a.is_empty() || b.is_empty() || a.end <= b.start || b.end <= a.start
        };
        let all = (0..4).all(|a| (a + 1..4).all(|b| apart(&ranges[a], &ranges[b])));
        all.then_some(Self(ranges))
    }

    /// Those of a type.
    pub(super) fn of(&self, kind: ElementType) -> Range<u16> {
        self.0[kind.place()].clone()
    }

    /// The type of the element at an address.
    pub(super) fn kind(&self, address: u16) -> Option<ElementType> {
        TYPES.into_iter().find(|kind| self.of(*kind).contains(&address))
    }

    /// All types that there are elements of, by ascending address.
    pub(super) fn in_order(&self) -> Vec<ElementType> {
        let mut kinds: Vec<_> = TYPES.into_iter().filter(|kind| !self.of(*kind).is_empty()).collect();
        kinds.sort_by_key(|kind| self.of(*kind).start);
        kinds
    }
}

/// Why a cartridge does not move, and which field of the CDB says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MoveRefusal {
    /// There is no such element, or none of that type may be there.
    NoElement,
    /// Such moves are none that this changer makes.
    NotPossible,
    /// Nothing is at the source.
    SourceEmpty,
    /// Something is at the destination.
    DestinationFull,
    /// People have access to the element.
    Open,
}

impl MoveRefusal {
    /// The sense data, for an address at that byte of the CDB.
    pub(super) fn sense(self, byte: u16) -> Sense {
        match self {
            Self::NoElement => Sense::illegal(asc::INVALID_ELEMENT_ADDRESS).pointing_at(true, byte, None),
            Self::NotPossible => Sense::invalid_field_in_cdb(byte, None),
            Self::SourceEmpty => Sense::illegal(asc::MEDIUM_SOURCE_ELEMENT_EMPTY),
            Self::DestinationFull => Sense::illegal(asc::MEDIUM_DESTINATION_ELEMENT_FULL),
            Self::Open => Sense::new(key::NOT_READY, asc::MEDIUM_NOT_PRESENT_TRAY_OPEN),
        }
    }
}

/// Cartridges that change places at the same time: each goes from the first address to the second.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CartridgeMoves(pub(super) Vec<(u16, u16)>);

/// Which cartridge is where. Its record is small and whole: it is replaced when a movement has ended, so that after a
/// restart every cartridge is in one place.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Inventory {
    addresses: ElementAddresses,
    elements: [Vec<Element>; 4],
}

impl fmt::Debug for Inventory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let full = self.all().filter_map(|(at, element)| Some((at, &element.volume.as_ref()?.barcode)));
        f.debug_map().entries(full).finish()
    }
}

impl Inventory {
    /// Of a library that is empty.
    pub(super) fn new(addresses: ElementAddresses) -> Self {
        let elements = TYPES.map(|kind| vec![Element::default(); addresses.of(kind).len()]);
        Self { addresses, elements }
    }

    /// What is where.
    pub(super) fn addresses(&self) -> &ElementAddresses {
        &self.addresses
    }

    /// The element at an address.
    pub(super) fn get(&self, address: u16) -> Option<&Element> {
        let kind = self.addresses.kind(address)?;
        Some(&self.elements[kind.place()][usize::from(address - self.addresses.of(kind).start)])
    }

    /// The same, to be changed.
    pub(super) fn get_mut(&mut self, address: u16) -> Option<&mut Element> {
        let kind = self.addresses.kind(address)?;
        Some(&mut self.elements[kind.place()][usize::from(address - self.addresses.of(kind).start)])
    }

    /// All elements of a type, by ascending address.
    pub(super) fn of(&self, kind: ElementType) -> impl Iterator<Item = (u16, &Element)> {
        self.addresses.of(kind).zip(&self.elements[kind.place()])
    }

    /// All elements, by ascending address.
    pub(super) fn all(&self) -> impl Iterator<Item = (u16, &Element)> {
        self.addresses.in_order().into_iter().flat_map(|kind| self.of(kind))
    }

    /// All elements.
    pub(super) fn all_mut(&mut self) -> impl Iterator<Item = &mut Element> {
        self.elements.iter_mut().flatten()
    }

    /// Puts a cartridge into a slot: that one if it is free, else the first that is. `false` if there is none.
    pub(super) fn put_away(&mut self, barcode: Arc<str>, slot: Option<u16>) -> bool {
        let empty = |&at: &u16| self.get(at).is_some_and(|element| element.volume.is_none());
        let free = slot.filter(empty).or_else(|| self.addresses.of(ElementType::Storage).find(empty));
        let Some(element) = free.and_then(|at| self.get_mut(at)) else { return false };
        element.volume = Some(Volume { barcode, source: None });
        true
    }

    /// Where a cartridge is.
    pub(super) fn find(&self, barcode: &str) -> Option<u16> {
        let is =
            |element: &Element| element.volume.as_ref().is_some_and(|volume| *volume.barcode == *barcode);
        self.all().find(|(_, element)| is(element)).map(|(address, _)| address)
    }

    /// A cartridge to be moved from one address to another: who refuses, the source (`true`) or the destination.
    pub(super) fn check_move(&self, from: u16, to: u16) -> Result<CartridgeMoves, (bool, MoveRefusal)> {
        self.may_leave(from).map_err(|why| (true, why))?;
        // Back to where it is: nothing is in its way.
        if from != to {
            self.may_take(to).map_err(|why| (false, why))?;
        }
        Ok(CartridgeMoves(vec![(from, to)]))
    }

    /// A cartridge to be moved from `source` to `first`, and the one that is there to `second`, which may be the
    /// source: at which of them (0, 1, 2) there is something wrong.
    pub(super) fn check_exchange(
        &self,
        source: u16,
        first: u16,
        second: u16,
    ) -> Result<CartridgeMoves, (usize, MoveRefusal)> {
        self.may_leave(source).map_err(|why| (0, why))?;
        self.may_leave(first).map_err(|why| (1, why))?;
        if source == first {
            return Err((1, MoveRefusal::NotPossible));
        }
        if second != source {
            self.may_take(second).map_err(|why| (2, why))?;
        }
        Ok(CartridgeMoves(vec![(first, second), (source, first)]))
    }

    fn reached(&self, address: u16) -> Result<&Element, MoveRefusal> {
        match self.addresses.kind(address) {
            None => Err(MoveRefusal::NoElement),
            // Nothing stays in the hand.
            Some(ElementType::Transport) => Err(MoveRefusal::NotPossible),
            Some(_) => {
                let element = self.get(address).ok_or(MoveRefusal::NoElement)?;
                if element.open { Err(MoveRefusal::Open) } else { Ok(element) }
            }
        }
    }

    fn may_leave(&self, from: u16) -> Result<(), MoveRefusal> {
        self.reached(from)?.volume.as_ref().map(drop).ok_or(MoveRefusal::SourceEmpty)
    }

    fn may_take(&self, to: u16) -> Result<(), MoveRefusal> {
        match self.reached(to)?.volume {
            Some(_) => Err(MoveRefusal::DestinationFull),
            None => Ok(()),
        }
    }

    /// What a movement puts into drives and takes out of them, in the order in which that can be done: a cartridge that
    /// goes from one to another leaves the first before.
    pub(super) fn changes_of_drives(&self, movement: &CartridgeMoves) -> Vec<DriveChange> {
        let drives = self.addresses.of(ElementType::DataTransfer);
        let mut after = self.clone();
        after.moved(movement);
        let touched = movement.0.iter().flat_map(|&(from, to)| [from, to]);
        let mut changed: Vec<u16> = touched.filter(|at| drives.contains(at)).collect();
        changed.sort_unstable();
        changed.dedup();
        let barcode = |inventory: &Self, at| Some(inventory.get(at)?.volume.as_ref()?.barcode.clone());
        changed.retain(|&at| barcode(self, at) != barcode(&after, at));
        let change = |&at: &u16, barcode| DriveChange { drive: usize::from(at - drives.start), barcode };
        // Those that another drive waits for go first.
        let empty = changed.iter().filter(|&&at| changed.len() > 1 && barcode(self, at).is_some());
        let mut changes: Vec<_> = empty.map(|at| change(at, None)).collect();
        let last = changed.iter().map(|at| change(at, barcode(&after, *at)));
        changes.extend(last.filter(|change| change.barcode.is_some() || changed.len() == 1));
        changes
    }

    /// Notes that a movement has taken place. What is moved knows the slot that it came from last.
    pub(super) fn moved(&mut self, movement: &CartridgeMoves) {
        let taken: Vec<_> = movement.0.iter().map(|&(from, _)| self.get_mut(from).and_then(take)).collect();
        for (&(from, to), volume) in movement.0.iter().zip(taken) {
            let Some(mut volume) = volume else { continue };
            if self.addresses.kind(from) == Some(ElementType::Storage) {
                volume.source = Some(from);
            }
            if let Some(element) = self.get_mut(to) {
                (element.volume, element.by_hand) = (Some(volume), false);
            }
        }
    }
}

fn take(element: &mut Element) -> Option<Volume> {
    element.by_hand = false;
    element.volume.take()
}
