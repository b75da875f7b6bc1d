// SPDX-License-Identifier: GPL-2.0-or-later
//! Where each list of counters is in the status, and what they mean.

use std::fmt::Write;

use crate::adapters::FABRICS;
use crate::counters::{CounterDefinition, CounterPlace, CounterSet};
use crate::engine::links::PeerCounters;
use crate::engine::report::CoreCounters;
use crate::engine::tasks::UnitCounters;
use crate::memory::ArenaCounters;
use crate::net::{DropCounters, RawCounters, TcpCounters};
use crate::ports::{KernelCounters, LinkCounters, PacketCounters, QueueCounters, TapCounters};
use crate::reactor::LoopCounters;

/// Those of all parts but the fabrics.
const COUNTER_PLACES: &[CounterPlace] = &[
    CounterPlace {
        path: "reactors[]",
        what: "The loop of a core, and what it serves",
        lists: &[LoopCounters::LIST, CoreCounters::LIST, PeerCounters::LIST],
    },
    CounterPlace {
        path: "reactors[].memory",
        what: "Payload memory of a core",
        lists: &[ArenaCounters::LIST],
    },
    CounterPlace {
        path: "ports[].counters",
        what: "Drivers `tap`, `packet` and `dpdk`: the daemon's own TCP/IP",
        lists: &[TcpCounters::LIST, DropCounters::LIST, RawCounters::LIST],
    },
    CounterPlace { path: "ports[].counters", what: "Driver `tap`, in addition", lists: &[TapCounters::LIST] },
    CounterPlace {
        path: "ports[].counters",
        what: "Driver `packet`, in addition",
        lists: &[PacketCounters::LIST],
    },
    CounterPlace {
        path: "ports[].counters",
        what: "Driver `dpdk`, in addition; also `device_...`: what the device's driver counts, by its own \
             names",
        lists: &[QueueCounters::LIST, LinkCounters::LIST],
    },
    CounterPlace { path: "ports[].counters", what: "Driver `kernel`", lists: &[KernelCounters::LIST] },
    CounterPlace {
        path: "disks[].counters",
        what: "A disk, over all targets and sessions",
        lists: &[UnitCounters::LIST],
    },
];

/// All of them.
fn places() -> impl Iterator<Item = &'static CounterPlace> {
    COUNTER_PLACES.iter().chain(FABRICS.iter().flat_map(|fabric| fabric.counters))
}

/// What every counter means, for people: a page of Markdown.
pub fn explain() -> String {
    let mut out = String::from(
        "# Counters\n\n\
        What a running daemon counts, by its place in `ptgt status --json`; `ptgt status --explain` prints this page. A counter \
        starts at 0 and only rises; a gauge rises and falls; a maximum is the highest value of a gauge. Later versions may \
        add others. [Which of them mean trouble](configuration.md#is-it-healthy).\n",
    );
    for CounterPlace { path, what, lists } in places() {
        _ = write!(out, "\n## `{path}`\n\n{what}.\n\n| Name | Unit | Kind | Meaning |\n|---|---|---|---|\n");
        for CounterDefinition { name, unit, kind, help, .. } in lists.iter().copied().flatten() {
            _ = writeln!(out, "| `{name}` | {unit} | {kind} | {help} |");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::control::generated;

    #[test]
    fn the_page_is_current() {
        generated::is_current("docs/counters.md", &explain());
    }

    /// A list that is defined anywhere is told of here.
    #[test]
    fn no_list_is_forgotten() {
        fn lists(directory: &Path) -> usize {
            let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
            let count = |path: std::path::PathBuf| match path.is_dir() {
                true => lists(&path),
                // Not all are text: captures of frames lie beside tests.
                false if path.extension().is_none_or(|kind| kind != "rs") => 0,
                false => std::fs::read_to_string(path).unwrap().matches("\ncounter_set! {").count(),
            };
            entries.map(count).sum()
        }
        let defined = lists(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
        let mut told: Vec<_> = places().flat_map(|place| place.lists).copied().collect();
        told.sort_by_key(|list| list.as_ptr());
        told.dedup_by_key(|list| list.as_ptr());
        assert_eq!(told.len(), defined);
    }
}
