// SPDX-License-Identifier: GPL-2.0-or-later
//! The fuzzer: it runs a target with its corpus, then with changes of it and of what it has found.

use std::collections::BTreeSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind, set_hook, take_hook};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::mutate::{InputPiece, InputShape, change, place, shorten};
use super::{FuzzTarget, forget};
use crate::ports::memory::Dice;
use crate::sys::coverage::Coverage;
use crate::sys::processor_time;

/// Inputs after which the target gets fresh memory: so many can have to do with what one of them does.
const HISTORY_MAX: usize = 1024;

/// An input that takes longer is said to hang.
const PATIENCE: Duration = Duration::from_secs(60);

/// Name of the file of a corpus that holds the inputs which were found, each behind its length.
pub(super) const FOUND: &str = "found";

/// What was done.
pub(in crate::sim) struct FuzzReport {
    pub(in crate::sim) runs: u64,
    /// Inputs to begin with.
    pub(in crate::sim) corpus: usize,
    /// Inputs that have taken the program where none before them had.
    pub(in crate::sim) found: usize,
    /// Edges of the program that were taken, and all there are; none if it does not count them.
    pub(in crate::sim) edges: (usize, usize),
    /// Processor time.
    pub(in crate::sim) time: Duration,
}

pub(super) fn directory(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("ci/fuzz/corpus").join(name)
}

/// The inputs of a directory, in the order of their names.
pub(super) fn inputs(directory: &Path) -> Vec<Vec<u8>> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let paths: BTreeSet<_> = entries.flatten().map(|entry| entry.path()).collect();
    let mut inputs = Vec::new();
    for path in paths {
        let Ok(bytes) = fs::read(&path) else { continue };
        match path.file_name().is_some_and(|name| name == FOUND) {
            true => inputs.extend(InputShape::Long.split(&bytes).into_iter().map(|piece| piece.data)),
            false => inputs.push(bytes),
        }
    }
    inputs
}

/// The input that runs, and since when, for the thread that waits for it to end.
type Running = Arc<Mutex<Option<(Instant, Vec<u8>)>>>;

/// A target at work.
pub(super) struct Attempts {
    target: &'static FuzzTarget,
    runs: u64,
    /// Where an input goes that fails.
    failed: PathBuf,
    /// Inputs since the target had fresh memory.
    history: Vec<Vec<u8>>,
    running: Running,
}

impl Attempts {
    pub(super) fn new(target: &'static FuzzTarget, seed: u64, keep: Option<&Path>) -> Self {
        forget();
        let folder = keep.map_or_else(std::env::temp_dir, Path::to_owned);
        let failed = folder.join(format!("{}-fails-{seed:x}", target.name));
        let running = Running::default();
        watch(&running, target.name, &failed);
        Self { target, runs: 0, failed, history: Vec::new(), running }
    }

    fn passes(&self, input: &[u8]) -> std::thread::Result<()> {
        let mark = |what| *self.running.lock().unwrap_or_else(PoisonError::into_inner) = what;
        mark(Some((Instant::now(), input.to_vec())));
        let outcome = catch_unwind(AssertUnwindSafe(|| (self.target.run)(input)));
        mark(None);
        outcome
    }

    /// Whether one of these fails when nothing was before them.
    fn fail(&self, inputs: &[Vec<u8>]) -> bool {
        forget();
        inputs.iter().any(|input| self.passes(input).is_err())
    }

    /// Runs an input. One that fails ends it all, after it was made short and written down: alone if it fails alone,
    /// else with those before it that it needs.
    pub(super) fn run(&mut self, input: &[u8]) {
        if self.history.len() == HISTORY_MAX {
            self.history.clear();
            forget();
        }
        self.history.push(input.to_vec());
        self.runs += 1;
        let Err(panic) = self.passes(input) else { return };
        let hook = take_hook();
        // Only the first of these panics has something to say.
        set_hook(Box::new(|_| ()));
        let inputs = match self.fail(&[input.to_vec()]) {
            true => vec![self.shortest(input, |input| self.fail(&[input.to_vec()]))],
            false => shorten(self.history.clone(), |inputs| self.fail(inputs)),
        };
        set_hook(hook);
        let mut again = String::new();
        for (number, input) in inputs.iter().enumerate() {
            let path = self.failed.with_extension(number.to_string());
            _ = fs::write(&path, input);
            again += &format!(" --input {}", path.display());
        }
        eprintln!("again: ptgt-sim --fuzz {}{again}", self.target.name);
        resume_unwind(panic);
    }

    /// The shortest input found that does the same.
    fn shortest(&self, input: &[u8], mut still: impl FnMut(&[u8]) -> bool) -> Vec<u8> {
        let shape = self.target.shape;
        let mut pieces = shape.split(input);
        // An input may end in a piece that is not whole, and be another one with a whole one.
        if !still(&shape.join(&pieces)) {
            return input.to_vec();
        }
        pieces = shorten(pieces, |pieces| still(&shape.join(pieces)));
        for at in 0..pieces.len() {
            let InputPiece { kind, data } = pieces[at].clone();
            let data = shorten(data, |data| {
                pieces[at] = InputPiece { kind, data: data.to_vec() };
                still(&shape.join(&pieces))
            });
            pieces[at] = InputPiece { kind, data };
        }
        shape.join(&pieces)
    }

    /// Makes an input shorter that has taken new edges, as long as it takes them.
    fn trim(&mut self, input: &[u8], coverage: &Coverage) -> Vec<u8> {
        let (wanted, mut runs) = (coverage.new_edges(), 0);
        let short = self.shortest(input, |input| {
            runs += 1;
            runs < 200 && self.passes(input).is_ok() && Coverage::taken_all(wanted)
        });
        self.runs += runs;
        self.history.clear();
        forget();
        short
    }
}

/// Ends the program when an input does not come to its end, and writes that down.
fn watch(running: &Running, name: &'static str, failed: &Path) {
    let (running, path) = (Arc::downgrade(running), failed.with_extension("hangs"));
    std::thread::spawn(move || {
        while let Some(running) = running.upgrade() {
            if let Some((since, input)) = &*running.lock().unwrap_or_else(PoisonError::into_inner)
                && since.elapsed() > PATIENCE
            {
                _ = fs::write(&path, input);
                eprintln!("an input hangs; again: ptgt-sim --fuzz {name} --input {}", path.display());
                std::process::abort();
            }
            drop(running);
            std::thread::sleep(Duration::from_millis(200));
        }
    });
}

/// Runs a target with its corpus, then with changes of it and of what was found: so many, or for so long. An input that
/// panics is written down, and named. With `keep`, a directory, it goes on from what an earlier run has found, and
/// keeps what it finds.
pub(in crate::sim) fn fuzz(
    target: &'static FuzzTarget,
    seed: u64,
    runs: u64,
    time: Option<Duration>,
    keep: Option<&Path>,
) -> FuzzReport {
    let (begin, used) = (Instant::now(), processor_time());
    let mut corpus = inputs(&directory(target.name));
    let found = keep.map(|keep| keep.join(target.name));
    if let Some(found) = &found {
        _ = fs::create_dir_all(found);
        corpus.extend(inputs(found));
    }
    let mut attempts = Attempts::new(target, seed, keep);
    let mut report =
        FuzzReport { runs: 0, corpus: corpus.len(), found: 0, edges: (0, 0), time: Duration::ZERO };
    let mut coverage = Coverage::default();
    Coverage::forget();
    if corpus.is_empty() {
        return report;
    }
    for input in &corpus {
        attempts.run(input);
        coverage.take();
    }
    let mut dice = Dice::new(seed);
    while attempts.runs < runs && time.is_none_or(|time| begin.elapsed() < time) {
        // What was found last leads on more often.
        let last = corpus.len() - 1;
        let chosen = place(&mut dice, last).max(if dice.chance(0.5) { place(&mut dice, last) } else { 0 });
        let mut input = corpus[chosen].clone();
        change(&mut input, target.shape, &corpus, &mut dice);
        attempts.run(&input);
        if coverage.take() {
            report.found += 1;
            let input = attempts.trim(&input, &coverage);
            if let Some(found) = &found {
                _ = fs::write(found.join(format!("{seed:x}-{}", report.found)), &input);
            }
            corpus.push(input);
        }
    }
    (report.runs, report.edges, report.time) = (attempts.runs, coverage.edges(), processor_time() - used);
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    fn eight(input: &[u8]) {
        assert!(InputShape::Pieces.split(input).iter().all(|piece| piece.kind != 8 || piece.data.len() < 3));
    }

    #[test]
    fn an_input_that_fails_is_written_down_as_short_as_it_can_be() {
        static TARGET: FuzzTarget = super::super::target("eight", InputShape::Pieces, eight);
        let folder = std::env::temp_dir().join(format!("ptgt-fuzzer-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let mut attempts = Attempts::new(&TARGET, 5, Some(&folder));
        attempts.run(&[8, 2, 1, 2, 9, 3, 1, 2, 3]);
        let fails = [9, 3, 1, 2, 3, 8, 5, 1, 2, 3, 4, 5, 7, 0];
        assert!(catch_unwind(AssertUnwindSafe(|| attempts.run(&fails))).is_err());
        let written = fs::read(folder.join("eight-fails-5.0")).unwrap();
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!((written.len(), written[0], written[1]), (5, 8, 3));
    }
}
