// SPDX-License-Identifier: GPL-2.0-or-later
//! What initiators know of a disk beside its contents: who has certainly reserved it, and how many commands it has
//! answered.

use super::oracle::Tick;
use super::plan::{Command, Persistent};
use crate::engine::tasks::UnitCounters;

/// A reservation that is in force since a moment.
#[derive(Clone, Copy, Debug)]
struct Holder {
    name: u8,
    /// Exclusive Access, not Write Exclusive.
    all: bool,
    since: Tick,
}

/// Of one disk, since the target's machine was started.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// Nothing is known while a PERSISTENT RESERVE OUT is under way, or may be.
    holder: Option<Holder>,
    open: usize,
    /// Commands sent, and answered by the disk.
    pub(super) sent: u64,
    pub(super) answered: u64,
    /// Of reads and writes: at least what was answered well, at most what was sent.
    reads: Moved,
    writes: Moved,
    /// Errors of the disk that were heard.
    errors: u64,
}

/// Commands that move data in one direction, and their bytes.
#[derive(Debug, Default)]
struct Moved {
    least: (u64, u64),
    most: (u64, u64),
}

impl Moved {
    fn may_be(&self, commands: u64, bytes: u64) -> bool {
        let within = |least: u64, most: u64, shown: u64| (least..=most).contains(&shown);
        within(self.least.0, self.most.0, commands) && within(self.least.1, self.most.1, bytes)
    }
}

/// Counts a command that moves bytes.
fn count(what: &mut (u64, u64), bytes: usize) {
    if bytes > 0 {
        (what.0, what.1) = (what.0 + 1, what.1 + bytes as u64);
    }
}

impl Ledger {
    /// A command of so many bytes of Data-In and Data-Out.
    pub(super) fn sent(&mut self, command: Command, data_in: usize, data_out: usize) {
        count(&mut self.reads.most, data_in);
        count(&mut self.writes.most, data_out);
        self.sent += 1;
        if matches!(command, Command::Persistent(_)) {
            self.holder = None;
            self.open += 1;
        }
    }

    /// A command that an initiator sent then has ended. It may not have got past a reservation that was in force by
    /// then.
    pub(super) fn ended(
        &mut self,
        name: u8,
        command: Command,
        writes: bool,
        sent: Tick,
        good: bool,
        now: Tick,
    ) -> Result<(), String> {
        self.answered += 1;
        if let Command::Persistent(what) = command {
            self.open -= 1;
            let reserves = match what {
                Persistent::Reserve { all } | Persistent::Preempt { all, .. } if good => Some(all),
                _ => None,
            };
            // PREEMPT of one who has reserved nothing reserves nothing.
            let reserves = reserves.filter(|_| matches!(what, Persistent::Reserve { .. }) && self.open == 0);
            self.holder = reserves.map(|all| Holder { name, all, since: now });
            return Ok(());
        }
        let reads = matches!(command, Command::Read { .. } | Command::Verify);
        match self.holder {
            Some(holder)
                if good && holder.name != name && holder.since < sent && (writes || holder.all && reads) =>
            {
                Err(format!("it has got past the reservation of {holder:?}"))
            }
            _ => Ok(()),
        }
    }

    /// A command has ended, having moved so much.
    pub(super) fn moved(&mut self, good: bool, data_in: usize, data_out: usize, error: bool) {
        if good {
            count(&mut self.reads.least, data_in);
            count(&mut self.writes.least, data_out);
        }
        self.errors += u64::from(error);
    }

    /// What the disk itself has counted must fit: commands that it has carried out, and those that were aborted, such
    /// as writes whose data was damaged, which are answered nevertheless. Where nothing was lost or aborted that is
    /// exact.
    pub(super) fn agrees(&self, shown: &UnitCounters) -> bool {
        let done = shown.reads + shown.writes + shown.others;
        self.answered <= done + shown.aborts
            && done <= self.sent
            && self.reads.may_be(shown.reads, shown.read_bytes)
            && self.writes.may_be(shown.writes, shown.write_bytes)
            && (self.errors..=done).contains(&shown.errors)
    }
}
