// SPDX-License-Identifier: GPL-2.0-or-later
//! A plain image file or block device, block for block.
//!
//! What the page cache has is read at once and without waiting; what it lacks, and all that waits for the disk, goes
//! through the core's io_uring. An image on a disk is never mapped, where a full disk is a signal and an I/O error is
//! lost: only files in memory are. All of their space is taken then, and so they can be written through the mapping,
//! too.

mod open;
mod users;

use std::cell::Cell;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::Backing;
use super::exclusive::{Exclusive, ExclusiveGate};
use super::ring::{Flight, RingOp, Shared};
use crate::io::{Allocation, Done, Error, ErrorKind, Geometry, Health, Landing, Op, Store, Submitted, Tag};
use crate::memory::{Arena, Lease, Pages, Region, RegionPages, Seg, Sg};
use crate::reactor::CoreContext;
use crate::sys::{self, FileMapping, InMemory};

pub use open::{FileOptions, ImageRefusal, patiently};
use open::{FoundImage, Opened};
pub(super) use open::{directory, trial};

/// Longest read or write: the largest block of the arena.
const TRANSFER_MAX: u32 = 1 << 20;

/// Pieces of a write that is tried at once: more than 256 KiB have in frames of 1500 bytes. What is beyond goes through
/// the ring.
const INLINE_PIECES: usize = 256;

static ZEROS: [u8; 4096] = [0; 4096];

/// How long a write takes it for granted that a file has the size that it had: less than the 10 ms after which no write
/// makes a file longer that somebody has shortened.
const SIZE_LASTS: Duration = Duration::from_millis(4);

pub(super) struct Image {
    file: Arc<File>,
    bytes: Arc<AtomicU64>,
    /// A block device, which no write makes longer.
    device: bool,
    block: u32,
    read_only: bool,
    thin: bool,
    /// The file system has unwritten extents.
    zero_range: bool,
    /// The bytes are in memory whatever happens (tmpfs, hugetlbfs): nothing ever waits.
    in_memory: bool,
    /// Its mapping, which is what is lent of it.
    mapping: Option<(Arc<FileMapping>, Region)>,
    gate: Arc<ExclusiveGate>,
    name: Arc<str>,
}

impl Image {
    pub(super) fn open(options: &FileOptions) -> io::Result<Self> {
        let Opened { file, found } = options.open()?;
        let FoundImage { bytes, device, in_memory, thin, zero_range } = found;
        let mapping = match options.mapped {
            false => None,
            true => {
                let mapping = Arc::new(map(&file, bytes, in_memory, options.read_only)?);
                // The space of the file is taken, and nobody takes parts of it away.
                let pages = RegionPages {
                    pages: if mapping.is_huge() { Pages::Huge } else { Pages::Ordinary },
                    writable: mapping.is_writable(),
                    present: true,
                };
                Some((mapping.clone(), Region::new(mapping, pages)))
            }
        };
        Ok(Self {
            file: Arc::new(file),
            bytes: Arc::new(AtomicU64::new(bytes)),
            device,
            block: options.block,
            read_only: options.read_only,
            thin,
            zero_range,
            in_memory: in_memory.is_some(),
            mapping,
            gate: Arc::default(),
            name: options.name.as_str().into(),
        })
    }
}

/// Maps the bytes of a file in memory, whose space is taken.
fn map(file: &File, bytes: u64, in_memory: Option<InMemory>, read_only: bool) -> io::Result<FileMapping> {
    let page = match in_memory {
        Some(InMemory::Hugetlbfs(page)) => page,
        _ => sys::PAGE,
    };
    let len = usize::try_from(bytes).map_err(|_| io::ErrorKind::FileTooLarge)?;
    FileMapping::new(file, len, page, !read_only)
}

impl Backing for Image {
    fn attach(&self, context: &CoreContext) -> io::Result<Box<dyn Store>> {
        let ring = context.shared(Shared::new)?;
        if let Some((_, region)) = &self.mapping {
            context.add_region(region);
        }
        let handle = FileStore {
            fd: self.file.as_raw_fd(),
            file: self.file.clone(),
            name: self.name.clone(),
            deleted: false,
            bytes: self.bytes.clone(),
            told: self.bytes.load(Ordering::Relaxed),
            // A mapping has no bytes behind its end, and a device cannot grow.
            may_lengthen: !self.device && !self.read_only && self.mapping.is_none(),
            size_known: Cell::new(0),
            block: self.block,
            read_only: self.read_only,
            thin: self.thin,
            zero_range: self.zero_range,
            in_memory: self.in_memory,
            mapping: self.mapping.clone().map(|(mapping, region)| {
                let pages = Lease::new(region.clone());
                (mapping, region, pages)
            }),
            arena: context.arena().clone(),
            number: ring.join(),
            ring,
            retry: Vec::new(),
            pieces: Vec::with_capacity(INLINE_PIECES),
        };
        Ok(Box::new(Exclusive::new(handle, self.gate.clone())))
    }

    fn lasts(&self) -> bool {
        !self.in_memory
    }

    fn region(&self) -> Option<&Region> {
        self.mapping.as_ref().map(|(_, region)| region)
    }
}

struct FileStore {
    fd: RawFd,
    file: Arc<File>,
    /// What the disk is called in the log.
    name: Arc<str>,
    /// The size that was told last.
    told: u64,
    /// It has been told that nobody finds the image any more.
    deleted: bool,
    bytes: Arc<AtomicU64>,
    /// A write beyond the end of the file would make it longer.
    may_lengthen: bool,
    /// When a write has looked at the size last ([`sys::monotonic`]).
    size_known: Cell<u64>,
    block: u32,
    read_only: bool,
    thin: bool,
    zero_range: bool,
    in_memory: bool,
    /// The mapping, and its pages to be lent.
    mapping: Option<(Arc<FileMapping>, Region, Lease)>,
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
        if writes && self.may_lengthen {
            self.look_at_size();
        }
        if at.checked_add(len).is_none_or(|end| end > self.bytes.load(Ordering::Relaxed)) {
            return Err(Error { kind: ErrorKind::OutOfRange, at });
        }
        if writes && self.read_only {
            return Err(Error { kind: ErrorKind::ReadOnly, at });
        }
        Ok(())
    }

    /// Notices that somebody has shortened the file: what is written behind its end is out of range, and makes it no
    /// longer. A system call every few milliseconds in which there are writes, each of which is one itself.
    fn look_at_size(&self) {
        let now = sys::monotonic();
        if now - self.size_known.get() < SIZE_LASTS.as_nanos() as u64 {
            return;
        }
        self.size_known.set(now);
        let block = u64::from(self.block);
        if let Ok(bytes) = self.file.metadata().map(|meta| meta.len() / block * block)
            && bytes < self.bytes.load(Ordering::Relaxed)
        {
            self.bytes.fetch_min(bytes, Ordering::Relaxed);
        }
    }

    fn read(&mut self, tag: Tag, at: u64, len: u32, into: Landing) -> Submitted {
        if let (Some((mapping, _, pages)), Landing::Own | Landing::Lent(_)) = (&self.mapping, &into) {
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
        self.mapping.as_ref().map(|(mapping, ..)| &**mapping).filter(|mapping| mapping.is_writable())
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
            Err(_) => return Some((flight.tag, self.failed_by(-result, &flight))),
        };
        let ended = match &mut flight.work {
            // Nothing where bytes should be: the file has become shorter.
            RingOp::Read { .. } if result == 0 => {
                self.tell("a read", flight.at, &"its image has become shorter");
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
                // What is left of a long write begins late.
                if let RingOp::Write { data, .. } = &work
                    && let Err(error) = self.check(flight.at, data.len() as u64, true)
                {
                    return Some((flight.tag, Done::Failed(error)));
                }
                self.restart(Flight::new(self.number, flight.tag, self.fd, flight.at, work));
                None
            }
        }
    }

    /// What an error number of the kernel means for a flight. It is told in the log, unless it is a matter of memory or
    /// of what the file system can do.
    fn failed_by(&self, errno: i32, flight: &Flight) -> Done {
        let error = error(errno, flight);
        let what = match &flight.work {
            RingOp::Read { .. } => "a read",
            RingOp::Write { .. } => "a write",
            RingOp::Sync => "a flush",
            RingOp::Allocate { .. } => "a change of what is allocated",
        };
        if !matches!(error.kind, ErrorKind::NoMemory | ErrorKind::Unsupported) {
            self.tell(what, error.at, &io::Error::from_raw_os_error(errno));
        }
        Done::Failed(error)
    }

    fn tell(&self, what: &str, at: u64, why: &dyn std::fmt::Display) {
        let name = &self.name;
        log::warn!(disk:% = name, kind = what; "disk {name:?}: {what} at byte {at} failed: {why}");
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

/// See [`FileStore::failed_by`].
fn error(errno: i32, flight: &Flight) -> Error {
    let (kind, done) = match (&flight.work, errno) {
        (_, libc::ENOMEM) => (ErrorKind::NoMemory, 0),
        (RingOp::Read { done, .. }, _) => (ErrorKind::ReadFailed, *done),
        (_, libc::ENOSPC | libc::EDQUOT) => (ErrorKind::NoSpace, 0),
        (_, libc::EROFS | libc::EBADF | libc::EPERM) => (ErrorKind::ReadOnly, 0),
        (RingOp::Allocate { .. }, libc::EOPNOTSUPP) => (ErrorKind::Unsupported, 0),
        (RingOp::Write { done, .. }, _) => (ErrorKind::WriteFailed, *done),
        _ => (ErrorKind::WriteFailed, 0),
    };
    Error { kind, at: flight.at + done as u64 }
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
        let before = self.bytes.load(Ordering::Relaxed);
        match sys::file_space(self.fd) {
            Ok(space) => {
                if let Some(bytes) = space.bytes {
                    // What is mapped is so at its first size: more is there at the next start.
                    let bytes = self.mapping.as_ref().map_or(bytes, |(map, ..)| bytes.min(map.len() as u64));
                    // What a write has noticed meanwhile is newer.
                    let (now, relaxed) = (bytes / block * block, Ordering::Relaxed);
                    _ = self.bytes.compare_exchange(before, now, relaxed, relaxed);
                    let (name, told) = (&self.name, std::mem::replace(&mut self.told, now));
                    if now != told {
                        let how = if now < told { "been cut" } else { "grown" };
                        log::warn!(disk:% = name, kind = how; "disk {name:?}: its image has {how} from {told} to {now} bytes");
                    }
                }
                if space.links == 0 && !std::mem::replace(&mut self.deleted, true) {
                    let name = &self.name;
                    log::warn!(
                        "disk {name:?}: its image has been deleted: its contents are lost when the daemon ends"
                    );
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
        let (_, region, _) = self.mapping.as_ref()?;
        Some(Lease::new(region.clone()))
    }

    fn wake_fd(&self) -> Option<RawFd> {
        Some(self.ring.fd())
    }
}

#[cfg(test)]
mod tests;
