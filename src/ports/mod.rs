// SPDX-License-Identifier: GPL-2.0-or-later
//! Ports: the drivers that frames and byte streams come from.
#![expect(unsafe_code, reason = "segments go to the kernel and to devices as addresses")]

mod address;
mod counters;
#[cfg(feature = "dpdk")]
pub mod dpdk;
mod dpdk_options;
mod drivers;
mod environment;
pub mod kernel;
mod link;
pub mod memory;
mod options;
pub mod packet;
pub mod tap;
#[cfg(test)]
pub(crate) mod tests;
mod vnet;

pub use address::{AddressHolder, AddressRefusal, TakenAddress};
pub use environment::EnvironmentOptions;
pub use link::LinkOptions;
pub use options::{ConfiguredPort, PortAddresses, PortOptions, PortShare, PortsStart};

pub use counters::{KernelCounters, LinkCounters, PacketCounters, QueueCounters, TapCounters};
