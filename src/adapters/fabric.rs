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
use crate::engine::units::UnitOptions;
use crate::machine::Findings;
use crate::options::{ConfigChanges, Key, Named, Section};
use crate::ports::ConfiguredPort;
use crate::scsi::UnitKey;

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

    /// The names of those whose secrets are in the file of the configuration.
    fn written_secrets(&self) -> Vec<&str> {
        Vec::new()
    }

    /// Looks at what it needs of a machine beside these addresses.
    fn examine(&self, _found: &mut Findings) {}

    /// What differs from how it was, by tables; `None` if that needs a restart.
    fn changes(&self, old: &dyn FabricOptions) -> Option<Vec<(&'static str, ConfigChanges)>>;

    /// The same, without some logical units.
    fn without(&self, units: &[String]) -> Arc<dyn FabricOptions>;

    /// Makes what so many cores share of each of its targets. `unit` knows logical units by their names. The runtime
    /// itself joins a fabric to ports and to changes while it runs.
    fn share(
        &self,
        _cores: usize,
        _unit: &dyn Fn(&str) -> UnitKey,
    ) -> Result<Vec<Arc<dyn FabricShare>>, String> {
        Ok(Vec::new())
    }
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
