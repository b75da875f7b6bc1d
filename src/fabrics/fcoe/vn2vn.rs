// SPDX-License-Identifier: GPL-2.0-or-later
//! How a port gets its identifier in VN2VN, without a switch, and learns of the others (FC-BB-6, "VN2VN"): it asks
//! whether anybody has the one that it wants, claims it, and from then on says so again and again.
//!
//! ```text
//! Start --wait--> Probing, twice --nobody objects--> Claimed --> Up, with beacons
//!   ^                |                                  |         |
//!   '----------------'--------- another has it ---------'---------'
//! ```
//!
//! Where the standard was not at hand it does what Linux does, in multipoint mode.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::control::ControlFrames;
use crate::time::Instant;
use crate::wire::fc::{
    Fc4Attributes, Fc4Features, Fc4Types, FcId, FcMap, FcType, FipFlags, FipFrame, FipMessage, MacAddress,
    Vn2VnMessage, VnClaim, VxPort, WorldWideName,
};

/// Most other ports that are known at a time.
pub const NEIGHBOURS_MAX: usize = 256;

const START_WAIT: Duration = Duration::from_millis(100);
const PROBE_WAIT: Duration = Duration::from_millis(100);
const CLAIM_WAIT: Duration = Duration::from_millis(400);
const BEACON_PERIOD: Duration = Duration::from_secs(8);
/// After this without a beacon a port is gone.
const SILENCE_MAX: Duration = Duration::from_secs(20);
/// From so many conflicts on it waits long before it tries again.
const CONFLICTS_MAX: u32 = 10;
const CONFLICT_WAIT: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Vn2VnState {
    Start,
    FirstProbe,
    SecondProbe,
    Claimed,
    Up,
}

/// Another port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Neighbour {
    /// The address of its node, for FIP.
    pub(super) mac: MacAddress,
    pub(super) port_name: WorldWideName,
    node_name: WorldWideName,
    heard: Instant,
}

/// What the rest of the port has to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Vn2VnEvent {
    /// The identifier is ours from now on.
    Claimed,
    /// It is ours no more.
    Lost,
    /// That neighbour can be logged in to; told with each of its beacons.
    Beacon(FcId),
    /// It is gone, or is another one.
    Gone(FcId),
}

/// Who a port is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortIdentity {
    /// Its own name.
    pub port_name: WorldWideName,
    /// That of its node.
    pub node_name: WorldWideName,
    /// The address of the Ethernet port.
    pub mac: MacAddress,
}

/// See the module.
pub(super) struct Vn2Vn {
    identity: PortIdentity,
    max_fcoe_size: u16,
    id: FcId,
    state: Vn2VnState,
    /// When it goes on.
    at: Instant,
    claimed_at: Instant,
    conflicts: u32,
    random: u64,
    neighbours: BTreeMap<FcId, Neighbour>,
    pub(super) events: VecDeque<Vn2VnEvent>,
}

impl Vn2Vn {
    pub(super) fn new(identity: PortIdentity, max_fcoe_size: u16, now: Instant) -> Self {
        let name = u64::from_be_bytes(identity.port_name.to_bytes());
        let mut new = Self {
            identity,
            max_fcoe_size,
            id: identifier(name),
            state: Vn2VnState::Start,
            at: now,
            claimed_at: now,
            conflicts: 0,
            random: name | 1,
            neighbours: BTreeMap::new(),
            events: VecDeque::new(),
        };
        new.at = now + new.jitter(START_WAIT);
        new
    }

    /// What it has, or wants.
    pub(super) fn id(&self) -> FcId {
        self.id
    }

    /// Whether the identifier is its own.
    pub(super) fn has_id(&self) -> bool {
        matches!(self.state, Vn2VnState::Claimed | Vn2VnState::Up)
    }

    pub(super) fn neighbour(&self, id: FcId) -> Option<&Neighbour> {
        self.neighbours.get(&id)
    }

    pub(super) fn next_deadline(&self) -> Instant {
        let silent = self.neighbours.values().map(|neighbour| neighbour.heard + SILENCE_MAX).min();
        silent.map_or(self.at, |silent| silent.min(self.at))
    }

    /// Does what is due.
    pub(super) fn poll(&mut self, now: Instant, out: &mut ControlFrames) {
        if now >= self.at {
            let (state, wait) = match self.state {
                Vn2VnState::Start => {
                    self.send(Vn2VnMessage::ProbeRequest, MacAddress::ALL_VN2VN, 0, out);
                    (Vn2VnState::FirstProbe, PROBE_WAIT)
                }
                Vn2VnState::FirstProbe => {
                    self.send(Vn2VnMessage::ProbeRequest, MacAddress::ALL_VN2VN, 0, out);
                    (Vn2VnState::SecondProbe, CLAIM_WAIT)
                }
                Vn2VnState::SecondProbe => {
                    self.claim(now, out);
                    self.events.push_back(Vn2VnEvent::Claimed);
                    (Vn2VnState::Claimed, CLAIM_WAIT)
                }
                Vn2VnState::Claimed => {
                    self.send(Vn2VnMessage::Beacon, MacAddress::ALL_VN2VN, 0, out);
                    (Vn2VnState::Up, CLAIM_WAIT)
                }
                Vn2VnState::Up => {
                    self.send(Vn2VnMessage::Beacon, MacAddress::ALL_VN2VN, 0, out);
                    (Vn2VnState::Up, BEACON_PERIOD + self.jitter(START_WAIT))
                }
            };
            self.state = state;
            self.at = now + wait;
        }
        let events = &mut self.events;
        self.neighbours.retain(|&id, neighbour| {
            let stays = now < neighbour.heard + SILENCE_MAX;
            if !stays {
                events.push_back(Vn2VnEvent::Gone(id));
            }
            stays
        });
    }

    /// A message has come: from whose node, about which port. `len` is that of the frame from behind the ethertype.
    pub(super) fn receive(
        &mut self,
        now: Instant,
        flags: FipFlags,
        (message, mac, node_name, port): (Vn2VnMessage, MacAddress, WorldWideName, VxPort),
        len: usize,
        out: &mut ControlFrames,
    ) {
        let ours = port.id == self.id;
        if port.port_name == self.identity.port_name || mac.is_group() {
            // Our own frame has come back, or somebody has our name.
            return;
        }
        let neighbour = Neighbour { mac, port_name: port.port_name, node_name, heard: now };
        let above = self.identity.port_name > port.port_name;
        // Who wants one other port only is asked to see all of them.
        let alone = flags.contains(FipFlags::POINT_TO_POINT);
        match message {
            Vn2VnMessage::ProbeRequest if ours => match self.state {
                Vn2VnState::Claimed | Vn2VnState::Up => self.send(Vn2VnMessage::ProbeReply, mac, 0, out),
                Vn2VnState::FirstProbe | Vn2VnState::SecondProbe
                    if above && !flags.contains(FipFlags::RECORDED) =>
                {
                    self.send(Vn2VnMessage::ProbeReply, mac, 0, out);
                }
                _ => self.give_up(now),
            },
            Vn2VnMessage::ProbeReply if ours => match self.state {
                Vn2VnState::Up => self.claim(now, out),
                _ => self.give_up(now),
            },
            Vn2VnMessage::ProbeRequest | Vn2VnMessage::ProbeReply => {}
            Vn2VnMessage::ClaimNotification(claim) => {
                if alone {
                    self.send(Vn2VnMessage::ProbeRequest, MacAddress::ALL_VN2VN, 0, out);
                }
                match (ours, self.has_id()) {
                    (true, true) if above => self.claim(now, out),
                    (true, _) => self.give_up(now),
                    (false, true) => {
                        // As long as both can bear: what the path cannot does not arrive.
                        let len = self.common_size(&claim);
                        self.send(Vn2VnMessage::ClaimResponse(self.own_claim()), mac, len, out);
                        self.meet(port.id, neighbour);
                    }
                    (false, false) => {}
                }
            }
            Vn2VnMessage::ClaimResponse(claim) => {
                if self.has_id() && !ours && len >= self.common_size(&claim) {
                    self.meet(port.id, neighbour);
                }
            }
            Vn2VnMessage::Beacon if alone => {
                self.send(Vn2VnMessage::ProbeRequest, MacAddress::ALL_VN2VN, 0, out);
            }
            Vn2VnMessage::Beacon => match self.neighbours.get_mut(&port.id) {
                Some(known) => {
                    if (known.port_name, known.node_name) == (neighbour.port_name, neighbour.node_name) {
                        *known = neighbour;
                        if self.state == Vn2VnState::Up {
                            self.events.push_back(Vn2VnEvent::Beacon(port.id));
                        }
                    }
                }
                None => {
                    if self.state == Vn2VnState::Up && now >= self.claimed_at + CLAIM_WAIT {
                        self.claim(now, out);
                    }
                }
            },
        }
    }

    /// There is a neighbour.
    fn meet(&mut self, id: FcId, neighbour: Neighbour) {
        let known = self.neighbours.get(&id);
        if known.is_none() && self.neighbours.len() >= NEIGHBOURS_MAX {
            return;
        }
        let names = |it: &Neighbour| (it.port_name, it.node_name);
        if known.is_some_and(|known| names(known) != names(&neighbour)) {
            self.events.push_back(Vn2VnEvent::Gone(id));
        }
        self.neighbours.insert(id, neighbour);
    }

    /// Somebody else has the identifier: begins anew with another.
    fn give_up(&mut self, now: Instant) {
        if self.has_id() {
            self.events.push_back(Vn2VnEvent::Lost);
        }
        self.neighbours.clear();
        self.id = identifier(self.next_random());
        self.conflicts += 1;
        self.state = Vn2VnState::Start;
        let wait = if self.conflicts < CONFLICTS_MAX { self.jitter(START_WAIT) } else { CONFLICT_WAIT };
        self.at = now + wait;
    }

    fn claim(&mut self, now: Instant, out: &mut ControlFrames) {
        self.claimed_at = now;
        let claim = Vn2VnMessage::ClaimNotification(self.own_claim());
        self.send(claim, MacAddress::ALL_VN2VN, 0, out);
    }

    fn own_claim(&self) -> VnClaim {
        let attributes = Fc4Attributes {
            types: Fc4Types::default().with(FcType::FCP),
            features: Fc4Features::default().with(FcType::FCP, Fc4Features::TARGET),
        };
        VnClaim { attributes, max_fcoe_size: self.max_fcoe_size }
    }

    /// The longest frame that both ports take.
    fn common_size(&self, other: &VnClaim) -> usize {
        self.max_fcoe_size.min(other.max_fcoe_size).into()
    }

    fn send(&self, message: Vn2VnMessage, to: MacAddress, len: usize, out: &mut ControlFrames) {
        let PortIdentity { port_name, node_name, mac } = self.identity;
        let vn_mac = MacAddress::of_vn_port(FcMap::VN2VN, self.id);
        let port = VxPort { mac: vn_mac, id: self.id, port_name };
        let from = if message == Vn2VnMessage::Beacon { vn_mac } else { mac };
        let message = FipMessage::Vn2Vn { message, mac, name: node_name, port };
        out.fip((to, from), &FipFrame { flags: FipFlags::default(), message }, len);
    }

    fn jitter(&mut self, most: Duration) -> Duration {
        most.mul_f64((self.next_random() >> 40) as f64 / (1_u64 << 24) as f64)
    }

    /// Xorshift: two ports have different names, so they choose differently.
    fn next_random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }
}

/// An identifier out of a number: domain and area above its 16 bits are 0, and two values are nobody's.
fn identifier(number: u64) -> FcId {
    match number as u16 {
        0 | 0xffff => FcId::new(1),
        id => FcId::new(id.into()),
    }
}
