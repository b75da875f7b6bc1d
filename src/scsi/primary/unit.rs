// SPDX-License-Identifier: GPL-2.0-or-later
//! What every logical unit has (SPC-5), whatever its device type, as all cores share it; and what a device type adds.

use std::fmt::Debug;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Map, Value};
use smallvec::SmallVec;

use super::common_pages::control_flags;
use super::counts::{LogCounts, Totals};
use super::flags::UnitFlags;
use super::identity::Identity;
use super::initiator_data::InitiatorData;
use super::inquiry::Peripheral;
use super::library::MediaLibrary;
use super::log::LogData;
use super::mode::{ModeUnit, ModeValues};
use super::selftest_results::SelfTestResults;
use super::shape::{Shape, Span};
use crate::io::{Geometry, Health, Op};
use crate::scsi::{Command, CopyTraits, NexusId, Sense};
use crate::time::Instant;

/// Reads so many bytes from a place of a medium, if they can be read.
pub type ReadMedium<'a> = dyn FnMut(u64, u32) -> Option<Vec<u8>> + 'a;

/// A device type: one value of it is a logical unit, which all cores share.
pub trait DeviceType: Debug + Send + Sync + Sized + 'static {
    /// What a command has to know of its configuration and store.
    type Shape: Shape;

    /// How INQUIRY and the mode pages see it.
    type View<'a>: Peripheral + ModeUnit
    where
        Self: 'a;

    /// Flags that neither MODE SELECT nor a reset changes: what the medium has gone through. While all of them are
    /// clear, and [`UnitFlags::PRESENCE`], commands ask neither [`Self::occupied`] nor [`Self::unready`].
    const MEDIUM: UnitFlags;

    /// The flag that says that what is written may stay in a cache; MODE SELECT that clears it flushes.
    const WRITE_CACHE: UnitFlags;

    /// What it has in common with all others.
    fn primary(&self) -> &PrimaryUnit;

    /// Its shape over a store of that geometry.
    fn shape(&self, geometry: &Geometry) -> Self::Shape;

    /// The unit and its shape together.
    fn view(&self, shape: Self::Shape) -> Self::View<'_>;

    /// What every command looks at of the mode pages.
    fn mode_flags(values: &ModeValues) -> UnitFlags {
        control_flags(values)
    }

    /// Takes what it needs of mode parameters that are in force now, beside their flags.
    fn modes_in_force(&self, _values: &ModeValues) {}

    /// Whether the medium is not to be written.
    fn protected(&self, shape: &Self::Shape) -> bool;

    /// Why nothing is carried out that needs the unit for itself: a long operation on the whole medium.
    fn occupied(&self) -> Option<Sense> {
        None
    }

    /// Why the medium is not ready, if it is not.
    fn unready(&self) -> Option<Sense> {
        None
    }

    /// Page and subpage codes of its log pages, in ascending order.
    fn log_pages(&self, shape: &Self::Shape) -> &'static [(u8, u8)];

    /// Writes the parameters of one of them that is not made of what all have in common: current or default values.
    fn log_page(&self, page: u8, default: bool, shape: &Self::Shape, now: Instant, data: &mut LogData);

    /// What a self-test reads of the store, the last first.
    fn self_test(&self, extended: bool, shape: &Self::Shape) -> SmallVec<[Span; 2]>;

    /// A nexus is gone: forgets what is kept for it.
    fn nexus_lost(&self, _nexus: NexusId) {}

    /// The logical unit is reset: forgets what does not outlive that.
    fn reset(&self) {}

    /// How the store fares. Returns the unit attentions to be established for every nexus.
    fn inspected(&self, _health: &Health) -> Vec<u16> {
        Vec::new()
    }

    /// A medium of so many bytes is about to come: looks at it, on a thread that may wait for what is read, and keeps
    /// what it finds until then. Called before each that comes.
    fn scan(&self, _bytes: u64, _read: &mut ReadMedium<'_>) {}

    /// The medium that was scanned last has come.
    fn medium_come(&self) {}

    /// Its medium has gone: forgets what is known of it.
    fn medium_gone(&self) {}

    /// It, if it is a library.
    fn library(&self) -> Option<&dyn MediaLibrary> {
        None
    }

    /// How it is now, as the status tells it.
    fn report(&self) -> Map<String, Value> {
        Map::new()
    }

    /// When it wants to begin a task by itself, if it runs one command at a time.
    fn next_deadline(&self) -> Option<Instant> {
        None
    }

    /// What it is to copies, if it takes part in any.
    fn copy_traits(&self) -> Option<CopyTraits> {
        None
    }

    /// Whether a copy may do this to its store now.
    fn admits(&self, _op: &Op, _shape: &Self::Shape) -> bool {
        false
    }
}

/// What is rarely looked at.
#[derive(Debug)]
pub struct PrimaryState {
    /// The values of the mode pages; what every command needs of them is in [`UnitFlags`].
    pub modes: ModeValues,
    /// What initiators have left.
    pub initiator_data: InitiatorData,
    /// Who prevents the removal of the medium.
    pub prevented: SmallVec<[NexusId; 4]>,
    /// The self-tests since the start.
    pub self_tests: SelfTestResults,
    /// What had been counted when the counters were reset.
    pub(super) before: Totals,
}

/// See the module.
#[derive(Debug)]
pub struct PrimaryUnit {
    identity: Identity,
    management: Option<Arc<str>>,
    flags: AtomicU32,
    /// How far a long operation has come, in 65536ths.
    progress: AtomicU32,
    state: Mutex<PrimaryState>,
    /// What each core has counted.
    counts: Mutex<Vec<Arc<LogCounts>>>,
}

impl PrimaryUnit {
    /// A logical unit in the state after power-on. `management` is a URL of at most 255 characters; the clock shows
    /// `epoch` milliseconds since 1970 at [`Instant::ZERO`].
    pub fn new<D: DeviceType>(
        identity: Identity,
        management: Option<Arc<str>>,
        epoch: u64,
        modes: ModeValues,
    ) -> Self {
        let flags = AtomicU32::new(D::mode_flags(&modes).0);
        let state = PrimaryState {
            modes,
            initiator_data: InitiatorData::new(epoch),
            prevented: SmallVec::new(),
            self_tests: SelfTestResults::default(),
            before: Totals::default(),
        };
        let (state, counts) = (Mutex::new(state), Mutex::default());
        Self { identity, management, flags, progress: AtomicU32::new(0), state, counts }
    }

    /// Its names.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The URL at which it is managed.
    pub fn management(&self) -> Option<&str> {
        self.management.as_deref()
    }

    /// What every command looks at.
    #[inline]
    pub fn flags(&self) -> UnitFlags {
        // Relaxed: the bits stand for themselves and publish nothing else.
        UnitFlags(self.flags.load(Ordering::Relaxed))
    }

    /// Changes the flags by `change`, which may run more than once, and returns what they were and are.
    pub fn change_flags(&self, change: impl Fn(&mut UnitFlags)) -> (UnitFlags, UnitFlags) {
        let mut old = self.flags();
        loop {
            let mut new = old;
            change(&mut new);
            match self.flags.compare_exchange_weak(old.0, new.0, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return (old, new),
                Err(now) => old = UnitFlags(now),
            }
        }
    }

    /// What is rarely looked at.
    pub fn state(&self) -> MutexGuard<'_, PrimaryState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How far a long operation has come, in 65536ths.
    pub fn progress(&self) -> u16 {
        u16::try_from(self.progress.load(Ordering::Relaxed)).unwrap_or(u16::MAX)
    }

    /// A long operation has done so much of all.
    pub fn set_progress(&self, done: u64, all: u64) {
        let share = u128::from(done) * 65536 / u128::from(all.max(1));
        let share = u32::try_from(share).unwrap_or(u32::MAX).min(65535);
        self.progress.store(share, Ordering::Relaxed);
    }

    /// Counters for one more core.
    pub(super) fn counters(&self) -> Arc<LogCounts> {
        let counts = Arc::<LogCounts>::default();
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).push(counts.clone());
        counts
    }

    /// What has been counted since the start.
    pub(super) fn all_counted(&self) -> Totals {
        let mut totals = Totals::default();
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).iter().for_each(|core| totals.add(core));
        totals
    }

    /// Takes the identifying information that was kept in an earlier run. The error says what is wrong with the record.
    pub fn load_information(&self, record: &[u8]) -> Result<(), &'static str> {
        self.state().initiator_data.load(record)
    }

    /// Takes the mode pages that were saved in an earlier run. The error says what is wrong with the record.
    pub fn load_modes<D: DeviceType>(unit: &D, record: &[u8]) -> Result<(), &'static str> {
        let mut state = unit.primary().state();
        state.modes.load(record)?;
        Self::adopt_modes(unit, &state.modes);
        Ok(())
    }

    /// The current mode parameters are in force. Returns what the flags were and are.
    pub(super) fn adopt_modes<D: DeviceType>(unit: &D, values: &ModeValues) -> (UnitFlags, UnitFlags) {
        let new = D::mode_flags(values);
        unit.modes_in_force(values);
        let kept = D::MEDIUM.0 | UnitFlags::PRESENCE.0;
        unit.primary().change_flags(|flags| flags.0 = flags.0 & kept | new.0)
    }

    /// Returns to the state after power-on, but for what happened to the medium.
    pub(super) fn reset<D: DeviceType>(unit: &D) {
        let mut state = unit.primary().state();
        state.modes.reset();
        Self::adopt_modes(unit, &state.modes);
        state.prevented.clear();
    }

    /// PREVENT ALLOW MEDIUM REMOVAL (SPC-5 6.18): each nexus for itself, until it allows, is lost, or the unit is
    /// reset.
    pub(super) fn prevent(&self, nexus: NexusId, prevents: bool) {
        let prevented = &mut self.state().prevented;
        prevented.retain(|other| *other != nexus);
        if prevents {
            prevented.push(nexus);
        }
    }
}

/// One call into a device: the command and what it works on.
#[derive(Debug)]
pub struct Job<'a, D: DeviceType> {
    /// The logical unit.
    pub unit: &'a D,
    /// The command.
    pub command: &'a Command,
    /// The CDB as handlers read it: of up to 16 bytes.
    pub cdb: [u8; 16],
    /// The shape of the unit at this moment.
    pub shape: D::Shape,
    /// What this core counts.
    pub counts: &'a LogCounts,
}

impl<'a, D: DeviceType> Job<'a, D> {
    /// What the unit has in common with all others.
    pub fn primary(&self) -> &'a PrimaryUnit {
        self.unit.primary()
    }

    /// The unit as INQUIRY and the mode pages see it.
    pub fn view(&self) -> D::View<'a> {
        self.unit.view(self.shape)
    }
}
