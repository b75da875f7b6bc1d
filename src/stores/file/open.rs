// SPDX-License-Identifier: GPL-2.0-or-later
//! Which images are opened, and how. What the daemon did not create keeps its size, its permissions and its bytes: it
//! is examined first, without any change, and opened only if it fits.

use std::fs::{self, DirBuilder, File, FileTimes, FileType, Metadata, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::users;
use crate::stores::records::remembers;
use crate::sys::{self, InMemory};

/// How an image is opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileOptions {
    /// What the disk is called in the log.
    pub name: String,
    /// The image, or a block device.
    pub path: PathBuf,
    /// Size in bytes: of an image that is made, and exactly that of one that is there. Without it, the size it has.
    pub size: Option<u64>,
    /// Make a missing image, unless `record` tells that there was one.
    pub create: bool,
    /// Where it is recorded that there has been an image.
    pub record: Option<PathBuf>,
    /// Logical block size in bytes.
    pub block: u32,
    /// Open for reading only.
    pub read_only: bool,
    /// Through a mapping of the file, which must lie on tmpfs or hugetlbfs: reads lend its pages, and writes go into
    /// them. All of its space is taken at once, and none is given back.
    pub mapped: bool,
    /// Space comes with the first write, and can be given back; otherwise all of it is taken at once.
    pub thin: bool,
}

/// Why an image is not opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageRefusal {
    /// What of [`FileOptions`] it is about.
    pub key: &'static str,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: String,
    /// It holds whoever asks, and will hold later: not a matter of the user's rights or of what another process does.
    pub certain: bool,
}

impl ImageRefusal {
    /// One that is certain.
    pub(in crate::stores) fn new(
        key: &'static str,
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> Self {
        Self { key, message: message.into(), help: help.into(), certain: true }
    }

    /// What the kernel has refused. Another user may have the right that this one lacks.
    pub(in crate::stores) fn by_kernel(what: &str, e: &io::Error) -> Self {
        let errno = e.raw_os_error();
        let help = match errno {
            Some(libc::EACCES) => "the daemon's user needs permission for it",
            Some(libc::EPERM | libc::EROFS | libc::ETXTBSY) => {
                "set `read_only = true` to serve it for reading only"
            }
            Some(libc::EMFILE | libc::ENFILE) => "raise the limit of open files",
            _ => "give the path of an image file or block device",
        };
        let certain = errno != Some(libc::EACCES) || sys::effective_uid() == 0;
        Self { certain, ..Self::new("path", format!("{what}: {e}"), help) }
    }
}

impl From<ImageRefusal> for io::Error {
    fn from(ImageRefusal { message, help, .. }: ImageRefusal) -> Self {
        Self::other(format!("{message}; {help}"))
    }
}

/// An image that is open and locked, and what was found of it.
pub(super) struct Opened {
    pub(super) file: File,
    pub(super) found: FoundImage,
}

/// What an open image is like.
pub(super) struct FoundImage {
    /// Size in bytes, of whole blocks.
    pub(super) bytes: u64,
    pub(super) device: bool,
    pub(super) in_memory: Option<InMemory>,
    /// Space can be given back.
    pub(super) thin: bool,
    /// The file system has unwritten extents.
    pub(super) zero_range: bool,
}

/// How long something that another process holds is waited for.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);

/// Tries again for a while. A daemon that was killed holds its images until the kernel has taken its io_uring apart,
/// which is a little after the process is gone: the next one is to start nevertheless.
pub fn patiently<T>(mut attempt: impl FnMut() -> Option<T>) -> Option<T> {
    const PAUSE: Duration = Duration::from_millis(20);
    let mut waited = Duration::ZERO;
    loop {
        let done = attempt();
        if done.is_some() || waited >= PATIENCE {
            return done;
        }
        std::thread::sleep(PAUSE);
        waited += PAUSE;
    }
}

fn kind(of: FileType) -> &'static str {
    match of {
        of if of.is_dir() => "a directory",
        of if of.is_fifo() => "a FIFO",
        of if of.is_socket() => "a socket",
        of if of.is_char_device() => "a character device",
        _ => "no file",
    }
}

/// The directory of a path, or of what will be there, as far as there is one.
pub(in crate::stores) fn directory(path: &Path) -> &Path {
    let above = path.ancestors().skip(1).find(|above| above.symlink_metadata().is_ok());
    above.unwrap_or_else(|| Path::new("."))
}

/// A file without a name in a directory, to try what its file system can do; `None` where there are no such files.
pub(in crate::stores) fn trial(directory: &Path) -> io::Result<Option<File>> {
    let opened =
        OpenOptions::new().read(true).write(true).custom_flags(libc::O_TMPFILE).mode(0o600).open(directory);
    match opened {
        Ok(file) => Ok(Some(file)),
        Err(e) if matches!(e.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EISDIR)) => Ok(None),
        Err(e) => Err(e),
    }
}

impl FileOptions {
    /// Whether an image can be opened so, as far as that can be seen without changing anything.
    pub fn examine(&self) -> Result<(), ImageRefusal> {
        let Some(meta) = self.find()? else { return self.can_be_made() };
        let file = self.claim(&meta)?;
        self.can_be_remembered(self.suits(&file)?.in_memory)?;
        match sys::lock_holder(&file, !self.read_only) {
            Ok(None) => Ok(()),
            Ok(Some(holder)) => Err(ImageRefusal { certain: false, ..self.held(holder) }),
            Err(e) => Err(ImageRefusal::by_kernel(&format!("{} cannot be locked", self.path.display()), &e)),
        }
    }

    /// Opens and locks an image, which is made before if it is to be.
    pub(super) fn open(&self) -> Result<Opened, ImageRefusal> {
        if self.find()?.is_none() {
            self.make()?;
        }
        let Some(meta) = self.find()? else { return Err(self.missing("it was removed")) };
        let file = self.claim(&meta)?;
        let locked =
            patiently(|| sys::lock_file(&file, !self.read_only).map(|done| done.then_some(())).transpose());
        match locked {
            Some(Ok(())) => {}
            Some(Err(e)) => {
                return Err(ImageRefusal::by_kernel(
                    &format!("{} cannot be locked", self.path.display()),
                    &e,
                ));
            }
            None => {
                let holder = sys::lock_holder(&file, !self.read_only).ok().flatten();
                return Err(self.held(holder.unwrap_or(sys::LockHolder { writes: true, process: None })));
            }
        }
        let found = self.suits(&file)?;
        if self.thin && !self.mapped && !found.device && !found.thin {
            let path = self.path.display();
            log::warn!(
                "{path}: no deallocation: its file system does not support it, or no file can be created \
                 beside it to try it"
            );
        }
        if self.takes_space() && !found.device {
            let modified = meta.modified();
            self.take_space(&file, found.bytes, found.in_memory)?;
            // No byte is another one.
            _ = modified.and_then(|time| file.set_times(FileTimes::new().set_modified(time)));
        }
        Ok(Opened { file, found })
    }

    /// What is there; `None` if nothing is, and an image is to be made.
    fn find(&self) -> Result<Option<Metadata>, ImageRefusal> {
        let path = self.path.display();
        match fs::metadata(&self.path) {
            Ok(meta) if meta.is_file() || meta.file_type().is_block_device() => Ok(Some(meta)),
            Ok(meta) => {
                let message = format!("{path} is {}", kind(meta.file_type()));
                Err(ImageRefusal::new("path", message, "give the path of an image file or block device"))
            }
            Err(e) if e.kind() == ErrorKind::NotFound => self.may_be_made().map(|()| None),
            Err(e) => Err(ImageRefusal::by_kernel(&format!("{path} cannot be examined"), &e)),
        }
    }

    fn missing(&self, help: &str) -> ImageRefusal {
        ImageRefusal::new("path", format!("{} is not there", self.path.display()), help)
    }

    fn may_be_made(&self) -> Result<(), ImageRefusal> {
        if let Ok(target) = fs::read_link(&self.path) {
            let message =
                format!("{} is a link to {}, which is not there", self.path.display(), target.display());
            return Err(ImageRefusal::new("path", message, "give the path of an image, or remove the link"));
        }
        if self.read_only {
            return Err(self.missing("a read-only disk is not created: give the path of an image"));
        }
        if !self.create {
            return Err(
                self.missing("mount its file system, give another path, or create it: `create = true`")
            );
        }
        if let Some(record) = &self.record
            && self.is_remembered()?
        {
            let message = format!(
                "{} is not there, but there was an image before: {} says so",
                self.path.display(),
                record.display()
            );
            let help = "mount its file system or restore the image; remove that record to begin with an empty \
            disk";
            return Err(ImageRefusal::new("path", message, help));
        }
        match self.size {
            Some(_) => Ok(()),
            None => Err(self.missing("give `size`, the size to create it with")),
        }
    }

    /// Whether the directory takes a new image.
    fn can_be_made(&self) -> Result<(), ImageRefusal> {
        let (size, directory) = (self.size.unwrap_or(0), directory(&self.path));
        let place = directory.display();
        let trial = trial(directory)
            .map_err(|e| ImageRefusal::by_kernel(&format!("no file can be created in {place}"), &e))?;
        let mut in_memory = None;
        if let Some(file) = &trial {
            // On hugetlbfs a size that is no multiple of its pages is not too large.
            in_memory = self.memory(file, size)?;
            file.set_len(size).map_err(|e| {
                let message = format!("{size} bytes are more than a file in {place} can have: {e}");
                ImageRefusal::new("size", message, "give a smaller one, or a path on another file system")
            })?;
        }
        self.room(trial.as_ref(), trial.as_ref(), size)?;
        self.can_be_remembered(in_memory)
    }

    fn is_remembered(&self) -> Result<bool, ImageRefusal> {
        let Some(record) = &self.record else { return Ok(false) };
        remembers(record, &self.path).map_err(|e| {
            let help = "remove it to start without what it holds, or let the daemon's user read it";
            ImageRefusal {
                help: help.into(),
                ..ImageRefusal::by_kernel(&format!("{} cannot be read", record.display()), &e)
            }
        })
    }

    /// Whether the record can be made that there is an image, where there is to be one.
    fn can_be_remembered(&self, in_memory: Option<InMemory>) -> Result<(), ImageRefusal> {
        let wanted = self.create && !self.read_only && in_memory.is_none();
        let Some(record) = self.record.as_ref().filter(|_| wanted) else { return Ok(()) };
        if self.is_remembered()? {
            return Ok(());
        }
        let directory = directory(record);
        let tried = trial(directory).map_err(|e| {
            let what = format!("cannot record in {} that there is an image", directory.display());
            ImageRefusal {
                key: "create",
                help: "give a `state_dir` that the daemon may write to".into(),
                ..ImageRefusal::by_kernel(&what, &e)
            }
        });
        tried.map(|_| ())
    }

    /// Makes an image, for the user of the daemon alone. Whatever fails, there is none then.
    fn make(&self) -> Result<(), ImageRefusal> {
        self.can_be_made()?;
        let path = self.path.display();
        let size = self.size.unwrap_or(0);
        let fail = |e: io::Error| ImageRefusal::by_kernel(&format!("{path} cannot be created"), &e);
        let above = self
            .path
            .parent()
            .filter(|above| !above.as_os_str().is_empty())
            .unwrap_or_else(|| Path::new("."));
        DirBuilder::new().recursive(true).mode(0o700).create(above).map_err(fail)?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&self.path)
            .map_err(fail)?;
        let fill = || {
            file.set_len(size).map_err(fail)?;
            if self.takes_space() {
                self.take_space(&file, size, sys::in_memory(&file).map_err(fail)?)?;
            }
            // It is there after a loss of power, too.
            file.sync_all().and_then(|()| File::open(above)?.sync_all()).map_err(fail)
        };
        fill().inspect_err(|_| _ = fs::remove_file(&self.path))?;
        let how = if self.takes_space() { "allocated in full" } else { "sparse" };
        log::info!("created {path}: {size} bytes, {how}");
        Ok(())
    }

    /// Opens what is there. A block device is claimed, if it is to be written: nobody can mount it then.
    fn claim(&self, meta: &Metadata) -> Result<File, ImageRefusal> {
        let path = self.path.display();
        let busy = |by: &str| {
            ImageRefusal::new(
                "path",
                format!("{path} is in use: {by}"),
                "ptgt does not serve what the host uses",
            )
        };
        let device = meta.file_type().is_block_device();
        if !self.read_only
            && let Some(user) = users::user(meta)
        {
            return Err(busy(&user));
        }
        let flags = if device && !self.read_only { libc::O_EXCL } else { 0 };
        let mut options = OpenOptions::new();
        options.read(true).write(!self.read_only).custom_flags(flags);
        let opened = patiently(|| match options.open(&self.path) {
            Err(e) if e.kind() == ErrorKind::ResourceBusy => None,
            opened => Some(opened),
        });
        match opened {
            Some(Ok(file)) => Ok(file),
            Some(Err(e)) => Err(ImageRefusal::by_kernel(&format!("{path} cannot be opened"), &e)),
            None => {
                let lock = File::open(&self.path).and_then(|file| sys::lock_holder(&file, false));
                match lock.ok().flatten() {
                    Some(holder) => Err(ImageRefusal { certain: false, ..self.held(holder) }),
                    None => Err(busy("mounted, of LVM or md, swap, or claimed by another program")),
                }
            }
        }
    }

    fn held(&self, holder: sys::LockHolder) -> ImageRefusal {
        let sys::LockHolder { writes, process } = holder;
        let who =
            process.map_or_else(|| "another process".to_owned(), |process| format!("process {process}"));
        let (what, help) = match writes {
            true => ("in use by", "stop it first: a daemon needs its images to itself"),
            false => ("locked for reading by", "stop it first: `lsof` names it"),
        };
        ImageRefusal::new("path", format!("{} is {what} {who}", self.path.display()), help)
    }

    /// What an image is like that is open, if it can be served.
    fn suits(&self, file: &File) -> Result<FoundImage, ImageRefusal> {
        let path = self.path.display();
        let fail = |e: io::Error| ImageRefusal::by_kernel(&format!("{path} cannot be examined"), &e);
        let device = file.metadata().map_err(fail)?.file_type().is_block_device();
        let bytes =
            if device { sys::block_device_size(file) } else { file.metadata().map(|meta| meta.len()) };
        let bytes = bytes.map_err(fail)?;
        if let Some(size) = self.size
            && size != bytes
        {
            let help = match bytes {
                0 if self.create => "give another path, or remove the file to have it created".to_owned(),
                _ => format!(
                    "give `size = {bytes}` or none, or another path; the daemon does not resize images"
                ),
            };
            return Err(ImageRefusal::new(
                "size",
                format!("`size` is {size} bytes, but {path} has {bytes}"),
                help,
            ));
        }
        let bytes = bytes / u64::from(self.block) * u64::from(self.block);
        if bytes == 0 {
            let message = format!("{path} is smaller than a block of {} bytes", self.block);
            return Err(ImageRefusal::new("path", message, "give the path of an image file or block device"));
        }
        let in_memory = self.memory(file, bytes)?;
        // Tried on another file: even an operation without effect makes a file look modified.
        let beside = fs::canonicalize(&self.path).ok().and_then(|path| trial(path.parent()?).ok().flatten());
        if !device {
            self.room(Some(file), beside.as_ref(), bytes)?;
        }
        let can = |mode| beside.as_ref().is_some_and(|beside| sys::can_allocate(beside, mode));
        let thin =
            !device && !self.mapped && self.thin && (self.read_only || can(libc::FALLOC_FL_PUNCH_HOLE));
        let zero_range = thin && !self.read_only && can(libc::FALLOC_FL_ZERO_RANGE);
        Ok(FoundImage { bytes, device, in_memory, thin, zero_range })
    }

    /// Whether a file lies in memory, where it must, or must not without a mapping.
    fn memory(&self, file: &File, bytes: u64) -> Result<Option<InMemory>, ImageRefusal> {
        let path = self.path.display();
        let found = sys::in_memory(file)
            .map_err(|e| ImageRefusal::by_kernel(&format!("{path} cannot be examined"), &e))?;
        match found {
            None if self.mapped => {
                let message = "only a file on tmpfs or hugetlbfs can be mapped: on a disk, an error would have no command to fail";
                Err(ImageRefusal::new("mapped", message, "leave `mapped` out"))
            }
            Some(InMemory::Hugetlbfs(_)) if !self.mapped => {
                let message = "a file on hugetlbfs can be written only through a mapping";
                Err(ImageRefusal::new("path", message, "set `mapped = true`"))
            }
            Some(InMemory::Hugetlbfs(page)) if !bytes.is_multiple_of(page as u64) => {
                let message =
                    format!("on hugetlbfs the size must be a multiple of its pages of {page} bytes");
                Err(ImageRefusal::new("size", message, "give such a size"))
            }
            found => Ok(found),
        }
    }

    /// Whether all space is taken at the start.
    fn takes_space(&self) -> bool {
        (self.mapped || !self.thin) && !self.read_only
    }

    /// What is to be changed if there is no space.
    fn space_key(&self) -> (&'static str, &'static str) {
        match self.mapped {
            true => ("mapped", "make room there, or leave `mapped` out"),
            false => ("thin", "make room there, or set `thin = true`"),
        }
    }

    /// Whether there is room for all bytes where it is to be taken, and a way to take it. The pages of hugetlbfs are
    /// counted when they are taken.
    fn room(&self, file: Option<&File>, beside: Option<&File>, bytes: u64) -> Result<(), ImageRefusal> {
        let Some(file) = file.filter(|_| self.takes_space()) else { return Ok(()) };
        let (key, help) = self.space_key();
        let space = sys::file_space(file.as_raw_fd())
            .map_err(|e| ImageRefusal::by_kernel("its space cannot be determined", &e))?;
        let lacking = bytes.saturating_sub(space.used);
        if lacking > space.available && !matches!(sys::in_memory(file), Ok(Some(InMemory::Hugetlbfs(_)))) {
            let message =
                format!("it takes {lacking} bytes, and its file system has {} left", space.available);
            return Err(ImageRefusal::new(key, message, help));
        }
        match beside.map(|beside| sys::reserve(beside, 4096)) {
            Some(Err(e)) if e.raw_os_error() == Some(libc::EOPNOTSUPP) => {
                Err(ImageRefusal::new(key, "its file system cannot reserve space", help))
            }
            _ => Ok(()),
        }
    }

    /// Takes the space for all bytes now, so that there is no lack of it later.
    fn take_space(&self, file: &File, bytes: u64, in_memory: Option<InMemory>) -> Result<(), ImageRefusal> {
        let (key, help) = self.space_key();
        sys::reserve(file, bytes).map_err(|e| match in_memory {
            Some(InMemory::Hugetlbfs(page)) if e.kind() == ErrorKind::StorageFull => {
                let pages = bytes / page as u64;
                ImageRefusal::new(
                    key,
                    format!("it takes {pages} huge pages of {page} bytes, and fewer are free"),
                    help,
                )
            }
            _ => ImageRefusal::new(key, format!("its space cannot be allocated: {e}"), help),
        })
    }
}
