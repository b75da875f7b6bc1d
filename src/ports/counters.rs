// SPDX-License-Identifier: GPL-2.0-or-later
//! What the port drivers count, besides TCP on the frame ports.

use crate::counters::counter_set;

counter_set! {
    /// What a TAP port counts.
    pub struct TapCounters {
        /// Frames that the kernel did not take.
        dropped_sending: Counter of Frames,
        /// Whether somebody has removed the device: how many reactors wait for it.
        device_gone: Gauge of Flag,
    }
}

counter_set! {
    /// What a port on a network interface of the kernel counts.
    pub struct PacketCounters {
        /// Received frames that found the ring full.
        dropped_ring_full: Counter of Frames,
        /// Received frames that were longer than a place of the ring.
        dropped_too_long: Counter of Frames,
        /// Frames that the kernel did not take.
        dropped_sending: Counter of Frames,
    }
}

counter_set! {
    /// What a port on sockets of the kernel counts.
    pub struct KernelCounters {
        /// Connections accepted.
        accepted: Counter of Connections,
        /// Connections that are there.
        open: Gauge of Connections,
        /// Connections closed at once, for want of room.
        refused: Counter of Connections,
        /// Connections given to other cores.
        handed_over: Counter of Connections,
        /// Connections taken from other cores.
        taken_over: Counter of Connections,
    }
}

counter_set! {
    /// What a queue of a DPDK device counts.
    pub struct QueueCounters {
        /// Frames sent from where their payload lies.
        sent_in_place: Counter of Frames,
        /// Frames whose payload was copied to be sent.
        sent_copied: Counter of Frames,
        /// Pieces of payload that the device has and has not given back.
        sent_waiting: Gauge of Frames,
        /// Received frames that are used where they lie.
        received_lent: Counter of Frames,
        /// Received frames of those that are still in use.
        received_waiting: Gauge of Frames,
        /// Frames that the device refused to send.
        dropped_refused: Counter of Frames,
        /// Frames dropped for want of memory.
        dropped_no_memory: Counter of Frames,
        /// Frames for another core that found its queue full.
        dropped_overrun: Counter of Frames,
    }
}

counter_set! {
    /// What a DPDK device says of its link. What its driver counts beside that comes as `device_` and the driver's name
    /// for it.
    pub struct LinkCounters {
        /// Whether there is a link.
        link_up: Gauge of Flag,
        /// Its speed, 0 where that is not known.
        link_mbps: Gauge of Megabits,
    }
}
