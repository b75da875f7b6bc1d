// SPDX-License-Identifier: GPL-2.0-or-later
//! The log of one partition, as far as it is known without reading.

use super::anchor::LogAnchor;
use super::index::LogIndex;
use super::layout::{BLOCK, PairState, PartitionArea};
use super::packed::{LogEnd, OpenBlock, PackedBlock};

/// After so many packed blocks, or blocks of any kind, an anchor is due: whoever mounts the image after a crash goes
/// over what lies behind it.
const ANCHOR_PACKED: u32 = 1024;
const ANCHOR_BLOCKS: u64 = (1 << 30) / BLOCK;

/// A packed block that is written, but not known to be on stable storage.
#[derive(Clone, Copy, Debug)]
pub(super) struct RecentBlock {
    pub(super) start: LogEnd,
    pub(super) previous: u64,
}

/// See the module.
#[derive(Debug)]
pub(super) struct PartitionLog {
    pub(super) area: PartitionArea,
    /// Of what is appended.
    pub(super) epoch: u64,
    /// The anchor in force says so.
    pub(super) appendable: bool,
    pub(super) index: LogIndex,
    /// What is behind the last packed block that is closed, and that block.
    pub(super) end: LogEnd,
    pub(super) last: u64,
    pub(super) open: Option<OpenBlock>,
    pub(super) recent: Vec<RecentBlock>,
    pub(super) anchors: PairState,
    packed_since: u32,
    anchored: u64,
}

impl PartitionLog {
    /// An empty log.
    pub(super) fn new(area: PartitionArea, epoch: u64, anchors: PairState) -> Self {
        let end = LogEnd { lba: 0, file: 0, block: area.log };
        Self {
            area,
            epoch,
            appendable: false,
            index: LogIndex::default(),
            end,
            last: 0,
            open: None,
            recent: Vec::new(),
            anchors,
            packed_since: 0,
            anchored: area.log,
        }
    }

    /// What is behind the last object.
    pub(super) fn behind(&self) -> LogEnd {
        self.open.as_ref().map_or(self.end, |open| open.end)
    }

    /// A packed block was closed or found.
    pub(super) fn push(&mut self, start: LogEnd, end: LogEnd) {
        self.index.push(start, end);
        self.recent.push(RecentBlock { start, previous: self.last });
        (self.end, self.last) = (end, start.block);
        self.packed_since += 1;
    }

    /// The log ends there, behind that packed block.
    pub(super) fn cut(&mut self, end: LogEnd, last: u64) {
        self.index.truncate(end.lba);
        self.recent.retain(|recent| recent.start.lba < end.lba);
        (self.end, self.last) = (end, last);
    }

    /// Objects from that one on are lost, with those of its packed block: that has been written, or should have been.
    pub(super) fn lose_written(&mut self, lba: u64) {
        if self.open.as_ref().is_some_and(|open| open.start().lba >= lba) {
            self.open = None;
        }
        self.appendable = false;
        let known = self.recent.iter().rfind(|recent| recent.start.lba <= lba).copied();
        if lba < self.end.lba
            && let Some(RecentBlock { start, previous }) = known
        {
            self.open = None;
            self.cut(start, previous);
        }
    }

    /// Everything before that object is on stable storage.
    pub(super) fn flushed(&mut self, lba: u64) {
        self.recent.retain(|recent| recent.start.lba >= lba);
        self.anchors.flushed();
    }

    pub(super) fn anchor_due(&self) -> bool {
        self.packed_since >= ANCHOR_PACKED || self.end.block.saturating_sub(self.anchored) >= ANCHOR_BLOCKS
    }

    /// Whether an anchor would say something new.
    pub(super) fn moved(&self) -> bool {
        self.packed_since > 0
    }

    /// The anchor of what is closed, which is taken to be written. The index has no full page that is not.
    pub(super) fn anchor(&mut self) -> LogAnchor {
        (self.packed_since, self.anchored) = (0, self.end.block);
        let (pages, sum, runs) = self.index.summary();
        LogAnchor { epoch: self.epoch, end: self.end, last: self.last, pages, sum, runs: runs.to_vec() }
    }

    /// Whether a packed block that was read is the one of this log that begins there.
    pub(super) fn owns(&self, packed: &PackedBlock, start: LogEnd, identity: u64, partition: usize) -> bool {
        let header = &packed.header;
        header.start == start
            && header.identity == identity
            && usize::from(header.partition) == partition
            && header.epoch <= self.epoch
            && packed.end.block <= self.area.end
    }
}
