// SPDX-License-Identifier: GPL-2.0-or-later
//! Streams, the connections on them, and the sessions that these make up: from the first byte to the end of the last
//! task.

use std::sync::Arc;

use log::{debug, info};
use smallvec::smallvec;

use super::{Ending, Entry, Established, Message, Shard, Stop, Stream};
use crate::fabrics::iscsi::{self, ConnectionKey, Event, LoginStatus, Session};
use crate::net::StreamEvent;
use crate::scsi::{Nexus, NexusId, TransportId};
use crate::target::sessions::{Claim, SessionName, Waiter};
use crate::target::tasks::Then;

impl Shard {
    // Streams.

    pub(super) fn poll_host(&mut self, host: usize) -> usize {
        let mut events = std::mem::take(&mut self.events);
        let work = self.parts.hosts[host].1.poll(self.now, &mut events);
        for event in events.drain(..) {
            self.stream_event(host, event);
        }
        self.events = events;
        work
    }

    fn stream_event(&mut self, host: usize, event: StreamEvent) {
        let id = match event {
            StreamEvent::Accepted { stream: id, local, peer } => {
                let parameters = Arc::new(iscsi::Parameters::default());
                let (iscsi, key) = Session::new(parameters, self.parts.arena.clone(), local, peer, self.now);
                self.next_serial += 1;
                let serial = self.next_serial;
                let stream =
                    Stream { serial, host, id, wanted: None, closing: false, reset: false, closed: false };
                debug_assert_eq!(
                    key,
                    ConnectionKey(0),
                    "streams are listed by the keys of their connections"
                );
                let streams = smallvec![Some(stream)];
                let index = self.sessions.insert(Entry { iscsi, streams, established: None, touched: false });
                self.by_stream.insert((host, id), (index, key));
                self.touch(index);
                return;
            }
            StreamEvent::Readable(id)
            | StreamEvent::Writable(id)
            | StreamEvent::Finished(id)
            | StreamEvent::Closed(id) => id,
        };
        let Some(&(index, key)) = self.by_stream.get(&(host, id)) else { return };
        self.touch(index);
        let Entry { iscsi, streams, .. } = &mut self.sessions[index];
        match event {
            StreamEvent::Readable(_) => {
                while let Some(data) = self.parts.hosts[host].1.receive(id) {
                    iscsi.receive(key, self.now, data, &*self.parts.topology);
                }
            }
            StreamEvent::Finished(_) => iscsi.peer_finished(key),
            StreamEvent::Closed(_) => {
                iscsi.peer_finished(key);
                if let Some(stream) = &mut streams[key.0] {
                    stream.closed = true;
                }
            }
            _ => {}
        }
    }

    /// Carries a session on until it has nothing more to do this turn.
    pub(super) fn serve(&mut self, index: usize) {
        loop {
            let mut progress = false;
            while let Some(event) = self.sessions[index].iscsi.poll_event() {
                progress = true;
                self.session_event(index, event);
            }
            let Entry { iscsi, streams, established, .. } = &mut self.sessions[index];
            if let Some(key) = established.as_ref().and_then(|session| session.key) {
                progress |= self.parts.tasks.serve(self.now, key, iscsi) > 0;
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
        let Entry { iscsi, streams, .. } = &mut self.sessions[index];
        if let Some(deadline) = iscsi.next_deadline() {
            self.timer = Some(self.timer.map_or(deadline, |timer| timer.min(deadline)));
        }
        for (key, slot) in streams.iter_mut().enumerate() {
            let Some(stream) = slot else { continue };
            let host = &mut self.parts.hosts[stream.host].1;
            if stream.closed {
                self.by_stream.remove(&(stream.host, stream.id));
                iscsi.remove(ConnectionKey(key));
                *slot = None;
            } else if stream.closing && stream.reset {
                host.abort(stream.id);
            } else if stream.closing {
                host.close(stream.id);
            }
        }
        if streams.iter().all(Option::is_none) {
            self.end_session(index);
            self.sessions.remove(index);
        }
    }

    fn session_event(&mut self, index: usize, event: Event) {
        match event {
            Event::LoginWanted(key, wanted) => {
                if let Some(stream) = &mut self.sessions[index].streams[key.0] {
                    stream.wanted = Some(wanted);
                    self.admit(index, key);
                }
            }
            Event::Closed { connection: key, reason, reset } => {
                let Entry { iscsi, streams, established, .. } = &mut self.sessions[index];
                if let Some(stream) = &mut streams[key.0] {
                    (stream.closing, stream.reset) = (true, reset);
                }
                let quiet = iscsi.target().is_none() && established.is_some();
                let level = if quiet { log::Level::Debug } else { log::Level::Info };
                if let Some(connection) = iscsi.connection(key) {
                    let (peer, initiator) = (connection.peer(), iscsi.initiator());
                    log::log!(level, "{peer} {initiator}: connection ended: {reason}");
                }
                if iscsi.is_over() {
                    self.end_session(index);
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

    // Sessions.

    /// Lets a login in, or makes it wait for the end of an older session of the same name.
    pub(super) fn admit(&mut self, index: usize, key: ConnectionKey) {
        let core = self.parts.core;
        let Entry { iscsi, streams, .. } = &mut self.sessions[index];
        let Some(stream) = &mut streams[key.0] else { return };
        let Some(wanted) = stream.wanted.take() else { return };
        if self.stop != Stop::No {
            return iscsi.refuse_login(key, LoginStatus::ServiceUnavailable, "the daemon is stopping");
        }
        let name = SessionName {
            initiator: wanted.initiator.clone(),
            isid: wanted.isid,
            target: wanted.target.clone(),
            portal_group: wanted.portal_group,
        };
        let waiter = Waiter { core, connection: stream.serial };
        match self.parts.sessions.claim(&name, waiter) {
            Claim::Full => iscsi.refuse_login(key, LoginStatus::OutOfResources, "too many sessions"),
            Claim::Held { core, nexus } => {
                stream.wanted = Some(wanted);
                self.parts.peers[core].send(Message::Reinstate(nexus));
            }
            Claim::Granted { nexus, tsih } => self.establish(index, key, name, nexus, tsih),
        }
    }

    fn establish(&mut self, index: usize, key: ConnectionKey, name: SessionName, nexus: NexusId, tsih: u16) {
        let Entry { iscsi, established, .. } = &mut self.sessions[index];
        let target = name.target.as_deref().and_then(|name| self.parts.topology.target(name));
        let nexus_key = target.map(|target| {
            let initiator = TransportId::iscsi(&name.initiator, name.isid);
            let port = target.port(name.portal_group);
            self.parts.tasks.add_nexus(nexus, Nexus { initiator, port }, &target.luns)
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
                Some(target) => info!("{peer} {initiator}: logged in to {target} (TSIH {tsih})"),
                None => debug!("{peer} {initiator}: discovery session (TSIH {tsih})"),
            }
        }
        *established = Some(Established { name, nexus, tsih, key: nexus_key });
        iscsi.accept_login(key, nexus, tsih);
        iscsi.resume(key, &*self.parts.topology);
        self.touch(index);
    }

    /// Aborts what a session has under way; its name is free when all of that has ended.
    fn end_session(&mut self, index: usize) {
        let Some(Established { name, nexus, tsih, key }) = self.sessions[index].established.take() else {
            return;
        };
        let ending = self.ending.insert(Ending { name, nexus, tsih });
        match key {
            Some(key) => {
                self.by_key[key.0] = None;
                self.by_nexus.remove(&nexus);
                self.parts.tasks.remove_nexus(self.now, key, Some(Then::Tell(ending as u64)));
            }
            None => self.session_ended(ending),
        }
    }

    pub(super) fn session_ended(&mut self, ending: usize) {
        let Ending { name, nexus, tsih } = self.ending.remove(ending);
        for waiter in self.parts.sessions.release(&name, nexus, tsih) {
            self.parts.peers[waiter.core].send(Message::SessionEnded(waiter));
        }
    }
}
