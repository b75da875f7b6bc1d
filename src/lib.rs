// SPDX-License-Identifier: GPL-2.0-or-later
//! ptgt, the polled target: a SCSI target framework.

pub mod control;
pub mod devices;
pub mod fabrics;
pub mod io;
pub mod memory;
pub mod net;
pub mod ports;
pub mod reactor;
pub mod runtime;
pub mod scsi;
pub mod stores;
pub mod sys;
pub mod target;
pub mod time;
pub mod wire;
