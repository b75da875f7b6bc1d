// SPDX-License-Identifier: GPL-2.0-or-later
//! A whole fabric on memory, for tests: initiators in the same process put commands into the mailbox of a core, and
//! have their answers over a channel. Each core is a target port of its own.

use std::any::Any;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::os::fd::RawFd;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, PoisonError};

use slab::Slab;

use super::fabric::{FabricOptions, FabricTables, KnownParts};
use crate::counters::Counted;
use crate::engine::audit::{MemoryAudit, MemoryHolder};
use crate::engine::fabric::{Census, Core, Fabric, FabricShare};
use crate::engine::tasks::{NexusKey, Transports};
use crate::memory::{Arena, Sg};
use crate::options::Absent::{Means, Required};
use crate::options::ValueKind::{Number, Tables, Text};
use crate::options::{ConfigChanges, Key, Named, Section, Table, key};
use crate::reactor::{CoreContext, Mailbox, Sender, mailboxes};
use crate::scsi::{
    Cdb, Command, Expected, Lun, Nexus, NexusId, PortName, Request, RequestTag, Response, Status, TargetPort,
    TaskAttribute, TaskManagementResponse, Transport, UnitKey,
};
use crate::time::Instant;

/// Its targets in the configuration.
pub(crate) const KEYS: &[Key] = &[key("toy_target", Tables(TARGET), Means("none"), "", "Targets in memory.")];

const TARGET: &Table = &Table {
    doc: "A target that initiators in the same process reach. For tests.",
    groups: &[&[
        key("name", Text("a name"), Required, "\"here\"", "What initiators call it."),
        key("luns", Tables(LUNS), Required, "", "Its logical units."),
    ]],
};

const LUNS: &Table = &Table {
    doc: "A logical unit.",
    groups: &[&[
        key("lun", Number(0, 255), Required, "0", "Its number."),
        key("unit", Text("the name of a [[disk]]"), Required, "\"thin0\"", "What it is."),
    ]],
};

/// How to reach the cores of the targets that there are, by name.
static REACHED: Mutex<BTreeMap<String, Vec<Sender<ToyMessage>>>> = Mutex::new(BTreeMap::new());

/// The targets as the configuration gives them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ToyFabricOptions(Vec<ToyTarget>);

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ToyTarget {
    name: String,
    luns: Vec<(u16, String)>,
}

impl ToyFabricOptions {
    pub(crate) fn read<'a>(root: &Section<'a>, parts: &KnownParts<'_, 'a>) -> FabricTables {
        let targets = Named::read(root, "toy_target", |s| ToyTarget::read(s, parts));
        FabricTables {
            options: targets.good().map(|targets| Arc::new(Self(targets)) as _),
            groups: Vec::new(),
        }
    }
}

impl ToyTarget {
    fn read(s: Section<'_>, parts: &KnownParts<'_, '_>) -> Option<Self> {
        let name = s.text("name");
        let luns = s.sections("luns").into_iter().map(|entry| {
            let lun = (entry.number("lun"), parts.unit(&entry));
            entry.finish();
            lun.0.zip(lun.1)
        });
        let luns = luns.collect::<Option<_>>();
        s.finish();
        Some(Self { name: name?, luns: luns? })
    }

    /// How to reach the cores of the target of that name, once it is there.
    pub(crate) fn find(name: &str) -> Option<Vec<Sender<ToyMessage>>> {
        REACHED.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    fn share(&self, cores: usize, unit: &dyn Fn(&str) -> UnitKey) -> Result<Arc<dyn FabricShare>, String> {
        let (senders, inboxes) = mailboxes(cores).map_err(|e| format!("mailbox: {e}"))?;
        let inboxes = inboxes.into_iter().map(|mailbox| Mutex::new(Some(mailbox))).collect();
        REACHED.lock().unwrap_or_else(PoisonError::into_inner).insert(self.name.clone(), senders);
        let units = self.luns.iter().map(|(lun, name)| (Lun::from_index(*lun), unit(name))).collect();
        Ok(Arc::new(ToyShare { inboxes, units }))
    }
}

impl FabricOptions for ToyFabricOptions {
    fn targets(&self) -> Vec<(&str, Vec<&str>)> {
        let named = self.0.iter().map(|target| {
            let units = target.luns.iter().map(|(_, unit)| &**unit);
            (&*target.name, units.collect())
        });
        named.collect()
    }

    fn changes(&self, old: &dyn FabricOptions) -> Option<Vec<(&'static str, ConfigChanges)>> {
        ((old as &dyn Any).downcast_ref() == Some(self)).then(Vec::new)
    }

    fn without(&self, _: &[String]) -> Arc<dyn FabricOptions> {
        Arc::new(self.clone())
    }

    fn share(
        &self,
        cores: usize,
        unit: &dyn Fn(&str) -> UnitKey,
    ) -> Result<Vec<Arc<dyn FabricShare>>, String> {
        self.0.iter().map(|target| target.share(cores, unit)).collect()
    }
}

struct ToyShare {
    /// By core.
    inboxes: Vec<Mutex<Option<Mailbox<ToyMessage>>>>,
    units: Vec<(Lun, UnitKey)>,
}

impl FabricShare for ToyShare {
    fn attach(&self, context: &CoreContext) -> Result<Box<dyn Fabric>, String> {
        let mailbox = self.inboxes[context.core()].lock().unwrap_or_else(PoisonError::into_inner).take();
        let mailbox = mailbox.expect("each core attaches once");
        Ok(Box::new(ToyFabric::new(context, mailbox, self.units.clone())))
    }
}

/// What an initiator says.
pub(crate) enum ToyMessage {
    /// Serve this, for the initiator of that number. It is logged in with its first command.
    Command(u32, ToyCommand),
    /// The initiator leaves.
    Leave(u32),
}

/// A command.
pub(crate) struct ToyCommand {
    pub(crate) lun: Lun,
    pub(crate) cdb: Vec<u8>,
    /// Its Data-Out buffer.
    pub(crate) data_out: Vec<u8>,
    /// How long its Data-In buffer is.
    pub(crate) room: u32,
    pub(crate) to: SyncSender<ToyAnswer>,
}

/// What comes back: a status, and the bytes read.
pub(crate) type ToyAnswer = (Status, Vec<u8>);

struct ToyTask {
    command: ToyCommand,
    fetched: usize,
    data_in: Vec<u8>,
}

/// The nexus of an initiator.
struct ToySession {
    key: NexusKey,
    id: NexusId,
    arena: Arena,
    requests: VecDeque<Request>,
    exchanges: Slab<ToyTask>,
    leaving: bool,
}

impl ToySession {
    fn begin(&mut self, command: ToyCommand) {
        let expected = Expected {
            data_in: command.room,
            data_out: u32::try_from(command.data_out.len()).expect("a short buffer"),
        };
        let (lun, cdb) = (command.lun, Cdb::new(&command.cdb).expect("a CDB"));
        let tag = self.exchanges.insert(ToyTask { command, fetched: 0, data_in: Vec::new() });
        let (request_tag, attribute) = (RequestTag(u32::try_from(tag).expect("few")), TaskAttribute::Simple);
        let command = Command { nexus: self.id, lun, cdb, attribute, expected };
        self.requests.push_back(Request::Command { request_tag, command });
    }

    fn end(&mut self, RequestTag(tag): RequestTag, status: Option<Status>) {
        let ToyTask { command, data_in, .. } = self.exchanges.remove(tag as usize);
        if let Some(status) = status {
            // Nobody may be there any more.
            _ = command.to.try_send((status, data_in));
        }
    }
}

impl Transport for ToySession {
    fn poll_request(&mut self) -> Option<Request> {
        self.requests.pop_front()
    }

    fn receive_data_out(&mut self, request_tag: RequestTag, len: u32) {
        let ToyTask { command, fetched, .. } = &mut self.exchanges[request_tag.0 as usize];
        let bytes = &command.data_out[*fetched..][..len as usize];
        *fetched += bytes.len();
        let data = Sg::copied(&self.arena, bytes).expect("memory");
        self.requests.push_back(Request::DataOut { request_tag, data });
    }

    fn send_data_in(&mut self, request_tag: RequestTag, data: Sg) {
        self.exchanges[request_tag.0 as usize].data_in.extend(data.to_vec());
        self.requests.push_back(Request::DataInTaken { request_tag });
    }

    fn send_command_complete(&mut self, request_tag: RequestTag, response: Response) {
        self.exchanges[request_tag.0 as usize].data_in.extend(response.data.to_vec());
        self.end(request_tag, Some(response.status));
    }

    fn task_management_executed(&mut self, _: RequestTag, _: TaskManagementResponse) {
        unreachable!("nobody asks for that");
    }

    fn terminate(&mut self, request_tag: RequestTag, status: Option<Status>) {
        self.end(request_tag, status);
    }
}

/// See the module.
struct ToyFabric {
    context: CoreContext,
    mailbox: Mailbox<ToyMessage>,
    units: Vec<(Lun, UnitKey)>,
    port: Arc<TargetPort>,
    sessions: BTreeMap<u32, ToySession>,
    by_key: HashMap<NexusKey, u32>,
    /// Nexuses whose tasks have yet to end.
    ending: usize,
    /// It has something to do.
    touched: bool,
    stopping: bool,
}

impl ToyFabric {
    /// It shows these units to everybody.
    fn new(context: &CoreContext, mailbox: Mailbox<ToyMessage>, units: Vec<(Lun, UnitKey)>) -> Self {
        let relative = 0x7000 + u16::try_from(context.core()).expect("few cores");
        Self {
            context: context.clone(),
            mailbox,
            units,
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
        }
    }

    fn log_in(&mut self, core: &mut Core, initiator: u32) {
        let id = core.new_nexus_id();
        let name = PortName::Srp(u128::from(initiator).to_be_bytes());
        let key = core.add_nexus(id, Nexus { initiator: name, port: self.port.clone() }, &self.units);
        let (arena, requests, exchanges) = (self.context.arena().clone(), VecDeque::new(), Slab::new());
        self.sessions.insert(initiator, ToySession { key, id, arena, requests, exchanges, leaving: false });
        self.by_key.insert(key, initiator);
    }
}

impl Transports for ToyFabric {
    fn transport(&mut self, nexus: NexusKey) -> Option<&mut dyn Transport> {
        let session = self.sessions.get_mut(self.by_key.get(&nexus)?)?;
        Some(session)
    }
}

impl Fabric for ToyFabric {
    fn poll(&mut self, core: &mut Core) -> usize {
        let mut work = 0;
        while let Some(message) = self.mailbox.take() {
            work += 1;
            match message {
                // Whoever sends one to a daemon that stops has no answer.
                ToyMessage::Command(..) if self.stopping => {}
                ToyMessage::Command(initiator, command) => {
                    if !self.sessions.contains_key(&initiator) {
                        self.log_in(core, initiator);
                    }
                    self.sessions.get_mut(&initiator).expect("logged in").begin(command);
                }
                ToyMessage::Leave(initiator) => {
                    if let Some(session) = self.sessions.get_mut(&initiator) {
                        session.leaving = true;
                    }
                }
            }
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

    fn commit(&mut self, _: Instant) {}

    fn next_deadline(&self, now: Instant) -> Option<Instant> {
        self.touched.then_some(now)
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

    fn count(&self, _: &mut BTreeMap<String, Vec<Counted>>) {}

    fn audit(&mut self, _: &Core, _: &MemoryAudit, _: &mut dyn FnMut(u64, MemoryHolder)) {}

    fn cut(&mut self, _: MemoryHolder, _: &'static str) {}

    fn describe(&self, _: MemoryHolder) -> String {
        String::new()
    }
}
