// SPDX-License-Identifier: GPL-2.0-or-later
//! What a flow holds, on the accounts of memory.

use crate::memory::{Arena, MemoryAccount, MemoryCharge};

/// Most bytes that all flows keep out of order, which lie outside of the arena.
const KEPT_MAX: u64 = 24 << 20;

/// The share of the budget that they are.
const KEPT_SHARE: u64 = 8;

/// See the module.
pub(super) struct HeldByFlow {
    /// What is kept out of order, of the share of all flows for that.
    kept: MemoryCharge,
    /// All of it.
    all: MemoryCharge,
}

impl HeldByFlow {
    /// Nothing, for a peer that has not logged in.
    pub(super) fn new(arena: &Arena) -> Self {
        let budget = arena.budget();
        let kept = budget.limited("out of order", (budget.limit() / KEPT_SHARE).min(KEPT_MAX));
        Self {
            kept: MemoryCharge::on(&kept.connection()),
            all: MemoryCharge::on(&arena.strangers().connection()),
        }
    }

    /// From now on it is so much.
    #[inline]
    pub(super) fn set(&mut self, kept: usize, others: u64) {
        if self.kept.bytes() != kept as u64 {
            self.kept.set(kept as u64);
        }
        self.all.set(kept as u64 + others);
    }

    /// From now on it is on that account.
    pub(super) fn bill(&mut self, account: &MemoryAccount) {
        self.all.bill(account);
    }

    /// Whether it is more than there is memory for.
    #[inline]
    pub(super) fn is_too_much(&self) -> bool {
        self.all.account().is_overdrawn()
    }

    /// Whether it is so little, with so many bytes more, that the peer is not to wait for others who hold more.
    pub(super) fn is_little(&self, bytes: usize) -> bool {
        self.all.account().has_little(bytes as u64)
    }

    /// Whether so many more bytes may be kept out of order.
    pub(super) fn may_keep(&mut self, bytes: u64) -> bool {
        !self.is_too_much() && self.kept.raise(bytes)
    }
}
