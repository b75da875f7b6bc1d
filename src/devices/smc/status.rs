// SPDX-License-Identifier: GPL-2.0-or-later
//! Element status data (SMC-3 6.11): what READ ELEMENT STATUS and REQUEST VOLUME ELEMENT ADDRESS answer.

use super::elements::{BARCODE_MAX, Element, ElementType, Inventory};
use super::personality::DriveNaming;
use crate::scsi::primary::Identity;
use crate::wire::scsi::DataIn;

/// Bytes of the header of all, and of that of each page.
const HEADER: usize = 8;

/// Bytes of a descriptor before the volume tag.
const FIXED: usize = 12;

/// Bytes of a volume tag: the barcode, two that are reserved, a sequence number.
const TAG: usize = BARCODE_MAX + 4;

/// Bytes of an identifier descriptor without its identifier.
const IDENTIFIER_HEADER: usize = 4;

impl DriveNaming {
    /// The identifier of a drive: its type, and the fields of the drive's names with their widths.
    fn identifier(self, drive: &Identity) -> (u8, Vec<(&[u8], usize)>) {
        const VENDOR_SPECIFIC: u8 = 0;
        const T10: u8 = 1;
        match self {
            Self::Full => (T10, vec![(drive.vendor(), 8), (drive.product(), 16), (drive.serial(), 10)]),
            Self::Serial => (VENDOR_SPECIFIC, vec![(drive.serial(), 20)]),
        }
    }

    /// Bytes of it.
    fn len(self) -> usize {
        match self {
            Self::Full => 34,
            Self::Serial => 20,
        }
    }
}

/// Which elements are asked for, and what of them.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ElementStatusRequest {
    /// Of that type; `None`: of any.
    pub(super) kind: Option<ElementType>,
    /// From that address on.
    pub(super) start: u16,
    /// Most of them.
    pub(super) count: u16,
    /// With volume tags.
    pub(super) tags: bool,
    /// With the names of drives.
    pub(super) identifiers: Option<DriveNaming>,
}

impl ElementStatusRequest {
    /// The elements that it asks for, in order, if they are so.
    fn chosen<'a>(
        &'a self,
        inventory: &'a Inventory,
        wanted: impl Fn(&Element) -> bool + 'a,
    ) -> impl Iterator<Item = (ElementType, u16, &'a Element)> {
        let kinds = inventory.addresses().in_order().into_iter();
        kinds
            .filter(|kind| self.kind.is_none_or(|only| only == *kind))
            .flat_map(|kind| inventory.of(kind).map(move |(address, element)| (kind, address, element)))
            .filter(move |(_, address, element)| *address >= self.start && wanted(element))
            .take(self.count.into())
    }

    /// Whether there is any element at or above the address that it begins at.
    pub(super) fn is_within(&self, inventory: &Inventory) -> bool {
        let kinds = inventory.addresses().in_order().into_iter();
        kinds
            .filter(|kind| self.kind.is_none_or(|only| only == *kind))
            .any(|kind| inventory.addresses().of(kind).end > self.start)
    }

    fn descriptor_len(&self) -> usize {
        let tag = if self.tags { TAG } else { 0 };
        FIXED + tag + IDENTIFIER_HEADER + self.identifiers.map_or(0, DriveNaming::len)
    }

    /// The data, of those elements that are `wanted`, for `allocation` bytes. The header counts what there is, and
    /// descriptors are whole: those for which there is no room are left out. `action` stands in the header.
    pub(super) fn answer(
        &self,
        inventory: &Inventory,
        drives: &[Identity],
        wanted: impl Fn(&Element) -> bool,
        action: u8,
        allocation: usize,
    ) -> DataIn {
        let all: Vec<_> = self.chosen(inventory, wanted).collect();
        let len = self.descriptor_len();
        let pages: Vec<_> = all.chunk_by(|a, b| a.0 == b.0).collect();
        let mut data = DataIn::new();
        data.u16(all.first().map_or(0, |(_, address, _)| *address));
        data.u16(all.len().try_into().unwrap_or(u16::MAX));
        data.u32(u32::from(action) << 24 | count24(pages.len() * HEADER + all.len() * len));
        for page in pages {
            if data.len() + HEADER > allocation {
                break;
            }
            const PVOLTAG: u8 = 0x80;
            data.u8(page[0].0 as u8).u8(if self.tags { PVOLTAG } else { 0 });
            data.u16(u16::try_from(len).expect("a short descriptor")).u32(count24(page.len() * len));
            for (kind, address, element) in page {
                if data.len() + len > allocation {
                    return data;
                }
                let drive = match kind {
                    ElementType::DataTransfer => {
                        let first = inventory.addresses().of(*kind).start;
                        drives.get(usize::from(address - first))
                    }
                    _ => None,
                };
                self.describe(*kind, *address, element, drive, &mut data);
            }
        }
        data
    }

    fn describe(
        &self,
        kind: ElementType,
        address: u16,
        element: &Element,
        drive: Option<&Identity>,
        data: &mut DataIn,
    ) {
        const FULL: u8 = 0x01;
        const BY_HAND: u8 = 0x02;
        const ACCESS: u8 = 0x08;
        const EXPORT: u8 = 0x10;
        const IMPORT: u8 = 0x20;
        const SOURCE_VALID: u8 = 0x80;
        let begin = data.len();
        let volume = element.volume.as_ref();
        let mut flags = if volume.is_some() { FULL } else { 0 };
        if kind != ElementType::Transport && !element.open {
            flags |= ACCESS;
        }
        if kind == ElementType::ImportExport {
            flags |= IMPORT | EXPORT | if element.by_hand { BY_HAND } else { 0 };
        }
        data.u16(address).u8(flags).u8(0).u8(0).u8(0).pad_to(begin + 9);
        let source = volume.and_then(|volume| volume.source);
        data.u8(if source.is_some() { SOURCE_VALID } else { 0 }).u16(source.unwrap_or_default());
        if self.tags {
            let tag = data.len();
            if let Some(volume) = volume {
                data.bytes(volume.barcode.as_bytes());
                while data.len() < tag + BARCODE_MAX {
                    data.u8(b' ');
                }
            }
            data.pad_to(tag + TAG);
        }
        if let (Some(drive), Some(naming)) = (drive, self.identifiers) {
            const ASCII: u8 = 2;
            let (kind, fields) = naming.identifier(drive);
            data.u8(ASCII).u8(kind).u8(0).u8(u8::try_from(naming.len()).expect("short"));
            for (text, width) in fields {
                let mut bytes: Vec<u8> = text.iter().copied().take(width).collect();
                bytes.resize(width, b' ');
                data.bytes(&bytes);
            }
        }
        data.pad_to(begin + self.descriptor_len());
    }
}

/// A number of 24 bits.
fn count24(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX).min(0x00ff_ffff)
}
