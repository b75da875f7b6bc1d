// SPDX-License-Identifier: GPL-2.0-or-later
//! CRCs of 32 bits, over the bytes of a message or of a file.

use std::fmt;
use std::marker::PhantomData;

use crc_fast::{CrcAlgorithm, Digest};

/// Which CRC it is.
pub trait CrcKind {
    /// Polynomial, first value and the rest.
    const ALGORITHM: CrcAlgorithm;
}

/// CRC32C, of Castagnoli: that of iSCSI.
#[derive(Debug)]
pub enum Castagnoli {}

impl CrcKind for Castagnoli {
    const ALGORITHM: CrcAlgorithm = CrcAlgorithm::Crc32Iscsi;
}

/// That of Ethernet and of Fibre Channel.
#[derive(Debug)]
pub enum Ethernet {}

impl CrcKind for Ethernet {
    const ALGORITHM: CrcAlgorithm = CrcAlgorithm::Crc32IsoHdlc;
}

/// A running CRC of a kind.
pub struct Crc<K>(Digest, PhantomData<K>);

/// A running CRC32C.
pub type Crc32c = Crc<Castagnoli>;

impl<K: CrcKind> Default for Crc<K> {
    fn default() -> Self {
        Self(Digest::new(K::ALGORITHM), PhantomData)
    }
}

impl<K: CrcKind> Crc<K> {
    /// Takes more bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The CRC of all that was taken.
    pub fn value(&self) -> u32 {
        self.0.finalize() as u32
    }

    /// The same as four bytes for the wire of iSCSI and FCoE, least significant byte first.
    pub fn wire(&self) -> [u8; 4] {
        self.value().to_le_bytes()
    }

    /// The CRC of one run of bytes.
    pub fn of(bytes: &[u8]) -> Self {
        let mut crc = Self::default();
        crc.update(bytes);
        crc
    }
}

impl<K: CrcKind> fmt::Debug for Crc<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#010x}", self.value())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of RFC 7143 appendix A.4 (RFC 3720 B.4).
    #[test]
    fn vectors_of_the_rfc() {
        assert_eq!(Crc32c::of(&[0; 32]).wire(), [0xaa, 0x36, 0x91, 0x8a]);
        assert_eq!(Crc32c::of(&[0xff; 32]).wire(), [0x43, 0xab, 0xa8, 0x62]);
        let rising: Vec<u8> = (0..32).collect();
        assert_eq!(Crc32c::of(&rising).wire(), [0x4e, 0x79, 0xdd, 0x46]);
        let mut falling = Crc32c::default();
        falling.update(&(16..32).rev().collect::<Vec<u8>>());
        falling.update(&(0..16).rev().collect::<Vec<u8>>());
        assert_eq!(falling.wire(), [0x5c, 0xdb, 0x3f, 0x11]);
    }

    #[test]
    fn crc_is_that_of_ethernet_with_its_least_byte_first() {
        // The check value of CRC-32/ISO-HDLC.
        assert_eq!(Crc::<Ethernet>::of(b"123456789").wire(), 0xcbf4_3926_u32.to_le_bytes());
        let mut crc = Crc::<Ethernet>::default();
        crc.update(b"1234");
        crc.update(b"56789");
        assert_eq!(crc.value(), 0xcbf4_3926);
    }
}
