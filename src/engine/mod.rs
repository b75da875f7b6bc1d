// SPDX-License-Identifier: GPL-2.0-or-later
//! Joins fabrics, devices and stores: the task manager, and one core's share of it all.

pub mod agreement;
pub mod audit;
pub mod fabric;
pub mod links;
pub mod media;
pub mod port_ids;
pub mod report;
pub mod shard;
mod shortage;
pub mod tasks;
pub mod topology;
pub mod units;
