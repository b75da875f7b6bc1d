// SPDX-License-Identifier: GPL-2.0-or-later
//! What joins each fabric's protocol machine to the cores: who is there, what is exported to whom, and where its bytes
//! come from. A fabric is a room of its own here and a row of [`FABRICS`].

pub mod ethernet;
pub mod fabric;
pub mod fcoe;
pub mod iscsi;
#[cfg(test)]
pub(crate) mod toy;
#[cfg(test)]
pub(crate) mod toy_regions;

use crate::counters::{CounterPlace, CounterSet};
use crate::fabrics::fcoe::FcoeCounters;
use crate::fabrics::iscsi::ConnectionCounters;
use fabric::FabricKind;

/// All fabrics.
pub const FABRICS: &[FabricKind] = &[
    FabricKind {
        keys: iscsi::options::KEYS,
        read: |root, parts| iscsi::options::IscsiOptions::read(root, parts),
        counters: &[CounterPlace {
            path: "sessions[].connections[].counters",
            what: "A connection of a session",
            lists: &[ConnectionCounters::LIST],
        }],
        render: |status| Ok(iscsi::status::IscsiStatus::of_status(status)?.render()),
    },
    FabricKind {
        keys: fcoe::options::KEYS,
        read: |root, parts| fcoe::options::FcoeOptions::read(root, parts),
        counters: &[
            CounterPlace {
                path: "ports[].counters",
                what: "A port with an FCoE target, in addition",
                lists: &[FcoeCounters::LIST],
            },
            ethernet::COUNTERS,
        ],
        render: fcoe::status::FcoeStatus::render,
    },
    #[cfg(test)]
    FabricKind {
        keys: toy::memory::KEYS,
        read: |root, parts| toy::ToyFabricOptions::<toy::memory::ToyTarget>::read(root, parts),
        counters: &[],
        render: |_| Ok(String::new()),
    },
    #[cfg(test)]
    FabricKind {
        keys: toy::frames::KEYS,
        read: |root, parts| toy::ToyFabricOptions::<toy::frames::FrameTarget>::read(root, parts),
        counters: &[ethernet::COUNTERS],
        render: |_| Ok(String::new()),
    },
    #[cfg(test)]
    FabricKind {
        keys: toy_regions::KEYS,
        read: |root, parts| toy::ToyFabricOptions::<toy_regions::RegionTarget>::read(root, parts),
        counters: &[],
        render: |_| Ok(String::new()),
    },
];
