// SPDX-License-Identifier: GPL-2.0-or-later
//! Disks: the direct access block device of SBC-3 over any store.
//!
//! [`Disk`] is the logical unit, shared by all cores: names and shape, which never change, and the mode parameters.
//! [`Server`] is one core's device server with the tasks of that core. Buffers belong to the task that holds them and
//! go home when it ends; a task never holds more than one chunk of [`crate::io::Geometry::transfer_max`] bytes,
//! however long its transfer is.

mod atomic;
mod fault;
mod limits;
mod mode;
mod pages;
mod provisioning;
mod server;
mod simple;
mod table;
#[cfg(test)]
mod tests;
mod transfer;

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::scsi::primary::Identity;

pub use server::Server;

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
    /// Whether there is a write cache after power-on: if not, each write is stable before its status.
    pub write_cache: bool,
}

/// The mode parameters that MODE SELECT may change: independent bits, so that one atomic byte is a consistent
/// snapshot of them, which costs a command on any core no more than a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Parameters(u8);

impl Parameters {
    const WRITE_CACHE: Self = Self(1);
    const DESCRIPTOR_SENSE: Self = Self(2);
    const WRITE_PROTECT: Self = Self(4);

    fn has(self, bit: Self) -> bool {
        self.0 & bit.0 != 0
    }

    fn set(&mut self, bit: Self, on: bool) {
        self.0 = if on { self.0 | bit.0 } else { self.0 & !bit.0 };
    }
}

/// A disk, as all cores share it.
#[derive(Debug)]
pub struct Disk {
    config: Config,
    parameters: AtomicU8,
}

impl Disk {
    /// Makes a disk in the state after power-on.
    pub fn new(config: Config) -> Self {
        let parameters = AtomicU8::new(power_on_parameters(&config).0);
        Self { config, parameters }
    }

    /// Its configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// A device server for one core.
    pub fn server(self: &Arc<Self>) -> Server {
        Server::new(self.clone())
    }

    fn parameters(&self) -> Parameters {
        // Relaxed: the bits stand for themselves and publish nothing else.
        Parameters(self.parameters.load(Ordering::Relaxed))
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

    /// Returns to the state after power-on.
    fn reset(&self) {
        self.parameters.store(power_on_parameters(&self.config).0, Ordering::Relaxed);
    }
}

fn power_on_parameters(config: &Config) -> Parameters {
    let mut parameters = Parameters(0);
    parameters.set(Parameters::WRITE_CACHE, config.write_cache);
    parameters
}
