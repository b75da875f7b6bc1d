// SPDX-License-Identifier: GPL-2.0-or-later
//! Cartridges that somebody else than an initiator takes out and puts in.

use super::*;
use crate::scsi::primary::{LogicalUnit, MediumPresence};

impl TapeRig {
    /// Takes the cartridge out, by force or not. Returns whether the drive has let it go.
    fn take_out(&mut self, force: bool) -> bool {
        let command = Self::command(&[0; 6], 0, 0);
        let mut step = self.in_context(|server, cx| server.release_medium(TASK, &command, force, cx));
        loop {
            let op = match step {
                Step::Store(op) => op,
                Step::ReleaseMedium { stays: true } => return false,
                Step::ReleaseMedium { stays: false } => break,
                other => panic!("{other:?}"),
            };
            let done = self.store(op);
            step = self.call(&command, Some(Resume::Stored(done)));
        }
        self.server.medium_gone();
        true
    }

    /// Puts another one in, with what a scan finds, or without.
    fn put_in(&mut self, bytes: Vec<u8>, scans: bool) {
        let unit = self.server.unit().clone();
        let mut read = |at: u64, len: u32| {
            let at = usize::try_from(at).unwrap();
            scans.then(|| bytes[at..at + len as usize].to_vec())
        };
        LogicalUnit::scan(&*unit, bytes.len() as u64, &mut read);
        self.bytes = bytes;
        self.server.medium_come();
    }

    fn presence(&self, presence: MediumPresence) {
        LogicalUnit::set_presence(&**self.server.unit(), presence);
    }
}

const READY: [u8; 6] = [0; 6];
const LOAD: [u8; 6] = [0x1b, 0, 0, 0, 1, 0];
const UNLOAD: [u8; 6] = [0x1b, 0, 0, 0, 0, 0];

#[test]
fn a_drive_without_a_cartridge_says_so() {
    let mut rig = TapeRig::new();
    for (presence, code) in [
        (MediumPresence::Absent, asc::MEDIUM_NOT_PRESENT),
        (MediumPresence::Coming, asc::LOGICAL_UNIT_IS_IN_PROCESS_OF_BECOMING_READY),
    ] {
        rig.presence(presence);
        for cdb in [&READY[..], &LOAD, &[0x08, 0, 0, 0, 1, 0], &[0x34, 0, 0, 0, 0, 0, 0, 0, 0, 0]] {
            assert_eq!(rig.read(cdb).why(), (key::NOT_READY, code), "{cdb:x?}");
        }
        let sense = rig.read(&[0x03, 0, 0, 0, 252, 0]).good();
        assert_eq!((sense[2], &sense[12..14]), (key::NOT_READY, &code.to_be_bytes()[..]));
        // What needs none, and what finds it as it is to be.
        rig.read(&[0x12, 0, 0, 0, 96, 0]).good();
        rig.none(&UNLOAD).good();
        assert!(rig.ops.is_empty(), "nobody looks for one");
        // Neither a reset nor mode parameters bring one.
        rig.server.reset();
        assert_eq!(rig.none(&READY).why(), (key::NOT_READY, code));
    }
    rig.presence(MediumPresence::Present);
    rig.none(&READY).good();
}

#[test]
fn a_cartridge_takes_with_it_what_was_written() {
    let mut rig = TapeRig::new();
    rig.write_record(&record(1, 50)).good();
    assert!(rig.take_out(false));
    assert!(rig.ops.contains(&"flush".to_owned()));
    let first = rig.bytes.clone();
    rig.put_in(cartridge(1 << 20, CartridgeUse::Data, false), true);
    assert_eq!(rig.position(), (0, 0, 0));
    rig.write_record(&record(2, 60)).good();
    assert!(rig.take_out(false));
    // It is found without a scan, too.
    for scans in [true, false] {
        rig.put_in(first.clone(), scans);
        assert_eq!(rig.read_record(50).good(), record(1, 50));
        assert!(rig.take_out(false));
    }
}

#[test]
fn what_a_scan_finds_is_not_read_again() {
    let mut rig = TapeRig::new();
    assert!(rig.take_out(false));
    rig.put_in(cartridge(1 << 20, CartridgeUse::Data, false), true);
    rig.ops.clear();
    rig.none(&READY).good();
    assert!(rig.ops.is_empty(), "{:?}", rig.ops);
    for (bytes, code) in
        [(vec![0x5a; 1 << 20], asc::UNKNOWN_FORMAT), (vec![0; 4096], asc::MEDIUM_FORMAT_CORRUPTED)]
    {
        assert!(rig.take_out(false));
        rig.put_in(bytes, true);
        assert_eq!(rig.none(&READY).why(), (key::MEDIUM_ERROR, code));
    }
}

#[test]
fn a_cartridge_that_cannot_be_written_goes_by_force_alone() {
    let mut rig = TapeRig::new();
    rig.write_record(&record(1, 50)).good();
    rig.fault = Some(ErrorKind::WriteFailed);
    assert!(!rig.take_out(false));
    rig.fault = None;
    // It is still there.
    rig.none(&READY);
    rig.none(&READY).good();
    rig.none(&[0x01, 0, 0, 0, 0, 0]).good();
    rig.write_record(&record(1, 50)).good();
    rig.fault = Some(ErrorKind::WriteFailed);
    assert!(rig.take_out(true));
    assert_eq!(rig.none(&READY).why(), (key::NOT_READY, asc::MEDIUM_NOT_PRESENT));
}

/// Two empty stores that one drive makes cartridges of are two cartridges.
#[test]
fn each_cartridge_is_another_one() {
    let mut rig = TapeRig::with(vec![0; 8 << 20]);
    let mut identities = Vec::new();
    for _ in 0..3 {
        rig.write_record(&record(1, 50)).good();
        identities.push(rig.server.unit().drive().mounted().unwrap().cartridge().identity);
        assert!(rig.take_out(false));
        rig.put_in(vec![0; 8 << 20], true);
    }
    identities.dedup();
    assert_eq!(identities.len(), 3);
}

#[test]
fn a_cartridge_that_was_in_before_the_start_is_not_written_over_until_the_head_has_been_placed() {
    for (presence, returns) in [(MediumPresence::Returning, true), (MediumPresence::Coming, false)] {
        let mut written = TapeRig::new();
        written.write_record(&record(1, 3000)).good();
        written.none(&UNLOAD).good();
        let mut rig = TapeRig::with(Vec::new());
        rig.presence(MediumPresence::Absent);
        rig.presence(presence);
        // Whoever opens the cartridge says so, too.
        rig.presence(MediumPresence::Coming);
        assert_eq!(rig.none(&READY).why(), (2, asc::LOGICAL_UNIT_IS_IN_PROCESS_OF_BECOMING_READY));
        rig.put_in(written.bytes, true);
        let ended = rig.write_record(&record(2, 100));
        match returns {
            true => assert_eq!(ended.why(), (5, 0x3b00)),
            false => drop(ended.good()),
        }
        rig.rewind();
        rig.write_record(&record(3, 100)).good();
    }
}
