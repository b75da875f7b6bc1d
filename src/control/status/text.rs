// SPDX-License-Identifier: GPL-2.0-or-later
//! The status as text.

use std::fmt::Write;

use serde_json::Value;

use super::{
    Latency, Port, PortGroup, Reactor, Registration, Reservations, State, Status, UnitDetails, UnitStatus,
};
use crate::adapters::FABRICS;
use crate::control::output::capital;
use crate::counters::{CounterDefinition, CounterSet, CounterUnit};
use crate::engine::tasks::UnitCounters;
use crate::engine::units;
use crate::memory::ArenaCounters;
use crate::reactor::LoopCounters;
use crate::wire::{ByteCount, Shown};

/// The status as text: aligned tables, units that people use. Ends with a line feed.
pub fn render(status: &Status) -> String {
    let status = &shown(status);
    let mut out = String::new();
    let state = match status.state {
        State::Running => "running",
        State::Draining => "stopping",
    };
    _ = writeln!(out, "ptgt {}, {state}, up {}", status.version, duration(status.uptime_seconds));
    for reactor in &status.silent_reactors {
        _ = writeln!(out, "reactor {reactor} does not answer: its share is missing from what follows");
    }
    reactors(&mut out, &status.reactors);
    ports(&mut out, &status.ports);
    let mut kinds: Vec<Vec<&UnitStatus>> = Vec::new();
    for unit in status.disks.iter().chain(&status.units) {
        match kinds.iter_mut().find(|units| units[0].kind == unit.kind) {
            Some(units) => units.push(unit),
            None => kinds.push(vec![unit]),
        }
    }
    kinds.iter().for_each(|of_kind| units_of_kind(&mut out, of_kind));
    kinds.iter().for_each(|of_kind| latencies(&mut out, of_kind));
    kinds.iter().flatten().for_each(|unit| shared_state(&mut out, unit));
    for fabric in FABRICS {
        match (fabric.render)(&status.fabrics) {
            Ok(text) => out.push_str(&text),
            Err(e) => _ = writeln!(out, "\nthe daemon speaks another version: {e}"),
        }
    }
    out
}

/// The same with every text in it as it may be shown: one that has line feeds makes no lines.
fn shown(status: &Status) -> Status {
    fn show(value: Value) -> Value {
        match value {
            Value::String(text) => Shown(&text).to_string().into(),
            Value::Array(list) => list.into_iter().map(show).collect(),
            Value::Object(map) => {
                map.into_iter().map(|(key, value)| (Shown(&key).to_string(), show(value))).collect()
            }
            plain => plain,
        }
    }
    let value = serde_json::to_value(status).expect("a status is plain data");
    serde_json::from_value(show(value)).expect("texts are as good as others")
}

fn reactors(out: &mut String, reactors: &[Reactor]) {
    let mut table = Table::new("REACTOR,PROCESSOR,BUSY,ASLEEP")
        .counters::<LoopCounters>()
        .counters::<ArenaCounters>()
        .headings("PAGES");
    for reactor in reactors {
        let Reactor { reactor, processor, busy_share, asleep_share, counters, memory, .. } = reactor;
        let head = [
            reactor.to_string(),
            processor.map_or_else(|| "any".into(), |processor| processor.to_string()),
            percent(*busy_share),
            percent(*asleep_share),
        ];
        let counters = cells(counters).chain(cells(&memory.counters));
        table.row(head.into_iter().chain(counters).chain([format!("{:?}", memory.pages).to_lowercase()]));
    }
    table.write(out);
}

fn ports(out: &mut String, ports: &[Port]) {
    for Port { name, driver, counters } in ports {
        _ = writeln!(out, "\nPort {name} ({driver})");
        // What never happened is left out: most names are of things that should not happen.
        let counted: Vec<String> =
            counters.iter().filter(|(_, n)| **n > 0).map(|(name, n)| format!("{name} {n}")).collect();
        for line in counted.chunks(4) {
            _ = writeln!(out, "  {}", line.join(", "));
        }
    }
}

/// Units of one kind.
fn units_of_kind(out: &mut String, units: &[&UnitStatus]) {
    let kind = units[0].kind.to_uppercase();
    let mut table = Table::new(&format!("{kind},STORE,SIZE,BLOCK")).counters::<UnitCounters>().left(2);
    for unit in units {
        let head = [
            unit.name.clone(),
            format!("{}{}", unit.store, if unit.read_only { ", read-only" } else { "" }),
            bytes(unit.size_bytes),
            unit.block_bytes.to_string(),
        ];
        table.row(head.into_iter().chain(cells(&unit.counters)));
    }
    table.write(out);
}

fn latencies(out: &mut String, units: &[&UnitStatus]) {
    let kind = units[0].kind.to_uppercase();
    let headings = format!("{kind},COMMANDS,WAITED FOR,COUNT,MEAN US,P50,P90,P99,P99.9,MAX");
    let mut table = Table::new(&headings).left(3);
    let micros = |ns: u64| format!("{:.1}", ns as f64 / 1000.0);
    for (unit, latency) in units.iter().flat_map(|unit| unit.latencies.iter().map(move |each| (unit, each))) {
        let Latency { kind, stage, count, sum_ns, max_ns, quantiles_ns, .. } = latency;
        let quantile = |name| quantiles_ns.get(name).map_or_else(String::new, |&ns| micros(ns));
        table.row([
            unit.name.clone(),
            kind.clone(),
            if stage == "total" { "all" } else { stage }.to_owned(),
            count.to_string(),
            micros(sum_ns / count.max(&1)),
            quantile("p50"),
            quantile("p90"),
            quantile("p99"),
            quantile("p99.9"),
            micros(*max_ns),
        ]);
    }
    table.write(out);
}

/// What is not as it is after the first start.
fn remarkable(unit: &UnitStatus) -> Vec<String> {
    let UnitDetails { fault_rules, device } = &unit.state;
    let mut found = units::kind(&unit.kind).map_or_else(Vec::new, |kind| (kind.remarks)(device));
    if *fault_rules > 0 {
        found.push(format!("injects faults, by {fault_rules} rules"));
    }
    found
}

/// What is not as it is without any reservation, all ports being active.
fn shared_state(out: &mut String, unit: &UnitStatus) {
    let Reservations { kind, persists, reserved, registrations, .. } = &unit.reservations;
    let groups = unit.port_groups.iter().filter(|group| group.state != "active/optimized" || group.preferred);
    let groups: Vec<_> = groups.collect();
    let remarkable = remarkable(unit);
    let usual = kind.is_none() && !reserved && registrations.is_empty() && groups.is_empty();
    if usual && remarkable.is_empty() && unit.medium.is_none() {
        return;
    }
    _ = writeln!(out, "\n{} {}", capital(&unit.kind), unit.name);
    unit.medium.iter().for_each(|medium| _ = writeln!(out, "  has {medium} in it"));
    remarkable.iter().for_each(|line| _ = writeln!(out, "  {line}"));
    if *reserved {
        out.push_str("  reserved by RESERVE\n");
    }
    if let Some(kind) = kind {
        let persists = if *persists { ", survives a restart" } else { "" };
        _ = writeln!(out, "  reservation: {kind}{persists}");
    }
    for Registration { initiator, target_port, key, holder } in registrations {
        let port = target_port.as_deref().unwrap_or("all ports");
        _ = writeln!(out, "  key {key} of {initiator} at {port}{}", if *holder { ", holder" } else { "" });
    }
    for PortGroup { group, state, preferred, .. } in groups {
        _ = writeln!(out, "  port group {group}: {state}{}", if *preferred { ", preferred" } else { "" });
    }
}

/// Columns that are as wide as they must be, separated by two spaces.
struct Table {
    rows: Vec<Vec<String>>,
    left: usize,
}

impl Table {
    /// With the headings, separated by commas. All columns are aligned to the right.
    fn new(headings: &str) -> Self {
        Self { rows: vec![Vec::new()], left: 0 }.headings(headings)
    }

    /// The first columns are aligned to the left.
    fn left(self, left: usize) -> Self {
        Self { left, ..self }
    }

    /// More headings.
    fn headings(mut self, headings: &str) -> Self {
        self.rows[0].extend(headings.split(',').map(str::to_owned));
        self
    }

    /// The headings of counters that have one.
    fn counters<S: CounterSet>(mut self) -> Self {
        let shown = S::LIST.iter().filter(|definition| is_shown(definition));
        self.rows[0].extend(shown.map(|definition| definition.heading.to_owned()));
        self
    }

    fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// With an empty line before; nothing if there are headings only.
    fn write(&self, out: &mut String) {
        if self.rows.len() == 1 {
            return;
        }
        out.push('\n');
        let width = |column: usize| {
            self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max()
        };
        let widths: Vec<usize> = (0..self.rows[0].len()).filter_map(width).collect();
        for row in &self.rows {
            let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| {
                if column < self.left { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
            });
            out.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
            out.push('\n');
        }
    }
}

fn is_shown(definition: &CounterDefinition) -> bool {
    !definition.heading.is_empty()
}

/// The values of counters that have a heading.
fn cells(counters: &impl CounterSet) -> impl Iterator<Item = String> {
    counters.counted().filter(|(definition, _)| is_shown(definition)).map(|(definition, value)| {
        match definition.unit {
            CounterUnit::Bytes => bytes(value),
            _ => value.to_string(),
        }
    })
}

fn percent(share: f32) -> String {
    format!("{:.0}%", share * 100.0)
}

fn bytes(bytes: u64) -> String {
    ByteCount(bytes).to_string()
}

fn duration(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, ..) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_that_people_use() {
        let cases = [(0, "0 B"), (1023, "1023 B"), (1024, "1 KiB"), (1536, "1.5 KiB"), (2047, "1.9 KiB")];
        for (n, text) in cases {
            assert_eq!(bytes(n), text);
        }
        assert_eq!(bytes(1 << 30), "1 GiB");
        assert_eq!(bytes(u64::MAX), "15.9 EiB");
        let cases = [(59, "59 s"), (61, "1 min 1 s"), (3660, "1 h 1 min"), (90_000, "1 d 1 h")];
        for (n, text) in cases {
            assert_eq!(duration(n), text);
        }
    }
}
