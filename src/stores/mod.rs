// SPDX-License-Identifier: GPL-2.0-or-later
//! Stores: where blocks really lie. A [`Backing`] is opened once; every core attaches to it and gets a handle of its
//! own ([`Store`]), so that the data path shares nothing but the bytes.
#![expect(unsafe_code, reason = "payload goes to memory and to the kernel by address")]

pub(crate) mod exclusive;
mod file;
mod null;
mod ram;
mod records;
mod ring;
mod wrap;

use std::io;
use std::os::fd::RawFd;
use std::ptr::NonNull;
use std::sync::Arc;

pub use file::FileOptions;
pub use records::Records;
pub use wrap::{Failure, Operations, Rule};

use crate::io::Store;
use crate::memory::Arena;

/// A configured store, shared by all cores.
pub trait Backing: Send + Sync {
    /// A core's handle.
    fn attach(&self, local: &Local) -> io::Result<Box<dyn Store>>;

    /// Memory that its handles lend, if it is in huge pages and stays where it is: devices may be told of it.
    fn region(&self) -> Option<(NonNull<u8>, usize)> {
        None
    }
}

/// What the stores of one core share: its payload memory and one io_uring.
pub struct Local {
    arena: Arena,
    ring: ring::Shared,
}

impl Local {
    /// The facilities of one core.
    pub fn new(arena: Arena) -> io::Result<Self> {
        Ok(Self { arena, ring: ring::Shared::new()? })
    }

    /// Becomes readable when an operation completes, for a core that goes to sleep.
    pub fn wake_fd(&self) -> RawFd {
        self.ring.fd()
    }
}

/// A RAM disk of `bytes`, from huge pages if `huge` and there are enough. Pages come into being when they are written.
pub fn ram(bytes: u64, block: u32, huge: bool) -> io::Result<Arc<dyn Backing>> {
    Ok(Arc::new(ram::Ram::anonymous(bytes, block, huge)?))
}

/// A store that reads as zeros and forgets what is written.
pub fn null(bytes: u64, block: u32) -> io::Result<Arc<dyn Backing>> {
    Ok(Arc::new(null::Null::new(bytes, block)?))
}

/// The same store, with delays and errors by rule.
pub fn wrapped(inner: Arc<dyn Backing>, seed: u64, rules: Vec<Rule>) -> Arc<dyn Backing> {
    Arc::new(wrap::Wrapped::new(inner, seed, rules))
}

/// A plain image file or block device.
pub fn file(options: &FileOptions) -> io::Result<Arc<dyn Backing>> {
    Ok(Arc::new(file::Image::open(options)?))
}
