// SPDX-License-Identifier: GPL-2.0-or-later
//! iSCSI formats (RFC 7143 clause 11 to 13): the basic header segment, text keys, names. Digests
//! are a [`Crc32c`](super::Crc32c), least significant byte first (clause 13.1).

mod bhs;
mod claim;
mod name;
mod text;

pub use bhs::{Bhs, FINAL, IMMEDIATE, NO_TAG, Opcode, reject, scsi_flags};
pub use claim::claimed_name;
pub use name::{NAME_MAX, check_name, normal_name};
pub use text::{Pair, TextError, binary, number, pairs, push_pair};
