// SPDX-License-Identifier: GPL-2.0-or-later
//! What a configuration says, after it has been found to make sense.

use std::path::PathBuf;
use std::sync::Arc;

use crate::adapters::iscsi::options::TargetOptions;
use crate::adapters::iscsi::topology::Portal;
use crate::engine::fabric::FabricOptions;
use crate::engine::units::UnitOptions;
use crate::fabrics::iscsi::{Account, Authentication, Secret};
use crate::net::Address;
use crate::reactor::Idle;
use crate::scsi::alua::GroupState;

/// The whole configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// `[daemon]`
    pub daemon: Daemon,
    /// `[dpdk]`
    pub dpdk: Dpdk,
    /// `[[port]]`
    pub ports: Vec<Port>,
    /// `[[portal]]`
    pub portals: Vec<Arc<Portal>>,
    /// `[[port_group]]`
    pub port_groups: Vec<PortGroup>,
    /// `[[disk]]` and its like
    pub units: Vec<UnitOptions>,
    /// `[[account]]`
    pub accounts: Vec<Account<SecretSource>>,
    /// `[discovery]`
    pub discovery: Option<Authentication<String>>,
    /// `[[target]]`
    pub targets: Vec<TargetOptions>,
    /// Targets of other fabrics than iSCSI.
    pub fabrics: Vec<Arc<dyn FabricOptions>>,
}

impl Config {
    /// The port that a portal names.
    pub fn port(&self, portal: &Portal) -> &Port {
        let found = self.ports.iter().find(|port| *port.name == *portal.port);
        found.expect("portals name ports of their configuration")
    }
}

/// Whether payload memory comes from the huge page pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hugepages {
    /// If there are enough of them.
    Auto,
    /// It must.
    Require,
    /// It must not.
    Never,
}

/// The process.
#[derive(Clone, Debug)]
pub struct Daemon {
    /// Processor of each reactor; `None`: wherever the scheduler likes.
    pub reactors: Vec<Option<usize>>,
    /// Payload memory of each reactor, in bytes.
    pub memory: usize,
    /// Where it comes from.
    pub hugepages: Hugepages,
    /// What a reactor does when there is nothing to do.
    pub idle: Idle,
    /// Where `ptgt status` asks.
    pub control_socket: PathBuf,
    /// Where the state of logical units is kept that outlives the daemon.
    pub state_dir: PathBuf,
    /// Where the daemon is managed.
    pub management_url: Option<Arc<str>>,
    /// Whether capabilities are given up once everything is open.
    pub drop_privileges: bool,
    /// Log filter, as `env_logger` reads it.
    pub log: String,
}

/// A target port group: all ports of targets with that portal group tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortGroup {
    /// Its name.
    pub name: String,
    /// The portal group tag.
    pub group: u16,
    /// Its state after the start.
    pub state: GroupState,
    /// Initiators are to prefer it.
    pub preferred: bool,
}

/// DPDK's environment, where a port needs it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dpdk {
    /// More arguments for it.
    pub arguments: Vec<String>,
    /// Bytes of buffers; `None`: what the ports need.
    pub memory: Option<usize>,
}

/// A place where initiators come in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Its name.
    pub name: String,
    /// What it is.
    pub driver: Driver,
}

/// How a port reaches the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Driver {
    /// Frames of a TAP device, and our own TCP.
    Tap {
        /// The device and our addresses.
        link: Link,
        /// Addresses for the host's side of the device.
        host_addresses: Vec<Address>,
    },
    /// Frames of a network device of the system, and our own TCP.
    Packet(Link),
    /// Frames of a device that DPDK drives, and our own TCP.
    Dpdk(Link),
    /// The kernel's TCP.
    Kernel,
}

impl Driver {
    /// Its name in the configuration.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Tap { .. } => "tap",
            Self::Packet(_) => "packet",
            Self::Dpdk(_) => "dpdk",
            Self::Kernel => "kernel",
        }
    }

    /// Where its frames come from, if it has frames.
    pub fn link(&self) -> Option<&Link> {
        match self {
            Self::Tap { link, .. } | Self::Packet(link) | Self::Dpdk(link) => Some(link),
            Self::Kernel => None,
        }
    }
}

impl Link {
    /// The whole PCI address of the device, with its domain, if that is what it is named by.
    pub fn pci_address(&self) -> Option<String> {
        let name = self.device.split(',').next().unwrap_or(&self.device);
        let parts: Vec<&str> = name.split([':', '.']).collect();
        let hexadecimal = |part: &&str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_hexdigit());
        match parts.len() {
            3 | 4 if !parts.iter().all(hexadecimal) => None,
            3 => Some(format!("0000:{name}")),
            4 => Some(name.to_owned()),
            _ => None,
        }
    }
}

/// A device whose frames are ours, and who we are there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Name of the network device; for DPDK a PCI address or a virtual device with its arguments.
    pub device: String,
    /// MTU in bytes; `None`: as the driver has it.
    pub mtu: Option<u16>,
    /// Our MAC address; `None`: the device's own.
    pub mac: Option<[u8; 6]>,
    /// Our addresses.
    pub addresses: Vec<Address>,
    /// Whether checksums and segmentation are left to the device or to the other side.
    pub offload: bool,
    /// Whether the device hears what is sent to others.
    pub promiscuous: bool,
}

/// Where a secret is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretSource {
    /// In the configuration.
    Given(Secret),
    /// In a file, which is read at the start.
    File(PathBuf),
}
