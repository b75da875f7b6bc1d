// SPDX-License-Identifier: GPL-2.0-or-later
//! `[[portal]]`: the addresses of ports at which iSCSI listens.

use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::sync::Arc;

use super::topology::{Portal, ZonedAddress};
use crate::options::{Named, Section};
use crate::ports::ConfiguredPort;
use crate::sys;

/// Reads one.
pub(super) fn portal(s: Section<'_>, ports: &Named<'_, ConfiguredPort>) -> Option<Arc<Portal>> {
    let portal = Portal::read(s, |s, given| {
        let port = ports.get(ports.reference(s, "port", "port")?)?;
        let address = portal_address(s, port, ports, given?)?;
        Some((port.name.as_str().into(), port.options.link().is_none(), address))
    });
    portal.map(Arc::new)
}

/// The address of a portal, with the number of its link, if it is one of its port.
fn portal_address(
    s: &Section<'_>,
    port: &ConfiguredPort,
    ports: &Named<'_, ConfiguredPort>,
    (address, zone): ZonedAddress,
) -> Option<SocketAddr> {
    let (ip, name) = (address.ip(), &port.name);
    let has = |port: &ConfiguredPort| {
        port.options.link().is_some_and(|link| link.addresses.iter().any(|ours| ours.ip == ip))
    };
    let others = ports.known().map(|(_, other)| other).find(|other| has(other));
    let (message, help) = match (port.options.link(), zone, ip) {
        (Some(_), Some(_), _) => {
            let help = format!("the port {name:?} is its link: leave out what is behind '%'");
            (format!("{ip} has a zone"), help)
        }
        (Some(_), ..) if has(port) => return Some(address),
        (Some(link), ..) => {
            let known: Vec<String> = link.addresses.iter().map(|a| a.ip.to_string()).collect();
            let help = match known.is_empty() {
                true => format!("it has none: give it `address`, as in \"{ip}/24\""),
                false => format!("its addresses are {}", known.join(", ")),
            };
            (format!("{ip} is not an address of the port {name:?}"), help)
        }
        (None, None, IpAddr::V6(v6)) if v6.is_unicast_link_local() => {
            let help = format!("name its network device, as in \"[{ip}%eth0]:{}\"", address.port());
            (format!("{ip} is link-local, but its link is not named"), help)
        }
        (None, Some(zone), IpAddr::V6(v6)) if v6.is_unicast_link_local() => match sys::zone_index(&zone) {
            Some(index) => return Some(SocketAddrV6::new(v6, address.port(), 0, index).into()),
            None => (format!("there is no network device {zone:?}"), "ip link lists them".to_owned()),
        },
        (None, Some(_), _) => (format!("{ip} is not link-local"), "leave out what is behind '%'".to_owned()),
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
pub(super) fn distinct_addresses(portals: &Named<'_, Arc<Portal>>) {
    for (index, portal) in portals.known() {
        let address = portal.address;
        let meets = |other: &Portal| {
            let all = [address, other.address].iter().any(|address| address.ip().is_unspecified());
            let of_all = all && address.is_ipv4() == other.address.is_ipv4();
            let both = portal.of_host && other.of_host;
            address == other.address || of_all && both && address.port() == other.address.port()
        };
        let mut earlier = portals.known().take_while(|(other, _)| *other < index);
        let Some((number, other)) = earlier.find(|(_, other)| meets(other)) else { continue };
        let whose = format!("the portal {:?} (line {})", other.name, portals.line(number));
        let (message, help) = match other.address == address {
            true => (format!("{address} already belongs to {whose}"), "a portal may serve several targets"),
            false => (
                format!("{address} overlaps with {} of {whose}", other.address),
                "an address belongs to one portal: give one of them another TCP port, or leave it out",
            ),
        };
        portals.error(index, message, help);
    }
}
