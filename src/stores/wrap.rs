// SPDX-License-Identifier: GPL-2.0-or-later
//! A store around another that is slow and makes errors by rule, to qualify initiators.
//!
//! An operation reaches the store within at once and only its completion is held back, so that whatever waits for the
//! end of earlier operations still does. One that is to fail does not reach it. Chance is a function of the seed, the rule
//! and how many operations the rule has fitted so far, on whatever core: the same operations in the same order fare alike.

use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::os::fd::RawFd;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::{Backing, Local};
use crate::io::{Done, Error, ErrorKind, Geometry, Health, Op, Store, Submitted, Tag};
use crate::memory::Lease;
use crate::sys;
use crate::time::Instant;

/// Which operations a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operations {
    /// All.
    Any,
    /// Reads.
    Read,
    /// Whatever writes data: also of compare and write, and of write same.
    Write,
    /// Flushes, which have no place.
    Flush,
    /// Deallocation and anchoring.
    Unmap,
}

impl Operations {
    /// In the order in which the configuration names them.
    pub const ALL: [Self; 5] = [Self::Any, Self::Read, Self::Write, Self::Flush, Self::Unmap];
}

/// What a rule makes of an operation beside the delay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Nothing: it is only slow.
    None,
    /// The medium does not give the bytes, or does not take them.
    Medium,
    /// There is no space left.
    Space,
    /// The medium may not be written.
    Protected,
    /// No memory for the moment.
    Busy,
}

impl Failure {
    /// In the order in which the configuration names them.
    pub const ALL: [Self; 5] = [Self::None, Self::Medium, Self::Space, Self::Protected, Self::Busy];

    fn kind(self, reads: bool) -> Option<ErrorKind> {
        match self {
            Self::None => None,
            Self::Medium if reads => Some(ErrorKind::ReadFailed),
            Self::Medium => Some(ErrorKind::WriteFailed),
            Self::Space => Some(ErrorKind::NoSpace),
            Self::Protected => Some(ErrorKind::ReadOnly),
            Self::Busy => Some(ErrorKind::NoMemory),
        }
    }
}

/// What happens to which operations. Of several rules that fit, the delays add up and the first failure counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Which.
    pub operations: Operations,
    /// Those that touch these bytes.
    pub bytes: Range<u64>,
    /// How they end.
    pub failure: Failure,
    /// How much later, at least.
    pub delay: Duration,
    /// How much of a delay chance adds, at most.
    pub jitter: Duration,
    /// One in so many of those that fit, on average; the others are left alone.
    pub one_in: u64,
    /// So many of those that fit are left alone first.
    pub after: u64,
    /// Most that it happens to; `None` for no end.
    pub times: Option<u64>,
}

struct Counted {
    rule: Rule,
    fitted: AtomicU64,
    happened: AtomicU64,
}

struct Faults {
    seed: u64,
    rules: Vec<Counted>,
}

/// What becomes of an operation.
#[derive(Debug, Default, PartialEq)]
struct Fate {
    error: Option<Error>,
    delay: Duration,
}

/// A number that looks like chance (splitmix64).
fn mix(mut n: u64) -> u64 {
    n = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    n = (n ^ n >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    n = (n ^ n >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ n >> 31
}

impl Faults {
    fn fate(&self, op: &Op) -> Fate {
        let (kind, at, len) = match op {
            Op::Read { at, len, .. } => (Operations::Read, *at, u64::from(*len)),
            Op::Extent { at } => (Operations::Read, *at, 1),
            Op::Write { at, data, .. } | Op::CompareAndWrite { at, data, .. } => {
                (Operations::Write, *at, data.len() as u64)
            }
            Op::WriteSame { at, len, .. } => (Operations::Write, *at, *len),
            Op::Unmap { at, len } | Op::Anchor { at, len } => (Operations::Unmap, *at, *len),
            Op::Flush => (Operations::Flush, 0, 0),
        };
        let mut fate = Fate::default();
        for (index, counted) in self.rules.iter().enumerate() {
            let Rule { operations, bytes, failure, delay, jitter, one_in, after, times } = &counted.rule;
            let touches = at < bytes.end && bytes.start < at.saturating_add(len);
            if ![Operations::Any, kind].contains(operations) || kind != Operations::Flush && !touches {
                continue;
            }
            // Relaxed: each count stands for itself.
            let number = counted.fitted.fetch_add(1, Ordering::Relaxed);
            let chance = mix(self.seed ^ mix(index as u64) ^ mix(number).rotate_left(32));
            if number < *after || !chance.is_multiple_of((*one_in).max(1)) {
                continue;
            }
            let happened = counted.happened.fetch_add(1, Ordering::Relaxed);
            if times.is_some_and(|times| happened >= times) {
                continue;
            }
            let jitter = u64::try_from(jitter.as_nanos()).unwrap_or(u64::MAX);
            fate.delay += *delay + Duration::from_nanos(mix(chance) % jitter.saturating_add(1));
            if let Some(kind) = failure.kind(kind == Operations::Read) {
                let first = if kind == ErrorKind::NoMemory { at } else { at.max(bytes.start) };
                fate.error = fate.error.or(Some(Error { kind, at: first }));
            }
        }
        fate
    }
}

pub(super) struct Wrapped {
    inner: Arc<dyn Backing>,
    faults: Arc<Faults>,
}

impl Wrapped {
    pub(super) fn new(inner: Arc<dyn Backing>, seed: u64, rules: Vec<Rule>) -> Self {
        let counted = |rule| Counted { rule, fitted: AtomicU64::new(0), happened: AtomicU64::new(0) };
        let rules = rules.into_iter().map(counted).collect();
        Self { inner, faults: Arc::new(Faults { seed, rules }) }
    }
}

impl Backing for Wrapped {
    fn attach(&self, local: &Local) -> io::Result<Box<dyn Store>> {
        let inner = self.inner.attach(local)?;
        let faults = self.faults.clone();
        Ok(Box::new(Handle { inner, faults, slow: HashMap::new(), late: Vec::new(), ended: Vec::new() }))
    }

    fn region(&self) -> Option<(NonNull<u8>, usize)> {
        self.inner.region()
    }
}

/// A completion that is held back. There is one per operation of the caller at most.
struct Late {
    due: Instant,
    tag: Tag,
    done: Done,
}

struct Handle {
    inner: Box<dyn Store>,
    faults: Arc<Faults>,
    /// Operations under way within, and when their completions may be told.
    slow: HashMap<Tag, Instant>,
    late: Vec<Late>,
    ended: Vec<(Tag, Done)>,
}

fn now() -> Instant {
    Instant::from_nanos(sys::monotonic())
}

impl Store for Handle {
    fn geometry(&self) -> Geometry {
        self.inner.geometry()
    }

    fn submit(&mut self, tag: Tag, op: Op) -> Submitted {
        let Fate { error, delay } = self.faults.fate(&op);
        if error.is_none() && delay.is_zero() {
            return self.inner.submit(tag, op);
        }
        let due = now() + delay;
        let submitted = match error {
            Some(error) => Submitted::Done(Done::Failed(error)),
            None => self.inner.submit(tag, op),
        };
        match submitted {
            Submitted::Done(done) if !delay.is_zero() => self.late.push(Late { due, tag, done }),
            Submitted::Queued => _ = self.slow.insert(tag, due),
            other => return other,
        }
        Submitted::Queued
    }

    fn poll(&mut self, done: &mut Vec<(Tag, Done)>) -> usize {
        let before = done.len();
        let mut ended = std::mem::take(&mut self.ended);
        self.inner.poll(&mut ended);
        for (tag, end) in ended.drain(..) {
            match self.slow.remove(&tag) {
                Some(due) => self.late.push(Late { due, tag, done: end }),
                None => done.push((tag, end)),
            }
        }
        self.ended = ended;
        if !self.late.is_empty() {
            let now = now();
            self.late.sort_by_key(|late| late.due);
            let due = self.late.partition_point(|late| late.due <= now);
            done.extend(self.late.drain(..due).map(|late| (late.tag, late.done)));
        }
        done.len() - before
    }

    fn commit(&mut self) {
        self.inner.commit();
    }

    fn inspect(&mut self) -> Health {
        self.inner.inspect()
    }

    fn must_poll(&self) -> bool {
        self.inner.must_poll()
    }

    fn next_deadline(&self) -> Option<Instant> {
        self.late.iter().map(|late| late.due).min()
    }

    fn lease(&self) -> Option<Lease> {
        self.inner.lease()
    }

    fn wake_fd(&self) -> Option<RawFd> {
        self.inner.wake_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::Landing;
    use crate::memory::{Arena, Sg};

    fn rule() -> Rule {
        Rule {
            operations: Operations::Any,
            bytes: 0..u64::MAX,
            failure: Failure::Medium,
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            one_in: 1,
            after: 0,
            times: None,
        }
    }

    fn store(seed: u64, rules: Vec<Rule>) -> Box<dyn Store> {
        let ram = super::super::ram(1 << 20, 512, false).unwrap();
        let local = Local::new(Arena::new(2 << 20, false).unwrap()).unwrap();
        super::super::wrapped(ram, seed, rules).attach(&local).unwrap()
    }

    fn read(at: u64, len: u32) -> Op {
        Op::Read { at, len, into: Landing::Own }
    }

    fn write(at: u64, len: usize) -> Op {
        let data = Sg::copied(&Arena::new(2 << 20, false).unwrap(), &vec![7; len]).unwrap();
        Op::Write { at, data, fua: false }
    }

    fn error(submitted: Submitted) -> Option<(ErrorKind, u64)> {
        match submitted {
            Submitted::Done(Done::Failed(Error { kind, at })) => Some((kind, at)),
            Submitted::Done(_) => None,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn errors_come_where_the_rule_says() {
        let bad = Rule { bytes: 4096..4608, ..rule() };
        let mut store =
            store(1, vec![bad, Rule { operations: Operations::Flush, failure: Failure::Space, ..rule() }]);
        assert_eq!(error(store.submit(Tag(0), read(0, 4096))), None);
        assert_eq!(error(store.submit(Tag(0), read(4608, 512))), None);
        assert_eq!(error(store.submit(Tag(0), read(0, 8192))), Some((ErrorKind::ReadFailed, 4096)));
        assert_eq!(error(store.submit(Tag(0), write(4096, 512))), Some((ErrorKind::WriteFailed, 4096)));
        let unmap = Op::Unmap { at: 0, len: 1 << 20 };
        assert_eq!(error(store.submit(Tag(0), unmap)), Some((ErrorKind::WriteFailed, 4096)));
        // The first rule knows no place where a flush could be, and takes it, too.
        assert_eq!(error(store.submit(Tag(0), Op::Flush)), Some((ErrorKind::WriteFailed, 4096)));
        // What failed has changed nothing.
        let Submitted::Done(Done::Data(data)) = store.submit(Tag(0), read(0, 4096)) else { panic!("a read") };
        assert_eq!(data.to_vec(), [0; 4096]);
    }

    #[test]
    fn chance_is_the_seeds() {
        let some = || vec![Rule { operations: Operations::Read, one_in: 4, ..rule() }];
        let run = |seed| {
            let mut store = store(seed, some());
            (0..400).filter(|i| error(store.submit(Tag(0), read(i * 512, 512))).is_some()).collect::<Vec<_>>()
        };
        let (one, again, other) = (run(1), run(1), run(2));
        assert_eq!(one, again);
        assert_ne!(one, other);
        assert!((60..140).contains(&one.len()), "{} of 400", one.len());
        let mut store = store(1, vec![Rule { after: 2, times: Some(3), ..rule() }]);
        let failed = (0..8).map(|_| error(store.submit(Tag(0), read(0, 512))).is_some());
        assert_eq!(failed.collect::<Vec<_>>(), [false, false, true, true, true, false, false, false]);
    }

    #[test]
    fn delays_hold_completions_back() {
        let slow = |millis| Duration::from_millis(millis);
        let late = Rule { failure: Failure::None, delay: slow(60), operations: Operations::Read, ..rule() };
        let bad = Rule { bytes: 0..512, delay: slow(20), operations: Operations::Write, ..rule() };
        let mut store = store(1, vec![late, bad]);
        let begin = now();
        assert!(matches!(store.submit(Tag(1), read(0, 512)), Submitted::Queued));
        assert!(matches!(store.submit(Tag(2), write(0, 512)), Submitted::Queued));
        assert!(matches!(store.submit(Tag(3), write(512, 512)), Submitted::Done(Done::Finished)));
        let (mut done, mut times) = (Vec::new(), Vec::new());
        while done.len() < 2 {
            let deadline = store.next_deadline().expect("somebody waits");
            std::thread::sleep(deadline.since(now()));
            if store.poll(&mut done) > 0 {
                times.push(now().since(begin));
            }
        }
        assert!(matches!(done[..], [(Tag(2), Done::Failed(_)), (Tag(1), Done::Data(_))]), "{done:?}");
        assert!(times[0] >= slow(20) && times[times.len() - 1] >= slow(60), "{times:?}");
        assert_eq!(store.next_deadline(), None);
    }
}
