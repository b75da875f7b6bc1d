// SPDX-License-Identifier: GPL-2.0-or-later
//! The Internet checksum (RFC 1071), and what a port without offload does to a frame before it goes out.

use std::net::IpAddr;

use super::{TcpOffload, TxFrame};

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
        // Words of 32 bits may be added as they are: with the carries folded in, 2^16 counts as 1.
        let sum = |ip: IpAddr| match ip {
            IpAddr::V4(ip) => u64::from(ip.to_bits()),
            IpAddr::V6(ip) => [0, 32, 64, 96].map(|at| u64::from((ip.to_bits() >> at) as u32)).iter().sum(),
        };
        let len = u32::try_from(len).unwrap_or(u32::MAX);
        Self { sum: sum(from) + sum(to) + u64::from(protocol) + u64::from(len), odd: false }
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

/// Cuts a frame into segments that fit the wire, for ports whose device cannot; their payload stays where it lies. What
/// is left to do with each is its TCP checksum. A frame that needs no cutting is the only one of its list.
pub fn cut_in_software(mut frame: TxFrame) -> Vec<TxFrame> {
    const IP: usize = 14;
    const FIN_PSH: u8 = 0x09;
    const CWR: u8 = 0x80;
    let Some((offload, size)) = frame.offload.and_then(|offload| Some((offload, offload.segment?))) else {
        return vec![frame];
    };
    let tcp = usize::from(offload.csum_start);
    let sequence = u32::from_be_bytes(array(&frame.header, tcp + 4));
    let mut cut = Vec::with_capacity(frame.payload.len().div_ceil(usize::from(size)));
    for number in 0_u16.. {
        let payload = frame.payload.split_to(frame.payload.len().min(usize::from(size)));
        let (first, last) = (number == 0, frame.payload.is_empty());
        let mut header = frame.header.clone();
        let len = u16::try_from(header.len() + payload.len() - IP).unwrap_or(u16::MAX);
        let (from, to) = match offload.ipv6 {
            false => {
                let id = u16::from_be_bytes(array(&header, IP + 4)).wrapping_add(number);
                header[IP + 2..][..2].copy_from_slice(&len.to_be_bytes());
                header[IP + 4..][..2].copy_from_slice(&id.to_be_bytes());
                header[IP + 10..][..2].fill(0);
                let sum = Sum::default().add(&header[IP..tcp]).checksum();
                header[IP + 10..][..2].copy_from_slice(&sum.to_be_bytes());
                let ip = |at| IpAddr::from(array::<4>(&header, at));
                (ip(IP + 12), ip(IP + 16))
            }
            true => {
                header[IP + 4..][..2].copy_from_slice(&(len - 40).to_be_bytes());
                let ip = |at| IpAddr::from(array::<16>(&header, at));
                (ip(IP + 8), ip(IP + 24))
            }
        };
        let at = sequence.wrapping_add(u32::from(number) * u32::from(size));
        header[tcp + 4..][..4].copy_from_slice(&at.to_be_bytes());
        header[tcp + 13] &= if last { u8::MAX } else { !FIN_PSH } & if first { u8::MAX } else { !CWR };
        let partial = Sum::pseudo_header(from, to, 6, header.len() + payload.len() - tcp).folded();
        header[tcp + TCP_CHECKSUM..][..2].copy_from_slice(&partial.to_be_bytes());
        cut.push(TxFrame { header, payload, offload: Some(TcpOffload { segment: None, ..offload }) });
        if last {
            break;
        }
    }
    cut
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("N bytes")
}

/// Makes a frame complete: its payload is put behind the header, and the TCP checksum computed. This copies; it is for
/// ports that can neither gather nor compute.
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

    #[test]
    fn a_pseudo_header_is_the_sum_of_its_words() {
        for len in [0, 20, 0xffff, 0x1_2345] {
            let (from, to) = ([10, 1, 255, 254], [192, 168, 0, 3]);
            let bytes = [&from[..], &to, &[0, 6]].concat();
            let sum = Sum::default().add(&bytes).add(&(len as u32).to_be_bytes());
            assert_eq!(Sum::pseudo_header(from.into(), to.into(), 6, len).folded(), sum.folded());
            let (from, to): (_, [u8; 16]) = ([0xfd; 16], std::array::from_fn(|at| u8::MAX - at as u8));
            let bytes = [&from[..], &to, &(len as u32).to_be_bytes(), &[0, 0, 0, 58]].concat();
            let sum = Sum::default().add(&bytes);
            assert_eq!(Sum::pseudo_header(from.into(), to.into(), 58, len).folded(), sum.folded());
        }
    }
}
