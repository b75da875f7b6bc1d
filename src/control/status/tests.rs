// SPDX-License-Identifier: GPL-2.0-or-later
//! A status with everything in it, as JSON and as text.

use super::*;
use crate::adapters::iscsi::status::{
    ConnectionStatus, ExportedUnit, IscsiStatus, PortalStatus, SessionStatus, TargetStatus,
};
use crate::control::output;
use crate::devices::sbc::DiskReport;
use crate::wire::tests::{HOSTILE, is_clean};

pub(in crate::control) fn sample() -> Status {
    let arena =
        ArenaCounters { bytes: 256 << 20, in_use_bytes: 3 << 19, in_use_max_bytes: 64 << 20, refused: 0 };
    let memory = Memory { counters: arena, pages: Pages::Huge };
    let reactor = |reactor, processor, busy_share, turns| Reactor {
        reactor,
        processor,
        busy_share,
        asleep_share: 0.5,
        counters: LoopCounters { turns, busy_ns: 1_500_000_000 },
        busy_seconds: 1.5,
        serves: CoreCounters { sessions: 1, ..CoreCounters::default() },
        peers: PeerCounters::default(),
        memory: memory.clone(),
    };
    let counters = UnitCounters {
        reads: 120,
        read_bytes: 1_048_576,
        writes: 7,
        write_bytes: 3584,
        others: 12,
        errors: 1,
        aborts: 0,
    };
    let disk = |name: &str, store: &str, size_bytes, read_only, counters| UnitStatus {
        kind: DISK.into(),
        name: name.into(),
        store: store.into(),
        size_bytes,
        medium: None,
        block_bytes: 512,
        read_only,
        state: UnitDetails { fault_rules: 0, device: Map::from_iter([("medium".into(), "ready".into())]) },
        reservations: Reservations::default(),
        port_groups: Vec::new(),
        counters,
        latencies: Vec::new(),
    };
    let mut thin = disk("thin0", "file", 1 << 30, false, counters);
    let report = DiskReport {
        medium: "ejected".into(),
        removable: true,
        write_cache: false,
        write_protected: true,
        modes_saved: true,
        used_bytes: Some(5 << 20),
        available_bytes: Some(9 << 20),
        threshold_bytes: Some(10 << 20),
    };
    let Value::Object(device) = serde_json::to_value(report).unwrap() else { panic!("no object") };
    thin.state = UnitDetails { fault_rules: 2, device };
    thin.latencies = vec![Latency {
        kind: "read".into(),
        stage: "total".into(),
        count: 120,
        sum_ns: 3_000_000,
        max_ns: 150_000,
        quantiles_ns: [("p50", 18_432), ("p90", 36_864), ("p99", 147_456), ("p99.9", 150_000)]
            .map(|(name, ns)| (name.into(), ns))
            .into(),
        buckets: vec![(18_432, 100), (36_864, 15), (147_456, 5)],
    }];
    thin.reservations = Reservations {
        kind: Some("write exclusive, registrants only".into()),
        generation: 3,
        persists: true,
        reserved: false,
        registrations: vec![
            Registration {
                initiator: "iqn.2026-11.test:initiator,i,0x00023d000001".into(),
                target_port: Some("iqn.2026-11.test:a,t,0x0001".into()),
                key: "0xabc".into(),
                holder: true,
            },
            Registration {
                initiator: "iqn.2026-11.test:other,i,0x00023d000001".into(),
                target_port: None,
                key: "0x1".into(),
                holder: false,
            },
        ],
    };
    thin.port_groups = vec![PortGroup {
        group: 1,
        state: "standby".into(),
        preferred: true,
        target_ports: vec!["iqn.2026-11.test:a,t,0x0001".into()],
    }];
    let session = |target: Option<&str>, tsih, reactor| SessionStatus {
        initiator: "iqn.2026-11.test:initiator".into(),
        target: target.map(str::to_owned),
        user: target.map(|_| "alice".into()),
        isid: "00023d000001".into(),
        tsih,
        reactor,
        connections: vec![ConnectionStatus {
            cid: 1,
            portal: "main".into(),
            local: "10.77.0.2:3260".into(),
            peer: format!("10.77.0.1:{}", 40_000 + tsih),
            negotiated: [
                ("TaskReporting", "RFC3720"),
                ("HeaderDigest", "None"),
                ("InitialR2T", "No"),
                ("MaxBurstLength", "512"),
            ]
            .map(|(key, value)| (key.into(), value.into()))
            .into(),
            in_flight: 3,
            counters: [("pdus_in".into(), 130)].into(),
        }],
    };
    let target = |name: &str, alias: Option<&str>, luns| TargetStatus {
        name: name.into(),
        alias: alias.map(str::to_owned),
        portals: vec![PortalStatus {
            name: "main".into(),
            address: "10.77.0.2:3260".into(),
            group: 1,
            down: name.ends_with('b'),
        }],
        luns,
    };
    let iscsi = IscsiStatus {
        targets: vec![
            target(
                "iqn.2026-11.test:a",
                Some("lab"),
                vec![
                    ExportedUnit { lun: 0, disk: "thin0".into() },
                    ExportedUnit { lun: 12, disk: "r".into() },
                ],
            ),
            target("iqn.2026-11.test:b", None, Vec::new()),
        ],
        sessions: Some(vec![session(Some("iqn.2026-11.test:a"), 1, 0), session(None, 2, 2)]),
    };
    Status {
        version: "1.2.3".into(),
        uptime_seconds: 3725,
        state: State::Running,
        reactors: vec![reactor(0, Some(2), 0.254, 123_456_789), reactor(2, None, 0.0, 7)],
        silent_reactors: vec![1],
        ports: vec![Port {
            name: "lab0".into(),
            driver: "tap".into(),
            counters: [("frames_in".into(), 1000), ("frames_out".into(), 900), ("refused".into(), 0)].into(),
        }],
        disks: vec![thin, disk("r", "ram", 256 << 20, true, UnitCounters::default())],
        units: Vec::new(),
        fabrics: iscsi.into_map(),
    }
}

#[test]
fn json_keeps_everything() {
    let status = sample();
    let text = serde_json::to_string(&status).unwrap();
    assert_eq!(serde_json::from_str::<Status>(&text).unwrap(), status);
    assert!(text.contains(r#""state":"running""#) && text.contains(r#""pages":"huge""#), "{text}");
}

#[test]
fn text_is_aligned() {
    let wanted = "\
ptgt 1.2.3, running, up 1 h 2 min
reactor 1 does not answer: its share is missing from what follows

REACTOR  PROCESSOR  BUSY  ASLEEP      TURNS   MEMORY   IN USE    MOST  REFUSED  PAGES
      0          2   25%     50%  123456789  256 MiB  1.5 MiB  64 MiB        0   huge
      2        any    0%     50%          7  256 MiB  1.5 MiB  64 MiB        0   huge

Port lab0 (tap)
  frames_in 1000, frames_out 900

DISK   STORE              SIZE  BLOCK  READS   READ  WRITES  WRITTEN  OTHERS  ERRORS  ABORTS
thin0  file              1 GiB    512    120  1 MiB       7  3.5 KiB      12       1       0
r      ram, read-only  256 MiB    512      0    0 B       0      0 B       0       0       0

DISK   COMMANDS  WAITED FOR  COUNT  MEAN US   P50   P90    P99  P99.9    MAX
thin0  read      all           120     25.0  18.4  36.9  147.5  150.0  150.0

Disk thin0
  medium: ejected
  write-protected by an initiator
  mode pages saved by an initiator; write cache off
  only 9 MiB left on its file system, less than 10 MiB
  injects faults, by 2 rules
  reservation: write exclusive, registrants only, survives a restart
  key 0xabc of iqn.2026-11.test:initiator,i,0x00023d000001 at iqn.2026-11.test:a,t,0x0001, holder
  key 0x1 of iqn.2026-11.test:other,i,0x00023d000001 at all ports
  port group 1: standby, preferred

Target iqn.2026-11.test:a (lab)
  at 10.77.0.2:3260 (portal main, group 1)
  LUN 0: thin0
  LUN 12: r
  session of iqn.2026-11.test:initiator (account \"alice\", ISID 00023d000001, TSIH 1) on reactor 0
    10.77.0.1:40001 -> 10.77.0.2:3260 (portal main), 3 commands in flight
      HeaderDigest=None, InitialR2T=No, MaxBurstLength=512
      TaskReporting=RFC3720

Target iqn.2026-11.test:b
  at 10.77.0.2:3260 (portal main, group 1): down, its device is gone
  no sessions

Discovery sessions
  session of iqn.2026-11.test:initiator (ISID 00023d000001, TSIH 2) on reactor 2
    10.77.0.1:40002 -> 10.77.0.2:3260 (portal main), 3 commands in flight
      HeaderDigest=None, InitialR2T=No, MaxBurstLength=512
      TaskReporting=RFC3720
";
    assert_eq!(render(&sample()), wanted);
}

/// Without sessions there are none in the JSON, and nothing is said of them.
#[test]
fn sessions_that_were_not_asked_for_are_not_told() {
    let mut status = sample();
    status.fabrics.remove("sessions");
    let text = serde_json::to_string(&status).unwrap();
    assert_eq!(serde_json::from_str::<Status>(&text).unwrap(), status);
    assert!(!text.contains(r#""connections""#), "{text}");
    let said = render(&status);
    assert!(said.contains("LUN 12: r\n") && !said.contains("session"), "{said}");
}

/// Whatever text a status has, and wherever: a field that is added is looked at as well.
#[test]
fn no_text_of_a_status_reaches_a_terminal_as_it_is() {
    fn spoil(value: Value, text: &str, spoilt: &mut usize) -> Value {
        match value {
            // A state is one of a few words.
            Value::String(word) if word != "running" && word != "huge" => {
                *spoilt += 1;
                text.into()
            }
            Value::Array(list) => list.into_iter().map(|value| spoil(value, text, spoilt)).collect(),
            Value::Object(map) => {
                map.into_iter().map(|(key, value)| (key, spoil(value, text, spoilt))).collect()
            }
            plain => plain,
        }
    }
    for (text, shown) in HOSTILE {
        let mut spoilt = 0;
        let value = spoil(serde_json::to_value(sample()).unwrap(), text, &mut spoilt);
        assert!(spoilt > 40, "{spoilt} texts in the sample");
        let mut status: Status = serde_json::from_value(value).unwrap();
        // What is a key in JSON is text, too.
        status.ports[0].counters = [((*text).to_owned(), 1)].into();
        let negotiated = &mut status.fabrics["sessions"][0]["connections"][0]["negotiated"];
        *negotiated = Map::from_iter([((*text).to_owned(), (*text).into())]).into();
        let said = render(&status);
        assert!(is_clean(said.as_bytes()), "{said:?}");
        assert!(said.contains(shown) && !said.contains("\n<0>"), "{said:?}");
        for indented in [false, true] {
            let said = output::json(&status, indented);
            assert!(is_clean(said.as_bytes()), "{said:?}");
            assert_eq!(serde_json::from_str::<Status>(&said).unwrap(), status);
        }
    }
}
