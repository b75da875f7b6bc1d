// SPDX-License-Identifier: GPL-2.0-or-later
//! Parameter data for the initiator, put together field by field.

use smallvec::SmallVec;

/// A growing block of parameter data. What commands return besides user data is short: most of it stays inline.
#[derive(Clone, Debug, Default)]
pub struct DataIn(SmallVec<[u8; 256]>);

impl DataIn {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Length so far.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is nothing yet.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The bytes so far.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Appends one byte.
    pub fn u8(&mut self, value: u8) -> &mut Self {
        self.0.push(value);
        self
    }

    /// Appends two bytes.
    pub fn u16(&mut self, value: u16) -> &mut Self {
        self.bytes(&value.to_be_bytes())
    }

    /// Appends four bytes.
    pub fn u32(&mut self, value: u32) -> &mut Self {
        self.bytes(&value.to_be_bytes())
    }

    /// Appends eight bytes.
    pub fn u64(&mut self, value: u64) -> &mut Self {
        self.bytes(&value.to_be_bytes())
    }

    /// Appends bytes as they are.
    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// Appends zeros until the length is `len`; does nothing if it is that already.
    pub fn pad_to(&mut self, len: usize) -> &mut Self {
        if self.0.len() < len {
            self.0.resize(len, 0);
        }
        self
    }

    /// Fills in a length field of `width` bytes at offset `at` that was appended as zeros: it counts the bytes that
    /// follow it. More than it can count is cut to its maximum.
    pub fn close(&mut self, at: usize, width: usize) -> &mut Self {
        let count = self.0.len().saturating_sub(at + width) as u64;
        let most = u64::MAX >> (64 - 8 * width);
        let bytes = count.min(most).to_be_bytes();
        self.0[at..at + width].copy_from_slice(&bytes[8 - width..]);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_count_what_follows_them() {
        let mut d = DataIn::new();
        d.u8(1).u16(0).u8(7).pad_to(10).close(1, 2);
        assert_eq!(d.as_bytes(), [1, 0, 7, 7, 0, 0, 0, 0, 0, 0]);
        let mut long = DataIn::new();
        long.u8(0).pad_to(300).close(0, 1);
        assert_eq!(long.as_bytes()[0], 255);
    }
}
