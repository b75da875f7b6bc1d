// SPDX-License-Identifier: GPL-2.0-or-later
//! CHAP in both directions, and logins that are sent elsewhere.

use super::*;
use crate::fabrics::iscsi::chap::hexadecimal;
use crate::wire::iscsi::{binary, pairs};

const OURS: &[u8] = b"the target's own";
const THEIRS: &[u8] = b"the initiator's!";

fn account(name: &str, secret: &[u8]) -> Account {
    Account { name: name.into(), secret: Secret::new(secret).unwrap() }
}

fn guarded() -> World {
    let mut world = World::new(Parameters::default());
    world.targets.authentication = Some(Arc::new(Authentication {
        accounts: vec![account("someone", b"another secret.."), account("me", THEIRS)],
        own: Some(account("target", OURS)),
        algorithms: Algorithm::ALL.to_vec(),
    }));
    world
}

fn keys(packet: &Packet) -> Vec<(String, String)> {
    pairs(&packet.data).map(|pair| pair.map(|p| (p.key.to_owned(), p.value.to_owned())).unwrap()).collect()
}

fn value<'a>(keys: &'a [(String, String)], key: &str) -> &'a str {
    keys.iter()
        .find(|(k, _)| k == key)
        .map(|(_, v)| v.as_str())
        .unwrap_or_else(|| panic!("no {key} in {keys:?}"))
}

/// Goes as far as to the challenge; returns algorithm, identifier and challenge.
fn challenged(world: &mut World, offer: &str) -> (Algorithm, u8, Vec<u8>) {
    let first = world.initiator.login(0, Some(1), &[&NAMES[..], &[("AuthMethod", "CHAP,None")]].concat());
    let answer = &world.exchange(&[first])[0];
    assert_eq!(answer.bhs.flags(), 0, "stays in the security stage though the initiator would go on");
    assert_eq!(value(&keys(answer), "AuthMethod"), "CHAP");
    let second = world.initiator.login(0, None, &[("CHAP_A", offer)]);
    let answer = keys(&world.exchange(&[second])[0]);
    let number: u8 = value(&answer, "CHAP_A").parse().unwrap();
    let algorithm = Algorithm::ALL.into_iter().find(|a| *a as u8 == number).unwrap();
    let challenge = binary(value(&answer, "CHAP_C"), 64).unwrap();
    (algorithm, value(&answer, "CHAP_I").parse().unwrap(), challenge)
}

fn status(world: &mut World, packet: Packet) -> u16 {
    world.exchange(&[packet]).last().expect("an answer").bhs.half(36)
}

#[test]
fn every_algorithm_in_both_directions() {
    for (offer, expected) in [
        ("5", Algorithm::Md5),
        // Its first choice of what is allowed, weak or strong.
        ("0x6,5", Algorithm::Sha1),
        ("7,5", Algorithm::Sha256),
        ("99,8,5", Algorithm::Sha3),
        ("1,5,6,7,8", Algorithm::Md5),
    ] {
        let mut world = guarded();
        world.targets.user = Some("me");
        let (algorithm, identifier, challenge) = challenged(&mut world, offer);
        assert_eq!(algorithm, expected);
        let response = hexadecimal(&algorithm.response(identifier, THEIRS, &challenge));
        let ours =
            [("CHAP_N", "me"), ("CHAP_R", &response[..]), ("CHAP_I", "0x11"), ("CHAP_C", "0b//79/A==")];
        let third = world.initiator.login(0, Some(1), &ours);
        let answer = &world.exchange(&[third])[0];
        assert_eq!(answer.bhs.flags(), FINAL | 1, "{:?}", world.closed());
        let said = keys(answer);
        assert_eq!(value(&said, "CHAP_N"), "target");
        let expected = algorithm.response(0x11, OURS, &[0xff, 0xfe, 0xfd, 0xfc]);
        assert_eq!(binary(value(&said, "CHAP_R"), 64).unwrap(), expected.to_vec());
        let last = world.initiator.login(1, Some(3), &[]);
        assert_eq!(status(&mut world, last), 0);
        assert_eq!(world.session.user(), Some("me"));
        assert!(world.session.is_full_feature(world.key));
        world.end();
    }
}

#[test]
fn one_way_and_straight_to_full_feature() {
    let mut world = guarded();
    let (algorithm, identifier, challenge) = challenged(&mut world, "7");
    let response = hexadecimal(&algorithm.response(identifier, THEIRS, &challenge));
    let third = world.initiator.login(0, Some(3), &[("CHAP_N", "me"), ("CHAP_R", &response)]);
    assert_eq!(status(&mut world, third), 0);
    assert!(world.session.is_full_feature(world.key));
}

#[test]
fn challenges_differ() {
    let mut world = guarded();
    let (_, _, first) = challenged(&mut world, "7");
    let next = world.targets.random.get();
    let mut world = guarded();
    world.targets.random.set(next);
    let (_, _, second) = challenged(&mut world, "7");
    assert_ne!(first, second);
}

#[test]
fn who_does_not_know_the_secret_stays_outside() {
    const FAILURE: u16 = LoginStatus::AuthenticationFailure as u16;
    type Answer = fn(&str, &str) -> Vec<(&'static str, String)>;
    let answers: [(&str, Answer); 13] = [
        ("wrong secret", |_, _| vec![("CHAP_N", "me".into()), ("CHAP_R", hexadecimal(&[7; 32]))]),
        ("empty", |_, _| vec![("CHAP_N", "me".into()), ("CHAP_R", "0x".into())]),
        ("too long", |right, _| vec![("CHAP_N", "me".into()), ("CHAP_R", format!("{right}00"))]),
        ("no number", |_, _| vec![("CHAP_N", "me".into()), ("CHAP_R", "secret".into())]),
        ("another's name", |right, _| vec![("CHAP_N", "someone".into()), ("CHAP_R", right.into())]),
        ("nobody's name", |right, _| vec![("CHAP_N", "nobody".into()), ("CHAP_R", right.into())]),
        ("no name", |right, _| vec![("CHAP_R", right.into())]),
        ("no response", |_, _| vec![("CHAP_N", "me".into())]),
        ("algorithms again", |_, _| vec![("CHAP_A", "5".into())]),
        ("reflected", |right, challenge| {
            let own = [("CHAP_I", "1".into()), ("CHAP_C", challenge.into())];
            [vec![("CHAP_N", "me".into()), ("CHAP_R", right.into())], own.to_vec()].concat()
        }),
        ("no identifier", |right, _| {
            vec![("CHAP_N", "me".into()), ("CHAP_R", right.into()), ("CHAP_C", "0x1234".into())]
        }),
        ("identifier too large", |right, _| {
            let own = [("CHAP_I", "256".into()), ("CHAP_C", "0x1234".into())];
            [vec![("CHAP_N", "me".into()), ("CHAP_R", right.into())], own.to_vec()].concat()
        }),
        ("challenge without end", |right, _| {
            let own = [("CHAP_I", "1".into()), ("CHAP_C", hexadecimal(&[1; 1025]))];
            [vec![("CHAP_N", "me".into()), ("CHAP_R", right.into())], own.to_vec()].concat()
        }),
    ];
    for (what, answer) in answers {
        let mut world = guarded();
        let (algorithm, identifier, challenge) = challenged(&mut world, "7");
        let right = hexadecimal(&algorithm.response(identifier, THEIRS, &challenge));
        let answer = answer(&right, &hexadecimal(&challenge));
        let answer: Vec<(&str, &str)> = answer.iter().map(|(key, value)| (*key, &value[..])).collect();
        let third = world.initiator.login(0, Some(1), &answer);
        let reply = world.exchange(&[third]).pop().expect("an answer");
        assert_eq!(reply.bhs.half(36), FAILURE, "{what}: {:?}", world.closed());
        assert!(reply.data.is_empty(), "{what}: nothing is told");
        assert!(world.connection().is_closing());
        world.end();
    }
}

#[test]
fn there_is_no_way_around() {
    const FAILURE: u16 = LoginStatus::AuthenticationFailure as u16;
    // The operational stage first, no method, another method, or none of the algorithms.
    let mut world = guarded();
    let login = world.initiator.login(1, Some(3), &NAMES);
    assert_eq!(status(&mut world, login), FAILURE);
    let mut world = guarded();
    let login = world.initiator.login(0, Some(3), &NAMES);
    assert_eq!(status(&mut world, login), FAILURE);
    let mut world = guarded();
    let login = world.initiator.login(0, Some(1), &[&NAMES[..], &[("AuthMethod", "None")]].concat());
    assert_eq!(status(&mut world, login), FAILURE);
    let mut world = guarded();
    let login = world.initiator.login(0, None, &[&NAMES[..], &[("AuthMethod", "CHAP")]].concat());
    world.exchange(&[login]);
    let algorithms = world.initiator.login(0, None, &[("CHAP_A", "1,2,50")]);
    assert_eq!(status(&mut world, algorithms), FAILURE);
    // The response before the challenge; the next stage before the response.
    let mut world = guarded();
    let login = world.initiator.login(0, None, &[&NAMES[..], &[("AuthMethod", "CHAP")]].concat());
    world.exchange(&[login]);
    let early = world.initiator.login(0, Some(3), &[("CHAP_N", "me"), ("CHAP_R", "0x00")]);
    assert_eq!(status(&mut world, early), FAILURE);
    let mut world = guarded();
    challenged(&mut world, "5");
    let skip = world.initiator.login(1, Some(3), &[]);
    assert_ne!(status(&mut world, skip), 0);
    let mut world = guarded();
    challenged(&mut world, "5");
    let again = world.initiator.login(0, Some(3), &[("AuthMethod", "None")]);
    assert_ne!(status(&mut world, again), 0);
    // A right account without access.
    let mut world = guarded();
    world.targets.user = Some("someone");
    let (algorithm, identifier, challenge) = challenged(&mut world, "8");
    let response = hexadecimal(&algorithm.response(identifier, THEIRS, &challenge));
    let third = world.initiator.login(0, Some(3), &[("CHAP_N", "me"), ("CHAP_R", &response)]);
    assert_eq!(status(&mut world, third), LoginStatus::AuthorizationFailure as u16);
}

#[test]
fn discovery_sessions_are_guarded_too() {
    let discovery = [NAMES[0], ("SessionType", "Discovery")];
    let mut world = guarded();
    let login = world.initiator.login(1, Some(3), &discovery);
    assert_eq!(status(&mut world, login), LoginStatus::AuthenticationFailure as u16);
    let mut world = guarded();
    let login = world.initiator.login(0, None, &[&discovery[..], &[("AuthMethod", "CHAP")]].concat());
    world.exchange(&[login]);
    let second = world.initiator.login(0, None, &[("CHAP_A", "5")]);
    let said = keys(&world.exchange(&[second])[0]);
    let challenge = binary(value(&said, "CHAP_C"), 64).unwrap();
    let response = Algorithm::Md5.response(value(&said, "CHAP_I").parse().unwrap(), THEIRS, &challenge);
    let third = world.initiator.login(0, Some(3), &[("CHAP_N", "me"), ("CHAP_R", &hexadecimal(&response))]);
    assert_eq!(status(&mut world, third), 0);
    let ask = world.initiator.text(b"SendTargets=All\0");
    assert!(world.exchange(&[ask])[0].data.starts_with(b"TargetName="));
}

#[test]
fn logins_are_sent_elsewhere() {
    for (target, status, address) in [
        ("iqn.2026-11.test:moved", 0x0102, "[2001:db8::7]:3260"),
        ("iqn.2026-11.test:away", 0x0101, "host.example:3260"),
    ] {
        let mut world = World::new(Parameters::default());
        let login =
            world.initiator.login(0, Some(1), &[NAMES[0], ("TargetName", target), ("AuthMethod", "None")]);
        let answer = world.exchange(&[login]).pop().expect("an answer");
        assert_eq!(answer.bhs.half(36), status);
        assert_eq!(keys(&answer), [("TargetAddress".to_owned(), address.to_owned())]);
        assert!(world.connection().is_closing());
        world.end();
    }
}
