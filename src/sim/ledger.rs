// SPDX-License-Identifier: GPL-2.0-or-later
//! What initiators know of a disk beside its contents: who has certainly reserved it, and how many commands it has answered.

use super::oracle::Tick;
use super::plan::{Command, Persistent};

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
}

impl Ledger {
    pub(super) fn sent(&mut self, command: Command) {
        self.sent += 1;
        if matches!(command, Command::Persistent(_)) {
            self.holder = None;
            self.open += 1;
        }
    }

    /// A command that an initiator sent then has ended. It may not have got past a reservation that was in force by then.
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

    /// What the disk itself has counted must fit: commands that it has carried out, and those that were aborted, such as
    /// writes whose data was damaged, which are answered nevertheless.
    pub(super) fn agrees(&self, done: u64, aborted: u64) -> bool {
        self.answered <= done + aborted && done <= self.sent
    }
}
