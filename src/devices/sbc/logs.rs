// SPDX-License-Identifier: GPL-2.0-or-later
//! The log pages of a disk (SPC-5 7.3, SBC-3 6.4), and what is counted for them.

use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::scsi::primary::{Counter, LogData, LogPages};
use crate::scsi::{Context, Outcome, Sense, asc, key};
use crate::time::Instant;
use crate::wire::scsi::be16;

use super::Disk;
use super::fault::Fault;
use super::limits::Limits;
use super::server::{DiskTask, Job};

const WRITE_ERRORS: u8 = 0x02;
const READ_ERRORS: u8 = 0x03;
const VERIFY_ERRORS: u8 = 0x05;
const NON_MEDIUM_ERRORS: u8 = 0x06;
const PROVISIONING: u8 = 0x0c;
const TEMPERATURE: u8 = 0x0d;
const START_STOP: u8 = 0x0e;
const SELF_TESTS: u8 = 0x10;
const BACKGROUND_SCAN: u8 = 0x15;
const STATISTICS: u8 = 0x19;
const EXCEPTIONS: u8 = 0x2f;

/// No temperature is known.
const NO_TEMPERATURE: u8 = 0xff;

/// What kinds of access are counted apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    Write,
    Verify,
}

/// A counter that one core writes and others read.
#[derive(Debug, Default)]
struct Count(AtomicU64);

impl Count {
    fn add(&self, n: u64) {
        // No atomic addition: nobody else writes.
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }
}

/// What one core has counted, in cache lines of its own: others write theirs at the same time.
#[repr(align(128))]
#[derive(Debug, Default)]
pub(super) struct Counts {
    commands: [Count; 3],
    bytes: [Count; 3],
    uncorrected: [Count; 3],
    others: Count,
}

impl Counts {
    /// A command that moves or verifies so many bytes.
    pub(super) fn command(&self, access: Access, bytes: u64) {
        self.commands[access as usize].add(1);
        self.bytes[access as usize].add(bytes);
    }

    /// A command that ended with sense data.
    pub(super) fn error(&self, access: Option<Access>, sense: &Sense) {
        match (sense.key, access) {
            (key::MEDIUM_ERROR, Some(access)) => self.uncorrected[access as usize].add(1),
            (key::HARDWARE_ERROR, _) => self.others.add(1),
            _ => {}
        }
    }
}

/// The counters of all cores together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    commands: [u64; 3],
    bytes: [u64; 3],
    uncorrected: [u64; 3],
    others: u64,
}

impl Disk {
    /// What has been counted since the start.
    fn all_counted(&self) -> Totals {
        let mut totals = Totals::default();
        for counts in self.counts.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let sum =
                |into: &mut u64, count: &Count| *into = into.wrapping_add(count.0.load(Ordering::Relaxed));
            for i in 0..3 {
                sum(&mut totals.commands[i], &counts.commands[i]);
                sum(&mut totals.bytes[i], &counts.bytes[i]);
                sum(&mut totals.uncorrected[i], &counts.uncorrected[i]);
            }
            sum(&mut totals.others, &counts.others);
        }
        totals
    }

    /// What has been counted since the counters were reset.
    fn counted(&self) -> Totals {
        let (all, before) = (self.all_counted(), self.rare().before);
        let less = |a: [u64; 3], b: [u64; 3]| [0, 1, 2].map(|i| a[i].wrapping_sub(b[i]));
        Totals {
            commands: less(all.commands, before.commands),
            bytes: less(all.bytes, before.bytes),
            uncorrected: less(all.uncorrected, before.uncorrected),
            others: all.others.wrapping_sub(before.others),
        }
    }
}

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

/// What the log pages of a disk are made of.
pub(super) struct Logs<'a> {
    disk: &'a Disk,
    limits: Limits,
    now: Instant,
}

impl<'a> Logs<'a> {
    pub(super) fn of(job: &Job<'a>, now: Instant) -> Self {
        Self { disk: job.disk, limits: job.limits, now }
    }
}

impl LogPages for Logs<'_> {
    fn pages(&self) -> &'static [(u8, u8)] {
        if self.limits.thin { &PAGES } else { &PAGES_THICK }
    }

    fn page(&self, (page, _): (u8, u8), default: bool, data: &mut LogData) {
        let totals = if default { Totals::default() } else { self.disk.counted() };
        match page {
            WRITE_ERRORS => errors(&totals, Access::Write, data),
            READ_ERRORS => errors(&totals, Access::Read, data),
            VERIFY_ERRORS => errors(&totals, Access::Verify, data),
            NON_MEDIUM_ERRORS => _ = data.parameter(0, Counter::Bounded, &totals.others.to_be_bytes()),
            PROVISIONING => self.provisioning(data),
            TEMPERATURE => {
                data.parameter(0, Counter::List, &[0, NO_TEMPERATURE]);
                data.parameter(1, Counter::List, &[0, NO_TEMPERATURE]);
            }
            START_STOP => {
                // Dates of manufacture and accounting are not known; counts are those since the start.
                data.parameter(1, Counter::List, b"      ").parameter(2, Counter::List, b"      ");
                data.parameter(3, Counter::List, &u32::MAX.to_be_bytes());
                let starts = if default { 0 } else { self.disk.rare().starts };
                data.parameter(4, Counter::List, &starts.to_be_bytes());
            }
            SELF_TESTS => self.disk.rare().self_tests.write(data),
            BACKGROUND_SCAN => {
                // Nothing scans the medium by itself (status 00h), and nothing has: what is counted is how long the disk
                // has been there, in minutes.
                let minutes = u32::try_from(self.now.since(Instant::ZERO).as_secs() / 60).unwrap_or(u32::MAX);
                let mut status = [0; 12];
                status[..4].copy_from_slice(&minutes.to_be_bytes());
                data.parameter(0, Counter::List, &status);
            }
            STATISTICS => {
                let [reads, writes, _] = totals.commands;
                let blocks = totals.bytes.map(|bytes| self.limits.lba(bytes));
                // Received means written, transmitted read. Intervals are not measured.
                let fields = [reads, writes, blocks[1], blocks[0], 0, 0, 0, 0].map(u64::to_be_bytes);
                data.parameter(1, Counter::List, fields.as_flattened());
                // The other two that a general page has to have: idle time, and how long an interval is (1 * 10^-3 s).
                data.parameter(2, Counter::List, &[0; 8]).parameter(
                    3,
                    Counter::List,
                    &[0, 0, 0, 3, 0, 0, 0, 1],
                );
            }
            _ => _ = data.parameter(0, Counter::List, &[0, 0, NO_TEMPERATURE, 0]),
        }
    }
}

/// An error counter page. What a store corrects by itself it does not tell.
fn errors(totals: &Totals, access: Access, data: &mut LogData) {
    let i = access as usize;
    for code in 0..=4 {
        data.parameter(code, Counter::Bounded, &[0; 8]);
    }
    data.parameter(5, Counter::Bounded, &totals.bytes[i].to_be_bytes());
    data.parameter(6, Counter::Bounded, &totals.uncorrected[i].to_be_bytes());
}

impl Logs<'_> {
    /// Logical block provisioning (SBC-3 6.4.5), in threshold sets.
    fn provisioning(&self, data: &mut LogData) {
        let rare = self.disk.rare();
        let resources = |bytes: Option<u64>| {
            let sets = self.limits.lba(bytes?) >> self.limits.threshold_exponent();
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
}

/// LOG SELECT (SPC-5 6.7): counters can be set to zero (PCR), and to nothing else.
pub(super) fn select(job: &Job<'_>, cx: &mut Context<'_>) -> Result<DiskTask, Fault> {
    const SP: u8 = 1;
    const PCR: u8 = 2;
    let (page, subpage) = (job.cdb[2] & 0x3f, job.cdb[3]);
    if job.cdb[1] & SP != 0 {
        return Err(Sense::invalid_field_in_cdb(1, Some(0)).into());
    }
    if be16(&job.cdb, 7) != 0 {
        return Err(Sense::invalid_field_in_cdb(7, None).into());
    }
    if (page, subpage) != (0, 0) && !Logs::of(job, cx.now).pages().contains(&(page, subpage)) {
        return Err(Sense::invalid_field_in_cdb(2, Some(5)).into());
    }
    let all = job.disk.all_counted();
    let mut rare = job.disk.rare();
    let before = rare.before;
    let errors = match page {
        WRITE_ERRORS => Some(Access::Write),
        READ_ERRORS => Some(Access::Read),
        VERIFY_ERRORS => Some(Access::Verify),
        _ => None,
    };
    match (errors, page) {
        _ if job.cdb[1] & PCR == 0 => {}
        (_, 0) => rare.before = all,
        (Some(access), _) => {
            let i = access as usize;
            rare.before.bytes[i] = all.bytes[i];
            rare.before.uncorrected[i] = all.uncorrected[i];
        }
        (_, NON_MEDIUM_ERRORS) => rare.before.others = all.others,
        (_, STATISTICS) => {
            rare.before.commands = all.commands;
            rare.before.bytes = all.bytes;
        }
        _ => {}
    }
    let attention = (rare.before != before).then_some(asc::LOG_PARAMETERS_CHANGED);
    Ok(DiskTask::Done(Outcome { attention, ..Outcome::good() }))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn counters_of_cores_share_no_cache_line() {
        let cores: Vec<_> = (0..16).map(|_| Arc::new(Counts::default())).collect();
        let lines = |counts: &Arc<Counts>| {
            let first = Arc::as_ptr(counts).addr();
            first / 64..(first + size_of::<Counts>()).div_ceil(64)
        };
        let mut all: Vec<usize> = cores.iter().flat_map(lines).collect();
        let before = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), before);
    }
}
