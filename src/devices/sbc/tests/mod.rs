// SPDX-License-Identifier: GPL-2.0-or-later
//! The disk driven step by step over a store that is a vector.

mod access;
mod copy;
mod data;
mod erase;
mod facts;
mod faults;
mod golden;
mod modes;
mod provisioning;
mod random;
mod removable;
mod shared;
mod table;

use std::sync::Arc;

use super::*;
use crate::io::{Allocation, Done, Error, ErrorKind, Geometry, Landing, Op, Record};
use crate::memory::{Arena, Sg};
use crate::scsi::alua::{Group, GroupState};
use crate::scsi::primary::{Designation, Identity};
use crate::scsi::reservations::Reservations;
use crate::scsi::{
    Attention, Cdb, Command, Context, CopyTraits, DeviceServer, Expected, Lun, Nexus, NexusId, Outcome, Peer,
    PortName, Resume, Status, Step, TargetPort, TaskAttribute, TaskId, UnitAttentions, UnitKey, UnitState,
};
use crate::time::Instant;
use crate::wire::Uuid;

const TASK: TaskId = TaskId(3);

/// How a command ended, and what it did on the way.
#[derive(Debug)]
struct Ended {
    outcome: Outcome,
    /// All bytes that went to the initiator.
    data: Vec<u8>,
    /// How many bytes were fetched.
    fetched: u32,
    /// How many steps it took before the last.
    steps: usize,
    /// How it ended for the initiator, if its task went on afterwards.
    detached: Option<Outcome>,
}

impl Ended {
    fn good(self) -> Vec<u8> {
        assert_eq!(self.outcome.status, Status::Good, "{:?}", self.outcome.sense);
        self.data
    }

    /// Sense key and code.
    fn sense(&self) -> (u8, u16) {
        assert_eq!(self.outcome.status, Status::CheckCondition);
        let sense = self.outcome.sense.as_ref().expect("CHECK CONDITION comes with sense data");
        (sense.key, sense.code)
    }

    /// What the other initiators are told.
    fn attention(&self) -> Option<u16> {
        let attentions = &self.outcome.attentions;
        let code = attentions.first().map(|attention| attention.code);
        assert_eq!(*attentions, Vec::from_iter(code.map(Attention::others)));
        code
    }

    fn information(&self) -> Option<u64> {
        self.outcome.sense.as_ref().and_then(|s| s.information)
    }
}

type Hook = Box<dyn FnMut(&mut Vec<u8>)>;

/// A disk, its store and its initiator.
struct Rig {
    server: Server,
    arena: Arena,
    geometry: Geometry,
    bytes: Vec<u8>,
    mapped: Vec<bool>,
    anchored: Vec<bool>,
    /// Operations that touch this byte fail.
    fault: Option<(u64, ErrorKind)>,
    /// Called after each read and write of the store, as another core or a bad medium would get in between.
    interfere: Option<Hook>,
    /// Each operation of the store in short.
    log: Vec<String>,
    /// The blocks of another logical unit, and whether it lets copies do anything.
    other: Vec<u8>,
    not_admitted: bool,
    /// Records kept.
    kept: Vec<Record>,
    /// ... which may be impossible.
    keeps: bool,
    /// What all cores know of it.
    state: Arc<UnitState>,
    luns: Vec<Lun>,
    attentions: UnitAttentions,
    now: Instant,
}

fn config() -> Config {
    Config {
        physical_exponent: 0,
        atomic_writes: true,
        epoch: 1_000_000,
        ..Config::new(
            Identity::new("PTGT", "VIRTUAL DISK", "0001", Some("S-1"), Uuid::of_name("unit-1")).unwrap(),
        )
    }
}

/// The nexus that sends everything here.
fn nexus() -> Nexus {
    Nexus { initiator: PortName::iscsi_initiator("iqn.2026-11.test:i", [0x80, 0, 0, 0, 0, 1]), port: port() }
}

fn port() -> Arc<TargetPort> {
    Arc::new(TargetPort::iscsi(7, "iqn.2026-11.test:t", 2))
}

/// The name of the other logical unit.
fn other_name() -> Designation {
    Designation::new(1, 3, b"\x30other").unwrap()
}

fn group() -> Group {
    Group { id: 2, state: GroupState::ActiveOptimized, preferred: true, ports: vec![port()], status: 0 }
}

const BLOCKS: u64 = 4096;

impl Rig {
    fn new(config: Config) -> Self {
        let bytes = BLOCKS << config.block.shift();
        Self {
            server: Arc::new(Disk::new(config)).server(),
            arena: Arena::new(32 << 20, false).unwrap(),
            geometry: Geometry { bytes, block: 512, transfer_max: 64 << 10, thin: true, read_only: false },
            bytes: vec![0; bytes as usize],
            mapped: vec![false; bytes as usize / 512],
            anchored: vec![false; bytes as usize / 512],
            fault: None,
            interfere: None,
            log: Vec::new(),
            other: vec![0; bytes as usize],
            not_admitted: false,
            kept: Vec::new(),
            keeps: true,
            state: Arc::new(UnitState::new(Reservations::default(), vec![group()])),
            luns: vec![Lun::ZERO, Lun::from_index(5), Lun::from_index(300)],
            attentions: UnitAttentions::default(),
            now: Instant::ZERO,
        }
    }

    fn thin() -> Self {
        Self::new(config())
    }

    fn thick() -> Self {
        Self::new(Config { thin: false, ..config() })
    }

    /// A command without data.
    fn none(&mut self, cdb: &[u8]) -> Ended {
        self.run(cdb, &[], 0)
    }

    /// A command with data to the initiator, which has room for 64 KiB.
    fn read(&mut self, cdb: &[u8]) -> Ended {
        self.run(cdb, &[], 64 << 10)
    }

    /// A command with data from the initiator.
    fn write(&mut self, cdb: &[u8], out: &[u8]) -> Ended {
        self.run(cdb, out, 0)
    }

    fn command(cdb: &[u8], data_out: u32, data_in: u32) -> Command {
        Command {
            nexus: NexusId::of(1),
            lun: Lun::ZERO,
            cdb: Cdb::new(cdb).expect("1 to 260 bytes"),
            attribute: TaskAttribute::Simple,
            expected: Expected { data_in, data_out },
        }
    }

    fn run(&mut self, cdb: &[u8], out: &[u8], room: u32) -> Ended {
        let before = self.arena.in_use();
        let command = Self::command(cdb, out.len() as u32, room);
        let mut ended =
            Ended { outcome: Outcome::good(), data: Vec::new(), fetched: 0, steps: 0, detached: None };
        let mut step = self.call(&command, None);
        loop {
            let answer = match step {
                Step::Finish(outcome) => {
                    ended.data.extend(outcome.data.to_vec());
                    ended.data.truncate(room as usize);
                    ended.outcome = outcome;
                    break;
                }
                Step::Fetch { len } => {
                    let from = ended.fetched as usize;
                    ended.fetched += len;
                    assert!(len != 0 && ended.fetched as usize <= out.len(), "fetches what is not offered");
                    let data = &out[from..ended.fetched as usize];
                    Resume::Fetched(Sg::copied(&self.arena, data).unwrap())
                }
                Step::Change(change) => {
                    let nexus = nexus();
                    let changed = self.state.change(&change, Some((command.nexus, &nexus)));
                    Resume::Changed(changed.map(|(state, _)| {
                        self.state = Arc::new(state);
                        self.state.clone()
                    }))
                }
                Step::Persist(record) if self.keeps => {
                    self.kept.push(record);
                    Resume::Persisted(Ok(()))
                }
                Step::Persist(_) => Resume::Persisted(Err(Error { kind: ErrorKind::NoSpace, at: 0 })),
                Step::Send(data) => {
                    assert!(!data.is_empty());
                    ended.data.extend(data.to_vec());
                    Resume::Sent
                }
                Step::Store(op) => Resume::Stored(self.store(op)),
                Step::Look(name) => Resume::Seen((name == other_name()).then(|| self.other())),
                Step::StoreOf(unit, _) if self.not_admitted || unit != self.other().unit => {
                    Resume::NotAdmitted
                }
                Step::StoreOf(_, op) => {
                    std::mem::swap(&mut self.bytes, &mut self.other);
                    self.log.push("other:".into());
                    let done = self.store(op);
                    std::mem::swap(&mut self.bytes, &mut self.other);
                    Resume::Stored(done)
                }
                Step::Detach(outcome) => {
                    ended.detached = Some(outcome);
                    Resume::Detached
                }
                Step::ReleaseMedium { .. } | Step::MoveMedia(_) => panic!("nobody wants it"),
            };
            ended.steps += 1;
            step = self.call(&command, Some(answer));
        }
        // Nothing is left behind but what the outcome holds.
        ended.outcome.data = Sg::new();
        assert_eq!(self.arena.in_use(), before, "a task that is over holds memory");
        ended
    }

    /// One call into the device.
    fn call(&mut self, command: &Command, answer: Option<Resume>) -> Step {
        self.call_as(TASK, command, answer)
    }

    /// A command of another task that ends with its first step.
    fn run_as(&mut self, task: TaskId, cdb: &[u8]) -> Outcome {
        match self.call_as(task, &Self::command(cdb, 0, 255), None) {
            Step::Finish(outcome) => outcome,
            other => panic!("{other:?}"),
        }
    }

    fn call_as(&mut self, task: TaskId, command: &Command, answer: Option<Resume>) -> Step {
        let nexus = nexus();
        let mut cx = Context {
            arena: &self.arena,
            geometry: self.geometry,
            state: &self.state,
            attentions: &mut self.attentions,
            nexus: Some(&nexus),
            luns: &self.luns,
            landing: &mut |_| Landing::Own,
            lease: None,
            now: self.now,
        };
        match answer {
            None => self.server.start(task, command, &mut cx),
            Some(answer) => self.server.resume(task, command, answer, &mut cx),
        }
    }

    /// The other logical unit, as copies see it: as many bytes in blocks of 4096.
    fn other(&self) -> Peer {
        let traits = CopyTraits { device_type: 0, block: 4096, write_through: true };
        Peer { unit: UnitKey(9), geometry: self.geometry, traits }
    }

    fn store(&mut self, op: Op) -> Done {
        let (name, at, len) = match &op {
            Op::Read { at, len, into: Landing::Given(_) } => ("read into", *at, u64::from(*len)),
            Op::Read { at, len, .. } => ("read", *at, u64::from(*len)),
            Op::Write { at, data, fua } => (if *fua { "write!" } else { "write" }, *at, data.len() as u64),
            Op::Flush => ("flush", 0, 0),
            Op::Unmap { at, len } => ("unmap", *at, *len),
            Op::Anchor { at, len } => ("anchor", *at, *len),
            Op::WriteSame { at, len, fua, .. } => (if *fua { "same!" } else { "same" }, *at, *len),
            Op::CompareAndWrite { at, data, fua, .. } => {
                (if *fua { "swap!" } else { "swap" }, *at, data.len() as u64)
            }
            Op::Extent { at } => ("extent", *at, 0),
        };
        self.log.push(format!("{name} {}+{}", at / 512, len / 512));
        let block = u64::from(self.geometry.block);
        assert!(at % block == 0 && len % block == 0, "{name} of parts of a block");
        assert!(at + len <= self.geometry.bytes, "{name} beyond the end");
        if !matches!(op, Op::Unmap { .. } | Op::Anchor { .. }) {
            assert!(len <= self.geometry.transfer_max.into(), "{name} of too much");
        }
        if let Some((bad, kind)) = self.fault
            && (at..at + len.max(1)).contains(&bad)
        {
            return Done::Failed(Error { kind, at: bad });
        }
        self.carry_out(op, at as usize..(at + len) as usize)
    }

    fn carry_out(&mut self, op: Op, range: std::ops::Range<usize>) -> Done {
        let at = range.start;
        let map = range.start / 512..range.end / 512;
        match op {
            Op::Read { into: Landing::Own | Landing::Lent(_), .. } => {
                let Some(data) = Sg::copied(&self.arena, &self.bytes[range]) else {
                    return Done::Failed(Error { kind: ErrorKind::NoMemory, at: at as u64 });
                };
                self.interfere();
                return Done::Data(data);
            }
            Op::Read { into: Landing::Given(mut memory), .. } => {
                memory.bytes_mut().copy_from_slice(&self.bytes[range]);
                self.interfere();
                return Done::Data(memory.freeze().into());
            }
            Op::Write { data, .. } => {
                self.bytes[range].copy_from_slice(&data.to_vec());
                self.mapped[map].fill(true);
                self.interfere();
            }
            Op::Flush => {}
            Op::Unmap { .. } => {
                self.bytes[range].fill(0);
                self.mapped[map.clone()].fill(false);
                self.anchored[map].fill(false);
            }
            Op::Anchor { .. } => {
                self.bytes[range].fill(0);
                self.mapped[map.clone()].fill(false);
                self.anchored[map].fill(true);
            }
            Op::WriteSame { pattern, .. } => {
                let pattern = Sg::from(pattern).to_vec();
                self.bytes[range].chunks_mut(pattern.len()).for_each(|c| c.copy_from_slice(&pattern));
                self.mapped[map].fill(true);
            }
            Op::CompareAndWrite { compare, data, .. } => {
                let compare = compare.map_or_else(Vec::new, |compare| compare.to_vec());
                let now = &mut self.bytes[range];
                if let Some(offset) = (0..compare.len()).find(|&i| compare[i] != now[i]) {
                    return Done::Differs { offset: offset as u32 };
                }
                now.copy_from_slice(&data.to_vec());
                self.mapped[map].fill(true);
            }
            Op::Extent { .. } => {
                let state = |i: usize| match (self.mapped[i], self.anchored[i]) {
                    (true, _) => Allocation::Mapped,
                    (false, true) => Allocation::Anchored,
                    (false, false) => Allocation::Deallocated,
                };
                let run = (at / 512..self.mapped.len()).take_while(|&i| state(i) == state(at / 512)).count();
                return Done::Extent { state: state(at / 512), len: run as u64 * 512 };
            }
        }
        Done::Finished
    }

    fn interfere(&mut self) {
        if let Some(hook) = &mut self.interfere {
            hook(&mut self.bytes);
        }
    }

    fn blocks(&self, lba: usize, count: usize) -> &[u8] {
        &self.bytes[lba * 512..(lba + count) * 512]
    }
}

/// A 10-byte CDB of a block command.
fn cdb10(opcode: u8, flags: u8, lba: u32, blocks: u16) -> [u8; 10] {
    let (l, n) = (lba.to_be_bytes(), blocks.to_be_bytes());
    [opcode, flags, l[0], l[1], l[2], l[3], 0, n[0], n[1], 0]
}

/// A 16-byte CDB of a block command.
fn cdb16(opcode: u8, flags: u8, lba: u64, blocks: u32) -> [u8; 16] {
    let mut cdb = [0; 16];
    cdb[..2].copy_from_slice(&[opcode, flags]);
    cdb[2..10].copy_from_slice(&lba.to_be_bytes());
    cdb[10..14].copy_from_slice(&blocks.to_be_bytes());
    cdb
}

const INVALID_FIELD_IN_CDB: (u8, u16) = (5, 0x2400);
const OUT_OF_RANGE: (u8, u16) = (5, 0x2100);
const MISCOMPARE: (u8, u16) = (0xe, 0x1d00);
const INVALID_OPCODE: (u8, u16) = (5, 0x2000);
const PARAMETER_LIST_LENGTH: (u8, u16) = (5, 0x1a00);
const INVALID_FIELD_IN_PARAMETER_LIST: (u8, u16) = (5, 0x2600);
const WRITE_PROTECTED: (u8, u16) = (7, 0x2700);
