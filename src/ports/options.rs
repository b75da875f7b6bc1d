// SPDX-License-Identifier: GPL-2.0-or-later
//! Ports as the configuration gives them, and how they are started.

use std::any::Any;
use std::fmt::Debug;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use caps::Capability;

use super::address::{AddressRefusal, TakenAddress};
use super::environment::EnvironmentOptions;
use super::link::LinkOptions;
use crate::machine::{Findings, Hugepages, Machine};
use crate::net::StreamHost;
use crate::reactor::CoreContext;

/// How a port is set up. What is taken and made when it is started goes on its way to the cores as a [`PortShare`] for
/// each.
pub trait PortOptions: Any + Debug + Send + Sync {
    /// The network device whose frames are the port's. Its addresses are the port's alone; those of a port without one
    /// are the host's.
    fn link(&self) -> Option<&LinkOptions> {
        None
    }

    /// The rights that it takes, and what for.
    fn rights(&self) -> &'static [(Capability, &'static str)] {
        &[]
    }

    /// The rights that it uses besides when it has them, and what for.
    fn useful_rights(&self) -> &'static [(Capability, &'static str)] {
        &[]
    }

    /// Bytes of huge pages that it takes beside the memory of so many reactors, if there are some.
    fn memory(&self, _reactors: usize) -> u64 {
        0
    }

    /// The whole PCI address of its device, with the domain, if it drives that itself.
    fn pci_address(&self) -> Option<String> {
        None
    }

    /// Looks at what the port of a name needs of a machine whose reactors have these processors.
    fn examine(&self, _port: &str, _machine: &Machine, _reactors: &[Option<usize>], _found: &mut Findings) {}

    /// Whether the address of a portal could be taken. Nobody notices.
    fn examine_address(&self, address: SocketAddr, machine: &Machine) -> Result<(), AddressRefusal>;

    /// The name that stands for the address of a portal on its device, where no socket of the kernel's keeps other
    /// daemons from it. Several addresses may have one.
    fn address_lock(&self, _address: SocketAddr) -> Option<String> {
        None
    }

    /// Takes the address of a portal for this daemon alone.
    fn take_address(&self, address: SocketAddr) -> Result<TakenAddress, AddressRefusal>;

    /// Whether the frames of its link could be taken, if it has one. Nobody notices.
    fn examine_frames(&self, _machine: &Machine) -> Result<(), AddressRefusal> {
        self.link().map_or(Ok(()), |link| link.lock(&link.frames_lock()).map(drop))
    }

    /// Whether it comes and goes with the daemon alone, and reads only memory that is there when it comes.
    fn is_fixed(&self) -> bool {
        false
    }

    /// Starts it. Returns a share for each reactor.
    fn start(&self, addresses: PortAddresses, start: &mut PortsStart<'_>) -> io::Result<Vec<PortShare>>;
}

/// What a core makes of its share of a port, on its own thread: a host in its memory. Its stores are there before.
pub type PortShare = Box<dyn FnOnce(&CoreContext) -> io::Result<Box<dyn StreamHost>> + Send>;

/// The addresses of the portals of a port.
pub struct PortAddresses {
    /// In the order of the portals.
    pub addresses: Vec<SocketAddr>,
    /// The kernel's sockets that listen there, if it is the kernel that does, in the same order.
    pub listeners: Vec<Arc<TcpListener>>,
}

/// What all ports of a daemon are started with.
pub struct PortsStart<'a> {
    /// All ports.
    pub ports: &'a [ConfiguredPort],
    /// The processor of each reactor.
    pub reactors: &'a [Option<usize>],
    /// Where memory comes from.
    pub hugepages: Hugepages,
    /// `[dpdk]`
    pub environment: &'a EnvironmentOptions,
    /// What ports share that outlives them. It ends last, on the thread that has started them.
    pub held: Vec<Arc<dyn Any + Send + Sync>>,
}

impl PortsStart<'_> {
    /// Shares that are alike for all reactors.
    pub(super) fn alike(
        &self,
        share: impl FnOnce(&CoreContext) -> io::Result<Box<dyn StreamHost>> + Clone + Send + 'static,
    ) -> Vec<PortShare> {
        self.reactors.iter().map(|_| Box::new(share.clone()) as PortShare).collect()
    }
}

/// A port as the configuration gives it.
#[derive(Clone, Debug)]
pub struct ConfiguredPort {
    /// Its name.
    pub name: String,
    /// Its driver.
    pub driver: &'static str,
    /// What is said of it.
    pub options: Arc<dyn PortOptions>,
}

impl ConfiguredPort {
    /// Whether the same is said of both. What is behind a trait is what it prints.
    pub fn is_like(&self, other: &Self) -> bool {
        let said = |port: &Self| format!("{:?}", port.options);
        self.driver == other.driver && said(self) == said(other)
    }
}
