// SPDX-License-Identifier: GPL-2.0-or-later
//! Bytes that nobody has written so: an image is refused, or mounted and read in bounded time; nothing panics.

use proptest::prelude::*;

use super::super::damage::exercise;
use super::super::layout::{ATTRIBUTES, CopyPair, SUPERBLOCKS, seal};
use super::*;

fn sample() -> (Blocks, u64) {
    let (mut deck, _) = motion::tape(11, 80);
    deck.image.checkpoint();
    deck.begin(0, 100);
    for number in 0..60 {
        deck.append(0, &payload(number, 50 + number * 400)).expect("room");
    }
    deck.image.append_filemarks(0, 4).expect("room");
    deck.image.sync();
    deck.settle();
    (deck.disk, deck.bytes)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn bytes_that_are_no_image_are_refused(
        bytes in prop::collection::vec(any::<u8>(), 0..3 * BLOCK_BYTES),
        magic in any::<bool>(),
    ) {
        let mut bytes = bytes;
        let len = bytes.len() as u64;
        bytes.resize(bytes.len().next_multiple_of(BLOCK_BYTES), 0);
        if magic && !bytes.is_empty() {
            bytes[..8].copy_from_slice(b"ptgtTAPE");
            seal(&mut bytes[..BLOCK_BYTES]);
        }
        let mut disk = Blocks::default();
        disk.write(0, &bytes);
        exercise(&disk, len);
    }
}

#[test]
fn damage_with_a_right_checksum_does_no_harm() {
    let numbers = &mut Numbers(5);
    for round in 0..3000 {
        let mut input = Vec::new();
        for _ in 0..=numbers.below(6) {
            // The heads of structures above all.
            let reach = [130, 400, 8192][numbers.below(3) as usize];
            let place = numbers.below(reach) as u16;
            let value = [0, 1, 0x7f, 0x80, 0xff, numbers.next() as u8][numbers.below(6) as usize];
            let structure = if numbers.one_in(2) { numbers.below(6) } else { numbers.below(256) };
            let [high, low] = place.to_be_bytes();
            input.extend([structure as u8, high, low, numbers.next() as u8, value]);
        }
        let died = std::panic::catch_unwind(|| run_damaged(&input));
        assert!(died.is_ok(), "in round {round}: {input:?}");
    }
}

#[test]
fn one_damaged_copy_of_anything_is_no_harm() {
    let (disk, bytes) = sample();
    let wanted = {
        let (mut deck, _) = Deck::mount(disk.clone(), bytes).expect("it mounts");
        deck.contents(0)
    };
    for pair in [SUPERBLOCKS, CopyPair::anchors(0), ATTRIBUTES] {
        for slot in [0, 1] {
            let mut damaged = disk.clone();
            let mut piece = damaged.read(StoreRange { at: pair.place(slot), len: BLOCK as u32 });
            piece[60] ^= 1;
            damaged.write(pair.place(slot), &piece);
            let (mut deck, _) = Deck::mount(damaged, bytes).expect("it mounts");
            assert_eq!(deck.contents(0), wanted, "{pair:?}, copy {slot}");
            deck.ask(TapeImage::rewrite_head);
            deck.settle();
            let (mut deck, findings) = Deck::mount(deck.disk, bytes).expect("it mounts");
            assert_eq!((findings.damaged_copies, deck.contents(0)), (0, wanted.clone()));
        }
    }
}
