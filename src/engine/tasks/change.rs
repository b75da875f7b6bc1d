// SPDX-License-Identifier: GPL-2.0-or-later
//! Changes of the state of a logical unit (reservations, target port groups), each in force on all cores at once.
//!
//! The state is a snapshot of which every core has its own handle, so that a command looks at nothing shared. Changes
//! of a unit take turns ([`SharedState`]), and each goes like this:
//!
//! 1. The core that asks works out the next state. If it is refused, or is none, that is all.
//! 2. Every core is frozen ([`PeerMessage::Freeze`]): commands of this unit that arrive wait, as do tasks that want
//!    something of its store. A core answers ([`PeerMessage::Frozen`]) when the store holds none of its operations any
//!    more, which depends on nobody but the store: a task that waits for its initiator is asked again later.
//! 3. If the state is to outlive the daemon, its record is kept. A failure leaves everything as it was.
//! 4. The state is put in force ([`PeerMessage::InForce`]) together with its unit attentions and aborts, the command
//!    ends, and the next one has its turn. A core goes on when it hears of it; those that waited are judged by the new
//!    state.
//!
//! So there is one moment, between 2 and 4, at which the change happens for everybody: no command is judged by the old
//! state after any was judged by the new one, and none of the old state writes once the status is out.

use std::sync::Arc;

use smallvec::SmallVec;

use super::change_queue::{
    ChangeAnswer, Changing, Draining, FrozenFor, FrozenTask, Requester, SharedState, Turn,
};
use super::nobody::Nobody;
use super::task::{State, Task};
use super::task_set::TaskSet;
use super::unit::Unit;
use super::{NOBODY, NexusKey, Notice, PeerMessage, TaskManager, Transports, UnitKey};
use crate::io::{Op, Record, Tag};
use crate::scsi::primary::head;
use crate::scsi::reservations::{ChangeError, Effects, RECORD_NAME};
use crate::scsi::{
    Attention, Change, Nexus, NexusId, NotAdmitted, Outcome, Resume, Sense, Status, Step, TaskId, Transport,
    UnitState, Whom, asc, key,
};
use crate::time::Instant;

/// Marks the records of changes among those of tasks.
const CHANGE: u32 = 1 << 30;

impl TaskManager {
    /// Shares the state of a logical unit with the other cores.
    pub fn share(&mut self, unit: UnitKey, shared: Arc<SharedState>) {
        let this = &mut self.units[unit.row()];
        this.state = shared.current();
        this.shared = shared;
    }

    /// Asks for a change on behalf of the owner, who is told with [`Notice::Changed`].
    pub fn change(&mut self, unit: UnitKey, change: Change, what: u64) {
        match self.row(unit) {
            Some(row) => self.ask(row, change, None, Requester::Owner(what)),
            None => self.notices.push_back(Notice::Changed { what, refused: true }),
        }
    }

    /// Takes what the task manager of another core has said.
    pub fn hear(&mut self, message: PeerMessage) {
        match message {
            PeerMessage::Attention(unit, code) => self.attention(unit, code, None),
            PeerMessage::Freeze(unit, turn) => self.freeze(unit, turn),
            PeerMessage::Frozen(turn) => self.frozen(turn.ticket),
            PeerMessage::InForce { unit, state, effects, by } => self.adopt(unit.row(), &state, &effects, by),
            PeerMessage::Turn(turn) => self.changes.turns.push_back(turn.ticket),
        }
    }

    /// The rows of a unit and of another one that has its state, too, because it takes its place or has done so.
    fn twins(&self, unit: usize) -> SmallVec<[usize; 2]> {
        let shared = &self.units[unit].shared;
        let units = self.units.iter().enumerate();
        units.filter(|(_, other)| Arc::ptr_eq(&other.shared, shared)).map(|(row, _)| row).collect()
    }

    /// Some units with their twins.
    pub(super) fn with_twins(&self, units: SmallVec<[UnitKey; 4]>) -> SmallVec<[UnitKey; 4]> {
        let rows = units.into_iter().flat_map(|unit| self.twins(unit.row()));
        rows.map(|row| self.units[row].key).collect()
    }

    /// A unit that comes is frozen by the changes of the state that it has from another.
    pub(super) fn freeze_with_twins(&mut self, unit: usize) {
        let Some(twin) = self.twins(unit).into_iter().find(|twin| *twin != unit) else { return };
        let for_medium = |draining: &&Draining| {
            draining.unit == twin && matches!(draining.frozen_for, FrozenFor::Medium(_))
        };
        let for_medium = self.changes.draining.iter().filter(for_medium).count();
        self.units[unit].frozen = self.units[twin].frozen - for_medium;
    }

    /// Stops for a change of the state of a unit. Returns whether the store holds nothing of this core's.
    fn stop_for_change(&mut self, unit: usize) -> bool {
        self.twins(unit).into_iter().for_each(|row| self.units[row].freeze());
        is_drained(&self.units, unit)
    }

    /// Another core wants to change the state of a unit.
    pub(super) fn freeze(&mut self, unit: UnitKey, asked_by: Turn) {
        let row = unit.row();
        if self.stop_for_change(row) {
            self.notices.push_back(Notice::ToPeer(asked_by.core, PeerMessage::Frozen(asked_by)));
        } else {
            self.changes.draining.push(Draining { unit: row, frozen_for: FrozenFor::Change(asked_by) });
        }
    }

    /// A core has stopped for a change of this core's.
    fn frozen(&mut self, ticket: usize) {
        let changing = &mut self.changes.all[ticket];
        changing.left -= 1;
        if changing.left == 0 {
            self.stopped(ticket);
        }
    }

    /// Begins a change, or queues it.
    pub(super) fn ask(
        &mut self,
        unit: usize,
        change: Change,
        nexus: Option<(NexusId, Arc<Nexus>)>,
        by: Requester,
    ) {
        let changing = Changing { unit, change, nexus, by, next: None, left: 0 };
        let ticket = self.changes.all.insert(changing);
        let turn = Turn { core: self.core, ticket };
        if self.units[unit].shared.claim(turn) {
            self.begin_change(ticket);
        }
    }

    fn begin_change(&mut self, ticket: usize) {
        let changing = &self.changes.all[ticket];
        let unit = &mut self.units[changing.unit];
        let now = unit.shared.current();
        if let Requester::Task(task) = changing.by
            && self.tasks[task as usize].aborted
        {
            return self.over(ticket, Ok(now));
        }
        let nexus = changing.nexus.as_ref().map(|(id, nexus)| (*id, &**nexus));
        // The state may be another one than when the task was admitted.
        if let (Requester::Task(task), Some((id, nexus))) = (changing.by, nexus) {
            let cdb = &self.tasks[task as usize].command.cdb;
            let definition = unit.server.definition(cdb);
            if let Err(not_admitted) = now.admit(&now.nexus_access(id, nexus), definition, &head(cdb)) {
                return self.over(ticket, Err(not_admitted.into()));
            }
        }
        let (next, effects) = match now.change(&changing.change, nexus) {
            Ok((next, _)) if next.version() == now.version() => return self.over(ticket, Ok(now)),
            Ok(next) => next,
            Err(refusal) => return self.over(ticket, Err(refusal)),
        };
        let (row, key) = (changing.unit, unit.key);
        let turn = Turn { core: self.core, ticket };
        let own = !self.stop_for_change(row);
        if own {
            self.changes.draining.push(Draining { unit: row, frozen_for: FrozenFor::Change(turn) });
        }
        if self.peers > 0 {
            self.notices.push_back(Notice::ToPeers(PeerMessage::Freeze(key, turn)));
        }
        let changing = &mut self.changes.all[ticket];
        changing.next = Some((Arc::new(next), Arc::new(effects)));
        changing.left = self.peers + usize::from(own);
        if changing.left == 0 {
            self.stopped(ticket);
        }
    }

    /// No core can do anything by the old state any more.
    fn stopped(&mut self, ticket: usize) {
        let Changing { unit, next, .. } = &self.changes.all[ticket];
        let (next, _) = next.as_ref().expect("worked out before anybody stops");
        let unit = &self.units[*unit];
        if !next.must_be_persisted(&unit.state) {
            return self.settle(ticket, true);
        }
        let bytes = next.reservations().to_record();
        let record = Record { name: RECORD_NAME, generation: next.version(), bytes };
        match (&mut self.record_store, unit.slot) {
            (Some(record_store), Some(slot)) => {
                let tag = CHANGE | u32::try_from(ticket).expect("no more than tasks and nexuses");
                record_store.persist(Tag(tag), slot, record);
                self.persisting += 1;
            }
            _ => self.settle(ticket, false),
        }
    }

    /// Whether a record was that of a change; the change goes on.
    pub(super) fn persisted(&mut self, tag: Tag, result: Result<(), crate::io::Error>) -> bool {
        if tag.0 & CHANGE == 0 {
            return false;
        }
        self.settle((tag.0 & !CHANGE) as usize, result.is_ok());
        true
    }

    /// The change is in force, or else everything stays as it was.
    fn settle(&mut self, ticket: usize, good: bool) {
        let changing = &mut self.changes.all[ticket];
        let unit = changing.unit;
        let by = match changing.by {
            // It may have outlived its nexus.
            Requester::Finish(task) => Some(self.tasks[task as usize].command.nexus),
            _ => changing.nexus.as_ref().map(|(id, _)| *id),
        };
        let (next, effects) = changing.next.take().expect("worked out before it is settled");
        let before = self.units[unit].shared.current();
        let (state, effects) = if good { (next, effects) } else { (before, Arc::default()) };
        self.units[unit].shared.locked().current = state.clone();
        if self.peers > 0 {
            let (state, effects) = (state.clone(), effects.clone());
            let message = PeerMessage::InForce { unit: self.units[unit].key, state, effects, by };
            self.notices.push_back(Notice::ToPeers(message));
        }
        self.adopt(unit, &state, &effects, by);
        let lost = ChangeError::Check(Sense::new(key::HARDWARE_ERROR, asc::INTERNAL_TARGET_FAILURE));
        self.over(ticket, if good { Ok(state) } else { Err(lost) });
    }

    /// Ends a change, and gives the turn to the next.
    fn over(&mut self, ticket: usize, answer: ChangeAnswer) {
        let Changing { unit, by, .. } = self.changes.all.remove(ticket);
        match self.units[unit].shared.release() {
            Some(turn) if turn.core == self.core => self.changes.turns.push_back(turn.ticket),
            Some(turn) => self.notices.push_back(Notice::ToPeer(turn.core, PeerMessage::Turn(turn))),
            None => {}
        }
        match by {
            Requester::Task(task) | Requester::Finish(task) => self.changes.ended.push_back((task, answer)),
            Requester::Pending(Some(pending)) => self.one_less(pending),
            Requester::Pending(None) => {}
            Requester::Owner(what) => {
                self.notices.push_back(Notice::Changed { what, refused: answer.is_err() });
            }
        }
    }

    /// A step of a task that asks for a change; `Some` when it has ended at once.
    pub(super) fn change_for(&mut self, task: u32, change: Change) -> Option<ChangeAnswer> {
        let this = &mut self.tasks[task as usize];
        this.state = State::Changing;
        let unit = this.unit;
        let nexus = self.nexuses[this.nexus].who.clone();
        self.ask(unit, change, nexus, Requester::Task(task));
        match self.changes.ended.back() {
            Some((ended, _)) if *ended == task => self.changes.ended.pop_back().map(|(_, answer)| answer),
            _ => None,
        }
    }

    /// Whether all cores have to establish the unit attentions of an outcome before its status goes out. If there are
    /// none, or no other core, that is done when it returns.
    #[inline]
    pub(super) fn must_tell_cores(&mut self, task: u32, outcome: &mut Outcome) -> bool {
        if outcome.attentions.is_empty() {
            return false;
        }
        if self.peers == 0 {
            self.tell_this_core(task, outcome);
        }
        self.peers > 0
    }

    #[cold]
    fn tell_this_core(&mut self, task: u32, outcome: &mut Outcome) {
        while let Some((unit, told)) = self.next_told(task, &mut outcome.attentions) {
            let sender = self.tasks[task as usize].command.nexus;
            self.establish(unit, &told, Some(sender));
        }
    }

    /// A task has ended, or detaches itself, and its status follows when the unit attentions of its outcome are
    /// established on all cores.
    #[cold]
    pub(super) fn finish_everywhere(&mut self, task: u32, outcome: Outcome, state: State) {
        self.tasks[task as usize].state = state;
        self.changes.finishing.push((task, outcome));
        if !self.tell_next(task) {
            self.finish_soon(task);
        }
    }

    /// Goes on with the unit attentions of a task in [`State::Finishing`] or [`State::Detaching`], logical unit by
    /// logical unit. False if all are established.
    fn tell_next(&mut self, task: u32) -> bool {
        let Some(index) = self.changes.finishing.iter().position(|(waiting, _)| *waiting == task) else {
            return false;
        };
        let mut attentions = std::mem::take(&mut self.changes.finishing[index].1.attentions);
        let next = self.next_told(task, &mut attentions);
        self.changes.finishing[index].1.attentions = attentions;
        let Some((unit, told)) = next else { return false };
        self.ask(unit, Change::Attentions(told), None, Requester::Finish(task));
        true
    }

    /// Takes out what the next logical unit is told that is there.
    fn next_told(&self, task: u32, attentions: &mut Vec<Attention>) -> Option<(usize, Vec<(Whom, u16)>)> {
        let own = self.tasks[task as usize].unit;
        let at = |attention: &Attention| attention.unit.map_or(Some(own), |unit| self.row(unit));
        attentions.retain(|attention| at(attention).is_some());
        let unit = at(attentions.first()?)?;
        let told = attentions.extract_if(.., |attention| at(attention) == Some(unit));
        Some((unit, told.map(|attention| (attention.whom, attention.code)).collect()))
    }

    /// Establishes unit attentions at a logical unit for nexuses of this core.
    pub(super) fn establish(&mut self, unit: usize, told: &[(Whom, u16)], sender: Option<NexusId>) {
        for (key, nexus) in &mut self.nexuses {
            let Some((id, name)) = &nexus.who else { continue };
            for task_set in nexus.task_sets.iter_mut().filter(|task_set| task_set.unit.row() == unit) {
                for (_, code) in told.iter().filter(|(whom, _)| whom.includes(name, sender == Some(*id))) {
                    self.undelivered.extend(task_set.establish(*code).map(|event| (NexusKey(key), event)));
                }
            }
        }
    }

    /// A task in [`State::Finishing`] gets its status as soon as the transports are at hand.
    pub(super) fn finish_soon(&mut self, task: u32) {
        let unit = self.tasks[task as usize].unit;
        self.changes.ended.push_back((task, Ok(self.units[unit].state.clone())));
    }

    /// The outcome of a task in [`State::Finishing`] or [`State::Detaching`].
    fn finishing(&mut self, task: u32) -> Option<Outcome> {
        let index = self.changes.finishing.iter().position(|(waiting, _)| *waiting == task)?;
        Some(self.changes.finishing.swap_remove(index).1)
    }

    /// A reservation by RESERVE ends with its nexus and with a reset.
    pub(super) fn end_reserve(&mut self, unit: UnitKey, nexus: Option<usize>, pending: Option<usize>) {
        let Some(reserver) = self.units[unit.row()].shared.current().reservations().reserver() else {
            return;
        };
        let nexus = nexus.and_then(|nexus| self.nexuses[nexus].who.clone());
        if nexus.as_ref().is_some_and(|(id, _)| *id != reserver) {
            return;
        }
        let change = if nexus.is_some() { Change::Lost } else { Change::Reset };
        if let Some(pending) = pending {
            self.pending[pending].left += 1;
        }
        self.ask(unit.row(), change, nexus, Requester::Pending(pending));
    }

    /// A change of the state of a unit is over: this is what is in force.
    fn adopt(&mut self, unit: usize, state: &Arc<UnitState>, effects: &Effects, by: Option<NexusId>) {
        for row in self.twins(unit) {
            self.adopt_at(row, state.clone(), effects, by);
        }
    }

    fn adopt_at(&mut self, unit: usize, state: Arc<UnitState>, effects: &Effects, by: Option<NexusId>) {
        let this = &mut self.units[unit];
        if state.version() > this.state.version() {
            this.state = state;
            this.epoch = this.epoch.wrapping_add(1);
        }
        for (_, nexus) in &mut self.nexuses {
            let Some((id, name)) = &nexus.who else { continue };
            for task_set in nexus.task_sets.iter_mut().filter(|task_set| task_set.unit.row() == unit) {
                task_set.access = this.state.nexus_access(*id, name);
            }
        }
        self.establish(unit, &effects.attentions, by);
        let this = &mut self.units[unit];
        let mut aborts: SmallVec<[u32; 16]> = SmallVec::new();
        for (_, nexus) in &mut self.nexuses {
            let Some((id, name)) = &nexus.who else { continue };
            for task_set in nexus.task_sets.iter_mut().filter(|task_set| task_set.unit.row() == unit) {
                if effects.aborts.iter().any(|whom| whom.includes(name, by == Some(*id))) {
                    let before = aborts.len();
                    let own = nexus.exchanges.iter().flatten().copied();
                    aborts.extend(own.filter(|&task| self.tasks[task as usize].unit == unit));
                    if aborts.len() > before && !this.server.control().aborted_status {
                        // SAM-5 5.6: they end without a status.
                        task_set.attentions.establish(asc::COMMANDS_CLEARED_BY_ANOTHER_INITIATOR);
                    }
                }
            }
        }
        for task in aborts {
            self.aborted_by_another(task);
            // Nothing starts in their place before the transports are at hand: no clock is needed.
            self.abort(Instant::ZERO, task, None, None);
        }
        self.unfreeze(unit);
    }

    /// One of those is over for which a unit has stopped.
    pub(super) fn unfreeze(&mut self, unit: usize) {
        let this = &mut self.units[unit];
        this.frozen -= 1;
        if this.frozen == 0 && !this.held.is_empty() {
            self.changes.thawed.push_back(unit);
        }
    }

    /// Carries on what can be carried on. Returns how much that was.
    pub(super) fn poll_changes(
        &mut self,
        now: Instant,
        transports: &mut dyn Transports,
        touched: &mut dyn FnMut(NexusKey),
    ) -> usize {
        let mut work = 0;
        while !self.changes.idle() {
            let before = work;
            while let Some(ticket) = self.changes.turns.pop_front() {
                work += 1;
                self.begin_change(ticket);
            }
            let drained = |draining: &mut Draining| is_drained(&self.units, draining.unit);
            let drained: Vec<_> = self.changes.draining.extract_if(.., drained).collect();
            for Draining { frozen_for, .. } in drained {
                work += 1;
                match frozen_for {
                    FrozenFor::Change(turn) if turn.core == self.core => self.frozen(turn.ticket),
                    FrozenFor::Change(turn) => {
                        self.notices.push_back(Notice::ToPeer(turn.core, PeerMessage::Frozen(turn)));
                    }
                    FrozenFor::Medium(task) => self.change_drained_medium(now, task),
                }
            }
            while let Some((task, answer)) = self.changes.ended.pop_front() {
                work += 1;
                if self.tell_next(task) {
                    continue;
                }
                let Some(outcome) = self.finishing(task) else {
                    self.carry_on(now, task, Resume::Changed(answer), transports, touched);
                    continue;
                };
                let key = NexusKey(self.tasks[task as usize].nexus);
                let detaches = self.tasks[task as usize].state == State::Detaching;
                match transports.transport(key) {
                    transport if self.tasks[task as usize].aborted => self.end_aborted(now, task, transport),
                    Some(transport) if detaches => {
                        self.detach(now, task, outcome, transport);
                        self.resume(now, task, Resume::Detached, &mut Nobody);
                    }
                    _ if key.0 == NOBODY => self.finish(now, task, outcome, &mut Nobody),
                    Some(transport) => self.finish(now, task, outcome, transport),
                    None => {}
                }
                touched(key);
            }
            while let Some(unit) = self.changes.thawed.pop_front() {
                work += 1;
                self.thaw(now, unit, transports, touched);
            }
            if work == before {
                break;
            }
        }
        work
    }

    /// Lets those go on that have waited, in their order.
    fn thaw(
        &mut self,
        now: Instant,
        unit: usize,
        transports: &mut dyn Transports,
        touched: &mut dyn FnMut(NexusKey),
    ) {
        while self.units[unit].frozen == 0 {
            let Some(held) = self.units[unit].held.pop_front() else { return };
            let FrozenTask { task, op } = held;
            let key = NexusKey(self.tasks[task as usize].nexus);
            let mut nobody = Nobody;
            let transport: &mut dyn Transport = match transports.transport(key) {
                _ if key.0 == NOBODY => &mut nobody,
                Some(transport) => transport,
                None => continue,
            };
            match op {
                None if key.0 == NOBODY => self.begin_own(now, task),
                None => self.begin(now, task, transport),
                Some(op) => {
                    self.tasks[task as usize].goes_on(now);
                    self.run(now, task, Step::StoreOf(self.units[unit].key, op), transport);
                }
            }
            touched(key);
        }
    }

    /// Begins a task, or holds it while the state of its unit changes.
    #[inline(always)]
    pub(super) fn begin_or_hold(&mut self, now: Instant, task: u32, transport: &mut dyn Transport) {
        if !self.is_held(task) {
            self.begin(now, task, transport);
        }
    }

    /// Whether the state of its unit changes, so that a task that has not begun waits for the end of that.
    #[inline(always)]
    pub(super) fn is_held(&mut self, task: u32) -> bool {
        let this = &mut self.tasks[task as usize];
        let unit = &mut self.units[this.unit];
        let held = unit.frozen > 0 || !unit.held.is_empty();
        if held {
            this.state = State::HeldStart;
            unit.held.push_back(FrozenTask { task, op: None });
        }
        held
    }

    /// Whether a task may give an operation to the store of `at` now. If not, it is held, or has ended.
    pub(super) fn may_store(
        &mut self,
        now: Instant,
        task: u32,
        at: usize,
        op: Op,
        transport: &mut dyn Transport,
    ) -> Option<Op> {
        let unit = &mut self.units[at];
        let this = &mut self.tasks[task as usize];
        this.storing_at = at;
        if unit.frozen > 0 {
            this.state = State::HeldOp;
            unit.held.push_back(FrozenTask { task, op: Some(op) });
            return None;
        }
        if at == this.unit {
            this.epoch = unit.epoch;
        }
        let Some(not_admitted) = self.not_admitted(task) else { return Some(op) };
        let outcome = Outcome::from(not_admitted);
        drop(op);
        let this = &self.tasks[task as usize];
        let (unit, data_in, data_out) = (this.unit, this.sent.into(), this.fetched.into());
        self.units[unit].server.abort(TaskId(task));
        self.finish(now, task, Outcome { data_in, data_out, ..outcome }, transport);
        None
    }

    /// Why a task may not go on by the state that is in force.
    #[inline]
    pub(super) fn not_admitted(&self, task: u32) -> Option<NotAdmitted> {
        let this = &self.tasks[task as usize];
        let task_set = &self.nexuses[this.nexus].task_sets[this.task_set?];
        if task_set.access.open { None } else { self.not_admitted_to(task_set, this) }
    }

    #[cold]
    fn not_admitted_to(&self, task_set: &TaskSet, this: &Task) -> Option<NotAdmitted> {
        let unit = &self.units[this.unit];
        let cdb = &this.command.cdb;
        unit.state.admit(&task_set.access, unit.server.definition(cdb), &head(cdb)).err()
    }
}

/// Whether the store of a unit holds nothing of this core's, nor that of one with the same state.
fn is_drained(units: &[Unit], unit: usize) -> bool {
    let shared = &units[unit].shared;
    units.iter().filter(|other| Arc::ptr_eq(&other.shared, shared)).all(Unit::drained)
}

impl From<NotAdmitted> for ChangeError {
    fn from(not_admitted: NotAdmitted) -> Self {
        match not_admitted {
            NotAdmitted::Conflict => Self::Conflict,
            NotAdmitted::NotReady(sense) => Self::Check(sense),
        }
    }
}

impl From<NotAdmitted> for Outcome {
    fn from(not_admitted: NotAdmitted) -> Self {
        match not_admitted {
            NotAdmitted::Conflict => Self::status(Status::ReservationConflict),
            NotAdmitted::NotReady(sense) => Self::check(sense),
        }
    }
}
