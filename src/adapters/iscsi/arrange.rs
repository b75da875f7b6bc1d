// SPDX-License-Identifier: GPL-2.0-or-later
//! A new topology: listeners and ports come and go, each session is shown what it sees from now on, and those that may
//! not stay are asked to leave, as when the daemon stops. Nobody else notices.

use std::mem::{replace, take};
use std::sync::Arc;
use std::time::Duration;

use log::info;

use super::share::{IscsiShare, Leaving, listeners_of};
use super::topology::{Portal, Topology};
use super::vacant::vacant;
use super::{Established, IscsiFabric, LOGOUT_SECONDS, SessionEntry};
use crate::adapters::fabric::PortsChange;
use crate::engine::fabric::Core;
use crate::fabrics::iscsi::{ConnectionOrigin, Visitor};
use crate::net::StreamMap;
use crate::scsi::{Lun, UnitKey};
use crate::time::Instant;

/// When a session is dropped that has been asked to leave.
const LEAVE_TIME: Duration = Duration::from_secs(4);

/// How long after that its streams are cut.
const DROP_TIME: Duration = Duration::from_secs(2);

impl IscsiFabric {
    /// Puts a share in force.
    pub(super) fn arrange_share(&mut self, core: &mut Core, share: IscsiShare) {
        self.now = core.now;
        let IscsiShare { topology, ports: PortsChange { hosts, gone, listeners } } = share;
        let before = replace(&mut self.parts.topology, topology);
        for portal in &before.portals {
            if !self.parts.topology.portals.iter().any(|known| known.is_at(portal))
                && let Some((host, number)) = self.listener_of(portal)
            {
                self.parts.hosts[host].1.unlisten(number);
            }
        }
        for name in gone {
            // Its name may be another port's from now on.
            let place = self.parts.hosts.iter().position(|(port, _)| *port == name);
            self.leaving_ports.extend(place.inspect(|&place| self.parts.hosts[place].0.clear()));
        }
        for (name, host) in hosts {
            self.listeners.push(listeners_of(&self.parts.topology, &name));
            self.parts.hosts.push((name, host));
            self.by_stream.push(StreamMap::default());
        }
        for (name, listener) in listeners {
            let portal = self.parts.topology.portals.iter().find(|portal| portal.name == name);
            let host = portal
                .and_then(|portal| self.parts.hosts.iter().position(|(port, _)| **port == *portal.port));
            let Some(host) = host else { continue };
            if !self.stopping {
                self.parts.hosts[host].1.listen(self.listeners[host].len(), &listener);
            }
            self.listeners[host].push(name);
        }
        for index in self.all() {
            self.review(core, &before, index);
        }
        for message in take(&mut self.early) {
            self.take_message(core, message);
        }
    }

    /// The portal that a listener of a host is for, unless it is gone.
    pub(super) fn portal_of(&self, host: usize, listener: usize) -> Option<Arc<str>> {
        let name = self.listeners[host].get(listener)?;
        self.parts.topology.portals.iter().any(|portal| portal.name == *name).then(|| name.clone())
    }

    /// The host of a portal, and its listener there: the last one that had its name.
    fn listener_of(&self, portal: &Portal) -> Option<(usize, usize)> {
        let host = self.parts.hosts.iter().position(|(port, _)| **port == *portal.port)?;
        Some((host, self.listeners[host].iter().rposition(|name| *name == portal.name)?))
    }

    /// What becomes of a session, or of who has not logged in.
    fn review(&mut self, core: &mut Core, before: &Topology, index: usize) {
        let topology = self.parts.topology.clone();
        let SessionEntry { iscsi, established, .. } = &mut self.sessions[index];
        let mut origins = iscsi.connections().map(|(_, connection)| connection.origin());
        match established {
            Some(Established { nexus, .. }) if self.leaving.iter().any(|leaving| leaving.nexus == *nexus) => {
            }
            Some(Established { name, nexus, key: Some(key), .. }) => {
                let target = name.target.as_deref().unwrap_or_default();
                match sees(&topology, before, target, &mut origins, (&name.initiator, iscsi.user())) {
                    Ok(Some(units)) => core.see(*key, &units),
                    Ok(None) => {}
                    Err(why) => {
                        drop(origins);
                        info!("{}: is asked to leave {target}: {why}", iscsi.initiator());
                        iscsi.request_logout(LOGOUT_SECONDS);
                        let until = self.now + LEAVE_TIME;
                        self.leaving.push(Leaving { nexus: *nexus, until, dropped: false });
                        self.touch(index);
                    }
                }
            }
            _ => {
                let stays = |origin: &ConnectionOrigin| {
                    topology.portals.iter().any(|portal| {
                        let was = before.portals.iter().find(|was| was.name == origin.portal);
                        was.is_some_and(|was| was.is_at(portal))
                    })
                };
                if !origins.all(stays) {
                    drop(origins);
                    iscsi.close("its portal is gone");
                    self.touch(index);
                }
            }
        }
    }

    /// Those that were asked to leave and have not, and ports that have no streams any more. Returns how many went.
    pub(super) fn let_go(&mut self) -> usize {
        let now = self.now;
        let mut due = Vec::new();
        self.leaving.retain_mut(|leaving| {
            let Some(&index) = self.by_nexus.get(&leaving.nexus) else { return false };
            if leaving.until <= now {
                due.push((index, replace(&mut leaving.dropped, true)));
                leaving.until = now + DROP_TIME;
            }
            true
        });
        for &(index, cut) in &due {
            let SessionEntry { iscsi, streams, .. } = &mut self.sessions[index];
            iscsi.drop_all("it was asked to leave");
            for stream in streams.iter().flatten().filter(|_| cut) {
                self.parts.hosts[stream.host].1.abort(stream.id);
            }
            self.touch(index);
        }
        let empty = |place: &mut usize| self.by_stream[*place].is_empty();
        let gone: Vec<usize> = self.leaving_ports.extract_if(.., empty).collect();
        for &place in &gone {
            self.parts.hosts[place] = vacant();
        }
        due.len() + gone.len()
    }

    /// When somebody who was asked to leave has had the time for that.
    pub(super) fn next_leave(&self) -> Option<Instant> {
        self.leaving.iter().map(|leaving| leaving.until).min()
    }
}

/// What a session sees now that was let in while `before` was in force; nothing if all its connections are ending. The
/// error says why it must not stay.
fn sees(
    topology: &Topology,
    before: &Topology,
    target: &str,
    origins: &mut dyn Iterator<Item = &ConnectionOrigin>,
    (initiator, user): (&str, Option<&str>),
) -> Result<Option<Vec<(Lun, UnitKey)>>, &'static str> {
    let mut units = None;
    for origin in origins {
        let visitor = Visitor { initiator, origin, user };
        let seen = topology.review(before, target, &visitor)?;
        units.get_or_insert(seen);
    }
    Ok(units)
}
