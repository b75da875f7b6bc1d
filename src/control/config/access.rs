// SPDX-License-Identifier: GPL-2.0-or-later
//! Who may log in, and to what: accounts, authentication, and what access rules refer to.

use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use zeroize::Zeroizing;

use super::load::{Loader, Named};
use super::model::{Config, SecretSource};
use crate::adapters::iscsi::topology::AccessRule;
use crate::fabrics::iscsi::{Account, Authentication, Secret};
use crate::options::Section;
use crate::sys;

/// How much of a file with a secret is read.
const FILE_MAX: usize = 1024;

/// What begins the name of a file in place of a secret.
const FILE: &str = "file:";

/// What is said of a text that is no secret.
const WRONG_LENGTH: (&str, &str) = ("has the wrong length", "12 to 255 bytes (RFC 7143 9.2.1)");

impl<'a> Loader<'a> {
    pub(super) fn account(&self, s: Section<'a>) -> Option<Account<SecretSource>> {
        Account::read(s, |text| {
            let text = Zeroizing::new(text);
            match text.strip_prefix(FILE) {
                Some(path) => Ok(SecretSource::File(self.base.join(path))),
                None => Secret::new(text.as_bytes()).map(SecretSource::Given).ok_or(WRONG_LENGTH),
            }
        })
    }

    /// How initiators authenticate themselves; `Some(None)`: not at all.
    pub(super) fn authentication(
        &self,
        s: Section<'_>,
        accounts: &Named<Account<SecretSource>>,
    ) -> Option<Option<Authentication<String>>> {
        let found = Authentication::read(&s);
        let mut named = Authentication { accounts: Vec::new(), own: None, algorithms: Vec::new() };
        for (name, span) in s.texts("accounts", |text| Some(text.to_owned())).into_iter().flatten() {
            self.look_up(&name, "[[account]]", accounts, (span, s.path("accounts")));
            named.accounts.push(name);
        }
        if s.text("outgoing").is_some_and(|name| !name.is_empty()) {
            self.reference(&s, "outgoing", "account", accounts);
            named.own = s.text("outgoing");
        }
        let known = accounts.entries.iter().flatten();
        let secret = |name: &str| known.clone().find(|known| known.name == name).map(|known| &known.secret);
        if named.reflected(secret).is_some() {
            let help = "the two directions need different secrets (RFC 7143 12.1.3)";
            s.error("outgoing", "has the secret of an account of `accounts`", help);
        }
        s.finish();
        found
    }

    /// An access rule of a target that has these LUNs.
    pub(super) fn rule(
        &self,
        s: Section<'_>,
        accounts: &Named<Account<SecretSource>>,
        luns: &[u16],
    ) -> Option<AccessRule> {
        let rule = AccessRule::read(&s);
        let users = s.texts("accounts", |text| Some(text.to_owned()));
        for (name, span) in users.into_iter().flatten() {
            self.look_up(&name, "[[account]]", accounts, (span, s.path("accounts")));
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
}

/// What is wrong with how a good configuration, which is in that file, keeps its secrets.
pub(super) fn warnings(path: &Path, config: &Config) -> Vec<String> {
    let mut found = Vec::new();
    let given = |account: &&Account<SecretSource>| matches!(account.secret, SecretSource::Given(_));
    let given: Vec<String> =
        config.accounts.iter().filter(given).map(|account| format!("{:?}", account.name)).collect();
    let mode = std::fs::metadata(path).map(|meta| meta.permissions().mode() & 0o777);
    if let Ok(mode) = mode
        && mode & 0o044 != 0
        && !given.is_empty()
    {
        let names = given.join(", ");
        found.push(format!(
            "it holds the secrets of {names}, and others can read it (mode {mode:03o}): chmod 600 it, or \
             give \"file:\" and the path of a file with the secret"
        ));
    }
    found
}

/// What is said of an account whose secret is in use for the other direction, too.
pub const REFLECTED: &str = "it has the secret of the other direction of CHAP";

/// Why there is no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretRefusal {
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: String,
    /// It holds whoever asks.
    pub certain: bool,
}

impl SecretSource {
    /// The secret, which may have to be read from its file, without the end of its line. Nobody but its owner and root may read
    /// the file.
    pub fn read(&self) -> Result<Secret, SecretRefusal> {
        let path = match self {
            Self::Given(secret) => return Ok(secret.clone()),
            Self::File(path) => path,
        };
        let place = path.display();
        let refuse = |what: String, help: &str, certain| SecretRefusal {
            message: format!("secret: {place}: {what}"),
            help: help.to_owned(),
            certain,
        };
        let fail = |e: std::io::Error| {
            let help = "the daemon's user must be able to read it";
            refuse(e.to_string(), help, sys::holds_for_all(&e))
        };
        let mut file = std::fs::File::open(path).map_err(fail)?;
        // What was opened is looked at, not what has that name by now.
        let meta = file.metadata().map_err(fail)?;
        let mode = meta.permissions().mode();
        if !meta.is_file() || mode & 0o077 != 0 {
            let what =
                format!("users other than its owner may read or change it (mode {:03o})", mode & 0o777);
            return Err(refuse(what, "chmod 600 it", true));
        }
        // With room for all of it: a vector that grows leaves copies.
        let mut text = Zeroizing::new(Vec::with_capacity(2 * FILE_MAX));
        file.by_ref().take(FILE_MAX as u64).read_to_end(&mut text).map_err(fail)?;
        let end = text.strip_suffix(b"\n").unwrap_or(&text);
        let secret = Secret::new(end.strip_suffix(b"\r").unwrap_or(end));
        let length = || refuse(WRONG_LENGTH.0.into(), WRONG_LENGTH.1, true);
        secret.ok_or_else(length)
    }
}
