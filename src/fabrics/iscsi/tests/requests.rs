// SPDX-License-Identifier: GPL-2.0-or-later
//! Ping, text, task management, logout, asynchronous messages, and requests that nobody understands.

use super::*;
use crate::fabrics::iscsi::initiator::Transfer;
use crate::wire::iscsi::{NO_TAG, RejectReason};

fn normal() -> World {
    World::logged_in(Parameters::default(), &[("MaxRecvDataSegmentLength", "8192")])
}

fn discovery(keys: &[(&str, &str)]) -> World {
    let mut world = World::new(Parameters::default());
    let names = [NAMES[0], ("SessionType", "Discovery")];
    let login = world.initiator.login(1, Some(3), &[&names[..], keys].concat());
    assert_eq!(world.exchange(&[login])[0].bhs.half(36), 0);
    world
}

fn ask(world: &mut World, text: &str) -> String {
    let request = world.initiator.text(text.as_bytes());
    let answers = world.exchange(&[request]);
    assert_eq!(opcodes(&answers), [Opcode::TEXT_RESPONSE], "{text}");
    assert_eq!((answers[0].bhs.flags(), answers[0].bhs.word(20)), (FINAL, NO_TAG));
    String::from_utf8(answers[0].data.clone()).unwrap()
}

#[test]
fn a_ping_is_echoed() {
    let mut world = normal();
    let ping = world.initiator.nop_out(b"hello").lun(3 << 48);
    let pong = world.exchange(&[&ping]);
    assert_eq!(
        pong[0].bhs.bytes()[..24],
        [0x20, 0x80, 0, 0, 0, 0, 0, 5, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x11, 0xff, 0xff, 0xff, 0xff]
    );
    assert_eq!(pong[0].data, b"hello");
    // Cut to what the initiator takes.
    let ping = world.initiator.nop_out(&[7; 10_000]);
    assert_eq!(world.exchange(&[ping])[0].data.len(), 8192);
    world.end();
}

#[test]
fn a_silent_initiator_is_pinged_then_dropped() {
    let mut world = normal();
    world.wait(Duration::from_secs(29));
    let ping = world.wait(Duration::from_secs(1));
    assert_eq!(opcodes(&ping), [Opcode::NOP_IN]);
    assert_eq!((ping[0].bhs.itt(), ping[0].bhs.word(20) != NO_TAG), (NO_TAG, true));
    // It answers.
    let pong =
        Packet::raw(Opcode::NOP_OUT, FINAL).immediate().word(16, NO_TAG).word(20, ping[0].bhs.word(20));
    assert!(world.exchange(&[pong.word(24, world.initiator.cmd_sn)]).is_empty());
    assert!(world.wait(Duration::from_millis(29_999)).is_empty());
    assert_eq!(opcodes(&world.wait(Duration::from_millis(1))), [Opcode::NOP_IN]);
    // It does not.
    world.wait(Duration::from_secs(30));
    assert_eq!(world.closed(), Some(&CloseReason::Timeout("no answer to a ping")));
    assert!(matches!(world.events.last(), Some(Event::Closed { reset: true, .. })));
    world.end();
}

#[test]
fn pings_can_be_switched_off() {
    let off = Parameters { nop_interval: Duration::ZERO, ..Parameters::default() };
    let world = World::logged_in(off, &[]);
    assert_eq!(world.session.next_deadline(), None);
}

#[test]
fn unknown_requests_are_rejected_with_their_header() {
    let mut world = normal();
    for (opcode, reason) in [
        (0x10, RejectReason::SNACK_REJECT.raw()),
        (0x07, RejectReason::COMMAND_NOT_SUPPORTED.raw()),
        (0x3f, RejectReason::COMMAND_NOT_SUPPORTED.raw()),
    ] {
        let request = Packet::raw(Opcode::new(opcode), FINAL).word(16, 5).data(b"what is this");
        let answers = world.exchange(&[&request]);
        assert_eq!(opcodes(&answers), [Opcode::REJECT]);
        assert_eq!(answers[0].bhs.bytes()[..4], [0x3f, 0x80, reason, 0]);
        assert_eq!(answers[0].bhs.itt(), NO_TAG);
        assert_eq!(answers[0].data, request.encode(Default::default())[..48]);
    }
    assert_eq!(world.connection().counters().rejects, 3);
    world.end();
}

#[test]
fn send_targets() {
    let both = "TargetName=iqn.2026-11.test:a\0TargetAddress=192.0.2.1:3260,1\0TargetAddress=[2001:db8::1]:3260,2\0\
                TargetName=iqn.2026-11.test:b\0TargetAddress=192.0.2.1:3260,1\0TargetAddress=[2001:db8::1]:3260,2\0";
    let one = &both[..both.len() / 2];
    let mut world = discovery(&[]);
    assert_eq!(ask(&mut world, "SendTargets=All\0"), both);
    assert_eq!(ask(&mut world, "SendTargets=iqn.2026-11.test:a\0"), one);
    assert_eq!(ask(&mut world, "SendTargets=iqn.2026-11.test:none\0"), "");
    assert_eq!(ask(&mut world, "SendTargets=\0"), "SendTargets=Reject\0");
    world.end();
    let mut world = normal();
    assert_eq!(ask(&mut world, "SendTargets=\0"), one);
    assert_eq!(ask(&mut world, "SendTargets=iqn.2026-11.TEST:a\0"), one);
    assert_eq!(ask(&mut world, "SendTargets=All\0"), "SendTargets=Reject\0");
    assert_eq!(ask(&mut world, "SendTargets=iqn.2026-11.test:b\0"), "SendTargets=Reject\0");
    world.end();
}

#[test]
fn a_long_answer_takes_several_pdus() {
    let mut world = discovery(&[("MaxRecvDataSegmentLength", "512")]);
    assert_eq!(ask(&mut world, "MaxRecvDataSegmentLength=8192\0"), "");
    let whole = ask(&mut world, "SendTargets=All\0");
    let mut world = discovery(&[("MaxRecvDataSegmentLength", "512")]);
    world.session.connections[0].negotiated.max_xmit_data_segment_length = 100;
    let request = world.initiator.text(b"SendTargets=All\0");
    let mut answer = world.exchange(&[&request]).remove(0);
    let mut text = answer.data.clone();
    while answer.bhs.flags() != FINAL {
        assert_eq!((answer.bhs.flags(), answer.data.len()), (CONTINUE, 100));
        assert_eq!(answer.bhs.itt(), request.bhs.itt());
        let more = world.initiator.text(b"").word(16, request.bhs.itt()).word(20, answer.bhs.word(20));
        answer = world.exchange(&[more]).remove(0);
        text.extend(&answer.data);
    }
    assert_eq!(String::from_utf8(text).unwrap(), whole);
    // The exchange is over, and another's tag is worth nothing.
    let more = world.initiator.text(b"").word(20, 1);
    assert_eq!(opcodes(&world.exchange(&[more])), [Opcode::REJECT]);
    world.end();
}

#[test]
fn a_long_request_takes_several_pdus() {
    let mut world = normal();
    let mut first = world.initiator.text(b"X-a.long.key=v\0Send");
    first.bhs.bytes_mut()[1] = CONTINUE;
    let go_on = world.exchange(&[&first]).remove(0);
    assert_eq!((go_on.bhs.flags(), go_on.data.len(), go_on.bhs.word(20) != NO_TAG), (0, 0, true));
    let rest = world.initiator.text(b"Targets=All\0").word(16, first.bhs.itt()).word(20, go_on.bhs.word(20));
    let answer = world.exchange(&[rest]).remove(0);
    assert_eq!(answer.data, b"X-a.long.key=NotUnderstood\0SendTargets=Reject\0");
    // Both bits at once, and a request without end.
    let mut both = world.initiator.text(b"a=b\0");
    both.bhs.bytes_mut()[1] |= CONTINUE;
    assert_eq!(opcodes(&world.exchange(&[both])), [Opcode::REJECT]);
    let mut tag = NO_TAG;
    while world.closed().is_none() {
        let mut more = world.initiator.text(&[b'x'; 8192]).word(16, 7).word(20, tag);
        more.bhs.bytes_mut()[1] = CONTINUE;
        if let Some(answer) = world.exchange(&[more]).first() {
            tag = answer.bhs.word(20);
        }
        assert!(world.initiator.cmd_sn < 130, "bounded");
    }
    assert_eq!(world.violation(), "text request too long");
    world.end();
}

#[test]
fn an_initiator_may_keep_an_exchange_open() {
    let mut world = normal();
    let mut first = world.initiator.text(b"X-a.b=1\0");
    first.bhs.bytes_mut()[1] = 0;
    let answer = world.exchange(&[&first]).remove(0);
    assert_eq!((answer.bhs.flags(), &answer.data[..]), (0, &b"X-a.b=NotUnderstood\0"[..]));
    let last = world.initiator.text(b"").word(16, first.bhs.itt()).word(20, answer.bhs.word(20));
    let answer = world.exchange(&[last]).remove(0);
    assert_eq!((answer.bhs.flags(), answer.bhs.word(20)), (FINAL, NO_TAG));
    world.end();
}

#[test]
fn little_is_negotiated_after_login() {
    let mut world = normal();
    assert_eq!(ask(&mut world, "MaxRecvDataSegmentLength=0x1000\0"), "");
    assert_eq!(world.connection().negotiated().max_xmit_data_segment_length, 4096);
    assert_eq!(ask(&mut world, "MaxRecvDataSegmentLength=1\0"), "MaxRecvDataSegmentLength=Reject\0");
    assert_eq!(
        ask(&mut world, "MaxBurstLength=512\0TargetName=x\0"),
        "MaxBurstLength=Reject\0TargetName=Reject\0"
    );
    assert_eq!(ask(&mut world, "Whatever=1\0"), "Whatever=NotUnderstood\0");
    for bad in ["NoEquals\0", "NoEnd=1", "X-a=1\0X-a=2\0"] {
        let request = world.initiator.text(bad.as_bytes());
        let answers = world.exchange(&[request]);
        assert_eq!(
            (answers[0].opcode(), answers[0].bhs.bytes()[2]),
            (Opcode::REJECT, RejectReason::PROTOCOL_ERROR.raw()),
            "{bad}"
        );
    }
    world.end();
}

#[test]
fn functions_reach_the_task_manager() {
    use TaskManagementFunction as F;
    let mut world = normal();
    let codes = [
        (2, F::AbortTaskSet),
        (3, F::ClearAca),
        (4, F::ClearTaskSet),
        (5, F::LogicalUnitReset),
        (6, F::TargetReset),
        (7, F::TargetColdReset),
    ];
    for (code, function) in codes {
        let request = world.initiator.task_management(code, 1 << 48);
        let answers = world.exchange(&[&request]);
        assert_eq!(answers[0].bhs.bytes()[..4], [0x22, 0x80, 0, 0]);
        assert_eq!(answers[0].bhs.itt(), request.bhs.itt());
        assert_eq!(world.toy.functions.pop(), Some(function));
    }
    for (code, response) in [(8, 4), (0, 5), (9, 5), (0x7f, 5)] {
        let request = world.initiator.task_management(code, 0);
        assert_eq!(world.exchange(&[request])[0].bhs.bytes()[2], response);
    }
    assert!(world.toy.functions.is_empty());
    world.end();
}

#[test]
fn abort_task_ends_one_task() {
    let mut world = normal();
    let holds: Vec<_> = (0..3).map(|_| world.initiator.command(0, &[HOLD], Transfer::read(512))).collect();
    world.exchange(&holds);
    let abort = world.initiator.abort_task(&holds[1]);
    let answers = world.exchange(&[abort]);
    assert_eq!((opcodes(&answers), answers[0].bhs.bytes()[2]), (vec![Opcode::TASK_MANAGEMENT_RESPONSE], 0));
    assert_eq!((world.toy.running(), world.session.in_flight(world.key)), (2, 2));
    let again = world.initiator.abort_task(&holds[1]);
    assert_eq!(world.exchange(&[again])[0].bhs.bytes()[2], 1);
    let reset = world.initiator.task_management(5, 0);
    world.exchange(&[reset]);
    assert_eq!((world.toy.running(), world.session.in_flight(world.key)), (0, 0));
    world.end();
}

#[test]
fn a_finished_task_answers_before_the_request_to_abort_it() {
    let mut world = normal();
    let command = world.initiator.command(0, &[0], Transfer::NONE);
    world.receive(&command.encode(Default::default()));
    world.work();
    let abort = world.initiator.abort_task(&command);
    let answers = world.exchange(&[abort]);
    assert_eq!(opcodes(&answers), [Opcode::SCSI_RESPONSE, Opcode::TASK_MANAGEMENT_RESPONSE]);
    assert_eq!(answers[1].bhs.bytes()[2], 1);
    world.end();
}

#[test]
fn a_task_that_ends_before_its_abort_is_heard_does_not_exist() {
    let mut world = normal();
    let command = world.initiator.command(0, &[0], Transfer::NONE);
    let abort = world.initiator.abort_task(&command);
    let answers = world.exchange(&[command, abort]);
    assert_eq!(opcodes(&answers), [Opcode::SCSI_RESPONSE, Opcode::TASK_MANAGEMENT_RESPONSE]);
    assert_eq!(answers[1].bhs.bytes()[2], 1);
    assert!(world.toy.functions.is_empty());
    world.end();
}

#[test]
fn logout() {
    for (reason, cid, response, ends) in
        [(0, 99, 0, true), (1, 3, 0, true), (1, 4, 1, false), (2, 3, 2, false)]
    {
        let mut world = normal();
        let hold = world.initiator.command(0, &[HOLD], Transfer::NONE);
        let mut logout = world.initiator.logout(reason);
        logout.bhs.set_half(20, cid);
        let answers = world.exchange(&[hold, logout]);
        assert_eq!(opcodes(&answers), [Opcode::LOGOUT_RESPONSE]);
        assert_eq!(answers[0].bhs.bytes()[..4], [0x26, 0x80, response, 0]);
        assert_eq!(world.closed(), ends.then_some(&CloseReason::Logout), "reason {reason}");
        world.end();
    }
    let mut world = normal();
    let logout = world.initiator.logout(3);
    assert_eq!(opcodes(&world.exchange(&[logout])), [Opcode::REJECT]);
}

#[test]
fn asynchronous_messages() {
    let mut world = normal();
    world.session.request_logout(5);
    world.session.drop_all("over");
    let messages = world.run();
    assert_eq!(opcodes(&messages), [Opcode::ASYNC_MESSAGE; 2]);
    assert_eq!(world.closed(), Some(&CloseReason::Ended("over")));
    assert_eq!(messages[0].bhs.itt(), NO_TAG);
    assert_eq!(messages[0].bhs.bytes()[36..44], [1, 0, 0, 0, 0, 0, 0, 5]);
    assert_eq!(messages[1].bhs.bytes()[36..44], [3, 0, 0, 0, 0, 2, 0, 20]);
    // A violation is told, too: this connection is dropped.
    let mut world = normal();
    let login = world.initiator.login(1, Some(3), &NAMES);
    let messages = world.exchange(&[login]);
    assert_eq!(opcodes(&messages), [Opcode::ASYNC_MESSAGE]);
    assert_eq!(messages[0].bhs.bytes()[36..44], [2, 0, 0, 3, 0, 2, 0, 20]);
    // Nobody is there to hear them before the login.
    let mut world = World::new(Parameters::default());
    world.session.request_logout(5);
    assert!(world.run().is_empty());
}

#[test]
fn scsi_events_are_told_where_that_is_wanted() {
    let sense = Sense::new(key::UNIT_ATTENTION, 0x2a09).encode(false);
    for wanted in [false, true] {
        let mut world = World::logged_in(Parameters { scsi_events: wanted, ..Parameters::default() }, &[]);
        world.session.report_event(Lun(3 << 48), &sense);
        let messages = world.run();
        assert_eq!(messages.len(), usize::from(wanted));
        if let Some(message) = messages.first() {
            assert_eq!(
                (message.opcode(), message.bhs.bytes()[36], message.bhs.lun()),
                (Opcode::ASYNC_MESSAGE, 0, 3 << 48)
            );
            assert_eq!(message.data, [&[0, 18][..], &sense].concat());
        }
        // Nobody is cut off because of what is told without being asked.
        for _ in 0..1000 {
            world.session.report_event(Lun(3 << 48), &sense);
        }
        assert!(world.run().len() <= 32);
        assert_eq!(world.closed(), None);
        world.end();
    }
}

#[test]
fn the_end_of_the_stream_ends_the_connection() {
    let mut world = normal();
    let hold = world.initiator.command(0, &[HOLD], Transfer::write(4096)).data(&[1; 4096]);
    let more = world.initiator.command(0, &[HOLD], Transfer::write(4096)).data(&[1; 4096]);
    world.exchange(&[hold]);
    world.receive(&more.encode(Default::default())[..100]);
    world.session.peer_finished(world.key);
    world.session.peer_finished(world.key);
    assert!(world.run().is_empty());
    assert_eq!(world.closed(), Some(&CloseReason::PeerClosed));
    assert_eq!(world.events.iter().filter(|e| matches!(e, Event::Closed { .. })).count(), 1);
    assert_eq!((world.session.held(), world.session.in_flight(world.key)), (0, 0));
    // A task manager that has not heard of it yet does no harm.
    let data = Sg::copied(&world.arena, b"late").unwrap();
    world.session.send_data_in(RequestTag(0), data);
    world.session.receive_data_out(RequestTag(0), 512);
    world.session.terminate(RequestTag(0), None);
    world.session.task_management_executed(RequestTag(0), TaskManagementResponse::Complete);
    assert!(world.run().is_empty());
    world.end();
}

#[test]
fn a_cold_reset_is_answered_before_the_sessions_end() {
    let mut world = normal();
    let hold = world.initiator.command(0, &[HOLD], Transfer::NONE);
    let reset = world.initiator.task_management(7, 0);
    world.receive(&[hold.encode(Default::default()), reset.encode(Default::default())].concat());
    world.work();
    world.session.drop_all("TARGET COLD RESET");
    let answers = world.run();
    assert_eq!(opcodes(&answers), [Opcode::TASK_MANAGEMENT_RESPONSE, Opcode::ASYNC_MESSAGE]);
    assert_eq!((answers[0].bhs.bytes()[2], answers[1].bhs.bytes()[36]), (0, 3));
    assert_eq!(world.toy.functions, [TaskManagementFunction::TargetColdReset]);
    world.end();
}

#[test]
fn with_fast_abort_the_initiator_hears_that_others_aborted_its_tasks() {
    for (keys, told) in [(&[("TaskReporting", "FastAbort,RFC3720")][..], 1), (&[], 0)] {
        let mut world = World::logged_in(Parameters::default(), keys);
        let held: Vec<Packet> =
            (0..3).map(|_| world.initiator.command(5 << 48, &[HOLD], Transfer::NONE)).collect();
        world.exchange(&held);
        for _ in 0..3 {
            world.toy.abort_first(&mut world.session);
        }
        let messages = world.run();
        assert_eq!(messages.len(), told, "once for all tasks of a logical unit");
        if let Some(message) = messages.first() {
            assert_eq!((message.opcode(), message.bhs.bytes()[36]), (Opcode::ASYNC_MESSAGE, 5));
            assert_eq!(message.bhs.lun(), 5 << 48);
        }
        // What the initiator has aborted itself it knows.
        let hold = world.initiator.command(5 << 48, &[HOLD], Transfer::NONE);
        let abort = world.initiator.task_management(2, 5 << 48);
        assert_eq!(opcodes(&world.exchange(&[hold, abort])), [Opcode::TASK_MANAGEMENT_RESPONSE]);
        world.end();
    }
}

#[test]
fn a_peer_that_takes_nothing_is_given_up_though_it_speaks() {
    let minute = Duration::from_secs(60);
    let mut world = normal();
    let ping = world.initiator.nop_out(b"hello");
    world.exchange(&[ping]);
    world.wait(Duration::from_secs(20));
    // Its window is closed: nothing goes out any more. It goes on to send signs of life.
    let ping = world.initiator.nop_out(b"nobody reads the answer");
    world.receive(&ping.encode(Default::default()));
    let start = world.now;
    while world.now < start + minute * 3 && world.session.poll_event().is_none() {
        world.now = world.now + Duration::from_secs(5);
        let alive = Packet::raw(Opcode::NOP_OUT, 0x80).immediate().word(16, u32::MAX).word(20, u32::MAX);
        world.receive(&alive.encode(Default::default()));
        world.session.timeout(world.now);
    }
    assert!(world.connection().is_closing());
    assert!(world.now < start + minute + minute, "within twice the interval and the patience");
    // A slow one that takes a PDU now and then is served.
    let mut world = normal();
    for _ in 0..40 {
        let ping = world.initiator.nop_out(b"slow");
        world.receive(&ping.encode(Default::default()));
    }
    for _ in 0..40 {
        world.now = world.now + Duration::from_secs(25);
        let alive = Packet::raw(Opcode::NOP_OUT, 0x80).immediate().word(16, u32::MAX).word(20, u32::MAX);
        world.receive(&alive.encode(Default::default()));
        world.session.timeout(world.now);
        let _ = world.session.poll_transmit(world.key);
    }
    assert!(!world.connection().is_closing());
}
