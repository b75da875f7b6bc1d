// SPDX-License-Identifier: GPL-2.0-or-later
//! What lies in the state directory.

use std::sync::Arc;

use super::super::scsi::TARGET;
use crate::scsi::TargetPort;
use crate::scsi::reservations::Reservations;
use crate::stores::{unwrap_record, wrap_record};

/// The file of a record: what is in a good one comes out, and one that is damaged is known.
pub(super) fn record(bytes: &[u8]) {
    if let Ok(inner) = unwrap_record(bytes) {
        assert_eq!(wrap_record(inner), bytes, "two files of one record");
    }
    let mut file = wrap_record(bytes);
    assert_eq!(unwrap_record(&file).expect("it is whole"), bytes);
    let at =
        bytes.iter().fold(0, |at: usize, &byte| at.wrapping_mul(31).wrapping_add(byte.into())) % file.len();
    file[at] ^= 1 << (bytes.len() % 8);
    assert!(unwrap_record(&file).is_err(), "damage at {at} that is not seen");
}

/// The record of a disk's reservations: what is taken from it is what is kept next.
pub(super) fn reservations(bytes: &[u8]) {
    let ports = [1, 2].map(|tag| Arc::new(TargetPort::iscsi(tag, TARGET, tag)));
    let Ok(table) = Reservations::from_record(bytes, &ports) else { return };
    let kept = table.to_record();
    let again = Reservations::from_record(&kept, &ports).expect("a record of its own");
    assert_eq!(again.to_record(), kept, "a table that changes with each start");
    assert_eq!((again.kind(), again.registrations().len()), (table.kind(), table.registrations().len()));
}
