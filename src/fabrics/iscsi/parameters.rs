// SPDX-License-Identifier: GPL-2.0-or-later
//! What a target offers, and what was agreed on.

use std::time::Duration;

use crate::options::Absent::Is;
use crate::options::ValueKind::{Flag, Number, Texts, Time};
use crate::options::{Section, Table, ValueKind, key};

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
    /// No digest.
    pub(super) const NONE: Self = Self { none: true, crc32c: false };

    /// Both.
    pub const ANY: Self = Self { none: true, crc32c: true };
}

const DIGEST: &str = "\"None\" or \"CRC32C\"";
const HOUR: Duration = Duration::from_secs(3600);
/// Lengths of iSCSI: 512 to 2^24 - 1 bytes (RFC 7143 13).
const LENGTH: ValueKind = ValueKind::Size(512, (1 << 24) - 1);

impl Parameters {
    /// Its table of keys.
    pub const TABLE: &Table = &Table {
        doc: "What a target negotiates (RFC 7143 13), and its time limits.",
        groups: &[&[
            key(
                "max_recv_data_segment_length",
                LENGTH,
                Is("\"256KiB\""),
                "",
                "Longest data segment that the target accepts.",
            ),
            key("max_burst_length", LENGTH, Is("\"1MiB\""), "", "Longest solicited sequence of data."),
            key(
                "first_burst_length",
                LENGTH,
                Is("\"256KiB\""),
                "",
                "Most unsolicited data of a command, not above max_burst_length.",
            ),
            key("max_outstanding_r2t", Number(1, 256), Is("16"), "", "R2Ts of a command at a time."),
            key("initial_r2t", Flag, Is("false"), "", "Insist on an R2T before any Data-Out PDU."),
            key("immediate_data", Flag, Is("true"), "", "Allow data in the command's own PDU."),
            key("header_digest", Texts(DIGEST), Is("[\"None\", \"CRC32C\"]"), "", "Header digests allowed."),
            key("data_digest", Texts(DIGEST), Is("[\"None\", \"CRC32C\"]"), "", "Data digests allowed."),
            key("max_connections", Number(1, 64), Is("1"), "", "Connections of a session."),
            key(
                "default_time2wait",
                Number(0, 3600),
                Is("2"),
                "",
                "Seconds that an initiator waits, at least, before it logs in again.",
            ),
            key(
                "default_time2retain",
                Number(0, 3600),
                Is("0"),
                "",
                "Seconds within which it logs in again, at most. Nothing is retained: error recovery \
                 level 0.",
            ),
            key(
                "queue_depth",
                Number(1, 4096),
                Is("128"),
                "",
                "Commands that an initiator may have in flight in a session, as far as initiator_memory \
                 allows.",
            ),
            key("login_timeout", Time(HOUR), Is("\"15s\""), "", "How long a login may take."),
            key(
                "nop_interval",
                Time(HOUR),
                Is("\"30s\""),
                "",
                "How long an initiator may be silent before it is asked whether it is alive (NOP-In); \
                 \"0s\" for ever.",
            ),
            key(
                "nop_timeout",
                Time(HOUR),
                Is("\"30s\""),
                "",
                "How long its answer may take. Then the connection ends.",
            ),
            key(
                "scsi_events",
                Flag,
                Is("false"),
                "",
                "Report unit attentions (a disk that has grown, a reset) at once by an asynchronous \
                 message, not only with the next command. Off by default: not every initiator was tested \
                 with such messages.",
            ),
        ]],
    };

    /// Reads them.
    pub fn read(s: Section<'_>) -> Option<Self> {
        let digest = |key| {
            let words = s.texts(key, |word| match word {
                "None" => Some(false),
                "CRC32C" => Some(true),
                _ => None,
            })?;
            if words.is_empty() {
                s.error(key, "allows nothing", "give [\"None\"], [\"CRC32C\"] or both");
            }
            let has = |wanted| words.iter().any(|(crc, _)| *crc == wanted);
            Some(DigestOffer { none: has(false), crc32c: has(true) })
        };
        let (header_digest, data_digest) = (digest("header_digest"), digest("data_digest"));
        let receive = s.size("max_recv_data_segment_length");
        let (max_burst, first_burst) = (s.size("max_burst_length"), s.size("first_burst_length"));
        if max_burst.zip(first_burst).is_some_and(|(max, first): (u32, u32)| first > max) {
            s.error("first_burst_length", "is above max_burst_length", "RFC 7143 13.14 forbids that");
        }
        let (r2ts, depth) = (s.number("max_outstanding_r2t"), s.number("queue_depth"));
        let max_connections = s.number("max_connections");
        let (time2wait, time2retain) = (s.number("default_time2wait"), s.number("default_time2retain"));
        let (initial_r2t, immediate_data) = (s.flag("initial_r2t"), s.flag("immediate_data"));
        let login_timeout = s.time("login_timeout");
        let (nop_interval, nop_timeout) = (s.time("nop_interval"), s.time("nop_timeout"));
        let scsi_events = s.flag("scsi_events");
        s.finish();
        Some(Self {
            max_recv_data_segment_length: receive?,
            max_burst_length: max_burst?,
            first_burst_length: first_burst?,
            max_outstanding_r2t: r2ts?,
            max_connections: max_connections?,
            time2wait: time2wait?,
            time2retain: time2retain?,
            initial_r2t: initial_r2t?,
            immediate_data: immediate_data?,
            header_digest: header_digest?,
            data_digest: data_digest?,
            queue_depth: depth?,
            login_timeout: login_timeout?,
            nop_interval: nop_interval?,
            nop_timeout: nop_timeout?,
            scsi_events: scsi_events?,
        })
    }
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
    /// RDMAExtensions: data is moved by tags.
    pub rdma_extensions: bool,
    /// Most PDUs beside responses that the initiator has room for (MaxOutstandingUnexpectedPDUs).
    pub unexpected_max: u32,
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
            rdma_extensions: false,
            unexpected_max: u32::MAX,
        }
    }
}
