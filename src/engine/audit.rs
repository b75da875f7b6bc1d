// SPDX-License-Identifier: GPL-2.0-or-later
//! Who holds memory that others wait for, and makes no progress.

use std::time::Duration;

use crate::time::Instant;

/// How long somebody may hold memory that others wait for without giving back a part of it.
const PATIENCE: Duration = Duration::from_millis(300);

/// That part: little, as sessions of a slow link that share it fill much memory and give it back slowly.
const PROGRESS_SHARE: u64 = 256;

/// A fabric's name for somebody who holds memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryHolder(pub usize);

/// What somebody has given back, and when it was seen that this was much.
#[derive(Clone, Copy, Debug)]
pub struct MemoryProgress {
    given: u64,
    since: Instant,
}

impl MemoryProgress {
    /// Of one who comes now.
    pub fn begin(now: Instant) -> Self {
        Self { given: 0, since: now }
    }
}

/// A look at all who hold memory.
#[derive(Clone, Copy, Debug)]
pub struct MemoryAudit {
    pub(super) now: Instant,
    /// Before the first look nobody is known to make no progress.
    pub(super) first: bool,
    /// What is no matter, whoever holds it.
    pub(super) small: u64,
}

impl MemoryAudit {
    /// Whether one who holds so much, and has given back so much since ever, holds too much and makes no progress.
    pub fn finds_stuck(&self, progress: &mut MemoryProgress, held: u64, given: u64) -> bool {
        if self.first || given.wrapping_sub(progress.given) > held / PROGRESS_SHARE {
            *progress = MemoryProgress { given, since: self.now };
        }
        held > self.small && self.now - progress.since >= PATIENCE
    }
}
