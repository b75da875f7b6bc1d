// SPDX-License-Identifier: GPL-2.0-or-later
//! A host on a port that tests fill and empty; further down, one on a wire with a peer at its other end.

mod forger;
mod front;
mod grid;
mod handover;
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
const FCOE: u16 = 0x8906;

struct Bench {
    arena: Arena,
    incoming: Vec<RxFrame>,
    sent: Vec<Vec<u8>>,
    accepted: Vec<[u8; 6]>,
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
        self.accepted = addresses.to_vec();
        Ok(())
    }
}

fn host() -> TcpHost<Bench> {
    let arena = Arena::new(4 << 20, false).unwrap();
    let port = Bench { arena: arena.clone(), incoming: Vec::new(), sent: Vec::new(), accepted: Vec::new() };
    let address = |ip: &str, prefix| Address { ip: ip.parse().unwrap(), prefix };
    let addresses = vec![address("10.0.0.1", 24), address("fd00::1:2:3", 64)];
    TcpHost::new(port, arena, &HostConfig::new(addresses, Vec::new()))
}

/// Puts a frame before the port: destination, source, and what follows.
fn arrive(host: &mut TcpHost<Bench>, to: [u8; 6], rest: &[u8]) {
    let bytes = [&to[..], &PEER, rest].concat();
    let port = host.port();
    let mut block = port.arena.alloc(bytes.len()).unwrap();
    block.bytes_mut().copy_from_slice(&bytes);
    port.incoming.push(RxFrame { data: block.freeze(), checksum: RxChecksum::Unknown });
}

fn poll(host: &mut TcpHost<Bench>) {
    StreamHost::poll(host, Instant::ZERO, &mut Vec::new());
}

#[test]
fn claimed_frames_go_to_their_claimant() {
    let (mut host, other, group) = (host(), [0x0e, 0xfc, 0, 0, 0, 7], [1, 0x10, 0x18, 1, 0, 2]);
    poll(&mut host);
    let link = host.link().unwrap();
    link.claim(FCOE, None);
    link.claim(FCOE, Some(100));
    link.accept(&[other, group]).unwrap();
    // Our own, one of the further addresses, a group, a priority tag, a VLAN.
    arrive(&mut host, MAC, &[0x89, 0x06, 1]);
    arrive(&mut host, other, &[0x89, 0x06, 2]);
    arrive(&mut host, group, &[0x89, 0x06, 3]);
    arrive(&mut host, MAC, &[0x81, 0, 0x60, 0, 0x89, 0x06, 4]);
    arrive(&mut host, MAC, &[0x81, 0, 0x60, 100, 0x89, 0x06, 5]);
    // Not claimed: another VLAN, a provider's tag, two tags, another ethertype, another host; a tag that is cut short.
    arrive(&mut host, MAC, &[0x81, 0, 0, 101, 0x89, 0x06, 6]);
    arrive(&mut host, MAC, &[0x88, 0xa8, 0, 100, 0x89, 0x06, 6]);
    arrive(&mut host, MAC, &[0x88, 0xa8, 0, 0, 0x81, 0, 0, 100, 0x89, 0x06, 6]);
    arrive(&mut host, MAC, &[0x81, 0, 0, 100, 0x81, 0, 0, 100, 0x89, 0x06, 6]);
    arrive(&mut host, MAC, &[0x89, 0x14, 7]);
    arrive(&mut host, [0x0e, 0xfc, 0, 0, 0, 8], &[0x89, 0x06, 8]);
    arrive(&mut host, MAC, &[0x81, 0, 0]);
    poll(&mut host);
    let link = host.link().unwrap();
    let taken = std::iter::from_fn(|| link.take_frame());
    let taken: Vec<_> = taken
        .map(|frame| {
            assert_eq!(frame.ethertype, FCOE);
            (frame.vlan, frame.data.private().unwrap()[frame.body..].to_vec())
        })
        .collect();
    let expected = [(None, 1), (None, 2), (None, 3), (None, 4), (Some(100), 5)];
    assert_eq!(taken, expected.map(|(vlan, byte)| (vlan, vec![byte])));
    let counters = by_name(host.counters());
    assert_eq!((counters["claimed"], counters["dropped_unserved"]), (5, 5));
    assert_eq!((counters["dropped_not_ours"], counters["dropped_malformed"]), (1, 1));
}

#[test]
fn a_claimant_does_not_take_the_groups_of_ip_away() {
    let mut host = host();
    host.link().unwrap().accept(&[[1, 0x10, 0x18, 1, 0, 2]]).unwrap();
    let groups = [[0x33, 0x33, 0, 0, 0, 1], [0x33, 0x33, 0xff, 2, 0, 3], [1, 0x10, 0x18, 1, 0, 2]];
    assert_eq!(host.port().accepted, groups);
}

#[test]
fn frames_that_nobody_takes_are_bounded_and_the_rest_is_sent_as_it_is() {
    let mut host = host();
    host.link().unwrap().claim(FCOE, None);
    for _ in 0..=RAW_FRAMES_MAX {
        arrive(&mut host, MAC, &[0x89, 0x06, 0]);
    }
    poll(&mut host);
    let counters = by_name(host.counters());
    assert_eq!((counters["claimed"], counters["dropped_claimed"]), (256, 1));
    StreamHost::commit(&mut host, Instant::ZERO);
    host.port().sent.clear();
    let header = SmallVec::from_slice(&[9; 14]);
    let payload = Sg::from(Seg::from_static(b"body"));
    host.link().unwrap().send_frame(TxFrame { header, payload, offload: None });
    StreamHost::commit(&mut host, Instant::ZERO);
    assert_eq!(host.port().sent, [[&[9; 14][..], b"body"].concat()]);
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
