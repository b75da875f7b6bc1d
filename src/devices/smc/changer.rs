// SPDX-License-Identifier: GPL-2.0-or-later
//! A media changer: what is where, and what is searched for.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use super::elements::{
    BARCODE_MAX, CartridgeMoves, Element, ElementAddresses, ElementType, Inventory, Volume,
};
use super::mode;
use super::personality::{DriveNaming, LibraryPersonality};
use super::tags::TagSearch;
use crate::io::Record;
use crate::scsi::DriveChange;
use crate::scsi::primary::{self, FurnishedLibrary, Identity, MediaLibrary, PrimaryUnit, UnitFlags};

/// A movement is under way. While its task holds the unit nobody sees that; one whose task was aborted goes on to its
/// end.
pub(super) const MOVING: UnitFlags = UnitFlags(0x10_0000);

/// The record of what is where.
pub(super) const INVENTORY_RECORD: &str = "inventory";

/// A changer's job.
pub(super) type Job<'a> = primary::Job<'a, MediaChanger>;

/// See the module.
#[derive(Debug)]
pub struct MediaChanger {
    pub(super) primary: PrimaryUnit,
    personality: &'static LibraryPersonality,
    /// The names of its drives.
    drives: Mutex<Vec<Identity>>,
    inventory: Mutex<Inventory>,
    search: Mutex<Option<TagSearch>>,
    /// Which state of the inventory was kept last.
    made: AtomicU64,
}

impl MediaChanger {
    /// A changer of that kind and those names, with these elements, which are empty.
    pub fn new(
        personality: &'static LibraryPersonality,
        identity: Identity,
        management: Option<Arc<str>>,
        epoch: u64,
        addresses: ElementAddresses,
    ) -> Self {
        let primary = PrimaryUnit::new::<Self>(identity, management, epoch, mode::initial(&addresses));
        let (drives, search, made) = Default::default();
        Self { primary, personality, drives, inventory: Mutex::new(Inventory::new(addresses)), search, made }
    }

    /// How element status data name its drives.
    pub(super) fn naming(&self) -> DriveNaming {
        self.personality.naming
    }

    pub(super) fn inventory(&self) -> MutexGuard<'_, Inventory> {
        self.inventory.lock().expect("nobody panics with it")
    }

    /// Where each cartridge is.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn whereabouts(&self) -> Vec<(u16, Arc<str>)> {
        let inventory = self.inventory();
        let full =
            inventory.all().filter_map(|(at, element)| Some((at, element.volume.as_ref()?.barcode.clone())));
        full.collect()
    }

    pub(super) fn drives(&self) -> MutexGuard<'_, Vec<Identity>> {
        self.drives.lock().expect("nobody panics with it")
    }

    pub(super) fn search_for(&self, search: TagSearch) {
        *self.search.lock().expect("nobody panics with it") = Some(search);
    }

    pub(super) fn take_search(&self) -> Option<TagSearch> {
        self.search.lock().expect("nobody panics with it").take()
    }

    /// What is kept before a movement counts as done: the inventory behind it.
    pub(super) fn record_of(&self, movement: &CartridgeMoves) -> Record {
        let mut after = self.inventory().clone();
        after.moved(movement);
        let generation = self.made.fetch_add(1, Ordering::Relaxed) + 1;
        Record { name: INVENTORY_RECORD, generation, bytes: encode(&after) }
    }

    pub(super) fn moved(&self, movement: &CartridgeMoves) {
        self.inventory().moved(movement);
    }
}

impl MediaLibrary for MediaChanger {
    fn record_name(&self) -> &'static str {
        INVENTORY_RECORD
    }

    fn furnish(
        &self,
        record: Option<&[u8]>,
        barcodes: &[String],
        drives: Vec<Identity>,
    ) -> Result<FurnishedLibrary, &'static str> {
        let mut inventory = self.inventory();
        if let Some(record) = record {
            decode(record, &mut inventory)?;
        }
        let mut furnished = FurnishedLibrary::default();
        let gone = |volume: &mut Volume| barcodes.iter().all(|barcode| **barcode != *volume.barcode);
        for element in inventory.all_mut() {
            furnished.missing.extend(element.volume.take_if(gone).map(|volume| volume.barcode.to_string()));
        }
        for barcode in barcodes {
            if inventory.find(barcode).is_none() && !inventory.put_away(barcode.as_str().into(), None) {
                furnished.left_over.push(barcode.clone());
            }
        }
        let in_drive = |(drive, (_, element)): (usize, (u16, &Element))| {
            Some(DriveChange { drive, barcode: Some(element.volume.as_ref()?.barcode.clone()) })
        };
        let all = inventory.of(ElementType::DataTransfer).enumerate();
        furnished.in_drives = all.filter_map(in_drive).collect();
        drop(inventory);
        *self.drives() = drives;
        Ok(furnished)
    }

    fn not_loaded(&self, drive: usize) {
        let mut inventory = self.inventory();
        let address = inventory.addresses().of(ElementType::DataTransfer).nth(drive);
        let element = address.and_then(|address| inventory.get_mut(address));
        if let Some(volume) = element.and_then(|element| element.volume.take())
            && !inventory.put_away(volume.barcode.clone(), volume.source)
            && let Some(element) = address.and_then(|address| inventory.get_mut(address))
        {
            element.volume = Some(volume);
        }
    }
}

/// Version of the record.
const VERSION: u8 = 1;

/// Most bytes of a cartridge in the record.
pub(super) const ENTRY_MAX: usize = 6 + BARCODE_MAX;

/// The record: a version; then of each cartridge its address, the slot that it came from (or nothing), whether it was
/// put there by hand, and the length of its barcode with that.
fn encode(inventory: &Inventory) -> Vec<u8> {
    let mut bytes = vec![VERSION];
    for (address, element) in inventory.all() {
        let Some(Volume { barcode, source }) = &element.volume else { continue };
        bytes.extend(address.to_be_bytes());
        bytes.push(u8::from(source.is_some()) | u8::from(element.by_hand) << 1);
        bytes.extend(source.unwrap_or_default().to_be_bytes());
        bytes.push(u8::try_from(barcode.len()).expect("at most BARCODE_MAX"));
        bytes.extend(barcode.bytes());
    }
    bytes
}

fn decode(record: &[u8], inventory: &mut Inventory) -> Result<(), &'static str> {
    const DAMAGED: &str = "damaged";
    let mut found = Inventory::new(inventory.addresses().clone());
    let [VERSION, rest @ ..] = record else { return Err("of another version") };
    let mut rest = rest;
    while let [a, b, flags, c, d, len, tail @ ..] = rest {
        let (barcode, others) = tail.split_at_checked((*len).into()).ok_or(DAMAGED)?;
        let barcode = std::str::from_utf8(barcode).ok().filter(|text| is_barcode(text)).ok_or(DAMAGED)?;
        if found.find(barcode).is_some() {
            return Err("one cartridge in two places");
        }
        let source = (flags & 1 != 0).then(|| u16::from_be_bytes([*c, *d]));
        if let Some(element) = found.get_mut(u16::from_be_bytes([*a, *b])) {
            if element.volume.is_some() {
                return Err("two cartridges in one place");
            }
            element.volume = Some(Volume { barcode: barcode.into(), source });
            element.by_hand = flags & 2 != 0;
        }
        rest = others;
    }
    if !rest.is_empty() {
        return Err(DAMAGED);
    }
    *inventory = found;
    Ok(())
}

/// Whether that is what can be printed on a cartridge: letters, digits and what is between them.
pub(super) fn is_barcode(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    (1..=BARCODE_MAX).contains(&text.len()) && text.bytes().all(fits)
}
