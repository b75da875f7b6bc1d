// SPDX-License-Identifier: GPL-2.0-or-later
//! The record of where a disk has had images: one that is missing there is not to be replaced by an empty one.
//!
//! The bytes: a version, and absolute paths with a zero byte behind each. There may be several, as disks of one name in
//! several configurations have one record.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::{Records, unwrap};
use crate::io::{Record, RecordSlot};

const NAME: &str = "image";
const VERSION: u8 = 1;

/// Where that record lies in the state directory `root`.
pub fn image_record(root: &Path, unit: &str) -> PathBuf {
    root.join(unit).join(NAME)
}

/// Whether a record, which need not be there, tells of that image.
pub(in crate::stores) fn remembers(record: &Path, image: &Path) -> io::Result<bool> {
    match fs::read(record) {
        Ok(file) => unwrap(&file).and_then(|bytes| names(bytes, &std::path::absolute(image)?)),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}

fn names(bytes: &[u8], image: &Path) -> io::Result<bool> {
    match bytes.split_first() {
        Some((&VERSION, paths)) => {
            Ok(paths.split(|byte| *byte == 0).any(|path| path == image.as_os_str().as_bytes()))
        }
        _ => Err(io::Error::new(ErrorKind::InvalidData, "not a record of this version")),
    }
}

impl Records {
    /// Remembers that there is an image. Waits for the disk: for the start.
    pub fn remember_image(&self, slot: RecordSlot, image: &Path) -> io::Result<()> {
        let image = std::path::absolute(image)?;
        let mut bytes = self.load(slot, NAME)?.unwrap_or_else(|| vec![VERSION]);
        if names(&bytes, &image)? {
            return Ok(());
        }
        bytes.extend(image.as_os_str().as_bytes());
        bytes.push(0);
        self.persist(slot, &Record { name: NAME, generation: bytes.len() as u64, bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_remembered_by_their_paths() {
        let root = std::env::temp_dir().join(format!("ptgt-images-{}", std::process::id()));
        let record = image_record(&root, "unit");
        let images = ["/var/one", "/var/two", "three"].map(Path::new);
        assert!(!remembers(&record, images[0]).unwrap());
        for (index, image) in images.into_iter().enumerate() {
            // A daemon each, as the record outlives it.
            let records = Records::new(&root);
            let slot = records.slot("unit").unwrap();
            for _ in 0..2 {
                records.remember_image(slot, image).unwrap();
            }
            for (other, known) in images.into_iter().enumerate() {
                assert_eq!(remembers(&record, known).unwrap(), other <= index, "{known:?} after {image:?}");
            }
        }
        // A daemon that has several, one after the other.
        let records = Records::new(&root);
        let slot = records.slot("unit").unwrap();
        for image in ["/var/four", "/var/five"].map(Path::new) {
            records.remember_image(slot, image).unwrap();
            assert!(remembers(&record, image).unwrap(), "{image:?}");
        }
        assert!(!remembers(&record, Path::new("/var")).unwrap());
        assert!(remembers(&record, &std::env::current_dir().unwrap().join("three")).unwrap());
        fs::write(&record, "damaged").unwrap();
        assert_eq!(remembers(&record, images[0]).unwrap_err().kind(), ErrorKind::InvalidData);
        fs::remove_dir_all(root).unwrap();
    }
}
