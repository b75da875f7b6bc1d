// SPDX-License-Identifier: GPL-2.0-or-later
//! A daemon's configuration changes while initiators are at work: those concerned notice, nobody else does, and what is
//! not agreed on changes nothing.

use std::fmt::Write as _;
use std::sync::MutexGuard;

use clap::Parser;
use serde_json::{Value, json};

use super::*;
use crate::bench;
use crate::control::config::{Scope, load};
use crate::wire::iscsi::{AsyncEvent, AsyncHeader};

const CHECK_CONDITION: u8 = 2;
const OTHER: &str = "iqn.2026-11.test:u";

/// Its name, its portals, its logical units, and the rest.
type SaidOfTarget = (String, Vec<String>, Vec<(u16, String)>, String);

/// What a configuration says.
#[derive(Clone)]
struct Wording {
    memory: &'static str,
    /// Ports beside the first.
    ports: Vec<String>,
    /// Name, port and address.
    portals: Vec<(String, String, SocketAddr)>,
    /// Name, and the rest.
    disks: Vec<(String, String)>,
    accounts: Vec<(String, String)>,
    targets: Vec<SaidOfTarget>,
}

impl Wording {
    fn text(&self) -> String {
        let Self { memory, ports, portals, disks, accounts, targets } = self;
        let reactors = Vec::from_iter(0..thread::available_parallelism().map_or(1, usize::from).min(2));
        let mut text = format!(
            "daemon = {{ control_socket = \"socket\", state_dir = \"state\", memory = \"{memory}\", \
             hugepages = \"never\", reactors = {reactors:?} }}\n[[port]]\nname = \"p\"\ndriver = \"kernel\"\n"
        );
        for name in ports {
            writeln!(text, "[[port]]\nname = \"{name}\"\ndriver = \"kernel\"").unwrap();
        }
        for (name, port, address) in portals {
            writeln!(text, "[[portal]]\nname = \"{name}\"\nport = \"{port}\"\naddress = \"{address}\"")
                .unwrap();
        }
        for (name, rest) in disks {
            writeln!(text, "[[disk]]\nname = \"{name}\"\n{rest}").unwrap();
        }
        for (name, secret) in accounts {
            writeln!(text, "[[account]]\nname = \"{name}\"\nsecret = \"{secret}\"").unwrap();
        }
        for (name, portals, luns, rest) in targets {
            let luns: Vec<String> =
                luns.iter().map(|(lun, disk)| format!("{{ lun = {lun}, disk = \"{disk}\" }}")).collect();
            let luns = luns.join(", ");
            writeln!(text, "[[target]]\nname = \"{name}\"\nportals = {portals:?}\nluns = [{luns}]\n{rest}")
                .unwrap();
        }
        text
    }
}

/// A daemon in this process.
pub(super) struct LiveDaemon {
    place: Place,
    thread: JoinHandle<Result<(), Vec<String>>>,
    _alone: MutexGuard<'static, ()>,
}

impl LiveDaemon {
    fn start(name: &str, said: &Wording) -> Self {
        Self::with(name, &said.text())
    }

    /// With a configuration in these words.
    pub(super) fn with(name: &str, text: &str) -> Self {
        let alone = DAEMON.lock().unwrap_or_else(PoisonError::into_inner);
        let place = Place(std::env::temp_dir().join(format!("ptgt-live-{name}-{}", std::process::id())));
        fs::create_dir_all(&place.0).unwrap();
        let path = place.0.join("config.toml");
        fs::write(&path, text).unwrap();
        let config = load(&path, Scope::Machine).unwrap_or_else(|e| panic!("{e:?}"));
        let thread = thread::spawn(move || run(&config));
        Self { place, thread, _alone: alone }
    }

    /// Stops it and starts it again.
    pub(super) fn restarted(self) -> Self {
        let Self { place, thread, _alone } = self;
        signal_hook::low_level::raise(SIGTERM).unwrap();
        thread.join().unwrap().unwrap();
        let config = load(&place.0.join("config.toml"), Scope::Machine).unwrap_or_else(|e| panic!("{e:?}"));
        Self { place, thread: thread::spawn(move || run(&config)), _alone }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.place.0.join(name)
    }

    fn apply(&self, said: &Wording) -> Result<(), String> {
        self.apply_text(&said.text())
    }

    pub(super) fn apply_text(&self, text: &str) -> Result<(), String> {
        let path = self.path("next.toml");
        fs::write(&path, text).unwrap();
        client::call(&self.path("socket"), "apply", json!({ "path": path })).map(|_| ())
    }

    /// The status, but for what counts and measures.
    pub(super) fn status(&self) -> Value {
        let mut status = client::call(&self.path("socket"), "status", json!({})).unwrap();
        strip(&mut status);
        status
    }

    pub(super) fn stop(self) {
        signal_hook::low_level::raise(SIGTERM).unwrap();
        self.thread.join().unwrap().unwrap();
    }
}

fn strip(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            let measured = ["uptime_seconds", "reactors", "counters", "latencies", "in_flight"];
            for measured in measured.into_iter().chain(["used_bytes", "available_bytes"]) {
                fields.remove(measured);
            }
            fields.values_mut().for_each(strip);
        }
        Value::Array(list) => list.iter_mut().for_each(strip),
        _ => {}
    }
}

pub(super) fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

const RAM: &str = "store = \"ram\"\nsize = \"1MiB\"";

/// Two targets with a disk each.
fn said() -> Wording {
    let portals = || vec!["l".to_owned()];
    Wording {
        memory: "16MiB",
        ports: Vec::new(),
        portals: vec![("l".into(), "p".into(), free_address())],
        disks: vec![("d".into(), RAM.into()), ("e".into(), RAM.into())],
        accounts: Vec::new(),
        targets: vec![
            (TARGET.into(), portals(), vec![(0, "d".into())], String::new()),
            (OTHER.into(), portals(), vec![(0, "e".into())], String::new()),
        ],
    }
}

impl Client {
    /// Sense codes of what is reported before the first GOOD of TEST UNIT READY.
    pub(super) fn attentions(&mut self, lun: u64) -> Vec<u16> {
        let mut codes = Vec::new();
        while codes.len() < 8 {
            let (sense, status) = self.command(lun, &[0; 6]);
            if status == 0 {
                break;
            }
            assert_eq!(status, CHECK_CONDITION);
            codes.push(u16::from_be_bytes([sense[2 + 12], sense[2 + 13]]));
        }
        codes
    }

    /// Whether a message comes that is no answer; its event.
    fn event(&mut self) -> AsyncEvent {
        let packet = self.receive();
        packet.header::<AsyncHeader>().unwrap_or_else(|| panic!("{packet:?}")).event
    }
}

pub(super) const POWER_ON: u16 = 0x2900;
const LUNS_CHANGED: u16 = 0x3f0e;
pub(super) const INQUIRY_CHANGED: u16 = 0x3f03;
pub(super) const CAPACITY_CHANGED: u16 = 0x2a09;
pub(super) const NOT_SUPPORTED: u16 = 0x2500;

#[test]
fn those_concerned_notice_a_change_and_nobody_else() {
    let mut said = said();
    let address = said.portals[0].2;
    let daemon = LiveDaemon::start("concerned", &said);
    let mut one = Client::log_in(address);
    let mut other = Client::log_in_to(address, OTHER).unwrap();
    for client in [&mut one, &mut other] {
        assert_eq!(client.attentions(0), [POWER_ON]);
    }
    // A disk comes.
    said.disks.push(("f".into(), RAM.into()));
    said.targets[0].2.push((1, "f".into()));
    daemon.apply(&said).unwrap();
    assert_eq!(one.attentions(0), [LUNS_CHANGED]);
    assert_eq!(one.attentions(1), [POWER_ON, LUNS_CHANGED]);
    assert!(other.attentions(0).is_empty());
    // A disk goes.
    said.targets[0].2.remove(0);
    said.disks.remove(0);
    daemon.apply(&said).unwrap();
    assert_eq!(one.attentions(1), [LUNS_CHANGED]);
    assert_eq!(one.attentions(0), [NOT_SUPPORTED; 8], "it is not there any more");
    // Another definition of a disk: it is another size.
    said.disks[1].1 = RAM.replace("1MiB", "2MiB");
    daemon.apply(&said).unwrap();
    assert_eq!(one.attentions(1), [POWER_ON, INQUIRY_CHANGED, CAPACITY_CHANGED]);
    let (capacity, _) = one.command(1, &[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(capacity[..4], (2 * 2048 - 1_u32).to_be_bytes());
    // A portal of a port that is new, and one of the first port.
    let (more, again) = (free_address(), free_address());
    said.ports.push("q".into());
    said.portals.extend([("m".into(), "q".into(), more), ("n".into(), "p".into(), again)]);
    said.targets[0].1.extend(["m".into(), "n".into()]);
    daemon.apply(&said).unwrap();
    assert!(one.attentions(1).is_empty());
    let mut third = Client::log_in(more);
    assert_eq!(third.attentions(1), [POWER_ON]);
    Client::log_in(again).log_out();
    assert_eq!(Client::log_in_to(more, OTHER).err(), Some(0x0203), "that target is not there");
    // They go again, and who came through them is asked to leave.
    said.ports.clear();
    said.portals.truncate(1);
    said.targets[0].1.truncate(1);
    daemon.apply(&said).unwrap();
    assert_eq!(third.event(), AsyncEvent::LOGOUT_REQUESTED);
    third.log_out();
    for gone in [more, again] {
        assert!(TcpStream::connect(gone).is_err(), "nobody listens at {gone}");
    }
    // A rule hides the disk from this initiator: the session ends. The other target's does not.
    said.targets[0].3 = "access = [{ initiators = [\"iqn.2026-11.test:x\"] }]".into();
    daemon.apply(&said).unwrap();
    assert_eq!(one.event(), AsyncEvent::LOGOUT_REQUESTED);
    one.log_out();
    assert_eq!(Client::log_in_to(address, TARGET).err(), Some(0x0202), "not authorized");
    // An account is wanted, and the target goes.
    said.targets.remove(0);
    said.accounts.push(("a".into(), "0123456789abcdef".into()));
    daemon.apply(&said).unwrap();
    assert_eq!(Client::log_in_to(address, TARGET).err(), Some(0x0203));
    assert!(other.attentions(0).is_empty());
    said.targets[0].3 = "chap = { accounts = [\"a\"] }".into();
    daemon.apply(&said).unwrap();
    assert_eq!(other.event(), AsyncEvent::LOGOUT_REQUESTED, "it has shown no account");
    // Who does not leave is dropped.
    assert_eq!(other.event(), AsyncEvent::SESSION_DROPPED);
    let mut rest = Vec::new();
    other.stream.read_to_end(&mut rest).unwrap();
    assert!(rest.is_empty());
    daemon.stop();
}

#[test]
fn a_change_that_is_refused_changes_nothing() {
    let said = said();
    let address = said.portals[0].2;
    let daemon = LiveDaemon::start("refused", &said);
    let mut client = Client::log_in(address);
    assert_eq!(client.attentions(0), [POWER_ON]);
    let before = daemon.status();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let image = daemon.path("image");
    fs::write(&image, vec![0; 1 << 20]).unwrap();
    let locked = fs::File::options().read(true).write(true).open(&image).unwrap();
    assert!(sys::lock_file(&locked, true).unwrap());
    let refused = |change: &dyn Fn(&mut Wording), why: &str| {
        let mut next = said.clone();
        // Something good comes with it.
        next.disks.push(("good".into(), RAM.into()));
        next.targets[1].2.push((5, "good".into()));
        next.portals.push(("good".into(), "p".into(), free_address()));
        let good = next.portals[1].2;
        change(&mut next);
        let error = daemon.apply(&next).unwrap_err();
        assert!(error.contains(why), "{error}");
        assert_eq!(daemon.status(), before, "after {error}");
        assert!(TcpStream::connect(good).is_err());
    };
    refused(&|next| next.memory = "17MiB", "needs a restart: daemon.memory");
    refused(&|next| next.disks[1].0 = "z".into(), "e");
    refused(
        &|next| next.portals.push(("x".into(), "p".into(), taken.local_addr().unwrap())),
        "address in use",
    );
    refused(&|next| next.disks.push(("x".into(), format!("store = \"file\"\npath = {image:?}"))), "image");
    assert!(client.attentions(0).is_empty());
    drop(locked);
    // A core that refuses when all else is done: a ring has no place for it, or memory is short; here the daemon stops.
    client.log_out();
    daemon.stop();
}

#[derive(Parser)]
struct VerifiedLoad {
    #[command(flatten)]
    arguments: bench::Arguments,
}

/// 200 changes by chance, while a target that none of them concerns is written, read and compared.
#[test]
fn changes_by_chance_disturb_no_verified_load() {
    let mut said = said();
    let address = said.portals[0].2;
    let daemon = LiveDaemon::start("chance", &said);
    Client::log_in(address).log_out();
    let result = daemon.path("result.json");
    let url = format!("iscsi://{address}/{TARGET}/0");
    let load = [
        "bench",
        &url,
        "--verify",
        "-c",
        "4",
        "-d",
        "4",
        "--reads",
        "50",
        "--warm-up",
        "0",
        "-s",
        "8",
        "-q",
        "--json",
        result.to_str().unwrap(),
    ];
    let bench = VerifiedLoad::parse_from(load);
    let load = thread::spawn(move || bench::run(&bench.arguments));
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut below = |n: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed >> 11) as usize % n
    };
    let mut visitors: Vec<Client> = Vec::new();
    let mut refused = 0;
    for number in 0..200 {
        let mut next = said.clone();
        match below(10) {
            0 | 1 => next.disks.push((format!("x{number}"), RAM.into())),
            2 if next.disks.len() > 2 => {
                let (gone, _) = next.disks.remove(2 + below(next.disks.len() - 2));
                next.targets.iter_mut().for_each(|target| target.2.retain(|(_, disk)| *disk != gone));
            }
            3 if next.disks.len() > 2 => {
                let size = 1 + below(4);
                let at = 2 + below(next.disks.len() - 2);
                next.disks[at].1 = format!("store = \"ram\"\nsize = \"{size}MiB\"");
            }
            4 => {
                let name = format!("{OTHER}{number}");
                next.targets.push((name, vec!["l".into()], vec![(0, "e".into())], String::new()));
            }
            5 if next.targets.len() > 2 => _ = next.targets.remove(2 + below(next.targets.len() - 2)),
            6 => {
                let (port, at) = (format!("q{number}"), free_address());
                next.ports.push(port.clone());
                next.portals.push((format!("m{number}"), port, at));
                next.targets[1].1.push(format!("m{number}"));
            }
            7 if next.portals.len() > 1 => {
                let (gone, port, _) = next.portals.remove(1 + below(next.portals.len() - 1));
                next.ports.retain(|known| *known != port);
                next.targets[1].1.retain(|portal| *portal != gone);
            }
            8 => {
                let disk = next.disks[1 + below(next.disks.len() - 1)].0.clone();
                let lun = u16::try_from(below(6)).unwrap();
                next.targets[1].2.retain(|(known, it)| *known != lun && *it != disk);
                next.targets[1].2.push((lun, disk));
                next.targets[1].2.sort_unstable();
            }
            // One that fails.
            _ => {
                let at = next.portals[0].2;
                next.portals.push((format!("m{number}"), "p".into(), SocketAddr::new(at.ip(), at.port())));
            }
        }
        match daemon.apply(&next) {
            Ok(()) => said = next,
            Err(_) => refused += 1,
        }
        if below(5) == 0 {
            let target = &said.targets[1 + below(said.targets.len() - 1)];
            visitors.extend(Client::log_in_to(address, &target.0));
        }
        visitors.truncate(6);
    }
    assert!(refused < 60, "{refused} changes were refused");
    let report = load.join().unwrap();
    let report: Value = report.map(|()| serde_json::from_slice(&fs::read(result).unwrap()).unwrap()).unwrap();
    assert_eq!(report["verify"]["wrong"], 0, "{report}");
    assert!(report["verify"]["compared"].as_u64().unwrap() > 100, "{report}");
    drop(visitors);
    daemon.stop();
}

/// The file of a configuration that is no configuration.
#[test]
fn what_cannot_be_read_is_told() {
    let said = said();
    let daemon = LiveDaemon::start("unread", &said);
    Client::log_in(said.portals[0].2).log_out();
    let path = daemon.path("bad.toml");
    fs::write(&path, "port = 5").unwrap();
    let error = client::call(&daemon.path("socket"), "apply", json!({ "path": path })).unwrap_err();
    assert!(error.contains("bad.toml:1"), "{error}");
    let missing = daemon.path("missing.toml");
    assert!(client::call(&daemon.path("socket"), "apply", json!({ "path": missing })).is_err());
    daemon.stop();
}
