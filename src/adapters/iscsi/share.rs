// SPDX-License-Identifier: GPL-2.0-or-later
//! What a change of the topology brings to the iSCSI of a core: see [`super::arrange`].

use std::sync::Arc;

use super::topology::Topology;
use crate::adapters::fabric::PortsChange;
use crate::scsi::NexusId;
use crate::time::Instant;

/// What a change of the topology is to the iSCSI of a core.
pub struct IscsiShare {
    /// What is exported from now on.
    pub topology: Arc<Topology>,
    /// What becomes of ports.
    pub ports: PortsChange,
}

/// A session that is to leave.
pub(super) struct Leaving {
    pub(super) nexus: NexusId,
    pub(super) until: Instant,
    pub(super) dropped: bool,
}

/// The names of the portals of a port, in the order of its listeners.
pub(super) fn listeners_of(topology: &Topology, port: &str) -> Vec<Arc<str>> {
    topology.portals_of(port).map(|portal| portal.name.clone()).collect()
}
