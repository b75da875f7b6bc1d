// SPDX-License-Identifier: GPL-2.0-or-later
//! A fabric's part of an Ethernet port, on all cores: frames come in at any of them, and each goes to the core where it
//! belongs. That is the fabric's home, or one that the fabric's key of the frame decides, so that its exchanges are
//! spread.
//!
//! Segments never leave their core, so a frame that goes to another is copied into a buffer, which comes back empty,
//! and there into memory of that core. What finds no room is dropped and counted, as on a wire.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::RawFd;
use std::sync::{Arc, Mutex, PoisonError};

use crate::counters::{Counted, CounterPlace, CounterSet, counter_set};
use crate::net::{FrameClaim, LinkClient, Links, RAW_FRAMES_MAX, RawFrame, TxFrame};
use crate::reactor::{CoreContext, Mailbox, RingReceiver, RingSender, Sender, mailboxes, ring};
use crate::time::Instant;

/// Most frames that a fabric is given in a turn; others wait for the next.
pub const FRAMES_PER_TURN: usize = RAW_FRAMES_MAX;

/// Frames on their way from one core to another, and empty buffers on their way back.
const RING_ROOM: usize = 256;

/// Most frames that wait for room in the device.
const UNSENT_MAX: usize = 1024;

/// What decides to which core a frame goes: equal keys go to the same one, and what has none to the home.
pub type FrameKey = fn(&RawFrame) -> Option<u64>;

counter_set! {
    /// What a fabric on raw frames counts at a port, in addition to the port's counters.
    pub struct EthernetCounters {
        /// Frames handed to another core, because they belong there.
        given_frames: Counter of Frames,
        /// Frames dropped because too many were on their way to that core.
        dropped_giving: Counter of Frames,
        /// Frames dropped because too many waited for the device to send them.
        dropped_unsent: Counter of Frames,
    }
}

/// Where that is in the status, for the row of such a fabric.
pub const COUNTERS: CounterPlace = CounterPlace {
    path: "ports[].counters",
    what: "A port with a fabric on raw Ethernet frames, in addition",
    lists: &[EthernetCounters::LIST],
};

/// What goes from core to core.
enum Carried {
    Frame(Vec<u8>),
    Empty(Vec<u8>),
}

/// To another core and from there.
struct PeerCore {
    to: RingSender<Carried>,
    from: RingReceiver<Carried>,
    /// The other core's mailbox.
    mailbox: Sender<Arc<[FrameClaim]>>,
    empty: Vec<Vec<u8>>,
}

/// What a core takes with it.
struct EthernetEnd {
    mailbox: Mailbox<Arc<[FrameClaim]>>,
    /// By core; none for its own.
    peers: Vec<Option<PeerCore>>,
}

/// What all cores share of it.
pub struct EthernetShare {
    port: String,
    home: usize,
    key: FrameKey,
    ends: Vec<Mutex<Option<EthernetEnd>>>,
}

impl EthernetShare {
    /// A part of the port of that name, for so many cores.
    pub fn new(port: &str, cores: usize, home: usize, key: FrameKey) -> io::Result<Self> {
        let (senders, boxes) = mailboxes(cores)?;
        let ends = boxes
            .into_iter()
            .map(|mailbox| EthernetEnd { mailbox, peers: (0..cores).map(|_| None).collect() });
        let mut ends: Vec<_> = ends.collect();
        for second in 1..cores {
            for first in 0..second {
                let ((there, here), (back, home)) = (ring(RING_ROOM), ring(RING_ROOM));
                let peer = |to, from, core: usize| PeerCore {
                    to,
                    from,
                    mailbox: senders[core].clone(),
                    empty: Vec::new(),
                };
                ends[first].peers[second] = Some(peer(there, home, second));
                ends[second].peers[first] = Some(peer(back, here, first));
            }
        }
        let ends = ends.into_iter().map(|end| Mutex::new(Some(end))).collect();
        Ok(Self { port: port.to_owned(), home, key, ends })
    }

    /// A core's, which claims what it is told for a port with that MAC address. Once for each core, on its thread.
    pub fn attach(
        &self,
        context: &CoreContext,
        claims: impl FnOnce([u8; 6]) -> Vec<FrameClaim>,
    ) -> Result<EthernetClient, String> {
        let Self { port, home, key, ends } = self;
        let links: Links = context.shared(|| Ok(Links::default())).map_err(|e| e.to_string())?;
        let client = links.join(port).ok_or_else(|| format!("there is no port {port:?} with frames"))?;
        let end = ends[context.core()].lock().unwrap_or_else(PoisonError::into_inner).take();
        let EthernetEnd { mailbox, peers } = end.expect("each core attaches once");
        let claims = claims(client.mac());
        client.claim(&claims).map_err(|e| format!("port {port:?}: {e}"))?;
        Ok(EthernetClient {
            port: port.clone(),
            client,
            core: context.core(),
            home: *home,
            key: *key,
            claims: claims.into(),
            mailbox,
            peers,
            left: 0,
            burst: VecDeque::new(),
            counters: EthernetCounters::default(),
        })
    }
}

/// One core's. See the module.
pub struct EthernetClient {
    port: String,
    client: LinkClient,
    core: usize,
    home: usize,
    key: FrameKey,
    claims: Arc<[FrameClaim]>,
    mailbox: Mailbox<Arc<[FrameClaim]>>,
    peers: Vec<Option<PeerCore>>,
    /// Frames that may be taken in this turn.
    left: usize,
    burst: VecDeque<TxFrame>,
    counters: EthernetCounters,
}

impl EthernetClient {
    /// The name of the port.
    pub fn port(&self) -> &str {
        &self.port
    }

    /// The port's own MAC address.
    pub fn mac(&self) -> [u8; 6] {
        self.client.mac()
    }

    /// Bytes behind the ethertype that the port carries.
    pub fn mtu(&self) -> u16 {
        self.client.mtu()
    }

    /// What is claimed.
    pub fn claims(&self) -> &[FrameClaim] {
        &self.claims
    }

    /// From now on these frames are the fabric's, on all cores; other cores learn of it later. One core says so: the
    /// home. The error says why everything is as before.
    pub fn claim(&mut self, claims: Vec<FrameClaim>) -> io::Result<()> {
        self.client.claim(&claims)?;
        self.claims = claims.into();
        for PeerCore { mailbox, .. } in self.peers.iter().flatten() {
            mailbox.send(self.claims.clone());
        }
        Ok(())
    }

    /// Begins a turn: takes what other cores have sent. Returns how much that was.
    pub fn poll(&mut self) -> usize {
        self.left = FRAMES_PER_TURN;
        let mut work = 0;
        while let Some(claims) = self.mailbox.take() {
            work += 1;
            match self.client.claim(&claims) {
                Ok(()) => self.claims = claims,
                Err(e) => log::warn!("port {:?}: core {}: {e}", self.port, self.core),
            }
        }
        for PeerCore { to, from, empty, .. } in self.peers.iter_mut().flatten() {
            for _ in 0..RING_ROOM {
                match from.take() {
                    None => break,
                    Some(Carried::Empty(buffer)) => empty.push(buffer),
                    Some(Carried::Frame(bytes)) => {
                        work += 1;
                        self.client.give(&bytes);
                        to.send(Carried::Empty(bytes));
                    }
                }
            }
        }
        work
    }

    /// The next frame for this core. What is for others goes there.
    pub fn take_frame(&mut self) -> Option<RawFrame> {
        while self.left > 0 {
            let frame = self.client.take_frame()?;
            self.left -= 1;
            let core = match (self.key)(&frame) {
                Some(key) => (key % self.peers.len() as u64) as usize,
                None => self.home,
            };
            let Some(PeerCore { to, empty, .. }) = &mut self.peers[core] else { return Some(frame) };
            if to.is_waiting() {
                self.counters.dropped_giving += 1;
                continue;
            }
            let mut bytes = empty.pop().unwrap_or_default();
            bytes.clear();
            bytes.extend_from_slice(frame.bytes());
            to.send(Carried::Frame(bytes));
            self.counters.given_frames += 1;
        }
        None
    }

    /// Whether [`Self::send`] takes one more frame in this turn.
    pub fn has_room(&self) -> bool {
        self.burst.len() < UNSENT_MAX
    }

    /// Sends a complete frame at the end of the turn, from wherever its payload lies.
    pub fn send(&mut self, frame: TxFrame) {
        if self.has_room() {
            self.burst.push_back(frame);
        } else {
            self.counters.dropped_unsent += 1;
        }
    }

    /// The turn is over.
    pub fn commit(&mut self, now: Instant) {
        if !self.burst.is_empty() {
            self.client.send(now, &mut self.burst);
        }
        for PeerCore { to, mailbox, .. } in self.peers.iter_mut().flatten() {
            if to.flush() {
                mailbox.wake();
            }
        }
    }

    /// When a turn is needed of which no descriptor tells.
    pub fn next_deadline(&self, now: Instant) -> Option<Instant> {
        let busy = self.client.is_waiting() || !self.burst.is_empty();
        let giving = || self.peers.iter().flatten().any(|peer| peer.to.is_waiting());
        (busy || giving()).then_some(now)
    }

    /// Appends the descriptors that become readable when a turn is needed.
    pub fn wake_fds(&self, fds: &mut Vec<RawFd>) {
        fds.push(self.mailbox.wake_fd());
    }

    /// About to sleep; see [`crate::reactor::Poller::may_sleep`].
    pub fn may_sleep(&mut self) -> bool {
        self.mailbox.announce_sleep() && self.peers.iter().flatten().all(|peer| peer.from.is_empty())
    }

    /// The sleep is over.
    pub fn awake(&mut self) {
        self.mailbox.awake();
    }

    /// Adds what it has counted to the port's.
    pub fn count(&self, ports: &mut BTreeMap<String, Vec<Counted>>) {
        ports.entry(self.port.clone()).or_default().extend(self.counters.counted());
    }
}

#[cfg(test)]
mod tests;
