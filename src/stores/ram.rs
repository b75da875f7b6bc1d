// SPDX-License-Identifier: GPL-2.0-or-later
//! A disk in memory. Reads lend its pages, writes are the one copy that a write needs; every core sees the same pages.

use std::io;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Backing;
use super::exclusive::{Exclusive, ExclusiveGate};
use crate::io::{Allocation, Done, Error, ErrorKind, Geometry, Landing, Op, Store, Submitted, Tag};
use crate::memory::{Lease, Pages, Region, RegionPages, Seg, Sg};
use crate::reactor::CoreContext;
use crate::sys::{self, Mapping};

/// Longest read or write: one block of the arena, for those who want to read into it.
const TRANSFER_MAX: u32 = 1 << 20;

/// Granularity of what counts as allocated, in bytes.
const PAGE: u64 = 4096;

/// What all handles share.
struct Medium {
    memory: Arc<Mapping>,
    /// What is lent of it.
    region: Region,
    /// A bit per page that holds data.
    allocated: Vec<AtomicU64>,
    geometry: Geometry,
}

pub(super) struct Ram {
    medium: Arc<Medium>,
    gate: Arc<ExclusiveGate>,
}

impl Ram {
    pub(super) fn anonymous(bytes: u64, block: u32, huge: bool) -> io::Result<Self> {
        let too_big = |_| io::Error::from(io::ErrorKind::OutOfMemory);
        let len = usize::try_from(bytes).map_err(too_big)?.next_multiple_of(2 << 20);
        let memory = Arc::new(Mapping::anonymous(len, huge)?);
        // Huge pages are taken at once.
        let (pages, present) = if memory.is_huge() { (Pages::Huge, true) } else { (Pages::Ordinary, false) };
        let region = Region::new(memory.clone(), RegionPages { pages, writable: true, present });
        let words = bytes.div_ceil(PAGE).div_ceil(64);
        let allocated = (0..words).map(|_| AtomicU64::new(0)).collect();
        let geometry = Geometry { bytes, block, transfer_max: TRANSFER_MAX, thin: true, read_only: false };
        Ok(Self { medium: Arc::new(Medium { memory, region, allocated, geometry }), gate: Arc::default() })
    }
}

impl Backing for Ram {
    fn attach(&self, context: &CoreContext) -> io::Result<Box<dyn Store>> {
        let medium = self.medium.clone();
        context.add_region(&medium.region);
        let pages = Lease::new(medium.region.clone());
        Ok(Box::new(Exclusive::new(RamStore { medium, pages }, self.gate.clone())))
    }

    fn region(&self) -> Option<&Region> {
        Some(&self.medium.region)
    }
}

impl Medium {
    /// The address of a range that is inside the disk.
    fn address(&self, at: u64, len: u64) -> Result<(NonNull<u8>, usize), Done> {
        let inside = at.checked_add(len).is_some_and(|end| end <= self.geometry.bytes);
        match (inside, usize::try_from(at), usize::try_from(len)) {
            // SAFETY: the range is inside the disk, and the mapping is at least as long.
            (true, Ok(at), Ok(len)) => Ok((unsafe { self.memory.base().add(at) }, len)),
            _ => Err(Done::Failed(Error { kind: ErrorKind::OutOfRange, at })),
        }
    }

    fn write(&self, at: u64, data: &Sg) -> Result<(), Done> {
        let (mut to, _) = self.address(at, data.len() as u64)?;
        for seg in data.segs() {
            // SAFETY: `to` has room for all of `data`, and a segment is readable for its length. It may be lent from
            // this very disk, so the ranges may overlap. Another core may write the same bytes: then either content
            // stays, as with any overlapping writes.
            unsafe {
                sys::copy_racing(seg.as_ptr(), to.as_ptr(), seg.len());
                to = to.add(seg.len());
            }
        }
        self.mark(at, data.len() as u64);
        Ok(())
    }

    fn write_same(&self, at: u64, len: u64, pattern: &Seg) -> Result<(), Done> {
        let (to, len) = self.address(at, len)?;
        for offset in (0..len).step_by(pattern.len().max(1)) {
            let n = pattern.len().min(len - offset);
            // SAFETY: offset + n <= len, which address() found inside the disk; else as in write().
            unsafe { sys::copy_racing(pattern.as_ptr(), to.as_ptr().add(offset), n) };
        }
        self.mark(at, len as u64);
        Ok(())
    }

    /// Zeros the range and counts its pages as allocated, which is all that anchoring takes: memory is not reserved.
    fn anchor(&self, at: u64, len: u64) -> Result<(), Done> {
        let (to, bytes) = self.address(at, len)?;
        // SAFETY: address() found the range inside the disk.
        unsafe { sys::zero_racing(to.as_ptr(), bytes) };
        self.mark(at, len);
        Ok(())
    }

    fn unmap(&self, at: u64, len: u64) -> Result<(), Done> {
        self.address(at, len)?;
        let (first, last) = (at.next_multiple_of(PAGE), (at + len) / PAGE * PAGE);
        // What is left of a page that is not unmapped whole reads as zeros, and stays allocated.
        let edges = match first < last {
            true => [(at, first - at), (last, at + len - last)],
            false => [(at, len), (at, 0)],
        };
        for (at, len) in edges {
            let (to, len) = self.address(at, len)?;
            // SAFETY: address() found the range inside the disk.
            unsafe { sys::zero_racing(to.as_ptr(), len) };
        }
        if first < last {
            for page in first / PAGE..last / PAGE {
                let (word, bit) = self.bit(page);
                if word.load(Ordering::Relaxed) & bit != 0 {
                    word.fetch_and(!bit, Ordering::Relaxed);
                }
            }
            let (to, len) = self.address(first, last - first)?;
            if !self.region.move_pages(|| self.memory.discard(to, len)) {
                // SAFETY: address() found the range inside the disk.
                unsafe { sys::zero_racing(to.as_ptr(), len) };
            }
        }
        Ok(())
    }

    fn bit(&self, page: u64) -> (&AtomicU64, u64) {
        let word = usize::try_from(page / 64).expect("inside the disk");
        (&self.allocated[word], 1 << (page % 64))
    }

    fn mark(&self, at: u64, len: u64) {
        if len == 0 {
            return;
        }
        for page in at / PAGE..=(at + len - 1) / PAGE {
            let (word, bit) = self.bit(page);
            // Written pages stay written: the line is shared until somebody unmaps.
            if word.load(Ordering::Relaxed) & bit == 0 {
                word.fetch_or(bit, Ordering::Relaxed);
            }
        }
    }

    fn extent(&self, at: u64) -> Result<Done, Done> {
        self.address(at, 1)?;
        let pages = self.geometry.bytes.div_ceil(PAGE);
        let state = |page| {
            let (word, bit) = self.bit(page);
            word.load(Ordering::Relaxed) & bit != 0
        };
        let first = at / PAGE;
        let mapped = state(first);
        let end = (first..pages).find(|&page| state(page) != mapped).unwrap_or(pages);
        let state = if mapped { Allocation::Mapped } else { Allocation::Deallocated };
        Ok(Done::Extent { state, len: (end * PAGE).min(self.geometry.bytes) - at })
    }
}

struct RamStore {
    medium: Arc<Medium>,
    pages: Lease,
}

impl RamStore {
    fn read(&self, at: u64, len: u32, into: Landing) -> Result<Done, Done> {
        self.medium.address(at, u64::from(len))?;
        let from = usize::try_from(at).expect("inside the memory");
        Ok(Done::Data(match into {
            Landing::Own => self.pages.clone().lend(from, len).into(),
            Landing::Lent(lease) => lease.lend(from, len).into(),
            Landing::Given(mut memory) => {
                self.pages.clone().lend(from, len).copy_to(0, memory.bytes_mut());
                memory.freeze().into()
            }
        }))
    }
}

impl Store for RamStore {
    fn geometry(&self) -> Geometry {
        self.medium.geometry
    }

    fn submit(&mut self, _: Tag, op: Op) -> Submitted {
        let medium = &*self.medium;
        let done = match op {
            Op::Read { at, len, into } => self.read(at, len, into),
            Op::Write { at, data, .. } => medium.write(at, &data).map(|()| Done::Finished),
            Op::WriteSame { at, len, pattern, .. } => {
                medium.write_same(at, len, &pattern).map(|()| Done::Finished)
            }
            Op::Unmap { at, len } => medium.unmap(at, len).map(|()| Done::Finished),
            Op::Anchor { at, len } => medium.anchor(at, len).map(|()| Done::Finished),
            Op::Extent { at } => medium.extent(at),
            Op::Flush => Ok(Done::Finished),
            Op::CompareAndWrite { at, .. } => Err(Done::Failed(Error { kind: ErrorKind::Unsupported, at })),
        };
        Submitted::Done(done.unwrap_or_else(|failed| failed))
    }

    fn poll(&mut self, _: &mut Vec<(Tag, Done)>) -> usize {
        0
    }

    fn lease(&self) -> Option<Lease> {
        Some(Lease::new(self.medium.region.clone()))
    }
}
