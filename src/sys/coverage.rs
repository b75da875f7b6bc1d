// SPDX-License-Identifier: GPL-2.0-or-later
//! Which edges of the program have been taken, if it was compiled to count them: SanitizerCoverage of LLVM with inline
//! counters of eight bits, which `ci/fuzz/cover.sh` asks for.

use std::sync::{Mutex, PoisonError};

/// Counters of a piece of the program: their address, and how many.
static COUNTERS: Mutex<Vec<(usize, usize)>> = Mutex::new(Vec::new());

/// Told by each object file before `main`. The linker puts the counters of all of them together, so that most say the same.
// SAFETY: the symbol is SanitizerCoverage's, and there is no other that has a use for it in this program.
#[unsafe(no_mangle)]
extern "C" fn __sanitizer_cov_8bit_counters_init(start: *mut u8, end: *mut u8) {
    let range = (start.expose_provenance(), end.addr() - start.addr());
    let mut counters = COUNTERS.lock().unwrap_or_else(PoisonError::into_inner);
    if !counters.contains(&range) {
        counters.push(range);
    }
}

/// What has been seen so far.
#[derive(Debug, Default)]
pub(crate) struct Coverage {
    /// For each edge, how often it was taken in one go: a bit for once, one for twice, and so on in powers of two.
    seen: Vec<u8>,
}

impl Coverage {
    /// Notes what was taken since the last call, and sets all counters to zero. Returns whether any of it is new.
    pub(crate) fn take(&mut self) -> bool {
        let counters = COUNTERS.lock().unwrap_or_else(PoisonError::into_inner);
        self.seen.resize(counters.iter().map(|(_, len)| len).sum(), 0);
        let mut new = false;
        let mut edge = 0;
        for &(base, len) in &*counters {
            for at in base..base + len {
                let counter = std::ptr::with_exposed_provenance_mut::<u8>(at);
                // SAFETY: a byte of the program's counters, which live as long as it does. The threads that count do so
                // without a lock as well; a count that gets lost does no harm.
                let count = unsafe { counter.read_volatile() };
                if count > 0 {
                    // SAFETY: as above.
                    unsafe { counter.write_volatile(0) };
                    let bit = 1 << count.ilog2();
                    new |= self.seen[edge] & bit == 0;
                    self.seen[edge] |= bit;
                }
                edge += 1;
            }
        }
        new
    }

    /// Edges that were taken, and all there are: none if nobody counts.
    pub(crate) fn edges(&self) -> (usize, usize) {
        (self.seen.iter().filter(|&&seen| seen != 0).count(), self.seen.len())
    }
}
