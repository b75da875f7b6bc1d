// SPDX-License-Identifier: GPL-2.0-or-later
//! Where received bytes belong in the stream, and those of them that cannot be handed on as they come: bytes behind a
//! hole, and bytes that the owner does not take. They are copied into a ring, of which those pieces are there that are
//! needed. What has come first stays: who sends other bytes in its place later changes nothing.
//!
//! Which bytes are in order, acknowledged and within the window is smoltcp's to say, which sees none of them. What is
//! kept here is at least what it may count as received, so that a byte it counts is always here or in the frame at
//! hand.

use smallvec::SmallVec;

/// Runs of bytes that are kept behind holes. smoltcp knows 32 and drops what makes more; these are more because a run
/// that it drops may stay.
const RUNS_MAX: usize = 64;

/// Bytes of a piece of the ring.
const PIECE: usize = 16 << 10;

/// A run of bytes: offsets of its first byte and of the one behind it.
type Run = (u64, u64);

/// See the module. Offsets count from the first byte of the stream.
pub(super) struct Reassembly {
    /// The byte at an offset lies at the remainder of its division by the length. Empty as long as no piece is there.
    ring: Vec<Option<Box<[u8]>>>,
    /// How many pieces are there.
    pieces: usize,
    /// Length of the ring: the receive window.
    window: usize,
    /// Sequence number of the next byte in order; none before the SYN.
    next: Option<u32>,
    /// Its offset.
    at: u64,
    /// Bytes in order before it that are here and were not taken.
    ready: usize,
    /// What is here from `at` on, ascending, with holes between.
    runs: SmallVec<[Run; 2]>,
}

impl Reassembly {
    pub(super) fn new(window: usize) -> Self {
        Self { ring: Vec::new(), pieces: 0, window, next: None, at: 0, ready: 0, runs: SmallVec::new() }
    }

    /// Begins a stream, behind its SYN.
    pub(super) fn begin(&mut self, next: u32) {
        *self = Self { next: Some(next), ..Self::new(self.window) };
    }

    /// The sequence number of the next byte in order; before the SYN it means nothing.
    #[inline]
    pub(super) fn next(&self) -> u32 {
        self.next.unwrap_or(0)
    }

    /// Bytes in order that are here and were not taken.
    pub(super) fn ready(&self) -> usize {
        self.ready
    }

    /// Whether a segment that begins there is the next one, and nothing is kept.
    #[inline]
    pub(super) fn is_next(&self, sequence: u32) -> bool {
        self.next == Some(sequence) && self.runs.is_empty() && self.ready == 0
    }

    /// Bytes of memory that it takes.
    pub(super) fn held(&self) -> usize {
        self.pieces * PIECE
    }

    /// Whether some of what is kept behind the next byte is in a segment of `len` that begins with or before that.
    pub(super) fn overlaps(&self, sequence: u32, len: usize) -> bool {
        let Some(run) = self.runs.first() else { return false };
        self.place(sequence).is_some_and(|(old, from)| run.0 < from + len.saturating_sub(old) as u64)
    }

    /// Whether everything before a sequence number has come.
    pub(super) fn ends_at(&self, sequence: u32) -> bool {
        self.next == Some(sequence)
    }

    /// How many bytes of what begins there are old, and the offset of the first that is not.
    #[inline]
    fn place(&self, sequence: u32) -> Option<(usize, u64)> {
        let next = self.next?;
        // 32 bits wrap within seconds: it is on the side on which it is nearer.
        let (old, ahead) = (next.wrapping_sub(sequence), sequence.wrapping_sub(next));
        Some(if old < 1 << 31 { (old as usize, self.at) } else { (0, self.at + u64::from(ahead)) })
    }

    /// The offset up to which the ring has room: from the first byte on that was not taken.
    fn end(&self) -> u64 {
        self.at - self.ready as u64 + self.window as u64
    }

    /// Whether there is room for all of a segment of `len` that begins there.
    pub(super) fn has_room(&self, sequence: u32, len: usize) -> bool {
        let place = self.place(sequence);
        place.is_none_or(|(old, from)| from + len.saturating_sub(old) as u64 <= self.end())
    }

    /// How many bytes of a segment of `len` are old, if the rest of it is what comes next.
    #[inline]
    pub(super) fn continues(&self, sequence: u32, len: usize) -> Option<usize> {
        let (old, from) = self.place(sequence)?;
        (from == self.at && old < len).then_some(old)
    }

    /// Keeps what may be needed of `len` bytes that begin at a sequence number. `false`: there are too many holes, or
    /// `may` says that there is no memory for so many bytes more. What is next is kept whatever it says.
    pub(super) fn keep<'a>(
        &mut self,
        sequence: u32,
        pieces: impl Iterator<Item = &'a [u8]>,
        len: usize,
        may: impl FnOnce(u64) -> bool,
    ) -> bool {
        let Some((mut old, mut at)) = self.place(sequence) else { return true };
        let to = self.end().min(at + len.saturating_sub(old) as u64);
        if at >= to {
            return true;
        }
        if self.ring.is_empty() {
            self.ring.resize_with(self.window.div_ceil(PIECE), || None);
        }
        let missing = self.places(at, to).filter(|&index| self.ring[index].is_none()).count();
        let next = at == self.at;
        if missing > 0 && !may((missing * PIECE) as u64) && !next {
            return false;
        }
        let known = self.runs.clone();
        if !self.add((at, to)) {
            return false;
        }
        for piece in pieces {
            let (skipped, new) = piece.split_at(old.min(piece.len()));
            old -= skipped.len();
            let mut new = &new[..new.len().min((to - at) as usize)];
            while !new.is_empty() {
                // Up to the next byte that is known, or behind those that are.
                let run = known.iter().find(|run| run.1 > at);
                let (first, write) = match run {
                    Some(run) if run.0 <= at => (run.1 - at, false),
                    Some(run) => (run.0 - at, true),
                    None => (u64::MAX, true),
                };
                let (part, rest) = new.split_at(usize::try_from(first).unwrap_or(usize::MAX).min(new.len()));
                if write {
                    self.write(at, part);
                }
                at += part.len() as u64;
                new = rest;
            }
        }
        true
    }

    /// The pieces of the ring between two offsets, which are no further from each other than it is long.
    fn places(&self, from: u64, to: u64) -> impl Iterator<Item = usize> {
        let (window, pieces) = (self.window as u64, self.ring.len());
        let first = (from % window) as usize / PIECE;
        // A window of no whole number of pieces has its end and its beginning in two of them.
        let end = from % window + (to - from);
        let count = match end > window {
            true => pieces - first + ((end - window) as usize).div_ceil(PIECE),
            false => (end as usize).div_ceil(PIECE) - first,
        };
        (first..first + count.min(pieces)).map(move |index| index % pieces)
    }

    /// Adds a run to those that are known.
    fn add(&mut self, (mut from, mut to): Run) -> bool {
        let first = self.runs.iter().position(|run| run.1 >= from).unwrap_or(self.runs.len());
        let behind =
            self.runs[first..].iter().position(|run| run.0 > to).map_or(self.runs.len(), |n| first + n);
        if first == behind {
            // What is next is always taken: without it nothing would ever be in order again.
            if self.runs.len() >= RUNS_MAX && from != self.at {
                return false;
            }
            self.runs.insert(first, (from, to));
            return true;
        }
        (from, to) = (from.min(self.runs[first].0), to.max(self.runs[behind - 1].1));
        self.runs[first] = (from, to);
        self.runs.drain(first + 1..behind);
        true
    }

    fn write(&mut self, mut at: u64, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (index, from, room) = self.part(at);
            let (now, rest) = bytes.split_at(bytes.len().min(room));
            let (window, pieces) = (self.window, &mut self.pieces);
            let piece = self.ring[index].get_or_insert_with(|| {
                *pieces += 1;
                vec![0; PIECE.min(window)].into()
            });
            piece[from..from + now.len()].copy_from_slice(now);
            at += now.len() as u64;
            bytes = rest;
        }
    }

    /// Where the byte at an offset lies: its piece, the place in that, and how many bytes are there from it on.
    fn part(&self, at: u64) -> (usize, usize, usize) {
        let at = (at % self.window as u64) as usize;
        (at / PIECE, at % PIECE, (PIECE - at % PIECE).min(self.window - at))
    }

    /// Lets go of the memory when there is nothing in it.
    fn tidy(&mut self) {
        if self.pieces > 0 && self.ready == 0 && self.runs.is_empty() {
            (self.ring, self.pieces) = (Vec::new(), 0);
        }
    }

    /// `grown` more bytes are in order, the last `here` of which were kept; the others were handed on. `false`: they
    /// were not kept, and the stream cannot go on.
    #[must_use]
    pub(super) fn advance(&mut self, grown: usize, here: usize) -> bool {
        self.next = self.next.map(|next| next.wrapping_add(grown as u32));
        self.at += grown as u64;
        let at = self.at;
        let from = at - here as u64;
        let whole = here == 0 || self.runs.iter().any(|run| run.0 <= from && run.1 >= at);
        self.ready += if whole { here } else { 0 };
        while let Some(first) = self.runs.first_mut().filter(|run| run.0 < at) {
            first.0 = at;
            if first.1 <= at {
                self.runs.remove(0);
            }
        }
        self.tidy();
        whole
    }

    /// Takes the next bytes that are ready.
    ///
    /// # Panics
    /// When there are fewer than `into` is long.
    pub(super) fn read(&mut self, into: &mut [u8]) {
        let mut at = self.at - self.ready as u64;
        self.ready -= into.len();
        let mut into = into;
        while !into.is_empty() {
            let (index, from, room) = self.part(at);
            let (now, rest) = into.split_at_mut(into.len().min(room));
            match &self.ring[index] {
                Some(piece) => now.copy_from_slice(&piece[from..from + now.len()]),
                None => debug_assert!(false, "bytes that are not here"),
            }
            at += now.len() as u64;
            into = rest;
        }
        self.tidy();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn byte(at: u64) -> u8 {
        (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56).to_le_bytes()[0]
    }

    fn bytes(from: u64, to: u64) -> Vec<u8> {
        (from..to).map(byte).collect()
    }

    fn keep(it: &mut Reassembly, first: u32, from: u64, to: u64) -> bool {
        let data = bytes(from, to);
        // In two pieces.
        let (a, b) = data.split_at(data.len() / 3);
        it.keep(first.wrapping_add(from as u32), [a, b].into_iter(), data.len(), |_| true)
    }

    /// The length of what is in order from `at` on.
    fn front(it: &Reassembly) -> usize {
        it.runs.first().filter(|run| run.0 == it.at).map_or(0, |run| (run.1 - run.0) as usize)
    }

    proptest! {
        /// Segments in any order, cut anyhow, twice or with overlaps, over a ring that wraps and sequence numbers that
        /// do.
        #[test]
        fn bytes_come_out_as_they_are(
            first in prop_oneof![Just(0u32), Just(u32::MAX - 700), any::<u32>()],
            segments in prop::collection::vec((0u64..400, 1u64..200, any::<bool>()), 1..200),
        ) {
            const WINDOW: usize = 256;
            let mut it = Reassembly::new(WINDOW);
            it.begin(first);
            let mut taken = 0;
            for (ahead, len, take) in segments {
                // From a little before what is next to beyond the window.
                let from = (it.at + ahead).saturating_sub(150);
                let kept = keep(&mut it, first, from, from + len);
                prop_assert!(kept || it.runs.len() == RUNS_MAX);
                prop_assert!(it.runs.windows(2).all(|two| two[0].1 < two[1].0), "{:?}", it.runs);
                prop_assert!(it.runs.iter().all(|run| run.0 < run.1 && run.0 >= it.at));
                prop_assert!(it.runs.last().is_none_or(|run| run.1 <= taken + WINDOW as u64));
                let grown = front(&it);
                prop_assert!(it.advance(grown, grown));
                if take {
                    let mut out = vec![0; it.ready().div_ceil(2)];
                    it.read(&mut out);
                    prop_assert_eq!(&out, &bytes(taken, taken + out.len() as u64));
                    taken += out.len() as u64;
                }
            }
            let mut out = vec![0; it.ready()];
            it.read(&mut out);
            prop_assert_eq!(out, bytes(taken, it.at));
        }
    }

    #[test]
    fn holes_are_bounded_and_the_next_byte_is_always_taken() {
        let mut it = Reassembly::new(4096);
        it.begin(7);
        for n in 1..=RUNS_MAX as u64 {
            assert!(keep(&mut it, 7, n * 4, n * 4 + 1));
        }
        assert!(!keep(&mut it, 7, 4000, 4001));
        assert!(keep(&mut it, 7, 9, 12), "which joins two");
        assert!(keep(&mut it, 7, 4000, 4001));
        assert!(keep(&mut it, 7, 0, 1));
        assert!(it.advance(1, 1));
        let mut out = [0];
        it.read(&mut out);
        assert_eq!(out, [byte(0)]);
    }

    /// A forger who hits a hole, or a peer that changes its mind.
    #[test]
    fn what_has_come_first_stays() {
        const LEN: usize = 40_000;
        let mut it = Reassembly::new(64 << 10);
        it.begin(7);
        let put = |it: &mut Reassembly, from: usize, to: usize, value: u8| {
            let data = vec![value; to - from];
            assert!(it.keep(7 + from as u32, data.chunks(700), data.len(), |_| true));
        };
        put(&mut it, 100, 200, 1);
        put(&mut it, 20_000, 30_000, 2);
        assert!(it.overlaps(7, 101) && !it.overlaps(7, 100));
        put(&mut it, 50, 25_000, 3);
        put(&mut it, 0, LEN, 4);
        assert!(it.advance(LEN, LEN));
        let mut out = vec![0; LEN];
        it.read(&mut out);
        let expected = [(50, 4), (50, 3), (100, 1), (19_800, 3), (10_000, 2), (10_000, 4)];
        assert!(out == expected.iter().flat_map(|&(len, value)| vec![value; len]).collect::<Vec<u8>>());
        assert_eq!(it.held(), 0, "nothing is left of it");
    }

    #[test]
    fn memory_is_asked_for_and_what_is_next_is_always_kept() {
        let mut it = Reassembly::new(1 << 20);
        it.begin(7);
        let asked = std::cell::Cell::new(0);
        let keep = |it: &mut Reassembly, from: u32, len: usize, may: bool| {
            let data = vec![1; len];
            let ask = |bytes| {
                asked.set(asked.get() + bytes);
                may
            };
            it.keep(7 + from, [&data[..]].into_iter(), len, ask)
        };
        assert!(!keep(&mut it, 1, 100, false));
        assert_eq!((it.held(), it.runs.len()), (0, 0));
        assert!(keep(&mut it, 1, 100, true) && keep(&mut it, 900_000, 1, true));
        assert_eq!(
            (it.held(), asked.take()),
            (2 * PIECE, 3 * PIECE as u64),
            "as much as it takes, not a window"
        );
        assert!(keep(&mut it, 0, PIECE + 1, false), "what is next");
        assert_eq!((it.held(), asked.take()), (3 * PIECE, PIECE as u64));
    }

    #[test]
    fn what_was_not_kept_is_not_given() {
        let mut it = Reassembly::new(4096);
        it.begin(7);
        assert!(keep(&mut it, 7, 10, 20));
        assert!(!it.advance(20, 20));
        assert_eq!(it.ready(), 0);
    }

    #[test]
    fn a_segment_is_old_next_or_ahead() {
        let mut it = Reassembly::new(4096);
        it.begin(u32::MAX - 4);
        assert_eq!(it.continues(u32::MAX - 4, 3), Some(0));
        assert_eq!(it.continues(u32::MAX - 8, 5), Some(4));
        assert_eq!(it.continues(u32::MAX - 8, 4), None);
        assert_eq!(it.continues(u32::MAX - 3, 100), None);
        assert!(it.advance(10, 0));
        assert_eq!(it.continues(u32::MAX, 10), Some(6));
    }
}
