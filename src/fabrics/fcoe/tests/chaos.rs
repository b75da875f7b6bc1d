// SPDX-License-Identifier: GPL-2.0-or-later
//! A wire that loses, doubles, damages and reorders frames, by seed. Whatever comes of it: data that the task manager
//! gets is that of its command and all of it, nothing of a command follows the answer of its abort, and all memory
//! comes back.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::memory::Sg;
use crate::ports::memory::Dice;
use crate::scsi::{EncodedSense, Request, RequestTag, Residual, Response, Status, Transport};
use crate::wire::AdditionalCdb;
use crate::wire::fc::{FcpCmnd, FcpTaskAttribute, FcpTransfer};

const I: u8 = LOWER;

pub(super) fn below(dice: &mut Dice, count: usize) -> usize {
    usize::try_from(dice.below(count as u64)).expect("less than that")
}

pub(super) fn one_in(dice: &mut Dice, count: usize) -> bool {
    below(dice, count) == 0
}

/// The data of an exchange: no two have the same.
fn data_of(ox_id: u16, len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 31 + usize::from(ox_id) * 7 + at / 255) as u8).collect()
}

/// A task, as the task manager has it.
struct ChaosTask {
    ox_id: u16,
    transfer: FcpTransfer,
    fetched: Vec<u8>,
    sent: usize,
}

struct Chaos {
    dice: Dice,
    rig: FcoeRig,
    number: usize,
    /// Frames on their way to the target.
    coming: Vec<Vec<u8>>,
    tasks: BTreeMap<RequestTag, ChaosTask>,
    /// What the initiator has begun, by OX_ID, which it never uses twice.
    begun: BTreeMap<u16, FcpTransfer>,
    aborted: BTreeSet<u16>,
    finished: usize,
}

impl Chaos {
    fn new(seed: u64) -> Self {
        let (rig, number) = FcoeRig::logged_in(I);
        Self {
            dice: Dice::new(seed),
            rig,
            number,
            coming: Vec::new(),
            tasks: BTreeMap::new(),
            begun: BTreeMap::new(),
            aborted: BTreeSet::new(),
            finished: 0,
        }
    }

    fn send(&mut self, header: FcHeader, payload: &[u8]) {
        let sof = if header.seq_cnt == 0 { Sof::SOF_I3 } else { Sof::SOF_N3 };
        let whole = header.f_ctl.contains(FCtl::END_SEQUENCE);
        let eof = if whole { Eof::EOF_T } else { Eof::EOF_N };
        let mut body = written(&FcoeFrame { sof, header, payload, eof });
        if one_in(&mut self.dice, 40) {
            return;
        }
        if one_in(&mut self.dice, 40) {
            self.coming.push(body.clone());
        }
        if one_in(&mut self.dice, 40) {
            let at = below(&mut self.dice, body.len());
            body[at] ^= 1 << below(&mut self.dice, 8);
        }
        self.coming.push(body);
    }

    fn request(&self, r_ctl: RCtl, ox_id: u16) -> FcHeader {
        FcHeader::request(r_ctl, FcType::FCP, id(I), id(OWN), ox_id)
    }

    fn begin(&mut self) {
        let ox_id = u16::try_from(self.begun.len()).expect("some hundreds");
        let len = u32::try_from(4 * below(&mut self.dice, 4096)).expect("short");
        let transfer = match below(&mut self.dice, 3) {
            0 => FcpTransfer::None,
            1 => FcpTransfer::Read(len),
            _ => FcpTransfer::Write(len),
        };
        self.begun.insert(ox_id, transfer);
        // The task manager learns by its CDB which one it is.
        let mut cdb = [0; 16];
        cdb[..2].copy_from_slice(&ox_id.to_be_bytes());
        let command = FcpCmnd {
            lun: 0,
            crn: 0,
            priority: 0,
            attribute: FcpTaskAttribute::SIMPLE,
            task_management: None,
            transfer,
            cdb,
            additional_cdb: AdditionalCdb::default(),
        };
        self.send(self.request(RCtl::FCP_CMND, ox_id), &written(&command));
    }

    fn abort(&mut self) {
        let ox_id = u16::try_from(below(&mut self.dice, self.begun.len().max(1))).expect("some hundreds");
        let header = FcHeader::request(RCtl::ABTS, FcType::BLS, id(I), id(OWN), ox_id);
        self.send(FcHeader { f_ctl: FCtl::new(0x09_0000), ..header }, &[]);
    }

    /// One of the next frames arrives: most often the first.
    fn arrive(&mut self) {
        if self.coming.is_empty() {
            return;
        }
        let reach = if one_in(&mut self.dice, 20) { self.coming.len().min(8) } else { 1 };
        let body = self.coming.remove(below(&mut self.dice, reach));
        self.rig.port.receive(
            self.rig.now,
            ReceivedFrame { to: vn_mac(OWN), from: vn_mac(I), ethertype: ETHERTYPE_FCOE, body: &body },
        );
    }

    /// The initiator has an answer.
    fn hear(&mut self, caught: &SentFrame) {
        if caught.ethertype != ETHERTYPE_FCOE {
            return;
        }
        let header = caught.header();
        match caught.unit() {
            Body::FcpXferRdy(ready) => {
                let FcpTransfer::Write(len) = self.begun[&header.ox_id] else { panic!("it reads") };
                let all = data_of(header.ox_id, len as usize);
                let burst = &all[ready.relative_offset as usize..][..ready.burst_len as usize];
                let (count, mut at) = (burst.len().div_ceil(1024), ready.relative_offset);
                for (number, piece) in burst.chunks(1024).enumerate() {
                    let f_ctl = FCtl::new(if number + 1 == count { 0x09_0008 } else { 0x00_0008 });
                    let (seq_cnt, rx_id) = (u16::try_from(number).expect("few"), header.rx_id);
                    let request = self.request(RCtl::FCP_DATA, header.ox_id);
                    let seq_id = header.seq_id;
                    self.send(FcHeader { f_ctl, seq_id, seq_cnt, rx_id, parameter: at, ..request }, piece);
                    at += u32::try_from(piece.len()).expect("short");
                }
            }
            Body::FcpData { offset, data } => {
                let FcpTransfer::Read(len) = self.begun[&header.ox_id] else { panic!("it does not read") };
                let all = data_of(header.ox_id, len as usize);
                assert_eq!(&all[offset as usize..][..data.len()], data);
                assert!(!self.aborted.contains(&header.ox_id), "data after the answer of an abort");
            }
            Body::FcpRsp(_) => assert!(!self.aborted.contains(&header.ox_id), "an end after the other"),
            Body::BaAcc(accept) => {
                self.aborted.insert(accept.ox_id);
                let open = self.tasks.values().any(|task| task.ox_id == accept.ox_id);
                assert!(!open, "{}: the task goes on, whose abort was answered", accept.ox_id);
            }
            Body::BaRjt(_) => {}
            other => panic!("{other:?}"),
        }
    }

    /// The task manager does one thing.
    fn serve(&mut self) {
        let Some(request) = self.rig.session(self.number).poll_request() else { return };
        match request {
            Request::Command { request_tag, command } => {
                let ox_id = u16::from_be_bytes([command.cdb.bytes()[0], command.cdb.bytes()[1]]);
                assert!(!self.aborted.contains(&ox_id), "{ox_id}: a command after the answer of its abort");
                let transfer = self.begun[&ox_id];
                let task = ChaosTask { ox_id, transfer, fetched: Vec::new(), sent: 0 };
                assert!(self.tasks.insert(request_tag, task).is_none(), "a name that another has");
                self.go_on(request_tag);
            }
            Request::DataOut { request_tag, data } => {
                let task = self.tasks.get_mut(&request_tag).expect("data of a task that is there");
                task.fetched.extend(data.to_vec());
                self.go_on(request_tag);
            }
            Request::DataInTaken { request_tag } => {
                assert!(self.tasks.contains_key(&request_tag));
                self.go_on(request_tag);
            }
            Request::Abandoned { request_tag } => {
                // Some end at once, and some when a store gives their buffers back.
                if self.tasks.remove(&request_tag).is_some() {
                    self.rig.session(self.number).terminate(request_tag, None);
                }
            }
            Request::TaskManagement { .. } => panic!("nobody asks for that"),
        }
    }

    fn go_on(&mut self, tag: RequestTag) {
        let task = self.tasks.get_mut(&tag).expect("it is there");
        let session = self.rig.port.session(self.number).expect("it is there");
        match task.transfer {
            FcpTransfer::Write(len) if task.fetched.len() < len as usize => {
                let left = len as usize - task.fetched.len();
                let now = left.min(4 * (1 + below(&mut self.dice, 2048)));
                return session.receive_data_out(tag, u32::try_from(now).expect("short"));
            }
            FcpTransfer::Write(len) => {
                assert!(task.fetched == data_of(task.ox_id, len as usize), "other data")
            }
            FcpTransfer::Read(len) if task.sent < len as usize => {
                let all = data_of(task.ox_id, len as usize);
                let now = (all.len() - task.sent).min(4 * (1 + below(&mut self.dice, 2048)));
                let data = Sg::copied(&self.rig.arena, &all[task.sent..][..now]).expect("memory");
                task.sent += now;
                return session.send_data_in(tag, data);
            }
            _ => {}
        }
        self.tasks.remove(&tag);
        self.finished += 1;
        let (data, sense) = (Sg::new(), EncodedSense::new());
        let (residual_in, residual_out) = (Residual::None, Residual::None);
        let status = Status::Good;
        session.send_command_complete(tag, Response { status, sense, data, residual_in, residual_out });
    }

    fn run(mut self) -> usize {
        for step in 0..4000 {
            match below(&mut self.dice, 8) {
                0 if step < 3000 && self.begun.len() < 200 => self.begin(),
                1 if one_in(&mut self.dice, 10) => self.abort(),
                2 if one_in(&mut self.dice, 100) => {
                    let time = Duration::from_millis(below(&mut self.dice, 3000) as u64);
                    for caught in self.rig.pass(time) {
                        self.hear(&caught);
                    }
                }
                3 => self.serve(),
                _ => self.arrive(),
            }
            for caught in self.rig.catch() {
                self.hear(&caught);
            }
        }
        // Whoever waits for something that is lost gives up.
        for _ in 0..20 {
            self.coming.clear();
            for caught in self.rig.pass(Duration::from_secs(1)) {
                self.hear(&caught);
            }
            for _ in 0..100 {
                self.serve();
            }
        }
        assert!(self.tasks.is_empty(), "{} tasks wait for ever", self.tasks.len());
        assert_eq!(self.rig.session(self.number).exchanges(), 0);
        drop(self.rig.port);
        assert_eq!(self.rig.arena.in_use(), 0);
        self.finished
    }
}

#[test]
fn nothing_goes_wrong_on_a_bad_wire_but_that_commands_fail() {
    let seeds = std::env::var("FCOE_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(60);
    let finished: usize = (0..seeds).map(|seed| Chaos::new(seed).run()).sum();
    assert!(finished > 40 * seeds as usize, "{finished} commands of {seeds} runs have ended well");
}
