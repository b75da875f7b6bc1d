// SPDX-License-Identifier: GPL-2.0-or-later
//! A disk and a serial device over every transport: what they do, and every end in every state.

use super::*;

#[test]
fn a_disk_reads_and_writes_over_every_transport() {
    for kind in KINDS {
        let mut w = World::new(kind, 0);
        w.command(0, 1, DISK, &write(3, 4), 0, &[0xa5; 4 * BLOCK]);
        w.turn();
        w.command(1, 1, DISK, &read(2, 3), 3 * BLOCK as u32 + 100, &[]);
        w.turn();
        let residual = Residual::Underflow(100);
        assert_eq!(w.wire(1).responses, [(RequestTag(1), Status::Good, residual, Residual::None)]);
        let seen = &w.wire(1).seen[&RequestTag(1)];
        assert_eq!(seen.len(), 3 * BLOCK);
        assert!(seen[BLOCK..].iter().all(|&b| b == 0xa5), "{kind:?}");
        w.check_quiet();
    }
}

#[test]
fn a_serial_device_moves_parts_and_ends_short_over_every_transport() {
    for kind in KINDS {
        let mut w = World::new(kind, 0);
        w.command(0, 1, TAPE, &read_record(5000), 5000, &[]);
        w.command(0, 2, TAPE, &read_record(5000), 1200, &[]);
        w.command(0, 3, TAPE, &[0x0a, 0, 0, 0, 0, 0], 0, &[7; 4000]);
        w.turn();
        let expected = [
            (RequestTag(1), Residual::Underflow(1500), Residual::None, RECORD),
            (RequestTag(2), Residual::Overflow(2300), Residual::None, 1200),
            (RequestTag(3), Residual::None, Residual::Underflow(1500), 0),
        ];
        for (x, residual_in, residual_out, len) in expected {
            let response = *w.wire(0).responses.iter().find(|r| r.0 == x).unwrap();
            assert_eq!(response, (x, Status::CheckCondition, residual_in, residual_out), "{kind:?}");
            assert_eq!(w.wire(0).seen[&x].len(), len);
        }
        assert_eq!(w.stores[1].borrow().bytes[..ROOM], [7; ROOM]);
        w.check_quiet();
    }
}

/// The fabric tells how the initiator's buffer and what the command moves differ, the sense data how the record and
/// what the CDB asks for differ.
#[test]
fn a_record_of_another_length_is_no_overflow_over_every_transport() {
    const LEN: u32 = RECORD as u32;
    const SMALLER: u32 = LEN - 500;
    let cases = [
        // What the CDB asks for, the initiator's room, what comes, what the fabric says of it.
        (LEN, LEN, LEN, Residual::None),
        (SMALLER, SMALLER, SMALLER, Residual::None),
        (SMALLER, LEN, SMALLER, Residual::Underflow(500)),
        (SMALLER, 5000, SMALLER, Residual::Underflow(5000 - SMALLER)),
        (SMALLER, 1000, 1000, Residual::Overflow(SMALLER - 1000)),
        (5000, 5000, LEN, Residual::Underflow(5000 - LEN)),
        (5000, LEN, LEN, Residual::None),
        (5000, 1000, 1000, Residual::Overflow(LEN - 1000)),
        (LEN, 0, 0, Residual::Overflow(LEN)),
    ];
    for kind in KINDS {
        let mut w = World::new(kind, 0);
        for (x, (asked, room, comes, residual)) in (1..).zip(cases) {
            let context = format!("{kind:?}: {asked} asked for, room for {room}");
            let x = RequestTag(x);
            w.command(0, x.0, TAPE, &read_record(asked), room, &[]);
            w.turn();
            let same = asked == LEN;
            let status = if same { Status::Good } else { Status::CheckCondition };
            let response = *w.wire(0).responses.iter().find(|r| r.0 == x).unwrap();
            assert_eq!(response, (x, status, residual, Residual::None), "{context}");
            assert_eq!(w.wire(0).seen[&x].len(), comes as usize, "{context}");
            let information = Some((i64::from(asked) - i64::from(LEN)).cast_unsigned());
            let sense = Sense { ili: true, information, ..Sense::default() };
            let sense = if same { Vec::new() } else { sense.encode(false).to_vec() };
            assert_eq!(w.wire(0).sense[&x], sense, "{context}");
        }
        w.check_quiet();
    }
}

#[test]
fn a_record_is_kept_before_the_status() {
    let mut w = World::new(TransportKind::Stream, 0);
    w.kept.borrow_mut().hold = true;
    w.command(0, 1, DISK, &persist(7), 0, &[]);
    w.turn();
    let record = Record { name: "toy", generation: 1, bytes: vec![7] };
    assert!(matches!(&w.kept.borrow().under_way[..], [(_, RecordSlot(5), kept)] if *kept == record));
    assert!(w.wire(0).responses.is_empty(), "not yet");
    w.release();
    assert_eq!(w.wire(0).responses, [(RequestTag(1), Status::Good, Residual::None, Residual::None)]);
    // A unit without a slot for records.
    w.manager.units.iter_mut().for_each(|unit| unit.slot = None);
    w.command(0, 2, DISK, &persist(8), 0, &[]);
    w.turn();
    assert_eq!(w.wire(0).responses[1].1, Status::CheckCondition);
    w.check_quiet();
}

/// The states in which a command can be caught.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Caught {
    Storing,
    Refused,
    Persisting,
    Transfer,
    Blocked,
    /// Another core changes the state of the unit: before the command has begun ...
    Frozen,
    /// ... and before it gives its data to the store.
    FrozenOp,
    /// It waits for its turn to change the state itself.
    Turn,
}

/// A change of another core's.
const CHANGE: Turn = Turn { core: 1, ticket: 9 };

/// The ways to end it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    AbortTask,
    AbortTaskSet,
    ResetByOther,
    ResetByPeerCore,
    Abandoned,
    Loss,
}

fn caught(kind: TransportKind, state: Caught, write: bool, lun: Lun, end: End) {
    let mut w = World::new(kind, usize::from(end == End::ResetByOther));
    let context = format!("{kind:?} {state:?} write={write} {lun} {end:?}");
    let unit = w.manager.nexuses[w.transports[0].0.0].task_sets[usize::from(lun == TAPE)].unit;
    match state {
        Caught::Storing | Caught::Blocked => w.stores.iter().for_each(|s| s.borrow_mut().hold = true),
        Caught::Refused => w.stores.iter().for_each(|s| s.borrow_mut().full = true),
        Caught::Persisting if lun == TAPE => return, // a tape keeps nothing
        Caught::Persisting => w.kept.borrow_mut().hold = true,
        Caught::FrozenOp if !write => return, // a read goes to the store at once
        Caught::Transfer | Caught::FrozenOp => w.wire(0).hold = true,
        Caught::Turn if lun == TAPE => return, // a tape reserves nothing
        Caught::Turn => assert!(w.manager.units[unit.row()].shared.claim(CHANGE)),
        Caught::Frozen => w.manager.freeze(unit, CHANGE),
    }
    let cdb: &[u8] = match (lun == DISK, write) {
        _ if state == Caught::Persisting => &persist(9),
        _ if state == Caught::Turn => &[0x16, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        (true, true) => &self::write(0, 2),
        (true, false) => &read(0, 2),
        (false, true) => &[0x0a, 0, 0, 0, 0, 0],
        (false, false) => &read_record(4000),
    };
    let (data_in, out) = if write { (0, vec![1; 4000]) } else { (4000, Vec::new()) };
    if state == Caught::Blocked {
        w.command(0, 5, lun, cdb, data_in, &out);
        w.ordered(0, 1, lun, cdb, data_in, &out, TaskAttribute::Ordered);
    } else {
        w.command(0, 1, lun, cdb, data_in, &out);
    }
    w.turn();
    if state == Caught::FrozenOp {
        w.manager.freeze(unit, CHANGE);
        let wire = w.wire(0);
        wire.hold = false;
        wire.requests.extend(std::mem::take(&mut wire.held));
        w.turn();
    }
    assert!(
        w.wire(0).responses.is_empty() || state == Caught::Transfer && lun == DISK && !write,
        "{context}"
    );
    if !w.wire(0).responses.is_empty() {
        return w.check_quiet(); // a disk's read is sent with its status: there is no state to catch it in
    }
    match end {
        End::AbortTask => w.task_management(0, TaskManagementFunction::AbortTask(RequestTag(1)), lun),
        End::AbortTaskSet => w.task_management(0, TaskManagementFunction::AbortTaskSet, lun),
        End::ResetByOther => w.task_management(1, TaskManagementFunction::LogicalUnitReset, lun),
        End::ResetByPeerCore => w.manager.reset(NOW, SmallVec::from_slice(&[unit]), AfterAbort::Tell(3)),
        End::Abandoned => w.wire(0).requests.push_back(Request::Abandoned { request_tag: RequestTag(1) }),
        End::Loss => {
            let (key, transport) = &mut w.transports[0];
            drop(transport.take());
            w.manager.remove_nexus(NOW, *key, Some(AfterAbort::Tell(4)));
        }
    }
    w.turn();
    let in_store = matches!(state, Caught::Storing | Caught::Persisting | Caught::Turn)
        || state == Caught::Blocked
            && matches!(end, End::AbortTaskSet | End::ResetByOther | End::ResetByPeerCore | End::Loss);
    let told = |w: &mut World| match end {
        End::AbortTask | End::AbortTaskSet => !w.wire(0).executed.is_empty(),
        End::ResetByOther => !w.wire(1).executed.is_empty(),
        End::ResetByPeerCore | End::Loss => w.manager.notices.iter().any(|n| matches!(n, Notice::Ended(_))),
        End::Abandoned => w.wire(0).terminated.contains(&RequestTag(1)),
    };
    if end == End::ResetByOther {
        w.manager.notices.retain(|notice| !matches!(notice, Notice::ToPeer(_, PeerMessage::Frozen(CHANGE))));
        let Some(Notice::ResetPeers { units, ticket }) = w.manager.poll_notice() else {
            panic!("{context}: the other core is asked")
        };
        assert_eq!(units[..], [unit]);
        assert!(!told(&mut w), "{context}: waits for the other core");
        w.manager.peer_done(ticket);
        w.turn();
    }
    assert_eq!(told(&mut w), !in_store, "{context}: waits for what the store holds, and for nothing else");
    if in_store {
        assert!(w.manager.tasks() > 0, "{context}: the task keeps its buffers");
    }
    if matches!(state, Caught::Frozen | Caught::FrozenOp) {
        let now = w.manager.units[unit.row()].state.clone();
        w.manager.hear(PeerMessage::InForce { unit, state: now, effects: Arc::default(), by: None });
    } else if state == Caught::Turn {
        let next = w.manager.units[unit.row()].shared.release().expect("it waits");
        w.manager.hear(PeerMessage::Turn(next));
    }
    w.release();
    assert!(told(&mut w), "{context}");
    assert!(w.manager.units[unit.row()].shared.current().reservations().is_open(), "{context}: not any more");
    if end != End::Loss {
        let answered = w.wire(0).responses.iter().any(|r| r.0 == RequestTag(1));
        assert!(!answered, "{context}: an aborted command has no response");
        assert!(w.wire(0).terminated.contains(&RequestTag(1)), "{context}");
    }
    if matches!(end, End::ResetByOther | End::ResetByPeerCore) {
        for nexus in 0..2 {
            w.command(nexus, 2, lun, &[0; 10], 0, &[]);
            w.turn();
            let last = w.wire(nexus).responses.last().map(|r| (r.0, r.1));
            assert_eq!(
                last,
                Some((RequestTag(2), Status::CheckCondition)),
                "{context}: a unit attention for each"
            );
        }
    }
    w.check_quiet();
}

#[test]
fn every_end_in_every_state_over_every_transport() {
    for kind in KINDS {
        for state in [
            Caught::Storing,
            Caught::Refused,
            Caught::Persisting,
            Caught::Transfer,
            Caught::Blocked,
            Caught::Frozen,
            Caught::FrozenOp,
            Caught::Turn,
        ] {
            for write in [false, true] {
                for lun in [DISK, TAPE] {
                    for end in [
                        End::AbortTask,
                        End::AbortTaskSet,
                        End::ResetByOther,
                        End::ResetByPeerCore,
                        End::Abandoned,
                        End::Loss,
                    ] {
                        caught(kind, state, write, lun, end);
                    }
                }
            }
        }
    }
}

#[test]
fn simple_tasks_wait_for_the_head_of_the_queue() {
    let mut w = World::new(TransportKind::Stream, 0);
    w.stores[0].borrow_mut().hold = true;
    w.ordered(0, 1, DISK, &read(0, 1), 512, &[], TaskAttribute::HeadOfQueue);
    w.ordered(0, 2, DISK, &read(0, 1), 512, &[], TaskAttribute::HeadOfQueue);
    w.command(0, 3, DISK, &read(0, 1), 512, &[]);
    w.turn();
    assert_eq!(w.stores[0].borrow().held.len(), 2, "the heads pass each other, and nobody else passes them");
    w.task_management(0, TaskManagementFunction::AbortTask(RequestTag(1)), DISK);
    w.release();
    w.turn();
    assert_eq!(w.wire(0).responses.iter().map(|r| r.0.0).collect::<Vec<_>>(), [2, 3]);
    w.check_quiet();
}

#[test]
fn ordered_tasks_keep_their_place() {
    let mut w = World::new(TransportKind::Stream, 0);
    w.stores[0].borrow_mut().hold = true;
    w.command(0, 1, DISK, &read(0, 1), 512, &[]);
    w.ordered(0, 2, DISK, &read(0, 1), 512, &[], TaskAttribute::Ordered);
    w.command(0, 3, DISK, &read(0, 1), 512, &[]);
    w.ordered(0, 4, DISK, &[0; 10], 0, &[], TaskAttribute::HeadOfQueue);
    w.command(1, 5, DISK, &read(0, 1), 512, &[]);
    w.turn();
    // The head of the queue passes everybody; another nexus has a task set of its own.
    assert_eq!(w.wire(0).responses.iter().map(|r| r.0.0).collect::<Vec<_>>(), [4]);
    assert_eq!(w.stores[0].borrow().held.len(), 2);
    let mut order = Vec::new();
    for _ in 0..3 {
        let held = std::mem::take(&mut w.stores[0].borrow_mut().held);
        w.stores[0].borrow_mut().released.extend(held);
        w.turn();
        order.push(w.wire(0).responses.len());
    }
    assert_eq!(w.wire(0).responses.iter().map(|r| r.0.0).collect::<Vec<_>>(), [4, 1, 2, 3]);
    assert_eq!(order, [2, 3, 4]);
    assert_eq!(w.wire(1).responses.len(), 1);
    w.check_quiet();
}

#[test]
fn a_full_table_is_task_set_full() {
    let mut w = World::new(TransportKind::Stream, 0);
    w.manager.tasks_max = 2;
    w.stores[0].borrow_mut().hold = true;
    for x in 1..=3 {
        w.command(0, x, DISK, &read(0, 1), 512, &[]);
    }
    w.turn();
    let full = (RequestTag(3), Status::TaskSetFull, Residual::Underflow(512), Residual::None);
    assert_eq!(w.wire(0).responses, [full]);
    w.release();
    assert_eq!(w.wire(0).responses.len(), 3);
    w.check_quiet();
}

#[test]
fn an_absent_logical_unit_is_served_by_its_own_device() {
    let mut w = World::new(TransportKind::Stream, 0);
    w.command(0, 1, Lun::from_index(9), &[0; 10], 0, &[]);
    w.task_management(0, TaskManagementFunction::LogicalUnitReset, Lun::from_index(9));
    w.turn();
    assert_eq!(w.wire(0).responses.len(), 1);
    assert_eq!(w.wire(0).executed, [(RequestTag(7), TaskManagementResponse::IncorrectLun)]);
}

/// The abort was sent before the initiator saw the status: it learns that there is nothing to abort, and keeps the
/// status.
#[test]
fn a_task_that_has_ended_is_not_aborted() {
    let mut w = World::new(TransportKind::Stream, 0);
    w.command(0, 1, DISK, &write(0, 1), 0, &[1; 512]);
    w.turn();
    w.release();
    w.turn();
    assert_eq!(w.wire(0).responses.len(), 1);
    w.task_management(0, TaskManagementFunction::AbortTask(RequestTag(1)), DISK);
    w.turn();
    assert_eq!(w.wire(0).executed, [(RequestTag(7), TaskManagementResponse::NoSuchTask)]);
    assert_eq!(w.wire(0).responses.len(), 1);
    w.check_quiet();
}

/// What goes on after its status: not a task of the nexus any more, and stopped by nothing but the end of the daemon.
#[test]
fn a_detached_task_outlives_resets_and_its_nexus() {
    for end in 0..4 {
        let mut w = World::new(TransportKind::Stream, 0);
        w.stores[0].borrow_mut().hold = true;
        w.command(0, 1, DISK, &[0x48, 0, 0, 0, 0, 0, 0, 0, 0, 0], 0, &[]);
        w.turn();
        assert_eq!(w.wire(0).responses.len(), 1, "the status comes first");
        let nexus = w.transports[0].0;
        assert_eq!((w.manager.tasks(), w.manager.tasks_of(nexus)), (1, 0));
        match end {
            0 => {}
            1 => {
                w.task_management(1, TaskManagementFunction::LogicalUnitReset, DISK);
                w.turn();
                assert_eq!(w.wire(1).executed.len(), 1, "the reset does not wait for it");
            }
            2 => {
                w.transports[0].1 = None;
                w.manager.remove_nexus(NOW, nexus, Some(AfterAbort::Tell(3)));
                assert_eq!(w.manager.poll_notice(), Some(Notice::Ended(3)));
            }
            _ => w.manager.abort_detached(NOW),
        }
        assert_eq!(w.manager.tasks(), 1, "the store has its operation still");
        w.release();
        assert_eq!(w.disk.borrow().aborted.len(), usize::from(end == 3));
        w.check_quiet();
        // Its end is told to all but who began it.
        w.command(1, 2, DISK, &[0; 10], 0, &[]);
        w.turn();
        let told = w.wire(1).responses.last().unwrap().1 == Status::CheckCondition;
        assert_eq!(told, end != 3);
        if end == 0 {
            w.command(0, 3, DISK, &[0; 10], 0, &[]);
            w.turn();
            assert_eq!(w.wire(0).responses.last().unwrap().1, Status::Good);
        }
        w.wire(1).requests.clear();
    }
}

/// SAM-5 6.3.3 and 7.7: a reset ends a reservation by RESERVE, and so does the loss of its nexus, before anybody is
/// told.
#[test]
fn reserve_ends_with_a_reset_and_with_its_nexus() {
    for loss in [false, true] {
        let mut w = World::new(TransportKind::Stream, 0);
        let unit = w.manager.nexuses[w.transports[0].0.0].task_sets[0].unit;
        w.command(0, 1, DISK, &[0x16, 0, 0, 0, 0, 0, 0, 0, 0, 0], 0, &[]);
        w.turn();
        assert_eq!(w.wire(0).responses[0].1, Status::Good);
        assert!(!w.manager.units[unit.row()].state.reservations().is_open());
        if loss {
            let (key, transport) = &mut w.transports[0];
            drop(transport.take());
            w.manager.remove_nexus(NOW, *key, Some(AfterAbort::Tell(4)));
            assert_eq!(w.manager.poll_notice(), Some(Notice::Ended(4)));
        } else {
            w.task_management(1, TaskManagementFunction::LogicalUnitReset, DISK);
            w.turn();
            assert_eq!(w.wire(1).executed, [(RequestTag(7), TaskManagementResponse::Complete)]);
        }
        assert!(w.manager.units[unit.row()].state.reservations().is_open());
        w.check_quiet();
    }
}

/// RFC 7143 11.5.1: the answer goes out before the sessions end.
#[test]
fn a_cold_reset_ends_the_sessions_after_its_answer() {
    let mut w = World::new(TransportKind::Stream, 0);
    w.stores[0].borrow_mut().hold = true;
    w.command(0, 1, DISK, &read(0, 1), 512, &[]);
    w.turn();
    w.task_management(1, TaskManagementFunction::TargetColdReset, DISK);
    w.turn();
    assert!(w.wire(1).executed.is_empty(), "the store holds a task");
    assert_eq!(w.manager.poll_notice(), None);
    w.release();
    assert_eq!(w.wire(1).executed, [(RequestTag(7), TaskManagementResponse::Complete)]);
    assert_eq!(w.manager.poll_notice(), Some(Notice::ColdReset(w.transports[1].0)));
    w.check_quiet();
}

/// What is not to be stopped goes on without its nexus, which has its answer at once.
#[test]
fn an_aborted_task_may_go_on() {
    for reset in [false, true] {
        let mut w = World::new(TransportKind::Stream, 0);
        w.stores[0].borrow_mut().hold = true;
        w.command(0, 1, DISK, &[0x49, 0, 0, 0, 0, 0, 0, 0, 0, 0], 0, &[]);
        w.turn();
        let function = match reset {
            true => TaskManagementFunction::LogicalUnitReset,
            false => TaskManagementFunction::AbortTask(RequestTag(1)),
        };
        w.task_management(0, function, DISK);
        w.turn();
        assert_eq!(w.wire(0).executed, [(RequestTag(7), TaskManagementResponse::Complete)]);
        assert_eq!((w.manager.tasks(), w.disk.borrow().live), (1, 1), "it goes on");
        assert!(w.disk.borrow().aborted.is_empty());
        // Neither a reset nor the end of the nexus reaches it any more; the end of the daemon does.
        w.task_management(1, TaskManagementFunction::LogicalUnitReset, DISK);
        w.turn();
        assert_eq!(w.manager.tasks(), 1);
        if reset {
            w.disk.borrow_mut().steady.clear();
            w.manager.abort_detached(NOW);
        }
        w.release();
        assert!(w.wire(0).responses.is_empty(), "nobody is told how it ended");
        assert_eq!(w.disk.borrow().aborted.len(), usize::from(reset));
        w.wire(0).executed.clear();
        w.check_quiet();
    }
}
