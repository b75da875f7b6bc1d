// SPDX-License-Identifier: GPL-2.0-or-later
//! `[[portal]]`, and what ports must not have in common.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::sync::Arc;

use super::load::{Loader, Named};
use crate::adapters::iscsi::topology::{Portal, ZonedAddress};
use crate::options::Section;
use crate::ports::{ConfiguredPort, LinkOptions};
use crate::sys;

impl<'a> Loader<'a> {
    pub(super) fn portal(&self, s: Section<'a>, ports: &Named<ConfiguredPort>) -> Option<Portal> {
        Portal::read(s, |s, given| {
            let port = self.reference(s, "port", "port", ports);
            let port = ports.entries[port?].as_ref()?;
            let address = Self::portal_address(s, port, ports, given?)?;
            Some((port.name.as_str().into(), port.options.link().is_none(), address))
        })
    }

    /// The address of a portal, with the number of its link, if it is one of its port.
    fn portal_address(
        s: &Section<'_>,
        port: &ConfiguredPort,
        ports: &Named<ConfiguredPort>,
        (address, zone): ZonedAddress,
    ) -> Option<SocketAddr> {
        let (ip, name) = (address.ip(), &port.name);
        let has = |port: &ConfiguredPort| {
            port.options.link().is_some_and(|link| link.addresses.iter().any(|ours| ours.ip == ip))
        };
        let others = ports.entries.iter().flatten().find(|other| has(other));
        let (message, help) = match (port.options.link(), zone, ip) {
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
                Some(ConfiguredPort { name, .. }) => {
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

    pub(super) fn distinct_devices(&self, ports: &Named<ConfiguredPort>) {
        let mut devices = BTreeMap::new();
        let mut taken = BTreeMap::new();
        for (index, port) in ports.entries.iter().enumerate() {
            let Some(ConfiguredPort { name, options, .. }) = port else { continue };
            let Some(LinkOptions { device, addresses, .. }) = options.link() else { continue };
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
