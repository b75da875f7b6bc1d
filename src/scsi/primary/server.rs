// SPDX-License-Identifier: GPL-2.0-or-later
//! The device server of every device type: from a command to its row of the table, and from step to step.

use std::sync::Arc;

use super::common_pages::control;
use super::counts::LogCounts;
use super::fault::Fault;
use super::flags::UnitFlags;
use super::identity::Designation;
use super::presence::MediumPresence;
use super::shape::Shape;
use super::table::{Definition, Needs};
use super::unit::{Job, PrimaryUnit};
use super::work::{CommandSet, DeviceTask, TaskWork};
use crate::io::{Geometry, Health, Op};
use crate::scsi::{
    Cdb, Command, Context, Control, CopyTraits, DeviceServer, NexusId, Outcome, Resume, Sense, Step, TaskId,
    asc, key,
};
use crate::time::Instant;

/// The device server of one logical unit on one core.
#[derive(Debug)]
pub struct PrimaryServer<D: CommandSet> {
    unit: Arc<D>,
    counts: Arc<LogCounts>,
    /// By [`TaskId`], which is dense: grows to the most tasks there ever were at once.
    tasks: Vec<TaskWork<D>>,
}

impl<D: CommandSet> PrimaryServer<D> {
    /// A device server for one more core.
    pub fn new(unit: Arc<D>) -> Self {
        let counts = unit.primary().counters();
        Self { unit, counts, tasks: Vec::new() }
    }

    /// The logical unit.
    pub fn unit(&self) -> &Arc<D> {
        &self.unit
    }

    /// Begins a task with its first step.
    #[inline(always)]
    fn first(
        &mut self,
        task: TaskId,
        command: &Command,
        cx: &mut Context<'_>,
        begin: impl FnOnce(&Job<'_, D>, &mut Context<'_>) -> Result<TaskWork<D>, Fault>,
    ) -> Step {
        let job = job(&*self.unit, &self.counts, command, &cx.geometry);
        let work = slot(&mut self.tasks, task);
        *work = match begin(&job, cx) {
            Ok(work) => work,
            Err(fault) => return finish(fault, &TaskWork::Idle, &job),
        };
        let step = work.advance(None, &job, cx).unwrap_or_else(|fault| finish(fault, work, &job));
        if let Step::Finish(_) | Step::ReleaseMedium { .. } = step {
            *work = TaskWork::Idle;
        }
        step
    }
}

/// Whether the medium is not as usual.
fn is_medium_unusual<D: CommandSet>(unit: &D) -> bool {
    unit.primary().flags().has(UnitFlags(D::MEDIUM.0 | UnitFlags::PRESENCE.0))
}

fn job<'a, D: CommandSet>(
    unit: &'a D,
    counts: &'a LogCounts,
    command: &'a Command,
    geometry: &Geometry,
) -> Job<'a, D> {
    let (cdb, shape) = (D::short_form(&command.cdb), unit.shape(geometry));
    Job { unit, command, cdb, shape, counts }
}

fn slot<D: CommandSet>(tasks: &mut Vec<TaskWork<D>>, task: TaskId) -> &mut TaskWork<D> {
    let index = task.0 as usize;
    if tasks.len() <= index {
        tasks.resize_with(index + 1, TaskWork::default);
    }
    &mut tasks[index]
}

/// Why a command cannot be carried out now, if the medium is not as usual.
#[cold]
fn refusal<D: CommandSet>(unit: &D, definition: &Definition) -> Option<Sense> {
    match definition.needs {
        Needs::Nothing => None,
        Needs::NotFormatting => unit.occupied(),
        Needs::Medium => unit.primary().absence().or_else(|| unit.unready()),
    }
}

#[cold]
fn in_own_words<D: CommandSet>(command: &Command, fault: Fault) -> Fault {
    match fault {
        Fault::Check(sense) => Fault::Check(D::in_own_words(&command.cdb, sense)),
        other => other,
    }
}

/// Finds the command in the table and begins it.
fn begin<D: CommandSet>(job: &Job<'_, D>, cx: &mut Context<'_>) -> Result<TaskWork<D>, Fault> {
    let row = D::table().find(&job.command.cdb, || job.shape.features())?;
    if is_medium_unusual(job.unit)
        && let Some(sense) = refusal(job.unit, &row.definition)
    {
        return Err(sense.into());
    }
    if row.definition.writes && job.unit.protected(&job.shape) {
        return Err(Sense::new(key::DATA_PROTECT, asc::WRITE_PROTECTED).into());
    }
    (row.run)(job, cx).map_err(|fault| in_own_words::<D>(job.command, fault))
}

/// Ends a task with a fault.
#[cold]
fn finish<D: CommandSet>(fault: Fault, work: &TaskWork<D>, job: &Job<'_, D>) -> Step {
    if let Fault::Check(sense) = &fault {
        job.counts.error(work.access(), sense);
    }
    Step::Finish(Outcome { data_in: work.sent(), ..fault.into() })
}

impl<D: CommandSet> DeviceServer for PrimaryServer<D> {
    fn start(&mut self, task: TaskId, command: &Command, cx: &mut Context<'_>) -> Step {
        self.first(task, command, cx, begin)
    }

    fn next_deadline(&self) -> Option<Instant> {
        self.unit.next_deadline()
    }

    fn wake(&mut self, task: TaskId, command: &Command, cx: &mut Context<'_>) -> Option<Step> {
        let work = D::wake(&self.unit, cx)?;
        Some(self.first(task, command, cx, |_, _| Ok(work)))
    }

    fn resume(&mut self, task: TaskId, command: &Command, answer: Resume, cx: &mut Context<'_>) -> Step {
        let job = job(&*self.unit, &self.counts, command, &cx.geometry);
        let work = slot(&mut self.tasks, task);
        // What began before the unit was occupied does not go on, but for what is not about the medium.
        let overtaken = match is_medium_unusual(job.unit) && !work.stays() {
            true => job.unit.occupied(),
            false => None,
        };
        let step = match overtaken {
            Some(sense) => Err(sense.into()),
            None => work.advance(Some(answer), &job, cx),
        };
        let step = step.unwrap_or_else(|fault| finish(fault, work, &job));
        match &step {
            Step::Finish(outcome) => {
                if let TaskWork::Own(task) = work {
                    task.ended(&self.unit, outcome);
                }
                *work = TaskWork::Idle;
            }
            Step::ReleaseMedium { .. } => *work = TaskWork::Idle,
            _ => {}
        }
        step
    }

    fn prevents_removal(&self) -> bool {
        !self.unit.primary().state().prevented.is_empty()
    }

    fn release_medium(&mut self, task: TaskId, command: &Command, force: bool, cx: &mut Context<'_>) -> Step {
        self.first(task, command, cx, |_, _| Ok(D::release(force)))
    }

    fn medium_gone(&mut self) {
        self.unit.primary().set_presence(MediumPresence::Absent);
        self.unit.medium_gone();
    }

    fn medium_come(&mut self) {
        self.unit.medium_come();
        self.unit.primary().set_presence(MediumPresence::Present);
    }

    fn abort(&mut self, task: TaskId) {
        std::mem::take(slot(&mut self.tasks, task)).aborted(&self.unit);
    }

    fn goes_on(&self, task: TaskId) -> bool {
        matches!(self.tasks.get(task.0 as usize), Some(TaskWork::Own(task)) if task.goes_on())
    }

    fn nexus_lost(&mut self, nexus: NexusId) {
        self.unit.primary().prevent(nexus, false);
        self.unit.nexus_lost(nexus);
    }

    fn inspected(&mut self, health: &Health) -> Vec<u16> {
        self.unit.inspected(health)
    }

    fn copies_as(&self, name: &Designation) -> Option<CopyTraits> {
        if self.unit.primary().identity().goes_by(name) { self.unit.copy_traits() } else { None }
    }

    fn admits(&self, op: &Op, geometry: &Geometry) -> bool {
        self.unit.admits(op, &self.unit.shape(geometry))
    }

    fn definition(&self, cdb: &Cdb) -> Option<&'static Definition> {
        D::table().definition(cdb)
    }

    fn reset(&mut self) {
        PrimaryUnit::reset(&*self.unit);
        self.unit.reset();
    }

    fn control(&self) -> Control {
        control(self.unit.primary().flags())
    }
}
