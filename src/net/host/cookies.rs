// SPDX-License-Identifier: GPL-2.0-or-later
//! Handshakes without memory (SYN cookies): when there are too many connections that have not answered yet, our initial
//! sequence number says what the SYN has said, signed, and the flow is made when the peer acknowledges it.
//!
//! A number has 24 bits of a keyed hash (SipHash over secret, addresses, ports, the SYN's number, time and the other 8
//! bits), and 8 bits for what the peer offers. A blind forger makes one connection in 8 million segments, and only
//! while there is a flood: otherwise cookies are not taken.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};

use super::flows::Tuple;
use super::{FLOWS_MAX, HANDSHAKE_TIME};
use crate::net::options::{SEGMENT_MIN, SynFields};
use crate::time::Instant;

/// Segment sizes that a cookie can tell, ascending: those of paths of 1280 and 1500 bytes, with IPv6 and IPv4, with
/// tunnels in between, of large frames, and of a TAP device.
const SEGMENTS: [u16; 8] = [SEGMENT_MIN, 1220, 1360, 1440, 1460, 8940, 16_344, 65_461];

/// Of the bits for the shift of windows: there is none.
const UNSCALED: u8 = 15;

/// See the module.
pub(super) struct SynCookies {
    secret: [u64; 2],
    /// When the last was given.
    given: Option<Instant>,
    /// Hashes of those that have come back lately, the oldest first, with the time when: a segment that is repeated on
    /// its way must not open its connection again after that has ended. With more than [`FLOWS_MAX`] of them the oldest
    /// is forgotten.
    spent: VecDeque<(Instant, u64)>,
}

impl SynCookies {
    pub(super) fn new(secret: [u64; 2]) -> Self {
        Self { secret, given: None, spent: VecDeque::new() }
    }

    /// Whether somebody may have one.
    #[inline]
    pub(super) fn are_out(&self, now: Instant) -> bool {
        self.given.is_some_and(|given| now < given + 2 * HANDSHAKE_TIME)
    }

    /// The sequence number that answers a SYN.
    pub(super) fn give(&mut self, now: Instant, tuple: &Tuple, syn: &SynFields) -> u32 {
        self.given = Some(now);
        let segment = SEGMENTS.iter().rposition(|&segment| segment <= syn.segment).unwrap_or(0);
        let scale = syn.scale.unwrap_or(UNSCALED);
        let said = (segment as u8) << 5 | scale << 1 | u8::from(syn.selective);
        signed(self.hash(age(now), tuple, syn.number, said), said)
    }

    /// What was offered by a peer that acknowledges a cookie, given lately and not redeemed before; `number` is that of
    /// its SYN.
    pub(super) fn redeem(
        &mut self,
        now: Instant,
        tuple: &Tuple,
        number: u32,
        cookie: u32,
    ) -> Option<SynFields> {
        let said = cookie as u8;
        let age = age(now);
        let hashes = [age, age.wrapping_sub(1)].map(|age| self.hash(age, tuple, number, said));
        let hash = *hashes.iter().find(|&&hash| signed(hash, said) == cookie)?;
        while self.spent.front().is_some_and(|&(then, ..)| now >= then + 2 * HANDSHAKE_TIME) {
            self.spent.pop_front();
        }
        if self.spent.iter().any(|&(_, spent)| spent == hash) {
            return None;
        }
        if self.spent.len() == FLOWS_MAX {
            self.spent.pop_front();
        }
        self.spent.push_back((now, hash));
        let scale = Some(said >> 1 & 15).filter(|&bits| bits != UNSCALED);
        let segment = SEGMENTS[usize::from(said >> 5)];
        // A window follows with the segment that brings the cookie.
        Some(SynFields { number, window: 0, segment, scale, selective: said & 1 != 0 })
    }

    fn hash(&self, age: u64, tuple: &Tuple, number: u32, said: u8) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.secret, age, tuple, number, said).hash(&mut hasher);
        hasher.finish()
    }
}

/// The cookie: what is said, and 24 bits of its hash.
fn signed(hash: u64, said: u8) -> u32 {
    (hash as u32) << 8 | u32::from(said)
}

/// A number that changes every so often.
fn age(now: Instant) -> u64 {
    now.as_nanos() / HANDSHAKE_TIME.as_nanos() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn tuple(port: u16) -> Tuple {
        Tuple { local: ([10, 0, 0, 1], 3260).into(), peer: ([10, 0, 0, 2], port).into() }
    }

    fn at(seconds: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(seconds)
    }

    fn offer(segment: u16, scale: Option<u8>, selective: bool) -> SynFields {
        SynFields { number: 7, window: 0, segment, scale, selective }
    }

    #[test]
    fn a_cookie_tells_what_was_offered() {
        let mut cookies = SynCookies::new([1, 2]);
        for scale in [None, Some(0), Some(7), Some(14)] {
            for selective in [false, true] {
                for (segment, told) in
                    [(536, 536), (1219, 536), (1460, 1460), (1500, 1460), (8960, 8940), (65_535, 65_461)]
                {
                    let cookie = cookies.give(at(1), &tuple(9), &offer(segment, scale, selective));
                    let back = cookies.redeem(at(1), &tuple(9), 7, cookie);
                    assert_eq!(back, Some(offer(told, scale, selective)));
                    assert_eq!(cookies.redeem(at(1), &tuple(9), 7, cookie), None, "once");
                    cookies.spent.clear();
                }
            }
        }
    }

    #[test]
    fn a_cookie_is_good_for_its_owner_and_for_some_time() {
        let mut cookies = SynCookies::new([1, 2]);
        assert!(!cookies.are_out(at(0)));
        let cookie = cookies.give(at(5), &tuple(9), &offer(1460, None, true));
        let redeem = |now, port, number, cookie| {
            SynCookies::new([1, 2]).redeem(at(now), &tuple(port), number, cookie).is_some()
        };
        assert!(redeem(5, 9, 7, cookie) && redeem(15, 9, 7, cookie));
        assert!(!redeem(25, 9, 7, cookie), "it is old");
        assert!(!redeem(5, 10, 7, cookie) && !redeem(5, 9, 8, cookie));
        for bit in 0..32 {
            assert!(!redeem(5, 9, 7, cookie ^ 1 << bit), "bit {bit}");
        }
        assert!(cookies.are_out(at(24)) && !cookies.are_out(at(25)));
        assert!(SynCookies::new([1, 3]).redeem(at(5), &tuple(9), 7, cookie).is_none(), "another's");
    }
}
