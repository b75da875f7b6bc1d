// SPDX-License-Identifier: GPL-2.0-or-later
//! `ptgt bench`: loads an iSCSI target, or layers of our own, and reports its speed and its cost.

#[cfg(any(test, feature = "sim"))]
pub(crate) mod hostile;
mod inprocess;
mod load;
mod login;
mod machine;
mod pattern;
mod report;
mod session;
mod sockets;

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::Duration;

use inprocess::{Depth, StoreKind};
use load::{Load, Spec, Tally, Window};
use login::Credentials;
use machine::Usage;
use pattern::Pattern;
use report::{BenchReport, FORMAT, Frames, Latencies, Verify, Workload};

use crate::adapters::iscsi::accounts::SecretSource;
use crate::control::output;
use crate::fabrics::iscsi::{Account, Secret};

/// Connections of one run.
const CONNECTIONS_MAX: usize = 60_000;

/// Operations under way in one connection.
const DEPTH_MAX: u32 = 1024;

/// Most blocks that are verified: what they hold is kept, in 5 bytes for each.
const VERIFIED_MAX: u64 = 1 << 28;

/// The secret of `--user`, where no file has it.
const SECRET_VARIABLE: &str = "PTGT_BENCH_SECRET";

/// How often the progress is shown.
const PROGRESS: Duration = Duration::from_millis(500);

/// What to run; see `ptgt bench --help`.
#[derive(Clone, Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Arguments {
    #[command(subcommand)]
    command: Option<Subcommand>,
    #[command(flatten)]
    run: Run,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Subcommand {
    /// Compare two results.
    #[command(after_help = "Example: ptgt bench compare before.json after.json")]
    Compare {
        /// The result that counts as 1.
        a: PathBuf,
        /// The other one.
        b: PathBuf,
    },
}

#[derive(Clone, Debug, clap::Args)]
struct Run {
    /// The disk: iscsi://HOST[:PORT]/TARGET/LUN.
    #[arg(value_name = "URL", required_unless_present = "in_process")]
    url: Option<String>,
    /// Load layers of ptgt in this process instead, without a wire.
    #[arg(long, value_name = "LAYERS", conflicts_with = "url")]
    in_process: Option<Depth>,
    /// In process: the store of the disk (ram, null, file:PATH, mapped:PATH).
    #[arg(long, default_value = "ram", requires = "in_process")]
    store: StoreKind,
    /// In process: bytes of the disk.
    #[arg(long, value_name = "SIZE", default_value = "256MiB", value_parser = size, requires = "in_process")]
    size: u64,
    /// In process, with an adapter: its MTU, or 1500.
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u16).range(576..=9978), requires = "in_process")]
    mtu: Option<u16>,
    /// Sessions, of one connection each.
    #[arg(short, long, default_value_t = 1)]
    connections: usize,
    /// Operations in flight in each session.
    #[arg(short, long, default_value_t = 32)]
    depth: u32,
    /// Bytes of an operation.
    #[arg(short, long, value_name = "SIZE", default_value = "4KiB", value_parser = size)]
    block: u64,
    /// Share of reads in percent; the rest are writes.
    #[arg(short, long, value_name = "PERCENT", default_value_t = 100, value_parser = clap::value_parser!(u32).range(0..=100))]
    reads: u32,
    /// random, sequential, zipf or zipf:EXPONENT.
    #[arg(short, long, default_value = "random")]
    pattern: Pattern,
    /// Use only the first SIZE bytes of the disk.
    #[arg(long, value_name = "SIZE", value_parser = size)]
    range: Option<u64>,
    /// Stamp every block that is written, and compare it when it is read.
    #[arg(long)]
    verify: bool,
    /// How long to measure.
    #[arg(short, long, value_name = "SECONDS", default_value_t = 5.0)]
    seconds: f64,
    /// Run this many operations instead, and measure all of them.
    #[arg(short = 'n', long, value_name = "OPERATIONS")]
    count: Option<u64>,
    /// How long to run before the measurement.
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0)]
    warm_up: f64,
    /// In process: a clock that advances by 10 us per turn, so that a run repeats exactly on any machine.
    #[arg(long, requires = "in_process", requires = "count")]
    virtual_clock: bool,
    /// Never sleep: poll the connections.
    #[arg(long)]
    spin: bool,
    /// Spread the sessions over this many threads. In process each is also a core of the target, and all serve one
    /// disk.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// In process: threads take turns of this many operations each, to count what they share.
    #[arg(long, value_name = "OPERATIONS", requires = "in_process", value_parser = clap::value_parser!(u64).range(1..))]
    take_turns: Option<u64>,
    /// Seed of the random numbers.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Authenticate by CHAP as this account. Its secret is in the environment, PTGT_BENCH_SECRET, or in a file.
    #[arg(long, value_name = "NAME", requires = "url")]
    user: Option<String>,
    /// The file with the secret; only its owner may be able to read it.
    #[arg(long, value_name = "FILE", requires = "user")]
    secret_file: Option<PathBuf>,
    /// The target's process, for its processor time.
    #[arg(long, value_name = "PID")]
    target_pid: Option<u32>,
    /// The control socket of the target, if it is ptgt, for the time that its reactors are busy.
    #[arg(long, value_name = "PATH")]
    target_socket: Option<PathBuf>,
    /// The target's configuration, for the record.
    #[arg(long, value_name = "FILE")]
    target_config: Option<PathBuf>,
    /// Name of the result.
    #[arg(long, value_name = "TEXT", default_value = "bench")]
    label: String,
    /// Write the result there as JSON; - is standard output.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Do not show the progress.
    #[arg(short, long)]
    quiet: bool,
}

/// A number of bytes with an optional unit.
fn size(text: &str) -> Result<u64, String> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let shift = match unit.trim().trim_end_matches("iB").trim_end_matches('B') {
        "" => 0,
        "K" | "k" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        "P" => 50,
        "E" => 60,
        _ => return Err("a number with KiB, MiB, GiB, TiB, PiB or EiB".to_owned()),
    };
    let number: u64 =
        number.parse().map_err(|_| "a number with KiB, MiB, GiB, TiB, PiB or EiB".to_owned())?;
    number.checked_mul(1 << shift).ok_or_else(|| "too large".to_owned())
}

/// Where a disk is.
#[derive(Debug, PartialEq, Eq)]
struct Url {
    host: String,
    target: String,
    lun: u16,
}

fn parse_url(text: &str) -> Result<Url, String> {
    let wrong = || format!("{text}: a disk is given as iscsi://HOST[:PORT]/TARGET/LUN");
    let rest = text.strip_prefix("iscsi://").ok_or_else(wrong)?;
    let (host, rest) = rest.split_once('/').ok_or_else(wrong)?;
    let (target, lun) = rest.rsplit_once('/').ok_or_else(wrong)?;
    let lun = lun.parse().map_err(|_| wrong())?;
    let port_given = host.rsplit_once(':').is_some_and(|(before, port)| {
        port.bytes().all(|b| b.is_ascii_digit())
            && !port.is_empty()
            && (!before.contains(':') || before.ends_with(']'))
    });
    let host = if port_given { host.to_owned() } else { format!("{host}:3260") };
    Ok(Url { host, target: target.to_owned(), lun })
}

/// Runs what the arguments say and prints the result. Errors are for people.
pub fn run(arguments: &Arguments) -> Result<(), String> {
    match &arguments.command {
        Some(Subcommand::Compare { a, b }) => {
            output::print(&report::compare(&read(a)?, &read(b)?));
            Ok(())
        }
        None => arguments.run.run(),
    }
}

fn read(path: &Path) -> Result<BenchReport, String> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
    serde_json::from_str(&text).map_err(|e| format!("{}: not a result of ptgt bench: {e}", path.display()))
}

/// Shows how far a run is.
struct Progress {
    quiet: bool,
    next: u64,
    last: u64,
}

impl Progress {
    fn new(quiet: bool) -> Self {
        use std::io::IsTerminal;
        Self { quiet: quiet || !std::io::stderr().is_terminal(), next: 0, last: 0 }
    }

    fn show(&mut self, tally: &Tally, factor: u64) {
        if self.quiet {
            return;
        }
        let now = crate::sys::monotonic();
        if now < self.next {
            return;
        }
        if self.next != 0 {
            let rate = (tally.total - self.last) as f64 * factor as f64 / PROGRESS.as_secs_f64();
            let (wrong, failed) = (tally.wrong, tally.failed);
            output::show_progress(&format!(
                "{rate:>12.0} operations/s, {} done, {failed} failed, {wrong} wrong ",
                tally.total * factor
            ));
        }
        self.last = tally.total;
        self.next = now + u64::try_from(PROGRESS.as_nanos()).expect("short");
    }

    fn end(&self) {
        if !self.quiet {
            output::clear_progress();
        }
    }
}

/// What came of a run.
struct Ran {
    tally: Tally,
    usage: Usage,
    /// What was put under load.
    target: String,
    /// Of the processor, in the target's turns, where that can be told.
    cycles: Option<u64>,
    frames: Option<Frames>,
}

impl Run {
    fn run(&self) -> Result<(), String> {
        let block = self.check()?;
        let ran = match (&self.in_process, &self.url) {
            (Some(depth), _) => self.in_process(*depth, block)?,
            (None, Some(url)) => self.over_sockets(url, block)?,
            (None, None) => return Err("no disk".to_owned()),
        };
        let report = self.report(&ran);
        let tally = ran.tally;
        if let Some(path) = &self.json {
            let json = output::json(&report, false) + "\n";
            match path.to_str() {
                Some("-") => output::print(&json),
                _ => std::fs::write(path, json).map_err(|e| format!("{}: {e}", path.display()))?,
            }
        }
        if self.json.as_deref() != Some(Path::new("-")) {
            output::print(&report::text(&report));
        }
        match (tally.wrong_at, tally.sense) {
            (Some(at), _) => Err(format!(
                "{} blocks hold other data than was written, the first at byte {at}",
                tally.wrong
            )),
            (None, Some((key, code))) => Err(format!(
                "{} operations failed, the first with sense key {key:#x} and additional code {:#04x}/{:#04x}",
                tally.failed,
                code >> 8,
                code & 0xff
            )),
            (None, None) => Ok(()),
        }
    }

    fn check(&self) -> Result<u32, String> {
        let block = u32::try_from(self.block)
            .ok()
            .filter(|block| (512..=16 << 20).contains(block) && block % 512 == 0);
        let block = block.ok_or("--block: a multiple of 512 up to 16 MiB")?;
        if !(1..=CONNECTIONS_MAX).contains(&self.connections) {
            return Err(format!("--connections: 1 to {CONNECTIONS_MAX}"));
        }
        if !(1..=DEPTH_MAX).contains(&self.depth) {
            return Err(format!("--depth: 1 to {DEPTH_MAX}"));
        }
        if self.threads == 0 || self.threads > self.connections {
            return Err("--threads: at least one, and no more than connections".to_owned());
        }
        if self.mtu.is_some() && !self.in_process.is_some_and(Depth::has_mtu) {
            return Err("--mtu: the layers have no adapter (dpdk, dpdk-plain)".to_owned());
        }
        if self.in_process.is_some_and(Depth::has_mtu) && self.threads > 1 {
            return Err("--threads: there is one adapter, with one queue".to_owned());
        }
        if self.in_process.is_some() && self.threads > inprocess::CORES_MAX {
            return Err(format!("--threads: in process there are {} at most", inprocess::CORES_MAX));
        }
        if !(0.01..=1e6).contains(&self.seconds) || !(0.0..=1e6).contains(&self.warm_up) {
            return Err("--seconds, --warm-up: a sane number of seconds".to_owned());
        }
        Ok(block)
    }

    /// When it is measured, from now on.
    fn window(&self, now: crate::time::Instant) -> Window {
        match self.count {
            Some(_) => Window { from: now, end: None },
            None => {
                let from = now + Duration::from_secs_f64(self.warm_up);
                Window { from, end: Some(from + Duration::from_secs_f64(self.seconds)) }
            }
        }
    }

    /// The share of thread `thread` of the work on a disk of `bytes`.
    fn spec(&self, block: u32, bytes: u64, thread: usize, streams: usize) -> Result<Spec, String> {
        let blocks = bytes.min(self.range.unwrap_or(u64::MAX)) / u64::from(block);
        // Threads that verify have blocks of their own, so that each knows what its blocks hold.
        let threads = if self.verify { self.threads as u64 } else { 1 };
        let own = blocks / threads;
        let needed = if self.verify { self.depth as u64 * streams as u64 + 1 } else { 1 };
        if own < needed {
            return Err(format!(
                "the disk, or --range, holds {own} blocks per thread, and {needed} are needed"
            ));
        }
        if self.verify && own.saturating_mul(threads) > VERIFIED_MAX {
            return Err(format!(
                "--verify: the disk holds {blocks} blocks, but at most {VERIFIED_MAX} can be verified: give \
                 --range"
            ));
        }
        Ok(Spec {
            block,
            reads: self.reads,
            pattern: self.pattern.clone(),
            verify: self.verify,
            first: if self.verify { own * thread as u64 } else { 0 },
            blocks: own,
            streams,
            count: self.count.map(|count| {
                let threads = self.threads as u64;
                count / threads + u64::from((thread as u64) < count % threads)
            }),
            seed: self.seed.wrapping_add(thread as u64 * 0x1_0000),
        })
    }

    fn in_process(&self, depth: Depth, block: u32) -> Result<Ran, String> {
        if depth == Depth::Scsi && self.connections > 1 {
            return Err("--connections: there are none at the SCSI layer".to_owned());
        }
        let streams = |thread: usize| (self.connections - thread).div_ceil(self.threads);
        let specs = (0..self.threads).map(|thread| self.spec(block, self.size, thread, streams(thread)));
        let specs = specs.collect::<Result<Vec<_>, _>>()?;
        let setup = inprocess::Setup {
            depth,
            store: self.store.clone(),
            size: self.size,
            sessions: self.connections,
            queue: self.depth,
            huge: false,
            mtu: self.mtu.unwrap_or(1500),
        };
        let mut progress = Progress::new(self.quiet);
        let usage = std::sync::OnceLock::new();
        let window = |now| {
            usage.get_or_init(|| Usage::begin(None, None));
            self.window(now)
        };
        let clock = || -> Box<dyn Fn() -> crate::time::Instant> {
            match self.virtual_clock {
                true => Box::new(inprocess::virtual_clock()),
                false => Box::new(sockets::now),
            }
        };
        let threads = self.threads as u64;
        let mut show = |tally: &Tally| progress.show(tally, threads);
        let outcome = match (&specs[..], self.take_turns) {
            ([spec], None) => inprocess::run(&setup, spec, window, &*clock(), &mut show)?,
            (specs, turns) => {
                let pace = inprocess::Pace { window: &window, clock: &clock, turns };
                inprocess::run_cores(&setup, specs, &pace, &mut show)?
            }
        };
        progress.end();
        let mut usage = usage.into_inner().ok_or("the run has not begun")?.end();
        let (ticks, seconds) = outcome.turns.taken();
        usage.busy = Some(seconds);
        Ok(Ran {
            tally: outcome.tally,
            usage,
            target: format!("in process: {} on {:?}", depth.name(), self.store).to_lowercase(),
            cycles: crate::sys::TICKS_ARE_CYCLES.then_some(ticks),
            frames: outcome.frames,
        })
    }

    /// The account of `--user`.
    fn account(&self) -> Result<Option<Account>, String> {
        let Some(name) = self.user.clone() else { return Ok(None) };
        let secret = match &self.secret_file {
            Some(path) => {
                let read = SecretSource::File(path.clone()).read();
                read.map_err(|refusal| format!("{}; {}", refusal.message, refusal.help))?
            }
            None => {
                let text = std::env::var_os(SECRET_VARIABLE);
                let text = text.ok_or_else(|| {
                    format!("--user: give --secret-file, or the secret in {SECRET_VARIABLE}")
                })?;
                let secret = Secret::new(text.as_encoded_bytes());
                secret.ok_or_else(|| format!("{SECRET_VARIABLE}: a secret has 12 to 255 bytes"))?
            }
        };
        Ok(Some(Account { name, secret }))
    }

    fn over_sockets(&self, url: &str, block: u32) -> Result<Ran, String> {
        let Url { host, target, lun } = parse_url(url)?;
        let account = self.account()?;
        let fail = |e: std::io::Error| format!("{host}: {e}");
        let address: SocketAddr =
            host.to_socket_addrs().map_err(fail)?.next().ok_or_else(|| format!("{host}: no address"))?;
        machine::allow_descriptors(self.connections + 64);
        let mut isid = [0; 4];
        crate::sys::random(&mut isid).map_err(|e| format!("random numbers: {e}"))?;
        let mut shares: Vec<Vec<sockets::Connection>> = (0..self.threads).map(|_| Vec::new()).collect();
        for number in 0..self.connections {
            let [.., high, low] = number.to_be_bytes();
            let who = Credentials {
                initiator: "iqn.2026-11.com.example.ptgt:bench".to_owned(),
                target: target.clone(),
                lun,
                isid: [0x80, isid[0], isid[1], isid[2], high, low],
                account: account.clone(),
            };
            shares[number % self.threads].push(sockets::connect(address, &who)?);
        }
        let terms = &shares[0][0].terms;
        if !block.is_multiple_of(terms.block) {
            return Err(format!("--block: the disk has blocks of {} bytes", terms.block));
        }
        let bytes = terms.bytes;
        let mut specs = Vec::new();
        for (thread, share) in shares.iter().enumerate() {
            specs.push(self.spec(block, bytes, thread, share.len())?);
        }
        let usage = Usage::begin(self.target_pid, self.target_socket.as_deref());
        let window = self.window(sockets::now());
        let (depth, spin, threads) = (self.depth, self.spin, self.threads as u64);
        let results: Vec<Result<Tally, String>> = std::thread::scope(|scope| {
            let runs = shares.into_iter().zip(specs).enumerate().map(|(thread, (share, spec))| {
                let mut progress = Progress::new(self.quiet || thread > 0);
                scope.spawn(move || {
                    let load = Load::new(spec, window);
                    let result =
                        sockets::run(share, depth, spin, load, &mut |tally| progress.show(tally, threads));
                    progress.end();
                    result
                })
            });
            let runs: Vec<_> = runs.collect();
            let ended = runs
                .into_iter()
                .map(|run| run.join().unwrap_or_else(|_| Err("a thread has died".to_owned())));
            ended.collect()
        });
        let usage = usage.end();
        let mut all = Tally::new();
        for result in results {
            all.merge(&result?);
        }
        Ok(Ran { tally: all, usage, target: url.to_owned(), cycles: None, frames: None })
    }

    fn report(&self, ran: &Ran) -> BenchReport {
        let Ran { tally, usage, target, cycles, frames } = ran;
        let seconds = if self.count.is_some() { usage.seconds } else { self.seconds };
        let operations = tally.measured();
        // Processor time is that of the whole run, and so is what it is divided by.
        let total = tally.total.max(1) as f64;
        let each = |seconds: f64| seconds * 1e6 / total;
        // Commands that begin and end in one turn of the SCSI layer take no time that a clock shows.
        let told = |histogram| Latencies::of(histogram).filter(|latencies| latencies.max > 0.0);
        BenchReport {
            format: FORMAT,
            label: self.label.clone(),
            workload: Workload {
                target: target.clone(),
                connections: self.connections,
                depth: self.depth,
                block: u32::try_from(self.block).unwrap_or(u32::MAX),
                reads: self.reads,
                pattern: self.pattern.to_string(),
                threads: self.threads,
                spin: self.spin,
            },
            provenance: machine::provenance(self.target_config.as_deref()),
            seconds,
            operations,
            per_second: operations as f64 / seconds,
            mib_per_second: operations as f64 * self.block as f64 / seconds / f64::from(1 << 20),
            reads: told(&tally.reads),
            writes: told(&tally.writes),
            client_cpu: Some(each(usage.client)),
            target_cpu: usage.target.map(each),
            target_busy: usage.busy.map(each),
            target_idle: usage.idle,
            target_cycles: cycles.map(|cycles| cycles as f64 / total),
            frames: *frames,
            verify: self.verify.then_some(Verify { compared: tally.compared, wrong: tally.wrong }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_urls() {
        assert_eq!(size("4KiB"), Ok(4096));
        assert_eq!(size("512"), Ok(512));
        assert_eq!((size("1G"), size("2PiB"), size("1EiB")), (Ok(1 << 30), Ok(2 << 50), Ok(1 << 60)));
        assert!(size("4 apples").is_err() && size("").is_err() && size("99999999TiB").is_err());
        let url = |text| parse_url(text).unwrap();
        assert_eq!(
            url("iscsi://a/iqn.x:y/3"),
            Url { host: "a:3260".into(), target: "iqn.x:y".into(), lun: 3 }
        );
        assert_eq!(url("iscsi://[::1]/t/0").host, "[::1]:3260");
        assert_eq!(url("iscsi://[::1]:99/t/0").host, "[::1]:99");
        assert_eq!(url("iscsi://1.2.3.4:99/t/0").host, "1.2.3.4:99");
        assert!(parse_url("iscsi://a/t").is_err() && parse_url("nbd://a/t/0").is_err());
    }
}
