// SPDX-License-Identifier: GPL-2.0-or-later
//! Who is on the other end of a Unix socket, and who we are.

use std::ffi::CString;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

/// `SO_PEERCRED` (unix(7)).
fn peer(stream: &UnixStream) -> io::Result<libc::ucred> {
    let mut peer = libc::ucred { pid: 0, uid: u32::MAX, gid: u32::MAX };
    let mut len = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: peer is writable for len bytes, and len says so.
    let rc = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut peer).cast(),
            &raw mut len,
        )
    };
    if rc == 0 { Ok(peer) } else { Err(io::Error::last_os_error()) }
}

/// The user id of the process that connected.
pub fn peer_uid(stream: &UnixStream) -> io::Result<u32> {
    peer(stream).map(|peer| peer.uid)
}

/// The process that listens where we have connected; `None` if it is in a PID namespace that we cannot see.
pub fn peer_pid(stream: &UnixStream) -> io::Result<Option<u32>> {
    peer(stream).map(|peer| u32::try_from(peer.pid).ok().filter(|pid| *pid != 0))
}

/// The user id that this process acts as.
pub fn effective_uid() -> u32 {
    // SAFETY: no memory is involved; it always succeeds.
    unsafe { libc::geteuid() }
}

/// Whether a failure holds whoever asks: it is no matter of the user's rights.
pub fn holds_for_all(e: &io::Error) -> bool {
    e.kind() != io::ErrorKind::PermissionDenied || effective_uid() == 0
}

/// Whether this process may make files in a directory.
pub fn may_write(directory: &Path) -> io::Result<()> {
    let path = CString::new(directory.as_os_str().as_bytes())?;
    // SAFETY: path ends with a zero.
    let rc =
        unsafe { libc::faccessat(libc::AT_FDCWD, path.as_ptr(), libc::W_OK | libc::X_OK, libc::AT_EACCESS) };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
