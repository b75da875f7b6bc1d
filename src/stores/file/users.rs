// SPDX-License-Identifier: GPL-2.0-or-later
//! Who uses a file or a block device inside the kernel: loop devices, swap, file systems, LVM and md.

use std::fs::{self, Metadata};
use std::os::unix::fs::{FileTypeExt, MetadataExt};

/// A user, if there is one that the kernel tells of.
pub(super) fn user(of: &Metadata) -> Option<String> {
    match of.file_type().is_block_device() {
        true => mounted(of).or_else(|| swap(of)).or_else(|| holder(of)),
        false => loop_device(of).or_else(|| swap(of)),
    }
}

/// Whether a path leads to the same file or device.
fn leads_to(path: &str, of: &Metadata) -> bool {
    fs::metadata(path).is_ok_and(|there| match of.file_type().is_block_device() {
        true => there.file_type().is_block_device() && there.rdev() == of.rdev(),
        false => (there.dev(), there.ino()) == (of.dev(), of.ino()),
    })
}

fn loop_device(of: &Metadata) -> Option<String> {
    let devices = fs::read_dir("/sys/block").ok()?.flatten();
    devices.filter_map(|entry| entry.file_name().into_string().ok()).find_map(|name| {
        let backing = fs::read_to_string(format!("/sys/block/{name}/loop/backing_file")).ok()?;
        leads_to(backing.trim_end_matches('\n'), of).then(|| format!("it is behind /dev/{name} (losetup -l)"))
    })
}

fn swap(of: &Metadata) -> Option<String> {
    let table = fs::read_to_string("/proc/swaps").ok()?;
    let mut places = table.lines().skip(1).filter_map(|line| line.split_whitespace().next());
    places.any(|place| leads_to(&unescaped(place), of)).then(|| "it is swap space".to_owned())
}

fn mounted(of: &Metadata) -> Option<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").ok()?;
    table.lines().find_map(|line| {
        let (mount, what) = line.split_once(" - ")?;
        let (place, source) = (mount.split(' ').nth(4)?, what.split(' ').nth(1)?);
        leads_to(&unescaped(source), of).then(|| format!("it is mounted at {}", unescaped(place)))
    })
}

fn holder(of: &Metadata) -> Option<String> {
    let (major, minor) = (libc::major(of.rdev()), libc::minor(of.rdev()));
    let mut holders = fs::read_dir(format!("/sys/dev/block/{major}:{minor}/holders")).ok()?.flatten();
    let name = holders.next()?.file_name();
    Some(format!("{} is on it (LVM, md or device mapper)", name.to_string_lossy()))
}

/// A path as the kernel's tables write it: white space is an octal number.
fn unescaped(text: &str) -> String {
    let mut parts = text.split('\\');
    let mut path = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                path.push(char::from(byte));
                path.push_str(&part[3..]);
            }
            None => {
                path.push('\\');
                path.push_str(part);
            }
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_the_kernels_tables_are_read() {
        for (text, path) in [("/a\\040b\\134c", "/a b\\c"), ("/plain", "/plain"), ("\\04", "\\04"), ("", "")]
        {
            assert_eq!(unescaped(text), path);
        }
    }
}
