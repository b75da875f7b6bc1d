// SPDX-License-Identifier: GPL-2.0-or-later
//! Replacing a file so that the old or the new one is there, whenever the power goes; and the envelope by which a
//! damaged one is known.
//!
//! The envelope: eight bytes of magic with the version, the length of what follows (four bytes, big-endian), the bytes,
//! and CRC32C over all of that (four bytes, big-endian).

use std::io;

use crate::wire::Crc32c;

/// What is asked of a directory. The tests cut the power between any two of these.
pub(super) trait Folder {
    /// Makes a file, or empties it, and writes these bytes.
    fn write(&mut self, name: &str, bytes: &[u8]) -> io::Result<()>;
    /// Brings the bytes of a file to stable storage.
    fn sync(&mut self, name: &str) -> io::Result<()>;
    /// Gives a file another name, in place of a file that had it.
    fn rename(&mut self, from: &str, to: &str) -> io::Result<()>;
    /// Brings the names of the directory to stable storage.
    fn sync_names(&mut self) -> io::Result<()>;
}

const MAGIC: &[u8; 8] = b"ptgtrec1";
const HEAD: usize = MAGIC.len() + 4;

/// Replaces the record of that name. After an error the old or the new one is there, as after a loss of power.
pub(super) fn replace(folder: &mut dyn Folder, name: &str, bytes: &[u8]) -> io::Result<()> {
    let new = format!("{name}.new");
    folder.write(&new, &wrap(bytes))?;
    folder.sync(&new)?;
    folder.rename(&new, name)?;
    folder.sync_names()
}

pub(crate) fn wrap(bytes: &[u8]) -> Vec<u8> {
    let len = u32::try_from(bytes.len()).expect("at most RECORD_MAX");
    let mut file = [MAGIC, &len.to_be_bytes()[..], bytes].concat();
    file.extend(Crc32c::of(&file).value().to_be_bytes());
    file
}

/// What is in the envelope.
pub(crate) fn unwrap(file: &[u8]) -> io::Result<&[u8]> {
    let bad = |what| Err(io::Error::new(io::ErrorKind::InvalidData, what));
    if !file.starts_with(MAGIC) {
        return bad("not a record of this version");
    }
    let Some((body, sum)) = file.split_last_chunk::<4>() else { return bad("damaged: too short") };
    if Crc32c::of(body).value().to_be_bytes() != *sum {
        return bad("damaged: wrong checksum");
    }
    match body.split_at_checked(HEAD) {
        Some((head, bytes))
            if head[MAGIC.len()..] == u32::try_from(bytes.len()).unwrap_or(0).to_be_bytes() =>
        {
            Ok(bytes)
        }
        _ => bad("damaged: wrong length"),
    }
}
