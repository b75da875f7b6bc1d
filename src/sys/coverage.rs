// SPDX-License-Identifier: GPL-2.0-or-later
//! Which edges of the program have been taken, if it was compiled to count them: SanitizerCoverage of LLVM with inline
//! counters of eight bits, which `ci/fuzz/build.sh` asks for.

use std::sync::{Mutex, PoisonError};

/// Counters of a piece of the program: their address, and how many.
static COUNTERS: Mutex<Vec<(usize, usize)>> = Mutex::new(Vec::new());

/// Bytes of a line of the cache.
const LINE: usize = 64;

/// Told by each object file before `main`. The linker puts the counters of all of them together, so that most say the
/// same.
// SAFETY: the symbol is SanitizerCoverage's, and there is no other that has a use for it in this program.
#[unsafe(no_mangle)]
extern "C" fn __sanitizer_cov_8bit_counters_init(start: *mut u8, end: *mut u8) {
    let range = (start.expose_provenance(), end.addr() - start.addr());
    let mut counters = COUNTERS.lock().unwrap_or_else(PoisonError::into_inner);
    if !counters.contains(&range) {
        counters.push(range);
    }
}

/// Tells each edge that was taken since the last call, with how often: a bit for once, one for twice, and so on in
/// powers of two. Sets all counters to zero. Returns how many edges there are.
fn drain(mut tell: impl FnMut(usize, u8)) -> usize {
    let counters = COUNTERS.lock().unwrap_or_else(PoisonError::into_inner);
    let mut first = 0;
    for &(base, len) in &*counters {
        let mut look = |at: usize| {
            let counter = std::ptr::with_exposed_provenance_mut::<u8>(at);
            // SAFETY: a byte of the program's counters, which live as long as it does. The threads that count do so
            // without a lock as well; a count that gets lost does no harm.
            let count = unsafe { counter.read_volatile() };
            if count > 0 {
                // SAFETY: as above.
                unsafe { counter.write_volatile(0) };
                tell(first + at - base, 1 << count.ilog2());
            }
        };
        // An input takes few of the edges: the others are passed over by the line of the cache.
        let lines = base.next_multiple_of(LINE)..(base + len) / LINE * LINE;
        if lines.is_empty() {
            (base..base + len).for_each(&mut look);
        } else {
            (base..lines.start).for_each(&mut look);
            for line in lines.clone().step_by(LINE) {
                let mut any = 0;
                for at in (line..line + LINE).step_by(8) {
                    let word = std::ptr::with_exposed_provenance::<u64>(at);
                    // SAFETY: eight of the counters, as above, at a multiple of eight.
                    any |= unsafe { word.read_volatile() };
                }
                if any > 0 {
                    (line..line + LINE).for_each(&mut look);
                }
            }
            (lines.end..base + len).for_each(&mut look);
        }
        first += len;
    }
    first
}

/// What has been seen so far.
#[derive(Debug, Default)]
pub(crate) struct Coverage {
    /// For each edge, how often it was taken in one go.
    seen: Vec<u8>,
    new: Vec<(usize, u8)>,
}

impl Coverage {
    /// Lets go of what was taken since the last look.
    pub(crate) fn forget() {
        drain(|_, _| ());
    }

    /// Notes what was taken since the last look. Returns whether any of it is new.
    pub(crate) fn take(&mut self) -> bool {
        let Self { seen, new } = self;
        new.clear();
        let edges = drain(|edge, count| {
            if edge >= seen.len() {
                seen.resize(edge + 1, 0);
            }
            if seen[edge] & count == 0 {
                seen[edge] |= count;
                new.push((edge, count));
            }
        });
        seen.resize(edges, 0);
        !new.is_empty()
    }

    /// What was new in that.
    pub(crate) fn new_edges(&self) -> &[(usize, u8)] {
        &self.new
    }

    /// Whether these edges, in ascending order, have been taken as often since the last look.
    pub(crate) fn taken_all(edges: &[(usize, u8)]) -> bool {
        let mut left = edges.iter().peekable();
        drain(|edge, count| {
            if left.peek() == Some(&&(edge, count)) {
                left.next();
            }
        });
        left.next().is_none()
    }

    /// Edges that were taken, and all there are: none if nobody counts.
    pub(crate) fn edges(&self) -> (usize, usize) {
        (self.seen.iter().filter(|&&seen| seen != 0).count(), self.seen.len())
    }
}
