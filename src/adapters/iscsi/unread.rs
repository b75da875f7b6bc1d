// SPDX-License-Identifier: GPL-2.0-or-later
//! Who is not served for want of memory.

use crate::fabrics::iscsi::ConnectionKey;
use crate::time::Instant;

/// Who that is, and when they are to be looked at again.
#[derive(Default)]
pub(super) struct Unread {
    /// Connections that are not read.
    pub(super) connections: Vec<(usize, ConnectionKey)>,
    /// Sessions with commands that wait for memory.
    pub(super) waiting: Vec<usize>,
    pub(super) retry: Instant,
}

impl Unread {
    pub(super) fn is_empty(&self) -> bool {
        self.connections.is_empty() && self.waiting.is_empty()
    }

    /// When a look is due.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        (!self.is_empty()).then_some(self.retry)
    }
}
