// SPDX-License-Identifier: GPL-2.0-or-later
//! A connection whose data is moved by tags: messages come in, and movements go out.

use super::command_slots::CommandPhase;
use super::datamover::{ControlMessage, Movement, MovementId, TaskBuffers, UnderWay};
use super::outbox::{Answer, Out, Outgoing, What};
use super::shared::ActiveConnection;
use super::{Directory, framing};
use crate::memory::Sg;
use crate::scsi::{Request, RequestTag};
use crate::time::Instant;
use crate::wire::iscsi::{Opcode, PduHeader, ScsiCommandHeader};

impl ActiveConnection<'_> {
    /// Whether its data is moved by tags.
    #[inline]
    pub(super) fn is_tagged(&self) -> bool {
        self.connection.mover.is_some()
    }

    pub(super) fn control_notify(
        &mut self,
        now: Instant,
        message: ControlMessage,
        directory: &dyn Directory,
    ) {
        let ControlMessage { bhs, ahs, data, write, read } = message;
        self.session.now = now;
        self.connection.last_heard = now;
        self.connection.pinged = None;
        let Some(limits) = self.limits() else { return };
        if data.len() > limits.data_max || data.len() != bhs.data_len() {
            return self.violation("a data segment of a wrong length");
        }
        if self.is_clogged() {
            return self.violation("more unexpected PDUs than were agreed on");
        }
        let Some(mover) = &mut self.connection.mover else { return };
        if bhs.opcode() == Opcode::SCSI_COMMAND {
            let immediate = u32::try_from(data.len()).unwrap_or(u32::MAX);
            let itt = ScsiCommandHeader::parse(&bhs).itt;
            mover.buffers.insert(itt, TaskBuffers { write, read, immediate });
            // Those of commands that were never begun.
            if mover.buffers.len() > 2 * self.session.commands.most() as usize {
                let early = |itt| self.session.out_of_order.iter().any(|early| early.is_command(itt));
                mover.buffers.retain(|&itt, _| self.session.commands.find(itt).is_some() || early(itt));
            }
        }
        self.notify(framing::Pdu { bhs, ahs, data, damaged: false }, directory);
    }

    pub(super) fn poll_movement(&mut self) -> Option<Movement> {
        loop {
            match self.pop_out()? {
                Out::Command(Outgoing { slot, what: What::R2t { tag } }) => {
                    if let Some(movement) = self.get_data(slot, tag) {
                        return Some(movement);
                    }
                }
                Out::Command(Outgoing { slot, what: What::Data { data, .. } }) => {
                    if let Some(movement) = self.put_data(slot, data) {
                        return Some(movement);
                    }
                }
                // The initiator may use the buffers of tasks that have ended for something else when it hears of that.
                out @ Out::Answer(Answer { bhs, .. })
                    if bhs.opcode() == Opcode::TASK_MANAGEMENT_RESPONSE && self.moves_unwanted() =>
                {
                    self.connection.outbox.put_back(out);
                    return None;
                }
                out => {
                    let over = match &out {
                        Out::Command(outgoing) => Some(self.session.commands.slot(outgoing.slot).itt),
                        Out::Answer(_) | Out::Fence => None,
                    };
                    self.connection.outbox.put_back(out);
                    let sent = self.poll_transmit()?;
                    if let (Some(itt), Some(mover)) = (over, &mut self.connection.mover) {
                        mover.forget_buffers(itt);
                    }
                    return Some(Movement::SendControl(sent));
                }
            }
        }
    }

    /// Whether data is moved of a command that has ended.
    fn moves_unwanted(&self) -> bool {
        let mover = self.connection.mover.as_ref();
        let unwanted = |move_: &UnderWay| !move_.is_wanted(&self.session.commands);
        mover.is_some_and(|mover| mover.under_way.iter().any(unwanted))
    }

    /// Notes a movement of a command, and returns its buffers.
    fn begin(&mut self, index: u32, id: u32, puts: bool) -> Option<(MovementId, TaskBuffers)> {
        let (itt, id) = (self.session.commands.slot(index).itt, MovementId(id));
        let mover = self.connection.mover.as_mut()?;
        let buffers = *mover.buffers.get(&itt)?;
        mover.under_way.push(UnderWay { id, slot: index, itt, puts });
        Some((id, buffers))
    }

    fn get_data(&mut self, index: u32, tag: u32) -> Option<Movement> {
        let slot = self.session.commands.slot_mut(index);
        let r2t = slot.r2ts.iter_mut().find(|r2t| r2t.tag == tag)?;
        r2t.sent = true;
        let (at, len) = (r2t.at, r2t.end - r2t.at);
        let begun = self.begin(index, tag, false);
        let Some((id, TaskBuffers { write: Some(write), immediate, .. })) = begun else {
            self.violation("a command that writes without a buffer");
            return None;
        };
        Some(Movement::GetData { id, from: write.from(at - immediate.min(at)), len })
    }

    fn put_data(&mut self, index: u32, data: Sg) -> Option<Movement> {
        let tag = self.session.commands.transfer_tag(index);
        let begun = self.begin(index, tag, true);
        let Some((id, TaskBuffers { read: Some(read), .. })) = begun else {
            self.violation("a command that reads without a buffer");
            return None;
        };
        let slot = self.session.commands.slot_mut(index);
        let to = read.from(slot.sent);
        slot.sent = slot.sent.wrapping_add(u32::try_from(data.len()).expect("bounded by what is expected"));
        Some(Movement::PutData { id, to, data })
    }

    pub(super) fn data_put(&mut self, id: MovementId) {
        let ended = self.connection.mover.as_mut().and_then(|mover| mover.end(id));
        if let Some(UnderWay { slot, puts: true, .. }) =
            ended.filter(|move_| move_.is_wanted(&self.session.commands))
            // Otherwise the status has followed.
            && matches!(self.session.commands.slot(slot).phase, CommandPhase::Task)
        {
            self.session.requests.push_back(Request::DataInTaken { request_tag: RequestTag(slot) });
        }
    }

    pub(super) fn data_got(&mut self, id: MovementId, data: Sg) {
        let ended = self.connection.mover.as_mut().and_then(|mover| mover.end(id));
        let Some(UnderWay { slot: index, puts: false, .. }) =
            ended.filter(|move_| move_.is_wanted(&self.session.commands))
        else {
            return;
        };
        let slot = self.session.commands.slot_mut(index);
        if matches!(slot.phase, CommandPhase::Task) {
            slot.buffered.append(data);
        }
        self.sequence_ended(index, id.0);
        if self.session.commands.is_task(index) {
            self.advance(index);
        }
    }
}
