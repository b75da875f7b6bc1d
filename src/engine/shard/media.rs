// SPDX-License-Identifier: GPL-2.0-or-later
//! Media that come to logical units of this core and go from them.

use super::{Shard, Stop};
use crate::engine::agreement::Ticket;
use crate::engine::media::MediumMessage;
use crate::engine::tasks::{MediumChange, MediumRefusal};

impl Shard {
    pub(super) fn hear_of_media(&mut self, message: MediumMessage) {
        match message {
            MediumMessage::Change { unit, ticket, force, attach, to } => {
                let store = match self.stop {
                    Stop::No => attach.map(|attach| attach(&self.context)).transpose(),
                    _ => Err("the daemon is stopping".to_owned()),
                };
                match store {
                    Ok(store) => {
                        self.changing_media.push((ticket, to));
                        let change = MediumChange { force, store };
                        self.core.tasks.change_medium(self.core.now, unit, change, ticket.0);
                    }
                    Err(why) => _ = to.try_send(Err(why.into())),
                }
            }
            MediumMessage::GiveUp(Ticket(what)) => self.core.tasks.give_up_medium(self.core.now, what),
        }
    }

    /// A change of a medium has ended.
    pub(super) fn medium_changed(&mut self, what: u64, outcome: &Result<(), MediumRefusal>) {
        for (_, to) in self.changing_media.extract_if(.., |(ticket, _)| ticket.0 == what) {
            _ = to.try_send(outcome.clone());
        }
    }
}
