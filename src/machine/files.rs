// SPDX-License-Identifier: GPL-2.0-or-later
//! What the kernel reports about the machine in /proc and /sys.

use std::fs;
use std::path::PathBuf;

use caps::Capability;

/// A machine, by its file system.
pub struct Machine {
    root: PathBuf,
}

impl Default for Machine {
    /// This one.
    fn default() -> Self {
        Self::at("/")
    }
}

impl Machine {
    /// One whose /proc and /sys are below a directory.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The contents of a file without the white space around.
    pub fn text(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.root.join(path)).ok().map(|text| text.trim().to_owned())
    }

    /// Whether there is such a file.
    pub fn exists(&self, path: &str) -> bool {
        self.root.join(path).exists()
    }

    /// Whether a directory has anything in it.
    pub fn has_entries(&self, path: &str) -> bool {
        fs::read_dir(self.root.join(path)).is_ok_and(|mut entries| entries.next().is_some())
    }

    /// Where a symbolic link leads: the last part of it.
    pub fn link_name(&self, path: &str) -> Option<String> {
        let target = fs::read_link(self.root.join(path)).ok()?;
        Some(target.file_name()?.to_string_lossy().into_owned())
    }

    /// A list of numbers as the kernel writes them: `0-3,8`.
    pub fn list(&self, path: &str) -> Vec<usize> {
        let text = self.text(path).unwrap_or_default();
        let ranges = text.split(',').filter_map(|part| {
            let (from, to) = part.split_once('-').unwrap_or((part, part));
            Some(from.parse::<usize>().ok()?..=to.parse().ok()?)
        });
        ranges.flatten().collect()
    }

    /// The NUMA node of a processor.
    pub fn node_of_processor(&self, cpu: usize) -> usize {
        let nodes = self.list("sys/devices/system/node/online");
        let on =
            |node: &usize| self.list(&format!("sys/devices/system/node/node{node}/cpulist")).contains(&cpu);
        nodes.into_iter().find(on).unwrap_or(0)
    }

    /// Of a PCI device. A machine with one node says -1.
    pub fn node_of_device(&self, address: &str) -> Option<usize> {
        self.text(&format!("sys/bus/pci/devices/{address}/numa_node"))?
            .parse::<i64>()
            .ok()
            .map(|node| usize::try_from(node).unwrap_or(0))
    }

    /// Free huge pages of 2 MiB on a node.
    pub fn free_huge_pages(&self, node: usize) -> u64 {
        let of_node = format!("sys/devices/system/node/node{node}/hugepages/hugepages-2048kB/free_hugepages");
        let of_all = "sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages";
        self.text(&of_node).or_else(|| self.text(of_all)).and_then(|text| text.parse().ok()).unwrap_or(0)
    }

    /// All of its memory, in bytes.
    pub fn memory(&self) -> Option<u64> {
        let text = self.text("proc/meminfo")?;
        let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
    }

    fn status(&self, key: &str) -> Option<String> {
        let text = self.text("proc/self/status")?;
        text.lines().find_map(|line| Some(line.strip_prefix(key)?.trim().to_owned()))
    }

    /// Whether this process has a capability.
    pub fn capable(&self, capability: Capability) -> bool {
        let effective = self.status("CapEff:").and_then(|text| u64::from_str_radix(&text, 16).ok());
        effective.is_some_and(|bits| bits & capability.bitmask() != 0)
    }

    /// Bytes that this process may lock; `None`: as many as it likes.
    pub fn memory_lock_limit(&self) -> Option<u64> {
        let text = self.text("proc/self/limits").unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("Max locked memory"))?;
        line.split_whitespace().next()?.parse().ok()
    }
}
