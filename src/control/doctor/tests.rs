// SPDX-License-Identifier: GPL-2.0-or-later
//! Machines made of a few files.

use std::fs;
use std::path::{Path, PathBuf};

use super::*;
use crate::control::config::parse;

/// A directory that is gone afterwards.
struct Tree(PathBuf);

impl Drop for Tree {
    fn drop(&mut self) {
        _ = fs::remove_dir_all(&self.0);
    }
}

fn tree(name: &str, files: &[(&str, &str)]) -> Tree {
    let root = std::env::temp_dir().join(format!("ptgt-doctor-{name}-{}", std::process::id()));
    for (path, text) in files {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    Tree(root)
}

fn config(port: &str) -> Config {
    let text = format!(
        r#"
daemon = {{ reactors = [0, 2], memory = "64MiB", hugepages = "require", idle = "spin" }}
port = [{{ name = "p", {port} }}]
portal = [{{ name = "l", port = "p", address = "10.1.0.1:3260" }}]
disk = [{{ name = "d", store = "ram", size = "32MiB" }}]
target = [{{ name = "iqn.2026-11.test:t", luns = [{{ lun = 0, disk = "d" }}] }}]
"#
    );
    parse(&text, Path::new("")).unwrap()
}

const CPU: &str = "sys/devices/system/cpu";
const NODE: &str = "sys/devices/system/node";

fn two_nodes(free: [&str; 2]) -> Vec<(String, String)> {
    let pair = |path: String, text: &str| (path, text.to_owned());
    let pages = |node| format!("{NODE}/node{node}/hugepages/hugepages-2048kB/free_hugepages");
    vec![
        pair(format!("{CPU}/online"), "0-3\n"),
        pair(format!("{CPU}/isolated"), "2-3\n"),
        pair(format!("{CPU}/cpu0/cpufreq/scaling_governor"), "powersave\n"),
        pair(format!("{CPU}/cpu2/cpufreq/scaling_governor"), "performance\n"),
        pair(format!("{NODE}/online"), "0-1\n"),
        pair(format!("{NODE}/node0/cpulist"), "0-1\n"),
        pair(format!("{NODE}/node1/cpulist"), "2-3\n"),
        pair(pages(0), free[0]),
        pair(pages(1), free[1]),
        pair("proc/self/status".into(), "Name:\tx\nCapEff:\t0000000000002000\n"),
        pair("proc/self/limits".into(), "Max locked memory         8388608   8388608   bytes\n"),
    ]
}

fn look(name: &str, files: &[(String, String)], port: &str) -> DoctorReport {
    let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (&path[..], &text[..])).collect();
    let tree = tree(name, &files);
    examine(&Machine::at(&tree.0), &config(port), Asker::Daemon)
}

fn of<'a>(report: &'a DoctorReport, what: &str) -> (&'a str, Verdict) {
    let check = report.checks.iter().find(|check| check.what == what);
    let check = check.unwrap_or_else(|| panic!("{what}: {report:?}"));
    (&check.found, check.verdict)
}

#[test]
fn processors_and_pages_are_looked_at_node_by_node() {
    let port = r#"driver = "packet", device = "e0", address = ["10.1.0.1/24"]"#;
    let report = look("nodes", &two_nodes(["48\n", "31\n"]), port);
    assert_eq!(of(&report, "processor 0"), ("shared with everything else", Verdict::Slower));
    assert_eq!(of(&report, "processor 2"), ("isolated", Verdict::Good));
    assert_eq!(of(&report, "governor of processor 0").1, Verdict::Slower);
    assert_eq!(of(&report, "governor of processor 2").1, Verdict::Good);
    // 64 MiB each, and the disk of 32 MiB beside the first.
    let wanted = [NodePages { node: 0, free: 48, wanted: 48 }, NodePages { node: 1, free: 31, wanted: 32 }];
    assert_eq!(report.huge_pages, wanted);
    assert_eq!(of(&report, "huge pages of 2 MiB on node 0").1, Verdict::Good);
    assert_eq!(of(&report, "huge pages of 2 MiB on node 1"), ("31 free", Verdict::Fails));
    // Bit 13 of the capabilities is there; the device is not.
    assert_eq!(of(&report, "CAP_NET_RAW"), ("there", Verdict::Good));
    assert_eq!(of(&report, "port \"p\""), ("e0 is not there", Verdict::Fails));
    assert_eq!(report.verdict(), Verdict::Fails);
    let text = report.render();
    assert!(text.contains("FAILS   huge pages of 2 MiB on node 1: 31 free\n        wanted: 32\n"), "{text}");
}

/// The processors, disks and huge pages of [`config`] on a machine with so much memory.
#[test]
fn memory_that_is_not_there_is_an_obstacle() {
    let port = r#"driver = "packet", device = "e0", address = ["10.1.0.1/24"]"#;
    let with = |name, memory: &str| {
        let mut files = two_nodes(["1000", "1000"]);
        files.push(("proc/meminfo".into(), format!("MemTotal:       {memory} kB\nMemFree: 1 kB\n")));
        look(name, &files, port)
    };
    // Two reactors with 64 MiB and a disk of 32 MiB.
    let enough = with("enough", "163840");
    assert_eq!(of(&enough, "memory"), ("good", Verdict::Good));
    let short = with("short", "163839");
    assert_eq!(of(&short, "memory"), ("159 MiB, but 160 MiB are needed", Verdict::Fails));
    assert!(short.obstacles().any(|check| check.what == "memory"));
    // The network device is not there; that a node lacks pages, and that the user lacks a right, is less certain.
    let all: Vec<&str> = enough.obstacles().map(|check| &check.what[..]).collect();
    assert_eq!(all, ["port \"p\""]);
    let few = look("few", &two_nodes(["63", "0"]), port);
    assert!(few.obstacles().any(|check| check.what.contains("huge pages")), "{few:?}");
}

#[test]
fn what_is_of_no_use_is_told() {
    let text = r#"
port = [{ name = "p", driver = "kernel" }]
portal = [{ name = "l", port = "p", address = "[::]:3260" }]
disk = [{ name = "one", store = "null", size = "1EiB" }, { name = "two", store = "null", size = "1MiB" }, { name = "spare", store = "null", size = "2PiB" }]
target = [{ name = "iqn.2026-11.test:full", luns = [{ lun = 0, unit = "one" }, { lun = 1, unit = "two" }] }, { name = "iqn.2026-11.test:empty" }]
"#;
    let [empty, spare] = &oddities(&parse(text, Path::new("")).unwrap())[..] else { panic!("two oddities") };
    assert!(
        empty.contains("iqn.2026-11.test:empty") && spare.ends_with(": disk \"spare\""),
        "{empty} {spare}"
    );
}

#[cfg(feature = "dpdk")]
#[test]
fn adapters_need_a_driver_an_iommu_and_locked_memory() {
    let port = r#"driver = "dpdk", device = "3b:00.0", address = ["10.1.0.1/24"]"#;
    let device = "sys/bus/pci/devices/0000:3b:00.0";
    let mut files = two_nodes(["1000", "1000"]);
    let missing = look("missing", &files, port);
    assert_eq!(of(&missing, "port \"p\": device 0000:3b:00.0"), ("not there", Verdict::Fails));
    files.push((format!("{device}/numa_node"), "1\n".into()));
    let unbound = look("unbound", &files, port);
    assert_eq!(of(&unbound, "port \"p\": device 0000:3b:00.0"), ("no driver", Verdict::Fails));
    assert_eq!(unbound.devices, [PciDevice { address: "0000:3b:00.0".into(), driver: None, usable: false }]);
    assert_eq!(of(&unbound, "IOMMU for 0000:3b:00.0"), ("off", Verdict::Fails));
    assert_eq!(of(&unbound, "memory that may be locked"), ("8 MiB", Verdict::Fails));
    assert_eq!(of(&unbound, "node of 0000:3b:00.0").1, Verdict::Slower);
    let pages = |report: &DoctorReport, node: usize| report.huge_pages[node].wanted;
    let buffers = config(port).ports[0].options.memory(2).div_ceil(HUGE);
    assert_eq!(
        (pages(&unbound, 0), pages(&unbound, 1)),
        (48, 32 + buffers),
        "frame buffers lie beside the device"
    );
    let tree = tree("bound", &files.iter().map(|(path, text)| (&path[..], &text[..])).collect::<Vec<_>>());
    std::os::unix::fs::symlink("../../drivers/vfio-pci", tree.0.join(device).join("driver")).unwrap();
    fs::create_dir_all(tree.0.join("sys/class/iommu/dmar0")).unwrap();
    let bound = examine(&Machine::at(&tree.0), &config(port), Asker::Daemon);
    assert_eq!(of(&bound, "port \"p\": device 0000:3b:00.0"), ("driver vfio-pci", Verdict::Good));
    assert_eq!(of(&bound, "IOMMU for 0000:3b:00.0"), ("on", Verdict::Good));
    assert!(bound.devices[0].usable);
}
