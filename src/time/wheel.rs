// SPDX-License-Identifier: GPL-2.0-or-later
//! A timer wheel: when each of many things wants to be woken, at a cost that does not grow with their number.
//!
//! It has a level per six bits of the time in microseconds, of 64 slots each, so that it reaches as far as [`Instant`]
//! does. A key lies in the level of the highest digit in which its time differs from the present, in the slot of that
//! digit; when that slot's time comes it moves to a lower level, at most once per level (Varghese and Lauck, 1987,
//! scheme 7).

use super::Instant;

/// Bits of a digit.
const DIGIT: usize = 6;

/// Slots of a level.
const SLOTS: usize = 1 << DIGIT;

/// A tick is a microsecond, and there are less than 2^55 of them.
const TICK: u64 = 1000;
const LEVELS: usize = 10;

/// No key.
const NONE: u32 = u32::MAX;

/// What is known of a key; it lies in a list of those of its slot.
#[derive(Clone, Copy, Debug)]
struct Node {
    /// In ticks, rounded up; `None` if it is in no list.
    at: Option<u64>,
    /// Its slot, counted over all levels.
    slot: usize,
    next: u32,
    previous: u32,
}

/// When to wake keys, which are small numbers, such as those of a slab. A key has one time at most.
#[derive(Debug)]
pub struct Wheel {
    /// What has passed, in ticks.
    now: u64,
    nodes: Vec<Node>,
    /// The first key of each slot.
    slots: [u32; LEVELS * SLOTS],
    /// Which slots of a level have keys, and which levels.
    occupied: [u64; LEVELS],
    levels: u32,
}

impl Default for Wheel {
    fn default() -> Self {
        Self::new()
    }
}

impl Wheel {
    /// One without keys. It has room for as many as it has ever had at once, the highest key counting.
    pub fn new() -> Self {
        Self { now: 0, nodes: Vec::new(), slots: [NONE; LEVELS * SLOTS], occupied: [0; LEVELS], levels: 0 }
    }

    /// Wakes `key` at `at`, or earlier if that was asked for before: whoever is woken looks whether it is time, and
    /// asks again if not. So a deadline that is put off again and again costs nothing.
    pub fn wake_at(&mut self, key: usize, at: Instant) {
        let tick = at.as_nanos().div_ceil(TICK);
        match self.nodes.get(key) {
            Some(Node { at: Some(earlier), .. }) if *earlier <= tick => return,
            Some(_) => self.forget(key),
            None => {
                let idle = Node { at: None, slot: 0, next: NONE, previous: NONE };
                self.nodes.resize(key + 1, idle);
            }
        }
        self.insert(key, tick);
    }

    /// Forgets that `key` was to be woken.
    pub fn forget(&mut self, key: usize) {
        let Some(node) = self.nodes.get_mut(key) else { return };
        if node.at.take().is_none() {
            return;
        }
        let Node { slot, next, previous, .. } = *node;
        if next != NONE {
            self.nodes[next as usize].previous = previous;
        }
        if previous == NONE {
            self.lead(slot, next);
        } else {
            self.nodes[previous as usize].next = next;
        }
    }

    /// A key whose time has come; it is forgotten. To be called until there is none.
    pub fn expired(&mut self, now: Instant) -> Option<usize> {
        let present = now.as_nanos() / TICK;
        loop {
            let Some((slot, begin)) = self.first().filter(|(_, begin)| *begin <= present) else {
                self.now = self.now.max(present);
                return None;
            };
            // Nothing lies before, so all that stays keeps its place.
            self.now = begin;
            let mut key = self.slots[slot];
            if slot < SLOTS {
                self.forget(key as usize);
                return Some(key as usize);
            }
            self.lead(slot, NONE);
            while key != NONE {
                let Node { at, next, .. } = self.nodes[key as usize];
                self.insert(key as usize, at.expect("it was in a list"));
                key = next;
            }
        }
    }

    /// When [`Wheel::expired`] has something to do: not after the earliest time, perhaps before.
    pub fn next(&self) -> Option<Instant> {
        self.first().map(|(_, begin)| Instant::from_nanos(begin.saturating_mul(TICK)))
    }

    /// The slot of the earliest keys, and when it begins, in ticks.
    fn first(&self) -> Option<(usize, u64)> {
        if self.levels == 0 {
            return None;
        }
        let level = self.levels.trailing_zeros() as usize;
        let digit = self.occupied[level].trailing_zeros() as usize;
        let above = DIGIT * (level + 1);
        let begin = self.now >> above << above | (digit as u64) << (DIGIT * level);
        Some((level * SLOTS + digit, begin))
    }

    fn insert(&mut self, key: usize, at: u64) {
        // What is late has the present slot.
        let place = at.max(self.now);
        let level = ((place ^ self.now) | 1).ilog2() as usize / DIGIT;
        let slot = level * SLOTS + (place >> (DIGIT * level)) as usize % SLOTS;
        let next = self.slots[slot];
        if next != NONE {
            self.nodes[next as usize].previous = key as u32;
        }
        self.nodes[key] = Node { at: Some(at), slot, next, previous: NONE };
        self.lead(slot, key as u32);
    }

    /// Puts a key, or nothing, at the head of a slot.
    fn lead(&mut self, slot: usize, key: u32) {
        let (level, bit) = (slot / SLOTS, 1 << (slot % SLOTS));
        self.slots[slot] = key;
        if key == NONE {
            self.occupied[level] &= !bit;
            self.levels &= !(u32::from(self.occupied[level] == 0) << level);
        } else {
            self.occupied[level] |= bit;
            self.levels |= 1 << level;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn micros(micros: u64) -> Instant {
        Instant::from_nanos(micros * TICK)
    }

    #[test]
    fn the_earlier_of_two_times_counts() {
        let mut wheel = Wheel::new();
        wheel.wake_at(3, micros(100));
        wheel.wake_at(3, micros(50));
        wheel.wake_at(3, micros(70));
        assert_eq!(wheel.expired(micros(49)), None);
        assert_eq!(wheel.expired(micros(50)), Some(3));
        assert_eq!(wheel.expired(micros(1000)), None);
        assert_eq!(wheel.next(), None);
    }

    #[test]
    fn no_key_is_woken_early_and_what_is_late_at_once() {
        let mut wheel = Wheel::new();
        wheel.wake_at(0, Instant::from_nanos(1500));
        assert_eq!(wheel.expired(Instant::from_nanos(1999)), None, "a tick is rounded up");
        assert_eq!(wheel.expired(Instant::from_nanos(2000)), Some(0));
        assert_eq!(wheel.expired(micros(1_000_000)), None);
        wheel.wake_at(0, micros(7));
        assert_eq!(wheel.expired(micros(1_000_000)), Some(0));
    }

    #[test]
    fn it_reaches_to_the_end_of_time() {
        let mut wheel = Wheel::new();
        let end = micros(u64::MAX / TICK);
        wheel.wake_at(0, end);
        assert_eq!(wheel.expired(micros(1)), None);
        let mut steps = 0;
        // Time goes by as a reactor lets it: from deadline to deadline.
        while wheel.expired(wheel.next().expect("it waits")).is_none() {
            steps += 1;
        }
        assert!(steps < LEVELS, "{steps} levels");
    }

    proptest! {
        /// Against a map that is searched whole.
        #[test]
        fn keys_are_woken_when_a_search_would_wake_them(
            steps in prop::collection::vec((0..12_usize, 0..4_u8, 0..40_u32, any::<u64>()), 1..200)
        ) {
            let mut wheel = Wheel::new();
            let mut model = BTreeMap::<usize, u64>::new();
            let mut now = 0_u64;
            for (key, what, bits, random) in steps {
                let far = random & ((1 << bits) - 1);
                match what {
                    0 | 1 => {
                        // Times in the past, too.
                        let at = (now + far).saturating_sub(1000);
                        wheel.wake_at(key, micros(at));
                        let old = model.entry(key).or_insert(at);
                        *old = at.min(*old);
                    }
                    2 => {
                        wheel.forget(key);
                        model.remove(&key);
                    }
                    _ => {
                        now += far;
                        let mut woken = Vec::new();
                        while let Some(key) = wheel.expired(micros(now)) {
                            woken.push(key);
                        }
                        woken.sort_unstable();
                        let due: Vec<usize> = model.extract_if(.., |_, at| *at <= now).map(|(key, _)| key).collect();
                        prop_assert_eq!(woken, due);
                    }
                }
                let earliest = model.values().min().map(|at| micros(*at));
                prop_assert!(wheel.next().is_some() == earliest.is_some());
                prop_assert!(wheel.next() <= earliest.map(|at| at.max(micros(now))));
            }
        }
    }
}
