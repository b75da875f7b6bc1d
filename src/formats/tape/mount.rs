// SPDX-License-Identifier: GPL-2.0-or-later
//! Mounting: from the bytes of an image to its state. The head is read first, then the pages of each index, then
//! whatever the logs have behind their anchors: packed blocks of the anchor's epoch that follow each other, and whose
//! payload is whole. The first that is not was never on stable storage, and ends the log. An index that is not right is
//! made again from the log, from its end to its beginning.

use thiserror::Error;

use super::anchor::LogAnchor;
use super::attributes;
use super::image::{StoreRange, TapeImage};
use super::index::{IndexRun, LogIndex, RUN_BLOCKS};
use super::layout::{
    ATTRIBUTES, BLOCK, BLOCK_BYTES, Cartridge, CartridgeUse, CopyPair, HEAD_BYTES, PARTITIONS_MAX, PairState,
    PartitionArea, SUPERBLOCKS, Superblock, SuperblockFault, VERSION, newest,
};
use super::log::PartitionLog;
use super::packed::{LogEnd, PackedBlock, PackedShape};
use crate::wire::Crc32c;

/// Most bytes of one read.
const READ_MAX: u32 = 1 << 20;

/// Why an image is not mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum MountError {
    /// It is no tape image.
    #[error("this is no tape image")]
    NoTape,
    /// Of another version.
    #[error("a tape image of version {0}, and this program knows version {version}", version = VERSION)]
    Version(u16),
    /// Both superblocks are damaged.
    #[error("both superblocks are damaged")]
    Superblock,
    /// The store is shorter than it was.
    #[error("the image is cut short: it has {has} bytes and needs {needs}")]
    Short {
        /// Its bytes.
        has: u64,
        /// Those that it needs.
        needs: u64,
    },
    /// A log does not lead back to its beginning.
    #[error("partition {partition} is damaged at byte {at}")]
    Log {
        /// The partition.
        partition: usize,
        /// The first byte of what should be a packed block.
        at: u64,
    },
}

/// What a mount has come across that should not be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MountFindings {
    /// Parts of the head that are damaged; there is another copy.
    pub damaged_copies: usize,
    /// Partitions whose index was made anew.
    pub rebuilt: Vec<usize>,
    /// Packed blocks behind the anchors, and those of them that were given up in part.
    pub recovered: u64,
    /// Partitions whose log ends in a packed block with payload that was never written.
    pub cut: Vec<usize>,
}

/// How far a partition has come.
#[derive(Debug)]
enum MountStage {
    /// The head, before anything else.
    Head,
    /// Pages of the index.
    Pages,
    /// The packed block with the last object before the anchor.
    Last,
    /// The log, backwards: what is known of the packed block that is read next, and of the one behind it.
    Back { block: u64, behind: LogEnd, found: Vec<IndexRun>, blocks: u32 },
    /// A packed block behind the anchor.
    Forward,
    /// Payload of a packed block.
    Payload(Box<PayloadCheck>),
    /// All partitions.
    Finished,
}

/// Payload of a packed block that is being read: of which entry, how much of it, and its sum so far.
#[derive(Debug)]
struct PayloadCheck {
    packed: PackedBlock,
    entry: usize,
    done: u32,
    sum: Crc32c,
}

/// See the module. While something is [`TapeMount::wanted`], it is to be read and supplied; then the mount is finished.
#[derive(Debug)]
pub struct TapeMount {
    bytes: u64,
    superblock: Superblock,
    image: Option<TapeImage>,
    anchors: Vec<(LogAnchor, PairState)>,
    logs: Vec<PartitionLog>,
    stage: MountStage,
    findings: MountFindings,
}

impl TapeMount {
    /// A mount of a store of that many bytes.
    pub fn new(bytes: u64) -> Self {
        let cartridge = Cartridge {
            identity: 0,
            density: 0,
            purpose: CartridgeUse::Data,
            write_protected: false,
            capacity: 0,
            barcode: String::new(),
        };
        let superblock = Superblock { cartridge, floor: 0, areas: Vec::new() };
        let findings = MountFindings::default();
        Self {
            bytes,
            superblock,
            image: None,
            anchors: Vec::new(),
            logs: Vec::new(),
            stage: MountStage::Head,
            findings,
        }
    }

    fn partition(&self) -> usize {
        self.logs.len() - 1
    }

    /// What is to be read next; `None` if all is known. Short of the end of the store, which is an error then.
    pub fn wanted(&self) -> Option<StoreRange> {
        let block = |block: u64| StoreRange { at: block * BLOCK, len: BLOCK_BYTES as u32 };
        match &self.stage {
            MountStage::Head => Some(StoreRange { at: 0, len: u64::from(HEAD_BYTES).min(self.bytes) as u32 }),
            MountStage::Pages => {
                let log = self.logs.last()?;
                let (done, pages) = (log.index.summary().0, self.anchors[self.partition()].0.pages);
                let len = ((pages - done) * BLOCK).min(READ_MAX.into());
                Some(StoreRange { at: (log.area.index + done) * BLOCK, len: len as u32 })
            }
            MountStage::Last => Some(block(self.logs.last()?.last)),
            MountStage::Back { block: at, .. } => Some(block(*at)),
            MountStage::Forward => Some(block(self.logs.last()?.end.block)),
            MountStage::Payload(check) => {
                let PayloadCheck { packed, entry, done, .. } = &**check;
                let PackedShape::Aligned(record, blocks) = packed.entries[*entry].shape else { return None };
                let at = (packed.header.start.block + blocks) * BLOCK + u64::from(*done);
                let left = (record.stored - done).next_multiple_of(BLOCK_BYTES as u32);
                Some(StoreRange { at, len: left.min(READ_MAX) })
            }
            MountStage::Finished => None,
        }
    }

    /// What was read.
    pub fn supply(&mut self, bytes: &[u8]) -> Result<(), MountError> {
        match std::mem::replace(&mut self.stage, MountStage::Finished) {
            MountStage::Head => self.take_head(bytes)?,
            MountStage::Pages => self.take_pages(bytes)?,
            MountStage::Last => self.take_last(bytes)?,
            MountStage::Back { block, behind, found, blocks } => {
                self.take_back(bytes, block, behind, found, blocks)?;
            }
            MountStage::Forward => self.take_forward(bytes)?,
            MountStage::Payload(check) => self.take_payload(bytes, *check)?,
            MountStage::Finished => {}
        }
        Ok(())
    }

    /// The image, when nothing is wanted any more.
    pub fn finish(self) -> Option<(TapeImage, MountFindings)> {
        let mut image = self.image?;
        if !matches!(self.stage, MountStage::Finished) || self.logs.len() != self.superblock.areas.len() {
            return None;
        }
        let mut logs = self.logs;
        // What was read is there, whatever becomes of the next flush.
        logs.iter_mut().for_each(|log| log.recent.clear());
        image.set_logs(logs);
        Some((image, self.findings))
    }

    fn take_head(&mut self, head: &[u8]) -> Result<(), MountError> {
        let decoded = [0, 1].map(|slot| Superblock::decode(SUPERBLOCKS.slot(head, slot)));
        let whole = |bytes: &[u8]| Superblock::decode(bytes).ok();
        let Some((superblock, superblocks)) = newest(SUPERBLOCKS, head, whole) else {
            // The worse of the two is told.
            let faults = decoded.into_iter().filter_map(Result::err);
            return Err(match faults.max() {
                Some(SuperblockFault::Version(version)) => MountError::Version(version),
                Some(SuperblockFault::Damaged) => MountError::Superblock,
                _ => MountError::NoTape,
            });
        };
        self.findings.damaged_copies += decoded.iter().filter(|copy| copy.is_err()).count();
        let needs = superblock.areas.last().map_or(0, |area| area.end * BLOCK);
        if self.bytes < needs {
            return Err(MountError::Short { has: self.bytes, needs });
        }
        let identity = superblock.cartridge.identity;
        let copies = newest(ATTRIBUTES, head, |bytes| attributes::decode(bytes, identity));
        self.findings.damaged_copies += usize::from(copies.is_none());
        let (attributes, copies) = copies.unwrap_or_default();
        for partition in 0..superblock.areas.len().min(PARTITIONS_MAX) {
            let decode = |bytes: &[u8]| {
                let found = LogAnchor::decode(bytes, partition as u16, identity);
                found.filter(|(anchor, _)| anchor.epoch > superblock.floor)
            };
            let blank = || (LogAnchor::default(), PairState::default());
            self.anchors.push(newest(CopyPair::anchors(partition), head, decode).unwrap_or_else(blank));
        }
        self.superblock = superblock.clone();
        self.image = Some(TapeImage::mounted(superblock, superblocks, attributes, copies));
        self.next_partition()
    }

    /// Goes on to the next partition.
    fn next_partition(&mut self) -> Result<(), MountError> {
        let number = self.logs.len();
        let Some(area) = self.superblock.areas.get(number).copied() else {
            self.stage = MountStage::Finished;
            return Ok(());
        };
        let (anchor, pair) = &self.anchors[number];
        let mut log = PartitionLog::new(area, self.superblock.floor, *pair);
        if anchor.epoch == 0 {
            self.logs.push(log);
            return self.next_partition();
        }
        log.epoch = anchor.epoch;
        let PartitionArea { index, log: first, end, .. } = area;
        let inside = |block: u64| block >= first && block < end;
        let good = anchor.pages <= first - index
            && anchor.end.block >= first
            && anchor.end.block <= end
            && match anchor.end.lba {
                0 => anchor.last == 0,
                _ => inside(anchor.last) && anchor.last < anchor.end.block,
            };
        log.end = if anchor.end.lba == 0 { log.end } else { anchor.end };
        log.last = anchor.last;
        self.logs.push(log);
        if !good {
            return Err(MountError::Log { partition: number, at: CopyPair::anchors(number).place(0) });
        }
        self.pages()
    }

    /// Goes on to the pages of the index, or past them.
    fn pages(&mut self) -> Result<(), MountError> {
        let (anchor, _) = &self.anchors[self.logs.len() - 1];
        let Some(log) = self.logs.last_mut() else { return Ok(()) };
        let (done, sum, _) = log.index.summary();
        if done < anchor.pages {
            self.stage = MountStage::Pages;
            return Ok(());
        }
        log.index.extend(anchor.runs.iter().copied());
        let good = sum == anchor.sum && log.index.fits(log.area.log, log.end);
        if !good {
            return self.rebuild();
        }
        if log.end.lba == 0 {
            return self.forward();
        }
        self.stage = MountStage::Last;
        Ok(())
    }

    fn take_pages(&mut self, bytes: &[u8]) -> Result<(), MountError> {
        let (partition, identity) = (self.partition() as u16, self.superblock.cartridge.identity);
        let Some(log) = self.logs.last_mut() else { return Ok(()) };
        for page in bytes.chunks(BLOCK_BYTES) {
            if !log.index.take_page(page, partition, identity) {
                return self.rebuild();
            }
        }
        self.pages()
    }

    /// The index is made again.
    fn rebuild(&mut self) -> Result<(), MountError> {
        let partition = self.partition();
        self.findings.rebuilt.push(partition);
        let Some(log) = self.logs.last_mut() else { return Ok(()) };
        log.index = LogIndex::default();
        if log.end.lba == 0 {
            return self.forward();
        }
        let (block, behind) = (log.last, log.end);
        self.stage = MountStage::Back { block, behind, found: Vec::new(), blocks: 0 };
        Ok(())
    }

    fn broken(&self, block: u64) -> MountError {
        MountError::Log { partition: self.partition(), at: block * BLOCK }
    }

    /// A packed block of this partition that was read.
    fn decode(&self, bytes: &[u8], block: u64) -> Option<PackedBlock> {
        let log = self.logs.last()?;
        let packed = PackedBlock::decode(bytes.to_vec(), block)?;
        let start = packed.header.start;
        log.owns(&packed, start, self.superblock.cartridge.identity, self.partition()).then_some(packed)
    }

    fn take_last(&mut self, bytes: &[u8]) -> Result<(), MountError> {
        let Some(log) = self.logs.last() else { return Ok(()) };
        let (last, end) = (log.last, log.end);
        let fits = |packed: &PackedBlock| {
            packed.header.start.lba < end.lba && packed.end.lba >= end.lba && packed.place(end.lba) == end
        };
        self.decode(bytes, last).filter(fits).ok_or_else(|| self.broken(last))?;
        self.forward()
    }

    fn take_back(
        &mut self,
        bytes: &[u8],
        block: u64,
        behind: LogEnd,
        mut found: Vec<IndexRun>,
        blocks: u32,
    ) -> Result<(), MountError> {
        let fits = |packed: &PackedBlock| {
            let start = packed.header.start;
            start.lba < behind.lba
                && packed.end.lba >= behind.lba
                && packed.place(behind.lba).file == behind.file
        };
        // A log leads back through its own blocks only, and comes to its beginning.
        let first = self.logs.last().map_or(0, |log| log.area.log);
        let leads_back = |packed: &PackedBlock| {
            packed.header.start.lba == 0 || (first..block).contains(&packed.header.previous)
        };
        let packed = self.decode(bytes, block).filter(fits).filter(leads_back);
        let packed = packed.ok_or_else(|| self.broken(block))?;
        let (start, previous) = (packed.header.start, packed.header.previous);
        // What lies behind it may begin a run: if this block does not lead there, it has to.
        if found.last() != Some(&behind) && packed.end != behind && !found.is_empty() {
            found.push(behind);
        }
        let begins_run = found.is_empty() || blocks + 1 >= RUN_BLOCKS || start.lba == 0;
        if begins_run {
            found.push(start);
        }
        let blocks = if begins_run { 0 } else { blocks + 1 };
        if start.lba > 0 {
            self.stage = MountStage::Back { block: previous, behind: start, found, blocks };
            return Ok(());
        }
        found.reverse();
        let Some(log) = self.logs.last_mut() else { return Ok(()) };
        log.index.extend(found);
        if !log.index.fits(log.area.log, log.end) {
            return Err(self.broken(block));
        }
        self.forward()
    }

    /// The next packed block, unless the log is full.
    fn forward(&mut self) -> Result<(), MountError> {
        if self.logs.last().is_some_and(|log| log.end.block >= log.area.end) {
            return self.next_partition();
        }
        self.stage = MountStage::Forward;
        Ok(())
    }

    fn take_forward(&mut self, bytes: &[u8]) -> Result<(), MountError> {
        let Some(log) = self.logs.last() else { return Ok(()) };
        let (start, previous, epoch) = (log.end, log.last, log.epoch);
        let next = self.decode(bytes, start.block).filter(|packed| {
            let header = &packed.header;
            header.start == start && header.epoch == epoch && header.previous == previous
        });
        match next {
            Some(packed) => self.verify(packed, 0),
            None => self.next_partition(),
        }
    }

    /// Goes on to the payload of an entry, or of those behind it.
    fn verify(&mut self, packed: PackedBlock, from: usize) -> Result<(), MountError> {
        let aligned = packed.entries.iter().enumerate().skip(from).find_map(|(number, entry)| {
            matches!(entry.shape, PackedShape::Aligned(record, _) if record.stored > 0).then_some(number)
        });
        match aligned {
            Some(entry) => {
                let check = PayloadCheck { packed, entry, done: 0, sum: Crc32c::default() };
                self.stage = MountStage::Payload(Box::new(check));
                Ok(())
            }
            None => {
                let Some(log) = self.logs.last_mut() else { return Ok(()) };
                log.push(packed.header.start, packed.end);
                self.findings.recovered += 1;
                self.forward()
            }
        }
    }

    fn take_payload(&mut self, bytes: &[u8], check: PayloadCheck) -> Result<(), MountError> {
        let PayloadCheck { packed, entry, done, mut sum } = check;
        let PackedShape::Aligned(record, _) = packed.entries[entry].shape else { return Ok(()) };
        let piece = &bytes[..bytes.len().min((record.stored - done) as usize)];
        sum.update(piece);
        let done = done + piece.len() as u32;
        if done < record.stored && !piece.is_empty() {
            self.stage = MountStage::Payload(Box::new(PayloadCheck { packed, entry, done, sum }));
            return Ok(());
        }
        if sum.value() == record.sum && done == record.stored {
            return self.verify(packed, entry + 1);
        }
        let partition = self.partition();
        self.findings.cut.push(partition);
        let start = packed.header.start;
        let end = packed.place(start.lba + packed.entries[entry].objects);
        if end.lba > start.lba
            && let Some(log) = self.logs.last_mut()
        {
            log.push(start, end);
            self.findings.recovered += 1;
        }
        self.next_partition()
    }
}
