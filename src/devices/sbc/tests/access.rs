// SPDX-License-Identifier: GPL-2.0-or-later
//! What each command does to a disk that is reserved or write protected, and in which port states it is served: all
//! rows of the table, against lists that are written down here once more.

use super::super::table::TABLE;
use super::*;
use crate::scsi::alua::Served;
use crate::scsi::reservations::Access;

type Commands = &'static [(u8, u16)];

/// SPC-2 5.5.1 and annex B, SPC-4 table 67, SBC-3 table 13.
const CLASSES: [(Access, Commands); 6] = [
    (Access::Always, &[(0x03, 0), (0x12, 0), (0x25, 0), (0x4d, 0), (0x9e, 0x10), (0xa0, 0), (0xa3, 0x0a)]),
    (Access::Harmless, &[(0x00, 0), (0x84, 0), (0x84, 3), (0x84, 4), (0xa3, 0x05), (0xa3, 0x0f)]),
    (
        Access::Read,
        &[
            (0x08, 0),
            (0x28, 0),
            (0xa8, 0),
            (0x88, 0),
            (0x7f, 0x09), // READ
            (0x2f, 0),
            (0xaf, 0),
            (0x8f, 0),
            (0x7f, 0x0a), // VERIFY
            (0x34, 0),
            (0x90, 0), // PRE-FETCH
            (0x1a, 0),
            (0x5a, 0),
            (0x1c, 0),
            (0x3c, 0), // MODE SENSE, RECEIVE DIAGNOSTIC RESULTS, READ BUFFER
            (0x37, 0),
            (0xb7, 0),
            (0x9e, 0x12), // READ DEFECT DATA, GET LBA STATUS
            (0xa3, 0x0c),
            (0xa3, 0x0d), // REPORT SUPPORTED OPERATION CODES, TASK MANAGEMENT FUNCTIONS
        ],
    ),
    (
        Access::Write,
        &[
            (0x04, 0),
            (0x48, 0x01),
            (0x48, 0x02),
            (0x48, 0x1f), // FORMAT UNIT, SANITIZE
            (0x0a, 0),
            (0x2a, 0),
            (0xaa, 0),
            (0x8a, 0),
            (0x7f, 0x0b), // WRITE
            (0x2e, 0),
            (0xae, 0),
            (0x8e, 0),
            (0x7f, 0x0c), // WRITE AND VERIFY
            (0x41, 0),
            (0x93, 0),
            (0x7f, 0x0d),
            (0x42, 0), // WRITE SAME, UNMAP
            (0x89, 0),
            (0x8b, 0),
            (0x7f, 0x0e),
            (0x9c, 0), // COMPARE AND WRITE, ORWRITE, WRITE ATOMIC
            (0x35, 0),
            (0x91, 0),
            (0x83, 0), // SYNCHRONIZE CACHE, EXTENDED COPY
            (0x15, 0),
            (0x55, 0),
            (0x4c, 0), // MODE SELECT, LOG SELECT
            (0x1b, 0),
            (0x1d, 0),
            (0x1e, 0),
            (0x3b, 0), // START STOP UNIT, SEND DIAGNOSTIC, PREVENT ALLOW, WRITE BUFFER
            (0xa4, 0x06),
            (0xa4, 0x0a),
            (0xa4, 0x0f), // SET ...
        ],
    ),
    (
        Access::Persistent,
        &[
            (0x5e, 0),
            (0x5e, 1),
            (0x5e, 2),
            (0x5e, 3),
            (0x5f, 0),
            (0x5f, 1),
            (0x5f, 2),
            (0x5f, 3),
            (0x5f, 4),
            (0x5f, 5),
            (0x5f, 6),
            (0x5f, 7),
        ],
    ),
    (Access::Reserve, &[(0x16, 0), (0x17, 0), (0x56, 0), (0x57, 0)]),
];

/// What changes the medium: not what changes only the state of the disk, and not the copy, of which only a segment
/// knows where it writes.
const WRITES: Commands = &[
    (0x04, 0),
    (0x48, 0x01),
    (0x48, 0x02),
    (0x0a, 0),
    (0x2a, 0),
    (0xaa, 0),
    (0x8a, 0),
    (0x7f, 0x0b),
    (0x2e, 0),
    (0xae, 0),
    (0x8e, 0),
    (0x7f, 0x0c),
    (0x41, 0),
    (0x93, 0),
    (0x7f, 0x0d),
    (0x42, 0),
    (0x89, 0),
    (0x8b, 0),
    (0x7f, 0x0e),
    (0x9c, 0),
];

const ANY_STATE: Commands = &[(0x03, 0), (0x12, 0), (0xa0, 0), (0xa3, 0x0a), (0xa4, 0x0a)];
const STANDBY: Commands = &[(0x15, 0), (0x1a, 0), (0x55, 0), (0x5a, 0), (0xa3, 0x0c), (0xa3, 0x0d)];

#[test]
fn every_command_is_of_its_class() {
    let mut known = 0;
    for definition in TABLE.rows().iter().map(|row| row.definition) {
        let name = definition.name;
        let command = (definition.opcode, definition.action.unwrap_or(0));
        let classes: Vec<_> =
            CLASSES.iter().filter(|(_, list)| list.contains(&command)).map(|(access, _)| *access).collect();
        assert_eq!(classes, [definition.access], "{name}");
        assert_eq!(definition.writes, WRITES.contains(&command), "{name}");
        let served = match command.0 {
            0x5e | 0x5f => Served::Standby,
            _ if ANY_STATE.contains(&command) => Served::Always,
            _ if STANDBY.contains(&command) => Served::Standby,
            _ => Served::Active,
        };
        assert_eq!(definition.served, served, "{name}");
        known += 1;
    }
    // START STOP UNIT has a row for either kind of disk.
    assert_eq!(
        known - 1,
        CLASSES.iter().map(|(_, list)| list.len()).sum::<usize>(),
        "a list names what is not there"
    );
}

#[test]
fn some_forms_are_let_pass_whatever_is_reserved() {
    let access = |opcode: u8, byte: u8| {
        let definition = TABLE.definition(&Cdb::new(&[opcode, 0, 0, 0, byte, 0]).unwrap()).unwrap();
        definition.access_of(&[opcode, 0, 0, 0, byte, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
    };
    for (opcode, byte, wanted) in [
        (0x1b, 1, Access::Always),
        (0x1b, 5, Access::Always),
        (0x1b, 0, Access::Write),
        (0x1b, 0x31, Access::Write),
        (0x1e, 0, Access::Always),
        (0x1e, 1, Access::Write),
    ] {
        assert_eq!(access(opcode, byte), wanted, "{opcode:02x} {byte:02x}");
    }
}

#[test]
fn what_writes_is_refused_by_a_protected_disk() {
    let mut rig = Rig::new(Config { read_only: true, ..config() });
    for definition in TABLE.rows().iter().map(|row| row.definition).filter(|d| d.writes) {
        let mut cdb: Vec<u8> = vec![0; definition.usage.len()];
        cdb[0] = definition.opcode;
        match (definition.opcode, definition.action) {
            (0x7f, Some(action)) => (cdb[7], cdb[9]) = (24, action as u8),
            (_, Some(action)) => cdb[1] = action as u8,
            _ => {}
        }
        assert_eq!(rig.none(&cdb).sense(), WRITE_PROTECTED, "{}", definition.name);
    }
    assert!(rig.log.is_empty());
}
