// SPDX-License-Identifier: GPL-2.0-or-later
//! CHAP (RFC 1994, RFC 7143 12.1.3): the initiator shows that it knows the secret of an account, and if it asks, so do
//! we.
//!
//! Each login gets a challenge of its own from the kernel's cryptographic source. We answer the initiator's challenge
//! only after it has answered ours, and never if it is ours; the secrets of the two directions differ, so that an
//! answer obtained on one connection is of no use on another.

use std::fmt;
use std::sync::Arc;

use md5::Md5;
use sha1::Sha1;
use sha2::digest::FixedOutputReset;
use sha2::{Digest, Sha256};
use sha3::Sha3_256;
use smallvec::SmallVec;
use subtle::ConstantTimeEq;

use super::{LoginRefusal, LoginStatus};
use crate::memory::HiddenBytes;
use crate::options::Absent::{Is, Means, Required};
use crate::options::ValueKind::{Text, Texts};
use crate::options::{Key, Section, Table, key};
use crate::wire::iscsi::{binary, number, push_pair};

/// Longest challenge that an initiator may send (RFC 7143 12.1.3).
const CHALLENGE_MAX: usize = 1024;

/// Shortest secret: 96 bits (RFC 7143 9.2.1).
pub const SECRET_MIN: usize = 12;

/// Longest secret.
pub const SECRET_MAX: usize = 255;

/// Longest account name.
const NAME_MAX: usize = 255;

/// Hash functions of CHAP, by their numbers (IANA, PPP Authentication Algorithms).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// MD5 (RFC 1994).
    Md5 = 5,
    /// SHA-1 (RFC 7143).
    Sha1 = 6,
    /// SHA-256 (RFC 7143 12.1.3.1, registered 2017).
    Sha256 = 7,
    /// SHA3-256 (registered 2017).
    Sha3 = 8,
}

type Hash = SmallVec<[u8; 32]>;

impl Algorithm {
    /// All of them, the strongest first.
    pub const ALL: [Self; 4] = [Self::Sha3, Self::Sha256, Self::Sha1, Self::Md5];

    /// Length of a response, in bytes; challenges are as long.
    fn len(self) -> usize {
        match self {
            Self::Md5 => 16,
            Self::Sha1 => 20,
            Self::Sha256 | Self::Sha3 => 32,
        }
    }

    /// The response: the hash of identifier, secret and challenge (RFC 1994 4.1).
    pub(crate) fn response(self, identifier: u8, secret: &[u8], challenge: &[u8]) -> Hash {
        fn hash<D: Digest + FixedOutputReset>(parts: [&[u8]; 3]) -> Hash {
            let mut digest = D::new();
            parts.iter().for_each(|part| Digest::update(&mut digest, part));
            // It is zeroed where it is: a move would leave a copy with the secret.
            SmallVec::from_slice(&Digest::finalize_reset(&mut digest))
        }
        let parts = [&[identifier][..], secret, challenge];
        match self {
            Self::Md5 => hash::<Md5>(parts),
            Self::Sha1 => hash::<Sha1>(parts),
            Self::Sha256 => hash::<Sha256>(parts),
            Self::Sha3 => hash::<Sha3_256>(parts),
        }
    }
}

/// A secret, which nothing prints and no core dump shows.
#[derive(Clone)]
pub struct Secret(Arc<HiddenBytes>);

impl Secret {
    /// Takes it; `None` if it is shorter than [`SECRET_MIN`] or longer than [`SECRET_MAX`] bytes.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        (SECRET_MIN..=SECRET_MAX).contains(&bytes.len()).then(|| {
            let hidden = HiddenBytes::new(bytes).expect("a page of memory");
            Self(Arc::new(hidden))
        })
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.0[..] == other.0[..]
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// A name, and the secret that goes with it, or where that is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account<S = Secret> {
    /// The name (CHAP_N).
    pub name: String,
    /// The secret.
    pub secret: S,
}

impl<S> Account<S> {
    /// Reads one; `find` tells what a text means as a secret, or why it means none.
    pub fn read(
        s: Section<'_>,
        find: impl FnOnce(String) -> Result<S, (&'static str, &'static str)>,
    ) -> Option<Self> {
        let name = s.text("name");
        if name.as_ref().is_some_and(|name| name.len() > NAME_MAX) {
            s.error("name", "is too long", "at most 255 bytes");
        }
        let secret = s.text("secret").and_then(|text| {
            let wrong = |(message, help)| s.error("secret", message, help);
            find(text).map_err(wrong).ok()
        });
        s.finish();
        Some(Self { name: name?, secret: secret? })
    }
}

impl Account {
    /// The table of keys of accounts.
    pub const TABLE: &Table = &Table {
        doc: "A name and a secret for CHAP, of initiators or of targets.",
        groups: &[&[
            key("name", Text("a name"), Required, "\"lab\"", "The name (CHAP_N)."),
            key(
                "secret",
                Text("12 to 255 bytes, or \"file:\" and the path of a file"),
                Required,
                "\"file:/etc/ptgt/lab.secret\"",
                "The secret, or the file that holds it, which must belong to the daemon's user and be \
                 readable by nobody else (mode 600). A relative path starts at the directory of the \
                 configuration.",
            ),
        ]],
    };

    /// Its response to a challenge.
    pub(crate) fn response(&self, algorithm: Algorithm, identifier: u8, challenge: &[u8]) -> Hash {
        algorithm.response(identifier, &self.secret.0, challenge)
    }
}

/// How initiators authenticate themselves. A configuration has the names of accounts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authentication<A = Account> {
    /// With the secret of one of these accounts.
    pub accounts: Vec<A>,
    /// What we show to an initiator that asks for it.
    pub own: Option<A>,
    /// What may be used for it.
    pub algorithms: Vec<Algorithm>,
}

const ACCOUNT_NAME: &str = "the name of an [[account]]";

const KEYS: &[Key] = &[
    key(
        "accounts",
        Texts(ACCOUNT_NAME),
        Means("no authentication"),
        "[\"lab\"]",
        "Accounts that initiators may use.",
    ),
    key(
        "outgoing",
        Text(ACCOUNT_NAME),
        Is("\"\""),
        "",
        "The account with which the target authenticates itself to initiators that ask for it (mutual \
         CHAP).",
    ),
    key(
        "algorithms",
        Texts("\"MD5\", \"SHA1\", \"SHA-256\" or \"SHA3-256\""),
        Is("[\"SHA3-256\", \"SHA-256\", \"SHA1\", \"MD5\"]"),
        "",
        "Hash functions allowed. The first in the initiator's list that is allowed is used.",
    ),
];

impl Authentication {
    /// The table of keys for those who ask for targets.
    pub const OF_DISCOVERY: &Table =
        &Table { doc: "How initiators authenticate themselves for discovery.", groups: &[KEYS] };

    /// The table of keys for those who log in to a target.
    pub const OF_TARGET: &Table = &Table {
        doc: "How initiators authenticate themselves to a target (CHAP, RFC 7143 12.1.3).",
        groups: &[KEYS],
    };
}

impl Authentication<String> {
    /// Reads it; `Some(None)`: not at all. Whoever asks looks after the accounts that it names, and for keys that do
    /// not belong there.
    pub fn read(s: &Section<'_>) -> Option<Option<Self>> {
        let accounts = s.texts("accounts", |text| Some(text.to_owned()));
        let wanted = s.given("accounts");
        if accounts.as_ref().is_some_and(Vec::is_empty) {
            s.error(
                "accounts",
                "is an empty list",
                "nobody could log in; leave it out for no authentication",
            );
        }
        let own = s.text("outgoing").filter(|name| !name.is_empty());
        if own.is_some() && !wanted {
            let message = "has no effect without `accounts`";
            s.error("outgoing", message, "the initiator authenticates itself first");
        }
        let algorithms = s.texts("algorithms", |word| match word {
            "MD5" => Some(Algorithm::Md5),
            "SHA1" => Some(Algorithm::Sha1),
            "SHA-256" => Some(Algorithm::Sha256),
            "SHA3-256" => Some(Algorithm::Sha3),
            _ => None,
        });
        if algorithms.as_ref().is_some_and(Vec::is_empty) {
            s.error("algorithms", "allows nothing", "leave it out for all of them");
        }
        let algorithms = algorithms?.into_iter().map(|(algorithm, _)| algorithm).collect();
        if !wanted {
            return Some(None);
        }
        let accounts = accounts?.into_iter().map(|(name, _)| name).collect();
        Some(Some(Self { accounts, own, algorithms }))
    }

    /// With the accounts that have these names.
    pub fn with(&self, account: impl Fn(&str) -> Account) -> Authentication {
        Authentication {
            accounts: self.accounts.iter().map(|name| account(name)).collect(),
            own: self.own.as_deref().map(account),
            algorithms: self.algorithms.clone(),
        }
    }

    /// Our own account, if its secret is one of those that initiators have; some secrets may be unknown.
    pub fn reflected<'a, S: PartialEq + 'a>(&self, secret: impl Fn(&str) -> Option<&'a S>) -> Option<&str> {
        let own = self.own.as_deref()?;
        let same = |name: &String| name == own || secret(own).is_some() && secret(name) == secret(own);
        self.accounts.iter().any(same).then_some(own)
    }
}

/// How far it has come.
enum Stage {
    /// The method is agreed on.
    Method,
    /// Ours to be answered.
    Challenged { algorithm: Algorithm, identifier: u8, challenge: Hash },
    /// The account is known.
    Done(String),
}

/// One authentication under way.
pub(super) struct Chap(Stage);

/// What an initiator says about CHAP in one request.
#[derive(Default)]
pub(super) struct Said<'a> {
    pub(super) algorithms: Option<&'a str>,
    pub(super) name: Option<&'a str>,
    pub(super) response: Option<&'a str>,
    pub(super) identifier: Option<&'a str>,
    pub(super) challenge: Option<&'a str>,
}

impl<'a> Said<'a> {
    /// Notes a key; `None` if it has nothing to do with CHAP, `Some(false)` if it was said before.
    pub(super) fn note(&mut self, key: &str, value: &'a str) -> Option<bool> {
        let slot = match key {
            "CHAP_A" => &mut self.algorithms,
            "CHAP_N" => &mut self.name,
            "CHAP_R" => &mut self.response,
            "CHAP_I" => &mut self.identifier,
            "CHAP_C" => &mut self.challenge,
            _ => return None,
        };
        Some(slot.replace(value).is_none())
    }

    fn is_empty(&self) -> bool {
        let all = [self.algorithms, self.name, self.response, self.identifier, self.challenge];
        all.iter().all(Option::is_none)
    }
}

const fn failed(why: &'static str) -> LoginRefusal {
    (LoginStatus::AuthenticationFailure, why)
}

impl Chap {
    pub(super) fn new() -> Self {
        Self(Stage::Method)
    }

    /// The account whose secret the initiator knows, once it has shown that.
    pub(super) fn user(&self) -> Option<&str> {
        match &self.0 {
            Stage::Done(user) => Some(user),
            _ => None,
        }
    }

    /// Takes what was said and says what is to be said.
    pub(super) fn step(
        &mut self,
        ours: &Authentication,
        said: &Said<'_>,
        random: &mut dyn FnMut(&mut [u8]) -> bool,
        answer: &mut Vec<u8>,
    ) -> Result<(), LoginRefusal> {
        match &self.0 {
            _ if said.is_empty() => Ok(()),
            Stage::Method => self.challenge(ours, said, random, answer),
            Stage::Challenged { algorithm, identifier, challenge } => {
                let user = check(ours, said, *algorithm, *identifier, challenge)?;
                mutual(ours, said, *algorithm, challenge, answer)?;
                self.0 = Stage::Done(user);
                Ok(())
            }
            Stage::Done(_) => Err(failed("CHAP continues after its end")),
        }
    }

    fn challenge(
        &mut self,
        ours: &Authentication,
        said: &Said<'_>,
        random: &mut dyn FnMut(&mut [u8]) -> bool,
        answer: &mut Vec<u8>,
    ) -> Result<(), LoginRefusal> {
        let Said { algorithms: Some(offered), name: None, response: None, .. } = said else {
            return Err(failed("CHAP does not begin with CHAP_A"));
        };
        // The first that is allowed of the initiator's list, which is in the order of its preference (RFC 7143 12.1.3).
        let allowed = |offer| {
            let number = number(offer)?;
            ours.algorithms.iter().find(|algorithm| **algorithm as u32 == number)
        };
        let Some(&algorithm) = offered.split(',').find_map(allowed) else {
            return Err(failed("no common CHAP algorithm"));
        };
        let mut bytes = [0; 33];
        if !random(&mut bytes) {
            return Err((LoginStatus::TargetError, "no random numbers for a challenge"));
        }
        let (identifier, challenge) = (bytes[32], Hash::from_slice(&bytes[..algorithm.len()]));
        push_pair(answer, "CHAP_A", &(algorithm as u8).to_string());
        push_pair(answer, "CHAP_I", &identifier.to_string());
        push_pair(answer, "CHAP_C", &hexadecimal(&challenge));
        self.0 = Stage::Challenged { algorithm, identifier, challenge };
        Ok(())
    }
}

/// Checks the initiator's answer to our challenge. It takes as long for an account that is not there.
fn check(
    ours: &Authentication,
    said: &Said<'_>,
    algorithm: Algorithm,
    identifier: u8,
    challenge: &[u8],
) -> Result<String, LoginRefusal> {
    let Said { algorithms: None, name: Some(name), response: Some(response), .. } = said else {
        return Err(failed("CHAP_N and CHAP_R were expected"));
    };
    let response = binary(response, algorithm.len()).unwrap_or_default();
    let account = ours.accounts.iter().find(|account| account.name == *name);
    let secret = account.map_or(&[0; SECRET_MIN][..], |account| &account.secret.0);
    let right: bool = algorithm.response(identifier, secret, challenge).ct_eq(&response).into();
    match account {
        Some(account) if right => Ok(account.name.clone()),
        Some(_) => Err(failed("wrong CHAP response: the secrets differ")),
        None => Err(failed("no such CHAP account")),
    }
}

/// Answers the initiator's challenge, if there is one.
fn mutual(
    ours: &Authentication,
    said: &Said<'_>,
    algorithm: Algorithm,
    sent: &[u8],
    answer: &mut Vec<u8>,
) -> Result<(), LoginRefusal> {
    let (identifier, challenge) = match (said.identifier, said.challenge) {
        (None, None) => return Ok(()),
        (Some(identifier), Some(challenge)) => (identifier, challenge),
        _ => return Err(failed("CHAP_I and CHAP_C belong together")),
    };
    let Some(own) = &ours.own else {
        return Err(failed("the initiator asks for mutual CHAP, but there is no outgoing account"));
    };
    let identifier = number(identifier).and_then(|number| u8::try_from(number).ok());
    let Some(identifier) = identifier else { return Err(failed("CHAP_I is not an identifier")) };
    let Some(challenge) = binary(challenge, CHALLENGE_MAX).filter(|challenge| !challenge.is_empty()) else {
        return Err(failed("CHAP_C is not a challenge"));
    };
    if challenge.ct_eq(sent).into() {
        return Err(failed("the initiator returned the target's own challenge"));
    }
    push_pair(answer, "CHAP_N", &own.name);
    push_pair(answer, "CHAP_R", &hexadecimal(&algorithm.response(identifier, &own.secret.0, &challenge)));
    Ok(())
}

/// A binary value in hexadecimal (RFC 7143 6.1).
pub(super) fn hexadecimal(bytes: &[u8]) -> String {
    let digits = bytes.iter().map(|byte| format!("{byte:02x}"));
    std::iter::once("0x".to_owned()).chain(digits).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Known answers, computed with Python's hashlib over identifier, secret and challenge.
    #[test]
    fn known_answers() {
        let challenge: Vec<u8> = (0..16).collect();
        for (algorithm, expected) in [
            (Algorithm::Md5, "0x433dd038ff705bde550f1e90ecfdb87e"),
            (Algorithm::Sha1, "0xc24fecbd1b7ce8375ade6a9f94618e96171780eb"),
            (Algorithm::Sha256, "0xf249efddc542c4fb9cc97971c66b8f28db181cd1653c5ee3e557776aa036da1a"),
            (Algorithm::Sha3, "0x749c4fd5b36c0dd5b96dbcac967722114e0d593f7439b6c43fe0af01ecca40ca"),
        ] {
            let response = algorithm.response(0x27, b"a secret of ours", &challenge);
            assert_eq!(hexadecimal(&response), expected, "{algorithm:?}");
            assert_eq!(response.len(), algorithm.len());
        }
    }

    /// The hash functions alone: "abc" of FIPS 180-4 and FIPS 202's example files, and of RFC 1321.
    #[test]
    fn vectors_of_the_standards() {
        for (algorithm, expected) in [
            (Algorithm::Md5, "0x900150983cd24fb0d6963f7d28e17f72"),
            (Algorithm::Sha1, "0xa9993e364706816aba3e25717850c26c9cd0d89d"),
            (Algorithm::Sha256, "0xba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
            (Algorithm::Sha3, "0x3a985da74fe225b2045c172d6bd390bd855f086e3e9d525b46bfe24511431532"),
        ] {
            assert_eq!(hexadecimal(&algorithm.response(b'a', b"b", b"c")), expected, "{algorithm:?}");
        }
    }

    #[test]
    fn secrets_are_not_printed() {
        let secret = Secret::new(b"hidden from view").unwrap();
        let account = Account { name: "me".into(), secret };
        let all = Authentication { accounts: vec![account.clone()], own: Some(account), algorithms: vec![] };
        assert!(!format!("{all:?} {all:#?}").contains("hidden"));
        assert_eq!(Secret::new(b"too short"), None);
        assert_eq!(Secret::new(&[7; 256]), None);
    }
}
