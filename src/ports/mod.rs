// SPDX-License-Identifier: GPL-2.0-or-later
//! Ports: the drivers that frames and byte streams come from.
#![expect(unsafe_code, reason = "segments go to the kernel and to devices as addresses")]

mod counters;
#[cfg(feature = "dpdk")]
pub mod dpdk;
pub mod kernel;
pub mod memory;
pub mod packet;
pub mod tap;
#[cfg(test)]
mod tests;
mod vnet;

pub use counters::{KernelCounters, LinkCounters, PacketCounters, QueueCounters, TapCounters};
