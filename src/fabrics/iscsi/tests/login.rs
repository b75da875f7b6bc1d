// SPDX-License-Identifier: GPL-2.0-or-later
//! The login phase: who gets in, what is agreed on, and what is refused how.

use super::*;
use crate::activity;
use crate::wire::iscsi::pairs;
use crate::wire::tests::{HOSTILE, is_clean};

fn answers(packet: &Packet) -> Vec<(String, String)> {
    pairs(&packet.data).map(|pair| pair.map(|p| (p.key.to_owned(), p.value.to_owned())).unwrap()).collect()
}

fn value<'a>(answers: &'a [(String, String)], key: &str) -> Option<&'a str> {
    answers.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
}

/// The status of the login response, which must be followed by the end of the connection.
fn refused(world: &mut World, packets: &[Packet]) -> u16 {
    let answers = world.exchange(packets);
    let last = answers.last().expect("a login response");
    assert_eq!(last.opcode(), Opcode::LOGIN_RESPONSE);
    assert!(matches!(world.closed(), Some(CloseReason::LoginRefused(..))), "{:?}", world.closed());
    assert!(world.connection().is_closing());
    last.bhs.half(36)
}

#[test]
fn both_stages_one_after_the_other() {
    let mut world = World::new(Parameters::default());
    let security = world.initiator.login(0, Some(1), &[&NAMES[..], &[("AuthMethod", "CHAP,None")]].concat());
    let first = world.exchange(&[security]);
    assert_eq!(first.len(), 1);
    assert_eq!(first[0].bhs.bytes()[..4], [0x23, 0x81, 0, 0], "T, from security to operational");
    assert_eq!(first[0].bhs.bytes()[8..14], world.initiator.isid);
    assert_eq!(first[0].bhs.half(14), 0, "TSIH only with the last response");
    let keys = answers(&first[0]);
    assert_eq!(value(&keys, "AuthMethod"), Some("None"));
    assert_eq!(value(&keys, "TargetPortalGroupTag"), Some("1"));
    assert_eq!(value(&keys, "TargetAlias"), Some("disk"));

    let ask = [("MaxRecvDataSegmentLength", "65536"), ("HeaderDigest", "CRC32C,None"), ("X-a.b", "1")];
    let operational = world.initiator.login(1, Some(3), &ask);
    let second = world.exchange(&[operational]);
    assert_eq!(second[0].bhs.flags(), FINAL | 1 << 2 | 3);
    assert_eq!(second[0].bhs.half(14), 0x1234);
    let keys = answers(&second[0]);
    assert_eq!(value(&keys, "HeaderDigest"), Some("CRC32C"));
    assert_eq!(value(&keys, "X-a.b"), Some("NotUnderstood"));
    assert_eq!(value(&keys, "MaxRecvDataSegmentLength"), Some("262144"), "ours is declared");
    assert_eq!(
        world.events,
        [Event::LoginWanted(
            world.key,
            LoginRequest {
                initiator: "iqn.2026-11.test:me".into(),
                isid: world.initiator.isid,
                target: Some(TARGET.into()),
                portal_group: 1,
                user: None,
                tsih: 0,
                parameters: world.targets.parameters.clone(),
            }
        )]
    );
    let negotiated = world.connection().negotiated();
    assert!(negotiated.header_digest && !negotiated.data_digest);
    assert_eq!(negotiated.max_xmit_data_segment_length, 65536);
    assert_eq!(negotiated.max_recv_data_segment_length, 262_144);
    // The window opens with the last response: ExpCmdSN is where the initiator began.
    assert_eq!((second[0].bhs.word(28), second[0].bhs.word(32)), (100, 100 + 127));
    world.end();
}

#[test]
fn security_may_lead_straight_to_full_feature() {
    let mut world = World::new(Parameters::default());
    let login = world.initiator.login(0, Some(3), &[&NAMES[..], &[("AuthMethod", "None")]].concat());
    let answer = world.exchange(&[login]);
    assert_eq!(answer[0].bhs.flags(), FINAL | 3);
    assert!(world.session.is_full_feature(world.key));
    assert_eq!(world.connection().negotiated(), &Negotiated::default(), "nothing was negotiated");
    world.end();
}

#[test]
fn a_stage_may_take_several_requests() {
    let mut world = World::new(Parameters::default());
    let first = world.initiator.login(1, None, &NAMES);
    let answer = world.exchange(&[first]);
    assert_eq!(answer[0].bhs.flags(), 1 << 2, "the initiator did not ask to go on");
    let second = world.initiator.login(1, Some(3), &[("InitialR2T", "No")]);
    let answer = world.exchange(&[second]);
    assert_eq!(value(&answers(&answer[0]), "InitialR2T"), Some("No"));
    assert_eq!(value(&answers(&answer[0]), "MaxRecvDataSegmentLength"), None, "declared once");
    world.end();
}

#[test]
fn text_goes_on_in_the_next_request() {
    let mut world = World::new(Parameters::default());
    let whole = world.initiator.login(1, Some(3), &[&NAMES[..], &[("MaxBurstLength", "16384")]].concat());
    // Cut within a key, and within a value.
    for cut in [20, 70, whole.data.len() - 3] {
        let mut world = World::new(Parameters::default());
        let mut head = world.initiator.login(1, None, &[]).data(&whole.data[..cut]);
        head.bhs.bytes_mut()[1] |= CONTINUE;
        let between = world.exchange(&[head]);
        assert_eq!((between[0].bhs.flags(), between[0].data.len()), (1 << 2, 0));
        let tail = world.initiator.login(1, Some(3), &[]).data(&whole.data[cut..]);
        let answer = world.exchange(&[tail]);
        assert_eq!(value(&answers(&answer[0]), "MaxBurstLength"), Some("16384"));
        assert!(world.session.is_full_feature(world.key));
    }
}

#[test]
fn who_is_refused_and_why() {
    let me = NAMES[0];
    for (keys, status) in [
        (vec![me], LoginStatus::MissingParameter),
        (vec![NAMES[1]], LoginStatus::MissingParameter),
        (vec![], LoginStatus::MissingParameter),
        (vec![me, ("TargetName", "iqn.2026-11.test:none")], LoginStatus::NotFound),
        (vec![me, ("TargetName", "iqn.2026-11.test:b")], LoginStatus::AuthorizationFailure),
        (vec![me, NAMES[1], ("SessionType", "Abnormal")], LoginStatus::SessionTypeNotSupported),
        (vec![me, me, NAMES[1]], LoginStatus::InitiatorError),
        (vec![("InitiatorName", ""), NAMES[1]], LoginStatus::InitiatorError),
        (vec![me, NAMES[1], ("InitialR2T", "No"), ("InitialR2T", "No")], LoginStatus::InitiatorError),
    ] {
        let mut world = World::new(Parameters::default());
        let login = world.initiator.login(1, Some(3), &keys);
        assert_eq!(refused(&mut world, &[login]), status as u16, "{keys:?}");
        world.end();
    }
    let mut world = World::new(Parameters::default());
    let login = world.initiator.login(0, Some(1), &[&NAMES[..], &[("AuthMethod", "CHAP,KRB5")]].concat());
    assert_eq!(refused(&mut world, &[login]), LoginStatus::AuthenticationFailure as u16);
}

/// A name that is none is refused, and told in a form that a terminal does not obey; so is one that is in any other
/// key.
#[test]
fn no_text_of_a_login_is_shown_as_it_is() {
    let keys = [
        "InitiatorName",
        "InitiatorAlias",
        "TargetName",
        "SessionType",
        "AuthMethod",
        "HeaderDigest",
        "CHAP_N",
    ];
    for (text, shown) in HOSTILE.iter().filter(|(text, _)| !text.contains('\0')) {
        let name = format!("iqn.2026-11.test:{text}");
        for key in keys {
            let mut world = World::new(Parameters::default());
            let others = NAMES.into_iter().filter(|(name, _)| *name != key);
            let keys: Vec<_> = others.chain([(key, &name[..])]).collect();
            let login = world.initiator.login(1, Some(3), &keys);
            let status = world.exchange(&[login]).remove(0).bhs.half(36);
            let who = world.session.initiator().to_string();
            assert!(is_clean(who.as_bytes()), "{key}: {who:?}");
            if key == "InitiatorName" {
                assert_eq!(status, LoginStatus::InitiatorError as u16, "{text:?}");
                assert!(who.ends_with(&shown.to_lowercase()), "{who:?}");
            }
        }
    }
}

/// What is told if the thread panics.
#[test]
fn a_thread_knows_whom_it_serves_and_with_which_pdu() {
    let mut world = World::new(Parameters::default());
    activity::rest();
    assert_eq!(activity::now().to_string(), "it served no connection");
    let login = world.initiator.login(1, Some(3), &NAMES);
    let tag = login.bhs.itt();
    world.exchange(&[login]);
    let peer = world.session.connection(world.key).unwrap().peer();
    let now = activity::now();
    assert_eq!((now.peer, now.message), (Some(peer), Some((Opcode::LOGIN_REQUEST.raw(), tag))));
    let ping = world.initiator.nop_out(b"there?");
    let tag = ping.bhs.itt();
    world.exchange(&[ping]);
    assert_eq!(activity::now().message, Some((Opcode::NOP_OUT.raw(), tag)));
    let said = activity::now().to_string();
    assert!(said.contains(&peer.to_string()) && said.contains("opcode 0x00"), "{said}");
    activity::rest();
    world.session.note_activity();
    assert_eq!(
        activity::now(),
        activity::Now { peer: Some(peer), message: Some((Opcode::NOP_OUT.raw(), tag)) }
    );
}

#[test]
fn malformed_headers_and_texts_are_refused() {
    type Spoil = fn(&mut Packet);
    let spoilers: [(Spoil, LoginStatus); 11] = [
        (|p| p.bhs.bytes_mut()[3] = 1, LoginStatus::UnsupportedVersion),
        (|p| p.bhs.bytes_mut()[1] = FINAL | 2 << 2 | 3, LoginStatus::InitiatorError),
        (|p| p.bhs.bytes_mut()[1] = FINAL | 3 << 2 | 3, LoginStatus::InitiatorError),
        (|p| p.bhs.bytes_mut()[1] = FINAL | 1 << 2 | 2, LoginStatus::InitiatorError),
        (|p| p.bhs.bytes_mut()[1] = FINAL | 1 << 2 | 1, LoginStatus::InitiatorError),
        (|p| p.bhs.bytes_mut()[1] = FINAL | 1 << 2, LoginStatus::InitiatorError),
        (|p| p.bhs.bytes_mut()[1] = FINAL | CONTINUE | 1 << 2 | 3, LoginStatus::InitiatorError),
        (|p| p.data.extend(b"NoEquals\0"), LoginStatus::InitiatorError),
        (|p| p.data.extend(b"No=End"), LoginStatus::InitiatorError),
        (|p| p.data.extend([&[b'k'; 64][..], b"=v\0"].concat()), LoginStatus::InitiatorError),
        (|p| p.data.extend(b"a=\xc3\x28\0"), LoginStatus::InitiatorError),
    ];
    for (i, (spoil, status)) in spoilers.into_iter().enumerate() {
        let mut world = World::new(Parameters::default());
        let mut login = world.initiator.login(1, Some(3), &NAMES);
        spoil(&mut login);
        assert_eq!(refused(&mut world, &[login]), status as u16, "case {i}");
        world.end();
    }
}

#[test]
fn a_login_stays_the_same_login() {
    type Spoil = fn(&mut Packet);
    let spoilers: [Spoil; 6] = [
        |p| p.bhs.bytes_mut()[8] ^= 1,
        |p| p.bhs.set_half(14, 1),
        |p| p.bhs.set_word(16, 0x999),
        |p| p.bhs.set_half(20, 9),
        |p| p.bhs.bytes_mut()[1] = FINAL | 1,
        |p| p.data.extend(b"SessionType=Discovery\0"),
    ];
    for (i, spoil) in spoilers.into_iter().enumerate() {
        let mut world = World::new(Parameters::default());
        let first = world.initiator.login(1, None, &NAMES);
        world.exchange(&[first]);
        let mut second = world.initiator.login(1, Some(3), &[]);
        spoil(&mut second);
        assert_eq!(refused(&mut world, &[second]), LoginStatus::InitiatorError as u16, "case {i}");
    }
}

#[test]
fn security_keys_belong_to_the_security_stage() {
    let mut world = World::new(Parameters::default());
    let login = world.initiator.login(1, Some(3), &[&NAMES[..], &[("AuthMethod", "None")]].concat());
    assert_eq!(refused(&mut world, &[login]), LoginStatus::InitiatorError as u16);
}

#[test]
fn texts_are_bounded() {
    // One key after the other that nobody understands: the answer would not fit in a PDU.
    let mut world = World::new(Parameters::default());
    let mut login = world.initiator.login(1, Some(3), &NAMES);
    login.data.extend(b"a=\0".repeat(2000));
    assert_eq!(refused(&mut world, &[login]), LoginStatus::InitiatorError as u16);
    // Text without end.
    let mut world = World::new(Parameters::default());
    let mut more = world.initiator.login(1, None, &[]).data(&[b'x'; 8192]);
    more.bhs.bytes_mut()[1] |= CONTINUE;
    let answers: usize = (0..9).map(|_| world.exchange(&[&more]).len()).sum();
    assert_eq!(answers, 9);
    assert!(matches!(world.closed(), Some(CloseReason::LoginRefused(LoginStatus::InitiatorError, _))));
    // Requests without end.
    let mut world = World::new(Parameters::default());
    let first = world.initiator.login(1, None, &NAMES);
    world.exchange(&[first]);
    let again = world.initiator.login(1, None, &[]);
    let answers: usize = (0..100).map(|_| world.exchange(&[&again]).len()).sum();
    assert_eq!(answers, 64);
    assert!(world.connection().is_closing());
    // A data segment beyond what the RFC allows before anything is negotiated.
    let mut world = World::new(Parameters::default());
    let login = world.initiator.login(1, Some(3), &NAMES).data(&[0; 8193]);
    assert!(world.exchange(&[login]).is_empty());
    assert_eq!(world.violation(), "data segment longer than MaxRecvDataSegmentLength");
}

#[test]
fn nothing_but_login_before_login() {
    let mut world = World::new(Parameters::default());
    let ping = world.initiator.nop_out(b"hello");
    assert!(world.exchange(&[ping]).is_empty());
    assert_eq!(world.violation(), "not a login request in the login phase");
    let mut world = World::logged_in(Parameters::default(), &[]);
    let login = world.initiator.login(1, Some(3), &NAMES);
    assert_eq!(opcodes(&world.exchange(&[login])), [Opcode::ASYNC_MESSAGE], "dropped");
    assert_eq!(world.violation(), "login request in the full feature phase");
}

#[test]
fn the_owner_has_the_last_word() {
    let mut world = World::new(Parameters::default());
    world.accepts = false;
    let login = world.initiator.login(1, Some(3), &NAMES);
    assert!(world.exchange(&[login]).is_empty());
    world.session.refuse_login(world.key, LoginStatus::OutOfResources, "too many sessions");
    let answer = world.run();
    assert_eq!(answer[0].bhs.half(36), LoginStatus::OutOfResources as u16);
    assert_eq!(
        world.closed(),
        Some(&CloseReason::LoginRefused(LoginStatus::OutOfResources, "too many sessions"))
    );
    world.end();
}

#[test]
fn who_goes_on_before_the_owner_has_spoken_is_kept_within_bounds() {
    let mut world = World::new(Parameters::default());
    world.accepts = false;
    let login = world.initiator.login(1, Some(3), &NAMES);
    world.exchange(&[login]);
    for _ in 0..65 {
        assert!(world.session.held() <= 64 << 10);
        world.receive(&[0; 1024]);
    }
    world.run();
    assert_eq!(world.violation(), "sends more before its login is answered");
    world.end();
}

#[test]
fn a_login_takes_limited_time() {
    let mut world = World::new(Parameters::default());
    assert_eq!(world.session.next_deadline(), Some(world.now + Duration::from_secs(15)));
    let first = world.initiator.login(1, None, &NAMES);
    world.exchange(&[first]);
    world.wait(Duration::from_millis(14_999));
    assert_eq!(world.closed(), None);
    world.wait(Duration::from_millis(1));
    assert_eq!(world.closed(), Some(&CloseReason::Timeout("login")));
    assert_eq!(world.session.next_deadline(), None);
}

#[test]
fn discovery_sessions_negotiate_little() {
    let mut world = World::new(Parameters::default());
    let keys =
        [NAMES[0], ("SessionType", "Discovery"), ("MaxBurstLength", "512"), ("DefaultTime2Retain", "0")];
    let login = world.initiator.login(1, Some(3), &keys);
    let answer = world.exchange(&[login]);
    let keys = answers(&answer[0]);
    assert_eq!(value(&keys, "MaxBurstLength"), Some("Irrelevant"));
    assert_eq!(value(&keys, "DefaultTime2Retain"), Some("0"));
    assert_eq!(value(&keys, "TargetPortalGroupTag"), None);
    // There are no logical units in it.
    let command = world.initiator.command(0, &[0], initiator::Transfer::NONE);
    let function = world.initiator.task_management(5, 0);
    let rejects = world.exchange(&[command, function]);
    assert_eq!(opcodes(&rejects), [Opcode::REJECT, Opcode::REJECT]);
    assert!(world.toy.commands.is_empty());
    world.end();
}
