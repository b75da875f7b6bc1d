// SPDX-License-Identifier: GPL-2.0-or-later
//! A disk that fails: slow, out of order, full, with bad blocks, and without power. What it holds lies in a RAM store,
//! which lends its pages; what would survive a loss of power is kept beside it.
//!
//! It does what the contract of [`crate::io`] allows and no more: a write is atomic per block, happens at any time
//! before its completion, and is stable after a flush that was submitted when it had completed, or with FUA.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::canary::Canary;
use crate::io::{Done, Error, ErrorKind, Geometry, Landing, Op, Store, Submitted, Tag};
use crate::memory::{Arena, Lease, Sg};
use crate::ports::memory::Dice;
use crate::reactor::CoreContext;
use crate::stores;
use crate::time::Instant;

/// Longest time of a slow operation, in nanoseconds.
const SLOW_MAX: u64 = 50_000_000;

thread_local! {
    /// What a RAM store asks for, and memory for what comes from nobody.
    static CONTEXT: CoreContext = CoreContext::alone(Arena::new(2 << 20, false).expect("memory"));
}

/// Where the image of a cartridge says how far its data goes.
const ANCHORS: Range<u64> = 128 << 10..192 << 10;

/// How a medium behaves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Behaviour {
    /// Reads lend pages rather than fill the core's memory.
    pub(super) lends: bool,
    /// Operations of one handle at once; beyond it they are refused.
    pub(super) depth: usize,
    /// Longest time of an ordinary operation.
    pub(super) micros_max: u64,
    /// Share of operations that take up to a thousand times as long.
    pub(super) slow: f64,
    /// Share of operations that fail.
    pub(super) fails: f64,
    /// Share of operations that are done when they are submitted.
    pub(super) at_once: f64,
    /// Most bytes of an operation.
    pub(super) transfer_max: u32,
}

/// Contents that a block had and that are not stable.
struct Version {
    bytes: Box<[u8]>,
    /// When the write had completed, among all completions.
    completed: Option<u64>,
    by: u64,
}

/// More cores than a plan has.
const CORES_MAX: usize = 64;

struct Running {
    number: u64,
    handle: usize,
    tag: Tag,
    op: Op,
    /// What is still to be done, and when: blocks of a write, in parts; once for anything else.
    parts: Vec<(Instant, Range<u64>)>,
    due: Instant,
    fails: bool,
    /// For a flush: the completions it covers.
    covers: u64,
    done: Option<Done>,
}

/// What was counted.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counters {
    pub(super) operations: u64,
    pub(super) refused: u64,
    pub(super) failed: u64,
    pub(super) lost_versions: u64,
}

/// A disk that outlives the machine that it is in.
pub(super) struct Medium {
    clock: Rc<Cell<Instant>>,
    inner: Box<dyn Store>,
    geometry: Geometry,
    behaviour: Behaviour,
    dice: Dice,
    /// No faults from now on.
    pub(super) well: bool,
    bad: BTreeSet<u64>,
    durable: Vec<u8>,
    /// The blocks from the first to the last that was ever written.
    written: Range<u64>,
    dirty: BTreeMap<u64, Vec<Version>>,
    queue: Vec<Running>,
    number: u64,
    /// How many handles have come since the start.
    late_handles: usize,
    completions: u64,
    pub(super) counters: Counters,
    canary: Option<Canary>,
    /// How often the canary's moment has come.
    moments: u64,
    pool: Option<Box<dyn Store>>,
}

fn finished(store: &mut dyn Store, op: Op) -> Done {
    match store.submit(Tag(0), op) {
        Submitted::Done(done) => done,
        other => panic!("a RAM store finishes at once: {other:?}"),
    }
}

impl Medium {
    pub(super) fn new(
        clock: Rc<Cell<Instant>>,
        bytes: u64,
        block: u32,
        behaviour: Behaviour,
        seed: u64,
        canary: Option<Canary>,
    ) -> Self {
        let ram = |bytes| CONTEXT.with(|context| stores::ram(bytes, block, false)?.attach(context));
        let inner = ram(bytes).expect("a RAM store");
        let pool = canary.filter(|c| *c == Canary::ReusedPage).map(|_| ram(1 << 20).expect("a RAM store"));
        let geometry = Geometry { transfer_max: behaviour.transfer_max, ..inner.geometry() };
        Self {
            clock,
            inner,
            geometry,
            behaviour,
            dice: Dice::new(seed),
            well: false,
            late_handles: 0,
            bad: BTreeSet::new(),
            durable: vec![0; usize::try_from(bytes).expect("small")],
            written: 0..0,
            dirty: BTreeMap::new(),
            queue: Vec::new(),
            number: 0,
            completions: 0,
            counters: Counters::default(),
            canary,
            moments: 0,
            pool,
        }
    }

    /// A number for a handle that comes while the cores run.
    pub(super) fn new_handle(&mut self) -> usize {
        self.late_handles += 1;
        CORES_MAX + self.late_handles
    }

    /// Blocks that can neither be read nor written, or can be again.
    pub(super) fn set_bad(&mut self, lba: u64, count: u64, bad: bool) {
        for lba in lba..lba + count {
            match bad {
                true => _ = self.bad.insert(lba),
                false => _ = self.bad.remove(&lba),
            }
        }
    }

    /// Whether an operation on these blocks may fail.
    pub(super) fn may_fail(&self) -> bool {
        self.behaviour.fails > 0.0
    }

    /// When something happens next.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let parts = self.queue.iter().flat_map(|running| running.parts.iter().map(|part| part.0));
        parts.chain(self.queue.iter().map(|running| running.due)).min()
    }

    pub(super) fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// Operations under way.
    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    fn block(&self) -> u64 {
        u64::from(self.geometry.block)
    }

    /// Whether this is the moment at which the canary sings: the first, or a later one that the seed chooses.
    fn sings(&mut self, canary: Canary) -> bool {
        if self.canary != Some(canary) {
            return false;
        }
        self.moments += 1;
        match canary {
            // The others: one has to be there.
            Canary::ForgottenAnchor => self.moments > 1,
            _ => self.moments % 3 == 1,
        }
    }

    fn later(&mut self, from: Instant) -> Instant {
        let mut longest = self.behaviour.micros_max * 1000;
        if !self.well && self.dice.chance(self.behaviour.slow) {
            longest = (longest * 1000).min(SLOW_MAX);
        }
        from + Duration::from_nanos(self.dice.below(longest + 1))
    }

    fn submit(&mut self, handle: usize, arena: &Arena, tag: Tag, mut op: Op) -> Submitted {
        if self.queue.iter().filter(|running| running.handle == handle).count() >= self.behaviour.depth {
            self.counters.refused += 1;
            return Submitted::Full(op);
        }
        let anchors = matches!(op, Op::Write { at, .. } if ANCHORS.contains(&at));
        let forgotten = anchors && self.sings(Canary::ForgottenAnchor);
        if forgotten || matches!(op, Op::Flush) && self.sings(Canary::DroppedFlush) {
            return Submitted::Done(Done::Finished);
        }
        self.counters.operations += 1;
        self.number += 1;
        let now = self.clock.get();
        if let Op::Read { at, len, into } = &mut op
            && !self.behaviour.lends
            && !matches!(into, Landing::Given(_))
        {
            let Some(block) = arena.alloc(*len as usize) else {
                return Submitted::Done(Done::Failed(Error { kind: ErrorKind::NoMemory, at: *at }));
            };
            *into = Landing::Given(block);
        }
        let blocks = self.blocks_of(&op);
        let first = self.later(now);
        let mut parts = vec![(first, blocks.clone())];
        let writes = !matches!(op, Op::Read { .. } | Op::Extent { .. } | Op::Flush);
        if writes && blocks.end - blocks.start > 1 && self.dice.chance(0.5) {
            let cut = blocks.start + 1 + self.dice.below(blocks.end - blocks.start - 1);
            let (head, tail) = ((first, blocks.start..cut), (self.later(now), cut..blocks.end));
            parts = if self.dice.chance(0.5) { vec![head, tail] } else { vec![tail, head] };
        }
        let latest = parts.iter().map(|part| part.0).max().unwrap_or(now);
        let due = self.later(latest);
        let fails = !self.well && self.dice.chance(self.behaviour.fails);
        let (number, covers) = (self.number, self.completions);
        self.advance();
        self.queue.push(Running { number, handle, tag, op, parts, due, fails, covers, done: None });
        if !self.dice.chance(self.behaviour.at_once) {
            return Submitted::Queued;
        }
        let index = self.queue.len() - 1;
        for (_, blocks) in std::mem::take(&mut self.queue[index].parts) {
            self.apply(index, blocks);
        }
        let running = self.queue.swap_remove(index);
        Submitted::Done(self.complete(running).1)
    }

    fn blocks_of(&self, op: &Op) -> Range<u64> {
        let (at, len) = match op {
            Op::Read { at, len, .. } => (*at, u64::from(*len)),
            Op::Write { at, data, .. } => (*at, data.len() as u64),
            Op::Unmap { at, len } | Op::Anchor { at, len } | Op::WriteSame { at, len, .. } => (*at, *len),
            _ => (0, 0),
        };
        at / self.block()..(at + len).div_ceil(self.block())
    }

    /// Does what is due, in the order in which it is.
    pub(super) fn advance(&mut self) {
        let now = self.clock.get();
        loop {
            let parts = self.queue.iter().enumerate().flat_map(|(index, running)| {
                running
                    .parts
                    .iter()
                    .enumerate()
                    .map(move |(part, (at, _))| (*at, running.number, index, part))
            });
            let Some((_, _, index, part)) = parts.min().filter(|(at, ..)| *at <= now) else { return };
            let (_, blocks) = self.queue[index].parts.remove(part);
            self.apply(index, blocks);
        }
    }

    /// Does a part of an operation.
    fn apply(&mut self, index: usize, blocks: Range<u64>) {
        let size = self.block();
        let first_bad = self.bad.range(blocks.clone()).next().copied().filter(|_| !blocks.is_empty());
        let Running { number, op, fails, covers, .. } = &mut self.queue[index];
        let (number, covers) = (*number, *covers);
        let error = |kind, block: u64| Done::Failed(Error { kind, at: block * size });
        let mut failed = match (first_bad, *fails, &*op) {
            (Some(block), _, Op::Read { .. }) => Some(error(ErrorKind::ReadFailed, block)),
            (Some(block), ..) => Some(error(ErrorKind::WriteFailed, block)),
            (None, true, Op::Read { .. }) => Some(error(ErrorKind::ReadFailed, blocks.start)),
            (None, true, Op::Extent { .. }) => None,
            (None, true, _) => Some(error(ErrorKind::WriteFailed, blocks.start)),
            (None, false, _) => None,
        };
        if failed.is_some() {
            self.counters.failed += 1;
        }
        // A write that fails has got so far.
        let reached = match (&failed, first_bad) {
            (Some(_), Some(bad)) => bad,
            (Some(_), None) => blocks.start + self.dice.below(blocks.end - blocks.start + 1),
            _ => blocks.end,
        };
        let written = blocks.start..reached.min(blocks.end);
        let done = match op {
            Op::Read { .. } if failed.is_some() => failed.take().expect("is some"),
            Op::Read { at, len, into } => {
                let read = Op::Read { at: *at, len: *len, into: std::mem::take(into) };
                finished(&mut *self.inner, read)
            }
            Op::Extent { at } => finished(&mut *self.inner, Op::Extent { at: *at }),
            Op::Flush => {
                if failed.is_none() {
                    self.settle(covers);
                }
                Done::Finished
            }
            Op::Write { at, data, fua } => {
                let mut rest = data.clone();
                let skip = usize::try_from(written.start * size - *at).expect("inside");
                drop(rest.split_to(skip));
                rest.truncate(usize::try_from((written.end - written.start) * size).expect("inside"));
                let fua = *fua;
                self.write(&written, Op::Write { at: written.start * size, data: rest, fua }, fua, number);
                Done::Finished
            }
            Op::WriteSame { pattern, fua, .. } => {
                let (pattern, fua) = (pattern.clone(), *fua);
                let (at, len) = (written.start * size, (written.end - written.start) * size);
                self.write(&written, Op::WriteSame { at, len, pattern, fua }, fua, number);
                Done::Finished
            }
            Op::Unmap { .. } | Op::Anchor { .. } => {
                let (at, len) = (written.start * size, (written.end - written.start) * size);
                self.write(&written, Op::Unmap { at, len }, false, number);
                Done::Finished
            }
            Op::CompareAndWrite { .. } => unreachable!("made of reads and writes above"),
        };
        let done = failed.unwrap_or(done);
        let before = &mut self.queue[index].done;
        if !matches!(before, Some(Done::Failed(_))) {
            *before = Some(done);
        }
    }

    fn write(&mut self, blocks: &Range<u64>, op: Op, fua: bool, by: u64) {
        if blocks.is_empty() {
            return;
        }
        finished(&mut *self.inner, op);
        let (from, to) = match self.written.is_empty() {
            true => (blocks.start, blocks.end),
            false => (self.written.start.min(blocks.start), self.written.end.max(blocks.end)),
        };
        self.written = from..to;
        for lba in blocks.clone() {
            let bytes = self.bytes_of(lba);
            if fua {
                self.dirty.remove(&lba);
                self.set_durable(lba, &bytes);
            } else {
                self.dirty.entry(lba).or_default().push(Version { bytes, completed: None, by });
            }
        }
    }

    fn bytes_of(&mut self, lba: u64) -> Box<[u8]> {
        let (at, len) = (lba * self.block(), self.geometry.block);
        match finished(&mut *self.inner, Op::Read { at, len, into: Landing::Own }) {
            Done::Data(data) => data.to_vec().into(),
            other => panic!("a RAM store reads: {other:?}"),
        }
    }

    /// Puts bytes there before there is any machine.
    pub(super) fn put(&mut self, at: u64, bytes: &[u8]) {
        self.set_durable(at / self.block(), bytes);
        self.copy_in(at, bytes);
    }

    fn copy_in(&mut self, at: u64, bytes: &[u8]) {
        let data = CONTEXT.with(|context| Sg::copied(context.arena(), bytes)).expect("memory");
        finished(&mut *self.inner, Op::Write { at, data, fua: false });
    }

    fn set_durable(&mut self, lba: u64, bytes: &[u8]) {
        let at = usize::try_from(lba * self.block()).expect("small");
        self.durable[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// Makes stable what had completed by then.
    fn settle(&mut self, covers: u64) {
        let mut stable = Vec::new();
        for (&lba, versions) in &mut self.dirty {
            let covered = |version: &Version| version.completed.is_some_and(|at| at <= covers);
            if let Some(last) = versions.iter().rposition(covered) {
                stable.push((lba, versions.drain(..=last).next_back().expect("not empty").bytes));
            }
        }
        self.dirty.retain(|_, versions| !versions.is_empty());
        for (lba, bytes) in stable {
            self.set_durable(lba, &bytes);
        }
    }

    fn poll(&mut self, handle: usize, done: &mut Vec<(Tag, Done)>) -> usize {
        self.advance();
        let now = self.clock.get();
        let before = done.len();
        let mut ended: Vec<Running> = Vec::new();
        let mut index = 0;
        while index < self.queue.len() {
            let running = &self.queue[index];
            if running.handle == handle && running.parts.is_empty() && running.due <= now {
                ended.push(self.queue.swap_remove(index));
            } else {
                index += 1;
            }
        }
        ended.sort_by_key(|running| (running.due, running.number));
        for running in ended {
            done.push(self.complete(running));
        }
        let count = done.len() - before;
        if count > 1 && self.sings(Canary::MixedTags) {
            let (a, b) = (done[before].0, done[before + 1].0);
            (done[before].0, done[before + 1].0) = (b, a);
        }
        count
    }

    fn complete(&mut self, running: Running) -> (Tag, Done) {
        self.completions += 1;
        for version in self.dirty.values_mut().flatten().filter(|version| version.by == running.number) {
            version.completed = Some(self.completions);
        }
        let end = running.done.expect("all its parts are done");
        (running.tag, self.lend_again(end))
    }

    /// For the canary that reuses a page which is still lent: the bytes in a page that the next such read overwrites.
    fn lend_again(&mut self, end: Done) -> Done {
        match end {
            Done::Data(data) if self.sings(Canary::ReusedPage) => {
                let pool = self.pool.as_mut().expect("made for this canary");
                let len = u32::try_from(data.len()).expect("short");
                finished(&mut **pool, Op::Write { at: 0, data, fua: false });
                finished(&mut **pool, Op::Read { at: 0, len, into: Landing::Own })
            }
            other => other,
        }
    }

    /// The machine is gone, and with `power` all that was not stable: of each block any of its contents since may be
    /// there. What was under way has happened or not, block by block.
    pub(super) fn lose_machine(&mut self, power: bool) {
        while let Some(running) = self.queue.first() {
            match running.parts.first().cloned() {
                Some((_, blocks)) if blocks.end - blocks.start > 1 => {
                    let cut = blocks.start + 1;
                    let at = running.due;
                    self.queue[0].parts[0] = (at, blocks.start..cut);
                    self.queue[0].parts.push((at, cut..blocks.end));
                }
                Some((_, blocks)) => {
                    self.queue[0].parts.remove(0);
                    let writes = !matches!(self.queue[0].op, Op::Read { .. } | Op::Extent { .. });
                    if writes && self.dice.chance(0.5) {
                        self.apply(0, blocks);
                    }
                }
                None => _ = self.queue.remove(0),
            }
        }
        // What has got into the disk's cache is like any other write there: the next flush covers it.
        for version in self.dirty.values_mut().flatten() {
            version.completed.get_or_insert(self.completions);
        }
        if !power {
            return;
        }
        for (lba, versions) in std::mem::take(&mut self.dirty) {
            let chosen = usize::try_from(self.dice.below(versions.len() as u64 + 1)).expect("few");
            self.counters.lost_versions += (versions.len() - chosen) as u64;
            if let Some(version) = chosen.checked_sub(1).map(|index| &versions[index]) {
                self.set_durable(lba, &version.bytes);
            }
            let (size, at) = (self.block(), lba * self.block());
            let from = usize::try_from(at).expect("small");
            let bytes = self.durable[from..from + usize::try_from(size).expect("small")].to_vec();
            self.copy_in(at, &bytes);
        }
    }

    /// As it was when it was new, for a machine that begins anew.
    pub(super) fn blank(&mut self, seed: u64) {
        assert!(self.queue.is_empty(), "operations of a machine that is gone");
        let written = std::mem::take(&mut self.written);
        if !written.is_empty() {
            // Whole pages, of which the store counts those that hold data.
            let at = written.start * self.block() / 4096 * 4096;
            let end = (written.end * self.block()).next_multiple_of(4096).min(self.geometry.bytes);
            finished(&mut *self.inner, Op::Unmap { at, len: end - at });
            let [at, end] = [at, end].map(|at| usize::try_from(at).expect("small"));
            self.durable[at..end].fill(0);
            self.dirty.clear();
        }
        (self.dice, self.number, self.completions) = (Dice::new(seed), 0, 0);
        self.counters = Counters::default();
    }

    /// All bytes, as they are now.
    pub(super) fn contents(&mut self) -> Vec<u8> {
        let blocks = self.geometry.bytes / self.block();
        (0..blocks).flat_map(|lba| self.bytes_of(lba)).collect()
    }
}

/// A core's handle to a medium.
pub(super) struct SimStore {
    pub(super) medium: Rc<RefCell<Medium>>,
    /// Which of all handles: those from the start have the numbers of their cores.
    pub(super) number: usize,
    pub(super) arena: Arena,
}

impl Store for SimStore {
    fn geometry(&self) -> Geometry {
        self.medium.borrow().geometry
    }

    fn submit(&mut self, tag: Tag, op: Op) -> Submitted {
        self.medium.borrow_mut().submit(self.number, &self.arena, tag, op)
    }

    fn poll(&mut self, done: &mut Vec<(Tag, Done)>) -> usize {
        self.medium.borrow_mut().poll(self.number, done)
    }

    fn lease(&self) -> Option<Lease> {
        let medium = self.medium.borrow();
        medium.inner.lease().filter(|_| medium.behaviour.lends)
    }
}
