// SPDX-License-Identifier: GPL-2.0-or-later
//! Tasks that work on the store of another logical unit than their own: copies. They see what their nexus sees, and are
//! let pass where a command of that nexus would be.

use super::TaskManager;
use crate::io::Op;
use crate::scsi::Peer;
use crate::scsi::primary::Designation;
use crate::scsi::reservations::Access;

impl TaskManager {
    /// Another logical unit that goes by this name, among those that the task's nexus sees.
    pub(super) fn look(&self, task: u32, name: &Designation) -> Option<Peer> {
        let views = &self.nexuses[self.tasks[task as usize].nexus].views;
        views.iter().find_map(|view| {
            let unit = &self.units[view.unit.0];
            let traits = unit.server.copies_as(name)?;
            Some(Peer { unit: view.unit, geometry: unit.geometry(), traits })
        })
    }

    /// Whether the logical unit `at`, which is not the task's own, refuses it this operation: by the reservations and port
    /// states in force on this core, or by what its device says. While those change, the operation waits afterwards, and
    /// comes here again.
    pub(super) fn barred_from(&self, task: u32, at: usize, op: &Op) -> bool {
        let views = &self.nexuses[self.tasks[task as usize].nexus].views;
        let Some(view) = views.iter().find(|view| view.unit.0 == at) else { return true };
        let unit = &self.units[at];
        let access =
            if matches!(op, Op::Read { .. } | Op::Extent { .. }) { Access::Read } else { Access::Write };
        let gate = &view.gate;
        !gate.open && !unit.state.admits(gate, access) || !unit.server.admits(op, &unit.geometry())
    }
}
