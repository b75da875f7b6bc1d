// SPDX-License-Identifier: GPL-2.0-or-later
//! The configuration file: TOML, checked as a whole. All errors of a file are reported at once, each with its place and
//! what is allowed there; unknown keys are errors. The keys are described in `docs/configuration.md`.

mod access;
pub mod difference;
mod identity;
mod keys;
mod load;
mod model;
mod reference;

use std::path::Path;

pub use crate::machine::Hugepages;
pub use crate::options::{Diagnostic, render};
pub use load::{is_log_filter, load, parse};
pub use model::{Config, Daemon, PortGroup, Scope};
pub use reference::reference;

/// What an operator should know of a good configuration, which is in that file.
pub fn warnings(path: &Path, config: &Config) -> Vec<String> {
    [access::warnings(path, config), identity::warnings(config)].concat()
}

#[cfg(test)]
mod tests;
