// SPDX-License-Identifier: GPL-2.0-or-later
//! Identifiers and neighbours.

use super::*;

fn kinds(caught: &[SentFrame]) -> Vec<&'static str> {
    let kind = |caught: &SentFrame| match caught.vn2vn() {
        Vn2VnMessage::ProbeRequest => "probe",
        Vn2VnMessage::ProbeReply => "probe reply",
        Vn2VnMessage::ClaimNotification(_) => "claim",
        Vn2VnMessage::ClaimResponse(_) => "claim response",
        Vn2VnMessage::Beacon => "beacon",
    };
    caught.iter().map(kind).collect()
}

#[test]
fn an_identifier_is_asked_for_twice_then_claimed_then_told_again_and_again() {
    let mut rig = FcoeRig::new();
    let first = rig.pass(millis(99));
    assert!(kinds(&first).iter().all(|kind| *kind == "probe"));
    assert_eq!(rig.port.id(), None);
    let all = [first, rig.pass(millis(20_000))].concat();
    assert_eq!(
        kinds(&all),
        ["probe", "probe", "claim", "beacon", "beacon", "beacon", "beacon"],
        "in the first 20 s"
    );
    assert!(all.iter().all(|caught| caught.to == MacAddress::ALL_VN2VN));
    let from: Vec<_> = all.iter().map(|caught| caught.from).collect();
    assert!(from[..3].iter().all(|from| *from == identity(OWN).mac), "it has no other address yet");
    assert!(from[3..].iter().all(|from| *from == vn_mac(OWN)));
    assert_eq!(rig.port.id(), Some(id(OWN)));
    assert_eq!(rig.drain(), [FcoePortEvent::Address(Some(vn_mac(OWN)))]);
    let Vn2VnMessage::ClaimNotification(claim) = all[2].vn2vn() else { panic!("a claim") };
    assert_eq!(claim.max_fcoe_size, 1498);
    assert_eq!(claim.attributes.features.of(FcType::FCP), Fc4Features::TARGET);
}

/// How long the port has been there, who says what, what is answered, and whether it takes another identifier.
type Conflict = (u64, u8, Vn2VnMessage, FipFlags, &'static [&'static str], bool);

/// The table of conflicts: who has the identifier already keeps it; of two that ask at a time the higher name does,
/// unless the other had it before.
#[test]
fn of_two_that_want_an_identifier_one_gets_it() {
    use Vn2VnMessage::{ClaimNotification, ProbeReply, ProbeRequest};
    let recorded = FipFlags::RECORDED;
    let none = FipFlags::default();
    let claims = ClaimNotification(claim());
    let table: [Conflict; 12] = [
        (150, LOWER, ProbeRequest, none, &["probe reply"], false),
        (150, LOWER, ProbeRequest, recorded, &[], true),
        (150, HIGHER, ProbeRequest, none, &[], true),
        (150, LOWER, ProbeReply, none, &[], true),
        (150, LOWER, claims, none, &[], true),
        (700, HIGHER, ProbeRequest, recorded, &["probe reply"], false),
        (700, LOWER, ProbeReply, none, &[], true),
        (700, LOWER, claims, none, &["claim"], false),
        (700, HIGHER, claims, none, &[], true),
        (3000, HIGHER, ProbeRequest, none, &["probe reply"], false),
        (3000, HIGHER, ProbeReply, none, &["claim"], false),
        (3000, HIGHER, claims, none, &[], true),
    ];
    for (after, last, message, flags, answers, another) in table {
        let mut rig = FcoeRig::new();
        rig.pass(millis(after));
        let had = rig.port.id().is_some();
        rig.drain();
        let caught = rig.say(last, id(OWN), message, flags);
        let what = format!("after {after} ms {last:02x} says {message:?}");
        assert_eq!(kinds(&caught), answers, "{what}");
        let lost = if another && had { vec![FcoePortEvent::Address(None)] } else { Vec::new() };
        assert_eq!(rig.drain(), lost, "{what}");
        rig.pass(millis(2000));
        assert_eq!(rig.port.id().expect("it has one again") != id(OWN), another, "{what}");
    }
}

#[test]
fn a_claim_is_answered_at_the_full_length_that_both_can_bear() {
    let mut rig = FcoeRig::up();
    let caught = rig.say(LOWER, id(LOWER), Vn2VnMessage::ClaimNotification(claim()), FipFlags::default());
    assert_eq!(kinds(&caught), ["claim response"]);
    assert_eq!((caught[0].to, caught[0].body.len()), (identity(LOWER).mac, 1498));
    // One that was cut on its way proves nothing: its sender is no neighbour, and nobody logs in to it.
    let response = Vn2VnMessage::ClaimResponse(claim());
    rig.say(HIGHER, id(HIGHER), response, FipFlags::default());
    rig.pass(millis(500));
    let caught = rig.say(HIGHER, id(HIGHER), Vn2VnMessage::Beacon, FipFlags::default());
    assert_eq!(kinds(&caught), ["claim"], "a stranger's beacon");
    let caught = rig.say(HIGHER, id(HIGHER), Vn2VnMessage::Beacon, FipFlags::default());
    assert_eq!(kinds(&caught), [""; 0], "not twice within a moment");
}

#[test]
fn a_neighbour_that_falls_silent_is_gone() {
    let mut rig = FcoeRig::up();
    rig.say(LOWER, id(LOWER), Vn2VnMessage::ClaimNotification(claim()), FipFlags::default());
    rig.plogi(LOWER);
    rig.prli(LOWER);
    assert_eq!(rig.drain(), [FcoePortEvent::Joined(0)]);
    rig.pass(millis(15_000));
    rig.say(LOWER, id(LOWER), Vn2VnMessage::Beacon, FipFlags::default());
    rig.pass(millis(19_000));
    assert_eq!(rig.drain(), []);
    rig.pass(millis(1_001));
    assert_eq!(rig.drain(), [FcoePortEvent::Left(0)]);
}

#[test]
fn so_many_neighbours_and_no_more_are_known() {
    let mut rig = FcoeRig::up();
    let mut answers = 0;
    for number in 0..2 * u32::try_from(super::super::NEIGHBOURS_MAX).unwrap() {
        let about = FcId::new(0x1000 + number);
        answers += rig.say(LOWER, about, Vn2VnMessage::ClaimNotification(claim()), FipFlags::default()).len();
    }
    assert_eq!(answers, 2 * super::super::NEIGHBOURS_MAX, "all are answered");
    // A beacon of one that is known begins a login, until there are too many peers.
    let known = |rig: &mut FcoeRig, number| {
        let caught = rig.say(LOWER, FcId::new(number), Vn2VnMessage::Beacon, FipFlags::default());
        caught.iter().any(|caught| matches!(caught.fip().message, FipMessage::LinkService { .. }))
    };
    rig.pass(millis(500));
    let logins = (0x1000..0x1200).filter(|number| known(&mut rig, *number)).count();
    assert_eq!(logins, super::super::PEERS_MAX);
}
