// SPDX-License-Identifier: GPL-2.0-or-later
//! Basic link services (FC-FS, "Basic Link Services"). ABTS has no payload: what it aborts is in its header.

use super::field::{codes, layout};
use super::header::FcHeader;

/// What an ABTS aborts (FC-FS, "Abort Sequence (ABTS)").
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AbtsScope {
    /// The whole exchange.
    Exchange,
    /// One sequence of it.
    Sequence,
}

impl AbtsScope {
    /// What the header of an ABTS says.
    pub const fn of(header: &FcHeader) -> Self {
        if header.parameter & 1 == 0 { Self::Exchange } else { Self::Sequence }
    }

    /// The parameter field of the header.
    pub const fn parameter(self) -> u32 {
        match self {
            Self::Exchange => 0,
            Self::Sequence => 1,
        }
    }
}

codes! {
    /// Whether a BA_ACC tells the last sequence that can be delivered (FC-FS, "Basic Accept (BA_ACC)").
    SeqIdValidity(u8) {
        INVALID = 0x00,
        VALID = 0x80,
    }
}

layout! {
    /// Basic Accept of an ABTS (FC-FS, "Basic Accept (BA_ACC)").
    BaAcc, "BA_ACC", 12 bytes {
        /// Whether `seq_id` means something.
        [0] validity: SeqIdValidity,
        /// The last sequence that can be delivered.
        [1] seq_id: u8,
        /// The exchange, as who began it calls it.
        [4] ox_id: u16,
        /// The exchange, as the other one calls it.
        [6] rx_id: u16,
        /// The first SEQ_CNT of the recovery qualifier.
        [8] low_seq_cnt: u16,
        /// The last SEQ_CNT of the recovery qualifier.
        [10] high_seq_cnt: u16,
    }
}

impl BaAcc {
    /// The whole exchange is aborted. With a recovery qualifier its identifiers rest until RRQ or R_A_TOV.
    pub const fn exchange(ox_id: u16, rx_id: u16, recovery_qualifier: bool) -> Self {
        let high_seq_cnt = if recovery_qualifier { u16::MAX } else { 0 };
        Self { validity: SeqIdValidity::INVALID, seq_id: 0, ox_id, rx_id, low_seq_cnt: 0, high_seq_cnt }
    }

    /// Whether there is a recovery qualifier.
    pub const fn has_recovery_qualifier(&self) -> bool {
        self.low_seq_cnt != self.high_seq_cnt
    }
}

codes! {
    /// Why (FC-FS, "Basic Reject (BA_RJT)", reason codes).
    BaRjtReason(u8) {
        INVALID_COMMAND = 0x01,
        LOGICAL_ERROR = 0x03,
        LOGICAL_BUSY = 0x05,
        PROTOCOL_ERROR = 0x07,
        UNABLE_TO_PERFORM = 0x09,
        VENDOR = 0xff,
    }
}

codes! {
    /// Why, in more detail (FC-FS, "Basic Reject (BA_RJT)", reason code explanations).
    BaRjtExplanation(u8) {
        NONE = 0x00,
        INVALID_OX_ID_RX_ID = 0x03,
        SEQUENCE_ABORTED = 0x05,
    }
}

layout! {
    /// Basic Reject of an ABTS (FC-FS, "Basic Reject (BA_RJT)").
    BaRjt, "BA_RJT", 4 bytes {
        /// Why.
        [1] reason: BaRjtReason,
        /// Why, in more detail.
        [2] explanation: BaRjtExplanation,
        /// What the vendor says of it.
        [3] vendor: u8,
    }
}
