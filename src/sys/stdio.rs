// SPDX-License-Identifier: GPL-2.0-or-later
//! Catching what a library prints.

use std::ffi::c_int;
use std::io::{self, Read as _, Seek as _};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::sync::Once;
use std::sync::atomic::{AtomicI32, Ordering};

use super::mapping::memory_file;

/// The file of what is being caught, and where it goes if the process ends before it is read; -1: nothing is caught.
static CAUGHT: AtomicI32 = AtomicI32::new(-1);
static STDERR: AtomicI32 = AtomicI32::new(-1);

/// Makes a call with all that the process prints meanwhile, on any thread, caught: it is returned. If the call ends the
/// process (exit(3), abort(3)), it goes to stderr. For one call at a time.
pub fn caught_output<T>(call: impl FnOnce() -> T) -> io::Result<(T, String)> {
    let mut file = memory_file()?;
    let fd = file.as_raw_fd();
    let kept = [keep(libc::STDOUT_FILENO)?, keep(libc::STDERR_FILENO)?];
    replace(libc::STDOUT_FILENO, fd)?;
    let second = replace(libc::STDERR_FILENO, fd);
    STDERR.store(kept[1].as_raw_fd(), Ordering::Release);
    CAUGHT.store(fd, Ordering::Release);
    let before = at_the_end();
    let result = second.is_ok().then(call);
    // SAFETY: a null stream means all streams of C.
    unsafe { libc::fflush(std::ptr::null_mut()) };
    // SAFETY: the handler that was there; no other memory is involved.
    unsafe { libc::signal(libc::SIGABRT, before) };
    CAUGHT.store(-1, Ordering::Release);
    replace(libc::STDOUT_FILENO, kept[0].as_raw_fd())?;
    replace(libc::STDERR_FILENO, kept[1].as_raw_fd())?;
    second?;
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    result.map(|result| (result, text)).ok_or_else(|| io::ErrorKind::Other.into())
}

/// Has [`spill`] called at the end of the process. Returns the handler of SIGABRT that was there before.
fn at_the_end() -> libc::sighandler_t {
    extern "C" fn on_abort(_: c_int) {
        // abort(3) goes on when this returns.
        spill();
    }
    extern "C" fn on_exit() {
        // SAFETY: a null stream means all streams of C.
        unsafe { libc::fflush(std::ptr::null_mut()) };
        spill();
    }
    static ONCE: Once = Once::new();
    // SAFETY: the function may be called at any time, and stays.
    ONCE.call_once(|| _ = unsafe { libc::atexit(on_exit) });
    let handler: extern "C" fn(c_int) = on_abort;
    // SAFETY: the handler makes system calls only.
    unsafe { libc::signal(libc::SIGABRT, handler as libc::sighandler_t) }
}

/// Copies what was caught to stderr. Safe in the handler of a signal.
fn spill() {
    let from = CAUGHT.swap(-1, Ordering::AcqRel);
    let to = STDERR.load(Ordering::Acquire);
    let (mut bytes, mut at) = ([0_u8; 4096], 0);
    loop {
        // SAFETY: room for as many bytes. The reading has a place of its own in the file; here and below, a descriptor
        // that is no longer open is an error.
        let count = unsafe { libc::pread(from, bytes.as_mut_ptr().cast(), bytes.len(), at) };
        let Some(mut rest) = usize::try_from(count).ok().and_then(|count| bytes.get(..count)) else { return };
        if rest.is_empty() {
            return;
        }
        at += count as libc::off_t;
        while !rest.is_empty() {
            // SAFETY: as many bytes are readable.
            let count = unsafe { libc::write(to, rest.as_ptr().cast(), rest.len()) };
            let Some(left) = usize::try_from(count).ok().and_then(|count| rest.get(count..)) else { return };
            rest = left;
        }
    }
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

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// Prints through C's buffered stream and past it, as DPDK does.
    fn say(line: &str) {
        let line = std::ffi::CString::new(line).unwrap();
        // SAFETY: strings.
        unsafe {
            libc::puts(line.as_ptr());
            libc::write(libc::STDERR_FILENO, c"past it\n".as_ptr().cast(), 8);
        }
    }

    #[test]
    fn what_a_call_prints_is_caught_and_gets_out_if_it_ends_the_process() {
        const HOW: &str = "PTGT_TEST_END";
        match std::env::var(HOW).as_deref() {
            Ok("returns") => {
                let (seven, said) = caught_output(|| {
                    say("caught");
                    7
                })
                .unwrap();
                assert_eq!((seven, said.as_str()), (7, "past it\ncaught\n"));
            }
            Ok("exits") => {
                _ = caught_output(|| {
                    say("last words");
                    // SAFETY: the process ends.
                    unsafe { libc::exit(3) }
                });
            }
            Ok("aborts") => {
                _ = caught_output(|| {
                    say("in C's buffer, which an abort does not write");
                    std::process::abort();
                });
            }
            _ => {
                for (how, code, wanted) in [
                    ("returns", Some(0), ""),
                    ("exits", Some(3), "past it\nlast words\n"),
                    ("aborts", None, "past it\n"),
                ] {
                    let name = std::thread::current().name().unwrap().to_owned();
                    let run = Command::new(std::env::current_exe().unwrap())
                        .args(["--exact", &name, "--nocapture"])
                        .env(HOW, how)
                        .output()
                        .unwrap();
                    let said = String::from_utf8_lossy(&run.stderr);
                    assert_eq!((run.status.code(), said.as_ref()), (code, wanted), "{how}: {run:?}");
                }
            }
        }
    }
}
