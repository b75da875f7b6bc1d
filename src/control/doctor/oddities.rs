// SPDX-License-Identifier: GPL-2.0-or-later
//! What is allowed but probably not meant.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::control::config::Config;

/// How images of other formats begin.
const FORMATS: &[(&[u8], &str)] = &[
    (b"QFI\xfb", "qcow2"),
    (b"KDMV", "vmdk"),
    (b"# Disk DescriptorFile", "vmdk"),
    (b"vhdxfile", "vhdx"),
    (b"conectix", "vhd"),
    (b"<<< ", "vdi"),
];

/// Units that are named in one line.
const NAMED_MAX: usize = 8;

/// Parts of a configuration that are of no use.
pub fn oddities(config: &Config) -> Vec<String> {
    let mut found = Vec::new();
    for (name, _) in config.targets().filter(|(_, units)| units.is_empty()) {
        found.push(format!("target {name:?} has no LUNs: its initiators find nothing"));
    }
    let exported: BTreeSet<&str> = config.targets().flat_map(|(_, units)| units).collect();
    let spare = config.units.iter().filter(|unit| !exported.contains(&*unit.name));
    let spare: Vec<String> = spare.map(|unit| format!("{} {:?}", unit.kind, unit.name)).collect();
    let more = match spare.len().saturating_sub(NAMED_MAX) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    if !spare.is_empty() {
        let named = spare[..spare.len().min(NAMED_MAX)].join(", ");
        found.push(format!("in the `luns` of no target: {named}{more}"));
    }
    found
}

/// Images that are not what their bytes are taken for.
pub fn foreign_images(config: &Config) -> Vec<String> {
    let foreign = |path: &Path| {
        let mut head = Vec::new();
        // What cannot be read is told elsewhere.
        _ = File::open(path).ok()?.take(64).read_to_end(&mut head);
        FORMATS.iter().find(|(magic, _)| head.starts_with(magic)).map(|(_, format)| *format)
    };
    let told = config.units.iter().filter_map(|unit| {
        let path = unit.image()?;
        let format = path.is_file().then(|| foreign(path)).flatten()?;
        Some(format!(
            "{} {:?}: {} is in the format {format}, and is served as it lies, headers and all: qemu-img convert -O raw \
             makes a raw image of it",
            unit.kind,
            unit.name,
            path.display()
        ))
    });
    told.collect()
}
