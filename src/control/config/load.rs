// SPDX-License-Identifier: GPL-2.0-or-later
//! From a file to a [`Config`].

use std::collections::BTreeMap;
use std::io::Read;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use toml::de::DeTable;
use zeroize::Zeroizing;

use super::keys::ROOT;
use super::model::{Config, Daemon, PortGroup, SecretSource};
use crate::adapters::FABRICS;
use crate::adapters::iscsi::options::{TargetOptions, TargetReferences};
use crate::adapters::iscsi::topology::{AccessRule, Portal};
use crate::engine::units::{KINDS, UnitOptions};
use crate::fabrics::iscsi::{Account, Authentication};
use crate::machine::Hugepages;
use crate::options::{Diagnostic, Errors, Section, nearest};
use crate::ports::{ConfiguredPort, EnvironmentOptions};
use crate::reactor::Idle;
use crate::scsi::alua::GroupState;
use crate::wire::iscsi::normal_name;

/// Most reactors.
const REACTORS_MAX: usize = 64;

/// Longest URL that initiators are told.
const URL_MAX: usize = 255;

/// Longest path of a Unix socket, in bytes: sun_path of unix(7) less its end.
const SOCKET_PATH_MAX: usize = 107;

/// How much of a configuration is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The file alone.
    File,
    /// What it names on this machine, too: whether the daemon would start with it. Changes nothing.
    Machine,
}

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
    let loader = Loader { errors: &errors, base };
    let daemon = loader.daemon(root.section("daemon"));
    let dpdk = EnvironmentOptions::read(root.section("dpdk"));
    let ports = loader.all(&root, "port", ConfiguredPort::read);
    loader.distinct_devices(&ports);
    let portals = loader.all(&root, "portal", |s| loader.portal(s, &ports).map(Arc::new));
    loader.distinct_addresses(&portals);
    let port_groups = loader.all(&root, "port_group", |s| loader.port_group(s));
    loader.distinct_groups(&port_groups, &portals);
    let state = daemon.as_ref().map(|daemon| &*daemon.state_dir).filter(|_| scope == Scope::Machine);
    let mut units = Named::default();
    for kind in KINDS {
        let read = |s| {
            UnitOptions::read(kind, s, base, state, |s, name, image| loader.identity(s, name, image, state))
        };
        loader.add(&mut units, &root, kind.key.name, read);
    }
    loader.distinct_units(&units, scope);
    let accounts = loader.all(&root, "account", |s| loader.account(s));
    let discovery = loader.authentication(root.section("discovery"), &accounts);
    let known = Known { loader: &loader, portals: &portals, units: &units, accounts: &accounts };
    let targets = loader.all(&root, "target", |s| TargetOptions::read(s, &known));
    loader.distinct_port_ids(&targets);
    let mut fabrics = Named::default();
    for kind in FABRICS {
        let read = |s: Section<'_>| {
            let target = (kind.read)(&s, &|entry| loader.unit(entry, &units));
            s.finish();
            target
        };
        loader.add(&mut fabrics, &root, kind.key.name, read);
    }
    for key in ["port", "portal", "target"] {
        if !root.given(key) {
            errors.add(0..0, key, format!("there is no [[{key}]]"), "a configuration has at least one");
        }
    }
    root.finish();
    let found = errors.finish();
    let security = accounts.good().zip(discovery);
    let network = ports.good().zip(portals.good());
    let targets = targets.good().zip(fabrics.good());
    match (daemon.zip(dpdk), network, port_groups.good(), units.good(), security, targets) {
        (Some(process), Some(network), Some(port_groups), Some(units), Some(security), Some(targets))
            if found.is_empty() =>
        {
            let ((daemon, dpdk), (ports, portals), (accounts, discovery)) = (process, network, security);
            let (targets, fabrics) = targets;
            Ok(Config {
                daemon,
                dpdk,
                ports,
                portals,
                port_groups,
                units,
                accounts,
                discovery,
                targets,
                fabrics,
            })
        }
        _ => Err(found),
    }
}

/// The entries of a list of named tables, in the order of the file. One with errors is `None`.
pub(super) struct Named<T> {
    pub(super) entries: Vec<Option<T>>,
    pub(super) paths: Vec<String>,
    pub(super) spans: Vec<Range<usize>>,
    /// Also of entries with errors.
    names: BTreeMap<String, usize>,
}

impl<T> Default for Named<T> {
    fn default() -> Self {
        Self { entries: Vec::new(), paths: Vec::new(), spans: Vec::new(), names: BTreeMap::new() }
    }
}

impl<T> Named<T> {
    fn good(self) -> Option<Vec<T>> {
        self.entries.into_iter().collect()
    }
}

pub(super) struct Loader<'a> {
    pub(super) errors: &'a Errors<'a>,
    pub(super) base: &'a Path,
}

impl<'a> Loader<'a> {
    fn all<T>(
        &self,
        root: &Section<'a>,
        key: &'static str,
        read: impl Fn(Section<'a>) -> Option<T>,
    ) -> Named<T> {
        let mut named = Named::default();
        self.add(&mut named, root, key, read);
        named
    }

    /// Adds the entries of a list to those of others, among which each has a name of its own.
    fn add<T>(
        &self,
        named: &mut Named<T>,
        root: &Section<'a>,
        key: &'static str,
        read: impl Fn(Section<'a>) -> Option<T>,
    ) {
        for section in root.sections(key) {
            let index = named.entries.len();
            if let Some(name) = section.text("name") {
                // Those of targets are iSCSI names, and the same in any case.
                let name = if key == "target" { normal_name(&name) } else { name };
                if name.is_empty() {
                    section.error("name", "is empty", format!("each [[{key}]] has a name"));
                } else if *named.names.entry(name.clone()).or_insert(index) != index {
                    let help = format!("each [[{key}]] has a name of its own");
                    section.error("name", format!("{name:?} is taken"), help);
                }
            }
            named.paths.push(section.path(""));
            named.spans.push(section.span());
            named.entries.push(read(section));
        }
    }

    /// The entry that a name at a place of the file means.
    pub(super) fn look_up<T>(
        &self,
        name: &str,
        what: &str,
        among: &Named<T>,
        at: (Range<usize>, String),
    ) -> Option<usize> {
        let found = among.names.get(name).copied();
        if found.is_none() {
            let known: Vec<&str> = among.names.keys().map(String::as_str).collect();
            let help = match known[..] {
                [] => format!("there is none: add a {what}"),
                _ => nearest(name, &known, &format!("known: {}", known.join(", "))),
            };
            self.errors.add(at.0, &at.1, format!("there is no {what} {name:?}"), help);
        }
        found
    }

    pub(super) fn reference<T>(
        &self,
        s: &Section<'_>,
        key: &'static str,
        what: &str,
        among: &Named<T>,
    ) -> Option<usize> {
        let name = s.text(key)?;
        self.look_up(&name, &format!("[[{what}]]"), among, (s.span_of(key), s.path(key)))
    }

    fn daemon(&self, s: Section<'a>) -> Option<Daemon> {
        let reactors = reactors(&s);
        let memory = s.size("memory");
        let hugepages = s.word("hugepages", &[Hugepages::Auto, Hugepages::Require, Hugepages::Never]);
        let spin = s.time("spin");
        let idle = s.word("idle", &[spin.map(Idle::Adaptive), Some(Idle::Spin)]).flatten();
        let socket = s.text("control_socket").map(|path| self.base.join(path));
        if socket.as_ref().is_some_and(|path| path.as_os_str().len() > SOCKET_PATH_MAX) {
            let help = format!("the path of a socket has at most {SOCKET_PATH_MAX} bytes");
            s.error("control_socket", "is too long", help);
        }
        let state = s.text("state_dir").map(|path| self.base.join(path));
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

    fn port_group(&self, s: Section<'a>) -> Option<PortGroup> {
        let (name, group) = (s.text("name"), s.number("group"));
        let (state, preferred) =
            (s.word("state", &GroupState::NAMES.map(|(_, state)| state)), s.flag("preferred"));
        s.finish();
        Some(PortGroup { name: name?, group: group?, state: state?, preferred: preferred? })
    }

    fn distinct_groups(&self, groups: &Named<PortGroup>, portals: &Named<Arc<Portal>>) {
        let mut taken = BTreeMap::new();
        for (index, group) in groups.entries.iter().enumerate() {
            let Some(PortGroup { name, group, .. }) = group else { continue };
            let wrong = |message, help| {
                self.errors.add(groups.spans[index].clone(), &groups.paths[index], message, help);
            };
            if let Some(other) = taken.insert(group, name) {
                wrong(
                    format!("tag {group} already belongs to the group {other:?}"),
                    "one [[port_group]] per tag",
                );
            }
            if !portals
                .entries
                .iter()
                .any(|portal| portal.as_ref().is_none_or(|portal| portal.group == *group))
            {
                wrong(format!("no [[portal]] has the tag {group}"), "give the `group` of a portal");
            }
        }
    }

    /// The logical unit of an entry of `luns`.
    fn unit(&self, entry: &Section<'_>, units: &Named<UnitOptions>) -> Option<String> {
        let name = entry.text("unit")?;
        // A `disk` is looked for under that name.
        let what = if entry.path("unit").ends_with("unit") { "logical unit" } else { "[[disk]]" };
        let at = (entry.span_of("unit"), entry.path("unit"));
        self.look_up(&name, what, units, at).map(|_| name)
    }

    fn distinct_port_ids(&self, targets: &Named<TargetOptions>) {
        let mut ids = BTreeMap::new();
        for (index, target) in targets.entries.iter().enumerate() {
            let Some(TargetOptions { name, port_ids, .. }) = target else { continue };
            for (group, id) in port_ids {
                if let Some((other, tag)) = ids.insert(id, (name, group)) {
                    let message =
                        format!("the target port identifier {id} is that of {other:?}, group {tag}, already");
                    let help =
                        "no two target ports of a daemon have the same: give another one in `port_ids`";
                    self.errors.add(targets.spans[index].clone(), &targets.paths[index], message, help);
                }
            }
        }
    }
}

/// What targets may refer to.
struct Known<'l, 'a> {
    loader: &'l Loader<'a>,
    portals: &'l Named<Arc<Portal>>,
    units: &'l Named<UnitOptions>,
    accounts: &'l Named<Account<SecretSource>>,
}

impl TargetReferences for Known<'_, '_> {
    fn portals(&self, s: &Section<'_>) -> Option<Vec<Arc<Portal>>> {
        let portals = self.portals;
        if !s.given("portals") {
            return Some(portals.entries.iter().flatten().cloned().collect());
        }
        let names = s.texts("portals", |text| Some(text.to_owned()))?;
        if names.is_empty() {
            s.error("portals", "has no entry", "nobody would reach the target; leave it out for all portals");
        }
        let mut chosen = Vec::new();
        for (name, span) in names {
            let at = (span.clone(), s.path("portals"));
            match self.loader.look_up(&name, "[[portal]]", portals, at) {
                Some(portal) if chosen.contains(&portal) => {
                    s.error_at(span, "portals", format!("{name:?} is in the list twice"), "");
                }
                portal => chosen.extend(portal),
            }
        }
        let good = chosen.into_iter().filter_map(|portal| portals.entries[portal].clone());
        Some(good.collect())
    }

    fn unit(&self, entry: &Section<'_>) -> Option<String> {
        self.loader.unit(entry, self.units)
    }

    fn authentication(&self, chap: Section<'_>) -> Option<Option<Authentication<String>>> {
        self.loader.authentication(chap, self.accounts)
    }

    fn rule(&self, access: Section<'_>, luns: &[u16]) -> Option<AccessRule> {
        self.loader.rule(access, self.accounts, luns)
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
