// SPDX-License-Identifier: GPL-2.0-or-later
//! Stores: where blocks are kept. A [`Backing`] is opened once; every core attaches to it and gets a handle of its
//! own ([`Store`]), so that the data path shares nothing but the bytes.
#![expect(unsafe_code, reason = "payload goes to memory and to the kernel by address")]

mod claims;
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
use std::os::fd::RawFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

pub use claims::{ImageClaim, ImageClaims};
pub use file::{FileOptions, ImageRefusal, patiently};
pub use identity::{IdentityOrigin, IdentityRecord, ImagePlace, identity_here};
pub use options::{ConfiguredStore, STORE_KEYS, StoreOptions};
pub use records::{CommonRecord, Records, image_record};
#[cfg(any(test, feature = "sim"))]
pub(crate) use records::{unwrap_record, wrap_record};
pub use wrap::{FAULT_KEYS, Failure, Operations, StoreFault};

use crate::io::{Done, Landing, Op, Store, Submitted, Tag};
use crate::memory::Region;
use crate::reactor::CoreContext;
use crate::sys::{holds_for_all, wait_readable};

/// A configured store, shared by all cores.
pub trait Backing: Send + Sync {
    /// A core's handle.
    fn attach(&self, context: &CoreContext) -> io::Result<Box<dyn Store>>;

    /// Whether its bytes are there after a restart of the machine.
    fn lasts(&self) -> bool {
        false
    }

    /// The memory that its handles lend: devices may be told of it.
    fn region(&self) -> Option<&Region> {
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

/// Whether a directory of images, which that key names, can be read.
pub fn examine_directory(key: &'static str, directory: &Path) -> Result<(), ImageRefusal> {
    std::fs::read_dir(directory).map(drop).map_err(|e| ImageRefusal {
        key,
        message: format!("{}: {e}", directory.display()),
        help: "make the directory; the daemon's user must be able to read it".into(),
        certain: holds_for_all(&e),
    })
}

/// Reads some bytes of a store and waits for them: for threads that may. `None` if they cannot be read.
pub fn read_now(store: &mut dyn Store, at: u64, len: u32) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    while bytes.len() < len as usize {
        let done = u32::try_from(bytes.len()).expect("no more than asked for");
        let piece = (len - done).min(store.geometry().transfer_max);
        let read = Op::Read { at: at + u64::from(done), len: piece, into: Landing::Own };
        match complete(store, read) {
            Done::Data(data) if data.len() == piece as usize => bytes.extend(data.to_vec()),
            _ => return None,
        }
    }
    Some(bytes)
}

/// Carries out one operation, however long the store takes.
fn complete(store: &mut dyn Store, op: Op) -> Done {
    match store.submit(Tag(0), op) {
        Submitted::Done(done) => return done,
        Submitted::Queued => store.commit(),
        Submitted::Full(op) => unreachable!("no room for {op:?} in an idle store"),
    }
    let (mut done, mut scratch) = (Vec::new(), Vec::new());
    loop {
        store.poll(&mut done);
        store.commit();
        if let Some((_, end)) = done.pop() {
            return end;
        }
        let fds: Vec<RawFd> = store.wake_fd().into_iter().collect();
        wait_readable(&fds, &mut scratch, Some(Duration::from_millis(1)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::FaultRate;
    use crate::memory::{Arena, BufferSlots, Pages, RegionTable, Registrar, Sg};

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

    fn image(name: &str, mapped: bool) -> FileOptions {
        FileOptions {
            name: "test".into(),
            // In memory: only there an image can be mapped.
            path: format!("/dev/shm/ptgt-{name}-{}.img", std::process::id()).into(),
            size: Some(1 << 20),
            create: true,
            record: None,
            block: 512,
            read_only: false,
            mapped,
            thin: false,
        }
    }

    /// Bytes go from memory that is not the arena's into each store, and back into such memory, where they are asked
    /// for.
    #[test]
    fn every_store_reads_into_memory_that_it_is_given_and_writes_what_lies_there() {
        const LEN: usize = 20_480;
        let (plain, mapped) = (image("landing", false), image("landing-mapped", true));
        let rate = FaultRate { delay: Duration::from_millis(1), ..FaultRate::ALWAYS };
        let (bytes, failure) = (0..u64::MAX, Failure::None);
        let slow = StoreFault { operations: Operations::Read, bytes, failure, rate };
        let stores = [
            ("ram", ram(1 << 20, 512, false).unwrap()),
            ("null", null(1 << 20, 512).unwrap()),
            ("file", file(&plain).unwrap()),
            ("mapped", file(&mapped).unwrap()),
            ("with faults", wrapped(ram(1 << 20, 512, false).unwrap(), 1, vec![slow])),
        ];
        for (name, backing) in stores {
            let arena = Arena::new(4 << 20, false).unwrap();
            let mut store = backing.attach(&CoreContext::alone(arena.clone())).unwrap();
            let slots = BufferSlots::new(3, LEN as u32, false).unwrap();
            let mut from = slots.take(LEN).unwrap();
            from.bytes_mut().iter_mut().zip(0..).for_each(|(byte, i): (_, usize)| *byte = (i % 251) as u8);
            let from = from.freeze();
            let sent = Sg::from(from.clone());
            let written = complete(&mut *store, Op::Write { at: 4096, data: sent, fua: false });
            assert!(matches!(written, Done::Finished), "{name}: {written:?}");
            let mut to = slots.take(LEN).unwrap();
            to.bytes_mut().fill(0xee);
            let place = to.in_region();
            assert_eq!(place.unwrap().0, slots.region().id());
            let read = Op::Read { at: 4096, len: LEN as u32, into: Landing::Given(to) };
            let Done::Data(data) = complete(&mut *store, read) else { panic!("{name} cannot be read") };
            let [seg] = data.segs() else { panic!("{name}: {data:?}") };
            assert_eq!(seg.in_region(), place, "{name}: where it was to land");
            let expected = if name == "null" { vec![0; LEN] } else { from.private().unwrap().to_vec() };
            assert!(data.to_vec() == expected, "{name}");
            assert_eq!((slots.out(), arena.in_use()), (2, 0), "{name}: nothing was copied through the arena");
            drop((data, from));
            assert_eq!(slots.out(), 0, "{name}");
        }
        [plain, mapped].iter().for_each(|options| std::fs::remove_file(&options.path).unwrap());
    }

    /// A device that has been told where everything is.
    struct Everything;

    impl Registrar for Everything {
        type Handle = ();

        fn register(&mut self, _: &Region) -> io::Result<()> {
            Ok(())
        }

        fn unregister(&mut self, _: &Region, (): ()) {}
    }

    /// What stores lend is told by their core, with what it is.
    #[test]
    fn what_a_store_lends_is_a_region_of_its_core() {
        let (plain, mapped) = (image("region", false), image("region-mapped", true));
        let read_only = FileOptions { read_only: true, create: false, size: None, ..mapped.clone() };
        let told = |writable, present| Some((Pages::Ordinary, writable, present));
        for (name, expected) in [
            ("ram", told(true, false)),
            ("null", None),
            ("file", None),
            ("mapped", told(true, true)),
            ("read-only", told(false, true)),
        ] {
            let backing = match name {
                "ram" => ram(1 << 20, 512, false),
                "null" => null(1 << 20, 512),
                "file" => file(&plain),
                "mapped" => file(&mapped),
                _ => file(&read_only),
            };
            let backing = backing.unwrap();
            let context = CoreContext::alone(Arena::new(4 << 20, false).unwrap());
            let mut store = backing.attach(&context).unwrap();
            let regions = context.regions();
            let [arena, lent @ ..] = &regions[..] else { panic!() };
            assert_eq!(arena.id(), context.arena().region().id());
            let told = lent.first().map(|region| region.pages());
            assert_eq!(told.map(|told| (told.pages, told.writable, told.present)), expected, "{name}");
            let read = Op::Read { at: 512, len: 512, into: Landing::Own };
            let Done::Data(data) = complete(&mut *store, read) else { panic!("{name} cannot be read") };
            let place = data.segs()[0].in_region();
            match (lent, name) {
                ([region], _) => assert_eq!(place, Some((region.id(), 512)), "{name}"),
                (_, "null") => assert_eq!(place, None, "its zeros are no region"),
                _ => assert_eq!(place.unwrap().0, arena.id(), "{name}"),
            }
            let known = regions.len();
            drop((store, backing, regions));
            assert_eq!(context.regions().len(), known, "{name}: a segment is out");
            drop(data);
            assert_eq!(context.regions().len(), 1, "{name}: it is gone");
        }
        [plain, mapped].iter().for_each(|options| std::fs::remove_file(&options.path).unwrap());
    }

    /// A device reads and writes the pages that there were when it was told of the region: they stay.
    #[test]
    fn unmapped_memory_keeps_its_pages_if_a_device_knows_them() {
        // Of the page that an address is in, whether there is one (a bit of its entry in the kernel's table).
        let present = |data: &Sg| {
            let mut entry = [0; 8];
            let at = data.segs()[0].as_ptr().addr() / 4096 * 8;
            let map = std::fs::File::open("/proc/self/pagemap").unwrap();
            std::os::unix::fs::FileExt::read_exact_at(&map, &mut entry, at as u64).unwrap();
            u64::from_le_bytes(entry) >> 63 == 1
        };
        for registered in [false, true] {
            let arena = Arena::new(4 << 20, false).unwrap();
            let backing = ram(4 << 20, 512, false).unwrap();
            let mut table = RegionTable::new(Everything);
            if registered {
                table.add(backing.region().unwrap()).unwrap();
            }
            let mut store = backing.attach(&CoreContext::alone(arena.clone())).unwrap();
            // A huge page of its own, as the first one may be zeroed rather than given back.
            let (at, len) = (2 << 20, 2 << 20);
            let data = Sg::copied(&arena, &[7; 65_536]).unwrap();
            complete(&mut *store, Op::Write { at, data, fua: false });
            complete(&mut *store, Op::Unmap { at, len });
            let read = Op::Read { at, len: 65_536, into: Landing::Own };
            let Done::Data(data) = complete(&mut *store, read) else { panic!() };
            assert_eq!(present(&data), registered);
            assert!(data.to_vec().iter().all(|&byte| byte == 0));
            table.give_up();
        }
    }
}
