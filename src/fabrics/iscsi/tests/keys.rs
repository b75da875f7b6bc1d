// SPDX-License-Identifier: GPL-2.0-or-later
//! The keys of RFC 7143 13, each stated here once more from the standard: default, range, and how the result comes
//! about. Offers at the ends of the range and beyond, absurd ones, repeated ones, and split ones.

use super::*;
use crate::wire::iscsi::pairs;

/// A key with a number.
struct Number {
    key: &'static str,
    default: u32,
    range: (u32, u32),
    result: fn(u32, u32) -> u32,
    set: fn(&mut Parameters, u32),
    got: fn(&Negotiated) -> u32,
}

const LONGEST: u32 = (1 << 24) - 1;

const NUMBERS: [Number; 6] = [
    Number {
        key: "MaxBurstLength",
        default: 262_144,
        range: (512, LONGEST),
        result: u32::min,
        set: |p, v| p.max_burst_length = v,
        got: |n| n.max_burst_length,
    },
    Number {
        key: "FirstBurstLength",
        default: 65_536,
        range: (512, LONGEST),
        result: u32::min,
        set: |p, v| (p.first_burst_length, p.max_burst_length) = (v, LONGEST),
        got: |n| n.first_burst_length,
    },
    Number {
        key: "MaxOutstandingR2T",
        default: 1,
        range: (1, 65_535),
        result: u32::min,
        set: |p, v| p.max_outstanding_r2t = v,
        got: |n| n.max_outstanding_r2t,
    },
    Number {
        key: "MaxConnections",
        default: 1,
        range: (1, 65_535),
        result: u32::min,
        set: |p, v| p.max_connections = v,
        got: |n| n.max_connections,
    },
    Number {
        key: "DefaultTime2Wait",
        default: 2,
        range: (0, 3600),
        result: u32::max,
        set: |p, v| p.time2wait = v,
        got: |n| n.time2wait,
    },
    Number {
        key: "DefaultTime2Retain",
        default: 20,
        range: (0, 3600),
        result: u32::min,
        set: |p, v| p.time2retain = v,
        got: |n| n.time2retain,
    },
];

/// What is no number in decimal or hexadecimal notation, or none of 32 bits.
const ABSURD: [&str; 20] = [
    "",
    " ",
    "-1",
    "+600",
    "600 ",
    "6e2",
    "600.0",
    "0x",
    "0xg",
    "x200",
    "0b1000000000",
    "4294967296",
    "0x100000000",
    "99999999999999999999999",
    "600,700",
    "600~700",
    "Yes",
    "None",
    "Reject",
    "\u{7f}",
];

fn answer(packet: &Packet, key: &str) -> Option<String> {
    let pairs: Vec<_> = pairs(&packet.data).map(|pair| pair.unwrap()).collect();
    assert!(pairs.iter().filter(|pair| pair.key == key).count() <= 1, "{key} is answered once");
    pairs.iter().find(|pair| pair.key == key).map(|pair| pair.value.to_owned())
}

/// What is answered to a key, and what holds then.
fn negotiate(ours: Parameters, keys: &[(&str, &str)]) -> (Packet, Negotiated) {
    let mut world = World::new(ours);
    let login = world.initiator.login(1, Some(3), &[&NAMES[..], keys].concat());
    let answer = world.exchange(&[login]).remove(0);
    assert_eq!(answer.bhs.half(36), 0, "{keys:?} {:?}", world.closed());
    let negotiated = world.connection().negotiated().clone();
    world.end();
    (answer, negotiated)
}

/// MaxBurstLength bounds FirstBurstLength: as long as may be, where it is not the key in question.
fn with_room<'a>(key: &'a str, value: &'a str) -> Vec<(&'a str, &'a str)> {
    match key {
        "FirstBurstLength" => vec![("MaxBurstLength", "16777215"), (key, value)],
        _ => vec![(key, value)],
    }
}

#[test]
fn numbers_in_range_are_agreed_on() {
    for Number { key, default, range: (low, high), result, set, got } in NUMBERS {
        let mut all = vec![low, low + 1, default, high / 2, high - 1, high];
        all.sort_unstable();
        for &ours in &all {
            for &theirs in &all {
                let mut parameters = Parameters::default();
                set(&mut parameters, ours);
                for offer in
                    [theirs.to_string(), format!("{theirs:#x}"), format!("{theirs:#X}").replace('X', "x")]
                {
                    let (reply, negotiated) = negotiate(parameters.clone(), &with_room(key, &offer));
                    let wanted = result(ours, theirs);
                    assert_eq!(answer(&reply, key), Some(wanted.to_string()), "{key}={offer}, ours {ours}");
                    assert_eq!(got(&negotiated), wanted, "{key}={offer}, ours {ours}");
                }
            }
        }
        let (reply, negotiated) = negotiate(Parameters::default(), &[]);
        assert_eq!((answer(&reply, key), got(&negotiated)), (None, default), "{key} not offered");
    }
}

#[test]
fn numbers_out_of_range_and_absurd_ones_are_rejected() {
    for Number { key, default, range: (low, high), got, .. } in NUMBERS {
        let mut offers: Vec<String> = ABSURD.map(str::to_owned).to_vec();
        offers.extend(low.checked_sub(1).map(|below| below.to_string()));
        offers.extend([high + 1, u32::MAX].map(|above| above.to_string()));
        for offer in offers {
            let (reply, negotiated) = negotiate(Parameters::default(), &with_room(key, &offer));
            assert_eq!(answer(&reply, key).as_deref(), Some("Reject"), "{key}={offer}");
            assert_eq!(got(&negotiated), default, "{key}={offer}");
        }
    }
}

#[test]
fn flags_are_agreed_on() {
    type Outcome = fn(bool, bool) -> bool;
    type Set = fn(&mut Parameters, bool);
    type Got = fn(&Negotiated) -> bool;
    let flags: [(&str, Outcome, Set, Got); 2] = [
        ("InitialR2T", |a, b| a || b, |p, v| p.initial_r2t = v, |n| n.initial_r2t),
        ("ImmediateData", |a, b| a && b, |p, v| p.immediate_data = v, |n| n.immediate_data),
    ];
    let word = |flag| if flag { "Yes" } else { "No" };
    for (key, result, set, got) in flags {
        for (ours, theirs) in [(false, false), (false, true), (true, false), (true, true)] {
            let mut parameters = Parameters::default();
            set(&mut parameters, ours);
            let (reply, negotiated) = negotiate(parameters, &[(key, word(theirs))]);
            assert_eq!(answer(&reply, key).as_deref(), Some(word(result(ours, theirs))), "{key}");
            assert_eq!(got(&negotiated), result(ours, theirs), "{key}");
        }
        for offer in ["", "yes", "YES", "1", "true", "Yes,No", "Maybe"] {
            let (reply, negotiated) = negotiate(Parameters::default(), &[(key, offer)]);
            assert_eq!(answer(&reply, key).as_deref(), Some("Reject"), "{key}={offer}");
            assert!(got(&negotiated), "{key}: both are Yes by default");
        }
    }
}

/// What is the same for all: no error recovery, and data in order.
#[test]
fn there_is_no_error_recovery_and_data_is_in_order() {
    for offer in ["0", "1", "2", "0x2"] {
        let (reply, _) = negotiate(Parameters::default(), &[("ErrorRecoveryLevel", offer)]);
        assert_eq!(answer(&reply, "ErrorRecoveryLevel").as_deref(), Some("0"));
    }
    for offer in ["3", "", "-1", "Yes"] {
        let (reply, _) = negotiate(Parameters::default(), &[("ErrorRecoveryLevel", offer)]);
        assert_eq!(answer(&reply, "ErrorRecoveryLevel").as_deref(), Some("Reject"));
    }
    for key in ["DataPDUInOrder", "DataSequenceInOrder"] {
        for (offer, wanted) in [("No", "Yes"), ("Yes", "Yes"), ("no", "Reject"), ("", "Reject")] {
            let (reply, _) = negotiate(Parameters::default(), &[(key, offer)]);
            assert_eq!(answer(&reply, key).as_deref(), Some(wanted));
        }
    }
}

/// All keys at once, as an initiator might offer them.
const ALL: [(&str, &str); 21] = [
    ("HeaderDigest", "None,CRC32C"),
    ("DataDigest", "X-com.example.crc64,CRC32C"),
    ("MaxRecvDataSegmentLength", "0x10000"),
    ("MaxConnections", "3"),
    ("InitialR2T", "No"),
    ("ImmediateData", "Yes"),
    ("MaxBurstLength", "524288"),
    ("FirstBurstLength", "131072"),
    ("MaxOutstandingR2T", "7"),
    ("DefaultTime2Wait", "5"),
    ("DefaultTime2Retain", "60"),
    ("ErrorRecoveryLevel", "2"),
    ("DataPDUInOrder", "No"),
    ("DataSequenceInOrder", "No"),
    ("IFMarker", "No"),
    ("OFMarker", "Yes"),
    ("TaskReporting", "ResponseFence,FastAbort"),
    ("iSCSIProtocolLevel", "2"),
    ("RDMAExtensions", "Yes"),
    ("X-com.example.key", "1"),
    ("InitiatorAlias", "an initiator"),
];

#[test]
fn an_offer_may_be_split_anywhere() {
    let ours = Parameters { max_connections: 8, time2retain: 30, ..Parameters::default() };
    let (whole, agreed) = negotiate(ours.clone(), &ALL);
    assert_eq!(answer(&whole, "MaxConnections").as_deref(), Some("3"));
    let text = World::new(ours.clone()).initiator.login(1, None, &[&NAMES[..], &ALL].concat()).data;
    for cut in 0..=text.len() {
        let mut world = World::new(ours.clone());
        let mut head = world.initiator.login(1, None, &[]).data(&text[..cut]);
        head.bhs.bytes_mut()[1] |= CONTINUE;
        let tail = world.initiator.login(1, Some(3), &[]).data(&text[cut..]);
        let answers = world.exchange(&[head, tail]);
        assert_eq!((answers[0].bhs.flags(), answers[0].data.len()), (1 << 2, 0));
        assert_eq!(answers[1].data, whole.data, "cut at {cut}");
        assert_eq!(world.connection().negotiated(), &agreed);
    }
    // In as many pieces as a login may have.
    let mut world = World::new(ours);
    let pieces: Vec<&[u8]> = text.chunks(text.len().div_ceil(60)).collect();
    let mut answers = Vec::new();
    for (i, piece) in pieces.iter().enumerate() {
        let last = i + 1 == pieces.len();
        let mut packet = world.initiator.login(1, last.then_some(3), &[]).data(piece);
        packet.bhs.bytes_mut()[1] |= if last { 0 } else { CONTINUE };
        answers = world.exchange(&[packet]);
    }
    assert_eq!(answers[0].data, whole.data);
    world.end();
}

#[test]
fn a_key_is_offered_once() {
    for (key, value) in ALL {
        for apart in [false, true] {
            let mut world = World::new(Parameters::default());
            let twice = [(key, value), (key, value)];
            let first = world.initiator.login(1, None, &[&NAMES[..], &twice[..1]].concat());
            let second = world.initiator.login(1, Some(3), &twice[..1]);
            let both = world.initiator.login(1, Some(3), &[&NAMES[..], &twice].concat());
            let answers = world.exchange(&if apart { vec![first, second] } else { vec![both] });
            assert_eq!(answers.last().unwrap().bhs.half(36), LoginStatus::InitiatorError as u16, "{key}");
            assert!(world.connection().is_closing());
        }
    }
}

#[test]
fn who_offers_no_digest_where_one_is_required_stays_outside() {
    let required = DigestOffer { none: false, crc32c: true };
    for (header, data) in [(required, DigestOffer::ANY), (DigestOffer::ANY, required)] {
        let ours = Parameters { header_digest: header, data_digest: data, ..Parameters::default() };
        let both = [("HeaderDigest", "CRC32C"), ("DataDigest", "CRC32C")];
        assert!(negotiate(ours.clone(), &both).1.header_digest);
        let none = [("HeaderDigest", "None"), ("DataDigest", "None")];
        for (stage, keys) in [(1, &[][..]), (1, &none), (0, &[])] {
            let mut world = World::new(ours.clone());
            let login = world.initiator.login(stage, Some(3), &[&NAMES[..], keys].concat());
            let answers = world.exchange(&[login]);
            assert_eq!(answers[0].bhs.half(36), LoginStatus::InitiatorError as u16, "{keys:?}");
            assert!(world.connection().is_closing());
        }
    }
}
