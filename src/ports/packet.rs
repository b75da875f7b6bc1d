// SPDX-License-Identifier: GPL-2.0-or-later
//! A queue on a network device of the system, through an AF_PACKET socket: short frames come from a ring in shared
//! memory, so that looking for one is no system call; frames of up to 64 KiB that the kernel has put together are read
//! into the arena at once; and frames of that length go out to be cut.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};

use caps::Capability;

use super::PacketCounters;
use super::address::{AddressRefusal, TakenAddress};
use super::link::{self, LinkOptions};
use super::options::{PortAddresses, PortOptions, PortShare, PortsStart};
use super::vnet::{self, FRAME_MAX, VNET};
use crate::counters::{Counted, CounterSet};
use crate::machine::{Findings, Machine, Verdict};
use crate::memory::{Arena, SegMut};
use crate::net::{FrameCaps, FramePort, RxFrame, TxFrame};
use crate::options::Section;
use crate::sys::{self, PacketSocket, Waiting};
use crate::time::Instant;

/// Frames taken per turn.
const BURST_MAX: usize = 64;

/// Bytes of the receive ring: 2048 slots.
const RING: usize = 4 << 20;

/// Of a VLAN tag, which the kernel takes off and this port puts back.
const TAG: usize = 4;

/// `packet`
#[derive(Clone, Debug)]
pub(super) struct PacketOptions(LinkOptions);

impl PacketOptions {
    pub(super) fn read(s: &Section<'_>, name: Option<&str>) -> Option<Self> {
        LinkOptions::of_kernel(s, name, link::addresses(s)).map(Self)
    }
}

impl PortOptions for PacketOptions {
    fn link(&self) -> Option<&LinkOptions> {
        Some(&self.0)
    }

    fn rights(&self) -> &'static [(Capability, &'static str)] {
        &[(Capability::CAP_NET_RAW, "for a packet socket")]
    }

    fn examine(&self, port: &str, machine: &Machine, _: &[Option<usize>], found: &mut Findings) {
        let device = &self.0.device;
        // What /sys does not have may be there: it can be that of another network namespace.
        let state = machine.text(&format!("sys/class/net/{device}/operstate"));
        let there = sys::link(device);
        let up = match (&state, &there) {
            (Some(state), _) => matches!(&**state, "up" | "unknown"),
            (None, there) => there.as_ref().is_ok_and(|link| link.up),
        };
        let state = state.unwrap_or_else(|| match &there {
            Ok(link) if link.up => "up".into(),
            Ok(_) => "down".into(),
            Err(_) => "not there".into(),
        });
        let why = format!("the port is served on it: ip link set {device} up");
        let (what, state) = (format!("port {port:?}"), format!("{device} is {state}"));
        let verdict = Verdict::unless(up, Verdict::Fails);
        found.add(what, state, "a network device that is up", why, verdict).certain = there.is_err();
    }

    fn examine_address(&self, address: SocketAddr, _: &Machine) -> Result<(), AddressRefusal> {
        self.take_address(address).map(drop)
    }

    fn address_lock(&self, address: SocketAddr) -> Option<String> {
        Some(self.0.address_lock(address))
    }

    fn take_address(&self, address: SocketAddr) -> Result<TakenAddress, AddressRefusal> {
        self.0.lock(&self.0.address_lock(address)).map(TakenAddress::Lock)
    }

    fn start(&self, taken: PortAddresses, start: &mut PortsStart<'_>) -> io::Result<Vec<PortShare>> {
        let link = self.0.clone();
        Ok(start.alike(move |context| {
            let packet = Packet::open(&link, context.cores(), context.arena().clone())?;
            link.host(packet, &taken.addresses, context.arena())
        }))
    }
}

/// See the module.
pub struct Packet {
    socket: PacketSocket,
    arena: Arena,
    mac: [u8; 6],
    mtu: u16,
    offload: bool,
    /// The address is not the device's own.
    foreign: bool,
    /// A block that the next long frame is read into.
    spare: Option<SegMut>,
    ring_full: std::cell::Cell<u64>,
    lost: u64,
    not_sent: u64,
}

impl Packet {
    /// Opens one of so many queues, one per core, on a device that is there and up.
    pub fn open(link: &LinkOptions, queues: usize, arena: Arena) -> io::Result<Self> {
        let LinkOptions { device, mac, mtu, offload, promiscuous, .. } = link;
        let fail = |e: &io::Error| explain(e, device);
        let link = sys::link(device).map_err(|e| fail(&e))?;
        if !link.up {
            let message = format!("device {device:?} is down: ip link set {device} up");
            return Err(io::Error::new(io::ErrorKind::NetworkDown, message));
        }
        if let Some(mtu) = mtu.filter(|&mtu| mtu > link.mtu) {
            let message = format!("device {device:?} has an MTU of {}, not {mtu}", link.mtu);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        // The sockets of all cores find each other by a number that no other daemon is likely to have.
        let group = (queues > 1).then(|| (std::process::id() % 0xffff) as u16);
        let socket = PacketSocket::open(device, RING, group, *promiscuous).map_err(|e| fail(&e))?;
        let mut port = Self {
            socket,
            arena,
            mac: mac.unwrap_or(link.mac),
            mtu: mtu.unwrap_or(link.mtu),
            offload: *offload,
            foreign: mac.is_some_and(|mac| mac != link.mac),
            spare: None,
            ring_full: std::cell::Cell::new(0),
            lost: 0,
            not_sent: 0,
        };
        port.accept(&[]).map_err(|e| fail(&e))?;
        Ok(port)
    }

    /// A queue without a device: see [`PacketSocket::pretended`].
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn pretended(socket: PacketSocket, arena: Arena) -> Self {
        Self {
            socket,
            arena,
            mac: [2, 0, 0, 0, 0, 1],
            mtu: 1500,
            offload: true,
            foreign: false,
            spare: None,
            ring_full: std::cell::Cell::new(0),
            lost: 0,
            not_sent: 0,
        }
    }

    /// The ring, to be filled.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn socket(&mut self) -> &mut PacketSocket {
        &mut self.socket
    }

    /// The frame at the front of the ring. `None` when there is none, or no memory for it: then it stays where it is,
    /// and the kernel drops what it has no room for.
    fn read(&mut self) -> Option<RxFrame> {
        loop {
            let Waiting { vnet, bytes, vlan, long, lost } = self.socket.front()?;
            let checksum = vnet::checksum(vnet[0]);
            if lost {
                self.lost += 1;
            } else if long.is_some() {
                let mut block = self.spare.take().or_else(|| self.arena.alloc_reserved(FRAME_MAX))?;
                // Room for the tag before the frame: the vnet header is longer, and of no more use.
                let read = self.socket.read_long(block.bytes_mut());
                self.socket.release();
                if let Ok(len @ VNET..) = read {
                    let from = tag(block.bytes_mut(), VNET, vlan);
                    return Some(RxFrame { data: block.freeze().slice(from, len - from), checksum });
                }
                self.lost += 1;
                self.spare = Some(block);
                continue;
            } else if bytes.len() >= 14 {
                let mut block = self.arena.alloc_reserved(TAG + bytes.len())?;
                block.bytes_mut()[TAG..].copy_from_slice(bytes);
                let from = tag(block.bytes_mut(), TAG, vlan);
                let len = block.len() - from;
                self.socket.release();
                return Some(RxFrame { data: block.freeze().slice(from, len), checksum });
            }
            self.socket.release();
        }
    }
}

/// Puts a VLAN tag behind the addresses of the frame that begins at `at`, which moves them towards the front of the
/// block. Returns where the frame begins now.
fn tag(block: &mut [u8], at: usize, vlan: Option<[u8; TAG]>) -> usize {
    let Some(vlan) = vlan else { return at };
    let from = at - TAG;
    block.copy_within(at..at + 12, from);
    block[from + 12..from + 16].copy_from_slice(&vlan);
    from
}

fn explain(e: &io::Error, device: &str) -> io::Error {
    let why = match e.raw_os_error() {
        Some(libc::ENODEV) => "there is no network device of that name: see ip link".to_owned(),
        Some(libc::EPERM) => {
            "a packet socket needs CAP_NET_RAW: run as root, or give the daemon the capability".to_owned()
        }
        _ => e.to_string(),
    };
    io::Error::new(e.kind(), format!("device {device:?}: {why}"))
}

impl FramePort for Packet {
    fn caps(&self) -> FrameCaps {
        vnet::caps(self.mtu, self.offload)
    }

    fn mac(&self) -> [u8; 6] {
        self.mac
    }

    fn receive(&mut self, _: Instant, burst: &mut Vec<RxFrame>) -> usize {
        vnet::receive(burst, BURST_MAX, || self.read())
    }

    fn transmit(&mut self, _: Instant, burst: &mut VecDeque<TxFrame>) {
        self.not_sent += vnet::transmit(self.socket.as_raw_fd(), self.offload, burst);
    }

    fn accept(&mut self, addresses: &[[u8; 6]]) -> io::Result<()> {
        let own = self.foreign.then_some(self.mac);
        let all: Vec<_> = own.into_iter().chain(addresses.iter().copied()).collect();
        self.socket.accept(&all)
    }

    fn counters(&self) -> Vec<Counted> {
        self.ring_full.set(self.ring_full.get() + u64::from(self.socket.drops().ring_full));
        let counters = PacketCounters {
            dropped_ring_full: self.ring_full.get(),
            dropped_too_long: self.lost,
            dropped_sending: self.not_sent,
        };
        counters.counted().collect()
    }

    fn wake_fd(&self) -> Option<RawFd> {
        Some(self.socket.as_raw_fd())
    }
}
