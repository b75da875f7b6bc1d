// SPDX-License-Identifier: GPL-2.0-or-later
//! Another configuration while the daemon runs: what is new is opened here and made ready on all cores, and if all
//! agree it is in force, with what has gone; else nothing has changed. Nothing waits on a core.
//!
//! A logical unit of which something else is said goes, and comes again; what was reserved there stays.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use log::{info, warn};

use super::build::{self, Assembly, ExportsByFabric, KeysByName, SharesByFabric, Unit};
use super::ports::{self, AddressLocks, Listeners};
use crate::adapters::fabric::{FabricAddress, FabricExports, PortsChange};
use crate::control::config::difference::{ConfigChanges, Difference};
use crate::control::config::{self, Config, Scope};
use crate::engine::agreement::{Ballot, Decision, Ticket};
use crate::engine::shard::Message;
use crate::engine::tasks::{SharedState, UnitKey, UnitKeys};
use crate::engine::topology::{MakeShare, RetiredUnit, TopologyMessage, TopologyShare, Vote};
use crate::engine::units::{UnitOptions, kind};
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
    /// One change at a time.
    changer: Mutex<Changer>,
}

/// What a change needs that the next one needs, too.
pub(super) struct Changer {
    keys: UnitKeys,
    locks: AddressLocks,
    last: Ticket,
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
        Ok(TopologyShare { units, fabrics: parts.collect() })
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
        let changer = Mutex::new(Changer { keys, locks, last: Ticket::default() });
        Self { served: RwLock::new(Arc::new(served)), cores, fabrics, records, claims, changer }
    }

    /// What is served now.
    pub(super) fn served(&self) -> Arc<ServedParts> {
        self.served.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn changer(&self) -> MutexGuard<'_, Changer> {
        self.changer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves what the configuration says in that file. Waits for what is under way at logical units that go. The error
    /// says why everything is as before.
    pub(super) fn apply(&self, path: &Path) -> Result<(), String> {
        let new = config::load(path, Scope::Machine)
            .map_err(|(text, found)| config::render(path, &text, &found))?;
        let mut changer = self.changer();
        let old = self.served();
        let Difference { units: ConfigChanges { added, mut changed, removed }, mut restarts, .. } =
            Difference::between(&old.config, &new);
        let media: Vec<String> =
            changed.extract_if(.., |name| has_another_medium(name, &old.config, &new)).collect();
        // The owner of a unit that runs one command at a time is settled at the start.
        let all = old.config.units.iter().chain(&new.units);
        let is_serial = |name: &&String| {
            all.clone().any(|unit| unit.name == **name && kind(unit.kind).is_some_and(|kind| kind.serial))
        };
        let units = added.iter().chain(&changed).chain(&removed);
        restarts.extend(units.filter(|name| is_serial(name)).cloned());
        if !restarts.is_empty() {
            return Err(format!("needs a restart: {}", restarts.join(", ")));
        }
        self.exchange_media(&mut changer, &media, &old.config, &new)?;
        let done = self.change_with(&mut changer, new.clone(), &changed);
        done.map_err(|why| match self.exchange_media(&mut changer, &media, &new, &old.config) {
            Ok(()) => why,
            Err(e) => format!("{why}; and {e}"),
        })
    }

    /// The same, when nothing needs a restart and media are where they belong. If it fails they come back, as if loaded
    /// anew.
    fn change_with(&self, changer: &mut Changer, new: Config, changed: &[String]) -> Result<(), String> {
        let old = self.served();
        if changed.is_empty() {
            return self.change(changer, new, &BTreeMap::new());
        }
        // Their stores may be the same ones: they are closed before they are opened.
        let states = states(&old.units);
        self.change(changer, without(&new, changed), &states)?;
        let Err(why) = self.change(changer, new, &states) else { return Ok(()) };
        match self.change(changer, Config::clone(&old.config), &states) {
            Ok(()) => Err(why),
            Err(e) => Err(format!("{why}; and {} cannot be brought back: {e}", changed.join(", "))),
        }
    }

    /// Brings what is new, and takes away what is gone. Units that come may have had a state before.
    fn change(
        &self,
        changer: &mut Changer,
        config: Config,
        states: &BTreeMap<String, Arc<SharedState>>,
    ) -> Result<(), String> {
        let old = self.served();
        distinct_devices(&old.config, &config)?;
        let config = Arc::new(config);
        let mut keys = changer.keys.clone();
        let known = |name: &str| old.units.iter().find(|unit| unit.options.name == name);
        let by_name = config.units.iter().map(|unit| {
            let key = known(&unit.name).map_or_else(|| keys.allocate(), |known| known.key);
            (unit.name.clone(), key)
        });
        let by_name: KeysByName = by_name.collect();
        let (ids, record) = build::port_ids(&config, &self.records)?;
        let exports = build::exports(&config, &by_name, &ids)?;
        let mut units = Vec::new();
        let mut opened = OpenedParts { live: self, units: Vec::new() };
        for options in &config.units {
            units.push(match known(&options.name) {
                Some(known) => known.clone(),
                None => opened.open(&config, options, by_name[&options.name], &exports, states)?,
            });
        }
        self.lendable(&config, &opened.units)?;
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
        let plan = LiveChange {
            exports: of_fabrics.collect(),
            units: opened.units.clone(),
            ports: new_ports.into_iter().map(taken).collect(),
            gone: ports_gone.map(|port| port.name.clone()).collect(),
            listeners: added.map(|taken| listener(taken, &listeners)).collect(),
        };
        let is_gone = |unit: &&Arc<Unit>| config.units.iter().all(|new| new.name != unit.options.name);
        let gone: Vec<Arc<Unit>> = old.units.iter().filter(is_gone).cloned().collect();
        let ticket = changer.ticket();
        let retires: Vec<UnitKey> = gone.iter().map(|unit| unit.key).collect();
        let (to, retired) = sync_channel(self.cores.len() * retires.len());
        self.agree(ticket, Arc::new(plan), |ticket| TopologyMessage::Commit {
            ticket,
            retires: retires.clone(),
            to: to.clone(),
        })?;
        drop(to);
        opened.units.clear();
        build::keep_port_ids(&config, &ids, record);
        (changer.keys, changer.locks) = (keys, locks);
        let served = ServedParts { config: config.clone(), units };
        *self.served.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(served);
        self.regroup(&old.config, &config, &exports);
        drop(old);
        self.let_go(changer, gone, &retired);
        info!("another configuration is in force");
        Ok(())
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
    fn lendable(&self, config: &Config, units: &[Arc<Unit>]) -> Result<(), String> {
        let fixed = config.ports.iter().find(|port| port.options.is_fixed());
        let lends = |unit: &&Arc<Unit>| {
            let backing = unit.backing();
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

    /// Waits until no core has to do with the units that go, and closes them.
    fn let_go(&self, changer: &mut Changer, gone: Vec<Arc<Unit>>, retired: &Receiver<RetiredUnit>) {
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
        for unit in gone {
            // Somebody may be reading its status.
            drop(unit.medium().take());
            changer.keys.release(unit.key);
            self.records.release(unit.slot());
            info!("{} {:?} is gone", unit.options.kind, unit.options.name);
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
struct OpenedParts<'a> {
    live: &'a Live,
    units: Vec<Arc<Unit>>,
}

impl OpenedParts<'_> {
    fn open(
        &mut self,
        config: &Config,
        options: &UnitOptions,
        key: UnitKey,
        exports: &ExportsByFabric,
        states: &BTreeMap<String, Arc<SharedState>>,
    ) -> Result<Arc<Unit>, String> {
        let kept = (&*self.live.records, &self.live.claims);
        let mut unit = build::unit(config, options, (key, None), kept, exports)?;
        if let Some(state) = states.get(&options.identity.uuid().to_string()) {
            unit.state = state.clone();
        }
        let unit = Arc::new(unit);
        self.units.push(unit.clone());
        Ok(unit)
    }
}

impl Drop for OpenedParts<'_> {
    fn drop(&mut self) {
        self.units.iter().for_each(|unit| self.live.records.release(unit.slot()));
    }
}

/// The states of units, by their UUIDs.
fn states(units: &[Arc<Unit>]) -> BTreeMap<String, Arc<SharedState>> {
    units.iter().map(|unit| (unit.options.identity.uuid().to_string(), unit.state.clone())).collect()
}

/// A configuration without some units.
fn without(config: &Config, units: &[String]) -> Config {
    let mut rest = config.clone();
    rest.units.retain(|unit| !units.contains(&unit.name));
    for fabric in &mut rest.fabrics {
        *fabric = fabric.without(units);
    }
    rest
}

/// Whether a unit differs in its medium alone.
fn has_another_medium(name: &str, old: &Config, new: &Config) -> bool {
    let find = |config: &'_ Config| config.units.iter().find(|unit| unit.name == name).cloned();
    find(old).zip(find(new)).is_some_and(|(old, new)| old.has_another_medium(&new))
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
