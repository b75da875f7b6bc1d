// SPDX-License-Identifier: GPL-2.0-or-later
//! Media that come and go.

use super::*;

const NOT_PRESENT: (u8, u16) = (2, 0x3a00);
const PREVENTED: (u8, u16) = (5, 0x5302);

fn start_stop(flags: u8) -> [u8; 6] {
    [0x1b, 0, 0, 0, flags, 0]
}

const EJECT: u8 = 2;
const LOAD: u8 = 3;

fn rig() -> Rig {
    Rig::new(Config { removable: true, ..config() })
}

#[test]
fn an_ejected_medium_is_not_there_until_it_is_loaded() {
    let mut rig = rig();
    assert_eq!(rig.read(&[0x12, 0, 0, 0, 96, 0]).good()[1], 0x80);
    rig.none(&start_stop(EJECT)).good();
    assert_eq!(rig.log, ["flush 0+0"]);
    let medium: [&[u8]; 5] = [
        &[0; 6],
        &cdb10(0x28, 0, 0, 1),
        &cdb10(0x25, 0, 0, 0),
        &cdb16(0x9e, 0x10, 0, 0),
        &cdb10(0x35, 0, 0, 0),
    ];
    for cdb in medium {
        assert_eq!(rig.read(cdb).sense(), NOT_PRESENT);
    }
    assert_eq!(rig.write(&cdb10(0x2a, 0, 0, 1), &[0; 512]).sense(), NOT_PRESENT);
    assert_eq!(rig.none(&start_stop(0)).sense(), NOT_PRESENT);
    assert_eq!(rig.none(&start_stop(1)).sense(), NOT_PRESENT);
    // What needs no medium.
    for cdb in [&[0x12, 0, 0, 0, 96, 0], &[0x1a, 0, 0x3f, 0, 255, 0], &[0x1e, 0, 0, 0, 0, 0]] {
        rig.read(cdb).good();
    }
    assert_eq!(rig.read(&[3, 1, 0, 0, 252, 0]).good()[1..4], [2, 0x3a, 0]);
    // Neither a reset nor a second eject brings it back.
    rig.server.reset();
    rig.none(&start_stop(EJECT)).good();
    assert_eq!(rig.none(&[0; 6]).sense(), NOT_PRESENT);
    let loaded = rig.none(&start_stop(LOAD));
    assert_eq!(loaded.attention(), Some(0x2800));
    loaded.good();
    assert_eq!(rig.none(&start_stop(LOAD)).attention(), None);
    rig.none(&[0; 6]).good();
}

#[test]
fn who_prevents_the_removal_keeps_the_medium_in() {
    for end in ["allow", "reset", "loss"] {
        let mut rig = rig();
        rig.none(&[0x1e, 0, 0, 0, 1, 0]).good();
        assert_eq!(rig.none(&start_stop(EJECT)).sense(), PREVENTED);
        rig.none(&start_stop(0)).good();
        rig.server.nexus_lost(NexusId::of(2));
        assert_eq!(rig.none(&start_stop(EJECT)).sense(), PREVENTED);
        match end {
            "allow" => _ = rig.none(&[0x1e, 0, 0, 0, 0, 0]).good(),
            "reset" => rig.server.reset(),
            _ => rig.server.nexus_lost(NexusId::of(1)),
        }
        rig.none(&start_stop(EJECT)).good();
        // Nothing goes in, either.
        rig.none(&[0x1e, 0, 0, 0, 1, 0]).good();
        assert_eq!(rig.none(&start_stop(LOAD)).sense(), PREVENTED);
        rig.none(&[0x1e, 0, 0, 0, 0, 0]).good();
        rig.none(&start_stop(LOAD)).good();
    }
}

#[test]
fn a_medium_that_cannot_be_flushed_stays() {
    let mut rig = rig();
    rig.fault = Some((0, ErrorKind::WriteFailed));
    assert_eq!(rig.none(&start_stop(EJECT)).sense(), (3, 0x0c00));
    rig.fault = None;
    rig.none(&[0; 6]).good();
    // Power conditions are none of its affairs; a fixed disk has no LOEJ.
    rig.none(&start_stop(0x12)).good();
    rig.none(&[0; 6]).good();
    assert_eq!(Rig::thin().none(&start_stop(EJECT)).sense(), INVALID_FIELD_IN_CDB);
}
