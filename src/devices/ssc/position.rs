// SPDX-License-Identifier: GPL-2.0-or-later
//! READ POSITION (SSC-4 7.7), READ BLOCK LIMITS (7.5) and READ MEDIA SERIAL NUMBER.

use super::drive::{Drive, Job, Tape, TapeZone};
use super::store_work::{Pause, StoreWork};
use crate::formats::tape::RECORD_BYTES_MAX;
use crate::scsi::primary::handlers::answered;
use crate::scsi::primary::{Fault, TaskWork, reply};
use crate::scsi::{Context, Outcome, Sense};
use crate::wire::scsi::{DataIn, be16, be32};

/// Beginning and end of the partition.
const BOP: u8 = 0x80;
const EOP: u8 = 0x40;
/// Behind the programmable early warning.
const BPEW: u8 = 0x01;
/// Of the short form: the position does not fit, and so is not said.
const PERR: u8 = 0x02;
const LOLU: u8 = 0x04;

/// The form that was asked for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Position {
    Short,
    Long,
    Extended,
}

impl Position {
    pub(super) fn begin(job: &Job<'_>) -> Result<Self, Fault> {
        Ok(match job.cdb[1] & 0x1f {
            0 | 1 => Self::Short,
            6 => Self::Long,
            8 => Self::Extended,
            _ => return Err(Sense::invalid_field_in_cdb(1, Some(4)).into()),
        })
    }

    pub(super) fn advance(
        self,
        store: &mut StoreWork,
        drive: &mut Drive,
        job: &Job<'_>,
        cx: &Context<'_>,
    ) -> Result<Outcome, Pause> {
        let (partition, lba) = (drive.partition, drive.lba);
        let used = store.ask(drive, |image| image.used_before(partition, lba))?;
        let zone = match drive.zone_of(used) {
            TapeZone::Free => 0,
            TapeZone::Programmable => BPEW,
            TapeZone::Warning => EOP | if drive.modes.warning_zone > 0 { BPEW } else { 0 },
        };
        let flags = zone | if lba == 0 { BOP } else { 0 };
        let mut data = DataIn::new();
        let mut allocation = usize::MAX;
        match self {
            Self::Short => {
                let place = u32::try_from(lba);
                let flags = flags | if place.is_err() { PERR | LOLU } else { 0 };
                let place = place.unwrap_or(0);
                data.u8(flags).u8(partition as u8).u16(0).u32(place).u32(place).pad_to(20);
            }
            Self::Long => {
                let file = store.ask(drive, |image| image.file_of(partition, lba))?;
                data.u8(flags).u8(0).u16(0).u32(partition as u32).u64(lba).u64(file).u64(0);
            }
            Self::Extended => {
                allocation = be16(&job.cdb, 7).into();
                data.u8(flags).u8(partition as u8).u16(28).u32(0).u64(lba).u64(lba).u64(0);
            }
        }
        Ok(reply(&data, allocation, cx))
    }
}

/// READ BLOCK LIMITS.
pub(super) fn block_limits(job: &Job<'_>, cx: &mut Context<'_>) -> Result<TaskWork<Tape>, Fault> {
    /// MAXIMUM LOGICAL OBJECT IDENTIFIER is asked for.
    const MLOI: u8 = 0x01;
    const IDENTIFIER_MAX: u64 = u64::MAX >> 1;
    let mut data = DataIn::new();
    if job.cdb[1] & MLOI != 0 {
        data.pad_to(12).u64(IDENTIFIER_MAX);
        return answered((data, u32::MAX), cx);
    }
    // GRANULARITY 0: any length.
    data.u32(RECORD_BYTES_MAX.min(0x00ff_ffff)).u16(1);
    answered((data, u32::MAX), cx)
}

/// The serial number of a cartridge: what tells its image from all others.
pub(super) fn medium_serial(drive: &mut Drive) -> String {
    format!("{:016X}", drive.image().cartridge().identity)
}

/// READ MEDIA SERIAL NUMBER.
pub(super) fn read_serial(drive: &mut Drive, job: &Job<'_>, cx: &Context<'_>) -> Outcome {
    let mut data = DataIn::new();
    data.u32(0).bytes(medium_serial(drive).as_bytes()).close(0, 4);
    reply(&data, be32(&job.cdb, 6) as usize, cx)
}
