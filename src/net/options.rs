// SPDX-License-Identifier: GPL-2.0-or-later
//! The options of a TCP header (RFC 9293 3.2), and what a peer offers with those of its SYN.

use std::iter;
use std::net::SocketAddr;
use std::ops::Range;

use smallvec::SmallVec;

use super::front::{SYN, ip_header};

/// TCP header without options.
const TCP: usize = 20;

/// Kinds of options: RFC 9293 3.2, RFC 7323 2.2, RFC 2018 2 and 3.
const END: u8 = 0;
const NOTHING: u8 = 1;
pub(super) const SEGMENT: u8 = 2;
const SCALE: u8 = 3;
const SELECTIVE: u8 = 4;
pub(super) const BLOCKS: u8 = 5;

/// Maximum segment size of a peer that names none (RFC 9293 3.7.1), and the least that one may name: every host takes
/// so much, and a peer that wants less wants us to work.
pub(super) const SEGMENT_MIN: u16 = 536;

/// Most bits by which a window may be shifted (RFC 7323 2.3).
const SCALE_MAX: u8 = 14;

/// The options of a header as far as they can be read: the kind of each, and where in the header its value is.
pub(super) fn options(header: &[u8]) -> impl Iterator<Item = (u8, Range<usize>)> + '_ {
    let mut at = TCP;
    iter::from_fn(move || {
        while header.get(at) == Some(&NOTHING) {
            at += 1;
        }
        let &[kind, len] = header.get(at..)?.first_chunk()?;
        let value = at + 2..at + usize::from(len);
        if kind == END || value.start > value.end || value.end > header.len() {
            return None;
        }
        at = value.end;
        Some((kind, value))
    })
}

/// What a peer offers with its SYN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SynFields {
    /// The sequence number of the SYN.
    pub(super) number: u32,
    /// Its window, in bytes.
    pub(super) window: u16,
    /// Most payload bytes of a segment.
    pub(super) segment: u16,
    /// By how many bits it shifts its windows, if they may be shifted.
    pub(super) scale: Option<u8>,
    /// It understands selective acknowledgments.
    pub(super) selective: bool,
}

impl SynFields {
    /// What the header of a SYN says.
    pub(super) fn of(header: &[u8]) -> Self {
        let mut syn = Self {
            number: u32::from_be_bytes([header[4], header[5], header[6], header[7]]),
            window: u16::from_be_bytes([header[14], header[15]]),
            segment: SEGMENT_MIN,
            scale: None,
            selective: false,
        };
        for (kind, value) in options(header) {
            match (kind, &header[value]) {
                (SEGMENT, &[high, low]) => syn.segment = SEGMENT_MIN.max(u16::from_be_bytes([high, low])),
                (SCALE, &[bits]) => syn.scale = Some(bits.min(SCALE_MAX)),
                (SELECTIVE, []) => syn.selective = true,
                _ => {}
            }
        }
        syn
    }

    /// A SYN that says this and nothing else.
    pub(super) fn packet(&self, from: SocketAddr, to: SocketAddr) -> SmallVec<[u8; 128]> {
        let mut options: SmallVec<[u8; 12]> = SmallVec::from_slice(&[SEGMENT, 4]);
        options.extend_from_slice(&self.segment.to_be_bytes());
        if let Some(bits) = self.scale {
            options.extend_from_slice(&[NOTHING, SCALE, 3, bits]);
        }
        if self.selective {
            options.extend_from_slice(&[NOTHING, NOTHING, SELECTIVE, 2]);
        }
        let len = TCP + options.len();
        let mut packet = ip_header(from.ip(), to.ip(), len);
        packet.extend_from_slice(&from.port().to_be_bytes());
        packet.extend_from_slice(&to.port().to_be_bytes());
        packet.extend_from_slice(&self.number.to_be_bytes());
        // Its length in words, in the upper half of a byte.
        packet.extend_from_slice(&[0, 0, 0, 0, (len as u8) << 2, SYN]);
        packet.extend_from_slice(&self.window.to_be_bytes());
        packet.extend_from_slice(&[0; 4]);
        packet.extend_from_slice(&options);
        packet
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(options: &[u8]) -> Vec<u8> {
        [&[0, 1, 2, 3, 9, 8, 7, 6, 0, 0, 0, 0, 0, 2, 16, 1, 0, 0, 0, 0], options].concat()
    }

    fn offer(segment: u16, scale: Option<u8>, selective: bool) -> SynFields {
        SynFields { number: 0x0908_0706, window: 0x1001, segment, scale, selective }
    }

    #[test]
    fn a_syn_is_read_as_far_as_it_makes_sense() {
        for (options, (segment, scale, selective)) in [
            (&[][..], (536, None, false)),
            (&[2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 0, 0, 0, 0, 0, 1, 3, 3, 7], (1460, Some(7), true)),
            // Segments for which it is not worth while to send a header; shifts that there are not.
            (&[2, 4, 0, 1], (536, None, false)),
            (&[2, 4, 0, 0], (536, None, false)),
            (&[2, 4, 5, 0xb4, 2, 4, 0, 1], (536, None, false)),
            (&[3, 3, 255], (536, Some(14), false)),
            // Other lengths, no length, an end before the end, lengths beyond it.
            (&[2, 3, 5, 4, 2], (536, None, true)),
            (&[2, 4, 9, 0, 4, 0, 3, 3, 7], (2304, None, false)),
            (&[4, 1, 4, 2], (536, None, false)),
            (&[4, 2, 0, 3, 3, 3, 3], (536, None, true)),
            (&[4, 2, 2, 200, 5, 0xb4], (536, None, true)),
            (&[4, 2, 1, 1, 1, 3], (536, None, true)),
            (&[255, 6, 2, 4, 9, 9, 4, 2], (536, None, true)),
        ] {
            assert_eq!(SynFields::of(&header(options)), offer(segment, scale, selective), "{options:?}");
        }
    }

    #[test]
    fn an_offer_is_repeated_as_it_is() {
        let ends = |ip: &str| SocketAddr::new(ip.parse().unwrap(), 3260);
        for (from, to, tcp) in [("10.0.0.2", "10.0.0.1", 20), ("fd00::2", "fd00::1", 40)] {
            for scale in [None, Some(0), Some(14)] {
                for selective in [false, true] {
                    let offer = offer(9000, scale, selective);
                    let packet = offer.packet(ends(from), ends(to));
                    assert_eq!(SynFields::of(&packet[tcp..]), offer);
                    assert_eq!(usize::from(packet[tcp + 12] >> 4) * 4, packet.len() - tcp);
                }
            }
        }
    }
}
