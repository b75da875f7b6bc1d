// SPDX-License-Identifier: GPL-2.0-or-later
//! How the configuration sets up a disk.

use std::sync::Arc;

use super::config::{BlockSize, Config};
use super::disk::Disk;
use crate::devices::DeviceOptions;
use crate::io::StoreNeeds;
use crate::options::Absent::{Is, Means};
use crate::options::ValueKind::{Flag, Number, Size, Text};
use crate::options::{Key, Section, key};
use crate::scsi::primary::{Identity, LogicalUnit};

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
        "Initiators may deallocate blocks (UNMAP), and an image takes space as it is written. With `false` all of its \
                 space is taken at the start.",
    ),
    key("read_only", Flag, Is("false"), "", "Writes are refused."),
    key(
        "write_cache",
        Flag,
        Is("true"),
        "",
        "What is written may stay in the page cache until the initiator has it synchronized; otherwise each \
                 write is stable before its status. Initiators can change this (WCE of the caching mode page).",
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
        "The first logical block that lies at the beginning of a physical block.",
    ),
    key(
        "removable",
        Flag,
        Is("false"),
        "",
        "The medium can be taken out and put in by initiators (START STOP UNIT), unless one prevents it.",
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
    "Product, as INQUIRY tells it.",
)];

impl Config {
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
            identity: identity?,
            block: block?,
            physical_exponent: physical?,
            thin: thin?,
            read_only: read_only?,
            write_cache: write_cache?,
            atomic_writes: atomic_writes?,
            lowest_aligned: lowest_aligned?,
            removable: removable?,
            soft_threshold: soft_threshold?,
            management: None,
            epoch: 0,
        })
    }
}

impl DeviceOptions for Config {
    fn unit(&self, management: Option<Arc<str>>, epoch: u64) -> Arc<dyn LogicalUnit> {
        Arc::new(Disk::new(Self { management, epoch, ..self.clone() }))
    }

    fn needs(&self) -> StoreNeeds {
        StoreNeeds { block: self.block.bytes(), read_only: self.read_only, thin: self.thin }
    }
}
