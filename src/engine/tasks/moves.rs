// SPDX-License-Identifier: GPL-2.0-or-later
//! Tasks of changers that wait for media to be moved.

use super::{NexusKey, TaskManager, Transports};
use crate::engine::media::MediaMover;
use crate::io::Tag;
use crate::scsi::{DriveChange, MoveFailure, Resume};
use crate::time::Instant;

impl TaskManager {
    /// Says who moves the media of libraries: this core's handle. Without it nothing moves.
    pub fn move_with(&mut self, media_mover: Box<dyn MediaMover>) {
        self.media_mover = Some(media_mover);
    }

    /// Hands over what a task wants to be moved.
    pub(super) fn move_media(&mut self, task: u32, changes: Vec<DriveChange>) -> Result<(), MoveFailure> {
        let changer = self.units[self.tasks[task as usize].unit].key;
        let mover = self.media_mover.as_mut().ok_or(MoveFailure::Failed)?;
        mover.begin(Tag(task), changer, changes);
        self.moving += 1;
        Ok(())
    }

    /// Takes the moves that have ended, and carries their tasks on.
    pub(super) fn poll_moves(
        &mut self,
        now: Instant,
        transports: &mut dyn Transports,
        touched: &mut dyn FnMut(NexusKey),
    ) -> usize {
        let mut moved = Vec::new();
        if let Some(mover) = &mut self.media_mover {
            mover.poll(&mut moved);
        }
        self.moving -= moved.len();
        for &(tag, outcome) in &moved {
            self.carry_on(now, tag.0, Resume::MediaMoved(outcome), transports, touched);
        }
        moved.len()
    }
}
