// SPDX-License-Identifier: GPL-2.0-or-later
//! An initiator that has logged in to FCP (PRLI): its exchanges, and its side of the task manager.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use slab::Slab;

use super::control::ControlFrames;
use super::exchange::{BurstFault, BurstProgress, Direction, ExchangePhase, FcpEnd, FcpExchange, Unsent};
use super::{E_D_TOV, FcoeCounters, R_A_TOV};
use crate::memory::{Arena, Seg, Sg};
use crate::scsi::{
    Cdb, Command, Expected, Lun, NexusId, Request, RequestTag, Response, Sense, Status, TaskAttribute,
    TaskManagementFunction, TaskManagementResponse, Transport, key,
};
use crate::time::{Instant, Wheel};
use crate::wire::fc::{
    AbtsScope, BaAcc, BaRjt, BaRjtExplanation, BaRjtReason, ExchangeId, ExchangeStatus, FcHeader, FcId,
    FcpCmnd, FcpRsp, FcpTaskAttribute, FcpTaskManagement, FcpTransfer, RCtl, RecAcc, RspCode, WorldWideName,
};

/// Most exchanges of a session at a time; further commands end with TASK SET FULL.
pub const EXCHANGES_MAX: usize = 1024;

/// Most data that one FCP_XFER_RDY asks for.
pub const BURST_MAX: u32 = 128 << 10;

/// Most data that is asked for of a session at a time: there is no other flow control in class 3, and what comes all at
/// once has to find room.
pub const GRANTED_MAX: u32 = 256 << 10;

/// Most exchanges that are remembered after their end.
const ENDED_MAX: usize = 64;

/// How long FCP_CONF is waited for.
const CONFIRM_WAIT: Duration = R_A_TOV.saturating_mul(2);

/// DATA OFFSET ERROR and INITIATOR RESPONSE TIMEOUT (SPC-5 annex F).
const DATA_OFFSET_ERROR: u16 = 0x4b05;
const INITIATOR_RESPONSE_TIMEOUT: u16 = 0x4b06;

/// What is known of an exchange that has ended.
struct EndedExchange {
    ox_id: u16,
    rx_id: u16,
    moved: u32,
    /// Until then it is remembered.
    until: Instant,
}

/// See the module.
pub struct FcpSession {
    arena: Arena,
    direction: Direction,
    initiator: WorldWideName,
    /// FCP_CONF was agreed on.
    confirms: bool,
    nexus: NexusId,
    exchanges: Slab<FcpExchange>,
    by_ox_id: HashMap<u16, usize>,
    ended: VecDeque<EndedExchange>,
    /// OX_IDs of aborted exchanges, and how long they rest if there is no RRQ.
    resting: VecDeque<(u16, Instant)>,
    requests: VecDeque<Request>,
    /// Exchanges that have something to send; the first one is being sent.
    line: VecDeque<usize>,
    granted: u32,
    /// All that stand in the line wait for data that is under way.
    stalled: bool,
    deadlines: Wheel,
    now: Instant,
    /// What answers aborts.
    pub(super) control: ControlFrames,
    pub(super) counters: FcoeCounters,
}

impl FcpSession {
    pub(super) fn new(
        arena: &Arena,
        direction: Direction,
        initiator: WorldWideName,
        confirms: bool,
        now: Instant,
    ) -> Self {
        Self {
            arena: arena.clone(),
            direction,
            initiator,
            confirms,
            nexus: NexusId::default(),
            exchanges: Slab::new(),
            by_ox_id: HashMap::new(),
            ended: VecDeque::new(),
            resting: VecDeque::new(),
            requests: VecDeque::new(),
            line: VecDeque::new(),
            granted: 0,
            stalled: false,
            deadlines: Wheel::new(),
            now,
            control: ControlFrames::default(),
            counters: FcoeCounters::default(),
        }
    }

    /// Whose commands it has; said once, before the first is asked for.
    pub fn serves(&mut self, nexus: NexusId) {
        self.nexus = nexus;
    }

    /// The name of the initiator's port.
    pub fn initiator(&self) -> WorldWideName {
        self.initiator
    }

    /// The identifier of the initiator's port.
    pub fn peer(&self) -> FcId {
        self.direction.peer
    }

    /// Most data in a frame to the initiator.
    pub fn frame_size(&self) -> usize {
        self.direction.frame_size
    }

    /// Exchanges under way.
    pub fn exchanges(&self) -> usize {
        self.exchanges.len()
    }

    /// Whether there are requests for the task manager.
    pub fn is_asking(&self) -> bool {
        !self.requests.is_empty()
    }

    /// What has passed its time.
    pub(super) fn poll(&mut self, now: Instant) {
        self.now = now;
        while let Some(index) = self.deadlines.expired(now) {
            let Some(exchange) = self.exchanges.get_mut(index) else { continue };
            let deadline = match (exchange.phase, &exchange.burst) {
                (ExchangePhase::Confirming(deadline), _) => deadline,
                (ExchangePhase::Task, Some(burst)) => burst.deadline,
                _ => continue,
            };
            if now < deadline {
                self.deadlines.wake_at(index, deadline);
                continue;
            }
            self.counters.exchange_timeouts += 1;
            match exchange.phase {
                ExchangePhase::Task => self.fail(index, BurstFault::Silence),
                _ => self.end(index, false),
            }
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.next()
    }

    // What comes in.

    /// FCP_CMND.
    pub(super) fn command(&mut self, header: &FcHeader, command: &FcpCmnd<'_>) {
        // Who begins another exchange has the response of the last one, if its FCP_CONF was lost.
        let known = self.by_ox_id.get(&header.ox_id).copied();
        let confirming =
            known.filter(|&index| matches!(self.exchanges[index].phase, ExchangePhase::Confirming(_)));
        if let Some(index) = confirming {
            self.end(index, false);
        }
        if known != confirming || self.rests(header.ox_id) {
            // It has come twice, or its identifier is not free.
            self.counters.stray_frames += 1;
            return;
        }
        if self.exchanges.len() >= EXCHANGES_MAX {
            return self.refuse(header, &FcpRsp::status(Status::TaskSetFull as u8));
        }
        let function = match command.task_management.map(function) {
            None => None,
            Some(Ok(function)) => Some(function),
            Some(Err(code)) => {
                return self.refuse(header, &FcpRsp { response: Some(code), ..FcpRsp::status(0) });
            }
        };
        let mut cdb = command.cdb.to_vec();
        cdb.extend_from_slice(command.additional_cdb.bytes());
        let Some(cdb) = Cdb::new(&cdb) else {
            let code = Some(RspCode::INVALID_FIELDS);
            return self.refuse(header, &FcpRsp { response: code, ..FcpRsp::status(0) });
        };
        self.counters.exchanges += 1;
        let entry = self.exchanges.vacant_entry();
        let index = entry.key();
        let rx_id = u16::try_from(index).expect("at most EXCHANGES_MAX");
        entry.insert(FcpExchange::new(header.ox_id, rx_id, command.transfer, function.is_some()));
        self.by_ox_id.insert(header.ox_id, index);
        let (tag, lun) = (tag(index), Lun(command.lun).normal());
        self.requests.push_back(match function {
            Some(function) => Request::TaskManagement { request: tag, nexus: self.nexus, function, lun },
            None => {
                let (data_in, data_out) = match command.transfer {
                    FcpTransfer::None => (0, 0),
                    FcpTransfer::Read(len) => (len, 0),
                    FcpTransfer::Write(len) => (0, len),
                    FcpTransfer::Bidirectional { write, read } => (read, write),
                };
                let attribute = match command.attribute {
                    FcpTaskAttribute::ORDERED => TaskAttribute::Ordered,
                    FcpTaskAttribute::HEAD_OF_QUEUE => TaskAttribute::HeadOfQueue,
                    FcpTaskAttribute::ACA => TaskAttribute::Aca,
                    _ => TaskAttribute::Simple,
                };
                let expected = Expected { data_in, data_out };
                let command = Command { nexus: self.nexus, lun, cdb, attribute, expected };
                Request::Command { request_tag: tag, command }
            }
        });
    }

    /// Answers a command that is no exchange here.
    fn refuse(&mut self, header: &FcHeader, response: &FcpRsp<'_>) {
        self.control.fc(FcHeader { seq_id: 1, ..header.reply(RCtl::FCP_RSP) }, response);
    }

    /// FCP_DATA.
    pub(super) fn data(&mut self, header: &FcHeader, data: &[u8]) {
        let found = self.find(header.ox_id, header.rx_id).filter(|&index| {
            // What comes for one that is aborted is too late.
            self.exchanges[index].phase == ExchangePhase::Task
        });
        let Some(index) = found else {
            self.counters.stray_frames += 1;
            return;
        };
        let exchange = &mut self.exchanges[index];
        match exchange.take_data(header, data) {
            None | Some(BurstProgress::Stray) => self.counters.stray_frames += 1,
            Some(BurstProgress::More) => {
                if let Some(burst) = &mut exchange.burst {
                    burst.deadline = self.now + E_D_TOV;
                }
            }
            Some(BurstProgress::Failed) => self.fail(index, BurstFault::Gap),
            Some(BurstProgress::Complete) => {
                self.granted -= exchange.granted();
                if let Some(data) = exchange.end_burst(BURST_MAX) {
                    self.requests.push_back(Request::DataOut { request_tag: tag(index), data });
                }
                self.stand_in_line(index);
            }
        }
    }

    /// FCP_CONF.
    pub(super) fn confirmation(&mut self, header: &FcHeader) {
        match self.find(header.ox_id, header.rx_id) {
            Some(index) if matches!(self.exchanges[index].phase, ExchangePhase::Confirming(_)) => {
                self.end(index, false);
            }
            _ => self.counters.stray_frames += 1,
        }
    }

    /// ABTS. It is answered when nothing of the exchange reaches the logical unit any more.
    pub(super) fn abort(&mut self, header: &FcHeader) {
        self.counters.aborts += 1;
        let reject = |reason, explanation| BaRjt { reason, explanation, vendor: 0 };
        if AbtsScope::of(header) == AbtsScope::Sequence {
            let refused = reject(BaRjtReason::UNABLE_TO_PERFORM, BaRjtExplanation::NONE);
            return self.control.fc(header.reply(RCtl::BA_RJT), &refused);
        }
        let Some(index) = self.find(header.ox_id, header.rx_id) else {
            return match self.rests(header.ox_id) {
                // The answer was lost.
                true => self.accept_abort(header),
                false => {
                    let unknown = reject(BaRjtReason::LOGICAL_ERROR, BaRjtExplanation::INVALID_OX_ID_RX_ID);
                    self.control.fc(header.reply(RCtl::BA_RJT), &unknown);
                }
            };
        };
        let phase = self.exchanges[index].phase;
        match phase {
            ExchangePhase::Task => {
                self.forget(index);
                let exchange = &mut self.exchanges[index];
                if exchange.is_function {
                    // The function is carried out, and nobody is told.
                    exchange.phase = ExchangePhase::Aborting(None);
                    return self.accept_abort(header);
                }
                exchange.phase = ExchangePhase::Aborting(Some(*header));
                let given_up = exchange.fault.take().is_some();
                if !given_up {
                    self.requests.push_back(Request::Abandoned { request_tag: tag(index) });
                }
            }
            ExchangePhase::Aborting(_) => {
                self.exchanges[index].phase = ExchangePhase::Aborting(Some(*header));
            }
            ExchangePhase::Answering | ExchangePhase::Confirming(_) => {
                self.end(index, true);
                self.accept_abort(header);
            }
        }
    }

    fn accept_abort(&mut self, header: &FcHeader) {
        let accept = BaAcc::exchange(header.ox_id, header.rx_id, true);
        self.control.fc(header.reply(RCtl::BA_ACC), &accept);
    }

    /// RRQ: the identifiers of an aborted exchange need not rest any more. Returns whether they did.
    pub(super) fn reinstate(&mut self, exchange: &ExchangeId) -> bool {
        let before = self.resting.len();
        self.resting.retain(|(ox_id, _)| *ox_id != exchange.ox_id);
        self.resting.len() < before
    }

    /// Whether an OX_ID is that of an exchange that was aborted, of which frames may be on their way.
    fn rests(&self, ox_id: u16) -> bool {
        self.resting.iter().any(|&(resting, until)| resting == ox_id && self.now < until)
    }

    /// REC: what is known of an exchange of the initiator's.
    pub(super) fn status_of(&self, asked: &ExchangeId) -> Option<RecAcc> {
        let tell = |rx_id, fc4_value, status| RecAcc {
            ox_id: asked.ox_id,
            rx_id,
            originator: self.direction.peer,
            responder: self.direction.own,
            fc4_value,
            status: ExchangeStatus::RESPONDER.with(status),
        };
        if let Some(index) = self.find(asked.ox_id, asked.rx_id) {
            let exchange = &self.exchanges[index];
            let status = match exchange.awaits_initiator() {
                true => ExchangeStatus::default(),
                false => ExchangeStatus::SEQUENCE_INITIATIVE,
            };
            return Some(tell(rx_id(index), exchange.moved(), status));
        }
        let known = |ended: &&EndedExchange| ended.ox_id == asked.ox_id && self.now < ended.until;
        let ended = self.ended.iter().rev().find(known)?;
        Some(tell(ended.rx_id, ended.moved, ExchangeStatus::COMPLETE))
    }

    /// An exchange of the initiator's, which need not know our name of it.
    fn find(&self, ox_id: u16, named: u16) -> Option<usize> {
        let index = *self.by_ox_id.get(&ox_id)?;
        (named == crate::wire::fc::UNASSIGNED_XID || named == rx_id(index)).then_some(index)
    }

    // How exchanges go on.

    fn stand_in_line(&mut self, index: usize) {
        let exchange = &mut self.exchanges[index];
        if !exchange.in_line && !exchange.unsent.is_empty() {
            exchange.in_line = true;
            self.line.push_back(index);
        }
        self.stalled = false;
    }

    /// Data does not come as it should: the task manager is to end the command.
    fn fail(&mut self, index: usize, fault: BurstFault) {
        self.forget(index);
        self.exchanges[index].fault = Some(fault);
        self.requests.push_back(Request::Abandoned { request_tag: tag(index) });
    }

    /// Forgets what an exchange had to fetch and to send.
    fn forget(&mut self, index: usize) {
        let exchange = &mut self.exchanges[index];
        self.granted -= exchange.granted();
        self.stalled = false;
        exchange.forget();
        self.requests.retain(|request| match request {
            Request::DataOut { request_tag, .. } | Request::DataInTaken { request_tag } => {
                request_tag.0 as usize != index
            }
            _ => true,
        });
    }

    /// The exchange is over, for both sides.
    fn end(&mut self, index: usize, rests: bool) {
        self.forget(index);
        let exchange = self.exchanges.remove(index);
        self.by_ox_id.remove(&exchange.ox_id);
        self.deadlines.forget(index);
        if exchange.in_line {
            self.line.retain(|&other| other != index);
        }
        let until = self.now + R_A_TOV;
        if self.ended.len() >= ENDED_MAX {
            self.ended.pop_front();
        }
        let (ox_id, moved) = (exchange.ox_id, exchange.moved());
        self.ended.push_back(EndedExchange { ox_id, rx_id: rx_id(index), moved, until });
        if rests {
            let now = self.now;
            while self.resting.len() >= EXCHANGES_MAX
                || self.resting.front().is_some_and(|(_, until)| *until <= now)
            {
                self.resting.pop_front();
            }
            self.resting.push_back((ox_id, until));
        }
    }

    /// The task manager has done with a command or a function: what is there to be told of it?
    fn finish(&mut self, index: usize, data: Sg, end: Option<FcpEnd>) {
        self.forget(index);
        self.requests.retain(|request| {
            !matches!(request, Request::Abandoned { request_tag } if request_tag.0 as usize == index)
        });
        let confirms = self.confirms;
        let exchange = &mut self.exchanges[index];
        if let ExchangePhase::Aborting(abts) = exchange.phase {
            self.end(index, abts.is_some());
            if let Some(abts) = abts {
                self.accept_abort(&abts);
            }
            return;
        }
        let fault = exchange.fault.take().map(|fault| {
            let code = match fault {
                BurstFault::Gap => DATA_OFFSET_ERROR,
                BurstFault::Silence => INITIATOR_RESPONSE_TIMEOUT,
            };
            let sense = Sense::new(key::ABORTED_COMMAND, code).encode(false).to_vec();
            FcpEnd { sense, ..FcpEnd::status(Status::CheckCondition) }
        });
        let Some(mut end) = fault.or(end) else { return self.end(index, false) };
        end.confirm = confirms && !end.sense.is_empty();
        exchange.phase = ExchangePhase::Answering;
        if !data.is_empty() {
            exchange.unsent.push_back(Unsent::Data { data, begun: false });
        }
        exchange.unsent.push_back(Unsent::Response(Box::new(end)));
        self.stand_in_line(index);
    }

    // What goes out.

    /// The next frame of any exchange. `None` if there is nothing to send, or no memory for it now.
    pub(super) fn poll_frame(&mut self) -> Option<(FcHeader, Seg)> {
        let mut passed = 0;
        loop {
            let Some(&index) = self.line.get(passed) else {
                self.stalled = true;
                return None;
            };
            let exchange = &mut self.exchanges[index];
            match exchange.unsent.front() {
                None => {
                    exchange.in_line = false;
                    self.line.remove(passed);
                    continue;
                }
                // Others go first while as much is under way as may be.
                Some(Unsent::Ready(len)) if self.granted > 0 && self.granted + len > GRANTED_MAX => {
                    passed += 1;
                    continue;
                }
                Some(_) => {}
            }
            let deadline = self.now + E_D_TOV;
            let (header, frame, sent) = exchange.frame(&self.arena, &self.direction, deadline)?;
            match sent {
                Some(Unsent::Ready(len)) => {
                    self.granted += len;
                    self.deadlines.wake_at(index, deadline);
                }
                Some(Unsent::Data { .. }) if exchange.phase == ExchangePhase::Task => {
                    self.requests.push_back(Request::DataInTaken { request_tag: tag(index) });
                }
                Some(Unsent::Response(end)) if end.confirm => {
                    let deadline = self.now + CONFIRM_WAIT;
                    exchange.phase = ExchangePhase::Confirming(deadline);
                    self.deadlines.wake_at(index, deadline);
                }
                Some(Unsent::Response(_)) => self.end(index, false),
                Some(Unsent::Data { .. }) | None => {}
            }
            return Some((header, frame));
        }
    }

    /// Whether there is something to send.
    pub(super) fn is_sending(&self) -> bool {
        self.control.first().is_some() || !self.stalled && !self.line.is_empty()
    }
}

impl Transport for FcpSession {
    fn poll_request(&mut self) -> Option<Request> {
        self.requests.pop_front()
    }

    fn receive_data_out(&mut self, request_tag: RequestTag, len: u32) {
        let index = request_tag.0 as usize;
        let exchange = &mut self.exchanges[index];
        if exchange.phase == ExchangePhase::Task && exchange.fault.is_none() {
            exchange.fetch(len, BURST_MAX);
            self.stand_in_line(index);
        }
    }

    fn send_data_in(&mut self, request_tag: RequestTag, data: Sg) {
        let index = request_tag.0 as usize;
        let exchange = &mut self.exchanges[index];
        if exchange.phase == ExchangePhase::Task {
            exchange.unsent.push_back(Unsent::Data { data, begun: false });
            self.stand_in_line(index);
        }
    }

    fn send_command_complete(&mut self, request_tag: RequestTag, response: Response) {
        let index = request_tag.0 as usize;
        let Response { status, sense, data, residual_in, residual_out } = response;
        let transfer = self.exchanges[index].transfer;
        let end = FcpEnd { sense: sense.to_vec(), ..FcpEnd::status(status) };
        self.finish(index, data, Some(end.with_residuals(transfer, residual_in, residual_out)));
    }

    fn task_management_executed(&mut self, request: RequestTag, response: TaskManagementResponse) {
        let code = match response {
            TaskManagementResponse::Complete | TaskManagementResponse::NoSuchTask => RspCode::COMPLETE,
            TaskManagementResponse::IncorrectLun => RspCode::INCORRECT_LUN,
            TaskManagementResponse::NotSupported => RspCode::FUNCTION_REJECTED,
            TaskManagementResponse::Rejected => RspCode::FUNCTION_FAILED,
        };
        self.finish(request.0 as usize, Sg::new(), Some(FcpEnd::code(code)));
    }

    fn terminate(&mut self, request_tag: RequestTag, status: Option<Status>) {
        self.finish(request_tag.0 as usize, Sg::new(), status.map(FcpEnd::status));
    }
}

/// What the task manager calls an exchange.
fn tag(index: usize) -> RequestTag {
    RequestTag(rx_id(index).into())
}

/// What the initiator calls it.
fn rx_id(index: usize) -> u16 {
    u16::try_from(index).expect("at most EXCHANGES_MAX")
}

/// The function that is asked for; the error is how it is refused.
fn function(asked: FcpTaskManagement) -> Result<TaskManagementFunction, RspCode> {
    match asked {
        FcpTaskManagement::ABORT_TASK_SET => Ok(TaskManagementFunction::AbortTaskSet),
        FcpTaskManagement::CLEAR_TASK_SET => Ok(TaskManagementFunction::ClearTaskSet),
        FcpTaskManagement::LOGICAL_UNIT_RESET => Ok(TaskManagementFunction::LogicalUnitReset),
        FcpTaskManagement::TARGET_RESET => Ok(TaskManagementFunction::TargetReset),
        FcpTaskManagement::CLEAR_ACA => Ok(TaskManagementFunction::ClearAca),
        several if !several.is_one() => Err(RspCode::INVALID_FIELDS),
        _ => Err(RspCode::FUNCTION_REJECTED),
    }
}
