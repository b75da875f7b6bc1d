// SPDX-License-Identifier: GPL-2.0-or-later
//! How a core takes part in changes of the topology.

use super::Shard;
use crate::engine::tasks::UnitKey;
use crate::engine::topology::{ReadyShare, RetiredUnit, TopologyMessage, TopologyShare, Vote};
use crate::io::Error;

impl Shard {
    pub(super) fn hear_of_topology(&mut self, message: TopologyMessage) {
        match message {
            TopologyMessage::Prepare { ticket, make, to } => {
                let (tasks, context) = (&mut self.core.tasks, &self.context);
                let vote = self.party.prepare(ticket, || {
                    let TopologyShare { units, fabrics, links } = make(context)?;
                    let keys = units.iter().map(|unit| unit.key).collect();
                    units.into_iter().for_each(|unit| tasks.bring(unit));
                    Ok(ReadyShare { units: keys, fabrics, links })
                });
                _ = to.try_send(Vote { core: self.context.core(), ticket, vote });
            }
            TopologyMessage::Commit { ticket, retires, to } => {
                let Some(ReadyShare { fabrics, links, .. }) = self.party.decide(ticket) else { return };
                self.links.add(links);
                if self.core.tasks.is_owner() {
                    self.inspection.get_or_insert(self.core.now);
                }
                for ((index, fabric), part) in (0..).zip(&mut self.fabrics).zip(fabrics) {
                    self.core.at_work = index;
                    fabric.arrange(&mut self.core, part);
                }
                for unit in retires {
                    self.retiring.push((unit, to.clone()));
                    self.core.tasks.retire(self.core.now, unit);
                }
            }
            TopologyMessage::Abort(ticket) => {
                let ready = self.party.decide(ticket);
                for unit in ready.into_iter().flat_map(|ready| ready.units) {
                    self.core.tasks.remove_unit(unit);
                }
            }
            TopologyMessage::Remove(units, _done) => {
                for unit in units {
                    self.core.tasks.remove_unit(unit);
                }
            }
        }
    }

    /// This core has nothing to do with a unit any more.
    pub(super) fn retired(&mut self, unit: UnitKey, flushed: Result<(), Error>) {
        for (_, to) in self.retiring.extract_if(.., |(retiring, _)| *retiring == unit) {
            _ = to.try_send(RetiredUnit { unit, flushed });
        }
    }
}
