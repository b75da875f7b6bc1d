// SPDX-License-Identifier: GPL-2.0-or-later
//! Anonymous memory: mappings, and files.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::ptr::NonNull;

/// A private, zeroed mapping; unmapped on drop.
#[derive(Debug)]
pub struct Mapping {
    base: NonNull<u8>,
    len: usize,
    huge: bool,
}

// SAFETY: a mapping is memory of the process; any thread may use or unmap it.
unsafe impl Send for Mapping {}
// SAFETY: `&Mapping` only tells address and length.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps `len` bytes; from the 2 MiB page pool if `huge` and the pool has enough, else from ordinary pages for which
    /// transparent huge pages are asked.
    pub fn anonymous(len: usize, huge: bool) -> io::Result<Self> {
        // Miri knows of no pages.
        if cfg!(miri) {
            return Self::map(len, 0);
        }
        if huge && let Ok(mut map) = Self::map(len, libc::MAP_HUGETLB | libc::MAP_POPULATE) {
            map.huge = true;
            return Ok(map);
        }
        let map = Self::map(len, libc::MAP_NORESERVE)?;
        // SAFETY: the range is our own mapping; the advice changes no contents. It may fail: it is only advice.
        unsafe { libc::madvise(map.base.as_ptr().cast(), len, libc::MADV_HUGEPAGE) };
        Ok(map)
    }

    /// Maps `len` bytes that core dumps leave out.
    pub(super) fn undumped(len: usize) -> io::Result<Self> {
        let map = Self::map(len, 0)?;
        // SAFETY: the range is our own mapping; the advice changes no contents. Miri has no core dumps.
        if !cfg!(miri) && unsafe { libc::madvise(map.base.as_ptr().cast(), len, libc::MADV_DONTDUMP) } != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(map)
    }

    fn map(len: usize, flags: libc::c_int) -> io::Result<Self> {
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        let base = map(len, prot, flags | libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, None)?;
        Ok(Self { base, len, huge: false })
    }

    /// Makes a page-aligned range read as zeros, and gives its memory back where the pages allow it.
    ///
    /// # Panics
    /// When the range is not inside the mapping.
    pub fn discard(&self, at: NonNull<u8>, len: usize) {
        let inside =
            at >= self.base && (at.addr().get() - self.base.addr().get()).checked_add(len) <= Some(self.len);
        assert!(inside, "discard outside the mapping");
        // SAFETY: the range is inside our own mapping, and its bytes are shared memory that anybody may change.
        unsafe {
            if cfg!(miri) || self.huge || libc::madvise(at.as_ptr().cast(), len, libc::MADV_DONTNEED) != 0 {
                super::zero_racing(at.as_ptr(), len);
            }
        }
    }

    /// First byte.
    pub fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether 2 MiB pages back it.
    pub fn is_huge(&self) -> bool {
        self.huge
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: base and len are those of the mmap call, and nobody else unmaps it.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.len) };
    }
}

/// A new mapping where the kernel wants it: of anonymous memory, or of a file from its beginning.
pub(super) fn map(
    len: usize,
    prot: libc::c_int,
    flags: libc::c_int,
    file: Option<RawFd>,
) -> io::Result<NonNull<u8>> {
    // SAFETY: a new mapping at an address of the kernel's choice touches no memory of ours.
    let addr = unsafe { libc::mmap(std::ptr::null_mut(), len, prot, flags, file.unwrap_or(-1), 0) };
    if addr == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    NonNull::new(addr.cast()).ok_or_else(|| io::ErrorKind::OutOfMemory.into())
}

/// A file in memory, without a name in any directory.
pub(super) fn memory_file() -> io::Result<File> {
    // SAFETY: the name ends with a zero byte; no other memory is involved.
    let fd = unsafe { libc::memfd_create(c"ptgt".as_ptr(), libc::MFD_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a fresh descriptor that nobody else owns.
    Ok(unsafe { File::from_raw_fd(fd) })
}

/// The same `period` bytes of memory over and over, until there are `len`, a multiple of that; never unmapped. Both are
/// whole pages.
pub fn map_repeatedly(period: usize, len: usize) -> io::Result<NonNull<u8>> {
    let file = memory_file()?;
    file.set_len(period as u64)?;
    let whole = Mapping::map(len, libc::MAP_NORESERVE)?;
    for at in (0..len).step_by(period) {
        let (prot, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_FIXED);
        // SAFETY: replaces a part of the mapping above, which nobody else knows of yet.
        let part = unsafe {
            let place = whole.base.add(at).as_ptr().cast();
            libc::mmap(place, period, prot, flags, file.as_raw_fd(), 0)
        };
        if part == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
    }
    let base = whole.base;
    std::mem::forget(whole);
    Ok(base)
}

/// How many pages of 2 MiB the kernel has set aside and not given away.
pub fn free_huge_pages() -> usize {
    let text = std::fs::read_to_string("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages");
    text.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

/// Size from which on the allocator asks the kernel for a mapping, and gives it back when it is freed.
const LARGE: libc::c_int = 256 << 10;

/// Lets large vectors have mappings of their own, whatever was freed before: of such a one only the pages that are
/// touched cost memory. By itself the allocator takes memory again that it has, and writes zeros over all of it. To be
/// called before threads are started.
pub fn map_large_vectors() {
    // SAFETY: sets a number of the C library's allocator.
    unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE) };
}
