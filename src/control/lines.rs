// SPDX-License-Identifier: GPL-2.0-or-later
//! Lines over a Unix stream, each limited in time and length: a peer that is too slow is dropped, even if its bytes
//! trickle in.

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// A stream of lines.
pub(super) struct Lines {
    stream: UnixStream,
    /// What was read beyond the last line.
    rest: Vec<u8>,
    line_max: usize,
}

impl Lines {
    /// Lines of at most `line_max` bytes may be received.
    pub(super) fn new(stream: UnixStream, line_max: usize) -> Self {
        Self { stream, rest: Vec::new(), line_max }
    }

    /// The next line, without its line feed; `None` at the end of the stream. Errors: [`ErrorKind::TimedOut`] when it
    /// is not there in time, [`ErrorKind::InvalidData`] when it is too long, [`ErrorKind::UnexpectedEof`] when it ends
    /// early.
    pub(super) fn receive(&mut self, time: Duration) -> io::Result<Option<Vec<u8>>> {
        let deadline = Instant::now() + time;
        let mut searched = 0;
        loop {
            if let Some(at) = self.rest[searched..].iter().position(|&byte| byte == b'\n') {
                let mut line: Vec<u8> = self.rest.drain(..=searched + at).collect();
                line.pop();
                return Ok(Some(line));
            }
            searched = self.rest.len();
            if searched > self.line_max {
                return Err(ErrorKind::InvalidData.into());
            }
            self.stream.set_read_timeout(Some(left(deadline)?))?;
            let mut piece = [0; 4096];
            match self.stream.read(&mut piece) {
                Ok(0) if self.rest.is_empty() => return Ok(None),
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => self.rest.extend_from_slice(&piece[..count]),
                Err(e) => in_time(e)?,
            }
        }
    }

    /// Sends a line and its line feed.
    pub(super) fn send(&mut self, line: &str, time: Duration) -> io::Result<()> {
        let deadline = Instant::now() + time;
        let line = format!("{line}\n");
        let mut rest = line.as_bytes();
        while !rest.is_empty() {
            self.stream.set_write_timeout(Some(left(deadline)?))?;
            match self.stream.write(rest) {
                Ok(count) => rest = &rest[count..],
                Err(e) => in_time(e)?,
            }
        }
        Ok(())
    }
}

/// What is left of the time.
fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(left) }
}

/// A call that was cut short may go on; [`left`] notices when the time is over.
fn in_time(e: io::Error) -> io::Result<()> {
    match e.kind() {
        ErrorKind::WouldBlock | ErrorKind::Interrupted => Ok(()),
        _ => Err(e),
    }
}
