// SPDX-License-Identifier: GPL-2.0-or-later
//! The waists, proven: a disk and a serial device, each over a stream, over memory regions and over ring slots; each
//! aborted, reset and cut off in every state. Here: the devices, transports and stores that the tests share.

mod aca;
mod copy;
mod cores;
mod events;
mod fabrics;
mod faults;
mod fences;
mod flush;
mod moves;
mod retire;
mod waists;

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;

use super::*;
use crate::io::{Landing, Op, Record, RecordSlot, Store, Submitted};
use crate::memory::{SegMut, Sg};
use crate::scsi::primary::Designation;
use crate::scsi::{
    Cdb, Change, Context, Control, CopyTraits, DriveChange, Expected, Outcome, PortName, Sense, TargetPort,
    TaskId, TaskManagementFunction, key, reservations,
};
use crate::wire::scsi::be24;

const BLOCK: usize = 512;
const UNIT_BYTES: usize = 64 << 10;

/// A store over a vector that holds operations until it is told to complete them.
struct HoldingStore {
    arena: Arena,
    shared: Rc<RefCell<StoreState>>,
}

#[derive(Default)]
struct StoreState {
    bytes: Vec<u8>,
    hold: bool,
    full: bool,
    held: Vec<(Tag, Op)>,
    released: Vec<(Tag, Op)>,
}

impl HoldingStore {
    fn perform(&self, op: Op) -> Done {
        let bytes = &mut self.shared.borrow_mut().bytes;
        match op {
            Op::Read { at, len, into } => {
                let from = &bytes[at as usize..][..len as usize];
                match into {
                    Landing::Own | Landing::Lent(_) => Done::Data(Sg::copied(&self.arena, from).unwrap()),
                    Landing::Given(mut memory) => {
                        memory.bytes_mut().copy_from_slice(from);
                        Done::Data(memory.freeze().into())
                    }
                }
            }
            Op::Write { at, data, .. } => {
                data.copy_to(0, &mut bytes[at as usize..][..data.len()]);
                Done::Finished
            }
            _ => Done::Finished,
        }
    }
}

impl Store for HoldingStore {
    fn geometry(&self) -> Geometry {
        let (bytes, block, transfer_max) = (UNIT_BYTES as u64, 512, 64 << 10);
        Geometry { bytes, block, transfer_max, thin: false, read_only: false }
    }

    fn submit(&mut self, tag: Tag, op: Op) -> Submitted {
        if self.shared.borrow().full {
            return Submitted::Full(op);
        }
        if self.shared.borrow().hold {
            self.shared.borrow_mut().held.push((tag, op));
            return Submitted::Queued;
        }
        Submitted::Done(self.perform(op))
    }

    fn poll(&mut self, done: &mut Vec<(Tag, Done)>) -> usize {
        let released = std::mem::take(&mut self.shared.borrow_mut().released);
        let n = released.len();
        for (tag, op) in released {
            done.push((tag, self.perform(op)));
        }
        n
    }
}

/// The nexus of that number: an initiator port each, all at target port 1.
fn name(number: u64) -> Nexus {
    let isid = [0, 0, 0, 0, 0, u8::try_from(number).unwrap()];
    let port = Arc::new(TargetPort::iscsi(1, "iqn.2026-11.test:t", 1));
    Nexus { initiator: PortName::iscsi_initiator("iqn.2026-11.test:i", isid), port }
}

/// A record store that holds records until it is told to answer.
#[derive(Default)]
struct Kept {
    hold: bool,
    under_way: Vec<(Tag, RecordSlot, Record)>,
    released: Vec<Tag>,
}

impl RecordStore for Rc<RefCell<Kept>> {
    fn persist(&mut self, tag: Tag, slot: RecordSlot, record: Record) {
        let mut this = self.borrow_mut();
        this.under_way.push((tag, slot, record));
        if !this.hold {
            this.released.push(tag);
        }
    }

    fn poll(&mut self, done: &mut Vec<(Tag, Result<(), Error>)>) {
        done.extend(std::mem::take(&mut self.borrow_mut().released).into_iter().map(|tag| (tag, Ok(()))));
    }
}

/// A disk with nothing but READ (opcode 28h) and WRITE (2Ah): byte 5 is the block, byte 8 the count; with ERASE (48h),
/// which flushes after its status and then finds the medium changed, COPY (83h), which reads block 0 of the logical
/// unit with the name in byte 1, or flushes it if byte 2 is not zero, KEEP (2Fh), which keeps byte 5, RESERVE (16h),
/// and WIPE (49h), which flushes, and is not stopped by an abort.
#[derive(Default)]
struct ToyDisk {
    aborted: Vec<TaskId>,
    /// Those that go on when they are aborted.
    steady: Vec<TaskId>,
    live: usize,
    control: Control,
}

impl DeviceServer for Rc<RefCell<ToyDisk>> {
    fn start(&mut self, task: TaskId, command: &Command, cx: &mut Context<'_>) -> Step {
        self.borrow_mut().live += 1;
        let len = u32::from(command.cdb.bytes()[8]) * BLOCK as u32;
        match command.cdb.opcode() {
            0x28 => {
                let at = u64::from(command.cdb.bytes()[5]) * BLOCK as u64;
                Step::Store(Op::Read { at, len, into: (cx.landing)(len) })
            }
            0x2a => Step::Fetch { len },
            0x03 => {
                self.borrow_mut().live -= 1;
                cx.attentions.take();
                Step::Finish(Outcome::good())
            }
            0x16 => Step::Change(Change::Reservations(reservations::Request::Reserve)),
            0x48 => Step::Detach(Outcome::good()),
            0x49 => {
                self.borrow_mut().steady.push(task);
                Step::Store(Op::Flush)
            }
            0x83 => Step::Look(Designation::new(1, 3, &command.cdb.bytes()[1..2]).unwrap()),
            0x2f => Step::Persist(Record { name: "toy", generation: 1, bytes: vec![command.cdb.bytes()[5]] }),
            0xa5 => {
                self.borrow_mut().steady.push(task);
                Step::MoveMedia(vec![DriveChange { drive: command.cdb.bytes()[5].into(), barcode: None }])
            }
            _ => {
                self.borrow_mut().live -= 1;
                Step::Finish(Outcome::good())
            }
        }
    }

    fn resume(&mut self, _: TaskId, command: &Command, answer: Resume, _: &mut Context<'_>) -> Step {
        let at = u64::from(command.cdb.bytes()[5]) * BLOCK as u64;
        let outcome = match answer {
            Resume::Fetched(data) => return Step::Store(Op::Write { at, data, fua: false }),
            Resume::Stored(Done::Data(data)) => Outcome::data(data),
            Resume::Detached => return Step::Store(Op::Flush),
            Resume::Stored(_) if command.cdb.opcode() == 0x48 => Outcome::good().telling_others(Some(0x2a01)),
            Resume::Seen(None) => Outcome::check(Sense::illegal(asc::LOGICAL_UNIT_NOT_SUPPORTED)),
            Resume::Seen(Some(peer)) => {
                let op = match command.cdb.bytes()[2] {
                    0 => Op::Read { at: 0, len: BLOCK as u32, into: Landing::Own },
                    _ => Op::Flush,
                };
                return Step::StoreOf(peer.unit, op);
            }
            Resume::NotAdmitted => Outcome::check(Sense::new(key::COPY_ABORTED, 0x0d01)),
            Resume::Stored(_) => Outcome::took(u64::from(command.cdb.bytes()[8]) * BLOCK as u64),
            Resume::Changed(Ok(_)) => Outcome::good(),
            Resume::Changed(Err(refusal)) => refusal.into(),
            Resume::Persisted(Ok(())) => Outcome::good(),
            Resume::Persisted(Err(_)) => Outcome::check(Sense::new(key::HARDWARE_ERROR, 0x4400)),
            Resume::MediaMoved(Ok(())) => Outcome::good(),
            Resume::MediaMoved(Err(_)) => Outcome::check(Sense::new(key::HARDWARE_ERROR, 0x5300)),
            Resume::Sent => unreachable!("sends nothing by itself"),
        };
        self.borrow_mut().live -= 1;
        Step::Finish(outcome)
    }

    fn goes_on(&self, task: TaskId) -> bool {
        self.borrow().steady.contains(&task)
    }

    fn abort(&mut self, task: TaskId) {
        let mut this = self.borrow_mut();
        this.live -= 1;
        this.aborted.push(task);
    }

    fn control(&self) -> Control {
        self.borrow().control
    }
}

/// A tape that moves one record in parts of `PART` bytes: READ (08h) of a record of another length than bytes 2 to 4
/// ask for ends with ILI and the difference, WRITE (0Ah) hits the end of the medium half way.
#[derive(Default)]
struct ToyTape {
    tasks: HashMap<TaskId, usize>,
    /// Its name for copies; it lets them do nothing but read if that is odd.
    name: u8,
}

const PART: usize = 1000;
const RECORD: usize = 3500;
const ROOM: usize = 2500;

impl ToyTape {
    fn read(&mut self, task: TaskId, command: &Command) -> Step {
        let moved = self.tasks[&task];
        let asked = be24(command.cdb.bytes(), 2) as usize;
        let left = RECORD.min(asked).min(command.expected.data_in as usize) - moved;
        if left > 0 {
            let (at, len) = (moved as u64, left.min(PART) as u32);
            return Step::Store(Op::Read { at, len, into: Landing::Own });
        }
        self.tasks.remove(&task);
        let ili = asked != RECORD;
        let information = Some(asked.wrapping_sub(RECORD) as u64);
        let sense = Sense { ili, information, ..Sense::default() };
        let outcome = if ili { Outcome::check(sense) } else { Outcome::good() };
        Step::Finish(outcome.of_block(asked as u64, RECORD as u64))
    }
}

impl DeviceServer for ToyTape {
    fn start(&mut self, task: TaskId, command: &Command, _: &mut Context<'_>) -> Step {
        self.tasks.insert(task, 0);
        match command.cdb.opcode() {
            0x08 => self.read(task, command),
            _ => Step::Fetch { len: command.expected.data_out.min(PART as u32) },
        }
    }

    fn resume(&mut self, task: TaskId, command: &Command, answer: Resume, _: &mut Context<'_>) -> Step {
        match answer {
            Resume::Stored(Done::Data(data)) => {
                *self.tasks.get_mut(&task).unwrap() += data.len();
                Step::Send(data)
            }
            Resume::Sent => self.read(task, command),
            Resume::Fetched(data) => {
                Step::Store(Op::Write { at: self.tasks[&task] as u64, data, fua: false })
            }
            Resume::Persisted(_) | Resume::Changed(_) | Resume::MediaMoved(_) => {
                unreachable!("keeps nothing, changes nothing")
            }
            Resume::Stored(_) => {
                let moved = self.tasks.get_mut(&task).unwrap();
                *moved += PART;
                if *moved < ROOM {
                    return Step::Fetch { len: (ROOM - *moved).min(PART) as u32 };
                }
                self.tasks.remove(&task);
                let eom = Sense { eom: true, ..Sense::new(key::VOLUME_OVERFLOW, 0x0002) };
                Step::Finish(Outcome { data_out: ROOM as u64, ..Outcome::check(eom) })
            }
            other => unreachable!("{other:?} is not asked for"),
        }
    }

    fn copies_as(&self, name: &Designation) -> Option<CopyTraits> {
        let traits = CopyTraits { device_type: 1, block: BLOCK as u32, write_through: false };
        (*name == Designation::new(1, 3, &[self.name]).unwrap()).then_some(traits)
    }

    fn admits(&self, op: &Op, _: &Geometry) -> bool {
        self.name.is_multiple_of(2) || matches!(op, Op::Read { .. })
    }

    fn abort(&mut self, task: TaskId) {
        assert!(self.tasks.remove(&task).is_some(), "only a live task is aborted");
    }
}

/// What all toy transports have in common: what the initiator offered, and what it saw.
#[derive(Default)]
struct Wire {
    requests: VecDeque<Request>,
    offered: HashMap<RequestTag, Vec<u8>>,
    fetched: HashMap<RequestTag, usize>,
    seen: HashMap<RequestTag, Vec<u8>>,
    responses: Vec<(RequestTag, Status, Residual, Residual)>,
    sense: HashMap<RequestTag, Vec<u8>>,
    terminated: Vec<RequestTag>,
    executed: Vec<(RequestTag, TaskManagementResponse)>,
    events: Vec<(Lun, Vec<u8>)>,
    /// Data transfers wait until the test lets them through.
    hold: bool,
    held: Vec<Request>,
}

impl Wire {
    fn answer(&mut self, request: Request) {
        if self.hold { self.held.push(request) } else { self.requests.push_back(request) }
    }

    fn offer(&mut self, request_tag: RequestTag, len: u32) -> Vec<u8> {
        let at = self.fetched.entry(request_tag).or_default();
        let bytes = self.offered[&request_tag][*at..*at + len as usize].to_vec();
        *at += len as usize;
        bytes
    }

    fn complete(&mut self, request_tag: RequestTag, response: &Response) {
        self.responses.push((request_tag, response.status, response.residual_in, response.residual_out));
        self.sense.insert(request_tag, response.sense.to_vec());
    }
}

/// How a toy transport moves bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
enum TransportKind {
    /// In a stream: pieces are copied out as they come.
    Stream,
    /// The initiator's memory is a region: reads land in it directly, data is placed by offset.
    Region,
    /// All data lies in the ring slot of the command before it starts; nothing leaves before the status.
    Slot,
}

struct ToyTransport {
    kind: TransportKind,
    arena: Arena,
    wire: Wire,
    slots: HashMap<RequestTag, Sg>,
}

impl Transport for ToyTransport {
    fn poll_request(&mut self) -> Option<Request> {
        self.wire.requests.pop_front()
    }

    fn receive_data_out(&mut self, request_tag: RequestTag, len: u32) {
        let bytes = self.wire.offer(request_tag, len);
        let data = Sg::copied(&self.arena, &bytes).unwrap();
        self.wire.answer(Request::DataOut { request_tag, data });
    }

    fn send_data_in(&mut self, request_tag: RequestTag, data: Sg) {
        match self.kind {
            TransportKind::Slot => self.slots.entry(request_tag).or_default().append(data),
            _ => self.wire.seen.entry(request_tag).or_default().extend(data.to_vec()),
        }
        self.wire.answer(Request::DataInTaken { request_tag });
    }

    fn send_command_complete(&mut self, request_tag: RequestTag, response: Response) {
        let mut data = self.slots.remove(&request_tag).unwrap_or_default();
        self.wire.complete(request_tag, &response);
        data.append(response.data);
        self.wire.seen.entry(request_tag).or_default().extend(data.to_vec());
    }

    fn task_management_executed(&mut self, request: RequestTag, response: TaskManagementResponse) {
        self.wire.executed.push((request, response));
    }

    fn terminate(&mut self, request_tag: RequestTag, status: Option<Status>) {
        self.slots.remove(&request_tag);
        self.wire.terminated.push(request_tag);
        let told = status.map(|status| (request_tag, status, Residual::None, Residual::None));
        self.wire.responses.extend(told);
    }

    fn report_event(&mut self, lun: Lun, sense: &[u8]) {
        self.wire.events.push((lun, sense.to_vec()));
    }

    fn landing(&mut self, _: RequestTag, len: u32) -> Landing {
        match self.kind {
            TransportKind::Region => {
                self.arena.alloc(len as usize).map_or(Landing::Own, |m: SegMut| Landing::Given(m))
            }
            _ => Landing::Own,
        }
    }
}

struct World {
    arena: Arena,
    manager: TaskManager,
    disk: Rc<RefCell<ToyDisk>>,
    stores: [Rc<RefCell<StoreState>>; 2],
    kept: Rc<RefCell<Kept>>,
    transports: Vec<(NexusKey, Option<ToyTransport>)>,
}

struct Lookup<'a>(&'a mut Vec<(NexusKey, Option<ToyTransport>)>);

impl Transports for Lookup<'_> {
    fn transport(&mut self, nexus: NexusKey) -> Option<&mut dyn Transport> {
        let entry = self.0.iter_mut().find(|(key, t)| *key == nexus && t.is_some())?;
        entry.1.as_mut().map(|t| t as &mut dyn Transport)
    }
}

const NOW: Instant = Instant::ZERO;
const DISK: Lun = Lun::from_index(0);
const TAPE: Lun = Lun::from_index(1);

impl World {
    fn new(kind: TransportKind, peers: usize) -> Self {
        let arena = Arena::new(32 << 20, false).unwrap();
        let disk = Rc::<RefCell<ToyDisk>>::default();
        let mut manager = TaskManager::new(
            &CoreContext::new(0, peers + 1, arena.clone()),
            Box::new(Rc::<RefCell<ToyDisk>>::default()),
        );
        let stores = [(); 2].map(|()| {
            let bytes = (0..UNIT_BYTES).map(|i| (i / 7) as u8).collect();
            Rc::new(RefCell::new(StoreState { bytes, ..StoreState::default() }))
        });
        let store = |i: usize| Box::new(HoldingStore { arena: arena.clone(), shared: stores[i].clone() });
        let units = [(DISK, UnitKey(1)), (TAPE, UnitKey(2))];
        manager.add_unit(UnitKey(1), Box::new(disk.clone()), Some(store(0)));
        let tape = ToyTape { name: 2, ..ToyTape::default() };
        manager.add_unit(UnitKey(2), Box::new(tape), Some(store(1)));
        let kept = Rc::<RefCell<Kept>>::default();
        manager.persist_with(Box::new(kept.clone()), &[(units[0].1, RecordSlot(5))]);
        let transports = (0..2)
            .map(|i| {
                let key = manager.add_nexus(NexusId::of(i), name(i), &units);
                let (wire, slots) = (Wire::default(), HashMap::new());
                (key, Some(ToyTransport { kind, arena: arena.clone(), wire, slots }))
            })
            .collect();
        let mut world = Self { arena, manager, disk, stores, kept, transports };
        // Every nexus hears of the power-on first.
        for nexus in 0..2 {
            for (x, lun) in [(900, DISK), (901, TAPE)] {
                world.command(nexus, x, lun, &[0; 10], 0, &[]);
                world.turn();
                assert_eq!(world.wire(nexus).responses.pop().unwrap().1, Status::CheckCondition);
            }
        }
        world
    }

    fn wire(&mut self, nexus: usize) -> &mut Wire {
        &mut self.transports[nexus].1.as_mut().unwrap().wire
    }

    fn command(&mut self, nexus: usize, x: u32, lun: Lun, cdb: &[u8], data_in: u32, out: &[u8]) {
        self.ordered(nexus, x, lun, cdb, data_in, out, TaskAttribute::Simple);
    }

    #[expect(clippy::too_many_arguments, reason = "a command has that many fields")]
    fn ordered(
        &mut self,
        nexus: usize,
        x: u32,
        lun: Lun,
        cdb: &[u8],
        data_in: u32,
        out: &[u8],
        a: TaskAttribute,
    ) {
        let request_tag = RequestTag(x);
        let command = Command {
            nexus: NexusId::of(nexus as u64),
            lun,
            cdb: Cdb::new(cdb).unwrap(),
            attribute: a,
            expected: Expected { data_in, data_out: out.len() as u32 },
        };
        let wire = self.wire(nexus);
        wire.offered.insert(request_tag, out.to_vec());
        wire.fetched.remove(&request_tag);
        wire.seen.remove(&request_tag);
        wire.requests.push_back(Request::Command { request_tag, command });
    }

    fn task_management(&mut self, nexus: usize, function: TaskManagementFunction, lun: Lun) {
        let (request, id) = (RequestTag(7), NexusId::of(nexus as u64));
        self.wire(nexus).requests.push_back(Request::TaskManagement { request, nexus: id, function, lun });
    }

    fn turn(&mut self) {
        self.turn_at(NOW);
    }

    fn turn_at(&mut self, now: Instant) {
        for _ in 0..20 {
            for (key, transport) in &mut self.transports {
                if let Some(transport) = transport {
                    self.manager.serve(now, *key, transport);
                }
            }
            self.manager.poll_stores(now, &mut Lookup(&mut self.transports), &mut |_| {});
        }
    }

    fn release(&mut self) {
        for store in &self.stores {
            let mut store = store.borrow_mut();
            let held = std::mem::take(&mut store.held);
            store.released.extend(held);
            store.hold = false;
            store.full = false;
        }
        {
            let mut kept = self.kept.borrow_mut();
            kept.hold = false;
            kept.released = kept.under_way.iter().map(|(tag, ..)| *tag).collect();
        }
        for nexus in 0..2 {
            if let Some(transport) = &mut self.transports[nexus].1 {
                transport.wire.hold = false;
                let held = std::mem::take(&mut transport.wire.held);
                transport.wire.requests.extend(held);
            }
        }
        self.turn();
    }

    /// Nothing is left: no task, no memory, no device state.
    fn check_quiet(&mut self) {
        for (_, transport) in &mut self.transports {
            if let Some(transport) = transport {
                transport.wire.requests.clear();
                transport.wire.held.clear();
                assert!(transport.slots.is_empty());
            }
        }
        assert_eq!(self.manager.tasks(), 0);
        assert_eq!(self.disk.borrow().live, 0);
        assert_eq!(self.arena.in_use(), 0, "all memory is home");
    }
}

fn read(block: u8, count: u8) -> [u8; 10] {
    [0x28, 0, 0, 0, 0, block, 0, 0, count, 0]
}

fn write(block: u8, count: u8) -> [u8; 10] {
    [0x2a, 0, 0, 0, 0, block, 0, 0, count, 0]
}

fn read_record(asked: u32) -> [u8; 6] {
    let [_, high, middle, low] = asked.to_be_bytes();
    [0x08, 0, high, middle, low, 0]
}

fn persist(value: u8) -> [u8; 10] {
    [0x2f, 0, 0, 0, 0, value, 0, 0, 0, 0]
}

const KINDS: [TransportKind; 3] = [TransportKind::Stream, TransportKind::Region, TransportKind::Slot];
