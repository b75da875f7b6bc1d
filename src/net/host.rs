// SPDX-License-Identifier: GPL-2.0-or-later
//! A host on a frame port: the front, and a flow per 4-tuple behind it.

mod cookies;
mod flows;
mod handover;

use std::cell::{Cell, RefCell, RefMut};
use std::collections::hash_map::{DefaultHasher, RandomState};
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::rc::Rc;
use std::time::Duration;

use smallvec::SmallVec;
use smoltcp::socket::tcp::State;

use self::cookies::SynCookies;
use self::flows::{FlowEntry, Flows, Tuple};
use self::handover::Gone;
use super::flow::{Flow, Out, Shape};
use super::front::{ACK, FIN, Front, RST, SYN, Segment, TcpFields, Verdict};
use super::held::HeldByFlow;
use super::link::PortLink;
use super::options::SynFields;
use super::run::Run;
use super::{
    Address, CACHED_STREAMS, Detached, FramePort, LinkHandle, Listener, RxChecksum, RxFrame, STAGE_MAX,
    StreamEvent, StreamHost, StreamId, TcpCounters, TxFrame, multicast_groups,
};
use crate::counters::{Counted, CounterSet};
use crate::memory::{Arena, MemoryAccount, Seg, Sg, prefetch};
use crate::time::{Instant, Wheel};

/// Most flows of one core, those that are about to end included.
pub const FLOWS_MAX: usize = 16 << 10;

/// Most connections that have not finished their handshake and are remembered; beyond it SYNs are answered and
/// forgotten.
pub const HALF_OPEN_MAX: usize = 256;

/// How long a handshake may take.
const HANDSHAKE_TIME: Duration = Duration::from_secs(10);

/// How long a closed flow may wait for its peer to acknowledge anything.
const LINGER: Duration = Duration::from_secs(10);

/// How soon to try again after the arena was empty.
const RETRY: Duration = Duration::from_millis(1);

/// Most resets sent per second to segments that belong to nothing.
const RESETS_MAX: u32 = 1000;

/// Bytes below which a received segment is copied rather than held in its frame.
const SMALL: usize = 512;

/// Bytes of the headers of a frame, and some more.
const HEADERS: usize = 128;

/// How a host is set up.
#[derive(Clone, Debug)]
pub struct HostConfig {
    /// Our addresses.
    pub addresses: Vec<Address>,
    /// Where connections are accepted; [`super::StreamOrigin::listener`] counts in this order.
    pub listen: Vec<SocketAddr>,
    /// Receive window of a flow, in bytes.
    pub receive_window: usize,
    /// Most bytes of a flow that are sent and not acknowledged.
    pub send_window: usize,
    /// What nobody else knows, for initial sequence numbers (RFC 6528).
    pub secret: [u64; 2],
}

impl HostConfig {
    /// Windows that fill a local link, and a secret from the process's random source.
    pub fn new(addresses: Vec<Address>, listen: Vec<SocketAddr>) -> Self {
        let secret = [(); 2].map(|()| RandomState::new().hash_one(0));
        Self { addresses, listen, receive_window: 1 << 20, send_window: 1 << 20, secret }
    }
}

/// Bytes of the TCP header of a segment.
fn header_len(segment: &Segment<'_>) -> usize {
    usize::from(segment.packet[segment.tcp + 12] >> 4) * 4
}

/// See the module.
pub struct TcpHost<P> {
    link: Rc<RefCell<PortLink<P>>>,
    arena: Arena,
    front: Front,
    shape: Shape,
    /// The number of the listener at an address.
    listeners: HashMap<SocketAddr, usize>,
    flows: Flows,
    half_open: usize,
    secret: [u64; 2],
    cookies: SynCookies,
    next_id: u64,
    touched: Vec<usize>,
    /// What has come in last and has not gone to its flow yet.
    run: Run,
    timers: Wheel,
    frames: Vec<RxFrame>,
    burst: VecDeque<TxFrame>,
    scratch: Vec<u8>,
    /// Events that arose outside of `poll`.
    pending: Vec<StreamEvent>,
    /// A second, and how many resets it has left.
    resets: (u64, u32),
    counters: TcpCounters,
    /// Flows that have gone to other cores.
    gone: Gone,
    now: Instant,
}

impl<P: FramePort> TcpHost<P> {
    /// A host on `port`, which it announces to its neighbours with the first commit. The port hears the groups of
    /// [`multicast_groups`] already.
    pub fn new(port: P, arena: Arena, config: &HostConfig) -> Self {
        let front = Front::new(port.mac(), &config.addresses);
        let shape = Shape { caps: port.caps(), receive: config.receive_window, send: config.send_window };
        let burst = front.announcements().into();
        let link = PortLink::new(port, arena.clone(), multicast_groups(&config.addresses));
        Self {
            link: Rc::new(RefCell::new(link)),
            arena,
            front,
            shape,
            listeners: config.listen.iter().copied().zip(0..).collect(),
            flows: Flows::new(),
            half_open: 0,
            secret: config.secret,
            cookies: SynCookies::new(config.secret),
            next_id: 0,
            touched: Vec::new(),
            run: Run::new(),
            timers: Wheel::new(),
            frames: Vec::new(),
            burst,
            scratch: Vec::new(),
            pending: Vec::new(),
            resets: (u64::MAX, 0),
            counters: TcpCounters::default(),
            gone: Gone::default(),
            now: Instant::ZERO,
        }
    }

    /// The port.
    pub fn port(&mut self) -> RefMut<'_, P> {
        RefMut::map(self.link.borrow_mut(), |link| &mut link.port)
    }

    fn get(&self, id: StreamId) -> Option<usize> {
        let index = id.place();
        self.flows.get(index).filter(|entry| entry.id == id && !entry.gone).map(|_| index)
    }

    fn touch(&mut self, index: usize) {
        if !std::mem::replace(&mut self.flows[index].touched, true) {
            self.touched.push(index);
        }
    }

    // Receiving.

    /// Takes frames in.
    pub(super) fn receive_frames(&mut self, frames: &[RxFrame], events: &mut Vec<StreamEvent>) {
        if self.flows.len() > CACHED_STREAMS && frames.len() > 1 {
            return frames.chunks(STAGE_MAX).for_each(|frames| self.receive_in_stages(frames, events));
        }
        for frame in frames {
            if let Some(segment) = self.pass_front(frame) {
                self.segment(frame, &segment, None, events);
            }
        }
    }

    /// With more flows than the cache holds, one costs as much to fetch as to serve: frames go through stages, so that
    /// the flows of all are on their way when the first has its turn.
    fn receive_in_stages(&mut self, frames: &[RxFrame], events: &mut Vec<StreamEvent>) {
        for frame in frames {
            frame.data.prefetch(HEADERS);
        }
        let mut arrivals: SmallVec<[(&RxFrame, Segment<'_>, Option<usize>); STAGE_MAX]> = SmallVec::new();
        let mut flows: SmallVec<[usize; STAGE_MAX]> = SmallVec::new();
        for frame in frames {
            let Some(segment) = self.pass_front(frame) else { continue };
            let tuple = Tuple::of(&segment);
            let index = match arrivals.last() {
                Some((_, last, index)) if Tuple::of(last) == tuple => *index,
                _ => self.flows.find(&tuple).inspect(|&index| {
                    prefetch(&self.flows[index]);
                    flows.push(index);
                }),
            };
            arrivals.push((frame, segment, index));
        }
        for index in flows {
            self.flows[index].flow.prefetch();
        }
        for (frame, segment, index) in &arrivals {
            self.segment(frame, segment, *index, events);
        }
    }

    /// Serves what comes before TCP; returns a segment for that.
    #[inline]
    fn pass_front<'a>(&mut self, frame: &'a RxFrame) -> Option<Segment<'a>> {
        let bytes = frame.data.private()?;
        self.counters.frames_in += 1;
        self.counters.bytes_in += bytes.len() as u64;
        match self.front.receive(bytes, frame.checksum == RxChecksum::Good) {
            Verdict::Nothing => {}
            Verdict::Answer(answer) => self.burst.push_back(answer),
            Verdict::Tcp(segment) => return Some(segment),
        }
        None
    }

    /// Takes a segment in. `index`: its flow, if that has been looked up.
    fn segment(
        &mut self,
        frame: &RxFrame,
        segment: &Segment<'_>,
        index: Option<usize>,
        events: &mut Vec<StreamEvent>,
    ) {
        let Segment { mac, packet, tcp, .. } = *segment;
        let at = packet.as_ptr().addr() - frame.data.as_ptr().addr();
        if self.run.join(&frame.data, (at, packet), tcp) {
            return;
        }
        self.settle(events);
        let (header, tuple) = (&packet[tcp..], Tuple::of(segment));
        let opens = header[13] & (SYN | ACK | RST | FIN) == SYN;
        // The flow that was looked up may have ended with a segment before this one.
        let found = index.filter(|&index| self.flows.get(index).is_some_and(|entry| entry.tuple() == tuple));
        let mut index = found.or_else(|| self.flows.find(&tuple));
        // A new connection from where an old one has just ended (RFC 9293 3.10.7.4, TIME-WAIT).
        if let Some(old) = index.filter(|&old| opens && self.flows[old].flow.state() == State::TimeWait) {
            self.retire(old, events);
            index = None;
        }
        // A handshake that is not done may be that of somebody in the peer's name.
        let index = index.filter(|&index| {
            let FlowEntry { accepted, flow, .. } = &self.flows[index];
            *accepted || flow.is_in_handshake(header)
        });
        let index = match index {
            Some(index) => index,
            None if self.gone.takes(self.now, tuple, opens, &frame.data) => {
                self.counters.strays += 1;
                return;
            }
            None => {
                let listener = self.listeners.get(&tuple.local).copied();
                if let Some(listener) = listener.filter(|_| opens) {
                    return self.open(segment, tuple, listener);
                }
                match listener.and_then(|listener| self.reopen(segment, tuple, listener, events)) {
                    Some(index) => index,
                    None => return self.refuse(segment, tuple),
                }
            }
        };
        let sequence = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
        let next = self.flows[index].flow.expects(sequence);
        self.run.begin(index, &frame.data, mac, (at, packet), tcp, next);
    }

    /// Gives its flow what has come in last.
    fn settle(&mut self, events: &mut Vec<StreamEvent>) {
        let Some(index) = self.run.close() else { return };
        let entry = &mut self.flows[index];
        // As if it were lost on the way: it is sent again.
        if self.run.len() > 0
            && !(entry.flow.takes_payload()
                && (self.run.leave_reserve(&self.arena) || may_stay(&entry.flow, &self.run, &self.arena)))
        {
            self.counters.dropped_no_memory += 1;
            return self.run.clear();
        }
        let (front, arena) = (&self.front, &self.arena);
        let mut out = Out { front, arena, scratch: &mut self.scratch, burst: &mut self.burst };
        let before = entry.flow.acked;
        entry.flow.ingress(self.now, &mut self.run, &mut out);
        if let Some(since) = entry.closing.as_mut().filter(|_| entry.flow.acked != before) {
            *since = self.now;
        }
        // What was not handed on is not held.
        self.run.clear();
        self.touch(index);
        self.look(index, events);
    }

    /// Answers a SYN. A flow is made for it, and forgotten if there are too many of these, or one for another SYN.
    fn open(&mut self, segment: &Segment<'_>, tuple: Tuple, listener: usize) {
        if self.flows.len() >= FLOWS_MAX {
            self.counters.refused += 1;
            return;
        }
        let syn = SynFields::of(&segment.packet[segment.tcp..][..header_len(segment)]);
        if self.half_open < HALF_OPEN_MAX && self.flows.find(&tuple).is_none() {
            let mut hasher = DefaultHasher::new();
            (self.secret, tuple, self.now.as_nanos()).hash(&mut hasher);
            let flow = self.flow(tuple, segment.mac, hasher.finish() as u32, &syn);
            let (_, index) = self.insert(flow, listener, false);
            self.half_open += 1;
            self.touch(index);
        } else {
            let number = self.cookies.give(self.now, &tuple, &syn);
            self.counters.cookies_sent += 1;
            let mut flow = self.flow(tuple, segment.mac, number, &syn);
            self.answer(&mut flow);
        }
    }

    /// A flow that has been forgotten, for a segment that brings its number back. The peer has had the answer to its
    /// SYN.
    fn reopen(
        &mut self,
        segment: &Segment<'_>,
        tuple: Tuple,
        listener: usize,
        events: &mut Vec<StreamEvent>,
    ) -> Option<usize> {
        if !self.cookies.are_out(self.now) || self.flows.len() >= FLOWS_MAX {
            return None;
        }
        let header = &segment.packet[segment.tcp..];
        let before = |at: usize| {
            u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]).wrapping_sub(1)
        };
        let (number, cookie) = (before(4), before(8));
        let plain = header[13] & (SYN | RST | ACK) == ACK;
        let syn = plain.then(|| self.cookies.redeem(self.now, &tuple, number, cookie))??;
        if let Some(other) = self.flows.find(&tuple) {
            self.retire(other, events);
        }
        let mut flow = self.flow(tuple, segment.mac, cookie, &syn);
        self.answer(&mut flow);
        self.burst.pop_back();
        let (_, index) = self.insert(flow, listener, false);
        self.half_open += 1;
        Some(index)
    }

    fn flow(&self, tuple: Tuple, mac: [u8; 6], number: u32, syn: &SynFields) -> Flow {
        let held = HeldByFlow::new(&self.arena);
        Flow::open(self.shape, self.now, (tuple.local, tuple.peer), mac, number, syn, held)
    }

    /// Lets a flow answer its SYN, with one frame at the end of the burst.
    fn answer(&mut self, flow: &mut Flow) {
        let (front, arena) = (&self.front, &self.arena);
        flow.egress(self.now, &mut Out { front, arena, scratch: &mut self.scratch, burst: &mut self.burst });
    }

    /// Gives a flow its place and its name.
    fn insert(&mut self, flow: Flow, listener: usize, accepted: bool) -> (StreamId, usize) {
        self.next_id += 1;
        let index = self.flows.next_place();
        let id = StreamId::new(self.next_id, index);
        self.flows.insert(FlowEntry {
            flow,
            id,
            listener,
            born: self.now,
            accepted,
            gone: false,
            finished: false,
            closing: None,
            touched: false,
            full: Cell::new(false),
        });
        (id, index)
    }

    /// Tells the owner what has changed at a flow.
    fn look(&mut self, index: usize, events: &mut Vec<StreamEvent>) {
        let entry = &mut self.flows[index];
        let (id, state) = (entry.id, entry.flow.state());
        if !entry.accepted && matches!(state, State::Established | State::CloseWait) {
            entry.accepted = true;
            self.gone.forget(&entry.tuple());
            self.half_open -= 1;
            self.counters.accepted += 1;
            events.push(StreamEvent::Accepted { stream: id, origin: entry.origin() });
        }
        if entry.accepted && !entry.gone {
            if entry.flow.is_readable() {
                // One for all segments of a burst that follow each other.
                if events.last() != Some(&StreamEvent::Readable(id)) {
                    events.push(StreamEvent::Readable(id));
                }
            } else if matches!(state, State::CloseWait | State::Closing | State::LastAck | State::TimeWait)
                && !std::mem::replace(&mut entry.finished, true)
            {
                events.push(StreamEvent::Finished(id));
            }
            if entry.full.get() && entry.flow.room() > 0 {
                entry.full.set(false);
                events.push(StreamEvent::Writable(id));
            }
        }
        match state {
            State::Closed => self.retire(index, events),
            State::TimeWait => self.tell_gone(index, events),
            // The handshake was reset.
            State::Listen => self.retire(index, events),
            _ => {}
        }
    }

    fn tell_gone(&mut self, index: usize, events: &mut Vec<StreamEvent>) {
        let entry = &mut self.flows[index];
        if entry.accepted && !std::mem::replace(&mut entry.gone, true) {
            events.push(StreamEvent::Closed(entry.id));
            entry.flow.drop_payload();
        }
    }

    /// A flow has ended.
    fn retire(&mut self, index: usize, events: &mut Vec<StreamEvent>) {
        self.tell_gone(index, events);
        let entry = self.flows.remove(index);
        self.timers.forget(index);
        if !entry.accepted {
            self.half_open -= 1;
        }
        self.counters.challenges_sent += entry.flow.challenges;
        self.counters.retransmitted_bytes += entry.flow.retransmitted;
        self.counters.repaired_bytes += entry.flow.repaired;
    }

    /// RST for a segment that belongs to nothing (RFC 9293 3.10.7.1), at a bounded rate. The bound is not quite known,
    /// so that who counts the resets for segments of his own does not learn whether others' were reset.
    fn refuse(&mut self, segment: &Segment<'_>, tuple: Tuple) {
        let header = &segment.packet[segment.tcp..];
        let flags = header[13];
        let second = self.now.as_nanos() / 1_000_000_000;
        if self.resets.0 != second {
            let mut hasher = DefaultHasher::new();
            (self.secret, second).hash(&mut hasher);
            self.resets = (second, RESETS_MAX - hasher.finish() as u32 % (RESETS_MAX / 2));
        }
        // While there are cookies, it may be the second segment of a peer whose first was lost.
        let early =
            flags & ACK != 0 && self.cookies.are_out(self.now) && self.listeners.contains_key(&tuple.local);
        if flags & RST != 0 || early || self.resets.1 == 0 {
            return;
        }
        self.resets.1 -= 1;
        self.counters.resets_sent += 1;
        let payload = header.len() - header_len(segment);
        let (sequence, acknowledged, answer) = match flags & ACK {
            0 => {
                let counted = payload + usize::from(flags & SYN != 0) + usize::from(flags & FIN != 0);
                let sequence = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
                (0, sequence.wrapping_add(u32::try_from(counted).unwrap_or(0)), RST | ACK)
            }
            _ => (u32::from_be_bytes([header[8], header[9], header[10], header[11]]), 0, RST),
        };
        let fields = TcpFields { sequence, acknowledged, flags: answer, window: 0 };
        let (frame, offload) = self.front.tcp_header(segment.mac, (tuple.local, tuple.peer), &fields, 0);
        let offload = Some(offload);
        self.burst.push_back(TxFrame { header: frame, payload: Sg::new(), offload });
    }

    // Time.

    /// Flows whose time has come are polled.
    fn run_timers(&mut self, events: &mut Vec<StreamEvent>) -> usize {
        let mut work = 0;
        while let Some(index) = self.timers.expired(self.now) {
            let entry = &mut self.flows[index];
            work += 1;
            if entry.limit().is_some_and(|limit| self.now >= limit) {
                // It ends with the next commit, when its reset is on the way.
                entry.flow.abort();
                self.touch(index);
                continue;
            }
            self.touch(index);
            self.look(index, events);
        }
        work
    }
}

/// Whether what has come in may stay in the reserve, as there is no other memory: others have taken that, and the peer
/// would wait 200 ms and more before it sends it again.
#[cold]
fn may_stay(flow: &Flow, run: &Run, arena: &Arena) -> bool {
    arena.spares_reserve() && flow.held.is_little(run.len())
}

impl<P: FramePort + 'static> StreamHost for TcpHost<P> {
    fn poll(&mut self, now: Instant, events: &mut Vec<StreamEvent>) -> usize {
        self.now = now;
        let mut frames = std::mem::take(&mut self.frames);
        let mut work = self.link.borrow_mut().receive(now, &mut frames) + self.pending.len();
        events.append(&mut self.pending);
        self.receive_frames(&frames, events);
        frames.clear();
        self.frames = frames;
        work += self.receive_strays(events);
        self.settle(events);
        work += self.run_timers(events);
        work
    }

    fn receive(&mut self, id: StreamId) -> Option<Seg> {
        let index = self.get(id)?;
        self.touch(index);
        let entry = &mut self.flows[index];
        let seg = entry.flow.receive(&self.arena);
        let Some(seg) = seg else {
            // Empty at last: a FIN that came behind the bytes is told now; an empty arena is tried again soon.
            if entry.flow.is_readable() {
                self.timers.wake_at(index, self.now + RETRY);
            } else if matches!(entry.flow.state(), State::CloseWait | State::Closing | State::LastAck)
                && !std::mem::replace(&mut entry.finished, true)
            {
                self.pending.push(StreamEvent::Finished(id));
            }
            return None;
        };
        // A few bytes would hold a whole frame, and lent frames must leave room for those to come.
        let crowded = self.arena.in_use() > self.arena.bytes() / 2;
        if (seg.len() <= SMALL || crowded)
            && let Some(mut copy) = self.arena.alloc(seg.len())
        {
            seg.copy_to(0, copy.bytes_mut());
            return Some(copy.freeze());
        }
        Some(seg)
    }

    fn room(&self, id: StreamId) -> usize {
        let Some(index) = self.get(id) else { return 0 };
        let room = self.flows[index].flow.room();
        if room == 0 {
            self.flows[index].full.set(true);
        }
        room
    }

    fn send(&mut self, id: StreamId, data: Sg) {
        let Some(index) = self.get(id).filter(|&index| self.flows[index].closing.is_none()) else { return };
        self.flows[index].flow.send(data);
        self.touch(index);
    }

    fn bill(&mut self, id: StreamId, account: &MemoryAccount) {
        if let Some(index) = self.get(id) {
            self.flows[index].flow.held.bill(account);
        }
    }

    fn close(&mut self, id: StreamId) {
        let Some(index) = self.get(id) else { return };
        let entry = &mut self.flows[index];
        if entry.closing.is_none() {
            entry.closing = Some(self.now);
            entry.flow.close();
            self.touch(index);
        }
    }

    fn abort(&mut self, id: StreamId) {
        let Some(index) = self.get(id) else { return };
        self.flows[index].flow.abort();
        self.touch(index);
    }

    fn commit(&mut self, now: Instant) {
        self.now = now;
        let mut touched = std::mem::take(&mut self.touched);
        for index in touched.drain(..) {
            let Some(entry) = self.flows.get_mut(index) else { continue };
            entry.touched = false;
            let (front, arena) = (&self.front, &self.arena);
            let mut out = Out { front, arena, scratch: &mut self.scratch, burst: &mut self.burst };
            entry.flow.egress(now, &mut out);
            entry.flow.weigh();
            // Both, because a flow remembers its earliest deadline only.
            if let Some(at) = [entry.flow.poll_at(now), entry.limit()].into_iter().flatten().min() {
                self.timers.wake_at(index, at);
            }
            let mut events = std::mem::take(&mut self.pending);
            self.look(index, &mut events);
            self.pending = events;
        }
        self.touched = touched;
        let (frames, bytes) = self.link.borrow_mut().transmit(now, &mut self.burst);
        self.counters.frames_out += frames;
        self.counters.bytes_out += bytes;
    }

    fn next_deadline(&self) -> Option<Instant> {
        let quiet = self.pending.is_empty() && self.burst.is_empty() && self.touched.is_empty();
        if !quiet || !self.gone.is_idle() {
            return Some(self.now);
        }
        [self.timers.next(), self.link.borrow().port.next_deadline()].into_iter().flatten().min()
    }

    fn wake_fds(&self, fds: &mut Vec<RawFd>) {
        fds.extend(self.link.borrow().port.wake_fd());
    }

    fn listen(&mut self, number: usize, listener: &Listener) {
        if let Listener::At(address) = listener {
            self.listeners.insert(*address, number);
        }
    }

    fn unlisten(&mut self, number: usize) {
        self.listeners.retain(|_, listener| *listener != number);
    }

    fn stop_listening(&mut self) {
        self.listeners.clear();
    }

    fn detach(&mut self, stream: StreamId, to: usize) -> Option<Detached> {
        self.detach_flow(stream, to)
    }

    fn attach(&mut self, stream: Detached) -> Option<StreamId> {
        self.attach_flow(stream)
    }

    fn is_bounded(&self) -> bool {
        true
    }

    fn strays(&mut self) -> Vec<(usize, Vec<u8>)> {
        self.take_strays()
    }

    fn give(&mut self, stray: Vec<u8>) {
        self.give_stray(stray);
    }

    fn counters(&self) -> Vec<Counted> {
        let link = self.link.borrow();
        let mut sum = self.counters;
        sum.frames_in += link.counters.claimed;
        sum.bytes_in += link.counters.claimed_bytes;
        sum.frames_out += link.counters.raw_frames_out;
        sum.bytes_out += link.counters.raw_bytes_out;
        sum.flows = self.flows.len() as u64;
        sum.half_open = self.half_open as u64;
        for FlowEntry { flow, .. } in self.flows.iter() {
            sum.retransmitted_bytes += flow.retransmitted;
            sum.repaired_bytes += flow.repaired;
            sum.challenges_sent += flow.challenges;
        }
        let mut counters: Vec<Counted> = sum.counted().chain(self.front.drops.counted()).collect();
        counters.extend(link.counters.counted());
        counters.extend(link.port.counters());
        counters
    }

    fn link(&self) -> Option<LinkHandle> {
        Some(LinkHandle::new(&self.link))
    }
}
