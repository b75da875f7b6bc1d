// SPDX-License-Identifier: GPL-2.0-or-later
//! What a machine has, compared with what a configuration wants. Looks, and changes nothing.

mod machine;
mod oddities;
mod running;
mod start;

use std::collections::BTreeMap;
use std::fmt::Write;

use caps::Capability;
use serde::Serialize;

pub use machine::Machine;
pub use oddities::{foreign_images, oddities};
pub use start::{device_lock, listen_refusal, nearest_directory, take_device};

use self::running::RunningDaemon;
use super::config::{Config, Driver, Hugepages};
use crate::engine::units::UnitOptions;
use crate::reactor::Idle;
use crate::sys;

/// Bytes of a huge page.
const HUGE: u64 = 2 << 20;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As wanted.
    Good,
    /// It will run, but slower or less steadily than it could.
    Slower,
    /// The daemon will not start, or a port will not work.
    Fails,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What.
    pub what: String,
    /// How it is.
    pub found: String,
    /// How it should be.
    pub wanted: String,
    /// Why that matters, and what to do.
    pub why: String,
    /// How bad it is.
    pub verdict: Verdict,
    /// It holds whoever asks: it is no matter of the user's rights.
    #[serde(skip)]
    pub certain: bool,
}

impl Check {
    /// In one line.
    pub fn line(&self) -> String {
        format!("{}: {}; {}", self.what, self.found, self.why)
    }
}

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

/// A PCI device that a port is to drive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PciDevice {
    /// Its address.
    pub address: String,
    /// The driver of the kernel that it is bound to.
    pub driver: Option<String>,
    /// Whether DPDK can drive it with that.
    pub usable: bool,
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
    checks: Vec<Check>,
}

/// Looks at a machine with the eyes of a configuration. `check`, `doctor` and `run` all judge by this.
pub fn examine(machine: &Machine, config: &Config, asker: Asker) -> DoctorReport {
    let running = match asker {
        Asker::Operator => RunningDaemon::at(&config.daemon.control_socket),
        Asker::Daemon => RunningDaemon::Absent,
    };
    let mut doctor = Doctor { machine, config, asker, running, checks: Vec::new() };
    doctor.start();
    doctor.processors();
    let huge_pages = doctor.huge_pages();
    doctor.rights();
    let devices = doctor.ports();
    doctor.clock();
    DoctorReport { checks: doctor.checks, huge_pages, devices }
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
        let (what, found, wanted, why) = (what.into(), found.into(), wanted.into(), why.into());
        self.checks.push(Check { what, found, wanted, why, verdict, certain: false });
        self.checks.last_mut().expect("just added")
    }

    /// `Good`, or what it costs.
    fn unless(good: bool, otherwise: Verdict) -> Verdict {
        if good { Verdict::Good } else { otherwise }
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
            self.check(&what, found, "isolated", why, Self::unless(alone || !spin, Verdict::Slower));
            let governor = format!("sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor");
            if let Some(found) = self.machine.text(&governor) {
                let good = Self::unless(found == "performance", Verdict::Slower);
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
            if let Driver::Dpdk(link) = &port.driver {
                let node = link
                    .pci_address()
                    .and_then(|address| self.machine.node_of_device(&address))
                    .unwrap_or(home);
                add(node, buffers(link.mtu, config.daemon.reactors.len()));
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
                Self::unless(free >= wanted, worst),
            )
            .certain = too_few;
        }
        if never {
            let why = "hugepages = \"never\" was asked for";
            self.check("huge pages", "not used", "auto or require", why, Verdict::Slower);
        }
        pages
    }

    fn rights(&mut self) {
        let mut needs: BTreeMap<u8, (Capability, &str)> = BTreeMap::new();
        let mut need = |capability: Capability, why| _ = needs.insert(capability.index(), (capability, why));
        for port in &self.config.ports {
            match &port.driver {
                Driver::Tap { .. } => need(Capability::CAP_NET_ADMIN, "to make a TAP device"),
                Driver::Packet(_) => need(Capability::CAP_NET_RAW, "for a packet socket"),
                Driver::Dpdk(link) if link.pci_address().is_some() => {
                    need(Capability::CAP_IPC_LOCK, "for memory that a device reads");
                }
                Driver::Dpdk(_) => {
                    need(Capability::CAP_NET_ADMIN, "for DPDK's virtual device");
                    need(Capability::CAP_NET_RAW, "for DPDK's virtual device");
                }
                Driver::Kernel => {}
            }
        }
        for (capability, why) in needs.into_values() {
            let instead =
                capability == Capability::CAP_IPC_LOCK && self.machine.capable(Capability::CAP_SYS_ADMIN);
            let good = self.machine.capable(capability) || instead;
            let why = format!("{why}: run as root, or see AmbientCapabilities in configs/ptgt.service");
            let found = if good { "there" } else { "missing" };
            self.check(capability.to_string(), found, "there", why, Self::unless(good, Verdict::Fails));
        }
        let devices = self
            .config
            .ports
            .iter()
            .any(|port| matches!(&port.driver, Driver::Dpdk(link) if link.pci_address().is_some()));
        if devices {
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
                Self::unless(good, Verdict::Fails),
            );
        }
    }

    fn ports(&mut self) -> Vec<PciDevice> {
        let mut devices = Vec::new();
        for port in &self.config.ports {
            let what = |rest: &str| format!("port {:?}{rest}", port.name);
            match &port.driver {
                Driver::Kernel => {}
                Driver::Tap { .. } => {
                    let good = self.machine.exists("dev/net/tun");
                    let (found, why) =
                        (if good { "there" } else { "missing" }, "TAP devices come from it: modprobe tun");
                    self.check("/dev/net/tun", found, "there", why, Self::unless(good, Verdict::Fails))
                        .certain = true;
                }
                Driver::Packet(link) => {
                    let device = &link.device;
                    // What /sys does not have may be there: it can be that of another network namespace.
                    let state = self.machine.text(&format!("sys/class/net/{device}/operstate"));
                    let there = sys::link(device);
                    let up = match (&state, &there) {
                        (Some(state), _) => matches!(&**state, "up" | "unknown"),
                        (None, there) => there.as_ref().is_ok_and(|link| link.up),
                    };
                    let found = state.unwrap_or_else(|| match &there {
                        Ok(link) if link.up => "up".into(),
                        Ok(_) => "down".into(),
                        Err(_) => "not there".into(),
                    });
                    let why = format!("the port is served on it: ip link set {device} up");
                    let verdict = Self::unless(up, Verdict::Fails);
                    let found = format!("{device} is {found}");
                    self.check(what(""), found, "a network device that is up", why, verdict).certain =
                        there.is_err();
                }
                Driver::Dpdk(link) => match link.pci_address() {
                    Some(address) => devices.push(self.pci(&port.name, address)),
                    None => {
                        let found = link.device.clone();
                        let why = "each of its frames crosses the kernel: good for tests; for speed give a PCI address";
                        self.check(
                            what(""),
                            found,
                            "a network adapter by its PCI address",
                            why,
                            Verdict::Slower,
                        );
                    }
                },
            }
        }
        devices
    }

    fn pci(&mut self, port: &str, address: String) -> PciDevice {
        let what = format!("port {port:?}: device {address}");
        if !self.machine.exists(&format!("sys/bus/pci/devices/{address}")) {
            let why = "there is no such device: lspci -D";
            self.check(what, "not there", "a network adapter", why, Verdict::Fails).certain = true;
            return PciDevice { address, driver: None, usable: false };
        }
        let driver = self.machine.link_name(&format!("sys/bus/pci/devices/{address}/driver"));
        // Adapters of Mellanox and NVIDIA are driven beside the kernel's driver.
        let usable = driver.as_deref().is_some_and(|driver| {
            driver == "vfio-pci"
                || driver.starts_with("uio")
                || driver == "igb_uio"
                || driver.starts_with("mlx")
        });
        let found =
            driver.as_deref().map_or_else(|| "no driver".to_owned(), |driver| format!("driver {driver}"));
        let why = format!(
            "DPDK reaches it through vfio-pci: configs/launch.sh --bind CONFIG, or driverctl set-override {address} vfio-pci"
        );
        self.check(&what, found, "driver vfio-pci", why, Self::unless(usable, Verdict::Fails));
        let iommu = self.machine.has_entries("sys/class/iommu");
        let uio = driver.as_deref().is_some_and(|driver| driver.contains("uio"));
        let found = if iommu { "on" } else { "off" };
        let why = "vfio-pci needs it, and without it a device may write anywhere: intel_iommu=on or amd_iommu=on, and in \
                   the firmware; without one: uio_pci_generic";
        let verdict = match (iommu, uio) {
            (true, false) => Verdict::Good,
            // uio_pci_generic sets up no IOMMU: nothing would arrive.
            (true, true) => Verdict::Fails,
            (false, true) => Verdict::Good,
            (false, false) => Verdict::Fails,
        };
        let wanted = if uio { "off with uio" } else { "on" };
        self.check(format!("IOMMU for {address}"), found, wanted, why, verdict);
        if let Some(node) = self.machine.node_of_device(&address) {
            let away: Vec<String> = self
                .config
                .daemon
                .reactors
                .iter()
                .flatten()
                .filter(|&&cpu| self.machine.node_of_processor(cpu) != node)
                .map(usize::to_string)
                .collect();
            let found = match away.is_empty() {
                true => format!("node {node}, as the reactors"),
                false => format!("node {node}; elsewhere: processor {}", away.join(", ")),
            };
            let why = "frames cross from node to node: name processors of the device's node in `reactors`";
            self.check(
                format!("node of {address}"),
                found,
                "that of the reactors",
                why,
                Self::unless(away.is_empty(), Verdict::Slower),
            );
        }
        PciDevice { address, driver, usable }
    }

    fn clock(&mut self) {
        const PATH: &str = "sys/devices/system/clocksource/clocksource0/current_clocksource";
        if let Some(found) = self.machine.text(PATH) {
            let good = matches!(found.as_str(), "tsc" | "kvm-clock" | "arch_sys_counter");
            let why = "each turn of the loop reads the clock: another source costs a system call, or is slow hardware";
            self.check("clock source", found, "tsc", why, Self::unless(good, Verdict::Slower));
        }
    }
}

/// Bytes that DPDK takes for a port.
#[cfg(feature = "dpdk")]
fn buffers(mtu: Option<u16>, queues: usize) -> u64 {
    crate::ports::dpdk::buffer_memory(mtu.unwrap_or(1500), queues) as u64
}

#[cfg(not(feature = "dpdk"))]
fn buffers(_: Option<u16>, _: usize) -> u64 {
    0
}

#[cfg(test)]
mod tests;
