// SPDX-License-Identifier: GPL-2.0-or-later
//! The command window: order, gaps, what lies outside, and immediate requests.

use super::*;
use crate::fabrics::iscsi::initiator::Transfer;
use crate::wire::iscsi::RejectReason;

fn narrow() -> World {
    World::logged_in(Parameters { queue_depth: 4, ..Parameters::default() }, &[("InitialR2T", "No")])
}

fn tags(packets: &[Packet]) -> Vec<u32> {
    packets.iter().map(|packet| packet.bhs.itt()).collect()
}

#[test]
fn commands_outside_the_window_are_ignored() {
    let mut world = narrow();
    let (cmd_sn, max) = (world.initiator.cmd_sn, world.initiator.max_cmd_sn);
    assert_eq!(max - cmd_sn, 3);
    let command = world.initiator.command(0, &[0], Transfer::NONE);
    for wrong in [max + 1, max + 1000, cmd_sn - 1, cmd_sn.wrapping_sub(1000), cmd_sn.wrapping_add(1 << 31)] {
        assert!(world.exchange(&[command.clone().word(24, wrong)]).is_empty(), "{wrong}");
    }
    assert_eq!(world.connection().counters().ignored, 5);
    // They left no trace.
    assert_eq!(opcodes(&world.exchange(&[command])), [Opcode::SCSI_RESPONSE]);
    world.end();
}

#[test]
fn a_status_opens_the_window_for_the_next_command() {
    for depth in [1, 4] {
        let parameters = Parameters { queue_depth: depth, ..Parameters::default() };
        let mut world = World::logged_in(parameters, &[]);
        for cdb in [vendor(READ_IN_PARTS, 1000, 1000), vendor(FAIL, 0, 0), [0; 16]] {
            let command = world.initiator.command(0, &cdb, Transfer::read(1000));
            world.exchange(&[command]);
            let window = world.initiator.max_cmd_sn.wrapping_sub(world.initiator.cmd_sn);
            assert_eq!(window, depth - 1, "{cdb:x?}");
        }
        world.end();
    }
}

#[test]
fn commands_wait_for_their_turn() {
    let mut world = narrow();
    let commands: Vec<_> = (0..4).map(|_| world.initiator.command(0, &[0], Transfer::NONE)).collect();
    for early in [3, 1, 2, 1] {
        assert!(world.exchange(&[commands[early].clone()]).is_empty());
    }
    assert_eq!(world.connection().counters().ignored, 1, "a command sent twice");
    let answers = world.exchange(&[commands[0].clone()]);
    assert_eq!(tags(&answers), tags(&commands));
    world.end();
}

#[test]
fn unsolicited_data_waits_with_its_command() {
    let mut world = narrow();
    let first = world.initiator.command(0, &[0], Transfer::NONE);
    let mut write = world.initiator.command(0, &vendor(WRITE_IN_PARTS, 3000, 3000), Transfer::write(3000));
    write.bhs.bytes_mut()[1] &= !FINAL;
    let buffer = pattern_of(0, 3000);
    let write = write.data(&buffer[..1000]);
    let data = [
        world.initiator.data_out(&write, None, 0, 1000, &buffer[1000..2000], false),
        world.initiator.data_out(&write, None, 1, 2000, &buffer[2000..], true),
    ];
    assert!(world.exchange(&[write, data[0].clone(), data[1].clone()]).is_empty());
    assert_eq!(world.session.held(), 3000);
    assert_eq!(world.exchange(&[first]).len(), 2);
    assert_eq!(world.toy.written, [buffer]);
    assert_eq!(world.session.held(), 0);
    world.end();
}

#[test]
fn early_data_is_bounded() {
    let mut world = narrow();
    world.initiator.cmd_sn += 1;
    let mut write = world.initiator.command(0, &vendor(WRITE_IN_PARTS, 1 << 20, 1), Transfer::write(1 << 20));
    write.bhs.bytes_mut()[1] &= !FINAL;
    let data = world.initiator.data_out(&write, None, 0, 0, &[1; 32768], false);
    world.exchange(&[write, data.clone(), data.clone()]);
    assert_eq!(world.session.held(), 65536);
    world.exchange(&[data]);
    assert_eq!(world.violation(), "more unsolicited data than negotiated");
    world.end();
}

#[test]
fn the_window_closes_and_opens() {
    let mut world = narrow();
    let holds: Vec<_> = (0..4).map(|_| world.initiator.command(0, &[HOLD], Transfer::NONE)).collect();
    assert!(world.exchange(&holds).is_empty());
    assert_eq!(world.toy.running(), 4);
    // Nothing was answered, so the initiator knows of no room; it tries all the same.
    let more = world.initiator.command(0, &[0], Transfer::NONE);
    assert!(world.exchange(&[&more]).is_empty());
    let ping = world.initiator.nop_out(b"");
    let ping = world.initiator.immediate(ping);
    let pong = world.exchange(&[ping]);
    assert_eq!(pong[0].bhs.word(32), pong[0].bhs.word(28) - 1, "closed");
    let abort = world.initiator.abort_task(&holds[1]);
    let abort = world.initiator.immediate(abort);
    let answer = world.exchange(&[abort]);
    assert_eq!(answer[0].bhs.bytes()[2], 0, "complete");
    assert_eq!(answer[0].bhs.word(32), answer[0].bhs.word(28), "one place");
    assert_eq!(world.exchange(&[more]).len(), 1);
    world.end();
}

#[test]
fn serial_numbers_wrap() {
    let mut world = World::new(Parameters { queue_depth: 4, ..Parameters::default() });
    (world.initiator.cmd_sn, world.initiator.exp_stat_sn) = (u32::MAX - 2, u32::MAX - 2);
    let login = world.initiator.login(1, Some(3), &NAMES);
    world.exchange(&[login]);
    for _ in 0..10 {
        let command = world.initiator.command(0, &[0], Transfer::NONE);
        assert_eq!(world.exchange(&[command]).len(), 1);
    }
    assert_eq!(world.initiator.exp_cmd_sn, 7);
    world.end();
}

#[test]
fn immediate_commands_are_few() {
    let mut world = narrow();
    let mut flood = Vec::new();
    for _ in 0..10 {
        let hold = world.initiator.command(0, &[HOLD], Transfer::NONE);
        flood.push(world.initiator.immediate(hold));
    }
    let answers = world.exchange(&flood);
    assert_eq!(opcodes(&answers), [Opcode::REJECT; 2]);
    assert_eq!(answers[0].bhs.bytes()[2], RejectReason::TOO_MANY_IMMEDIATE.raw());
    assert_eq!(answers[0].data[..16], flood[8].encode(Default::default())[..16]);
    assert_eq!(world.toy.running(), 8);
    // The window is as wide as before.
    assert_eq!(answers[1].bhs.word(32) - answers[1].bhs.word(28), 3);
    world.end();
}

#[test]
fn a_task_tag_names_one_task() {
    let mut world = narrow();
    let hold = world.initiator.command(0, &[HOLD], Transfer::NONE);
    let twin = world.initiator.command(0, &[HOLD], Transfer::NONE).word(16, hold.bhs.itt());
    world.exchange(&[hold, twin]);
    assert_eq!(world.violation(), "initiator task tag of another command");
    world.end();
}

#[test]
fn abort_of_a_command_that_never_comes() {
    let mut world = narrow();
    let lost = world.initiator.command(0, &[0], Transfer::NONE);
    let late = world.initiator.command(0, &[0], Transfer::NONE);
    assert!(world.exchange(&[&late]).is_empty());
    let abort = world.initiator.abort_task(&lost);
    let abort = world.initiator.immediate(abort);
    let answers = world.exchange(&[abort]);
    assert_eq!(opcodes(&answers), [Opcode::TASK_MANAGEMENT_RESPONSE, Opcode::SCSI_RESPONSE]);
    assert_eq!((answers[0].bhs.bytes()[2], answers[1].bhs.itt()), (0, late.bhs.itt()));
    assert!(world.exchange(&[lost]).is_empty(), "its place is taken");
    world.end();
}

#[test]
fn abort_of_a_command_that_waits_for_its_turn() {
    let mut world = narrow();
    let first = world.initiator.command(0, &[0], Transfer::NONE);
    let second = world.initiator.command(0, &[FAIL], Transfer::NONE);
    world.exchange(&[&second]);
    let abort = world.initiator.abort_task(&second);
    let abort = world.initiator.immediate(abort);
    assert_eq!(world.exchange(&[abort])[0].bhs.bytes()[2], 0);
    assert_eq!(tags(&world.exchange(&[&first])), [first.bhs.itt()]);
    world.end();
}

#[test]
fn abort_of_a_task_that_is_over_leaves_the_window_alone() {
    let mut world = narrow();
    let done = world.initiator.command(0, &[0], Transfer::NONE);
    world.exchange(&[&done]);
    let abort = world.initiator.abort_task(&done);
    let abort = world.initiator.immediate(abort);
    assert_eq!(world.exchange(&[abort])[0].bhs.bytes()[2], 1, "task does not exist");
    // An immediate task's RefCmdSN is the CmdSN of the request itself, which the next command will have.
    let abort = world.initiator.abort_task(&done);
    let abort = world.initiator.immediate(abort);
    let own = abort.bhs.cmd_sn();
    assert_eq!(world.exchange(&[abort.word(32, own)])[0].bhs.bytes()[2], 1);
    let next = world.initiator.command(0, &[0], Transfer::NONE);
    assert_eq!(world.exchange(&[next]).len(), 1, "the next command is not taken for an aborted one");
    world.end();
}

#[test]
fn a_reset_takes_commands_that_wait_for_their_turn() {
    let mut world = narrow();
    let gap = world.initiator.command(0, &[0], Transfer::NONE);
    let waits = world.initiator.command(5 << 48, &[0], Transfer::NONE);
    let other = world.initiator.command(6 << 48, &[0], Transfer::NONE);
    world.exchange(&[&waits, &other]);
    let reset = world.initiator.task_management(5, 5 << 48);
    let reset = world.initiator.immediate(reset);
    assert!(world.exchange(&[&reset]).is_empty(), "it concerns what is missing, too");
    let all = [gap.bhs.itt(), waits.bhs.itt(), other.bhs.itt(), reset.bhs.itt()];
    assert_eq!(tags(&world.exchange(&[&gap])), all, "in the order of CmdSN, and the reset behind them");
    // A target reset takes those that are missing for aborted.
    let gap = world.initiator.command(0, &[0], Transfer::NONE);
    let waits = world.initiator.command(5 << 48, &[FAIL], Transfer::NONE);
    world.exchange(&[&waits]);
    let reset = world.initiator.task_management(6, 0);
    let reset = world.initiator.immediate(reset);
    assert_eq!(tags(&world.exchange(&[&reset])), [reset.bhs.itt()]);
    assert!(world.exchange(&[&gap]).is_empty(), "its place is taken");
    let next = world.initiator.command(0, &[0], Transfer::NONE);
    assert_eq!(world.exchange(&[next]).len(), 1);
    world.end();
}
