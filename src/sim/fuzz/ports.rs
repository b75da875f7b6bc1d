// SPDX-License-Identifier: GPL-2.0-or-later
//! Ports on frames that no kernel has made: what is before a frame is as wild as the frame.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fs::File;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::rc::Rc;
use std::time::Duration;

use super::mutate::InputShape;
use crate::memory::Arena;
use crate::net::{
    Address, FrameCaps, FramePort, HostConfig, RxFrame, StreamEvent, StreamHost, TcpHost, TxFrame,
};
use crate::ports::packet::Packet;
use crate::ports::tap::Tap;
use crate::sys::PacketSocket;
use crate::time::Instant;

/// Length of a vnet header.
const VNET: usize = 10;

thread_local! {
    /// Memory for the next input.
    static REUSED: Cell<Option<Arena>> = const { Cell::new(None) };
}

/// The next input gets fresh memory.
pub(super) fn forget() {
    REUSED.take();
}

/// A port that the one who fills it has a hand on, too.
struct SharedPort<P>(Rc<RefCell<P>>);

impl<P: FramePort> FramePort for SharedPort<P> {
    fn caps(&self) -> FrameCaps {
        self.0.borrow().caps()
    }

    fn mac(&self) -> [u8; 6] {
        self.0.borrow().mac()
    }

    fn receive(&mut self, now: Instant, burst: &mut Vec<RxFrame>) -> usize {
        self.0.borrow_mut().receive(now, burst)
    }

    fn transmit(&mut self, now: Instant, burst: &mut VecDeque<TxFrame>) {
        self.0.borrow_mut().transmit(now, burst);
    }
}

/// Gives each piece of the input to a port, and lets a host take what comes of it. What goes out is looked at.
fn run<P: FramePort + 'static>(
    bytes: &[u8],
    port: impl FnOnce(File, Arena) -> P,
    mut give: impl FnMut(&mut P, &UnixDatagram, &[u8]),
) {
    let arena = REUSED.take().unwrap_or_else(|| Arena::new(8 << 20, false).expect("memory"));
    let (inner, outer) = UnixDatagram::pair().expect("sockets");
    for end in [&inner, &outer] {
        end.set_nonblocking(true).expect("a socket");
    }
    let port = Rc::new(RefCell::new(port(File::from(OwnedFd::from(inner)), arena.clone())));
    let ip = IpAddr::from(Ipv4Addr::new(192, 0, 2, 1));
    let config = HostConfig {
        secret: [0; 2],
        ..HostConfig::new(vec![Address { ip, prefix: 24 }], vec![(ip, 3260).into()])
    };
    let mut host = TcpHost::new(SharedPort(port.clone()), arena.clone(), &config);
    let (mut now, mut events, mut frame) = (Instant::from_nanos(1_000_000), Vec::new(), vec![0; 128 << 10]);
    for piece in InputShape::Long.split(bytes) {
        give(&mut port.borrow_mut(), &outer, &piece.data);
        for _ in 0..4 {
            now = now + Duration::from_micros(1);
            host.poll(now, &mut events);
            for event in events.drain(..) {
                match event {
                    StreamEvent::Readable(stream) => while host.receive(stream).is_some() {},
                    StreamEvent::Finished(stream) => host.close(stream),
                    _ => {}
                }
            }
            host.commit(now);
            while let Ok(len) = outer.recv(&mut frame) {
                let start = usize::from(u16::from_ne_bytes([frame[6], frame[7]]));
                assert!(len >= VNET + 14, "a frame of {len} bytes");
                assert!(frame[0] == 0 || VNET + start + 18 <= len, "a checksum at {start} of {len} bytes");
            }
        }
    }
    drop((host, port));
    assert_eq!(arena.in_use(), 0, "memory that did not come home");
    REUSED.set(Some(arena));
}

/// What is read from a TAP device: vnet headers and frames.
pub(super) fn vnet(bytes: &[u8]) {
    run(bytes, Tap::pretended, |_, outer, piece| _ = outer.send(piece));
}

/// Slots of the ring of a packet socket, TPACKET_V2 headers included. A slot whose first byte, its status, is odd is
/// the program's; behind one that announces a long frame there may be one.
pub(super) fn packet(bytes: &[u8]) {
    let port = |file, arena| Packet::pretended(PacketSocket::pretended(file).expect("memory"), arena);
    run(bytes, port, |port, outer, piece| {
        if piece.first().is_some_and(|status| status & 4 != 0) {
            _ = outer.send(&piece[piece.len().min(32)..]);
        }
        port.socket().fill(piece);
    });
}
