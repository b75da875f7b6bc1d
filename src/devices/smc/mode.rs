// SPDX-License-Identifier: GPL-2.0-or-later
//! The mode parameters of a changer (SMC-3 7.3). None of them can be changed but those of every logical unit.

use super::elements::{ElementAddresses, TYPES};
use crate::scsi::primary::{CONTROL_PAGE, EXCEPTIONS_PAGE, ModePage, ModeValues};

/// Page codes.
const ADDRESSES: u8 = 0x1d;
const GEOMETRY: u8 = 0x1e;
const CAPABILITIES: u8 = 0x1f;

/// The places that keep a cartridge, by a bit for each type of element: all but the hand.
const KEEPS: u8 = 0x0e;

const fn page(code: u8, default: &'static [u8], changeable: &'static [u8]) -> ModePage {
    ModePage { code, subpage: 0, default, changeable }
}

const PAGES: [ModePage; 5] = [
    CONTROL_PAGE,
    EXCEPTIONS_PAGE,
    page(ADDRESSES, &[0; 18], &[0; 18]),
    // The hand turns nothing over.
    page(GEOMETRY, &[0, 0], &[0, 0]),
    // Whatever keeps a cartridge: it can be moved from there to there, and exchanged.
    page(
        CAPABILITIES,
        &[KEEPS, 0, 0, KEEPS, KEEPS, KEEPS, 0, 0, 0, 0, 0, KEEPS, KEEPS, KEEPS, 0, 0, 0, 0],
        &[0; 18],
    ),
];

/// Those of a changer with these elements.
pub(super) fn initial(addresses: &ElementAddresses) -> ModeValues {
    let mut page = [0; 16];
    for (kind, place) in TYPES.into_iter().zip(page.chunks_exact_mut(4)) {
        let range = addresses.of(kind);
        place[..2].copy_from_slice(&range.start.to_be_bytes());
        place[2..].copy_from_slice(&(range.end - range.start).to_be_bytes());
    }
    let mut values = ModeValues::new(&PAGES);
    values.set_default((ADDRESSES, 0), 0, &page);
    values
}
