// SPDX-License-Identifier: GPL-2.0-or-later
//! The attributes of a cartridge's memory (MAM), which the image keeps as they are.

use super::layout::{BLOCK_BYTES, begin, put32, put64, seal, sealed};
use crate::wire::scsi::{be16, be32, be64};

const MAGIC: &[u8; 8] = b"ptgtATTR";
const HEADER: usize = 64;
const ENTRY: usize = 8;

/// Most bytes of all attributes, with 8 for each.
pub const ATTRIBUTE_BYTES_MAX: usize = (128 << 10) - HEADER;

/// An attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TapeAttribute {
    /// The partition it belongs to; `None`: the whole cartridge.
    pub partition: Option<u8>,
    /// Its identifier.
    pub identifier: u16,
    /// Byte 2 of an attribute of SPC: read-only, and its format.
    pub format: u8,
    /// Its value.
    pub value: Vec<u8>,
}

/// Bytes of these, of [`ATTRIBUTE_BYTES_MAX`].
pub(super) fn bytes_of(attributes: &[TapeAttribute]) -> usize {
    attributes.iter().map(|attribute| ENTRY + attribute.value.len()).sum()
}

/// Whether the image has room for them.
pub(super) fn fit(attributes: &[TapeAttribute]) -> bool {
    let short = |attribute: &TapeAttribute| u16::try_from(attribute.value.len()).is_ok();
    attributes.iter().all(short)
        && attributes.len() <= u16::MAX.into()
        && bytes_of(attributes) <= ATTRIBUTE_BYTES_MAX
}

pub(super) fn encode(attributes: &[TapeAttribute], identity: u64, sequence: u64) -> Vec<u8> {
    let length = HEADER + bytes_of(attributes);
    let mut bytes = vec![0; length.next_multiple_of(BLOCK_BYTES)];
    begin(&mut bytes, MAGIC, 0, u16::try_from(attributes.len()).unwrap_or(0), identity);
    put64(&mut bytes, 24, sequence);
    put32(&mut bytes, 32, u32::try_from(length).unwrap_or(0));
    let mut at = HEADER;
    for TapeAttribute { partition, identifier, format, value } in attributes {
        bytes[at..at + 2].copy_from_slice(&[u8::from(partition.is_some()), partition.unwrap_or(0)]);
        bytes[at + 2..at + 4].copy_from_slice(&identifier.to_be_bytes());
        bytes[at + 4] = *format;
        bytes[at + 6..at + 8].copy_from_slice(&u16::try_from(value.len()).unwrap_or(0).to_be_bytes());
        bytes[at + ENTRY..at + ENTRY + value.len()].copy_from_slice(value);
        at += ENTRY + value.len();
    }
    seal(&mut bytes[..length]);
    bytes
}

/// The attributes in these bytes, with their sequence number.
pub(super) fn decode(bytes: &[u8], identity: u64) -> Option<(Vec<TapeAttribute>, u64)> {
    let bytes = bytes.get(..be32(bytes, 32) as usize)?;
    sealed(bytes, MAGIC)?;
    if be64(bytes, 16) != identity || bytes.len() < HEADER {
        return None;
    }
    let mut rest = &bytes[HEADER..];
    let mut attributes = Vec::new();
    for _ in 0..be16(bytes, 10) {
        let (entry, behind) = rest.split_at_checked(ENTRY)?;
        let (value, behind) = behind.split_at_checked(be16(entry, 6).into())?;
        attributes.push(TapeAttribute {
            partition: (entry[0] != 0).then_some(entry[1]),
            identifier: be16(entry, 2),
            format: entry[4],
            value: value.into(),
        });
        rest = behind;
    }
    let sequence = be64(bytes, 24);
    (sequence < u64::MAX / 2).then_some((attributes, sequence))
}
