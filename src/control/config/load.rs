// SPDX-License-Identifier: GPL-2.0-or-later
//! From a file to a [`Config`].

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use toml::de::DeTable;
use zeroize::Zeroizing;

use super::identity::{distinct_units, identity};
use super::keys::ROOT;
use super::model::{Config, Daemon, PortGroup, Scope};
use crate::adapters::FABRICS;
use crate::adapters::fabric::{FabricTables, KnownParts};
use crate::engine::units::{KINDS, UnitOptions};
use crate::machine::Hugepages;
use crate::options::{Diagnostic, Errors, Named, Section};
use crate::ports::{ConfiguredPort, EnvironmentOptions, LinkOptions};
use crate::reactor::Idle;
use crate::scsi::alua::GroupState;

/// Most reactors.
const REACTORS_MAX: usize = 64;

/// Longest URL that initiators are told.
const URL_MAX: usize = 255;

/// Longest path of a Unix socket, in bytes: sun_path of unix(7) less its end.
const SOCKET_PATH_MAX: usize = 107;

/// The path that stands for standard input.
const STDIN: &str = "-";

/// The text of a file, or why it has none, with what can be shown of it.
fn read(path: &Path) -> Result<String, (String, Vec<Diagnostic>)> {
    let bytes = match path == Path::new(STDIN) {
        true => {
            let mut bytes = Vec::new();
            std::io::stdin().read_to_end(&mut bytes).map(|_| bytes)
        }
        false => std::fs::read(path),
    };
    let bytes = bytes.map_err(|e| {
        let help = "give the path of a configuration file";
        (String::new(), vec![Diagnostic::of_file("", format!("cannot be read: {e}"), help)])
    })?;
    String::from_utf8(bytes).map_err(|e| {
        // As much of it as is valid stays as it is.
        let (text, at) = (String::from_utf8_lossy(e.as_bytes()).into_owned(), e.utf8_error().valid_up_to());
        let errors = Errors::new(&text);
        errors.add(at..at, "", "is not UTF-8 here", "a configuration is text in UTF-8");
        let found = errors.finish();
        (text, found)
    })
}

/// Reads and checks a file. The error holds the text, to show the lines in question.
pub fn load(path: &Path, scope: Scope) -> Result<Config, (String, Vec<Diagnostic>)> {
    let text = Zeroizing::new(read(path)?);
    let base = if path == Path::new(STDIN) { None } else { path.parent() };
    let base = base.unwrap_or_else(|| Path::new(""));
    parse_in(&text, base, scope).map_err(|diagnostics| (text.to_string(), diagnostics))
}

/// Checks a text; paths in it are relative to `base`.
pub fn parse(text: &str, base: &Path) -> Result<Config, Vec<Diagnostic>> {
    parse_in(text, base, Scope::File)
}

fn parse_in(text: &str, base: &Path, scope: Scope) -> Result<Config, Vec<Diagnostic>> {
    let errors = Errors::new(text);
    let (document, syntax) = DeTable::parse_recoverable(text);
    for error in &syntax {
        errors.add(error.span().unwrap_or(0..0), "", error.message().trim(), "this is not TOML");
    }
    if !syntax.is_empty() {
        return Err(errors.finish());
    }
    let root = Section::root(document.get_ref(), ROOT, &errors);
    let daemon = daemon(root.section("daemon"), base);
    let dpdk = EnvironmentOptions::read(root.section("dpdk"));
    let ports = Named::read(&root, "port", ConfiguredPort::read);
    distinct_devices(&ports);
    let state = daemon.as_ref().map(|daemon| &*daemon.state_dir).filter(|_| scope == Scope::Machine);
    let mut units = Named::new(&root);
    for kind in KINDS {
        let read =
            |s| UnitOptions::read(kind, s, base, state, |s, name, image| identity(s, name, image, state));
        units.add(&root, kind.key.name, &str::to_owned, read);
    }
    distinct_units(&units, scope);
    known_drives(&units);
    let known = KnownParts { base, ports: &ports, units: &units };
    let tables = FABRICS.iter().map(|fabric| (fabric.read)(&root, &known));
    let (fabrics, groups): (Vec<_>, Vec<_>) =
        tables.map(|FabricTables { options, groups }| (options, groups)).unzip();
    let port_groups = Named::read(&root, "port_group", port_group);
    distinct_groups(&port_groups, &groups.concat());
    if !root.given("port") {
        errors.add(0..0, "port", "there is no [[port]]", "a configuration has at least one");
    }
    let parts = (ports.good(), port_groups.good(), units.good(), fabrics.into_iter().collect());
    root.finish();
    let found = errors.finish();
    match (daemon, dpdk, parts) {
        (Some(daemon), Some(dpdk), (Some(ports), Some(port_groups), Some(units), Some(fabrics)))
            if found.is_empty() =>
        {
            Ok(Config { daemon, dpdk, ports, port_groups, units, fabrics })
        }
        _ => Err(found),
    }
}

/// `[daemon]`; paths in it are relative to `base`.
fn daemon(s: Section<'_>, base: &Path) -> Option<Daemon> {
    let reactors = reactors(&s);
    let memory = s.size("memory");
    let hugepages = s.word("hugepages", &[Hugepages::Auto, Hugepages::Require, Hugepages::Never]);
    let spin = s.time("spin");
    let idle = s.word("idle", &[spin.map(Idle::Adaptive), Some(Idle::Spin)]).flatten();
    let socket = s.text("control_socket").map(|path| base.join(path));
    if socket.as_ref().is_some_and(|path| path.as_os_str().len() > SOCKET_PATH_MAX) {
        let help = format!("the path of a socket has at most {SOCKET_PATH_MAX} bytes");
        s.error("control_socket", "is too long", help);
    }
    let state = s.text("state_dir").map(|path| base.join(path));
    let url = |text: &str| {
        let fits = text.len() <= URL_MAX && text.contains("://");
        (fits && text.bytes().all(|byte| byte.is_ascii_graphic())).then(|| text.into())
    };
    let management_url = s.parsed("management_url", url);
    let log = s.parsed("log", |text| is_log_filter(text).then(|| text.to_owned()));
    let drop_privileges = s.flag("drop_privileges");
    s.finish();
    Some(Daemon {
        reactors: reactors?,
        memory: memory?,
        hugepages: hugepages?,
        idle: idle?,
        control_socket: socket?,
        state_dir: state?,
        management_url,
        drop_privileges: drop_privileges?,
        log: log?,
    })
}

fn port_group(s: Section<'_>) -> Option<PortGroup> {
    let (name, group) = (s.text("name"), s.number("group"));
    let (state, preferred) =
        (s.word("state", &GroupState::NAMES.map(|(_, state)| state)), s.flag("preferred"));
    s.finish();
    Some(PortGroup { name: name?, group: group?, state: state?, preferred: preferred? })
}

/// The drives of a library are logical units whose media come and go, without one of their own, and no other's.
fn known_drives(units: &Named<'_, UnitOptions>) {
    let mut taken = BTreeMap::new();
    for (index, library) in units.known() {
        for drive in library.device.library().into_iter().flat_map(|plan| &plan.drives) {
            let unit = units.known().map(|(_, unit)| unit).find(|unit| unit.name == *drive);
            let wrong = match unit {
                // One with errors of its own.
                None if units.has(drive) => continue,
                None => Some(format!("there is no drive {drive:?}")),
                Some(unit) if !unit.is_drive() => Some(format!("{} {drive:?} is no drive", unit.kind)),
                Some(unit) if unit.store.is_some() => Some(format!("the drive {drive:?} has a `store`")),
                Some(_) => taken
                    .insert(drive, &library.name)
                    .map(|other| format!("the drive {drive:?} is already in the library {other:?}")),
            };
            if let Some(wrong) = wrong {
                units.error(
                    index,
                    wrong,
                    "give the name of a [[tape]] without `store`, which is in no other library",
                );
            }
        }
    }
}

/// A tag is one port group's, and of some target port; `tags` are theirs, `None` for one with errors.
fn distinct_groups(groups: &Named<'_, PortGroup>, tags: &[Option<u16>]) {
    let mut taken = BTreeMap::new();
    for (index, PortGroup { name, group, .. }) in groups.known() {
        if let Some(other) = taken.insert(group, name) {
            let message = format!("tag {group} already belongs to the group {other:?}");
            groups.error(index, message, "one [[port_group]] per tag");
        }
        if !tags.iter().any(|tag| tag.is_none_or(|tag| tag == *group)) {
            groups.error(index, format!("no [[portal]] has the tag {group}"), "give the `group` of a portal");
        }
    }
}

/// Each device, and each address on one, is one port's.
pub(super) fn distinct_devices(ports: &Named<'_, ConfiguredPort>) {
    let mut devices = BTreeMap::new();
    let mut taken = BTreeMap::new();
    for (index, ConfiguredPort { name, options, .. }) in ports.known() {
        let Some(LinkOptions { device, addresses, .. }) = options.link() else { continue };
        // Arguments of a virtual device come behind its name.
        let device = device.split(',').next().unwrap_or(device);
        if let Some(other) = devices.insert(device, name) {
            let message = format!("device {device:?} already belongs to the port {other:?}");
            ports.error(index, message, "each port has a device of its own");
        }
        for address in addresses {
            if let Some(other) = taken.insert(address.ip, name) {
                let message = format!("{} is already an address of the port {other:?}", address.ip);
                ports.error(index, message, "each address is given once");
            }
        }
    }
}

/// The processor of each reactor.
fn reactors(s: &Section<'_>) -> Option<Vec<Option<usize>>> {
    if !s.given("reactors") {
        return Some(vec![None]);
    }
    let processors = s.numbers("reactors")?;
    if processors.is_empty() || processors.len() > REACTORS_MAX {
        let message = format!("has {} entries", processors.len());
        s.error("reactors", message, format!("give 1 to {REACTORS_MAX} processors"));
    }
    for (at, (processor, span)) in processors.iter().enumerate() {
        if processors[..at].iter().any(|(other, _)| other == processor) {
            let message = format!("processor {processor} already has a reactor");
            s.error_at(span.clone(), "reactors", message, "one reactor per processor");
        }
    }
    Some(processors.into_iter().map(|(processor, _)| usize::try_from(processor).ok()).collect())
}

/// Whether that says levels, or levels of modules: `info`, or `info,ptgt::net=debug`.
pub fn is_log_filter(text: &str) -> bool {
    let level = |word: &str| word.parse::<log::LevelFilter>().is_ok();
    text.split(',').all(|part| match part.split_once('=') {
        Some((module, word)) => !module.is_empty() && level(word),
        None => level(part),
    })
}
