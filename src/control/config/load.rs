// SPDX-License-Identifier: GPL-2.0-or-later
//! From a file to a [`Config`].

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::de::DeTable;

use super::model::{Config, Daemon, Disk, Driver, Hugepages, Port, Portal, StoreKind, Target};
use super::reader::{Diagnostic, Errors, Section, nearest};
use crate::devices::sbc::BlockSize;
use crate::fabrics::iscsi::{DigestOffer, Parameters};
use crate::net::Address;
use crate::reactor::Idle;
use crate::scsi::primary::Identity;

/// Most reactors.
const REACTORS_MAX: usize = 64;

/// Largest store.
const SIZE_MAX: u64 = 1 << 60;

/// Reads and checks a file. The error holds the text, to show the lines in question.
pub fn load(path: &Path) -> Result<Config, (String, Vec<Diagnostic>)> {
    let text = std::fs::read_to_string(path).map_err(|e| {
        let (message, help) = (format!("cannot be read: {e}"), "give the path of a configuration file");
        let (key, help) = (String::new(), help.to_owned());
        (String::new(), vec![Diagnostic { line: 0, column: 0, key, message, help }])
    })?;
    let base = path.parent().unwrap_or_else(|| Path::new("."));
    parse(&text, base).map_err(|diagnostics| (text, diagnostics))
}

/// Checks a text; paths in it are relative to `base`.
pub fn parse(text: &str, base: &Path) -> Result<Config, Vec<Diagnostic>> {
    let errors = Errors::new(text);
    let (document, syntax) = DeTable::parse_recoverable(text);
    for error in &syntax {
        errors.add(error.span().unwrap_or(0..0), "", error.message().trim(), "this is not TOML");
    }
    if !syntax.is_empty() {
        return Err(errors.finish());
    }
    let root = Section::new(Some(document.get_ref()), 0..0, String::new(), &errors);
    let daemon = daemon(root.section("daemon"));
    let mut loader = Loader { errors: &errors, base };
    let (ports, port_names) = loader.all(&root, "port", Loader::port);
    let (portals, portal_names) = loader.all(&root, "portal", |l, s| l.portal(s, &ports, &port_names));
    let (disks, disk_names) = loader.all(&root, "disk", Loader::disk);
    let (targets, _) = loader.all(&root, "target", |l, s| l.target(s, &portal_names, &disk_names));
    for (list, key) in [(ports.len(), "port"), (portals.len(), "portal"), (targets.len(), "target")] {
        if list == 0 && !root_has(&root, key) {
            errors.add(0..0, key, format!("there is no [[{key}]]"), "a configuration has at least one");
        }
    }
    root.finish();
    let found = errors.finish();
    if !found.is_empty() {
        return Err(found);
    }
    let sort = |items: Vec<Option<_>>| items.into_iter().flatten().collect();
    Ok(Config {
        daemon,
        ports: ports.into_iter().flatten().collect(),
        portals: portals.into_iter().flatten().collect(),
        disks: disks.into_iter().flatten().collect(),
        targets: sort(targets),
    })
}

fn root_has(root: &Section<'_>, key: &str) -> bool {
    match key {
        "port" => root.has("port"),
        "portal" => root.has("portal"),
        _ => root.has("target"),
    }
}

fn daemon(s: Section<'_>) -> Daemon {
    let cores = s.numbers("reactors", 1023);
    let reactors = match cores {
        None => vec![None],
        Some(cores) => cores.into_iter().map(|core| usize::try_from(core).ok()).collect(),
    };
    if reactors.is_empty() || reactors.len() > REACTORS_MAX {
        s.error(
            "reactors",
            "has no entry, or too many",
            format!("give 1 to {REACTORS_MAX} processor numbers"),
        );
    }
    let mut sorted = reactors.clone();
    sorted.sort_unstable();
    sorted.dedup();
    if sorted.len() != reactors.len() {
        s.error("reactors", "names a processor twice", "one reactor per processor");
    }
    let memory = s.size("memory", 16 << 20, 1 << 40).unwrap_or(256 << 20);
    let hugepages = [("auto", Hugepages::Auto), ("require", Hugepages::Require), ("never", Hugepages::Never)];
    let spin = s.duration("spin", Duration::from_secs(1)).unwrap_or(Duration::from_micros(50));
    let idle = s.choice("idle", &[("adaptive", Idle::Adaptive(spin)), ("spin", Idle::Spin)]);
    let daemon = Daemon {
        reactors,
        memory: usize::try_from(memory).unwrap_or(usize::MAX),
        hugepages: s.choice("hugepages", &hugepages).unwrap_or(Hugepages::Auto),
        idle: idle.unwrap_or(Idle::Adaptive(spin)),
        control_socket: s
            .text("control_socket", "a path")
            .map_or_else(|| PathBuf::from("/run/ptgt/control.sock"), PathBuf::from),
        log: s.text("log", "a level: error, warn, info, debug").unwrap_or_else(|| "info".into()),
    };
    s.finish();
    daemon
}

/// Entries of a list by their name.
type Names = HashMap<String, usize>;

struct Loader<'a> {
    errors: &'a Errors<'a>,
    base: &'a Path,
}

impl<'a> Loader<'a> {
    /// Reads a list of named tables. An entry with errors is `None`, but its name is known.
    fn all<T>(
        &mut self,
        root: &Section<'a>,
        key: &'static str,
        mut read: impl FnMut(&mut Self, Section<'a>) -> Option<T>,
    ) -> (Vec<Option<T>>, Names) {
        let mut names = Names::new();
        let mut items = Vec::new();
        for section in root.sections(key) {
            match section.text("name", "a name") {
                None if !section.has("name") => {
                    section.error("name", "is missing", format!("each [[{key}]] has a name"))
                }
                None => {}
                Some(name) if names.insert(name.clone(), items.len()).is_some() => {
                    section.error(
                        "name",
                        format!("{name:?} is taken"),
                        format!("each [[{key}]] has a name of its own"),
                    );
                }
                Some(_) => {}
            }
            items.push(read(self, section));
        }
        (items, names)
    }

    fn reference(&self, s: &Section<'_>, key: &'static str, what: &str, names: &Names) -> Option<usize> {
        let wanted = format!("the name of a [[{what}]]");
        let name = match s.text(key, &wanted) {
            None if !s.has(key) => {
                s.error(key, "is missing", format!("give {wanted}"));
                return None;
            }
            name => name?,
        };
        let found = names.get(&name).copied();
        if found.is_none() {
            let known: Vec<&str> = names.keys().map(String::as_str).collect();
            let help = nearest(&name, &known, &format!("known: {}", known.join(", ")));
            s.error(key, format!("there is no [[{what}]] {name:?}"), help);
        }
        found
    }

    fn port(&mut self, s: Section<'a>) -> Option<Port> {
        #[derive(Clone, Copy, PartialEq)]
        enum Kind {
            Tap,
            Kernel,
        }
        let name = s.text("name", "a name");
        let kind = s.choice("driver", &[("tap", Kind::Tap), ("kernel", Kind::Kernel)]);
        if !s.has("driver") {
            s.error("driver", "is missing", "give \"tap\" or \"kernel\"");
        }
        let driver = match kind? {
            Kind::Kernel => Some(Driver::Kernel),
            Kind::Tap => {
                const WANTED: &str =
                    "an address with a prefix length such as \"10.77.0.2/24\" or \"fd77::2/64\"";
                let device = s.text("device", "the name of a network device").or_else(|| name.clone());
                if device.as_ref().is_some_and(|d| d.is_empty() || d.len() > 15 || d.contains(['/', ' '])) {
                    s.error(
                        "device",
                        "is not the name of a network device",
                        "1 to 15 characters, no '/' or space",
                    );
                }
                let addresses = s.texts("address", WANTED, address);
                if !s.has("address") {
                    s.error("address", "is missing", format!("a TAP port has {WANTED}"));
                }
                let hosts = s.texts("host_address", WANTED, address).unwrap_or_default();
                let addresses: Vec<Address> =
                    addresses.unwrap_or_default().into_iter().map(|(a, _)| a).collect();
                for (host, span) in &hosts {
                    if addresses.iter().any(|ours| ours.ip == host.ip) {
                        let key = s.key("host_address");
                        self.errors.add(
                            span.clone(),
                            &key,
                            "is our own address, too",
                            "the host needs another",
                        );
                    }
                }
                Some(Driver::Tap {
                    device: device?,
                    mtu: u16::try_from(s.number("mtu", 1280, 65521).unwrap_or(65521)).unwrap_or(65521),
                    addresses,
                    host_addresses: hosts.into_iter().map(|(a, _)| a).collect(),
                    offload: s.flag("offload").unwrap_or(true),
                })
            }
        };
        s.finish();
        Some(Port { name: name?, driver: driver? })
    }

    fn portal(&mut self, s: Section<'a>, ports: &[Option<Port>], names: &Names) -> Option<Portal> {
        const WANTED: &str = "an address and a port such as \"10.77.0.2:3260\" or \"[fd77::2]:3260\"";
        let name = s.text("name", "a name");
        let port = self.reference(&s, "port", "port", names);
        let address: Option<SocketAddr> = s.parsed("address", WANTED, |text| text.parse().ok());
        if !s.has("address") {
            s.error("address", "is missing", format!("give {WANTED}"));
        }
        let group = u16::try_from(s.number("group", 1, 65535).unwrap_or(1)).unwrap_or(1);
        if let (Some(Some(Port { driver: Driver::Tap { addresses, .. }, name })), Some(address)) =
            (port.map(|port| &ports[port]), address)
            && !addresses.iter().any(|ours| ours.ip == address.ip())
        {
            let known: Vec<String> = addresses.iter().map(|a| a.ip.to_string()).collect();
            let help = format!("its addresses are {}", known.join(", "));
            s.error("address", format!("{} is not an address of the port {name:?}", address.ip()), help);
        }
        s.finish();
        Some(Portal { name: name?, port: port?, address: address?, group })
    }

    fn disk(&mut self, s: Section<'a>) -> Option<Disk> {
        let name = s.text("name", "a name");
        let store = self.store(&s);
        let block = match s.number("block_size", 512, 4096) {
            None | Some(512) => BlockSize::B512,
            Some(4096) => BlockSize::B4096,
            Some(other) => {
                s.error("block_size", format!("{other} is not a block size"), "give 512 or 4096");
                BlockSize::B512
            }
        };
        let text = |key, default: &str| s.text(key, "a string").unwrap_or_else(|| default.to_owned());
        let (vendor, product) = (text("vendor", "PTGT"), text("product", "VIRTUAL-DISK"));
        let revision = text("revision", "0001");
        let serial = s.text("serial", "a string");
        // The identity is that of the name, unless a UUID keeps it when the disk is renamed.
        let seed = s.text("uuid", "a UUID").or_else(|| name.clone()).unwrap_or_default();
        let identity = Identity::new(&vendor, &product, &revision, serial.as_deref(), &seed);
        if let Err(e) = &identity {
            let key = if e.field == "serial number" { "serial" } else { e.field };
            s.error(key, e.to_string(), "");
        }
        let physical = s.number("physical_exponent", 0, 15);
        let default = if block == BlockSize::B512 { 3 } else { 0 };
        let disk = Disk {
            block,
            physical_exponent: physical.and_then(|e| u8::try_from(e).ok()).unwrap_or(default),
            thin: s.flag("thin").unwrap_or(true),
            read_only: s.flag("read_only").unwrap_or(false),
            name: name.unwrap_or_default(),
            store: store.unwrap_or(StoreKind::Null { size: 0 }),
            identity: identity.ok()?,
        };
        s.finish();
        Some(disk)
    }

    fn store(&self, s: &Section<'_>) -> Option<StoreKind> {
        #[derive(Clone, Copy, PartialEq)]
        enum Kind {
            File,
            Ram,
            Null,
        }
        let kind = s.choice("store", &[("file", Kind::File), ("ram", Kind::Ram), ("null", Kind::Null)]);
        if !s.has("store") {
            s.error("store", "is missing", "give \"file\", \"ram\" or \"null\"");
        }
        let size = s.size("size", 4096, SIZE_MAX);
        if size.is_some_and(|size| size % 4096 != 0) {
            s.error("size", "is not a multiple of 4096 bytes", "");
        }
        if kind? == Kind::File {
            let path = s.text("path", "a path");
            if !s.has("path") {
                s.error("path", "is missing", "a file store has the path of an image or block device");
            }
            return Some(StoreKind::File { path: self.base.join(path?), size });
        }
        if s.has("path") {
            s.error("path", "is for file stores only", "leave it out");
        }
        if !s.has("size") {
            s.error("size", "is missing", "say how large the disk is, such as \"1GiB\"");
        }
        match kind? {
            Kind::Ram => Some(StoreKind::Ram { size: size? }),
            _ => Some(StoreKind::Null { size: size? }),
        }
    }

    fn target(&mut self, s: Section<'a>, portals: &Names, disks: &Names) -> Option<Target> {
        let name = s.parsed("name", "an iSCSI name such as \"iqn.2026-11.com.example:disks\"", iscsi_name);
        let alias = s.text("alias", "a string");
        let mut chosen: Vec<usize> = Vec::new();
        for (portal, span) in
            s.texts("portals", "the name of a [[portal]]", |t| Some(t.to_owned())).unwrap_or_default()
        {
            match portals.get(&portal) {
                Some(&index) => chosen.push(index),
                None => {
                    let known: Vec<&str> = portals.keys().map(String::as_str).collect();
                    let help = nearest(&portal, &known, &format!("known: {}", known.join(", ")));
                    self.errors.add(
                        span,
                        &s.key("portals"),
                        format!("there is no [[portal]] {portal:?}"),
                        help,
                    );
                }
            }
        }
        if !s.has("portals") {
            chosen = (0..portals.len()).collect();
        }
        let mut luns = Vec::new();
        for entry in s.sections("luns") {
            let lun = entry.number("lun", 0, 16383);
            if !entry.has("lun") {
                entry.error("lun", "is missing", "give a number from 0 to 16383");
            }
            let disk = self.reference(&entry, "disk", "disk", disks);
            if let (Some(lun), Some(disk)) = (lun.and_then(|lun| u16::try_from(lun).ok()), disk) {
                if luns.iter().any(|&(taken, _)| taken == lun) {
                    entry.error("lun", format!("{lun} is taken"), "each LUN of a target is given once");
                }
                luns.push((lun, disk));
            }
            entry.finish();
        }
        luns.sort_unstable();
        let parameters = parameters(s.section("iscsi"));
        s.finish();
        Some(Target { name: name?, alias, portals: chosen, luns, parameters })
    }
}

fn parameters(s: Section<'_>) -> Parameters {
    let default = Parameters::default();
    let number = |key, low, high, default| {
        s.number(key, low, high).and_then(|n| u32::try_from(n).ok()).unwrap_or(default)
    };
    let bytes =
        |key, default| s.size(key, 512, (1 << 24) - 1).and_then(|n| u32::try_from(n).ok()).unwrap_or(default);
    let digest = |key: &'static str| {
        let words = s.texts(key, "\"None\" or \"CRC32C\"", |word| match word {
            "None" => Some(false),
            "CRC32C" => Some(true),
            _ => None,
        });
        let offer = words.map(|words| DigestOffer {
            none: words.iter().any(|(crc, _)| !crc),
            crc32c: words.iter().any(|(crc, _)| *crc),
        });
        if offer.is_some_and(|offer| !offer.none && !offer.crc32c) {
            s.error(key, "allows nothing", "give [\"None\"], [\"CRC32C\"] or both");
        }
        offer.unwrap_or(DigestOffer::ANY)
    };
    let hour = Duration::from_secs(3600);
    let parameters = Parameters {
        max_recv_data_segment_length: bytes(
            "max_recv_data_segment_length",
            default.max_recv_data_segment_length,
        ),
        max_burst_length: bytes("max_burst_length", default.max_burst_length),
        first_burst_length: bytes("first_burst_length", default.first_burst_length),
        max_outstanding_r2t: number("max_outstanding_r2t", 1, 256, default.max_outstanding_r2t),
        initial_r2t: s.flag("initial_r2t").unwrap_or(default.initial_r2t),
        immediate_data: s.flag("immediate_data").unwrap_or(default.immediate_data),
        header_digest: digest("header_digest"),
        data_digest: digest("data_digest"),
        queue_depth: number("queue_depth", 1, 4096, default.queue_depth),
        login_timeout: s.duration("login_timeout", hour).unwrap_or(default.login_timeout),
        nop_interval: s.duration("nop_interval", hour).unwrap_or(default.nop_interval),
        nop_timeout: s.duration("nop_timeout", hour).unwrap_or(default.nop_timeout),
    };
    if parameters.first_burst_length > parameters.max_burst_length {
        s.error("first_burst_length", "is above max_burst_length", "RFC 7143 13.14 forbids that");
    }
    s.finish();
    parameters
}

/// An address with a prefix length.
fn address(text: &str) -> Option<Address> {
    let (ip, prefix) = text.split_once('/')?;
    let ip: IpAddr = ip.parse().ok()?;
    let prefix: u8 = prefix.parse().ok()?;
    let max = if ip.is_ipv4() { 32 } else { 128 };
    let usable = prefix <= max && !ip.is_unspecified() && !ip.is_multicast() && !ip.is_loopback();
    usable.then_some(Address { ip, prefix })
}

/// An iSCSI name (RFC 7143 4.2.7): iqn., eui. or naa., in lower case.
fn iscsi_name(text: &str) -> Option<String> {
    let hex = |digits: &str, lengths: &[usize]| {
        lengths.contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_hexdigit())
    };
    let iqn = |rest: &str| {
        let (date, authority) = rest.split_once('.')?;
        let (year, month) = date.split_once('-')?;
        let year_ok = year.len() == 4 && year.bytes().all(|b| b.is_ascii_digit());
        let month_ok = month.len() == 2 && month.parse().is_ok_and(|m: u8| (1..=12).contains(&m));
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-' | b':');
        (year_ok && month_ok && !authority.is_empty() && authority.bytes().all(allowed)).then_some(())
    };
    let good = match text.split_once('.') {
        Some(("iqn", rest)) => iqn(rest).is_some(),
        Some(("eui", digits)) => hex(digits, &[16]),
        Some(("naa", digits)) => hex(digits, &[16, 32]),
        _ => false,
    };
    (good && text.len() <= 223).then(|| text.to_owned())
}
