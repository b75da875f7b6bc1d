// SPDX-License-Identifier: GPL-2.0-or-later
//! Received segments on their way to their flow: one, or several of a burst of which each goes on where the one before
//! ends, as one segment (receive offload in software). smoltcp is given its headers, and as many bytes of nothing as
//! there is payload.

use super::front::ACK;
use crate::memory::{Arena, Seg};

/// TCP header without options.
const TCP: usize = 20;
const IPV4: usize = 20;
const IPV6: usize = 40;

/// Flag of a TCP header (RFC 9293 3.1).
const PSH: u8 = 0x08;

/// Most bytes of an IP packet.
const PACKET_MAX: usize = 0xffff;

/// Most segments in one.
const SEGMENTS_MAX: usize = 64;

/// See the module.
pub(super) struct Run {
    /// The headers of the first, with what later ones say; behind them anything.
    packet: Vec<u8>,
    /// The Ethernet address that the first came from.
    mac: [u8; 6],
    /// Where the TCP header begins, and where it ends.
    tcp: usize,
    headers: usize,
    /// The payload where it lies, `len` bytes.
    pieces: Vec<Seg>,
    len: usize,
    /// Segments of it.
    segments: usize,
    /// The flow, while there is something.
    flow: Option<usize>,
    /// Whether others may follow.
    open: bool,
}

impl Run {
    pub(super) fn new() -> Self {
        Self {
            packet: Vec::new(),
            mac: [0; 6],
            tcp: 0,
            headers: 0,
            pieces: Vec::with_capacity(SEGMENTS_MAX),
            len: 0,
            segments: 0,
            flow: None,
            open: false,
        }
    }

    /// Begins with a segment of a flow: a packet from `mac` that lies in `frame` from byte `at` on, whose TCP header is
    /// `tcp` bytes into it. `next`: it is the next of its flow, so that what follows it is in order, too.
    pub(super) fn begin(
        &mut self,
        flow: usize,
        frame: &Seg,
        mac: [u8; 6],
        (at, packet): (usize, &[u8]),
        tcp: usize,
        next: bool,
    ) {
        let headers = tcp + usize::from(packet[tcp + 12] >> 4) * 4;
        self.len = packet.len() - headers;
        if self.packet.len() < packet.len() {
            self.packet.resize(packet.len(), 0);
        }
        self.packet[..headers].copy_from_slice(&packet[..headers]);
        self.pieces.clear();
        if self.len > 0 {
            self.pieces.push(frame.slice(at + headers, self.len));
        }
        (self.mac, self.tcp, self.headers, self.segments, self.flow) = (mac, tcp, headers, 1, Some(flow));
        // Behind one that is large there is no room for another.
        self.open = next && self.len > 0 && headers + 2 * self.len <= PACKET_MAX && is_plain(packet, tcp);
    }

    /// Takes a segment if it goes on where this ends.
    #[inline]
    pub(super) fn join(&mut self, frame: &Seg, (at, packet): (usize, &[u8]), tcp: usize) -> bool {
        if !self.open || tcp != self.tcp {
            return false;
        }
        // Where the addresses begin; the ports follow them.
        let goes_on = match tcp {
            IPV4 => goes_on::<{ IPV4 + TCP }>(&self.packet, packet, 12, self.len),
            _ => goes_on::<{ IPV6 + TCP }>(&self.packet, packet, 8, self.len),
        };
        if !goes_on || self.len + packet.len() > PACKET_MAX || self.segments == SEGMENTS_MAX {
            return false;
        }
        // Acknowledgment, flags and window of the last.
        self.packet[tcp + 8..tcp + 12].copy_from_slice(&packet[tcp + 8..tcp + 12]);
        self.packet[tcp + 13] |= packet[tcp + 13];
        self.packet[tcp + 14..tcp + 16].copy_from_slice(&packet[tcp + 14..tcp + 16]);
        let payload = packet.len() - self.headers;
        self.pieces.push(frame.slice(at + self.headers, payload));
        self.len += payload;
        self.segments += 1;
        true
    }

    /// Closes it; returns the flow that it is for.
    pub(super) fn close(&mut self) -> Option<usize> {
        self.open = false;
        self.flow.take()
    }

    /// The packet for smoltcp. Its payload is anything.
    pub(super) fn packet(&mut self) -> &[u8] {
        let len = self.headers + self.len;
        if self.segments > 1 {
            if self.packet.len() < len {
                self.packet.resize(PACKET_MAX, 0);
            }
            let (at, value) = if self.tcp == IPV4 { (2, len) } else { (4, len - IPV6) };
            self.packet[at..at + 2].copy_from_slice(&(value as u16).to_be_bytes());
        }
        &self.packet[..len]
    }

    /// The TCP header with its options.
    pub(super) fn header(&self) -> &[u8] {
        &self.packet[self.tcp..self.headers]
    }

    /// Gives it another sequence number.
    pub(super) fn set_sequence(&mut self, sequence: u32) {
        self.packet[self.tcp + 4..self.tcp + 8].copy_from_slice(&sequence.to_be_bytes());
    }

    /// Makes its acknowledgment one of so many bytes less.
    pub(super) fn acknowledge_less(&mut self, bytes: u32) {
        let at = self.tcp + 8;
        let field = [self.packet[at], self.packet[at + 1], self.packet[at + 2], self.packet[at + 3]];
        let acknowledged = u32::from_be_bytes(field).wrapping_sub(bytes);
        self.packet[at..at + 4].copy_from_slice(&acknowledged.to_be_bytes());
    }

    /// Where it came from.
    pub(super) fn mac(&self) -> [u8; 6] {
        self.mac
    }

    /// Bytes of payload.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// How many segments have come in one.
    pub(super) fn segments(&self) -> usize {
        self.segments
    }

    /// The payload.
    pub(super) fn pieces(&self) -> &[Seg] {
        &self.pieces
    }

    /// Copies what lies in the reserve of the arena and is not small, so that it may be held; `false` if there is no
    /// memory.
    pub(super) fn leave_reserve(&mut self, arena: &Arena) -> bool {
        let large = |piece: &Seg| piece.is_reserved() && piece.pinned() > Arena::RESERVED_MAX;
        self.pieces.iter_mut().filter(|piece| large(piece)).all(|piece| {
            let Some(mut block) = arena.alloc(piece.len()) else { return false };
            piece.copy_to(0, block.bytes_mut());
            *piece = block.freeze();
            true
        })
    }

    /// Takes the payload out.
    pub(super) fn take(&mut self) -> impl Iterator<Item = Seg> + '_ {
        self.pieces.drain(..)
    }

    /// Lets go of the payload.
    pub(super) fn clear(&mut self) {
        self.pieces.clear();
    }
}

fn word<const HEADERS: usize>(headers: &[u8; HEADERS], at: usize) -> u32 {
    u32::from_be_bytes([headers[at], headers[at + 1], headers[at + 2], headers[at + 3]])
}

/// Whether a packet is plain, of the same connection, and goes on where another of `len` bytes ends.
#[inline]
fn goes_on<const HEADERS: usize>(own: &[u8], other: &[u8], addresses: usize, len: usize) -> bool {
    let tcp = HEADERS - TCP;
    let (Some(own), Some(headers)) = (own.first_chunk::<HEADERS>(), other.first_chunk::<HEADERS>()) else {
        return false;
    };
    word(headers, tcp + 4) == word(own, tcp + 4).wrapping_add(len as u32)
        && is_plain(headers, tcp)
        && other.len() > HEADERS
        && word(headers, tcp + 8).wrapping_sub(word(own, tcp + 8)) < 1 << 31
        && headers[0] >> 4 == own[0] >> 4
        && headers[addresses..tcp + 4] == own[addresses..tcp + 4]
}

/// Whether a segment has nothing to say that would be lost in a run: no option, of IP or of TCP, and no flag but ACK
/// and PSH.
#[inline]
fn is_plain(packet: &[u8], tcp: usize) -> bool {
    let ip = if packet[0] >> 4 == 4 { IPV4 } else { IPV6 };
    let (header, flags) = (packet[tcp + 12] >> 4, packet[tcp + 13]);
    tcp == ip && usize::from(header) * 4 == TCP && flags & !PSH == ACK
}
