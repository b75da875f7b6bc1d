// SPDX-License-Identifier: GPL-2.0-or-later
//! One core's share of the target: its fabrics, tasks and handles to the logical units, run to completion turn by turn.

mod media;
#[cfg(test)]
mod tests;
mod topology;

use std::collections::BTreeMap;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use log::warn;
use slab::Slab;
use smallvec::SmallVec;

use super::agreement::{Party, Ticket};
use super::fabric::{Census, Core, Fabric, Owners};
use super::links::PeerLinks;
use super::media::MediumMessage;
use super::report::{CoreCounters, CoreReport, UnitReport};
use super::shortage::Shortage;
use super::tasks::{AfterAbort, MediumRefusal, NexusKey, Notice, PeerMessage, TaskManager, UnitKey};
use super::topology::{ReadyShare, RetiredUnit, TopologyMessage};
use crate::activity;
use crate::io::Error;
use crate::reactor::{CoreContext, Load, Mailbox, Poller, Sender};
use crate::scsi::Change;
use crate::time::Instant;

/// How often the stores are looked after.
const INSPECTION: Duration = Duration::from_secs(1);

/// When a stopping daemon ends the sessions of those who have not logged out.
const DRAIN_TIME: Duration = Duration::from_secs(4);

/// How long after that it cuts off whoever is still there.
const DROP_TIME: Duration = Duration::from_secs(2);

/// What cores and the control plane tell each other.
pub enum Message {
    /// Reset logical units, then tell `from`.
    Reset {
        /// The logical units.
        units: SmallVec<[UnitKey; 4]>,
        /// The core that asks.
        from: usize,
        /// To be given back.
        ticket: usize,
    },
    /// A reset that was asked for is done.
    ResetDone(usize),
    /// What another core's task manager says to this core's.
    Tasks(PeerMessage),
    /// Change the state of logical units, and tell whether that has been refused for any.
    Change(Vec<(UnitKey, Change)>, SyncSender<bool>),
    /// Tell what there is, but for sessions.
    Report(SyncSender<CoreReport>),
    /// Take part in a change of the topology.
    Topology(TopologyMessage),
    /// Change the medium of a logical unit that this core owns.
    Medium(MediumMessage),
    /// Stop: let initiators log out, finish, flush.
    Drain,
}

/// Changes that the operator waits for.
struct PendingChange {
    left: usize,
    refused: bool,
    to: SyncSender<bool>,
}

/// How far a stop has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    No,
    Draining(Instant),
    /// Initiators that had not logged out by then have been told that they are dropped.
    Dropping(Instant),
    /// Media are being let go.
    Releasing,
    Flushing,
    Done,
}

/// What a shard is made of.
pub struct Parts {
    /// What all parts of the core share. Its number is its place among `peers`.
    pub context: CoreContext,
    /// Who brings commands.
    pub fabrics: Vec<Box<dyn Fabric>>,
    /// The logical units are in it already.
    pub tasks: TaskManager,
    /// What comes in from other threads.
    pub mailbox: Mailbox<Message>,
    /// The mailboxes of all cores, this one's included.
    pub peers: Vec<Sender<Message>>,
    /// How many cores have not flushed everything yet.
    pub left: Arc<AtomicUsize>,
    /// To the other cores, where some logical units have an owner.
    pub links: PeerLinks,
}

/// See the module.
pub struct Shard {
    core: Core,
    fabrics: Vec<Box<dyn Fabric>>,
    context: CoreContext,
    mailbox: Mailbox<Message>,
    peers: Vec<Sender<Message>>,
    left: Arc<AtomicUsize>,
    links: PeerLinks,
    pending_changes: Slab<PendingChange>,
    party: Party<ReadyShare>,
    /// Logical units that go, and who waits for that.
    retiring: Vec<(UnitKey, SyncSender<RetiredUnit>)>,
    /// Changes of media that are under way, and who waits for them.
    changing_media: Vec<(Ticket, SyncSender<Result<(), MediumRefusal>>)>,
    woken: Vec<NexusKey>,
    shortage: Shortage,
    load: Load,
    stop: Stop,
    /// When the stores are looked after next; the first core does it for all but those whose unit has an owner.
    inspection: Option<Instant>,
}

impl Shard {
    /// A shard that is ready for its first turn.
    pub fn new(parts: Parts) -> Self {
        let Parts { context, fabrics, tasks, mailbox, peers, left, links } = parts;
        let looks_after = context.core() == 0 || tasks.is_owner();
        Self {
            core: Core { now: Instant::ZERO, tasks, owners: Vec::new(), at_work: 0 },
            fabrics,
            inspection: looks_after.then_some(Instant::ZERO),
            context,
            mailbox,
            peers,
            left,
            links,
            pending_changes: Slab::new(),
            party: Party::default(),
            retiring: Vec::new(),
            changing_media: Vec::new(),
            woken: Vec::new(),
            shortage: Shortage::default(),
            load: Load::default(),
            stop: Stop::No,
        }
    }

    /// The logical units that could not be flushed at the end, and why.
    pub fn unflushed(&self) -> &[(UnitKey, Error)] {
        self.core.tasks.unflushed()
    }

    /// Who is there, by all fabrics.
    fn census(&self) -> Census {
        self.fabrics.iter().map(|fabric| fabric.census()).fold(Census::default(), |all, more| Census {
            sessions: all.sessions + more.sessions,
            logins: all.logins + more.logins,
        })
    }

    /// Has each fabric do something at this core. Returns how much was done.
    fn each(&mut self, mut act: impl FnMut(&mut dyn Fabric, &mut Core) -> usize) -> usize {
        let mut work = 0;
        for (index, fabric) in (0..).zip(&mut self.fabrics) {
            self.core.at_work = index;
            work += act(&mut **fabric, &mut self.core);
        }
        work
    }

    // Messages.

    fn take_messages(&mut self) -> usize {
        let mut count = 0;
        while let Some(message) = self.mailbox.take() {
            count += 1;
            match message {
                Message::Reset { units, from, ticket } => {
                    // The ticket of a reset and its origin, in one number of our own.
                    let after = AfterAbort::Tell(RESET | (from as u64) << 32 | ticket as u64);
                    self.core.tasks.reset(self.core.now, units, after);
                }
                Message::ResetDone(ticket) => self.core.tasks.peer_done(ticket),
                Message::Tasks(message) => self.core.tasks.hear(message),
                Message::Change(changes, to) => {
                    let what = self.pending_changes.insert(PendingChange {
                        left: changes.len() + 1,
                        refused: false,
                        to,
                    });
                    for (unit, change) in changes {
                        self.core.tasks.change(unit, change, what as u64);
                    }
                    self.changed(what, false);
                }
                Message::Report(to) => _ = to.try_send(self.report()),
                Message::Topology(message) => self.hear_of_topology(message),
                Message::Medium(message) => self.hear_of_media(message),
                Message::Drain => self.drain(),
            }
        }
        count
    }

    fn take_notices(&mut self) -> usize {
        let mut count = 0;
        while let Some(notice) = self.core.tasks.poll_notice() {
            count += 1;
            match notice {
                Notice::ResetPeers { units, ticket } => {
                    let from = self.context.core();
                    self.tell_peers(|| Message::Reset { units: units.clone(), from, ticket });
                }
                Notice::ToPeers(message) => self.tell_peers(|| Message::Tasks(message.clone())),
                Notice::ToPeer(core, message) => self.peers[core].send(Message::Tasks(message)),
                Notice::ColdReset(nexus) => {
                    let owner = self.core.owners[nexus.0];
                    self.fabrics[usize::from(owner)].cold_reset(nexus);
                }
                Notice::Changed { what, refused } => {
                    self.changed(usize::try_from(what).expect("a slab index"), refused);
                }
                Notice::Ended(what) => {
                    // The core that has asked for a reset, or the fabric whose nexus it was, and its ticket.
                    let of = usize::try_from((what & !RESET) >> 32).expect("a number of a core or a fabric");
                    let ticket = what as u32;
                    match what & RESET {
                        0 => self.fabrics[of].nexus_ended(ticket),
                        _ => self.peers[of].send(Message::ResetDone(ticket as usize)),
                    }
                }
                Notice::Retired(unit, flushed) => self.retired(unit, flushed),
                Notice::MediumChanged { what, outcome } => self.medium_changed(what, &outcome),
            }
        }
        count
    }

    /// One of the changes that the operator waits for has ended.
    fn changed(&mut self, what: usize, refused: bool) {
        let pending_change = &mut self.pending_changes[what];
        pending_change.left -= 1;
        pending_change.refused |= refused;
        if pending_change.left == 0 {
            let PendingChange { refused, to, .. } = self.pending_changes.remove(what);
            _ = to.try_send(refused);
        }
    }

    fn tell_peers(&self, message: impl Fn() -> Message) {
        for (core, peer) in self.peers.iter().enumerate() {
            if core != self.context.core() {
                peer.send(message());
            }
        }
    }

    // Stopping.

    fn drain(&mut self) {
        if self.stop != Stop::No {
            return;
        }
        self.stop = Stop::Draining(self.core.now + DRAIN_TIME);
        self.party.close("the daemon is stopping");
        self.core.tasks.abort_detached(self.core.now);
        for fabric in &mut self.fabrics {
            fabric.drain();
        }
    }

    fn advance_stop(&mut self) -> usize {
        match self.stop {
            Stop::No | Stop::Done => 0,
            Stop::Draining(deadline) | Stop::Dropping(deadline) => {
                let there = self.census().all();
                let tasks = &self.core.tasks;
                if there == 0 && self.links.close(tasks) && tasks.tasks() == 0 {
                    self.core.tasks.release_media(self.core.now);
                    self.stop = Stop::Releasing;
                    return 1;
                }
                if self.core.now >= deadline {
                    let cut = matches!(self.stop, Stop::Dropping(_));
                    self.stop = Stop::Dropping(self.core.now + DROP_TIME);
                    let what = if cut { "cut" } else { "dropped" };
                    warn!("{there} sessions did not end in time and are {what}");
                    for fabric in &mut self.fabrics {
                        fabric.drop_all(cut);
                    }
                }
                0
            }
            Stop::Releasing if self.core.tasks.tasks() == 0 => {
                self.core.tasks.flush();
                self.stop = Stop::Flushing;
                1
            }
            Stop::Flushing if self.core.tasks.flushed() => {
                self.stop = Stop::Done;
                if self.left.fetch_sub(1, Ordering::SeqCst) == 1 {
                    self.tell_peers(|| Message::Drain);
                }
                1
            }
            Stop::Releasing | Stop::Flushing => 0,
        }
    }

    fn report(&self) -> CoreReport {
        let tasks = &self.core.tasks;
        let units = tasks.unit_keys().map(|unit| {
            let report = UnitReport {
                bytes: tasks.geometry(unit).bytes,
                counters: tasks.counters(unit),
                latencies: tasks.latencies(unit).clone(),
            };
            (unit, report)
        });
        let Census { sessions, logins } = self.census();
        let mut ports = BTreeMap::new();
        for fabric in &self.fabrics {
            fabric.count(&mut ports);
        }
        CoreReport {
            core: self.context.core(),
            load: self.load,
            counters: CoreCounters {
                sessions: sessions as u64,
                logins: logins as u64,
                tasks: tasks.tasks() as u64,
            },
            links: self.links.counters(),
            memory: self.context.arena().counters(),
            pages: self.context.arena().pages(),
            units: units.collect(),
            ports,
        }
    }
}

/// Marks the number of a reset, as opposed to that of a nexus that has ended.
const RESET: u64 = 1 << 63;

impl Poller for Shard {
    fn turn(&mut self, now: Instant) -> usize {
        self.core.now = now;
        activity::rest();
        let mut work = self.take_messages();
        work += self.each(|fabric, core| fabric.poll(core));
        self.shortage.run(&self.core, self.context.arena(), &mut self.fabrics);
        if self.inspection.is_some_and(|due| due <= now) {
            self.inspection = Some(now + INSPECTION);
            self.core.tasks.inspect();
        }
        let mut woken = std::mem::take(&mut self.woken);
        let mut owners = Owners { fabrics: &mut self.fabrics, owners: &self.core.owners };
        let tasks = &mut self.core.tasks;
        work += self.links.turn(now, tasks, &mut owners, &mut |nexus| woken.push(nexus));
        work += tasks.poll_stores(now, &mut self.links.with(&mut owners), &mut |nexus| woken.push(nexus));
        work += self.each(|fabric, core| fabric.serve(core, &woken));
        woken.clear();
        self.woken = woken;
        work += self.take_notices() + self.advance_stop();
        self.core.tasks.commit();
        self.links.commit(&mut self.core.tasks, |core| self.peers[core].wake());
        for fabric in &mut self.fabrics {
            fabric.commit(now);
        }
        work
    }

    fn turned(&mut self, now: Instant) {
        self.core.tasks.turned(now);
    }

    fn next_deadline(&self) -> Option<Instant> {
        let now = self.core.now;
        if self.core.tasks.must_poll() || self.links.must_poll() {
            return Some(now);
        }
        let stop = match self.stop {
            Stop::Draining(deadline) | Stop::Dropping(deadline) => Some(deadline),
            _ => None,
        };
        let fabrics = self.fabrics.iter().filter_map(|fabric| fabric.next_deadline(now)).min();
        [fabrics, stop, self.shortage.next_deadline(), self.inspection, self.core.tasks.next_deadline()]
            .into_iter()
            .flatten()
            .min()
    }

    fn wake_fds(&self, fds: &mut Vec<RawFd>) {
        fds.push(self.mailbox.wake_fd());
        self.core.tasks.wake_fds(fds);
        for fabric in &self.fabrics {
            fabric.wake_fds(fds);
        }
    }

    fn may_sleep(&mut self) -> bool {
        self.mailbox.announce_sleep()
            && self.fabrics.iter_mut().all(|fabric| fabric.may_sleep())
            && self.links.is_quiet()
    }

    fn awake(&mut self) {
        self.mailbox.awake();
        for fabric in &mut self.fabrics {
            fabric.awake();
        }
    }

    /// A core stays until all are done: others may wait for its answers.
    fn finished(&self) -> bool {
        self.stop == Stop::Done && self.left.load(Ordering::SeqCst) == 0
    }

    fn account(&mut self, load: Load) {
        self.load = load;
    }
}
