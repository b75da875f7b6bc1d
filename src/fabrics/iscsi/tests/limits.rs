// SPDX-License-Identifier: GPL-2.0-or-later
//! Limits are flow control: whatever the command window admits is answered, however late the answers are read; what is
//! beyond is refused one by one.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::connections::Two;
use super::*;
use crate::fabrics::iscsi::initiator::Transfer;
use crate::wire::iscsi::{NO_TAG, RejectReason};

const DEPTH: u32 = 128;

/// Longest write.
const WRITE_MAX: usize = 20_000;

/// What an initiator may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RequestKind {
    Read,
    /// With immediate data, unsolicited data, or what is asked for.
    Write,
    /// A command that does not end by itself.
    Hold,
    /// ABORT TASK of the last of these, or of no task.
    Abort,
    Reset,
    Ping,
    Text,
    /// Of a connection that is not there.
    Logout,
}

const KINDS: [RequestKind; 8] = [
    RequestKind::Read,
    RequestKind::Write,
    RequestKind::Hold,
    RequestKind::Abort,
    RequestKind::Reset,
    RequestKind::Ping,
    RequestKind::Text,
    RequestKind::Logout,
];

impl RequestKind {
    fn is_command(self) -> bool {
        matches!(self, Self::Read | Self::Write | Self::Hold)
    }
}

/// An initiator that asks for all that it may before it reads anything.
struct LateReader {
    world: World,
    /// By task tag, what waits for its answer.
    asked: BTreeMap<u32, (RequestKind, Packet)>,
    held: Vec<Packet>,
    /// Commands for immediate delivery, of which there may be few.
    immediate: usize,
    /// The task manager works before the initiator reads.
    works: bool,
    /// Width of the window.
    depth: u32,
}

impl LateReader {
    fn new(works: bool) -> Self {
        Self::with(&Pool::new(MEMORY), works)
    }

    fn with(memory: &Arc<Pool>, works: bool) -> Self {
        let keys = [("InitialR2T", "No"), ("FirstBurstLength", "8192"), ("MaxBurstLength", "16384")];
        // So that it is FirstBurstLength that the window promises.
        let parameters =
            Parameters { queue_depth: DEPTH, max_recv_data_segment_length: 8192, ..Parameters::default() };
        let world = World::logged_in_with(memory.clone(), parameters, &keys);
        let depth = world.initiator.max_cmd_sn - world.initiator.exp_cmd_sn + 1;
        Self { world, asked: BTreeMap::new(), held: Vec::new(), immediate: 0, works, depth }
    }

    /// Sends a request of a kind, if it may. `size` is how much data it is about.
    fn ask(&mut self, kind: RequestKind, immediate: bool, size: usize) {
        let initiator = &mut self.world.initiator;
        let full = match immediate {
            true => kind.is_command() && self.immediate == 8,
            false => initiator.cmd_sn == initiator.max_cmd_sn.wrapping_add(1),
        };
        if full {
            return;
        }
        self.immediate += usize::from(immediate && kind.is_command());
        let len = u32::try_from(size).unwrap();
        let mut data = Vec::new();
        let mut packet = match kind {
            RequestKind::Read => initiator.command(0, &vendor(READ_IN_PARTS, len, 5000), Transfer::read(len)),
            RequestKind::Write => {
                initiator.command(0, &vendor(WRITE_IN_PARTS, len, 5000), Transfer::write(len))
            }
            RequestKind::Hold => initiator.command(0, &vendor(HOLD, 0, 0), Transfer::read(len)),
            RequestKind::Abort => match self.held.pop() {
                Some(task) => initiator.abort_task(&task),
                None => initiator.task_management(1, 0),
            },
            RequestKind::Reset => initiator.task_management(5, 7 << 48),
            RequestKind::Ping => initiator.nop_out(&pattern_of(0, size.min(8192))),
            RequestKind::Text => initiator.text(b"SendTargets=\0"),
            RequestKind::Logout => {
                let mut logout = initiator.logout(1);
                logout.bhs.set_half(20, 99);
                logout
            }
        };
        if immediate {
            packet = initiator.immediate(packet);
        }
        if kind == RequestKind::Write && size > 0 {
            let buffer = pattern_of(0, size);
            let (now, unasked) = (size.min(1000), size.min(8192));
            packet = packet.data(&buffer[..now]);
            if unasked > now {
                packet.bhs.bytes_mut()[1] &= !FINAL;
                data.push(initiator.data_out(&packet, None, 0, 1000, &buffer[now..unasked], true));
            }
        }
        if kind == RequestKind::Hold {
            self.held.push(packet.clone());
        }
        self.asked.insert(packet.bhs.itt(), (kind, packet.clone()));
        for packet in std::iter::once(packet).chain(data) {
            self.world.receive(&packet.encode(Digests::default()));
        }
        if self.works {
            self.world.work();
        }
    }

    /// Reads what was answered, and sends the data that is asked for.
    fn read(&mut self) {
        let mut answers = self.world.run();
        while !answers.is_empty() {
            let mut data = Vec::new();
            for answer in answers {
                data.extend(self.answered(&answer));
            }
            answers = self.world.exchange(&data);
        }
    }

    fn answered(&mut self, answer: &Packet) -> Vec<Packet> {
        let itt = answer.bhs.itt();
        let (kind, request) = self.asked.get(&itt).unwrap_or_else(|| panic!("nobody asked for {answer:?}"));
        let (wanted, last) = match (kind, answer.opcode()) {
            (RequestKind::Write, Opcode::R2T) => {
                let buffer = pattern_of(0, request.bhs.word(20) as usize);
                return self.world.initiator.answer_r2t(request, answer, &buffer, 4096);
            }
            (RequestKind::Read, Opcode::DATA_IN) => (Opcode::DATA_IN, answer.bhs.flags() & 1 != 0),
            (RequestKind::Read | RequestKind::Write | RequestKind::Hold, _) => (Opcode::SCSI_RESPONSE, true),
            (RequestKind::Abort | RequestKind::Reset, _) => (Opcode::TASK_MANAGEMENT_RESPONSE, true),
            (RequestKind::Ping, _) => (Opcode::NOP_IN, true),
            (RequestKind::Text, _) => (Opcode::TEXT_RESPONSE, true),
            (RequestKind::Logout, _) => (Opcode::LOGOUT_RESPONSE, true),
        };
        assert_eq!(answer.opcode(), wanted, "{kind:?}: {answer:?}");
        if kind.is_command() {
            assert_eq!(answer.bhs.bytes()[3], 0, "GOOD: {kind:?}");
        } else if let RequestKind::Abort | RequestKind::Reset = kind {
            assert!(answer.bhs.bytes()[2] <= 1, "complete, or no such task: {answer:?}");
        } else if let RequestKind::Ping = kind {
            assert_eq!(answer.data, request.data[..request.data.len().min(8192)]);
        }
        if last {
            self.asked.remove(&itt);
        }
        Vec::new()
    }

    /// All was answered but what does not end by itself, and the window is open again.
    fn end(mut self) {
        self.read();
        assert_eq!(self.world.closed(), None);
        self.asked.retain(|_, (kind, _)| *kind != RequestKind::Hold);
        assert!(self.asked.is_empty(), "not answered: {:?}", self.asked);
        let reset = self.world.initiator.task_management(5, 0);
        let reset = self.world.initiator.immediate(reset);
        let answers = self.world.exchange(&[reset]);
        let ping = self.world.initiator.nop_out(b"");
        let ping = self.world.initiator.immediate(ping);
        let pong = [answers, self.world.exchange(&[ping])].concat().pop().unwrap();
        assert_eq!(pong.bhs.word(32).wrapping_sub(pong.bhs.word(28)), self.depth - 1, "the whole window");
        assert_eq!((self.world.toy.running(), self.world.session.held()), (0, 0));
        self.world.end();
    }
}

/// The whole window of each kind, and as many for immediate delivery as the bounds allow.
#[test]
fn a_whole_window_of_each_kind_is_answered() {
    for kind in KINDS {
        for (immediate, works, count) in
            [(false, true, DEPTH), (false, false, DEPTH), (true, true, 60), (true, false, 60)]
        {
            let mut late = LateReader::new(works);
            for n in 0..count {
                late.ask(kind, immediate, n as usize * 300 % WRITE_MAX);
            }
            late.end();
        }
    }
}

/// As many functions for immediate delivery as there are tasks, which are all aborted by name.
#[test]
fn all_tasks_can_be_aborted_at_once() {
    for immediate in [false, true] {
        let mut late = LateReader::new(false);
        for _ in 0..if immediate { DEPTH } else { DEPTH / 2 } {
            late.ask(RequestKind::Hold, false, 0);
        }
        for _ in 0..DEPTH {
            late.ask(RequestKind::Abort, immediate, 0);
        }
        late.read();
        assert_eq!(late.world.toy.running(), 0);
        late.end();
    }
}

/// So what waits to be read is no more than the window admits.
#[test]
fn a_request_has_its_place_in_the_window_until_its_answer_goes_out() {
    for kind in KINDS.into_iter().filter(|kind| *kind != RequestKind::Hold) {
        let mut late = LateReader::new(true);
        for _ in 0..DEPTH {
            late.ask(kind, false, 0);
        }
        late.world.work();
        for places in 1..4 {
            let pdu = late.world.session.poll_transmit(late.world.key).expect("an answer");
            let answer = late.world.initiator.take(&pdu.to_vec()).remove(0);
            late.answered(&answer);
            assert_eq!(answer.bhs.word(32) - answer.bhs.word(28) + 1, places, "{kind:?}");
        }
        late.end();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    /// Of several sessions, which share little memory: commands wait for it, each session for those before it.
    #[test]
    fn every_mix_is_answered_where_memory_is_short(
        requests in prop::collection::vec((0..3usize, 0..KINDS.len(), prop::bool::weighted(0.1), 0..WRITE_MAX), 1..300),
        bytes in prop::sample::select(vec![64u64 << 10, 300 << 10, 1 << 20]),
        works in any::<bool>(),
    ) {
        let memory = Pool::new(bytes);
        let mut all = [(); 3].map(|()| LateReader::with(&memory, works));
        for (session, kind, immediate, size) in requests {
            let late = &mut all[session];
            // A command for immediate delivery may be refused, and one that does not end holds what it has.
            let kind = KINDS[kind];
            late.ask(if kind == RequestKind::Hold { RequestKind::Write } else { kind }, immediate && !kind.is_command(), size);
        }
        while all.iter().any(|late| !late.asked.is_empty()) {
            let before: usize = all.iter().map(|late| late.asked.len()).sum();
            for late in &mut all {
                late.read();
                prop_assert_eq!(late.world.closed(), None);
            }
            prop_assert!(before > all.iter().map(|late| late.asked.len()).sum(), "nobody gets on");
        }
        for late in all {
            late.end();
        }
        prop_assert_eq!(memory.left(), bytes);
    }

    #[test]
    fn every_mix_within_the_window_is_answered(
        requests in prop::collection::vec((0..KINDS.len(), prop::bool::weighted(0.2), 0..WRITE_MAX), 1..300),
        pauses in prop::collection::vec(20usize..300, 1..4),
        works in any::<bool>(),
    ) {
        let mut late = LateReader::new(works);
        let mut pauses = pauses.into_iter().cycle();
        let mut left = pauses.next().unwrap();
        for (kind, immediate, size) in requests {
            late.ask(KINDS[kind], immediate, size);
            left -= 1;
            if left == 0 {
                left = pauses.next().unwrap();
                late.read();
            }
        }
        late.end();
    }
}

#[test]
fn functions_for_immediate_delivery_are_refused_one_by_one() {
    let mut world = World::logged_in(Parameters { queue_depth: 4, ..Parameters::default() }, &[]);
    let mut flood = Vec::new();
    for _ in 0..100 {
        let reset = world.initiator.task_management(5, 7 << 48);
        flood.push(world.initiator.immediate(reset).encode(Digests::default()));
    }
    // Before any of them has been carried out.
    world.receive(&flood.concat());
    let answers = world.run();
    let responses: Vec<u8> = answers.iter().map(|answer| answer.bhs.bytes()[2]).collect();
    assert_eq!(opcodes(&answers), [Opcode::TASK_MANAGEMENT_RESPONSE; 100]);
    assert_eq!((responses.iter().filter(|response| **response == 0).count(), world.closed()), (64, None));
    assert_eq!(responses.iter().filter(|response| **response == 255).count(), 36, "rejected");
    world.end();
}

#[test]
fn who_does_not_read_is_not_read() {
    let mut world = World::logged_in(Parameters::default(), &[]);
    let flood = |world: &mut World, count: usize| {
        for _ in 0..count {
            let ping = world.initiator.nop_out(b"");
            let ping = world.initiator.immediate(ping);
            world.receive(&ping.encode(Digests::default()));
            world.work();
        }
    };
    flood(&mut world, 100);
    assert_eq!((world.connection().counters().pdus_in, world.session.is_receiving(world.key)), (65, false));
    // Nothing was lost, and it is not asked meanwhile whether it lives: the answer would not be read.
    world.now = world.now + Duration::from_secs(45);
    world.session.timeout(world.now);
    assert_eq!(opcodes(&world.run()), [Opcode::NOP_IN; 100]);
    assert!(world.session.is_receiving(world.key));
    // A slow one is served as long as it takes something now and then.
    flood(&mut world, 200);
    for _ in 0..100 {
        world.now = world.now + Duration::from_secs(25);
        world.session.timeout(world.now);
        assert!(world.session.poll_transmit(world.key).is_some());
        world.work();
    }
    assert_eq!(world.closed(), None);
    // One that takes nothing is given up, within twice the interval and the patience.
    flood(&mut world, 100);
    for _ in 0..24 {
        world.now = world.now + Duration::from_secs(5);
        world.session.timeout(world.now);
        world.work();
    }
    assert_eq!(world.closed(), Some(&CloseReason::Timeout("accepts nothing of what is sent")));
    assert!(world.session.is_receiving(world.key), "until the end of the stream");
    world.end();
}

/// A response fence is let go by what the initiator sends: a connection is read however many answers wait behind one.
#[test]
fn who_is_held_back_by_a_fence_is_read() {
    let mut two = Two::new();
    let done = two.other.command(0, &vendor(READ_IN_PARTS, 512, 512), Transfer::read(512));
    two.send(&done);
    two.world.initiator.cmd_sn = two.other.cmd_sn;
    let reset = two.world.initiator.task_management(5, 7 << 48);
    assert!(two.world.exchange(&[reset]).is_empty());
    assert_eq!(two.said().len(), 2, "data, and the question for its arrival");
    let mut answers = Vec::new();
    for _ in 0..100 {
        let text = two.world.initiator.text(b"SendTargets=\0");
        let text = two.world.initiator.immediate(text);
        answers.extend(two.world.exchange(&[text]));
    }
    assert_eq!(opcodes(&answers), [Opcode::REJECT; 36]);
    assert_eq!(answers[0].bhs.bytes()[2], RejectReason::TOO_MANY_IMMEDIATE.raw());
    let heard = Packet::raw(Opcode::NOP_OUT, FINAL).immediate().word(16, NO_TAG).word(20, NO_TAG);
    two.send(&heard.clone().word(28, two.other.exp_stat_sn));
    let answers = two.world.run();
    assert_eq!(answers.iter().filter(|answer| answer.opcode() == Opcode::TEXT_RESPONSE).count(), 64);
    assert!(two.world.session.is_receiving(two.world.key));
    two.world.end();
}

/// A session that shares that memory, and is promised little of it.
fn with(memory: &Arc<Pool>, queue_depth: u32, data_digest: &str) -> World {
    let parameters = Parameters { queue_depth, max_recv_data_segment_length: 8192, ..Parameters::default() };
    let keys = [("FirstBurstLength", "8192"), ("DataDigest", data_digest)];
    World::logged_in_with(memory.clone(), parameters, &keys)
}

/// Expects that much data, and does not end by itself.
fn hold(world: &mut World, len: u32) -> Packet {
    let command = world.initiator.command(0, &vendor(HOLD, 0, 0), Transfer::read(len));
    assert!(world.exchange(&[&command]).is_empty());
    command
}

fn tags(answers: &[Packet]) -> Vec<u32> {
    answers.iter().map(|answer| answer.bhs.itt()).collect()
}

#[test]
fn commands_wait_for_memory_in_order() {
    let memory = Pool::new(8 << 20);
    let mut world = with(&memory, 8, "None");
    // Long ones count as the chunk that is under way of them.
    let held: Vec<_> = (0..4).map(|_| hold(&mut world, 32 << 20)).collect();
    assert_eq!((world.toy.running(), memory.left()), (4, (4 << 20) + (64 << 10)), "and 64 KiB beside");
    let waits = hold(&mut world, 1 << 20);
    // What could begin has to wait behind it, and so does what needs nothing.
    let write = world.initiator.command(0, &vendor(WRITE_IN_PARTS, 4096, 4096), Transfer::write(4096));
    let nothing = world.initiator.command(0, &[0], Transfer::NONE);
    let ping = world.initiator.nop_out(b"");
    let write = write.data(&[7; 4096]);
    let answers = world.exchange(&[&write, &nothing, &ping]);
    assert_eq!(tags(&answers), [ping.bhs.itt()]);
    assert_eq!(answers[0].bhs.word(32) - answers[0].bhs.word(28) + 1, 1, "each has its place in the window");
    assert_eq!((world.toy.running(), world.session.held()), (4, 4096), "what was promised is kept");
    // For immediate delivery there is no promise.
    let now = world.initiator.command(0, &[0], Transfer::write(1 << 20)).data(&[7; 4096]);
    let now = world.initiator.immediate(now);
    let answers = world.exchange(&[now]);
    assert_eq!(
        (opcodes(&answers), answers[0].bhs.bytes()[2]),
        (vec![Opcode::REJECT], RejectReason::TOO_MANY_IMMEDIATE.raw())
    );
    // The end of one is the beginning of the next, and of all that it was in the way of.
    let abort = world.initiator.abort_task(&held[0]);
    let abort = world.initiator.immediate(abort);
    let answers = world.exchange(&[&abort]);
    assert_eq!(tags(&answers), [abort.bhs.itt(), write.bhs.itt(), nothing.bhs.itt()]);
    assert_eq!((world.toy.running(), world.toy.written.pop()), (4, Some(vec![7; 4096])));
    // What waits is aborted by name and with all others, and is in nobody's way any more.
    let [second, third] = [(); 2].map(|()| hold(&mut world, 1 << 20));
    assert_eq!(world.toy.running(), 4);
    let abort = world.initiator.abort_task(&second);
    let answers = world.exchange(&[abort]);
    assert_eq!((opcodes(&answers), answers[0].bhs.bytes()[2]), (vec![Opcode::TASK_MANAGEMENT_RESPONSE], 0));
    let abort = world.initiator.abort_task(&waits);
    assert_eq!(world.exchange(&[abort])[0].bhs.bytes()[2], 0);
    assert_eq!(world.toy.running(), 4, "the third has begun");
    let abort = world.initiator.abort_task(&third);
    assert_eq!(world.exchange(&[abort])[0].bhs.bytes()[2], 0);
    let waits = [(); 3].map(|()| hold(&mut world, 1 << 20));
    let reset = world.initiator.task_management(5, 0);
    assert_eq!(opcodes(&world.exchange(&[reset])), [Opcode::TASK_MANAGEMENT_RESPONSE]);
    assert_eq!((world.toy.running(), world.session.in_flight(world.key), memory.left()), (0, 0, 8 << 20));
    assert!(Allowance::of(&memory).take(1 << 20), "nobody waits before another session");
    let again = world.initiator.abort_task(&waits[2]);
    assert_eq!(world.exchange(&[again])[0].bhs.bytes()[2], 1, "it is gone");
    drop(memory);
    world.end();
}

#[test]
fn damaged_data_of_a_command_that_waits_fails_it_when_it_begins() {
    let memory = Pool::new(1 << 20);
    let mut world = with(&memory, 8, "CRC32C");
    let held = hold(&mut world, 1 << 20);
    let write = world.initiator.command(0, &vendor(WRITE_IN_PARTS, 1 << 20, 4096), Transfer::write(1 << 20));
    let mut bytes = write.clone().data(&[7; 4096]).encode(world.initiator.digests);
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    world.receive(&bytes);
    assert_eq!(opcodes(&world.run()), [Opcode::REJECT]);
    let abort = world.initiator.abort_task(&held);
    let answers = world.exchange(&[abort]);
    assert_eq!(opcodes(&answers), [Opcode::TASK_MANAGEMENT_RESPONSE, Opcode::SCSI_RESPONSE]);
    assert_eq!(
        (answers[1].bhs.itt(), answers[1].bhs.bytes()[3]),
        (write.bhs.itt(), Status::CheckCondition as u8)
    );
    assert_eq!(world.toy.abandoned, 1);
    drop(memory);
    world.end();
}

/// Who waits for the end of a condition holds what the command that ends it would wait for.
#[test]
fn a_command_with_the_aca_attribute_does_not_wait() {
    let memory = Pool::new(1 << 20);
    let mut world = with(&memory, 8, "None");
    hold(&mut world, 1 << 20);
    hold(&mut world, 1 << 20);
    let mut aca = world.initiator.command(0, &vendor(READ_IN_PARTS, 512, 512), Transfer::read(512));
    aca.bhs.bytes_mut()[1] = aca.bhs.bytes()[1] & !7 | 4;
    assert_eq!(opcodes(&world.exchange(&[&aca])), [Opcode::DATA_IN, Opcode::SCSI_RESPONSE]);
    drop(memory);
    drop(world);
}

/// A connection that ends takes along what waited, and other sessions go on.
#[test]
fn a_session_that_ends_is_in_nobodys_way() {
    let memory = Pool::new(1 << 20);
    let mut two = [(); 2].map(|()| with(&memory, 8, "None"));
    let mut third = with(&memory, 8, "None");
    for world in &mut two {
        hold(world, 1 << 20);
    }
    let read = third.initiator.command(0, &vendor(READ_IN_PARTS, 1 << 20, 1 << 20), Transfer::read(1 << 20));
    assert!(third.exchange(&[read]).is_empty());
    for (world, ends) in two.iter_mut().zip([true, false]) {
        assert_eq!(world.toy.running(), usize::from(ends), "the first has all, the second waits");
        world.session.peer_finished(world.key);
    }
    assert_eq!(third.run().last().map(Packet::opcode), Some(Opcode::SCSI_RESPONSE));
    drop(two);
    drop(third);
    assert_eq!(memory.left(), 1 << 20);
}

/// The window of each is as wide as there is memory for what may come unasked.
#[test]
fn windows_are_what_memory_is_left_for() {
    let memory = Pool::new(8 << 20);
    let window = |first_burst: &str, initial_r2t: &str, immediate: &str| {
        let keys =
            [("FirstBurstLength", first_burst), ("InitialR2T", initial_r2t), ("ImmediateData", immediate)];
        let parameters = Parameters { max_recv_data_segment_length: 8192, ..Parameters::default() };
        let world = World::logged_in_with(memory.clone(), parameters, &keys);
        (world.initiator.max_cmd_sn - world.initiator.exp_cmd_sn + 1, world)
    };
    let (first, _held) = window("262144", "No", "No");
    let (second, _too) = window("262144", "Yes", "Yes");
    let (third, _three) = window("262144", "Yes", "No");
    let (fourth, _four) = window("8192", "No", "Yes");
    assert_eq!([first, second, third, fourth], [8, 6, 128, 112]);
}
