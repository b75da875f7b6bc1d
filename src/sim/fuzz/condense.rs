// SPDX-License-Identifier: GPL-2.0-or-later
//! What becomes of inputs that were found: they are run again, and the best of them go into the corpus.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::FuzzTarget;
use super::fuzzer::{Attempts, FOUND, directory, inputs};
use super::mutate::{InputPiece, InputShape};
use crate::sys::coverage::Coverage;

/// Most bytes of the inputs of a target that were found.
const FOUND_MAX: usize = 32 << 10;

/// Runs these inputs, one after the other.
pub(in crate::sim) fn run_inputs(target: &FuzzTarget, files: &[PathBuf]) -> io::Result<()> {
    for file in files {
        (target.run)(&fs::read(file)?);
    }
    Ok(())
}

/// Writes into the corpus of a target, of all that was found, as few and short inputs as can be that take the same
/// edges. Returns how many, and their bytes.
pub(in crate::sim) fn condense(target: &'static FuzzTarget, keep: &Path) -> io::Result<(usize, usize)> {
    let directory = directory(target.name);
    let path = directory.join(FOUND);
    let mut all = inputs(&keep.join(target.name));
    if path.exists() {
        all.extend(InputShape::Long.split(&fs::read(&path)?).into_iter().map(|piece| piece.data));
        fs::remove_file(&path)?;
    }
    all.sort_by_key(Vec::len);
    let mut attempts = Attempts::new(target, 0, None);
    let mut coverage = Coverage::default();
    Coverage::forget();
    for input in inputs(&directory) {
        attempts.run(&input);
        coverage.take();
    }
    let (mut kept, mut bytes) = (Vec::new(), 0);
    for input in all {
        let before = coverage.edges().0;
        attempts.run(&input);
        coverage.take();
        if coverage.edges().0 > before && bytes + 2 + input.len() <= FOUND_MAX {
            bytes += 2 + input.len();
            kept.push(InputPiece { kind: 0, data: input });
        }
    }
    fs::write(path, InputShape::Long.join(&kept))?;
    Ok((kept.len(), bytes))
}
