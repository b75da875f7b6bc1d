// SPDX-License-Identifier: GPL-2.0-or-later
//! What the capture has none of, laid out by hand after the standards.

use super::super::*;
use crate::wire::AdditionalCdb;
use crate::wire::rewrite::written;

const MAC: MacAddress = MacAddress([0x02, 0xfc, 0, 0, 0, 0x0a]);
const PORT: WorldWideName = WorldWideName::new([0x20, 0, 2, 0xfc, 0, 0, 0, 0xa]);
const NODE: WorldWideName = WorldWideName::new([0x10, 0, 2, 0xfc, 0, 0, 0, 0xa]);
const ID: FcId = FcId::new(0x01_0203);
const OTHER_ID: FcId = FcId::new(0x04_0506);
const VX_PORT: VxPort = VxPort { mac: MAC, id: ID, port_name: PORT };

/// Bytes from hex digits, with spaces where the reader wants them.
fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let pairs = digits.chunks(2).map(|pair| std::str::from_utf8(pair).expect("ASCII"));
    pairs.map(|pair| u8::from_str_radix(pair, 16).expect("hex")).collect()
}

/// The value is written as these bytes, which read as it.
macro_rules! vector {
    ($parse:expr, $value:expr, $bytes:expr) => {
        let (bytes, value) = (hex($bytes), $value);
        assert_eq!(written(&value), bytes, "{value:?}");
        assert_eq!($parse(&bytes).as_ref(), Ok(&value));
    };
}

#[test]
fn basic_link_services() {
    vector!(BaAcc::parse, BaAcc::exchange(0x1234, 0x5678, true), "00 00 0000 1234 5678 0000 ffff");
    vector!(BaAcc::parse, BaAcc::exchange(0x1234, 0x5678, false), "00 00 0000 1234 5678 0000 0000");
    assert!(BaAcc::exchange(1, 2, true).has_recovery_qualifier());
    assert!(!BaAcc::exchange(1, 2, false).has_recovery_qualifier());
    let reject = BaRjt {
        reason: BaRjtReason::LOGICAL_ERROR,
        explanation: BaRjtExplanation::INVALID_OX_ID_RX_ID,
        vendor: 0,
    };
    vector!(BaRjt::parse, reject, "00 03 03 00");
    let mut abts = FcHeader::request(RCtl::ABTS, FcType::BLS, ID, OTHER_ID, 7);
    for scope in [AbtsScope::Exchange, AbtsScope::Sequence] {
        abts.parameter = scope.parameter();
        assert_eq!(AbtsScope::of(&abts), scope);
    }
    // What Linux sends and takes (F_CTL 290000 and 980000).
    vector!(
        FcHeader::parse,
        FcHeader::request(RCtl::ELS_REQUEST, FcType::ELS, ID, OTHER_ID, 7),
        "22 040506 00 010203 01 290000 00 00 0000 0007 ffff 00000000"
    );
    let reply = FcHeader { rx_id: 8, ..abts }.reply(RCtl::BA_ACC);
    vector!(FcHeader::parse, reply, "84 010203 00 040506 00 980000 00 00 0000 0007 0008 00000000");
}

#[test]
fn extended_link_services() {
    let exchange = ExchangeId { originator: ID, ox_id: 0x1234, rx_id: 0xffff };
    vector!(ElsRequest::parse, ElsRequest::Rrq(exchange), "12000000 00010203 1234 ffff");
    vector!(ElsRequest::parse, ElsRequest::Rec(exchange), "13000000 00010203 1234 ffff");
    let srr = Srr { ox_id: 0x1234, rx_id: 0x5678, relative_offset: 0x800, r_ctl: RCtl::FCP_RSP };
    vector!(ElsRequest::parse, ElsRequest::Srr(srr), "14000000 1234 5678 00000800 07 000000");
    vector!(ElsRequest::parse, ElsRequest::Rls(Rls { port_id: ID }), "0f000000 00010203");
    vector!(ElsRequest::parse, ElsRequest::Scr(Scr { function: ScrFunction::FULL }), "62000000 00000003");
    vector!(
        ElsRequest::parse,
        ElsRequest::Rnid(Rnid { format: RnidFormat::GENERAL_TOPOLOGY }),
        "78000000 df000000"
    );
    vector!(ElsRequest::parse, ElsRequest::Echo(Echo(b"abc")), "10000000 616263");
    let logo = Logo { n_port_id: ID, port_name: PORT };
    vector!(ElsRequest::parse, ElsRequest::Logo(logo), "05000000 00010203 200002fc0000000a");
    let pages = [
        RscnPage { event: 0, format: AddressFormat::PORT, id: ID },
        RscnPage { event: 2, format: AddressFormat::FABRIC, id: FcId::UNASSIGNED },
    ];
    let rscn = Rscn::new(&pages).expect("two pages");
    vector!(ElsRequest::parse, ElsRequest::Rscn(rscn), "61 04 000c 00 010203 0b 000000");
    let parameters = FcpServiceParameters::TARGET.with(FcpServiceParameters::READ_XFER_RDY_DISABLED);
    let page = ServicePage::fcp(PageFlags::ESTABLISH_IMAGE_PAIR, parameters);
    vector!(
        ElsRequest::parse,
        ElsRequest::Prli(ProcessLogin(page)),
        "20 10 0014 08 00 2000 00000000 00000000 00000012"
    );
    let out = ServicePage::fcp(PageFlags::default(), FcpServiceParameters::default());
    vector!(
        ElsRequest::parse,
        ElsRequest::Prlo(ProcessLogin(out)),
        "21 10 0014 08 00 0000 00000000 00000000 00000000"
    );
    let third = ThirdPartyPage {
        fc_type: FcType::FCP,
        type_extension: 0,
        flags: PageFlags::THIRD_PARTY_N_PORT_ID,
        originator_associator: 0,
        responder_associator: 0,
        n_port_id: ID,
    };
    vector!(
        ElsRequest::parse,
        ElsRequest::Tprlo(ProcessLogin(third)),
        "24 10 0014 08 00 2000 00000000 00000000 00010203"
    );
}

#[test]
fn answers_of_extended_link_services() {
    let reject = LsRjt::new(LsRjtReason::UNABLE_TO_PERFORM, LsRjtExplanation::PLOGI_REQUIRED);
    vector!(|bytes| ElsReply::parse(ElsCode::PRLI, bytes), ElsReply::Reject(reject), "01000000 00 09 1e 00");
    let page = ServicePage::fcp(
        PageFlags::ESTABLISH_IMAGE_PAIR.with_response(PageResponse::PRECLUDED),
        FcpServiceParameters::TARGET,
    );
    vector!(
        |bytes| ElsReply::parse(ElsCode::PRLI, bytes),
        ElsReply::Prli(ProcessLogin(page)),
        "02 10 0014 08 00 2500 00000000 00000000 00000010"
    );
    let rec = RecAcc {
        ox_id: 0x1234,
        rx_id: 0x5678,
        originator: ID,
        responder: OTHER_ID,
        fc4_value: 0x1_0000,
        status: ExchangeStatus::RESPONDER.with(ExchangeStatus::SEQUENCE_INITIATIVE),
    };
    vector!(
        |bytes| ElsReply::parse(ElsCode::REC, bytes),
        ElsReply::Rec(rec),
        "02000000 1234 5678 00010203 00040506 00010000 c0000000"
    );
    let errors = RlsAcc {
        link_failures: 1,
        virtual_link_failures: 2,
        missed_advertisements: 3,
        symbol_errors: 4,
        errored_blocks: 5,
        fcs_errors: 6,
    };
    vector!(
        |bytes| ElsReply::parse(ElsCode::RLS, bytes),
        ElsReply::Rls(errors),
        "02000000 00000001 00000002 00000003 00000004 00000005 00000006"
    );
    let names = RnidAcc { names: Some((PORT, NODE)), topology: None };
    vector!(
        |bytes| ElsReply::parse(ElsCode::RNID, bytes),
        ElsReply::Rnid(names),
        "02000000 00 10 00 00 200002fc0000000a 100002fc0000000a"
    );
    let timeouts = RtvAcc { r_a_tov: 10_000, e_d_tov: 2000, qualifier: TimeoutQualifier::default() };
    vector!(
        |bytes| ElsReply::parse(ElsCode::RTV, bytes),
        ElsReply::Rtv(timeouts),
        "02000000 00002710 000007d0 00000000"
    );
    assert_eq!(
        ElsReply::parse(ElsCode::PLOGI, &[3; 116]).map_err(|e| e.to_string()),
        Err("ELS reply: code must not be 0x3".into())
    );
}

#[test]
fn what_is_wrong_is_named() {
    let request = |text: &str| ElsRequest::parse(&hex(text)).expect_err("it is wrong").to_string();
    assert_eq!(request(""), "ELS: code ends at byte 1 of 0");
    assert_eq!(request("62000000 0000"), "SCR: function ends at byte 8 of 6");
    assert_eq!(request("05000000 00010203 2000"), "LOGO: port_name ends at byte 16 of 10");
    assert_eq!(request("61 08 000c 00 010203 0b 000000"), "RSCN: page length must not be 0x8");
    assert_eq!(request("61 04 0005 00 010203 0b 000000"), "RSCN: payload length must not be 0x5");
    assert_eq!(request("61 04 0004 00 010203 0b 000000"), "RSCN: payload length must not be 0x4");
    assert_eq!(
        request("61 04 0010 00 010203 0b 000000"),
        "RSCN: affected port ID page ends at byte 16 of 12"
    );
    assert_eq!(request("20 14 0018 08002000"), "PRLI, PRLO or TPRLO: page length must not be 0x14");
    assert_eq!(request("20 10 0024 08002000"), "PRLI, PRLO or TPRLO: payload length must not be 0x24");
    assert_eq!(request("20 10 0014 08002000"), "PRLI, PRLO or TPRLO: page ends at byte 20 of 8");
    let response = |text: &str| FcpRsp::parse(&hex(text)).expect_err("it is wrong").to_string();
    let of = |flags: &str, lengths: &str| format!("0000000000000000 0000 {flags} 00 00000000 {lengths}");
    assert_eq!(response("00"), "FCP_RSP: FCP_RSP_LEN ends at byte 24 of 1");
    assert_eq!(response(&of("01", "00000000 00000005")), "FCP_RSP: FCP_RSP_LEN must not be 0x5");
    assert_eq!(response(&of("01", "00000000 00000008")), "FCP_RSP: FCP_RSP_INFO ends at byte 32 of 24");
    assert_eq!(
        response(&of("02", "ffffffff 00000000")),
        "FCP_RSP: FCP_SNS_INFO ends at byte 4294967319 of 24"
    );
    assert_eq!(
        response(&of("80", "00000000 00000000")),
        "FCP_RSP: FCP_BIDIRECTIONAL_READ_RESID ends at byte 28 of 24"
    );
    assert_eq!(response(&of("0c", "00000000 00000000")), "FCP_RSP: flags must not be 0xc");
    let command = |text: &str| FcpCmnd::parse(&hex(text)).expect_err("it is wrong").to_string();
    let cdb = "12000000000000000000000000000000";
    assert_eq!(command("00"), "FCP_CMND: FCP_CDB ends at byte 28 of 1");
    let short = command(&format!("0000000000000000 00 00 00 10 {cdb} 00000000"));
    assert_eq!(short, "FCP_CMND: ADDITIONAL_FCP_CDB ends at byte 44 of 32");
    assert_eq!(
        command(&format!("0000000000000000 00 00 00 01 {cdb}")),
        "FCP_CMND: FCP_DL ends at byte 32 of 28"
    );
    assert_eq!(
        command(&format!("0000000000000000 00 00 00 03 {cdb} 00000000")),
        "FCP_CMND: FCP_BIDIRECTIONAL_READ_DL ends at byte 36 of 32"
    );
}

#[test]
fn fcp() {
    let mut cdb = [0; 16];
    cdb[0] = 0x7f;
    let long = [1, 2, 3, 4, 5, 6, 7, 8];
    let command = FcpCmnd {
        lun: 0x0001_0000_0000_0000,
        crn: 9,
        priority: 5,
        attribute: FcpTaskAttribute::ORDERED,
        task_management: None,
        transfer: FcpTransfer::Bidirectional { write: 0x1000, read: 0x200 },
        cdb,
        additional_cdb: AdditionalCdb::new(&long).expect("two words"),
    };
    vector!(
        FcpCmnd::parse,
        command,
        "0001000000000000 09 2a 00 0b 7f000000000000000000000000000000 0102030405060708 00001000 00000200"
    );
    assert_eq!(AdditionalCdb::new(&long[..7]), None);
    assert_eq!(AdditionalCdb::new(&[0; 256]), None);
    let two = FcpTaskManagement::new(0x12);
    assert!(!two.is_one() && FcpTaskManagement::CLEAR_ACA.is_one());
    let response = FcpRsp {
        status_qualifier: 0x1234,
        status: 2,
        residual: FcpResidual::Under(0x10),
        bidirectional: Some(FcpResidual::Over(0x20)),
        confirm: true,
        response: Some(RspCode::DATA_LENGTH_DIFFERS),
        sense: &long[..3],
    };
    vector!(
        FcpRsp::parse,
        response,
        "0000000000000000 1234 bb 02 00000010 00000003 00000008 00000001 00000000 010203 00000020"
    );
    // Four bytes of FCP_RSP_INFO are as good as eight, and read the same.
    let four = hex("0000000000000000 0000 01 00 00000000 00000000 00000004 00000009");
    assert_eq!(FcpRsp::parse(&four).map(|read| read.response), Ok(Some(RspCode::INCORRECT_LUN)));
    let ready = FcpXferRdy { relative_offset: 0x1_0000, burst_len: 0x2000 };
    vector!(FcpXferRdy::parse, ready, "00010000 00002000 00000000");
}

#[test]
fn name_server() {
    let header = CtHeader::name_server(CtCommand::RFT_ID);
    vector!(CtHeader::parse, header, "01 000000 fc 02 00 00 0217 0000 00 00 00 00");
    let reject = CtHeader::reject(CtReason::UNABLE_TO_PERFORM, CtExplanation::FC4_TYPES_NOT_REGISTERED);
    vector!(CtHeader::parse, reject, "01 000000 fc 02 00 00 8001 0000 00 09 07 00");
    let of = |command: CtCommand| move |bytes| CtRequest::parse(command, bytes);
    let register = RegisterName { id: ID, name: NODE };
    vector!(of(CtCommand::RNN_ID), CtRequest::RnnId(register), "00010203 100002fc0000000a");
    let types = RegisterTypes { id: ID, types: Fc4Types::default().with(FcType::FCP) };
    vector!(
        of(CtCommand::RFT_ID),
        CtRequest::RftId(types),
        "00010203 00000100 00000000 00000000 00000000 00000000 00000000 00000000 00000000"
    );
    let features = RegisterFeatures { id: ID, features: Fc4Features::TARGET, fc_type: FcType::FCP };
    vector!(of(CtCommand::RFF_ID), CtRequest::RffId(features), "00010203 0000 01 08");
    let port = RegisterSymbolicName { key: PortId { id: ID }, name: SymbolicName::new(b"port") };
    vector!(of(CtCommand::RSPN_ID), CtRequest::RspnId(port), "00010203 04 706f7274");
    let node = RegisterSymbolicName { key: NODE, name: SymbolicName::new(b"node") };
    vector!(of(CtCommand::RSNN_NN), CtRequest::RsnnNn(node), "100002fc0000000a 04 6e6f6465");
    let classes = RegisterClasses { id: ID, classes: 8 };
    vector!(of(CtCommand::RCS_ID), CtRequest::RcsId(classes), "00010203 00000008");
    let ports = PortsWithType { domain: 1, area: 2, fc_type: FcType::FCP };
    vector!(of(CtCommand::GPN_FT), CtRequest::GpnFt(ports), "00 01 02 08");
    vector!(of(CtCommand::GID_PN), CtRequest::GidPn(NameObject { name: PORT }), "200002fc0000000a");
    vector!(of(CtCommand::GPN_ID), CtRequest::GpnId(PortId { id: ID }), "00010203");
    assert_eq!(
        CtRequest::parse(CtCommand::RSPN_ID, &hex("00010203 05 706f7274")).map_err(|e| e.to_string()),
        Err("RSPN_ID or RSNN_NN: name ends at byte 10 of 9".into())
    );
    assert_eq!(SymbolicName::new(&[7; 300]).bytes().len(), 255);

    let names = [ListedPort { id: ID, name: PORT }, ListedPort { id: OTHER_ID, name: NODE }];
    let names = PortList::new(&names).expect("two ports");
    vector!(
        |bytes| CtAccept::parse(CtCommand::GPN_FT, bytes),
        CtAccept::PortNames(names),
        "00010203 00000000 200002fc0000000a 80040506 00000000 100002fc0000000a"
    );
    let ids = PortList::new(&[ListedPort { id: ID, name: () }]).expect("a port");
    vector!(|bytes| CtAccept::parse(CtCommand::GID_FT, bytes), CtAccept::PortIds(ids), "80010203");
}

/// A FIP message: what it is, and its bytes.
fn fip(flags: FipFlags, message: FipMessage<'_>, bytes: &str) {
    vector!(FipFrame::parse, FipFrame { flags, message: message.clone() }, bytes);
}

#[test]
fn fip_of_fabrics() {
    let map = FcMap::DEFAULT;
    fip(
        FipFlags::FPMA,
        FipMessage::Solicitation { mac: MAC, name: NODE, max_fcoe_size: 2158 },
        "1000 0001 00 01 0006 8000  02 02 02fc0000000a  04 03 0000 100002fc0000000a  06 01 086e",
    );
    fip(
        FipFlags::FPMA.with(FipFlags::AVAILABLE).with(FipFlags::FCF).with(FipFlags::SOLICITED),
        FipMessage::Advertisement {
            priority: 128,
            mac: MAC,
            name: NODE,
            fabric: FabricDescriptor { vf_id: 0x12, fc_map: map, name: PORT },
            period: FkaAdvPeriod { flags: 1, period: 8000 },
        },
        "1000 0001 00 02 000c 8007  01 01 00 80  02 02 02fc0000000a  04 03 0000 100002fc0000000a
         05 04 0012 00 0efc00 200002fc0000000a  0c 02 00 01 00001f40",
    );
    fip(
        FipFlags::FPMA,
        FipMessage::KeepAlive { mac: MAC, port: Some(VX_PORT) },
        "1000 0003 00 01 0007 8000  02 02 02fc0000000a  0b 05 02fc0000000a 00 010203 200002fc0000000a",
    );
    fip(
        FipFlags::default(),
        FipMessage::ClearVirtualLinks { mac: MAC, name: NODE, ports: [VX_PORT].as_slice().into() },
        "1000 0003 00 02 000a 0000  02 02 02fc0000000a  04 03 0000 100002fc0000000a
         0b 05 02fc0000000a 00 010203 200002fc0000000a",
    );
    fip(
        FipFlags::default(),
        FipMessage::VlanRequest { mac: MAC, name: None },
        "1000 0004 00 01 0002 0000  02 02 02fc0000000a",
    );
    fip(
        FipFlags::default(),
        FipMessage::VlanNotification { vn2vn: false, mac: MAC, vlans: [0, 0xabc].as_slice().into() },
        "1000 0004 00 02 0004 0000  02 02 02fc0000000a  0e 01 0000  0e 01 0abc",
    );
    let header = FcHeader::request(RCtl::ELS_REQUEST, FcType::ELS, FcId::F_PORT, ID, 7);
    let reject = LsRjt::new(LsRjtReason::FIP_ERROR, LsRjtExplanation::FIP_NOT_A_NEIGHBOUR);
    let els = FipEls {
        kind: FipDescriptorType::FDISC,
        header: header.reply(RCtl::ELS_REPLY),
        body: FipElsBody::Reply(ElsReply::Reject(reject)),
    };
    fip(
        FipFlags::FPMA,
        FipMessage::LinkService { els, mac: Some(MAC), fcoe_mac: Some(MacAddress::ALL_ENODE) },
        "1000 0002 00 02 000d 8000  08 09 0000  23 fffffe 00 010203 01 980000 00 00 0000 0007 ffff 00000000
         01000000 00 20 62 00  02 02 02fc0000000a  02 02 011018010001",
    );
}

/// Descriptors that are wrong, and what is said of that.
#[test]
fn descriptors_are_refused_by_name() {
    let fine = FipFrame { flags: FipFlags::FPMA, message: FipMessage::KeepAlive { mac: MAC, port: None } };
    let says = |descriptors: &str| {
        let descriptors = hex(descriptors);
        let words = u16::try_from(descriptors.len() / 4).expect("short");
        let mut bytes = hex("1000 0003 00 01 0000 8000");
        bytes[6..8].copy_from_slice(&words.to_be_bytes());
        bytes.extend(descriptors);
        FipFrame::parse(&bytes).map(|read| assert_eq!(read, fine)).map_err(|e| e.to_string())
    };
    let good = "02 02 02fc0000000a";
    assert_eq!(says(good), Ok(()));
    // What is not critical is skipped, whatever it is; what is critical is not.
    for kind in 128..=255 {
        assert_eq!(says(&format!("{kind:02x} 02 010203040506 {good}")), Ok(()));
    }
    for kind in 0..128 {
        let said = says(&format!("{kind:02x} 02 010203040506 {good}")).expect_err("it is critical");
        let known = (1..=15).contains(&kind) && kind != FipDescriptorType::ELP.raw();
        assert!(known || said == format!("FIP descriptor: type must not be {kind:#x}"), "{kind}: {said}");
    }
    for (descriptors, expected) in [
        (&*format!("{good} {good}"), "FIP Keep Alive: FIP MAC Address descriptor is repeated"),
        ("", "FIP Keep Alive: FIP MAC Address descriptor is missing"),
        ("02 00 02fc0000000a", "FIP descriptor: length must not be 0x0"),
        ("02 03 02fc0000000a", "FIP descriptor: length ends at byte 12 of 8"),
        ("80 00 0000", "FIP descriptor: length must not be 0x0"),
        ("02 01 02fc", "FIP MAC Address descriptor: length must not be 0x1"),
        ("02 03 02fc0000000a 00000000", "FIP MAC Address descriptor: length must not be 0x3"),
        ("01 01 00 80", "FIP Keep Alive: descriptor type must not be 0x1"),
        ("7f 01 0000", "FIP descriptor: type must not be 0x7f"),
    ] {
        assert_eq!(says(descriptors), Err(expected.to_owned()), "{descriptors}");
    }
    let frame = |text: &str| FipFrame::parse(&hex(text)).map(drop).map_err(|e| e.to_string());
    let err = |text: &str| Err(text.to_owned());
    assert_eq!(frame("1000 0003"), err("FIP message: subcode ends at byte 6 of 4"));
    assert_eq!(frame("2000 0003 00 01 0000 8000"), err("FIP message: version must not be 0x2"));
    assert_eq!(
        frame("1000 0003 00 03 0000 8000"),
        err("FIP message: operation and subcode must not be 0x303")
    );
    assert_eq!(frame("1000 0003 00 01 0001 8000"), err("FIP message: descriptor list ends at byte 14 of 10"));
    assert_eq!(
        frame("1000 0004 00 02 0002 0000  02 02 02fc0000000a"),
        err("FIP VLAN Notification: FIP VLAN descriptor is missing")
    );
    assert_eq!(
        frame("1000 0002 00 01 0000 8000"),
        err("FIP Virtual Link message: ELS descriptor is missing")
    );
    let logo_acc = "09 08 0000  23 fffffe 00 010203 01 980000 00 00 0000 0007 ffff 00000000 02000000";
    assert!(frame(&format!("1000 0002 00 02 0008 8000 {logo_acc}")).is_ok());
    assert_eq!(
        frame(&format!("1000 0002 00 01 0008 8000 {logo_acc}")),
        err("FIP Virtual Link message: subcode must not be 0x1")
    );
}
