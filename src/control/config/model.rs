// SPDX-License-Identifier: GPL-2.0-or-later
//! What a configuration says, after it has been found to make sense.

use std::path::PathBuf;
use std::sync::Arc;

use crate::adapters::iscsi::options::TargetOptions;
use crate::adapters::iscsi::topology::Portal;
use crate::engine::fabric::FabricOptions;
use crate::engine::units::UnitOptions;
use crate::fabrics::iscsi::{Account, Authentication, Secret};
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
    pub fn port(&self, portal: &Portal) -> &ConfiguredPort {
        let found = self.ports.iter().find(|port| *port.name == *portal.port);
        found.expect("portals name ports of their configuration")
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

/// Where a secret is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretSource {
    /// In the configuration.
    Given(Secret),
    /// In a file, which is read at the start.
    File(PathBuf),
}
