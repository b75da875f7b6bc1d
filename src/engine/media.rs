// SPDX-License-Identifier: GPL-2.0-or-later
//! What is asked of the owner of a logical unit when its medium changes. Whoever asks has opened the new medium before, and
//! closes the old one when the owner has answered: neither is for a reactor.

use std::sync::mpsc::SyncSender;

use super::agreement::Ticket;
use crate::io::Store;
use crate::reactor::CoreContext;
use crate::scsi::UnitKey;

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
        to: SyncSender<Result<(), String>>,
    },
    /// A change that has not happened yet is not to happen.
    GiveUp(Ticket),
}
