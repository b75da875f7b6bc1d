// SPDX-License-Identifier: GPL-2.0-or-later
//! The target without a wire, in the threads of the load: how much a layer costs, and how often it does what.
//!
//! Depths, each of which adds a layer: [`Depth::Scsi`] is the task manager, the disk and its store; [`Depth::Iscsi`] a
//! whole shard, whose byte streams are queues in memory; [`Depth::Tcp`] the same shard over its own TCP/IP, with a peer
//! that makes and takes frames and never loses one. `Depth::Dpdk` and `Depth::DpdkPlain` put the driver for DPDK's
//! devices and the model of an adapter between the two.

#[cfg(feature = "dpdk")]
mod adapter;
mod cores;
mod frames;
mod scsi;
mod streams;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

pub(super) use cores::{CORES_MAX, Pace, run as run_cores, virtual_clock};

use super::load::{Load, Spec, Tally, Window};
use super::report::Frames;
use crate::adapters::iscsi::IscsiMessage;
use crate::adapters::iscsi::sessions::Sessions;
use crate::devices::sbc::{self, BlockSize, Disk};
use crate::engine::shard::Message;
use crate::engine::tasks::{SharedState, TaskManager, UnitKey, UnitKeys};
use crate::io::{Done, Landing, Op, Submitted, Tag};
use crate::memory::Arena;
use crate::reactor::{CoreContext, Mailbox, Sender, mailboxes};
use crate::scsi::primary::{Identity, MissingLun};
use crate::stores::{self, Backing, FileOptions};
use crate::sys;
use crate::time::Instant;
use crate::wire::Uuid;

/// Which layers take part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Depth {
    /// Task manager, disk and store.
    Scsi,
    /// With iSCSI over streams in memory.
    Iscsi,
    /// With TCP/IP over frames in memory.
    Tcp,
    /// With DPDK's driver, and the model of an adapter that computes checksums and cuts frames.
    #[cfg(feature = "dpdk")]
    Dpdk,
    /// The same with an adapter that does neither.
    #[cfg(feature = "dpdk")]
    DpdkPlain,
}

impl Depth {
    /// As in the arguments.
    pub(super) fn name(self) -> String {
        let value = clap::ValueEnum::to_possible_value(&self);
        value.map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// Whether frames have an MTU.
    pub(super) fn has_mtu(self) -> bool {
        !matches!(self, Self::Scsi | Self::Iscsi | Self::Tcp)
    }
}

/// What the disk lies on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum StoreKind {
    /// Memory.
    Ram,
    /// Nothing.
    Null,
    /// An image file.
    File(std::path::PathBuf),
    /// The same, mapped.
    Mapped(std::path::PathBuf),
}

impl std::str::FromStr for StoreKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':').unwrap_or((text, "")) {
            ("ram", "") => Ok(Self::Ram),
            ("null", "") => Ok(Self::Null),
            ("file", path) if !path.is_empty() => Ok(Self::File(path.into())),
            ("mapped", path) if !path.is_empty() => Ok(Self::Mapped(path.into())),
            _ => Err("ram, null, file:PATH or mapped:PATH".to_owned()),
        }
    }
}

/// How the target is set up.
#[derive(Clone)]
pub(super) struct Setup {
    pub(super) depth: Depth,
    pub(super) store: StoreKind,
    /// Bytes of the disk.
    pub(super) size: u64,
    pub(super) sessions: usize,
    /// Operations under way in each.
    pub(super) queue: u32,
    pub(super) huge: bool,
    /// Of the adapter.
    #[cfg_attr(not(feature = "dpdk"), expect(dead_code, reason = "no layer has one"))]
    pub(super) mtu: u16,
}

/// The time that the target's turns take, by the processor's own counter.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turns {
    ticks: u64,
    /// What the counter and the clock said at the beginning.
    begun: (u64, u64),
}

impl Turns {
    fn begin() -> Self {
        Self { ticks: 0, begun: (sys::ticks(), sys::monotonic()) }
    }

    #[inline]
    fn time(&mut self, turn: impl FnOnce()) {
        let before = sys::ticks();
        turn();
        self.ticks += sys::ticks().wrapping_sub(before);
    }

    /// Adds those of another core.
    fn add(&mut self, other: &Self) {
        self.ticks += other.ticks;
    }

    /// Cycles of the counter, and seconds; of the latter as many as passed in each since the beginning.
    pub(super) fn taken(&self) -> (u64, f64) {
        let ticks = sys::ticks().wrapping_sub(self.begun.0).max(1);
        let seconds = (sys::monotonic() - self.begun.1) as f64 / 1e9;
        (self.ticks, self.ticks as f64 / ticks as f64 * seconds)
    }
}

/// What came of a run.
pub(super) struct Outcome {
    pub(super) tally: Tally,
    pub(super) turns: Turns,
    pub(super) frames: Option<Frames>,
}

/// Payload memory of the core, at least and at most. It is address space until it is touched.
const ARENA: usize = 256 << 20;
const ARENA_MAX: usize = 16 << 30;

/// Room for each operation under way: the payload of the peer, of the target, and of the frames between them, in blocks
/// of the arena that are up to twice as large. So those who play the peer cannot run out of it.
fn payload_memory(setup: &Setup, block: u32) -> Result<usize, String> {
    let under_way = setup.sessions.saturating_mul(setup.queue as usize);
    let wanted = under_way.saturating_mul(block as usize).saturating_mul(6);
    if wanted > ARENA_MAX {
        return Err("--depth, --connections and --block: more than 16 GiB of payload memory".to_owned());
    }
    Ok(wanted.max(ARENA).next_multiple_of(2 << 20))
}

/// Runs a load in this thread.
pub(super) fn run(
    setup: &Setup,
    spec: &Spec,
    window: impl FnOnce(Instant) -> Window,
    clock: &dyn Fn() -> Instant,
    progress: &mut dyn FnMut(&Tally),
) -> Result<Outcome, String> {
    let (common, mut places) = Common::new(setup, 1)?;
    let place = places.pop().ok_or("no core")?;
    load(common.world(setup, spec.block, place)?, setup, spec, window, clock, progress)
}

/// Runs the load of one core.
fn load(
    world: World,
    setup: &Setup,
    spec: &Spec,
    window: impl FnOnce(Instant) -> Window,
    clock: &dyn Fn() -> Instant,
    progress: &mut dyn FnMut(&Tally),
) -> Result<Outcome, String> {
    match setup.depth {
        Depth::Scsi => scsi::run(world, setup, Load::new(spec.clone(), window(clock())), clock, progress),
        _ => streams::run(world, setup, spec, window, clock, progress),
    }
}

/// What the cores of a target share: a disk, and its state.
struct Common {
    backing: Arc<dyn Backing>,
    disk: Arc<Disk>,
    state: Arc<SharedState>,
    cores: Cores,
}

/// What a shard has to know of all cores.
#[derive(Clone)]
struct Cores {
    sessions: Arc<Sessions>,
    left: Arc<AtomicUsize>,
    senders: Vec<Sender<Message>>,
    /// Of the iSCSI of each core.
    peers: Vec<Sender<IscsiMessage>>,
}

/// A core's share, made in its thread.
struct World {
    context: CoreContext,
    tasks: TaskManager,
    unit: UnitKey,
    cores: Cores,
    mailbox: Mailbox<Message>,
    inbox: Mailbox<IscsiMessage>,
}

/// What a core has to itself from the beginning: its number, and what the others tell it and its iSCSI.
type Place = (usize, (Mailbox<Message>, Mailbox<IscsiMessage>));

impl Common {
    /// With a place for each core.
    fn new(setup: &Setup, cores: usize) -> Result<(Self, Vec<Place>), String> {
        let (senders, boxes) = mailboxes(cores).map_err(|e| format!("mailbox: {e}"))?;
        let (peers, inboxes) = mailboxes(cores).map_err(|e| format!("mailbox: {e}"))?;
        let cores =
            Cores { sessions: Arc::default(), left: Arc::new(AtomicUsize::new(cores)), senders, peers };
        let common = Self { backing: open(setup)?, disk: Arc::new(disk()?), state: Arc::default(), cores };
        Ok((common, boxes.into_iter().zip(inboxes).enumerate().collect()))
    }

    /// Where the store is, if it lends its memory: a read of its first block by another handle tells.
    fn base(&self) -> Result<Option<usize>, String> {
        let arena = Arena::new(2 << 20, false).map_err(|e| format!("payload memory: {e}"))?;
        let mut probe =
            self.backing.attach(&CoreContext::alone(arena)).map_err(|e| format!("the store: {e}"))?;
        match probe.submit(Tag(0), Op::Read { at: 0, len: BLOCK.bytes(), into: Landing::Own }) {
            Submitted::Done(Done::Data(data)) => {
                let first = data.segs().first().filter(|first| first.private().is_none());
                Ok(first.map(|first| first.as_ptr().addr()))
            }
            _ => Ok(None),
        }
    }

    fn world(&self, setup: &Setup, block: u32, (core, (mailbox, inbox)): Place) -> Result<World, String> {
        let arena = Arena::new(payload_memory(setup, block)?, setup.huge)
            .map_err(|e| format!("payload memory: {e}"))?;
        let context = CoreContext::new(core, self.cores.senders.len(), arena);
        let store = self.backing.attach(&context).map_err(|e| format!("the store: {e}"))?;
        let cores = self.cores.clone();
        let mut tasks = TaskManager::new(&context, Box::new(MissingLun));
        let unit = UnitKeys::default().allocate();
        tasks.add_unit(unit, Box::new(self.disk.server()), Some(store));
        tasks.share(unit, self.state.clone());
        Ok(World { context, tasks, unit, cores, mailbox, inbox })
    }
}

fn open(setup: &Setup) -> Result<Arc<dyn Backing>, String> {
    let block = BLOCK.bytes();
    match &setup.store {
        StoreKind::Ram => stores::ram(setup.size, block, setup.huge),
        StoreKind::Null => stores::null(setup.size, block),
        StoreKind::File(path) | StoreKind::Mapped(path) => stores::file(&FileOptions {
            name: "bench".into(),
            path: path.clone(),
            size: Some(setup.size),
            create: true,
            record: None,
            block,
            read_only: false,
            mapped: matches!(setup.store, StoreKind::Mapped(_)),
            thin: true,
        }),
    }
    .map_err(|e| format!("the store: {e}"))
}

const BLOCK: BlockSize = BlockSize::B512;

fn disk() -> Result<Disk, String> {
    let identity =
        Identity::new("PTGT", "BENCH", "1", None, Uuid::of_name("bench")).map_err(|e| e.to_string())?;
    Ok(Disk::new(sbc::Config { block: BLOCK, thin: false, ..sbc::Config::new(identity) }))
}
