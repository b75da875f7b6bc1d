// SPDX-License-Identifier: GPL-2.0-or-later
//! iSCSI formats (RFC 7143 clause 11 to 13): PDUs, text keys, names.
//!
//! The 48 bytes before each PDU are a [`Bhs`], which knows what all PDUs have: opcode, lengths, task tag, numbers. Each
//! kind of PDU has a [`PduHeader`] for the rest, from one table of offsets for reading and writing. Digests are a
//! [`Crc32c`](super::Crc32c), least significant byte first (clause 13.1).

mod bhs;
mod claim;
mod codes;
mod name;
mod pdu;
mod requests;
mod responses;
#[cfg(any(test, feature = "sim"))]
pub(crate) mod rewrite;
#[cfg(test)]
mod tests;
mod text;

pub use bhs::{Bhs, NO_TAG, RequestNumbers, ResponseNumbers};
pub use claim::claimed_name;
pub use codes::{
    AsyncEvent, FunctionResponse, IscsiFunction, IscsiTaskAttribute, LoginStage, LogoutReason,
    LogoutResponse, Opcode, RejectReason, ServiceResponse, SnackType,
};
pub use name::{NAME_MAX, check_name, normal_name};
pub use pdu::PduHeader;
pub use requests::{
    DataOutHeader, LoginRequestHeader, LogoutRequestHeader, NopOutHeader, ScsiCommandFlags,
    ScsiCommandHeader, SnackRequestHeader, TaskManagementRequestHeader, TextRequestHeader,
};
pub use responses::{
    AsyncHeader, DataInHeader, LoginResponseHeader, LogoutResponseHeader, NopInHeader, R2tHeader,
    RejectHeader, ScsiResponseHeader, TaskManagementResponseHeader, TextResponseHeader,
};
pub use text::{Pair, TextError, binary, number, pairs, push_pair};
