// SPDX-License-Identifier: GPL-2.0-or-later
//! iSCSI as the configuration gives it: portals, accounts, discovery and targets.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Map, Value};

use super::accounts::{ConfiguredAccount, REFLECTED, account, authentication};
use super::portals::{distinct_addresses, portal};
use super::status::IscsiStatus;
use super::target_options::{TargetOptions, TargetReferences};
use super::topology::{Portal, Target, Topology};
use crate::adapters::FABRICS;
use crate::adapters::fabric::{
    FabricAddress, FabricExports, FabricOptions, FabricTables, KnownKeys, KnownParts,
};
use crate::fabrics::iscsi::{Account, Authentication, Secret};
use crate::machine::{Findings, SecretRefusal, Verdict};
use crate::options::Absent::Means;
use crate::options::ValueKind::{self, Tables};
use crate::options::{ConfigChanges, Key, Named, Section, key};
use crate::scsi::{Lun, PortName, TargetPort};
use crate::wire::iscsi::normal_name;

/// Its tables.
pub const KEYS: &[Key] = &[
    key("portal", Tables(Portal::TABLE), Means("an error"), "", "Addresses."),
    key("account", Tables(Account::TABLE), Means("none"), "", "Names and secrets."),
    key(
        "discovery",
        ValueKind::Table(Authentication::OF_DISCOVERY),
        Means("no authentication"),
        "",
        "Who may discover targets.",
    ),
    key("target", Tables(TargetOptions::TABLE), Means("an error"), "", "What initiators log in to."),
];

/// What these tables say.
#[derive(Clone, Debug)]
pub struct IscsiOptions {
    /// `[[portal]]`
    pub portals: Vec<Arc<Portal>>,
    /// `[[account]]`
    pub accounts: Vec<ConfiguredAccount>,
    /// `[discovery]`
    pub discovery: Option<Authentication<String>>,
    /// `[[target]]`
    pub targets: Vec<TargetOptions>,
}

impl IscsiOptions {
    /// Reads them.
    pub fn read<'a>(root: &Section<'a>, parts: &KnownParts<'_, 'a>) -> FabricTables {
        let portals = Named::read(root, "portal", |s| portal(s, parts.ports));
        distinct_addresses(&portals);
        let accounts = Named::read(root, "account", |s| account(s, parts.base));
        let discovery = authentication(root.section("discovery"), &accounts);
        let known = TargetReferences { parts, portals: &portals, accounts: &accounts };
        let mut targets = Named::new(root);
        // Names of iSCSI are the same in any case.
        targets.add(root, "target", &normal_name, |s| TargetOptions::read(s, &known));
        distinct_port_ids(&targets);
        // Another fabric may be there without any of this.
        let ours = |key: &Key| KEYS.iter().any(|ours| ours.name == key.name);
        let mut all = FABRICS.iter().flat_map(|fabric| fabric.keys);
        let alone = !all.any(|key| root.given(key.name) && !ours(key));
        for key in ["portal", "target"] {
            if !root.given(key) && (alone || root.given("portal") || root.given("target")) {
                let help = "a configuration has at least one";
                root.errors().add(0..0, key, format!("there is no [[{key}]]"), help);
            }
        }
        let groups = portals.all().map(|portal| Some(portal?.group)).collect();
        let all = (portals.good(), accounts.good(), discovery, targets.good());
        let options = match all {
            (Some(portals), Some(accounts), Some(discovery), Some(targets)) => {
                Some(Arc::new(Self { portals, accounts, discovery, targets }) as _)
            }
            _ => None,
        };
        FabricTables { options, groups }
    }

    /// What is exported where and to whom.
    pub fn topology(&self, KnownKeys { unit, ids }: &KnownKeys<'_>) -> Result<Topology, String> {
        let accounts = self.read_accounts()?;
        let targets = self.targets.iter().map(|target| {
            let ports = port_names(target).into_iter().map(|(tag, name)| {
                let id = ids.get(&name).expect("all ports of the configuration have one");
                Arc::new(TargetPort::iscsi(id, &target.name, tag))
            });
            Ok(Target {
                name: target.name.clone(),
                alias: target.alias.clone(),
                parameters: Arc::new(target.parameters.clone()),
                authentication: with_accounts(target.authentication.as_ref(), &accounts)?,
                access: target.access.clone(),
                redirects: target.redirects.clone(),
                limits: target.limits,
                portals: target.portals.clone(),
                ports: ports.collect(),
                luns: target.luns.iter().map(|(lun, name)| (Lun::from_index(*lun), unit(name))).collect(),
            })
        });
        Ok(Topology {
            portals: self.portals.clone(),
            targets: targets.collect::<Result<_, String>>()?,
            discovery: with_accounts(self.discovery.as_ref(), &accounts)?,
        })
    }

    /// Accounts by name, each with its secret, which may have to be read.
    fn read_accounts(&self) -> Result<BTreeMap<&str, Account>, String> {
        let read = |ConfiguredAccount { name, secret }: &ConfiguredAccount| {
            let refused = |e: SecretRefusal| format!("account {name:?}: {}; {}", e.message, e.help);
            secret.read().map(|secret| Account { name: name.clone(), secret }).map_err(refused)
        };
        self.accounts.iter().map(|account| Ok((&*account.name, read(account)?))).collect()
    }
}

impl FabricOptions for IscsiOptions {
    fn targets(&self) -> Vec<(&str, Vec<&str>)> {
        let named = self.targets.iter().map(|target| {
            let units = target.luns.iter().map(|(_, unit)| &**unit);
            (&*target.name, units.collect())
        });
        named.collect()
    }

    fn addresses(&self) -> Vec<FabricAddress<'_>> {
        self.portals.iter().map(|portal| portal.taken()).collect()
    }

    fn frame_ports(&self) -> Vec<&str> {
        Vec::new()
    }

    fn written_secrets(&self) -> Vec<&str> {
        self.accounts
            .iter()
            .filter(|account| account.secret.is_given())
            .map(|account| &*account.name)
            .collect()
    }

    fn examine(&self, found: &mut Findings) {
        let mut refuse = |name: &str, message: String, wanted: &str, help: String, certain| {
            let what = format!("account {name:?}");
            found.add(what, message, wanted, help, Verdict::Fails).certain = certain;
        };
        let mut secrets: BTreeMap<&str, Secret> = BTreeMap::new();
        for ConfiguredAccount { name, secret } in &self.accounts {
            match secret.read() {
                Ok(secret) => _ = secrets.insert(name, secret),
                Err(SecretRefusal { message, help, certain }) => {
                    refuse(name, message, "a secret that only the daemon's user may read", help, certain);
                }
            }
        }
        let of_targets = self.targets.iter().filter_map(|target| target.authentication.as_ref());
        let twice = self.discovery.iter().chain(of_targets);
        let twice = twice.filter_map(|wanted| wanted.reflected(|name| secrets.get(name)));
        for name in twice.collect::<BTreeSet<_>>() {
            let help = "give it a secret of its own (RFC 7143 12.1.3)";
            refuse(name, REFLECTED.into(), "another secret", help.into(), true);
        }
    }

    fn changes(&self, old: &dyn FabricOptions) -> Option<Vec<(&'static str, ConfigChanges)>> {
        let old: &Self = (old as &dyn Any).downcast_ref()?;
        // Accounts and portals that are called as before are the same here.
        let same_target = |a: &TargetOptions, b: &TargetOptions| {
            let portals =
                |target: &TargetOptions| target.portals.iter().map(|it| it.name.clone()).collect::<Vec<_>>();
            let rest = |target: &TargetOptions| TargetOptions { portals: Vec::new(), ..target.clone() };
            portals(a) == portals(b) && rest(a) == rest(b)
        };
        let same = |a: &Option<_>, b: &Option<_>| a == b;
        Some(vec![
            ("portal", ConfigChanges::of((&old.portals, &self.portals), |it| &it.name, |a, b| a == b)),
            ("account", ConfigChanges::of((&old.accounts, &self.accounts), |it| &it.name, |a, b| a == b)),
            (
                "discovery",
                ConfigChanges::of(
                    (std::slice::from_ref(&old.discovery), std::slice::from_ref(&self.discovery)),
                    |_| "discovery",
                    same,
                ),
            ),
            ("target", ConfigChanges::of((&old.targets, &self.targets), |it| &it.name, same_target)),
        ])
    }

    fn target_ports(&self) -> Vec<(String, Option<u16>)> {
        let given = |target: &TargetOptions, tag| {
            target.port_ids.iter().find(|(group, _)| *group == tag).map(|(_, id)| *id)
        };
        let of_target =
            |target| port_names(target).into_iter().map(move |(tag, name)| (name, given(target, tag)));
        self.targets.iter().flat_map(of_target).collect()
    }

    fn exports(&self, known: &KnownKeys<'_>) -> Result<Arc<dyn FabricExports>, String> {
        Ok(Arc::new(self.topology(known)?))
    }

    fn status(&self, is_down: &dyn Fn(&str) -> bool, sessions: Option<Vec<Value>>) -> Map<String, Value> {
        let mut status = IscsiStatus::of(&self.targets, is_down).into_map();
        status.extend(sessions.map(|sessions| ("sessions".to_owned(), sessions.into())));
        status
    }
}

/// No two target ports are given the same identifier.
fn distinct_port_ids(targets: &Named<'_, TargetOptions>) {
    let mut ids = BTreeMap::new();
    for (index, TargetOptions { name, port_ids, .. }) in targets.known() {
        for (group, id) in port_ids {
            if let Some((other, tag)) = ids.insert(id, (name, group)) {
                let message =
                    format!("the target port identifier {id} already belongs to {other:?}, group {tag}");
                let help = "no two target ports of a daemon have the same: give another one in `port_ids`";
                targets.error(index, message, help);
            }
        }
    }
}

/// The target ports of a target by portal group tag, each once, and what they are called.
fn port_names(target: &TargetOptions) -> Vec<(u16, String)> {
    let mut ports: Vec<(u16, String)> = Vec::new();
    for tag in target.portals.iter().map(|portal| portal.group) {
        if ports.iter().all(|(known, _)| *known != tag) {
            ports.push((tag, PortName::iscsi_target(&target.name, tag).text().into_owned()));
        }
    }
    ports
}

fn with_accounts(
    wanted: Option<&Authentication<String>>,
    accounts: &BTreeMap<&str, Account>,
) -> Result<Option<Arc<Authentication>>, String> {
    let Some(wanted) = wanted else { return Ok(None) };
    if let Some(own) = wanted.reflected(|name| Some(&accounts[name].secret)) {
        return Err(format!("account {own:?}: {REFLECTED}"));
    }
    Ok(Some(Arc::new(wanted.with(|name| accounts[name].clone()))))
}
