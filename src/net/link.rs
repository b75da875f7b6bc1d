// SPDX-License-Identifier: GPL-2.0-or-later
//! One queue of an Ethernet port, and who has a part of what comes in there: TCP/IP, and clients that claim frames of
//! other protocols, by ethertype, VLAN and address.
//!
//! TCP/IP, which every port has, though perhaps no address of it, takes a burst in each turn. What clients have claimed
//! is taken out of that before, and waits for them; it is on an account of memory, so that who does not take it harms
//! nobody else.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::rc::{Rc, Weak};

use slab::Slab;

use super::ethernet::{BROADCAST, EthernetHeader, is_group};
use super::{FramePort, RawCounters, RxFrame, TxFrame};
use crate::memory::{Arena, MemoryAccount, MemoryCharge, Seg};
use crate::time::Instant;

/// Most claimed frames that wait for a client; beyond it they are dropped and counted.
pub const RAW_FRAMES_MAX: usize = 256;

/// The share of a core's memory that frames of all clients may hold before they have been taken.
const RAW_SHARE: u64 = 8;

/// Bytes below which a frame is copied rather than held in the block that it came in.
const SMALL: usize = 512;

/// Frames that a client of a link takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrameClaim {
    /// Their ethertype.
    pub ethertype: u16,
    /// Their VLAN; `None` for those without a tag, and with one that carries a priority only (IEEE 802.1Q 9.6).
    pub vlan: Option<u16>,
    /// To whom they are sent: unicast addresses, of which each is one client's, and groups. Broadcasts are for all.
    pub addresses: Vec<[u8; 6]>,
}

impl FrameClaim {
    #[inline]
    fn takes(&self, header: &EthernetHeader<'_>) -> bool {
        (self.ethertype, self.vlan) == (header.ethertype, header.vlan)
            && (header.to == BROADCAST || self.addresses.iter().any(|address| header.to == address))
    }

    /// An address that two clients cannot both have.
    fn shared_with(&self, other: &Self) -> Option<[u8; 6]> {
        let same = (self.ethertype, self.vlan) == (other.ethertype, other.vlan);
        let both = |address: &&[u8; 6]| !is_group(*address) && other.addresses.contains(address);
        self.addresses.iter().filter(|_| same).find(both).copied()
    }
}

/// A received frame that was claimed.
#[derive(Debug)]
pub struct RawFrame {
    /// The bytes from the Ethernet header on, in one segment of private memory.
    pub data: Seg,
    /// Where the bytes behind the ethertype begin.
    pub body: usize,
    /// The ethertype, behind a VLAN tag if there was one.
    pub ethertype: u16,
    /// The VLAN identifier, as in [`FrameClaim::vlan`].
    pub vlan: Option<u16>,
    /// Its memory. Who keeps the frame for a peer bills it to that one.
    pub charge: MemoryCharge,
}

impl RawFrame {
    /// All of it, from the Ethernet header on.
    pub fn bytes(&self) -> &[u8] {
        self.data.private().expect("frames lie in private memory")
    }
}

#[derive(Default)]
struct RawClient {
    claims: Vec<FrameClaim>,
    waiting: VecDeque<RawFrame>,
}

impl RawClient {
    fn takes(&self, header: &EthernetHeader<'_>) -> bool {
        self.claims.iter().any(|claim| claim.takes(header))
    }

    /// Takes a frame, unless too many wait already. `hold` puts it where it may wait, if there is memory for that.
    fn put(&mut self, counters: &mut RawCounters, hold: impl FnOnce() -> Option<RawFrame>) {
        if self.waiting.len() >= RAW_FRAMES_MAX {
            counters.dropped_claimed += 1;
        } else if let Some(frame) = hold() {
            self.waiting.push_back(frame);
        } else {
            counters.dropped_claimed_memory += 1;
        }
    }
}

/// The memory of frames that wait for clients.
struct RawMemory {
    arena: Arena,
    account: MemoryAccount,
}

impl RawMemory {
    fn new(arena: Arena) -> Self {
        let budget = arena.budget();
        let account = budget.limited("raw frames", budget.limit() / RAW_SHARE).connection();
        Self { arena, account }
    }

    /// A frame that has come in here. It stays where it is, unless a block is worth more than that, or has to go back
    /// soon.
    fn hold(&self, frame: &Seg, header: &EthernetHeader<'_>) -> Option<RawFrame> {
        let crowded = self.arena.in_use() > self.arena.bytes() / 2;
        if crowded || frame.is_reserved() || frame.len() <= SMALL {
            return self.copy(frame.private()?, header);
        }
        self.charged(frame.pinned().max(frame.len()), header, || Some(frame.clone()))
    }

    fn copy(&self, frame: &[u8], header: &EthernetHeader<'_>) -> Option<RawFrame> {
        self.charged(frame.len(), header, || {
            let mut block = self.arena.alloc(frame.len())?;
            block.bytes_mut().copy_from_slice(frame);
            Some(block.freeze())
        })
    }

    /// What the account refuses takes no memory.
    fn charged(
        &self,
        bytes: usize,
        header: &EthernetHeader<'_>,
        take: impl FnOnce() -> Option<Seg>,
    ) -> Option<RawFrame> {
        let mut charge = MemoryCharge::on(&self.account);
        if !charge.raise(bytes as u64) {
            return None;
        }
        let data = take()?;
        charge.set(data.pinned().max(bytes) as u64);
        let EthernetHeader { ethertype, vlan, body, .. } = *header;
        Some(RawFrame { data, body, ethertype, vlan, charge })
    }
}

/// See the module.
pub(super) struct PortLink<P> {
    pub(super) port: P,
    memory: RawMemory,
    /// MAC addresses of groups that our IP addresses are in.
    groups: Vec<[u8; 6]>,
    clients: Slab<RawClient>,
    pub(super) counters: RawCounters,
}

impl<P: FramePort> PortLink<P> {
    pub(super) fn new(port: P, arena: Arena, groups: Vec<[u8; 6]>) -> Self {
        let memory = RawMemory::new(arena);
        Self { port, memory, groups, clients: Slab::new(), counters: RawCounters::default() }
    }

    /// Takes frames in: what is for clients, and for TCP/IP all others. Returns how many there were.
    #[inline]
    pub(super) fn receive(&mut self, now: Instant, burst: &mut Vec<RxFrame>) -> usize {
        let count = self.port.receive(now, burst);
        if !self.clients.is_empty() {
            burst.retain(|frame| !self.deliver(frame));
        }
        count
    }

    /// Gives a frame to those who have claimed it. Returns whether anybody has.
    fn deliver(&mut self, frame: &RxFrame) -> bool {
        let Some(bytes) = frame.data.private() else { return false };
        let Some(header) = EthernetHeader::of(bytes) else { return false };
        let mut claimed = false;
        for (_, client) in self.clients.iter_mut().filter(|(_, client)| client.takes(&header)) {
            claimed = true;
            client.put(&mut self.counters, || self.memory.hold(&frame.data, &header));
        }
        if claimed {
            self.counters.claimed += 1;
            self.counters.claimed_bytes += bytes.len() as u64;
        }
        claimed
    }

    /// Sends frames from the front of `burst`, as [`FramePort::transmit`]. Returns how many have gone, and their bytes.
    pub(super) fn transmit(&mut self, now: Instant, burst: &mut VecDeque<TxFrame>) -> (u64, u64) {
        let bytes = |burst: &VecDeque<TxFrame>| -> usize {
            burst.iter().map(|frame| frame.header.len() + frame.payload.len()).sum()
        };
        let before = (burst.len(), bytes(burst));
        self.port.transmit(now, burst);
        ((before.0 - burst.len()) as u64, (before.1 - bytes(burst)) as u64)
    }

    /// Has the port receive what is sent to our groups and to the clients.
    fn listen(&mut self) -> io::Result<()> {
        let mut all = self.groups.clone();
        let claims = self.clients.iter().flat_map(|(_, client)| &client.claims);
        for &address in claims.flat_map(|claim| &claim.addresses) {
            if address != self.port.mac() && address != BROADCAST && !all.contains(&address) {
                all.push(address);
            }
        }
        self.port.accept(&all)
    }
}

/// What clients ask of a link, whatever its port.
trait RawLink {
    fn mac(&self) -> [u8; 6];
    fn mtu(&self) -> u16;
    fn join(&mut self) -> usize;
    fn leave(&mut self, client: usize);
    fn claim(&mut self, client: usize, claims: &[FrameClaim]) -> io::Result<()>;
    fn give(&mut self, client: usize, frame: &[u8]);
    fn take_frame(&mut self, client: usize) -> Option<RawFrame>;
    fn is_waiting(&self, client: usize) -> bool;
    fn send(&mut self, now: Instant, burst: &mut VecDeque<TxFrame>);
}

impl<P: FramePort> RawLink for PortLink<P> {
    fn mac(&self) -> [u8; 6] {
        self.port.mac()
    }

    fn mtu(&self) -> u16 {
        self.port.caps().mtu
    }

    fn join(&mut self) -> usize {
        self.clients.insert(RawClient::default())
    }

    fn leave(&mut self, client: usize) {
        self.clients.remove(client);
        if let Err(e) = self.listen() {
            log::warn!("a port goes on receiving what nobody takes: {e}");
        }
    }

    fn claim(&mut self, client: usize, claims: &[FrameClaim]) -> io::Result<()> {
        let others = self.clients.iter().filter(|(number, _)| *number != client);
        let others = others.flat_map(|(_, other)| &other.claims);
        for (claim, other) in others.flat_map(|other| claims.iter().map(move |claim| (claim, other))) {
            if let Some([a, b, c, d, e, f]) = claim.shared_with(other) {
                let kind = claim.ethertype;
                let taken = format!(
                    "frames of ethertype {kind:04x} to {a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x} are another's"
                );
                return Err(io::Error::new(io::ErrorKind::AddrInUse, taken));
            }
        }
        let before = std::mem::replace(&mut self.clients[client].claims, claims.to_vec());
        if let Err(e) = self.listen() {
            self.clients[client].claims = before;
            _ = self.listen();
            return Err(e);
        }
        let mut waiting = std::mem::take(&mut self.clients[client].waiting);
        let known = |frame: &RawFrame| {
            EthernetHeader::of(frame.bytes()).is_some_and(|it| self.clients[client].takes(&it))
        };
        waiting.retain(known);
        self.clients[client].waiting = waiting;
        Ok(())
    }

    fn give(&mut self, client: usize, frame: &[u8]) {
        let client = &mut self.clients[client];
        if let Some(header) = EthernetHeader::of(frame).filter(|header| client.takes(header)) {
            client.put(&mut self.counters, || self.memory.copy(frame, &header));
        }
    }

    fn take_frame(&mut self, client: usize) -> Option<RawFrame> {
        self.clients[client].waiting.pop_front()
    }

    fn is_waiting(&self, client: usize) -> bool {
        !self.clients[client].waiting.is_empty()
    }

    fn send(&mut self, now: Instant, burst: &mut VecDeque<TxFrame>) {
        let (frames, bytes) = self.transmit(now, burst);
        self.counters.raw_frames_out += frames;
        self.counters.raw_bytes_out += bytes;
    }
}

/// A link, for who may become its client. It ends with its port.
#[derive(Clone)]
pub struct LinkHandle(Weak<RefCell<dyn RawLink>>);

impl LinkHandle {
    pub(super) fn new<P: FramePort + 'static>(link: &Rc<RefCell<PortLink<P>>>) -> Self {
        let link: Weak<RefCell<PortLink<P>>> = Rc::downgrade(link);
        Self(link)
    }

    /// A new client, which has claimed nothing. `None` if the port is gone.
    pub fn join(&self) -> Option<LinkClient> {
        let link = self.0.upgrade()?;
        let mut link = link.borrow_mut();
        Some(LinkClient { mac: link.mac(), mtu: link.mtu(), number: link.join(), link: self.0.clone() })
    }
}

/// A protocol that has a part of a link, on one core. When the port is gone nothing comes in any more, and what is sent
/// is lost.
pub struct LinkClient {
    link: Weak<RefCell<dyn RawLink>>,
    number: usize,
    mac: [u8; 6],
    mtu: u16,
}

impl LinkClient {
    /// The port's own MAC address.
    pub fn mac(&self) -> [u8; 6] {
        self.mac
    }

    /// Bytes behind the ethertype that the link carries.
    pub fn mtu(&self) -> u16 {
        self.mtu
    }

    /// From now on these frames are the client's, and no longer those that it has claimed before. The error says why
    /// they are not, and the claims are as before.
    pub fn claim(&self, claims: &[FrameClaim]) -> io::Result<()> {
        self.link.upgrade().map_or(Ok(()), |link| link.borrow_mut().claim(self.number, claims))
    }

    /// Takes a frame that the same client of another core has got, as if it had come in here.
    pub fn give(&self, frame: &[u8]) {
        if let Some(link) = self.link.upgrade() {
            link.borrow_mut().give(self.number, frame);
        }
    }

    /// The next claimed frame, in the order of arrival. What is not taken in a turn waits, up to [`RAW_FRAMES_MAX`]
    /// frames.
    pub fn take_frame(&self) -> Option<RawFrame> {
        self.link.upgrade()?.borrow_mut().take_frame(self.number)
    }

    /// Whether there is one.
    pub fn is_waiting(&self) -> bool {
        self.link.upgrade().is_some_and(|link| link.borrow().is_waiting(self.number))
    }

    /// Sends complete frames from the front of `burst`, from wherever their payload lies; what it leaves there is for
    /// later.
    pub fn send(&self, now: Instant, burst: &mut VecDeque<TxFrame>) {
        match self.link.upgrade() {
            Some(link) => link.borrow_mut().send(now, burst),
            None => burst.clear(),
        }
    }
}

impl Drop for LinkClient {
    fn drop(&mut self) {
        if let Some(link) = self.link.upgrade() {
            link.borrow_mut().leave(self.number);
        }
    }
}

/// The links of a core, by the names of their ports.
#[derive(Clone, Default)]
pub struct Links(Rc<RefCell<BTreeMap<String, LinkHandle>>>);

impl Links {
    /// There is a port of that name.
    pub fn insert(&self, port: &str, link: LinkHandle) {
        self.0.borrow_mut().insert(port.to_owned(), link);
    }

    /// A new client of a port. `None` if there is no port of that name with frames.
    pub fn join(&self, port: &str) -> Option<LinkClient> {
        self.0.borrow().get(port)?.join()
    }
}
