// SPDX-License-Identifier: GPL-2.0-or-later
//! The flows of a host, each in a place of its own, and found by its 4-tuple.

use std::cell::Cell;
use std::hash::{BuildHasher, Hash, Hasher, RandomState};
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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

impl Hash for Tuple {
    /// Once per frame, so in as few pieces as there can be.
    fn hash<H: Hasher>(&self, state: &mut H) {
        match (self.local.ip(), self.peer.ip()) {
            (IpAddr::V4(local), IpAddr::V4(peer)) => {
                state.write_u64(u64::from(local.to_bits()) << 32 | u64::from(peer.to_bits()));
            }
            (local, peer) => (local, peer).hash(state),
        }
        state.write_u32(u32::from(self.local.port()) << 16 | u32::from(self.peer.port()));
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
    /// Places only, so that the table of a thousand flows takes few lines of the cache: the tuples are in the flows, which
    /// whoever searches for needs anyway.
    places: HashTable<u32>,
    keys: RandomState,
}

impl Flows {
    pub(super) fn new() -> Self {
        Self { entries: Slab::new(), places: HashTable::new(), keys: RandomState::new() }
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
        self.places.find(self.keys.hash_one(tuple), same).map(|&place| place as usize)
    }

    /// The place that the next flow will have.
    pub(super) fn next_place(&self) -> usize {
        self.entries.vacant_key()
    }

    /// Adds a flow; there is none with its tuple.
    pub(super) fn insert(&mut self, entry: FlowEntry) {
        let hash = self.keys.hash_one(entry.tuple());
        let place = self.entries.insert(entry) as u32;
        let (entries, keys) = (&self.entries, &self.keys);
        self.places.insert_unique(hash, place, |&place| keys.hash_one(entries[place as usize].tuple()));
    }

    /// Takes a flow out.
    pub(super) fn remove(&mut self, place: usize) -> FlowEntry {
        let hash = self.keys.hash_one(self.entries[place].tuple());
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
