// SPDX-License-Identifier: GPL-2.0-or-later
//! The mode pages that every device type has, and what they mean: control (SPC-5 7.5.8) and informational exceptions
//! control (SPC-5 7.5.12).

use super::flags::UnitFlags;
use super::mode::{ModePage, ModeValues};
use crate::scsi::{Control, Interlock, Sense, asc, key};

const CONTROL: u8 = 0x0a;
const EXCEPTIONS: u8 = 0x1c;

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

/// The control mode page: a task set for each nexus (TST = 001b), nothing of log pages saved (GLTSD), commands may be
/// reordered at will.
pub const CONTROL_PAGE: ModePage = ModePage {
    code: CONTROL,
    subpage: 0,
    default: &[0x22, 0x10, 0, 0, 0, 0, 0, 0, 0, 0],
    changeable: &[D_SENSE | GLTSD, QERR, INTERLOCK | SWP, TAS, 0, 0, 0, 0, 0, 0],
};

/// The informational exceptions control mode page.
pub const EXCEPTIONS_PAGE: ModePage = ModePage {
    code: EXCEPTIONS,
    subpage: 0,
    default: &[0; 10],
    changeable: &[DEXCPT | TEST, MRIE, 0, 0, 0, 0, 0, 0, 0, 0],
};

/// Whether new values of one of these pages make sense: else the byte that does not, behind the header.
pub fn check_common_page(page: &ModePage, values: &[u8]) -> Result<(), usize> {
    match (page.code, page.subpage) {
        (CONTROL, 0) if values[1] & QERR == QERR_RESERVED => Err(1),
        (CONTROL, 0) if values[2] & INTERLOCK == INTERLOCK_RESERVED => Err(2),
        (EXCEPTIONS, 0) if values[0] & (TEST | DEXCPT) == TEST | DEXCPT => Err(0),
        (EXCEPTIONS, 0) if ![0, ON_REQUEST].contains(&(values[1] & MRIE)) => Err(1),
        _ => Ok(()),
    }
}

/// What every command looks at of the control mode page.
pub fn control_flags(values: &ModeValues) -> UnitFlags {
    let page = values.current(CONTROL, 0);
    let mut flags = UnitFlags(0);
    flags.set(UnitFlags::DESCRIPTOR_SENSE, page[0] & D_SENSE != 0);
    flags.set(UnitFlags::ABORT_OTHERS, page[1] & QERR != 0);
    flags.set(UnitFlags::INTERLOCK, page[2] & INTERLOCK != 0);
    flags.set(UnitFlags::INTERLOCK_MAKES, page[2] & INTERLOCK == INTERLOCK_MAKES);
    flags.set(UnitFlags::WRITE_PROTECT, page[2] & SWP != 0);
    flags.set(UnitFlags::ABORTED_STATUS, page[3] & TAS != 0);
    flags
}

/// The same for the task manager.
pub(super) fn control(flags: UnitFlags) -> Control {
    Control {
        descriptor_sense: flags.has(UnitFlags::DESCRIPTOR_SENSE),
        abort_others: flags.has(UnitFlags::ABORT_OTHERS),
        aborted_status: flags.has(UnitFlags::ABORTED_STATUS),
        interlock: match flags.has(UnitFlags::INTERLOCK) {
            false => Interlock::Cleared,
            true if flags.has(UnitFlags::INTERLOCK_MAKES) => Interlock::KeptAndMade,
            true => Interlock::Kept,
        },
    }
}

/// What REQUEST SENSE tells when the report of informational exceptions is tested.
pub(super) fn test_exception(values: &ModeValues) -> Option<Sense> {
    let page = values.current(EXCEPTIONS, 0);
    let tested = page[0] & (TEST | DEXCPT) == TEST && page[1] & MRIE == ON_REQUEST;
    tested.then(|| Sense::new(key::NO_SENSE, asc::FAILURE_PREDICTION_THRESHOLD_EXCEEDED_FALSE))
}
