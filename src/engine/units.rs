// SPDX-License-Identifier: GPL-2.0-or-later
//! Logical units as the configuration gives them: one row for each device type, and what they have in common. A row
//! joins a device with its store, which do not know each other.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Map, Value};

use super::tasks::{Answer, CommandFault};
#[cfg(test)]
use crate::devices::toy;
use crate::devices::{DeviceOptions, LibraryPlan, sbc, smc, ssc};
use crate::io::FaultRate;
use crate::options::Absent::{Is, Means, Required};
use crate::options::ValueKind::{Number, Tables, Text};
use crate::options::{Key, Section, Table, key, nearest, with_absent, with_examples};
use crate::scsi::Status;
use crate::scsi::primary::{Definition, Identity};
use crate::stores::{self, ConfiguredStore, IdentityRecord, ImageRefusal, StoreFault, image_record};

/// Reads what is a device's alone, for a unit with these names; paths are relative to that one.
type ReadDevice = fn(&Section<'_>, Option<Identity>, &Path) -> Option<Arc<dyn DeviceOptions>>;

/// A device type.
pub struct UnitKind {
    /// The key of the configuration that lists such units, and their table.
    pub key: Key,
    /// What is behind them.
    store: StoreUse,
    /// Whether they run one command at a time, all on one core.
    pub serial: bool,
    read: ReadDevice,
    /// Their commands.
    commands: fn() -> Box<dyn Iterator<Item = &'static Definition>>,
    /// What is remarkable in a report, for people.
    pub remarks: fn(&Map<String, Value>) -> Vec<String>,
}

/// Whether device types have a store.
#[derive(Clone, Copy, PartialEq, Eq)]
enum StoreUse {
    /// One is behind each.
    Always,
    /// It is the medium, which comes and goes.
    Removable,
    /// They have none.
    Never,
}

/// All device types, in the order of the reference.
pub const KINDS: &[UnitKind] = &[
    UnitKind {
        key: key("disk", Tables(DISK), Means("none"), "", "Blocks."),
        store: StoreUse::Always,
        serial: false,
        read: |s, identity, _| Some(Arc::new(sbc::Config::read(s, identity)?)),
        commands: || Box::new(sbc::commands()),
        remarks: |report| sbc::DiskReport::of(report).map_or_else(Vec::new, |report| report.remarks()),
    },
    UnitKind {
        key: key("tape", Tables(TAPE), Means("none"), "", "Tape drives."),
        store: StoreUse::Removable,
        serial: true,
        read: |s, identity, _| Some(Arc::new(ssc::TapeOptions::read(s, identity)?)),
        commands: || Box::new(ssc::commands()),
        remarks: |report| ssc::TapeReport::of(report).map_or_else(Vec::new, |report| report.remarks()),
    },
    UnitKind {
        key: key("library", Tables(LIBRARY), Means("none"), "", "Tape libraries."),
        store: StoreUse::Never,
        serial: true,
        read: |s, identity, base| Some(Arc::new(smc::LibraryOptions::read(s, identity, base)?)),
        commands: || Box::new(smc::commands()),
        remarks: |_| Vec::new(),
    },
    #[cfg(test)]
    UnitKind {
        key: key("toy", Tables(TOY), Means("none"), "", "Greetings."),
        store: StoreUse::Never,
        serial: true,
        read: |s, identity, _| Some(Arc::new(toy::ToyOptions::read(s, identity)?)),
        commands: || Box::new(toy::commands()),
        remarks: |_| Vec::new(),
    },
];

/// The keys of the configuration that list units.
pub const KEYS: [Key; KINDS.len()] = {
    let mut keys = [KINDS[0].key; KINDS.len()];
    let mut i = 0;
    while i < keys.len() {
        keys[i] = KINDS[i].key;
        i += 1;
    }
    keys
};

const DISK: &Table = &Table {
    doc: "A disk, and where its blocks lie.",
    groups: &[
        NAME,
        stores::STORE_KEYS,
        sbc::KEYS,
        stores::FAULT_KEYS,
        COMMAND_FAULTS,
        VENDOR,
        sbc::PRODUCT,
        NAMES,
    ],
};

const TAPE: &Table = &Table {
    doc: "A tape drive, and where the image of the cartridge lies that is in it.",
    groups: &[
        &TAPE_NAME,
        &TAPE_STORE,
        ssc::KEYS,
        stores::FAULT_KEYS,
        COMMAND_FAULTS,
        VENDOR,
        ssc::PRODUCT,
        &TAPE_NAMES,
    ],
};

const TAPE_NAME: [Key; NAME.len()] = with_examples(NAME, &[("name", "\"tape0\"")]);

const TAPE_STORE: [Key; stores::STORE_KEYS.len()] = with_absent(
    with_examples(stores::STORE_KEYS, &[("path", "\"/var/lib/ptgt/tape0.ptt\"")]),
    "store",
    Means("no cartridge is in the drive"),
);

const TAPE_NAMES: [Key; NAMES.len()] = with_absent(
    with_examples(NAMES, &[("serial", "\"T0002\""), ("uuid", "\"6a1d3c70-52f4-4b0c-9e55-0c2f3a9d7b12\"")]),
    "uuid",
    Means("made of the machine's id and the name: the drive stays the same with any cartridge"),
);

const LIBRARY: &Table = &Table {
    doc: "A tape library: a media changer with its drives, slots and cartridges.",
    groups: &[&LIBRARY_NAME, smc::KEYS, COMMAND_FAULTS, VENDOR, smc::PRODUCT, &LIBRARY_NAMES],
};

const LIBRARY_NAME: [Key; NAME.len()] = with_examples(NAME, &[("name", "\"library\"")]);

const LIBRARY_NAMES: [Key; NAMES.len()] =
    with_examples(NAMES, &[("serial", "\"L0001\""), ("uuid", "\"0d6b7c52-8a1f-4f3e-9a61-5e0f1b7c9d20\"")]);

#[cfg(test)]
const TOY: &Table = &Table {
    doc: "A processor device that says one thing. For tests.",
    groups: &[NAME, toy::KEYS, COMMAND_FAULTS, VENDOR, NAMES],
};

const NAME: &[Key] = &[key(
    "name",
    Text("a name"),
    Required,
    "\"thin0\"",
    "Its name in `luns` of targets. Initiators do not see it.",
)];

const COMMAND_FAULTS: &[Key] = &[
    key(
        "command_faults",
        Tables(COMMAND_FAULT),
        Is("[]"),
        "",
        "Delays and errors of commands, to test initiators.",
    ),
    key(
        "fault_seed",
        Number(0, i64::MAX as u64),
        Is("1"),
        "",
        "Random seed of `faults` and `command_faults`: with the same seed, the same operations in the \
         same order meet the same faults.",
    ),
];

const VENDOR: &[Key] =
    &[key("vendor", Text("1 to 8 ASCII characters"), Is("\"PTGT\""), "", "Vendor, as INQUIRY reports it.")];

const NAMES: &[Key] = &[
    key("revision", Text("1 to 4 ASCII characters"), Is("\"0001\""), "", "Revision, as INQUIRY reports it."),
    key(
        "serial",
        Text("1 to 64 ASCII characters"),
        Means("the digits of the UUID"),
        "\"T0001\"",
        "Unit serial number.",
    ),
    key(
        "uuid",
        Text("a UUID"),
        Means("random, and kept with the image"),
        "\"0f81b2d4-9d1c-4a70-8a55-3f6f0c6f2a11\"",
        "The identity, from which its identifiers are derived. Without it, an image that the daemon \
         creates gets a random one, kept beside it (IMAGE.ptgt) and in `state_dir`; an image that existed \
         before gets one derived from the unit's name; a unit without an image, one derived from the \
         machine's id and its name.",
    ),
];

/// The rules of `command_faults`.
const COMMAND_FAULT: &Table = &Table {
    doc: "A rule by which commands are slow or fail before the logical unit sees them, to test initiators. \
         If several rules match a command, their delays add up and the first answer counts. A command \
         that a reservation or a unit attention ends does not count.",
    groups: &[
        &[
            key(
                "command",
                Text("a command such as \"WRITE(10)\", or an operation code such as \"0x2a\""),
                Required,
                "\"TEST UNIT READY\"",
                "Which command it applies to: by its name in the standards (`ptgt check` lists them all \
                 when it does not know one), or by its operation code, with all its service actions.",
            ),
            key(
                "answer",
                Text(
                    "\"none\", \"busy\", \"task-set-full\", or sense key, code and qualifier in hexadecimal digits such as \"0b/47/03\"",
                ),
                Is("\"none\""),
                "\"0b/47/03\"",
                "How the command ends: as usual, with the status BUSY or TASK SET FULL, or with CHECK \
                 CONDITION and this sense.",
            ),
        ],
        FaultRate::KEYS,
    ],
};

impl UnitKind {
    /// Whether their medium comes and goes.
    pub fn is_removable(&self) -> bool {
        self.store == StoreUse::Removable
    }
}

/// The kind of that name.
pub fn kind(name: &str) -> Option<&'static UnitKind> {
    KINDS.iter().find(|kind| kind.key.name == name)
}

/// Where the identity of a unit comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdentitySource {
    /// The configuration.
    Given,
    /// What is kept of its image, or will be with the next start.
    Kept(IdentityRecord),
    /// Its name and this machine's id.
    Machine,
    /// Its name alone; why nothing better.
    Name(String),
    /// Its name, as the file alone was looked at: a daemon may know better.
    Unread,
}

/// A logical unit as the configuration gives it.
#[derive(Clone, Debug)]
pub struct UnitOptions {
    /// Name of its kind.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// Its names on the wire.
    pub identity: Identity,
    /// Where they come from.
    pub identity_source: IdentitySource,
    /// What is said of the device.
    pub device: Arc<dyn DeviceOptions>,
    /// What is behind it.
    pub store: Option<ConfiguredStore>,
    /// Delays and errors that the store makes.
    pub faults: Vec<StoreFault>,
    /// Delays and errors of commands.
    pub command_faults: Vec<CommandFault>,
    /// What their chance comes from.
    pub fault_seed: u64,
    /// Why its image could not be opened by who read this, or not at that moment, if that was looked at.
    pub refusal: Option<ImageRefusal>,
}

impl UnitOptions {
    /// Reads a unit of that kind. Paths are relative to `base`; with a state directory, the image is looked at.
    /// `identify` reads the names of a unit that is called so and has this image; its store may be unknown.
    pub fn read(
        kind: &UnitKind,
        s: Section<'_>,
        base: &Path,
        state: Option<&Path>,
        identify: impl FnOnce(
            &Section<'_>,
            Option<&str>,
            Option<Option<&Path>>,
        ) -> Option<(Identity, IdentitySource)>,
    ) -> Option<Self> {
        let name = s.text("name");
        let has_store = match kind.store {
            StoreUse::Always => true,
            StoreUse::Removable => s.given("store"),
            StoreUse::Never => false,
        };
        let store = if has_store { ConfiguredStore::read(&s, base).map(Some) } else { Some(None) };
        // Who is known by its name does not become another one with another medium.
        let image = match kind.is_removable() {
            true => Some(None),
            false => store.as_ref().map(|store| Some(store.as_ref()?.options.image()?.0)),
        };
        let identity = identify(&s, name.as_deref(), image);
        let device = (kind.read)(&s, identity.as_ref().map(|(identity, _)| identity.clone()), base);
        let block = device.as_ref().map(|device| device.needs().block);
        let faults = if has_store || kind.is_removable() { s.sections("faults") } else { Vec::new() };
        let faults = faults.into_iter().map(|s| StoreFault::read(s, block)).collect::<Option<_>>();
        let command_faults = s.sections("command_faults").into_iter().map(|s| command_fault(s, kind));
        let command_faults = command_faults.collect::<Option<_>>();
        let fault_seed = s.number("fault_seed");
        let known = store.is_some();
        let mut unit = (|| {
            let (identity, identity_source) = identity?;
            Some(Self {
                kind: kind.key.name,
                name: name?,
                identity,
                identity_source,
                device: device?,
                store: store?,
                faults: faults?,
                command_faults: command_faults?,
                fault_seed: fault_seed?,
                refusal: None,
            })
        })();
        if let (Some(unit), Some(state)) = (&mut unit, state) {
            unit.refusal = unit.examine(state).err();
            if let Some(refusal) = unit.refusal.as_ref().filter(|refusal| refusal.certain) {
                s.error(refusal.key, &refusal.message, &refusal.help);
            }
        }
        // Which keys belong to a store that is not known, is not known, either.
        if known {
            s.finish();
        }
        unit
    }

    /// Whether a library may bring media to it.
    pub fn is_drive(&self) -> bool {
        kind(self.kind).is_some_and(UnitKind::is_removable)
    }

    /// Whether the same is said of both. What devices and stores are told is behind traits: it is what they print.
    pub fn is_like(&self, other: &Self) -> bool {
        self.is_like_but_for_the_medium(other) && self.has_store_of(other)
    }

    /// Whether the same is said of both, apart from their stores.
    fn is_like_but_for_the_medium(&self, other: &Self) -> bool {
        let told = |unit: &Self| {
            let Self { kind, name, identity, device, faults, command_faults, fault_seed, .. } = unit;
            format!("{:?}", (kind, name, identity, device, faults, command_faults, fault_seed))
        };
        told(self) == told(other)
    }

    /// Whether it is the same unit with another medium.
    pub fn has_another_medium(&self, other: &Self) -> bool {
        let is_removable = kind(self.kind).is_some_and(UnitKind::is_removable);
        is_removable && self.is_like_but_for_the_medium(other) && !self.has_store_of(other)
    }

    /// Whether the same is behind both.
    pub fn has_store_of(&self, other: &Self) -> bool {
        let told =
            |unit: &Self| format!("{:?}", (&unit.store, unit.device.needs(), &unit.faults, unit.fault_seed));
        told(self) == told(other)
    }

    /// Its image.
    pub fn image(&self) -> Option<&Path> {
        self.store.as_ref()?.options.image().map(|(path, _)| path)
    }

    /// Bytes of memory that its store takes of huge pages, if there are some.
    pub fn memory(&self) -> u64 {
        self.store.as_ref().map_or(0, |store| store.options.memory())
    }

    /// Whether its image is not there yet.
    pub fn is_to_be_made(&self) -> bool {
        self.image().is_some_and(|path| !path.exists())
    }

    /// Keeps the identity of its image, before it is served. The error says what to do.
    pub fn keep_identity(&self, state: &Path) -> Result<(), String> {
        let (Some(path), IdentitySource::Kept(record)) = (self.image(), &self.identity_source) else {
            return Ok(());
        };
        let uuid = &record.uuid;
        record.keep(path, state).map_err(|e| {
            format!("its identity cannot be kept: {e}; give `uuid = \"{uuid}\"`, or a `state_dir`")
        })?;
        match IdentityRecord::find(path, state) {
            Ok(Some(kept)) if kept == *record => Ok(()),
            Ok(_) => Err("another daemon has just given its image an identity; start this one again".into()),
            Err(refusal) => Err(format!("{}; {}", refusal.message, refusal.help)),
        }
    }

    /// Where it is recorded that the unit has had an image.
    pub fn record(&self, state: &Path) -> PathBuf {
        image_record(state, &self.identity.uuid().to_string())
    }

    /// Whether its store can be opened, or its cartridges be found, as far as that can be seen without changing
    /// anything.
    pub fn examine(&self, state: &Path) -> Result<(), ImageRefusal> {
        if let Some(LibraryPlan { cartridges, .. }) = self.device.library() {
            stores::examine_directory("cartridges", cartridges)?;
        }
        let examine =
            |store: &ConfiguredStore| store.options.examine(self.device.needs(), self.record(state));
        self.store.as_ref().map_or(Ok(()), examine)
    }
}

/// A rule by which commands are slow or fail.
fn command_fault(s: Section<'_>, kind: &UnitKind) -> Option<CommandFault> {
    let command = s.text("command").and_then(|text| {
        let found = command(&text, kind);
        if found.is_none() {
            let names: Vec<&str> = (kind.commands)().map(|definition| definition.name).collect();
            let mut others = names.clone();
            others.dedup();
            let all = format!(
                "give an operation code of a {} such as \"0x2a\", or a name: {}",
                kind.key.name,
                others.join("; ")
            );
            s.error(
                "command",
                format!("{text:?} is not a command of a {}", kind.key.name),
                nearest(&text, &names, &all),
            );
        }
        found
    });
    let answer = s.parsed("answer", answer);
    let rate = FaultRate::read(&s, answer.map(|answer| answer != Answer::Usual), "answer");
    s.finish();
    let (opcode, action) = command?;
    Some(CommandFault { opcode, action, answer: answer?, rate: rate? })
}

/// The operation code, and the service action if one is meant, by name or number.
fn command(text: &str, kind: &UnitKind) -> Option<(u8, Option<u16>)> {
    if let Some(digits) = text.strip_prefix("0x") {
        let opcode = u8::from_str_radix(digits, 16).ok()?;
        return (kind.commands)().any(|definition| definition.opcode == opcode).then_some((opcode, None));
    }
    let definition = (kind.commands)().find(|definition| definition.name.eq_ignore_ascii_case(text))?;
    Some((definition.opcode, definition.action))
}

/// How a command ends.
fn answer(text: &str) -> Option<Answer> {
    match text {
        "none" => return Some(Answer::Usual),
        "busy" => return Some(Answer::Status(Status::Busy)),
        "task-set-full" => return Some(Answer::Status(Status::TaskSetFull)),
        _ => {}
    }
    let byte = |digits: &str| match digits.len() {
        1 | 2 => u8::from_str_radix(digits, 16).ok(),
        _ => None,
    };
    let mut parts = text.split('/');
    let (key, code, qualifier) = (byte(parts.next()?)?, byte(parts.next()?)?, byte(parts.next()?)?);
    let rest = parts.next();
    (rest.is_none() && key < 0x10).then(|| Answer::Check(key, u16::from_be_bytes([code, qualifier])))
}
