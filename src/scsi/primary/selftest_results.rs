// SPDX-License-Identifier: GPL-2.0-or-later
//! The self-tests of a logical unit and their log page (SPC-5 7.3.21).

use std::collections::VecDeque;

use super::log::{Counter, LogData};
use crate::scsi::Sense;
use crate::time::Instant;

/// Parameters of the page.
const RESULTS: usize = 20;

pub(super) const PASSED: u8 = 0;
pub(super) const ABORTED_BY_COMMAND: u8 = 1;
pub(super) const ABORTED: u8 = 2;
pub(super) const FAILED: u8 = 7;
const RUNNING: u8 = 15;

/// A self-test as the log tells it.
#[derive(Clone, Debug)]
struct SelfTestResult {
    code: u8,
    result: u8,
    hours: u16,
    /// Where it failed, and how.
    failure: Option<(u64, Sense)>,
}

/// The self-tests since the start, the latest first.
#[derive(Debug, Default)]
pub struct SelfTestResults {
    entries: VecDeque<SelfTestResult>,
    /// The running test is to end.
    pub(super) stop: bool,
}

impl SelfTestResults {
    /// Whether a self-test is under way.
    pub fn running(&self) -> bool {
        self.entries.front().is_some_and(|entry| entry.result == RUNNING)
    }

    pub(super) fn begin(&mut self, code: u8, now: Instant) {
        const HOUR: u64 = 3600 * 1_000_000_000;
        let hours = u16::try_from(now.as_nanos() / HOUR).unwrap_or(u16::MAX);
        self.stop = false;
        self.entries.push_front(SelfTestResult { code, result: RUNNING, hours, failure: None });
        self.entries.truncate(RESULTS);
    }

    pub(super) fn end(&mut self, result: u8, failure: Option<(u64, Sense)>) {
        if let Some(entry) = self.entries.front_mut() {
            (entry.result, entry.failure) = (result, failure);
        }
    }

    /// The parameters of the log page.
    pub(super) fn write(&self, data: &mut LogData) {
        for i in 0..RESULTS {
            let mut value = [0; 16];
            if let Some(entry) = self.entries.get(i) {
                value[0] = entry.code << 5 | entry.result;
                value[2..4].copy_from_slice(&entry.hours.to_be_bytes());
                value[4..12].fill(0xff);
                if let Some((lba, sense)) = &entry.failure {
                    value[4..12].copy_from_slice(&lba.to_be_bytes());
                    value[12] = sense.key;
                    value[13..15].copy_from_slice(&sense.code.to_be_bytes());
                }
            }
            data.parameter(i as u16 + 1, Counter::List, &value);
        }
    }
}
