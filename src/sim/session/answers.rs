// SPDX-License-Identifier: GPL-2.0-or-later
//! What the target says to a session that is up: each PDU must have been asked for, and be what was asked for.

use super::super::library::{self, ATTENTION, LibraryEnding, RequestId};
use super::super::plan::{Action, Attribute, Function, Violation};
use super::super::scsi::{self, Ending};
use super::link::State;
use super::{Env, Managing, RUNNING_MAX, Running, Session};
use crate::fabrics::iscsi::initiator::Packet;
use crate::wire::iscsi::{
    DataInHeader, DataOutHeader, FunctionResponse, NO_TAG, NopInHeader, NopOutHeader, PduHeader, R2tHeader,
    RejectHeader, RejectReason, RequestNumbers, ScsiResponseHeader, ServiceResponse,
    TaskManagementResponseHeader,
};

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
        let R2tHeader { itt, r2t_sn, buffer_offset, desired_len, .. } = R2tHeader::parse(&packet.bhs);
        let running = self.running(link, itt)?;
        let (at, len) = (buffer_offset as usize, desired_len as usize);
        if r2t_sn != running.data_sn {
            return Err(format!("R2TSN {r2t_sn} instead of {}", running.data_sn));
        }
        running.data_sn += 1;
        if len == 0 || len > max_burst || at + len > running.out.len() {
            return Err(format!("R2T for {len} bytes at {at} of {}", running.out.len()));
        }
        let (command, out) = (running.packet.clone(), std::mem::take(&mut running.out));
        let mut pdus = self.links[link].initiator.answer_r2t(&command, packet, &out, segment);
        let running = self.running(link, itt)?;
        running.out = out;
        match sabotage {
            Some(Violation::WrongOffset) => {
                pdus[0].edit(|data: &mut DataOutHeader| data.buffer_offset = buffer_offset + 1);
            }
            Some(Violation::WrongDataSn) => {
                pdus[0].edit(|data: &mut DataOutHeader| data.data_sn = 7);
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
        let header = DataInHeader::parse(&packet.bhs);
        let tag = header.itt;
        if self.came_late(link, packet, env) {
            return Ok(());
        }
        let segment = self.segment_max();
        let running = self.running(link, tag)?;
        let (sn, at) = (header.data_sn, header.buffer_offset as usize);
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
        if header.has_status {
            let residual = (header.overflow, header.underflow, header.residual_count);
            let ending = Ending::new(header.status, residual, &[]);
            return self.finish(link, tag, &ending, env);
        }
        Ok(())
    }

    pub(super) fn response(&mut self, at: usize, packet: &Packet, env: &mut Env) -> Result<(), String> {
        if self.came_late(at, packet, env) {
            return Ok(());
        }
        let header = ScsiResponseHeader::parse(&packet.bhs);
        if header.response != ServiceResponse::COMPLETED_AT_TARGET {
            return Err(format!("iSCSI service response {}", header.response));
        }
        let residual = (header.overflow, header.underflow, header.residual_count);
        let ending = Ending::new(header.status, residual, &packet.data);
        self.finish(at, header.itt, &ending, env)
    }

    fn finish(&mut self, at: usize, tag: u32, ending: &Ending, env: &mut Env) -> Result<(), String> {
        self.running(at, tag)?;
        let running = self.running.remove(&tag).ok_or("it was there")?;
        let Running { disk, lba, command, op, look, .. } = running;
        if let Some(request) = running.request {
            return self.finish_at_library(at, request, &running, ending, env);
        }
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
            whereabouts: env.whereabouts[disk],
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

    fn finish_at_library(
        &mut self,
        at: usize,
        request: RequestId,
        running: &Running,
        ending: &Ending,
        env: &mut Env,
    ) -> Result<(), String> {
        let damaged = running.spoilt || self.is_damaged(at, env);
        let (Some(shape), Some(history)) = (&env.plan.library, &mut env.library) else { return Ok(()) };
        let (got, draining) = (&running.got[..], env.draining);
        let ending = LibraryEnding { ending, got, damaged, draining };
        let unit = running.disk - env.plan.disks.len();
        let what = library::judge(request, ending, shape, history);
        let what =
            what.map_err(|what| format!("{what}; {:?} at unit {unit} of the library", running.command))?;
        env.tally.count(&format!("library: ended {what}"));
        if what == ATTENTION {
            // Whoever uses a drive asks again.
            let Running { disk, lba, command, .. } = *running;
            let (session, blocks, attribute) = (self.index, 0, Attribute::Simple);
            self.todo.push_front(Action::Command { session, disk, lba, blocks, command, attribute });
        }
        Ok(())
    }

    pub(super) fn managed(&mut self, at: usize, packet: &Packet, env: &mut Env) -> Result<(), String> {
        let TaskManagementResponseHeader { itt: tag, response, .. } =
            TaskManagementResponseHeader::parse(&packet.bhs);
        let Managing { function, at: asked, disk, tasks, immediate, sent, reset } =
            self.managing.remove(&tag).ok_or("a task management response that nobody asked for")?;
        if asked != at {
            return Err(format!("the response to {function:?} came on {at} instead of {asked}"));
        }
        env.tally.count(&format!("{function:?}: response {}", response.raw()));
        match (function, response) {
            (_, FunctionResponse::COMPLETE) => {
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
            (Function::AbortTask, FunctionResponse::NO_SUCH_TASK) => {
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
            (_, FunctionResponse::REJECTED) if immediate && self.managing.len() >= RUNNING_MAX => {}
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
        let NopInHeader { lun, itt, ttt, .. } = NopInHeader::parse(&packet.bhs);
        if itt == NO_TAG {
            if ttt == NO_TAG {
                return Ok(());
            }
            env.tally.count("pings of the target");
            let link = &mut self.links[at];
            let numbers = RequestNumbers { cmd_sn: self.cmd_sn, exp_stat_sn: link.initiator.exp_stat_sn };
            link.send(&Packet::new(&NopOutHeader { immediate: true, lun, itt, ttt, numbers }));
            return Ok(());
        }
        if self.plugs.remove(&itt) {
            return Ok(());
        }
        let asked = self.pings.remove(&itt).filter(|(on, _)| *on == at);
        let (_, wanted) = asked.ok_or("an echo that nobody asked for here")?;
        env.tally.count("pings of the initiator");
        match wanted == packet.data {
            true => Ok(()),
            false => Err("an echo with other bytes".into()),
        }
    }

    pub(super) fn rejected(&mut self, at: usize, packet: &Packet, env: &mut Env) -> Result<(), String> {
        let reason = RejectHeader::parse(&packet.bhs).reason;
        self.links[at].rejects += 1;
        env.tally.count(&format!("rejected with reason {}", reason.raw()));
        if reason == RejectReason::DATA_DIGEST_ERROR && self.is_damaged(at, env) {
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
