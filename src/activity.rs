// SPDX-License-Identifier: GPL-2.0-or-later
//! What a thread is about: last words, if it panics. Whoever serves a peer says so, which is a few stores to memory of the
//! thread's own; nothing is decided by it.

use std::cell::Cell;
use std::fmt;
use std::net::SocketAddr;

thread_local! {
    static NOW: Activity = const { Activity { peer: Cell::new(None), message: Cell::new(None) } };
}

struct Activity {
    peer: Cell<Option<SocketAddr>>,
    /// Its opcode and its tag.
    message: Cell<Option<(u8, u32)>>,
}

/// The thread serves that peer from now on.
#[inline]
pub fn serve(peer: SocketAddr) {
    NOW.with(|now| {
        now.peer.set(Some(peer));
        now.message.set(None);
    });
}

/// It handles a message of that peer.
#[inline]
pub fn handle(opcode: u8, tag: u32) {
    NOW.with(|now| now.message.set(Some((opcode, tag))));
}

/// It serves no peer any more.
#[inline]
pub fn rest() {
    NOW.with(|now| {
        now.peer.set(None);
        now.message.set(None);
    });
}

/// What this thread is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Whom it serves.
    pub peer: Option<SocketAddr>,
    /// Opcode and tag of the last message of that peer that it has handled since it came to it.
    pub message: Option<(u8, u32)>,
}

/// What this thread is about.
pub fn now() -> Now {
    NOW.with(|now| Now { peer: now.peer.get(), message: now.message.get() })
}

impl fmt::Display for Now {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.peer, self.message) {
            (None, _) => f.write_str("it served no connection"),
            (Some(peer), None) => write!(f, "it served the connection of {peer}"),
            (Some(peer), Some((opcode, tag))) => {
                write!(
                    f,
                    "it served the connection of {peer}, and its PDU of opcode {opcode:#04x} and task tag {tag:#010x}"
                )
            }
        }
    }
}
