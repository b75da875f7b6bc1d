// SPDX-License-Identifier: GPL-2.0-or-later
//! The world, for as many seeds as everybody has time for; more of them: `ptgt-sim`.

use super::canary::Canary;
use super::plan::Plan;
use super::run::{Search, run, search, shortest};
use crate::memory::drop_spare;
use crate::sys::counting::counts;

const SEEDS: u64 = 300;

fn jobs() -> usize {
    std::thread::available_parallelism().map_or(1, Into::into)
}

#[test]
fn seeds_are_clean() {
    let found = search(&Search { first: 0, count: SEEDS, time: None, jobs: jobs(), canary: None });
    if let Some(failure) = found.failure {
        let short = shortest(&failure, None);
        panic!(
            "seed {} fails: {}\nagain: cargo run --features sim --bin ptgt-sim -- --seed {0}\n\
             shortest plan found: {}\n{}",
            failure.plan.seed,
            failure.what,
            short.what,
            serde_json::to_string(&short.plan).unwrap()
        );
    }
    assert_eq!(found.runs, SEEDS);
}

/// Plans that found faults, as short as they could be made.
#[test]
fn kept_plans_are_clean() {
    let kept = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/sim/kept");
    let mut count = 0;
    for entry in std::fs::read_dir(&kept).unwrap() {
        let path = entry.unwrap().path();
        let plan = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        if let Err(what) = run(&plan, None) {
            panic!("{}: {what}", path.display());
        }
        count += 1;
    }
    assert!(count > 0, "no plans in {}", kept.display());
}

#[test]
fn a_seed_is_one_run() {
    for seed in [3, 17, 40] {
        let plan = Plan::new(seed);
        assert_eq!(run(&plan, None), run(&plan, None), "seed {seed}");
    }
}

/// Sessions come and go, machines lose their power: what a run has asked of the allocator it has given back.
#[test]
fn a_run_leaves_nothing_behind() {
    for seed in 20..40 {
        let plan = Plan::new(seed);
        // What is made once in a thread is made now.
        run(&plan, None).unwrap();
        drop_spare();
        let before = counts().bytes;
        drop(run(&plan, None));
        drop_spare();
        assert_eq!(counts().bytes - before, 0, "bytes that seed {seed} leaves behind");
    }
}

#[test]
fn canaries_are_noticed() {
    for (name, canary) in Canary::ALL {
        let found =
            search(&Search { first: 0, count: SEEDS, time: None, jobs: jobs(), canary: Some(canary) });
        assert!(found.failure.is_some(), "{name} was not noticed in {} seeds", found.runs);
        println!("{name}: noticed after {} seeds", found.runs);
    }
}
