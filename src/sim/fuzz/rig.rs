// SPDX-License-Identifier: GPL-2.0-or-later
//! A machine for fuzz targets: one core, two disks, perfect wires, and nobody who behaves.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use super::super::peer::{Peers, Port};
use super::super::plan::Plan;
use super::super::scsi::{TARGET, lun};
use super::super::store::Medium;
use super::super::world::{Machine, boot};
use crate::engine::shard::{Message, Shard};
use crate::fabrics::iscsi::initiator::{Initiator, Packet, Transfer};
use crate::memory::{Arena, Sg};
use crate::net::{FramePort, TxFrame};
use crate::reactor::Poller;
use crate::time::Instant;
use crate::wire::iscsi::{Bhs, Opcode};

/// Turns after which whatever is under way should be over.
const TURNS_MAX: usize = 20_000;

/// REPORT LUNS (SAM-5 4.7.5.5).
const WELL_KNOWN: u64 = 0xc101 << 48;

/// See the module.
pub(super) struct Rig {
    clock: Rc<Cell<Instant>>,
    media: Vec<Rc<RefCell<Medium>>>,
    machine: Machine,
    peers: Peers,
    port: Port,
}

impl Rig {
    /// Does something with the bytes, then stops the machine, which must give all memory back.
    pub(super) fn run(bytes: &[u8], chap: bool, what: fn(&mut Self, &[u8])) {
        let mut rig = Self::new(chap);
        what(&mut rig, bytes);
        rig.end();
    }

    fn new(chap: bool) -> Self {
        let mut plan = Plan::new(0);
        plan.chap = chap;
        (plan.cores, plan.memory, plan.queue_depth, plan.segment_max) = (1, 16, 8, 8192);
        let wires = &mut plan.wires;
        (wires.loss, wires.duplicate, wires.reorder, wires.corrupt, wires.damage) = (0.0, 0.0, 0.0, 0.0, 0.0);
        (wires.delay_micros, wires.mtu, wires.segmentation, wires.ipv6) = (0, 1500, false, false);
        plan.disks.truncate(1);
        let disk = &mut plan.disks[0];
        (disk.blocks, disk.block, disk.thin, disk.write_cache) = (256, 512, true, true);
        disk.read_only = false;
        let store = &mut disk.store;
        (store.lends, store.depth, store.micros_max, store.transfer_max) = (true, 64, 0, 1 << 20);
        (store.slow, store.fails, store.at_once) = (0.0, 0.0, 1.0);
        let mut other = disk.clone();
        (other.block, other.thin, other.write_cache) = (4096, false, false);
        plan.disks.push(other);
        let clock = Rc::new(Cell::new(Instant::from_nanos(1_000_000)));
        let media: Vec<_> = plan
            .disks
            .iter()
            .map(|shape| {
                let (bytes, store) = (shape.blocks * u64::from(shape.block), shape.store.clone());
                Rc::new(RefCell::new(Medium::new(clock.clone(), bytes, shape.block, store, 0, None)))
            })
            .collect();
        let mut peers = Peers::new(false, 1500, 0);
        let arena = Arena::new(16 << 20, false).expect("memory");
        let machine = boot(&plan, &media, &mut peers, &arena, None, 0);
        let port = peers.connect(clock.get(), 1 << 16);
        let mut rig = Self { clock, media, machine, peers, port };
        rig.settle();
        rig
    }

    /// Lets everybody work until nobody has anything to do.
    fn settle(&mut self) {
        for _ in 0..TURNS_MAX {
            let now = self.clock.get() + Duration::from_micros(1);
            self.clock.set(now);
            let work: usize = self.machine.shards.iter_mut().map(|shard| shard.turn(now)).sum();
            if work + self.peers.turn(now) == 0 {
                return;
            }
        }
        panic!("the machine does not come to rest");
    }

    fn send(&mut self, bytes: &[u8]) {
        let mut bytes: VecDeque<u8> = bytes.iter().copied().collect();
        while !bytes.is_empty() && self.peers.send(self.port, &mut bytes) {
            self.settle();
        }
        self.settle();
    }

    /// Bytes of a connection before its login.
    pub(super) fn stream(&mut self, bytes: &[u8]) {
        self.send(bytes);
        self.peers.receive(self.port);
    }

    /// An initiator that is logged in, with the keys given beside those that it takes.
    fn log_in(&mut self, more: &[(&str, &str)]) -> Initiator {
        let mut initiator = Initiator::new();
        let mut keys = vec![
            ("InitiatorName", "iqn.2026-11.test:fuzz"),
            ("TargetName", TARGET),
            ("SessionType", "Normal"),
            ("InitialR2T", "No"),
        ];
        keys.extend_from_slice(more);
        let login = initiator.login(1, Some(3), &keys);
        self.send(&login.encode(initiator.digests));
        self.hear(&mut initiator, None);
        initiator
    }

    /// A script for a session that is logged in: pieces of a kind, a length and so many bytes. They are sent as they are,
    /// as a PDU whose sequence numbers and lengths are right, or as a CDB in a command whose R2Ts are answered.
    pub(super) fn session(&mut self, mut script: &[u8]) {
        let mut initiator = self.log_in(&[("MaxBurstLength", "8192"), ("FirstBurstLength", "4096")]);
        while let [kind, len, rest @ ..] = script {
            let (piece, next) = rest.split_at(rest.len().min(usize::from(*len)));
            script = next;
            match kind % 4 {
                0 => self.send(piece),
                1 => {
                    let mut bhs = [0; Bhs::LEN];
                    let head = piece.len().min(Bhs::LEN);
                    bhs[..head].copy_from_slice(&piece[..head]);
                    let mut packet = Packet { bhs: Bhs(bhs), ahs: Vec::new(), data: piece[head..].to_vec() };
                    packet.bhs.set_word(24, initiator.cmd_sn);
                    if !packet.bhs.is_immediate() && packet.bhs.opcode() != Opcode::DATA_OUT {
                        initiator.cmd_sn = initiator.cmd_sn.wrapping_add(1);
                    }
                    self.send(&packet.encode(initiator.digests));
                    self.hear(&mut initiator, None);
                }
                2 if !piece.is_empty() => self.command(&mut initiator, 0, kind >> 2, piece),
                _ => {
                    let now = self.clock.get() + Duration::from_millis(u64::from(*len) * 100);
                    self.clock.set(now);
                    self.settle();
                }
            }
        }
    }

    /// A command whose transfers the upper bits of its kind tell: `kind` blocks in either direction.
    fn command(&mut self, initiator: &mut Initiator, lun: u64, kind: u8, cdb: &[u8]) {
        let len = u32::from(kind & 15) * 512;
        let transfer =
            Transfer { reads: (kind & 16 != 0).then_some(len), writes: (kind & 32 != 0).then_some(len) };
        let cdb = &cdb[..cdb.len().min(260)];
        let command = initiator.command(lun, cdb, transfer);
        self.send(&command.encode(initiator.digests));
        let out: Vec<u8> = cdb.iter().copied().cycle().take(len as usize).collect();
        self.hear(initiator, Some((&command, &out)));
    }

    /// Reads what the target says, and answers R2Ts of a command.
    fn hear(&mut self, initiator: &mut Initiator, command: Option<(&Packet, &[u8])>) {
        loop {
            let bytes = self.peers.receive(self.port);
            if bytes.is_empty() {
                return;
            }
            initiator.push(&bytes);
            while let Ok(Some(packet)) = initiator.next() {
                if let Some((command, out)) = command
                    && packet.opcode() == Opcode::R2T
                    && packet.bhs.itt() == command.bhs.itt()
                {
                    for pdu in initiator.answer_r2t(command, &packet, out, 4096) {
                        self.send(&pdu.encode(initiator.digests));
                    }
                }
            }
            self.settle();
        }
    }

    /// A script of a login and of text negotiation after it: pieces of flags, a length, and so many bytes of text.
    pub(super) fn login(&mut self, mut script: &[u8]) {
        let mut initiator = Initiator::new();
        while let [flags, len, rest @ ..] = script {
            let (text, next) = rest.split_at(rest.len().min(usize::from(*len)));
            script = next;
            let mut packet = match flags & 0x10 {
                0 => initiator.login(0, None, &[]),
                _ => initiator.text(text),
            };
            packet.bhs.0[1] = flags & 0xcf;
            packet.data = text.to_vec();
            self.send(&packet.encode(initiator.digests));
            self.hear(&mut initiator, None);
        }
    }

    /// CDBs for any logical unit, in a session: pieces of a kind, a length and so many bytes. The kind chooses one of the
    /// disks, the well-known logical unit, or one that is not there, and directions and length of the transfer.
    pub(super) fn cdbs(&mut self, mut script: &[u8]) {
        let mut initiator = self.log_in(&[]);
        while let [kind, len, rest @ ..] = script {
            let (cdb, next) = rest.split_at(rest.len().min(usize::from(*len)));
            script = next;
            let lun = [lun(0), lun(1), WELL_KNOWN, lun(7)][usize::from(kind >> 6)];
            self.command(&mut initiator, lun, kind & 0x3f, cdb);
        }
    }

    /// Ethernet frames, each with a length of two bytes before it, to the target's own address.
    pub(super) fn frames(&mut self, mut bytes: &[u8]) {
        while let [high, low, rest @ ..] = bytes {
            let len = usize::from(u16::from_be_bytes([*high, *low]));
            let (frame, next) = rest.split_at(rest.len().min(len));
            bytes = next;
            let mut header = frame.to_vec();
            if header.len() >= 6 && header[0] & 1 == 0 {
                header[..6].copy_from_slice(&[2, 0, 0, 0, 0, 1]);
            }
            let frame = TxFrame { header: header.into(), payload: Sg::new(), offload: None };
            let now = self.clock.get();
            self.peers.wire_port(0).transmit(now, &mut VecDeque::from([frame]));
            self.settle();
        }
    }

    fn end(mut self) {
        self.peers.abort(self.port);
        self.settle();
        for sender in &self.machine.senders {
            sender.send(Message::Drain);
        }
        for _ in 0..TURNS_MAX {
            if self.machine.shards.iter().all(Shard::finished) {
                break;
            }
            self.settle();
            self.clock.set(self.clock.get() + Duration::from_millis(10));
        }
        assert!(self.machine.shards.iter().all(Shard::finished), "the machine does not stop");
        self.machine.shards.clear();
        self.media.iter().for_each(|medium| medium.borrow_mut().lose_machine(false));
        for arena in &self.machine.arenas {
            assert_eq!(arena.stats().in_use, 0, "memory that did not come home");
        }
    }
}
