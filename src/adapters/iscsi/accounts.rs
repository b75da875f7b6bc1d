// SPDX-License-Identifier: GPL-2.0-or-later
//! Who may log in, and to what, as the configuration says it: accounts, authentication, and what access rules refer to.

use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::topology::AccessRule;
use crate::fabrics::iscsi::{Account, Authentication, Secret};
use crate::machine::{SecretRefusal, read_secret};
use crate::options::{Named, Section};

/// What begins the name of a file in place of a secret.
const FILE: &str = "file:";

/// What is said of a text that is no secret.
const WRONG_LENGTH: (&str, &str) = ("has the wrong length", "12 to 255 bytes (RFC 7143 9.2.1)");

/// What is said of an account whose secret is in use for the other direction, too.
pub(super) const REFLECTED: &str = "it has the same secret as the other direction of CHAP";

/// An account whose secret may have to be read.
pub type ConfiguredAccount = Account<SecretSource>;

/// Where a secret is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretSource {
    /// In the configuration.
    Given(Secret),
    /// In a file, which is read at the start.
    File(PathBuf),
}

impl SecretSource {
    /// Whether it is in the configuration.
    pub(super) fn is_given(&self) -> bool {
        matches!(self, Self::Given(_))
    }

    /// The secret, which may have to be read from its file.
    pub fn read(&self) -> Result<Secret, SecretRefusal> {
        match self {
            Self::Given(secret) => Ok(secret.clone()),
            Self::File(path) => {
                let (what, help) = WRONG_LENGTH;
                let wrong_length = || SecretRefusal::of(path, what, help, true);
                Secret::new(&read_secret(path)?).ok_or_else(wrong_length)
            }
        }
    }
}

/// Reads an account; the path of its secret is relative to `base`.
pub(super) fn account(s: Section<'_>, base: &Path) -> Option<ConfiguredAccount> {
    Account::read(s, |text| {
        let text = Zeroizing::new(text);
        match text.strip_prefix(FILE) {
            Some(path) => Ok(SecretSource::File(base.join(path))),
            None => Secret::new(text.as_bytes()).map(SecretSource::Given).ok_or(WRONG_LENGTH),
        }
    })
}

/// How initiators authenticate themselves; `Some(None)`: not at all.
pub(super) fn authentication(
    s: Section<'_>,
    accounts: &Named<'_, ConfiguredAccount>,
) -> Option<Option<Authentication<String>>> {
    let found = Authentication::read(&s);
    let mut named = Authentication { accounts: Vec::new(), own: None, algorithms: Vec::new() };
    for (name, span) in s.texts("accounts", |text| Some(text.to_owned())).into_iter().flatten() {
        accounts.look_up(&s, ("accounts", span), &name, "[[account]]");
        named.accounts.push(name);
    }
    if s.text("outgoing").is_some_and(|name| !name.is_empty()) {
        accounts.reference(&s, "outgoing", "account");
        named.own = s.text("outgoing");
    }
    let known = accounts.known();
    let secret =
        |name: &str| known.clone().find(|(_, known)| known.name == name).map(|(_, known)| &known.secret);
    if named.reflected(secret).is_some() {
        let help = "the two directions need different secrets (RFC 7143 12.1.3)";
        s.error("outgoing", "has the secret of an account of `accounts`", help);
    }
    s.finish();
    found
}

/// An access rule of a target that has these LUNs.
pub(super) fn rule(
    s: Section<'_>,
    accounts: &Named<'_, ConfiguredAccount>,
    luns: &[u16],
) -> Option<AccessRule> {
    let rule = AccessRule::read(&s);
    let users = s.texts("accounts", |text| Some(text.to_owned()));
    for (name, span) in users.into_iter().flatten() {
        accounts.look_up(&s, ("accounts", span), &name, "[[account]]");
    }
    let units = s.numbers("luns");
    for (lun, span) in units.into_iter().flatten() {
        if !luns.iter().any(|known| u64::from(*known) == lun) {
            let help = "give LUNs of the target's `luns`";
            s.error_at(span, "luns", format!("there is no LUN {lun}"), help);
        }
    }
    s.finish();
    rule
}
