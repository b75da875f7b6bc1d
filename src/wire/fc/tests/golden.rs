// SPDX-License-Identifier: GPL-2.0-or-later
//! The captured frames (`../golden/README.md`): each is read as deep as there are types, and written as it was.

use std::collections::{BTreeMap, HashMap};

use super::super::{
    Body, ETHERTYPE_FCOE, ETHERTYPE_FIP, ElsReply, ElsRequest, Eof, FCtl, FcHeader, FcId, FcoeFrame, FcpRsp,
    FcpServiceParameters, FipElsBody, FipFrame, FipMessage, MacAddress, Parse, Sof, Vn2VnMessage,
    WorldWideName,
};
use crate::wire::rewrite::written;

pub(super) const CAPTURE: &[u8] = include_bytes!("../golden/fcoe-vn2vn-mtu2500.pcap");

/// The Ethernet frames of the capture, a pcap file with its numbers in little-endian.
pub(super) fn frames() -> Vec<&'static [u8]> {
    let (header, mut rest) = CAPTURE.split_at(24);
    assert_eq!(header[..4], 0xa1b2_c3d4_u32.to_le_bytes());
    let mut frames = Vec::new();
    while let Some((record, data)) = rest.split_at_checked(16) {
        let [len, whole] =
            [8, 12].map(|at| u32::from_le_bytes(record[at..at + 4].try_into().expect("four bytes")));
        assert_eq!(len, whole, "a frame that was cut");
        let (frame, next) = data.split_at(len as usize);
        frames.push(frame);
        rest = next;
    }
    assert!(rest.is_empty());
    frames
}

fn ethertype(frame: &[u8]) -> u16 {
    u16::from_be_bytes([frame[12], frame[13]])
}

/// Requests that wait for their answer, by originator and OX_ID.
type OpenRequests = HashMap<(FcId, u16), super::super::ElsCode>;

fn request(waiting: &mut OpenRequests, header: &FcHeader, request: &ElsRequest<'_>) -> String {
    waiting.insert((header.s_id, header.ox_id), request.code());
    request.code().to_string()
}

fn reply(waiting: &mut OpenRequests, header: &FcHeader, payload: &[u8]) -> String {
    let code = waiting.remove(&(header.d_id, header.ox_id)).expect("an answer to something");
    let reply = ElsReply::parse(code, payload).expect("an answer");
    assert_eq!(written(&reply), payload);
    match reply {
        ElsReply::Other(_) => panic!("an answer that is not read"),
        ElsReply::Reject(reject) => format!("{code} rejected: {}", reject.reason),
        _ => format!("{code} accepted"),
    }
}

/// What a FIP frame is.
fn fip(bytes: &[u8], waiting: &mut OpenRequests) -> String {
    let fip = FipFrame::parse(bytes).expect("a FIP frame");
    let mut again = written(&fip);
    assert!(matches!(fip.message, FipMessage::Vn2Vn { .. }) || again.len() == bytes.len());
    again.resize(bytes.len(), 0);
    assert_eq!(again, bytes);
    match &fip.message {
        FipMessage::Vn2Vn { message, .. } => match message {
            Vn2VnMessage::ProbeRequest => "probe".into(),
            Vn2VnMessage::ClaimNotification(_) => "claim".into(),
            Vn2VnMessage::ClaimResponse(claim) => {
                assert_eq!(bytes.len(), usize::from(claim.max_fcoe_size));
                "claim response".into()
            }
            Vn2VnMessage::Beacon => "beacon".into(),
            Vn2VnMessage::ProbeReply => panic!("there is none"),
        },
        FipMessage::LinkService { els, .. } => match &els.body {
            FipElsBody::Request(body) => format!("FIP {}", request(waiting, &els.header, body)),
            FipElsBody::Reply(body) => format!("FIP {}", reply(waiting, &els.header, &written(body))),
        },
        other => panic!("{other:?}"),
    }
}

/// What an FCoE frame is.
fn fcoe(bytes: &[u8], waiting: &mut OpenRequests) -> String {
    let frame = FcoeFrame::parse(bytes).expect("an FCoE frame");
    let header = frame.header;
    let data = frame.data().expect("data");
    let body = Body::parse(&header, data).expect("something known");
    // From the typed parts alone.
    let mut payload = written(&body);
    payload.extend(std::iter::repeat_n(0, header.f_ctl.fill()));
    assert_eq!(written(&FcoeFrame { payload: &payload, ..frame }), bytes);
    let last = header.f_ctl.contains(FCtl::END_SEQUENCE);
    assert_eq!(frame.eof, if last { Eof::EOF_T } else { Eof::EOF_N });
    assert_eq!(frame.sof, if header.seq_cnt == 0 { Sof::SOF_I3 } else { Sof::SOF_N3 });
    match body {
        Body::ElsRequest(body) => request(waiting, &header, &body),
        Body::ElsReply(payload) => reply(waiting, &header, payload),
        Body::FcpCmnd(command) => match command.task_management {
            Some(function) => {
                assert!(function.is_one());
                format!("FCP_CMND {function}")
            }
            None => format!("FCP_CMND {:02x}", command.cdb[0]),
        },
        Body::FcpXferRdy(ready) => format!("FCP_XFER_RDY {}", ready.burst_len),
        Body::FcpData { .. } if header.f_ctl.contains(FCtl::EXCHANGE_RESPONDER) => "FCP_DATA in".into(),
        Body::FcpData { .. } => "FCP_DATA out".into(),
        Body::FcpRsp(FcpRsp { status, response: Some(code), .. }) => format!("FCP_RSP {status:02x} {code}"),
        Body::FcpRsp(FcpRsp { status, .. }) => format!("FCP_RSP {status:02x}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn all_frames_are_written_as_they_were() {
    let (mut kinds, mut waiting) = (BTreeMap::<String, usize>::new(), OpenRequests::new());
    let frames = frames();
    for frame in &frames {
        let kind = match ethertype(frame) {
            ETHERTYPE_FIP => fip(&frame[14..], &mut waiting),
            ETHERTYPE_FCOE => fcoe(&frame[14..], &mut waiting),
            other => panic!("ethertype {other:04x}"),
        };
        *kinds.entry(kind).or_default() += 1;
    }
    assert_eq!(frames.len(), 297);
    let expected = [
        ("ADISC", 1),
        ("ADISC accepted", 1),
        ("FCP_CMND 00", 5),
        ("FCP_CMND 12", 12),
        ("FCP_CMND 1a", 12),
        ("FCP_CMND 28", 8),
        ("FCP_CMND 2a", 2),
        ("FCP_CMND 9e", 4),
        ("FCP_CMND LOGICAL_UNIT_RESET", 1),
        ("FCP_CMND a0", 2),
        ("FCP_CMND a3", 2),
        ("FCP_DATA in", 106),
        ("FCP_DATA out", 64),
        ("FCP_RSP 00", 44),
        ("FCP_RSP 00 COMPLETE", 1),
        ("FCP_RSP 02", 3),
        ("FCP_XFER_RDY 65536", 2),
        ("FIP FLOGI", 2),
        ("FIP FLOGI accepted", 1),
        ("FIP LOGO", 1),
        ("FIP LOGO accepted", 1),
        ("PLOGI", 1),
        ("PLOGI accepted", 1),
        ("PRLI", 2),
        ("PRLI accepted", 2),
        ("RTV", 2),
        ("RTV accepted", 2),
        ("beacon", 5),
        ("claim", 2),
        ("claim response", 1),
        ("probe", 4),
    ];
    let kinds: Vec<_> = kinds.iter().map(|(kind, count)| (kind.as_str(), *count)).collect();
    assert_eq!(kinds, expected);
    // The capture ends with a FLOGI.
    assert_eq!(waiting.len(), 1);
}

/// What is read is what was there: the roles of both ports, as `tshark` and the rig that was captured tell them.
#[test]
fn what_is_read_is_what_was_sent() {
    let frames = frames();
    let name = |text: &str| text.parse::<WorldWideName>().expect("a name");
    let FipMessage::Vn2Vn { message: Vn2VnMessage::ClaimNotification(claim), mac, name: node, port } =
        FipFrame::parse(&frames[2][14..]).expect("a claim").message
    else {
        panic!("frame 3 is a claim")
    };
    assert_eq!((mac, node), (MacAddress([2, 0xfc, 0, 0, 0, 0xb]), name("10:00:02:fc:00:00:00:0b")));
    assert_eq!((port.mac, port.id), (MacAddress([0xe, 0xfd, 0, 0, 0, 0xb]), FcId::new(0xb)));
    assert_eq!((port.port_name, claim.max_fcoe_size), (name("20:00:02:fc:00:00:00:0b"), 2158));
    let types = [8, 0x20].map(super::super::FcType::new);
    assert!(types.iter().all(|&fc_type| claim.attributes.types.has(fc_type)));
    assert_eq!(claim.attributes.features.of(types[0]), 3);

    let body = |number: usize| {
        let frame = FcoeFrame::parse(&frames[number - 1][14..]).expect("an FCoE frame");
        Body::parse(&frame.header, frame.data().expect("data")).expect("something known")
    };
    let Body::ElsRequest(ElsRequest::Plogi(login)) = body(13) else { panic!("frame 13 is a PLOGI") };
    assert_eq!((login.receive_size.legal(), login.class_3.receive_size.bytes()), (Some(2112), 2112));
    assert_eq!((login.word.total_sequences(), login.word.offset_categories()), (0xff, 0x1f));
    assert_eq!((login.e_d_tov, login.credit, login.class_3.open_sequences), (2000, 10, 1));
    let own = super::super::LoginParameters::plogi(login.port_name, login.node_name, 2112, 2000);
    assert_eq!(own, login);
    let Body::ElsRequest(ElsRequest::Prli(prli)) = body(15) else { panic!("frame 15 is a PRLI") };
    let roles = FcpServiceParameters::INITIATOR.with(FcpServiceParameters::RETRY);
    assert!(prli.0.parameters.contains(roles) && !prli.0.parameters.contains(FcpServiceParameters::TARGET));
    let Body::ElsReply(payload) = body(17) else { panic!("frame 17 answers it") };
    let Ok(ElsReply::Prli(accept)) = ElsReply::parse(super::super::ElsCode::PRLI, payload) else {
        panic!("LS_ACC")
    };
    assert_eq!(accept.0.flags.response(), super::super::PageResponse::EXECUTED);
    let Body::FcpRsp(response) = body(45) else { panic!("frame 45 is an FCP_RSP") };
    assert_eq!((response.status, response.sense.len(), response.sense[2]), (2, 96, 6));
    assert_eq!((response.sense[12], response.sense[13]), (0x3f, 0x0e));
}
