// SPDX-License-Identifier: GPL-2.0-or-later
//! Which sent bytes the peer lacks, and when to send them again: from its selective acknowledgments (RFC 2018, RFC
//! 6675), and by probes when it says nothing (RFC 8985 7); and how many new ones may go out. smoltcp knows of none of
//! this. Its timer of a second or more stays behind it as the last resort: when that runs out everything under way
//! counts as lost, and is sent again from here.
//!
//! Places are 64-bit offsets into the stream, spans of time nanoseconds: this is done for each segment.

use std::ops;

use super::congestion::Congestion;
use super::options::{BLOCKS, options};
use crate::time::Instant;

/// Runs of missing bytes that are remembered: one of two segments in the largest window may be lost. What a peer tells
/// beyond that is forgotten, and gets sent twice.
const HOLES_MAX: usize = 512;

/// Segments that may overtake one before it counts as lost (DupThresh of RFC 6675).
const OVERTAKEN_MAX: u64 = 3;

/// How long a peer may take to answer beyond two round trips: scheduling, and its timer for delayed acknowledgments,
/// that runs if it has one segment only.
const GRACE: u64 = 20_000_000;
const GRACE_FOR_ONE: u64 = 60_000_000;

/// The round trip before one was measured.
const ROUND_TRIP_UNKNOWN: u64 = 200_000_000;

/// Probes in a row, each after twice the time of the one before. A window that is shut is probed for as long as it is,
/// each time that many doublings later at most.
const PROBES_MAX: u32 = 5;
const DOUBLINGS_MAX: u32 = 7;

/// A run of bytes: from, and up to.
pub(super) type Range = (u64, u64);

/// A run of bytes that the peer lacks, though it has later ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Hole {
    from: u64,
    to: u64,
    /// When it was last sent again.
    again: Option<Instant>,
}

impl Hole {
    fn len(&self) -> u64 {
        self.to - self.from
    }
}

/// Goes through the holes once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pass {
    hole: usize,
    room: u64,
}

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
    /// The peer's window is shut.
    pub(super) shut: bool,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Recovery {
    congestion: Congestion,
    /// The peer tells of what it has.
    selective: bool,
    /// What the peer lacks below `top`, ascending.
    holes: Vec<Hole>,
    /// Behind the last byte that the peer has or that counts as lost.
    top: u64,
    /// Whatever is missing below this was sent long before something that has arrived, or has had its time.
    lost_below: u64,
    round_trip: Option<u64>,
    /// A place whose acknowledgment tells the round trip, and when it was sent.
    timed: Option<(u64, Instant)>,
    /// When something was last sent or acknowledged, and when the latter.
    since: Instant,
    heard: Instant,
    probes: u32,
    /// Where the last probe began.
    probe: Option<u64>,
    /// The losses up to here are one sign of congestion.
    episode: Option<u64>,
    /// Up to where everything was under way when smoltcp's timer ran out.
    timed_out: Option<u64>,
}

impl Recovery {
    /// For segments of so many bytes.
    pub(super) fn new(segment: u16) -> Self {
        Self {
            congestion: Congestion::new(segment.into()),
            selective: false,
            holes: Vec::new(),
            top: 0,
            lost_below: 0,
            round_trip: None,
            timed: None,
            since: Instant::ZERO,
            heard: Instant::ZERO,
            probes: 0,
            probe: None,
            episode: None,
            timed_out: None,
        }
    }

    /// Bytes go out, for the first time or, if `again`, not only.
    pub(super) fn sent(&mut self, now: Instant, range: Range, again: bool) {
        self.since = now;
        if again {
            // Whose acknowledgment it will be is not known (Karn).
            self.timed = None;
        } else if self.timed.is_none() {
            self.timed = Some((range.1, now));
        }
    }

    /// Makes a hole end at `at`, if one goes across it.
    fn split(&mut self, at: u64) {
        let index = self.holes.partition_point(|hole| hole.to <= at);
        if self.holes.len() < HOLES_MAX
            && let Some(hole) = self.holes.get_mut(index).filter(|hole| hole.from < at)
        {
            let left = Hole { to: at, ..*hole };
            hole.from = at;
            self.holes.insert(index, left);
        }
    }

    /// The holes within a run of bytes, by index.
    fn within(&mut self, (from, to): Range) -> ops::Range<usize> {
        self.split(from);
        self.split(to);
        let begin = self.holes.partition_point(|hole| hole.from < from);
        begin..self.holes.partition_point(|hole| hole.to <= to).max(begin)
    }

    /// Everything before `flight.acked` is acknowledged; before, that was everything before `before`.
    pub(super) fn acknowledged(&mut self, flight: &Flight, before: u64) {
        let Flight { now, acked, sent, .. } = *flight;
        if acked == before {
            return;
        }
        if let Some((_, begun)) = self.timed.take_if(|timed| timed.0 <= acked) {
            let sample = now.as_nanos().saturating_sub(begun.as_nanos());
            self.round_trip = Some(self.round_trip.map_or(sample, |old| (old * 7 + sample) / 8));
        }
        (self.since, self.heard, self.probes) = (now, now, 0);
        self.timed_out.take_if(|end| acked >= *end);
        self.episode.take_if(|end| acked >= *end);
        // What is sent again after a time-out begins slowly; while other losses are repaired the window stays.
        if self.episode.is_none() || self.timed_out.is_some() {
            let round_trip = self.round_trip.unwrap_or(ROUND_TRIP_UNKNOWN);
            self.congestion.acknowledged(now, acked - before, sent - before, round_trip);
        }
        if self.has_holes() {
            let arrived = self.within((0, acked));
            self.holes.drain(arrived);
        }
        self.top = self.top.max(acked);
        // If it still had what comes next, it would acknowledge that.
        if self.top > acked && self.holes.first().is_none_or(|hole| hole.from > acked) {
            self.forget(acked, self.top);
        }
    }

    /// The peer has these bytes.
    pub(super) fn selective(&mut self, flight: &Flight, range: Range) {
        self.selective = true;
        let range = (range.0.max(flight.acked), range.1);
        if range.0 >= range.1 || range.1 > flight.sent {
            return;
        }
        let top = self.top;
        if range.0 > top {
            if self.holes.len() >= HOLES_MAX {
                return;
            }
            self.holes.push(Hole { from: top, to: range.0, again: None });
        }
        self.top = top.max(range.1);
        let filled = self.within(range);
        if self.holes.drain(filled).len() == 0 && self.top == top {
            return;
        }
        (self.since, self.heard, self.probes) = (flight.now, flight.now, 0);
        if let Some(probe) = self.probe.take_if(|probe| range.0 <= *probe && *probe < range.1) {
            self.lost_below = self.lost_below.max(probe);
        }
    }

    /// smoltcp's timer has run out: nothing that is under way counts any more.
    pub(super) fn timed_out(&mut self, flight: &Flight) {
        let again = self.timed_out.replace(flight.sent).is_some();
        self.congestion.timed_out(again);
        self.episode = Some(flight.sent);
        self.timed = None;
        self.forget(flight.acked, flight.sent);
    }

    /// Forgets what the peer has told selectively: it may drop that again (RFC 2018 8). All between is lost.
    fn forget(&mut self, acked: u64, top: u64) {
        self.holes.clear();
        self.holes.push(Hole { from: acked, to: top, again: None });
        (self.top, self.lost_below) = (top, top);
    }

    /// Whether an acknowledgment that only repeats itself is kept from smoltcp: what it could conclude is known better
    /// here.
    pub(super) fn keeps_duplicates(&self) -> bool {
        self.selective
    }

    /// How long a repair may take before it is made again.
    fn patience(&self) -> u64 {
        self.round_trip.unwrap_or(ROUND_TRIP_UNKNOWN) * 2 + GRACE / 4
    }

    /// Whether [`Recovery::repair`] may have something to say.
    pub(super) fn has_holes(&self) -> bool {
        !self.holes.is_empty()
    }

    /// Whatever is missing below this is lost.
    fn lost_below(&self, segment: u64) -> u64 {
        let (mut above, mut end) = (0, self.top);
        let overtaken = self.holes.iter().rev().find(|hole| {
            above += end - hole.to;
            end = hole.from;
            above >= OVERTAKEN_MAX * segment
        });
        overtaken.map_or(0, |hole| hole.to).max(self.lost_below)
    }

    /// When a hole that was sent again counts as lost again: once its time has passed, if what was sent later has been
    /// heard of. Until then silence is the affair of probes and of smoltcp's timer, which back off.
    fn expires(&self, sent: Instant) -> Option<Instant> {
        (self.heard > sent).then(|| later(sent, self.patience()))
    }

    fn is_repaired(&self, hole: &Hole, now: Instant) -> bool {
        hole.again.is_some_and(|sent| self.expires(sent).is_none_or(|at| now < at))
    }

    /// How many bytes are in the network, as far as one can tell (Pipe of RFC 6675 4).
    fn under_way(&self, flight: &Flight) -> u64 {
        let limit = if self.holes.is_empty() { 0 } else { self.lost_below(flight.segment) };
        let counts = |hole: &&Hole| hole.to > limit || self.is_repaired(hole, flight.now);
        let missing: u64 = self.holes.iter().filter(counts).map(Hole::len).sum();
        missing + flight.sent - self.top
    }

    /// How many bytes may go out for the first time: repairs come before them.
    pub(super) fn room(&self, flight: &Flight) -> u64 {
        let missing: u64 = self.holes.iter().map(Hole::len).sum();
        self.congestion.window().saturating_sub(missing + flight.sent - self.top)
    }

    /// Something is to be sent that has not been before.
    pub(super) fn begins(&mut self, flight: &Flight) {
        if flight.sent == flight.acked {
            self.congestion.restarts(flight.now, self.since);
        }
    }

    /// A pass through the holes, to send as much again as the path has room for.
    pub(super) fn pass(&self, flight: &Flight) -> Pass {
        Pass { hole: 0, room: self.congestion.window().saturating_sub(self.under_way(flight)) }
    }

    /// What is missing and to be sent again now, at most `max` bytes of it.
    pub(super) fn repair(&mut self, flight: &Flight, pass: &mut Pass, max: u64) -> Option<Range> {
        let limit = self.lost_below(flight.segment);
        loop {
            let hole = *self.holes.get(pass.hole).filter(|hole| hole.from < limit)?;
            if !self.is_repaired(&hole, flight.now) {
                if pass.room < flight.segment {
                    return None;
                }
                let end = hole.to.min(limit).min(hole.from + max.min(pass.room));
                pass.room -= end - hole.from;
                self.split(end);
                self.holes[pass.hole].again = Some(flight.now);
                pass.hole += 1;
                if self.episode.is_none() {
                    self.episode = Some(flight.sent);
                    self.congestion.lost();
                }
                self.timed = None;
                return Some((hole.from, end));
            }
            pass.hole += 1;
        }
    }

    fn probe_at(&self, flight: &Flight) -> Option<Instant> {
        let round_trip = match self.round_trip {
            None if flight.shut => ROUND_TRIP_UNKNOWN,
            round_trip => round_trip?,
        };
        if flight.sent <= flight.acked || (self.probes >= PROBES_MAX && !flight.shut) {
            return None;
        }
        let one = flight.sent - flight.acked <= flight.segment;
        let wait = round_trip * 2 + if one { GRACE_FOR_ONE } else { GRACE };
        Some(later(self.since, wait << self.probes.min(DOUBLINGS_MAX)))
    }

    /// The peer's window is no longer shut: what was under way may be lost, and is asked for anew.
    pub(super) fn opened(&mut self) {
        self.probes = 0;
    }

    /// What to send again because the peer says nothing: first the last segment, whose acknowledgment tells of all that
    /// is missing before it, then the first. Of a peer that was out of memory, and has shut its window in front of what
    /// was on its way to it, the first byte asks for the window (RFC 9293 3.8.6.1): smoltcp probes with bytes that were
    /// never sent, if any.
    pub(super) fn probe(&mut self, flight: &Flight) -> Option<Range> {
        let Flight { now, acked, sent, segment, shut } = *flight;
        if self.probe_at(flight).is_none_or(|at| at > now) {
            return None;
        }
        self.probes = self.probes.saturating_add(1);
        (self.since, self.timed) = (now, None);
        if shut {
            return Some((acked, acked + 1));
        }
        let missing = |hole: &Hole| (hole.from, hole.to);
        let last = match self.holes.last() {
            Some(hole) if self.top == sent => missing(hole),
            _ => (self.top, sent),
        };
        let first = self.holes.first().map_or((acked, sent), missing);
        let range = match self.probes {
            1 => (last.0.max(last.1.saturating_sub(segment)), last.1),
            _ => (first.0, first.1.min(first.0 + segment)),
        };
        self.probe = Some(range.0);
        for hole in self.within(range) {
            self.holes[hole].again = Some(now);
        }
        (range.0 < range.1).then_some(range)
    }

    /// When [`Recovery::repair`] or [`Recovery::probe`] have something to say even if nothing arrives.
    pub(super) fn deadline(&self, flight: &Flight) -> Option<Instant> {
        let repair = self.holes.iter().filter_map(|hole| self.expires(hole.again?)).min();
        let repair = repair.filter(|at| *at > flight.now);
        [repair, self.probe_at(flight)].into_iter().flatten().min()
    }
}

fn later(at: Instant, nanos: u64) -> Instant {
    Instant::from_nanos(at.as_nanos().saturating_add(nanos))
}

/// The runs that a TCP header's options tell of (RFC 2018 3), as sequence numbers.
pub(super) fn selective_acknowledgments(header: &[u8]) -> impl Iterator<Item = (u32, u32)> {
    let blocks = options(header).find(|option| option.0 == BLOCKS).map(|(_, value)| &header[value]);
    let number = |bytes: &[u8]| u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    blocks.unwrap_or_default().chunks_exact(8).map(move |block| (number(block), number(&block[4..])))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEGMENT: u64 = 1000;

    fn at(millis: u64, acked: u64, sent: u64) -> Flight {
        Flight { now: Instant::from_nanos(millis * 1_000_000), acked, sent, segment: SEGMENT, shut: false }
    }

    /// Twenty segments are out; the round trip is 10 ms.
    fn twenty() -> Recovery {
        let mut recovery = Recovery::new(1000);
        recovery.sent(Instant::ZERO, (0, 1000), false);
        recovery.acknowledged(&at(10, 1000, 1000), 0);
        recovery.sent(at(10, 0, 0).now, (1000, 21_000), false);
        recovery
    }

    fn repair(recovery: &mut Recovery, flight: &Flight, max: u64) -> Option<Range> {
        recovery.repair(flight, &mut Pass { hole: 0, room: u64::MAX }, max)
    }

    fn repairs(recovery: &mut Recovery, flight: Flight) -> Vec<Range> {
        let mut pass = Pass { hole: 0, room: u64::MAX };
        std::iter::from_fn(|| recovery.repair(&flight, &mut pass, 64_000)).collect()
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
    fn what_is_lost_makes_room_and_what_is_sent_again_takes_it() {
        let mut recovery = twenty();
        let flight = at(20, 1000, 21_000);
        assert_eq!((recovery.under_way(&flight), recovery.room(&flight)), (20_000, 0));
        // Four have arrived, and the ten before them are lost.
        recovery.selective(&flight, (11_000, 15_000));
        assert_eq!(recovery.under_way(&flight), 6000);
        assert_eq!(repair(&mut recovery, &flight, 3000), Some((1000, 4000)));
        assert_eq!(recovery.under_way(&flight), 9000);
        // A repair that has had its time is lost, too, but silence tells nothing.
        assert_eq!(recovery.under_way(&at(45, 1000, 21_000)), 9000);
        recovery.selective(&at(44, 1000, 21_000), (15_000, 16_000));
        assert_eq!(recovery.under_way(&at(45, 1000, 21_000)), 5000);
        // The beginning arrives, then all but the end.
        recovery.acknowledged(&at(50, 4000, 21_000), 1000);
        assert_eq!(recovery.under_way(&at(50, 4000, 21_000)), 5000);
        recovery.acknowledged(&at(60, 16_000, 21_000), 4000);
        assert_eq!(recovery.under_way(&at(60, 16_000, 21_000)), 5000);
    }

    #[test]
    fn when_the_timer_runs_out_everything_is_lost() {
        let mut recovery = twenty();
        recovery.selective(&at(20, 1000, 21_000), (2000, 3000));
        let flight = at(1000, 1000, 21_000);
        recovery.timed_out(&flight);
        assert_eq!((recovery.under_way(&flight), recovery.pass(&flight).room), (0, 1000));
        assert_eq!(repair(&mut recovery, &flight, 1000), Some((1000, 2000)));
        assert_eq!(recovery.pass(&flight).room, 0);
        recovery.acknowledged(&at(1010, 3000, 21_000), 1000);
        let flight = at(1010, 3000, 21_000);
        assert_eq!(recovery.pass(&flight).room, 3000, "slow start, by all that was acknowledged");
        assert_eq!(repair(&mut recovery, &flight, 3000), Some((3000, 6000)));
        recovery.acknowledged(&at(1020, 21_000, 21_000), 3000);
        assert!(!recovery.has_holes());
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
        assert_eq!(repair(&mut recovery, &at(60, 1000, 21_000), 64_000), Some((1000, 20_000)));

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
    fn what_the_peer_has_dropped_again_is_sent_again() {
        let mut recovery = twenty();
        recovery.selective(&at(20, 1000, 21_000), (2000, 9000));
        recovery.selective(&at(20, 1000, 21_000), (15_000, 21_000));
        assert_eq!(repairs(&mut recovery, at(20, 1000, 21_000)), [(1000, 2000), (9000, 15_000)]);
        // It acknowledges the first repair, but not what it said to have behind it.
        recovery.acknowledged(&at(30, 2000, 21_000), 1000);
        assert_eq!(recovery.under_way(&at(30, 2000, 21_000)), 0);
        assert_eq!(repairs(&mut recovery, at(30, 2000, 21_000)), [(2000, 21_000)]);

        let mut recovery = twenty();
        recovery.selective(&at(20, 1000, 21_000), (2000, 21_000));
        recovery.timed_out(&at(1000, 1000, 21_000));
        assert_eq!(repairs(&mut recovery, at(1000, 1000, 21_000)), [(1000, 21_000)]);
    }

    #[test]
    fn a_window_that_is_shut_is_probed_by_the_first_byte_until_it_opens() {
        let mut recovery = twenty();
        let shut = |millis| Flight { shut: true, ..at(millis, 1000, 21_000) };
        let (mut times, mut now) = (Vec::new(), 10);
        for _ in 0..12 {
            let due = recovery.deadline(&shut(now)).unwrap();
            now = due.as_nanos() / 1_000_000;
            assert_eq!(recovery.probe(&shut(now - 1)), None);
            assert_eq!(recovery.probe(&shut(now)), Some((1000, 1001)));
            times.push(now);
        }
        let waits: Vec<u64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert_eq!(waits, [80, 160, 320, 640, 1280, 2560, 5120, 5120, 5120, 5120, 5120]);
        // Then what was under way is asked for.
        recovery.opened();
        assert_eq!(recovery.probe(&at(now + 40, 1000, 21_000)), Some((20_000, 21_000)));
    }

    #[test]
    fn the_losses_of_one_flight_are_one_sign_of_congestion() {
        let mut recovery = twenty();
        let windows = |recovery: &Recovery| recovery.congestion.window();
        assert_eq!(windows(&recovery), 10_000);
        recovery.selective(&at(20, 1000, 21_000), (2000, 3000));
        assert_eq!(repairs(&mut recovery, at(20, 1000, 21_000)), []);
        assert_eq!(windows(&recovery), 10_000, "it may just be late");
        recovery.selective(&at(20, 1000, 21_000), (4000, 8000));
        assert_eq!(repairs(&mut recovery, at(20, 1000, 21_000)).len(), 2);
        assert_eq!(windows(&recovery), 7000);
        recovery.selective(&at(21, 1000, 23_000), (10_000, 14_000));
        assert_eq!(repairs(&mut recovery, at(21, 1000, 23_000)).len(), 1);
        recovery.acknowledged(&at(30, 20_000, 23_000), 1000);
        assert_eq!(windows(&recovery), 7000);
        recovery.acknowledged(&at(40, 21_000, 24_000), 20_000);
        recovery.selective(&at(50, 21_000, 34_000), (30_000, 34_000));
        assert_eq!(repairs(&mut recovery, at(50, 21_000, 34_000)).len(), 1);
        assert!(windows(&recovery) < 7000);
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
        assert_eq!(recovery.holes, [Hole { from: 1000, to: 2500, again: None }]);
        for number in 0..10_000 {
            recovery.selective(&flight, (2000 + number * 2 % 19_000, 2001 + number * 2 % 19_000));
        }
        assert!(recovery.holes.len() <= HOLES_MAX);
        recovery.acknowledged(&at(30, 21_000, 21_000), 1000);
        assert_eq!((recovery.holes.len(), repairs(&mut recovery, at(30, 21_000, 21_000)).len()), (0, 0));
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
