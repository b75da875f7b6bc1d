// SPDX-License-Identifier: GPL-2.0-or-later
//! A TCP peer that makes and takes frames in memory, for one who wants to know what the target's side costs: nothing is
//! lost or late, and it acknowledges what it gets with its next segment, or else at the end of the turn.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use smallvec::SmallVec;

use super::streams::{Ends, LOCAL, PEER, PORT};
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
const TARGET_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];

/// Payload of one frame: what a device that coalesces segments hands up.
const PAYLOAD_MAX: usize = 62 << 10;

#[derive(Default)]
struct Flow {
    next: u32,
    /// The next byte that is expected of the target.
    expected: u32,
    open: bool,
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
    flows: Vec<Flow>,
    to_target: VecDeque<RxFrame>,
}

struct Port(Rc<RefCell<Link>>);

/// See the module.
pub(super) struct Peer {
    link: Rc<RefCell<Link>>,
    arena: Arena,
    scratch: Vec<u8>,
}

/// A host of the target's, and its peer.
pub(super) fn host(arena: &Arena) -> (Box<dyn StreamHost>, Peer) {
    let link = Rc::new(RefCell::new(Link::default()));
    let addresses = vec![Address { ip: LOCAL.into(), prefix: 24 }];
    let config = HostConfig::new(addresses, vec![(LOCAL, PORT).into()]);
    let host = TcpHost::new(Port(link.clone()), arena.clone(), &config);
    (Box::new(host), Peer { link, arena: arena.clone(), scratch: Vec::new() })
}

impl FramePort for Port {
    fn caps(&self) -> FrameCaps {
        FrameCaps { mtu: 1500, segment_max: 64_254, gather_max: 512 }
    }

    fn mac(&self) -> [u8; 6] {
        TARGET_MAC
    }

    fn receive(&mut self, _: Instant, burst: &mut Vec<RxFrame>) -> usize {
        let before = burst.len();
        burst.extend(self.0.borrow_mut().to_target.drain(..));
        burst.len() - before
    }

    fn transmit(&mut self, _: Instant, burst: &mut VecDeque<TxFrame>) {
        let link = &mut *self.0.borrow_mut();
        for frame in burst.drain(..) {
            let header = &frame.header;
            if header.len() < HEADERS || header[12..14] != [8, 0] {
                continue; // announcements
            }
            let word = |at| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
            let port = u16::from_be_bytes([header[TCP + 2], header[TCP + 3]]);
            let Some(flow) = link.flows.get_mut(usize::from(port - FIRST_PORT)) else { continue };
            let (sequence, flags) = (word(TCP + 4), header[TCP + 13]);
            let window = u32::from(u16::from_be_bytes([header[TCP + 14], header[TCP + 15]]));
            if flags & SYN != 0 {
                (flow.expected, flow.open, flow.owes) = (sequence.wrapping_add(1), true, true);
                flow.shift = window_scale(&header[TCP + 20..]);
            }
            flow.limit = word(TCP + 8).wrapping_add(window << if flags & SYN != 0 { 0 } else { flow.shift });
            if flags & SYN == 0 && !frame.payload.is_empty() {
                flow.owes = true;
                if sequence != flow.expected {
                    continue; // sent again, because the process was stopped for long
                }
                flow.expected = sequence.wrapping_add(u32::try_from(frame.payload.len()).expect("one frame"));
                flow.to_peer.extend(frame.payload.segs().iter().cloned());
            }
        }
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
    /// Sends what waits, as far as the window goes.
    fn pump(&mut self, number: usize) {
        loop {
            let mut payload = std::mem::take(&mut self.scratch);
            payload.clear();
            {
                let flow = &mut self.link.borrow_mut().flows[number];
                let room = flow.limit.wrapping_sub(flow.next);
                if flow.open && room < 1 << 31 {
                    let len = flow.waiting.len().min(PAYLOAD_MAX).min(room as usize);
                    payload.extend(flow.waiting.drain(..len));
                }
            }
            if payload.is_empty() {
                self.scratch = payload;
                return;
            }
            self.frame(number, ACK, &payload);
            self.scratch = payload;
        }
    }

    fn frame(&mut self, number: usize, flags: u8, payload: &[u8]) {
        let link = &mut *self.link.borrow_mut();
        let flow = &mut link.flows[number];
        let mut header: SmallVec<[u8; 64]> = SmallVec::new();
        header.extend_from_slice(&TARGET_MAC);
        header.extend_from_slice(&OUR_MAC);
        header.extend_from_slice(&[8, 0]);
        let options: &[u8] = if flags & SYN != 0 { &[2, 4, 5, 180, 1, 3, 3, 7] } else { &[] };
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
        let mut block = self.arena.alloc(header.len() + payload.len()).expect("memory for a frame");
        block.bytes_mut()[..header.len()].copy_from_slice(&header);
        block.bytes_mut()[header.len()..].copy_from_slice(payload);
        let frame = RxFrame { data: block.freeze(), checksum: RxChecksum::Good };
        link.to_target.push_back(frame);
    }
}

impl Ends for Peer {
    fn open(&mut self, number: usize) {
        assert_eq!(self.link.borrow().flows.len(), number, "streams are opened in order");
        self.link.borrow_mut().flows.push(Flow::default());
        self.frame(number, SYN, &[]);
    }

    fn send(&mut self, number: usize, bytes: &[u8]) {
        self.link.borrow_mut().flows[number].waiting.extend(bytes);
        self.pump(number);
    }

    fn receive(&mut self, number: usize) -> Option<Seg> {
        let link = &mut *self.link.borrow_mut();
        link.flows[number].to_peer.pop_front()
    }

    fn settle(&mut self) {
        let flows = self.link.borrow().flows.len();
        for number in 0..flows {
            self.pump(number);
            let owes = self.link.borrow().flows[number].owes;
            if owes {
                self.frame(number, ACK, &[]);
            }
        }
    }
}
