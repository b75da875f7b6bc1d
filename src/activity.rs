// SPDX-License-Identifier: GPL-2.0-or-later
//! What a thread is about: last words, if it panics. Whoever serves a peer says so, which is a few stores to memory of
//! the thread's own; nothing is decided by it.

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

/// The thread serves that peer from now on, and a message of it: opcode and tag of the last one that has come.
#[inline]
pub fn serve(peer: SocketAddr, message: Option<(u8, u32)>) {
    NOW.with(|now| {
        now.peer.set(Some(peer));
        now.message.set(message);
    });
}

/// Another message of the peer that the thread serves has come.
#[inline]
pub fn hear(message: (u8, u32)) {
    NOW.with(|now| now.message.set(Some(message)));
}

/// Whether it serves a peer.
#[inline]
pub fn serves() -> bool {
    NOW.with(|now| now.peer.get().is_some())
}

/// It serves no peer any more.
#[inline]
pub fn rest() {
    NOW.with(|now| {
        now.peer.set(None);
    });
}

/// What this thread is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Whom it serves.
    pub peer: Option<SocketAddr>,
    /// Opcode and tag of the last message that had come from that peer.
    pub message: Option<(u8, u32)>,
}

/// What this thread is about.
pub fn now() -> Now {
    NOW.with(|now| {
        let peer = now.peer.get();
        Now { peer, message: now.message.get().filter(|_| peer.is_some()) }
    })
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
