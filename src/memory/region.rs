// SPDX-License-Identifier: GPL-2.0-or-later
//! Memory that a device, the kernel or a peer may touch: a [`Region`] is one mapping of it, with a number. Whoever has
//! to know memory before it may be touched (a device behind an IOMMU, a protection domain of RDMA, a table of fixed
//! buffers of io_uring, a ring shared with the kernel) is a [`Registrar`]; its [`RegionTable`] registers each region
//! once, and tells what a region is to it by the number, which each segment knows. Nothing is ever found by an address.
//!
//! # The order of start and stop
//!
//! 1. Memory is mapped, and is a region from then on: the arena of a core, what stores lend, buffers of a fabric's own.
//! 2. Registrars take in all regions of their core ([`RegionTable::add`]), and may refuse some: what lies there is
//!    copied to where they can reach it.
//! 3. Segments go to devices. Whoever gives one away holds it until the device is done with it.
//! 4. The device stops; only then its table is given up ([`RegionTable::give_up`]).
//! 5. Stores and arenas go. A region is unmapped, and its number free again, when its owner, all segments and all
//!    registrars have let go of it.
//!
//! A table that goes before it is given up, and a core whose arena is still registered at its end, are errors that are
//! told; the memory stays mapped then, as a device may touch it.

use std::io;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::sys::{self, FileMapping, Mapping};

/// The number of a region. The lowest that is free, so that tables by number are short.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RegionId(u32);

impl RegionId {
    /// Its place in a table.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// The numbers that are used again.
const NUMBERS_KEPT: usize = 1 << 14;

/// The numbers of the process: a bit for each of those that are taken, and the next one beyond them.
struct RegionNumbers {
    taken: [u64; NUMBERS_KEPT / 64],
    next: u32,
}

static NUMBERS: Mutex<RegionNumbers> =
    Mutex::new(RegionNumbers { taken: [0; NUMBERS_KEPT / 64], next: NUMBERS_KEPT as u32 });

fn lock<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}

impl RegionNumbers {
    fn take(&mut self) -> RegionId {
        let words = (0..).zip(&mut self.taken);
        let Some((index, word)) = words.into_iter().find(|(_, word)| **word != u64::MAX) else {
            self.next += 1;
            return RegionId(self.next - 1);
        };
        let bit = word.trailing_ones();
        *word |= 1 << bit;
        RegionId(index * 64 + bit)
    }

    fn give(&mut self, RegionId(number): RegionId) {
        if let Some(word) = self.taken.get_mut(number as usize / 64) {
            *word &= !(1 << (number % 64));
        }
    }
}

/// What kind of pages back a memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pages {
    /// 2 MiB pages from the kernel's pool.
    Huge,
    /// Ordinary pages (transparent huge pages are asked for).
    Ordinary,
}

/// Memory that several cores can see at once and that outlives every [`Seg`](super::Seg) lent from it: a RAM disk, a
/// mapped file.
///
/// # Safety
/// `base` must stay readable for `len` bytes, at the same address, for as long as the value lives. Other cores may
/// write the bytes at any time, so an implementor never hands out references to them.
pub unsafe trait SharedMemory: 'static {
    /// First byte.
    fn base(&self) -> NonNull<u8>;
    /// Length in bytes.
    fn len(&self) -> usize;
    /// Whether there are no bytes at all.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// The region that it is, if devices, the kernel or peers may be told of it.
    fn region(&self) -> Option<&Region> {
        None
    }
}

// SAFETY: the mapping is there until it is dropped, and stays where it is.
unsafe impl SharedMemory for Mapping {
    fn base(&self) -> NonNull<u8> {
        self.base()
    }

    fn len(&self) -> usize {
        self.len()
    }
}

// SAFETY: the mapping does not move; what a shortened file has lost is replaced by zeros when it is touched.
unsafe impl SharedMemory for FileMapping {
    fn base(&self) -> NonNull<u8> {
        self.base()
    }

    fn len(&self) -> usize {
        self.len()
    }
}

// SAFETY: the Arc keeps the memory.
unsafe impl<M: SharedMemory> SharedMemory for Arc<M> {
    fn base(&self) -> NonNull<u8> {
        (**self).base()
    }

    fn len(&self) -> usize {
        (**self).len()
    }
}

/// What registrars have to know of the pages of a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegionPages {
    /// What they are.
    pub pages: Pages,
    /// They may be written.
    pub writable: bool,
    /// They are all there. Else they come when they are first touched, and to register them takes memory for all.
    pub present: bool,
}

struct RegionParts {
    id: RegionId,
    #[expect(dead_code, reason = "held so that it stays mapped")]
    memory: Box<dyn SharedMemory + Send + Sync>,
    base: NonNull<u8>,
    len: usize,
    pages: RegionPages,
    /// How many registrars know it.
    registered: Mutex<u32>,
}

// SAFETY: the memory may be used by any thread, and `base` is its address.
unsafe impl Send for RegionParts {}
// SAFETY: as above.
unsafe impl Sync for RegionParts {}

impl Drop for RegionParts {
    fn drop(&mut self) {
        lock(&NUMBERS).give(self.id);
    }
}

/// See the module. A clone is the same one.
#[derive(Clone)]
pub struct Region(Arc<RegionParts>);

impl Region {
    /// Memory that is mapped becomes one.
    pub fn new(memory: impl SharedMemory + Send + Sync, pages: RegionPages) -> Self {
        let (base, len) = (memory.base(), memory.len());
        let id = lock(&NUMBERS).take();
        Self(Arc::new(RegionParts {
            id,
            memory: Box::new(memory),
            base,
            len,
            pages,
            registered: Mutex::new(0),
        }))
    }

    /// Maps `len` bytes of zeros, from huge pages if `huge` and there are enough of them.
    pub fn anonymous(len: usize, huge: bool) -> io::Result<Self> {
        let map = Mapping::anonymous(len, huge)?;
        let pages = if map.is_huge() { Pages::Huge } else { Pages::Ordinary };
        Ok(Self::new(map, RegionPages { pages, writable: true, present: true }))
    }

    /// The same, for one who does not keep it.
    pub fn downgrade(&self) -> RegionRef {
        RegionRef(Arc::downgrade(&self.0))
    }

    /// Its number.
    pub fn id(&self) -> RegionId {
        self.0.id
    }

    /// First byte.
    pub fn base(&self) -> NonNull<u8> {
        self.0.base
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.0.len
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.0.len == 0
    }

    /// What its pages are.
    pub fn pages(&self) -> RegionPages {
        self.0.pages
    }

    /// Whether a registrar knows it.
    pub fn is_registered(&self) -> bool {
        *lock(&self.0.registered) > 0
    }

    /// Does what puts other pages in the place of some, unless a registrar has been told where they are: then returns
    /// `false`.
    pub fn move_pages(&self, work: impl FnOnce()) -> bool {
        // Held, so that nobody registers it meanwhile.
        let registered = lock(&self.0.registered);
        if *registered == 0 {
            work();
        }
        *registered == 0
    }

    /// Copies the bytes from offset `at` into `into`, as a device would: others may be writing them.
    ///
    /// # Panics
    /// When the range is not inside the region.
    pub fn copy_to(&self, at: usize, into: &mut [u8]) {
        let end = at.checked_add(into.len());
        assert!(end.is_some_and(|end| end <= self.0.len), "copy outside the region");
        // SAFETY: the range is inside the region, which is readable; `into` is a unique borrow.
        unsafe { sys::copy_racing(self.0.base.as_ptr().add(at), into.as_mut_ptr(), into.len()) };
    }
}

// SAFETY: what it is made of is such memory.
unsafe impl SharedMemory for Region {
    fn base(&self) -> NonNull<u8> {
        self.0.base
    }

    fn len(&self) -> usize {
        self.0.len
    }

    fn region(&self) -> Option<&Region> {
        Some(self)
    }
}

impl std::fmt::Debug for Region {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Region {}({} bytes)", self.0.id.0, self.0.len)
    }
}

/// A region that may be gone.
pub struct RegionRef(Weak<RegionParts>);

impl RegionRef {
    /// The region, if it is still there.
    pub fn upgrade(&self) -> Option<Region> {
        self.0.upgrade().map(Region)
    }
}

/// Who has to know memory before it may be touched.
pub trait Registrar {
    /// What a region is to it: a key, an address on a bus, the index of a buffer.
    type Handle;

    /// Takes a region in, or refuses it. It stays where it is until it is taken out.
    fn register(&mut self, region: &Region) -> io::Result<Self::Handle>;

    /// Takes it out; nothing touches it any more.
    fn unregister(&mut self, region: &Region, handle: Self::Handle);
}

enum TableEntry<H> {
    Vacant,
    Known(Region, H),
    /// It is not asked for again, unless the number has gone to another.
    Refused(RegionRef),
}

/// What regions are to a registrar, by their numbers.
pub struct RegionTable<R: Registrar> {
    registrar: R,
    entries: Vec<TableEntry<R::Handle>>,
}

impl<R: Registrar> RegionTable<R> {
    /// With no region yet.
    pub fn new(registrar: R) -> Self {
        Self { registrar, entries: Vec::new() }
    }

    /// Has a region registered, if that was not done before. An error is a refusal, which is told once.
    pub fn add(&mut self, region: &Region) -> io::Result<()> {
        let index = region.id().index();
        if self.entries.len() <= index {
            self.entries.resize_with(index + 1, || TableEntry::Vacant);
        }
        let entry = &mut self.entries[index];
        match entry {
            TableEntry::Known(..) => return Ok(()),
            TableEntry::Refused(RegionRef(whose)) if whose.as_ptr() == Arc::as_ptr(&region.0) => {
                return Ok(());
            }
            TableEntry::Refused(_) | TableEntry::Vacant => {}
        }
        *lock(&region.0.registered) += 1;
        match self.registrar.register(region) {
            Ok(handle) => {
                *entry = TableEntry::Known(region.clone(), handle);
                Ok(())
            }
            Err(e) => {
                *lock(&region.0.registered) -= 1;
                *entry = TableEntry::Refused(region.downgrade());
                Err(e)
            }
        }
    }

    /// What a region is to the registrar, unless it has refused it or was never asked.
    #[inline]
    pub fn handle(&self, region: RegionId) -> Option<&R::Handle> {
        match self.entries.get(region.index()) {
            Some(TableEntry::Known(_, handle)) => Some(handle),
            _ => None,
        }
    }

    /// All there are, by number.
    pub fn handles(&self) -> impl Iterator<Item = Option<&R::Handle>> {
        self.entries.iter().map(|entry| match entry {
            TableEntry::Known(_, handle) => Some(handle),
            TableEntry::Vacant | TableEntry::Refused(_) => None,
        })
    }

    /// The device has stopped: all regions are taken out.
    pub fn give_up(&mut self) {
        while let Some(entry) = self.entries.pop() {
            if let TableEntry::Known(region, handle) = entry {
                self.registrar.unregister(&region, handle);
                *lock(&region.0.registered) -= 1;
            }
        }
    }
}

/// What devices may yet touch whose tables were not given up: it stays mapped for good.
static KEPT: Mutex<Vec<Region>> = Mutex::new(Vec::new());

impl<R: Registrar> Drop for RegionTable<R> {
    fn drop(&mut self) {
        let known = self.entries.drain(..).filter_map(|entry| match entry {
            TableEntry::Known(region, _) => Some(region),
            TableEntry::Vacant | TableEntry::Refused(_) => None,
        });
        let known: Vec<Region> = known.collect();
        if !known.is_empty() {
            let count = known.len();
            lock(&KEPT).extend(known);
            if !std::thread::panicking() {
                log::error!("{count} regions of memory were not given up: they stay mapped");
                debug_assert!(false, "a table of regions goes before it is given up");
            }
        }
    }
}

#[cfg(test)]
mod tests;
