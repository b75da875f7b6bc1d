// SPDX-License-Identifier: GPL-2.0-or-later
//! The index of a log: where every so many packed blocks lie, and each that does not follow the one before it. It can
//! be made again from the log, so it lies in the image only to be found fast: full pages in their area, the rest in the
//! anchor.

use super::layout::{BLOCK_BYTES, PAGE_RUNS, begin, put64, seal, sealed};
use super::packed::LogEnd;
use crate::wire::Crc32c;
use crate::wire::scsi::{be16, be64};

const MAGIC: &[u8; 8] = b"ptgtINDX";
const HEADER: usize = 64;
const RUN: usize = 24;
const _: () = assert!(HEADER + PAGE_RUNS * RUN <= BLOCK_BYTES);
/// Most packed blocks of a run.
pub(super) const RUN_BLOCKS: u32 = 16;

/// Packed blocks that follow each other, by the place of the first.
pub(super) type IndexRun = LogEnd;

pub(super) fn encode_runs(runs: &[IndexRun], bytes: &mut [u8]) {
    for (run, to) in runs.iter().zip(bytes.chunks_exact_mut(RUN)) {
        put64(to, 0, run.lba);
        put64(to, 8, run.file);
        put64(to, 16, run.block);
    }
}

pub(super) fn decode_runs(bytes: &[u8], count: usize) -> impl Iterator<Item = IndexRun> {
    let runs = bytes.chunks_exact(RUN).take(count);
    runs.map(|run| IndexRun { lba: be64(run, 0), file: be64(run, 8), block: be64(run, 16) })
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct LogIndex {
    runs: Vec<IndexRun>,
    /// Checksums of the pages that are written.
    pages: Vec<u32>,
    /// Packed blocks of the last run, and where the next one of it would lie.
    blocks: u32,
    next: u64,
}

impl LogIndex {
    /// A packed block was added to the log.
    pub(super) fn push(&mut self, start: LogEnd, end: LogEnd) {
        if self.runs.is_empty() || self.blocks >= RUN_BLOCKS || start.block != self.next {
            self.runs.push(start);
            self.blocks = 0;
        }
        self.blocks += 1;
        self.next = end.block;
    }

    /// The runs of another time, of which nothing is known but where they begin.
    pub(super) fn extend(&mut self, runs: impl IntoIterator<Item = IndexRun>) {
        self.runs.extend(runs);
        self.blocks = RUN_BLOCKS;
    }

    /// Objects from that one on are no more.
    pub(super) fn truncate(&mut self, lba: u64) {
        self.runs.truncate(self.runs.partition_point(|run| run.lba < lba));
        self.pages.truncate(self.runs.len() / PAGE_RUNS);
        self.blocks = RUN_BLOCKS;
    }

    /// The run with that object, and the first object behind it, if another run follows.
    pub(super) fn find(&self, lba: u64) -> Option<(IndexRun, Option<u64>)> {
        self.run(self.runs.partition_point(|run| run.lba <= lba))
    }

    /// The run with the filemark that has so many before it.
    pub(super) fn find_filemark(&self, number: u64) -> Option<(IndexRun, Option<u64>)> {
        self.run(self.runs.partition_point(|run| run.file <= number))
    }

    fn run(&self, behind: usize) -> Option<(IndexRun, Option<u64>)> {
        let run = self.runs.get(behind.checked_sub(1)?)?;
        Some((*run, self.runs.get(behind).map(|next| next.lba)))
    }

    /// The pages that are full and not yet written, with their numbers.
    pub(super) fn new_pages(&mut self, partition: u16, identity: u64) -> Vec<(u64, Vec<u8>)> {
        let first = self.pages.len();
        let fresh = self.runs.chunks_exact(PAGE_RUNS).enumerate().skip(first);
        let mut pages = Vec::new();
        for (number, runs) in fresh {
            let mut bytes = vec![0; BLOCK_BYTES];
            begin(&mut bytes, MAGIC, partition, PAGE_RUNS as u16, identity);
            put64(&mut bytes, 24, number as u64);
            encode_runs(runs, &mut bytes[HEADER..]);
            self.pages.push(seal(&mut bytes));
            pages.push((number as u64, bytes));
        }
        pages
    }

    /// How many pages count, the sum of their sums, and the runs behind them.
    pub(super) fn summary(&self) -> (u64, u32, &[IndexRun]) {
        (self.pages.len() as u64, sum_of(&self.pages), &self.runs[self.pages.len() * PAGE_RUNS..])
    }

    /// Nothing of it is written: whatever lies in its area is not right.
    pub(super) fn forget_pages(&mut self) {
        self.pages.clear();
    }

    /// Takes a page that was read, which must be the next; whether it is that.
    pub(super) fn take_page(&mut self, bytes: &[u8], partition: u16, identity: u64) -> bool {
        let number = self.pages.len() as u64;
        let Some(sum) = sealed(bytes, MAGIC) else { return false };
        let right = be16(bytes, 8) == partition
            && usize::from(be16(bytes, 10)) == PAGE_RUNS
            && be64(bytes, 16) == identity
            && be64(bytes, 24) == number;
        if right {
            self.pages.push(sum);
            self.extend(decode_runs(&bytes[HEADER..], PAGE_RUNS));
        }
        right
    }

    /// Whether its runs could be those of a log that lies between two blocks and ends there.
    pub(super) fn fits(&self, log: u64, end: LogEnd) -> bool {
        let inside = |run: &IndexRun| run.block >= log && run.block < end.block;
        let rising = |two: &[IndexRun]| two[0].lba < two[1].lba && two[0].file <= two[1].file;
        match (self.runs.first(), self.runs.last()) {
            (Some(first), Some(last)) => {
                (first.lba, first.file) == (0, 0)
                    && last.lba < end.lba
                    && last.file <= end.file
                    && self.runs.iter().all(inside)
                    && self.runs.windows(2).all(rising)
            }
            _ => end.lba == 0,
        }
    }
}

/// The sum of the sums of pages.
fn sum_of(pages: &[u32]) -> u32 {
    let mut sum = Crc32c::default();
    for page in pages {
        sum.update(&page.to_be_bytes());
    }
    sum.value()
}
