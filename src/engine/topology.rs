// SPDX-License-Identifier: GPL-2.0-or-later
//! What the control plane asks of cores when the topology changes; see [`super::agreement`]. Logical units come before
//! anybody sees them, and go when nobody on any core does any more.

use std::any::Any;
use std::sync::mpsc::SyncSender;

use super::agreement::Ticket;
use super::links::LinkEnd;
use super::tasks::{NewUnit, UnitKey};
use crate::io::Error;
use crate::reactor::CoreContext;

/// What a change of the topology brings to a core.
pub struct TopologyShare {
    /// Logical units that are new.
    pub units: Vec<NewUnit>,
    /// What each fabric gets, in their order; see [`Fabric::arrange`](crate::engine::fabric::Fabric::arrange).
    pub fabrics: Vec<Box<dyn Any>>,
    /// Links to the other cores, if there were none.
    pub links: Vec<LinkEnd>,
}

/// Makes a share, on the thread of the core.
pub type MakeShare = Box<dyn FnOnce(&CoreContext) -> Result<TopologyShare, String> + Send>;

/// The vote of a core.
#[derive(Debug)]
pub struct Vote {
    /// Whose.
    pub core: usize,
    /// On what.
    pub ticket: Ticket,
    /// Why not.
    pub vote: Result<(), String>,
}

/// A core has nothing to do with a logical unit any more.
#[derive(Debug)]
pub struct RetiredUnit {
    /// Which.
    pub unit: UnitKey,
    /// Whether what was written there is on stable storage.
    pub flushed: Result<(), Error>,
}

/// What the control plane asks of a core in the course of a change.
pub enum TopologyMessage {
    /// Make a share ready, and vote.
    Prepare {
        /// Names the change.
        ticket: Ticket,
        /// Makes the share.
        make: MakeShare,
        /// Where the vote goes.
        to: SyncSender<Vote>,
    },
    /// All cores have agreed.
    Commit {
        /// On that.
        ticket: Ticket,
        /// Logical units that go.
        retires: Vec<UnitKey>,
        /// Who waits for each of them.
        to: SyncSender<RetiredUnit>,
    },
    /// It was given up.
    Abort(Ticket),
    /// No core has anything to do with these logical units any more: drop them, and then what is sent along.
    Remove(Vec<UnitKey>, SyncSender<()>),
}

/// A share of which nothing is decided yet.
pub(super) struct ReadyShare {
    pub(super) units: Vec<UnitKey>,
    pub(super) fabrics: Vec<Box<dyn Any>>,
    pub(super) links: Vec<LinkEnd>,
}
