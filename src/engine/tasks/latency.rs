// SPDX-License-Identifier: GPL-2.0-or-later
//! How long commands take: on each core, a histogram per logical unit, kind of command and stage. Nobody else writes
//! it; those of all cores are put together when somebody asks. They belong to the logical unit, and so stay when
//! sessions go.
//!
//! A core reads the clock once per turn of its loop. A command is there from the beginning of the turn in which it came
//! in, and over at the end of the turn in which its status was given to the port. What a store does at once takes no
//! time that could be told apart from the rest of its turn, and is counted in the total only.
//!
//! The histogram is not the one of hdrhistogram, which `ptgt bench` records with: that needs 3.6 KiB at one digit (25
//! KiB at two) and 3.4 ns per record, keeps no sum, and there are up to twelve per logical unit and core; this one has
//! 1.8 KiB and takes 1.8 ns.

use std::time::Duration;

use crate::time::Instant;

/// What a command does with data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandKind {
    /// It moves data to the initiator.
    Read,
    /// It takes data from the initiator.
    Write,
    /// Neither.
    Other,
}

impl CommandKind {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 3] = [Self::Read, Self::Write, Self::Other];

    /// For machines.
    pub fn name(self) -> &'static str {
        ["read", "write", "other"][self as usize]
    }
}

/// What a command waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Its turn: tasks before it, or a change of the logical unit.
    Turn,
    /// Its Data-Out.
    Fetch,
    /// The store.
    Store,
    /// Everything: from the command to its status.
    Total,
}

impl Stage {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 4] = [Self::Turn, Self::Fetch, Self::Store, Self::Total];

    /// For machines.
    pub fn name(self) -> &'static str {
        ["turn", "fetch", "store", "total"][self as usize]
    }
}

/// What is shorter is not told apart, in nanoseconds.
const UNIT_SHIFT: u32 = 8;

/// Buckets per power of two, as an exponent: a bucket ends at most an eighth above where it begins.
const PARTS_SHIFT: u32 = 3;

/// Powers of two that are told apart. What takes longer than 2^38 ns, almost five minutes, is in the last bucket.
const OCTAVES: u32 = 30;

const BUCKETS: usize = ((OCTAVES - PARTS_SHIFT + 1) << PARTS_SHIFT) as usize;

/// How many commands took how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram {
    buckets: [u64; BUCKETS],
    sum: u64,
    max: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: [0; BUCKETS], sum: 0, max: 0 }
    }
}

/// The bucket of so many nanoseconds.
fn bucket(nanos: u64) -> usize {
    let units = (nanos >> UNIT_SHIFT).min((1 << OCTAVES) - 1);
    let octave = (units | 1).ilog2().max(PARTS_SHIFT);
    let part = units >> (octave - PARTS_SHIFT);
    (((octave - PARTS_SHIFT) as usize) << PARTS_SHIFT) + usize::try_from(part).unwrap_or(0)
}

/// Where a bucket ends, in nanoseconds.
fn end(bucket: usize) -> u64 {
    let parts = 1 << PARTS_SHIFT;
    match bucket.checked_sub(parts) {
        None => (bucket as u64 + 1) << UNIT_SHIFT,
        Some(above) => ((above % parts + parts + 1) as u64) << (above / parts) << UNIT_SHIFT,
    }
}

impl Histogram {
    pub(super) fn record(&mut self, nanos: u64) {
        self.buckets[bucket(nanos)] += 1;
        self.sum += nanos;
        self.max = self.max.max(nanos);
    }

    /// Adds what another core has counted.
    pub fn add(&mut self, other: &Self) {
        for (mine, others) in self.buckets.iter_mut().zip(&other.buckets) {
            *mine += others;
        }
        self.sum += other.sum;
        self.max = self.max.max(other.max);
    }

    /// How many were counted.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Nanoseconds of all of them.
    pub fn sum(&self) -> u64 {
        self.sum
    }

    /// The longest, in nanoseconds.
    pub fn max(&self) -> u64 {
        self.max
    }

    /// What so many in a thousand did not exceed, in nanoseconds: the end of its bucket, at most an eighth too high.
    pub fn quantile(&self, thousandths: u64) -> u64 {
        let wanted = (self.count() * thousandths).div_ceil(1000);
        let mut seen = 0;
        let found = self.buckets.iter().position(|count| {
            seen += count;
            seen >= wanted.max(1)
        });
        found.map_or(0, |bucket| end(bucket).min(self.max))
    }

    /// Buckets that are not empty: where they end, in nanoseconds, and how many are in them.
    pub fn buckets(&self) -> impl Iterator<Item = (u64, u64)> {
        let counted = self.buckets.iter().enumerate().filter(|(_, count)| **count > 0);
        counted.map(|(bucket, &count)| (end(bucket), count))
    }
}

/// The histograms of a logical unit on one core. Room for one is made when there is something to count.
#[derive(Clone, Debug, Default)]
pub struct Latencies([[Option<Box<Histogram>>; Stage::ALL.len()]; CommandKind::ALL.len()]);

impl Latencies {
    pub(super) fn record(&mut self, kind: CommandKind, stage: Stage, nanos: u64) {
        self.0[kind as usize][stage as usize].get_or_insert_default().record(nanos);
    }

    /// Those in which something is counted.
    pub fn all(&self) -> impl Iterator<Item = (CommandKind, Stage, &Histogram)> {
        let of_kind = move |kind: CommandKind| {
            let stages = Stage::ALL.into_iter();
            stages.filter_map(move |stage| {
                Some((kind, stage, self.0[kind as usize][stage as usize].as_deref()?))
            })
        };
        CommandKind::ALL.into_iter().flat_map(of_kind)
    }

    /// Adds what another core has counted.
    pub fn add(&mut self, other: &Self) {
        for (kind, stage, histogram) in other.all() {
            self.0[kind as usize][stage as usize].get_or_insert_default().add(histogram);
        }
    }
}

/// The times of one task.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    came: Instant,
    /// When it last went on.
    since: Instant,
    /// Nanoseconds in each stage but the total.
    waited: [u64; Stage::Total as usize],
}

impl Times {
    pub(super) fn new(now: Instant) -> Self {
        Self { came: now, since: now, waited: [0; Stage::Total as usize] }
    }

    /// It goes on, after it has waited for something.
    #[inline]
    pub(super) fn went_on(&mut self, now: Instant, stage: Option<Stage>) {
        if let Some(stage) = stage {
            self.waited[stage as usize] += nanos(now - self.since);
        }
        self.since = now;
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Commands that have ended in this turn: they are counted when it is over.
#[derive(Debug, Default)]
pub(super) struct Ended(Vec<(usize, CommandKind, Times)>);

impl Ended {
    #[inline]
    pub(super) fn push(&mut self, unit: usize, kind: CommandKind, times: Times) {
        self.0.push((unit, kind, times));
    }

    /// Has them recorded at their logical units, now that their statuses are with the port.
    pub(super) fn count(&mut self, now: Instant, mut record: impl FnMut(usize, CommandKind, Stage, u64)) {
        for (unit, kind, times) in self.0.drain(..) {
            record(unit, kind, Stage::Total, nanos(now - times.came));
            for (stage, waited) in Stage::ALL.into_iter().zip(times.waited).filter(|(_, waited)| *waited > 0)
            {
                record(unit, kind, stage, waited);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_is_in_the_bucket_that_ends_above_it() {
        let mut before = 0;
        for nanos in (0..40).flat_map(|power| [1_u64 << power, (1 << power) + 1, (1 << power) * 3 / 2]) {
            let bucket = bucket(nanos);
            assert!(bucket < BUCKETS);
            if nanos < 1 << (OCTAVES + UNIT_SHIFT) {
                assert!(nanos < end(bucket), "{nanos}");
                assert!(end(bucket) <= (nanos + nanos / 8 + 1).max(nanos + (1 << UNIT_SHIFT)), "{nanos}");
            }
            before = before.max(bucket);
        }
        assert_eq!(before, BUCKETS - 1);
        assert!((1..BUCKETS).all(|bucket| end(bucket) > end(bucket - 1)));
        assert!((0..BUCKETS).all(|at| bucket(end(at) - 1) == at));
    }

    #[test]
    fn histograms_of_cores_add_up() {
        let (mut one, mut two) = (Latencies::default(), Latencies::default());
        for i in 1..=900 {
            one.record(CommandKind::Read, Stage::Total, i * 1000);
        }
        for _ in 0..100 {
            two.record(CommandKind::Read, Stage::Total, 5_000_000);
        }
        two.record(CommandKind::Write, Stage::Fetch, 7);
        one.add(&two);
        let all: Vec<_> = one.all().map(|(kind, stage, it)| (kind, stage, it.count())).collect();
        assert_eq!(all, [(CommandKind::Read, Stage::Total, 1000), (CommandKind::Write, Stage::Fetch, 1)]);
        let (_, _, reads) = one.all().next().unwrap();
        assert!((500_000..=562_500).contains(&reads.quantile(500)), "{}", reads.quantile(500));
        assert_eq!((reads.quantile(990), reads.max()), (5_000_000, 5_000_000));
        assert_eq!(reads.buckets().map(|(_, count)| count).sum::<u64>(), 1000);
        assert_eq!(reads.sum(), 900 * 901 / 2 * 1000 + 500_000_000);
    }
}
