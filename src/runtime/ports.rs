// SPDX-License-Identifier: GPL-2.0-or-later
//! From configured ports to where byte streams come from: what the reactors share of a device, and what each opens.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;

use crate::adapters::iscsi::topology::Portal;
use crate::control::config::{Config, Driver, Link, Port};
use crate::control::doctor::{device_lock, listen_refusal, take_device};
use crate::memory::Arena;
use crate::net::{FramePort, HostConfig, StreamHost, TcpHost, multicast_groups};
use crate::ports::kernel::{self, KernelHost};
use crate::ports::packet::{Packet, PacketConfig};
use crate::ports::tap::{Tap, TapConfig};
use crate::reactor::CoreContext;

/// MTU of a TAP device: the longest frames that a local peer can send.
const TAP_MTU: u16 = 65521;

#[cfg(feature = "dpdk")]
pub(super) use with_dpdk::{Devices, Shared};
#[cfg(not(feature = "dpdk"))]
pub(super) use without_dpdk::{Devices, Shared};

/// The listening sockets of portals, by their names; all reactors share them.
pub(super) type Listeners = BTreeMap<Arc<str>, Arc<TcpListener>>;

/// What keeps other daemons from the addresses of ports with frames.
pub(super) type AddressLocks = BTreeMap<String, Arc<UnixDatagram>>;

/// Takes the addresses of all portals that are not held already. The kernel lets one socket listen at an address of the host; on
/// a network device it would let several daemons answer, so these are kept apart by a name that the network namespace has once.
pub(super) fn listen(
    config: &Config,
    (before, held): (&[Arc<Portal>], &AddressLocks),
) -> Result<(Listeners, AddressLocks), String> {
    let (mut listeners, mut locks) = (Listeners::new(), AddressLocks::new());
    for portal in &config.portals {
        let Portal { name, address, .. } = &**portal;
        let fail = |(found, why): (String, String)| format!("portal {name:?}: {address}: {found}; {why}");
        let driver = &config.port(portal).driver;
        let Some(lock) = device_lock(driver, portal) else {
            if !before.iter().any(|known| known.is_at(portal)) {
                let listener = kernel::listen(*address).map_err(|e| fail(listen_refusal(portal, &e)))?;
                listeners.insert(name.clone(), Arc::new(listener));
            }
            continue;
        };
        if let Entry::Vacant(free) = locks.entry(lock) {
            let lock = match held.get(free.key()) {
                Some(held) => held.clone(),
                None => Arc::new(take_device(driver, free.key()).map_err(fail)?),
            };
            free.insert(lock);
        }
    }
    Ok((listeners, locks))
}

/// A reactor's host on a port.
pub(super) fn open(
    config: &Config,
    index: usize,
    listeners: &Listeners,
    (devices, shared): (&Devices, &Shared),
    context: &CoreContext,
) -> Result<Box<dyn StreamHost>, String> {
    let (core, arena) = (context.core(), context.arena());
    let port = &config.ports[index];
    let portals = config.portals.iter().filter(|portal| *portal.port == *port.name);
    let listen: Vec<SocketAddr> = portals.clone().map(|portal| portal.address).collect();
    let queues = context.cores();
    let opened: io::Result<Box<dyn StreamHost>> = match &port.driver {
        Driver::Kernel => {
            let listeners = portals.filter_map(|portal| listeners.get(&portal.name).cloned()).collect();
            KernelHost::new(arena.clone(), listeners).map(|host| Box::new(host) as _)
        }
        Driver::Tap { link, host_addresses } => {
            let config = TapConfig {
                device: link.device.clone(),
                mac: link.mac,
                mtu: link.mtu.unwrap_or(TAP_MTU),
                host_addresses: host_addresses.clone(),
                queues,
                offload: link.offload,
                tells: core == 0,
            };
            Tap::open(&config, arena.clone()).and_then(|tap| host(tap, link, listen, arena))
        }
        Driver::Packet(link) => {
            let config = PacketConfig {
                device: link.device.clone(),
                mac: link.mac,
                mtu: link.mtu,
                queues,
                offload: link.offload,
                promiscuous: link.promiscuous,
            };
            Packet::open(&config, arena.clone()).and_then(|packet| host(packet, link, listen, arena))
        }
        Driver::Dpdk(link) => {
            devices.open((index, core), shared, arena).and_then(|port| host(port, link, listen, arena))
        }
    };
    opened.map_err(|e| explain(port, &e))
}

fn explain(port: &Port, e: &io::Error) -> String {
    format!("port {:?}: {e}", port.name)
}

/// Our own TCP on a port.
fn host<P: FramePort + 'static>(
    mut port: P,
    link: &Link,
    listen: Vec<SocketAddr>,
    arena: &Arena,
) -> io::Result<Box<dyn StreamHost>> {
    port.accept(&multicast_groups(&link.addresses))?;
    let config = HostConfig::new(link.addresses.clone(), listen);
    Ok(Box::new(TcpHost::new(port, arena.clone(), &config)))
}

#[cfg(feature = "dpdk")]
mod with_dpdk {
    use std::ptr::NonNull;
    use std::sync::{Arc, Mutex, PoisonError};

    use log::info;

    use super::{Arena, Config, Driver, Link, explain, io};
    use crate::control::config::Hugepages;
    use crate::ports::dpdk::{
        DeviceConfig, Dpdk, ENVIRONMENT_MEMORY, Eal, EalConfig, Found, Queue, buffer_memory,
    };
    use crate::stores::Backing;
    use crate::sys;

    /// MTU of a device that is not told another.
    const MTU: u16 = 1500;

    /// Devices that DPDK drives, each with a queue per reactor.
    #[derive(Default)]
    pub(in crate::runtime) struct Devices {
        /// By port and core; empty for ports of other drivers.
        queues: Vec<Vec<Mutex<Option<Queue>>>>,
        /// Ends last, on the thread that started it.
        _eal: Option<Arc<Eal>>,
    }

    /// Memory of stores that is lent to ports.
    pub(in crate::runtime) struct Shared(Vec<(NonNull<u8>, usize)>);

    impl Shared {
        pub(in crate::runtime) fn of<'a>(stores: impl Iterator<Item = &'a Arc<dyn Backing>>) -> Self {
            Self(stores.filter_map(|store| store.region()).collect())
        }
    }

    impl Devices {
        /// Starts DPDK and the devices, if there are any.
        pub(in crate::runtime) fn start(config: &Config) -> Result<Self, String> {
            let links = config.ports.iter().map(|port| match &port.driver {
                Driver::Dpdk(link) => Some((port, link)),
                _ => None,
            });
            let links: Vec<_> = links.collect();
            if links.iter().all(Option::is_none) {
                return Ok(Self::default());
            }
            let cores = config.daemon.reactors.len();
            let wanted = links.iter().flatten().map(|(_, link)| buffer_memory(mtu(link), cores)).sum();
            let eal = Eal::start(&environment(config, wanted, links.iter().flatten().map(|(_, link)| *link)))
                .map_err(|e| e.to_string())?;
            let mut queues = Vec::new();
            for entry in &links {
                let Some((port, link)) = entry else {
                    queues.push(Vec::new());
                    continue;
                };
                let device = DeviceConfig {
                    device: device(link),
                    mtu: mtu(link),
                    mac: link.mac,
                    queues: cores,
                    offload: link.offload,
                    promiscuous: link.promiscuous,
                };
                let started = Found::probe(&eal, &device.device).and_then(|found| found.start(&device));
                let started = started.map_err(|e| explain(port, &e))?;
                queues.push(started.into_iter().map(|queue| Mutex::new(Some(queue))).collect());
            }
            Ok(Self { queues, _eal: Some(eal) })
        }

        /// A core's port. For the thread of that core.
        pub(in crate::runtime) fn open(
            &self,
            (port, core): (usize, usize),
            Shared(shared): &Shared,
            arena: &Arena,
        ) -> io::Result<Dpdk> {
            let queue = self.queues[port][core].lock().unwrap_or_else(PoisonError::into_inner).take();
            Dpdk::new(queue.expect("each queue is opened once"), arena.clone(), shared)
        }

        /// Gives up the queues that no core has opened, so that those that are open do not wait for them.
        pub(in crate::runtime) fn release(&self) {
            for queue in self.queues.iter().flatten() {
                drop(queue.lock().unwrap_or_else(PoisonError::into_inner).take());
            }
        }
    }

    /// As DPDK knows it: a PCI address with its domain, and the arguments behind.
    fn device(link: &Link) -> String {
        let arguments = link.device.split_once(',').map(|(_, arguments)| format!(",{arguments}"));
        match link.pci_address() {
            Some(address) => address + arguments.as_deref().unwrap_or_default(),
            None => link.device.clone(),
        }
    }

    fn mtu(link: &Link) -> u16 {
        link.mtu.unwrap_or(MTU)
    }

    fn environment<'a>(config: &Config, wanted: usize, links: impl Iterator<Item = &'a Link>) -> EalConfig {
        let free = sys::free_huge_pages() << 21;
        let huge = match config.daemon.hugepages {
            Hugepages::Never => false,
            Hugepages::Require => true,
            Hugepages::Auto => free >= wanted,
        };
        let pages = if huge { "huge" } else { "ordinary" };
        info!("DPDK: {} MiB of frame buffers wanted, in {pages} pages", wanted.div_ceil(1 << 20));
        let memory = config.dpdk.memory.unwrap_or(wanted + ENVIRONMENT_MEMORY);
        let first = sys::affinity().ok().and_then(|allowed| allowed.first());
        EalConfig {
            huge,
            memory_mib: memory.div_ceil(1 << 20),
            processor: config.daemon.reactors[0].or(first).unwrap_or(0),
            pci: links.filter(|link| link.pci_address().is_some()).map(device).collect(),
            arguments: config.dpdk.arguments.clone(),
        }
    }
}

#[cfg(not(feature = "dpdk"))]
mod without_dpdk {
    use std::sync::Arc;

    use super::{Arena, Config, Tap, io};
    use crate::stores::Backing;

    /// There are none: the loader refuses such ports.
    pub(in crate::runtime) struct Devices;

    pub(in crate::runtime) struct Shared;

    impl Shared {
        pub(in crate::runtime) fn of<'a>(_: impl Iterator<Item = &'a Arc<dyn Backing>>) -> Self {
            Self
        }
    }

    impl Devices {
        pub(in crate::runtime) fn start(_: &Config) -> Result<Self, String> {
            Ok(Self)
        }

        pub(in crate::runtime) fn open(&self, _: (usize, usize), _: &Shared, _: &Arena) -> io::Result<Tap> {
            Err(io::ErrorKind::Unsupported.into())
        }

        pub(in crate::runtime) fn release(&self) {}
    }
}
