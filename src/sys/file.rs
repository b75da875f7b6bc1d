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

/// Whether holes can be punched into the file. Tried behind its end, where nothing is.
pub fn can_punch(file: &File, end: u64) -> bool {
    let Ok(end) = offset(end) else { return false };
    let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    // SAFETY: no memory is involved.
    unsafe { libc::fallocate(file.as_raw_fd(), mode, end, 4096) == 0 }
}

/// Whether the file lives in memory.
pub fn is_tmpfs(file: &File) -> io::Result<bool> {
    // SAFETY: an all-zero statfs is a valid place for an answer.
    let mut stat: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: stat is valid for writing.
    match unsafe { libc::fstatfs(file.as_raw_fd(), &raw mut stat) } {
        0 => Ok(stat.f_type == libc::TMPFS_MAGIC),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Size of a block device in bytes.
pub fn block_device_size(file: &File) -> io::Result<u64> {
    use std::io::{Seek, SeekFrom};
    let mut file = file;
    file.seek(SeekFrom::End(0))
}
