// SPDX-License-Identifier: GPL-2.0-or-later
//! Ports on devices that DPDK drives, as the configuration gives them. The driver itself is there with the feature
//! `dpdk` only; keys and errors are the same without it.

use std::io;
use std::net::SocketAddr;

use caps::Capability;

use super::address::{AddressRefusal, TakenAddress};
use super::link::{self, LinkOptions};
use super::options::{PortAddresses, PortOptions, PortShare, PortsStart};
use crate::machine::{Findings, Machine, PciDevice, Verdict};
use crate::options::Section;

/// MTU of a device that is not told another.
#[cfg(feature = "dpdk")]
const MTU: u16 = 1500;

/// Most that a device of a real network carries.
const MTU_MAX: u16 = 9700;

/// `dpdk`
#[derive(Clone, Debug)]
pub(super) struct DpdkOptions(LinkOptions);

impl DpdkOptions {
    pub(super) fn read(s: &Section<'_>, name: Option<&str>) -> Option<Self> {
        if !cfg!(feature = "dpdk") {
            let help = "build with: cargo build --release --features dpdk";
            s.error("driver", "this ptgt was built without DPDK", help);
        }
        if !s.given("device") {
            s.missing("device");
        }
        let link = LinkOptions::read(s, name, link::addresses(s))?;
        if link.device.is_empty() || link.device.contains(|c: char| c.is_whitespace()) {
            s.error("device", "is not a device", "a PCI address, or a virtual device with its arguments");
        }
        if link.mtu.is_some_and(|mtu| mtu > MTU_MAX) {
            s.error("mtu", format!("is above {MTU_MAX}"), "that of the network, such as 1500 or 9000");
        }
        Some(Self(link))
    }

    #[cfg(feature = "dpdk")]
    fn mtu(&self) -> u16 {
        self.0.mtu.unwrap_or(MTU)
    }
}

/// The whole PCI address of a device, with its domain, if that is what it is named by.
fn pci_address(device: &str) -> Option<String> {
    let name = device.split(',').next().unwrap_or(device);
    let parts: Vec<&str> = name.split([':', '.']).collect();
    let hexadecimal = |part: &&str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_hexdigit());
    match parts.len() {
        3 | 4 if !parts.iter().all(hexadecimal) => None,
        3 => Some(format!("0000:{name}")),
        4 => Some(name.to_owned()),
        _ => None,
    }
}

impl PortOptions for DpdkOptions {
    fn link(&self) -> Option<&LinkOptions> {
        Some(&self.0)
    }

    fn rights(&self) -> &'static [(Capability, &'static str)] {
        match self.pci_address() {
            Some(_) => &[(Capability::CAP_IPC_LOCK, "for memory that a device reads")],
            None => &[
                (Capability::CAP_NET_ADMIN, "for DPDK's virtual device"),
                (Capability::CAP_NET_RAW, "for DPDK's virtual device"),
            ],
        }
    }

    fn useful_rights(&self) -> &'static [(Capability, &'static str)] {
        &[
            // Of adapters without vfio, and of virtual devices.
            (Capability::CAP_SYS_ADMIN, "physical addresses, an adapter's configuration space"),
            (Capability::CAP_SYS_RAWIO, "I/O ports"),
            (Capability::CAP_BPF, "the program that net_af_xdp loads"),
        ]
    }

    #[cfg(feature = "dpdk")]
    fn memory(&self, reactors: usize) -> u64 {
        super::dpdk::buffer_memory(self.mtu(), reactors) as u64
    }

    fn pci_address(&self) -> Option<String> {
        pci_address(&self.0.device)
    }

    fn examine(&self, port: &str, machine: &Machine, reactors: &[Option<usize>], found: &mut Findings) {
        match self.pci_address() {
            Some(address) => {
                let device = adapter(port, address, machine, reactors, found);
                found.devices.push(device);
            }
            None => {
                let why =
                    "each of its frames crosses the kernel: good for tests; for speed give a PCI address";
                let wanted = "a network adapter by its PCI address";
                found.add(format!("port {port:?}"), &self.0.device, wanted, why, Verdict::Slower);
            }
        }
    }

    fn examine_address(&self, address: SocketAddr, _: &Machine) -> Result<(), AddressRefusal> {
        self.take_address(address).map(drop)
    }

    fn address_lock(&self, address: SocketAddr) -> Option<String> {
        Some(self.0.address_lock(address))
    }

    fn take_address(&self, address: SocketAddr) -> Result<TakenAddress, AddressRefusal> {
        self.0.lock(&self.0.address_lock(address)).map(TakenAddress::Lock)
    }

    fn is_fixed(&self) -> bool {
        true
    }

    #[cfg(feature = "dpdk")]
    fn start(&self, taken: PortAddresses, start: &mut PortsStart<'_>) -> io::Result<Vec<PortShare>> {
        driver::start(self, &taken.addresses, start)
    }

    #[cfg(not(feature = "dpdk"))]
    fn start(&self, _: PortAddresses, _: &mut PortsStart<'_>) -> io::Result<Vec<PortShare>> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// A network adapter of a port: whether DPDK can drive it, and where it is.
fn adapter(
    port: &str,
    address: String,
    machine: &Machine,
    reactors: &[Option<usize>],
    findings: &mut Findings,
) -> PciDevice {
    let what = format!("port {port:?}: device {address}");
    if !machine.exists(&format!("sys/bus/pci/devices/{address}")) {
        let why = "there is no such device: lspci -D";
        findings.add(what, "not there", "a network adapter", why, Verdict::Fails).certain = true;
        return PciDevice { address, driver: None, usable: false };
    }
    let driver = machine.link_name(&format!("sys/bus/pci/devices/{address}/driver"));
    // Adapters of Mellanox and NVIDIA are driven beside the kernel's driver.
    let usable = driver.as_deref().is_some_and(|driver| {
        driver == "vfio-pci" || driver.starts_with("uio") || driver == "igb_uio" || driver.starts_with("mlx")
    });
    let found = driver.as_deref().map_or_else(|| "no driver".to_owned(), |driver| format!("driver {driver}"));
    let why = format!(
        "DPDK reaches it through vfio-pci: configs/launch.sh --bind CONFIG, or driverctl set-override {address} vfio-pci"
    );
    findings.add(&what, found, "driver vfio-pci", why, Verdict::unless(usable, Verdict::Fails));
    let iommu = machine.has_entries("sys/class/iommu");
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
    findings.add(format!("IOMMU for {address}"), found, wanted, why, verdict);
    if let Some(node) = machine.node_of_device(&address) {
        let away: Vec<String> = reactors
            .iter()
            .flatten()
            .filter(|&&cpu| machine.node_of_processor(cpu) != node)
            .map(usize::to_string)
            .collect();
        let found = match away.is_empty() {
            true => format!("node {node}, as the reactors"),
            false => format!("node {node}; elsewhere: processor {}", away.join(", ")),
        };
        let why = "frames cross from node to node: name processors of the device's node in `reactors`";
        findings.add(
            format!("node of {address}"),
            found,
            "that of the reactors",
            why,
            Verdict::unless(away.is_empty(), Verdict::Slower),
        );
    }
    PciDevice { address, driver, usable }
}

#[cfg(feature = "dpdk")]
mod driver {
    use std::any::Any;
    use std::io;
    use std::net::SocketAddr;

    use log::info;

    use super::{DpdkOptions, PortOptions, PortShare, PortsStart};
    use crate::machine::Hugepages;
    use crate::ports::dpdk::{DeviceConfig, Dpdk, ENVIRONMENT_MEMORY, Eal, EalConfig, Found};
    use crate::sys;

    /// Starts a device, with a queue per reactor, and DPDK before the first one.
    pub(super) fn start(
        options: &DpdkOptions,
        listen: &[SocketAddr],
        start: &mut PortsStart<'_>,
    ) -> io::Result<Vec<PortShare>> {
        let running = start.held.iter().find_map(|held| held.clone().downcast::<Eal>().ok());
        let eal = match running {
            Some(eal) => eal,
            None => {
                let eal = Eal::start(&environment(start))?;
                start.held.push(eal.clone());
                eal
            }
        };
        let DpdkOptions(link) = options;
        let device = DeviceConfig {
            device: device(options),
            mtu: options.mtu(),
            mac: link.mac,
            queues: start.reactors.len(),
            offload: link.offload,
            promiscuous: link.promiscuous,
        };
        let queues = Found::probe(&eal, &device.device).and_then(|found| found.start(&device))?;
        let shares = queues.into_iter().map(|queue| {
            let (link, listen) = (link.clone(), listen.to_vec());
            let share: PortShare = Box::new(move |context| {
                let port = Dpdk::new(queue, context.arena().clone(), &context.regions())?;
                link.host(port, &listen, context.arena())
            });
            share
        });
        Ok(shares.collect())
    }

    /// As DPDK knows it: a PCI address with its domain, and the arguments behind.
    fn device(options: &DpdkOptions) -> String {
        let device = &options.0.device;
        let arguments = device.split_once(',').map(|(_, arguments)| format!(",{arguments}"));
        match options.pci_address() {
            Some(address) => address + arguments.as_deref().unwrap_or_default(),
            None => device.clone(),
        }
    }

    fn environment(start: &PortsStart<'_>) -> EalConfig {
        let ours = || start.ports.iter().filter_map(|port| (&*port.options as &dyn Any).downcast_ref());
        let wanted = ours().map(|ours: &DpdkOptions| ours.memory(start.reactors.len())).sum::<u64>();
        let wanted = usize::try_from(wanted).unwrap_or(usize::MAX);
        let free = sys::free_huge_pages() << 21;
        let huge = match start.hugepages {
            Hugepages::Never => false,
            Hugepages::Require => true,
            Hugepages::Auto => free >= wanted,
        };
        let pages = if huge { "huge" } else { "ordinary" };
        info!("DPDK: {} MiB of frame buffers needed, in {pages} pages", wanted.div_ceil(1 << 20));
        let memory = start.environment.memory.unwrap_or(wanted + ENVIRONMENT_MEMORY);
        let first = sys::affinity().ok().and_then(|allowed| allowed.first());
        EalConfig {
            huge,
            memory_mib: memory.div_ceil(1 << 20),
            processor: start.reactors[0].or(first).unwrap_or(0),
            pci: ours().filter(|ours| ours.pci_address().is_some()).map(device).collect(),
            arguments: start.environment.arguments.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_pci_addresses_or_virtual() {
        assert_eq!(pci_address("3b:00.1,mprq_en=1").as_deref(), Some("0000:3b:00.1"));
        assert_eq!(pci_address("0001:3b:00.1").as_deref(), Some("0001:3b:00.1"));
        for device in ["net_af_packet0,iface=eth1.5", "net_null0,size=64", "3b:00", ""] {
            assert_eq!(pci_address(device), None, "{device}");
        }
    }
}
