// SPDX-License-Identifier: GPL-2.0-or-later
//! The self-tests of SEND DIAGNOSTIC (SPC-5 6.42 and 5.6), which read what the device type says of the store.

use smallvec::SmallVec;

use super::fault::{Fault, unexpected};
use super::selftest_results::{ABORTED, ABORTED_BY_COMMAND, FAILED, PASSED};
use super::shape::{Shape, Span};
use super::unit::{DeviceType, Job, PrimaryUnit};
use crate::io::{Done, Landing, Op};
use crate::scsi::{Outcome, Resume, Sense, Step, asc, key};
use crate::time::Instant;

const SELFTEST: u8 = 0x04;

/// What SEND DIAGNOSTIC without a parameter list asks for.
#[derive(Debug)]
pub(super) enum DiagnosticRequest {
    /// Nothing more: the command is over.
    Nothing,
    /// A self-test.
    Test(SelfTest),
}

/// A self-test under way.
#[derive(Debug)]
pub struct SelfTest {
    parts: SmallVec<[Span; 2]>,
    all: u64,
    done: u64,
    background: bool,
    reading: (u64, u32),
}

/// Whether SEND DIAGNOSTIC asks for no self-test.
pub(super) fn without_test(cdb: &[u8; 16]) -> bool {
    cdb[1] & SELFTEST == 0 && cdb[1] >> 5 == 0
}

impl SelfTest {
    pub(super) fn begin<D: DeviceType>(job: &Job<'_, D>, now: Instant) -> Result<DiagnosticRequest, Fault> {
        const BACKGROUND: u8 = 0;
        const STOP: u8 = 4;
        let code = job.cdb[1] >> 5;
        if job.cdb[1] & SELFTEST != 0 && code != 0 {
            return Err(Sense::invalid_field_in_cdb(1, Some(7)).into());
        }
        let results = &mut job.primary().state().self_tests;
        let running = results.running();
        match code {
            0 if without_test(&job.cdb) => return Ok(DiagnosticRequest::Nothing),
            0 | 1 | 2 | 5 | 6 if running => {
                let code = asc::LOGICAL_UNIT_NOT_READY_SELF_TEST_IN_PROGRESS;
                return Err(Sense::new(key::NOT_READY, code).at_progress(job.primary().progress()).into());
            }
            0 | 1 | 2 | 5 | 6 => {}
            STOP if running => {
                results.stop = true;
                return Ok(DiagnosticRequest::Nothing);
            }
            _ => return Err(Sense::invalid_field_in_cdb(1, Some(7)).into()),
        }
        if let Some(sense) = job.unit.unready() {
            return Err(sense.into());
        }
        results.begin(code, now);
        job.primary().set_progress(0, 1);
        let parts = job.unit.self_test(matches!(code, 2 | 6), &job.shape);
        let all = parts.iter().map(|part| part.left).sum();
        let background = code & 4 == BACKGROUND && code != 0;
        Ok(DiagnosticRequest::Test(Self { parts, all, done: 0, background, reading: (0, 0) }))
    }

    pub(super) fn advance<D: DeviceType>(
        &mut self,
        answer: Option<Resume>,
        job: &Job<'_, D>,
    ) -> Result<Step, Fault> {
        match answer {
            None if self.background => return Ok(Step::Detach(Outcome::good())),
            None | Some(Resume::Detached) => {}
            Some(Resume::Stored(Done::Data(_))) => {
                self.done += u64::from(self.reading.1);
                job.primary().set_progress(self.done, self.all);
            }
            other => {
                let fault = unexpected(other, &job.shape);
                self.failed(&fault, job);
                return Err(Sense::new(key::HARDWARE_ERROR, asc::LOGICAL_UNIT_FAILED_SELF_TEST).into());
            }
        }
        let results = &mut job.primary().state().self_tests;
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
        self.reading = part.take(job.shape.chunk());
        let (at, len) = self.reading;
        Ok(Step::Store(Op::Read { at, len, into: Landing::Own }))
    }

    fn failed<D: DeviceType>(&self, fault: &Fault, job: &Job<'_, D>) {
        let sense = match fault {
            Fault::Check(sense) => sense.clone(),
            Fault::Busy | Fault::PartOfBlock { .. } => {
                Sense::new(key::HARDWARE_ERROR, asc::SYSTEM_RESOURCE_FAILURE)
            }
        };
        let lba = sense.information.unwrap_or_else(|| job.shape.lba(self.reading.0));
        job.primary().state().self_tests.end(FAILED, Some((lba, sense)));
    }

    /// The task is aborted.
    pub(super) fn aborted(unit: &PrimaryUnit) {
        unit.state().self_tests.end(ABORTED, None);
    }
}
