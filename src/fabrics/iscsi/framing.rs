// SPDX-License-Identifier: GPL-2.0-or-later
//! From the byte stream to PDUs. Payload stays where it was received.

use smallvec::SmallVec;

use crate::memory::{Arena, Seg, SegMut, Sg};
use crate::wire::Crc32c;
use crate::wire::iscsi::Bhs;

/// Longest AHS that we take: an extended CDB of 260 bytes and a bidirectional read length need less.
const AHS_MAX: usize = 264 + 8;

/// Segments of an unfinished PDU that are kept as they came, whatever their length.
const SEGMENTS_FREE: usize = 16;

/// Beyond those, shorter ones may be gathered in blocks of this size.
const GATHER: usize = 2048;

/// Whether a piece is to be copied into such a block because that takes less memory: several of its kind fit into one,
/// or it lies in a larger block of its own. The payload of a frame of 1500 bytes does neither. So a PDU never consists
/// of more pieces than [`SEGMENTS_FREE`] and one for each half of such a block.
fn gathers(data: &Seg) -> bool {
    data.len() <= GATHER / 2 || data.len() < GATHER && data.pinned() > GATHER
}

/// Memory that a piece takes: all of its block, if that is of our arena.
pub(super) fn memory(data: &Seg) -> usize {
    data.pinned().max(data.len())
}

/// A whole PDU.
pub(super) struct Pdu {
    pub(super) bhs: Bhs,
    pub(super) ahs: SmallVec<[u8; 16]>,
    /// The data segment without padding.
    pub(super) data: Sg,
    /// The data digest was wrong: the data must not be used.
    pub(super) damaged: bool,
}

impl Pdu {
    /// The data segment in one piece, for texts.
    pub(super) fn text(&self) -> Vec<u8> {
        self.data.to_vec()
    }
}

/// Which digests are on, and how much a PDU may carry.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) header_digest: bool,
    pub(super) data_digest: bool,
    pub(super) data_max: usize,
}

/// Collects received bytes until a PDU is whole.
#[derive(Default)]
pub(super) struct Framer {
    inbox: Sg,
    /// Memory that cannot be used for anything else because of that, at most; more if a PDU was taken out since it was
    /// looked at.
    pinned: usize,
    shrunk: bool,
    /// A block in which small segments are gathered, behind the inbox, and how many bytes of it are filled.
    gather: Option<(SegMut, usize)>,
    /// The header of the PDU that is being collected.
    head: Option<Bhs>,
    /// Until so many bytes are held, there is nothing new to be seen.
    awaited: usize,
}

impl Framer {
    /// Takes received bytes. A peer that sends a PDU in many small pieces would make us keep a segment, and a whole
    /// frame behind it, for each: such pieces are copied into a block.
    pub(super) fn push(&mut self, data: Seg, arena: &Arena) {
        if self.inbox.segs().len() >= SEGMENTS_FREE && gathers(&data) {
            let room = self.gather.as_ref().map_or(0, |(_, filled)| GATHER - filled);
            if room < data.len() {
                self.settle();
                self.gather = arena.alloc(GATHER).map(|block| (block, 0));
            }
            if let Some((block, filled)) = &mut self.gather {
                data.copy_to(0, &mut block.bytes_mut()[*filled..*filled + data.len()]);
                *filled += data.len();
                return;
            }
        }
        self.settle();
        self.pinned += memory(&data);
        self.inbox.push(data);
    }

    /// Puts the gathered bytes in their place.
    #[inline]
    fn settle(&mut self) {
        if self.gather.is_some() {
            self.settle_gathered();
        }
    }

    #[cold]
    fn settle_gathered(&mut self) {
        if let Some((mut block, filled)) = self.gather.take() {
            block.set_len(filled);
            self.pinned += block.capacity();
            self.inbox.push(block.freeze());
        }
    }

    /// The next whole PDU; `Ok(None)` when more bytes are needed. An error ends the connection: the stream cannot be
    /// followed any further.
    pub(super) fn next(&mut self, limits: Limits) -> Result<Option<Pdu>, &'static str> {
        let bhs = match self.head {
            Some(bhs) => bhs,
            None if self.held() < Bhs::LEN => return Ok(self.awaits(Bhs::LEN)),
            None => {
                self.settle();
                let mut header = [0; Bhs::LEN];
                self.inbox.copy_to(0, &mut header);
                let bhs = Bhs::from(header);
                if bhs.ahs_len() > AHS_MAX {
                    return Err("additional header segments too long");
                }
                // Its lengths count only when it is known to be whole: one that is damaged could make us wait for ever.
                if limits.header_digest {
                    let head = Bhs::LEN + bhs.ahs_len();
                    if self.held() < head + 4 {
                        return Ok(self.awaits(head + 4));
                    }
                    let mut bytes: SmallVec<[u8; 128]> = SmallVec::from_elem(0, head + 4);
                    self.inbox.copy_to(0, &mut bytes);
                    if Crc32c::of(&bytes[..head]).wire() != bytes[head..] {
                        return Err("header digest error");
                    }
                }
                if bhs.data_len() > limits.data_max {
                    return Err("data segment longer than MaxRecvDataSegmentLength");
                }
                bhs
            }
        };
        let head = Bhs::LEN + bhs.ahs_len();
        let head_digest = if limits.header_digest { 4 } else { 0 };
        let padded = bhs.data_len().next_multiple_of(4);
        let data_digest = if limits.data_digest && padded > 0 { 4 } else { 0 };
        let whole = head + head_digest + padded + data_digest;
        if self.held() < whole {
            self.head = Some(bhs);
            return Ok(self.awaits(whole));
        }
        self.settle();
        (self.head, self.awaited) = (None, 0);
        let mut ahs = SmallVec::new();
        if head > Bhs::LEN {
            ahs.resize(bhs.ahs_len(), 0);
            self.inbox.copy_to(Bhs::LEN, &mut ahs);
        }
        self.inbox.skip(head + head_digest);
        let mut data = Sg::new();
        let mut damaged = false;
        if padded > 0 {
            data = self.inbox.split_to(padded);
            if data_digest > 0 {
                let mut sent = [0; 4];
                self.inbox.copy_to(0, &mut sent);
                self.inbox.skip(4);
                damaged = digest(&data) != sent;
            }
            data.truncate(bhs.data_len());
        }
        self.shrunk = true;
        Ok(Some(Pdu { bhs, ahs, data, damaged }))
    }

    fn awaits(&mut self, bytes: usize) -> Option<Pdu> {
        self.awaited = bytes;
        None
    }

    /// Whether [`Self::next`] may have something to tell.
    #[inline]
    pub(super) fn is_ripe(&self) -> bool {
        self.held() >= self.awaited
    }

    /// Bytes held of a PDU that is not whole yet.
    pub(super) fn held(&self) -> usize {
        self.inbox.len() + self.gather.as_ref().map_or(0, |(_, filled)| *filled)
    }

    /// Memory that those take, at most.
    pub(super) fn pinned(&mut self) -> usize {
        if std::mem::take(&mut self.shrunk) {
            self.pinned = self.inbox.segs().iter().map(memory).sum();
        }
        self.pinned + self.gather.as_ref().map_or(0, |(block, _)| block.capacity())
    }

    /// Takes out the bytes that belong to no whole PDU yet.
    pub(super) fn take(&mut self) -> Vec<u8> {
        self.settle();
        (self.head, self.pinned, self.awaited) = (None, 0, 0);
        std::mem::take(&mut self.inbox).to_vec()
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

/// CRC32C over private memory: received segments, and payload that was bounced because it was lent.
pub(super) fn digest(data: &Sg) -> [u8; 4] {
    let mut crc = Crc32c::default();
    for seg in data.segs() {
        crc.update(seg.private().expect("digested bytes lie in memory that nobody else writes"));
    }
    crc.wire()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LEN: usize = 256 << 10;
    const LIMITS: Limits = Limits { header_digest: false, data_digest: false, data_max: LEN };

    /// A Data-Out PDU of that length.
    fn pdu() -> Vec<u8> {
        let mut bhs = Bhs::from([0; Bhs::LEN]);
        bhs.set_data_len(LEN);
        let data = (0..LEN).map(|at| ((at * 31) >> 3) as u8);
        bhs.bytes().iter().copied().chain(data).collect()
    }

    /// Pushes a PDU in pieces of these lengths, over and over, each in a block of its own of at least so many bytes.
    /// Returns its data, and where the pieces lie.
    fn collect(arena: &Arena, pieces: &[(usize, usize)]) -> (Sg, Vec<*const u8>) {
        let bytes = pdu();
        let (mut framer, mut rest, mut places) = (Framer::default(), &bytes[..], Vec::new());
        for &(len, block) in pieces.iter().cycle() {
            assert!(framer.next(LIMITS).unwrap().is_none());
            let (piece, more) = rest.split_at(len.min(rest.len()));
            rest = more;
            let mut block = arena.alloc(block.max(len)).expect("enough memory");
            block.set_len(piece.len());
            block.bytes_mut().copy_from_slice(piece);
            let seg = block.freeze();
            places.push(seg.as_ptr());
            framer.push(seg, arena);
            if rest.is_empty() {
                break;
            }
        }
        let pdu = framer.next(LIMITS).unwrap().expect("a whole PDU");
        assert_eq!((pdu.data.to_vec() == bytes[Bhs::LEN..], framer.held()), (true, 0));
        (pdu.data, places)
    }

    /// As frames of 1500 bytes bring it. Only the end, which is short, is copied.
    #[test]
    fn payload_of_frames_stays_where_it_was_received() {
        let arena = Arena::new(4 << 20, false).unwrap();
        let (data, mut places) = collect(&arena, &[(1460, 1460)]);
        let mut found: Vec<_> = data.segs().iter().map(Seg::as_ptr).collect();
        // The first piece begins with the header.
        assert_eq!((found.remove(0), found.len()), (places.remove(0).wrapping_add(Bhs::LEN), 179));
        assert!(found[..178] == places[..178], "the same bytes, not copies");
    }

    #[test]
    fn pieces_that_hold_much_memory_are_gathered() {
        let arena = Arena::new(32 << 20, false).unwrap();
        for (piece, block, most) in [
            // Small ones, of which many fit into a block.
            (100, 2048, LEN * 21 / 20 + SEGMENTS_FREE * 2048),
            (1000, 2048, LEN * 21 / 20 + SEGMENTS_FREE * 2048),
            // Short reads of a socket, in blocks that have room for long ones.
            (1460, 16 << 10, LEN * 2048 / 1460 + SEGMENTS_FREE * (16 << 10)),
        ] {
            let (data, _) = collect(&arena, &[(piece, block)]);
            let (held, pieces) = (arena.in_use(), data.segs().len());
            assert!(held <= most, "{held} bytes for {LEN} in pieces of {piece}, in {pieces}");
            drop(data);
            assert_eq!(arena.in_use(), 0);
        }
    }

    proptest! {
        /// Those that are kept and those that are gathered stay in order, and are not too many.
        #[test]
        fn pieces_of_all_kinds_are_one_pdu(
            pieces in prop::collection::vec((1usize..3000, prop::sample::select(vec![1usize, 4096])), 1..40),
        ) {
            let arena = Arena::new(64 << 20, false).unwrap();
            let (data, _) = collect(&arena, &pieces);
            prop_assert!(data.segs().len() <= SEGMENTS_FREE + 2 * LEN.div_ceil(GATHER / 2));
        }
    }
}
