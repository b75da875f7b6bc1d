// SPDX-License-Identifier: GPL-2.0-or-later
//! A TCP peer that makes and takes frames, to measure what the target's side costs: nothing is lost or late,
//! and it acknowledges what it gets with its next segment, or else at the end of the turn. The wire is memory, or a
//! device.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use smallvec::SmallVec;

use super::Frames;
use super::streams::{After, Ends, LOCAL, PEER, PORT};
use crate::memory::{Arena, Seg};
use crate::net::{
    Address, FrameCaps, FramePort, HostConfig, RxChecksum, RxFrame, StreamHost, TcpHost, TxFrame,
};
use crate::time::Instant;

const HEADERS: usize = 54;
const TCP: usize = 34;
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;
const FIRST_PORT: u16 = 1024;
const OUR_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
pub(super) const TARGET_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];

/// Payload of one frame: what a device that coalesces segments hands up.
const PAYLOAD_MAX: usize = 62 << 10;

/// Most frames that a port in memory hands over at once, as a TAP device does.
const BURST_MAX: usize = 32;

/// What is between a port of the target's and its peer.
pub(super) trait Wire {
    /// Payload of a frame at most.
    fn payload_max(&self) -> usize;
    /// What the peer says that a segment may have.
    fn segment_max(&self) -> u16 {
        1460
    }
    /// Whether one more frame can be sent.
    fn has_room(&self) -> bool;
    /// Sends a frame whose TCP checksum is nobody's business but the wire's. There is room.
    fn send(&mut self, header: &[u8], payload: &[u8]);
    /// Takes the next frame of the target's: the bytes at its front, at least those of all headers, and what is behind
    /// them.
    fn receive(&mut self, payload: &mut Vec<Seg>) -> Option<SmallVec<[u8; 128]>>;
    /// What a device has to do in a turn, and the target's port does not do itself.
    fn exchange(&mut self) {}
    /// See [`Ends::after`].
    fn after(&self) -> After {
        Box::new(|| Ok(()))
    }
    /// What has gone over it.
    fn counts(&self) -> Frames;
}

#[derive(Default)]
struct Flow {
    next: u32,
    /// The next byte that is expected of the target.
    expected: u32,
    open: bool,
    /// It is to be opened when there is room.
    opening: bool,
    /// Up to where the target takes bytes, and how many bits its window is shifted by.
    limit: u32,
    shift: u8,
    /// What waits for the window.
    waiting: VecDeque<u8>,
    /// It is to be acknowledged.
    owes: bool,
    to_peer: VecDeque<Seg>,
}

#[derive(Default)]
struct Link {
    to_target: VecDeque<RxFrame>,
    to_peer: VecDeque<TxFrame>,
}

struct Port(Rc<RefCell<Link>>);

/// Frames in memory, which change hands whole.
struct Memory {
    link: Rc<RefCell<Link>>,
    arena: Arena,
    counts: Frames,
}

/// See the module.
pub(super) struct Peer {
    wire: Box<dyn Wire>,
    flows: Vec<Flow>,
    /// The flow that is the first when there is room again, so that all have their share of the wire.
    first: usize,
    scratch: Vec<u8>,
    pieces: Vec<Seg>,
}

/// A host of the target's on a port, and its peer at the other end of the wire.
pub(super) fn host(
    port: impl FramePort + 'static,
    wire: impl Wire + 'static,
    arena: &Arena,
) -> (Box<dyn StreamHost>, Peer) {
    let addresses = vec![Address { ip: LOCAL.into(), prefix: 24 }];
    let config = HostConfig::new(addresses, vec![(LOCAL, PORT).into()]);
    let host = TcpHost::new(port, arena.clone(), &config);
    (
        Box::new(host),
        Peer { wire: Box::new(wire), flows: Vec::new(), first: 0, scratch: Vec::new(), pieces: Vec::new() },
    )
}

/// The same over memory.
pub(super) fn in_memory(arena: &Arena) -> (Box<dyn StreamHost>, Peer) {
    let link = Rc::new(RefCell::new(Link::default()));
    let wire = Memory { link: link.clone(), arena: arena.clone(), counts: Frames::default() };
    host(Port(link), wire, arena)
}

impl FramePort for Port {
    fn caps(&self) -> FrameCaps {
        FrameCaps { mtu: 1500, segment_max: 64_254, gather_max: 512 }
    }

    fn mac(&self) -> [u8; 6] {
        TARGET_MAC
    }

    fn receive(&mut self, _: Instant, burst: &mut Vec<RxFrame>) -> usize {
        let to_target = &mut self.0.borrow_mut().to_target;
        let count = to_target.len().min(BURST_MAX);
        burst.extend(to_target.drain(..count));
        count
    }

    fn transmit(&mut self, _: Instant, burst: &mut VecDeque<TxFrame>) {
        let to_peer = &mut self.0.borrow_mut().to_peer;
        match to_peer.is_empty() {
            true => std::mem::swap(to_peer, burst),
            false => to_peer.append(burst),
        }
    }
}

impl Wire for Memory {
    fn payload_max(&self) -> usize {
        PAYLOAD_MAX
    }

    fn has_room(&self) -> bool {
        true
    }

    fn send(&mut self, header: &[u8], payload: &[u8]) {
        let mut block = self.arena.alloc(header.len() + payload.len()).expect("memory for a frame");
        block.bytes_mut()[..header.len()].copy_from_slice(header);
        block.bytes_mut()[header.len()..].copy_from_slice(payload);
        let frame = RxFrame { data: block.freeze(), checksum: RxChecksum::Good };
        self.link.borrow_mut().to_target.push_back(frame);
        self.counts.to_target += 1;
    }

    fn receive(&mut self, payload: &mut Vec<Seg>) -> Option<SmallVec<[u8; 128]>> {
        let frame = self.link.borrow_mut().to_peer.pop_front()?;
        payload.extend(frame.payload.segs().iter().cloned());
        self.counts.from_target += 1;
        self.counts.in_place += u64::from(!frame.payload.is_empty());
        Some(frame.header)
    }

    fn counts(&self) -> Frames {
        self.counts
    }
}

/// The shift of the window scale option (RFC 7323 2.2), behind a TCP header without options.
fn window_scale(mut options: &[u8]) -> u8 {
    loop {
        match options {
            [3, 3, shift, ..] => return *shift,
            [1, rest @ ..] => options = rest,
            [2..=u8::MAX, len @ 2..=u8::MAX, ..] if usize::from(*len) <= options.len() => {
                options = &options[usize::from(*len)..];
            }
            _ => return 0,
        }
    }
}

impl Peer {
    /// Takes what the target has sent.
    fn collect(&mut self) {
        let pieces = &mut self.pieces;
        while let Some(header) = self.wire.receive(pieces) {
            if header.len() < HEADERS || header[12..14] != [8, 0] {
                pieces.clear();
                continue; // announcements
            }
            let word = |at| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
            let port = u16::from_be_bytes([header[TCP + 2], header[TCP + 3]]);
            let Some(flow) = self.flows.get_mut(usize::from(port - FIRST_PORT)) else { continue };
            let (sequence, flags) = (word(TCP + 4), header[TCP + 13]);
            let window = u32::from(u16::from_be_bytes([header[TCP + 14], header[TCP + 15]]));
            if flags & SYN != 0 {
                (flow.expected, flow.open, flow.owes) = (sequence.wrapping_add(1), true, true);
                flow.shift = window_scale(&header[TCP + 20..]);
            }
            flow.limit = word(TCP + 8).wrapping_add(window << if flags & SYN != 0 { 0 } else { flow.shift });
            let len: usize = pieces.iter().map(Seg::len).sum();
            if flags & SYN == 0 && len > 0 {
                flow.owes = true;
                if sequence == flow.expected {
                    flow.expected = sequence.wrapping_add(u32::try_from(len).expect("one frame"));
                    flow.to_peer.extend(pieces.drain(..));
                }
                // Else it was sent again, because the process was stopped for long.
            }
            pieces.clear();
        }
    }

    /// Sends what waits, as far as the window and the wire go.
    fn pump(&mut self, number: usize) {
        let payload_max = self.wire.payload_max();
        while self.wire.has_room() {
            let mut payload = std::mem::take(&mut self.scratch);
            payload.clear();
            let flow = &mut self.flows[number];
            let room = flow.limit.wrapping_sub(flow.next);
            if flow.open && room < 1 << 31 {
                let len = flow.waiting.len().min(payload_max).min(room as usize);
                let (front, back) = flow.waiting.as_slices();
                let front = &front[..len.min(front.len())];
                payload.extend_from_slice(front);
                payload.extend_from_slice(&back[..len - front.len()]);
                flow.waiting.drain(..len);
            }
            let flags = match payload.is_empty() {
                true if std::mem::take(&mut flow.opening) => Some(SYN),
                true => None,
                false => Some(ACK),
            };
            if let Some(flags) = flags {
                self.frame(number, flags, &payload);
            }
            self.scratch = payload;
            if flags.is_none() {
                return;
            }
        }
    }

    fn frame(&mut self, number: usize, flags: u8, payload: &[u8]) {
        let flow = &mut self.flows[number];
        let mut header: SmallVec<[u8; 64]> = SmallVec::new();
        header.extend_from_slice(&TARGET_MAC);
        header.extend_from_slice(&OUR_MAC);
        header.extend_from_slice(&[8, 0]);
        let [high, low] = self.wire.segment_max().to_be_bytes();
        let options: &[u8] = if flags & SYN != 0 { &[2, 4, high, low, 1, 3, 3, 7] } else { &[] };
        let len = u16::try_from(40 + options.len() + payload.len()).expect("one frame");
        header.extend_from_slice(&[0x45, 0]);
        header.extend_from_slice(&len.to_be_bytes());
        header.extend_from_slice(&[0, 0, 0x40, 0, 64, 6, 0, 0]);
        header.extend_from_slice(&PEER.octets());
        header.extend_from_slice(&LOCAL.octets());
        let sum: u32 = header[14..34].chunks(2).map(|two| u32::from(two[0]) << 8 | u32::from(two[1])).sum();
        let sum = (sum & 0xffff) + (sum >> 16);
        let sum = !u16::try_from((sum & 0xffff) + (sum >> 16)).expect("folded");
        header[24..26].copy_from_slice(&sum.to_be_bytes());
        let port = FIRST_PORT + u16::try_from(number).expect("fewer than 64512 streams");
        header.extend_from_slice(&port.to_be_bytes());
        header.extend_from_slice(&PORT.to_be_bytes());
        header.extend_from_slice(&flow.next.to_be_bytes());
        header.extend_from_slice(&flow.expected.to_be_bytes());
        let words = u8::try_from(5 + options.len() / 4).expect("few options");
        header.extend_from_slice(&[words << 4, flags, 0xff, 0xff, 0, 0, 0, 0]);
        header.extend_from_slice(options);
        flow.next = flow.next.wrapping_add(u32::try_from(payload.len()).expect("one frame"));
        if flags & SYN != 0 {
            flow.next = flow.next.wrapping_add(1);
        }
        flow.owes = false;
        self.wire.send(&header, payload);
    }
}

impl Ends for Peer {
    fn open(&mut self, number: usize) {
        assert_eq!(self.flows.len(), number, "streams are opened in order");
        self.flows.push(Flow { opening: true, ..Flow::default() });
        self.pump(number);
    }

    fn send(&mut self, number: usize, bytes: &[u8]) {
        self.flows[number].waiting.extend(bytes);
        self.pump(number);
    }

    fn receive(&mut self, number: usize) -> Option<Seg> {
        self.collect();
        self.flows[number].to_peer.pop_front()
    }

    fn settle(&mut self) {
        for step in 0..self.flows.len() {
            let number = (self.first + step) % self.flows.len();
            if !self.wire.has_room() {
                self.first = number;
                return;
            }
            self.pump(number);
            if self.flows[number].owes && self.wire.has_room() {
                self.frame(number, ACK, &[]);
            }
        }
    }

    fn exchange(&mut self) {
        self.wire.exchange();
    }

    fn after(&self) -> After {
        self.wire.after()
    }

    fn frames(&self) -> Option<Frames> {
        Some(self.wire.counts())
    }
}
