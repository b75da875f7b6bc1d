// SPDX-License-Identifier: GPL-2.0-or-later
//! What may be opened, and that what was there before is left as it is.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::thread::sleep;
use std::time::Duration;

use super::*;
use crate::stores::{Records, image_record};

/// A directory that is removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(folder: &str, name: &str) -> Self {
        let path = PathBuf::from(folder).join(format!("ptgt-{name}-{}", std::process::id()));
        _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str, len: u64, mode: u32) -> PathBuf {
        let path = self.0.join(name);
        let text = b"somebody else's words. ".repeat(8192);
        fs::write(&path, &text[..text.len().min(len as usize)]).unwrap();
        OpenOptions::new().write(true).open(&path).unwrap().set_len(len).unwrap();
        fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        _ = fs::remove_dir_all(&self.0);
    }
}

/// Kind and mode, owner, size, time of modification, contents.
type Seen = (u32, u32, u64, (i64, i64), Vec<u8>);

/// What can be seen of all that is in a directory.
fn seen(directory: &Path, found: &mut BTreeMap<PathBuf, Seen>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let meta = path.symlink_metadata().unwrap();
        if meta.is_dir() {
            seen(&path, found);
        }
        let bytes = if meta.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
        let len = if meta.is_file() { meta.len() } else { 0 };
        found.insert(path, (meta.mode(), meta.uid(), len, (meta.mtime(), meta.mtime_nsec()), bytes));
    }
}

/// Everything that a path may be without privileges.
fn kinds(at: &Scratch) -> Vec<PathBuf> {
    let Scratch(root) = at;
    let make = |name: &str| root.join(name);
    fs::create_dir(make("directory")).unwrap();
    UnixListener::bind(make("socket")).unwrap();
    let right = at.file("right", SIZE, 0o640);
    for (name, target) in [
        ("to-right", &right),
        ("to-directory", &make("directory")),
        ("to-socket", &make("socket")),
        ("dangling", &make("nowhere")),
        ("to-itself", &make("to-itself")),
        ("to-null", &PathBuf::from("/dev/null")),
    ] {
        symlink(target, make(name)).unwrap();
    }
    let mut all: Vec<PathBuf> = [
        "directory",
        "socket",
        "to-right",
        "to-directory",
        "to-socket",
        "dangling",
        "to-itself",
        "to-null",
        "missing",
        "no/such/directory",
        "right/below",
    ]
    .map(make)
    .into();
    all.extend([
        at.file("empty", 0, 0o600),
        at.file("less-than-a-block", 100, 0o644),
        at.file("text", 20_000, 0o666),
        at.file("smaller", SIZE / 2, 0o600),
        at.file("sparse", SIZE, 0o444),
        at.file("larger", 2 * SIZE, 0o777),
        at.file("odd", SIZE + 100, 0o600),
        right,
        "/dev/null".into(),
        "/dev/zero".into(),
    ]);
    all
}

/// Whatever a path is and however it is to be opened: it is opened if and only if looking at it has found nothing
/// against that, and what was there is as before.
#[test]
fn what_is_there_is_left_as_it_is() {
    let (mut served, mut refused) = (0, 0);
    for folder in FOLDERS {
        for choice in 0..48 {
            let flag = |bit: u32| choice >> bit & 1 == 1;
            let scratch = Scratch::new(folder, &format!("left-{choice}"));
            for path in kinds(&scratch) {
                let size = [None, Some(SIZE), Some(2 * SIZE)][choice / 16];
                let (create, read_only, mapped, thin) = (flag(0), flag(1), flag(2), flag(3));
                let options = FileOptions { create, read_only, mapped, thin, ..options(&path, size) };
                let (mut before, mut after) = (BTreeMap::new(), BTreeMap::new());
                seen(&scratch.0, &mut before);
                let examined = options.examine();
                seen(&scratch.0, &mut after);
                assert_eq!(before, after, "{options:?}: {examined:?}");
                let missing = fs::metadata(&path).is_err();
                let opened = options.open();
                assert_eq!(examined.err(), opened.as_ref().err().cloned(), "{options:?}");
                if let Err(refusal) = &opened {
                    assert!(!refusal.message.is_empty() && !refusal.help.is_empty(), "{refusal:?}");
                    refused += 1;
                } else {
                    served += 1;
                }
                after.clear();
                seen(&scratch.0, &mut after);
                if missing && opened.is_ok() {
                    assert!(create && !read_only, "{options:?}");
                    let made = fs::metadata(&path).unwrap();
                    assert_eq!((made.len(), made.mode() & 0o777), (size.unwrap(), 0o600), "{options:?}");
                    assert_eq!(made.blocks() * 512 >= made.len(), mapped || !thin, "{options:?}");
                    // Directories are modified when something is made in them.
                    after.retain(|path, _| before.contains_key(path));
                    fs::remove_file(&path).unwrap();
                    if path.ends_with("no/such/directory") {
                        assert_eq!(fs::metadata(scratch.0.join("no")).unwrap().mode() & 0o777, 0o700);
                        fs::remove_dir_all(scratch.0.join("no")).unwrap();
                    }
                }
                assert_eq!(before, after, "{options:?}: {:?}", opened.err());
            }
        }
    }
    assert!(served > 200 && refused > 1000, "{served} {refused}");
}

fn refusal(options: &FileOptions) -> ImageRefusal {
    let looked = options.examine().unwrap_err();
    assert_eq!(options.open().err(), Some(looked.clone()));
    looked
}

#[test]
fn another_size_is_an_error_that_names_both() {
    let scratch = Scratch::new(FOLDERS[0], "sizes");
    for len in [0, 20_000, SIZE - 512, SIZE + 512, 2 * SIZE] {
        let path = scratch.file("image", len, 0o600);
        let ImageRefusal { key, message, .. } = refusal(&options(&path, Some(SIZE)));
        assert_eq!(key, "size");
        assert!(
            message.contains(&format!("{SIZE} bytes")) && message.ends_with(&format!("has {len}")),
            "{message}"
        );
    }
}

#[test]
fn no_image_is_made_unasked_or_where_there_was_one() {
    let scratch = Scratch::new(FOLDERS[0], "made");
    let (path, record) = (scratch.0.join("image"), image_record(&scratch.0, "unit"));
    let wanted = FileOptions { record: Some(record.clone()), ..options(&path, Some(SIZE)) };
    let unasked = refusal(&FileOptions { create: false, ..wanted.clone() });
    assert!(unasked.help.contains("create = true"), "{unasked:?}");
    let records = Records::new(&scratch.0);
    let slot = records.slot("unit").unwrap();
    records.remember_image(slot, &path).unwrap();
    let before = refusal(&wanted);
    assert!(before.message.contains("unit/image") && before.help.contains("mount"), "{before:?}");
    assert!(!path.exists());
    fs::remove_file(&record).unwrap();
    wanted.examine().unwrap();
    wanted.open().unwrap();
    assert!(path.exists());
}

#[test]
fn a_size_that_no_file_can_have_is_refused() {
    let scratch = Scratch::new(FOLDERS[0], "huge");
    // Beyond any file system's limit: 8 EiB less one byte is the kernel's.
    let ImageRefusal { key, message, .. } = refusal(&options(&scratch.0.join("image"), Some(1 << 63)));
    assert_eq!(key, "size", "{message}");
    let full = FileOptions { thin: false, ..options(&scratch.0.join("image"), Some(1 << 43)) };
    let ImageRefusal { key, message, .. } = refusal(&full);
    assert_eq!(key, "thin", "{message}");
    assert_eq!(fs::read_dir(&scratch.0).unwrap().count(), 0, "nothing is left behind");
}

#[test]
fn without_thin_provisioning_all_space_is_taken() {
    for folder in FOLDERS {
        let scratch = Scratch::new(folder, "full");
        let full = |path: &Path| FileOptions { thin: false, ..options(path, Some(SIZE)) };
        let sparse = scratch.file("sparse", SIZE, 0o600);
        let before = (fs::read(&sparse).unwrap(), fs::metadata(&sparse).unwrap().modified().unwrap());
        sleep(Duration::from_millis(20));
        for path in [sparse.clone(), scratch.0.join("new")] {
            assert!(!Image::open(&full(&path)).unwrap().thin);
            assert!(fs::metadata(&path).unwrap().blocks() * 512 >= SIZE, "{}", path.display());
        }
        assert_eq!((fs::read(&sparse).unwrap(), fs::metadata(&sparse).unwrap().modified().unwrap()), before);
    }
}

#[test]
fn whoever_may_only_read_an_image_cannot_hold_it_unnoticed() {
    let scratch = Scratch::new(FOLDERS[0], "locks");
    let path = scratch.file("image", SIZE, 0o644);
    let wanted = options(&path, Some(SIZE));
    // flock(2), for which it is enough to read a file.
    let stranger = File::open(&path).unwrap();
    stranger.lock().unwrap();
    let opened = wanted.open().unwrap();
    let second = wanted.open().err().unwrap();
    assert!(second.message.contains("in use"), "{second:?}");
    let looked = wanted.examine().unwrap_err();
    assert!(!looked.certain, "that may be the very daemon: {looked:?}");
    drop(opened);
    // A lock for reading, on the other hand, is in the way of one for writing.
    assert!(sys::lock_file(&stranger, false).unwrap());
    let held = wanted.open().err().unwrap();
    assert!(held.message.contains("locked for reading"), "{held:?}");
    // Disks that are only read are served by several.
    let copy = FileOptions { read_only: true, ..wanted };
    let copies = [copy.open().unwrap(), copy.open().unwrap()];
    drop(copies);
}

#[test]
fn no_write_makes_a_file_longer_that_was_shortened() {
    for (number, folder) in FOLDERS.into_iter().enumerate() {
        let at = SIZE - 4096;
        for case in 0..6 {
            let mut file = OpenStore::new(folder, &format!("shortened{number}{case}"));
            file.write(at, 1, 4096);
            file.resize(SIZE / 2);
            sleep(Duration::from_millis(10));
            let data = Sg::copied(&file.arena, &[1; 4096]).unwrap();
            let pattern = Seg::from_static(&ZEROS).slice(0, 512);
            let op = match case {
                0 => Op::Write { at, data, fua: false },
                1 => Op::Write { at, data, fua: true },
                2 => Op::WriteSame { at, len: 4096, pattern, fua: false },
                3 => Op::WriteSame { at: SIZE / 4, len: SIZE / 2, pattern, fua: false },
                4 => Op::Anchor { at, len: 4096 },
                _ => Op::CompareAndWrite { at, compare: None, data, fua: false },
            };
            assert_eq!(file.failure(op), ErrorKind::OutOfRange, "{folder}, case {case}");
            assert_eq!(fs::metadata(&file.path).unwrap().len(), SIZE / 2, "{folder}, case {case}");
        }
    }
}

#[test]
fn a_long_write_that_is_under_way_ends_where_the_file_does() {
    let mut file = OpenStore::with(FOLDERS[0], "long", Some(8 * SIZE), false);
    let pattern = Seg::from_static(&ZEROS).slice(0, 512);
    let op = Op::WriteSame { at: 0, len: 8 * SIZE, pattern, fua: false };
    assert!(matches!(file.store.submit(Tag(1), op), Submitted::Queued));
    file.store.commit();
    file.resize(2 * SIZE);
    sleep(Duration::from_millis(10));
    let failed = file.wait();
    assert!(
        matches!(failed, Done::Failed(Error { kind: ErrorKind::OutOfRange, at }) if at == 2 * SIZE),
        "{failed:?}"
    );
    assert_eq!(fs::metadata(&file.path).unwrap().len(), 2 * SIZE);
}
