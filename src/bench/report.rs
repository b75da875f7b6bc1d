// SPDX-License-Identifier: GPL-2.0-or-later
//! The result of a run: as text, as JSON, and compared with another.

use std::fmt::Write as _;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Version of the JSON form.
pub(super) const FORMAT: u32 = 1;

/// A run: what was asked for, where, and what came of it. Times are in microseconds unless they say otherwise.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct BenchReport {
    /// Version of this form.
    pub format: u32,
    /// What it is called in comparisons.
    pub label: String,
    /// What was run.
    pub workload: Workload,
    /// Where and with what.
    pub provenance: Provenance,
    /// How long it was measured.
    pub seconds: f64,
    /// Operations that ended in that time.
    pub operations: u64,
    /// Operations per second.
    pub per_second: f64,
    /// MiB of payload per second.
    pub mib_per_second: f64,
    /// Latencies of reads; `null` without reads.
    pub reads: Option<Latencies>,
    /// Latencies of writes; `null` without writes.
    pub writes: Option<Latencies>,
    /// Processor time of this process per operation.
    pub client_cpu: Option<f64>,
    /// Processor time of the target per operation, as the kernel counts it.
    pub target_cpu: Option<f64>,
    /// Time that the target's reactors were doing something, or that its turns in process took, per operation.
    pub target_busy: Option<f64>,
    /// Cycles of the target's turns in process, per operation.
    pub target_cycles: Option<f64>,
    /// Share of the time that the target's threads did not run, 0 to 1.
    pub target_idle: Option<f64>,
    /// What was compared; `null` without verification.
    pub verify: Option<Verify>,
    /// Frames that went over a wire in memory; `null` without one.
    pub frames: Option<Frames>,
}

/// Frames that went over a wire in memory.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(super) struct Frames {
    /// To the target.
    pub to_target: u64,
    /// Of the target's.
    pub from_target: u64,
    /// Of those, how many had their payload where it was.
    pub in_place: u64,
    /// Those of the target's with a wrong checksum, where somebody has looked.
    pub wrong_sums: u64,
}

impl Frames {
    pub(super) fn add(&mut self, other: &Self) {
        let Self { to_target, from_target, in_place, wrong_sums } = other;
        self.to_target += to_target;
        self.from_target += from_target;
        self.in_place += in_place;
        self.wrong_sums += wrong_sums;
    }
}

/// What was run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Workload {
    /// `iscsi://...`, or the layers and the store of a run in process.
    pub target: String,
    /// Sessions.
    pub connections: usize,
    /// Operations under way in each.
    pub depth: u32,
    /// Bytes of each.
    pub block: u32,
    /// Share of reads in percent.
    pub reads: u32,
    /// Which blocks.
    pub pattern: String,
    /// Threads of the client.
    pub threads: usize,
    /// Whether the client spins.
    pub spin: bool,
}

/// Where and with what.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Provenance {
    /// Version of the load generator.
    pub version: String,
    /// FNV-1a hash of the target's configuration, if it was given.
    pub config: Option<String>,
    /// The kernel.
    pub kernel: String,
    /// The processor.
    pub cpu: String,
    /// How many of them there are.
    pub cpus: usize,
    /// Huge pages of the pool, all and free.
    pub hugepages: String,
    /// Processors that the client may use.
    pub pinning: String,
    /// Seconds since 1970 at the end.
    pub time: u64,
}

/// A distribution of latencies.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Latencies {
    /// Shortest.
    pub min: f64,
    /// Average.
    pub mean: f64,
    /// Half are not longer.
    pub p50: f64,
    /// Of ten, one is longer.
    pub p90: f64,
    /// Of a hundred.
    pub p99: f64,
    /// Of a thousand.
    pub p999: f64,
    /// Longest.
    pub max: f64,
    /// The whole histogram: upper end of each bucket in nanoseconds, and how many are in it; empty ones are left out.
    pub histogram: Vec<(u64, u64)>,
}

/// What was compared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Verify {
    /// Blocks whose content was known and was compared.
    pub compared: u64,
    /// Those that were wrong.
    pub wrong: u64,
}

impl Latencies {
    pub(super) fn of(histogram: &Histogram<u64>) -> Option<Self> {
        let micros = |nanos: u64| nanos as f64 / 1000.0;
        let quantile = |q| micros(histogram.value_at_quantile(q));
        (!histogram.is_empty()).then(|| Self {
            min: micros(histogram.min()),
            mean: histogram.mean() / 1000.0,
            p50: quantile(0.5),
            p90: quantile(0.9),
            p99: quantile(0.99),
            p999: quantile(0.999),
            max: micros(histogram.max()),
            histogram: histogram
                .iter_recorded()
                .map(|step| (step.value_iterated_to(), step.count_at_value()))
                .collect(),
        })
    }
}

/// The result for people.
pub(super) fn text(report: &BenchReport) -> String {
    let w = &report.workload;
    let mut text = format!("{}: {}\n", report.label, w.target);
    let kind = match w.reads {
        100 => "read".to_owned(),
        0 => "write".to_owned(),
        reads => format!("{reads} % read"),
    };
    let _ = writeln!(
        text,
        "  {} {kind}, {} bytes, {} connection{} x depth {}",
        w.pattern,
        w.block,
        w.connections,
        if w.connections == 1 { "" } else { "s" },
        w.depth
    );
    let _ = writeln!(
        text,
        "  {:.0} operations/s, {:.1} MiB/s ({} operations in {:.2} s)",
        report.per_second, report.mib_per_second, report.operations, report.seconds
    );
    for (name, latencies) in [("read", &report.reads), ("write", &report.writes)] {
        if let Some(l) = latencies {
            let _ = writeln!(
                text,
                "  {name} latency, us: min {:.1}, p50 {:.1}, p90 {:.1}, p99 {:.1}, p99.9 {:.1}, max {:.1}",
                l.min, l.p50, l.p90, l.p99, l.p999, l.max
            );
        }
    }
    let mut cpu = Vec::new();
    for (name, value) in
        [("client", report.client_cpu), ("target", report.target_cpu), ("target busy", report.target_busy)]
    {
        cpu.extend(value.map(|value| format!("{name} {value:.2}")));
    }
    if !cpu.is_empty() {
        let _ = writeln!(text, "  CPU us per operation: {}", cpu.join(", "));
    }
    if let Some(cycles) = report.target_cycles {
        let _ = writeln!(text, "  cycles of the target per operation: {cycles:.0}");
    }
    if let Some(frames) = report.frames {
        let Frames { to_target, from_target, in_place, wrong_sums } = frames;
        let _ = writeln!(
            text,
            "  frames: {to_target} to the target, {from_target} from it, {in_place} of them with payload sent from where \
             it lay, {wrong_sums} with a wrong checksum"
        );
    }
    if let Some(Verify { compared, wrong }) = report.verify {
        let _ = writeln!(text, "  verified: {compared} blocks, {wrong} wrong");
    }
    text
}

/// Two results beside each other, with the second as a multiple of the first.
pub(super) fn compare(a: &BenchReport, b: &BenchReport) -> String {
    let mut text = format!("{:<24} {:>12} {:>12} {:>8}\n", "", a.label, b.label, "ratio");
    if a.workload != (Workload { target: a.workload.target.clone(), ..b.workload.clone() }) {
        text += "(the workloads differ)\n";
    }
    let latency = |of: fn(&Latencies) -> f64, report: &BenchReport| {
        report.reads.as_ref().or(report.writes.as_ref()).map(of)
    };
    let rows: [(&str, Option<f64>, Option<f64>); 9] = [
        ("operations/s", Some(a.per_second), Some(b.per_second)),
        ("MiB/s", Some(a.mib_per_second), Some(b.mib_per_second)),
        ("p50, us", latency(|l| l.p50, a), latency(|l| l.p50, b)),
        ("p99, us", latency(|l| l.p99, a), latency(|l| l.p99, b)),
        ("p99.9, us", latency(|l| l.p999, a), latency(|l| l.p999, b)),
        ("client CPU, us/op", a.client_cpu, b.client_cpu),
        ("target CPU, us/op", a.target_cpu, b.target_cpu),
        ("target busy, us/op", a.target_busy, b.target_busy),
        ("target, cycles/op", a.target_cycles, b.target_cycles),
    ];
    for (name, a, b) in rows {
        if let (Some(a), Some(b)) = (a, b) {
            let _ = writeln!(text, "{name:<24} {a:>12.2} {b:>12.2} {:>8.2}", b / a);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_survives_and_its_quantiles_are_those_of_the_values() {
        let mut histogram = Histogram::new_with_bounds(1, 60_000_000_000, 3).unwrap();
        for micros in 1..=1000u64 {
            histogram.record(micros * 1000).unwrap();
        }
        let latencies = Latencies::of(&histogram).unwrap();
        assert!((latencies.p50 - 500.0).abs() < 1.0, "{}", latencies.p50);
        assert!((latencies.p99 - 990.0).abs() < 1.0, "{}", latencies.p99);
        assert_eq!(latencies.histogram.iter().map(|(_, count)| count).sum::<u64>(), 1000);
        assert!(Latencies::of(&Histogram::new(3).unwrap()).is_none());
    }
}
