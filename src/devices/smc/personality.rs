// SPDX-License-Identifier: GPL-2.0-or-later
//! Libraries that one can buy, as initiators know them: one table, of which a row is all that makes one.

/// How element status data name a drive (DVCID).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DriveNaming {
    /// Vendor, product and serial number: 34 bytes, after a T10 vendor identification.
    Full,
    /// The serial number alone: 20 bytes, of a vendor's own kind.
    Serial,
}

/// What a library says that it is.
#[derive(Debug, PartialEq, Eq)]
pub struct LibraryPersonality {
    /// Its name in the configuration.
    pub name: &'static str,
    /// Vendor, product and revision of INQUIRY, unless the configuration gives others.
    pub inquiry: [&'static str; 3],
    /// Where its hand, slots, import/export elements and drives begin, unless the configuration says otherwise.
    pub(super) first: [u16; 4],
    pub(super) naming: DriveNaming,
}

const fn library(
    name: &'static str,
    inquiry: [&'static str; 3],
    first: [u16; 4],
    naming: DriveNaming,
) -> LibraryPersonality {
    LibraryPersonality { name, inquiry, first, naming }
}

/// A library of nobody's make.
pub const PLAIN: &LibraryPersonality = &PERSONALITIES[0];

/// The element addresses of most.
const USUAL: [u16; 4] = [0x0001, 0x1000, 0x0010, 0x0100];
const STK: [u16; 4] = [0x0001, 1000, 10, 500];

/// All of them.
pub const PERSONALITIES: &[LibraryPersonality] = &[
    library("ptgt", ["PTGT", "VIRTUAL-LIBRARY", "0001"], USUAL, DriveNaming::Full),
    library("ibm-3573", ["IBM", "3573-TL", "6.50"], USUAL, DriveNaming::Full),
    library("ibm-3584", ["IBM", "03584L32", "0001"], [0x0001, 0x0401, 0x0301, 0x0101], DriveNaming::Full),
    library("hp-msl-g3", ["HP", "MSL G3 Series", "0001"], USUAL, DriveNaming::Serial),
    library("hp-msl6000", ["HP", "MSL6000 Series", "0001"], [0x01, 0x20, 0x1c0, 0x1e0], DriveNaming::Serial),
    library("quantum-scalar-i40-i80", ["QUANTUM", "Scalar i40-i80", "0001"], USUAL, DriveNaming::Full),
    library("quantum-scalar-i500", ["ADIC", "Scalar i500", "0001"], USUAL, DriveNaming::Full),
    library("quantum-scalar-i6000", ["QUANTUM", "Scalar i6000", "0001"], USUAL, DriveNaming::Full),
    library("stk-l700", ["STK", "L700", "0001"], STK, DriveNaming::Full),
    library("stk-sl500", ["STK", "SL500", "0001"], STK, DriveNaming::Full),
    library("stk-sl150", ["STK", "SL150", "0001"], [0, 1000, 10, 500], DriveNaming::Full),
];
