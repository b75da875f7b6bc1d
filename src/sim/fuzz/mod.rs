// SPDX-License-Identifier: GPL-2.0-or-later
//! Fuzz targets: functions that take any bytes, and must neither panic nor keep memory. Those that speak to the target do so
//! through a whole machine, from frames to disk.
//!
//! The fuzzer beside them is a plain one: it changes inputs of a corpus, blindly. What it lacks in cleverness it makes up
//! for by running everywhere, in `cargo test` as well.

mod mutate;
mod rig;

use std::path::Path;

use rig::Rig;

use crate::wire::iscsi::pairs;

pub(super) use mutate::{Report, fuzz};

/// A target: its name, and what it does with its input.
pub(super) type Target = (&'static str, fn(&[u8]));

/// All of them. Each has a corpus of its name in `ci/fuzz/corpus`.
pub(super) const TARGETS: [Target; 5] = [
    ("text", text),
    ("config", config),
    ("stream", |bytes| Rig::run(bytes, Rig::stream)),
    ("session", |bytes| Rig::run(bytes, Rig::session)),
    ("frames", |bytes| Rig::run(bytes, Rig::frames)),
];

/// Text keys.
fn text(bytes: &[u8]) {
    for pair in pairs(bytes).flatten() {
        assert!(!pair.key.is_empty() && pair.key.len() <= 63 && !pair.value.contains('\0'));
    }
}

/// The configuration file.
fn config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Err(diagnostics) = crate::control::config::parse(text, Path::new("/etc")) {
        let shown = crate::control::config::render(Path::new("fuzz.toml"), text, &diagnostics);
        assert!(!shown.is_empty(), "an error that says nothing");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The corpora, and as many changes of them as there is time for.
    #[test]
    fn targets_take_anything() {
        for target in TARGETS {
            let Report { runs, corpus } = fuzz(target, 1, 300, None);
            assert!(corpus > 0 && runs >= 300, "{}: {runs} runs over {corpus} inputs", target.0);
        }
    }
}
