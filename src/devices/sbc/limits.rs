// SPDX-License-Identifier: GPL-2.0-or-later
//! What a disk of this size over this store can do at once. Commands obey these numbers, and the Block Limits page
//! promises them.

use crate::io::Geometry;
use crate::scsi::primary::{Fault, Features, Shape, Span};
use crate::scsi::{Sense, asc};
use crate::wire::scsi::{be16, be32, be64};

use super::config::Config;

/// Bytes of a threshold set.
pub(super) const THRESHOLD_SET: u64 = 1 << 20;

/// The blocks of the disk can be deallocated.
pub(super) const THIN: Features = Features(1);
/// WRITE ATOMIC was asked for.
pub(super) const ATOMIC: Features = Features(2);
/// The medium can be taken out ...
pub(super) const REMOVABLE: Features = Features(4);
/// ... or cannot.
pub(super) const FIXED: Features = Features(8);

/// Most bytes of one read, write or verify.
const TRANSFER_MAX: u64 = 32 << 20;
/// Most bytes that COMPARE AND WRITE compares, and that ORWRITE changes in one go: both are held by the task.
const ATOMIC_MAX: u32 = 64 << 10;
/// Most bytes of one store operation that deallocates.
const UNMAP_STEP: u64 = 1 << 30;
/// What is worth deallocating, in bytes.
const UNMAP_GRANULARITY: u32 = 4096;

/// MAXIMUM UNMAP LBA COUNT.
pub(super) const UNMAP_BLOCKS_MAX: u32 = 1 << 20;
/// MAXIMUM UNMAP BLOCK DESCRIPTOR COUNT.
pub(super) const UNMAP_DESCRIPTORS_MAX: u32 = 256;
/// MAXIMUM WRITE SAME LENGTH, in blocks.
pub(super) const WRITE_SAME_BLOCKS_MAX: u64 = 1 << 22;

/// The shape of a disk, from its configuration and its store as that is now.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    shift: u32,
    /// Logical blocks.
    pub capacity: u64,
    /// Most bytes of a store operation that moves data, a multiple of the block size.
    pub chunk: u32,
    /// Blocks can be deallocated.
    pub thin: bool,
    /// The store is not to be written.
    pub read_only: bool,
    removable: bool,
    atomic_writes: bool,
    physical_exponent: u32,
    lowest_aligned: u16,
}

impl Shape for Limits {
    fn lba(&self, at: u64) -> u64 {
        at >> self.shift
    }

    fn chunk(&self) -> u32 {
        self.chunk
    }

    fn features(&self) -> Features {
        let either = if self.removable { REMOVABLE } else { FIXED };
        let atomic = if self.atomic_writes { ATOMIC.0 } else { 0 };
        Features(either.0 | atomic | if self.thin { THIN.0 } else { 0 })
    }
}

impl Limits {
    #[inline]
    pub(super) fn new(config: &Config, geometry: &Geometry) -> Self {
        let shift = config.block.shift();
        Self {
            shift,
            capacity: geometry.bytes >> shift,
            chunk: (geometry.transfer_max >> shift).max(1) << shift,
            thin: config.thin && geometry.thin,
            removable: config.removable,
            read_only: config.read_only || geometry.read_only,
            atomic_writes: config.atomic_writes,
            physical_exponent: config.physical_exponent.min(15).into(),
            lowest_aligned: config.lowest_aligned & 0x3fff,
        }
    }

    /// Bytes of a logical block.
    pub(super) fn block(&self) -> u32 {
        1 << self.shift
    }

    /// How many of the bytes that a command wants an initiator offers with so many, if those are whole blocks: a part
    /// of one could only be dropped, and the initiator would take it for written.
    pub(super) fn offered(&self, data_out: u32, wanted: u64) -> Result<u64, Fault> {
        let offered = u64::from(data_out);
        match offered < wanted && !data_out.is_multiple_of(self.block()) {
            true => Err(Fault::PartOfBlock { wanted }),
            false => Ok(wanted.min(offered)),
        }
    }

    /// Bytes of so many blocks, which are known to be less than the capacity.
    pub(super) fn bytes(&self, blocks: u64) -> u64 {
        blocks << self.shift
    }

    /// Blocks of a physical block, as an exponent of two.
    pub(super) fn physical_exponent(&self) -> u32 {
        self.physical_exponent
    }

    /// LOWEST ALIGNED LOGICAL BLOCK ADDRESS.
    pub(super) fn lowest_aligned(&self) -> u16 {
        self.lowest_aligned
    }

    /// Blocks of a threshold set, as an exponent of two.
    pub(super) fn threshold_exponent(&self) -> u32 {
        THRESHOLD_SET.ilog2() - self.shift
    }

    /// MAXIMUM ATOMIC TRANSFER LENGTH, in blocks.
    pub(super) fn atomic_write_max(&self) -> u32 {
        if self.atomic_writes { self.chunk >> self.shift } else { 0 }
    }

    /// MAXIMUM TRANSFER LENGTH, in blocks.
    pub(super) fn transfer_max(&self) -> u32 {
        (TRANSFER_MAX >> self.shift) as u32
    }

    /// Most bytes of a store operation that compares and writes.
    pub(super) fn atomic_chunk(&self) -> u32 {
        self.chunk.min(ATOMIC_MAX)
    }

    /// MAXIMUM COMPARE AND WRITE LENGTH, in blocks.
    pub(super) fn compare_and_write_max(&self) -> u8 {
        u8::try_from(self.atomic_chunk() >> self.shift).unwrap_or(u8::MAX)
    }

    /// Most bytes of a store operation that deallocates.
    pub(super) fn unmap_step(&self) -> u64 {
        UNMAP_STEP
    }

    /// OPTIMAL UNMAP GRANULARITY, in blocks.
    pub(super) fn unmap_granularity(&self) -> u32 {
        (UNMAP_GRANULARITY >> self.shift).max(1 << self.physical_exponent)
    }

    /// Refuses blocks that are not there. A range without blocks may begin right behind the last one.
    pub(super) fn check_range(&self, lba: u64, blocks: u64) -> Result<(), Sense> {
        if lba > self.capacity || blocks > self.capacity - lba {
            return Err(Sense::illegal(asc::LOGICAL_BLOCK_ADDRESS_OUT_OF_RANGE));
        }
        Ok(())
    }
}

/// The blocks that a command names, as its CDB has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    pub lba: u64,
    pub blocks: u64,
    /// The byte where the CDB says how many.
    pub field: u16,
}

impl Extent {
    /// Reads the fields that all block commands of one CDB length have in the same places.
    pub(super) fn of(cdb: &[u8; 16]) -> Self {
        match cdb[0] >> 5 {
            0 => {
                let lba = be32(cdb, 0) & 0x001f_ffff;
                let blocks = if cdb[4] == 0 { 256 } else { cdb[4].into() };
                Self { lba: lba.into(), blocks, field: 4 }
            }
            5 => Self { lba: be32(cdb, 2).into(), blocks: be32(cdb, 6).into(), field: 6 },
            4 => Self { lba: be64(cdb, 2), blocks: be32(cdb, 10).into(), field: 10 },
            _ => Self { lba: be32(cdb, 2).into(), blocks: be16(cdb, 7).into(), field: 7 },
        }
    }

    /// Checks it against the capacity and against `most` blocks.
    pub(super) fn checked(self, limits: &Limits, most: u64) -> Result<Self, Sense> {
        limits.check_range(self.lba, self.blocks)?;
        if self.blocks > most {
            return Err(Sense::invalid_field_in_cdb(self.field, None));
        }
        Ok(self)
    }

    /// The same in bytes.
    pub(super) fn span(self, limits: &Limits) -> Span {
        Span { at: limits.bytes(self.lba), left: limits.bytes(self.blocks) }
    }
}
