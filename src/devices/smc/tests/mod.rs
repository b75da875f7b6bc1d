// SPDX-License-Identifier: GPL-2.0-or-later
//! The rules of a changer, command by command.

mod moves;
mod personalities;
mod status;

use std::sync::Arc;

use super::changer::{INVENTORY_RECORD, MediaChanger};
use super::elements::{ElementAddresses, Inventory};
use super::personality::PLAIN;
use crate::io::{Geometry, Landing, Record};
use crate::memory::{Arena, Sg};
use crate::scsi::primary::{FurnishedLibrary, Identity, MediaLibrary, PrimaryServer};
use crate::scsi::{
    Cdb, Command, Context, DeviceServer, DriveChange, Expected, Lun, MoveFailure, Nexus, NexusId, Outcome,
    PortName, Resume, Status, Step, TargetPort, TaskAttribute, TaskId, UnitAttentions, UnitState, asc, key,
};
use crate::time::Instant;
use crate::wire::Uuid;

const TASK: TaskId = TaskId(2);
const OTHER: TaskId = TaskId(3);

/// Where they begin: one hand, five slots, two for people, two drives.
const HAND: u16 = 1;
const SLOT: u16 = 0x1000;
const MAIL: u16 = 0x10;
const DRIVE: u16 = 0x100;

struct ChangerRig {
    server: PrimaryServer<MediaChanger>,
    arena: Arena,
    attentions: UnitAttentions,
    /// What was kept last.
    kept: Option<Record>,
    /// Nothing can be kept.
    full: bool,
    drives: ToyDrives,
}

/// What is in the drives.
#[derive(Default)]
struct ToyDrives {
    there: [Option<Arc<str>>; 2],
    /// Why nothing changes.
    failure: Option<MoveFailure>,
}

impl ToyDrives {
    fn take(&mut self, changes: Vec<DriveChange>) -> Result<(), MoveFailure> {
        if let Some(why) = self.failure {
            return Err(why);
        }
        for DriveChange { drive, barcode } in changes {
            assert!(barcode.is_none() || !self.there.contains(&barcode), "in two drives at a time");
            assert_ne!(self.there[drive], barcode, "nothing changes");
            self.there[drive] = barcode;
        }
        Ok(())
    }
}

fn addresses() -> ElementAddresses {
    ElementAddresses::new([HAND, SLOT, MAIL, DRIVE], [1, 5, 2, 2]).expect("apart from each other")
}

fn identity(product: &str, serial: &str) -> Identity {
    Identity::new("PTGT", product, "0001", Some(serial), Uuid::of_name(serial)).unwrap()
}

/// Cartridges that go into the first three slots.
const BARCODES: [&str; 3] = ["A00001L8", "A00002L8", "CLN001L1"];

/// A changer to which that was said at the start.
fn furnished(
    record: Option<&[u8]>,
    barcodes: &[&str],
) -> (MediaChanger, Result<FurnishedLibrary, &'static str>) {
    let drives = ["D-1", "D-2"].map(|serial| identity("VIRTUAL-TAPE", serial));
    let changer = MediaChanger::new(PLAIN, identity("VIRTUAL-CHANGER", "L-1"), None, 1_000_000, addresses());
    let barcodes: Vec<String> = barcodes.iter().map(|barcode| (*barcode).to_owned()).collect();
    let furnished = changer.furnish(record, &barcodes, drives.into());
    (changer, furnished)
}

impl ChangerRig {
    fn new() -> Self {
        let (changer, furnished) = furnished(None, &BARCODES);
        assert_eq!(furnished, Ok(FurnishedLibrary::default()));
        Self {
            server: PrimaryServer::new(Arc::new(changer)),
            arena: Arena::new(64 << 20, false).unwrap(),
            attentions: UnitAttentions::default(),
            kept: None,
            full: false,
            drives: ToyDrives::default(),
        }
    }

    fn command(cdb: &[u8], data_out: u32, data_in: u32) -> Command {
        Command {
            nexus: NexusId::of(1),
            lun: Lun::ZERO,
            cdb: Cdb::new(cdb).expect("1 to 260 bytes"),
            attribute: TaskAttribute::Simple,
            expected: Expected { data_in, data_out },
        }
    }

    fn run(&mut self, cdb: &[u8], out: &[u8], room: u32) -> (Outcome, Vec<u8>) {
        let command = Self::command(cdb, out.len() as u32, room);
        let mut data = Vec::new();
        let mut step = self.call(&command, None);
        loop {
            let answer = match step {
                Step::Finish(mut outcome) => {
                    data.extend(std::mem::take(&mut outcome.data).to_vec());
                    data.truncate(room as usize);
                    return (outcome, data);
                }
                Step::Fetch { len } => {
                    Resume::Fetched(Sg::copied(&self.arena, &out[..len as usize]).unwrap())
                }
                Step::Send(sent) => {
                    data.extend(sent.to_vec());
                    Resume::Sent
                }
                Step::Persist(_) if self.full => {
                    Resume::Persisted(Err(crate::io::Error { kind: crate::io::ErrorKind::NoSpace, at: 0 }))
                }
                Step::Persist(record) => {
                    assert_eq!(record.name, INVENTORY_RECORD);
                    self.kept = Some(record);
                    Resume::Persisted(Ok(()))
                }
                Step::MoveMedia(changes) => {
                    let outcome = self.drives.take(changes);
                    Resume::MediaMoved(outcome)
                }
                other => panic!("{other:?}"),
            };
            step = self.call(&command, Some(answer));
        }
    }

    fn call(&mut self, command: &Command, answer: Option<Resume>) -> Step {
        self.call_as(TASK, command, answer)
    }

    fn call_as(&mut self, task: TaskId, command: &Command, answer: Option<Resume>) -> Step {
        let initiator = PortName::iscsi_initiator("iqn.2026-11.test:i", [0x80, 0, 0, 0, 0, 1]);
        let nexus = Nexus { initiator, port: Arc::new(TargetPort::iscsi(7, "iqn.2026-11.test:t", 2)) };
        let state = UnitState::default();
        let mut cx = Context {
            arena: &self.arena,
            geometry: Geometry { bytes: 0, block: 512, transfer_max: 0, thin: false, read_only: false },
            attentions: &mut self.attentions,
            state: &state,
            nexus: Some(&nexus),
            luns: &[Lun::ZERO],
            landing: &mut |_| Landing::Own,
            lease: None,
            now: Instant::ZERO,
        };
        match answer {
            None => self.server.start(task, command, &mut cx),
            Some(answer) => self.server.resume(task, command, answer, &mut cx),
        }
    }

    #[track_caller]
    fn good(&mut self, cdb: &[u8], out: &[u8], room: u32) -> Vec<u8> {
        let (outcome, data) = self.run(cdb, out, room);
        assert_eq!(outcome.status, Status::Good, "{:?}", outcome.sense);
        data
    }

    /// Sense key and code, and the byte of the CDB that it points at.
    #[track_caller]
    fn why(&mut self, cdb: &[u8], out: &[u8]) -> (u8, u16) {
        let (outcome, _) = self.run(cdb, out, 0);
        assert_eq!(outcome.status, Status::CheckCondition);
        let sense = outcome.sense.expect("CHECK CONDITION comes with sense data");
        (sense.key, sense.code)
    }

    fn inventory(&self) -> Inventory {
        self.server.unit().inventory().clone()
    }

    /// What is at an address.
    fn barcode(&self, address: u16) -> Option<String> {
        let inventory = self.inventory();
        Some(inventory.get(address)?.volume.as_ref()?.barcode.to_string())
    }
}

fn move_medium(from: u16, to: u16) -> [u8; 12] {
    let ([a, b], [c, d]) = (from.to_be_bytes(), to.to_be_bytes());
    [0xa5, 0, 0, 0, a, b, c, d, 0, 0, 0, 0]
}

fn exchange(source: u16, first: u16, second: u16) -> [u8; 12] {
    let [[a, b], [c, d], [e, f]] = [source, first, second].map(u16::to_be_bytes);
    [0xa6, 0, 0, 0, a, b, c, d, e, f, 0, 0]
}
