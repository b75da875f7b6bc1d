// SPDX-License-Identifier: GPL-2.0-or-later
//! A whole fabric on memory regions, for tests: initiators in the same process name buffers, and an adapter moves the
//! bytes between these and registered memory. A READ goes from where the store has lent it; a WRITE lands in slots of
//! the fabric's own.

mod adapter;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::os::fd::RawFd;
use std::rc::Rc;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, PoisonError};

pub(crate) use adapter::{AdapterEvent, AdapterEvents, LocalKey, RemoteBuffer};
use adapter::{Performed, Posted, RegionAdapter};

use super::fabric::KnownParts;
use super::toy::{LUNS, ToyLuns, ToyTargetOptions, read_luns};
use crate::engine::fabric::{Census, Core, Fabric, FabricShare};
use crate::engine::tasks::{NexusKey, Transports};
use crate::io::Landing;
use crate::memory::{BufferSlots, RegionTable, Seg, SegMut, Sg};
use crate::options::Absent::{Is, Means, Required};
use crate::options::ValueKind::{Flag, Tables, Text};
use crate::options::{Key, Section, Table, key};
use crate::reactor::{CoreContext, Mailbox, Sender, mailboxes};
use crate::scsi::{
    Cdb, Command, Expected, Lun, Nexus, NexusId, PortName, Request, RequestTag, Response, Status, TargetPort,
    TaskAttribute, TaskManagementResponse, Transport, UnitKey,
};
use crate::time::Instant;

/// Its targets in the configuration.
pub(crate) const KEYS: &[Key] =
    &[key(RegionTarget::KEY, Tables(TARGET), Means("none"), "", "Targets that move data by memory region.")];

const TARGET: &Table = &Table {
    doc: "A target that initiators in the same process reach by an adapter. For tests.",
    groups: &[&[
        key("name", Text("a name"), Required, "\"here\"", "What initiators call it."),
        key("luns", Tables(LUNS), Required, "", "Its logical units."),
        key(
            "refuse_absent",
            Flag,
            Is("false"),
            "",
            "The adapter refuses memory whose pages are not there yet.",
        ),
    ]],
};

/// Slots of each core, and bytes of one.
const SLOTS: usize = 64;
pub(crate) const SLOT: u32 = 8192;

/// A target that is there.
#[derive(Clone)]
pub(crate) struct RegionTargetEnds {
    /// How to reach its cores.
    pub(crate) cores: Vec<Sender<RegionMessage>>,
    /// What the adapter of each core does.
    pub(crate) events: Vec<AdapterEvents>,
}

static REACHED: Mutex<BTreeMap<String, RegionTargetEnds>> = Mutex::new(BTreeMap::new());

/// A target as the configuration gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RegionTarget {
    name: String,
    luns: ToyLuns,
    refuses_absent: bool,
}

impl RegionTarget {
    /// The target of that name, once it is there.
    pub(crate) fn find(name: &str) -> Option<RegionTargetEnds> {
        REACHED.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }
}

impl ToyTargetOptions for RegionTarget {
    const KEY: &str = "region_target";

    fn read(s: &Section<'_>, parts: &KnownParts<'_, '_>) -> Option<Self> {
        let (name, luns) = (s.text("name"), read_luns(s, parts));
        let refuses_absent = s.flag("refuse_absent");
        Some(Self { name: name?, luns: luns?, refuses_absent: refuses_absent? })
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn luns(&self) -> &ToyLuns {
        &self.luns
    }

    fn share(&self, cores: usize, units: Vec<(Lun, UnitKey)>) -> Result<Arc<dyn FabricShare>, String> {
        let (senders, inboxes) = mailboxes(cores).map_err(|e| format!("mailbox: {e}"))?;
        let inboxes = inboxes.into_iter().map(|mailbox| Mutex::new(Some(mailbox))).collect();
        let events: Vec<AdapterEvents> = (0..cores).map(|_| AdapterEvents::default()).collect();
        let ends = RegionTargetEnds { cores: senders, events: events.clone() };
        REACHED.lock().unwrap_or_else(PoisonError::into_inner).insert(self.name.clone(), ends);
        Ok(Arc::new(RegionShare { inboxes, events, units, refuses_absent: self.refuses_absent }))
    }
}

struct RegionShare {
    /// By core.
    inboxes: Vec<Mutex<Option<Mailbox<RegionMessage>>>>,
    events: Vec<AdapterEvents>,
    units: Vec<(Lun, UnitKey)>,
    refuses_absent: bool,
}

impl FabricShare for RegionShare {
    fn attach(&self, context: &CoreContext) -> Result<Box<dyn Fabric>, String> {
        let core = context.core();
        let mailbox = self.inboxes[core].lock().unwrap_or_else(PoisonError::into_inner).take();
        let mailbox = mailbox.expect("each core attaches once");
        let slots = BufferSlots::new(SLOTS, SLOT, false).map_err(|e| format!("slots: {e}"))?;
        let adapter = RegionAdapter::new(self.refuses_absent, self.events[core].clone());
        let mut memory = RegionTable::new(adapter.clone());
        context.add_region(slots.region());
        for region in context.regions() {
            if let Err(e) = memory.add(&region) {
                log::warn!("{} bytes are not known to an adapter, and will be copied: {e}", region.len());
            }
        }
        let relative = 0x7800 + u16::try_from(core).expect("few cores");
        Ok(Box::new(RegionFabric {
            mailbox,
            parts: Rc::new(MovingParts { adapter, memory, slots }),
            units: self.units.clone(),
            port: Arc::new(TargetPort {
                relative,
                device: format!("eui.{relative:016x}"),
                name: PortName::Srp(u128::from(relative).to_be_bytes()),
                group: 1,
            }),
            sessions: BTreeMap::new(),
            by_key: HashMap::new(),
            ending: 0,
            touched: false,
            stopping: false,
        }))
    }
}

/// What an initiator says: serve this, for the one of that number. It is logged in with its first command.
pub(crate) struct RegionMessage(pub(crate) u32, pub(crate) RegionCommand);

/// A command.
pub(crate) struct RegionCommand {
    pub(crate) lun: Lun,
    pub(crate) cdb: Vec<u8>,
    /// The bytes to be written.
    pub(crate) data_out: RemoteBuffer,
    /// Where bytes that are read go.
    pub(crate) data_in: RemoteBuffer,
    /// The target is to have what it reads in slots of its own first.
    pub(crate) lands: bool,
    /// Status, and how many bytes were read.
    pub(crate) to: SyncSender<(Status, usize)>,
}

/// What an adapter tells of: something for a command of an initiator.
struct Token {
    initiator: u32,
    tag: RequestTag,
    what: Milestone,
}

enum Milestone {
    /// One of the pieces of Data-Out.
    Fetched,
    Taken,
    /// Everything has gone before the status.
    Ended(Status),
}

struct MovingParts {
    adapter: RegionAdapter<Token>,
    memory: RegionTable<RegionAdapter<Token>>,
    slots: BufferSlots,
}

impl MovingParts {
    fn slot(&self, len: usize) -> SegMut {
        self.slots.take(len).expect("a slot")
    }

    /// Sends bytes from where they lie; what the adapter cannot reach is copied to where it can.
    fn put(&self, data: &Sg, to: &RemoteBuffer, mut at: usize) {
        for seg in data.segs() {
            let known = |seg: &Seg| {
                let (region, offset) = seg.in_region()?;
                Some((*self.memory.handle(region)?, offset))
            };
            let mut rest = seg.clone();
            while !rest.is_empty() {
                let (held, (key, offset)) = match known(&rest) {
                    Some(place) => (rest.split_to(rest.len()), place),
                    None => {
                        let mut slot = self.slot(rest.len().min(SLOT as usize));
                        rest.copy_to(0, slot.bytes_mut());
                        rest.skip(slot.len());
                        let slot = slot.freeze();
                        let place = known(&slot).expect("slots are registered");
                        (slot, place)
                    }
                };
                let len = held.len();
                self.adapter.post(Posted::Put { key, offset, held, to: to.clone(), at });
                at += len;
            }
        }
    }
}

struct RegionExchange {
    command: RegionCommand,
    fetched: usize,
    /// What is fetched, and how much of it is still to come.
    data_out: Sg,
    wanted: usize,
    sent: usize,
}

/// The nexus of an initiator.
struct RegionSession {
    initiator: u32,
    key: NexusKey,
    id: NexusId,
    parts: Rc<MovingParts>,
    requests: VecDeque<Request>,
    exchanges: BTreeMap<RequestTag, RegionExchange>,
    next_tag: u32,
    leaving: bool,
}

impl RegionSession {
    fn begin(&mut self, command: RegionCommand) {
        let len = |buffer: &RemoteBuffer| {
            let buffer = buffer.lock().unwrap_or_else(PoisonError::into_inner);
            u32::try_from(buffer.len()).expect("a short buffer")
        };
        let expected = Expected { data_in: len(&command.data_in), data_out: len(&command.data_out) };
        let (lun, cdb) = (command.lun, Cdb::new(&command.cdb).expect("a CDB"));
        let request_tag = RequestTag(self.next_tag);
        self.next_tag += 1;
        let moved = RegionExchange { command, fetched: 0, data_out: Sg::new(), wanted: 0, sent: 0 };
        self.exchanges.insert(request_tag, moved);
        let command = Command { nexus: self.id, lun, cdb, attribute: TaskAttribute::Simple, expected };
        self.requests.push_back(Request::Command { request_tag, command });
    }

    fn send(&mut self, tag: RequestTag, data: &Sg, then: Milestone) {
        let moved = self.exchanges.get_mut(&tag).expect("under way");
        self.parts.put(data, &moved.command.data_in, moved.sent);
        moved.sent += data.len();
        self.parts.adapter.post(Posted::Mark(Token { initiator: self.initiator, tag, what: then }));
    }

    fn performed(&mut self, tag: RequestTag, what: Milestone, seg: Option<Seg>) {
        // It may be gone meanwhile.
        let Some(moved) = self.exchanges.get_mut(&tag) else { return };
        match what {
            Milestone::Fetched => {
                moved.data_out.push(seg.expect("bytes have come"));
                if moved.data_out.len() == moved.wanted {
                    let data = std::mem::take(&mut moved.data_out);
                    self.requests.push_back(Request::DataOut { request_tag: tag, data });
                }
            }
            Milestone::Taken => self.requests.push_back(Request::DataInTaken { request_tag: tag }),
            Milestone::Ended(status) => {
                let RegionExchange { command, sent, .. } = self.exchanges.remove(&tag).expect("seen above");
                _ = command.to.try_send((status, sent));
            }
        }
    }
}

impl Transport for RegionSession {
    fn poll_request(&mut self) -> Option<Request> {
        self.requests.pop_front()
    }

    fn receive_data_out(&mut self, tag: RequestTag, len: u32) {
        let moved = self.exchanges.get_mut(&tag).expect("under way");
        moved.wanted = len as usize;
        let end = moved.fetched + len as usize;
        while moved.fetched < end {
            let into = self.parts.slot((end - moved.fetched).min(SLOT as usize));
            let (region, offset) = into.in_region().expect("slots are a region");
            let key = *self.parts.memory.handle(region).expect("it is registered");
            let (from, at) = (moved.command.data_out.clone(), moved.fetched);
            moved.fetched += into.len();
            let token = Token { initiator: self.initiator, tag, what: Milestone::Fetched };
            self.parts.adapter.post(Posted::Get { key, offset, into, from, at, token });
        }
    }

    fn send_data_in(&mut self, tag: RequestTag, data: Sg) {
        self.send(tag, &data, Milestone::Taken);
    }

    fn send_command_complete(&mut self, tag: RequestTag, response: Response) {
        self.send(tag, &response.data, Milestone::Ended(response.status));
    }

    fn task_management_executed(&mut self, _: RequestTag, _: TaskManagementResponse) {
        unreachable!("nobody asks for that");
    }

    fn terminate(&mut self, tag: RequestTag, _: Option<Status>) {
        self.exchanges.remove(&tag);
    }

    fn landing(&mut self, tag: RequestTag, len: u32) -> Landing {
        match self.exchanges[&tag].command.lands && len <= SLOT {
            true => Landing::Given(self.parts.slot(len as usize)),
            false => Landing::Own,
        }
    }
}

/// See the module.
struct RegionFabric {
    mailbox: Mailbox<RegionMessage>,
    parts: Rc<MovingParts>,
    units: Vec<(Lun, UnitKey)>,
    port: Arc<TargetPort>,
    sessions: BTreeMap<u32, RegionSession>,
    by_key: HashMap<NexusKey, u32>,
    /// Nexuses whose tasks have yet to end.
    ending: usize,
    /// It has something to do.
    touched: bool,
    stopping: bool,
}

impl Drop for RegionFabric {
    /// The adapter stops before its memory is taken from it.
    fn drop(&mut self) {
        self.parts.adapter.stop();
        self.sessions.clear();
        Rc::get_mut(&mut self.parts).expect("sessions are gone").memory.give_up();
    }
}

impl RegionFabric {
    fn log_in(&mut self, core: &mut Core, initiator: u32) {
        let id = core.new_nexus_id();
        let name = PortName::Srp(u128::from(initiator).to_be_bytes());
        let key = core.add_nexus(id, Nexus { initiator: name, port: self.port.clone() }, &self.units);
        let session = RegionSession {
            initiator,
            key,
            id,
            parts: self.parts.clone(),
            requests: VecDeque::new(),
            exchanges: BTreeMap::new(),
            next_tag: 0,
            leaving: false,
        };
        self.sessions.insert(initiator, session);
        self.by_key.insert(key, initiator);
    }
}

impl Transports for RegionFabric {
    fn transport(&mut self, nexus: NexusKey) -> Option<&mut dyn Transport> {
        let session = self.sessions.get_mut(self.by_key.get(&nexus)?)?;
        Some(session)
    }
}

impl Fabric for RegionFabric {
    fn poll(&mut self, core: &mut Core) -> usize {
        let performed = self.parts.adapter.work();
        let mut work = performed.len();
        for performed in performed {
            let (Token { initiator, tag, what }, seg) = match performed {
                Performed::Mark(token) => (token, None),
                Performed::Got(token, seg) => (token, Some(seg)),
            };
            if let Some(session) = self.sessions.get_mut(&initiator) {
                session.performed(tag, what, seg);
            }
        }
        while let Some(RegionMessage(initiator, command)) = self.mailbox.take() {
            work += 1;
            // Whoever sends one to a daemon that stops has no answer.
            if self.stopping {
                continue;
            }
            if !self.sessions.contains_key(&initiator) {
                self.log_in(core, initiator);
            }
            self.sessions.get_mut(&initiator).expect("logged in").begin(command);
        }
        self.touched |= work > 0;
        work
    }

    fn serve(&mut self, core: &mut Core, woken: &[NexusKey]) -> usize {
        self.touched |= woken.iter().any(|key| self.by_key.contains_key(key));
        if !std::mem::take(&mut self.touched) {
            return 0;
        }
        let work = self.sessions.values_mut().map(|session| core.serve(session.key, session)).sum();
        let (by_key, ending) = (&mut self.by_key, &mut self.ending);
        self.sessions.retain(|&initiator, session| {
            if session.leaving {
                by_key.remove(&session.key);
                core.remove_nexus(session.key, initiator);
                *ending += 1;
            }
            !session.leaving
        });
        work
    }

    fn nexus_ended(&mut self, _: u32) {
        self.ending -= 1;
    }

    fn cold_reset(&mut self, _: NexusKey) {}

    fn next_deadline(&self, now: Instant) -> Option<Instant> {
        (self.touched || self.parts.adapter.is_busy()).then_some(now)
    }

    fn wake_fds(&self, fds: &mut Vec<RawFd>) {
        fds.push(self.mailbox.wake_fd());
    }

    fn may_sleep(&mut self) -> bool {
        self.mailbox.announce_sleep()
    }

    fn awake(&mut self) {
        self.mailbox.awake();
    }

    fn drain(&mut self) {
        self.stopping = true;
        self.touched = true;
        self.sessions.values_mut().for_each(|session| session.leaving = true);
    }

    fn drop_all(&mut self, _: bool) {}

    fn census(&self) -> Census {
        Census { sessions: self.sessions.len(), logins: self.ending }
    }
}
