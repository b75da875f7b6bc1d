// SPDX-License-Identifier: GPL-2.0-or-later
//! The mode parameters of a tape drive (SSC-4 8.3).

use super::config::TapeOptions;
use crate::formats::tape::{PARTITIONS_MAX, RECORD_BYTES_MAX};
use crate::scsi::primary::{CONTROL_PAGE, EXCEPTIONS_PAGE, ModePage, ModeValues, check_common_page};
use crate::scsi::{Sense, asc};
use crate::wire::scsi::{be16, be32};

/// Page and subpage codes.
const RECOVERY: (u8, u8) = (0x01, 0);
const COMPRESSION: (u8, u8) = (0x0f, 0);
const CONFIGURATION: (u8, u8) = (0x10, 0);
const EXTENSION: (u8, u8) = (0x10, 0x01);
const PARTITIONS: (u8, u8) = (0x11, 0);

/// Of the device-specific parameter.
const BUFFERED_MODE: u8 = 0x70;
const BUFFERED: u8 = 0x10;

/// Medium partition page: how the sizes are meant.
const FDP: u8 = 0x80;
const SDP: u8 = 0x40;
const IDP: u8 = 0x20;
const PSUM: u8 = 0x18;
const POFM: u8 = 0x04;
/// Sizes are in ten to that power of bytes.
const POWER: u8 = 0x18;
/// Where they begin, and what stands for all that is left.
const SIZES: usize = 6;
const REST: u16 = 0xffff;

const fn page((code, subpage): (u8, u8), default: &'static [u8], changeable: &'static [u8]) -> ModePage {
    ModePage { code, subpage, default, changeable }
}

/// Device configuration extension page: WRITE MODE, of which there are overwrite-allowed and append-only, and SHORT ERASE
/// MODE, which is always to record the end of data.
const WRITE_MODE: u8 = 0xf0;
const APPEND_ONLY: u8 = 0x10;
const RECORD_END: u8 = 0x02;

const PAGES: [ModePage; 8] = [
    page(RECOVERY, &[0; 10], &[0; 10]),
    CONTROL_PAGE,
    // Nothing is compressed, and nothing compressed is there.
    page(COMPRESSION, &[0, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], &[0; 14]),
    // Block identifiers are supported; the end of data is where the format says; the early warning synchronizes
    // nothing.
    page(
        CONFIGURATION,
        &[0, 0, 0, 0, 0, 0x64, 0x40, 0, 0x10, 0, 0, 0, 0, 0],
        &[0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0],
    ),
    page(
        EXTENSION,
        &[0, RECORD_END, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        &[0, WRITE_MODE, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    ),
    page(
        PARTITIONS,
        &[(PARTITIONS_MAX - 1) as u8, 0, IDP | PSUM | POFM, 3, 6, 0, 0xff, 0xff, 0, 0, 0, 0, 0, 0],
        &[0, 0xff, FDP | SDP | IDP | PSUM, 0, 0x0f, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
    ),
    EXCEPTIONS_PAGE,
    ModePage::of_header(&[BUFFERED, 0, 0, 0, 0, 0], &[BUFFERED_MODE, 0, 0xff, 0xff, 0xff, 0xff]),
];

/// The mode parameters at the start of a drive for which none are saved.
pub(super) fn initial(options: &TapeOptions) -> ModeValues {
    let mut values = ModeValues::new(&PAGES);
    let header = PAGES[PAGES.len() - 1];
    values.set_default((header.code, header.subpage), 1, &[options.density]);
    values
}

/// What commands need of the mode parameters that are in force.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct TapeModes {
    /// Length of a record of a fixed length; 0 if there is none.
    pub(super) block_length: u32,
    /// The status of a WRITE waits for stable storage.
    pub(super) unbuffered: bool,
    /// Nothing is written in front of the end of the data, unless ALLOW OVERWRITE permits it.
    pub(super) append_only: bool,
    /// Bytes in front of the early warning that belong to the programmable one.
    pub(super) warning_zone: u64,
}

impl TapeModes {
    pub(super) fn of(values: &ModeValues) -> Self {
        let (header, extension) = (values.header(), values.current(EXTENSION.0, EXTENSION.1));
        Self {
            block_length: be32(header, 2),
            unbuffered: header[0] & BUFFERED_MODE == 0,
            append_only: extension[1] & WRITE_MODE == APPEND_ONLY,
            warning_zone: u64::from(be16(extension, 2)) * 1_000_000,
        }
    }
}

/// Whether these values of a page take back that nothing is written over.
pub(super) fn ends_append_only(page: &ModePage, values: &[u8]) -> bool {
    (page.code, page.subpage) == EXTENSION && values[1] & WRITE_MODE != APPEND_ONLY
}

/// A density code of MODE SELECT that stands for the one that is so now.
pub(super) fn resolve_header(now: &[u8], wanted: &mut [u8]) {
    if matches!(wanted[1], 0 | 0x7f) {
        wanted[1] = now[1];
    }
}

/// The medium partition page has as many sizes as the initiator gives: those behind are of no partition.
pub(super) fn shortest(page: &ModePage) -> usize {
    if (page.code, page.subpage) == PARTITIONS { SIZES + 2 } else { page.default.len() }
}

/// Whether new values make sense: else the byte that does not, behind the header.
pub(super) fn check(page: &ModePage, values: &[u8]) -> Result<(), usize> {
    if page.is_header() {
        return match (values[0] & BUFFERED_MODE, be32(values, 2)) {
            (mode, _) if mode > 0x20 => Err(0),
            (_, len) if len > RECORD_BYTES_MAX => Err(2),
            _ => Ok(()),
        };
    }
    if (page.code, page.subpage) == EXTENSION {
        return if values[1] & WRITE_MODE > APPEND_ONLY { Err(1) } else { Ok(()) };
    }
    if (page.code, page.subpage) == PARTITIONS {
        let additional = usize::from(values[1]);
        if additional >= PARTITIONS_MAX {
            return Err(1);
        }
        if (values[2] & (FDP | SDP | IDP)).count_ones() != 1 {
            return Err(2);
        }
        let rest = (0..=additional).filter(|number| size(values, *number) == REST);
        return if values[2] & IDP != 0 && rest.count() > 1 { Err(SIZES) } else { Ok(()) };
    }
    check_common_page(page, values)
}

fn size(values: &[u8], number: usize) -> u16 {
    be16(values, SIZES + 2 * number)
}

/// The values of the medium partition page.
pub(super) fn partition_plan(values: &ModeValues) -> Vec<u8> {
    values.current(PARTITIONS.0, PARTITIONS.1).to_vec()
}

/// The capacities that these ask for, of a cartridge with that capacity.
pub(super) fn partitions(page: &[u8], capacity: u64) -> Result<Vec<u64>, Sense> {
    let count = usize::from(page[1]) + 1;
    if count == 1 {
        return Ok(vec![capacity]);
    }
    if page[2] & IDP == 0 {
        // Fixed ones are ours to choose, and of equal ones there is the number alone.
        return Ok(vec![capacity / count as u64; count]);
    }
    let unit = match page[2] & PSUM {
        0 => 1,
        0x08 => 1 << 10,
        0x10 => 1 << 20,
        POWER => 10_u64.checked_pow((page[4] & 0x0f).into()).unwrap_or(u64::MAX),
        _ => unreachable!("two bits"),
    };
    let fixed = |number: &usize| size(page, *number) != REST;
    let bytes = |number: usize| u64::from(size(page, number)).saturating_mul(unit);
    let sum = (0..count).filter(fixed).map(bytes).fold(0, u64::saturating_add);
    let too_large = || Sense::illegal(asc::INVALID_FIELD_IN_PARAMETER_LIST);
    let left = capacity.checked_sub(sum).ok_or_else(too_large)?;
    let capacities: Vec<u64> =
        (0..count).map(|number| if fixed(&number) { bytes(number) } else { left }).collect();
    if capacities.contains(&0) { Err(too_large()) } else { Ok(capacities) }
}
