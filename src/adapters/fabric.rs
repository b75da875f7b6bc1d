// SPDX-License-Identifier: GPL-2.0-or-later
//! What a fabric is to the configuration and to the control plane.

use std::any::Any;
use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::counters::CounterPlace;
use crate::engine::fabric::FabricShare;
use crate::engine::port_ids::PortIds;
use crate::engine::units::UnitOptions;
use crate::machine::Findings;
use crate::net::{Listener, NamedHost};
use crate::options::{ConfigChanges, Key, Named, Section};
use crate::ports::ConfiguredPort;
use crate::scsi::{TargetPort, UnitKey};

/// A fabric.
pub struct FabricKind {
    /// The tables of the configuration that are its own.
    pub keys: &'static [Key],
    /// Reads them.
    pub read: for<'a> fn(&Section<'a>, &KnownParts<'_, 'a>) -> FabricTables,
    /// What is counted for it, beside ports and logical units.
    pub counters: &'static [CounterPlace],
    /// What the status of the daemon says of it, as text.
    pub render: fn(&Map<String, Value>) -> serde_json::Result<String>,
}

/// What the tables of a fabric may refer to.
pub struct KnownParts<'k, 'a> {
    /// What paths in the file are relative to.
    pub base: &'k Path,
    /// `[[port]]`
    pub ports: &'k Named<'a, ConfiguredPort>,
    /// `[[disk]]` and its like
    pub units: &'k Named<'a, UnitOptions>,
}

impl KnownParts<'_, '_> {
    /// The key `luns` of a target: the LUNs of its entries, and LUN and logical unit of those without errors, in
    /// ascending order of LUN.
    pub fn luns(&self, s: &Section<'_>) -> (Vec<u16>, Vec<(u16, String)>) {
        let mut listed: Vec<(Option<u16>, Option<String>)> = Vec::new();
        for entry in s.sections("luns") {
            let (lun, unit) = (entry.number("lun"), self.unit(&entry));
            if lun.is_some() && listed.iter().any(|(taken, _)| *taken == lun) {
                entry.error("lun", "is taken", "each LUN of a target is given once");
            }
            if unit.is_some() && listed.iter().any(|(_, taken)| *taken == unit) {
                entry.error("unit", "is in the list twice", "a target has a logical unit once");
            }
            listed.push((lun, unit));
            entry.finish();
        }
        let numbers = listed.iter().filter_map(|(lun, _)| *lun).collect();
        let mut luns: Vec<_> = listed.into_iter().filter_map(|(lun, unit)| lun.zip(unit)).collect();
        luns.sort_unstable();
        (numbers, luns)
    }

    /// The name of the logical unit of an entry of a list of LUNs.
    pub fn unit(&self, entry: &Section<'_>) -> Option<String> {
        let name = entry.text("unit")?;
        // A `disk` is looked for under that name.
        let what = if entry.path("unit").ends_with("unit") { "logical unit" } else { "[[disk]]" };
        self.units.look_up(entry, ("unit", entry.span_of("unit")), &name, what).map(|_| name)
    }

    /// The name of the port that the key `port` names, if it has frames.
    pub fn frame_port(&self, s: &Section<'_>) -> Option<String> {
        let port = self.ports.get(self.ports.reference(s, "port", "port")?)?;
        if port.options.link().is_none() {
            let message = format!("the port {:?} has no Ethernet frames", port.name);
            s.error("port", message, "name one of another driver than kernel");
            return None;
        }
        Some(port.name.clone())
    }
}

/// What the tables of a fabric say.
pub struct FabricTables {
    /// All of it, if there are no errors.
    pub options: Option<Arc<dyn FabricOptions>>,
    /// The tags of its target port groups; `None` for one with errors.
    pub groups: Vec<Option<u16>>,
}

/// A fabric as the configuration gives it.
pub trait FabricOptions: Any + fmt::Debug + Send + Sync {
    /// Its targets by name, with the names of their logical units.
    fn targets(&self) -> Vec<(&str, Vec<&str>)>;

    /// The addresses of ports that it takes for itself.
    fn addresses(&self) -> Vec<FabricAddress<'_>> {
        Vec::new()
    }

    /// The ports whose frames it takes, by name. No other daemon has those of the same device meanwhile.
    fn frame_ports(&self) -> Vec<&str>;

    /// The names of those whose secrets are in the file of the configuration.
    fn written_secrets(&self) -> Vec<&str> {
        Vec::new()
    }

    /// Looks at what it needs of a machine beside these addresses.
    fn examine(&self, _found: &mut Findings) {}

    /// What differs from how it was, by tables; `None` if that needs a restart.
    fn changes(&self, old: &dyn FabricOptions) -> Option<Vec<(&'static str, ConfigChanges)>>;

    /// Its target ports by name, with the relative target port identifiers that they are given.
    fn target_ports(&self) -> Vec<(String, Option<u16>)> {
        Vec::new()
    }

    /// What it exports.
    fn exports(&self, known: &KnownKeys<'_>) -> Result<Arc<dyn FabricExports>, String>;

    /// What the status of the daemon says of it, under names that no other fabric has. `is_down` knows ports whose
    /// device is gone. Sessions are there if they were asked for, as [`FabricShare::sessions`] tells of them.
    fn status(&self, _is_down: &dyn Fn(&str) -> bool, _sessions: Option<Vec<Value>>) -> Map<String, Value> {
        Map::new()
    }
}

/// By what the engine knows what the configuration names.
pub struct KnownKeys<'k> {
    /// The keys of logical units, by name.
    pub unit: &'k dyn Fn(&str) -> UnitKey,
    /// The identifiers of target ports; each of [`FabricOptions::target_ports`] has one.
    pub ids: &'k PortIds,
}

/// What a fabric exports where and to whom. Another configuration has another.
pub trait FabricExports: Send + Sync {
    /// The target ports through which a logical unit is reached.
    fn ports_of(&self, _unit: UnitKey) -> Vec<Arc<TargetPort>> {
        Vec::new()
    }

    /// Says what is served where, in lines for the log.
    fn announce(&self) -> Vec<String> {
        Vec::new()
    }

    /// What so many cores share of it, when the daemon starts; of each share each core has a fabric. One on byte
    /// streams finds its hosts in the context of the core ([`crate::net::StreamHosts`]).
    fn share(self: Arc<Self>, cores: usize) -> Result<Vec<Arc<dyn FabricShare>>, String>;

    /// What a core gets of a change to these, made on its thread: a part for each of its shares, in their order, which
    /// goes to [`Fabric::arrange`](crate::engine::fabric::Fabric::arrange); none for those that do not care. A fabric
    /// on byte streams takes what `ports` has.
    fn parts(self: Arc<Self>, _ports: &mut PortsChange) -> Vec<Box<dyn Any>> {
        Vec::new()
    }
}

/// What becomes of the ports of a core by a change, for the fabric on byte streams.
#[derive(Default)]
pub struct PortsChange {
    /// Those that are new, by name. They have their listeners, in the order of their addresses.
    pub hosts: Vec<NamedHost>,
    /// The names of those that go.
    pub gone: Vec<String>,
    /// New listeners of others, by the names of their portals.
    pub listeners: Vec<(Arc<str>, Listener)>,
}

/// An address of a port that a fabric takes for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FabricAddress<'a> {
    /// The name of the portal.
    pub portal: &'a str,
    /// The name of the port.
    pub port: &'a str,
    /// Address and TCP port.
    pub address: SocketAddr,
}
