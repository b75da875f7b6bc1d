// SPDX-License-Identifier: GPL-2.0-or-later
//! Changes of media: see [`super::medium`].

use crate::io::Store;

/// Why everything is as before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediumRefusal {
    /// An initiator prevents the removal of the medium.
    pub prevented: bool,
    /// The same, or another reason, in words.
    pub why: String,
}

impl From<String> for MediumRefusal {
    fn from(why: String) -> Self {
        Self { prevented: false, why }
    }
}

/// What becomes of the medium of a logical unit: if there is one, it goes.
#[derive(Default)]
pub struct MediumChange {
    /// Even if initiators prevent that, or what was written cannot be brought to it.
    pub force: bool,
    /// This core's handle to the store of the medium that comes, if one does.
    pub store: Option<Box<dyn Store>>,
}

/// A change that has not ended.
pub(super) struct ChangingMedium {
    /// Which has its place in the line.
    pub(super) task: u32,
    pub(super) change: MediumChange,
    /// The owner's name for it.
    pub(super) what: u64,
}
