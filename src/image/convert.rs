// SPDX-License-Identifier: GPL-2.0-or-later
//! From and to images of other programs.

use std::fs::{self, File};
use std::io::{BufReader, BufWriter};
use std::path::Path;

use super::file::{TapeFile, TapeItem, make};
use super::foreign::{ForeignFormat, ForeignReader, ForeignWriter};
use super::progress::ProgressBar;
use crate::formats::tape::TapeObject;

/// Makes an image of one of another program; there is none if that fails. `create` gets the bytes of that.
pub(super) fn import(
    format: ForeignFormat,
    from: &Path,
    create: impl FnOnce(u64) -> Result<TapeFile, String>,
) -> Result<(), String> {
    let shown = from.display();
    let file =
        File::open(from).map_err(|e| format!("{shown} cannot be opened: {e}; give the path of an image"))?;
    let bytes = file.metadata().map_err(|e| format!("{shown} cannot be examined: {e}"))?.len();
    let told = |e| format!("{shown}: {e}; is it an image of that format, and whole?");
    let mut reader = ForeignReader::new(format, BufReader::with_capacity(1 << 20, file)).map_err(told)?;
    let mut tape = create(bytes.max(1 << 20))?;
    let mut copy = || {
        let mut progress = ProgressBar::new("import", bytes);
        while let Some(item) = reader.next().map_err(told)? {
            tape.append(0, &item)?;
            progress.show(reader.at);
        }
        tape.finish()
    };
    let copied = copy();
    if copied.is_err() {
        tape.discard();
    }
    copied
}

/// Writes an image of another program; there is none if that fails.
pub(super) fn export(
    format: ForeignFormat,
    tape: &mut TapeFile,
    file: &Path,
    partition: usize,
    to: &Path,
) -> Result<(), String> {
    let (shown, from) = (to.display(), file.display());
    if format == ForeignFormat::Tgt {
        return Err("images of tgt can only be read; export to aws or simh".into());
    }
    if partition >= tape.image.partitions().len() {
        return Err(format!(
            "{from} has no partition {partition}; `ptgt image show` lists those that it has"
        ));
    }
    let made = make(to)?;
    let copy = || {
        let mut writer = ForeignWriter::new(format, BufWriter::with_capacity(1 << 20, made));
        let end = tape.image.end(partition).lba;
        let mut progress = ProgressBar::new("export", end);
        for lba in 0..end {
            let object = tape.find(partition, lba).map_err(|e| tape.unread(partition, lba, &e))?;
            let item = match object {
                Some(TapeObject::Record(record, _)) if record.form != 0 => {
                    return Err(format!(
                        "{from}: block {lba} is compressed or encrypted; only the drive that wrote it can read it"
                    ));
                }
                Some(TapeObject::Record(record, place)) => {
                    let bytes = tape.payload(record, place).map_err(|e| tape.unread(partition, lba, &e))?;
                    if let Some(why) = writer.refuses(bytes.len()) {
                        return Err(format!(
                            "{from}: block {lba} has {} bytes: {why}; export to aws",
                            bytes.len()
                        ));
                    }
                    TapeItem::Record(bytes)
                }
                _ => TapeItem::Filemark,
            };
            writer.put(&item).map_err(|e| format!("{shown} cannot be written: {e}"))?;
            progress.show(lba);
        }
        let written = writer.finish().and_then(|to| to.into_inner().map_err(|e| e.into_error())?.sync_all());
        written.map_err(|e| format!("{shown} cannot be written: {e}"))
    };
    let copied = copy();
    if copied.is_err() {
        _ = fs::remove_file(to);
    }
    copied
}
