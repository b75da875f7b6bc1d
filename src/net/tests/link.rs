// SPDX-License-Identifier: GPL-2.0-or-later
//! The clients of a link beside TCP/IP.

use super::*;

const FCOE: u16 = 0x8906;
const FIP: u16 = 0x8914;
const GROUP: [u8; 6] = [1, 0x10, 0x18, 1, 0, 2];
const GIVEN: [u8; 6] = [0x0e, 0xfc, 0, 0, 0, 7];

fn claim(ethertype: u16, vlan: Option<u16>, addresses: &[[u8; 6]]) -> FrameClaim {
    FrameClaim { ethertype, vlan, addresses: addresses.to_vec() }
}

/// A client of a host's link, which has claimed this.
fn client(host: &TcpHost<Bench>, claims: &[FrameClaim]) -> LinkClient {
    let client = host.link().unwrap().join().unwrap();
    client.claim(claims).unwrap();
    client
}

/// The VLANs and bodies of the frames that wait for a client.
fn taken(client: &LinkClient) -> Vec<(Option<u16>, Vec<u8>)> {
    let frames = std::iter::from_fn(|| client.take_frame());
    frames.map(|frame| (frame.vlan, frame.bytes()[frame.body..].to_vec())).collect()
}

fn bodies(client: &LinkClient) -> Vec<u8> {
    taken(client).into_iter().map(|(_, body)| body[0]).collect()
}

#[test]
fn claimed_frames_go_to_their_client() {
    let mut host = host();
    let claims = [None, Some(100)].map(|vlan| claim(FCOE, vlan, &[MAC, GIVEN, GROUP]));
    let client = client(&host, &claims);
    assert_eq!((client.mac(), client.mtu()), (MAC, 2500));
    // Our own, one of the further addresses, a group, all, a priority tag, a VLAN.
    arrive(&mut host, MAC, &[0x89, 0x06, 1]);
    arrive(&mut host, GIVEN, &[0x89, 0x06, 2]);
    arrive(&mut host, GROUP, &[0x89, 0x06, 3]);
    arrive(&mut host, [0xff; 6], &[0x89, 0x06, 4]);
    arrive(&mut host, MAC, &[0x81, 0, 0x60, 0, 0x89, 0x06, 5]);
    arrive(&mut host, MAC, &[0x81, 0, 0x60, 100, 0x89, 0x06, 6]);
    // Not claimed: another VLAN, a provider's tag, two tags, another ethertype, another group, another host; a tag that
    // is cut short, and a frame.
    arrive(&mut host, MAC, &[0x81, 0, 0, 101, 0x89, 0x06, 7]);
    arrive(&mut host, MAC, &[0x88, 0xa8, 0, 100, 0x89, 0x06, 7]);
    arrive(&mut host, MAC, &[0x88, 0xa8, 0, 0, 0x81, 0, 0, 100, 0x89, 0x06, 7]);
    arrive(&mut host, MAC, &[0x81, 0, 0, 100, 0x81, 0, 0, 100, 0x89, 0x06, 7]);
    arrive(&mut host, MAC, &[0x89, 0x14, 7]);
    arrive(&mut host, [1, 0x10, 0x18, 1, 0, 1], &[0x89, 0x06, 7]);
    arrive(&mut host, [0x0e, 0xfc, 0, 0, 0, 8], &[0x89, 0x06, 7]);
    arrive(&mut host, MAC, &[0x81, 0, 0]);
    arrive(&mut host, MAC, &[0x89]);
    poll(&mut host);
    let expected = [(None, 1), (None, 2), (None, 3), (None, 4), (None, 5), (Some(100), 6)];
    assert_eq!(taken(&client), expected.map(|(vlan, byte)| (vlan, vec![byte])));
    let counters = by_name(host.counters());
    assert_eq!((counters["claimed"], counters["claimed_bytes"], counters["frames_in"]), (6, 98, 15));
    assert_eq!((counters["dropped_unserved"], counters["dropped_not_ours"]), (6, 1));
    assert_eq!(counters["dropped_malformed"], 2);
}

/// Who sends as a group would have the answer sent to all of it.
#[test]
fn frames_from_groups_are_nobodys() {
    let mut host = host();
    let client = client(&host, &[claim(FCOE, None, &[MAC])]);
    let frame = [&MAC[..], &GROUP, &[0x89, 0x06, 1]].concat();
    let data = Sg::copied(&host.port().arena, &frame).unwrap().segs()[0].clone();
    host.port().incoming.push(RxFrame { data, checksum: RxChecksum::Unknown });
    poll(&mut host);
    assert_eq!((taken(&client), by_name(host.counters())["dropped_malformed"]), (vec![], 1));
}

#[test]
fn clients_have_ethertypes_vlans_and_addresses_apart_and_groups_together() {
    let mut host = host();
    let first = client(&host, &[claim(FCOE, None, &[MAC, GROUP])]);
    let second = client(&host, &[claim(FCOE, None, &[GIVEN, GROUP]), claim(FCOE, Some(5), &[MAC])]);
    let third = client(&host, &[claim(FIP, None, &[MAC, GIVEN])]);
    let refused = third.claim(&[claim(FIP, None, &[MAC]), claim(FCOE, None, &[GROUP, GIVEN])]).unwrap_err();
    assert_eq!(refused.to_string(), "frames of ethertype 8906 to 0e:fc:00:00:00:07 are another's");
    arrive(&mut host, MAC, &[0x89, 0x06, 1]);
    arrive(&mut host, GIVEN, &[0x89, 0x06, 2]);
    arrive(&mut host, GROUP, &[0x89, 0x06, 3]);
    arrive(&mut host, [0xff; 6], &[0x89, 0x06, 4]);
    arrive(&mut host, MAC, &[0x81, 0, 0, 5, 0x89, 0x06, 5]);
    arrive(&mut host, MAC, &[0x89, 0x14, 6]);
    arrive(&mut host, GIVEN, &[0x89, 0x14, 7]);
    poll(&mut host);
    assert_eq!(bodies(&first), [1, 3, 4]);
    assert_eq!(bodies(&second), [2, 3, 4, 5]);
    assert_eq!(bodies(&third), [6, 7], "what it had before it was refused more");
}

#[test]
fn claims_end_with_other_claims_with_their_client_and_with_the_port() {
    let mut host = host();
    let (first, second) = (client(&host, &[claim(FCOE, None, &[MAC])]), client(&host, &[]));
    let mut come = |ethertype: &[u8]| {
        arrive(&mut host, MAC, ethertype);
        poll(&mut host);
        by_name(host.counters())["dropped_unserved"]
    };
    assert_eq!(come(&[0x89, 0x06, 1]), 0);
    // What waits under a claim that has ended is no longer given.
    first.claim(&[claim(FIP, None, &[MAC])]).unwrap();
    assert_eq!((bodies(&first), come(&[0x89, 0x06, 2]), come(&[0x89, 0x14, 3])), (vec![], 1, 1));
    second.claim(&[claim(FCOE, None, &[MAC])]).unwrap();
    assert_eq!(come(&[0x89, 0x06, 4]), 1);
    drop(first);
    assert_eq!((come(&[0x89, 0x14, 5]), bodies(&second)), (2, vec![4]));
    let link = host.link().unwrap();
    drop(host);
    assert!(link.join().is_none());
    let mut burst = VecDeque::from([frame(&[])]);
    second.claim(&[claim(FIP, None, &[MAC])]).unwrap();
    second.give(&[0; 20]);
    second.send(Instant::ZERO, &mut burst);
    assert!(second.take_frame().is_none() && !second.is_waiting() && burst.is_empty());
}

#[test]
fn the_port_hears_the_groups_of_ip_and_what_all_clients_have_claimed() {
    let mut host = host();
    let ip = [[0x33, 0x33, 0, 0, 0, 1], [0x33, 0x33, 0xff, 2, 0, 3]];
    let first = client(&host, &[claim(FCOE, None, &[MAC, GROUP]), claim(FIP, None, &[GROUP, [0xff; 6]])]);
    assert_eq!(host.port().accepted, [&ip[..], &[GROUP]].concat(), "what it has anyway is not asked for");
    let second = client(&host, &[claim(FCOE, None, &[GROUP, GIVEN])]);
    assert_eq!(host.port().accepted, [&ip[..], &[GROUP, GIVEN]].concat());
    drop(first);
    assert_eq!(host.port().accepted, [&ip[..], &[GROUP, GIVEN]].concat(), "the second still wants the group");
    // A port that has no room for more: everything is as before.
    host.port().filters = 4;
    assert!(second.claim(&[claim(FCOE, None, &[GROUP, GIVEN, [2; 6]])]).is_err());
    assert_eq!(host.port().accepted, [&ip[..], &[GROUP, GIVEN]].concat());
    arrive(&mut host, GIVEN, &[0x89, 0x06, 1]);
    poll(&mut host);
    assert_eq!(bodies(&second), [1]);
    drop(second);
    assert_eq!(host.port().accepted, ip);
}

#[test]
fn frames_that_nobody_takes_are_bounded_and_counted() {
    let mut host = host();
    let slow = client(&host, &[claim(FCOE, None, &[MAC])]);
    let other = client(&host, &[claim(FIP, None, &[MAC])]);
    for _ in 0..RAW_FRAMES_MAX + 3 {
        arrive(&mut host, MAC, &[0x89, 0x06, 0]);
    }
    arrive(&mut host, MAC, &[0x89, 0x14, 1]);
    poll(&mut host);
    // What another core gives counts, too.
    slow.give(&[&MAC[..], &PEER, &[0x89, 0x06, 0]].concat());
    let counters = by_name(host.counters());
    assert_eq!((counters["claimed"], counters["dropped_claimed"]), (260, 4));
    assert_eq!((bodies(&other), bodies(&slow).len()), (vec![1], RAW_FRAMES_MAX));
    slow.give(&[&MAC[..], &PEER, &[0x89, 0x06, 9]].concat());
    slow.give(&[&GIVEN[..], &PEER, &[0x89, 0x06, 8]].concat());
    slow.give(&[&MAC[..], &PEER].concat());
    assert_eq!(bodies(&slow), [9], "what is claimed, and is a frame");
}

/// Frames that wait hold a share of the memory. TCP/IP and other clients have the rest.
#[test]
fn frames_that_nobody_takes_do_not_exhaust_the_arena() {
    let mut host = host();
    let arena = host.port().arena.clone();
    let slow = client(&host, &[claim(FCOE, None, &[MAC])]);
    let share = arena.budget().limit() / 8;
    let body = [&[0x89, 0x06][..], &[0; 2100]].concat();
    let mut arrived = 0;
    while by_name(host.counters())["dropped_claimed_memory"] < 20 {
        arrive(&mut host, MAC, &body);
        poll(&mut host);
        arrived += 1;
        assert!(arrived < RAW_FRAMES_MAX, "the bound of frames comes first");
    }
    assert!(arena.charged() <= share && arena.charged() > share / 4, "{} of {share} bytes", arena.charged());
    assert!(arena.in_use() < arena.bytes() / 2);
    // Others go on: a host that pings.
    let arp = [&[8, 6, 0, 1, 8, 0, 6, 4, 0, 1][..], &PEER, &[10, 0, 0, 2], &[0; 6], &[10, 0, 0, 1]].concat();
    StreamHost::commit(&mut host, Instant::ZERO);
    host.port().sent.clear();
    arrive(&mut host, [0xff; 6], &arp);
    poll(&mut host);
    StreamHost::commit(&mut host, Instant::ZERO);
    assert_eq!(host.port().sent.len(), 1);
    // What is kept after it was taken stays on the account, until it is on another.
    let mut kept: Vec<RawFrame> = std::iter::from_fn(|| slow.take_frame()).collect();
    let peer = arena.budget().child("peer");
    kept.iter_mut().for_each(|frame| frame.charge.bill(&peer));
    assert!(peer.used() >= kept.len() as u64 * 2114);
    arrive(&mut host, MAC, &body);
    poll(&mut host);
    assert!(slow.take_frame().is_some(), "there is room again");
    drop((kept, peer, slow, host));
    assert_eq!((arena.charged(), arena.in_use()), (0, 0));
}

/// Blocks that are worth more than a frame go back at once: those of the reserve, long ones with little in them, and
/// all when memory is getting short.
#[test]
fn a_frame_is_held_where_it_lies_while_there_is_memory() {
    // One that has a reserve.
    let arena = Arena::new(64 << 20, false).unwrap();
    let mut host = host_in(arena.clone());
    let client = client(&host, &[claim(FCOE, None, &[MAC])]);
    let mut come = |block: crate::memory::SegMut, len: usize| {
        let mut block = block;
        let bytes = [&MAC[..], &PEER, &[0x89, 0x06]].concat();
        block.bytes_mut()[..14].copy_from_slice(&bytes);
        let data = block.freeze().slice(0, len);
        let place = data.as_ptr();
        host.port().incoming.push(RxFrame { data, checksum: RxChecksum::Unknown });
        poll(&mut host);
        client.take_frame().unwrap().data.as_ptr() == place
    };
    assert!(come(arena.alloc(2100).unwrap(), 2100));
    assert!(!come(arena.alloc(2100).unwrap(), 100), "little");
    let mut most = Vec::new();
    while arena.in_use() <= arena.bytes() / 2 {
        most.push(arena.alloc(2100).unwrap());
    }
    assert!(!come(arena.alloc(2100).unwrap(), 2100), "crowded");
    drop(most);
    let all: Vec<_> = std::iter::from_fn(|| arena.alloc(2100)).collect();
    let reserved = arena.alloc_reserved(2100).unwrap();
    assert!(reserved.is_reserved());
    drop(all);
    assert!(!come(reserved, 2100), "of the reserve");
}

fn frame(header: &[u8]) -> TxFrame {
    TxFrame {
        header: SmallVec::from_slice(header),
        payload: Sg::from(Seg::from_static(b"body")),
        offload: None,
    }
}

#[test]
fn frames_of_clients_are_sent_as_they_are_and_counted_with_the_ports() {
    let mut host = host();
    let client = client(&host, &[]);
    StreamHost::commit(&mut host, Instant::ZERO);
    let before = by_name(host.counters())["frames_out"];
    host.port().sent.clear();
    client.send(Instant::ZERO, &mut VecDeque::from([frame(&[9; 14])]));
    assert_eq!(host.port().sent, [[&[9; 14][..], b"body"].concat()]);
    let counters = by_name(host.counters());
    assert_eq!((counters["raw_frames_out"], counters["raw_bytes_out"]), (1, 18));
    assert_eq!(counters["frames_out"], before + 1);
}
