// SPDX-License-Identifier: GPL-2.0-or-later
//! MODE SELECT(6) and (10) under way.

use super::fault::{Fault, unexpected, unexpected_after_flush};
use super::mode::mode_select_list_length;
use super::unit::{DeviceType, Job, PrimaryUnit};
use crate::io::{Done, Op, Record};
use crate::scsi::{Outcome, Resume, Step, asc};

/// MODE SELECT. What is to be saved is kept first, and in force only then: if that fails, nothing has changed. One is
/// saved at a time, since the pages are kept together.
#[derive(Debug)]
pub struct ModeSelect {
    wanted: u32,
    list: Vec<u8>,
    /// The values are to be saved.
    save: bool,
    /// ... and are on their way.
    record: Option<Record>,
    changed: bool,
}

impl ModeSelect {
    pub(super) fn begin<D: DeviceType>(job: &Job<'_, D>) -> Result<Self, Fault> {
        const SP: u8 = 0x01;
        let wanted = mode_select_list_length(&job.cdb)?;
        let save = job.cdb[1] & SP != 0;
        Ok(Self { wanted, list: Vec::new(), save, record: None, changed: false })
    }

    pub(super) fn advance<D: DeviceType>(
        &mut self,
        answer: Option<Resume>,
        job: &Job<'_, D>,
    ) -> Result<Step, Fault> {
        let offered = self.wanted.min(job.command.expected.data_out);
        match (answer, self.record.take()) {
            (None, _) if offered != 0 => return Ok(Step::Fetch { len: offered }),
            (None, _) => {}
            (Some(Resume::Fetched(list)), _) => {
                self.list = vec![0; list.len()];
                list.copy_to(0, &mut self.list);
            }
            (Some(Resume::Persisted(Ok(()))), Some(record)) => return self.apply(job, Some(&record)),
            (Some(Resume::Stored(Done::Finished)), _) => return Ok(self.end()),
            (other, Some(_)) => {
                job.primary().state().modes.not_kept();
                return Err(unexpected(other, &job.shape));
            }
            (other, None) => return Err(unexpected_after_flush(other, &job.shape)),
        }
        if std::mem::take(&mut self.save) {
            let modes = &mut job.primary().state().modes;
            if modes.are_being_saved() {
                return Err(Fault::Busy);
            }
            let record = modes.record(&job.cdb, &self.list, &job.view())?;
            self.record = Some(record.clone());
            return Ok(Step::Persist(record));
        }
        self.apply(job, None)
    }

    /// Changes the parameters, all or none. What was saved is in force before the next can be.
    fn apply<D: DeviceType>(&mut self, job: &Job<'_, D>, saved: Option<&Record>) -> Result<Step, Fault> {
        let mut state = job.primary().state();
        if let Some(record) = saved {
            state.modes.kept(record);
        }
        self.changed = state.modes.select(&job.cdb, &self.list, &job.view())?;
        let (old, new) = PrimaryUnit::adopt_modes(job.unit, &state.modes);
        if old.has(D::WRITE_CACHE) && !new.has(D::WRITE_CACHE) {
            // What the cache holds becomes stable before the initiator hears that there is none. A write that is still
            // under way began under the old rule and may end under it.
            return Ok(Step::Store(Op::Flush));
        }
        Ok(self.end())
    }

    /// The task is aborted.
    pub(super) fn aborted(&self, unit: &PrimaryUnit) {
        if self.record.is_some() {
            unit.state().modes.not_kept();
        }
    }

    fn end(&self) -> Step {
        let attention = self.changed.then_some(asc::MODE_PARAMETERS_CHANGED);
        Step::Finish(Outcome::took(self.wanted.into()).telling_others(attention))
    }
}
