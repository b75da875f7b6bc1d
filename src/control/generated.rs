// SPDX-License-Identifier: GPL-2.0-or-later
//! Files of the project that are made from tables in the code.

use std::path::Path;

/// Compares a file of the project with what it should be; writes it instead if UPDATE_GOLDEN is set.
pub(super) fn is_current(path: &str, wanted: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&file, wanted).unwrap();
    }
    let found = std::fs::read_to_string(&file).unwrap();
    assert!(found == wanted, "{path} is old: UPDATE_GOLDEN=1 cargo test current");
}
