// SPDX-License-Identifier: GPL-2.0-or-later
//! The way of a move of media: from the core of a changer to the thread that carries it out, and back.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

use crate::engine::media::MediaMover;
use crate::io::Tag;
use crate::scsi::{DriveChange, MoveFailure, UnitKey};
use crate::sys::EventFd;

/// What a changer wants to have moved.
pub(super) struct MoveRequest {
    pub(super) changer: UnitKey,
    pub(super) changes: Vec<DriveChange>,
    tag: Tag,
    to: Arc<MovesEnded>,
}

impl MoveRequest {
    /// Tells the core how it has ended.
    pub(super) fn end(&self, outcome: Result<(), MoveFailure>) {
        self.to.end(self.tag, outcome);
    }
}

/// What has ended of what a core has asked for.
struct MovesEnded {
    ended: Mutex<Vec<(Tag, Result<(), MoveFailure>)>>,
    wake: EventFd,
}

/// Where cores send their requests; the thread ends when all of them are gone.
#[derive(Clone)]
pub(super) struct Librarian(Sender<MoveRequest>);

/// What is asked of the thread, until it is there.
pub(super) struct MoveRequests(pub(super) Receiver<MoveRequest>);

/// A pair of them.
pub(super) fn librarian() -> (Librarian, MoveRequests) {
    let (sender, receiver) = channel();
    (Librarian(sender), MoveRequests(receiver))
}

impl Librarian {
    /// A core's handle.
    pub(super) fn mover(&self) -> io::Result<Box<dyn MediaMover>> {
        let to = Arc::new(MovesEnded { ended: Mutex::default(), wake: EventFd::new()? });
        Ok(Box::new(CoreMover { librarian: self.clone(), to }))
    }
}

struct CoreMover {
    librarian: Librarian,
    to: Arc<MovesEnded>,
}

impl MovesEnded {
    fn end(&self, tag: Tag, outcome: Result<(), MoveFailure>) {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner).push((tag, outcome));
        self.wake.raise();
    }
}

impl MediaMover for CoreMover {
    fn begin(&mut self, tag: Tag, changer: UnitKey, changes: Vec<DriveChange>) {
        let request = MoveRequest { changer, changes, tag, to: self.to.clone() };
        if self.librarian.0.send(request).is_err() {
            self.to.end(tag, Err(MoveFailure::Failed));
        }
    }

    fn poll(&mut self, done: &mut Vec<(Tag, Result<(), MoveFailure>)>) {
        self.to.wake.lower();
        done.append(&mut self.to.ended.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn wake_fd(&self) -> Option<RawFd> {
        Some(self.to.wake.as_raw_fd())
    }
}
