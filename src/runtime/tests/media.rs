// SPDX-License-Identifier: GPL-2.0-or-later
//! Cartridges come to tape drives of a daemon and go from them, while initiators are at work.

use serde_json::{Value, json};

use super::live::{LiveDaemon, free_address};
use super::*;

const NOT_PRESENT: u16 = 0x3a00;
const POWER_ON: u16 = 0x2900;
const MAY_HAVE_CHANGED: u16 = 0x2800;
const UNKNOWN_FORMAT: u16 = 0x3001;
const TAPE: u64 = 3;

/// A disk and two drives; what is said of the first beside its name.
fn said(address: SocketAddr, tape: &str) -> String {
    let reactors = Vec::from_iter(0..thread::available_parallelism().map_or(1, usize::from).min(2));
    format!(
        r#"
        daemon = {{ control_socket = "socket", state_dir = "state", memory = "16MiB", hugepages = "never", reactors = {reactors:?} }}
        port = [{{ name = "p", driver = "kernel" }}]
        portal = [{{ name = "l", port = "p", address = "{address}" }}]
        disk = [{{ name = "d", store = "ram", size = "1MiB" }}]
        tape = [{{ name = "t"{tape} }}, {{ name = "u" }}]
        target = [{{ name = "{TARGET}", luns = [{{ lun = 0, unit = "d" }}, {{ lun = {TAPE}, unit = "t" }}, {{ lun = 4, unit = "u" }}] }}]"#
    )
}

impl LiveDaemon {
    /// An empty image, which becomes a cartridge.
    fn cartridge(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::File::create(&path).unwrap().set_len(8 << 20).unwrap();
        path
    }

    fn change(&self, request: Value) -> Result<(), String> {
        client::call(&self.path("socket"), "change_medium", request).map(|_| ())
    }

    fn load(&self, unit: &str, image: &PathBuf) -> Result<(), String> {
        self.change(json!({ "unit": unit, "image": image }))
    }

    fn unload(&self, unit: &str) -> Result<(), String> {
        self.change(json!({ "unit": unit }))
    }

    /// What is in the first drive, and how it is.
    fn first_drive(&self) -> (Value, Value) {
        let status = self.status();
        let drive = &status["units"][0];
        (drive["medium"].clone(), drive["state"]["medium"].clone())
    }
}

/// The records of the cartridge that is in the drive, from the beginning.
fn records(client: &mut Client) -> Vec<Vec<u8>> {
    assert_eq!(client.command(TAPE, &[0x01, 0, 0, 0, 0, 0]).1, 0, "REWIND");
    let mut records = Vec::new();
    loop {
        // SILI: records are shorter.
        let (record, status) = client.command(TAPE, &[0x08, 0x02, 0, 0, 200, 0]);
        if status != 0 {
            return records;
        }
        records.push(record);
    }
}

/// Four sessions on two reactors write records to one drive, in which there is another cartridge every now and then,
/// and read a disk beside it.
#[test]
fn cartridges_are_changed_under_sessions_of_all_reactors() {
    const SESSIONS: u8 = 4;
    const RECORDS: u8 = 100;
    let address = free_address();
    let daemon = LiveDaemon::with("media", &said(address, ""));
    let mut clients: Vec<Client> = (0..SESSIONS).map(|_| Client::log_in(address)).collect();
    let cartridges = ["a", "b", "c"].map(|name| daemon.cartridge(name));
    for client in &mut clients {
        client.attentions(0);
        assert_eq!(client.attentions(TAPE)[..2], [POWER_ON, NOT_PRESENT]);
    }
    assert_eq!(daemon.first_drive(), (Value::Null, "none".into()));
    let writers = clients.into_iter().zip(0..).map(|(mut client, me): (Client, u8)| {
        thread::spawn(move || {
            for n in 0..RECORDS {
                let record = [vec![me, n], vec![n; 30]].concat();
                let write = [(vec![0x0a, 0, 0, 0, 32, 0], record)];
                let end = Instant::now() + PATIENCE;
                while client.write(TAPE, &write) != [0] {
                    assert!(Instant::now() < end, "no cartridge comes");
                    thread::sleep(Duration::from_millis(1));
                }
                assert_eq!(client.command(0, &[0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0]).1, 0);
            }
            client
        })
    });
    let writers: Vec<_> = writers.collect();
    for cartridge in &cartridges {
        daemon.load("t", cartridge).unwrap();
        assert_eq!(daemon.first_drive().0, json!(cartridge));
        // It cannot be in both, whatever its path is called; nor another one in the same.
        let link = daemon.path("link");
        std::os::unix::fs::symlink(cartridge, &link).unwrap();
        for (unit, image) in [("u", cartridge), ("u", &link), ("t", &daemon.cartridge("other"))] {
            let error = daemon.load(unit, image).unwrap_err();
            assert!(error.contains("tape \"t\""), "{error}");
        }
        fs::remove_file(link).unwrap();
        thread::sleep(Duration::from_millis(10));
        // The last one stays.
        if cartridge != &cartridges[2] {
            daemon.unload("t").unwrap();
            assert_eq!(daemon.first_drive().0, Value::Null);
        }
    }
    let mut clients: Vec<Client> = writers.into_iter().map(|writer| writer.join().unwrap()).collect();
    daemon.unload("t").unwrap();
    // Whatever was acknowledged is there once, in the order of its session.
    let mut next = [0; SESSIONS as usize];
    for cartridge in &cartridges {
        daemon.load("t", cartridge).unwrap();
        for (reader, client) in clients.iter_mut().enumerate() {
            assert_eq!(client.attentions(TAPE), [MAY_HAVE_CHANGED], "{reader}");
        }
        for record in records(&mut clients[0]) {
            let [me, n, rest @ ..] = &record[..] else { panic!("{record:?}") };
            assert_eq!((next[usize::from(*me)], rest), (*n, &[*n; 30][..]), "of session {me}");
            next[usize::from(*me)] += 1;
        }
        daemon.unload("t").unwrap();
    }
    assert_eq!(next, [RECORDS; SESSIONS as usize]);
    // Those that are out may be in another drive.
    daemon.load("u", &cartridges[1]).unwrap();
    clients.into_iter().for_each(Client::log_out);
    daemon.stop();
}

#[test]
fn a_cartridge_that_cannot_come_or_go_changes_nothing() {
    let address = free_address();
    let daemon = LiveDaemon::with("stuck", &said(address, ""));
    let mut client = Client::log_in(address);
    let before = daemon.status();
    for (unit, image) in [("t", "missing"), ("x", "a"), ("d", "a")] {
        let image = if image == "a" { daemon.cartridge(image) } else { daemon.path(image) };
        let error = daemon.load(unit, &image).unwrap_err();
        assert!(error.contains(unit), "{error}");
        assert_eq!(daemon.status(), before, "after {error}");
    }
    assert!(daemon.unload("t").unwrap_err().contains("no medium"));
    assert_eq!(client.attentions(TAPE)[..2], [POWER_ON, NOT_PRESENT]);
    daemon.load("t", &daemon.path("a")).unwrap();
    assert_eq!(daemon.first_drive().1, "ready", "it was scanned before it came");
    assert_eq!(client.attentions(TAPE), [MAY_HAVE_CHANGED]);
    // An initiator prevents it, until it allows it or is gone.
    let prevent = |prevents: u8| [0x1e, 0, 0, 0, prevents, 0];
    assert_eq!(client.command(TAPE, &prevent(1)).1, 0);
    let before = daemon.status();
    assert!(daemon.unload("t").unwrap_err().contains("prevents"));
    assert_eq!(daemon.status(), before);
    assert!(client.attentions(TAPE).is_empty());
    assert_eq!(client.command(TAPE, &prevent(0)).1, 0);
    daemon.unload("t").unwrap();
    daemon.load("t", &daemon.path("a")).unwrap();
    client.attentions(TAPE);
    client.command(TAPE, &prevent(1));
    daemon.change(json!({ "unit": "t", "force": true })).unwrap();
    daemon.load("t", &daemon.path("a")).unwrap();
    client.attentions(TAPE);
    assert!(daemon.unload("t").is_err(), "it still does");
    client.log_out();
    let end = Instant::now() + PATIENCE;
    while daemon.unload("t").is_err() {
        assert!(Instant::now() < end);
    }
    // Something that is no cartridge comes and goes, too.
    let mut client = Client::log_in(address);
    let noise = daemon.path("noise");
    fs::write(&noise, vec![0x5a; 1 << 20]).unwrap();
    daemon.load("t", &noise).unwrap();
    assert_eq!(client.attentions(TAPE)[..2], [POWER_ON, MAY_HAVE_CHANGED]);
    let (sense, _) = client.command(TAPE, &[0; 6]);
    assert_eq!(u16::from_be_bytes([sense[14], sense[15]]), UNKNOWN_FORMAT);
    daemon.unload("t").unwrap();
    assert_eq!(fs::read(noise).unwrap(), vec![0x5a; 1 << 20]);
    client.log_out();
    daemon.stop();
}

/// Another configuration has another cartridge in the drive, or none: the drive stays, and so do its sessions.
#[test]
fn another_configuration_has_another_cartridge() {
    let address = free_address();
    let with = |image: &str| said(address, &format!(", store = \"file\", path = \"{image}\""));
    let daemon = LiveDaemon::with("applied", &said(address, ""));
    for name in ["a", "b"] {
        daemon.cartridge(name);
    }
    let mut client = Client::log_in(address);
    assert_eq!(client.attentions(TAPE)[0], POWER_ON);
    for image in ["a", "b"] {
        daemon.apply_text(&with(image)).unwrap();
        assert_eq!(client.attentions(TAPE), [MAY_HAVE_CHANGED], "{image}");
        assert_eq!(daemon.first_drive().0, json!(daemon.path(image)));
        let write = [(vec![0x0a, 0, 0, 0, 1, 0], image.as_bytes().to_vec())];
        assert_eq!(client.write(TAPE, &write), [0]);
    }
    // What fails, of the media or of the rest, leaves the one that was there.
    let before = daemon.status();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let portal = format!(
        "portal = [{{ name = \"m\", port = \"p\", address = \"{}\" }}, ",
        taken.local_addr().unwrap()
    );
    let error = daemon.apply_text(&with("missing")).unwrap_err();
    assert!(error.contains("missing"), "{error}");
    assert_eq!(daemon.status(), before, "after {error}");
    assert!(client.attentions(TAPE).is_empty());
    let error = daemon.apply_text(&with("a").replace("portal = [", &portal)).unwrap_err();
    assert!(error.contains("address"), "{error}");
    let after = daemon.status();
    assert_eq!((&after["targets"], &after["sessions"]), (&before["targets"], &before["sessions"]));
    assert_eq!(daemon.first_drive().0, json!(daemon.path("b")), "it is back");
    assert_eq!(client.attentions(TAPE), [MAY_HAVE_CHANGED]);
    assert_eq!(records(&mut client), [b"b"]);
    daemon.apply_text(&said(address, "")).unwrap();
    assert_eq!(client.attentions(TAPE)[0], NOT_PRESENT);
    daemon.apply_text(&with("a")).unwrap();
    assert_eq!(client.attentions(TAPE), [MAY_HAVE_CHANGED]);
    assert_eq!(records(&mut client), [b"a"]);
    client.log_out();
    daemon.stop();
}
