// SPDX-License-Identifier: GPL-2.0-or-later
//! The 32-byte block commands (SBC-3 5.10 and others). They say what the 16-byte ones say, in other places, and more
//! about protection information, which there is none of: so each is carried out as its shorter form.

use crate::scsi::primary::{VARIABLE_LENGTH, head};
use crate::scsi::{Cdb, Sense};
use crate::wire::scsi::be16;

/// Service action, and the operation code of the 16-byte form.
const SHORT: [(u16, u8); 6] =
    [(0x09, 0x88), (0x0a, 0x8f), (0x0b, 0x8a), (0x0c, 0x8e), (0x0d, 0x93), (0x0e, 0x8b)];

/// The CDB as handlers read it: 16 bytes at most.
pub(super) fn short_form(cdb: &Cdb) -> [u8; 16] {
    if cdb.opcode() == VARIABLE_LENGTH { shortened(cdb.bytes()) } else { head(cdb) }
}

#[cold]
fn shortened(long: &[u8]) -> [u8; 16] {
    let mut short = [0; 16];
    let action = be16(long, 8);
    if let (Some((_, opcode)), 32..) = (SHORT.iter().find(|s| s.0 == action), long.len()) {
        short[0] = *opcode;
        short[1] = long[10];
        short[2..10].copy_from_slice(&long[12..20]);
        short[10..14].copy_from_slice(&long[28..32]);
        short[14] = long[6];
    }
    short
}

/// A field pointer into the short form, as one into the 32 bytes.
pub(super) fn relocated(mut sense: Sense) -> Sense {
    if let Some([flags, high, low]) = &mut sense.specific
        && *flags & 0x40 != 0
    {
        *high = 0;
        *low = match *low {
            1 => 10,
            at @ 2..10 => at + 10,
            at @ 10..14 => at + 18,
            14 => 6,
            at => at,
        };
    }
    sense
}
