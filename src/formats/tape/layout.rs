// SPDX-License-Identifier: GPL-2.0-or-later
//! Where things lie in an image, and its superblock. All integers are big-endian.
//!
//! An image begins with the head: two superblocks, two anchors for each partition, two copies of the attributes. Behind
//! it each partition has an area for pages of its index and one for its log. Of each pair the one of the higher
//! sequence number counts; one of them is always whole.

use crate::wire::Crc32c;
use crate::wire::scsi::{be16, be64};

/// Unit of the format: whatever is written begins and ends at a multiple of it.
pub const BLOCK: u64 = 4096;
/// The same, for memory.
pub(super) const BLOCK_BYTES: usize = 4096;
/// Version of the format.
pub const VERSION: u16 = 1;
/// Most partitions of a cartridge.
pub const PARTITIONS_MAX: usize = 4;
/// Most bytes of a record.
pub const RECORD_BYTES_MAX: u32 = 16 << 20;

/// Runs of a page of an index.
pub(super) const PAGE_RUNS: usize = 168;

/// Bytes of the head, and where its parts lie.
pub(super) const HEAD_BYTES: u32 = 512 << 10;
pub(super) const SUPERBLOCKS: CopyPair = CopyPair { at: 0, bytes: 64 << 10 };
pub(super) const ATTRIBUTES: CopyPair = CopyPair { at: 256 << 10, bytes: 128 << 10 };

/// Two places for one thing.
#[derive(Clone, Copy, Debug)]
pub(super) struct CopyPair {
    at: u64,
    pub(super) bytes: u64,
}

impl CopyPair {
    /// Where the anchors of a partition lie.
    pub(super) fn anchors(partition: usize) -> Self {
        Self { at: (128 << 10) + (partition as u64) * (16 << 10), bytes: 8 << 10 }
    }

    pub(super) fn place(self, slot: usize) -> u64 {
        self.at + self.bytes * slot as u64
    }

    /// The bytes of one of the two in the head.
    pub(super) fn slot(self, head: &[u8], slot: usize) -> &[u8] {
        let at = usize::try_from(self.place(slot)).unwrap_or(usize::MAX);
        let end = at.saturating_add(usize::try_from(self.bytes).unwrap_or(0));
        head.get(at..end).unwrap_or_default()
    }
}

/// Which of a pair is to be written next: never the one that is known to be on stable storage.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PairState {
    /// The highest sequence number so far.
    pub(super) sequence: u64,
    durable: usize,
    written: Option<usize>,
}

impl PairState {
    pub(super) fn found(sequence: u64, slot: usize) -> Self {
        Self { sequence, durable: slot, written: None }
    }

    /// The sequence number and the slot of the next.
    pub(super) fn advance(&mut self) -> (u64, usize) {
        self.advance_behind(self.durable)
    }

    /// The same for one that is written when that slot is on stable storage.
    pub(super) fn advance_behind(&mut self, slot: usize) -> (u64, usize) {
        self.sequence += 1;
        (self.sequence, 1 - slot)
    }

    /// That slot has been written.
    pub(super) fn wrote(&mut self, slot: usize) {
        self.written = Some(slot);
    }

    /// What was written is on stable storage.
    pub(super) fn flushed(&mut self) {
        if let Some(slot) = self.written.take() {
            self.durable = slot;
        }
    }
}

/// Where the checksum of any structure lies.
const SUM_AT: usize = 12;

/// Begins a structure: its magic, a small number, a count, and the identity of the cartridge.
pub(super) fn begin(bytes: &mut [u8], magic: &[u8; 8], number: u16, count: u16, identity: u64) {
    bytes[..8].copy_from_slice(magic);
    bytes[8..10].copy_from_slice(&number.to_be_bytes());
    bytes[10..SUM_AT].copy_from_slice(&count.to_be_bytes());
    put64(bytes, 16, identity);
}

/// Puts the checksum of a structure in.
pub(super) fn seal(bytes: &mut [u8]) -> u32 {
    bytes[SUM_AT..SUM_AT + 4].fill(0);
    let sum = Crc32c::of(bytes).value();
    put32(bytes, SUM_AT, sum);
    sum
}

/// The checksum of a structure, if it is right.
pub(super) fn sealed(bytes: &[u8], magic: &[u8; 8]) -> Option<u32> {
    let stored = bytes.get(SUM_AT..SUM_AT + 4)?;
    if !bytes.starts_with(magic) {
        return None;
    }
    let mut sum = Crc32c::default();
    sum.update(&bytes[..SUM_AT]);
    sum.update(&[0; 4]);
    sum.update(&bytes[SUM_AT + 4..]);
    (sum.value().to_be_bytes() == stored).then(|| sum.value())
}

pub(super) fn put32(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
}

pub(super) fn put64(bytes: &mut [u8], at: usize, value: u64) {
    bytes[at..at + 8].copy_from_slice(&value.to_be_bytes());
}

/// What a cartridge is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CartridgeUse {
    /// Data, written as often as wanted.
    Data = 0,
    /// Data, written once.
    Worm = 1,
    /// It cleans a drive.
    Cleaning = 2,
}

impl CartridgeUse {
    fn new(code: u8) -> Option<Self> {
        [Self::Data, Self::Worm, Self::Cleaning].into_iter().find(|purpose| *purpose as u8 == code)
    }
}

/// What a cartridge is, for as long as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cartridge {
    /// Tells the blocks of this image from those of another that lay at the same place before: chosen at random.
    pub identity: u64,
    /// Density code of SSC.
    pub density: u8,
    /// What it is used for.
    pub purpose: CartridgeUse,
    /// The tab is set: it is not to be written.
    pub write_protected: bool,
    /// Native capacity in bytes.
    pub capacity: u64,
    /// At most [`BARCODE_MAX`] printable characters of ASCII without blanks at the ends.
    pub barcode: String,
}

/// Most characters of a barcode.
pub const BARCODE_MAX: usize = 32;

/// Where a partition lies, in blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionArea {
    /// First block of its index.
    pub index: u64,
    /// First block of its log.
    pub log: u64,
    /// First block behind its log.
    pub end: u64,
    /// Native capacity in bytes.
    pub capacity: u64,
}

/// Room of a log beyond the capacity: for headers of large records, and behind the physical end.
const SLACK: u64 = 256;

impl PartitionArea {
    fn new(index: u64, capacity: u64) -> Option<Self> {
        let log_blocks = capacity.div_ceil(BLOCK) + (capacity / BLOCK) / 64 + SLACK;
        // A block of the log has at most one run of the index.
        let log = index.checked_add(log_blocks.div_ceil(PAGE_RUNS as u64))?;
        let end = log.checked_add(log_blocks)?;
        (end < 1 << 50).then_some(Self { index, log, end, capacity })
    }
}

/// The areas of partitions with these capacities.
pub(super) fn areas(capacities: &[u64]) -> Option<Vec<PartitionArea>> {
    if capacities.is_empty() || capacities.len() > PARTITIONS_MAX {
        return None;
    }
    let mut at = u64::from(HEAD_BYTES) / BLOCK;
    let area = |capacity: &u64| {
        let area = PartitionArea::new(at, *capacity)?;
        at = area.end;
        Some(area)
    };
    capacities.iter().map(area).collect()
}

/// Bytes that an image of that capacity needs, with as many partitions as there may be. It is sparse.
pub fn image_bytes(capacity: u64) -> Option<u64> {
    let one = areas(&[capacity])?.last()?.end;
    let more = PARTITIONS_MAX as u64 * (areas(&[BLOCK])?.last()?.end - u64::from(HEAD_BYTES) / BLOCK);
    Some((one + more) * BLOCK)
}

const MAGIC: &[u8; 8] = b"ptgtTAPE";
const AREAS_AT: usize = 128;

/// The superblock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Superblock {
    pub(super) cartridge: Cartridge,
    /// All that is of this epoch or before it belongs to partitions that are no more.
    pub(super) floor: u64,
    pub(super) areas: Vec<PartitionArea>,
}

impl Superblock {
    pub(super) fn encode(&self, sequence: u64) -> Vec<u8> {
        let Cartridge { identity, density, purpose, write_protected, capacity, barcode } = &self.cartridge;
        let mut bytes = vec![0; BLOCK_BYTES];
        begin(&mut bytes, MAGIC, VERSION, u16::try_from(self.areas.len()).unwrap_or(0), *identity);
        put64(&mut bytes, 24, sequence);
        put64(&mut bytes, 32, self.floor);
        put64(&mut bytes, 40, *capacity);
        bytes[48..51].copy_from_slice(&[*density, *purpose as u8, u8::from(*write_protected)]);
        bytes[64..64 + BARCODE_MAX].fill(b' ');
        for (to, from) in bytes[64..64 + BARCODE_MAX].iter_mut().zip(barcode.bytes()) {
            *to = from;
        }
        for (area, at) in self.areas.iter().zip((AREAS_AT..).step_by(32)) {
            for (value, at) in
                [area.index, area.log, area.end, area.capacity].into_iter().zip((at..).step_by(8))
            {
                put64(&mut bytes, at, value);
            }
        }
        seal(&mut bytes);
        bytes
    }

    /// The superblock in these bytes, with its sequence number.
    pub(super) fn decode(bytes: &[u8]) -> Result<(Self, u64), SuperblockFault> {
        let bytes = bytes.get(..BLOCK_BYTES).ok_or(SuperblockFault::Damaged)?;
        if !bytes.starts_with(MAGIC) {
            return Err(SuperblockFault::Absent);
        }
        sealed(bytes, MAGIC).ok_or(SuperblockFault::Damaged)?;
        if be16(bytes, 8) != VERSION {
            return Err(SuperblockFault::Version(be16(bytes, 8)));
        }
        let area = |at| PartitionArea {
            index: be64(bytes, at),
            log: be64(bytes, at + 8),
            end: be64(bytes, at + 16),
            capacity: be64(bytes, at + 24),
        };
        let count = usize::from(be16(bytes, 10));
        let areas: Vec<_> = (AREAS_AT..).step_by(32).take(count.min(PARTITIONS_MAX)).map(area).collect();
        let mut before = u64::from(HEAD_BYTES) / BLOCK;
        let good = areas.iter().all(|area| {
            let follows = area.index >= before && area.log > area.index && area.end > area.log;
            before = area.end;
            follows && area.end < 1 << 50
        });
        let barcode = str::from_utf8(&bytes[64..64 + BARCODE_MAX]).map(str::trim_end).unwrap_or_default();
        if count == 0
            || count > PARTITIONS_MAX
            || !good
            || be64(bytes, 24) >= u64::MAX / 2
            || be64(bytes, 32) >= u64::MAX / 2
        {
            return Err(SuperblockFault::Damaged);
        }
        let cartridge = Cartridge {
            identity: be64(bytes, 16),
            density: bytes[48],
            purpose: CartridgeUse::new(bytes[49]).ok_or(SuperblockFault::Damaged)?,
            write_protected: bytes[50] & 1 != 0,
            capacity: be64(bytes, 40),
            barcode: barcode.into(),
        };
        Ok((Self { cartridge, floor: be64(bytes, 32), areas }, be64(bytes, 24)))
    }
}

/// Why bytes are no superblock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum SuperblockFault {
    /// It is something else.
    Absent,
    Damaged,
    Version(u16),
}

/// Of a pair, what the reader takes of the newer one that is whole: the value, and the state of the pair.
pub(super) fn newest<T>(
    pair: CopyPair,
    head: &[u8],
    decode: impl Fn(&[u8]) -> Option<(T, u64)>,
) -> Option<(T, PairState)> {
    let found =
        [0, 1].map(|slot| decode(pair.slot(head, slot)).map(|(value, sequence)| (sequence, slot, value)));
    let newer = found.into_iter().flatten().max_by_key(|(sequence, ..)| *sequence);
    newer.map(|(sequence, slot, value)| (value, PairState::found(sequence, slot)))
}
