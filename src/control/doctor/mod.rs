// SPDX-License-Identifier: GPL-2.0-or-later
//! What a machine has, compared with what a configuration wants. Looks, and changes nothing.

mod oddities;
mod running;
mod start;

use std::collections::BTreeMap;
use std::fmt::Write;

use caps::Capability;
use serde::Serialize;

pub use crate::machine::{Check, Machine, Verdict};
pub use oddities::{foreign_images, oddities};
pub use start::nearest_directory;

use self::running::RunningDaemon;
use super::config::{Config, Hugepages};
use crate::engine::units::UnitOptions;
use crate::machine::{Findings, PciDevice};
use crate::reactor::Idle;

/// Bytes of a huge page.
const HUGE: u64 = 2 << 20;

/// For whom a machine is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asker {
    /// Somebody who wants to know what a daemon would find. One may run already.
    Operator,
    /// A daemon that is about to start, and has its control socket.
    Daemon,
}

/// Huge pages of 2 MiB on a NUMA node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct NodePages {
    /// The node.
    pub node: usize,
    /// Free now.
    pub free: u64,
    /// Wanted by the configuration.
    pub wanted: u64,
}

/// Everything that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DoctorReport {
    /// What was looked at.
    pub checks: Vec<Check>,
    /// What `configs/launch.sh` sets aside.
    pub huge_pages: Vec<NodePages>,
    /// What `configs/launch.sh --bind` binds.
    pub devices: Vec<PciDevice>,
}

impl DoctorReport {
    /// The worst verdict.
    pub fn verdict(&self) -> Verdict {
        self.checks.iter().map(|check| check.verdict).max().unwrap_or(Verdict::Good)
    }

    /// What keeps a daemon from starting, whoever runs it.
    pub fn obstacles(&self) -> impl Iterator<Item = &Check> {
        self.failing().filter(|check| check.certain)
    }

    /// What keeps a daemon from starting that runs as the user who asks, or might.
    pub fn doubts(&self) -> impl Iterator<Item = &Check> {
        self.failing().filter(|check| !check.certain)
    }

    fn failing(&self) -> impl Iterator<Item = &Check> {
        self.checks.iter().filter(|check| check.verdict == Verdict::Fails)
    }

    /// For people: three lines for each check, one for those that are good.
    pub fn render(&self) -> String {
        let mut out = String::new();
        for Check { what, found, wanted, why, verdict, .. } in &self.checks {
            let word = match verdict {
                Verdict::Good => "good  ",
                Verdict::Slower => "slower",
                Verdict::Fails => "FAILS ",
            };
            _ = writeln!(out, "{word}  {what}: {found}");
            if *verdict > Verdict::Good {
                _ = writeln!(out, "        wanted: {wanted}\n        {why}");
            }
        }
        out
    }
}

struct Doctor<'a> {
    machine: &'a Machine,
    config: &'a Config,
    asker: Asker,
    running: RunningDaemon,
    findings: Findings,
}

/// Looks at a machine with the eyes of a configuration. `check`, `doctor` and `run` all judge by this.
pub fn examine(machine: &Machine, config: &Config, asker: Asker) -> DoctorReport {
    let running = match asker {
        Asker::Operator => RunningDaemon::at(&config.daemon.control_socket),
        Asker::Daemon => RunningDaemon::Absent,
    };
    let mut doctor = Doctor { machine, config, asker, running, findings: Findings::default() };
    doctor.start();
    doctor.processors();
    let huge_pages = doctor.huge_pages();
    doctor.rights();
    for port in &config.ports {
        port.options.examine(&port.name, machine, &config.daemon.reactors, &mut doctor.findings);
    }
    doctor.clock();
    let Findings { checks, devices } = doctor.findings;
    DoctorReport { checks, huge_pages, devices }
}

impl Doctor<'_> {
    fn check(
        &mut self,
        what: impl Into<String>,
        found: impl Into<String>,
        wanted: impl Into<String>,
        why: impl Into<String>,
        verdict: Verdict,
    ) -> &mut Check {
        self.findings.add(what, found, wanted, why, verdict)
    }

    fn processors(&mut self) {
        let online = self.machine.list("sys/devices/system/cpu/online");
        let isolated = self.machine.list("sys/devices/system/cpu/isolated");
        let spin = self.config.daemon.idle == Idle::Spin;
        let reactors: Vec<usize> = self.config.daemon.reactors.iter().copied().flatten().collect();
        if reactors.is_empty() {
            let why = "a reactor that the scheduler moves loses its caches: name a processor in `reactors`";
            self.check("reactors", "on any processor", "bound to one", why, Verdict::Slower);
        }
        for &cpu in &reactors {
            let what = format!("processor {cpu}");
            if !online.contains(&cpu) {
                let why = "the reactor cannot be bound to it: name others in `reactors`";
                self.check(what, "not there", "online", why, Verdict::Fails);
                continue;
            }
            let alone = isolated.contains(&cpu);
            let found = if alone { "isolated" } else { "shared with everything else" };
            let why =
                "other threads interrupt the loop: boot with isolcpus=, nohz_full= and rcu_nocbs= for it";
            // A reactor that sleeps shares its processor without much harm.
            self.check(&what, found, "isolated", why, Verdict::unless(alone || !spin, Verdict::Slower));
            let governor = format!("sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor");
            if let Some(found) = self.machine.text(&governor) {
                let good = Verdict::unless(found == "performance", Verdict::Slower);
                let why = format!(
                    "a processor that slows down when it is idle answers late: echo performance >/{governor}"
                );
                self.check(format!("governor of {what}"), found, "performance", why, good);
            }
            let siblings =
                self.machine.list(&format!("sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"));
            let shared: Vec<String> = reactors
                .iter()
                .filter(|&&other| other > cpu && siblings.contains(&other))
                .map(usize::to_string)
                .collect();
            if !shared.is_empty() {
                let found = format!("a thread of the core of {}", shared.join(", "));
                let why = "two reactors share the time of one core";
                self.check(what, found, "one reactor per core", why, Verdict::Slower);
            }
        }
    }

    fn huge_pages(&mut self) -> Vec<NodePages> {
        let config = self.config;
        let mut wanted: BTreeMap<usize, u64> = BTreeMap::new();
        let mut add = |node, bytes: u64| *wanted.entry(node).or_default() += bytes.div_ceil(HUGE);
        let home = config.daemon.reactors[0].map_or(0, |cpu| self.machine.node_of_processor(cpu));
        for cpu in &config.daemon.reactors {
            let node = cpu.map_or(home, |cpu| self.machine.node_of_processor(cpu));
            add(node, config.daemon.memory as u64);
        }
        for memory in config.units.iter().map(UnitOptions::memory).filter(|memory| *memory > 0) {
            add(home, memory);
        }
        for port in &config.ports {
            let memory = port.options.memory(config.daemon.reactors.len());
            let beside = port.options.pci_address();
            let node = beside.and_then(|address| self.machine.node_of_device(&address));
            if memory > 0 {
                add(node.unwrap_or(home), memory);
            }
        }
        let never = config.daemon.hugepages == Hugepages::Never;
        let mut pages = Vec::new();
        // Those of other nodes are taken, too: none of all of them may be missing for the reactors.
        let all: u64 = wanted.keys().map(|node| self.machine.free_huge_pages(*node)).sum();
        let too_few =
            all < (config.daemon.memory as u64).div_ceil(HUGE) * config.daemon.reactors.len() as u64;
        for (node, wanted) in wanted {
            let free = self.machine.free_huge_pages(node);
            pages.push(NodePages { node, free, wanted: if never { 0 } else { wanted } });
            if never {
                continue;
            }
            let worst = match config.daemon.hugepages {
                // A daemon that runs has its own already.
                Hugepages::Require if matches!(self.running, RunningDaemon::Absent) => Verdict::Fails,
                _ => Verdict::Slower,
            };
            let why = "payload in ordinary pages costs address look-ups, and devices cannot always reach it: \
                       configs/launch.sh sets them aside, or sysctl vm.nr_hugepages";
            let what = format!("huge pages of 2 MiB on node {node}");
            self.check(
                what,
                format!("{free} free"),
                wanted.to_string(),
                why,
                Verdict::unless(free >= wanted, worst),
            )
            .certain = too_few;
        }
        if never {
            let why = "the configuration says hugepages = \"never\"";
            self.check("huge pages", "not used", "auto or require", why, Verdict::Slower);
        }
        pages
    }

    fn rights(&mut self) {
        let rights = self.config.ports.iter().flat_map(|port| port.options.rights());
        let needs: BTreeMap<u8, _> = rights.map(|right| (right.0.index(), *right)).collect();
        for &(capability, why) in needs.values() {
            let instead =
                capability == Capability::CAP_IPC_LOCK && self.machine.capable(Capability::CAP_SYS_ADMIN);
            let good = self.machine.capable(capability) || instead;
            let why = format!("{why}: run as root, or see AmbientCapabilities in configs/ptgt.service");
            let found = if good { "there" } else { "missing" };
            self.check(capability.to_string(), found, "there", why, Verdict::unless(good, Verdict::Fails));
        }
        if needs.contains_key(&Capability::CAP_IPC_LOCK.index()) {
            let limit = self.machine.memory_lock_limit();
            let good = limit.is_none() || self.machine.capable(Capability::CAP_IPC_LOCK);
            let found = limit.map_or_else(|| "unlimited".to_owned(), |bytes| format!("{} MiB", bytes >> 20));
            let why =
                "memory that a device reads is locked, and counted against the limit: LimitMEMLOCK=infinity";
            self.check(
                "memory that may be locked",
                found,
                "unlimited",
                why,
                Verdict::unless(good, Verdict::Fails),
            );
        }
    }

    fn clock(&mut self) {
        const PATH: &str = "sys/devices/system/clocksource/clocksource0/current_clocksource";
        if let Some(found) = self.machine.text(PATH) {
            let good = matches!(found.as_str(), "tsc" | "kvm-clock" | "arch_sys_counter");
            let why = "each turn of the loop reads the clock: another source costs a system call, or is slow hardware";
            self.check("clock source", found, "tsc", why, Verdict::unless(good, Verdict::Slower));
        }
    }
}

#[cfg(test)]
mod tests;
