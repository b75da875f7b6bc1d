// SPDX-License-Identifier: GPL-2.0-or-later
//! What the configuration says of targets.

use std::path::Path;

use super::options::FcoeOptions;
use crate::adapters::fabric::{FabricOptions, KnownKeys};
use crate::control::config::{Config, parse};
use crate::engine::port_ids::PortIds;
use crate::scsi::UnitKey;

fn config(targets: &str) -> Result<Config, Vec<(usize, String, String)>> {
    let text = format!(
        r#"
port = [{{ name = "p", driver = "tap" }}, {{ name = "k", driver = "kernel" }}]
disk = [{{ name = "d", store = "ram", size = 1_048_576 }}, {{ name = "e", store = "ram", size = 1_048_576 }}]
{targets}"#
    );
    let told = |all: Vec<crate::options::Diagnostic>| {
        all.into_iter().map(|d| (d.line, d.key, d.message + "; " + &d.help)).collect()
    };
    parse(&text, Path::new("/")).map_err(told)
}

#[test]
fn a_target_has_defaults_for_all_but_its_port() {
    let config = config(
        r#"
[[fcoe_target]]
name = "a"
port = "p"
[[fcoe_target]]
name = "b"
port = "p"
vlan = 7
port_name = "naa.2000020000000001"
node_name = "10:00:02:00:00:00:00:01"
initiators = ["20:00:52:54:00:77:00:00"]
luns = [{ lun = 5, unit = "e" }, { lun = 0, unit = "d" }]
port_id = 9
group = 3"#,
    )
    .expect("it is good");
    let targets = &config.fabric::<FcoeOptions>().targets[..];
    let [a, b] = targets else { panic!("{targets:?}") };
    assert_eq!(
        (a.vlan, a.port_name, a.node_name, &a.initiators, a.port_id, a.group),
        (None, None, None, &None, None, 1)
    );
    assert_eq!((b.vlan, b.port_id, b.group), (Some(7), Some(9), 3));
    assert_eq!(b.port_name.map(|name| name.to_string()).as_deref(), Some("20:00:02:00:00:00:00:01"));
    assert_eq!(b.initiators.as_ref().map(Vec::len), Some(1));
    assert_eq!(b.luns, [(0, "d".to_owned()), (5, "e".to_owned())]);
}

/// Reservations and ALUA know a port by a name that does not come from the machine.
#[test]
fn a_port_with_a_name_of_its_own_is_among_those_of_its_units() {
    let config = config(
        r#"
fcoe_target = [
    { name = "a", port = "p", luns = [{ lun = 0, unit = "d" }] },
    { name = "b", port = "p", vlan = 7, port_name = "20:00:02:00:00:00:00:01", port_id = 9, group = 3, luns = [{ lun = 0, unit = "d" }] },
]"#,
    )
    .expect("it is good");
    let options = config.fabric::<FcoeOptions>();
    let mut ids = PortIds::default();
    ids.assign(&options.target_ports()).expect("enough of them");
    let unit = |name: &str| UnitKey(if name == "d" { 4 } else { 5 });
    let exports = options.exports(&KnownKeys { unit: &unit, ids: &ids }).expect("exports");
    let ports = exports.ports_of(UnitKey(4));
    let told =
        ports.iter().map(|port| (port.name.to_string(), port.device.clone(), port.relative, port.group));
    let expected = ("20:00:02:00:00:00:00:01".to_owned(), "naa.1000020000000001".to_owned(), 9, 3);
    assert_eq!(told.collect::<Vec<_>>(), [expected]);
    assert!(exports.ports_of(UnitKey(5)).is_empty());
    assert_eq!(exports.announce(), ["a: LUN 0 at port p", "b: LUN 0 at port p"]);
}

#[test]
fn what_is_wrong_with_a_target_is_said() {
    let target = |more: &str| format!(r#"fcoe_target = [{{ name = "a", port = "p", {more} }}]"#);
    let table = [
        (target(r#"port_name = "20:00""#), "fcoe_target[0].port_name", "a world wide name"),
        (target(r#"initiators = ["iqn.x"]"#), "fcoe_target[0].initiators[0]", "a world wide name"),
        (target(r#"luns = [{ lun = 0, unit = "x" }]"#), "fcoe_target[0].luns[0].unit", "there is no logical unit"),
        (
            target(r#"luns = [{ lun = 0, unit = "d" }, { lun = 0, unit = "e" }]"#),
            "fcoe_target[0].luns[1].lun",
            "is taken",
        ),
        (
            target(r#"luns = [{ lun = 0, unit = "d" }, { lun = 1, unit = "d" }]"#),
            "fcoe_target[0].luns[1].unit",
            "is in the list twice",
        ),
        (
            r#"fcoe_target = [{ name = "a", port = "k" }]"#.to_owned(),
            "fcoe_target[0].port",
            "has no Ethernet frames",
        ),
        (
            r#"fcoe_target = [{ name = "a", port = "p" }, { name = "b", port = "p" }]"#.to_owned(),
            "fcoe_target[1]",
            r#""a" has the port "p" already"#,
        ),
        (
            r#"fcoe_target = [{ name = "a", port = "p", port_id = 4 }, { name = "b", port = "p", vlan = 2, port_id = 4 }]"#
                .to_owned(),
            "fcoe_target[1]",
            "the target port identifier 4 already belongs to",
        ),
    ];
    for (targets, key, why) in table {
        let told = config(&targets).expect_err(&targets);
        assert!(matches!(&told[..], [(4, k, w)] if k == key && w.contains(why)), "{targets}: {told:?}");
    }
}
