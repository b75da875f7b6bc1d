// SPDX-License-Identifier: GPL-2.0-or-later
//! What the reactors share, made once, and what each makes for itself on its own thread.

use std::net::SocketAddr;
use std::sync::Arc;

use log::{info, warn};

use crate::control::config::{Config, Driver, Hugepages, Port, StoreKind};
use crate::devices::sbc::{self, Disk};
use crate::io::Shelf;
use crate::memory::{Arena, Pages};
use crate::net::{HostConfig, StreamHost, TcpHost};
use crate::ports::kernel::KernelHost;
use crate::ports::tap::{Tap, TapConfig};
use crate::reactor::{Idle, Mailbox, Sender, mailbox};
use crate::scsi::Lun;
use crate::scsi::primary::MissingLun;
use crate::stores::{self, Backing, FileOptions, Local, Records};
use crate::sys;
use crate::target::sessions::Sessions;
use crate::target::shard::{Message, Parts};
use crate::target::tasks::{TaskManager, UnitKey};
use crate::target::topology::{Portal, Target, Topology};

/// A logical unit as all cores share it.
#[derive(Clone)]
struct Unit {
    disk: Arc<Disk>,
    backing: Arc<dyn Backing>,
    shelf: Shelf,
}

/// What is made before the threads start.
pub(super) struct Plan {
    config: Arc<Config>,
    records: Arc<Records>,
    units: Vec<Unit>,
    topology: Arc<Topology>,
    sessions: Arc<Sessions>,
    senders: Vec<Sender<Message>>,
    mailboxes: Vec<std::sync::Mutex<Option<Mailbox<Message>>>>,
}

/// What a reactor grows from, on its own thread.
pub(super) struct Seed {
    core: usize,
    config: Arc<Config>,
    records: Arc<Records>,
    units: Vec<Unit>,
    topology: Arc<Topology>,
    sessions: Arc<Sessions>,
    peers: Vec<Sender<Message>>,
    mailbox: Mailbox<Message>,
}

impl Plan {
    pub(super) fn new(config: &Config) -> Result<Self, String> {
        let state = &config.daemon.state_dir;
        let records = Records::new(state).map_err(|e| format!("state directory: {e}"))?;
        let mut units = Vec::new();
        for disk in &config.disks {
            let shelf = records.shelf(&disk.identity.uuid());
            let shelf = shelf.map_err(|e| format!("disk {:?}: state directory: {e}", disk.name))?;
            let backing = open(disk, config.daemon.hugepages != Hugepages::Never)
                .map_err(|e| format!("disk {:?}: {e}", disk.name))?;
            let (identity, block) = (disk.identity.clone(), disk.block);
            let (thin, read_only) = (disk.thin, disk.read_only);
            let physical_exponent = disk.physical_exponent;
            let config =
                sbc::Config { identity, block, physical_exponent, thin, read_only, write_cache: true };
            units.push(Unit { disk: Arc::new(Disk::new(config)), backing, shelf });
        }
        let mut senders = Vec::new();
        let mut mailboxes = Vec::new();
        for _ in &config.daemon.reactors {
            let (sender, mailbox) = mailbox().map_err(|e| format!("mailbox: {e}"))?;
            senders.push(sender);
            mailboxes.push(std::sync::Mutex::new(Some(mailbox)));
        }
        Ok(Self {
            topology: Arc::new(topology(config)),
            config: Arc::new(config.clone()),
            records: Arc::new(records),
            units,
            sessions: Arc::default(),
            senders,
            mailboxes,
        })
    }

    pub(super) fn senders(&self) -> Vec<Sender<Message>> {
        self.senders.clone()
    }

    pub(super) fn seed(&self, core: usize) -> Seed {
        let mailbox = self.mailboxes[core].lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        Seed {
            core,
            config: self.config.clone(),
            records: self.records.clone(),
            units: self.units.clone(),
            topology: self.topology.clone(),
            sessions: self.sessions.clone(),
            peers: self.senders.clone(),
            mailbox: mailbox.expect("each reactor is seeded once"),
        }
    }

    /// Says what is served where.
    pub(super) fn announce(&self) {
        for target in &self.topology.targets {
            for &portal in &target.portals {
                let Portal { name, address, group } = &self.topology.portals[portal];
                let luns: Vec<String> = target.luns.iter().map(|(lun, _)| lun.to_string()).collect();
                info!("{}: LUN {} at {address} (portal {name}, group {group})", target.name, luns.join(", "));
            }
        }
    }
}

fn open(disk: &crate::control::config::Disk, huge: bool) -> std::io::Result<Arc<dyn Backing>> {
    let block = disk.block.bytes();
    match &disk.store {
        StoreKind::File { path, size } => {
            let (path, size, read_only) = (path.clone(), *size, disk.read_only);
            let opened = stores::file(&FileOptions { path: path.clone(), size, block, read_only });
            opened.map_err(|e| std::io::Error::new(e.kind(), format!("{}: {e}", path.display())))
        }
        StoreKind::Ram { size } => stores::ram(*size, block, huge),
        StoreKind::Null { size } => stores::null(*size, block),
    }
}

/// The logical unit of a disk. Unit 0 of a task manager stands for those that are not there.
fn unit_key(disk: usize) -> UnitKey {
    UnitKey(disk + 1)
}

fn topology(config: &Config) -> Topology {
    let portals = config.portals.iter().map(|portal| Portal {
        name: portal.name.clone(),
        address: portal.address,
        group: portal.group,
    });
    let targets = config.targets.iter().map(|target| Target {
        name: target.name.clone(),
        alias: target.alias.clone(),
        parameters: Arc::new(target.parameters.clone()),
        portals: target.portals.clone(),
        luns: target.luns.iter().map(|&(lun, disk)| (Lun::from_index(lun), unit_key(disk))).collect(),
    });
    Topology { portals: portals.collect(), targets: targets.collect() }
}

impl Seed {
    pub(super) fn idle(&self) -> Idle {
        self.config.daemon.idle
    }

    /// Makes what belongs to this core: memory, handles to the stores, ports.
    pub(super) fn grow(self) -> Result<Parts, String> {
        let daemon = &self.config.daemon;
        if let Some(processor) = daemon.reactors[self.core]
            && let Err(e) = sys::pin_to_core(processor)
        {
            return Err(format!("reactor {}: cannot run on processor {processor}: {e}", self.core));
        }
        let arena = self.arena()?;
        let local = Local::new(arena.clone()).map_err(|e| format!("io_uring: {e}"))?;
        let peers = self.peers.len() - 1;
        let mut tasks = TaskManager::new(arena.clone(), Box::new(MissingLun), peers);
        let keeper = self.records.keeper().map_err(|e| format!("state directory: {e}"))?;
        let wake_fds = keeper.wake_fd().into_iter().chain([local.wake_fd()]).collect();
        let mut units = Vec::new();
        for (unit, disk) in self.units.iter().zip(&self.config.disks) {
            let store = unit.backing.attach(&local).map_err(|e| format!("disk {:?}: {e}", disk.name))?;
            units.push(tasks.add_unit(Box::new(unit.disk.server()), Some(store)));
        }
        let shelves: Vec<_> = units.iter().copied().zip(self.units.iter().map(|unit| unit.shelf)).collect();
        tasks.keep_with(keeper, &shelves);
        let mut hosts = Vec::new();
        for (index, port) in self.config.ports.iter().enumerate() {
            hosts.push((port.name.clone(), self.host(index, port, &arena)?));
        }
        Ok(Parts {
            core: self.core,
            arena,
            hosts,
            tasks,
            units,
            topology: self.topology,
            sessions: self.sessions,
            mailbox: self.mailbox,
            peers: self.peers,
            wake_fds,
        })
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
                    "reactor {} needs {} free huge pages of 2 MiB: write that number to \
                     /sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages",
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

    fn host(&self, index: usize, port: &Port, arena: &Arena) -> Result<Box<dyn StreamHost>, String> {
        let portals = self.config.portals.iter().filter(|portal| portal.port == index);
        let addresses: Vec<SocketAddr> = portals.map(|portal| portal.address).collect();
        let fail = |e: std::io::Error| format!("port {:?}: {e}", port.name);
        match &port.driver {
            Driver::Kernel => Ok(Box::new(KernelHost::new(arena.clone(), &addresses).map_err(fail)?)),
            Driver::Tap { device, mtu, addresses: ours, host_addresses, offload } => {
                let config = TapConfig {
                    device: device.clone(),
                    mtu: *mtu,
                    host_addresses: host_addresses.clone(),
                    queues: self.config.daemon.reactors.len(),
                    offload: *offload,
                };
                let tap = Tap::open(&config, arena.clone()).map_err(fail)?;
                let host = HostConfig::new(ours.clone(), addresses);
                Ok(Box::new(TcpHost::new(tap, arena.clone(), &host)))
            }
        }
    }
}
