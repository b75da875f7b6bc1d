// SPDX-License-Identifier: GPL-2.0-or-later
//! How many bytes may be under way: CUBIC (RFC 9438), from the initial window of RFC 6928 by slow start (RFC 5681).

use crate::time::Instant;

/// What is left of the window after a loss (RFC 9438 4.6), and how steep the curve is, in segments per second cubed
/// (5.1).
const BETA: f64 = 0.7;
const STEEPNESS: f64 = 0.4;

/// Growth per round trip, in segments, at which a window that shrinks to [`BETA`] is as fast as one of Reno (4.3).
const FRIENDLY: f64 = 3.0 * (1.0 - BETA) / (1.0 + BETA);

/// After so long without anything under way the path is unknown again (RFC 5681 4.1).
const IDLE: u64 = 1_000_000_000;

/// Since a loss: the curve from the window there was after it through the one before it, and beyond.
#[derive(Clone, Copy, Debug)]
struct Curve {
    begin: Instant,
    /// When the window is what it was before the loss, in seconds after the beginning.
    flat: f64,
    /// The window that Reno would have.
    friendly: f64,
}

/// See the module. Windows are in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Congestion {
    segment: u64,
    window: u64,
    /// Below it the window doubles with each round trip.
    threshold: u64,
    /// The window at which there was a loss, and the one before the last loss.
    before: f64,
    prior: f64,
    curve: Option<Curve>,
}

impl Congestion {
    pub(super) fn new(segment: u64) -> Self {
        let window = Self::initial(segment);
        Self { segment, window, threshold: u64::MAX, before: 0.0, prior: 0.0, curve: None }
    }

    /// RFC 6928 2.
    fn initial(segment: u64) -> u64 {
        (10 * segment).min((2 * segment).max(14_600))
    }

    pub(super) fn window(&self) -> u64 {
        self.window
    }

    /// `bytes` have been acknowledged, when `under_way` bytes were under way.
    pub(super) fn acknowledged(&mut self, now: Instant, bytes: u64, under_way: u64, round_trip: u64) {
        let begins = self.window < self.threshold;
        // It was not this window that held the sender back: nothing is learnt about the path (RFC 7661).
        let used = if begins { 2 * under_way } else { under_way + self.segment };
        if used <= self.window {
            return;
        }
        if begins {
            self.window = (self.window + bytes).min(self.threshold);
            return;
        }
        let (segment, window) = (self.segment as f64, self.window as f64);
        if self.curve.is_none() {
            self.before = self.before.max(window);
            let flat = ((self.before - window) / (STEEPNESS * segment)).cbrt();
            self.curve = Some(Curve { begin: now, flat, friendly: window });
        }
        let Some(curve) = &mut self.curve else { return };
        let growth = if curve.friendly < self.prior { FRIENDLY } else { 1.0 };
        curve.friendly += growth * segment * bytes as f64 / window;
        let ahead = (now.since(curve.begin).as_nanos() as f64 + round_trip as f64) / 1e9 - curve.flat;
        let target = (self.before + STEEPNESS * segment * ahead.powi(3)).clamp(window, 1.5 * window);
        let cubic = window + (target - window) * bytes as f64 / window;
        #[expect(clippy::cast_sign_loss, reason = "it does not shrink")]
        let window = cubic.max(curve.friendly) as u64;
        self.window = window;
    }

    /// Segments were lost; called once for those of one flight.
    pub(super) fn lost(&mut self) {
        let window = self.window as f64;
        // One that does not come back to where it was gives way to others (RFC 9438 4.7).
        self.before = if window < self.before { window * (1.0 + BETA) / 2.0 } else { window };
        (self.prior, self.curve) = (window, None);
        self.window = (self.window * 7 / 10).max(2 * self.segment);
        self.threshold = self.window;
    }

    /// Nothing came back in time, `again` if not even what was sent because of that.
    pub(super) fn timed_out(&mut self, again: bool) {
        if !again {
            self.lost();
        }
        self.window = self.segment;
    }

    /// Something is to be sent when nothing is under way, nor was since `since`.
    pub(super) fn restarts(&mut self, now: Instant, since: Instant) {
        if now.as_nanos().saturating_sub(since.as_nanos()) > IDLE {
            self.window = self.window.min(Self::initial(self.segment));
            self.curve = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEGMENT: u64 = 1000;
    const ROUND_TRIP: u64 = 20_000_000;

    /// Windows at the end of each round trip, each of which uses and acknowledges the whole window, by segments.
    fn round_trips(congestion: &mut Congestion, begin: u64, count: u64) -> Vec<u64> {
        let round = |number| {
            let window = congestion.window();
            for _ in 0..window / SEGMENT {
                let now = Instant::from_nanos((begin + number) * ROUND_TRIP);
                congestion.acknowledged(now, SEGMENT, congestion.window(), ROUND_TRIP);
            }
            congestion.window() / SEGMENT
        };
        (0..count).map(round).collect()
    }

    #[test]
    fn it_begins_with_ten_segments_and_doubles() {
        let mut congestion = Congestion::new(SEGMENT);
        assert_eq!(congestion.window(), 10_000);
        assert_eq!(round_trips(&mut congestion, 0, 4), [20, 40, 80, 160]);
        assert_eq!(Congestion::new(8960).window(), 17_920);
    }

    #[test]
    fn a_window_that_is_not_used_does_not_grow() {
        let mut congestion = Congestion::new(SEGMENT);
        for _ in 0..100 {
            congestion.acknowledged(Instant::ZERO, SEGMENT, 4 * SEGMENT, ROUND_TRIP);
        }
        assert_eq!(congestion.window(), 10_000);
    }

    #[test]
    fn after_a_loss_it_comes_back_along_the_curve_and_goes_beyond() {
        let mut congestion = Congestion::new(SEGMENT);
        round_trips(&mut congestion, 0, 5);
        assert_eq!(congestion.window(), 320_000);
        congestion.lost();
        assert_eq!(congestion.window(), 224_000);
        // K = cbrt(320 * 0.3 / 0.4) = 6.2 s, or 311 round trips; but Reno is as fast as that below 3 s here.
        let back = round_trips(&mut congestion, 10, 400);
        assert!(back.is_sorted());
        let flat = back.iter().position(|&window| window >= 318).expect("it comes back");
        assert!((150..312).contains(&flat), "after {flat} round trips");
        assert!(back[399] > 325, "{} segments", back[399]);
    }

    #[test]
    fn two_losses_in_a_row_give_way() {
        let mut congestion = Congestion::new(SEGMENT);
        round_trips(&mut congestion, 0, 5);
        congestion.lost();
        congestion.lost();
        assert_eq!(congestion.window(), 156_800);
        assert!(congestion.before < 224_000.0);
        for _ in 0..100 {
            congestion.lost();
        }
        assert_eq!(congestion.window(), 2 * SEGMENT);
    }

    #[test]
    fn silence_takes_it_to_one_segment_and_half_way_back_by_slow_start() {
        let mut congestion = Congestion::new(SEGMENT);
        round_trips(&mut congestion, 0, 3);
        congestion.timed_out(false);
        congestion.timed_out(true);
        assert_eq!((congestion.window(), congestion.threshold), (1000, 56_000));
        assert_eq!(round_trips(&mut congestion, 100, 5), [2, 4, 8, 16, 32]);
    }

    #[test]
    fn idleness_forgets_the_path() {
        let mut congestion = Congestion::new(SEGMENT);
        round_trips(&mut congestion, 0, 3);
        congestion.restarts(Instant::from_nanos(IDLE), Instant::ZERO);
        assert_eq!(congestion.window(), 80_000);
        congestion.restarts(Instant::from_nanos(IDLE + 1), Instant::ZERO);
        assert_eq!(congestion.window(), 10_000);
    }
}
