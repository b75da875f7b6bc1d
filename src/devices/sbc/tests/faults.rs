// SPDX-License-Identifier: GPL-2.0-or-later
//! Stores that fail, arenas that run dry, tasks that are aborted.

use super::*;

#[test]
fn store_errors_become_sense_data() {
    let cases = [
        (ErrorKind::ReadFailed, (3, 0x1100), Some(200)),
        (ErrorKind::WriteFailed, (3, 0x0c00), Some(200)),
        (ErrorKind::NoSpace, (7, 0x2707), None),
        (ErrorKind::ReadOnly, (7, 0x2700), None),
        (ErrorKind::OutOfRange, (5, 0x2100), None),
        (ErrorKind::Unsupported, (5, 0x2000), None),
    ];
    for (kind, sense, information) in cases {
        let mut rig = Rig::thin();
        rig.fault = Some((200 * 512 + 7, kind));
        let out = vec![1; 300 * 512];
        let ended = rig.write(&cdb10(0x2a, 0, 10, 300), &out);
        assert_eq!((ended.sense(), ended.information()), (sense, information));
        // The chunk before it is written, and nothing was fetched that could not be.
        assert_eq!(ended.fetched, 256 * 512);
        assert_eq!(rig.blocks(10, 1)[0], 1);
    }
}

#[test]
fn every_command_ends_when_its_store_operation_fails() {
    let out = [0; 1024];
    let unmap = [0, 22, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0];
    let mut caw = cdb16(0x89, 0, 0, 0);
    caw[13] = 1;
    let mut status = cdb16(0x9e, 0x12, 0, 24);
    status[13] = 24;
    let commands: [(&[u8], &[u8]); 11] = [
        (&cdb10(0x28, 0, 0, 1), &[]),
        (&cdb10(0x28, 8, 0, 1), &[]),
        (&cdb10(0x2a, 0, 0, 1), &out[..512]),
        (&cdb10(0x2e, 2, 0, 1), &out[..512]),
        (&cdb10(0x2f, 2, 0, 1), &out[..512]),
        (&cdb10(0x35, 0, 0, 0), &[]),
        (&cdb10(0x41, 0, 0, 1), &out[..512]),
        (&[0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0], &unmap),
        (&caw, &out),
        (&cdb16(0x8b, 0, 0, 1), &out[..512]),
        (&status, &[]),
    ];
    for (cdb, out) in commands {
        let mut rig = Rig::thin();
        rig.fault = Some((0, ErrorKind::ReadFailed));
        let ended = rig.run(cdb, out, 512);
        assert_eq!(ended.sense(), (3, 0x1100), "{cdb:02x?}");
        assert_eq!(ended.information(), (cdb[0] != 0x35).then_some(0), "a flush has no place");
        rig.fault = Some((0, ErrorKind::NoMemory));
        let ended = rig.run(cdb, out, 512);
        assert_eq!(ended.outcome.status, Status::Busy, "{cdb:02x?}");
        rig.fault = None;
        rig.run(cdb, out, 512).good();
    }
}

#[test]
fn a_read_that_fails_half_way_tells_what_it_sent() {
    let mut rig = Rig::thin();
    rig.bytes[..128 * 512].fill(9);
    rig.fault = Some((130 * 512, ErrorKind::ReadFailed));
    let ended = rig.run(&cdb10(0x28, 0, 0, 200), &[], 200 * 512);
    assert_eq!((ended.sense(), ended.information()), ((3, 0x1100), Some(130)));
    assert_eq!((ended.data.len(), ended.outcome.data_in), (128 * 512, 128 * 512));
}

#[test]
fn without_memory_the_answer_is_busy() {
    let mut rig = Rig::thin();
    rig.read(&[0x12, 0, 0, 0, 96, 0]).good();
    let hold: Vec<_> = [1 << 20, 96]
        .into_iter()
        .flat_map(|len| std::iter::from_fn(|| rig.arena.alloc(len)).collect::<Vec<_>>())
        .collect();
    let command = Rig::command(&[0x12, 0, 0, 0, 96, 0], 0, 96);
    let Step::Finish(outcome) = rig.call(&command, None) else { panic!("INQUIRY takes one step") };
    assert_eq!(outcome.status, Status::Busy);
    drop(hold);
    rig.read(&[0x12, 0, 0, 0, 96, 0]).good();
}

/// What others hold may leave much memory and no large block.
#[test]
fn a_read_needs_no_more_memory_at_once_than_there_is_in_one_piece() {
    let mut rig = Rig::thin();
    let out: Vec<u8> = (0..=250).cycle().take(300 * 512).collect();
    rig.write(&cdb10(0x2a, 0, 1, 300), &out).good();
    rig.log.clear();
    let alloc = |len| std::iter::from_fn(|| rig.arena.alloc(len)).collect::<Vec<_>>();
    let piece = rig.arena.alloc(16 << 10);
    let _others = [alloc(16 << 10), alloc(96)];
    let command = cdb10(0x28, 0, 1, 300);
    assert_eq!(rig.run(&command, &[], 300 * 512).outcome.status, Status::Busy);
    assert_eq!(rig.log, ["read 1+128", "read 1+32", "read 1+8", "read 1+2", "read 1+1"]);
    drop(piece);
    rig.log.clear();
    assert_eq!(rig.run(&command, &[], 300 * 512).good(), out);
    assert_eq!(rig.log[..4], ["read 1+128", "read 1+32", "read 33+128", "read 33+32"]);
}

#[test]
fn an_aborted_task_holds_nothing_and_its_number_can_be_used_again() {
    let mut rig = Rig::thin();
    let command = Rig::command(&cdb10(0x2e, 0x02, 0, 8), 4096, 0);
    let Step::Fetch { len } = rig.call(&command, None) else { panic!("a write fetches first") };
    let data = Sg::copied(&rig.arena, &vec![1; len as usize]).unwrap();
    let step = rig.call(&command, Some(Resume::Fetched(data)));
    assert!(matches!(step, Step::Store(Op::Write { .. })));
    drop(step);
    assert_ne!(rig.arena.in_use(), 0, "held for the comparison");
    rig.server.abort(TASK);
    assert_eq!(rig.arena.in_use(), 0);
    rig.write(&cdb10(0x2a, 0, 0, 1), &[2; 512]).good();
    rig.server.abort(TaskId(100));
}

#[test]
fn an_answer_that_nobody_asked_for_ends_the_task() {
    let mut rig = Rig::thin();
    let command = Rig::command(&cdb10(0x2a, 0, 0, 1), 512, 0);
    assert!(matches!(rig.call(&command, None), Step::Fetch { len: 512 }));
    let Step::Finish(outcome) = rig.call(&command, Some(Resume::Sent)) else { panic!("it is over") };
    assert_eq!(outcome.sense.map(|s| (s.key, s.code)), Some((4, 0x4400)));
    let Step::Finish(outcome) = rig.call(&command, Some(Resume::Sent)) else { panic!("it was over") };
    assert_eq!(outcome.sense.map(|s| (s.key, s.code)), Some((4, 0x4400)));
}
