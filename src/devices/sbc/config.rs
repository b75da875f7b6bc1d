// SPDX-License-Identifier: GPL-2.0-or-later
//! How a disk is set up.

use std::sync::Arc;

use crate::options::Absent::{Is, Means};
use crate::options::ValueKind::{Flag, Number, Size, Text};
use crate::options::{Key, Section, key};
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
    /// Whether there is a write cache after power-on, unless saved mode parameters say otherwise: if not, each write is
    /// stable before its status.
    pub write_cache: bool,
    /// Whether WRITE ATOMIC is offered: no store of ours keeps a loss of power, or the reader of pages that it lends,
    /// from seeing half of it.
    pub atomic_writes: bool,
    /// LOWEST ALIGNED LOGICAL BLOCK ADDRESS: the first block at the beginning of a physical block, at most 16383.
    pub lowest_aligned: u16,
    /// Whether the medium can be taken out.
    pub removable: bool,
    /// Initiators are warned when less than so many bytes can still be allocated; 0 for never. Rounded up to a MiB;
    /// saved mode parameters may say otherwise.
    pub soft_threshold: u64,
    /// Where it is managed, as a URL of at most 255 characters.
    pub management: Option<Arc<str>>,
    /// Milliseconds since 1970 at [`crate::time::Instant::ZERO`].
    pub epoch: u64,
}

/// The keys that are a disk's.
pub const KEYS: &[Key] = &[
    key("block_size", Number(512, 4096), Is("512"), "", "Logical block size in bytes: 512 or 4096."),
    key(
        "physical_exponent",
        Number(0, 15),
        Means("blocks of 4096 bytes: 3, or 0 if that is the logical block size"),
        "3",
        "Logical blocks per physical block, as an exponent of two.",
    ),
    key(
        "thin",
        Flag,
        Is("true"),
        "",
        "Initiators may deallocate blocks (UNMAP), and an image takes space as it is written. With \
         `false`, all of its space is allocated at the start.",
    ),
    key("read_only", Flag, Is("false"), "", "Writes are refused."),
    key(
        "write_cache",
        Flag,
        Is("true"),
        "",
        "Written data may stay in the page cache until the initiator synchronizes it; otherwise each \
         write is stable before its status. Initiators can change this (WCE of the caching mode page); a \
         value that one of them has saved applies instead of this one.",
    ),
    key(
        "atomic_writes",
        Flag,
        Is("false"),
        "",
        "Offer WRITE ATOMIC. It is atomic against other commands, but a loss of power may leave half of it in a file \
                 or on a block device, and a READ that lends pages (store ram, `mapped`) may see half of it.",
    ),
    key(
        "lowest_aligned",
        Number(0, 16383),
        Is("0"),
        "",
        "The first logical block that begins a physical block.",
    ),
    key(
        "removable",
        Flag,
        Is("false"),
        "",
        "Initiators can remove and insert the medium (START STOP UNIT), unless one prevents it.",
    ),
    key(
        "soft_threshold",
        Size(0, 1 << 60),
        Is("0"),
        "\"10GiB\"",
        "Thin disks in files: initiators are warned (THIN PROVISIONING SOFT THRESHOLD REACHED) when the file \
                 system has less room left than this; 0 for never.",
    ),
];

/// ... and the product name that it goes by.
pub const PRODUCT: &[Key] = &[key(
    "product",
    Text("1 to 16 ASCII characters"),
    Is("\"VIRTUAL-DISK\""),
    "",
    "Product, as INQUIRY reports it.",
)];

impl Config {
    /// A disk of those names as it is when nothing else is said of it.
    pub fn new(identity: Identity) -> Self {
        Self {
            identity,
            block: BlockSize::B512,
            physical_exponent: 3,
            thin: true,
            read_only: false,
            write_cache: true,
            atomic_writes: false,
            lowest_aligned: 0,
            removable: false,
            soft_threshold: 0,
            management: None,
            epoch: 0,
        }
    }

    /// Reads [`KEYS`], for a disk with these names.
    pub fn read(s: &Section<'_>, identity: Option<Identity>) -> Option<Self> {
        let block = s.number("block_size").and_then(|bytes: u32| match bytes {
            512 => Some(BlockSize::B512),
            4096 => Some(BlockSize::B4096),
            _ => {
                s.error("block_size", format!("{bytes} is not a block size"), "give 512 or 4096");
                None
            }
        });
        let usual = block.map(|block| if block == BlockSize::B512 { 3 } else { 0 });
        let physical = s.number("physical_exponent").or(usual);
        let (thin, read_only) = (s.flag("thin"), s.flag("read_only"));
        let (write_cache, removable) = (s.flag("write_cache"), s.flag("removable"));
        let (atomic_writes, lowest_aligned) = (s.flag("atomic_writes"), s.number("lowest_aligned"));
        let soft_threshold = s.size("soft_threshold");
        Some(Self {
            block: block?,
            physical_exponent: physical?,
            thin: thin?,
            read_only: read_only?,
            write_cache: write_cache?,
            atomic_writes: atomic_writes?,
            lowest_aligned: lowest_aligned?,
            removable: removable?,
            soft_threshold: soft_threshold?,
            ..Self::new(identity?)
        })
    }
}
