// SPDX-License-Identifier: GPL-2.0-or-later
//! Two or three cores, on one thread, with a queue of a port each.

use std::cell::RefCell;
use std::rc::Rc;

use smallvec::SmallVec;

use super::*;
use crate::counters::by_name;
use crate::memory::{Arena, Sg};
use crate::net::{FrameCaps, FramePort, HostConfig, RxChecksum, RxFrame, StreamHost, TcpHost};

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const GIVEN: [u8; 6] = [0x0e, 0xfd, 0, 0, 0, 1];
const ETHERTYPE: u16 = 0x88b5;

#[derive(Default)]
struct Wire {
    incoming: Vec<RxFrame>,
    sent: usize,
    /// Frames that the device has room for.
    room: usize,
}

struct Queue(Rc<RefCell<Wire>>);

impl FramePort for Queue {
    fn caps(&self) -> FrameCaps {
        FrameCaps { mtu: 1500, segment_max: 0, gather_max: 8 }
    }

    fn mac(&self) -> [u8; 6] {
        MAC
    }

    fn receive(&mut self, _: Instant, burst: &mut Vec<RxFrame>) -> usize {
        burst.append(&mut self.0.borrow_mut().incoming);
        burst.len()
    }

    fn transmit(&mut self, _: Instant, burst: &mut VecDeque<TxFrame>) {
        let mut wire = self.0.borrow_mut();
        let gone = burst.len().min(wire.room);
        burst.drain(..gone);
        wire.room -= gone;
        wire.sent += gone;
    }
}

struct TestCore {
    arena: Arena,
    wire: Rc<RefCell<Wire>>,
    host: TcpHost<Queue>,
    client: EthernetClient,
}

/// The first byte of a frame is its key; 255 is none.
fn first_byte(frame: &RawFrame) -> Option<u64> {
    frame.bytes().get(frame.body).copied().filter(|&byte| byte != 255).map(u64::from)
}

fn claims(addresses: &[[u8; 6]]) -> Vec<FrameClaim> {
    vec![FrameClaim { ethertype: ETHERTYPE, vlan: None, addresses: addresses.to_vec() }]
}

/// So many cores, of which the last is the home.
fn cores(count: usize) -> Vec<TestCore> {
    let share = EthernetShare::new("p", count, count - 1, first_byte).unwrap();
    let core = |core| {
        let arena = Arena::new(4 << 20, false).unwrap();
        let context = CoreContext::new(core, count, arena.clone());
        let wire = Rc::new(RefCell::new(Wire { room: 10, ..Wire::default() }));
        let host = TcpHost::new(Queue(wire.clone()), arena.clone(), &HostConfig::new(Vec::new(), Vec::new()));
        let links: Links = context.shared(|| Ok(Links::default())).unwrap();
        links.insert("p", host.link().unwrap());
        let client = share.attach(&context, |mac| claims(&[mac])).unwrap();
        TestCore { arena, wire, host, client }
    };
    (0..count).map(core).collect()
}

impl TestCore {
    /// A frame comes in here.
    fn arrive(&mut self, to: [u8; 6], body: &[u8]) {
        let bytes = [&to[..], &[2, 0, 0, 0, 0, 9], &ETHERTYPE.to_be_bytes(), body].concat();
        let data = Sg::copied(&self.arena, &bytes).unwrap().segs()[0].clone();
        self.wire.borrow_mut().incoming.push(RxFrame { data, checksum: RxChecksum::Unknown });
    }

    /// A turn. Returns the bodies of what it was given.
    fn turn(&mut self) -> Vec<Vec<u8>> {
        self.host.poll(Instant::ZERO, &mut Vec::new());
        self.client.poll();
        let frames = std::iter::from_fn(|| self.client.take_frame());
        let taken = frames.map(|frame| frame.bytes()[frame.body..].to_vec()).collect();
        self.client.commit(Instant::ZERO);
        taken
    }

    fn counters(&self) -> BTreeMap<String, u64> {
        let mut ports = BTreeMap::from([("p".to_owned(), self.host.counters())]);
        self.client.count(&mut ports);
        by_name(ports.remove("p").unwrap())
    }
}

fn frame() -> TxFrame {
    TxFrame { header: SmallVec::from_slice(&[9; 14]), payload: Sg::new(), offload: None }
}

#[test]
fn frames_go_to_the_core_of_their_key_and_others_home_wherever_they_come_in() {
    for came_in in 0..3 {
        let mut cores = cores(3);
        for body in [[0, 1], [1, 2], [2, 3], [3, 4], [255, 5], [4, 6]] {
            cores[came_in].arrive(MAC, &body);
        }
        // The shortest, which has no key.
        cores[came_in].arrive(MAC, &[]);
        let mut taken: Vec<Vec<Vec<u8>>> = vec![Vec::new(); 3];
        for core in [came_in, 0, 1, 2] {
            taken[core].extend(cores[core].turn());
        }
        assert_eq!(taken[0], [[0, 1], [3, 4]]);
        assert_eq!(taken[1], [[1, 2], [4, 6]]);
        assert_eq!(taken[2], [vec![2, 3], vec![255, 5], vec![]], "in the order of their arrival");
        let given = cores[came_in].counters()["given_frames"];
        assert_eq!(given, [5, 5, 4][came_in]);
        // No memory stays out, and the buffers that they went in come back for the next ones.
        let buffers = |cores: &[TestCore]| -> usize {
            cores[came_in].client.peers.iter().flatten().map(|peer| peer.empty.len()).sum()
        };
        cores[came_in].turn();
        assert_eq!(buffers(&cores) as u64, given);
        let other = (came_in + 1) % 3;
        cores[came_in].arrive(MAC, &[u8::try_from(other).unwrap(), 7]);
        for core in [came_in, other, came_in] {
            cores[core].turn();
        }
        assert_eq!(buffers(&cores) as u64, given);
        assert!(cores.iter().all(|core| core.arena.in_use() == 0));
    }
}

#[test]
fn a_core_that_takes_nothing_costs_the_others_only_frames() {
    let mut cores = cores(2);
    let mut come = |count: usize| {
        for _ in 0..count {
            cores[0].arrive(MAC, &[1, 7]);
            cores[0].arrive(MAC, &[0, 8]);
            assert_eq!(cores[0].turn(), [[0, 8]]);
        }
        (cores[0].counters()["dropped_giving"], cores[0].client.next_deadline(Instant::ZERO).is_some())
    };
    assert_eq!(come(RING_ROOM), (0, false));
    // One waits for room, of which nobody will tell.
    assert_eq!(come(1), (0, true));
    assert_eq!(come(5), (5, true));
    assert_eq!(cores[0].arena.in_use(), 0);
    assert_eq!(cores[1].turn().len(), RING_ROOM);
    cores[0].turn();
    assert_eq!((cores[1].turn().len(), cores[0].client.next_deadline(Instant::ZERO)), (1, None));
}

#[test]
fn a_turn_takes_so_many_frames_and_no_more() {
    let mut cores = cores(1);
    let client = &mut cores[0].client;
    client.poll();
    for _ in 0..3 {
        client.client.give(&[&MAC[..], &[2, 0, 0, 0, 0, 9], &[0x88, 0xb5, 0]].concat());
    }
    client.left = 2;
    assert!(client.take_frame().is_some() && client.take_frame().is_some() && client.take_frame().is_none());
    assert_eq!(client.next_deadline(Instant::ZERO), Some(Instant::ZERO), "another turn is needed");
    client.poll();
    assert!(client.take_frame().is_some());
    assert_eq!(client.next_deadline(Instant::ZERO), None);
}

#[test]
fn what_the_home_claims_all_cores_do() {
    let mut cores = cores(2);
    cores[0].arrive(GIVEN, &[0, 1]);
    assert!(cores[0].turn().is_empty());
    cores[1].client.claim(claims(&[MAC, GIVEN])).unwrap();
    // It wakes the other.
    assert!(!cores[0].client.may_sleep());
    cores[0].client.awake();
    cores[0].turn();
    assert_eq!(cores[0].client.claims(), cores[1].client.claims());
    for core in &mut cores {
        core.arrive(GIVEN, &[0, 2]);
    }
    assert!(cores[1].turn().is_empty());
    assert!(!cores[0].client.may_sleep(), "there is a frame for it");
    cores[0].client.awake();
    assert_eq!(cores[0].turn(), [[0, 2], [0, 2]]);
    cores[0].turn();
    assert!(cores[0].client.may_sleep());
    cores[1].client.claim(claims(&[MAC])).unwrap();
    cores[0].turn();
    cores[0].arrive(GIVEN, &[0, 3]);
    assert!(cores[0].turn().is_empty());
}

/// One core without memory for what others give it loses that, and goes on.
#[test]
fn a_core_without_memory_drops_what_it_is_given() {
    let mut cores = cores(2);
    let all: Vec<_> = std::iter::from_fn(|| cores[1].arena.alloc(1 << 10)).collect();
    cores[0].arrive(MAC, &[1, 7]);
    cores[0].turn();
    assert!(cores[1].turn().is_empty());
    assert_eq!(cores[1].counters()["dropped_claimed_memory"], 1);
    drop(all);
    cores[0].arrive(MAC, &[1, 8]);
    cores[0].turn();
    assert_eq!(cores[1].turn(), [[1, 8]]);
}

#[test]
fn what_the_device_has_no_room_for_waits_within_bounds() {
    let mut cores = cores(1);
    let TestCore { client, wire, .. } = &mut cores[0];
    (0..UNSENT_MAX + 2).for_each(|_| client.send(frame()));
    client.commit(Instant::ZERO);
    assert_eq!((wire.borrow().sent, client.next_deadline(Instant::ZERO)), (10, Some(Instant::ZERO)));
    wire.borrow_mut().room = usize::MAX;
    client.commit(Instant::ZERO);
    assert_eq!((wire.borrow().sent, client.next_deadline(Instant::ZERO)), (UNSENT_MAX, None));
    assert_eq!(cores[0].counters()["dropped_unsent"], 2);
}

#[test]
fn a_port_that_is_not_there_is_named() {
    let share = EthernetShare::new("q", 1, 0, first_byte).unwrap();
    let context = CoreContext::alone(Arena::new(2 << 20, false).unwrap());
    let refused = share.attach(&context, |mac| claims(&[mac])).err();
    assert_eq!(refused.unwrap(), "there is no port \"q\" with frames");
}
