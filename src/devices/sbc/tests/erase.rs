// SPDX-License-Identifier: GPL-2.0-or-later
//! FORMAT UNIT and SANITIZE, and who else may do what meanwhile.

use super::*;

const SANITIZING: (u8, u16) = (2, 0x041b);
const FORMATTING: (u8, u16) = (2, 0x0404);

fn sanitize(action: u8, len: u16) -> [u8; 10] {
    let [high, low] = len.to_be_bytes();
    [0x48, action, 0, 0, 0, 0, 0, high, low, 0]
}

/// The parameter list of an overwrite.
fn list(flags: u8, pattern: &[u8]) -> Vec<u8> {
    [&[flags, 0], &(pattern.len() as u16).to_be_bytes()[..], pattern].concat()
}

fn overwrite(rig: &mut Rig, immediate: bool, list: &[u8]) -> Ended {
    rig.write(&sanitize(1 | u8::from(immediate) << 7, list.len() as u16), list)
}

#[test]
fn overwrite_repeats_its_pattern_in_each_block() {
    let mut rig = Rig::thin();
    rig.write(&cdb10(0x2a, 0, 0, 100), &[9; 51200]).good();
    let ended = overwrite(&mut rig, false, &list(1, b"abc"));
    assert_eq!((ended.outcome.data_out, ended.detached.is_some()), (7, false));
    ended.good();
    let mut block = b"abc".repeat(171);
    block.truncate(512);
    assert!(rig.bytes.chunks(512).all(|b| b == block));
    // What was under way is waited for; at the end everything is stable.
    assert_eq!(rig.log[1..3], ["swap 0+0", "same 0+128"]);
    assert_eq!(rig.log.last().unwrap(), "flush 0+0");
    // Twice, the second time with the complement.
    rig.log.clear();
    overwrite(&mut rig, false, &list(0x82, &[0x0f])).good();
    assert!(rig.bytes.iter().all(|&byte| byte == 0xf0));
    assert_eq!(rig.log.len(), 1 + 2 * 32 + 1);
}

#[test]
fn overwrite_lists() {
    let mut rig = Rig::thin();
    for len in [0, 1, 4, 517] {
        assert_eq!(rig.write(&sanitize(1, len), &[1; 517]).sense(), INVALID_FIELD_IN_CDB);
    }
    assert_eq!(rig.write(&sanitize(1, 8), &[1; 7]).sense(), PARAMETER_LIST_LENGTH);
    for bad in [list(0, &[1; 4]), [list(1, &[]), vec![0]].concat(), [&[1, 0, 0, 9], &[1; 8][..]].concat()] {
        assert_eq!(overwrite(&mut rig, false, &bad).sense(), INVALID_FIELD_IN_CDB);
    }
    assert_eq!(rig.none(&sanitize(3, 0)).sense(), INVALID_FIELD_IN_CDB, "CRYPTOGRAPHIC ERASE");
    assert_eq!(rig.write(&sanitize(2, 4), &[0; 4]).sense(), INVALID_FIELD_IN_CDB);
    assert!(rig.log.is_empty());
    rig.none(&[0; 6]).good();
}

#[test]
fn erased_blocks_are_deallocated_where_they_can_be() {
    for cdb in [&sanitize(2, 0)[..], &[0x04, 0, 0, 0, 0, 0]] {
        for mut rig in [Rig::thin(), Rig::thick()] {
            rig.write(&cdb10(0x2a, 0, 0, 100), &[9; 51200]).good();
            rig.none(cdb).good();
            assert!(rig.bytes.iter().all(|&byte| byte == 0));
            let unmaps = rig.log.iter().any(|op| op.starts_with("unmap"));
            assert_eq!(unmaps, rig.server.unit().config().thin);
        }
    }
    let mut protected = Rig::new(Config { read_only: true, ..config() });
    assert_eq!(protected.none(&sanitize(2, 0)).sense(), WRITE_PROTECTED);
    assert_eq!(protected.none(&[0x04, 0, 0, 0, 0, 0]).sense(), WRITE_PROTECTED);
}

#[test]
fn format_takes_a_header_and_no_defects() {
    let mut rig = Rig::thin();
    let mut immediate = rig.write(&[0x04, 0x10, 0, 0, 0, 0], &[0, 2, 0, 0]);
    assert_eq!(immediate.detached.take().unwrap().data_out, 4);
    rig.write(&[0x04, 0x30, 0, 0, 0, 0], &[0; 8]).good();
    for (flags, list) in [(0x10, &[0, 0, 0, 8][..]), (0x10, &[0, 8, 0, 0]), (0x30, &[0, 0, 0, 0, 0, 0, 0, 1])]
    {
        assert_eq!(rig.write(&[0x04, flags, 0, 0, 0, 0], list).sense(), INVALID_FIELD_IN_PARAMETER_LIST);
    }
    assert_eq!(rig.none(&[0x04, 0x40, 0, 0, 0, 0]).sense(), INVALID_FIELD_IN_CDB, "protection information");
}

/// Another command in the middle of the erasure, and a write that had begun before it.
#[test]
fn nothing_else_is_carried_out_meanwhile() {
    for (cdb, refusal) in [(&sanitize(0x81, 5)[..], SANITIZING), (&[0x04, 0x10, 0, 0, 0, 0], FORMATTING)] {
        let mut rig = Rig::thick();
        let old = Rig::command(&cdb10(0x2a, 0, 0, 1), 512, 0);
        assert!(matches!(rig.call_as(TaskId(9), &old, None), Step::Fetch { .. }));
        let out = if cdb.len() == 10 { &[1, 0, 0, 1, 7][..] } else { &[0, 2, 0, 0] };
        let command = Rig::command(cdb, out.len() as u32, 0);
        let Step::Fetch { .. } = rig.call(&command, None) else { panic!("its list is fetched") };
        let data = Sg::copied(&rig.arena, out).unwrap();
        let Step::Detach(_) = rig.call(&command, Some(Resume::Fetched(data))) else { panic!("IMMED") };
        let Step::Store(mut op) = rig.call(&command, Some(Resume::Detached)) else { panic!("it goes on") };
        let data = Sg::copied(&rig.arena, &[1; 512]).unwrap();
        let Step::Finish(outcome) = rig.call_as(TaskId(9), &old, Some(Resume::Fetched(data))) else {
            panic!("an old write goes on")
        };
        assert_eq!(outcome.sense.map(|s| (s.key, s.code)), Some(refusal));
        let mut last = 0;
        for _ in 0..3 {
            let other = |rig: &mut Rig, cdb: &[u8]| {
                let command = Rig::command(cdb, 0, 255);
                match rig.call_as(TaskId(8), &command, None) {
                    Step::Finish(outcome) => outcome,
                    other => panic!("{other:?}"),
                }
            };
            for cdb in [&[0; 6][..], &cdb10(0x28, 0, 0, 1), &[0x1a, 0, 0x3f, 0, 255, 0], &sanitize(2, 0)] {
                let sense = other(&mut rig, cdb).sense.unwrap();
                assert_eq!((sense.key, sense.code), refusal, "{cdb:02x?}");
                let [0x80, high, low] = sense.specific.unwrap() else { panic!("no progress") };
                let progress = u16::from_be_bytes([high, low]);
                assert!(progress >= last);
                last = progress;
            }
            assert_eq!(other(&mut rig, &[0x12, 0, 0, 0, 96, 0]).status, Status::Good);
            let sense = other(&mut rig, &[3, 1, 0, 0, 252, 0]).data.to_vec();
            assert_eq!((sense[1], u16::from_be_bytes([sense[2], sense[3]])), refusal);
            // A reset changes nothing.
            rig.server.reset();
            let done = rig.store(op);
            match rig.call(&command, Some(Resume::Stored(done))) {
                Step::Store(next) => op = next,
                other => panic!("{other:?}"),
            }
        }
        assert!(last > 0, "progress is made");
        loop {
            let done = rig.store(op);
            match rig.call(&command, Some(Resume::Stored(done))) {
                Step::Store(next) => op = next,
                Step::Finish(outcome) => break assert_eq!(outcome.status, Status::Good),
                other => panic!("{other:?}"),
            }
        }
        rig.none(&[0; 6]).good();
    }
}

#[test]
fn a_failure_is_remembered_until_the_next_success() {
    let failed = (3, 0x3103);
    let mut rig = Rig::thin();
    rig.fault = Some((200 * 512, ErrorKind::WriteFailed));
    let ended = overwrite(&mut rig, false, &list(1, &[0]));
    assert_eq!((ended.sense(), ended.information()), ((3, 0x0c00), Some(200)));
    assert_eq!(rig.none(&[0; 6]).sense(), failed);
    assert_eq!(rig.read(&cdb10(0x28, 0, 0, 1)).sense(), failed);
    rig.server.reset();
    assert_eq!(rig.none(&[0; 6]).sense(), failed);
    // The way out is barred unless the command allowed it.
    let exit = sanitize(0x1f, 0);
    assert_eq!(rig.none(&exit).sense(), INVALID_FIELD_IN_CDB);
    let list = list(1, &[0]);
    assert_eq!(rig.write(&sanitize(0x21, 5), &list).sense(), (3, 0x0c00));
    rig.none(&exit).good();
    rig.none(&[0; 6]).good();
    // A format that fails, and one that mends it.
    assert_eq!(rig.none(&[0x04, 0, 0, 0, 0, 0]).sense(), (3, 0x0c00));
    assert_eq!(rig.none(&[0; 6]).sense(), (3, 0x3100));
    rig.fault = None;
    rig.none(&[0x04, 0, 0, 0, 0, 0]).good();
    rig.none(&[0; 6]).good();
}

#[test]
fn an_aborted_format_has_failed() {
    let mut rig = Rig::thin();
    let command = Rig::command(&[4, 0, 0, 0, 0, 0], 0, 0);
    assert!(matches!(rig.call(&command, None), Step::Store(Op::CompareAndWrite { .. })));
    assert!(!rig.server.goes_on(TASK));
    rig.server.abort(TASK);
    assert_eq!(rig.none(&[0; 6]).sense(), (3, 0x3100));
    rig.none(&[4, 0, 0, 0, 0, 0]).good();
    rig.none(&[0; 6]).good();
}

/// SBC-3 4.11.2: a sanitize operation that has begun goes on whatever becomes of its command. The end of the daemon
/// ends it.
#[test]
fn nothing_stops_a_sanitize_operation() {
    let mut rig = Rig::thin();
    let list = list(1, &[7]);
    let command = Rig::command(&sanitize(1, list.len() as u16), list.len() as u32, 0);
    assert!(matches!(rig.call(&command, None), Step::Fetch { .. }));
    assert!(!rig.server.goes_on(TASK), "nothing has begun");
    let list = Sg::copied(&rig.arena, &list).unwrap();
    assert!(matches!(rig.call(&command, Some(Resume::Fetched(list))), Step::Store(_)));
    assert!(rig.server.goes_on(TASK));
    rig.server.reset();
    rig.server.abort(TASK);
    assert_eq!(rig.none(&[0; 6]).sense(), (3, 0x3103));
}
