// SPDX-License-Identifier: GPL-2.0-or-later
//! Bytes that no core dump shows.

use std::io;
use std::ops::Deref;

use super::Mapping;

/// Bytes in pages of their own, which are left out of core dumps (`MADV_DONTDUMP`) and go back to the kernel on drop;
/// the kernel gives nobody a page with somebody's bytes.
#[derive(Debug)]
pub struct HiddenBytes {
    pages: Mapping,
    len: usize,
}

impl HiddenBytes {
    /// A copy of these bytes.
    pub fn new(bytes: &[u8]) -> io::Result<Self> {
        let pages = Mapping::undumped(bytes.len().max(1))?;
        // SAFETY: the mapping is fresh, writable and long enough, and nobody else knows of it.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), pages.base().as_ptr(), bytes.len()) };
        Ok(Self { pages, len: bytes.len() })
    }
}

impl Deref for HiddenBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `new` has written so many bytes, and nothing writes them again.
        unsafe { std::slice::from_raw_parts(self.pages.base().as_ptr(), self.len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_bytes_are_what_was_given() {
        for text in [&b""[..], b"a secret of ours", &[7; 255]] {
            assert_eq!(&*HiddenBytes::new(text).unwrap(), text);
        }
    }
}
