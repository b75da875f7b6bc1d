// SPDX-License-Identifier: GPL-2.0-or-later
//! The oracle: which contents a block may have, given what initiators asked for and what they were told.
//!
//! Every write has contents of its own, so a block that is read names the write that it comes from. A write takes
//! effect at one moment between the command and its response. Moments are counted in ticks: each thing that an
//! initiator does or learns has its own. A read may return what a write left unless another write has certainly come in
//! between:
//!
//! * the other one took effect (its response said so, or somebody saw its contents), and
//! * the first one was over before the other was sent, or the task set orders the two, and
//! * the other was over before the read was sent, or the task set orders these two.
//!
//! What was aborted, failed, or lost its connection may or may not have happened, until the moment when its initiator
//! was told that it is over. After a loss of power a block holds one of the contents that no stable write has replaced;
//! the first read tells which, and it stays that one.

use std::collections::BTreeSet;
use std::fmt::Write as _;

/// A moment.
pub(super) type Tick = u64;

/// Names a command that changes blocks.
pub(super) type OpId = u32;

/// Place of a command in the order of its task set (SAM-5 8.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Order {
    /// The task set: never the same for two sessions.
    pub(super) set: u32,
    /// Grows with each ORDERED or HEAD OF QUEUE command, whose rank is odd; SIMPLE commands between two of them have
    /// the same even one.
    pub(super) rank: u32,
    /// HEAD OF QUEUE: goes before what comes later, and waits for nothing.
    pub(super) head: bool,
}

/// The ranks that keep nothing but their own command in order: HEAD OF QUEUE, and ORDERED ones that may have been
/// aborted.
#[derive(Debug, Default)]
struct Void {
    aborted: BTreeSet<(u32, u32)>,
    heads: BTreeSet<(u32, u32)>,
}

impl Void {
    fn ordered(&self, first: Option<Order>, second: Option<Order>) -> bool {
        let (Some(a), Some(b)) = (first, second) else { return false };
        if a.set != b.set || a.rank >= b.rank || b.head {
            return false;
        }
        if a.head {
            return !self.aborted.contains(&(a.set, a.rank));
        }
        let keeps = |at: &(u32, u32)| at.1 % 2 == 1 && !self.aborted.contains(at) && !self.heads.contains(at);
        (a.rank..=b.rank).any(|rank| keeps(&(a.set, rank)))
    }
}

/// What a write puts into its blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Zeros,
    Ones,
    /// Each block its own bytes.
    Unique(OpId),
    /// All blocks the same bytes (WRITE SAME).
    Same(OpId),
}

impl Value {
    /// The bytes of a block.
    pub(super) fn fill(self, lba: u64, block: &mut [u8]) {
        let (op, salt) = match self {
            Self::Zeros => return block.fill(0),
            Self::Ones => return block.fill(0xff),
            Self::Unique(op) => (op, lba),
            Self::Same(op) => (op, u64::MAX),
        };
        let mut x = u64::from(op) << 32 ^ salt.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5bd1_e995;
        let (head, words) = block.split_at_mut(8);
        head.copy_from_slice(&(u64::from(op) << 16 | salt & 0xffff).to_be_bytes());
        for word in words.chunks_exact_mut(8) {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            word.copy_from_slice(&x.to_be_bytes());
        }
    }

    /// Whether a block holds these bytes.
    fn is(self, lba: u64, found: &[u8]) -> bool {
        let mut wanted = [0; 4096];
        let wanted = &mut wanted[..found.len()];
        self.fill(lba, wanted);
        wanted == found
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Not answered.
    Pending,
    Done,
    /// It may have happened, but will not happen any more.
    Maybe,
    Never,
}

#[derive(Debug)]
struct Op {
    sent: Tick,
    /// No effect comes later.
    over: Option<Tick>,
    fate: Fate,
    order: Option<Order>,
    /// Stable from here on.
    stable: Option<Tick>,
    /// Nobody sees but a part of it.
    atomic: bool,
}

/// A write at one block.
#[derive(Clone, Debug)]
struct BlockWrite {
    op: OpId,
    value: Value,
    /// When somebody had read it.
    seen: Option<Tick>,
    /// It is one of those that the block may hold since power was lost.
    base: Option<Tick>,
}

#[derive(Debug, Default)]
struct Block {
    entries: Vec<BlockWrite>,
    /// Contents that a COMPARE AND WRITE has found and replaced.
    swapped: Vec<(OpId, OpId)>,
}

#[derive(Debug)]
struct Disk {
    block: usize,
    blocks: Vec<Block>,
    /// Reads may show a block half written while it is being written.
    torn: bool,
}

/// A read, or what looks like one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    pub(super) sent: Tick,
    pub(super) order: Option<Order>,
    /// Its own write, which it does not see.
    pub(super) own: Option<OpId>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Oracle {
    disks: Vec<Disk>,
    ops: Vec<Op>,
    void: Void,
    now: Tick,
}

impl Oracle {
    /// Adds a disk of zeros.
    pub(super) fn add_disk(&mut self, block: usize, blocks: usize, torn: bool) {
        if self.ops.is_empty() {
            // The write that made the zeros, before all time.
            let ever = Some(0);
            self.ops.push(Op {
                sent: 0,
                over: ever,
                fate: Fate::Done,
                order: None,
                stable: ever,
                atomic: false,
            });
        }
        let first = BlockWrite { op: 0, value: Value::Zeros, seen: None, base: None };
        let block_of = || Block { entries: vec![first.clone()], swapped: Vec::new() };
        self.disks.push(Disk { block, blocks: (0..blocks).map(|_| block_of()).collect(), torn });
    }

    /// Bytes of a block.
    pub(super) fn block(&self, disk: usize) -> usize {
        self.disks[disk].block
    }

    /// The next moment.
    pub(super) fn tick(&mut self) -> Tick {
        self.now += 1;
        self.now
    }

    /// A write is sent. `value` makes the contents from its name.
    pub(super) fn send(
        &mut self,
        disk: usize,
        ranges: &[(u64, u64)],
        order: Option<Order>,
        value: impl Fn(OpId) -> Value,
    ) -> OpId {
        let sent = self.tick();
        let op = u32::try_from(self.ops.len()).expect("few operations");
        self.ops.push(Op { sent, over: None, fate: Fate::Pending, order, stable: None, atomic: false });
        for &(lba, count) in ranges {
            for lba in lba..lba + count {
                let entry = BlockWrite { op, value: value(op), seen: None, base: None };
                self.disks[disk].blocks[at(lba)].entries.push(entry);
            }
        }
        op
    }

    /// A write is one that nobody may see in parts.
    pub(super) fn is_atomic(&mut self, op: OpId) {
        self.ops[op as usize].atomic = true;
    }

    /// A read of the store, of blocks whose contents are known, has seen an atomic write either whole or not at all.
    /// (Not so where pages are lent, where a store may fail half-way, and after a loss of power.)
    pub(super) fn whole(&self, disk: usize, lba: u64, bytes: &[u8]) -> Result<(), String> {
        if self.disks[disk].torn {
            return Ok(());
        }
        let found: Vec<(u64, Option<&BlockWrite>)> = (lba..)
            .zip(bytes.chunks_exact(self.disks[disk].block))
            .map(|(lba, bytes)| {
                let mut entries = self.disks[disk].blocks[at(lba)].entries.iter();
                (lba, entries.find(|entry| entry.value.is(lba, bytes)))
            })
            .collect();
        let atomic = |entry: &&BlockWrite| {
            let op = &self.ops[entry.op as usize];
            op.atomic && entry.base.is_none() && matches!(op.fate, Fate::Pending | Fate::Done)
        };
        for new in found.iter().filter_map(|(_, entry)| entry.filter(atomic)) {
            for (lba, old) in &found {
                let Some(old) = old.filter(|old| !matches!(old.value, Value::Zeros | Value::Ones)) else {
                    continue;
                };
                let entries = &self.disks[disk].blocks[at(*lba)].entries;
                let covered = entries.iter().any(|entry| entry.op == new.op);
                if covered && old.op != new.op && precedes(&self.ops, &self.void, old, new) {
                    return Err(format!(
                        "disk {disk}: half of an atomic write: {}, but at LBA {lba} still {}",
                        self.describe(new),
                        self.describe(old)
                    ));
                }
            }
        }
        Ok(())
    }

    /// A command is being aborted: if it is ORDERED it keeps nothing in order any more.
    pub(super) fn abort(&mut self, order: Option<Order>) {
        self.void.aborted.extend(order.map(|order| (order.set, order.rank)));
    }

    /// A HEAD OF QUEUE command is sent.
    pub(super) fn head(&mut self, order: Order) {
        self.void.heads.insert((order.set, order.rank));
    }

    /// Whether the task set puts one command before another.
    pub(super) fn ordered(&self, first: Option<Order>, second: Option<Order>) -> bool {
        self.void.ordered(first, second)
    }

    /// It succeeded; `stable` if power may be lost now.
    pub(super) fn done(&mut self, op: OpId, stable: bool) {
        let now = self.tick();
        let op = &mut self.ops[op as usize];
        op.fate = Fate::Done;
        op.over = Some(op.over.unwrap_or(now));
        if stable {
            op.stable = Some(now);
        }
    }

    /// It is over, and nobody said how it ended.
    pub(super) fn maybe(&mut self, op: OpId) {
        let now = self.tick();
        let op = &mut self.ops[op as usize];
        if op.fate == Fate::Pending {
            (op.fate, op.over) = (Fate::Maybe, Some(op.over.unwrap_or(now)));
        }
    }

    /// It has no effect after this moment, however it ends.
    pub(super) fn bound(&mut self, op: OpId) {
        let now = self.tick();
        let op = &mut self.ops[op as usize];
        op.over = Some(op.over.unwrap_or(now));
    }

    /// It was refused.
    pub(super) fn never(&mut self, op: OpId) {
        self.ops[op as usize].fate = Fate::Never;
    }

    /// SYNCHRONIZE CACHE, sent at a moment, succeeded.
    pub(super) fn flushed(&mut self, disk: usize, sent: Tick, order: Option<Order>) {
        let now = self.tick();
        let (ops, void) = (&mut self.ops, &self.void);
        for entry in self.disks[disk].blocks.iter().flat_map(|block| &block.entries) {
            let op = &mut ops[entry.op as usize];
            let before = op.over.is_some_and(|over| over < sent) || void.ordered(op.order, order);
            if op.fate == Fate::Done && before && op.stable.is_none() {
                op.stable = Some(now);
            }
        }
    }

    /// The target is gone; nothing that was sent to it has an effect any more. With `power` what was not stable may be
    /// gone, too.
    pub(super) fn restarted(&mut self, power: bool) {
        let now = self.tick();
        for op in self.ops.iter_mut().filter(|op| op.fate == Fate::Pending) {
            (op.fate, op.over) = (Fate::Maybe, Some(op.over.unwrap_or(now)));
        }
        if !power {
            return;
        }
        let (ops, void) = (&self.ops, &self.void);
        for block in self.disks.iter_mut().flat_map(|disk| &mut disk.blocks) {
            let survives = |entry: &&BlockWrite| {
                ops[entry.op as usize].fate != Fate::Never
                    && !block.entries.iter().any(|other| {
                        let stable = match other.base {
                            Some(_) => false,
                            None => ops[other.op as usize].stable.is_some(),
                        };
                        stable && precedes(ops, void, entry, other)
                    })
            };
            let kept: Vec<BlockWrite> = block.entries.iter().filter(survives).cloned().collect();
            block.entries = kept;
            for entry in &mut block.entries {
                (entry.base, entry.seen) = (Some(now), None);
            }
            block.swapped.clear();
        }
    }

    /// The entries of a block that a read which ends now may return.
    fn legal(&self, disk: usize, lba: u64, look: Look) -> Vec<usize> {
        let entries = &self.disks[disk].blocks[at(lba)].entries;
        let (ops, void) = (&self.ops, &self.void);
        let may = |entry: &BlockWrite| {
            let op = &ops[entry.op as usize];
            if op.fate == Fate::Never || Some(entry.op) == look.own && entry.base.is_none() {
                return false;
            }
            if entry.base.is_none() && void.ordered(look.order, op.order) {
                return false;
            }
            !entries.iter().any(|other| {
                let before_look = effect_by(ops, entries, other).is_some_and(|by| {
                    let in_order =
                        other.base.is_none() && void.ordered(ops[other.op as usize].order, look.order);
                    by < look.sent || in_order && ops[other.op as usize].fate == Fate::Done
                });
                before_look && precedes(ops, void, entry, other)
            })
        };
        (0..entries.len()).filter(|&index| may(&entries[index])).collect()
    }

    /// Bytes that a command has read from `lba` on.
    pub(super) fn read(&mut self, disk: usize, lba: u64, bytes: &[u8], look: Look) -> Result<(), String> {
        let now = self.tick();
        let size = self.disks[disk].block;
        for (lba, found) in (lba..).zip(bytes.chunks_exact(size)) {
            let legal = self.legal(disk, lba, look);
            let entries = &self.disks[disk].blocks[at(lba)].entries;
            let same: Vec<usize> =
                legal.iter().copied().filter(|&i| entries[i].value.is(lba, found)).collect();
            match same[..] {
                [] if self.is_torn(disk, lba, found, look, &legal) => {}
                [] => return Err(self.wrong(disk, lba, found, look, &legal)),
                [one] => self.saw(disk, lba, one, now),
                _ => {}
            }
        }
        Ok(())
    }

    /// Somebody knows that a block held an entry.
    fn saw(&mut self, disk: usize, lba: u64, index: usize, now: Tick) {
        let entries = &mut self.disks[disk].blocks[at(lba)].entries;
        if entries[index].base.is_some() {
            let one = entries[index].op;
            entries.retain(|entry| entry.base.is_none() || entry.op == one);
        } else {
            entries[index].seen.get_or_insert(now);
        }
    }

    /// A block on its way from one content to another, as memory that is lent while it is written may show it.
    fn is_torn(&self, disk: usize, lba: u64, found: &[u8], look: Look, legal: &[usize]) -> bool {
        let Disk { torn, blocks, .. } = &self.disks[disk];
        let entries = &blocks[at(lba)].entries;
        let moves = legal.iter().any(|&i| {
            entries[i].base.is_none() && self.ops[entries[i].op as usize].over.is_none_or(|t| t > look.sent)
        });
        if !torn || !moves {
            return false;
        }
        let contents: Vec<Vec<u8>> = legal
            .iter()
            .map(|&i| {
                let mut bytes = vec![0; found.len()];
                entries[i].value.fill(lba, &mut bytes);
                bytes
            })
            .collect();
        // Frames cut blocks at any byte, so each byte is looked at.
        (0..found.len()).all(|i| contents.iter().any(|bytes| bytes[i] == found[i]))
    }

    /// COMPARE AND WRITE found `compare` and replaced it.
    pub(super) fn swapped(
        &mut self,
        disk: usize,
        lba: u64,
        compare: &[u8],
        op: OpId,
        look: Look,
    ) -> Result<(), String> {
        self.read(disk, lba, compare, Look { own: Some(op), ..look })?;
        let size = self.disks[disk].block;
        for (lba, found) in (lba..).zip(compare.chunks_exact(size)) {
            let block = &mut self.disks[disk].blocks[at(lba)];
            let unique = block.entries.iter().find(|entry| {
                entry.op != op && matches!(entry.value, Value::Unique(_)) && entry.value.is(lba, found)
            });
            let Some(old) = unique.map(|entry| entry.op) else { continue };
            if let Some((_, by)) = block.swapped.iter().find(|(taken, _)| *taken == old) {
                return Err(format!(
                    "disk {disk} LBA {lba}: write {old} was compared and replaced by {by} and again by {op}"
                ));
            }
            block.swapped.push((old, op));
        }
        Ok(())
    }

    /// COMPARE AND WRITE, or a VERIFY, says that the block differs from `compare` at a byte of it.
    pub(super) fn differed(
        &mut self,
        disk: usize,
        lba: u64,
        compare: &[u8],
        byte: usize,
        look: Look,
    ) -> Result<(), String> {
        let legal = self.legal(disk, lba, look);
        let entries = &self.disks[disk].blocks[at(lba)].entries;
        let mut bytes = vec![0; compare.len()];
        let differs = legal.iter().any(|&i| {
            entries[i].value.fill(lba, &mut bytes);
            bytes[byte] != compare[byte] && bytes[..byte] == compare[..byte]
        });
        let moves = self.disks[disk].torn && legal.len() > 1;
        match differs || moves {
            true => Ok(()),
            false => Err(format!("disk {disk} LBA {lba}: said to differ at byte {byte}, where it does not")),
        }
    }

    /// What a block most likely holds, for those who want to guess right.
    pub(super) fn likely(&self, disk: usize, lba: u64) -> Value {
        let entries = &self.disks[disk].blocks[at(lba)].entries;
        let known =
            |entry: &&BlockWrite| entry.seen.is_some() || self.ops[entry.op as usize].fate == Fate::Done;
        entries.iter().rev().find(known).or_else(|| entries.first()).map_or(Value::Zeros, |entry| entry.value)
    }

    /// Whether anything else writes these blocks while a command is under way.
    pub(super) fn is_contended(&self, disk: usize, lba: u64, count: u64, op: OpId) -> bool {
        let sent = self.ops[op as usize].sent;
        let blocks = &self.disks[disk].blocks[at(lba)..at(lba + count)];
        blocks.iter().flat_map(|block| &block.entries).any(|entry| {
            let other = &self.ops[entry.op as usize];
            entry.op != op && entry.base.is_none() && other.over.is_none_or(|over| over > sent)
        })
    }

    fn wrong(&self, disk: usize, lba: u64, found: &[u8], look: Look, legal: &[usize]) -> String {
        let entries = &self.disks[disk].blocks[at(lba)].entries;
        let mut text = format!("disk {disk} LBA {lba}: wrong bytes for a read sent at {}: ", look.sent);
        match entries.iter().position(|entry| entry.value.is(lba, found)) {
            Some(index) => _ = write!(text, "those of {}", self.describe(&entries[index])),
            None => {
                let head = u64::from_be_bytes(found[..8].try_into().expect("eight bytes"));
                let (op, low) = (head >> 16, head & 0xffff);
                _ = write!(text, "nobody wrote them here; they begin like write {op} at LBA {low}");
            }
        }
        for &index in legal {
            _ = write!(text, "; could be {}", self.describe(&entries[index]));
        }
        text
    }

    fn describe(&self, entry: &BlockWrite) -> String {
        let op = &self.ops[entry.op as usize];
        let BlockWrite { value, seen, base, .. } = entry;
        let Op { sent, over, fate, stable, .. } = op;
        format!(
            "{value:?} (sent {sent}, over {over:?}, {fate:?}, stable {stable:?}, seen {seen:?}, base {base:?})"
        )
    }
}

fn at(lba: u64) -> usize {
    usize::try_from(lba).expect("small disks")
}

/// The moment by which an entry has certainly taken effect.
fn effect_by(ops: &[Op], entries: &[BlockWrite], entry: &BlockWrite) -> Option<Tick> {
    if let Some(since) = entry.base {
        let alone = entries.iter().filter(|other| other.base.is_some()).count() == 1;
        return alone.then_some(since);
    }
    let op = &ops[entry.op as usize];
    let told = op.over.filter(|_| op.fate == Fate::Done);
    [told, entry.seen].into_iter().flatten().min()
}

/// Whether an entry, if it took effect at all, did so before another.
fn precedes(ops: &[Op], void: &Void, first: &BlockWrite, second: &BlockWrite) -> bool {
    if second.base.is_some() {
        return false;
    }
    let (a, b) = (&ops[first.op as usize], &ops[second.op as usize]);
    let over = match first.base {
        Some(since) => Some(since),
        None => [a.over, first.seen].into_iter().flatten().min(),
    };
    over.is_some_and(|over| over < b.sent) || first.base.is_none() && void.ordered(a.order, b.order)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn oracle() -> Oracle {
        let mut oracle = Oracle::default();
        oracle.add_disk(512, 8, false);
        oracle
    }

    fn look(oracle: &mut Oracle) -> Look {
        Look { sent: oracle.tick(), order: None, own: None }
    }

    fn read(oracle: &mut Oracle, value: Value, look: Look) -> Result<(), String> {
        let mut bytes = [0; 512];
        value.fill(3, &mut bytes);
        oracle.read(0, 3, &bytes, look)
    }

    fn write(oracle: &mut Oracle, order: Option<Order>) -> OpId {
        oracle.send(0, &[(3, 1)], order, Value::Unique)
    }

    #[test]
    fn a_finished_write_replaces_what_was_before() {
        let mut o = oracle();
        let early = look(&mut o);
        let a = write(&mut o, None);
        let during = look(&mut o);
        read(&mut o, Value::Zeros, during).unwrap();
        o.done(a, false);
        let after = look(&mut o);
        read(&mut o, Value::Zeros, early).unwrap();
        read(&mut o, Value::Unique(a), after).unwrap();
        assert!(read(&mut o, Value::Zeros, after).unwrap_err().contains("wrong bytes"));
        assert!(read(&mut o, Value::Same(a), after).unwrap_err().contains("nobody wrote"));
    }

    #[test]
    fn what_was_seen_does_not_go_away() {
        let mut o = oracle();
        let a = write(&mut o, None);
        let first = look(&mut o);
        read(&mut o, Value::Unique(a), first).unwrap();
        let second = look(&mut o);
        assert!(read(&mut o, Value::Zeros, second).is_err(), "the write had taken effect");
    }

    #[test]
    fn an_aborted_write_happens_before_the_abort_or_never() {
        let mut o = oracle();
        let a = write(&mut o, None);
        o.maybe(a);
        let b = write(&mut o, None);
        o.done(b, false);
        let after = look(&mut o);
        assert!(read(&mut o, Value::Unique(a), after).is_err());
        read(&mut o, Value::Unique(b), after).unwrap();
    }

    #[test]
    fn the_task_set_orders_commands() {
        let mut o = oracle();
        let rank = |rank| Some(Order { set: 1, rank, head: false });
        let a = write(&mut o, rank(0));
        let b = write(&mut o, rank(1));
        o.done(a, false);
        o.done(b, false);
        let after = look(&mut o);
        assert!(read(&mut o, Value::Unique(a), after).is_err(), "b came second, though they overlap");
        // A read in order before a write does not see it.
        let early = Look { order: rank(2), ..look(&mut o) };
        let c = write(&mut o, rank(3));
        assert!(read(&mut o, Value::Unique(c), early).is_err());
    }

    #[test]
    fn the_head_of_the_queue_goes_before_what_comes_later() {
        let mut o = oracle();
        let rank = |rank, head| Some(Order { set: 1, rank, head });
        o.head(rank(1, true).unwrap());
        assert!(o.ordered(rank(1, true), rank(2, false)), "it goes first");
        assert!(!o.ordered(rank(0, false), rank(1, true)), "it waits for nobody");
        assert!(!o.ordered(rank(0, false), rank(2, false)), "it keeps no others in order");
        o.abort(rank(1, true));
        assert!(!o.ordered(rank(1, true), rank(2, false)));
    }

    #[test]
    fn power_takes_what_is_not_stable() {
        for stable in [false, true] {
            let mut o = oracle();
            let a = write(&mut o, None);
            o.done(a, stable);
            o.restarted(true);
            let after = look(&mut o);
            assert_eq!(read(&mut o, Value::Zeros, after).is_err(), stable);
            let later = look(&mut o);
            assert_eq!(read(&mut o, Value::Unique(a), later).is_ok(), stable, "it stays what it was");
        }
    }

    #[test]
    fn a_flush_covers_what_had_finished() {
        let mut o = oracle();
        let a = write(&mut o, None);
        o.done(a, false);
        let sent = o.tick();
        let b = write(&mut o, None);
        o.done(b, false);
        o.flushed(0, sent, None);
        o.restarted(true);
        let after = look(&mut o);
        assert!(read(&mut o, Value::Zeros, after).is_err());
        read(&mut o, Value::Unique(a), after).unwrap();
    }

    #[test]
    fn two_comparisons_do_not_find_the_same() {
        let mut o = oracle();
        let a = write(&mut o, None);
        o.done(a, false);
        let mut found = [0; 512];
        Value::Unique(a).fill(3, &mut found);
        let seen = look(&mut o);
        let (b, c) = (write(&mut o, None), write(&mut o, None));
        o.swapped(0, 3, &found, b, seen).unwrap();
        assert!(o.swapped(0, 3, &found, c, seen).unwrap_err().contains("again"));
        assert!(o.differed(0, 3, &found, 5, Look { sent: 0, ..seen }).is_ok());
    }
}
