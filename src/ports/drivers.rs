// SPDX-License-Identifier: GPL-2.0-or-later
//! The drivers of ports: one row for each.

use std::sync::Arc;

use super::dpdk_options::DpdkOptions;
use super::kernel::KernelOptions;
use super::link;
use super::options::{ConfiguredPort, PortOptions};
use super::packet::PacketOptions;
use super::tap::{self, TapOptions};
use crate::options::Absent::Required;
use crate::options::ValueKind::{Text, Word};
use crate::options::{Key, Section, Table, key};

/// Reads what a driver needs beside the name of its port.
type ReadPort = fn(&Section<'_>, Option<&str>) -> Option<Arc<dyn PortOptions>>;

/// A driver of ports.
struct PortDriver {
    /// Its name in the configuration.
    word: &'static str,
    /// The keys that no other driver has.
    keys: &'static [Key],
    read: ReadPort,
}

const DRIVERS: &[PortDriver] = &[
    PortDriver { word: "tap", keys: tap::KEYS, read: |s, name| Some(Arc::new(TapOptions::read(s, name)?)) },
    PortDriver { word: "packet", keys: &[], read: |s, name| Some(Arc::new(PacketOptions::read(s, name)?)) },
    PortDriver { word: "dpdk", keys: &[], read: |s, name| Some(Arc::new(DpdkOptions::read(s, name)?)) },
    PortDriver { word: "kernel", keys: &[], read: |_, _| Some(Arc::new(KernelOptions)) },
];

const WORDS: [&str; DRIVERS.len()] = {
    let mut words = [""; DRIVERS.len()];
    let mut i = 0;
    while i < words.len() {
        words[i] = DRIVERS[i].word;
        i += 1;
    }
    words
};

const COMMON: &[Key] = &[
    key("name", Text("a name"), Required, "\"lab0\"", "Its name in `port` of portals."),
    key(
        "driver",
        Word(&WORDS),
        Required,
        "\"tap\"",
        "With TCP/IP in the daemon: `tap` (a TAP device), `packet` (a network device of the kernel) or \
         `dpdk` (a device driven by DPDK). With the kernel's TCP: `kernel`.",
    ),
];

const GROUPS: [&[Key]; DRIVERS.len() + 2] = {
    let mut groups = [COMMON; DRIVERS.len() + 2];
    groups[1] = link::KEYS;
    let mut i = 0;
    while i < DRIVERS.len() {
        groups[i + 2] = DRIVERS[i].keys;
        i += 1;
    }
    groups
};

impl ConfiguredPort {
    /// Its table of keys.
    pub const TABLE: &Table = &Table {
        doc: "A way for initiators to reach the daemon: a network device with the daemon's own TCP/IP, or \
             the kernel's sockets.",
        groups: &GROUPS,
    };

    /// Reads one.
    pub fn read(s: Section<'_>) -> Option<Self> {
        let name = s.text("name");
        // Which keys belong to a driver that is not known, is not known, either.
        let found = s.word("driver", &std::array::from_fn::<_, { DRIVERS.len() }, _>(|index| index))?;
        let PortDriver { word, read, .. } = &DRIVERS[found];
        let options = read(&s, name.as_deref());
        s.finish();
        Some(Self { name: name?, driver: word, options: options? })
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use toml::de::DeTable;

    use super::*;
    use crate::machine::Machine;
    use crate::options::Errors;
    use crate::ports::{AddressHolder, AddressRefusal};

    /// A port of a driver, with what any of them may ask for.
    /// Tests that lock its device give it another one each.
    fn port(driver: &PortDriver, device: &str) -> Arc<dyn PortOptions> {
        let device = format!("{device}{}", std::process::id() % 100_000);
        let text = format!("name = \"p\"\ndevice = \"{device}\"\naddress = [\"10.1.0.1/24\"]");
        let errors = Errors::new(&text);
        let document = DeTable::parse(&text).unwrap();
        let section = Section::root(document.get_ref(), ConfiguredPort::TABLE, &errors);
        (driver.read)(&section, Some("p")).unwrap()
    }

    /// An address that is the port's, and that nobody else has.
    fn address(options: &dyn PortOptions) -> SocketAddr {
        let [_, _, high, low] = std::process::id().to_be_bytes();
        let of_host = || ([127, 83, high, low], 3260).into();
        options.link().map_or_else(of_host, |link| SocketAddr::new(link.addresses[0].ip, 3260))
    }

    #[test]
    fn no_two_daemons_have_an_address_whatever_its_driver() {
        let machine = Machine::default();
        for driver in DRIVERS {
            let options = port(driver, "no");
            let (address, name) = (address(&*options), driver.word);
            assert_eq!(options.examine_address(address, &machine), Ok(()), "{name}");
            let first = options.take_address(address).unwrap();
            let refused =
                [options.take_address(address).map(drop), options.examine_address(address, &machine)];
            for refused in refused {
                let AddressRefusal { found, holder, .. } = refused.expect_err(name);
                assert!(found.starts_with("address in use"), "{name}: {found}");
                let AddressHolder::Sockets(inodes) = holder else { panic!("{name}: {holder:?}") };
                assert!(!inodes.is_empty(), "{name}: it cannot be told who has it");
            }
            drop(first);
            assert_eq!(options.examine_address(address, &machine), Ok(()), "{name}: it is free again");
        }
    }

    #[test]
    fn no_two_daemons_have_the_frames_of_a_device_whatever_its_driver() {
        let machine = Machine::default();
        for driver in DRIVERS {
            let (options, name) = (port(driver, "nf"), driver.word);
            let Some(link) = options.link() else { continue };
            assert_eq!(options.examine_frames(&machine), Ok(()), "{name}");
            let first = link.lock(&link.frames_lock()).unwrap();
            let refused = [link.lock(&link.frames_lock()).map(drop), options.examine_frames(&machine)];
            for refused in refused {
                let AddressRefusal { found, .. } = refused.expect_err(name);
                assert!(found.starts_with("address in use"), "{name}: {found}");
            }
            drop(first);
            assert_eq!(options.examine_frames(&machine), Ok(()), "{name}: they are free again");
        }
    }

    #[test]
    fn the_manual_says_what_rights_each_driver_has_a_use_for() {
        let manual = include_str!("../../docs/ports.md");
        for driver in DRIVERS {
            let options = port(driver, "no");
            for (capability, _) in options.rights().iter().chain(options.useful_rights()) {
                let name = driver.word;
                assert!(
                    manual.contains(&capability.to_string()),
                    "{name}: docs/ports.md without {capability}"
                );
            }
        }
    }
}
