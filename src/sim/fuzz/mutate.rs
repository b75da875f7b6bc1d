// SPDX-License-Identifier: GPL-2.0-or-later
//! The fuzzer.

use std::path::Path;
use std::time::{Duration, Instant};

use super::Target;
use crate::ports::memory::Dice;
use crate::sys::coverage::Coverage;

/// Longest input.
const LEN_MAX: usize = 4096;

/// What was done.
pub(in crate::sim) struct FuzzReport {
    pub(in crate::sim) runs: u64,
    /// Inputs of the corpus.
    pub(in crate::sim) corpus: usize,
    /// Inputs that have taken the program where none before them had.
    pub(in crate::sim) found: usize,
    /// Edges of the program that were taken, and all there are; none if it does not count them.
    pub(in crate::sim) edges: (usize, usize),
}

fn corpus(name: &str) -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("ci/fuzz/corpus").join(name);
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths.iter().filter_map(|path| std::fs::read(path).ok()).collect()
}

fn place(dice: &mut Dice, len: usize) -> usize {
    usize::try_from(dice.below(len as u64 + 1)).expect("short")
}

/// Changes an input in one of the ways in which inputs are usually wrong.
fn change(input: &mut Vec<u8>, corpus: &[Vec<u8>], dice: &mut Dice) {
    let at = place(dice, input.len());
    let byte = dice.roll().to_le_bytes()[0];
    match dice.below(8) {
        0 if at < input.len() => input[at] ^= 1 << (byte & 7),
        1 if at < input.len() => input[at] = byte,
        2 if at < input.len() => input[at] = [0, 1, 0x7f, 0x80, 0xff][usize::from(byte) % 5],
        3 => input.insert(at, byte),
        4 => input.truncate(at),
        5 => {
            let end = (at + usize::from(byte)).min(input.len());
            let piece = input[at..end].to_vec();
            input.extend(piece);
        }
        6 => {
            let end = (at + 1 + usize::from(byte & 15)).min(input.len());
            input.drain(at..end);
        }
        _ => {
            let other = &corpus[place(dice, corpus.len() - 1)];
            let from = place(dice, other.len());
            input.truncate(at);
            input.extend(&other[from..]);
        }
    }
    input.truncate(LEN_MAX);
}

/// Runs a target with its corpus, then with changes of it and of what was found: so many, or for so long. An input that
/// panics is written to the directory for temporary files, and named; those that were found are written to `keep`.
pub(in crate::sim) fn fuzz(
    target: Target,
    seed: u64,
    runs: u64,
    time: Option<Duration>,
    keep: Option<&Path>,
) -> FuzzReport {
    let (name, run) = target;
    let begin = Instant::now();
    let mut corpus = corpus(name);
    let attempt = |input: &[u8]| {
        let outcome = std::panic::catch_unwind(|| run(input));
        if let Err(panic) = outcome {
            let path = std::env::temp_dir().join(format!("ptgt-fuzz-{name}-{seed}"));
            _ = std::fs::write(&path, input);
            eprintln!("{name}: the input is in {}", path.display());
            std::panic::resume_unwind(panic);
        }
    };
    let mut report = FuzzReport { runs: 0, corpus: corpus.len(), found: 0, edges: (0, 0) };
    let mut coverage = Coverage::default();
    coverage.take();
    coverage = Coverage::default();
    if corpus.is_empty() {
        return report;
    }
    for input in &corpus {
        attempt(input);
        report.runs += 1;
        coverage.take();
    }
    let mut dice = Dice::new(seed);
    while report.runs < runs && time.is_none_or(|time| begin.elapsed() < time) {
        let mut input = corpus[place(&mut dice, corpus.len() - 1)].clone();
        for _ in 0..1 + dice.below(6) {
            change(&mut input, &corpus, &mut dice);
        }
        attempt(&input);
        report.runs += 1;
        if coverage.take() {
            report.found += 1;
            if let Some(folder) = keep {
                _ = std::fs::write(folder.join(format!("{name}-{seed}-{}", report.found)), &input);
            }
            corpus.push(input);
        }
    }
    report.edges = coverage.edges();
    report
}
