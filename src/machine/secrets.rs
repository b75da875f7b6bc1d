// SPDX-License-Identifier: GPL-2.0-or-later
//! Files that only their owner may read.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use zeroize::Zeroizing;

use crate::sys;

/// How much of such a file is read.
const FILE_MAX: usize = 1024;

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

impl SecretRefusal {
    /// Something is wrong with what a file contains.
    pub fn of(path: &Path, what: impl Into<String>, help: &str, certain: bool) -> Self {
        let message = format!("secret: {}: {}", path.display(), what.into());
        Self { message, help: help.to_owned(), certain }
    }
}

/// The beginning of a file, without the end of its line. Nobody but its owner and root may read the file.
pub fn read_secret(path: &Path) -> Result<Zeroizing<Vec<u8>>, SecretRefusal> {
    let fail = |e: io::Error| {
        let help = "the daemon's user must be able to read it";
        SecretRefusal::of(path, e.to_string(), help, sys::holds_for_all(&e))
    };
    let mut file = File::open(path).map_err(fail)?;
    // What was opened is looked at, not what has that name by now.
    let meta = file.metadata().map_err(fail)?;
    let mode = meta.permissions().mode();
    if !meta.is_file() || mode & 0o077 != 0 {
        let what = format!("users other than its owner may read or change it (mode {:03o})", mode & 0o777);
        return Err(SecretRefusal::of(path, what, "chmod 600 it", true));
    }
    // With room for all of it: a vector that grows leaves copies.
    let mut text = Zeroizing::new(Vec::with_capacity(2 * FILE_MAX));
    file.by_ref().take(FILE_MAX as u64).read_to_end(&mut text).map_err(fail)?;
    for end in [b'\n', b'\r'] {
        _ = text.pop_if(|last| *last == end);
    }
    Ok(text)
}
