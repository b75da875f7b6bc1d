// SPDX-License-Identifier: GPL-2.0-or-later
//! What a run, or many, went through: so that a reader sees that the world is not a quiet one.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;

/// Counts by name: how often, and in how many runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally(BTreeMap<String, (u64, u64)>);

impl Tally {
    pub(super) fn count(&mut self, what: &str) {
        self.add(what, 1);
    }

    pub(super) fn add(&mut self, what: &str, count: u64) {
        if count > 0 {
            match self.0.get_mut(what) {
                Some((sum, _)) => *sum += count,
                None => _ = self.0.insert(what.to_owned(), (count, 1)),
            }
        }
    }

    /// Adds what one run, or many, have counted.
    pub(super) fn merge(&mut self, other: &Self) {
        for (what, (count, runs)) in &other.0 {
            let (sum, all) = self.0.entry(what.clone()).or_default();
            (*sum, *all) = (*sum + count, *all + runs);
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:>12}  {:>8}  what", "times", "in runs")?;
        for (what, (count, runs)) in &self.0 {
            writeln!(f, "{count:>12}  {runs:>8}  {what}")?;
        }
        Ok(())
    }
}

thread_local! {
    static HEARD: RefCell<Tally> = RefCell::default();
}

/// A logger that counts what the target says at level trace, to see states that nobody outside can.
struct Ear;

impl log::Log for Ear {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.target().starts_with("ptgt::")
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) && record.level() == log::Level::Trace {
            HEARD.with_borrow_mut(|heard| heard.count(&record.args().to_string()));
        }
    }

    fn flush(&self) {}
}

/// Listens from now on.
pub(super) fn listen() {
    // It fails when it is called again, or when somebody else listens.
    if log::set_logger(&Ear).is_ok() {
        log::set_max_level(log::LevelFilter::Trace);
    }
}

/// What was heard on this thread since the last call.
pub(super) fn heard() -> Tally {
    HEARD.take()
}
