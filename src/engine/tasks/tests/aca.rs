// SPDX-License-Identifier: GPL-2.0-or-later
//! What CHECK CONDITION means for the other tasks of a set, what other nexuses hear of aborts, and unit attentions that
//! stay.

use super::*;
use crate::scsi::{Control, Interlock};

/// COPY from a logical unit that is not there, which ends with CHECK CONDITION.
fn failing(naca: bool) -> [u8; 16] {
    let mut cdb = [0; 16];
    cdb[..2].copy_from_slice(&[0x83, 9]);
    cdb[15] = if naca { 4 } else { 0 };
    cdb
}

impl World {
    /// Sends a command without Data-Out, and lets happen what can.
    fn send(&mut self, nexus: usize, x: u32, cdb: &[u8], a: TaskAttribute) {
        self.ordered(nexus, x, DISK, cdb, 512, &[], a);
        self.turn();
    }

    fn simple(&mut self, nexus: usize, x: u32, cdb: &[u8]) {
        self.send(nexus, x, cdb, TaskAttribute::Simple);
    }

    fn hold(&mut self) {
        self.stores[0].borrow_mut().hold = true;
    }

    /// The statuses since this was asked last.
    fn statuses(&mut self, nexus: usize) -> Vec<(u32, Status)> {
        self.wire(nexus).responses.drain(..).map(|(x, status, ..)| (x.0, status)).collect()
    }

    fn terminated(&mut self, nexus: usize) -> Vec<u32> {
        self.wire(nexus).terminated.drain(..).map(|x| x.0).collect()
    }
}

use Status::{AcaActive, CheckCondition, Good};
use TaskAttribute::{Aca, Ordered};

#[test]
fn an_aca_condition_holds_its_set_until_it_is_cleared() {
    let mut w = World::new(TransportKind::Stream, 0);
    w.hold();
    w.simple(0, 1, &read(0, 1));
    w.send(0, 2, &read(0, 1), Ordered);
    w.simple(0, 3, &failing(false));
    w.simple(1, 1, &read(0, 1));
    assert_eq!(w.statuses(0), [], "the ORDERED task waits, and the failing one behind it");
    w.send(0, 4, &failing(true), TaskAttribute::HeadOfQueue);
    assert_eq!(w.statuses(0), [(4, CheckCondition)]);
    w.simple(0, 5, &read(0, 1));
    w.send(0, 6, &read(0, 1), TaskAttribute::HeadOfQueue);
    assert_eq!(w.statuses(0), [(5, AcaActive), (6, AcaActive)]);
    w.release();
    assert_eq!(w.statuses(0), [], "read, and not told");
    assert_eq!(w.statuses(1), [(1, Good)], "the set of another nexus");
    // One task with the attribute at a time.
    w.hold();
    w.send(0, 7, &read(0, 1), Aca);
    w.send(0, 8, &read(0, 1), Aca);
    assert_eq!(w.statuses(0), [(8, AcaActive)]);
    w.release();
    assert_eq!(w.statuses(0), [(7, Good)]);
    w.hold();
    w.send(0, 9, &read(0, 1), Aca);
    w.task_management(0, TaskManagementFunction::ClearAca, DISK);
    w.turn();
    assert_eq!(w.statuses(0), [(1, Good)]);
    assert!(w.wire(0).executed.is_empty(), "the task with the attribute is in the store");
    w.release();
    assert_eq!(w.terminated(0), [9]);
    assert_eq!(w.wire(0).executed.pop(), Some((RequestTag(7), TaskManagementResponse::Complete)));
    assert_eq!(w.statuses(0), [(2, Good), (3, CheckCondition)]);
    // Without a condition there is nothing to clear, and the attribute is wrong.
    w.task_management(0, TaskManagementFunction::ClearAca, DISK);
    w.task_management(0, TaskManagementFunction::ClearAca, Lun::from_index(77));
    w.send(0, 10, &read(0, 1), Aca);
    w.simple(0, 11, &read(0, 1));
    assert_eq!(w.statuses(0), [(10, CheckCondition), (11, Good)]);
    let executed = [TaskManagementResponse::IncorrectLun, TaskManagementResponse::Complete];
    assert_eq!(w.wire(0).executed.drain(..).map(|(_, response)| response).collect::<Vec<_>>(), executed);
    w.check_quiet();
}

#[test]
fn the_failure_of_the_task_with_the_attribute_ends_the_condition_or_renews_it() {
    let mut w = World::new(TransportKind::Stream, 0);
    w.hold();
    w.simple(0, 1, &read(0, 1));
    w.simple(0, 2, &failing(true));
    w.release();
    w.send(0, 3, &failing(true), Aca);
    w.simple(0, 4, &read(0, 1));
    assert_eq!(w.statuses(0), [(2, CheckCondition), (3, CheckCondition), (4, AcaActive)]);
    w.send(0, 5, &failing(false), Aca);
    w.simple(0, 6, &read(0, 1));
    assert_eq!(w.statuses(0), [(5, CheckCondition), (1, Good), (6, Good)]);
    w.check_quiet();
}

#[test]
fn tasks_whose_status_is_held_are_aborted_and_reset() {
    let mut w = World::new(TransportKind::Stream, 0);
    w.stores[0].borrow_mut().hold = true;
    w.simple(0, 1, &read(0, 1));
    w.simple(0, 2, &failing(true));
    w.simple(0, 3, &failing(true));
    assert_eq!(w.statuses(0), [(2, CheckCondition), (3, AcaActive)]);
    w.release();
    // Abort of one whose status is held.
    w.task_management(0, TaskManagementFunction::AbortTask(RequestTag(1)), DISK);
    w.turn();
    assert_eq!((w.terminated(0), w.statuses(0)), (vec![1], vec![]));
    // A reset by another ends the condition.
    w.task_management(1, TaskManagementFunction::LogicalUnitReset, DISK);
    w.turn();
    w.simple(0, 4, &read(0, 1));
    w.simple(0, 5, &read(0, 1));
    assert_eq!(w.statuses(0), [(4, CheckCondition), (5, Good)]);
    w.check_quiet();
}

#[test]
fn a_lost_nexus_leaves_no_condition() {
    let mut w = World::new(TransportKind::Stream, 0);
    w.hold();
    w.simple(0, 1, &read(0, 1));
    w.simple(0, 2, &failing(true));
    w.release();
    let key = w.transports[0].0;
    w.transports[0].1 = None;
    w.manager.remove_nexus(NOW, key, Some(AfterAbort::Tell(1)));
    w.turn();
    assert_eq!(w.manager.poll_notice(), Some(Notice::Ended(1)));
    w.check_quiet();
}

#[test]
fn with_qerr_a_failure_aborts_the_others_before_its_status() {
    for naca in [false, true] {
        let mut w = World::new(TransportKind::Stream, 0);
        w.disk.borrow_mut().control.abort_others = true;
        w.hold();
        w.simple(0, 1, &read(0, 1));
        w.simple(1, 1, &read(0, 1));
        w.simple(0, 2, &failing(naca));
        assert_eq!(w.statuses(0), [], "the store still has one of them");
        w.release();
        assert_eq!((w.terminated(0), w.statuses(0)), (vec![1], vec![(2, CheckCondition)]));
        assert_eq!(w.statuses(1), [(1, Good)]);
        w.simple(0, 3, &read(0, 1));
        assert_eq!(w.statuses(0), [(3, if naca { AcaActive } else { Good })]);
        w.check_quiet();
    }
}

#[test]
fn with_tas_others_hear_of_aborts() {
    let mut w = World::new(TransportKind::Stream, 0);
    w.disk.borrow_mut().control.aborted_status = true;
    w.hold();
    for nexus in 0..2 {
        w.simple(nexus, 1, &read(0, 1));
    }
    w.task_management(1, TaskManagementFunction::LogicalUnitReset, DISK);
    w.turn();
    w.release();
    assert_eq!((w.terminated(0), w.statuses(0)), (vec![1], vec![(1, Status::TaskAborted)]));
    assert_eq!((w.terminated(1), w.statuses(1)), (vec![1], vec![]), "it knows");
    w.check_quiet();
}

/// The ends of many tasks that wait for one another are one after the other, not one inside the other.
#[test]
fn long_queues_make_no_deep_stack() {
    const MANY: u32 = 8000;
    let mut w = World::new(TransportKind::Stream, 0);
    w.hold();
    w.simple(0, 0, &read(0, 1));
    for x in 1..MANY {
        w.ordered(0, x, DISK, &[0; 10], 0, &[], Ordered);
    }
    w.turn();
    assert_eq!(w.statuses(0), []);
    w.release();
    let order = w.statuses(0).into_iter().map(|(x, _)| x);
    assert!(order.eq(0..MANY));
    // The same with tasks whose status is held, and is CHECK CONDITION.
    w.hold();
    for x in 0..MANY {
        w.command(0, x, DISK, &read(0, 1), 0, &[]);
    }
    w.turn();
    w.simple(0, MANY, &failing(true));
    w.release();
    assert_eq!(w.statuses(0), [(MANY, CheckCondition)]);
    let key = w.transports[0].0;
    for (_, outcome) in &mut w.manager.nexuses[key.0].task_sets[0].halted {
        *outcome = Outcome::check(Sense::illegal(asc::INVALID_FIELD_IN_CDB));
    }
    w.task_management(0, TaskManagementFunction::ClearAca, DISK);
    w.turn();
    assert_eq!(w.statuses(0).len(), MANY as usize);
    w.check_quiet();
}

#[test]
fn interlocked_attentions_stay_until_request_sense() {
    let mut w = World::new(TransportKind::Stream, 0);
    let interlock = |interlock| Control { interlock, ..Control::default() };
    w.disk.borrow_mut().control = interlock(Interlock::Kept);
    w.task_management(1, TaskManagementFunction::LogicalUnitReset, DISK);
    w.turn();
    for x in 1..4 {
        w.simple(0, x, &read(0, 1));
        assert_eq!(w.statuses(0), [(x, CheckCondition)]);
    }
    w.simple(0, 4, &[3, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    w.simple(0, 5, &read(0, 1));
    assert_eq!(w.statuses(0), [(4, Good), (5, Good)]);
    // A full task set leaves a condition only if the initiator wants to know.
    for (interlock, next) in
        [(interlock(Interlock::Kept), Good), (interlock(Interlock::KeptAndMade), CheckCondition)]
    {
        w.disk.borrow_mut().control = interlock;
        w.manager.tasks_max = 0;
        w.simple(0, 6, &read(0, 1));
        w.manager.tasks_max = TASKS_MAX;
        w.simple(0, 7, &read(0, 1));
        assert_eq!(w.statuses(0), [(6, Status::TaskSetFull), (7, next)]);
    }
    w.check_quiet();
}
