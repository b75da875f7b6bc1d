// SPDX-License-Identifier: GPL-2.0-or-later
//! What the connections of a session share: the command window, and all that came through it.

use std::collections::VecDeque;
use std::sync::Arc;

use slab::Slab;
use smallvec::SmallVec;

use super::command_slots::CommandSlots;
use super::connection::Connection;
use super::fence::Fence;
use super::framing::Pdu;
use super::functions::{FUNCTIONS_MAX, PendingFunction, Scope, waits_for_others};
use super::{ConnectionKey, Event, Negotiated, Parameters};
use crate::memory::Arena;
use crate::scsi::{NexusId, Request, RequestTag};
use crate::time::Instant;
use crate::wire::PeerText;
use crate::wire::iscsi::{Bhs, Opcode, PduHeader, ScsiCommandHeader};

/// The CmdSNs that may be used: from ExpCmdSN to MaxCmdSN, none if that is one behind (RFC 7143 4.2.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommandWindow {
    pub(super) exp_cmd_sn: u32,
    pub(super) max_cmd_sn: u32,
}

/// A request that came before its turn.
pub(super) struct OutOfOrderRequest {
    cmd_sn: u32,
    /// Where it came.
    pub(super) connection: ConnectionKey,
    /// It takes no turn itself, and waits for those before it.
    immediate: bool,
    /// `None`: aborted before it came.
    pub(super) pdu: Option<Pdu>,
    /// Its unsolicited Data-Out.
    pub(super) data: Vec<Pdu>,
}

impl OutOfOrderRequest {
    /// The place of a request that was aborted before it came.
    fn placeholder(connection: ConnectionKey, cmd_sn: u32) -> Self {
        Self { cmd_sn, connection, immediate: false, pdu: None, data: Vec::new() }
    }

    /// Whether it is the SCSI command of that task tag.
    pub(super) fn is_command(&self, itt: u32) -> bool {
        let command = self.pdu.as_ref().filter(|pdu| pdu.bhs.opcode() == Opcode::SCSI_COMMAND);
        command.is_some_and(|command| command.bhs.itt() == itt)
    }

    /// Aborts it: its place in the order is filled.
    fn abort(&mut self) {
        (self.pdu, self.data) = (None, Vec::new());
    }
}

/// What waits for the end of all commands of connections that have ended: who is told that they are gone must not see
/// any effect of them later (RFC 7143 11.15).
pub(super) enum Waiting {
    /// The answer to a logout of another connection, and whether the request has a place in the command window.
    Answer(Bhs, bool),
    /// The answer to a logout of this one, which then ends.
    Leave(Bhs, bool),
    /// The last answer to a login that takes the place of a connection.
    Join,
}

impl Waiting {
    /// Its request has a place in the command window.
    pub(super) fn is_windowed(&self) -> bool {
        matches!(self, Self::Answer(_, true) | Self::Leave(_, true))
    }
}

/// What the connections of a session share: names, the command window, and all that came through it.
pub(super) struct Shared {
    pub(super) parameters: Arc<Parameters>,
    pub(super) arena: Arena,
    pub(super) discovery: bool,
    /// What the connection that began the session has agreed on.
    pub(super) negotiated: Negotiated,
    pub(super) nexus: NexusId,
    pub(super) initiator: PeerText,
    pub(super) target: Option<String>,
    /// The CHAP account of the initiator.
    pub(super) user: Option<String>,
    pub(super) isid: [u8; 6],
    pub(super) tsih: u16,
    pub(super) exp_cmd_sn: u32,
    pub(super) max_cmd_sn: u32,
    /// Within the window, so at most as many as that is wide.
    pub(super) out_of_order: Vec<OutOfOrderRequest>,
    pub(super) commands: CommandSlots,
    /// Places in the command window of requests that are no commands, each until its answer has gone out.
    pub(super) answering: u32,
    pub(super) task_management: Slab<PendingFunction>,
    /// How many of them wait for a fence before theirs.
    pub(super) unanswered: usize,
    pub(super) fence: Option<Box<Fence>>,
    pub(super) requests: VecDeque<Request>,
    pub(super) events: VecDeque<Event>,
    /// Connections that have not ended.
    pub(super) live: usize,
    /// CIDs of those in the full feature phase.
    pub(super) cids: SmallVec<[(u16, ConnectionKey); 1]>,
    /// Connections that another one has logged out.
    pub(super) ending: SmallVec<[ConnectionKey; 1]>,
    /// By connection.
    pub(super) waiting: Vec<(ConnectionKey, Waiting)>,
    pub(super) now: Instant,
}

impl Shared {
    /// Whether a CmdSN may be used now. Serial number arithmetic (RFC 1982): of a closed window MaxCmdSN is one behind,
    /// and what is far ahead is behind.
    fn in_window(&self, cmd_sn: u32) -> bool {
        let ahead = cmd_sn.wrapping_sub(self.exp_cmd_sn);
        let width = self.max_cmd_sn.wrapping_sub(self.exp_cmd_sn);
        width < 1 << 31 && ahead <= width
    }

    /// Bytes of data of commands that have not begun.
    #[inline]
    pub(super) fn unbegun(&self) -> usize {
        if self.out_of_order.is_empty() && !self.commands.has_waiting() {
            return 0;
        }
        self.early_bytes() + self.commands.waiting_bytes()
    }

    /// Bytes of data of requests that wait for their turn.
    pub(super) fn early_bytes(&self) -> usize {
        let early = self.out_of_order.iter().flat_map(|request| request.pdu.iter().chain(&request.data));
        early.map(|pdu| pdu.data.len()).sum()
    }

    /// Whether it is the turn of a CmdSN, which thereby has had it.
    pub(super) fn take_turn(&mut self, cmd_sn: u32) -> bool {
        let next = cmd_sn == self.exp_cmd_sn && self.in_window(cmd_sn);
        if next {
            self.exp_cmd_sn = self.exp_cmd_sn.wrapping_add(1);
        }
        next
    }

    /// Keeps a request for later; `false` if it is outside of the window, or has come before. (What is kept has a CmdSN
    /// behind the next one: it would have had its turn.)
    pub(super) fn keep(&mut self, connection: ConnectionKey, pdu: Pdu) -> bool {
        let cmd_sn = pdu.bhs.request_numbers().cmd_sn;
        if !self.in_window(cmd_sn) || self.out_of_order_of(cmd_sn).is_some() {
            return false;
        }
        let (pdu, data) = (Some(pdu), Vec::new());
        self.out_of_order.push(OutOfOrderRequest { cmd_sn, connection, immediate: false, pdu, data });
        true
    }

    /// The request of a number, which waits for its turn.
    fn out_of_order_of(&mut self, cmd_sn: u32) -> Option<&mut OutOfOrderRequest> {
        self.out_of_order
            .iter_mut()
            .find(|out_of_order| !out_of_order.immediate && out_of_order.cmd_sn == cmd_sn)
    }

    /// The next request that waits for its turn and has it now.
    pub(super) fn next_early(&mut self) -> Option<OutOfOrderRequest> {
        let exp = self.exp_cmd_sn;
        let passed = |out_of_order: &OutOfOrderRequest| {
            out_of_order.immediate && exp.wrapping_sub(out_of_order.cmd_sn) < 1 << 31
        };
        let at = match self.out_of_order.iter().position(passed) {
            Some(at) => at,
            None => {
                let next =
                    |out_of_order: &OutOfOrderRequest| !out_of_order.immediate && out_of_order.cmd_sn == exp;
                let at = self.out_of_order.iter().position(next)?;
                self.exp_cmd_sn = exp.wrapping_add(1);
                at
            }
        };
        Some(self.out_of_order.swap_remove(at))
    }

    /// Whether a task management request for immediate delivery has to wait for commands before it, which may be on
    /// their way on other connections: it concerns them, too (RFC 7143 4.2.3.3). Not if it is one too many.
    pub(super) fn must_wait(&self, bhs: &Bhs) -> bool {
        waits_for_others(bhs) && self.is_ahead(bhs.request_numbers().cmd_sn) && !self.has_too_many_functions()
    }

    /// Whether no further task management request for immediate delivery can be taken.
    pub(super) fn has_too_many_functions(&self) -> bool {
        let waiting = self.out_of_order.iter().filter(|request| request.immediate).count();
        let begun = self.task_management.iter().filter(|(_, function)| !function.windowed).count();
        waiting + begun >= FUNCTIONS_MAX.max(self.commands.most() as usize)
    }

    /// Keeps such a request.
    pub(super) fn keep_immediate(&mut self, connection: ConnectionKey, pdu: Pdu) {
        let (cmd_sn, data) = (pdu.bhs.request_numbers().cmd_sn, Vec::new());
        self.out_of_order.push(OutOfOrderRequest {
            cmd_sn,
            connection,
            immediate: true,
            pdu: Some(pdu),
            data,
        });
    }

    /// Whether requests are missing before that CmdSN, which is in the window or the next behind it.
    fn is_ahead(&self, cmd_sn: u32) -> bool {
        let ahead = cmd_sn.wrapping_sub(self.exp_cmd_sn);
        let width = self.max_cmd_sn.wrapping_sub(self.exp_cmd_sn).wrapping_add(1);
        width < 1 << 31 && (1..=width).contains(&ahead)
    }

    /// Aborts all commands before a CmdSN that have not come.
    pub(super) fn fill_gap(&mut self, connection: ConnectionKey, before: u32) {
        if !self.is_ahead(before) {
            return;
        }
        let exp = self.exp_cmd_sn;
        for cmd_sn in (0..before.wrapping_sub(exp)).map(|n| exp.wrapping_add(n)) {
            if self.out_of_order_of(cmd_sn).is_none() {
                self.out_of_order.push(OutOfOrderRequest::placeholder(connection, cmd_sn));
            }
        }
    }

    /// Aborts a command that has not had its turn (RFC 7143 11.6.1): its place in the order is filled. `before` is the
    /// CmdSN of the request that says so. Returns whether the command was still to come.
    pub(super) fn abort_before_arrival(
        &mut self,
        connection: ConnectionKey,
        cmd_sn: u32,
        before: u32,
    ) -> bool {
        let distance = before.wrapping_sub(cmd_sn);
        if !self.in_window(cmd_sn) || distance == 0 || distance >= 1 << 31 {
            return false;
        }
        match self.out_of_order_of(cmd_sn) {
            Some(out_of_order) => out_of_order.abort(),
            None => self.out_of_order.push(OutOfOrderRequest::placeholder(connection, cmd_sn)),
        }
        true
    }

    /// Aborts the commands in a scope that have not had their turn and precede `before`.
    pub(super) fn abort_early(&mut self, scope: Scope, before: u32) {
        for out_of_order in &mut self.out_of_order {
            let older = (1..1 << 31).contains(&before.wrapping_sub(out_of_order.cmd_sn));
            let concerned = out_of_order.pdu.as_ref().is_some_and(|pdu| {
                pdu.bhs.opcode() == Opcode::SCSI_COMMAND
                    && scope.covers(pdu.bhs.itt(), ScsiCommandHeader::parse(&pdu.bhs).lun)
            });
            if older && concerned {
                out_of_order.abort();
            }
        }
    }

    /// Hands on the next command that has waited for memory; `false` if none can begin.
    pub(super) fn begin_waiting(&mut self) -> bool {
        let Some((index, command)) = self.commands.begin() else { return false };
        let request_tag = RequestTag(index);
        self.requests.push_back(Request::Command { request_tag, command });
        if self.commands.slot(index).damaged {
            self.requests.push_back(Request::Abandoned { request_tag });
        }
        true
    }

    /// A connection has ended while others go on: its commands end (RFC 7143 7.13), and the places in the order of
    /// those that waited for their turn are filled. Commands are allegiant to their connection, so nobody waits for
    /// them.
    pub(super) fn abandon(&mut self, connection: ConnectionKey) {
        let gone = self.waiting.extract_if(.., |(key, _)| *key == connection);
        self.answering -= gone.map(|(_, what)| u32::from(what.is_windowed())).sum::<u32>();
        self.cids.retain(|(_, key)| *key != connection);
        for out_of_order in
            self.out_of_order.iter_mut().filter(|out_of_order| out_of_order.connection == connection)
        {
            out_of_order.abort();
        }
        if self.fence.as_mut().is_some_and(|fence| fence.forget_connection(connection)) {
            self.fence = None;
        }
        for (_, pending) in &mut self.task_management {
            pending.forget_connection(connection);
        }
        let requests = &mut self.requests;
        self.commands
            .orphan(connection, |request_tag| requests.push_back(Request::Abandoned { request_tag }));
    }

    /// All connections have ended.
    pub(super) fn clear(&mut self) {
        self.waiting.clear();
        self.out_of_order.clear();
        self.requests.clear();
        self.commands.clear();
        self.task_management.clear();
        (self.answering, self.unanswered, self.fence) = (0, 0, None);
    }
}

/// A connection at work, with its session.
pub(super) struct ActiveConnection<'a> {
    pub(super) session: &'a mut Shared,
    pub(super) connection: &'a mut Connection,
    pub(super) key: ConnectionKey,
}
