// SPDX-License-Identifier: GPL-2.0-or-later
//! The log pages of a disk (SPC-5 7.3, SBC-3 6.4), as far as they are not those of every logical unit.

use crate::scsi::primary::log_page::{
    EXCEPTIONS, NON_MEDIUM_ERRORS, READ_ERRORS, SELF_TESTS, START_STOP, STATISTICS, TEMPERATURE,
    VERIFY_ERRORS, WRITE_ERRORS,
};
use crate::scsi::primary::{Counter, LogData, Shape};
use crate::time::Instant;

use super::disk::Disk;
use super::limits::Limits;

const PROVISIONING: u8 = 0x0c;
const BACKGROUND_SCAN: u8 = 0x15;

const PAGES: [(u8, u8); 11] = [
    (WRITE_ERRORS, 0),
    (READ_ERRORS, 0),
    (VERIFY_ERRORS, 0),
    (NON_MEDIUM_ERRORS, 0),
    (PROVISIONING, 0),
    (TEMPERATURE, 0),
    (START_STOP, 0),
    (SELF_TESTS, 0),
    (BACKGROUND_SCAN, 0),
    (STATISTICS, 0),
    (EXCEPTIONS, 0),
];

/// The pages of a disk that is not thin.
const PAGES_THICK: [(u8, u8); 10] = {
    let mut pages = [PAGES[0]; 10];
    let (mut from, mut to) = (0, 0);
    while from < PAGES.len() {
        if PAGES[from].0 != PROVISIONING {
            pages[to] = PAGES[from];
            to += 1;
        }
        from += 1;
    }
    pages
};

/// Its log pages.
pub(super) fn pages(limits: &Limits) -> &'static [(u8, u8)] {
    if limits.thin { &PAGES } else { &PAGES_THICK }
}

/// Writes the parameters of one that is a disk's own.
pub(super) fn write(page: u8, default: bool, disk: &Disk, limits: &Limits, now: Instant, data: &mut LogData) {
    match page {
        PROVISIONING => provisioning(disk, limits, data),
        START_STOP => {
            // Dates of manufacture and accounting are not known; counts are those since the start.
            data.parameter(1, Counter::List, b"      ").parameter(2, Counter::List, b"      ");
            data.parameter(3, Counter::List, &u32::MAX.to_be_bytes());
            let starts = if default { 0 } else { disk.rare().starts };
            data.parameter(4, Counter::List, &starts.to_be_bytes());
        }
        _ => {
            // Background scan: nothing scans the medium by itself (status 00h), and nothing has: what is counted is how
            // long the disk has been there, in minutes.
            let minutes = u32::try_from(now.since(Instant::ZERO).as_secs() / 60).unwrap_or(u32::MAX);
            let mut status = [0; 12];
            status[..4].copy_from_slice(&minutes.to_be_bytes());
            data.parameter(0, Counter::List, &status);
        }
    }
}

/// Logical block provisioning (SBC-3 6.4.5), in threshold sets.
fn provisioning(disk: &Disk, limits: &Limits, data: &mut LogData) {
    let rare = disk.rare();
    let resources = |bytes: Option<u64>| {
        let sets = limits.lba(bytes?) >> limits.threshold_exponent();
        Some(u32::try_from(sets).unwrap_or(u32::MAX))
    };
    // The scope of what is left: not dedicated to this disk.
    const SHARED: u8 = 2;
    const DEDICATED: u8 = 1;
    for (code, bytes, scope) in [(1, rare.available, SHARED), (2, rare.used, DEDICATED)] {
        if let Some(count) = resources(bytes) {
            let [a, b, c, d] = count.to_be_bytes();
            data.parameter(code, Counter::List, &[a, b, c, d, scope, 0, 0, 0]);
        }
    }
}
