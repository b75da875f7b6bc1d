// SPDX-License-Identifier: GPL-2.0-or-later
//! The basic header segment: 48 bytes, the same frame for every PDU (RFC 7143 11.2), and what all PDUs have in it. The
//! rest is read and written as a [`PduHeader`](super::PduHeader).

use super::codes::Opcode;
use crate::wire::field::{BitField, Field, structure};

/// The reserved tag: "no task", "no transfer".
pub const NO_TAG: u32 = 0xffff_ffff;

structure! {
    /// The numbers of a request (RFC 7143 4.2.2): those at byte 24.
    #[derive(Default)]
    RequestNumbers, 8;
    /// Its place in the order of requests, or if it is immediate, that of the next one.
    [0] cmd_sn: u32,
    /// The StatSN that the initiator has not had yet.
    [4] exp_stat_sn: u32,
}

structure! {
    /// The numbers of a target's PDU (RFC 7143 4.2.2): those at byte 24.
    #[derive(Default)]
    ResponseNumbers, 12;
    /// Its place in the order of statuses, or if it has none, that of the next one.
    [0] stat_sn: u32,
    /// The next CmdSN that the target awaits.
    [4] exp_cmd_sn: u32,
    /// The last CmdSN that it takes.
    [8] max_cmd_sn: u32,
}

/// Where the numbers of a request or response are.
const NUMBERS_AT: usize = 24;

/// A basic header segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bhs(pub(super) [u8; 48]);

impl From<[u8; 48]> for Bhs {
    fn from(bytes: [u8; 48]) -> Self {
        Self(bytes)
    }
}

impl Bhs {
    /// Length in bytes.
    pub const LEN: usize = 48;

    /// As it is sent.
    pub fn bytes(&self) -> &[u8; 48] {
        &self.0
    }

    /// As it is sent, for whoever breaks it.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8; 48] {
        &mut self.0
    }

    /// The operation code.
    pub fn opcode(&self) -> Opcode {
        Opcode::from_bits(self.0[0] & 0x3f)
    }

    /// Whether a request is to be delivered at once.
    pub fn is_immediate(&self) -> bool {
        self.0[0] & 0x40 != 0
    }

    /// Says that a request is to be delivered at once.
    pub fn set_immediate(&mut self) {
        self.0[0] |= 0x40;
    }

    /// Length of the additional header segments in bytes.
    pub fn ahs_len(&self) -> usize {
        usize::from(self.0[4]) * 4
    }

    /// Sets the length of the additional header segments, which are whole words.
    ///
    /// # Panics
    /// When it is no number of words from 0 to 255.
    pub fn set_ahs_len(&mut self, len: usize) {
        assert!(len.is_multiple_of(4), "additional header segments are whole words");
        self.0[4] = u8::try_from(len / 4).expect("additional header segments have an 8-bit length");
    }

    /// Length of the data segment in bytes, without padding.
    pub fn data_len(&self) -> usize {
        usize::from(self.0[5]) << 16 | usize::from(self.0[6]) << 8 | usize::from(self.0[7])
    }

    /// Sets the length of the data segment.
    ///
    /// # Panics
    /// When it does not fit in 24 bits: data segments are cut to the peer's limit before.
    pub fn set_data_len(&mut self, len: usize) {
        let [a, b, c, d] = u32::try_from(len).expect("a data segment has a 24-bit length").to_be_bytes();
        assert_eq!(a, 0, "a data segment has a 24-bit length");
        self.0[5..8].copy_from_slice(&[b, c, d]);
    }

    /// Initiator task tag.
    pub fn itt(&self) -> u32 {
        Field::get(&self.0[16..20])
    }

    /// The numbers of a request. (Data-Out and SNACK have no CmdSN.)
    pub fn request_numbers(&self) -> RequestNumbers {
        Field::get(&self.0[NUMBERS_AT..NUMBERS_AT + RequestNumbers::LEN])
    }

    /// Sets the numbers of a request.
    pub fn set_request_numbers(&mut self, numbers: RequestNumbers) {
        numbers.put(&mut self.0[NUMBERS_AT..NUMBERS_AT + RequestNumbers::LEN]);
    }

    /// The numbers of a target's PDU.
    pub fn response_numbers(&self) -> ResponseNumbers {
        Field::get(&self.0[NUMBERS_AT..NUMBERS_AT + ResponseNumbers::LEN])
    }

    /// Sets the numbers of a target's PDU, which it gets when it leaves.
    pub fn set_response_numbers(&mut self, numbers: ResponseNumbers) {
        numbers.put(&mut self.0[NUMBERS_AT..NUMBERS_AT + ResponseNumbers::LEN]);
    }
}
