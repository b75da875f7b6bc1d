// SPDX-License-Identifier: GPL-2.0-or-later
//! From the options of a disk to the disk.

use std::sync::Arc;

use super::config::Config;
use super::disk::Disk;
use crate::devices::DeviceOptions;
use crate::io::StoreNeeds;
use crate::scsi::primary::LogicalUnit;

impl DeviceOptions for Config {
    fn unit(&self, management: Option<Arc<str>>, epoch: u64) -> Arc<dyn LogicalUnit> {
        Arc::new(Disk::new(Self { management, epoch, ..self.clone() }))
    }

    fn needs(&self) -> StoreNeeds {
        StoreNeeds { block: self.block.bytes(), read_only: self.read_only, thin: self.thin }
    }
}
