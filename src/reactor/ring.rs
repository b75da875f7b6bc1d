// SPDX-License-Identifier: GPL-2.0-or-later
//! Rings from one core to another, for what is too frequent for a mailbox: one sender, one receiver, no lock.

use std::collections::VecDeque;

use rtrb::{Consumer, Producer, RingBuffer};

/// The sending side; owned by one core. What finds no room waits here, in its order: whoever sends bounds that by what
/// it lets be under way.
pub struct RingSender<T> {
    ring: Producer<T>,
    waiting: VecDeque<T>,
    /// Something has gone since the receiver was woken last.
    gone: bool,
}

/// The receiving side; owned by one core.
pub struct RingReceiver<T>(Consumer<T>);

/// A new ring with room for so many.
pub fn ring<T>(room: usize) -> (RingSender<T>, RingReceiver<T>) {
    let (producer, consumer) = RingBuffer::new(room);
    (RingSender { ring: producer, waiting: VecDeque::new(), gone: false }, RingReceiver(consumer))
}

impl<T> RingSender<T> {
    /// Puts something in. The receiver learns of it when it is woken after the next [`RingSender::flush`].
    pub fn send(&mut self, item: T) {
        self.waiting.push_back(item);
        self.advance();
    }

    /// Puts in what has waited for room, as far as there is some now. Returns whether the receiver has to be woken.
    pub fn flush(&mut self) -> bool {
        self.advance();
        std::mem::take(&mut self.gone)
    }

    /// Whether something waits for room. Nobody tells when there is some: the core must not sleep.
    pub fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    fn advance(&mut self) {
        while let Some(item) = self.waiting.pop_front() {
            if let Err(rtrb::PushError::Full(item)) = self.ring.push(item) {
                self.waiting.push_front(item);
                return;
            }
            self.gone = true;
        }
    }
}

impl<T> RingReceiver<T> {
    /// The next. Where there is none, that costs one load.
    pub fn take(&mut self) -> Option<T> {
        self.0.pop().ok()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the sender is gone.
    pub fn is_abandoned(&self) -> bool {
        self.0.is_abandoned()
    }
}
