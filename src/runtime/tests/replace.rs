// SPDX-License-Identifier: GPL-2.0-or-later
//! Logical units of which something else is said while initiators are at work: another one is there from one moment to
//! the next, with what was reserved, and with its bytes where the same is said of its store.

use std::sync::atomic::AtomicBool;

use serde_json::{Value, json};

use super::live::{CAPACITY_CHANGED, INQUIRY_CHANGED, LiveDaemon, NOT_SUPPORTED, POWER_ON, free_address};
use super::*;

const CHECK_CONDITION: u8 = 2;
const CONFLICT: u8 = 0x18;
const BECOMING_READY: u16 = 0x0401;
const READ: [u8; 10] = [0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0];
const WRITE: [u8; 10] = [0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0];
const LENGTH: usize = 255;

/// Tables of units, each with the LUN in the target.
fn said(address: SocketAddr, units: &[(&str, &str, u64)]) -> String {
    let reactors = Vec::from_iter(0..thread::available_parallelism().map_or(1, usize::from).min(2));
    let mut text = format!(
        "daemon = {{ control_socket = \"socket\", state_dir = \"state\", memory = \"16MiB\", \
         hugepages = \"never\", reactors = {reactors:?} }}\nport = [{{ name = \"p\", driver = \"kernel\" }}]\n\
         portal = [{{ name = \"l\", port = \"p\", address = \"{address}\" }}]\n"
    );
    let mut luns = Vec::new();
    for (number, (kind, rest, lun)) in units.iter().enumerate() {
        text += &format!("[[{kind}]]\n{rest}\n");
        let name = rest.split('"').nth(1).unwrap_or_else(|| panic!("unit {number} has a name"));
        luns.push(format!("{{ lun = {lun}, unit = \"{name}\" }}"));
    }
    text + &format!("[[target]]\nname = \"{TARGET}\"\nluns = [{}]\n", luns.join(", "))
}

fn code(sense: &[u8]) -> u16 {
    u16::from_be_bytes([sense[2 + 12], sense[2 + 13]])
}

/// A session that reads a block of a LUN until it is told to stop. Returns all that it was told but GOOD.
fn watcher(address: SocketAddr, lun: u64, stop: &Arc<AtomicBool>) -> JoinHandle<Vec<u16>> {
    let (mut client, stop) = (Client::log_in(address), stop.clone());
    client.attentions(lun);
    thread::spawn(move || {
        let mut told = Vec::new();
        while !stop.load(Ordering::SeqCst) {
            match client.command(lun, &READ) {
                (_, 0) => {}
                (sense, CHECK_CONDITION) => told.push(code(&sense)),
                (_, status) => panic!("status {status:#x}"),
            }
        }
        client.log_out();
        told
    })
}

/// What SERIAL, PRODUCT and the like say.
fn product(client: &mut Client, lun: u64) -> String {
    let (inquiry, _) = client.command(lun, &[0x12, 0, 0, 0, 96, 0]);
    String::from_utf8(inquiry[16..32].to_vec()).unwrap().trim_end().to_owned()
}

#[test]
fn a_disk_is_replaced_without_being_away() {
    let address = free_address();
    const RAM: &str = "name = \"r\"\nstore = \"ram\"\nsize = \"1MiB\"\n";
    const FILE: &str = "name = \"f\"\nstore = \"file\"\npath = \"image\"\nsize = \"1MiB\"\ncreate = true\n";
    let start = said(address, &[("disk", RAM, 0), ("disk", FILE, 1)]);
    let daemon = LiveDaemon::with("replace", &start);
    let mut client = Client::log_in(address);
    let mut rival = Client::log_in(address);
    let stop = Arc::new(AtomicBool::new(false));
    let watchers: Vec<_> = [0, 1, 0, 1].into_iter().map(|lun| watcher(address, lun, &stop)).collect();
    for client in [&mut client, &mut rival] {
        [0, 1].into_iter().for_each(|lun| drop(client.attentions(lun)));
    }
    for lun in [0, 1] {
        assert_eq!(client.write(lun, &[(WRITE.to_vec(), vec![7; 512])]), [0]);
        // REGISTER, and RESERVE for writing.
        let mut list = vec![0; 24];
        list[15] = 5;
        assert_eq!(client.write(lun, &[(vec![0x5f, 0, 0, 0, 0, 0, 0, 0, 24, 0], list.clone())]), [0]);
        list.swap(7, 15);
        assert_eq!(client.write(lun, &[(vec![0x5f, 1, 1, 0, 0, 0, 0, 0, 24, 0], list)]), [0]);
    }
    let mut holds = |client: &mut Client, lun: u64, told: &[u16]| {
        assert_eq!(client.attentions(lun), told);
        assert_eq!(rival.attentions(lun), told);
        assert_eq!(client.command(lun, &READ), (vec![7; LENGTH], 0));
        assert_eq!(rival.write(lun, &[(WRITE.to_vec(), vec![8; 512])]), [CONFLICT]);
    };
    // Another name, and the same store.
    let ([ram, file], product_is) = ([RAM, FILE].map(str::to_owned), "product = \"OTHER\"\n");
    let other = [ram + product_is, file + product_is];
    daemon.apply_text(&said(address, &[("disk", &other[0], 0), ("disk", &other[1], 1)])).unwrap();
    for lun in [0, 1] {
        holds(&mut client, lun, &[POWER_ON, INQUIRY_CHANGED]);
        assert_eq!(product(&mut client, lun), "OTHER");
    }
    // The image is opened in another way: it is closed before.
    let read_only = [other[0].clone(), other[1].clone() + "read_only = true\n"];
    daemon.apply_text(&said(address, &[("disk", &read_only[0], 0), ("disk", &read_only[1], 1)])).unwrap();
    assert!(client.attentions(0).is_empty());
    holds(&mut client, 1, &[POWER_ON, INQUIRY_CHANGED, CAPACITY_CHANGED]);
    assert_eq!(
        client.write(1, &[(WRITE.to_vec(), vec![8; 512])]),
        [CHECK_CONDITION],
        "it is write protected"
    );
    // Another size, of what lies in memory: it is empty.
    client.attentions(0);
    rival.attentions(0);
    let larger = RAM.replace("1MiB", "3MiB");
    daemon.apply_text(&said(address, &[("disk", &larger, 0), ("disk", &read_only[1], 1)])).unwrap();
    assert_eq!(client.attentions(0), [POWER_ON, INQUIRY_CHANGED, CAPACITY_CHANGED]);
    let (capacity, _) = client.command(0, &[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(capacity[..4], (3 * 2048 - 1_u32).to_be_bytes());
    stop.store(true, Ordering::SeqCst);
    for (watcher, lun) in watchers.into_iter().zip([0, 1, 0, 1]) {
        let told = watcher.join().unwrap();
        assert!(told.contains(&INQUIRY_CHANGED), "{told:x?}");
        let mut may = vec![POWER_ON, INQUIRY_CHANGED, CAPACITY_CHANGED];
        may.extend((lun == 1).then_some(BECOMING_READY));
        // Registrations and reservations of others.
        may.extend([0x2a03, 0x2a04, 0x2a05]);
        assert!(told.iter().all(|code| may.contains(code)), "LUN {lun}: {told:x?}");
    }
    client.log_out();
    rival.log_out();
    daemon.stop();
}

/// A daemon that has had no such unit: it comes, is another, and goes, for sessions of all reactors.
#[test]
fn units_of_one_core_come_change_and_go() {
    let address = free_address();
    const DISK: (&str, &str, u64) = ("disk", "name = \"d\"\nstore = \"ram\"\nsize = \"1MiB\"\n", 0);
    const TOY: &str = "name = \"t\"\ngreeting = \"good day\"\n";
    let daemon = LiveDaemon::with("serial", &said(address, &[DISK]));
    let mut clients: Vec<Client> = (0..4).map(|_| Client::log_in(address)).collect();
    let stop = Arc::new(AtomicBool::new(false));
    let watch = watcher(address, 0, &stop);
    let receive = |client: &mut Client, lun| client.command(lun, &[0x08, 0, 0, 0, 255, 0]);
    for greeting in ["good day", "good night"] {
        let toy = TOY.replace("good day", greeting);
        daemon.apply_text(&said(address, &[DISK, ("toy", &toy, 3)])).unwrap();
        for client in &mut clients {
            assert_eq!(client.attentions(3)[0], POWER_ON);
            assert_eq!(receive(client, 3), (greeting.into(), 0));
        }
    }
    for client in &mut clients {
        assert_eq!(client.write(3, &[(vec![0x0a, 0, 0, 0, 5, 0], b"hello".to_vec())]), [0]);
    }
    // Another one beside it.
    let both = [DISK, ("toy", TOY, 3), ("toy", "name = \"u\"\ngreeting = \"you\"\n", 4)];
    daemon.apply_text(&said(address, &both)).unwrap();
    let mut late = Client::log_in(address);
    for client in clients.iter_mut().chain([&mut late]) {
        client.attentions(4);
        assert_eq!(receive(client, 4), (b"you".to_vec(), 0));
    }
    daemon.apply_text(&said(address, &[DISK])).unwrap();
    for client in clients.iter_mut().chain([&mut late]) {
        assert_eq!(client.attentions(3), [NOT_SUPPORTED; 8]);
    }
    daemon.apply_text(&said(address, &both)).unwrap();
    for client in clients.iter_mut().chain([&mut late]) {
        client.attentions(3);
        assert_eq!(receive(client, 3), (b"good day".to_vec(), 0));
    }
    stop.store(true, Ordering::SeqCst);
    let told = watch.join().unwrap();
    assert!(told.iter().all(|code| *code == 0x3f0e), "{told:x?}");
    clients.into_iter().chain([late]).for_each(Client::log_out);
    daemon.stop();
}

const NOT_PRESENT: u16 = 0x3a00;
const CHANGER: u64 = 1;
const SLOT: u16 = 0x1000;
const DRIVE: u16 = 0x100;

fn moved(client: &mut Client, from: u16, to: u16) -> u8 {
    let ([a, b], [c, d]) = (from.to_be_bytes(), to.to_be_bytes());
    client.command(CHANGER, &[0xa5, 0, 0, 0, a, b, c, d, 0, 0, 0, 0]).1
}

fn record(client: &mut Client, lun: u64) -> Vec<u8> {
    assert_eq!(client.command(lun, &[0x01, 0, 0, 0, 0, 0]).1, 0, "REWIND");
    client.command(lun, &[0x08, 0x02, 0, 0, 200, 0]).0
}

/// What is in the drives, as the status tells it.
fn media(daemon: &LiveDaemon) -> Vec<Value> {
    let units = daemon.status()["units"].as_array().unwrap().clone();
    units.iter().filter(|unit| unit["kind"] == "tape").map(|unit| unit["medium"].clone()).collect()
}

fn cartridge(daemon: &LiveDaemon, name: &str) -> PathBuf {
    let path = daemon.path(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::File::create(&path).unwrap().set_len(8 << 20).unwrap();
    path
}

#[test]
fn drives_and_libraries_come_change_and_go() {
    let address = free_address();
    const DISK: (&str, &str, u64) = ("disk", "name = \"d\"\nstore = \"ram\"\nsize = \"1MiB\"\n", 0);
    let daemon = LiveDaemon::with("drives", &said(address, &[DISK]));
    let mut client = Client::log_in(address);
    client.attentions(0);
    // A drive with a cartridge of its own.
    let own = cartridge(&daemon, "own.ptt");
    let lone = |rest: &str| format!("name = \"l\"\nstore = \"file\"\npath = \"own.ptt\"\n{rest}");
    daemon.apply_text(&said(address, &[DISK, ("tape", &lone(""), 5)])).unwrap();
    client.attentions(5);
    assert_eq!(client.write(5, &[(vec![0x0a, 0, 0, 0, 4, 0], b"mine".to_vec())]), [0]);
    // While an initiator keeps its cartridge in, it cannot be another one.
    let other = said(address, &[DISK, ("tape", &lone("product = \"OTHER\"\n"), 5)]);
    assert_eq!(client.command(5, &[0x1e, 0, 0, 0, 1, 0]).1, 0);
    let before = daemon.status();
    let error = daemon.apply_text(&other).unwrap_err();
    assert!(error.contains("prevents"), "{error}");
    assert_eq!(daemon.status(), before);
    assert_eq!(client.command(5, &[0x1e, 0, 0, 0, 0, 0]).1, 0);
    daemon.apply_text(&other).unwrap();
    let told = client.attentions(5);
    assert_eq!(told[..2], [POWER_ON, INQUIRY_CHANGED], "{told:x?}");
    // Who had it at its end does not write over it.
    assert_eq!(client.write(5, &[(vec![0x0a, 0, 0, 0, 4, 0], b"over".to_vec())]), [CHECK_CONDITION]);
    assert_eq!((product(&mut client, 5), record(&mut client, 5)), ("OTHER".to_owned(), b"mine".to_vec()));
    // It goes, and its cartridge is nobody's; a library comes.
    for barcode in ["A00001L8", "A00002L8"] {
        cartridge(&daemon, &format!("cartridges/{barcode}.ptt"));
    }
    let library = |slots: u8, drives: &str| {
        format!("name = \"lib\"\ncartridges = \"cartridges\"\nslots = {slots}\ndrives = [{drives}]\n")
    };
    let (four, two) = (library(4, "\"t\", \"u\""), "name = \"u\"\nstore = \"file\"\npath = \"own.ptt\"\n");
    let (t, u) = (("tape", "name = \"t\"\n", 2), ("tape", "name = \"u\"\n", 3));
    daemon.apply_text(&said(address, &[DISK, t, u, ("library", &four, CHANGER)])).unwrap();
    assert_eq!(client.attentions(CHANGER)[0], POWER_ON);
    [2, 3].into_iter().for_each(|lun| drop(client.attentions(lun)));
    assert_eq!((moved(&mut client, SLOT, DRIVE), moved(&mut client, SLOT + 1, DRIVE + 1)), (0, 0));
    let kept = ["A00001L8", "A00002L8"].map(|name| json!(daemon.path(&format!("cartridges/{name}.ptt"))));
    assert_eq!(media(&daemon), kept);
    client.attentions(2);
    assert_eq!(client.write(2, &[(vec![0x0a, 0, 0, 0, 4, 0], b"kept".to_vec())]), [0]);
    // It is another one, and so is a drive of it: cartridges stay where they are.
    let six = library(6, "\"t\", \"u\"");
    let renamed = ("tape", "name = \"t\"\nproduct = \"OTHER\"\n", 2);
    for next in [
        said(address, &[DISK, t, u, ("library", &six, CHANGER)]),
        said(address, &[DISK, renamed, u, ("library", &six, CHANGER)]),
        said(address, &[DISK, t, u, ("library", &four, CHANGER)]),
    ] {
        daemon.apply_text(&next).unwrap();
        assert_eq!(client.attentions(CHANGER), [POWER_ON, INQUIRY_CHANGED], "{next}");
        assert_eq!(media(&daemon), kept);
        client.attentions(2);
        assert_eq!(record(&mut client, 2), b"kept");
    }
    assert_eq!(moved(&mut client, DRIVE + 1, SLOT + 3), 0);
    assert_eq!(moved(&mut client, SLOT + 3, DRIVE + 1), 0);
    // A drive leaves it, with what is said to be in it.
    let one = library(4, "\"t\"");
    daemon.apply_text(&said(address, &[DISK, t, ("tape", two, 3), ("library", &one, CHANGER)])).unwrap();
    assert_eq!(media(&daemon), [kept[0].clone(), json!(own)]);
    client.attentions(3);
    assert_eq!(record(&mut client, 3), b"mine");
    // The library goes, and comes again.
    daemon.apply_text(&said(address, &[DISK, t, ("tape", two, 3)])).unwrap();
    assert_eq!(media(&daemon), [Value::Null, json!(own)]);
    assert!(client.attentions(2).contains(&NOT_PRESENT));
    daemon.apply_text(&said(address, &[DISK, t, u, ("library", &four, CHANGER)])).unwrap();
    assert_eq!(media(&daemon)[0], kept[0]);
    client.attentions(2);
    assert_eq!(record(&mut client, 2), b"kept");
    // Its directory is missing: everything is as before.
    let before = daemon.status();
    let wrong = four.replace("cartridges\"\n", "nowhere\"\n");
    assert!(daemon.apply_text(&said(address, &[DISK, t, u, ("library", &wrong, CHANGER)])).is_err());
    assert_eq!(daemon.status(), before);
    client.log_out();
    daemon.stop();
}

/// What fails when all else is in force is undone: a cartridge cannot be opened, after a disk was opened in another
/// way.
#[test]
fn what_fails_late_is_undone() {
    let address = free_address();
    let disk = "name = \"f\"\nstore = \"file\"\npath = \"image\"\nsize = \"1MiB\"\ncreate = true\n";
    let tape = |path: &str, rest: &str| format!("name = \"l\"\nstore = \"file\"\npath = \"{path}\"\n{rest}");
    let daemon =
        LiveDaemon::with("late", &said(address, &[("disk", disk, 0), ("tape", "name = \"l\"\n", 5)]));
    let [own, locked] = ["own.ptt", "locked.ptt"].map(|name| cartridge(&daemon, name));
    Client::log_in(address).log_out();
    daemon.apply_text(&said(address, &[("disk", disk, 0), ("tape", &tape("own.ptt", ""), 5)])).unwrap();
    let mut client = Client::log_in(address);
    [0, 5].into_iter().for_each(|lun| drop(client.attentions(lun)));
    assert_eq!(client.write(0, &[(WRITE.to_vec(), vec![7; 512])]), [0]);
    assert_eq!(client.write(5, &[(vec![0x0a, 0, 0, 0, 4, 0], b"mine".to_vec())]), [0]);
    assert_eq!(client.command(5, &[0x01, 0, 0, 0, 0, 0]).1, 0, "REWIND");
    let before = daemon.status();
    let lock = fs::File::options().read(true).write(true).open(&locked).unwrap();
    assert!(sys::lock_file(&lock, true).unwrap());
    let read_only = disk.to_owned() + "read_only = true\n";
    let other = tape("locked.ptt", "product = \"OTHER\"\n");
    let error =
        daemon.apply_text(&said(address, &[("disk", &read_only, 0), ("tape", &other, 5)])).unwrap_err();
    assert!(error.contains("locked.ptt") && !error.contains("brought back"), "{error}");
    assert_eq!(daemon.status(), before);
    assert_eq!(media(&daemon), [json!(own)]);
    [0, 5].into_iter().for_each(|lun| drop(client.attentions(lun)));
    assert_eq!(record(&mut client, 5), b"mine");
    assert_eq!(client.command(0, &READ), (vec![7; LENGTH], 0));
    assert_eq!(client.write(0, &[(WRITE.to_vec(), vec![8; 512])]), [0]);
    client.log_out();
    daemon.stop();
}
