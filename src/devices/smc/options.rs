// SPDX-License-Identifier: GPL-2.0-or-later
//! How the configuration sets up a library.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::changer::{ENTRY_MAX, MediaChanger};
use super::elements::ElementAddresses;
use super::personality::{LibraryPersonality, PERSONALITIES};
use crate::devices::{DeviceOptions, LibraryPlan};
use crate::io::{RECORD_MAX, StoreNeeds};
use crate::options::Absent::{Is, Means, Required};
use crate::options::ValueKind::{Number, Text, Texts};
use crate::options::{Key, Section, key};
use crate::scsi::primary::{Identity, LogicalUnit};

/// Most slots, import/export elements and drives: the record of what is in them has room for all.
const SLOTS_MAX: u64 = 6000;
const MAIL_MAX: u64 = 0xe0;
const DRIVES_MAX: usize = 0x80;
const _: () = assert!((SLOTS_MAX as usize + MAIL_MAX as usize + DRIVES_MAX) * ENTRY_MAX < RECORD_MAX);

/// How a library is set up.
#[derive(Clone, Debug)]
pub struct LibraryOptions {
    personality: &'static LibraryPersonality,
    identity: Identity,
    addresses: ElementAddresses,
    plan: LibraryPlan,
}

/// Where elements of a type begin.
const fn first(name: &'static str, example: &'static str, doc: &'static str) -> Key {
    key(name, Number(1, 0xffff), Means("as with the library of that `personality`"), example, doc)
}

/// The keys that are a library's.
pub const KEYS: &[Key] = &[
    key(
        "personality",
        Text(
            "\"ptgt\"; \"ibm-3573\" or \"ibm-3584\"; \"hp-msl-g3\" or \"hp-msl6000\"; \"quantum-scalar-i40-i80\", \"-i500\" or \
             \"-i6000\"; \"stk-l700\", \"stk-sl500\" or \"stk-sl150\"",
        ),
        Is("\"ptgt\""),
        "\"ibm-3573\"",
        "Which library initiators see: its vendor, product and revision, unless they are given here, its element addresses, \
         and how it names its drives.",
    ),
    key(
        "cartridges",
        Text("a directory"),
        Required,
        "\"/var/lib/ptgt/library\"",
        "Where the images of its cartridges lie, each named after its barcode: A00001L8.ptt. `ptgt image create` makes them.",
    ),
    key("slots", Number(1, SLOTS_MAX), Is("20"), "", "Slots for cartridges."),
    key("import_export", Number(0, MAIL_MAX), Is("0"), "", "Import/export elements."),
    key(
        "drives",
        Texts("the name of a [[tape]] without `store`"),
        Is("[]"),
        "",
        "Its drives, in the order of their element addresses.",
    ),
    first("first_slot", "4096", "Element address of the first slot."),
    first("first_import_export", "16", "Element address of the first import/export element."),
    first("first_drive", "256", "Element address of the first drive."),
];

/// ... and the product name that it goes by.
pub const PRODUCT: &[Key] = &[key(
    "product",
    Text("1 to 16 ASCII characters"),
    Is("\"VIRTUAL-LIBRARY\""),
    "",
    "Product, as INQUIRY reports it.",
)];

impl LibraryOptions {
    /// Reads [`KEYS`], for a library with these names. Paths are relative to `base`.
    pub fn read(s: &Section<'_>, identity: Option<Identity>, base: &Path) -> Option<Self> {
        let cartridges = s.text("cartridges").map(|path| base.join(path));
        let (slots, mail) = (s.number("slots"), s.number("import_export"));
        let drives = s.texts("drives", |text| Some(text.to_owned()));
        if let Some(drives) = &drives {
            if drives.len() > DRIVES_MAX {
                let help = format!("give up to {DRIVES_MAX} drives");
                s.error("drives", format!("has {} entries", drives.len()), help);
            }
            for (at, (name, span)) in drives.iter().enumerate() {
                if drives[..at].iter().any(|(other, _)| other == name) {
                    s.error_at(
                        span.clone(),
                        "drives",
                        format!("{name:?} is there twice"),
                        "each drive is given once",
                    );
                }
            }
        }
        let drives: Vec<String> = drives?.into_iter().map(|(name, _)| name).collect();
        let known = |text: &str| PERSONALITIES.iter().find(|known| known.name == text);
        let personality = s.parsed("personality", known);
        let first_of = |name| s.optional(name, |key| s.number(key));
        let [slot, mail_at, drive] = ["first_slot", "first_import_export", "first_drive"].map(first_of);
        let (personality, slot, mail_at, drive) = (personality?, slot?, mail_at?, drive?);
        let [hand, slot_of, mail_of, drive_of] = personality.first;
        let first = [hand, slot.unwrap_or(slot_of), mail_at.unwrap_or(mail_of), drive.unwrap_or(drive_of)];
        let count = [1, slots?, mail?, u16::try_from(drives.len()).ok()?];
        let Some(addresses) = ElementAddresses::new(first, count) else {
            let [_, slot, mail, drive] = first;
            let message = format!(
                "do not fit: slots from {slot}, import/export elements from {mail} and drives from {drive} on overlap, or \
                 there is no address left"
            );
            s.error("slots", message, "give fewer, or other element addresses (`first_slot` and its like)");
            return None;
        };
        let plan = LibraryPlan { cartridges: cartridges?, drives };
        // What the file gives is there already.
        let given = ["vendor", "product", "revision"].map(|key| s.given(key));
        let mut names = personality.inquiry.map(Some);
        names.iter_mut().zip(given).filter(|(_, given)| *given).for_each(|(name, _)| *name = None);
        let identity = identity?.renamed(names).expect("the names of the table fit");
        Some(Self { personality, identity, addresses, plan })
    }
}

impl DeviceOptions for LibraryOptions {
    fn unit(&self, management: Option<Arc<str>>, epoch: u64) -> Arc<dyn LogicalUnit> {
        Arc::new(MediaChanger::new(
            self.personality,
            self.identity.clone(),
            management,
            epoch,
            self.addresses.clone(),
        ))
    }

    fn needs(&self) -> StoreNeeds {
        StoreNeeds { block: 512, read_only: false, thin: false }
    }

    fn library(&self) -> Option<&LibraryPlan> {
        Some(&self.plan)
    }
}

/// The file of a cartridge, in the directory of its library.
pub fn cartridge_path(directory: &Path, barcode: &str) -> PathBuf {
    directory.join(format!("{barcode}.{EXTENSION}"))
}

const EXTENSION: &str = "ptt";

/// The barcode of the cartridge that a file is, if it is one.
pub fn barcode_of(path: &Path) -> Option<&str> {
    let is_cartridge = path.extension().is_some_and(|extension| extension == EXTENSION);
    let barcode = path.file_stem()?.to_str()?;
    (is_cartridge && super::changer::is_barcode(barcode)).then_some(barcode)
}
