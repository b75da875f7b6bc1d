// SPDX-License-Identifier: GPL-2.0-or-later
//! SAM without I/O: commands, sense, unit attentions, and the upper waist: [`DeviceServer`] (what a device is to a
//! fabric) and [`Transport`] (what a fabric is to a device).
//!
//! Some of it is ahead of devices that are still to come, tapes and object storage, and only tests use it until then:
//! the [`SenseDescriptor`]s, [`Sense::after_retries`], [`Outcome::of_block`], and the parameters before the mode pages
//! ([`primary::ModePage::of_header`]).

pub mod alua;
mod attention;
mod command;
mod device;
mod nexus;
mod port_name;
pub mod primary;
pub mod reservations;
mod sense;
mod transport;
mod unit;

pub use attention::{Attention, Interlock, UnitAttentions, Whom};
pub use command::{Cdb, Command, Expected, Lun, TaskAttribute, TaskId, UnitKey, UnitKeys};
pub use device::{
    Context, Control, CopyTraits, DeviceServer, DriveChange, MoveFailure, Outcome, Peer, Resume, Step,
};
pub use nexus::{Nexus, NexusId, NexusIds, TargetPort};
pub use port_name::{IscsiPortName, PortName, TransportProtocol};
pub use sense::{EncodedSense, Sense, SenseDescriptor, Status, asc, key};
pub use transport::{
    Request, RequestTag, Residual, Response, TaskManagementFunction, TaskManagementResponse, Transport,
};
pub use unit::{Change, NexusAccess, NotAdmitted, UnitState};
