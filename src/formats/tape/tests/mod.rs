// SPDX-License-Identifier: GPL-2.0-or-later
//! A deck in memory that keeps a log of all it writes, and a model of what should be on the tape.

mod crash;
mod failures;
mod hostile;
mod index;
mod motion;

use std::cell::Cell;
use std::rc::Rc;

use super::damage::{Blocks, cartridge};
use super::layout::BLOCK_BYTES;
use super::*;
use crate::wire::Crc32c;

/// A reproducible source of numbers (splitmix64).
pub(super) struct Numbers(pub(super) u64);

impl Numbers {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut n = self.0;
        n = (n ^ n >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        n = (n ^ n >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        n ^ n >> 31
    }

    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub(super) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// What was done to a store.
#[derive(Clone)]
pub(super) enum StoreEvent {
    Write(u64, Rc<[u8]>),
    Flush,
}

/// Payload of a record by its number.
pub(super) fn payload(number: u32, len: u32) -> Vec<u8> {
    let mut bytes: Vec<u8> = number.to_be_bytes().iter().copied().cycle().take(len as usize).collect();
    for (at, byte) in bytes.iter_mut().enumerate().skip(4) {
        *byte = byte.wrapping_add((at >> 8) as u8);
    }
    bytes
}

pub(super) fn header(payload: &[u8]) -> RecordHeader {
    let len = payload.len() as u32;
    RecordHeader { logical: len, stored: len, form: 0, sum: Crc32c::of(payload).value() }
}

/// What a model has of an object: a record's number, or a filemark.
pub(super) const MARK: u32 = u32::MAX;

/// A mounted image on a store.
pub(super) struct Deck {
    pub(super) image: TapeImage,
    pub(super) disk: Blocks,
    pub(super) bytes: u64,
    pub(super) events: Vec<StoreEvent>,
    pub(super) reads: Cell<usize>,
}

/// Mounts what a store holds.
pub(super) fn mount(disk: &Blocks, bytes: u64) -> Result<(TapeImage, MountFindings, usize), MountError> {
    let (mut mount, mut reads) = (TapeMount::new(bytes), 0);
    while let Some(range) = mount.wanted() {
        assert!(range.at + u64::from(range.len) <= bytes, "{range:?} is not in the store");
        mount.supply(&disk.read(range))?;
        reads += 1;
    }
    let (image, findings) = mount.finish().expect("nothing is wanted");
    Ok((image, findings, reads))
}

impl Deck {
    pub(super) fn create(capacities: &[u64]) -> Self {
        let capacity = capacities.iter().sum();
        let image = TapeImage::create(cartridge(capacity), capacities).expect("such partitions");
        let bytes = image_bytes(capacity).expect("not too large");
        let mut deck =
            Self { image, disk: Blocks::default(), bytes, events: Vec::new(), reads: Cell::new(0) };
        deck.settle();
        deck
    }

    pub(super) fn mount(disk: Blocks, bytes: u64) -> Result<(Self, MountFindings), MountError> {
        let (image, findings, reads) = mount(&disk, bytes)?;
        Ok((Self { image, disk, bytes, events: Vec::new(), reads: Cell::new(reads) }, findings))
    }

    pub(super) fn put(&mut self, at: u64, bytes: &[u8]) {
        self.disk.write(at, bytes);
        self.events.push(StoreEvent::Write(at, bytes.into()));
    }

    /// Does all steps.
    pub(super) fn settle(&mut self) {
        while let Some(step) = self.image.next_step() {
            match step {
                TapeStep::Write { at, bytes } => {
                    let (at, bytes) = (*at, bytes.clone());
                    self.put(at, &bytes);
                }
                TapeStep::Flush => self.events.push(StoreEvent::Flush),
            }
            self.image.step_done(true);
        }
    }

    /// Asks again until there is an answer.
    pub(super) fn try_ask<T>(
        &mut self,
        ask: impl Fn(&mut TapeImage) -> Result<T, Unanswered>,
    ) -> Result<T, Unanswered> {
        let (disk, bytes, reads) = (&self.disk, self.bytes, &self.reads);
        damage::ask(&mut self.image, disk, bytes, |image| {
            let answer = ask(image);
            reads.set(reads.get() + usize::from(matches!(answer, Err(Unanswered::Read(_)))));
            answer
        })
    }

    pub(super) fn ask<T>(&mut self, ask: impl Fn(&mut TapeImage) -> Result<T, Unanswered>) -> T {
        self.try_ask(ask).unwrap_or_else(|e| panic!("{e}"))
    }

    /// Opens the log, as whoever writes a record there does.
    pub(super) fn begin(&mut self, partition: usize, lba: u64) {
        self.ask(|image| image.begin(partition, lba));
        self.settle();
    }

    /// Appends a record; the payload of a large one is written at once.
    pub(super) fn append(&mut self, partition: usize, bytes: &[u8]) -> Result<(), AppendError> {
        let record = header(bytes);
        if record.stored <= INLINE_MAX {
            return self.image.append_inline(partition, &record, bytes);
        }
        let range = self.image.append(partition, &record)?;
        self.settle();
        let mut padded = bytes.to_vec();
        padded.resize(bytes.len().next_multiple_of(BLOCK_BYTES), 0xee);
        self.put(range.at, &padded);
        Ok(())
    }

    /// What the image says of a record: its payload, which must have its sum.
    pub(super) fn bytes_of(&mut self, object: TapeObject) -> Option<Vec<u8>> {
        let TapeObject::Record(record, place) = object else { return None };
        let bytes = match place {
            RecordPayload::Here(bytes) => bytes,
            RecordPayload::At(range) => self.disk.read(range),
        };
        assert_eq!(header(&bytes), record, "payload that is not what was written");
        Some(bytes)
    }

    /// All objects of a partition: the numbers of records, and filemarks.
    pub(super) fn contents(&mut self, partition: usize) -> Vec<u32> {
        let end = self.image.end(partition);
        let mut found = Vec::new();
        for lba in 0..end.lba {
            let object = self.ask(|image| image.find(partition, lba)).expect("there is an object");
            found.push(match self.bytes_of(object) {
                None => MARK,
                Some(bytes) => {
                    let number = u32::from_be_bytes(*bytes.first_chunk().expect("four bytes at least"));
                    assert!(bytes == payload(number, bytes.len() as u32), "payload of another record");
                    number
                }
            });
        }
        assert_eq!(self.ask(|image| image.find(partition, end.lba)), None);
        assert_eq!(found.iter().filter(|number| **number == MARK).count() as u64, end.file);
        found
    }
}

/// A length of a record, of every kind.
pub(super) fn length(numbers: &mut Numbers) -> u32 {
    let len = match numbers.below(8) {
        0 | 1 => numbers.below(100),
        2 => numbers.below(4016),
        3 => 4000 + numbers.below(200),
        4 | 5 => numbers.below(20_000),
        6 => 65_536,
        _ => numbers.below(200_000),
    };
    (len as u32).max(4)
}
