// SPDX-License-Identifier: GPL-2.0-or-later
//! Commands that are slow or fail by rule.

use std::time::Duration;

use super::*;
use crate::io::FaultRate;

use Status::{Busy, CheckCondition, Good, TaskSetFull};

const RULE: CommandFault =
    CommandFault { opcode: 0x28, action: None, answer: Answer::Usual, rate: FaultRate::ALWAYS };

fn world(rules: &[CommandFault]) -> World {
    let mut world = World::new(TransportKind::Stream, 0);
    world.manager.make_faults(UnitKey(1), Arc::new(CommandFaults::new(1, rules)));
    world
}

fn at(millis: u64) -> Instant {
    Instant::ZERO + Duration::from_millis(millis)
}

impl World {
    fn answers(&mut self, nexus: usize) -> Vec<(u32, Status)> {
        self.wire(nexus)
            .responses
            .drain(..)
            .map(|(request_tag, status, ..)| (request_tag.0, status))
            .collect()
    }
}

#[test]
fn commands_fail_by_operation_code_and_by_service_action() {
    let rate = FaultRate { after: 1, times: Some(1), ..FaultRate::ALWAYS };
    let mut w = world(&[
        CommandFault { answer: Answer::Status(Busy), rate, ..RULE },
        CommandFault { opcode: 0x2a, answer: Answer::Check(key::MEDIUM_ERROR, 0x0c00), ..RULE },
        CommandFault { opcode: 0x2f, action: Some(3), answer: Answer::Status(TaskSetFull), ..RULE },
    ]);
    for x in 0..3 {
        w.command(0, x, DISK, &read(0, 1), BLOCK as u32, &[]);
        w.turn();
    }
    w.command(0, 3, DISK, &write(0, 1), 0, &[7; BLOCK]);
    w.command(0, 4, DISK, &persist(1), 0, &[]);
    w.command(0, 5, DISK, &[0x2f, 3, 0, 0, 0, 1, 0, 0, 0, 0], 0, &[]);
    // Another logical unit has no rules.
    w.command(0, 6, TAPE, &read_record(RECORD as u32), RECORD as u32, &[]);
    w.turn();
    let mut answers = w.answers(0);
    answers.sort_by_key(|(x, _)| *x);
    let wanted =
        [(0, Good), (1, Busy), (2, Good), (3, CheckCondition), (4, Good), (5, TaskSetFull), (6, Good)];
    assert_eq!(answers, wanted);
    // What failed has not reached the device: nothing was written.
    assert_eq!(w.stores[0].borrow().bytes[..3], [0; 3]);
    w.check_quiet();
}

#[test]
fn a_unit_attention_goes_before_a_fault_and_does_not_count() {
    let rate = FaultRate { times: Some(1), ..FaultRate::ALWAYS };
    let mut w = world(&[CommandFault { answer: Answer::Status(Busy), rate, ..RULE }]);
    w.manager.attention(UnitKey(1), 0x2a09, None);
    for x in 0..3 {
        w.command(0, x, DISK, &read(0, 1), BLOCK as u32, &[]);
        w.turn();
    }
    assert_eq!(w.answers(0), [(0, CheckCondition), (1, Busy), (2, Good)]);
}

#[test]
fn a_slow_command_is_under_way_until_its_time() {
    let rate = FaultRate { delay: Duration::from_millis(5), times: Some(2), ..FaultRate::ALWAYS };
    let mut w = world(&[CommandFault { rate, ..RULE }]);
    w.command(0, 1, DISK, &read(0, 1), BLOCK as u32, &[]);
    w.command(1, 1, DISK, &read(0, 1), BLOCK as u32, &[]);
    // It goes before an ordered task of its nexus, and nothing of another's.
    w.ordered(0, 2, DISK, &[0; 10], 0, &[], TaskAttribute::Ordered);
    w.command(1, 2, DISK, &[0; 10], 0, &[]);
    w.turn_at(at(4));
    assert_eq!((w.answers(0), w.answers(1)), (vec![], vec![(2, Good)]));
    assert_eq!(w.manager.next_deadline(), Some(at(9)));
    w.turn_at(at(8));
    assert_eq!(w.answers(0), []);
    w.turn_at(at(9));
    assert_eq!(w.answers(0), [(1, Good), (2, Good)]);
    assert_eq!((w.answers(1), w.manager.next_deadline()), (vec![(1, Good)], None));
    w.check_quiet();
}

#[test]
fn slow_commands_are_aborted_reset_and_cut_off() {
    let rate = FaultRate { delay: Duration::from_millis(5), ..FaultRate::ALWAYS };
    let mut w = world(&[CommandFault { answer: Answer::Check(key::MEDIUM_ERROR, 0x1100), rate, ..RULE }]);
    w.disk.borrow_mut().control.abort_others = true;
    for x in 1..4 {
        w.command(0, x, DISK, &read(0, 1), BLOCK as u32, &[]);
    }
    w.turn();
    w.task_management(0, TaskManagementFunction::AbortTask(RequestTag(1)), DISK);
    w.turn();
    // QERR: the end of one is that of the other, though its time has come as well.
    w.turn_at(at(6));
    assert_eq!(w.answers(0), [(2, CheckCondition)]);
    w.command(0, 4, DISK, &read(0, 1), BLOCK as u32, &[]);
    w.turn_at(at(6));
    w.task_management(1, TaskManagementFunction::LogicalUnitReset, DISK);
    w.turn_at(at(20));
    assert_eq!((w.answers(0), w.manager.tasks()), (vec![], 0));
    w.command(1, 5, DISK, &[0; 10], 0, &[]);
    w.command(1, 6, DISK, &read(0, 1), BLOCK as u32, &[]);
    w.turn_at(at(20));
    let key = w.transports[1].0;
    w.transports[1].1 = None;
    w.manager.remove_nexus(at(21), key, Some(AfterAbort::Tell(1)));
    assert_eq!((w.manager.tasks(), w.manager.next_deadline()), (0, None));
}
