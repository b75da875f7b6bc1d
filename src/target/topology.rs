// SPDX-License-Identifier: GPL-2.0-or-later
//! What is exported where: an immutable snapshot that all cores read. A reload publishes a new one.

use std::net::SocketAddr;
use std::sync::Arc;

use super::tasks::UnitKey;
use crate::fabrics::iscsi::{Admission, Directory, LoginStatus, Parameters};
use crate::scsi::{Lun, TargetPort};

/// An address at which initiators may connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Portal {
    /// Its name in the config.
    pub name: String,
    /// Address and port; a wildcard address stands for all of the host's.
    pub address: SocketAddr,
    /// Target portal group tag.
    pub group: u16,
}

impl Portal {
    fn answers(&self, local: SocketAddr) -> bool {
        self.address == local || (self.address.ip().is_unspecified() && self.address.port() == local.port())
    }
}

/// An iSCSI target.
#[derive(Clone, Debug)]
pub struct Target {
    /// Its iSCSI name.
    pub name: String,
    /// Its alias.
    pub alias: Option<String>,
    /// What it negotiates.
    pub parameters: Arc<Parameters>,
    /// Indexes of the portals through which it is reached.
    pub portals: Vec<usize>,
    /// Its SCSI target ports, one for each portal group tag of its portals.
    pub ports: Vec<Arc<TargetPort>>,
    /// Its logical units, in ascending order of LUN.
    pub luns: Vec<(Lun, UnitKey)>,
}

impl Target {
    /// The target port of a portal group.
    pub fn port(&self, tag: u16) -> Arc<TargetPort> {
        let known = self.ports.iter().find(|port| port.group == tag);
        known.cloned().unwrap_or_else(|| Arc::new(TargetPort::iscsi(u16::MAX, &self.name, tag)))
    }
}

/// The snapshot.
#[derive(Clone, Debug, Default)]
pub struct Topology {
    /// All portals.
    pub portals: Vec<Portal>,
    /// All targets.
    pub targets: Vec<Target>,
}

impl Topology {
    /// The target of that name.
    pub fn target(&self, name: &str) -> Option<&Target> {
        self.targets.iter().find(|target| target.name == name)
    }

    /// The portal that a connection to `local` came through.
    fn portal(&self, local: SocketAddr) -> Option<usize> {
        let exact = self.portals.iter().position(|portal| portal.address == local);
        exact.or_else(|| self.portals.iter().position(|portal| portal.answers(local)))
    }
}

impl Directory for Topology {
    fn discover(&self, _initiator: &str, local: SocketAddr, found: &mut dyn FnMut(&str, SocketAddr, u16)) {
        for target in &self.targets {
            for &portal in &target.portals {
                let Portal { address, group, .. } = self.portals[portal];
                // Of a wildcard portal, the initiator learns the address that it has reached.
                let address = match address.ip().is_unspecified() {
                    true if address.port() == local.port() => local,
                    true => SocketAddr::new(local.ip(), address.port()),
                    false => address,
                };
                found(&target.name, address, group);
            }
        }
    }

    fn admit(&self, _initiator: &str, target: &str, local: SocketAddr) -> Result<Admission, LoginStatus> {
        let target = self.target(target).ok_or(LoginStatus::NotFound)?;
        let portal = self.portal(local).filter(|portal| target.portals.contains(portal));
        let portal = portal.ok_or(LoginStatus::NotFound)?;
        Ok(Admission {
            portal_group: self.portals[portal].group,
            alias: target.alias.clone(),
            parameters: target.parameters.clone(),
        })
    }
}
