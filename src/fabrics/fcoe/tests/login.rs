// SPDX-License-Identifier: GPL-2.0-or-later
//! Who logs in, and how.

use super::*;
use crate::wire::fc::{
    Adisc, Echo, ElsEmpty, ExchangeId, FipDescriptorType, LoginFeatures, Logo, LsRjt, LsRjtExplanation,
    LsRjtReason, PageResponse, ReceiveSize, Srr,
};

fn rejected(caught: &[SentFrame], request: ElsCode) -> (LsRjtReason, LsRjtExplanation) {
    let [caught] = caught else { panic!("{caught:?}") };
    let ElsReply::Reject(LsRjt { reason, explanation, .. }) = caught.reply(request) else {
        panic!("accepted")
    };
    (reason, explanation)
}

fn flogi(last: u8) -> LoginParameters {
    let PortIdentity { port_name, node_name, .. } = identity(last);
    LoginParameters::flogi(port_name, node_name, 2112)
}

fn accepts_flogi(caught: &SentFrame) -> bool {
    let FipMessage::LinkService { els, mac, .. } = caught.fip().message else { return false };
    assert_eq!(mac, Some(vn_mac(OWN)));
    matches!(els.body, FipElsBody::Reply(ElsReply::Login(_)))
}

fn met(last: u8) -> FcoeRig {
    let mut rig = FcoeRig::up();
    rig.say(last, id(last), Vn2VnMessage::ClaimNotification(claim()), FipFlags::default());
    rig
}

#[test]
fn of_two_ports_the_one_with_the_higher_name_sends_plogi() {
    for (last, ours) in [(LOWER, true), (HIGHER, false)] {
        let mut rig = met(last);
        let login = els_body(last, ElsRequest::Flogi(flogi(last)), FipDescriptorType::FLOGI);
        let caught = rig.fip_els(login, last);
        assert!(accepts_flogi(&caught[0]));
        assert_eq!(caught[0].to, identity(last).mac);
        assert_eq!(caught.len(), 1 + usize::from(ours));
        if ours {
            assert!(matches!(caught[1].unit(), Body::ElsRequest(ElsRequest::Plogi(_))));
            let accept = written(&ElsReply::Login(plogi(last)));
            let header = FcHeader { rx_id: 9, ..caught[1].header().reply(RCtl::ELS_REPLY) };
            assert_eq!(rig.frame(last, header, &accept).len(), 0);
        } else {
            assert!(matches!(rig.plogi(last)[0].reply(ElsCode::PLOGI), ElsReply::Login(_)));
        }
        let caught = rig.prli(last);
        let ElsReply::Prli(accept) = caught[0].reply(ElsCode::PRLI) else { panic!("no PRLI") };
        assert_eq!(accept.0.flags.response(), PageResponse::EXECUTED);
        assert_eq!(accept.0.parameters, FcpServiceParameters::new(0x92));
        assert_eq!(rig.drain(), [FcoePortEvent::Joined(0)]);
        assert_eq!(rig.session(0).initiator(), identity(last).port_name);
        assert_eq!(rig.session(0).frame_size(), FRAME);
    }
}

#[test]
fn crossing_flogis_are_both_answered_and_each_waits_for_its_own_answer() {
    let mut rig = met(LOWER);
    let caught = rig.say(LOWER, id(LOWER), Vn2VnMessage::Beacon, FipFlags::default());
    let FipMessage::LinkService { els: ours, .. } = caught[0].fip().message else { panic!("no FLOGI") };
    assert!(matches!(ours.body, FipElsBody::Request(ElsRequest::Flogi(_))));
    let login = els_body(LOWER, ElsRequest::Flogi(flogi(LOWER)), FipDescriptorType::FLOGI);
    let caught = rig.fip_els(login, LOWER);
    assert_eq!(caught.len(), 1, "no PLOGI yet");
    assert!(accepts_flogi(&caught[0]));
    let body = FipElsBody::Reply(ElsReply::Login(flogi(LOWER)));
    let header = ours.header.reply(RCtl::ELS_REPLY);
    let caught = rig.fip_els(FipEls { kind: FipDescriptorType::FLOGI, header, body }, LOWER);
    assert!(matches!(caught[0].unit(), Body::ElsRequest(ElsRequest::Plogi(_))));
    // A PLOGI that crosses ours does not count; that of a higher name would.
    let (reason, _) = rejected(&rig.plogi(LOWER), ElsCode::PLOGI);
    assert_eq!(reason, LsRjtReason::COMMAND_IN_PROGRESS);
}

#[test]
fn a_flogi_that_nobody_answers_is_sent_again_with_the_next_beacon() {
    let mut rig = met(HIGHER);
    let beacon =
        |rig: &mut FcoeRig| rig.say(HIGHER, id(HIGHER), Vn2VnMessage::Beacon, FipFlags::default()).len();
    assert_eq!((beacon(&mut rig), beacon(&mut rig)), (1, 0));
    rig.pass(millis(4_000));
    assert_eq!(beacon(&mut rig), 1);
}

#[test]
fn a_flogi_of_a_stranger_or_of_a_switch_is_refused() {
    let refusal = |rig: &mut FcoeRig, login| {
        let request = els_body(LOWER, ElsRequest::Flogi(login), FipDescriptorType::FLOGI);
        let caught = rig.fip_els(request, LOWER);
        let FipMessage::LinkService { els, .. } = caught[0].fip().message else { panic!("no answer") };
        let FipElsBody::Reply(ElsReply::Reject(LsRjt { reason, explanation, .. })) = els.body else {
            panic!("accepted")
        };
        (reason, explanation)
    };
    let stranger = (LsRjtReason::FIP_ERROR, LsRjtExplanation::FIP_NOT_A_NEIGHBOUR);
    assert_eq!(refusal(&mut FcoeRig::up(), flogi(LOWER)), stranger);
    assert_eq!(refusal(&mut met(HIGHER), flogi(LOWER)), stranger);
    let switch = LoginParameters { features: LoginFeatures::F_PORT, ..flogi(LOWER) };
    assert_eq!(refusal(&mut met(LOWER), switch).0, LsRjtReason::LOGICAL_ERROR);
}

#[test]
fn plogi_says_what_it_needs() {
    let mut rig = FcoeRig::up();
    let small = LoginParameters { receive_size: ReceiveSize::new(128), ..plogi(LOWER) };
    let caught = rig.els(LOWER, 1, &ElsRequest::Plogi(small));
    assert_eq!(
        rejected(&caught, ElsCode::PLOGI),
        (LsRjtReason::LOGICAL_ERROR, LsRjtExplanation::RECEIVE_SIZE)
    );
    let mut classless = plogi(LOWER);
    classless.class_3 = classless.class_2;
    let caught = rig.els(LOWER, 1, &ElsRequest::Plogi(classless));
    assert_eq!(rejected(&caught, ElsCode::PLOGI).1, LsRjtExplanation::COMMON_PARAMETERS);
    let header = FcHeader::request(RCtl::ELS_REQUEST, FcType::ELS, id(LOWER), id(OWN), 1);
    let short = rig.frame(LOWER, header, &written(&ElsRequest::Plogi(plogi(LOWER)))[..40]);
    let malformed = (LsRjtReason::PROTOCOL_ERROR, LsRjtExplanation::INVALID_PAYLOAD_LENGTH);
    assert_eq!(rejected(&short, ElsCode::PLOGI), malformed);
    assert_eq!(rig.drain(), []);
}

#[test]
fn what_needs_plogi_is_refused_without() {
    let mut rig = FcoeRig::up();
    let needed = (LsRjtReason::UNABLE_TO_PERFORM, LsRjtExplanation::PLOGI_REQUIRED);
    assert_eq!(rejected(&rig.prli(LOWER), ElsCode::PRLI), needed);
    let exchange = ExchangeId { originator: id(LOWER), ox_id: 1, rx_id: 1 };
    let adisc = Adisc {
        hard_address: FcId::UNASSIGNED,
        port_name: identity(LOWER).port_name,
        node_name: identity(LOWER).node_name,
        n_port_id: id(LOWER),
    };
    for request in [
        ElsRequest::Adisc(adisc),
        ElsRequest::Rtv(ElsEmpty),
        ElsRequest::Rec(exchange),
        ElsRequest::Rrq(exchange),
    ] {
        assert_eq!(rejected(&rig.els(LOWER, 1, &request), request.code()), needed, "{request:?}");
    }
    // LOGO is always accepted, and ECHO is not anybody's in particular.
    let logo = Logo { n_port_id: id(LOWER), port_name: identity(LOWER).port_name };
    let caught = rig.els(LOWER, 1, &ElsRequest::Logo(logo));
    assert_eq!(caught[0].reply(ElsCode::LOGO), ElsReply::Accept(ElsEmpty));
    let caught = rig.els(LOWER, 1, &ElsRequest::Echo(Echo(b"seven x")));
    assert_eq!(caught[0].reply(ElsCode::ECHO), ElsReply::Echo(Echo(b"seven x")));
}

#[test]
fn the_other_services_are_answered() {
    let (mut rig, _) = FcoeRig::logged_in(LOWER);
    let caught = rig.els(LOWER, 1, &ElsRequest::Rtv(ElsEmpty));
    let ElsReply::Rtv(rtv) = caught[0].reply(ElsCode::RTV) else { panic!("no answer") };
    assert_eq!((rtv.r_a_tov, rtv.e_d_tov), (4000, 2000));
    let asked = Adisc {
        hard_address: FcId::UNASSIGNED,
        port_name: identity(LOWER).port_name,
        node_name: identity(LOWER).node_name,
        n_port_id: id(LOWER),
    };
    let caught = rig.els(LOWER, 2, &ElsRequest::Adisc(asked));
    let ElsReply::Adisc(adisc) = caught[0].reply(ElsCode::ADISC) else { panic!("no answer") };
    assert_eq!((adisc.port_name, adisc.n_port_id), (identity(OWN).port_name, id(OWN)));
    let caught = rig.els(LOWER, 3, &ElsRequest::Test(Echo(b"")));
    assert_eq!(
        rejected(&caught, ElsCode::TEST),
        (LsRjtReason::NOT_SUPPORTED, LsRjtExplanation::NOT_SUPPORTED)
    );
    let srr = Srr { ox_id: 1, rx_id: 1, relative_offset: 0, r_ctl: RCtl::FCP_RSP };
    let header = FcHeader::request(RCtl::FC4_REQUEST, FcType::FCP, id(LOWER), id(OWN), 4);
    let caught = rig.frame(LOWER, header, &written(&ElsRequest::Srr(srr)));
    assert_eq!(caught[0].header().r_ctl, RCtl::FC4_REPLY);
    let Body::Fc4Reply(payload) = caught[0].unit() else { panic!("no answer") };
    assert!(matches!(ElsReply::parse(ElsCode::SRR, payload), Ok(ElsReply::Reject(_))));
}

/// A session of an initiator does not begin before the tasks of its last one have ended: a write of theirs could follow
/// one of the new session.
#[test]
fn a_session_waits_for_the_end_of_the_last_one() {
    for again in [ElsCode::PLOGI, ElsCode::PRLI, ElsCode::PRLO, ElsCode::LOGO] {
        let (mut rig, number) = FcoeRig::logged_in(LOWER);
        let page = ServicePage::fcp(PageFlags::default(), FcpServiceParameters::default());
        let logo = Logo { n_port_id: id(LOWER), port_name: identity(LOWER).port_name };
        match again {
            ElsCode::PLOGI => _ = rig.plogi(LOWER),
            ElsCode::PRLO => _ = rig.els(LOWER, 5, &ElsRequest::Prlo(ProcessLogin(page))),
            ElsCode::LOGO => {
                rig.els(LOWER, 5, &ElsRequest::Logo(logo));
                rig.plogi(LOWER);
            }
            _ => {}
        }
        assert_eq!(rig.prli(LOWER).len(), 0, "{again}: no answer yet");
        assert_eq!(rig.drain(), [FcoePortEvent::Left(number)], "{again}");
        assert!(rig.port.session(number).is_none());
        rig.port.session_ended(number);
        let caught = rig.catch();
        assert!(matches!(caught[0].reply(ElsCode::PRLI), ElsReply::Prli(_)), "{again}");
        assert!(matches!(rig.drain()[..], [FcoePortEvent::Joined(_)]), "{again}");
    }
}

#[test]
fn who_is_not_on_the_list_has_no_session() {
    let initiators = Some(vec![identity(HIGHER).port_name]);
    let mut rig = FcoeRig::with(FcoePortOptions { identity: identity(OWN), mtu: MTU, initiators });
    rig.pass(millis(1000));
    rig.drain();
    for (last, joins) in [(LOWER, false), (HIGHER, true)] {
        rig.plogi(last);
        let caught = rig.prli(last);
        assert_eq!(matches!(caught[0].reply(ElsCode::PRLI), ElsReply::Prli(_)), joins);
        assert_eq!(rig.drain().len(), usize::from(joins));
    }
    assert_eq!(rig.port.counters().refused_logins, 1);
}

#[test]
fn a_target_is_nothing_to_log_in_to_for_a_target() {
    let mut rig = FcoeRig::up();
    rig.plogi(LOWER);
    let page = ServicePage::fcp(PageFlags::ESTABLISH_IMAGE_PAIR, FcpServiceParameters::TARGET);
    let caught = rig.els(LOWER, 1, &ElsRequest::Prli(ProcessLogin(page)));
    assert_eq!(rejected(&caught, ElsCode::PRLI).0, LsRjtReason::UNABLE_TO_PERFORM);
}

#[test]
fn whoever_sends_commands_without_a_session_is_told_to_log_in_again() {
    let mut rig = FcoeRig::up();
    let header = FcHeader::request(RCtl::FCP_CMND, FcType::FCP, id(LOWER), id(OWN), 4);
    let caught = rig.frame(LOWER, header, &[0; 32]);
    assert!(matches!(caught[0].unit(), Body::ElsRequest(ElsRequest::Logo(_))));
    assert_eq!(caught[0].to, vn_mac(LOWER));
    assert_eq!(rig.frame(LOWER, header, &[0; 32]).len(), 0, "not for each of them");
}

#[test]
fn a_port_that_stops_logs_everybody_out() {
    let (mut rig, number) = FcoeRig::logged_in(LOWER);
    rig.port.stop();
    assert_eq!(rig.drain(), [FcoePortEvent::Left(number)]);
    assert!(matches!(rig.catch()[0].unit(), Body::ElsRequest(ElsRequest::Logo(_))));
    assert_eq!(rejected(&rig.plogi(LOWER), ElsCode::PLOGI).0, LsRjtReason::UNABLE_TO_PERFORM);
    rig.port.session_ended(number);
    assert_eq!(rig.port.ending(), 0);
}

#[test]
fn frames_that_are_damaged_or_for_others_are_dropped() {
    let (mut rig, number) = FcoeRig::logged_in(LOWER);
    let header = FcHeader::request(RCtl::FCP_CMND, FcType::FCP, id(LOWER), id(OWN), 4);
    let good = FcoeFrame { sof: Sof::SOF_I3, header, payload: &[0; 32], eof: Eof::EOF_T };
    let (to, from) = (vn_mac(OWN), vn_mac(LOWER));
    let mut damaged = bytes(&good);
    damaged[40] ^= 1;
    let whose = FcHeader { d_id: id(HIGHER), ..header };
    let who = FcHeader { s_id: id(HIGHER), ..header };
    let bad = [
        damaged,
        bytes(&FcoeFrame { header: whose, ..good }),
        bytes(&FcoeFrame { header: who, ..good }),
        bytes(&FcoeFrame { sof: Sof::SOF_I2, ..good }),
        bytes(&FcoeFrame { sof: Sof::SOF_N3, ..good }),
        bytes(&FcoeFrame { eof: Eof::EOF_NI, ..good }),
        Vec::new(),
    ];
    for (count, body) in (1..).zip(&bad) {
        assert_eq!(rig.give((to, from), ETHERTYPE_FCOE, body).len(), 0);
        assert_eq!(rig.port.counters().bad_frames, count, "{count}");
    }
    assert!(!rig.session(number).is_asking());
    rig.give((to, from), ETHERTYPE_FCOE, &bytes(&good));
    assert!(rig.session(number).is_asking());
}
