// SPDX-License-Identifier: GPL-2.0-or-later
//! What joins each fabric's protocol machine to the cores: who is there, what is exported to whom, and where its bytes
//! come from. A fabric is a room of its own here and a row of [`FABRICS`]; iSCSI has none yet, as its tables are the
//! first that the configuration had.

pub mod iscsi;
#[cfg(test)]
pub(crate) mod toy;

use std::sync::Arc;

use crate::engine::fabric::FabricOptions;
use crate::options::{Key, Section};

/// Reads what a target of a fabric is. The function given reads the logical unit that an entry of a list names.
type ReadFabric =
    for<'a> fn(&Section<'a>, &dyn Fn(&Section<'a>) -> Option<String>) -> Option<Arc<dyn FabricOptions>>;

/// A fabric.
pub struct FabricKind {
    /// The key of the configuration that lists its targets, each of which has a name, and their table.
    pub key: Key,
    /// Reads one.
    pub read: ReadFabric,
}

/// All fabrics.
pub const FABRICS: &[FabricKind] = &[
    #[cfg(test)]
    FabricKind { key: toy::KEY, read: |s, unit| Some(Arc::new(toy::ToyTarget::read(s, unit)?)) },
];

/// Their keys.
pub const KEYS: &[Key] = &[
    #[cfg(test)]
    toy::KEY,
];
