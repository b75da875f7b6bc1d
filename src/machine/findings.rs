// SPDX-License-Identifier: GPL-2.0-or-later
//! What was found.

use serde::Serialize;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As wanted.
    Good,
    /// It will run, but slower or less steadily than it could.
    Slower,
    /// The daemon will not start, or a port will not work.
    Fails,
}

impl Verdict {
    /// `Good`, or what it costs.
    pub fn unless(good: bool, otherwise: Self) -> Self {
        if good { Self::Good } else { otherwise }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What.
    pub what: String,
    /// How it is.
    pub found: String,
    /// How it should be.
    pub wanted: String,
    /// Why that matters, and what to do.
    pub why: String,
    /// How bad it is.
    pub verdict: Verdict,
    /// It holds whoever asks: it is no matter of the user's rights.
    #[serde(skip)]
    pub certain: bool,
}

impl Check {
    /// In one line.
    pub fn line(&self) -> String {
        format!("{}: {}; {}", self.what, self.found, self.why)
    }
}

/// A PCI device that a port is to drive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PciDevice {
    /// Its address.
    pub address: String,
    /// The driver of the kernel that it is bound to.
    pub driver: Option<String>,
    /// Whether DPDK can drive it with that.
    pub usable: bool,
}

/// All that has been looked at so far.
#[derive(Debug, Default)]
pub struct Findings {
    /// Thing by thing.
    pub checks: Vec<Check>,
    /// PCI devices that ports are to drive.
    pub devices: Vec<PciDevice>,
}

impl Findings {
    /// One more.
    pub fn add(
        &mut self,
        what: impl Into<String>,
        found: impl Into<String>,
        wanted: impl Into<String>,
        why: impl Into<String>,
        verdict: Verdict,
    ) -> &mut Check {
        let (what, found, wanted, why) = (what.into(), found.into(), wanted.into(), why.into());
        self.checks.push(Check { what, found, wanted, why, verdict, certain: false });
        self.checks.last_mut().expect("just added")
    }
}
