// SPDX-License-Identifier: GPL-2.0-or-later
//! Small state of a logical unit that must outlive the daemon: what a device asks of whoever keeps it.

use std::os::fd::RawFd;

use super::{Error, Tag};

/// Most bytes of a record.
pub const RECORD_MAX: usize = 256 << 10;

/// Names the place of one logical unit's records; the same on every core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordSlot(pub usize);

/// The whole of one kind of state, as it is to be found after a restart. It replaces the record of that name.
///
/// Several cores may keep records of one name: each new state gets the next `generation`, taken under the same lock as
/// `bytes`. An older record that comes later is not written, and counts as kept once the newer one is: what it held is
/// either in the newer one or was undone by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// What it is; letters, and the name of a file.
    pub name: &'static str,
    /// Which state of it; rises from the start of the daemon.
    pub generation: u64,
    /// The state, at most [`RECORD_MAX`] bytes, in a format of the owner's that begins with a version.
    pub bytes: Vec<u8>,
}

/// A core's handle to the place where records are kept. Used by its own core only.
///
/// A record that is reported as kept survives the end of the process and the loss of power at any moment. One that is
/// not may or may not be there afterwards; never a part of it.
pub trait RecordStore {
    /// Takes a record. Never waits; answered once by [`RecordStore::poll`]. A tag has one record under way at most,
    /// which bounds the queue.
    fn persist(&mut self, tag: Tag, slot: RecordSlot, record: Record);

    /// Appends the records that are kept, or could not be. Never waits.
    fn poll(&mut self, done: &mut Vec<(Tag, Result<(), Error>)>);

    /// A descriptor that becomes readable when `poll` has something to say, for a core that goes to sleep.
    fn wake_fd(&self) -> Option<RawFd> {
        None
    }
}
