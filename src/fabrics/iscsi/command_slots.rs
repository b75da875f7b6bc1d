// SPDX-License-Identifier: GPL-2.0-or-later
//! The commands of a session: a slab of slots, whose indexes are the [`RequestTag`](crate::scsi::RequestTag) numbers.
//! It holds what the command window admits and a few immediate commands; slots are reused, so that the steady state
//! allocates nothing.

use std::collections::VecDeque;

use super::ConnectionKey;
use super::functions::Scope;
use super::memory::{Allowance, charge};
use crate::memory::{MemoryCharge, Sg, prefetch};
use crate::scsi::{Command, Expected, RequestTag, Response};
use crate::wire::iscsi::{NO_TAG, ScsiCommandFlags};

/// Immediate commands that are taken beyond the command window.
pub(super) const IMMEDIATE_MAX: u32 = 8;

/// Widest command window. Keeps slot indexes within the 16 bits that they have in a target transfer tag.
pub(super) const WINDOW_MAX: u32 = 4096;

/// A burst that was asked for by an R2T.
#[derive(Clone, Copy)]
pub(super) struct R2t {
    pub(super) tag: u32,
    pub(super) at: u32,
    pub(super) end: u32,
    pub(super) data_sn: u32,
    /// The PDU has gone out.
    pub(super) sent: bool,
}

/// Where a command stands.
#[derive(Default)]
pub(super) enum CommandPhase {
    /// The task manager's.
    #[default]
    Task,
    /// It is done, but the initiator has yet to finish the Data-Out sequence that it was allowed to begin: the response
    /// must not overtake that (RFC 7143 11.4.2). Boxed, because this is rare and a response is large.
    Draining(Box<Response>),
    /// Nobody's yet: it waits for memory.
    Waiting,
    /// Its response is in the outbox.
    Answered,
    /// The task manager's, but its connection has ended: nobody hears of its end.
    Orphaned,
}

/// What one command has moved and still has to move. Offsets are those of the command's buffers.
#[derive(Default)]
pub(super) struct CommandSlot {
    pub(super) phase: CommandPhase,
    /// The connection that brought it.
    pub(super) connection: usize,
    pub(super) immediate: bool,
    pub(super) itt: u32,
    pub(super) lun: u64,
    pub(super) flags: ScsiCommandFlags,
    pub(super) expected: Expected,
    /// What it may make us hold, of the session's allowance, once it has begun.
    charge: u64,
    /// The same on the account, with what was promised.
    billed: u64,
    /// DataSN and R2TSN, which share one sequence.
    pub(super) sn: u32,
    /// Data-Out: what has come and was not asked for yet, and what the task has taken before.
    pub(super) buffered: Sg,
    pub(super) taken: u32,
    /// Unsolicited PDUs are still to come; their next DataSN.
    pub(super) unsolicited: Option<u32>,
    /// Up to where data was asked for by R2T.
    pub(super) solicited: u32,
    pub(super) r2ts: VecDeque<R2t>,
    /// How many bytes the task waits for.
    pub(super) fetch: Option<u32>,
    /// Data-In: bytes sent, and sent since the last PDU with the F bit.
    pub(super) sent: u32,
    pub(super) burst: u32,
    /// Data-Out was damaged or incomplete: the task is being aborted, and the initiator is told then.
    pub(super) damaged: bool,
    /// A task management request that concerns it has come after it.
    concerned: bool,
}

impl CommandSlot {
    /// The initiator is in the middle of a Data-Out sequence, or free to begin it.
    pub(super) fn awaits_data(&self) -> bool {
        self.unsolicited.is_some() || self.r2ts.iter().any(|r2t| r2t.sent)
    }

    /// Nobody wants the Data-Out any more: forgets what came and what was not asked for yet.
    #[inline]
    pub(super) fn drop_data_out(&mut self) {
        self.fetch = None;
        if !self.buffered.is_empty() || !self.r2ts.is_empty() {
            self.forget_buffered();
        }
    }

    #[cold]
    fn forget_buffered(&mut self) {
        self.buffered = Sg::new();
        self.r2ts.retain(|r2t| r2t.sent);
    }
}

/// See the module.
pub(super) struct CommandSlots {
    slots: Vec<CommandSlot>,
    /// The task tag of each slot, [`NO_TAG`] for a free one: apart, so that a search reads few cache lines.
    tags: Vec<u32>,
    free: Vec<u32>,
    depth: u32,
    /// For the payload of all of them.
    memory: Allowance,
    /// What those that have begun may make us hold, on the account of the session.
    pub(super) bill: MemoryCharge,
    /// What a place in the window promises: payload that comes unasked.
    place: u64,
    /// Those for which there was no memory yet, in order.
    waiting: VecDeque<(u32, Command)>,
    /// Commands that came through the window, and those that passed it.
    queued: u32,
    immediate: u32,
    /// Those whose connection has ended.
    orphans: u32,
    last_transfer: u16,
}

impl Default for CommandSlots {
    fn default() -> Self {
        Self {
            slots: Vec::new(),
            tags: Vec::new(),
            free: Vec::new(),
            depth: 1,
            memory: Allowance::default(),
            bill: MemoryCharge::default(),
            place: 0,
            waiting: VecDeque::new(),
            queued: 0,
            immediate: 0,
            orphans: 0,
            last_transfer: 0,
        }
    }
}

impl CommandSlots {
    /// Sets what commands may make us hold, and how many of them the window admits: as many as asked for, as far as
    /// there is memory for what may come with each unasked.
    pub(super) fn grant(&mut self, depth: u32, place: u32, mut memory: Allowance) {
        self.place = place.into();
        self.depth = memory.promise(depth.clamp(1, WINDOW_MAX), self.place);
        self.memory = memory;
    }

    /// The window is another session's, and does not grow here.
    pub(super) fn admit_none(&mut self) {
        self.depth = 0;
    }

    /// Takes what a command may make us hold off the allowance; `false` if there is not so much. One for immediate
    /// delivery was promised nothing, and does not wait.
    // Always: every command comes by.
    #[inline(always)]
    pub(super) fn charge(&mut self, index: u32) -> bool {
        let slot = &mut self.slots[index as usize];
        let Expected { data_in, data_out } = slot.expected;
        let promised = if slot.immediate { 0 } else { self.place };
        let (bytes, billed) = (charge(data_in, data_out, promised), charge(data_in, data_out, 0));
        let taken = match slot.immediate {
            true => self.memory.take_now(bytes),
            false => self.memory.take(bytes),
        };
        if !taken {
            return false;
        }
        if !self.bill.raise(billed) {
            self.memory.give(bytes);
            return false;
        }
        (slot.charge, slot.billed) = (bytes, billed);
        true
    }

    /// Whether commands wait for memory, so that others have to wait behind them.
    pub(super) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Lets a command wait for memory.
    pub(super) fn wait(&mut self, index: u32, command: Command) {
        self.slot_mut(index).phase = CommandPhase::Waiting;
        self.waiting.push_back((index, command));
    }

    /// The next command that has waited for memory, if there is some now.
    pub(super) fn begin(&mut self) -> Option<(u32, Command)> {
        let &(index, _) = self.waiting.front()?;
        if !self.charge(index) {
            return None;
        }
        self.slot_mut(index).phase = CommandPhase::Task;
        self.waiting.pop_front()
    }

    /// Frees commands in a scope that wait for memory, unanswered.
    pub(super) fn close_waiting(&mut self, scope: Scope) {
        let covers = |slot: &CommandSlot| scope.covers(slot.itt, slot.lun);
        while let Some(&(index, _)) = self.waiting.iter().find(|(index, _)| covers(self.slot(*index))) {
            self.close(index);
        }
    }

    /// Bytes of Data-Out that have come for commands that wait for memory.
    pub(super) fn waiting_bytes(&self) -> usize {
        self.waiting.iter().map(|(index, _)| self.slot(*index).buffered.len()).sum()
    }

    /// Whether data has been promised by the initiator, or asked for, whose place is paid for.
    pub(super) fn awaits_data(&self) -> bool {
        let live = self.slots.iter().zip(&self.tags).filter(|(_, tag)| **tag != NO_TAG);
        live.map(|(slot, _)| slot).any(CommandSlot::awaits_data)
    }

    /// Asks for the slot of the next command.
    pub(super) fn prefetch(&self) {
        if let Some(&next) = self.free.last() {
            prefetch(self.slot(next));
            prefetch(&self.tags[next as usize]);
        }
    }

    /// Whether the task manager has commands of connections that have ended.
    pub(super) fn has_orphans(&self) -> bool {
        self.orphans > 0
    }

    /// How many more commands the window may admit, beside those that there are and so many other requests.
    pub(super) fn room(&self, others: u32) -> u32 {
        self.depth.saturating_sub(self.queued + others)
    }

    /// Most commands at a time.
    pub(super) fn most(&self) -> u32 {
        self.depth + IMMEDIATE_MAX
    }

    /// How many more it admits when this command is over: immediate commands have no place in it.
    pub(super) fn window_share(&self, index: u32) -> u32 {
        u32::from(!self.slot(index).immediate)
    }

    /// Commands of a connection.
    pub(super) fn live_of(&self, connection: ConnectionKey) -> usize {
        let slots = self.slots.iter().zip(&self.tags);
        slots.filter(|(slot, tag)| **tag != NO_TAG && slot.connection == connection.0).count()
    }

    /// Bytes of Data-Out that no task has taken.
    pub(super) fn buffered(&self) -> usize {
        self.slots.iter().map(|slot| slot.buffered.len()).sum()
    }

    /// A fresh slot for a command; `None` when there are too many.
    pub(super) fn open(&mut self, connection: ConnectionKey, itt: u32, immediate: bool) -> Option<u32> {
        let (count, max) = match immediate {
            true => (&mut self.immediate, IMMEDIATE_MAX),
            false => (&mut self.queued, self.depth),
        };
        if *count >= max {
            return None;
        }
        *count += 1;
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(CommandSlot::default());
            self.tags.push(NO_TAG);
            u32::try_from(self.slots.len() - 1).expect("at most WINDOW_MAX + IMMEDIATE_MAX slots")
        });
        self.tags[index as usize] = itt;
        let slot = &mut self.slots[index as usize];
        // The queue of R2Ts keeps its memory for the next command.
        let r2ts = std::mem::take(&mut slot.r2ts);
        *slot = CommandSlot { connection: connection.0, itt, immediate, r2ts, ..CommandSlot::default() };
        Some(index)
    }

    pub(super) fn close(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        debug_assert_ne!(self.tags[index as usize], NO_TAG, "closed twice");
        if slot.immediate {
            self.immediate -= 1;
        } else {
            self.queued -= 1;
        }
        self.memory.give(std::mem::take(&mut slot.charge));
        self.bill.lower(std::mem::take(&mut slot.billed));
        slot.r2ts.clear();
        slot.drop_data_out();
        match std::mem::replace(&mut slot.phase, CommandPhase::Answered) {
            CommandPhase::Orphaned => self.orphans -= 1,
            CommandPhase::Waiting => {
                self.waiting.retain(|(waiting, _)| *waiting != index);
                if self.waiting.is_empty() {
                    self.memory.withdraw();
                }
            }
            CommandPhase::Task | CommandPhase::Draining(_) | CommandPhase::Answered => {}
        }
        self.tags[index as usize] = NO_TAG;
        self.free.push(index);
    }

    /// Marks commands in a scope, which a task management request concerns; those that come after it have no part in it.
    pub(super) fn concern(&mut self, scope: Scope) {
        for (slot, tag) in self.slots.iter_mut().zip(&self.tags) {
            slot.concerned |= *tag != NO_TAG && scope.covers(slot.itt, slot.lun);
        }
    }

    /// Frees commands in a scope that are marked, and done but for the end of their Data-Out, unanswered.
    pub(super) fn close_draining(&mut self, scope: Scope) {
        for index in 0..self.slots.len() {
            let slot = &self.slots[index];
            let is_draining = matches!(slot.phase, CommandPhase::Draining(_));
            if is_draining && slot.concerned && scope.covers(slot.itt, slot.lun) {
                self.close(u32::try_from(index).expect("at most WINDOW_MAX + IMMEDIATE_MAX slots"));
            }
        }
    }

    /// A connection has ended: frees its commands that are done or have not begun, and leaves the others to the task
    /// manager, which `abandon` is told of.
    pub(super) fn orphan(&mut self, connection: ConnectionKey, mut abandon: impl FnMut(RequestTag)) {
        for at in 0..self.slots.len() {
            let slot = &mut self.slots[at];
            if self.tags[at] == NO_TAG || slot.connection != connection.0 {
                continue;
            }
            let index = u32::try_from(at).expect("at most WINDOW_MAX + IMMEDIATE_MAX slots");
            match slot.phase {
                CommandPhase::Task => {
                    slot.phase = CommandPhase::Orphaned;
                    self.orphans += 1;
                    slot.r2ts.clear();
                    slot.drop_data_out();
                    abandon(RequestTag(index));
                }
                CommandPhase::Orphaned => {}
                CommandPhase::Waiting | CommandPhase::Draining(_) | CommandPhase::Answered => {
                    self.close(index);
                }
            }
        }
    }

    /// Frees a command whose connection has ended, now that the task manager has done with it. Returns whether it was
    /// one.
    pub(super) fn close_orphan(&mut self, index: u32) -> bool {
        let live = self.tags.get(index as usize).is_some_and(|&tag| tag != NO_TAG);
        let orphan = live && matches!(self.slot(index).phase, CommandPhase::Orphaned);
        if orphan {
            self.close(index);
        }
        orphan
    }

    pub(super) fn slot(&self, index: u32) -> &CommandSlot {
        &self.slots[index as usize]
    }

    pub(super) fn slot_mut(&mut self, index: u32) -> &mut CommandSlot {
        &mut self.slots[index as usize]
    }

    /// Whether the task manager still has a command.
    pub(super) fn is_task(&self, index: u32) -> bool {
        self.tags.get(index as usize).is_some_and(|&tag| tag != NO_TAG)
            && matches!(self.slot(index).phase, CommandPhase::Task)
    }

    /// The command of a task tag.
    pub(super) fn find(&self, itt: u32) -> Option<u32> {
        debug_assert_ne!(itt, NO_TAG, "names no task");
        let found = self.tags.iter().position(|&tag| tag == itt)?;
        u32::try_from(found).ok()
    }

    /// The command to which a target transfer tag was given, if it still waits for that burst.
    pub(super) fn burst_of(&self, transfer: u32, itt: u32) -> Option<u32> {
        let index = transfer & 0xffff;
        let slot = self.slots.get(index as usize).filter(|_| self.tags[index as usize] == itt)?;
        slot.r2ts.iter().any(|r2t| r2t.tag == transfer).then_some(index)
    }

    /// A target transfer tag: the slot in the low half, a number above it that tells bursts of one slot apart. Never
    /// [`NO_TAG`], as the top bit is clear.
    pub(super) fn transfer_tag(&mut self, index: u32) -> u32 {
        self.last_transfer = self.last_transfer.wrapping_add(1) & 0x7fff;
        u32::from(self.last_transfer) << 16 | index
    }

    /// Forgets all commands and their memory.
    pub(super) fn clear(&mut self) {
        *self = Self { depth: self.depth, ..Self::default() };
    }
}
