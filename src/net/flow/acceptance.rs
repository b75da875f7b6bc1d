// SPDX-License-Identifier: GPL-2.0-or-later
//! Which segments are believed (RFC 9293 3.10.7.4, RFC 5961), before smoltcp or the flow do anything about them.
//! Whoever does not see the frames of a connection does not know its numbers: what he says changes nothing, and at most
//! makes us tell the peer what is right. That is done seldom, and counted for each flow alone, so that nobody learns
//! anything of one flow at another (CVE-2016-5696).

use std::time::Duration;

use super::{Flow, Out, has_ended};
use crate::memory::Sg;
use crate::net::front::{ACK, RST, SYN};
use crate::net::run::Run;

/// How often a flow answers what is not believed, at most.
const CHALLENGE_TIME: Duration = Duration::from_millis(250);

fn word(header: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
}

impl Flow {
    /// Whether a segment is to be taken: its numbers are near what comes next and among what was sent, or else it is a
    /// reset that says what comes next.
    #[inline]
    pub(super) fn accepts(&mut self, run: &mut Run, out: &mut Out<'_>) -> bool {
        let header = run.header();
        let plain = header[13] & (SYN | RST | ACK) == ACK && self.is_near(word(header, 4));
        plain && self.place(word(header, 8)).is_some_and(|at| at <= self.end()) || self.challenge(run, out)
    }

    /// Whether a segment is one of the peer's whose SYN has made this flow, before any other has been accepted.
    pub(in crate::net) fn is_in_handshake(&self, header: &[u8]) -> bool {
        let (sequence, next) = (word(header, 4), self.reassembly.next());
        match header[13] & (SYN | RST | ACK) {
            ACK => word(header, 8) == self.first && self.is_near(sequence),
            SYN => sequence.wrapping_add(1) == next,
            flags => flags & RST != 0 && sequence == next,
        }
    }

    /// The offset up to which the peer may have something to acknowledge; a FIN counts as a byte.
    #[inline]
    fn end(&self) -> u64 {
        self.sent_to + u64::from(self.closing && self.sent_to == self.queued)
    }

    /// Whether a segment may matter, as old or early as it is.
    #[inline]
    fn is_near(&self, sequence: u32) -> bool {
        let window = self.shape.receive as u32;
        sequence.wrapping_sub(self.reassembly.next()).wrapping_add(window) < 2 * window
    }

    /// The same of any other segment. It is answered with what is right, if it is not old: a peer that means it says so
    /// again then, by a reset with the number that comes next.
    #[cold]
    fn challenge(&mut self, run: &mut Run, out: &mut Out<'_>) -> bool {
        let header = run.header();
        let (sequence, flags) = (word(header, 4), header[13]);
        let next = self.reassembly.next().wrapping_add(u32::from(has_ended(self.state())));
        if flags & RST != 0 {
            // What we have acknowledged may be less than what has come.
            if sequence == next || self.scaled && sequence == self.told_peer.0 {
                run.set_sequence(next);
                return true;
            }
            if sequence.wrapping_sub(next) >= self.shape.receive as u32 {
                return false;
            }
        } else if flags & SYN == 0 && (flags & ACK == 0 || self.place(word(header, 8)).is_none()) {
            return false;
        }
        // Before the handshake is done its answer goes out again and again, and does the same.
        if self.scaled && self.challenged.is_none_or(|at| self.now >= at + CHALLENGE_TIME) {
            self.challenged = Some(self.now);
            self.challenges += 1;
            self.push(self.end(), Sg::new(), out);
        }
        false
    }
}
