// SPDX-License-Identifier: GPL-2.0-or-later
//! Media that go from disks and come back while the target runs, as its control plane has it done, and what initiators
//! may see of that.

use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};

use super::canary::Canary;
use super::oracle::Tick;
use super::store::{Medium, SimStore};
use crate::engine::agreement::Ticket;
use crate::engine::media::{AttachStore, MediumMessage};
use crate::engine::shard::Message;
use crate::engine::tasks::MediumRefusal;
use crate::io::Store;
use crate::reactor::{CoreContext, Sender};
use crate::scsi::UnitKey;
use crate::stores::exclusive::{Exclusive, ExclusiveGate};
use crate::stores::{ImageClaim, ImageClaims, ImagePlace};

thread_local! {
    /// The media of the world that runs in this thread: what crosses between cores cannot have them.
    static MEDIA: RefCell<Vec<Rc<RefCell<Medium>>>> = const { RefCell::new(Vec::new()) };
}

/// These are the media of the world from now on.
pub(super) fn know(media: &[Rc<RefCell<Medium>>]) {
    MEDIA.set(media.to_vec());
}

/// Where the medium of a disk is, as far as is known.
#[derive(Clone, Copy, Debug)]
pub(super) enum Whereabouts {
    /// It is in, and was not out since then.
    In(Tick),
    /// It goes or comes.
    Moving,
    /// It is out since then.
    Out(Tick),
}

impl Whereabouts {
    /// Whether a command that was sent then may have met no medium.
    pub(super) fn may_be_out(self, sent: Tick) -> bool {
        match self {
            Self::In(since) => sent < since,
            Self::Moving | Self::Out(_) => true,
        }
    }

    /// Whether a command that was sent then has certainly met none.
    pub(super) fn is_out(self, sent: Tick) -> bool {
        matches!(self, Self::Out(since) if since < sent)
    }
}

/// A change that has not ended.
struct MediumMove {
    disk: usize,
    /// The medium that comes, if one does.
    comes: Option<HeldMedium>,
    before: Whereabouts,
    ended: Receiver<Result<(), MediumRefusal>>,
}

/// A medium that is in a disk. The canary has one without a claim.
struct HeldMedium {
    _claim: Option<ImageClaim>,
}

/// See the module.
pub(super) struct MediaDesk {
    claims: ImageClaims,
    /// What is in each disk.
    held: Vec<Option<HeldMedium>>,
    /// The core that owns each disk, if it is one whose medium can go.
    owners: Vec<Option<usize>>,
    units: Vec<UnitKey>,
    gates: Vec<Arc<ExclusiveGate>>,
    last: Ticket,
    moves: Vec<MediumMove>,
    canary: Option<Canary>,
}

fn place(disk: usize) -> ImagePlace {
    ImagePlace::Path(PathBuf::from(format!("medium-{disk}")))
}

impl MediaDesk {
    /// With the medium of each disk in it.
    pub(super) fn new(
        owners: Vec<Option<usize>>,
        units: Vec<UnitKey>,
        gates: Vec<Arc<ExclusiveGate>>,
        canary: Option<Canary>,
    ) -> Self {
        let claims = ImageClaims::default();
        let held = |disk| Some(HeldMedium { _claim: claims.claim(place(disk), &disk.to_string()).ok() });
        let held = (0..owners.len()).map(held).collect();
        let (last, moves) = Default::default();
        Self { claims, held, owners, units, gates, last, moves, canary }
    }

    /// Nothing is under way.
    pub(super) fn is_idle(&self) -> bool {
        self.moves.is_empty()
    }

    /// Has the medium of a disk taken out, or that of `of` brought if there is none. Returns what has happened.
    pub(super) fn begin(
        &mut self,
        cores: &[Sender<Message>],
        (disk, of): (usize, usize),
        gives_up: bool,
        whereabouts: &mut [Whereabouts],
    ) -> Option<&'static str> {
        let owner = self.owners[disk]?;
        if self.moves.iter().any(|under_way| under_way.disk == disk) {
            return None;
        }
        let (mut comes, mut attach) = (None, None);
        if self.held[disk].is_none() {
            let claim = |of| self.claims.claim(place(of), &disk.to_string());
            let (medium, claim) = match claim(of) {
                Err(_) if self.canary == Some(Canary::MountedTwice) && are_alike(of, disk) => (of, None),
                Err(_) => return Some("media refused that are in another disk"),
                Ok(claim) if of == disk => (disk, Some(claim)),
                // It is out, too, and its own comes back, as nobody knows what is on another.
                Ok(_) => (disk, claim(disk).ok()),
            };
            let gate = self.gates[medium].clone();
            let store: AttachStore = Box::new(move |context| Ok(store(medium, context, gate)));
            (comes, attach) = (Some(HeldMedium { _claim: claim }), Some(store));
        }
        self.last.0 += 1;
        let (ticket, unit, force) = (self.last, self.units[disk], false);
        let (to, ended) = sync_channel(1);
        cores[owner].send(Message::Medium(MediumMessage::Change { unit, ticket, force, attach, to }));
        if gives_up {
            cores[owner].send(Message::Medium(MediumMessage::GiveUp(ticket)));
        }
        let before = std::mem::replace(&mut whereabouts[disk], Whereabouts::Moving);
        self.moves.push(MediumMove { disk, comes, before, ended });
        None
    }

    /// Takes what has ended. Returns what has happened, for the tally.
    pub(super) fn turn(&mut self, now: Tick, whereabouts: &mut [Whereabouts]) -> Option<&'static str> {
        let ended = |under_way: &MediumMove| match under_way.ended.try_recv() {
            Err(TryRecvError::Empty) => None,
            ended => Some(ended.is_ok_and(|outcome| outcome.is_ok())),
        };
        let mut all = self.moves.iter().enumerate();
        let (index, good) = all.find_map(|(index, under_way)| Some((index, ended(under_way)?)))?;
        let MediumMove { disk, comes, before, .. } = self.moves.swap_remove(index);
        if !good {
            whereabouts[disk] = before;
            return Some("changes of media that failed");
        }
        let is_in = comes.is_some();
        self.held[disk] = comes;
        whereabouts[disk] = if is_in { Whereabouts::In(now) } else { Whereabouts::Out(now) };
        Some(if is_in { "media that came" } else { "media that went" })
    }
}

/// Whether the medium of one disk fits into the other.
fn are_alike(one: usize, other: usize) -> bool {
    MEDIA.with_borrow(|media| media[one].borrow().geometry() == media[other].borrow().geometry())
}

/// The handle of a core to a medium.
pub(super) fn store(medium: usize, context: &CoreContext, gate: Arc<ExclusiveGate>) -> Box<dyn Store> {
    let medium = MEDIA.with_borrow(|media| media[medium].clone());
    let number = medium.borrow_mut().new_handle();
    let handle = SimStore { medium, number, arena: context.arena().clone() };
    Box::new(Exclusive::new(handle, gate))
}
