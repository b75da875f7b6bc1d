// SPDX-License-Identifier: GPL-2.0-or-later
//! Two cores in one thread: a unit of the second that runs one command at a time, and nexuses of both that see it.
//! Commands are aborted, reset and cut off in every state, and rings and arenas are full.

mod media;
mod see;

use std::collections::VecDeque;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::engine::tasks::{AfterAbort, Notice};
use crate::io::{Done, Error, ErrorKind, Geometry, Op, Store, Submitted, Tag};
use crate::memory::SegMut;
use crate::scsi::primary::MissingLun;
use crate::scsi::{
    Cdb, Command, Context, DeviceServer, Expected, Lun, Nexus, NexusId, Outcome, PortName, Response, Resume,
    Sense, Status, Step, TargetPort, TaskAttribute, TaskId, TaskManagementFunction, TaskManagementResponse,
    UnitKey, asc,
};

const UNIT: UnitKey = UnitKey(1);
const LUN: Lun = Lun::ZERO;
/// The core that owns the unit.
const OWNER: usize = 1;
const NOW: Instant = Instant::ZERO;
/// Marks the number of a reset, as opposed to that of a nexus.
const RESET: u64 = 1 << 32;

const READY: u8 = 0x00;
const FLUSH: u8 = 0x01;
/// The status comes at once, and two flushes after it.
const DETACHED: u8 = 0x04;
const INQUIRY: u8 = 0x12;
const READ: u8 = 0x08;
const WRITE: u8 = 0x0a;
/// Byte 1 of a READY that ends with CHECK CONDITION.
const FAILS: u8 = 0xff;

#[derive(Default)]
struct DeviceLog {
    /// What holds the unit.
    running: Option<TaskId>,
    /// Nexus and byte 1 of the CDB of each command that began.
    begun: Vec<(NexusId, u8)>,
    written: Vec<u8>,
    due: Option<Instant>,
    woken: usize,
    hold: bool,
    held: Vec<(Tag, Op)>,
    /// Those that are still to come of what goes on alone.
    flushes: usize,
    inquiries: usize,
    /// The store fails.
    fails: bool,
    prevents: bool,
    /// It lets its medium go; by force or not.
    releasing: Option<bool>,
    /// Whether each change has brought a medium, and how many commands had begun by then.
    media: Vec<(bool, usize)>,
}

type SharedLog = Rc<RefCell<DeviceLog>>;

/// A device that does not bear two commands at once.
struct Device(SharedLog);

const PIECE: u32 = 1000;

impl DeviceServer for Device {
    fn start(&mut self, task: TaskId, command: &Command, cx: &mut Context<'_>) -> Step {
        let mut log = self.0.borrow_mut();
        if command.cdb.opcode() == INQUIRY {
            log.inquiries += 1;
            return Step::Finish(Outcome::good());
        }
        assert_eq!(log.running, None, "another command is under way");
        log.begun.push((command.nexus, command.cdb.bytes()[1]));
        match command.cdb.opcode() {
            READY if command.cdb.bytes()[1] == FAILS => {
                Step::Finish(Outcome::check(Sense::illegal(asc::INVALID_FIELD_IN_CDB)))
            }
            READY => Step::Finish(Outcome::good()),
            DETACHED => {
                log.flushes = 2;
                Step::Detach(Outcome::good())
            }
            FLUSH => {
                log.running = Some(task);
                Step::Store(Op::Flush)
            }
            READ => {
                log.running = Some(task);
                Step::Send(Sg::copied(cx.arena, &[7; PIECE as usize]).expect("memory"))
            }
            WRITE => {
                log.running = Some(task);
                Step::Fetch { len: PIECE }
            }
            other => panic!("{other}"),
        }
    }

    fn resume(&mut self, _: TaskId, command: &Command, answer: Resume, cx: &mut Context<'_>) -> Step {
        let mut log = self.0.borrow_mut();
        match answer {
            Resume::Fetched(data) => {
                log.written.extend(data.to_vec());
                return Step::Store(Op::Flush);
            }
            Resume::Detached => {}
            Resume::Stored(done) if log.releasing.is_some() => {
                log.running = None;
                let force = log.releasing.take() == Some(true);
                return Step::ReleaseMedium { stays: !force && matches!(done, Done::Failed(_)) };
            }
            Resume::Sent | Resume::Stored(_) => {}
            other => panic!("{other:?}"),
        }
        if command.cdb.opcode() == DETACHED {
            if log.flushes == 0 {
                return Step::Finish(Outcome::good());
            }
            log.flushes -= 1;
            return Step::Store(Op::Flush);
        }
        log.running = None;
        Step::Finish(match command.cdb.opcode() {
            READ => Outcome::data(Sg::copied(cx.arena, &[8; PIECE as usize]).expect("memory")),
            WRITE => Outcome::took(PIECE.into()),
            _ => Outcome::good(),
        })
    }

    fn next_deadline(&self) -> Option<Instant> {
        self.0.borrow().due
    }

    fn wake(&mut self, task: TaskId, _: &Command, _: &mut Context<'_>) -> Option<Step> {
        let mut log = self.0.borrow_mut();
        assert_eq!(log.running, None, "a command is under way");
        (log.running, log.due) = (Some(task), None);
        log.woken += 1;
        Some(Step::Store(Op::Flush))
    }

    fn abort(&mut self, _: TaskId) {
        let mut log = self.0.borrow_mut();
        (log.running, log.releasing) = (None, None);
    }

    fn prevents_removal(&self) -> bool {
        self.0.borrow().prevents
    }

    fn release_medium(&mut self, task: TaskId, _: &Command, force: bool, _: &mut Context<'_>) -> Step {
        let mut log = self.0.borrow_mut();
        assert_eq!(log.running, None, "a command is under way");
        (log.running, log.releasing) = (Some(task), Some(force));
        Step::Store(Op::Flush)
    }

    fn medium_gone(&mut self) {
        let mut log = self.0.borrow_mut();
        let begun = log.begun.len();
        log.media.push((false, begun));
    }

    fn medium_come(&mut self) {
        let mut log = self.0.borrow_mut();
        let begun = log.begun.len();
        log.media.push((true, begun));
    }
}

impl Store for SharedLog {
    fn geometry(&self) -> Geometry {
        Geometry { bytes: 0, block: 512, transfer_max: 4096, thin: false, read_only: false }
    }

    fn submit(&mut self, tag: Tag, op: Op) -> Submitted {
        self.borrow_mut().held.push((tag, op));
        Submitted::Queued
    }

    fn poll(&mut self, done: &mut Vec<(Tag, Done)>) -> usize {
        let mut log = self.borrow_mut();
        if log.hold {
            return 0;
        }
        let before = done.len();
        let end = match log.fails {
            true => || Done::Failed(Error { kind: ErrorKind::WriteFailed, at: 0 }),
            false => || Done::Finished,
        };
        done.extend(log.held.drain(..).map(|(tag, _)| (tag, end())));
        done.len() - before
    }
}

/// An initiator's end.
struct MirroredClient {
    core: usize,
    key: NexusKey,
    id: NexusId,
    arena: Arena,
    requests: VecDeque<Request>,
    /// It does not move data.
    hold: bool,
    /// How commands have ended: the status, or none for those that were terminated.
    ended: Vec<(RequestTag, Option<Status>)>,
    executed: Vec<TaskManagementResponse>,
    read: Vec<u8>,
    gone: bool,
}

impl Transport for MirroredClient {
    fn poll_request(&mut self) -> Option<Request> {
        self.requests.pop_front()
    }

    fn receive_data_out(&mut self, request_tag: RequestTag, len: u32) {
        if !self.hold {
            let data = Sg::copied(&self.arena, &vec![request_tag.0 as u8; len as usize]).expect("memory");
            self.requests.push_back(Request::DataOut { request_tag, data });
        }
    }

    fn send_data_in(&mut self, request_tag: RequestTag, data: Sg) {
        self.read.extend(data.to_vec());
        if !self.hold {
            self.requests.push_back(Request::DataInTaken { request_tag });
        }
    }

    fn send_command_complete(&mut self, request_tag: RequestTag, response: Response) {
        self.read.extend(response.data.to_vec());
        self.ended.push((request_tag, Some(response.status)));
    }

    fn task_management_executed(&mut self, _: RequestTag, response: TaskManagementResponse) {
        self.executed.push(response);
    }

    fn terminate(&mut self, request_tag: RequestTag, status: Option<Status>) {
        self.ended.push((request_tag, status));
    }
}

struct MirroredClients<'a>(&'a mut Vec<MirroredClient>, usize);

impl Transports for MirroredClients<'_> {
    fn transport(&mut self, nexus: NexusKey) -> Option<&mut dyn Transport> {
        let of = |client: &&mut MirroredClient| client.core == self.1 && client.key == nexus && !client.gone;
        Some(self.0.iter_mut().find(of)?)
    }
}

struct LinkedCores {
    arenas: Vec<Arena>,
    managers: Vec<TaskManager>,
    links: Vec<PeerLinks>,
    clients: Vec<MirroredClient>,
    log: SharedLog,
    now: Instant,
    /// Cores that have been woken.
    woken: Rc<RefCell<Vec<usize>>>,
    /// Nexuses that have ended.
    left: Vec<u64>,
    /// Changes of media that have ended.
    changed: Vec<(u64, Result<(), String>)>,
    /// Cores that have nothing to do with a unit any more.
    retired: Vec<(usize, UnitKey)>,
}

impl LinkedCores {
    /// With clients on these cores, which know of the power-on already.
    fn new(clients: &[usize]) -> Self {
        let arenas: Vec<Arena> = (0..2).map(|_| Arena::new(4 << 20, false).unwrap()).collect();
        let log = SharedLog::default();
        let contexts: Vec<CoreContext> =
            (0..2).map(|core| CoreContext::new(core, 2, arenas[core].clone())).collect();
        let managers = contexts.iter().enumerate().map(|(core, context)| {
            let mut manager = TaskManager::new(context, Box::new(MissingLun));
            if core == OWNER {
                manager.add_unit(UNIT, Box::new(Device(log.clone())), Some(Box::new(log.clone())));
                manager.make_serial(UNIT);
            } else {
                manager.add_remote_unit(UNIT, OWNER);
            }
            manager
        });
        let managers = managers.collect();
        let ends = connect(2).into_iter().zip(&contexts);
        let links = ends.map(|(ends, context)| PeerLinks::new(context, ends)).collect();
        let (clients_of, now) = (Vec::new(), NOW);
        let (woken, left, changed, retired) = Default::default();
        let mut cores =
            Self { arenas, managers, links, clients: clients_of, log, now, woken, left, changed, retired };
        for &core in clients {
            cores.join(core);
        }
        cores
    }

    fn join(&mut self, core: usize) -> usize {
        let client = self.join_seeing(core, &[(LUN, UNIT)]);
        self.send(client, 999, READY, 0);
        self.settle();
        assert_eq!(self.clients[client].ended.pop(), Some((RequestTag(999), Some(Status::CheckCondition))));
        client
    }

    fn join_seeing(&mut self, core: usize, units: &[(Lun, UnitKey)]) -> usize {
        let number = self.clients.len() as u64 + 1;
        let (id, isid) = (NexusId::of(number), [0, 0, 0, 0, 0, number as u8]);
        let port = Arc::new(TargetPort::iscsi(1, "iqn.2026-11.test:t", 1));
        let name = Nexus { initiator: PortName::iscsi_initiator("iqn.2026-11.test:i", isid), port };
        let key = self.managers[core].add_nexus(id, name, units);
        let (requests, ended, executed, read) = Default::default();
        let arena = self.arenas[core].clone();
        let client = MirroredClient {
            core,
            key,
            id,
            arena,
            requests,
            hold: false,
            ended,
            executed,
            read,
            gone: false,
        };
        self.clients.push(client);
        self.clients.len() - 1
    }

    fn send(&mut self, client: usize, tag: u32, opcode: u8, byte: u8) {
        self.send_as(client, tag, [opcode, byte, 0, 0, 0, 0], TaskAttribute::Simple);
    }

    fn send_as(&mut self, client: usize, tag: u32, cdb: [u8; 6], attribute: TaskAttribute) {
        let client = &mut self.clients[client];
        let opcode = cdb[0];
        let data_in = if opcode == READ { 2 * PIECE } else { 0 };
        let expected = Expected { data_in, data_out: if opcode == WRITE { PIECE } else { 0 } };
        let cdb = Cdb::new(&cdb).unwrap();
        let command = Command { nexus: client.id, lun: LUN, cdb, attribute, expected };
        client.requests.push_back(Request::Command { request_tag: RequestTag(tag), command });
    }

    fn ask(&mut self, client: usize, function: TaskManagementFunction) {
        let client = &mut self.clients[client];
        let (request, nexus) = (RequestTag(0), client.id);
        client.requests.push_back(Request::TaskManagement { request, nexus, function, lun: LUN });
    }

    fn lose(&mut self, client: usize) {
        let MirroredClient { core, key, ref mut gone, .. } = self.clients[client];
        *gone = true;
        self.managers[core].remove_nexus(self.now, key, Some(AfterAbort::Tell(client as u64 + 1)));
    }

    /// What the sessions of a core bring.
    fn serve(&mut self, core: usize) -> usize {
        let manager = &mut self.managers[core];
        let here = self.clients.iter_mut().filter(|client| client.core == core && !client.gone);
        here.map(|client| manager.serve(self.now, client.key, client)).sum()
    }

    /// What has come to a core, and what its stores have.
    fn receive(&mut self, core: usize) -> usize {
        let (manager, links) = (&mut self.managers[core], &mut self.links[core]);
        let mut sessions = MirroredClients(&mut self.clients, core);
        let work = links.turn(self.now, manager, &mut sessions, &mut |_| {});
        work + manager.poll_stores(self.now, &mut links.with(&mut sessions), &mut |_| {})
    }

    /// What goes from a core.
    fn commit(&mut self, core: usize) -> usize {
        let mut work = 0;
        while let Some(notice) = self.managers[core].poll_notice() {
            work += 1;
            let other = &mut self.managers[1 - core];
            match notice {
                Notice::ResetPeers { units, ticket } => {
                    other.reset(self.now, units, AfterAbort::Tell(RESET | ticket as u64));
                }
                Notice::Ended(what) if what & RESET != 0 => other.peer_done((what & !RESET) as usize),
                Notice::Ended(nexus) => self.left.push(nexus),
                Notice::ToPeers(message) | Notice::ToPeer(_, message) => other.hear(message),
                Notice::MediumChanged { what, outcome } => {
                    self.changed.push((what, outcome.map_err(|refusal| refusal.why)))
                }
                Notice::Retired(unit, _) => self.retired.push((core, unit)),
                other => panic!("{other:?}"),
            }
        }
        let woken = self.woken.clone();
        self.links[core].commit(&mut self.managers[core], |core| woken.borrow_mut().push(core));
        work
    }

    fn turn(&mut self, core: usize) -> usize {
        self.receive(core) + self.serve(core) + self.commit(core)
    }

    /// Turns until nothing happens any more.
    fn settle(&mut self) {
        let mut idle = 0;
        while idle < 3 {
            idle = if self.turn(0) + self.turn(1) == 0 { idle + 1 } else { 0 };
        }
    }

    /// Nothing is left of anything that was.
    fn assert_quiet(&mut self, what: &str) {
        self.settle();
        for core in 0..2 {
            assert_eq!(self.managers[core].tasks(), 0, "{what}: tasks of core {core}");
            assert_eq!(self.arenas[core].in_use(), 0, "{what}: memory of core {core}");
            assert_eq!(self.arenas[core].charged(), 0, "{what}: accounts of core {core}");
            assert!(self.links[core].is_quiet(), "{what}: links of core {core}");
        }
        assert_eq!(self.log.borrow().running, None, "{what}");
    }
}

/// Where a command is when something ends it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum CaughtIn {
    /// Its core has not sent it yet.
    Unsent,
    InRing,
    InLine,
    Storing,
    Fetching,
    /// Its data is on the way to the owner.
    Fetched,
    Sending,
    /// The initiator has data, which the owner does not know.
    Sent,
    /// Its status is on the way to its core.
    Answered,
}

const STATES: [CaughtIn; 9] = [
    CaughtIn::Unsent,
    CaughtIn::InRing,
    CaughtIn::InLine,
    CaughtIn::Storing,
    CaughtIn::Fetching,
    CaughtIn::Fetched,
    CaughtIn::Sending,
    CaughtIn::Sent,
    CaughtIn::Answered,
];

/// What ends it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Ender {
    Abandoned,
    Function(TaskManagementFunction),
    /// A function of a nexus at the owner.
    Other(TaskManagementFunction),
    Lost,
}

fn enders() -> Vec<Ender> {
    use TaskManagementFunction as F;
    vec![
        Ender::Abandoned,
        Ender::Function(F::AbortTask(RequestTag(5))),
        Ender::Function(F::AbortTaskSet),
        Ender::Function(F::ClearTaskSet),
        Ender::Function(F::LogicalUnitReset),
        Ender::Function(F::TargetReset),
        Ender::Other(F::LogicalUnitReset),
        Ender::Other(F::TargetReset),
        Ender::Lost,
    ]
}

/// Brings a command of client 0 into a state.
fn caught(cores: &mut LinkedCores, state: CaughtIn) {
    cores.log.borrow_mut().hold = true;
    let opcode = match state {
        CaughtIn::Fetching | CaughtIn::Fetched => WRITE,
        CaughtIn::Sending | CaughtIn::Sent => READ,
        CaughtIn::Answered => READY,
        _ => FLUSH,
    };
    if state == CaughtIn::InLine {
        cores.send(1, 1, FLUSH, 1);
        cores.settle();
    }
    cores.clients[0].hold = matches!(state, CaughtIn::Fetching | CaughtIn::Sending);
    cores.send(0, 5, opcode, 5);
    cores.serve(0);
    match state {
        CaughtIn::Unsent => {}
        CaughtIn::InRing => _ = cores.commit(0),
        CaughtIn::Answered => {
            cores.commit(0);
            cores.turn(1);
        }
        CaughtIn::Fetched | CaughtIn::Sent => {
            cores.commit(0);
            cores.turn(1);
            cores.turn(0);
        }
        _ => cores.settle(),
    }
}

#[test]
fn a_command_is_ended_once_in_every_state() {
    for (state, ender) in STATES.iter().flat_map(|state| enders().into_iter().map(move |e| (*state, e))) {
        let what = format!("{ender:?} while {state:?}");
        // The first on the other core, the second at the owner.
        let mut cores = LinkedCores::new(&[0, 1]);
        caught(&mut cores, state);
        match ender {
            Ender::Abandoned => {
                let request = Request::Abandoned { request_tag: RequestTag(5) };
                cores.clients[0].requests.push_back(request);
            }
            Ender::Function(function) => cores.ask(0, function),
            Ender::Other(function) => cores.ask(1, function),
            Ender::Lost => cores.lose(0),
        }
        // It goes before what is on its way here has come.
        cores.serve(0);
        cores.commit(0);
        cores.settle();
        if ender == Ender::Lost && state == CaughtIn::Storing {
            assert!(cores.left.is_empty(), "{what}: its memory is still the store's");
        }
        cores.log.borrow_mut().hold = false;
        cores.settle();
        cores.clients[0].hold = false;
        assert_eq!(cores.log.borrow().running, None, "{what}");
        let ended = cores.clients[0].ended.clone();
        match ender {
            Ender::Lost => {
                assert_eq!((ended.len(), &cores.left[..]), (0, &[1][..]), "{what}");
            }
            _ => {
                let count = ended.iter().filter(|(tag, _)| *tag == RequestTag(5)).count();
                assert_eq!((count, ended.len()), (1, 1), "{what}: {ended:?}");
            }
        }
        let executed = (cores.clients[0].executed.len(), cores.clients[1].executed.len());
        let wanted = match ender {
            Ender::Function(_) => (1, 0),
            Ender::Other(_) => (0, 1),
            Ender::Abandoned | Ender::Lost => (0, 0),
        };
        assert_eq!(executed, wanted, "{what}");
        // What had an answer before is not taken back, and the same tag serves the next.
        if state == CaughtIn::Answered && ender != Ender::Lost {
            assert_eq!(ended[0].1, Some(Status::Good), "{what}");
        }
        let next = if ender == Ender::Lost { cores.join(0) } else { 0 };
        cores.clients[next].ended.clear();
        // The reset is told of first.
        for _ in 0..2 {
            cores.send(next, 5, WRITE, 6);
            cores.settle();
        }
        let last = cores.clients[next].ended.last().copied();
        assert_eq!(last, Some((RequestTag(5), Some(Status::Good))), "{what}");
        cores.assert_quiet(&what);
    }
}

/// What happens next in [`commands_of_all_nexuses_run_one_at_a_time_in_the_order_of_each`].
#[derive(Clone, Copy, Debug)]
enum ClientEvent {
    /// A client sends a command with this operation code.
    Send(usize, u8),
    /// The store completes nothing, or all that it has.
    Hold(bool),
    Serve(usize),
    Receive(usize),
    Commit(usize),
    Turn(usize),
}

fn event() -> impl Strategy<Value = ClientEvent> {
    let opcode = prop_oneof![Just(READY), Just(FLUSH), Just(READ), Just(WRITE)];
    prop_oneof![
        4 => (0..4usize, opcode).prop_map(|(client, opcode)| ClientEvent::Send(client, opcode)),
        1 => any::<bool>().prop_map(ClientEvent::Hold),
        1 => (0..2usize).prop_map(ClientEvent::Serve),
        1 => (0..2usize).prop_map(ClientEvent::Receive),
        1 => (0..2usize).prop_map(ClientEvent::Commit),
        2 => (0..2usize).prop_map(ClientEvent::Turn),
    ]
}

proptest! {
    #[test]
    fn commands_of_all_nexuses_run_one_at_a_time_in_the_order_of_each(
        events in prop::collection::vec(event(), 0..400),
    ) {
        let mut cores = LinkedCores::new(&[0, 1, 0, 1]);
        cores.log.borrow_mut().begun.clear();
        let mut sent = [0; 4];
        for event in events {
            match event {
                ClientEvent::Send(client, opcode) => {
                    cores.send(client, sent[client], opcode, sent[client] as u8);
                    sent[client] += 1;
                }
                ClientEvent::Hold(hold) => cores.log.borrow_mut().hold = hold,
                ClientEvent::Serve(core) => _ = cores.serve(core),
                ClientEvent::Receive(core) => _ = cores.receive(core),
                ClientEvent::Commit(core) => _ = cores.commit(core),
                ClientEvent::Turn(core) => _ = cores.turn(core),
            }
        }
        cores.log.borrow_mut().hold = false;
        cores.assert_quiet("in the end");
        for (nexus, (client, sent)) in (1..).zip(cores.clients.iter().zip(sent)) {
            let log = cores.log.borrow();
            let begun = log.begun.iter().filter(|(id, _)| *id == NexusId::of(nexus)).map(|(_, n)| *n);
            prop_assert_eq!(begun.collect::<Vec<_>>(), (0..sent).map(|n| n as u8).collect::<Vec<_>>());
            prop_assert_eq!(client.ended.len(), sent as usize);
            prop_assert!(client.ended.iter().all(|(_, status)| *status == Some(Status::Good)));
        }
    }
}

#[test]
fn full_rings_lose_nothing_and_change_no_order() {
    let mut cores = LinkedCores::new(&[0, 1]);
    cores.log.borrow_mut().begun.clear();
    let many = 3 * RING_ROOM as u32;
    // More than there is room for on the way there, while the owner does nothing.
    for tag in 0..many {
        cores.send(0, tag, READY, tag as u8);
    }
    cores.serve(0);
    cores.commit(0);
    assert!(cores.links[0].must_poll(), "some wait for room");
    assert_eq!(cores.woken.borrow().last(), Some(&OWNER));
    // And of their answers on the way back, while the core of the session only sends.
    for _ in 0..10 {
        cores.turn(1);
        cores.commit(0);
    }
    assert!(cores.links[1].must_poll(), "some wait for room");
    assert!(cores.clients[0].ended.is_empty());
    cores.settle();
    let ended: Vec<u32> = cores.clients[0].ended.iter().map(|(tag, _)| tag.0).collect();
    assert_eq!(ended, (0..many).collect::<Vec<_>>());
    let begun: Vec<u8> = cores.log.borrow().begun.iter().map(|(_, n)| *n).collect();
    assert_eq!(begun, (0..many).map(|tag| tag as u8).collect::<Vec<_>>());
    // An abort behind a full ring comes after what it is about.
    cores.log.borrow_mut().hold = true;
    cores.clients[0].ended.clear();
    for tag in 0..many {
        cores.send(0, tag, FLUSH, 0);
    }
    cores.ask(0, TaskManagementFunction::AbortTaskSet);
    cores.settle();
    assert_eq!(cores.clients[0].ended.len(), many as usize - 1, "all but the one that the store has");
    cores.log.borrow_mut().hold = false;
    cores.assert_quiet("in the end");
    assert_eq!(cores.clients[0].executed, [TaskManagementResponse::Complete]);
    assert_eq!(cores.links[0].counters().commands_sent, 2 * u64::from(many) + 1);
    assert_eq!(cores.links[1].counters().commands_received, 2 * u64::from(many) + 1);
}

#[test]
fn inquiry_passes_the_line() {
    let mut cores = LinkedCores::new(&[0, 1]);
    cores.log.borrow_mut().hold = true;
    cores.send(1, 0, FLUSH, 0);
    cores.settle();
    for client in [0, 1] {
        cores.send(client, 1, READY, 0);
        cores.send(client, 2, INQUIRY, 0);
    }
    cores.settle();
    let good = |tag| (RequestTag(tag), Some(Status::Good));
    assert_eq!((&cores.clients[0].ended[..], &cores.clients[1].ended[..]), (&[good(2)][..], &[good(2)][..]));
    cores.log.borrow_mut().hold = false;
    cores.assert_quiet("in the end");
    assert_eq!(cores.clients[0].ended, [good(2), good(1)]);
}

#[test]
fn attributes_and_aca_hold_in_the_line() {
    let mut cores = LinkedCores::new(&[0, 1]);
    cores.log.borrow_mut().begun.clear();
    cores.log.borrow_mut().hold = true;
    cores.send(1, 0, FLUSH, 0);
    cores.settle();
    const NACA: u8 = 0x04;
    cores.send(0, 1, READY, 1);
    cores.send_as(0, 2, [READY, FAILS, 0, 0, 0, NACA], TaskAttribute::Simple);
    cores.send(0, 3, READY, 3);
    cores.send_as(0, 4, [READY, 4, 0, 0, 0, 0], TaskAttribute::HeadOfQueue);
    cores.settle();
    cores.send(1, 5, READY, 5);
    cores.settle();
    cores.log.borrow_mut().hold = false;
    cores.settle();
    // The first at once, then the head of the queue. One stays behind the condition, and one of another nexus passes.
    let begun = |cores: &LinkedCores| cores.log.borrow().begun.iter().map(|(_, n)| *n).collect::<Vec<_>>();
    assert_eq!(begun(&cores), [0, 4, 1, FAILS, 5]);
    cores.send_as(0, 6, [READY, 6, 0, 0, 0, 0], TaskAttribute::Aca);
    cores.settle();
    cores.ask(0, TaskManagementFunction::ClearAca);
    cores.settle();
    assert_eq!(begun(&cores), [0, 4, 1, FAILS, 5, 6, 3]);
    let statuses: Vec<_> = cores.clients[0].ended.iter().map(|(tag, status)| (tag.0, *status)).collect();
    let (good, check) = (Some(Status::Good), Some(Status::CheckCondition));
    assert_eq!(statuses, [(4, good), (1, good), (2, check), (6, good), (3, good)]);
    cores.assert_quiet("in the end");
}

/// Takes all memory of a core.
fn exhaust(arena: &Arena) -> Vec<SegMut> {
    [1 << 20, 256 << 10, 68 << 10, 16 << 10, 4096, 2048, 256]
        .into_iter()
        .flat_map(|len| std::iter::from_fn(move || arena.alloc(len)))
        .collect()
}

#[test]
fn a_core_without_memory_for_a_copy_puts_it_off() {
    // The session's core, for what is read.
    let mut cores = LinkedCores::new(&[0, 0]);
    cores.send(0, 1, READ, 0);
    let all = exhaust(&cores.arenas[0]);
    cores.settle();
    assert!(cores.clients[0].read.is_empty() && cores.links[0].must_poll());
    assert!(cores.arenas[1].in_use() > 0, "it stays at home");
    // Others go on. What ends for the same initiator does not overtake it.
    cores.send(0, 2, INQUIRY, 0);
    cores.send(1, 2, INQUIRY, 0);
    cores.settle();
    assert_eq!(cores.clients[1].ended, [(RequestTag(2), Some(Status::Good))]);
    assert_eq!(cores.clients[0].ended, []);
    drop(all);
    cores.assert_quiet("read");
    assert_eq!(cores.clients[0].read, [[7; PIECE as usize], [8; PIECE as usize]].concat());
    assert_eq!(cores.links[0].counters().copied_bytes, 2 * u64::from(PIECE), "once");
    // The owner, for what is written.
    cores.send(0, 3, WRITE, 0);
    let all = exhaust(&cores.arenas[1]);
    cores.settle();
    assert!(cores.log.borrow().written.is_empty() && cores.links[1].must_poll());
    // It is aborted, and its tag is used again.
    cores.ask(0, TaskManagementFunction::AbortTask(RequestTag(3)));
    cores.settle();
    assert_eq!(cores.clients[0].ended.pop(), Some((RequestTag(3), None)));
    cores.send(0, 3, WRITE, 0);
    cores.settle();
    drop(all);
    cores.assert_quiet("written");
    assert_eq!(cores.log.borrow().written, [3; PIECE as usize]);
    assert_eq!(cores.links[1].counters().copied_bytes, u64::from(PIECE), "once");
    assert_eq!(cores.clients[0].ended.pop(), Some((RequestTag(3), Some(Status::Good))));
}

#[test]
fn a_device_begins_a_task_when_its_time_has_come_and_no_command_is_under_way() {
    let mut cores = LinkedCores::new(&[0]);
    let due = NOW + std::time::Duration::from_secs(5);
    cores.log.borrow_mut().due = Some(due);
    cores.send(0, 1, READY, 0);
    cores.settle();
    assert_eq!((cores.managers[0].next_deadline(), cores.managers[OWNER].next_deadline()), (None, Some(due)));
    cores.log.borrow_mut().hold = true;
    cores.send(0, 2, FLUSH, 0);
    cores.settle();
    cores.now = due;
    cores.settle();
    assert_eq!(cores.log.borrow().woken, 0, "a command has the unit");
    cores.send(0, 3, READY, 0);
    cores.settle();
    // The device is before what came after its time, and holds the unit until its task has ended.
    let release = |cores: &mut LinkedCores| {
        cores.log.borrow_mut().hold = false;
        cores.receive(OWNER);
        cores.log.borrow_mut().hold = true;
        cores.settle();
    };
    release(&mut cores);
    assert_eq!((cores.log.borrow().woken, cores.clients[0].ended.len()), (1, 2));
    // A reset does not end it.
    cores.ask(0, TaskManagementFunction::LogicalUnitReset);
    cores.settle();
    assert_eq!(cores.managers[OWNER].tasks(), 1);
    release(&mut cores);
    cores.log.borrow_mut().hold = false;
    cores.assert_quiet("in the end");
    assert_eq!(cores.managers[OWNER].next_deadline(), None);
    // Once the daemon stops it begins nothing any more.
    cores.log.borrow_mut().due = Some(due);
    cores.send(0, 4, READY, 0);
    cores.settle();
    assert_eq!(cores.log.borrow().woken, 2);
    cores.log.borrow_mut().due = Some(due);
    cores.managers[OWNER].abort_detached(cores.now);
    cores.send(0, 5, READY, 0);
    cores.settle();
    assert_eq!((cores.log.borrow().woken, cores.managers[OWNER].next_deadline()), (2, None));
}

#[test]
fn a_core_has_had_its_last_command_when_all_others_have_left() {
    let mut cores = LinkedCores::new(&[0, 1]);
    let closed = |cores: &mut LinkedCores, core: usize| {
        let (links, manager) = (&mut cores.links[core], &cores.managers[core]);
        links.close(manager)
    };
    assert!(!closed(&mut cores, OWNER), "somebody may still come");
    assert!(!closed(&mut cores, 0), "its own nexus is there");
    cores.log.borrow_mut().hold = true;
    cores.send(0, 1, FLUSH, 0);
    cores.settle();
    cores.lose(0);
    cores.settle();
    assert!(!closed(&mut cores, 0) && !closed(&mut cores, OWNER), "the store has an operation of it");
    cores.log.borrow_mut().hold = false;
    cores.settle();
    assert!(closed(&mut cores, 0));
    cores.settle();
    assert!(closed(&mut cores, OWNER));
}
