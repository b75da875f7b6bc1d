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
        let task_sets = &self.nexuses[self.tasks[task as usize].nexus].task_sets;
        task_sets.iter().find_map(|task_set| {
            let unit = &self.units[task_set.unit.0];
            let traits = unit.server.copies_as(name)?;
            Some(Peer { unit: task_set.unit, geometry: unit.geometry(), traits })
        })
    }

    /// Whether the logical unit `at`, which is not the task's own, refuses it this operation: by the reservations and port
    /// states in force on this core, or by what its device says. While those change, the operation waits afterwards, and
    /// comes here again.
    pub(super) fn may_not_reach(&self, task: u32, at: usize, op: &Op) -> bool {
        let task_sets = &self.nexuses[self.tasks[task as usize].nexus].task_sets;
        let Some(task_set) = task_sets.iter().find(|task_set| task_set.unit.0 == at) else { return true };
        let unit = &self.units[at];
        let access =
            if matches!(op, Op::Read { .. } | Op::Extent { .. }) { Access::Read } else { Access::Write };
        let nexus_access = &task_set.access;
        !nexus_access.open && !unit.state.admits(nexus_access, access)
            || !unit.server.admits(op, &unit.geometry())
    }
}
