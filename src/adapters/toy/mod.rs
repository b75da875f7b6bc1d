// SPDX-License-Identifier: GPL-2.0-or-later
//! Whole fabrics for tests: one on memory, whose initiators are in the same process, and one on raw Ethernet frames.
//! Each core is a target port of its own.

pub(crate) mod frames;
pub(crate) mod memory;

use std::any::Any;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::os::fd::RawFd;
use std::sync::Arc;

use slab::Slab;

use crate::adapters::fabric::{FabricExports, FabricOptions, FabricTables, KnownKeys, KnownParts};
use crate::counters::Counted;
use crate::engine::fabric::{Census, Core, Fabric, FabricShare};
use crate::engine::tasks::{NexusKey, Transports};
use crate::memory::{Arena, Sg};
use crate::options::Absent::Required;
use crate::options::ValueKind::{Number, Text};
use crate::options::{ConfigChanges, Named, Section, Table, key};
use crate::reactor::CoreContext;
use crate::scsi::{
    Cdb, Command, Expected, Lun, Nexus, NexusId, PortName, Request, RequestTag, Response, Status, TargetPort,
    TaskAttribute, TaskManagementResponse, Transport, UnitKey,
};
use crate::time::Instant;

pub(super) const LUNS: &Table = &Table {
    doc: "A logical unit.",
    groups: &[&[
        key("lun", Number(0, 255), Required, "0", "Its number."),
        key("unit", Text("the name of a [[disk]]"), Required, "\"thin0\"", "What it is."),
    ]],
};

/// Logical units by the names that the configuration gives them.
pub(super) type ToyLuns = Vec<(u16, String)>;

pub(super) fn read_luns(s: &Section<'_>, parts: &KnownParts<'_, '_>) -> Option<ToyLuns> {
    let luns = s.sections("luns").into_iter().map(|entry| {
        let lun = (entry.number("lun"), parts.unit(&entry));
        entry.finish();
        lun.0.zip(lun.1)
    });
    luns.collect()
}

/// A target as the configuration gives it.
pub(crate) trait ToyTargetOptions: Any + Clone + std::fmt::Debug + PartialEq + Send + Sync {
    /// The key that lists such targets.
    const KEY: &str;

    fn read(s: &Section<'_>, parts: &KnownParts<'_, '_>) -> Option<Self>;

    fn name(&self) -> &str;

    fn luns(&self) -> &ToyLuns;

    /// The port whose frames it takes.
    fn frame_port(&self) -> Option<&str> {
        None
    }

    /// `units` are its logical units.
    fn share(&self, cores: usize, units: Vec<(Lun, UnitKey)>) -> Result<Arc<dyn FabricShare>, String>;
}

/// The targets as the configuration gives them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ToyFabricOptions<T>(Vec<T>);

impl<T: ToyTargetOptions> ToyFabricOptions<T> {
    pub(crate) fn read<'a>(root: &Section<'a>, parts: &KnownParts<'_, 'a>) -> FabricTables {
        let read = |s: Section<'_>| {
            let target = T::read(&s, parts);
            s.finish();
            target
        };
        let targets = Named::read(root, T::KEY, read);
        FabricTables {
            options: targets.good().map(|targets| Arc::new(Self(targets)) as _),
            groups: Vec::new(),
        }
    }
}

impl<T: ToyTargetOptions> FabricOptions for ToyFabricOptions<T> {
    fn targets(&self) -> Vec<(&str, Vec<&str>)> {
        let named = self.0.iter().map(|target| {
            let units = target.luns().iter().map(|(_, unit)| &**unit);
            (target.name(), units.collect())
        });
        named.collect()
    }

    fn frame_ports(&self) -> Vec<&str> {
        self.0.iter().filter_map(ToyTargetOptions::frame_port).collect()
    }

    fn changes(&self, old: &dyn FabricOptions) -> Option<Vec<(&'static str, ConfigChanges)>> {
        ((old as &dyn Any).downcast_ref() == Some(self)).then(Vec::new)
    }

    fn exports(&self, known: &KnownKeys<'_>) -> Result<Arc<dyn FabricExports>, String> {
        let exported = |target: &T| {
            let units = target.luns().iter().map(|(lun, name)| (Lun::from_index(*lun), (known.unit)(name)));
            (target.clone(), units.collect())
        };
        Ok(Arc::new(ToyExports(self.0.iter().map(exported).collect())))
    }
}

/// The targets with their logical units.
struct ToyExports<T>(Vec<(T, Vec<(Lun, UnitKey)>)>);

impl<T: ToyTargetOptions> FabricExports for ToyExports<T> {
    fn share(self: Arc<Self>, cores: usize) -> Result<Vec<Arc<dyn FabricShare>>, String> {
        self.0.iter().map(|(target, units)| target.share(cores, units.clone())).collect()
    }
}

/// How commands come in and answers go out.
trait ToyWire {
    /// Where an answer goes.
    type Back;

    /// The relative target port identifier of the first core.
    const RELATIVE: u16;

    /// Takes what initiators say. Returns how much was done.
    fn poll(&mut self, messages: &mut Vec<ToyMessage<Self::Back>>) -> usize;

    /// Somebody may not be there any more.
    fn answer(&mut self, to: Self::Back, answer: ToyAnswer);

    fn commit(&mut self, _now: Instant) {}

    fn next_deadline(&self, _now: Instant) -> Option<Instant> {
        None
    }

    fn wake_fds(&self, fds: &mut Vec<RawFd>);

    fn may_sleep(&mut self) -> bool;

    fn awake(&mut self);

    fn count(&self, _ports: &mut BTreeMap<String, Vec<Counted>>) {}
}

/// What an initiator says.
pub(crate) enum ToyMessage<B> {
    /// Serve this, for the initiator of that number. It is logged in with its first command.
    Command(u32, ToyCommand<B>),
    /// The initiator leaves.
    Leave(u32),
}

/// A command.
pub(crate) struct ToyCommand<B> {
    pub(crate) lun: Lun,
    pub(crate) cdb: Vec<u8>,
    /// Its Data-Out buffer.
    pub(crate) data_out: Vec<u8>,
    /// How long its Data-In buffer is.
    pub(crate) room: u32,
    /// Where the answer goes.
    pub(crate) to: B,
}

/// What comes back: a status, and the bytes read.
pub(crate) type ToyAnswer = (Status, Vec<u8>);

struct ToyTask<B> {
    command: ToyCommand<B>,
    fetched: usize,
    data_in: Vec<u8>,
}

/// The nexus of an initiator.
struct ToySession<B> {
    key: NexusKey,
    id: NexusId,
    arena: Arena,
    requests: VecDeque<Request>,
    exchanges: Slab<ToyTask<B>>,
    /// Answers that have yet to go out.
    answers: Vec<(B, ToyAnswer)>,
    leaving: bool,
}

impl<B> ToySession<B> {
    fn begin(&mut self, command: ToyCommand<B>) {
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
            self.answers.push((command.to, (status, data_in)));
        }
    }
}

impl<B> Transport for ToySession<B> {
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
struct ToyFabric<W: ToyWire> {
    context: CoreContext,
    wire: W,
    units: Vec<(Lun, UnitKey)>,
    port: Arc<TargetPort>,
    sessions: BTreeMap<u32, ToySession<W::Back>>,
    by_key: HashMap<NexusKey, u32>,
    /// Nexuses whose tasks have yet to end.
    ending: usize,
    /// It has something to do.
    touched: bool,
    stopping: bool,
}

impl<W: ToyWire> ToyFabric<W> {
    /// It shows these units to everybody.
    fn new(context: &CoreContext, wire: W, units: Vec<(Lun, UnitKey)>) -> Self {
        let relative = W::RELATIVE + u16::try_from(context.core()).expect("few cores");
        Self {
            context: context.clone(),
            wire,
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

    fn send_answers(&mut self) {
        for session in self.sessions.values_mut() {
            session.answers.drain(..).for_each(|(to, answer)| self.wire.answer(to, answer));
        }
    }

    fn log_in(&mut self, core: &mut Core, initiator: u32) {
        let id = core.new_nexus_id();
        let name = PortName::Srp(u128::from(initiator).to_be_bytes());
        let key = core.add_nexus(id, Nexus { initiator: name, port: self.port.clone() }, &self.units);
        let session = ToySession {
            key,
            id,
            arena: self.context.arena().clone(),
            requests: VecDeque::new(),
            exchanges: Slab::new(),
            answers: Vec::new(),
            leaving: false,
        };
        self.sessions.insert(initiator, session);
        self.by_key.insert(key, initiator);
    }
}

impl<W: ToyWire> Transports for ToyFabric<W> {
    fn transport(&mut self, nexus: NexusKey) -> Option<&mut dyn Transport> {
        let session = self.sessions.get_mut(self.by_key.get(&nexus)?)?;
        Some(session)
    }
}

impl<W: ToyWire> Fabric for ToyFabric<W> {
    fn poll(&mut self, core: &mut Core) -> usize {
        let mut messages = Vec::new();
        let work = self.wire.poll(&mut messages);
        for message in messages {
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
        self.send_answers();
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

    fn commit(&mut self, now: Instant) {
        self.send_answers();
        self.wire.commit(now);
    }

    fn next_deadline(&self, now: Instant) -> Option<Instant> {
        self.touched.then_some(now).or_else(|| self.wire.next_deadline(now))
    }

    fn wake_fds(&self, fds: &mut Vec<RawFd>) {
        self.wire.wake_fds(fds);
    }

    fn may_sleep(&mut self) -> bool {
        self.wire.may_sleep()
    }

    fn awake(&mut self) {
        self.wire.awake();
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

    fn count(&self, ports: &mut BTreeMap<String, Vec<Counted>>) {
        self.wire.count(ports);
    }
}
