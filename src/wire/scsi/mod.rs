// SPDX-License-Identifier: GPL-2.0-or-later
//! SCSI byte formats: big-endian fields, and parameter data as it is put together. The caller owns all bytes.

mod data;

pub use data::DataIn;

/// `N` bytes from offset `at`. Bytes beyond the end read as zero, so that a short message never panics; who cares
/// checks the length before.
fn field<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut value = [0; N];
    if let Some(rest) = bytes.get(at..) {
        let n = rest.len().min(N);
        value[..n].copy_from_slice(&rest[..n]);
    }
    value
}

/// The two bytes from `at`.
pub fn be16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes(field(bytes, at))
}

/// The three bytes from `at`.
pub fn be24(bytes: &[u8], at: usize) -> u32 {
    let [a, b, c] = field(bytes, at);
    u32::from_be_bytes([0, a, b, c])
}

/// The four bytes from `at`.
pub fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(field(bytes, at))
}

/// The eight bytes from `at`.
pub fn be64(bytes: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(field(bytes, at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_big_endian_and_zero_beyond_the_end() {
        let bytes = [1, 2, 3, 4, 5, 6, 7, 8, 9];
        assert_eq!(be16(&bytes, 1), 0x0203);
        assert_eq!(be24(&bytes, 0), 0x01_0203);
        assert_eq!(be32(&bytes, 5), 0x0607_0809);
        assert_eq!(be64(&bytes, 1), 0x0203_0405_0607_0809);
        assert_eq!(be32(&bytes, 7), 0x0809_0000);
        assert_eq!(be64(&bytes, 9), 0);
        assert_eq!(be16(&bytes, usize::MAX), 0);
    }
}
