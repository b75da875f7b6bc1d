// SPDX-License-Identifier: GPL-2.0-or-later
//! How a tape drive is set up.

use std::sync::Arc;

use crate::formats::tape::MODELS;
use crate::options::Absent::Is;
use crate::options::ValueKind::{Flag, Text};
use crate::options::{Key, Section, key};
use crate::scsi::primary::Identity;

/// How a tape drive is set up.
#[derive(Clone, Debug)]
pub struct TapeOptions {
    /// Its names.
    pub identity: Identity,
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
        "cartridge",
        Text("\"lto1\" to \"lto9\", or \"lto7m\""),
        Is("\"lto6\""),
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
        Self { identity, read_only: false, density: 0x5a, management: None, epoch: 0 }
    }

    /// Reads [`KEYS`], for a drive with these names.
    pub fn read(s: &Section<'_>, identity: Option<Identity>) -> Option<Self> {
        let model = |text: &str| MODELS.iter().find(|model| model.name == text);
        let (cartridge, read_only) = (s.parsed("cartridge", model), s.flag("read_only"));
        Some(Self { density: cartridge?.density, read_only: read_only?, ..Self::new(identity?) })
    }
}
