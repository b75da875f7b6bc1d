// SPDX-License-Identifier: GPL-2.0-or-later
//! The log: formatted by `env_logger` into a bounded queue that a thread of its own writes to stderr, so that a stderr
//! that nobody reads never holds up a reactor. Lines that find the queue full are dropped and counted.
//!
//! A line about a peer has its address as the key-value `peer`, one about a disk its name as `disk`, and if its text
//! varies a `kind`: of each kind a peer gets few and a disk one, the rest is counted. Whatever a line says, it is one
//! line of printable characters when it is written.

mod limits;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt;
use std::panic::PanicHookInfo;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use env_logger::{Builder, Target, WriteStyle};
use log::{Level, LevelFilter, Log as _, Metadata, Record};

use super::config::is_log_filter;
use super::{output, privileges};
use crate::activity;
use crate::wire::Shown;
use limits::{HeldLine, Limits, Subject, TIME};

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
    /// Lines are held back, which is to be told then.
    Held(Instant),
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

/// What is to be said of a panic in this thread.
pub fn last_words(panic: &PanicHookInfo<'_>) -> String {
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("a thread");
    let place = panic.location().map_or_else(String::new, |place| format!(" at {place}"));
    let what = panic.payload_as_str().unwrap_or("a payload that is not text");
    format!("panic in {name}{place}: {what}; {}", activity::now())
}

/// What the threads that log and the one that writes share.
#[derive(Default)]
struct Shared {
    limits: Mutex<Limits>,
    /// Makes lines of records, and knows which are wanted.
    form: OnceLock<env_logger::Logger>,
}

impl Shared {
    fn limits(&self) -> MutexGuard<'_, Limits> {
        self.limits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells of the lines that were held back, of all that began before; returns when to look again.
    fn tell_held(&self, before: Instant) -> Option<Instant> {
        let mut limits = self.limits();
        for HeldLine { level, text } in limits.take(before) {
            let mut record = Record::builder();
            record.level(level).target(module_path!());
            if let Some(form) = self.form.get() {
                form.log(&record.args(format_args!("{text}")).build());
            }
        }
        limits.next()
    }
}

/// What the log's macros speak to.
struct Logger {
    shared: Arc<Shared>,
    lines: SyncSender<Line>,
}

impl Logger {
    /// Whether a record is not one too many about a peer.
    fn admits(&self, record: &Record<'_>) -> bool {
        let Some(subject) = subject(record) else { return true };
        let mut kind = DefaultHasher::new();
        (record.file(), record.line()).hash(&mut kind);
        record.key_values().get("kind".into()).map(|kind| kind.to_string()).hash(&mut kind);
        let mut limits = self.shared.limits();
        let before = limits.next();
        let text = || record.args().to_string();
        let admitted = limits.admit(Instant::now(), (kind.finish(), subject), record.level(), text);
        if let Some(at) = limits.next().filter(|_| before.is_none()) {
            // A queue that is full tells that it was; what is held is told the next time or at the end.
            _ = self.lines.try_send(Line::Held(at));
        }
        admitted
    }
}

impl log::Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.shared.form.get().is_some_and(|form| form.enabled(metadata))
    }

    fn log(&self, record: &Record<'_>) {
        if let Some(form) = self.shared.form.get().filter(|form| form.matches(record))
            && self.admits(record)
        {
            form.log(record);
        }
    }

    fn flush(&self) {}
}

/// Whom or what a record is about.
fn subject(record: &Record<'_>) -> Option<Subject> {
    let value = |key: &str| Some(record.key_values().get(key.into())?.to_string());
    let peer = value("peer").and_then(|peer| {
        peer.parse::<SocketAddr>().map(|peer| peer.ip()).or_else(|_| peer.parse()).ok().map(Subject::Peer)
    });
    peer.or_else(|| value("disk").map(Subject::Named))
}

/// The running log; [`Log::finish`] waits for the last lines.
#[derive(Clone)]
pub struct Log {
    shared: Arc<Shared>,
    lines: SyncSender<Line>,
}

/// Starts the log. `filter` is as in the environment variable RUST_LOG, which overrides it. Errors when there is a log
/// already.
pub fn start(filter: &str) -> Result<Log, String> {
    // A descriptor of its own: what is printed by others may be caught for a while (sys::caught_output).
    let stderr = io::stderr().as_fd().try_clone_to_owned().map_err(|e| format!("stderr: {e}"))?;
    let (queue, log) = start_to(File::from(stderr));
    let mut builder = Builder::new();
    let wish = std::env::var("RUST_LOG").ok();
    let known = wish.as_deref().filter(|wish| are_levels(wish));
    builder.parse_filters(known.unwrap_or(filter));
    let level = log.form(builder, queue, to_journal());
    let logger = Logger { shared: log.shared.clone(), lines: log.lines.clone() };
    log::set_boxed_logger(Box::new(logger)).map_err(|e| e.to_string())?;
    log::set_max_level(level);
    if let (Some(wish), None) = (&wish, known) {
        log::warn!(
            "RUST_LOG={wish}: ignored: give a level (error, warn, info, debug, trace, off), or levels of modules"
        );
    }
    Ok(log)
}

/// Whether RUST_LOG says something that is known: levels, modules of ours, and levels of modules.
fn are_levels(wish: &str) -> bool {
    wish.split(',').all(|part| is_log_filter(part) || part.split("::").next() == Some(env!("CARGO_PKG_NAME")))
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
    let shared = Arc::<Shared>::default();
    let log = Log { shared: shared.clone(), lines: lines.clone() };
    // The thread ends with the process: it may be stuck in a write that nobody takes.
    std::thread::Builder::new()
        .name("log".into())
        .spawn(move || {
            // It writes to a descriptor that is open. One that may not give up anything has nothing to give up.
            _ = privileges::give_up_all();
            write_lines(&queue, &counter, &shared, out);
        })
        .expect("a process that cannot start a thread cannot serve either");
    (Queue { lines, dropped }, log)
}

fn write_lines(queue: &Receiver<Line>, dropped: &AtomicU64, shared: &Shared, mut out: impl Write) {
    let mut held: Option<Instant> = None;
    loop {
        let wait = held.map_or(Duration::MAX, |at| at.saturating_duration_since(Instant::now()));
        match queue.recv_timeout(wait) {
            // A log that cannot be written has nowhere to complain to.
            Ok(Line::Text(text)) => _ = out.write_all(&text),
            Ok(Line::Flush(done)) => {
                _ = out.flush();
                _ = done.send(());
            }
            Ok(Line::Held(at)) => held = Some(at),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        let now = Instant::now();
        if held.is_some_and(|at| at <= now) {
            held = shared.tell_held(now - TIME);
        }
        let lost = dropped.swap(0, Ordering::Relaxed);
        if lost > 0 {
            _ = writeln!(out, "({lost} log lines were dropped: stderr is too slow)");
        }
    }
}

impl Log {
    /// Says how lines look, and gives them to the queue; returns the levels that are wanted. Whatever a record says,
    /// its line is one line of printable characters.
    fn form(&self, mut builder: Builder, queue: Queue, journal: bool) -> LevelFilter {
        builder.format(move |out, record| {
            let (level, text) = (record.level(), record.args().to_string());
            match journal {
                // The journal has its own time and takes the level from a prefix (sd-daemon(3)).
                true => writeln!(out, "<{}>{}", syslog_level(level), Shown(&text)),
                false => writeln!(out, "[{} {level:<5}] {}", out.timestamp_millis(), Shown(&text)),
            }
        });
        let form = builder.write_style(WriteStyle::Never).target(Target::Pipe(Box::new(queue))).build();
        self.shared.form.get_or_init(|| form).filter()
    }

    /// From now on a panic is told in the log, with what its thread was about, and the log is written to its end before
    /// the process goes down.
    pub fn tell_panics(&self) {
        let log = self.clone();
        std::panic::set_hook(Box::new(move |panic| {
            log.tell_end(&last_words(panic));
            let trace = Backtrace::capture();
            if trace.status() == BacktraceStatus::Captured {
                trace.to_string().lines().for_each(|line| log::error!("{line}"));
            }
            log.finish();
        }));
    }

    /// Tells what ends the daemon: in the log, or on stderr where the log leaves errors out.
    pub fn tell_end(&self, why: &str) {
        match log::log_enabled!(Level::Error) {
            true => log::error!("{why}"),
            false => output::tell(&format!("ptgt: {why}")),
        }
    }

    /// Waits until what was logged is written, but not for a stderr that nobody reads.
    pub fn finish(&self) {
        self.shared.tell_held(Instant::now());
        let (done, wait) = sync_channel(1);
        let mut flush = Line::Flush(done);
        for _ in 0..FLUSH_TRIES {
            match self.lines.try_send(flush) {
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
    use crate::wire::tests::{HOSTILE, is_clean};

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

    /// A vector that is written to elsewhere.
    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn started(journal: bool) -> (Written, Log, Logger) {
        let out = Written::default();
        let (queue, log) = start_to(out.clone());
        let mut builder = Builder::new();
        builder.filter_level(LevelFilter::Info);
        assert_eq!(log.form(builder, queue, journal), LevelFilter::Info);
        let logger = Logger { shared: log.shared.clone(), lines: log.lines.clone() };
        (out, log, logger)
    }

    /// Whatever is logged, as one line and printable: the last place where that can be seen to.
    #[test]
    fn each_record_is_one_printable_line() {
        for (journal, (text, shown)) in
            [false, true].into_iter().flat_map(|to| HOSTILE.iter().map(move |it| (to, it)))
        {
            let (out, log, logger) = started(journal);
            logger.log(&Record::builder().level(Level::Warn).args(format_args!("said {text} there")).build());
            log.finish();
            let line = String::from_utf8(out.0.lock().unwrap().clone()).unwrap();
            assert!(
                is_clean(line.as_bytes()) && line.ends_with(&format!("said {shown} there\n")),
                "{line:?}"
            );
            assert_eq!(line.lines().count(), 1, "{line:?}");
            assert!(line.starts_with(if journal { "<4>said" } else { "[2" }), "{line:?}");
        }
    }

    #[test]
    fn a_peer_does_not_flood_the_log() {
        let (out, log, logger) = started(false);
        let peer: SocketAddr = "10.0.0.7:1".parse().unwrap();
        for n in 0..1000_u16 {
            let peer = SocketAddr::new(peer.ip(), n);
            let kind = if n % 100 == 7 { "rare" } else { "often" };
            let values = [("peer", log::kv::Value::from_display(&peer)), ("kind", kind.into())];
            let mut record = Record::builder();
            record.level(Level::Info).key_values(&values);
            logger.log(&record.args(format_args!("{kind} {n}")).build());
            logger.log(&Record::builder().level(Level::Info).args(format_args!("of no peer")).build());
        }
        log.finish();
        let text = String::from_utf8(out.0.lock().unwrap().clone()).unwrap();
        let count = |what: &str| text.lines().filter(|line| line.contains(what)).count();
        assert_eq!(
            [count("] often"), count("] rare"), count("] of no peer")],
            [limits::LINES as usize, 10, 1000]
        );
        assert_eq!(count("10.0.0.7: 970 more lines like this one, not shown: often 21"), 1, "{text}");
        assert_eq!(text.lines().count(), 1000 + limits::LINES as usize + 10 + 1);
    }

    #[test]
    fn the_last_words_of_a_thread_name_the_connection_and_the_pdu() {
        static SAID: Mutex<String> = Mutex::new(String::new());
        let others = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| match std::thread::current().name() {
            Some("reactor-77") => *SAID.lock().unwrap() = last_words(panic),
            _ => others(panic),
        }));
        let dies = std::thread::Builder::new().name("reactor-77".into()).spawn(|| {
            activity::serve("10.0.0.7:1234".parse().unwrap(), Some((0x01, 0x2a)));
            panic!("no way out");
        });
        dies.unwrap().join().unwrap_err();
        let said = SAID.lock().unwrap();
        for part in [
            "panic in reactor-77 at src/control/logging.rs:",
            "no way out",
            "10.0.0.7:1234",
            "opcode 0x01",
            "0x0000002a",
        ] {
            assert!(said.contains(part), "{part} in {said}");
        }
    }
}
