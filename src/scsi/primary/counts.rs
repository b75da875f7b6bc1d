// SPDX-License-Identifier: GPL-2.0-or-later
//! What a logical unit counts for its log pages, and the pages made of that: error counters, non-medium errors, general
//! statistics (SPC-5 7.3).

use std::sync::atomic::{AtomicU64, Ordering};

use super::log::{Counter, LogData};
use super::shape::Shape;
use crate::scsi::{Sense, key};

const WRITE_ERRORS: u8 = 0x02;
const READ_ERRORS: u8 = 0x03;
const VERIFY_ERRORS: u8 = 0x05;
const NON_MEDIUM_ERRORS: u8 = 0x06;
const STATISTICS: u8 = 0x19;

/// What kinds of access to the medium are counted apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MediumAccess {
    /// It is read for the initiator.
    Read,
    /// It is written.
    Write,
    /// It is read to be checked.
    Verify,
}

/// A counter that one core writes and others read.
#[derive(Debug, Default)]
struct LogCount(AtomicU64);

impl LogCount {
    fn add(&self, n: u64) {
        // No atomic addition: nobody else writes.
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }
}

/// What one core has counted, in cache lines of its own: others write theirs at the same time.
#[repr(align(128))]
#[derive(Debug, Default)]
pub struct LogCounts {
    commands: [LogCount; 3],
    bytes: [LogCount; 3],
    uncorrected: [LogCount; 3],
    others: LogCount,
}

impl LogCounts {
    /// A command that moves or verifies so many bytes.
    pub fn command(&self, access: MediumAccess, bytes: u64) {
        self.commands[access as usize].add(1);
        self.bytes[access as usize].add(bytes);
    }

    /// A command that ended with sense data.
    pub(super) fn error(&self, access: Option<MediumAccess>, sense: &Sense) {
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

impl Totals {
    /// Adds what a core has counted.
    pub(super) fn add(&mut self, counts: &LogCounts) {
        let sum =
            |into: &mut u64, count: &LogCount| *into = into.wrapping_add(count.0.load(Ordering::Relaxed));
        for i in 0..3 {
            sum(&mut self.commands[i], &counts.commands[i]);
            sum(&mut self.bytes[i], &counts.bytes[i]);
            sum(&mut self.uncorrected[i], &counts.uncorrected[i]);
        }
        sum(&mut self.others, &counts.others);
    }

    /// What has been counted since `before`.
    pub(super) fn since(&self, before: &Self) -> Self {
        let less = |a: [u64; 3], b: [u64; 3]| [0, 1, 2].map(|i| a[i].wrapping_sub(b[i]));
        Self {
            commands: less(self.commands, before.commands),
            bytes: less(self.bytes, before.bytes),
            uncorrected: less(self.uncorrected, before.uncorrected),
            others: self.others.wrapping_sub(before.others),
        }
    }

    /// Takes over from `all` what a page shows: it is zero from there on. Page 0 stands for all.
    pub(super) fn reset(&mut self, page: u8, all: &Self) {
        let errors = match page {
            WRITE_ERRORS => Some(MediumAccess::Write),
            READ_ERRORS => Some(MediumAccess::Read),
            VERIFY_ERRORS => Some(MediumAccess::Verify),
            _ => None,
        };
        match (errors, page) {
            (_, 0) => *self = *all,
            (Some(access), _) => {
                let i = access as usize;
                self.bytes[i] = all.bytes[i];
                self.uncorrected[i] = all.uncorrected[i];
            }
            (_, NON_MEDIUM_ERRORS) => self.others = all.others,
            (_, STATISTICS) => {
                self.commands = all.commands;
                self.bytes = all.bytes;
            }
            _ => {}
        }
    }

    /// Writes one of the pages that are made of counters; `false` if it is none of them.
    pub(super) fn write(&self, page: u8, shape: &impl Shape, data: &mut LogData) -> bool {
        match page {
            WRITE_ERRORS => self.errors(MediumAccess::Write, data),
            READ_ERRORS => self.errors(MediumAccess::Read, data),
            VERIFY_ERRORS => self.errors(MediumAccess::Verify, data),
            NON_MEDIUM_ERRORS => _ = data.parameter(0, Counter::Bounded, &self.others.to_be_bytes()),
            STATISTICS => self.statistics(shape, data),
            _ => return false,
        }
        true
    }

    /// An error counter page. What a store corrects by itself it does not tell.
    fn errors(&self, access: MediumAccess, data: &mut LogData) {
        let i = access as usize;
        for code in 0..=4 {
            data.parameter(code, Counter::Bounded, &[0; 8]);
        }
        data.parameter(5, Counter::Bounded, &self.bytes[i].to_be_bytes());
        data.parameter(6, Counter::Bounded, &self.uncorrected[i].to_be_bytes());
    }

    fn statistics(&self, shape: &impl Shape, data: &mut LogData) {
        let [reads, writes, _] = self.commands;
        let blocks = self.bytes.map(|bytes| shape.lba(bytes));
        // Received means written, transmitted read. Intervals are not measured.
        let fields = [reads, writes, blocks[1], blocks[0], 0, 0, 0, 0].map(u64::to_be_bytes);
        data.parameter(1, Counter::List, fields.as_flattened());
        // The other two that a general page has to have: idle time, and how long an interval is (1 * 10^-3 s).
        data.parameter(2, Counter::List, &[0; 8]);
        data.parameter(3, Counter::List, &[0, 0, 0, 3, 0, 0, 0, 1]);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn counters_of_cores_share_no_cache_line() {
        let cores: Vec<_> = (0..16).map(|_| Arc::new(LogCounts::default())).collect();
        let lines = |counts: &Arc<LogCounts>| {
            let first = Arc::as_ptr(counts).addr();
            first / 64..(first + size_of::<LogCounts>()).div_ceil(64)
        };
        let mut all: Vec<usize> = cores.iter().flat_map(lines).collect();
        let before = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), before);
    }
}
