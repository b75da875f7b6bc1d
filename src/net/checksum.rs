// SPDX-License-Identifier: GPL-2.0-or-later
//! The Internet checksum (RFC 1071), and what a port without offload does to a frame before it goes out.

use std::net::IpAddr;

use super::TxFrame;

/// Offset of the checksum in a TCP header.
const TCP_CHECKSUM: usize = 16;

/// A running sum of 16-bit words; carries are folded in at the end.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sum {
    sum: u64,
    /// The next byte is the low half of a word.
    odd: bool,
}

impl Sum {
    pub(super) fn add(mut self, bytes: &[u8]) -> Self {
        let mut bytes = bytes;
        if self.odd
            && let [first, rest @ ..] = bytes
        {
            self.sum += u64::from(*first);
            self.odd = false;
            bytes = rest;
        }
        let mut words = bytes.chunks_exact(2);
        for word in &mut words {
            self.sum += u64::from(u16::from_be_bytes([word[0], word[1]]));
        }
        if let [last] = words.remainder() {
            self.sum += u64::from(*last) << 8;
            self.odd = true;
        }
        self
    }

    /// The pseudo header of TCP and ICMPv6 (RFC 9293 3.1, RFC 8200 8.1).
    pub(super) fn pseudo_header(from: IpAddr, to: IpAddr, protocol: u8, len: usize) -> Self {
        let sum = match (from, to) {
            (IpAddr::V4(from), IpAddr::V4(to)) => Self::default().add(&from.octets()).add(&to.octets()),
            (IpAddr::V6(from), IpAddr::V6(to)) => Self::default().add(&from.octets()).add(&to.octets()),
            _ => unreachable!("both ends of a packet have the same family"),
        };
        let len = u32::try_from(len).unwrap_or(u32::MAX);
        sum.add(&[0, protocol]).add(&len.to_be_bytes())
    }

    /// Folded, not inverted: what a partial checksum field holds.
    pub(super) fn folded(self) -> u16 {
        let mut sum = self.sum;
        while sum > 0xffff {
            sum = (sum >> 16) + (sum & 0xffff);
        }
        u16::try_from(sum).unwrap_or(u16::MAX)
    }

    /// The checksum.
    pub(super) fn checksum(self) -> u16 {
        !self.folded()
    }
}

/// Makes a frame complete: its payload is put behind the header, and the TCP checksum computed. This copies; it is for
/// ports that can neither gather nor compute. A frame to be cut into segments is never given to such a port.
pub fn finish_in_software(frame: &mut TxFrame) {
    let at = frame.header.len();
    frame.header.resize(at + frame.payload.len(), 0);
    frame.payload.copy_to(0, &mut frame.header[at..]);
    frame.payload = crate::memory::Sg::new();
    if let Some(offload) = frame.offload.take() {
        let start = usize::from(offload.csum_start);
        let sum = Sum::default().add(&frame.header[start..]).checksum();
        frame.header[start + TCP_CHECKSUM..][..2].copy_from_slice(&sum.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_may_be_cut_anywhere() {
        // The example of RFC 1071 clause 3.
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        for cut in 0..=bytes.len() {
            assert_eq!(Sum::default().add(&bytes[..cut]).add(&bytes[cut..]).folded(), 0xddf2);
        }
    }
}
