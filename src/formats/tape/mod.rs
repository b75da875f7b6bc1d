// SPDX-License-Identifier: GPL-2.0-or-later
//! The image of a tape cartridge: an append-only log for each partition. docs/tape-format.md describes every byte.
//!
//! [`TapeMount`] makes a [`TapeImage`] of what it has read; that answers questions (what is at a position, where is a
//! filemark) and tells, in [`TapeStep`]s, what changes of it write. Payload never passes through here: of a record that
//! is larger than [`INLINE_MAX`] the image tells where it goes or lies, from the beginning of a block.
//!
//! What makes it safe:
//! * A packed block is written once in its epoch. Nothing that is part of the log is ever written over.
//! * An overwrite begins a new epoch: an anchor that ends the log there is on stable storage before anything else is
//!   written. Packed blocks of older epochs behind an anchor are nobody's, wherever they lie.
//! * Everything has a checksum, and says of which image, partition and epoch it is and where it lies.

mod anchor;
mod attributes;
mod cache;
#[cfg(any(test, feature = "sim"))]
mod damage;
mod image;
mod index;
mod layout;
mod log;
mod models;
mod motion;
mod mount;
mod packed;
#[cfg(test)]
mod tests;

pub use attributes::{ATTRIBUTE_BYTES_MAX, TapeAttribute};
#[cfg(any(test, feature = "sim"))]
pub(crate) use damage::run_damaged;
pub use image::{
    AppendError, RecordPayload, StoreRange, TapeImage, TapeObject, TapePosition, TapeStep, Unanswered,
};
pub use layout::{
    BARCODE_MAX, BLOCK, Cartridge, CartridgeUse, PARTITIONS_MAX, PartitionArea, RECORD_BYTES_MAX, VERSION,
    image_bytes,
};
pub use models::{CartridgeModel, MODELS};
pub use motion::{MotionStop, TapeMotion};
pub use mount::{MountError, MountFindings, TapeMount};
pub use packed::{INLINE_MAX, RecordHeader, STORED_MAX};
