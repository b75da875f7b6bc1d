// SPDX-License-Identifier: GPL-2.0-or-later
//! Media changers: SMC-3 over an inventory of their elements.
//!
//! A [`MediaChanger`] is a serial unit: its commands run one at a time.

mod changer;
mod device;
mod elements;
mod mode;
mod motion;
mod options;
mod personality;
mod report;
mod status;
mod table;
mod tags;

#[cfg(test)]
mod tests;

pub use changer::MediaChanger;
pub use elements::ElementAddresses;
pub use options::{KEYS, LibraryOptions, PRODUCT, barcode_of, cartridge_path};
pub use personality::{LibraryPersonality, PERSONALITIES, PLAIN};
pub use table::commands;
