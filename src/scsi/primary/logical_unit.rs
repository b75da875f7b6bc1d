// SPDX-License-Identifier: GPL-2.0-or-later
//! A logical unit of whatever device type, for those who put a daemon together.

use std::fmt::Debug;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::identity::Identity;
use super::library::MediaLibrary;
use super::presence::MediumPresence;
use super::server::PrimaryServer;
use super::unit::{DeviceType, PrimaryUnit, ReadMedium};
use super::work::CommandSet;
use crate::scsi::DeviceServer;

/// See the module.
pub trait LogicalUnit: Debug + Send + Sync {
    /// Its names, as INQUIRY tells them.
    fn identity(&self) -> &Identity;

    /// A device server for one core.
    fn device_server(self: Arc<Self>) -> Box<dyn DeviceServer>;

    /// Takes the mode pages that were saved in an earlier run. The error says what is wrong with the record.
    fn load_modes(&self, record: &[u8]) -> Result<(), &'static str>;

    /// Takes the identifying information that was kept in an earlier run. The error says what is wrong with the record.
    fn load_information(&self, record: &[u8]) -> Result<(), &'static str>;

    /// A medium is being made ready for it, or not, as long as it has none.
    fn set_presence(&self, presence: MediumPresence);

    /// See [`DeviceType::scan`](super::unit::DeviceType::scan).
    fn scan(&self, bytes: u64, read: &mut ReadMedium<'_>);

    /// It, if it is a library.
    fn library(&self) -> Option<&dyn MediaLibrary>;

    /// How it is now, as the status tells it.
    fn report(&self) -> Map<String, Value>;
}

impl<D: CommandSet> LogicalUnit for D {
    fn identity(&self) -> &Identity {
        self.primary().identity()
    }

    fn device_server(self: Arc<Self>) -> Box<dyn DeviceServer> {
        Box::new(PrimaryServer::new(self))
    }

    fn load_modes(&self, record: &[u8]) -> Result<(), &'static str> {
        PrimaryUnit::load_modes(self, record)
    }

    fn load_information(&self, record: &[u8]) -> Result<(), &'static str> {
        self.primary().load_information(record)
    }

    fn set_presence(&self, presence: MediumPresence) {
        self.primary().set_presence(presence);
    }

    fn scan(&self, bytes: u64, read: &mut ReadMedium<'_>) {
        DeviceType::scan(self, bytes, read);
    }

    fn library(&self) -> Option<&dyn MediaLibrary> {
        DeviceType::library(self)
    }

    fn report(&self) -> Map<String, Value> {
        DeviceType::report(self)
    }
}
