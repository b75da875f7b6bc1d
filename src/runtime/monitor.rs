// SPDX-License-Identifier: GPL-2.0-or-later
//! The status of the running daemon: what the configuration says and what the cores report, put together.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use log::info;
use serde_json::{Map, Value};

use super::build::Unit;
use super::live::{Live, ServedParts};
use crate::control::config::Config;
use crate::control::status::{
    self, ApplyRequest, Latency, MediumRequest, Memory, Pages, Port, PortGroup, Reactor, Registration,
    Reservations, SetPortGroup, State, Status, StatusRequest, StatusSource, UnitDetails, UnitStatus,
};
use crate::counters::{CounterSet, by_name};
use crate::engine::fabric::FabricShare;
use crate::engine::report::CoreReport;
use crate::engine::shard::Message;
use crate::engine::units::{self, UnitKind, UnitOptions};
use crate::memory;
use crate::ports::ConfiguredPort;
use crate::reactor::Sender;
use crate::scsi::alua::{Group, GroupState};
use crate::scsi::{self, Change};
use crate::stores::ConfiguredStore;

use crate::engine::tasks::{CommandKind, Histogram, Latencies, Stage, UnitCounters, UnitKey};

/// How long the cores may take for their reports. A turn of the loop takes a fraction of a millisecond.
const REPORT_TIME: Duration = Duration::from_secs(1);

/// How long a change may take: as long as what the stores have under way, and less than a client waits.
const CHANGE_TIME: Duration = Duration::from_secs(8);

/// The counter of a port that tells that its device is gone.
const DEVICE_GONE: &str = "device_gone";

/// Quantiles of latencies that the status names.
const QUANTILES: [(&str, u64); 4] = [("p50", 500), ("p90", 900), ("p99", 990), ("p99.9", 999)];

/// Asks the cores.
pub(super) struct Monitor {
    live: Arc<Live>,
    cores: Vec<Sender<Message>>,
    /// Per core, the report that was asked for last. A core that has not answered is not asked again, so that its
    /// mailbox does not fill up.
    asked: Mutex<Vec<Option<Receiver<CoreReport>>>>,
    draining: Arc<AtomicBool>,
    started: Instant,
}

impl Monitor {
    /// `draining` becomes true when the daemon begins to stop.
    pub(super) fn new(live: Arc<Live>, cores: Vec<Sender<Message>>, draining: Arc<AtomicBool>) -> Self {
        let asked = Mutex::new(cores.iter().map(|_| None).collect());
        Self { live, cores, asked, draining, started: Instant::now() }
    }

    /// The report of each core, if it comes in time.
    fn reports(&self) -> Vec<Option<CoreReport>> {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        for (core, asked) in self.cores.iter().zip(&mut *asked) {
            let waiting = asked.as_ref().is_some_and(|old| old.try_recv().err() == Some(TryRecvError::Empty));
            if !waiting {
                let (to, report) = sync_channel(1);
                core.send(Message::Report(to));
                *asked = Some(report);
            }
        }
        let deadline = Instant::now() + REPORT_TIME;
        let wait = |asked: &Option<Receiver<CoreReport>>| {
            let left = deadline.saturating_duration_since(Instant::now());
            asked.as_ref().and_then(|report| report.recv_timeout(left).ok())
        };
        asked.iter().map(wait).collect()
    }
}

impl Monitor {
    /// What each logical unit is to change, of those that are reached through the group.
    fn port_group(&self, wanted: &SetPortGroup) -> Result<Vec<(UnitKey, Change)>, String> {
        let SetPortGroup { group, state, disk } = wanted;
        let ServedParts { config, units, .. } = &*self.live.served();
        let named = config.port_groups.iter().find(|known| known.name == *group).map(|known| known.group);
        let tag = named.or_else(|| group.parse().ok());
        let tag = tag.ok_or_else(|| format!("there is no port group {group:?}: give its name or its tag"))?;
        let state = GroupState::named(state).ok_or_else(|| {
            let names = GroupState::NAMES.map(|(name, _)| name).join(", ");
            format!("{state:?} is not a state: {names}")
        })?;
        if let Some(disk) = disk
            && units.iter().all(|known| known.options.name != *disk)
        {
            return Err(format!("there is no logical unit {disk:?}"));
        }
        let mut changes = Vec::new();
        for known in units {
            let reached = known.state.current().groups().iter().any(|group| group.id == tag);
            if reached && disk.as_ref().is_none_or(|disk| known.options.name == *disk) {
                changes.push((known.key, Change::Groups(vec![(tag, state)])));
            }
        }
        if changes.is_empty() {
            Err(format!("no logical unit is reached through port group {tag}"))
        } else {
            Ok(changes)
        }
    }
}

impl Monitor {
    /// How many cores do not answer in time.
    pub(super) fn silent(&self) -> usize {
        self.reports().iter().filter(|report| report.is_none()).count()
    }
}

impl StatusSource for Monitor {
    fn set_port_group(&self, wanted: &SetPortGroup) -> Result<(), String> {
        let changes = self.port_group(wanted)?;
        let (to, refused) = sync_channel(1);
        self.cores[0].send(Message::Change(changes, to));
        match refused.recv_timeout(CHANGE_TIME) {
            Ok(false) => {
                let SetPortGroup { group, state, disk } = wanted;
                let whose =
                    disk.as_ref().map_or_else(|| "all disks".to_owned(), |disk| format!("disk {disk:?}"));
                info!("port group {group:?}: {state} from now on, for {whose}");
                Ok(())
            }
            Ok(true) => Err("the change could not be made: see the log".into()),
            Err(_) => Err(format!("not done within {} s: a store does not answer", CHANGE_TIME.as_secs())),
        }
    }

    fn apply(&self, wanted: &ApplyRequest) -> Result<(), String> {
        self.live.apply(&wanted.path)
    }

    fn change_medium(&self, MediumRequest { unit, image, force }: &MediumRequest) -> Result<(), String> {
        match image {
            Some(image) => self.live.load_medium(unit, &ConfiguredStore::of_image(unit, image)),
            None => self.live.unload_medium(unit, *force),
        }
    }

    fn status(&self, wanted: StatusRequest) -> Status {
        let reports = self.reports();
        let silent = reports.iter().enumerate().filter(|(_, report)| report.is_none());
        let mut silent_reactors: Vec<usize> = silent.map(|(core, _)| core).collect();
        let reports: Vec<CoreReport> = reports.into_iter().flatten().collect();
        let served = self.live.served();
        let ServedParts { config, units, .. } = &*served;
        let ports: Vec<Port> = config.ports.iter().map(|each| port(each, &reports)).collect();
        let mut fabrics = Map::new();
        for (fabric, shares) in config.fabrics.iter().zip(&self.live.fabrics) {
            let sessions = wanted.sessions.then(|| sessions(shares, &reports, &mut silent_reactors));
            fabrics.extend(fabric.status(&|port| is_down(port, &ports), sessions));
        }
        let draining = self.draining.load(Ordering::SeqCst);
        let units = units.iter().map(|unit| unit_status(unit, &reports));
        let (disks, units) = units.partition(|unit| unit.kind == status::DISK);
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_seconds: self.started.elapsed().as_secs(),
            state: if draining { State::Draining } else { State::Running },
            reactors: reports.iter().map(|report| reactor(config, report)).collect(),
            silent_reactors,
            ports,
            disks,
            units,
            fabrics,
        }
    }
}

/// Who is there by a fabric, on the cores that have reported. Those that do not answer in time are `silent`.
fn sessions(shares: &[Arc<dyn FabricShare>], reports: &[CoreReport], silent: &mut Vec<usize>) -> Vec<Value> {
    let mut all = Vec::new();
    for CoreReport { core, .. } in reports {
        let deadline = Instant::now() + REPORT_TIME;
        let left = || deadline.saturating_duration_since(Instant::now());
        for share in shares {
            match share.sessions(*core, &left) {
                Some(sessions) => all.extend(sessions),
                None if silent.contains(core) => {}
                None => silent.push(*core),
            }
        }
    }
    all
}

fn reactor(config: &Config, report: &CoreReport) -> Reactor {
    Reactor {
        reactor: report.core,
        processor: config.daemon.reactors[report.core],
        busy_share: report.load.busy,
        asleep_share: report.load.asleep,
        counters: report.load.counters,
        serves: report.counters,
        peers: report.links,
        busy_seconds: Duration::from_nanos(report.load.counters.busy_ns).as_secs_f64(),
        memory: Memory {
            counters: report.memory,
            pages: match report.pages {
                memory::Pages::Huge => Pages::Huge,
                memory::Pages::Ordinary => Pages::Ordinary,
            },
        },
    }
}

fn port(ConfiguredPort { name, driver, .. }: &ConfiguredPort, reports: &[CoreReport]) -> Port {
    let counted = reports.iter().filter_map(|report| report.ports.get(name));
    let counters = by_name(counted.flatten().copied());
    Port { name: name.clone(), driver: (*driver).to_owned(), counters }
}

/// Whether nobody reaches a port: its device is gone.
fn is_down(port: &str, ports: &[Port]) -> bool {
    let port = ports.iter().find(|known| known.name == port);
    port.and_then(|port| port.counters.get(DEVICE_GONE)).is_some_and(|reactors| *reactors > 0)
}

fn unit_status(unit: &Unit, reports: &[CoreReport]) -> UnitStatus {
    let Unit { key, options, device, state, .. } = unit;
    let UnitOptions { kind, name, faults, command_faults, .. } = options;
    let mut sum = UnitCounters::default();
    let mut latencies = Latencies::default();
    let mut size_bytes = 0;
    for unit in reports.iter().filter_map(|report| report.units.get(key)) {
        sum.add(&unit.counters);
        latencies.add(&unit.latencies);
        // Cores that leave it to its owner have none of it.
        size_bytes = size_bytes.max(unit.bytes);
    }
    let is_removable = units::kind(kind).is_some_and(UnitKind::is_removable);
    let there =
        unit.medium().as_ref().map(|there| (there.store.word, is_removable.then(|| there.described())));
    let (store, medium) = there.unwrap_or_default();
    let needs = options.device.needs();
    let state = state.current();
    UnitStatus {
        kind: (*kind).to_owned(),
        name: name.clone(),
        store: store.to_owned(),
        medium,
        size_bytes,
        block_bytes: needs.block,
        read_only: needs.read_only,
        state: UnitDetails { fault_rules: faults.len() + command_faults.len(), device: device.report() },
        reservations: reservations(state.reservations()),
        port_groups: state.groups().iter().map(port_group).collect(),
        counters: sum,
        latencies: latencies.all().map(|(kind, stage, times)| latency(kind, stage, times)).collect(),
    }
}

fn latency(kind: CommandKind, stage: Stage, times: &Histogram) -> Latency {
    Latency {
        kind: kind.name().to_owned(),
        stage: stage.name().to_owned(),
        count: times.count(),
        sum_ns: times.sum(),
        max_ns: times.max(),
        quantiles_ns: QUANTILES.map(|(name, share)| (name.to_owned(), times.quantile(share))).into(),
        buckets: times.buckets().collect(),
    }
}

fn reservations(table: &scsi::reservations::Reservations) -> Reservations {
    let registrations = table.registrations().iter().map(|registration| Registration {
        initiator: registration.initiator.to_string(),
        target_port: registration.port.as_ref().map(|port| port.name.to_string()),
        key: format!("{:#x}", registration.key),
        holder: table.holds(registration),
    });
    Reservations {
        kind: table.kind().map(|kind| kind.to_string()),
        generation: table.generation(),
        persists: table.persists(),
        reserved: table.reserver().is_some(),
        registrations: registrations.collect(),
    }
}

fn port_group(group: &Group) -> PortGroup {
    PortGroup {
        group: group.id,
        state: group.state.to_string(),
        preferred: group.preferred,
        target_ports: group.ports.iter().map(|port| port.name.to_string()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::*;
    use crate::control::config::parse;
    use crate::engine::fabric::Fabric;
    use crate::engine::links::PeerCounters;
    use crate::engine::report::{CoreCounters, UnitReport};
    use crate::memory::ArenaCounters;
    use crate::ports::{KernelCounters, TapCounters};
    use crate::reactor::{CoreContext, Load, Mailbox, mailboxes};
    use crate::runtime::build::{NewMedium, unit};
    use crate::runtime::ports::AddressLocks;
    use crate::scsi::UnitKeys;
    use crate::stores::{ImageClaims, Records};

    const CONFIG: &str = r#"
daemon = { reactors = [3, 5] }
port = [{ name = "p", driver = "kernel" }]
portal = [{ name = "l", port = "p", address = "127.0.0.1:3260" }]
disk = [{ name = "d", store = "ram", size = "1GiB", read_only = true }]
target = [{ name = "iqn.2026-11.test:t", luns = [{ lun = 4, disk = "d" }] }]
"#;

    const KEY: UnitKey = UnitKey(1);

    /// A fabric with as many sessions on each core as that has a number, but for one that does not answer.
    struct SessionsByCore {
        silent: Option<usize>,
    }

    impl FabricShare for SessionsByCore {
        fn attach(&self, _: &CoreContext) -> Result<Box<dyn Fabric>, String> {
            Err("it has no cores".into())
        }

        fn sessions(&self, core: usize, left: &dyn Fn() -> Duration) -> Option<Vec<Value>> {
            assert!(left() <= REPORT_TIME && !left().is_zero());
            (self.silent != Some(core)).then(|| vec![json!({ "of": core }); core])
        }
    }

    /// With the mailboxes of the cores.
    fn monitor(silent: Option<usize>) -> (Monitor, Vec<Mailbox<Message>>) {
        let config = parse(CONFIG, Path::new("")).unwrap();
        let (senders, boxes) = mailboxes(2).unwrap();
        // Nothing of it is kept.
        let records = Records::new(Path::new("state"));
        let parts = (&records, &ImageClaims::default(), &[][..]);
        let configured = (NewMedium::Configured, None);
        let unit = unit(&config, &config.units[0], (KEY, None), parts, configured).unwrap();
        let served = ServedParts { config: Arc::new(config), units: vec![Arc::new(unit)] };
        let kept = (Arc::new(records), ImageClaims::default());
        let known = (UnitKeys::default(), AddressLocks::new());
        let shares: Vec<Arc<dyn FabricShare>> =
            vec![Arc::new(SessionsByCore { silent }), Arc::new(SessionsByCore { silent })];
        let live = Live::new(served, known, kept, (senders.clone(), vec![shares]));
        (Monitor::new(Arc::new(live), senders, Arc::default()), boxes)
    }

    fn report(core: usize) -> CoreReport {
        let accepted = KernelCounters { accepted: 10, open: 1, ..KernelCounters::default() };
        let counters = UnitCounters { reads: 1, read_bytes: 512, errors: 3, ..Default::default() };
        CoreReport {
            core,
            load: Load::default(),
            memory: ArenaCounters::default(),
            pages: memory::Pages::Ordinary,
            units: [(KEY, UnitReport { bytes: 1 << 30, counters, latencies: Latencies::default() })].into(),
            counters: CoreCounters { sessions: core as u64, ..CoreCounters::default() },
            links: PeerCounters::default(),
            ports: [("p".into(), accepted.counted().collect())].into(),
        }
    }

    /// Answers one request for a report.
    fn answer(mailbox: &mut Mailbox<Message>, core: usize) {
        match wait(mailbox) {
            Message::Report(to) => to.try_send(report(core)).unwrap(),
            _ => panic!("a report is asked for"),
        }
    }

    fn wait<T>(mailbox: &mut Mailbox<T>) -> T {
        loop {
            match mailbox.take() {
                Some(message) => return message,
                None => std::thread::yield_now(),
            }
        }
    }

    #[test]
    fn the_reports_of_all_cores_add_up() {
        let (monitor, mut mailboxes) = monitor(None);
        let cores = std::thread::spawn(move || {
            mailboxes.iter_mut().enumerate().for_each(|(core, mailbox)| answer(mailbox, core));
        });
        let status = monitor.status(StatusRequest::default());
        cores.join().unwrap();
        assert_eq!((status.state, &status.silent_reactors[..]), (State::Running, &[][..]));
        let processors: Vec<_> = status.reactors.iter().map(|reactor| reactor.processor).collect();
        assert_eq!(processors, [Some(3), Some(5)]);
        assert_eq!(status.ports[0].counters["accepted"], 20);
        let disk = &status.disks[0];
        let counters = UnitCounters { reads: 2, read_bytes: 1024, errors: 6, ..Default::default() };
        assert_eq!((disk.size_bytes, disk.read_only, disk.counters), (1 << 30, true, counters));
        assert_eq!(status.fabrics["targets"][0]["luns"], json!([{ "lun": 4, "disk": "d" }]));
        assert_eq!(status.fabrics["sessions"], json!([{ "of": 1 }, { "of": 1 }]), "of both shares");
        assert_eq!(status.reactors[1].serves.sessions, 1);
    }

    #[test]
    fn a_core_that_does_not_tell_of_sessions_is_named_once() {
        let (monitor, mut mailboxes) = monitor(Some(1));
        let cores = std::thread::spawn(move || {
            mailboxes.iter_mut().enumerate().for_each(|(core, mailbox)| answer(mailbox, core));
        });
        let status = monitor.status(StatusRequest::default());
        cores.join().unwrap();
        assert_eq!((&status.silent_reactors[..], &status.fabrics["sessions"]), (&[1][..], &json!([])));
        assert_eq!(status.reactors.len(), 2);
    }

    #[test]
    fn a_portal_is_down_while_any_reactor_misses_its_device() {
        let (monitor, _) = monitor(None);
        let served = monitor.live.served();
        let down = |device_gone| {
            let counted = TapCounters { device_gone, ..TapCounters::default() }.counted().collect();
            let reports = [report(0), CoreReport { ports: [("p".into(), counted)].into(), ..report(1) }];
            let ports: Vec<Port> = served.config.ports.iter().map(|each| port(each, &reports)).collect();
            let status = served.config.fabrics[0].status(&|port| is_down(port, &ports), None);
            status["targets"][0]["portals"][0]["down"].clone()
        };
        assert_eq!([0, 1].map(down), [false, true]);
    }

    #[test]
    fn a_core_that_does_not_answer_is_named_and_asked_once() {
        let (monitor, mut mailboxes) = monitor(None);
        monitor.draining.store(true, Ordering::SeqCst);
        let status = monitor.status(StatusRequest::default());
        assert_eq!((status.state, &status.silent_reactors[..]), (State::Draining, &[0, 1][..]));
        // The second core comes to itself, with the old question before it.
        let second = std::thread::spawn(move || {
            answer(&mut mailboxes[1], 1);
            mailboxes
        });
        let status = monitor.status(StatusRequest { sessions: false });
        assert_eq!((&status.silent_reactors[..], status.fabrics.get("sessions")), (&[0][..], None));
        let mut mailboxes = second.join().unwrap();
        assert!(mailboxes[0].take().is_some());
        assert!(mailboxes[0].take().is_none(), "one question at a time");
    }
}
