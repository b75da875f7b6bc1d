// SPDX-License-Identifier: GPL-2.0-or-later
//! A fabric that moves data by memory region, in a whole daemon of two reactors: a READ goes from the store's
//! registered memory, a WRITE lands in memory that the fabric has registered, and a unit of the other reactor is served
//! beside.

use super::*;
use crate::adapters::toy_regions::{
    AdapterEvent, LocalKey, RegionCommand, RegionMessage, RegionTarget, RegionTargetEnds, RemoteBuffer,
};

/// What comes of a command over the first core: the status, and what has been read.
fn command(
    ends: &RegionTargetEnds,
    lun: u16,
    cdb: &[u8],
    data_out: &[u8],
    (room, lands): (usize, bool),
) -> (Status, Vec<u8>) {
    let buffer = |bytes: Vec<u8>| RemoteBuffer::new(Mutex::new(bytes));
    let (data_out, data_in) = (buffer(data_out.to_vec()), buffer(vec![0xee; room]));
    let (to, answer) = mpsc::sync_channel(1);
    let (lun, cdb, into) = (Lun::from_index(lun), cdb.to_vec(), data_in.clone());
    ends.cores[0].send(RegionMessage(1, RegionCommand { lun, cdb, data_out, data_in, lands, to }));
    let (status, len) = answer.recv_timeout(PATIENCE).unwrap();
    let mut bytes = into.lock().unwrap().clone();
    assert!(bytes[len..].iter().all(|&byte| byte == 0xee), "nothing beyond what was told");
    bytes.truncate(len);
    (status, bytes)
}

/// What the adapter of the first core has been told and done since the last look.
fn events(ends: &RegionTargetEnds) -> Vec<AdapterEvent> {
    std::mem::take(&mut *ends.events[0].lock().unwrap())
}

/// The key of the only region of that length.
fn key_of(events: &[AdapterEvent], bytes: usize) -> LocalKey {
    let keys = events.iter().filter_map(|event| match event {
        AdapterEvent::Registered(key, len) if *len == bytes => Some(*key),
        _ => None,
    });
    let keys: Vec<LocalKey> = keys.collect();
    let [key] = keys[..] else { panic!("{bytes} bytes: {events:?}") };
    key
}

const DISK: usize = 6 << 20;
const ARENA: usize = 16 << 20;
const SLOTS: usize = 2 << 20;

fn at(opcode: u8, block: u8, blocks: u8) -> [u8; 10] {
    [opcode, 0, 0, 0, 0, block, 0, 0, blocks, 0]
}

#[test]
fn a_fabric_on_memory_regions_serves_units_of_both_reactors() {
    let _alone = DAEMON.lock().unwrap_or_else(PoisonError::into_inner);
    let place = Place(std::env::temp_dir().join(format!("ptgt-regions-{}", std::process::id())));
    fs::create_dir_all(&place.0).unwrap();
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let luns = r#"[{ lun = 0, unit = "d" }, { lun = 1, unit = "f" }, { lun = 3, unit = "t" }]"#;
    let text = format!(
        r#"
        daemon = {{ control_socket = "socket", state_dir = "state", memory = "16MiB", hugepages = "never", reactors = [0, 1] }}
        port = [{{ name = "p", driver = "kernel" }}]
        portal = [{{ name = "l", port = "p", address = "{address}" }}]
        target = [{{ name = "{TARGET}", luns = [{{ lun = 0, unit = "d" }}] }}]
        disk = [
            {{ name = "d", store = "ram", size = "{}MiB" }},
            {{ name = "f", store = "file", path = "image", create = true, size = "1MiB" }},
        ]
        toy = [{{ name = "t", greeting = "good day" }}]
        region_target = [
            {{ name = "all", luns = {luns} }},
            {{ name = "refusing", refuse_absent = true, luns = {luns} }},
        ]"#,
        DISK >> 20
    );
    let config = parse(&text, &place.0).unwrap();
    let daemon = thread::spawn(move || run(&config));
    let end = Instant::now() + PATIENCE;
    while client::status(&place.0.join("socket"), StatusRequest { sessions: false }).is_err() {
        assert!(Instant::now() < end && !daemon.is_finished());
        thread::sleep(Duration::from_millis(10));
    }
    let (ends, refusing) = (RegionTarget::find("all").unwrap(), RegionTarget::find("refusing").unwrap());
    let known = events(&ends);
    let (disk, arena, slots) = (key_of(&known, DISK), key_of(&known, ARENA), key_of(&known, SLOTS));
    assert_eq!(known.len(), 3, "each region once: {known:?}");
    let told = events(&refusing);
    let knows_disk = |event: &AdapterEvent| matches!(event, AdapterEvent::Registered(_, DISK));
    assert!(told.contains(&AdapterEvent::Refused(DISK)) && !told.iter().any(knows_disk), "{told:?}");
    for ends in [&ends, &refusing] {
        for lun in [0, 1, 3] {
            assert_eq!(command(ends, lun, &[0; 6], &[], (0, false)).0, Status::CheckCondition, "power-on");
        }
    }
    // A WRITE lands in the slots, of which it takes three.
    let bytes: Vec<u8> = (0..40 * 512_u32).map(|i| (i % 241) as u8).collect();
    assert_eq!(command(&ends, 0, &at(0x2a, 7, 40), &bytes, (0, false)), (Status::Good, vec![]));
    let moved = events(&ends);
    let got = |event: &AdapterEvent| match *event {
        AdapterEvent::Got(key, _, len) if key == slots => len,
        _ => panic!("{moved:?}"),
    };
    assert_eq!(moved.iter().map(got).collect::<Vec<_>>(), [8192, 8192, 4096]);
    // A READ goes from the disk itself, as one piece.
    assert_eq!(command(&ends, 0, &at(0x28, 7, 40), &[], (bytes.len(), false)), (Status::Good, bytes.clone()));
    assert_eq!(events(&ends), [AdapterEvent::Put(disk, 7 * 512, bytes.len())]);
    // If the fabric wants, it lands in its own memory first, and goes from there.
    let some = &bytes[512..1536];
    assert_eq!(command(&ends, 0, &at(0x28, 8, 2), &[], (1024, true)), (Status::Good, some.to_vec()));
    let moved = events(&ends);
    assert!(matches!(moved[..], [AdapterEvent::Put(key, _, 1024)] if key == slots), "{moved:?}");
    // What the adapter has refused is copied to where it reaches.
    let read = command(&refusing, 0, &at(0x28, 7, 40), &[], (bytes.len(), false));
    assert_eq!(read, (Status::Good, bytes.clone()));
    let moved = events(&refusing);
    assert_eq!(moved.len(), 3, "by three slots: {moved:?}");
    // An image that is not mapped is read into the arena, or where the fabric wants it.
    assert_eq!(command(&ends, 1, &at(0x2a, 1, 4), &bytes[..2048], (0, false)).0, Status::Good);
    for (lands, expected) in [(false, arena), (true, slots)] {
        events(&ends);
        let read = command(&ends, 1, &at(0x28, 1, 4), &[], (2048, lands));
        assert_eq!(read, (Status::Good, bytes[..2048].to_vec()));
        let moved = events(&ends);
        assert!(matches!(moved[..], [AdapterEvent::Put(key, _, 2048)] if key == expected), "{moved:?}");
    }
    // The unit of the other reactor, whose bytes come over in the arena of this one.
    let record = [&[1, 2][..], &[9; 40]].concat();
    assert_eq!(command(&ends, 3, &[0x0a, 0, 0, 0, 42, 0], &record, (0, false)).0, Status::Good);
    assert_eq!(command(&ends, 3, &[0x01, 0, 0, 0, 0, 0], &[], (0, false)).0, Status::Good, "rewound");
    events(&ends);
    assert_eq!(command(&ends, 3, &[0x08, 0, 0, 0, 255, 0], &[], (255, false)), (Status::Good, record));
    let moved = events(&ends);
    assert!(matches!(moved[..], [AdapterEvent::Put(key, _, 42)] if key == arena), "{moved:?}");
    let status = client::status(&place.0.join("socket"), StatusRequest { sessions: true }).unwrap();
    assert!(status.reactors[1].peers.commands_received >= 4, "{:?}", status.reactors[1].peers);
    signal_hook::low_level::raise(SIGTERM).unwrap();
    daemon.join().unwrap().unwrap();
    // The adapter has stopped, then its memory was taken from it.
    let [AdapterEvent::Stopped, taken @ ..] = &events(&ends)[..] else { panic!() };
    let mut taken: Vec<LocalKey> = taken
        .iter()
        .map(|event| match event {
            AdapterEvent::Unregistered(key) => *key,
            other => panic!("{other:?}"),
        })
        .collect();
    taken.sort();
    let mut all = [disk, arena, slots];
    all.sort();
    assert_eq!(taken, all);
}
