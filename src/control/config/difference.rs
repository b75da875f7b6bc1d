// SPDX-License-Identifier: GPL-2.0-or-later
//! What differs between two configurations, by the names of things: what order they have in the files does not matter.

use std::collections::BTreeMap;

use super::model::{Config, Daemon};
use crate::adapters::FABRICS;
use crate::engine::units::UnitOptions;
use crate::ports::ConfiguredPort;

pub use crate::options::ConfigChanges;

/// What differs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// `[[port]]`
    pub ports: ConfigChanges,
    /// `[[port_group]]`
    pub port_groups: ConfigChanges,
    /// `[[disk]]` and its like
    pub units: ConfigChanges,
    /// Of the tables of fabrics, those that differ.
    pub fabrics: BTreeMap<&'static str, ConfigChanges>,
    /// Keys and things that a running daemon cannot take in another form.
    pub restarts: Vec<String>,
}

impl Difference {
    /// What differs in `new` from `old`.
    pub fn between(old: &Config, new: &Config) -> Self {
        let same_unit = |a: &UnitOptions, b: &UnitOptions| a.is_like(b);
        let mut difference = Self {
            ports: ConfigChanges::of((&old.ports, &new.ports), |port| &port.name, ConfiguredPort::is_like),
            port_groups: ConfigChanges::of(
                (&old.port_groups, &new.port_groups),
                |group| &group.name,
                |a, b| a == b,
            ),
            units: ConfigChanges::of((&old.units, &new.units), |unit| &unit.name, same_unit),
            fabrics: BTreeMap::new(),
            restarts: Vec::new(),
        };
        for (kind, (old, new)) in FABRICS.iter().zip(old.fabrics.iter().zip(&new.fabrics)) {
            match new.changes(&**old) {
                Some(changes) => {
                    difference.fabrics.extend(changes.into_iter().filter(|(_, it)| !it.is_empty()))
                }
                None => difference.restarts.extend(kind.keys.iter().map(|key| key.name.to_owned())),
            }
        }
        difference.restarts.extend(restarts(old, new, &difference.ports));
        difference
    }

    /// Whether both say the same.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What needs a restart.
fn restarts(old: &Config, new: &Config, ports: &ConfigChanges) -> Vec<String> {
    let Daemon {
        reactors,
        memory,
        hugepages,
        idle,
        control_socket,
        state_dir,
        management_url,
        drop_privileges,
        log,
    } = &old.daemon;
    let keys = [
        ("daemon.reactors", *reactors == new.daemon.reactors),
        ("daemon.memory", *memory == new.daemon.memory),
        ("daemon.hugepages", *hugepages == new.daemon.hugepages),
        ("daemon.idle", *idle == new.daemon.idle),
        ("daemon.control_socket", *control_socket == new.daemon.control_socket),
        ("daemon.state_dir", *state_dir == new.daemon.state_dir),
        ("daemon.management_url", *management_url == new.daemon.management_url),
        ("daemon.drop_privileges", *drop_privileges == new.daemon.drop_privileges),
        ("daemon.log", *log == new.daemon.log),
        ("dpdk.arguments", old.dpdk.arguments == new.dpdk.arguments),
        ("dpdk.memory", old.dpdk.memory == new.dpdk.memory),
    ];
    let fixed = |config: &'_ Config, name: &String| {
        config.ports.iter().any(|port| port.name == *name && port.options.is_fixed())
    };
    let come = ports.added.iter().filter(|name| fixed(new, name));
    let go = ports.removed.iter().filter(|name| fixed(old, name));
    let ports = ports.changed.iter().chain(come).chain(go);
    let keys = keys.iter().filter(|(_, same)| !same).map(|(key, _)| (*key).to_owned());
    keys.chain(ports.map(|name| format!("port {name:?}"))).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::parse;
    use super::*;

    const OLD: &str = r#"
[daemon]
memory = "64MiB"
[[port]]
name = "p"
driver = "kernel"
[[port]]
name = "q"
driver = "kernel"
[[portal]]
name = "a"
port = "p"
address = "127.0.0.1:3260"
[[portal]]
name = "b"
port = "q"
address = "127.0.0.2:3260"
group = 2
[[disk]]
name = "d"
store = "ram"
size = "1MiB"
[[disk]]
name = "e"
store = "null"
size = "1MiB"
[[account]]
name = "u"
secret = "0123456789abcdef"
[[account]]
name = "v"
secret = "fedcba9876543210"
[discovery]
accounts = ["u"]
[[target]]
name = "iqn.2026-11.test:t"
portals = ["a", "b"]
chap = { accounts = ["u", "v"] }
luns = [{ lun = 0, disk = "d" }, { lun = 1, disk = "e" }]
[[target]]
name = "iqn.2026-11.test:s"
portals = ["b"]
luns = [{ lun = 0, disk = "e" }]
"#;

    fn config(text: &str) -> Config {
        parse(text, Path::new("")).unwrap_or_else(|e| panic!("{e:?}\n{text}"))
    }

    fn after(edits: &[(&str, &str)]) -> Difference {
        let mut text = OLD.to_owned();
        for (from, to) in edits {
            assert!(text.contains(from), "{from}");
            text = text.replacen(from, to, 1);
        }
        Difference::between(&config(OLD), &config(&text))
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    /// Something else is said of that in a table of a fabric.
    fn said(table: &'static str, name: &str) -> BTreeMap<&'static str, ConfigChanges> {
        [(table, changed(name))].into()
    }

    fn changed(name: &str) -> ConfigChanges {
        ConfigChanges { changed: names(&[name]), ..ConfigChanges::default() }
    }

    #[test]
    fn the_order_of_things_is_no_difference() {
        assert!(after(&[]).is_empty());
        let disk = "[[disk]]\nname = \"d\"\nstore = \"ram\"\nsize = \"1MiB\"\n";
        let portal = "[[portal]]\nname = \"a\"\nport = \"p\"\naddress = \"127.0.0.1:3260\"\n";
        let account = "[[account]]\nname = \"u\"\nsecret = \"0123456789abcdef\"\n";
        let port = "[[port]]\nname = \"p\"\ndriver = \"kernel\"\n";
        // Each goes to the end of its list.
        let moved = |text: &'static str, next: &'static str| [(text, ""), (next, text)];
        for [cut, paste] in [
            moved(disk, "[[account]]\n"),
            moved(portal, "[[disk]]\n"),
            moved(account, "[discovery]\n"),
            moved(port, "[[portal]]\n"),
        ] {
            let pasted = format!("{}{}", paste.1, paste.0);
            let difference = after(&[cut, (paste.0, &pasted)]);
            assert!(difference.is_empty(), "{cut:?} {difference:?}");
        }
    }

    #[test]
    fn each_kind_of_thing_is_named() {
        let none = Difference::default;
        let target = "iqn.2026-11.test:t";
        for (edits, expected) in [
            (
                &[("store = \"ram\"\nsize = \"1MiB\"", "store = \"ram\"\nsize = \"2MiB\"")][..],
                Difference { units: changed("d"), ..none() },
            ),
            (&[("store = \"null\"", "store = \"ram\"")], Difference { units: changed("e"), ..none() }),
            (
                &[("store = \"ram\"", "store = \"ram\"\nproduct = \"X\"")],
                Difference { units: changed("d"), ..none() },
            ),
            (
                &[("store = \"ram\"", "store = \"ram\"\nfaults = [{ delay = \"5ms\" }]")],
                Difference { units: changed("d"), ..none() },
            ),
            (&[("127.0.0.2", "127.0.0.3")], Difference { fabrics: said("portal", "b"), ..none() }),
            (&[("group = 2", "group = 3")], Difference { fabrics: said("portal", "b"), ..none() }),
            (&[("fedcba", "fedcbb")], Difference { fabrics: said("account", "v"), ..none() }),
            (
                &[("[discovery]\naccounts = [\"u\"]", "")],
                Difference { fabrics: said("discovery", "discovery"), ..none() },
            ),
            (
                &[("[discovery]\naccounts = [\"u\"]", "[discovery]\naccounts = [\"v\"]")],
                Difference { fabrics: said("discovery", "discovery"), ..none() },
            ),
            (
                &[("chap = { accounts = [\"u\", \"v\"] }", "")],
                Difference { fabrics: said("target", target), ..none() },
            ),
            (&[("[\"a\", \"b\"]", "[\"a\"]")], Difference { fabrics: said("target", target), ..none() }),
            (
                &[(", { lun = 1, disk = \"e\" }", "")],
                Difference { fabrics: said("target", target), ..none() },
            ),
            (
                &[("[[target]]", "[[port_group]]\nname = \"g\"\ngroup = 2\nstate = \"standby\"\n[[target]]")],
                Difference {
                    port_groups: ConfigChanges { added: names(&["g"]), ..ConfigChanges::default() },
                    ..none()
                },
            ),
            (&[("64MiB", "65MiB")], Difference { restarts: names(&["daemon.memory"]), ..none() }),
            (
                &[("memory =", "reactors = [0, 1]\nlog = \"debug\"\nmemory =")],
                Difference { restarts: names(&["daemon.reactors", "daemon.log"]), ..none() },
            ),
        ] {
            assert_eq!(after(edits), expected, "{edits:?}");
        }
    }

    #[test]
    fn a_name_is_who_one_is() {
        let difference = after(&[("name = \"d\"", "name = \"f\""), ("disk = \"d\"", "disk = \"f\"")]);
        let units =
            ConfigChanges { added: names(&["f"]), removed: names(&["d"]), ..ConfigChanges::default() };
        assert!(units.is_new("f") && !units.is_new("d"));
        assert_eq!(
            difference,
            Difference { units, fabrics: said("target", "iqn.2026-11.test:t"), ..Difference::default() }
        );
    }

    #[test]
    fn what_a_running_daemon_cannot_do_is_said() {
        if !cfg!(feature = "dpdk") {
            return println!("skipped: this build has no DPDK");
        }
        let link = "driver = \"dpdk\"\ndevice = \"0000:01:00.0\"\naddress = [\"10.0.0.2/24\"]";
        let port = format!("[[port]]\nname = \"r\"\n{link}\n[[portal]]");
        let added = after(&[("[[portal]]", &port)]);
        assert_eq!(added.restarts, names(&["port \"r\""]));
        let tap = "name = \"q\"\ndriver = \"tap\"\ndevice = \"t0\"\naddress = [\"10.9.0.2/24\"]";
        let other = after(&[("name = \"q\"\ndriver = \"kernel\"", tap), ("127.0.0.2:3260", "10.9.0.2:3260")]);
        assert_eq!((other.ports, &other.restarts[..]), (changed("q"), &names(&["port \"q\""])[..]));
        let kernel = after(&[("[[portal]]", "[[port]]\nname = \"r\"\ndriver = \"kernel\"\n[[portal]]")]);
        assert_eq!((&kernel.ports.added[..], &kernel.restarts[..]), (&names(&["r"])[..], &[][..]));
    }
}
