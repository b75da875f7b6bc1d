// SPDX-License-Identifier: GPL-2.0-or-later
//! Tasks that work on the store of another logical unit than their own: copies. They see what their nexus sees, and are
//! let pass where a command of that nexus would be.

use super::{TaskManager, UnitKey};
use crate::io::Op;
use crate::scsi::Peer;
use crate::scsi::primary::Designation;
use crate::scsi::reservations::Access;

impl TaskManager {
    /// Another logical unit that goes by this name, among those that the task's nexus sees.
    pub(super) fn look(&self, task: u32, name: &Designation) -> Option<Peer> {
        let seen = self.nexuses[self.tasks[task as usize].nexus].seen();
        seen.iter().find_map(|task_set| {
            let unit = &self.units[task_set.unit.row()];
            let traits = unit.server.copies_as(name)?;
            Some(Peer { unit: task_set.unit, geometry: unit.geometry(), traits })
        })
    }

    /// Whether the logical unit `at`, which is not the task's own, refuses it this operation: by the reservations and
    /// port states in force on this core, or by what its device says. While those change, the operation waits
    /// afterwards, and comes here again.
    pub(super) fn may_not_reach(&self, task: u32, at: UnitKey, op: &Op) -> bool {
        let seen = self.nexuses[self.tasks[task as usize].nexus].seen();
        let Some(task_set) = seen.iter().find(|task_set| task_set.unit == at) else { return true };
        let unit = &self.units[at.row()];
        let access =
            if matches!(op, Op::Read { .. } | Op::Extent { .. }) { Access::Read } else { Access::Write };
        let nexus_access = &task_set.access;
        !nexus_access.open && !unit.state.admits(nexus_access, access)
            || !unit.server.admits(op, &unit.geometry())
    }
}
