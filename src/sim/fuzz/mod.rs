// SPDX-License-Identifier: GPL-2.0-or-later
//! Fuzz targets: functions that take any bytes, and must neither panic nor keep memory. Those that speak to the target
//! do so through a whole machine, from frames to disk.
//!
//! The fuzzer beside them changes inputs of a corpus. In a program that counts which of its edges are taken
//! (`ci/fuzz/build.sh`) it goes on from those that have found new ones; elsewhere it is a blind one, which runs
//! everywhere, in `cargo test` as well. docs/testing.md says how to add a target.

#[cfg(feature = "sim")]
mod condense;
mod fuzzer;
mod links;
mod mutate;
mod ports;
mod records;
mod rig;
mod scripts;

use std::path::Path;

use mutate::InputShape;
use rig::{PLAIN, Rig, RigKind};

use crate::bench::hostile;
use crate::control::status::{
    ApplyRequest, MediumRequest, SetPortGroup, State, Status, StatusRequest, StatusSource,
};
use crate::fabrics::fcoe::any::AnyFrames;
use crate::formats::tape::run_damaged;
use crate::wire::iscsi::{self, pairs};
use crate::wire::{fc, iser, srp};

#[cfg(feature = "sim")]
pub(super) use condense::{condense, run_inputs};
#[cfg(feature = "sim")]
pub(super) use fuzzer::{FuzzReport, fuzz};

/// A target.
#[derive(Debug)]
pub(super) struct FuzzTarget {
    /// Its name, and that of the directory of its corpus in `ci/fuzz/corpus`.
    pub(super) name: &'static str,
    shape: InputShape,
    /// What it does with an input.
    run: fn(&[u8]),
}

const fn target(name: &'static str, shape: InputShape, run: fn(&[u8])) -> FuzzTarget {
    FuzzTarget { name, shape, run }
}

/// All of them.
pub(super) static TARGETS: [FuzzTarget; 27] = [
    target("text", InputShape::Plain, text),
    target("config", InputShape::Plain, config),
    target("control", InputShape::Plain, control),
    target("fc", InputShape::Plain, fc::rewrite::rewrite),
    target("fcoe", InputShape::Long, fcoe),
    target("pdus", InputShape::Plain, iscsi::rewrite::rewrite),
    target("iser", InputShape::Plain, iser::rewrite),
    target("srp", InputShape::Plain, srp::rewrite),
    target("record", InputShape::Plain, records::record),
    target("reservations", InputShape::Plain, records::reservations),
    target("persistent-reserve-out", InputShape::Pieces, records::persistent_reserve_out),
    target("tape", InputShape::Plain, run_damaged),
    target("kept", InputShape::Pieces, |bytes| Rig::run(PLAIN, bytes, scripts::kept)),
    target("login", InputShape::Pieces, |bytes| Rig::run(PLAIN, bytes, scripts::login)),
    target("chap", InputShape::Pieces, |bytes| Rig::run(CHAP, bytes, scripts::login)),
    target("cdbs", InputShape::Pieces, |bytes| Rig::run(PLAIN, bytes, scripts::cdbs)),
    target("library", InputShape::Pieces, |bytes| Rig::run(LIBRARY, bytes, scripts::library)),
    target("stream", InputShape::Plain, |bytes| Rig::run(PLAIN, bytes, scripts::stream)),
    target("session", InputShape::Pieces, |bytes| Rig::run(PLAIN, bytes, scripts::session)),
    target("several", InputShape::Pieces, |bytes| Rig::run(CORES, bytes, scripts::several)),
    target("full", InputShape::Pieces, |bytes| Rig::run(SHORT, bytes, scripts::full)),
    target("kernel", InputShape::Pieces, |bytes| Rig::run(KERNEL, bytes, scripts::session)),
    target("frames", InputShape::Long, |bytes| Rig::run(PLAIN, bytes, scripts::frames)),
    target("link", InputShape::Pieces, links::link),
    target("vnet", InputShape::Long, ports::vnet),
    target("packet", InputShape::Long, ports::packet),
    target("victim", InputShape::Long, |bytes| {
        hostile::run_against(InputShape::Long.split(bytes).into_iter().map(|piece| piece.data).collect());
    }),
];

const CHAP: RigKind = RigKind { chap: true, ..PLAIN };
const CORES: RigKind = RigKind { cores: 2, memory: 8, ..PLAIN };
const LIBRARY: RigKind = RigKind { library: true, ..PLAIN };
const SHORT: RigKind = RigKind { memory: 4, lends: false, ..PLAIN };
const KERNEL: RigKind = RigKind { cores: 2, memory: 8, kernel: true, ..PLAIN };

/// What the next input does depends on nothing before it.
fn forget() {
    links::forget();
    rig::forget();
    ports::forget();
}

/// Frames, to a port of Fibre Channel.
fn fcoe(bytes: &[u8]) {
    let mut any = AnyFrames::new();
    InputShape::Long.split(bytes).iter().for_each(|piece| any.take(&piece.data));
    _ = any.end();
}

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
        fn status(&self, _: StatusRequest) -> Status {
            Status {
                version: String::new(),
                uptime_seconds: 0,
                state: State::Running,
                reactors: Vec::new(),
                silent_reactors: Vec::new(),
                ports: Vec::new(),
                disks: Vec::new(),
                units: Vec::new(),
                fabrics: serde_json::Map::new(),
            }
        }

        fn set_port_group(&self, wanted: &SetPortGroup) -> Result<(), String> {
            if wanted.disk.is_some() { Ok(()) } else { Err("no".into()) }
        }

        fn apply(&self, wanted: &ApplyRequest) -> Result<(), String> {
            if wanted.path.is_absolute() { Ok(()) } else { Err("no".into()) }
        }

        fn change_medium(&self, wanted: &MediumRequest) -> Result<(), String> {
            if wanted.force { Ok(()) } else { Err("no".into()) }
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
    use super::fuzzer::{FuzzReport, fuzz};
    use super::*;

    /// The corpora, and some changes of them.
    #[test]
    fn targets_take_anything() {
        for target in &TARGETS {
            let FuzzReport { runs, corpus, .. } = fuzz(target, 1, 300, None, None);
            assert!(corpus > 0 && runs >= 300, "{}: {runs} runs over {corpus} inputs", target.name);
        }
    }
}
