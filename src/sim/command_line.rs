// SPDX-License-Identifier: GPL-2.0-or-later
//! `ptgt-sim`.

use std::io::Read as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use super::canary::Canary;
use super::fuzz::{FuzzReport, FuzzTarget, TARGETS, condense, fuzz, run_inputs};
use super::plan::Plan;
use super::run::{Failure, Found, Search, run, search, shortest};

/// Runs the test world of ptgt: a whole target with faults around it, and an oracle that knows every byte.
///
/// One seed is one run. A run that fails prints its seed, what is wrong, and the shortest plan that fails, which
/// --replay runs again.
#[derive(Debug, Parser)]
#[command(name = "ptgt-sim", version)]
struct Options {
    /// Run this seed alone, and print what it went through
    #[arg(long, value_name = "N", conflicts_with_all = ["seconds", "seeds", "replay"])]
    seed: Option<u64>,
    /// Print the plan of that seed, and do not run it
    #[arg(long, requires = "seed")]
    plan: bool,
    /// Run seeds for so long [default: 10, or without limit with --seeds]
    #[arg(long, value_name = "S")]
    seconds: Option<u64>,
    /// Run at most so many seeds
    #[arg(long, value_name = "N")]
    seeds: Option<u64>,
    /// The first seed of many
    #[arg(long, value_name = "N", default_value_t = 0)]
    first: u64,
    /// Run a plan in JSON, as a failure prints it; '-' reads it from standard input
    #[arg(long, value_name = "FILE")]
    replay: Option<String>,
    /// Seeds at once [default: one per processor]
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// Break the target: dropped-flush, mixed-tags, forgotten-retransmission or reused-page, or one after the other.
    /// Succeeds if that is noticed
    #[arg(long, value_name = "NAME", value_parser = canary)]
    canary: Option<Option<Canary>>,
    /// Fuzz a target instead, of those that --fuzz-targets lists
    #[arg(long, value_name = "TARGET", value_parser = target)]
    fuzz: Option<&'static FuzzTarget>,
    /// Print the names of the fuzz targets
    #[arg(long)]
    fuzz_targets: bool,
    /// Go on from the inputs that fuzzing has found, which are here, and keep more of them (in a program that counts
    /// its edges: ci/fuzz/build.sh)
    #[arg(long, value_name = "DIRECTORY", requires = "fuzz")]
    keep: Option<PathBuf>,
    /// Put the best of what was found into the corpus, and do not fuzz
    #[arg(long, requires = "keep")]
    condense: bool,
    /// Run this input alone, or these one after the other
    #[arg(long, value_name = "FILE", requires = "fuzz")]
    input: Vec<PathBuf>,
    /// Do not look for a shorter plan that fails
    #[arg(long)]
    no_shrink: bool,
}

fn canary(name: &str) -> Result<Canary, String> {
    let names = Canary::ALL.map(|(name, _)| name).join(", ");
    let found = Canary::ALL.iter().find(|(known, _)| *known == name);
    found.map(|(_, canary)| *canary).ok_or_else(|| format!("no such canary: one of {names}"))
}

fn target(name: &str) -> Result<&'static FuzzTarget, String> {
    let names = || TARGETS.iter().map(|target| target.name).collect::<Vec<_>>().join(", ");
    TARGETS
        .iter()
        .find(|known| known.name == name)
        .ok_or_else(|| format!("no such target: one of {}", names()))
}

/// Fuzzes a target, or does what else is asked for with its inputs.
fn fuzzing(target: &'static FuzzTarget, options: &Options, time: Option<Duration>) -> std::io::Result<()> {
    let name = target.name;
    if !options.input.is_empty() {
        run_inputs(target, &options.input)?;
        println!("{name}: {} inputs are clean", options.input.len());
        return Ok(());
    }
    let keep = options.keep.as_deref();
    if let Some(keep) = keep.filter(|_| options.condense) {
        let (inputs, bytes) = condense(target, keep)?;
        println!("{name}: {inputs} inputs of {bytes} bytes are in the corpus beside those made by hand");
        return Ok(());
    }
    let report = fuzz(target, options.first, options.seeds.unwrap_or(u64::MAX), time, keep);
    let FuzzReport { runs, corpus, found, edges: (taken, edges), time } = report;
    print!("{name}: {runs} inputs, from a corpus of {corpus}, in {:.1} s are clean", time.as_secs_f64());
    if edges > 0 {
        print!("; {taken} of {edges} edges taken, {found} inputs found");
    }
    println!();
    Ok(())
}

fn report(failure: &Failure, canary: Option<Canary>, shrink: bool) {
    let seed = failure.plan.seed;
    println!("seed {seed} fails: {}", failure.what);
    println!("again: ptgt-sim --seed {seed}");
    if shrink {
        let short = shortest(failure, canary);
        let (steps, of) = (short.plan.steps.len(), failure.plan.steps.len());
        println!("shortest plan found, {steps} of {of} steps: {}", short.what);
        for step in &short.plan.steps {
            println!("  after {:>6} us: {:?}", step.after, step.action);
        }
        println!("again: ptgt-sim --replay FILE, with this line in it:");
        println!("{}", serde_json::to_string(&short.plan).expect("a plan is plain data"));
    }
}

/// Runs one plan and says how it ended.
fn one(plan: Plan, options: &Options) -> ExitCode {
    match run(&plan, options.canary.flatten()) {
        Ok(tally) => {
            print!("{tally}");
            println!("seed {} is clean", plan.seed);
            ExitCode::SUCCESS
        }
        Err(what) => {
            report(&Failure { plan, what }, options.canary.flatten(), !options.no_shrink);
            ExitCode::FAILURE
        }
    }
}

fn read_plan(file: &str) -> Result<Plan, String> {
    let mut text = String::new();
    let read = match file {
        "-" => std::io::stdin().read_to_string(&mut text).map(drop),
        _ => std::fs::read_to_string(file).map(|read| text = read),
    };
    read.map_err(|e| format!("{file}: {e}"))?;
    serde_json::from_str(&text).map_err(|e| format!("{file}: not a plan: {e}"))
}

/// The command, with the arguments of the process.
pub fn main() -> ExitCode {
    let options = Options::parse();
    if let Some(seed) = options.seed.filter(|_| options.plan) {
        println!("{}", serde_json::to_string(&Plan::new(seed)).expect("a plan is plain data"));
        return ExitCode::SUCCESS;
    }
    if let Some(seed) = options.seed {
        return one(Plan::new(seed), &options);
    }
    if let Some(file) = &options.replay {
        return match read_plan(file) {
            Ok(plan) => one(plan, &options),
            Err(what) => {
                eprintln!("ptgt-sim: {what}");
                ExitCode::from(2)
            }
        };
    }
    let time = options.seconds.or_else(|| options.seeds.is_none().then_some(10)).map(Duration::from_secs);
    if options.fuzz_targets {
        TARGETS.iter().for_each(|target| println!("{}", target.name));
        return ExitCode::SUCCESS;
    }
    if let Some(target) = options.fuzz {
        return match fuzzing(target, &options, time) {
            Ok(()) => ExitCode::SUCCESS,
            Err(e) => {
                eprintln!("ptgt-sim: {e}");
                ExitCode::FAILURE
            }
        };
    }
    // A failure is reported; the panic's own message would only come in between.
    std::panic::set_hook(Box::new(|_| ()));
    let search_for = |canary| {
        let processors = std::thread::available_parallelism().map_or(1, Into::into);
        search(&Search {
            first: options.first,
            count: options.seeds.unwrap_or(u64::MAX),
            time,
            jobs: options.jobs.unwrap_or(processors),
            canary,
        })
    };
    match options.canary {
        None => match search_for(None) {
            Found { failure: Some(failure), .. } => {
                report(&failure, None, !options.no_shrink);
                ExitCode::FAILURE
            }
            Found { runs, tally, .. } => {
                print!("{tally}");
                println!("{runs} seeds from {} on are clean", options.first);
                ExitCode::SUCCESS
            }
        },
        Some(canary) => {
            let chosen =
                Canary::ALL.into_iter().filter(|(_, one)| canary.is_none_or(|canary| canary == *one));
            let mut all = true;
            for (name, canary) in chosen {
                match search_for(Some(canary)) {
                    Found { runs, failure: Some(failure), .. } => {
                        let what = failure.what.lines().next().unwrap_or_default();
                        println!("{name}: noticed after {runs} seeds, in seed {}: {what}", failure.plan.seed);
                    }
                    Found { runs, .. } => {
                        println!("{name}: not noticed in {runs} seeds");
                        all = false;
                    }
                }
            }
            if all { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
    }
}
