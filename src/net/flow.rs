// SPDX-License-Identifier: GPL-2.0-or-later
//! One TCP connection: a smoltcp socket with an interface of its own, whose payload never passes through it.
//!
//! smoltcp is told how many bytes there are to send, but not which: its rings [hold nothing](socket_over_nothing). What
//! it emits is a header and so many bytes of that, in place of which the flow puts slices of the segments that it was
//! given, found by sequence number. Retransmissions, probes and what crosses a FIN find their bytes the same way.
//!
//! Of received segments it is given the headers and so many bytes of anything, and tells by the length of its queue how
//! many bytes have come to be in order. They are handed on as slices of the frames when they are next in order; what
//! came out of order, or is not taken, is [kept](Reassembly) by the flow.

mod acceptance;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::time::Duration;

use smoltcp::iface::{Config, Interface, PollIngressSingleResult, PollResult, SocketHandle, SocketSet};
use smoltcp::phy::{Checksum, ChecksumCapabilities, Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp::{CongestionControl, Socket, State};
use smoltcp::wire::{HardwareAddress, IpCidr};

use super::checksum::Sum;
use super::front::{ACK, FIN, Front, RST, SYN, TcpFields};
use super::held::HeldByFlow;
use super::options::{SEGMENT, SynFields, options};
use super::reassembly::Reassembly;
use super::recovery::{Flight, Range, Recovery, selective_acknowledgments};
use super::run::Run;
use super::{FrameCaps, TcpOffload, TxFrame};
use crate::memory::{Arena, Seg, Sg, prefetch, socket_over_nothing};
use crate::time::Instant;

/// Ethernet header.
const ETHERNET: usize = 14;

/// TCP header without options.
const TCP: usize = 20;

/// IPv6 and TCP headers without options.
const HEADERS_MAX: usize = 60;

/// Pieces of memory of one frame, unless the port takes fewer; beyond it small pieces are copied together.
const GATHER_MAX: usize = 64;

/// Segments emitted for one flow per turn, so that none keeps the port for itself.
const EMIT_MAX: usize = 64;

/// Bytes that the owner has not taken, before the receive window closes.
const INBOX_MAX: usize = 1 << 20;

/// Bytes that were kept, taken at once.
const TAKE_MAX: usize = 64 << 10;

/// How long an acknowledgment may wait for something to go with.
const ACK_DELAY: Duration = Duration::from_millis(10);

/// How long a peer may be silent, or leave what was sent unacknowledged.
const USER_TIMEOUT: Duration = Duration::from_secs(60);

/// How often an idle connection asks whether the peer is there.
const KEEP_ALIVE: Duration = Duration::from_secs(25);

/// Settings that all flows of a host share.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) caps: FrameCaps,
    /// Receive window in bytes.
    pub(super) receive: usize,
    /// Most bytes that are sent and not acknowledged.
    pub(super) send: usize,
}

impl Shape {
    /// The MTU that smoltcp is told of. It drops an IPv6 packet above that even if it is to be cut, so for a port that
    /// cuts it is what the port takes; the flow sees to what the wire takes.
    fn packet_max(&self) -> usize {
        usize::from(self.caps.mtu).max((self.caps.segment_max as usize).saturating_sub(ETHERNET))
    }

    /// Most payload of a segment on the wire: what our MTU allows, and what the peer wants.
    fn segment(&self, ipv6: bool, peer: u16) -> u16 {
        (self.caps.mtu - if ipv6 { 60 } else { 40 }).min(peer)
    }
}

/// Where smoltcp's frames begin and end.
struct Shim<'a> {
    shape: Shape,
    rx: Option<&'a [u8]>,
    scratch: &'a mut Vec<u8>,
    /// Length of the packet in `scratch`.
    emitted: Option<usize>,
}

struct Packet<'a>(&'a [u8]);

impl RxToken for Packet<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

struct Slot<'a> {
    scratch: &'a mut Vec<u8>,
    emitted: &'a mut Option<usize>,
}

impl TxToken for Slot<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        if self.scratch.len() < len {
            self.scratch.resize(len, 0);
        }
        *self.emitted = Some(len);
        f(&mut self.scratch[..len])
    }
}

impl Device for Shim<'_> {
    type RxToken<'t>
        = Packet<'t>
    where
        Self: 't;
    type TxToken<'t>
        = Slot<'t>
    where
        Self: 't;

    fn receive(&mut self, now: smoltcp::time::Instant) -> Option<(Packet<'_>, Slot<'_>)> {
        let packet = Packet(self.rx.take()?);
        Some((packet, self.transmit(now)?))
    }

    fn transmit(&mut self, _: smoltcp::time::Instant) -> Option<Slot<'_>> {
        // One packet at a time: it is taken out before the next.
        self.emitted.is_none().then_some(Slot { scratch: self.scratch, emitted: &mut self.emitted })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut caps = DeviceCapabilities::default();
        caps.medium = Medium::Ip;
        caps.max_transmission_unit = self.shape.packet_max();
        // Received checksums are verified before; of those sent, smoltcp's TCP sum would be over bytes that do not go
        // out.
        caps.checksum = ChecksumCapabilities::default();
        caps.checksum.ipv4 = Checksum::Tx;
        caps.checksum.tcp = Checksum::None;
        // Without a link header, here and there.
        let cuts = NonZeroUsize::new((self.shape.caps.segment_max as usize).saturating_sub(ETHERNET));
        (caps.segmentation.tcpv4, caps.segmentation.tcpv6) = (cuts, cuts);
        caps
    }
}

fn time(now: Instant) -> smoltcp::time::Instant {
    smoltcp::time::Instant::from_micros(i64::try_from(now.as_nanos() / 1000).unwrap_or(i64::MAX))
}

/// One connection.
pub(super) struct Flow {
    shape: Shape,
    interface: Interface,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    pub(super) local: SocketAddr,
    pub(super) peer: SocketAddr,
    /// Where its frames go: to where its last segment came from that only the peer can have sent. A target never speaks
    /// first, so there is nobody whose address it would have to ask for, and a peer that moves is followed with its
    /// next segment.
    mac: [u8; 6],
    /// What is to be sent and not acknowledged, from stream offset `acked` on.
    queue: VecDeque<Seg>,
    pub(super) acked: u64,
    queued: u64,
    /// How much of that smoltcp has been told of.
    told: u64,
    /// Where the last lookup ended: index into `queue`, and its stream offset.
    cursor: (usize, u64),
    /// Sequence number of stream offset 0.
    first: u32,
    /// How far sequence numbers of ours are ahead of those that smoltcp has for them: it cannot be told where to begin.
    shift: u32,
    /// Bytes in order that have been forgotten by smoltcp.
    inbox: VecDeque<Seg>,
    inbox_len: usize,
    /// Bytes that are in smoltcp's account.
    reassembly: Reassembly,
    pub(super) held: HeldByFlow,
    closing: bool,
    /// Payload bytes per segment on the wire.
    segment: u16,
    recovery: Recovery,
    /// Window that the peer offered last, as its header says it.
    window: u16,
    /// Acknowledgment and window that we told last.
    told_peer: (u32, u16),
    /// That window was in the unit of the connection.
    scaled: bool,
    /// When a segment that was not accepted was last answered.
    challenged: Option<Instant>,
    now: Instant,
    /// Bytes that were sent more than once.
    pub(super) retransmitted: u64,
    /// Those of them that smoltcp knows nothing of.
    pub(super) repaired: u64,
    /// Answers to segments that were not accepted.
    pub(super) challenges: u64,
    sent_to: u64,
}

impl Flow {
    /// A flow whose peer has sent a SYN, that is to be answered. `number` is our initial sequence number, which nobody
    /// may foresee.
    pub(super) fn open(
        shape: Shape,
        now: Instant,
        (local, peer): (SocketAddr, SocketAddr),
        mac: [u8; 6],
        number: u32,
        syn: &SynFields,
        held: HeldByFlow,
    ) -> Self {
        // smoltcp sees what was understood of the SYN, and nothing else of it.
        let packet = syn.packet(peer, local);
        let mut scratch = Vec::new();
        let mut shim = Shim { shape, rx: Some(&packet), scratch: &mut scratch, emitted: None };
        let mut interface = Interface::new(Config::new(HardwareAddress::Ip), &mut shim, time(now));
        let prefix = if local.is_ipv4() { 32 } else { 128 };
        interface.update_ip_addrs(|list| _ = list.push(IpCidr::new(local.ip().into(), prefix)));
        // Rings of its own would be touched page by page, for bytes that nobody wants: see the module.
        let mut socket = socket_over_nothing(shape.receive, shape.send);
        // A new socket that is given a port: listening cannot fail.
        _ = socket.listen((local.ip(), local.port()));
        socket.set_timeout(Some(USER_TIMEOUT.into()));
        socket.set_keep_alive(Some(KEEP_ALIVE.into()));
        socket.set_nagle_enabled(false);
        socket.set_congestion_control(CongestionControl::None);
        let mut sockets = SocketSet::new(Vec::with_capacity(1));
        let handle = sockets.add(socket);
        interface.poll_ingress_single(time(now), &mut shim, &mut sockets);
        let mut reassembly = Reassembly::new(shape.receive);
        reassembly.begin(syn.number.wrapping_add(1));
        let segment = shape.segment(local.is_ipv6(), syn.segment);
        Self {
            shape,
            interface,
            sockets,
            handle,
            local,
            peer,
            mac,
            queue: VecDeque::new(),
            acked: 0,
            queued: 0,
            told: 0,
            cursor: (0, 0),
            first: number.wrapping_add(1),
            shift: 0,
            inbox: VecDeque::new(),
            inbox_len: 0,
            reassembly,
            held,
            closing: false,
            segment,
            recovery: Recovery::new(segment),
            window: 0,
            told_peer: (0, 0),
            scaled: false,
            challenged: None,
            now,
            retransmitted: 0,
            repaired: 0,
            challenges: 0,
            sent_to: 0,
        }
    }

    /// Asks for what the flow points to and needs for every segment.
    pub(super) fn prefetch(&self) {
        if let Some(oldest) = self.queue.front() {
            prefetch(oldest);
        }
        prefetch(self.sockets.get::<Socket<'_>>(self.handle));
    }

    fn socket(&mut self) -> &mut Socket<'static> {
        self.sockets.get_mut(self.handle)
    }

    pub(super) fn state(&self) -> State {
        self.sockets.get::<Socket<'_>>(self.handle).state()
    }

    /// Gives up what was received and what was to be sent.
    pub(super) fn drop_payload(&mut self) {
        self.queue.clear();
        self.inbox.clear();
        self.inbox_len = 0;
        self.reassembly.begin(self.reassembly.next());
        self.recovery = Recovery::new(self.segment);
    }

    /// Notes how much is held.
    #[inline]
    pub(super) fn weigh(&mut self) {
        self.held.set(self.reassembly.held(), self.queued - self.acked + self.inbox_len as u64);
    }

    // Receiving.

    /// Whether payload that has come is to be taken: not if too much is held for the peer and the owner takes nothing.
    pub(super) fn takes_payload(&self) -> bool {
        (self.inbox_len == 0 && self.reassembly.ready() == 0) || !self.held.is_too_much()
    }

    /// Takes a segment, or several in one, and leaves nothing of it.
    pub(super) fn ingress(&mut self, now: Instant, run: &mut Run, out: &mut Out<'_>) {
        self.now = now;
        if !self.accepts(run, out) {
            return;
        }
        let header = run.header();
        let sequence = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
        let payload = run.len();
        let acked = self.acked;
        self.mac = run.mac();
        if header[13] & (SYN | FIN | RST | ACK) == ACK && self.is_known(header, payload) {
            return;
        }
        let state = self.state();
        let ended = has_ended(state);
        // Bytes that are next are handed on where they lie. While the owner does not take what it has, they stay in
        // smoltcp's account and close the window.
        let old = match self.reassembly.continues(sequence, payload) {
            Some(old)
                if self.reassembly.ready() == 0
                    && self.inbox_len < INBOX_MAX
                    && !self.reassembly.overlaps(sequence, payload) =>
            {
                Some(old)
            }
            _ => None,
        };
        if old.is_none() && payload > 0 && !ended {
            // The answer to the SYN tells the window in bytes, which smoltcp takes for the unit of later ones, and has
            // no memory for what it would let in.
            if !self.scaled && !self.reassembly.has_room(sequence, payload) {
                return;
            }
            let pieces = run.pieces().iter().filter_map(Seg::private);
            if !self.reassembly.keep(sequence, pieces, payload, |bytes| self.held.may_keep(bytes)) {
                return;
            }
        }
        // One acknowledgment for two segments that follow each other, at the end of the turn.
        let several = run.segments() > 1 && payload > usize::from(self.segment);
        let delay = if several { Duration::ZERO } else { ACK_DELAY };
        run.acknowledge_less(self.shift);
        let socket = self.socket();
        socket.set_ack_delay(Some(delay.into()));
        let before = socket.recv_queue();
        let mut shim =
            Shim { shape: self.shape, rx: Some(run.packet()), scratch: out.scratch, emitted: None };
        let result = self.interface.poll_ingress_single(time(now), &mut shim, &mut self.sockets);
        if let Some(emitted) = shim.emitted.take() {
            self.emit(emitted, out);
        }
        if result == PollIngressSingleResult::None {
            return;
        }
        let grown = self.socket().recv_queue() - before;
        if grown > 0 && ended {
            // Behind its FIN the peer has nothing to say.
            self.forget(grown);
        } else if grown > 0 {
            self.arrived(grown, old, run);
        }
        // A FIN that is taken, and bytes before it that had no room in the window.
        let end = sequence.wrapping_add(payload as u32);
        if !ended && run.header()[13] & FIN != 0 && has_ended(self.state()) && !self.reassembly.ends_at(end) {
            self.abort();
        }
        self.release();
        self.recovery.acknowledged(&self.flight(), acked);
    }

    /// Learns what an acknowledgment tells. Returns whether it repeats another one, and smoltcp need not know.
    fn is_known(&mut self, header: &[u8], payload: usize) -> bool {
        let repeated = payload == 0 && self.repeats(header);
        let window = u16::from_be_bytes([header[14], header[15]]);
        if std::mem::replace(&mut self.window, window) == 0 && window != 0 {
            self.recovery.opened();
        }
        if header.len() > TCP {
            self.learn(header);
        }
        // Behind the FIN, too: smoltcp sends that again by its timer only, which repeated acknowledgments would stop.
        let unanswered = self.window != 0 && (self.sent_to > self.acked || self.closing);
        repeated && unanswered && self.recovery.keeps_duplicates()
    }

    /// So many more bytes are in order: those of the segment at hand, of which the first `old` were known, and what was
    /// kept; or all of them were kept.
    fn arrived(&mut self, grown: usize, old: Option<usize>, run: &mut Run) {
        let mut left = grown;
        if let Some(mut old) = old {
            for piece in run.take() {
                let take = piece.len().saturating_sub(old).min(left);
                if take > 0 {
                    self.inbox.push_back(if take == piece.len() { piece } else { piece.slice(old, take) });
                    left -= take;
                    old = 0;
                } else {
                    old -= old.min(piece.len());
                }
            }
            self.inbox_len += grown - left;
            self.forget(grown - left);
        }
        if !self.reassembly.advance(grown, left) {
            debug_assert!(false, "{left} of {grown} bytes are not here");
            // Rather none than wrong ones.
            self.forget(left);
            self.abort();
        }
    }

    /// Whether a segment that begins there is the next one, and nothing is kept.
    pub(super) fn expects(&self, sequence: u32) -> bool {
        self.reassembly.is_next(sequence)
    }

    fn flight(&self) -> Flight {
        let shut = self.window == 0;
        Flight { now: self.now, acked: self.acked, sent: self.sent_to, segment: self.segment.into(), shut }
    }

    /// Whether a header says what was known.
    fn repeats(&self, header: &[u8]) -> bool {
        let acknowledged = u32::from_be_bytes([header[8], header[9], header[10], header[11]]);
        let window = u16::from_be_bytes([header[14], header[15]]);
        self.place(acknowledged) == Some(self.acked) && window == self.window
    }

    /// Takes notice of what the peer has beyond what it acknowledges.
    fn learn(&mut self, header: &[u8]) {
        let flight = self.flight();
        for (from, to) in selective_acknowledgments(header) {
            if let (Some(from), Some(to)) = (self.place(from), self.place(to)) {
                self.recovery.selective(&flight, (from, to));
            }
        }
    }

    /// The offset of a sequence number, if it is not acknowledged yet. 32 bits wrap within seconds: it is the one that
    /// is nearest to what is acknowledged.
    fn place(&self, sequence: u32) -> Option<u64> {
        let ahead = sequence.wrapping_sub(self.first).wrapping_sub(self.acked as u32);
        (ahead <= 1 << 31).then(|| self.acked + u64::from(ahead))
    }

    fn forget(&mut self, mut len: usize) {
        while len > 0 {
            let taken = self.socket().recv(|ring| (ring.len().min(len), ring.len().min(len)));
            match taken {
                Ok(n) if n > 0 => len -= n,
                _ => break,
            }
        }
    }

    /// Whether there is something to be taken.
    pub(super) fn is_readable(&self) -> bool {
        self.inbox_len > 0 || self.reassembly.ready() > 0
    }

    /// The next bytes in order.
    pub(super) fn receive(&mut self, arena: &Arena) -> Option<Seg> {
        if let Some(seg) = self.inbox.pop_front() {
            self.inbox_len -= seg.len();
            return Some(seg);
        }
        let len = self.reassembly.ready().min(TAKE_MAX);
        if len == 0 {
            return None;
        }
        let block = arena.alloc(len).or_else(|| arena.alloc_reserved(len.min(Arena::RESERVED_MAX)));
        let mut block = block?;
        self.reassembly.read(block.bytes_mut());
        self.forget(block.len());
        Some(block.freeze())
    }

    // Sending.

    /// How many bytes may be queued.
    pub(super) fn room(&self) -> usize {
        let waiting = usize::try_from(self.queued - self.acked).unwrap_or(usize::MAX);
        match waiting > 0 && self.held.is_too_much() {
            true => 0,
            false => (2 * self.shape.send).saturating_sub(waiting),
        }
    }

    pub(super) fn send(&mut self, mut data: Sg) {
        self.queued += data.len() as u64;
        for seg in data.take() {
            self.queue.push_back(seg);
        }
    }

    /// FIN after what is queued.
    pub(super) fn close(&mut self) {
        self.closing = true;
    }

    /// RST at once.
    pub(super) fn abort(&mut self) {
        self.socket().abort();
    }

    /// Tells smoltcp of as many queued bytes as may go out and its ring has room for, without giving it any.
    fn tell(&mut self) {
        if self.told < self.queued {
            let flight = self.flight();
            self.recovery.begins(&flight);
            // What it has been told of and not sent waits for the peer's window.
            let room = self.recovery.room(&flight).saturating_sub(self.told - self.sent_to);
            let left = self.queued - self.told;
            let fits = if left <= room { left } else { room - room % flight.segment };
            self.told += self.announce(usize::try_from(fits).unwrap_or(usize::MAX));
        }
        // FIN comes behind all bytes. In LAST-ACK smoltcp looks at no ACK that acknowledges nothing new, and so learns
        // nothing of windows: behind the peer's FIN ours waits until there is nothing to repair.
        let done = if self.state() == State::CloseWait { self.acked } else { self.told };
        if self.closing && done == self.queued {
            self.socket().close();
        }
    }

    /// Lets smoltcp have bytes to send; returns how many fit.
    fn announce(&mut self, len: usize) -> u64 {
        let mut told = 0;
        while told < len {
            // The ring is given in two pieces when it wraps.
            match self.socket().send(|ring| (ring.len().min(len - told), ring.len().min(len - told))) {
                Ok(n) if n > 0 => told += n,
                _ => break,
            }
        }
        told as u64
    }

    /// Lets go of what the peer has acknowledged.
    fn release(&mut self) {
        let unacknowledged = self.socket().send_queue() as u64;
        let acked = self.told - unacknowledged.min(self.told);
        while self.acked < acked {
            let Some(front) = self.queue.front_mut() else { return };
            let (have, want) = (front.len() as u64, acked - self.acked);
            if have > want {
                front.skip(usize::try_from(want).unwrap_or(usize::MAX));
                self.acked = acked;
                if self.cursor.0 == 0 {
                    self.cursor.1 = acked;
                }
            } else {
                self.queue.pop_front();
                self.acked += have;
                self.cursor = match self.cursor {
                    (0, _) => (0, self.acked),
                    (index, at) => (index - 1, at),
                };
            }
        }
    }

    /// Sends what may be sent now.
    pub(super) fn egress(&mut self, now: Instant, out: &mut Out<'_>) {
        self.now = now;
        self.tell();
        for _ in 0..EMIT_MAX {
            let mut shim = Shim { shape: self.shape, rx: None, scratch: out.scratch, emitted: None };
            let result = self.interface.poll_egress(time(now), &mut shim, &mut self.sockets);
            let sent_before = self.sent_to;
            match shim.emitted.take() {
                Some(emitted) => {
                    self.emit(emitted, out);
                    // The last of what there was, and with it the acknowledgment, the window and a FIN.
                    if self.sent_to > sent_before && self.sent_to == self.told {
                        break;
                    }
                }
                None if result == PollResult::None => break,
                None => {}
            }
        }
        if self.waits() {
            self.recover(out);
        }
    }

    /// Whether there is something that could be lost.
    fn waits(&self) -> bool {
        self.sent_to > self.acked && !self.queue.is_empty()
    }

    /// Sends again what the peer lacks, as far as the path has room.
    fn recover(&mut self, out: &mut Out<'_>) {
        let flight = self.flight();
        if self.recovery.has_holes() && !flight.shut {
            let packet = self.shape.packet_max().saturating_sub(HEADERS_MAX) as u64;
            let max = match self.shape.caps.segment_max {
                0 => flight.segment,
                _ => (packet / flight.segment * flight.segment).max(flight.segment),
            };
            let mut pass = self.recovery.pass(&flight);
            for _ in 0..EMIT_MAX {
                let Some(range) = self.recovery.repair(&flight, &mut pass, max) else { break };
                self.resend(range, out);
            }
        }
        if let Some(range) = self.recovery.probe(&flight) {
            self.resend(range, out);
        }
    }

    fn resend(&mut self, (from, to): Range, out: &mut Out<'_>) {
        let len = usize::try_from(to - from).unwrap_or(0);
        let Some(payload) = self.lookup(self.first.wrapping_add(from as u32), len, out) else { return };
        self.repaired += to - from;
        self.push(from, payload, out);
    }

    /// Sends a segment of which smoltcp knows nothing.
    fn push(&self, at: u64, payload: Sg, out: &mut Out<'_>) {
        let (acknowledged, window) = self.told_peer;
        let sequence = self.first.wrapping_add(at as u32);
        let fields = TcpFields { sequence, acknowledged, flags: ACK, window };
        let (header, mut offload) =
            out.front.tcp_header(self.mac, (self.local, self.peer), &fields, payload.len());
        offload.segment = Some(self.segment).filter(|&size| payload.len() > usize::from(size));
        out.burst.push_back(TxFrame { header, payload, offload: Some(offload) });
    }

    /// When it wants to be polled, whatever arrives.
    pub(super) fn poll_at(&mut self, now: Instant) -> Option<Instant> {
        let smoltcp = self.interface.poll_at(time(now), &self.sockets).map(|at| {
            let micros = u64::try_from(at.total_micros()).unwrap_or(0);
            Instant::from_nanos(micros.saturating_mul(1000))
        });
        let own = if self.waits() { self.recovery.deadline(&self.flight()) } else { None };
        smoltcp.into_iter().chain(own).min().map(|at| at.max(now))
    }

    /// Turns the packet that smoltcp has emitted into a frame with the payload that is meant.
    fn emit(&mut self, len: usize, out: &mut Out<'_>) {
        let packet = &out.scratch[..len];
        let ipv6 = self.local.is_ipv6();
        let ip = if ipv6 { 40 } else { usize::from(packet[0] & 0x0f) * 4 };
        let tcp = &packet[ip..];
        let header = ip + usize::from(tcp[12] >> 4) * 4;
        let payload = len - header;
        let numbered = u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]);
        if tcp[13] & SYN != 0 {
            self.shift = self.first.wrapping_sub(1).wrapping_sub(numbered);
        }
        let sequence = numbered.wrapping_add(self.shift);
        let acknowledged = u32::from_be_bytes([tcp[8], tcp[9], tcp[10], tcp[11]]);
        let told_before = self.told_peer;
        self.told_peer = (acknowledged, u16::from_be_bytes([tcp[14], tcp[15]]));
        self.scaled = tcp[13] & SYN == 0;
        // When smoltcp sends again, its timer has run out. What goes out because of that is decided here, and once.
        if payload > 0
            && self.window != 0
            && self.waits()
            && let Some(at) = self.place(sequence).filter(|at| at + payload as u64 <= self.sent_to)
        {
            if at == self.acked {
                self.recovery.timed_out(&self.flight());
            }
            if self.told_peer != told_before {
                self.push(self.sent_to, Sg::new(), out);
            }
            return;
        }
        let mut frame = out.front.ethernet(self.mac, if ipv6 { 0x86dd } else { 0x0800 });
        frame.extend_from_slice(&packet[..header]);
        frame[ETHERNET + ip + 4..][..4].copy_from_slice(&sequence.to_be_bytes());
        if tcp[13] & SYN != 0
            && let Some((_, value)) = options(tcp).find(|option| option.0 == SEGMENT)
        {
            // What the wire takes, not what the port does.
            let own = self.shape.segment(ipv6, u16::MAX);
            frame[ETHERNET + ip..][value].copy_from_slice(&own.to_be_bytes());
        }
        let partial = Sum::pseudo_header(self.local.ip(), self.peer.ip(), 6, len - ip).folded();
        frame[ETHERNET + ip + 16..][..2].copy_from_slice(&partial.to_be_bytes());
        let payload = match payload {
            0 => Sg::new(),
            len => match self.lookup(sequence, len, out) {
                Some(payload) => payload,
                // No memory to put small pieces together: smoltcp will send it again.
                None => return,
            },
        };
        let csum_start = u16::try_from(ETHERNET + ip).expect("headers are short");
        // A frame that fits needs no cutting.
        let segment = Some(self.segment).filter(|&size| payload.len() > usize::from(size));
        let offload = Some(TcpOffload { csum_start, segment, ipv6 });
        out.burst.push_back(TxFrame { header: frame, payload, offload });
    }

    /// The bytes of the stream from a sequence number on.
    fn lookup(&mut self, sequence: u32, len: usize, out: &Out<'_>) -> Option<Sg> {
        let Some(at) = self.place(sequence) else {
            // A keep-alive repeats the byte before the window, which is acknowledged and gone: the peer drops it
            // unseen.
            return Some(Seg::from_static(&[0]).into());
        };
        let end = at + len as u64;
        self.retransmitted += self.sent_to.min(end).saturating_sub(at);
        // Bytes that probe a closed window are none that could be lost.
        if self.window != 0 {
            self.recovery.sent(self.now, (at, end), end <= self.sent_to);
        }
        self.sent_to = self.sent_to.max(end);
        if at < self.cursor.1 {
            self.cursor = (0, self.acked);
        }
        let (mut index, mut start) = self.cursor;
        while index < self.queue.len() && start + self.queue[index].len() as u64 <= at {
            start += self.queue[index].len() as u64;
            index += 1;
        }
        self.cursor = (index, start);
        let mut pieces = Sg::new();
        let mut skip = usize::try_from(at - start).unwrap_or(usize::MAX);
        while pieces.len() < len {
            let seg = self.queue.get(index)?;
            let take = (seg.len() - skip).min(len - pieces.len());
            pieces.push(seg.slice(skip, take));
            (index, skip) = (index + 1, 0);
        }
        let gather = self.shape.caps.gather_max.min(GATHER_MAX);
        if pieces.segs().len() < gather { Some(pieces) } else { together(&pieces, out.arena, gather) }
    }
}

/// Whether the peer has nothing more to say.
fn has_ended(state: State) -> bool {
    use State::{Established, FinWait1, FinWait2, Listen, SynReceived};
    !matches!(state, Listen | SynReceived | Established | FinWait1 | FinWait2)
}

/// A flow without payload, on its way to another core.
pub(super) struct Moving {
    interface: Interface,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    local: SocketAddr,
    peer: SocketAddr,
    mac: [u8; 6],
    /// What was sent and is acknowledged.
    acked: u64,
    first: u32,
    shift: u32,
    reassembly: Reassembly,
    segment: u16,
    recovery: Recovery,
    window: u16,
    told_peer: (u32, u16),
    scaled: bool,
    retransmitted: u64,
    repaired: u64,
    challenges: u64,
    sent_to: u64,
}

impl Flow {
    /// Whether there are bytes here that have not been acknowledged or taken.
    pub(super) fn holds_payload(&self) -> bool {
        !self.queue.is_empty() || !self.inbox.is_empty() || self.queued != self.told || self.closing
    }

    /// Takes the flow apart for another core.
    pub(super) fn detach(self) -> Moving {
        let Self {
            interface,
            sockets,
            handle,
            local,
            peer,
            mac,
            acked,
            first,
            shift,
            reassembly,
            segment,
            ..
        } = self;
        Moving {
            interface,
            sockets,
            handle,
            local,
            peer,
            mac,
            acked,
            first,
            shift,
            reassembly,
            segment,
            recovery: self.recovery,
            window: self.window,
            told_peer: self.told_peer,
            scaled: self.scaled,
            retransmitted: self.retransmitted,
            repaired: self.repaired,
            challenges: self.challenges,
            sent_to: self.sent_to,
        }
    }
}

impl Moving {
    /// Puts the flow together again.
    pub(super) fn attach(self, shape: Shape, held: HeldByFlow) -> Flow {
        let Self {
            interface,
            sockets,
            handle,
            local,
            peer,
            mac,
            acked,
            first,
            shift,
            reassembly,
            segment,
            ..
        } = self;
        Flow {
            shape,
            interface,
            sockets,
            handle,
            local,
            peer,
            mac,
            queue: VecDeque::new(),
            acked,
            queued: acked,
            told: acked,
            cursor: (0, acked),
            first,
            shift,
            inbox: VecDeque::new(),
            inbox_len: 0,
            reassembly,
            held,
            closing: false,
            segment,
            recovery: self.recovery,
            window: self.window,
            told_peer: self.told_peer,
            scaled: self.scaled,
            challenged: None,
            now: Instant::ZERO,
            retransmitted: self.retransmitted,
            repaired: self.repaired,
            challenges: self.challenges,
            sent_to: self.sent_to,
        }
    }
}

/// Copies runs of small pieces together, so that a frame full of short PDUs does not have more pieces than its port
/// takes.
fn together(pieces: &Sg, arena: &Arena, max: usize) -> Option<Sg> {
    let mut result = Sg::new();
    let mut at = 0;
    let step = pieces.len().div_ceil(max / 2).max(1);
    while at < pieces.len() {
        let mut block = arena.alloc(step.min(pieces.len() - at))?;
        at += pieces.copy_to(at, block.bytes_mut());
        result.push(block.freeze());
    }
    Some(result)
}

/// Where frames go, and what it takes to make them.
pub(super) struct Out<'a> {
    pub(super) front: &'a Front,
    pub(super) arena: &'a Arena,
    pub(super) scratch: &'a mut Vec<u8>,
    pub(super) burst: &'a mut VecDeque<TxFrame>,
}
