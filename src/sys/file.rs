// SPDX-License-Identifier: GPL-2.0-or-later
//! What files can do beyond the standard library.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, RawFd};

fn result(n: isize) -> io::Result<usize> {
    usize::try_from(n).map_err(|_| io::Error::last_os_error())
}

fn offset(at: u64) -> io::Result<i64> {
    i64::try_from(at).map_err(|_| io::ErrorKind::InvalidInput.into())
}

/// Reads what is there without waiting for a disk (`nowait`; files in memory never wait). May be short.
pub fn read_cached(fd: RawFd, into: &mut [u8], at: u64, nowait: bool) -> io::Result<usize> {
    let piece = libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: into.len() };
    let flags = if nowait { libc::RWF_NOWAIT } else { 0 };
    // SAFETY: the piece is `into`, borrowed for the call.
    result(unsafe { libc::preadv2(fd, &raw const piece, 1, offset(at)?, flags) })
}

/// Writes into the page cache what it takes without waiting (`nowait`; files in memory never wait). May be short.
///
/// # Safety
/// Every piece must be readable memory for its length.
pub unsafe fn write_cached(fd: RawFd, pieces: &[libc::iovec], at: u64, nowait: bool) -> io::Result<usize> {
    let count = i32::try_from(pieces.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let flags = if nowait { libc::RWF_NOWAIT } else { 0 };
    // SAFETY: the caller vouches for the pieces.
    result(unsafe { libc::pwritev2(fd, pieces.as_ptr(), count, offset(at)?, flags) })
}

/// Whether byte `at` is data or a hole, and where that ends (`None`: at the end of the file).
pub fn data_extent(fd: RawFd, at: u64) -> io::Result<(bool, Option<u64>)> {
    let seek = |whence| {
        // SAFETY: no memory is involved. The file position is used by nobody else.
        let found = unsafe { libc::lseek(fd, offset(at)?, whence) };
        u64::try_from(found).map_err(|_| io::Error::last_os_error())
    };
    match seek(libc::SEEK_DATA) {
        Ok(data) if data > at => Ok((false, Some(data))),
        Ok(_) => Ok((true, Some(seek(libc::SEEK_HOLE)?))),
        Err(e) if e.raw_os_error() == Some(libc::ENXIO) => Ok((false, None)),
        Err(e) => Err(e),
    }
}

/// Whether the file system has this mode of fallocate(2). Tried on the first page of a file that is there for that.
pub fn can_allocate(file: &File, mode: i32) -> bool {
    // SAFETY: no memory is involved.
    unsafe { libc::fallocate(file.as_raw_fd(), mode | libc::FALLOC_FL_KEEP_SIZE, 0, 4096) == 0 }
}

/// A lock of the whole file, of its open file description: one to write, which takes a file that is open for writing,
/// or one of those that may be held together.
fn whole_file(writes: bool) -> libc::flock {
    let kind = if writes { libc::F_WRLCK } else { libc::F_RDLCK };
    // SAFETY: all-zero numbers are a lock, and lengths of 0 reach to any end.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = i16::try_from(kind).expect("kinds of locks are small");
    lock
}

/// Locks a file until it is closed; `false` if another process has a lock that is in the way. Unlike flock(2), a lock
/// to write is only for those who may write the file.
pub fn lock_file(file: &File, writes: bool) -> io::Result<bool> {
    let lock = whole_file(writes);
    // SAFETY: lock is valid for reading.
    if unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw const lock) } == 0 {
        return Ok(true);
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::EAGAIN | libc::EACCES) => Ok(false),
        _ => Err(error),
    }
}

/// Who holds a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LockHolder {
    /// It is one to write.
    pub writes: bool,
    /// The process, if the kernel tells.
    pub process: Option<u32>,
}

/// Whose lock would be in the way of one of ours.
pub fn lock_holder(file: &File, writes: bool) -> io::Result<Option<LockHolder>> {
    let mut lock = whole_file(writes);
    // SAFETY: lock is valid for reading and writing.
    if unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_GETLK, &raw mut lock) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(match i32::from(lock.l_type) {
        libc::F_UNLCK => None,
        kind => Some(LockHolder { writes: kind == libc::F_WRLCK, process: u32::try_from(lock.l_pid).ok() }),
    })
}

/// The room that a file has and could have, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Its size; `None` for what is neither a regular file nor a block device.
    pub bytes: Option<u64>,
    /// What is allocated to it.
    pub used: u64,
    /// What its file system has left.
    pub available: u64,
    /// Names that it has.
    pub links: u64,
}

/// How much room a file has.
pub fn file_space(fd: RawFd) -> io::Result<Space> {
    // SAFETY: all-zero structures are valid places for answers.
    let (mut stat, mut fs): (libc::stat, libc::statvfs) = unsafe { (std::mem::zeroed(), std::mem::zeroed()) };
    // SAFETY: stat and fs are valid for writing.
    if unsafe { libc::fstat(fd, &raw mut stat) < 0 || libc::fstatvfs(fd, &raw mut fs) < 0 } {
        return Err(io::Error::last_os_error());
    }
    let size = match stat.st_mode & libc::S_IFMT {
        libc::S_IFREG => stat.st_size,
        // SAFETY: no memory is involved. The file position is used by nobody else.
        libc::S_IFBLK => unsafe { libc::lseek(fd, 0, libc::SEEK_END) },
        _ => -1,
    };
    Ok(Space {
        bytes: u64::try_from(size).ok(),
        used: u64::try_from(stat.st_blocks).unwrap_or(0) * 512,
        available: fs.f_bavail.saturating_mul(fs.f_frsize),
        links: stat.st_nlink,
    })
}

/// The first extent of the file that touches a range, as offset and length; `None` if there is none.
pub fn first_extent(fd: RawFd, at: u64, len: u64) -> io::Result<Option<(u64, u64)>> {
    /// `struct fiemap` of linux/fiemap.h with one `struct fiemap_extent`.
    #[repr(C)]
    #[derive(Default)]
    struct Fiemap {
        start: u64,
        length: u64,
        flags: u32,
        mapped: u32,
        count: u32,
        reserved: u32,
        logical: u64,
        physical: u64,
        extent: u64,
        reserved64: [u64; 2],
        extent_flags: u32,
        reserved32: [u32; 3],
    }
    /// `_IOWR('f', 11, struct fiemap)`, whose extents do not count.
    const FS_IOC_FIEMAP: libc::c_ulong = 0xc020_660b;
    let mut map = Fiemap { start: at, length: len, count: 1, ..Fiemap::default() };
    // SAFETY: map is valid for reading and writing, and has room for the one extent that it asks for.
    match unsafe { libc::ioctl(fd, FS_IOC_FIEMAP as _, &raw mut map) } {
        0 => Ok((map.mapped > 0).then_some((map.logical, map.extent))),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The file systems whose files lie in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InMemory {
    /// Ordinary pages, which write(2) reaches.
    Tmpfs,
    /// Huge pages of this many bytes, which only a mapping writes.
    Hugetlbfs(usize),
}

/// Whether the file's bytes live in memory. Those of a block device do not, though its node lies on a devtmpfs.
pub fn in_memory(file: &File) -> io::Result<Option<InMemory>> {
    if !file.metadata()?.is_file() {
        return Ok(None);
    }
    // SAFETY: an all-zero statfs is a valid place for an answer.
    let mut stat: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: stat is valid for writing.
    if unsafe { libc::fstatfs(file.as_raw_fd(), &raw mut stat) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(match stat.f_type {
        libc::TMPFS_MAGIC => Some(InMemory::Tmpfs),
        libc::HUGETLBFS_MAGIC => {
            Some(InMemory::Hugetlbfs(usize::try_from(stat.f_bsize).map_err(|_| io::ErrorKind::InvalidData)?))
        }
        _ => None,
    })
}

/// Size of a block device in bytes.
pub fn block_device_size(file: &File) -> io::Result<u64> {
    use std::io::{Seek, SeekFrom};
    let mut file = file;
    file.seek(SeekFrom::End(0))
}
