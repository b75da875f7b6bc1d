// SPDX-License-Identifier: GPL-2.0-or-later
//! A daemon of its own in this process, with a logical unit of a second device type beside a disk, and a second fabric
//! beside iSCSI.

mod fcoe;
mod frames;
mod library;
mod live;
mod media;
mod regions;
mod replace;

use std::collections::VecDeque;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::AtomicU8;
use std::sync::mpsc::SyncSender;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::*;
use crate::adapters::toy::memory::ToyTarget;
use crate::adapters::toy::{ToyAnswer, ToyCommand, ToyMessage};
use crate::control::client;
use crate::control::config::parse;
use crate::control::status::{self, StatusRequest};
use crate::fabrics::iscsi::initiator::{Initiator, Packet, Transfer};
use crate::scsi::{Lun, Status};
use crate::wire::iscsi::{DataInHeader, LoginResponseHeader, Opcode, ScsiResponseHeader};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(30);

const TARGET: &str = "iqn.2026-11.test:t";

/// Held by who runs a daemon: the signal that ends it is for the whole process.
static DAEMON: Mutex<()> = Mutex::new(());

/// A directory of its own, removed at the end.
struct Place(PathBuf);

impl Drop for Place {
    fn drop(&mut self) {
        _ = fs::remove_dir_all(&self.0);
    }
}

/// An initiator on a socket.
struct Client {
    initiator: Initiator,
    stream: TcpStream,
    inbox: VecDeque<Packet>,
}

impl Client {
    fn log_in(address: SocketAddr) -> Self {
        Self::log_in_to(address, TARGET).expect("a login")
    }

    /// Logs in, unless that is refused with this status.
    fn log_in_to(address: SocketAddr, target: &str) -> Result<Self, u16> {
        let end = Instant::now() + PATIENCE;
        let stream = loop {
            match TcpStream::connect(address) {
                Ok(stream) => break stream,
                Err(e) => assert!(Instant::now() < end, "{e}"),
            }
            thread::sleep(Duration::from_millis(10));
        };
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        static LAST: AtomicU8 = AtomicU8::new(0);
        let mut client = Self { initiator: Initiator::new(), stream, inbox: VecDeque::new() };
        client.initiator.isid[5] = LAST.fetch_add(1, Ordering::SeqCst);
        let keys = [("InitiatorName", "iqn.2026-11.test:i"), ("TargetName", target)];
        let login = client.initiator.login(1, Some(3), &keys);
        client.send(&login);
        let answer = client.receive();
        let header = answer.header::<LoginResponseHeader>().expect("the answer to a login");
        if header.status == 0 { Ok(client) } else { Err(header.status) }
    }

    fn send(&mut self, packet: &Packet) {
        self.stream.write_all(&packet.encode(self.initiator.digests)).unwrap();
    }

    fn receive(&mut self) -> Packet {
        let mut bytes = [0; 4096];
        while self.inbox.is_empty() {
            let n = self.stream.read(&mut bytes).unwrap();
            assert!(n > 0, "the daemon has hung up");
            self.inbox.extend(self.initiator.take(&bytes[..n]));
        }
        self.inbox.pop_front().unwrap()
    }

    /// The SCSI status of each of some commands that write, which are under way at the same time.
    fn write(&mut self, lun: u64, commands: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
        let made = commands.iter().map(|(cdb, data)| {
            let len = u32::try_from(data.len()).unwrap();
            self.initiator.command(lun << 48, cdb, Transfer::write(len))
        });
        let made: Vec<Packet> = made.collect();
        made.iter().for_each(|command| self.send(command));
        let mut statuses = vec![None; made.len()];
        while statuses.contains(&None) {
            let packet = self.receive();
            let of = |command: &Packet| command.bhs.itt() == packet.bhs.itt();
            let index = made.iter().position(of).unwrap();
            if let Some(ScsiResponseHeader { status, .. }) = packet.header() {
                statuses[index] = Some(status);
            } else {
                let answer = self.initiator.answer_r2t(&made[index], &packet, &commands[index].1, 8192);
                answer.iter().for_each(|packet| self.send(packet));
            }
        }
        statuses.into_iter().flatten().collect()
    }

    fn log_out(mut self) {
        let logout = self.initiator.logout(0);
        self.send(&logout);
        while self.receive().opcode() != Opcode::LOGOUT_RESPONSE {}
    }

    /// The data and the SCSI status of a command that reads.
    fn command(&mut self, lun: u64, cdb: &[u8]) -> (Vec<u8>, u8) {
        let command = self.initiator.command(lun << 48, cdb, Transfer::read(255));
        self.send(&command);
        let mut data = Vec::new();
        loop {
            let packet = self.receive();
            data.extend(&packet.data);
            match (packet.header::<DataInHeader>(), packet.header::<ScsiResponseHeader>()) {
                (Some(DataInHeader { has_status: false, .. }), _) => {}
                (Some(DataInHeader { status, .. }), _) | (_, Some(ScsiResponseHeader { status, .. })) => {
                    return (data, status);
                }
                _ => panic!("{packet:?}"),
            }
        }
    }
}

/// What comes of a command of an initiator in this process.
fn in_memory(
    cores: &[Sender<ToyMessage<SyncSender<ToyAnswer>>>],
    initiator: u32,
    cdb: &[u8],
    data_out: &[u8],
    room: u32,
) -> (Status, Vec<u8>) {
    let (to, answer) = mpsc::sync_channel(1);
    let (cdb, data_out) = (cdb.to_vec(), data_out.to_vec());
    cores[0].send(ToyMessage::Command(
        initiator,
        ToyCommand { lun: Lun::from_index(5), cdb, data_out, room, to },
    ));
    answer.recv_timeout(PATIENCE).unwrap()
}

/// The whole of it: configuration, assembly, task manager, session, status.
#[test]
fn a_second_device_type_and_a_second_fabric_run_beside_the_first() {
    let _alone = DAEMON.lock().unwrap_or_else(PoisonError::into_inner);
    let place = Place(std::env::temp_dir().join(format!("ptgt-toy-{}", std::process::id())));
    fs::create_dir_all(&place.0).unwrap();
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let text = format!(
        r#"
        daemon = {{ control_socket = "socket", state_dir = "state", memory = "16MiB", hugepages = "never" }}
        port = [{{ name = "p", driver = "kernel" }}]
        portal = [{{ name = "l", port = "p", address = "{address}" }}]
        disk = [{{ name = "d", store = "file", path = "image", create = true, size = "1MiB" }}]
        toy = [{{ name = "t", greeting = "good day" }}]
        target = [{{ name = "{TARGET}", luns = [{{ lun = 0, unit = "d" }}, {{ lun = 3, unit = "t" }}] }}]
        toy_target = [{{ name = "here", luns = [{{ lun = 5, unit = "d" }}] }}]"#
    );
    let config = parse(&text, &place.0).unwrap();
    let daemon = thread::spawn(move || run(&config));
    let mut client = Client::log_in(address);
    const CHECK_CONDITION: u8 = 2;
    // The first command to each is answered with the power-on.
    for lun in [0, 3] {
        assert_eq!(client.command(lun, &[0, 0, 0, 0, 0, 0]).1, CHECK_CONDITION);
    }
    let (inquiry, _) = client.command(3, &[0x12, 0, 0, 0, 96, 0]);
    assert_eq!((inquiry[0], &inquiry[8..32]), (0x03, &b"PTGT    TOY             "[..]));
    let (inquiry, _) = client.command(0, &[0x12, 0, 0, 0, 96, 0]);
    assert_eq!((inquiry[0], &inquiry[16..32]), (0x00, &b"VIRTUAL-DISK    "[..]));
    assert_eq!(client.command(3, &[0x08, 0, 0, 0, 255, 0]), (b"good day".to_vec(), 0));
    assert_eq!(client.command(3, &[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0]).1, CHECK_CONDITION, "READ CAPACITY");
    // The same disk over the other fabric.
    let cores = ToyTarget::find("here").unwrap();
    assert_eq!(
        in_memory(&cores, 1, &[0; 6], &[], 0).0,
        Status::CheckCondition,
        "power-on, for this initiator"
    );
    let at_7 = |opcode| [opcode, 0, 0, 0, 0, 7, 0, 0, 1, 0];
    assert_eq!(in_memory(&cores, 1, &at_7(0x2a), &[0x5a; 512], 0), (Status::Good, vec![]));
    assert_eq!(client.command(0, &at_7(0x28)).0, [0x5a; 255]);
    // The store says later when this has ended.
    assert_eq!(in_memory(&cores, 1, &[0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0], &[], 0).0, Status::Good);
    assert_eq!(in_memory(&cores, 2, &[0; 6], &[], 0).0, Status::CheckCondition);
    cores[0].send(ToyMessage::Leave(2));
    assert_eq!(in_memory(&cores, 1, &at_7(0x28), &[], 512), (Status::Good, vec![0x5a; 512]));
    let status = client::status(&place.0.join("socket"), StatusRequest { sessions: true }).unwrap();
    let [disk] = &status.disks[..] else { panic!("{status:?}") };
    let [toy] = &status.units[..] else { panic!("{status:?}") };
    assert_eq!((&*disk.name, &*disk.kind, disk.size_bytes), ("d", "disk", 1 << 20));
    assert_eq!((&*toy.name, &*toy.kind, &*toy.store), ("t", "toy", ""));
    assert_eq!(
        (&toy.state.device["greeting"], &toy.state.device["greeted"]),
        (&"good day".into(), &1.into())
    );
    assert_eq!((toy.counters.errors, disk.counters.writes, status.reactors[0].serves.sessions), (1, 1, 2));
    assert!(status::render(&status).contains("\nTOY  STORE"), "{}", status::render(&status));
    client.log_out();
    signal_hook::low_level::raise(SIGTERM).unwrap();
    daemon.join().unwrap().unwrap();
}

/// Four sessions on two reactors write to a unit that runs one command at a time, while each uses a disk beside it.
#[test]
fn a_serial_unit_serves_sessions_of_all_reactors_in_their_order() {
    const SESSIONS: u8 = 4;
    const RECORDS: u8 = 60;
    const AT_ONCE: usize = 6;
    let _alone = DAEMON.lock().unwrap_or_else(PoisonError::into_inner);
    let place = Place(std::env::temp_dir().join(format!("ptgt-serial-{}", std::process::id())));
    fs::create_dir_all(&place.0).unwrap();
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let text = format!(
        r#"
        daemon = {{ control_socket = "socket", state_dir = "state", memory = "16MiB", hugepages = "never", reactors = [0, 1] }}
        port = [{{ name = "p", driver = "kernel" }}]
        portal = [{{ name = "l", port = "p", address = "{address}" }}]
        disk = [{{ name = "d", store = "ram", size = "1MiB" }}]
        toy = [{{ name = "t", greeting = "end" }}]
        target = [{{ name = "{TARGET}", luns = [{{ lun = 0, unit = "d" }}, {{ lun = 3, unit = "t" }}] }}]"#
    );
    let config = parse(&text, &place.0).unwrap();
    let daemon = thread::spawn(move || run(&config));
    let log_in = |_| {
        let mut client = Client::log_in(address);
        // The first command to each is answered with the power-on.
        for lun in [0, 3] {
            client.command(lun, &[0, 0, 0, 0, 0, 0]);
        }
        client
    };
    // One after the other, so that they are spread.
    let clients: Vec<Client> = (0..SESSIONS).map(log_in).collect();
    let status = || client::status(&place.0.join("socket"), StatusRequest { sessions: true }).unwrap();
    let of_reactors: Vec<u64> = status().reactors.iter().map(|reactor| reactor.serves.sessions).collect();
    assert_eq!(of_reactors, [2, 2]);
    let writers = clients.into_iter().zip(0..).map(|(mut client, me): (Client, u8)| {
        thread::spawn(move || {
            let records: Vec<u8> = (0..RECORDS).collect();
            for some in records.chunks(AT_ONCE) {
                let sends = some.iter().map(|&n| {
                    let len = 30 + n;
                    (vec![0x0a, 0, 0, 0, len, 0], [vec![me, n], vec![n; usize::from(len) - 2]].concat())
                });
                assert_eq!(client.write(3, &sends.collect::<Vec<_>>()), [0; AT_ONCE]);
                assert_eq!(client.command(0, &[0x28, 0, 0, 0, 0, 0, 0, 0, 0, 0]).1, 0);
            }
            client
        })
    });
    let writers: Vec<_> = writers.collect();
    let mut clients: Vec<Client> = writers.into_iter().map(|writer| writer.join().unwrap()).collect();
    // Each reactor's sessions read what all have written.
    for reader in [0, 1] {
        let client = &mut clients[reader];
        assert_eq!(client.command(3, &[0x01, 0, 0, 0, 0, 0]).1, 0);
        let mut next = [0; SESSIONS as usize];
        loop {
            let (record, status) = client.command(3, &[0x08, 0, 0, 0, 255, 0]);
            assert_eq!(status, 0);
            let [me, n, rest @ ..] = &record[..] else { panic!("{record:?}") };
            if record == b"end" {
                break;
            }
            assert_eq!(next[usize::from(*me)], *n, "in the order of its session");
            assert_eq!(rest, vec![*n; usize::from(28 + n)]);
            next[usize::from(*me)] += 1;
        }
        assert_eq!(next, [RECORDS; SESSIONS as usize]);
    }
    let device = status().units[0].state.device.clone();
    let all = u64::from(RECORDS) * u64::from(SESSIONS);
    assert_eq!((&device["records"], &device["overlaps"]), (&all.into(), &0.into()));
    // The device files them by itself, at its owner.
    let filed = |status: &status::Status| status.units[0].state.device["filed"] == all;
    let end = Instant::now() + PATIENCE;
    while !filed(&status()) {
        assert!(Instant::now() < end);
    }
    let status = status();
    let [first, owner] = &status.reactors[..] else { panic!("{status:?}") };
    assert!(first.peers.commands_sent > all / 2 && owner.peers.commands_received >= all / 2, "{status:?}");
    assert!(owner.peers.copied_bytes > 0 && first.peers.copied_bytes > 0, "written and read");
    clients.into_iter().for_each(Client::log_out);
    signal_hook::low_level::raise(SIGTERM).unwrap();
    daemon.join().unwrap().unwrap();
}
