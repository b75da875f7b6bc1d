// SPDX-License-Identifier: GPL-2.0-or-later
//! Byte formats only: what lies where in a message, and how text of a message is shown. Nothing here keeps state, does I/O or
//! knows what a field is for.

mod crc;
pub mod fc;
mod field;
pub mod iscsi;
pub mod scsi;
mod shown;
mod uuid;

pub use crc::{Castagnoli, Crc, Crc32c, CrcKind, Ethernet};
#[cfg(test)]
pub(crate) use shown::tests;
pub use shown::{ByteCount, PeerText, Shown, is_printable};
pub use uuid::{NoUuid, Uuid};
