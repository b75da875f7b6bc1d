// SPDX-License-Identifier: GPL-2.0-or-later
//! What is exported where and to whom: an immutable snapshot that all cores read. A reload publishes a new one.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::sessions::Limits;
use super::tasks::UnitKey;
use crate::fabrics::iscsi::{Admission, Authentication, Denial, Directory, LoginStatus, Parameters, Visitor};
use crate::net::Address;
use crate::scsi::{Lun, TargetPort};
use crate::sys;

/// An address at which initiators may connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Portal {
    /// Its name in the config.
    pub name: String,
    /// Address and port; a wildcard address stands for all of the host's.
    pub address: SocketAddr,
    /// Target portal group tag.
    pub group: u16,
}

impl Portal {
    fn answers(&self, local: SocketAddr) -> bool {
        self.address == local || (self.address.ip().is_unspecified() && self.address.port() == local.port())
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
    /// Whether it is about an initiator, as far as names and addresses tell.
    fn names(&self, visitor: &Visitor<'_>) -> bool {
        let named = |pattern: &String| match pattern.strip_suffix('*') {
            Some(start) => visitor.initiator.starts_with(start),
            None => visitor.initiator == pattern,
        };
        self.initiators.as_ref().is_none_or(|patterns| patterns.iter().any(named))
            && self.addresses.as_ref().is_none_or(|all| all.iter().any(|net| holds(net, visitor.peer)))
    }

    fn applies(&self, visitor: &Visitor<'_>) -> bool {
        let is_user = |users: &Vec<String>| users.iter().any(|user| visitor.user == Some(user));
        self.names(visitor) && self.users.as_ref().is_none_or(is_user)
    }
}

/// Whether an address is in a network.
fn holds(network: &Address, ip: IpAddr) -> bool {
    let bits = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => u128::from(u32::from(ip)) << 96,
        IpAddr::V6(ip) => u128::from(ip),
    };
    let ip = ip.to_canonical();
    let common = (bits(network.ip) ^ bits(ip)).leading_zeros();
    network.ip.is_ipv4() == ip.is_ipv4() && common >= u32::from(network.prefix)
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
    /// Indexes of the portals through which it is reached.
    pub portals: Vec<usize>,
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
    pub portals: Vec<Portal>,
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

    /// The portal that a connection to `local` came through.
    fn portal(&self, local: SocketAddr) -> Option<usize> {
        let exact = self.portals.iter().position(|portal| portal.address == local);
        exact.or_else(|| self.portals.iter().position(|portal| portal.answers(local)))
    }
}

impl Directory for Topology {
    fn discover(&self, visitor: &Visitor<'_>, found: &mut dyn FnMut(&str, SocketAddr, u16)) {
        let local = visitor.local;
        // By which account it will log in is not known yet.
        for target in self.targets.iter().filter(|target| target.is_open(|rule| rule.names(visitor))) {
            for &portal in &target.portals {
                let Portal { address, group, .. } = self.portals[portal];
                // Of a wildcard portal, the initiator learns the address that it has reached.
                let address = match address.ip().is_unspecified() {
                    true if address.port() == local.port() => local,
                    true => SocketAddr::new(local.ip(), address.port()),
                    false => address,
                };
                found(&target.name, address, group);
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
        let portal = self.portal(visitor.local).filter(|portal| target.portals.contains(portal));
        let group = self.portals[portal.ok_or(UNKNOWN)?].group;
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

    fn target(access: Vec<AccessRule>) -> Target {
        Target {
            name: "iqn.2026-11.test:t".into(),
            alias: None,
            parameters: Arc::default(),
            authentication: None,
            access,
            redirects: Vec::new(),
            limits: Limits::default(),
            portals: vec![0, 1],
            ports: Vec::new(),
            luns: (0..4).map(|lun| (Lun::from_index(lun), UnitKey(lun as usize + 1))).collect(),
        }
    }

    fn topology(target: Target) -> Topology {
        let portal =
            |address: &str, group| Portal { name: "p".into(), address: address.parse().unwrap(), group };
        let portals =
            vec![portal("10.0.0.1:3260", 1), portal("[2001:db8::1]:3260", 2), portal("0.0.0.0:3261", 3)];
        Topology { portals, targets: vec![target], discovery: None }
    }

    fn visitor<'a>(initiator: &'a str, peer: &str, user: Option<&'a str>) -> Visitor<'a> {
        Visitor { initiator, peer: peer.parse().unwrap(), local: "10.0.0.1:3260".parse().unwrap(), user }
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
            let visitor = visitor(initiator, peer, user);
            assert_eq!(luns(&target, &visitor), sees, "{visitor:?}");
            assert_eq!(topology.authorize(&visitor, Some(&target.name)), admitted, "{visitor:?}");
            // Whoever may come by an account is let in as far as to give it.
            assert!(topology.admit(&visitor, Some(&target.name)).is_ok(), "{visitor:?}");
        }
        let mut strict = target.clone();
        strict.access.truncate(2);
        let topology = self::topology(strict);
        let stranger = visitor("iqn.2026-11.other:a", "10.9.0.1", None);
        let Err(Denial::Refused(status, _)) = topology.admit(&stranger, Some(&target.name)) else { panic!() };
        assert_eq!(status, LoginStatus::AuthorizationFailure);
        topology.discover(&stranger, &mut |_, _, _| panic!("a stranger discovers nothing"));
        let mut found = 0;
        topology.discover(&visitor("iqn.2026-11.lab:a", "10.9.0.1", None), &mut |_, _, _| found += 1);
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
        let visitor = visitor("iqn.2026-11.lab:a", "10.9.0.1", None);
        let name = Some("iqn.2026-11.test:t");
        let moved = |local: &str| {
            let visitor = Visitor { local: local.parse().unwrap(), ..visitor };
            topology.admit(&visitor, name).unwrap_err()
        };
        let there = |permanently, address: &str| Denial::Moved { permanently, address: address.into() };
        assert_eq!(moved("10.0.0.1:3260"), there(false, "10.0.0.7:3260"));
        assert_eq!(moved("[2001:db8::1]:3260"), there(true, "a.example:3260"));
        assert!(
            matches!(moved("10.0.0.1:3261"), Denial::Refused(LoginStatus::NotFound, _)),
            "another portal"
        );
    }
}
