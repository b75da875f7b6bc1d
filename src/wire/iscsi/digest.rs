// SPDX-License-Identifier: GPL-2.0-or-later
//! Header and data digests: CRC32C, least significant byte first on the wire (RFC 7143 13.1).

use crc_fast::{CrcAlgorithm, Digest};

/// A running CRC32C.
pub struct Crc32c(Digest);

impl Default for Crc32c {
    fn default() -> Self {
        Self(Digest::new(CrcAlgorithm::Crc32Iscsi))
    }
}

impl Crc32c {
    /// Takes more bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The four bytes for the wire.
    pub fn wire(self) -> [u8; 4] {
        let [a, b, c, d, ..] = self.0.finalize().to_le_bytes();
        [a, b, c, d]
    }

    /// The four bytes for the wire of one run of bytes.
    pub fn of(bytes: &[u8]) -> [u8; 4] {
        let mut crc = Self::default();
        crc.update(bytes);
        crc.wire()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of RFC 7143 appendix A.4 (RFC 3720 B.4).
    #[test]
    fn vectors_of_the_rfc() {
        assert_eq!(Crc32c::of(&[0; 32]), [0xaa, 0x36, 0x91, 0x8a]);
        assert_eq!(Crc32c::of(&[0xff; 32]), [0x43, 0xab, 0xa8, 0x62]);
        let rising: Vec<u8> = (0..32).collect();
        assert_eq!(Crc32c::of(&rising), [0x4e, 0x79, 0xdd, 0x46]);
        let mut falling = Crc32c::default();
        falling.update(&(16..32).rev().collect::<Vec<u8>>());
        falling.update(&(0..16).rev().collect::<Vec<u8>>());
        assert_eq!(falling.wire(), [0x5c, 0xdb, 0x3f, 0x11]);
    }
}
