// SPDX-License-Identifier: GPL-2.0-or-later
//! How the configuration sets up a toy.

use std::sync::Arc;

use super::device::Toy;
use crate::devices::DeviceOptions;
use crate::io::StoreNeeds;
use crate::options::Absent::{Is, Required};
use crate::options::ValueKind::Text;
use crate::options::{Key, Section, key};
use crate::scsi::primary::{Identity, LogicalUnit};

/// Longest greeting.
const GREETING_MAX: usize = 64;

pub(crate) const KEYS: &[Key] = &[
    key("greeting", Text("1 to 64 bytes"), Required, "\"hello\"", "What it says."),
    key("product", Text("1 to 16 ASCII characters"), Is("\"TOY\""), "", "Product, as INQUIRY reports it."),
];

#[derive(Clone, Debug)]
pub(crate) struct ToyOptions {
    identity: Identity,
    greeting: String,
}

impl ToyOptions {
    pub(crate) fn read(s: &Section<'_>, identity: Option<Identity>) -> Option<Self> {
        let fits = |text: &str| (1..=GREETING_MAX).contains(&text.len()).then(|| text.to_owned());
        let greeting = s.parsed("greeting", fits);
        Some(Self { identity: identity?, greeting: greeting? })
    }
}

impl DeviceOptions for ToyOptions {
    fn unit(&self, management: Option<Arc<str>>, epoch: u64) -> Arc<dyn LogicalUnit> {
        Arc::new(Toy::new(self.identity.clone(), management, epoch, self.greeting.clone()))
    }

    fn needs(&self) -> StoreNeeds {
        StoreNeeds { block: 512, read_only: false, thin: false }
    }
}
