// SPDX-License-Identifier: GPL-2.0-or-later
//! A name is the same in every spelling, wherever it enters: in the configuration, at login, in SendTargets, in access
//! rules, in TransportIDs.

mod port_ids;

use std::path::Path;

use super::*;
use crate::adapters::fabric::FabricOptions;
use crate::adapters::iscsi::options::IscsiOptions;
use crate::adapters::iscsi::topology::Topology;
use crate::control::config::{Diagnostic, parse};
use crate::fabrics::iscsi::initiator::{Initiator, Packet};
use crate::fabrics::iscsi::{CloseReason, ConnectionOrigin, Event, LoginRequest, Session, Visitor};
use crate::memory::Sg;
use crate::scsi::PortName;
use crate::time::Instant;
use crate::wire::iscsi::pairs;

/// Names of each type, the normal spelling first.
const NAMES: [[&str; 3]; 3] = [
    ["iqn.2026-11.com.example:disks", "IQN.2026-11.COM.EXAMPLE:DISKS", "iqn.2026-11.com.Example:Disks"],
    ["eui.02004567a425678d", "EUI.02004567A425678D", "eui.02004567A425678d"],
    [
        "naa.62004567ba64678d0123456789abcdef",
        "NAA.62004567BA64678D0123456789ABCDEF",
        "naa.62004567BA64678d0123456789abcdef",
    ],
];

const LOCAL: &str = "192.0.2.1:3260";

/// A target with a rule for one initiator, and one that sends it elsewhere.
fn configured(target: &str, initiator: &str) -> Result<Topology, Vec<Diagnostic>> {
    let rules = format!("access = [{{ initiators = [\"{initiator}\"] }}]");
    let luns = "luns = [{ lun = 0, disk = \"d\" }]";
    let text = format!(
        r#"
        port = [{{ name = "p", driver = "kernel" }}]
        portal = [{{ name = "l", port = "p", address = "{LOCAL}" }}]
        disk = [{{ name = "d", store = "null", size = "1MiB" }}]
        target = [
            {{ name = "{target}", {luns}, {rules} }},
            {{ name = "iqn.2026-11.com.example:moved", {rules}, redirect = [{{ address = "192.0.2.7:3260" }}] }},
        ]"#
    );
    let mut ids = PortIds::default();
    parse(&text, Path::new("/")).map(|config| {
        let iscsi = config.fabric::<IscsiOptions>();
        ids.assign(&iscsi.target_ports()).unwrap();
        iscsi.topology(&KnownKeys { unit: &|_| UnitKey(1), ids: &ids }).unwrap()
    })
}

fn origin() -> ConnectionOrigin {
    let (local, peer) = (LOCAL.parse().unwrap(), "192.0.2.9:40000".parse().unwrap());
    ConnectionOrigin { portal: "l".into(), local, peer }
}

/// A connection, and what comes of what it sends.
struct Wire {
    arena: Arena,
    initiator: Initiator,
    session: Session,
}

impl Wire {
    fn new() -> Self {
        let arena = Arena::new(4 << 20, false).unwrap();
        let (session, _) = Session::new(Arc::default(), arena.clone(), origin(), Instant::ZERO);
        Self { arena, initiator: Initiator::new(), session }
    }

    fn send(&mut self, topology: &Topology, packet: &Packet) -> (Vec<Event>, Vec<Packet>) {
        let key = self.session.connections().next().unwrap().0;
        let bytes = Sg::copied(&self.arena, &packet.encode(Default::default())).unwrap();
        let mut segs = bytes.segs().iter().cloned();
        self.session.receive(key, Instant::ZERO, topology, &mut 100, || segs.next());
        let mut events = Vec::new();
        while let Some(event) = self.session.poll_event() {
            if let Event::LoginWanted(key, _) = event {
                self.session.accept_login(key, crate::scsi::NexusId::of(1), 1, 1, Default::default());
            }
            events.push(event);
        }
        let mut answers = Vec::new();
        while let Some(pdu) = self.session.poll_transmit(key) {
            answers.extend(self.initiator.take(&pdu.to_vec()));
        }
        (events, answers)
    }

    fn login(&mut self, topology: &Topology, keys: &[(&str, &str)]) -> (Vec<Event>, Vec<Packet>) {
        let login = self.initiator.login(1, Some(3), keys);
        self.send(topology, &login)
    }
}

fn names_told(packet: &Packet) -> Vec<String> {
    let all = pairs(&packet.data).map(Result::unwrap);
    all.filter(|pair| pair.key == "TargetName").map(|pair| pair.value.to_owned()).collect()
}

#[test]
fn a_name_is_the_same_in_every_spelling_wherever_it_enters() {
    // Of each type with one of another.
    for (i, [target, other_target, mixed_target]) in NAMES.into_iter().enumerate() {
        let [initiator, other_initiator, mixed_initiator] = NAMES[(i + 1) % NAMES.len()];
        let begins = format!("{}*", &mixed_initiator[..mixed_initiator.len() - 3]);
        for in_config in [target, other_target, mixed_target] {
            for in_rule in [initiator, other_initiator, mixed_initiator, &begins] {
                let topology = configured(in_config, in_rule).unwrap();
                assert_eq!(topology.targets[0].ports[0].device, target);
                for to in [target, other_target, mixed_target] {
                    for from in [initiator, other_initiator, mixed_initiator] {
                        enter(&topology, (target, to), (initiator, from));
                    }
                }
            }
        }
    }
}

/// Names as they are compared, and as an initiator says them.
fn enter(topology: &Topology, (target, to): (&str, &str), (initiator, from): (&str, &str)) {
    let me = ("InitiatorName", from);
    let (events, _) = Wire::new().login(topology, &[me, ("TargetName", to)]);
    let [Event::LoginWanted(_, LoginRequest { initiator: who, target: Some(whom), isid, .. })] = &events[..]
    else {
        panic!("{from} at {to}: {events:?}");
    };
    assert_eq!((&who[..], &whom[..]), (initiator, target));
    let origin = origin();
    let visitor = Visitor { initiator: who, origin: &origin, user: None };
    assert_eq!(topology.target(whom).unwrap().units(&visitor).len(), 1, "the logical unit is seen");
    // Reservations.
    let port = PortName::iscsi_initiator(who, *isid);
    assert_eq!(PortName::iscsi_initiator(from, *isid), port);
    let mut bytes = port.transport_id().as_bytes().to_vec();
    bytes[4..4 + from.len()].copy_from_slice(from.as_bytes());
    assert_eq!(PortName::from_transport_id(&bytes), Some((port.clone(), bytes.len())));
    assert!(port.to_string().starts_with(initiator));
    // Discovery, of all and by name.
    let mut wire = Wire::new();
    wire.login(topology, &[me, ("SessionType", "Discovery")]);
    for (asked, told) in [("All", 2), (to, 1)] {
        let text = wire.initiator.text(format!("SendTargets={asked}\0").as_bytes());
        let (_, answers) = wire.send(topology, &text);
        assert_eq!(names_told(&answers[0])[..], [target, "iqn.2026-11.com.example:moved"][..told]);
    }
    // A redirection, and an initiator that no rule names.
    let (events, _) = Wire::new().login(topology, &[me, ("TargetName", "iqn.2026-11.com.example:MOVED")]);
    let moved = |event: &Event| {
        matches!(event, Event::Closed { reason: CloseReason::LoginRefused(status, _), .. }
        if *status as u16 == 0x0101)
    };
    assert!(events.iter().any(moved), "{events:?}");
}

#[test]
fn targets_differ_in_more_than_their_spelling() {
    for [name, other, mixed] in NAMES {
        for twice in [other, mixed] {
            let text = format!("target = [{{ name = \"{name}\" }}, {{ name = \"{twice}\" }}]");
            let found = parse(&text, Path::new("/")).unwrap_err();
            let taken = format!("{name:?} is taken");
            assert!(found.iter().any(|d| d.key == "target[1].name" && d.message == taken), "{found:?}");
        }
    }
}
