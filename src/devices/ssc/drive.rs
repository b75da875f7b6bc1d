// SPDX-License-Identifier: GPL-2.0-or-later
//! A tape drive: what SPC gives every logical unit, and the cartridge that is in it.

use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::alerts::TapeAlerts;
use super::config::TapeOptions;
use super::encryption::TapeEncryption;
use super::mode::{self, PartitionPlan, TapeModes};
use super::personality::Personality;
use crate::formats::tape::{CartridgeUse, PartitionArea, TapeImage, TapeMount};
use crate::io::Geometry;
use crate::scsi::primary::{self, Features, MediumAccess, PrimaryUnit, Shape, UnitFlags};
use crate::scsi::{Sense, asc, key};

/// A call into a tape drive.
pub(super) type Job<'a> = primary::Job<'a, Tape>;

/// The cartridge is out.
pub(super) const UNLOADED: UnitFlags = UnitFlags(0x10_0000);

/// Most bytes of a store operation that moves payload.
const CHUNK_MAX: u32 = 1 << 20;

/// A drive with its cartridge.
#[derive(Debug)]
pub struct Tape {
    options: TapeOptions,
    pub(super) primary: PrimaryUnit,
    /// Commands run one at a time on one core: nobody waits for this but who asks for a report.
    drive: Mutex<Drive>,
    /// A cartridge that was scanned, and has not come yet.
    scanned: Mutex<CartridgeState>,
    /// Cartridges that were made of empty stores.
    pub(super) blanks: AtomicU64,
}

impl Tape {
    /// Makes a drive in the state after power-on, with its cartridge loaded.
    pub fn new(options: TapeOptions) -> Self {
        let modes = mode::initial(&options);
        let (identity, management) = (options.identity.clone(), options.management.clone());
        let drive = Drive { modes: TapeModes::of(&modes), ..Drive::default() };
        let primary = PrimaryUnit::new::<Self>(identity, management, options.epoch, modes);
        Self {
            options,
            primary,
            drive: Mutex::new(drive),
            scanned: Mutex::default(),
            blanks: AtomicU64::new(0),
        }
    }

    /// How it is set up.
    pub(super) fn options(&self) -> &TapeOptions {
        &self.options
    }

    pub(super) fn drive(&self) -> MutexGuard<'_, Drive> {
        self.drive.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn scanned(&self) -> MutexGuard<'_, CartridgeState> {
        self.scanned.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The shape of a drive's store.
#[derive(Clone, Copy, Debug)]
pub struct TapeShape {
    /// Bytes of the store.
    pub(super) bytes: u64,
    /// Most bytes of a store operation, whole blocks of an image.
    pub(super) chunk: u32,
    /// The store refuses writes.
    pub(super) read_only: bool,
}

impl TapeShape {
    pub(super) fn new(geometry: &Geometry) -> Self {
        let chunk = geometry.transfer_max.min(CHUNK_MAX) & !4095;
        Self { bytes: geometry.bytes, chunk: chunk.max(4096), read_only: geometry.read_only }
    }
}

impl Shape for TapeShape {
    fn lba(&self, at: u64) -> u64 {
        at
    }

    fn chunk(&self) -> u32 {
        self.chunk
    }

    fn features(&self) -> Features {
        Features(0)
    }
}

/// What is known of the cartridge.
#[derive(Debug, Default)]
pub(super) enum CartridgeState {
    /// Nothing: it has just been loaded.
    #[default]
    Loaded,
    /// A part; the rest is being read.
    Mounting(Box<TapeMount>),
    /// All.
    Mounted(Box<TapeImage>),
    /// It cannot be used, and this is why.
    Unusable(Sense),
}

/// What ALLOW OVERWRITE has permitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Permitted {
    /// To write over what begins at this object of this partition, until the head goes elsewhere.
    Overwrite(usize, u64),
    /// FORMAT MEDIUM.
    Format,
}

/// Where the data of a partition ends, from its beginning to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum TapeZone {
    /// Before any warning.
    Free,
    /// Behind the programmable early warning.
    Programmable,
    /// Behind the early warning.
    Warning,
}

/// Bytes that have gone through a drive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct TapeCounts {
    /// Of records as initiators wrote and read them.
    pub(super) from_host: u64,
    pub(super) to_host: u64,
    /// As they lie on the cartridge.
    pub(super) to_medium: u64,
    pub(super) from_medium: u64,
    /// How many records these were, and how many could not be written or read.
    pub(super) records_written: u64,
    pub(super) records_read: u64,
    pub(super) write_errors: u64,
    pub(super) read_errors: u64,
    /// Cartridges that were mounted.
    pub(super) loads: u64,
}

/// What has to be known of a cartridge that is mounted beside its image.
#[derive(Clone, Copy, Debug, Default)]
struct MountedFacts {
    /// The drive does not write cartridges of that density.
    reads_only: bool,
}

/// The mechanism, with the cartridge in it.
#[derive(Debug, Default)]
pub(super) struct Drive {
    pub(super) medium: CartridgeState,
    /// The partition of the head.
    pub(super) partition: usize,
    /// The object in front of which the head is.
    pub(super) lba: u64,
    /// An initiator has brought the head there, or the cartridge came in: since the start of the daemon.
    pub(super) placed: bool,
    /// The mode parameters that are in force.
    pub(super) modes: TapeModes,
    /// Append-only mode was chosen for this cartridge: it stays until that is out.
    pub(super) keeps_appending: bool,
    pub(super) permitted: Option<Permitted>,
    /// Since the cartridge was mounted, and since the start.
    pub(super) this_load: TapeCounts,
    pub(super) ever: TapeCounts,
    pub(super) alerts: TapeAlerts,
    facts: MountedFacts,
    pub(super) encryption: TapeEncryption,
    /// An encrypted record was written or read since the cartridge was mounted.
    pub(super) saw_encrypted: bool,
    /// The medium partition page that was selected for the next FORMAT MEDIUM: it is told instead of what is there.
    pub(super) plan: Option<PartitionPlan>,
}

impl Drive {
    /// The cartridge, which a task mounts before it looks at it.
    pub(super) fn image(&mut self) -> &mut TapeImage {
        match &mut self.medium {
            CartridgeState::Mounted(image) => image,
            other => unreachable!("{other:?} is no mounted cartridge"),
        }
    }

    /// That is known of the cartridge.
    pub(super) fn take_in(&mut self, state: CartridgeState, drive: &Personality) {
        match state {
            CartridgeState::Mounted(image) => self.put_in(*image, drive),
            other => self.medium = other,
        }
    }

    /// The cartridge is mounted, unless the drive cannot read it.
    fn put_in(&mut self, image: TapeImage, drive: &Personality) {
        let density = image.cartridge().density;
        self.this_load = TapeCounts::default();
        (self.alerts, self.plan, self.saw_encrypted) = (TapeAlerts::default(), None, false);
        self.facts = MountedFacts { reads_only: !drive.writes(density) };
        if drive.reads(density) {
            self.count(|counts| counts.loads += 1);
            self.medium = CartridgeState::Mounted(Box::new(image));
        } else {
            let code = asc::CANNOT_READ_MEDIUM_INCOMPATIBLE_FORMAT;
            self.medium = CartridgeState::Unusable(Sense::new(key::MEDIUM_ERROR, code));
        }
    }

    /// A command of such an access ended with this.
    pub(super) fn failed(&mut self, sense: &Sense, access: Option<MediumAccess>) {
        self.alerts.take(sense, access);
        match (sense.key, sense.code) {
            (key::MEDIUM_ERROR, asc::WRITE_ERROR) => self.count(|counts| counts.write_errors += 1),
            (key::MEDIUM_ERROR, asc::UNRECOVERED_READ_ERROR) => self.count(|counts| counts.read_errors += 1),
            _ => {}
        }
    }

    /// Counts something.
    pub(super) fn count(&mut self, add: impl Fn(&mut TapeCounts)) {
        add(&mut self.this_load);
        add(&mut self.ever);
    }

    /// The cartridge goes out: the next load finds what is on the store then.
    pub(super) fn take_out(&mut self) {
        self.rewind();
        self.medium = CartridgeState::Loaded;
        (self.keeps_appending, self.permitted) = (false, None);
        self.encryption.demount();
    }

    /// The cartridge, if it is mounted.
    pub(super) fn mounted(&self) -> Option<&TapeImage> {
        match &self.medium {
            CartridgeState::Mounted(image) => Some(image),
            _ => None,
        }
    }

    /// Whether the tab of the cartridge is set, if that is known.
    pub(super) fn is_protected(&self) -> bool {
        self.mounted().is_some_and(|image| self.facts.reads_only || image.cartridge().write_protected)
    }

    /// Where the early warning begins in a partition, in bytes of its capacity.
    pub(super) fn warning_at(area: &PartitionArea) -> u64 {
        const WARNING_MAX: u64 = 256 << 20;
        area.capacity - (area.capacity / 32).min(WARNING_MAX)
    }

    /// The zone in which a partition of the head with so many bytes before a position is there.
    pub(super) fn zone_of(&mut self, used: u64) -> TapeZone {
        let (partition, zone) = (self.partition, self.modes.warning_zone);
        let warning = Self::warning_at(&self.image().partitions()[partition]);
        match used {
            _ if used > warning => TapeZone::Warning,
            _ if zone > 0 && used > warning.saturating_sub(zone) => TapeZone::Programmable,
            _ => TapeZone::Free,
        }
    }

    /// The zone in which the data ends.
    pub(super) fn zone(&mut self) -> TapeZone {
        let partition = self.partition;
        let used = self.image().used(partition);
        self.zone_of(used)
    }

    /// Whether what is written at the head lies behind the early warning.
    pub(super) fn past_warning(&mut self) -> bool {
        self.zone() == TapeZone::Warning
    }

    /// Takes mode parameters that are in force now.
    pub(super) fn take_modes(&mut self, modes: TapeModes, unloaded: bool) {
        self.keeps_appending |= modes.append_only && !unloaded;
        if modes.plan != self.modes.plan {
            self.plan = Some(modes.plan);
        }
        self.modes = modes;
    }

    /// Brings the head to another place.
    pub(super) fn go_to(&mut self, partition: usize, lba: u64) {
        (self.partition, self.lba, self.placed, self.permitted) = (partition, lba, true, None);
    }

    /// Whether there is room for a record of so many bytes before the physical end.
    pub(super) fn has_room(&mut self, bytes: u32) -> bool {
        let partition = self.partition;
        let image = self.image();
        image.used(partition) + u64::from(bytes) <= image.partitions()[partition].capacity
    }

    /// Why nothing is to be written at the head, if so: the tab is set, or there is something behind and it is written
    /// once, or the daemon was started again: programs that had a tape at its end then, and repeat what ends with a
    /// unit attention, would write over its beginning.
    pub(super) fn refusal(&mut self) -> Option<Sense> {
        let (partition, lba, placed) = (self.partition, self.lba, self.placed || self.lba > 0);
        if self.is_protected() {
            return Some(Sense::new(key::DATA_PROTECT, asc::WRITE_PROTECTED));
        }
        let image = self.image();
        let cartridge = image.cartridge();
        let (worm, over) = (cartridge.purpose == CartridgeUse::Worm, lba < image.end(partition).lba);
        let kept = self.modes.append_only && self.permitted != Some(Permitted::Overwrite(partition, lba));
        if over && !placed {
            return Some(Sense::illegal(asc::SEQUENTIAL_POSITIONING_ERROR));
        }
        let refused = over && (worm || kept);
        refused.then(|| Sense::new(key::DATA_PROTECT, asc::WORM_MEDIUM_OVERWRITE_ATTEMPTED))
    }

    /// Why the whole cartridge is not to be made anew, if so. That is done at its beginning only.
    pub(super) fn renewal_refusal(&mut self) -> Option<Sense> {
        if (self.partition, self.lba) != (0, 0) {
            return Some(Sense::illegal(asc::POSITION_PAST_BEGINNING_OF_MEDIUM));
        }
        let kept = self.modes.append_only && self.permitted != Some(Permitted::Format);
        if self.is_protected() {
            return Some(Sense::new(key::DATA_PROTECT, asc::WRITE_PROTECTED));
        }
        let refused = kept || self.image().cartridge().purpose == CartridgeUse::Worm;
        refused.then(|| Sense::new(key::DATA_PROTECT, asc::WORM_MEDIUM_OVERWRITE_ATTEMPTED))
    }

    /// Brings the head to the beginning of the first partition.
    pub(super) fn rewind(&mut self) {
        self.go_to(0, 0);
    }

    /// The head does not stay behind the end of the data when some of that is lost.
    pub(super) fn stay_inside(&mut self) {
        if let CartridgeState::Mounted(image) = &self.medium {
            self.lba = self.lba.min(image.end(self.partition).lba);
        }
    }
}

/// What an operator may want to know of a drive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TapeReport {
    /// `ready`, `none`, `coming`, `not mounted yet`, `mounting`, `unloaded` or why the cartridge cannot be used.
    pub medium: String,
    /// Its barcode, if it has one.
    pub barcode: Option<String>,
    /// The partition of the head.
    pub partition: usize,
    /// Number of the object in front of which the head is.
    pub position: u64,
    /// Bytes of the capacity of that partition.
    pub capacity_bytes: Option<u64>,
    /// ... of which so many are used.
    pub used_bytes: Option<u64>,
    /// Which drive it is.
    pub personality: String,
    /// Bytes of records that initiators have written since the start.
    pub written_bytes: u64,
    /// ... and read.
    pub read_bytes: u64,
    /// TapeAlert flags that are raised.
    pub alerts: Vec<u8>,
}

impl TapeReport {
    /// That of a status; `None` if it is another device's.
    pub fn of(report: &Map<String, Value>) -> Option<Self> {
        serde_json::from_value(Value::Object(report.clone())).ok()
    }

    /// What is not as it is after the first start, for people.
    pub fn remarks(&self) -> Vec<String> {
        let usual = ["ready", "not mounted yet", "mounting"].contains(&&*self.medium);
        if usual { Vec::new() } else { vec![format!("cartridge: {}", self.medium)] }
    }
}

impl Tape {
    /// How it is now.
    pub fn report(&self) -> TapeReport {
        let flags = self.primary.flags();
        let drive = self.drive();
        let medium = match &drive.medium {
            _ if flags.has(UnitFlags::MEDIUM_COMES) => "coming".into(),
            _ if flags.has(UnitFlags::NO_MEDIUM) => "none".into(),
            _ if flags.has(UNLOADED) => "unloaded".into(),
            CartridgeState::Loaded => "not mounted yet".into(),
            CartridgeState::Mounting(_) => "mounting".into(),
            CartridgeState::Mounted(_) => "ready".into(),
            CartridgeState::Unusable(sense) => {
                format!("cannot be used (sense {:X}h/{:04X}h)", sense.key, sense.code)
            }
        };
        let image = drive.mounted();
        let barcode = image.map(|image| image.cartridge().barcode.clone()).filter(|code| !code.is_empty());
        TapeReport {
            medium,
            barcode,
            partition: drive.partition,
            position: drive.lba,
            capacity_bytes: image.map(|image| image.partitions()[drive.partition].capacity),
            used_bytes: image.map(|image| image.used(drive.partition)),
            personality: self.options.personality.name.into(),
            written_bytes: drive.ever.from_host,
            read_bytes: drive.ever.to_host,
            alerts: drive.alerts.flags().collect(),
        }
    }
}
