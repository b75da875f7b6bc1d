// SPDX-License-Identifier: GPL-2.0-or-later
//! A plain image file or block device, block for block.
//!
//! What the page cache has is read at once and without waiting; what it lacks, and all that waits for the disk, goes
//! through the core's io_uring. An image on a disk is never mapped, where a full disk is a signal and an I/O error is lost:
//! only files in memory are. All of their space is taken then, and so they can be written through the mapping, too.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::FileTypeExt;
use std::path::PathBuf;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::exclusive::{Exclusive, ExclusiveGate};
use super::ring::{Flight, RingOp, Shared};
use super::{Backing, Local};
use crate::io::{Allocation, Done, Error, ErrorKind, Geometry, Health, Landing, Op, Store, Submitted, Tag};
use crate::memory::{Arena, Lease, Seg, Sg, SharedMemory};
use crate::sys::{self, FileMapping, InMemory};

/// Longest read or write: the largest block of the arena.
const TRANSFER_MAX: u32 = 1 << 20;

/// Pieces of a write that is tried at once: more than 256 KiB have in frames of 1500 bytes. What is beyond goes through the
/// ring.
const INLINE_PIECES: usize = 256;

static ZEROS: [u8; 4096] = [0; 4096];

/// How an image is opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileOptions {
    /// The image, or a block device.
    pub path: PathBuf,
    /// Size in bytes: a missing image is created sparse, a shorter one grows. Without it, the size it has.
    pub size: Option<u64>,
    /// Logical block size in bytes.
    pub block: u32,
    /// Open for reading only.
    pub read_only: bool,
    /// Through a mapping of the file, which must lie on tmpfs or hugetlbfs: reads lend its pages, and writes go into them.
    /// All of its space is taken at once, and none is given back.
    pub mapped: bool,
}

pub(super) struct Image {
    file: Arc<File>,
    bytes: Arc<AtomicU64>,
    block: u32,
    read_only: bool,
    thin: bool,
    /// The file system has unwritten extents.
    zero_range: bool,
    /// The bytes are in memory whatever happens (tmpfs, hugetlbfs): nothing ever waits.
    in_memory: bool,
    mapping: Option<Arc<FileMapping>>,
    gate: Arc<ExclusiveGate>,
}

/// How long a lock of somebody else is waited for.
const LOCK_WAIT: Duration = Duration::from_secs(2);

/// Keeps other daemons away. A daemon that was killed holds its lock until the kernel has taken its io_uring apart,
/// which is a little after the process is gone: the next one is to start nevertheless.
fn lock(file: &File) -> io::Result<()> {
    const PAUSE: Duration = Duration::from_millis(20);
    let mut waited = Duration::ZERO;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) if waited < LOCK_WAIT => {
                std::thread::sleep(PAUSE);
                waited += PAUSE;
            }
            Err(TryLockError::WouldBlock) => {
                return Err(io::Error::new(io::ErrorKind::ResourceBusy, "in use by another process"));
            }
            Err(TryLockError::Error(e)) => return Err(e),
        }
    }
}

impl Image {
    pub(super) fn open(options: &FileOptions) -> io::Result<Self> {
        let FileOptions { path, size, block, read_only, mapped } = options;
        if let Some(folder) = path.parent().filter(|_| size.is_some() && !read_only) {
            std::fs::create_dir_all(folder)?;
        }
        let file = OpenOptions::new()
            .read(true)
            .write(!read_only)
            .create(size.is_some() && !read_only)
            .truncate(false)
            .open(path)?;
        lock(&file)?;
        let meta = file.metadata()?;
        let device = meta.file_type().is_block_device();
        if !device && !meta.is_file() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "neither a regular file nor a block device",
            ));
        }
        let in_memory = sys::in_memory(&file)?;
        if let (Some(InMemory::Hugetlbfs(page)), Some(size)) = (in_memory, size)
            && size % page as u64 != 0
        {
            let what = format!("on hugetlbfs: the size must be a multiple of its pages of {page} bytes");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
        let mut bytes = if device { sys::block_device_size(&file)? } else { meta.len() };
        if let Some(size) = *size {
            if bytes < size && !device && !read_only {
                file.set_len(size)?;
                // The new size is there after a power loss, too.
                file.sync_all()?;
                bytes = size;
            }
            if bytes < size {
                let what = format!("has {bytes} bytes, fewer than the {size} asked for");
                return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
            }
        }
        let bytes = bytes / u64::from(*block) * u64::from(*block);
        if bytes == 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "has no bytes; give a size"));
        }
        let mapping = match mapped {
            false => None,
            true => Some(Arc::new(map(&file, bytes, in_memory, *read_only)?)),
        };
        if mapping.is_none() && matches!(in_memory, Some(InMemory::Hugetlbfs(_))) {
            let what = "a file on hugetlbfs cannot be written but through a mapping: set `mapped = true`";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
        let can_punch = || sys::can_allocate(&file, libc::FALLOC_FL_PUNCH_HOLE);
        let thin = !device && !mapped && (*read_only || can_punch());
        let zero_range = thin && !*read_only && sys::can_allocate(&file, libc::FALLOC_FL_ZERO_RANGE);
        Ok(Self {
            file: Arc::new(file),
            bytes: Arc::new(AtomicU64::new(bytes)),
            block: *block,
            read_only: *read_only,
            thin,
            zero_range,
            in_memory: in_memory.is_some(),
            mapping,
            gate: Arc::default(),
        })
    }
}

/// Maps the bytes of a file in memory, and takes the space for them.
fn map(file: &File, bytes: u64, in_memory: Option<InMemory>, read_only: bool) -> io::Result<FileMapping> {
    let page = match in_memory {
        Some(InMemory::Tmpfs) => sys::PAGE,
        Some(InMemory::Hugetlbfs(page)) => page,
        None => {
            let what = "only a file on tmpfs or hugetlbfs can be mapped: on a disk, an error would have no command to fail";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
    };
    if !read_only {
        sys::reserve(file, bytes).map_err(|error| match in_memory {
            Some(InMemory::Hugetlbfs(page)) if error.kind() == io::ErrorKind::StorageFull => {
                let what = format!(
                    "takes {} huge pages of {page} bytes, and there are not so many free",
                    bytes / page as u64
                );
                io::Error::new(error.kind(), what)
            }
            _ => error,
        })?;
    }
    let len = usize::try_from(bytes).map_err(|_| io::ErrorKind::FileTooLarge)?;
    FileMapping::new(file, len, page, !read_only)
}

/// The pages of a mapped file.
struct Mapped(Arc<FileMapping>);

// SAFETY: the Arc keeps the mapping, which does not move; what a shortened file has lost is replaced by zeros when it is
// touched.
unsafe impl SharedMemory for Mapped {
    fn base(&self) -> NonNull<u8> {
        self.0.base()
    }

    fn len(&self) -> usize {
        self.0.len()
    }
}

impl Backing for Image {
    fn attach(&self, local: &Local) -> io::Result<Box<dyn Store>> {
        let handle = FileStore {
            fd: self.file.as_raw_fd(),
            _file: self.file.clone(),
            bytes: self.bytes.clone(),
            block: self.block,
            read_only: self.read_only,
            thin: self.thin,
            zero_range: self.zero_range,
            in_memory: self.in_memory,
            mapping: self.mapping.clone().map(|mapping| {
                let pages = Lease::new(Mapped(mapping.clone()));
                (mapping, pages)
            }),
            arena: local.arena.clone(),
            ring: local.ring.clone(),
            number: local.ring.join(),
            retry: Vec::new(),
            pieces: Vec::with_capacity(INLINE_PIECES),
        };
        Ok(Box::new(Exclusive::new(handle, self.gate.clone())))
    }

    fn region(&self) -> Option<(NonNull<u8>, usize)> {
        let mapping = self.mapping.as_ref()?;
        (mapping.is_huge() && mapping.is_writable()).then(|| (mapping.base(), mapping.len()))
    }
}

struct FileStore {
    fd: RawFd,
    _file: Arc<File>,
    bytes: Arc<AtomicU64>,
    block: u32,
    read_only: bool,
    thin: bool,
    zero_range: bool,
    in_memory: bool,
    /// The mapping, and its pages to be lent.
    mapping: Option<(Arc<FileMapping>, Lease)>,
    arena: Arena,
    ring: Shared,
    number: usize,
    /// Flights to be carried on for which the ring had no room.
    retry: Vec<Flight>,
    /// Room for the pieces of a write that is tried at once. (A list of its own would be moved where it is made.)
    pieces: Vec<libc::iovec>,
}

impl FileStore {
    fn check(&self, at: u64, len: u64, writes: bool) -> Result<(), Error> {
        if at.checked_add(len).is_none_or(|end| end > self.bytes.load(Ordering::Relaxed)) {
            return Err(Error { kind: ErrorKind::OutOfRange, at });
        }
        if writes && self.read_only {
            return Err(Error { kind: ErrorKind::ReadOnly, at });
        }
        Ok(())
    }

    fn read(&mut self, tag: Tag, at: u64, len: u32, into: Landing) -> Submitted {
        if let (Some((mapping, pages)), Landing::Own | Landing::Lent(_)) = (&self.mapping, &into) {
            let from = usize::try_from(at).expect("inside the mapping");
            if len > 0 && !mapping.reaches(from + len as usize) {
                return failed(ErrorKind::ReadFailed, at);
            }
            let seg = match into {
                Landing::Lent(lease) => lease.lend(from, len),
                _ => pages.clone().lend(from, len),
            };
            return Submitted::Done(Done::Data(seg.into()));
        }
        let mut block = match into {
            Landing::Given(memory) => memory,
            Landing::Own | Landing::Lent(_) => match self.arena.alloc(len as usize) {
                Some(block) => block,
                None => return failed(ErrorKind::NoMemory, at),
            },
        };
        // What is cached is here at once; the rest is fetched without making anybody wait.
        let done = sys::read_cached(self.fd, block.bytes_mut(), at, !self.in_memory).unwrap_or(0);
        if done == block.len() {
            return Submitted::Done(Done::Data(block.freeze().into()));
        }
        match self.ring.start(Flight::new(self.number, tag, self.fd, at, RingOp::Read { block, done })) {
            Ok(()) => Submitted::Queued,
            Err(Flight { work: RingOp::Read { block, .. }, .. }) => {
                Submitted::Full(Op::Read { at, len, into: Landing::Given(block) })
            }
            Err(_) => unreachable!("a flight that is refused comes back as it was"),
        }
    }

    fn write(&mut self, tag: Tag, at: u64, data: Sg, fua: bool) -> Submitted {
        if let Some(mapping) = self.written_mapping() {
            return write_mapped(mapping, at, data.segs().iter());
        }
        let mut done = 0;
        if !fua {
            // Into the page cache, as far as that goes without waiting.
            done = self.write_cached(&data, at);
            if done == data.len() {
                return Submitted::Done(Done::Finished);
            }
        }
        let work = RingOp::Write { data, done, repeat: 0, dsync: fua };
        match self.ring.start(Flight::new(self.number, tag, self.fd, at, work)) {
            Ok(()) => Submitted::Queued,
            Err(Flight { work: RingOp::Write { data, .. }, .. }) => {
                Submitted::Full(Op::Write { at, data, fua })
            }
            Err(_) => unreachable!("a flight that is refused comes back as it was"),
        }
    }

    fn write_cached(&mut self, data: &Sg, at: u64) -> usize {
        let pieces = data.segs().iter().take(INLINE_PIECES);
        self.pieces.clear();
        self.pieces.extend(
            pieces.map(|seg| libc::iovec { iov_base: seg.as_ptr().cast_mut().cast(), iov_len: seg.len() }),
        );
        // SAFETY: the segments are readable for their lengths while `data` is borrowed.
        unsafe { sys::write_cached(self.fd, &self.pieces, at, !self.in_memory) }.unwrap_or(0)
    }

    /// The mapping, where it is what writes go through.
    fn written_mapping(&self) -> Option<&FileMapping> {
        self.mapping.as_ref().map(|(mapping, _)| &**mapping).filter(|mapping| mapping.is_writable())
    }

    /// As much of the pattern as fits in a block of the arena, written over and over.
    fn write_same(&mut self, tag: Tag, at: u64, len: u64, pattern: Seg, fua: bool) -> Submitted {
        if let Some(mapping) = self.written_mapping() {
            let times = len / (pattern.len().max(1)) as u64;
            return write_mapped(mapping, at, (0..times).map(|_| &pattern));
        }
        let unit = usize::try_from(len).unwrap_or(usize::MAX).min(TRANSFER_MAX as usize);
        let Some(mut block) = self.arena.alloc(unit) else { return failed(ErrorKind::NoMemory, at) };
        for piece in block.bytes_mut().chunks_mut(pattern.len().max(1)) {
            pattern.copy_to(0, piece);
        }
        let work =
            RingOp::Write { data: block.freeze().into(), done: 0, repeat: len - unit as u64, dsync: fua };
        match self.ring.start(Flight::new(self.number, tag, self.fd, at, work)) {
            Ok(()) => Submitted::Queued,
            Err(_) => Submitted::Full(Op::WriteSame { at, len, pattern, fua }),
        }
    }

    fn unmap(&mut self, tag: Tag, at: u64, len: u64) -> Submitted {
        if !self.thin {
            return failed(ErrorKind::Unsupported, at);
        }
        let work = RingOp::Allocate { mode: libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE, len };
        match self.ring.start(Flight::new(self.number, tag, self.fd, at, work)) {
            Ok(()) => Submitted::Queued,
            Err(_) => Submitted::Full(Op::Unmap { at, len }),
        }
    }

    fn flush(&mut self, tag: Tag) -> Submitted {
        if self.in_memory || self.read_only {
            return Submitted::Done(Done::Finished);
        }
        match self.ring.start(Flight::new(self.number, tag, self.fd, 0, RingOp::Sync)) {
            Ok(()) => Submitted::Queued,
            Err(_) => Submitted::Full(Op::Flush),
        }
    }

    /// Unwritten extents, where the file system has them; zeros, where it does not.
    fn anchor(&mut self, tag: Tag, at: u64, len: u64) -> Submitted {
        if !self.thin {
            return failed(ErrorKind::Unsupported, at);
        }
        if !self.zero_range {
            let pattern = Seg::from_static(&ZEROS).slice(0, self.block as usize);
            return match self.write_same(tag, at, len, pattern, false) {
                Submitted::Full(_) => Submitted::Full(Op::Anchor { at, len }),
                other => other,
            };
        }
        let work = RingOp::Allocate { mode: libc::FALLOC_FL_ZERO_RANGE | libc::FALLOC_FL_KEEP_SIZE, len };
        match self.ring.start(Flight::new(self.number, tag, self.fd, at, work)) {
            Ok(()) => Submitted::Queued,
            Err(_) => Submitted::Full(Op::Anchor { at, len }),
        }
    }

    /// SEEK_DATA and SEEK_HOLE read the inode's own map, which is in memory but for the first look at a large image.
    fn extent(&self, at: u64) -> Done {
        let bytes = self.bytes.load(Ordering::Relaxed);
        let whole = Done::Extent { state: Allocation::Mapped, len: bytes - at };
        if !self.thin {
            return whole;
        }
        match sys::data_extent(self.fd, at) {
            Ok((mapped, end)) => {
                // Holes end at blocks of the file system, which may be smaller than ours: a part of a block is data.
                let block = u64::from(self.block);
                let len = end.map_or(bytes, |end| end.min(bytes)) - at;
                let len = if mapped { len.next_multiple_of(block) } else { len / block * block };
                match (mapped, len) {
                    (_, 0) => Done::Extent { state: Allocation::Mapped, len: block },
                    (true, len) => Done::Extent { state: Allocation::Mapped, len },
                    (false, len) => self.hole(at, len),
                }
            }
            Err(_) => whole,
        }
    }

    /// A range without data may be allocated nevertheless: unwritten extents.
    fn hole(&self, at: u64, len: u64) -> Done {
        let block = u64::from(self.block);
        match sys::first_extent(self.fd, at, len) {
            Ok(Some((first, extent))) if first <= at => {
                let len = (first + extent - at).min(len) / block * block;
                Done::Extent { state: Allocation::Anchored, len: len.max(block) }
            }
            Ok(Some((first, _))) if first - at >= block => {
                Done::Extent { state: Allocation::Deallocated, len: (first - at) / block * block }
            }
            Ok(Some(_)) => Done::Extent { state: Allocation::Anchored, len: block },
            // A file system that does not tell has no such extents.
            Ok(None) | Err(_) => Done::Extent { state: Allocation::Deallocated, len },
        }
    }

    /// A flight has come back: it is over, or goes on.
    fn carry_on(&mut self, result: i32, mut flight: Flight) -> Option<(Tag, Done)> {
        let moved = match usize::try_from(result) {
            Ok(moved) => moved,
            Err(_) if matches!(-result, libc::EAGAIN | libc::EINTR) => 0,
            Err(_) => return Some((flight.tag, error(-result, &flight))),
        };
        let ended = match &mut flight.work {
            // Nothing where bytes should be: the file has become shorter.
            RingOp::Read { .. } if result == 0 => {
                Some(Done::Failed(Error { kind: ErrorKind::OutOfRange, at: flight.at }))
            }
            RingOp::Read { block, done } => {
                *done += moved;
                (*done == block.len()).then_some(Done::Finished)
            }
            RingOp::Write { data, done, repeat, .. } => {
                *done += moved;
                if *done == data.len() && *repeat > 0 {
                    flight.at += data.len() as u64;
                    *done = 0;
                    data.truncate(usize::try_from(*repeat).unwrap_or(usize::MAX));
                    *repeat -= data.len() as u64;
                }
                (*done == data.len()).then_some(Done::Finished)
            }
            RingOp::Sync | RingOp::Allocate { .. } => (result >= 0).then_some(Done::Finished),
        };
        match (ended, flight.work) {
            (Some(Done::Finished), RingOp::Read { block, .. }) => {
                Some((flight.tag, Done::Data(block.freeze().into())))
            }
            (Some(done), _) => Some((flight.tag, done)),
            (None, work) => {
                self.restart(Flight::new(self.number, flight.tag, self.fd, flight.at, work));
                None
            }
        }
    }

    fn restart(&mut self, flight: Flight) {
        if let Err(flight) = self.ring.start(flight) {
            self.retry.push(flight);
        }
    }
}

/// Writes pieces one behind the other into a mapping, which is long enough.
fn write_mapped<'a>(mapping: &FileMapping, at: u64, pieces: impl Iterator<Item = &'a Seg>) -> Submitted {
    let mut to = usize::try_from(at).expect("inside the mapping");
    for piece in pieces {
        // SAFETY: a segment is readable for its length.
        if !unsafe { mapping.write(to, piece.as_ptr(), piece.len()) } {
            return failed(ErrorKind::WriteFailed, to as u64);
        }
        to += piece.len();
    }
    Submitted::Done(Done::Finished)
}

/// What an error number of the kernel means for a flight.
fn error(errno: i32, flight: &Flight) -> Done {
    let (kind, done) = match (&flight.work, errno) {
        (_, libc::ENOMEM) => (ErrorKind::NoMemory, 0),
        (RingOp::Read { done, .. }, _) => (ErrorKind::ReadFailed, *done),
        (_, libc::ENOSPC | libc::EDQUOT) => (ErrorKind::NoSpace, 0),
        (_, libc::EROFS | libc::EBADF | libc::EPERM) => (ErrorKind::ReadOnly, 0),
        (RingOp::Allocate { .. }, libc::EOPNOTSUPP) => (ErrorKind::Unsupported, 0),
        (RingOp::Write { done, .. }, _) => (ErrorKind::WriteFailed, *done),
        _ => (ErrorKind::WriteFailed, 0),
    };
    Done::Failed(Error { kind, at: flight.at + done as u64 })
}

fn failed(kind: ErrorKind, at: u64) -> Submitted {
    Submitted::Done(Done::Failed(Error { kind, at }))
}

impl Store for FileStore {
    fn geometry(&self) -> Geometry {
        Geometry {
            bytes: self.bytes.load(Ordering::Relaxed),
            block: self.block,
            transfer_max: TRANSFER_MAX,
            thin: self.thin,
            read_only: self.read_only,
        }
    }

    fn submit(&mut self, tag: Tag, op: Op) -> Submitted {
        let (at, len, writes) = match &op {
            Op::Read { at, len, .. } => (*at, u64::from(*len), false),
            Op::Write { at, data, .. } => (*at, data.len() as u64, true),
            Op::WriteSame { at, len, .. } | Op::Unmap { at, len } | Op::Anchor { at, len } => {
                (*at, *len, true)
            }
            Op::Extent { at } => (*at, 1, false),
            Op::CompareAndWrite { at, .. } => return failed(ErrorKind::Unsupported, *at),
            Op::Flush => (0, 0, false),
        };
        if let Err(error) = self.check(at, len, writes) {
            return Submitted::Done(Done::Failed(error));
        }
        match op {
            Op::Read { at, len, into } => self.read(tag, at, len, into),
            Op::Write { at, data, fua } => self.write(tag, at, data, fua && !self.in_memory),
            Op::WriteSame { at, len, pattern, fua } => self.write_same(tag, at, len, pattern, fua),
            Op::Unmap { at, len } => self.unmap(tag, at, len),
            Op::Anchor { at, len } => self.anchor(tag, at, len),
            Op::Extent { at } => Submitted::Done(self.extent(at)),
            Op::Flush => self.flush(tag),
            Op::CompareAndWrite { at, .. } => failed(ErrorKind::Unsupported, at),
        }
    }

    fn poll(&mut self, done: &mut Vec<(Tag, Done)>) -> usize {
        let before = done.len();
        for flight in std::mem::take(&mut self.retry) {
            self.restart(flight);
        }
        while let Some((result, flight)) = self.ring.next(self.number) {
            done.extend(self.carry_on(result, flight));
        }
        done.len() - before
    }

    fn inspect(&mut self) -> Health {
        let block = u64::from(self.block);
        let (mut used, mut available) = (None, None);
        match sys::file_space(self.fd) {
            Ok(space) => {
                if let Some(bytes) = space.bytes {
                    // What is mapped is so at its first size: more is there at the next start.
                    let bytes = self.mapping.as_ref().map_or(bytes, |(map, _)| bytes.min(map.len() as u64));
                    self.bytes.store(bytes / block * block, Ordering::Relaxed);
                }
                if self.thin {
                    (used, available) = (Some(space.used), Some(space.available));
                }
            }
            Err(error) => log::debug!("fstat: {error}"),
        }
        Health { bytes: self.bytes.load(Ordering::Relaxed), used, available }
    }

    fn commit(&mut self) {
        self.ring.commit();
    }

    fn must_poll(&self) -> bool {
        !self.retry.is_empty()
    }

    fn lease(&self) -> Option<Lease> {
        let (mapping, _) = self.mapping.as_ref()?;
        Some(Lease::new(Mapped(mapping.clone())))
    }

    fn wake_fd(&self) -> Option<RawFd> {
        Some(self.ring.fd())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handle(folder: &str, mapped: bool) -> io::Result<(PathBuf, Box<dyn Store>)> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = PathBuf::from(folder).join(format!("ptgt-mapped-{}-{number}.img", std::process::id()));
        let size = Some(1 << 20);
        let opened =
            Image::open(&FileOptions { path: path.clone(), size, block: 512, read_only: false, mapped });
        let arena = Arena::new(2 << 20, false)?;
        let store = opened.and_then(|image| image.attach(&Local::new(arena)?));
        store.map(|store| (path.clone(), store)).inspect_err(|_| _ = std::fs::remove_file(path))
    }

    fn read(store: &mut dyn Store, at: u64, len: u32) -> Done {
        match store.submit(Tag(0), Op::Read { at, len, into: Landing::Own }) {
            Submitted::Done(done) => done,
            other => panic!("{other:?}: what is in memory is there at once"),
        }
    }

    #[test]
    fn a_mapped_file_lends_its_pages_and_fails_what_it_has_lost() {
        let (path, mut store) = handle("/dev/shm", true).unwrap();
        assert!(!store.geometry().thin, "all of its space is taken");
        let data = Sg::copied(&Arena::new(2 << 20, false).unwrap(), &[7; 4096]).unwrap();
        let written = store.submit(Tag(1), Op::Write { at: 8192, data, fua: false });
        assert!(matches!(written, Submitted::Done(Done::Finished)));
        let (first, second) = match (read(&mut *store, 8192, 4096), read(&mut *store, 8192, 512)) {
            (Done::Data(first), Done::Data(second)) => (first, second),
            other => panic!("{other:?}"),
        };
        assert_eq!(first.to_vec(), [7; 4096]);
        assert_eq!(first.segs()[0].as_ptr(), second.segs()[0].as_ptr(), "the same bytes, not copies");
        OpenOptions::new().write(true).open(&path).unwrap().set_len(4096).unwrap();
        let lost = read(&mut *store, 8192, 4096);
        assert!(matches!(lost, Done::Failed(Error { kind: ErrorKind::ReadFailed, .. })), "{lost:?}");
        // What was lent before reads as zeros now, and nobody dies of it.
        assert_eq!(first.to_vec(), [0; 4096]);
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_mapped_file_that_grows_has_its_old_size() {
        let (path, mut store) = handle("/dev/shm", true).unwrap();
        OpenOptions::new().write(true).open(&path).unwrap().set_len(2 << 20).unwrap();
        assert_eq!(store.inspect().bytes, 1 << 20);
        let beyond = read(&mut *store, 1 << 20, 512);
        assert!(matches!(beyond, Done::Failed(Error { kind: ErrorKind::OutOfRange, .. })), "{beyond:?}");
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_file_on_a_disk_is_not_mapped() {
        let folder = env!("CARGO_MANIFEST_DIR");
        let target = PathBuf::from(folder).join("target");
        if sys::in_memory(&File::open(&target).unwrap()).unwrap().is_some() {
            return; // the build lies in memory, so there is no disk to try it on
        }
        let refused = handle(target.to_str().unwrap(), true).map(|_| ()).unwrap_err();
        assert!(refused.to_string().contains("tmpfs"), "{refused}");
    }

    /// A file that is removed at the end, and its store.
    struct Opened {
        path: PathBuf,
        store: Box<dyn Store>,
        arena: Arena,
    }

    impl Drop for Opened {
        fn drop(&mut self) {
            _ = std::fs::remove_file(&self.path);
        }
    }

    const SIZE: u64 = 1 << 20;

    impl Opened {
        fn new(folder: &str, name: &str) -> Self {
            Self::with(folder, name, Some(SIZE), false)
        }

        fn path(folder: &str, name: &str) -> PathBuf {
            PathBuf::from(folder).join(format!("ptgt-{name}-{}.img", std::process::id()))
        }

        fn with(folder: &str, name: &str, size: Option<u64>, read_only: bool) -> Self {
            let path = Self::path(folder, name);
            let options = FileOptions { path: path.clone(), size, block: 512, read_only, mapped: false };
            let arena = Arena::new(4 << 20, false).unwrap();
            let store = Image::open(&options).unwrap().attach(&Local::new(arena.clone()).unwrap()).unwrap();
            Self { path, store, arena }
        }

        fn run(&mut self, op: Op) -> Done {
            match self.store.submit(Tag(1), op) {
                Submitted::Done(done) => return done,
                Submitted::Queued => {}
                Submitted::Full(op) => panic!("{op:?} finds no room"),
            }
            let (mut done, mut scratch) = (Vec::new(), Vec::new());
            while self.store.poll(&mut done) == 0 {
                // What has been carried out in part goes on with the rest.
                self.store.commit();
                sys::wait_readable(&[self.store.wake_fd().unwrap()], &mut scratch, Some(LOCK_WAIT));
            }
            done.pop().unwrap().1
        }

        fn write(&mut self, at: u64, byte: u8, len: usize) {
            let data = Sg::copied(&self.arena, &vec![byte; len]).unwrap();
            assert!(matches!(self.run(Op::Write { at, data, fua: true }), Done::Finished));
        }

        fn bytes(&mut self, at: u64, len: u32) -> Vec<u8> {
            match self.run(Op::Read { at, len, into: Landing::Own }) {
                Done::Data(data) => data.to_vec(),
                other => panic!("{other:?}"),
            }
        }

        fn extent(&mut self, at: u64) -> (Allocation, u64) {
            match self.run(Op::Extent { at }) {
                Done::Extent { state, len } => (state, len),
                other => panic!("{other:?}"),
            }
        }

        fn finish(&mut self, op: Op) {
            let done = self.run(op);
            assert!(matches!(done, Done::Finished), "{done:?}");
        }

        fn failure(&mut self, op: Op) -> ErrorKind {
            match self.run(op) {
                Done::Failed(error) => error.kind,
                other => panic!("{other:?}"),
            }
        }

        fn resize(&self, len: u64) {
            OpenOptions::new().write(true).open(&self.path).unwrap().set_len(len).unwrap();
        }
    }

    /// Where files lie on a disk, and in memory.
    const FOLDERS: [&str; 2] = [concat!(env!("CARGO_MANIFEST_DIR"), "/target"), "/dev/shm"];

    /// More than are tried at once, and more than the ring takes at once.
    #[test]
    fn data_in_many_pieces_is_written_whole() {
        let mut file = Opened::new("/dev/shm", "pieces");
        for (count, fua) in [(180, false), (300, false), (1500, false), (1500, true)] {
            let bytes: Vec<u8> =
                (0..count * 512).map(|at| (at / 512 + count + usize::from(fua)) as u8).collect();
            let block = Sg::copied(&file.arena, &bytes).unwrap();
            let mut data = Sg::new();
            for piece in 0..count {
                data.push(block.segs()[0].slice(piece * 512, 512));
            }
            file.finish(Op::Write { at: 512, data, fua });
            assert!(file.bytes(512, bytes.len() as u32) == bytes, "{count} pieces, FUA {fua}");
        }
    }

    #[test]
    fn extents_tell_what_is_allocated() {
        use Allocation::{Anchored, Deallocated, Mapped};
        for (number, folder) in FOLDERS.into_iter().enumerate() {
            let mut file = Opened::new(folder, &format!("extents{number}"));
            assert!(file.store.geometry().thin, "{folder}");
            assert_eq!(file.extent(0), (Deallocated, SIZE), "{folder}");
            file.write(64 << 10, 7, 8192);
            assert_eq!(file.extent(0), (Deallocated, 64 << 10), "{folder}");
            assert_eq!(file.extent((64 << 10) + 512), (Mapped, 8192 - 512), "{folder}");
            assert_eq!(file.extent(72 << 10), (Deallocated, SIZE - (72 << 10)), "{folder}");
            file.finish(Op::Unmap { at: 64 << 10, len: 4096 });
            assert_eq!(file.extent(0), (Deallocated, 68 << 10), "{folder}");
            assert_eq!(file.bytes(64 << 10, 8192), [[0; 4096], [7; 4096]].concat(), "{folder}");
        }
        // Anchored: on a disk unwritten extents, where the file system has them.
        let mut file = Opened::new(FOLDERS[0], "anchored");
        file.write(64 << 10, 7, 4096);
        let before = file.store.inspect().used.unwrap();
        file.finish(Op::Anchor { at: 64 << 10, len: 256 << 10 });
        assert!(file.store.inspect().used.unwrap() >= before + (248 << 10), "its room is taken");
        // (A block that was read is in the page cache, which makes it look like data.)
        let (state, len) = file.extent(64 << 10);
        match state {
            Anchored => {
                assert_eq!(len, 256 << 10);
                file.write(128 << 10, 9, 4096);
                assert_eq!(file.extent(64 << 10), (Anchored, 64 << 10));
                assert_eq!(file.extent(128 << 10), (Mapped, 4096));
                assert_eq!(file.extent(132 << 10), (Anchored, 188 << 10));
            }
            // Zeros were written instead.
            other => assert_eq!((other, len), (Mapped, 256 << 10)),
        }
        assert_eq!(file.extent(320 << 10), (Deallocated, SIZE - (320 << 10)));
        assert_eq!(file.bytes(64 << 10, 8192), [0; 8192]);
        // In memory there is nothing to anchor: zeros take the room.
        let mut file = Opened::new(FOLDERS[1], "anchored");
        file.finish(Op::Anchor { at: 64 << 10, len: 64 << 10 });
        assert_eq!(file.extent(64 << 10), (Mapped, 64 << 10));
        assert_eq!(file.store.inspect().used, Some(64 << 10));
    }

    #[test]
    fn a_file_that_grows_or_shrinks_is_noticed() {
        for (number, folder) in FOLDERS.into_iter().enumerate() {
            let mut file = Opened::new(folder, &format!("grown{number}"));
            let beyond = Op::Read { at: SIZE, len: 512, into: Landing::Own };
            assert_eq!(file.failure(beyond), ErrorKind::OutOfRange);
            assert_eq!(file.store.inspect().used, Some(0), "{folder}: what was tried is taken back");
            file.resize(2 * SIZE + 100);
            assert_eq!(file.store.geometry().bytes, SIZE, "not before it is looked at");
            let health = file.store.inspect();
            assert_eq!((health.bytes, file.store.geometry().bytes), (2 * SIZE, 2 * SIZE), "whole blocks");
            assert!(health.available.is_some_and(|bytes| bytes > 0));
            file.write(2 * SIZE - 512, 5, 512);
            assert_eq!(file.bytes(2 * SIZE - 512, 512), [5; 512]);
            // What has shrunk since it was looked at is out of range, too.
            file.resize(SIZE / 2);
            let lost = Op::Read { at: SIZE, len: 4096, into: Landing::Own };
            assert_eq!(file.failure(lost), ErrorKind::OutOfRange);
            assert_eq!(file.store.inspect().bytes, SIZE / 2);
        }
    }

    #[test]
    fn what_is_read_only_is_not_written() {
        let path = Opened::path(FOLDERS[0], "read-only");
        File::create(&path).unwrap().set_len(SIZE).unwrap();
        let mut copy = Opened::with(FOLDERS[0], "read-only", None, true);
        assert!(copy.store.geometry().read_only);
        let data = Sg::copied(&copy.arena, &[1; 512]).unwrap();
        let pattern = Seg::from_static(&ZEROS).slice(0, 512);
        let ops = [
            Op::Write { at: 0, data, fua: false },
            Op::WriteSame { at: 0, len: 4096, pattern, fua: false },
            Op::Unmap { at: 0, len: 4096 },
            Op::Anchor { at: 0, len: 4096 },
        ];
        for op in ops {
            assert_eq!(copy.failure(op), ErrorKind::ReadOnly);
        }
        copy.finish(Op::Flush);
        assert_eq!(copy.bytes(0, 512), [0; 512]);
    }
}
