// SPDX-License-Identifier: GPL-2.0-or-later
//! What a logical unit counts for its log pages, and the pages made of that: error counters, non-medium errors, general
//! statistics (SPC-5 7.3).

use std::sync::atomic::{AtomicU64, Ordering};

use super::log::{Counter, LogData, page};
use super::shape::Shape;
use crate::scsi::{Sense, key};

/// Where the counters of each kind begin: of the first three there is one for each access to the medium.
const COMMANDS: usize = 0;
const BYTES: usize = 3;
const UNCORRECTED: usize = 6;
const OTHERS: usize = 9;

/// How many there are.
const COUNTERS: usize = 10;

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
pub struct LogCounts([LogCount; COUNTERS]);

impl LogCounts {
    /// A command that moves or verifies so many bytes.
    pub fn command(&self, access: MediumAccess, bytes: u64) {
        self.0[COMMANDS + access as usize].add(1);
        self.0[BYTES + access as usize].add(bytes);
    }

    /// A command that ended with sense data.
    pub(super) fn error(&self, access: Option<MediumAccess>, sense: &Sense) {
        match (sense.key, access) {
            (key::MEDIUM_ERROR, Some(access)) => self.0[UNCORRECTED + access as usize].add(1),
            (key::HARDWARE_ERROR, _) => self.0[OTHERS].add(1),
            _ => {}
        }
    }
}

/// The counters of all cores together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals([u64; COUNTERS]);

impl Totals {
    /// Adds what a core has counted.
    pub(super) fn add(&mut self, counts: &LogCounts) {
        for (sum, count) in self.0.iter_mut().zip(&counts.0) {
            *sum = sum.wrapping_add(count.0.load(Ordering::Relaxed));
        }
    }

    /// What has been counted since `before`.
    pub(super) fn since(&self, before: &Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i].wrapping_sub(before.0[i])))
    }

    /// Takes over from `all` what a page shows: it is zero from there on. Page 0 stands for all.
    pub(super) fn reset(&mut self, page: u8, all: &Self) {
        for counter in (0..COUNTERS).filter(|&counter| page == 0 || is_shown(counter, page)) {
            self.0[counter] = all.0[counter];
        }
    }

    /// Writes one of the pages that are made of counters; `false` if it is none of them.
    pub(super) fn write(&self, page: u8, shape: &impl Shape, data: &mut LogData) -> bool {
        match page {
            page::NON_MEDIUM_ERRORS => {
                _ = data.parameter(0, Counter::Bounded, &self.0[OTHERS].to_be_bytes());
            }
            page::STATISTICS => self.statistics(shape, data),
            page => match access_of(page) {
                Some(access) => self.errors(access, data),
                None => return false,
            },
        }
        true
    }

    /// An error counter page. What a store corrects by itself it does not tell.
    fn errors(&self, access: MediumAccess, data: &mut LogData) {
        let i = access as usize;
        for code in 0..=4 {
            data.parameter(code, Counter::Bounded, &[0; 8]);
        }
        data.parameter(5, Counter::Bounded, &self.0[BYTES + i].to_be_bytes());
        data.parameter(6, Counter::Bounded, &self.0[UNCORRECTED + i].to_be_bytes());
    }

    fn statistics(&self, shape: &impl Shape, data: &mut LogData) {
        let commands = |access| self.0[COMMANDS + access as usize];
        let blocks = |access| shape.lba(self.0[BYTES + access as usize]);
        let (read, write) = (MediumAccess::Read, MediumAccess::Write);
        // Received means written, transmitted read. Intervals are not measured.
        let fields = [commands(read), commands(write), blocks(write), blocks(read), 0, 0, 0, 0];
        let fields = fields.map(u64::to_be_bytes);
        data.parameter(1, Counter::List, fields.as_flattened());
        // The other two that a general page has to have: idle time, and how long an interval is (1 * 10^-3 s).
        data.parameter(2, Counter::List, &[0; 8]);
        data.parameter(3, Counter::List, &[0, 0, 0, 3, 0, 0, 0, 1]);
    }
}

/// Whose errors a page counts.
fn access_of(page: u8) -> Option<MediumAccess> {
    match page {
        page::READ_ERRORS => Some(MediumAccess::Read),
        page::WRITE_ERRORS => Some(MediumAccess::Write),
        page::VERIFY_ERRORS => Some(MediumAccess::Verify),
        _ => None,
    }
}

/// Whether a page is made of a counter, among others.
fn is_shown(counter: usize, page: u8) -> bool {
    match page {
        page::NON_MEDIUM_ERRORS => counter == OTHERS,
        page::STATISTICS => (COMMANDS..UNCORRECTED).contains(&counter),
        page => access_of(page)
            .is_some_and(|access| [BYTES, UNCORRECTED].map(|kind| kind + access as usize).contains(&counter)),
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
