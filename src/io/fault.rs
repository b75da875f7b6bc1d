// SPDX-License-Identifier: GPL-2.0-or-later
//! Whom a rule for tests hits: some of those that fit it, by count and by chance. Chance is a function of a seed, of
//! the rule and of how many have fitted so far, on whatever core: the same in the same order fare alike.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::options::Absent::{Is, Means};
use crate::options::ValueKind::{Number, Time};
use crate::options::{Key, Section, key};

const HOUR: Duration = Duration::from_secs(3600);

/// How often a rule hits, and how slow it makes what it hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FaultRate {
    /// How much later it ends, at least.
    pub delay: Duration,
    /// How much of a delay chance adds, at most.
    pub jitter: Duration,
    /// One in so many of those that fit is hit, on average; the others are left alone.
    pub one_in: u64,
    /// So many of those that fit are left alone first.
    pub after: u64,
    /// Most that are hit; `None` for no end.
    pub times: Option<u64>,
}

impl FaultRate {
    /// Its keys, in the table of each rule.
    pub const KEYS: &[Key] = &[
        key("delay", Time(HOUR), Is("\"0s\""), "\"20ms\"", "The delay, at least."),
        key(
            "jitter",
            Time(HOUR),
            Is("\"0s\""),
            "\"5ms\"",
            "A random time on top of that, at most this long.",
        ),
        key(
            "one_in",
            Number(1, i64::MAX as u64),
            Is("1"),
            "100",
            "One in N of those that match is affected, on average.",
        ),
        key(
            "after",
            Number(0, i64::MAX as u64),
            Is("0"),
            "",
            "How many that match to skip first. The count begins with each start of the daemon.",
        ),
        key(
            "times",
            Number(1, i64::MAX as u64),
            Means("no limit"),
            "10",
            "How many are affected, at most, from each start of the daemon on.",
        ),
    ];

    /// Reads them. A rule that `does` nothing itself, and makes nothing late, is complained of at `key`.
    pub fn read(s: &Section<'_>, does: Option<bool>, key: &'static str) -> Option<Self> {
        let (delay, jitter) = (s.time("delay"), s.time("jitter"));
        let (one_in, after, times) = (s.number("one_in"), s.number("after"), s.number("times"));
        if let (Some(false), Some(Duration::ZERO), Some(Duration::ZERO)) = (does, delay, jitter) {
            s.error(key, "the rule does nothing", format!("give an `{key}`, a `delay` or a `jitter`"));
        }
        Some(Self { delay: delay?, jitter: jitter?, one_in: one_in?, after: after?, times })
    }

    /// All are hit, and are as fast as ever.
    pub const ALWAYS: Self =
        Self { delay: Duration::ZERO, jitter: Duration::ZERO, one_in: 1, after: 0, times: None };
}

/// The rate of a rule, and what has happened by them. Shared by all cores.
#[derive(Debug)]
pub struct FaultRule {
    rate: FaultRate,
    seed: u64,
    fitted: AtomicU64,
    hit: AtomicU64,
}

/// A number that looks like chance (splitmix64).
fn mix(mut n: u64) -> u64 {
    n = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    n = (n ^ n >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    n = (n ^ n >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ n >> 31
}

impl FaultRule {
    /// The rule with that number, among those with the same seed.
    pub fn new(rate: FaultRate, seed: u64, rule: usize) -> Self {
        let seed = seed ^ mix(rule as u64);
        Self { rate, seed, fitted: AtomicU64::new(0), hit: AtomicU64::new(0) }
    }

    /// One more fits the rule. If it is hit: how much later it is to end.
    pub fn draw(&self) -> Option<Duration> {
        let FaultRate { delay, jitter, one_in, after, times } = self.rate;
        // Relaxed: each count stands for itself.
        let number = self.fitted.fetch_add(1, Ordering::Relaxed);
        let chance = mix(self.seed ^ mix(number).rotate_left(32));
        if number < after || !chance.is_multiple_of(one_in.max(1)) {
            return None;
        }
        let before = self.hit.fetch_add(1, Ordering::Relaxed);
        if times.is_some_and(|times| before >= times) {
            return None;
        }
        let jitter = u64::try_from(jitter.as_nanos()).unwrap_or(u64::MAX);
        Some(delay + Duration::from_nanos(mix(chance) % jitter.saturating_add(1)))
    }
}
