// SPDX-License-Identifier: GPL-2.0-or-later
//! What a configuration says, after it has been found to make sense.

use std::any::Any;
use std::path::PathBuf;
use std::sync::Arc;

use crate::adapters::fabric::{FabricAddress, FabricOptions};
use crate::engine::units::UnitOptions;
use crate::machine::Hugepages;
use crate::ports::{ConfiguredPort, EnvironmentOptions};
use crate::reactor::Idle;
use crate::scsi::alua::GroupState;

/// The whole configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// `[daemon]`
    pub daemon: Daemon,
    /// `[dpdk]`
    pub dpdk: EnvironmentOptions,
    /// `[[port]]`
    pub ports: Vec<ConfiguredPort>,
    /// `[[port_group]]`
    pub port_groups: Vec<PortGroup>,
    /// `[[disk]]` and its like
    pub units: Vec<UnitOptions>,
    /// What the tables of each fabric say, in the order of [`crate::adapters::FABRICS`].
    pub fabrics: Vec<Arc<dyn FabricOptions>>,
}

impl Config {
    /// The port of that name.
    pub fn port(&self, name: &str) -> &ConfiguredPort {
        self.ports.iter().find(|port| port.name == name).expect("fabrics name ports of their configuration")
    }

    /// What the tables of a fabric say.
    pub fn fabric<F: FabricOptions>(&self) -> &F {
        let mut all = self.fabrics.iter().filter_map(|fabric| (&**fabric as &dyn Any).downcast_ref());
        all.next().expect("each fabric has its options")
    }

    /// The addresses that fabrics take for themselves.
    pub fn addresses(&self) -> impl Iterator<Item = FabricAddress<'_>> {
        self.fabrics.iter().flat_map(|fabric| fabric.addresses())
    }

    /// The ports with frames that this daemon has alone: a fabric takes them, or there are no portals, whose addresses
    /// are all that it would have alone.
    pub fn frame_ports(&self) -> impl Iterator<Item = &ConfiguredPort> {
        let of_fabrics: Vec<&str> = self.fabrics.iter().flat_map(|fabric| fabric.frame_ports()).collect();
        let with_portals: Vec<&str> = self.addresses().map(|taken| taken.port).collect();
        let frames = self.ports.iter().filter(|port| port.options.link().is_some());
        frames.filter(move |port| of_fabrics.contains(&&*port.name) || !with_portals.contains(&&*port.name))
    }

    /// All targets by name, with the names of their logical units.
    pub fn targets(&self) -> impl Iterator<Item = (&str, Vec<&str>)> {
        self.fabrics.iter().flat_map(|fabric| fabric.targets())
    }
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

/// How much of a configuration is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The file alone.
    File,
    /// What it names on this machine, too: whether the daemon would start with it. Changes nothing.
    Machine,
}
