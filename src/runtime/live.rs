// SPDX-License-Identifier: GPL-2.0-or-later
//! One change of what is served while the daemon runs: what is new is opened here and made ready on all cores, and if
//! all agree it is in force, with what has gone; else nothing has changed. Nothing waits on a core.
//!
//! A logical unit of which something else is said is replaced: another one has its LUNs from the moment of the change,
//! with the persistent reservations that were there, and with the same store if the same is said of that. A store that
//! is not the same and lies in the same image is opened when the old one is closed; until then the unit becomes ready.

use std::collections::BTreeSet;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use log::{info, warn};

use super::build::{
    self, Assembly, ExportsByFabric, KeysByName, NewMedium, OwnersByName, SharesByFabric, Unit,
};
use super::ports::{self, AddressLocks, Listeners};
use crate::adapters::fabric::{FabricAddress, FabricExports, PortsChange};
use crate::control::config::Config;
use crate::control::config::difference::Difference;
use crate::engine::agreement::{Ballot, Decision, Ticket};
use crate::engine::links::{LinkEnd, connect};
use crate::engine::shard::Message;
use crate::engine::tasks::{UnitKey, UnitKeys};
use crate::engine::topology::{MakeShare, RetiredUnit, TopologyMessage, TopologyShare, Vote};
use crate::engine::units::UnitOptions;
use crate::memory::Pages;
use crate::net::Listener;
use crate::ports::{ConfiguredPort, PortShare};
use crate::reactor::{CoreContext, Sender};
use crate::scsi::Change;
use crate::stores::{ImageClaims, Records};

/// How long cores may take to make a share ready.
const VOTE_TIME: Duration = Duration::from_secs(5);

/// How long they may take to be done with a logical unit that goes: what is under way there is aborted sooner.
const RETIRE_TIME: Duration = Duration::from_secs(30);

/// What is served.
pub(super) struct ServedParts {
    pub(super) config: Arc<Config>,
    /// In the order of the configuration.
    pub(super) units: Vec<Arc<Unit>>,
}

/// What is served, and who changes it.
pub(super) struct Live {
    served: RwLock<Arc<ServedParts>>,
    pub(super) cores: Vec<Sender<Message>>,
    pub(super) fabrics: SharesByFabric,
    pub(super) records: Arc<Records>,
    pub(super) claims: ImageClaims,
    /// One configuration is put in force at a time.
    pub(super) applying: Mutex<()>,
    /// One change at a time.
    changer: Mutex<Changer>,
}

/// What a change needs that the next one needs, too.
pub(super) struct Changer {
    keys: UnitKeys,
    locks: AddressLocks,
    last: Ticket,
    /// All cores are linked with each other.
    linked: bool,
}

/// Logical units that go after a change.
pub(super) struct GoneUnits {
    units: Vec<Arc<Unit>>,
    retired: Receiver<RetiredUnit>,
}

/// The logical units that others replace in a change, by their names.
#[derive(Clone, Copy)]
pub(super) struct Replaced<'a> {
    pub(super) units: &'a BTreeSet<String>,
    /// Those of them whose stores come later.
    pub(super) unopened: &'a BTreeSet<String>,
}

impl Changer {
    /// A name for the next change.
    pub(super) fn ticket(&mut self) -> Ticket {
        self.last.0 += 1;
        self.last
    }
}

/// What each core makes its share from.
struct LiveChange {
    /// What each fabric exports, and how many shares it has.
    exports: Vec<(Arc<dyn FabricExports>, usize)>,
    units: Vec<Arc<Unit>>,
    /// Ports that are new, with the share of each core.
    ports: Vec<(String, Vec<Mutex<Option<PortShare>>>)>,
    /// Ports that go.
    gone: Vec<String>,
    /// Portals that are new, of ports that are not, with their listeners.
    listeners: Vec<(Arc<str>, Listener)>,
    /// If the first units come that one core owns, the ends of each.
    links: Vec<Mutex<Vec<LinkEnd>>>,
}

impl LiveChange {
    /// A core's share, made on its thread.
    fn share(&self, context: &CoreContext) -> Result<TopologyShare, String> {
        let units = self.units.iter().map(|unit| unit.attach(context)).collect::<Result<_, _>>()?;
        let open = |(port, shares): &(String, Vec<Mutex<Option<PortShare>>>)| {
            let share = shares[context.core()].lock().unwrap_or_else(PoisonError::into_inner).take();
            let share = share.expect("each core makes its share once");
            Ok((port.clone(), ports::open(port, share, context)?))
        };
        let hosts = self.ports.iter().map(open).collect::<Result<_, String>>()?;
        let (gone, listeners) = (self.gone.clone(), self.listeners.clone());
        let mut ports = PortsChange { hosts, gone, listeners };
        let parts = self.exports.iter().flat_map(|(exports, shares)| {
            let mut parts = exports.clone().parts(&mut ports);
            parts.resize_with(*shares, || Box::new(()));
            parts
        });
        let links = self.links.get(context.core());
        let links =
            links.map(|ends| std::mem::take(&mut *ends.lock().unwrap_or_else(PoisonError::into_inner)));
        Ok(TopologyShare { units, fabrics: parts.collect(), links: links.unwrap_or_default() })
    }
}

impl Live {
    /// Serves what was assembled for the start.
    pub(super) fn of(assembly: &Assembly) -> Self {
        let Assembly { config, keys, records, claims, units, locks, senders, fabrics, .. } = assembly;
        let served = ServedParts { config: config.clone(), units: units.clone() };
        let (known, kept) = ((keys.clone(), locks.clone()), (records.clone(), claims.clone()));
        Self::new(served, known, kept, (senders.clone(), fabrics.clone()))
    }

    pub(super) fn new(
        served: ServedParts,
        (keys, locks): (UnitKeys, AddressLocks),
        (records, claims): (Arc<Records>, ImageClaims),
        (cores, fabrics): (Vec<Sender<Message>>, SharesByFabric),
    ) -> Self {
        let linked = served.units.iter().any(|unit| unit.owner.is_some());
        let changer = Mutex::new(Changer { keys, locks, last: Ticket::default(), linked });
        let applying = Mutex::default();
        Self { served: RwLock::new(Arc::new(served)), cores, fabrics, records, claims, applying, changer }
    }

    /// What is served now.
    pub(super) fn served(&self) -> Arc<ServedParts> {
        self.served.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn changer(&self) -> MutexGuard<'_, Changer> {
        self.changer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Brings what is new, and takes away what is gone. The error says why everything is as before.
    pub(super) fn change(
        &self,
        changer: &mut Changer,
        config: Config,
        replaced: Replaced<'_>,
    ) -> Result<GoneUnits, String> {
        let old = self.served();
        distinct_devices(&old.config, &config)?;
        let config = Arc::new(config);
        let mut keys = changer.keys.clone();
        let stays = |unit: &&Arc<Unit>| {
            let name = &unit.options.name;
            !replaced.units.contains(name) && config.units.iter().any(|new| new.name == *name)
        };
        let (staying, gone): (Vec<_>, Vec<_>) = old.units.iter().cloned().partition(|unit| stays(&unit));
        let known = |name: &str| staying.iter().find(|unit| unit.options.name == name);
        let by_name = config.units.iter().map(|unit| {
            let key = known(&unit.name).map_or_else(|| keys.allocate(), |known| known.key);
            (unit.name.clone(), key)
        });
        let by_name: KeysByName = by_name.collect();
        let (ids, record) = build::port_ids(&config, &self.records)?;
        let exports = build::exports(&config, &by_name, &ids)?;
        let mut owners = OwnersByName::new();
        for unit in old.units.iter().filter(|unit| by_name.contains_key(&unit.options.name)) {
            let group = build::library_of(&config, &unit.options).unwrap_or(&unit.options.name);
            unit.owner.map(|owner| owners.entry(group.to_owned()).or_insert(owner));
        }
        let mut opened = OpenedUnits { live: self, units: Vec::new() };
        let mut units = Vec::new();
        for options in &config.units {
            units.push(match known(&options.name) {
                Some(known) => known.clone(),
                None => {
                    let key = (by_name[&options.name], build::owner(&config, options, &mut owners));
                    let unopened = replaced.unopened.contains(&options.name);
                    opened.open(&config, options, key, &exports, (&gone, unopened))?
                }
            });
        }
        self.lendable(&config, &opened.units, &gone)?;
        build::keep_identities(&config, opened.units.iter().map(|unit| &unit.options).collect::<Vec<_>>())?;
        let before: Vec<_> = old.config.addresses().collect();
        let (listeners, locks) = ports::listen(&config, (&before, &changer.locks))?;
        let had = |port: &str| old.config.ports.iter().any(|known| known.name == port);
        let new_ports = config.ports.iter().filter(|port| !had(&port.name));
        // What such a port shares with others is there already, or never: it is not fixed.
        let (new_ports, _) = ports::start(&config, new_ports, &listeners)?;
        let taken = |(port, shares): (String, Vec<PortShare>)| {
            (port, shares.into_iter().map(|share| Mutex::new(Some(share))).collect())
        };
        let ports_gone =
            old.config.ports.iter().filter(|old| config.ports.iter().all(|new| new.name != old.name));
        let added = config.addresses().filter(|taken| !before.contains(taken) && had(taken.port));
        let of_fabrics = exports.iter().cloned().zip(self.fabrics.iter().map(Vec::len));
        let links = !changer.linked && opened.units.iter().any(|unit| unit.owner.is_some());
        let links = if links { connect(self.cores.len()) } else { Vec::new() };
        let linked = !links.is_empty();
        let plan = LiveChange {
            exports: of_fabrics.collect(),
            units: opened.units.clone(),
            ports: new_ports.into_iter().map(taken).collect(),
            gone: ports_gone.map(|port| port.name.clone()).collect(),
            listeners: added.map(|taken| listener(taken, &listeners)).collect(),
            links: links.into_iter().map(Mutex::new).collect(),
        };
        let ticket = changer.ticket();
        let retires: Vec<UnitKey> = gone.iter().map(|unit| unit.key).collect();
        let (to, retired) = sync_channel(self.cores.len() * retires.len());
        self.agree(ticket, Arc::new(plan), |ticket| TopologyMessage::Commit {
            ticket,
            retires: retires.clone(),
            to: to.clone(),
        })?;
        opened.units.clear();
        build::keep_port_ids(&config, &ids, record);
        (changer.keys, changer.locks) = (keys, locks);
        changer.linked |= linked;
        let served = ServedParts { config: config.clone(), units };
        *self.served.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(served);
        self.regroup(&old.config, &config, &exports);
        Ok(GoneUnits { units: gone, retired })
    }

    /// Has all cores make their shares ready, and puts them in force if all agree.
    fn agree(
        &self,
        ticket: Ticket,
        plan: Arc<LiveChange>,
        commit: impl Fn(Ticket) -> TopologyMessage,
    ) -> Result<(), String> {
        let (to, votes) = sync_channel(self.cores.len());
        for sender in &self.cores {
            let plan = plan.clone();
            let make: MakeShare = Box::new(move |context| plan.share(context));
            sender.send(Message::Topology(TopologyMessage::Prepare { ticket, make, to: to.clone() }));
        }
        drop((to, plan));
        let mut ballot = Ballot::new(ticket, self.cores.len());
        let deadline = Instant::now() + VOTE_TIME;
        let decision = loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let decision = match votes.recv_timeout(left) {
                Ok(Vote { core, ticket, vote }) => ballot.vote(core, ticket, vote).cloned(),
                Err(RecvTimeoutError::Timeout) => Some(ballot.give_up("a reactor does not answer").clone()),
                Err(RecvTimeoutError::Disconnected) => Some(ballot.give_up("the daemon is stopping").clone()),
            };
            if let Some(decision) = decision {
                break decision;
            }
        };
        let all = |message: &dyn Fn() -> TopologyMessage| {
            self.cores.iter().for_each(|core| core.send(Message::Topology(message())));
        };
        match decision {
            Decision::Commit => {
                all(&|| commit(ticket));
                Ok(())
            }
            Decision::Abort(why) => {
                all(&|| TopologyMessage::Abort(ticket));
                Err(why)
            }
        }
    }

    /// Memory that a port reads by itself is registered when that is set up; from elsewhere it would copy all payload.
    fn lendable(&self, config: &Config, units: &[Arc<Unit>], gone: &[Arc<Unit>]) -> Result<(), String> {
        let fixed = config.ports.iter().find(|port| port.options.is_fixed());
        let lends = |unit: &&Arc<Unit>| {
            let backing = unit.backing();
            let is_same = |(new, old): (&Arc<_>, Arc<_>)| Arc::ptr_eq(new, &old);
            if gone.iter().any(|gone| backing.as_ref().zip(gone.backing()).is_some_and(is_same)) {
                return false;
            }
            let region = backing.as_ref().and_then(|backing| backing.region());
            region.is_some_and(|region| region.pages().pages == Pages::Huge && region.pages().writable)
        };
        match (units.iter().find(lends), fixed) {
            (Some(unit), Some(port)) => {
                let UnitOptions { kind, name, .. } = &unit.options;
                Err(format!("needs a restart: {kind} {name:?} lends memory to the port {:?}", port.name))
            }
            _ => Ok(()),
        }
    }

    /// Units that stay are reached through other ports, perhaps, and port groups are in the states that are wanted
    /// anew.
    fn regroup(&self, old: &Config, new: &Config, exports: &ExportsByFabric) {
        let restated = Difference::between(old, new).port_groups;
        let is_restated =
            |tag: u16| new.port_groups.iter().any(|group| group.group == tag && restated.is_new(&group.name));
        let mut changes = Vec::new();
        for Unit { key, state, .. } in self.served().units.iter().map(|unit| &**unit) {
            let current = state.current();
            let wanted = build::groups(new, exports, *key);
            let mut groups = wanted.clone();
            for group in &mut groups {
                if let Some(known) = current.groups().iter().find(|known| known.id == group.id) {
                    (group.state, group.status) = (known.state, known.status);
                }
            }
            if groups != current.groups() {
                changes.push((*key, Change::Ports(groups)));
            }
            let states =
                wanted.iter().filter(|group| is_restated(group.id)).map(|group| (group.id, group.state));
            let states: Vec<_> = states.collect();
            if !states.is_empty() {
                changes.push((*key, Change::Groups(states)));
            }
        }
        let (to, refused) = sync_channel(1);
        self.cores[0].send(Message::Change(changes, to));
        if refused.recv_timeout(RETIRE_TIME) != Ok(false) {
            warn!("target port groups are not all as the configuration has them");
        }
    }

    /// Waits until no core has to do with the units that go, and closes them. Nobody holds up other changes for that: a
    /// command of theirs may wait for one.
    pub(super) fn let_go(&self, GoneUnits { units: gone, retired }: GoneUnits) {
        let deadline = Instant::now() + RETIRE_TIME;
        let mut left = gone.len() * self.cores.len();
        while left > 0 {
            let time = deadline.saturating_duration_since(Instant::now());
            let Ok(RetiredUnit { unit, flushed }) = retired.recv_timeout(time) else {
                // The rows stay theirs.
                return warn!(
                    "logical units that are gone are not closed: a reactor still has something under way there"
                );
            };
            left -= 1;
            if let Err(e) = flushed
                && let Some(unit) = gone.iter().find(|it| it.key == unit)
            {
                let UnitOptions { kind, name, .. } = &unit.options;
                warn!("{kind} {name:?} is gone: the last writes may not be on stable storage ({})", e.kind);
            }
        }
        let keys: Vec<UnitKey> = gone.iter().map(|unit| unit.key).collect();
        let (done, dropped) = sync_channel::<()>(1);
        for core in &self.cores {
            core.send(Message::Topology(TopologyMessage::Remove(keys.clone(), done.clone())));
        }
        drop(done);
        // Nothing is sent: they hang up.
        _ = dropped.recv_timeout(RETIRE_TIME);
        let served = self.served();
        for unit in gone {
            // Somebody may be reading its status.
            drop(unit.medium().take());
            self.changer().keys.release(unit.key);
            self.records.release(unit.slot());
            let UnitOptions { kind, name, .. } = &unit.options;
            match served.units.iter().any(|new| new.options.name == *name) {
                true => info!("{kind} {name:?} is another one"),
                false => info!("{kind} {name:?} is gone"),
            }
        }
    }
}

/// A listener of a portal that is new, by its name.
fn listener(taken: FabricAddress<'_>, listeners: &Listeners) -> (Arc<str>, Listener) {
    let FabricAddress { portal, address, .. } = taken;
    let socket = listeners.get(portal);
    let listener = socket.map_or(Listener::At(address), |socket| Listener::Shared(socket.clone()));
    (portal.into(), listener)
}

/// Units that were opened for a change. If that is given up, so are they.
struct OpenedUnits<'a> {
    live: &'a Live,
    units: Vec<Arc<Unit>>,
}

impl OpenedUnits<'_> {
    fn open(
        &mut self,
        config: &Config,
        options: &UnitOptions,
        key: (UnitKey, Option<usize>),
        exports: &ExportsByFabric,
        (gone, unopened): (&[Arc<Unit>], bool),
    ) -> Result<Arc<Unit>, String> {
        let parts = (&*self.live.records, &self.live.claims, &**exports);
        let before = gone.iter().find(|gone| gone.options.name == options.name);
        let same = before.filter(|before| !options.is_drive() && options.has_store_of(&before.options));
        let medium = match same.and_then(|same| same.medium().clone()) {
            Some(medium) => NewMedium::Shared(medium),
            None if unopened => NewMedium::Later,
            None => NewMedium::Configured,
        };
        let is_same = |gone: &&Arc<Unit>| gone.options.identity.uuid() == options.identity.uuid();
        let state = gone.iter().find(is_same).map(|gone| gone.state.clone());
        let unit = Arc::new(build::unit(config, options, key, parts, (medium, state))?);
        self.units.push(unit.clone());
        Ok(unit)
    }
}

impl Drop for OpenedUnits<'_> {
    fn drop(&mut self) {
        self.units.iter().for_each(|unit| self.live.records.release(unit.slot()));
    }
}

/// A device whose port goes cannot be another's at the same time.
fn distinct_devices(old: &Config, new: &Config) -> Result<(), String> {
    let added = new.ports.iter().filter(|port| old.ports.iter().all(|known| known.name != port.name));
    for port in added {
        let Some(link) = port.options.link() else { continue };
        let has =
            |known: &&ConfiguredPort| known.options.link().is_some_and(|known| known.device == link.device);
        if let Some(known) = old.ports.iter().find(has) {
            return Err(format!(
                "port {:?}: its device is that of {:?}: take that away first, or keep its name",
                port.name, known.name
            ));
        }
    }
    Ok(())
}
