// SPDX-License-Identifier: GPL-2.0-or-later
//! A fabric on raw Ethernet frames, on a port without IP addresses: a daemon with two reactors at one end of a pair of
//! network devices, and initiators at the other.

use super::*;
use crate::adapters::toy::frames::{ALL_TARGETS, ANSWER, ETHERTYPE, LEAVE, TAKE_ADDRESS, command};
use crate::memory::{Arena, Sg};
use crate::net::{FrameClaim, HostConfig, LinkClient, StreamHost, TcpHost, TxFrame};
use crate::ports::tests::{inside, packet_port, veth};

/// The VLAN of the frames, with a priority of 3.
const TAG: [u8; 4] = [0x81, 0x00, 0x60, 100];
const GIVEN: [u8; 6] = [0x0e, 0xfd, 0, 0, 0, 7];

/// Initiators that share a device.
struct Initiators {
    arena: Arena,
    host: Box<dyn StreamHost>,
    link: LinkClient,
    target: [u8; 6],
    tag: u16,
}

impl Initiators {
    fn on(device: &str, target: [u8; 6]) -> Self {
        let arena = Arena::new(8 << 20, false).unwrap();
        let port = packet_port(device, &arena);
        let host = Box::new(TcpHost::new(port, arena.clone(), &HostConfig::new(Vec::new(), Vec::new())));
        let link = host.link().unwrap().join().unwrap();
        let addresses = vec![link.mac()];
        link.claim(&[FrameClaim { ethertype: ETHERTYPE, vlan: Some(100), addresses }]).unwrap();
        Self { arena, host, link, target, tag: 0 }
    }

    fn send(&self, to: [u8; 6], tag: &[u8], body: &[u8]) {
        let header = [&to[..], &self.link.mac(), tag, &ETHERTYPE.to_be_bytes()].concat();
        let payload = Sg::copied(&self.arena, body).unwrap();
        let frame = TxFrame { header: header.into(), payload, offload: None };
        self.link.send(crate::time::Instant::ZERO, &mut VecDeque::from([frame]));
    }

    /// The next answer: kind, session, tag, status, data.
    fn hear(&mut self) -> Option<(u8, u8, u16, u8, Vec<u8>)> {
        self.hear_within(PATIENCE)
    }

    fn hear_within(&mut self, time: Duration) -> Option<(u8, u8, u16, u8, Vec<u8>)> {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.host.poll(crate::time::Instant::ZERO, &mut Vec::new());
            if let Some(frame) = self.link.take_frame() {
                let body = &frame.bytes()[frame.body..];
                let half = |at: usize| u16::from_be_bytes([body[at], body[at + 1]]);
                let data = body[7..][..half(5).into()].to_vec();
                return Some((body[0], body[1], half(2), body[4], data));
            }
            thread::sleep(Duration::from_micros(50));
        }
        None
    }

    fn start(&mut self, session: u8, lun: u8, cdb: &[u8], data_out: &[u8], room: u16) -> u16 {
        self.tag += 1;
        self.send(self.target, &TAG, &command(session, self.tag, lun, cdb, data_out, room));
        self.tag
    }

    /// The SCSI status of a command, and its data.
    fn command(&mut self, session: u8, lun: u8, cdb: &[u8], data_out: &[u8], room: u16) -> (u8, Vec<u8>) {
        let tag = self.start(session, lun, cdb, data_out, room);
        let (kind, of, answered, status, data) = self.hear().expect("an answer");
        assert_eq!((kind, of, answered), (ANSWER | 1, session, tag));
        (status, data)
    }
}

const TEST_UNIT_READY: [u8; 6] = [0; 6];

fn at(opcode: u8, lba: u8) -> [u8; 10] {
    [opcode, 0, 0, 0, 0, lba, 0, 0, 1, 0]
}

#[test]
fn a_fabric_on_raw_frames_serves_a_disk_and_a_unit_of_another_core() {
    const TEST: &str =
        "runtime::tests::frames::a_fabric_on_raw_frames_serves_a_disk_and_a_unit_of_another_core";
    if !inside(TEST, true) {
        return;
    }
    veth();
    let place = Place(std::env::temp_dir().join(format!("ptgt-frames-{}", std::process::id())));
    fs::create_dir_all(&place.0).unwrap();
    let text = r#"
        daemon = { control_socket = "socket", state_dir = "state", memory = "16MiB", hugepages = "never", reactors = [0, 1] }
        port = [{ name = "p", driver = "packet", device = "va" }, { name = "idle", driver = "tap", device = "ptgt0" }]
        disk = [{ name = "d", store = "ram", size = "1MiB" }]
        toy = [{ name = "t", greeting = "end" }]
        toy_frame_target = [{ name = "there", port = "p", vlan = 100, luns = [{ lun = 0, unit = "d" }, { lun = 3, unit = "t" }] }]"#;
    let config = parse(text, &place.0).unwrap();
    // Another daemon would have the same frames.
    let other = parse(&text.replace("\"socket\"", "\"other\""), &place.0).unwrap();
    let obstacles = || {
        let report = doctor::examine(&Machine::default(), &other, Asker::Daemon);
        report.obstacles().map(Check::line).collect::<Vec<_>>()
    };
    let listen = || ports::listen(&other, (&[], &BTreeMap::new())).map(|(_, locks)| locks);
    assert_eq!((obstacles(), listen().unwrap().len()), (Vec::new(), 2));
    let daemon = thread::spawn(move || run(&config));
    let status = || client::status(&place.0.join("socket"), StatusRequest { sessions: true });
    let end = Instant::now() + PATIENCE;
    while status().is_err() {
        assert!(Instant::now() < end, "the daemon does not start");
        thread::sleep(Duration::from_millis(20));
    }
    let taken = |port, device| {
        format!(
            "port {port:?}: address in use: another ptgt serves the device {device:?}; stop it first, or give another device"
        )
    };
    assert_eq!(listen().unwrap_err(), taken("p", "va"));
    let told = obstacles();
    assert!(told.len() == 2 && told[0].contains("\"p\"") && told[1].contains("\"idle\""), "{told:?}");
    assert!(
        told.iter().all(|line| line.contains("address in use: another ptgt serves the device")),
        "{told:?}"
    );
    let mac = sys::link("va").unwrap().mac;
    let mut peer = Initiators::on("vb", mac);
    // Four sessions, on the reactors in turn: what they write is each other's to read.
    const CHECK_CONDITION: u8 = 2;
    for session in 0..4 {
        for lun in [0, 3] {
            assert_eq!(peer.command(session, lun, &TEST_UNIT_READY, &[], 0).0, CHECK_CONDITION, "power-on");
        }
        assert_eq!(peer.command(session, 0, &at(0x2a, session), &[session | 0x50; 512], 0), (0, vec![]));
    }
    for session in 0..4 {
        let other = 3 - session;
        assert_eq!(peer.command(session, 0, &at(0x28, other), &[], 512), (0, vec![other | 0x50; 512]));
    }
    let reactors = status().unwrap().reactors;
    assert_eq!(reactors.iter().map(|it| it.serves.sessions).collect::<Vec<_>>(), [2, 2]);
    // The serial unit, which one reactor owns: commands of all sessions at the same time.
    const RECORDS: u8 = 20;
    for n in 0..RECORDS {
        let tags: Vec<u16> =
            (0..4).map(|session| peer.start(session, 3, &[0x0a, 0, 0, 0, 2, 0], &[session, n], 0)).collect();
        let mut answered: Vec<u16> = (0..4)
            .map(|_| peer.hear().expect("an answer"))
            .map(|it| {
                assert_eq!(it.3, 0);
                it.2
            })
            .collect();
        answered.sort_unstable();
        assert_eq!(answered, tags);
    }
    assert_eq!(peer.command(1, 3, &[0x01, 0, 0, 0, 0, 0], &[], 0).0, 0, "from the start");
    let mut next = [0; 4];
    for _ in 0..4 * RECORDS {
        let (status, record) = peer.command(1, 3, &[0x08, 0, 0, 0, 255, 0], &[], 255);
        assert_eq!((status, record.len()), (0, 2));
        let expected = &mut next[usize::from(record[0])];
        assert_eq!(record[1], *expected, "in the order of its session");
        *expected += 1;
    }
    let now = status().unwrap();
    assert_eq!(now.units[0].state.device["overlaps"], 0);
    assert!(now.reactors[0].peers.commands_sent > 0 && now.reactors[1].peers.commands_received > 0);
    // A further address, which the home has for all reactors; frames to the group, and to nobody here.
    peer.send(GIVEN, &TAG, &command(0, 0, 0, &TEST_UNIT_READY, &[], 0));
    peer.send(ALL_TARGETS, &TAG, &[&[TAKE_ADDRESS, 0][..], &GIVEN].concat());
    let (kind, .., refused, _) = peer.hear().expect("an answer");
    assert_eq!((kind, refused), (ANSWER | TAKE_ADDRESS, 0));
    peer.target = GIVEN;
    // Reactors other than the home learn of it a moment later: who asks too early is not heard.
    for session in 0..4 {
        let ask = |_| {
            peer.start(session, 0, &at(0x28, session), &[], 512);
            peer.hear_within(Duration::from_millis(100))
        };
        let (_, of, _, status, data) = (0..50).find_map(ask).expect("an answer");
        assert_eq!((of, status, data), (session, 0, vec![session | 0x50; 512]));
    }
    // Without the tag, on another VLAN, cut short, and of a kind that there is not: nobody answers, and all goes on.
    let before = status().unwrap().ports[0].counters.clone();
    let body = command(0, 0, 0, &TEST_UNIT_READY, &[], 0);
    for tag in [&[][..], &[0x81, 0x00, 0, 101]] {
        peer.send(mac, tag, &body);
    }
    for cut in [&body[..2], &body[..20], &[9; 30]] {
        peer.send(mac, &TAG, cut);
    }
    assert_eq!(peer.command(0, 0, &TEST_UNIT_READY, &[], 0).0, 0);
    let end = Instant::now() + PATIENCE;
    // A reactor may still sleep.
    let after = loop {
        let after = status().unwrap();
        let more = |name: &str| after.ports[0].counters[name] - before[name];
        if (more("dropped_unserved"), more("claimed")) == (2, 4) {
            break after;
        }
        assert!(Instant::now() < end, "{:?}", after.ports[0].counters);
    };
    let [port, idle] = &after.ports[..] else { panic!("{after:?}") };
    // Sessions are spread over both reactors: some of their frames came in at the other.
    assert!(port.counters["given_frames"] > 10, "{:?}", port.counters);
    let dropped =
        port.counters.iter().filter(|(name, _)| name.starts_with("dropped_cl") || name.ends_with("giving"));
    assert!(
        dropped.clone().count() == 3 && dropped.clone().all(|(_, count)| *count == 0),
        "{:?}",
        port.counters
    );
    assert!(idle.counters.contains_key("dropped_unserved") && !idle.counters.contains_key("given_frames"));
    (0..4).for_each(|session| peer.send(mac, &TAG, &[LEAVE, session]));
    signal_hook::low_level::raise(SIGTERM).unwrap();
    daemon.join().unwrap().unwrap();
    assert!(obstacles().is_empty() && listen().is_ok(), "it is free again");
}
