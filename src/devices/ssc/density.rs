// SPDX-License-Identifier: GPL-2.0-or-later
//! REPORT DENSITY SUPPORT (SSC-4 7.10): one table of densities.

use super::drive::{Job, Tape};
use crate::formats::tape::{CartridgeModel, MODELS};
use crate::scsi::primary::handlers::answered;
use crate::scsi::primary::{DeviceType, Fault, TaskWork};
use crate::scsi::{Context, Sense};
use crate::wire::scsi::{DataIn, be16};

/// Who has assigned the densities, and how wide the tape is, in tenths of a millimetre.
pub(super) const ORGANIZATION: &[u8] = b"LTO-CVE";
pub(super) const WIDTH: u16 = 127;

/// What a density descriptor has beside code and capacity, and what the cartridges of that density are like.
pub(super) struct Density {
    code: u8,
    bits_per_mm: u32,
    tracks: u16,
    name: &'static str,
    description: &'static str,
    /// Length of the tape.
    pub(super) metres: u16,
    /// Bytes of the memory of a cartridge.
    pub(super) memory: u16,
    /// MEDIUM TYPE of IBM and Quantum.
    pub(super) medium_type: u8,
}

const fn density(
    code: u8,
    bits_per_mm: u32,
    tracks: u16,
    name: &'static str,
    description: &'static str,
    (metres, memory, medium_type): (u16, u16, u8),
) -> Density {
    Density { code, bits_per_mm, tracks, name, description, metres, memory, medium_type }
}

/// In ascending order.
static DENSITIES: [Density; 10] = [
    density(0x40, 4880, 384, "U-18", "Ultrium 1/8T", (609, 4096, 0x18)),
    density(0x42, 7398, 512, "U-28", "Ultrium 2/8T", (609, 4096, 0x28)),
    density(0x44, 9638, 704, "U-316", "Ultrium 3/16T", (680, 4096, 0x38)),
    density(0x46, 12725, 896, "U-416", "Ultrium 4/16T", (820, 8160, 0x48)),
    density(0x58, 15142, 1280, "U-516", "Ultrium 5/16T", (846, 8160, 0x58)),
    density(0x5a, 15142, 2176, "U-616", "Ultrium 6/16T", (846, 16352, 0x68)),
    density(0x5c, 19107, 3584, "U-732", "Ultrium 7/32T", (960, 16352, 0x78)),
    density(0x5d, 19107, 5376, "U-732M", "Ultrium M8/32T", (960, 16352, 0x78)),
    density(0x5e, 20669, 6656, "U-832", "Ultrium 8/32T", (960, 16352, 0x88)),
    density(0x60, 21459, 8960, "U-932", "Ultrium 9/32T", (1035, 16352, 0x98)),
];

/// What is known of a density.
pub(super) fn facts(code: u8) -> Option<&'static Density> {
    DENSITIES.iter().find(|density| density.code == code)
}

fn text(text: &str, width: usize, data: &mut DataIn) {
    let padded = format!("{text:<width$}");
    data.bytes(&padded.as_bytes()[..width]);
}

fn descriptor(density: &Density, model: &CartridgeModel, (writes, usual): (bool, bool), data: &mut DataIn) {
    const WRTOK: u8 = 0x80;
    const DEFLT: u8 = 0x20;
    let [_, bits @ ..] = density.bits_per_mm.to_be_bytes();
    let flags = if writes { WRTOK } else { 0 } | if usual { DEFLT } else { 0 };
    data.u8(density.code).u8(density.code).u8(flags).u16(0).bytes(&bits);
    data.u16(WIDTH).u16(density.tracks).u32((model.capacity / 1_000_000) as u32);
    data.bytes(ORGANIZATION).u8(b' ');
    text(density.name, 8, data);
    text(density.description, 20, data);
}

/// Begins it.
pub(super) fn report(job: &Job<'_>, cx: &mut Context<'_>) -> Result<TaskWork<Tape>, Fault> {
    const MEDIUM_TYPE: u8 = 0x02;
    const MEDIA: u8 = 0x01;
    let media = job.cdb[1] & MEDIA != 0;
    let mounted = job.unit.drive().mounted().map(|image| image.cartridge().density);
    if media && let Some(sense) = job.unit.unready() {
        return Err(sense.into());
    }
    let mut data = DataIn::new();
    data.u16(0).u16(0);
    if job.cdb[1] & MEDIUM_TYPE != 0 {
        // Medium types are of vendors.
        return Err(Sense::invalid_field_in_cdb(1, Some(1)).into());
    }
    let usual = mounted.unwrap_or_else(|| job.unit.options().density);
    let drive = job.unit.options().personality;
    let told = |density: &&Density| if media { density.code == usual } else { drive.reads(density.code) };
    for density in DENSITIES.iter().filter(told) {
        if let Some(model) = MODELS.iter().find(|model| model.density == density.code) {
            descriptor(density, model, (drive.writes(density.code), density.code == usual), &mut data);
        }
    }
    data.close(0, 2);
    answered((data, be16(&job.cdb, 7).into()), cx)
}
