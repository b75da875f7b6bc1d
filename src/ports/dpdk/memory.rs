// SPDX-License-Identifier: GPL-2.0-or-later
//! Registering memory that is not DPDK's with a device that reads it directly.

use std::io;
use std::ptr::NonNull;
use std::sync::Arc;

use dpdk_sys as dpdk;

use super::eal;
use crate::memory::{Pages, Region, RegionPages, RegionTable, Registrar, Seg};

const SMALL_PAGE: usize = 4096;
const HUGE_PAGE: usize = 2 << 20;

/// Addresses that each IOMMU has: 39 bits are the fewest in use.
const BUS_END: u64 = 1 << 39;

/// What DPDK says when there is no address (RTE_BAD_IOVA).
const BAD_ADDRESS: u64 = u64::MAX;

/// Where a region is to a device.
#[derive(Clone)]
pub(super) struct Span {
    base: usize,
    len: usize,
    /// Where it begins on the bus, if it is one piece there.
    bus: u64,
    /// Addresses of its huge pages on the bus; empty: it is one piece.
    pages: Arc<[u64]>,
    /// The device's IOMMU knows it.
    mapped: bool,
}

/// Who registers memory with DPDK (rte_extmem_register) and, where the device is behind an IOMMU, with that
/// (rte_dev_dma_map).
pub(super) struct DeviceMemory {
    device: NonNull<dpdk::rte_device>,
    virtual_addresses: bool,
    /// Below what already has a place of its own on the bus.
    below: u64,
}

impl DeviceMemory {
    /// Of a device; `virtual_addresses`: the process's addresses are those of the bus, where they fit.
    pub(super) fn new(device: NonNull<dpdk::rte_device>, virtual_addresses: bool) -> Self {
        Self { device, virtual_addresses, below: BUS_END }
    }
}

impl Registrar for DeviceMemory {
    type Handle = Span;

    fn register(&mut self, region: &Region) -> io::Result<Span> {
        let RegionPages { pages, writable, present } = region.pages();
        let huge = pages == Pages::Huge;
        if !writable {
            return Err(io::Error::other("it is mapped to be read only"));
        }
        if !present {
            return Err(io::Error::other(
                "it is not in huge pages, and would take memory for all of its bytes",
            ));
        }
        if !self.virtual_addresses && !huge {
            // Nobody promises that an ordinary page stays where it is.
            return Err(io::Error::other("physical addresses need huge pages"));
        }
        let (base, len) = (region.base(), region.len());
        let page = if huge { HUGE_PAGE } else { SMALL_PAGE };
        let start = base.as_ptr().cast();
        // SAFETY: the range is mapped, and written once before the device reads it; here and below.
        let address = |at: usize| unsafe { dpdk::rte_mem_virt2iova(base.as_ptr().add(at).cast()) };
        let mut pages: Vec<u64> = match self.virtual_addresses {
            true => Vec::new(),
            false => (0..len).step_by(page).map(address).collect(),
        };
        if pages.contains(&BAD_ADDRESS) {
            return Err(io::Error::other("the kernel hides physical addresses: run as root"));
        }
        let count = u32::try_from(pages.len()).map_err(io::Error::other)?;
        let list = if pages.is_empty() { std::ptr::null_mut() } else { pages.as_mut_ptr() };
        // SAFETY: see above; the addresses are read during the call.
        let rc = unsafe { dpdk::rte_extmem_register(start, len, list, count, page) };
        if rc != 0 {
            return Err(eal::last("memory is not registered"));
        }
        let bus = base.addr().get() as u64;
        let mut span =
            Span { base: base.as_ptr().expose_provenance(), len, bus, pages: pages.into(), mapped: false };
        let mut rc = span.map(self.device);
        if rc != 0 && self.virtual_addresses {
            // The process has more address bits than many an IOMMU: then the range gets a place below what others have.
            span.bus = (self.below - len as u64) & !(HUGE_PAGE as u64 - 1);
            rc = span.map(self.device);
            if rc == 0 {
                self.below = span.bus;
            }
        }
        // A device that no IOMMU stands before has nothing to be told.
        if rc != 0 && (self.virtual_addresses || span.mapped) {
            // SAFETY: it has just been registered, and no device uses it.
            unsafe { span.unregister(self.device) };
            return Err(eal::error("the IOMMU refuses it (memory lock limit?)", rc));
        }
        Ok(span)
    }

    fn unregister(&mut self, _: &Region, span: Span) {
        // SAFETY: the table is given up when the device has stopped (Running::give_up).
        unsafe { span.unregister(self.device) };
    }
}

impl Span {
    /// Tells the IOMMU. Returns what DPDK says.
    fn map(&mut self, device: NonNull<dpdk::rte_device>) -> i32 {
        let start: *mut u8 = std::ptr::with_exposed_provenance_mut(self.base);
        for at in (0..self.len).step_by(self.step()) {
            let va = start.wrapping_add(at).cast();
            // SAFETY: the range is mapped, and written once before the device reads it.
            match unsafe { dpdk::rte_dev_dma_map(device.as_ptr(), va, self.address(at), self.step()) } {
                0 => self.mapped = true,
                rc => return rc,
            }
        }
        0
    }

    /// Bytes that are contiguous on the bus.
    fn step(&self) -> usize {
        if self.pages.is_empty() { self.len } else { HUGE_PAGE }
    }

    fn address(&self, at: usize) -> u64 {
        match self.pages.get(at / HUGE_PAGE) {
            Some(page) => page + (at % HUGE_PAGE) as u64,
            None => self.bus + at as u64,
        }
    }

    /// # Safety
    /// The device has stopped.
    unsafe fn unregister(self, device: NonNull<dpdk::rte_device>) {
        let start: *mut u8 = std::ptr::with_exposed_provenance_mut(self.base);
        if self.mapped {
            for at in (0..self.len).step_by(self.step()) {
                let va = start.wrapping_add(at).cast();
                // SAFETY: as the caller says.
                unsafe { dpdk::rte_dev_dma_unmap(device.as_ptr(), va, self.address(at), self.step()) };
            }
        }
        // SAFETY: as the caller says.
        unsafe { dpdk::rte_extmem_unregister(start.cast(), self.len) };
    }
}

/// What a device can reach, as one core knows it.
pub(super) struct Reach {
    /// By the numbers of regions. `None`: all that the process can, because the processor does the reading.
    spans: Option<Vec<Option<Span>>>,
}

impl Reach {
    pub(super) fn everything() -> Self {
        Self { spans: None }
    }

    pub(super) fn of(table: &RegionTable<DeviceMemory>) -> Self {
        Self { spans: Some(table.handles().map(|span| span.cloned()).collect()) }
    }

    /// Puts the pieces of a segment, as the device sees them, into `pieces`. `false` if it does not see it, or there
    /// would be more than `max` pieces.
    pub(super) fn resolve(
        &self,
        seg: &Seg,
        max: usize,
        pieces: &mut smallvec::SmallVec<[dpdk::ptgt_piece; 32]>,
    ) -> bool {
        /// An external buffer has a length of 16 bits.
        const PIECE_MAX: usize = 65535;
        let (data, len) = (seg.as_ptr(), seg.len());
        let place = match &self.spans {
            None => None,
            Some(spans) => {
                let Some((region, offset)) = seg.in_region() else { return false };
                let Some(Some(span)) = spans.get(region.index()) else { return false };
                Some((span, offset))
            }
        };
        let mut at = 0;
        while at < len {
            if pieces.len() >= max {
                return false;
            }
            let addr = data.wrapping_add(at);
            let (iova, contiguous) = match place {
                None => (addr.addr() as u64, PIECE_MAX),
                // Emulated adapters behind an emulated IOMMU read no further than to the end of its page.
                Some((span, offset)) => (span.address(offset + at), HUGE_PAGE - (offset + at) % HUGE_PAGE),
            };
            let n = (len - at).min(contiguous).min(PIECE_MAX);
            pieces.push(dpdk::ptgt_piece { addr: addr.cast(), iova, len: u32::try_from(n).unwrap_or(0) });
            at += n;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::BufferSlots;

    #[test]
    fn pieces_end_with_the_pages_of_the_bus() {
        let slots = BufferSlots::new(1, 4 << 20, false).unwrap();
        let whole = slots.take(4 << 20).unwrap().freeze();
        let number = slots.region().id().index();
        // Its place on the bus says nothing of its address, nor the other way round.
        let bus = 5 << 40;
        let span = |pages: &[u64]| {
            let span = Span { base: 0, len: 2 * HUGE_PAGE, bus, pages: pages.into(), mapped: false };
            let mut spans = vec![None; number + 1];
            spans[number] = Some(span);
            Reach { spans: Some(spans) }
        };
        let find = |reach: Reach, at: usize, len, max| {
            let mut pieces = smallvec::SmallVec::new();
            let found = reach.resolve(&whole.slice(at, len), max, &mut pieces);
            found.then(|| pieces.iter().map(|piece| (piece.iova, piece.len)).collect::<Vec<_>>())
        };
        let scattered = [7 << 21, 3 << 21];
        assert_eq!(find(span(&scattered), 4096, 100, 2), Some(vec![((7 << 21) + 4096, 100)]));
        let across = Some(vec![((8 << 21) - 50, 50), (3 << 21, 50)]);
        assert_eq!(find(span(&scattered), HUGE_PAGE - 50, 100, 2), across);
        assert_eq!(find(span(&scattered), HUGE_PAGE - 50, 100, 1), None, "too many");
        let one_piece = bus + HUGE_PAGE as u64;
        assert_eq!(
            find(span(&[]), HUGE_PAGE - 50, 100, 2),
            Some(vec![(one_piece - 50, 50), (one_piece, 50)]),
            "so does one piece"
        );
        let elsewhere = BufferSlots::new(1, 4096, false).unwrap();
        let (other, mut pieces) = (elsewhere.take(100).unwrap().freeze(), smallvec::SmallVec::new());
        assert!(!span(&[]).resolve(&other, 2, &mut pieces), "a region that it does not know");
        assert!(!span(&[]).resolve(&Seg::from_static(b"constant"), 2, &mut pieces), "no region");
    }
}
