// SPDX-License-Identifier: GPL-2.0-or-later
//! Control plane: configuration, log, status, and the socket between daemon and command line. Nothing here runs on a
//! reactor's thread.

pub mod config;
pub mod logging;
