// SPDX-License-Identifier: GPL-2.0-or-later
//! Disks: the direct access block device of SBC-3 over any store.
//!
//! [`Disk`] is the logical unit, shared by all cores: names and shape, which never change, and the mode parameters.
//! [`Server`] is one core's device server with the tasks of that core. Buffers belong to the task that holds them and
//! go home when it ends; a task never holds more than one chunk of [`crate::io::Geometry::transfer_max`] bytes,
//! however long its transfer is.

mod atomic;
mod copy;
mod erase;
mod fault;
mod limits;
mod logs;
mod long;
mod mode;
mod pages;
mod provisioning;
mod removable;
mod selftest;
mod server;
mod simple;
mod state;
mod table;
#[cfg(test)]
mod tests;
mod transfer;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::scsi::primary::Identity;

use logs::Counts;
use state::{Parameters, RareState};

pub use server::Server;
pub use state::DiskReport;
pub use table::commands;

/// Size of a logical block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockSize {
    /// 512 bytes.
    B512,
    /// 4096 bytes.
    B4096,
}

impl BlockSize {
    const fn shift(self) -> u32 {
        match self {
            Self::B512 => 9,
            Self::B4096 => 12,
        }
    }

    /// In bytes.
    pub const fn bytes(self) -> u32 {
        1 << self.shift()
    }
}

/// How a disk is set up.
#[derive(Clone, Debug)]
pub struct Config {
    /// Its names.
    pub identity: Identity,
    /// Logical block size: a multiple of the store's.
    pub block: BlockSize,
    /// Logical blocks per physical block, as an exponent of two, at most 15.
    pub physical_exponent: u8,
    /// Whether initiators may deallocate blocks; takes a store that can.
    pub thin: bool,
    /// Refuse writes.
    pub read_only: bool,
    /// Whether there is a write cache after power-on, unless saved mode parameters say otherwise: if not, each write is stable before its status.
    pub write_cache: bool,
    /// Whether WRITE ATOMIC is offered: no store of ours keeps a loss of power, or the reader of pages that it lends, from
    /// seeing half of it.
    pub atomic_writes: bool,
    /// LOWEST ALIGNED LOGICAL BLOCK ADDRESS: the first block at the beginning of a physical block, at most 16383.
    pub lowest_aligned: u16,
    /// Whether the medium can be taken out.
    pub removable: bool,
    /// Initiators are warned when less than so many bytes can still be allocated; 0 for never. Rounded up to a MiB; saved
    /// mode parameters may say otherwise.
    pub soft_threshold: u64,
    /// Where it is managed, as a URL of at most 255 characters.
    pub management: Option<Arc<str>>,
    /// Milliseconds since 1970 at [`crate::time::Instant::ZERO`].
    pub epoch: u64,
}

/// A disk, as all cores share it. Each command looks at it, so that it has no neighbours that are written.
#[repr(align(128))]
#[derive(Debug)]
pub struct Disk {
    config: Config,
    parameters: AtomicU32,
    /// How far a format, sanitize or self-test operation has come, in 65536ths.
    progress: AtomicU32,
    rare: Mutex<RareState>,
    /// What each core has counted.
    counts: Mutex<Vec<Arc<Counts>>>,
}

impl Disk {
    /// Makes a disk in the state after power-on.
    pub fn new(config: Config) -> Self {
        let rare = RareState::new(&config);
        let parameters = AtomicU32::new(mode::parameters(&rare.modes).0);
        let rare = Mutex::new(rare);
        Self { config, parameters, progress: AtomicU32::new(0), rare, counts: Mutex::default() }
    }

    /// Its configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// A device server for one core.
    pub fn server(self: &Arc<Self>) -> Server {
        let counts = Arc::<Counts>::default();
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).push(counts.clone());
        Server::new(self.clone(), counts)
    }

    fn parameters(&self) -> Parameters {
        // Relaxed: the bits stand for themselves and publish nothing else.
        Parameters(self.parameters.load(Ordering::Relaxed))
    }

    /// What is rarely looked at.
    fn rare(&self) -> MutexGuard<'_, RareState> {
        self.rare.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the parameters by `change`, which may run more than once, and returns what they were and are.
    fn change_parameters(&self, change: impl Fn(&mut Parameters)) -> (Parameters, Parameters) {
        let mut old = self.parameters();
        loop {
            let mut new = old;
            change(&mut new);
            match self.parameters.compare_exchange_weak(old.0, new.0, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return (old, new),
                Err(now) => old = Parameters(now),
            }
        }
    }

    /// Returns to the state after power-on, but for what happened to the medium.
    fn reset(&self) {
        let mut rare = self.rare();
        rare.modes.reset();
        self.adopt_modes(&rare.modes);
        rare.prevented.clear();
        rare.copies.clear();
    }
}
