// SPDX-License-Identifier: GPL-2.0-or-later
//! SAM without I/O: commands, sense, unit attentions, and the upper waist: [`DeviceServer`] (what a device is to a
//! fabric) and [`Transport`] (what a fabric is to a device).

mod attention;
mod command;
mod device;
pub mod primary;
mod sense;
mod transport;

pub use attention::Attentions;
pub use command::{Cdb, Command, Expected, Lun, NexusId, TaskAttribute, TaskId, UnitKey};
pub use device::{Context, DeviceServer, Outcome, Resume, Step};
pub use sense::{Sense, Status, asc, key};
pub use transport::{
    Exchange, Request, Residual, Response, TaskManagementFunction, TaskManagementResponse, Transport,
};
