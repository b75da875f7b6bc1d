// SPDX-License-Identifier: GPL-2.0-or-later
//! The power goes between any two steps of a replacement, and a process dies at any moment: what was kept is there.

use std::time::{Duration, Instant};

use super::*;
use crate::scsi::primary::{INFORMATION_RECORD, InitiatorData, MODE_RECORD, ModePage, ModeUnit, ModeValues};
use crate::scsi::reservations::{Out, RECORD_NAME, Reservations};
use crate::scsi::{Nexus, PortName, TargetPort};

/// A file system that loses what is not on stable storage.
#[derive(Clone, Default)]
struct Model {
    /// What every process sees.
    names: BTreeMap<String, usize>,
    files: Vec<File>,
    /// What the medium has.
    stable_names: BTreeMap<String, usize>,
    /// Steps until the power goes.
    left: usize,
}

#[derive(Clone, Default)]
struct File {
    bytes: Vec<u8>,
    stable: bool,
}

impl Model {
    fn step(&mut self) -> io::Result<()> {
        self.left = self.left.checked_sub(1).ok_or(ErrorKind::BrokenPipe)?;
        Ok(())
    }

    /// All directories that may be found when the power comes back: names as they were last brought to stable storage
    /// or as they are now, file contents that were not brought there whole, cut off at any byte, or with zeros from
    /// there.
    fn after_power_loss(&self) -> Vec<BTreeMap<String, Vec<u8>>> {
        let mut found = Vec::new();
        let longest = self.files.iter().map(|file| file.bytes.len()).max().unwrap_or(0);
        for names in [&self.stable_names, &self.names] {
            for (cut, zeros) in (0..=longest).flat_map(|cut| [(cut, false), (cut, true)]) {
                let content = |&file: &usize| {
                    let File { bytes, stable } = &self.files[file];
                    let mut content = bytes.clone();
                    if !stable {
                        content.truncate(cut);
                        content.resize(if zeros { bytes.len() } else { content.len() }, 0);
                    }
                    content
                };
                found.push(names.iter().map(|(name, file)| (name.clone(), content(file))).collect());
            }
        }
        found
    }
}

impl Folder for Model {
    fn write(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        // A file that is emptied and not yet written, first.
        self.files.push(File::default());
        self.names.insert(name.into(), self.files.len() - 1);
        self.step()?;
        self.files.last_mut().unwrap().bytes = bytes.into();
        self.step()
    }

    fn sync(&mut self, name: &str) -> io::Result<()> {
        self.step()?;
        self.files[self.names[name]].stable = true;
        Ok(())
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        self.step()?;
        let file = self.names.remove(from).unwrap();
        self.names.insert(to.into(), file);
        Ok(())
    }

    fn sync_names(&mut self) -> io::Result<()> {
        self.step()?;
        self.stable_names = self.names.clone();
        Ok(())
    }
}

#[test]
fn the_power_goes_at_any_step() {
    let states: Vec<Vec<u8>> = (1..=4).map(|n| vec![n; usize::from(n) * 100]).collect();
    for cut in 0..=states.len() * 5 {
        let mut model = Model { left: cut, ..Model::default() };
        let kept = states.iter().take_while(|state| replace(&mut model, "r", state).is_ok()).count();
        for folder in model.after_power_loss() {
            let found = folder.get("r").map(|file| unwrap(file).expect("whole").to_vec());
            let allowed = [kept.checked_sub(1), Some(kept)].map(|n| n.and_then(|n| states.get(n)));
            assert!(
                allowed.contains(&found.as_ref()),
                "after {cut} steps {kept} states were kept, and {:?} is found",
                found.map(|bytes| bytes.len())
            );
        }
    }
}

/// The same for what disks keep: after each cut mode pages, reservations and identifying information are those that
/// were acknowledged last, or those that were on their way.
#[test]
fn the_power_goes_while_disks_keep_their_records() {
    const PAGES: [ModePage; 2] = [
        ModePage { code: 0x08, subpage: 0, default: &[4, 0], changeable: &[4, 0] },
        ModePage { code: 0x1c, subpage: 2, default: &[0; 20], changeable: &[0xff; 20] },
    ];
    struct Unit;
    impl ModeUnit for Unit {
        fn device_specific(&self) -> u8 {
            0
        }
        fn blocks(&self) -> Option<(u64, u32)> {
            None
        }
    }
    let port = Arc::new(TargetPort::iscsi(1, "iqn.2026-11.test:t", 1));
    let nexus =
        |n| Nexus { initiator: PortName::iscsi_initiator("iqn.2026-11.test:i", [n; 6]), port: port.clone() };
    let (mut values, mut table) = (ModeValues::new(&PAGES), Reservations::default());
    let mut initiator_data = InitiatorData::new(0);
    // Five states of each: a page that changes, one more registrant, and longer information.
    let mut records: Vec<[Record; 3]> = Vec::new();
    for n in 1..=5_u8 {
        let mut select = [0; 16];
        select[..5].copy_from_slice(&[0x15, 0x11, 0, 0, 28]);
        let list = [&[0, 0, 0, 0, 0x5c, 2, 0, 20][..], &[n; 20]].concat();
        let modes = values.record(&select, &list, &Unit).unwrap();
        values.kept(&modes);
        let mut out = [0; 24];
        (out[15], out[20]) = (n, 1);
        let register = Out::parse(&[0x5f, 0, 0, 0, 0, 0, 0, 0, 24, 0, 0, 0, 0, 0, 0, 0], &out).unwrap();
        table = table.apply(&nexus(n), &register, std::slice::from_ref(&port)).unwrap().0;
        let reservations = Record { name: RECORD_NAME, generation: n.into(), bytes: table.to_record() };
        initiator_data.set_information(&[0; 16], &vec![n; 100 * usize::from(n)]).unwrap();
        records.push([modes, reservations, initiator_data.record()]);
    }
    let mut directories = 0;
    for cut in 0..=15 * records.len() {
        let mut model = Model { left: cut, ..Model::default() };
        let mut kept = [0; 3];
        'power: for states in &records {
            for (which, record) in states.iter().enumerate() {
                if replace(&mut model, record.name, &record.bytes).is_err() {
                    break 'power;
                }
                kept[which] += 1;
            }
        }
        for folder in model.after_power_loss() {
            directories += 1;
            let found = |name| folder.get(name).map(|file| unwrap(file).expect("whole"));
            let mut after = ModeValues::new(&PAGES);
            found(MODE_RECORD).map_or(Ok(()), |record| after.load(record)).unwrap();
            let pages = usize::from(after.current(0x1c, 2)[0]);
            assert_eq!(after.current(0x1c, 2), [pages as u8; 20], "no half page");
            let table = found(RECORD_NAME)
                .map(|record| Reservations::from_record(record, std::slice::from_ref(&port)).unwrap());
            let registered = table.map_or(0, |table| table.registrations().len());
            let mut initiator_data = InitiatorData::new(0);
            found(INFORMATION_RECORD).map_or(Ok(()), |record| initiator_data.load(record)).unwrap();
            let (information, _) = initiator_data.report_information(&[0; 16]).unwrap();
            let information = &information.as_bytes()[4..];
            let informed = information.len() / 100;
            assert_eq!(information, vec![informed as u8; 100 * informed], "no half information");
            for (kept, found) in kept.into_iter().zip([pages, registered, informed]) {
                assert!(found == kept || found == kept + 1, "after {cut} steps {kept} kept, {found} found");
            }
        }
    }
    assert!(directories > 10_000, "only {directories} directories were looked at");
}

#[test]
fn damage_is_known() {
    let mut model = Model { left: usize::MAX, ..Model::default() };
    replace(&mut model, "r", b"state").unwrap();
    let file = model.files.last().unwrap().bytes.clone();
    assert_eq!(unwrap(&file).unwrap(), b"state");
    for at in 0..file.len() {
        assert!(unwrap(&file[..at]).is_err());
        let mut damaged = file.clone();
        damaged[at] ^= 1;
        assert!(unwrap(&damaged).is_err());
    }
}

/// A directory of its own, removed at the end.
struct Temporary(PathBuf);

impl Temporary {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("ptgt-records-{name}-{}", std::process::id()));
        _ = fs::remove_dir_all(&path);
        Self(path)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        _ = fs::remove_dir_all(&self.0);
    }
}

fn record(generation: u64, bytes: &[u8]) -> Record {
    Record { name: "state", generation, bytes: bytes.into() }
}

fn answers(record_store: &mut dyn RecordStore, count: usize) -> Vec<(Tag, Result<(), Error>)> {
    let (mut done, mut scratch) = (Vec::new(), Vec::new());
    let end = Instant::now() + Duration::from_secs(20);
    while done.len() < count {
        assert!(Instant::now() < end, "no answer");
        crate::sys::wait_readable(
            &[record_store.wake_fd().unwrap()],
            &mut scratch,
            Some(Duration::from_secs(1)),
        );
        record_store.poll(&mut done);
    }
    done
}

#[test]
fn what_is_kept_is_found_again() {
    let folder = Temporary::new("kept");
    {
        let records = Records::new(&folder.0.join("a/b"));
        let (one, two) = (records.slot("one").unwrap(), records.slot("two").unwrap());
        assert_eq!(records.load(one, "state").unwrap(), None);
        assert!(!folder.0.exists(), "nothing is made for nothing");
        let (mut record_store, mut other) = (records.store().unwrap(), records.store().unwrap());
        record_store.persist(Tag(1), one, record(1, b"old"));
        record_store.persist(Tag(2), one, record(3, b"new"));
        other.persist(Tag(3), one, record(2, b"late"));
        let mut tags: Vec<_> = answers(&mut *record_store, 2).iter().map(|(tag, r)| (tag.0, *r)).collect();
        tags.sort_by_key(|(tag, _)| *tag);
        assert_eq!(tags, [(1, Ok(())), (2, Ok(()))]);
        assert_eq!(answers(&mut *other, 1), [(Tag(3), Ok(()))]);
        assert_eq!(records.load(one, "state").unwrap().unwrap(), b"new");
        assert_eq!(records.load(two, "state").unwrap(), None);
        let rival = Records::new(&folder.0.join("a/b"));
        let error = rival.slot("one").unwrap_err().to_string();
        assert!(error.contains("another daemon"), "{error}");
    }
    let records = Records::new(&folder.0.join("a/b"));
    // The thread of the first one may still hold it for a moment.
    let one = (0..200).find_map(|_| {
        records.slot("one").ok().or_else(|| {
            std::thread::sleep(Duration::from_millis(10));
            None
        })
    });
    let one = one.unwrap();
    assert_eq!(records.load(one, "state").unwrap().unwrap(), b"new");
    fs::write(folder.0.join("a/b/one/state"), b"nonsense").unwrap();
    let error = records.load(one, "state").unwrap_err().to_string();
    assert!(error.contains("a/b/one/state: not a record"), "{error}");
}

#[test]
fn units_come_and_go_while_a_core_has_its_handle() {
    let folder = Temporary::new("units");
    let records = Records::new(&folder.0);
    let mut record_store = records.store().unwrap();
    let one = records.slot("one").unwrap();
    record_store.persist(Tag(1), one, record(9, b"first"));
    assert_eq!(answers(&mut *record_store, 1), [(Tag(1), Ok(()))]);
    let rival = Records::new(&folder.0);
    assert!(rival.slot("one").is_err());
    records.release(one);
    let theirs = rival.slot("one").unwrap();
    assert!(records.slot("one").is_err(), "it is another daemon's now");
    rival.release(theirs);
    assert_eq!(records.slot("one").unwrap(), one);
    assert_eq!(records.load(one, "state").unwrap().unwrap(), b"first");
    // It is a new unit, which counts its changes from the beginning.
    record_store.persist(Tag(2), one, record(1, b"second"));
    assert_eq!(answers(&mut *record_store, 1), [(Tag(2), Ok(()))]);
    assert_eq!(records.load(one, "state").unwrap().unwrap(), b"second");
}

/// A unit takes the place of another, and counts its changes from the beginning: nothing that it keeps is taken for
/// old.
#[test]
fn two_units_have_the_records_of_one_name_for_a_while() {
    let folder = Temporary::new("twins");
    let records = Records::new(&folder.0);
    let mut record_store = records.store().unwrap();
    let one = records.slot("one").unwrap();
    record_store.persist(Tag(1), one, record(9, b"first"));
    assert_eq!(answers(&mut *record_store, 1), [(Tag(1), Ok(()))]);
    let next = records.slot("one").unwrap();
    assert_ne!(next, one);
    assert_eq!(records.load(next, "state").unwrap().unwrap(), b"first");
    record_store.persist(Tag(2), next, record(1, b"second"));
    assert_eq!(answers(&mut *record_store, 1), [(Tag(2), Ok(()))]);
    records.release(one);
    assert_eq!(records.load(next, "state").unwrap().unwrap(), b"second");
    let rival = Records::new(&folder.0);
    assert!(rival.slot("one").is_err(), "the other still has them");
    assert_eq!(records.slot("one").unwrap(), one, "it is free again");
    [one, next].into_iter().for_each(|slot| records.release(slot));
    rival.slot("one").unwrap();
}

#[test]
fn what_cannot_be_kept_is_told() {
    let folder = Temporary::new("refused");
    fs::write(&folder.0, b"a file where the directory is to be").unwrap();
    let records = Records::new(&folder.0);
    let mut record_store = {
        // The slot itself cannot be examined.
        assert!(records.slot("one").is_err());
        fs::remove_file(&folder.0).unwrap();
        let slot = records.slot("one").unwrap();
        fs::write(&folder.0, b"back again").unwrap();
        let mut record_store = records.store().unwrap();
        record_store.persist(Tag(7), slot, record(1, b"x"));
        record_store
    };
    let answer = answers(&mut *record_store, 1);
    assert!(matches!(answer[..], [(Tag(7), Err(_))]));
    fs::remove_file(&folder.0).unwrap();
    record_store.persist(Tag(8), RecordSlot(0), record(1, b"x"));
    assert_eq!(answers(&mut *record_store, 1), [(Tag(8), Ok(()))], "the same record, once there is room");
    record_store.persist(Tag(9), RecordSlot(0), record(2, &vec![0; RECORD_MAX + 1]));
    assert!(matches!(answers(&mut *record_store, 1)[..], [(Tag(9), Err(_))]));
}

/// Environment of the process that is killed: the directory.
const VICTIM: &str = "PTGT_TEST_RECORDS";

/// Not a test by itself: what the process does that is killed. It tells each state once it is kept.
#[test]
fn victim() {
    let Some(folder) = std::env::var_os(VICTIM) else { return };
    let records = Records::new(Path::new(&folder));
    let slot = records.slot("unit").unwrap();
    let mut record_store = records.store().unwrap();
    for n in 1..u64::MAX {
        let bytes = n.to_be_bytes().repeat(500);
        record_store.persist(Tag(0), slot, record(n, &bytes));
        assert_eq!(answers(&mut *record_store, 1), [(Tag(0), Ok(()))]);
        fs::write(Path::new(&folder).join("told"), n.to_string()).unwrap();
    }
}

#[test]
fn a_killed_process_loses_nothing() {
    let folder = Temporary::new("killed");
    fs::create_dir_all(&folder.0).unwrap();
    let told = folder.0.join("told");
    for round in 0..10 {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "stores::records::tests::victim", "--quiet"])
            .env(VICTIM, &folder.0)
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        _ = fs::remove_file(&told);
        let end = Instant::now() + Duration::from_secs(20);
        while !told.exists() {
            assert!(Instant::now() < end, "the process keeps nothing");
            std::thread::sleep(Duration::from_millis(2));
        }
        std::thread::sleep(Duration::from_millis(7 * round));
        child.kill().unwrap();
        child.wait().unwrap();
        let known: u64 = fs::read_to_string(&told).unwrap().parse().unwrap_or(0);
        let records = Records::new(&folder.0);
        let slot = records.slot("unit").unwrap();
        let bytes = records.load(slot, "state").unwrap().unwrap();
        let found = u64::from_be_bytes(bytes[..8].try_into().unwrap());
        assert_eq!(bytes, found.to_be_bytes().repeat(500), "no half state");
        assert!(found >= known, "state {known} was kept, {found} is found");
        drop(records);
        std::thread::sleep(Duration::from_millis(20));
    }
}
