// SPDX-License-Identifier: GPL-2.0-or-later
//! Who has a socket or a TAP device, among the processes that can be seen.

use std::fs;
use std::path::Path;

/// Where TAP devices come from.
pub const TUN: &str = "/dev/net/tun";

/// The TAP device behind a descriptor of a process.
pub fn tap_device(process: &str, descriptor: &str) -> Option<String> {
    let text = fs::read_to_string(format!("{process}/fdinfo/{descriptor}")).ok()?;
    text.lines().find_map(|line| Some(line.strip_prefix("iff:")?.trim().to_owned()))
}

/// A process of this network namespace that has a TAP device open, among those that can be seen.
pub fn user_of_tap(device: &str) -> Option<u32> {
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
pub fn listeners(port: u16) -> Vec<u64> {
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
pub fn abstract_socket(name: &str) -> Vec<u64> {
    let text = fs::read_to_string("/proc/net/unix").unwrap_or_default();
    let inode = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let named = fields.get(7)?.strip_prefix('@')? == name;
        fields.get(6)?.parse().ok().filter(|_| named)
    };
    text.lines().filter_map(inode).collect()
}
