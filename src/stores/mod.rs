// SPDX-License-Identifier: GPL-2.0-or-later
//! Stores: where blocks are kept. A [`Backing`] is opened once; every core attaches to it and gets a handle of its
//! own ([`Store`]), so that the data path shares nothing but the bytes.
#![expect(unsafe_code, reason = "payload goes to memory and to the kernel by address")]

pub(crate) mod exclusive;
mod file;
mod identity;
mod null;
mod options;
mod ram;
mod records;
mod ring;
mod wrap;

use std::io;
use std::ptr::NonNull;
use std::sync::Arc;

pub use file::{FileOptions, ImageRefusal, patiently};
pub use identity::{IdentityOrigin, IdentityRecord, ImagePlace, identity_here};
pub use options::{ConfiguredStore, STORE_KEYS, StoreOptions};
pub use records::{CommonRecord, Records, image_record};
#[cfg(any(test, feature = "sim"))]
pub(crate) use records::{unwrap_record, wrap_record};
pub use wrap::{FAULT_KEYS, Failure, Operations, StoreFault};

use crate::io::Store;
use crate::reactor::CoreContext;

/// A configured store, shared by all cores.
pub trait Backing: Send + Sync {
    /// A core's handle.
    fn attach(&self, context: &CoreContext) -> io::Result<Box<dyn Store>>;

    /// Whether its bytes are there after a restart of the machine.
    fn lasts(&self) -> bool {
        false
    }

    /// Memory that its handles lend, if it is in huge pages and stays where it is: devices may be told of it.
    fn region(&self) -> Option<(NonNull<u8>, usize)> {
        None
    }
}

/// A RAM disk of `bytes`, from huge pages if `huge` and there are enough. Pages come into being when they are written.
pub fn ram(bytes: u64, block: u32, huge: bool) -> io::Result<Arc<dyn Backing>> {
    Ok(Arc::new(ram::Ram::anonymous(bytes, block, huge)?))
}

/// A store that reads as zeros and forgets what is written.
pub fn null(bytes: u64, block: u32) -> io::Result<Arc<dyn Backing>> {
    Ok(Arc::new(null::Null::new(bytes, block)?))
}

/// The same store, with delays and errors by rule.
pub fn wrapped(inner: Arc<dyn Backing>, seed: u64, rules: Vec<StoreFault>) -> Arc<dyn Backing> {
    Arc::new(wrap::Wrapped::new(inner, seed, rules))
}

/// A plain image file or block device.
pub fn file(options: &FileOptions) -> io::Result<Arc<dyn Backing>> {
    Ok(Arc::new(file::Image::open(options)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::{Done, Landing, Op, Submitted, Tag};
    use crate::memory::{Arena, Sg};

    /// Carries out one operation, however long the store takes.
    fn complete(store: &mut dyn Store, op: Op) -> Done {
        match store.submit(Tag(7), op) {
            Submitted::Done(done) => return done,
            Submitted::Queued => store.commit(),
            Submitted::Full(op) => panic!("no room for {op:?} in an idle store"),
        }
        let mut done = Vec::new();
        while done.is_empty() {
            store.poll(&mut done);
            store.commit();
        }
        assert_eq!((done.len(), done[0].0), (1, Tag(7)));
        done.remove(0).1
    }

    #[test]
    fn every_store_unmaps_and_reads_zeros_then() {
        let path = std::env::temp_dir().join(format!("ptgt-unmap-{}.img", std::process::id()));
        let options = FileOptions {
            name: "test".into(),
            path: path.clone(),
            size: Some(1 << 20),
            create: true,
            record: None,
            block: 512,
            read_only: false,
            mapped: false,
            thin: true,
        };
        let stores =
            [("ram", ram(1 << 20, 512, false)), ("null", null(1 << 20, 512)), ("file", file(&options))];
        for (name, backing) in stores {
            let arena = Arena::new(4 << 20, false).unwrap();
            let mut store = backing.unwrap().attach(&CoreContext::alone(arena.clone())).unwrap();
            let store = &mut *store;
            assert!(store.geometry().thin, "{name}");
            let data = Sg::copied(&arena, &[7; 65_536]).unwrap();
            let written = complete(store, Op::Write { at: 0, data, fua: false });
            assert!(matches!(written, Done::Finished), "{name}: {written:?}");
            // Whole pages, parts of pages, and what was never written.
            for (at, len) in [(4096, 8192), (512, 1024), (32_768, 512), (1 << 19, 1 << 19)] {
                for op in [Op::Unmap { at, len }, Op::Anchor { at, len }] {
                    let done = complete(store, op);
                    assert!(matches!(done, Done::Finished), "{name}: {at} {len}: {done:?}");
                }
            }
            let Done::Data(data) = complete(store, Op::Read { at: 0, len: 65_536, into: Landing::Own })
            else {
                panic!("{name} cannot be read")
            };
            let kept = if name == "null" { 0 } else { 7 };
            for (i, byte) in data.to_vec().into_iter().enumerate() {
                let zero = matches!(i, 512..1536 | 4096..12_288 | 32_768..33_280);
                assert_eq!(byte, if zero { 0 } else { kept }, "{name}: byte {i}");
            }
        }
        std::fs::remove_file(path).unwrap();
    }
}
