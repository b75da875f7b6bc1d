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
        /// Open connections, half-open ones included.
        flows: Gauge of Connections,
        /// Connections whose handshake is not finished.
        half_open: Gauge of Connections,
        /// Connections accepted.
        accepted: Counter of Connections,
        /// Connections refused because there was no room.
        refused: Counter of Connections,
        /// SYNs answered with a SYN cookie.
        cookies_sent: Counter of Segments,
        /// Resets sent in answer to segments of no connection.
        resets_sent: Counter of Segments,
        /// Challenge ACKs sent in answer to segments that may be forged (RFC 5961).
        challenges_sent: Counter of Segments,
        /// Payload retransmitted.
        retransmitted_bytes: Counter of Bytes,
        /// Part of it that filled holes which the peer had reported (SACK), before a timeout.
        repaired_bytes: Counter of Bytes,
        /// Segments whose payload was dropped because no memory was free.
        dropped_no_memory: Counter of Segments,
        /// Connections handed over to other cores.
        handed_over: Counter of Connections,
        /// Connections taken over from other cores.
        taken_over: Counter of Connections,
        /// Frames of connections that were handed over to other cores.
        strays: Counter of Frames,
    }
}

counter_set! {
    /// Frames received on a frame port that were not served.
    pub struct DropCounters {
        /// Frames for other addresses.
        dropped_not_ours: Counter of Frames,
        /// Frames of an ethertype or protocol that is not served.
        dropped_unserved: Counter of Frames,
        /// Frames with wrong lengths or checksums.
        dropped_malformed: Counter of Frames,
        /// Fragments of packets: peers are expected to respect the MTU.
        dropped_fragments: Counter of Frames,
    }
}

counter_set! {
    /// What protocols beside TCP/IP receive and send. The port's totals include it.
    pub struct RawCounters {
        /// Frames received that another protocol had claimed.
        claimed: Counter of Frames,
        /// Bytes of claimed frames.
        claimed_bytes: Counter of Bytes,
        /// Claimed frames dropped because too many waited for their protocol.
        dropped_claimed: Counter of Frames,
        /// Claimed frames dropped because no memory was free.
        dropped_claimed_memory: Counter of Frames,
        /// Frames that other protocols sent.
        raw_frames_out: Counter of Frames,
        /// Bytes of frames that other protocols sent.
        raw_bytes_out: Counter of Bytes,
    }
}
