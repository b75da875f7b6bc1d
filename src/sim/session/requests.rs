// SPDX-License-Identifier: GPL-2.0-or-later
//! What a session sends: commands with their data, task management, and what breaks the protocol.

use super::super::oracle::{Look, Order};
use super::super::plan::{Action, Attribute, Command, Function, Violation};
use super::super::scsi;
use super::{Env, Managing, PATIENCE, RUNNING_MAX, Reset, Running, Session, State};
use crate::fabrics::iscsi::initiator::{Digests, Packet, Transfer};
use crate::wire::iscsi::{FINAL, Opcode};

impl Session {
    /// Sends what is to be done, as far as the command window allows.
    pub(super) fn work(&mut self, env: &mut Env) -> usize {
        let mut count = 0;
        while let Some(&action) = self.todo.front() {
            let room = self.initiator.max_cmd_sn.wrapping_sub(self.initiator.cmd_sn) < 1 << 31;
            let immediate = matches!(action, Action::Manage { immediate: true, .. } | Action::Violate { .. });
            if !immediate && (!room || self.running.len() >= RUNNING_MAX || self.out.len() > 1 << 18) {
                break;
            }
            self.todo.pop_front();
            count += 1;
            match action {
                Action::Command { disk, lba, blocks, command, attribute, .. } => {
                    self.command(disk, lba, blocks, command, attribute, env);
                }
                Action::Manage { disk, function, immediate, .. } => {
                    self.manage(disk, function, immediate, env)
                }
                Action::Ping { .. } => {
                    let data: Vec<u8> = (0..env.dice.below(600)).map(|i| i.to_le_bytes()[0]).collect();
                    let ping = self.initiator.nop_out(&data[..data.len().min(self.agreed.segment)]);
                    let echo = data[..data.len().min(self.agreed.segment).min(self.segment_max())].to_vec();
                    self.pings.insert(ping.bhs.itt(), echo);
                    self.send(&ping);
                }
                Action::Text { .. } => {
                    let text = self.initiator.text(b"SendTargets=\0");
                    self.texts += 1;
                    self.send(&text);
                }
                Action::Violate { violation, .. } => {
                    self.violate(violation, env);
                    if self.state != State::Up {
                        break;
                    }
                }
                _ => {}
            }
        }
        count
    }

    /// Whether the wire damages what this session sends and receives.
    pub(super) fn is_damaged(&self, env: &Env) -> bool {
        let Digests { header, data } = self.initiator.digests;
        header && data && env.plan.wires.damage > 0.0
    }

    pub(super) fn segment_max(&self) -> usize {
        usize::try_from(self.shape.segment_max).expect("24 bits")
    }

    fn order(&mut self, disk: usize, attribute: Attribute) -> Option<Order> {
        let base = &mut self.ranks[disk];
        let rank = match attribute {
            Attribute::Simple => *base,
            Attribute::Ordered | Attribute::HeadOfQueue => {
                *base += 2;
                *base - 1
            }
        };
        let set = self.nexus << 4 | u32::try_from(disk).expect("few");
        Some(Order { set, rank, head: attribute == Attribute::HeadOfQueue })
    }

    fn command(
        &mut self,
        disk: usize,
        lba: u64,
        blocks: u64,
        command: Command,
        attribute: Attribute,
        env: &mut Env,
    ) {
        // Commands whose data is damaged fall out of the order.
        let order = self.order(disk, attribute).filter(|_| !self.is_damaged(env));
        if let Some(head) = order.filter(|order| order.head) {
            env.oracle.head(head);
        }
        let shape = env.plan.disks[disk].clone();
        let made = scsi::make(
            command,
            disk,
            lba,
            blocks,
            order,
            self.shape.name,
            &shape,
            &mut env.oracle,
            &mut env.dice,
        );
        let transfer = Transfer {
            reads: (made.wanted > 0).then(|| u32::try_from(made.wanted).expect("short")),
            writes: (!made.out.is_empty()).then(|| u32::try_from(made.out.len()).expect("short")),
        };
        let mut packet = self.initiator.command(scsi::lun(disk), &made.cdb, transfer);
        packet.bhs.0[1] = packet.bhs.0[1] & !7
            | match attribute {
                Attribute::Simple => 1,
                Attribute::Ordered => 2,
                Attribute::HeadOfQueue => 3,
            };
        env.tally.count(&format!("sent {}", scsi::name(command)));
        env.ledgers[disk].sent(command);
        if attribute != Attribute::Simple {
            env.tally.count(&format!("sent {attribute:?}"));
        }
        let len = made.out.len();
        let first_burst = self.agreed.first_burst.min(len);
        let mut at = 0;
        if self.agreed.immediate_data && env.dice.chance(0.8) {
            at = first_burst.min(self.agreed.segment);
            packet.data = made.out[..at].to_vec();
        }
        let unsolicited = !self.agreed.initial_r2t && at < first_burst && env.dice.chance(0.7);
        if unsolicited {
            packet.bhs.0[1] &= !FINAL;
        }
        self.send(&packet);
        if unsolicited {
            let mut data_sn = 0;
            while at < first_burst {
                let end = (at + self.agreed.segment).min(first_burst);
                let offset = u32::try_from(at).expect("short");
                let data = &made.out[at..end];
                let pdu = self.initiator.data_out(&packet, None, data_sn, offset, data, end == first_burst);
                self.send(&pdu);
                (at, data_sn) = (end, data_sn + 1);
            }
        }
        let tag = packet.bhs.itt();
        let look = Look { sent: made.sent, order, own: made.op };
        let (op, out, wanted) = (made.op, made.out, made.wanted);
        let got = Vec::with_capacity(wanted);
        let lba = made.lba;
        self.running.insert(
            tag,
            Running { packet, disk, lba, command, op, look, out, wanted, got, data_sn: 0, spoilt: false },
        );
    }

    fn manage(&mut self, disk: usize, function: Function, immediate: bool, env: &mut Env) {
        let lun = scsi::lun(disk);
        let on_disk = |r: &Running| r.disk == disk;
        let mut tasks: Vec<u32> =
            self.running.iter().filter(|(_, r)| on_disk(r)).map(|(&tag, _)| tag).collect();
        let mut request = match function {
            Function::AbortTask => {
                let Some(&tag) = self.running.keys().next_back() else {
                    return env.tally.count("events that met no session");
                };
                tasks = vec![tag];
                let packet = self.running[&tag].packet.clone();
                self.initiator.abort_task(&packet)
            }
            Function::AbortTaskSet => self.initiator.task_management(2, lun),
            Function::ClearTaskSet => self.initiator.task_management(4, lun),
            Function::LunReset => self.initiator.task_management(5, lun),
            Function::TargetReset => {
                tasks = self.running.keys().copied().collect();
                self.initiator.task_management(6, lun)
            }
        };
        if immediate {
            // The next request has its CmdSN, too.
            request = self.initiator.immediate(request);
        }
        for task in &tasks {
            env.oracle.abort(self.running[task].look.order);
        }
        let sent = env.oracle.tick();
        let disks = match function {
            Function::LunReset => disk..disk + 1,
            Function::TargetReset => 0..env.plan.disks.len(),
            _ => 0..0,
        };
        let reset = disks.map(|disk| {
            env.resets.push(Reset { disk, end: None, name: self.shape.name });
            env.resets.len() - 1
        });
        let reset = reset.collect();
        env.tally.count(&format!("sent {function:?}"));
        self.managing.insert(request.bhs.itt(), Managing { function, disk, tasks, sent, reset });
        self.send(&request);
    }

    fn violate(&mut self, violation: Violation, env: &mut Env) {
        use Violation as V;
        env.tally.count(&format!("violation {violation:?}"));
        let request = match violation {
            V::WrongOffset | V::WrongDataSn => {
                for running in self.running.values() {
                    env.oracle.abort(running.look.order);
                }
                self.sabotage = Some(violation);
                return;
            }
            V::UnknownOpcode => Packet::new(Opcode(0x07), FINAL).immediate().word(16, 5),
            V::StrayData => {
                let nobody = Packet::new(Opcode::SCSI_COMMAND, FINAL).word(16, 0x7777_7777);
                self.initiator.data_out(&nobody, None, 0, 0, &[1; 100], true)
            }
            V::LongSegment => {
                let data = vec![0; self.agreed.segment + 4];
                let ping = self.initiator.nop_out(&data);
                self.initiator.immediate(ping)
            }
            V::BeyondWindow => {
                let far = self.initiator.max_cmd_sn.wrapping_add(10);
                Packet::new(Opcode::SCSI_COMMAND, FINAL | 1).word(16, 0x7777_7776).word(24, far)
            }
            V::SecondLogin => self.initiator.login(1, Some(3), &[]),
            V::Snack => Packet::new(Opcode::SNACK_REQUEST, FINAL).immediate().word(16, 5),
            V::Noise => {
                self.out.extend((0..48 + env.dice.below(2000)).map(|_| 0xff));
                self.excuse = Some("violation");
                self.state = State::Doomed(env.now + PATIENCE);
                return;
            }
        };
        self.send(&request);
        self.excuse = Some("violation");
        self.state = State::Doomed(env.now + PATIENCE);
    }
}
