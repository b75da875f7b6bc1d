// SPDX-License-Identifier: GPL-2.0-or-later
//! What happens in a run: the shape of the world, and the list of things that its inhabitants do. A seed makes a plan;
//! a plan that fails is made shorter by leaving things out.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::library::{LibraryCommand, LibraryShape};
use super::store::Behaviour;
use crate::ports::memory::{Dice, Faults};

/// A logical unit, the same in every target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct DiskShape {
    pub(super) blocks: u64,
    /// 512 or 4096 bytes.
    pub(super) block: u32,
    pub(super) thin: bool,
    pub(super) write_cache: bool,
    #[serde(default)]
    pub(super) read_only: bool,
    /// It runs one command at a time, on one core.
    #[serde(default)]
    pub(super) serial: bool,
    pub(super) store: Behaviour,
}

/// An initiator's session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct SessionShape {
    /// Sessions with the same number have the same name and ISID, and so throw each other out.
    pub(super) name: u8,
    pub(super) header_digest: bool,
    pub(super) data_digest: bool,
    pub(super) initial_r2t: bool,
    pub(super) immediate_data: bool,
    pub(super) first_burst: u32,
    pub(super) max_burst: u32,
    pub(super) segment_max: u32,
    pub(super) outstanding_r2ts: u32,
    /// First CmdSN.
    pub(super) cmd_sn: u32,
    /// Bytes that it takes before it must read.
    pub(super) window: usize,
    /// MaxConnections that it wishes for, and makes.
    #[serde(default = "one_connection")]
    pub(super) connections: u8,
}

fn one_connection<T: From<u8>>() -> T {
    1.into()
}

/// What the wire does.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Wires {
    pub(super) loss: f64,
    pub(super) duplicate: f64,
    pub(super) reorder: f64,
    pub(super) corrupt: f64,
    /// Share of segments with damage that TCP does not see, where digests are on.
    pub(super) damage: f64,
    pub(super) delay_micros: u64,
    pub(super) mtu: u16,
    pub(super) segmentation: bool,
    pub(super) ipv6: bool,
    /// Share of turns in which somebody on the wires forges a frame.
    #[serde(default)]
    pub(super) forged: f64,
}

impl Wires {
    pub(super) fn faults(&self) -> Faults {
        Faults {
            loss: self.loss,
            duplicate: self.duplicate,
            reorder: self.reorder,
            reorder_time: Duration::from_micros(200 + 2 * self.delay_micros),
            corrupt: self.corrupt,
            delay: Duration::from_micros(self.delay_micros),
            ..Faults::default()
        }
    }
}

/// SCSI commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Command {
    Read {
        fua: bool,
    },
    Write {
        fua: bool,
    },
    /// WRITE AND VERIFY, comparing bytes.
    WriteVerify,
    /// WRITE SAME; without a pattern the block is zeros, and may be deallocated.
    WriteSame {
        pattern: bool,
    },
    Unmap,
    /// WRITE ATOMIC.
    Atomic {
        fua: bool,
    },
    /// ORWRITE of ones.
    Or {
        fua: bool,
    },
    /// PERSISTENT RESERVE OUT.
    Persistent(Persistent),
    /// COMPARE AND WRITE, guessing right.
    Swap {
        fua: bool,
    },
    /// VERIFY of what is there, comparing bytes.
    Verify,
    Flush,
    Ready,
    /// Of a unit of the library.
    Library(LibraryCommand),
}

/// Service actions of PERSISTENT RESERVE OUT. Each initiator has a key of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Persistent {
    Register,
    /// Write Exclusive, or Exclusive Access.
    Reserve {
        all: bool,
    },
    Release {
        all: bool,
    },
    Clear,
    /// Of whoever has reserved it, by the key of that initiator.
    Preempt {
        name: u8,
        all: bool,
    },
}

/// SAM-5 8.6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Attribute {
    Simple,
    Ordered,
    HeadOfQueue,
}

/// Task management.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Function {
    /// Of the latest command.
    AbortTask,
    AbortTaskSet,
    ClearTaskSet,
    LunReset,
    TargetReset,
}

/// What an initiator does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Violation {
    UnknownOpcode,
    /// Data-Out for no command.
    StrayData,
    /// Data-Out of a running write at a wrong offset.
    WrongOffset,
    /// Data-Out of a running write with a wrong DataSN.
    WrongDataSn,
    /// A data segment beyond what was agreed on.
    LongSegment,
    /// A command beyond the window.
    BeyondWindow,
    /// A login in the full feature phase.
    SecondLogin,
    /// Bytes that are no PDU.
    Noise,
    Snack,
}

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Action {
    Command {
        session: usize,
        disk: usize,
        lba: u64,
        blocks: u64,
        command: Command,
        attribute: Attribute,
    },
    Manage {
        session: usize,
        disk: usize,
        function: Function,
        immediate: bool,
    },
    Ping {
        session: usize,
    },
    /// Pings that fill the command window, and as many for immediate delivery.
    Flood {
        session: usize,
    },
    /// ABORT TASK of every command that runs.
    AbortAll {
        session: usize,
        immediate: bool,
    },
    Text {
        session: usize,
    },
    /// Of the session, over one of its connections.
    Logout {
        session: usize,
        #[serde(default)]
        connection: usize,
    },
    /// Logs one connection out, over itself or another.
    Close {
        session: usize,
        connection: usize,
        over: usize,
    },
    /// Closes the connection in order, in the middle of everything.
    Finish {
        session: usize,
        #[serde(default)]
        connection: usize,
    },
    /// Resets it.
    Cut {
        session: usize,
        #[serde(default)]
        connection: usize,
    },
    /// Is gone without a word, and comes back as if it had been restarted.
    Vanish {
        session: usize,
        #[serde(default)]
        connection: usize,
    },
    /// Makes a connection again while its old stream is still there.
    Reinstate {
        session: usize,
        connection: usize,
    },
    Violate {
        session: usize,
        violation: Violation,
    },
    /// Stops reading for so long.
    Deaf {
        session: usize,
        #[serde(default)]
        connection: usize,
        micros: u64,
    },
    /// Nothing passes the wires of a core.
    /// All memory of a core but its reserve is with somebody else for so long.
    Exhaust {
        core: usize,
        micros: u64,
    },
    Partition {
        core: usize,
        micros: u64,
    },
    /// Blocks go bad, or are mended.
    Blocks {
        disk: usize,
        lba: u64,
        blocks: u64,
        bad: bool,
    },
    /// A logical unit comes, or goes, which one core may own; or another takes the place of a disk. Perhaps a core
    /// refuses that.
    Topology {
        refuses: Option<usize>,
        #[serde(default)]
        disk: Option<usize>,
        #[serde(default)]
        owner: Option<usize>,
    },
    /// The medium of a disk that runs one command at a time goes, or, if it is out, that of a disk comes: its own,
    /// which may be in another one. Perhaps that is given up at once.
    Medium {
        disk: usize,
        of: usize,
        gives_up: bool,
    },
    /// The machine loses power.
    PowerLoss,
    /// The daemon is killed.
    Crash,
    /// The daemon stops in order, and is started again.
    Restart,
}

/// An action and its time, in microseconds after the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Step {
    pub(super) after: u64,
    pub(super) action: Action,
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Plan {
    /// Of what chance decides while it runs: whose turn it is, and which frame is lost.
    pub(super) seed: u64,
    pub(super) cores: usize,
    /// Of one core, in MiB.
    pub(super) memory: usize,
    /// Initiators authenticate themselves with CHAP, and the target, too.
    #[serde(default)]
    pub(super) chap: bool,
    /// Initiators reserve disks.
    #[serde(default)]
    pub(super) reserves: bool,
    pub(super) queue_depth: u32,
    /// Bytes that the target holds for the commands of an initiator; 0: the default.
    #[serde(default)]
    pub(super) initiator_memory: u64,
    /// All sessions are those of one initiator, and share that.
    #[serde(default)]
    pub(super) one_initiator: bool,
    /// MaxConnections of the target.
    #[serde(default = "one_connection")]
    pub(super) max_connections: u32,
    /// MaxRecvDataSegmentLength of the target.
    pub(super) segment_max: u32,
    /// Share of turns in which a core sleeps.
    pub(super) sleepy: f64,
    pub(super) wires: Wires,
    pub(super) disks: Vec<DiskShape>,
    /// Its units follow the disks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) library: Option<LibraryShape>,
    pub(super) sessions: Vec<SessionShape>,
    pub(super) steps: Vec<Step>,
}

/// One of a list.
fn one<T: Copy>(dice: &mut Dice, of: &[T]) -> T {
    of[usize::try_from(dice.below(of.len() as u64)).expect("short")]
}

fn index(dice: &mut Dice, len: usize) -> usize {
    usize::try_from(dice.below(len as u64)).expect("short")
}

/// A fault's share: often none at all, so that faults also come alone.
fn share(dice: &mut Dice, most: f64) -> f64 {
    let kinds = [0.0, 0.0, 0.2, 1.0];
    (one(dice, &kinds) * most * (1 + dice.below(1000)) as f64 / 1000.0 * 1e6).round() / 1e6
}

impl Plan {
    /// The plan of a seed.
    pub(super) fn new(seed: u64) -> Self {
        let dice = &mut Dice::new(seed ^ 0x7074_6774);
        let cores = 1 + index(dice, 3);
        let wires = Wires {
            loss: share(dice, 0.05),
            duplicate: share(dice, 0.05),
            reorder: share(dice, 0.1),
            corrupt: share(dice, 0.03),
            damage: share(dice, 0.01),
            delay_micros: one(dice, &[0, 10, 100, 1000, 10_000]),
            mtu: one(dice, &[1500, 1500, 9000, 576 + 704]),
            segmentation: dice.chance(0.3),
            ipv6: dice.chance(0.3),
            forged: one(&mut Dice::new(seed ^ 0x666f_7267), &[0.0, 0.0, 0.01, 0.1]),
        };
        let mut disks = (0..1 + index(dice, 2)).map(|_| disk(dice)).collect::<Vec<_>>();
        let serial = &mut Dice::new(seed ^ 0x7365_7269);
        disks.iter_mut().for_each(|disk| disk.serial = serial.chance(0.3));
        let shared_names = dice.chance(0.2);
        let sessions: Vec<_> =
            (0..1 + dice.below(4)).map(|i| session(dice, if shared_names { i / 2 } else { i })).collect();
        let mut plan = Self {
            seed,
            cores,
            memory: one(dice, &[16, 32, 32]),
            chap: dice.chance(0.2),
            reserves: dice.chance(0.15),
            queue_depth: one(dice, &[1, 4, 16, 64]),
            initiator_memory: 0,
            one_initiator: false,
            max_connections: one(dice, &[1, 2, 4, 4]),
            segment_max: one(dice, &[512, 4096, 8192, 65_536]),
            sleepy: one(dice, &[0.0, 0.1, 0.6]),
            wires,
            disks,
            library: None,
            sessions,
            steps: Vec::new(),
        };
        let hot = 1 + dice.below(40);
        let rough = one(dice, &[0.0, 0.02, 0.1]);
        let pace = one(dice, &[0, 20, 200, 2000]);
        let several = plan.max_connections > 1 && plan.sessions.iter().any(|session| session.connections > 1);
        let restless = if several { one(dice, &[0.0, 0.02, 0.1]) } else { 0.0 };
        for _ in 0..20 + dice.below(180) {
            let action = match dice.chance(restless) {
                true => come_and_go(dice, &plan),
                false if dice.chance(rough) => event(dice, &plan),
                false => command(dice, &plan, hot),
            };
            plan.steps.push(Step { after: dice.below(2 * pace + 1), action });
        }
        plan.crowd(&mut Dice::new(seed ^ 0x6c69_6d69));
        plan.reshape(&mut Dice::new(seed ^ 0x746f_706f));
        plan.exchange(&mut Dice::new(seed ^ 0x6d65_6469));
        plan.furnish(&mut Dice::new(seed ^ 0x7461_7065));
        plan
    }

    /// All logical units.
    pub(super) fn units(&self) -> usize {
        self.disks.len() + self.library.as_ref().map_or(0, LibraryShape::units)
    }

    /// In some runs there is a library, whose machine is lost more often.
    fn furnish(&mut self, dice: &mut Dice) {
        if !dice.chance(0.25) {
            return;
        }
        let store = disk(dice).store;
        let shape = LibraryShape::new(dice, store);
        // A drive that has no memory may stop half-way, which its answers do not tell.
        self.steps.retain(|step| !matches!(step.action, Action::Exhaust { .. }));
        let sudden = one(dice, &[Action::PowerLoss, Action::Crash, Action::Restart]);
        let pace = one(dice, &[0, 200, 5000]);
        let lost = one(dice, &[0, 1, 4]);
        for step in 0..20 + dice.below(60) {
            // A drive without a cartridge is of little interest.
            let first = usize::try_from(step).ok().filter(|&drive| drive < shape.drives);
            let load = |drive| (0, LibraryCommand::Move { from: shape.drives + drive, to: drive });
            let (unit, command) = first.map_or_else(|| shape.command(dice), load);
            let action = Action::Command {
                session: index(dice, self.sessions.len()),
                disk: self.disks.len() + unit,
                lba: 0,
                blocks: 0,
                command: Command::Library(command),
                attribute: Attribute::Simple,
            };
            let at = first.unwrap_or_else(|| index(dice, self.steps.len() + 1));
            self.steps.insert(at, Step { after: dice.below(pace + 1), action });
            if step < lost {
                let at = index(dice, self.steps.len() + 1);
                self.steps.insert(at, Step { after: 0, action: sudden });
            }
        }
        self.library = Some(shape);
    }

    /// In some runs the topology changes.
    fn reshape(&mut self, dice: &mut Dice) {
        if !dice.chance(0.4) {
            return;
        }
        for _ in 0..1 + dice.below(8) {
            let refuses = dice.chance(0.3).then(|| index(dice, self.cores));
            let at = index(dice, self.steps.len());
            let disk = dice.chance(0.6).then(|| index(dice, self.disks.len()));
            let owner = dice.chance(0.5).then(|| index(dice, self.cores));
            let action = Action::Topology { refuses, disk, owner };
            self.steps.insert(at, Step { after: 0, action });
        }
    }

    /// In some runs media come and go.
    fn exchange(&mut self, dice: &mut Dice) {
        let disks = self.disks.len();
        let serial: Vec<usize> = (0..disks).filter(|&disk| self.disks[disk].serial).collect();
        if serial.is_empty() || !dice.chance(0.6) {
            return;
        }
        for _ in 0..1 + dice.below(16) {
            let (disk, of, gives_up) = (one(dice, &serial), index(dice, disks), dice.chance(0.1));
            let at = index(dice, self.steps.len());
            self.steps.insert(at, Step { after: 0, action: Action::Medium { disk, of, gives_up } });
        }
    }

    /// Some runs go to the limits: sessions share little memory, and use the whole window at once.
    fn crowd(&mut self, dice: &mut Dice) {
        if !dice.chance(0.3) {
            return;
        }
        self.initiator_memory = one(dice, &[64 << 10, 256 << 10, 1 << 20]);
        self.one_initiator = dice.chance(0.7);
        for _ in 0..2 + dice.below(4) {
            let session = index(dice, self.sessions.len());
            let action = match dice.chance(0.5) {
                true => Action::Flood { session },
                false => Action::AbortAll { session, immediate: dice.chance(0.7) },
            };
            let at = index(dice, self.steps.len());
            self.steps.insert(at, Step { after: 0, action });
        }
    }
}

fn disk(dice: &mut Dice) -> DiskShape {
    let block = one(dice, &[512, 512, 4096]);
    DiskShape {
        blocks: 256,
        block,
        thin: dice.chance(0.7),
        write_cache: dice.chance(0.8),
        read_only: dice.chance(0.03),
        serial: false,
        store: Behaviour {
            lends: dice.chance(0.5),
            depth: one(dice, &[1, 4, 64]),
            micros_max: one(dice, &[0, 50, 500, 5000]),
            slow: share(dice, 0.05),
            fails: one(dice, &[0.0, 0.0, 0.01]),
            at_once: one(dice, &[0.0, 0.5, 1.0]),
            transfer_max: one(dice, &[4096, 16 << 10, 1 << 20]),
        },
    }
}

fn session(dice: &mut Dice, name: u64) -> SessionShape {
    let max_burst = one(dice, &[8192, 16_384, 65_536, 262_144]);
    SessionShape {
        name: u8::try_from(name).expect("few"),
        header_digest: dice.chance(0.5),
        data_digest: dice.chance(0.5),
        initial_r2t: dice.chance(0.5),
        immediate_data: dice.chance(0.7),
        first_burst: one(dice, &[512, 4096, 8192]).min(max_burst),
        max_burst,
        segment_max: one(dice, &[512, 4096, 8192, 65_536]),
        outstanding_r2ts: one(dice, &[1, 2, 16]),
        cmd_sn: one(dice, &[1, 100, u32::MAX - 5, 0x7fff_fff0]),
        window: one(dice, &[4096, 65_536, 1 << 20]),
        connections: one(dice, &[1, 1, 2, 4]),
    }
}

fn command(dice: &mut Dice, plan: &Plan, hot: u64) -> Action {
    let disk = index(dice, plan.disks.len());
    let shape = &plan.disks[disk];
    let lba = if dice.chance(0.9) { dice.below(hot) } else { dice.below(shape.blocks) };
    let most = one(dice, &[1, 4, 16, 64]).min(shape.blocks - lba);
    let fua = dice.chance(0.2);
    let command = match dice.below(100) {
        0..8 if plan.reserves => Command::Persistent(persistent(dice, plan)),
        0..36 => Command::Read { fua },
        36..62 => Command::Write { fua },
        62..65 => Command::Atomic { fua },
        65..68 => Command::Or { fua },
        68..71 => Command::WriteVerify,
        71..75 => Command::WriteSame { pattern: dice.chance(0.6) },
        75..79 if shape.thin => Command::Unmap,
        75..87 => Command::Swap { fua },
        87..90 => Command::Verify,
        90..97 => Command::Flush,
        _ => Command::Ready,
    };
    let attribute = match dice.below(20) {
        0..3 => Attribute::Ordered,
        3 => Attribute::HeadOfQueue,
        _ => Attribute::Simple,
    };
    let blocks = 1 + dice.below(most);
    let session = index(dice, plan.sessions.len());
    Action::Command { session, disk, lba, blocks, command, attribute }
}

fn persistent(dice: &mut Dice, plan: &Plan) -> Persistent {
    let all = dice.chance(0.4);
    match dice.below(10) {
        0..4 => Persistent::Register,
        4..7 => Persistent::Reserve { all },
        7 => Persistent::Release { all },
        8 => Persistent::Clear,
        _ => Persistent::Preempt { name: plan.sessions[index(dice, plan.sessions.len())].name, all },
    }
}

/// Something other than a command.
fn event(dice: &mut Dice, plan: &Plan) -> Action {
    use Function as F;
    use Violation as V;
    let session = index(dice, plan.sessions.len());
    let disk = index(dice, plan.disks.len());
    let connection = index(dice, plan.sessions[session].connections.into());
    match dice.below(100) {
        0..30 => {
            let all = [
                F::AbortTask,
                F::AbortTask,
                F::AbortTask,
                F::AbortTaskSet,
                F::ClearTaskSet,
                F::LunReset,
                F::TargetReset,
            ];
            Action::Manage { session, disk, function: one(dice, &all), immediate: dice.chance(0.5) }
        }
        30..36 => Action::Ping { session },
        36..38 => Action::Text { session },
        38..43 => Action::Logout { session, connection },
        43..48 => Action::Finish { session, connection },
        48..55 => Action::Cut { session, connection },
        55..60 => Action::Vanish { session, connection },
        60..70 => {
            let all = [
                V::UnknownOpcode,
                V::StrayData,
                V::WrongOffset,
                V::WrongDataSn,
                V::LongSegment,
                V::BeyondWindow,
                V::SecondLogin,
                V::Noise,
                V::Snack,
            ];
            Action::Violate { session, violation: one(dice, &all) }
        }
        70..73 => Action::Deaf { session, connection, micros: dice.below(50_000) },
        73..78 => {
            let micros = one(dice, &[1000, 20_000, 200_000]);
            Action::Exhaust { core: index(dice, plan.cores), micros }
        }
        78..82 => {
            let micros = one(dice, &[1000, 100_000, 3_000_000]);
            Action::Partition { core: index(dice, plan.cores), micros }
        }
        82..88 => {
            let lba = dice.below(plan.disks[disk].blocks);
            let blocks = (1 + dice.below(3)).min(plan.disks[disk].blocks - lba);
            Action::Blocks { disk, lba, blocks, bad: dice.chance(0.6) }
        }
        88..94 => Action::PowerLoss,
        94..97 => Action::Crash,
        _ => Action::Restart,
    }
}

/// One of several connections ends, so that others go on.
fn come_and_go(dice: &mut Dice, plan: &Plan) -> Action {
    let session = index(dice, plan.sessions.len());
    let [connection, over] = [(); 2].map(|()| index(dice, plan.sessions[session].connections.into()));
    match dice.below(6) {
        0 => Action::Finish { session, connection },
        1 => Action::Vanish { session, connection },
        2 => Action::Reinstate { session, connection },
        3 => Action::Cut { session, connection },
        _ => Action::Close { session, connection, over },
    }
}

/// Makes a plan that fails shorter, by leaving out what it fails without. `fails` runs a plan.
pub(super) fn shrink(mut plan: Plan, mut fails: impl FnMut(&Plan) -> bool, runs_max: usize) -> Plan {
    let mut runs = 0;
    let mut attempt = |plan: &mut Plan, smaller: Plan| {
        runs += 1;
        let better = runs <= runs_max && fails(&smaller);
        if better {
            *plan = smaller;
        }
        (better, runs < runs_max)
    };
    let calm: [fn(&mut Plan); 10] = [
        |p| p.wires.forged = 0.0,
        |p| p.wires.loss = 0.0,
        |p| p.wires.duplicate = 0.0,
        |p| p.wires.reorder = 0.0,
        |p| p.wires.corrupt = 0.0,
        |p| p.wires.damage = 0.0,
        |p| p.wires.delay_micros = 0,
        |p| p.sleepy = 0.0,
        |p| p.disks.iter_mut().for_each(|d| (d.store.fails, d.store.slow) = (0.0, 0.0)),
        |p| p.cores = 1,
    ];
    for change in calm {
        let mut smaller = plan.clone();
        change(&mut smaller);
        if smaller != plan {
            attempt(&mut plan, smaller);
        }
    }
    let mut size = plan.steps.len().div_ceil(2);
    loop {
        let mut at = 0;
        while at < plan.steps.len() {
            let mut smaller = plan.clone();
            let end = (at + size).min(plan.steps.len());
            // What is left out has taken its time all the same.
            let time: u64 = smaller.steps.drain(at..end).map(|step| step.after).sum();
            if let Some(next) = smaller.steps.get_mut(at) {
                next.after += time;
            }
            match attempt(&mut plan, smaller) {
                (_, false) => return plan,
                (true, _) => {}
                (false, _) => at += size,
            }
        }
        if size <= 1 {
            return plan;
        }
        size = size.div_ceil(2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_makes_one_plan() {
        assert_eq!(Plan::new(5), Plan::new(5));
        assert_ne!(Plan::new(5), Plan::new(6));
        let text = serde_json::to_string(&Plan::new(5)).unwrap();
        assert_eq!(serde_json::from_str::<Plan>(&text).unwrap(), Plan::new(5));
    }

    #[test]
    fn shrinking_finds_the_two_steps_that_matter() {
        let long = (3..).map(Plan::new).find(|plan| {
            plan.steps.len() > 100
                && plan.steps.iter().any(|step| matches!(step.action, Action::Ping { .. }))
                && plan.steps.iter().any(|step| matches!(step.action, Action::Cut { .. }))
        });
        let fails = |plan: &Plan| {
            let has = |wanted: fn(&Action) -> bool| plan.steps.iter().any(|step| wanted(&step.action));
            has(|a| matches!(a, Action::Ping { .. })) && has(|a| matches!(a, Action::Cut { .. }))
        };
        let short = shrink(long.unwrap(), fails, 1000);
        assert_eq!(short.steps.len(), 2);
        assert_eq!((short.cores, short.wires.loss), (1, 0.0));
    }
}
