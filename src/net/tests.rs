// SPDX-License-Identifier: GPL-2.0-or-later
//! A host on a port that tests fill and empty; further down, one on a wire with a peer at its other end.

mod forger;
mod front;
mod grid;
mod handover;
mod link;
mod peer;
mod segments;
mod transfer;

use std::collections::VecDeque;
use std::io;

use super::*;
use crate::counters::by_name;
use crate::memory::Arena;

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const PEER: [u8; 6] = [2, 0, 0, 0, 0, 2];

struct Bench {
    arena: Arena,
    incoming: Vec<RxFrame>,
    sent: Vec<Vec<u8>>,
    accepted: Vec<[u8; 6]>,
    /// It has room for so many addresses.
    filters: usize,
}

impl Bench {
    fn new(arena: &Arena) -> Self {
        let (incoming, sent, accepted) = Default::default();
        Self { arena: arena.clone(), incoming, sent, accepted, filters: 8 }
    }
}

impl FramePort for Bench {
    fn caps(&self) -> FrameCaps {
        FrameCaps { mtu: 2500, segment_max: 0, gather_max: 8 }
    }

    fn mac(&self) -> [u8; 6] {
        MAC
    }

    fn receive(&mut self, _: Instant, burst: &mut Vec<RxFrame>) -> usize {
        burst.append(&mut self.incoming);
        burst.len()
    }

    fn transmit(&mut self, _: Instant, burst: &mut VecDeque<TxFrame>) {
        self.sent
            .extend(burst.drain(..).map(|frame| [frame.header.to_vec(), frame.payload.to_vec()].concat()));
    }

    fn accept(&mut self, addresses: &[[u8; 6]]) -> io::Result<()> {
        if addresses.len() > self.filters {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.accepted = addresses.to_vec();
        Ok(())
    }
}

fn host() -> TcpHost<Bench> {
    host_in(Arena::new(4 << 20, false).unwrap())
}

fn host_in(arena: Arena) -> TcpHost<Bench> {
    let port = Bench::new(&arena);
    let address = |ip: &str, prefix| Address { ip: ip.parse().unwrap(), prefix };
    let addresses = vec![address("10.0.0.1", 24), address("fd00::1:2:3", 64)];
    TcpHost::new(port, arena, &HostConfig::new(addresses, Vec::new()))
}

/// Puts a frame before the port: destination, source, and what follows.
fn arrive(host: &mut TcpHost<Bench>, to: [u8; 6], rest: &[u8]) {
    let bytes = [&to[..], &PEER, rest].concat();
    let mut port = host.port();
    let mut block = port.arena.alloc(bytes.len()).unwrap();
    block.bytes_mut().copy_from_slice(&bytes);
    port.incoming.push(RxFrame { data: block.freeze(), checksum: RxChecksum::Unknown });
}

fn poll(host: &mut TcpHost<Bench>) {
    StreamHost::poll(host, Instant::ZERO, &mut Vec::new());
}

#[test]
fn what_there_is_for_a_stream_is_not_for_the_next_in_its_place() {
    let mut map = StreamMap::default();
    let [old, new, other] = [(1, 3), (2, 3), (3, 0)].map(|(serial, place)| StreamId::new(serial, place));
    assert_eq!((old.place(), new.place()), (3, 3));
    assert_eq!(map.insert(old, "old"), None);
    assert_eq!([old, new, other].map(|stream| map.get(stream).copied()), [Some("old"), None, None]);
    assert_eq!(map.insert(new, "new"), Some("old"));
    assert_eq!(map.insert(new, "new"), None, "the same");
    assert_eq!(map.insert(other, "other"), None);
    // The host has given the place away before the end of the old stream was heard of.
    map.remove(old);
    assert_eq!([old, new, other].map(|stream| map.get(stream).copied()), [None, Some("new"), Some("other")]);
    map.remove(new);
    assert_eq!([old, new, other].map(|stream| map.get(stream).copied()), [None, None, Some("other")]);
}
