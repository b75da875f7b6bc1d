// SPDX-License-Identifier: GPL-2.0-or-later
//! A disk as all cores share it: what SPC gives every logical unit, and the state of its medium.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::io::Health;
use crate::scsi::primary::{self, PrimaryServer, PrimaryUnit, UnitFlags};
use crate::scsi::{CopyTraits, Sense, asc, key};
use crate::wire::ByteCount;

use super::config::Config;
use super::copy::Copies;
use super::flags::{CORRUPT, EJECTED, ERASING, FORMATTING, OF_MEDIUM, SANITIZING, UNSANITIZED, WRITE_CACHE};
use super::limits::Limits;
use super::mode;

/// A call into a disk.
pub(super) type Job<'a> = primary::Job<'a, Disk>;

/// A disk. Each command looks at it, so that it has no neighbours that are written.
#[repr(align(128))]
#[derive(Debug)]
pub struct Disk {
    config: Config,
    pub(super) primary: PrimaryUnit,
    rare: Mutex<RareState>,
}

/// What is rarely looked at, and is a disk's.
#[derive(Debug, Default)]
pub(super) struct RareState {
    pub copies: Copies,
    /// The size of the store, and how much could be allocated, when that was looked at last.
    pub bytes: Option<u64>,
    pub used: Option<u64>,
    pub available: Option<u64>,
    /// The soft threshold has been crossed and told.
    pub warned: bool,
    /// How often the medium was loaded or the unit started.
    pub starts: u32,
}

/// What an operator may want to know of a disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskReport {
    /// `ready`, `ejected`, `being formatted`, `being sanitized`, `format failed` or `sanitize failed`.
    pub medium: String,
    /// The medium can be taken out.
    pub removable: bool,
    /// What is written may stay in a cache.
    pub write_cache: bool,
    /// An initiator has set the software write protection.
    pub write_protected: bool,
    /// Mode pages are saved that differ from the configuration.
    pub modes_saved: bool,
    /// Bytes that are allocated, of a thin disk in a file.
    pub used_bytes: Option<u64>,
    /// Bytes that its file system has left.
    pub available_bytes: Option<u64>,
    /// Initiators are warned when less is left.
    pub threshold_bytes: Option<u64>,
}

impl DiskReport {
    /// That of a status; `None` if it is another device's.
    pub fn of(report: &Map<String, Value>) -> Option<Self> {
        serde_json::from_value(Value::Object(report.clone())).ok()
    }

    /// What is not as it is after the first start, for people.
    pub fn remarks(&self) -> Vec<String> {
        let mut found = Vec::new();
        if self.medium != "ready" {
            found.push(format!("medium: {}", self.medium));
        }
        if self.write_protected {
            found.push("write-protected by an initiator".into());
        }
        if self.modes_saved {
            let cache = if self.write_cache { "on" } else { "off" };
            found.push(format!("mode pages saved by an initiator; write cache {cache}"));
        }
        if let (Some(available), Some(threshold)) = (self.available_bytes, self.threshold_bytes)
            && available < threshold
        {
            let (left, wanted) = (ByteCount(available), ByteCount(threshold));
            found.push(format!("only {left} left on its file system, less than {wanted}"));
        }
        found
    }
}

impl Disk {
    /// Makes a disk in the state after power-on.
    pub fn new(config: Config) -> Self {
        let modes = mode::initial(&config);
        let (identity, management) = (config.identity.clone(), config.management.clone());
        let primary = PrimaryUnit::new::<Self>(identity, management, config.epoch, modes);
        Self { config, primary, rare: Mutex::new(RareState { starts: 1, ..RareState::default() }) }
    }

    /// Its configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// A device server for one core.
    pub fn server(self: &Arc<Self>) -> PrimaryServer<Self> {
        PrimaryServer::new(self.clone())
    }

    /// What is rarely looked at.
    pub(super) fn rare(&self) -> MutexGuard<'_, RareState> {
        self.rare.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How it is now.
    pub fn report(&self) -> DiskReport {
        let flags = self.primary.flags();
        let states = [
            (FORMATTING, "being formatted"),
            (SANITIZING, "being sanitized"),
            (EJECTED, "ejected"),
            (UNSANITIZED, "sanitize failed"),
            (CORRUPT, "format failed"),
        ];
        let medium = states.iter().find(|(bits, _)| flags.has(*bits)).map_or(&"ready", |(_, name)| name);
        let (modes_saved, threshold) = {
            let modes = &self.primary.state().modes;
            (modes.are_saved(), mode::threshold(modes))
        };
        let rare = self.rare();
        DiskReport {
            medium: (*medium).into(),
            removable: self.config.removable,
            write_cache: flags.has(WRITE_CACHE),
            write_protected: flags.has(UnitFlags::WRITE_PROTECT),
            modes_saved,
            used_bytes: rare.used,
            available_bytes: rare.available,
            threshold_bytes: threshold,
        }
    }

    /// Why the medium is not ready, if it is not.
    pub(super) fn not_ready(&self) -> Option<Sense> {
        let flags = self.primary.flags();
        if !flags.has(OF_MEDIUM) {
            return None;
        }
        if flags.has(ERASING) {
            return Some(self.busy_erasing());
        }
        Some(if flags.has(EJECTED) {
            Sense::new(key::NOT_READY, asc::MEDIUM_NOT_PRESENT)
        } else if flags.has(UNSANITIZED) {
            Sense::new(key::MEDIUM_ERROR, asc::SANITIZE_COMMAND_FAILED)
        } else {
            Sense::new(key::MEDIUM_ERROR, asc::MEDIUM_FORMAT_CORRUPTED)
        })
    }

    /// NOT READY while the medium is formatted or sanitized, with how far that is.
    pub(super) fn busy_erasing(&self) -> Sense {
        let code = if self.primary.flags().has(SANITIZING) {
            asc::LOGICAL_UNIT_NOT_READY_SANITIZE_IN_PROGRESS
        } else {
            asc::LOGICAL_UNIT_NOT_READY_FORMAT_IN_PROGRESS
        };
        Sense::new(key::NOT_READY, code).at_progress(self.primary.progress())
    }

    /// Whether it is not to be written.
    pub(super) fn is_protected(&self, limits: &Limits) -> bool {
        limits.read_only || self.primary.flags().has(UnitFlags::WRITE_PROTECT)
    }

    /// Whether what is written must be stable before the status: FUA, or no write cache.
    pub(super) fn writes_through(&self, fua: bool) -> bool {
        fua || !self.primary.flags().has(WRITE_CACHE)
    }

    /// What it is to copies.
    pub(super) fn traits(&self) -> CopyTraits {
        CopyTraits {
            device_type: 0,
            block: self.config.block.bytes(),
            write_through: self.writes_through(false),
        }
    }

    /// The store has been looked after. Returns the attentions for every nexus.
    pub(super) fn store_inspected(&self, health: &Health) -> Vec<u16> {
        let threshold = mode::threshold(&self.primary.state().modes);
        let mut rare = self.rare();
        let mut attentions = Vec::new();
        if rare.bytes.replace(health.bytes).is_some_and(|before| before != health.bytes) {
            attentions.push(asc::CAPACITY_DATA_HAS_CHANGED);
        }
        (rare.used, rare.available) = (health.used, health.available);
        let short = health.available.zip(threshold).is_some_and(|(bytes, least)| bytes < least);
        if short && !rare.warned {
            attentions.push(asc::THIN_PROVISIONING_SOFT_THRESHOLD_REACHED);
        }
        rare.warned = short;
        attentions
    }
}
