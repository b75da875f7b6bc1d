// SPDX-License-Identifier: GPL-2.0-or-later
//! COMPARE AND WRITE on top of stores that only read and write: atomic against every other operation on every core.
//!
//! Each core counts its operations under way in a cache line of its own. Whoever wants to be alone raises a flag and
//! waits until all counts are zero; whoever finds the flag raised waits until it is lowered. So an ordinary operation
//! pays for two uncontended atomic additions and one load of a line that nobody writes.

use std::collections::VecDeque;
use std::os::fd::RawFd;

use crate::io::{Done, Error, ErrorKind, Geometry, Health, Landing, Op, Store, Submitted, Tag};
use crate::memory::{Lease, Sg};
use crate::sys::sync::{Arc, AtomicBool, AtomicUsize, Mutex, Ordering, PoisonError};

/// Operations of one handle that wait for an exclusive one.
const WAITING_MAX: usize = 1024;

/// Names the inner operations of a compare and write; no caller uses it.
const INNER: Tag = Tag(u32::MAX - 1);

#[repr(align(128))]
#[derive(Default)]
struct Count(AtomicUsize);

/// What all handles of a store share. The line that every operation looks at has no neighbour that is written.
#[repr(align(128))]
#[derive(Default)]
pub(crate) struct ExclusiveGate {
    raised: AtomicBool,
    counts: Mutex<Vec<Arc<Count>>>,
}

impl ExclusiveGate {
    fn join(&self) -> Arc<Count> {
        let count = Arc::new(Count::default());
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).push(count.clone());
        count
    }

    fn quiet(&self) -> bool {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.iter().all(|count| count.0.load(Ordering::SeqCst) == 0)
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Step {
    /// Wants to raise the flag.
    Raise,
    /// Has raised it, and waits for the others to finish.
    Wait,
    Read,
    Write,
}

/// A compare and write under way.
struct Alone {
    tag: Tag,
    at: u64,
    compare: Option<Box<Sg>>,
    data: Sg,
    fua: bool,
    step: Step,
}

/// A handle with compare and write.
pub(crate) struct Exclusive<S> {
    inner: S,
    gate: Arc<ExclusiveGate>,
    count: Arc<Count>,
    waiting: VecDeque<(Tag, Op)>,
    alone: Option<Alone>,
    scratch: Vec<(Tag, Done)>,
}

impl<S: Store> Exclusive<S> {
    pub(crate) fn new(inner: S, gate: Arc<ExclusiveGate>) -> Self {
        let count = gate.join();
        Self { inner, gate, count, waiting: VecDeque::new(), alone: None, scratch: Vec::new() }
    }

    fn enter(&self) -> bool {
        self.count.0.fetch_add(1, Ordering::SeqCst);
        let free = !self.gate.raised.load(Ordering::SeqCst);
        if !free {
            self.leave();
        }
        free
    }

    fn leave(&self) {
        self.count.0.fetch_sub(1, Ordering::SeqCst);
    }

    fn submit_inner(&mut self, tag: Tag, op: Op) -> Submitted {
        let submitted = self.inner.submit(tag, op);
        if !matches!(submitted, Submitted::Queued) {
            self.leave();
        }
        submitted
    }

    /// Carries the compare and write on, with the end of its inner operation. `Some` when it is over.
    fn advance(&mut self, mut end: Option<Done>) -> Option<(Tag, Done)> {
        loop {
            let alone = self.alone.as_mut()?;
            let op = match (alone.step, end.take()) {
                (Step::Raise, _) => {
                    if self.gate.raised.swap(true, Ordering::SeqCst) {
                        return None;
                    }
                    alone.step = Step::Wait;
                    continue;
                }
                (Step::Wait, _) => {
                    if !self.gate.quiet() {
                        return None;
                    }
                    alone.step = Step::Read;
                    let Some(compare) = &alone.compare else {
                        // No condition, so nothing to read.
                        end = Some(Done::Data(Sg::new()));
                        continue;
                    };
                    let len = u32::try_from(compare.len()).unwrap_or(u32::MAX);
                    Op::Read { at: alone.at, len, into: Landing::Own }
                }
                (_, None) => return None,
                (Step::Read, Some(Done::Data(found))) => {
                    match alone.compare.as_ref().and_then(|compare| difference(&found, compare)) {
                        Some(offset) => return self.over(Done::Differs { offset }),
                        None => {
                            alone.step = Step::Write;
                            Op::Write { at: alone.at, data: std::mem::take(&mut alone.data), fua: alone.fua }
                        }
                    }
                }
                (_, Some(end)) => return self.over(end),
            };
            let at = alone.at;
            match self.inner.submit(INNER, op) {
                Submitted::Done(done) => end = Some(done),
                Submitted::Queued => return None,
                // Nothing of this store is under way, so its queue is full of others': fail rather than hold all up.
                Submitted::Full(_) => {
                    return self.over(Done::Failed(Error { kind: ErrorKind::NoMemory, at }));
                }
            }
        }
    }

    fn over(&mut self, done: Done) -> Option<(Tag, Done)> {
        let alone = self.alone.take()?;
        self.gate.raised.store(false, Ordering::SeqCst);
        Some((alone.tag, done))
    }
}

/// Offset of the first byte that differs.
fn difference(found: &Sg, compare: &Sg) -> Option<u32> {
    let (mut a, mut b) = ([0; 4096], [0; 4096]);
    let mut at = 0;
    while at < compare.len() {
        let n = (compare.len() - at).min(a.len());
        found.copy_to(at, &mut a[..n]);
        compare.copy_to(at, &mut b[..n]);
        if let Some(i) = (0..n).find(|&i| a[i] != b[i]) {
            return u32::try_from(at + i).ok();
        }
        at += n;
    }
    None
}

impl<S: Store> Store for Exclusive<S> {
    fn geometry(&self) -> Geometry {
        self.inner.geometry()
    }

    fn submit(&mut self, tag: Tag, op: Op) -> Submitted {
        if let Op::CompareAndWrite { at, compare, data, fua } = op {
            if self.alone.is_some() {
                return Submitted::Full(Op::CompareAndWrite { at, compare, data, fua });
            }
            self.alone = Some(Alone { tag, at, compare, data, fua, step: Step::Raise });
            return match self.advance(None) {
                Some((_, done)) => Submitted::Done(done),
                None => Submitted::Queued,
            };
        }
        if self.enter() {
            return self.submit_inner(tag, op);
        }
        if self.waiting.len() >= WAITING_MAX {
            return Submitted::Full(op);
        }
        self.waiting.push_back((tag, op));
        Submitted::Queued
    }

    fn poll(&mut self, done: &mut Vec<(Tag, Done)>) -> usize {
        let before = done.len();
        let mut ended = std::mem::take(&mut self.scratch);
        self.inner.poll(&mut ended);
        let mut own = None;
        for (tag, end) in ended.drain(..) {
            if tag == INNER {
                own = Some(end);
            } else {
                self.leave();
                done.push((tag, end));
            }
        }
        self.scratch = ended;
        done.extend(self.advance(own));
        while !self.waiting.is_empty() && self.enter() {
            let Some((tag, op)) = self.waiting.pop_front() else { break };
            match self.submit_inner(tag, op) {
                Submitted::Done(end) => done.push((tag, end)),
                Submitted::Queued => {}
                Submitted::Full(op) => {
                    self.waiting.push_front((tag, op));
                    break;
                }
            }
        }
        done.len() - before
    }

    fn inspect(&mut self) -> Health {
        self.inner.inspect()
    }

    fn commit(&mut self) {
        self.inner.commit();
    }

    fn must_poll(&self) -> bool {
        let waits = |alone: &Alone| matches!(alone.step, Step::Raise | Step::Wait);
        !self.waiting.is_empty() || self.alone.as_ref().is_some_and(waits)
    }

    fn lease(&self) -> Option<Lease> {
        self.inner.lease()
    }

    fn wake_fd(&self) -> Option<RawFd> {
        self.inner.wake_fd()
    }
}
