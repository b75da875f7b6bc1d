// SPDX-License-Identifier: GPL-2.0-or-later
//! Readiness of many descriptors, and gathered sends.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::time::Duration;

/// An epoll instance. Descriptors leave it when they are closed.
#[derive(Debug)]
pub struct Epoll(File);

/// What happened to a descriptor.
#[derive(Clone, Copy, Debug)]
pub struct Ready {
    /// The number that it was added with.
    pub data: u64,
    /// It may be read, or has failed or ended, which reading will tell.
    pub readable: bool,
    /// The peer will send no more, or all is over.
    pub ended: bool,
    /// It may be written.
    pub writable: bool,
}

impl Epoll {
    /// A new one.
    pub fn new() -> io::Result<Self> {
        // SAFETY: no memory is involved.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: fd is a fresh descriptor that nobody else owns.
        Ok(Self(unsafe { File::from_raw_fd(fd) }))
    }

    /// Watches `fd`, told by its edges (`edge`) or as long as it is readable.
    pub fn add(&self, fd: RawFd, data: u64, edge: bool) -> io::Result<()> {
        let events = match edge {
            true => libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLRDHUP | libc::EPOLLET,
            false => libc::EPOLLIN,
        };
        let mut event = libc::epoll_event { events: events.cast_unsigned(), u64: data };
        // SAFETY: event is valid for the call.
        let rc = unsafe { libc::epoll_ctl(self.0.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, &raw mut event) };
        if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Stops watching `fd`.
    pub fn remove(&self, fd: RawFd) {
        // SAFETY: no memory is involved; a descriptor that is not there is an error that does no harm.
        unsafe { libc::epoll_ctl(self.0.as_raw_fd(), libc::EPOLL_CTL_DEL, fd, std::ptr::null_mut()) };
    }

    /// Appends what is ready now, without waiting; at most 64 at a time.
    pub fn poll(&self, ready: &mut Vec<Ready>) {
        self.wait(ready, Duration::ZERO);
    }

    /// As [`Self::poll`], but waits until something is ready or `timeout` has passed, to the millisecond.
    pub fn wait(&self, ready: &mut Vec<Ready>, timeout: Duration) {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; 64];
        let timeout = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: events has room for 64 entries.
        let n = unsafe { libc::epoll_wait(self.0.as_raw_fd(), events.as_mut_ptr(), 64, timeout) };
        let n = usize::try_from(n).unwrap_or(0);
        ready.extend(events[..n].iter().map(|event| {
            let flags = event.events.cast_signed();
            let ended = flags & (libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR) != 0;
            let readable = ended || flags & libc::EPOLLIN != 0;
            Ready { data: event.u64, readable, ended, writable: flags & libc::EPOLLOUT != 0 }
        }));
    }
}

impl AsRawFd for Epoll {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// Sends what lies in the pieces without waiting, and returns how many bytes were taken.
///
/// # Safety
/// Every piece must be readable memory for its length.
pub unsafe fn send_pieces(fd: RawFd, pieces: &mut [libc::iovec]) -> io::Result<usize> {
    // SAFETY: an all-zero msghdr is an empty message.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = pieces.as_mut_ptr();
    message.msg_iovlen = pieces.len();
    let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
    // SAFETY: the message describes `pieces`, which the caller vouches for.
    let n = unsafe { libc::sendmsg(fd, &raw const message, flags) };
    usize::try_from(n).map_err(|_| io::Error::last_os_error())
}
