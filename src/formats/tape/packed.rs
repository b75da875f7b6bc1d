// SPDX-License-Identifier: GPL-2.0-or-later
//! Packed blocks: the headers of consecutive objects of a log, with the payload of small records between them. The
//! payload of larger ones follows the block, each from a block of its own, in their order; then comes the next packed
//! block.

use super::layout::{BLOCK, BLOCK_BYTES, RECORD_BYTES_MAX, begin, put32, put64, seal, sealed};
use crate::wire::scsi::{be16, be32, be64};

const MAGIC: &[u8; 8] = b"ptgtPACK";
const HEADER: usize = 64;
const ENTRY: usize = 16;
/// Most bytes of payload that lie in a packed block.
pub const INLINE_MAX: u32 = (BLOCK_BYTES - HEADER - ENTRY) as u32;
/// Most bytes of any payload: what is done to a record may make it somewhat longer.
pub const STORED_MAX: u32 = RECORD_BYTES_MAX + (64 << 10);
/// A packed block is closed when so many blocks of payload follow it.
const PAYLOAD_BLOCKS: u64 = 1024;

const INLINE: u8 = 1;
const ALIGNED: u8 = 2;
const FILEMARKS: u8 = 3;

/// What a header says of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHeader {
    /// Bytes of the record as it was written.
    pub logical: u32,
    /// Bytes of its payload as it lies in the image.
    pub stored: u32,
    /// What was done to the record to make the payload of it: 0 for nothing. The format keeps it for the device.
    pub form: u8,
    /// CRC32C of the payload.
    pub sum: u32,
}

/// What an entry of a packed block describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PackedShape {
    /// A record whose payload lies in the packed block, from there.
    Inline(RecordHeader, usize),
    /// A record whose payload begins so many blocks behind the packed block.
    Aligned(RecordHeader, u64),
    /// So many filemarks.
    Filemarks(u32),
}

impl PackedShape {
    fn objects(self) -> u64 {
        if let Self::Filemarks(count) = self { count.into() } else { 1 }
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct PackedEntry {
    /// Objects, filemarks and blocks of payload of the entries before it.
    pub(super) objects: u64,
    pub(super) filemarks: u64,
    payload: u64,
    pub(super) shape: PackedShape,
}

/// A place in the log of a partition: between two objects, where a packed block may begin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct LogEnd {
    /// Objects before it.
    pub(super) lba: u64,
    /// Filemarks before it.
    pub(super) file: u64,
    /// The block where the log goes on.
    pub(super) block: u64,
}

/// What a packed block says of itself beside its entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PackedHeader {
    pub(super) identity: u64,
    pub(super) partition: u16,
    pub(super) epoch: u64,
    /// Where it lies.
    pub(super) start: LogEnd,
    /// The packed block before it; 0 if it is the first of its log.
    pub(super) previous: u64,
}

/// A packed block as it was read.
#[derive(Debug)]
pub(super) struct PackedBlock {
    pub(super) header: PackedHeader,
    pub(super) entries: Vec<PackedEntry>,
    /// What is behind its last object.
    pub(super) end: LogEnd,
    pub(super) bytes: Vec<u8>,
}

pub(super) fn payload_blocks(stored: u32) -> u64 {
    u64::from(stored).div_ceil(BLOCK)
}

impl PackedBlock {
    /// The packed block in these bytes, if they are one, whole, and written for that block.
    pub(super) fn decode(bytes: Vec<u8>, block: u64) -> Option<Self> {
        if bytes.len() != BLOCK_BYTES || be64(&bytes, 32) != block {
            return None;
        }
        sealed(&bytes, MAGIC)?;
        let start = LogEnd { lba: be64(&bytes, 40), file: be64(&bytes, 48), block };
        let header = PackedHeader {
            identity: be64(&bytes, 16),
            partition: be16(&bytes, 8),
            epoch: be64(&bytes, 24),
            start,
            previous: be64(&bytes, 56),
        };
        if start.lba >= u64::MAX / 2 || start.file > start.lba {
            return None;
        }
        let mut entries = Vec::new();
        let (mut at, mut objects, mut filemarks, mut payload) = (HEADER, 0_u64, 0_u64, 0_u64);
        for _ in 0..be16(&bytes, 10) {
            let entry = bytes.get(at..at + ENTRY)?;
            let record = RecordHeader {
                logical: be32(entry, 4),
                stored: be32(entry, 8),
                form: entry[1],
                sum: be32(entry, 12),
            };
            if record.stored > STORED_MAX || entry[0] != FILEMARKS && record.logical > RECORD_BYTES_MAX {
                return None;
            }
            let mut next = at + ENTRY;
            let shape = match entry[0] {
                INLINE if record.stored <= INLINE_MAX => {
                    let from = next;
                    next += (record.stored as usize).next_multiple_of(ENTRY);
                    if from + record.stored as usize > BLOCK_BYTES {
                        return None;
                    }
                    PackedShape::Inline(record, from)
                }
                ALIGNED => PackedShape::Aligned(record, 1 + payload),
                FILEMARKS if record.logical > 0 => PackedShape::Filemarks(record.logical),
                _ => return None,
            };
            entries.push(PackedEntry { objects, filemarks, payload, shape });
            objects += shape.objects();
            match shape {
                PackedShape::Filemarks(count) => filemarks += u64::from(count),
                PackedShape::Aligned(record, _) => payload += payload_blocks(record.stored),
                PackedShape::Inline(..) => {}
            }
            at = next;
        }
        if entries.is_empty() {
            return None;
        }
        let end = LogEnd {
            lba: start.lba.checked_add(objects)?,
            file: start.file.checked_add(filemarks)?,
            block: block.checked_add(1 + payload)?,
        };
        Some(Self { header, entries, end, bytes })
    }

    /// The entry of an object, which must be one of its own.
    pub(super) fn entry(&self, lba: u64) -> &PackedEntry {
        let wanted = lba - self.header.start.lba;
        let behind = self.entries.partition_point(|entry| entry.objects <= wanted);
        &self.entries[behind - 1]
    }

    /// The object of a filemark, by the number of filemarks before it in the log, which must be one of its own.
    pub(super) fn filemark(&self, number: u64) -> u64 {
        let wanted = number - self.header.start.file;
        let behind = self.entries.partition_point(|entry| entry.filemarks <= wanted);
        // The last of these is the entry of the filemark: those behind it in the block have counted it.
        let entry = &self.entries[behind - 1];
        self.header.start.lba + entry.objects + (wanted - entry.filemarks)
    }

    /// The place before one of its objects, or behind the last.
    pub(super) fn place(&self, lba: u64) -> LogEnd {
        if lba >= self.end.lba {
            return self.end;
        }
        let (entry, start) = (self.entry(lba), self.header.start);
        let within = match entry.shape {
            PackedShape::Filemarks(_) => lba - start.lba - entry.objects,
            _ => 0,
        };
        let file = start.file + entry.filemarks + within;
        LogEnd { lba, file, block: start.block + 1 + entry.payload }
    }
}

/// A packed block that is being filled.
#[derive(Debug)]
pub(super) struct OpenBlock {
    bytes: Vec<u8>,
    header: PackedHeader,
    used: usize,
    count: u16,
    /// What is behind its last object.
    pub(super) end: LogEnd,
}

impl OpenBlock {
    pub(super) fn new(header: PackedHeader) -> Self {
        let LogEnd { lba, file, block } = header.start;
        let end = LogEnd { lba, file, block: block + 1 };
        Self { bytes: vec![0; BLOCK_BYTES], header, used: HEADER, count: 0, end }
    }

    pub(super) fn start(&self) -> LogEnd {
        self.header.start
    }

    /// Whether a record of that many stored bytes goes into it; filemarks need none.
    pub(super) fn takes(&self, stored: u32) -> bool {
        let inline = if stored <= INLINE_MAX { stored as usize } else { 0 };
        self.used + ENTRY + inline <= BLOCK_BYTES
            && self.end.block - self.header.start.block <= PAYLOAD_BLOCKS
    }

    fn entry(&mut self, shape: u8, record: &RecordHeader) {
        let entry = &mut self.bytes[self.used..self.used + ENTRY];
        entry[..2].copy_from_slice(&[shape, record.form]);
        put32(entry, 4, record.logical);
        put32(entry, 8, record.stored);
        put32(entry, 12, record.sum);
        self.used += ENTRY;
        self.count += 1;
    }

    /// Adds a record with its payload.
    pub(super) fn push_inline(&mut self, record: &RecordHeader, payload: &[u8]) {
        self.entry(INLINE, record);
        self.bytes[self.used..self.used + payload.len()].copy_from_slice(payload);
        self.used = (self.used + payload.len()).next_multiple_of(ENTRY);
        self.end.lba += 1;
    }

    /// Adds a record. Its payload goes to the block that is returned.
    pub(super) fn push_aligned(&mut self, record: &RecordHeader) -> u64 {
        self.entry(ALIGNED, record);
        self.end.lba += 1;
        let block = self.end.block;
        self.end.block += payload_blocks(record.stored);
        block
    }

    pub(super) fn push_filemarks(&mut self, count: u32) {
        self.entry(FILEMARKS, &RecordHeader { logical: count, stored: 0, form: 0, sum: 0 });
        self.end.lba += u64::from(count);
        self.end.file += u64::from(count);
    }

    /// Its bytes, as they are to be written.
    pub(super) fn seal(&self) -> Vec<u8> {
        let PackedHeader { identity, partition, epoch, start, previous } = self.header;
        let mut bytes = self.bytes.clone();
        begin(&mut bytes, MAGIC, partition, self.count, identity);
        let fields = [epoch, start.block, start.lba, start.file, previous];
        for (value, at) in fields.into_iter().zip((24..).step_by(8)) {
            put64(&mut bytes, at, value);
        }
        seal(&mut bytes);
        bytes
    }

    /// The same as if it had been read.
    pub(super) fn view(&self) -> PackedBlock {
        PackedBlock::decode(self.seal(), self.header.start.block)
            .expect("a block of our own that is not empty")
    }

    /// The block with those objects alone that come before one of its own.
    pub(super) fn reopen(packed: &PackedBlock, lba: u64) -> Self {
        let mut open = Self::new(packed.header);
        let kept = lba.min(packed.end.lba) - packed.header.start.lba;
        for entry in packed.entries.iter().take_while(|entry| entry.objects < kept) {
            match entry.shape {
                PackedShape::Inline(record, at) => {
                    open.push_inline(&record, &packed.bytes[at..at + record.stored as usize]);
                }
                PackedShape::Aligned(record, _) => _ = open.push_aligned(&record),
                PackedShape::Filemarks(count) => {
                    let kept = u32::try_from(kept - entry.objects).unwrap_or(u32::MAX);
                    open.push_filemarks(count.min(kept));
                }
            }
        }
        open
    }
}
