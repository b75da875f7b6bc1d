// SPDX-License-Identifier: GPL-2.0-or-later
//! The links of a core to all others, where the daemon has logical units that one core owns: rings by which the nexuses
//! of one core reach the units of another.
//!
//! The owner mirrors each nexus that sees a unit of its (`mirror`). What goes to and fro is a [`NexusMessage`];
//! payload stays where it is until the other core has copied it, and then goes back to be dropped. Every message is
//! part of something that its sender lets be under way, a command or a function of a nexus, and those are bounded by
//! the nexus's window. So what finds no room in a ring waits behind it, and no call fails.
//!
//! A core without memory for a copy puts that off and goes on with everything else, since other messages may be what
//! gives it memory.

mod message;
mod mirror;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::rc::Rc;

use slab::Slab;

use self::message::{AwayPayload, LinkMessage, OutgoingRing, account, charge, payload};
use self::mirror::Mirror;
use super::tasks::{NexusKey, NexusMessage, TaskManager, TransportCall, Transports};
use crate::counters::counter_set;
use crate::memory::{Arena, MemoryAccount, Sg};
use crate::reactor::{CoreContext, RingReceiver, RingSender, ring};
use crate::scsi::{Request, RequestTag, Transport};
use crate::time::Instant;

/// Messages that a ring has room for.
const RING_ROOM: usize = 256;

/// One end of a link, before its core has started.
pub struct LinkEnd {
    core: usize,
    sender: RingSender<LinkMessage>,
    receiver: RingReceiver<LinkMessage>,
}

/// Links all cores with each other. Returns the ends of each.
pub fn connect(cores: usize) -> Vec<Vec<LinkEnd>> {
    let mut ends: Vec<Vec<LinkEnd>> = (0..cores).map(|_| Vec::new()).collect();
    for second in 1..cores {
        for first in 0..second {
            let ((there, here), (back, home)) = (ring(RING_ROOM), ring(RING_ROOM));
            ends[first].push(LinkEnd { core: second, sender: there, receiver: home });
            ends[second].push(LinkEnd { core: first, sender: back, receiver: here });
        }
    }
    ends
}

counter_set! {
    /// What has gone from core to core.
    pub struct PeerCounters {
        /// Commands of this core's sessions for logical units that another core owns.
        commands_sent: Counter of Commands,
        /// Commands of other cores' sessions for logical units that this core owns.
        commands_received: Counter of Commands,
        /// Payload that was copied from the memory of another core.
        copied_bytes: Counter of Bytes,
    }
}

struct CoreLink {
    core: usize,
    outgoing: OutgoingRing,
    incoming: RingReceiver<LinkMessage>,
    /// Mirror by the key that the nexus has there.
    mirrors: Vec<Option<usize>>,
    closed: bool,
}

impl CoreLink {
    fn send(&self, message: LinkMessage) {
        self.outgoing.borrow_mut().send(message);
    }

    fn send_home(&self, payload: AwayPayload) {
        if payload.is_some() {
            self.send(LinkMessage::Home(payload));
        }
    }

    fn mirror(&self, nexus: NexusKey) -> Option<usize> {
        self.mirrors.get(nexus.0).copied().flatten()
    }
}

/// What an owner has for a transport of this core, and there is no memory for its data.
struct PutOff {
    link: usize,
    nexus: NexusKey,
    call: TransportCall<AwayPayload>,
}

/// See the module.
pub struct PeerLinks {
    arena: Arena,
    links: Vec<CoreLink>,
    mirrors: Slab<Mirror>,
    /// Mirror by the key of its nexus here.
    by_key: Vec<Option<usize>>,
    /// What is held for the nexuses of this core while it is away, by their keys.
    accounts: Vec<Option<MemoryAccount>>,
    /// In their order.
    put_off: Vec<PutOff>,
    /// Mirrors wait for memory, too.
    is_short: bool,
    counters: PeerCounters,
    /// All others have been told that no nexus of this core will join any more.
    closing: bool,
}

impl PeerLinks {
    /// The links of a core that has these ends: none where every core serves all units for itself.
    pub fn new(context: &CoreContext, ends: Vec<LinkEnd>) -> Self {
        let mut this = Self {
            arena: context.arena().clone(),
            links: Vec::new(),
            mirrors: Slab::new(),
            by_key: Vec::new(),
            accounts: Vec::new(),
            put_off: Vec::new(),
            is_short: false,
            counters: PeerCounters::default(),
            closing: false,
        };
        this.add(ends);
        this
    }

    /// Takes the ends of links to other cores, of which there were none so far.
    pub fn add(&mut self, ends: Vec<LinkEnd>) {
        for LinkEnd { core, sender, receiver } in ends {
            let outgoing = Rc::new(RefCell::new(sender));
            let (mirrors, closed) = Default::default();
            let link = CoreLink { core, outgoing, incoming: receiver, mirrors, closed };
            if self.closing {
                link.send(LinkMessage::Closed);
            }
            self.links.push(link);
        }
    }

    /// What has gone from core to core.
    pub fn counters(&self) -> PeerCounters {
        self.counters
    }

    /// Takes what has come from other cores. `sessions` has the transports of this one's. Returns how much that was.
    pub fn turn(
        &mut self,
        now: Instant,
        tasks: &mut TaskManager,
        sessions: &mut dyn Transports,
        touched: &mut dyn FnMut(NexusKey),
    ) -> usize {
        let mut work = 0;
        for index in 0..self.links.len() {
            for _ in 0..RING_ROOM {
                let Some(message) = self.links[index].incoming.take() else { break };
                work += 1;
                match message {
                    LinkMessage::Home(payload) => drop(payload),
                    LinkMessage::Closed => self.links[index].closed = true,
                    LinkMessage::Nexus(nexus, NexusMessage::Call(call)) => {
                        let called = PutOff { link: index, nexus, call };
                        work += self.called(called, tasks, sessions, touched);
                    }
                    LinkMessage::Nexus(nexus, message) => self.heard(now, index, nexus, message, tasks),
                }
            }
        }
        if self.is_short || !self.put_off.is_empty() {
            work += self.land_again(now, tasks, sessions, touched);
        }
        work
    }

    /// Copies data that has come. `None` if there is no memory.
    fn land(&mut self, payload: &AwayPayload) -> Option<Sg> {
        let Some(away) = payload else { return Some(Sg::new()) };
        let copy = away.copied(&self.arena)?;
        self.counters.copied_bytes += copy.len() as u64;
        Some(copy)
    }

    /// Hands what an owner has to the transport of a session. Returns 1 if that is done.
    fn called(
        &mut self,
        PutOff { link, nexus, call }: PutOff,
        tasks: &mut TaskManager,
        sessions: &mut dyn Transports,
        touched: &mut dyn FnMut(NexusKey),
    ) -> usize {
        if let TransportCall::Terminate(request_tag, _) = call {
            self.forget(|put_off| {
                let of = put_off.call.data_of();
                (put_off.link, put_off.nexus) == (link, nexus) && of == Some(request_tag)
            });
        }
        // What ends something does not overtake what has been put off: the initiator sees the order of its tasks by it.
        // Fetches go on, since they give memory back.
        let moves_data = matches!(call, TransportCall::ReceiveDataOut(..) | TransportCall::SendDataIn(..));
        let behind = self.put_off.iter().any(|other| (other.link, other.nexus) == (link, nexus));
        let copy = match call.data() {
            // Nobody waits for it.
            _ if tasks.is_gone(nexus) => Some(Sg::new()),
            _ if behind && !moves_data => None,
            Some(payload) => self.land(payload),
            None => Some(Sg::new()),
        };
        let Some(copy) = copy else {
            self.put_off.push(PutOff { link, nexus, call });
            return 0;
        };
        let mut back = None;
        let call = call.map_data(|payload| {
            back = payload;
            copy
        });
        self.links[link].send_home(back);
        tasks.called(nexus, call, sessions, touched);
        1
    }

    /// Sends home what was put off and nobody waits for any more.
    fn forget(&mut self, is_over: impl Fn(&PutOff) -> bool) {
        for PutOff { link, call, .. } in self.put_off.extract_if(.., |put_off| is_over(put_off)) {
            call.map_data(|payload| self.links[link].send_home(payload));
        }
    }

    /// Takes what another core says of a nexus.
    fn heard(
        &mut self,
        now: Instant,
        index: usize,
        nexus: NexusKey,
        message: NexusMessage<AwayPayload>,
        tasks: &mut TaskManager,
    ) {
        let link = &mut self.links[index];
        match message {
            NexusMessage::Join { id, name, units } => {
                let account = account(&self.arena, &name);
                let key = tasks.add_mirror(id, name, &units);
                let mirror = Mirror::new(key, nexus, index, link.outgoing.clone(), account);
                let mirror = self.mirrors.insert(mirror);
                *place(&mut link.mirrors, nexus) = Some(mirror);
                *place(&mut self.by_key, key) = Some(mirror);
            }
            NexusMessage::See(units) => {
                if let Some(mirror) = link.mirror(nexus) {
                    tasks.see(now, self.mirrors[mirror].key, &units);
                }
            }
            NexusMessage::Request(request) => {
                let Some(mirror) = link.mirror(nexus) else { return };
                self.request(now, mirror, request, tasks);
            }
            NexusMessage::Leave => {
                let Some(mirror) = link.mirrors.get_mut(nexus.0).and_then(Option::take) else { return };
                let core = link.core;
                let mut mirror = self.mirrors.remove(mirror);
                self.by_key[mirror.key.0] = None;
                mirror.landing.drain(..).for_each(|(_, payload)| self.links[index].send_home(payload));
                tasks.remove_mirror(now, mirror.key, core, nexus);
            }
            NexusMessage::Left => {
                let core = link.core;
                self.forget(|put_off| (put_off.link, put_off.nexus) == (index, nexus));
                tasks.left(core, nexus);
            }
            NexusMessage::Call(_) => unreachable!("they have a way of their own"),
        }
    }

    /// Serves what the transport of a mirrored nexus has.
    fn request(
        &mut self,
        now: Instant,
        mirror: usize,
        request: Request<AwayPayload>,
        tasks: &mut TaskManager,
    ) {
        let request = match request {
            Request::DataOut { request_tag, data } => {
                // It may have ended meanwhile.
                if !tasks.is_fetching(self.mirrors[mirror].key, request_tag) {
                    return self.links[self.mirrors[mirror].link].send_home(data);
                }
                let copy = self.land(&data);
                let this = &mut self.mirrors[mirror];
                let Some(copy) = copy else {
                    this.landing.push((request_tag, data));
                    self.is_short = true;
                    return;
                };
                self.links[this.link].send_home(data);
                Request::DataOut { request_tag, data: copy }
            }
            other => other.map_data(|_| Sg::new()),
        };
        let this = &mut self.mirrors[mirror];
        if let Request::Command { request_tag, command } = &request {
            self.counters.commands_received += 1;
            this.charge_command(*request_tag, command);
        }
        this.requests.push_back(request);
        tasks.serve(now, this.key, this);
    }

    /// Copies what there was no memory for, as far as there is some now. Returns how much that was.
    #[cold]
    fn land_again(
        &mut self,
        now: Instant,
        tasks: &mut TaskManager,
        sessions: &mut dyn Transports,
        touched: &mut dyn FnMut(NexusKey),
    ) -> usize {
        let mut work = 0;
        for put_off in std::mem::take(&mut self.put_off) {
            work += self.called(put_off, tasks, sessions, touched);
        }
        self.is_short = false;
        let short: Vec<usize> =
            self.mirrors.iter().filter(|(_, m)| !m.landing.is_empty()).map(|(i, _)| i).collect();
        for mirror in short {
            for (request_tag, data) in std::mem::take(&mut self.mirrors[mirror].landing) {
                let before = self.counters.copied_bytes;
                self.request(now, mirror, Request::DataOut { request_tag, data }, tasks);
                work += usize::from(self.counters.copied_bytes != before);
            }
        }
        work
    }

    /// The turn is over: what it has for other cores goes, and they are woken.
    pub fn commit(&mut self, tasks: &mut TaskManager, wake: impl Fn(usize)) {
        while let Some((core, nexus, message)) = tasks.poll_nexus_message() {
            match &message {
                NexusMessage::Join { name, .. } => {
                    *place(&mut self.accounts, nexus) = Some(account(&self.arena, name));
                }
                NexusMessage::Leave => *place(&mut self.accounts, nexus) = None,
                NexusMessage::Request(Request::Command { .. }) => self.counters.commands_sent += 1,
                _ => {}
            }
            let account = self.accounts.get(nexus.0).and_then(Option::as_ref);
            let away = |data: Sg| {
                let charge = account.map(|account| charge(account, data.len() as u64));
                payload(data, charge)
            };
            let link = self.links.iter().find(|link| link.core == core).expect("all cores are linked");
            link.send(LinkMessage::Nexus(nexus, message.map_data(away)));
        }
        for link in &self.links {
            if link.outgoing.borrow_mut().flush() {
                wake(link.core);
            }
        }
    }

    /// Whether nothing has come, and nothing has to be tried again of which nobody tells. Called when a sleep has been
    /// announced.
    pub fn is_quiet(&self) -> bool {
        !self.must_poll() && self.links.iter().all(|link| link.incoming.is_empty())
    }

    /// Whether something has to be tried again of which nobody tells, so that the core must not sleep.
    pub fn must_poll(&self) -> bool {
        self.is_short
            || !self.put_off.is_empty()
            || self.links.iter().any(|link| link.outgoing.borrow().is_waiting())
    }

    /// No session of this core will join others any more. Returns whether the same is true of all others, and no nexus
    /// is mirrored here: the units of this core have had their last command.
    pub fn close(&mut self, tasks: &TaskManager) -> bool {
        if !self.closing && !tasks.is_mirrored() {
            self.closing = true;
            self.links.iter().for_each(|link| link.send(LinkMessage::Closed));
        }
        // A core that has not started has dropped its end.
        let is_over =
            |link: &CoreLink| link.closed || link.incoming.is_abandoned() && link.incoming.is_empty();
        self.closing && self.mirrors.is_empty() && self.links.iter().all(is_over)
    }

    /// All transports of this core: those of its sessions, and the mirrors.
    pub fn with<'a>(&'a mut self, sessions: &'a mut dyn Transports) -> impl Transports + 'a {
        AllTransports { links: self, sessions }
    }
}

/// The place of a key.
fn place<T>(list: &mut Vec<Option<T>>, key: NexusKey) -> &mut Option<T> {
    if list.len() <= key.0 {
        list.resize_with(key.0 + 1, || None);
    }
    &mut list[key.0]
}

struct AllTransports<'a> {
    links: &'a mut PeerLinks,
    sessions: &'a mut dyn Transports,
}

impl Transports for AllTransports<'_> {
    fn transport(&mut self, nexus: NexusKey) -> Option<&mut dyn Transport> {
        match self.links.by_key.get(nexus.0).copied().flatten() {
            Some(mirror) => Some(&mut self.links.mirrors[mirror]),
            None => self.sessions.transport(nexus),
        }
    }
}

impl<D> TransportCall<D> {
    /// The command whose data it has.
    fn data_of(&self) -> Option<RequestTag> {
        match self {
            Self::SendDataIn(request_tag, _) | Self::SendCommandComplete(request_tag, _) => {
                Some(*request_tag)
            }
            _ => None,
        }
    }
}
