// SPDX-License-Identifier: GPL-2.0-or-later
//! The control plane of a target: a logical unit comes while the target runs, and goes again, if all cores agree.
//! Nobody uses it; its LUN is between those that are used, and one core may own it. Disks that are used are replaced:
//! another logical unit with the same medium and reservations has the LUN from one moment to the next. Initiators may
//! notice unit attentions, and nothing else.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};

use super::canary::Canary;
use super::media;
use super::scsi;
use crate::adapters::fabric::PortsChange;
use crate::adapters::iscsi::IscsiShare;
use crate::adapters::iscsi::topology::Topology;
use crate::devices::sbc::Disk;
use crate::engine::agreement::{Ballot, Decision, Ticket};
use crate::engine::report::CoreReport;
use crate::engine::shard::Message;
use crate::engine::tasks::{NewUnit, SharedState, UnitKey, UnitKeys};
use crate::engine::topology::{MakeShare, RetiredUnit, TopologyMessage, TopologyShare, Vote};
use crate::io::Store;
use crate::reactor::{CoreContext, Sender};
use crate::scsi::Lun;
use crate::stores::exclusive::ExclusiveGate;

/// Where the unit is that comes and goes.
const LUN: Lun = Lun(1);

/// A disk that is used.
pub(super) struct UsedDisk {
    pub(super) unit: UnitKey,
    pub(super) device: Arc<Disk>,
    pub(super) state: Arc<SharedState>,
    pub(super) gate: Arc<ExclusiveGate>,
    /// Another unit may take its place: it has no owner.
    pub(super) is_replaceable: bool,
}

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
    comes: Option<UnitKey>,
    goes: Option<UnitKey>,
    /// The disk that is replaced.
    disk: Option<usize>,
    stage: ChangeStage,
}

/// See the module.
pub(super) struct ControlPlane {
    topology: Arc<Topology>,
    units: UnitKeys,
    disks: Vec<UsedDisk>,
    /// Units that are used and stay.
    others: Vec<(Lun, UnitKey)>,
    /// Disks that were replaced.
    replaced: Vec<bool>,
    /// The unit that is there beside them.
    spare: Option<UnitKey>,
    last: Ticket,
    course: Option<Course>,
    canary: Option<Canary>,
}

/// What is to change.
#[derive(Clone, Copy)]
pub(super) struct Wanted {
    /// The disk that is replaced; otherwise the unit beside them comes or goes.
    pub(super) disk: Option<usize>,
    /// The core that owns the unit that comes.
    pub(super) owner: Option<usize>,
    /// The core that refuses.
    pub(super) refuses: Option<usize>,
}

impl ControlPlane {
    pub(super) fn new(
        topology: Arc<Topology>,
        units: UnitKeys,
        disks: Vec<UsedDisk>,
        canary: Option<Canary>,
    ) -> Self {
        let (last, replaced) = (Ticket::default(), vec![false; disks.len()]);
        let mut others = topology.targets[0].luns.clone();
        others.retain(|(_, unit)| disks.iter().all(|disk| disk.unit != *unit));
        Self { topology, units, disks, others, replaced, spare: None, last, course: None, canary }
    }

    /// Nothing is under way.
    pub(super) fn is_idle(&self) -> bool {
        self.course.is_none()
    }

    /// The unit that is a disk, if it has been that from the beginning.
    pub(super) fn first_unit(&self, disk: usize) -> Option<UnitKey> {
        (!self.replaced[disk]).then(|| self.disks[disk].unit)
    }

    /// Begins a change. Nothing if one is under way.
    pub(super) fn begin(&mut self, cores: &[Sender<Message>], Wanted { disk, owner, refuses }: Wanted) {
        if !self.is_idle() {
            return;
        }
        // What a core that has refused makes of a disk that others have replaced is beyond any oracle.
        let may = |disk: &usize| self.disks[*disk].is_replaceable && self.canary != Some(Canary::LoneCommit);
        let disk = disk.filter(may);
        self.last.0 += 1;
        let ticket = self.last;
        let goes = disk.map_or(self.spare, |disk| Some(self.disks[disk].unit));
        let comes = (disk.is_some() || goes.is_none()).then(|| self.units.allocate());
        let mut topology = Topology::clone(&self.topology);
        let all = self.disks.iter().enumerate();
        let used = all.map(|(number, known)| {
            let unit = comes.filter(|_| disk == Some(number)).unwrap_or(known.unit);
            (Lun(scsi::lun(number)), unit)
        });
        let spare = if disk.is_some() { self.spare } else { comes };
        let mut luns: Vec<_> =
            used.chain(spare.map(|unit| (LUN, unit))).chain(self.others.iter().copied()).collect();
        luns.sort_unstable();
        topology.targets[0].luns = luns;
        let topology = Arc::new(topology);
        let UsedDisk { device, state, gate, .. } = &self.disks[disk.unwrap_or_default()];
        let state = if disk.is_some() { state.clone() } else { Arc::default() };
        let owner = owner.filter(|_| disk.is_none());
        let (to, votes) = sync_channel(cores.len());
        for (core, sender) in cores.iter().enumerate() {
            let (topology, device, state) = (topology.clone(), device.clone(), state.clone());
            let gate = gate.clone();
            let make: MakeShare = Box::new(move |context: &CoreContext| {
                if refuses == Some(core) {
                    return Err("it has no room".to_owned());
                }
                let new = |key| NewUnit {
                    key,
                    owner,
                    server: Box::new(device.server()),
                    store: disk.map(|disk| -> Box<dyn Store> { media::store(disk, context, gate) }),
                    state,
                    slot: None,
                    faults: None,
                };
                let iscsi = IscsiShare { topology, ports: PortsChange::default() };
                Ok(TopologyShare {
                    units: comes.map(new).into_iter().collect(),
                    fabrics: vec![Box::new(iscsi)],
                    links: Vec::new(),
                })
            });
            sender.send(Message::Topology(TopologyMessage::Prepare { ticket, make, to: to.clone() }));
        }
        let stage = ChangeStage::Voting(Ballot::new(ticket, cores.len()), votes);
        self.course = Some(Course { ticket, comes, goes, disk, stage });
    }

    /// Goes on. Returns what has happened, for the tally.
    pub(super) fn turn(&mut self, cores: &[Sender<Message>]) -> Option<&'static str> {
        let Course { ticket, comes, goes, disk, stage } = self.course.as_mut()?;
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
                    comes.iter().for_each(|unit| self.units.release(*unit));
                    *stage = end(&[]);
                    return Some("changes of the topology refused");
                }
                let (to, retired) = sync_channel(cores.len());
                let retires = Vec::from_iter(*goes);
                all(&|| TopologyMessage::Commit {
                    ticket: *ticket,
                    retires: retires.clone(),
                    to: to.clone(),
                });
                let event = match (disk, *comes) {
                    (Some(disk), Some(unit)) => {
                        (self.disks[*disk].unit, self.replaced[*disk]) = (unit, true);
                        "disks replaced"
                    }
                    _ => {
                        self.spare = *comes;
                        "changes of the topology"
                    }
                };
                *stage = match goes {
                    None => end(&[]),
                    Some(_) => ChangeStage::Retiring(cores.len(), retired),
                };
                Some(event)
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
                    let gone = Vec::from_iter(*goes);
                    gone.iter().for_each(|unit| self.units.release(*unit));
                    *stage = end(&gone);
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
        let used = self.disks.iter().map(|disk| disk.unit);
        let others = self.others.iter().map(|(_, unit)| *unit);
        let mut units: Vec<UnitKey> = used.chain(self.spare).chain(others).collect();
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
