// SPDX-License-Identifier: GPL-2.0-or-later
//! Exchanges: commands, data both ways, functions, aborts.

use super::*;
use crate::fabrics::fcoe::{BURST_MAX, E_D_TOV, EXCHANGES_MAX, GRANTED_MAX, R_A_TOV};
use crate::memory::Sg;
use crate::scsi::{
    EncodedSense, Request, RequestTag, Residual, Response, Sense, Status, TaskAttribute,
    TaskManagementFunction, TaskManagementResponse, Transport, key,
};
use crate::wire::AdditionalCdb;
use crate::wire::fc::{
    AbtsScope, BaRjtReason, ExchangeId, ExchangeStatus, FcpCmnd, FcpResidual, FcpRsp, FcpTaskAttribute,
    FcpTaskManagement, FcpTransfer, LsRjtExplanation, RspCode, UNASSIGNED_XID,
};

const I: u8 = LOWER;

fn command(transfer: FcpTransfer) -> FcpCmnd<'static> {
    FcpCmnd {
        lun: 1 << 48,
        crn: 0,
        priority: 0,
        attribute: FcpTaskAttribute::SIMPLE,
        task_management: None,
        transfer,
        cdb: [7; 16],
        additional_cdb: AdditionalCdb::default(),
    }
}

fn request(r_ctl: RCtl, ox_id: u16) -> FcHeader {
    FcHeader::request(r_ctl, FcType::FCP, id(I), id(OWN), ox_id)
}

fn abts(ox_id: u16) -> FcHeader {
    let f_ctl = FCtl::new(0x09_0000);
    FcHeader { f_ctl, seq_id: 3, ..FcHeader::request(RCtl::ABTS, FcType::BLS, id(I), id(OWN), ox_id) }
}

fn done(status: Status) -> Response {
    Response {
        status,
        sense: EncodedSense::new(),
        data: Sg::new(),
        residual_in: Residual::None,
        residual_out: Residual::None,
    }
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 7 + at / 251) as u8).collect()
}

struct Exchanges {
    rig: FcoeRig,
    number: usize,
}

impl Exchanges {
    fn new() -> Self {
        let (rig, number) = FcoeRig::logged_in(I);
        Self { rig, number }
    }

    /// Sends a command, which has come down to the task manager.
    fn begin(&mut self, ox_id: u16, transfer: FcpTransfer) -> RequestTag {
        assert_eq!(self.send(ox_id, &command(transfer)).len(), 0);
        let Some(Request::Command { request_tag, .. }) = self.session().poll_request() else {
            panic!("no command")
        };
        request_tag
    }

    fn send(&mut self, ox_id: u16, command: &FcpCmnd<'_>) -> Vec<SentFrame> {
        self.rig.frame(I, request(RCtl::FCP_CMND, ox_id), &written(command))
    }

    fn session(&mut self) -> &mut FcpSession {
        self.rig.session(self.number)
    }

    fn complete(&mut self, tag: RequestTag, response: Response) -> Vec<SentFrame> {
        self.session().send_command_complete(tag, response);
        self.rig.catch()
    }

    fn memory(&self, bytes: &[u8]) -> Sg {
        Sg::copied(&self.rig.arena, bytes).expect("memory")
    }

    /// Sends data that was asked for, in frames of that size; `lost` are not sent.
    fn data(&mut self, ready: &SentFrame, bytes: &[u8], size: usize, lost: &[usize]) -> Vec<SentFrame> {
        let Body::FcpXferRdy(asked) = ready.unit() else { panic!("not asked for") };
        let (mut caught, mut at) = (Vec::new(), asked.relative_offset);
        let burst = &bytes[at as usize..(at + asked.burst_len) as usize];
        let header = ready.header();
        let count = burst.len().div_ceil(size);
        for (number, piece) in burst.chunks(size).enumerate() {
            let last = number + 1 == count;
            let f_ctl = FCtl::new(if last { 0x09_0008 } else { 0x00_0008 });
            let header = FcHeader {
                f_ctl,
                seq_id: header.seq_id,
                seq_cnt: u16::try_from(number).unwrap(),
                rx_id: header.rx_id,
                parameter: at,
                ..request(RCtl::FCP_DATA, header.ox_id)
            };
            if !lost.contains(&number) {
                caught.extend(self.rig.frame(I, header, piece));
            }
            at += u32::try_from(piece.len()).unwrap();
        }
        caught
    }

    fn fetched(&mut self) -> Option<Vec<u8>> {
        match self.session().poll_request() {
            Some(Request::DataOut { data, .. }) => Some(data.to_vec()),
            None => None,
            other => panic!("{other:?}"),
        }
    }
}

fn response(caught: &SentFrame) -> FcpRsp<'_> {
    let Body::FcpRsp(response) = caught.unit() else { panic!("no response: {:?}", caught.unit()) };
    response
}

#[test]
fn a_command_comes_as_it_was_sent_and_a_response_ends_it() {
    let mut it = Exchanges::new();
    let long = FcpCmnd {
        attribute: FcpTaskAttribute::ORDERED,
        additional_cdb: AdditionalCdb::new(&[9; 16]).unwrap(),
        transfer: FcpTransfer::Bidirectional { write: 5, read: 6 },
        ..command(FcpTransfer::None)
    };
    it.send(3, &long);
    let Some(Request::Command { request_tag, command }) = it.session().poll_request() else { panic!() };
    assert_eq!(command.cdb.bytes(), [[7; 16], [9; 16]].concat());
    assert_eq!((command.lun.index(), command.attribute), (Some(1), TaskAttribute::Ordered));
    assert_eq!((command.expected.data_out, command.expected.data_in), (5, 6));
    let caught = it.complete(request_tag, done(Status::Good));
    let [answer] = &caught[..] else { panic!("{caught:?}") };
    let header = answer.header();
    assert_eq!((answer.to, answer.from), (vn_mac(I), vn_mac(OWN)));
    assert_eq!((header.ox_id, header.rx_id, header.f_ctl.raw()), (3, 0, 0x98_0000));
    assert_eq!(response(answer), FcpRsp { bidirectional: Some(FcpResidual::None), ..FcpRsp::status(0) });
    assert_eq!(it.session().exchanges(), 0);
}

#[test]
fn data_goes_out_in_frames_of_the_agreed_size_before_the_response() {
    let mut it = Exchanges::new();
    let tag = it.begin(3, FcpTransfer::Read(10_000));
    let bytes = pattern(7001);
    let first = it.memory(&bytes[..4000]);
    it.session().send_data_in(tag, first);
    let mut caught = it.rig.catch();
    assert!(matches!(it.session().poll_request(), Some(Request::DataInTaken { .. })), "more, please");
    let data = it.memory(&bytes[4000..]);
    caught.extend(
        it.complete(tag, Response { data, residual_in: Residual::Underflow(2999), ..done(Status::Good) }),
    );
    let answer = caught.pop().unwrap();
    assert_eq!(response(&answer).residual, FcpResidual::Under(2999));
    let (mut got, mut sequences) = (Vec::new(), Vec::new());
    for frame in &caught {
        let Body::FcpData { offset, data } = frame.unit() else { panic!("no data") };
        assert_eq!(offset as usize, got.len());
        assert!(data.len() <= FRAME);
        got.extend_from_slice(data);
        let header = frame.header();
        sequences.push((header.seq_id, header.seq_cnt, header.f_ctl.contains(FCtl::END_SEQUENCE)));
    }
    assert_eq!(got, bytes);
    let expected = [(1, 0, false), (1, 1, false), (1, 2, true), (2, 0, false), (2, 1, false), (2, 2, true)];
    assert_eq!(sequences, expected);
    assert_eq!(answer.header().seq_id, 3);
    assert!(it.session().poll_request().is_none(), "the task manager has done with it");
}

#[test]
fn data_is_asked_for_in_bursts_and_fetched_whole() {
    let mut it = Exchanges::new();
    let bytes = pattern(BURST_MAX as usize + 5000);
    let len = u32::try_from(bytes.len()).unwrap();
    let tag = it.begin(3, FcpTransfer::Write(len));
    it.session().receive_data_out(tag, len);
    let ready = it.rig.catch();
    assert_eq!(ready[0].header().f_ctl.raw(), 0x89_0000);
    let ready = it.data(&ready[0], &bytes, 1024, &[]);
    assert!(it.fetched().is_none());
    let Body::FcpXferRdy(rest) = ready[0].unit() else { panic!("no second burst") };
    assert_eq!((rest.relative_offset, rest.burst_len), (BURST_MAX, 5000));
    assert_eq!(it.data(&ready[0], &bytes, 1024, &[]).len(), 0);
    assert!(it.fetched().expect("all of it") == bytes);
    assert_eq!(response(&it.complete(tag, done(Status::Good))[0]), FcpRsp::status(0));
    drop(it.rig.port);
    assert_eq!(it.rig.arena.in_use(), 0);
}

/// There is no flow control but this.
#[test]
fn no_more_is_asked_for_at_a_time_than_there_is_room_for() {
    let mut it = Exchanges::new();
    let bytes = pattern(BURST_MAX as usize);
    let mut waiting = Vec::new();
    for ox_id in 0..5 {
        let tag = it.begin(ox_id, FcpTransfer::Write(BURST_MAX));
        it.session().receive_data_out(tag, BURST_MAX);
        waiting.extend(it.rig.catch());
    }
    assert_eq!(waiting.len(), (GRANTED_MAX / BURST_MAX) as usize);
    assert!(!it.session().is_sending(), "nothing that could be sent now");
    let mut done = 0;
    while let Some(ready) = waiting.pop() {
        waiting.extend(it.data(&ready, &bytes, FRAME & !511, &[]));
        assert!(it.fetched().expect("all of it") == bytes);
        done += 1;
    }
    assert_eq!(done, 5);
}

/// What is wrong with a frame of data: every field that places it.
#[test]
fn data_that_is_not_in_its_place_fails_the_command_and_is_tried_again() {
    let wrong: [fn(&mut FcHeader); 3] = [
        |header| header.seq_cnt += 1,
        |header| header.parameter += 512,
        |header| header.f_ctl = header.f_ctl.without(FCtl::RELATIVE_OFFSET),
    ];
    for (number, wrong) in wrong.into_iter().enumerate() {
        let mut it = Exchanges::new();
        let tag = it.begin(3, FcpTransfer::Write(1024));
        it.session().receive_data_out(tag, 1024);
        let ready = it.rig.catch().pop().unwrap().header();
        let mut header = FcHeader {
            f_ctl: FCtl::RELATIVE_OFFSET,
            seq_id: 1,
            rx_id: ready.rx_id,
            ..request(RCtl::FCP_DATA, 3)
        };
        it.rig.frame(I, header, &[1; 512]);
        header = FcHeader { seq_cnt: 1, parameter: 512, f_ctl: FCtl::new(0x09_0008), ..header };
        wrong(&mut header);
        it.rig.frame(I, header, &[1; 512]);
        assert_fails(&mut it, tag, 0x4b05, number);
    }
    // A frame that is lost, and one that is more than was asked for.
    for (lost, len) in [(&[1][..], 2048), (&[], 1536)] {
        let mut it = Exchanges::new();
        let tag = it.begin(3, FcpTransfer::Write(2048));
        it.session().receive_data_out(tag, 1024);
        let ready = it.rig.catch().pop().unwrap();
        let header = |at: u32, f_ctl| FcHeader {
            f_ctl: FCtl::new(f_ctl),
            seq_cnt: u16::try_from(at / 512).unwrap(),
            parameter: at,
            rx_id: ready.header().rx_id,
            ..request(RCtl::FCP_DATA, 3)
        };
        for at in (0..len / 512).filter(|at| !lost.contains(at)) {
            let last = at + 1 == len / 512;
            it.rig.frame(I, header(at * 512, if last { 0x09_0008 } else { 8 }), &[1; 512]);
        }
        assert_fails(&mut it, tag, 0x4b05, lost.len());
    }
}

fn assert_fails(it: &mut Exchanges, tag: RequestTag, code: u16, what: usize) {
    let Some(Request::Abandoned { request_tag }) = it.session().poll_request() else { panic!("case {what}") };
    assert_eq!(request_tag, tag);
    it.session().terminate(tag, None);
    let caught = it.rig.catch();
    let end = response(&caught[0]);
    let sense = Sense::new(key::ABORTED_COMMAND, code).encode(false);
    assert_eq!((end.status, end.sense), (Status::CheckCondition as u8, &sense[..]), "case {what}");
    assert!(it.fetched().is_none());
}

#[test]
fn data_that_does_not_come_is_not_waited_for_for_ever() {
    let mut it = Exchanges::new();
    let tag = it.begin(3, FcpTransfer::Write(4096));
    it.session().receive_data_out(tag, 4096);
    let ready = it.rig.catch().pop().unwrap();
    it.rig.pass(E_D_TOV - millis(100));
    // It begins to come, which is good for the same time again.
    it.data(&ready, &pattern(4096), 1024, &[1, 2, 3]);
    it.rig.pass(E_D_TOV - millis(100));
    assert!(it.session().poll_request().is_none());
    it.rig.pass(millis(200));
    assert_fails(&mut it, tag, 0x4b06, 0);
    assert_eq!(it.rig.port.counters().exchange_timeouts, 1);
}

#[test]
fn frames_of_no_exchange_and_commands_that_come_twice_are_dropped() {
    let mut it = Exchanges::new();
    let tag = it.begin(3, FcpTransfer::Write(1024));
    it.send(3, &command(FcpTransfer::Read(512)));
    // Nothing was asked for, of this and of another.
    for ox_id in [3, 4] {
        let header = FcHeader { f_ctl: FCtl::new(0x09_0008), ..request(RCtl::FCP_DATA, ox_id) };
        it.rig.frame(I, header, &[1; 512]);
    }
    let confirmation = FcHeader { f_ctl: FCtl::new(0x19_0000), ..request(RCtl::SOLICITED_CONTROL, 3) };
    it.rig.frame(I, confirmation, &[]);
    assert_eq!(it.rig.port.counters().stray_frames, 4);
    // Data for another's name of the exchange.
    it.session().receive_data_out(tag, 1024);
    it.rig.catch();
    let header = FcHeader { rx_id: 9, f_ctl: FCtl::new(0x09_0008), ..request(RCtl::FCP_DATA, 3) };
    it.rig.frame(I, header, &[1; 512]);
    assert_eq!(it.rig.port.counters().stray_frames, 5);
    assert!(it.session().poll_request().is_none());
}

#[test]
fn residuals_are_told_by_direction() {
    use FcpResidual::{None, Over, Under};
    let (under, over) = (Residual::Underflow(1), Residual::Overflow(2));
    let table = [
        (FcpTransfer::Read(9), (under, Residual::None), (Under(1), Option::None)),
        (FcpTransfer::Read(9), (over, Residual::None), (Over(2), Option::None)),
        (FcpTransfer::Write(9), (Residual::None, under), (Under(1), Option::None)),
        // In a direction that was not announced.
        (FcpTransfer::Write(9), (over, Residual::None), (Over(2), Option::None)),
        (FcpTransfer::None, (Residual::None, over), (Over(2), Option::None)),
        (FcpTransfer::Bidirectional { write: 9, read: 9 }, (under, over), (Over(2), Some(Under(1)))),
        (FcpTransfer::Bidirectional { write: 9, read: 9 }, (over, Residual::None), (None, Some(Over(2)))),
    ];
    let mut it = Exchanges::new();
    for (transfer, (residual_in, residual_out), expected) in table {
        let tag = it.begin(3, transfer);
        let caught = it.complete(tag, Response { residual_in, residual_out, ..done(Status::Good) });
        let end = response(&caught[0]);
        assert_eq!((end.residual, end.bidirectional), expected, "{transfer:?}");
    }
}

#[test]
fn sense_data_is_confirmed() {
    let mut it = Exchanges::new();
    // By FCP_CONF, by the next command if that was lost, or by time.
    for confirmed in [Some(true), Some(false), None] {
        let tag = it.begin(3, FcpTransfer::None);
        let sense = Sense::new(key::ILLEGAL_REQUEST, 0x2400).encode(false);
        let caught = it.complete(tag, Response { sense: sense.clone(), ..done(Status::CheckCondition) });
        let f_ctl = caught[0].header().f_ctl;
        assert_eq!(
            (f_ctl.with_fill(0).raw(), f_ctl.fill()),
            (0x89_0000, 2),
            "not the last sequence, and theirs is next"
        );
        let end = response(&caught[0]);
        assert!(end.confirm);
        assert_eq!(end.sense, &sense[..]);
        assert_eq!(it.session().exchanges(), 1);
        if confirmed == Some(true) {
            let header = FcHeader { f_ctl: FCtl::new(0x19_0000), ..request(RCtl::SOLICITED_CONTROL, 3) };
            it.rig.frame(I, header, &[]);
        } else if confirmed == Some(false) {
            let tag = it.begin(3, FcpTransfer::None);
            it.complete(tag, done(Status::Good));
        } else {
            it.rig.pass(2 * R_A_TOV);
            assert_eq!(it.rig.port.counters().exchange_timeouts, 1);
        }
        assert_eq!(it.session().exchanges(), 0);
    }
    // An initiator that does not know of that is not asked for it.
    let (mut rig, _) = FcoeRig::logged_in(I);
    let page = ServicePage::fcp(PageFlags::ESTABLISH_IMAGE_PAIR, FcpServiceParameters::INITIATOR);
    rig.els(I, 9, &ElsRequest::Prli(ProcessLogin(page)));
    rig.port.session_ended(0);
    let [.., FcoePortEvent::Joined(number)] = rig.drain()[..] else { panic!("nobody has joined") };
    rig.catch();
    let mut it = Exchanges { rig, number };
    let tag = it.begin(3, FcpTransfer::None);
    let sense = Sense::new(key::ILLEGAL_REQUEST, 0x2400).encode(false);
    let caught = it.complete(tag, Response { sense, ..done(Status::CheckCondition) });
    assert_eq!((response(&caught[0]).confirm, it.session().exchanges()), (false, 0));
}

#[test]
fn functions_are_carried_out_and_their_answers_have_codes() {
    use TaskManagementFunction::{AbortTaskSet, ClearAca, ClearTaskSet, LogicalUnitReset, TargetReset};
    let functions = [
        (0x02, Some(AbortTaskSet), TaskManagementResponse::Complete, RspCode::COMPLETE),
        (0x04, Some(ClearTaskSet), TaskManagementResponse::Rejected, RspCode::FUNCTION_FAILED),
        (0x10, Some(LogicalUnitReset), TaskManagementResponse::IncorrectLun, RspCode::INCORRECT_LUN),
        (0x20, Some(TargetReset), TaskManagementResponse::Complete, RspCode::COMPLETE),
        (0x40, Some(ClearAca), TaskManagementResponse::NotSupported, RspCode::FUNCTION_REJECTED),
        (0x01, None, TaskManagementResponse::Complete, RspCode::FUNCTION_REJECTED),
        (0x08, None, TaskManagementResponse::Complete, RspCode::FUNCTION_REJECTED),
        (0x80, None, TaskManagementResponse::Complete, RspCode::FUNCTION_REJECTED),
        (0x12, None, TaskManagementResponse::Complete, RspCode::INVALID_FIELDS),
    ];
    let mut it = Exchanges::new();
    for (flags, wanted, answer, code) in functions {
        let task_management = Some(FcpTaskManagement::new(flags));
        let mut caught = it.send(3, &FcpCmnd { task_management, ..command(FcpTransfer::None) });
        match it.session().poll_request() {
            Some(Request::TaskManagement { request, function, lun, .. }) => {
                assert_eq!((Some(function), lun.index()), (wanted, Some(1)));
                it.session().task_management_executed(request, answer);
                caught = it.rig.catch();
            }
            None => assert_eq!(wanted, None, "{flags:#x}"),
            other => panic!("{other:?}"),
        }
        assert_eq!(response(&caught[0]).response, Some(code), "{flags:#x}");
        assert_eq!(caught[0].body.len() + 14, 92, "as long as Linux wants it");
    }
}

#[test]
fn too_many_commands_are_told_so() {
    let mut it = Exchanges::new();
    for ox_id in 0..u16::try_from(EXCHANGES_MAX).unwrap() {
        it.begin(ox_id, FcpTransfer::None);
    }
    let caught = it.send(0x7000, &command(FcpTransfer::None));
    assert_eq!(response(&caught[0]).status, Status::TaskSetFull as u8);
    assert_eq!(caught[0].header().ox_id, 0x7000);
    assert_eq!(it.session().exchanges(), EXCHANGES_MAX);
}

/// The heart of an abort: its answer is the promise that nothing more of the command happens.
#[test]
fn an_abort_is_answered_when_the_task_has_ended_and_not_before() {
    let mut it = Exchanges::new();
    let tag = it.begin(3, FcpTransfer::Write(1024));
    it.session().receive_data_out(tag, 1024);
    let ready = it.rig.catch().pop().unwrap();
    assert_eq!(it.rig.frame(I, abts(3), &[]).len(), 0);
    assert!(
        matches!(it.session().poll_request(), Some(Request::Abandoned { request_tag }) if request_tag == tag)
    );
    // What was on its way is too late, and a second ABTS changes nothing.
    assert_eq!(it.data(&ready, &pattern(1024), 512, &[]).len(), 0);
    assert_eq!(it.rig.frame(I, abts(3), &[]).len(), 0);
    assert!(it.session().poll_request().is_none());
    it.session().terminate(tag, None);
    let caught = it.rig.catch();
    let [answer] = &caught[..] else { panic!("{caught:?}") };
    let Body::BaAcc(accept) = answer.unit() else { panic!("refused") };
    assert_eq!((accept.ox_id, accept.has_recovery_qualifier()), (3, true));
    assert_eq!((answer.header().f_ctl.raw(), answer.header().ox_id), (0x98_0000, 3));
    // The identifiers rest: a command with them is an old one. An ABTS is answered again, whose answer was lost.
    it.send(3, &command(FcpTransfer::None));
    assert!(it.session().poll_request().is_none());
    assert!(matches!(it.rig.frame(I, abts(3), &[])[0].unit(), Body::BaAcc(_)));
    let rrq = ExchangeId { originator: id(I), ox_id: 3, rx_id: UNASSIGNED_XID };
    let caught = it.rig.els(I, 9, &ElsRequest::Rrq(rrq));
    assert!(matches!(caught[0].reply(ElsCode::RRQ), ElsReply::Accept(_)));
    it.begin(3, FcpTransfer::None);
    let caught = it.rig.els(I, 9, &ElsRequest::Rrq(rrq));
    assert!(matches!(caught[0].reply(ElsCode::RRQ), ElsReply::Reject(_)), "they rest no more");
}

#[test]
fn identifiers_rest_no_longer_than_frames_live() {
    let mut it = Exchanges::new();
    let tag = it.begin(3, FcpTransfer::None);
    it.rig.frame(I, abts(3), &[]);
    it.session().terminate(tag, None);
    it.rig.pass(R_A_TOV);
    it.session().poll_request();
    it.begin(3, FcpTransfer::None);
}

#[test]
fn an_abort_that_comes_late_or_for_nothing_is_answered_at_once() {
    let mut it = Exchanges::new();
    let unknown = |caught: &[SentFrame]| match caught[0].unit() {
        Body::BaRjt(reject) => reject.reason == BaRjtReason::LOGICAL_ERROR,
        other => panic!("{other:?}"),
    };
    assert!(unknown(&it.rig.frame(I, abts(8), &[])), "no exchange");
    // A task that ends by itself while it is to be aborted: its answer is that of the abort alone.
    let tag = it.begin(3, FcpTransfer::Read(512));
    it.rig.frame(I, abts(3), &[]);
    let data = it.memory(&[1; 512]);
    let caught = it.complete(tag, Response { data, ..done(Status::Good) });
    assert!(matches!(caught[..], [ref answer] if matches!(answer.unit(), Body::BaAcc(_))));
    assert!(it.session().poll_request().is_none(), "it need not be aborted any more");
    // A function goes on, and nobody hears of it.
    let task_management = Some(FcpTaskManagement::LOGICAL_UNIT_RESET);
    it.send(4, &FcpCmnd { task_management, ..command(FcpTransfer::None) });
    let Some(Request::TaskManagement { request, .. }) = it.session().poll_request() else { panic!() };
    assert!(matches!(it.rig.frame(I, abts(4), &[])[0].unit(), Body::BaAcc(_)));
    it.session().task_management_executed(request, TaskManagementResponse::Complete);
    assert_eq!(it.rig.catch().len(), 0);
    assert_eq!(it.session().exchanges(), 0);
    // One sequence only.
    it.begin(5, FcpTransfer::None);
    let header = FcHeader { parameter: AbtsScope::Sequence.parameter(), ..abts(5) };
    assert!(matches!(it.rig.frame(I, header, &[])[0].unit(), Body::BaRjt(_)));
    // By one without a session.
    let header = FcHeader { s_id: id(HIGHER), ..abts(5) };
    assert!(unknown(&it.rig.frame(HIGHER, header, &[])));
}

#[test]
fn a_task_that_others_abort_is_silent_or_says_its_status() {
    let mut it = Exchanges::new();
    let tag = it.begin(3, FcpTransfer::Read(512));
    it.session().terminate(tag, None);
    assert_eq!(it.rig.catch().len(), 0);
    let tag = it.begin(3, FcpTransfer::Read(512));
    it.session().terminate(tag, Some(Status::TaskAborted));
    assert_eq!(response(&it.rig.catch()[0]).status, Status::TaskAborted as u8);
}

#[test]
fn rec_tells_whose_turn_it_is() {
    let mut it = Exchanges::new();
    let ask = |it: &mut Exchanges, ox_id| {
        let asked = ExchangeId { originator: id(I), ox_id, rx_id: UNASSIGNED_XID };
        let caught = it.rig.els(I, 0x200, &ElsRequest::Rec(asked));
        match caught[0].reply(ElsCode::REC) {
            ElsReply::Rec(accept) => Ok((accept.status, accept.fc4_value)),
            ElsReply::Reject(reject) => Err(reject.explanation),
            other => panic!("{other:?}"),
        }
    };
    let (ours, theirs, complete) = (
        ExchangeStatus::RESPONDER.with(ExchangeStatus::SEQUENCE_INITIATIVE),
        ExchangeStatus::RESPONDER,
        ExchangeStatus::RESPONDER.with(ExchangeStatus::COMPLETE),
    );
    assert_eq!(ask(&mut it, 3), Err(LsRjtExplanation::INVALID_OX_ID_RX_ID));
    let tag = it.begin(3, FcpTransfer::Write(1024));
    assert_eq!(ask(&mut it, 3), Ok((ours, 0)));
    it.session().receive_data_out(tag, 1024);
    let ready = it.rig.catch().pop().unwrap();
    assert_eq!(ask(&mut it, 3), Ok((theirs, 0)));
    it.data(&ready, &pattern(1024), 512, &[]);
    assert_eq!(ask(&mut it, 3), Ok((ours, 1024)));
    it.fetched();
    it.complete(tag, done(Status::Good));
    assert_eq!(ask(&mut it, 3), Ok((complete, 1024)), "its response was lost");
    it.rig.pass(R_A_TOV);
    assert_eq!(ask(&mut it, 3), Err(LsRjtExplanation::INVALID_OX_ID_RX_ID));
}

#[test]
fn what_finds_no_memory_waits_for_it() {
    let mut it = Exchanges::new();
    let tag = it.begin(3, FcpTransfer::Read(4096));
    let data = it.memory(&pattern(4096));
    let hoard: Vec<_> = std::iter::from_fn(|| it.rig.arena.alloc(2048)).collect();
    let caught = it.complete(tag, Response { data, ..done(Status::Good) });
    assert_eq!(caught.len(), 0);
    assert!(it.session().is_sending());
    drop(hoard);
    let caught = it.rig.catch();
    assert_eq!(caught.len(), 4);
    assert_eq!(caught[0].header().seq_cnt, 0);
}
