// SPDX-License-Identifier: GPL-2.0-or-later
//! What a library prints by itself, caught.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// Runs `call` with standard output and standard error going to memory, and returns what was written there. Other threads
/// that write at the same time are caught, too.
pub fn caught_output<T>(call: impl FnOnce() -> T) -> io::Result<(T, String)> {
    // SAFETY: the name is a string; no other memory is involved.
    let fd = unsafe { libc::memfd_create(c"output".as_ptr(), libc::MFD_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: fd is a fresh descriptor that nobody else owns.
    let mut file = unsafe { File::from_raw_fd(fd) };
    let kept = [keep(libc::STDOUT_FILENO)?, keep(libc::STDERR_FILENO)?];
    replace(libc::STDOUT_FILENO, fd)?;
    let second = replace(libc::STDERR_FILENO, fd);
    let result = second.is_ok().then(call);
    // SAFETY: a null stream means all streams of C.
    unsafe { libc::fflush(std::ptr::null_mut()) };
    replace(libc::STDOUT_FILENO, kept[0].as_raw_fd())?;
    replace(libc::STDERR_FILENO, kept[1].as_raw_fd())?;
    second?;
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    result.map(|result| (result, text)).ok_or_else(|| io::ErrorKind::Other.into())
}

fn keep(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: no memory is involved.
    let copy = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 3) };
    if copy < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: copy is a fresh descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

fn replace(fd: RawFd, by: RawFd) -> io::Result<()> {
    // SAFETY: no memory is involved; both descriptors are open.
    match unsafe { libc::dup2(by, fd) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}
