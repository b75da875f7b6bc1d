// SPDX-License-Identifier: GPL-2.0-or-later
//! The log: formatted by `env_logger` into a bounded queue that a thread of its own writes to stderr, so that a stderr
//! that nobody reads never holds up a reactor. Lines that find the queue full are dropped and counted.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use env_logger::{Builder, Target, WriteStyle};
use log::Level;

/// Lines that wait to be written.
const LINES_MAX: usize = 4096;

/// How long the end of the program waits for the last lines.
const FLUSH_TIME: Duration = Duration::from_secs(1);

/// How often that is tried while the queue is full.
const FLUSH_TRIES: u32 = 100;

enum Line {
    Text(Vec<u8>),
    /// All lines before have been written: say so.
    Flush(SyncSender<()>),
}

/// Where `env_logger` writes to: one call per line.
struct Queue {
    lines: SyncSender<Line>,
    dropped: Arc<AtomicU64>,
}

impl Write for Queue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if let Err(TrySendError::Full(_)) = self.lines.try_send(Line::Text(line.to_vec())) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The running log; [`Log::finish`] waits for the last lines.
pub struct Log {
    lines: Mutex<SyncSender<Line>>,
}

/// Starts the log. `filter` is as in the environment variable RUST_LOG, which overrides it. Errors when there is a log
/// already.
pub fn start(filter: &str) -> Result<Log, String> {
    // A descriptor of its own: what is printed by others may be caught for a while (sys::caught_output).
    let stderr = io::stderr().as_fd().try_clone_to_owned().map_err(|e| format!("stderr: {e}"))?;
    let (queue, log) = start_to(File::from(stderr));
    let mut builder = Builder::new();
    builder.parse_filters(std::env::var("RUST_LOG").as_deref().unwrap_or(filter));
    builder.write_style(WriteStyle::Never).target(Target::Pipe(Box::new(queue)));
    if to_journal() {
        // The journal has its own time and takes the level from a prefix (sd-daemon(3)).
        builder.format(|out, record| writeln!(out, "<{}>{}", syslog_level(record.level()), record.args()));
    } else {
        builder.format_timestamp_millis().format_target(false);
    }
    builder.try_init().map_err(|e| e.to_string())?;
    Ok(log)
}

/// Whether stderr goes to the journal of systemd: JOURNAL_STREAM has its device and inode (systemd.exec(5)).
fn to_journal() -> bool {
    let Ok(stderr) = std::fs::metadata("/proc/self/fd/2") else { return false };
    std::env::var("JOURNAL_STREAM").is_ok_and(|id| id == format!("{}:{}", stderr.dev(), stderr.ino()))
}

/// As in syslog(3).
fn syslog_level(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}

fn start_to(out: impl Write + Send + 'static) -> (Queue, Log) {
    let (lines, queue) = sync_channel(LINES_MAX);
    let dropped = Arc::new(AtomicU64::new(0));
    let counter = dropped.clone();
    // The thread ends with the process: it may be stuck in a write that nobody takes.
    std::thread::Builder::new()
        .name("log".into())
        .spawn(move || write_lines(&queue, &counter, out))
        .expect("a process that cannot start a thread cannot serve either");
    (Queue { lines: lines.clone(), dropped }, Log { lines: Mutex::new(lines) })
}

fn write_lines(queue: &Receiver<Line>, dropped: &AtomicU64, mut out: impl Write) {
    while let Ok(line) = queue.recv() {
        match line {
            // A log that cannot be written has nowhere to complain to.
            Line::Text(text) => _ = out.write_all(&text),
            Line::Flush(done) => {
                _ = out.flush();
                _ = done.send(());
            }
        }
        let lost = dropped.swap(0, Ordering::Relaxed);
        if lost > 0 {
            _ = writeln!(out, "({lost} log lines were dropped: stderr is too slow)");
        }
    }
}

impl Log {
    /// Waits until what was logged is written, but not for a stderr that nobody reads.
    pub fn finish(&self) {
        let (done, wait) = sync_channel(1);
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let mut flush = Line::Flush(done);
        for _ in 0..FLUSH_TRIES {
            match lines.try_send(flush) {
                Ok(()) => {
                    _ = wait.recv_timeout(FLUSH_TIME);
                    return;
                }
                Err(TrySendError::Full(back)) => flush = back,
                Err(TrySendError::Disconnected(_)) => return,
            }
            std::thread::sleep(FLUSH_TIME / FLUSH_TRIES);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_that_nobody_reads_holds_nobody_up() {
        let (mut reader, writer) = io::pipe().unwrap();
        let (mut queue, log) = start_to(writer);
        // More than pipe and queue hold together.
        let (written, long) = (LINES_MAX + 4000, "x".repeat(100));
        for n in 0..written {
            queue.write_all(format!("line {n} {long}\n").as_bytes()).unwrap();
        }
        log.finish();
        drop((queue, log));
        let mut text = String::new();
        io::Read::read_to_string(&mut reader, &mut text).unwrap();
        assert!(text.starts_with("line 0 "));
        let lost = |line: &str| line.strip_prefix('(')?.split(' ').next()?.parse::<usize>().ok();
        let dropped: usize = text.lines().filter_map(lost).sum();
        let kept = text.lines().filter(|line| line.starts_with("line ")).count();
        assert!(dropped > 0);
        assert_eq!(kept + dropped, written, "every line is written or counted");
    }

    /// Takes its time.
    struct Slow(Arc<AtomicU64>);

    impl Write for Slow {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            std::thread::sleep(Duration::from_millis(20));
            self.0.fetch_add(1, Ordering::SeqCst);
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_end_waits_for_the_last_line() {
        let written = Arc::new(AtomicU64::new(0));
        let (mut queue, log) = start_to(Slow(written.clone()));
        (0..5).for_each(|_| queue.write_all(b"line\n").unwrap());
        log.finish();
        assert_eq!(written.load(Ordering::SeqCst), 5);
    }
}
