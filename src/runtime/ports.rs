// SPDX-License-Identifier: GPL-2.0-or-later
//! From configured ports to where byte streams come from: what this daemon has of them, and the share of each reactor.

use std::any::Any;
use std::collections::BTreeMap;
use std::io;
use std::net::TcpListener;
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;

use crate::adapters::fabric::FabricAddress;
use crate::control::config::Config;
use crate::net::{Links, StreamHost};
use crate::ports::{AddressRefusal, ConfiguredPort, PortAddresses, PortShare, PortsStart, TakenAddress};
use crate::reactor::CoreContext;

/// The listening sockets of portals, by their names; all reactors share them.
pub(super) type Listeners = BTreeMap<Arc<str>, Arc<TcpListener>>;

/// What keeps other daemons from the addresses of ports with frames.
pub(super) type AddressLocks = BTreeMap<String, Arc<UnixDatagram>>;

/// What ports have beside their shares, until the end.
pub(super) type HeldByPorts = Vec<Arc<dyn Any + Send + Sync>>;

/// A port that was started, with a share for each reactor.
pub(super) type StartedPort = (String, Vec<PortShare>);

/// Takes the addresses of all portals, and the frames of ports, that are not held already. The kernel lets one socket
/// listen at an address of the host; on a network device it would let several daemons answer, so these are kept apart
/// by a name that the network namespace has once.
pub(super) fn listen(
    config: &Config,
    (before, held): (&[FabricAddress<'_>], &AddressLocks),
) -> Result<(Listeners, AddressLocks), String> {
    let (mut listeners, mut locks) = (Listeners::new(), AddressLocks::new());
    for taken in config.addresses() {
        let FabricAddress { portal, port, address } = taken;
        let fail =
            |AddressRefusal { found, help, .. }| format!("portal {portal:?}: {address}: {found}; {help}");
        let options = &config.port(port).options;
        let lock = options.address_lock(address);
        let known = lock.as_ref().and_then(|lock| locks.get(lock).or_else(|| held.get(lock)).cloned());
        match (lock, known) {
            (Some(lock), Some(known)) => _ = locks.insert(lock, known),
            (None, _) if before.contains(&taken) => {}
            (lock, _) => match options.take_address(address).map_err(fail)? {
                TakenAddress::Listener(listener) => _ = listeners.insert(portal.into(), listener),
                TakenAddress::Lock(taken) => locks.extend(lock.map(|lock| (lock, taken))),
            },
        }
    }
    for ConfiguredPort { name, options, .. } in config.frame_ports() {
        let Some(link) = options.link() else { continue };
        let lock = link.frames_lock();
        let known = locks.get(&lock).or_else(|| held.get(&lock)).cloned();
        let fail = |AddressRefusal { found, help, .. }| format!("port {name:?}: {found}; {help}");
        let taken = known.map_or_else(|| link.lock(&lock), Ok).map_err(fail)?;
        locks.insert(lock, taken);
    }
    Ok((listeners, locks))
}

/// Starts some of the ports, whose portals have these listeners.
pub(super) fn start<'a>(
    config: &Config,
    ports: impl Iterator<Item = &'a ConfiguredPort>,
    listeners: &Listeners,
) -> Result<(Vec<StartedPort>, HeldByPorts), String> {
    let mut start = PortsStart {
        ports: &config.ports,
        reactors: &config.daemon.reactors,
        hugepages: config.daemon.hugepages,
        environment: &config.dpdk,
        held: Vec::new(),
    };
    let mut started = Vec::new();
    for port in ports {
        let taken: Vec<_> = config.addresses().filter(|taken| taken.port == port.name).collect();
        let addresses = PortAddresses {
            addresses: taken.iter().map(|taken| taken.address).collect(),
            listeners: taken.iter().filter_map(|taken| listeners.get(taken.portal).cloned()).collect(),
        };
        let shares = port.options.start(addresses, &mut start).map_err(|e| explain(&port.name, &e))?;
        started.push((port.name.clone(), shares));
    }
    Ok((started, start.held))
}

/// A reactor's host on a port, of its share. Fabrics on raw frames find the link below it in the context.
pub(super) fn open(
    port: &str,
    share: PortShare,
    context: &CoreContext,
) -> Result<Box<dyn StreamHost>, String> {
    let host = share(context).map_err(|e| explain(port, &e))?;
    if let Some(link) = host.link() {
        context.shared(|| Ok(Links::default())).map_err(|e| explain(port, &e))?.insert(port, link);
    }
    Ok(host)
}

fn explain(port: &str, e: &io::Error) -> String {
    format!("port {port:?}: {e}")
}
