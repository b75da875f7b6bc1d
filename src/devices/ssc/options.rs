// SPDX-License-Identifier: GPL-2.0-or-later
//! From the options of a tape drive to the drive.

use std::sync::Arc;

use super::config::TapeOptions;
use super::drive::Tape;
use crate::devices::DeviceOptions;
use crate::formats::tape::BLOCK;
use crate::io::StoreNeeds;
use crate::scsi::primary::LogicalUnit;

impl DeviceOptions for TapeOptions {
    fn unit(&self, management: Option<Arc<str>>, epoch: u64) -> Arc<dyn LogicalUnit> {
        Arc::new(Tape::new(Self { management, epoch, ..self.clone() }))
    }

    fn needs(&self) -> StoreNeeds {
        StoreNeeds { block: BLOCK as u32, read_only: self.read_only, thin: true }
    }
}
