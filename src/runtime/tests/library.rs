// SPDX-License-Identifier: GPL-2.0-or-later
//! A library in a whole daemon: its changer brings cartridges to its drives, where initiators find what was written to
//! them.

use serde_json::{Value, json};

use super::live::{LiveDaemon, free_address};
use super::*;

const CHANGER: u64 = 1;
/// The first drive; the second is behind it.
const DRIVE_LUN: u64 = 2;

/// Element addresses.
const SLOT: u16 = 0x1000;
const MAIL: u16 = 0x10;
const DRIVE: u16 = 0x100;

const NOT_PRESENT: u16 = 0x3a00;
const POWER_ON: u16 = 0x2900;
const MAY_HAVE_CHANGED: u16 = 0x2800;
const SOURCE_EMPTY: u16 = 0x3b0e;
const PREVENTED_BY_DRIVE: u16 = 0x5303;
const LOAD_FAILED: u16 = 0x5300;

fn said(address: SocketAddr) -> String {
    let reactors = Vec::from_iter(0..thread::available_parallelism().map_or(1, usize::from).min(2));
    format!(
        r#"
        daemon = {{ control_socket = "socket", state_dir = "state", memory = "16MiB", hugepages = "never", reactors = {reactors:?} }}
        port = [{{ name = "p", driver = "kernel" }}]
        portal = [{{ name = "l", port = "p", address = "{address}" }}]
        disk = [{{ name = "d", store = "ram", size = "1MiB" }}]
        tape = [{{ name = "t" }}, {{ name = "u" }}]
        library = [{{ name = "lib", cartridges = "cartridges", slots = 4, import_export = 1, drives = ["t", "u"] }}]
        target = [{{ name = "{TARGET}", luns = [{{ lun = 0, unit = "d" }}, {{ lun = {CHANGER}, unit = "lib" }}, {{ lun = 2, unit = "t" }}, {{ lun = 3, unit = "u" }}] }}]"#
    )
}

/// A daemon whose library has cartridges of these barcodes.
fn library(name: &str, address: SocketAddr, barcodes: &[&str]) -> LiveDaemon {
    library_of(name, &said(address), barcodes)
}

fn library_of(name: &str, text: &str, barcodes: &[&str]) -> LiveDaemon {
    let place = std::env::temp_dir().join(format!("ptgt-live-{name}-{}", std::process::id()));
    fs::create_dir_all(place.join("cartridges")).unwrap();
    for barcode in barcodes {
        // An empty image, which becomes a cartridge.
        let image = fs::File::create(place.join(format!("cartridges/{barcode}.ptt"))).unwrap();
        image.set_len(8 << 20).unwrap();
    }
    LiveDaemon::with(name, text)
}

fn moved(client: &mut Client, from: u16, to: u16) -> u16 {
    let ([a, b], [c, d]) = (from.to_be_bytes(), to.to_be_bytes());
    let (sense, status) = client.command(CHANGER, &[0xa5, 0, 0, 0, a, b, c, d, 0, 0, 0, 0]);
    if status == 0 { 0 } else { u16::from_be_bytes([sense[14], sense[15]]) }
}

/// Every element's address, whether it is full, and its barcode.
fn elements(client: &mut Client) -> Vec<(u16, bool, String)> {
    let mut all = Vec::new();
    for (kind, first, count) in [(2, SLOT, 4), (3, MAIL, 1), (4, DRIVE, 2)] {
        for at in first..first + count {
            let [a, b] = at.to_be_bytes();
            let (data, status) =
                client.command(CHANGER, &[0xb8, 0x10 | kind, a, b, 0, 1, 0, 0, 0, 255, 0, 0]);
            assert_eq!(status, 0);
            let barcode = String::from_utf8(data[28..60].to_vec()).unwrap();
            all.push((at, data[18] & 1 == 1, barcode.trim_end_matches([' ', '\0']).to_owned()));
        }
    }
    all
}

fn record(client: &mut Client, lun: u64) -> Vec<u8> {
    assert_eq!(client.command(lun, &[0x01, 0, 0, 0, 0, 0]).1, 0, "REWIND");
    let (record, status) = client.command(lun, &[0x08, 0x02, 0, 0, 200, 0]);
    assert_eq!(status, 0, "{record:x?}");
    record
}

/// What is in a drive, as the status tells it.
fn medium(daemon: &LiveDaemon, drive: usize) -> Value {
    daemon.status()["units"][drive]["medium"].clone()
}

#[test]
fn a_library_names_its_drives_as_they_name_themselves() {
    let (address, drive) = (free_address(), 501_u16);
    let text = said(address)
        .replace(r#"{ name = "u" }"#, r#"{ name = "u", personality = "ibm-ult3580-td8", serial = "U7" }"#)
        .replace("slots = 4", r#"personality = "stk-l700", slots = 4"#);
    let daemon = library_of("naming", &text, &[]);
    let mut client = Client::log_in(address);
    client.attentions(CHANGER);
    let (inquiry, _) = client.command(DRIVE_LUN + 1, &[0x12, 0, 0, 0, 96, 0]);
    // READ ELEMENT STATUS with DVCID.
    let [a, b] = drive.to_be_bytes();
    let (data, status) = client.command(CHANGER, &[0xb8, 4, a, b, 0, 1, 1, 0, 0, 255, 0, 0]);
    assert_eq!((status, &data[16..18]), (0, &[a, b][..]));
    assert_eq!(data[32..56], inquiry[8..32], "vendor and product");
    assert_eq!(&data[32..66], b"IBM     ULT3580-TD8     U7        ");
    client.log_out();
    daemon.stop();
}

#[test]
fn a_cartridge_is_in_whichever_drive_the_changer_brings_it_to() {
    let address = free_address();
    let daemon = library("library", address, &["A00001L8", "A00002L8"]);
    let mut client = Client::log_in(address);
    assert_eq!(client.attentions(CHANGER), [POWER_ON]);
    for lun in [DRIVE_LUN, DRIVE_LUN + 1] {
        assert_eq!(client.attentions(lun)[..2], [POWER_ON, NOT_PRESENT]);
    }
    assert_eq!(moved(&mut client, SLOT, DRIVE), 0);
    assert_eq!(client.attentions(DRIVE_LUN), [MAY_HAVE_CHANGED]);
    assert_eq!(medium(&daemon, 0), json!(daemon.path("cartridges/A00001L8.ptt")));
    assert_eq!(client.write(DRIVE_LUN, &[(vec![0x0a, 0, 0, 0, 5, 0], b"hello".to_vec())]), [0]);
    // Straight into the other drive, with what was written last.
    assert_eq!(moved(&mut client, DRIVE, DRIVE + 1), 0);
    assert_eq!(client.attentions(DRIVE_LUN)[0], NOT_PRESENT);
    assert_eq!(client.attentions(DRIVE_LUN + 1), [MAY_HAVE_CHANGED]);
    assert_eq!(record(&mut client, DRIVE_LUN + 1), b"hello");
    // Another one takes its place, and it goes to where that was.
    let [[a, b], [c, d], [e, f]] = [SLOT + 1, DRIVE + 1, SLOT + 1].map(u16::to_be_bytes);
    assert_eq!(client.command(CHANGER, &[0xa6, 0, 0, 0, a, b, c, d, e, f, 0, 0]).1, 0);
    assert_eq!(medium(&daemon, 1), json!(daemon.path("cartridges/A00002L8.ptt")));
    let full: Vec<_> = elements(&mut client).into_iter().filter(|(_, full, _)| *full).collect();
    assert_eq!(full, [(SLOT + 1, true, "A00001L8".into()), (DRIVE + 1, true, "A00002L8".into())]);
    client.log_out();
    daemon.stop();
}

#[test]
fn a_move_that_fails_leaves_the_cartridge_where_it_is() {
    let address = free_address();
    let daemon = library("library-stuck", address, &["A00001L8", "A00002L8"]);
    let mut client = Client::log_in(address);
    for lun in [CHANGER, DRIVE_LUN, DRIVE_LUN + 1] {
        client.attentions(lun);
    }
    assert_eq!(moved(&mut client, SLOT, DRIVE), 0);
    client.attentions(DRIVE_LUN);
    assert_eq!(client.command(DRIVE_LUN, &[0x1e, 0, 0, 0, 1, 0]).1, 0);
    let before = elements(&mut client);
    assert_eq!(moved(&mut client, DRIVE, SLOT), PREVENTED_BY_DRIVE);
    assert_eq!(moved(&mut client, DRIVE, DRIVE + 1), PREVENTED_BY_DRIVE);
    assert_eq!(moved(&mut client, SLOT + 2, DRIVE + 1), SOURCE_EMPTY);
    fs::remove_file(daemon.path("cartridges/A00002L8.ptt")).unwrap();
    assert_eq!(moved(&mut client, SLOT + 1, DRIVE + 1), LOAD_FAILED);
    assert_eq!(client.attentions(DRIVE_LUN + 1)[0], NOT_PRESENT);
    assert_eq!(elements(&mut client), before);
    assert_eq!(client.command(DRIVE_LUN, &[0x1e, 0, 0, 0, 0, 0]).1, 0);
    assert_eq!(moved(&mut client, DRIVE, MAIL), 0);
    client.log_out();
    daemon.stop();
}

/// After a restart everything is where it was, in drives, too.
#[test]
fn cartridges_stay_where_they_are_over_a_restart() {
    let address = free_address();
    let daemon = library("library-kept", address, &["A00001L8", "A00002L8", "CLN001L1"]);
    let mut client = Client::log_in(address);
    [CHANGER, DRIVE_LUN, DRIVE_LUN + 1].into_iter().for_each(|lun| drop(client.attentions(lun)));
    for (from, to) in [(SLOT + 1, DRIVE + 1), (SLOT, SLOT + 3), (SLOT + 2, MAIL)] {
        assert_eq!(moved(&mut client, from, to), 0);
    }
    client.attentions(DRIVE_LUN + 1);
    assert_eq!(client.write(DRIVE_LUN + 1, &[(vec![0x0a, 0, 0, 0, 4, 0], b"kept".to_vec())]), [0]);
    let before = elements(&mut client);
    client.log_out();
    let daemon = daemon.restarted();
    let mut client = Client::log_in(address);
    [CHANGER, DRIVE_LUN, DRIVE_LUN + 1].into_iter().for_each(|lun| drop(client.attentions(lun)));
    let end = Instant::now() + PATIENCE;
    while medium(&daemon, 1).is_null() {
        assert!(Instant::now() < end, "it is brought to its drive");
    }
    assert_eq!(elements(&mut client), before);
    client.attentions(DRIVE_LUN + 1);
    assert_eq!(record(&mut client, DRIVE_LUN + 1), b"kept");
    assert_eq!(moved(&mut client, DRIVE + 1, SLOT), 0);
    client.log_out();
    daemon.stop();
}
