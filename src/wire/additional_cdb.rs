// SPDX-License-Identifier: GPL-2.0-or-later
//! Long CDBs.

/// What a CDB has behind its first 16 bytes, where six bits count its words (FCP-4, "FCP_CMND IU", ADDITIONAL_FCP_CDB;
/// SRP, "SRP_CMD").
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct AdditionalCdb<'a>(&'a [u8]);

impl<'a> AdditionalCdb<'a> {
    /// Most bytes of it.
    pub const LEN_MAX: usize = 63 * 4;

    /// These bytes, if they are whole words and not too many.
    pub const fn new(bytes: &'a [u8]) -> Option<Self> {
        if bytes.len().is_multiple_of(4) && bytes.len() <= Self::LEN_MAX { Some(Self(bytes)) } else { None }
    }

    /// The bytes.
    pub const fn bytes(self) -> &'a [u8] {
        self.0
    }
}
