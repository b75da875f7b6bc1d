// SPDX-License-Identifier: GPL-2.0-or-later
//! A file mapped into memory. Whoever shortens it takes pages away, and touching those is a signal: SIGBUS. Its handler
//! puts zeros in their place and marks the mapping, whose owner then fails what it reads or writes.

use std::fs::File;
use std::hint::black_box;
use std::io;
use std::os::fd::AsRawFd;
use std::ptr::NonNull;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};

use super::{copy_racing, mapping};

/// Most files that are mapped at once.
pub const MAPPED_MAX: usize = 256;

/// The size of an ordinary page in bytes.
pub const PAGE: usize = 4096;

/// What the handler knows of a mapping.
struct Range {
    taken: AtomicBool,
    base: AtomicUsize,
    len: AtomicUsize,
    page: AtomicUsize,
    damaged: AtomicBool,
}

static RANGES: [Range; MAPPED_MAX] = [const {
    Range {
        taken: AtomicBool::new(false),
        base: AtomicUsize::new(0),
        len: AtomicUsize::new(0),
        page: AtomicUsize::new(0),
        damaged: AtomicBool::new(false),
    }
}; MAPPED_MAX];

/// See the module; unmapped on drop.
#[derive(Debug)]
pub struct FileMapping {
    base: NonNull<u8>,
    len: usize,
    page: usize,
    writable: bool,
    /// Its place in [`RANGES`].
    place: usize,
}

// SAFETY: a mapping is memory of the process; any thread may use or unmap it.
unsafe impl Send for FileMapping {}
// SAFETY: `&FileMapping` tells address and length, and moves bytes that others may move at the same time, as any
// medium.
unsafe impl Sync for FileMapping {}

impl FileMapping {
    /// Maps the first `len` bytes of a file whose pages have `page` bytes.
    pub fn new(file: &File, len: usize, page: usize, writable: bool) -> io::Result<Self> {
        static HANDLER: Once = Once::new();
        HANDLER.call_once(handle_bus_errors);
        let free = |range: &Range| !range.taken.swap(true, Ordering::AcqRel);
        let place = RANGES.iter().position(free).ok_or_else(|| {
            io::Error::new(io::ErrorKind::QuotaExceeded, format!("more than {MAPPED_MAX} mapped files"))
        })?;
        // Huge pages are few: what is to be written is taken now, and has its place.
        let populate = if page > PAGE && writable { libc::MAP_POPULATE } else { 0 };
        let (prot, flags) = (protection(writable), libc::MAP_SHARED | populate);
        let base = mapping::map(len, prot, flags, Some(file.as_raw_fd()))
            .inspect_err(|_| RANGES[place].taken.store(false, Ordering::Release))?;
        // SAFETY: the range is our own mapping; the advice changes no contents. It may fail: it is only advice.
        unsafe { libc::madvise(base.as_ptr().cast(), len, libc::MADV_HUGEPAGE) };
        let range = &RANGES[place];
        range.damaged.store(false, Ordering::Relaxed);
        range.len.store(len, Ordering::Relaxed);
        range.page.store(page, Ordering::Relaxed);
        range.base.store(base.addr().get(), Ordering::Release);
        Ok(Self { base, len, page, writable, place })
    }

    /// Whether the bytes up to `end` can be read: looks at the last one, as a file that is shortened loses its end.
    ///
    /// # Panics
    /// When `end` is 0 or outside the mapping.
    pub fn reaches(&self, end: usize) -> bool {
        assert!((1..=self.len).contains(&end), "look outside the mapping");
        // SAFETY: inside our own mapping; if the page is gone, the handler puts another one there.
        let last = unsafe { AtomicU8::from_ptr(self.base.add(end - 1).as_ptr()) };
        black_box(last.load(Ordering::Relaxed));
        !RANGES[self.place].damaged.load(Ordering::Relaxed)
    }

    /// Writes memory into the file, `false` if a part of it is gone.
    ///
    /// # Panics
    /// When the bytes do not fit, or the mapping is not writable.
    ///
    /// # Safety
    /// `from` must be readable for `len` bytes. It may lie in this very mapping.
    pub unsafe fn write(&self, at: usize, from: *const u8, len: usize) -> bool {
        assert!(
            self.writable && at.checked_add(len).is_some_and(|end| end <= self.len),
            "write outside the mapping"
        );
        // SAFETY: inside our own mapping, and the caller vouches for `from`; if a page is gone, the handler puts
        // another one there.
        unsafe { copy_racing(from, self.base.as_ptr().add(at), len) };
        !RANGES[self.place].damaged.load(Ordering::Relaxed)
    }

    /// Whether it may be written.
    pub fn is_writable(&self) -> bool {
        self.writable
    }

    /// Whether huge pages back it.
    pub fn is_huge(&self) -> bool {
        self.page > PAGE
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
}

impl Drop for FileMapping {
    fn drop(&mut self) {
        let range = &RANGES[self.place];
        range.base.store(0, Ordering::Release);
        // SAFETY: base and len are those of the mmap call, and nobody else unmaps it.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.len) };
        range.taken.store(false, Ordering::Release);
    }
}

fn protection(writable: bool) -> libc::c_int {
    if writable { libc::PROT_READ | libc::PROT_WRITE } else { libc::PROT_READ }
}

extern "C" fn bus_error(_: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the kernel gives a valid siginfo with the address to a handler with SA_SIGINFO.
    let addr = unsafe { (*info).si_addr() }.addr();
    for range in &RANGES {
        let base = range.base.load(Ordering::Acquire);
        if base == 0 || addr < base || addr - base >= range.len.load(Ordering::Relaxed) {
            continue;
        }
        let page = range.page.load(Ordering::Relaxed);
        // SAFETY: replaces one page of a mapping of ours, which could not be touched, by one of zeros. mmap is a bare
        // system call, which a signal handler may make.
        let page = unsafe {
            let at = std::ptr::with_exposed_provenance_mut(addr & !(page - 1));
            let flags = libc::MAP_FIXED | libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            libc::mmap(at, page, protection(true), flags, -1, 0)
        };
        if page != libc::MAP_FAILED {
            range.damaged.store(true, Ordering::Relaxed);
            return;
        }
    }
    // Not ours: the access is repeated, and the default action ends the process.
    // SAFETY: signal() may be called in a handler.
    unsafe { libc::signal(libc::SIGBUS, libc::SIG_DFL) };
}

fn handle_bus_errors() {
    // SAFETY: an all-zero sigaction has an empty mask; the handler has the signature that SA_SIGINFO asks for.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) = bus_error;
        action.sa_sigaction = handler as libc::sighandler_t;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_NODEFER;
        libc::sigaction(libc::SIGBUS, &raw const action, std::ptr::null_mut());
    }
}

/// Takes the space for the first `len` bytes of a file now, so that there is no lack of it later. Its size stays.
pub fn reserve(file: &File, len: u64) -> io::Result<()> {
    let len = len.try_into().map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
    // SAFETY: no memory is involved.
    match unsafe { libc::fallocate(file.as_raw_fd(), libc::FALLOC_FL_KEEP_SIZE, 0, len) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
