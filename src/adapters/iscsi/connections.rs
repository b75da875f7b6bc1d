// SPDX-License-Identifier: GPL-2.0-or-later
//! Streams, the connections on them, and the sessions that these make up: from the first byte to the end of the last
//! task.

use std::sync::Arc;

use log::{debug, info};
use smallvec::{SmallVec, smallvec};

use super::sessions::{Claim, Limits, Seat, SessionName, Waiter};
use super::topology::Topology;
use super::{
    Ending, Established, IscsiFabric, IscsiMessage, LOGINS_MAX, MemoryFree, PDUS_MIN, SessionEntry, Stream,
};
use crate::engine::audit::MemoryProgress;
use crate::engine::fabric::Core;
use crate::fabrics::iscsi::{
    self, Allowance, Connection, ConnectionKey, ConnectionOrigin, Event, LoginRequest, LoginStatus, Session,
    Visitor,
};
use crate::memory::{Sg, prefetch};
use crate::net::{CACHED_STREAMS, Detached, STAGE_MAX, StreamEvent, StreamId, StreamOrigin};
use crate::scsi::{Nexus, NexusId, PortName};

/// Why a connection cannot join a session that is not there.
const GONE: (LoginStatus, &str) = (LoginStatus::SessionDoesNotExist, "no such session to join");

impl IscsiFabric {
    // Streams.

    pub(super) fn poll_host(&mut self, core: &Core, host: usize) -> usize {
        let mut events = std::mem::take(&mut self.events);
        let work = self.parts.hosts[host].1.poll(self.now, &mut events);
        // In stages, as the host does with its flows: sessions, what they point to, then the first of them has its
        // turn.
        let ahead = self.sessions.len() > CACHED_STREAMS;
        for events in events.chunks(STAGE_MAX) {
            if ahead && events.len() > 1 {
                self.prefetch(core, host, events);
            }
            for &event in events {
                self.stream_event(host, event);
            }
        }
        events.clear();
        self.events = events;
        for (home, frame) in self.parts.hosts[host].1.strays() {
            self.parts.peers[home].send(IscsiMessage::Stray { host, frame });
        }
        work
    }

    /// Asks for the sessions that events are for.
    fn prefetch(&self, core: &Core, host: usize, events: &[StreamEvent]) {
        let streams = &self.by_stream[host];
        let connections: SmallVec<[_; STAGE_MAX]> = events
            .iter()
            .filter_map(|event| match event {
                StreamEvent::Readable(id) => streams.get(*id).copied(),
                _ => None,
            })
            .inspect(|&(index, _)| prefetch(&self.sessions[index]))
            .collect();
        for (index, key) in connections {
            let SessionEntry { iscsi, established, .. } = &self.sessions[index];
            iscsi.prefetch(key);
            if let Some(nexus) = established.as_ref().and_then(|session| session.key) {
                core.prefetch(nexus);
            }
        }
    }

    fn stream_event(&mut self, host: usize, event: StreamEvent) {
        let id = match event {
            StreamEvent::Accepted { stream: id, origin } => {
                self.place(host, id, origin);
                return;
            }
            StreamEvent::Readable(id)
            | StreamEvent::Writable(id)
            | StreamEvent::Finished(id)
            | StreamEvent::Closed(id) => id,
        };
        let Some(&(index, key)) = self.by_stream[host].get(id) else { return };
        self.touch(index);
        let iscsi = &mut self.sessions[index].iscsi;
        match event {
            StreamEvent::Readable(_) => self.receive(index, key),
            StreamEvent::Finished(_) => iscsi.peer_finished(key),
            StreamEvent::Closed(_) => self.stream_closed(index, key),
            _ => {}
        }
    }

    /// Goes on with connections that brought more in the last turn than they were to have taken at once.
    pub(super) fn receive_more(&mut self) -> usize {
        let work = self.unfinished.len();
        for _ in 0..work {
            let Some((index, key)) = self.unfinished.pop_front() else { break };
            let streams = self.sessions.get_mut(index).map(|entry| &mut entry.streams);
            if let Some(Some(stream @ Stream { unfinished: true, .. })) =
                streams.and_then(|streams| streams.get_mut(key.0))
            {
                stream.unfinished = false;
                self.touch(index);
                self.receive(index, key);
            }
        }
        work
    }

    /// Gives a connection what has come in, while it takes that, and others need not wait. One that has had its share
    /// of this turn has the next one in the next turn. Bytes alone do not count where its host has had a burst of all:
    /// what is left of that would be in the way of the next one.
    #[inline]
    pub(super) fn receive(&mut self, index: usize, key: ConnectionKey) {
        let SessionEntry { iscsi, streams, .. } = &mut self.sessions[index];
        let Some(stream @ Stream { unfinished: false, .. }) = &mut streams[key.0] else { return };
        let (host, id) = (&mut self.parts.hosts[stream.host].1, stream.id);
        self.readers += 1;
        let mut left = self.share;
        while iscsi.receive(key, self.now, &*self.parts.topology, &mut left, || host.receive(id)) {
            if left == 0 || !host.is_bounded() {
                stream.unfinished = true;
                self.unfinished.push_back((index, key));
                break;
            }
        }
        if iscsi.holds_too_much(key) {
            self.leave_unread(index, key);
        }
    }

    /// Goes on with a connection when others have had their turn.
    fn read_next_turn(&mut self, index: usize, key: ConnectionKey) {
        if let Some(Some(stream)) = self.sessions[index].streams.get_mut(key.0)
            && !std::mem::replace(&mut stream.unfinished, true)
        {
            self.unfinished.push_back((index, key));
        }
    }

    fn stream_closed(&mut self, index: usize, key: ConnectionKey) {
        let SessionEntry { iscsi, streams, .. } = &mut self.sessions[index];
        iscsi.peer_finished(key);
        if let Some(stream) = &mut streams[key.0] {
            stream.closed = true;
        }
    }

    /// A stream carries a connection from now on. One that had its place before is gone, which its host may tell only
    /// now: a stream that comes from another core comes before what happened here.
    fn register(&mut self, host: usize, id: StreamId, connection: (usize, ConnectionKey)) {
        if let Some((index, key)) = self.by_stream[host].insert(id, connection) {
            self.stream_closed(index, key);
            self.touch(index);
        }
    }

    /// A new stream that has come in here: it goes to the core with the fewest if that makes no difference to the host.
    fn place(&mut self, host: usize, id: StreamId, origin: StreamOrigin) {
        let (here, sessions) = (self.parts.context.core(), &self.parts.sessions);
        let streams = &mut self.parts.hosts[host].1;
        let mut seat = match streams.is_steerable() {
            true => sessions.place(here, self.parts.peers.len()),
            false => sessions.seat(here),
        };
        let core = seat.core();
        if core != here {
            if let Some(stream) = streams.detach(id, core) {
                return self.parts.peers[core].send(IscsiMessage::Adopt {
                    host,
                    stream,
                    bytes: Vec::new(),
                    seat,
                });
            }
            // It has ended already, which the host will tell.
            seat = sessions.seat(here);
        }
        self.accepted(host, id, origin, seat);
    }

    /// A stream of this core: a session of its own, until it turns out to belong to another. None if its portal has
    /// gone meanwhile.
    fn accepted(&mut self, host: usize, id: StreamId, origin: StreamOrigin, seat: Seat) -> Option<usize> {
        if self.logins >= LOGINS_MAX {
            self.cut_oldest_login();
        }
        let parameters = Arc::new(iscsi::Parameters::default());
        let StreamOrigin { listener, local, peer } = origin;
        let Some(portal) = self.portal_of(host, listener) else {
            self.parts.hosts[host].1.abort(id);
            return None;
        };
        let origin = ConnectionOrigin { portal, local, peer };
        let (mut iscsi, key) = Session::new(parameters, self.parts.context.arena().clone(), origin, self.now);
        let account = self.parts.context.arena().strangers().connection();
        iscsi.bill(key, &account, None);
        self.parts.hosts[host].1.bill(id, &account);
        debug_assert_eq!(key, ConnectionKey(0), "streams are listed by the keys of their connections");
        self.next_serial += 1;
        let serial = self.next_serial;
        let seat = Some(seat);
        let (wanted, unread, unfinished, closing, reset, closed) = Default::default();
        let stream = Stream { serial, host, id, seat, wanted, unread, unfinished, closing, reset, closed };
        let streams = smallvec![Some(stream)];
        let progress = MemoryProgress::begin(self.now);
        let entry = SessionEntry {
            iscsi,
            streams,
            established: None,
            touched: false,
            waiting: false,
            account,
            progress,
        };
        let index = self.sessions.insert(entry);
        self.logins += 1;
        self.register(host, id, (index, key));
        self.touch(index);
        Some(index)
    }

    /// Makes room for somebody who may mean to log in.
    fn cut_oldest_login(&mut self) {
        let open = |entry: &SessionEntry| entry.established.is_none() && !entry.iscsi.is_over();
        let logins = self.sessions.iter().filter(|(_, entry)| open(entry));
        let born = |entry: &SessionEntry| entry.streams.iter().flatten().map(|stream| stream.serial).min();
        let Some((index, _)) = logins.min_by_key(|(_, entry)| born(entry)) else { return };
        self.sessions[index].iscsi.close("too many logins under way");
        self.touch(index);
    }

    /// Takes a stream that came in at another core.
    pub(super) fn adopt(&mut self, host: usize, stream: Detached, bytes: &[u8], seat: Seat) {
        let origin = stream.origin;
        let Some(id) = self.parts.hosts[host].1.attach(stream) else { return };
        let Some(index) = self.accepted(host, id, origin, seat) else { return };
        let iscsi = &mut self.sessions[index].iscsi;
        if self.stopping {
            return iscsi.close("the daemon is stopping");
        }
        match Sg::copied_reserved(self.parts.context.arena(), bytes) {
            Some(data) => {
                let mut segs = data.segs().iter().cloned();
                // A login, and what may be behind it, which is carried out when that is answered.
                let mut left = PDUS_MIN;
                iscsi.receive(ConnectionKey(0), self.now, &*self.parts.topology, &mut left, || segs.next());
            }
            None => iscsi.close("no memory for a login"),
        }
    }

    /// Carries a session on until it has nothing more to do this turn.
    pub(super) fn carry_on(&mut self, core: &mut Core, index: usize) {
        loop {
            let mut progress = false;
            while let Some(event) = self.sessions.get_mut(index).and_then(|entry| entry.iscsi.poll_event()) {
                progress = true;
                self.session_event(core, index, event);
            }
            // Its only connection may have gone to the session that it wanted to join.
            let Some(entry) = self.sessions.get_mut(index) else { return };
            let SessionEntry { iscsi, streams, established, .. } = entry;
            if let Some(key) = established.as_ref().and_then(|session| session.key) {
                progress |= core.serve(key, iscsi) > 0;
            }
            for (key, stream) in streams.iter().enumerate() {
                let Some(stream) = stream.as_ref().filter(|stream| !stream.closed) else { continue };
                let host = &mut self.parts.hosts[stream.host].1;
                while host.room(stream.id) > 0 {
                    let Some(pdu) = iscsi.poll_transmit(ConnectionKey(key)) else { break };
                    host.send(stream.id, pdu);
                    progress = true;
                }
            }
            if !progress {
                break;
            }
        }
        if self.sessions[index].iscsi.waits_for_memory() {
            self.try_again(index);
        }
        let SessionEntry { iscsi, streams, .. } = &mut self.sessions[index];
        if let Some(deadline) = iscsi.next_deadline() {
            self.timers.wake_at(index, deadline);
        }
        for (key, slot) in streams.iter_mut().enumerate() {
            let Some(stream) = slot else { continue };
            let host = &mut self.parts.hosts[stream.host].1;
            if stream.closed {
                self.by_stream[stream.host].remove(stream.id);
                iscsi.remove(ConnectionKey(key));
                *slot = None;
            } else if stream.closing && stream.reset {
                host.abort(stream.id);
            } else if stream.closing {
                host.close(stream.id);
            }
        }
        if streams.iter().all(Option::is_none) {
            self.end_session(core, index);
            self.forget(index);
        }
    }

    fn session_event(&mut self, core: &mut Core, index: usize, event: Event) {
        match event {
            Event::JoinWanted(key, tsih) => self.find_home(index, key, tsih),
            Event::Joined(key) | Event::Resumed(key) => self.read_next_turn(index, key),
            Event::LoginWanted(key, wanted) => {
                if let Some(stream) = &mut self.sessions[index].streams[key.0] {
                    stream.wanted = Some(wanted);
                    self.admit(core, index, key);
                }
            }
            Event::Closed { connection: key, reason, reset } => {
                let SessionEntry { iscsi, streams, established, .. } = &mut self.sessions[index];
                if let Some(stream) = &mut streams[key.0] {
                    (stream.closing, stream.reset) = (true, reset);
                    stream.seat = None;
                }
                let quiet = iscsi.target().is_none() && established.is_some();
                let level = if quiet { log::Level::Debug } else { log::Level::Info };
                if let Some(connection) = iscsi.connection(key) {
                    let (peer, initiator) = (connection.peer(), iscsi.initiator());
                    log::log!(
                        level, peer:% = peer, kind = reason.why(); "{peer} {initiator}: connection ended: {reason}"
                    );
                }
                if iscsi.is_over() {
                    self.end_session(core, index);
                } else if let Some(Established { name, .. }) = established {
                    self.parts.sessions.leave(name);
                }
            }
        }
    }

    /// Where the connection of that serial number is.
    pub(super) fn find(&self, serial: u64) -> Option<(usize, ConnectionKey)> {
        let of = |stream: &Option<Stream>| stream.as_ref().is_some_and(|stream| stream.serial == serial);
        self.sessions.iter().find_map(|(index, entry)| {
            let key = entry.streams.iter().position(of)?;
            Some((index, ConnectionKey(key)))
        })
    }

    fn forget(&mut self, index: usize) -> SessionEntry {
        let entry = self.sessions.remove(index);
        self.timers.forget(index);
        self.logins -= usize::from(entry.established.is_none());
        entry
    }

    // Sessions.

    /// A connection wants to join a session: it goes to the core where that lives.
    fn find_home(&mut self, index: usize, key: ConnectionKey, tsih: u16) {
        let home = self.parts.sessions.find(tsih);
        let here = home.and_then(|(_, nexus)| self.by_nexus.get(&nexus));
        let window = here.map(|&home| self.sessions[home].iscsi.window());
        let SessionEntry { iscsi, streams, .. } = &mut self.sessions[index];
        let Some(Stream { host, id, .. }) = streams[key.0] else { return };
        match home {
            Some((core, _)) if core == self.parts.context.core() => {
                let Some(window) = window else { return iscsi.refuse_login(key, GONE.0, GONE.1) };
                iscsi.proceed(key, window, &*self.parts.topology);
                self.read_next_turn(index, key);
            }
            Some((core, _)) => {
                let Some(stream) = self.parts.hosts[host].1.detach(id, core) else {
                    let why = "the connection cannot go to the core of its session";
                    return iscsi.refuse_login(key, LoginStatus::OutOfResources, why);
                };
                let (bytes, seat) = (iscsi.hand_over(key), self.parts.sessions.seat(core));
                self.parts.peers[core].send(IscsiMessage::Adopt { host, stream, bytes, seat });
                self.by_stream[host].remove(id);
                self.forget(index);
            }
            None => iscsi.refuse_login(key, GONE.0, GONE.1),
        }
    }

    /// Adds a connection whose login is done to its session.
    fn join(&mut self, index: usize, key: ConnectionKey, wanted: &LoginRequest, name: &SessionName) {
        let home = self.parts.sessions.find(wanted.tsih).and_then(|(_, nexus)| self.by_nexus.get(&nexus));
        let home = home.copied().filter(|&home| {
            let SessionEntry { iscsi, established, .. } = &self.sessions[home];
            let same = established.as_ref().is_some_and(|session| session.name == *name);
            same && iscsi.user() == wanted.user.as_deref() && !iscsi.is_over()
        });
        let cid = self.sessions[index].iscsi.connection(key).map_or(0, Connection::cid);
        let refusal = match home {
            None => Some((LoginStatus::SessionDoesNotExist, "the session to join is not that initiator's")),
            Some(home) if !self.sessions[home].iscsi.has_room(cid) => {
                Some((LoginStatus::TooManyConnections, "more connections than MaxConnections"))
            }
            Some(_) => {
                let limits = limits(&self.parts.topology, name);
                let joined = self.parts.sessions.join(name, &limits);
                joined.err().map(|why| (LoginStatus::TooManyConnections, why))
            }
        };
        if let Some((status, why)) = refusal {
            return self.sessions[index].iscsi.refuse_login(key, status, why);
        }
        let (Some(home), mut guest) = (home, self.forget(index)) else { return };
        let Some(mut stream) = guest.streams[key.0].take() else { return };
        let SessionEntry { iscsi, streams, account, .. } = &mut self.sessions[home];
        let key = iscsi.join(&mut guest.iscsi, key);
        if let Some(connection) = iscsi.connection(key) {
            let (peer, initiator) = (connection.peer(), &wanted.initiator);
            info!(peer:% = peer; "{peer} {initiator}: another connection (TSIH {})", wanted.tsih);
        }
        let account = account.stream();
        iscsi.bill(key, &account, None);
        self.parts.hosts[stream.host].1.bill(stream.id, &account);
        self.by_stream[stream.host].insert(stream.id, (home, key));
        if streams.len() <= key.0 {
            streams.resize_with(key.0 + 1, || None);
        }
        // The lists of those that are to be read again know it by the place that it had.
        let again = std::mem::take(&mut stream.unfinished) | std::mem::take(&mut stream.unread);
        streams[key.0] = Some(stream);
        self.touch(home);
        if again {
            self.receive(home, key);
        }
    }

    /// Lets a login in, or makes it wait for the end of an older session of the same name.
    pub(super) fn admit(&mut self, core: &mut Core, index: usize, key: ConnectionKey) {
        let SessionEntry { iscsi, streams, .. } = &mut self.sessions[index];
        let Some(stream) = &mut streams[key.0] else { return };
        let Some(wanted) = stream.wanted.take() else { return };
        if self.stopping {
            return iscsi.refuse_login(key, LoginStatus::ServiceUnavailable, "the daemon is stopping");
        }
        let name = SessionName {
            initiator: wanted.initiator.clone(),
            isid: wanted.isid,
            target: wanted.target.clone(),
            portal_group: wanted.portal_group,
        };
        if wanted.tsih != 0 {
            // One that has ended meanwhile joins nothing: its stream may have lost its place.
            if iscsi.is_over() {
                return;
            }
            return self.join(index, key, &wanted, &name);
        }
        // It may have waited for long.
        if name.target.as_deref().is_some_and(|target| self.parts.topology.target(target).is_none()) {
            return iscsi.refuse_login(key, LoginStatus::NotFound, "the target is gone");
        }
        let waiter = Waiter { core: self.parts.context.core(), connection: stream.serial };
        let wish = wanted.parameters.queue_depth;
        let limits = limits(&self.parts.topology, &name);
        let nexus = core.new_nexus_id();
        match self.parts.sessions.claim(&name, nexus, waiter, &limits, wish) {
            Claim::Full(what) => iscsi.refuse_login(key, LoginStatus::OutOfResources, what),
            Claim::Held { core: home, nexus } => {
                stream.wanted = Some(wanted);
                self.parts.peers[home].send(IscsiMessage::Reinstate(nexus));
            }
            Claim::Granted { tsih, commands, memory } => {
                self.establish(core, index, key, name, (nexus, tsih), (commands, memory))
            }
        }
    }

    fn establish(
        &mut self,
        core: &mut Core,
        index: usize,
        key: ConnectionKey,
        name: SessionName,
        (nexus, tsih): (NexusId, u16),
        (commands, mut memory): (u32, Allowance),
    ) {
        let home = self.parts.peers[self.parts.context.core()].clone();
        memory.wakes(Arc::new(MemoryFree { home, nexus }).into());
        let SessionEntry { iscsi, streams, established, .. } = &mut self.sessions[index];
        if let (None, Some(stream)) = (&name.target, &mut streams[key.0]) {
            // Whoever asks what there is may stay, and is no load.
            stream.seat = None;
        }
        let target = name.target.as_deref().and_then(|name| self.parts.topology.target(name));
        let nexus_key = target.zip(iscsi.connection(key)).map(|(target, connection)| {
            let units = target.units(&Visitor {
                initiator: &name.initiator,
                origin: connection.origin(),
                user: iscsi.user(),
            });
            let initiator = PortName::iscsi_initiator(&name.initiator, name.isid);
            let port = target.port(name.portal_group);
            core.add_nexus(nexus, Nexus { initiator, port }, &units)
        });
        if let Some(nexus_key) = nexus_key {
            if self.by_key.len() <= nexus_key.0 {
                self.by_key.resize(nexus_key.0 + 1, None);
            }
            self.by_key[nexus_key.0] = Some(index);
            self.by_nexus.insert(nexus, index);
        }
        if let Some(connection) = iscsi.connection(key) {
            let (peer, initiator) = (connection.peer(), &name.initiator);
            match &name.target {
                Some(target) => {
                    info!(peer:% = peer; "{peer} {initiator}: logged in to {target} (TSIH {tsih})")
                }
                None => debug!(peer:% = peer; "{peer} {initiator}: discovery session (TSIH {tsih})"),
            }
        }
        let peer = iscsi.connection(key).map(|connection| connection.peer().ip());
        *established = Some(Established { name, nexus, tsih, key: nexus_key });
        self.logins -= 1;
        if let Some(peer) = peer {
            self.bill(index, key, peer, tsih);
        }
        let iscsi = &mut self.sessions[index].iscsi;
        iscsi.accept_login(key, nexus, tsih, commands, memory);
        self.read_next_turn(index, key);
        self.touch(index);
    }

    /// Aborts what a session has under way; its name is free when all of that has ended.
    fn end_session(&mut self, core: &mut Core, index: usize) {
        let Some(Established { name, nexus, tsih, key }) = self.sessions[index].established.take() else {
            return;
        };
        self.logins += 1;
        let ending = self.ending.insert(Ending { name, nexus, tsih });
        match key {
            Some(key) => {
                self.by_key[key.0] = None;
                self.by_nexus.remove(&nexus);
                let ticket = u32::try_from(ending).expect("fewer than 2^32 sessions");
                core.remove_nexus(key, ticket);
            }
            None => self.session_ended(ending),
        }
    }

    pub(super) fn session_ended(&mut self, ending: usize) {
        let Ending { name, nexus, tsih } = self.ending.remove(ending);
        for waiter in self.parts.sessions.release(&name, nexus, tsih) {
            self.parts.peers[waiter.core].send(IscsiMessage::SessionEnded(waiter));
        }
    }
}

/// What a session's target is limited to.
fn limits(topology: &Topology, name: &SessionName) -> Limits {
    let target = name.target.as_deref().and_then(|name| topology.target(name));
    target.map(|target| target.limits).unwrap_or_default()
}
