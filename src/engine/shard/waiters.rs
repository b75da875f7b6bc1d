// SPDX-License-Identifier: GPL-2.0-or-later
//! Who waits for memory, and what is known of those who hold it.

use crate::fabrics::iscsi::ConnectionKey;
use crate::time::Instant;

/// What is known of who waits.
#[derive(Default)]
pub(super) struct Shortage {
    /// Connections that are not read.
    pub(super) unread: Vec<(usize, ConnectionKey)>,
    /// Sessions with commands that wait for memory.
    pub(super) waiting: Vec<usize>,
    pub(super) retry: Instant,
    /// Requests that had been refused when this was looked at last.
    pub(super) refused: u64,
    pub(super) arena_refused: u64,
    /// When all sessions are looked at next, if somebody waits; and when they were last.
    pub(super) due: Option<Instant>,
    pub(super) audited: Instant,
}

impl Shortage {
    pub(super) fn is_waited_for(&self) -> bool {
        !self.unread.is_empty() || !self.waiting.is_empty()
    }
}

/// What a session has given back, and when it was seen that this was much.
#[derive(Clone, Copy, Default)]
pub(super) struct Progress {
    pub(super) given: u64,
    pub(super) since: Instant,
}
