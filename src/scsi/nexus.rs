// SPDX-License-Identifier: GPL-2.0-or-later
//! Who talks to whom, by names that outlive a session: target ports and I_T nexuses (SAM-5 4.5 and 4.6).

use std::sync::Arc;

use super::port_name::{DEVICE, PORT, PortName, write_binary, write_name_string};
use crate::wire::scsi::DataIn;

/// A SCSI target port: for iSCSI, a target portal group of a target.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TargetPort {
    /// Its relative target port identifier, not 0 (SPC-5 3.1: unique in the daemon).
    pub relative: u16,
    /// Name of the SCSI target device: a SCSI name string (SPC-5 7.7.6.11).
    pub device: String,
    /// Its own name.
    pub name: PortName,
    /// The target port group to which it belongs.
    pub group: u16,
}

impl TargetPort {
    /// The iSCSI target port of that target and portal group tag, which is its target port group, too.
    pub fn iscsi(relative: u16, target: &str, tag: u16) -> Self {
        Self { relative, device: target.into(), name: PortName::iscsi_target(target, tag), group: tag }
    }

    /// The designation descriptors of the port and of its device (SPC-5 7.7.6).
    pub(super) fn write_designators(&self, data: &mut DataIn) {
        const RELATIVE_PORT: u8 = 4;
        const PORT_GROUP: u8 = 5;
        let protocol = self.name.protocol();
        for (kind, number) in [(RELATIVE_PORT, self.relative), (PORT_GROUP, self.group)] {
            write_binary(protocol, PORT | kind, &u32::from(number).to_be_bytes(), data);
        }
        self.name.write_designator(data);
        write_name_string(protocol, DEVICE, &self.device, data);
    }

    /// Its descriptor in the SCSI Ports page (SPC-5 7.7.15).
    pub(super) fn write_port(&self, data: &mut DataIn) {
        data.u16(0).u16(self.relative).u32(0).u16(0);
        let length = data.len();
        data.u16(0);
        self.name.write_designator(data);
        data.close(length, 2);
    }
}

/// An I_T nexus, the same after the initiator's next login.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Nexus {
    /// The initiator port.
    pub initiator: PortName,
    /// The target port.
    pub port: Arc<TargetPort>,
}

/// The number of an I_T nexus: unique while the daemon runs, never reused. The default is that of none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NexusId(u64);

impl NexusId {
    /// For tests of what does not ask where it comes from.
    #[cfg(test)]
    pub(crate) const fn of(number: u64) -> Self {
        Self(number)
    }
}

/// Gives out the numbers of the I_T nexuses of a core, whatever their fabric. No two cores give the same.
#[derive(Debug)]
pub struct NexusIds(u64);

impl NexusIds {
    /// Those of that core.
    pub const fn of_core(core: usize) -> Self {
        Self((core as u64) << 48)
    }

    /// One that no nexus has had.
    pub fn allocate(&mut self) -> NexusId {
        self.0 += 1;
        NexusId(self.0)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_two_nexuses_have_the_same_number() {
        let mut cores = [0, 1, 63].map(NexusIds::of_core);
        let mut given = HashSet::from([NexusId::default()]);
        for _ in 0..1000 {
            assert!(cores.iter_mut().all(|ids| given.insert(ids.allocate())));
        }
    }
}
