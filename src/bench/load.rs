// SPDX-License-Identifier: GPL-2.0-or-later
//! What is requested and what came back: the choice of the next operation, stamps in the blocks, latencies.

use std::time::Duration;

use hdrhistogram::Histogram;

use super::pattern::{Pattern, Picker, Random};
use crate::time::Instant;

/// Significant decimal digits of a recorded latency.
const DIGITS: u8 = 3;

/// Longest latency that is told apart from longer ones.
const LATENCY_MAX: Duration = Duration::from_secs(60);

/// The work of one thread.
#[derive(Clone, Debug)]
pub(super) struct Spec {
    /// Bytes of one operation.
    pub(super) block: u32,
    /// Share of reads in percent.
    pub(super) reads: u32,
    /// Which blocks.
    pub(super) pattern: Pattern,
    /// Blocks are stamped when they are written, and compared when they are read.
    pub(super) verify: bool,
    /// The first block, and how many there are.
    pub(super) first: u64,
    pub(super) blocks: u64,
    /// Streams that take blocks one after the other.
    pub(super) streams: usize,
    /// How many operations; without it the time decides.
    pub(super) count: Option<u64>,
    /// Where the random numbers begin.
    pub(super) seed: u64,
}

/// One read or write of a block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Operation {
    pub(super) write: bool,
    /// Which block of [`Spec::block`] bytes.
    pub(super) index: u64,
    /// What a verified block was, or is, stamped with: 0 for one of which nothing is known.
    pub(super) generation: u32,
}

/// What came of it.
#[derive(Clone, Debug)]
pub(super) struct Tally {
    /// Latencies in nanoseconds of the reads and writes that ended while it was measured.
    pub(super) reads: Histogram<u64>,
    pub(super) writes: Histogram<u64>,
    /// Operations that ended, before and after the measured time too.
    pub(super) total: u64,
    /// Operations that failed, with the sense of the first.
    pub(super) failed: u64,
    pub(super) sense: Option<(u8, u16)>,
    /// Blocks that were compared, and those that were wrong, with the byte of the first.
    pub(super) compared: u64,
    pub(super) wrong: u64,
    pub(super) wrong_at: Option<u64>,
}

impl Tally {
    pub(super) fn new() -> Self {
        let max = u64::try_from(LATENCY_MAX.as_nanos()).expect("fits");
        let empty: Histogram<u64> = Histogram::new_with_bounds(1, max, DIGITS).expect("sane bounds");
        Self {
            reads: empty.clone(),
            writes: empty,
            total: 0,
            failed: 0,
            sense: None,
            compared: 0,
            wrong: 0,
            wrong_at: None,
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.reads.add(&other.reads).expect("the same bounds");
        self.writes.add(&other.writes).expect("the same bounds");
        self.total += other.total;
        self.failed += other.failed;
        self.sense = self.sense.or(other.sense);
        self.compared += other.compared;
        self.wrong += other.wrong;
        self.wrong_at = self.wrong_at.or(other.wrong_at);
    }

    /// Operations that were measured.
    pub(super) fn measured(&self) -> u64 {
        self.reads.len() + self.writes.len()
    }
}

/// When it is measured.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    pub(super) from: Instant,
    /// `None` if the count decides.
    pub(super) end: Option<Instant>,
}

/// The stamps of a range of blocks: a number per block that tells its writes apart.
struct Stamps {
    generations: Vec<u32>,
    /// Blocks with an operation under way: a read beside a write may see either content.
    busy: Vec<bool>,
}

/// See the module.
pub(super) struct Load {
    spec: Spec,
    picker: Picker,
    random: Random,
    stamps: Option<Stamps>,
    left: Option<u64>,
    pub(super) window: Window,
    pub(super) tally: Tally,
}

impl Load {
    pub(super) fn new(spec: Spec, window: Window) -> Self {
        let blocks = usize::try_from(spec.blocks).expect("block tables fit in memory");
        let stamps = spec.verify.then(|| Stamps { generations: vec![0; blocks], busy: vec![false; blocks] });
        Self {
            picker: Picker::new(&spec.pattern, spec.blocks, spec.streams),
            random: Random::new(spec.seed),
            stamps,
            left: spec.count,
            spec,
            window,
            tally: Tally::new(),
        }
    }

    pub(super) fn block(&self) -> u32 {
        self.spec.block
    }

    pub(super) fn verifies(&self) -> bool {
        self.stamps.is_some()
    }

    /// Whether operations are still to be begun.
    pub(super) fn goes_on(&self, now: Instant) -> bool {
        self.left != Some(0) && self.window.end.is_none_or(|end| now < end)
    }

    /// The next operation for a stream; `None` if all have been begun.
    pub(super) fn next(&mut self, stream: usize, now: Instant) -> Option<Operation> {
        if !self.goes_on(now) {
            return None;
        }
        if let Some(left) = &mut self.left {
            *left -= 1;
        }
        let write = match self.spec.reads {
            100 => false,
            0 => true,
            reads => self.random.below(100) >= u64::from(reads),
        };
        let mut index = self.picker.pick(stream, &mut self.random);
        let mut generation = 0;
        if let Some(stamps) = &mut self.stamps {
            // There are more blocks than operations under way, so one is free.
            while stamps.busy[place(index)] {
                index = (index + 1) % self.spec.blocks;
            }
            stamps.busy[place(index)] = true;
            generation = stamps.generations[place(index)];
            if write {
                // 0 stands for "unknown".
                generation = generation.wrapping_add(1).max(1);
                stamps.generations[place(index)] = generation;
            }
        }
        Some(Operation { write, index: self.spec.first + index, generation })
    }

    /// Fills a block that is about to be written: each eight bytes hold a mix of their own address, the run and the
    /// write.
    pub(super) fn stamp(&self, operation: Operation, bytes: &mut [u8]) {
        let at = operation.index * u64::from(self.spec.block);
        for (word, at) in bytes.chunks_exact_mut(8).zip((at..).step_by(8)) {
            word.copy_from_slice(&self.word(operation, at).to_ne_bytes());
        }
    }

    fn word(&self, operation: Operation, at: u64) -> u64 {
        at.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ self.spec.seed ^ u64::from(operation.generation) << 32
    }

    /// Looks at bytes that were read, from byte `offset` of the block on: wherever the stream was cut.
    pub(super) fn check(&mut self, operation: Operation, offset: u32, mut bytes: &[u8]) {
        if operation.generation == 0 {
            return;
        }
        let mut at = operation.index * u64::from(self.spec.block) + u64::from(offset);
        while !bytes.is_empty() {
            let into = usize::try_from(at % 8).expect("below eight");
            let (piece, rest) = bytes.split_at(bytes.len().min(8 - into));
            let word = self.word(operation, at - into as u64).to_ne_bytes();
            if piece != &word[into..into + piece.len()] {
                self.tally.wrong += 1;
                self.tally.wrong_at = self.tally.wrong_at.or(Some(at));
                return;
            }
            at += piece.len() as u64;
            bytes = rest;
        }
    }

    /// An operation has ended well.
    pub(super) fn done(&mut self, operation: Operation, begun: Instant, now: Instant) {
        self.tally.total += 1;
        if let Some(stamps) = &mut self.stamps {
            stamps.busy[place(operation.index - self.spec.first)] = false;
            self.tally.compared += u64::from(!operation.write && operation.generation != 0);
        }
        if now < self.window.from || self.window.end.is_some_and(|end| now >= end) {
            return;
        }
        let nanos = u64::try_from((now - begun).as_nanos()).unwrap_or(u64::MAX);
        let histogram = if operation.write { &mut self.tally.writes } else { &mut self.tally.reads };
        histogram.saturating_record(nanos);
    }

    /// An operation has failed: sense key, and additional sense code with its qualifier.
    pub(super) fn failed(&mut self, operation: Operation, sense: (u8, u16)) {
        self.tally.total += 1;
        self.tally.failed += 1;
        self.tally.sense = self.tally.sense.or(Some(sense));
        if let Some(stamps) = &mut self.stamps {
            let index = place(operation.index - self.spec.first);
            stamps.busy[index] = false;
            if operation.write {
                stamps.generations[index] = 0;
            }
        }
    }
}

fn place(index: u64) -> usize {
    usize::try_from(index).expect("block tables fit in memory")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(reads: u32, count: u64) -> Load {
        let spec = Spec {
            block: 4096,
            reads,
            pattern: Pattern::Random,
            verify: true,
            first: 8,
            blocks: 16,
            streams: 1,
            count: Some(count),
            seed: 7,
        };
        Load::new(spec, Window { from: Instant::ZERO, end: None })
    }

    #[test]
    fn a_stamp_tells_another_block_and_an_older_write() {
        let mut load = load(0, 2);
        let first = load.next(0, Instant::ZERO).unwrap();
        let mut bytes = vec![0; 4096];
        load.stamp(first, &mut bytes);
        load.check(first, 0, &bytes);
        load.check(first, 2045, &bytes[2045..2050]);
        load.check(first, 2050, &bytes[2050..]);
        assert_eq!(load.tally.wrong, 0);
        for wrong in [
            Operation { index: first.index + 1, ..first },
            Operation { generation: first.generation + 1, ..first },
        ] {
            load.check(wrong, 0, &bytes);
        }
        bytes[4000] ^= 1;
        load.check(first, 0, &bytes);
        assert_eq!(load.tally.wrong, 3);
        assert_eq!(load.tally.wrong_at, Some((first.index + 1) * 4096));
    }

    #[test]
    fn a_block_has_one_operation_at_a_time_and_the_count_is_kept() {
        let mut load = load(50, 16);
        let all: std::collections::BTreeSet<u64> =
            std::iter::from_fn(|| load.next(0, Instant::ZERO)).map(|operation| operation.index).collect();
        assert_eq!(all, (8..24).collect());
        assert!(!load.goes_on(Instant::ZERO));
    }
}
