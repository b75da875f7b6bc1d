// SPDX-License-Identifier: GPL-2.0-or-later
//! Who may read the secrets of a configuration.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::model::Config;

/// What is wrong with how a good configuration, which is in that file, keeps its secrets.
pub(super) fn warnings(path: &Path, config: &Config) -> Vec<String> {
    let mut found = Vec::new();
    let written = config.fabrics.iter().flat_map(|fabric| fabric.written_secrets());
    let written: Vec<String> = written.map(|name| format!("{name:?}")).collect();
    let mode = std::fs::metadata(path).map(|meta| meta.permissions().mode() & 0o777);
    if let Ok(mode) = mode
        && mode & 0o044 != 0
        && !written.is_empty()
    {
        let names = written.join(", ");
        found.push(format!(
            "it holds the secrets of {names}, and others can read it (mode {mode:03o}): chmod 600 it, or \
             give \"file:\" and the path of a file with the secret"
        ));
    }
    found
}
