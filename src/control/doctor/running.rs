// SPDX-License-Identifier: GPL-2.0-or-later
//! What the running daemon of this configuration holds, which is not an obstacle to its next start.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

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

/// Where TAP devices come from.
const TUN: &str = "/dev/net/tun";

/// The TAP device behind a descriptor of a process.
fn tap_device(process: &str, descriptor: &str) -> Option<String> {
    let text = fs::read_to_string(format!("{process}/fdinfo/{descriptor}")).ok()?;
    text.lines().find_map(|line| Some(line.strip_prefix("iff:")?.trim().to_owned()))
}

/// A process of this network namespace that has a TAP device open, among those that can be seen.
pub(super) fn user_of_tap(device: &str) -> Option<u32> {
    let namespace = |process: &str| fs::read_link(format!("{process}/ns/net")).ok();
    let ours = namespace("/proc/self");
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let mut processes = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    processes.find(|pid| {
        let process = format!("/proc/{pid}");
        if namespace(&process) != ours {
            return false;
        }
        let descriptors = fs::read_dir(format!("{process}/fd")).into_iter().flatten().flatten();
        let mut taps =
            descriptors.filter(|entry| fs::read_link(entry.path()).is_ok_and(|to| to == Path::new(TUN)));
        taps.any(|entry| {
            tap_device(&process, &entry.file_name().to_string_lossy()).is_some_and(|found| found == device)
        })
    })
}

/// Inodes of the sockets that listen at a TCP port, of this network namespace.
pub(super) fn listeners(port: u16) -> Vec<u64> {
    const LISTEN: &str = "0A";
    let of_table = |path: &str| {
        let text = fs::read_to_string(path).unwrap_or_default();
        let inode = |line: &str| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let (_, at) = fields.get(1)?.rsplit_once(':')?;
            let listens = u16::from_str_radix(at, 16) == Ok(port) && *fields.get(3)? == LISTEN;
            fields.get(9)?.parse().ok().filter(|_| listens)
        };
        text.lines().filter_map(inode).collect::<Vec<u64>>()
    };
    ["/proc/net/tcp", "/proc/net/tcp6"].map(of_table).concat()
}

/// Inode of the Unix socket with an abstract name.
pub(super) fn abstract_socket(name: &str) -> Vec<u64> {
    let text = fs::read_to_string("/proc/net/unix").unwrap_or_default();
    let inode = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let named = fields.get(7)?.strip_prefix('@')? == name;
        fields.get(6)?.parse().ok().filter(|_| named)
    };
    text.lines().filter_map(inode).collect()
}
