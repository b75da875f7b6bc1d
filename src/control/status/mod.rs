// SPDX-License-Identifier: GPL-2.0-or-later
//! What a running daemon reports about itself: the model behind `ptgt status`, as JSON on the control socket and as
//! text. A later version may add fields; it removes none.

mod lists;
mod text;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::engine::links::PeerCounters;
use crate::engine::report::CoreCounters;
use crate::engine::tasks::UnitCounters;
use crate::memory::ArenaCounters;
use crate::reactor::LoopCounters;

pub use lists::explain;
pub use text::render;

/// Who knows the status, and does what the operator asks for.
pub trait StatusSource: Send + Sync {
    /// The status now. May wait for the reactors, but not for long.
    fn status(&self, wanted: StatusRequest) -> Status;

    /// Puts a target port group into another state, for one disk or for all. May wait for what the disks have under
    /// way. The error says why not, for people.
    fn set_port_group(&self, wanted: &SetPortGroup) -> Result<(), String>;

    /// Serves what another configuration says. May wait for what is under way at logical units that go. The error says
    /// why everything is as it was, for people.
    fn apply(&self, wanted: &ApplyRequest) -> Result<(), String>;

    /// Brings a medium to a logical unit, or takes it out. May wait for what is under way there, and for the disk. The
    /// error says why everything is as it was, for people.
    fn change_medium(&self, wanted: &MediumRequest) -> Result<(), String>;
}

/// The parameters of `status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StatusRequest {
    /// With sessions, of which there may be thousands. Not sent where it says nothing new: older daemons take no
    /// parameters.
    #[serde(skip_serializing_if = "bool::clone")]
    pub sessions: bool,
}

impl Default for StatusRequest {
    fn default() -> Self {
        Self { sessions: true }
    }
}

/// The parameters of `set_port_group`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetPortGroup {
    /// Name of the `[[port_group]]`, or a portal group tag.
    pub group: String,
    /// Asymmetric access state, as in the configuration.
    pub state: String,
    /// Name of the disk; all without it.
    #[serde(default)]
    pub disk: Option<String>,
}

/// The parameters of `apply`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApplyRequest {
    /// The file of the configuration.
    pub path: PathBuf,
}

/// The parameters of `change_medium`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MediumRequest {
    /// Name of the logical unit.
    pub unit: String,
    /// The image that comes; without it what is there goes.
    #[serde(default)]
    pub image: Option<PathBuf>,
    /// It goes even if initiators prevent that, or what they wrote cannot be brought to it.
    #[serde(default)]
    pub force: bool,
}

/// The whole daemon.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Version of the daemon.
    pub version: String,
    /// Seconds since it began to serve.
    pub uptime_seconds: u64,
    /// Whether it serves.
    pub state: State,
    /// One per core. A reactor that does not answer is missing here, and so is its share of everything below.
    pub reactors: Vec<Reactor>,
    /// Numbers of the reactors that did not answer in time.
    pub silent_reactors: Vec<usize>,
    /// Where initiators come in.
    pub ports: Vec<Port>,
    /// What is served: disks.
    pub disks: Vec<UnitStatus>,
    /// Logical units of other kinds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub units: Vec<UnitStatus>,
    /// What fabrics say: under which names that is served, and to whom. Each has names of its own.
    #[serde(flatten)]
    pub fabrics: Map<String, Value>,
}

/// What the daemon is up to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It serves.
    Running,
    /// It lets initiators log out, and will end.
    Draining,
}

/// One core's loop.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reactor {
    /// Its number.
    pub reactor: usize,
    /// The processor that it is bound to.
    pub processor: Option<usize>,
    /// Share of the last second spent in turns that did something, 0 to 1.
    pub busy_share: f32,
    /// Share of the last second asleep; what is left was spent looking for work.
    pub asleep_share: f32,
    /// What its loop has done since the start.
    #[serde(flatten)]
    pub counters: LoopCounters,
    /// Its `busy_ns` in seconds.
    pub busy_seconds: f64,
    /// What it serves.
    #[serde(flatten)]
    pub serves: CoreCounters,
    /// What it has from other cores, and they from it.
    #[serde(flatten)]
    pub peers: PeerCounters,
    /// Its payload memory.
    pub memory: Memory,
}

/// The pages behind payload memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pages {
    /// Of 2 MiB.
    Huge,
    /// Of 4 KiB.
    Ordinary,
}

/// Payload memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// How much there is, and was given out.
    #[serde(flatten)]
    pub counters: ArenaCounters,
    /// Its pages.
    pub pages: Pages,
}

/// A port, over all reactors.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// Its name.
    pub name: String,
    /// `tap`, `packet`, `dpdk` or `kernel`.
    pub driver: String,
    /// What it has counted; the names depend on the driver.
    pub counters: BTreeMap<String, u64>,
}

/// Kind of the units that [`Status::disks`] lists.
pub const DISK: &str = "disk";

/// A logical unit, over all reactors and all targets that export it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitStatus {
    /// The table of the configuration that it comes from.
    #[serde(default = "disk")]
    pub kind: String,
    /// Its name.
    pub name: String,
    /// `file`, `ram` or `null`; empty if it has none.
    pub store: String,
    /// The image that is in it, if its medium comes and goes and one is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub medium: Option<String>,
    /// Its size; 0 if no reactor has answered.
    pub size_bytes: u64,
    /// Bytes of a logical block.
    pub block_bytes: u32,
    /// Writes are refused.
    pub read_only: bool,
    /// What it tells of itself.
    #[serde(default)]
    pub state: UnitDetails,
    /// Who may do what.
    #[serde(default)]
    pub reservations: Reservations,
    /// States of the target port groups through which it is reached.
    #[serde(default)]
    pub port_groups: Vec<PortGroup>,
    /// What it has done since the start.
    pub counters: UnitCounters,
    /// How long that took, whether or not the sessions are still there.
    #[serde(default)]
    pub latencies: Vec<Latency>,
}

/// What a daemon means that tells no kind.
fn disk() -> String {
    DISK.into()
}

/// How long commands of one kind took, or waited for one thing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latency {
    /// `read`, `write` or `other`: whether commands moved data, and in which direction.
    pub kind: String,
    /// `total`, from the turn of the loop in which a command came to the end of the one that gave its status to the
    /// port; or the part of that in which it waited for its `turn`, its Data-Out (`fetch`) or the `store`. Those who
    /// did not wait are counted in the total only.
    pub stage: String,
    /// How many commands.
    pub count: u64,
    /// Nanoseconds of all of them.
    pub sum_ns: u64,
    /// The longest, in nanoseconds.
    pub max_ns: u64,
    /// What a share of them did not exceed, in nanoseconds; at most an eighth too high.
    pub quantiles_ns: BTreeMap<String, u64>,
    /// The histogram: where a bucket ends, in nanoseconds, and how many are in it. Empty ones are left out.
    pub buckets: Vec<(u64, u64)>,
}

/// What a unit tells of itself; the names depend on its kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitDetails {
    /// Rules by which its store, or its commands, are slow or fail.
    pub fault_rules: usize,
    /// What its device has to say.
    #[serde(flatten)]
    pub device: Map<String, Value>,
}

/// Reservations of a disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reservations {
    /// Type of the persistent reservation, if there is one.
    pub kind: Option<String>,
    /// PRGENERATION.
    pub generation: u32,
    /// It survives a restart (APTPL).
    pub persists: bool,
    /// Somebody has reserved the disk by RESERVE.
    pub reserved: bool,
    /// Registered initiators.
    pub registrations: Vec<Registration>,
}

/// A registered initiator port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    /// Its name.
    pub initiator: String,
    /// Name of the target port; none for all of them.
    pub target_port: Option<String>,
    /// Its key, in hexadecimal.
    pub key: String,
    /// It holds the reservation.
    pub holder: bool,
}

/// A target port group, as a disk sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortGroup {
    /// The portal group tag.
    pub group: u16,
    /// Asymmetric access state.
    pub state: String,
    /// Initiators are to prefer it.
    pub preferred: bool,
    /// Names of its ports.
    pub target_ports: Vec<String>,
}

#[cfg(test)]
pub(super) mod tests;
