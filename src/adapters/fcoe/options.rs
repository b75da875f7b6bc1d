// SPDX-License-Identifier: GPL-2.0-or-later
//! FCoE targets as the configuration gives them.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::fabric::{ExportedTarget, FcoeShare};
use super::status::FcoeStatus;
use super::target::FcoeTargetOptions;
use crate::adapters::fabric::{FabricExports, FabricOptions, FabricTables, KnownKeys, KnownParts};
use crate::engine::fabric::FabricShare;
use crate::options::Absent::Means;
use crate::options::ValueKind::Tables;
use crate::options::{ConfigChanges, Key, Named, Section, key};
use crate::scsi::{Lun, TargetPort, UnitKey};

/// Its tables.
pub const KEYS: &[Key] =
    &[key("fcoe_target", Tables(FcoeTargetOptions::TABLE), Means("none"), "", "Targets of Fibre Channel.")];

/// `[[fcoe_target]]`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FcoeOptions {
    pub(super) targets: Vec<FcoeTargetOptions>,
}

impl FcoeOptions {
    /// Reads them.
    pub fn read<'a>(root: &Section<'a>, parts: &KnownParts<'_, 'a>) -> FabricTables {
        let targets = Named::read(root, "fcoe_target", |s| FcoeTargetOptions::read(s, parts));
        let (mut ports, mut ids) = (BTreeMap::new(), BTreeMap::new());
        for (index, target) in targets.known() {
            let FcoeTargetOptions { name, port, vlan, port_id, .. } = target;
            if let Some(other) = ports.insert((port, vlan), name) {
                let message = format!("{other:?} has the port {port:?} already");
                targets.error(
                    index,
                    message,
                    "give it another port or another `vlan`, or that one more LUNs",
                );
            }
            if let Some(id) = port_id
                && let Some(other) = ids.insert(id, name)
            {
                let message = format!("the target port identifier {id} already belongs to {other:?}");
                targets.error(index, message, "no two target ports of a daemon have the same");
            }
        }
        let groups = targets.all().map(|target| Some(target?.group)).collect();
        FabricTables { options: targets.good().map(|targets| Arc::new(Self { targets }) as _), groups }
    }
}

impl FabricOptions for FcoeOptions {
    fn targets(&self) -> Vec<(&str, Vec<&str>)> {
        let named = self.targets.iter().map(|target| {
            let units = target.luns.iter().map(|(_, unit)| &**unit);
            (&*target.name, units.collect())
        });
        named.collect()
    }

    fn changes(&self, old: &dyn FabricOptions) -> Option<Vec<(&'static str, ConfigChanges)>> {
        ((old as &dyn Any).downcast_ref() == Some(self)).then(Vec::new)
    }

    fn frame_ports(&self) -> Vec<&str> {
        self.targets.iter().map(|target| &*target.port).collect()
    }

    fn target_ports(&self) -> Vec<(String, Option<u16>)> {
        self.targets.iter().map(|target| (target.key_of_port(), target.port_id)).collect()
    }

    fn exports(&self, known: &KnownKeys<'_>) -> Result<Arc<dyn FabricExports>, String> {
        let exported = |target: &FcoeTargetOptions| {
            let units = target.luns.iter().map(|(lun, name)| (Lun::from_index(*lun), (known.unit)(name)));
            let relative = known.ids.get(&target.key_of_port());
            Arc::new(ExportedTarget {
                target: target.clone(),
                relative: relative.expect("all ports of the configuration have one"),
                units: units.collect(),
            })
        };
        Ok(Arc::new(FcoeExports(self.targets.iter().map(exported).collect())))
    }

    fn status(&self, _: &dyn Fn(&str) -> bool, sessions: Option<Vec<Value>>) -> Map<String, Value> {
        // Nothing is said of a fabric that nobody has asked for.
        if self.targets.is_empty() {
            return Map::new();
        }
        FcoeStatus::of(&self.targets, sessions)
    }
}

/// The targets as the engine knows them.
struct FcoeExports(Vec<Arc<ExportedTarget>>);

impl FabricExports for FcoeExports {
    fn ports_of(&self, unit: UnitKey) -> Vec<Arc<TargetPort>> {
        let exports = |it: &&Arc<ExportedTarget>| it.units.iter().any(|(_, known)| *known == unit);
        let port = |it: &Arc<ExportedTarget>| Some(it.target.scsi_port(it.target.names(None)?, it.relative));
        self.0.iter().filter(exports).filter_map(port).collect()
    }

    fn announce(&self) -> Vec<String> {
        let line = |it: &Arc<ExportedTarget>| {
            let luns: Vec<String> = it.units.iter().map(|(lun, _)| lun.to_string()).collect();
            format!("{}: LUN {} at port {}", it.target.name, luns.join(", "), it.target.port)
        };
        self.0.iter().map(line).collect()
    }

    fn share(self: Arc<Self>, cores: usize) -> Result<Vec<Arc<dyn FabricShare>>, String> {
        let share = |(number, target): (usize, &Arc<ExportedTarget>)| {
            let share = FcoeShare::new(target.clone(), cores, number % cores).map_err(|e| e.to_string())?;
            Ok(Arc::new(share) as _)
        };
        self.0.iter().enumerate().map(share).collect()
    }
}
