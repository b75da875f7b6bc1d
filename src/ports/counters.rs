// SPDX-License-Identifier: GPL-2.0-or-later
//! What the port drivers count, besides TCP on the frame ports.

use crate::counters::counter_set;

counter_set! {
    /// What a TAP port counts.
    pub struct TapCounters {
        /// Frames that the kernel did not accept.
        dropped_sending: Counter of Frames,
        /// 1 for each reactor that waits for a device that was removed.
        device_gone: Gauge of Flag,
    }
}

counter_set! {
    /// What a port on a network interface of the kernel counts.
    pub struct PacketCounters {
        /// Received frames lost because the ring was full.
        dropped_ring_full: Counter of Frames,
        /// Received frames longer than a slot of the ring.
        dropped_too_long: Counter of Frames,
        /// Frames that the kernel did not accept.
        dropped_sending: Counter of Frames,
    }
}

counter_set! {
    /// What a port on sockets of the kernel counts.
    pub struct KernelCounters {
        /// Connections accepted.
        accepted: Counter of Connections,
        /// Open connections.
        open: Gauge of Connections,
        /// Connections closed at once because there was no room.
        refused: Counter of Connections,
        /// Connections handed over to other cores.
        handed_over: Counter of Connections,
        /// Connections taken over from other cores.
        taken_over: Counter of Connections,
    }
}

counter_set! {
    /// What a queue of a DPDK device counts.
    pub struct QueueCounters {
        /// Frames sent without copying their payload.
        sent_in_place: Counter of Frames,
        /// Frames whose payload was copied for sending.
        sent_copied: Counter of Frames,
        /// Pieces of payload that the device still has.
        sent_waiting: Gauge of Frames,
        /// Received frames used without copying.
        received_lent: Counter of Frames,
        /// Those of them that are still in use.
        received_waiting: Gauge of Frames,
        /// Frames that the device refused to send.
        dropped_refused: Counter of Frames,
        /// Frames dropped because no memory was free.
        dropped_no_memory: Counter of Frames,
        /// Frames for another core whose queue was full.
        dropped_overrun: Counter of Frames,
    }
}

counter_set! {
    /// What a DPDK device says of its link. What its driver counts beside that comes as `device_` and the driver's name
    /// for it.
    pub struct LinkCounters {
        /// Whether there is a link.
        link_up: Gauge of Flag,
        /// Its speed; 0 if unknown.
        link_mbps: Gauge of Megabits,
    }
}
