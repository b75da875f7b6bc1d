// SPDX-License-Identifier: GPL-2.0-or-later
//! What is exported where and to whom: an immutable snapshot that all cores read. A reload publishes a new one.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::sessions::Limits;
use crate::adapters::fabric::FabricAddress;
use crate::fabrics::iscsi::{
    Admission, Authentication, ConnectionOrigin, Denial, Directory, LoginStatus, Parameters, Visitor,
};
use crate::net::Address;
use crate::options::Absent::{Is, Means, Required};
use crate::options::ValueKind::{Flag, Number, Numbers, Text, Texts};
use crate::options::{Section, Table, key};
use crate::scsi::UnitKey;
use crate::scsi::{Lun, TargetPort};
use crate::sys;
use crate::wire::iscsi::{check_name, normal_name};

/// An address at which initiators may connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Portal {
    /// Its name in the config.
    pub name: Arc<str>,
    /// Name of the port that listens there.
    pub port: Arc<str>,
    /// Whether the address is one of the host's, which all ports of the kernel's TCP have in common, and not the port's
    /// own.
    pub of_host: bool,
    /// Address and TCP port; a wildcard address stands for all of the host's that are of its family.
    pub address: SocketAddr,
    /// Target portal group tag.
    pub group: u16,
}

/// An address, and its zone (RFC 4007 11).
pub type ZonedAddress = (SocketAddr, Option<String>);

impl Portal {
    /// Its table of keys.
    pub const TABLE: &Table = &Table {
        doc: "An address at which initiators may connect.",
        groups: &[&[
            key("name", Text("a name"), Required, "\"main\"", "Its name in `portals` of targets."),
            key(
                "port",
                Text("the name of a [[port]]"),
                Required,
                "\"lab0\"",
                "The port that has the address.",
            ),
            key(
                "address",
                Text(
                    "an address and a TCP port such as \"10.77.0.2:3260\", \"[fd77::2]:3260\" or \"[fe80::2%eth0]:3260\"",
                ),
                Required,
                "\"10.77.0.2:3260\"",
                "One of the port's addresses; for the driver kernel an address of the host, or 0.0.0.0 or \
                 [::] for all of its IPv4 or IPv6 addresses. A link-local address of the host ends with % \
                 and the name of its network device. No two portals share an address.",
            ),
            key("group", Number(1, 65535), Is("1"), "", "Target portal group tag."),
        ]],
    };

    /// Reads one. `find` looks for the port that it names, and whether the address is one of it: the name of the port,
    /// whether its addresses are the host's, and the address with the number of its link.
    pub fn read(
        s: Section<'_>,
        find: impl FnOnce(&Section<'_>, Option<ZonedAddress>) -> Option<(Arc<str>, bool, SocketAddr)>,
    ) -> Option<Self> {
        let name = s.text("name");
        let found = find(&s, s.parsed("address", zoned_address));
        let group = s.number("group");
        s.finish();
        let (port, of_host, address) = found?;
        Some(Self { name: name?.into(), port, of_host, address, group: group? })
    }

    /// Whether addresses of both are on the same network.
    fn is_beside(&self, other: &Self) -> bool {
        self.port == other.port || self.of_host && other.of_host
    }

    /// The address that it takes of its port.
    pub fn taken(&self) -> FabricAddress<'_> {
        FabricAddress { portal: &self.name, port: &self.port, address: self.address }
    }

    /// Whether it is the other's listener that it has, whatever else is said of it.
    pub fn is_at(&self, other: &Self) -> bool {
        self.taken() == other.taken()
    }
}

/// An address and a TCP port. IPv4 in the form of IPv6 is IPv4.
fn zoned_address(text: &str) -> Option<ZonedAddress> {
    let (plain, zone) = match text.split_once('%') {
        Some((ip, rest)) => {
            let (zone, port) = rest.rsplit_once("]:")?;
            (format!("{ip}]:{port}"), Some(zone.to_owned()))
        }
        None => (text.to_owned(), None),
    };
    let address: SocketAddr = plain.parse().ok()?;
    let ip = address.ip().to_canonical();
    let usable = address.port() != 0 && !ip.is_multicast();
    usable.then(|| (SocketAddr::new(ip, address.port()), zone))
}

/// Of an address that means something on its own link or inside its own host alone, which that is; `None` for others.
fn scope(address: SocketAddr) -> Option<u32> {
    match address {
        SocketAddr::V6(address) if address.ip().is_unicast_link_local() => Some(address.scope_id()),
        address => address.ip().is_loopback().then_some(u32::MAX),
    }
}

/// Who may use a target, and what of it. All conditions that are given must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessRule {
    /// iSCSI names of initiators; a `*` at the end stands for any rest.
    pub initiators: Option<Vec<String>>,
    /// Networks of initiators.
    pub addresses: Option<Vec<Address>>,
    /// CHAP accounts.
    pub users: Option<Vec<String>>,
    /// Logical units that it opens; all without it.
    pub luns: Option<Vec<Lun>>,
}

impl AccessRule {
    /// Its table of keys.
    pub const TABLE: &Table = &Table {
        doc: "A rule that gives access to initiators that meet all of its conditions. With several rules, \
             an initiator may use what any of them allows.",
        groups: &[&[
            key(
                "initiators",
                Texts("an iSCSI name, or its beginning and a \"*\""),
                Means("all"),
                "[\"iqn.2026-11.com.example:host1\", \"iqn.2026-11.com.example.lab:*\"]",
                "Names of initiators, in upper or lower case. Anybody can claim a name; only an account \
                 proves it.",
            ),
            key(
                "addresses",
                Texts("an address, or a network such as \"10.77.0.0/24\""),
                Means("all"),
                "[\"10.77.0.0/24\", \"fd77::1\"]",
                "Addresses of initiators.",
            ),
            key(
                "accounts",
                Texts("the name of an [[account]]"),
                Means("all"),
                "[\"lab\"]",
                "Accounts of initiators.",
            ),
            key(
                "luns",
                Numbers(16383),
                Means("all"),
                "[0]",
                "The LUNs that they may use. Others do not exist for them.",
            ),
        ]],
    };

    /// Reads one. Whoever asks looks after the accounts and LUNs that it names, and for keys that do not belong there.
    pub fn read(s: &Section<'_>) -> Option<Self> {
        let plain = |list: Vec<(String, _)>| list.into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        // Patterns, too: what begins with a part of a name begins with that part in its normal spelling.
        let initiators = s.texts("initiators", |text| Some(normal_name(text)));
        for (name, span) in initiators.iter().flatten() {
            // With a `*` at the end, the rest of the name is missing, and nothing can be said about it.
            if !name.ends_with('*')
                && let Err(why) = check_name(name)
            {
                let help = "such as \"iqn.2026-11.com.example:host1\", or the beginning of a name and a `*`";
                s.error_at(span.clone(), "initiators", format!("is not an iSCSI name: {why}"), help);
            }
        }
        let addresses = s.texts("addresses", network);
        let users = s.texts("accounts", |text| Some(text.to_owned()));
        let luns = s.numbers("luns");
        let lun = |(lun, _): (u64, _)| u16::try_from(lun).ok().map(Lun::from_index);
        Some(Self {
            initiators: initiators.map(plain),
            addresses: addresses.map(|list| list.into_iter().map(|(network, _)| network).collect()),
            users: users.map(plain),
            luns: luns.map(|list| list.into_iter().filter_map(lun).collect()),
        })
    }

    /// Whether it is about an initiator, as far as names and addresses tell.
    fn names(&self, visitor: &Visitor<'_>) -> bool {
        let named = |pattern: &String| match pattern.strip_suffix('*') {
            Some(start) => visitor.initiator.starts_with(start),
            None => visitor.initiator == pattern,
        };
        let peer = visitor.origin.peer.ip().to_canonical();
        self.initiators.as_ref().is_none_or(|patterns| patterns.iter().any(named))
            && self.addresses.as_ref().is_none_or(|all| all.iter().any(|network| network.contains(peer)))
    }

    fn applies(&self, visitor: &Visitor<'_>) -> bool {
        let is_user = |users: &Vec<String>| users.iter().any(|user| visitor.user == Some(user));
        self.names(visitor) && self.users.as_ref().is_none_or(is_user)
    }
}

/// An address with a prefix length, or an address alone.
fn network(text: &str) -> Option<Address> {
    let (ip, prefix) = text.split_once('/').map_or((text, None), |(ip, prefix)| (ip, Some(prefix)));
    let ip: IpAddr = ip.parse().ok()?;
    let max = if ip.is_ipv4() { 32 } else { 128 };
    let prefix = prefix.map_or(Some(max), |prefix| prefix.parse().ok().filter(|prefix| *prefix <= max))?;
    Some(Address { ip, prefix })
}

/// Where initiators are sent instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// Those that come through a portal of this group; without it, all.
    pub group: Option<u16>,
    /// For good.
    pub permanently: bool,
    /// Host and port, as in TargetAddress.
    pub address: String,
}

impl Redirect {
    /// Its table of keys.
    pub const TABLE: &Table = &Table {
        doc: "Sends initiators that log in to a target elsewhere.",
        groups: &[&[
            key(
                "address",
                Text("a host or address and a TCP port"),
                Required,
                "\"10.77.0.3:3260\"",
                "Where to.",
            ),
            key("permanent", Flag, Is("false"), "", "The target has moved permanently."),
            key("group", Number(1, 65535), Means("all of them"), "2", "Only through portals of this group."),
        ]],
    };

    /// Reads one.
    pub fn read(s: Section<'_>) -> Option<Self> {
        let address = s.parsed("address", |text| {
            let (host, port) = text.rsplit_once(':')?;
            let bracketed = host.starts_with('[') && host.ends_with(']');
            let usable = !host.is_empty() && (bracketed || !host.contains(':')) && !host.contains([',', '%']);
            (usable && port.parse::<u16>().is_ok_and(|port| port != 0)).then(|| text.to_owned())
        });
        let permanently = s.flag("permanent");
        let group = s.number("group");
        s.finish();
        Some(Self { group, permanently: permanently?, address: address? })
    }
}

/// An iSCSI target.
#[derive(Clone, Debug)]
pub struct Target {
    /// Its iSCSI name.
    pub name: String,
    /// Its alias.
    pub alias: Option<String>,
    /// What it negotiates.
    pub parameters: Arc<Parameters>,
    /// How initiators must authenticate themselves.
    pub authentication: Option<Arc<Authentication>>,
    /// Who may use it; everybody if there is no rule.
    pub access: Vec<AccessRule>,
    /// Where initiators are sent.
    pub redirects: Vec<Redirect>,
    /// How much it serves.
    pub limits: Limits,
    /// The portals through which it is reached.
    pub portals: Vec<Arc<Portal>>,
    /// Its SCSI target ports, one for each portal group tag of its portals.
    pub ports: Vec<Arc<TargetPort>>,
    /// Its logical units, in ascending order of LUN.
    pub luns: Vec<(Lun, UnitKey)>,
}

impl Target {
    /// The target port of a portal group.
    pub fn port(&self, tag: u16) -> Arc<TargetPort> {
        let known = self.ports.iter().find(|port| port.group == tag);
        known.cloned().unwrap_or_else(|| Arc::new(TargetPort::iscsi(u16::MAX, &self.name, tag)))
    }

    fn is_open(&self, allows: impl Fn(&AccessRule) -> bool) -> bool {
        self.access.is_empty() || self.access.iter().any(allows)
    }

    /// The logical units that an initiator sees; the others do not exist for it.
    pub fn units(&self, visitor: &Visitor<'_>) -> Vec<(Lun, UnitKey)> {
        let opens = |rule: &AccessRule, lun| rule.luns.as_ref().is_none_or(|luns| luns.contains(&lun));
        let seen =
            |&&(lun, _): &&(Lun, UnitKey)| self.is_open(|rule| rule.applies(visitor) && opens(rule, lun));
        self.luns.iter().filter(seen).copied().collect()
    }
}

/// The snapshot.
#[derive(Clone, Debug, Default)]
pub struct Topology {
    /// All portals.
    pub portals: Vec<Arc<Portal>>,
    /// All targets.
    pub targets: Vec<Target>,
    /// How initiators must authenticate themselves for discovery.
    pub discovery: Option<Arc<Authentication>>,
}

impl Topology {
    /// The target of that name.
    pub fn target(&self, name: &str) -> Option<&Target> {
        self.targets.iter().find(|target| target.name == name)
    }

    /// The portals of a port.
    pub fn portals_of(&self, port: &str) -> impl Iterator<Item = &Arc<Portal>> {
        self.portals.iter().filter(move |portal| *portal.port == *port)
    }

    /// What a connection sees from now on that was let in to `target` while `before` was in force. The error says why
    /// it must not stay.
    pub fn review(
        &self,
        before: &Self,
        target: &str,
        visitor: &Visitor<'_>,
    ) -> Result<Vec<(Lun, UnitKey)>, &'static str> {
        let now = self.target(target).ok_or("the target is gone")?;
        let came_by = |portal: &&Arc<Portal>| portal.name == visitor.origin.portal;
        let portal = now.portals.iter().find(came_by).ok_or("the target has left the portal")?;
        let was = before.portals.iter().find(came_by).ok_or("its portal is another")?;
        if !was.is_at(portal) || was.group != portal.group {
            return Err("its portal is another");
        }
        if !now.is_open(|rule| rule.applies(visitor)) {
            return Err("no access rule of the target is for it any more");
        }
        if let Some(wanted) = &now.authentication {
            let user = visitor.user.ok_or("the target wants authentication now")?;
            let of = |all: &Authentication| all.accounts.iter().find(|account| account.name == user).cloned();
            let was = before.target(target).and_then(|target| of(target.authentication.as_ref()?));
            if was.is_none() || was != of(wanted) {
                return Err("its account is not what it was");
            }
        }
        Ok(now.units(visitor))
    }

    /// How a visitor finds the address at which a portal is reached by it, as far as is known.
    fn reached(&self, origin: &ConnectionOrigin) -> impl Fn(&Portal) -> Option<SocketAddr> {
        let local = origin.local;
        let came_by = self.portals.iter().find(|portal| portal.name == origin.portal);
        move |portal| {
            let address = portal.address;
            let beside = came_by.is_some_and(|came_by| portal.is_beside(came_by));
            if address.ip().is_unspecified() {
                // It listens at the address that was reached, too, if that is of its family.
                let there = beside && address.is_ipv4() == local.is_ipv4();
                return there.then(|| SocketAddr::new(local.ip(), address.port()));
            }
            let near = |wanted| beside && scope(local) == Some(wanted);
            scope(address).is_none_or(near).then_some(address)
        }
    }
}

impl Directory for Topology {
    fn discover(&self, visitor: &Visitor<'_>, found: &mut dyn FnMut(&str, SocketAddr, u16)) {
        let reached = self.reached(visitor.origin);
        // By which account it will log in is not known yet.
        for target in self.targets.iter().filter(|target| target.is_open(|rule| rule.names(visitor))) {
            for portal in &target.portals {
                if let Some(address) = reached(portal) {
                    found(&target.name, address, portal.group);
                }
            }
        }
    }

    fn admit(&self, visitor: &Visitor<'_>, target: Option<&str>) -> Result<Admission, Denial> {
        let Some(target) = target else {
            return Ok(Admission {
                portal_group: 0,
                alias: None,
                parameters: Arc::new(Parameters::default()),
                authentication: self.discovery.clone(),
            });
        };
        const UNKNOWN: Denial = Denial::Refused(LoginStatus::NotFound, "no such target at this portal");
        let target = self.target(target).ok_or(UNKNOWN)?;
        let came_by = |portal: &&Arc<Portal>| portal.name == visitor.origin.portal;
        let group = target.portals.iter().find(came_by).ok_or(UNKNOWN)?.group;
        if !target.is_open(|rule| rule.names(visitor)) {
            let why = "no access rule of the target is for this initiator name and address";
            return Err(Denial::Refused(LoginStatus::AuthorizationFailure, why));
        }
        let redirect = target.redirects.iter().find(|redirect| redirect.group.is_none_or(|of| of == group));
        if let Some(Redirect { permanently, address, .. }) = redirect {
            return Err(Denial::Moved { permanently: *permanently, address: address.clone() });
        }
        Ok(Admission {
            portal_group: group,
            alias: target.alias.clone(),
            parameters: target.parameters.clone(),
            authentication: target.authentication.clone(),
        })
    }

    fn authorize(&self, visitor: &Visitor<'_>, target: Option<&str>) -> bool {
        let Some(name) = target else { return true };
        self.target(name).is_some_and(|target| target.is_open(|rule| rule.applies(visitor)))
    }

    fn random(&self, bytes: &mut [u8]) -> bool {
        sys::random(bytes).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fabrics::iscsi::{Account, Secret};

    fn target(access: Vec<AccessRule>) -> Target {
        Target {
            name: "iqn.2026-11.test:t".into(),
            alias: None,
            parameters: Arc::default(),
            authentication: None,
            access,
            redirects: Vec::new(),
            limits: Limits::default(),
            portals: Vec::new(),
            ports: Vec::new(),
            luns: (0..4).map(|lun| (Lun::from_index(lun), UnitKey(u64::from(lun) + 1))).collect(),
        }
    }

    /// The target, which is reached through the first two of three portals.
    fn topology(target: Target) -> Topology {
        let addresses = ["10.0.0.1:3260", "[2001:db8::1]:3260", "0.0.0.0:3261"];
        let portals: Vec<_> =
            addresses.iter().zip(1..).map(|(address, group)| portal("host", true, address, group)).collect();
        let target = Target { portals: portals[..2].to_vec(), ..target };
        Topology { portals, targets: vec![target], discovery: None }
    }

    /// A portal that is named by its group.
    fn portal(port: &str, of_host: bool, address: &str, group: u16) -> Arc<Portal> {
        let (name, address) = (group.to_string().into(), address.parse().unwrap());
        Arc::new(Portal { name, port: port.into(), of_host, address, group })
    }

    fn came(portal: &str, local: &str, peer: &str) -> ConnectionOrigin {
        let peer = SocketAddr::new(peer.parse().unwrap(), 40_000);
        ConnectionOrigin { portal: portal.into(), local: local.parse().unwrap(), peer }
    }

    /// Somebody who has come to the first portal.
    fn from(peer: &str) -> ConnectionOrigin {
        came("1", "10.0.0.1:3260", peer)
    }

    /// Somebody who has come to the portal of a group at an address.
    fn at(group: u16, local: &str) -> ConnectionOrigin {
        came(&group.to_string(), local, "10.9.0.1")
    }

    fn anybody(origin: &ConnectionOrigin) -> Visitor<'_> {
        Visitor { initiator: "iqn.2026-11.lab:a", origin, user: None }
    }

    /// Portals of each kind, each in a group of its own: the host's, those of a network device, those of another port
    /// of the host.
    fn of_each_kind() -> Topology {
        let addresses = [
            ("host", true, "0.0.0.0:3260"),
            ("host", true, "[::]:3260"),
            ("host", true, "10.0.0.1:3261"),
            ("host", true, "[2001:db8::1]:3261"),
            ("host", true, "[fe80::1%3]:3261"),
            ("host", true, "127.0.0.1:3262"),
            ("device", false, "10.78.0.2:3260"),
            ("device", false, "[fe80::2]:3260"),
            ("another", true, "0.0.0.0:3263"),
        ];
        let portals = addresses.iter().zip(1..);
        let portals: Vec<Arc<Portal>> =
            portals.map(|(&(port, of_host, address), group)| portal(port, of_host, address, group)).collect();
        let own = |portal: &Arc<Portal>| Target {
            name: format!("own{}", portal.name),
            portals: vec![portal.clone()],
            ..target(Vec::new())
        };
        let mut targets: Vec<Target> = portals.iter().map(own).collect();
        targets.push(Target { name: "all".into(), portals: portals.clone(), ..target(Vec::new()) });
        Topology { portals, targets, discovery: None }
    }

    #[test]
    fn whose_a_connection_is_the_listener_says_and_no_address() {
        let topology = of_each_kind();
        let ports = ["host", "device", "another"];
        let found: Vec<u16> =
            ports.iter().flat_map(|port| topology.portals_of(port)).map(|portal| portal.group).collect();
        assert_eq!(found, Vec::from_iter(1..=9));
        let locals: Vec<String> = topology.portals.iter().map(|portal| portal.address.to_string()).collect();
        for (portal, local) in
            found.iter().flat_map(|portal| locals.iter().map(move |local| (*portal, local)))
        {
            let admitted = |target: &str| {
                let admission = topology.admit(&anybody(&at(portal, local)), Some(target));
                admission.map(|admission| admission.portal_group)
            };
            assert_eq!(admitted("all"), Ok(portal), "{portal} {local}");
            for other in &found {
                let good = admitted(&format!("own{other}")).is_ok();
                assert_eq!(good, *other == portal, "the target of {other}, at {portal}, {local}");
            }
        }
    }

    #[test]
    fn portals_are_told_where_they_listen_and_to_whom_they_mean_something() {
        let topology = of_each_kind();
        for (portal, local, told) in [
            (
                1,
                "10.0.0.1:3260",
                &[
                    ("10.0.0.1:3260", 1),
                    ("10.0.0.1:3261", 3),
                    ("[2001:db8::1]:3261", 4),
                    ("10.78.0.2:3260", 7),
                    ("10.0.0.1:3263", 9),
                ][..],
            ),
            (
                9,
                "127.0.0.1:3263",
                &[
                    ("127.0.0.1:3260", 1),
                    ("10.0.0.1:3261", 3),
                    ("[2001:db8::1]:3261", 4),
                    ("127.0.0.1:3262", 6),
                    ("10.78.0.2:3260", 7),
                    ("127.0.0.1:3263", 9),
                ],
            ),
            (
                2,
                "[fe80::1%3]:3260",
                &[
                    ("[fe80::1]:3260", 2),
                    ("10.0.0.1:3261", 3),
                    ("[2001:db8::1]:3261", 4),
                    ("[fe80::1%3]:3261", 5),
                    ("10.78.0.2:3260", 7),
                ],
            ),
            (
                2,
                "[fe80::1%4]:3260",
                &[
                    ("[fe80::1]:3260", 2),
                    ("10.0.0.1:3261", 3),
                    ("[2001:db8::1]:3261", 4),
                    ("10.78.0.2:3260", 7),
                ],
            ),
            (7, "10.78.0.2:3260", &[("10.0.0.1:3261", 3), ("[2001:db8::1]:3261", 4), ("10.78.0.2:3260", 7)]),
            (
                8,
                "[fe80::2]:3260",
                &[
                    ("10.0.0.1:3261", 3),
                    ("[2001:db8::1]:3261", 4),
                    ("10.78.0.2:3260", 7),
                    ("[fe80::2]:3260", 8),
                ],
            ),
        ] {
            let mut found = Vec::new();
            topology.discover(&anybody(&at(portal, local)), &mut |target, address, group| {
                if target == "all" {
                    found.push((address, group));
                }
            });
            let told: Vec<(SocketAddr, u16)> =
                told.iter().map(|(address, group)| (address.parse().unwrap(), *group)).collect();
            assert_eq!(found, told, "{portal} {local}");
        }
    }

    fn luns(target: &Target, visitor: &Visitor<'_>) -> Vec<u16> {
        target.units(visitor).into_iter().filter_map(|(lun, _)| lun.index()).collect()
    }

    #[test]
    fn rules_open_targets_and_logical_units() {
        let address = |ip: &str, prefix| Address { ip: ip.parse().unwrap(), prefix };
        let rules = vec![
            AccessRule {
                initiators: Some(vec!["iqn.2026-11.lab:*".into()]),
                luns: Some(vec![Lun::from_index(1)]),
                ..AccessRule::default()
            },
            AccessRule {
                addresses: Some(vec![address("10.1.0.0", 16), address("2001:db8:7::", 48)]),
                luns: Some(vec![Lun::from_index(2)]),
                ..AccessRule::default()
            },
            AccessRule { users: Some(vec!["boss".into()]), ..AccessRule::default() },
        ];
        let target = target(rules);
        let topology = topology(target.clone());
        for (initiator, peer, user, sees, admitted) in [
            ("iqn.2026-11.lab:a", "10.2.0.9", None, &[1][..], true),
            ("iqn.2026-11.lab", "10.2.0.9", None, &[], false),
            ("iqn.2026-11.lab:a", "10.1.255.9", None, &[1, 2], true),
            ("iqn.2026-11.other:a", "2001:db8:7:1::1", None, &[2], true),
            ("iqn.2026-11.other:a", "2001:db8:8::1", None, &[], false),
            ("iqn.2026-11.other:a", "::ffff:10.1.0.1", None, &[2], true),
            ("iqn.2026-11.other:a", "10.9.0.1", Some("boss"), &[0, 1, 2, 3], true),
            ("iqn.2026-11.other:a", "10.9.0.1", Some("bos"), &[], false),
        ] {
            let origin = from(peer);
            let visitor = Visitor { initiator, origin: &origin, user };
            assert_eq!(luns(&target, &visitor), sees, "{visitor:?}");
            assert_eq!(topology.authorize(&visitor, Some(&target.name)), admitted, "{visitor:?}");
            // Whoever may come by an account is let in as far as to give it.
            assert!(topology.admit(&visitor, Some(&target.name)).is_ok(), "{visitor:?}");
        }
        let mut strict = target.clone();
        strict.access.truncate(2);
        let topology = self::topology(strict);
        let origin = from("10.9.0.1");
        let stranger = Visitor { initiator: "iqn.2026-11.other:a", ..anybody(&origin) };
        let Err(Denial::Refused(status, _)) = topology.admit(&stranger, Some(&target.name)) else { panic!() };
        assert_eq!(status, LoginStatus::AuthorizationFailure);
        topology.discover(&stranger, &mut |_, _, _| panic!("a stranger discovers nothing"));
        let mut found = 0;
        topology.discover(&anybody(&origin), &mut |_, _, _| found += 1);
        assert_eq!(found, 2, "all portals of all groups");
        let open = self::target(Vec::new());
        assert_eq!(luns(&open, &stranger), [0, 1, 2, 3]);
    }

    #[test]
    fn redirects_are_by_portal_group() {
        let mut target = target(Vec::new());
        let redirect =
            |group, permanently, address: &str| Redirect { group, permanently, address: address.into() };
        target.redirects =
            vec![redirect(Some(2), true, "a.example:3260"), redirect(Some(1), false, "10.0.0.7:3260")];
        let topology = topology(target);
        let name = Some("iqn.2026-11.test:t");
        let moved = |portal| topology.admit(&anybody(&at(portal, "10.0.0.1:3260")), name).unwrap_err();
        let there = |permanently, address: &str| Denial::Moved { permanently, address: address.into() };
        assert_eq!(moved(1), there(false, "10.0.0.7:3260"));
        assert_eq!(moved(2), there(true, "a.example:3260"));
        assert!(matches!(moved(3), Denial::Refused(LoginStatus::NotFound, _)), "another portal");
    }

    /// What has changed, and whether a connection through the first portal stays.
    #[test]
    fn only_those_concerned_have_to_leave() {
        let account =
            |name: &str, secret: &[u8]| Account { name: name.into(), secret: Secret::new(secret).unwrap() };
        let chap = |accounts: Vec<Account>| {
            Some(Arc::new(Authentication { accounts, own: None, algorithms: Vec::new() }))
        };
        let (alice, bob) = (account("alice", b"0123456789abcdef"), account("bob", b"fedcba9876543210"));
        let rule = |user: &str| AccessRule { users: Some(vec![user.into()]), ..AccessRule::default() };
        let before = Target { authentication: chap(vec![alice.clone()]), ..target(Vec::new()) };
        let old = topology(before.clone());
        let origin = from("10.9.0.1");
        let visitor = Visitor { user: Some("alice"), ..anybody(&origin) };
        let verdict = |new: &Topology, visitor: &Visitor<'_>| {
            new.review(&old, &before.name, visitor).map(|units| units.len())
        };
        let with = |change: fn(&mut Target)| {
            let mut topology = topology(before.clone());
            change(&mut topology.targets[0]);
            topology
        };
        assert_eq!(verdict(&old, &visitor), Ok(4));
        assert_eq!(verdict(&with(|target| target.luns.truncate(1)), &visitor), Ok(1));
        assert_eq!(verdict(&with(|target| target.portals.truncate(1)), &visitor), Ok(4));
        let refused = |change| verdict(&with(change), &visitor).unwrap_err();
        assert!(refused(|target| _ = target.portals.remove(0)).contains("has left the portal"));
        assert!(refused(|target| target.name.push('x')).contains("target is gone"));
        assert!(
            refused(|target| Arc::make_mut(&mut target.portals[0]).group = 9).contains("portal is another")
        );
        let moved = refused(|target| Arc::make_mut(&mut target.portals[0]).address.set_port(1));
        assert!(moved.contains("portal is another"));
        for (accounts, stays) in [
            (vec![bob.clone(), alice.clone()], true),
            (vec![bob.clone()], false),
            (vec![account("alice", b"another secret..")], false),
        ] {
            let new = topology(Target { authentication: chap(accounts), ..before.clone() });
            assert_eq!(verdict(&new, &visitor).is_ok(), stays);
        }
        for (user, stays) in [("alice", true), ("bob", false)] {
            let new = topology(Target { access: vec![rule(user)], ..before.clone() });
            assert_eq!(verdict(&new, &visitor).is_ok(), stays, "{user}");
        }
        // Nobody is asked for more than it has shown, unless the target wants that now.
        let open = topology(Target { authentication: None, ..before.clone() });
        let stranger = Visitor { user: None, ..visitor };
        assert_eq!(verdict(&open, &stranger), Ok(4));
        assert!(verdict(&old, &stranger).unwrap_err().contains("authentication"));
    }
}
