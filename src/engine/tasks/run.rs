// SPDX-License-Identifier: GPL-2.0-or-later
//! From step to step: what a device server wants, and how a command ends.

use super::nobody::Nobody;
use super::{CommandKind, State, TaskManager, UnitKey, residual};
use crate::io::{self, Done, Op, Submitted, Tag};
use crate::scsi::{
    Command, Context, DeviceServer, Interlock, NotAdmitted, Outcome, Response, Resume, Sense, Status, Step,
    TaskId, Transport, UnitAttentions, key,
};
use crate::time::Instant;

/// Store operations that a task gets done at once, one after the other, before it waits as if the store were full, for
/// others to have their turn.
const AT_ONCE: u32 = 16;

impl TaskManager {
    /// A task that has its turn, by the state of the unit that is now in force.
    pub(super) fn begin(&mut self, now: Instant, task: u32, transport: &mut dyn Transport) {
        let this = &mut self.tasks[task as usize];
        let was = this.state;
        this.goes_on(now);
        this.epoch = self.units[this.unit].epoch;
        let not_admitted = self.not_admitted(task);
        // SAM-5 5.3.3: this status goes before a unit attention, which stays.
        if let Some(not_admitted @ NotAdmitted::Conflict) = not_admitted {
            return self.finish(now, task, not_admitted.into(), transport);
        }
        let this = &self.tasks[task as usize];
        let mut attention = None;
        if let Some(task_set) = this.task_set {
            let task_set = &mut self.nexuses[this.nexus].task_sets[task_set];
            let server = &self.units[task_set.unit.row()].server;
            let passes = || server.definition(&this.command.cdb).is_some_and(|d| d.passes_attentions);
            if !task_set.attentions.is_empty() && !passes() {
                attention = match server.control().interlock {
                    Interlock::Cleared => task_set.attentions.take(),
                    _ => task_set.attentions.first(),
                };
            }
        }
        if let Some(code) = attention {
            let sense = Sense::new(key::UNIT_ATTENTION, code);
            return self.finish(now, task, Outcome::check(sense), transport);
        }
        if let Some(not_admitted) = not_admitted {
            return self.finish(now, task, not_admitted.into(), transport);
        }
        if self.faults.any() && was != State::Delayed && self.meddle(now, task, transport) {
            return;
        }
        let step = self.call(now, task, transport, |server, id, command, cx| server.start(id, command, cx));
        self.run(now, task, step, transport);
    }

    pub(super) fn resume(&mut self, now: Instant, task: u32, answer: Resume, transport: &mut dyn Transport) {
        self.tasks[task as usize].goes_on(now);
        let step =
            self.call(now, task, transport, |server, id, command, cx| server.resume(id, command, answer, cx));
        self.run(now, task, step, transport);
    }

    /// Calls the device server of a task.
    // Always: every command comes by twice or more.
    #[inline(always)]
    pub(super) fn call<R>(
        &mut self,
        now: Instant,
        task: u32,
        transport: &mut dyn Transport,
        call: impl FnOnce(&mut dyn DeviceServer, TaskId, &Command, &mut Context<'_>) -> R,
    ) -> R {
        let this = &self.tasks[task as usize];
        let unit = &mut self.units[this.unit];
        let nexus = &mut self.nexuses[this.nexus];
        let mut none = UnitAttentions::default();
        let (attentions, lease) = match this.task_set.map(|task_set| &mut nexus.task_sets[task_set]) {
            Some(task_set) => (&mut task_set.attentions, task_set.lease.as_ref()),
            None => (&mut none, None),
        };
        let request_tag = this.request_tag;
        let mut cx = Context {
            arena: &self.arena,
            geometry: unit.geometry(),
            state: &unit.state,
            attentions,
            nexus: nexus.who.as_ref().map(|(_, name)| &**name),
            luns: &nexus.luns,
            landing: &mut |len| transport.landing(request_tag, len),
            lease,
            now,
        };
        call(&mut *unit.server, TaskId(task), &this.command, &mut cx)
    }

    /// Carries out steps until one has to wait.
    pub(super) fn run(&mut self, now: Instant, task: u32, mut step: Step, transport: &mut dyn Transport) {
        let mut nobody = Nobody;
        let mut transport = transport;
        let mut at_once = 0;
        loop {
            let this = &mut self.tasks[task as usize];
            let answer = match step {
                Step::Store(op) => match self.store(now, task, None, op, &mut at_once, transport) {
                    Some(answer) => answer,
                    None => return,
                },
                Step::StoreOf(unit, op) => {
                    let other = (unit.row() != this.unit).then_some(unit);
                    match self.store(now, task, other, op, &mut at_once, transport) {
                        Some(answer) => answer,
                        None => return,
                    }
                }
                Step::Persist(record) => match self.persist(task, record) {
                    Ok(()) => {
                        self.tasks[task as usize].state = State::Persisting;
                        return;
                    }
                    Err(error) => Resume::Persisted(Err(error)),
                },
                Step::MoveMedia(changes) => match self.move_media(task, changes) {
                    Ok(()) => {
                        self.tasks[task as usize].state = State::Moving;
                        return;
                    }
                    Err(why) => Resume::MediaMoved(Err(why)),
                },
                Step::Change(change) => match self.change_for(task, change) {
                    Some(answer) => {
                        self.tasks[task as usize].state = State::Running;
                        Resume::Changed(answer)
                    }
                    None => return,
                },
                Step::Fetch { len } => {
                    debug_assert!(len <= this.command.expected.data_out - this.fetched, "asked for too much");
                    this.state = State::Fetching;
                    return transport.receive_data_out(this.request_tag, len);
                }
                Step::Send(mut data) => {
                    data.truncate((this.command.expected.data_in - this.sent) as usize);
                    if !data.is_empty() {
                        this.sent += u32::try_from(data.len()).expect("cut to a 32-bit length");
                        this.state = State::Sending;
                        return transport.send_data_in(this.request_tag, data);
                    }
                    Resume::Sent
                }
                Step::Look(name) => Resume::Seen(self.look(task, &name)),
                Step::Detach(mut outcome) => {
                    if self.must_tell_cores(task, &mut outcome) {
                        return self.finish_everywhere(task, outcome, State::Detaching);
                    }
                    self.detach(now, task, outcome, transport);
                    transport = &mut nobody;
                    Resume::Detached
                }
                Step::ReleaseMedium { stays } => return self.release_medium(now, task, stays),
                Step::Finish(mut outcome) => {
                    if self.must_tell_cores(task, &mut outcome) {
                        return self.finish_everywhere(task, outcome, State::Finishing);
                    }
                    return self.finish(now, task, outcome, transport);
                }
            };
            step = self
                .call(now, task, transport, |server, id, command, cx| server.resume(id, command, answer, cx));
        }
    }

    /// Gives an operation to the store of the task's unit, or of another one. Nothing if that has to wait.
    // Always: nearly every command has a step like this.
    #[inline(always)]
    fn store(
        &mut self,
        now: Instant,
        task: u32,
        other: Option<UnitKey>,
        mut op: Op,
        at_once: &mut u32,
        transport: &mut dyn Transport,
    ) -> Option<Resume> {
        let this = &mut self.tasks[task as usize];
        let at = other.map_or(this.unit, UnitKey::row);
        this.storing_at = at;
        let epoch = this.epoch;
        if let Some(other) = other
            && self.may_not_reach(task, other, &op)
        {
            return Some(Resume::NotAdmitted);
        }
        // The epoch is that of the task's own unit: another's is looked at each time.
        if other.is_some() || epoch != self.units[at].epoch {
            op = self.may_store(now, task, at, op, transport)?;
        }
        let (this, unit) = (&mut self.tasks[task as usize], &mut self.units[at]);
        let submitted = match &mut unit.store {
            _ if *at_once == AT_ONCE => Submitted::Full(op),
            Some(store) => store.submit(Tag(task), op),
            None => {
                let error = io::Error { kind: io::ErrorKind::Unsupported, at: 0 };
                Submitted::Done(Done::Failed(error))
            }
        };
        match submitted {
            Submitted::Done(done) => {
                *at_once += 1;
                return Some(Resume::Stored(done));
            }
            Submitted::Queued => {
                unit.storing += 1;
                this.state = State::Storing;
            }
            Submitted::Full(op) => {
                unit.refused.push_back((task, op));
                this.state = State::Refused;
            }
        }
        None
    }

    // Always: so every command ends.
    #[inline(always)]
    pub(super) fn finish(
        &mut self,
        now: Instant,
        task: u32,
        outcome: Outcome,
        transport: &mut dyn Transport,
    ) {
        let this = &self.tasks[task as usize];
        if let Some(task_set) = this.task_set
            && (outcome.status == Status::CheckCondition
                || self.nexuses[this.nexus].task_sets[task_set].aca.is_some())
        {
            return self.finish_in_set(now, task, task_set, outcome, transport);
        }
        self.complete(task, outcome, transport);
        self.end(now, task, Some(transport));
    }

    /// Tells the initiator how its command ended.
    // Always, as `finish` is.
    #[inline(always)]
    pub(super) fn complete(&mut self, task: u32, outcome: Outcome, transport: &mut dyn Transport) {
        let this = &self.tasks[task as usize];
        let unit = &mut self.units[this.unit];
        let expected = this.command.expected;
        let mut data = outcome.data;
        data.truncate((expected.data_in - this.sent) as usize);
        let sent = this.sent + u32::try_from(data.len()).expect("cut to a 32-bit length");
        let count = &mut unit.counters;
        let kind = if sent > 0 {
            count.reads += 1;
            count.read_bytes += u64::from(sent);
            CommandKind::Read
        } else if this.fetched > 0 {
            count.writes += 1;
            count.write_bytes += u64::from(this.fetched);
            CommandKind::Write
        } else {
            count.others += 1;
            CommandKind::Other
        };
        self.ended.push(this.unit, kind, this.times);
        let attention = outcome.sense.as_ref().is_some_and(|sense| sense.key == key::UNIT_ATTENTION);
        if outcome.status == Status::CheckCondition && !attention {
            count.errors += 1;
        }
        if !matches!(outcome.status, Status::Good | Status::CheckCondition)
            && let Some(task_set) = this.task_set
        {
            let interlock = unit.server.control().interlock;
            self.nexuses[this.nexus].task_sets[task_set].attentions.after(outcome.status, interlock);
        }
        let response = Response {
            status: outcome.status,
            sense: outcome
                .sense
                .map(|sense| sense.encode(unit.server.control().descriptor_sense))
                .unwrap_or_default(),
            data,
            residual_in: residual(expected.data_in, outcome.data_in, sent),
            residual_out: residual(expected.data_out, outcome.data_out, this.fetched),
        };
        transport.send_command_complete(this.request_tag, response);
    }
}
