// SPDX-License-Identifier: GPL-2.0-or-later
//! Images with damage of which no checksum tells, for tests and the fuzzer: each is refused, or mounted and read in
//! bounded time, and nothing panics.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::image::{StoreRange, TapeImage, TapeStep, Unanswered};
use super::layout::{
    ATTRIBUTES, BLOCK, BLOCK_BYTES, Cartridge, CartridgeUse, CopyPair, SUPERBLOCKS, image_bytes, seal,
};
use super::mount::TapeMount;
use super::packed::{INLINE_MAX, RecordHeader};
use crate::wire::Crc32c;

/// Bytes of a store, of which what was never written reads as zeros.
#[derive(Clone, Debug, Default)]
pub(super) struct Blocks(BTreeMap<u64, Rc<[u8]>>);

impl Blocks {
    pub(super) fn write(&mut self, at: u64, bytes: &[u8]) {
        assert_eq!((at % BLOCK, bytes.len() % BLOCK_BYTES), (0, 0), "whole blocks");
        for (block, piece) in (at / BLOCK..).zip(bytes.chunks(BLOCK_BYTES)) {
            self.0.insert(block, piece.into());
        }
    }

    pub(super) fn read(&self, range: StoreRange) -> Vec<u8> {
        let mut bytes = Vec::new();
        assert_eq!(range.at % BLOCK, 0, "whole blocks");
        let mut block = range.at / BLOCK;
        while bytes.len() < range.len as usize {
            match self.0.get(&block) {
                Some(piece) => bytes.extend(piece.iter()),
                None => bytes.resize(bytes.len() + BLOCK_BYTES, 0),
            }
            block += 1;
        }
        bytes.truncate(range.len as usize);
        bytes
    }

    pub(super) fn numbers(&self) -> impl Iterator<Item = u64> {
        self.0.keys().copied()
    }

    fn settle(&mut self, image: &mut TapeImage) {
        while let Some(step) = image.next_step() {
            if let TapeStep::Write { at, bytes } = step {
                self.write(*at, bytes);
            }
            image.step_done(true);
        }
    }
}

/// A cartridge.
pub(super) fn cartridge(capacity: u64) -> Cartridge {
    Cartridge {
        identity: 0x1234_5678,
        density: 0x58,
        purpose: CartridgeUse::Data,
        write_protected: false,
        capacity,
        barcode: "PTGT01L5".into(),
    }
}

/// Asks again until there is an answer.
pub(super) fn ask<T>(
    image: &mut TapeImage,
    disk: &Blocks,
    bytes: u64,
    ask: impl Fn(&mut TapeImage) -> Result<T, Unanswered>,
) -> Result<T, Unanswered> {
    for _ in 0..10_000 {
        match ask(image) {
            Err(Unanswered::Read(range)) => {
                assert!(range.at + u64::from(range.len) <= bytes, "{range:?} is not in the store");
                image.supply(range, &disk.read(range));
            }
            answer => return answer,
        }
    }
    panic!("a question without an end");
}

/// Mounts and reads what there is, as far as it goes, and writes on it.
pub(super) fn exercise(disk: &Blocks, bytes: u64) {
    let (mut mount, mut reads) = (TapeMount::new(bytes), 0_u64);
    while let Some(range) = mount.wanted() {
        let end = range.at.checked_add(range.len.into());
        assert!(end.is_some_and(|end| end <= bytes) && range.len <= 1 << 20, "{range:?}");
        if mount.supply(&disk.read(range)).is_err() {
            return;
        }
        reads += u64::from(range.len).div_ceil(BLOCK);
        assert!(reads <= 2 * bytes / BLOCK + 4096, "a mount without an end");
    }
    let (mut image, _) = mount.finish().expect("nothing is wanted");
    for partition in 0..image.partitions().len() {
        let end = image.end(partition);
        for lba in [0, 1, 2, 3, 50, end.lba / 2, end.lba.saturating_sub(1), end.lba, u64::MAX] {
            let at = lba.min(end.lba);
            _ = ask(&mut image, disk, bytes, |image| image.find(partition, lba));
            _ = ask(&mut image, disk, bytes, |image| image.find_filemark(partition, lba));
            for count in [-7, -3, 3, 7] {
                _ = ask(&mut image, disk, bytes, |image| image.space_records(partition, at, count));
                _ = ask(&mut image, disk, bytes, |image| image.space_filemarks(partition, at, count));
            }
        }
        if ask(&mut image, disk, bytes, |image| image.begin(partition, end.lba / 2)).is_ok() {
            _ = image.append_filemarks(partition, 3);
        }
    }
    image.checkpoint();
}

/// A tape of two partitions, with objects of every kind before and behind its anchors.
fn sample() -> (Blocks, u64) {
    const CAPACITIES: [u64; 2] = [1 << 20, 1 << 19];
    const PROMISE: &str = "a sound image with room";
    let mut image = TapeImage::create(cartridge(3 << 19), &CAPACITIES).expect(PROMISE);
    let (bytes, mut disk) = (image_bytes(3 << 19).expect(PROMISE), Blocks::default());
    let fill = |image: &mut TapeImage, disk: &mut Blocks, partition, count| {
        for number in 0..count {
            let len = 1 + number * 397 % 9000;
            let payload = vec![number as u8; len as usize];
            let record =
                RecordHeader { logical: len, stored: len, form: 0, sum: Crc32c::of(&payload).value() };
            if len <= INLINE_MAX {
                image.append_inline(partition, &record, &payload).expect(PROMISE);
            } else {
                let range = image.append(partition, &record).expect(PROMISE);
                let mut payload = payload;
                payload.resize(payload.len().next_multiple_of(BLOCK_BYTES), 0);
                disk.write(range.at, &payload);
            }
            if number % 7 == 0 {
                image.append_filemarks(partition, 1 + number % 3).expect(PROMISE);
            }
        }
        image.sync();
        disk.settle(image);
    };
    for (partition, lba) in [(0, 0), (1, 0), (0, 20), (1, 3)] {
        disk.settle(&mut image);
        ask(&mut image, &disk, bytes, |image| image.begin(partition, lba)).expect(PROMISE);
        disk.settle(&mut image);
        fill(&mut image, &mut disk, partition, 40);
        if partition == 0 {
            image.checkpoint();
            disk.settle(&mut image);
            fill(&mut image, &mut disk, partition, 10);
        }
    }
    (disk, bytes)
}

thread_local! {
    static SAMPLE: (Blocks, u64) = sample();
}

/// Damages the sample as the bytes say, five at a time: which structure, where in it (2 bytes), whether the value is
/// put or added, the value. Its checksums are right.
pub(crate) fn run_damaged(input: &[u8]) {
    SAMPLE.with(|(sample, bytes)| {
        let mut disk = sample.clone();
        let pairs = [
            (SUPERBLOCKS, 4096),
            (CopyPair::anchors(0), 8192),
            (CopyPair::anchors(1), 8192),
            (ATTRIBUTES, 4096),
        ];
        let mut places: Vec<_> =
            pairs.iter().flat_map(|(pair, len)| [(pair.place(0), *len), (pair.place(1), *len)]).collect();
        let log = sample.numbers().filter(|block| *block >= 128).map(|block| (block * BLOCK, 4096));
        places.extend(log);
        for piece in input.chunks_exact(5) {
            let (at, len) = places[usize::from(piece[0]) % places.len()];
            let mut structure = disk.read(StoreRange { at, len });
            let offset = usize::from(u16::from_be_bytes([piece[1], piece[2]])) % structure.len();
            let value = if piece[3] % 2 == 0 { piece[4] } else { structure[offset].wrapping_add(piece[4]) };
            structure[offset] = value;
            seal(&mut structure);
            disk.write(at, &structure);
        }
        exercise(&disk, *bytes);
    });
}
