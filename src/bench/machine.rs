// SPDX-License-Identifier: GPL-2.0-or-later
//! What a run costs, and the machine that it runs on.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::report::Provenance;
use crate::control::client;
use crate::control::status::StatusRequest;
use crate::sys;

/// Processor time that has been used; afterwards the difference, in seconds.
#[derive(Clone, Debug, Default)]
pub(super) struct Usage {
    pub(super) seconds: f64,
    pub(super) client: f64,
    /// As the kernel counts it.
    pub(super) target: Option<f64>,
    /// As the target's reactors count it.
    pub(super) busy: Option<f64>,
    /// Share of the time that the target did not run.
    pub(super) idle: Option<f64>,
    pid: Option<u32>,
    socket: Option<PathBuf>,
}

impl Usage {
    pub(super) fn begin(pid: Option<u32>, socket: Option<&Path>) -> Self {
        Self { pid, socket: socket.map(Path::to_owned), ..Self::default() }.now()
    }

    fn now(self) -> Self {
        Self {
            seconds: Duration::from_nanos(sys::monotonic()).as_secs_f64(),
            client: sys::processor_time().as_secs_f64(),
            target: self.pid.and_then(scheduled).map(|time| time.as_secs_f64()),
            busy: self.socket.as_deref().and_then(busy),
            ..self
        }
    }

    /// What was used since.
    pub(super) fn end(self) -> Self {
        let now = self.clone().now();
        let passed = |before: Option<f64>, now: Option<f64>| Some(now? - before?);
        let seconds = now.seconds - self.seconds;
        let target = passed(self.target, now.target);
        Self {
            seconds,
            client: now.client - self.client,
            target,
            busy: passed(self.busy, now.busy),
            idle: target.map(|target| (1.0 - target / seconds).max(0.0)),
            ..self
        }
    }
}

/// Time that the threads of a process have run: the scheduler's own count, in nanoseconds.
fn scheduled(pid: u32) -> Option<Duration> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    let nanos = tasks.flatten().filter_map(|task| {
        let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    });
    Some(Duration::from_nanos(nanos.sum()))
}

/// Time that the reactors of a daemon have been busy.
fn busy(socket: &Path) -> Option<f64> {
    let status = client::status(socket, StatusRequest { sessions: false }).ok()?;
    Some(status.reactors.iter().map(|reactor| reactor.busy_seconds).sum())
}

/// Lets the process have so many descriptors, if it may.
pub(super) fn allow_descriptors(count: usize) {
    // Too few show as an error of the connection that has none.
    _ = sys::raise_descriptor_limit(count as u64);
}

fn line<'a>(text: &'a str, name: &str) -> &'a str {
    let found = text.lines().find_map(|line| line.strip_prefix(name));
    found.map_or("", |rest| rest.trim_start_matches([':', '\t', ' ']))
}

/// Where this runs.
pub(super) fn provenance(config: Option<&Path>) -> Provenance {
    let file = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let (cpus, pages, status) = (file("/proc/cpuinfo"), file("/proc/meminfo"), file("/proc/self/status"));
    let hash = |bytes: Vec<u8>| {
        let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        format!("{hash:016x}")
    };
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    Provenance {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        config: config.and_then(|path| fs::read(path).ok()).map(hash),
        kernel: file("/proc/sys/kernel/osrelease").trim().to_owned(),
        cpu: line(&cpus, "model name").to_owned(),
        cpus: cpus.lines().filter(|line| line.starts_with("processor")).count(),
        hugepages: format!(
            "{} of which {} free",
            line(&pages, "HugePages_Total"),
            line(&pages, "HugePages_Free")
        ),
        pinning: line(&status, "Cpus_allowed_list").to_owned(),
        time: since.map_or(0, |time| time.as_secs()),
    }
}
