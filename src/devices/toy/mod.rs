// SPDX-License-Identifier: GPL-2.0-or-later
//! A second device type, for tests alone: a processor device (SPC-2 8) that runs one command at a time. It says one
//! thing to whoever receives from it, and before that what it was sent. It has no store. It shows that a device type
//! needs nothing but its room, a row in [`crate::engine::units`] and its table of keys.

mod device;
mod options;

pub(crate) use device::commands;
pub(crate) use options::{KEYS, ToyOptions};
