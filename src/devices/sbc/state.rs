// SPDX-License-Identifier: GPL-2.0-or-later
//! What may change of a disk: the bits that every command looks at, and what few look at.

use smallvec::SmallVec;

use crate::io::Health;
use crate::scsi::primary::{InitiatorData, ModeValues};
use crate::scsi::{NexusId, Sense, asc, key};

use super::copy::Copies;
use super::logs::Totals;
use super::selftest::SelfTestResults;
use super::{Config, Disk, mode};

/// Independent bits, so that one atomic word is a consistent snapshot of them, which costs a command on any core no more
/// than a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Parameters(pub u32);

impl Parameters {
    pub(super) const WRITE_CACHE: Self = Self(1);
    pub(super) const DESCRIPTOR_SENSE: Self = Self(2);
    pub(super) const WRITE_PROTECT: Self = Self(4);
    /// TAS of the control mode page.
    pub(super) const ABORTED_STATUS: Self = Self(8);
    /// QERR is not zero.
    pub(super) const ABORT_OTHERS: Self = Self(0x10);
    /// UA_INTLCK_CTRL is not zero ...
    pub(super) const INTERLOCK: Self = Self(0x20);
    /// ... and is 11b.
    pub(super) const INTERLOCK_MAKES: Self = Self(0x40);
    /// FORMAT UNIT is under way.
    pub(super) const FORMATTING: Self = Self(0x100);
    /// FORMAT UNIT has failed.
    pub(super) const CORRUPT: Self = Self(0x200);
    /// SANITIZE is under way.
    pub(super) const SANITIZING: Self = Self(0x400);
    /// SANITIZE has failed.
    pub(super) const UNSANITIZED: Self = Self(0x800);
    /// ... and allows the exit from that state (AUSE).
    pub(super) const EXIT_ALLOWED: Self = Self(0x1000);
    /// The medium is out.
    pub(super) const EJECTED: Self = Self(0x2000);
    /// All that the medium has gone through, which no reset changes.
    pub(super) const OF_MEDIUM: Self = Self(0xff00);
    /// Format and sanitize operations: nothing else is carried out meanwhile.
    pub(super) const ERASING: Self = Self(Self::FORMATTING.0 | Self::SANITIZING.0);

    /// Whether one of the bits is set.
    pub(super) fn has(self, bits: Self) -> bool {
        self.0 & bits.0 != 0
    }

    pub(super) fn set(&mut self, bits: Self, on: bool) {
        self.0 = if on { self.0 | bits.0 } else { self.0 & !bits.0 };
    }
}

/// What is rarely looked at.
#[derive(Debug)]
pub(super) struct RareState {
    /// The values of the mode pages; what every command needs of them is in [`Parameters`].
    pub modes: ModeValues,
    pub initiator_data: InitiatorData,
    /// Who prevents the removal of the medium.
    pub prevented: SmallVec<[NexusId; 4]>,
    /// What had been counted when the counters were reset.
    pub before: Totals,
    pub self_tests: SelfTestResults,
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

impl RareState {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            modes: mode::initial(config),
            initiator_data: InitiatorData::new(config.epoch),
            prevented: SmallVec::new(),
            before: Totals::default(),
            self_tests: SelfTestResults::default(),
            copies: Copies::default(),
            bytes: None,
            used: None,
            available: None,
            warned: false,
            starts: 1,
        }
    }
}

/// What an operator may want to know of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskReport {
    /// What the medium goes through; `ready` as a rule.
    pub medium: &'static str,
    /// What is written may stay in a cache.
    pub write_cache: bool,
    /// An initiator has set the software write protection.
    pub write_protected: bool,
    /// Mode pages are saved that differ from the configuration.
    pub modes_saved: bool,
    /// Bytes that are allocated and that could still be, as far as that is known.
    pub used: Option<u64>,
    /// See `used`.
    pub available: Option<u64>,
    /// Initiators are warned when less is available.
    pub threshold: Option<u64>,
}

impl Disk {
    /// How it is now.
    pub fn report(&self) -> DiskReport {
        let parameters = self.parameters();
        let states = [
            (Parameters::FORMATTING, "being formatted"),
            (Parameters::SANITIZING, "being sanitized"),
            (Parameters::EJECTED, "ejected"),
            (Parameters::UNSANITIZED, "sanitize failed"),
            (Parameters::CORRUPT, "format failed"),
        ];
        let medium = states.iter().find(|(bits, _)| parameters.has(*bits)).map_or("ready", |(_, name)| name);
        let rare = self.rare();
        DiskReport {
            medium,
            write_cache: parameters.has(Parameters::WRITE_CACHE),
            write_protected: parameters.has(Parameters::WRITE_PROTECT),
            modes_saved: rare.modes.are_saved(),
            used: rare.used,
            available: rare.available,
            threshold: mode::threshold(&rare.modes),
        }
    }

    /// Takes the identifying information that was kept in an earlier run. The error says what is wrong with the record.
    pub fn load_information(&self, record: &[u8]) -> Result<(), &'static str> {
        self.rare().initiator_data.load(record)
    }

    /// Why the medium is not ready, if it is not.
    pub(super) fn unready(&self) -> Option<Sense> {
        let parameters = self.parameters();
        if !parameters.has(Parameters::OF_MEDIUM) {
            return None;
        }
        if parameters.has(Parameters::ERASING) {
            return Some(self.busy_erasing());
        }
        Some(if parameters.has(Parameters::EJECTED) {
            Sense::new(key::NOT_READY, asc::MEDIUM_NOT_PRESENT)
        } else if parameters.has(Parameters::UNSANITIZED) {
            Sense::new(key::MEDIUM_ERROR, asc::SANITIZE_COMMAND_FAILED)
        } else {
            Sense::new(key::MEDIUM_ERROR, asc::MEDIUM_FORMAT_CORRUPTED)
        })
    }

    /// NOT READY while the medium is formatted or sanitized, with how far that is.
    pub(super) fn busy_erasing(&self) -> Sense {
        let code = if self.parameters().has(Parameters::SANITIZING) {
            asc::LOGICAL_UNIT_NOT_READY_SANITIZE_IN_PROGRESS
        } else {
            asc::LOGICAL_UNIT_NOT_READY_FORMAT_IN_PROGRESS
        };
        Sense::new(key::NOT_READY, code).at_progress(self.progress())
    }

    /// How far the operation under way has come, in 65536ths.
    pub(super) fn progress(&self) -> u16 {
        let progress = self.progress.load(std::sync::atomic::Ordering::Relaxed);
        u16::try_from(progress).unwrap_or(u16::MAX)
    }

    pub(super) fn set_progress(&self, done: u64, all: u64) {
        let share = u128::from(done) * 65536 / u128::from(all.max(1));
        let share = u32::try_from(share).unwrap_or(u32::MAX).min(65535);
        self.progress.store(share, std::sync::atomic::Ordering::Relaxed);
    }

    /// The store has been looked after. Returns the attentions for every nexus.
    pub(super) fn inspected(&self, health: &Health) -> Vec<u16> {
        let mut rare = self.rare();
        let mut attentions = Vec::new();
        if rare.bytes.replace(health.bytes).is_some_and(|before| before != health.bytes) {
            attentions.push(asc::CAPACITY_DATA_HAS_CHANGED);
        }
        (rare.used, rare.available) = (health.used, health.available);
        let threshold = mode::threshold(&rare.modes);
        let short = health.available.zip(threshold).is_some_and(|(bytes, least)| bytes < least);
        if short && !rare.warned {
            attentions.push(asc::THIN_PROVISIONING_SOFT_THRESHOLD_REACHED);
        }
        rare.warned = short;
        attentions
    }

    /// What SENSE tells when nothing is wrong with a command: what goes on, and for how long.
    pub(super) fn condition(&self) -> Sense {
        if self.parameters().has(Parameters::ERASING) {
            return self.busy_erasing();
        }
        let rare = self.rare();
        if rare.self_tests.running() {
            let code = asc::LOGICAL_UNIT_NOT_READY_SELF_TEST_IN_PROGRESS;
            return Sense::new(key::NO_SENSE, code).at_progress(self.progress());
        }
        self.unready().or_else(|| mode::test_exception(&rare.modes)).unwrap_or_default()
    }
}
