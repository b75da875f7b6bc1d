// SPDX-License-Identifier: GPL-2.0-or-later
//! What becomes of peers when memory is short and somebody waits for it: those who hold most and make no progress are
//! cut, whatever fabric they have come by.

use std::time::Duration;

use log::warn;
use smallvec::SmallVec;

use super::audit::{MemoryAudit, MemoryHolder};
use super::fabric::{Core, Fabric};
use crate::memory::Arena;
use crate::time::Instant;

/// How often all are looked at while somebody waits.
const AUDIT: Duration = Duration::from_millis(25);

/// What was seen longer ago says nothing. Turns of a core that is busy may be long.
const MEMORY_OF_PROGRESS: Duration = Duration::from_secs(5);

/// Most that are cut at once.
const CUT_MAX: usize = 16;

/// What is known of who waits.
#[derive(Default)]
pub(super) struct Shortage {
    /// Requests that had been refused when this was looked at last.
    refused: u64,
    arena_refused: u64,
    /// When all are looked at next, if somebody waits; and when they were last.
    due: Option<Instant>,
    audited: Instant,
}

impl Shortage {
    /// Deals with whoever waits for memory.
    pub(super) fn run(&mut self, core: &Core, arena: &Arena, fabrics: &mut [Box<dyn Fabric>]) {
        let refused = arena.counters().refused + arena.budget().refusals();
        if refused != self.refused {
            self.somebody_waits(core.now, arena, refused);
        }
        if self.due.is_some_and(|due| due <= core.now) {
            self.audit(core, arena, fabrics);
        }
    }

    #[cold]
    fn somebody_waits(&mut self, now: Instant, arena: &Arena, refused: u64) {
        if arena.counters().refused != self.arena_refused {
            self.arena_refused = arena.counters().refused;
            arena.budget().waits(0);
        }
        self.refused = refused;
        self.due.get_or_insert(now);
    }

    /// Looks at all: idle ones give credit back, and of those who hold more than somebody who waits does, the largest
    /// that make no progress are cut.
    #[cold]
    fn audit(&mut self, core: &Core, arena: &Arena, fabrics: &mut [Box<dyn Fabric>]) {
        let now = core.now;
        let first = now - self.audited > MEMORY_OF_PROGRESS;
        self.audited = now;
        let least = arena.budget().take_refused();
        self.due = least.map(|_| now + AUDIT);
        let Some(least) = least else { return };
        // Half of what all would have if they had the same: when there is no memory left, there are some who hold more.
        let all = fabrics.iter().map(|fabric| fabric.census().all()).sum::<usize>().max(1);
        let small = least.max(arena.budget().limit() / (2 * all as u64));
        let audit = MemoryAudit { now, first, small };
        let mut stuck: SmallVec<[(u64, usize, MemoryHolder); CUT_MAX + 1]> = SmallVec::new();
        for (index, fabric) in fabrics.iter_mut().enumerate() {
            fabric.audit(core, &audit, &mut |held, holder| {
                stuck.push((held, index, holder));
                stuck.sort_unstable_by_key(|&(held, ..)| std::cmp::Reverse(held));
                stuck.truncate(CUT_MAX);
            });
        }
        let Some(&(held, index, largest)) = stuck.first() else { return };
        warn!(
            "memory is short: {} sessions that hold much of it and make no progress are cut, the largest ({} KiB) is {}",
            stuck.len(),
            held >> 10,
            fabrics[index].describe(largest),
        );
        for (_, index, holder) in stuck {
            log::trace!("a session is cut for want of memory");
            fabrics[index].cut(holder, "it held memory that others need and made no progress");
        }
    }

    /// When [`Self::run`] is to be called next.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.due
    }
}
