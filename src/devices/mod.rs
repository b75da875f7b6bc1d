// SPDX-License-Identifier: GPL-2.0-or-later
//! What a command means to a logical unit: a room for each device type.

pub mod sbc;
pub mod smc;
pub mod ssc;
#[cfg(test)]
pub(crate) mod toy;

use std::fmt::Debug;
use std::path::PathBuf;
use std::sync::Arc;

use crate::io::StoreNeeds;
use crate::scsi::primary::LogicalUnit;

/// How a logical unit of some device type is set up.
pub trait DeviceOptions: Debug + Send + Sync {
    /// The logical unit, after its first power-on; `management` and `epoch` as in
    /// [`PrimaryUnit::new`](crate::scsi::primary::PrimaryUnit::new).
    fn unit(&self, management: Option<Arc<str>>, epoch: u64) -> Arc<dyn LogicalUnit>;

    /// What it wants of its store.
    fn needs(&self) -> StoreNeeds;

    /// What belongs to it, if it is a library.
    fn library(&self) -> Option<&LibraryPlan> {
        None
    }
}

/// What belongs to a library.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LibraryPlan {
    /// Where the images of its cartridges lie.
    pub cartridges: PathBuf,
    /// The names of the logical units that are its drives.
    pub drives: Vec<String>,
}
