// SPDX-License-Identifier: GPL-2.0-or-later
//! A link between TCP/IP and two protocols beside it: a fabric that is on two cores, and a client of the first one.
//! What they claim changes, and so do frames. Who gets which is worked out here once more.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;

use super::mutate::{InputPiece, InputShape};
use crate::adapters::ethernet::{EthernetClient, EthernetShare};
use crate::counters::by_name;
use crate::memory::{Arena, Sg};
use crate::net::{
    Address, FrameCaps, FrameClaim, FramePort, HostConfig, LinkClient, Links, RawFrame, RxChecksum, RxFrame,
    StreamHost, TcpHost, TxFrame,
};
use crate::reactor::CoreContext;
use crate::time::Instant;

const CORES: usize = 2;
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

/// What claims and most frames are about: addresses, ethertypes and VLANs.
const ADDRESSES: [[u8; 6]; 8] = [
    MAC,
    [0x0e, 0xfd, 0, 0, 0, 1],
    [0x0e, 0xfd, 0, 0, 0, 2],
    [1, 0x10, 0x18, 1, 0, 1],
    [1, 0x10, 0x18, 1, 0, 2],
    [0xff; 6],
    [2, 0, 0, 0, 0, 7],
    [0; 6],
];
const ETHERTYPES: [u16; 4] = [0x8906, 0x8914, 0x0806, 0x8100];
const VLANS: [Option<u16>; 4] = [None, Some(100), Some(4095), None];

/// Bytes of a frame that is not copied when it waits.
const LONG: usize = 1400;

/// In a frame that is sent back.
const ECHOED: u8 = 0x80;

thread_local! {
    /// Memory for the next input.
    static REUSED: Cell<Option<[Arena; CORES]>> = const { Cell::new(None) };
}

/// The next input gets fresh memory.
pub(super) fn forget() {
    REUSED.take();
}

/// A queue of the port: what comes in there.
struct FuzzQueue(Rc<RefCell<Vec<RxFrame>>>);

impl FramePort for FuzzQueue {
    fn caps(&self) -> FrameCaps {
        FrameCaps { mtu: 1500, segment_max: 0, gather_max: 8 }
    }

    fn mac(&self) -> [u8; 6] {
        MAC
    }

    fn receive(&mut self, _: Instant, burst: &mut Vec<RxFrame>) -> usize {
        burst.append(&mut self.0.borrow_mut());
        burst.len()
    }

    fn transmit(&mut self, _: Instant, burst: &mut VecDeque<TxFrame>) {
        burst.clear();
    }
}

struct FuzzCore {
    arena: Arena,
    incoming: Rc<RefCell<Vec<RxFrame>>>,
    host: TcpHost<FuzzQueue>,
    fabric: EthernetClient,
    /// Frames that the fabric is to have here.
    expected: Vec<Vec<u8>>,
}

struct LinkRig {
    cores: Vec<FuzzCore>,
    /// Of the first core.
    client: LinkClient,
    expected: Vec<Vec<u8>>,
    /// What the fabric and the client claim.
    claims: [Vec<FrameClaim>; 2],
    /// Frames, and bytes, that somebody has claimed.
    claimed: [u64; 2],
    /// Frames that the fabric has sent.
    echoed: u64,
}

/// The second half of a body decides, so that short ones have no key.
fn key(body: &[u8]) -> Option<u64> {
    body.get(1).map(|&byte| byte.into())
}

/// Where the body of a frame begins, and who takes it: by ethertype, VLAN and destination.
fn parse(frame: &[u8]) -> Option<(usize, u16, Option<u16>)> {
    if frame.len() < 14 || frame[6] & 1 == 1 {
        return None;
    }
    let word = |at: usize| Some(u16::from(*frame.get(at)?) << 8 | u16::from(*frame.get(at + 1)?));
    match word(12)? {
        0x8100 => Some((18, word(16)?, Some(word(14)? % 4096).filter(|vlan| *vlan > 0))),
        ethertype => Some((14, ethertype, None)),
    }
}

fn takes(claims: &[FrameClaim], frame: &[u8]) -> bool {
    let Some((_, ethertype, vlan)) = parse(frame) else { return false };
    let to = &frame[..6];
    claims.iter().any(|claim| {
        let named = claim.addresses.iter().any(|address| address == to);
        claim.ethertype == ethertype && claim.vlan == vlan && (named || to == [0xff; 6])
    })
}

/// Three bytes each.
fn claims(data: &[u8]) -> Vec<FrameClaim> {
    let claim = |&[ethertype, vlan, addresses]: &[u8; 3]| FrameClaim {
        ethertype: ETHERTYPES[usize::from(ethertype % 4)],
        vlan: VLANS[usize::from(vlan % 4)],
        addresses: (0..8).filter(|bit| addresses >> bit & 1 == 1).map(|bit| ADDRESSES[bit]).collect(),
    };
    data.as_chunks().0.iter().map(claim).collect()
}

/// Whether a host's address would be both's.
fn collide(ours: &[FrameClaim], others: &[FrameClaim]) -> bool {
    ours.iter().any(|a| {
        others
            .iter()
            .filter(|b| (a.ethertype, a.vlan) == (b.ethertype, b.vlan))
            .any(|b| a.addresses.iter().any(|address| address[0] & 1 == 0 && b.addresses.contains(address)))
    })
}

impl LinkRig {
    fn new(arenas: &[Arena; CORES]) -> Self {
        let by_key = |frame: &RawFrame| key(&frame.bytes()[frame.body..]);
        let share = EthernetShare::new("p", CORES, 0, by_key).expect("mailboxes");
        let ip = IpAddr::from(Ipv4Addr::new(192, 0, 2, 1));
        let config =
            HostConfig { secret: [0; 2], ..HostConfig::new(vec![Address { ip, prefix: 24 }], Vec::new()) };
        let cores = arenas.iter().enumerate().map(|(core, arena)| {
            let context = CoreContext::new(core, CORES, arena.clone());
            let incoming = Rc::default();
            let host = TcpHost::new(FuzzQueue(Rc::clone(&incoming)), arena.clone(), &config);
            let links: Links = context.shared(|| Ok(Links::default())).expect("links");
            links.insert("p", host.link().expect("a port with frames"));
            let fabric = share.attach(&context, |_| Vec::new()).expect("its port is there");
            FuzzCore { arena: arena.clone(), incoming, host, fabric, expected: Vec::new() }
        });
        let cores: Vec<_> = cores.collect();
        let client = cores[0].host.link().and_then(|link| link.join()).expect("a client");
        Self { cores, client, expected: Vec::new(), claims: Default::default(), claimed: [0; 2], echoed: 0 }
    }

    /// A frame comes in at a core.
    fn arrive(&mut self, core: usize, frame: &[u8]) {
        if frame.is_empty() {
            return;
        }
        let taken = self.claims.each_ref().map(|claims| takes(claims, frame));
        if taken[0] {
            let body = parse(frame).map_or(0, |(body, ..)| body);
            let to = key(&frame[body..]).map_or(0, |key| key as usize % CORES);
            self.cores[to].expected.push(frame.to_vec());
        }
        if taken[1] && core == 0 {
            self.expected.push(frame.to_vec());
        }
        if taken[0] || taken[1] && core == 0 {
            self.claimed[0] += 1;
            self.claimed[1] += frame.len() as u64;
        }
        let FuzzCore { arena, incoming, .. } = &self.cores[core];
        let mut block = arena.alloc(frame.len()).expect("memory");
        block.bytes_mut().copy_from_slice(frame);
        incoming.borrow_mut().push(RxFrame { data: block.freeze(), checksum: RxChecksum::Unknown });
    }

    /// Returns how much was done.
    fn turn(&mut self, core: usize) -> usize {
        let FuzzCore { arena, host, fabric, expected, .. } = &mut self.cores[core];
        let mut work = host.poll(Instant::ZERO, &mut Vec::new()) + fabric.poll();
        let mut check = |expected: &mut Vec<Vec<u8>>, frame: &RawFrame| {
            work += 1;
            let at = expected.iter().position(|known| known == frame.bytes());
            expected.swap_remove(at.expect("a frame that was for it"));
            let (body, ethertype, vlan) = parse(frame.bytes()).expect("a frame with a header");
            assert_eq!((frame.body, frame.ethertype, frame.vlan), (body, ethertype, vlan));
        };
        while let Some(frame) = fabric.take_frame() {
            check(expected, &frame);
            if frame.bytes().get(frame.body).is_some_and(|first| first & ECHOED != 0) {
                self.echoed += 1;
                let payload = Sg::from(frame.data.clone());
                fabric.send(TxFrame { header: Default::default(), payload, offload: None });
            }
        }
        while core == 0
            && let Some(frame) = self.client.take_frame()
        {
            check(&mut self.expected, &frame);
        }
        fabric.commit(Instant::ZERO);
        host.commit(Instant::ZERO);
        assert!(arena.in_use() <= arena.bytes());
        work
    }

    /// Lets all cores come to rest.
    fn settle(&mut self) {
        while (0..CORES).map(|core| self.turn(core)).sum::<usize>() > 0 {}
        for FuzzCore { fabric, .. } in &mut self.cores {
            assert_eq!(fabric.next_deadline(Instant::ZERO), None, "nothing is left to do");
            assert!(fabric.may_sleep(), "nothing is on its way");
            fabric.awake();
        }
    }

    /// The fabric, or the client, claims something else.
    fn claim(&mut self, who: usize, claims: Vec<FrameClaim>) {
        self.settle();
        let done = match who {
            0 => self.cores[0].fabric.claim(claims.clone()),
            _ => self.client.claim(&claims),
        };
        assert_eq!(done.is_err(), collide(&claims, &self.claims[1 - who]), "{done:?}");
        if done.is_ok() {
            self.claims[who] = claims;
        }
        self.settle();
        assert!(self.cores.iter().all(|core| core.fabric.claims() == self.claims[0]));
    }

    /// What was not given to anybody was counted.
    fn check(&self) {
        let mut all: BTreeMap<String, u64> = BTreeMap::new();
        for FuzzCore { host, fabric, .. } in &self.cores {
            let mut ports = BTreeMap::from([("p".to_owned(), host.counters())]);
            fabric.count(&mut ports);
            let counted = ports.into_values().flatten();
            by_name(counted).into_iter().for_each(|(name, count)| *all.entry(name).or_default() += count);
        }
        let lost = self.cores.iter().map(|core| core.expected.len()).sum::<usize>() + self.expected.len();
        let dropped = ["dropped_claimed", "dropped_claimed_memory", "dropped_giving"].map(|name| all[name]);
        assert_eq!(lost as u64, dropped.iter().sum::<u64>(), "{all:?}");
        assert_eq!([all["claimed"], all["claimed_bytes"]], self.claimed);
        assert_eq!(all["raw_frames_out"] + all["dropped_unsent"], self.echoed);
    }
}

/// A script: the kind says what happens, and at which core: the fabric claims something, or the client, a turn, or a
/// frame, which is made of parts that claims have, too, or is as the bytes are.
pub(super) fn link(script: &[u8]) {
    let arenas =
        REUSED.take().unwrap_or_else(|| [(); CORES].map(|()| Arena::new(8 << 20, false).expect("memory")));
    let mut rig = LinkRig::new(&arenas);
    for InputPiece { kind, data } in InputShape::Pieces.split(script) {
        let core = usize::from(kind >> 3) % CORES;
        match (kind & 7, &data[..]) {
            (who @ 0..2, data) => rig.claim(who.into(), claims(data)),
            (2, _) => _ = rig.turn(core),
            (3, frame) => rig.arrive(core, frame),
            (_, [to, ethertype, vlan, body @ ..]) => {
                let mut frame = [ADDRESSES[usize::from(to % 8)], ADDRESSES[6]].concat();
                let priority = (vlan & 4 != 0).then_some(0);
                if let Some(vlan) = VLANS[usize::from(vlan % 4)].or(priority) {
                    frame.extend([0x81, 0]);
                    frame.extend((vlan | u16::from(to >> 5) << 13).to_be_bytes());
                }
                frame.extend(ETHERTYPES[usize::from(ethertype % 4)].to_be_bytes());
                frame.extend(body);
                frame.resize(frame.len().max(if kind & 0x80 == 0 { 0 } else { LONG }), 0);
                rig.arrive(core, &frame);
            }
            _ => {}
        }
    }
    rig.settle();
    rig.check();
    drop(rig);
    assert!(arenas.iter().all(|arena| arena.in_use() == 0), "memory that did not come home");
    REUSED.set(Some(arenas));
}
