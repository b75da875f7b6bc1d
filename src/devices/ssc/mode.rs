// SPDX-License-Identifier: GPL-2.0-or-later
//! The mode parameters of a tape drive (SSC-4 8.3).

use super::config::TapeOptions;
use super::forms;
use super::personality::DriveMaker;
use crate::formats::tape::{CartridgeUse, PARTITIONS_MAX, PartitionArea, RECORD_BYTES_MAX, TapeImage};
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

/// Data compression page: DCE, DCC and DDE.
const DCE: u8 = 0x80;
const DCC: u8 = 0x40;
const DDE: u8 = 0x80;
/// The one algorithm there is; 0 stands for none, which Linux' st chooses beside DCE.
const ALGORITHM: u8 = 1;
const ALGORITHM_AT: usize = 5;

/// Control data protection page: its method, of which there are none and CRC32C, and for what commands it is.
const PROTECTION: (u8, u8) = (0x0a, 0xf0);
const CRC32C: u8 = 2;
const LBP_W: u8 = 0x80;
const LBP_R: u8 = 0x40;

/// Device configuration extension page: WRITE MODE, of which there are overwrite-allowed and append-only, and SHORT
/// ERASE MODE, which is always to record the end of data.
const WRITE_MODE: u8 = 0xf0;
const APPEND_ONLY: u8 = 0x10;
const RECORD_END: u8 = 0x02;

/// Power condition, medium configuration, and what IBM has beside: initiator-specific extensions, read and write
/// control, and encryption mode.
const DISCONNECT: (u8, u8) = (0x02, 0);
const POWER_CONDITION: (u8, u8) = (0x1a, 0);
const MEDIUM_CONFIGURATION: (u8, u8) = (0x1d, 0);
const IBM_EXTENSIONS: (u8, u8) = (0x24, 0);
const IBM_CONTROL: (u8, u8) = (0x25, 0);
const IBM_ENCRYPTION: (u8, u8) = (0x30, 0x20);

const PAGES: [ModePage; 15] = [
    page(RECOVERY, &[0; 10], &[0; 10]),
    page(DISCONNECT, &[0; 14], &[0; 14]),
    CONTROL_PAGE,
    page(
        PROTECTION,
        &[0; 28],
        &[
            0xff,
            0x3f,
            LBP_W | LBP_R,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
        ],
    ),
    page(
        COMPRESSION,
        &[DCC, DDE, 0, 0, 0, ALGORITHM, 0, 0, 0, 1, 0, 0, 0, 0],
        &[DCE, 0, 0, 0, 0, 0xff, 0, 0, 0, 0, 0, 0, 0, 0],
    ),
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
    page(POWER_CONDITION, &[0; 38], &[0; 38]),
    EXCEPTIONS_PAGE,
    // Nothing on a WORM cartridge is ever written over, neither labels nor filemarks at the end.
    page(
        MEDIUM_CONFIGURATION,
        &[0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        &[0; 30],
    ),
    // It is capable of encryption.
    page(IBM_EXTENSIONS, &[0, 0, 0, 0, 0, 1], &[0; 6]),
    page(
        IBM_CONTROL,
        &[0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        &[0; 30],
    ),
    page(IBM_ENCRYPTION, &[0, 3, 1, 1, 0, 0, 0, 0], &[0; 8]),
    ModePage::of_header(&[BUFFERED, 0, 0, 0, 0, 0], &[BUFFERED_MODE, 0, 0xff, 0xff, 0xff, 0xff]),
];

/// Whether a drive of that make has the page.
pub(super) fn is_offered(page: &ModePage, maker: DriveMaker) -> bool {
    let of_ibm = [IBM_EXTENSIONS, IBM_CONTROL, IBM_ENCRYPTION].contains(&(page.code, page.subpage));
    !of_ibm || maker == DriveMaker::Ibm
}

/// What pages tell of the drive and what is in it.
pub(super) struct ObservedDrive<'a> {
    pub(super) image: Option<&'a TapeImage>,
    /// The density while there is none.
    pub(super) usual_density: u8,
    pub(super) partition: usize,
    pub(super) compresses: bool,
    /// The plan for the next FORMAT MEDIUM.
    pub(super) plan: Option<PartitionPlan>,
}

/// Puts that into the values of a page.
pub(super) fn observe(page: &ModePage, drive: &ObservedDrive<'_>, values: &mut [u8]) {
    const DENSITY_AT: usize = 1;
    const ACTIVE_PARTITION_AT: usize = 1;
    /// WORMM, the one bit of its byte.
    const WORM_AT: usize = 0;
    const SELECTED_COMPRESSION_AT: usize = 12;
    let cartridge = drive.image.map(TapeImage::cartridge);
    match (page.code, page.subpage) {
        _ if page.is_header() => {
            values[DENSITY_AT] = cartridge.map_or(drive.usual_density, |cartridge| cartridge.density);
        }
        CONFIGURATION => {
            values[ACTIVE_PARTITION_AT] = drive.partition as u8;
            values[SELECTED_COMPRESSION_AT] = drive.compresses.into();
        }
        MEDIUM_CONFIGURATION => {
            values[WORM_AT] =
                cartridge.is_some_and(|cartridge| cartridge.purpose == CartridgeUse::Worm).into();
        }
        PARTITIONS => match (&drive.plan, drive.image) {
            (Some(plan), _) => values.copy_from_slice(plan),
            (None, Some(image)) => write_partitions(image.partitions(), values),
            (None, None) => {}
        },
        _ => {}
    }
}

/// The partitions that are there, in the finest unit that has room for all sizes.
fn write_partitions(areas: &[PartitionArea], values: &mut [u8]) {
    let largest = areas.iter().map(|area| area.capacity).max().unwrap_or(0);
    let fits = |power: &u32| largest / 10_u64.pow(*power) < REST.into();
    let power = (0..16).find(fits).unwrap_or(0);
    values[1..5].copy_from_slice(&[areas.len() as u8 - 1, IDP | PSUM | POFM, 3, power as u8]);
    values[SIZES..].fill(0);
    for (area, size) in areas.iter().zip(values[SIZES..].chunks_mut(2)) {
        let units = area.capacity.div_ceil(10_u64.pow(power));
        size.copy_from_slice(&u16::try_from(units).unwrap_or(REST).to_be_bytes());
    }
}

/// The mode parameters at the start of a drive for which none are saved.
pub(super) fn initial(options: &TapeOptions) -> ModeValues {
    let mut values = ModeValues::new(&PAGES);
    let header = PAGES[PAGES.len() - 1];
    values.set_default((header.code, header.subpage), 1, &[options.density]);
    if options.personality.maker != DriveMaker::Own {
        values.set_default(COMPRESSION, 0, &[DCE]);
    }
    values
}

/// The values of the medium partition page.
pub(super) type PartitionPlan = [u8; 14];

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
    /// Records are compressed.
    pub(super) compresses: bool,
    /// Protection information comes with what is written, and goes with what is read.
    pub(super) protects_writes: bool,
    pub(super) protects_reads: bool,
    pub(super) plan: PartitionPlan,
}

impl TapeModes {
    pub(super) fn of(values: &ModeValues) -> Self {
        let (header, extension) = (values.header(), values.current(EXTENSION.0, EXTENSION.1));
        let protection = values.current(PROTECTION.0, PROTECTION.1);
        let compression = values.current(COMPRESSION.0, COMPRESSION.1);
        Self {
            block_length: be32(header, 2),
            unbuffered: header[0] & BUFFERED_MODE == 0,
            append_only: extension[1] & WRITE_MODE == APPEND_ONLY,
            warning_zone: u64::from(be16(extension, 2)) * 1_000_000,
            compresses: compression[0] & DCE != 0 && compression[ALGORITHM_AT] != 0,
            protects_writes: protection[2] & LBP_W != 0,
            protects_reads: protection[2] & LBP_R != 0,
            plan: partition_plan(values),
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
    if (page.code, page.subpage) == PROTECTION {
        return match values {
            [0, 0, 0, ..] => Ok(()),
            [CRC32C, length, ..] if u32::from(*length) == forms::PROTECTION => Ok(()),
            [0, 0, ..] => Err(2),
            [0 | CRC32C, ..] => Err(1),
            _ => Err(0),
        };
    }
    if (page.code, page.subpage) == COMPRESSION {
        return if values[ALGORITHM_AT] > ALGORITHM { Err(ALGORITHM_AT) } else { Ok(()) };
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
fn partition_plan(values: &ModeValues) -> PartitionPlan {
    let page = values.current(PARTITIONS.0, PARTITIONS.1);
    *page.first_chunk().expect("the length of the page of the table")
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
