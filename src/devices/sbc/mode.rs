// SPDX-License-Identifier: GPL-2.0-or-later
//! The mode pages of a disk.

use crate::scsi::primary::{CONTROL_PAGE, EXCEPTIONS_PAGE, ModePage, ModeValues, UnitFlags, control_flags};
use crate::wire::scsi::be32;

use super::config::Config;
use super::flags::WRITE_CACHE;
use super::limits::THRESHOLD_SET;

/// Page and subpage codes.
const RECOVERY: (u8, u8) = (0x01, 0);
const CACHING: (u8, u8) = (0x08, 0);
/// Only of thin disks.
pub(super) const PROVISIONING: (u8, u8) = (0x1c, 0x02);

/// Byte 5 of read-write error recovery: provisioning thresholds are told.
const LBPERE: u8 = 0x80;
const WCE: u8 = 0x04;
/// Of a threshold descriptor.
const ENABLED: u8 = 0x80;
/// Where the descriptor of logical block provisioning begins, and its count.
const DESCRIPTOR: usize = 12;
const COUNT: usize = DESCRIPTOR + 4;

/// Read-write error recovery, caching, control, informational exceptions control, logical block provisioning.
const PAGES: [ModePage; 5] = [
    page(RECOVERY, &[0; 10], &[0, 0, 0, 0, 0, LBPERE, 0, 0, 0, 0]),
    page(CACHING, &[0; 18], &[WCE, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
    CONTROL_PAGE,
    EXCEPTIONS_PAGE,
    // One descriptor: a soft threshold (type 0) for a falling (arming 1) number of threshold sets that can still be
    // allocated (resource 1).
    page(
        PROVISIONING,
        &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0],
        &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, ENABLED, 0, 0, 0, 0xff, 0xff, 0xff, 0xff],
    ),
];

const fn page((code, subpage): (u8, u8), default: &'static [u8], changeable: &'static [u8]) -> ModePage {
    ModePage { code, subpage, default, changeable }
}

/// The mode parameters at the start of a disk for which none are saved.
pub(super) fn initial(config: &Config) -> ModeValues {
    let mut values = ModeValues::new(&PAGES);
    if config.write_cache {
        values.set_default(CACHING, 0, &[WCE]);
    }
    if config.soft_threshold > 0 {
        let sets = u32::try_from(config.soft_threshold.div_ceil(THRESHOLD_SET)).unwrap_or(u32::MAX);
        values.set_default(RECOVERY, 5, &[LBPERE]);
        values.set_default(PROVISIONING, DESCRIPTOR, &[ENABLED]);
        values.set_default(PROVISIONING, COUNT, &sets.to_be_bytes());
    }
    values
}

/// What of them every command looks at.
pub(super) fn flags(values: &ModeValues) -> UnitFlags {
    let mut flags = control_flags(values);
    flags.set(WRITE_CACHE, values.current(CACHING.0, CACHING.1)[0] & WCE != 0);
    flags
}

/// Initiators are warned when less than so many bytes can still be allocated; `None` for never.
pub(super) fn threshold(values: &ModeValues) -> Option<u64> {
    let told = values.current(RECOVERY.0, RECOVERY.1)[5] & LBPERE != 0;
    let page = values.current(PROVISIONING.0, PROVISIONING.1);
    (told && page[DESCRIPTOR] & ENABLED != 0).then(|| u64::from(be32(page, COUNT)) * THRESHOLD_SET)
}
