// SPDX-License-Identifier: GPL-2.0-or-later
//! A network device whose frames are ours: what the drivers that have one have in common.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{self, UnixDatagram};
use std::sync::Arc;

use super::address::{AddressHolder, AddressRefusal};
use crate::machine;
use crate::memory::Arena;
use crate::net::{Address, FramePort, HostConfig, StreamHost, TcpHost, multicast_groups};
use crate::options::Absent::{Is, Means};
use crate::options::ValueKind::{Flag, Number, Text, Texts};
use crate::options::{Key, Section, key};

/// What a list of addresses contains.
pub(super) const ADDRESS: &str = "an address with a prefix length such as \"10.77.0.2/24\" or \"fd77::2/64\"";

/// The keys of all these drivers.
pub(super) const KEYS: &[Key] = &[
    key(
        "device",
        Text("a device"),
        Means("the name of the port"),
        "\"ptgt0\"",
        "Driver tap: the TAP device. It is created, and removed at the end, unless it exists already. \
         Driver packet: a network device that is up. Driver dpdk: a PCI address such as \"0000:3b:00.0\", \
         or a virtual device of DPDK with its arguments such as \"net_af_xdp0,iface=eth1\".",
    ),
    key(
        "mtu",
        Number(1280, 65521),
        Means("65521 for the driver tap, the device's own for packet, 1500 for dpdk"),
        "65521",
        "MTU. For a device in a bridge, the MTU of the network behind it, such as 1500 or 9000. Driver \
         packet: not above the device's own.",
    ),
    key(
        "mac",
        Text("a MAC address such as \"02:00:00:00:00:01\""),
        Means("the device's own; for the driver tap, derived from its name"),
        "\"02:70:74:67:74:01\"",
        "The daemon's MAC address. Driver packet: if it is not the device's own, the kernel ignores the \
         daemon's frames, but not every network lets a second address through.",
    ),
    key(
        "promiscuous",
        Flag,
        Is("false"),
        "",
        "Drivers packet and dpdk: also receive frames for other addresses.",
    ),
    key(
        "offload",
        Flag,
        Is("true"),
        "",
        "Leave checksums and segmentation to the device, or to the kernel at its other end. Not for the \
         driver kernel.",
    ),
    key(
        "address",
        Texts(ADDRESS),
        Is("[]"),
        "[\"10.77.0.2/24\", \"fd77::2/64\"]",
        "The daemon's IP addresses. No host may have them. A port without any has no TCP/IP and no portals: it is for \
             fabrics on Ethernet frames. Not for the driver kernel.",
    ),
];

/// Addresses, and where each stands in the file.
pub(super) type Placed = Vec<(Address, Range<usize>)>;

/// Such a device, and who we are there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkOptions {
    /// Name of the network device; for DPDK a PCI address or a virtual device with its arguments.
    pub device: String,
    /// MTU in bytes; `None`: as the driver has it.
    pub mtu: Option<u16>,
    /// Our MAC address; `None`: the device's own, or what the driver makes.
    pub mac: Option<[u8; 6]>,
    /// Our addresses.
    pub addresses: Vec<Address>,
    /// Whether checksums and segmentation are left to the device or to the other side.
    pub offload: bool,
    /// Whether the device hears what is sent to others.
    pub promiscuous: bool,
}

impl LinkOptions {
    /// Reads what the keys say of the port with a name, which its device has if it is given no other; `ours` are its
    /// addresses.
    pub(super) fn read(s: &Section<'_>, name: Option<&str>, ours: Option<Placed>) -> Option<Self> {
        let device = s.text("device").or_else(|| name.map(str::to_owned));
        let mtu = s.optional("mtu", |key| s.number(key));
        let mac = s.optional("mac", |key| s.parsed(key, mac_address));
        let (offload, promiscuous) = (s.flag("offload"), s.flag("promiscuous"));
        Some(Self {
            device: device?,
            mtu: mtu?,
            mac: mac?,
            addresses: plain(ours?),
            offload: offload?,
            promiscuous: promiscuous?,
        })
    }

    /// The same for a device of the kernel's.
    pub(super) fn of_kernel(s: &Section<'_>, name: Option<&str>, ours: Option<Placed>) -> Option<Self> {
        let link = Self::read(s, name, ours);
        let device = s.text("device").or_else(|| name.map(str::to_owned));
        if device.is_some_and(|device| !device_name(&device)) {
            let key = if s.given("device") { "device" } else { "name" };
            s.error(key, "is not the name of a network device", "1 to 15 characters, no '/', ':' or space");
        }
        link
    }

    /// A device that is used as it is, without TCP/IP.
    #[cfg(test)]
    pub(super) fn bare(device: &str) -> Self {
        let (mtu, mac, addresses) = (None, None, Vec::new());
        Self { device: device.into(), mtu, mac, addresses, offload: true, promiscuous: false }
    }

    /// Our own TCP/IP on a queue of it, which listens at some of our addresses.
    pub(super) fn host<P: FramePort + 'static>(
        &self,
        mut queue: P,
        listen: &[SocketAddr],
        arena: &Arena,
    ) -> io::Result<Box<dyn StreamHost>> {
        queue.accept(&multicast_groups(&self.addresses))?;
        let config = HostConfig::new(self.addresses.clone(), listen.to_vec());
        Ok(Box::new(TcpHost::new(queue, arena.clone(), &config)))
    }

    /// The abstract name that keeps two daemons from one address on the device; the kernel would let both answer.
    pub(super) fn address_lock(&self, address: SocketAddr) -> String {
        format!("ptgt/{}/{}", self.device, address.ip())
    }

    /// The same for all of its frames that are not IP: another daemon would hear them, too, or take some away.
    pub fn frames_lock(&self) -> String {
        format!("ptgt/{}", self.device)
    }

    /// Takes such a name, which the network namespace has once.
    pub fn lock(&self, name: &str) -> Result<Arc<UnixDatagram>, AddressRefusal> {
        let address = net::SocketAddr::from_abstract_name(name);
        let taken = address.and_then(|address| UnixDatagram::bind_addr(&address));
        taken.map(Arc::new).map_err(|e| {
            let found = match e.kind() {
                ErrorKind::AddrInUse => {
                    format!("address in use: another ptgt serves the device {:?}", self.device)
                }
                _ => format!("cannot be taken: {e}"),
            };
            let holder = AddressHolder::Sockets(machine::abstract_socket(name));
            AddressRefusal { found, help: "stop it first, or give another device".into(), holder }
        })
    }
}

/// Our addresses: none where TCP/IP is not served.
pub(super) fn addresses(s: &Section<'_>) -> Option<Placed> {
    s.texts("address", address)
}

/// An address with a prefix length.
pub(super) fn address(text: &str) -> Option<Address> {
    let (ip, prefix) = text.split_once('/')?;
    let ip: IpAddr = ip.parse().ok().filter(|ip: &IpAddr| ip.to_canonical() == *ip)?;
    let prefix: u8 = prefix.parse().ok()?;
    let max = if ip.is_ipv4() { 32 } else { 128 };
    let usable = prefix <= max && !ip.is_unspecified() && !ip.is_multicast() && !ip.is_loopback();
    usable.then_some(Address { ip, prefix })
}

/// Addresses without their places.
pub(super) fn plain(placed: Placed) -> Vec<Address> {
    placed.into_iter().map(|(address, _)| address).collect()
}

/// A name that Linux gives a network device (dev_valid_name of the kernel).
fn device_name(name: &str) -> bool {
    let bad = |c: char| c.is_whitespace() || matches!(c, '/' | ':');
    !name.is_empty() && name.len() <= 15 && !name.contains(bad) && name != "." && name != ".."
}

/// A MAC address of a host.
fn mac_address(text: &str) -> Option<[u8; 6]> {
    let mut mac = [0; 6];
    let mut parts = text.split([':', '-']);
    for byte in &mut mac {
        *byte =
            parts.next().filter(|part| part.len() == 2).and_then(|part| u8::from_str_radix(part, 16).ok())?;
    }
    let usable = parts.next().is_none() && mac[0] & 1 == 0 && mac != [0; 6];
    usable.then_some(mac)
}
