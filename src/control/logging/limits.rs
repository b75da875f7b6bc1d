// SPDX-License-Identifier: GPL-2.0-or-later
//! How many lines of one kind a peer or a disk may cause: the first few of a time are written, the others counted, and
//! then one line tells how many these were. Of networks of IPv6 the first 64 bits count, as the rest is the peer's to
//! choose.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use log::Level;

/// Lines of a kind about a peer that are written in each [`TIME`].
pub(super) const LINES: u32 = 20;

/// The same about something that has a name here.
const NAMED_LINES: u32 = 1;

/// The time from the first line of a kind about a peer on.
pub(super) const TIME: Duration = Duration::from_secs(10);

/// Pairs of kind and peer that are counted at once; all other peers count as one.
const PAIRS_MAX: usize = 1024;

/// Bytes of a line that are kept as an example.
const EXAMPLE_MAX: usize = 256;

/// Whom or what a line is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Subject {
    Peer(IpAddr),
    /// A disk.
    Named(String),
}

impl Subject {
    fn lines(&self) -> u32 {
        match self {
            Self::Peer(_) => LINES,
            Self::Named(_) => NAMED_LINES,
        }
    }

    /// As it is counted.
    fn counted(self) -> Self {
        match self {
            Self::Peer(peer) => Self::Peer(network(peer)),
            named @ Self::Named(_) => named,
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Peer(peer) => peer.fmt(f),
            Self::Named(name) => write!(f, "{name:?}"),
        }
    }
}

/// What kind of line, by a hash, and about whom: `None` for all that there is no room for.
type Pair = (u64, Option<Subject>);

struct LineCount {
    since: Instant,
    written: u32,
    held: u64,
    level: Level,
    example: String,
}

/// Lines that were not written.
pub(super) struct HeldLine {
    pub(super) level: Level,
    pub(super) text: String,
}

#[derive(Default)]
pub(super) struct Limits {
    counts: HashMap<Pair, LineCount>,
    next: Option<Instant>,
}

impl Limits {
    /// Whether a line is to be written. `text` is the line, of which the first that is not is kept.
    pub(super) fn admit(
        &mut self,
        now: Instant,
        (kind, subject): (u64, Subject),
        level: Level,
        text: impl FnOnce() -> String,
    ) -> bool {
        let most = subject.lines();
        let mut pair = (kind, Some(subject.counted()));
        if self.counts.len() >= PAIRS_MAX && !self.counts.contains_key(&pair) {
            self.counts.retain(|_, count| count.held > 0 || now < count.since + TIME);
            if self.counts.len() >= PAIRS_MAX {
                pair.1 = None;
            }
        }
        let new = || LineCount { since: now, written: 0, held: 0, level, example: String::new() };
        let count = self.counts.entry(pair).or_insert_with(new);
        // What is held is told before anything else counts.
        if count.held == 0 && now >= count.since + TIME {
            *count = new();
        }
        if count.held == 0 && count.written < most {
            count.written += 1;
            return true;
        }
        if count.held == 0 {
            count.example = text();
            count.example.truncate(count.example.floor_char_boundary(EXAMPLE_MAX));
            let end = count.since + TIME;
            self.next = Some(self.next.map_or(end, |next| next.min(end)));
        }
        count.held += 1;
        false
    }

    /// When lines that are held are to be told.
    pub(super) fn next(&self) -> Option<Instant> {
        self.next
    }

    /// Forgets what began before, and returns what is to be told of that.
    pub(super) fn take(&mut self, before: Instant) -> Vec<HeldLine> {
        let over = self.counts.extract_if(|_, count| count.since <= before);
        let held = over.filter(|(_, count)| count.held > 0).map(|((_, subject), count)| {
            let from = subject.map_or_else(|| "other peers".into(), |subject| subject.to_string());
            let LineCount { held, level, example, .. } = count;
            let lines = if held == 1 { "line" } else { "lines" };
            HeldLine {
                level,
                text: format!("{from}: {held} more {lines} like this one, not shown: {example}"),
            }
        });
        let held = held.collect();
        let left = self.counts.values().filter(|count| count.held > 0);
        self.next = left.map(|count| count.since + TIME).min();
        held
    }
}

fn network(peer: IpAddr) -> IpAddr {
    match peer {
        IpAddr::V6(address) => match address.to_ipv4_mapped() {
            Some(address) => address.into(),
            None => Ipv6Addr::from(u128::from(address) >> 64 << 64).into(),
        },
        IpAddr::V4(_) => peer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(n: u32) -> Subject {
        Subject::Peer(IpAddr::V4(n.into()))
    }

    /// How many of a thousand lines are written.
    fn flood(limits: &mut Limits, at: Instant, kind: u64, subject: Subject) -> usize {
        let mut admit =
            |n: &i32| limits.admit(at, (kind, subject.clone()), Level::Info, || format!("line {n}"));
        (0..1000).filter(|n| admit(n)).count()
    }

    #[test]
    fn a_peer_has_a_few_lines_of_a_kind_and_the_rest_in_one() {
        let (mut limits, start) = (Limits::default(), Instant::now());
        assert_eq!(flood(&mut limits, start, 1, address(1)), LINES as usize);
        assert_eq!(flood(&mut limits, start, 2, address(1)), LINES as usize, "another kind");
        assert_eq!(flood(&mut limits, start, 1, address(2)), LINES as usize, "another peer");
        assert_eq!(limits.next(), Some(start + TIME));
        assert!(limits.take(start - Duration::from_millis(1)).is_empty());
        let held = limits.take(start);
        assert_eq!(held.len(), 3);
        let texts: Vec<&str> = held.iter().map(|held| &held.text[..]).collect();
        assert!(texts.contains(&"0.0.0.1: 980 more lines like this one, not shown: line 20"), "{texts:?}");
        assert_eq!(limits.next(), None);
        assert_eq!(flood(&mut limits, start + TIME, 1, address(1)), LINES as usize, "a time later");
    }

    #[test]
    fn many_peers_take_no_more_memory() {
        let (mut limits, start) = (Limits::default(), Instant::now());
        let mut written = 0;
        for n in 0..100_000 {
            written += usize::from(limits.admit(start, (1, address(n)), Level::Warn, || "x".repeat(10_000)));
        }
        assert_eq!(limits.counts.len(), PAIRS_MAX + 1);
        assert_eq!(written, PAIRS_MAX + LINES as usize);
        let held = limits.take(start);
        assert_eq!(held.len(), 1);
        assert!(held[0].text.starts_with("other peers: 98956 more") && held[0].text.len() < 400);
        assert!(limits.counts.is_empty());
        // An IPv6 peer has its whole network to come from.
        let addresses = (0..100).map(|n| IpAddr::V6(Ipv6Addr::new(0xfd77, 0, 0, 1, n, n, n, n)));
        let admit = |address| limits.admit(start, (1, Subject::Peer(address)), Level::Warn, String::new);
        assert_eq!(addresses.map(admit).filter(|&written| written).count(), LINES as usize);
    }

    #[test]
    fn a_disk_has_a_line_and_the_number_of_the_others() {
        let (mut limits, start) = (Limits::default(), Instant::now());
        let disk = |name: &str| Subject::Named(name.into());
        assert_eq!(flood(&mut limits, start, 1, disk("a")), 1);
        assert_eq!(flood(&mut limits, start, 1, disk("b")), 1, "another disk");
        let mut told: Vec<String> = limits.take(start).into_iter().map(|held| held.text).collect();
        told.sort();
        assert!(
            told[0].starts_with("\"a\": 999 more lines") && told[1].starts_with("\"b\": 999 more"),
            "{told:?}"
        );
    }
}
