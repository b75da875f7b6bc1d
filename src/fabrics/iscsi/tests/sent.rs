// SPDX-License-Identifier: GPL-2.0-or-later
//! Limits on what we send: what is longer goes on in further PDUs, or ends the login with a reason that is told.
//! Nothing is left out in silence. (Data-In: `data_in_is_cut_to_segments_and_bursts`; R2Ts:
//! `r2ts_are_outstanding_together`.)

use super::*;
use crate::wire::iscsi::pairs;

/// All that is told in answer to a text, by as many requests as it takes.
fn whole_answer(world: &mut World, text: &[u8]) -> (Vec<u8>, usize) {
    let request = world.initiator.text(text);
    let mut answer = world.exchange(&[&request]).remove(0);
    let (mut told, mut pdus) = (answer.data.clone(), 1);
    while answer.bhs.flags() == CONTINUE {
        let more = world.initiator.text(b"").word(16, request.bhs.itt()).word(20, answer.bhs.word(20));
        answer = world.exchange(&[more]).remove(0);
        assert_eq!(answer.opcode(), Opcode::TEXT_RESPONSE);
        told.extend(&answer.data);
        pdus += 1;
    }
    assert_eq!(answer.bhs.flags(), FINAL);
    (told, pdus)
}

#[test]
fn a_list_of_targets_of_any_length_is_told_whole() {
    for (segment, more) in [
        ("512", (3, 9)),
        ("8192", (4000, 1)),
        ("8192", (20, 300)),
        ("65536", (900, 2)),
        ("16777215", (9000, 3)),
    ] {
        let mut world = World::new(Parameters::default());
        world.targets.more = more;
        let names = [NAMES[0], ("SessionType", "Discovery"), ("MaxRecvDataSegmentLength", segment)];
        let login = world.initiator.login(1, Some(3), &names);
        world.exchange(&[login]);
        // Other keys come with it.
        let (told, pdus) = whole_answer(&mut world, b"SendTargets=All\0X-a.b=1\0");
        assert!(pdus >= told.len() / segment.parse::<usize>().unwrap());
        let mut wanted = vec![("X-a.b".to_owned(), "NotUnderstood".to_owned())];
        let mut last = String::new();
        let visitor = Visitor { initiator: "", origin: &origin(40_000), user: None };
        world.targets.discover(&visitor, &mut |target, address, group| {
            if last != target {
                wanted.push(("TargetName".into(), target.into()));
                target.clone_into(&mut last);
            }
            let address = SocketAddr::new(address.ip(), address.port());
            wanted.push(("TargetAddress".into(), format!("{address},{group}")));
        });
        let told: Vec<_> =
            pairs(&told).map(Result::unwrap).map(|p| (p.key.to_owned(), p.value.to_owned())).collect();
        assert!(told == wanted, "{} pairs of {}", told.len(), wanted.len());
        // One by name, which is not the first.
        let name = format!("SendTargets=iqn.2026-11.test:more:{}\0", more.0 - 1);
        let (told, _) = whole_answer(&mut world, name.as_bytes());
        assert_eq!(pairs(&told).count(), 1 + usize::from(more.1));
        world.end();
    }
}

#[test]
fn a_login_with_too_long_an_answer_is_refused_and_says_why() {
    let mut world = World::new(Parameters::default());
    let mut login = world.initiator.login(1, Some(3), &NAMES);
    (0..600).for_each(|n| login.data.extend(format!("x{n}=1\0").into_bytes()));
    let answers = world.exchange(&[login]);
    assert_eq!((answers.len(), answers[0].bhs.half(36)), (1, LoginStatus::InitiatorError as u16));
    let why = "the answer to all these keys is too long";
    assert_eq!(world.closed(), Some(&CloseReason::LoginRefused(LoginStatus::InitiatorError, why)));
}

/// RFC 7143 11.19: as much of the ping as the initiator takes.
#[test]
fn a_ping_comes_back_as_far_as_the_initiator_takes_it() {
    for (len, back) in [(511, 511), (512, 512), (513, 512), (8192, 512)] {
        let mut world = World::logged_in(Parameters::default(), &[("MaxRecvDataSegmentLength", "512")]);
        let ping = world.initiator.nop_out(&pattern_of(0, len));
        assert_eq!(world.exchange(&[ping])[0].data, pattern_of(0, back));
    }
}
