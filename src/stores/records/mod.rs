// SPDX-License-Identifier: GPL-2.0-or-later
//! The state directory: a directory for each logical unit that has something to remember, and in it a file for each
//! record, which is replaced as a whole.
//!
//! How a device uses it (nothing of this waits on a reactor):
//! * Before the reactors start, [`Records::slot`] gives the unit's [`RecordSlot`](crate::io::RecordSlot), and
//!   [`Records::load`] what was kept last; the device starts from that.
//! * To keep something, a task answers with [`Step::Persist`](crate::scsi::Step::Persist), and goes on with
//!   [`Resume::Persisted`](crate::scsi::Resume::Persisted) when the record is on stable storage: a status after that is
//!   a promise.
//! * The format of the bytes is the device's; it begins with a version, and a version that is not known is an error.
//!
//! A file is replaced in the only order that leaves the old or the new one after a loss of power: the new bytes to a
//! file of another name, that file to stable storage, renamed over the old one, the directory to stable storage. One
//! thread does this for all; of several records of one name that wait it writes the newest.

mod images;
mod replace;

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use images::image_record;
pub(super) use images::remembers;
use replace::{Folder, replace, unwrap};
#[cfg(any(test, feature = "sim"))]
pub(crate) use replace::{unwrap as unwrap_record, wrap as wrap_record};

use crate::io::{Error, RECORD_MAX, Record, RecordSlot, RecordStore, Tag};
use crate::sys::EventFd;

/// The state directory. Dropping the last handle ends its thread, after what was handed to it is written.
pub struct Records {
    root: PathBuf,
    slots: Slots,
    writer: Sender<Job>,
    /// What the writing thread gets when it starts.
    jobs: Mutex<Option<Receiver<Job>>>,
}

/// The units of a daemon, by the number of their slots. More come while it runs.
type Slots = Arc<Mutex<Vec<Arc<Mutex<UnitRecords>>>>>;

/// The directory of one unit. It comes into being with its first record.
struct UnitRecords {
    path: PathBuf,
    directory: Option<Directory>,
    /// Who has it: more than one while a unit takes the place of another, each with its own generations.
    slots: Vec<RecordSlot>,
    /// Newest generation that is on stable storage, by slot and name of the record.
    kept: BTreeMap<(usize, &'static str), u64>,
}

struct Job {
    unit: Arc<Mutex<UnitRecords>>,
    slot: RecordSlot,
    record: Record,
    tag: Tag,
    persisted: Arc<PersistedRecords>,
}

/// Where a core finds what has been kept.
struct PersistedRecords {
    done: Mutex<Vec<(Tag, Result<(), Error>)>>,
    waiting: AtomicUsize,
    wake: EventFd,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Records {
    /// Records below `root`, which need not exist.
    pub fn new(root: &Path) -> Self {
        let (writer, jobs) = channel();
        Self { root: root.into(), slots: Slots::default(), writer, jobs: Mutex::new(Some(jobs)) }
    }

    /// Starts the thread that writes, unless it runs; [`Records::store`] does so, too. It inherits the rights and the
    /// processors of its caller.
    pub fn start(&self) -> io::Result<()> {
        let Some(jobs) = lock(&self.jobs).take() else { return Ok(()) };
        std::thread::Builder::new().name("records".into()).spawn(move || write(&jobs))?;
        Ok(())
    }

    /// The place of the logical unit of that name, which is part of a path and never changes. A unit that has records
    /// belongs to this daemon from now on: an error tells that another one has it. One that has had a place before and
    /// given it up has it again; two that have it at a time have the same records.
    pub fn slot(&self, unit: &str) -> io::Result<RecordSlot> {
        let path = self.root.join(unit);
        let mut slots = lock(&self.slots);
        let known = slots.iter().find(|unit| lock(unit).path == path).cloned();
        let unit = known.unwrap_or_else(|| Arc::new(Mutex::new(UnitRecords::new(path))));
        let mut records = lock(&unit);
        if records.slots.is_empty() {
            records.directory = match Directory::open(&records.path) {
                Ok(directory) => Some(directory),
                Err(e) if e.kind() == ErrorKind::NotFound => None,
                Err(e) => return Err(e),
            };
        }
        let is_free = |(place, of): &(usize, &Arc<_>)| {
            Arc::ptr_eq(of, &unit) && !records.slots.contains(&RecordSlot(*place))
        };
        let place = slots.iter().enumerate().find(is_free).map_or(slots.len(), |(place, _)| place);
        records.slots.push(RecordSlot(place));
        if place == slots.len() {
            slots.push(unit.clone());
        }
        Ok(RecordSlot(place))
    }

    /// The unit is gone. When no other has its records, another daemon may have them.
    pub fn release(&self, slot: RecordSlot) {
        let unit = lock(&self.slots)[slot.0].clone();
        let mut unit = lock(&unit);
        unit.slots.retain(|other| *other != slot);
        unit.kept.retain(|(other, _), _| *other != slot.0);
        if unit.slots.is_empty() {
            unit.directory = None;
        }
    }

    /// What was kept last under that name. Waits for the disk: for the start. An error names the file.
    pub fn load(&self, slot: RecordSlot, name: &str) -> io::Result<Option<Vec<u8>>> {
        let unit = lock(&self.slots)[slot.0].clone();
        let unit = lock(&unit);
        let Some(directory) = &unit.directory else { return Ok(None) };
        directory.load(name)
    }

    /// A record that belongs to no unit. All daemons with this state directory have it in common, and this one has it
    /// until what is returned is dropped. Waits for the disk, and for the others: for the start. An error names the
    /// file.
    pub fn common(&self, name: &'static str) -> io::Result<CommonRecord> {
        let path = self.root.join("common");
        let directory = make_directory(&path).and_then(|()| Directory::wait(&path));
        let bytes = match &directory {
            Ok(directory) => directory.load(name)?,
            // It is not to be made, so nothing is in it.
            Err(_) if !path.exists() => None,
            Err(e) => return Err(io::Error::new(e.kind(), format!("{}: {e}", path.display()))),
        };
        Ok(CommonRecord { directory, name, bytes })
    }

    /// Keeps a record. Waits for the disk: for the start.
    fn persist(&self, slot: RecordSlot, record: &Record) -> io::Result<()> {
        let unit = lock(&self.slots)[slot.0].clone();
        lock(&unit).persist(slot, record)
    }

    /// A core's handle to the slots of all units.
    pub fn store(&self) -> io::Result<Box<dyn RecordStore>> {
        self.start()?;
        let persisted =
            PersistedRecords { done: Mutex::default(), waiting: AtomicUsize::new(0), wake: EventFd::new()? };
        let slots = self.slots.clone();
        Ok(Box::new(RecordWriter { slots, writer: self.writer.clone(), persisted: Arc::new(persisted) }))
    }
}

/// A record that belongs to no unit.
pub struct CommonRecord {
    directory: io::Result<Directory>,
    name: &'static str,
    bytes: Option<Vec<u8>>,
}

impl CommonRecord {
    /// What was kept last.
    pub fn bytes(&self) -> Option<&[u8]> {
        self.bytes.as_deref()
    }

    /// Keeps it, if it is another than before.
    pub fn replace(self, bytes: &[u8]) -> io::Result<()> {
        if self.bytes.as_deref() == Some(bytes) {
            return Ok(());
        }
        replace(&mut self.directory?, self.name, bytes)
    }
}

struct RecordWriter {
    slots: Slots,
    writer: Sender<Job>,
    persisted: Arc<PersistedRecords>,
}

impl RecordStore for RecordWriter {
    fn persist(&mut self, tag: Tag, slot: RecordSlot, record: Record) {
        let (unit, persisted) = (lock(&self.slots)[slot.0].clone(), self.persisted.clone());
        if self.writer.send(Job { unit, slot, record, tag, persisted }).is_err() {
            self.persisted.put(tag, Err(ErrorKind::BrokenPipe.into()));
        }
    }

    fn poll(&mut self, done: &mut Vec<(Tag, Result<(), Error>)>) {
        if self.persisted.waiting.load(Ordering::Acquire) > 0 {
            // Lowered before the look: what comes later raises it again.
            self.persisted.wake.lower();
            let mut waiting = lock(&self.persisted.done);
            self.persisted.waiting.store(0, Ordering::Release);
            done.append(&mut waiting);
        }
    }

    fn wake_fd(&self) -> Option<RawFd> {
        Some(self.persisted.wake.as_raw_fd())
    }
}

impl PersistedRecords {
    fn put(&self, tag: Tag, result: io::Result<()>) {
        let mut done = lock(&self.done);
        done.push((tag, result.map_err(|e| kept_error(&e))));
        self.waiting.store(done.len(), Ordering::Release);
        drop(done);
        self.wake.raise();
    }
}

fn kept_error(e: &io::Error) -> Error {
    use crate::io::ErrorKind as Kind;
    let kind = match e.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Kind::NoSpace,
        ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied => Kind::ReadOnly,
        _ => Kind::WriteFailed,
    };
    Error { kind, at: 0 }
}

/// The life of the writing thread.
fn write(jobs: &Receiver<Job>) {
    while let Ok(first) = jobs.recv() {
        let mut batch = vec![first];
        batch.extend(jobs.try_iter());
        // The newest of each record first; the others are then older than what is kept.
        batch.sort_by_key(|job| std::cmp::Reverse(job.record.generation));
        for Job { unit, slot, record, tag, persisted } in batch {
            let mut unit = lock(&unit);
            let result = unit.persist(slot, &record);
            if let Err(e) = &result {
                log::error!("{}/{} could not be saved: {e}", unit.path.display(), record.name);
            }
            drop(unit);
            persisted.put(tag, result);
        }
    }
}

impl UnitRecords {
    /// Those in a directory, which nobody has.
    fn new(path: PathBuf) -> Self {
        Self { path, directory: None, slots: Vec::new(), kept: BTreeMap::new() }
    }

    fn persist(&mut self, slot: RecordSlot, record: &Record) -> io::Result<()> {
        if record.bytes.len() > RECORD_MAX {
            return Err(io::Error::new(ErrorKind::InvalidInput, "too long"));
        }
        let newest = self.kept.entry((slot.0, record.name)).or_insert(0);
        if record.generation <= *newest {
            return Ok(());
        }
        let directory = match &mut self.directory {
            Some(directory) => directory,
            none => none.insert(Directory::make(&self.path)?),
        };
        replace(directory, record.name, &record.bytes)?;
        *newest = record.generation;
        Ok(())
    }
}

/// A directory of the file system that is ours alone.
struct Directory {
    path: PathBuf,
    /// Open and locked.
    file: File,
}

/// Makes a directory, for the owner only, and whatever is missing above it; all of that on stable storage.
pub(super) fn make_directory(path: &Path) -> io::Result<()> {
    let missing: Vec<&Path> = path.ancestors().take_while(|above| !above.exists()).collect();
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    for directory in missing.into_iter().rev() {
        let above = directory.parent().filter(|above| !above.as_os_str().is_empty());
        File::open(above.unwrap_or_else(|| Path::new(".")))?.sync_all()?;
    }
    Ok(())
}

impl Directory {
    fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Self { path: path.into(), file }),
            Err(TryLockError::WouldBlock) => Err(io::Error::new(
                ErrorKind::ResourceBusy,
                format!(
                    "{} is in use by another daemon: give this one another state directory",
                    path.display()
                ),
            )),
            Err(TryLockError::Error(e)) => Err(e),
        }
    }

    fn make(path: &Path) -> io::Result<Self> {
        make_directory(path)?;
        Self::open(path)
    }

    /// When no other daemon has it any more.
    fn wait(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        file.lock()?;
        Ok(Self { path: path.into(), file })
    }

    /// What is in a record. An error names the file.
    fn load(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        let path = self.path.join(name);
        let fail = |e: io::Error| {
            let help = "remove it to start without the state that it holds";
            io::Error::new(e.kind(), format!("{}: {e}; {help}", path.display()))
        };
        let bytes = self.read(name).map_err(fail)?;
        bytes.map(|bytes| unwrap(&bytes).map(<[u8]>::to_vec)).transpose().map_err(fail)
    }

    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        match fs::read(self.path.join(name)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }
}

impl Folder for Directory {
    fn write(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let mut options = File::options();
        options
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(self.path.join(name))?
            .write_all(bytes)
    }

    fn sync(&mut self, name: &str) -> io::Result<()> {
        File::open(self.path.join(name))?.sync_all()
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path.join(from), self.path.join(to))
    }

    fn sync_names(&mut self) -> io::Result<()> {
        self.file.sync_all()
    }
}

#[cfg(test)]
mod tests;
