// SPDX-License-Identifier: GPL-2.0-or-later
//! Values at random, which read as they were written, and bytes at random, which are read or refused.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::super::field::Field;
use super::super::rewrite::rewrite;
use super::super::*;
use super::golden::{CAPTURE, frames};
use crate::wire::AdditionalCdb;
use crate::wire::rewrite::written;

/// All values that a field can have.
fn field<T: Field + std::fmt::Debug>() -> impl Strategy<Value = T> {
    vec(any::<u8>(), T::LEN).prop_map(|bytes| T::get(&bytes))
}

/// Bytes of the capture, which are as good as any.
fn bytes(len: usize) -> impl Strategy<Value = &'static [u8]> {
    (0..CAPTURE.len() - len, 0..=len).prop_map(|(at, len)| &CAPTURE[at..at + len])
}

fn words(len: usize) -> impl Strategy<Value = &'static [u8]> {
    bytes(len).prop_map(|bytes| &bytes[..bytes.len() & !3])
}

fn residual() -> impl Strategy<Value = FcpResidual> {
    prop_oneof![
        Just(FcpResidual::None),
        any::<u32>().prop_map(FcpResidual::Under),
        any::<u32>().prop_map(FcpResidual::Over),
    ]
}

prop_compose! {
    fn response()(
        (status_qualifier, status, confirm) in any::<(u16, u8, bool)>(),
        (residual, bidirectional) in (residual(), option::of(residual())),
        response in option::of(field::<RspCode>()),
        sense in bytes(252),
    ) -> FcpRsp<'static> {
        FcpRsp { status_qualifier, status, residual, bidirectional, confirm, response, sense }
    }
}

fn transfer() -> impl Strategy<Value = FcpTransfer> {
    prop_oneof![
        Just(FcpTransfer::None),
        any::<u32>().prop_map(FcpTransfer::Read),
        any::<u32>().prop_map(FcpTransfer::Write),
        any::<(u32, u32)>().prop_map(|(write, read)| FcpTransfer::Bidirectional { write, read }),
    ]
}

prop_compose! {
    fn command()(
        (lun, crn, cdb) in any::<(u64, u8, [u8; 16])>(),
        priority in 0..16_u8,
        attribute in (0..8_u8).prop_map(FcpTaskAttribute::new),
        task_management in option::of((1..=255_u8).prop_map(FcpTaskManagement::new)),
        transfer in transfer(),
        additional in words(AdditionalCdb::LEN_MAX),
    ) -> FcpCmnd<'static> {
        let additional_cdb = AdditionalCdb::new(additional).expect("whole words");
        FcpCmnd { lun, crn, priority, attribute, task_management, transfer, cdb, additional_cdb }
    }
}

fn rscn() -> impl Strategy<Value = Rscn> {
    vec(field(), 1..=Rscn::PAGES_MAX).prop_map(|pages| Rscn::new(&pages).expect("so many pages"))
}

fn els_request() -> impl Strategy<Value = ElsRequest<'static>> {
    prop_oneof![
        field().prop_map(ElsRequest::Plogi),
        field().prop_map(ElsRequest::Flogi),
        field().prop_map(ElsRequest::Fdisc),
        field().prop_map(ElsRequest::Pdisc),
        field().prop_map(ElsRequest::Logo),
        field().prop_map(ElsRequest::Adisc),
        field().prop_map(|page| ElsRequest::Prli(ProcessLogin(page))),
        field().prop_map(|page| ElsRequest::Prlo(ProcessLogin(page))),
        field().prop_map(|page| ElsRequest::Tprlo(ProcessLogin(page))),
        Just(ElsRequest::Rtv(ElsEmpty)),
        field().prop_map(ElsRequest::Rls),
        field().prop_map(ElsRequest::Rrq),
        field().prop_map(ElsRequest::Rec),
        field().prop_map(ElsRequest::Srr),
        bytes(300).prop_map(|data| ElsRequest::Echo(Echo(data))),
        bytes(300).prop_map(|data| ElsRequest::Test(Echo(data))),
        field().prop_map(ElsRequest::Rnid),
        field().prop_map(ElsRequest::Scr),
        rscn().prop_map(ElsRequest::Rscn),
        Just(ElsRequest::Other(ElsCode::RDP, &[0x18, 1, 2, 3])),
    ]
}

/// An answer and what was asked for.
fn els_reply() -> impl Strategy<Value = (ElsCode, ElsReply<'static>)> {
    let rnid = (option::of((field(), field())), option::of(field()));
    let rnid = rnid.prop_map(|(names, topology)| ElsReply::Rnid(RnidAcc { names, topology }));
    let login = [ElsCode::PLOGI, ElsCode::FLOGI, ElsCode::FDISC, ElsCode::PDISC];
    let empty = [ElsCode::LOGO, ElsCode::RRQ, ElsCode::SRR, ElsCode::SCR, ElsCode::RSCN];
    let select = proptest::sample::select::<ElsCode>;
    prop_oneof![
        (field(), field().prop_map(ElsReply::Reject)),
        (select(login.to_vec()), field().prop_map(ElsReply::Login)),
        (
            select(vec![ElsCode::PRLI, ElsCode::PRLO]),
            field().prop_map(|page| ElsReply::Prli(ProcessLogin(page)))
        ),
        (Just(ElsCode::TPRLO), field().prop_map(|page| ElsReply::Tprlo(ProcessLogin(page)))),
        (Just(ElsCode::ADISC), field().prop_map(ElsReply::Adisc)),
        (Just(ElsCode::RTV), field().prop_map(ElsReply::Rtv)),
        (Just(ElsCode::RLS), field().prop_map(ElsReply::Rls)),
        (Just(ElsCode::REC), field().prop_map(ElsReply::Rec)),
        (Just(ElsCode::ECHO), bytes(300).prop_map(|data| ElsReply::Echo(Echo(data)))),
        (Just(ElsCode::RNID), rnid),
        (select(empty.to_vec()), Just(ElsReply::Accept(ElsEmpty))),
        (Just(ElsCode::RDP), Just(ElsReply::Other(&[2, 1, 2, 3]))),
    ]
}

fn symbolic<K: Field + std::fmt::Debug>() -> impl Strategy<Value = RegisterSymbolicName<'static, K>> {
    (field(), bytes(255)).prop_map(|(key, name)| RegisterSymbolicName { key, name: SymbolicName::new(name) })
}

fn ct_request() -> impl Strategy<Value = CtRequest<'static>> {
    prop_oneof![
        field().prop_map(CtRequest::GaNxt),
        field().prop_map(CtRequest::GpnId),
        field().prop_map(CtRequest::GnnId),
        field().prop_map(CtRequest::GffId),
        field().prop_map(CtRequest::GidPn),
        field().prop_map(CtRequest::GidFt),
        field().prop_map(CtRequest::GpnFt),
        field().prop_map(CtRequest::GidPt),
        field().prop_map(CtRequest::RpnId),
        field().prop_map(CtRequest::RnnId),
        field().prop_map(CtRequest::RcsId),
        field().prop_map(CtRequest::RftId),
        symbolic().prop_map(CtRequest::RspnId),
        field().prop_map(CtRequest::RffId),
        symbolic().prop_map(CtRequest::RsnnNn),
        field().prop_map(CtRequest::DaId),
        bytes(40).prop_map(|bytes| CtRequest::Other(CtCommand::new(0x199), bytes)),
    ]
}

fn ports<N: ListedName + std::fmt::Debug + 'static>(
    name: impl Strategy<Value = N>,
) -> impl Strategy<Value = PortList<N>> {
    let port = (field(), name).prop_map(|(id, name)| ListedPort { id, name });
    vec(port, 1..200).prop_map(|ports| PortList::new(&ports).expect("at least one"))
}

fn ct_accept() -> impl Strategy<Value = (CtCommand, CtAccept<'static>)> {
    prop_oneof![
        (Just(CtCommand::RFT_ID), Just(CtAccept::Registered)),
        (Just(CtCommand::GID_PN), field().prop_map(CtAccept::PortId)),
        (Just(CtCommand::GNN_ID), field().prop_map(CtAccept::Name)),
        (Just(CtCommand::GFF_ID), field().prop_map(CtAccept::Features)),
        (Just(CtCommand::GID_FT), ports(Just(())).prop_map(CtAccept::PortIds)),
        (Just(CtCommand::GPN_FT), ports(field()).prop_map(CtAccept::PortNames)),
        (Just(CtCommand::GA_NXT), bytes(40).prop_map(CtAccept::Other)),
    ]
}

fn vlans() -> impl Strategy<Value = Vec<u16>> {
    vec(0..0x1000_u16, 1..20)
}

fn claim() -> impl Strategy<Value = VnClaim> {
    (field(), any::<u16>()).prop_map(|(attributes, max_fcoe_size)| VnClaim { attributes, max_fcoe_size })
}

fn vn2vn() -> impl Strategy<Value = Vn2VnMessage> {
    prop_oneof![
        Just(Vn2VnMessage::ProbeRequest),
        Just(Vn2VnMessage::ProbeReply),
        claim().prop_map(Vn2VnMessage::ClaimNotification),
        claim().prop_map(Vn2VnMessage::ClaimResponse),
        Just(Vn2VnMessage::Beacon),
    ]
}

/// FLOGI, FDISC and LOGO with their answers.
fn fip_els() -> impl Strategy<Value = FipEls<'static>> {
    let kinds = vec![FipDescriptorType::FLOGI, FipDescriptorType::FDISC, FipDescriptorType::LOGO];
    let parts = (field::<FcHeader>(), field(), field(), field(), any::<bool>(), any::<bool>());
    (proptest::sample::select(kinds), parts).prop_map(
        |(kind, (mut header, login, logo, reject, rejected, request))| {
            let body = match (request, kind) {
                (true, FipDescriptorType::FLOGI) => FipElsBody::Request(ElsRequest::Flogi(login)),
                (true, FipDescriptorType::FDISC) => FipElsBody::Request(ElsRequest::Fdisc(login)),
                (true, _) => FipElsBody::Request(ElsRequest::Logo(logo)),
                (false, _) if rejected => FipElsBody::Reply(ElsReply::Reject(reject)),
                (false, FipDescriptorType::LOGO) => FipElsBody::Reply(ElsReply::Accept(ElsEmpty)),
                (false, _) => FipElsBody::Reply(ElsReply::Login(login)),
            };
            header.r_ctl = if request { RCtl::ELS_REQUEST } else { RCtl::ELS_REPLY };
            FipEls { kind, header, body }
        },
    )
}

fn fip_message() -> impl Strategy<Value = FipMessage<'static>> {
    prop_oneof![
        (field(), field(), any::<u16>())
            .prop_map(|(mac, name, max_fcoe_size)| { FipMessage::Solicitation { mac, name, max_fcoe_size } }),
        (any::<u8>(), field(), field(), field(), field()).prop_map(
            |(priority, mac, name, fabric, period)| {
                FipMessage::Advertisement { priority, mac, name, fabric, period }
            }
        ),
        (fip_els(), option::of((field(), option::of(field())))).prop_map(|(els, macs)| {
            FipMessage::LinkService {
                els,
                mac: macs.map(|macs| macs.0),
                fcoe_mac: macs.and_then(|macs| macs.1),
            }
        }),
        (field(), option::of(field())).prop_map(|(mac, port)| FipMessage::KeepAlive { mac, port }),
        (field(), field(), vec(field(), 0..9)).prop_map(|(mac, name, ports)| {
            FipMessage::ClearVirtualLinks { mac, name, ports: ports.into() }
        }),
        (field(), option::of(field())).prop_map(|(mac, name)| FipMessage::VlanRequest { mac, name }),
        (any::<bool>(), field(), vlans()).prop_map(|(vn2vn, mac, vlans)| {
            FipMessage::VlanNotification { vn2vn, mac, vlans: vlans.into() }
        }),
        (vn2vn(), field(), field(), field())
            .prop_map(|(message, mac, name, port)| { FipMessage::Vn2Vn { message, mac, name, port } }),
    ]
}

/// Whether a structure without anything that grows reads as it was written, and with every byte of it missing says so.
fn fixed<T>(bytes: &[u8])
where
    T: for<'a> Parse<'a> + Emit + Field + PartialEq + std::fmt::Debug,
{
    let value = T::get(&bytes[..T::LEN]);
    let mut out = written(&value);
    assert_eq!(out.len(), T::LEN);
    assert_eq!(T::parse(&out).as_ref(), Ok(&value));
    for len in 0..T::LEN {
        let error = T::parse(&out[..len]).expect_err("it is too short");
        let Defect::Short { end, len: there } = error.defect else { panic!("{error}") };
        assert!(there == len && len < end && end <= T::LEN, "{error}");
    }
    out.extend([1; 3]);
    assert_eq!(T::parse(&out).as_ref(), Ok(&value), "more bytes are no fault");
}

/// How bytes of a frame are changed: a place, and what is done there.
#[derive(Clone, Copy, Debug)]
enum ByteChange {
    Set(u8),
    Flip(u8),
    Cut,
    Drop(u8),
    Insert(u8),
}

fn changes() -> impl Strategy<Value = Vec<(usize, ByteChange)>> {
    let change = prop_oneof![
        4 => any::<u8>().prop_map(ByteChange::Set),
        4 => (0..8_u8).prop_map(ByteChange::Flip),
        1 => Just(ByteChange::Cut),
        2 => (1..9_u8).prop_map(ByteChange::Drop),
        1 => any::<u8>().prop_map(ByteChange::Insert),
    ];
    // Most of what can be wrong is near the beginning.
    vec((prop_oneof![0..100_usize, 0..2200_usize], change), 1..6)
}

fn changed(frame: &[u8], changes: &[(usize, ByteChange)]) -> Vec<u8> {
    let mut bytes = frame.to_vec();
    for &(at, change) in changes {
        let at = at % bytes.len().max(1);
        match change {
            ByteChange::Set(byte) => bytes.iter_mut().skip(at).take(1).for_each(|there| *there = byte),
            ByteChange::Flip(bit) => bytes.iter_mut().skip(at).take(1).for_each(|there| *there ^= 1 << bit),
            ByteChange::Cut => bytes.truncate(at),
            ByteChange::Drop(count) => _ = bytes.drain(at..(at + usize::from(count)).min(bytes.len())),
            ByteChange::Insert(byte) => bytes.insert(at, byte),
        }
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn fixed_structures_read_as_they_were_written(bytes in vec(any::<u8>(), 256)) {
        fixed::<FcHeader>(&bytes);
        fixed::<BaAcc>(&bytes);
        fixed::<BaRjt>(&bytes);
        fixed::<FcpXferRdy>(&bytes);
        fixed::<Srr>(&bytes);
        fixed::<ClassParameters>(&bytes);
        fixed::<LoginParameters>(&bytes);
        fixed::<ServicePage>(&bytes);
        fixed::<ThirdPartyPage>(&bytes);
        fixed::<LsRjt>(&bytes);
        fixed::<Logo>(&bytes);
        fixed::<Adisc>(&bytes);
        fixed::<RtvAcc>(&bytes);
        fixed::<ExchangeId>(&bytes);
        fixed::<RecAcc>(&bytes);
        fixed::<Rls>(&bytes);
        fixed::<RlsAcc>(&bytes);
        fixed::<Rnid>(&bytes);
        fixed::<GeneralTopology>(&bytes);
        fixed::<Scr>(&bytes);
        fixed::<CtHeader>(&bytes);
        fixed::<PortId>(&bytes);
        fixed::<NameObject>(&bytes);
        fixed::<RegisterName>(&bytes);
        fixed::<RegisterClasses>(&bytes);
        fixed::<RegisterTypes>(&bytes);
        fixed::<RegisterFeatures>(&bytes);
        fixed::<PortsWithType>(&bytes);
        fixed::<PortsOfKind>(&bytes);
        fixed::<FeaturesObject>(&bytes);
        fixed::<FipHeader>(&bytes);
        fixed::<FabricDescriptor>(&bytes);
        fixed::<VxPort>(&bytes);
        fixed::<FkaAdvPeriod>(&bytes);
        fixed::<Fc4Attributes>(&bytes);
    }

    #[test]
    fn names_are_what_they_are_made_of(name in field::<WorldWideName>()) {
        prop_assert_eq!(WorldWideName::from(name.naa_name()), name);
        prop_assert_eq!(name.to_string().parse(), Ok(name));
    }

    #[test]
    fn frames_read_as_they_were_written(
        (sof, header, eof) in (field(), field(), field()),
        payload in words(PAYLOAD_MAX),
    ) {
        let frame = FcoeFrame { sof, header, payload, eof };
        let bytes = written(&frame);
        prop_assert_eq!(FcoeFrame::parse(&bytes), Ok(frame));
    }

    #[test]
    fn fcp_reads_as_it_was_written(command in command(), response in response()) {
        let bytes = written(&command);
        prop_assert_eq!(FcpCmnd::parse(&bytes), Ok(command));
        let bytes = written(&response);
        prop_assert_eq!(FcpRsp::parse(&bytes), Ok(response));
    }

    #[test]
    fn els_reads_as_it_was_written(request in els_request(), (code, reply) in els_reply()) {
        let bytes = written(&request);
        prop_assert_eq!(ElsRequest::parse(&bytes), Ok(request));
        let bytes = written(&reply);
        prop_assert_eq!(ElsReply::parse(code, &bytes), Ok(reply));
    }

    #[test]
    fn ct_reads_as_it_was_written(request in ct_request(), (command, accept) in ct_accept()) {
        let bytes = written(&request);
        prop_assert_eq!(CtRequest::parse(request.command(), &bytes), Ok(request));
        let bytes = written(&accept);
        prop_assert_eq!(CtAccept::parse(command, &bytes), Ok(accept));
    }

    #[test]
    fn fip_reads_as_it_was_written(flags in field(), message in fip_message(), padding in 0..100_usize) {
        let frame = FipFrame { flags, message };
        let mut bytes = written(&frame);
        bytes.resize(bytes.len() + padding, 0);
        prop_assert_eq!(FipFrame::parse(&bytes), Ok(frame));
    }

    #[test]
    fn any_bytes_are_read_or_refused(
        mut bytes in vec(any::<u8>(), 2..300),
        ethertype in proptest::sample::select(vec![ETHERTYPE_FCOE, ETHERTYPE_FIP]),
        version in any::<bool>(),
    ) {
        bytes[..2].copy_from_slice(&ethertype.to_be_bytes());
        if version && let Some(byte) = bytes.get_mut(2) {
            *byte = if ethertype == ETHERTYPE_FIP { 0x10 } else { 0 };
        }
        rewrite(&bytes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5000))]

    #[test]
    fn changed_frames_are_read_or_refused(at in 0..297_usize, changes in changes()) {
        rewrite(&changed(&frames()[at][12..], &changes));
    }
}
