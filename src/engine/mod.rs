// SPDX-License-Identifier: GPL-2.0-or-later
//! Joins fabrics, devices and stores: the task manager, the topology, and one core's share of it all.

pub mod port_ids;
pub mod sessions;
pub mod shard;
pub mod tasks;
pub mod topology;
pub mod units;
