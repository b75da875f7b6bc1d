// SPDX-License-Identifier: GPL-2.0-or-later
//! A fabric's face towards a core, and the core's towards its fabrics.
//!
//! A fabric has its streams, frames or rings, its sessions and its mailboxes to itself; the core asks it a few times in
//! each turn, and reaches the transport of a nexus by it. What it serves it tells by [`Core`]: nexuses that come and
//! go, and their commands.

use std::any::Any;
use std::collections::BTreeMap;
use std::os::fd::RawFd;
use std::time::Duration;

use serde_json::Value;

use super::audit::{MemoryAudit, MemoryHolder};
use super::tasks::{AfterAbort, NexusKey, TaskManager, Transports};
use crate::counters::Counted;
use crate::reactor::CoreContext;
use crate::scsi::{Lun, Nexus, NexusId, Transport, UnitKey};
use crate::time::Instant;

/// One core's share of a fabric. Nothing in it waits.
///
/// In a turn come [`Fabric::poll`], the completions of the stores (which go to [`Transports::transport`]),
/// [`Fabric::serve`] and [`Fabric::commit`].
pub trait Fabric: Transports {
    /// Takes what has come in from peers and from other cores, and looks at its clocks. Returns how much that was.
    fn poll(&mut self, core: &mut Core) -> usize;

    /// Carries on everybody for whom something has come up: in [`Fabric::poll`], or with the tasks of these nexuses, of
    /// which some may be another fabric's. Returns how many there were.
    fn serve(&mut self, core: &mut Core, woken: &[NexusKey]) -> usize;

    /// The tasks of a nexus that it has removed have ended; `ticket` is what it gave then.
    fn nexus_ended(&mut self, ticket: u32);

    /// TARGET COLD RESET of that nexus is answered: all sessions with its target are to end, on every core.
    fn cold_reset(&mut self, nexus: NexusKey);

    /// The turn is over: what it has queued goes out.
    fn commit(&mut self, _now: Instant) {}

    /// When a turn is needed of which no descriptor tells. `now` is when the last one began.
    fn next_deadline(&self, now: Instant) -> Option<Instant>;

    /// Appends the descriptors that become readable when a turn is needed.
    fn wake_fds(&self, fds: &mut Vec<RawFd>);

    /// About to sleep; see [`crate::reactor::Poller::may_sleep`].
    fn may_sleep(&mut self) -> bool;

    /// The sleep is over.
    fn awake(&mut self);

    /// A new topology is in force: this is what it is to the fabric, which knows its type. What nexuses see is
    /// recomputed ([`Core::see`]), and who must not stay is asked to leave.
    fn arrange(&mut self, _core: &mut Core, _part: Box<dyn Any>) {}

    /// The daemon stops: nobody comes in any more, and who is there is asked to leave.
    fn drain(&mut self);

    /// Those that have not left are dropped; with `cut`, at once.
    fn drop_all(&mut self, cut: bool);

    /// Who is there.
    fn census(&self) -> Census;

    /// Adds what its ports have counted, by their names.
    fn count(&self, _ports: &mut BTreeMap<String, Vec<Counted>>) {}

    /// Memory is short: those that can do without some give it back, and `stuck` is told who holds more than is good,
    /// how much.
    fn audit(&mut self, _core: &Core, _audit: &MemoryAudit, _stuck: &mut dyn FnMut(u64, MemoryHolder)) {}

    /// Ends one of those.
    fn cut(&mut self, _holder: MemoryHolder, _why: &'static str) {}

    /// Who that is, for people.
    fn describe(&self, _holder: MemoryHolder) -> String {
        String::new()
    }
}

/// What all cores share of a fabric, made before they start.
pub trait FabricShare: Send + Sync {
    /// One core's share, made on the thread of that core; once for each. The error says why the daemon cannot start.
    fn attach(&self, context: &CoreContext) -> Result<Box<dyn Fabric>, String>;

    /// Who is there on a core, for the status. `None` if the core does not answer in the time that it has left.
    fn sessions(&self, _core: usize, _left: &dyn Fn() -> Duration) -> Option<Vec<Value>> {
        Some(Vec::new())
    }
}

/// Who is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Sessions.
    pub sessions: usize,
    /// Those that do not have one yet, or not any more.
    pub logins: usize,
}

impl Census {
    /// All of them.
    pub fn all(self) -> usize {
        self.sessions + self.logins
    }
}

/// What a core is to its fabrics.
pub struct Core {
    /// When the turn began.
    pub now: Instant,
    pub(super) tasks: TaskManager,
    /// Whose each nexus is.
    pub(super) owners: Vec<u8>,
    /// The fabric that is at work.
    pub(super) at_work: u8,
}

impl Core {
    /// A number that no nexus has had, of any fabric on any core.
    pub fn new_nexus_id(&mut self) -> NexusId {
        self.tasks.new_nexus_id()
    }

    /// Adds a nexus of the fabric that is at work, which sees `units`, in ascending order of LUN.
    pub fn add_nexus(&mut self, id: NexusId, name: Nexus, units: &[(Lun, UnitKey)]) -> NexusKey {
        let key = self.tasks.add_nexus(id, name, units);
        if self.owners.len() <= key.0 {
            self.owners.resize(key.0 + 1, 0);
        }
        self.owners[key.0] = self.at_work;
        key
    }

    /// Removes one: its tasks are aborted, and [`Fabric::nexus_ended`] tells when all have ended.
    pub fn remove_nexus(&mut self, key: NexusKey, ticket: u32) {
        let ending = u64::from(self.at_work) << 32 | u64::from(ticket);
        self.tasks.remove_nexus(self.now, key, Some(AfterAbort::Tell(ending)));
    }

    /// From now on a nexus sees these logical units, in ascending order of LUN.
    pub fn see(&mut self, key: NexusKey, units: &[(Lun, UnitKey)]) {
        self.tasks.see(self.now, key, units);
    }

    /// Serves all requests that the transport of a nexus has. Returns how many there were.
    #[inline]
    pub fn serve(&mut self, key: NexusKey, transport: &mut dyn Transport) -> usize {
        self.tasks.serve(self.now, key, transport)
    }

    /// Asks for what is needed for a command of a nexus.
    pub fn prefetch(&self, key: NexusKey) {
        self.tasks.prefetch(key);
    }

    /// Whether a store works for a nexus.
    pub fn is_storing(&self, key: NexusKey) -> bool {
        self.tasks.is_storing(key)
    }
}

/// All fabrics of a core, as the task manager sees them.
pub(super) struct Owners<'a> {
    pub(super) fabrics: &'a mut [Box<dyn Fabric>],
    pub(super) owners: &'a [u8],
}

impl Transports for Owners<'_> {
    fn transport(&mut self, nexus: NexusKey) -> Option<&mut dyn Transport> {
        let owner = *self.owners.get(nexus.0)?;
        self.fabrics[usize::from(owner)].transport(nexus)
    }
}
