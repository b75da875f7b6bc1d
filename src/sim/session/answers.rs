// SPDX-License-Identifier: GPL-2.0-or-later
//! What the target says to a session that is up: each PDU must have been asked for, and be what was asked for.

use super::super::plan::{Function, Violation};
use super::super::scsi::{self, Ending};
use super::link::State;
use super::{Env, Managing, RUNNING_MAX, Running, Session};
use crate::fabrics::iscsi::initiator::Packet;
use crate::wire::iscsi::{FINAL, IMMEDIATE, NO_TAG, Opcode, reject, scsi_flags};

impl Session {
    /// The command of a response or a Data-In PDU. None may come for a task tag that is free, nor on another connection
    /// than the command's (RFC 7143 4.2.5).
    fn running(&mut self, at: usize, tag: u32) -> Result<&mut Running, String> {
        let running = self.running.get_mut(&tag);
        let running = running.ok_or_else(|| format!("a response or data for {tag:#x}, which is over"))?;
        match running.at == at {
            true => Ok(running),
            false => Err(format!("a response or data for {tag:#x} on {at} instead of {}", running.at)),
        }
    }

    pub(super) fn r2t(&mut self, at: usize, packet: &Packet, env: &mut Env) -> Result<(), String> {
        let link = at;
        if self.links[link].state == State::LoggingOut || self.came_late(link, packet, env) {
            return Ok(());
        }
        let (max_burst, segment) = (self.agreed.max_burst, self.agreed.segment);
        let sabotage = self.links[link].sabotage;
        let running = self.running(link, packet.bhs.itt())?;
        let (at, len) = (packet.bhs.word(40) as usize, packet.bhs.word(44) as usize);
        if packet.bhs.word(36) != running.data_sn {
            return Err(format!("R2TSN {} instead of {}", packet.bhs.word(36), running.data_sn));
        }
        running.data_sn += 1;
        if len == 0 || len > max_burst || at + len > running.out.len() {
            return Err(format!("R2T for {len} bytes at {at} of {}", running.out.len()));
        }
        let (command, out) = (running.packet.clone(), std::mem::take(&mut running.out));
        let mut pdus = self.links[link].initiator.answer_r2t(&command, packet, &out, segment);
        let running = self.running(link, packet.bhs.itt())?;
        running.out = out;
        match sabotage {
            Some(Violation::WrongOffset) => pdus[0].bhs.set_word(40, u32::try_from(at + 1).expect("short")),
            Some(Violation::WrongDataSn) => {
                pdus[0].bhs.set_word(36, 7);
                running.spoilt = true;
            }
            _ => {}
        }
        if let Some(violation) = self.links[link].sabotage.take() {
            env.tally.count(&format!("done {violation:?}"));
            if violation == Violation::WrongOffset {
                self.doom(link, env);
            }
        }
        env.tally.count("R2Ts");
        for pdu in pdus {
            self.links[link].send(&pdu);
        }
        Ok(())
    }

    pub(super) fn data_in(&mut self, link: usize, packet: &Packet, env: &mut Env) -> Result<(), String> {
        let tag = packet.bhs.itt();
        let ends = packet.bhs.flags() & scsi_flags::STATUS != 0;
        if self.came_late(link, packet, env) {
            return Ok(());
        }
        let segment = self.segment_max();
        let running = self.running(link, tag)?;
        let (sn, at) = (packet.bhs.word(36), packet.bhs.word(40) as usize);
        if sn != running.data_sn || at != running.got.len() || packet.data.len() > segment {
            return Err(format!(
                "Data-In {sn} at {at} with {} bytes, after {} with {} bytes",
                packet.data.len(),
                running.data_sn,
                running.got.len()
            ));
        }
        running.data_sn += 1;
        running.got.extend(&packet.data);
        if running.got.len() > running.wanted {
            return Err(format!("{} bytes of Data-In, {} expected", running.got.len(), running.wanted));
        }
        if ends {
            let ending = Ending::new(packet.bhs.0[3], packet.bhs.flags(), packet.bhs.word(44), &[]);
            return self.finish(link, tag, &ending, env);
        }
        Ok(())
    }

    pub(super) fn response(&mut self, at: usize, packet: &Packet, env: &mut Env) -> Result<(), String> {
        if self.came_late(at, packet, env) {
            return Ok(());
        }
        if packet.bhs.0[2] != 0 {
            return Err(format!("iSCSI service response {}", packet.bhs.0[2]));
        }
        let ending = Ending::new(packet.bhs.0[3], packet.bhs.flags(), packet.bhs.word(44), &packet.data);
        self.finish(at, packet.bhs.itt(), &ending, env)
    }

    fn finish(&mut self, at: usize, tag: u32, ending: &Ending, env: &mut Env) -> Result<(), String> {
        self.running(at, tag)?;
        let running = self.running.remove(&tag).ok_or("it was there")?;
        let Running { disk, lba, command, op, look, .. } = running;
        if ending.is_good()
            && let Some(order) = look.order
        {
            // What is being aborted may be gone already.
            let aborting = |tag: &u32| self.managing.values().any(|managing| managing.tasks.contains(tag));
            let before = self.running.iter().filter(|(tag, _)| !aborting(tag)).map(|(_, other)| other);
            let before = before.into_iter().find(|other| {
                // Statuses on two connections may overtake each other.
                (other.disk, other.at) == (disk, at)
                    && env.oracle.ordered(other.look.order, Some(order))
                    && !self.may_be_gone(other, env)
                    && !other.spoilt
            });
            if let Some(other) = before {
                return Err(format!(
                    "{command:?} at {lba} (rank {}) ended before {:?} at {} ({:?}), which goes first",
                    order.rank, other.command, other.lba, other.look.order
                ));
            }
        }
        let damaged = running.spoilt || self.is_damaged(at, env);
        let wrong = |what: String| format!("{what}; {command:?} at {lba} of disk {disk}, tag {tag:#x}");
        let cached = env.plan.disks[disk].write_cache;
        let blocks = (running.out.len() as u64 / u64::from(env.plan.disks[disk].block)).max(1);
        let what = scsi::judge(scsi::Case {
            command,
            disk,
            lba,
            blocks,
            op,
            look,
            out: &running.out,
            got: &running.got,
            wanted: running.wanted,
            ending,
            cached,
            read_only: env.plan.disks[disk].read_only,
            reserves: env.plan.reserves,
            chunk: env.plan.disks[disk].store.transfer_max,
            faulty: env.faulty[disk],
            damaged,
            oracle: &mut env.oracle,
        });
        env.tally.count(&format!("ended {}", what.map_err(wrong)?));
        let now = env.oracle.tick();
        let (good, writes) = (ending.is_good(), op.is_some());
        let ledger = &mut env.ledgers[disk];
        ledger.moved(good, running.got.len(), running.out.len(), ending.is_error());
        ledger.ended(self.shape.name, command, writes, look.sent, good, now).map_err(wrong)
    }

    pub(super) fn managed(&mut self, at: usize, packet: &Packet, env: &mut Env) -> Result<(), String> {
        let tag = packet.bhs.itt();
        let Managing { function, at: asked, disk, tasks, immediate, sent, reset } =
            self.managing.remove(&tag).ok_or("a task management response that nobody asked for")?;
        if asked != at {
            return Err(format!("the response to {function:?} came on {at} instead of {asked}"));
        }
        let response = packet.bhs.0[2];
        env.tally.count(&format!("{function:?}: response {response}"));
        match (function, response) {
            (_, 0) => {
                for task in tasks {
                    if let Some(running) = self.running.get(&task) {
                        if running.at != at {
                            self.overtaken.insert(task);
                        }
                        env.tally.count(&format!("aborted by {function:?}"));
                        self.give_up_command(task, env);
                    }
                }
            }
            (Function::AbortTask, 1) => {
                if let Some(running) = self.running.get(&tasks[0]) {
                    let twice = self.managing.values().any(|other| other.tasks.contains(&tasks[0]));
                    if !twice && !self.may_be_gone(running, env) {
                        return Err(format!(
                            "no task {:#x}, says the target, which has not answered it",
                            tasks[0]
                        ));
                    }
                    self.give_up_command(tasks[0], env);
                }
            }
            // More at once than a session may have under way for immediate delivery.
            (_, 255) if immediate && self.managing.len() >= RUNNING_MAX => {}
            _ => return Err(format!("{function:?} on disk {disk} was answered with {response}")),
        }
        let end = env.oracle.tick();
        for index in reset {
            env.resets[index].end = Some(end);
            self.was_reset(env.resets[index].disk, sent, env);
        }
        Ok(())
    }

    pub(super) fn nop_in(&mut self, at: usize, packet: Packet, env: &mut Env) -> Result<(), String> {
        if packet.bhs.itt() == NO_TAG {
            if packet.bhs.word(20) == NO_TAG {
                return Ok(());
            }
            env.tally.count("pings of the target");
            let mut answer = Packet::new(Opcode::NOP_OUT, FINAL).word(16, NO_TAG);
            answer.bhs.0[0] |= IMMEDIATE;
            let answer = answer.word(20, packet.bhs.word(20)).lun(packet.bhs.lun());
            let link = &mut self.links[at];
            link.send(&answer.word(24, self.cmd_sn).word(28, link.initiator.exp_stat_sn));
            return Ok(());
        }
        if self.plugs.remove(&packet.bhs.itt()) {
            return Ok(());
        }
        let asked = self.pings.remove(&packet.bhs.itt()).filter(|(on, _)| *on == at);
        let (_, wanted) = asked.ok_or("an echo that nobody asked for here")?;
        env.tally.count("pings of the initiator");
        match wanted == packet.data {
            true => Ok(()),
            false => Err("an echo with other bytes".into()),
        }
    }

    pub(super) fn rejected(&mut self, at: usize, packet: &Packet, env: &mut Env) -> Result<(), String> {
        let reason = packet.bhs.0[2];
        self.links[at].rejects += 1;
        env.tally.count(&format!("rejected with reason {reason}"));
        if reason == reject::DATA_DIGEST_ERROR && self.is_damaged(at, env) {
            // A request that is no command has to be sent again, which nobody here does.
            if let Ok(bytes) = <[u8; 20]>::try_from(&packet.data[..20.min(packet.data.len())]) {
                let tag = u32::from_be_bytes([bytes[16], bytes[17], bytes[18], bytes[19]]);
                self.pings.remove(&tag);
                self.texts.remove(&tag);
            }
            return Ok(());
        }
        match self.links[at].excuse {
            Some(_) => Ok(()),
            None => Err(format!("rejected with reason {reason}: {packet:?}")),
        }
    }
}
