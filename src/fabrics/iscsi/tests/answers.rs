// SPDX-License-Identifier: GPL-2.0-or-later
//! What is answered is what is in force: each key, with values of all kinds, alone and in company, has one answer at
//! most, and what that says holds from then on; a key that is rejected or not offered has its default.

use super::*;
use crate::fabrics::iscsi::initiator::Transfer;
use crate::wire::iscsi::pairs;

/// How a key is read from what is in force, in the words of its answer.
type Read = fn(&Negotiated) -> String;

fn yes(flag: bool) -> String {
    if flag { "Yes".into() } else { "No".into() }
}

fn digest(on: bool) -> String {
    if on { "CRC32C".into() } else { "None".into() }
}

/// Each key, with its default (RFC 7143 13) and values at, within and beyond the ends of what it may have.
const KEYS: &[(&str, &str, Read, &[&str])] = &[
    ("HeaderDigest", "None", |n| digest(n.header_digest), DIGESTS),
    ("DataDigest", "None", |n| digest(n.data_digest), DIGESTS),
    ("MaxConnections", "1", |n| n.max_connections.to_string(), &["1", "2", "65535", "65536", "0"]),
    ("InitialR2T", "Yes", |n| yes(n.initial_r2t), FLAGS),
    ("ImmediateData", "Yes", |n| yes(n.immediate_data), FLAGS),
    ("MaxBurstLength", "262144", |n| n.max_burst_length.to_string(), BURSTS),
    ("FirstBurstLength", "65536", |n| n.first_burst_length.to_string(), BURSTS),
    ("MaxOutstandingR2T", "1", |n| n.max_outstanding_r2t.to_string(), &["1", "2", "65535", "65536", "0"]),
    ("DefaultTime2Wait", "2", |n| n.time2wait.to_string(), SECONDS),
    ("DefaultTime2Retain", "20", |n| n.time2retain.to_string(), SECONDS),
    ("ErrorRecoveryLevel", "0", |_| "0".into(), &["0", "1", "2", "3"]),
    ("DataPDUInOrder", "Yes", |_| "Yes".into(), FLAGS),
    ("DataSequenceInOrder", "Yes", |_| "Yes".into(), FLAGS),
    (
        "TaskReporting",
        "RFC3720",
        |n| if n.fast_abort { "FastAbort".into() } else { "RFC3720".into() },
        &[
            "RFC3720",
            "FastAbort",
            "ResponseFence",
            "ResponseFence,FastAbort",
            "RFC3720,FastAbort",
            "fastabort",
        ],
    ),
    ("RDMAExtensions", "No", |_| "No".into(), FLAGS),
];

const DIGESTS: &[&str] =
    &["None", "CRC32C", "None,CRC32C", "CRC32C,None", "CRC32C,CRC32C", "MD99,None", "MD99", "crc32c"];
const FLAGS: &[&str] = &["Yes", "No", "yes", "Yes,No", "1"];
const BURSTS: &[&str] = &[
    "511", "512", "0x200", "1000", "65536", "65537", "262144", "0x40001", "1048577", "16777215", "16777216",
];
const SECONDS: &[&str] = &["0", "1", "0xe10", "3600", "3601"];
/// For all keys: what has no value, is no number, or is an answer and no offer.
const NONSENSE: &[&str] =
    &["", ",", "-1", "0x", "0b1000", "4294967808", "Reject", "Irrelevant", "NotUnderstood"];

type Pairs<'a> = Vec<(&'a str, &'a str)>;

/// Logs in with keys in so many requests, one after the other. Returns what was answered, nothing of it twice.
fn login(ours: &Parameters, requests: &[Pairs<'_>]) -> (Vec<(String, String)>, World) {
    let mut world = World::new(ours.clone());
    let mut answered: Vec<(String, String)> = Vec::new();
    for (n, keys) in requests.iter().enumerate() {
        let next = (n + 1 == requests.len()).then_some(3);
        let names = if n == 0 { &NAMES[..] } else { &[] };
        let request = world.initiator.login(1, next, &[names, keys].concat());
        let answer = world.exchange(&[request]).remove(0);
        assert_eq!(answer.bhs.half(36), 0, "{requests:?}: {:?}", world.closed());
        for pair in pairs(&answer.data).map(Result::unwrap) {
            assert!(
                answered.iter().all(|(key, _)| key != pair.key),
                "{} is answered twice: {requests:?}",
                pair.key
            );
            answered.push((pair.key.into(), pair.value.into()));
        }
    }
    let negotiated = world.connection().negotiated();
    world.initiator.digests = Digests { header: negotiated.header_digest, data: negotiated.data_digest };
    (answered, world)
}

/// What was answered to a key, if that says what holds.
fn agreed<'a>(answered: &'a [(String, String)], key: &str) -> Option<&'a str> {
    let answer = answered.iter().find(|(said, _)| said == key).map(|(_, value)| &value[..]);
    answer.filter(|value| !matches!(*value, "Reject" | "Irrelevant" | "NotUnderstood"))
}

/// Compares what is in force with what was answered, for all keys. `declared` is the initiator's
/// MaxRecvDataSegmentLength.
fn compare(answered: &[(String, String)], world: &World, declared: &str, what: &[Pairs<'_>]) {
    let negotiated = world.connection().negotiated();
    for (key, default, read, _) in KEYS {
        assert_eq!(read(negotiated), agreed(answered, key).unwrap_or(default), "{key} after {what:?}");
    }
    let own = agreed(answered, "MaxRecvDataSegmentLength");
    assert_eq!(negotiated.max_recv_data_segment_length.to_string(), own.unwrap_or("8192"), "{what:?}");
    let theirs = if own.is_some() { declared } else { "8192" };
    assert_eq!(negotiated.max_xmit_data_segment_length.to_string(), theirs, "{what:?}");
}

/// An offer of every key.
fn company() -> Pairs<'static> {
    KEYS.iter().map(|(key, _, _, values)| (*key, values[1])).collect()
}

#[test]
fn each_key_has_one_answer_and_that_is_in_force() {
    let generous = Parameters { max_connections: 8, time2retain: 30, ..Parameters::default() };
    let strict = Parameters {
        initial_r2t: true,
        immediate_data: false,
        max_burst_length: 8192,
        first_burst_length: 4096,
        max_outstanding_r2t: 1,
        ..Parameters::default()
    };
    for ours in [generous, strict] {
        for (key, _, _, values) in KEYS {
            for value in values.iter().chain(NONSENSE) {
                let others: Pairs<'_> = company().into_iter().filter(|(other, _)| other != key).collect();
                let one = vec![(*key, *value)];
                for requests in [
                    vec![one.clone()],
                    vec![[one.clone(), others.clone()].concat()],
                    vec![[others.clone(), one.clone()].concat()],
                    vec![one.clone(), others.clone()],
                    vec![others, one],
                ] {
                    let (answered, world) = login(&ours, &requests);
                    assert!(answered.iter().any(|(said, _)| said == key), "{requests:?}");
                    compare(&answered, &world, "8192", &requests);
                }
            }
        }
    }
}

/// All values of two lengths that bound each other, in one request and in two, in either order.
fn bursts(mut try_with: impl FnMut(&[Pairs<'_>])) {
    let values: Vec<Option<&str>> = BURSTS.iter().map(|value| Some(*value)).chain([None]).collect();
    for &first in &values {
        for &max in &values {
            let first: Pairs<'_> = first.map(|value| ("FirstBurstLength", value)).into_iter().collect();
            let max: Pairs<'_> = max.map(|value| ("MaxBurstLength", value)).into_iter().collect();
            try_with(&[[first.clone(), max.clone()].concat()]);
            try_with(&[[max.clone(), first.clone()].concat()]);
            try_with(&[first.clone(), max.clone()]);
            try_with(&[max, first]);
        }
    }
}

#[test]
fn bursts_are_answered_as_they_are_in_force() {
    let small = Parameters { max_burst_length: 4096, first_burst_length: 2048, ..Parameters::default() };
    for ours in [Parameters::default(), small] {
        bursts(|requests| {
            let (answered, world) = login(&ours, requests);
            compare(&answered, &world, "8192", requests);
            let number = |key| agreed(&answered, key).map(|value| value.parse::<u32>().unwrap());
            // What was settled before the other came could not be bound by it.
            if requests.len() == 1
                && let (Some(first), Some(max)) = (number("FirstBurstLength"), number("MaxBurstLength"))
            {
                assert!(first <= max, "{requests:?}");
            }
        });
    }
}

/// Sends a write of more than so many bytes, of which so many are unsolicited. Returns the R2Ts, or nothing if that was
/// a violation.
fn write(world: &mut World, unsolicited: u32) -> Option<Vec<Packet>> {
    let (len, segment) =
        (unsolicited + 2000, 65_536.min(world.connection().negotiated().max_recv_data_segment_length));
    let mut command = world.initiator.command(0, &vendor(WRITE_IN_PARTS, len, len), Transfer::write(len));
    command.bhs.bytes_mut()[1] &= !FINAL;
    let mut answers = world.exchange(&[&command]);
    for (sn, at) in (0..unsolicited).step_by(segment as usize).enumerate() {
        let part = pattern_of(at as usize, segment.min(unsolicited - at) as usize);
        let last = at + segment >= unsolicited;
        let data = world.initiator.data_out(&command, None, u32::try_from(sn).unwrap(), at, &part, last);
        answers = world.exchange(&[data]);
    }
    let refused = world.connection().is_closing();
    (!refused).then_some(answers)
}

#[test]
fn the_bursts_that_were_answered_are_taken() {
    let ours = Parameters::default();
    bursts(|requests| {
        let offered = [&[("InitialR2T", "No")][..], &requests[0]].concat();
        let requests = [&[offered][..], &requests[1..]].concat();
        let (answered, mut world) = login(&ours, &requests);
        let number =
            |key, default| agreed(&answered, key).map_or(default, |value| value.parse::<u32>().unwrap());
        let (first, max) = (number("FirstBurstLength", 65_536), number("MaxBurstLength", 262_144));
        let r2ts = write(&mut world, first).unwrap_or_else(|| panic!("{requests:?}: {}", world.violation()));
        assert_eq!(r2ts[0].bhs.word(44), max.min(2000), "{requests:?}");
        assert!(write(&mut world, first + 1).is_none(), "{requests:?}: more than was answered");
    });
}

#[test]
fn what_was_answered_is_what_is_done() {
    let generous = Parameters { max_outstanding_r2t: 8, ..Parameters::default() };
    let case = |keys: &[(&'static str, &'static str)]| login(&generous, &[keys.to_vec()]).1;
    // InitialR2T, ImmediateData.
    for (value, taken) in [("No", true), ("Yes", false)] {
        assert_eq!(write(&mut case(&[("InitialR2T", value)]), 512).is_some(), taken);
        let mut world = case(&[("ImmediateData", if taken { "Yes" } else { "No" })]);
        let command = world.initiator.command(0, &vendor(WRITE_IN_PARTS, 512, 512), Transfer::write(512));
        world.exchange(&[command.data(&pattern_of(0, 512))]);
        assert_eq!(!world.connection().is_closing(), taken);
    }
    // MaxOutstandingR2T.
    for (value, r2ts) in [("1", 1), ("3", 3), ("8", 8), ("9", 8), ("0", 1)] {
        let mut world = case(&[("MaxOutstandingR2T", value), ("MaxBurstLength", "512")]);
        let cdb = vendor(WRITE_IN_PARTS, 64 << 10, 64 << 10);
        let command = world.initiator.command(0, &cdb, Transfer::write(64 << 10));
        assert_eq!(world.exchange(&[command]).len(), r2ts, "MaxOutstandingR2T={value}");
    }
    // MaxRecvDataSegmentLength, in both directions; ours is not declared where theirs is rejected.
    for (value, theirs, ours) in [
        ("512", 512, 262_144),
        ("0x1000", 4096, 262_144),
        ("511", 8192, 8192),
        ("16777216", 8192, 8192),
        ("", 8192, 8192),
    ] {
        let requests = [vec![("MaxRecvDataSegmentLength", value)]];
        let (answered, mut world) = login(&generous, &requests);
        compare(&answered, &world, &theirs.to_string(), &requests);
        let command =
            world.initiator.command(0, &vendor(READ_IN_PARTS, 20_000, 20_000), Transfer::read(20_000));
        let longest = world.exchange(&[command]).iter().map(|packet| packet.data.len()).max().unwrap();
        assert_eq!(longest, theirs);
        for (len, taken) in [(ours, true), (ours + 1, false)] {
            let text = world.initiator.nop_out(&vec![0; len]);
            world.exchange(&[text]);
            assert_eq!(!world.connection().is_closing(), taken, "{value}: {len} bytes");
        }
    }
}

#[test]
fn nothing_is_answered_twice() {
    let repeated =
        ["X-com.example.a", "InitiatorAlias", "SessionType", "AuthMethod", "MaxRecvDataSegmentLength"];
    for key in repeated.into_iter().chain(KEYS.iter().map(|row| row.0)) {
        let value = match key {
            "SessionType" => "Normal",
            "AuthMethod" => "None",
            "MaxRecvDataSegmentLength" => "4096",
            _ => "1",
        };
        for (first, second) in [(true, false), (false, true)] {
            let mut world = World::new(Parameters::default());
            let names: Pairs<'_> = NAMES.into_iter().filter(|(name, _)| *name != key).collect();
            let keys = [(key, value); 2];
            let one = world.initiator.login(0, None, &[&names[..], &keys[usize::from(second)..]].concat());
            let mut answers = world.exchange(&[one]);
            if !first {
                let again = world.initiator.login(0, None, &keys[1..]);
                answers = world.exchange(&[again]);
            }
            assert_eq!(answers[0].bhs.half(36), LoginStatus::InitiatorError as u16, "{key}");
        }
    }
}
