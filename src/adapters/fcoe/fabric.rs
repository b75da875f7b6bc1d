// SPDX-License-Identifier: GPL-2.0-or-later
//! An FCoE target on the cores. All of it is at its home core, where the other cores give the frames that come in at
//! them.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::os::fd::RawFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;
use smallvec::SmallVec;

use super::status::FcoeSessionStatus;
use super::target::FcoeTargetOptions;
use crate::adapters::ethernet::{EthernetClient, EthernetShare};
use crate::counters::{Counted, CounterSet};
use crate::engine::fabric::{Census, Core, Fabric, FabricShare};
use crate::engine::tasks::{NexusKey, Transports};
use crate::fabrics::fcoe::{
    FcoePort, FcoePortEvent, FcoePortOptions, OutgoingFrame, PortIdentity, ReceivedFrame,
};
use crate::net::{ETHERTYPE_VLAN, FrameClaim, RawFrame, TxFrame};
use crate::reactor::CoreContext;
use crate::scsi::{Lun, Nexus, PortName, TargetPort, Transport, UnitKey};
use crate::time::Instant;
use crate::wire::fc::{ETHERTYPE_FCOE, ETHERTYPE_FIP, MacAddress};

/// The priority of tagged frames: that of storage, which networks for FCoE do not lose.
const PRIORITY: u16 = 3;

/// A target as the engine knows it.
pub(super) struct ExportedTarget {
    pub(super) target: FcoeTargetOptions,
    /// Its relative target port identifier.
    pub(super) relative: u16,
    pub(super) units: Vec<(Lun, UnitKey)>,
}

/// What all cores share of a target.
pub(super) struct FcoeShare {
    exported: Arc<ExportedTarget>,
    home: usize,
    port: EthernetShare,
    /// By their numbers.
    sessions: Arc<Mutex<BTreeMap<usize, FcoeSessionStatus>>>,
}

impl FcoeShare {
    /// One that the home core has.
    pub(super) fn new(exported: Arc<ExportedTarget>, cores: usize, home: usize) -> io::Result<Self> {
        // All frames are for the home core.
        let port = EthernetShare::new(&exported.target.port, cores, home, |_| None)?;
        Ok(Self { exported, home, port, sessions: Arc::default() })
    }
}

impl FabricShare for FcoeShare {
    fn attach(&self, context: &CoreContext) -> Result<Box<dyn Fabric>, String> {
        let ExportedTarget { target, relative, units } = &*self.exported;
        let vlan = target.vlan;
        let ethernet = self.port.attach(context, |mac| fip_claims(vlan, mac))?;
        let mac = MacAddress(ethernet.mac());
        let names = target.names(Some(mac)).expect("there is an address");
        let make = || {
            let identity = PortIdentity { port_name: names.0, node_name: names.1, mac };
            let initiators = target.initiators.clone();
            let port = FcoePortOptions { identity, mtu: ethernet.mtu(), initiators };
            HomePort {
                name: target.name.clone(),
                // It begins with the first turn.
                port: FcoePort::new(port, context.arena(), Instant::ZERO),
                scsi_port: target.scsi_port(names, *relative),
                units: units.clone(),
                nexuses: BTreeMap::new(),
                by_key: HashMap::new(),
                sessions: self.sessions.clone(),
            }
        };
        let home = (context.core() == self.home).then(make);
        Ok(Box::new(FcoeFabric { vlan, ethernet, home }))
    }

    fn sessions(&self, core: usize, _: &dyn Fn() -> Duration) -> Option<Vec<Value>> {
        let sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        let told = sessions.values().filter(|_| core == self.home);
        Some(told.map(|session| session.to_value(core)).collect())
    }
}

/// Frames that a port takes which has no identifier: FIP.
fn fip_claims(vlan: Option<u16>, mac: [u8; 6]) -> Vec<FrameClaim> {
    let addresses = vec![mac, MacAddress::ALL_VN2VN.0, MacAddress::ALL_PT2PT.0];
    vec![FrameClaim { ethertype: ETHERTYPE_FIP, vlan, addresses }]
}

/// One core's share of a target.
struct FcoeFabric {
    vlan: Option<u16>,
    ethernet: EthernetClient,
    /// At its home.
    home: Option<HomePort>,
}

/// A target at its home core.
struct HomePort {
    /// In the configuration.
    name: String,
    port: FcoePort,
    scsi_port: Arc<TargetPort>,
    units: Vec<(Lun, UnitKey)>,
    /// By session.
    nexuses: BTreeMap<usize, NexusKey>,
    by_key: HashMap<NexusKey, usize>,
    /// Those that are logged in, for the status.
    sessions: Arc<Mutex<BTreeMap<usize, FcoeSessionStatus>>>,
}

impl HomePort {
    /// Does what the port tells. Returns the address that it has now, if that is another one.
    fn hear(&mut self, core: &mut Core) -> Option<Option<MacAddress>> {
        let mut address = None;
        while let Some(event) = self.port.poll_event() {
            match event {
                FcoePortEvent::Address(other) => address = Some(other),
                FcoePortEvent::Joined(number) => self.join(core, number),
                FcoePortEvent::Left(number) => self.leave(core, number),
            }
        }
        address
    }

    fn join(&mut self, core: &mut Core, number: usize) {
        // It may have left since.
        let Some(session) = self.port.session(number) else { return };
        let (initiator, peer) = (session.initiator(), session.peer());
        let id = core.new_nexus_id();
        session.serves(id);
        log::info!("{:?}: {initiator} has logged in, as {peer}", self.name);
        let status = FcoeSessionStatus {
            target: self.name.clone(),
            initiator: initiator.to_string(),
            id: peer.to_string(),
            frame_size: session.frame_size(),
        };
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner).insert(number, status);
        let name = Nexus { initiator: PortName::Fc(initiator), port: self.scsi_port.clone() };
        let key = core.add_nexus(id, name, &self.units);
        self.nexuses.insert(number, key);
        self.by_key.insert(key, number);
    }

    fn leave(&mut self, core: &mut Core, number: usize) {
        let Some(key) = self.nexuses.remove(&number) else { return self.port.session_ended(number) };
        let left = self.sessions.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
        log::info!("{:?}: {} has left", self.name, left.map_or_else(String::new, |left| left.initiator));
        self.by_key.remove(&key);
        core.remove_nexus(key, u32::try_from(number).expect("few sessions"));
    }
}

impl FcoeFabric {
    fn hear(&mut self, core: &mut Core) {
        let Some(home) = &mut self.home else { return };
        let Some(address) = home.hear(core) else { return };
        let mut claims = fip_claims(self.vlan, self.ethernet.mac());
        if let Some(address) = address {
            log::info!("{:?}: the port has the address {address}", home.name);
            let addresses = vec![address.0];
            claims.push(FrameClaim { ethertype: ETHERTYPE_FCOE, vlan: self.vlan, addresses });
        }
        if let Err(e) = self.ethernet.claim(claims) {
            log::warn!("{:?}: {e}", home.name);
        }
    }

    fn ethernet_header(&self, frame: &OutgoingFrame) -> SmallVec<[u8; 128]> {
        let mut header = SmallVec::from_slice(&frame.to.0);
        header.extend_from_slice(&frame.from.0);
        if let Some(vlan) = self.vlan {
            header.extend_from_slice(&ETHERTYPE_VLAN.to_be_bytes());
            header.extend_from_slice(&(PRIORITY << 13 | vlan).to_be_bytes());
        }
        header.extend_from_slice(&frame.ethertype.to_be_bytes());
        header
    }
}

/// A frame as the port takes it; `None` if it is shorter than its header.
fn received(frame: &RawFrame) -> Option<ReceivedFrame<'_>> {
    let bytes = frame.bytes();
    Some(ReceivedFrame {
        to: MacAddress(*bytes.first_chunk()?),
        from: MacAddress(*bytes.get(6..)?.first_chunk()?),
        ethertype: frame.ethertype,
        body: bytes.get(frame.body..)?,
    })
}

impl Transports for FcoeFabric {
    fn transport(&mut self, nexus: NexusKey) -> Option<&mut dyn Transport> {
        let home = self.home.as_mut()?;
        let session = home.port.session(*home.by_key.get(&nexus)?)?;
        Some(session)
    }
}

impl Fabric for FcoeFabric {
    fn poll(&mut self, core: &mut Core) -> usize {
        let mut work = self.ethernet.poll();
        while let Some(frame) = self.ethernet.take_frame() {
            work += 1;
            let (Some(home), Some(frame)) = (&mut self.home, received(&frame)) else { continue };
            home.port.receive(core.now, frame);
            self.hear(core);
        }
        if let Some(home) = &mut self.home {
            home.port.poll(core.now);
            self.hear(core);
        }
        work
    }

    fn serve(&mut self, core: &mut Core, woken: &[NexusKey]) -> usize {
        let Some(home) = &mut self.home else { return 0 };
        let mut work = 0;
        for (&number, &key) in &home.nexuses {
            let Some(session) = home.port.session(number) else { continue };
            if session.is_asking() || woken.contains(&key) {
                work += core.serve(key, session);
            }
        }
        work
    }

    fn nexus_ended(&mut self, ticket: u32) {
        if let Some(home) = &mut self.home {
            home.port.session_ended(ticket as usize);
        }
    }

    fn cold_reset(&mut self, _: NexusKey) {}

    fn commit(&mut self, now: Instant) {
        while self.ethernet.has_room()
            && let Some(frame) = self.home.as_mut().and_then(|home| home.port.poll_frame())
        {
            let header = self.ethernet_header(&frame);
            self.ethernet.send(TxFrame { header, payload: frame.body, offload: None });
        }
        self.ethernet.commit(now);
    }

    fn next_deadline(&self, now: Instant) -> Option<Instant> {
        let home = self.home.as_ref().map(|home| {
            let asks = || home.port.sessions().any(|(_, session)| session.is_asking());
            if home.port.is_sending() || asks() { now } else { home.port.next_deadline() }
        });
        home.into_iter().chain(self.ethernet.next_deadline(now)).min()
    }

    fn wake_fds(&self, fds: &mut Vec<RawFd>) {
        self.ethernet.wake_fds(fds);
    }

    fn may_sleep(&mut self) -> bool {
        self.ethernet.may_sleep()
    }

    fn awake(&mut self) {
        self.ethernet.awake();
    }

    fn drain(&mut self) {
        if let Some(home) = &mut self.home {
            home.port.stop();
        }
    }

    fn drop_all(&mut self, _: bool) {}

    fn census(&self) -> Census {
        let Some(home) = &self.home else { return Census::default() };
        Census { sessions: home.port.sessions().count(), logins: home.port.ending() }
    }

    fn count(&self, ports: &mut BTreeMap<String, Vec<Counted>>) {
        self.ethernet.count(ports);
        if let Some(home) = &self.home {
            let counters = home.port.counters();
            ports.entry(self.ethernet.port().to_owned()).or_default().extend(counters.counted());
        }
    }
}
