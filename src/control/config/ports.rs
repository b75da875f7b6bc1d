// SPDX-License-Identifier: GPL-2.0-or-later
//! `[[port]]` and `[[portal]]`: where initiators come in.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::ops::Range;
use std::sync::Arc;

use super::load::{Loader, Named};
use super::model::{Driver, Link, Port};
use crate::adapters::iscsi::topology::{Portal, ZonedAddress};
use crate::net::Address;
use crate::options::Section;
use crate::sys;

/// Most that a device of a real network carries.
const DPDK_MTU_MAX: u16 = 9700;

/// Addresses, and where each stands in the file.
type Placed = Vec<(Address, Range<usize>)>;

impl<'a> Loader<'a> {
    pub(super) fn port(&self, s: Section<'a>) -> Option<Port> {
        #[derive(Clone, Copy)]
        enum DriverWord {
            Tap,
            Packet,
            Dpdk,
            Kernel,
        }
        let name = s.text("name");
        let driver = match s
            .word("driver", &[DriverWord::Tap, DriverWord::Packet, DriverWord::Dpdk, DriverWord::Kernel])
        {
            // Which keys belong here is unknown.
            None => return None,
            Some(DriverWord::Kernel) => Some(Driver::Kernel),
            Some(DriverWord::Tap) => Self::tap(&s, name.as_deref()),
            Some(DriverWord::Packet) => {
                let ours = Self::addresses(&s);
                Self::link(&s, name.as_deref(), ours, true).map(Driver::Packet)
            }
            Some(DriverWord::Dpdk) => Self::dpdk_port(&s, name.as_deref()),
        };
        s.finish();
        Some(Port { name: name?, driver: driver? })
    }

    /// What all ports with frames have.
    fn link(s: &Section<'_>, name: Option<&str>, ours: Option<Placed>, of_kernel: bool) -> Option<Link> {
        let device = s.text("device").or_else(|| name.map(str::to_owned));
        if of_kernel && device.as_deref().is_some_and(|device| !device_name(device)) {
            let key = if s.given("device") { "device" } else { "name" };
            s.error(key, "is not the name of a network device", "1 to 15 characters, no '/', ':' or space");
        }
        let mtu = if s.given("mtu") { s.number("mtu").map(Some) } else { Some(None) };
        let mac = if s.given("mac") { s.parsed("mac", mac_address).map(Some) } else { Some(None) };
        let (offload, promiscuous) = (s.flag("offload"), s.flag("promiscuous"));
        Some(Link {
            device: device?,
            mtu: mtu?,
            mac: mac?,
            addresses: plain(ours?),
            offload: offload?,
            promiscuous: promiscuous?,
        })
    }

    /// Our addresses.
    fn addresses(s: &Section<'_>) -> Option<Placed> {
        let ours = s.texts("address", address);
        if !s.given("address") {
            s.missing("address");
        } else if ours.as_ref().is_some_and(Vec::is_empty) {
            s.error("address", "has no entry", "a port with frames needs at least one address");
        }
        ours
    }

    fn tap(s: &Section<'_>, name: Option<&str>) -> Option<Driver> {
        let ours = Self::addresses(s);
        let hosts = s.texts("host_address", address);
        if let (Some(ours), Some(hosts)) = (&ours, &hosts) {
            Self::host_addresses(s, ours, hosts);
        }
        let link = Self::link(s, name, ours, true);
        Some(Driver::Tap { link: link?, host_addresses: plain(hosts?) })
    }

    fn dpdk_port(s: &Section<'_>, name: Option<&str>) -> Option<Driver> {
        if !cfg!(feature = "dpdk") {
            let help = "build with: cargo build --release --features dpdk";
            s.error("driver", "this ptgt was built without DPDK", help);
        }
        if !s.given("device") {
            s.missing("device");
        }
        let ours = Self::addresses(s);
        let link = Self::link(s, name, ours, false)?;
        if link.device.is_empty() || link.device.contains(|c: char| c.is_whitespace()) {
            s.error("device", "is not a device", "a PCI address, or a virtual device with its arguments");
        }
        if link.mtu.is_some_and(|mtu| mtu > DPDK_MTU_MAX) {
            s.error("mtu", format!("is above {DPDK_MTU_MAX}"), "that of the network, such as 1500 or 9000");
        }
        Some(Driver::Dpdk(link))
    }

    /// The host's side reaches ours only from an address of its own in the same network.
    fn host_addresses(s: &Section<'_>, ours: &[(Address, Range<usize>)], hosts: &[(Address, Range<usize>)]) {
        for (host, span) in hosts {
            let (message, help) = if ours.iter().any(|(our, _)| our.ip == host.ip) {
                (format!("{} is also in `address`", host.ip), "the host needs an address of its own")
            } else if !ours.iter().any(|(our, _)| our.contains(host.ip) && host.contains(our.ip)) {
                (format!("{} is in no network of `address`", host.ip), "the host would not reach the daemon")
            } else {
                continue;
            };
            s.error_at(span.clone(), "host_address", message, help);
        }
    }

    pub(super) fn portal(&self, s: Section<'a>, ports: &Named<Port>) -> Option<Portal> {
        Portal::read(s, |s, given| {
            let port = self.reference(s, "port", "port", ports);
            let port = ports.entries[port?].as_ref()?;
            let address = Self::portal_address(s, port, ports, given?)?;
            Some((port.name.as_str().into(), port.driver.link().is_none(), address))
        })
    }

    /// The address of a portal, with the number of its link, if it is one of its port.
    fn portal_address(
        s: &Section<'_>,
        port: &Port,
        ports: &Named<Port>,
        (address, zone): ZonedAddress,
    ) -> Option<SocketAddr> {
        let (ip, name) = (address.ip(), &port.name);
        let has = |port: &Port| {
            port.driver.link().is_some_and(|link| link.addresses.iter().any(|ours| ours.ip == ip))
        };
        let others = ports.entries.iter().flatten().find(|other| has(other));
        let (message, help) = match (port.driver.link(), zone, ip) {
            (Some(_), Some(_), _) => {
                let help = format!("the port {name:?} is its link: leave out what is behind '%'");
                (format!("{ip} has a zone"), help)
            }
            (Some(_), ..) if has(port) => return Some(address),
            (Some(link), ..) => {
                let known: Vec<String> = link.addresses.iter().map(|a| a.ip.to_string()).collect();
                let help = format!("its addresses are {}", known.join(", "));
                (format!("{ip} is not an address of the port {name:?}"), help)
            }
            (None, None, IpAddr::V6(v6)) if v6.is_unicast_link_local() => {
                let help = format!("name its network device, as in \"[{ip}%eth0]:{}\"", address.port());
                (format!("{ip} is link-local, but its link is not named"), help)
            }
            (None, Some(zone), IpAddr::V6(v6)) if v6.is_unicast_link_local() => {
                match sys::zone_index(&zone) {
                    Some(index) => return Some(SocketAddrV6::new(v6, address.port(), 0, index).into()),
                    None => (format!("there is no network device {zone:?}"), "ip link lists them".to_owned()),
                }
            }
            (None, Some(_), _) => {
                (format!("{ip} is not link-local"), "leave out what is behind '%'".to_owned())
            }
            (None, None, _) => match others {
                Some(Port { name, .. }) => {
                    let message = format!("{ip} is an address of the port {name:?}, not of the host");
                    (message, format!("give port = {name:?}"))
                }
                None => return Some(address),
            },
        };
        s.error("address", message, help);
        None
    }

    /// Where a connection comes in is one portal.
    pub(super) fn distinct_addresses(&self, portals: &Named<Arc<Portal>>) {
        let known = portals.entries.iter().zip(&portals.spans);
        for (index, portal) in portals.entries.iter().enumerate() {
            let Some(portal) = portal else { continue };
            let address = portal.address;
            let meets = |other: &Portal| {
                let all = [address, other.address].iter().any(|address| address.ip().is_unspecified());
                let of_all = all && address.is_ipv4() == other.address.is_ipv4();
                let both = portal.of_host && other.of_host;
                address == other.address || of_all && both && address.port() == other.address.port()
            };
            let mut earlier =
                known.clone().take(index).filter_map(|(other, span)| Some((other.as_ref()?, span)));
            let Some((other, span)) = earlier.find(|(other, _)| meets(other)) else { continue };
            let whose = format!("the portal {:?} (line {})", other.name, self.errors.line(span.start));
            let (message, help) = match other.address == address {
                true => {
                    (format!("{address} already belongs to {whose}"), "a portal may serve several targets")
                }
                false => (
                    format!("{address} overlaps with {} of {whose}", other.address),
                    "an address belongs to one portal: give one of them another TCP port, or leave it out",
                ),
            };
            self.errors.add(portals.spans[index].clone(), &portals.paths[index], message, help);
        }
    }

    pub(super) fn distinct_devices(&self, ports: &Named<Port>) {
        let mut devices = BTreeMap::new();
        let mut taken = BTreeMap::new();
        for (index, port) in ports.entries.iter().enumerate() {
            let Some(Port { name, driver }) = port else { continue };
            let Some(Link { device, addresses, .. }) = driver.link() else { continue };
            // Arguments of a virtual device come behind its name.
            let device = device.split(',').next().unwrap_or(device);
            let at = (ports.spans[index].clone(), &ports.paths[index]);
            if let Some(other) = devices.insert(device, name) {
                let message = format!("device {device:?} already belongs to the port {other:?}");
                self.errors.add(at.0.clone(), at.1, message, "each port has a device of its own");
            }
            for address in addresses {
                if let Some(other) = taken.insert(address.ip, name) {
                    let message = format!("{} is already an address of the port {other:?}", address.ip);
                    self.errors.add(at.0.clone(), at.1, message, "each address is given once");
                }
            }
        }
    }
}

/// A name that Linux gives a network device (dev_valid_name of the kernel).
fn device_name(name: &str) -> bool {
    let bad = |c: char| c.is_whitespace() || matches!(c, '/' | ':');
    !name.is_empty() && name.len() <= 15 && !name.contains(bad) && name != "." && name != ".."
}

/// An address with a prefix length.
fn address(text: &str) -> Option<Address> {
    let (ip, prefix) = text.split_once('/')?;
    let ip: IpAddr = ip.parse().ok().filter(|ip: &IpAddr| ip.to_canonical() == *ip)?;
    let prefix: u8 = prefix.parse().ok()?;
    let max = if ip.is_ipv4() { 32 } else { 128 };
    let usable = prefix <= max && !ip.is_unspecified() && !ip.is_multicast() && !ip.is_loopback();
    usable.then_some(Address { ip, prefix })
}

fn plain(placed: Placed) -> Vec<Address> {
    placed.into_iter().map(|(address, _)| address).collect()
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
