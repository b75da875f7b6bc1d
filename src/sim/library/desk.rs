// SPDX-License-Identifier: GPL-2.0-or-later
//! Who carries cartridges to drives, and keeps where they are: what `runtime` does with a thread and with files.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::time::Duration;

use super::super::canary::Canary;
use super::super::media;
use super::super::store::Medium;
use super::LibraryShape;
use super::history::LibraryHistory;
use super::model::Object;
use super::requests::{DRIVE, SLOT, barcode};
use crate::devices::smc::{ElementAddresses, MediaChanger, PLAIN};
use crate::devices::ssc::{Tape, TapeOptions};
use crate::engine::agreement::Ticket;
use crate::engine::media::{AttachStore, MediaMover, MediumMessage};
use crate::engine::shard::Message;
use crate::engine::tasks::{MediumRefusal, SharedState, TaskManager};
use crate::formats::tape::{
    BLOCK, Cartridge, CartridgeUse, RecordPayload, TapeImage, TapeMount, TapeObject, TapeStep, Unanswered,
    image_bytes,
};
use crate::io::{Error, Record, RecordSlot, RecordStore, Tag};
use crate::ports::memory::Dice;
use crate::reactor::{CoreContext, Sender};
use crate::scsi::primary::{Identity, LogicalUnit, MediaLibrary, MediumPresence};
use crate::scsi::{DriveChange, MoveFailure, UnitKey};
use crate::stores::exclusive::ExclusiveGate;
use crate::time::Instant;
use crate::wire::Uuid;

/// Bytes of a cartridge.
const CAPACITY: u64 = 2 << 20;

/// The changer's records; no other unit has any.
const SLOT_OF_RECORDS: RecordSlot = RecordSlot(0);

/// How long it takes at most to keep a record.
const RECORD_NANOS_MAX: u64 = 2_000_000;

fn cartridge(number: usize) -> Cartridge {
    Cartridge {
        identity: 1 + number as u64,
        density: 0x58,
        purpose: CartridgeUse::Data,
        write_protected: false,
        capacity: CAPACITY,
        barcode: barcode(number),
    }
}

/// The media of the cartridges of a library, which are blank.
pub(in crate::sim) fn blank_cartridges(
    shape: &LibraryShape,
    clock: &Rc<Cell<Instant>>,
    dice: &mut Dice,
    canary: Option<Canary>,
) -> Vec<Rc<RefCell<Medium>>> {
    let bytes = image_bytes(CAPACITY).expect("a small cartridge");
    let block = u32::try_from(BLOCK).expect("4096");
    let mut medium = || Medium::new(clock.clone(), bytes, block, shape.store.clone(), dice.roll(), canary);
    let media = (0..shape.cartridges).map(|_| Rc::new(RefCell::new(medium())));
    let media: Vec<_> = media.collect();
    write_heads(&media);
    media
}

/// Makes cartridges of blank media.
pub(in crate::sim) fn write_heads(media: &[Rc<RefCell<Medium>>]) {
    for (number, medium) in media.iter().enumerate() {
        let mut image = TapeImage::create(cartridge(number), &[CAPACITY]).expect("one partition");
        while let Some(step) = image.next_step() {
            if let TapeStep::Write { at, bytes } = step {
                medium.borrow_mut().put(*at, bytes);
            }
            image.step_done(true);
        }
    }
}

/// What is on a cartridge, by its bytes.
fn cartridge_contents(bytes: &[u8]) -> Result<Vec<Object>, String> {
    let read = |at: u64, len: u32| {
        let at = usize::try_from(at).expect("small");
        &bytes[at..at + len as usize]
    };
    let mut mount = TapeMount::new(bytes.len() as u64);
    while let Some(range) = mount.wanted() {
        mount.supply(read(range.at, range.len)).map_err(|e| e.to_string())?;
    }
    let (mut image, _) = mount.finish().ok_or("a mount without an end")?;
    let mut objects = Vec::new();
    for lba in 0..image.end(0).lba {
        let object = loop {
            match image.find(0, lba) {
                Err(Unanswered::Read(range)) => image.supply(range, read(range.at, range.len)),
                answer => break answer.map_err(|e| e.to_string())?,
            }
        };
        objects.push(match object {
            None => return Err(format!("no object {lba} before the end")),
            Some(TapeObject::Filemark) => Object::Filemark,
            Some(TapeObject::Record(_, payload)) => {
                let bytes = match &payload {
                    RecordPayload::Here(bytes) => bytes,
                    RecordPayload::At(range) => read(range.at, range.len),
                };
                Object::Record(u32::from_be_bytes(*bytes.first_chunk().ok_or("a short record")?))
            }
        });
    }
    Ok(objects)
}

/// Without power, the cartridges have to be where a course has led to, with what that has written.
pub(in crate::sim) fn look_at_the_end(
    shape: &LibraryShape,
    history: &mut LibraryHistory,
    cartridges: &[Rc<RefCell<Medium>>],
    records: &Rc<RefCell<KeptRecords>>,
) -> Result<(), String> {
    history.restarted(false);
    let contents = cartridges.iter().map(|medium| cartridge_contents(&medium.borrow_mut().contents()));
    let contents: Vec<_> = contents.collect::<Result<_, _>>()?;
    let places = LibraryDesk::new(shape, Vec::new(), 0, records).places(shape);
    match history.shows(&places, &contents) {
        true => Ok(()),
        false => Err(format!("at the end: {places:?} with {contents:?}, where there may be {history:?}")),
    }
}

/// Records, which outlive the machine that keeps them.
pub(in crate::sim) struct KeptRecords {
    clock: Rc<Cell<Instant>>,
    dice: Dice,
    kept: BTreeMap<&'static str, Vec<u8>>,
    /// By when each is kept, and who hears of it.
    writing: Vec<(Instant, usize, Tag, Record)>,
    canary: Option<Canary>,
}

impl KeptRecords {
    pub(in crate::sim) fn new(clock: Rc<Cell<Instant>>, seed: u64, canary: Option<Canary>) -> Self {
        let (kept, writing) = Default::default();
        Self { clock, dice: Dice::new(seed), kept, writing, canary }
    }

    pub(in crate::sim) fn next_deadline(&self) -> Option<Instant> {
        self.writing.iter().map(|writing| writing.0).min()
    }

    fn keep(&mut self, record: Record) {
        if self.canary != Some(Canary::ForgottenMove) || self.kept.is_empty() {
            self.kept.insert(record.name, record.bytes);
        }
    }

    /// The machine is gone: what was under way is kept or not.
    pub(in crate::sim) fn lose_machine(&mut self) {
        for (.., record) in std::mem::take(&mut self.writing) {
            if self.dice.chance(0.5) {
                self.keep(record);
            }
        }
    }
}

/// A core's handle to them.
struct SimRecords {
    core: usize,
    records: Rc<RefCell<KeptRecords>>,
}

impl RecordStore for SimRecords {
    fn persist(&mut self, tag: Tag, _: RecordSlot, record: Record) {
        let mut records = self.records.borrow_mut();
        let time = Duration::from_nanos(records.dice.below(RECORD_NANOS_MAX));
        let due = records.clock.get() + time;
        records.writing.push((due, self.core, tag, record));
    }

    fn poll(&mut self, done: &mut Vec<(Tag, Result<(), Error>)>) {
        let mut records = self.records.borrow_mut();
        let now = records.clock.get();
        let ended = |(due, core, ..): &(Instant, usize, Tag, Record)| *due <= now && *core == self.core;
        while let Some(index) = records.writing.iter().position(ended) {
            let (.., tag, record) = records.writing.swap_remove(index);
            records.keep(record);
            done.push((tag, Ok(())));
        }
    }
}

/// What changers ask for, and how it has ended, by core.
#[derive(Default)]
struct MoveQueue {
    wanted: VecDeque<(usize, Tag, Vec<DriveChange>)>,
    ended: Vec<(usize, Tag, Result<(), MoveFailure>)>,
}

/// A core's handle to them.
struct SimMover {
    core: usize,
    queue: Rc<RefCell<MoveQueue>>,
}

impl MediaMover for SimMover {
    fn begin(&mut self, tag: Tag, _: UnitKey, changes: Vec<DriveChange>) {
        self.queue.borrow_mut().wanted.push_back((self.core, tag, changes));
    }

    fn poll(&mut self, done: &mut Vec<(Tag, Result<(), MoveFailure>)>) {
        let ended =
            self.queue.borrow_mut().ended.extract_if(.., |(core, ..)| *core == self.core).collect::<Vec<_>>();
        done.extend(ended.into_iter().map(|(_, tag, outcome)| (tag, outcome)));
    }
}

/// A change of a drive that has not ended.
struct DriveChanging {
    drive: usize,
    comes: Option<usize>,
    ended: Receiver<Result<(), MediumRefusal>>,
}

/// What a changer has asked for, while it is carried out.
struct MoveUnderWay {
    core: usize,
    tag: Tag,
    /// What is still to be done.
    changes: VecDeque<DriveChange>,
    /// What was in the drives that were changed, the last one first.
    before: VecDeque<DriveChange>,
    failed: bool,
    changing: Option<DriveChanging>,
}

/// The library of a machine.
pub(in crate::sim) struct LibraryDesk {
    /// Of the first cartridge among all media.
    first_medium: usize,
    changer: Arc<MediaChanger>,
    drives: Vec<Arc<Tape>>,
    /// The keys of the changer and the drives, and the cores that own them.
    units: Vec<(UnitKey, usize)>,
    states: Vec<Arc<SharedState>>,
    gates: Vec<Arc<ExclusiveGate>>,
    in_drives: Vec<Option<usize>>,
    records: Rc<RefCell<KeptRecords>>,
    queue: Rc<RefCell<MoveQueue>>,
    moving: Option<MoveUnderWay>,
    last: Ticket,
}

fn identity(product: &str, number: usize) -> Identity {
    let uuid = Uuid::of_name(&format!("sim-library-{number}"));
    Identity::new("PTGT", product, "0001", None, uuid).expect("short names")
}

fn number_of(barcode_of: &str, shape: &LibraryShape) -> Option<usize> {
    (0..shape.cartridges).find(|&number| barcode(number) == barcode_of)
}

impl LibraryDesk {
    /// A library as its records and its cartridges say that it is.
    pub(in crate::sim) fn new(
        shape: &LibraryShape,
        units: Vec<(UnitKey, usize)>,
        first_medium: usize,
        records: &Rc<RefCell<KeptRecords>>,
    ) -> Self {
        let count = |count: usize| u16::try_from(count).expect("few");
        let counts = [1, count(shape.slots), 0, count(shape.drives)];
        let addresses = ElementAddresses::new([1, SLOT, 0x10, DRIVE], counts).expect("far apart");
        let changer = Arc::new(MediaChanger::new(PLAIN, identity("LIBRARY", 0), None, 0, addresses));
        let drives: Vec<_> = (1..units.len()).map(|number| identity("TAPE", number)).collect();
        let barcodes: Vec<_> = (0..shape.cartridges).map(barcode).collect();
        let record = records.borrow().kept.get(changer.record_name()).cloned();
        let furnished = changer.furnish(record.as_deref(), &barcodes, drives.clone()).expect("a good record");
        let mut in_drives = vec![None; shape.drives];
        for DriveChange { drive, barcode } in furnished.in_drives {
            in_drives[drive] = barcode.and_then(|barcode| number_of(&barcode, shape));
        }
        let drives: Vec<_> =
            drives.into_iter().map(|names| Arc::new(Tape::new(TapeOptions::new(names)))).collect();
        for (drive, there) in drives.iter().zip(&in_drives) {
            drive.set_presence(if there.is_some() {
                MediumPresence::Present
            } else {
                MediumPresence::Absent
            });
        }
        let states = units.iter().map(|_| Arc::default()).collect();
        let gates = (0..shape.cartridges).map(|_| Arc::default()).collect();
        let (queue, moving, last) = Default::default();
        Self {
            first_medium,
            changer,
            drives,
            units,
            states,
            gates,
            in_drives,
            records: records.clone(),
            queue,
            moving,
            last,
        }
    }

    /// Gives a core its share.
    pub(in crate::sim) fn attach(&self, context: &CoreContext, tasks: &mut TaskManager) {
        for (number, &(unit, owner)) in self.units.iter().enumerate() {
            if owner == context.core() {
                let drive = number.checked_sub(1);
                let (server, store) = match drive {
                    None => (self.changer.clone().device_server(), None),
                    Some(drive) => {
                        let there = self.in_drives[drive];
                        let store = there.map(|medium| {
                            media::store(self.first_medium + medium, context, self.gates[medium].clone())
                        });
                        (self.drives[drive].clone().device_server(), store)
                    }
                };
                tasks.add_unit(unit, server, store);
                tasks.make_serial(unit);
            } else {
                tasks.add_remote_unit(unit, owner);
            }
            tasks.share(unit, self.states[number].clone());
        }
        let core = context.core();
        tasks.move_with(Box::new(SimMover { core, queue: self.queue.clone() }));
        let records = SimRecords { core, records: self.records.clone() };
        tasks.persist_with(Box::new(records), &[(self.units[0].0, SLOT_OF_RECORDS)]);
    }

    /// Nothing is under way.
    pub(in crate::sim) fn is_idle(&self) -> bool {
        self.moving.is_none() && self.queue.borrow().wanted.is_empty()
    }

    /// Goes on. Returns what has happened, for the tally.
    pub(in crate::sim) fn turn(
        &mut self,
        cores: &[Sender<Message>],
        shape: &LibraryShape,
    ) -> Option<&'static str> {
        let Some(moving) = &mut self.moving else {
            let (core, tag, changes) = self.queue.borrow_mut().wanted.pop_front()?;
            self.moving = Some(MoveUnderWay {
                core,
                tag,
                changes: changes.into(),
                changing: None,
                before: VecDeque::new(),
                failed: false,
            });
            return Some("movements at drives");
        };
        if let Some(DriveChanging { drive, comes, ended }) = &moving.changing {
            let (drive, comes) = (*drive, *comes);
            let outcome = match ended.try_recv() {
                Err(TryRecvError::Empty) => return None,
                ended => ended.is_ok_and(|outcome| outcome.is_ok()),
            };
            moving.changing = None;
            if outcome {
                let barcode = self.in_drives[drive].map(|number| barcode(number).into());
                moving.before.push_front(DriveChange { drive, barcode });
                self.in_drives[drive] = comes;
                return Some("cartridges that came to drives or went");
            }
            // All of them, or none.
            if self.in_drives[drive].is_none() {
                self.drives[drive].set_presence(MediumPresence::Absent);
            }
            moving.changes = std::mem::take(&mut moving.before);
            moving.failed = true;
            return Some("cartridges that stayed");
        }
        let Some(DriveChange { drive, barcode }) = moving.changes.pop_front() else {
            let MoveUnderWay { core, tag, failed, .. } = self.moving.take()?;
            let outcome = if failed { Err(MoveFailure::Failed) } else { Ok(()) };
            self.queue.borrow_mut().ended.push((core, tag, outcome));
            return Some("movements at drives ended");
        };
        let comes = barcode.and_then(|barcode| number_of(&barcode, shape));
        let attach = comes.map(|medium| -> AttachStore {
            let (number, gate) = (self.first_medium + medium, self.gates[medium].clone());
            Box::new(move |context| Ok(media::store(number, context, gate)))
        });
        if self.in_drives[drive].is_none() {
            self.drives[drive].set_presence(MediumPresence::Coming);
        }
        self.last.0 += 1;
        let (ticket, (unit, owner)) = (self.last, self.units[1 + drive]);
        let (to, ended) = sync_channel(1);
        cores[owner].send(Message::Medium(MediumMessage::Change { unit, ticket, force: false, attach, to }));
        moving.changing = Some(DriveChanging { drive, comes, ended });
        None
    }

    /// What is in each place after a start.
    pub(in crate::sim) fn places(&self, shape: &LibraryShape) -> Vec<Option<usize>> {
        let data = self.changer.whereabouts();
        let place = |address: u16| match address {
            SLOT.. => shape.drives + usize::from(address - SLOT),
            _ => usize::from(address - DRIVE),
        };
        let mut places = vec![None; shape.places()];
        for (address, barcode) in data {
            places[place(address)] = number_of(&barcode, shape);
        }
        places
    }
}
