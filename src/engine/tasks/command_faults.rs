// SPDX-License-Identifier: GPL-2.0-or-later
//! Commands that are slow or fail by rule, to qualify initiators: by operation code and service action, which a store
//! does not know. A logical unit without such rules pays nothing for them but a look at whether there are any.
//!
//! A rule is about commands that would be carried out now: their turn has come, no unit attention is reported with
//! them, and nothing is reserved against them. One that is to fail does not reach the device server; one that is slow
//! reaches it later, and is under way for its task set meanwhile.

use std::sync::Arc;
use std::time::Duration;

use crate::io::{FaultRate, FaultRule};
use crate::scsi::{Cdb, Outcome, Sense, Status, primary};
use crate::time::Instant;

/// How a command ends that a rule hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// As it would: it is only slow.
    Usual,
    /// With this status, which is neither GOOD nor CHECK CONDITION.
    Status(Status),
    /// With CHECK CONDITION, and a sense key and code.
    Check(u8, u16),
}

/// What happens to which commands. Of several rules that fit, the delays add up and the first answer counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommandFault {
    /// Operation code.
    pub opcode: u8,
    /// Service action; `None` for all.
    pub action: Option<u16>,
    /// How they end.
    pub answer: Answer,
    /// How many of those, and how late.
    pub rate: FaultRate,
}

/// The rules of a logical unit, for all cores.
#[derive(Debug)]
pub struct CommandFaults(Vec<(CommandFault, FaultRule)>);

impl CommandFaults {
    /// What chance decides is the seed's.
    pub fn new(seed: u64, rules: &[CommandFault]) -> Self {
        let drawn = |(number, rule): (usize, &CommandFault)| (*rule, FaultRule::new(rule.rate, seed, number));
        Self(rules.iter().enumerate().map(drawn).collect())
    }

    pub(super) fn fate(&self, cdb: &Cdb) -> (Answer, Duration) {
        let (mut answer, mut delay) = (Answer::Usual, Duration::ZERO);
        for (rule, fault_rule) in &self.0 {
            let fits = rule.opcode == cdb.opcode()
                && rule.action.is_none_or(|action| action == primary::service_action(cdb));
            if let Some(late) = fits.then(|| fault_rule.draw()).flatten() {
                delay += late;
                if answer == Answer::Usual {
                    answer = rule.answer;
                }
            }
        }
        (answer, delay)
    }
}

impl Answer {
    pub(super) fn outcome(self) -> Option<Outcome> {
        match self {
            Self::Usual => None,
            Self::Status(status) => Some(Outcome::status(status)),
            Self::Check(key, code) => Some(Outcome::check(Sense::new(key, code))),
        }
    }
}

/// A task that is not to begin, or to end, before its time.
pub(super) struct Delayed {
    pub(super) due: Instant,
    pub(super) task: u32,
    pub(super) answer: Answer,
}

/// The faults of one core.
#[derive(Default)]
pub(super) struct Faults {
    pub(super) rules: Vec<(usize, Arc<CommandFaults>)>,
    pub(super) delayed: Vec<Delayed>,
}

impl Faults {
    /// Whether any logical unit has rules.
    #[inline]
    pub(super) fn any(&self) -> bool {
        !self.rules.is_empty()
    }

    /// When the next delay is over.
    pub(super) fn due(&self) -> Option<Instant> {
        self.delayed.iter().map(|delayed| delayed.due).min()
    }

    /// A task is aborted.
    pub(super) fn forget(&mut self, task: u32) {
        self.delayed.retain(|delayed| delayed.task != task);
    }
}
