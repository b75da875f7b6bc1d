// SPDX-License-Identifier: GPL-2.0-or-later
//! Options as the configuration gives them: how a table of keys is described, and how it is read so that all errors are
//! reported at once, each with its place. Each kind of part has its tables where it is made; `control` joins them.

mod changes;
mod keys;
mod named;
mod reader;

pub use changes::ConfigChanges;
pub use keys::{Absent, Key, Table, ValueKind, below, key, with_absent, with_examples};
pub use named::Named;
pub use reader::{Diagnostic, Errors, Section, nearest, render, size};
