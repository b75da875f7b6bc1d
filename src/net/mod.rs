// SPDX-License-Identifier: GPL-2.0-or-later
//! From Ethernet frames to byte streams: the link, which parts the frames of a port among its clients; the front
//! (Ethernet, ARP, neighbour discovery, ICMP echo), one TCP flow per 4-tuple on smoltcp, and the two interfaces beside
//! it: [`FramePort`] below (what a NIC queue is), [`StreamHost`] above (what iSCSI sees; a kernel-socket port
//! implements it directly). Protocols beside TCP/IP have a [`LinkClient`].

mod checksum;
mod congestion;
mod counters;
mod ethernet;
mod flow;
mod front;
mod held;
mod host;
mod link;
mod options;
mod reassembly;
mod recovery;
mod run;
mod streams;

use std::any::Any;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::RawFd;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::counters::Counted;
use crate::memory::{MemoryAccount, Seg, Sg};
use crate::time::Instant;

pub use checksum::{cut_in_software, finish_in_software};
pub use counters::{DropCounters, RawCounters, TcpCounters};
pub use ethernet::ETHERTYPE_VLAN;
pub use front::multicast_groups;
pub use host::{FLOWS_MAX, HALF_OPEN_MAX, HostConfig, TcpHost};
pub use link::{FrameClaim, LinkClient, LinkHandle, Links, RAW_FRAMES_MAX, RawFrame};
pub use streams::{NamedHost, StreamHosts};

/// Names one byte stream of a [`StreamHost`]: an index, and a generation that tells the streams apart that have it one
/// after the other. Not reused before 2^31 others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId(pub u64);

impl StreamId {
    /// The name of the `serial`th stream of its host, which has the index `place`. Places are dense, and taken again.
    pub fn new(serial: u64, place: usize) -> Self {
        Self(serial << 32 | place as u64 & PLACE)
    }

    /// The place of the stream. A later one may have the same.
    pub fn place(self) -> usize {
        (self.0 & PLACE) as usize
    }
}

const PLACE: u64 = u32::MAX as u64;

/// Streams whose state is in the cache anyway: with more, what is served in a turn is fetched ahead. Few in tests, so
/// that they see both ways.
pub(crate) const CACHED_STREAMS: usize = if cfg!(any(test, feature = "sim")) { 2 } else { 256 };

/// Most frames, or events, for which that is done at once.
pub(crate) const STAGE_MAX: usize = 32;

/// Something for each stream of a host.
pub struct StreamMap<T>(Vec<Option<(StreamId, T)>>);

impl<T> Default for StreamMap<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> StreamMap<T> {
    /// What there is for a stream.
    #[inline]
    pub fn get(&self, stream: StreamId) -> Option<&T> {
        self.0.get(stream.place())?.as_ref().filter(|(id, _)| *id == stream).map(|(_, value)| value)
    }

    /// From now on there is something for a stream. Returns what there was for another in its place: that is gone, even
    /// if its host has not told yet.
    pub fn insert(&mut self, stream: StreamId, value: T) -> Option<T> {
        if self.0.len() <= stream.place() {
            self.0.resize_with(stream.place() + 1, || None);
        }
        let before = self.0[stream.place()].replace((stream, value));
        before.filter(|(id, _)| *id != stream).map(|(_, value)| value)
    }

    /// Whether there is nothing for any stream.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(Option::is_none)
    }

    /// From now on there is nothing for a stream.
    pub fn remove(&mut self, stream: StreamId) {
        if self.get(stream).is_some() {
            self.0[stream.place()] = None;
        }
    }
}

/// How a stream came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamOrigin {
    /// Which listener accepted it: the place among those that the host was made with, or the number that it was given
    /// later. The local address would not tell: what listens at all addresses has none of its own.
    pub listener: usize,
    /// The address that the peer connected to.
    pub local: SocketAddr,
    /// The peer's address.
    pub peer: SocketAddr,
}

/// Where a host accepts connections.
#[derive(Clone, Debug)]
pub enum Listener {
    /// At an address of its own.
    At(SocketAddr),
    /// Where its own kind of port listens already, for all cores.
    Shared(Arc<dyn Any + Send + Sync>),
}

/// What happened at a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamEvent {
    /// A peer connected.
    Accepted {
        /// The new stream.
        stream: StreamId,
        /// How it came in.
        origin: StreamOrigin,
    },
    /// There are bytes for [`StreamHost::receive`], which is to be called until it returns `None`.
    Readable(StreamId),
    /// There is more room to send than before.
    Writable(StreamId),
    /// The peer will send no more (FIN); what it sent before has been announced. Sending is still possible.
    Finished(StreamId),
    /// The stream is gone (reset, timed out, or closed by both sides); its name is invalid from now on.
    Closed(StreamId),
}

/// A stream on its way from one core to another.
pub struct Detached {
    /// How it came in.
    pub origin: StreamOrigin,
    /// What the host makes of it.
    pub state: Box<dyn Any + Send>,
}

/// One core's source of byte streams.
///
/// A turn of the core is: `poll`, then any calls for the streams that had events, then `commit` once.
pub trait StreamHost {
    /// Takes what has arrived and runs the timers. Appends to `events`; returns how much work was done (0: idle).
    fn poll(&mut self, now: Instant, events: &mut Vec<StreamEvent>) -> usize;

    /// The next in-order bytes of a stream. The segment may be a part of a received frame; holding many of them is
    /// bounded by the host, which copies when frames run short.
    fn receive(&mut self, stream: StreamId) -> Option<Seg>;

    /// How many bytes `send` takes now.
    fn room(&self, stream: StreamId) -> usize;

    /// Queues bytes behind those queued before. The segments are held until the peer has acknowledged them and the port
    /// has released them. May exceed [`StreamHost::room`] by one PDU, so that a PDU need never be cut.
    fn send(&mut self, stream: StreamId, data: Sg);

    /// From now on what is held for a stream is on that account. Before that it is on that of those who have not logged
    /// in.
    fn bill(&mut self, _stream: StreamId, _account: &MemoryAccount) {}

    /// No more will be sent: FIN after all that is queued.
    fn close(&mut self, stream: StreamId);

    /// Ends the stream at once with a reset. [`StreamEvent::Closed`] follows.
    fn abort(&mut self, stream: StreamId);

    /// Sends what the turn has queued, in one burst.
    fn commit(&mut self, _now: Instant) {}

    /// When `poll` must be called next even if nothing arrives.
    fn next_deadline(&self) -> Option<Instant> {
        None
    }

    /// Descriptors that become readable when `poll` has something to do.
    fn wake_fds(&self, _fds: &mut Vec<RawFd>) {}

    /// From now on connections are accepted there, too, under a number that no other place has had. A host knows its
    /// kind of listener, and has no other; one that has none accepts whoever comes.
    fn listen(&mut self, _number: usize, _listener: &Listener) {}

    /// Refuses new connections at that listener from now on. Those that it has accepted stay.
    fn unlisten(&mut self, _number: usize) {}

    /// Refuses new connections from now on.
    fn stop_listening(&mut self) {}

    /// Takes a stream out, for the same host of the core `to`: the owner has sent nothing on it and has taken all that
    /// it has received. Its name is invalid from now on. `None` if it has ended.
    fn detach(&mut self, _stream: StreamId, _to: usize) -> Option<Detached> {
        None
    }

    /// Takes a stream that the same host of another core has given up. `None` if there is no room for it, or it has
    /// ended on the way.
    fn attach(&mut self, _stream: Detached) -> Option<StreamId> {
        None
    }

    /// Whether a stream that has just been accepted may as well be served by another core: nothing of it is bound to
    /// the core where it came in, as the queue of a device is.
    fn is_steerable(&self) -> bool {
        false
    }

    /// Whether what its streams bring in a turn is no more than what it took in with [`Self::poll`]. Else there may be
    /// more as long as somebody reads.
    fn is_bounded(&self) -> bool {
        false
    }

    /// What has come in for streams that were given up, each with the core to which they went: to be given to the same
    /// host there.
    fn strays(&mut self) -> Vec<(usize, Vec<u8>)> {
        Vec::new()
    }

    /// Takes what has come in at another core for a stream that is here now.
    fn give(&mut self, _stray: Vec<u8>) {}

    /// Names and values of what was counted, for the control plane.
    fn counters(&self) -> Vec<Counted> {
        Vec::new()
    }

    /// The link below, where there is one of which others may have a part.
    fn link(&self) -> Option<LinkHandle> {
        None
    }
}

/// How far the checksums of a received frame are known to be right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RxChecksum {
    /// Not at all: verify in software.
    #[default]
    Unknown,
    /// The port or a local sender vouches for it (partial or verified checksum).
    Good,
}

/// A received Ethernet frame of up to 64 KiB, coalesced segments included.
#[derive(Debug)]
pub struct RxFrame {
    /// The bytes from the Ethernet header on, in one segment of private memory.
    pub data: Seg,
    /// What is known of its transport checksum.
    pub checksum: RxChecksum,
}

/// How the port shall finish a TCP frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpOffload {
    /// Offset of the TCP header from the start of the frame.
    pub csum_start: u16,
    /// Payload bytes per segment when the frame is longer than the MTU; `None` if it needs no cutting.
    pub segment: Option<u16>,
    /// IPv6 rather than IPv4.
    pub ipv6: bool,
}

/// A frame to be sent: headers, and payload where it lies.
#[derive(Debug)]
pub struct TxFrame {
    /// Ethernet header and up (for TCP: all headers).
    pub header: SmallVec<[u8; 128]>,
    /// What follows the header.
    pub payload: Sg,
    /// With it, the TCP checksum field holds the folded pseudo-header sum, and the port computes the rest (in software
    /// if its device cannot). Without it, the frame is complete.
    pub offload: Option<TcpOffload>,
}

/// What a frame port can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameCaps {
    /// Bytes of an IP packet on the wire.
    pub mtu: u16,
    /// Largest frame with [`TcpOffload::segment`], Ethernet header included; 0 if the port cannot cut segments.
    pub segment_max: u32,
    /// Most segments of memory in one frame, header included.
    pub gather_max: usize,
}

/// One queue of an Ethernet port, on one core.
pub trait FramePort {
    /// What it can do.
    fn caps(&self) -> FrameCaps;

    /// Our MAC address.
    fn mac(&self) -> [u8; 6];

    /// Appends a burst of received frames. Returns how many.
    fn receive(&mut self, now: Instant, burst: &mut Vec<RxFrame>) -> usize;

    /// Sends frames from the front of `burst`, consuming those it takes; what it leaves there is for later. Memory of a
    /// consumed frame is held until the device is done with it.
    fn transmit(&mut self, now: Instant, burst: &mut std::collections::VecDeque<TxFrame>);

    /// Receives what is sent to these unicast and multicast addresses, too, beside our own and broadcasts. They take
    /// the place of those given before. A port that hears everything has nothing to do.
    fn accept(&mut self, _addresses: &[[u8; 6]]) -> io::Result<()> {
        Ok(())
    }

    /// Names and values of what the port has counted, for the control plane. What belongs to the whole device is told
    /// by one of its queues.
    fn counters(&self) -> Vec<Counted> {
        Vec::new()
    }

    /// Descriptor that becomes readable when there is something to receive.
    fn wake_fd(&self) -> Option<RawFd> {
        None
    }

    /// When `receive` may return something without the descriptor saying so (delayed frames of a test port).
    fn next_deadline(&self) -> Option<Instant> {
        None
    }
}

/// One address of a host on a frame port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// The address.
    pub ip: IpAddr,
    /// Length of the network prefix.
    pub prefix: u8,
}

impl Address {
    /// Whether another one is in the same network.
    pub fn contains(&self, ip: IpAddr) -> bool {
        let bits = |ip: IpAddr| match ip {
            IpAddr::V4(ip) => u128::from(u32::from(ip)) << 96,
            IpAddr::V6(ip) => u128::from(ip),
        };
        let common = (bits(self.ip) ^ bits(ip)).leading_zeros();
        self.ip.is_ipv4() == ip.is_ipv4() && common >= u32::from(self.prefix)
    }
}

#[cfg(test)]
mod tests;
