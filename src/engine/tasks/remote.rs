// SPDX-License-Identifier: GPL-2.0-or-later
//! Logical units that another core owns. The nexus has no task sets for them here: its commands, its data and its task
//! management functions go to the owner, where a mirror of the nexus stands in for it, with task sets, unit attentions
//! and access like any other nexus. What the owner's task manager tells the mirror's transport comes back as a
//! [`TransportCall`].
//!
//! The owner carries these messages in order, each way. So nothing has to be known here of what becomes of a command:
//! whatever is asked of it comes to the owner after it, and the last that is heard of it, its status or its
//! termination, makes its tag free. What has crossed with that is about a tag that the owner no longer knows, and is
//! dropped there before a new command of that tag comes.

use std::sync::Arc;

use smallvec::SmallVec;

use super::line::CommandPlace;
use super::remote_nexus::{NexusMessage, RemoteCommand, RemoteNexus, TransportCall};
use super::{AfterAbort, NexusKey, State, TaskManager, Transports};
use crate::scsi::{
    Command, Context, DeviceServer, Lun, Nexus, NexusId, Request, RequestTag, Resume, Step, TaskId,
    TaskManagementFunction, UnitKey,
};
use crate::time::Instant;

/// The server of a logical unit that has another owner.
struct Elsewhere;

impl DeviceServer for Elsewhere {
    fn start(&mut self, _: TaskId, _: &Command, _: &mut Context<'_>) -> Step {
        unreachable!("no nexus has a task set for it here")
    }

    fn resume(&mut self, _: TaskId, _: &Command, _: Resume, _: &mut Context<'_>) -> Step {
        unreachable!("as for the start")
    }

    fn abort(&mut self, _: TaskId) {}
}

impl TaskManager {
    /// Adds a logical unit whose owner is another core: see [`TaskManager::make_serial`].
    pub fn add_remote_unit(&mut self, key: UnitKey, owner: usize) {
        self.add_unit(key, Box::new(Elsewhere), None);
        self.units[key.row()].place = CommandPlace::At(owner);
    }

    /// The next message for another core: which, by which key the nexus goes at the core of its session, and what.
    pub fn poll_nexus_message(&mut self) -> Option<(usize, NexusKey, NexusMessage)> {
        self.outgoing.pop_front()
    }

    /// Whether a nexus of this core is mirrored anywhere.
    pub fn is_mirrored(&self) -> bool {
        self.nexuses.iter().any(|(_, nexus)| nexus.remote.is_some())
    }

    /// Whether the transport of a nexus is gone, as far as that is remembered.
    pub fn is_gone(&self, nexus: NexusKey) -> bool {
        self.nexuses.get(nexus.0).is_none_or(|nexus| nexus.gone)
    }

    /// Whether a command waits for Data-Out.
    pub fn is_fetching(&self, nexus: NexusKey, request_tag: RequestTag) -> bool {
        self.task_in(nexus, request_tag, State::Fetching).is_some()
    }

    fn tell_owner(&mut self, owner: usize, nexus: NexusKey, request: Request) {
        self.outgoing.push_back((owner, nexus, NexusMessage::Request(request)));
    }

    /// Which of some units other cores own, and which cores.
    fn units_elsewhere(&self, units: &[(Lun, UnitKey)]) -> Vec<(Lun, UnitKey, usize)> {
        let owner = |unit| match self.units[self.row(unit)?].place {
            CommandPlace::At(owner) => Some(owner),
            CommandPlace::Everywhere | CommandPlace::Here(_) => None,
        };
        units.iter().filter_map(|&(lun, unit)| Some((lun, unit, owner(unit)?))).collect()
    }

    /// A nexus sees other units: those who own some are told, and joined if they were not.
    pub(super) fn see_at_owners(&mut self, nexus: NexusKey, units: &[(Lun, UnitKey)]) {
        let elsewhere = self.units_elsewhere(units);
        let entry = &mut self.nexuses[nexus.0];
        if entry.mirror {
            return;
        }
        let Some(remote) = &mut entry.remote else { return self.join_owners(nexus, units) };
        let Some((id, name)) = &entry.who else { return };
        let mut owners: SmallVec<[usize; 2]> = elsewhere.iter().map(|(_, _, owner)| *owner).collect();
        owners.sort_unstable();
        owners.dedup();
        for &owner in &remote.owners {
            self.outgoing.push_back((owner, nexus, NexusMessage::See(units.to_vec())));
        }
        for owner in owners {
            if !remote.owners.contains(&owner) {
                remote.owners.push(owner);
                let join = NexusMessage::Join { id: *id, name: name.clone(), units: units.to_vec() };
                self.outgoing.push_back((owner, nexus, join));
            }
        }
        remote.units = elsewhere;
    }

    /// Joins the owners of what a new nexus sees.
    pub(super) fn join_owners(&mut self, nexus: NexusKey, units: &[(Lun, UnitKey)]) {
        let elsewhere = self.units_elsewhere(units);
        if elsewhere.is_empty() {
            return;
        }
        let mut owners: SmallVec<[usize; 2]> = elsewhere.iter().map(|(_, _, owner)| *owner).collect();
        owners.sort_unstable();
        owners.dedup();
        let entry = &mut self.nexuses[nexus.0];
        let Some((id, name)) = &entry.who else { return };
        for &owner in &owners {
            let join = NexusMessage::Join { id: *id, name: name.clone(), units: units.to_vec() };
            self.outgoing.push_back((owner, nexus, join));
        }
        let (commands, functions) = Default::default();
        let remote = RemoteNexus { units: elsewhere, owners, commands, functions, leaving: None };
        entry.remote = Some(Box::new(remote));
    }

    /// Mirrors a nexus of another core: it has task sets for the units that this core owns.
    pub fn add_mirror(&mut self, id: NexusId, name: Arc<Nexus>, units: &[(Lun, UnitKey)]) -> NexusKey {
        self.add_nexus_or_mirror(id, name, units, true)
    }

    /// The nexus that is mirrored is gone. The core of its session hears when the last task has ended.
    pub fn remove_mirror(&mut self, now: Instant, mirror: NexusKey, core: usize, nexus: NexusKey) {
        self.remove_nexus(now, mirror, Some(AfterAbort::Left { core, nexus }));
    }

    /// Sends a command to the owner of its unit.
    #[cold]
    pub(super) fn forward(
        &mut self,
        owner: usize,
        nexus: NexusKey,
        request_tag: RequestTag,
        command: Command,
    ) {
        let Some(remote) = &mut self.nexuses[nexus.0].remote else { return };
        let slot = request_tag.0 as usize;
        if remote.commands.len() <= slot {
            remote.commands.resize(slot + 1, None);
        }
        remote.commands[slot] = Some(RemoteCommand { owner, moves_data: false });
        self.tell_owner(owner, nexus, Request::Command { request_tag, command });
    }

    /// What the transport has for a command that is no task here: the owner knows it, or it has ended.
    #[cold]
    pub(super) fn forward_for(&mut self, nexus: NexusKey, request_tag: RequestTag, request: Request) {
        if let Some(command) =
            self.nexuses[nexus.0].remote.as_mut().and_then(|remote| remote.command(request_tag))
        {
            command.moves_data = false;
            let owner = command.owner;
            self.tell_owner(owner, nexus, request);
        }
    }

    /// Sends a task management function to the owner of its unit.
    pub(super) fn forward_function(
        &mut self,
        owner: usize,
        nexus: NexusKey,
        request: RequestTag,
        function: TaskManagementFunction,
        lun: Lun,
    ) {
        if let Some((id, _)) = self.nexuses[nexus.0].who {
            self.tell_owner(owner, nexus, Request::TaskManagement { request, nexus: id, function, lun });
        }
    }

    /// The units of a nexus that others own are reset, too.
    pub(super) fn reset_at_owners(&mut self, nexus: NexusKey, request: RequestTag, pending: usize) {
        let entry = &mut self.nexuses[nexus.0];
        let (Some((id, _)), Some(remote)) = (entry.who.clone(), &mut entry.remote) else { return };
        let (function, lun) = (TaskManagementFunction::TargetReset, Lun::ZERO);
        let owners = remote.owners.clone();
        remote.functions.extend(owners.iter().map(|_| (request, pending)));
        self.pending[pending].left += owners.len();
        for owner in owners {
            self.tell_owner(owner, nexus, Request::TaskManagement { request, nexus: id, function, lun });
        }
    }

    /// A nexus that is gone leaves the owners that it has joined.
    pub(super) fn leave_owners(&mut self, nexus: NexusKey, pending: Option<usize>) {
        // Without a mirror it may be forgotten by now.
        let Some(remote) = self.nexuses.get_mut(nexus.0).and_then(|entry| entry.remote.as_mut()) else {
            return;
        };
        remote.leaving = pending;
        remote.commands.clear();
        let (owners, functions) = (remote.owners.clone(), std::mem::take(&mut remote.functions));
        if let Some(pending) = pending {
            self.pending[pending].left += owners.len();
        }
        self.outgoing.extend(owners.into_iter().map(|owner| (owner, nexus, NexusMessage::Leave)));
        for (_, waits) in functions {
            self.one_less(waits);
        }
    }

    /// Whether the owner of a command of this nexus works for it.
    pub(super) fn is_remote_busy(&self, nexus: NexusKey) -> bool {
        let remote = self.nexuses[nexus.0].remote.as_ref();
        remote.is_some_and(|remote| remote.commands.iter().flatten().any(|command| !command.moves_data))
    }

    /// Takes what an owner has for the transport of a nexus.
    pub fn called(
        &mut self,
        nexus: NexusKey,
        call: TransportCall,
        transports: &mut dyn Transports,
        touched: &mut dyn FnMut(NexusKey),
    ) {
        let Some(entry) = self.nexuses.get_mut(nexus.0).filter(|entry| !entry.gone) else { return };
        match call {
            TransportCall::ReceiveDataOut(request_tag, _) | TransportCall::SendDataIn(request_tag, _) => {
                if let Some(command) = entry.remote.as_mut().and_then(|remote| remote.command(request_tag)) {
                    command.moves_data = true;
                }
            }
            TransportCall::SendCommandComplete(request_tag, _) | TransportCall::Terminate(request_tag, _) => {
                if let Some(remote) = &mut entry.remote {
                    remote.commands[request_tag.0 as usize] = None;
                }
            }
            TransportCall::TaskManagementExecuted(request, _) => {
                let functions = entry.remote.as_mut().map(|remote| &mut remote.functions);
                let waits = functions.and_then(|functions| {
                    let index = functions.iter().position(|(waiting, _)| *waiting == request)?;
                    Some(functions.swap_remove(index).1)
                });
                if let Some(pending) = waits {
                    return self.one_less(pending);
                }
            }
            TransportCall::ReportEvent(..) => {}
        }
        if let Some(transport) = transports.transport(nexus) {
            call.make(transport);
            touched(nexus);
        }
    }

    /// An owner has ended the last task of a nexus.
    pub fn left(&mut self, owner: usize, nexus: NexusKey) {
        let Some(remote) = &mut self.nexuses[nexus.0].remote else { return };
        remote.owners.retain(|other| *other != owner);
        let leaving = remote.leaving;
        if remote.owners.is_empty() {
            self.nexuses[nexus.0].remote = None;
        }
        if let Some(pending) = leaving {
            self.one_less(pending);
        }
        self.forget_nexus(nexus.0);
    }
}
