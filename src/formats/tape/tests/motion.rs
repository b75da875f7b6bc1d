// SPDX-License-Identifier: GPL-2.0-or-later
//! SPACE and LOCATE against a model that counts.

use super::*;

/// What a plain walk over a list does.
fn walk(model: &[u32], from: u64, count: i64, marks: bool) -> TapeMotion {
    let (mut lba, mut moved) = (from, 0);
    while moved < count.unsigned_abs() {
        let next = if count > 0 { Some(lba) } else { lba.checked_sub(1) };
        let Some(next) = next else {
            return TapeMotion { lba, moved, stopped: Some(MotionStop::Beginning) };
        };
        let Some(object) = model.get(next as usize) else {
            return TapeMotion { lba, moved, stopped: Some(MotionStop::EndOfData) };
        };
        lba = if count > 0 { lba + 1 } else { next };
        match (*object == MARK, marks) {
            (true, false) => return TapeMotion { lba, moved, stopped: Some(MotionStop::Filemark) },
            (false, true) => {}
            _ => moved += 1,
        }
    }
    TapeMotion { lba, moved, stopped: None }
}

/// A tape with whatever there may be on it, and the model of it.
pub(super) fn tape(seed: u64, commands: usize) -> (Deck, Vec<u32>) {
    let numbers = &mut Numbers(seed);
    let mut deck = Deck::create(&[64 << 20]);
    let mut model: Vec<u32> = Vec::new();
    let mut next = 0;
    for _ in 0..commands {
        let at = if numbers.one_in(4) { numbers.below(model.len() as u64 + 1) } else { model.len() as u64 };
        // Not too much of it is given up.
        let at = at.max((model.len() as u64).saturating_sub(40));
        deck.begin(0, at);
        model.truncate(at as usize);
        match numbers.below(4) {
            0 => {
                let count = 1 + numbers.below(5) as u32;
                deck.image.append_filemarks(0, count).expect("room");
                model.extend(vec![MARK; count as usize]);
            }
            1 => deck.image.sync(),
            2 if numbers.one_in(4) => deck.image.checkpoint(),
            _ => {
                for _ in 0..numbers.below(30) {
                    next += 1;
                    let len = if numbers.one_in(9) { 4200 } else { 4 + numbers.below(300) as u32 };
                    deck.append(0, &payload(next, len)).expect("room");
                    model.push(next);
                }
            }
        }
        deck.settle();
    }
    (deck, model)
}

fn moves_as_the_model(deck: &mut Deck, model: &[u32], numbers: &mut Numbers) {
    for _ in 0..150 {
        let from = numbers.below(model.len() as u64 + 1);
        let count = numbers.below(60).cast_signed() - 30;
        let moved = deck.ask(|image| image.space_records(0, from, count));
        assert_eq!(moved, walk(model, from, count, false), "records: {from} {count}");
        let moved = deck.ask(|image| image.space_filemarks(0, from, count));
        let wanted = walk(model, from, count, true);
        assert_eq!(moved, wanted, "filemarks: {from} {count}");
        let before = model[..from as usize].iter().filter(|object| **object == MARK).count() as u64;
        assert_eq!(deck.ask(|image| image.file_of(0, from)), before);
        let file = deck.ask(|image| image.locate_file(0, before));
        assert_eq!(file, Some(walk(model, 0, before.cast_signed(), true).lba));
    }
    for count in [i64::MIN, i64::MAX] {
        deck.ask(|image| image.space_records(0, 3, count));
        deck.ask(|image| image.space_filemarks(0, 3, count));
    }
}

#[test]
fn motion_over_records_and_filemarks_is_that_of_a_plain_walk() {
    for seed in 0..40 {
        let (mut deck, model) = tape(seed, 60);
        let numbers = &mut Numbers(!seed);
        moves_as_the_model(&mut deck, &model, numbers);
        deck.image.sync();
        deck.settle();
        let (mut again, _) = Deck::mount(deck.disk, deck.bytes).expect("it mounts");
        moves_as_the_model(&mut again, &model, numbers);
    }
}
