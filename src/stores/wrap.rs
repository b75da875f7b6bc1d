// SPDX-License-Identifier: GPL-2.0-or-later
//! A store around another that is slow and makes errors by rule, to qualify initiators.
//!
//! An operation reaches the store within at once and only its completion is held back, so that whatever waits for the
//! end of earlier operations still does. One that is to fail does not reach it. Which they are is a [`FaultRule`]'s.

use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::Duration;

use super::Backing;
use crate::io::{Done, Error, ErrorKind, FaultRate, FaultRule, Geometry, Health, Op, Store, Submitted, Tag};
use crate::memory::{Lease, Region};
use crate::options::Absent::{Is, Means};
use crate::options::ValueKind::{Number, Tables, Word};
use crate::options::{Key, Section, Table, key};
use crate::reactor::CoreContext;
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
pub struct StoreFault {
    /// Which.
    pub operations: Operations,
    /// Those that touch these bytes.
    pub bytes: Range<u64>,
    /// How they end.
    pub failure: Failure,
    /// How many of those, and how late.
    pub rate: FaultRate,
}

/// The rules of `faults`.
const RULE: &Table = &Table {
    doc: "A rule by which the store is slow or fails, to test initiators. If several rules match an \
         operation, their delays add up and the first error counts. One command may take several \
         operations of the store.",
    groups: &[
        &[
            key(
                "operation",
                Word(&["any", "read", "write", "flush", "unmap"]),
                Is("\"any\""),
                "\"read\"",
                "Which operations of the store it applies to. `write`: all that write data, also for \
                 WRITE SAME, COMPARE AND WRITE and WRITE ATOMIC. `flush`: bringing data to stable \
                 storage, as for SYNCHRONIZE CACHE or WRITE FILEMARKS. `unmap`: deallocation.",
            ),
            key(
                "lba",
                Number(0, i64::MAX as u64),
                Is("0"),
                "2048",
                "The first block that it applies to: a logical block of a disk; of a tape, a block of \
                 4096 bytes of the image.",
            ),
            key(
                "blocks",
                Number(1, i64::MAX as u64),
                Means("all to the end"),
                "8",
                "How many blocks. Operations that touch one of them match. Flushes have no blocks and \
                 always match.",
            ),
            key(
                "error",
                Word(&["none", "medium", "space", "protected", "busy"]),
                Is("\"none\""),
                "\"medium\"",
                "How the store fails: not at all, with bad blocks (MEDIUM ERROR), without space (DATA \
                 PROTECT; on a tape, the end of the partition), write protected (DATA PROTECT), or \
                 without memory at the moment (BUSY).",
            ),
        ],
        FaultRate::KEYS,
    ],
};

/// The key that lists such rules.
pub const FAULT_KEYS: &[Key] =
    &[key("faults", Tables(RULE), Is("[]"), "", "Delays and errors of the store, to test initiators.")];

impl StoreFault {
    /// Reads a rule. Its blocks are those of the device; without their length it is only checked.
    pub fn read(s: Section<'_>, block: Option<u32>) -> Option<Self> {
        let operations = s.word("operation", &Operations::ALL);
        let failure = s.word("error", &Failure::ALL);
        let (lba, blocks): (Option<u64>, Option<u64>) = (s.number("lba"), s.number("blocks"));
        let rate = FaultRate::read(&s, failure.map(|failure| failure != Failure::None), "error");
        s.finish();
        let bytes = |blocks: u64| Some(blocks.saturating_mul(u64::from(block?)));
        let start = bytes(lba?)?;
        let end = blocks.map_or(Some(u64::MAX), |blocks| bytes(lba?.saturating_add(blocks)))?;
        Some(Self { operations: operations?, bytes: start..end, failure: failure?, rate: rate? })
    }
}

struct Faults {
    rules: Vec<(StoreFault, FaultRule)>,
}

/// What becomes of an operation.
#[derive(Debug, Default, PartialEq)]
struct Fate {
    error: Option<Error>,
    delay: Duration,
}

/// What rules look at of an operation: its kind, and the bytes that it is about.
type Shape = (Operations, u64, u64);

fn shape(op: &Op) -> Shape {
    match op {
        Op::Read { at, len, .. } => (Operations::Read, *at, u64::from(*len)),
        Op::Extent { at } => (Operations::Read, *at, 1),
        Op::Write { at, data, .. } | Op::CompareAndWrite { at, data, .. } => {
            (Operations::Write, *at, data.len() as u64)
        }
        Op::WriteSame { at, len, .. } => (Operations::Write, *at, *len),
        Op::Unmap { at, len } | Op::Anchor { at, len } => (Operations::Unmap, *at, *len),
        Op::Flush => (Operations::Flush, 0, 0),
    }
}

impl Faults {
    fn fate(&self, (kind, at, len): Shape) -> Fate {
        let mut fate = Fate::default();
        for (StoreFault { operations, bytes, failure, .. }, fault_rule) in &self.rules {
            let touches = at < bytes.end && bytes.start < at.saturating_add(len);
            if ![Operations::Any, kind].contains(operations) || kind != Operations::Flush && !touches {
                continue;
            }
            let Some(delay) = fault_rule.draw() else { continue };
            fate.delay += delay;
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
    pub(super) fn new(inner: Arc<dyn Backing>, seed: u64, rules: Vec<StoreFault>) -> Self {
        let drawn =
            |(number, rule): (usize, StoreFault)| (rule.clone(), FaultRule::new(rule.rate, seed, number));
        let rules = rules.into_iter().enumerate().map(drawn).collect();
        Self { inner, faults: Arc::new(Faults { rules }) }
    }
}

impl Backing for Wrapped {
    fn attach(&self, context: &CoreContext) -> io::Result<Box<dyn Store>> {
        let inner = self.inner.attach(context)?;
        let faults = self.faults.clone();
        let (slow, refused) = (HashMap::new(), HashMap::new());
        Ok(Box::new(FaultStore { inner, faults, refused, slow, late: Vec::new(), ended: Vec::new() }))
    }

    fn lasts(&self) -> bool {
        self.inner.lasts()
    }

    fn region(&self) -> Option<&Region> {
        self.inner.region()
    }
}

/// A completion that is held back. There is one per operation of the caller at most.
struct Late {
    due: Instant,
    tag: Tag,
    done: Done,
}

struct FaultStore {
    inner: Box<dyn Store>,
    faults: Arc<Faults>,
    /// Fates of operations that the store within had no room for: they come again, and are not drawn for twice. A
    /// caller that gives one up leaves its fate to the next with its tag, if that is about the same bytes.
    refused: HashMap<Tag, (Shape, Fate)>,
    /// Operations under way within, and when their completions may be told.
    slow: HashMap<Tag, Instant>,
    late: Vec<Late>,
    ended: Vec<(Tag, Done)>,
}

fn now() -> Instant {
    Instant::from_nanos(sys::monotonic())
}

impl Store for FaultStore {
    fn geometry(&self) -> Geometry {
        self.inner.geometry()
    }

    fn submit(&mut self, tag: Tag, op: Op) -> Submitted {
        let shape = shape(&op);
        let known = self.refused.remove(&tag).filter(|(of, _)| *of == shape).map(|(_, fate)| fate);
        let Fate { error, delay } = known.unwrap_or_else(|| self.faults.fate(shape));
        let submitted = match error {
            Some(error) => Submitted::Done(Done::Failed(error)),
            None => self.inner.submit(tag, op),
        };
        match submitted {
            Submitted::Done(done) if !delay.is_zero() => {
                self.late.push(Late { due: now() + delay, tag, done })
            }
            Submitted::Queued if !delay.is_zero() => _ = self.slow.insert(tag, now() + delay),
            Submitted::Full(op) => {
                self.refused.insert(tag, (shape, Fate { error, delay }));
                return Submitted::Full(op);
            }
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

    fn rule() -> StoreFault {
        StoreFault {
            operations: Operations::Any,
            bytes: 0..u64::MAX,
            failure: Failure::Medium,
            rate: FaultRate::ALWAYS,
        }
    }

    fn store(seed: u64, rules: Vec<StoreFault>) -> Box<dyn Store> {
        let ram = super::super::ram(1 << 20, 512, false).unwrap();
        let context = CoreContext::alone(Arena::new(2 << 20, false).unwrap());
        super::super::wrapped(ram, seed, rules).attach(&context).unwrap()
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
        let bad = StoreFault { bytes: 4096..4608, ..rule() };
        let mut store = store(
            1,
            vec![bad, StoreFault { operations: Operations::Flush, failure: Failure::Space, ..rule() }],
        );
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
        let some = || {
            vec![StoreFault {
                operations: Operations::Read,
                rate: FaultRate { one_in: 4, ..FaultRate::ALWAYS },
                ..rule()
            }]
        };
        let run = |seed| {
            let mut store = store(seed, some());
            (0..400).filter(|i| error(store.submit(Tag(0), read(i * 512, 512))).is_some()).collect::<Vec<_>>()
        };
        let (one, again, other) = (run(1), run(1), run(2));
        assert_eq!(one, again);
        assert_ne!(one, other);
        assert!((60..140).contains(&one.len()), "{} of 400", one.len());
        let mut store = store(
            1,
            vec![StoreFault { rate: FaultRate { after: 2, times: Some(3), ..FaultRate::ALWAYS }, ..rule() }],
        );
        let failed = (0..8).map(|_| error(store.submit(Tag(0), read(0, 512))).is_some());
        assert_eq!(failed.collect::<Vec<_>>(), [false, false, true, true, true, false, false, false]);
    }

    #[test]
    fn delays_hold_completions_back() {
        let slow = |millis| Duration::from_millis(millis);
        let rate = |millis| FaultRate { delay: slow(millis), ..FaultRate::ALWAYS };
        let late =
            StoreFault { failure: Failure::None, rate: rate(60), operations: Operations::Read, ..rule() };
        let bad = StoreFault { bytes: 0..512, rate: rate(20), operations: Operations::Write, ..rule() };
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

    /// A store with room for one operation at a time, which ends with the next poll.
    #[derive(Default)]
    struct Narrow(Option<Tag>);

    impl Store for Narrow {
        fn geometry(&self) -> Geometry {
            Geometry { bytes: 1 << 20, block: 512, transfer_max: 1 << 20, thin: false, read_only: false }
        }

        fn submit(&mut self, tag: Tag, op: Op) -> Submitted {
            if self.0.is_some() {
                return Submitted::Full(op);
            }
            self.0 = Some(tag);
            Submitted::Queued
        }

        fn poll(&mut self, done: &mut Vec<(Tag, Done)>) -> usize {
            let ended = self.0.take();
            done.extend(ended.map(|tag| (tag, Done::Finished)));
            ended.map_or(0, |_| 1)
        }
    }

    impl Backing for Narrow {
        fn attach(&self, _: &CoreContext) -> io::Result<Box<dyn Store>> {
            Ok(Box::new(Self::default()))
        }
    }

    #[test]
    fn what_comes_again_for_want_of_room_is_drawn_for_once() {
        // The third write fails, however often the second has to come.
        let rate = FaultRate { after: 2, times: Some(1), ..FaultRate::ALWAYS };
        let rules = vec![StoreFault { operations: Operations::Write, rate, ..rule() }];
        let context = CoreContext::alone(Arena::new(2 << 20, false).unwrap());
        let backing = Wrapped::new(Arc::new(Narrow::default()), 1, rules);
        let mut store = backing.attach(&context).unwrap();
        assert!(matches!(store.submit(Tag(0), write(0, 512)), Submitted::Queued));
        for _ in 0..3 {
            assert!(matches!(store.submit(Tag(1), write(512, 512)), Submitted::Full(_)));
        }
        assert_eq!(store.poll(&mut Vec::new()), 1);
        assert!(matches!(store.submit(Tag(1), write(512, 512)), Submitted::Queued));
        assert_eq!(error(store.submit(Tag(2), write(0, 512))), Some((ErrorKind::WriteFailed, 0)));
        // The tag of an operation that was given up may be another's.
        assert!(matches!(store.submit(Tag(3), read(0, 512)), Submitted::Full(_)));
        assert_eq!(store.poll(&mut Vec::new()), 1);
        assert!(matches!(store.submit(Tag(3), write(0, 512)), Submitted::Queued));
    }
}
