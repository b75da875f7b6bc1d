// SPDX-License-Identifier: GPL-2.0-or-later
//! Device types: what a command means to a disk, a tape, a changer. Each is a table of commands and the state of its
//! tasks; data comes and goes as [`crate::scsi::Step`]s, so that a device neither sees a fabric nor a store.

pub mod sbc;
