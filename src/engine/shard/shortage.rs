// SPDX-License-Identifier: GPL-2.0-or-later
//! What becomes of peers when memory is short: those for whom too much is held are not read, and when somebody waits, those
//! who hold most and make no progress are cut.

use std::net::IpAddr;
use std::time::Duration;

use log::warn;
use smallvec::SmallVec;

use super::waiters::{Progress, Shortage};
use super::{SessionEntry, Shard, Stream};
use crate::fabrics::iscsi::ConnectionKey;
use crate::time::Instant;

/// How soon those that were not read are looked at again.
const UNREAD_RETRY: Duration = Duration::from_millis(1);

/// How often all sessions are looked at while somebody waits.
const AUDIT: Duration = Duration::from_millis(25);

/// How long a session may hold memory that others wait for without giving back a part of it.
const PATIENCE: Duration = Duration::from_millis(300);

/// That part: little, as sessions of a slow link that share it fill much memory and give it back slowly.
const PROGRESS_SHARE: u64 = 256;

/// What was seen of a session longer ago says nothing. Turns of a core that is busy may be long.
const MEMORY_OF_PROGRESS: Duration = Duration::from_secs(5);

/// Most sessions that are cut at once.
const CUT_MAX: usize = 16;

impl Shard {
    /// A session that begins has an account of its own, below those of its initiator's address and name, which is only a claim.
    pub(super) fn bill(&mut self, index: usize, key: ConnectionKey, peer: IpAddr, tsih: u16) {
        let SessionEntry { iscsi, streams, account, established, .. } = &mut self.sessions[index];
        let name = established.as_ref().map_or("", |session| &session.name.initiator);
        let address = self.parts.arena.budget().child(&peer.to_string());
        *account = address.child(name).child(&tsih.to_string());
        let connection = account.stream();
        iscsi.bill(key, &connection, Some(&account.connection()));
        if let Some(Some(stream)) = streams.get(key.0) {
            self.parts.hosts[stream.host].1.bill(stream.id, &connection);
        }
    }

    /// Too much is held for a connection: what comes in stays where it is until there is less, or more for all.
    #[cold]
    pub(super) fn leave_unread(&mut self, index: usize, key: ConnectionKey) {
        let Some(Some(stream)) = self.sessions[index].streams.get_mut(key.0) else { return };
        if !std::mem::replace(&mut stream.unread, true) {
            log::trace!("a connection is not read for want of memory");
            self.shortage.unread.push((index, key));
            self.shortage.retry = self.now + UNREAD_RETRY;
        }
    }

    /// Commands of a session wait for memory, of its initiator or its account: it is looked at again soon.
    #[cold]
    pub(super) fn try_again(&mut self, index: usize) {
        if !self.shortage.is_waited_for() {
            self.shortage.retry = self.now + UNREAD_RETRY;
        }
        if !std::mem::replace(&mut self.sessions[index].waiting, true) {
            self.shortage.waiting.push(index);
        }
    }

    /// Deals with whoever waits for memory.
    pub(super) fn run_short(&mut self) {
        if self.shortage.is_waited_for() && self.now >= self.shortage.retry {
            self.read_again();
        }
        let refused = self.parts.arena.counters().refused + self.parts.arena.budget().refusals();
        if refused != self.shortage.refused {
            self.somebody_waits(refused);
        }
        if self.shortage.due.is_some_and(|due| due <= self.now) {
            self.audit();
        }
    }

    #[cold]
    fn read_again(&mut self) {
        for index in std::mem::take(&mut self.shortage.waiting) {
            if let Some(entry) = self.sessions.get_mut(index) {
                entry.waiting = false;
                self.touch(index);
            }
        }
        for (index, key) in std::mem::take(&mut self.shortage.unread) {
            let Some(SessionEntry { iscsi, streams, account, .. }) = self.sessions.get_mut(index) else {
                continue;
            };
            let Some(Some(stream @ Stream { unread: true, .. })) = streams.get_mut(key.0) else { continue };
            stream.unread = false;
            if iscsi.holds_too_much(key) {
                account.waits(account.used());
                self.leave_unread(index, key);
            } else {
                self.touch(index);
                self.receive(index, key);
            }
        }
    }

    #[cold]
    fn somebody_waits(&mut self, refused: u64) {
        if self.parts.arena.counters().refused != self.shortage.arena_refused {
            self.shortage.arena_refused = self.parts.arena.counters().refused;
            self.parts.arena.budget().waits(0);
        }
        self.shortage.refused = refused;
        self.shortage.due.get_or_insert(self.now);
    }

    /// Looks at all sessions: idle ones give credit back, and of those who hold more than somebody who waits does, the largest
    /// that make no progress are cut.
    #[cold]
    fn audit(&mut self) {
        let now = self.now;
        // Before the first look nobody is known to make no progress.
        let first = now - self.shortage.audited > MEMORY_OF_PROGRESS;
        self.shortage.audited = now;
        let least = self.parts.arena.budget().take_refused();
        self.shortage.due = least.map(|_| now + AUDIT);
        let Some(least) = least else { return };
        // Half of what all would have if they had the same: when there is no memory left, there are some who hold more.
        let small = self.parts.arena.budget().limit() / (2 * self.sessions.len().max(1) as u64);
        let mut stuck: SmallVec<[(u64, usize); CUT_MAX + 1]> = SmallVec::new();
        for (index, SessionEntry { iscsi, established, account, progress, .. }) in &mut self.sessions {
            iscsi.trim();
            let (held, given) = (account.used(), iscsi.given());
            if first || given.wrapping_sub(progress.given) > held / PROGRESS_SHARE {
                *progress = Progress { given, since: now };
            }
            let key = established.as_ref().and_then(|session| session.key);
            let working = || key.is_some_and(|key| self.parts.tasks.is_storing(key));
            if held > least.max(small) && now - progress.since >= PATIENCE && !iscsi.is_over() && !working() {
                stuck.push((held, index));
                stuck.sort_unstable_by_key(|&(held, _)| std::cmp::Reverse(held));
                stuck.truncate(CUT_MAX);
            }
        }
        let Some(&(held, largest)) = stuck.first() else { return };
        let iscsi = &self.sessions[largest].iscsi;
        let peer = iscsi.connections().next().map(|(_, connection)| connection.peer().to_string());
        warn!(
            "memory is short: {} sessions that hold much of it and make no progress are cut, the largest ({} KiB) is {} {}",
            stuck.len(),
            held >> 10,
            peer.unwrap_or_default(),
            iscsi.initiator(),
        );
        for (_, index) in stuck {
            log::trace!("a session is cut for want of memory");
            self.sessions[index].iscsi.close("it held memory that others need and made no progress");
            self.touch(index);
        }
    }

    /// When [`Self::run_short`] is to be called next.
    pub(super) fn shortage_deadline(&self) -> Option<Instant> {
        let Shortage { retry, due, .. } = &self.shortage;
        [self.shortage.is_waited_for().then_some(*retry), *due].into_iter().flatten().min()
    }
}
