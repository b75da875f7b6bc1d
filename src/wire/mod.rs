// SPDX-License-Identifier: GPL-2.0-or-later
//! Byte formats only: what lies where in a message. Nothing here keeps state, does I/O or knows what a field is for.

pub mod iscsi;
pub mod scsi;
