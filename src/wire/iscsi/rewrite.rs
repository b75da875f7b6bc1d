// SPDX-License-Identifier: GPL-2.0-or-later
//! What holds for any header: nothing panics, what was read is written so that it reads the same, and written over what
//! was read it changes nothing. For tests and the fuzz target.

use std::fmt::Debug;

use super::*;

fn again<H: PduHeader + Debug + PartialEq>(bhs: &Bhs) {
    if bhs.opcode() != H::OPCODE {
        return;
    }
    let header = H::parse(bhs);
    let emitted = header.emit();
    assert_eq!(H::parse(&emitted), header, "{bhs:02x?}");
    assert_eq!((emitted.opcode(), emitted.ahs_len(), emitted.data_len()), (bhs.opcode(), 0, 0));
    let mut over = *bhs;
    header.emit_over(&mut over);
    assert_eq!(over, *bhs, "{header:x?}");
}

/// Takes headers one after the other.
pub(crate) fn rewrite(bytes: &[u8]) {
    const KINDS: [fn(&Bhs); 18] = [
        again::<NopOutHeader>,
        again::<ScsiCommandHeader>,
        again::<TaskManagementRequestHeader>,
        again::<LoginRequestHeader>,
        again::<TextRequestHeader>,
        again::<DataOutHeader>,
        again::<LogoutRequestHeader>,
        again::<SnackRequestHeader>,
        again::<NopInHeader>,
        again::<ScsiResponseHeader>,
        again::<TaskManagementResponseHeader>,
        again::<LoginResponseHeader>,
        again::<TextResponseHeader>,
        again::<DataInHeader>,
        again::<LogoutResponseHeader>,
        again::<R2tHeader>,
        again::<AsyncHeader>,
        again::<RejectHeader>,
    ];
    for &header in bytes.as_chunks().0 {
        KINDS.iter().for_each(|again| again(&Bhs::from(header)));
    }
}
