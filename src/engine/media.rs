// SPDX-License-Identifier: GPL-2.0-or-later
//! What is asked of the owner of a logical unit when its medium changes. Whoever asks has opened the new medium before,
//! and closes the old one when the owner has answered: neither is for a reactor.

use std::os::fd::RawFd;
use std::sync::mpsc::SyncSender;

use super::agreement::Ticket;
use super::tasks::MediumRefusal;
use crate::io::{Store, Tag};
use crate::reactor::CoreContext;
use crate::scsi::{DriveChange, MoveFailure, UnitKey};

/// Makes the owner's handle to a store, on its thread.
pub type AttachStore = Box<dyn FnOnce(&CoreContext) -> Result<Box<dyn Store>, String> + Send>;

/// See the module.
pub enum MediumMessage {
    /// The medium that is in the unit goes, if there is one, and another may come; see
    /// [`TaskManager::change_medium`](super::tasks::TaskManager::change_medium).
    Change {
        /// Which.
        unit: UnitKey,
        /// Names the change.
        ticket: Ticket,
        /// The old one goes even if initiators prevent that, or what was written cannot be brought to it.
        force: bool,
        /// The new one.
        attach: Option<AttachStore>,
        /// Who waits for the end; the error says why everything is as before.
        to: SyncSender<Result<(), MediumRefusal>>,
    },
    /// A change that has not happened yet is not to happen.
    GiveUp(Ticket),
}

/// A core's handle to whoever moves the media of libraries, on a thread that may wait. Used by its own core only.
pub trait MediaMover {
    /// The changer that is this logical unit wants these drives to have other media. Never waits; answered once by
    /// [`MediaMover::poll`].
    fn begin(&mut self, tag: Tag, changer: UnitKey, changes: Vec<DriveChange>);

    /// Appends what has ended. Never waits.
    fn poll(&mut self, done: &mut Vec<(Tag, Result<(), MoveFailure>)>);

    /// A descriptor that becomes readable when `poll` has something to say, for a core that goes to sleep.
    fn wake_fd(&self) -> Option<RawFd> {
        None
    }
}
