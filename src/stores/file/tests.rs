// SPDX-License-Identifier: GPL-2.0-or-later
//! Image files on a disk and in memory.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};

mod open;

use super::open::PATIENCE;
use super::*;

/// An image that is made if it is not there.
fn options(path: &Path, size: Option<u64>) -> FileOptions {
    FileOptions {
        name: "test".into(),
        path: path.into(),
        size,
        create: size.is_some(),
        record: None,
        block: 512,
        read_only: false,
        mapped: false,
        thin: true,
    }
}

fn handle(folder: &str, mapped: bool) -> io::Result<(PathBuf, Box<dyn Store>)> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let path = PathBuf::from(folder).join(format!("ptgt-mapped-{}-{number}.img", std::process::id()));
    let opened = Image::open(&FileOptions { mapped, ..options(&path, Some(1 << 20)) });
    let arena = Arena::new(2 << 20, false)?;
    let store = opened.and_then(|image| image.attach(&CoreContext::alone(arena)));
    store.map(|store| (path.clone(), store)).inspect_err(|_| _ = std::fs::remove_file(path))
}

fn read(store: &mut dyn Store, at: u64, len: u32) -> Done {
    match store.submit(Tag(0), Op::Read { at, len, into: Landing::Own }) {
        Submitted::Done(done) => done,
        other => panic!("{other:?}: what is in memory is there at once"),
    }
}

#[test]
fn a_mapped_file_lends_its_pages_and_fails_what_it_has_lost() {
    let (path, mut store) = handle("/dev/shm", true).unwrap();
    assert!(!store.geometry().thin, "all of its space is taken");
    let data = Sg::copied(&Arena::new(2 << 20, false).unwrap(), &[7; 4096]).unwrap();
    let written = store.submit(Tag(1), Op::Write { at: 8192, data, fua: false });
    assert!(matches!(written, Submitted::Done(Done::Finished)));
    let (first, second) = match (read(&mut *store, 8192, 4096), read(&mut *store, 8192, 512)) {
        (Done::Data(first), Done::Data(second)) => (first, second),
        other => panic!("{other:?}"),
    };
    assert_eq!(first.to_vec(), [7; 4096]);
    assert_eq!(first.segs()[0].as_ptr(), second.segs()[0].as_ptr(), "the same bytes, not copies");
    OpenOptions::new().write(true).open(&path).unwrap().set_len(4096).unwrap();
    let lost = read(&mut *store, 8192, 4096);
    assert!(matches!(lost, Done::Failed(Error { kind: ErrorKind::ReadFailed, .. })), "{lost:?}");
    // What was lent before reads as zeros now, and nobody dies of it.
    assert_eq!(first.to_vec(), [0; 4096]);
    std::fs::remove_file(path).unwrap();
}

#[test]
fn a_mapped_file_that_grows_has_its_old_size() {
    let (path, mut store) = handle("/dev/shm", true).unwrap();
    OpenOptions::new().write(true).open(&path).unwrap().set_len(2 << 20).unwrap();
    assert_eq!(store.inspect().bytes, 1 << 20);
    let beyond = read(&mut *store, 1 << 20, 512);
    assert!(matches!(beyond, Done::Failed(Error { kind: ErrorKind::OutOfRange, .. })), "{beyond:?}");
    std::fs::remove_file(path).unwrap();
}

#[test]
fn a_file_on_a_disk_is_not_mapped() {
    let folder = env!("CARGO_MANIFEST_DIR");
    let target = PathBuf::from(folder).join("target");
    if sys::in_memory(&File::open(&target).unwrap()).unwrap().is_some() {
        return; // the build lies in memory, so there is no disk to try it on
    }
    let refused = handle(target.to_str().unwrap(), true).map(|_| ()).unwrap_err();
    assert!(refused.to_string().contains("tmpfs"), "{refused}");
}

/// A file that is removed at the end, and its store.
struct OpenStore {
    path: PathBuf,
    store: Box<dyn Store>,
    arena: Arena,
}

impl Drop for OpenStore {
    fn drop(&mut self) {
        _ = std::fs::remove_file(&self.path);
    }
}

const SIZE: u64 = 1 << 20;

impl OpenStore {
    fn new(folder: &str, name: &str) -> Self {
        Self::with(folder, name, Some(SIZE), false)
    }

    fn path(folder: &str, name: &str) -> PathBuf {
        PathBuf::from(folder).join(format!("ptgt-{name}-{}.img", std::process::id()))
    }

    fn with(folder: &str, name: &str, size: Option<u64>, read_only: bool) -> Self {
        let path = Self::path(folder, name);
        let options = FileOptions { read_only, ..options(&path, size) };
        let arena = Arena::new(4 << 20, false).unwrap();
        let store = Image::open(&options).unwrap().attach(&CoreContext::alone(arena.clone())).unwrap();
        Self { path, store, arena }
    }

    fn run(&mut self, op: Op) -> Done {
        match self.store.submit(Tag(1), op) {
            Submitted::Done(done) => return done,
            Submitted::Queued => {}
            Submitted::Full(op) => panic!("{op:?} finds no room"),
        }
        self.wait()
    }

    fn wait(&mut self) -> Done {
        let (mut done, mut scratch) = (Vec::new(), Vec::new());
        while self.store.poll(&mut done) == 0 {
            // What has been carried out in part goes on with the rest.
            self.store.commit();
            sys::wait_readable(&[self.store.wake_fd().unwrap()], &mut scratch, Some(PATIENCE));
        }
        done.pop().unwrap().1
    }

    fn write(&mut self, at: u64, byte: u8, len: usize) {
        let data = Sg::copied(&self.arena, &vec![byte; len]).unwrap();
        assert!(matches!(self.run(Op::Write { at, data, fua: true }), Done::Finished));
    }

    fn bytes(&mut self, at: u64, len: u32) -> Vec<u8> {
        match self.run(Op::Read { at, len, into: Landing::Own }) {
            Done::Data(data) => data.to_vec(),
            other => panic!("{other:?}"),
        }
    }

    fn extent(&mut self, at: u64) -> (Allocation, u64) {
        match self.run(Op::Extent { at }) {
            Done::Extent { state, len } => (state, len),
            other => panic!("{other:?}"),
        }
    }

    fn finish(&mut self, op: Op) {
        let done = self.run(op);
        assert!(matches!(done, Done::Finished), "{done:?}");
    }

    fn failure(&mut self, op: Op) -> ErrorKind {
        match self.run(op) {
            Done::Failed(error) => error.kind,
            other => panic!("{other:?}"),
        }
    }

    fn resize(&self, len: u64) {
        OpenOptions::new().write(true).open(&self.path).unwrap().set_len(len).unwrap();
    }
}

/// Where files lie on a disk, and in memory.
const FOLDERS: [&str; 2] = [concat!(env!("CARGO_MANIFEST_DIR"), "/target"), "/dev/shm"];

/// More than are tried at once, and more than the ring takes at once.
#[test]
fn data_in_many_pieces_is_written_whole() {
    let mut file = OpenStore::new("/dev/shm", "pieces");
    for (count, fua) in [(180, false), (300, false), (1500, false), (1500, true)] {
        let bytes: Vec<u8> = (0..count * 512).map(|at| (at / 512 + count + usize::from(fua)) as u8).collect();
        let block = Sg::copied(&file.arena, &bytes).unwrap();
        let mut data = Sg::new();
        for piece in 0..count {
            data.push(block.segs()[0].slice(piece * 512, 512));
        }
        file.finish(Op::Write { at: 512, data, fua });
        assert!(file.bytes(512, bytes.len() as u32) == bytes, "{count} pieces, FUA {fua}");
    }
}

#[test]
fn extents_tell_what_is_allocated() {
    use Allocation::{Anchored, Deallocated, Mapped};
    for (number, folder) in FOLDERS.into_iter().enumerate() {
        let mut file = OpenStore::new(folder, &format!("extents{number}"));
        assert!(file.store.geometry().thin, "{folder}");
        assert_eq!(file.extent(0), (Deallocated, SIZE), "{folder}");
        file.write(64 << 10, 7, 8192);
        assert_eq!(file.extent(0), (Deallocated, 64 << 10), "{folder}");
        assert_eq!(file.extent((64 << 10) + 512), (Mapped, 8192 - 512), "{folder}");
        assert_eq!(file.extent(72 << 10), (Deallocated, SIZE - (72 << 10)), "{folder}");
        file.finish(Op::Unmap { at: 64 << 10, len: 4096 });
        assert_eq!(file.extent(0), (Deallocated, 68 << 10), "{folder}");
        assert_eq!(file.bytes(64 << 10, 8192), [[0; 4096], [7; 4096]].concat(), "{folder}");
    }
    // Anchored: on a disk unwritten extents, where the file system has them.
    let mut file = OpenStore::new(FOLDERS[0], "anchored");
    file.write(64 << 10, 7, 4096);
    let before = file.store.inspect().used.unwrap();
    file.finish(Op::Anchor { at: 64 << 10, len: 256 << 10 });
    assert!(file.store.inspect().used.unwrap() >= before + (248 << 10), "its room is taken");
    // (A block that was read is in the page cache, which makes it look like data.)
    let (state, len) = file.extent(64 << 10);
    match state {
        Anchored => {
            assert_eq!(len, 256 << 10);
            file.write(128 << 10, 9, 4096);
            assert_eq!(file.extent(64 << 10), (Anchored, 64 << 10));
            assert_eq!(file.extent(128 << 10), (Mapped, 4096));
            assert_eq!(file.extent(132 << 10), (Anchored, 188 << 10));
        }
        // Zeros were written instead.
        other => assert_eq!((other, len), (Mapped, 256 << 10)),
    }
    assert_eq!(file.extent(320 << 10), (Deallocated, SIZE - (320 << 10)));
    assert_eq!(file.bytes(64 << 10, 8192), [0; 8192]);
    // In memory there is nothing to anchor: zeros take the room.
    let mut file = OpenStore::new(FOLDERS[1], "anchored");
    file.finish(Op::Anchor { at: 64 << 10, len: 64 << 10 });
    assert_eq!(file.extent(64 << 10), (Mapped, 64 << 10));
    assert_eq!(file.store.inspect().used, Some(64 << 10));
}

#[test]
fn a_file_that_grows_or_shrinks_is_noticed() {
    for (number, folder) in FOLDERS.into_iter().enumerate() {
        let mut file = OpenStore::new(folder, &format!("grown{number}"));
        let beyond = Op::Read { at: SIZE, len: 512, into: Landing::Own };
        assert_eq!(file.failure(beyond), ErrorKind::OutOfRange);
        assert_eq!(file.store.inspect().used, Some(0), "{folder}: what was tried is taken back");
        file.resize(2 * SIZE + 100);
        assert_eq!(file.store.geometry().bytes, SIZE, "not before it is looked at");
        let health = file.store.inspect();
        assert_eq!((health.bytes, file.store.geometry().bytes), (2 * SIZE, 2 * SIZE), "whole blocks");
        assert!(health.available.is_some_and(|bytes| bytes > 0));
        file.write(2 * SIZE - 512, 5, 512);
        assert_eq!(file.bytes(2 * SIZE - 512, 512), [5; 512]);
        // What has shrunk since it was looked at is out of range, too.
        file.resize(SIZE / 2);
        let lost = Op::Read { at: SIZE, len: 4096, into: Landing::Own };
        assert_eq!(file.failure(lost), ErrorKind::OutOfRange);
        assert_eq!(file.store.inspect().bytes, SIZE / 2);
    }
}

#[test]
fn what_is_read_only_is_not_written() {
    let path = OpenStore::path(FOLDERS[0], "read-only");
    File::create(&path).unwrap().set_len(SIZE).unwrap();
    let mut copy = OpenStore::with(FOLDERS[0], "read-only", None, true);
    assert!(copy.store.geometry().read_only);
    let data = Sg::copied(&copy.arena, &[1; 512]).unwrap();
    let pattern = Seg::from_static(&ZEROS).slice(0, 512);
    let ops = [
        Op::Write { at: 0, data, fua: false },
        Op::WriteSame { at: 0, len: 4096, pattern, fua: false },
        Op::Unmap { at: 0, len: 4096 },
        Op::Anchor { at: 0, len: 4096 },
    ];
    for op in ops {
        assert_eq!(copy.failure(op), ErrorKind::ReadOnly);
    }
    copy.finish(Op::Flush);
    assert_eq!(copy.bytes(0, 512), [0; 512]);
}
