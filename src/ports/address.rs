// SPDX-License-Identifier: GPL-2.0-or-later
//! What a daemon has of an address, or why it cannot have it, and who has it.

use std::net::TcpListener;
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;

/// Why an address cannot be taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressRefusal {
    /// What is in the way.
    pub found: String,
    /// What to do.
    pub help: String,
    /// Who that is.
    pub holder: AddressHolder,
}

/// Who has an address, or a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AddressHolder {
    /// Whoever has one of the sockets with these inodes.
    Sockets(Vec<u64>),
    /// Whoever has this TAP device open.
    Device(String),
    /// No daemon: it cannot be had, whoever asks.
    Nobody,
    /// Perhaps nobody: this user may not know.
    Unknown,
}

/// What this daemon has alone of an address.
#[derive(Clone, Debug)]
pub enum TakenAddress {
    /// The kernel's socket that listens there.
    Listener(Arc<TcpListener>),
    /// Its name, as long as this is there.
    Lock(Arc<UnixDatagram>),
}
