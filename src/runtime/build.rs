// SPDX-License-Identifier: GPL-2.0-or-later
//! What the reactors share, built once, and what each builds for itself on its own thread.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use log::{info, warn};

use super::librarian::{Librarian, MoveRequests, librarian};
use super::ports::{self, AddressLocks, HeldByPorts};
use crate::adapters::fabric::{FabricExports, KnownKeys};
use crate::control::config::{Config, Hugepages};
use crate::control::privileges;
use crate::engine::fabric::FabricShare;
use crate::engine::links::{LinkEnd, PeerLinks, connect};
use crate::engine::port_ids::{PORT_IDS_RECORD, PortIds};
use crate::engine::shard::{Message, Parts};
use crate::engine::tasks::{CommandFaults, NewUnit, SharedState, TaskManager, UnitKey, UnitKeys};
use crate::engine::units::{UnitOptions, kind};
use crate::io::RecordSlot;
use crate::memory::{Arena, Pages};
use crate::net::StreamHosts;
use crate::ports::PortShare;
use crate::reactor::{CoreContext, Idle, Mailbox, Sender, mailboxes};
use crate::scsi::UnitState;
use crate::scsi::alua::Group;
use crate::scsi::primary::{INFORMATION_RECORD, LogicalUnit, MODE_RECORD, MediumPresence, MissingLun};
use crate::scsi::reservations::{RECORD_NAME, Reservations};
use crate::stores::{
    self, Backing, CommonRecord, ConfiguredStore, ImageClaim, ImageClaims, ImagePlace, Records,
};
use crate::sys;

/// The library that a unit is, or is a drive of.
pub(super) fn library_of<'a>(config: &'a Config, unit: &UnitOptions) -> Option<&'a str> {
    let has = |library: &&UnitOptions| {
        let plan = library.device.library();
        plan.is_some_and(|plan| library.name == unit.name || plan.drives.contains(&unit.name))
    };
    config.units.iter().find(has).map(|library| &*library.name)
}

/// A logical unit as all cores share it.
pub(super) struct Unit {
    pub(super) key: UnitKey,
    pub(super) options: UnitOptions,
    pub(super) device: Arc<dyn LogicalUnit>,
    pub(super) state: Arc<SharedState>,
    /// The reactor that carries out all of its commands, one at a time.
    pub(super) owner: Option<usize>,
    /// What is behind it. A unit that takes its place may have the same.
    medium: Mutex<Option<Arc<OpenMedium>>>,
    slot: RecordSlot,
    faults: Option<Arc<CommandFaults>>,
}

/// What is behind a unit: open, and nobody else's. Closed when it is dropped, which waits for the disk.
pub(super) struct OpenMedium {
    pub(super) store: ConfiguredStore,
    pub(super) backing: Arc<dyn Backing>,
    _claim: Option<ImageClaim>,
}

/// What is to be behind a unit.
pub(super) enum NewMedium {
    /// What the configuration says.
    Configured,
    /// That of the unit whose place it takes.
    Shared(Arc<OpenMedium>),
    /// It comes later.
    Later,
}

/// The cores that own units which run one command at a time, by the names of libraries and of units in none.
pub(super) type OwnersByName = BTreeMap<String, usize>;

/// The keys of logical units, by name.
pub(super) type KeysByName = BTreeMap<String, UnitKey>;

/// What each fabric exports, in the order of [`crate::adapters::FABRICS`].
pub(super) type ExportsByFabric = Vec<Arc<dyn FabricExports>>;

/// What cores share of each fabric, in the same order.
pub(super) type SharesByFabric = Vec<Vec<Arc<dyn FabricShare>>>;

/// What is made before the threads start.
pub(super) struct Assembly {
    pub(super) config: Arc<Config>,
    pub(super) keys: UnitKeys,
    pub(super) records: Arc<Records>,
    pub(super) claims: ImageClaims,
    pub(super) units: Vec<Arc<Unit>>,
    exports: ExportsByFabric,
    left: Arc<AtomicUsize>,
    pub(super) locks: AddressLocks,
    pub(super) senders: Vec<Sender<Message>>,
    pub(super) fabrics: SharesByFabric,
    /// What each reactor takes with it.
    shares: Vec<Mutex<Option<CoreShare>>>,
    /// By which cores have the media of libraries moved, until all of them have it.
    librarian: Option<Librarian>,
    /// What they ask for.
    requests: Option<MoveRequests>,
    _held: HeldByPorts,
}

/// What is a reactor's alone before it starts.
struct CoreShare {
    mailbox: Mailbox<Message>,
    links: Vec<LinkEnd>,
    ports: Vec<(String, PortShare)>,
}

/// What a reactor is built from, on its own thread.
pub(super) struct CoreAssembly {
    core: usize,
    config: Arc<Config>,
    records: Arc<Records>,
    units: Vec<Arc<Unit>>,
    left: Arc<AtomicUsize>,
    peers: Vec<Sender<Message>>,
    mailbox: Mailbox<Message>,
    links: Vec<LinkEnd>,
    ports: Vec<(String, PortShare)>,
    fabrics: SharesByFabric,
    librarian: Option<Librarian>,
}

impl Assembly {
    pub(super) fn new(config: &Config) -> Result<Self, String> {
        let records = Records::new(&config.daemon.state_dir);
        let claims = ImageClaims::default();
        let mut keys = UnitKeys::default();
        let by_name: KeysByName =
            config.units.iter().map(|unit| (unit.name.clone(), keys.allocate())).collect();
        let (ids, record) = port_ids(config, &records)?;
        keep_port_ids(config, &ids, record);
        let exports = exports(config, &by_name, &ids)?;
        let mut units = Vec::new();
        let cores = config.daemon.reactors.len();
        let mut owners = OwnersByName::new();
        for options in &config.units {
            let key = (by_name[&options.name], owner(config, options, &mut owners));
            let parts = (&records, &claims, &*exports);
            units.push(Arc::new(unit(config, options, key, parts, (NewMedium::Configured, None))?));
        }
        keep_identities(config, &config.units)?;
        let (librarian, requests) = librarian();
        let (listeners, locks) = ports::listen(config, (&[], &AddressLocks::new()))?;
        let linked = units.iter().any(|unit: &Arc<Unit>| unit.owner.is_some());
        let mut links = if linked { connect(cores) } else { Vec::new() }.into_iter();
        let (senders, boxes) = mailboxes(cores).map_err(|e| format!("mailbox: {e}"))?;
        let fabrics = exports.iter().map(|exports| exports.clone().share(cores));
        let fabrics = fabrics.collect::<Result<_, _>>()?;
        // Records, DPDK and the reactors start threads, which inherit what is left.
        if config.daemon.drop_privileges {
            match privileges::give_up(config) {
                Ok(change) => change.into_iter().for_each(|line| info!("{line}")),
                Err(e) => warn!("capabilities cannot be given up: {e}"),
            }
        }
        records.start().map_err(|e| format!("state directory: {e}"))?;
        let (started, held) = ports::start(config, config.ports.iter(), &listeners)?;
        drop(listeners);
        let mut of_ports: Vec<Vec<(String, PortShare)>> = (0..cores).map(|_| Vec::new()).collect();
        for (port, shares) in started {
            for (core, share) in of_ports.iter_mut().zip(shares) {
                core.push((port.clone(), share));
            }
        }
        let shares = boxes.into_iter().zip(of_ports).map(|(mailbox, ports)| {
            let links = links.next().unwrap_or_default();
            Mutex::new(Some(CoreShare { mailbox, links, ports }))
        });
        let shares = shares.collect();
        Ok(Self {
            exports,
            config: Arc::new(config.clone()),
            keys,
            records: Arc::new(records),
            claims,
            units,
            left: Arc::new(AtomicUsize::new(cores)),
            locks,
            senders,
            fabrics,
            shares,
            librarian: Some(librarian),
            requests: Some(requests),
            _held: held,
        })
    }

    pub(super) fn senders(&self) -> Vec<Sender<Message>> {
        self.senders.clone()
    }

    /// What cores ask of libraries, when all of them have been begun.
    pub(super) fn take_requests(&mut self) -> Option<MoveRequests> {
        self.librarian = None;
        self.requests.take()
    }

    pub(super) fn core(&self, core: usize) -> CoreAssembly {
        let share = self.shares[core].lock().unwrap_or_else(PoisonError::into_inner).take();
        let CoreShare { mailbox, links, ports } = share.expect("each reactor is seeded once");
        CoreAssembly {
            core,
            config: self.config.clone(),
            records: self.records.clone(),
            units: self.units.clone(),
            left: self.left.clone(),
            peers: self.senders.clone(),
            mailbox,
            links,
            ports,
            fabrics: self.fabrics.clone(),
            librarian: self.librarian.clone(),
        }
    }

    /// Says what is served where.
    pub(super) fn announce(&self) {
        self.exports.iter().flat_map(|exports| exports.announce()).for_each(|line| info!("{line}"));
    }
}

/// What units are made with: their records, who has which image, and what is exported.
pub(super) type UnitParts<'a> = (&'a Records, &'a ImageClaims, &'a [Arc<dyn FabricExports>]);

/// The core that is to own a unit, if it is one that runs one command at a time: a library and its drives have one. The
/// core that owns least, the last one first: the first one has most to do beside.
pub(super) fn owner(config: &Config, options: &UnitOptions, owners: &mut OwnersByName) -> Option<usize> {
    if !kind(options.kind).is_some_and(|kind| kind.serial) {
        return None;
    }
    let group = library_of(config, options).unwrap_or(&options.name);
    if let Some(owner) = owners.get(group) {
        return Some(*owner);
    }
    let owned = |core: &usize| owners.values().filter(|owner| *owner == core).count();
    let least = (0..config.daemon.reactors.len()).rev().min_by_key(owned)?;
    owners.insert(group.to_owned(), least);
    Some(least)
}

/// A logical unit of the configuration, with what is to be behind it. It may have the state of one whose place it
/// takes.
pub(super) fn unit(
    config: &Config,
    options: &UnitOptions,
    key: (UnitKey, Option<usize>),
    parts: UnitParts<'_>,
    (medium, shared): (NewMedium, Option<Arc<SharedState>>),
) -> Result<Unit, String> {
    let UnitOptions { kind, name, .. } = options;
    let records = parts.0;
    let slot = records.slot(&options.identity.uuid().to_string());
    let slot = slot.map_err(|e| format!("{kind} {name:?}: state directory: {e}"))?;
    open_unit(config, options, (key, slot), parts, (medium, shared)).map_err(|e| {
        records.release(slot);
        format!("{kind} {name:?}: {e}")
    })
}

fn open_unit(
    config: &Config,
    options: &UnitOptions,
    ((key, owner), slot): ((UnitKey, Option<usize>), RecordSlot),
    (records, claims, exports): UnitParts<'_>,
    (medium, shared): (NewMedium, Option<Arc<SharedState>>),
) -> Result<Unit, String> {
    let UnitOptions { kind: name_of_kind, name, command_faults: rules, .. } = options;
    let state = shared.map_or_else(|| state(config, exports, records, slot, key), Ok)?;
    let presence = match medium {
        NewMedium::Later if !options.is_drive() => MediumPresence::Coming,
        _ => MediumPresence::Absent,
    };
    let open = |store| open_medium(config, options, store, (records, claims), slot).map(Arc::new);
    let medium = match medium {
        NewMedium::Configured => options.store.as_ref().map(open).transpose()?,
        NewMedium::Shared(medium) => {
            remember_image(options, &medium, (records, slot))?;
            Some(medium)
        }
        NewMedium::Later => None,
    };
    if !rules.is_empty() {
        warn!("{name_of_kind} {name:?}: commands are delayed or fail, by {} rules", rules.len());
    }
    let faults = (!rules.is_empty()).then(|| Arc::new(CommandFaults::new(options.fault_seed, rules)));
    let device = options.device.unit(config.daemon.management_url.clone(), sys::monotonic_origin());
    saved_modes(&*device, records, slot)?;
    information(&*device, records, slot)?;
    if medium.is_none() && (options.store.is_some() || options.is_drive()) {
        device.set_presence(presence);
    }
    let medium = Mutex::new(medium);
    Ok(Unit { key, options: options.clone(), device, state, owner, medium, slot, faults })
}

impl Unit {
    /// A core's share of it.
    pub(super) fn attach(&self, context: &CoreContext) -> Result<NewUnit, String> {
        let Self { key, options: UnitOptions { kind, name, .. }, device, state, owner, .. } = self;
        let Self { slot, faults, .. } = self;
        let here = owner.is_none_or(|owner| owner == context.core());
        let backing = self.backing().filter(|_| here);
        let store = backing.map(|backing| backing.attach(context)).transpose();
        Ok(NewUnit {
            key: *key,
            owner: *owner,
            server: device.clone().device_server(),
            store: store.map_err(|e| format!("{kind} {name:?}: {e}"))?,
            state: state.clone(),
            slot: Some(*slot),
            faults: faults.clone(),
        })
    }

    /// Where its records are.
    pub(super) fn slot(&self) -> RecordSlot {
        self.slot
    }

    /// What is behind it. Held for moments only.
    pub(super) fn medium(&self) -> MutexGuard<'_, Option<Arc<OpenMedium>>> {
        self.medium.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is behind it, for those who attach to that.
    pub(super) fn backing(&self) -> Option<Arc<dyn Backing>> {
        self.medium().as_ref().map(|medium| medium.backing.clone())
    }
}

impl OpenMedium {
    /// Its image, if it has one.
    pub(super) fn image(&self) -> Option<&Path> {
        self.store.options.image().map(|(path, _)| path)
    }
}

/// Opens what is to be behind a unit, unless another one has it.
pub(super) fn open_medium(
    config: &Config,
    unit: &UnitOptions,
    store: &ConfiguredStore,
    (records, claims): (&Records, &ImageClaims),
    slot: RecordSlot,
) -> Result<OpenMedium, String> {
    let UnitOptions { kind, name, faults, .. } = unit;
    let (who, image) = (format!("{kind} {name:?}"), store.options.image().map(|(path, _)| path));
    let taken = |whose: String| {
        let shown = image.map(|image| image.display().to_string()).unwrap_or_default();
        format!("{shown} is that of {whose} already")
    };
    let mut claim =
        image.map(|image| claims.claim(ImagePlace::of(image), &who)).transpose().map_err(taken)?;
    let huge = config.daemon.hugepages != Hugepages::Never;
    let (needs, record) = (unit.device.needs(), unit.record(&config.daemon.state_dir));
    if unit.is_to_be_made() {
        // An image that is there without an identity is one that was there before.
        unit.keep_identity(&config.daemon.state_dir)?;
    }
    let opened = at_home(config.daemon.reactors[0], || store.options.open(needs, record, huge));
    let mut backing = opened.map_err(|e| e.to_string())?;
    if let (Some(claim), Some(image)) = (&mut claim, image) {
        claim.extend(ImagePlace::of(image), &who).map_err(taken)?;
    }
    if !faults.is_empty() {
        warn!("{who}: its store injects faults, by {} rules", faults.len());
        backing = stores::wrapped(backing, unit.fault_seed, faults.clone());
    }
    let medium = OpenMedium { store: store.clone(), backing, _claim: claim };
    remember_image(unit, &medium, (records, slot))?;
    Ok(medium)
}

/// While the image is missing an empty one in its place would be another disk. What lies in memory is gone after a
/// restart of the machine, and may be made again.
fn remember_image(
    unit: &UnitOptions,
    medium: &OpenMedium,
    (records, slot): (&Records, RecordSlot),
) -> Result<(), String> {
    if let Some((image, true)) = medium.store.options.image()
        && !unit.device.needs().read_only
        && medium.backing.lasts()
    {
        let remembered = records.remember_image(slot, image);
        remembered.map_err(|e| format!("cannot record that it has an image: {e}"))?;
    }
    Ok(())
}

/// Keeps the identities of images, which are locked by now. Each waits for the disk, so there are several at a time.
pub(super) fn keep_identities<'a>(
    config: &Config,
    units: impl IntoIterator<Item = &'a UnitOptions, IntoIter: ExactSizeIterator + Send>,
) -> Result<(), String> {
    const AT_A_TIME: usize = 16;
    let units = units.into_iter();
    let threads = AT_A_TIME.min(units.len());
    let units = Mutex::new(units);
    let next = || units.lock().unwrap_or_else(PoisonError::into_inner).next();
    let keep = || {
        while let Some(unit) = next() {
            unit.keep_identity(&config.daemon.state_dir)
                .map_err(|e| format!("{} {:?}: {e}", unit.kind, unit.name))?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(keep)).collect();
        threads.into_iter().try_for_each(|thread| thread.join().expect("it does not panic"))
    })
}

/// Does what takes memory for all reactors where the first one runs: huge pages are taken at once, and come from the
/// NUMA node of the thread that asks for them. `ptgt doctor` counts with that.
fn at_home<T>(processor: Option<usize>, work: impl FnOnce() -> T) -> T {
    let before = sys::affinity();
    // One that it cannot run on is an error of the reactor's.
    let bound = processor.is_some_and(|processor| sys::pin_to_core(processor).is_ok());
    let done = work();
    if bound
        && let Ok(before) = before
        && let Err(e) = sys::set_affinity(&before)
    {
        warn!("cannot restore the processors of the main thread: {e}");
    }
    done
}

/// The target port groups of a logical unit.
pub(super) fn groups(config: &Config, exports: &[Arc<dyn FabricExports>], key: UnitKey) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for port in exports.iter().flat_map(|exports| exports.ports_of(key)) {
        if let Some(group) = groups.iter_mut().find(|group| group.id == port.group) {
            group.ports.push(port);
            continue;
        }
        let configured = config.port_groups.iter().find(|group| group.group == port.group);
        groups.push(Group {
            id: port.group,
            state: configured.map(|group| group.state).unwrap_or_default(),
            preferred: configured.is_some_and(|group| group.preferred),
            ports: vec![port],
            status: 0,
        });
    }
    groups
}

/// The state of a disk at the start: its target port groups, and the reservations that were kept.
fn state(
    config: &Config,
    exports: &[Arc<dyn FabricExports>],
    records: &Records,
    slot: RecordSlot,
    key: UnitKey,
) -> Result<Arc<SharedState>, String> {
    let groups = groups(config, exports, key);
    let ports: Vec<_> = groups.iter().flat_map(|group| &group.ports).cloned().collect();
    let record = records.load(slot, RECORD_NAME).map_err(|e| format!("saved reservations: {e}"))?;
    let reservations = record.map(|record| Reservations::from_record(&record, &ports)).transpose();
    let reservations = reservations.map_err(|e| format!("saved reservations: {e}"))?;
    Ok(Arc::new(SharedState::new(UnitState::new(reservations.unwrap_or_default(), groups))))
}

/// The mode pages that initiators have saved.
fn saved_modes(unit: &dyn LogicalUnit, records: &Records, slot: RecordSlot) -> Result<(), String> {
    let record = records.load(slot, MODE_RECORD).map_err(|e| format!("saved mode pages: {e}"))?;
    record.map_or(Ok(()), |record| unit.load_modes(&record)).map_err(|e| format!("saved mode pages: {e}"))
}

/// The identifying information that initiators have set.
fn information(unit: &dyn LogicalUnit, records: &Records, slot: RecordSlot) -> Result<(), String> {
    let fail = |e: &dyn std::fmt::Display| format!("identifying information: {e}");
    let record = records.load(slot, INFORMATION_RECORD).map_err(|e| fail(&e))?;
    record.map_or(Ok(()), |record| unit.load_information(&record)).map_err(|e| fail(&e))
}

/// The relative target port identifiers, which are kept from one start to the next. It is no error if they cannot be:
/// none is lost that was, reservations are kept by the names of ports, and those who may not write there could serve so
/// far.
pub(super) fn port_ids(config: &Config, records: &Records) -> Result<(PortIds, CommonRecord), String> {
    let fail = |e: &dyn std::fmt::Display| format!("state directory: relative target port identifiers: {e}");
    let record = records.common(PORT_IDS_RECORD).map_err(|e| fail(&e))?;
    let ids = record.bytes().map(PortIds::from_record).transpose().map_err(|e| fail(&e))?;
    let mut ids = ids.unwrap_or_default();
    let ports: Vec<_> = config.fabrics.iter().flat_map(|fabric| fabric.target_ports()).collect();
    ids.assign(&ports).map_err(|e| format!("`port_ids`: {e}"))?;
    Ok((ids, record))
}

/// Keeps them.
pub(super) fn keep_port_ids(config: &Config, ids: &PortIds, record: CommonRecord) {
    if let Err(e) = record.replace(&ids.to_record()) {
        warn!(
            "relative target port identifiers cannot be kept in {}: {e}; those of new targets follow the configuration, unless \
             `port_ids` gives them",
            config.daemon.state_dir.display()
        );
    }
}

/// What each fabric exports.
pub(super) fn exports(config: &Config, keys: &KeysByName, ids: &PortIds) -> Result<ExportsByFabric, String> {
    let known = KnownKeys { unit: &|name| keys[name], ids };
    config.fabrics.iter().map(|fabric| fabric.exports(&known)).collect()
}

impl CoreAssembly {
    pub(super) fn idle(&self) -> Idle {
        self.config.daemon.idle
    }

    /// How many cores have not ended.
    pub(super) fn left(&self) -> Arc<AtomicUsize> {
        self.left.clone()
    }

    /// Makes what belongs to this core: memory, handles to the stores, ports.
    pub(super) fn build(self) -> Result<Parts, String> {
        let daemon = &self.config.daemon;
        if let Some(processor) = daemon.reactors[self.core]
            && let Err(e) = sys::pin_to_core(processor)
        {
            return Err(format!("reactor {}: cannot run on processor {processor}: {e}", self.core));
        }
        let context = CoreContext::new(self.core, self.peers.len(), self.arena()?);
        let mut tasks = TaskManager::new(&context, Box::new(MissingLun));
        let record_store = self.records.store().map_err(|e| format!("state directory: {e}"))?;
        for unit in &self.units {
            tasks.bring(unit.attach(&context)?);
        }
        tasks.persist_with(record_store, &[]);
        if let Some(librarian) = &self.librarian {
            tasks.move_with(librarian.mover().map_err(|e| format!("libraries: {e}"))?);
        }
        let mut hosts = Vec::new();
        for (port, share) in self.ports {
            let host = ports::open(&port, share, &context)?;
            hosts.push((port, host));
        }
        let streams = context.shared(|| Ok(StreamHosts::default())).map_err(|e| e.to_string())?;
        streams.extend(hosts);
        let fabrics: Result<_, String> =
            self.fabrics.iter().flatten().map(|fabric| fabric.attach(&context)).collect();
        // If none has taken them, they end before the core.
        drop(streams.take());
        let fabrics = fabrics?;
        let links = PeerLinks::new(&context, self.links);
        let (left, mailbox, peers) = (self.left, self.mailbox, self.peers);
        Ok(Parts { context, fabrics, tasks, left, mailbox, peers, links })
    }

    fn arena(&self) -> Result<Arena, String> {
        let daemon = &self.config.daemon;
        let huge = daemon.hugepages != Hugepages::Never;
        let arena = Arena::new(daemon.memory, huge).map_err(|e| format!("payload memory: {e}"))?;
        let mib = daemon.memory >> 20;
        match (arena.pages(), daemon.hugepages) {
            (Pages::Huge, _) => info!("reactor {}: {mib} MiB of payload memory in huge pages", self.core),
            (Pages::Ordinary, Hugepages::Require) => {
                return Err(format!(
                    "reactor {} needs {} more free huge pages of 2 MiB: ptgt doctor counts those of the whole \
                     configuration, and sysctl vm.nr_hugepages sets them aside",
                    self.core,
                    mib.div_ceil(2)
                ));
            }
            (Pages::Ordinary, Hugepages::Auto) => {
                warn!(
                    "reactor {}: {mib} MiB of payload memory in ordinary pages: too few huge pages",
                    self.core
                );
            }
            (Pages::Ordinary, Hugepages::Never) => {
                info!("reactor {}: {mib} MiB of payload memory in ordinary pages", self.core);
            }
        }
        Ok(arena)
    }
}

#[cfg(test)]
mod tests;
