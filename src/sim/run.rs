// SPDX-License-Identifier: GPL-2.0-or-later
//! Runs plans: one, or as many as there is time for, on all processors. A panic counts as a failure of its plan.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::canary::Canary;
use super::plan::{Plan, shrink};
use super::tally::Tally;
use super::world::World;

/// Runs of a failing plan with parts left out.
const SHRINK_RUNS_MAX: usize = 400;

/// A plan that shows a fault.
pub(super) struct Failure {
    pub(super) plan: Plan,
    pub(super) what: String,
}

/// Runs one plan.
pub(super) fn run(plan: &Plan, canary: Option<Canary>) -> Result<Tally, String> {
    let run = catch_unwind(AssertUnwindSafe(|| World::run(plan, canary)));
    run.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        Err(format!("panic: {}", text.unwrap_or("without a message")))
    })
}

/// The shortest plan that fails like this one, and how it fails.
pub(super) fn shortest(failure: &Failure, canary: Option<Canary>) -> Failure {
    let short = shrink(failure.plan.clone(), |plan| run(plan, canary).is_err(), SHRINK_RUNS_MAX);
    match run(&short, canary) {
        Err(what) => Failure { plan: short, what },
        Ok(_) => Failure { plan: failure.plan.clone(), what: failure.what.clone() },
    }
}

/// Which seeds are run.
pub(super) struct Search {
    pub(super) first: u64,
    /// At most so many.
    pub(super) count: u64,
    pub(super) time: Option<Duration>,
    pub(super) jobs: usize,
    pub(super) canary: Option<Canary>,
}

/// What came of it.
pub(super) struct Found {
    /// Seeds run.
    pub(super) runs: u64,
    pub(super) tally: Tally,
    /// That of the lowest seed, if any.
    pub(super) failure: Option<Failure>,
}

/// Runs seeds until one fails.
pub(super) fn search(search: &Search) -> Found {
    let begin = Instant::now();
    let next = AtomicU64::new(0);
    let stop = AtomicBool::new(false);
    let result = Mutex::new(Found { runs: 0, tally: Tally::default(), failure: None });
    let work = || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let late = search.time.is_some_and(|time| begin.elapsed() >= time);
            if number >= search.count || late || stop.load(Ordering::Relaxed) {
                return;
            }
            let plan = Plan::new(search.first + number);
            let ended = run(&plan, search.canary);
            let mut result = result.lock().expect("nobody panics with it");
            result.runs += 1;
            match ended {
                Ok(tally) => result.tally.merge(&tally),
                Err(what) => {
                    stop.store(true, Ordering::Relaxed);
                    if result.failure.as_ref().is_none_or(|old| old.plan.seed > plan.seed) {
                        result.failure = Some(Failure { plan, what });
                    }
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..search.jobs {
            scope.spawn(work);
        }
    });
    result.into_inner().expect("nobody panics with it")
}
