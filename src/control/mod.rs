// SPDX-License-Identifier: GPL-2.0-or-later
//! Control plane: configuration, log, status, and the socket between daemon and command line. Nothing here runs on a
//! reactor's thread.

pub mod client;
pub mod config;
pub mod doctor;
#[cfg(test)]
mod generated;
mod lines;
pub mod logging;
pub mod output;
pub mod privileges;
mod rpc;
pub mod server;
pub mod status;

#[cfg(any(test, feature = "sim"))]
pub(crate) use rpc::answer;

/// Where daemon and command line meet unless they are told otherwise.
pub const DEFAULT_SOCKET: &str = "/run/ptgt/control.sock";
