// SPDX-License-Identifier: GPL-2.0-or-later
//! The image of a tape in a file: opened, locked, mounted, read and written.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::formats::tape::{
    AppendError, Cartridge, INLINE_MAX, MountError, MountFindings, RecordHeader, RecordPayload, StoreRange,
    TapeImage, TapeMount, TapeObject, TapeStep, Unanswered, image_bytes,
};
use crate::sys;
use crate::wire::Crc32c;

/// See the module.
#[derive(Debug)]
pub(super) struct TapeFile {
    pub(super) path: PathBuf,
    file: File,
    pub(super) image: TapeImage,
    pub(super) findings: MountFindings,
}

/// What an object of a tape is, with its bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum TapeItem {
    Record(Vec<u8>),
    Filemark,
}

/// Why an object cannot be read.
#[derive(Debug)]
pub(super) enum ReadFault {
    /// The rest of the partition cannot be reached.
    Chain(String),
    /// This record alone.
    Payload(String),
}

impl ReadFault {
    pub(super) fn message(&self) -> &str {
        let (Self::Chain(message) | Self::Payload(message)) = self;
        message
    }
}

fn help(e: MountError) -> &'static str {
    match e {
        MountError::NoTape => "give the path of a tape image, or `ptgt image import` one of another format",
        MountError::Version(_) => "use the version of ptgt that created it, or a newer one",
        MountError::Short { .. } => "copy it again, whole",
        MountError::Superblock | MountError::Log { .. } => "restore it from a copy",
    }
}

/// Makes a new file, for its user alone.
pub(super) fn make(path: &Path) -> Result<File, String> {
    let made = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path);
    made.map_err(|e| match e.kind() {
        ErrorKind::AlreadyExists => {
            format!("{} exists already; remove it first or give another path", path.display())
        }
        _ => format!(
            "{} cannot be created: {e}; give a path in a directory that you may write to",
            path.display()
        ),
    })
}

/// Reads as much as there is; behind the end of the file there are zeros.
fn read(file: &File, range: StoreRange) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; range.len as usize];
    let mut done = 0;
    while done < bytes.len() {
        match file.read_at(&mut bytes[done..], range.at + done as u64) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(bytes)
}

impl TapeFile {
    /// Makes a new image, for its user alone; there is none if that fails.
    pub(super) fn create(path: &Path, cartridge: Cartridge) -> Result<Self, String> {
        let shown = path.display();
        let capacity = cartridge.capacity;
        let bytes = image_bytes(capacity).filter(|_| capacity > 0);
        let image = TapeImage::create(cartridge, &[capacity]);
        let (Some(bytes), Some(image)) = (bytes, image) else {
            return Err(format!(
                "{shown}: a capacity of {capacity} bytes is not possible; give another `--size`"
            ));
        };
        let file = make(path)?;
        let mut tape = Self { path: path.into(), file, image, findings: MountFindings::default() };
        let made = lock(&tape.file, path, true).and_then(|()| {
            let sized = tape.file.set_len(bytes);
            sized.map_err(|e| {
                format!(
                    "{shown} cannot have {bytes} bytes: {e}; give a smaller `--size`, or another file system"
                )
            })?;
            tape.settle()?;
            let above = path.parent().filter(|above| !above.as_os_str().is_empty());
            let synced =
                File::open(above.unwrap_or_else(|| Path::new("."))).and_then(|above| above.sync_all());
            synced.map_err(|e| format!("{shown} cannot be synced: {e}"))
        });
        match made {
            Ok(()) => Ok(tape),
            Err(e) => {
                tape.discard();
                Err(e)
            }
        }
    }

    /// Removes it again.
    pub(super) fn discard(self) {
        _ = fs::remove_file(&self.path);
    }

    /// Opens and mounts an image that nobody else has open.
    pub(super) fn open(path: &Path, writes: bool) -> Result<Self, String> {
        let shown = path.display();
        let file = OpenOptions::new().read(true).write(writes).open(path);
        let file =
            file.map_err(|e| format!("{shown} cannot be opened: {e}; give the path of a tape image"))?;
        lock(&file, path, writes)?;
        let fail = |e: io::Error| format!("{shown} cannot be read: {e}");
        let Some(bytes) = sys::file_space(file.as_raw_fd()).map_err(fail)?.bytes else {
            return Err(format!("{shown} is not a file; give the path of a tape image"));
        };
        let mut mount = TapeMount::new(bytes);
        while let Some(range) = mount.wanted() {
            let piece = read(&file, range)
                .map_err(|e| format!("{shown} cannot be read at byte {}: {e}", range.at))?;
            mount.supply(&piece).map_err(|e| format!("{shown}: {e}; {}", help(e)))?;
        }
        let (image, findings) = mount.finish().ok_or_else(|| format!("{shown} cannot be mounted"))?;
        Ok(Self { path: path.into(), file, image, findings })
    }

    /// Does what the image wants done.
    pub(super) fn settle(&mut self) -> Result<(), String> {
        while let Some(step) = self.image.next_step() {
            let done = match step {
                TapeStep::Write { at, bytes } => self.file.write_all_at(bytes, *at),
                TapeStep::Flush => self.file.sync_data(),
            };
            self.image.step_done(done.is_ok());
            done.map_err(|e| self.not_written(&e))?;
        }
        Ok(())
    }

    fn not_written(&self, e: &io::Error) -> String {
        format!(
            "{} cannot be written: {e}; make room on its file system, then `ptgt image verify` it",
            self.path.display()
        )
    }

    /// Asks until there is an answer.
    pub(super) fn ask<T>(
        &mut self,
        ask: impl Fn(&mut TapeImage) -> Result<T, Unanswered>,
    ) -> Result<T, ReadFault> {
        loop {
            match ask(&mut self.image) {
                Ok(answer) => return Ok(answer),
                Err(Unanswered::Read(range)) => {
                    let bytes = read(&self.file, range)
                        .map_err(|e| ReadFault::Chain(format!("byte {} cannot be read: {e}", range.at)))?;
                    self.image.supply(range, &bytes);
                }
                Err(e) => return Err(ReadFault::Chain(e.to_string())),
            }
        }
    }

    /// What is said of an object that cannot be read.
    pub(super) fn unread(&self, partition: usize, lba: u64, fault: &ReadFault) -> String {
        format!(
            "{}: partition {partition}, block {lba}: {}; see `ptgt image verify`",
            self.path.display(),
            fault.message()
        )
    }

    /// What there is at a position, without its bytes; `None` at the end of the data.
    pub(super) fn find(&mut self, partition: usize, lba: u64) -> Result<Option<TapeObject>, ReadFault> {
        self.ask(|image| image.find(partition, lba))
    }

    /// The bytes of a record, whose checksum is right.
    pub(super) fn payload(&self, record: RecordHeader, place: RecordPayload) -> Result<Vec<u8>, ReadFault> {
        let bytes = match place {
            RecordPayload::Here(bytes) => bytes,
            RecordPayload::At(range) => {
                let unread = |e| ReadFault::Payload(format!("byte {} cannot be read: {e}", range.at));
                read(&self.file, range).map_err(unread)?
            }
        };
        match Crc32c::of(&bytes).value() == record.sum {
            true => Ok(bytes),
            false => Err(ReadFault::Payload("the checksum of its payload is wrong".into())),
        }
    }

    /// Appends an object at the end of the data.
    pub(super) fn append(&mut self, partition: usize, item: &TapeItem) -> Result<(), String> {
        let end = self.image.end(partition).lba;
        self.ask(|image| image.begin(partition, end)).map_err(|e| self.unread(partition, end, &e))?;
        self.settle()?;
        let appended = match item {
            TapeItem::Filemark => self.image.append_filemarks(partition, 1),
            TapeItem::Record(bytes) => {
                let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
                let record =
                    RecordHeader { logical: len, stored: len, form: 0, sum: Crc32c::of(bytes).value() };
                if len <= INLINE_MAX {
                    self.image.append_inline(partition, &record, bytes)
                } else {
                    let placed = self.image.append(partition, &record);
                    if let Ok(range) = placed {
                        self.settle()?;
                        self.file.write_all_at(bytes, range.at).map_err(|e| self.not_written(&e))?;
                    }
                    placed.map(|_| ())
                }
            }
        };
        appended.map_err(|e| match e {
            AppendError::Full => {
                format!(
                    "{}: the cartridge is full after {end} objects; give a larger `--size`",
                    self.path.display()
                )
            }
            AppendError::NotBegun => format!("{}: {e}", self.path.display()),
        })?;
        if self.image.checkpoint_due() {
            self.image.checkpoint();
        }
        self.settle()
    }

    /// Brings all to the disk, so that the next mount has nothing to go over.
    pub(super) fn finish(&mut self) -> Result<(), String> {
        self.image.checkpoint();
        self.settle()
    }

    /// Bytes that the file takes of its file system.
    pub(super) fn allocated(&self) -> u64 {
        sys::file_space(self.file.as_raw_fd()).map_or(0, |space| space.used)
    }
}

fn lock(file: &File, path: &Path, writes: bool) -> Result<(), String> {
    let shown = path.display();
    match sys::lock_file(file, writes) {
        Ok(true) => Ok(()),
        Ok(false) => {
            let holder = sys::lock_holder(file, writes).ok().flatten().and_then(|holder| holder.process);
            let who =
                holder.map_or_else(|| "another process".to_owned(), |process| format!("process {process}"));
            Err(format!("{shown} is in use by {who}; stop it first: a daemon needs its images to itself"))
        }
        Err(e) => Err(format!("{shown} cannot be locked: {e}")),
    }
}
