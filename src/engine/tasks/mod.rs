// SPDX-License-Identifier: GPL-2.0-or-later
//! The task router and task manager of one core (SAM-5 4.6): it takes commands from transports, runs them through
//! device servers and stores, and sees that each ends exactly once.
//!
//! Every I_T nexus has a task set of its own in each logical unit (TST = 001b), so that ordering never crosses cores.
//! A buffer that a store holds is never given up: an aborted task stays until its store operation has come back, and
//! the task management function that aborted it is answered then.

mod abort;
mod aca;
mod change;
mod change_queue;
mod command_faults;
mod copy;
mod detach;
mod faults;
mod fence;
mod flush;
mod last_flush;
mod latency;
mod line;
mod medium;
mod medium_change;
mod moves;
mod nobody;
mod own;
mod own_memory;
mod persist;
mod remote;
mod remote_nexus;
mod retire;
mod retirement;
mod run;
mod serial;
mod task;
mod task_set;
mod unit;
mod units;

use std::collections::VecDeque;
use std::os::fd::RawFd;
use std::sync::Arc;

use slab::Slab;
use smallvec::SmallVec;

use super::media::MediaMover;
use crate::io::{Done, Error, Geometry, RecordStore, Tag};
use crate::memory::{Arena, prefetch};
use crate::reactor::CoreContext;
use crate::scsi::reservations::Effects;
use crate::scsi::{
    Command, DeviceServer, Lun, Nexus, NexusId, NexusIds, Outcome, Request, RequestTag, Residual, Response,
    Resume, Sense, Status, Step, TaskAttribute, TaskManagementResponse, Transport, UnitState, Whom, asc,
};
use change_queue::Changes;
use command_faults::Faults;
use last_flush::{FLUSH, LastFlush};
use latency::Ended;
use line::{CommandPlace, SerialUnits};
use medium_change::ChangingMedium;
use nobody::Nobody;
use remote_nexus::RemoteNexus;
use retirement::Retirement;
use task::{State, Task};
use task_set::{Aca, Admission, TaskSet, Undelivered, luns};
use unit::Unit;

pub use change_queue::{SharedState, Turn};
pub use command_faults::{Answer, CommandFault, CommandFaults};
pub use latency::{CommandKind, Histogram, Latencies, Stage};
pub use medium_change::{MediumChange, MediumRefusal};
pub use remote_nexus::{NexusMessage, TransportCall};
pub use unit::{NewUnit, UnitCounters};

pub use crate::scsi::{UnitKey, UnitKeys};

use crate::time::Instant;

/// Most tasks of one core at once; beyond it commands end with TASK SET FULL.
pub const TASKS_MAX: usize = 64 << 10;

/// Names a nexus on its core.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NexusKey(pub usize);

/// Where the transport of a nexus is found.
pub trait Transports {
    /// The transport, unless it is gone already.
    fn transport(&mut self, nexus: NexusKey) -> Option<&mut dyn Transport>;
}

/// What to do when a set of tasks has been aborted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterAbort {
    /// Answer the task management request.
    Answer {
        /// At this nexus.
        nexus: NexusKey,
        /// Its name for the request.
        request: RequestTag,
    },
    /// Tell the owner, who knows what the number means.
    Tell(u64),
    /// This task gets its status.
    Status(u32),
    /// The logical unit is free for the next command in line.
    Next(UnitKey),
    /// Tell the core of a session that its nexus, which is mirrored here, has left.
    Left {
        /// Which core.
        core: usize,
        /// Its key for the nexus.
        nexus: NexusKey,
    },
}

/// What the owner of a task manager has to carry on.
#[derive(Debug, PartialEq, Eq)]
pub enum Notice {
    /// A logical unit reset has begun here: call [`TaskManager::reset`] on every other core, and
    /// [`TaskManager::peer_done`] here for each that has finished.
    ResetPeers {
        /// The logical units.
        units: SmallVec<[UnitKey; 4]>,
        /// To be given back.
        ticket: usize,
    },
    /// TARGET COLD RESET of this nexus is answered: its sessions with the target are to end, and those of all others,
    /// on every core.
    ColdReset(NexusKey),
    /// All tasks of a [`AfterAbort::Tell`] have ended.
    Ended(u64),
    /// Call [`TaskManager::hear`] on every other core.
    ToPeers(PeerMessage),
    /// Call [`TaskManager::hear`] on that core.
    ToPeer(usize, PeerMessage),
    /// A change that the owner has asked for has ended.
    Changed {
        /// The owner's name for it.
        what: u64,
        /// It was refused, or could not be kept.
        refused: bool,
    },
    /// A change of the medium of a logical unit has ended; the error says why everything is as before.
    MediumChanged {
        /// The owner's name for it.
        what: u64,
        /// How it has ended.
        outcome: Result<(), MediumRefusal>,
    },
    /// Nothing of this core's is under way any more at a logical unit for which [`TaskManager::retire`] was called, and
    /// all that was written is on stable storage, or why not.
    Retired(UnitKey, Result<(), Error>),
}

/// What the task managers of a daemon say to each other. Their owners carry it; two of one sender arrive in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerMessage {
    /// Establish a unit attention (`ASC << 8 | ASCQ`) at a logical unit.
    Attention(UnitKey, u16),
    /// Stop for a change of a logical unit's state, then tell.
    Freeze(UnitKey, Turn),
    /// A core has stopped for a change.
    Frozen(Turn),
    /// A change is in force.
    InForce {
        /// The logical unit.
        unit: UnitKey,
        /// Its state.
        state: Arc<UnitState>,
        /// What it means for nexuses.
        effects: Arc<Effects>,
        /// The nexus that has asked for it.
        by: Option<NexusId>,
    },
    /// Another core's change has ended: it is the turn of one of that core's.
    Turn(Turn),
}

struct NexusState {
    /// Its number and its names; that of [`NOBODY`] has none.
    who: Option<(NexusId, Arc<Nexus>)>,
    /// Those of the logical units that it sees, in ascending order of LUN; behind them those that it does not see any
    /// more.
    task_sets: Vec<TaskSet>,
    /// How many it sees.
    seen: usize,
    luns: Vec<Lun>,
    /// Task by exchange number.
    exchanges: Vec<Option<u32>>,
    tasks: usize,
    /// What it has at other cores.
    remote: Option<Box<RemoteNexus>>,
    /// It is another core's, and has task sets of units that this one owns.
    mirror: bool,
    /// The transport is gone; the entry lives until its last task has ended.
    gone: bool,
}

impl NexusState {
    /// The task sets of the logical units that it sees.
    /// Task sets that it does not see any more.
    fn unseen(&self) -> &[TaskSet] {
        &self.task_sets[self.seen..]
    }

    /// Its logical units, those of other owners last.
    fn all_seen(&self) -> impl Iterator<Item = (Lun, UnitKey)> {
        let elsewhere = self.remote.iter().flat_map(|remote| &remote.units);
        let elsewhere = elsewhere.map(|&(lun, unit, _)| (lun, unit));
        self.seen().iter().map(|task_set| (task_set.lun, task_set.unit)).chain(elsewhere)
    }

    fn seen(&self) -> &[TaskSet] {
        &self.task_sets[..self.seen]
    }

    /// The task set of a logical unit that it sees.
    fn task_set(&self, lun: Lun) -> Option<usize> {
        self.seen().binary_search_by_key(&lun, |task_set| task_set.lun).ok()
    }
}

struct Pending {
    left: usize,
    /// Logical units to reset when nothing is left.
    reset: SmallVec<[UnitKey; 4]>,
    /// The reset is a cold one.
    cold: bool,
    after: AfterAbort,
}

/// See the module.
pub struct TaskManager {
    arena: Arena,
    units: Vec<Unit>,
    nexuses: Slab<NexusState>,
    nexus_ids: NexusIds,
    tasks: Slab<Task>,
    pending: Slab<Pending>,
    notices: VecDeque<Notice>,
    /// Messages to other cores about nexuses.
    outgoing: VecDeque<(usize, NexusKey, NexusMessage)>,
    serial: SerialUnits,
    /// Changes of media that have not ended.
    media: Vec<ChangingMedium>,
    /// What waits for a transport that was not at hand.
    undelivered: VecDeque<(NexusKey, Undelivered)>,
    core: usize,
    peers: usize,
    changes: Changes,
    last_flush: LastFlush,
    completions: Vec<(Tag, Done)>,
    ended: Ended,
    /// Nexuses and task sets with fences.
    fenced: Vec<(usize, usize)>,
    faults: Faults,
    record_store: Option<Box<dyn RecordStore>>,
    /// Records under way.
    persisting: usize,
    media_mover: Option<Box<dyn MediaMover>>,
    /// Moves of media under way.
    moving: usize,
    retirement: Retirement,
    tasks_max: usize,
}

/// The unit that stands for every logical unit that is not there.
const ABSENT: usize = 0;

/// The nexus of tasks that go on without one.
const NOBODY: usize = 0;

impl TaskManager {
    /// A task manager without logical units, on a core. All cores have a share in the same logical units. `absent`
    /// serves the logical units that are not there.
    pub fn new(context: &CoreContext, absent: Box<dyn DeviceServer>) -> Self {
        let mut manager = Self {
            arena: context.arena().clone(),
            units: Vec::new(),
            nexuses: Slab::new(),
            nexus_ids: NexusIds::of_core(context.core()),
            tasks: Slab::new(),
            pending: Slab::new(),
            notices: VecDeque::new(),
            outgoing: VecDeque::new(),
            serial: SerialUnits::default(),
            media: Vec::new(),
            undelivered: VecDeque::new(),
            core: context.core(),
            peers: context.cores() - 1,
            changes: Changes::default(),
            last_flush: LastFlush::default(),
            completions: Vec::new(),
            ended: Ended::default(),
            fenced: Vec::new(),
            faults: Faults::default(),
            record_store: None,
            persisting: 0,
            media_mover: None,
            moving: 0,
            retirement: Retirement::default(),
            tasks_max: TASKS_MAX,
        };
        manager.add_unit(UnitKey(ABSENT as u64), absent, None);
        manager.insert_nexus(None, &[], Vec::new(), false);
        manager
    }

    /// A number that no nexus has had on any core.
    pub fn new_nexus_id(&mut self) -> NexusId {
        self.nexus_ids.allocate()
    }

    /// Adds a nexus that sees `units` (in ascending order of LUN). Each has a unit attention for the power-on.
    pub fn add_nexus(&mut self, id: NexusId, name: Nexus, units: &[(Lun, UnitKey)]) -> NexusKey {
        let key = self.add_nexus_or_mirror(id, Arc::new(name), units, false);
        self.join_owners(key, units);
        key
    }

    fn add_nexus_or_mirror(
        &mut self,
        id: NexusId,
        name: Arc<Nexus>,
        units: &[(Lun, UnitKey)],
        mirror: bool,
    ) -> NexusKey {
        let here = self.units_here(mirror, units);
        let task_sets = here.iter().map(|&unit| self.task_set((id, &name), unit)).collect();
        self.insert_nexus(Some((id, name)), units, task_sets, mirror)
    }

    fn insert_nexus(
        &mut self,
        who: Option<(NexusId, Arc<Nexus>)>,
        units: &[(Lun, UnitKey)],
        task_sets: Vec<TaskSet>,
        mirror: bool,
    ) -> NexusKey {
        NexusKey(self.nexuses.insert(NexusState {
            who,
            seen: task_sets.len(),
            task_sets,
            luns: luns(units),
            exchanges: Vec::new(),
            tasks: 0,
            remote: None,
            mirror,
            gone: false,
        }))
    }

    /// What the logical unit did on this core.
    pub fn counters(&self, unit: UnitKey) -> UnitCounters {
        self.units[unit.row()].counters
    }

    /// How long commands of the logical unit took on this core.
    pub fn latencies(&self, unit: UnitKey) -> &Latencies {
        &self.units[unit.row()].latencies
    }

    /// The turn is over at `now`, and what has ended in it is with the ports.
    pub fn turned(&mut self, now: Instant) {
        let units = &mut self.units;
        self.ended.count(now, |unit, kind, stage, nanos| units[unit].latencies.record(kind, stage, nanos));
    }

    /// The shape of the logical unit's store now.
    pub fn geometry(&self, unit: UnitKey) -> Geometry {
        self.units[unit.row()].geometry()
    }

    /// Asks for what is needed for a command of a nexus that has one logical unit.
    pub fn prefetch(&self, nexus: NexusKey) {
        let Some(entry) = self.nexuses.get(nexus.0) else { return };
        if let [task_set] = &entry.task_sets[..] {
            prefetch(task_set);
        }
        if let Some(first) = entry.exchanges.first() {
            prefetch(first);
        }
    }

    /// Whether a store works for a nexus, or will as soon as it has room.
    pub fn is_storing(&self, nexus: NexusKey) -> bool {
        let mut tasks = self.nexuses[nexus.0].exchanges.iter().flatten();
        self.is_remote_busy(nexus)
            || tasks.any(|&task| {
                let state = self.tasks[task as usize].state;
                matches!(
                    state,
                    State::InLine
                        | State::Storing
                        | State::Refused
                        | State::Persisting
                        | State::Moving
                        | State::Delayed
                )
            })
    }

    /// Tasks that have not ended.
    pub fn tasks(&self) -> usize {
        self.tasks.len()
    }

    /// Tasks of a nexus that have not ended.
    pub fn tasks_of(&self, nexus: NexusKey) -> usize {
        self.nexuses.get(nexus.0).map_or(0, |n| n.tasks)
    }

    /// The next thing that the owner has to carry on.
    pub fn poll_notice(&mut self) -> Option<Notice> {
        self.notices.pop_front()
    }

    /// Serves all requests that the transport of `nexus` has. Returns how many there were.
    pub fn serve(&mut self, now: Instant, nexus: NexusKey, transport: &mut dyn Transport) -> usize {
        let mut served = 0;
        while let Some(request) = transport.poll_request() {
            served += 1;
            match request {
                Request::Command { request_tag, command } => {
                    self.receive(now, nexus, transport, request_tag, command)
                }
                Request::DataOut { request_tag, data } => {
                    if let Some(task) = self.task_in(nexus, request_tag, State::Fetching) {
                        let len = u32::try_from(data.len()).unwrap_or(u32::MAX);
                        self.tasks[task as usize].fetched += len;
                        self.resume(now, task, Resume::Fetched(data), transport);
                    } else {
                        self.forward_for(nexus, request_tag, Request::DataOut { request_tag, data });
                    }
                }
                Request::DataInTaken { request_tag } => {
                    if let Some(task) = self.task_in(nexus, request_tag, State::Sending) {
                        self.resume(now, task, Resume::Sent, transport);
                    } else {
                        self.forward_for(nexus, request_tag, request);
                    }
                }
                Request::Abandoned { request_tag } => {
                    if let Some(task) = self.task_of(nexus, request_tag) {
                        self.abort(now, task, None, Some(transport));
                    } else {
                        self.forward_for(nexus, request_tag, request);
                    }
                }
                Request::TaskManagement { request, function, lun, .. } => {
                    self.task_management(now, nexus, transport, request, function, lun);
                }
            }
        }
        served
    }

    /// Takes what the stores have completed and carries it on. Returns how much that was; `touched` learns which
    /// nexuses have something to send.
    pub fn poll_stores(
        &mut self,
        now: Instant,
        transports: &mut dyn Transports,
        touched: &mut dyn FnMut(NexusKey),
    ) -> usize {
        let mut work = 0;
        for unit in 0..self.units.len() {
            if self.units[unit].storing > 0 || !self.units[unit].refused.is_empty() {
                work += self.poll_store(now, unit, transports, touched);
            }
        }
        if self.persisting > 0 {
            work += self.poll_records(now, transports, touched);
        }
        if self.moving > 0 {
            work += self.poll_moves(now, transports, touched);
        }
        work += self.poll_changes(now, transports, touched);
        if self.faults.any() {
            work += self.poll_delayed(now, transports, touched);
        }
        if !self.fenced.is_empty() {
            work += self.poll_fences(now, transports, touched);
        }
        if self.serial.stirs(now) {
            work += self.poll_serial(now, transports, touched);
        }
        if self.retirement.is_due(now) {
            work += self.look_after_retired(now);
        }
        while let Some((nexus, undelivered)) = self.undelivered.pop_front() {
            work += 1;
            let Some(transport) = transports.transport(nexus) else { continue };
            touched(nexus);
            match undelivered {
                Undelivered::Answer(request) => {
                    transport.task_management_executed(request, TaskManagementResponse::Complete);
                }
                Undelivered::ColdReset => self.notices.push_back(Notice::ColdReset(nexus)),
                Undelivered::Terminate(request_tag, task_set, status) => {
                    transport.terminate(request_tag, status);
                    if let Some(task_set) = task_set {
                        self.unblock(now, nexus.0, task_set, transport);
                    }
                }
                Undelivered::Event(lun, sense) => transport.report_event(lun, &sense.encode(false)),
            }
        }
        work
    }

    /// Whether a store waits for something of which no descriptor tells, so that the core must not sleep.
    pub fn must_poll(&self) -> bool {
        let waits = |unit: &Unit| unit.store.as_ref().is_some_and(|store| store.must_poll());
        // A full store says when one of its operations has ended; if it has none, it is others of the core that fill
        // it.
        let full = |unit: &Unit| unit.storing == 0 && !unit.refused.is_empty();
        self.changes.stirring()
            || !self.serial.ready.is_empty()
            || self.any_fence_open()
            || self.units.iter().any(|unit| (unit.storing > 0 && waits(unit)) || full(unit))
    }

    /// When a store has something to say of which no descriptor tells, or a device wants to begin a task.
    pub fn next_deadline(&self) -> Option<Instant> {
        let busy = self.units.iter().filter(|unit| unit.storing > 0);
        busy.filter_map(|unit| unit.store.as_ref()?.next_deadline())
            .chain(self.faults.due())
            .chain(self.retirement.due())
            .chain(self.serial.due)
            .min()
    }

    /// Appends the descriptors by which stores tell that something has ended, each once.
    pub fn wake_fds(&self, fds: &mut Vec<RawFd>) {
        let busy = self.units.iter().filter(|unit| unit.storing > 0);
        let stores = busy.filter_map(|unit| unit.store.as_ref()?.wake_fd());
        let records = self.record_store.as_ref().and_then(|store| store.wake_fd());
        let moves = self.media_mover.as_ref().and_then(|mover| mover.wake_fd());
        for fd in stores.chain(records).chain(moves) {
            if !fds.contains(&fd) {
                fds.push(fd);
            }
        }
    }

    /// Gives the stores what the turn has queued.
    pub fn commit(&mut self) {
        for unit in &mut self.units {
            if let Some(store) = unit.store.as_mut().filter(|_| unit.storing > 0) {
                store.commit();
            }
        }
    }

    fn poll_store(
        &mut self,
        now: Instant,
        unit: usize,
        transports: &mut dyn Transports,
        touched: &mut dyn FnMut(NexusKey),
    ) -> usize {
        let mut completions = std::mem::take(&mut self.completions);
        let this = &mut self.units[unit];
        let Some(store) = this.store.as_mut() else { return 0 };
        let mut work = store.poll(&mut completions);
        this.storing -= completions.len();
        for (tag, done) in completions.drain(..) {
            if tag == FLUSH {
                self.flush_ended(unit, &done);
                continue;
            }
            self.carry_on(now, tag.0, Resume::Stored(done), transports, touched);
        }
        self.completions = completions;
        // The store has room again, perhaps.
        while let Some((task, op)) = self.units[unit].refused.pop_front() {
            let nexus = NexusKey(self.tasks[task as usize].nexus);
            let mut nobody = Nobody;
            let transport: &mut dyn Transport = match transports.transport(nexus) {
                _ if nexus.0 == NOBODY => &mut nobody,
                Some(transport) => transport,
                None => continue,
            };
            let before = self.units[unit].refused.len();
            self.tasks[task as usize].goes_on(now);
            self.run(now, task, Step::StoreOf(self.units[unit].key, op), transport);
            // Refused again: it went to the end of the queue and comes back to its front.
            let refused = &mut self.units[unit].refused;
            if refused.len() > before && refused.back().is_some_and(|(last, _)| *last == task) {
                refused.rotate_right(1);
                break;
            }
            work += 1;
            touched(nexus);
        }
        work
    }

    /// What a task waited for has come.
    fn carry_on(
        &mut self,
        now: Instant,
        task: u32,
        answer: Resume,
        transports: &mut dyn Transports,
        touched: &mut dyn FnMut(NexusKey),
    ) {
        let nexus = NexusKey(self.tasks[task as usize].nexus);
        if self.tasks[task as usize].aborted {
            drop(answer);
            self.end_aborted(now, task, transports.transport(nexus));
        } else if nexus.0 == NOBODY {
            self.resume(now, task, answer, &mut Nobody);
        } else if let Some(transport) = transports.transport(nexus) {
            self.resume(now, task, answer, transport);
        }
        touched(nexus);
    }

    fn task_of(&self, nexus: NexusKey, request_tag: RequestTag) -> Option<u32> {
        self.nexuses[nexus.0].exchanges.get(request_tag.0 as usize).copied().flatten()
    }

    fn task_in(&self, nexus: NexusKey, request_tag: RequestTag, state: State) -> Option<u32> {
        self.task_of(nexus, request_tag).filter(|&task| self.tasks[task as usize].state == state)
    }

    /// A new command (SCSI Command Received).
    fn receive(
        &mut self,
        now: Instant,
        nexus: NexusKey,
        transport: &mut dyn Transport,
        request_tag: RequestTag,
        command: Command,
    ) {
        let entry = &mut self.nexuses[nexus.0];
        debug_assert!(
            entry.who.as_ref().is_some_and(|(id, _)| *id == command.nexus),
            "a transport speaks for its own nexus"
        );
        let task_set = entry.task_set(command.lun);
        if task_set.is_none()
            && let Some(owner) = entry.remote.as_ref().and_then(|remote| remote.owner(command.lun))
        {
            return self.forward(owner, nexus, request_tag, command);
        }
        let unit = task_set.map_or(ABSENT, |task_set| entry.task_sets[task_set].unit.row());
        let attribute = command.attribute;
        let mut admission = Admission::Usual;
        if let Some(task_set) = task_set
            && (entry.task_sets[task_set].aca.is_some() || attribute == TaskAttribute::Aca)
        {
            admission = entry.task_sets[task_set].admission(attribute);
        }
        let refused = match admission {
            Admission::Active => Some(Status::AcaActive),
            _ if self.tasks.len() >= self.tasks_max => Some(Status::TaskSetFull),
            _ => None,
        };
        if let Some(status) = refused {
            return self.refuse((nexus, task_set), request_tag, &command, status, transport);
        }
        let task = Task::new((nexus.0, task_set, unit), request_tag, command, now);
        let task = self.tasks.insert(task);
        let task = u32::try_from(task).expect("fewer than TASKS_MAX tasks");
        let slot = request_tag.0 as usize;
        if entry.exchanges.len() <= slot {
            entry.exchanges.resize(slot + 1, None);
        }
        entry.exchanges[slot] = Some(task);
        entry.tasks += 1;
        if let Some(index) = task_set {
            let task_set = &mut entry.task_sets[index];
            match admission {
                Admission::Aca => task_set.aca = Some(Aca { task: Some(task) }),
                Admission::Misplaced => {
                    task_set.active += 1;
                    let sense = Sense::illegal(asc::INVALID_MESSAGE_ERROR);
                    return self.finish(now, task, Outcome::check(sense), transport);
                }
                _ => {}
            }
            let waits = match attribute {
                TaskAttribute::HeadOfQueue | TaskAttribute::Aca => false,
                TaskAttribute::Simple => task_set.ahead > 0 || !task_set.blocked.is_empty(),
                TaskAttribute::Ordered => {
                    task_set.active > 0 || !task_set.blocked.is_empty() || self.raise_fence(nexus.0, index)
                }
            };
            if waits {
                self.nexuses[nexus.0].task_sets[index].blocked.push_back(task);
                self.tasks[task as usize].state = State::Blocked;
                return;
            }
        }
        self.start(now, task, transport);
    }

    /// A command that does not get into its task set.
    #[cold]
    fn refuse(
        &mut self,
        (nexus, task_set): (NexusKey, Option<usize>),
        request_tag: RequestTag,
        command: &Command,
        status: Status,
        transport: &mut dyn Transport,
    ) {
        transport.send_command_complete(request_tag, plain(command, status));
        if let Some(task_set) = task_set {
            let task_set = &mut self.nexuses[nexus.0].task_sets[task_set];
            let interlock = self.units[task_set.unit.row()].server.control().interlock;
            task_set.attentions.after(status, interlock);
        }
    }

    fn start(&mut self, now: Instant, task: u32, transport: &mut dyn Transport) {
        let this = &mut self.tasks[task as usize];
        if let Some(task_set) = this.task_set {
            let task_set = &mut self.nexuses[this.nexus].task_sets[task_set];
            task_set.active += 1;
            task_set.ahead += usize::from(goes_ahead(this.command.attribute));
            let unit = &mut self.units[this.unit];
            if matches!(unit.place, CommandPlace::Here(_)) && !self.takes_turn(task) {
                return;
            }
            return self.begin_or_hold(now, task, transport);
        }
        self.begin(now, task, transport);
    }

    /// Establishes a unit attention at a logical unit, for all nexuses of this core but `except`.
    fn attention(&mut self, unit: UnitKey, code: u16, except: Option<NexusId>) {
        let Some(row) = self.row(unit) else { return };
        self.establish(row, &[(Whom::Others, code)], except);
    }

    /// Looks after the stores: of units that have an owner there, of all others for all cores, which the first core
    /// does.
    pub fn inspect(&mut self) {
        for unit in 0..self.units.len() {
            let this = &mut self.units[unit];
            if self.core != 0 && matches!(this.place, CommandPlace::Everywhere) {
                continue;
            }
            let Some(store) = &mut this.store else { continue };
            let (key, health) = (this.key, store.inspect());
            for code in this.server.inspected(&health) {
                self.attention(key, code, None);
                if self.peers > 0 {
                    self.notices.push_back(Notice::ToPeers(PeerMessage::Attention(key, code)));
                }
            }
            self.rearm(unit);
        }
    }

    /// Takes an ended task out, and starts those that waited for it.
    #[inline]
    fn end(&mut self, now: Instant, task: u32, transport: Option<&mut dyn Transport>) {
        let this = self.tasks.remove(task as usize);
        if this.nexus != NOBODY {
            self.leave(now, task, &this, transport);
        } else {
            self.settle_medium(task, Err("it was given up".to_owned().into()));
        }
        for pending in this.waiters {
            self.one_less(pending);
        }
    }

    /// A task is no longer its nexus's.
    fn leave(&mut self, now: Instant, task: u32, this: &Task, transport: Option<&mut dyn Transport>) {
        let nexus = &mut self.nexuses[this.nexus];
        nexus.exchanges[this.request_tag.0 as usize] = None;
        nexus.tasks -= 1;
        if let Some(task_set) = this.task_set
            && this.state != State::Blocked
        {
            let task_set_entry = &mut nexus.task_sets[task_set];
            task_set_entry.active -= 1;
            if let Some(aca) = &mut task_set_entry.aca
                && aca.task == Some(task)
            {
                aca.task = None;
            }
            let waits = !task_set_entry.blocked.is_empty();
            if goes_ahead(this.command.attribute) {
                task_set_entry.ahead -= 1;
                self.raise_fence(this.nexus, task_set);
            }
            if let Some(transport) = transport.filter(|_| waits) {
                self.unblock(now, this.nexus, task_set, transport);
            }
        }
        self.forget_nexus(this.nexus);
    }

    /// Starts those whose turn it is. A task that ends while it is started does not start the next: this does, so that
    /// a long queue makes no deep stack.
    fn unblock(&mut self, now: Instant, nexus: usize, task_set: usize, transport: &mut dyn Transport) {
        let set = &mut self.nexuses[nexus].task_sets[task_set];
        if set.blocked.is_empty() || std::mem::replace(&mut set.unblocking, true) {
            return;
        }
        while let Some(task) = self.next_turn(nexus, task_set) {
            self.start(now, task, transport);
        }
        if let Some(nexus) = self.nexuses.get_mut(nexus) {
            nexus.task_sets[task_set].unblocking = false;
        }
    }

    /// Takes out the task whose turn it is.
    fn next_turn(&mut self, nexus: usize, task_set: usize) -> Option<u32> {
        let set = &self.nexuses.get(nexus)?.task_sets[task_set];
        let task = *set.blocked.front()?;
        let ordered = self.tasks[task as usize].command.attribute == TaskAttribute::Ordered;
        if set.ahead > 0
            || set.aca.is_some()
            || (ordered && (set.active > 0 || self.raise_fence(nexus, task_set)))
        {
            return None;
        }
        self.nexuses[nexus].task_sets[task_set].blocked.pop_front()
    }

    fn forget_nexus(&mut self, nexus: usize) {
        if self.nexuses.get(nexus).is_some_and(|n| n.gone && n.tasks == 0 && n.remote.is_none()) {
            self.nexuses.remove(nexus);
            self.retirement.forget(nexus);
        }
    }
}

/// Whether tasks that come later wait for one with this attribute (SAM-5 8.6).
fn goes_ahead(attribute: TaskAttribute) -> bool {
    matches!(attribute, TaskAttribute::Ordered | TaskAttribute::HeadOfQueue)
}

fn residual(expected: u32, wanted: u64, moved: u32) -> Residual {
    if wanted > u64::from(expected) {
        Residual::Overflow(u32::try_from(wanted - u64::from(expected)).unwrap_or(u32::MAX))
    } else if moved < expected {
        Residual::Underflow(expected - moved)
    } else {
        Residual::None
    }
}

/// A status without data.
fn plain(command: &Command, status: Status) -> Response {
    Response {
        status,
        sense: SmallVec::new(),
        data: crate::memory::Sg::new(),
        residual_in: residual(command.expected.data_in, 0, 0),
        residual_out: residual(command.expected.data_out, 0, 0),
    }
}

#[cfg(test)]
mod tests;
