// SPDX-License-Identifier: GPL-2.0-or-later
//! The configuration file: TOML, checked as a whole. All that is wrong with a file is told at once, each with its place
//! and what is allowed there; unknown keys are errors. The keys are described in `docs/configuration.md`.

mod access;
mod faults;
mod keys;
mod load;
mod model;
mod ports;

mod reference;

pub use crate::options::{Diagnostic, render};
pub use access::{doubts, read_secret, warnings};
pub use load::{Scope, load, parse};
pub use model::{
    AccessConfig, Account, Chap, Config, Daemon, Disk, Dpdk, Driver, Hugepages, Link, Port, PortGroup,
    Portal, Redirect, SecretSource, StoreKind, Target,
};
pub use reference::reference;

#[cfg(test)]
mod tests;
