// SPDX-License-Identifier: GPL-2.0-or-later
//! What a target offers, and what was agreed on.

use std::time::Duration;

/// A target's side of the negotiation, and its limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameters {
    /// MaxRecvDataSegmentLength that we declare, in bytes.
    pub max_recv_data_segment_length: u32,
    /// MaxBurstLength, in bytes.
    pub max_burst_length: u32,
    /// FirstBurstLength, in bytes; not above MaxBurstLength.
    pub first_burst_length: u32,
    /// MaxOutstandingR2T.
    pub max_outstanding_r2t: u32,
    /// MaxConnections.
    pub max_connections: u32,
    /// DefaultTime2Wait, in seconds.
    pub time2wait: u32,
    /// DefaultTime2Retain, in seconds. Nothing is retained at error recovery level 0.
    pub time2retain: u32,
    /// Whether we insist on InitialR2T=Yes.
    pub initial_r2t: bool,
    /// Whether we allow immediate data.
    pub immediate_data: bool,
    /// Whether we can do without (`None`) and with (`CRC32C`) a header digest.
    pub header_digest: DigestOffer,
    /// The same for the data digest.
    pub data_digest: DigestOffer,
    /// Commands that an initiator may have in flight: the size of the command window.
    pub queue_depth: u32,
    /// How long a login may take.
    pub login_timeout: Duration,
    /// How long an idle connection is left alone before a NOP-In asks whether the peer is alive; zero: for ever.
    pub nop_interval: Duration,
    /// How long the answer to that may take.
    pub nop_timeout: Duration,
    /// Whether initiators are told of unit attentions by asynchronous messages, too.
    pub scsi_events: bool,
}

/// Which values of a digest key are acceptable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DigestOffer {
    /// `None` is.
    pub none: bool,
    /// `CRC32C` is.
    pub crc32c: bool,
}

impl DigestOffer {
    /// Both.
    pub const ANY: Self = Self { none: true, crc32c: true };
}

impl Default for Parameters {
    fn default() -> Self {
        Self {
            max_recv_data_segment_length: 256 << 10,
            max_burst_length: 1 << 20,
            first_burst_length: 256 << 10,
            max_outstanding_r2t: 16,
            max_connections: 1,
            time2wait: 2,
            time2retain: 0,
            initial_r2t: false,
            immediate_data: true,
            header_digest: DigestOffer::ANY,
            data_digest: DigestOffer::ANY,
            queue_depth: 128,
            login_timeout: Duration::from_secs(15),
            nop_interval: Duration::from_secs(30),
            nop_timeout: Duration::from_secs(30),
            scsi_events: false,
        }
    }
}

/// What holds on a connection. Starts with the defaults of RFC 7143 13.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Negotiated {
    /// Header digest is CRC32C.
    pub header_digest: bool,
    /// Data digest is CRC32C.
    pub data_digest: bool,
    /// Longest data segment that the initiator takes.
    pub max_xmit_data_segment_length: u32,
    /// Longest data segment that we take.
    pub max_recv_data_segment_length: u32,
    /// MaxBurstLength.
    pub max_burst_length: u32,
    /// FirstBurstLength.
    pub first_burst_length: u32,
    /// MaxOutstandingR2T.
    pub max_outstanding_r2t: u32,
    /// No unsolicited Data-Out PDUs.
    pub initial_r2t: bool,
    /// Immediate data is allowed.
    pub immediate_data: bool,
    /// MaxConnections.
    pub max_connections: u32,
    /// TaskReporting is FastAbort.
    pub fast_abort: bool,
    /// DefaultTime2Wait in seconds.
    pub time2wait: u32,
    /// DefaultTime2Retain in seconds.
    pub time2retain: u32,
}

impl Negotiated {
    /// Most data of a command that may come without being asked for.
    pub(super) fn unasked_max(&self) -> u32 {
        if self.immediate_data || !self.initial_r2t { self.first_burst_length } else { 0 }
    }

    /// What holds on a connection that joins a session: its own keys, and those of the session.
    pub(super) fn joining(self, session: &Self) -> Self {
        Self {
            header_digest: self.header_digest,
            data_digest: self.data_digest,
            max_xmit_data_segment_length: self.max_xmit_data_segment_length,
            max_recv_data_segment_length: self.max_recv_data_segment_length,
            ..session.clone()
        }
    }
}

impl Default for Negotiated {
    fn default() -> Self {
        Self {
            header_digest: false,
            data_digest: false,
            max_xmit_data_segment_length: 8192,
            max_recv_data_segment_length: 8192,
            max_burst_length: 262_144,
            first_burst_length: 65_536,
            max_outstanding_r2t: 1,
            initial_r2t: true,
            immediate_data: true,
            max_connections: 1,
            fast_abort: false,
            time2wait: 2,
            time2retain: 20,
        }
    }
}
