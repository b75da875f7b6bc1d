// SPDX-License-Identifier: GPL-2.0-or-later
//! The per-core loop: run to completion, spin while there is work, sleep when there is none.

mod context;
mod mailbox;
mod ring;
#[cfg(test)]
mod tests;

pub use context::CoreContext;
pub use mailbox::{Mailbox, Sender, mailbox};
pub use ring::{RingReceiver, RingSender, ring};

use std::io;
use std::os::fd::RawFd;
use std::time::Duration;

use crate::counters::counter_set;
use crate::sys;
use crate::time::Instant;

/// What a core does. One turn looks at everything once and never waits.
pub trait Poller {
    /// One turn. Returns how much was done; 0 means idle.
    fn turn(&mut self, now: Instant) -> usize;

    /// A turn that did something is over.
    fn turned(&mut self, _now: Instant) {}

    /// When a turn is needed even if no descriptor becomes readable.
    fn next_deadline(&self) -> Option<Instant>;

    /// Appends the descriptors that become readable when a turn is needed.
    fn wake_fds(&self, fds: &mut Vec<RawFd>);

    /// About to sleep: `true` once whoever raises work for this core without a descriptor knows that it must wake it,
    /// and nothing has come up since. `awake` takes that back.
    fn may_sleep(&mut self) -> bool;

    /// The sleep is over.
    fn awake(&mut self);

    /// Whether the loop shall end.
    fn finished(&self) -> bool;

    /// Receives the loop's figures: totals every [`TOTALS_PERIOD`], shares every [`ACCOUNT_PERIOD`].
    fn account(&mut self, load: Load);
}

counter_set! {
    /// What a core's loop has done.
    pub struct LoopCounters {
        /// Turns of the loop.
        turns: Counter of Turns as "TURNS",
        /// Time spent in turns that did something.
        busy_ns: Counter of Nanoseconds,
    }
}

/// How busy a core is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Load {
    /// Share of the last [`ACCOUNT_PERIOD`] spent in turns that did something, 0 to 1.
    pub busy: f32,
    /// Share of it asleep; what is left was spent looking for work.
    pub asleep: f32,
    /// What was counted since the start.
    pub counters: LoopCounters,
}

/// Over how long the shares of a [`Load`] are taken.
pub const ACCOUNT_PERIOD: Duration = Duration::from_secs(1);

/// How old the totals of a [`Load`] may be while there is work.
pub const TOTALS_PERIOD: Duration = Duration::from_millis(10);

/// What to do when there is nothing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idle {
    /// Keep polling for so long, then sleep on descriptors and the nearest deadline.
    Adaptive(Duration),
    /// Never sleep.
    Spin,
}

/// A mailbox for each core, and how to reach them.
pub type Mailboxes<T> = (Vec<Sender<T>>, Vec<Mailbox<T>>);

/// New ones.
pub fn mailboxes<T>(cores: usize) -> io::Result<Mailboxes<T>> {
    let pairs: Vec<_> = (0..cores).map(|_| mailbox()).collect::<Result<_, _>>()?;
    Ok(pairs.into_iter().unzip())
}

/// Runs turns until the work is finished.
pub fn run(work: &mut dyn Poller, idle: Idle) {
    let clock = || Instant::from_nanos(sys::monotonic());
    let mut fds = Vec::new();
    let mut scratch = Vec::new();
    let mut load = Load::default();
    let (mut busy, mut asleep, mut busy_time) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
    let mut now = clock();
    let mut last_work = now;
    let (mut period, mut told) = (now, now);
    while !work.finished() {
        let did = work.turn(now);
        load.counters.turns += 1;
        let after = clock();
        if did > 0 {
            busy += after - now;
            busy_time += after - now;
            last_work = after;
            work.turned(after);
        }
        now = after;
        if let Idle::Adaptive(spin) = idle
            && now - last_work >= spin
        {
            if work.may_sleep() {
                fds.clear();
                work.wake_fds(&mut fds);
                let timeout = work.next_deadline().map(|at| at - now);
                if timeout != Some(Duration::ZERO) {
                    sys::wait_readable(
                        &fds,
                        &mut scratch,
                        Some(timeout.unwrap_or(ACCOUNT_PERIOD).min(ACCOUNT_PERIOD)),
                    );
                    let woken = clock();
                    asleep += woken - now;
                    now = woken;
                }
            }
            work.awake();
        }
        let passed = now - period;
        if passed >= ACCOUNT_PERIOD {
            load.busy = busy.div_duration_f32(passed);
            load.asleep = asleep.div_duration_f32(passed);
            (busy, asleep, period) = (Duration::ZERO, Duration::ZERO, now);
        }
        if now - told >= TOTALS_PERIOD {
            load.counters.busy_ns = u64::try_from(busy_time.as_nanos()).unwrap_or(u64::MAX);
            work.account(load);
            told = now;
        }
    }
}
