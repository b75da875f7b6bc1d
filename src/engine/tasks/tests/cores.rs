// SPDX-License-Identifier: GPL-2.0-or-later
//! Two cores that share a logical unit: messages, stores and initiators take their time in every order that a seed
//! gives, and what initiators see must be what one of them after the other would have seen (linearizability).

mod attentions;
mod twins;

use std::collections::HashSet;

use super::*;
use crate::scsi::primary::{Definition, Row, Table};
use crate::scsi::reservations::{Access, ReservationCommand, ReservationType, commands};
use crate::scsi::{Attention, Change, UnitAttentions, UnitState};
use crate::stores::exclusive::{Exclusive, ExclusiveGate};
use crate::wire::scsi::be16;

const A: u8 = 0xff;

const ROWS: [Row<()>; 14] = [
    Row { definition: Definition::new("TEST UNIT READY", &[0; 6]).with(Access::Harmless), run: () },
    Row { definition: crate::scsi::primary::command::MODE_SELECT_6, run: () },
    Row { definition: commands::RESERVE_6, run: () },
    Row { definition: commands::RELEASE_6, run: () },
    Row { definition: Definition::new("READ(10)", &[0x28, 0, A, A, A, A, 0, A, A, 0]), run: () },
    Row { definition: Definition::new("WRITE(10)", &[0x2a, 0, A, A, A, A, 0, A, A, 0]).writing(), run: () },
    Row { definition: commands::READ_KEYS, run: () },
    Row { definition: commands::REGISTER, run: () },
    Row { definition: commands::RESERVE, run: () },
    Row { definition: commands::PREEMPT, run: () },
    Row { definition: commands::PREEMPT_AND_ABORT, run: () },
    Row {
        definition: Definition::new(
            "COMPARE AND WRITE",
            &[0x89, 0, A, A, A, A, A, A, A, A, 0, 0, 0, A, 0, 0],
        )
        .writing(),
        run: (),
    },
    Row {
        definition: Definition::new("WRITE ATOMIC(16)", &[0x9c, 0, A, A, A, A, A, A, A, A, 0, 0, A, A, 0, 0])
            .writing(),
        run: (),
    },
    Row { definition: Definition::new("MOVE MEDIUM", &[0xa5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), run: () },
];

static TABLE: Table<()> = Table::new(&ROWS);

/// A disk of two blocks that knows reservations.
#[derive(Default)]
struct Guarded {
    works: HashMap<TaskId, ReservationCommand>,
    /// What its MOVE MEDIUM makes others know.
    tells: Vec<Attention>,
}

impl DeviceServer for Guarded {
    fn start(&mut self, task: TaskId, command: &Command, cx: &mut Context<'_>) -> Step {
        let len = BLOCK as u32;
        let at = u64::from(command.cdb.bytes()[5]) * BLOCK as u64;
        match command.cdb.opcode() {
            0x28 => {
                let len = len * u32::from(command.cdb.bytes()[8]);
                Step::Store(Op::Read { at, len, into: Landing::Own })
            }
            0x2a => Step::Fetch { len },
            0x89 | 0x9c => Step::Fetch { len: 2 * len },
            0x48 => Step::Detach(Outcome::good().telling_others(Some(asc::MODE_PARAMETERS_CHANGED))),
            0x00 => Step::Finish(Outcome::good()),
            0x15 => Step::Finish(Outcome::good().telling_others(Some(asc::MODE_PARAMETERS_CHANGED))),
            0xa5 => Step::Finish(Outcome { attentions: self.tells.clone(), ..Outcome::good() }),
            _ => match ReservationCommand::begin(command) {
                Ok(mut work) => {
                    let step = work.advance(None, command, cx);
                    self.works.insert(task, work);
                    step
                }
                Err(sense) => Step::Finish(Outcome::check(sense)),
            },
        }
    }

    fn resume(&mut self, task: TaskId, command: &Command, answer: Resume, cx: &mut Context<'_>) -> Step {
        if let Some(work) = self.works.get_mut(&task) {
            let step = work.advance(Some(answer), command, cx);
            if matches!(step, Step::Finish(_)) {
                self.works.remove(&task);
            }
            return step;
        }
        let at = u64::from(command.cdb.bytes()[5]) * BLOCK as u64;
        match answer {
            Resume::Fetched(mut data) if command.cdb.opcode() == 0x89 => {
                let compare = Some(Box::new(data.split_to(BLOCK)));
                Step::Store(Op::CompareAndWrite { at, compare, data, fua: false })
            }
            Resume::Fetched(data) if command.cdb.opcode() == 0x9c => {
                Step::Store(Op::CompareAndWrite { at: 0, compare: None, data, fua: false })
            }
            Resume::Fetched(data) => Step::Store(Op::Write { at, data, fua: false }),
            Resume::Stored(Done::Data(data)) => Step::Finish(Outcome::data(data)),
            Resume::Stored(Done::Differs { .. }) => {
                Step::Finish(Outcome::check(Sense::new(key::MISCOMPARE, asc::MISCOMPARE_DURING_VERIFY)))
            }
            Resume::Detached => Step::Finish(Outcome::good()),
            _ => Step::Finish(Outcome::took(BLOCK as u64)),
        }
    }

    fn abort(&mut self, task: TaskId) {
        self.works.remove(&task);
    }

    fn definition(&self, cdb: &Cdb) -> Option<&'static Definition> {
        TABLE.definition(cdb)
    }
}

/// Numbers that a seed makes (xorshift).
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % n
    }
}

/// An operation that is perhaps done in part, and what it has read so far.
type Half = (Tag, Op, Vec<u8>);

/// A core's operations that the store has, over bytes that both share. It does them block by block, with anything in
/// between.
#[derive(Clone)]
struct Slow {
    arena: Arena,
    bytes: Rc<RefCell<Vec<u8>>>,
    held: Rc<RefCell<Vec<Half>>>,
    done: Rc<RefCell<Vec<(Tag, Done)>>>,
}

impl Slow {
    /// Does the next block of an operation, and completes it with the last.
    fn complete(&self, index: usize) {
        let (tag, op, mut read) = self.held.borrow_mut().remove(index);
        let mut bytes = self.bytes.borrow_mut();
        let (done, next) = match op {
            Op::Read { at, len, into } => {
                read.extend(&bytes[at as usize..][..BLOCK]);
                let data = Sg::copied(&self.arena, &read).unwrap();
                let next = Op::Read { at: at + BLOCK as u64, len: len - BLOCK as u32, into };
                (Done::Data(data), (len as usize > BLOCK).then_some(next))
            }
            Op::Write { at, mut data, fua } => {
                data.split_to(BLOCK).copy_to(0, &mut bytes[at as usize..][..BLOCK]);
                let left = !data.is_empty();
                (Done::Finished, left.then_some(Op::Write { at: at + BLOCK as u64, data, fua }))
            }
            other => panic!("{other:?}"),
        };
        match next {
            Some(next) => self.held.borrow_mut().push((tag, next, read)),
            None => self.done.borrow_mut().push((tag, done)),
        }
    }
}

impl Store for Slow {
    fn geometry(&self) -> Geometry {
        Geometry { bytes: 2 * BLOCK as u64, block: 512, transfer_max: 4096, thin: false, read_only: false }
    }

    fn submit(&mut self, tag: Tag, op: Op) -> Submitted {
        self.held.borrow_mut().push((tag, op, Vec::new()));
        Submitted::Queued
    }

    fn poll(&mut self, done: &mut Vec<(Tag, Done)>) -> usize {
        let mut ready = self.done.borrow_mut();
        let n = ready.len();
        done.append(&mut ready);
        n
    }
}

/// What an initiator asks.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Ask {
    Write(u8, u8),
    Read(u8),
    /// Both blocks in one READ.
    Both,
    /// COMPARE AND WRITE: block, what it must hold, what it is to hold.
    Swap(u8, u8, u8),
    /// WRITE ATOMIC of both blocks.
    Atomic(u8),
    /// A status while the task goes on, and an attention with it.
    Detach,
    Keys,
    /// TEST UNIT READY.
    Ready,
    /// MODE SELECT.
    Select,
    /// MOVE MEDIUM.
    Move,
    /// TEST UNIT READY of the other logical unit.
    OtherReady,
    Reserve,
    Release,
    /// PERSISTENT RESERVE OUT: action, type, key, action key.
    Out(u8, u8, u8, u8),
}

/// What it gets.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Got {
    Good,
    Data(Vec<u8>),
    Conflict,
    Check,
    Attention(u16),
    Aborted,
}

struct Call {
    client: usize,
    ask: Ask,
    /// ORDERED: after what the initiator sent before, and before what it sent later.
    ordered: bool,
    begin: u64,
    end: u64,
    got: Option<Got>,
}

/// An initiator's end.
struct Client {
    core: usize,
    key: NexusKey,
    arena: Arena,
    requests: VecDeque<Request>,
    /// Data-Out that is on its way.
    sending: VecDeque<Request>,
    offered: HashMap<RequestTag, Vec<u8>>,
    left: Vec<Ask>,
    /// Commands at a time.
    depth: usize,
    /// The calls that are under way.
    calls: HashMap<RequestTag, usize>,
    got: Vec<(RequestTag, Got)>,
}

impl Transport for Client {
    fn poll_request(&mut self) -> Option<Request> {
        self.requests.pop_front()
    }

    fn receive_data_out(&mut self, request_tag: RequestTag, len: u32) {
        let data = Sg::copied(&self.arena, &self.offered[&request_tag][..len as usize]).unwrap();
        self.sending.push_back(Request::DataOut { request_tag, data });
    }

    fn send_data_in(&mut self, _: RequestTag, _: Sg) {
        unreachable!("reads come with their status");
    }

    fn send_command_complete(&mut self, request_tag: RequestTag, response: Response) {
        let got = match response.status {
            Status::Good if response.data.is_empty() => Got::Good,
            Status::Good => Got::Data(response.data.to_vec()),
            Status::ReservationConflict => Got::Conflict,
            Status::CheckCondition if response.sense[2] & 0x0f == key::UNIT_ATTENTION => {
                Got::Attention(be16(&response.sense, 12))
            }
            Status::CheckCondition => Got::Check,
            other => panic!("{other:?}"),
        };
        self.got.push((request_tag, got));
    }

    fn task_management_executed(&mut self, _: RequestTag, _: TaskManagementResponse) {}

    fn terminate(&mut self, request_tag: RequestTag, _: Option<Status>) {
        self.sending.retain(
            |request| !matches!(request, Request::DataOut { request_tag: x, .. } if *x == request_tag),
        );
        self.got.push((request_tag, Got::Aborted));
    }
}

/// What goes from core to core.
enum Message {
    Tasks(PeerMessage),
    Reset(usize),
    ResetDone(usize),
}

struct Clients<'a>(&'a mut Vec<Client>, usize);

impl Transports for Clients<'_> {
    fn transport(&mut self, nexus: NexusKey) -> Option<&mut dyn Transport> {
        let found = self.0.iter_mut().find(|client| client.core == self.1 && client.key == nexus)?;
        Some(found)
    }
}

struct Cores {
    dice: Dice,
    clock: u64,
    managers: Vec<TaskManager>,
    unit: UnitKey,
    /// Without a store.
    other: UnitKey,
    stores: Vec<Slow>,
    kept: Vec<Rc<RefCell<Kept>>>,
    /// From each core to each other, in order.
    wires: [VecDeque<Message>; 2],
    clients: Vec<Client>,
    calls: Vec<Call>,
    /// ORDERED commands are sent as SIMPLE ones.
    disorderly: bool,
}

fn list(key: u8, action_key: u8, aptpl: u8) -> Vec<u8> {
    let mut list = vec![0, 0, 0, 0, 0, 0, 0, key, 0, 0, 0, 0, 0, 0, 0, action_key];
    list.extend([0, 0, 0, 0, aptpl, 0, 0, 0]);
    list
}

const CLIENTS: usize = 4;

impl Cores {
    fn new(seed: u64, asks: impl Fn(&mut Dice, usize) -> Vec<Ask>) -> Self {
        Self::with_gate(seed, asks, true, &[])
    }

    /// With a gate for exclusive operations that both cores have in common, or with one each, and with what MOVE MEDIUM
    /// tells.
    fn with_gate(
        seed: u64,
        asks: impl Fn(&mut Dice, usize) -> Vec<Ask>,
        common: bool,
        tells: &[Attention],
    ) -> Self {
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let arena = Arena::new(4 << 20, false).unwrap();
        let shared = [(); 2].map(|()| Arc::<SharedState>::default());
        let bytes = Rc::new(RefCell::new(vec![0; 2 * BLOCK]));
        let gate = Arc::<ExclusiveGate>::default();
        let (mut managers, mut stores, mut kept, mut clients) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let (unit, other) = (UnitKey(1), UnitKey(2));
        for core in 0..2 {
            let mut manager =
                TaskManager::new(&CoreContext::new(core, 2, arena.clone()), Box::new(Guarded::default()));
            let store =
                Slow { arena: arena.clone(), bytes: bytes.clone(), held: Rc::default(), done: Rc::default() };
            let gate = if common { gate.clone() } else { Arc::default() };
            let exclusive = Exclusive::new(store.clone(), gate);
            let guarded = Guarded { tells: tells.to_vec(), ..Guarded::default() };
            manager.add_unit(unit, Box::new(guarded), Some(Box::new(exclusive)));
            manager.add_unit(other, Box::new(Guarded::default()), None);
            manager.share(unit, shared[0].clone());
            manager.share(other, shared[1].clone());
            let record_store = Rc::<RefCell<Kept>>::default();
            record_store.borrow_mut().hold = true;
            manager.persist_with(Box::new(record_store.clone()), &[(unit, RecordSlot(0))]);
            managers.push(manager);
            stores.push(store);
            kept.push(record_store);
        }
        for number in 0..CLIENTS {
            let core = number % 2;
            let id = NexusId::of(number as u64);
            let key = managers[core].add_nexus(id, name(number as u64), &[(DISK, unit), (TAPE, other)]);
            for task_set in &mut managers[core].nexuses[key.0].task_sets {
                task_set.attentions = UnitAttentions::default();
            }
            let left = asks(&mut dice, number);
            let client = Client {
                core,
                key,
                arena: arena.clone(),
                requests: VecDeque::new(),
                sending: VecDeque::new(),
                offered: HashMap::new(),
                left,
                depth: 1,
                calls: HashMap::new(),
                got: Vec::new(),
            };
            clients.push(client);
        }
        let wires = [VecDeque::new(), VecDeque::new()];
        Self {
            dice,
            clock: 0,
            managers,
            unit,
            other,
            stores,
            kept,
            wires,
            clients,
            calls: Vec::new(),
            disorderly: false,
        }
    }

    /// An initiator sends its next command.
    fn send(&mut self, number: usize) {
        let client = &mut self.clients[number];
        let Some(ask) = client.left.pop() else { return };
        let (cdb, data_in, out): (Vec<u8>, u32, Vec<u8>) = match ask {
            Ask::Write(block, value) => (vec![0x2a, 0, 0, 0, 0, block, 0, 0, 1, 0], 0, vec![value; BLOCK]),
            Ask::Read(block) => (vec![0x28, 0, 0, 0, 0, block, 0, 0, 1, 0], BLOCK as u32, Vec::new()),
            Ask::Both => (vec![0x28, 0, 0, 0, 0, 0, 0, 0, 2, 0], 2 * BLOCK as u32, Vec::new()),
            Ask::Swap(block, old, new) => {
                let mut cdb = vec![0x89, 0, 0, 0, 0, block];
                cdb.resize(16, 0);
                (cdb, 0, [[old; BLOCK], [new; BLOCK]].concat())
            }
            Ask::Atomic(value) => {
                let mut cdb = vec![0x9c];
                cdb.resize(16, 0);
                (cdb, 0, vec![value; 2 * BLOCK])
            }
            Ask::Detach => (vec![0x48, 0, 0, 0, 0, 0, 0, 0, 0, 0], 0, Vec::new()),
            Ask::Keys => (vec![0x5e, 0, 0, 0, 0, 0, 0, 0, 255, 0], 255, Vec::new()),
            Ask::Ready | Ask::OtherReady => (vec![0; 6], 0, Vec::new()),
            Ask::Move => {
                let mut cdb = vec![0xa5];
                cdb.resize(12, 0);
                (cdb, 0, Vec::new())
            }
            Ask::Select => (vec![0x15, 0, 0, 0, 0, 0], 0, Vec::new()),
            Ask::Reserve => (vec![0x16, 0, 0, 0, 0, 0], 0, Vec::new()),
            Ask::Release => (vec![0x17, 0, 0, 0, 0, 0], 0, Vec::new()),
            Ask::Out(action, kind, key, action_key) => {
                let aptpl = u8::from(action == 0 && number == 0);
                (vec![0x5f, action, kind, 0, 0, 0, 0, 0, 24, 0], 0, list(key, action_key, aptpl))
            }
        };
        let lun = if ask == Ask::OtherReady { TAPE } else { DISK };
        // One initiator of several commands at a time wants some of them in order.
        let ordered = client.depth > 1 && self.dice.below(3) == 0;
        let command = Command {
            nexus: NexusId::of(number as u64),
            lun,
            cdb: Cdb::new(&cdb).unwrap(),
            attribute: if ordered && !self.disorderly {
                TaskAttribute::Ordered
            } else {
                TaskAttribute::Simple
            },
            expected: Expected { data_in, data_out: out.len() as u32 },
        };
        let request_tag =
            (0..).map(RequestTag).find(|x| !client.calls.contains_key(x)).expect("no end of numbers");
        client.offered.insert(request_tag, out);
        client.requests.push_back(Request::Command { request_tag, command });
        client.calls.insert(request_tag, self.calls.len());
        self.calls.push(Call { client: number, ask, ordered, begin: self.clock, end: u64::MAX, got: None });
    }

    fn turn(&mut self, core: usize) {
        let manager = &mut self.managers[core];
        for client in self.clients.iter_mut().filter(|client| client.core == core) {
            manager.serve(NOW, client.key, client);
        }
        manager.poll_stores(NOW, &mut Clients(&mut self.clients, core), &mut |_| {});
        while let Some(notice) = manager.poll_notice() {
            let wire = &mut self.wires[core];
            match notice {
                Notice::ToPeers(message) => wire.push_back(Message::Tasks(message)),
                Notice::ToPeer(to, message) => {
                    assert_eq!(to, 1 - core);
                    wire.push_back(Message::Tasks(message));
                }
                Notice::ResetPeers { ticket, .. } => wire.push_back(Message::Reset(ticket)),
                Notice::Ended(ticket) => wire.push_back(Message::ResetDone(ticket as usize)),
                other => panic!("{other:?}"),
            }
        }
        for client in &mut self.clients {
            for (request_tag, got) in client.got.drain(..) {
                let call = client.calls.remove(&request_tag).expect("nothing comes unasked");
                (self.calls[call].end, self.calls[call].got) = (self.clock, Some(got));
            }
        }
    }

    fn deliver(&mut self, from: usize) {
        let Some(message) = self.wires[from].pop_front() else { return };
        let manager = &mut self.managers[1 - from];
        match message {
            Message::Tasks(message) => manager.hear(message),
            Message::Reset(ticket) => {
                let units = SmallVec::from_slice(&[self.unit]);
                manager.reset(NOW, units, AfterAbort::Tell(ticket as u64));
            }
            Message::ResetDone(ticket) => manager.peer_done(ticket),
        }
    }

    /// Something happens.
    fn step(&mut self) {
        self.clock += 1;
        let core = self.dice.below(2);
        match self.dice.below(6) {
            0 => {
                let number = self.dice.below(CLIENTS);
                if self.clients[number].calls.len() < self.clients[number].depth {
                    self.send(number);
                }
            }
            1 => self.deliver(core),
            2 => {
                let held = self.stores[core].held.borrow().len();
                if held > 0 {
                    let index = self.dice.below(held);
                    self.stores[core].complete(index);
                }
            }
            3 => {
                let number = self.dice.below(CLIENTS);
                let client = &mut self.clients[number];
                let some = self.dice.below(client.sending.len().max(1));
                client.requests.extend(client.sending.remove(some));
            }
            4 => {
                let mut kept = self.kept[core].borrow_mut();
                let released: Vec<_> = kept.under_way.drain(..).map(|(tag, ..)| tag).collect();
                kept.released.extend(released);
            }
            _ => self.turn(core),
        }
    }

    fn bytes(&self) -> Vec<u8> {
        self.stores[0].bytes.borrow().clone()
    }

    /// Until that initiator has had its last answer.
    fn run_to_the_end_of(&mut self, client: usize) {
        while !(self.clients[client].calls.is_empty() && self.clients[client].left.is_empty()) {
            self.step();
            assert!(self.clock < 200_000, "somebody waits for ever");
        }
    }

    fn run(&mut self) {
        while self.clients.iter().any(|client| !(client.calls.is_empty() && client.left.is_empty())) {
            self.step();
            assert!(self.clock < 200_000, "somebody waits for ever");
        }
        // All that is left is on its way home.
        for _ in 0..50 {
            (0..2).for_each(|core| self.turn(core));
            (0..2).for_each(|core| {
                while !self.wires[core].is_empty() {
                    self.deliver(core)
                }
            });
        }
        for manager in &self.managers {
            assert_eq!(manager.tasks(), 0);
            for unit in [self.unit, self.other].map(|unit| &manager.units[unit.row()]) {
                assert_eq!((unit.frozen, unit.held.len(), unit.storing), (0, 0, 0));
                assert_eq!(unit.state, unit.shared.current(), "both cores know the same");
            }
        }
    }
}

/// One after the other: what the unit does.
#[derive(Clone, PartialEq)]
struct Sequential {
    state: UnitState,
    blocks: [u8; 2],
}

impl Sequential {
    fn ask(&mut self, client: usize, ask: &Ask) -> Got {
        let (id, nexus) = (NexusId::of(client as u64), name(client as u64));
        let table = self.state.reservations();
        let standing = table.standing(id, &nexus);
        let access = match ask {
            Ask::Write(..) | Ask::Swap(..) | Ask::Atomic(_) | Ask::Select | Ask::Detach => Access::Write,
            Ask::Ready | Ask::OtherReady => Access::Harmless,
            Ask::Read(_) | Ask::Both | Ask::Move => Access::Read,
            Ask::Keys | Ask::Out(..) => Access::Persistent,
            Ask::Reserve | Ask::Release => Access::Reserve,
        };
        if table.conflict(access, standing) {
            return Got::Conflict;
        }
        let change = match *ask {
            Ask::Write(block, value) => {
                self.blocks[usize::from(block)] = value;
                return Got::Good;
            }
            Ask::Read(block) => return Got::Data(vec![self.blocks[usize::from(block)]; BLOCK]),
            Ask::Both => return Got::Data(self.blocks.map(|value| [value; BLOCK]).concat()),
            Ask::Swap(block, old, new) => {
                let now = &mut self.blocks[usize::from(block)];
                if *now != old {
                    return Got::Check;
                }
                *now = new;
                return Got::Good;
            }
            Ask::Atomic(value) => {
                self.blocks = [value; 2];
                return Got::Good;
            }
            Ask::Keys => {
                let registrations = table.registrations();
                let mut data = table.generation().to_be_bytes().to_vec();
                data.extend((8 * registrations.len() as u32).to_be_bytes());
                registrations.iter().for_each(|r| data.extend(r.key.to_be_bytes()));
                return Got::Data(data);
            }
            Ask::Ready | Ask::OtherReady | Ask::Select | Ask::Move | Ask::Detach => return Got::Good,
            Ask::Reserve => Change::Reservations(reservations::Request::Reserve),
            Ask::Release => Change::Reservations(reservations::Request::Release),
            Ask::Out(action, kind, key, action_key) => {
                let aptpl = u8::from(action == 0 && client == 0);
                let cdb = [0x5f, action, kind, 0, 0, 0, 0, 0, 24, 0, 0, 0, 0, 0, 0, 0];
                let out = reservations::Out::parse(&cdb, &list(key, action_key, aptpl)).unwrap();
                Change::Reservations(reservations::Request::Out(out))
            }
        };
        match self.state.change(&change, Some((id, &nexus))) {
            Ok((next, _)) => {
                self.state = next;
                Got::Good
            }
            Err(reservations::ChangeError::Conflict) => Got::Conflict,
            Err(_) => Got::Check,
        }
    }
}

/// Whether some order of the calls, none before one that had ended when it began, explains all answers.
fn explained(calls: &[Call], done: u64, now: &Sequential, seen: &mut Vec<(u64, Sequential)>) -> bool {
    if done.count_ones() as usize == calls.len() {
        return true;
    }
    if seen.iter().any(|(before, state)| *before == done && state == now) {
        return false;
    }
    let open = || (0..calls.len()).filter(|i| done & 1 << i == 0);
    let first_end = open().map(|i| calls[i].end).min().unwrap_or(0);
    let overtakes = |i: usize| {
        let sent_before = |&j: &usize| j < i && calls[j].client == calls[i].client;
        open().filter(sent_before).any(|j| calls[i].ordered || calls[j].ordered)
    };
    for i in open().filter(|&i| calls[i].begin <= first_end && !overtakes(i)) {
        let Call { client, ask, got, .. } = &calls[i];
        let got = got.as_ref().expect("all have ended");
        let nothing = matches!(got, Got::Attention(_) | Got::Aborted);
        if nothing && explained(calls, done | 1 << i, now, seen) {
            return true;
        }
        let mut next = now.clone();
        let would = next.ask(*client, ask);
        // An aborted command may have done its work.
        if (would == *got || *got == Got::Aborted) && explained(calls, done | 1 << i, &next, seen) {
            return true;
        }
    }
    seen.push((done, now.clone()));
    false
}

fn has_an_order(cores: &Cores) -> bool {
    let start = Sequential { state: UnitState::default(), blocks: [0; 2] };
    explained(&cores.calls, 0, &start, &mut Vec::new())
}

fn check(cores: &Cores, seed: u64) {
    if !has_an_order(cores) {
        for Call { client, ask, ordered, begin, end, got } in &cores.calls {
            let attribute = if *ordered { " ORDERED" } else { "" };
            eprintln!("{begin:6} to {end:6}: {client} {ask:?}{attribute}: {:?}", got.as_ref().map(brief));
        }
        panic!("seed {seed}: no order explains this");
    }
}

fn brief(got: &Got) -> String {
    match got {
        Got::Data(data) => format!("data {:?}", &data[..data.len().min(40)]),
        other => format!("{other:?}"),
    }
}

/// Three to five commands of an initiator that works with the keys 1 to 4.
fn anything(dice: &mut Dice, client: usize) -> Vec<Ask> {
    let own = client as u8 + 1;
    let mut asks: Vec<Ask> = (0..3 + dice.below(2))
        .map(|n| {
            let kind = ReservationType::ALL[dice.below(6)] as u8;
            let other = 1 + dice.below(4) as u8;
            match dice.below(12) {
                0..3 => Ask::Write(dice.below(2) as u8, (16 * client + n + 1) as u8),
                3 | 4 => Ask::Read(dice.below(2) as u8),
                5 => Ask::Keys,
                6 => Ask::Out(1, kind, own, 0),
                7 => Ask::Out(4, kind, own, other),
                8 => Ask::Out(5, kind, own, other),
                9 => Ask::Out(0, 0, own, 0),
                10 => Ask::Reserve,
                _ => Ask::Release,
            }
        })
        .collect();
    // Sent first, as a rule.
    if dice.below(4) > 0 {
        asks.push(Ask::Out(0, 0, 0, own));
    }
    asks
}

/// Three commands of one of four initiators, each of which has two at a time and some in order. READs of both blocks go
/// with atomic writes only: a READ is no more atomic than an ordinary write.
fn atomic(dice: &mut Dice, client: usize) -> Vec<Ask> {
    let whole = client.is_multiple_of(2);
    (0..3)
        .map(|n| {
            let (block, value) = (dice.below(2) as u8, (16 * client + n + 1) as u8);
            let older = [0, 1, 2, 3, 17, 18, 33, 34, 49][dice.below(9)];
            match dice.below(8) {
                0 | 1 => Ask::Atomic(value),
                2..5 => Ask::Swap(block, if dice.below(2) == 0 { 0 } else { older }, value),
                5 => Ask::Read(block),
                _ if whole => Ask::Both,
                _ => Ask::Read(block),
            }
        })
        .collect()
}

/// The same, with ordinary writes in place of READs of both blocks.
fn mixed(dice: &mut Dice, client: usize) -> Vec<Ask> {
    let mut asks = atomic(dice, client);
    for (n, ask) in asks.iter_mut().enumerate() {
        if *ask == Ask::Both || dice.below(4) == 0 {
            *ask = Ask::Write(dice.below(2) as u8, (16 * client + n + 1) as u8);
        }
    }
    asks
}

/// How many seeds a test runs; the environment may ask for more.
fn seeds() -> u64 {
    std::env::var("SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(1500)
}

#[test]
fn atomic_and_ordered_commands_from_two_cores_have_an_order() {
    let (mut swapped, mut missed, mut overlapping) = (0, 0, 0);
    for seed in 1..=seeds() {
        for asks in [atomic, mixed] {
            let mut cores = Cores::new(seed, asks);
            cores.clients.iter_mut().for_each(|client| client.depth = 2);
            cores.run();
            check(&cores, seed);
            for Call { ask, got, begin, .. } in &cores.calls {
                let swap = matches!(ask, Ask::Swap(..));
                swapped += usize::from(swap && *got == Some(Got::Good));
                missed += usize::from(swap && *got == Some(Got::Check));
                overlapping +=
                    usize::from(cores.calls.iter().any(|other| other.begin < *begin && *begin < other.end));
            }
        }
    }
    assert!(swapped > 500 && missed > 500 && overlapping > 5000, "{swapped}, {missed}, {overlapping}");
}

/// The check sees it when atomic commands are not alone, and when order is not kept.
#[test]
fn without_a_common_gate_or_without_attributes_there_is_no_order() {
    let found = |asks: fn(&mut Dice, usize) -> Vec<Ask>, common, disorderly| {
        (1..=300).any(|seed| {
            let mut cores = Cores::with_gate(seed, asks, common, &[]);
            cores.disorderly = disorderly;
            cores.clients.iter_mut().for_each(|client| client.depth = 2);
            cores.run();
            !has_an_order(&cores)
        })
    };
    assert!(
        found(atomic, false, false),
        "READ sees half of WRITE ATOMIC, or COMPARE AND WRITE of old data succeeds"
    );
    assert!(found(mixed, true, true), "ORDERED commands overtake others");
}

#[test]
fn reservations_and_writes_from_two_cores_have_an_order() {
    let mut seen = HashSet::new();
    for seed in 1..=seeds() {
        let mut cores = Cores::new(seed, anything);
        cores.run();
        check(&cores, seed);
        seen.extend(cores.calls.iter().map(|call| {
            let ask = std::mem::discriminant(&call.ask);
            (ask, call.got.as_ref().map(std::mem::discriminant))
        }));
    }
    assert!(seen.len() > 14, "only {} kinds of commands and answers: the seeds try too little", seen.len());
}

/// PREEMPT AND ABORT aborts what its victim has under way on the other core, and nothing of that is written after its
/// status.
#[test]
fn a_preempted_write_comes_before_the_status_or_never() {
    let mut aborted = 0;
    for seed in 1..=500 {
        let mut cores = Cores::new(seed, |_, client| match client {
            0 => vec![Ask::Out(5, 1, 1, 2), Ask::Out(1, 1, 1, 0), Ask::Out(0, 0, 0, 1)],
            1 => vec![Ask::Write(0, 7), Ask::Out(0, 0, 0, 2)],
            _ => Vec::new(),
        });
        cores.run_to_the_end_of(0);
        let after = cores.bytes();
        cores.run();
        check(&cores, seed);
        assert!(cores.bytes() == after, "seed {seed}: written after the status");
        aborted += usize::from(cores.calls.iter().any(|call| call.got == Some(Got::Aborted)));
    }
    assert!(aborted > 10, "only {aborted} were caught under way");
}
