// SPDX-License-Identifier: GPL-2.0-or-later
//! Which block comes next.

use std::str::FromStr;

/// The order in which blocks are visited.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Pattern {
    /// Any block, all equally often.
    Random,
    /// One after the other; each connection begins at a place of its own.
    Sequential,
    /// Some blocks much more often than others: the n-th most popular one with a weight of `n^-theta`.
    Zipf(f64),
}

impl FromStr for Pattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':').unwrap_or((text, "0.99")) {
            ("random", _) => Ok(Self::Random),
            ("sequential", _) => Ok(Self::Sequential),
            ("zipf", theta) => match theta.parse() {
                Ok(theta) if theta > 0.0 && theta < 1.0 => Ok(Self::Zipf(theta)),
                _ => Err("the exponent of zipf lies between 0 and 1, such as in zipf:0.99".to_owned()),
            },
            _ => Err("random, sequential, zipf or zipf:EXPONENT".to_owned()),
        }
    }
}

impl std::fmt::Display for Pattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Random => f.write_str("random"),
            Self::Sequential => f.write_str("sequential"),
            Self::Zipf(theta) => write!(f, "zipf:{theta}"),
        }
    }
}

/// Random numbers that are fast and repeatable (xorshift64*), not secret.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        // Neighbouring seeds begin far apart, and none at the fixed point 0.
        Self(mix(seed) | 1)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `limit`.
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        u64::try_from((u128::from(self.next()) * u128::from(limit)) >> 64).expect("below a 64-bit limit")
    }

    /// A number from 0 up to 1.
    fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// The finaliser of splitmix64.
fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ x >> 31
}

/// Picks blocks.
pub(super) struct Picker {
    blocks: u64,
    order: Order,
}

enum Order {
    Random,
    /// The next block of each stream.
    Sequential(Vec<u64>),
    Zipf(Zipf),
}

impl Picker {
    pub(super) fn new(pattern: &Pattern, blocks: u64, streams: usize) -> Self {
        let order = match pattern {
            Pattern::Random => Order::Random,
            Pattern::Sequential => {
                Order::Sequential((0..streams as u64).map(|i| blocks * i / streams as u64).collect())
            }
            Pattern::Zipf(theta) => Order::Zipf(Zipf::new(*theta, blocks)),
        };
        Self { blocks, order }
    }

    pub(super) fn pick(&mut self, stream: usize, random: &mut Random) -> u64 {
        match &mut self.order {
            Order::Random => random.below(self.blocks),
            Order::Sequential(next) => {
                let index = next[stream];
                next[stream] = (index + 1) % self.blocks;
                index
            }
            // Popular blocks are spread over the disk.
            Order::Zipf(zipf) => mix(zipf.rank(random.share())) % self.blocks,
        }
    }
}

/// Ranks by the method of Gray et al., "Quickly generating billion-record synthetic databases" (SIGMOD 1994).
struct Zipf {
    theta: f64,
    ranks: f64,
    zeta: f64,
    eta: f64,
}

impl Zipf {
    fn new(theta: f64, blocks: u64) -> Self {
        /// Terms that are summed one by one; the rest is the integral.
        const EXACT: u64 = 10_000;
        let sum: f64 = (1..=blocks.min(EXACT)).map(|n| (n as f64).powf(-theta)).sum();
        let power = |n: f64| n.powf(1.0 - theta) / (1.0 - theta);
        let rest = if blocks > EXACT { power(blocks as f64) - power(EXACT as f64) } else { 0.0 };
        let (ranks, zeta) = (blocks as f64, sum + rest);
        let two = 1.0 + 0.5f64.powf(theta);
        Self { theta, ranks, zeta, eta: (1.0 - (2.0 / ranks).powf(1.0 - theta)) / (1.0 - two / zeta) }
    }

    /// The rank, from 0, at a share of all weight.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rank is small and positive"
    )]
    fn rank(&self, share: f64) -> u64 {
        let weight = share * self.zeta;
        if weight < 1.0 {
            0
        } else if weight < 1.0 + 0.5f64.powf(self.theta) {
            1
        } else {
            (self.ranks * (self.eta * share - self.eta + 1.0).powf(1.0 / (1.0 - self.theta))) as u64
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_read_as_they_are_written() {
        for text in ["random", "sequential", "zipf:0.5"] {
            assert_eq!(text.parse::<Pattern>().unwrap().to_string(), text);
        }
        assert_eq!("zipf".parse(), Ok(Pattern::Zipf(0.99)));
        assert!("zipf:1".parse::<Pattern>().is_err() && "linear".parse::<Pattern>().is_err());
    }

    #[test]
    fn sequential_streams_begin_apart_and_come_around() {
        let mut picker = Picker::new(&Pattern::Sequential, 4, 2);
        let mut random = Random::new(1);
        let picked: Vec<u64> = [0, 0, 0, 0, 0, 1, 1].map(|stream| picker.pick(stream, &mut random)).into();
        assert_eq!(picked, [0, 1, 2, 3, 0, 2, 3]);
    }

    #[test]
    fn random_reaches_all_and_zipf_prefers_few() {
        let mut random = Random::new(3);
        let mut count = |pattern| {
            let mut picker = Picker::new(&pattern, 1000, 1);
            let mut counts = vec![0u32; 1000];
            (0..100_000).for_each(|_| counts[usize::try_from(picker.pick(0, &mut random)).unwrap()] += 1);
            counts.sort_unstable();
            counts
        };
        let even = count(Pattern::Random);
        assert!(even[0] > 50 && even[999] < 160, "{}..{}", even[0], even[999]);
        let zipf = count(Pattern::Zipf(0.99));
        // The most popular of a thousand has a weight of 1 / zeta(0.99, 1000) = 13 %.
        assert!((11_000..16_000).contains(&zipf[999]), "{}", zipf[999]);
        let top: u32 = zipf[900..].iter().sum();
        assert!(top > 60_000, "the top tenth has {top} of 100000");
    }
}
