// SPDX-License-Identifier: GPL-2.0-or-later
//! The flows of a host, each in a place of its own, and found by its 4-tuple.

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, SocketAddr};
use std::ops::{Index, IndexMut};

use hashbrown::HashTable;
use slab::Slab;
use smoltcp::socket::tcp::State;

use super::{HANDSHAKE_TIME, LINGER};
use crate::net::flow::Flow;
use crate::net::front::Segment;
use crate::net::{StreamId, StreamOrigin};
use crate::time::Instant;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Tuple {
    pub(super) local: SocketAddr,
    pub(super) peer: SocketAddr,
}

impl Tuple {
    /// That of a segment's flow.
    #[inline]
    pub(super) fn of(segment: &Segment<'_>) -> Self {
        let header = &segment.packet[segment.tcp..];
        let port = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        Self { local: SocketAddr::new(segment.to, port(2)), peer: SocketAddr::new(segment.from, port(0)) }
    }
}

/// By which tuples are hashed: multiply-shift with keys that nobody else knows. However a peer chooses its ports, two
/// tuples have the same 64 bits by a chance of 2^-64 (Dietzfelbinger 1996), at a tenth of what SipHash takes, for each
/// frame.
struct TupleKeys([u128; 6]);

impl TupleKeys {
    fn new() -> Self {
        let random = || u128::from(RandomState::new().hash_one(0));
        Self(std::array::from_fn(|_| random() << 64 | random()))
    }

    #[inline]
    fn hash(&self, tuple: &Tuple) -> u64 {
        let ports = u64::from(tuple.local.port()) << 16 | u64::from(tuple.peer.port());
        match (tuple.local.ip(), tuple.peer.ip()) {
            (IpAddr::V4(local), IpAddr::V4(peer)) => {
                self.sum([ports, u64::from(local.to_bits()) << 32 | u64::from(peer.to_bits())])
            }
            (local, peer) => {
                let [local, peer] = [local, peer].map(|ip| match ip {
                    IpAddr::V4(ip) => ip.to_ipv6_mapped().to_bits(),
                    IpAddr::V6(ip) => ip.to_bits(),
                });
                self.sum([ports, local as u64, (local >> 64) as u64, peer as u64, (peer >> 64) as u64])
            }
        }
    }

    #[inline]
    fn sum<const WORDS: usize>(&self, words: [u64; WORDS]) -> u64 {
        let products = self.0[1..].iter().zip(words).map(|(key, word)| key.wrapping_mul(word.into()));
        (products.fold(self.0[0], u128::wrapping_add) >> 64) as u64
    }
}

/// A flow and what its host knows of it.
pub(super) struct FlowEntry {
    pub(super) flow: Flow,
    pub(super) id: StreamId,
    /// Which listener its SYN came to.
    pub(super) listener: usize,
    pub(super) born: Instant,
    /// The owner knows of it.
    pub(super) accepted: bool,
    /// The owner has been told that it is gone.
    pub(super) gone: bool,
    pub(super) finished: bool,
    /// The owner has closed it; when that was, or when the peer last acknowledged something since.
    pub(super) closing: Option<Instant>,
    /// In the list of flows to be polled.
    pub(super) touched: bool,
    /// The owner found no room.
    pub(super) full: Cell<bool>,
}

impl FlowEntry {
    pub(super) fn tuple(&self) -> Tuple {
        Tuple { local: self.flow.local, peer: self.flow.peer }
    }

    pub(super) fn origin(&self) -> StreamOrigin {
        StreamOrigin { listener: self.listener, local: self.flow.local, peer: self.flow.peer }
    }

    /// When it has waited long enough for its peer.
    pub(super) fn limit(&self) -> Option<Instant> {
        match self.closing {
            _ if !self.accepted => Some(self.born + HANDSHAKE_TIME),
            Some(since) if self.flow.state() != State::TimeWait => Some(since + LINGER),
            _ => None,
        }
    }
}

/// See the module.
pub(super) struct Flows {
    entries: Slab<FlowEntry>,
    /// Places only, so that the table of a thousand flows takes few lines of the cache: the tuples are in the flows,
    /// which whoever searches for needs anyway.
    places: HashTable<u32>,
    keys: TupleKeys,
}

impl Flows {
    pub(super) fn new() -> Self {
        Self { entries: Slab::new(), places: HashTable::new(), keys: TupleKeys::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    #[inline]
    pub(super) fn get(&self, place: usize) -> Option<&FlowEntry> {
        self.entries.get(place)
    }

    #[inline]
    pub(super) fn get_mut(&mut self, place: usize) -> Option<&mut FlowEntry> {
        self.entries.get_mut(place)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &FlowEntry> {
        self.entries.iter().map(|(_, entry)| entry)
    }

    /// The place of the flow with a tuple.
    #[inline]
    pub(super) fn find(&self, tuple: &Tuple) -> Option<usize> {
        let same = |&place: &u32| self.entries[place as usize].tuple() == *tuple;
        self.places.find(self.keys.hash(tuple), same).map(|&place| place as usize)
    }

    /// The place that the next flow will have.
    pub(super) fn next_place(&self) -> usize {
        self.entries.vacant_key()
    }

    /// Adds a flow; there is none with its tuple.
    pub(super) fn insert(&mut self, entry: FlowEntry) {
        let hash = self.keys.hash(&entry.tuple());
        let place = self.entries.insert(entry) as u32;
        let (entries, keys) = (&self.entries, &self.keys);
        self.places.insert_unique(hash, place, |&place| keys.hash(&entries[place as usize].tuple()));
    }

    /// Takes a flow out.
    pub(super) fn remove(&mut self, place: usize) -> FlowEntry {
        let hash = self.keys.hash(&self.entries[place].tuple());
        if let Ok(found) = self.places.find_entry(hash, |&other| other as usize == place) {
            found.remove();
        }
        self.entries.remove(place)
    }
}

impl Index<usize> for Flows {
    type Output = FlowEntry;

    #[inline]
    fn index(&self, place: usize) -> &FlowEntry {
        &self.entries[place]
    }
}

impl IndexMut<usize> for Flows {
    #[inline]
    fn index_mut(&mut self, place: usize) -> &mut FlowEntry {
        &mut self.entries[place]
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// Of tuples that differ in a bit that is not hashed a peer could make as many with the same hash as it likes.
    #[test]
    fn every_bit_of_a_tuple_is_in_its_hash() {
        let keys = TupleKeys::new();
        let tuple = |local: IpAddr, peer: IpAddr, ports: u32| Tuple {
            local: SocketAddr::new(local, (ports >> 16) as u16),
            peer: SocketAddr::new(peer, ports as u16),
        };
        let v4 = |local: u32, peer: u32, ports| {
            tuple(local.to_be_bytes().into(), peer.to_be_bytes().into(), ports)
        };
        let v6 = |local: u128, peer: u128, ports| {
            let [local, peer] = [local, peer].map(|bits| IpAddr::from((bits ^ 0xfd << 120).to_be_bytes()));
            tuple(local, peer, ports)
        };
        let mut tuples = vec![v4(0, 0, 0), v6(0, 0, 0)];
        tuples.extend((0..32).flat_map(|at| [v4(1 << at, 0, 0), v4(0, 1 << at, 0), v4(0, 0, 1 << at)]));
        tuples.extend((0..128).flat_map(|at| [v6(1 << at, 0, 0), v6(0, 1 << at, 0)]));
        tuples.extend((0..32).map(|at| v6(0, 0, 1 << at)));
        let hashes: HashSet<u64> = tuples.iter().map(|tuple| keys.hash(tuple)).collect();
        assert_eq!(hashes.len(), tuples.len());
    }

    #[test]
    fn hosts_have_keys_of_their_own() {
        let tuple = Tuple { local: SocketAddr::from(([1; 4], 1)), peer: SocketAddr::from(([2; 4], 2)) };
        assert_ne!(TupleKeys::new().hash(&tuple), TupleKeys::new().hash(&tuple));
    }
}
