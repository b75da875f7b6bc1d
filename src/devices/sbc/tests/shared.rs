// SPDX-License-Identifier: GPL-2.0-or-later
//! What all cores know alike: reservations and target port groups as the device answers for them.

use super::*;
use crate::scsi::{asc, key};
use crate::wire::scsi::be16;

/// A parameter list of PERSISTENT RESERVE OUT.
fn list(key: u64, action_key: u64, flags: u8) -> Vec<u8> {
    let mut list = key.to_be_bytes().to_vec();
    list.extend(action_key.to_be_bytes());
    list.extend([0, 0, 0, 0, flags, 0, 0, 0]);
    list
}

fn out(action: u8, kind: u8, len: u8) -> [u8; 10] {
    [0x5f, action, kind, 0, 0, 0, 0, 0, len, 0]
}

#[test]
fn a_reservation_from_register_to_clear() {
    let mut rig = Rig::thin();
    let ended = rig.write(&out(0, 0, 24), &list(0, 0xabc, 1));
    assert_eq!(ended.outcome.status, Status::Good);
    assert_eq!((ended.outcome.data_out, ended.fetched), (24, 24));
    rig.write(&out(1, 3, 24), &list(0xabc, 0, 0)).good();
    let keys = rig.read(&[0x5e, 0, 0, 0, 0, 0, 0, 0, 255, 0]).good();
    assert_eq!(keys, [0, 0, 0, 1, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0x0a, 0xbc]);
    let held = rig.read(&[0x5e, 1, 0, 0, 0, 0, 0, 0, 22, 0]).good();
    assert_eq!((held.len(), held[7], held[21]), (22, 16, 3), "cut, and the length stays");
    assert_eq!(rig.read(&[0x5e, 2, 0, 0, 0, 0, 0, 0, 8, 0]).good()[3], 0x81);
    let full = rig.read(&[0x5e, 3, 0, 0, 0, 0, 0, 4, 0, 0]).good();
    assert_eq!((full[20], full[21], be16(&full, 26)), (1, 3, 7));
    assert_eq!(&full[32..], nexus().initiator.transport_id().as_bytes());
    assert_eq!(rig.write(&out(0, 0, 24), &list(1, 2, 0)).outcome.status, Status::ReservationConflict);
    rig.write(&out(3, 0, 24), &list(0xabc, 0, 0)).good();
    assert_eq!(rig.read(&[0x5e, 0, 0, 0, 0, 0, 0, 0, 255, 0]).good().len(), 8);
}

/// SPC-5 6.17.2: the length of the list.
#[test]
fn parameter_lists_that_are_wrong() {
    const LENGTH: (u8, u16) = (key::ILLEGAL_REQUEST, asc::PARAMETER_LIST_LENGTH_ERROR);
    const FIELD: (u8, u16) = (key::ILLEGAL_REQUEST, asc::INVALID_FIELD_IN_PARAMETER_LIST);
    let mut rig = Rig::thin();
    assert_eq!(rig.write(&out(0, 0, 0), &[]).sense(), LENGTH);
    assert_eq!(rig.write(&out(0, 0, 23), &[0; 23]).sense(), LENGTH);
    assert_eq!(rig.write(&out(0, 0, 25), &[0; 25]).sense(), LENGTH);
    assert_eq!(rig.write(&out(0, 0, 24), &[0; 20]).sense(), LENGTH, "fewer bytes than the CDB says");
    assert_eq!(rig.write(&[0x5f, 0, 0, 0, 0, 0xff, 0, 0, 0, 0], &[0; 24]).sense(), LENGTH);
    // SPEC_I_PT: no length, a wrong one, no TransportID, and where it is not allowed.
    assert_eq!(rig.write(&out(0, 0, 24), &list(0, 1, 8)).sense(), LENGTH);
    let with = |ports: &[u8], len: u8| [&list(0, 1, 8), &[0, 0, 0, len][..], ports].concat();
    assert_eq!(rig.write(&out(0, 0, 32), &with(&[0; 4], 8)).sense(), LENGTH);
    assert_eq!(rig.write(&out(0, 0, 32), &with(&[0; 4], 4)).sense(), FIELD);
    assert_eq!(rig.write(&out(6, 0, 24), &list(0, 1, 8)).sense(), FIELD);
    let id = PortName::iscsi_initiator("iqn.2026-11.test:j", [1; 6]);
    let id = id.transport_id();
    rig.write(&out(0, 0, 28 + id.len() as u8), &with(id.as_bytes(), id.len() as u8)).good();
    assert_eq!(rig.state.reservations().registrations().len(), 2);
    // REGISTER AND MOVE with two ports.
    let mut moves = [&list(1, 2, 0)[..20], &[0, 0, 0, 48], &[0; 48]].concat();
    assert_eq!(rig.write(&out(7, 0, 72), &moves).sense(), FIELD);
    moves.truncate(24);
    assert_eq!(rig.write(&out(7, 0, 24), &moves).sense(), LENGTH);
}

#[test]
fn reserve_and_release() {
    let mut rig = Rig::thin();
    rig.none(&[0x16, 0, 0, 0, 0, 0]).good();
    assert_eq!(rig.state.reservations().reserver(), Some(NexusId::of(1)));
    rig.none(&[0x57, 0, 0, 0, 0, 0, 0, 0, 0, 0]).good();
    assert!(rig.state.reservations().is_open());
    // Third parties and extents are long gone.
    assert_eq!(rig.none(&[0x16, 0x11, 0, 0, 0, 0]).sense(), (5, asc::INVALID_FIELD_IN_CDB));
}

/// SPC-5 6.38 and 6.45.
#[test]
fn target_port_groups() {
    let mut rig = Rig::thin();
    let report = [0xa3, 0x0a, 0, 0, 0, 0, 0, 0, 0, 255, 0, 0];
    let mut wanted = vec![0, 0, 0, 12, 0x80, 0xcf, 0, 2, 0, 0, 0, 1, 0, 0, 0, 7];
    assert_eq!(rig.read(&report).good(), wanted);
    let set = |state: u8, group: u8| [0, 0, 0, 0, state, 0, 0, group];
    let command = [0xa4, 0x0a, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0];
    rig.write(&command, &set(2, 2)).good();
    wanted[4] = 0x82;
    wanted[9] = 1;
    assert_eq!(rig.read(&report).good(), wanted);
    let mut extended = vec![0, 0, 0, 16, 0x10, 0, 0, 0];
    extended.extend(&wanted[4..]);
    assert_eq!(rig.read(&[0xa3, 0x2a, 0, 0, 0, 0, 0, 0, 0, 255, 0, 0]).good(), extended);
    assert_eq!(
        rig.read(&[0xa3, 0x4a, 0, 0, 0, 0, 0, 0, 0, 255, 0, 0]).sense(),
        (5, asc::INVALID_FIELD_IN_CDB)
    );
    const FIELD: (u8, u16) = (5, asc::INVALID_FIELD_IN_PARAMETER_LIST);
    for (state, group) in [(0, 9), (4, 2), (0xe, 2), (0xf, 2)] {
        assert_eq!(rig.write(&command, &set(state, group)).sense(), FIELD);
    }
    assert_eq!(rig.write(&command, &[0; 7]).sense(), (5, asc::PARAMETER_LIST_LENGTH_ERROR));
    rig.none(&[0xa4, 0x0a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]).good();
    assert_eq!(rig.read(&report).good(), wanted, "nothing else has changed");
}
