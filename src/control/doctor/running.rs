// SPDX-License-Identifier: GPL-2.0-or-later
//! What the running daemon of this configuration holds, which is not an obstacle to its next start.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

use crate::machine::{TUN, tap_device};
use crate::sys;

/// The daemon at a control socket.
pub(super) enum RunningDaemon {
    /// There is none.
    Absent,
    /// This user may not know.
    Hidden,
    /// What it has open.
    Seen {
        /// Inodes of its sockets.
        sockets: BTreeSet<u64>,
        /// Device and inode of its files.
        files: BTreeSet<(u64, u64)>,
        /// Its TAP devices.
        devices: BTreeSet<String>,
    },
}

/// Who holds something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HeldBy {
    /// The daemon that runs this configuration.
    Own,
    /// Somebody else.
    Other,
    /// Perhaps that daemon.
    Unknown,
}

impl RunningDaemon {
    /// The daemon that a control socket belongs to.
    pub(super) fn at(socket: &Path) -> Self {
        let pid = match UnixStream::connect(socket) {
            Ok(stream) => sys::peer_pid(&stream).ok().flatten(),
            Err(e) if e.kind() == ErrorKind::PermissionDenied => None,
            Err(_) => return Self::Absent,
        };
        pid.and_then(|pid| Self::of(&format!("/proc/{pid}"))).unwrap_or(Self::Hidden)
    }

    fn of(process: &str) -> Option<Self> {
        let (mut sockets, mut files, mut devices) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for entry in fs::read_dir(format!("{process}/fd")).ok()?.flatten() {
            let Ok(target) = fs::read_link(entry.path()) else { continue };
            let target = target.to_string_lossy();
            if let Some(inode) = target.strip_prefix("socket:[") {
                sockets.extend(inode.trim_end_matches(']').parse::<u64>());
            } else if target == TUN {
                devices.extend(tap_device(process, &entry.file_name().to_string_lossy()));
            } else if let Ok(meta) = fs::metadata(entry.path()) {
                files.insert((meta.dev(), meta.ino()));
            }
        }
        Some(Self::Seen { sockets, files, devices })
    }

    fn holder(
        &self,
        has: impl FnOnce(&BTreeSet<u64>, &BTreeSet<(u64, u64)>, &BTreeSet<String>) -> bool,
    ) -> HeldBy {
        match self {
            Self::Absent => HeldBy::Other,
            Self::Hidden => HeldBy::Unknown,
            Self::Seen { sockets, files, devices } if has(sockets, files, devices) => HeldBy::Own,
            Self::Seen { .. } => HeldBy::Other,
        }
    }

    /// Whether it holds one of these sockets.
    pub(super) fn holds_socket(&self, inodes: &[u64]) -> HeldBy {
        self.holder(|sockets, _, _| inodes.iter().any(|inode| sockets.contains(inode)))
    }

    /// Whether it holds a file.
    pub(super) fn holds_file(&self, path: &Path) -> HeldBy {
        let file = fs::metadata(path).map(|meta| (meta.dev(), meta.ino()));
        self.holder(|_, files, _| file.is_ok_and(|file| files.contains(&file)))
    }

    /// Whether it holds a TAP device.
    pub(super) fn holds_device(&self, name: &str) -> HeldBy {
        self.holder(|_, _, devices| devices.contains(name))
    }
}
