// SPDX-License-Identifier: GPL-2.0-or-later
//! Tape drives: SSC-4 over an image of [`crate::formats::tape`].
//!
//! A [`Tape`] is a serial unit: its commands run one at a time, so that a task finds the cartridge as the last one left
//! it. What a task asks of the store on its way, to mount the cartridge, to look something up in its index, to write
//! what the image wants written, is in `store_work`; payload goes between initiator and store without it.

mod alerts;
mod config;
mod density;
mod device;
mod drive;
mod encryption;
mod forms;
mod logs;
mod medium;
mod memory;
mod mode;
mod motion;
mod options;
mod personality;
mod position;
mod read;
mod security;
mod store_work;
mod table;
mod task;
mod write;

#[cfg(test)]
mod tests;

pub use config::{KEYS, PRODUCT, TapeOptions};
pub use drive::{Tape, TapeReport};
pub use personality::{PERSONALITIES, Personality};
pub use table::commands;
