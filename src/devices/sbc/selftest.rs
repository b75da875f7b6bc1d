// SPDX-License-Identifier: GPL-2.0-or-later
//! SEND DIAGNOSTIC and its self-tests (SPC-5 6.42 and 5.6): the short one reads both ends of the disk, the extended one
//! all of it.

use std::collections::VecDeque;

use smallvec::{SmallVec, smallvec};

use crate::io::{Done, Landing, Op};
use crate::scsi::primary::{Counter, LogData};
use crate::scsi::{Context, Outcome, Resume, Sense, Step, asc, key};
use crate::time::Instant;
use crate::wire::scsi::be16;

use super::Disk;
use super::fault::{Fault, unexpected};
use super::limits::{Limits, Span};
use super::server::{DiskTask, Job};
use super::simple;

/// Parameters of the self-test results log page.
const RESULTS: usize = 20;

const PASSED: u8 = 0;
const ABORTED_BY_COMMAND: u8 = 1;
const ABORTED: u8 = 2;
const FAILED: u8 = 7;
const RUNNING: u8 = 15;

/// A self-test as the log tells it.
#[derive(Clone, Copy, Debug)]
struct SelfTestResult {
    code: u8,
    result: u8,
    hours: u16,
    /// Where it failed, and how.
    failure: Option<(u64, Sense)>,
}

/// The self-tests since the start, the latest first.
#[derive(Debug, Default)]
pub(super) struct SelfTestResults {
    entries: VecDeque<SelfTestResult>,
    /// The running test is to end.
    stop: bool,
}

impl SelfTestResults {
    /// Whether a self-test is under way.
    pub(super) fn running(&self) -> bool {
        self.entries.front().is_some_and(|entry| entry.result == RUNNING)
    }

    fn begin(&mut self, code: u8, now: Instant) {
        const HOUR: u64 = 3600 * 1_000_000_000;
        let hours = u16::try_from(now.as_nanos() / HOUR).unwrap_or(u16::MAX);
        self.stop = false;
        self.entries.push_front(SelfTestResult { code, result: RUNNING, hours, failure: None });
        self.entries.truncate(RESULTS);
    }

    fn end(&mut self, result: u8, failure: Option<(u64, Sense)>) {
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
                if let Some((lba, sense)) = entry.failure {
                    value[4..12].copy_from_slice(&lba.to_be_bytes());
                    value[12] = sense.key;
                    value[13..15].copy_from_slice(&sense.code.to_be_bytes());
                }
            }
            data.parameter(i as u16 + 1, Counter::List, &value);
        }
    }
}

/// SEND DIAGNOSTIC.
#[derive(Debug)]
pub(super) struct SelfTest {
    parts: SmallVec<[Span; 2]>,
    all: u64,
    done: u64,
    background: bool,
    reading: (u64, u32),
}

impl SelfTest {
    pub(super) fn begin(job: &Job<'_>, cx: &mut Context<'_>) -> Result<DiskTask, Fault> {
        const SELFTEST: u8 = 0x04;
        const BACKGROUND: u8 = 0;
        const STOP: u8 = 4;
        let code = job.cdb[1] >> 5;
        match be16(&job.cdb, 3) {
            0 => {}
            _ if job.cdb[1] & SELFTEST == 0 && code == 0 => return simple::send_diagnostic(job),
            // A self-test has no parameters.
            _ => return Err(Sense::invalid_field_in_cdb(3, None).into()),
        }
        if job.cdb[1] & SELFTEST != 0 && code != 0 {
            return Err(Sense::invalid_field_in_cdb(1, Some(7)).into());
        }
        let mut rare = job.disk.rare();
        let running = rare.self_tests.running();
        match code {
            0 if job.cdb[1] & SELFTEST == 0 => return Ok(DiskTask::Done(Outcome::good())),
            0 | 1 | 2 | 5 | 6 if running => {
                let code = asc::LOGICAL_UNIT_NOT_READY_SELF_TEST_IN_PROGRESS;
                let sense = Sense::new(key::NOT_READY, code).at_progress(job.disk.progress());
                return Err(sense.into());
            }
            0 | 1 | 2 | 5 | 6 => {}
            STOP if running => {
                rare.self_tests.stop = true;
                return Ok(DiskTask::Done(Outcome::good()));
            }
            _ => return Err(Sense::invalid_field_in_cdb(1, Some(7)).into()),
        }
        if let Some(sense) = job.disk.unready() {
            return Err(sense.into());
        }
        rare.self_tests.begin(code, cx.now);
        job.disk.set_progress(0, 1);
        let whole = Span { at: 0, left: job.limits.bytes(job.limits.capacity) };
        let chunk = u64::from(job.limits.chunk);
        let parts = match code {
            2 | 6 => smallvec![whole],
            _ if whole.left <= 2 * chunk => smallvec![whole],
            _ => smallvec![Span { at: whole.left - chunk, left: chunk }, Span { at: 0, left: chunk }],
        };
        let all = parts.iter().map(|part: &Span| part.left).sum();
        let background = code & 4 == BACKGROUND && code != 0;
        Ok(DiskTask::SelfTest(Box::new(Self { parts, all, done: 0, background, reading: (0, 0) })))
    }

    pub(super) fn advance(&mut self, answer: Option<Resume>, job: &Job<'_>) -> Result<Step, Fault> {
        match answer {
            None if self.background => return Ok(Step::Detach(Outcome::good())),
            None | Some(Resume::Detached) => {}
            Some(Resume::Stored(Done::Data(_))) => {
                self.done += u64::from(self.reading.1);
                job.disk.set_progress(self.done, self.all);
            }
            other => {
                let fault = unexpected(other, &job.limits);
                self.failed(&fault, job.disk, &job.limits);
                return Err(Sense::new(key::HARDWARE_ERROR, asc::LOGICAL_UNIT_FAILED_SELF_TEST).into());
            }
        }
        let results = &mut job.disk.rare().self_tests;
        if results.stop {
            results.end(ABORTED_BY_COMMAND, None);
            return Ok(Step::Finish(Outcome::good()));
        }
        while self.parts.last().is_some_and(|part| part.left == 0) {
            self.parts.pop();
        }
        let Some(part) = self.parts.last_mut() else {
            results.end(PASSED, None);
            return Ok(Step::Finish(Outcome::good()));
        };
        self.reading = part.take(job.limits.chunk);
        let (at, len) = self.reading;
        Ok(Step::Store(Op::Read { at, len, into: Landing::Own }))
    }

    fn failed(&self, fault: &Fault, disk: &Disk, limits: &Limits) {
        let sense = match fault {
            Fault::Check(sense) => *sense,
            Fault::Busy => Sense::new(key::HARDWARE_ERROR, asc::SYSTEM_RESOURCE_FAILURE),
        };
        let lba = sense.information.unwrap_or_else(|| limits.lba(self.reading.0));
        disk.rare().self_tests.end(FAILED, Some((lba, sense)));
    }

    /// The task is aborted.
    pub(super) fn aborted(disk: &Disk) {
        disk.rare().self_tests.end(ABORTED, None);
    }
}
