// SPDX-License-Identifier: GPL-2.0-or-later
//! The world: cores, wires, disks and initiators on one clock, in one thread, in an order that the seed decides.

use std::cell::{Cell, RefCell};
use std::fmt::Write as _;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use super::canary::Canary;
use super::chap;
use super::ledger::Ledger;
use super::library::{self, KeptRecords, LibraryDesk, LibraryHistory};
use super::media::{self, MediaDesk, Whereabouts};
use super::network::{Network, network};
use super::oracle::{Look, Oracle};
use super::peer::Peers;
use super::plan::{Action, Plan};
use super::scsi::{self, TARGET};
use super::session::{Env, News, Session};
use super::store::{Medium, SimStore};
use super::tally::{self, Tally};
use super::topology::{ControlPlane, UsedDisk, Wanted};
use crate::adapters::iscsi::sessions::{Limits, Sessions};
use crate::adapters::iscsi::topology::{Portal, Target, Topology};
use crate::adapters::iscsi::{
    IscsiFabric, IscsiMessage, IscsiParts, SessionReport, SessionsPart, SessionsRequest,
};
use crate::counters::CounterSet;
use crate::devices::sbc::{self, BlockSize, Disk};
use crate::engine::links::{PeerLinks, connect};
use crate::engine::report::CoreReport;
use crate::engine::shard::{Message, Parts, Shard};
use crate::engine::tasks::{SharedState, TaskManager, UnitCounters, UnitKey, UnitKeys};
use crate::fabrics::iscsi::Parameters;
use crate::memory::{Arena, SegMut};
use crate::ports::memory::{Dice, Faults, Wire};
use crate::reactor::{CoreContext, Poller, Sender, mailboxes};
use crate::scsi::primary::{Identity, MissingLun};
use crate::scsi::{Lun, TargetPort};
use crate::stores::exclusive::{Exclusive, ExclusiveGate};
use crate::time::Instant;
use crate::wire::Uuid;

/// How much of a stop forgers may disturb.
const FORGED_DRAIN: Duration = Duration::from_secs(1);

/// Rounds after which a run that does not end is given up.
const ROUNDS_MAX: u64 = 400_000;

/// How long the last answer may take when all faults have ended.
const ANSWER_TIME: Duration = Duration::from_secs(100);

/// How long it may then take until the target knows of nothing that its initiators have forgotten: its pings find that
/// out.
const AUDIT_TIME: Duration = Duration::from_secs(120);

/// How many times what is on accounts may be held in blocks, which are larger than what is in them; and what may be
/// held beside that: by ports, and by devices that look at their medium.
const BLOCKS_SHARE: u64 = 4;
const UNCHARGED_MAX: u64 = 1 << 20;

/// How long everything may take to come to rest when all faults have ended.
const REST_TIME: Duration = Duration::from_secs(300);

/// The target's machine, from power-on to its end.
pub(super) struct Machine {
    pub(super) shards: Vec<Shard>,
    pub(super) arenas: Vec<Arena>,
    pub(super) senders: Vec<Sender<Message>>,
    /// Of the iSCSI of each core.
    peers: Vec<Sender<IscsiMessage>>,
    pub(super) disks: Vec<Arc<Disk>>,
    sessions: Arc<Sessions>,
    wires: Vec<Wire>,
    control: ControlPlane,
    desk: MediaDesk,
    pub(super) library: Option<LibraryDesk>,
}

/// See the module.
pub(super) struct World {
    clock: Rc<Cell<Instant>>,
    /// Those of the disks, then the cartridges.
    media: Vec<Rc<RefCell<Medium>>>,
    records: Rc<RefCell<KeptRecords>>,
    machine: Machine,
    client_arena: Arena,
    env: Env,
    sessions: Vec<Session>,
    /// When the wires of a core are joined again.
    partitions: Vec<Option<Instant>>,
    /// Memory of cores that is with somebody else, and until when.
    exhausted: Vec<(Instant, usize, Vec<SegMut>)>,
    canary: Option<Canary>,
    machines: u64,
    /// Connections that initiators had begun before this machine.
    begun: u64,
    rounds: u64,
    /// Rounds without work on end.
    idle: u32,
}

impl World {
    /// Runs a plan to its end. Returns what it went through, or what is wrong.
    pub(super) fn run(plan: &Plan, canary: Option<Canary>) -> Result<Tally, String> {
        tally::listen();
        tally::heard();
        let mut world = Self::new(plan, canary);
        let done = world.play(plan).and_then(|()| world.rest()).and_then(|()| world.close());
        media::know(&[]);
        done.map_err(|what| {
            let mut text = format!("{what}\n  at {:?}", world.env.now);
            for session in &world.sessions {
                _ = write!(text, "\n  {}", session.describe());
                for port in session.ports() {
                    _ = write!(text, "\n    port {port}: {}", world.env.peers.describe(port));
                }
            }
            for medium in &world.media {
                _ = write!(text, "\n  {} store operations under way", medium.borrow().len());
            }
            text
        })?;
        let mut tally = std::mem::take(&mut world.env.tally);
        tally.merge(&tally::heard());
        tally.add("simulated milliseconds", world.env.now.as_nanos() / 1_000_000);
        tally.add("rounds", world.rounds);
        Ok(tally)
    }

    fn new(plan: &Plan, canary: Option<Canary>) -> Self {
        let mut dice = Dice::new(plan.seed);
        let clock = Rc::new(Cell::new(Instant::from_nanos(1_000_000)));
        let mut oracle = Oracle::default();
        let mut media = Vec::new();
        let of_disks = canary.filter(|canary| *canary != Canary::ForgottenAnchor);
        for disk in &plan.disks {
            oracle.add_disk(
                disk.block as usize,
                usize::try_from(disk.blocks).expect("few"),
                disk.store.lends,
            );
            let bytes = disk.blocks * u64::from(disk.block);
            let behaviour = disk.store.clone();
            let medium = Medium::new(clock.clone(), bytes, disk.block, behaviour, dice.roll(), of_disks);
            media.push(Rc::new(RefCell::new(medium)));
        }
        let faulty = media.iter().map(|medium| medium.borrow().may_fail()).collect();
        let records = Rc::new(RefCell::new(KeptRecords::new(clock.clone(), plan.seed, canary)));
        if let Some(shape) = &plan.library {
            media.extend(library::blank_cartridges(
                shape,
                &clock,
                &mut Dice::new(plan.seed ^ 0x7461_7065),
                canary,
            ));
        }
        let mut peers = Peers::new(plan.wires.ipv6, plan.wires.mtu, dice.roll());
        peers.damage = plan.wires.damage;
        peers.forger.share = plan.wires.forged;
        let client_arena = Arena::new(32 << 20, false).expect("memory");
        let arenas = fresh_memory(plan);
        let network = network(plan, &mut peers, &arenas, &client_arena, canary, 0);
        let machine = boot(plan, (&media, &records), arenas, network, canary);
        Self {
            env: Env {
                now: clock.get(),
                plan: plan.clone(),
                peers,
                oracle,
                tally: Tally::default(),
                dice,
                limbo: Default::default(),
                library_limbo: Default::default(),
                library: plan.library.as_ref().map(LibraryHistory::new),
                resets: Vec::new(),
                ledgers: plan.disks.iter().map(|_| Ledger::default()).collect(),
                whereabouts: vec![Whereabouts::In(0); plan.disks.len()],
                faulty,
                draining: false,
                nexuses: 0,
                news: Vec::new(),
            },
            sessions: (0..plan.sessions.len()).map(|index| Session::new(index, plan)).collect(),
            partitions: vec![None; plan.cores],
            exhausted: Vec::new(),
            clock,
            media,
            records,
            machine,
            client_arena,
            canary,
            machines: 1,
            begun: 0,
            rounds: 0,
            idle: 0,
        }
    }

    // The course of a run.

    fn play(&mut self, plan: &Plan) -> Result<(), String> {
        let mut due = self.env.now;
        for step in &plan.steps {
            due = due + Duration::from_micros(step.after);
            while self.env.now < due {
                self.round(Some(due))?;
            }
            self.act(step.action)?;
        }
        Ok(())
    }

    fn act(&mut self, action: Action) -> Result<(), String> {
        match action {
            Action::Partition { core, micros } => {
                self.env.tally.count("partitions");
                let core = core % self.partitions.len();
                let until = self.env.now + Duration::from_micros(micros);
                self.partitions[core] = self.partitions[core].max(Some(until));
                self.machine.wires[core].set_all_faults(Faults { loss: 1.0, ..Faults::default() });
            }
            Action::Exhaust { core, micros } => {
                self.env.tally.count("arenas exhausted");
                let core = core % self.machine.arenas.len();
                let arena = &self.machine.arenas[core];
                let sizes = [1 << 20, 256 << 10, 64 << 10, 16 << 10, 4096, 2048, 256].into_iter();
                let all = sizes.flat_map(|len| std::iter::from_fn(move || arena.alloc(len))).collect();
                self.exhausted.push((self.env.now + Duration::from_micros(micros), core, all));
            }
            Action::Blocks { disk, lba, blocks, bad } => {
                self.env.tally.count(if bad { "blocks gone bad" } else { "blocks mended" });
                self.env.faulty[disk] |= bad;
                self.media[disk].borrow_mut().set_bad(lba, blocks, bad);
            }
            Action::Topology { refuses, disk, owner } => {
                let Machine { control, senders, .. } = &mut self.machine;
                control.begin(senders, Wanted { disk, owner, refuses });
            }
            Action::Medium { disk, of, gives_up } => {
                let Machine { desk, senders, .. } = &mut self.machine;
                let happened = desk.begin(senders, (disk, of), gives_up, &mut self.env.whereabouts);
                happened.into_iter().for_each(|event| self.env.tally.count(event));
            }
            Action::PowerLoss => return self.lose_machine(true),
            Action::Crash => return self.lose_machine(false),
            Action::Restart => {
                self.drain()?;
                self.power_on();
            }
            Action::Command { session, .. }
            | Action::Manage { session, .. }
            | Action::Ping { session }
            | Action::Flood { session }
            | Action::AbortAll { session, .. }
            | Action::Text { session }
            | Action::Logout { session, .. }
            | Action::Close { session, .. }
            | Action::Finish { session, .. }
            | Action::Cut { session, .. }
            | Action::Vanish { session, .. }
            | Action::Reinstate { session, .. }
            | Action::Violate { session, .. }
            | Action::Deaf { session, .. } => self.sessions[session].act(action, &mut self.env),
        }
        Ok(())
    }

    /// Ends all faults and lets everything that is under way come to its end.
    fn rest(&mut self) -> Result<(), String> {
        self.heal();
        let (answers, limit) = (self.env.now + ANSWER_TIME, self.env.now + REST_TIME);
        while !(self.sessions.iter().all(Session::is_idle)
            && self.machine.control.is_idle()
            && self.machine.desk.is_idle()
            && self.machine.library.as_ref().is_none_or(LibraryDesk::is_idle))
        {
            self.round(Some(limit))?;
            if self.env.now >= answers {
                // Nothing comes any more: what is left was ended by a reset, or is forgotten.
                for session in &mut self.sessions {
                    session.drop_reset_commands(&mut self.env);
                }
            }
            if self.env.now >= limit {
                return Err("a command is never answered".into());
            }
        }
        self.look_at_bounds()?;
        self.look_at_counters()
    }

    fn heal(&mut self) {
        self.exhausted.clear();
        for core in 0..self.partitions.len() {
            self.partitions[core] = None;
            self.machine.wires[core].set_all_faults(Faults::default());
        }
        self.env.peers.damage = 0.0;
        self.env.peers.forger.share = 0.0;
        for medium in &self.media {
            medium.borrow_mut().well = true;
        }
    }

    /// Logs out, stops the daemon, and looks at what is left.
    fn close(&mut self) -> Result<(), String> {
        self.drain()?;
        for (disk, medium) in self.media.iter().enumerate() {
            let mut medium = medium.borrow_mut();
            medium.lose_machine(true);
            if disk >= self.env.plan.disks.len() {
                continue;
            }
            let contents = medium.contents();
            let look = Look { sent: self.env.oracle.tick(), order: None, own: None };
            self.env.oracle.read(disk, 0, &contents, look).map_err(|e| format!("at the end: {e}"))?;
            let counters = medium.counters;
            self.env.tally.add("store operations", counters.operations);
            self.env.tally.add("store operations refused for want of room", counters.refused);
            self.env.tally.add("store operations failed", counters.failed);
            self.env.tally.add("unstable versions of blocks lost with power", counters.lost_versions);
        }
        self.look_at_library()?;
        self.env.tally.add("segments damaged unseen by TCP", self.env.peers.damaged);
        let given_up = self.env.library.as_ref().is_some_and(|library| library.given_up);
        self.env.tally.add("libraries of which too much was unknown", given_up.into());
        self.env.tally.add("frames forged", self.env.peers.forged);
        match self.client_arena.in_use() {
            0 => Ok(()),
            bytes => Err(format!("the peers hold {bytes} bytes")),
        }
    }

    /// The cartridges of the library as they are without power, and where they are.
    fn look_at_library(&mut self) -> Result<(), String> {
        let Self { env, media, records, .. } = self;
        let (Some(shape), Some(history)) = (&env.plan.library, &mut env.library) else { return Ok(()) };
        library::look_at_the_end(shape, history, &media[env.plan.disks.len()..], records)
    }

    /// Stops the daemon in order: it has to finish, to flush, and to give all memory back.
    fn drain(&mut self) -> Result<(), String> {
        self.env.tally.count("stops in order");
        self.exhausted.clear();
        self.env.draining = true;
        for sender in &self.machine.senders {
            sender.send(Message::Drain);
        }
        let limit = self.env.now + REST_TIME;
        // It may wait for seconds, for peers that are gone: forgers would make that more turns than there are.
        let (forged, patience) = (self.env.peers.forger.share, self.env.now + FORGED_DRAIN);
        while !self.machine.shards.iter().all(Shard::finished) {
            self.round(Some(limit))?;
            if self.env.now >= limit {
                return Err("the daemon does not stop".into());
            }
            if self.env.now >= patience {
                self.env.peers.forger.share = 0.0;
            }
        }
        self.env.peers.forger.share = forged;
        self.count_wires();
        // With the hosts goes what their last peers have not acknowledged.
        self.machine.shards.clear();
        self.memory_is_home()?;
        for session in &mut self.sessions {
            session.machine_lost(&mut self.env);
        }
        self.env.draining = false;
        self.env.oracle.restarted(false);
        // A daemon that stops in order makes everything stable.
        if let Some(library) = &mut self.env.library {
            library.restarted(true);
        }
        for disk in 0..self.env.plan.disks.len() {
            let now = self.env.oracle.tick();
            self.env.oracle.flushed(disk, now, None);
        }
        Ok(())
    }

    fn lose_machine(&mut self, power: bool) -> Result<(), String> {
        self.env.tally.count(if power { "power losses" } else { "crashes" });
        self.count_wires();
        self.exhausted.clear();
        for session in &mut self.sessions {
            session.machine_lost(&mut self.env);
        }
        for medium in &self.media {
            medium.borrow_mut().lose_machine(power);
        }
        self.env.oracle.restarted(power);
        if let Some(library) = &mut self.env.library {
            library.restarted(false);
        }
        self.records.borrow_mut().lose_machine();
        self.machine.shards.clear();
        self.memory_is_home()?;
        self.power_on();
        Ok(())
    }

    fn power_on(&mut self) {
        self.env.limbo.clear();
        self.env.library_limbo.clear();
        self.env.ledgers.fill_with(Ledger::default);
        let tick = self.env.oracle.tick();
        self.env.whereabouts.fill(Whereabouts::In(tick));
        for reset in &mut self.env.resets {
            reset.end.get_or_insert(tick);
        }
        let Self { env, media, records, client_arena, canary, machines, .. } = self;
        // The old machine's memory goes before the new one's comes.
        self.machine.shards.clear();
        let (plan, arenas) = (&env.plan, fresh_memory(&env.plan));
        let network = network(plan, &mut env.peers, &arenas, client_arena, *canary, *machines);
        self.machine = boot(plan, (media, records), arenas, network, *canary);
        self.partitions.fill(None);
        self.machines += 1;
        self.begun = self.env.peers.begun();
    }

    /// No block of a machine that has stopped is with anybody.
    fn memory_is_home(&self) -> Result<(), String> {
        for (core, arena) in self.machine.arenas.iter().enumerate() {
            let held = arena.in_use();
            if held > 0 {
                return Err(format!("core {core}: {held} bytes did not come home"));
            }
        }
        Ok(())
    }

    fn count_wires(&mut self) {
        for wire in &self.machine.wires {
            for end in [0, 1] {
                let counters = wire.counters(end);
                for (what, count) in [
                    ("frames", counters.sent),
                    ("frames lost", counters.lost),
                    ("frames duplicated", counters.duplicated),
                    ("frames reordered", counters.reordered),
                    ("frames corrupted", counters.corrupted),
                ] {
                    self.env.tally.add(what, count);
                }
            }
        }
        for report in self.reports() {
            self.env.tally.add("arena requests refused", report.memory.refused);
            let flows = report.ports.values().flatten();
            for (what, count) in flows {
                if matches!(
                    what.name,
                    "retransmitted_bytes"
                        | "resets_sent"
                        | "challenges_sent"
                        | "cookies_sent"
                        | "handed_over"
                        | "taken_over"
                        | "strays"
                ) {
                    self.env.tally.add(what.name, *count);
                }
            }
        }
    }

    /// What the cores say of themselves, by way of their mailboxes.
    fn reports(&mut self) -> Vec<CoreReport> {
        let mut reports = Vec::new();
        for (shard, sender) in self.machine.shards.iter_mut().zip(&self.machine.senders) {
            let (to, from) = std::sync::mpsc::sync_channel(1);
            sender.send(Message::Report(to));
            shard.turn(self.env.now);
            shard.turned(self.env.now);
            reports.extend(from.try_recv());
        }
        reports
    }

    /// The sessions of each core, a part per turn.
    fn told_sessions(&mut self) -> Vec<Vec<SessionReport>> {
        let cores = self.machine.shards.iter_mut().zip(&self.machine.peers);
        let of_core = |(shard, sender): (&mut Shard, &Sender<IscsiMessage>)| {
            let (mut sessions, mut next) = (Vec::new(), Some(0));
            while let Some(from) = next {
                let (to, part) = std::sync::mpsc::sync_channel(1);
                sender.send(IscsiMessage::Sessions(SessionsRequest { from, sessions, to }));
                shard.turn(self.env.now);
                shard.turned(self.env.now);
                SessionsPart { sessions, next } = part.try_recv().expect("a core answers in its turn");
            }
            sessions
        };
        cores.map(of_core).collect()
    }

    /// What the target shows, held against what initiators have sent and heard. That is given time: pings are under
    /// way, and what initiators have forgotten has yet to end.
    fn look_at_counters(&mut self) -> Result<(), String> {
        let limit = self.env.now + AUDIT_TIME;
        loop {
            match self.audit() {
                Err(_) if self.env.now < limit => {}
                ended => return ended,
            }
            let next = self.env.now + Duration::from_millis(300);
            while self.env.now < next {
                self.round(Some(next))?;
            }
        }
    }

    fn audit(&mut self) -> Result<(), String> {
        let reports = self.reports();
        self.machine.control.check(&reports)?;
        for (disk, ledger) in self.env.ledgers.iter().enumerate() {
            // Another one counts from the beginning.
            let Some(unit) = self.machine.control.first_unit(disk) else { continue };
            let mut sum = UnitCounters::default();
            for unit in reports.iter().map(|report| report.units[&unit].counters) {
                sum.add(&unit);
            }
            if !ledger.agrees(&sum) {
                return Err(format!("disk {disk} has counted {sum:?}: {ledger:?}"));
            }
        }
        let told = self.told_sessions();
        for session in &self.sessions {
            session.audit(&told, &self.env)?;
        }
        let shown: usize = told.iter().map(Vec::len).sum();
        let there = self.sessions.iter().filter(|session| session.is_there()).count();
        let counted: u64 = reports.iter().map(|report| report.counters.sessions).sum();
        if shown != there || counted != there as u64 {
            return Err(format!("{shown} sessions are shown and {counted} counted where there are {there}"));
        }
        for (core, told) in told.iter().enumerate() {
            let shown: usize = told.iter().map(|session| session.connections.len()).sum();
            let counted = self.machine.sessions.streams(core);
            if counted != shown {
                return Err(format!("core {core}: {counted} streams are counted where {shown} are shown"));
            }
        }
        let sum = |name| {
            let counters = reports.iter().flat_map(|report| report.ports.values().flatten());
            counters.filter(|(what, _)| what.name == name).map(|(_, count)| count).sum::<u64>()
        };
        let streams: usize = self.sessions.iter().map(Session::streams).sum();
        if (sum("flows"), sum("half_open")) != (streams as u64, 0) {
            return Err(format!(
                "{} flows and {} half open are shown where there are {streams} streams",
                sum("flows"),
                sum("half_open")
            ));
        }
        let begun = self.env.peers.begun() - self.begun;
        if sum("accepted") > begun || sum("accepted") < streams as u64 {
            return Err(format!("{} streams are said to have been accepted of {begun}", sum("accepted")));
        }
        if sum("taken_over") > sum("handed_over") {
            return Err("more streams were taken over than handed over".into());
        }
        // What has left the target is on the wire, and what the wire has delivered has come in: once, or, if that was
        // the wrong core, twice, unless there was no memory for it at the right one.
        let [from, to] = [0, 1].map(|end| {
            let of = |wire: &Wire| wire.counters(end);
            self.machine.wires.iter().map(of).collect::<Vec<_>>()
        });
        let sent = (from.iter().map(|c| c.sent).sum::<u64>(), from.iter().map(|c| c.bytes).sum::<u64>());
        if (sum("frames_out"), sum("bytes_out")) != sent {
            let shown = (sum("frames_out"), sum("bytes_out"));
            return Err(format!("frames and bytes sent are shown as {shown:?}, and are {sent:?}"));
        }
        let arrived: u64 = to.iter().map(|c| c.sent + c.duplicated - c.lost - c.overrun).sum();
        let shown = sum("frames_in") - sum("strays");
        if shown > arrived || shown + sum("dropped_no_memory") < arrived {
            return Err(format!("{shown} frames are said to have come in, and {arrived} have"));
        }
        Ok(())
    }

    /// What cores hold is on the accounts of whoever they hold it for.
    fn look_at_accounts(&mut self) -> Result<(), String> {
        for (core, arena) in self.machine.arenas.iter().enumerate() {
            let taken = self.exhausted.iter().filter(|(_, of, _)| *of == core);
            let taken: usize = taken.flat_map(|(.., all)| all).map(SegMut::capacity).sum();
            let (held, charged) = (arena.in_use() - taken, arena.charged());
            if held as u64 > BLOCKS_SHARE * charged + UNCHARGED_MAX {
                return Err(format!("core {core} holds {held} bytes, of which {charged} are on accounts"));
            }
        }
        Ok(())
    }

    /// The bounds that hold for everything that is kept, and what the counters must agree on.
    fn look_at_bounds(&mut self) -> Result<(), String> {
        let told = self.told_sessions();
        for (report, told) in self.reports().iter().zip(told) {
            let core = report.core;
            if told.len() > self.sessions.len() * 2 {
                return Err(format!("core {core}: {} sessions", told.len()));
            }
            for session in told.iter().flat_map(|session| &session.connections) {
                let most = usize::try_from(self.env.plan.queue_depth).expect("small") + 8;
                if session.in_flight > most {
                    return Err(format!("core {core}: {} commands in flight", session.in_flight));
                }
            }
            let flow = |name| {
                let counters = report.ports.values().flatten();
                counters.filter(|(what, _)| what.name == name).map(|(_, count)| count).sum::<u64>()
            };
            let half_open = flow("half_open");
            if half_open > 256 || flow("flows") - half_open > 4 * self.env.peers.begun() {
                return Err(format!("core {core}: too many flows"));
            }
        }
        Ok(())
    }

    // The clock.

    /// Everybody has a turn, in some order; then the clock goes on: a little if there was work, else to whatever comes
    /// next.
    fn round(&mut self, until: Option<Instant>) -> Result<(), String> {
        self.rounds += 1;
        if self.rounds > ROUNDS_MAX {
            return Err("the world does not come to rest".into());
        }
        let now = self.env.now;
        self.mend(now);
        for medium in &self.media {
            medium.borrow_mut().advance();
        }
        let mut work = 0;
        let cores = self.machine.shards.len();
        let actors = cores + self.sessions.len() + 1;
        let first = usize::try_from(self.env.dice.below(actors as u64)).expect("few");
        for actor in 0..actors {
            let actor = (first + actor) % actors;
            if actor < cores {
                if !self.env.dice.chance(self.env.plan.sleepy) {
                    work += self.machine.shards[actor].turn(now);
                    self.machine.shards[actor].turned(now);
                } else {
                    work += 1;
                }
            } else if let Some(session) = self.sessions.get_mut(actor - cores) {
                work += session.turn(&mut self.env)?;
            } else {
                work += self.env.peers.turn(now);
            }
        }
        if let Some(event) = self.machine.control.turn(&self.machine.senders) {
            self.env.tally.count(event);
            work += 1;
        }
        let tick = self.env.oracle.tick();
        if let Some(event) = self.machine.desk.turn(tick, &mut self.env.whereabouts) {
            self.env.tally.count(event);
            work += 1;
        }
        let Machine { library, senders, .. } = &mut self.machine;
        if let (Some(desk), Some(shape)) = (library, &self.env.plan.library)
            && let Some(event) = desk.turn(senders, shape)
        {
            self.env.tally.count(event);
            work += 1;
        }
        if let Some(port) = self.env.peers.robbed {
            return Err(format!("bytes for port {port} went to a forger"));
        }
        self.tell_news();
        self.look_at_accounts()?;
        if self.rounds.is_multiple_of(512) {
            self.look_at_bounds()?;
        }
        // A core that must not sleep asks for turns without end, while a slow disk works for seconds.
        self.idle = if work == 0 { (self.idle + 1).min(10) } else { 0 };
        let step = Duration::from_nanos((500 + self.env.dice.below(20_000)) << self.idle.saturating_sub(2));
        let next = match work {
            0 => self.next_deadline().unwrap_or(now + Duration::from_secs(1)).max(now + step),
            _ => now + step,
        };
        let next = until.map_or(next, |until| next.min(until.max(now + Duration::from_nanos(1))));
        self.env.now = next;
        self.clock.set(next);
        Ok(())
    }

    fn mend(&mut self, now: Instant) {
        self.exhausted.retain(|(until, ..)| *until > now);
        for (until, wire) in self.partitions.iter_mut().zip(&self.machine.wires) {
            if until.is_some_and(|until| until <= now) {
                *until = None;
                wire.set_all_faults(self.env.plan.wires.faults());
            }
        }
    }

    fn tell_news(&mut self) {
        for news in std::mem::take(&mut self.env.news) {
            match news {
                News::LoggingIn { session, name } | News::LoggedIn { session, name, .. } => {
                    for other in 0..self.sessions.len() {
                        if other == session || self.env.plan.sessions[other].name != name {
                            continue;
                        }
                        // Whose login comes second throws the other one out, and that may be the one begun first.
                        if self.sessions[other].is_logging_in() {
                            self.sessions[session].may_be_thrown_out();
                        }
                        let News::LoggedIn { tsih, .. } = news else {
                            self.sessions[other].may_be_thrown_out();
                            continue;
                        };
                        self.sessions[other].thrown_out(tsih, &mut self.env);
                    }
                }
            }
        }
    }

    fn next_deadline(&mut self) -> Option<Instant> {
        let shards = self.machine.shards.iter().filter_map(Poller::next_deadline);
        let media = self.media.iter().filter_map(|medium| medium.borrow().next_deadline());
        let sessions = self.sessions.iter().filter_map(Session::next_deadline);
        let joined = self.partitions.iter().flatten().copied();
        let records = self.records.borrow().next_deadline();
        let soonest = shards.chain(media).chain(records).chain(sessions).chain(joined).min();
        [soonest, self.env.peers.next_deadline(self.env.now)].into_iter().flatten().min()
    }
}

fn identity(number: usize) -> Identity {
    Identity::new("PTGT", "VIRTUAL DISK", "0001", None, Uuid::of_name(&format!("sim-{number}")))
        .expect("short names")
}

/// The payload memory of each core.
pub(super) fn fresh_memory(plan: &Plan) -> Vec<Arena> {
    (0..plan.cores).map(|_| Arena::new(plan.memory << 20, false).expect("memory")).collect()
}

/// The core that carries out all commands of a disk, if they come one at a time.
fn owner(plan: &Plan, unit: UnitKey) -> Option<usize> {
    // Rows count from 1.
    let serial = plan.disks.get(unit.row() - 1).is_none_or(|disk| disk.serial);
    serial.then(|| unit.row() % plan.cores)
}

/// A machine with the given memory over media that may have seen others.
pub(super) fn boot(
    plan: &Plan,
    (media, records): (&[Rc<RefCell<Medium>>], &Rc<RefCell<KeptRecords>>),
    arenas: Vec<Arena>,
    network: Network,
    canary: Option<Canary>,
) -> Machine {
    let parameters = Parameters {
        max_recv_data_segment_length: plan.segment_max,
        queue_depth: plan.queue_depth,
        max_connections: plan.max_connections,
        nop_interval: Duration::from_secs(5),
        ..Parameters::default()
    };
    let Network { hosts, address, wires } = network;
    let mut limits = Limits::default();
    if plan.initiator_memory > 0 {
        limits.initiator_memory = plan.initiator_memory;
    }
    let disks: Vec<Arc<Disk>> = plan
        .disks
        .iter()
        .enumerate()
        .map(|(number, shape)| {
            Arc::new(Disk::new(sbc::Config {
                block: if shape.block == 512 { BlockSize::B512 } else { BlockSize::B4096 },
                physical_exponent: 0,
                thin: shape.thin,
                read_only: shape.read_only,
                write_cache: shape.write_cache,
                atomic_writes: true,
                ..sbc::Config::new(identity(number))
            }))
        })
        .collect();
    let mut allocator = UnitKeys::default();
    let keys: Vec<UnitKey> = (0..plan.units()).map(|_| allocator.allocate()).collect();
    let library = plan.library.as_ref().map(|shape| {
        let units = keys[disks.len()..].iter().filter_map(|unit| Some((*unit, owner(plan, *unit)?)));
        LibraryDesk::new(shape, units.collect(), disks.len(), records)
    });
    let luns = keys.iter().enumerate().map(|(disk, key)| (Lun(scsi::lun(disk)), *key)).collect();
    let (name, port) = ("sim".into(), "sim".into());
    let portal = Arc::new(Portal { name, port, of_host: false, address, group: 1 });
    let topology = Arc::new(Topology {
        portals: vec![portal.clone()],
        targets: vec![Target {
            name: TARGET.into(),
            alias: None,
            parameters: Arc::new(parameters),
            authentication: plan.chap.then(|| Arc::new(chap::authentication())),
            access: Vec::new(),
            redirects: Vec::new(),
            limits,
            portals: vec![portal],
            ports: vec![Arc::new(TargetPort::iscsi(1, TARGET, 1))],
            luns,
        }],
        discovery: None,
    });
    let states: Vec<Arc<SharedState>> = disks.iter().map(|_| Arc::default()).collect();
    let left = Arc::new(AtomicUsize::new(plan.cores));
    let gates: Vec<Arc<ExclusiveGate>> = disks.iter().map(|_| Arc::default()).collect();
    let owner_of = |unit| owner(plan, unit).filter(|_| canary != Some(Canary::Overtaking));
    media::know(media);
    let sessions = Arc::new(Sessions::default());
    let (senders, boxes) = mailboxes(plan.cores).expect("mailboxes");
    let (peers, inboxes) = mailboxes(plan.cores).expect("mailboxes");
    let mut shards = Vec::new();
    let ends = boxes.into_iter().zip(inboxes).zip(connect(plan.cores));
    for (core, ((((mailbox, inbox), links), arena), host)) in ends.zip(&arenas).zip(hosts).enumerate() {
        let context = CoreContext::new(core, plan.cores, arena.clone());
        let mut tasks = TaskManager::new(&context, Box::new(MissingLun));
        let parts = disks.iter().zip(media).zip(gates.iter().zip(&states));
        for (&unit, ((disk, medium), (gate, state))) in keys.iter().zip(parts) {
            let owner = owner_of(unit);
            if let Some(owner) = owner.filter(|owner| *owner != core) {
                tasks.add_remote_unit(unit, owner);
                tasks.share(unit, state.clone());
                continue;
            }
            let handle = SimStore { medium: medium.clone(), number: core, arena: arena.clone() };
            let store = Box::new(Exclusive::new(handle, gate.clone()));
            tasks.add_unit(unit, Box::new(disk.server()), Some(store));
            tasks.share(unit, state.clone());
            if owner.is_some() {
                tasks.make_serial(unit);
            }
        }
        if let Some(library) = &library {
            library.attach(&context, &mut tasks);
        }
        let iscsi = IscsiFabric::new(IscsiParts {
            context: context.clone(),
            hosts: vec![("sim".into(), host)],
            topology: topology.clone(),
            sessions: sessions.clone(),
            mailbox: inbox,
            peers: peers.clone(),
        });
        let links = PeerLinks::new(&context, links);
        shards.push(Shard::new(Parts {
            context,
            fabrics: vec![Box::new(iscsi)],
            tasks,
            mailbox,
            peers: senders.clone(),
            left: left.clone(),
            links,
        }));
    }
    let parts = keys.iter().zip(&disks).zip(states).zip(&gates);
    let used = parts.map(|(((&unit, device), state), gate)| UsedDisk {
        unit,
        device: device.clone(),
        state,
        gate: gate.clone(),
        is_replaceable: owner_of(unit).is_none(),
    });
    let control = ControlPlane::new(topology, allocator, used.collect(), canary);
    let owners = keys[..disks.len()].iter().map(|unit| owner_of(*unit)).collect();
    let desk = MediaDesk::new(owners, keys, gates, canary);
    Machine { shards, arenas, senders, peers, disks, sessions, wires, control, desk, library }
}
