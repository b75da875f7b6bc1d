// SPDX-License-Identifier: GPL-2.0-or-later
//! Disks: the direct access block device of SBC-3 over any store.
//!
//! [`Disk`] is the logical unit, shared by all cores: what SPC gives every logical unit, and the state of the medium.
//! [`Server`] is one core's device server with the tasks of that core. Buffers belong to the task that holds them and
//! go home when it ends; a task never holds more than one chunk of [`crate::io::Geometry::transfer_max`] bytes,
//! however long its transfer is.

mod atomic;
mod config;
mod copy;
mod device;
mod disk;
mod erase;
mod flags;
mod limits;
mod logs;
mod long;
mod mode;
mod options;
mod pages;
mod provisioning;
mod removable;
mod simple;
mod table;
mod task;
#[cfg(test)]
mod tests;
mod transfer;

pub use config::{BlockSize, Config, KEYS, PRODUCT};
pub use disk::{Disk, DiskReport};
pub use table::commands;

/// A disk's device server on one core.
pub type Server = crate::scsi::primary::PrimaryServer<Disk>;
