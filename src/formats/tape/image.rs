// SPDX-License-Identifier: GPL-2.0-or-later
//! A cartridge that is mounted: what lies on it, and what has to be written to change it.

use std::collections::VecDeque;
use std::sync::Arc;

use thiserror::Error;

use super::anchor::LogAnchor;
use super::attributes::{self, TapeAttribute};
use super::cache::BlockCache;
use super::index::{IndexRun, RUN_BLOCKS};
use super::layout::{
    ATTRIBUTES, BLOCK, BLOCK_BYTES, Cartridge, CopyPair, PARTITIONS_MAX, PairState, PartitionArea,
    SUPERBLOCKS, Superblock, areas,
};
use super::log::PartitionLog;
use super::packed::{
    INLINE_MAX, LogEnd, OpenBlock, PackedBlock, PackedHeader, PackedShape, RecordHeader, payload_blocks,
};

/// Bytes of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreRange {
    /// The first.
    pub at: u64,
    /// How many.
    pub len: u32,
}

/// Something to be done to the store. Steps are done one after the other; a step begins when whatever was to be written
/// before it is written, payload included.
#[derive(Debug, PartialEq, Eq)]
pub enum TapeStep {
    /// Write these bytes, which are whole blocks, there.
    Write {
        /// The first byte.
        at: u64,
        /// What is to be written.
        bytes: Vec<u8>,
    },
    /// Bring all that was written to stable storage.
    Flush,
}

/// What a step is part of.
#[derive(Debug)]
enum StepPart {
    Packed {
        partition: usize,
        start: LogEnd,
        end: LogEnd,
    },
    Page,
    Anchor {
        partition: usize,
        slot: usize,
    },
    Superblock {
        slot: usize,
    },
    Attributes {
        slot: usize,
    },
    /// With the first object of each partition that it does not cover.
    Flush(Vec<u64>),
}

/// Why a question has no answer yet, or none at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Unanswered {
    /// Read this, [`TapeImage::supply`] it, and ask again.
    #[error("{len} bytes at {at} are to be read first", len = .0.len, at = .0.at)]
    Read(StoreRange),
    /// What lies there is not what should.
    #[error("partition {partition} is damaged at byte {at}")]
    Damaged {
        /// The partition.
        partition: usize,
        /// The first byte of the block.
        at: u64,
    },
}

/// Why nothing is appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum AppendError {
    /// [`TapeImage::begin`] comes first.
    #[error("the log is not open for writing")]
    NotBegun,
    /// The physical end of the partition.
    #[error("the partition is full")]
    Full,
}

/// An object of the logical sequence of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TapeObject {
    /// A record.
    Record(RecordHeader, RecordPayload),
    /// A filemark.
    Filemark,
}

/// Where the payload of a record is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordPayload {
    /// Here.
    Here(Vec<u8>),
    /// There, from the beginning of a block. What follows it in its last block is nobody's.
    At(StoreRange),
}

/// A position: in front of an object, or behind the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TapePosition {
    /// Objects before it.
    pub lba: u64,
    /// Filemarks before it.
    pub file: u64,
}

/// Behind a partition's last record there is always room for so many blocks of filemarks.
const RESERVED_BLOCKS: u64 = 64;

/// See the module. Questions are answered out of memory, or tell what is missing for an answer. Changes are in force at
/// once, and on the store when all steps are done: nothing is to be read before.
#[derive(Debug)]
pub struct TapeImage {
    superblock: Superblock,
    superblocks: PairState,
    logs: Vec<PartitionLog>,
    attributes: Vec<TapeAttribute>,
    /// What they were before a change that is not written yet.
    attributes_before: Option<Vec<TapeAttribute>>,
    attribute_copies: PairState,
    steps: VecDeque<(TapeStep, StepPart)>,
    cache: BlockCache,
}

impl TapeImage {
    /// A new cartridge with these partitions. Nothing is read for it; its steps write the head. `None` if there cannot
    /// be such partitions.
    pub fn create(cartridge: Cartridge, capacities: &[u64]) -> Option<Self> {
        let areas = areas(capacities)?;
        let superblock = Superblock { cartridge, floor: 0, areas };
        let mut image = Self::mounted(superblock, PairState::default(), Vec::new(), PairState::default());
        image.reset_logs();
        for slot in [0, 1] {
            for partition in 0..PARTITIONS_MAX {
                let blank = LogAnchor::default().encode(partition as u16, image.identity(), 0);
                image.write(CopyPair::anchors(partition).place(slot), blank, StepPart::Page);
            }
        }
        image.write_attributes();
        image.write_superblock();
        Some(image)
    }

    pub(super) fn mounted(
        superblock: Superblock,
        superblocks: PairState,
        attributes: Vec<TapeAttribute>,
        attribute_copies: PairState,
    ) -> Self {
        let (logs, steps, cache) = (Vec::new(), VecDeque::new(), BlockCache::default());
        Self {
            superblock,
            superblocks,
            logs,
            attributes,
            attributes_before: None,
            attribute_copies,
            steps,
            cache,
        }
    }

    /// The logs of a mounted image.
    pub(super) fn set_logs(&mut self, logs: Vec<PartitionLog>) {
        self.logs = logs;
    }

    fn reset_logs(&mut self) {
        let log =
            |area: &PartitionArea| PartitionLog::new(*area, self.superblock.floor, PairState::default());
        self.logs = self.superblock.areas.iter().map(log).collect();
    }

    fn identity(&self) -> u64 {
        self.superblock.cartridge.identity
    }

    /// What the cartridge is.
    pub fn cartridge(&self) -> &Cartridge {
        &self.superblock.cartridge
    }

    /// Where its partitions lie.
    pub fn partitions(&self) -> &[PartitionArea] {
        &self.superblock.areas
    }

    /// The end of the data of a partition.
    pub fn end(&self, partition: usize) -> TapePosition {
        let LogEnd { lba, file, .. } = self.logs[partition].behind();
        TapePosition { lba, file }
    }

    /// Bytes of the log of a partition that are used.
    pub fn used(&self, partition: usize) -> u64 {
        let log = &self.logs[partition];
        (log.behind().block - log.area.log) * BLOCK
    }

    /// The same of what lies before a position.
    pub fn used_before(&mut self, partition: usize, lba: u64) -> Result<u64, Unanswered> {
        if lba >= self.end(partition).lba {
            return Ok(self.used(partition));
        }
        let block = self.packed(partition, lba)?.place(lba).block;
        // Short of the block of headers, which is there for what follows.
        Ok((block - 1).saturating_sub(self.logs[partition].area.log) * BLOCK)
    }

    /// The attributes.
    pub fn attributes(&self) -> &[TapeAttribute] {
        &self.attributes
    }

    /// What they take of [`ATTRIBUTE_BYTES_MAX`](super::ATTRIBUTE_BYTES_MAX).
    pub fn attribute_bytes(&self) -> usize {
        attributes::bytes_of(&self.attributes)
    }

    /// A number that is another one after the first change of the data of a partition since it was mounted, and stays
    /// while that does: its epoch.
    pub fn change_reference(&self, partition: usize) -> u32 {
        self.logs[partition].epoch as u32
    }

    // Steps.

    /// The next step, which is to be reported by [`TapeImage::step_done`].
    pub fn next_step(&self) -> Option<&TapeStep> {
        self.steps.front().map(|(step, _)| step)
    }

    /// How the next step ended. If it failed, it and all others are given up: what they were to write is lost, whole
    /// packed blocks of it, and those of the partitions that changed end before it; to go on, [`TapeImage::begin`]
    /// again. After a failure of [`TapeImage::format`] the image has to be mounted again.
    pub fn step_done(&mut self, good: bool) {
        let Some((_, part)) = self.steps.pop_front() else { return };
        if good {
            match part {
                StepPart::Packed { .. } | StepPart::Page => {}
                StepPart::Anchor { partition, slot } => {
                    if let Some(log) = self.logs.get_mut(partition) {
                        log.anchors.wrote(slot);
                    }
                }
                StepPart::Superblock { slot } => self.superblocks.wrote(slot),
                StepPart::Attributes { slot } => {
                    self.attribute_copies.wrote(slot);
                    self.attributes_before = None;
                }
                StepPart::Flush(ends) => {
                    for (log, lba) in self.logs.iter_mut().zip(ends) {
                        log.flushed(lba);
                    }
                    self.superblocks.flushed();
                    self.attribute_copies.flushed();
                }
            }
            return;
        }
        let rest = std::mem::take(&mut self.steps).into_iter().map(|(_, part)| part);
        for part in std::iter::once(part).chain(rest) {
            match part {
                StepPart::Packed { partition, start, .. } => {
                    if let Some(log) = self.logs.get_mut(partition) {
                        log.lose_written(start.lba);
                    }
                }
                // What was written after it would follow an anchor that is not there.
                StepPart::Anchor { partition, .. } => {
                    if let Some(log) = self.logs.get_mut(partition) {
                        log.open = None;
                    }
                }
                StepPart::Flush(_) => {
                    for log in &mut self.logs {
                        if let Some(first) = log.recent.first() {
                            log.lose_written(first.start.lba);
                        }
                    }
                }
                StepPart::Attributes { .. } => {
                    if let Some(before) = self.attributes_before.take() {
                        self.attributes = before;
                    }
                }
                StepPart::Page | StepPart::Superblock { .. } => {}
            }
        }
        for log in &mut self.logs {
            log.appendable = false;
            log.index.forget_pages();
        }
        self.cache = BlockCache::default();
    }

    fn write(&mut self, at: u64, bytes: Vec<u8>, part: StepPart) {
        self.steps.push_back((TapeStep::Write { at, bytes }, part));
    }

    fn flush(&mut self) {
        let ends = self.logs.iter().map(|log| log.end.lba).collect();
        self.steps.push_back((TapeStep::Flush, StepPart::Flush(ends)));
    }

    /// Writes both superblocks, the second when the first is on stable storage.
    fn write_superblock(&mut self) {
        self.flush();
        let (sequence, slot) = self.superblocks.advance();
        self.write(SUPERBLOCKS.place(slot), self.superblock.encode(sequence), StepPart::Superblock { slot });
        self.flush();
        let (sequence, slot) = self.superblocks.advance_behind(slot);
        self.write(SUPERBLOCKS.place(slot), self.superblock.encode(sequence), StepPart::Superblock { slot });
        self.flush();
    }

    /// Writes the attributes twice, in the same way.
    fn write_attributes(&mut self) {
        self.flush();
        let (sequence, slot) = self.attribute_copies.advance();
        let bytes = attributes::encode(&self.attributes, self.identity(), sequence);
        self.write(ATTRIBUTES.place(slot), bytes, StepPart::Attributes { slot });
        self.flush();
        let (sequence, slot) = self.attribute_copies.advance_behind(slot);
        let bytes = attributes::encode(&self.attributes, self.identity(), sequence);
        self.write(ATTRIBUTES.place(slot), bytes, StepPart::Attributes { slot });
    }

    /// Writes an anchor of a partition with the epoch that it has, and returns its slot. `behind`: the slot that is on
    /// stable storage by then.
    fn write_anchor(&mut self, partition: usize, behind: Option<usize>) -> usize {
        let identity = self.identity();
        let log = &mut self.logs[partition];
        let (sequence, slot) = match behind {
            Some(slot) => log.anchors.advance_behind(slot),
            None => log.anchors.advance(),
        };
        let bytes = log.anchor().encode(partition as u16, identity, sequence);
        self.write(CopyPair::anchors(partition).place(slot), bytes, StepPart::Anchor { partition, slot });
        slot
    }

    fn write_pages(&mut self, partition: usize) {
        let identity = self.identity();
        let first = self.logs[partition].area.index;
        for (number, bytes) in self.logs[partition].index.new_pages(partition as u16, identity) {
            self.write((first + number) * BLOCK, bytes, StepPart::Page);
        }
    }

    // Questions.

    /// What was read for an answer.
    pub fn supply(&mut self, range: StoreRange, bytes: &[u8]) {
        let block = range.at / BLOCK;
        self.cache.insert(block, PackedBlock::decode(bytes.to_vec(), block));
    }

    /// The object at a position; `None` at the end of the data.
    pub fn find(&mut self, partition: usize, lba: u64) -> Result<Option<TapeObject>, Unanswered> {
        if lba >= self.end(partition).lba {
            return Ok(None);
        }
        let packed = self.packed(partition, lba)?;
        Ok(Some(match packed.entry(lba).shape {
            PackedShape::Filemarks(_) => TapeObject::Filemark,
            PackedShape::Inline(record, at) => {
                let payload = packed.bytes[at..at + record.stored as usize].to_vec();
                TapeObject::Record(record, RecordPayload::Here(payload))
            }
            PackedShape::Aligned(record, blocks) => {
                let at = (packed.header.start.block + blocks) * BLOCK;
                TapeObject::Record(record, RecordPayload::At(StoreRange { at, len: record.stored }))
            }
        }))
    }

    /// The position of the filemark that has so many before it in its partition.
    pub fn find_filemark(&mut self, partition: usize, number: u64) -> Result<Option<u64>, Unanswered> {
        let log = &self.logs[partition];
        if number >= log.behind().file {
            return Ok(None);
        }
        if number >= log.end.file {
            return Ok(log.open.as_ref().map(|open| open.view().filemark(number)));
        }
        let run = log.index.find_filemark(number);
        let packed = self.walk(partition, run, |packed| packed.end.file <= number)?;
        let end = self.end(partition).lba;
        let mark = (packed.header.start.file <= number).then(|| packed.filemark(number));
        match mark.filter(|mark| *mark < end) {
            Some(mark) => Ok(Some(mark)),
            None => Err(self.damaged(partition, packed.header.start.block)),
        }
    }

    /// How many filemarks there are before a position.
    pub fn file_of(&mut self, partition: usize, lba: u64) -> Result<u64, Unanswered> {
        match self.end(partition) {
            end if lba >= end.lba => Ok(end.file),
            end => {
                let packed = self.packed(partition, lba)?;
                let file = packed.place(lba).file;
                match file <= end.file {
                    true => Ok(file),
                    false => Err(self.damaged(partition, packed.header.start.block)),
                }
            }
        }
    }

    fn damaged(&self, partition: usize, block: u64) -> Unanswered {
        Unanswered::Damaged { partition, at: block * BLOCK }
    }

    /// The packed block of an object that is there.
    pub(super) fn packed(&mut self, partition: usize, lba: u64) -> Result<Arc<PackedBlock>, Unanswered> {
        let log = &self.logs[partition];
        if let Some(open) = log.open.as_ref().filter(|open| open.start().lba <= lba) {
            return Ok(Arc::new(open.view()));
        }
        let run = log.index.find(lba);
        self.walk(partition, run, |packed| packed.end.lba <= lba)
    }

    /// A packed block that is yet to be written.
    fn queued(&self, block: u64) -> Option<PackedBlock> {
        self.steps.iter().find_map(|(step, part)| match (step, part) {
            (TapeStep::Write { at, bytes }, StepPart::Packed { .. }) if *at == block * BLOCK => {
                PackedBlock::decode(bytes.clone(), block)
            }
            _ => None,
        })
    }

    /// Goes along a run as far as packed blocks are to be passed.
    fn walk(
        &mut self,
        partition: usize,
        run: Option<(IndexRun, Option<u64>)>,
        pass: impl Fn(&PackedBlock) -> bool,
    ) -> Result<Arc<PackedBlock>, Unanswered> {
        let identity = self.identity();
        let log = &self.logs[partition];
        let Some((mut at, bound)) = run else { return Err(self.damaged(partition, log.area.log)) };
        let bound = bound.unwrap_or(log.end.lba);
        for _ in 0..RUN_BLOCKS {
            if !self.cache.holds(at.block)
                && let Some(queued) = self.queued(at.block)
            {
                self.cache.insert(at.block, Some(queued));
            }
            let log = &self.logs[partition];
            let Some(known) = self.cache.find(at.block) else {
                return Err(Unanswered::Read(StoreRange { at: at.block * BLOCK, len: BLOCK_BYTES as u32 }));
            };
            let known = known.filter(|packed| log.owns(packed, at, identity, partition));
            let Some(packed) = known else { return Err(self.damaged(partition, at.block)) };
            if !pass(&packed) {
                return Ok(packed);
            }
            at = packed.end;
            if at.lba >= bound {
                break;
            }
        }
        Err(self.damaged(partition, at.block))
    }

    // Changes.

    /// Opens the log for writing at a position: what was behind it is no more when the steps are done, which is before
    /// anything is written there. Costs nothing at the end of a log that is open.
    pub fn begin(&mut self, partition: usize, lba: u64) -> Result<(), Unanswered> {
        let behind = self.end(partition).lba;
        if self.logs[partition].appendable && lba == behind {
            return Ok(());
        }
        let kept = match lba.min(behind) {
            0 => None,
            lba => Some(self.packed(partition, lba - 1)?),
        };
        let log = &mut self.logs[partition];
        match log.open.take() {
            Some(open) if open.start().lba < lba => {
                log.open = Some(OpenBlock::reopen(&open.view(), lba));
                self.close(partition);
            }
            _ => match kept {
                Some(packed) => log.cut(packed.place(lba), packed.header.start.block),
                None => log.cut(LogEnd { lba: 0, file: 0, block: log.area.log }, 0),
            },
        }
        let log = &mut self.logs[partition];
        (log.epoch, log.appendable) = (log.epoch + 1, true);
        self.write_pages(partition);
        self.flush();
        let slot = self.write_anchor(partition, None);
        self.flush();
        // So that no damage to one of them brings back what was before.
        self.write_anchor(partition, Some(slot));
        Ok(())
    }

    /// Closes the packed block that is being filled.
    fn close(&mut self, partition: usize) {
        let log = &mut self.logs[partition];
        let Some(open) = log.open.take().filter(|open| open.end.lba > open.start().lba) else { return };
        let (start, end) = (open.start(), open.end);
        log.push(start, end);
        let bytes = open.seal();
        self.cache.insert(start.block, PackedBlock::decode(bytes.clone(), start.block));
        self.write(start.block * BLOCK, bytes, StepPart::Packed { partition, start, end });
    }

    /// A packed block that takes so many bytes of payload, with so many blocks left in the partition.
    fn open(&mut self, partition: usize, stored: u32, left: u64) -> Result<&mut OpenBlock, AppendError> {
        if !self.logs[partition].appendable {
            return Err(AppendError::NotBegun);
        }
        if self.logs[partition].open.as_ref().is_some_and(|open| !open.takes(stored)) {
            self.close(partition);
        }
        let identity = self.superblock.cartridge.identity;
        let log = &mut self.logs[partition];
        let blocks = if stored > INLINE_MAX { payload_blocks(stored) } else { 0 };
        let begins = log.open.as_ref().map_or(log.end.block + 1, |open| open.end.block);
        if begins + blocks + left > log.area.end {
            return Err(AppendError::Full);
        }
        let header = PackedHeader {
            identity,
            partition: partition as u16,
            epoch: log.epoch,
            start: log.end,
            previous: log.last,
        };
        Ok(log.open.get_or_insert_with(|| OpenBlock::new(header)))
    }

    /// Where the payload of the next record will lie, which has so many bytes, more than [`INLINE_MAX`]: it may be
    /// written there when the steps so far are done, before it is appended. If it never is, nothing lies there.
    pub fn reserve(&mut self, partition: usize, stored: u32) -> Result<StoreRange, AppendError> {
        let open = self.open(partition, stored, RESERVED_BLOCKS)?;
        Ok(StoreRange { at: open.end.block * BLOCK, len: stored })
    }

    /// Appends a record whose payload is larger than [`INLINE_MAX`]. Its payload is to be written to the range that is
    /// returned, up to the end of its last block, when the steps so far are done.
    pub fn append(&mut self, partition: usize, record: &RecordHeader) -> Result<StoreRange, AppendError> {
        debug_assert!(record.stored > INLINE_MAX, "payload that goes into the packed block");
        let open = self.open(partition, record.stored, RESERVED_BLOCKS)?;
        let at = open.push_aligned(record) * BLOCK;
        Ok(StoreRange { at, len: record.stored })
    }

    /// Appends a record with a payload of at most [`INLINE_MAX`] bytes.
    pub fn append_inline(
        &mut self,
        partition: usize,
        record: &RecordHeader,
        payload: &[u8],
    ) -> Result<(), AppendError> {
        self.open(partition, record.stored, RESERVED_BLOCKS)?.push_inline(record, payload);
        Ok(())
    }

    /// Appends filemarks.
    pub fn append_filemarks(&mut self, partition: usize, count: u32) -> Result<(), AppendError> {
        if count > 0 {
            self.open(partition, 0, 0)?.push_filemarks(count);
        }
        Ok(())
    }

    /// The payload of a record that was just appended could not be written: it and what follows it are no more. What
    /// comes before it stays.
    pub fn lose(&mut self, partition: usize, lba: u64) {
        let log = &mut self.logs[partition];
        if let Some(open) = log.open.take_if(|open| open.start().lba <= lba) {
            log.open = (lba > open.start().lba).then(|| OpenBlock::reopen(&open.view(), lba));
            return;
        }
        let holds = |part: &StepPart| {
            matches!(part, StepPart::Packed { partition: of, start, end }
                if *of == partition && start.lba <= lba && lba < end.lba)
        };
        let Some(at) = self.steps.iter().position(|(_, part)| holds(part)) else {
            log.lose_written(lba);
            return;
        };
        let behind = self.steps.split_off(at);
        let mut behind = behind.into_iter();
        let Some((TapeStep::Write { at, bytes }, StepPart::Packed { start, .. })) = behind.next() else {
            return;
        };
        self.cache.forget(start.block);
        let packed = PackedBlock::decode(bytes, at / BLOCK).expect("a block of our own");
        log.cut(start, packed.header.previous);
        log.open = (lba > start.lba).then(|| OpenBlock::reopen(&packed, lba));
        for (step, mut part) in behind {
            match &mut part {
                StepPart::Packed { partition: of, start, .. } if *of == partition => {
                    self.cache.forget(start.block);
                    continue;
                }
                // It would tell of what is lost.
                StepPart::Anchor { partition: of, .. } if *of == partition => {
                    self.logs[partition].appendable = false;
                    continue;
                }
                StepPart::Flush(ends) => ends[partition] = ends[partition].min(start.lba),
                _ => {}
            }
            self.steps.push_back((step, part));
        }
    }

    /// Brings everything to stable storage.
    pub fn sync(&mut self) {
        for partition in 0..self.logs.len() {
            self.close(partition);
        }
        self.flush();
    }

    /// Whether [`TapeImage::checkpoint`] should be called, to bound the time that a mount after a crash takes.
    pub fn checkpoint_due(&self) -> bool {
        self.logs.iter().any(PartitionLog::anchor_due)
    }

    /// As [`TapeImage::sync`]; a mount has nothing to go over afterwards.
    pub fn checkpoint(&mut self) {
        for partition in 0..self.logs.len() {
            self.close(partition);
            self.write_pages(partition);
        }
        self.flush();
        let moved = |log: &PartitionLog| log.appendable && log.moved();
        let moved: Vec<_> = (0..self.logs.len()).filter(|partition| moved(&self.logs[*partition])).collect();
        for partition in &moved {
            self.write_anchor(*partition, None);
        }
        if !moved.is_empty() {
            self.flush();
        }
    }

    /// Replaces the attributes, on stable storage as well. Whether there is room for them.
    pub fn set_attributes(&mut self, wanted: Vec<TapeAttribute>) -> bool {
        let fit = attributes::fit(&wanted);
        if fit {
            let before = std::mem::replace(&mut self.attributes, wanted);
            self.attributes_before.get_or_insert(before);
            self.write_attributes();
        }
        fit
    }

    /// Makes new partitions, which are empty. `bytes`: those of the store. Whether they find room.
    pub fn format(&mut self, capacities: &[u64], bytes: u64) -> bool {
        let Some(areas) =
            areas(capacities).filter(|areas| areas.iter().all(|area| area.end <= bytes / BLOCK))
        else {
            return false;
        };
        self.superblock.floor =
            self.logs.iter().map(|log| log.epoch).fold(self.superblock.floor, u64::max) + 1;
        self.superblock.areas = areas;
        self.reset_logs();
        self.write_superblock();
        true
    }

    /// Sets or clears the tab against writing.
    pub fn set_write_protected(&mut self, on: bool) {
        self.superblock.cartridge.write_protected = on;
        self.write_superblock();
    }

    /// Writes again what is there twice, and the indexes: after that everything of the head is whole.
    pub fn rewrite_head(&mut self) -> Result<(), Unanswered> {
        for partition in 0..self.logs.len() {
            let log = &mut self.logs[partition];
            log.appendable = false;
            log.index.forget_pages();
            let end = log.behind().lba;
            self.begin(partition, end)?;
        }
        self.write_attributes();
        self.write_superblock();
        Ok(())
    }
}
