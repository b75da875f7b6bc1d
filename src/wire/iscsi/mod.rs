// SPDX-License-Identifier: GPL-2.0-or-later
//! iSCSI formats (RFC 7143 clause 11 to 13): the basic header segment, text keys, names, CRC32C.

mod bhs;
mod claim;
mod digest;
mod name;
mod text;

pub use bhs::{Bhs, FINAL, IMMEDIATE, NO_TAG, Opcode, reject, scsi_flags};
pub use claim::claimed_name;
pub use digest::Crc32c;
pub use name::{NAME_MAX, check_name, normal_name};
pub use text::{Pair, TextError, binary, number, pairs, push_pair};
