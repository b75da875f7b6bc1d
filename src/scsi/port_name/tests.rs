// SPDX-License-Identifier: GPL-2.0-or-later
//! Names of ports: golden bytes, what is refused, and both ways for any name.

use proptest::prelude::*;

use super::*;
use crate::scsi::TargetPort;

/// The port of that name in Fibre Channel.
pub(crate) fn fc(name: u64) -> PortName {
    PortName::Fc(WorldWideName::new(name.to_be_bytes()))
}

/// One of each protocol.
fn examples() -> [PortName; 4] {
    let srp = 0xfe80_0000_0000_0001_0002_c903_000e_8acd_u128;
    [
        fc(0x2100_0024_ff12_3456),
        PortName::Srp(srp.to_be_bytes()),
        PortName::iscsi_initiator("iqn.2026-11.test:a", [0x80, 1, 2, 3, 4, 0xfe]),
        PortName::Sas(0x5000_c500_1234_5678_u64.to_be_bytes()),
    ]
}

/// A TransportID of 24 bytes: what it begins with, and a name at an offset.
fn plain(first: u8, at: usize, name: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 24];
    bytes[0] = first;
    bytes[at..at + name.len()].copy_from_slice(name);
    bytes
}

/// Any port name, an iSCSI one in any spelling that an initiator may use.
pub(crate) fn any_name() -> impl Strategy<Value = PortName> {
    prop_oneof![
        any::<u64>().prop_map(fc),
        any::<[u8; 16]>().prop_map(PortName::Srp),
        ("[a-zA-Z0-9.:-]{1,223}", any::<[u8; 6]>())
            .prop_map(|(name, isid)| PortName::iscsi_initiator(&name, isid)),
        any::<[u8; 8]>().prop_map(PortName::Sas),
    ]
}

/// SPC-5 7.6.4.2, 7.6.4.5, 7.6.4.6, 7.6.4.7.
#[test]
fn each_protocol_has_its_transport_id() {
    let mut iscsi = vec![0x45, 0, 0, 36];
    iscsi.extend(b"iqn.2026-11.test:a,i,0x8001020304fe\0");
    let wire = [
        plain(0x00, 8, &[0x21, 0, 0, 0x24, 0xff, 0x12, 0x34, 0x56]),
        plain(0x04, 8, &[0xfe, 0x80, 0, 0, 0, 0, 0, 1, 0, 2, 0xc9, 3, 0, 0x0e, 0x8a, 0xcd]),
        iscsi,
        plain(0x06, 4, &[0x50, 0, 0xc5, 0, 0x12, 0x34, 0x56, 0x78]),
    ];
    let shown = [
        "21:00:00:24:ff:12:34:56",
        "0xfe800000000000010002c903000e8acd",
        "iqn.2026-11.test:a,i,0x8001020304fe",
        "0x5000c50012345678",
    ];
    for ((name, mut wire), shown) in examples().into_iter().zip(wire).zip(shown) {
        assert_eq!(name.transport_id().as_bytes(), wire);
        assert_eq!((name.to_string(), &*name.text()), (shown.to_owned(), shown));
        let len = wire.len();
        assert_eq!(PortName::from_transport_id(&wire[..len - 1]), None);
        wire.extend([0xff; 9]);
        assert_eq!(PortName::from_transport_id(&wire), Some((name, len)));
    }
}

#[test]
fn a_port_has_one_name_in_every_spelling() {
    let [fc, srp, iscsi, sas] = examples();
    let mut other = vec![0x45, 0, 0, 40];
    other.extend(b"IQN.2026-11.test:A,i,0x8001020304FE\0\0\0\0\0abc");
    assert_eq!(PortName::from_transport_id(&other), Some((iscsi.clone(), 44)));
    // What is reserved says nothing.
    for (name, used) in [(fc, 8..16), (srp, 8..24), (sas, 4..12)] {
        let id = name.transport_id();
        let filled = |(at, &byte): (usize, &u8)| if at == 0 || used.contains(&at) { byte } else { 0xff };
        let filled: Vec<u8> = id.as_bytes().iter().enumerate().map(filled).collect();
        assert_eq!(PortName::from_transport_id(&filled), Some((name, 24)));
    }
    let target = PortName::iscsi_target("IQN.2026-11.test:T", 1);
    assert_eq!(target, PortName::iscsi_target("iqn.2026-11.test:t", 1));
    assert_eq!(target.text(), "iqn.2026-11.test:t,t,0x0001");
}

#[test]
fn what_is_no_port_is_refused() {
    let mut whole = vec![0x05, 0, 0, 20];
    whole.extend(b"iqn.2026-11.test:a\0\0");
    assert_eq!(PortName::from_transport_id(&whole), None, "all ports of an initiator");
    let mut short = vec![0x45, 0, 0, 16];
    short.extend(b"iqn.a:b,i,0x1\0\0\0");
    assert_eq!(PortName::from_transport_id(&short), None);
    for first in 0..=u8::MAX {
        let known = matches!(first, 0x00 | 0x04 | 0x06);
        assert_eq!(PortName::from_transport_id(&[first; 24]).is_some(), known, "{first:#x}");
    }
    let longest = PortName::iscsi_initiator(&"a".repeat(300), [0xff; 6]);
    assert_eq!(longest.transport_id().len(), 4 + 244);
}

/// SPC-5 7.7.6: code set with protocol, type with PIV and association, and what is a number is binary.
#[test]
fn each_protocol_has_its_designators() {
    let iscsi = PortName::iscsi_target("iqn.2026-11.test:t", 2);
    let [fc, srp, _, sas] = examples();
    let srp_name = [0xfe, 0x80, 0, 0, 0, 0, 0, 1, 0, 2, 0xc9, 3, 0, 0x0e, 0x8a, 0xcd];
    let cases = [
        (
            fc,
            "naa.2000002400000001",
            [&[0x01, 0x93, 0, 8, 0x21, 0, 0, 0x24, 0xff, 0x12, 0x34, 0x56][..]].concat(),
        ),
        (srp, "eui.0002c903000e8acc", [&[0x41, 0x92, 0, 16], &srp_name[..]].concat()),
        (iscsi, "iqn.2026-11.test:t", [&[0x53, 0x98, 0, 28], &b"iqn.2026-11.test:t,t,0x0002\0"[..]].concat()),
        (
            sas,
            "naa.5000c50012345677",
            [&[0x61, 0x93, 0, 8, 0x50, 0, 0xc5, 0, 0x12, 0x34, 0x56, 0x78][..]].concat(),
        ),
    ];
    for (name, device, designator) in cases {
        let protocol = name.protocol() as u8;
        let port = TargetPort { relative: 7, device: device.into(), name, group: 2 };
        let mut data = DataIn::new();
        port.write_designators(&mut data);
        let binary = protocol << 4 | 1;
        let mut wanted = vec![binary, 0x94, 0, 4, 0, 0, 0, 7, binary, 0x95, 0, 4, 0, 0, 0, 2];
        wanted.extend(&designator);
        let len = (device.len() + 1).next_multiple_of(4);
        wanted.extend([protocol << 4 | 3, 0xa8, 0, len as u8]);
        wanted.extend(device.bytes());
        wanted.resize(16 + designator.len() + 4 + len, 0);
        assert_eq!(data.as_bytes(), wanted, "{}", port.name);
        let mut data = DataIn::new();
        port.write_port(&mut data);
        let head = [0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, designator.len() as u8];
        assert_eq!(data.as_bytes(), [&head[..], &designator].concat(), "{}", port.name);
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        if let Some((name, len)) = PortName::from_transport_id(&bytes) {
            prop_assert!(len <= bytes.len());
            let id = name.transport_id();
            prop_assert_eq!(PortName::from_transport_id(id.as_bytes()), Some((name, id.len())));
        }
    }

    /// Names of two ports differ in all their forms, and those of one in none.
    #[test]
    fn names_round_trip_and_differ(names in [any_name(), any_name()]) {
        for name in &names {
            let id = name.transport_id();
            prop_assert!(id.len() >= 24 && id.len() % 4 == 0);
            prop_assert_eq!(PortName::from_transport_id(id.as_bytes()), Some((name.clone(), id.len())));
        }
        let [a, b] = names;
        prop_assert_eq!(a == b, a.text() == b.text());
        prop_assert_eq!(a == b, a.transport_id().as_bytes() == b.transport_id().as_bytes());
    }
}
