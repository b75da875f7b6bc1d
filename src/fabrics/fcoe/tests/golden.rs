// SPDX-License-Identifier: GPL-2.0-or-later
//! The initiator's half of the captured frames (`wire/fc/golden`): it is answered as it was by the target that was
//! captured, in kind, identifiers and length.

use std::collections::BTreeMap;

use super::chaos::{below, one_in};
use super::*;
use crate::counters::CounterSet;
use crate::fabrics::fcoe::FcoeCounters;
use crate::fabrics::fcoe::any::AnyFrames;
use crate::memory::Sg;
use crate::ports::memory::Dice;
use crate::scsi::{
    EncodedSense, Request, RequestTag, Residual, Response, Status, TaskManagementResponse, Transport,
};
use crate::wire::fc::{ETHERTYPE_FIP, FcpRsp, FcpTransfer};

const CAPTURE: &[u8] = include_bytes!("../../../wire/fc/golden/fcoe-vn2vn-mtu2500.pcap");

/// Time since the first frame, and the frame, from which the Ethernet header is not taken off.
fn frames() -> Vec<(Duration, &'static [u8])> {
    let (mut rest, mut frames, mut begin) = (&CAPTURE[24..], Vec::new(), None);
    while let Some((record, data)) = rest.split_at_checked(16) {
        let word = |at: usize| u32::from_le_bytes(record[at..at + 4].try_into().expect("four bytes"));
        let time = Duration::from_secs(word(0).into()) + Duration::from_micros(word(4).into());
        let (frame, next) = data.split_at(word(8) as usize);
        frames.push((time - *begin.get_or_insert(time), frame));
        rest = next;
    }
    frames
}

fn caught(frame: &[u8]) -> SentFrame {
    SentFrame {
        to: MacAddress(frame[..6].try_into().unwrap()),
        from: MacAddress(frame[6..12].try_into().unwrap()),
        ethertype: u16::from_be_bytes([frame[12], frame[13]]),
        body: frame[14..].to_vec(),
    }
}

const TARGET: u8 = 0x0b;

/// An exchange as it was captured: what was read, and how it ended.
#[derive(Clone, Default)]
struct Recorded {
    read: Vec<u8>,
    written: Vec<u8>,
    status: u8,
    sense: Vec<u8>,
    under: Option<u32>,
}

/// The exchanges of each OX_ID, in their order.
fn recorded(frames: &[(Duration, &'static [u8])]) -> BTreeMap<u16, Vec<Recorded>> {
    let mut all: BTreeMap<u16, Vec<Recorded>> = BTreeMap::new();
    for (_, frame) in frames {
        let frame = caught(frame);
        if frame.ethertype != ETHERTYPE_FCOE || frame.header().fc_type != FcType::FCP {
            continue;
        }
        let header = frame.header();
        let of = all.entry(header.ox_id).or_default();
        match frame.unit() {
            Body::FcpCmnd(_) => of.push(Recorded::default()),
            Body::FcpData { data, .. } => {
                let it = of.last_mut().expect("a command before");
                let read = header.f_ctl.contains(FCtl::EXCHANGE_RESPONDER);
                if read { &mut it.read } else { &mut it.written }.extend_from_slice(data);
            }
            Body::FcpRsp(FcpRsp { status, sense, residual, .. }) => {
                let it = of.last_mut().expect("a command before");
                (it.status, it.sense) = (status, sense.to_vec());
                it.under = match residual {
                    crate::wire::fc::FcpResidual::Under(less) => Some(less),
                    _ => None,
                };
            }
            _ => {}
        }
    }
    all
}

/// What is compared of a frame of the target.
type Line = (String, Option<(FcId, FcId, u16, u8)>, u32, usize);

fn line(frame: &SentFrame) -> Line {
    if frame.ethertype == ETHERTYPE_FIP {
        return match frame.fip().message {
            FipMessage::Vn2Vn { message, port, .. } => {
                let name = format!("{message:?}");
                let name = name.split('(').next().unwrap().to_owned();
                (name, None, port.id.raw(), frame.body.len())
            }
            FipMessage::LinkService { els, .. } => {
                let name = match els.body {
                    FipElsBody::Request(request) => format!("FIP {}", request.code()),
                    FipElsBody::Reply(_) => format!("FIP {} answered", els.kind),
                };
                let FcHeader { d_id, s_id, ox_id, seq_id, .. } = els.header;
                (name, Some((d_id, s_id, ox_id, seq_id)), 0, frame.body.len())
            }
            other => panic!("{other:?}"),
        };
    }
    let FcHeader { r_ctl, d_id, s_id, ox_id, seq_id, parameter, .. } = frame.header();
    (format!("{r_ctl}"), Some((d_id, s_id, ox_id, seq_id)), parameter, frame.body.len())
}

/// By exchange, because two may go on at a time; those of FIP by what they are.
fn sorted(lines: impl IntoIterator<Item = Line>) -> BTreeMap<String, Vec<Line>> {
    let mut all: BTreeMap<String, Vec<Line>> = BTreeMap::new();
    for line in lines {
        let exchange = match line.1 {
            Some((_, _, ox_id, _)) if !line.0.starts_with("FIP") => format!("exchange {ox_id:04x}"),
            _ => line.0.clone(),
        };
        all.entry(exchange).or_default().push(line);
    }
    all
}

/// A target that answers as the captured one did.
struct Replay {
    rig: FcoeRig,
    recorded: BTreeMap<u16, Vec<Recorded>>,
    /// What is asked for by the commands that are there.
    open: BTreeMap<RequestTag, (FcpTransfer, Recorded)>,
    /// OX_ID and direction of commands that are coming.
    coming: Vec<(u16, FcpTransfer)>,
    sent: Vec<SentFrame>,
}

impl Replay {
    fn serve(&mut self) {
        loop {
            self.sent.extend(self.rig.catch());
            let Some(session) = self.rig.port.session(0) else { return };
            let Some(request) = session.poll_request() else { return };
            match request {
                Request::Command { request_tag, .. } => {
                    let (ox_id, transfer) = self.coming.remove(0);
                    let it = self.recorded.get_mut(&ox_id).expect("it was captured").remove(0);
                    if let FcpTransfer::Write(len) = transfer {
                        session.receive_data_out(request_tag, len);
                        self.open.insert(request_tag, (transfer, it));
                    } else {
                        let data = Sg::copied(&self.rig.arena, &it.read).expect("memory");
                        session.send_command_complete(request_tag, response(&it, data));
                    }
                }
                Request::DataOut { request_tag, data } => {
                    let (_, it) = self.open.remove(&request_tag).expect("it was asked for");
                    assert!(data.to_vec() == it.written, "not what was written");
                    session.send_command_complete(request_tag, response(&it, Sg::new()));
                }
                Request::TaskManagement { request, .. } => {
                    let (ox_id, _) = self.coming.remove(0);
                    self.recorded.get_mut(&ox_id).expect("it was captured").remove(0);
                    session.task_management_executed(request, TaskManagementResponse::Complete);
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

fn response(it: &Recorded, data: Sg) -> Response {
    let status = if it.status == 0 { Status::Good } else { Status::CheckCondition };
    Response {
        status,
        sense: EncodedSense::from_slice(&it.sense),
        data,
        residual_in: it.under.map_or(Residual::None, Residual::Underflow),
        residual_out: Residual::None,
    }
}

#[test]
fn the_captured_initiator_is_answered_as_it_was() {
    let frames = frames();
    let options = FcoePortOptions { identity: identity(TARGET), mtu: 2500, initiators: None };
    let mut replay = Replay {
        rig: FcoeRig::with(options),
        recorded: recorded(&frames),
        open: BTreeMap::new(),
        coming: Vec::new(),
        sent: Vec::new(),
    };
    let initiator = |frame: &SentFrame| frame.from.0[5] == 0x0a;
    let mut own: Vec<Line> = Vec::new();
    for (time, frame) in &frames {
        // The captured target had begun before the first frame.
        let until = Instant::ZERO + *time + millis(50);
        let sent = replay.rig.pass(until.since(replay.rig.now));
        replay.sent.extend(sent);
        let frame = caught(frame);
        if !initiator(&frame) {
            own.push(line(&frame));
            continue;
        }
        let mut body = frame.body.clone();
        if frame.ethertype == ETHERTYPE_FCOE {
            let mut fc = frame.fcoe();
            let header = &mut fc.header;
            if let Body::FcpCmnd(command) = frame.unit() {
                replay.coming.push((header.ox_id, command.transfer));
            }
            // Our name of an exchange may be another one than the captured target's, and that of our PLOGI is.
            match header.r_ctl {
                RCtl::FCP_DATA => header.rx_id = crate::wire::fc::UNASSIGNED_XID,
                RCtl::ELS_REPLY if frame.body.len() > 150 => {
                    let plogi = replay.sent.iter().find(|sent| {
                        sent.ethertype == ETHERTYPE_FCOE && sent.header().r_ctl == RCtl::ELS_REQUEST
                    });
                    header.ox_id = plogi.expect("a PLOGI was sent").header().ox_id;
                }
                _ => {}
            }
            body = written(&fc);
        }
        replay.rig.port.receive(
            replay.rig.now,
            ReceivedFrame { to: frame.to, from: frame.from, ethertype: frame.ethertype, body: &body },
        );
        replay.serve();
    }
    // The captured target was an initiator, too: its own PRLI and RTV, and that it logs in again after LOGO at once. It
    // has one number for the exchanges that it begins, where we have several.
    let begins = |line: &Line| line.0 == format!("{}", RCtl::ELS_REQUEST);
    let login = |lines: &[Line]| lines.iter().filter(|line| begins(line)).map(|line| line.3).max();
    let sent: Vec<Line> = replay.sent.iter().map(line).collect();
    assert_eq!(login(&own), login(&sent), "PLOGI");
    let rest = |lines: Vec<Line>| sorted(lines.into_iter().filter(|line| !begins(line)));
    let (mut expected, got) = (rest(own), rest(sent));
    expected.get_mut("FIP FLOGI").expect("two").pop();
    for kind in expected.keys() {
        let (expected, got) = (&expected[kind], got.get(kind).expect("some of the kind"));
        let differs = expected.iter().zip(got).find(|(expected, got)| expected != got);
        assert_eq!((differs, expected.len()), (None, got.len()), "{kind}");
    }
    assert_eq!(expected.len(), got.len());
    assert!(replay.recorded.values().all(Vec::is_empty) && replay.open.is_empty());
}

/// The frames of an input of the fuzz target.
fn input(name: &str) -> Vec<Vec<u8>> {
    let place = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("ci/fuzz/corpus/fcoe").join(name);
    let bytes = std::fs::read(place).expect("an input");
    let (mut rest, mut frames) = (&bytes[..], Vec::new());
    while let Some((len, data)) = rest.split_first_chunk() {
        let (frame, next) = data.split_at(u16::from_be_bytes(*len).into());
        frames.push(frame.to_vec());
        rest = next;
    }
    frames
}

/// The initiator's half with some bits changed, and a CRC that is right.
#[test]
fn frames_of_anybody_do_no_harm() {
    let (mut dice, mut all) = (Dice::new(1), FcoeCounters::default());
    for _ in 0..40 {
        let mut any = AnyFrames::new();
        input("login").iter().for_each(|frame| any.take(frame));
        for (_, frame) in frames().into_iter().filter(|(_, frame)| frame[11] == 0x0a) {
            let mut frame = frame[12..].to_vec();
            for _ in 0..below(&mut dice, 4) {
                let at = 2 + below(&mut dice, (frame.len() - 2).min(90));
                frame[at] ^= 1 << below(&mut dice, 8);
            }
            if one_in(&mut dice, 50) {
                frame.truncate(below(&mut dice, frame.len()));
            }
            any.take(&frame);
        }
        all.add(&any.end());
    }
    assert!(all.exchanges > 500 && all.bad_frames > 500 && all.stray_frames > 500, "{all:?}");
}

/// The corpus of the fuzz target begins where something happens.
#[test]
fn the_corpus_of_the_fuzz_target_goes_deep() {
    let run = |name: &str| {
        let mut any = AnyFrames::new();
        input(name).iter().for_each(|frame| any.take(frame));
        let FcoeCounters { fcp_logins, exchanges, aborts, bad_frames, .. } = any.end();
        (fcp_logins, exchanges, aborts, bad_frames)
    };
    assert_eq!(run("login"), (1, 0, 0, 0));
    // Others have the identifiers of tasks that have not ended.
    assert_eq!(run("commands"), (1, 8, 0, 0));
    assert_eq!(run("write"), (1, 1, 0, 0));
    assert_eq!(run("abort"), (1, 2, 2, 0));
    assert_eq!(run("leave").0, 3);
}
