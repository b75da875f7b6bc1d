// SPDX-License-Identifier: GPL-2.0-or-later
//! Drives that one can buy, as initiators know them: one table, of which a row is all that makes one.

/// Whose pages a drive has beside those of the standards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DriveMaker {
    /// Nobody's.
    Own,
    Ibm,
    Hp,
    Quantum,
}

/// What a drive says that it is.
#[derive(Debug, PartialEq, Eq)]
pub struct Personality {
    /// Its name in the configuration.
    pub name: &'static str,
    /// Vendor, product and revision of INQUIRY, unless the configuration gives others.
    pub inquiry: [&'static str; 3],
    pub(super) maker: DriveMaker,
    /// Density codes of cartridges that it reads alone, and of those that it writes, its own at the end.
    reads: &'static [u8],
    writes: &'static [u8],
}

impl Personality {
    /// Whether it reads cartridges of that density.
    pub(super) fn reads(&self, density: u8) -> bool {
        self.reads.contains(&density) || self.writes(density)
    }

    /// Whether it writes them.
    pub(super) fn writes(&self, density: u8) -> bool {
        self.writes.contains(&density)
    }

    /// The density of its own generation.
    pub(super) fn own_density(&self) -> u8 {
        self.writes[self.writes.len() - 1]
    }
}

const LTO_5: (&[u8], &[u8]) = (&[0x44], &[0x46, 0x58]);
const LTO_6: (&[u8], &[u8]) = (&[0x46], &[0x58, 0x5a]);
const LTO_7: (&[u8], &[u8]) = (&[0x58], &[0x5a, 0x5c]);
const LTO_8: (&[u8], &[u8]) = (&[], &[0x5c, 0x5d, 0x5e]);
const LTO_9: (&[u8], &[u8]) = (&[], &[0x5e, 0x60]);

const fn drive(
    name: &'static str,
    inquiry: [&'static str; 3],
    maker: DriveMaker,
    (reads, writes): (&'static [u8], &'static [u8]),
) -> Personality {
    Personality { name, inquiry, maker, reads, writes }
}

/// A drive that takes all cartridges and is of nobody's make.
pub(super) const PLAIN: &Personality = &PERSONALITIES[0];

/// All of them. Revisions are such as LTFS takes, where some are known.
pub const PERSONALITIES: &[Personality] = &[
    drive(
        "ptgt",
        ["PTGT", "VIRTUAL-TAPE", "0001"],
        DriveMaker::Own,
        (&[], &[0x40, 0x42, 0x44, 0x46, 0x58, 0x5c, 0x5d, 0x5e, 0x60, 0x5a]),
    ),
    drive("ibm-ult3580-td5", ["IBM", "ULT3580-TD5", "D2AC"], DriveMaker::Ibm, LTO_5),
    drive("ibm-ult3580-td6", ["IBM", "ULT3580-TD6", "D2DA"], DriveMaker::Ibm, LTO_6),
    drive("ibm-ult3580-td7", ["IBM", "ULT3580-TD7", "FA14"], DriveMaker::Ibm, LTO_7),
    drive("ibm-ult3580-td8", ["IBM", "ULT3580-TD8", "HB82"], DriveMaker::Ibm, LTO_8),
    drive("ibm-ult3580-td9", ["IBM", "ULT3580-TD9", "0001"], DriveMaker::Ibm, LTO_9),
    drive("hp-ultrium-5", ["HP", "Ultrium 5-SCSI", "Z21U"], DriveMaker::Hp, LTO_5),
    drive("hp-ultrium-6", ["HP", "Ultrium 6-SCSI", "J2DS"], DriveMaker::Hp, LTO_6),
    drive("hp-ultrium-7", ["HP", "Ultrium 7-SCSI", "0001"], DriveMaker::Hp, LTO_7),
    drive("hpe-ultrium-8", ["HPE", "Ultrium 8-SCSI", "0001"], DriveMaker::Hp, LTO_8),
    drive("hpe-ultrium-9", ["HPE", "Ultrium 9-SCSI", "0001"], DriveMaker::Hp, LTO_9),
    drive("quantum-ultrium-hh5", ["QUANTUM", "ULTRIUM-HH5", "0001"], DriveMaker::Quantum, LTO_5),
    drive("quantum-ultrium-hh6", ["QUANTUM", "ULTRIUM-HH6", "0001"], DriveMaker::Quantum, LTO_6),
    drive("quantum-ultrium-hh7", ["QUANTUM", "ULTRIUM-HH7", "0001"], DriveMaker::Quantum, LTO_7),
    drive("quantum-ultrium-hh8", ["QUANTUM", "ULTRIUM-HH8", "0001"], DriveMaker::Quantum, LTO_8),
    drive("quantum-ultrium-hh9", ["QUANTUM", "ULTRIUM-HH9", "0001"], DriveMaker::Quantum, LTO_9),
];
