// SPDX-License-Identifier: GPL-2.0-or-later
//! What is kept of a text request and its answer while more PDUs of either are to come.

/// A text request and its answer.
#[derive(Default)]
pub(super) struct TextExchange {
    /// The initiator may go on: the task tag under which it does.
    pub(super) open: Option<u32>,
    /// The target transfer tag that it gives back then.
    pub(super) tag: u32,
    pub(super) asked: Vec<u8>,
    /// What of the answer has not been sent.
    pub(super) answer: Vec<u8>,
    /// The targets that come behind that.
    pub(super) list: Option<TargetList>,
    /// The request had the F bit, so the exchange ends with its answer.
    pub(super) last: bool,
}

/// A list of targets that is being told.
pub(super) struct TargetList {
    /// Of this target alone.
    pub(super) only: Option<String>,
    /// Addresses that have been told.
    pub(super) told: usize,
}

impl TextExchange {
    /// Bytes of text that are kept.
    pub(super) fn held(&self) -> usize {
        self.asked.len() + self.answer.len()
    }
}
