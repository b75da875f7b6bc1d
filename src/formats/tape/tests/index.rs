// SPDX-License-Identifier: GPL-2.0-or-later
//! The index: it says what the log says, it is small and fast, and one that is damaged is made again.

use std::time::{Duration, Instant};

use super::*;

#[test]
fn a_damaged_index_is_made_again_from_the_log() {
    for seed in 0..4 {
        let (mut deck, mut model) = motion::tape(seed, 100);
        // Each overwrite makes a run.
        for number in 0..800 {
            let at = model.len() - number as usize % 2;
            deck.begin(0, at as u64);
            model.truncate(at);
            for number in [number, number + 1] {
                deck.append(0, &payload(number, 5)).expect("room");
                model.push(number);
            }
            deck.image.sync();
            deck.settle();
        }
        deck.image.checkpoint();
        deck.settle();
        let area = deck.image.partitions()[0];
        let pages: Vec<u64> =
            deck.disk.numbers().filter(|block| (area.index..area.log).contains(block)).collect();
        assert!(!pages.is_empty(), "a log with a page of its index: seed {seed}");
        let wanted = deck.contents(0);
        assert_eq!(wanted, model);
        let (mut whole, findings) = Deck::mount(deck.disk.clone(), deck.bytes).expect("it mounts");
        assert_eq!((findings.rebuilt, whole.contents(0)), (vec![], wanted.clone()));
        // Another page of the same log, which is whole: an older one, or one that went to a wrong place.
        let mut stale = deck.disk.read(StoreRange { at: pages[0] * BLOCK, len: BLOCK as u32 });
        stale[64 + 5 * 24 + 23] ^= 1;
        layout::seal(&mut stale);
        for bytes in [vec![0; BLOCK_BYTES], stale] {
            let mut disk = deck.disk.clone();
            disk.write(pages[0] * BLOCK, &bytes);
            let (mut rebuilt, findings) = Deck::mount(disk, deck.bytes).expect("it mounts");
            assert_eq!(findings.rebuilt, [0], "seed {seed}");
            assert_eq!(rebuilt.contents(0), wanted);
            // What is written next makes it whole.
            rebuilt.begin(0, wanted.len() as u64);
            let (mut again, findings) = Deck::mount(rebuilt.disk, rebuilt.bytes).expect("it mounts");
            assert_eq!((findings.rebuilt, again.contents(0)), (vec![], wanted.clone()));
        }
    }
}

#[test]
fn a_packed_block_that_is_not_what_the_index_says_is_told() {
    let (mut deck, _) = motion::tape(3, 60);
    deck.image.checkpoint();
    deck.settle();
    let first = deck.image.partitions()[0].log;
    let (other, _) = motion::tape(4, 60);
    deck.disk
        .write(first * BLOCK, &other.disk.read(StoreRange { at: (first + 1) * BLOCK, len: BLOCK as u32 }));
    let (mut again, _) = Deck::mount(deck.disk, deck.bytes).expect("it mounts");
    let damaged = Unanswered::Damaged { partition: 0, at: first * BLOCK };
    assert_eq!(again.try_ask(|image| image.find(0, 0)), Err(damaged));
}

#[test]
fn a_large_log_mounts_and_is_searched_with_few_reads() {
    const MARK_EACH: u64 = 10;
    // With more, it takes too long for every day, and is worth the clock.
    let many = std::env::var("PTGT_TAPE_RECORDS").ok().and_then(|many| many.parse().ok());
    let records: u64 = many.unwrap_or(200_000);
    let mut deck = Deck::create(&[1 << 40]);
    deck.begin(0, 0);
    let record = RecordHeader { logical: 65_536, stored: 65_536, form: 0, sum: 0 };
    let mut blocks = 0;
    for number in 0..records {
        match number % MARK_EACH {
            0 => deck.image.append_filemarks(0, 1).expect("room"),
            // Of the payload nothing is read: it lies before the last anchor.
            _ => _ = deck.image.append(0, &record).expect("room"),
        }
        blocks += deck.image.next_step().map_or(0, |_| 1);
        deck.settle();
        deck.events.clear();
        if deck.image.checkpoint_due() {
            deck.image.checkpoint();
            deck.settle();
        }
    }
    deck.image.checkpoint();
    deck.settle();
    let begin = Instant::now();
    let (mut again, findings) = Deck::mount(deck.disk, deck.bytes).expect("it mounts");
    let mounted = begin.elapsed();
    let mut times = [Vec::new(), Vec::new()];
    assert_eq!((again.image.end(0).lba, findings.recovered), (records, 0));
    assert!(
        blocks > 2000 && (many.is_some() || again.reads.get() <= 4),
        "{:?} reads for {blocks} packed blocks",
        again.reads
    );
    let numbers = &mut Numbers(1);
    for _ in 0..300 {
        let before = again.reads.get();
        let lba = numbers.below(records);
        let begin = Instant::now();
        let object = again.ask(|image| image.find(0, lba)).expect("there is one");
        times[0].push(begin.elapsed());
        assert_eq!(matches!(object, TapeObject::Filemark), lba.is_multiple_of(MARK_EACH));
        let marks = records / MARK_EACH;
        let begin = Instant::now();
        let moved = again.ask(|image| image.space_filemarks(0, lba, marks.cast_signed() / 3));
        times[1].push(begin.elapsed());
        let before_it = lba.div_ceil(MARK_EACH);
        let wanted = (before_it + marks / 3 - 1) * MARK_EACH + 1;
        assert_eq!(moved.lba, if wanted <= records { wanted } else { records });
        let reads = again.reads.get() - before;
        assert!(reads <= 3 * 16, "{reads} reads");
    }
    // But for those few in which somebody else had the processor.
    let [locate, space] = times.map(|mut times| {
        times.sort_unstable();
        times[times.len() * 98 / 100]
    });
    println!("{records} objects: mounted in {mounted:?}; LOCATE within {locate:?}, SPACE within {space:?}");
    let (second, soon) = (Duration::from_secs(1), Duration::from_millis(10));
    assert!(many.is_none() || mounted < second && locate.max(space) < soon);
}
