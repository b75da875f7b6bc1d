// SPDX-License-Identifier: GPL-2.0-or-later
//! The mode pages of a disk, and MODE SELECT.

use crate::io::{Done, Op, Record};
use crate::scsi::primary::{self, ModePage, ModeUnit, ModeValues};
use crate::scsi::{Context, Outcome, Resume, Sense, Step, asc, key};
use crate::wire::scsi::be32;

use super::fault::{Fault, unexpected, unexpected_after_flush};
use super::pages::CurrentDisk;
use super::server::{DiskTask, Job};
use super::state::Parameters;
use super::{Config, Disk};

/// Page and subpage codes.
const RECOVERY: (u8, u8) = (0x01, 0);
const CACHING: (u8, u8) = (0x08, 0);
const CONTROL: (u8, u8) = (0x0a, 0);
const EXCEPTIONS: (u8, u8) = (0x1c, 0);
const PROVISIONING: (u8, u8) = (0x1c, 0x02);

/// Byte 5 of read-write error recovery: provisioning thresholds are told.
const LBPERE: u8 = 0x80;
const WCE: u8 = 0x04;
const D_SENSE: u8 = 0x04;
const GLTSD: u8 = 0x02;
const QERR: u8 = 0x06;
const QERR_RESERVED: u8 = 0x04;
const INTERLOCK: u8 = 0x30;
const INTERLOCK_MAKES: u8 = 0x30;
const INTERLOCK_RESERVED: u8 = 0x10;
const SWP: u8 = 0x08;
const TAS: u8 = 0x40;
const DEXCPT: u8 = 0x08;
const TEST: u8 = 0x04;
const MRIE: u8 = 0x0f;
/// MRIE: exceptions are told when REQUEST SENSE asks.
const ON_REQUEST: u8 = 6;
/// Of a threshold descriptor.
const ENABLED: u8 = 0x80;
/// Where the descriptor of logical block provisioning begins, and its count.
const DESCRIPTOR: usize = 12;
const COUNT: usize = DESCRIPTOR + 4;

/// Bytes of a threshold set.
pub(super) const THRESHOLD_SET: u64 = 1 << 20;

/// Read-write error recovery, caching, control, informational exceptions control, logical block provisioning.
const PAGES: [ModePage; 5] = [
    page(RECOVERY, &[0; 10], &[0, 0, 0, 0, 0, LBPERE, 0, 0, 0, 0]),
    page(CACHING, &[0; 18], &[WCE, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
    // A task set for each nexus (TST = 001b), nothing of log pages saved (GLTSD), commands may be reordered at will.
    page(
        CONTROL,
        &[0x22, 0x10, 0, 0, 0, 0, 0, 0, 0, 0],
        &[D_SENSE | GLTSD, QERR, INTERLOCK | SWP, TAS, 0, 0, 0, 0, 0, 0],
    ),
    page(EXCEPTIONS, &[0; 10], &[DEXCPT | TEST, MRIE, 0, 0, 0, 0, 0, 0, 0, 0]),
    // One descriptor: a soft threshold (type 0) for a falling (arming 1) number of threshold sets that can still be
    // allocated (resource 1).
    page(
        PROVISIONING,
        &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0],
        &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, ENABLED, 0, 0, 0, 0xff, 0xff, 0xff, 0xff],
    ),
];

const fn page((code, subpage): (u8, u8), default: &'static [u8], changeable: &'static [u8]) -> ModePage {
    ModePage { code, subpage, default, changeable }
}

/// The mode parameters at the start of a disk for which none are saved.
pub(super) fn initial(config: &Config) -> ModeValues {
    let mut values = ModeValues::new(&PAGES);
    if config.write_cache {
        values.set_default(CACHING, 0, &[WCE]);
    }
    if config.soft_threshold > 0 {
        let sets = u32::try_from(config.soft_threshold.div_ceil(THRESHOLD_SET)).unwrap_or(u32::MAX);
        values.set_default(RECOVERY, 5, &[LBPERE]);
        values.set_default(PROVISIONING, DESCRIPTOR, &[ENABLED]);
        values.set_default(PROVISIONING, COUNT, &sets.to_be_bytes());
    }
    values
}

/// What of them every command looks at.
pub(super) fn parameters(values: &ModeValues) -> Parameters {
    let value = |(code, subpage), at: usize| values.current(code, subpage)[at];
    let mut parameters = Parameters(0);
    parameters.set(Parameters::WRITE_CACHE, value(CACHING, 0) & WCE != 0);
    parameters.set(Parameters::DESCRIPTOR_SENSE, value(CONTROL, 0) & D_SENSE != 0);
    parameters.set(Parameters::ABORT_OTHERS, value(CONTROL, 1) & QERR != 0);
    parameters.set(Parameters::INTERLOCK, value(CONTROL, 2) & INTERLOCK != 0);
    parameters.set(Parameters::INTERLOCK_MAKES, value(CONTROL, 2) & INTERLOCK == INTERLOCK_MAKES);
    parameters.set(Parameters::WRITE_PROTECT, value(CONTROL, 2) & SWP != 0);
    parameters.set(Parameters::ABORTED_STATUS, value(CONTROL, 3) & TAS != 0);
    parameters
}

/// Initiators are warned when less than so many bytes can still be allocated; `None` for never.
pub(super) fn threshold(values: &ModeValues) -> Option<u64> {
    let told = values.current(RECOVERY.0, RECOVERY.1)[5] & LBPERE != 0;
    let page = values.current(PROVISIONING.0, PROVISIONING.1);
    (told && page[DESCRIPTOR] & ENABLED != 0).then(|| u64::from(be32(page, COUNT)) * THRESHOLD_SET)
}

/// What REQUEST SENSE tells when the report of informational exceptions is tested.
pub(super) fn test_exception(values: &ModeValues) -> Option<Sense> {
    let page = values.current(EXCEPTIONS.0, EXCEPTIONS.1);
    let tested = page[0] & (TEST | DEXCPT) == TEST && page[1] & MRIE == ON_REQUEST;
    tested.then(|| Sense::new(key::NO_SENSE, asc::FAILURE_PREDICTION_THRESHOLD_EXCEEDED_FALSE))
}

impl ModeUnit for CurrentDisk<'_> {
    fn device_specific(&self) -> u8 {
        const WP: u8 = 0x80;
        const DPOFUA: u8 = 0x10;
        let protected = self.limits.read_only || self.disk.parameters().has(Parameters::WRITE_PROTECT);
        DPOFUA | if protected { WP } else { 0 }
    }

    fn blocks(&self) -> Option<(u64, u32)> {
        Some((self.limits.capacity, self.limits.block()))
    }

    fn offers(&self, page: &ModePage) -> bool {
        (page.code, page.subpage) != PROVISIONING || self.limits.thin
    }

    fn check(&self, page: &ModePage, values: &[u8]) -> Result<(), usize> {
        match (page.code, page.subpage) {
            CONTROL if values[1] & QERR == QERR_RESERVED => Err(1),
            CONTROL if values[2] & INTERLOCK == INTERLOCK_RESERVED => Err(2),
            EXCEPTIONS if values[0] & (TEST | DEXCPT) == TEST | DEXCPT => Err(0),
            EXCEPTIONS if ![0, ON_REQUEST].contains(&(values[1] & MRIE)) => Err(1),
            _ => Ok(()),
        }
    }
}

impl Disk {
    /// Takes the mode pages that were saved in an earlier run. The error says what is wrong with the record.
    pub fn load_modes(&self, record: &[u8]) -> Result<(), &'static str> {
        let mut rare = self.rare();
        rare.modes.load(record)?;
        self.adopt_modes(&rare.modes);
        Ok(())
    }

    /// The current mode parameters are in force. Returns what was and what is.
    pub(super) fn adopt_modes(&self, values: &ModeValues) -> (Parameters, Parameters) {
        let new = parameters(values);
        self.change_parameters(|p| p.0 = p.0 & Parameters::OF_MEDIUM.0 | new.0)
    }
}

/// MODE SELECT(6) and (10). What is to be saved is kept first, and in force only then: if that fails, nothing has changed. One
/// is saved at a time, since the pages are kept together.
#[derive(Debug)]
pub(super) struct Select {
    wanted: u32,
    list: Vec<u8>,
    /// The values are to be saved.
    save: bool,
    /// ... and are on their way.
    record: Option<Record>,
    changed: bool,
}

impl Select {
    pub(super) fn begin(job: &Job<'_>, _: &mut Context<'_>) -> Result<DiskTask, Fault> {
        const SP: u8 = 0x01;
        let wanted = primary::mode_select_list_length(&job.cdb)?;
        let save = job.cdb[1] & SP != 0;
        Ok(DiskTask::Select(Self { wanted, list: Vec::new(), save, record: None, changed: false }))
    }

    pub(super) fn advance(&mut self, answer: Option<Resume>, job: &Job<'_>) -> Result<Step, Fault> {
        let offered = self.wanted.min(job.command.expected.data_out);
        match (answer, self.record.take()) {
            (None, _) if offered != 0 => return Ok(Step::Fetch { len: offered }),
            (None, _) => {}
            (Some(Resume::Fetched(list)), _) => {
                self.list = vec![0; list.len()];
                list.copy_to(0, &mut self.list);
            }
            (Some(Resume::Persisted(Ok(()))), Some(record)) => return self.apply(job, Some(&record)),
            (Some(Resume::Stored(Done::Finished)), _) => return Ok(self.end()),
            (other, Some(_)) => {
                job.disk.rare().modes.not_kept();
                return Err(unexpected(other, &job.limits));
            }
            (other, None) => return Err(unexpected_after_flush(other, &job.limits)),
        }
        if std::mem::take(&mut self.save) {
            let modes = &mut job.disk.rare().modes;
            if modes.are_being_saved() {
                return Err(Fault::Busy);
            }
            let record = modes.record(&job.cdb, &self.list, &job.view())?;
            self.record = Some(record.clone());
            return Ok(Step::Persist(record));
        }
        self.apply(job, None)
    }

    /// Changes the parameters, all or none. What was saved is in force before the next can be.
    fn apply(&mut self, job: &Job<'_>, saved: Option<&Record>) -> Result<Step, Fault> {
        let mut rare = job.disk.rare();
        if let Some(record) = saved {
            rare.modes.kept(record);
        }
        self.changed = rare.modes.select(&job.cdb, &self.list, &job.view())?;
        let (old, new) = job.disk.adopt_modes(&rare.modes);
        if old.has(Parameters::WRITE_CACHE) && !new.has(Parameters::WRITE_CACHE) {
            // What the cache holds becomes stable before the initiator hears that there is none. A write that is still
            // under way began under the old rule and may end under it.
            return Ok(Step::Store(Op::Flush));
        }
        Ok(self.end())
    }

    /// The task is aborted.
    pub(super) fn aborted(&self, disk: &Disk) {
        if self.record.is_some() {
            disk.rare().modes.not_kept();
        }
    }

    fn end(&self) -> Step {
        let attention = self.changed.then_some(asc::MODE_PARAMETERS_CHANGED);
        Step::Finish(Outcome { attention, ..Outcome::took(self.wanted.into()) })
    }
}
