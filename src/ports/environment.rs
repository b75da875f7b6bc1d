// SPDX-License-Identifier: GPL-2.0-or-later
//! DPDK's environment as the configuration gives it: what the ports of its driver share.

use crate::options::Absent::{Is, Means};
use crate::options::ValueKind::{Size, Texts};
use crate::options::{Section, Table, key};

/// DPDK's environment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EnvironmentOptions {
    /// More arguments for it.
    pub arguments: Vec<String>,
    /// Bytes of buffers; `None`: what the ports need.
    pub memory: Option<usize>,
}

impl EnvironmentOptions {
    /// Its table of keys.
    pub const TABLE: &Table = &Table {
        doc: "DPDK's environment, which is started if there is a port with the driver dpdk. `hugepages` of \
             [daemon] applies to its buffers, too.",
        groups: &[&[
            key(
                "arguments",
                Texts("an argument of DPDK's environment abstraction layer"),
                Is("[]"),
                "",
                "More arguments, after those that the daemon gives, which they override.",
            ),
            key(
                "memory",
                Size(32 << 20, 1 << 40),
                Means("what the ports need"),
                "\"128MiB\"",
                "Memory for frame buffers in ordinary pages. Huge pages are taken as needed.",
            ),
        ]],
    };

    /// Reads it.
    pub fn read(s: Section<'_>) -> Option<Self> {
        let arguments = s.texts("arguments", |text| Some(text.to_owned()));
        let memory = s.optional("memory", |key| s.size(key));
        s.finish();
        Some(Self { arguments: arguments?.into_iter().map(|(text, _)| text).collect(), memory: memory? })
    }
}
