// SPDX-License-Identifier: GPL-2.0-or-later
//! A loss of power after any write, with any of those lost that no flush has covered: what is mounted then is what some
//! order of the commands so far would have made, with all that was acknowledged as stable.

use super::*;

/// What was on a partition after each change, and what of it is promised.
#[derive(Default)]
struct Track {
    /// The number of events before the change, and what is there after it.
    states: Vec<(usize, Rc<[u32]>)>,
    /// From so many events on, that state or a later one is there.
    stable: Vec<(usize, usize)>,
}

impl Track {
    fn now(&self) -> &Rc<[u32]> {
        &self.states.last().expect("there is always one").1
    }

    fn push(&mut self, events: usize, state: Vec<u32>) {
        self.states.push((events, state.into()));
    }

    fn promise(&mut self, events: usize) {
        self.stable.push((events, self.states.len() - 1));
    }

    /// The states that may be found after so many events.
    fn allowed(&self, events: usize) -> &[(usize, Rc<[u32]>)] {
        let first = self.stable.iter().rfind(|stable| stable.0 <= events).map_or(0, |stable| stable.1);
        let behind = self.states.iter().rposition(|state| state.0 < events).map_or(1, |last| last + 1);
        &self.states[first..behind.max(first + 1)]
    }
}

/// The tracks of the partitions that one FORMAT MEDIUM has made.
struct Generation {
    capacities: Vec<u64>,
    tracks: Vec<Track>,
    events: usize,
}

struct Life {
    deck: Deck,
    before: Blocks,
    generations: Vec<Generation>,
    /// Versions of the attributes.
    attributes: Track,
    next: u32,
}

const CAPACITY: u64 = 4 << 20;

fn attribute(version: u32) -> Vec<TapeAttribute> {
    let value = version.to_be_bytes().repeat(1 + version as usize % 3000);
    vec![TapeAttribute { partition: Some(1), identifier: 0x0803, format: 2, value }]
}

fn version(attributes: &[TapeAttribute]) -> u32 {
    let Some(first) = attributes.first() else { return 0 };
    let version = u32::from_be_bytes(*first.value.first_chunk().expect("four bytes"));
    assert_eq!(attributes, attribute(version));
    version
}

impl Life {
    fn new(mut deck: Deck, next: u32) -> Self {
        deck.events.clear();
        let capacities: Vec<_> = deck.image.partitions().iter().map(|area| area.capacity).collect();
        let mut tracks = Vec::new();
        for partition in 0..capacities.len() {
            let mut track = Track::default();
            track.push(0, deck.contents(partition));
            tracks.push(track);
        }
        let mut attributes = Track::default();
        attributes.push(0, vec![version(deck.image.attributes())]);
        let before = deck.disk.clone();
        Self {
            deck,
            before,
            generations: vec![Generation { capacities, tracks, events: 0 }],
            attributes,
            next,
        }
    }

    fn events(&self) -> usize {
        self.deck.events.len()
    }

    fn tracks(&mut self) -> &mut [Track] {
        &mut self.generations.last_mut().expect("there is always one").tracks
    }

    fn promise_all(&mut self) {
        let events = self.events();
        self.tracks().iter_mut().for_each(|track| track.promise(events));
    }

    /// Opens the log there, as the model sees it.
    fn begin(&mut self, partition: usize, at: usize) {
        let (events, end) = (self.events(), self.deck.image.end(partition).lba as usize);
        if at < end {
            let mut cut = self.tracks()[partition].now().to_vec();
            cut.truncate(at);
            self.tracks()[partition].push(events, cut);
        }
        self.deck.begin(partition, at as u64);
        let events = self.events();
        if at < end {
            self.tracks()[partition].promise(events);
        }
    }

    fn write(&mut self, partition: usize, number: u32, numbers: &mut Numbers) {
        let events = self.events();
        let done = match number {
            MARK => self.deck.image.append_filemarks(partition, 1),
            _ => self.deck.append(partition, &payload(number, length(numbers))),
        };
        if done.is_ok() {
            let mut more = self.tracks()[partition].now().to_vec();
            more.push(number);
            self.tracks()[partition].push(events, more);
        }
        self.deck.settle();
    }

    fn command(&mut self, numbers: &mut Numbers) {
        let partitions = self.tracks().len();
        let partition = numbers.below(partitions as u64) as usize;
        let end = self.deck.image.end(partition).lba as usize;
        let at = if numbers.one_in(3) { numbers.below(end as u64 + 1) as usize } else { end };
        match numbers.below(24) {
            0..12 => {
                self.begin(partition, at);
                for _ in 0..=numbers.below(8) {
                    self.next += 1;
                    self.write(partition, self.next, numbers);
                }
            }
            12..17 => {
                self.begin(partition, at);
                for _ in 0..=numbers.below(3) {
                    self.write(partition, MARK, numbers);
                }
                if numbers.one_in(2) {
                    self.deck.image.sync();
                    self.deck.settle();
                    self.promise_all();
                }
            }
            17..19 => {
                self.deck.image.sync();
                self.deck.settle();
                self.promise_all();
            }
            19 => {
                self.deck.image.checkpoint();
                self.deck.settle();
                self.promise_all();
            }
            20 => self.begin(partition, at),
            21 | 22 => {
                let events = self.events();
                self.next += 1;
                self.attributes.push(events, vec![self.next]);
                assert!(self.deck.image.set_attributes(attribute(self.next)));
                self.deck.settle();
                let events = self.events();
                self.attributes.promise(events);
            }
            _ if numbers.one_in(3) => self.format(1 + numbers.below(4)),
            _ => {}
        }
    }

    fn format(&mut self, partitions: u64) {
        let events = self.events();
        // Each time others, so that they tell which format it was.
        self.next += 1;
        let unit = CAPACITY / 2 / partitions / BLOCK * BLOCK;
        let mut capacities = vec![unit; partitions as usize];
        capacities[0] += u64::from(self.next % 500) * BLOCK / partitions;
        assert!(self.deck.image.format(&capacities, self.deck.bytes), "{capacities:?}");
        let track = || {
            let mut track = Track::default();
            track.push(events, Vec::new());
            track
        };
        let tracks = capacities.iter().map(|_| track()).collect();
        self.generations.push(Generation { capacities, tracks, events });
        self.deck.settle();
        self.promise_all();
    }

    /// The store after a loss of power behind so many events.
    fn crash(&self, events: usize, numbers: &mut Numbers) -> Blocks {
        let mut disk = self.before.clone();
        let done = &self.deck.events[..events];
        let flushed = done.iter().rposition(|event| matches!(event, StoreEvent::Flush)).unwrap_or(0);
        let chance = numbers.below(4);
        for (number, event) in done.iter().enumerate() {
            let StoreEvent::Write(at, bytes) = event else { continue };
            if number < flushed || chance == 3 || numbers.below(3) < chance {
                disk.write(*at, bytes);
            } else if numbers.one_in(2) {
                // Any of its sectors.
                let range = StoreRange { at: *at, len: bytes.len() as u32 };
                let mut torn = disk.read(range);
                for (to, from) in torn.chunks_mut(512).zip(bytes.chunks(512)) {
                    if numbers.one_in(2) {
                        to.copy_from_slice(from);
                    }
                }
                disk.write(*at, &torn);
            }
        }
        disk
    }

    fn check(&self, events: usize, disk: &Blocks) -> Deck {
        let (mut deck, _) = Deck::mount(disk.clone(), self.deck.bytes)
            .unwrap_or_else(|e| panic!("after {events} events: {e}"));
        let capacities: Vec<_> = deck.image.partitions().iter().map(|area| area.capacity).collect();
        let number = self.generations.iter().rposition(|generation| generation.capacities == capacities);
        let number = number.expect("partitions that were made");
        let generation = &self.generations[number];
        assert!(number == 0 || generation.events < events, "a format that was not yet begun");
        if let Some(next) = self.generations.get(number + 1) {
            let stable = next.tracks[0].stable.first();
            assert!(stable.is_none_or(|stable| stable.0 > events), "a format that is forgotten");
        }
        for (partition, track) in generation.tracks.iter().enumerate() {
            let found = deck.contents(partition);
            let allowed = track.allowed(events);
            assert!(
                allowed.iter().any(|state| *state.1 == *found),
                "after {events} events, partition {partition}: {found:?} is none of {allowed:?}"
            );
        }
        let found = version(deck.image.attributes());
        let allowed = self.attributes.allowed(events);
        assert!(allowed.iter().any(|state| *state.1 == [found]), "attributes: {found}, not {allowed:?}");
        deck
    }
}

/// Some lives of a tape, each of which ends with a loss of power.
pub(super) fn live(seed: u64) {
    let numbers = &mut Numbers(seed);
    let mut life = Life::new(Deck::create(&[CAPACITY / 2, CAPACITY / 4][..1 + seed as usize % 2]), 0);
    for _ in 0..3 {
        for _ in 0..=numbers.below(12) {
            life.command(numbers);
        }
        for events in 0..=life.events() {
            let disk = life.crash(events, numbers);
            life.check(events, &disk);
        }
        let events = numbers.below(life.events() as u64 + 1) as usize;
        let disk = life.crash(events, numbers);
        let deck = life.check(events, &disk);
        life = Life::new(deck, life.next);
    }
}

#[test]
fn every_prefix_of_the_writes_mounts_as_something_that_was_there() {
    let seeds = std::env::var("PTGT_TAPE_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(150);
    for seed in 0..seeds {
        let died = std::panic::catch_unwind(|| live(seed));
        assert!(died.is_ok(), "with seed {seed}");
    }
}
