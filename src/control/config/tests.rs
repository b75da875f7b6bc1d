// SPDX-License-Identifier: GPL-2.0-or-later
//! Configurations that are right, wrong in many ways at once, and garbage.

use std::path::{Path, PathBuf};
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::adapters::iscsi::options::IscsiOptions;
use crate::control::DEFAULT_SOCKET;
use crate::fabrics::iscsi::Parameters;
use crate::io::StoreNeeds;
use crate::ports::LinkOptions;
use crate::reactor::Idle;

const MINIMAL: &str = r#"
port = [{ name = "p", driver = "kernel" }]
portal = [{ name = "l", port = "p", address = "[::]:3260" }]
disk = [{ name = "d", store = "ram", size = 1_048_576 }, { name = "f", store = "file", path = "f.img" }]
target = [{ name = "iqn.2026-11.test:t", luns = [{ lun = 9, disk = "f" }, { lun = 0, disk = "d" }] }]
"#;

fn iscsi(config: &Config) -> &IscsiOptions {
    config.fabric()
}

fn wrong(text: &str) -> Vec<Diagnostic> {
    parse(text, Path::new("/etc/ptgt")).expect_err("that is wrong")
}

#[test]
fn every_configuration_of_the_project_is_good() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs");
    let mut count = 0;
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            count += 1;
            if let Err((text, diagnostics)) = load(&path, Scope::File) {
                let without = |d: &Diagnostic| d.message == "this ptgt was built without DPDK";
                let told = render(&path, &text, &diagnostics);
                assert!(!cfg!(feature = "dpdk") && diagnostics.iter().all(without), "{told}");
            }
        }
    }
    assert!(count >= 3, "quickstart, kernel, reference");
}

#[test]
fn what_is_not_given_has_its_default() {
    let config = parse(MINIMAL, Path::new("/etc/ptgt")).unwrap();
    let daemon = &config.daemon;
    assert_eq!((&daemon.reactors[..], daemon.memory), (&[None][..], 256 << 20));
    assert_eq!((daemon.hugepages, &daemon.log[..]), (Hugepages::Auto, "info"));
    assert_eq!(daemon.idle, Idle::Adaptive(Duration::from_micros(50)));
    assert_eq!(daemon.control_socket, Path::new(DEFAULT_SOCKET));
    assert_eq!(daemon.state_dir, Path::new("/var/lib/ptgt/state"));
    assert_eq!(iscsi(&config).portals[0].group, 1);
    let disk = &config.units[1];
    assert_eq!(disk.device.needs(), StoreNeeds { block: 512, read_only: false, thin: true });
    assert!(format!("{:?}", disk.device).contains("physical_exponent: 3,"));
    let store = disk.store.as_ref().unwrap();
    assert_eq!((store.word, store.options.image()), ("file", Some((Path::new("/etc/ptgt/f.img"), false))));
    assert!(format!("{:?}", store.options).contains("size: None, mapped: false"));
    let target = &iscsi(&config).targets[0];
    assert_eq!(target.portals, iscsi(&config).portals);
    let luns = [(0, "d".to_owned()), (9, "f".to_owned())];
    assert_eq!(target.luns, luns);
    let spelled = parse(&MINIMAL.replace("disk = \"", "unit = \""), Path::new("/etc/ptgt")).unwrap();
    assert_eq!(iscsi(&spelled).targets[0].luns, luns);
    assert_eq!(target.parameters, Parameters::default());
}

#[test]
fn a_tape_drive_goes_by_the_names_of_its_personality_and_by_those_that_are_given() {
    let with = |keys: &str| {
        let tape =
            format!("tape = [{{ name = \"t\", store = \"ram\", size = 16_777_216, {keys} }}]\ntarget =");
        parse(&MINIMAL.replacen("target =", &tape, 1), Path::new("/etc/ptgt"))
    };
    let told = |keys: &str| {
        let config = with(keys).unwrap();
        format!("{:?}", config.units.iter().find(|unit| unit.name == "t").unwrap().device)
    };
    let names = |vendor: &[u8; 8], revision: &[u8; 4]| {
        (format!("vendor: {vendor:?}"), format!("revision: {revision:?}"))
    };
    for (keys, vendor, revision, density) in [
        ("read_only = false", b"PTGT    ", b"0001", 0x5a),
        ("personality = \"ibm-ult3580-td8\"", b"IBM     ", b"HB82", 0x5e),
        (
            "personality = \"hp-ultrium-6\", revision = \"X\", cartridge = \"lto5\"",
            b"HP      ",
            b"X   ",
            0x58,
        ),
    ] {
        let (device, (vendor, revision)) = (told(keys), names(vendor, revision));
        assert!(device.contains(&vendor) && device.contains(&revision), "{keys}: {device}");
        assert!(device.contains(&format!("density: {density},")), "{keys}: {device}");
    }
    for keys in ["personality = \"tape\"", "personality = \"ibm-ult3580-td9\", cartridge = \"lto5\""] {
        assert_eq!(with(keys).unwrap_err().len(), 1, "{keys}");
    }
}

#[test]
fn a_tap_port_has_its_defaults() {
    let text = MINIMAL
        .replace(r#""kernel""#, r#""tap", address = ["10.1.0.1/24", "fd00::1/64"]"#)
        .replace("[::]", "[fd00::1]");
    let config = parse(&text, Path::new("")).unwrap();
    let port = &config.ports[0];
    let LinkOptions { device, mtu, mac, offload, promiscuous, .. } = port.options.link().unwrap();
    assert_eq!((port.driver, &device[..], *mtu), ("tap", "p", None));
    assert!(format!("{:?}", port.options).contains("host_addresses: []"));
    assert_eq!((*mac, *offload, *promiscuous), (None, true, false));
}

#[test]
fn a_port_without_ip_addresses_is_for_fabrics_on_frames() {
    let ports = |portal: &str, target: &str| {
        format!(
            r#"
port = [{{ name = "p", driver = "kernel" }}, {{ name = "e", driver = "packet", device = "eth1", mtu = 2500 }}]
portal = [{{ name = "l", port = "p", address = "[::]:3260" }}{portal}]
disk = [{{ name = "d", store = "ram", size = 1_048_576 }}]
target = [{{ name = "iqn.2026-11.test:t", luns = [{{ lun = 0, disk = "d" }}] }}]
{target}"#
        )
    };
    let on = |port: &str| {
        format!(
            r#"toy_frame_target = [{{ name = "t", port = "{port}", luns = [{{ lun = 0, unit = "d" }}] }}]"#
        )
    };
    let config = parse(&ports("", &on("e")), Path::new("")).unwrap();
    assert!(config.ports[1].options.link().unwrap().addresses.is_empty());
    // Such a fabric needs neither portals nor targets of iSCSI.
    let alone: String = ports("", &on("e"))
        .lines()
        .filter(|l| !l.starts_with("portal") && !l.starts_with("target"))
        .fold(String::new(), |all, line| all + line + "\n");
    let config = parse(&alone, Path::new("")).unwrap();
    assert_eq!(config.targets().count(), 1);
    let told = |text: &str| -> Vec<_> {
        wrong(text).into_iter().map(|d| (d.line, d.key, d.message + "; " + &d.help)).collect()
    };
    let portal = r#", { name = "m", port = "e", address = "10.1.0.1:3260" }"#;
    let why =
        "10.1.0.1 is not an address of the port \"e\"; it has none: give it `address`, as in \"10.1.0.1/24\"";
    assert_eq!(told(&ports(portal, "")), [(3, "portal[1].address".into(), why.into())]);
    let why = "the port \"p\" has no Ethernet frames; name one of another driver than kernel";
    assert_eq!(told(&ports("", &on("p"))), [(6, "toy_frame_target[0].port".into(), why.into())]);
    let [(6, key, why)] = &told(&ports("", &on("x")))[..] else { panic!() };
    assert!(key == "toy_frame_target[0].port" && why.starts_with("there is no [[port]] \"x\""), "{why}");
}

#[test]
fn a_daemon_has_the_frames_of_a_port_alone_unless_it_has_its_portals_only() {
    let text = r#"
port = [{ name = "p", driver = "kernel" },
    { name = "both", driver = "packet", address = ["10.1.0.1/24"] },
    { name = "portals", driver = "packet", address = ["10.1.0.2/24"] },
    { name = "frames", driver = "packet" }, { name = "nothing", driver = "packet", address = ["10.1.0.3/24"] }]
portal = [{ name = "l", port = "p", address = "[::]:3260" }, { name = "b", port = "both", address = "10.1.0.1:3260" },
    { name = "m", port = "portals", address = "10.1.0.2:3260" }]
disk = [{ name = "d", store = "ram", size = 1_048_576 }]
target = [{ name = "iqn.2026-11.test:t", luns = [{ lun = 0, disk = "d" }] }]
toy_frame_target = [{ name = "t", port = "both", luns = [{ lun = 0, unit = "d" }] },
    { name = "u", port = "frames", luns = [{ lun = 0, unit = "d" }] }]"#;
    let config = parse(text, Path::new("")).unwrap();
    let alone: Vec<_> = config.frame_ports().map(|port| &*port.name).collect();
    assert_eq!(alone, ["both", "frames", "nothing"]);
}

#[test]
fn ports_on_devices_of_the_system_and_of_dpdk() {
    let port = |keys: &str| {
        let keys = format!("{keys}, address = [\"10.1.0.1/24\"]");
        MINIMAL.replace(r#"driver = "kernel""#, &keys).replace("[::]", "10.1.0.1")
    };
    let packet = r#"driver = "packet", device = "eth1", mac = "02:00:5e:10:00:0a", promiscuous = true"#;
    let config = parse(&port(packet), Path::new("")).unwrap();
    let link = config.ports[0].options.link().unwrap();
    assert_eq!(config.ports[0].driver, "packet");
    assert_eq!((link.mac, link.promiscuous), (Some([2, 0, 0x5e, 0x10, 0, 10]), true));
    let wrong_mac = wrong(&port(&packet.replace("02:00", "03:00")));
    assert_eq!(wrong_mac[0].key, "port[0].mac", "a group address");
    let dpdk = r#"driver = "dpdk", device = "net_af_xdp0,iface=eth1", mtu = 9000"#;
    let parsed = parse(&port(dpdk), Path::new(""));
    if cfg!(feature = "dpdk") {
        let config = parsed.unwrap();
        let link = config.ports[0].options.link().unwrap();
        assert_eq!(config.ports[0].driver, "dpdk");
        assert_eq!((&link.device[..], link.mtu), ("net_af_xdp0,iface=eth1", Some(9000)));
    } else {
        assert_eq!(parsed.unwrap_err()[0].message, "this ptgt was built without DPDK");
    }
    let without = wrong(&port(r#"driver = "dpdk", mtu = 9701"#));
    assert!(without.iter().any(|e| e.key == "port[0].device"), "{without:?}");
}

#[test]
fn all_that_is_wrong_is_told_at_once() {
    let text = include_str!("tests/wrong.toml");
    let told = render(Path::new("wrong.toml"), text, &wrong(text));
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/control/config/tests/wrong.txt");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&golden, &told).unwrap();
    }
    assert_eq!(told, std::fs::read_to_string(&golden).unwrap());
}

#[test]
fn errors_of_syntax_have_a_place() {
    let found = wrong("[daemon]\nlog = info\nspin = \"1us\n[[port]]\n");
    let lines: Vec<usize> = found.iter().map(|d| d.line).collect();
    assert!(lines.contains(&2) && lines.contains(&3), "{found:?}");
}

#[test]
fn an_empty_file_lacks_the_essentials() {
    let keys: Vec<String> = wrong("").into_iter().map(|d| d.key).collect();
    assert_eq!(keys, ["port", "portal", "target"]);
}

#[test]
fn a_file_that_cannot_be_read_is_told() {
    let path = PathBuf::from("/dev/null/x.toml");
    let (text, diagnostics) = load(&path, Scope::File).unwrap_err();
    let told = render(&path, &text, &diagnostics);
    assert!(told.starts_with("/dev/null/x.toml: cannot be read: Not a directory"), "{told}");
}

#[test]
fn what_can_be_had_once_is_had_once() {
    let taps = r#"
[[port]]
name = "a"
driver = "tap"
device = "ptgt0"
address = ["10.1.0.1/24"]
[[port]]
name = "b"
driver = "tap"
device = "ptgt0"
address = ["10.1.0.1/24"]
[[portal]]
name = "p"
port = "b"
address = "10.1.0.2:3260"
[[portal]]
name = "q"
port = "b"
address = "10.1.0.1:3260"
[[portal]]
name = "r"
port = "a"
address = "10.1.0.1:3260"
[[disk]]
name = "x"
store = "file"
path = "../disks/x"
[[disk]]
name = "y"
store = "file"
path = "/etc/ptgt/../disks/x"
[[target]]
name = "iqn.2026-11.test:t"
"#;
    let found: Vec<(usize, String)> = wrong(taps).into_iter().map(|d| (d.line, d.message)).collect();
    let wanted = [
        (7, "10.1.0.1 is already an address of the port \"a\""),
        (7, "device \"ptgt0\" already belongs to the port \"a\""),
        (15, "10.1.0.2 is not an address of the port \"b\""),
        (20, "10.1.0.1:3260 already belongs to the portal \"q\" (line 16)"),
        (28, "/etc/ptgt/../disks/x already belongs to the disk \"x\" (line 24)"),
    ];
    assert_eq!(found, wanted.map(|(line, message)| (line, message.to_owned())));
}

#[test]
fn a_library_has_drives_of_its_own() {
    let tapes = "[[tape]]\nname = \"t\"\n[[tape]]\nname = \"u\"\n[[tape]]\nname = \"v\"\nstore = \"ram\"\nsize = \"8MiB\"\n";
    let library = |name: &str, drives: &str| {
        format!("[[library]]\nname = \"{name}\"\ncartridges = \"c\"\ndrives = {drives}\n")
    };
    let with = |libraries: &str| format!("{MINIMAL}\n{tapes}{libraries}");
    parse(&with(&library("l", r#"["u", "t"]"#)), Path::new("")).unwrap();
    let told =
        |libraries: &str| -> Vec<String> { wrong(&with(libraries)).into_iter().map(|d| d.message).collect() };
    for (drives, why) in [
        (r#"["x"]"#, "there is no drive \"x\""),
        (r#"["v"]"#, "the drive \"v\" has a `store`"),
        (r#"["l"]"#, "library \"l\" is no drive"),
    ] {
        assert_eq!(told(&library("l", drives)), [why]);
    }
    let twice = told(&library("l", r#"["t", "t"]"#));
    assert!(twice.contains(&"\"t\" is there twice".to_owned()), "{twice:?}");
    let two = library("l", r#"["t"]"#) + &library("m", r#"["u", "t"]"#);
    assert_eq!(told(&two), ["the drive \"t\" is already in the library \"l\""]);
}

#[test]
fn elements_of_a_library_have_room_beside_each_other() {
    let told = |keys: &str| {
        let library = format!("{MINIMAL}\n[[library]]\nname = \"l\"\ncartridges = \"c\"\n{keys}\n");
        let wrong = parse(&library, Path::new("")).err().unwrap_or_default();
        wrong.into_iter().map(|d| (d.key, d.message)).collect::<Vec<_>>()
    };
    assert_eq!(told("personality = \"hp-msl6000\"\nslots = 416\nimport_export = 32"), []);
    assert_eq!(told("first_slot = 7\nfirst_import_export = 27\nimport_export = 5"), []);
    for keys in [
        "personality = \"hp-msl6000\"\nslots = 417\nimport_export = 1",
        "first_slot = 8\nfirst_import_export = 27\nimport_export = 1",
        "first_slot = 1",
        "first_slot = 65520\nslots = 17",
    ] {
        let found = told(keys);
        assert!(
            matches!(&found[..], [(key, why)] if key == "library[0].slots" && why.contains("do not fit")),
            "{found:?}"
        );
    }
    assert_eq!(told("personality = \"ibm\"").len(), 1);
}

/// Replaces a part of the minimal configuration; tells the key and the message of each error.
fn changed(from: &str, to: &str) -> Vec<(String, String)> {
    assert!(MINIMAL.contains(from), "{from}");
    wrong(&MINIMAL.replace(from, to)).into_iter().map(|d| (d.key, d.message)).collect()
}

#[test]
fn names_of_targets_follow_the_rfc() {
    let good = [
        "iqn.2001-04.com.example:storage:diskarrays-sn-a8675309",
        "iqn.2001-04.com.example",
        "eui.02004567A425678D",
        "naa.52004567BA64678D",
        "naa.62004567BA64678D0123456789ABCDEF",
        "IQN.2001-04.com.Example:Disk",
    ];
    for name in good {
        let config = parse(&MINIMAL.replace("iqn.2026-11.test:t", name), Path::new("")).expect(name);
        assert_eq!(iscsi(&config).targets[0].name, name.to_ascii_lowercase());
    }
    let long = format!("iqn.2001-04.com.example:{}", "x".repeat(200));
    let bad = [
        ("disk", "begins with"),
        ("iqn.2001-13.com.example", "a month"),
        ("iqn.201-01.com.example", "a month"),
        ("iqn.2001-04", "a domain"),
        ("iqn.2001-04.com..example:a", "a domain"),
        ("iqn.2001-04.-com:a", "a domain"),
        ("iqn.2001-04.com.example:a b", "other characters"),
        ("iqn.2001-04.com.example:a_b", "other characters"),
        ("eui.02004567A425678", "16 hexadecimal"),
        ("naa.52004567BA64678G", "16 or 32"),
        (&long[..], "longer than 223"),
    ];
    for (name, why) in bad {
        let found = changed("iqn.2026-11.test:t", name);
        assert!(found.len() == 1 && found[0].1.contains(why), "{name}: {found:?}");
    }
}

/// Portals in a configuration with two ports of the host and one with frames; tells what is wrong with the last of
/// them.
fn portals(portals: &[(&str, &str)]) -> Vec<(usize, String)> {
    let mut text = String::from(
        "target = [{ name = \"iqn.2026-11.test:t\" }]
port = [{ name = \"host\", driver = \"kernel\" }, { name = \"more\", driver = \"kernel\" }, \
{ name = \"tap\", driver = \"tap\", address = [\"10.1.0.1/24\", \"fe80::2/64\"] }]
",
    );
    for (name, (port, address)) in portals.iter().enumerate() {
        text += &format!("[[portal]]\nname = \"{name}\"\nport = \"{port}\"\naddress = \"{address}\"\n");
    }
    match parse(&text, Path::new("")) {
        Ok(_) => Vec::new(),
        Err(found) => found.into_iter().map(|d| (d.line, format!("{} {}", d.message, d.help))).collect(),
    }
}

/// Whatever two addresses are written like: they are of two portals if no connection could be of both, and else both
/// are named.
#[test]
fn no_connection_is_of_two_portals() {
    // What is in one row overlaps with the others there, and with nothing of other rows.
    let rows: [&[(&str, &str)]; 9] = [
        &[("host", "0.0.0.0:3260"), ("host", "127.0.0.1:3260"), ("more", "0.0.0.0:3260")],
        &[("host", "[::]:3260"), ("host", "[::1]:3260"), ("more", "[0::0]:3260")],
        &[("host", "10.2.0.1:3261"), ("more", "[::ffff:10.2.0.1]:3261"), ("host", "[::ffff:a02:1]:3261")],
        &[("host", "10.2.0.2:3261"), ("host", "10.2.0.2:3261")],
        &[("host", "[2001:db8::1]:3261"), ("more", "[2001:DB8:0::0:1]:3261")],
        &[("host", "[fe80::1%lo]:3261"), ("host", "[fe80:0::1%1]:3261"), ("host", "[::]:3261")],
        &[("host", "[::ffff:0.0.0.0]:3262"), ("more", "127.0.0.1:3262")],
        &[("tap", "10.1.0.1:3260"), ("tap", "[::ffff:10.1.0.1]:3260")],
        &[("tap", "[fe80::2]:3260")],
    ];
    let all = || rows.iter().enumerate().flat_map(|(row, them)| them.iter().map(move |it| (row, *it)));
    for ((row, one), (other, two)) in all().flat_map(|one| all().map(move |two| (one, two))) {
        let apart = row != other && ![one, two].contains(&("host", "[::]:3261"));
        if apart {
            assert_eq!(portals(&[one, two]), [], "{one:?} {two:?}");
        } else if row == other {
            let found = portals(&[one, two]);
            let both = found.len() == 1 && found[0].0 == 7 && found[0].1.contains("\"0\" (line 3)");
            assert!(both, "{one:?} {two:?}: {found:?}");
        }
    }
    assert_eq!(portals(&[("host", "[::]:3261"), ("host", "[2001:db8::1]:3261")]).len(), 1);
}

#[test]
fn a_link_local_address_of_the_host_names_its_link() {
    for (port, address, why) in [
        (
            "host",
            "[fe80::1]:3260",
            "fe80::1 is link-local, but its link is not named name its network device, \
          as in \"[fe80::1%eth0]:3260\"",
        ),
        ("host", "[fe80::1%nosuch0]:3260", "there is no network device \"nosuch0\" ip link lists them"),
        ("host", "[fe80::1%4000000000]:3260", "there is no network device \"4000000000\" ip link lists them"),
        ("host", "[2001:db8::1%lo]:3260", "2001:db8::1 is not link-local leave out what is behind '%'"),
        ("host", "[::%lo]:3260", ":: is not link-local leave out what is behind '%'"),
        (
            "tap",
            "[fe80::2%lo]:3260",
            "fe80::2 has a zone the port \"tap\" is its link: leave out what is behind '%'",
        ),
        (
            "host",
            "10.1.0.1:3261",
            "10.1.0.1 is an address of the port \"tap\", not of the host give port = \"tap\"",
        ),
        ("tap", "[::]:3260", ":: is not an address of the port \"tap\" its addresses are 10.1.0.1, fe80::2"),
    ] {
        assert_eq!(portals(&[(port, address)]), [(6, why.to_owned())], "{address}");
    }
    for address in ["10.2.0.1%lo:3260", "[fe80::1%lo", "[fe80::1]%lo:3260", "[fe80::1%lo]:0"] {
        let found = portals(&[("host", address)]);
        assert!(found.len() == 1 && found[0].1.contains("is not allowed"), "{address}: {found:?}");
    }
    let text = MINIMAL.replace("[::]:3260", "[fe80::1%lo]:3260");
    let config = parse(&text, Path::new("")).unwrap();
    let std::net::SocketAddr::V6(address) = iscsi(&config).portals[0].address else { panic!("of IPv6") };
    assert_eq!((address.scope_id(), address.port()), (1, 3260), "the loopback device is the first");
    // A redirection is read by others, to whom a zone of ours means nothing.
    for (address, good) in [("[fe80::1]:3260", true), ("[fe80::1%lo]:3260", false)] {
        let redirect = format!("name = \"iqn.2026-11.test:t\", redirect = [{{ address = \"{address}\" }}]");
        let text = MINIMAL.replace("name = \"iqn.2026-11.test:t\"", &redirect);
        assert_eq!(parse(&text, Path::new("")).is_ok(), good, "{address}");
    }
}

#[test]
fn one_thing_at_a_time() {
    let cases = [
        ("1_048_576", "\"1 MIB\"", "disk[0].size", "is not a size"),
        ("1_048_576", "-1", "disk[0].size", "is not a size"),
        ("1_048_576", "4097", "disk[0].size", "is not a multiple of 4096 bytes"),
        ("1_048_576", "\"99999999999999TiB\"", "disk[0].size", "is not a size"),
        ("1_048_576", "\"2EiB\"", "disk[0].size", "is out of range"),
        ("1_048_576", "1.5", "disk[0].size", "is a number with a point"),
        ("[::]:3260", "[::]:0", "portal[0].address", "\"[::]:0\" is not allowed"),
        ("[::]:3260", "ff02::1", "portal[0].address", "\"ff02::1\" is not allowed"),
        ("lun = 9", "lun = 0", "target[0].luns[1].lun", "is taken"),
        ("lun = 9", "lun = 16384", "target[0].luns[0].lun", "16384 is out of range"),
        ("disk = \"f\"", "disk = \"d\"", "target[0].luns[1].disk", "is in the list twice"),
        ("disk = \"f\"", "unit = \"d\"", "target[0].luns[1].disk", "is in the list twice"),
        ("disk = \"f\"", "unit = \"x\"", "target[0].luns[0].unit", "there is no logical unit \"x\""),
        (
            "disk = \"f\"",
            "disk = \"f\", unit = \"f\"",
            "target[0].luns[0].disk",
            "is another spelling of `unit`",
        ),
        ("lun = 9, disk = \"f\"", "lun = 9", "target[0].luns[0].unit", "is missing"),
        (
            "luns = [{ lun = 9",
            "port_ids = [{ group = 2, id = 1 }], luns = [{ lun = 9",
            "target[0].port_ids[0].group",
            "the target has no portal of the group 2",
        ),
        (
            "luns = [{ lun = 9",
            "port_ids = [{ group = 1, id = 1 }, { group = 1, id = 2 }], luns = [{ lun = 9",
            "target[0].port_ids[1].group",
            "is in the list twice",
        ),
        ("path = \"f.img\"", "", "disk[1].path", "is missing"),
        ("path = \"f.img\"", "path = \"\"", "disk[1].path", "is empty"),
        ("path = \"f.img\"", "path = \"f.img\", size = 0", "disk[1].size", "is out of range"),
        (
            "path = \"f.img\"",
            "path = \"f.img\", create = true",
            "disk[1].create",
            "has no effect without `size`",
        ),
        ("size = 1_048_576", "size = 4096, create = true", "disk[0].create", "does not apply here"),
        ("size = 1_048_576", "", "disk[0].size", "is missing"),
        ("size = 1_048_576", "size = 4096, path = \"x\"", "disk[0].path", "does not apply here"),
        ("\"kernel\"", "\"kernel\", mtu = 1500", "port[0].mtu", "does not apply here"),
        ("\"kernel\"", "\"tap\"", "portal[0].address", ":: is not an address of the port \"p\""),
        (
            "path = \"f.img\"",
            "path = \"f.img\", faults = [{ lba = 1 }]",
            "disk[1].faults[0].error",
            "the rule does nothing",
        ),
        (
            "path = \"f.img\"",
            "path = \"f.img\", faults = [{ error = \"medum\" }]",
            "disk[1].faults[0].error",
            "\"medum\" is unknown",
        ),
        (
            "path = \"f.img\"",
            "path = \"f.img\", command_faults = [{ command = \"WRITE(11)\", answer = \"busy\" }]",
            "disk[1].command_faults[0].command",
            "\"WRITE(11)\" is not a command of a disk",
        ),
        (
            "path = \"f.img\"",
            "path = \"f.img\", command_faults = [{ command = \"0xc1\", answer = \"busy\" }]",
            "disk[1].command_faults[0].command",
            "\"0xc1\" is not a command of a disk",
        ),
        (
            "path = \"f.img\"",
            "path = \"f.img\", command_faults = [{ command = \"0x2a\", answer = \"b/47\" }]",
            "disk[1].command_faults[0].answer",
            "\"b/47\" is not allowed",
        ),
        (
            "path = \"f.img\"",
            "path = \"f.img\", command_faults = [{ command = \"0x2a\" }]",
            "disk[1].command_faults[0].answer",
            "the rule does nothing",
        ),
    ];
    for (from, to, key, message) in cases {
        assert_eq!(changed(from, to), [(key.to_owned(), message.to_owned())], "{to}");
    }
}

proptest! {
    /// Whatever stands in a file, each diagnostic names a place that is there.
    #[test]
    fn no_text_makes_the_loader_panic(
        cuts in prop::collection::vec((any::<prop::sample::Index>(), 0..40_usize, "[ -~\n]{0,8}|\\PC{0,3}"), 1..8),
    ) {
        let mut text = reference();
        for (at, len, put) in cuts {
            let from = text.floor_char_boundary(at.index(text.len() + 1));
            let to = text.floor_char_boundary((from + len).min(text.len()));
            text.replace_range(from..to, &put);
        }
        if let Err(found) = parse(&text, Path::new("/etc")) {
            prop_assert!(!found.is_empty());
            let lines = text.split('\n').count();
            for d in &found {
                prop_assert!((1..=lines).contains(&d.line) && d.column >= 1 && d.width >= 1, "{:?}", d);
            }
            render(Path::new("x"), &text, &found);
        }
    }

    /// Values of any type at any key.
    #[test]
    fn no_value_makes_the_loader_panic(
        line in any::<prop::sample::Index>(),
        value in prop::sample::select(vec![
            "1", "-9223372036854775808", "0xffff_ffff_ffff_ffff", "1.5", "nan", "true", "\"\"", "\"\u{1f980}\"",
            "[]", "[[]]", "[1, \"a\"]", "{}", "{ a = 1 }", "1979-05-27", "\"18446744073709551615TiB\"", "\"1 s\"",
        ]),
    ) {
        let text = reference();
        let keys: Vec<&str> = text.lines().filter(|line| line.contains(" = ") && !line.starts_with('#')).collect();
        let old = keys[line.index(keys.len())];
        let name = old.split(' ').next().unwrap_or_default();
        let text = text.replacen(&format!("\n{old}\n"), &format!("\n{name} = {value}\n"), 1);
        if let Err(found) = parse(&text, Path::new("/etc")) {
            prop_assert!(!found.is_empty());
            render(Path::new("x"), &text, &found);
        }
    }
}
