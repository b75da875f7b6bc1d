// SPDX-License-Identifier: GPL-2.0-or-later
//! A logical unit as one core has it.

use std::collections::VecDeque;
use std::sync::Arc;

use super::change_queue::{FrozenTask, SharedState};
use super::command_faults::CommandFaults;
use super::latency::Latencies;
use super::line::CommandPlace;
use crate::counters::counter_set;
use crate::io::{Geometry, Op, RecordSlot, Store};
use crate::scsi::primary::MissingLun;
use crate::scsi::{DeviceServer, UnitKey, UnitState};

pub(super) struct Unit {
    pub(super) place: CommandPlace,
    pub(super) key: UnitKey,
    pub(super) server: Box<dyn DeviceServer>,
    pub(super) store: Option<Box<dyn Store>>,
    /// Where its records are.
    pub(super) slot: Option<RecordSlot>,
    /// Operations that the store had no room for.
    pub(super) refused: VecDeque<(u32, Op)>,
    /// Tasks whose operation the store has.
    pub(super) storing: usize,
    /// Its state, for all cores and as it is in force here.
    pub(super) shared: Arc<SharedState>,
    pub(super) state: Arc<UnitState>,
    /// Rises when tasks that were admitted have to be looked at again.
    pub(super) epoch: u32,
    /// Changes of the state for which this core has stopped.
    pub(super) frozen: usize,
    /// What waits for the end of those.
    pub(super) held: VecDeque<FrozenTask>,
    /// It has gone from this core, and was flushed for that.
    pub(super) retired: bool,
    pub(super) counters: UnitCounters,
    pub(super) latencies: Latencies,
}

impl Unit {
    pub(super) fn new(key: UnitKey, server: Box<dyn DeviceServer>, store: Option<Box<dyn Store>>) -> Self {
        Self {
            place: CommandPlace::Everywhere,
            key,
            server,
            store,
            slot: None,
            refused: VecDeque::new(),
            storing: 0,
            shared: Arc::default(),
            state: Arc::default(),
            epoch: 0,
            frozen: 0,
            held: VecDeque::new(),
            retired: false,
            counters: UnitCounters::default(),
            latencies: Latencies::default(),
        }
    }

    /// What is in a row that no unit has.
    pub(super) fn vacant() -> Self {
        Self::new(UnitKey(0), Box::new(MissingLun), None)
    }

    /// Stops for a change of the state.
    pub(super) fn freeze(&mut self) {
        self.frozen += 1;
        self.epoch = self.epoch.wrapping_add(1);
    }

    /// The store holds nothing of this core's.
    pub(super) fn drained(&self) -> bool {
        self.storing == 0 && self.refused.is_empty()
    }

    pub(super) fn geometry(&self) -> Geometry {
        match &self.store {
            Some(store) => store.geometry(),
            None => Geometry { bytes: 0, block: 0, transfer_max: 0, thin: false, read_only: true },
        }
    }
}

counter_set! {
    /// What a logical unit has done.
    pub struct UnitCounters {
        /// Commands that sent data to an initiator.
        reads: Counter of Commands as "READS",
        /// Bytes they sent.
        read_bytes: Counter of Bytes as "READ",
        /// Commands that received data from an initiator.
        writes: Counter of Commands as "WRITES",
        /// Bytes they received.
        write_bytes: Counter of Bytes as "WRITTEN",
        /// Commands without data.
        others: Counter of Commands as "OTHERS",
        /// Commands that ended with CHECK CONDITION, except for unit attentions.
        errors: Counter of Commands as "ERRORS",
        /// Commands aborted.
        aborts: Counter of Commands as "ABORTS",
    }
}

/// A logical unit that comes to a core.
pub struct NewUnit {
    /// Its key.
    pub key: UnitKey,
    /// The core that carries out all of its commands, one at a time.
    pub owner: Option<usize>,
    /// This core's device server.
    pub server: Box<dyn DeviceServer>,
    /// This core's handle to the store.
    pub store: Option<Box<dyn Store>>,
    /// Its state, for all cores.
    pub state: Arc<SharedState>,
    /// Where its records are.
    pub slot: Option<RecordSlot>,
    /// Rules by which its commands are slow or fail.
    pub faults: Option<Arc<CommandFaults>>,
}
