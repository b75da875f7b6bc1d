// SPDX-License-Identifier: GPL-2.0-or-later
//! Cartridges that one can buy: one table.

/// A kind of cartridge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CartridgeModel {
    /// Its name.
    pub name: &'static str,
    /// Density code of SSC.
    pub density: u8,
    /// Native capacity in bytes.
    pub capacity: u64,
}

const fn model(name: &'static str, density: u8, megabytes: u64) -> CartridgeModel {
    CartridgeModel { name, density, capacity: megabytes * 1_000_000 }
}

/// All of them.
pub const MODELS: [CartridgeModel; 10] = [
    model("lto1", 0x40, 100_000),
    model("lto2", 0x42, 200_000),
    model("lto3", 0x44, 400_000),
    model("lto4", 0x46, 800_000),
    model("lto5", 0x58, 1_500_000),
    model("lto6", 0x5a, 2_500_000),
    model("lto7", 0x5c, 6_000_000),
    model("lto7m", 0x5d, 9_000_000),
    model("lto8", 0x5e, 12_000_000),
    model("lto9", 0x60, 18_000_000),
];
