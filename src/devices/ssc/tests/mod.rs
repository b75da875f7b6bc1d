// SPDX-License-Identifier: GPL-2.0-or-later
//! The drive driven step by step over a store that is a vector.

mod data;
mod encryption;
mod forms;
mod logs;
mod media;
mod memory;
mod personalities;
mod places;
mod positions;
mod random;
mod removal;
mod rules;

use std::sync::Arc;

use super::*;
use crate::formats::tape::{Cartridge, CartridgeUse, TapeImage, TapeStep, image_bytes};
use crate::io::{Done, Error, ErrorKind, Geometry, Landing, Op};
use crate::memory::{Arena, Sg};
use crate::scsi::primary::{Identity, PrimaryServer};
use crate::scsi::{
    Cdb, Command, Context, DeviceServer, Expected, Lun, Nexus, NexusId, Outcome, PortName, Resume, Sense,
    Status, Step, TargetPort, TaskAttribute, TaskId, UnitAttentions, UnitState, asc, key,
};
use crate::time::Instant;
use crate::wire::Uuid;

const TASK: TaskId = TaskId(2);
/// Most bytes that a command has room for.
const ROOM: u32 = 17 << 20;

/// How a command ended.
#[derive(Debug)]
struct TapeEnded {
    outcome: Outcome,
    data: Vec<u8>,
}

impl TapeEnded {
    #[track_caller]
    fn good(self) -> Vec<u8> {
        assert_eq!(self.outcome.status, Status::Good, "{:?}", self.outcome.sense);
        self.data
    }

    #[track_caller]
    fn sense(&self) -> Sense {
        assert_eq!(self.outcome.status, Status::CheckCondition);
        (**self.outcome.sense.as_ref().expect("CHECK CONDITION comes with sense data")).clone()
    }

    /// Sense key and code.
    #[track_caller]
    fn why(&self) -> (u8, u16) {
        let sense = self.sense();
        (sense.key, sense.code)
    }
}

/// A drive, its store and its initiator.
struct TapeRig {
    server: PrimaryServer<Tape>,
    arena: Arena,
    bytes: Vec<u8>,
    attentions: UnitAttentions,
    /// Writes fail like that.
    fault: Option<ErrorKind>,
    /// Each operation of the store in short.
    ops: Vec<String>,
}

fn options() -> TapeOptions {
    let identity = Identity::new("PTGT", "VIRTUAL-TAPE", "0001", Some("T-1"), Uuid::of_name("tape")).unwrap();
    TapeOptions { epoch: 1_000_000, ..TapeOptions::new(identity) }
}

/// The bytes of a cartridge of that kind.
fn cartridge(capacity: u64, purpose: CartridgeUse, write_protected: bool) -> Vec<u8> {
    let cartridge = Cartridge {
        identity: 7,
        density: 0x5e,
        purpose,
        write_protected,
        capacity,
        barcode: "A00001L8".into(),
    };
    written(TapeImage::create(cartridge, &[capacity]).unwrap(), capacity)
}

/// The bytes of a new image.
fn written(mut image: TapeImage, capacity: u64) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(image_bytes(capacity).unwrap()).unwrap()];
    while let Some(step) = image.next_step() {
        if let TapeStep::Write { at, bytes: block } = step {
            let at = usize::try_from(*at).unwrap();
            bytes[at..at + block.len()].copy_from_slice(block);
        }
        image.step_done(true);
    }
    bytes
}

impl TapeRig {
    /// With a cartridge of 8 MiB.
    fn new() -> Self {
        Self::with(cartridge(8 << 20, CartridgeUse::Data, false))
    }

    fn with(bytes: Vec<u8>) -> Self {
        Self::set_up(options(), bytes)
    }

    fn set_up(options: TapeOptions, bytes: Vec<u8>) -> Self {
        Self {
            server: PrimaryServer::new(Arc::new(Tape::new(options))),
            arena: Arena::new(64 << 20, false).unwrap(),
            bytes,
            attentions: UnitAttentions::default(),
            fault: None,
            ops: Vec::new(),
        }
    }

    /// As after a restart of the daemon.
    fn restarted(self) -> Self {
        Self::with(self.bytes)
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

    fn none(&mut self, cdb: &[u8]) -> TapeEnded {
        self.run(cdb, &[], 0)
    }

    fn read(&mut self, cdb: &[u8]) -> TapeEnded {
        self.run(cdb, &[], ROOM)
    }

    fn write(&mut self, cdb: &[u8], out: &[u8]) -> TapeEnded {
        self.run(cdb, out, 0)
    }

    fn run(&mut self, cdb: &[u8], out: &[u8], room: u32) -> TapeEnded {
        let command = Self::command(cdb, out.len() as u32, room);
        let (mut data, mut fetched) = (Vec::new(), 0);
        let mut step = self.call(&command, None);
        loop {
            let answer = match step {
                Step::Finish(mut outcome) => {
                    data.extend(std::mem::take(&mut outcome.data).to_vec());
                    data.truncate(room as usize);
                    assert_eq!(self.arena.in_use(), 0, "a task that is over holds memory");
                    return TapeEnded { outcome, data };
                }
                step => self.answer(step, out, &mut fetched, &mut data),
            };
            step = self.call(&command, Some(answer));
        }
    }

    /// Begins a command, takes so many of its steps, and aborts it.
    fn abort_after(&mut self, steps: usize, cdb: &[u8], out: &[u8]) -> bool {
        let command = Self::command(cdb, out.len() as u32, ROOM);
        let (mut data, mut fetched) = (Vec::new(), 0);
        let mut step = self.call(&command, None);
        for _ in 0..steps {
            if matches!(step, Step::Finish(_)) {
                return false;
            }
            let answer = self.answer(step, out, &mut fetched, &mut data);
            step = self.call(&command, Some(answer));
        }
        if matches!(step, Step::Finish(_)) {
            return false;
        }
        drop(step);
        self.server.abort(TASK);
        true
    }

    fn answer(&mut self, step: Step, out: &[u8], fetched: &mut usize, data: &mut Vec<u8>) -> Resume {
        match step {
            Step::Fetch { len } => {
                let from = *fetched;
                *fetched += len as usize;
                assert!(len != 0 && *fetched <= out.len(), "fetches what is not offered");
                Resume::Fetched(Sg::copied(&self.arena, &out[from..*fetched]).unwrap())
            }
            Step::Send(sent) => {
                assert!(!sent.is_empty());
                data.extend(sent.to_vec());
                Resume::Sent
            }
            Step::Store(op) => Resume::Stored(self.store(op)),
            other => panic!("{other:?}"),
        }
    }

    fn call(&mut self, command: &Command, answer: Option<Resume>) -> Step {
        self.in_context(|server, cx| match answer {
            None => server.start(TASK, command, cx),
            Some(answer) => server.resume(TASK, command, answer, cx),
        })
    }

    fn in_context(&mut self, call: impl FnOnce(&mut PrimaryServer<Tape>, &mut Context<'_>) -> Step) -> Step {
        let initiator = PortName::iscsi_initiator("iqn.2026-11.test:i", [0x80, 0, 0, 0, 0, 1]);
        let nexus = Nexus { initiator, port: Arc::new(TargetPort::iscsi(7, "iqn.2026-11.test:t", 2)) };
        let state = UnitState::default();
        let mut cx = Context {
            arena: &self.arena,
            geometry: self.geometry(),
            attentions: &mut self.attentions,
            state: &state,
            nexus: Some(&nexus),
            luns: &[Lun::ZERO],
            landing: &mut |_| Landing::Own,
            lease: None,
            now: Instant::ZERO,
        };
        call(&mut self.server, &mut cx)
    }

    fn geometry(&self) -> Geometry {
        let bytes = self.bytes.len() as u64;
        Geometry { bytes, block: 4096, transfer_max: 256 << 10, thin: true, read_only: false }
    }

    fn store(&mut self, op: Op) -> Done {
        match op {
            Op::Read { at, len, .. } => {
                assert!(at % 4096 == 0 && len % 4096 == 0 && len <= 256 << 10);
                self.ops.push(format!("read {len}"));
                let at = usize::try_from(at).unwrap();
                Done::Data(Sg::copied(&self.arena, &self.bytes[at..at + len as usize]).unwrap())
            }
            Op::Write { at, .. } if self.fault.is_some() => {
                Done::Failed(Error { kind: self.fault.unwrap(), at })
            }
            Op::Write { at, data, .. } => {
                assert!(at % 4096 == 0 && data.len() % 4096 == 0 && data.len() <= 256 << 10);
                self.ops.push(format!("write {}", data.len()));
                let at = usize::try_from(at).unwrap();
                self.bytes[at..at + data.len()].copy_from_slice(&data.to_vec());
                Done::Finished
            }
            Op::Flush => {
                self.ops.push("flush".into());
                Done::Finished
            }
            other => panic!("{other:?}"),
        }
    }

    // Commands in short.

    fn write_record(&mut self, record: &[u8]) -> TapeEnded {
        self.write(&with_length([0x0a, 0, 0, 0, 0, 0], record.len()), record)
    }

    fn read_record(&mut self, len: usize) -> TapeEnded {
        self.read(&with_length([0x08, 0, 0, 0, 0, 0], len))
    }

    #[track_caller]
    fn filemarks(&mut self, count: usize) {
        self.none(&with_length([0x10, 0, 0, 0, 0, 0], count)).good();
    }

    #[track_caller]
    fn rewind(&mut self) {
        self.none(&[0x01, 0, 0, 0, 0, 0]).good();
    }

    fn space(&mut self, code: u8, count: i32) -> TapeEnded {
        let [_, a, b, c] = count.to_be_bytes();
        self.none(&[0x11, code, a, b, c, 0])
    }

    fn locate(&mut self, lba: u32) -> TapeEnded {
        let [a, b, c, d] = lba.to_be_bytes();
        self.none(&[0x2b, 0, 0, a, b, c, d, 0, 0, 0])
    }

    /// Partition, object and filemarks before it, of the long form.
    #[track_caller]
    fn position(&mut self) -> (u32, u64, u64) {
        let data = self.read(&[0x34, 6, 0, 0, 0, 0, 0, 0, 0, 0]).good();
        assert_eq!(data.len(), 32);
        let be64 = |at: usize| u64::from_be_bytes(data[at..at + 8].try_into().unwrap());
        (u32::from_be_bytes(data[4..8].try_into().unwrap()), be64(8), be64(16))
    }

    /// Sets the length of records in fixed mode.
    #[track_caller]
    fn set_block(&mut self, len: u32) {
        let [_, a, b, c] = len.to_be_bytes();
        self.write(&[0x15, 0x10, 0, 0, 12, 0], &[0, 0, 0x10, 8, 0, 0, 0, 0, 0, a, b, c]).good();
    }
}

/// A CDB of 16 bytes that begins at an object of a partition.
fn placed(opcode: u8, flags: u8, (partition, lba): (u8, u64), len: usize) -> [u8; 16] {
    let mut cdb = [0; 16];
    (cdb[0], cdb[1], cdb[3]) = (opcode, flags, partition);
    cdb[4..12].copy_from_slice(&lba.to_be_bytes());
    cdb[12..15].copy_from_slice(&u32::try_from(len).unwrap().to_be_bytes()[1..]);
    cdb
}

fn with_length(mut cdb: [u8; 6], len: usize) -> [u8; 6] {
    let [_, a, b, c] = u32::try_from(len).unwrap().to_be_bytes();
    cdb[2..5].copy_from_slice(&[a, b, c]);
    cdb
}

/// Bytes of a record, which tell it from others.
fn record(number: u64, len: usize) -> Vec<u8> {
    (0..len as u64)
        .map(|at| (number.wrapping_mul(0x9e37_79b9) ^ (at >> 3) ^ (at << 2)).to_le_bytes()[0])
        .collect()
}
