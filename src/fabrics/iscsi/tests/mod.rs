// SPDX-License-Identifier: GPL-2.0-or-later
//! A scripted initiator and a toy task manager at the two ends of one connection, on a clock that stands still unless
//! it is moved.

mod access;
mod answers;
mod budget;
mod connections;
mod data;
mod datamover;
mod hostile;
mod keys;
mod limits;
mod login;
mod pdus;
mod requests;
mod sent;
mod window;

use std::borrow::Borrow;
use std::collections::VecDeque;
use std::time::Duration;

use super::initiator::{Digests, Initiator, Packet};
use super::*;
use crate::memory::{Arena, Lease, Seg, Sg};
use crate::scsi::{
    Command, Lun, NexusId, Request, RequestTag, Residual, Response, Sense, Status, TaskManagementFunction,
    TaskManagementResponse, Transport, key,
};
use crate::time::Instant;
use crate::wire::iscsi::{Bhs, Opcode};

/// Where things are in a header, as RFC 7143 has it: tests do not rely on the tables that they test.
pub(super) trait RawHeader {
    fn word(&self, at: usize) -> u32;
    fn half(&self, at: usize) -> u16;
    fn flags(&self) -> u8;
    fn lun(&self) -> u64;
    fn cmd_sn(&self) -> u32;
    fn set_word(&mut self, at: usize, value: u32);
    fn set_half(&mut self, at: usize, value: u16);
}

impl RawHeader for Bhs {
    fn word(&self, at: usize) -> u32 {
        u32::from_be_bytes(*self.bytes()[at..].first_chunk().unwrap())
    }

    fn half(&self, at: usize) -> u16 {
        u16::from_be_bytes(*self.bytes()[at..].first_chunk().unwrap())
    }

    fn flags(&self) -> u8 {
        self.bytes()[1]
    }

    fn lun(&self) -> u64 {
        u64::from_be_bytes(*self.bytes()[8..].first_chunk().unwrap())
    }

    fn cmd_sn(&self) -> u32 {
        self.word(24)
    }

    fn set_word(&mut self, at: usize, value: u32) {
        self.bytes_mut()[at..at + 4].copy_from_slice(&value.to_be_bytes());
    }

    fn set_half(&mut self, at: usize, value: u16) {
        self.bytes_mut()[at..at + 2].copy_from_slice(&value.to_be_bytes());
    }
}

impl Packet {
    /// Any header, with this byte 1.
    pub(super) fn raw(opcode: Opcode, flags: u8) -> Self {
        let mut bytes = [0; Bhs::LEN];
        (bytes[0], bytes[1]) = (opcode.raw(), flags);
        Self::from(Bhs::from(bytes))
    }

    /// Sets a word of it.
    pub(super) fn word(mut self, at: usize, value: u32) -> Self {
        self.bhs.set_word(at, value);
        self
    }

    /// Sets bytes 8 to 15.
    pub(super) fn lun(mut self, lun: u64) -> Self {
        self.bhs.bytes_mut()[8..16].copy_from_slice(&lun.to_be_bytes());
        self
    }
}

/// In byte 0 of a request: to be delivered at once.
pub(super) const IMMEDIATE: u8 = 0x40;
/// In byte 1: the last of a sequence, or in a login, to go on to the next stage.
pub(super) const FINAL: u8 = 0x80;
/// In byte 1 of a login or text: the text goes on in the next PDU.
pub(super) const CONTINUE: u8 = 0x40;

/// Bits of byte 1 of SCSI Response and Data-In PDUs (RFC 7143 11.4.1, 11.7.3).
pub(super) mod flag {
    pub(in super::super) const BIDI_OVERFLOW: u8 = 0x10;
    pub(in super::super) const BIDI_UNDERFLOW: u8 = 0x08;
    pub(in super::super) const OVERFLOW: u8 = 0x04;
    pub(in super::super) const UNDERFLOW: u8 = 0x02;
    pub(in super::super) const STATUS: u8 = 0x01;
}

pub(super) const TARGET: &str = "iqn.2026-11.test:a";
pub(super) const NAMES: [(&str, &str); 3] =
    [("InitiatorName", "iqn.2026-11.test:me"), ("TargetName", TARGET), ("SessionType", "Normal")];

/// How a connection of the initiator comes in that has this TCP port.
pub(super) fn origin(port: u16) -> ConnectionOrigin {
    let address = |last, port| SocketAddr::from(([192, 0, 2, last], port));
    ConnectionOrigin { portal: "main".into(), local: address(1, 3260), peer: address(9, port) }
}

/// Two targets, one of which nobody may use, with two portals each, and one that is elsewhere.
pub(super) struct Targets {
    pub(super) parameters: Arc<Parameters>,
    pub(super) authentication: Option<Arc<Authentication>>,
    /// The account that has access; all have without it.
    pub(super) user: Option<&'static str>,
    /// The next byte that is not random at all.
    pub(super) random: std::cell::Cell<u8>,
    /// Targets besides, and how many addresses each of them has.
    pub(super) more: (usize, u16),
}

impl Directory for Targets {
    fn discover(&self, visitor: &Visitor<'_>, found: &mut dyn FnMut(&str, SocketAddr, u16)) {
        let local = visitor.origin.local;
        for target in [TARGET, "iqn.2026-11.test:b"] {
            found(target, local, 1);
            // With a zone, which nobody else is told.
            found(target, "[2001:db8::1%7]:3260".parse().unwrap(), 2);
        }
        for n in 0..self.more.0 {
            for group in 1..=self.more.1 {
                found(&format!("iqn.2026-11.test:more:{n}"), local, group);
            }
        }
    }

    fn admit(&self, visitor: &Visitor<'_>, target: Option<&str>) -> Result<Admission, Denial> {
        assert_eq!(visitor.user, None, "admission comes before authentication");
        let (parameters, authentication) = (self.parameters.clone(), self.authentication.clone());
        match target {
            None => Ok(Admission { portal_group: 0, alias: None, parameters, authentication }),
            Some(TARGET) => {
                Ok(Admission { portal_group: 1, alias: Some("disk".into()), parameters, authentication })
            }
            Some("iqn.2026-11.test:b") => Err(Denial::Refused(LoginStatus::AuthorizationFailure, "not you")),
            Some("iqn.2026-11.test:moved") => {
                Err(Denial::Moved { permanently: true, address: "[2001:db8::7]:3260".into() })
            }
            Some("iqn.2026-11.test:away") => {
                Err(Denial::Moved { permanently: false, address: "host.example:3260".into() })
            }
            Some(_) => Err(Denial::Refused(LoginStatus::NotFound, "no such target")),
        }
    }

    fn authorize(&self, visitor: &Visitor<'_>, _: Option<&str>) -> bool {
        self.user.is_none() || visitor.user == self.user
    }

    fn random(&self, bytes: &mut [u8]) -> bool {
        for byte in bytes {
            *byte = self.random.get();
            self.random.set(byte.wrapping_add(1));
        }
        true
    }
}

/// The byte at an offset of the toy disk.
pub(super) fn pattern(at: usize) -> u8 {
    (at % 251) as u8
}

pub(super) fn pattern_of(at: usize, len: usize) -> Vec<u8> {
    (at..at + len).map(pattern).collect()
}

/// Vendor commands of the toy disk; `[opcode, 0, total (4), part (4)]`.
pub(super) const HOLD: u8 = 0xc0;
pub(super) const READ_IN_PARTS: u8 = 0xc1;
pub(super) const WRITE_IN_PARTS: u8 = 0xc2;
pub(super) const FAIL: u8 = 0xc3;
pub(super) const READ_AND_FAIL: u8 = 0xc4;
pub(super) const ECHO: u8 = 0xc5;
/// Takes `total` bytes and sends `part`.
pub(super) const BOTH: u8 = 0xc6;

pub(super) fn vendor(opcode: u8, total: u32, part: u32) -> [u8; 16] {
    let mut cdb = [0; 16];
    cdb[0] = opcode;
    cdb[2..6].copy_from_slice(&total.to_be_bytes());
    cdb[6..10].copy_from_slice(&part.to_be_bytes());
    cdb
}

struct Task {
    request_tag: RequestTag,
    command: Command,
    moved: u32,
    got: Vec<u8>,
}

/// Carries out commands at once, those with [`HOLD`] never. Aborts what it is told to.
#[derive(Default)]
pub(super) struct Toy {
    tasks: Vec<Task>,
    /// What was written, by commands in the order in which they ended.
    pub(super) written: Vec<Vec<u8>>,
    /// All commands that came.
    pub(super) commands: Vec<Command>,
    pub(super) functions: Vec<TaskManagementFunction>,
    pub(super) abandoned: usize,
    /// Keeps abandoned tasks for now, as if a store had them.
    pub(super) keeps: bool,
    kept: Vec<RequestTag>,
    /// What `Sg`s are made of.
    pub(super) lent: Option<Lease>,
}

impl Toy {
    pub(super) fn running(&self) -> usize {
        self.tasks.len()
    }

    fn serve(&mut self, arena: &Arena, transport: &mut dyn Transport) -> bool {
        let mut busy = false;
        while let Some(request) = transport.poll_request() {
            busy = true;
            match request {
                Request::Command { request_tag, command } => {
                    self.commands.push(command.clone());
                    assert!(self.tasks.iter().all(|task| task.request_tag != request_tag), "a name in use");
                    self.tasks.push(Task { request_tag, command, moved: 0, got: Vec::new() });
                    self.run(request_tag, arena, transport);
                }
                Request::DataOut { request_tag, data } => {
                    let task =
                        self.tasks.iter_mut().find(|task| task.request_tag == request_tag).expect("known");
                    task.moved += u32::try_from(data.len()).unwrap();
                    task.got.extend(data.to_vec());
                    self.run(request_tag, arena, transport);
                }
                Request::DataInTaken { request_tag } => self.run(request_tag, arena, transport),
                Request::Abandoned { request_tag } => {
                    self.abandoned += 1;
                    self.forget(request_tag);
                    match self.keeps {
                        true => self.kept.push(request_tag),
                        false => transport.terminate(request_tag, None),
                    }
                }
                Request::TaskManagement { request, function, lun, .. } => {
                    self.functions.push(function);
                    let all: Vec<_> =
                        self.tasks.iter().map(|task| (task.request_tag, task.command.lun)).collect();
                    for (request_tag, its_lun) in all {
                        let aborted = match function {
                            TaskManagementFunction::AbortTask(one) => one == request_tag,
                            TaskManagementFunction::TargetReset => true,
                            _ => its_lun == lun,
                        };
                        if aborted {
                            self.forget(request_tag);
                            transport.terminate(request_tag, None);
                        }
                    }
                    transport.task_management_executed(request, TaskManagementResponse::Complete);
                }
            }
        }
        busy
    }

    /// Aborts a task as if another nexus had asked for it.
    pub(super) fn abort_first(&mut self, transport: &mut dyn Transport) {
        let request_tag = self.tasks[0].request_tag;
        self.forget(request_tag);
        transport.terminate(request_tag, None);
    }

    /// Lets go of the abandoned tasks that it has kept.
    pub(super) fn let_go(&mut self, transport: &mut dyn Transport) {
        for request_tag in self.kept.drain(..) {
            transport.terminate(request_tag, None);
        }
    }

    pub(super) fn forget(&mut self, request_tag: RequestTag) {
        self.tasks.retain(|task| task.request_tag != request_tag);
    }

    fn data(&self, arena: &Arena, at: u32, len: u32) -> Sg {
        match &self.lent {
            Some(memory) => Sg::from(memory.clone().lend(at as usize, len)),
            None => Sg::copied(arena, &pattern_of(at as usize, len as usize)).expect("memory"),
        }
    }

    fn run(&mut self, request_tag: RequestTag, arena: &Arena, transport: &mut dyn Transport) {
        let index = self.tasks.iter().position(|task| task.request_tag == request_tag).expect("known");
        let task = &self.tasks[index];
        let (cdb, expected) = (task.command.cdb.bytes(), task.command.expected);
        let word = |at: usize| u32::from_be_bytes(cdb[at..at + 4].try_into().unwrap());
        let (total, part) = (word(2), word(6));
        let block = |at: usize| u32::from(u16::from_be_bytes([cdb[at], cdb[at + 1]])) * 512;
        let mut response = Response {
            status: Status::Good,
            sense: Default::default(),
            data: Sg::new(),
            residual_in: Residual::None,
            residual_out: Residual::None,
        };
        match cdb[0] {
            HOLD => return,
            0x28 => {
                let (at, len) = (word(2) * 512, block(7));
                response.data = self.data(arena, at, len.min(expected.data_in));
                response.residual_in = residual(expected.data_in, len);
            }
            0x2a | WRITE_IN_PARTS => {
                let (wanted, part) = if cdb[0] == 0x2a { (block(7), u32::MAX) } else { (total, part) };
                let left = wanted.min(expected.data_out) - task.moved;
                if left > 0 {
                    return transport.receive_data_out(request_tag, left.min(part));
                }
                response.residual_out = residual(expected.data_out, wanted);
            }
            ECHO => {
                if task.moved < expected.data_out {
                    return transport.receive_data_out(request_tag, expected.data_out);
                }
                let len = expected.data_out.min(expected.data_in);
                response.data = Sg::copied(arena, &task.got[..len as usize]).expect("memory");
                response.residual_in = residual(expected.data_in, expected.data_out);
            }
            BOTH => {
                let taken = total.min(expected.data_out);
                if task.moved < taken {
                    return transport.receive_data_out(request_tag, taken - task.moved);
                }
                response.data = self.data(arena, 0, part.min(expected.data_in));
                response.residual_in = residual(expected.data_in, part);
                response.residual_out = residual(expected.data_out, total);
            }
            READ_IN_PARTS | READ_AND_FAIL if task.moved < total.min(expected.data_in) => {
                let at = task.moved;
                let len = part.min(total.min(expected.data_in) - at);
                self.tasks[index].moved += len;
                let data = self.data(arena, at, len);
                return transport.send_data_in(request_tag, data);
            }
            READ_IN_PARTS => response.residual_in = residual(expected.data_in, total),
            FAIL | READ_AND_FAIL => {
                response.status = Status::CheckCondition;
                response.sense = Sense::new(key::MEDIUM_ERROR, 0x1100).encode(false);
                response.residual_in = residual(expected.data_in, task.moved);
            }
            _ => {}
        }
        let task = self.tasks.remove(index);
        if task.moved > 0 && !task.got.is_empty() {
            self.written.push(task.got);
        }
        transport.send_command_complete(request_tag, response);
    }
}

fn residual(expected: u32, wanted: u32) -> Residual {
    match (expected, wanted) {
        _ if wanted > expected => Residual::Overflow(wanted - expected),
        _ if wanted < expected => Residual::Underflow(expected - wanted),
        _ => Residual::None,
    }
}

/// Bytes that the initiator's commands may make the target hold.
const MEMORY: u64 = 1 << 30;

/// Both ends.
pub(super) struct World {
    pub(super) arena: Arena,
    /// What there is for the initiator's commands.
    pub(super) memory: Arc<Pool>,
    pub(super) session: Session,
    pub(super) key: ConnectionKey,
    /// What has come in, and is not read yet.
    inbox: VecDeque<Seg>,
    pub(super) initiator: Initiator,
    pub(super) toy: Toy,
    pub(super) targets: Targets,
    pub(super) now: Instant,
    pub(super) events: Vec<Event>,
    /// Whether logins are accepted when they are wanted.
    pub(super) accepts: bool,
}

impl World {
    pub(super) fn new(parameters: Parameters) -> Self {
        let arena = Arena::new(64 << 20, false).unwrap();
        let parameters = Arc::new(parameters);
        let now = Instant::from_nanos(1_000_000_000);
        let (session, key) = Session::new(parameters.clone(), arena.clone(), origin(40_000), now);
        Self {
            session,
            key,
            inbox: VecDeque::new(),
            memory: Pool::new(MEMORY),
            arena,
            initiator: Initiator::new(),
            toy: Toy::default(),
            targets: Targets { parameters, authentication: None, user: None, random: 1.into(), more: (0, 0) },
            now,
            events: Vec::new(),
            accepts: true,
        }
    }

    /// A world in the full feature phase, after a login that offers `keys`.
    pub(super) fn logged_in(parameters: Parameters, keys: &[(&str, &str)]) -> Self {
        Self::logged_in_with(Pool::new(MEMORY), parameters, keys)
    }

    /// The same, with memory for the initiator's commands that it may share with another world.
    pub(super) fn logged_in_with(memory: Arc<Pool>, parameters: Parameters, keys: &[(&str, &str)]) -> Self {
        let mut world = Self { memory, ..Self::new(parameters) };
        let login = world.initiator.login(1, Some(3), &[&NAMES[..], keys].concat());
        let answers = world.exchange(&[login]);
        assert_eq!(answers.len(), 1, "{:?}", world.events);
        assert_eq!(answers[0].bhs.half(36), 0, "{:?}", world.events);
        let negotiated = world.connection().negotiated();
        world.initiator.digests = Digests { header: negotiated.header_digest, data: negotiated.data_digest };
        world
    }

    /// Gives bytes to the connection in one piece.
    pub(super) fn receive(&mut self, bytes: &[u8]) {
        self.inbox.extend(Sg::copied(&self.arena, bytes).expect("memory").segs().iter().cloned());
        self.feed();
    }

    fn feed(&mut self) {
        let mut next = || self.inbox.pop_front();
        let (mut left, session, targets) = (0, &mut self.session, &self.targets);
        while session.receive(self.key, self.now, targets, &mut left, &mut next) {
            left = 3;
        }
    }

    /// Lets the target work until it has no more to say, and returns what it said.
    pub(super) fn run(&mut self) -> Vec<Packet> {
        let mut packets = Vec::new();
        loop {
            let mut busy = self.work();
            while let Some(pdu) = self.session.poll_transmit(self.key) {
                busy = true;
                packets.extend(self.initiator.take(&pdu.to_vec()));
                assert!(self.initiator.is_between_pdus(), "a PDU is sent whole");
            }
            if !busy {
                return packets;
            }
        }
    }

    /// Events and requests, without sending.
    pub(super) fn work(&mut self) -> bool {
        let mut busy = false;
        while let Some(event) = self.session.poll_event() {
            busy = true;
            if let Event::LoginWanted(..) = event
                && self.accepts
            {
                let depth = self.targets.parameters.queue_depth;
                let memory = Allowance::of(&self.memory);
                self.session.accept_login(self.key, NexusId::of(9), 0x1234, depth, memory);
                self.feed();
            }
            if let Event::Resumed(key) = event {
                assert_eq!(key, self.key);
                self.feed();
            }
            self.events.push(event);
        }
        busy | self.toy.serve(&self.arena, &mut self.session)
    }

    pub(super) fn exchange<P: Borrow<Packet>>(&mut self, packets: &[P]) -> Vec<Packet> {
        for packet in packets {
            self.receive(&packet.borrow().encode(self.initiator.digests));
        }
        self.run()
    }

    pub(super) fn connection(&self) -> &Connection {
        self.session.connection(self.key).expect("not removed")
    }

    /// Moves the clock.
    pub(super) fn wait(&mut self, time: Duration) -> Vec<Packet> {
        self.now = self.now + time;
        self.session.timeout(self.now);
        self.run()
    }

    pub(super) fn closed(&self) -> Option<&CloseReason> {
        self.events.iter().find_map(|event| match event {
            Event::Closed { reason, .. } => Some(reason),
            Event::LoginWanted(..) | Event::JoinWanted(..) | Event::Joined(_) | Event::Resumed(_) => None,
        })
    }

    pub(super) fn violation(&self) -> &'static str {
        match self.closed() {
            Some(CloseReason::Violation(what)) => what,
            other => panic!("not a violation: {other:?}"),
        }
    }

    /// Everything that was lent comes home.
    pub(super) fn end(self) {
        let Self { arena, session, toy, memory, inbox, .. } = self;
        drop((session, toy, inbox));
        if Arc::strong_count(&memory) == 1 {
            assert_eq!(memory.left(), memory.bytes, "allowance that did not come home");
        }
        assert_eq!(arena.in_use(), 0, "memory that did not come home");
    }
}

pub(super) fn opcodes(packets: &[Packet]) -> Vec<Opcode> {
    packets.iter().map(Packet::opcode).collect()
}
