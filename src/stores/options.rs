// SPDX-License-Identifier: GPL-2.0-or-later
//! Stores as the configuration gives them: one row for each type.

use std::fmt::Debug;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Backing, FileOptions, ImageRefusal};
use crate::io::StoreNeeds;
use crate::options::Absent::{Is, Means, Required};
use crate::options::ValueKind::{Flag, Size, Text, Word};
use crate::options::{Key, Section, key};

/// How a store is set up.
pub trait StoreOptions: Debug + Send + Sync {
    /// Opens it. Memory comes from huge pages if `huge`; `record` is where it is recorded that there has been an image.
    fn open(&self, needs: StoreNeeds, record: PathBuf, huge: bool) -> io::Result<Arc<dyn Backing>>;

    /// Whether it can be opened, as far as that can be seen without changing anything.
    fn examine(&self, _needs: StoreNeeds, _record: PathBuf) -> Result<(), ImageRefusal> {
        Ok(())
    }

    /// The file that nobody else may have, and whether that is made if it is not there.
    fn image(&self) -> Option<(&Path, bool)> {
        None
    }

    /// Bytes of memory that it takes of huge pages, if there are some.
    fn memory(&self) -> u64 {
        0
    }
}

/// Reads what a store needs beside its size. Paths are relative to that one.
type ReadStore = fn(&Section<'_>, &Path, Option<u64>) -> Option<Arc<dyn StoreOptions>>;

/// A type of stores.
struct StoreType {
    /// Its name in the configuration.
    word: &'static str,
    read: ReadStore,
}

const TYPES: &[StoreType] = &[
    StoreType { word: "file", read: ImageOptions::read },
    StoreType { word: "ram", read: |s, _, size| Some(Arc::new(RamOptions { size: given(s, size)? })) },
    StoreType { word: "null", read: |s, _, size| Some(Arc::new(NullOptions { size: given(s, size)? })) },
];

const WORDS: [&str; TYPES.len()] = {
    let mut words = [""; TYPES.len()];
    let mut i = 0;
    while i < words.len() {
        words[i] = TYPES[i].word;
        i += 1;
    }
    words
};

/// The keys of whatever has a store.
pub const STORE_KEYS: &[Key] = &[
    key(
        "store",
        Word(&WORDS),
        Required,
        "\"file\"",
        "`file`: an image file or a block device. `ram`: memory, empty after each start. `null`: reads as \
         zeros and forgets writes, to measure everything else.",
    ),
    key(
        "path",
        Text("the path of an image file or block device"),
        Means("an error for the store file"),
        "\"/var/lib/ptgt/thin0.img\"",
        "Store file: its path. A relative path starts at the directory of the configuration.",
    ),
    key(
        "create",
        Flag,
        Is("false"),
        "true",
        "Store file: create a missing image with `size` bytes, and its directory, for the daemon's user \
         alone. Not if `state_dir` records that there was an image before: its file system is probably \
         not mounted.",
    ),
    key(
        "mapped",
        Flag,
        Is("false"),
        "",
        "Store file, on tmpfs or hugetlbfs: reads lend the pages of the file instead of copying them, and \
         writes go into them without a system call. All of its space is allocated at the start, and none \
         is given back (a disk has no UNMAP). A file on hugetlbfs must be mapped, and its size a multiple \
         of the huge page size.",
    ),
    key(
        "size",
        Size(4096, 1 << 60),
        Means("as large as the file is; an error for other stores"),
        "\"1GiB\"",
        "Size of the image, the device or the memory, a multiple of 4096 bytes. An existing image or \
         device must have exactly this size; the daemon does not resize it.",
    ),
];

/// A store as the configuration gives it.
#[derive(Clone, Debug)]
pub struct ConfiguredStore {
    /// Its type.
    pub word: &'static str,
    /// What is said of it.
    pub options: Arc<dyn StoreOptions>,
}

impl ConfiguredStore {
    /// Reads [`STORE_KEYS`]. Paths are relative to `base`.
    pub fn read(s: &Section<'_>, base: &Path) -> Option<Self> {
        let found = s.word("store", &std::array::from_fn::<_, { TYPES.len() }, _>(|index| index));
        let size: Option<u64> = s.size("size");
        if size.is_some_and(|size| size % 4096 != 0) {
            s.error("size", "is not a multiple of 4096 bytes", "");
        }
        let StoreType { word, read } = &TYPES[found?];
        Some(Self { word, options: read(s, base, size)? })
    }
}

impl ConfiguredStore {
    /// An image as large as it is, for somebody of that name.
    pub fn of_image(name: &str, path: &Path) -> Self {
        let (name, path) = (name.to_owned(), path.to_owned());
        let options = ImageOptions { name, path, size: None, mapped: false, create: false };
        Self { word: TYPES[0].word, options: Arc::new(options) }
    }
}

/// The size of a store that has none by itself.
fn given(s: &Section<'_>, size: Option<u64>) -> Option<u64> {
    if !s.given("size") {
        s.missing("size");
    }
    size
}

/// `file`
#[derive(Debug)]
struct ImageOptions {
    name: String,
    path: PathBuf,
    /// `None`: as large as it is.
    size: Option<u64>,
    mapped: bool,
    create: bool,
}

impl ImageOptions {
    fn read(s: &Section<'_>, base: &Path, size: Option<u64>) -> Option<Arc<dyn StoreOptions>> {
        let path = s.text("path");
        if !s.given("path") {
            s.missing("path");
        }
        if path.as_deref() == Some("") {
            s.error("path", "is empty", "give the path of an image file or block device");
        }
        let name = s.text("name");
        let (mapped, create) = (s.flag("mapped"), s.flag("create"));
        if create == Some(true) && !s.given("size") {
            s.error("create", "has no effect without `size`", "give the size to create the image with");
        }
        Some(Arc::new(Self { name: name?, path: base.join(path?), size, mapped: mapped?, create: create? }))
    }

    fn file(&self, StoreNeeds { block, read_only, thin }: StoreNeeds, record: PathBuf) -> FileOptions {
        let Self { name, path, size, mapped, create } = self;
        let (name, path, record) = (name.clone(), path.clone(), Some(record));
        FileOptions {
            name,
            path,
            size: *size,
            create: *create,
            record,
            block,
            read_only,
            mapped: *mapped,
            thin,
        }
    }
}

impl StoreOptions for ImageOptions {
    fn open(&self, needs: StoreNeeds, record: PathBuf, _: bool) -> io::Result<Arc<dyn Backing>> {
        super::file(&self.file(needs, record))
    }

    fn examine(&self, needs: StoreNeeds, record: PathBuf) -> Result<(), ImageRefusal> {
        self.file(needs, record).examine()
    }

    fn image(&self) -> Option<(&Path, bool)> {
        Some((&self.path, self.create))
    }
}

/// `ram`
#[derive(Debug)]
struct RamOptions {
    size: u64,
}

impl StoreOptions for RamOptions {
    fn open(&self, needs: StoreNeeds, _: PathBuf, huge: bool) -> io::Result<Arc<dyn Backing>> {
        super::ram(self.size, needs.block, huge)
    }

    fn memory(&self) -> u64 {
        self.size
    }
}

/// `null`
#[derive(Debug)]
struct NullOptions {
    size: u64,
}

impl StoreOptions for NullOptions {
    fn open(&self, needs: StoreNeeds, _: PathBuf, _: bool) -> io::Result<Arc<dyn Backing>> {
        super::null(self.size, needs.block)
    }
}
