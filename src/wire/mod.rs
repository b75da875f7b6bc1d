// SPDX-License-Identifier: GPL-2.0-or-later
//! Byte formats only: what lies where in a message, and how text of a message is shown. Nothing here keeps state, does
//! I/O or knows what a field is for.

mod additional_cdb;
mod crc;
pub mod fc;
mod field;
pub mod iscsi;
pub mod iser;
#[cfg(any(test, feature = "sim"))]
pub(crate) mod rewrite;
pub mod scsi;
mod shown;
pub mod srp;
mod uuid;

pub use additional_cdb::AdditionalCdb;
pub use crc::{Castagnoli, Crc, Crc32c, CrcKind, Ethernet};
pub use field::{Defect, Emit, Malformed, Parse};
#[cfg(test)]
pub(crate) use shown::tests;
pub use shown::{ByteCount, PeerText, Shown, is_printable};
pub use uuid::{NoUuid, Uuid};
