// SPDX-License-Identifier: GPL-2.0-or-later
//! How a disk is set up.

use std::sync::Arc;

use crate::scsi::primary::Identity;

/// Size of a logical block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockSize {
    /// 512 bytes.
    B512,
    /// 4096 bytes.
    B4096,
}

impl BlockSize {
    pub(super) const fn shift(self) -> u32 {
        match self {
            Self::B512 => 9,
            Self::B4096 => 12,
        }
    }

    /// In bytes.
    pub const fn bytes(self) -> u32 {
        1 << self.shift()
    }
}

/// How a disk is set up.
#[derive(Clone, Debug)]
pub struct Config {
    /// Its names.
    pub identity: Identity,
    /// Logical block size: a multiple of the store's.
    pub block: BlockSize,
    /// Logical blocks per physical block, as an exponent of two, at most 15.
    pub physical_exponent: u8,
    /// Whether initiators may deallocate blocks; takes a store that can.
    pub thin: bool,
    /// Refuse writes.
    pub read_only: bool,
    /// Whether there is a write cache after power-on, unless saved mode parameters say otherwise: if not, each write is stable before its status.
    pub write_cache: bool,
    /// Whether WRITE ATOMIC is offered: no store of ours keeps a loss of power, or the reader of pages that it lends, from
    /// seeing half of it.
    pub atomic_writes: bool,
    /// LOWEST ALIGNED LOGICAL BLOCK ADDRESS: the first block at the beginning of a physical block, at most 16383.
    pub lowest_aligned: u16,
    /// Whether the medium can be taken out.
    pub removable: bool,
    /// Initiators are warned when less than so many bytes can still be allocated; 0 for never. Rounded up to a MiB; saved
    /// mode parameters may say otherwise.
    pub soft_threshold: u64,
    /// Where it is managed, as a URL of at most 255 characters.
    pub management: Option<Arc<str>>,
    /// Milliseconds since 1970 at [`crate::time::Instant::ZERO`].
    pub epoch: u64,
}
