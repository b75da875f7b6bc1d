// SPDX-License-Identifier: GPL-2.0-or-later
//! Cartridges searched for by what is printed on them: SEND VOLUME TAG says for which, REQUEST VOLUME ELEMENT ADDRESS
//! where they are (SMC-3 6.13, 6.15).

use super::elements::{BARCODE_MAX, Element, ElementType};
use crate::scsi::{Sense, asc};
use crate::wire::scsi::be16;

/// Bytes of the parameter list: a template, and the least and the largest sequence number.
pub(super) const LIST: u32 = 40;

/// Where they stand in it.
const SEQUENCE_MIN: usize = 34;
const SEQUENCE_MAX: usize = 38;

/// What was asked for, until it is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TagSearch {
    pub(super) kind: Option<ElementType>,
    pub(super) start: u16,
    /// Send action code.
    pub(super) action: u8,
    template: Vec<u8>,
    /// Our sequence numbers, which are all 0, are among those that are wanted.
    in_sequence: bool,
}

impl TagSearch {
    /// Of a CDB of SEND VOLUME TAG and its list. Labels are printed on, so that they can be searched for and not
    /// changed.
    pub(super) fn of(cdb: &[u8; 16], list: &[u8]) -> Result<Self, Sense> {
        const ACTION_AT: u16 = 5;
        let kind = element_type(cdb)?;
        let action = cdb[5] & 0x1f;
        // Search primary and alternate, primary, or alternate tags; and the same whatever the sequence number.
        let (alternate_only, any_sequence) = match action {
            0 | 1 => (false, false),
            2 => (true, false),
            4 | 5 => (false, true),
            6 => (true, true),
            _ => return Err(Sense::invalid_field_in_cdb(ACTION_AT, None)),
        };
        if list.len() < LIST as usize {
            return Err(Sense::illegal(asc::PARAMETER_LIST_LENGTH_ERROR));
        }
        let text = &list[..BARCODE_MAX];
        let end = text.iter().rposition(|byte| !matches!(byte, 0 | b' ')).map_or(0, |last| last + 1);
        // Whatever is behind an asterisk means nothing.
        let end = text[..end].iter().position(|byte| *byte == b'*').map_or(end, |at| at + 1);
        let numbers = be16(list, SEQUENCE_MIN)..=be16(list, SEQUENCE_MAX);
        let in_sequence = !alternate_only && (any_sequence || numbers.contains(&0));
        Ok(Self { kind, start: be16(cdb, 2), action, template: text[..end].to_vec(), in_sequence })
    }

    /// Whether it is such a cartridge that is in an element.
    pub(super) fn finds(&self, element: &Element) -> bool {
        let volume = element.volume.as_ref();
        self.in_sequence && volume.is_some_and(|volume| is_like(volume.barcode.as_bytes(), &self.template))
    }
}

/// Whether a barcode is like a template, in which a question mark stands for any character, and an asterisk at its end
/// for any that follow.
fn is_like(barcode: &[u8], template: &[u8]) -> bool {
    let (template, open) = match template {
        [head @ .., b'*'] => (head, true),
        whole => (whole, false),
    };
    let enough = if open { barcode.len() >= template.len() } else { barcode.len() == template.len() };
    enough && template.iter().zip(barcode).all(|(wanted, found)| matches!(wanted, b'?') || wanted == found)
}

/// The element type that a CDB names in byte 1; `None`: any.
pub(super) fn element_type(cdb: &[u8; 16]) -> Result<Option<ElementType>, Sense> {
    const TYPE_AT: u16 = 1;
    match cdb[1] & 0x0f {
        0 => Ok(None),
        code => ElementType::of(code).map(Some).ok_or_else(|| Sense::invalid_field_in_cdb(TYPE_AT, Some(3))),
    }
}
