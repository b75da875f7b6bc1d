// SPDX-License-Identifier: GPL-2.0-or-later
//! Joins fabrics, devices and stores: the task manager, and one core's share of it all.

pub mod port_ids;
pub mod shard;
pub mod tasks;
pub mod units;
