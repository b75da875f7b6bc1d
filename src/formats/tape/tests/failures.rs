// SPDX-License-Identifier: GPL-2.0-or-later
//! Writes that fail: what was there before stays readable, and what is lost is lost from the end.

use super::*;

/// A store that fails now and then, under a log that is appended to. Each failure is followed by a look at what is
/// there.
fn write_with_failures(seed: u64) {
    let numbers = &mut Numbers(seed);
    let mut deck = Deck::create(&[1 << 30]);
    let (mut model, mut stable, mut next) = (Vec::new(), 0, 0);
    for _ in 0..60 {
        deck.ask(|image| image.begin(0, model.len() as u64));
        // The steps, of which one may fail.
        let good = steps(&mut deck, numbers);
        if good {
            let before = model.len() as u64;
            // Now and then as many as fill packed blocks.
            let most = if numbers.one_in(8) { 300 } else { 8 };
            for _ in 0..numbers.below(most) {
                next += 1;
                let bytes = payload(next, length(numbers) % 9000 + 4);
                let record = header(&bytes);
                let lba = model.len() as u64;
                model.push(next);
                if record.stored <= INLINE_MAX {
                    deck.image.append_inline(0, &record, &bytes).expect("room");
                    continue;
                }
                let range = deck.image.append(0, &record).expect("room");
                if numbers.one_in(most) {
                    // It, or one that was appended before it since the last step.
                    let lba = lba - numbers.below(model.len() as u64 - before).min(lba - before);
                    deck.image.lose(0, lba);
                    model.truncate(lba as usize);
                    assert_eq!(deck.contents(0), model, "it is lost, and what follows it");
                    continue;
                }
                let mut padded = bytes.clone();
                padded.resize(bytes.len().next_multiple_of(BLOCK_BYTES), 0);
                deck.put(range.at, &padded);
            }
        }
        if good {
            let checkpoint = numbers.one_in(2);
            match checkpoint {
                true => deck.image.checkpoint(),
                false => deck.image.sync(),
            }
            if steps(&mut deck, numbers) {
                stable = model.len();
            }
        }
        let found = deck.contents(0);
        assert_eq!(found, model[..found.len()], "what is lost is a suffix");
        assert!(found.len() >= stable, "{} of {stable} that were stable", found.len());
        model.truncate(found.len());
        if numbers.one_in(6) {
            let (again, _) = Deck::mount(deck.disk.clone(), deck.bytes).expect("it mounts");
            deck = again;
            let found = deck.contents(0);
            assert!(found.len() >= stable && found.len() <= next as usize);
            assert_eq!(found[..stable], model[..stable], "what was stable is there");
            model = found;
        }
    }
}

/// Does the steps; one in so many fails, and is done, half done or not done nevertheless.
fn steps(deck: &mut Deck, numbers: &mut Numbers) -> bool {
    while let Some(step) = deck.image.next_step() {
        let fails = numbers.one_in(25);
        if let TapeStep::Write { at, bytes } = step {
            let (at, mut bytes) = (*at, bytes.clone());
            if fails && numbers.one_in(2) {
                let half = bytes.len() / 2;
                let range = StoreRange { at, len: bytes.len() as u32 };
                bytes[half..].copy_from_slice(&deck.disk.read(range)[half..]);
            }
            if !fails || numbers.one_in(2) {
                deck.put(at, &bytes);
            }
        }
        deck.image.step_done(!fails);
        if fails {
            assert_eq!(deck.image.next_step(), None, "the others are given up");
            return false;
        }
    }
    true
}

#[test]
fn a_failed_write_loses_a_suffix_and_no_more() {
    for seed in 0..30 {
        let died = std::panic::catch_unwind(|| write_with_failures(seed));
        assert!(died.is_ok(), "with seed {seed}");
    }
}

#[test]
fn a_full_partition_takes_filemarks_and_keeps_what_it_has() {
    let mut deck = Deck::create(&[1 << 20]);
    deck.begin(0, 0);
    let mut count = 0;
    while deck.append(0, &payload(count, 30_000)).is_ok() {
        count += 1;
    }
    assert!(count * 30_000 >= 1 << 20, "the capacity finds room: {count} records");
    assert_eq!(deck.append(0, &payload(count, 30_000)), Err(AppendError::Full));
    for _ in 0..40 {
        deck.image.append_filemarks(0, 1).expect("room for filemarks");
        deck.image.sync();
        deck.settle();
    }
    let (mut again, _) = Deck::mount(deck.disk, deck.bytes).expect("it mounts");
    let found = again.contents(0);
    assert_eq!(found.len() as u32, count + 40);
    assert!(found.starts_with(&(0..count).collect::<Vec<_>>()));
}
