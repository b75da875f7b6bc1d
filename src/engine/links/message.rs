// SPDX-License-Identifier: GPL-2.0-or-later
//! What goes through the rings.

use std::cell::RefCell;
use std::rc::Rc;

use crate::engine::tasks::{NexusKey, NexusMessage};
use crate::memory::{Abroad, Arena, MemoryAccount, MemoryCharge, Sg};
use crate::reactor::RingSender;
use crate::scsi::Nexus;

/// Data that its core sends away; `None` if there are no bytes.
pub(super) type AwayPayload = Option<Abroad<Option<MemoryCharge>>>;

/// What goes through a ring.
pub(super) enum LinkMessage {
    /// About the nexus with this key at the core of its session.
    Nexus(NexusKey, NexusMessage<AwayPayload>),
    /// It is copied, or nobody wants it any more.
    Home(AwayPayload),
    /// No nexus of the sender will join any more.
    Closed,
}

/// The sending side of a link, which the mirrors of its core share.
pub(super) type OutgoingRing = Rc<RefCell<RingSender<LinkMessage>>>;

/// The account of an initiator port, of all its nexuses.
pub(super) fn account(arena: &Arena, name: &Nexus) -> MemoryAccount {
    arena.budget().child(&name.initiator.to_string())
}

/// So many bytes on an account.
pub(super) fn charge(account: &MemoryAccount, bytes: u64) -> MemoryCharge {
    let mut charge = MemoryCharge::on(account);
    charge.set(bytes);
    charge
}

/// What is sent away by this core.
pub(super) fn payload(data: Sg, charge: Option<MemoryCharge>) -> AwayPayload {
    (!data.is_empty()).then(|| Abroad::new(data, charge))
}
