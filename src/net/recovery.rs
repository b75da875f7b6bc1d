// SPDX-License-Identifier: GPL-2.0-or-later
//! Which sent bytes the peer lacks, and when to send them again: from its selective acknowledgments (RFC 2018, RFC 6675),
//! and by probes when it says nothing (RFC 8985 7). smoltcp knows neither; its timer of a second or more stays behind this
//! as the last resort, and its congestion window rules over new bytes. What is sent again here is never more than what
//! the peer tells to have arrived, but for probes.
//!
//! Places are 64-bit offsets into the stream, spans of time nanoseconds: this is done for each segment.

use crate::time::Instant;

/// Runs of received bytes that are remembered. A peer that tells of more has the later ones forgotten, and gets bytes
/// twice.
const RANGES_MAX: usize = 64;

/// Repairs under way.
const REPAIRS_MAX: usize = 64;

/// Segments that may overtake one before it counts as lost (DupThresh of RFC 6675).
const OVERTAKEN_MAX: u64 = 3;

/// How long a peer may take to answer beyond two round trips: scheduling, and its timer for delayed acknowledgments, that
/// runs if it has one segment only.
const GRACE: u64 = 20_000_000;
const GRACE_FOR_ONE: u64 = 60_000_000;

/// The round trip before one was measured.
const ROUND_TRIP_UNKNOWN: u64 = 200_000_000;

/// Probes in a row, each after twice the time of the one before.
const PROBES_MAX: u32 = 5;

/// A run of bytes: from, and up to.
pub(super) type Range = (u64, u64);

/// What there is to know about the bytes under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flight {
    pub(super) now: Instant,
    /// The first byte that is not acknowledged.
    pub(super) acked: u64,
    /// Behind the last byte that was ever sent.
    pub(super) sent: u64,
    /// Bytes of a segment.
    pub(super) segment: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Recovery {
    /// What the peer has beyond what it acknowledges, ascending and apart.
    have: Vec<Range>,
    /// What was sent again, and when.
    again: Vec<(Range, Instant)>,
    /// Bytes that have left the network and whose place repairs may take.
    budget: u64,
    /// Whatever is missing below this was sent long before something that has arrived.
    lost_below: u64,
    round_trip: Option<u64>,
    /// A place whose acknowledgment tells the round trip, and when it was sent.
    timed: Option<(u64, Instant)>,
    /// When something was last sent or acknowledged.
    since: Instant,
    probes: u32,
    /// Where the last probe began.
    probe: Option<u64>,
    /// The losses up to here are one: smoltcp is told of them once.
    episode: Option<u64>,
    /// It has been told.
    told: bool,
}

impl Recovery {
    /// Bytes go out, for the first time or, if `again`, by smoltcp's doing.
    pub(super) fn sent(&mut self, now: Instant, range: Range, again: bool) {
        self.since = now;
        if again {
            // Whose acknowledgment it will be is not known (Karn).
            self.timed = None;
            self.note(range, now);
        } else if self.timed.is_none() {
            self.timed = Some((range.1, now));
        }
    }

    fn note(&mut self, range: Range, now: Instant) {
        self.again.retain(|(old, _)| old.0 < range.0 || old.1 > range.1);
        if self.again.len() < REPAIRS_MAX {
            self.again.push((range, now));
        }
    }

    /// Everything before `flight.acked` is acknowledged; before, that was everything before `before`.
    pub(super) fn acknowledged(&mut self, flight: &Flight, before: u64) {
        let Flight { now, acked, .. } = *flight;
        if acked == before {
            return;
        }
        if let Some((_, sent)) = self.timed.take_if(|timed| timed.0 <= acked) {
            let sample = now.as_nanos().saturating_sub(sent.as_nanos());
            self.round_trip = Some(self.round_trip.map_or(sample, |old| (old * 7 + sample) / 8));
        }
        (self.since, self.probes) = (now, 0);
        if self.have.is_empty() && self.again.is_empty() && self.episode.is_none() {
            self.budget = 0;
            return;
        }
        // What was in `have` has been counted.
        let known: u64 =
            self.have.iter().map(|have| have.1.min(acked).saturating_sub(have.0.max(before))).sum();
        self.budget = if self.have.is_empty() { 0 } else { self.budget + (acked - before - known) };
        self.have.retain_mut(|range| {
            range.0 = range.0.max(acked);
            range.0 < range.1
        });
        self.again.retain(|(range, _)| range.1 > acked);
        if self.episode.is_some_and(|end| acked >= end) {
            (self.episode, self.told) = (None, false);
        } else if self.episode.is_some() {
            self.told = true;
        }
    }

    /// The peer has these bytes.
    pub(super) fn selective(&mut self, flight: &Flight, range: Range) {
        let range = (range.0.max(flight.acked), range.1);
        if range.0 >= range.1 || range.1 > flight.sent {
            return;
        }
        let inside = |&(from, to): &Range| from.max(range.0) < to.min(range.1);
        let known: u64 = self
            .have
            .iter()
            .filter(|have| inside(have))
            .map(|have| have.1.min(range.1) - have.0.max(range.0))
            .sum();
        if known == range.1 - range.0 {
            return;
        }
        let touches = |have: &Range| have.0 <= range.1 && range.0 <= have.1;
        let joined = self
            .have
            .iter()
            .filter(|have| touches(have))
            .fold(range, |all, have| (all.0.min(have.0), all.1.max(have.1)));
        self.have.retain(|have| !touches(have));
        let at = self.have.partition_point(|have| have.0 < joined.0);
        self.have.insert(at, joined);
        self.have.truncate(RANGES_MAX);
        self.budget += range.1 - range.0 - known;
        (self.since, self.probes) = (flight.now, 0);
        if let Some(probe) = self.probe.take_if(|probe| (joined.0..joined.1).contains(probe)) {
            self.lost_below = probe;
        }
        if self.episode.is_none() {
            self.episode = Some(flight.sent);
        }
    }

    /// Whether an acknowledgment that only repeats itself shall be kept from smoltcp, which would take each hole of one
    /// episode for another sign of congestion.
    pub(super) fn keeps_duplicates(&self) -> bool {
        self.told
    }

    /// How long a repair may take before it is made again.
    fn patience(&self) -> u64 {
        self.round_trip.unwrap_or(ROUND_TRIP_UNKNOWN) * 2 + GRACE / 4
    }

    /// Whether [`Recovery::repair`] may have something to say.
    pub(super) fn has_holes(&self) -> bool {
        !self.have.is_empty()
    }

    /// What is missing and to be sent again now, at most `max` bytes of it.
    pub(super) fn repair(&mut self, flight: &Flight, max: u64) -> Option<Range> {
        let Flight { now, acked, segment, .. } = *flight;
        if self.have.is_empty() || self.budget < segment {
            return None;
        }
        let mut above = 0;
        let overtaken = self.have.iter().rev().find(|have| {
            above += have.1 - have.0;
            above >= OVERTAKEN_MAX * segment
        });
        let limit = overtaken.map_or(0, |have| have.0).max(self.lost_below);
        let patience = self.patience();
        let mut from = acked;
        for at in 0..self.have.len() {
            let (hole, next) = ((from, self.have[at].0.min(limit)), self.have[at].1);
            from = next;
            let mut start = hole.0;
            while start < hole.1 {
                let fresh = |(_, sent): &&(Range, Instant)| now < later(*sent, patience);
                let under_way = self.again.iter().filter(fresh);
                let mut end = hole.1.min(start + max);
                let mut skip = None;
                for &((left, right), _) in under_way {
                    if left <= start && start < right {
                        skip = Some(right);
                    } else if left > start {
                        end = end.min(left);
                    }
                }
                if let Some(right) = skip {
                    start = right;
                    continue;
                }
                if self.again.len() >= REPAIRS_MAX {
                    self.again.retain(|(_, sent)| now < later(*sent, patience));
                    if self.again.len() >= REPAIRS_MAX {
                        return None;
                    }
                }
                self.budget = self.budget.saturating_sub(end - start);
                self.note((start, end), now);
                self.timed = None;
                return Some((start, end));
            }
        }
        None
    }

    fn probe_at(&self, flight: &Flight) -> Option<Instant> {
        let round_trip =
            self.round_trip.filter(|_| flight.sent > flight.acked && self.probes < PROBES_MAX)?;
        let one = flight.sent - flight.acked <= flight.segment;
        let wait = round_trip * 2 + if one { GRACE_FOR_ONE } else { GRACE };
        Some(later(self.since, wait << self.probes))
    }

    /// What to send again because the peer says nothing: first the last segment, whose acknowledgment tells of all that
    /// is missing before it, then the first.
    pub(super) fn probe(&mut self, flight: &Flight) -> Option<Range> {
        let Flight { now, acked, sent, segment } = *flight;
        if self.probe_at(flight).is_none_or(|at| at > now) {
            return None;
        }
        self.probes += 1;
        (self.since, self.timed) = (now, None);
        let first = self.have.first().map_or(sent, |have| have.0);
        let last = match self.have[..] {
            [.., before, (from, to)] if to == sent => (before.1, from),
            [(from, to)] if to == sent => (acked, from),
            [.., (_, to)] => (to, sent),
            [] => (acked, sent),
        };
        let range = match self.probes {
            1 => (last.0.max(last.1.saturating_sub(segment)), last.1),
            _ => (acked, first.min(acked + segment)),
        };
        self.probe = Some(range.0);
        self.note(range, now);
        (range.0 < range.1).then_some(range)
    }

    /// When [`Recovery::repair`] or [`Recovery::probe`] have something to say even if nothing arrives.
    pub(super) fn deadline(&self, flight: &Flight) -> Option<Instant> {
        if self.have.is_empty() {
            return self.probe_at(flight);
        }
        let patience = self.patience();
        let repair = self.again.iter().map(|(_, sent)| later(*sent, patience)).min();
        let repair = repair.filter(|at| *at > flight.now);
        [repair, self.probe_at(flight)].into_iter().flatten().min()
    }
}

fn later(at: Instant, nanos: u64) -> Instant {
    Instant::from_nanos(at.as_nanos().saturating_add(nanos))
}

/// The runs that a TCP header's options tell of (RFC 2018 3), as sequence numbers.
pub(super) fn selective_acknowledgments(header: &[u8]) -> impl Iterator<Item = (u32, u32)> {
    let mut at = 20;
    let mut blocks: &[u8] = &[];
    while at + 1 < header.len() && header[at] != 0 {
        let len = usize::from(header[at + 1]).max(2);
        match header[at] {
            1 => at += 1,
            5 => {
                blocks = header.get(at + 2..at + len).unwrap_or_default();
                break;
            }
            _ => at += len,
        }
    }
    let number = |bytes: &[u8]| u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    blocks.chunks_exact(8).map(move |block| (number(block), number(&block[4..])))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEGMENT: u64 = 1000;

    fn at(millis: u64, acked: u64, sent: u64) -> Flight {
        Flight { now: Instant::from_nanos(millis * 1_000_000), acked, sent, segment: SEGMENT }
    }

    /// Twenty segments are out; the round trip is 10 ms.
    fn twenty() -> Recovery {
        let mut recovery = Recovery::default();
        recovery.sent(Instant::ZERO, (0, 1000), false);
        recovery.acknowledged(&at(10, 1000, 1000), 0);
        recovery.sent(at(10, 0, 0).now, (1000, 21_000), false);
        recovery
    }

    fn repairs(recovery: &mut Recovery, flight: Flight) -> Vec<Range> {
        std::iter::from_fn(|| recovery.repair(&flight, 64_000)).collect()
    }

    #[test]
    fn what_three_segments_have_overtaken_is_sent_again_once() {
        let mut recovery = twenty();
        recovery.selective(&at(20, 1000, 21_000), (2000, 4000));
        assert_eq!(repairs(&mut recovery, at(20, 1000, 21_000)), [], "two may overtake one");
        recovery.selective(&at(21, 1000, 21_000), (2000, 5000));
        assert_eq!(repairs(&mut recovery, at(21, 1000, 21_000)), [(1000, 2000)]);
        assert_eq!(repairs(&mut recovery, at(22, 1000, 21_000)), [], "it is under way");
        // Another hole; a third that only two segments have overtaken.
        recovery.selective(&at(23, 1000, 21_000), (7000, 9000));
        recovery.selective(&at(23, 1000, 21_000), (10_000, 12_000));
        assert_eq!(repairs(&mut recovery, at(23, 1000, 21_000)), [(5000, 7000)]);
        // A repair that is lost itself is made again, but not before its time.
        recovery.selective(&at(40, 1000, 21_000), (12_000, 13_000));
        assert_eq!(repairs(&mut recovery, at(40, 1000, 21_000)), [(9000, 10_000)]);
        recovery.selective(&at(60, 1000, 21_000), (13_000, 14_000));
        assert_eq!(repairs(&mut recovery, at(60, 1000, 21_000)), [(1000, 2000), (5000, 7000)]);
        assert_eq!(recovery.deadline(&at(61, 1000, 21_000)), Some(at(65, 0, 0).now));
    }

    #[test]
    fn repairs_take_the_place_of_what_has_arrived() {
        let mut recovery = twenty();
        recovery.selective(&at(20, 1000, 21_000), (11_000, 15_000));
        let sum: u64 =
            repairs(&mut recovery, at(20, 1000, 21_000)).iter().map(|range| range.1 - range.0).sum();
        assert!(sum <= 10_000);
        let mut recovery = twenty();
        recovery.selective(&at(20, 1000, 21_000), (11_000, 14_000));
        assert_eq!(recovery.repair(&at(20, 1000, 21_000), 1000), Some((1000, 2000)));
        assert_eq!(recovery.repair(&at(20, 1000, 21_000), 1000), Some((2000, 3000)));
        assert_eq!(recovery.repair(&at(20, 1000, 21_000), 1000), Some((3000, 4000)));
        assert_eq!(recovery.repair(&at(20, 1000, 21_000), 1000), None, "three have arrived, three went out");
    }

    #[test]
    fn silence_is_probed_from_the_end_and_then_from_the_beginning() {
        let mut recovery = twenty();
        let flight = at(10, 1000, 21_000);
        assert_eq!(recovery.deadline(&flight), Some(at(50, 0, 0).now));
        assert_eq!(recovery.probe(&at(49, 1000, 21_000)), None);
        assert_eq!(recovery.probe(&at(50, 1000, 21_000)), Some((20_000, 21_000)));
        // The peer has the probe, so it lacks what went out before it.
        recovery.selective(&at(60, 1000, 21_000), (20_000, 21_000));
        assert_eq!(recovery.repair(&at(60, 1000, 21_000), 64_000), Some((1000, 20_000)));

        let mut recovery = twenty();
        assert!(recovery.probe(&at(50, 1000, 21_000)).is_some());
        assert_eq!(recovery.deadline(&at(50, 1000, 21_000)), Some(at(130, 0, 0).now));
        assert_eq!(recovery.probe(&at(130, 1000, 21_000)), Some((1000, 2000)));
        let mut now = 130;
        for _ in 2..PROBES_MAX {
            now += 10_000;
            assert!(recovery.probe(&at(now, 1000, 21_000)).is_some());
        }
        assert_eq!(recovery.deadline(&at(now, 1000, 21_000)), None, "the rest is up to smoltcp");
        // An answer begins anew; with nothing under way there is nothing to ask for.
        recovery.acknowledged(&at(now, 2000, 21_000), 1000);
        assert!(recovery.deadline(&at(now, 2000, 21_000)).is_some());
        assert_eq!(recovery.deadline(&at(now, 21_000, 21_000)), None);
    }

    #[test]
    fn one_episode_is_told_once() {
        let mut recovery = twenty();
        recovery.selective(&at(20, 1000, 21_000), (2000, 6000));
        assert!(!recovery.keeps_duplicates(), "smoltcp shall see that there is a loss");
        recovery.acknowledged(&at(30, 6000, 23_000), 1000);
        assert!(recovery.keeps_duplicates());
        recovery.acknowledged(&at(40, 21_000, 24_000), 6000);
        assert!(!recovery.keeps_duplicates());
    }

    #[test]
    fn runs_join_and_their_number_is_bounded() {
        let mut recovery = twenty();
        let flight = at(20, 1000, 21_000);
        for range in
            [(3000, 4000), (6000, 7000), (4000, 6000), (2500, 8000), (0, 500), (9000, 22_000), (5, 5), (7, 3)]
        {
            recovery.selective(&flight, range);
        }
        assert_eq!(recovery.have, [(2500, 8000)]);
        assert_eq!(recovery.budget, 5500);
        for number in 0..10_000 {
            recovery.selective(&flight, (2000 + number * 2 % 19_000, 2001 + number * 2 % 19_000));
        }
        assert!(recovery.have.len() <= RANGES_MAX);
        recovery.acknowledged(&at(30, 21_000, 21_000), 1000);
        assert_eq!((recovery.have.len(), repairs(&mut recovery, at(30, 21_000, 21_000)).len()), (0, 0));
    }

    #[test]
    fn options_are_read_as_far_as_they_go() {
        let read = |options: &[u8]| {
            let header = [&[0; 20], options].concat();
            selective_acknowledgments(&header).collect::<Vec<_>>()
        };
        assert_eq!(
            read(&[1, 1, 5, 18, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 1, 0, 0, 0, 1, 9]),
            [(1, 2), (256, 265)]
        );
        assert_eq!(read(&[8, 10, 0, 0, 0, 0, 0, 0, 0, 0, 5, 10, 0, 0, 0, 1, 0, 0, 0, 2]), [(1, 2)]);
        // Cut short, ended before, lengths that lie.
        for options in [&[5, 10, 0, 0, 0, 1][..], &[0, 5, 10, 0], &[5, 0], &[5], &[3, 0, 5, 200, 1], &[]] {
            assert_eq!(read(options), []);
        }
    }
}
