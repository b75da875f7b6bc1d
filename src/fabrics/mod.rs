// SPDX-License-Identifier: GPL-2.0-or-later
//! Fabrics: protocol state machines. No sockets, no clock: bytes and time are arguments.

pub mod fcoe;
pub mod iscsi;
