// SPDX-License-Identifier: GPL-2.0-or-later
//! Fuzz targets: functions that take any bytes, and must neither panic nor keep memory. Those that speak to the target do so
//! through a whole machine, from frames to disk.
//!
//! The fuzzer beside them changes inputs of a corpus. In a program that counts which of its edges are taken
//! (`ci/fuzz/cover.sh`) it goes on from those that have found new ones; elsewhere it is a blind one, which runs
//! everywhere, in `cargo test` as well.

mod mutate;
mod rig;

use std::path::Path;

use rig::Rig;

use crate::control::status::{SetPortGroup, State, Status, StatusSource};
use crate::wire::iscsi::pairs;

pub(super) use mutate::{FuzzReport, fuzz};

/// A target: its name, and what it does with its input.
pub(super) type Target = (&'static str, fn(&[u8]));

/// All of them. Each has a corpus of its name in `ci/fuzz/corpus`.
pub(super) const TARGETS: [Target; 9] = [
    ("text", text),
    ("config", config),
    ("control", control),
    ("login", |bytes| Rig::run(bytes, false, Rig::login)),
    ("chap", |bytes| Rig::run(bytes, true, Rig::login)),
    ("cdbs", |bytes| Rig::run(bytes, false, Rig::cdbs)),
    ("stream", |bytes| Rig::run(bytes, false, Rig::stream)),
    ("session", |bytes| Rig::run(bytes, false, Rig::session)),
    ("frames", |bytes| Rig::run(bytes, false, Rig::frames)),
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

/// Lines of the control socket.
fn control(bytes: &[u8]) {
    struct Source;
    impl StatusSource for Source {
        fn status(&self) -> Status {
            Status {
                version: String::new(),
                uptime_seconds: 0,
                state: State::Running,
                reactors: Vec::new(),
                silent_reactors: Vec::new(),
                ports: Vec::new(),
                disks: Vec::new(),
                targets: Vec::new(),
                sessions: Vec::new(),
            }
        }

        fn set_port_group(&self, wanted: &SetPortGroup) -> Result<(), String> {
            if wanted.disk.is_some() { Ok(()) } else { Err("no".into()) }
        }
    }
    for line in bytes.split(|&byte| byte == b'\n') {
        if let Some(text) = crate::control::answer(line, &Source) {
            assert!(!text.contains('\n'), "an answer of more than one line");
            let answer: serde_json::Value = serde_json::from_str(&text).expect("an answer in JSON");
            assert!(answer["result"].is_null() != answer["error"].is_null(), "{text}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The corpora, and as many changes of them as there is time for.
    #[test]
    fn targets_take_anything() {
        for target in TARGETS {
            let FuzzReport { runs, corpus, .. } = fuzz(target, 1, 300, None, None);
            assert!(corpus > 0 && runs >= 300, "{}: {runs} runs over {corpus} inputs", target.0);
        }
    }
}
