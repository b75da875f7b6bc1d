// SPDX-License-Identifier: GPL-2.0-or-later
//! The operational keys (RFC 7143 13): one table row per key says how it is answered and where the result goes.

use std::collections::HashSet;

use super::parameters::{DigestOffer, Negotiated, Parameters};
use crate::wire::iscsi as wire;

/// How a value comes about.
enum KeyRule {
    /// Each side declares the longest data segment that it takes; where the peer's goes.
    Declared(fn(&mut Negotiated, u32)),
    /// The smaller of both; range, ours (by what has been agreed on so far), and where the result goes.
    Minimum(u32, u32, fn(&Parameters, &Negotiated) -> u32, fn(&mut Negotiated, u32)),
    /// The larger of both.
    Maximum(u32, u32, fn(&Parameters) -> u32, fn(&mut Negotiated, u32)),
    /// Yes if one side says so.
    Or(fn(&Parameters) -> bool, fn(&mut Negotiated, bool)),
    /// Yes if both say so.
    And(fn(&Parameters) -> bool, fn(&mut Negotiated, bool)),
    /// The first of the initiator's list that we accept.
    Digest(fn(&Parameters) -> DigestOffer, fn(&mut Negotiated, bool)),
    /// The first of the initiator's list that is one of these words.
    Word(&'static [&'static str], fn(&mut Negotiated, &str)),
    /// Declared by the initiator, and not answered; whether it is a value.
    Heard(fn(&mut Negotiated, &str) -> bool),
    /// Answered with the same word whatever was offered.
    Always(&'static str),
}

struct Row {
    key: &'static str,
    rule: KeyRule,
    /// Not for discovery sessions, where it is answered Irrelevant.
    normal_only: bool,
    /// Settled by the connection that begins a session; Irrelevant on those that join it.
    leading_only: bool,
}

/// A key that the connection which begins a session settles for all.
const fn row(key: &'static str, normal_only: bool, rule: KeyRule) -> Row {
    Row { key, rule, normal_only, leading_only: true }
}

/// A key that each connection settles for itself.
const fn own(key: &'static str, rule: KeyRule) -> Row {
    Row { key, rule, normal_only: false, leading_only: false }
}

const SEGMENT_MAX: u32 = (1 << 24) - 1;

use KeyRule::{Always, And, Declared, Digest, Heard, Maximum, Minimum, Or, Word};

/// What is answered to markers, obsolete since RFC 7143 (13.25).
const OBSOLETE: KeyRule = Always("Reject");

/// What is answered to the keys of RFC 7145, which mean nothing where RDMAExtensions=No.
const ISER: KeyRule = Always("Irrelevant");

const TABLE: &[Row] = &[
    own("HeaderDigest", Digest(|p| p.header_digest, |n, v| n.header_digest = v)),
    own("DataDigest", Digest(|p| p.data_digest, |n, v| n.data_digest = v)),
    own("MaxRecvDataSegmentLength", Declared(|n, v| n.max_xmit_data_segment_length = v)),
    row("DefaultTime2Wait", false, Maximum(0, 3600, |p| p.time2wait, |n, v| n.time2wait = v)),
    row("DefaultTime2Retain", false, Minimum(0, 3600, |p, _| p.time2retain, |n, v| n.time2retain = v)),
    row("ErrorRecoveryLevel", false, Minimum(0, 2, |_, _| 0, |_, _| ())),
    row("MaxConnections", true, Minimum(1, 65535, |p, _| p.max_connections, |n, v| n.max_connections = v)),
    row("InitialR2T", true, Or(|p| p.initial_r2t, |n, v| n.initial_r2t = v)),
    row("ImmediateData", true, And(|p| p.immediate_data, |n, v| n.immediate_data = v)),
    row(
        "MaxBurstLength",
        true,
        Minimum(512, SEGMENT_MAX, |p, _| p.max_burst_length, |n, v| n.max_burst_length = v),
    ),
    row(
        "FirstBurstLength",
        true,
        Minimum(
            512,
            SEGMENT_MAX,
            |p, n| p.first_burst_length.min(n.max_burst_length),
            |n, v| n.first_burst_length = v,
        ),
    ),
    row(
        "MaxOutstandingR2T",
        true,
        Minimum(1, 65535, |p, _| p.max_outstanding_r2t, |n, v| n.max_outstanding_r2t = v),
    ),
    row("DataPDUInOrder", true, Or(|_| true, |_, _| ())),
    row("DataSequenceInOrder", true, Or(|_| true, |_, _| ())),
    own("IFMarker", OBSOLETE),
    own("OFMarker", OBSOLETE),
    own("IFMarkInt", OBSOLETE),
    own("OFMarkInt", OBSOLETE),
    row("iSCSIProtocolLevel", false, Minimum(0, 31, |_, _| 1, |_, _| ())),
    row("TaskReporting", true, Word(&["FastAbort", "RFC3720"], |n, v| n.fast_abort = v == "FastAbort")),
    row("RDMAExtensions", true, And(|_| false, |_, _| ())),
    row("InitiatorRecvDataSegmentLength", true, ISER),
    row("TargetRecvDataSegmentLength", true, ISER),
    row("MaxOutstandingUnexpectedPDUs", true, ISER),
    row("MaxAHSLength", true, ISER),
    row("TaggedBufferForSolicitedDataOnly", true, ISER),
    row("iSERHelloRequired", true, ISER),
];

/// What is different where data is moved by tags (RFC 7145 6). In discovery sessions nothing is.
const TAGGED: &[Row] = &[
    own("HeaderDigest", Digest(|_| DigestOffer::NONE, |_, _| ())),
    own("DataDigest", Digest(|_| DigestOffer::NONE, |_, _| ())),
    // Those for initiator and target take its place.
    row("MaxRecvDataSegmentLength", true, Heard(|_, value| segment_length(value).is_some())),
    row("MaxConnections", true, Minimum(1, 65535, |_, _| 1, |_, _| ())),
    row("InitialR2T", true, Or(|_| true, |_, _| ())),
    row("RDMAExtensions", true, And(|_| true, |n, v| n.rdma_extensions = v)),
    row(
        "InitiatorRecvDataSegmentLength",
        true,
        Minimum(512, SEGMENT_MAX, |_, _| SEGMENT_MAX, |n, v| n.max_xmit_data_segment_length = v),
    ),
    row(
        "TargetRecvDataSegmentLength",
        true,
        Minimum(
            512,
            SEGMENT_MAX,
            |p, _| p.max_recv_data_segment_length,
            |n, v| n.max_recv_data_segment_length = v,
        ),
    ),
    row("MaxOutstandingUnexpectedPDUs", true, Heard(unexpected_max)),
    row("MaxAHSLength", true, Heard(|_, value| number(value, 0, u32::MAX).is_some())),
    row("TaggedBufferForSolicitedDataOnly", true, Heard(|_, value| boolean(value).is_some())),
    row("iSERHelloRequired", true, Heard(|_, value| boolean(value).is_some())),
];

/// MaxOutstandingUnexpectedPDUs: 0 for no limit, or 2 and more.
fn unexpected_max(n: &mut Negotiated, value: &str) -> bool {
    let max = number(value, 0, u32::MAX).filter(|&max| max != 1);
    if let Some(max) = max {
        n.unexpected_max = if max == 0 { u32::MAX } else { max };
    }
    max.is_some()
}

/// What a login is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LoginKind {
    /// A new normal session.
    Leading,
    /// Another connection for a session.
    Joining,
    /// A discovery session.
    Discovery,
}

/// The state of one negotiation.
#[derive(Default)]
pub(super) struct Negotiation {
    seen: HashSet<Box<str>>,
    /// Data is moved by tags.
    pub(super) tagged: bool,
    /// The key that both sides declare was rejected, and ours is not declared in the same breath.
    pub(super) declaration_rejected: bool,
    /// A digest that was agreed on holds from the full feature phase on; everything else does so too.
    pub(super) result: Negotiated,
}

/// A key was offered twice (RFC 7143 6.3): the negotiation fails.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Repeated;

impl Negotiation {
    /// Notes a key, which comes once in a login and has one answer.
    pub(super) fn note(&mut self, key: &str) -> Result<(), Repeated> {
        if self.seen.insert(key.into()) { Ok(()) } else { Err(Repeated) }
    }

    /// Answers one offered key; `None` if it wants no answer.
    pub(super) fn offer(
        &mut self,
        ours: &Parameters,
        kind: LoginKind,
        key: &str,
        value: &str,
    ) -> Result<Option<String>, Repeated> {
        self.note(key)?;
        let tagged: &[Row] = if self.tagged && kind != LoginKind::Discovery { TAGGED } else { &[] };
        let Some(row) = tagged.iter().chain(TABLE).find(|row| row.key == key) else {
            // These words answer an offer; to answer them in turn would never end.
            let answer = matches!(value, "NotUnderstood" | "Irrelevant" | "Reject");
            return Ok((!answer).then(|| "NotUnderstood".into()));
        };
        let Row { rule, normal_only, leading_only, .. } = row;
        if (kind == LoginKind::Discovery && *normal_only) || (kind == LoginKind::Joining && *leading_only) {
            return Ok(Some("Irrelevant".into()));
        }
        let n = &mut self.result;
        let answer = match rule {
            Declared(set) => match segment_length(value) {
                Some(theirs) => {
                    set(n, theirs);
                    return Ok(None);
                }
                None => {
                    self.declaration_rejected = true;
                    None
                }
            },
            Minimum(low, high, get, set) => {
                number(value, *low, *high).map(|theirs| settle(n, theirs.min(get(ours, n)), *set))
            }
            Maximum(low, high, get, set) => {
                number(value, *low, *high).map(|theirs| settle(n, theirs.max(get(ours)), *set))
            }
            Or(get, set) => boolean(value).map(|theirs| settle_bool(n, theirs || get(ours), *set)),
            And(get, set) => boolean(value).map(|theirs| settle_bool(n, theirs && get(ours), *set)),
            Digest(get, set) => {
                let offer = get(ours);
                let choice = value.split(',').find_map(|choice| match choice {
                    "None" if offer.none => Some(false),
                    "CRC32C" if offer.crc32c => Some(true),
                    _ => None,
                });
                choice.map(|crc| {
                    set(n, crc);
                    if crc { "CRC32C".into() } else { "None".into() }
                })
            }
            Word(ours, set) => value.split(',').find(|theirs| ours.contains(theirs)).map(|word| {
                set(n, word);
                word.into()
            }),
            Heard(hear) if hear(n, value) => return Ok(None),
            Heard(_) => {
                self.declaration_rejected |= key == "MaxOutstandingUnexpectedPDUs";
                None
            }
            Always(word) => Some((*word).into()),
        };
        Ok(Some(answer.unwrap_or_else(|| "Reject".into())))
    }

    /// What the target requires and has not been agreed on, whether it was offered or not.
    pub(super) fn unmet(&self, ours: &Parameters, kind: LoginKind) -> Option<&'static str> {
        let Negotiated { header_digest, data_digest, rdma_extensions, .. } = self.result;
        if self.tagged {
            // Digests are of the stream.
            let agreed = rdma_extensions || kind == LoginKind::Discovery;
            return (!agreed).then_some("a session over RDMA needs RDMAExtensions=Yes");
        }
        match (ours.header_digest.none || header_digest, ours.data_digest.none || data_digest) {
            (false, _) => Some("the target requires HeaderDigest=CRC32C"),
            (_, false) => Some("the target requires DataDigest=CRC32C"),
            _ => None,
        }
    }

    /// What holds from now on: what was answered, else the default.
    pub(super) fn finish(self) -> Negotiated {
        self.result
    }
}

/// The pairs of a text in the order in which they are settled: FirstBurstLength is bound by MaxBurstLength, which may
/// stand behind it.
pub(super) fn in_order(text: &[u8]) -> impl Iterator<Item = wire::Pair<'_>> {
    let (bound, free): (Vec<_>, Vec<_>) =
        wire::pairs(text).flatten().partition(|pair| pair.key == "FirstBurstLength");
    free.into_iter().chain(bound)
}

fn settle(n: &mut Negotiated, value: u32, set: fn(&mut Negotiated, u32)) -> String {
    set(n, value);
    value.to_string()
}

fn settle_bool(n: &mut Negotiated, value: bool, set: fn(&mut Negotiated, bool)) -> String {
    set(n, value);
    if value { "Yes".into() } else { "No".into() }
}

/// Whether a key is settled at login and not later.
pub(super) fn is_login_key(key: &str) -> bool {
    const OTHERS: [&str; 12] = [
        "AuthMethod",
        "CHAP_A",
        "CHAP_C",
        "CHAP_I",
        "CHAP_N",
        "CHAP_R",
        "InitiatorName",
        "SessionType",
        "TargetName",
        "TargetAlias",
        "TargetAddress",
        "TargetPortalGroupTag",
    ];
    OTHERS.contains(&key) || TABLE.iter().any(|row| row.key == key)
}

/// A value of MaxRecvDataSegmentLength.
pub(super) fn segment_length(value: &str) -> Option<u32> {
    number(value, 512, SEGMENT_MAX)
}

/// A number in range.
fn number(value: &str, low: u32, high: u32) -> Option<u32> {
    wire::number(value).filter(|n| (low..=high).contains(n))
}

fn boolean(value: &str) -> Option<bool> {
    match value {
        "Yes" => Some(true),
        "No" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(ours: &Parameters, key: &str, value: &str) -> (Option<String>, Negotiated) {
        let mut n = Negotiation::default();
        let answer = n.offer(ours, LoginKind::Leading, key, value).unwrap();
        (answer, n.finish())
    }

    #[test]
    fn every_key_is_answered_by_its_rule() {
        let ours = Parameters { max_burst_length: 65536, max_outstanding_r2t: 4, ..Parameters::default() };
        let strict = Parameters {
            initial_r2t: true,
            immediate_data: false,
            max_connections: 4,
            time2wait: 5,
            time2retain: 9,
            header_digest: DigestOffer { none: false, crc32c: true },
            ..Parameters::default()
        };
        for (ours, key, value, expected) in [
            (&ours, "HeaderDigest", "CRC32C,None", Some("CRC32C")),
            (&ours, "HeaderDigest", "None,CRC32C", Some("None")),
            (&ours, "DataDigest", "MD99,CRC32C", Some("CRC32C")),
            (&ours, "DataDigest", "MD99", Some("Reject")),
            (&strict, "HeaderDigest", "None", Some("Reject")),
            (&strict, "HeaderDigest", "None,CRC32C", Some("CRC32C")),
            (&ours, "MaxRecvDataSegmentLength", "4096", None),
            (&ours, "MaxRecvDataSegmentLength", "511", Some("Reject")),
            (&ours, "MaxRecvDataSegmentLength", "16777216", Some("Reject")),
            (&ours, "MaxBurstLength", "0x8000", Some("32768")),
            (&ours, "MaxBurstLength", "1048576", Some("65536")),
            (&ours, "MaxBurstLength", "+4096", Some("Reject")),
            (&ours, "MaxBurstLength", "", Some("Reject")),
            (&ours, "MaxOutstandingR2T", "16", Some("4")),
            (&ours, "MaxOutstandingR2T", "0", Some("Reject")),
            (&ours, "InitialR2T", "No", Some("No")),
            (&ours, "InitialR2T", "Yes", Some("Yes")),
            (&strict, "InitialR2T", "No", Some("Yes")),
            (&strict, "ImmediateData", "Yes", Some("No")),
            (&ours, "ImmediateData", "yes", Some("Reject")),
            (&ours, "DataPDUInOrder", "No", Some("Yes")),
            (&ours, "DataSequenceInOrder", "No", Some("Yes")),
            (&ours, "ErrorRecoveryLevel", "2", Some("0")),
            (&ours, "ErrorRecoveryLevel", "3", Some("Reject")),
            (&ours, "MaxConnections", "8", Some("1")),
            (&strict, "MaxConnections", "8", Some("4")),
            (&strict, "MaxConnections", "0", Some("Reject")),
            (&strict, "DefaultTime2Wait", "2", Some("5")),
            (&strict, "DefaultTime2Retain", "20", Some("9")),
            (&ours, "DefaultTime2Wait", "0", Some("2")),
            (&ours, "DefaultTime2Wait", "60", Some("60")),
            (&ours, "DefaultTime2Retain", "20", Some("0")),
            (&ours, "IFMarker", "No", Some("Reject")),
            (&ours, "OFMarker", "Yes", Some("Reject")),
            (&ours, "IFMarkInt", "2048~4096", Some("Reject")),
            (&ours, "OFMarkInt", "2048", Some("Reject")),
            (&ours, "iSCSIProtocolLevel", "2", Some("1")),
            (&ours, "iSCSIProtocolLevel", "0", Some("0")),
            (&ours, "iSCSIProtocolLevel", "32", Some("Reject")),
            (&ours, "TaskReporting", "ResponseFence,FastAbort,RFC3720", Some("FastAbort")),
            (&ours, "TaskReporting", "ResponseFence", Some("Reject")),
            (&ours, "RDMAExtensions", "Yes", Some("No")),
            (&ours, "InitiatorRecvDataSegmentLength", "65536", Some("Irrelevant")),
            (&ours, "MaxOutstandingUnexpectedPDUs", "8", Some("Irrelevant")),
            (&ours, "X-com.example.key", "1", Some("NotUnderstood")),
            (&ours, "X-com.example.key", "NotUnderstood", None),
        ] {
            assert_eq!(answer(ours, key, value).0.as_deref(), expected, "{key}={value}");
        }
    }

    #[test]
    fn results_arrive() {
        let ours = Parameters::default();
        assert_eq!(answer(&ours, "MaxRecvDataSegmentLength", "512").1.max_xmit_data_segment_length, 512);
        assert!(answer(&ours, "DataDigest", "CRC32C").1.data_digest);
        assert!(!answer(&ours, "InitialR2T", "No").1.initial_r2t);
        // What the initiator is not told does not hold: it is silent about FirstBurstLength, which has its default.
        assert_eq!(answer(&ours, "MaxBurstLength", "512").1.first_burst_length, 65536);
    }

    #[test]
    fn a_key_is_offered_once() {
        let mut n = Negotiation::default();
        assert!(n.offer(&Parameters::default(), LoginKind::Leading, "InitialR2T", "No").is_ok());
        assert_eq!(n.offer(&Parameters::default(), LoginKind::Leading, "InitialR2T", "No"), Err(Repeated));
    }

    #[test]
    fn discovery_sessions_have_no_bursts() {
        let mut n = Negotiation::default();
        let answer = n.offer(&Parameters::default(), LoginKind::Discovery, "MaxBurstLength", "512").unwrap();
        assert_eq!(answer.as_deref(), Some("Irrelevant"));
    }

    #[test]
    fn connections_that_join_settle_only_what_is_theirs() {
        let mut n = Negotiation::default();
        let mut offer = |key, value| n.offer(&Parameters::default(), LoginKind::Joining, key, value).unwrap();
        assert_eq!(offer("MaxBurstLength", "512").as_deref(), Some("Irrelevant"));
        assert_eq!(offer("MaxConnections", "2").as_deref(), Some("Irrelevant"));
        assert_eq!(offer("HeaderDigest", "CRC32C").as_deref(), Some("CRC32C"));
        assert_eq!(offer("MaxRecvDataSegmentLength", "4096"), None);
    }
}
