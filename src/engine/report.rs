// SPDX-License-Identifier: GPL-2.0-or-later
//! What one core tells the control plane.

use std::collections::BTreeMap;

use super::links::PeerCounters;
use super::tasks::{Latencies, UnitCounters, UnitKey};
use crate::counters::{Counted, counter_set};
use crate::memory::{ArenaCounters, Pages};
use crate::reactor::Load;

counter_set! {
    /// What a core serves.
    pub struct CoreCounters {
        /// Sessions, discovery sessions included.
        sessions: Gauge of Sessions,
        /// Connections that have not logged in yet, and ended sessions whose connections are closing.
        logins: Gauge of Connections,
        /// Commands in flight.
        tasks: Gauge of Commands,
    }
}

/// What one core tells the control plane. Of its sessions the fabrics tell.
#[derive(Clone, Debug)]
pub struct CoreReport {
    /// Which core.
    pub core: usize,
    /// How busy it is.
    pub load: Load,
    /// What it serves.
    pub counters: CoreCounters,
    /// What has gone to other cores and come from them.
    pub links: PeerCounters,
    /// Its payload memory.
    pub memory: ArenaCounters,
    /// The pages of that.
    pub pages: Pages,
    /// Its logical units.
    pub units: BTreeMap<UnitKey, UnitReport>,
    /// By name of the port: what it has counted.
    pub ports: BTreeMap<String, Vec<Counted>>,
}

/// A logical unit as one core sees it.
#[derive(Clone, Debug)]
pub struct UnitReport {
    /// Size of its store, in bytes.
    pub bytes: u64,
    /// What this core has done with it.
    pub counters: UnitCounters,
    /// How long that took.
    pub latencies: Latencies,
}
