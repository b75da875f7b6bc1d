// SPDX-License-Identifier: GPL-2.0-or-later
//! Messages from other threads to a core: control only (logins that meet an old session, resets, status, shutdown),
//! never per I/O, so a mutex around a queue serves. Looking into an empty mailbox is one load.

use std::collections::VecDeque;
use std::os::fd::{AsRawFd, RawFd};

use crate::sys::EventFd;
use crate::sys::sync::{Arc, AtomicBool, AtomicUsize, Mutex, Ordering, PoisonError, fence};

/// In cache lines of its own: its core looks at it in each turn.
#[repr(align(128))]
struct Shared<T> {
    queue: Mutex<VecDeque<T>>,
    waiting: AtomicUsize,
    asleep: AtomicBool,
    wake: EventFd,
}

/// The receiving side; owned by one core.
pub struct Mailbox<T>(Arc<Shared<T>>);

/// The sending side.
pub struct Sender<T>(Arc<Shared<T>>);

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

/// A new mailbox.
pub fn mailbox<T>() -> std::io::Result<(Sender<T>, Mailbox<T>)> {
    let shared = Arc::new(Shared {
        queue: Mutex::new(VecDeque::new()),
        waiting: AtomicUsize::new(0),
        asleep: AtomicBool::new(false),
        wake: EventFd::new()?,
    });
    Ok((Sender(shared.clone()), Mailbox(shared)))
}

impl<T> Sender<T> {
    /// Puts a message in, and wakes the receiver if it sleeps. Every sender waits for an answer before it sends the
    /// next message of its kind, so that the queue is bounded by the number of senders.
    pub fn send(&self, message: T) {
        let shared = &*self.0;
        let mut queue = shared.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.push_back(message);
        shared.waiting.store(queue.len(), Ordering::SeqCst);
        drop(queue);
        self.wake();
    }

    /// Wakes the receiver if it sleeps, because of something that lies elsewhere: its sender has put it there before.
    /// See [`Mailbox::announce_sleep`].
    pub fn wake(&self) {
        fence(Ordering::SeqCst);
        if self.0.asleep.load(Ordering::SeqCst) {
            self.0.wake.raise();
        }
    }
}

impl<T> Mailbox<T> {
    /// The next message.
    pub fn take(&mut self) -> Option<T> {
        if self.0.waiting.load(Ordering::Acquire) == 0 {
            return None;
        }
        let mut queue = self.0.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let message = queue.pop_front();
        self.0.waiting.store(queue.len(), Ordering::SeqCst);
        message
    }

    /// Announces a sleep on [`Mailbox::wake_fd`]. `false` if a message came first. Whoever is woken for something else,
    /// too, looks for that afterwards.
    ///
    /// Between the announcement and the look at the queue, or at a ring, is a sequentially consistent fence, as there
    /// is between what a sender has put there and its look at the announcement. Of two such fences one comes first, and
    /// what stands before it is seen by what stands behind the other: the sleeper sees the message, or the sender the
    /// sleeper, also where the message itself is published by a release store alone.
    pub fn announce_sleep(&mut self) -> bool {
        self.0.asleep.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        self.0.waiting.load(Ordering::SeqCst) == 0
    }

    /// The sleep is over.
    pub fn awake(&mut self) {
        if self.0.asleep.swap(false, Ordering::SeqCst) {
            self.0.wake.lower();
        }
    }

    /// Becomes readable when a message comes in during an announced sleep.
    pub fn wake_fd(&self) -> RawFd {
        self.0.wake.as_raw_fd()
    }
}
