// SPDX-License-Identifier: GPL-2.0-or-later
//! The control plane of a target: a logical unit comes while the target runs, and goes again, if all cores agree.
//! Nobody uses it; its LUN is between those that are used.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};

use super::canary::Canary;
use crate::adapters::fabric::PortsChange;
use crate::adapters::iscsi::IscsiShare;
use crate::adapters::iscsi::topology::Topology;
use crate::devices::sbc::Disk;
use crate::engine::agreement::{Ballot, Decision, Ticket};
use crate::engine::report::CoreReport;
use crate::engine::shard::Message;
use crate::engine::tasks::{NewUnit, UnitKey, UnitKeys};
use crate::engine::topology::{MakeShare, RetiredUnit, TopologyMessage, TopologyShare, Vote};
use crate::reactor::Sender;
use crate::scsi::Lun;

/// Where the unit is.
const LUN: Lun = Lun(1);

/// How far a change has come.
enum ChangeStage {
    Voting(Ballot, Receiver<Vote>),
    /// So many cores have still to do with the unit that goes.
    Retiring(usize, Receiver<RetiredUnit>),
    /// Until all cores have heard of the end.
    Ending(Receiver<()>),
}

/// A change that has not ended.
struct Course {
    ticket: Ticket,
    /// The unit that comes or goes.
    unit: UnitKey,
    comes: bool,
    stage: ChangeStage,
}

/// See the module.
pub(super) struct ControlPlane {
    /// Without the unit.
    topology: Arc<Topology>,
    units: UnitKeys,
    /// Those that are always there.
    used: Vec<UnitKey>,
    /// The unit that is there beside them.
    spare: Option<UnitKey>,
    last: Ticket,
    course: Option<Course>,
    canary: Option<Canary>,
}

impl ControlPlane {
    pub(super) fn new(
        topology: Arc<Topology>,
        units: UnitKeys,
        used: Vec<UnitKey>,
        canary: Option<Canary>,
    ) -> Self {
        let last = Ticket::default();
        Self { topology, units, used, spare: None, last, course: None, canary }
    }

    /// Nothing is under way.
    pub(super) fn is_idle(&self) -> bool {
        self.course.is_none()
    }

    /// Lets the unit come, or go if it is there. One core may refuse. Nothing if a change is under way.
    pub(super) fn begin(&mut self, cores: &[Sender<Message>], disk: &Arc<Disk>, refuses: Option<usize>) {
        if !self.is_idle() {
            return;
        }
        self.last.0 += 1;
        let (ticket, comes) = (self.last, self.spare.is_none());
        let unit = self.spare.unwrap_or_else(|| self.units.allocate());
        let mut topology = Topology::clone(&self.topology);
        if comes {
            let luns = &mut topology.targets[0].luns;
            luns.push((LUN, unit));
            luns.sort_unstable();
        }
        let topology = Arc::new(topology);
        let state = Arc::default();
        let (to, votes) = sync_channel(cores.len());
        for (core, sender) in cores.iter().enumerate() {
            let (topology, disk, state) = (topology.clone(), disk.clone(), Arc::clone(&state));
            let make: MakeShare = Box::new(move |_| {
                if refuses == Some(core) {
                    return Err("it has no room".to_owned());
                }
                let new = || NewUnit {
                    key: unit,
                    owner: None,
                    server: Box::new(disk.server()),
                    store: None,
                    state,
                    slot: None,
                    faults: None,
                };
                let iscsi = IscsiShare { topology, ports: PortsChange::default() };
                Ok(TopologyShare {
                    units: comes.then(new).into_iter().collect(),
                    fabrics: vec![Box::new(iscsi)],
                })
            });
            sender.send(Message::Topology(TopologyMessage::Prepare { ticket, make, to: to.clone() }));
        }
        let stage = ChangeStage::Voting(Ballot::new(ticket, cores.len()), votes);
        self.course = Some(Course { ticket, unit, comes, stage });
    }

    /// Goes on. Returns what has happened, for the tally.
    pub(super) fn turn(&mut self, cores: &[Sender<Message>]) -> Option<&'static str> {
        let Course { ticket, unit, comes, stage } = self.course.as_mut()?;
        let all = |message: &dyn Fn() -> TopologyMessage| {
            cores.iter().for_each(|core| core.send(Message::Topology(message())));
        };
        let end = |units: &[UnitKey]| {
            let (to, done) = sync_channel(1);
            all(&|| TopologyMessage::Remove(units.to_vec(), to.clone()));
            ChangeStage::Ending(done)
        };
        match stage {
            ChangeStage::Voting(ballot, votes) => {
                let vote = votes.try_recv();
                let decision = match vote {
                    Ok(Vote { core, ticket, vote }) => ballot.vote(core, ticket, vote)?.clone(),
                    Err(TryRecvError::Empty) => return None,
                    Err(TryRecvError::Disconnected) => ballot.give_up("they have ended").clone(),
                };
                let decision = match self.canary {
                    Some(Canary::LoneCommit) => Decision::Commit,
                    _ => decision,
                };
                if decision != Decision::Commit {
                    all(&|| TopologyMessage::Abort(*ticket));
                    if *comes {
                        self.units.release(*unit);
                    }
                    *stage = end(&[]);
                    return Some("changes of the topology refused");
                }
                let (to, retired) = sync_channel(cores.len());
                let retires = if *comes { Vec::new() } else { vec![*unit] };
                all(&|| TopologyMessage::Commit {
                    ticket: *ticket,
                    retires: retires.clone(),
                    to: to.clone(),
                });
                self.spare = comes.then_some(*unit);
                *stage = if *comes { end(&[]) } else { ChangeStage::Retiring(cores.len(), retired) };
                Some("changes of the topology")
            }
            ChangeStage::Retiring(left, retired) => {
                let done = match retired.try_recv() {
                    Ok(_) => {
                        *left -= 1;
                        *left == 0
                    }
                    Err(TryRecvError::Empty) => return None,
                    Err(TryRecvError::Disconnected) => true,
                };
                if done {
                    self.units.release(*unit);
                    *stage = end(&[*unit]);
                }
                Some("units retired")
            }
            ChangeStage::Ending(done) => {
                if done.try_recv() == Err(TryRecvError::Empty) {
                    return None;
                }
                self.course = None;
                Some("changes of the topology ended")
            }
        }
    }

    /// All cores have the units that were agreed on, and no other.
    pub(super) fn check(&self, reports: &[CoreReport]) -> Result<(), String> {
        let mut units: Vec<UnitKey> = self.used.iter().chain(&self.spare).copied().collect();
        units.sort_unstable();
        let has = |report: &&CoreReport| report.units.keys().copied().eq(units.iter().copied());
        match reports.iter().find(|report| self.is_idle() && !has(report)) {
            Some(CoreReport { core, units: found, .. }) => Err(format!(
                "core {core} has the units {:?}, and not {units:?}",
                found.keys().collect::<Vec<_>>()
            )),
            None => Ok(()),
        }
    }
}
