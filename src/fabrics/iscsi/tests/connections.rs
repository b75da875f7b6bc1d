// SPDX-License-Identifier: GPL-2.0-or-later
//! Sessions with several connections: who may join, what is common and what is not, and what remains when one ends.

use super::*;
use crate::fabrics::iscsi::initiator::{Packet, Transfer};
use crate::wire::iscsi::{NO_TAG, pairs};

/// A session with two connections; the second one has an initiator of its own, which shares CmdSN and task tags by
/// hand.
pub(super) struct Two {
    pub(super) world: World,
    pub(super) other: Initiator,
    second: ConnectionKey,
}

fn another(world: &World, cid: u16) -> Initiator {
    let mut initiator = Initiator::new();
    (initiator.cid, initiator.isid, initiator.tsih) = (cid, world.initiator.isid, 0x1234);
    (initiator.cmd_sn, initiator.itt) = (world.initiator.cmd_sn, 0x1000);
    initiator.exp_stat_sn = 0x7000;
    initiator
}

impl Two {
    pub(super) fn new() -> Self {
        Self::with(Parameters { max_connections: 2, ..Parameters::default() })
    }

    fn with(parameters: Parameters) -> Self {
        Self::login_with(World::logged_in(parameters, &[("MaxConnections", "4"), ("MaxBurstLength", "8192")]))
    }

    fn login_with(world: World) -> Self {
        assert_eq!(world.connection().negotiated().max_connections, 2);
        let other = another(&world, 4);
        let mut two = Self { world, other, second: ConnectionKey(9) };
        two.login();
        two
    }

    /// The other initiator sends a command that does not end by itself.
    fn hold(&mut self) -> Packet {
        let held = self.other.command(0, &vendor(HOLD, 0, 0), Transfer::NONE);
        self.send(&held);
        self.world.run();
        held
    }

    /// The other initiator begins anew under its CID, behind a command that it sent.
    fn return_after(&mut self, held: &Packet) {
        self.other = another(&self.world, 4);
        self.other.cmd_sn = held.bhs.cmd_sn() + 1;
    }

    fn assert_reads(&mut self) {
        let read = self.other.command(0, &read10(1), Transfer::read(512));
        self.send(&read);
        self.world.run();
        assert_eq!(self.said()[0].data.len(), 512);
    }

    /// Lets the other initiator add its connection.
    fn login(&mut self) {
        let world = &mut self.world;
        let (mut guest, key) =
            Session::new(world.targets.parameters.clone(), world.arena.clone(), origin(40_001), world.now);
        let keys = [("MaxBurstLength", "4096"), ("HeaderDigest", "CRC32C"), ("MaxConnections", "1")];
        let login = self.other.login(1, Some(3), &[&NAMES[..], &keys].concat());
        let mut bytes = pieces(&world.arena, &login);
        guest.receive(key, world.now, &world.targets, &mut 100, || bytes.next());
        assert_eq!(guest.poll_event(), Some(Event::JoinWanted(key, 0x1234)));
        assert!(guest.poll_transmit(key).is_none(), "nothing is said before the session is found");
        guest.proceed(key, world.session.window(), &world.targets);
        let Some(Event::LoginWanted(_, wanted)) = guest.poll_event() else { panic!("a login") };
        assert_eq!(wanted.tsih, 0x1234);
        self.second = world.session.join(&mut guest, key);
        assert!(guest.is_over());
        if world.toy.keeps {
            let at = world.session.connection(self.second).unwrap();
            assert!(!at.is_closing() && !world.session.is_full_feature(self.second));
            assert!(!world.session.has_room(5), "its place is taken");
            self.world.run();
            assert!(self.said().is_empty(), "waits for the tasks of the one before");
            self.world.toy.let_go(&mut self.world.session);
        }
        self.world.run();
        assert!(self.world.events.contains(&Event::Joined(self.second)));
        let answer = self.said();
        assert_eq!(answer[0].bhs.half(36), 0);
        assert_eq!(answer[0].bhs.half(14), 0x1234);
        let keys: Vec<_> =
            pairs(&answer[0].data).map(|pair| pair.unwrap()).map(|p| (p.key, p.value)).collect();
        assert!(keys.contains(&("MaxBurstLength", "Irrelevant")), "{keys:?}");
        assert!(keys.contains(&("HeaderDigest", "CRC32C")));
        self.other.digests = Digests { header: true, data: false };
        let negotiated = self.world.session.negotiated(self.second).unwrap();
        assert_eq!((negotiated.max_burst_length, negotiated.header_digest), (8192, true));
    }

    /// What the second connection has to say now.
    pub(super) fn said(&mut self) -> Vec<Packet> {
        let mut packets = Vec::new();
        while let Some(pdu) = self.world.session.poll_transmit(self.second) {
            packets.extend(self.other.take(&pdu.to_vec()));
        }
        packets
    }

    /// Sends on the second connection.
    pub(super) fn send(&mut self, packet: &Packet) {
        let world = &mut self.world;
        let bytes = Sg::copied(&world.arena, &packet.encode(self.other.digests)).unwrap();
        let mut segs = bytes.segs().iter().cloned();
        world.session.receive(self.second, world.now, &world.targets, &mut 100, || segs.next());
    }
}

/// A PDU without digests, as it is received.
fn pieces(arena: &Arena, packet: &Packet) -> std::vec::IntoIter<Seg> {
    Sg::copied(arena, &packet.encode(Digests::default())).unwrap().segs().to_vec().into_iter()
}

fn read10(blocks: u16) -> [u8; 16] {
    let mut cdb = [0; 16];
    cdb[0] = 0x28;
    cdb[7..9].copy_from_slice(&blocks.to_be_bytes());
    cdb
}

#[test]
fn commands_are_answered_where_they_came() {
    let mut two = Two::new();
    let read = two.other.command(0, &read10(1), Transfer::read(512));
    two.send(&read);
    assert!(two.world.run().is_empty(), "not on the first connection");
    let answer = two.said();
    assert_eq!(answer[0].data, pattern_of(0, 512));
    // The window is common: the first connection goes on with the next CmdSN.
    two.world.initiator.cmd_sn = two.other.cmd_sn;
    let read = two.world.initiator.command(0, &read10(2), Transfer::read(1024));
    let answer = two.world.exchange(&[read]);
    assert_eq!(answer[0].data, pattern_of(0, 1024));
    assert!(two.said().is_empty());
    two.world.end();
}

#[test]
fn order_holds_over_all_connections() {
    let mut two = Two::new();
    two.other.cmd_sn = two.world.initiator.cmd_sn + 1;
    let second = two.other.command(0, &read10(2), Transfer::read(1024));
    two.send(&second);
    assert!(two.world.run().is_empty() && two.said().is_empty(), "waits for the one before");
    let first = two.world.initiator.command(0, &read10(1), Transfer::read(512));
    let answer = two.world.exchange(&[first]);
    assert_eq!(answer.len(), 1);
    assert_eq!(two.said()[0].data, pattern_of(0, 1024));
    assert_eq!(two.world.toy.commands.len(), 2);
    assert_eq!(two.world.toy.commands[0].expected.data_in, 512, "in the order of CmdSN");
    two.world.end();
}

#[test]
fn data_belongs_to_the_connection_of_its_command() {
    let mut two = Two::new();
    let mut cdb = read10(8);
    cdb[0] = 0x2a;
    let write = two.other.command(0, &cdb, Transfer::write(4096));
    two.send(&write);
    two.world.run();
    let r2t = two.said().remove(0);
    assert_eq!(r2t.opcode(), Opcode::R2T);
    // On the wrong connection it is the end of that, and the command goes on.
    let data = two.other.data_out(&write, Some(&r2t), 0, 0, &[7; 4096], true);
    let wrong = data.clone();
    two.world.exchange(&[wrong]);
    assert_eq!(two.world.violation(), "data on another connection than its command's");
    two.send(&data);
    two.world.run();
    assert_eq!(two.said()[0].opcode(), Opcode::SCSI_RESPONSE);
    assert_eq!(two.world.toy.written, [vec![7; 4096]]);
}

#[test]
fn tasks_are_aborted_from_any_connection() {
    let mut two = Two::new();
    let held = two.hold();
    assert_eq!(two.world.toy.running(), 1);
    two.world.initiator.cmd_sn = two.other.cmd_sn;
    let abort = two.world.initiator.abort_task(&held);
    let answer = two.world.exchange(&[abort]);
    assert_eq!(answer[0].opcode(), Opcode::TASK_MANAGEMENT_RESPONSE);
    assert_eq!(answer[0].bhs.bytes()[2], 0);
    assert_eq!(two.world.toy.running(), 0);
    assert!(two.said().is_empty(), "nothing more is heard of the task");
    two.world.end();
}

/// The initiator uses the session's window while a login goes on: the answers to that must not open it, nor acknowledge
/// what has not come.
#[test]
fn a_login_that_joins_tells_the_window_of_its_session() {
    let two = Two::new();
    let (targets, arena, now) = (&two.world.targets, &two.world.arena, two.world.now);
    let (mut guest, key) = Session::new(targets.parameters.clone(), arena.clone(), origin(40_001), now);
    let mut third = another(&two.world, 5);
    // Four requests are on their way.
    let window = two.world.session.window();
    third.cmd_sn = window.exp_cmd_sn.wrapping_add(4);
    let login = third.login(1, None, &NAMES);
    let mut bytes = pieces(arena, &login);
    guest.receive(key, now, targets, &mut 100, || bytes.next());
    assert_eq!(guest.poll_event(), Some(Event::JoinWanted(key, 0x1234)));
    guest.proceed(key, window, targets);
    let answer = third.take(&guest.poll_transmit(key).unwrap().to_vec());
    let told = (answer[0].bhs.half(36), answer[0].bhs.word(28), answer[0].bhs.word(32));
    assert_eq!(told, (0, window.exp_cmd_sn, window.max_cmd_sn));
    drop(guest);
    two.world.end();
}

#[test]
fn a_connection_that_ends_takes_its_commands_along() {
    let mut two = Two::new();
    let held = two.other.command(0, &vendor(HOLD, 0, 0), Transfer::NONE);
    two.send(&held);
    two.world.initiator.cmd_sn = two.other.cmd_sn;
    let own = two.world.initiator.command(0, &vendor(HOLD, 0, 0), Transfer::NONE);
    two.world.exchange(&[own]);
    assert_eq!(two.world.toy.running(), 2);
    two.world.session.peer_finished(two.second);
    two.world.run();
    assert_eq!((two.world.toy.running(), two.world.toy.abandoned), (1, 1));
    assert_eq!(two.world.session.in_flight(two.second), 0);
    assert!(!two.world.session.is_over());
    two.world.session.remove(two.second);
    let read = two.world.initiator.command(0, &read10(1), Transfer::read(512));
    assert_eq!(two.world.exchange(&[read])[0].data.len(), 512);
    two.world.end();
}

#[test]
fn a_connection_is_reinstated() {
    let mut two = Two::new();
    let held = two.hold();
    let old = two.second;
    two.return_after(&held);
    assert!(two.world.session.has_room(4) && !two.world.session.has_room(5));
    two.login();
    two.world.run();
    assert_ne!(old, two.second);
    assert_eq!(two.world.toy.running(), 0, "its commands ended with it");
    let ended = |event: &Event| matches!(event, Event::Closed { connection, .. } if *connection == old);
    assert!(two.world.events.iter().any(ended));
    two.assert_reads();
    two.world.end();
}

#[test]
fn a_connection_is_reinstated_when_the_tasks_of_the_old_one_have_ended() {
    let mut two = Two::new();
    let held = two.hold();
    two.world.toy.keeps = true;
    two.return_after(&held);
    two.login();
    assert_eq!((two.world.toy.abandoned, two.world.toy.running()), (1, 0));
    two.assert_reads();
    two.world.end();
}

/// The answer to a logout says that all is cleaned up (RFC 7143 11.15).
#[test]
fn a_logout_is_answered_when_the_tasks_have_ended() {
    // Of this connection, of the session, and of the other connection.
    for (reason, cid) in [(1, 3), (0, 3), (1, 4)] {
        let mut two = Two::new();
        let other = two.other.command(0, &vendor(HOLD, 0, 0), Transfer::NONE);
        two.send(&other);
        two.world.initiator.cmd_sn = two.other.cmd_sn;
        let own = two.world.initiator.command(0, &vendor(HOLD, 0, 0), Transfer::NONE);
        two.world.toy.keeps = true;
        let mut logout = two.world.initiator.logout(reason);
        logout.bhs.set_half(20, cid);
        assert!(two.world.exchange(&[own, logout]).is_empty(), "a task has not ended");
        let kept = two.world.toy.abandoned;
        assert_eq!(kept, if reason == 0 { 2 } else { 1 });
        assert!(!two.world.session.is_over());
        two.world.toy.let_go(&mut two.world.session);
        let answer = two.world.run();
        assert_eq!((answer[0].opcode(), answer[0].bhs.bytes()[2]), (Opcode::LOGOUT_RESPONSE, 0));
        assert_eq!(two.world.session.is_over(), reason == 0);
        let closing = |key| two.world.session.connection(key).unwrap().is_closing();
        assert_eq!((closing(two.world.key), closing(two.second)), (cid == 3, cid == 4 || reason == 0));
        two.world.end();
    }
}

#[test]
fn logout_of_one_connection_of_another_and_of_all() {
    // One connection logs the other out.
    let mut two = Two::new();
    let mut logout = two.world.initiator.logout(1);
    logout.bhs.set_half(20, 4);
    let answer = two.world.exchange(&[logout]);
    assert_eq!((answer[0].opcode(), answer[0].bhs.bytes()[2]), (Opcode::LOGOUT_RESPONSE, 0));
    let closing = |two: &Two, key| two.world.session.connection(key).unwrap().is_closing();
    assert!(closing(&two, two.second) && !two.world.session.is_over());
    let mut logout = two.world.initiator.logout(1);
    logout.bhs.set_half(20, 4);
    assert_eq!(two.world.exchange(&[logout])[0].bhs.bytes()[2], 1, "there is no such connection any more");
    two.world.end();
    // A session ends as a whole.
    let mut two = Two::new();
    let logout = two.other.logout(0);
    two.send(&logout);
    two.world.run();
    assert_eq!(two.said()[0].opcode(), Opcode::LOGOUT_RESPONSE);
    assert!(two.world.session.is_over());
    two.world.end();
}

#[test]
fn all_that_came_before_the_handover_goes_along() {
    let mut world = World::new(Parameters::default());
    world.initiator.tsih = 0x777;
    let login = world.initiator.login(1, Some(3), &NAMES);
    let bytes = [login.encode(Digests::default()), vec![1, 2, 3]].concat();
    world.receive(&bytes);
    assert_eq!(world.session.poll_event(), Some(Event::JoinWanted(world.key, 0x777)));
    assert_eq!(world.session.hand_over(world.key), bytes);
    assert!(world.session.is_over() && world.session.poll_event().is_none());
    world.end();
}

/// A request that acknowledges what the initiator has heard, and nothing else.
fn sign_of_life(initiator: &Initiator) -> Packet {
    Packet::raw(Opcode::NOP_OUT, FINAL)
        .immediate()
        .word(16, NO_TAG)
        .word(20, NO_TAG)
        .word(24, initiator.cmd_sn)
        .word(28, initiator.exp_stat_sn)
}

const RESPONSE: Opcode = Opcode::TASK_MANAGEMENT_RESPONSE;

#[test]
fn a_function_is_answered_after_all_before_it_and_before_all_after_it() {
    let mut two = Two::new();
    // A status goes out on the second connection, unacknowledged, and another waits there to be sent.
    let done = two.other.command(0, &read10(1), Transfer::read(512));
    two.send(&done);
    two.world.run();
    assert_eq!(two.said().len(), 1);
    let waits = two.other.command(0, &read10(1), Transfer::read(512));
    two.send(&waits);
    two.world.initiator.cmd_sn = two.other.cmd_sn;
    let reset = two.world.initiator.task_management(5, 7 << 48);
    assert!(two.world.exchange(&[reset]).is_empty(), "the second connection is behind");
    let said = two.said();
    assert_eq!(
        opcodes(&said),
        [Opcode::DATA_IN, Opcode::NOP_IN],
        "what was before, and the question for its arrival"
    );
    // What follows waits there, too.
    two.other.cmd_sn = two.world.initiator.cmd_sn;
    let late = two.other.command(0, &read10(1), Transfer::read(512)).word(28, said[0].bhs.word(24));
    two.send(&late);
    assert!(two.world.run().is_empty(), "that acknowledges the first status alone");
    assert!(two.said().is_empty());
    two.send(&sign_of_life(&two.other));
    let answers = two.world.run();
    assert_eq!(opcodes(&answers), [RESPONSE, Opcode::NOP_IN]);
    assert!(two.said().is_empty(), "the response may overtake it yet");
    let heard = sign_of_life(&two.world.initiator);
    assert!(two.world.exchange(&[heard]).is_empty());
    assert_eq!(opcodes(&two.said()), [Opcode::DATA_IN]);
    // One that is not behind is not waited for, and functions are answered one after the other.
    two.send(&sign_of_life(&two.other));
    two.world.initiator.cmd_sn = two.other.cmd_sn;
    let resets = [2, 5].map(|function| two.world.initiator.task_management(function, 7 << 48));
    assert_eq!(opcodes(&two.world.exchange(&resets)), [RESPONSE, Opcode::NOP_IN]);
    let heard = sign_of_life(&two.world.initiator);
    assert_eq!(opcodes(&two.world.exchange(&[heard])), [RESPONSE, Opcode::NOP_IN]);
    // ABORT TASK concerns one task.
    let done = two.world.initiator.task_management(1, 0);
    assert_eq!(opcodes(&two.world.exchange(&[done])), [RESPONSE]);
    two.world.end();
}

#[test]
fn a_fence_falls_with_its_connections() {
    for issuer_ends in [false, true] {
        let mut two = Two::new();
        let done = two.other.command(0, &read10(1), Transfer::read(512));
        two.send(&done);
        two.world.initiator.cmd_sn = two.other.cmd_sn;
        let reset = two.world.initiator.task_management(5, 7 << 48);
        assert!(two.world.exchange(&[reset]).is_empty());
        assert_eq!(two.said().len(), 2);
        if issuer_ends {
            two.other.cmd_sn = two.world.initiator.cmd_sn;
            let late = two.other.command(0, &read10(1), Transfer::read(512));
            two.send(&late.word(28, 0x7000));
            two.world.run();
            assert!(two.said().is_empty());
            two.world.session.peer_finished(two.world.key);
            two.world.work();
            assert_eq!(opcodes(&two.said()), [Opcode::DATA_IN]);
        } else {
            // It never answers, though nobody else is asked whether it lives.
            two.world.wait(Duration::from_secs(30));
            assert!(two.world.session.connection(two.second).unwrap().is_closing());
            assert_eq!(two.world.session.in_flight(two.second), 0);
        }
        two.world.end();
    }
}

#[test]
fn a_session_that_is_logged_out_takes_along_who_waits_to_join_it() {
    let mut two = Two::new();
    two.hold();
    two.world.toy.keeps = true;
    let (world, cmd_sn) = (&two.world, two.other.cmd_sn);
    let parameters = world.targets.parameters.clone();
    let (mut guest, key) = Session::new(parameters, world.arena.clone(), origin(40_001), world.now);
    let login = another(world, 4).login(1, Some(3), &NAMES);
    let mut bytes = pieces(&world.arena, &login);
    guest.receive(key, world.now, &world.targets, &mut 100, || bytes.next());
    guest.proceed(key, world.session.window(), &world.targets);
    let waits = two.world.session.join(&mut guest, key);
    two.world.run();
    two.world.initiator.cmd_sn = cmd_sn;
    let logout = two.world.initiator.logout(0);
    assert!(two.world.exchange(&[logout]).is_empty(), "a task has not ended");
    assert!(two.world.session.connection(waits).unwrap().is_closing());
    two.world.toy.let_go(&mut two.world.session);
    assert_eq!(opcodes(&two.world.run()), [Opcode::LOGOUT_RESPONSE]);
    assert!(two.world.session.is_over());
    drop(guest);
    two.world.end();
}

/// Its answer would overtake the status that it is to follow.
#[test]
fn a_function_is_not_answered_where_a_logout_comes_before_its_turn() {
    let mut two = Two::new();
    let done = two.other.command(0, &read10(1), Transfer::read(512));
    two.send(&done);
    two.world.initiator.cmd_sn = two.other.cmd_sn;
    let reset = two.world.initiator.task_management(5, 7 << 48);
    assert!(two.world.exchange(&[reset]).is_empty());
    assert_eq!(two.said().len(), 2, "a status, not acknowledged");
    let mut logout = two.world.initiator.logout(1);
    logout.bhs.set_half(20, 3);
    assert_eq!(opcodes(&two.world.exchange(&[logout])), [Opcode::LOGOUT_RESPONSE]);
    two.world.end();
}

#[test]
fn a_peer_that_does_not_acknowledge_holds_a_function_up_for_a_limited_time() {
    let parameters = Parameters { max_connections: 2, nop_interval: Duration::ZERO, ..Parameters::default() };
    let mut two = Two::with(parameters);
    let done = two.other.command(0, &read10(1), Transfer::read(512));
    two.send(&done);
    two.world.initiator.cmd_sn = two.other.cmd_sn;
    let reset = two.world.initiator.task_management(5, 7 << 48);
    assert!(two.world.exchange(&[reset]).is_empty());
    assert_eq!(two.said().len(), 2);
    assert_eq!(two.world.session.next_deadline(), Some(two.world.now + Duration::from_secs(30)));
    assert!(two.world.wait(Duration::from_secs(29)).is_empty());
    assert_eq!(opcodes(&two.world.wait(Duration::from_secs(1))), [RESPONSE]);
    assert!(two.world.session.connection(two.second).unwrap().is_closing());
    two.world.end();
}

#[test]
fn a_reset_waits_for_commands_on_their_way_elsewhere() {
    for (function, lun, answered) in [(5, 3 << 48, 0), (2, 3 << 48, 0), (6, 0, 1)] {
        let mut two = Two::new();
        two.send(&sign_of_life(&two.other));
        let slow = two.other.command(3 << 48, &vendor(HOLD, 0, 0), Transfer::NONE);
        two.world.initiator.cmd_sn = two.other.cmd_sn;
        let reset = two.world.initiator.task_management(function, lun);
        let reset = two.world.initiator.immediate(reset);
        let answers = two.world.exchange(&[reset]);
        let responses = answers.iter().filter(|answer| answer.opcode() == RESPONSE).count();
        assert_eq!(responses, answered, "a target reset takes what has not come for aborted");
        two.send(&slow);
        let more = two.world.run();
        assert!(answered == 1 || opcodes(&more)[0] == RESPONSE, "{more:?}");
        assert_eq!(two.world.toy.running(), 0, "the command is aborted, before or after it came");
        assert_eq!(two.world.toy.commands.len(), 1 - answered);
        two.world.end();
    }
}

#[test]
fn with_fast_abort_other_connections_hear_of_the_end_of_their_tasks() {
    let keys = [("TaskReporting", "FastAbort"), ("MaxConnections", "4"), ("MaxBurstLength", "8192")];
    let parameters = Parameters { max_connections: 2, ..Parameters::default() };
    let mut two = Two::login_with(World::logged_in(parameters, &keys));
    let held = two.other.command(4 << 48, &vendor(HOLD, 0, 0), Transfer::NONE);
    two.send(&held);
    two.world.initiator.cmd_sn = two.other.cmd_sn;
    let own = two.world.initiator.command(4 << 48, &vendor(HOLD, 0, 0), Transfer::NONE);
    let abort = two.world.initiator.task_management(2, 4 << 48);
    assert!(two.world.exchange(&[own, abort]).is_empty(), "no message where the request came");
    let said = two.said();
    assert_eq!(opcodes(&said), [Opcode::ASYNC_MESSAGE, Opcode::NOP_IN]);
    assert_eq!((said[0].bhs.bytes()[36], said[0].bhs.lun()), (5, 4 << 48));
    two.send(&sign_of_life(&two.other));
    assert_eq!(two.world.run()[0].opcode(), RESPONSE);
    // A task that is aborted by name is one that the initiator knows of.
    let held =
        two.other.command(4 << 48, &vendor(HOLD, 0, 0), Transfer::NONE).word(24, two.world.initiator.cmd_sn);
    two.world.initiator.cmd_sn += 1;
    two.send(&held);
    let abort = two.world.initiator.abort_task(&held);
    two.world.exchange(&[abort]);
    assert!(two.said().is_empty());
    two.world.end();
}
