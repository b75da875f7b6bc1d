// SPDX-License-Identifier: GPL-2.0-or-later
//! What lies in the state directory, and how reservations get there.

use std::sync::Arc;

use super::super::scsi::TARGET;
use super::mutate::{InputPiece, InputShape};
use crate::scsi::reservations::{Out, Reservations};
use crate::scsi::{Nexus, PortName, TargetPort};
use crate::stores::{unwrap_record, wrap_record};
use crate::wire::fc::WorldWideName;

/// The file of a record: what is in a good one comes out, and one that is damaged is known.
pub(super) fn record(bytes: &[u8]) {
    if let Ok(inner) = unwrap_record(bytes) {
        assert_eq!(wrap_record(inner), bytes, "two files of one record");
    }
    let mut file = wrap_record(bytes);
    assert_eq!(unwrap_record(&file).expect("it is whole"), bytes);
    let at =
        bytes.iter().fold(0, |at: usize, &byte| at.wrapping_mul(31).wrapping_add(byte.into())) % file.len();
    file[at] ^= 1 << (bytes.len() % 8);
    assert!(unwrap_record(&file).is_err(), "damage at {at} that is not seen");
}

/// The record of a disk's reservations: what is taken from it is what is kept next.
pub(super) fn reservations(bytes: &[u8]) {
    let Ok(table) = Reservations::from_record(bytes, &ports()) else { return };
    let again = restarted(&table);
    assert_eq!((again.kind(), again.registrations().len()), (table.kind(), table.registrations().len()));
}

/// Two target ports of iSCSI and one of Fibre Channel.
fn ports() -> [Arc<TargetPort>; 3] {
    let name = PortName::Fc(WorldWideName::new([0x21, 0, 2, 0, 0, 0, 0, 1]));
    let fc = TargetPort { relative: 3, device: "naa.2000020000000001".into(), name, group: 3 };
    [TargetPort::iscsi(1, TARGET, 1), TargetPort::iscsi(2, TARGET, 2), fc].map(Arc::new)
}

/// A table after the next start.
fn restarted(table: &Reservations) -> Reservations {
    let kept = table.to_record();
    let again = Reservations::from_record(&kept, &ports()).expect("a record of its own");
    assert_eq!(again.to_record(), kept, "a table that changes with each start");
    again
}

/// PERSISTENT RESERVE OUT of two initiators, each at its own fabric: the kind is the type, the initiator and the
/// service action, the data a parameter list.
pub(super) fn persistent_reserve_out(script: &[u8]) {
    let [iscsi, _, fc] = ports();
    let node = PortName::iscsi_initiator("iqn.2026-11.com.example:i", [0x80, 0, 0, 1, 0, 0]);
    let n_port = PortName::Fc(WorldWideName::new([0x21, 0, 0, 0x24, 0xff, 0x12, 0x34, 0x56]));
    let nexuses = [Nexus { initiator: node, port: iscsi }, Nexus { initiator: n_port, port: fc }];
    let mut table = Reservations::default();
    for InputPiece { kind, data: mut list } in InputShape::Pieces.split(script) {
        let mut cdb = [0; 16];
        (cdb[0], cdb[1], cdb[2]) = (0x5f, kind & 7, kind >> 4);
        // Shorter ones do not come so far.
        list.resize(list.len().max(24), 0);
        let Ok(out) = Out::parse(&cdb, &list) else { continue };
        for name in &out.ports {
            let id = name.transport_id();
            let again = PortName::from_transport_id(id.as_bytes());
            assert_eq!(again, Some((name.clone(), id.len())), "a port with two names");
        }
        let Ok((next, _)) = table.apply(&nexuses[usize::from(kind >> 3 & 1)], &out, &ports()) else {
            continue;
        };
        table = next;
        let again = restarted(&table);
        if table.persists() {
            assert_eq!((again.kind(), again.registrations()), (table.kind(), table.registrations()));
        }
    }
}
