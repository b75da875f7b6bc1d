// SPDX-License-Identifier: GPL-2.0-or-later
//! What TCP on a frame port counts.

use crate::counters::counter_set;

counter_set! {
    /// What TCP on a frame port counts, whatever the port.
    pub struct TcpCounters {
        /// Frames received.
        frames_in: Counter of Frames,
        /// Frames sent.
        frames_out: Counter of Frames,
        /// Bytes of frames received.
        bytes_in: Counter of Bytes,
        /// Bytes of frames sent.
        bytes_out: Counter of Bytes,
        /// Connections that are there, half open ones included.
        flows: Gauge of Connections,
        /// Connections whose handshake is not over.
        half_open: Gauge of Connections,
        /// Connections accepted.
        accepted: Counter of Connections,
        /// Connections refused for want of room.
        refused: Counter of Connections,
        /// SYNs answered with a SYN cookie.
        cookies_sent: Counter of Segments,
        /// Resets sent to segments of no connection.
        resets_sent: Counter of Segments,
        /// Challenge ACKs sent to segments that may be forged (RFC 5961).
        challenges_sent: Counter of Segments,
        /// Payload sent again.
        retransmitted_bytes: Counter of Bytes,
        /// What of that repaired holes that the peer had told of, before a timeout.
        repaired_bytes: Counter of Bytes,
        /// Frames of a kind that was claimed for another protocol.
        claimed: Counter of Frames,
        /// Frames of those that found no room.
        dropped_claimed: Counter of Frames,
        /// Segments whose payload was not taken for want of memory.
        dropped_no_memory: Counter of Segments,
        /// Connections given to other cores.
        handed_over: Counter of Connections,
        /// Connections taken from other cores.
        taken_over: Counter of Connections,
        /// Frames of connections that have gone to other cores.
        strays: Counter of Frames,
    }
}

counter_set! {
    /// Frames received on a frame port that were not served.
    pub struct DropCounters {
        /// For somebody else.
        dropped_not_ours: Counter of Frames,
        /// Of an ethertype or protocol that nobody serves.
        dropped_unserved: Counter of Frames,
        /// With lengths or checksums that are wrong.
        dropped_malformed: Counter of Frames,
        /// Fragments of a packet: peers are expected to keep to the MTU.
        dropped_fragments: Counter of Frames,
    }
}
