// SPDX-License-Identifier: GPL-2.0-or-later
//! Sleeping and waking: eventfd, poll, and where a thread runs.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::time::Duration;

/// A counter in the kernel that one thread waits for and others raise.
#[derive(Debug)]
pub struct EventFd(File);

impl EventFd {
    /// A new one, not raised.
    pub fn new() -> io::Result<Self> {
        // SAFETY: no memory is involved.
        let fd = unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: fd is a fresh descriptor that nobody else owns.
        Ok(Self(unsafe { File::from_raw_fd(fd) }))
    }

    /// Raises it. A full counter is raised already.
    pub fn raise(&self) {
        _ = (&self.0).write(&1u64.to_ne_bytes());
    }

    /// Lowers it.
    pub fn lower(&self) {
        _ = (&self.0).read(&mut [0; 8]);
    }
}

impl AsRawFd for EventFd {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// Sleeps until one of `fds` is readable or `timeout` has passed; `None` waits for ever. Signals end the sleep early.
pub fn wait_readable(fds: &[RawFd], scratch: &mut Vec<libc::pollfd>, timeout: Option<Duration>) {
    scratch.clear();
    scratch.extend(fds.iter().map(|&fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 }));
    let timeout = timeout.map(|t| libc::timespec {
        tv_sec: t.as_secs().min(3600).cast_signed(),
        tv_nsec: i64::from(t.subsec_nanos()),
    });
    let timeout = timeout.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    let count = scratch.len() as libc::nfds_t;
    // SAFETY: scratch holds `count` entries and outlives the call; timeout is null or points at a live timespec.
    unsafe { libc::ppoll(scratch.as_mut_ptr(), count, timeout, std::ptr::null()) };
}

/// Binds the calling thread to a processor.
pub fn pin_to_core(core: usize) -> io::Result<()> {
    // SAFETY: an all-zero cpu_set_t is the empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    if core >= libc::CPU_SETSIZE.unsigned_abs() as usize {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: core is below CPU_SETSIZE, so the bit is inside the set.
    unsafe { libc::CPU_SET(core, &mut set) };
    // SAFETY: the set is valid for its size; 0 names the calling thread.
    let rc = unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Fills `bytes` from the kernel's cryptographic source.
pub fn random(bytes: &mut [u8]) -> io::Result<()> {
    let mut done = 0;
    while done < bytes.len() {
        let rest = &mut bytes[done..];
        // SAFETY: rest is writable for its length.
        let n = unsafe { libc::getrandom(rest.as_mut_ptr().cast(), rest.len(), 0) };
        match usize::try_from(n) {
            Ok(n) => done += n,
            Err(_) if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return Err(io::Error::last_os_error()),
        }
    }
    Ok(())
}

/// The processors that a thread may run on.
pub struct Affinity(libc::cpu_set_t);

impl Affinity {
    /// Whether a processor is among them.
    pub fn has(&self, processor: usize) -> bool {
        // SAFETY: the processor is below the size of the set.
        processor < libc::CPU_SETSIZE.unsigned_abs() as usize
            && unsafe { libc::CPU_ISSET(processor, &self.0) }
    }

    /// The first of them.
    pub fn first(&self) -> Option<usize> {
        (0..libc::CPU_SETSIZE.unsigned_abs() as usize).find(|&processor| self.has(processor))
    }
}

/// Those of the calling thread.
pub fn affinity() -> io::Result<Affinity> {
    // SAFETY: an all-zero cpu_set_t is the empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the set is writable for its size; 0 names the calling thread.
    let rc = unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set) };
    if rc == 0 { Ok(Affinity(set)) } else { Err(io::Error::last_os_error()) }
}

/// Lets the calling thread run on these.
pub fn set_affinity(Affinity(set): &Affinity) -> io::Result<()> {
    // SAFETY: the set is valid for its size; 0 names the calling thread.
    let rc = unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), set) };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
