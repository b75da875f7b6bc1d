// SPDX-License-Identifier: GPL-2.0-or-later
//! The mode pages of a disk, and MODE SELECT.

use smallvec::{SmallVec, smallvec};

use crate::io::{Done, Op};
use crate::memory::Sg;
use crate::scsi::primary::{self, ModePage, ModePages};
use crate::scsi::{Context, Outcome, Resume, Step, asc};

use super::fault::{Fault, unexpected};
use super::pages::View;
use super::server::{Job, Work};
use super::state::Parameters;

const CACHING: u8 = 0x08;
const CONTROL: u8 = 0x0a;
const WCE: u8 = 0x04;
const D_SENSE: u8 = 0x04;
const SWP: u8 = 0x08;

/// Read-write error recovery, caching, control, informational exceptions control.
const PAGES: [ModePage; 4] = [
    ModePage { code: 0x01, default: &[0; 10], changeable: &[0; 10] },
    ModePage {
        code: CACHING,
        default: &[0; 18],
        changeable: &[WCE, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    },
    ModePage {
        // A task set for each nexus (TST = 001b), no log pages (GLTSD), commands may be reordered at will.
        code: CONTROL,
        default: &[0x22, 0x10, 0, 0, 0, 0, 0, 0, 0, 0],
        changeable: &[D_SENSE, 0, SWP, 0, 0, 0, 0, 0, 0, 0],
    },
    ModePage { code: 0x1c, default: &[0; 10], changeable: &[0; 10] },
];

/// The pages of a disk with a write cache after power-on: only the default of WCE differs.
const PAGES_CACHED: [ModePage; 4] = {
    let mut pages = PAGES;
    pages[1].default = &[WCE, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    pages
};

impl ModePages for View<'_> {
    fn pages(&self) -> &'static [ModePage] {
        if self.disk.config().write_cache { &PAGES_CACHED } else { &PAGES }
    }

    fn current(&self, page: &ModePage, values: &mut [u8]) {
        let parameters = self.disk.parameters();
        let bit = |bit: u8, on: Parameters| if parameters.has(on) { bit } else { 0 };
        match page.code {
            CACHING => values[0] = bit(WCE, Parameters::WRITE_CACHE),
            CONTROL => {
                values[0] |= bit(D_SENSE, Parameters::DESCRIPTOR_SENSE);
                values[2] = bit(SWP, Parameters::WRITE_PROTECT);
            }
            _ => {}
        }
    }

    fn device_specific(&self) -> u8 {
        const WP: u8 = 0x80;
        const DPOFUA: u8 = 0x10;
        let protected = self.limits.read_only || self.disk.parameters().has(Parameters::WRITE_PROTECT);
        DPOFUA | if protected { WP } else { 0 }
    }

    fn blocks(&self) -> Option<(u64, u32)> {
        Some((self.limits.capacity, self.limits.block()))
    }
}

/// MODE SELECT(6) and (10).
#[derive(Debug)]
pub(super) struct Select {
    wanted: u32,
    changed: bool,
}

impl Select {
    pub(super) fn begin(job: &Job<'_>, _: &mut Context<'_>) -> Result<Work, Fault> {
        let wanted = primary::mode_select_list_length(&job.cdb)?;
        Ok(Work::Select(Self { wanted, changed: false }))
    }

    pub(super) fn advance(&mut self, answer: Option<Resume>, job: &Job<'_>) -> Result<Step, Fault> {
        let offered = self.wanted.min(job.command.expected.data_out);
        match answer {
            None if offered != 0 => return Ok(Step::Fetch { len: offered }),
            None | Some(Resume::Stored(Done::Finished)) => {}
            Some(Resume::Fetched(list)) => {
                if self.apply(&list, job)? {
                    // What the cache holds becomes stable before the initiator hears that there is none. A write that
                    // is still under way began under the old rule and may end under it.
                    return Ok(Step::Store(Op::Flush));
                }
            }
            other => return Err(unexpected(other, &job.limits)),
        }
        let attention = self.changed.then_some(asc::MODE_PARAMETERS_CHANGED);
        Ok(Step::Finish(Outcome { attention, ..Outcome::took(self.wanted.into()) }))
    }

    /// Changes the parameters, all or none. Returns whether that switched the write cache off.
    fn apply(&mut self, list: &Sg, job: &Job<'_>) -> Result<bool, Fault> {
        let mut bytes: SmallVec<[u8; 256]> = smallvec![0; list.len()];
        list.copy_to(0, &mut bytes);
        let view = job.view();
        let (mut mask, mut values) = (Parameters(0), Parameters(0));
        let mut take = |bit, on| {
            mask.set(bit, true);
            values.set(bit, on);
        };
        primary::mode_select(&job.cdb, &bytes, &view, |page, values| match page.code {
            CACHING => take(Parameters::WRITE_CACHE, values[0] & WCE != 0),
            CONTROL => {
                take(Parameters::DESCRIPTOR_SENSE, values[0] & D_SENSE != 0);
                take(Parameters::WRITE_PROTECT, values[2] & SWP != 0);
            }
            _ => {}
        })?;
        let (old, new) = job.disk.change_parameters(|p| p.0 = p.0 & !mask.0 | values.0);
        self.changed = new != old;
        Ok(old.has(Parameters::WRITE_CACHE) && !new.has(Parameters::WRITE_CACHE))
    }
}
