// SPDX-License-Identifier: GPL-2.0-or-later
//! Checks and repairs an image.

use serde::Serialize;

use super::file::{ReadFault, TapeFile};
use super::progress::ProgressBar;
use crate::formats::tape::{TapeImage, TapeObject};

/// Something that is not as it should be.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Damage {
    pub(super) partition: Option<usize>,
    /// The first object concerned.
    #[serde(rename = "block")]
    pub(super) lba: Option<u64>,
    pub(super) error: String,
}

/// All that is wrong with an image that could be mounted. What lies behind a header that is damaged is not looked at.
pub(super) fn check(tape: &mut TapeFile) -> Vec<Damage> {
    let mut damage = Vec::new();
    let whole = |error: String| Damage { partition: None, lba: None, error };
    if tape.findings.damaged_copies > 0 {
        damage.push(whole(format!(
            "{} parts of the head have one good copy of two",
            tape.findings.damaged_copies
        )));
    }
    for partition in &tape.findings.rebuilt {
        damage.push(whole(format!(
            "the index of partition {partition} is damaged; it was rebuilt from the log"
        )));
    }
    let partitions = tape.image.partitions().len();
    let total = (0..partitions).map(|partition| tape.image.used(partition)).sum();
    let mut progress = ProgressBar::new("verify", total);
    let mut done = 0;
    for partition in 0..partitions {
        let (mut lba, mut filemarks) = (0, 0);
        let end = tape.image.end(partition);
        while lba < end.lba {
            let found = tape.find(partition, lba).and_then(|object| match object {
                Some(TapeObject::Record(record, place)) => {
                    tape.payload(record, place).map(|bytes| bytes.len())
                }
                _ => {
                    filemarks += 1;
                    Ok(0)
                }
            });
            match found {
                Ok(bytes) => done += bytes as u64,
                Err(fault) => {
                    let error = fault.message().to_owned();
                    damage.push(Damage { partition: Some(partition), lba: Some(lba), error });
                    if matches!(fault, ReadFault::Chain(_)) {
                        break;
                    }
                }
            }
            progress.show(done);
            lba += 1;
        }
        if lba == end.lba && filemarks != end.file {
            let error = format!("{filemarks} filemarks, and the log says {}", end.file);
            damage.push(Damage { partition: Some(partition), lba: Some(lba), error });
        }
    }
    damage
}

/// Ends each partition in front of the first object that is damaged, and writes the head anew.
pub(super) fn repair(tape: &mut TapeFile, damage: &[Damage]) -> Result<(), String> {
    for partition in 0..tape.image.partitions().len() {
        let of = |damage: &&Damage| damage.partition == Some(partition);
        if let Some(lba) = damage.iter().filter(of).filter_map(|damage| damage.lba).min() {
            tape.ask(|image| image.begin(partition, lba)).map_err(|e| tape.unread(partition, lba, &e))?;
            tape.settle()?;
        }
    }
    if !damage.is_empty() {
        tape.ask(TapeImage::rewrite_head).map_err(|e| format!("{}: {}", tape.path.display(), e.message()))?;
        tape.settle()?;
    }
    Ok(())
}
