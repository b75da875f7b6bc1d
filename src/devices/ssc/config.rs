// SPDX-License-Identifier: GPL-2.0-or-later
//! How a tape drive is set up.

use std::sync::Arc;

use super::personality::{PERSONALITIES, PLAIN, Personality};
use crate::formats::tape::MODELS;
use crate::options::Absent::{Is, Means};
use crate::options::ValueKind::{Flag, Text};
use crate::options::{Key, Section, key};
use crate::scsi::primary::Identity;

/// How a tape drive is set up.
#[derive(Clone, Debug)]
pub struct TapeOptions {
    /// Its names.
    pub identity: Identity,
    /// Which drive it is to initiators.
    pub personality: &'static Personality,
    /// Refuse writes.
    pub read_only: bool,
    /// Density code of the cartridge that an empty store becomes.
    pub density: u8,
    /// Where it is managed, as a URL of at most 255 characters.
    pub management: Option<Arc<str>>,
    /// Milliseconds since 1970 at [`crate::time::Instant::ZERO`].
    pub epoch: u64,
}

/// The keys that are a tape drive's.
pub const KEYS: &[Key] = &[
    key(
        "personality",
        Text(
            "\"ptgt\"; \"ibm-ult3580-td5\" to \"-td9\"; \"hp-ultrium-5\" to \"-7\", \"hpe-ultrium-8\" and \"-9\"; or \
             \"quantum-ultrium-hh5\" to \"-hh9\"",
        ),
        Is("\"ptgt\""),
        "\"ibm-ult3580-td8\"",
        "Which drive initiators see: its vendor, product and revision, unless they are given here, its pages, and the \
         cartridges that it takes. LTFS and some backup programs work with drives only that they know.",
    ),
    key(
        "cartridge",
        Text("\"lto1\" to \"lto9\", or \"lto7m\""),
        Means("of the drive's own generation; lto6 for \"ptgt\""),
        "\"lto8\"",
        "Kind of the cartridge that is made when the store is empty. Its capacity is what the store has room for. `ptgt image \
         create` makes cartridges, too.",
    ),
    key("read_only", Flag, Is("false"), "", "Writes are refused, as with the tab of the cartridge set."),
];

/// ... and the product name that it goes by.
pub const PRODUCT: &[Key] = &[key(
    "product",
    Text("1 to 16 ASCII characters"),
    Is("\"VIRTUAL-TAPE\""),
    "",
    "Product, as INQUIRY reports it.",
)];

impl TapeOptions {
    /// A drive of those names as it is when nothing else is said of it.
    pub fn new(identity: Identity) -> Self {
        Self {
            identity,
            personality: PLAIN,
            read_only: false,
            density: PLAIN.own_density(),
            management: None,
            epoch: 0,
        }
    }

    /// Reads [`KEYS`], for a drive with these names.
    pub fn read(s: &Section<'_>, identity: Option<Identity>) -> Option<Self> {
        let personality =
            s.parsed("personality", |text| PERSONALITIES.iter().find(|known| known.name == text));
        let model = |text: &str| MODELS.iter().find(|model| model.name == text);
        let given = s.given("cartridge").then(|| s.parsed("cartridge", model));
        let read_only = s.flag("read_only");
        let personality = personality?;
        let density = match given {
            None => personality.own_density(),
            Some(model) => model?.density,
        };
        if !personality.writes(density) {
            let message = format!("is none that {} writes", personality.name);
            s.error("cartridge", message, "choose another kind, or leave it out");
            return None;
        }
        // What the file gives is there already.
        let given = ["vendor", "product", "revision"].map(|key| s.given(key));
        let mut names = personality.inquiry.map(Some);
        names.iter_mut().zip(given).filter(|(_, given)| *given).for_each(|(name, _)| *name = None);
        let identity = identity?.renamed(names).expect("the names of the table fit");
        Some(Self { personality, density, read_only: read_only?, ..Self::new(identity) })
    }
}
