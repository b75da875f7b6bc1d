// SPDX-License-Identifier: GPL-2.0-or-later
//! The table, what REPORT SUPPORTED OPERATION CODES says of it, and what dispatch makes of it.

use super::super::limits::REMOVABLE;
use super::super::table::TABLE;
use super::*;
use crate::scsi::primary::VARIABLE_LENGTH;
use crate::wire::scsi::{be16, be32};

fn report(options: u8, opcode: u8, action: u16) -> [u8; 12] {
    let [high, low] = action.to_be_bytes();
    [0xa3, 0x0c, options, opcode, high, low, 0, 0, 0xff, 0xff, 0, 0]
}

/// Operation code, service action, length of the CDB.
type Command = (u8, Option<u16>, u16);

fn commands(rig: &mut Rig) -> Vec<Command> {
    let list = rig.read(&report(0, 0, 0)).good();
    assert_eq!(be32(&list, 0) as usize, list.len() - 4);
    let command = |d: &[u8]| (d[0], (d[5] & 1 != 0).then(|| be16(d, 2)), be16(d, 6));
    list[4..].chunks(8).map(command).collect()
}

#[test]
fn dispatch_accepts_what_is_reported_and_nothing_else() {
    for (mut rig, count) in [(Rig::thin(), 83), (Rig::thick(), 82)] {
        let commands = commands(&mut rig);
        assert_eq!(commands.len(), count);
        for opcode in 0..=255_u8 {
            for action in 0..32_u16 {
                let mut cdb = [0; 16];
                cdb[0] = opcode;
                match opcode {
                    0x7f => cdb[9] = action as u8,
                    _ => cdb[1] = action as u8,
                }
                let ended = rig.none(&cdb);
                let of: Vec<_> = commands.iter().filter(|c| c.0 == opcode).collect();
                let known = of.iter().any(|c| c.1.is_none_or(|a| a == action));
                let sense = ended.outcome.sense.map(|s| (s.key, s.code));
                assert_eq!(sense == Some(INVALID_OPCODE), of.is_empty(), "{opcode:02x}/{action:02x}");
                if !of.is_empty() && !known {
                    assert_eq!(sense, Some(INVALID_FIELD_IN_CDB), "{opcode:02x}/{action:02x}");
                }
            }
        }
    }
}

#[test]
fn lengths_follow_the_operation_code() {
    let mut rig = Rig::thin();
    for (opcode, _, len) in commands(&mut rig) {
        let wanted = match opcode >> 5 {
            0 => 6,
            1 | 2 => 10,
            3 => 32,
            4 => 16,
            5 => 12,
            group => panic!("group {group}"),
        };
        assert_eq!(len, wanted, "{opcode:02x}");
        // A CDB that is too short is refused, not read beyond its end.
        let mut short = vec![0; usize::from(len) - 1];
        short[0] = opcode;
        assert_eq!(rig.none(&short).sense(), INVALID_FIELD_IN_CDB);
    }
}

#[test]
fn one_command_at_a_time() {
    let mut rig = Rig::thin();
    for (opcode, action, len) in commands(&mut rig) {
        let (right, wrong) = if action.is_some() { (2, 1) } else { (1, 2) };
        let ended = rig.read(&report(wrong, opcode, action.unwrap_or(0)));
        assert_eq!(ended.sense(), INVALID_FIELD_IN_CDB);
        assert_eq!(ended.outcome.sense.unwrap().specific, Some([0xca, 0, 2]));
        for options in [right, 3] {
            let data = rig.read(&report(options, opcode, action.unwrap_or(0))).good();
            assert_eq!((data[1], be16(&data, 2)), (3, len));
            let usage = &data[4..];
            assert_eq!((usage[0], usage.len()), (opcode, usize::from(len)));
            if let Some(action) = action {
                let found = if opcode == 0x7f { be16(usage, 8) } else { u16::from(usage[1] & 0x1f) };
                assert_eq!(found, action);
            }
        }
    }
    let read_10 = [0, 3, 0, 10, 0x28, 0x18, 0xff, 0xff, 0xff, 0xff, 0x1f, 0xff, 0xff, 4];
    assert_eq!(rig.read(&report(1, 0x28, 0)).good(), read_10);
    // What is not there: an operation code, a service action, a service action of a command that has none.
    assert_eq!(rig.read(&report(1, 0xee, 0)).good(), [0, 1, 0, 0]);
    assert_eq!(rig.read(&report(2, 0xee, 1)).good(), [0, 1, 0, 0]);
    assert_eq!(rig.read(&report(2, 0x9e, 0x1f)).good(), [0, 1, 0, 0]);
    assert_eq!(rig.read(&report(3, 0x28, 1)).good(), [0, 1, 0, 0]);
    assert_eq!(Rig::thick().read(&report(1, 0x42, 0)).good(), [0, 1, 0, 0]);
    for options in 4..8 {
        assert_eq!(rig.read(&report(options, 0x28, 0)).sense(), INVALID_FIELD_IN_CDB);
    }
}

#[test]
fn timeouts_on_request() {
    let mut rig = Rig::thin();
    let list = rig.read(&report(0x80, 0, 0)).good();
    assert_eq!(be32(&list, 0) as usize, list.len() - 4);
    assert_eq!((list.len() - 4) % 20, 0);
    for d in list[4..].chunks(20) {
        assert_eq!((d[5] & 2, be16(d, 8)), (2, 10));
        assert!(be32(d, 16) >= 30);
    }
    let data = rig.read(&report(0x81, 0x35, 0)).good();
    assert_eq!(data[1], 0x83);
    assert_eq!(data[14..], [0, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 60]);
}

#[test]
fn bits_that_do_not_count_are_refused() {
    let mut rig = Rig::thin();
    for row in TABLE.rows() {
        let d = row.definition;
        for (i, used) in d.usage.iter().enumerate().skip(1) {
            for bit in 0..8 {
                let mut cdb = vec![0; d.usage.len()];
                cdb[0] = d.opcode;
                let variable = d.opcode == VARIABLE_LENGTH;
                if variable {
                    cdb[7..10].copy_from_slice(&d.usage[7..10]);
                } else {
                    cdb[1] = d.action.unwrap_or(0) as u8;
                }
                if variable && (7..10).contains(&i) {
                    // Another length is no such command, another service action is another.
                    continue;
                }
                if cdb[i] & 1 << bit != 0 || i == 1 && d.action.is_some() && !variable && bit < 5 {
                    continue;
                }
                cdb[i] |= 1 << bit;
                let control = if variable { 1 } else { cdb.len() - 1 };
                let tolerated = i == 1 && cdb.len() == 6 && bit >= 5 || i == control;
                let refused = TABLE.find(&Cdb::new(&cdb).unwrap(), || d.features).is_err();
                assert_eq!(refused, used & 1 << bit == 0 && !tolerated, "{} {i}.{bit}", d.name);
                if refused && d.features != REMOVABLE {
                    let pointer = Some([0xc8 | bit, 0, i as u8]);
                    assert_eq!(
                        rig.none(&cdb).outcome.sense.unwrap().specific,
                        pointer,
                        "{} {i}.{bit}",
                        d.name
                    );
                }
            }
        }
    }
}

#[test]
fn block_limits_are_those_that_are_obeyed() {
    let mut rig = Rig::thin();
    rig.geometry.bytes = 1 << 50;
    let page = rig.read(&[0x12, 1, 0xb0, 0, 64, 0]).good();
    let usage = |rig: &mut Rig, opcode| rig.read(&report(1, opcode, 0)).good()[1] == 3;
    assert!(page[5] != 0 && usage(&mut rig, 0x89) && be32(&page, 20) != 0 && usage(&mut rig, 0x42));

    let transfer = be32(&page, 8);
    rig.none(&cdb16(0x88, 0, 0, transfer)).good();
    assert_eq!(rig.none(&cdb16(0x88, 0, 0, transfer + 1)).sense(), INVALID_FIELD_IN_CDB);

    let mut swap = cdb16(0x89, 0, 0, 0);
    swap[13] = page[5];
    let pairs = |n: u8| vec![0; usize::from(n) * 1024];
    rig.write(&swap, &pairs(swap[13])).good();
    swap[13] += 1;
    assert_eq!(rig.write(&swap, &pairs(swap[13])).sense(), INVALID_FIELD_IN_CDB);

    let thick = Rig::thick().read(&[0x12, 1, 0xb0, 0, 64, 0]).good();
    assert_eq!(thick[20..36], [0; 16]);
}

#[test]
fn atomic_writes_are_offered_on_request() {
    let mut rig = Rig::thin();
    let limits = |rig: &mut Rig| rig.read(&[0x12, 1, 0xb0, 0, 64, 0]).good();
    assert_eq!((rig.read(&report(1, 0x9c, 0)).good()[1], be32(&limits(&mut rig), 44)), (3, 128));
    let mut rig = Rig::new(Config { atomic_writes: false, ..config() });
    assert_eq!((rig.read(&report(1, 0x9c, 0)).good()[1], be32(&limits(&mut rig), 44)), (1, 0));
    assert_eq!(
        rig.write(&[0x9c, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0], &[0; 512]).sense(),
        INVALID_OPCODE
    );
}
