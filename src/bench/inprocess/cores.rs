// SPDX-License-Identifier: GPL-2.0-or-later
//! Several cores that serve one disk: a shard in each thread, with its load.
//!
//! Threads that take turns always do the same, and never two at once. A trace of their memory accesses shows what cores
//! share: a stretch of a thread lies between two stores to its [`Marks`].

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Barrier, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{Common, Outcome, Setup, load};
use crate::bench::load::{Spec, Tally, Window};
use crate::control::output;
use crate::time::Instant;

/// Most cores.
pub(in crate::bench) const CORES_MAX: usize = 64;

/// Where the stretches of a core begin and end, in cache lines of its own.
#[repr(align(128))]
struct Marks {
    begin: AtomicU64,
    end: AtomicU64,
}

static MARKS: [Marks; CORES_MAX] =
    [const { Marks { begin: AtomicU64::new(0), end: AtomicU64::new(0) } }; CORES_MAX];

/// A clock that goes on by 10 us whenever it is read.
pub(in crate::bench) fn virtual_clock() -> impl Fn() -> Instant {
    /// Threads read their clocks all the time, and the allocator may put these side by side.
    #[repr(align(128))]
    struct Ticks(Cell<u64>);
    let ticks = Ticks(Cell::new(0));
    move || {
        let Ticks(now) = &ticks;
        now.set(now.get() + 10_000);
        Instant::from_nanos(now.get())
    }
}

/// Whose turn it is.
struct Order {
    turn: usize,
    left: Vec<bool>,
}

impl Order {
    fn next(&mut self, core: usize) {
        let mut order = (core + 1..self.left.len()).chain(0..=core);
        self.turn = order.find(|&next| !self.left[next]).unwrap_or(core);
    }
}

/// How cores take turns.
struct Relay {
    order: Mutex<Order>,
    passed: Condvar,
}

/// How long one that has let go of the lock may take to sleep.
const SETTLING: Duration = Duration::from_millis(1);

impl Relay {
    fn new(cores: usize) -> Self {
        let order = Order { turn: 0, left: vec![false; cores] };
        Self { order: Mutex::new(order), passed: Condvar::new() }
    }

    /// Waits for this core's first turn.
    fn join(&self, core: usize) {
        self.wait(core, self.lock());
    }

    /// It is the turn of the others, and then this core's again.
    fn pass(&self, core: usize) {
        MARKS[core].end.fetch_add(1, Ordering::Relaxed);
        let mut order = self.lock();
        order.next(core);
        self.passed.notify_all();
        // The lock is held until this one sleeps: the next one begins with nobody awake but itself.
        self.wait(core, order);
    }

    /// This core has no more turns.
    fn leave(&self, core: usize) {
        MARKS[core].end.fetch_add(1, Ordering::Relaxed);
        let mut order = self.lock();
        order.left[core] = true;
        order.next(core);
        self.passed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Order> {
        self.order.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait(&self, core: usize, order: MutexGuard<'_, Order>) {
        let others = |order: &mut Order| order.turn != core;
        drop(self.passed.wait_while(order, others).unwrap_or_else(PoisonError::into_inner));
        std::thread::sleep(SETTLING);
        MARKS[core].begin.fetch_add(1, Ordering::Relaxed);
    }
}

/// How a core's thread runs.
pub(in crate::bench) struct Pace<'a> {
    /// Begins the measurement, at a time of the thread's clock.
    pub(in crate::bench) window: &'a (dyn Fn(Instant) -> Window + Sync),
    /// Makes a clock for a thread.
    pub(in crate::bench) clock: &'a (dyn Fn() -> Box<dyn Fn() -> Instant> + Sync),
    /// Threads take turns of so many operations.
    pub(in crate::bench) turns: Option<u64>,
}

/// Runs a load on each core; a core's sessions are the streams of its [`Spec`]. `progress` is told by the first.
pub(in crate::bench) fn run(
    setup: &Setup,
    specs: &[Spec],
    pace: &Pace<'_>,
    progress: &mut (dyn FnMut(&Tally) + Send),
) -> Result<Outcome, String> {
    let (common, places) = Common::new(setup, specs.len())?;
    if pace.turns.is_some() {
        let disk = common.base()?.unwrap_or_default();
        let (marks, step) = ((&raw const MARKS).addr(), size_of::<Marks>());
        let size = setup.size;
        output::tell(&format!("marks at {marks:#x}, {step} bytes apart; disk at {disk:#x}, {size} bytes"));
    }
    let (relay, all_in) = (Relay::new(specs.len()), Barrier::new(specs.len()));
    let mut progress = Some(progress);
    let results: Vec<Result<Outcome, String>> = std::thread::scope(|scope| {
        let threads: Vec<_> = places
            .into_iter()
            .zip(specs)
            .map(|(place, spec)| {
                let (common, relay, all_in, core) = (&common, &relay, &all_in, place.0);
                let mut progress = progress.take();
                scope.spawn(move || {
                    let begun = Cell::new(false);
                    let begin = |now| {
                        begun.set(true);
                        all_in.wait();
                        if pace.turns.is_some() {
                            relay.join(core);
                        }
                        (pace.window)(now)
                    };
                    let mut passed_at = 0;
                    let mut step = |tally: &Tally| {
                        if pace.turns.is_some_and(|turns| tally.total >= passed_at + turns) {
                            passed_at = tally.total;
                            relay.pass(core);
                        }
                        if let Some(progress) = &mut progress {
                            progress(tally);
                        }
                    };
                    let setup = Setup { sessions: spec.streams, ..setup.clone() };
                    let clock = (pace.clock)();
                    let result = common
                        .world(&setup, spec.block, place)
                        .and_then(|world| load(world, &setup, spec, begin, &*clock, &mut step));
                    // The others need not wait for one that does not come.
                    if !begun.get() {
                        all_in.wait();
                    }
                    relay.leave(core);
                    result
                })
            })
            .collect();
        let ended = threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|_| Err("a thread has died".to_owned())));
        ended.collect()
    });
    let mut results = results.into_iter();
    let mut all = results.next().ok_or("no core")??;
    for result in results {
        let more = result?;
        all.tally.merge(&more.tally);
        all.turns.add(&more.turns);
        if let (Some(all), Some(more)) = (&mut all.frames, more.frames) {
            all.add(&more);
        }
    }
    Ok(all)
}
