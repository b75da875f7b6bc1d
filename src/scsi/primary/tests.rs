// SPDX-License-Identifier: GPL-2.0-or-later
//! A second device type, as far as MODE SELECT goes: a tape drive whose block length and density code are set with the
//! block descriptor, and its buffered mode with the device-specific parameter.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use smallvec::SmallVec;

use super::*;
use crate::io::{Geometry, Landing, Record};
use crate::memory::Arena;
use crate::scsi::{
    Attention, Cdb, Command, DeviceServer, Expected, NexusId, Resume, Step, TaskAttribute, TaskId,
    UnitAttentions, UnitState, asc, key,
};
use crate::time::Instant;
use crate::wire::Uuid;
use crate::wire::scsi::be64;

#[derive(Debug)]
struct StreamUnit {
    primary: PrimaryUnit,
    /// Bytes of a block; 0 for any.
    block: AtomicU32,
    blocks: u64,
}

/// Density codes: 48h is the medium's, 7Fh stands for what is so (SSC-4 8.3.3).
const MEDIUM: u8 = 0x48;
const NO_CHANGE: u8 = 0x7f;
/// The write protection of the medium, and buffered mode 1.
const WP: u8 = 0x80;
const BUFFERED: u8 = 0x10;

const PAGES: [ModePage; 2] =
    [CONTROL_PAGE, ModePage::of_header(&[BUFFERED, MEDIUM, 0, 0, 2, 0], &[0x70, 0, 0, 0xff, 0xff, 0xff])];

#[derive(Clone, Copy, Debug)]
struct StreamShape;

impl Shape for StreamShape {
    fn lba(&self, at: u64) -> u64 {
        at
    }

    fn chunk(&self) -> u32 {
        1 << 16
    }

    fn features(&self) -> Features {
        Features(0)
    }
}

struct View<'a>(&'a StreamUnit);

impl Peripheral for View<'_> {
    fn identity(&self) -> &Identity {
        self.0.primary.identity()
    }

    fn device_type(&self) -> u8 {
        1
    }

    fn versions(&self) -> &'static [u16] {
        &[]
    }

    fn vpd_pages(&self) -> &'static [u8] {
        &[]
    }

    fn vpd_page(&self, _: u8, _: &mut DataIn) {}
}

impl ModeUnit for View<'_> {
    fn device_specific(&self) -> u8 {
        WP
    }

    fn blocks(&self) -> Option<(u64, u32)> {
        Some((self.0.blocks, 0))
    }

    fn resolve_header(&self, now: &[u8], wanted: &mut [u8]) {
        if wanted[1] == NO_CHANGE {
            wanted[1] = now[1];
        }
    }

    fn check(&self, page: &ModePage, values: &[u8]) -> Result<(), usize> {
        match page.is_header() {
            true if values[0] & 0x70 > BUFFERED => Err(0),
            true if !values[5].is_multiple_of(4) => Err(5),
            true => Ok(()),
            false => check_common_page(page, values),
        }
    }
}

impl DeviceType for StreamUnit {
    type Shape = StreamShape;
    type View<'a> = View<'a>;

    const MEDIUM: UnitFlags = UnitFlags(0);
    const WRITE_CACHE: UnitFlags = UnitFlags(0);

    fn primary(&self) -> &PrimaryUnit {
        &self.primary
    }

    fn shape(&self, _: &Geometry) -> StreamShape {
        StreamShape
    }

    fn view(&self, _: StreamShape) -> View<'_> {
        View(self)
    }

    fn modes_in_force(&self, values: &ModeValues) {
        self.block.store(be32(values.header(), 2), Ordering::Relaxed);
    }

    fn protected(&self, _: &StreamShape) -> bool {
        false
    }

    fn log_pages(&self, _: &StreamShape) -> &'static [(u8, u8)] {
        &[]
    }

    fn log_page(&self, _: u8, _: bool, _: &StreamShape, _: Instant, _: &mut LogData) {}

    fn self_test(&self, _: bool, _: &StreamShape) -> SmallVec<[Span; 2]> {
        SmallVec::new()
    }
}

/// It has no commands of its own.
#[derive(Debug)]
enum NoTask {}

impl DeviceTask<StreamUnit> for NoTask {
    fn advance(
        &mut self,
        _: Option<Resume>,
        _: &Job<'_, StreamUnit>,
        _: &mut Context<'_>,
    ) -> Result<Step, Fault> {
        match *self {}
    }
}

static TABLE: Table<Handler<StreamUnit>> = Table::new(
    const {
        &[
            Row { definition: command::MODE_SELECT_6, run: handlers::mode_select },
            Row { definition: command::MODE_SENSE_6, run: handlers::mode_sense },
            Row { definition: command::MODE_SELECT_10, run: handlers::mode_select },
            Row { definition: command::MODE_SENSE_10, run: handlers::mode_sense },
        ]
    },
);

impl CommandSet for StreamUnit {
    type Task = NoTask;

    fn table() -> &'static Table<Handler<Self>> {
        &TABLE
    }
}

/// A drive and its initiator.
struct Rig {
    arena: Arena,
    server: PrimaryServer<StreamUnit>,
    kept: Vec<Record>,
}

impl Rig {
    fn new() -> Self {
        Self::with_blocks(0)
    }

    fn with_blocks(blocks: u64) -> Self {
        let identity = Identity::new("ptgt", "toy", "0", None, Uuid::of_name("toy")).unwrap();
        let primary = PrimaryUnit::new::<StreamUnit>(identity, None, 0, ModeValues::new(&PAGES));
        let tape = Arc::new(StreamUnit { primary, block: AtomicU32::new(512), blocks });
        Self {
            arena: Arena::new(2 << 20, false).unwrap(),
            server: PrimaryServer::new(tape),
            kept: Vec::new(),
        }
    }

    fn block(&self) -> u32 {
        self.server.unit().block.load(Ordering::Relaxed)
    }

    /// The answer to a command: how it ended.
    fn run(&mut self, cdb: &[u8], list: &[u8]) -> Outcome {
        let command = Command {
            nexus: NexusId::of(1),
            lun: Lun::ZERO,
            cdb: Cdb::new(cdb).unwrap(),
            attribute: TaskAttribute::Simple,
            expected: Expected { data_in: 255, data_out: list.len() as u32 },
        };
        let mut cx = Context {
            arena: &self.arena,
            geometry: Geometry { bytes: 0, block: 0, transfer_max: 0, thin: false, read_only: false },
            state: &UnitState::default(),
            attentions: &mut UnitAttentions::default(),
            nexus: None,
            luns: &[Lun::ZERO],
            landing: &mut |_| Landing::Own,
            lease: None,
            now: Instant::ZERO,
        };
        let mut step = self.server.start(TaskId(0), &command, &mut cx);
        loop {
            let answer = match step {
                Step::Finish(outcome) => return outcome,
                Step::Fetch { .. } => Resume::Fetched(Sg::copied(&self.arena, list).unwrap()),
                Step::Persist(record) => {
                    self.kept.push(record);
                    Resume::Persisted(Ok(()))
                }
                other => panic!("{other:?}"),
            };
            step = self.server.resume(TaskId(0), &command, answer, &mut cx);
        }
    }

    /// Header and block descriptor, in the short form.
    fn sense(&mut self) -> Vec<u8> {
        self.run(&[0x1a, 0, 0x0a, 0, 255, 0], &[]).data.to_vec()[2..12].to_vec()
    }

    /// MODE SELECT(6) of a device-specific parameter and a block descriptor.
    fn select(&mut self, save: bool, specific: u8, descriptor: &[u8]) -> Outcome {
        let list = [&[0, 0, specific, descriptor.len() as u8], descriptor].concat();
        self.run(&[0x15, 0x10 | u8::from(save), 0, 0, list.len() as u8, 0], &list)
    }
}

/// Device-specific parameter, length of the descriptor, density, no number of blocks, block length.
fn header(specific: u8, block: u16) -> [u8; 10] {
    let [high, low] = block.to_be_bytes();
    [specific, 8, MEDIUM, 0, 0, 0, 0, 0, high, low]
}

fn descriptor(density: u8, block: u16) -> [u8; 8] {
    let [high, low] = block.to_be_bytes();
    [density, 0, 0, 0, 0, 0, high, low]
}

#[test]
fn a_block_descriptor_sets_the_block_length() {
    let mut rig = Rig::new();
    assert_eq!(rig.sense(), header(WP | BUFFERED, 512));
    let told = [Attention::others(asc::MODE_PARAMETERS_CHANGED)];
    let ended = rig.select(false, BUFFERED, &descriptor(MEDIUM, 1024));
    assert_eq!((ended.status, &ended.attentions[..], ended.data_out), (Status::Good, &told[..], 12));
    assert_eq!((rig.sense(), rig.block()), (header(WP | BUFFERED, 1024).to_vec(), 1024));
    // The same once more, what MODE SENSE gave, and a density code that stands for what is so.
    for (specific, density) in [(BUFFERED, MEDIUM), (WP | BUFFERED, MEDIUM), (BUFFERED, NO_CHANGE)] {
        let ended = rig.select(false, specific, &descriptor(density, 1024));
        assert_eq!((ended.status, &ended.attentions[..]), (Status::Good, &[][..]));
    }
    // Without a descriptor the block length stays; the device-specific parameter counts.
    assert_eq!(rig.select(false, 0, &[]).attentions, told);
    assert_eq!((rig.sense(), rig.block()), (header(WP, 1024).to_vec(), 1024));
    // An empty list changes nothing.
    assert!(rig.run(&[0x15, 0x10, 0, 0, 0, 0], &[]).attentions.is_empty());
    assert_eq!(rig.sense(), header(WP, 1024));
    // Blocks of any length.
    rig.select(false, 0, &descriptor(MEDIUM, 0));
    assert_eq!((rig.sense(), rig.block()), (header(WP, 0).to_vec(), 0));
}

#[test]
fn the_ten_byte_forms_have_short_and_long_descriptors() {
    let mut rig = Rig::with_blocks(1 << 33);
    let select =
        |rig: &mut Rig, list: &[u8]| rig.run(&[0x55, 0x10, 0, 0, 0, 0, 0, 0, list.len() as u8, 0], list);
    let sense = |rig: &mut Rig, llbaa: u8| {
        rig.run(&[0x5a, llbaa << 4, 0x0a, 0, 0, 0, 0, 0, 255, 0], &[]).data.to_vec()
    };
    let short = [0, 0, 0, 0, 0, 0, 0, 8, MEDIUM, 0xff, 0xff, 0xff, 0, 0, 8, 0];
    assert_eq!(select(&mut rig, &short).status, Status::Good);
    assert_eq!(rig.block(), 2048);
    let told = [&[WP, 0, 0, 0, 8, MEDIUM, 0xff, 0xff, 0xff, 0, 0, 8, 0][..]].concat();
    assert_eq!(sense(&mut rig, 0)[3..16], told, "more blocks than the field can tell");
    let mut long = [0; 24];
    (long[4], long[7], long[22]) = (1, 16, 4);
    assert_eq!(select(&mut rig, &long).status, Status::Good);
    assert_eq!(rig.block(), 1024);
    let data = sense(&mut rig, 1);
    assert_eq!(data[3..8], [WP, 1, 0, 0, 16]);
    assert_eq!((be64(&data, 8), be32(&data, 16), be32(&data, 20)), (1 << 33, 0, 1024));
    // The number of blocks that there is, and all that there are.
    for blocks in [1 << 33, u64::MAX] {
        long[8..16].copy_from_slice(&blocks.to_be_bytes());
        assert_eq!(select(&mut rig, &long).status, Status::Good);
    }
    // A long descriptor without LONGLBA, and a short one with it.
    for (longlba, len) in [(0, 16), (1, 8)] {
        let mut list = vec![0; 8 + len];
        (list[4], list[7]) = (longlba, len as u8);
        let sense = select(&mut rig, &list).sense.unwrap();
        assert_eq!((sense.code, sense.specific), (asc::INVALID_FIELD_IN_PARAMETER_LIST, Some([0x80, 0, 7])));
    }
}

#[test]
fn what_is_saved_survives_a_reset_and_a_restart() {
    let mut rig = Rig::new();
    rig.select(true, 0, &descriptor(MEDIUM, 4096));
    rig.select(false, BUFFERED, &descriptor(MEDIUM, 1024));
    assert_eq!((rig.sense(), rig.block()), (header(WP | BUFFERED, 1024).to_vec(), 1024));
    rig.server.reset();
    assert_eq!((rig.sense(), rig.block()), (header(WP, 4096).to_vec(), 4096));
    let record = rig.kept.pop().unwrap();
    let mut next = Rig::new();
    PrimaryUnit::load_modes(&**next.server.unit(), &record.bytes).unwrap();
    assert_eq!((next.sense(), next.block()), (header(WP, 4096).to_vec(), 4096));
}

#[test]
fn what_is_wrong_is_pointed_at_and_changes_nothing() {
    let mut rig = Rig::with_blocks(1000);
    let good = descriptor(MEDIUM, 1024);
    let with = |at: usize, value: u8| {
        let mut bytes = good;
        bytes[at] = value;
        bytes.to_vec()
    };
    let cases = [
        // A buffered mode that there is not, half a descriptor, a density code that cannot be had, a number of blocks
        // that is not, and a block length that cannot be.
        (0x20, good.to_vec(), 2),
        (0, good[..4].to_vec(), 3),
        (0, with(0, MEDIUM + 1), 4),
        (0, with(3, 1), 5),
        (0, with(7, 2), 9),
    ];
    for (specific, descriptor, at) in cases {
        let sense = rig.select(true, specific, &descriptor).sense.expect("CHECK CONDITION");
        assert_eq!((sense.key, sense.code), (key::ILLEGAL_REQUEST, asc::INVALID_FIELD_IN_PARAMETER_LIST));
        assert_eq!(sense.specific, Some([0x80, 0, at]), "{descriptor:02x?}");
        assert_eq!((rig.sense()[0], rig.block()), (WP | BUFFERED, 512));
    }
    assert!(rig.kept.is_empty());
}

/// The row of the table is none on the wire.
#[test]
fn there_is_no_page_for_what_stands_before_the_pages() {
    let mut rig = Rig::new();
    let all = rig.run(&[0x1a, 0x08, 0x3f, 0xff, 255, 0], &[]).data.to_vec();
    assert_eq!((all.len(), all[4]), (4 + 12, 0x8a), "the control page alone");
    let list = [0, 0, 0, 0, 0x3f, 6, 0x10, MEDIUM, 0, 0, 2, 0];
    let sense = rig.run(&[0x15, 0x10, 0, 0, 12, 0], &list).sense.unwrap();
    assert_eq!((sense.code, sense.specific), (asc::INVALID_FIELD_IN_PARAMETER_LIST, Some([0x8d, 0, 4])));
}
