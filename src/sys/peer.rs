// SPDX-License-Identifier: GPL-2.0-or-later
//! Who is on the other end of a Unix socket, and who we are.

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

/// The user id of the process that connected (`SO_PEERCRED`, unix(7)).
pub fn peer_uid(stream: &UnixStream) -> io::Result<u32> {
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
    if rc == 0 { Ok(peer.uid) } else { Err(io::Error::last_os_error()) }
}

/// The user id that this process acts as.
pub fn effective_uid() -> u32 {
    // SAFETY: no memory is involved; it always succeeds.
    unsafe { libc::geteuid() }
}
