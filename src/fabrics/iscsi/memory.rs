// SPDX-License-Identifier: GPL-2.0-or-later
//! How much payload an initiator may make the target hold: a pool that all its sessions with a target share, on
//! whichever core they live, and a little for each session, so that none is shut out by the others. A session takes from
//! the pool in large steps, so that a command seldom touches what is shared.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What a session has beside the pool, and what it takes from that at a time.
const STEP: u64 = 64 << 10;

/// More than a session uses goes back when it is more than this.
const SLACK: u64 = 1 << 20;

/// Most bytes that a command holds in each direction: devices move data in chunks, one at a time, of which stores make
/// none larger.
const CHUNK_MAX: u32 = 1 << 20;

/// What there is for the sessions of an initiator.
#[derive(Debug)]
pub struct Pool(AtomicU64);

impl Pool {
    /// A pool of so many bytes.
    pub fn new(bytes: u64) -> Arc<Self> {
        Arc::new(Self(AtomicU64::new(bytes)))
    }

    fn take(&self, bytes: u64) -> bool {
        // Nothing but the number itself is shared.
        self.0.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(bytes)).is_ok()
    }

    /// Bytes that nobody has taken.
    pub fn left(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// What a session may hold. What is of the pool goes back when it is dropped.
#[derive(Debug)]
pub struct Allowance {
    pool: Arc<Pool>,
    granted: u64,
    used: u64,
}

impl Default for Allowance {
    /// With an empty pool.
    fn default() -> Self {
        Self::of(&Pool::new(0))
    }
}

impl Allowance {
    /// For a session that shares a pool.
    pub fn of(pool: &Arc<Pool>) -> Self {
        Self { pool: pool.clone(), granted: STEP, used: 0 }
    }

    /// Takes what a command needs; `false` if there is not so much.
    pub(super) fn take(&mut self, bytes: u64) -> bool {
        let used = self.used + bytes;
        if used > self.granted {
            let more = (used - self.granted).next_multiple_of(STEP);
            if !self.pool.take(more) {
                return false;
            }
            self.granted += more;
        }
        self.used = used;
        true
    }

    /// Gives back what [`Self::take`] has taken.
    pub(super) fn give(&mut self, bytes: u64) {
        self.used -= bytes;
        if self.granted == STEP {
            return;
        }
        let keep = self.used.next_multiple_of(STEP).max(STEP);
        if self.granted > keep && (self.used == 0 || self.granted - keep > SLACK) {
            self.pool.0.fetch_add(self.granted - keep, Relaxed);
            self.granted = keep;
        }
    }
}

impl Drop for Allowance {
    fn drop(&mut self) {
        self.pool.0.fetch_add(self.granted - STEP, Relaxed);
    }
}

/// What a command with these expected lengths makes us hold at a time.
pub(super) fn charge(data_in: u32, data_out: u32) -> u64 {
    u64::from(data_in.min(CHUNK_MAX)) + u64::from(data_out.min(CHUNK_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_share_a_pool_and_give_all_of_it_back() {
        let pool = Pool::new(8 * STEP);
        let (mut one, mut two) = (Allowance::of(&pool), Allowance::of(&pool));
        // Small commands one after the other do not touch the pool.
        assert!(one.take(4096) && one.take(8192));
        assert_eq!(pool.left(), 8 * STEP);
        assert!(one.take(8 * STEP - 12_288 + 1), "rounded up");
        assert_eq!(pool.left(), 0);
        assert!(two.take(STEP), "its own");
        assert!(!two.take(1) && !one.take(STEP));
        one.give(8 * STEP - 12_288 + 1);
        assert_eq!(pool.left(), 0, "used again soon, perhaps");
        one.give(12_288);
        assert_eq!(pool.left(), 8 * STEP, "idle");
        assert!(two.take(8 * STEP));
        drop((one, two));
        assert_eq!(pool.left(), 8 * STEP);
    }

    #[test]
    fn what_was_much_does_not_stay() {
        let pool = Pool::new(64 << 20);
        let mut one = Allowance::of(&pool);
        assert!(one.take(charge(0, u32::MAX)) && one.take(charge(u32::MAX, 8 << 20)) && one.take(512));
        assert_eq!(pool.left(), 61 << 20);
        one.give(2 << 20);
        one.give(1 << 20);
        assert!(pool.left() >= 62 << 20, "never idle, but with less");
    }
}
