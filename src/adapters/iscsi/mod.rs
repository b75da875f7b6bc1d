// SPDX-License-Identifier: GPL-2.0-or-later
//! iSCSI on the cores: all sessions of the daemon, and what is exported where and to whom.

pub mod sessions;
pub mod topology;
