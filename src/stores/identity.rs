// SPDX-License-Identifier: GPL-2.0-or-later
//! The identity of a disk for initiators: drawn once, and kept.
//!
//! The UUID of an image stands in a small file beside it (`IMAGE.ptgt`) and, by the image's path, in the state
//! directory (`images/`); that of a block device in the state directory alone, under its persistent name. The file
//! beside the image is believed first, so that an image keeps its identity when it moves together with that file.
//! Nothing here changes anything but [`IdentityRecord::keep`].

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write as _};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::file::{ImageRefusal, directory, trial};
use super::records::make_directory;
use crate::sys;
use crate::wire::Uuid;

/// What the name of the file beside an image ends with.
const SUFFIX: &str = ".ptgt";

/// The directory of the state directory for them.
const DIRECTORY: &str = "images";

/// Longest record, in bytes.
const RECORD_MAX: u64 = 4096;

/// Longest name of a record in the state directory that still tells the path.
const NAME_MAX: usize = 200;

/// Where udev keeps names of block devices that last.
const PERSISTENT_NAMES: &str = "/dev/disk/by-id";

/// Beginnings of such names, the one that says most about the bytes first. What is behind the last is a name by which
/// the drive goes on this bus.
const NAME_RANKS: &[&str] =
    &["dm-uuid-", "lvm-pv-uuid-", "md-uuid-", "wwn-", "nvme-eui.", "nvme-uuid.", "nvme-", "scsi-"];

/// Where an identity came from before it was kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IdentityOrigin {
    /// It was drawn at random.
    Random,
    /// It was made from the name of the disk, as all were once: a disk of that name on another machine has the same.
    Name,
}

/// What is kept of the identity of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdentityRecord {
    /// The identity.
    pub uuid: Uuid,
    /// Where it came from.
    pub from: IdentityOrigin,
}

/// Which bytes a path leads to, however it is spelled.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ImagePlace {
    /// A file: its file system and its number there.
    File(u64, u64),
    /// A block device.
    Device(u64),
    /// Nothing yet.
    Path(PathBuf),
}

impl ImagePlace {
    /// Where a path leads.
    pub fn of(path: &Path) -> Self {
        match fs::metadata(path) {
            Ok(meta) if meta.file_type().is_block_device() => Self::Device(meta.rdev()),
            Ok(meta) => Self::File(meta.dev(), meta.ino()),
            Err(_) => Self::Path(future_path(path).unwrap_or_else(|_| path.to_owned())),
        }
    }
}

/// Where the records of an image are.
struct Places {
    beside: Option<PathBuf>,
    state: Option<PathBuf>,
}

impl Places {
    fn of(image: &Path, state: &Path) -> Result<Self, ImageRefusal> {
        let fail = |e: io::Error| forbidden(&format!("{} cannot be examined", image.display()), &e);
        let (image, device) = match fs::metadata(image) {
            Ok(meta) => {
                let device = meta.file_type().is_block_device().then(|| meta.rdev());
                (fs::canonicalize(image).map_err(fail)?, device)
            }
            Err(e) if e.kind() == ErrorKind::NotFound => (future_path(image).map_err(fail)?, None),
            Err(e) => return Err(fail(e)),
        };
        let state = state.join(DIRECTORY);
        if let Some(device) = device {
            let name = persistent_name(device, Path::new(PERSISTENT_NAMES));
            return Ok(Self {
                beside: None,
                state: name.map(|name| state.join(record_name(name.as_bytes()))),
            });
        }
        let mut beside = image.clone().into_os_string();
        beside.push(SUFFIX);
        let state = state.join(record_name(image.as_os_str().as_bytes()));
        Ok(Self { beside: Some(beside.into()), state: Some(state) })
    }

    fn all(&self) -> impl Iterator<Item = &PathBuf> {
        self.beside.iter().chain(&self.state)
    }
}

/// The path of a file that is not there yet, without links and dots as far as its directories are there.
fn future_path(image: &Path) -> io::Result<PathBuf> {
    let image = std::path::absolute(image)?;
    let mut above = image.ancestors();
    let known = above.find_map(|above| Some((above, fs::canonicalize(above).ok()?)));
    let Some((above, real)) = known else { return Ok(image) };
    Ok(image.strip_prefix(above).map_or_else(|_| image.clone(), |rest| real.join(rest)))
}

/// The name by which a block device is known after a restart, too.
fn persistent_name(device: u64, names: &Path) -> Option<String> {
    let entries = fs::read_dir(names).ok()?;
    let same = |entry: &fs::DirEntry| fs::metadata(entry.path()).is_ok_and(|meta| meta.rdev() == device);
    let found = entries.filter_map(Result::ok).filter(same);
    let rank = |name: &String| NAME_RANKS.iter().position(|start| name.starts_with(start));
    let ranked = found.filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        Some((rank(&name).unwrap_or(NAME_RANKS.len()), name))
    });
    ranked.min().map(|(_, name)| name)
}

/// The file name of a record in the state directory: the path or name itself, as far as that can be.
fn record_name(of: &[u8]) -> String {
    let mut name = String::new();
    for &byte in of {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => name.push(char::from(byte)),
            _ => _ = write!(name, "%{byte:02x}"),
        }
    }
    if name.len() <= NAME_MAX {
        return name;
    }
    Sha256::digest(of).iter().fold("path-".to_owned(), |mut name, byte| {
        _ = write!(name, "{byte:02x}");
        name
    })
}

impl IdentityRecord {
    /// A new identity: a UUID of version 4 (RFC 9562 5.4).
    pub fn draw() -> Result<Self, ImageRefusal> {
        let mut bytes = [0; 16];
        sys::random(&mut bytes).map_err(|e| {
            let refusal = ImageRefusal::new(
                "uuid",
                format!("the kernel gives no random bytes: {e}"),
                "give the disk a `uuid`",
            );
            ImageRefusal { certain: false, ..refusal }
        })?;
        Ok(Self { uuid: Uuid::new(4, bytes), from: IdentityOrigin::Random })
    }

    /// What is kept of an image, which need not be there.
    pub fn find(image: &Path, state: &Path) -> Result<Option<Self>, ImageRefusal> {
        for path in Places::of(image, state)?.all() {
            match read(path) {
                Ok(Some(text)) => {
                    return toml::from_str(&text).map(Some).map_err(|e| unusable(path, e.message()));
                }
                Ok(None) => {}
                Err(e) if e.kind() == ErrorKind::InvalidData => return Err(unusable(path, "no short text")),
                Err(e) => return Err(forbidden(&format!("{} cannot be read", path.display()), &e)),
            }
        }
        Ok(None)
    }

    /// Whether it can be kept, as far as that can be seen without changing anything; `false` for a block device that
    /// has no name to be kept by.
    pub fn can_be_kept(&self, image: &Path, state: &Path) -> Result<bool, ImageRefusal> {
        let places = Places::of(image, state)?;
        let mut refused = None;
        for path in places.all() {
            match trial(directory(path)) {
                Ok(_) => return Ok(true),
                Err(e) => refused = refused.or(Some((path, e))),
            }
        }
        let Some((path, e)) = refused else { return Ok(false) };
        let what = "its identity cannot be kept, neither in the state directory nor as";
        let help = format!(
            "give the disk a `uuid`, such as \"{}\", or a `state_dir` that the daemon may write to",
            self.uuid
        );
        Err(ImageRefusal { help, ..ImageRefusal::by_kernel(&format!("{what} {}", path.display()), &e) })
    }

    /// Keeps it, in the state directory and beside the image, on stable storage; one of them is enough. Waits for the
    /// disk.
    pub fn keep(&self, image: &Path, state: &Path) -> io::Result<()> {
        let Places { beside, state } = Places::of(image, state)?;
        let text = self.text(image);
        let named = |path: &Path, e: &io::Error| io::Error::new(e.kind(), format!("{}: {e}", path.display()));
        let in_state = state.map(|path| {
            let made = path.parent().map_or(Ok(()), make_directory);
            made.and_then(|()| write(&path, &text, true)).map_err(|e| named(&path, &e))
        });
        // What is there is not replaced: it is this identity, or it was somebody else's file a moment ago.
        let beside = beside.map(|path| match path.symlink_metadata() {
            Ok(_) => Ok(()),
            Err(_) => write(&path, &text, false).map_err(|e| named(&path, &e)),
        });
        let outcomes: Vec<io::Result<()>> = in_state.into_iter().chain(beside).collect();
        match outcomes.iter().any(Result::is_ok) {
            true => Ok(()),
            false => outcomes.into_iter().collect(),
        }
    }

    fn text(&self, image: &Path) -> String {
        let about = "# The identity of a disk of ptgt, as initiators know it. It goes with the image that it stands beside; a\n\
                     # copy that is served beside the original needs one of its own: remove this file from the copy.\n";
        let values = toml::to_string(self).expect("a record is two strings");
        format!("{about}# {}\n{values}", image.display().to_string().escape_debug())
    }
}

/// The identity of a disk without an image: this machine's disk of that name, if the machine has a name.
pub fn identity_here(disk: &str) -> Option<Uuid> {
    identity_on(&fs::read_to_string("/etc/machine-id").ok()?, disk)
}

/// A UUID of version 8 (RFC 9562 5.8). The machine's id is secret, as machine-id(5) wants it.
fn identity_on(machine: &str, disk: &str) -> Option<Uuid> {
    let machine = machine.trim();
    if machine.len() != 32 || !machine.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let digest =
        Sha256::new().chain_update("ptgt disk\0").chain_update(machine).chain_update(disk).finalize();
    let (half, _) = digest.split_first_chunk().expect("SHA-256 has 32 bytes");
    Some(Uuid::new(8, *half))
}

/// A short text file; `None` if there is none. Nothing that would make the daemon wait is opened.
fn read(path: &Path) -> io::Result<Option<String>> {
    let opened = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path);
    let file = match opened {
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
        opened => opened?,
    };
    let mut text = String::new();
    if !file.metadata()?.is_file()
        || file.take(RECORD_MAX + 1).read_to_string(&mut text)? > RECORD_MAX as usize
    {
        return Err(ErrorKind::InvalidData.into());
    }
    Ok(Some(text))
}

/// Makes a file with a text, on stable storage: after a loss of power, all of it is there or nothing. `replace`: in
/// place of one that is there. In directories of others no name is followed or taken that is there already.
fn write(path: &Path, text: &str, replace: bool) -> io::Result<()> {
    if read(path)?.is_some_and(|old| old == text) {
        return Ok(());
    }
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(ErrorKind::InvalidFilename.into());
    };
    let mut unique = [0; 4];
    sys::random(&mut unique)?;
    let mut new = OsString::from(".");
    new.push(name);
    new.push(format!(".{:08x}", u32::from_be_bytes(unique)));
    let new = directory.join(new);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    let mut put = || {
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        if replace { fs::rename(&new, path) } else { fs::hard_link(&new, path) }
    };
    let done = put();
    if !replace || done.is_err() {
        _ = fs::remove_file(&new);
    }
    done.and_then(|()| File::open(directory)?.sync_all())
}

/// What the kernel has refused, and what helps whatever that is about.
fn forbidden(what: &str, e: &io::Error) -> ImageRefusal {
    let help = "the daemon's user needs permission for it, or give a `uuid`".into();
    ImageRefusal { help, ..ImageRefusal::by_kernel(what, e) }
}

fn unusable(path: &Path, why: &str) -> ImageRefusal {
    ImageRefusal::new(
        "path",
        format!("{} is not the record of an identity: {why}", path.display()),
        "restore it from a backup, or give the `uuid` that initiators know and remove it",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory with an image in it, and a state directory.
    struct ImageDirectory {
        root: PathBuf,
        state: PathBuf,
    }

    impl ImageDirectory {
        fn new(name: &str) -> Self {
            let root = std::env::temp_dir().join(format!("ptgt-identity-{name}-{}", std::process::id()));
            _ = fs::remove_dir_all(&root);
            fs::create_dir_all(root.join("disks")).unwrap();
            let root = fs::canonicalize(root).unwrap();
            let state = root.join("state");
            let rig = Self { root, state };
            fs::write(rig.image("a.img"), [0; 512]).unwrap();
            rig
        }

        fn image(&self, name: &str) -> PathBuf {
            self.root.join("disks").join(name)
        }

        fn find(&self, image: &Path) -> Result<Option<IdentityRecord>, ImageRefusal> {
            IdentityRecord::find(image, &self.state)
        }

        fn files(&self, directory: &str) -> Vec<String> {
            let entries = fs::read_dir(self.root.join(directory)).unwrap();
            let mut names: Vec<String> =
                entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        }
    }

    impl Drop for ImageDirectory {
        fn drop(&mut self) {
            _ = fs::remove_dir_all(&self.root);
        }
    }

    #[test]
    fn an_identity_is_kept_beside_its_image_and_in_the_state_directory() {
        let rig = ImageDirectory::new("kept");
        let image = rig.image("a.img");
        assert_eq!(rig.find(&image), Ok(None));
        let drawn = IdentityRecord::draw().unwrap();
        assert_ne!(drawn, IdentityRecord::draw().unwrap());
        drawn.keep(&image, &rig.state).unwrap();
        assert_eq!(rig.files("disks"), ["a.img", "a.img.ptgt"], "and nothing else is left");
        assert_eq!(rig.files("state/images").len(), 1);
        assert_eq!(rig.find(&image), Ok(Some(drawn.clone())));
        // Either of them is enough, and a second keeping brings both back.
        for lost in
            [rig.image("a.img.ptgt"), rig.state.join("images").join(rig.files("state/images").remove(0))]
        {
            fs::remove_file(lost).unwrap();
            assert_eq!(rig.find(&image), Ok(Some(drawn.clone())));
            drawn.keep(&image, &rig.state).unwrap();
            assert_eq!((rig.files("disks").len(), rig.files("state/images").len()), (2, 1));
        }
    }

    #[test]
    fn an_identity_moves_with_its_image_and_is_found_by_every_spelling() {
        let rig = ImageDirectory::new("moved");
        let drawn = IdentityRecord::draw().unwrap();
        drawn.keep(&rig.image("a.img"), &rig.state).unwrap();
        std::os::unix::fs::symlink("disks", rig.root.join("link")).unwrap();
        for spelling in ["disks/../disks/a.img", "link/a.img", "disks/./a.img"] {
            assert_eq!(rig.find(&rig.root.join(spelling)), Ok(Some(drawn.clone())), "{spelling}");
        }
        for (from, to) in [("a.img", "b.img"), ("a.img.ptgt", "b.img.ptgt")] {
            fs::rename(rig.image(from), rig.image(to)).unwrap();
        }
        assert_eq!(rig.find(&rig.image("b.img")), Ok(Some(drawn.clone())));
        // What is missing is known by its path still: an image of another identity is not made there.
        assert_eq!(rig.find(&rig.root.join("link/a.img")), Ok(Some(drawn)));
        assert_eq!(rig.find(&rig.image("never.img")), Ok(None));
        assert_eq!(rig.find(&rig.root.join("no/such/directory/c.img")), Ok(None));
    }

    #[test]
    fn files_of_others_are_refused_and_left_alone() {
        let rig = ImageDirectory::new("others");
        let image = rig.image("a.img");
        let uuid = "123e4567-e89b-12d3-a456-426614174000";
        let long = "#".repeat(RECORD_MAX as usize + 1);
        for text in [
            "",
            "a letter",
            long.as_str(),
            "uuid = 5\nfrom = \"name\"\n",
            "uuid = \"123E4567-E89B-12D3-A456-426614174000\"\nfrom = \"name\"\n",
            "uuid = \"123e4567e89b12d3a456426614174000----\"\nfrom = \"name\"\n",
            &format!("uuid = \"{uuid}\"\nfrom = \"elsewhere\"\n"),
            &format!("uuid = \"{uuid}\"\nfrom = \"name\"\nmore = 1\n"),
        ] {
            fs::write(rig.image("a.img.ptgt"), text).unwrap();
            let refusal = rig.find(&image).unwrap_err();
            assert!(refusal.certain && refusal.message.contains("a.img.ptgt"), "{refusal:?}");
            IdentityRecord::draw().unwrap().keep(&image, &rig.state).unwrap();
            assert_eq!(fs::read_to_string(rig.image("a.img.ptgt")).unwrap(), text);
        }
        fs::remove_file(rig.image("a.img.ptgt")).unwrap();
        fs::create_dir(rig.image("a.img.ptgt")).unwrap();
        assert!(rig.find(&image).is_err());
        fs::remove_dir(rig.image("a.img.ptgt")).unwrap();
        let good = format!("uuid = \"{uuid}\"\nfrom = \"name\"\n");
        fs::write(rig.image("a.img.ptgt"), good).unwrap();
        let record = IdentityRecord { uuid: uuid.parse().unwrap(), from: IdentityOrigin::Name };
        assert_eq!(rig.find(&image), Ok(Some(record)));
    }

    #[test]
    fn what_cannot_be_kept_anywhere_is_an_error() {
        let rig = ImageDirectory::new("nowhere");
        let drawn = IdentityRecord::draw().unwrap();
        // A file in place of a directory stops root, too.
        fs::write(&rig.state, "").unwrap();
        drawn.keep(&rig.image("a.img"), &rig.state).unwrap();
        assert_eq!(rig.find(&rig.image("a.img")), Ok(Some(drawn.clone())), "beside the image is enough");
        let nowhere = rig.root.join("disks/a.img/b.img");
        assert!(drawn.keep(&nowhere, &rig.state).is_err());
    }

    #[test]
    fn a_block_device_goes_by_the_name_that_says_most() {
        let rig = ImageDirectory::new("names");
        let names = rig.root.join("by-id");
        fs::create_dir(&names).unwrap();
        let null = fs::metadata("/dev/null").unwrap().rdev();
        for (name, target) in [
            ("ata-QEMU", "/dev/null"),
            ("scsi-0QEMU", "/dev/null"),
            ("wwn-0x5000", "/dev/null"),
            ("wwn-0x4000", "/dev/zero"),
            ("dm-uuid-gone", "/dev/no-such-device"),
        ] {
            std::os::unix::fs::symlink(target, names.join(name)).unwrap();
        }
        assert_eq!(persistent_name(null, &names).as_deref(), Some("wwn-0x5000"));
        assert_eq!(persistent_name(null + 99, &names), None);
        assert_eq!(persistent_name(null, &rig.root.join("none")), None);
    }

    #[test]
    fn names_of_records_are_names_of_files_and_differ() {
        let mut names = std::collections::BTreeSet::new();
        let long = "/d".repeat(400);
        for path in ["a/b", "a%2fb", "a_b", "a b", "\u{e9}", &long, &format!("{long}x")] {
            let name = record_name(path.as_bytes());
            assert!(name.len() <= NAME_MAX && !name.contains('/') && !name.starts_with('.'), "{name}");
            assert!(names.insert(name), "{path}");
        }
    }

    #[test]
    fn disks_without_an_image_are_this_machines() {
        let machine = "0123456789abcdef0123456789abcdef\n";
        let found = identity_on(machine, "ram0").unwrap();
        assert_eq!(found.to_string(), "e0709f6f-c9d0-8b34-9b51-2fd5eb417c62", "initiators rely on it");
        assert_ne!(identity_on(machine, "ram1").unwrap(), found);
        assert_ne!(identity_on("1123456789abcdef0123456789abcdef", "ram0").unwrap(), found);
        assert_eq!(identity_on("uninitialized\n", "ram0"), None);
    }
}
